"""Six ways in which an analog crossbar departs from the matrix-vector product it should compute.

A weight lives in two conductances, W = (G+ - G-) / s, both inside the window from G_MIN to G_MAX. Each
perturbation is one short class that changes either what the arrays conduct
(:meth:`Perturbation.conductance`) or the current that leaves them (:meth:`Perturbation.current`). It is a
pure function of tensors: conductances or currents, a severity (one number), and the random numbers of a
chip or of a read. Nothing draws inside it, so ``torch.func.vmap`` maps it over replicas that each have
their own severity and their own random numbers.

*Chip* numbers are drawn once and stay (how devices came out, which are broken); *read* numbers are drawn
anew in every operation. At ``off`` a perturbation leaves every bit of the result as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lib import checks
from lib.hardware.circuit import effective_conductance

# The conductance window in microsiemens, and the time after programming at which drift begins, in seconds.
G_MAX = 25.0
G_MIN = 0.1
T_ZERO = 20.0
# An ADC's range is this quantile of the absolute current on training data.
ADC_QUANTILE = 0.99


@dataclass(frozen=True)
class Pair:
    """A weight as two arrays: ``g`` [2, out, in] in microsiemens (G+ first), ``scale`` per unit of weight."""

    weight: Tensor
    g: Tensor
    scale: Tensor


def to_pair(weight: Tensor) -> Pair:
    """The pair of ``weight`` [out, in]: G± = relu(±s W) + G_MIN, with s = (G_MAX - G_MIN) / max|W|."""
    scale = (G_MAX - G_MIN) / weight.abs().amax().clamp_min(torch.finfo(weight.dtype).tiny ** 0.5)
    scaled = scale * weight
    return Pair(weight, torch.stack([scaled.relu(), (-scaled).relu()]) + G_MIN, scale)


def seen_weight(pair: Pair, changed: Tensor) -> Tensor:
    """The weight [out, in] that the network sees when the arrays conduct ``changed`` [2, out, in] instead.

    Written as a deviation, so that arrays which have not changed give the weight back to the last bit.
    """
    deviation = changed - pair.g
    return pair.weight + ((deviation[0] - deviation[1]) / pair.scale).to(pair.weight.dtype)


class Perturbation:
    """A map of the forward operator with one number of severity. A new one is a subclass like those below."""

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
    # For the page: the law, where it comes from, and what to look for.
    formula: ClassVar[str]
    physics: ClassVar[str]
    lesson: ClassVar[str]
    # Which random numbers a chip [2, out, in] and a read [batch, out] hold.
    chip: ClassVar[Literal["normal", "uniform"] | None] = None
    read: ClassVar[Literal["normal"] | None] = None
    # Does it need a calibrated full scale per layer?
    ranged: ClassVar[bool] = False

    @property
    def random(self) -> bool:
        """Does anything differ from chip to chip or from read to read?"""
        return self.chip is not None or self.read is not None

    def check(self, severity: object, name: str = "severity") -> float:
        """The severity as a number, if it is in the range of this perturbation or its ``off``."""
        if isinstance(severity, float) and severity == self.off:
            return severity
        value = checks.number(name, severity, low=self.low, high=self.high)
        if self.whole and value != int(value):
            raise checks.ParameterError(
                f"{name} must be a whole number of {self.unit} from {self.low:g} to {self.high:g}, "
                f"but {severity!r} was given."
            )
        return value

    def conductance(self, g: Tensor, severity: Tensor, chip: Tensor | None) -> Tensor:
        """What the arrays conduct, [2, out, in] in microsiemens, for programmed conductances ``g``."""
        return g

    def current(
        self, y: Tensor, x: Tensor, scale: Tensor, severity: Tensor, read: Tensor | None, bound: Tensor | None
    ) -> Tensor:
        """What the periphery reports [batch, out] of the currents ``y``, in units of weight times input.

        ``x`` [batch, in] are the inputs, ``scale`` as in :class:`Pair`; ``bound`` is the range of the
        converter where the perturbation is ``ranged`` (:func:`full_scale`), else None.
        """
        return y


class ReadNoise(Perturbation):
    name, title = "read_noise", "Read noise"
    measures, unit = "standard deviation of one device's current in one read, as a share of a full-scale device", "Gmax"
    low, high, grid = 0.0, 1.0, (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    read = "normal"
    formula = r"\tilde y_i = y_i + \frac{\sigma G_{\max}}{s}\sqrt{2\textstyle\sum_j x_j^2}\;\xi_i"
    physics = (
        "Every time current flows through a device it fluctuates: charges are trapped and released near its "
        "filament or in its amorphous volume. The fluctuations of the devices on one bit line add up, and because "
        "they are independent the sum is Gaussian with the variances added. Nothing about it lasts: the next read "
        "draws again."
    )
    lesson = (
        "The noise is a share of a full-scale device, and full scale is set by the largest weight of the layer. A "
        "network without outstanding weights suffers less from the same hardware. Vanilla training differentiates "
        "the scale too and can find that out; straight-through training takes the noise for something that the "
        "weights cannot change."
    )

    def current(self, y, x, scale, severity, read, bound):
        # Independent noise on each of the two devices per weight: the variances add, so one draw per output
        # is exact.
        length = (2 * x.square().sum(-1, keepdim=True)).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
        return y + severity * (G_MAX / scale) * length * read


class Variability(Perturbation):
    name, title = "variability", "Programming variability"
    measures, unit = "standard deviation of a programmed conductance, as a share of the full scale", "Gmax"
    low, high, grid = 0.0, 1.0, (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    chip = "normal"
    formula = (
        r"\tilde G^\pm_{ij} = \mathrm{clip}\bigl(G^\pm_{ij} + \sigma G_{\max}\,\xi^\pm_{ij},\; 0,\; G_{\max}\bigr)"
    )
    physics = (
        "Programming pulses never leave a device exactly where it was aimed. Each chip comes out with its own "
        "error on every device and keeps it. A conductance cannot be negative or exceed the window, so a large "
        "error is clipped, which also pulls every weight towards zero."
    )
    lesson = (
        "As with read noise, the error is a share of the full scale, which the largest weight sets: watch that "
        "weight. Other than read noise it does not average out over the images of a batch, so the gradients of two "
        "chips differ more."
    )

    def conductance(self, g, severity, chip):
        # Clipping the change, not the sum, keeps devices at the edge of the window bit-identical when it is
        # off.
        change = torch.maximum(severity * G_MAX * chip, -g)
        return g + torch.minimum(change, (G_MAX - g).clamp_min(0))


class Drift(Perturbation):
    name, title = "drift", "Conductance drift"
    measures, unit = "time since programming", "s"
    low, high, off, grid = T_ZERO, 1e10, T_ZERO, (3.6e3, 8.64e4, 2.6e6, 3.15e7, 3.15e8, 3.15e9)
    chip = "normal"
    formula = (
        r"\tilde G = G\,(t/t_0)^{-\nu},\quad \nu = |\mu(g) + \sigma(g)\,\xi|,\quad "
        r"\mu = [-0.0155\ln g + 0.0244]_{0.049}^{0.1},\quad \sigma = [-0.0125\ln g - 0.0059]_{0.008}^{0.045}"
    )
    physics = (
        "A phase-change device relaxes: its conductance decays as a power of time, for decades. The exponent differs "
        "from device to device and is larger for low conductances, so the weights shrink together and apart. "
        "The law and its constants are the published ones for phase-change memory, with g = G/Gmax and 20 s after "
        "programming as the start."
    )
    lesson = (
        "The weights shrink nearly together, and with every layer the signal that is left: the Jacobian gain falls "
        "long before the accuracy does, and training slows down with it. A common factor could be undone by one "
        "number per layer behind the array, with no training at all."
    )

    def conductance(self, g, severity, chip):
        level = (g / G_MAX).clamp_min(1e-6).log()
        mean = (-0.0155 * level + 0.0244).clamp(0.049, 0.1)
        spread = (-0.0125 * level - 0.0059).clamp(0.008, 0.045)
        return g * torch.exp(-(mean + spread * chip).abs() * torch.log(severity / T_ZERO))


class StuckAt(Perturbation):
    name, title = "stuck_at", "Stuck-at faults"
    measures, unit = "share of devices that are stuck, half of them at Gmin and half at Gmax", "of devices"
    low, high, grid = 0.0, 1.0, (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    chip = "uniform"
    formula = (
        r"\tilde G_{ij} = G_{\min}\ \text{if}\ u_{ij} < p/2,\quad G_{\max}\ \text{if}\ p/2 \le u_{ij} < p,\quad "
        r"G_{ij}\ \text{otherwise}"
    )
    physics = (
        "Some devices do not answer to programming at all: a filament that never formed, or a short that never opens. "
        "A device stuck at Gmin loses at most its own weight; one stuck at Gmax adds a full-scale weight of either "
        "sign wherever it sits. Which devices they are is known only after manufacture."
    )
    lesson = (
        "A device stuck at Gmax is as large as the largest weight, wherever it sits. Nearly all weights keep their "
        "gradient, but two chips have their faults in different places and hardly agree on a direction. What "
        "training can find is a network that bears faults anywhere; a network for the faults of one chip would "
        "need the map of that chip."
    )

    def conductance(self, g, severity, chip):
        low, high = torch.full_like(g, G_MIN), torch.full_like(g, G_MAX)
        return torch.where(chip < severity, torch.where(chip < severity / 2, low, high), g)


class IRDrop(Perturbation):
    name, title = "ir_drop", "IR-drop"
    measures, unit = "resistance of one wire segment, on word and bit lines alike", "Ω"
    low, high, grid = 0.0, 1000.0, (30.0, 100.0, 300.0, 1000.0)
    formula = (
        r"\begin{gathered}"
        r"(D_{1/G} + r_w\,I_m\otimes A_n + r_b\,B_m\otimes I_n)\,\mathrm{vec}(I) = V\otimes 1_n,\quad "
        r"y_j = \textstyle\sum_i I_{ij},\\ A_{kl} = \min(k,l),\quad B_{ik} = m + 1 - \max(i,k)\end{gathered}"
    )
    physics = (
        "The wires of the array have resistance. Current that flows along a word or bit line lowers the voltage that "
        "reaches the devices further on, more so the more the other devices on the line conduct. There is nothing "
        "random in it: it follows from the weights by Kirchhoff's laws, and two chips with the same weights lose "
        "the same currents."
    )
    lesson = (
        "The relative loss grows as resistance times the square of the array's side: 100 Ω on 64 × 64 weigh as much "
        "as 1.6 Ω on 512 × 512, and a real segment has a few tenths to a few ohm. Nothing varies, so the variance of "
        "the gradient is zero; what counts is whether the gradient knows the circuit: compare its truth under the "
        "two rules. And watch the largest weight: what loads the wires is current, so it helps to keep all other "
        "conductances small, the opposite of what noise asks for."
    )

    def conductance(self, g, severity, chip):
        seen = effective_conductance(g.mT, severity, severity)
        return seen.mT


class ADC(Perturbation):
    name, title = "adc", "ADC discretization"
    measures, unit = "resolution of the converter at the end of every bit line", "bits"
    low, high, off, whole, grid = 2.0, 16.0, math.inf, True, (8.0, 6.0, 5.0, 4.0, 3.0, 2.0)
    ranged = True
    formula = (
        r"\tilde y = \Delta\,\mathrm{clip}\bigl(\mathrm{round}(y/\Delta),\,-L,\,L\bigr),\quad "
        r"L = 2^{b-1}-1,\quad \Delta = q_{0.99}(|y|)/L"
    )
    physics = (
        "The currents are analog, what follows is digital. A converter of b bits knows 2^b - 1 values, equally spaced "
        "over its range, and everything beyond the range is cut off. The range is calibrated per layer on training "
        "data. Rounding is a staircase: its derivative is zero wherever it exists."
    )
    lesson = (
        "Under autograd the gradient is exactly zero at any resolution, also where nothing is damaged: cosine, truth, "
        "signal and live weights are all 0, and training stays where it was at the fork (only the last bias, behind "
        "the last converter, moves). Straight-through training gets a gradient; whether it helps is another "
        "question, because a range that is well calibrated has already won most of what there is to win."
    )

    def current(self, y, x, scale, severity, read, bound):
        ideal = torch.isinf(severity)
        levels = torch.where(ideal, torch.ones_like(severity), 2 ** (severity - 1) - 1)
        step = bound / levels
        rounded = (y / step).round().maximum(-levels).minimum(levels) * step
        return torch.where(ideal, y, rounded)


def full_scale(y: Tensor) -> Tensor:
    """The calibrated range of a converter: the ADC_QUANTILE of ``|y|``, a constant as far as gradients go."""
    beyond = max(1, round((1 - ADC_QUANTILE) * y.numel()))
    return y.detach().abs().flatten().topk(beyond).values[-1].clamp_min(torch.finfo(y.dtype).tiny)


PERTURBATIONS: dict[str, Perturbation] = {
    one.name: one for one in (ReadNoise(), Variability(), Drift(), StuckAt(), IRDrop(), ADC())
}
