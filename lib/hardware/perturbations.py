"""Six ways in which an analog crossbar departs from the matrix-vector product it should compute.

A weight lives in two conductances, W = (G+ - G-) / s, both inside a :class:`Window`. A perturbation is one
short class that changes the voltages that enter the arrays (:meth:`Perturbation.voltage`), what the arrays
conduct (:meth:`Perturbation.conductance`), the currents that leave them (:meth:`Perturbation.current`) or the
numbers behind the converter (:meth:`Perturbation.digital`). It is a pure function of tensors: a severity (one
number) and the random numbers of a chip or of a read come from outside. Nothing draws inside it, so
``torch.func.vmap`` maps it over replicas that each have their own severity and their own random numbers.

*Chip* numbers are drawn once and stay (how devices came out, which are broken); *read* numbers are drawn
anew in every operation. At ``off`` a perturbation leaves every bit of the result as it was.

Shapes: inputs ``x`` [batch, ..., in], weights [..., out, in], currents ``y`` [batch, ..., out], conductances
[2, ..., out, in] in microsiemens with G+ first. Leading dimensions of a weight are the groups of a
convolution, each an array of its own.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardtanh

from lib import checks
from lib.hardware import circuit
from lib.hardware.numbers import ARRAY, Kinds, Own, Parts
from lib.registry import Registry

#: How the scale between weights and conductances follows the weights: see :class:`Perturbation`.
SCALES = ("differentiated", "detached", "column", "fixed")

# The largest current that counts as none.
NOTHING = torch.finfo(torch.float32).tiny ** 0.5
# The largest weight that counts as none, and from which on the scale passes no gradient on: its square would overflow.
_NO_WEIGHT, _HUGE = 1e-6, 1e12
# The time after programming at which drift begins, in seconds, and the last one that is asked about.
T_ZERO = 20.0
T_LAST = 1e10


@dataclass(frozen=True)
class Window:
    """The conductances that a device can take, in microsiemens."""

    low: float = 0.1
    high: float = 25.0

    def __post_init__(self) -> None:
        checks.number("window.low", self.low, low=0)
        checks.number("window.high", self.high, above=self.low)


WINDOW = Window()


class Pair(NamedTuple):
    """A weight as two arrays: ``g`` [2, ..., out, in] in microsiemens (G+ first), ``scale`` per unit of weight.

    ``g`` is empty where a perturbation says that the arrays do not matter to it (``Perturbation.arrays``). The scale is
    one number, or with one for each column [..., out, 1].
    """

    weight: Tensor
    g: Tensor
    scale: Tensor

    @property
    def of_currents(self) -> Tensor:
        """The scale in a shape that goes with currents [batch, ..., out]."""
        return self.scale.mT if self.scale.dim() else self.scale


class Arrays(NamedTuple):
    """The pair as programmed, and what its arrays really conduct."""

    pair: Pair
    g: Tensor


def exceeds(a: Tensor, b: Tensor | float) -> Tensor:
    """1 where ``a`` is above ``b`` and 0 elsewhere, as numbers to multiply by.

    On a CPU three passes like this one, and a product, take a fraction of the time of a comparison and a selection.
    """
    return (a - b).sign().clamp_min(0)


def to_single(value: Tensor) -> Tensor:
    """The numbers in single precision at least: to half precision a day in seconds is infinite."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def natural_scale(weight: Tensor, window: Window = WINDOW, kind: str = "differentiated") -> Tensor:
    """The scale at which the largest weight fills the window: (high - low) / max|W|, in single precision at least.

    Of the ``kind`` "column" it is one for each output [..., out, 1]; a gradient flows only where "differentiated".
    Weights that are all zero, or at most 1e-6, have no largest one: a scale that grew as they vanish would make faults
    and noise vanish with them. Theirs is that of weights up to 1, so that what the devices conduct is a current as in
    any other layer; a column of such weights has that of its layer.
    """
    weight = weight if kind == "differentiated" else weight.detach()
    largest = to_single(_Largest.apply(weight))
    largest = torch.where(largest < _HUGE, largest, largest.detach())
    largest = torch.where(largest > _NO_WEIGHT, largest, 1.0)
    if kind == "column":
        own = to_single(weight.abs().amax(-1, keepdim=True))
        largest = torch.where(own > _NO_WEIGHT, own, largest)
    return (window.high - window.low) / largest


class _Largest(torch.autograd.Function):
    """max|W|, with the gradient of ``weight.abs().amax()`` (equal shares for equals) in a fraction of its time."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor) -> Tensor:
        return weight.abs().amax()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, received: Tensor):
        weight, largest = ctx.saved_tensors
        at = (weight.abs() - largest).sign_().add_(1)
        share = received / at.sum()
        return at.mul_(weight.sign()) * share


def to_pair(
    weight: Tensor,
    window: Window = WINDOW,
    scale: Tensor | None = None,
    arrays: bool = True,
    kind: str = "differentiated",
) -> Pair:
    """The pair of ``weight`` [..., out, in]: G± = relu(±s W) + low, with s from :func:`natural_scale` of that ``kind``.

    With a ``scale`` of its own the pair is cut off at the window. Without ``arrays`` there are no conductances in it.
    """
    if scale is None:
        scale = natural_scale(weight, window, kind)
    else:
        # Room for a rounding error, which the largest weight may need at its natural scale.
        most = (window.high - window.low) * (1 + 4 * torch.finfo(weight.dtype).eps)
        scaled = (scale * weight).detach()
        beyond = exceeds(scaled.abs(), most)
        # What does not fit cannot be programmed: the weight that is meant is the one that fits.
        weight = weight * (1 - beyond) + scaled.clamp(-most, most) / scale * beyond
    if not arrays:
        return Pair(weight, weight.new_empty(0), scale)
    scaled = scale * weight
    return Pair(weight, torch.stack([scaled.relu(), (-scaled).relu()]) + window.low, scale)


def seen_weight(pair: Pair, changed: Tensor) -> Tensor:
    """The weight [..., out, in] that the network sees when the arrays conduct ``changed`` instead.

    Written as a deviation, so that arrays which have not changed give the weight back to the last bit.
    """
    deviation = changed - pair.g
    return pair.weight + ((deviation[0] - deviation[1]) / pair.scale).to(pair.weight.dtype)


class _Moved(torch.autograd.Function):
    """The weight that is seen when every device moves by itself: what :func:`to_pair`, a class's ``moved`` and
    :func:`seen_weight` give one after the other, with a gradient in a few passes over the arrays.

    Inputs: weight, its scale, and severity and chip numbers, which get no gradient. With dG the change of a device and
    k its derivative, W' = W + (dG+ - dG-) / s; the device that carries the weight has G = s|W| + low.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, scale: Tensor, severity: Tensor, chip: Tensor, hardware: Perturbation):
        change, follows = hardware.difference(weight * scale, severity, chip)
        return torch.addcmul(weight, change, 1 / scale), follows

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        seen, follows = output
        ctx.mark_non_differentiable(follows)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:2], seen, follows)

    @staticmethod
    def backward(ctx, received: Tensor, *_: Tensor):
        weight, scale, seen, follows = ctx.saved_tensors
        through = received * follows
        to_scale = None
        if ctx.needs_input_grad[1]:
            # W' moves with s by k W / s - dG / s^2, and dG / s is W' - W.
            to_scale = (through * weight).sub_(received * seen).sum() / scale
        return through, to_scale, None, None, None


def moved_weight(weight: Tensor, severity: Tensor, chip: Tensor, hardware: Perturbation) -> Tensor:
    """What the network sees of ``weight`` [..., out, in] on devices that move one by one (``Perturbation.alone``)."""
    scale = natural_scale(weight, hardware.window, hardware.scale)
    return _Moved.apply(weight, scale, severity, chip, hardware)[0]


def _draw(kind: str | None, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
    if kind is None:
        return None
    return (torch.randn if kind == "normal" else torch.rand)(shape, generator=generator)


@dataclass(frozen=True)
class Perturbation:
    """A map of the forward operator with one number of severity. A new one is a subclass like those below.

    ``drawn`` in every method holds the class's own numbers for the layer, by kind: "chip" and "read" where it draws
    them, and whatever a method leaves there for later operations (an ADC its "range"). ``scale`` is that between
    weights and conductances, and with it the size of every error that is a share of full scale:

    - "differentiated": (high - low) / max|W|, and the gradient knows that it depends on the largest weight;
    - "detached": the same number, which the gradient takes for a constant, as with a scale stored in digital;
    - "column": one for each output, from the largest weight of its pair of bit lines, a constant to the gradient;
    - "fixed": as it was when training began; larger weights are cut off.
    """

    window: Window = field(default=WINDOW, kw_only=True)
    scale: Literal["differentiated", "detached", "column", "fixed"] = field(default="differentiated", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.window, Window):
            raise checks.ParameterError(f"window must be a Window, but {self.window!r} was given.")
        checks.choice("scale", self.scale, SCALES)

    name: ClassVar[str]
    title: ClassVar[str]
    # Severity: what the number is, its unit, its range, the value at which nothing is changed, and a grid
    # for sweeps.
    measures: ClassVar[str]
    unit: ClassVar[str]
    low: ClassVar[float]
    high: ClassVar[float]
    off: ClassVar[float] = 0.0
    whole: ClassVar[bool] = False
    grid: ClassVar[tuple[float, ...]]
    # Which random numbers a chip (like the arrays) and a read (like the currents) hold.
    chip: ClassVar[Literal["normal", "uniform"] | None] = None
    read: ClassVar[Literal["normal"] | None] = None
    # Does it change, or look at, what the arrays conduct? If not, that is not computed.
    arrays: ClassVar[bool] = True
    # Does it convert, with a full scale to be calibrated?
    ranged: ClassVar[bool] = False
    # Does every device move by itself, as `moved` says, and nothing else happen? Then there is a shorter way.
    alone: ClassVar[bool] = False

    @property
    def random(self) -> bool:
        """Does anything differ from chip to chip or from read to read?"""
        return self.chip is not None or self.read is not None

    @property
    def lasting(self) -> bool:
        """Does a chip have numbers of its own, which stay?"""
        return self.chip is not None

    @property
    def learned(self) -> Kinds:
        """Kinds of numbers that are calibrated where training begins and trained from there."""
        return {}

    @property
    def held(self) -> Kinds:
        """Kinds of numbers that are measured where training begins and stay as they are."""
        return {ARRAY: ("scale",)} if self.scale == "fixed" else {}

    def check(self, severity: object, name: str = "severity") -> float:
        """The severity as a number, if it is in the range of this perturbation or its ``off``."""
        if isinstance(severity, numbers.Real) and not isinstance(severity, bool) and severity == self.off:
            return float(severity)
        value = checks.number(name, severity, low=self.low, high=self.high)
        if self.whole and value != int(value):
            raise checks.ParameterError(
                f"{name} must be a whole number of {self.unit} from {self.low:g} to {self.high:g}, "
                f"but {severity!r} was given."
            )
        return value

    def columns(self, place: int, severity: object) -> dict[str, float]:
        """What a table says of ``severity``, the one at this ``place`` in a sweep."""
        return {"severity": float(severity)}  # type: ignore[arg-type]

    def own(self, parts: Parts) -> Own:
        """Its own among the numbers of a layer; what is put in there is among those of the layer from then on."""
        return parts.setdefault(self.name, {})

    def parts_of(self, own: Own) -> Parts:
        """Its own numbers as those of a layer on which it is alone."""
        return {self.name: own}

    def draw_chip(self, shape: tuple[int, ...], generator: torch.Generator) -> Own:
        """The numbers of one chip for a weight of ``shape`` [..., out, in], by kind."""
        drawn = _draw(self.chip, (2, *shape), generator)
        return {} if drawn is None else {"chip": drawn}

    def without_chance(self, drawn: Own) -> Own:
        """What ``drawn``, a chip's, would be if nothing were left to chance: normal numbers 0, uniform ones 1."""
        return {
            kind: torch.full_like(value, 1.0 if kind == "chip" and self.chip == "uniform" else 0.0)
            for kind, value in drawn.items()
        }

    def draw_more(self, shape: tuple[int, ...], generator: torch.Generator) -> Own:
        """Further numbers of the chip, drawn after those of all layers, which so do not depend on them."""
        return {}

    def draw_read(self, shape: tuple[int, ...], generator: torch.Generator) -> Own:
        """The numbers of one read for currents of ``shape`` [batch, ..., out], by kind."""
        drawn = _draw(self.read, shape, generator)
        return {} if drawn is None else {"read": drawn}

    def draw_inputs(self, shape: tuple[int, ...], generator: torch.Generator) -> Own:
        """Further numbers of the read, drawn after those of all layers, for inputs of ``shape`` [batch, ..., in]."""
        return {}

    def voltage(self, x: Tensor, severity: Tensor, drawn: Own) -> Tensor:
        """What reaches the word lines for inputs ``x`` [batch, ..., in]."""
        return x

    def conductance(self, g: Tensor, severity: Tensor, drawn: Own) -> Tensor:
        """What the arrays conduct, [2, ..., out, in] in microsiemens, for programmed conductances ``g``."""
        return g

    def moved(self, g: Tensor, severity: Tensor, chip: Tensor) -> tuple[Tensor, Tensor]:
        """Where devices move one by one: how far, from ``g`` (like ``chip``), and the derivative of that in ``g``."""
        raise TypeError(f"{type(self).__name__} does not move devices one by one.")

    def difference(self, scaled: Tensor, severity: Tensor, chip: Tensor) -> tuple[Tensor, Tensor]:
        """Where devices move one by one: how far the difference of a pair moves from ``scaled``, in microsiemens, and
        1 + the derivative of the move of the device that carries it (how far the difference follows ``scaled``).
        """
        plus = scaled.relu()
        carries = plus.sign()
        up, up_slope = self.moved(plus + self.window.low, severity, chip[0])
        down, down_slope = self.moved(plus - scaled + self.window.low, severity, chip[1])
        return up - down, 1 + down_slope + (up_slope - down_slope) * carries

    def current(self, y: Tensor, x: Tensor, arrays: Arrays, severity: Tensor, drawn: Own) -> Tensor:
        """What the periphery reports [batch, ..., out] of the currents ``y``, in units of weight times input."""
        return y

    def digital(self, y: Tensor, arrays: Arrays, severity: Tensor, drawn: Own) -> Tensor:
        """What digital arithmetic behind the converter makes of ``y``."""
        return y


@dataclass(frozen=True)
class ReadNoise(Perturbation):
    """Every device fluctuates in every read: y~ = y + sigma Gmax / s sqrt(2 sum_j x_j^2) xi.

    The textbook form, independent Gaussian errors that are a share sigma of full scale; what was measured on devices is
    a ``FlickerNoise``.
    """

    name, title = "read_noise", "Read noise"
    measures, unit = "standard deviation of one device's current in one read, as a share of a full-scale device", "Gmax"
    low, high, grid = 0.0, 1.0, (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    read, arrays = "normal", False

    def current(self, y, x, arrays, severity, drawn):
        # Independent noise on each of the two devices per weight: the variances add, so one draw per output
        # is exact.
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.addcmul(
            y, (severity * (math.sqrt(2) * self.window.high) / arrays.pair.of_currents) * length, drawn["read"]
        )


@dataclass(frozen=True)
class Variability(Perturbation):
    """Devices come out of programming with an error: G~ = clip(G + sigma Gmax xi, 0, Gmax).

    Additive Gaussian noise on conductances, as Joshi et al. (2020) train with; what was measured on devices is a
    ``ProgrammingNoise``.
    """

    name, title = "variability", "Programming variability"
    measures, unit = "standard deviation of a programmed conductance, as a share of the full scale", "Gmax"
    low, high, grid = 0.0, 1.0, (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    chip, alone = "normal", True

    def moved(self, g, severity, chip):
        aimed = severity * self.window.high * chip
        # Clipping the change, not the sum, keeps devices at the edge of the window bit-identical when it is off.
        change = torch.maximum(aimed, -g).minimum((self.window.high - g).clamp_min(0))
        # Where it is clipped, a device ends at the edge, wherever it comes from.
        return change, -(change - aimed).abs().sign()

    def difference(self, scaled, severity, chip):
        # The same in half as many passes over the arrays, from conductances above the lowest.
        low, span = self.window.low, self.window.high - self.window.low
        # Room for a rounding error, which the largest weight may need at its natural scale.
        most = span * (1 + 4 * torch.finfo(scaled.dtype).eps)
        spread = severity * self.window.high
        plus = scaled.relu()
        up = torch.addcmul(plus, chip[0], spread)
        down = torch.addcmul(plus, chip[1], spread).sub_(scaled)
        carrying = torch.lerp(down, up, plus.sign_())
        # Where it is clipped, a device ends at the edge, wherever it comes from.
        one = scaled.new_ones(()).expand_as(carrying)
        follows = torch.ops.aten.hardtanh_backward(one, carrying, -low - 1e-6 * span, most)
        change = hardtanh(up, -low, most, inplace=True).sub_(hardtanh(down, -low, most, inplace=True))
        return change.sub_(scaled), follows

    def conductance(self, g, severity, drawn):
        return g + self.moved(g, severity, drawn["chip"])[0]


@dataclass(frozen=True)
class Drift(Perturbation):
    """Conductances relax: G~ = G (t/t0)^-nu, nu = abs(mu(g) + sigma(g) xi), with g = G/Gmax and t0 = 20 s.

    mu = -0.0155 ln g + 0.0244 cut to 0.049..0.1, sigma = -0.0125 ln g - 0.0059 cut to 0.008..0.045 (Nandakumar et al.
    2019, as aihwkit documents it). ``compensation`` "global" multiplies every layer's numbers by what the sum of its
    conductances has lost, one factor per layer behind the converter; ``readout`` says whether that sum is measured with
    the device's own fluctuations ("noisy", 1/f noise of the sum) or without ("ideal"). What it has lost is told from
    the sum that was aimed at, so on a chip with more than drift the factor makes up for the mean of the rest as well.
    """

    compensation: Literal["none", "global"] = "none"
    readout: Literal["ideal", "noisy"] = "ideal"

    name, title = "drift", "Conductance drift"
    measures, unit = "time since programming", "s"
    low, high, off, grid = T_ZERO, T_LAST, T_ZERO, (3.6e3, 8.64e4, 2.6e6, 3.15e7, 3.15e8, 3.15e9)
    chip = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("compensation", self.compensation, ("none", "global"))
        checks.choice("readout", self.readout, ("ideal", "noisy"))

    def draw_more(self, shape, generator):
        return {"gauge": torch.randn((), generator=generator)} if self.readout == "noisy" else {}

    def exponent(self, g: Tensor, normal: Tensor) -> Tensor:
        """The drift exponent of devices at ``g`` microsiemens, for standard normal numbers like ``g``."""
        level = (g / self.window.high).clamp_min(1e-6).log()
        mean = (-0.0155 * level + 0.0244).clamp(0.049, 0.1)
        spread = (-0.0125 * level - 0.0059).clamp(0.008, 0.045)
        return (mean + spread * normal).abs()

    def conductance(self, g, severity, drawn):
        # On a composed chip the law goes by the conductance that was aimed at, as published.
        exponent = self.exponent(drawn.get("target", g), drawn["chip"])
        return g * torch.exp(-exponent * torch.log(severity / T_ZERO))

    def digital(self, y, arrays, severity, drawn):
        if self.compensation == "none":
            return y
        now = arrays.g.sum()
        if self.readout == "noisy":
            power = flicker(arrays.g, severity, self.window, arrays.pair.g).square().sum()
            # The root of nothing has no slope.
            fluctuation = power.clamp_min(torch.finfo(power.dtype).tiny).sqrt()
            now = now + torch.where(severity > T_ZERO, fluctuation * drawn["gauge"], 0.0)
        # Where nothing conducts any more, there is no current to restore.
        return y * (arrays.pair.g.to(arrays.g.dtype).sum() / (now + (now == 0))).to(y.dtype)


def flicker(g: Tensor, seconds: Tensor, window: Window = WINDOW, target: Tensor | None = None) -> Tensor:
    """Standard deviation in microsiemens of a phase-change device's 1/f noise, ``seconds`` after programming.

    sigma = G Q sqrt(ln((t + t_r) / (2 t_r))), Q = min(0.0088 / g^0.65, 0.2), t_r = 250 ns (Nandakumar et al. 2019;
    the model that aihwkit documents). G is what the device conducts now, g the share of the window that was aimed at:
    that of ``target``, or of G itself.
    """
    t_read = 250e-9
    share = ((g if target is None else target) / window.high).clamp_min(1e-12)
    quality = (0.0088 / share.pow(0.65)).clamp_max(0.2)
    return g * quality * torch.log((seconds + t_read) / (2 * t_read)).clamp_min(0).sqrt()


@dataclass(frozen=True)
class StuckAt(Perturbation):
    """Devices that do not answer: G~ = Gmin where u < (1 - on) p, Gmax where it is below p, and G otherwise; u uniform.

    ``on`` is the share of the stuck devices that conduct fully; the rest are stuck at the lowest conductance. With
    ``cluster`` above one they come in square blocks of that side, all stuck alike.
    """

    on: float = 0.5
    cluster: int = 1

    name, title = "stuck_at", "Stuck-at faults"
    measures, unit = "share of devices that are stuck, half of them at Gmin and half at Gmax", "of devices"
    low, high, grid = 0.0, 1.0, (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    chip, alone = "uniform", True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("on", self.on, low=0, high=1)
        checks.integer("cluster", self.cluster, low=1)

    @classmethod
    def rates(cls, on: float, off: float, **options: object) -> tuple[StuckAt, float]:
        """The perturbation and its severity for separate rates of devices stuck on and stuck off."""
        for name, rate in (("on", on), ("off", off)):
            checks.number(name, rate, low=0, high=1)
        if on + off > 1:
            raise checks.ParameterError(f"on + off must be at most 1, but {on!r} + {off!r} was given.")
        return cls(on=on / (on + off) if on + off else 0.5, **options), on + off  # type: ignore[arg-type]

    def draw_chip(self, shape, generator):
        if self.cluster == 1:
            return super().draw_chip(shape, generator)
        side, (*lead, out, inputs) = self.cluster, shape
        blocks = torch.rand(2, *lead, -(-out // side), -(-inputs // side), generator=generator)
        devices = blocks.repeat_interleave(side, -1).repeat_interleave(side, -2)
        return {"chip": devices[..., :out, :inputs].contiguous()}

    def _stuck(self, severity: Tensor, chip: Tensor) -> tuple[Tensor, Tensor]:
        """1 for every device that is stuck, and the conductance at which it is; both 0 for the others."""
        stuck, low = exceeds(severity, chip), exceeds(severity * (1 - self.on), chip)
        return stuck, self.window.low * low + self.window.high * (stuck - low)

    def moved(self, g, severity, chip):
        stuck, end = self._stuck(severity, chip)
        return end - stuck * g, -stuck

    def conductance(self, g, severity, drawn):
        stuck, end = (value.to(g.dtype) for value in self._stuck(severity, drawn["chip"]))
        return g * (1 - stuck) + end


@dataclass(frozen=True)
class IRDrop(Perturbation):
    """Wires have resistance, and Kirchhoff's laws decide what current arrives (:mod:`lib.hardware.circuit`):
    (D_1/G + r_w I x A + r_b B x I) vec(I) = V x 1, y_j = sum_i I_ij, A_kl = min(k, l), B_ik = m + 1 - max(i, k).

    ``ratio`` is the word line's resistance per segment over the bit line's. ``tile`` cuts layers into arrays of at
    most so many word and bit lines; their currents are added digitally. ``solver`` "approximate" takes a formula for
    the circuit. ``load`` "frozen" keeps every cell's share of the loss as it was when training began, which makes the
    map linear in the weights. ``predistort`` counts the corrections by which conductances are programmed
    higher where the circuit loses more; one factor per layer behind the converter restores the scale.
    ``interleaved``: G+ and G- of a weight are neighbours in one array of twice as many bit lines, whose word lines
    carry the currents of both; otherwise each has an array, with word lines, of its own.
    """

    ratio: float = 1.0
    tile: tuple[int, int] | None = None
    solver: Literal["circuit", "approximate"] = "circuit"
    load: Literal["own", "frozen"] = "own"
    predistort: int = 0
    interleaved: bool = False

    name, title = "ir_drop", "IR-drop"
    measures, unit = "resistance of one wire segment, on word and bit lines alike", "Ω"
    low, high, grid = 0.0, 1e4, (100.0, 300.0, 1000.0, 3000.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("ratio", self.ratio, low=0, high=100)
        checks.choice("solver", self.solver, ("circuit", "approximate"))
        checks.choice("load", self.load, ("own", "frozen"))
        checks.integer("predistort", self.predistort, low=0, high=100)
        checks.flag("interleaved", self.interleaved)
        if self.load == "frozen":
            # A device that does not conduct has no share to keep.
            checks.number("window.low", self.window.low, above=0)
        if self.tile is not None:
            object.__setattr__(self, "tile", circuit.check_tile(self.tile))
            if self.solver == "approximate":
                raise checks.ParameterError("solver must be circuit with tiles, but 'approximate' was given.")
        if self.load == "frozen" and self.predistort:
            raise checks.ParameterError(
                f"predistort must be 0 where the load is frozen, but {self.predistort!r} was given."
            )

    @property
    def held(self) -> Kinds:
        return super().held | ({self.name: ("share",)} if self.load == "frozen" else {})

    def seen(self, g: Tensor, severity: Tensor) -> Tensor:
        """What the circuit makes of ``g`` [2, ..., out, in] at ``severity`` ohm per segment of a bit line."""
        if self.interleaved:
            side_by_side = replace(self, interleaved=False).seen(g.movedim(0, -2).flatten(-3, -2), severity)
            return side_by_side.unflatten(-2, (-1, 2)).movedim(-2, 0)
        word, bit = self.ratio * severity, severity
        if self.tile is not None:
            return circuit.tiled_conductance(g.mT, word, bit, self.tile).mT
        solve = circuit.effective_conductance if self.solver == "circuit" else circuit.approximate_conductance
        return solve(g.mT, word, bit).mT

    def conductance(self, g, severity, drawn):
        if self.load == "frozen":
            if "share" not in drawn:
                # A device that an earlier perturbation has left without conductance has no share of its own.
                drawn["share"] = torch.where(g > 0, self.seen(g, severity) / g, 1.0).detach()
            return g * drawn["share"]
        if self.predistort == 0:
            return self.seen(g, severity)
        seen = self.seen(self.programmed(g, severity), severity)
        gain = ((g * seen).sum() / seen.square().sum().clamp_min(1e-18)).detach()
        on = exceeds(severity, 0)
        return seen * gain * on + g * (1 - on)

    def programmed(self, g: Tensor, severity: Tensor) -> Tensor:
        """What to program so that the circuit conducts a multiple of ``g``; the largest fills the window."""
        aimed = g.double()
        for _ in range(self.predistort):
            with torch.no_grad():
                aimed = aimed * (g / self.seen(aimed, severity).clamp_min(1e-9))
                aimed = aimed * (self.window.high / aimed.amax().clamp_min(1e-9))
        # The corrections are numbers to a gradient: it follows the conductance, not how they depend on it.
        return g * (aimed / g.double().clamp_min(1e-12)).detach()


@dataclass(frozen=True)
class ADC(Perturbation):
    """A converter of b bits: y~ = D clip(round(y / D), -L, L), L = 2^(b-1) - 1, D = range / L.

    ``calibration`` chooses the full scale: the ``quantile`` of ``|y|`` on training data, its "largest", the quantile
    that makes the mean rounding error smallest ("best", as CrossSim calibrates), or "learned" by gradient (then
    rounding passes the gradient on and cutting off does not, as in learned step sizes, Esser et al. 2020). The backward
    rules "straight_through" and "noise_injection" pass it in the same way.
    """

    calibration: Literal["quantile", "largest", "best", "learned"] = "quantile"
    quantile: float = 0.99

    name, title = "adc", "ADC discretization"
    measures, unit = "resolution of the converter at the end of every bit line", "bits"
    low, high, off, whole, grid = 2.0, 16.0, math.inf, True, (8.0, 6.0, 5.0, 4.0, 3.0, 2.0)
    arrays, ranged = False, True

    CANDIDATES: ClassVar[tuple[float, ...]] = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("calibration", self.calibration, ("quantile", "largest", "best", "learned"))
        checks.number("quantile", self.quantile, above=0, high=1)

    @property
    def learned(self) -> Kinds:
        return {self.name: ("range",)} if self.calibration == "learned" else {}

    def full_scale(self, y: Tensor, severity: Tensor) -> Tensor:
        """The calibrated range for currents ``y``, a constant as far as gradients go."""
        if self.calibration == "largest":
            return quantile_of_size(y, 1.0)
        if self.calibration != "best":
            return quantile_of_size(y, self.quantile)
        bounds = torch.stack([quantile_of_size(y, share) for share in self.CANDIDATES])
        levels = _levels(severity)
        errors = torch.stack([(_rounded(y.detach(), bound, levels) - y.detach()).abs().mean() for bound in bounds])
        return bounds.gather(0, errors.argmin(0, keepdim=True)).squeeze(0)

    def current(self, y, x, arrays, severity, drawn):
        bound = calibrated(drawn, lambda: self.full_scale(y, severity))
        return convert(y, severity, bound, self.calibration == "learned", drawn.get("inside"))


def calibrated(drawn: Own, measure: Callable[[], Tensor]) -> Tensor:
    """The range in ``drawn``, or else what ``measure`` finds in this operation, kept there for later ones.

    Where that is nothing, or not finite, it is not kept: a later operation is to tell. Inside ``torch.func`` transforms
    it cannot be looked at, and is kept; to :func:`convert` a range of nothing is one of 1.
    """
    if "range" in drawn:
        return drawn["range"]
    found = measure()
    if circuit.wrapped(found) or usable(found):
        drawn["range"] = found
    return found


def usable(found: Tensor) -> bool:
    """Can a range be that of a converter: more than nothing, and finite?"""
    return bool(NOTHING < found < math.inf)


def _levels(bits: Tensor) -> Tensor:
    """Values on one side of zero of a converter of so many bits; one where there is no converter (infinitely many)."""
    return torch.where(torch.isinf(bits), torch.ones_like(bits), 2 ** (bits - 1) - 1)


def _rounded(y: Tensor, bound: Tensor, levels: Tensor, through: bool = False) -> Tensor:
    step = bound / levels
    place = y / step
    at = place.detach() if through else place
    inside = at.maximum(-levels).minimum(levels)
    if not through:
        return inside.round() * step
    # Cut off first: what lies beyond the range passes no gradient on, all that lies inside does, and the edge half.
    slope = ((levels - at.abs()).sign() + 1) / 2
    return (inside + (place - at) * slope + (inside.round() - inside)) * step


def convert(
    y: Tensor, bits: Tensor, bound: Tensor, through: bool = False, inside: list[Tensor] | None = None
) -> Tensor:
    """``y`` through a converter of ``bits`` bits with the range ``bound``; infinitely many bits leave it as it is.

    ``inside`` receives 1 for what of ``y`` is not cut off and 0 for the rest, for backward rules that overlook
    rounding.
    """
    off = torch.isinf(bits).to(y.dtype)
    # A layer without any current has none to be calibrated on, which is not to cut off all that comes later.
    bound = torch.where(bound.abs() > NOTHING, bound, 1.0)
    if inside is not None:
        inside.append(1 - exceeds(y.detach().abs(), bound) * (1 - off))
    # A staircase passes no gradient on, so none is sought.
    rounded = _rounded(y if through else y.detach(), bound, _levels(bits), through)
    return y * off + rounded * (1 - off)


def quantile_of_size(y: Tensor, share: float) -> Tensor:
    """The quantile of ``|y|`` at ``share``, above which lie at least one value (the largest where that is zero);
    a constant as far as gradients go.
    """
    size = y.detach().abs().flatten()
    largest = to_single(size.topk(max(1, round((1 - share) * size.numel()))).values)
    return torch.where(largest[-1] > 0, largest[-1], largest[0]).clamp_min(NOTHING)


#: The six classes.
PERTURBATIONS: Registry[Perturbation] = Registry(
    "perturbation", {one.name: one for one in (ReadNoise(), Variability(), Drift(), StuckAt(), IRDrop(), ADC())}
)
