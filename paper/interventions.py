"""Hardware with one thing held or changed, to find out why a class recovers: what is not so on any device.

Each is a perturbation of :mod:`lib.hardware.perturbations` that differs from its class in one respect, or a trainer
who knows more than one who trains for chips to come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lib import checks, runtime
from lib.hardware.crossbars import Crossbars, ideal
from lib.hardware.numbers import Kinds, Numbers, Own
from lib.hardware.perturbations import ADC, Drift, IRDrop, Perturbation, ReadNoise
from lib.hardware.training import Trainer
from lib.replicas import flat, nested

SIZES = ("rms", "mean")


def standing_out(weight: Tensor, size: Literal["rms", "mean"] = "rms") -> Tensor:
    """How far the largest number stands out of ``weight`` [...]: its size over the root mean square, or mean size."""
    mean = weight.abs().mean() if size == "mean" else weight.square().mean().sqrt()
    return weight.abs().amax() / mean.clamp_min(torch.finfo(weight.dtype).tiny)


@dataclass(frozen=True)
class _Changed(Perturbation):
    """``part`` with one thing changed: whatever else it is asked, it answers as its part does."""

    part: Perturbation = field(default_factory=ReadNoise)

    measures, low, high = "as that of its part", 0.0, 1e10

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "window", self.part.window)

    name = property(lambda self: self.part.name)
    title = property(lambda self: self.part.title)
    unit = property(lambda self: self.part.unit)
    off = property(lambda self: self.part.off)
    grid = property(lambda self: self.part.grid)
    arrays = property(lambda self: self.part.arrays)
    ranged = property(lambda self: self.part.ranged)
    random = property(lambda self: self.part.random)
    lasting = property(lambda self: self.part.lasting)

    def check(self, severity: object, name: str = "severity") -> float:
        return self.part.check(severity, name)

    def without_chance(self, drawn: Own) -> Own:
        return self.part.without_chance(drawn)

    def draw_chip(self, shape, generator):
        return self.part.draw_chip(shape, generator)

    def draw_more(self, shape, generator):
        return self.part.draw_more(shape, generator)

    def draw_read(self, shape, generator):
        return self.part.draw_read(shape, generator)

    def conductance(self, g, severity, drawn):
        return self.part.conductance(g, severity, drawn)

    def current(self, y, x, arrays, severity, drawn):
        return self.part.current(y, x, arrays, severity, drawn)

    def digital(self, y, arrays, severity, drawn):
        return self.part.digital(y, arrays, severity, drawn)


@dataclass(frozen=True)
class Held(_Changed):
    """``part`` on arrays whose conductances keep their ``size`` (root mean square, or mean) whatever training does.

    Usually the largest weight fills the window, so that a network without outstanding weights conducts more, and one
    with few large ones less. Here the scale follows the weights' own size: s = (high - low) / (c0 size(W)), with c0 how
    far the largest weight stood out when training began. At the start it is ``part`` itself; from there on training can
    neither fill the window nor empty it. Larger weights lie beyond the window, which nothing here forbids.
    """

    size: Literal["rms", "mean"] = "rms"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("size", self.size, SIZES)

    @property
    def held(self) -> Kinds:
        return super().held | {self.name: ("crest",)}

    def _factor(self, weight: Tensor, drawn: Own) -> Tensor:
        """What the natural scale is multiplied by: how far the largest stands out now, over what it did."""
        now = standing_out(weight, self.size)
        if "crest" not in drawn:
            drawn["crest"] = now.detach()
        return now / drawn["crest"]

    def conductance(self, g, severity, drawn):
        factor = self._factor(g[0] - g[1], drawn)
        aimed = (g - self.window.low) * factor + self.window.low
        # Back on the natural scale only the change is divided: where there is none, no bit changes.
        return g + (self.part.conductance(aimed, severity, drawn) - aimed) / factor

    def current(self, y, x, arrays, severity, drawn):
        pair = arrays.pair
        scaled = pair._replace(scale=pair.scale * self._factor(pair.weight, drawn))
        return self.part.current(y, x, arrays._replace(pair=scaled), severity, drawn)


@dataclass(frozen=True)
class HeldRatio(_Changed):
    """``part``, an error of single devices, in proportion to the signal of every layer, whatever training does.

    The signal is the standard deviation of the clean currents over the batch, and an error goes by full scale: |x| / s.
    What is held is the ratio of the two, r0 = sd(y) s / rms|x| as it was when training began: the error of a chip is
    multiplied by r / r0. Training can raise a layer's signal over its errors in no way, neither by filling the window
    nor by weights that inputs excite more; what it can do is to carry the same thing in several outputs.
    """

    @property
    def held(self) -> Kinds:
        return super().held | {self.name: ("ratio",)}

    def current(self, y, x, arrays, severity, drawn):
        weight, scale = arrays.pair.weight, arrays.pair.scale
        clean = ideal("", x, weight)
        inputs = torch.linalg.vector_norm(x, dim=-1).square().mean().sqrt()
        spread = (clean - clean.mean(0)).square().mean().sqrt()
        ratio = spread * scale / inputs.clamp_min(torch.finfo(x.dtype).tiny)
        if "ratio" not in drawn:
            drawn["ratio"] = ratio.detach()
        error = self.part.current(y, x, arrays, severity, drawn) - clean
        return clean + error * ratio / drawn["ratio"]


@dataclass(frozen=True)
class SpreadDrift(Drift):
    """Drift whose exponents differ ``spread`` times as much from device to device as was measured (0: only with g)."""

    spread: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("spread", self.spread, low=0, high=100)

    def exponent(self, g: Tensor, normal: Tensor) -> Tensor:
        return super().exponent(g, self.spread * normal)


@dataclass(frozen=True)
class ShuffledIRDrop(IRDrop):
    """IR-drop on chips of which each has its lines in an order of its own: what is lost is random from chip to chip."""

    random = property(lambda self: True)
    lasting = property(lambda self: True)

    def draw_chip(self, shape, generator):
        return {
            "columns": torch.rand(shape[-2], generator=generator),
            "rows": torch.rand(shape[-1], generator=generator),
        }

    def conductance(self, g, severity, drawn):
        # Both arrays of a pair have the same order. Where nothing is left to chance all draws are alike: no order.
        columns, rows = (drawn[kind].argsort(stable=True) for kind in ("columns", "rows"))
        seen = super().conductance(g[..., columns, :][..., rows], severity, drawn)
        return seen[..., columns.argsort(), :][..., rows.argsort()]


@dataclass(frozen=True)
class UnmaskedADC(ADC):
    """A converter that a straight-through gradient passes as if it cut nothing off, beyond its range as well."""

    def current(self, y, x, arrays, severity, drawn):
        inside = drawn.get("inside")
        found = super().current(y, x, arrays, severity, drawn)
        if inside is not None:
            inside.clear()
        return found


@dataclass(frozen=True)
class PartlyKnown(Trainer):
    """A trainer who knows a ``share`` of the devices of the seed's first unseen chip; the others are anew each step."""

    share: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("share", self.share, low=0, high=1)

    def chip(self, perturbation: Perturbation, seed: int, *names: str | int) -> Numbers:
        drawn = super().chip(perturbation, seed, *names)
        if names[0] != "training chip":
            return drawn
        known = flat(super().chip(perturbation, seed, "unseen chip", 0))
        source = runtime.stream(seed, perturbation.name, "known devices")
        found = {}
        for path, value in flat(drawn).items():
            # Both devices of a weight are known, or neither: what is told is where, by the weight.
            told = torch.rand(value.shape[1:], generator=source) < self.share
            found[path] = torch.where(told, known[path], value)
        return nested(found)


def softer(perturbation: Perturbation, severity: Tensor) -> Tensor:
    """A third of the ``severity``; of a time a third on a logarithmic scale, and of bits two more."""
    if perturbation.ranged:
        return severity + 2
    return perturbation.off * (severity / perturbation.off) ** (1 / 3) if perturbation.off else severity / 3


@dataclass(frozen=True, eq=False)
class _Softened(Crossbars):
    """Crossbars of which one layer is on a better chip."""

    layer: str = ""

    def __call__(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        if layer != self.layer or self.perturbation is None:
            return super().__call__(layer, x, weight)
        better = softer(self.perturbation, self.severity)
        given = (self.perturbation, better, self.rule, self.drawn, self.calibrated)
        return Crossbars(*given, digital=self.digital)(layer, x, weight)


@dataclass(frozen=True)
class Softened(Trainer):
    """A trainer on whose chips one ``layer`` is better than the others (:func:`softer`)."""

    layer: str = ""

    def crossbars(self, perturbation: Perturbation | None, severity: Tensor, rule: str, drawn: Numbers) -> Crossbars:
        return _Softened(perturbation, severity, rule, drawn, digital=self.digital, layer=self.layer)


def like(trainer: Trainer, kind: type[Trainer] = Trainer, **more: object) -> Trainer:
    """A trainer of another kind with the same network, data and batch."""
    given = {"network": trainer.network, "data": trainer.data, "batch": trainer.batch, "digital": trainer.digital}
    return kind(**{**given, **more})  # type: ignore[arg-type]
