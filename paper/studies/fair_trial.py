"""A fair trial: does a gate gain anything once everything is trained? Dependence against gain, under every recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from lib.prompts import learners, training
from lib.prompts.gates import BLIND
from lib.results import Cell
from paper.studies import tuning, worth
from paper.studies.base import Compared
from paper.studies.gating import GateNames, GateStudy, LearnerNames, TaskNames
from paper.studies.parameters import POSITIVE, Numbers, Some

CONTROL = training.Recipe(steps=300, batch=8, rate=0.01, optimiser="adam", warmup=0.0)
"""The recipe that is known to train a gate where there is something to gain."""
ZERO_SHOT = "zero-shot"
RECIPES = ("short", "control", "tuned")
"""Short: the study's own. Tuned: chosen for each learner and gate on validation pictures (``paper.studies.tuning``)."""


class FairTrial(GateStudy):
    """Gated learners, their blind twins and the learners without a gate, each under the same :data:`RECIPES`.

    Learners and gates named ``tuned_`` are trained by every recipe of the grid (``rates`` x ``lengths``) and judged
    under the one that is best for them on validation pictures: the gated learner, its twin and the learner without a
    gate each have a choice of their own. ``control_task`` are the tasks of the control's recipe.

    Tables: ``accuracy`` (a row per recipe, learner, gate, task, seed, variant), ``points`` (learner, gate, task,
    recipe, seed: dependence and gain in points), ``verdicts``, ``chosen`` (which recipe was chosen, and whether the
    loss is flat), ``lengths`` (validation accuracy of the tuned learners by number of steps).
    """

    task: TaskNames = ("shift",)
    learner: LearnerNames = ("coop",)
    gate: GateNames = ("length",)
    recipes: Annotated[tuple[str, ...], Some(RECIPES, everything="all", ordered=True)] = ("control",)
    control_task: TaskNames = ("shift",)
    control_learner: LearnerNames = ("coop",)
    control_gate: GateNames = ("length",)
    tuned_learner: LearnerNames = ("coop",)
    tuned_gate: GateNames = ("length",)
    rates: Annotated[tuple[float, ...], Numbers(POSITIVE.low, POSITIVE.high)] = tuning.RATES
    lengths: Annotated[tuple[int, ...], Numbers(1, 1_000_000, whole=True, ordered=True)] = tuning.LENGTHS

    PARTS: ClassVar[tuple[str, ...]] = (
        *GateStudy.PARTS,
        *("recipes", "control_task", "control_learner", "control_gate", "tuned_learner", "tuned_gate"),
    )
    COMPARED: ClassVar[Mapping[str, Compared]] = {"accuracy": Compared((*worth.KEYS, "variant"), {"accuracy": 1.0})}

    def check(self) -> None:
        super().check()
        for name in RECIPES[1:]:
            learners.pairs(getattr(self, f"{name}_learner"), getattr(self, f"{name}_gate"))

    def together(
        self, names: Sequence[str], kinds: Sequence[str], chosen: Sequence[str], recipe: training.Recipe
    ) -> list[Cell]:
        """Every learner with each of these gates, the gate's blind twin, and none, on the tasks chosen."""
        found = []
        for learner, kind in learners.pairs(names, kinds):
            for gate in (kind, BLIND.get(kind, "none"), "none"):
                found += [self.cell(learner, gate, task, recipe=recipe) for task in chosen]
        return list(dict.fromkeys(found))

    def trainings(self) -> list[tuple[str, Cell]]:
        """Every training with the name of its recipe; those of the grid as :func:`tuning.grid` names them."""
        every = dict.fromkeys((*self.task, *self.control_task))
        found = [(ZERO_SHOT, self.cell("zero_shot", "none", task)) for task in every]
        if "short" in self.recipes:
            found += [("short", one) for one in self.together(self.learner, self.gate, self.task, self.recipe())]
        if "control" in self.recipes:
            tried = self.together(self.control_learner, self.control_gate, self.control_task, CONTROL)
            found += [("control", one) for one in tried]
        if "tuned" in self.recipes:
            for name, recipe in tuning.grid(self.rates, self.lengths).items():
                tried = self.together(self.tuned_learner, self.tuned_gate, self.task, recipe)
                found += [(name, one) for one in tried]
        return found

    def cells(self) -> list[Cell]:
        """Every training once."""
        return list(dict.fromkeys(cell for _, cell in self.trainings()))
