"""Does a gate adapt? Accuracy with the trained gate against the gate held still, shuffled, or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from lib import checks
from lib.prompts import tasks
from lib.results import provenance
from lib.runtime import resolve_device
from lib.verdicts import Findings, Verdict, judge
from paper.studies.base import Result
from paper.studies.gating import Bench, GateStudy, per_seed

ADAPTIVE = 2.0
"""Percentage points by which a gate must beat its own mean and its own shuffle to be called adaptive."""
WORTHWHILE = 5.0
"""Percentage points by which a gated learner must beat the ungated one for the gate to be worth its parameters."""
NOTHING = 1.0
"""Percentage points below which a gate's advantage counts as nothing."""


@dataclass(frozen=True, kw_only=True)
class GateValue(GateStudy):
    """The four bars that decide, on ordinary tasks and on the conflict task.

    The conflict task is the control that must come out adaptive: no fixed prompt can be right on more than half
    of its pictures. It is trained with CoOp and a length gate, with Adam at ``control_rate`` for
    ``control_steps`` steps of ``control_batch`` pictures, and once more with the recipe of the ordinary tasks.

    Beside the learner without a gate stands one with as many parameters as the length gate that cannot adapt: its gate
    sees another picture, in training and in the test (variant "blind"). ``few_tasks`` are trained with every number of
    pictures per class in ``few_shots``, with CoOp and a length gate.

    Tables: ``accuracy`` (learner, gate, task, seed, recipe, variant, accuracy in per cent), ``verdicts`` (per
    learner, gate, task, recipe), ``few`` (task, shots, seed: the advantage of the gate over its mean, over no gate and
    over a blind one, in points).
    """

    control_steps: int = 300
    control_batch: int = 8
    control_rate: float = 0.01
    few_shots: object = (1, 2, 4, 8, 16)
    few_tasks: str | Sequence[str] = "coarse"

    def check(self) -> None:
        super().check()
        checks.integer("control_steps", self.control_steps, 1)
        checks.integer("control_batch", self.control_batch, 1)
        checks.number("control_rate", self.control_rate, above=0)
        few = tuple(int(count) for count in checks.numbers("few_shots", self.few_shots, 1, tasks.POOL))
        object.__setattr__(self, "few_shots", few)
        object.__setattr__(self, "few_tasks", checks.choices("few_tasks", self.few_tasks, tasks.TASKS))

    KEYS = ("learner", "gate", "task", "recipe", "variant")
    # Seeds differ by up to nine points: three standard errors of five seeds against ten.
    TOLERANCES = {"accuracy": 15.0}

    def run(self) -> Result:
        bench = Bench(self, self.store())
        cells = [replace(cell, label="published") for cell in self.cells()]
        cells += [
            self.cell(name, gate, task, label="published")
            for name in self.learner
            for gate in (("none", "shuffled") if "length" in self.gate and name != "pool" else ("none",))
            for task in self.task
        ]
        control = self.recipe(
            steps=self.control_steps,
            batch=self.control_batch,
            rate=self.control_rate,
            optimiser="adam",
            warmup=0.0,
        )
        for recipe, name in ((self.recipe(), "published"), (control, "control")):
            if name == "control" or "conflict" not in self.task:
                both = {"recipe": recipe, "strength": 1.0, "label": name}
                cells += [self.cell("coop", gate, "conflict", **both) for gate in ("length", "shuffled", "none")]
        few = [
            self.cell("coop", gate, task, shots=shots, label="few")
            for task in self.few_tasks
            for shots in self.few_shots
            for gate in ("length", "shuffled", "none")
        ]
        final = _blind(bench.run([*cells, *few]).final.rename(columns={"label": "recipe"}))
        accuracy = final[final["recipe"] != "few"].reset_index(drop=True)
        few = final[final["recipe"] == "few"].reset_index(drop=True)
        verdicts = self.verdicts(accuracy)
        return Result(
            {"accuracy": accuracy, "verdicts": verdicts, "few": self.advantages(few, ["task", "shots", "seed"])},
            self._findings(accuracy, few),
            provenance(resolve_device(self.device), list(range(self.seeds)), bench.store.seconds),
        )

    def answer(self, result: Result) -> str:
        """The page in three sentences, with its measured numbers (Markdown)."""
        differences = self.differences(result.table)
        ordinary = differences[~differences["task"].isin(tasks.GRADED)]
        control = differences[differences["recipe"] == "control"]
        short = differences[(differences["task"] == "conflict") & (differences["recipe"] == "published")]
        said = []

        def mean(part: pd.DataFrame, column: str) -> str:
            """One decimal, and never "-0.0"."""
            return f"{round(part[column].mean(), 1) + 0.0:.1f}"

        if len(ordinary):
            said.append(
                f"On {ordinary['task'].nunique()} ordinary tasks, holding the gate at its mean costs"
                f" {mean(ordinary, 'over_mean')} percentage points, shuffling it between pictures"
                f" {mean(ordinary, 'over_shuffled')}."
            )
        if len(short):
            said.append(
                "On a task built so that the right prompt depends on the picture, a gate trained with the"
                f" same short recipe is worth {mean(short, 'over_mean')} points over its mean;"
            )
        said.append(f"trained for {self.control_steps} steps with Adam, {mean(control, 'over_mean')}.")
        return " ".join(said)

    @classmethod
    def differences(cls, accuracy: pd.DataFrame) -> pd.DataFrame:
        """Gated minus mean, shuffled, fixed, blind, in percentage points, per learner, gate, task, recipe, seed."""
        gates = [gate for gate in accuracy["gate"].unique() if gate != "none"]
        # The learner without a gate is compared with each of the gates.
        plain = [accuracy[accuracy["gate"] == "none"].assign(gate=gate) for gate in gates]
        rows = pd.concat([accuracy[accuracy["gate"] != "none"], *plain])
        return cls.advantages(rows, ["learner", "gate", "task", "recipe", "seed"]).dropna(subset=["over_mean"])

    @staticmethod
    def advantages(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
        """The gate as trained less each other variant, in percentage points, paired within ``keys``."""
        wide = rows.pivot_table(index=keys, columns="variant", values="accuracy")
        others = [name for name in ("mean", "shuffled", "fixed", "blind") if name in wide]
        return pd.DataFrame({f"over_{name}": wide["gated"] - wide[name] for name in others}).reset_index()

    @classmethod
    def verdicts(cls, accuracy: pd.DataFrame) -> pd.DataFrame:
        """One verdict per learner, gate, task, recipe, from the paired differences over seeds.

        For real data under base_to_new also the gated learner's accuracy on new classes and the harmonic mean.
        """
        rows = []
        for key, part in cls.differences(accuracy).groupby(["learner", "gate", "task", "recipe"]):
            verdict = cls.verdict(part)
            named = dict(zip(["learner", "gate", "task", "recipe"], key, strict=True))
            same = (accuracy[[*named, "variant"]] == pd.Series(named | {"variant": "gated"})).all(axis=1)
            # Under base_to_new there are accuracies on the new classes too.
            beyond = {name: accuracy.loc[same, name].mean() for name in ("new", "harmonic") if name in accuracy}
            means = {name: part[name].mean() for name in part if name.startswith("over_")}
            rows.append(named | means | beyond | {"verdict": verdict.name, "advice": verdict.advice})
        return pd.DataFrame(rows)

    @staticmethod
    def verdict(part: pd.DataFrame) -> Verdict:
        """Adaptive, not adaptive or inconclusive, for one cell's seeds."""
        tests = {
            name: judge(f"the gate beats itself {name}", part[f"over_{name}"].tolist(), ">", ADAPTIVE)
            for name in ("mean", "shuffled")
        }
        reasons = tuple(str(finding) for finding in tests.values())
        if all(finding.outcome == "holds" for finding in tests.values()):
            return Verdict("adaptive", reasons, "keep the gate")
        small = judge("the advantage over the mean gate is next to nothing", part["over_mean"].tolist(), "<", NOTHING)
        if small.outcome == "holds":
            return Verdict("not adaptive", (*reasons, str(small)), "a constant would do: drop the gate or train longer")
        return Verdict("inconclusive", reasons, "more seeds or more test pictures")

    @classmethod
    def _findings(cls, accuracy: pd.DataFrame, few: pd.DataFrame) -> Findings:
        differences = cls.differences(accuracy)
        ordinary = differences[~differences["task"].isin(tasks.GRADED)]
        conflict = differences[differences["task"] == "conflict"]
        control = conflict[conflict["recipe"] == "control"]
        published = conflict[conflict["recipe"] == "published"]
        found = []
        if len(ordinary):
            found += [
                judge(
                    "on ordinary tasks the trained gate is worth less than a point over its own mean",
                    per_seed(ordinary, "over_mean"),
                    "<",
                    NOTHING,
                    unit="points",
                ),
                judge(
                    "on ordinary tasks the trained gate is worth less than a point over a shuffled one",
                    per_seed(ordinary, "over_shuffled"),
                    "<",
                    NOTHING,
                    unit="points",
                ),
                judge(
                    "on ordinary tasks a gated learner does not beat the same learner without a gate by five points",
                    per_seed(ordinary, "over_fixed"),
                    "<",
                    WORTHWHILE,
                    unit="points",
                ),
            ]
            if "over_blind" in ordinary and ordinary["over_blind"].notna().any():
                found.append(
                    judge(
                        "nor one with as many parameters whose gate sees another picture",
                        per_seed(ordinary.dropna(subset=["over_blind"]), "over_blind"),
                        "<",
                        WORTHWHILE,
                        unit="points",
                    )
                )
        for shots, part in few.groupby("shots"):
            found.append(
                judge(
                    f"with {shots} pictures per class the trained gate is worth less than a point over its own mean",
                    per_seed(cls.advantages(part, ["task", "seed"]), "over_mean"),
                    "<",
                    NOTHING,
                    unit="points",
                )
            )
        found += [
            judge(
                "control: on the conflict task, trained for it, the gate is adaptive",
                per_seed(control, "over_mean"),
                ">",
                10,
                unit="points",
            ),
            judge(
                "control: there a shuffled gate destroys the solution",
                per_seed(control, "over_shuffled"),
                ">",
                10,
                unit="points",
            ),
            judge(
                "on the same conflict task the short published recipe leaves the gate useless",
                per_seed(published, "over_mean"),
                "<",
                ADAPTIVE,
                unit="points",
            ),
        ]
        return Findings(found)


def _blind(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The gate that sees another picture becomes a variant of the length gate: equal parameters, nothing to see."""
    blind = (accuracy["gate"] == "shuffled") & (accuracy["variant"] == "gated")
    kept = accuracy[(accuracy["gate"] != "shuffled") | blind].copy()
    kept.loc[kept["gate"] == "shuffled", "variant"] = "blind"
    kept.loc[kept["gate"] == "shuffled", "gate"] = "length"
    return kept
