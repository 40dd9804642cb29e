"""Which measurement tells whether a gate will adapt? Gap, spread and the others, early and late, against its worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd

from lib import checks, results
from lib.prompts import tasks
from lib.results import Cell
from lib.verdicts import Claim, Findings
from paper.agreement import Quantity
from paper.criteria import prompts as criteria
from paper.prediction import area, balanced, held_out, joint
from paper.studies.base import Compared
from paper.studies.gating import GateNames, GateStudy, LearnerNames, Positive, Seeds, TaskNames, assembled, train
from paper.studies.parameters import POSITIVE, STEPS, Numbers, OneOf, Whole

#: What makes each measurement good, as a number that should be large (a small gap is good). Fixed before any run.
SCORES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "gap": ("magnitude gap", lambda t: -t["gap"]),
    "gap_rms": ("gap per parameter", lambda t: -t["gap_rms"]),
    "spread": ("deviation of the gate over pictures", lambda t: t["spread"]),
    "information": ("input information of the gate", lambda t: t["information"]),
    "snr": ("signal-to-noise ratio of the gate's gradient", lambda t: t["snr"]),
    "loss_mean": ("training loss with the gate at its mean", lambda t: t["loss_mean"]),
    "loss_shuffled": ("training loss with the gate shuffled", lambda t: t["loss_shuffled"]),
}
WHEN = ("before", "early", "late")
"""Before the first step, after an eighth of the steps, after the last."""

#: The gate that sees another picture than its own.
BLIND = "shuffled"

#: What tells a training from another, seeds apart.
TRAINING = ("learner", "gate", "task", "strength", "label")


class Predictors(GateStudy):
    """Measurements on training pictures before, during and after training, against what the gate was worth in the end.

    A gate is a positive if on the test pictures it beats its mean and its shuffle by two points. Every
    learner and gate is trained on every task with both :data:`RECIPES`; graded tasks at full strength, and with Adam at
    half strength too.
    Tables: ``cells`` (a row per training, seed and :data:`WHEN`: measurements, worth, ``adaptive``), ``worth`` (a row
    per training and seed: points over the gate's mean and over its shuffle, ``adaptive``), ``areas`` (measurement,
    when, area under the ROC curve, and balanced accuracy on held-out learners and tasks of the threshold that is best
    on the others, each with its interval when whole trainings are drawn again).
    """

    task: TaskNames = ("conflict",)
    learner: LearnerNames = ("coop",)
    gate: GateNames = ("length",)
    seeds: Seeds = 2
    steps: Annotated[int, Whole(8, STEPS.high)] = 160
    rate: Positive = 0.0035
    optimiser: Annotated[str, OneOf(("sgd", "adam"))] = "adam"
    rates: Annotated[tuple[float, ...], Numbers(POSITIVE.low, POSITIVE.high, ordered=True)] = (1.0, 3.0)
    strengths: Annotated[tuple[float, ...], Numbers(0, 1, ordered=True)] = (1.0,)

    PARTS: ClassVar[tuple[str, ...]] = (*GateStudy.PARTS, "rates", "strengths")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "cells": Compared((*TRAINING, "when"), {"gap": 1e-3, "information": Quantity(scale="log")}),
        # One test picture of 120.
        "worth": Compared(TRAINING, {f"over_{name}": 100 / 120 for name in ("mean", "blind", "fixed")}),
    }

    def check(self) -> None:
        super().check()
        if self.gate != ("length",):
            raise checks.ParameterError(
                f"gate must be length (no other has a blind twin), but {', '.join(self.gate)!r} was given."
            )
        if not set(self.task) & set(tasks.GRADED):
            raise checks.ParameterError(
                f"task must include one of {', '.join(tasks.GRADED)} (nothing else gives a gate something to gain),"
                f" but {', '.join(self.task)!r} was given."
            )

    def labelled(self) -> list[tuple[str, Cell]]:
        """All trainings with the name of their recipe: the gated learner, its blind twin and the learner without."""
        looks = (0, self.steps // 8, self.steps)
        found = []
        for factor in self.rates:
            rate = self.rate * factor
            plain = self.recipe(warmup=0.0, cosine=False, rate=rate)
            recipes = {"length": replace(plain, looks=looks), BLIND: plain, "none": plain}
            for learner in self.learner:
                for task in self.task:
                    for strength in self.strengths if task in tasks.GRADED else (1.0,):
                        for gate, recipe in recipes.items():
                            cell = self.cell(learner, gate, task, recipe=recipe, strength=strength)
                            # The way there is long and not looked at.
                            found.append((f"{rate:.3g}", replace(cell, kind="looked_at", compute=looked_at)))
        return found

    def cells(self) -> list[Cell]:
        """Every learner and task with every recipe, three times: gated, blind and without a gate."""
        return [cell for _, cell in self.labelled()]

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        cells = outcomes(assembled(found, self.labelled()).looks)
        worth = cells[cells["when"] == "late"][[*TRAINING, "seed", "over_mean", "over_shuffled", "adaptive"]]
        tables = {"cells": cells, "areas": areas(cells), "worth": worth.reset_index(drop=True)}
        return tables, Findings.of(claims(cells))


def looked_at(configs: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> list[results.Tables]:
    """Train the cells of one batch as :func:`train` does, and keep "accuracy" and "looks" alone."""
    return [{name: tables[name] for name in ("accuracy", "looks") if name in tables} for tables in train(configs, site)]


def truth(worth: pd.DataFrame, rerun: pd.DataFrame | None = None) -> pd.DataFrame:
    """Points over the gate's mean, and the share of seeds with an adaptive gate, for each training; beside them the
    points that this run has measured, where there is one.
    """
    keys = ["task", "strength", "learner", "gate", "label"]
    table = worth.groupby(keys, sort=False)[["over_mean", "adaptive"]].mean()
    if rerun is not None:
        table["over_mean, this run"] = rerun.groupby(keys)["over_mean"].mean()
    return table.reset_index()


def transfer(areas: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy on what was held out, with intervals, in words."""
    table = areas[["measurement", "when"]].copy()
    for held in ("learner", "task"):
        if f"held_{held}" not in areas:
            continue
        columns = areas[[f"held_{held}", f"held_{held}_low", f"held_{held}_high"]].to_numpy()
        table[f"held-out {held}"] = [f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in columns]
    return table


def areas(cells: pd.DataFrame) -> pd.DataFrame:
    """ROC areas of every measurement and of all together, overall and on what was held out."""
    rows = []
    for when in WHEN:
        part = cells[cells["when"] == when].reset_index(drop=True)
        label = part["adaptive"].to_numpy()
        values = {name: score(part).to_numpy(dtype=float) for name, (_, score) in SCORES.items()}
        together = np.stack(list(values.values()), axis=1)
        for name in (*values, "all together"):
            row: dict[str, object] = {"measurement": name, "when": when}
            for held in ("learner", "task"):
                group = part[held].to_numpy()
                score = joint(together, label, group) if name == "all together" else values[name]
                if part[held].nunique() > 1:
                    said = score > 0.5 if name == "all together" else held_out(score, label, group)
                    row |= _with_interval(part, f"held_{held}", _balanced_of(said, label))
            row |= _with_interval(part, "area", _area_of(score, label))
            rows.append(row)
    return pd.DataFrame(rows)


def telling(when: str, what: str) -> str:
    """The id of the claim that a measurement (of :data:`SCORES`) tells at that time (of :data:`WHEN`)."""
    return f"predictors.{when}.{what}"


def claims(cells: pd.DataFrame) -> list[Claim]:
    """Which measurements tell, before, early and late: areas under the ROC curve of seeds with both outcomes."""

    def tells(when: str, what: str, text: str) -> Claim:
        score: Callable[[pd.DataFrame], pd.Series] = SCORES[what][1]
        part = cells[cells["when"] == when]
        both = [own for _, own in part.groupby("seed") if own["adaptive"].nunique() > 1]
        found = [area(score(own), own["adaptive"]) for own in both]
        family, name = f"predictors.{when}", "area under the ROC curve"
        return Claim(telling(when, what), text, found, ">", criteria.TELLS, family, name=name)

    found = [
        tells(when, what, f"{words}, the {about} tells which gates will adapt")
        for when, words in (("before", "before the first step"), ("early", "after an eighth of the steps"))
        for what, (about, _) in SCORES.items()
    ]
    return found + [
        tells("late", what, f"after training, the {SCORES[what][0]} tells which gates adapt")
        for what in ("gap", "information", "loss_mean")
    ]


def outcomes(looks: pd.DataFrame) -> pd.DataFrame:
    """Closer looks with ``when``, the worth at the end, and whether that makes the gate adaptive."""
    keys = [*TRAINING, "seed"]
    steps = sorted(looks["step"].unique())
    cells = looks.assign(when=looks["step"].map(dict(zip(steps, WHEN, strict=True))))
    end = looks[looks["step"] == steps[-1]].set_index(keys)
    worth = pd.DataFrame(
        {f"over_{name}": end["accuracy_gated"] - end[f"accuracy_{name}"] for name in ("mean", "shuffled")}
    )
    worth["adaptive"] = (worth > criteria.ADAPTIVE).all(axis=1)
    cells = cells.join(worth, on=keys)
    # What has diverged was worth nothing known; where all have, the rows stay and decide nothing.
    known = cells[["over_mean", "over_shuffled"]].notna().all(axis=1)
    return cells[known].reset_index(drop=True) if known.any() else cells


def _area_of(score: np.ndarray, label: np.ndarray) -> Callable[[np.ndarray], float]:
    """The ROC area of chosen rows that have a score."""
    known = np.isfinite(score)
    return lambda rows: area(score[rows][known[rows]], label[rows][known[rows]])


def _balanced_of(said: np.ndarray, label: np.ndarray) -> Callable[[np.ndarray], float]:
    """The balanced accuracy of predictions on chosen rows; nan if these have one outcome only."""
    return lambda rows: balanced(said[rows], label[rows]) if len(set(label[rows])) > 1 else np.nan


def _with_interval(part: pd.DataFrame, name: str, statistic: Callable[[np.ndarray], float]) -> dict[str, float]:
    low, high = resampled(part, statistic)
    return {name: statistic(np.arange(len(part))), f"{name}_low": low, f"{name}_high": high}


def resampled(part: pd.DataFrame, statistic: Callable[[np.ndarray], float], draws: int = 300) -> tuple[float, float]:
    """95 % interval of a statistic of rows when whole trainings (:data:`TRAINING`) are drawn again."""
    places = list(part.groupby(list(TRAINING)).indices.values())
    generator = np.random.default_rng(0)
    found = [
        statistic(np.concatenate([places[i] for i in generator.integers(len(places), size=len(places))]))
        for _ in range(draws)
    ]
    found = [value for value in found if np.isfinite(value)]
    return tuple(np.quantile(found, [0.025, 0.975])) if found else (np.nan, np.nan)
