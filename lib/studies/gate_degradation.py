"""Does a gate become constant, or is it constant from the start?"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lib.results import provenance
from lib.runtime import resolve_device
from lib.studies.base import Result
from lib.studies.gating import KEYS, Bench, GateStudy, per_seed
from lib.verdicts import Findings, judge


@dataclass(frozen=True, kw_only=True)
class GateDegradation(GateStudy):
    """How much gates depend on their input, along training.

    Table ``gates``: a row per learner, gate, task, seed, recorded step with the statistics of
    :func:`lib.prompts.diagnosis.gate_statistics` on test pictures. Table ``ends``: first and last step side by
    side.
    """

    KEYS = ("learner", "gate", "task", "step")
    TOLERANCES = {"information": 1e-4, "spread": 0.001, "saturation": 0.02}

    def run(self) -> Result:
        store = self.store()
        gates = Bench(self, store).run(self.cells()).moving
        first = gates.loc[gates.groupby(KEYS)["step"].idxmin()].set_index(KEYS)
        last = gates.loc[gates.groupby(KEYS)["step"].idxmax()].set_index(KEYS)
        names = ["information", "spread", "saturation", "class_share", "mean"]
        ends = first[names].add_suffix("_first").join(last[names].add_suffix("_last")).reset_index()
        return Result(
            {"gates": gates, "ends": ends},
            self._findings(ends),
            provenance(resolve_device(self.device), list(range(self.seeds)), store.seconds),
        )

    @staticmethod
    def _findings(ends: pd.DataFrame) -> Findings:
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
