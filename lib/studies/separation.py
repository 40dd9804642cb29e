"""The six perturbations side by side: which side each is on, and which diagnostic tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from lib import checks, results, runtime
from lib.hardware.perturbations import PERTURBATIONS
from lib.prediction import area, balanced, held_out
from lib.studies.base import Result
from lib.studies.perturbation import (
    BROKEN,
    CLEAR_DAMAGE,
    COMPENSATED,
    DAMAGE,
    NAMES,
    HardwareStudy,
    Perturbation,
    paired,
    plain,
    recovery,
    verdict,
)
from lib.verdicts import Findings, bootstrap, judge, judge_value

#: Classes are compared where they cost about as much: up to this loss it is "moderate", above it "severe".
SEVERE = 0.5
#: The area under the ROC curve from which on a diagnostic counts as telling, and that of a coin.
TELLS = 0.8
#: The balanced accuracy on a class never seen from which on a diagnostic counts as transferring.
TRANSFERS = 0.75

# What makes each diagnostic good, as a number that should be large. Fixed here, before any run.
SCORES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "cosine": lambda table: table.cosine,
    "truth": lambda table: -(table.truth - 1).abs(),
    "signal": lambda table: table.signal,
    "live": lambda table: table.live,
    "sensitivity": lambda table: -(table.sensitivity.clip(lower=1e-6)).map(np.log).abs(),
    "rank": lambda table: table["rank"],
}


@dataclass(frozen=True, kw_only=True)
class Separation(HardwareStudy):
    """All perturbations with their own grids; parameters as in
    :class:`~lib.studies.perturbation.Perturbation`.

    ``perturbations`` is "all" or a list of names. What the perturbation pages have stored is used, not run
    again.
    """

    perturbations: object = "all"

    KEYS = ("perturbation", "rule", "regime")
    TOLERANCES = {"damage": 0.05, "recovery": 0.2}

    def check(self) -> None:
        chosen = tuple(PERTURBATIONS) if self.perturbations == "all" else self.perturbations
        names = checks.choices("perturbations", chosen, PERTURBATIONS)
        object.__setattr__(self, "perturbations", tuple(name for name in PERTURBATIONS if name in names))
        for study in self.studies():
            object.__setattr__(self, "rules", study.rules)

    def studies(self) -> list[Perturbation]:
        """The studies of the single perturbations."""
        given = {field.name: getattr(self, field.name) for field in fields(HardwareStudy)}
        return [Perturbation(perturbation=name, **given) for name in self.perturbations]

    def run(self) -> Result:
        """Tables ``summary``, ``regimes``, ``cells`` (one row for each seed) and ``scores``."""
        runs = [study.run() for study in self.studies()]
        accuracy, diagnostics, summary = (
            pd.concat([run.tables[kind] for run in runs], ignore_index=True)
            for kind in ("accuracy", "diagnostics", "summary")
        )
        single = cells(accuracy, diagnostics)
        tables = {
            "summary": summary,
            "regimes": regimes(accuracy),
            "scores": scores(single),
            "cells": single,
        }
        device = runtime.resolve_device(self.device)
        record = results.provenance(device, self.seeds, sum(run.provenance["seconds"] for run in runs))
        return Result(tables, findings(accuracy, tables), record)

    def answer(self, result: Result) -> str:
        """The page in a few sentences, with its measured numbers (Markdown)."""
        summary, regimes_, told = result.tables["summary"], result.tables["regimes"], tell(result.tables["scores"])
        parts = []
        for rule in dict.fromkeys(summary.rule):
            hurt = summary[(summary.rule == rule) & (summary.damage >= DAMAGE)]
            won = int((hurt.recovery >= COMPENSATED).sum())
            parts.append(f"{NAMES[rule]} wins back at least half of the loss in {won} of {len(hurt)}")
        moderate = regimes_[(regimes_.regime == "moderate") & (regimes_.rule == "autograd")]
        ranked = moderate.sort_values("recovery", ascending=False).itertuples()
        shares = [f"{PERTURBATIONS[row.perturbation].title} {plain(row.recovery)}" for row in ranked]
        best, cosine = told.iloc[0], told[told.diagnostic == "cosine"].iloc[0]
        return (
            f"Among all classes and severities that do damage, {', '.join(parts)} cases. "
            + (
                f"Where a distortion costs {100 * CLEAR_DAMAGE:g} to {100 * SEVERE:g} points, the share that vanilla "
                f"training wins back is: {', '.join(shares)}. "
                if shares
                else ""
            )
            + f"Of the gradient's properties before training, *{best.diagnostic}* tells best which cases will be "
            f"compensated, with an area under the ROC curve of {best.area:.2f}; the cosine with the clean gradient "
            f"reaches {cosine.area:.2f}, and 0.5 is a coin."
        )

    def summary(self, result: Result) -> pd.DataFrame:
        # Where the damage is slight, recovery divides by next to nothing.
        table = result.tables["regimes"]
        return table.loc[table.regime != "slight", [*self.KEYS, *self.TOLERANCES]].reset_index(drop=True)


def damaging(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Paired runs at severities that cost at least DAMAGE in the mean over seeds, with their ``regime``."""
    runs = paired(accuracy)
    mean = runs.groupby(["perturbation", "severity"]).damage.transform("mean")
    regime = np.where(mean > SEVERE, "severe", np.where(mean >= CLEAR_DAMAGE, "moderate", "slight"))
    return runs.assign(regime=regime)[mean >= DAMAGE]


def regimes(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Recovery and verdict for each perturbation, rule and regime of damage."""
    rows = []
    for (name, rule, regime), group in damaging(accuracy).groupby(["perturbation", "rule", "regime"], sort=False):
        seeds = group.groupby("seed")[["damage", "gain"]].mean()
        won_back, interval = recovery(seeds.damage, seeds.gain)
        rows.append(
            {
                "perturbation": name,
                "rule": rule,
                "regime": regime,
                "severities": group.severity.nunique(),
                "damage": seeds.damage.mean(),
                "recovery": won_back,
                "recovery_low": interval[0],
                "recovery_high": interval[1],
                "verdict": verdict(seeds.damage.mean(), won_back).name,
            }
        )
    return pd.DataFrame(rows)


def cells(accuracy: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Damaging cells, seed by seed: did training compensate, and what did the gradients say before?"""
    runs = damaging(accuracy)
    keys = ["perturbation", "rule", "severity", "seed"]
    measured = diagnostics.rename(columns={"gain": "sensitivity"})
    table = runs.merge(measured, on=keys)
    table["recovery"] = table.gain / table.damage.clip(lower=DAMAGE)
    table["compensated"] = table.gain >= COMPENSATED * table.damage
    return table


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """For each diagnostic and seed: the area under the ROC curve, and the balanced accuracy on held-out
    classes.
    """
    rows = []
    for name, score in SCORES.items():
        for seed, group in table.assign(score=score(table)).groupby("seed"):
            values, labels = group.score.to_numpy(dtype=float), group.compensated.to_numpy()
            predicted = held_out(values, labels, group.perturbation.to_numpy())
            rows.append(
                {
                    "diagnostic": name,
                    "seed": seed,
                    "area": area(values, labels),
                    "held_out": balanced(predicted, labels),
                }
            )
    return pd.DataFrame(rows)


def tell(table: pd.DataFrame) -> pd.DataFrame:
    """The scores joined over seeds, with intervals, best area first."""
    rows = []
    for name, group in table.groupby("diagnostic", sort=False):
        row: dict[str, object] = {"diagnostic": name}
        for column in ("area", "held_out"):
            low, high = bootstrap(group[column])
            row |= {column: group[column].mean(), f"{column}_low": low, f"{column}_high": high}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("area", ascending=False, ignore_index=True)


def sides(result: Result) -> pd.DataFrame:
    """The verdicts of all classes, with recovery, where they cost moderately and where severely."""
    table = result.tables["regimes"]
    table = table[table.regime != "slight"]
    shown = [
        "–" if value != value else f"{verdict} ({plain(value)})"
        for value, verdict in zip(table.recovery, table.verdict, strict=True)
    ]
    wide = table.assign(shown=shown).pivot(index=["perturbation", "rule"], columns="regime", values="shown")
    order = [name for name in ("moderate", "severe") if name in wide]
    names = [(name, rule) for name in dict.fromkeys(table.perturbation) for rule in dict.fromkeys(table.rule)]
    return wide.loc[[pair for pair in names if pair in wide.index], order].fillna("not reached").reset_index()


def _beyond(accuracy: pd.DataFrame, name: str, rule: str, regime: str, share: float) -> np.ndarray:
    """Seed by seed, in points: what training won back minus ``share`` of the loss, over a regime's
    severities.
    """
    runs = damaging(accuracy)
    chosen = runs[(runs.perturbation == name) & (runs.rule == rule) & (runs.regime == regime)]
    return 100 * (chosen.gain - share * chosen.damage).groupby(chosen.seed).mean().to_numpy()


def findings(accuracy: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> Findings:
    """What the paper is quoted for, put to the test, and what separates. Criteria are fixed here."""
    found = Findings()
    limits = {
        "moderate": f"{100 * CLEAR_DAMAGE:g} to {100 * SEVERE:g} points",
        "severe": f"over {100 * SEVERE:g} points",
    }
    present = set(accuracy.perturbation)
    for regime, words in limits.items():
        for name, side in (("read_noise", "compensable"), ("ir_drop", "breaking")):
            if name not in present or "autograd" not in set(accuracy.rule):
                continue
            share, relation = (COMPENSATED, ">=") if side == "compensable" else (BROKEN, "<=")
            title = PERTURBATIONS[name].title
            found.append(
                judge(
                    f"{title} is on the {side} side under vanilla training where it costs {words}",
                    _beyond(accuracy, name, "autograd", regime, share),
                    relation,
                    0,
                    unit="points",
                    name=f"won back minus {share:g} of the loss",
                )
            )
    table = tables["regimes"]
    vanilla = table[(table.rule == "autograd") & (table.regime != "slight")]
    sides = vanilla.groupby("perturbation").recovery.agg(["min", "max"])
    mixed = float(((sides["max"] >= COMPENSATED) & (sides["min"] < COMPENSATED)).sum())
    found.append(
        judge_value(
            "The line runs between classes: none is compensated where it costs little and not where it costs much",
            mixed,
            (mixed, mixed),
            "<=",
            0,
            unit="classes",
            name="classes on both sides",
        )
    )
    if {"autograd", "straight_through"} <= set(accuracy.rule) and "adc" in present:
        runs = damaging(accuracy)
        adc = runs[(runs.perturbation == "adc") & (runs.regime != "slight")]
        points = 100 * adc.pivot_table(index="seed", columns="rule", values="gain")
        found.append(
            judge(
                "The backward rule decides about the ADC: straight-through beats vanilla training by at least 5 points",
                (points.straight_through - points.autograd).to_numpy() if len(points) else [],
                ">=",
                5,
                unit="points",
                name="mean difference",
            )
        )
    measured = tables["scores"]
    for name in ("cosine", "signal", "live"):
        own = measured[measured.diagnostic == name]
        title = {
            "cosine": "Consistency (cosine)",
            "signal": "Variance (share of signal)",
            "live": "Sensitivity (live weights)",
        }
        found.append(
            judge(
                f"{title[name]} separates what training compensates from what it does not",
                own.area,
                ">=",
                TELLS,
                name="area under ROC",
            )
        )
        found.append(
            judge(
                f"{title[name]} decides about a class it has not seen",
                own.held_out,
                ">=",
                TRANSFERS,
                name="balanced accuracy",
            )
        )
    return found
