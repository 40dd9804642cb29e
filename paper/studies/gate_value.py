"""Does a gate adapt? Accuracy with the trained gate against the gate held still, shuffled, blind, or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import pandas as pd

from lib import results
from lib.checks import ParameterError
from lib.prompts import photographs, tasks
from lib.prompts.gates import BLIND
from lib.results import Cell
from lib.verdicts import Claim, Findings
from paper.criteria import prompts as criteria
from paper.studies import roles
from paper.studies.base import Compared, Result
from paper.studies.gating import Count, GateStudy, Positive, Steps, TaskNames, assembled, per_seed, scored
from paper.studies.parameters import Numbers, Some
from paper.studies.worth import KEYS, advantages, beside, differences, verdicts

#: What the control and the trainings with fewer pictures compare: a gate, one that sees another picture, and none.
COMPARED_GATES = ("length", "shuffled", "none")


class GateValue(GateStudy):
    """The bars that decide, on ordinary tasks and on the conflict task.

    The conflict task is the control that must come out adaptive: no fixed prompt can be right on more than half
    of its pictures. It is trained with CoOp and a length gate, with Adam at ``control_rate`` for
    ``control_steps`` steps of ``control_batch`` pictures, and once more with the recipe of the ordinary tasks. Of
    :data:`COMPARED_GATES` those in ``control_gates`` are trained for it, the length gate always.

    Beside the learner without a gate stands one with as many parameters that cannot adapt: its gate sees another
    picture, in training and in the test (variant "blind"). ``few_tasks`` are trained with every number of
    pictures per class in ``few_shots``, with CoOp and a length gate.

    Tables: ``accuracy`` (learner, gate, task, seed, recipe, variant, accuracy in per cent), ``verdicts`` (per
    learner, gate, task, recipe), ``few`` (task, shots, seed: the advantage of the gate over its mean, over no gate and
    over a blind one, in points), ``zero_shot`` (task, seed, accuracy of the hand-written sentence in per cent).
    """

    task: TaskNames = ("mis_specified",)
    control_steps: Steps = 300
    control_batch: Count = 8
    control_rate: Positive = 0.01
    control_gates: Annotated[tuple[str, ...], Some(COMPARED_GATES, ordered=True)] = ("length",)
    few_shots: Annotated[tuple[int, ...], Numbers(1, tasks.POOL, whole=True)] = (1,)
    few_tasks: Annotated[tuple[str, ...], Some(lambda: (*tasks.TASKS, *photographs.TASKS))] = ("coarse",)

    PARTS: ClassVar[tuple[str, ...]] = (*GateStudy.PARTS, "control_gates", "few_shots", "few_tasks")
    TASKS: ClassVar[tuple[str, ...]] = ("task", "few_tasks")
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
        """Every training with the name of its recipe: "short", "control", "few" (pictures), "zero-shot"."""
        tried = dict.fromkeys((*self.task, "conflict"))
        found = [("zero-shot", self.cell("zero_shot", "none", task, strength=1.0)) for task in tried]
        for learner, kind in self.pairs():
            for gate in (kind, BLIND.get(kind, "none"), "none"):
                own = [self.cell(learner, gate, task) for task in self.task]
                # The trainings of gates are looked at on other pages.
                found += [("short", cell if gate == kind else scored(cell)) for cell in own]
        control = self.recipe(
            steps=self.control_steps, batch=self.control_batch, rate=self.control_rate, optimiser="adam", warmup=0.0
        )
        for name, recipe, compared in (
            ("short", self.recipe(), () if "conflict" in self.task else COMPARED_GATES),
            ("control", control, self.control_gates),
        ):
            own = [self.cell("coop", gate, "conflict", recipe=recipe, strength=1.0) for gate in compared]
            found += [
                (name, cell if name == "short" and gate == "length" else scored(cell))
                for gate, cell in zip(compared, own, strict=True)
            ]
        own = [
            self.cell("coop", gate, task, shots=shots)
            for task in self.few_tasks
            for shots in self.few_shots
            for gate in COMPARED_GATES
        ]
        known = {cell for _, cell in found}
        found += [("few", cell if cell in known else scored(cell)) for cell in own]
        return list(dict.fromkeys(found))

    def cells(self) -> list[Cell]:
        """Every training once."""
        return list(dict.fromkeys(cell for _, cell in self.trainings()))

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        final = beside(assembled(found, self.trainings()).accuracy.rename(columns={"label": "recipe"}))
        accuracy = final[final["recipe"].isin(["short", "control"])].reset_index(drop=True)
        few = advantages(final[final["recipe"] == "few"], ["task", "shots", "seed"])
        zero = final[final["recipe"] == "zero-shot"][["task", "seed", "accuracy"]].reset_index(drop=True)
        tables = {"accuracy": accuracy, "verdicts": verdicts(accuracy), "few": few, "zero_shot": zero}
        worth = differences(accuracy)
        return tables, Findings.of([*_ordinary(worth), *_few(few), *_conflict(worth)], holm=True)

    def answer(self, result: Result) -> str:
        """The page in three sentences, with its measured numbers (Markdown)."""
        worth = differences(result.table)
        ordinary = worth[~worth["task"].isin(roles.GRADED)]
        control = worth[worth["recipe"] == "control"]
        short = worth[(worth["task"] == "conflict") & (worth["recipe"] == "short")]
        said = []

        def mean(part: pd.DataFrame, column: str) -> str:
            """One decimal, and never "-0.0"."""
            return f"{round(part[column].mean(), 1) + 0.0:.1f}".replace("-", "−")

        if (count := ordinary["task"].nunique()) and ordinary["over_mean"].notna().any():
            said.append(
                f"On {count} ordinary task{'s' if count > 1 else ''}, trained by the short recipe, holding the gate"
                f" still costs {mean(ordinary, 'over_mean')} percentage points, shuffling it"
                f" {mean(ordinary, 'over_shuffled')}; the gated learner is {mean(ordinary, 'over_fixed')} points ahead"
                " of the learner without a gate."
            )
        if short["over_mean"].notna().any():
            said.append(
                "On a task built so that the right prompt depends on the picture, a gate trained with the same short"
                f" recipe is worth {mean(short, 'over_mean')} points over its mean;"
            )
        if control["over_mean"].notna().any():
            ahead = f", and {mean(control, 'over_fixed')} over no gate" if "none" in self.control_gates else ""
            said.append(
                f"trained for {self.control_steps} steps with Adam, {mean(control, 'over_mean')} over its mean{ahead}."
            )
        return " ".join(said)


def _claim(what: str, text: str, samples: Sequence[float], relation: Any, threshold: float) -> Claim:
    return Claim(
        f"gate_value.{what}", text, samples, relation, threshold, "gate_value", unit="points", rare=criteria.RARE
    )


def _ordinary(differences: pd.DataFrame) -> list[Claim]:
    """Claims on the tasks that no gate was built for, if there are any."""
    worth = differences[~differences["task"].isin(roles.GRADED)]
    if not len(worth):
        return []
    claims = [
        _claim(
            f"ordinary.over_{variant}",
            f"on ordinary tasks a gate trained by the short recipe is worth less than a point over itself {words}",
            per_seed(worth, f"over_{variant}"),
            "within",
            criteria.NOTHING,
        )
        for variant, words in (("mean", "held at its mean"), ("shuffled", "shuffled between pictures"))
    ]
    for variant, words in (
        ("fixed", "the same learner without a gate"),
        ("blind", "a learner with as many parameters whose gate sees another picture"),
    ):
        column = f"over_{variant}"
        if column not in worth or worth[column].isna().all():
            continue
        samples = per_seed(worth.dropna(subset=[column]), column)
        text = f"on ordinary tasks a learner gated by the short recipe gains nothing over {words}"
        claims.append(_claim(f"ordinary.gain_{variant}", text, samples, "within", criteria.NO_GAIN))
        limit = criteria.WORTHWHILE if variant == "fixed" else criteria.WORTHWHILE_OVER_BLIND
        # A criterion that was changed after its numbers were seen is judged at both values.
        for at in (limit, *([limit.first] if limit.first is not None else [])):
            text = f"on ordinary tasks a learner gated by the short recipe is less than {at:g} points ahead of {words}"
            claims.append(_claim(f"ordinary.{column}.{at:g}", text, samples, "<", at))
    return claims


def _few(few: pd.DataFrame) -> list[Claim]:
    """A claim for every number of pictures per class."""
    return [
        _claim(
            f"few.{shots}",
            f"with {shots} picture{'s' if shots > 1 else ''} per class a gate trained by the short recipe is worth less"
            " than a point over itself held at its mean",
            per_seed(part, "over_mean"),
            "within",
            criteria.NOTHING_WITH_FEW,
        )
        for shots, part in few.groupby("shots")
    ]


def _conflict(differences: pd.DataFrame) -> list[Claim]:
    """Claims on the control, and on its task under the short recipe."""
    conflict = differences[differences["task"] == "conflict"]
    control = conflict[conflict["recipe"] == "control"]
    short = conflict[conflict["recipe"] == "short"]
    return [
        _claim(
            "control.over_mean",
            "control: on the conflict task a gate trained for it loses ten points and more when it is held at its mean",
            per_seed(control, "over_mean"),
            ">",
            criteria.CONTROL,
        ),
        _claim(
            "control.over_shuffled",
            "control: on the conflict task a gate trained for it loses ten points and more when it is shuffled",
            per_seed(control, "over_shuffled"),
            ">",
            criteria.CONTROL,
        ),
        _claim(
            "conflict.short",
            "on the conflict task a gate trained by the short recipe is worth less than two points over itself held at"
            " its mean",
            per_seed(short, "over_mean"),
            "<",
            criteria.ADAPTIVE,
        ),
    ]
