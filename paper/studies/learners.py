"""What the prompt learners are, how much each learns, and how far each gets without a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lib.prompts import learners
from lib.results import provenance
from lib.runtime import resolve_device
from lib.verdicts import Findings, judge
from paper.studies.base import Result
from paper.studies.gating import Bench, PromptStudy


@dataclass(frozen=True, kw_only=True)
class Learners(PromptStudy):
    """Every learner without a gate, by the same recipe, beside the hand-written sentence.

    Tables: ``accuracy`` (learner, task, seed, accuracy in per cent, steps) and ``designs`` (learner, about,
    parameters).
    """

    task: str | Sequence[str] = "fine,mis_specified"
    learner: str | Sequence[str] = ",".join(learners.LEARNERS)
    seeds: int = 5

    KEYS = ("learner", "task")
    # Seeds differ by up to nine points: three standard errors of five seeds against ten.
    TOLERANCES = {"accuracy": 15.0}

    def run(self) -> Result:
        bench = Bench(self, self.store())
        accuracy = bench.run([self.cell(name, "none", task) for name in self.learner for task in self.task]).final
        designs = self.designs(bench)
        return Result(
            {"accuracy": accuracy, "designs": designs},
            self._findings(accuracy, designs),
            provenance(resolve_device(self.device), list(range(self.seeds)), bench.store.seconds),
        )

    def designs(self, bench: Bench) -> pd.DataFrame:
        """What each learner learns on the first task, and in how many parameters."""
        names = self.find(self.task[0])[0].names
        rows = [
            (name, learners.LEARNERS[name].about, self._learner(bench, name, names).table()["parameters"].sum())
            for name in self.learner
        ]
        return pd.DataFrame(rows, columns=["learner", "about", "parameters"])

    def table(self, name: str) -> pd.DataFrame:
        """Every trainable tensor of one learner on this study's backbone: group, tensor, shape, parameters."""
        return self._learner(Bench(self, self.store()), name, self.find(self.task[0])[0].names).table()

    def _learner(self, bench: Bench, name: str, names: Sequence[str]) -> learners.Learner:
        return learners.Learner(name, bench.backbone, names, tokens=self.tokens)

    @staticmethod
    def _findings(accuracy: pd.DataFrame, designs: pd.DataFrame) -> Findings:
        wide = accuracy.pivot_table(index="seed", columns="learner", values="accuracy")
        trained = [name for name in wide.columns if name != "zero_shot"]
        if "zero_shot" not in wide or len(trained) < 3:
            return Findings()
        gain = wide[trained].sub(wide["zero_shot"], axis=0)
        size = designs.set_index("learner")["parameters"].loc[trained]
        sees = [name for name in trained if learners.LEARNERS[name].sees]
        blind = [name for name in trained if name not in sees]
        found = [
            judge(
                "every learner beats the hand-written sentence, in the mean over tasks",
                gain.min(axis=1).tolist(),
                ">",
                0,
                unit="points",
                name="gain of the worst",
            ),
            judge(
                "the number of trainable parameters decides how far a learner gets",
                [float(spearmanr(size, row).statistic) for row in gain.to_numpy()],
                ">",
                0.8,
                name="rank correlation over learners",
            ),
        ]
        if sees and blind:
            found.append(
                judge(
                    "prompts in the vision tower are worth five points more than prompts in the text alone",
                    np.subtract(gain[sees].mean(axis=1), gain[blind].mean(axis=1)).tolist(),
                    ">",
                    5,
                    unit="points",
                    name="mean difference",
                )
            )
        return Findings(found)
