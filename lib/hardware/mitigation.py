"""What helps beyond training: redundancy and fault remapping.

The other measures are options of the perturbations themselves: the calibration of an
:class:`~lib.hardware.perturbations.ADC`, the compensation of a :class:`~lib.hardware.perturbations.Drift`, tiles and
pre-distortion of an :class:`~lib.hardware.perturbations.IRDrop`; batch normalisation is recalibrated by
:meth:`~lib.hardware.training.Trainer.accuracy_on_chips`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lib import checks
from lib.hardware.devices import FlickerNoise, ProgrammingNoise
from lib.hardware.numbers import Numbers, Own
from lib.hardware.perturbations import (
    Drift,
    Perturbation,
    ReadNoise,
    StuckAt,
    Variability,
    Window,
    seen_weight,
    to_pair,
)
from lib.hardware.training import Arrange
from lib.replicas import Tree

#: What redundancy can lower: errors of single devices, in arrays or in currents.
_AVERAGED = (ReadNoise, Variability, ProgrammingNoise, FlickerNoise, StuckAt, Drift)


@dataclass(frozen=True)
class Redundant(Perturbation):
    """Every device of ``part`` in so many ``copies``, whose currents are averaged; the first are those of ``part``.

    Its numbers are those of the part, copy by copy: ``copy -> kind -> Tensor``.
    """

    part: Perturbation = field(default_factory=StuckAt)
    copies: int = 3

    measures, low, high = "as that of its part", 0.0, 1e10

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("copies", self.copies, low=1)
        compensated = isinstance(self.part, Drift) and self.part.compensation != "none"
        if not isinstance(self.part, _AVERAGED) or self.part.scale == "fixed" or compensated:
            raise checks.ParameterError(
                "part must be a perturbation of single devices, with its own scale and without compensation, but "
                f"{self.part!r} was given."
            )
        if self.window not in (Window(), self.part.window):
            raise checks.ParameterError(f"window must be that of part, but {self.window!r} was given.")
        if self.scale not in ("differentiated", self.part.scale):
            raise checks.ParameterError(f"scale must be that of part, but {self.scale!r} was given.")
        object.__setattr__(self, "window", self.part.window)
        object.__setattr__(self, "scale", self.part.scale)

    # Whatever it is asked, it answers as its part does.
    name = property(lambda self: self.part.name)
    title = property(lambda self: self.part.title)
    unit = property(lambda self: self.part.unit)
    off = property(lambda self: self.part.off)
    grid = property(lambda self: self.part.grid)
    arrays = property(lambda self: self.part.arrays)
    random = property(lambda self: self.part.random)
    lasting = property(lambda self: self.part.lasting)

    def check(self, severity: object, name: str = "severity") -> float:
        return self.part.check(severity, name)

    def without_chance(self, drawn: Own) -> Own:
        return {copy: self.part.without_chance(own) for copy, own in drawn.items()}

    def draw_chip(self, shape, generator):
        return _copies(self.part.draw_chip, shape, generator, range(1))

    def draw_more(self, shape, generator):
        return _copies(self.part.draw_chip, shape, generator, range(1, self.copies))

    def draw_read(self, shape, generator):
        return _copies(self.part.draw_read, shape, generator, range(self.copies))

    def conductance(self, g, severity, drawn):
        if not self.part.lasting:
            return g
        return _mean([self.part.conductance(g, severity, _own(drawn, copy)) for copy in range(self.copies)])

    def current(self, y, x, arrays, severity, drawn):
        return _mean([self.part.current(y, x, arrays, severity, _own(drawn, copy)) for copy in range(self.copies)])


def _copies(draw: Callable[..., Own], shape: tuple[int, ...], generator: torch.Generator, copies: range) -> Own:
    drawn = {str(copy): draw(shape, generator) for copy in copies}
    return {copy: own for copy, own in drawn.items() if own}


def _own(drawn: Own, copy: int) -> Own:
    # What a composed chip shows to all its parts, every copy sees.
    return {kind: drawn[kind] for kind in ("target",) if kind in drawn} | drawn.get(str(copy), {})


def _mean(copies: list[Tensor]) -> Tensor:
    # As a deviation from the first, so that copies without an error give it back to the last bit.
    return copies[0] + sum((one - copies[0] for one in copies[1:]), torch.zeros_like(copies[0])) / len(copies)


def remapped(perturbation: Perturbation, severity: Tensor) -> Arrange:
    """Fault remapping: rows of every layer's weight go to the physical lines where its chip's faults hurt least.

    ``severity`` [replicas] is that of every replica. For a chip whose map is known: which logical bit line is stored
    on which physical one is an assignment problem (Kuhn 1955), then the same for word lines; the cost of a place is the
    sum of the absolute errors of its weights. For perturbations of single devices on layers that are one array each.
    """
    if not isinstance(perturbation, StuckAt | Variability | ProgrammingNoise):
        raise checks.ParameterError(
            f"perturbation must be one whose devices err one by one, but {perturbation.name} was given."
        )
    if perturbation.scale == "column":
        raise checks.ParameterError(
            "scale must be one for the whole array where its lines are remapped, but 'column' was given."
        )

    def arrange(numbers: Numbers, params: Tree) -> Numbers:
        moved: Numbers = {}
        for layer, parts in numbers.items():
            chips = perturbation.own(parts)["chip"]
            # The kernels of a convolution are the rows of its array.
            weights = params[f"{layer}.weight"].flatten(2)
            if chips.dim() != 4:
                raise checks.ParameterError(f"layers must be one array each, but the groups of {layer} were given.")
            placed = []
            for replica, chip in enumerate(chips):
                weight, own = weights[replica], severity[replica]
                for axis in (-2, -1):
                    chip = _assigned(perturbation, weight, own, chip, axis)
                placed.append(chip)
            moved[layer] = perturbation.parts_of({"chip": torch.stack(placed)})
        return moved

    return arrange


def _assigned(perturbation: Perturbation, weight: Tensor, severity: Tensor, chip: Tensor, axis: int) -> Tensor:
    """The numbers of ``chip`` [2, out, in] with the lines of one axis put where they cost least."""
    if axis == -1:
        return _assigned(perturbation, weight.mT, severity, chip.mT, -2).mT
    pair = to_pair(weight, perturbation.window)
    # Every logical line on every physical one: [2, logical, physical, in].
    spread = pair._replace(weight=pair.weight[:, None], g=pair.g[:, :, None])
    on = perturbation.conductance(
        spread.g.expand(-1, -1, chip.shape[1], -1), severity, {"chip": chip[:, None].expand(-1, len(weight), -1, -1)}
    )
    cost = (seen_weight(spread, on) - spread.weight).abs().sum(-1)
    # A replica that has diverged does not end the others.
    _, places = linear_sum_assignment(cost.detach().nan_to_num().cpu().numpy())
    return chip[:, torch.as_tensor(places, device=chip.device)]
