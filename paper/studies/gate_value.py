"""Does a gate adapt? Accuracy with the trained gate against the gate held still, shuffled, or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import pandas as pd

from lib import results
from lib.checks import ParameterError
from lib.prompts import tasks
from lib.results import Cell
from lib.verdicts import Claim, Finding, Findings, Outcome, Verdict
from paper.criteria import prompts as criteria
from paper.studies.base import Compared, Result, pivoted
from paper.studies.gating import Count, GateStudy, Positive, Steps, TaskNames, assembled, per_seed
from paper.studies.parameters import Numbers, Some

KEYS = ["learner", "gate", "task", "recipe"]

#: What the control and the trainings with fewer pictures compare: a gate, one that sees another picture, and none.
COMPARED_GATES = ("length", "shuffled", "none")


class GateValue(GateStudy):
    """The four bars that decide, on ordinary tasks and on the conflict task.

    The conflict task is the control that must come out adaptive: no fixed prompt can be right on more than half
    of its pictures. It is trained with CoOp and a length gate, with Adam at ``control_rate`` for
    ``control_steps`` steps of ``control_batch`` pictures, and once more with the recipe of the ordinary tasks. Of
    :data:`COMPARED_GATES` those in ``control_gates`` are trained for it, the length gate always.

    Beside the learner without a gate stands one with as many parameters as the length gate that cannot adapt: its gate
    sees another picture, in training and in the test (variant "blind"). ``few_tasks`` are trained with every number of
    pictures per class in ``few_shots``, with CoOp and a length gate.

    Tables: ``accuracy`` (learner, gate, task, seed, recipe, variant, accuracy in per cent), ``verdicts`` (per
    learner, gate, task, recipe), ``few`` (task, shots, seed: the advantage of the gate over its mean, over no gate and
    over a blind one, in points).
    """

    task: TaskNames = ("mis_specified",)
    control_steps: Steps = 300
    control_batch: Count = 8
    control_rate: Positive = 0.01
    control_gates: Annotated[tuple[str, ...], Some(COMPARED_GATES, ordered=True)] = ("length",)
    few_shots: Annotated[tuple[int, ...], Numbers(1, tasks.POOL, whole=True)] = (1,)
    few_tasks: Annotated[tuple[str, ...], Some(tasks.TASKS)] = ("coarse",)

    PARTS: ClassVar[tuple[str, ...]] = (*GateStudy.PARTS, "control_gates", "few_shots", "few_tasks")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "accuracy": Compared((*KEYS, "variant"), {"accuracy": 1.0}),
        "few": Compared(("task", "shots"), {"over_mean": 1.0}),
    }

    def check(self) -> None:
        """Refuses what cannot be trained or compared, before anything is loaded."""
        super().check()
        self.step_fits("control_batch")
        if "length" not in self.control_gates:
            raise ParameterError(f"control_gates must include length, but {', '.join(self.control_gates)!r} was given.")

    def trainings(self) -> list[tuple[str, Cell]]:
        """Every training with the name of its recipe: "published", "control", "few" (pictures)."""
        found = [("published", cell) for cell in self.gated()]
        for learner in self.learner:
            beside = ("none", "shuffled") if "length" in self.gate and learner != "pool" else ("none",)
            found += [("published", self.cell(learner, gate, task)) for gate in beside for task in self.task]
        control = self.recipe(
            steps=self.control_steps, batch=self.control_batch, rate=self.control_rate, optimiser="adam", warmup=0.0
        )
        for name, recipe, compared in (
            ("published", self.recipe(), () if "conflict" in self.task else COMPARED_GATES),
            ("control", control, self.control_gates),
        ):
            found += [(name, self.cell("coop", gate, "conflict", recipe=recipe, strength=1.0)) for gate in compared]
        found += [
            ("few", self.cell("coop", gate, task, shots=shots))
            for task in self.few_tasks
            for shots in self.few_shots
            for gate in COMPARED_GATES
        ]
        return list(dict.fromkeys(found))

    def cells(self) -> list[Cell]:
        """Every training once."""
        return list(dict.fromkeys(cell for _, cell in self.trainings()))

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        final = _blind(assembled(found, self.trainings()).accuracy.rename(columns={"label": "recipe"}))
        accuracy = final[final["recipe"] != "few"].reset_index(drop=True)
        few = advantages(final[final["recipe"] == "few"], ["task", "shots", "seed"])
        tables = {"accuracy": accuracy, "verdicts": verdicts(accuracy), "few": few}
        worth = differences(accuracy)
        return tables, Findings.of([*_ordinary(worth), *_few(few), *_conflict(worth)])

    def answer(self, result: Result) -> str:
        """The page in three sentences, with its measured numbers (Markdown)."""
        worth = differences(result.table)
        ordinary = worth[~worth["task"].isin(tasks.GRADED)]
        control = worth[worth["recipe"] == "control"]
        short = worth[(worth["task"] == "conflict") & (worth["recipe"] == "published")]
        said = []

        def mean(part: pd.DataFrame, column: str) -> str:
            """One decimal, and never "-0.0"."""
            return f"{round(part[column].mean(), 1) + 0.0:.1f}"

        if (count := ordinary["task"].nunique()) and ordinary["over_mean"].notna().any():
            said.append(
                f"On {count} ordinary task{'s' if count > 1 else ''}, holding the gate at its mean costs"
                f" {mean(ordinary, 'over_mean')} percentage points, shuffling it between pictures"
                f" {mean(ordinary, 'over_shuffled')}."
            )
        if short["over_mean"].notna().any():
            said.append(
                "On a task built so that the right prompt depends on the picture, a gate trained with the"
                f" same short recipe is worth {mean(short, 'over_mean')} points over its mean;"
            )
        if control["over_mean"].notna().any():
            said.append(f"trained for {self.control_steps} steps with Adam, {mean(control, 'over_mean')}.")
        return " ".join(said)


def differences(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Gated minus mean, shuffled, fixed, blind, in percentage points, per learner, gate, task, recipe, seed."""
    gates = [gate for gate in accuracy["gate"].unique() if gate != "none"]
    # The learner without a gate is compared with each of the gates.
    plain = [accuracy[accuracy["gate"] == "none"].assign(gate=gate) for gate in gates]
    rows = pd.concat([accuracy[accuracy["gate"] != "none"], *plain])
    found = advantages(rows, [*KEYS, "seed"])
    # Not every learner has every gate.
    there = pd.MultiIndex.from_frame(accuracy.loc[accuracy["variant"] == "gated", KEYS])
    return found[pd.MultiIndex.from_frame(found[KEYS]).isin(there)]


def advantages(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The gate as trained less each other variant, in percentage points, paired within ``keys``."""
    means = pivoted(rows, keys, "variant", "accuracy")
    others = [name for name in ("mean", "shuffled", "fixed", "blind") if name in means]
    return pd.DataFrame({f"over_{name}": means["gated"] - means[name] for name in others}).reset_index()


def verdicts(accuracy: pd.DataFrame) -> pd.DataFrame:
    """One verdict per learner, gate, task, recipe, from the paired differences over seeds.

    For real data under base_to_new also the gated learner's accuracy on new classes and the harmonic mean.
    """
    rows = []
    for key, part in differences(accuracy).groupby(KEYS):
        found = verdict(part)
        named = dict(zip(KEYS, key, strict=True))
        same = (accuracy[[*KEYS, "variant"]] == pd.Series(named | {"variant": "gated"})).all(axis=1)
        # Under base_to_new there are accuracies on the new classes too.
        beyond = {name: accuracy.loc[same, name].mean() for name in ("new", "harmonic") if name in accuracy}
        means = {name: part[name].mean() for name in part if name.startswith("over_")}
        rows.append(named | means | beyond | {"verdict": found.name, "advice": found.advice})
    return pd.DataFrame(rows)


def verdict(part: pd.DataFrame) -> Verdict:
    """Is the gate of one cell adaptive? Decided as findings are, by the intervals over its seeds.

    Adaptive if it beats both its mean and its shuffle, not adaptive if it fails to beat one of them, else inconclusive.
    """
    tests = [_beats(part, name, criteria.ADAPTIVE, ">") for name in ("mean", "shuffled")]
    reasons = tuple(str(finding) for finding in tests)
    outcomes = [finding.outcome for finding in tests]
    if all(outcome is Outcome.HOLDS for outcome in outcomes):
        return Verdict("adaptive", reasons, "keep the gate")
    if Outcome.DOES_NOT_HOLD not in outcomes:
        return Verdict("inconclusive", reasons, "more seeds or more test pictures")
    nothing = _beats(part, "mean", criteria.NOTHING, "<")
    if nothing.outcome is Outcome.HOLDS:
        return Verdict("not adaptive", (*reasons, str(nothing)), "a constant would do: drop the gate or train longer")
    return Verdict("not adaptive", reasons, "it is worth little: train longer or drop the gate")


def _beats(part: pd.DataFrame, variant: str, threshold: float, relation: Any) -> Finding:
    samples = part[f"over_{variant}"].tolist()
    text = f"the gate beats itself {'at its mean' if variant == 'mean' else 'shuffled'}"
    return Claim("", text, samples, relation, threshold, "", unit="points").judged()


def _claim(what: str, text: str, samples: Sequence[float], relation: Any, threshold: float) -> Claim:
    return Claim(f"gate_value.{what}", text, samples, relation, threshold, "gate_value", unit="points")


def _ordinary(differences: pd.DataFrame) -> list[Claim]:
    """Claims on the tasks that no gate was built for, if there are any."""
    worth = differences[~differences["task"].isin(tasks.GRADED)]
    if not len(worth):
        return []
    claims = [
        _claim(
            "ordinary.over_mean",
            "on ordinary tasks the trained gate is worth less than a point over its own mean",
            per_seed(worth, "over_mean"),
            "<",
            criteria.NOTHING,
        ),
        _claim(
            "ordinary.over_shuffled",
            "on ordinary tasks the trained gate is worth less than a point over a shuffled one",
            per_seed(worth, "over_shuffled"),
            "<",
            criteria.NOTHING,
        ),
        _claim(
            "ordinary.over_fixed",
            "on ordinary tasks a gated learner does not beat the same learner without a gate by five points",
            per_seed(worth, "over_fixed"),
            "<",
            criteria.WORTHWHILE,
        ),
    ]
    if "over_blind" in worth and worth["over_blind"].notna().any():
        claims.append(
            _claim(
                "ordinary.over_blind",
                "on ordinary tasks a gated learner does not beat, by five points, one with as many parameters whose"
                " gate sees another picture",
                per_seed(worth.dropna(subset=["over_blind"]), "over_blind"),
                "<",
                criteria.WORTHWHILE_OVER_BLIND,
            )
        )
    return claims


def _few(few: pd.DataFrame) -> list[Claim]:
    """A claim for every number of pictures per class."""
    return [
        _claim(
            f"few.{shots}",
            f"with {shots} picture{'s' if shots > 1 else ''} per class the trained gate is worth less than a point over"
            " its own mean",
            per_seed(part, "over_mean"),
            "<",
            criteria.NOTHING_WITH_FEW,
        )
        for shots, part in few.groupby("shots")
    ]


def _conflict(differences: pd.DataFrame) -> list[Claim]:
    """Claims on the control, and on its task under the published recipe."""
    conflict = differences[differences["task"] == "conflict"]
    control = conflict[conflict["recipe"] == "control"]
    published = conflict[conflict["recipe"] == "published"]
    return [
        _claim(
            "control.over_mean",
            "control: on the conflict task, trained for it, the gate is adaptive",
            per_seed(control, "over_mean"),
            ">",
            criteria.CONTROL,
        ),
        _claim(
            "control.over_shuffled",
            "control: on the conflict task, trained for it, a shuffled gate destroys the solution",
            per_seed(control, "over_shuffled"),
            ">",
            criteria.CONTROL,
        ),
        _claim(
            "conflict.published",
            "on the same conflict task the short published recipe leaves the gate useless",
            per_seed(published, "over_mean"),
            "<",
            criteria.ADAPTIVE,
        ),
    ]


def _blind(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The gate that sees another picture becomes a variant of the length gate: equal parameters, nothing to see."""
    blind = (accuracy["gate"] == "shuffled") & (accuracy["variant"] == "gated")
    kept = accuracy[(accuracy["gate"] != "shuffled") | blind].copy()
    kept.loc[kept["gate"] == "shuffled", "variant"] = "blind"
    kept.loc[kept["gate"] == "shuffled", "gate"] = "length"
    return kept
