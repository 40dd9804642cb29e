"""What helps beyond training: redundancy and fault remapping.

The other measures are options of the perturbations themselves: the calibration of an
:class:`~lib.hardware.perturbations.ADC`, the compensation of a :class:`~lib.hardware.perturbations.Drift`, tiles and
pre-distortion of an :class:`~lib.hardware.perturbations.IRDrop`; batch normalisation is recalibrated by
:meth:`~lib.hardware.training.Trainer.accuracy_on_chips`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lib import checks
from lib.hardware.perturbations import Perturbation, StuckAt, Tree, seen_weight, to_pair
from lib.hardware.training import Arrange
from lib.replicas import unstack


@dataclass(frozen=True)
class Redundant(Perturbation):
    """Every device of ``part`` in so many ``copies``, whose currents are averaged."""

    part: Perturbation = field(default_factory=StuckAt)
    copies: int = 3

    measures, unit, low, high = "as that of its part", "", 0.0, 1e10

    def __post_init__(self) -> None:
        checks.integer("copies", self.copies, low=1)
        if not self.part.random:
            raise checks.ParameterError(
                f"part must have random numbers that averaging can lower, but {self.part.name} was given."
            )
        object.__setattr__(self, "window", self.part.window)

    @property
    def name(self) -> str:
        """That of the part: its chips are those of the part, more of them."""
        return self.part.name

    @property
    def arrays(self) -> bool:
        return self.part.arrays

    @property
    def random(self) -> bool:
        return True

    @property
    def lasting(self) -> bool:
        return self.part.lasting

    def check(self, severity: object, name: str = "severity") -> float:
        return self.part.check(severity, name)

    def draw_chip(self, shape, generator):
        drawn = [self.part.draw_chip(shape, generator) for _ in range(self.copies)]
        return {f"{kind}{i}": value for i, one in enumerate(drawn) for kind, value in one.items()}

    def draw_read(self, shape, generator):
        drawn = [self.part.draw_read(shape, generator) for _ in range(self.copies)]
        return {f"{kind}{i}": value for i, one in enumerate(drawn) for kind, value in one.items()}

    def _own(self, drawn: Tree, copy: int) -> Tree:
        return {kind.removesuffix(str(copy)): value for kind, value in drawn.items() if kind.endswith(str(copy))}

    def conductance(self, g, severity, drawn):
        if not self.part.lasting:
            return g
        copies = [self.part.conductance(g, severity, self._own(drawn, i)) for i in range(self.copies)]
        # As a deviation from the first, so that copies without an error give it back to the last bit.
        return copies[0] + sum((one - copies[0] for one in copies[1:]), torch.zeros_like(g)) / self.copies

    def current(self, y, x, arrays, severity, drawn):
        copies = [self.part.current(y, x, arrays, severity, self._own(drawn, i)) for i in range(self.copies)]
        return copies[0] + sum((one - copies[0] for one in copies[1:]), torch.zeros_like(y)) / self.copies


def remapped(perturbation: Perturbation, severity: Tensor) -> Arrange:
    """Fault remapping: rows of every layer's weight go to the physical lines where its chip's faults hurt least.

    ``severity`` [replicas] is that of every replica. For a chip whose map is known: which logical bit line is stored
    on which physical one is an assignment problem (Kuhn 1955), then the same for word lines; the cost of a place is the
    sum of the absolute errors of its weights.
    """

    def arrange(numbers: Tree, params: Tree) -> Tree:
        moved = dict(numbers)
        for key, chips in numbers.items():
            kind, _, layer = key.partition(".")
            weights = params[f"{layer}.weight"]
            if kind != "chip" or weights.dim() != 3:
                continue
            placed = []
            for replica, chip in enumerate(chips):
                weight, own = unstack({"": weights}, replica)[""], severity[replica]
                for axis in (-2, -1):
                    chip = _assigned(perturbation, weight, own, chip, axis)
                placed.append(chip)
            moved[key] = torch.stack(placed)
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
    _, places = linear_sum_assignment(cost.detach().cpu().numpy())
    return chip[:, torch.as_tensor(places, device=chip.device)]
