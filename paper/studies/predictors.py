"""Which measurement tells whether a gate will adapt? Gap, spread and the others, early and late, against its worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib import checks
from lib.prompts import tasks
from lib.results import provenance
from lib.runtime import resolve_device
from lib.verdicts import Findings, judge
from paper.prediction import area, balanced, held_out, joint
from paper.studies.base import Result
from paper.studies.gate_value import ADAPTIVE
from paper.studies.gating import Bench, Cell, GateStudy

TELLS = 0.8
"""Area under the ROC curve from which on a measurement counts as telling."""

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
#: Recipes of the cells: one whose gates move and one whose gates stay.
RECIPES: dict[str, dict[str, object]] = {"Adam": {"optimiser": "adam"}, "SGD": {"optimiser": "sgd"}}


@dataclass(frozen=True, kw_only=True)
class Predictors(GateStudy):
    """Measurements on training pictures before, during and after training, against what the gate was worth in the end.

    A gate is a positive if on the test pictures it beats its mean and its shuffle by :data:`ADAPTIVE` points. Every
    learner and gate is trained on every task with both :data:`RECIPES`; graded tasks at full strength, and with Adam at
    half strength too.
    Tables: ``cells`` (a row per training and :data:`WHEN`: measurements, worth, ``adaptive``), ``areas`` (measurement,
    when, area under the ROC curve, and balanced accuracy on held-out learners and tasks of the threshold that is best
    on the others, each with its interval when whole cells are drawn again), ``worth`` (positives per cell).
    """

    task: str | Sequence[str] = "conflict,conflict_size,mis_specified"
    gate: str | Sequence[str] = "length"
    seeds: int = 5
    steps: int = 240

    KEYS = ("measurement", "when")
    TOLERANCES = {"area": 0.2}
    SETTLED = ("after training, the input information", "after training, the training loss with the gate at its mean")

    def check(self) -> None:
        super().check()
        checks.integer("steps", self.steps, 8)
        if not set(self.task) & set(tasks.GRADED):
            raise checks.ParameterError(
                f"task must include one of {', '.join(tasks.GRADED)} (nothing else gives a gate something to gain),"
                f" but {', '.join(self.task)!r} was given."
            )

    def trainings(self) -> list[Cell]:
        """All cells, with the recipe as their label."""
        looks = (0, self.steps // 8, self.steps)
        found = []
        for recipe, changes in RECIPES.items():
            made = self.recipe(warmup=0.0, cosine=False, looks=looks, **changes)
            for cell in self.cells():
                for strength in (0.5, 1.0) if cell.task in tasks.GRADED and recipe == "Adam" else (1.0,):
                    found.append(
                        self.cell(cell.learner, cell.gate, cell.task, recipe=made, strength=strength, label=recipe)
                    )
        return found

    def run(self) -> Result:
        bench = Bench(self, self.store())
        looks = bench.run(self.trainings()).looks
        cells = labelled(looks)
        areas = self.areas(cells)
        worth = cells[cells["when"] == "late"].groupby(["task", "strength", "learner", "gate", "label"], sort=False)
        return Result(
            {
                "cells": cells,
                "areas": areas,
                "worth": worth[["over_mean", "adaptive"]].mean().reset_index(),
            },
            self._findings(cells),
            provenance(resolve_device(self.device), list(range(self.seeds)), bench.store.seconds),
        )

    def summary(self, result: Result) -> pd.DataFrame:
        return result.tables["areas"][[*self.KEYS, *self.TOLERANCES]]

    @staticmethod
    def transfer(areas: pd.DataFrame) -> pd.DataFrame:
        """Balanced accuracy on what was held out, with intervals, in words."""
        table = areas[["measurement", "when"]].copy()
        for held in ("learner", "task"):
            if f"held_{held}" not in areas:
                continue
            columns = areas[[f"held_{held}", f"held_{held}_low", f"held_{held}_high"]].to_numpy()
            table[f"held-out {held}"] = [f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in columns]
        return table

    @staticmethod
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

    @staticmethod
    def _findings(cells: pd.DataFrame) -> Findings:
        found = []

        def tells(claim: str, when: str, score: Callable[[pd.DataFrame], pd.Series]) -> None:
            part = cells[cells["when"] == when]
            both = [own for _, own in part.groupby("seed") if own["adaptive"].nunique() > 1]
            areas = [area(score(own), own["adaptive"]) for own in both]
            found.append(judge(claim, areas, ">", TELLS, name="area under the ROC curve"))

        for when, words in (("before", "before the first step"), ("early", "after an eighth of the steps")):
            for about, score in SCORES.values():
                tells(f"{words}, the {about} tells which gates will adapt", when, score)
        for name in ("gap", "information", "loss_mean"):
            about, score = SCORES[name]
            tells(f"after training, the {about} tells which gates adapt", "late", score)
        return Findings(found)


def labelled(looks: pd.DataFrame) -> pd.DataFrame:
    """Closer looks with ``when``, the worth at the end, and whether that makes the gate adaptive."""
    keys = ["learner", "gate", "task", "strength", "label", "seed"]
    steps = sorted(looks["step"].unique())
    cells = looks.assign(when=looks["step"].map(dict(zip(steps, WHEN, strict=True))))
    end = looks[looks["step"] == steps[-1]].set_index(keys)
    worth = pd.DataFrame(
        {f"over_{name}": end["accuracy_gated"] - end[f"accuracy_{name}"] for name in ("mean", "shuffled")}
    )
    worth["adaptive"] = (worth > ADAPTIVE).all(axis=1)
    return cells.join(worth, on=keys)


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
    """95 % interval of a statistic of rows when whole cells (learner, gate, task, strength, recipe) are drawn again."""
    places = list(part.groupby(["learner", "gate", "task", "strength", "label"]).indices.values())
    generator = np.random.default_rng(0)
    found = [
        statistic(np.concatenate([places[i] for i in generator.integers(len(places), size=len(places))]))
        for _ in range(draws)
    ]
    found = [value for value in found if np.isfinite(value)]
    return tuple(np.quantile(found, [0.025, 0.975])) if found else (np.nan, np.nan)
