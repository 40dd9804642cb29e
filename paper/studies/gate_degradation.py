"""Does a gate become constant, or is it constant from the start? And what becomes of it in a long training?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import pandas as pd

from lib import results
from lib.prompts.gates import GATES
from lib.results import Cell
from lib.verdicts import Claim, Findings
from paper.agreement import Quantity
from paper.criteria import prompts as criteria
from paper.studies.base import Compared
from paper.studies.gating import KEYS, GateNames, GateStudy, LearnerNames, Steps, TaskNames, assembled, per_seed


class Optimisers(NamedTuple):
    """Who trains the prompts, who the gate ("": the same), and a multiple of the gate's learning rate."""

    prompts: str
    gate: str = ""
    gate_rate: float = 1.0


#: The trainings of the long run by their names.
LONG = {
    "SGD": Optimisers("sgd"),
    "SGD, gate by Adam": Optimisers("sgd", "adam"),
    "Adam, gate by SGD": Optimisers("adam", "sgd"),
    "Adam": Optimisers("adam"),
    "SGD, gate rate x 100": Optimisers("sgd", gate_rate=100.0),
}
#: Numbers of steps after which a long training is looked at, beside its last.
LOOKS = (100, 400, 1000)


class GateDegradation(GateStudy):
    """How much gates depend on their input, along training.

    The trainings of the short recipe, and beside them CoOp with a length gate on ``long_tasks`` for ``long_steps``
    steps at a constant rate, once for each of :data:`LONG`.

    Table ``gates``: a row per learner, gate, task, seed, recorded step with the statistics of
    :func:`lib.prompts.diagnosis.gate_statistics` on test pictures. Table ``ends``: first and last step side by
    side.
    """

    task: TaskNames = ("coarse",)
    learner: LearnerNames = ("coop", "pool")
    gate: GateNames = ("length", "soft", "top_k", "l2p", "random")
    long_steps: Steps = 200
    long_tasks: TaskNames = ("conflict",)

    # At a constant rate a shorter training is the beginning of a longer one.
    SIZES: ClassVar[tuple[str, ...]] = (*GateStudy.SIZES, "long_steps")
    PARTS: ClassVar[tuple[str, ...]] = (*GateStudy.PARTS, "long_tasks")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "gates": Compared(
            ("learner", "gate", "task", "step"),
            {"information": Quantity(scale="log"), "spread": Quantity(scale="log"), "mean": 1e-3},
        )
    }

    def check(self) -> None:
        """Refuses what cannot be trained, before anything is loaded."""
        super().check()
        for task in self.long_tasks:
            self.find(task)

    def long(self) -> list[tuple[str, Cell]]:
        """The long trainings with their names."""
        looks = (*(look for look in LOOKS if look < self.long_steps), self.long_steps)
        own = {"steps": self.long_steps, "warmup": 0.0, "cosine": False, "looks": looks, "watch": True}
        return [
            (
                name,
                self.cell(
                    "coop",
                    "length",
                    task,
                    recipe=self.recipe(**own, optimiser=one.prompts, gate_optimiser=one.gate),
                    setting=self.setting(gate_rate=one.gate_rate * self.gate_rate),
                ),
            )
            for name, one in LONG.items()
            for task in self.long_tasks
        ]

    def cells(self) -> list[Cell]:
        """Every learner, gate and task, and the long trainings."""
        return [*self.gated(), *(cell for _, cell in self.long())]

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        gates = assembled(found, [("", cell) for cell in self.cells()]).trajectory
        first = gates.loc[gates.groupby(KEYS)["step"].idxmin()].set_index(KEYS)
        last = gates.loc[gates.groupby(KEYS)["step"].idxmax()].set_index(KEYS)
        names = ["information", "spread", "saturation", "class_share", "mean", "used"]
        ends = first[names].add_suffix("_first").join(last[names].add_suffix("_last")).reset_index()
        scaling, selecting = split(ends)
        claims = [*_scaling(scaling), *_selecting(selecting)]
        return {"gates": gates, "ends": ends}, Findings.of(claims)


def split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of gates that scale prompts, and those of selectors."""
    selects = table["gate"].map(lambda name: GATES[name].selects).astype(bool)
    return table[~selects], table[selects]


def _claim(what: str, text: str, samples: list[float], relation: Any, threshold: float, name: str) -> Claim:
    return Claim(f"gate_degradation.{what}", text, samples, relation, threshold, "gate_degradation", name=name)


def _scaling(ends: pd.DataFrame) -> list[Claim]:
    """Claims on gates that scale prompts, if there are any."""
    if not len(ends):
        return []
    ratio = ends.assign(ratio=ends["information_last"] / ends["information_first"])
    return [
        _claim(
            "constant.before",
            "an untrained gate is nearly constant already",
            per_seed(ends, "information_first"),
            "<",
            criteria.CONSTANT,
            "input information before training",
        ),
        _claim(
            "constant.after",
            "after training the gate is nearly constant",
            per_seed(ends, "information_last"),
            "<",
            criteria.CONSTANT,
            "input information after training",
        ),
        _claim(
            "taken",
            "training itself takes at least half of the input information away",
            per_seed(ratio, "ratio"),
            "<",
            criteria.TAKEN,
            "input information after / before",
        ),
        _claim(
            "saturated",
            "gates saturate",
            per_seed(ends, "saturation_last"),
            ">",
            criteria.SATURATED,
            "share of saturated values",
        ),
        _claim(
            "classes",
            "what little variation there is follows the classes (at least half of it)",
            per_seed(ends, "class_share_last"),
            ">",
            criteria.FOLLOWS_CLASSES,
            "class share",
        ),
    ]


def _selecting(ends: pd.DataFrame) -> list[Claim]:
    """Claims on selectors, if there are any: how much of the pool they use, and whether the picture decides."""
    if not len(ends):
        return []
    hard = ends[ends["gate"].isin(["top_k", "gumbel"])]
    used = [
        _claim(
            f"pool.{when}",
            f"hard selection uses no more than half of the pool, {words}",
            per_seed(hard, column),
            "<",
            criteria.HALF_THE_POOL,
            "entries in use",
        )
        for when, words, column in (
            ("before", "before training already", "used_first"),
            ("after", "after training", "used_last"),
        )
    ]
    picture = _claim(
        "pool.picture",
        "selection hardly depends on the picture",
        per_seed(ends, "information_last"),
        "<",
        criteria.BLIND_CHOICE,
        "I(X; G) / log E after training",
    )
    return [*(used if len(hard) else []), picture]
