"""Does a gate become constant, or is it constant from the start?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lib.prompts.gates import GATES
from lib.prompts.learners import POOL
from lib.results import provenance
from lib.runtime import resolve_device
from lib.verdicts import Findings, judge
from paper.studies.base import Result
from paper.studies.gating import KEYS, Bench, GateStudy, per_seed


@dataclass(frozen=True, kw_only=True)
class GateDegradation(GateStudy):
    """How much gates depend on their input, along training.

    Table ``gates``: a row per learner, gate, task, seed, recorded step with the statistics of
    :func:`lib.prompts.diagnosis.gate_statistics` on test pictures. Table ``ends``: first and last step side by
    side.
    """

    learner: str | Sequence[str] = "coop,maple,pool"
    gate: str | Sequence[str] = "length,depth,soft,top_k,gumbel"

    KEYS = ("learner", "gate", "task", "step")
    TOLERANCES = {"information": 1e-4, "spread": 0.001, "saturation": 0.02}

    def run(self) -> Result:
        store = self.store()
        gates = Bench(self, store).run(self.cells()).moving
        first = gates.loc[gates.groupby(KEYS)["step"].idxmin()].set_index(KEYS)
        last = gates.loc[gates.groupby(KEYS)["step"].idxmax()].set_index(KEYS)
        names = ["information", "spread", "saturation", "class_share", "mean", "used"]
        ends = first[names].add_suffix("_first").join(last[names].add_suffix("_last")).reset_index()
        return Result(
            {"gates": gates, "ends": ends},
            self._findings(ends),
            provenance(resolve_device(self.device), list(range(self.seeds)), store.seconds),
        )

    def summary(self, result: Result) -> pd.DataFrame:
        """Gates that scale only: few seeds say little about where a hard selector ends up."""
        scaling = result.table[~_selects(result.table)]
        return scaling.groupby(list(self.KEYS))[list(self.TOLERANCES)].mean().reset_index()

    @staticmethod
    def _findings(everything: pd.DataFrame) -> Findings:
        selects = _selects(everything)
        ends, chosen = everything[~selects], everything[selects]
        found = Findings()
        if len(ends):
            found += _scaling(ends)
        if len(chosen):
            found += _selecting(chosen)
        return found


def _selects(table: pd.DataFrame) -> pd.Series:
    """Which rows are of a selector."""
    return table["gate"].map(lambda name: GATES[name].selects).astype(bool)


def _scaling(ends: pd.DataFrame) -> Findings:
    """Findings on gates that scale prompts."""
    ratio = ends.assign(ratio=ends["information_last"] / ends["information_first"])
    return Findings(
        [
            judge(
                "an untrained gate is nearly constant already",
                per_seed(ends, "information_first"),
                "<",
                0.01,
                name="input information before training",
            ),
            judge(
                "after training the gate is nearly constant",
                per_seed(ends, "information_last"),
                "<",
                0.01,
                name="input information after training",
            ),
            judge(
                "training itself takes at least half of the input information away",
                per_seed(ratio, "ratio"),
                "<",
                0.5,
                name="input information after / before",
            ),
            judge(
                "gates saturate",
                per_seed(ends, "saturation_last"),
                ">",
                0.1,
                name="share of saturated values",
            ),
            judge(
                "what little variation there is follows the classes (at least half of it)",
                per_seed(ends, "class_share_last"),
                ">",
                0.5,
                name="class share",
            ),
        ]
    )


def _selecting(ends: pd.DataFrame) -> Findings:
    """Findings on selectors: how much of the pool they use, and whether the picture decides."""
    hard = ends[ends["gate"].isin(["top_k", "gumbel"])]
    found = Findings()
    if len(hard):
        found += [
            judge(
                "hard selection uses no more than half of the pool, before training already",
                per_seed(hard, "used_first"),
                "<",
                POOL / 2,
                name="entries in use",
            ),
            judge(
                "and after training",
                per_seed(hard, "used_last"),
                "<",
                POOL / 2,
                name="entries in use",
            ),
        ]
    found.append(
        judge(
            "selection hardly depends on the picture",
            per_seed(ends, "information_last"),
            "<",
            0.05,
            name="I(X; G) / log E after training",
        )
    )
    return found
