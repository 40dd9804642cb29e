"""The six perturbations side by side: which side each is on, and which diagnostic tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd

from lib import checks
from lib.hardware.devices import HARDWARE
from lib.hardware.networks import NETWORKS
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings, Relation, Threshold, bootstrap
from paper.criteria.hardware import (
    BROKEN,
    CLEAR_DAMAGE,
    COMPENSATED,
    DAMAGE,
    NOTHING,
    RULE_POINTS,
    SEVERE,
    TELLS,
    TRANSFERS,
    points,
)
from paper.prediction import area, balanced, held_out, joint
from paper.studies.base import Compared, pivoted
from paper.studies.hardware import Classes, HardwareStudy, Seeds
from paper.studies.parameters import OneOf, Some
from paper.studies.perturbation import PerturbationStudy, measured
from paper.studies.recovery import beyond, over_seeds, paired, recovery, summarise, verdict

# What makes each diagnostic good, as a number that should be large. Fixed here, before any run.
SCORES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "cosine": lambda table: table.cosine,
    "truth": lambda table: -(table.truth - 1).abs(),
    "signal": lambda table: table.signal,
    "live": lambda table: table.live,
    "sensitivity": lambda table: -(table.sensitivity.clip(lower=1e-6)).map(np.log).abs(),
    "rank": lambda table: table["rank"],
}
#: The three together: a logistic regression on the ranks of these.
TOGETHER = ("cosine", "signal", "live")
JOINT = "three together"

#: Regimes of damage that claims speak of, and what an unaware network loses in them.
REGIMES = {
    "moderate": f"{points(CLEAR_DAMAGE):g} to {points(SEVERE):g} points",
    "severe": f"over {points(SEVERE):g} points",
}


class Separation(HardwareStudy):
    """All perturbations with their own grids on several networks.

    ``perturbations`` is "all" (the six classes) or some names, ``networks`` are names. The first network runs over the
    whole grid of ``severities`` ("all") or every other one of it ("few"), the others over two of them, one mild and one
    harsh. The cells are those of the perturbation pages. The rest is as in
    :class:`~paper.studies.hardware.HardwareStudy`.
    """

    perturbations: Classes = ("read_noise", "adc")
    networks: Annotated[tuple[str, ...], Some(NETWORKS)] = ("mlp",)
    severities: Annotated[str, OneOf(("few", "all"))] = "few"
    seeds: Seeds = 2

    PARTS: ClassVar[tuple[str, ...]] = ("rules", "perturbations", "networks", "severities")
    COMPARED: ClassVar[Mapping[str, Compared]] = PerturbationStudy.COMPARED

    def check(self) -> None:
        """Refuses a ``network`` beside the ``networks``."""
        if self.network != type(self).model_fields["network"].default:
            raise checks.ParameterError(
                f"network must be left out, as networks chooses, but {self.network!r} was given."
            )
        super().check()
        self.studies()

    def studies(self) -> list[PerturbationStudy]:
        """The studies of the single perturbations, network by network."""
        given = {name: getattr(self, name) for name in HardwareStudy.model_fields if name != "network"}
        return [
            PerturbationStudy(
                perturbation=name,
                network=network,
                severities=self.severities if first else HARDWARE[name].grid[-4::2],
                closer=("known",) if first else (),
                **given,
            )
            for network, first in zip(self.networks, (True, *(False for _ in self.networks)), strict=False)
            for name in self.perturbations
        ]

    def cells(self) -> list[Cell]:
        """The cells of the single perturbations."""
        return list(dict.fromkeys(cell for study in self.studies() for cell in study.cells()))

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """Tables ``accuracy``, ``diagnostics``, ``cells`` (one row for each seed), ``summary``, ``regimes``, ``scores``
        and ``boundaries``.
        """
        parts = [measured(study.parts(), found) for study in self.studies()]
        accuracy, diagnostics = (
            pd.concat([tables[kind] for tables in parts], ignore_index=True) for kind in ("accuracy", "diagnostics")
        )
        known = [tables["known"] for tables in parts if "known" in tables]
        single = cells(accuracy, diagnostics)
        tables = {
            "accuracy": accuracy,
            "diagnostics": diagnostics,
            "summary": summarise(accuracy, diagnostics, pd.concat(known, ignore_index=True) if known else None),
            "regimes": regimes(accuracy),
            "scores": scores(single),
            "cells": single,
            "boundaries": boundaries(accuracy),
        }
        return tables, Findings.of(claims(accuracy, tables["scores"]))


def damaging(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Paired runs at severities that cost at least DAMAGE in the mean over seeds, with their ``regime``."""
    runs = paired(accuracy)
    mean = runs.groupby(["network", "perturbation", "severity"]).damage.transform("mean")
    regime = np.where(mean > SEVERE, "severe", np.where(mean >= CLEAR_DAMAGE, "moderate", "slight"))
    return runs.assign(regime=regime)[mean >= DAMAGE]


def regimes(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Recovery and verdict for each network, perturbation, rule and regime of damage."""
    rows = []
    keys = ["network", "perturbation", "rule", "regime"]
    for (network, name, rule, regime), group in damaging(accuracy).groupby(keys, sort=False):
        seeds = group.groupby("seed")[["damage", "gain"]].mean(skipna=False)
        won_back, interval = recovery(seeds.damage, seeds.gain)
        rows.append(
            {
                "network": network,
                "perturbation": name,
                "rule": rule,
                "regime": regime,
                "severities": group.severity.nunique(),
                "damage": seeds.damage.mean(),
                "recovery": won_back,
                "recovery_low": interval[0],
                "recovery_high": interval[1],
                "verdict": verdict(seeds.damage, seeds.gain).name,
            }
        )
    names = ["severities", "damage", "recovery", "recovery_low", "recovery_high", "verdict"]
    return pd.DataFrame(rows, columns=[*keys, *names])


def cells(accuracy: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Damaging cells, seed by seed: did training compensate, and what did the gradients say before?"""
    runs = damaging(accuracy)
    keys = ["network", "perturbation", "rule", "severity", "seed"]
    measured = diagnostics.rename(columns={"gain": "sensitivity"})
    table = runs[runs.gain.notna()].merge(measured, on=keys)
    table["recovery"] = table.gain / table.damage.clip(lower=DAMAGE)
    table["compensated"] = table.gain >= COMPENSATED * table.damage
    return together(table)


def together(table: pd.DataFrame) -> pd.DataFrame:
    """The chance of being compensated by the three together, seed by seed: ``chance`` for a row's class from the other
    classes, ``chance_network`` for its network from the other networks.
    """
    table = table.assign(chance=np.nan, chance_network=np.nan)
    for _, group in table.groupby("seed"):
        values = np.stack([SCORES[name](group).to_numpy(dtype=float) for name in TOGETHER], 1)
        if np.isnan(values).any():
            continue
        for column, of in (("chance", "perturbation"), ("chance_network", "network")):
            table.loc[group.index, column] = joint(values, group.compensated.to_numpy(), group[of].to_numpy())
    return table


def boundaries(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The severity at which recovery falls below COMPENSATED, for each network, perturbation and rule.

    Between two severities it is interpolated geometrically; columns ``severity``, ``low`` and ``high`` (95 % bootstrap
    over seeds, cut off at the mildest and the harshest severity that do damage). nan: recovery is above everywhere
    ("beyond", see ``side``), or below everywhere it does damage ("before"), or nothing was trained ("unknown").
    """
    rows = []
    for (network, name, rule), group in damaging(accuracy).groupby(["network", "perturbation", "rule"], sort=False):
        severities = list(dict.fromkeys(group.severity))
        found = group.pivot(index="seed", columns="severity", values=["damage", "gain"]).dropna()
        table = np.stack([found.xs(one, axis=1, level="severity").to_numpy() for one in severities])
        row: dict[str, object] = {"network": network, "perturbation": name, "rule": rule, "side": "unknown"}
        if not len(found):
            rows.append(row | dict.fromkeys(("severity", "low", "high"), float("nan")))
            continue
        seeds = np.arange(table.shape[1])

        def crossing(picked: np.ndarray, table=table) -> float:
            lost, won = table[:, np.asarray(picked, dtype=int)].mean(1).T
            return _crossing(won / np.maximum(lost, DAMAGE / 10))

        at, last = crossing(seeds), len(severities) - 1
        side = "before" if at < 0 else "beyond" if at > last else "inside"
        row["side"] = side
        ends = bootstrap(seeds, lambda picked: np.array(crossing(picked)), resamples=400)
        logs = np.log(severities)
        for column, place in zip(("severity", "low", "high"), (at, *ends), strict=True):
            inside = side == "inside" and place == place
            row[column] = float(np.exp(np.interp(place, range(last + 1), logs))) if inside else float("nan")
        rows.append(row)
    return pd.DataFrame(rows, columns=["network", "perturbation", "rule", "side", "severity", "low", "high"])


def _crossing(won_back: np.ndarray) -> float:
    """The place, from mild to harsh, where ``won_back`` first falls below COMPENSATED; one step outside if nowhere."""
    below = np.flatnonzero(won_back < COMPENSATED)
    if not len(below):
        return float(len(won_back))
    if below[0] == 0:
        return -1.0
    before, after = won_back[below[0] - 1], won_back[below[0]]
    return float(below[0] - 1 + (before - COMPENSATED) / (before - after))


#: Columns of what is predicted about classes and networks that were held out.
_HELD = ("held_out", "held_out_network")


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """For each diagnostic and seed: the area under the ROC curve, and how well it transfers.

    ``area`` is that of the score itself; for the three together, of predictions for classes that were not fitted, and
    ``area_network`` of those for networks that were not. ``held_out`` and ``held_out_network`` are the balanced
    accuracy with a threshold (or a fit) from the other classes or networks; nan with a single network.
    """
    rows = []
    single = table.network.nunique() == 1
    for seed, group in table.groupby("seed"):
        label = group.compensated.to_numpy()
        kinds = {"held_out": group.perturbation.to_numpy(), "held_out_network": group.network.to_numpy()}
        for name, score in SCORES.items():
            values = score(group).to_numpy(dtype=float)
            if np.isnan(values).any():
                rows.append({"diagnostic": name, "seed": seed})
                continue
            held = {kind: balanced(held_out(values, label, of), label) for kind, of in kinds.items()}
            own = area(values, label)
            rows.append({"diagnostic": name, "seed": seed, "area": own, "area_network": own, **held})
        chances = {"held_out": group.chance.to_numpy(), "held_out_network": group.chance_network.to_numpy()}
        rows.append(
            {
                "diagnostic": JOINT,
                "seed": seed,
                "area": _area(chances["held_out"], label),
                "area_network": _area(chances["held_out_network"], label),
                **{kind: _right(chance, label) for kind, chance in chances.items()},
            }
        )
    found = pd.DataFrame(rows, columns=["diagnostic", "seed", "area", "area_network", *_HELD])
    return found.assign(held_out_network=np.nan, area_network=np.nan) if single else found


def _area(chance: np.ndarray, label: np.ndarray) -> float:
    """The area of predictions, where there are any."""
    known = np.isfinite(chance)
    return area(chance[known], label[known])


def _right(chance: np.ndarray, label: np.ndarray) -> float:
    known = np.isfinite(chance)
    return balanced(chance[known] > 0.5, label[known])


def tell(table: pd.DataFrame) -> pd.DataFrame:
    """The scores joined over seeds, with intervals, best area first."""
    rows = []
    for name in [*SCORES, JOINT]:
        group = table[table.diagnostic == name]
        row: dict[str, object] = {"diagnostic": name}
        for column in ("area", "area_network", "held_out", "held_out_network"):
            low, high = bootstrap(group[column])
            row |= {column: group[column].mean(), f"{column}_low": low, f"{column}_high": high}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("area", ascending=False, ignore_index=True)


def _beyond(accuracy: pd.DataFrame, name: str, rule: str, regime: str, share: float) -> np.ndarray:
    """Seed by seed, in points: what training won back minus ``share`` of the loss, over a regime's severities and
    networks.
    """
    runs = damaging(accuracy)
    chosen = runs[(runs.perturbation == name) & (runs.rule == rule) & (runs.regime == regime)]
    more = pd.Series(beyond(chosen.damage, chosen.gain, share), chosen.index)
    # Networks count alike, however many severities of theirs are in the regime.
    return more.groupby([chosen.network, chosen.seed]).mean().groupby("seed").mean().to_numpy()


def _divided(claim: str, text: str, runs: pd.DataFrame, keys: list[str], name: str) -> Claim:
    """That no group of cells with the same ``keys`` has a compensated and an uncompensated one, over networks, classes
    and regimes.
    """
    sums = runs.pivot_table(index=["network", "perturbation", "regime"], columns="seed", values=["damage", "gain"])
    # Seeds in which one of them has diverged decide nothing.
    sums = sums.swaplevel(axis=1).dropna(axis=1)
    whole = [seed for seed in dict.fromkeys(sums.columns.get_level_values(0)) if len(sums[seed].columns) == 2]
    if not whole:
        unknown = (np.nan, (np.nan, np.nan))
        return Claim(claim, text, (), "<=", NOTHING, "separation", name=name, measured=unknown)
    damage, gain = (np.stack([sums[seed][name] for seed in whole], 1) for name in ("damage", "gain"))

    group = sums.index.to_frame(index=False).groupby(keys).ngroup().to_numpy()
    members = np.bincount(group)

    def divided(picked: np.ndarray) -> float:
        won = gain[:, picked].mean(1) >= COMPENSATED * damage[:, picked].mean(1)
        compensated = np.bincount(group, weights=won)
        return float(((compensated > 0) & (compensated < members)).sum())

    measured_ = over_seeds(divided, damage.shape[1])
    return Claim(claim, text, (), "<=", NOTHING, "separation", name=name, measured=measured_)


def claims(accuracy: pd.DataFrame, measured_: pd.DataFrame) -> list[Claim]:
    """What the paper is quoted for, put to the test, and what separates; ``measured_`` are the scores."""
    return [*_quoted(accuracy), *_lines(accuracy), *_told(measured_)]


def _quoted(accuracy: pd.DataFrame) -> list[Claim]:
    """Each quoted side in both regimes."""
    found = []
    quoted: dict[str, tuple[str, Threshold, Relation]] = {
        "read_noise": ("compensable", COMPENSATED, ">="),
        "ir_drop": ("breaking", BROKEN, "<="),
    }
    if "autograd" not in set(accuracy.rule):
        return []
    for regime, words in REGIMES.items():
        for name, (side, share, relation) in quoted.items():
            if name in set(accuracy.perturbation):
                title = HARDWARE[name].title
                found.append(
                    Claim(
                        f"separation.{name}.{regime}",
                        f"{title} is on the {side} side under vanilla training where it costs {words}",
                        _beyond(accuracy, name, "autograd", regime, share),
                        relation,
                        NOTHING,
                        "separation quoted",
                        unit="points",
                        name=f"won back minus {share:g} of the loss",
                    )
                )
    return found


def _lines(accuracy: pd.DataFrame) -> list[Claim]:
    """Where the line runs: between classes, networks, backward rules."""
    found = []
    runs = damaging(accuracy)
    vanilla = runs[(runs.rule == "autograd") & (runs.regime != "slight")]
    if len(vanilla):
        found.append(
            _divided(
                "separation.classes",
                "The line runs between classes: none is compensated where it costs little and not where it costs much",
                vanilla,
                ["network", "perturbation"],
                "classes on both sides, counted in each network",
            )
        )
    if vanilla.network.nunique() > 1:
        found.append(
            _divided(
                "separation.networks",
                "The side does not depend on the network: at equal damage every network is on the same one",
                vanilla,
                ["perturbation", "regime"],
                "pairs of class and regime on which networks differ",
            )
        )
    if {"autograd", "straight_through"} <= set(accuracy.rule) and "adc" in set(accuracy.perturbation):
        adc = runs[(runs.perturbation == "adc") & (runs.regime != "slight")]
        gains = 100 * pivoted(adc, ["seed"], "rule", "gain")
        rule = f"straight-through beats vanilla training by at least {RULE_POINTS:g} points"
        found.append(
            Claim(
                "separation.adc_rule",
                f"The backward rule decides about the ADC: {rule}",
                (gains.straight_through - gains.autograd).to_numpy() if len(gains) else [],
                ">=",
                RULE_POINTS,
                "separation",
                unit="points",
                name="mean difference",
            )
        )
    return found


_SUBJECTS = {
    "cosine": "Consistency (cosine)",
    "signal": "Variance (share of signal)",
    "live": "Sensitivity (live weights)",
    JOINT: "The three together",
}


def _told(measured_: pd.DataFrame) -> list[Claim]:
    """What a diagnostic tells: with a threshold of its own, and about a class or a network that it never saw."""
    found = []
    kinds = {"held_out": "class", "held_out_network": "network"}
    for name, subject in _SUBJECTS.items():
        own, key = measured_[measured_.diagnostic == name], name.replace(" ", "_")
        verb = "separate, in classes not seen," if name == JOINT else "separates"
        text = f"{subject} {verb} what training compensates from what it does not"
        family = "separation told"
        found.append(Claim(f"separation.tells.{key}", text, own.area, ">=", TELLS, family, name="area under ROC"))
        for column, what in kinds.items():
            if own[column].notna().any():
                verb = "decide" if name == JOINT else "decides"
                text = f"{subject} {verb} about a {what} not seen"
                claim = f"separation.transfers.{key}.{what}"
                found.append(Claim(claim, text, own[column], ">=", TRANSFERS, family, name="balanced accuracy"))
    return found
