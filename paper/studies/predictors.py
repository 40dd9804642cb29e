"""Which measurement tells whether a gate will gain anything? Gap, spread and the others against what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import pandas as pd

from lib import checks, results
from lib.prompts import gates
from lib.results import Cell
from lib.verdicts import Claim, Findings, bootstrap
from paper.agreement import Quantity
from paper.criteria import prompts as criteria
from paper.prediction import duels, held_out, joint, nested
from paper.studies import roles, worth
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
#: What costs nothing to know, and what a measurement must beat: a number that all trainings of a recipe share, and the
#: training loss before the first step (much of it: something to gain).
TRIVIAL: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "rate": ("learning rate of the recipe", lambda t: t["label"].astype(float)),
    "loss_start": ("initial training loss", lambda t: t["loss_start"]),
}
TOGETHER, SELECTED = "together", "selected"
"""Rows beside those of single measurements: a logistic regression on all of :data:`SCORES`, and the one of them that
does best on other groups."""
#: What every row of the table of areas is called.
LABELS = {name: about for name, (about, _) in (SCORES | TRIVIAL).items()} | {
    TOGETHER: "all together",
    SELECTED: "selected",
}
WHEN = ("before", "early", "late")
"""Before the first step, after an eighth of the steps, after the last."""

#: What tells a training from another, seeds apart.
TRAINING = ("learner", "gate", "task", "strength", "label")
#: What a gated learner is compared with: itself held at its mean and shuffled, its blind twin, the one without a gate.
OTHERS = ("mean", "shuffled", "blind", "fixed")
#: What is held out, with its column.
HELD = {"task": "task", "learner": "learner", "recipe": "label"}


class Predictors(GateStudy):
    """Measurements on training pictures before, during and after training, against what the gate gained in the end.

    A gate *gains* if on the test pictures its learner beats, by two points each, its blind twin and the learner without
    a gate, all three trained by the same recipe; it *depends* on its picture if it beats its mean and its shuffle by as
    much. The optimiser is the same everywhere; recipes are ``rates``, multiples of ``rate``. Graded tasks are trained
    at all ``strengths``.

    Positives are compared with negatives of the same recipe alone. Tables: ``cells`` (a row per training, seed and
    :data:`WHEN`: measurements, what came of it, ``gains``, ``depends``), ``worth`` (a row per training and seed: points
    over mean, shuffle, blind twin and no gate, ``gains``, ``depends``), ``areas`` (measurement, when; area under the
    ROC curve for gain, ``dependence`` that for dependence; ``held_task``, ``held_learner``, ``held_recipe`` balanced
    accuracy on what was held out; ``..._over_gap`` and ``..._over_loss`` the difference to the magnitude gap and to the
    loss before the first step; each with its interval when whole trainings are drawn again), ``chosen`` (when, held,
    group, and the measurement that nested selection chose without looking at that group).
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
        if not set(self.gate) <= set(gates.BLIND):
            known = ", ".join(gates.BLIND)
            raise checks.ParameterError(
                f"gate must be one with a blind twin ({known}), but {', '.join(self.gate)!r} was given."
            )
        if not set(self.task) & set(graded := roles.graded(self.backbone)):
            raise checks.ParameterError(
                f"task must include one of {', '.join(graded)} (nothing else gives a gate something to gain),"
                f" but {', '.join(self.task)!r} was given."
            )

    def labelled(self) -> list[tuple[str, Cell]]:
        """All trainings with the name of their recipe: the gated learner, its blind twin and the learner without."""
        looks = (0, self.steps // 8, self.steps)
        found = []
        for factor in self.rates:
            rate = self.rate * factor
            plain = self.recipe(warmup=0.0, cosine=False, rate=rate)
            for learner, own in self.pairs():
                recipes = {own: replace(plain, looks=looks), gates.BLIND[own]: plain, "none": plain}
                for task in self.task:
                    for strength in self.strengths if task in roles.GRADED else (1.0,):
                        for gate, recipe in recipes.items():
                            cell = self.cell(learner, gate, task, recipe=recipe, strength=strength)
                            # The way there is long and not looked at.
                            found.append((f"{rate:.3g}", replace(cell, kind="looked_at", compute=looked_at)))
        return found

    def cells(self) -> list[Cell]:
        """Every learner and task with every recipe: gated, blind and without a gate."""
        return list(dict.fromkeys(cell for _, cell in self.labelled()))

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        measured = assembled(found, list(dict.fromkeys(self.labelled())))
        cells = outcomes(measured.looks, measured.accuracy)
        ends = cells[cells["when"] == "late"]
        gained = ends[[*TRAINING, "seed", *(f"over_{name}" for name in OTHERS), "gains", "depends"]]
        table, chosen = areas(cells)
        tables = {"cells": cells, "areas": table, "worth": gained.reset_index(drop=True), "chosen": chosen}
        return tables, Findings.of(claims(table), holm=True)


def looked_at(configs: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> list[results.Tables]:
    """Train the cells of one batch as :func:`train` does, and keep "accuracy" and "looks" alone."""
    return [{name: tables[name] for name in ("accuracy", "looks") if name in tables} for tables in train(configs, site)]


def truth(worth: pd.DataFrame, rerun: pd.DataFrame | None = None) -> pd.DataFrame:
    """Points over the blind twin, no gate, the gate's mean and its shuffle, and the shares of seeds whose gate gains
    and depends, for each training; beside them this run's points over the blind twin, where there is one.
    """
    keys = ["task", "strength", "learner", "gate", "label"]
    columns = ["over_blind", "over_fixed", "over_mean", "over_shuffled", "gains", "depends"]
    table = worth.groupby(keys, sort=False)[columns].mean()
    if rerun is not None:
        table["over_blind, this run"] = rerun.groupby(keys)["over_blind"].mean()
    return table.reset_index()


def transfer(areas: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy on what was held out, with intervals, for reading."""
    held = {f"held-out {name}": f"held_{name}" for name in HELD if f"held_{name}" in areas}
    return _rows(areas, held)


def against_gap(areas: pd.DataFrame) -> pd.DataFrame:
    """How much better than the magnitude gap: differences of ROC areas and of balanced accuracies, for reading."""
    kept = areas[areas["measurement"] != "gap"]
    held = {f"held-out {name}": f"held_{name}_over_gap" for name in HELD if f"held_{name}_over_gap" in areas}
    return _rows(kept, {"ROC area": "area_over_gap", **held})


def selection(chosen: pd.DataFrame) -> pd.DataFrame:
    """What nested selection chose without the group that was held out: a row per group, a column per time."""
    held = chosen["held"].replace({"recipe": "recipe (by its learning rate)"})
    names = chosen.assign(measurement=chosen["measurement"].map(LABELS), held=held)
    return (
        names.pivot(index=["held", "group"], columns="when", values="measurement").reindex(columns=WHEN).reset_index()
    )


def _rows(areas: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """A row per measurement and time, with ``columns`` under their headings and the ends of their intervals."""
    named = areas[["measurement", "when"]].assign(measurement=areas["measurement"].replace(LABELS))
    ends = {f"{title}{end}": f"{name}{end}" for title, name in columns.items() for end in ("", "_low", "_high")}
    return named.assign(**{title: areas[name].round(3) for title, name in ends.items()}).reset_index(drop=True)


#: Won and met duels of trainings, as :func:`paper.prediction.duels` counts them.
Duels: TypeAlias = tuple[np.ndarray, np.ndarray]


def areas(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ROC areas of every measurement, of the selected one and of all together, for gain and for dependence, and
    balanced accuracies on what was held out; and what nested selection chose for each held-out group.

    Positives meet negatives of their own recipe only. The rows :data:`TOGETHER` and :data:`SELECTED` are always
    predictions for what was not fitted; their ROC areas are those for tasks.
    """
    rows, chosen = [], []
    for when in WHEN:
        part = cells[cells["when"] == when].reset_index(drop=True)
        scores, said, choices = _predicted(part)
        chosen += [{"when": when, **choice} for choice in choices]
        within, units = part["label"].to_numpy(), part.groupby(list(TRAINING), sort=False).ngroup().to_numpy()
        gains, depends = (part[name].to_numpy(dtype=bool) for name in ("gains", "depends"))
        found = {
            name: {"area": duels(score, gains, within, units), "dependence": duels(score, depends, within, units)}
            # The area of a yes or no is its balanced accuracy.
            | {f"held_{held}": duels(yes, gains, within, units) for held, yes in said[name].items()}
            for name, score in scores.items()
        }
        for name, own in found.items():
            row: dict[str, object] = {"measurement": name, "when": when}
            for column, duel in own.items():
                row |= _with_interval(column, duel)
                row |= _with_interval(f"{column}_over_gap", duel, found["gap"][column])
            row |= _with_interval("area_over_loss", own["area"], found["loss_start"]["area"])
            rows.append(row)
    return pd.DataFrame(rows), pd.DataFrame(chosen, columns=["when", "held", "group", "measurement"])


def _predicted(
    part: pd.DataFrame,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], list[dict[str, str]]]:
    """What every row of the table of areas says of the trainings at one time: a score, and yes or no wherever something
    can be held out; and what nested selection chose there (held, group, measurement).
    """
    gains, within = part["gains"].to_numpy(dtype=bool), part["label"].to_numpy()
    groups = {held: part[column].to_numpy() for held, column in HELD.items() if part[column].nunique() > 1}
    scores = {name: score(part).to_numpy(dtype=float) for name, (_, score) in (SCORES | TRIVIAL).items()}
    said = {
        name: {held: held_out(score, gains, group, within) for held, group in groups.items()}
        for name, score in scores.items()
    }
    own = {name: scores[name] for name in SCORES}
    stacked = np.nan_to_num(np.stack(list(own.values()), axis=1))
    said |= {TOGETHER: {}, SELECTED: {}}
    scores |= {TOGETHER: np.full(len(part), np.nan), SELECTED: np.full(len(part), np.nan)}
    choices = []
    for held, group in groups.items():
        chance = joint(stacked, gains, group, within)
        picked = nested(own, gains, group, part["task"].to_numpy(), within)
        said[TOGETHER][held], said[SELECTED][held] = chance > 0.5, picked.said
        choices += [{"held": held, "group": name, "measurement": best} for name, best in picked.choice.items()]
        if held == "task":
            scores |= {TOGETHER: chance, SELECTED: picked.rank}
    return scores, said, choices


def _with_interval(name: str, found: Duels, less: Duels | None = None) -> dict[str, float]:
    """The share of duels won, or by how much it is larger than that of ``less``, with its 95 % interval when whole
    trainings are drawn again, the same ones for both; there is none where a draw may have no duel.
    """
    count = len(found[0])

    def share(duel: Duels, times: np.ndarray) -> np.ndarray:
        won, met = (((times @ one) * times).sum(1) for one in duel)
        return won / np.where(met > 0, met, np.nan)

    def value(picks: np.ndarray, axis: int = 1) -> np.ndarray:
        places = picks.astype(int) + count * np.arange(len(picks))[:, None]
        times = np.bincount(places.ravel(), minlength=count * len(picks)).reshape(-1, count).astype(float)
        return share(found, times) - (0 if less is None else share(less, times))

    every = np.arange(count)
    low, high = bootstrap(every, value)
    return {name: float(value(every[None])[0]), f"{name}_low": low, f"{name}_high": high}


def telling(when: str, what: str) -> str:
    """The id of the claim that a measurement (of :data:`SCORES`) tells at that time (of :data:`WHEN`)."""
    return f"predictors.{when}.{what}"


def over_gap(when: str, what: str) -> str:
    """The id of the claim that it tells better than the magnitude gap."""
    return telling(when, f"{what}.over_gap")


def over_loss(when: str) -> str:
    """The id of the claim that the selected measurement tells better than the loss before the first step."""
    return telling(when, f"{SELECTED}.over_loss")


def transfers(held: str) -> str:
    """The id of the claim that the selected measurement, early, is better than the gap on what was held out."""
    return telling("early", f"{SELECTED}.held_{held}")


def claims(areas: pd.DataFrame) -> list[Claim]:
    """Which measurements tell, before, early and late; which tell better than the magnitude gap; and whether the one
    that nested selection picks tells better than the gap and than the loss before the first step.
    """
    table = areas.set_index(["when", "measurement"])
    words = {"before": "before the first step", "early": "after an eighth of the steps", "late": "after training"}
    names = {name: f"the {about}" for name, (about, _) in (SCORES | TRIVIAL).items()}
    names |= {TOGETHER: "a regression on all measurements", SELECTED: "the measurement that does best on other tasks"}

    def claim(id: str, text: str, when: str, what: str, column: str, family: str, threshold: float, name: str) -> Claim:
        row = table.loc[(when, what)]
        value, low, high = (float(row.get(f"{column}{end}", np.nan)) for end in ("", "_low", "_high"))
        text = f"{words[when]}, {text}"
        family = f"predictors.{when}{family}"
        return Claim(id, text, (), ">", threshold, family, name=name, measured=(value, (low, high)))

    def tells(when: str, what: str) -> Claim:
        text = f"{names[what]} tells which gates {'gain' if when == 'late' else 'will gain'}"
        return claim(telling(when, what), text, when, what, "area", "", criteria.TELLS, "area under the ROC curve")

    def better(id: str, when: str, what: str, column: str, family: str, rival: str) -> Claim:
        text = f"{names[what]} tells which gates will gain better than {rival}"
        return claim(id, text, when, what, column, family, 0, "difference of areas under the ROC curve")

    early = ("before", "early")
    found = [tells(when, what) for when in early for what in SCORES]
    found += [tells("late", what) for what in ("gap", "information", "loss_mean")]
    rivals = [name for name in (*SCORES, "loss_start", TOGETHER, SELECTED) if name != "gap"]
    found += [
        better(over_gap(when, what), when, what, "area_over_gap", ".over_gap", "the magnitude gap")
        for when in early
        for what in rivals
    ]
    found += [
        better(over_loss(when), when, SELECTED, "area_over_loss", ".over_loss", names["loss_start"]) for when in early
    ]
    return found + [
        claim(
            transfers(held),
            f"on a {held} that was held out, the measurement and threshold that do best on the others tell which gates"
            " will gain better than the magnitude gap",
            "early",
            SELECTED,
            f"held_{held}_over_gap",
            ".held",
            0,
            "difference of balanced accuracies",
        )
        for held in HELD
        if f"held_{held}" in areas
    ]


def outcomes(looks: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """Closer looks with ``when``, the training loss before the first step, and what came of each training: points over
    :data:`OTHERS`, and whether that makes the gate one that gains and one that depends.
    """
    keys = [*TRAINING, "seed"]
    steps = sorted(looks["step"].unique())
    cells = looks.assign(when=looks["step"].map(dict(zip(steps, WHEN, strict=True))))
    start = cells[cells["when"] == "before"].set_index(keys)["loss"].rename("loss_start")
    rows = worth.beside(accuracy)
    plain = rows[rows["gate"] == "none"]
    # What has no gate is compared with each of them.
    beside = [plain.assign(gate=gate) for gate in looks["gate"].unique()]
    ends = worth.advantages(pd.concat([rows[rows["gate"] != "none"], *beside]), keys).set_index(keys)
    ends = ends[[f"over_{name}" for name in OTHERS]]
    beaten = ends > criteria.ADAPTIVE
    ends = ends.assign(gains=beaten[list(worth.GAIN)].all(axis=1), depends=beaten[list(worth.DEPENDENCE)].all(axis=1))
    cells = cells.join(start, on=keys).join(ends, on=keys)
    # What has diverged was worth nothing known; where all have, the rows stay and decide nothing.
    known = cells[[f"over_{name}" for name in OTHERS]].notna().all(axis=1)
    return cells[known].reset_index(drop=True) if known.any() else cells
