"""Would you have known? All that was measured before training, or early in it, against what training reached: gates and
hardware in one table, beside what is known without any gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from lib import results
from lib.results import Cell
from lib.verdicts import Claim, Findings
from paper.criteria import foresight as criteria
from paper.prediction import balanced, clustered, duels, joint
from paper.studies import base, hardware_trial, predictors
from paper.studies.base import Digest, Result, Study
from paper.studies.parameters import Some
from paper.tools import profiles

GATES, HARDWARE = "gates", "hardware"
PAGES = {"predictors": GATES, "predictors_photo": GATES, "hardware_trial": HARDWARE}
"""Pages whose evidence is read, and the part of the book that each belongs to."""
BACKBONES = {"predictors": "drawn", "predictors_photo": "photographs"}
HELD = {
    GATES: {"task": "kind", "learner": "model", "recipe": "recipe", "backbone": "backbone"},
    HARDWARE: {"class": "kind", "network": "model", "backward rule": "recipe"},
}
"""What can be left out in each part, and in which column it stands."""
PLACE = "start"
"""Where hardware is read: at the converged network from which its trainings start."""
SCORES: dict[str, dict[str, str]] = {
    GATES: {name: about for name, (about, _) in predictors.SCORES.items()},
    HARDWARE: {name: about for name, (about, _) in hardware_trial.READINGS.items()},
}
"""Measurements of each part, which take gradients or trainings, and what they are called."""
TRIVIAL: dict[str, dict[str, str]] = {
    GATES: {name: about for name, (about, _) in predictors.TRIVIAL.items()},
    HARDWARE: {name: hardware_trial.TRIVIAL[name] for name in ("damage", "rank", "rise")},
}
"""What is known without any gradient: a measurement that does not beat these tells nothing."""
ELSEWHERE = {GATES: "the same task with other learners", HARDWARE: "the same family in other networks"}
"""The share of winners among those that are alike, which somebody must have trained: a name instead of a number."""
MEASURED, KNOWN = "all measurements", "all without a gradient"
"""Regressions on :data:`SCORES` and on :data:`TRIVIAL`, always fitted without what they are tried on."""
LENS = ("signal", "size")
"""The plane that both parts share: the share of signal in one gradient, and how large it is (decades) against what it
is held against: a gate's against the prompts', a chip's against the plain network's."""
TIMES = {"before": "before the first step", "early": "after an eighth of the steps"}
"""When something was measured, in words."""
_COLUMNS = ("part", "when", "backbone", "kind", "model", "recipe", "training", "label", *LENS)


class Foresight(Digest):
    """The evidence of ``pages``, a row for each training and seed, and how well it could be told beforehand.

    A training *wins* if its gate gains (more than two points over no gate and over its blind twin), or if a backward
    rule compensates (at least half of what is left to win). Tables: ``cells`` (columns of :data:`HELD`, ``label``, all
    scores, and the plane of :data:`LENS`), ``areas`` (part, when, predictor, ``trivial``; area under the ROC curve, and
    ``over_trivial``, how much larger it is than that of the best without a gradient), ``left_out`` (part, when, held,
    predictor: area of the chance given by a regression fitted without the group, its ``skill`` over the share of
    winners and its balanced accuracy; ``over_known`` the difference to the regression without gradients),
    ``calibration`` (chance said, share that won), ``lens`` (tested: area of a regression on :data:`LENS` fitted on the
    other part) and ``costs`` (share of a training's steps that a measurement takes).
    """

    pages: Annotated[tuple[str, ...], Some(tuple(PAGES), ordered=True)] = tuple(PAGES)

    PARTS: ClassVar[tuple[str, ...]] = ("pages",)

    def studies(self) -> dict[str, Study]:
        """The studies that the evidence is of, by page."""
        known = profiles.evidence()
        return {
            name: base.named(known[name].notebook)(**known[name].parameters) for name in self.pages if name in known
        }

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        """One table of all trainings, and what could be told of them."""
        whole = self.whole(found)
        cells = gathered(whole)
        left, calibration = left_out(cells)
        tables = {
            "cells": cells,
            "areas": areas(cells),
            "left_out": left,
            "calibration": calibration,
            "lens": lens(cells),
            "costs": costs(self.studies()),
        }
        return tables, Findings.of(claims(tables), holm=True)


# ------------------------------------------------------------------------------------------------ one table
def gathered(whole: Mapping[str, Result]) -> pd.DataFrame:
    """A row for each training, seed and time of every page."""
    parts = []
    for page, result in whole.items():
        own = _gates(result.tables["cells"]) if PAGES[page] == GATES else _hardware(result.tables["scored"])
        parts.append(own.assign(part=PAGES[page], backbone=BACKBONES.get(page, "")))
    scored = dict.fromkeys([*(name for part in SCORES for name in (*SCORES[part], *TRIVIAL[part])), "elsewhere"])
    names = list(dict.fromkeys([*_COLUMNS, *scored]))
    if not parts:
        return pd.DataFrame(columns=names)
    table = pd.concat(parts, ignore_index=True).reindex(columns=names)
    table["label"] = table["label"].astype(bool)
    table["training"] = table["backbone"] + " " + table["training"]
    table["elsewhere"] = _elsewhere(table)
    return table


def _elsewhere(table: pd.DataFrame) -> pd.Series:
    """The share of winners among trainings of the same kind, recipe and backbone with other models, nan: none."""
    alike = ["part", "when", "backbone", "kind", "recipe"]
    found = table["label"].astype(float).groupby([table[name] for name in alike])
    own = table["label"].astype(float).groupby([table[name] for name in (*alike, "model")])
    counts = found.transform("size") - own.transform("size")
    return (found.transform("sum") - own.transform("sum")) / counts.where(counts > 0)


def _joined(table: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    return table[list(names)].astype(str).agg(" ".join, axis=1)


def _gates(cells: pd.DataFrame) -> pd.DataFrame:
    """Every score as a number that should be large, as the page on predictors has it."""
    own = cells[cells["when"].isin(TIMES)].reset_index(drop=True)
    scored = {name: score(own) for name, (_, score) in (predictors.SCORES | predictors.TRIVIAL).items()}
    snr = own["snr"].clip(lower=0)
    return pd.DataFrame(
        {
            "when": own["when"],
            "kind": own["task"],
            "model": own["learner"],
            "recipe": own["label"],
            "training": _joined(own, predictors.TRAINING),
            "label": own["gains"],
            **scored,
            "signal": snr / (1 + snr),
            "size": -own["gap"],
        }
    )


def _hardware(scored: pd.DataFrame) -> pd.DataFrame:
    """Every score as a number that should be large, as the trial has it; both backward rules together."""
    read = {name: good(scored[f"{name}@{PLACE}"]) for name, (_, good) in hardware_trial.READINGS.items()}
    return pd.DataFrame(
        {
            "when": "before",
            "kind": scored["family"],
            "model": scored["network"],
            "recipe": scored["arm"],
            "training": _joined(scored, ("network", "family", "level", "arm")),
            "label": scored["label"],
            **{name: scored[name] for name in TRIVIAL[HARDWARE]},
            **read,
            "size": np.log10(scored[f"size@{PLACE}"].clip(lower=1e-6)),
        }
    )


# ------------------------------------------------------------------------------------------------ what could be told
def _within(part: pd.DataFrame) -> np.ndarray:
    """Strata in which winners meet losers: equal recipe, and equal network or backbone; else a part's share of winners
    would tell.
    """
    network = part["model"].where(part["part"] == HARDWARE, "")
    return _joined(part.assign(network=network), ("part", "backbone", "recipe", "network")).to_numpy()


def _units(part: pd.DataFrame) -> np.ndarray:
    """What is drawn again for an interval: whole families of hardware, whole trainings of gates."""
    name = "kind" if part["part"].iloc[0] == HARDWARE else "training"
    return np.unique(part[name].to_numpy(), return_inverse=True)[1]


def _filled(part: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Scores [N, D]; what is not known is at the bottom."""
    values = part[list(names)].to_numpy(dtype=float)
    values = np.where(np.isfinite(values), values, np.nan)
    lowest = np.nan_to_num(np.nanmin(values, axis=0)) if len(values) else np.zeros(len(names))
    return np.where(np.isnan(values), lowest - 1, values)


def _parts(cells: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """What is looked at together: part, when, and its rows."""
    found = []
    for (part, when), rows in cells.groupby(["part", "when"], sort=False):
        if rows["label"].any() and not rows["label"].all():
            found.append((str(part), str(when), rows.reset_index(drop=True)))
    return found


class _Fought(NamedTuple):
    """Duels of winners with losers under each score, and the clusters that are drawn again."""

    every: dict[str, tuple[np.ndarray, np.ndarray]]
    clusters: list[np.ndarray]

    def value(self, name: str, *rivals: str) -> tuple[float, float, float]:
        value, (low, high) = clustered(self.every[name], self.clusters, [self.every[one] for one in rivals])
        return value, low, high


def _fought(part: pd.DataFrame, scores: Mapping[str, np.ndarray]) -> _Fought:
    label, within, units = part["label"].to_numpy(), _within(part), _units(part)
    every = {name: duels(score, label, within, units) for name, score in scores.items()}
    return _Fought(every, [np.arange(int(units.max()) + 1)])


def _ends(name: str, value: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), value, strict=True))


def areas(cells: pd.DataFrame) -> pd.DataFrame:
    """The area of every single predictor, with the direction that was fixed before any run."""
    rows = []
    for part, when, own in _parts(cells):
        trivial = [*TRIVIAL[part], "elsewhere"]
        names = [*SCORES[part], *trivial]
        fought = _fought(own, dict(zip(names, _filled(own, names).T, strict=True)))
        for name in names:
            row = {"part": part, "when": when, "predictor": name, "trivial": name in trivial}
            row |= _ends("area", fought.value(name))
            if name not in trivial:
                row |= _ends("over_trivial", fought.value(name, *trivial))
            rows.append(row)
    names = ["part", "when", "predictor", "trivial"]
    ends = [f"{name}{end}" for name in ("area", "over_trivial") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*names, *ends])


def left_out(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What regressions say of whatever was left out, and how their chances are calibrated."""
    rows, bins = [], []
    for part, when, own in _parts(cells):
        label, within = own["label"].to_numpy(), _within(own)
        for held, column in HELD[part].items():
            group = own[column].to_numpy()
            if len(np.unique(group)) < 2:
                continue
            chances = {
                MEASURED: joint(_filled(own, list(SCORES[part])), label, group, within),
                KNOWN: joint(_filled(own, list(TRIVIAL[part])), label, group, within),
            }
            if np.isnan(np.stack(list(chances.values()))).any():
                continue
            fought = _fought(own, chances)
            for name, chance in chances.items():
                row = {"part": part, "when": when, "held": held, "predictor": name, "groups": len(np.unique(group))}
                row |= _ends("area", fought.value(name))
                row |= {"balanced": balanced(chance > 0.5, label), "skill": _skill(chance, label, within)}
                if name == MEASURED:
                    row |= _ends("over_known", fought.value(MEASURED, KNOWN))
                rows.append(row)
                where = {"part": part, "when": when, "held": held, "predictor": name}
                bins += [{**where, **one} for one in _bins(chance, label, within)]
    names = ["part", "when", "held", "predictor", "groups", "area", "area_low", "area_high", "balanced", "skill"]
    ends = ["over_known", "over_known_low", "over_known_high"]
    said = ["part", "when", "held", "predictor", "chance", "share", "rows"]
    return pd.DataFrame(rows, columns=[*names, *ends]), pd.DataFrame(bins, columns=said)


def _skill(chance: np.ndarray, label: np.ndarray, within: np.ndarray) -> float:
    """By how much the squared error of the chances is smaller than that of one half, in which both outcomes weigh
    alike in every stratum (1: certain and right, 0: a coin, below: worse than a coin).
    """
    errors, weights = [], []
    for stratum in np.unique(within):
        own = within == stratum
        sides = [np.square(chance - label)[own & (label == side)] for side in (True, False)]
        if all(len(side) for side in sides):
            errors.append(np.mean([side.mean() for side in sides]))
            weights.append(own.sum())
    return float(1 - np.average(errors, weights=weights) / 0.25) if errors else float("nan")


def _bins(chance: np.ndarray, label: np.ndarray, within: np.ndarray, count: int = 5) -> list[dict[str, float]]:
    """The mean chance and the share that won, in bins of equal size. As in the regression, winners and losers of a
    stratum weigh alike.
    """
    sides = pd.Series(within).astype(str) + label.astype(str)
    weight = (1 / sides.map(sides.value_counts())).to_numpy()
    return [
        {
            "chance": float(np.average(chance[rows], weights=weight[rows])),
            "share": float(np.average(label[rows], weights=weight[rows])),
            "rows": len(rows),
        }
        for rows in np.array_split(np.argsort(chance, kind="stable"), count)
        if len(rows)
    ]


def lens(cells: pd.DataFrame) -> pd.DataFrame:
    """One plane for both parts: for each part, the area of signal, of size, and of a regression on both that was
    fitted on the other part (``across``) and on other classes or tasks of this one (``own``).
    """
    before = cells[cells["when"] == "before"].reset_index(drop=True)
    names = ["tested", "score", "area", "area_low", "area_high"]
    if before["part"].nunique() < 2 or before.groupby("part")["label"].nunique().min() < 2:
        return pd.DataFrame(columns=names)
    label, part = before["label"].to_numpy(), before["part"].to_numpy()
    # Within its own part everything becomes a rank: units and offsets are not what the parts share.
    ranks = before.groupby("part")[list(LENS)].rank(pct=True).fillna(0).to_numpy()
    across = joint(ranks, label, part, _within(before))
    rows = []
    for name in (GATES, HARDWARE):
        own = before[part == name].reset_index(drop=True)
        mine = ranks[part == name]
        inner = joint(mine, own["label"].to_numpy(), own["kind"].to_numpy(), _within(own))
        fought = _fought(own, {"signal": mine[:, 0], "size": mine[:, 1], "across": across[part == name], "own": inner})
        rows += [{"tested": name, "score": one, **_ends("area", fought.value(one))} for one in fought.every]
    return pd.DataFrame(rows, columns=names)


def costs(studies: Mapping[str, Study]) -> pd.DataFrame:
    """What a measurement takes, as a share of the steps of the training that it may save."""
    rows = []
    for study in studies.values():
        if isinstance(study, predictors.Predictors):
            rows.append((GATES, "before", 1, study.steps))
            rows.append((GATES, "early", study.steps // 8, study.steps))
        elif isinstance(study, hardware_trial.HardwareTrial):
            rows.append((HARDWARE, "before", study.gradients, study.steps))
    table = pd.DataFrame(rows, columns=["part", "when", "gradients", "steps"]).drop_duplicates()
    return table.assign(share=table["gradients"] / table["steps"]).reset_index(drop=True)


# ------------------------------------------------------------------------------------------------ what is claimed
def claims(tables: results.Tables) -> list[Claim]:
    """Whether measurements tell of what was left out, whether they tell more than what is known without a gradient, and
    whether a rule of one part tells in the other.
    """
    made = []
    table = tables["left_out"]
    for row in table[table["predictor"] == MEASURED].to_dict("records"):
        part, when, held = row["part"], row["when"], row["held"]
        name = f"{part}.{when}.{held.replace(' ', '_')}"
        told = f"{part}: {TIMES[when]}, all measurements together tell which trainings win, of a {held} left out"
        made.append(_claim(f"{name}.tells", told, row, "area", criteria.TELLS, "tells"))
        told = f"{told.partition(',')[0]}, they tell more of a {held} left out than what is known without a gradient"
        made.append(_claim(f"{name}.beyond", told, row, "over_known", criteria.BEYOND_TRIVIAL, "beyond"))
    for row in tables["lens"].to_dict("records"):
        other = HARDWARE if row["tested"] == GATES else GATES
        if row["score"] == "across":
            told = f"signal and size, weighed as {other} taught it, tell which trainings win among {row['tested']}"
            made.append(_claim(f"lens.{row['tested']}", f"one lens: {told}", row, "area", criteria.TELLS, "lens"))
    return made


def _claim(name: str, text: str, row: Mapping[str, Any], column: str, threshold: float, family: str) -> Claim:
    value, low, high = (float(row[f"{column}{end}"]) for end in ("", "_low", "_high"))
    called = "area under the ROC curve" if column == "area" else "difference of areas under the ROC curve"
    measured = (value, (low, high))
    return Claim(f"foresight.{name}", text, (), ">", threshold, f"foresight.{family}", name=called, measured=measured)


def named(part: str, predictor: str) -> str:
    """What a predictor is called."""
    known = SCORES[part] | TRIVIAL[part] | {"elsewhere": ELSEWHERE[part]}
    return known.get(predictor, predictor)
