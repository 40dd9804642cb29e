"""The six perturbations side by side: which side each is on, and which diagnostic tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from lib import checks, results, runtime
from lib.hardware.devices import HARDWARE
from lib.hardware.networks import NETWORKS
from lib.hardware.perturbations import PERTURBATIONS
from lib.prediction import area, balanced, held_out, joint
from lib.verdicts import Finding, Findings, bootstrap, judge
from paper.studies.base import Result
from paper.studies.perturbation import (
    BROKEN,
    CLEAR_DAMAGE,
    COMPENSATED,
    DAMAGE,
    NAMES,
    HardwareStudy,
    Perturbation,
    over_seeds,
    paired,
    plain,
    recovery,
    verdict,
)

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


#: The three together: a logistic regression on the ranks of these.
TOGETHER = ("cosine", "signal", "live")
JOINT = "three together"


@dataclass(frozen=True, kw_only=True)
class Separation(HardwareStudy):
    """All perturbations with their own grids on several networks; parameters as in
    :class:`~paper.studies.perturbation.Perturbation`.

    ``perturbations`` is "all" (the six classes) or a list of names, ``networks`` a list of names. The first network
    runs over the whole grid of severities, the others over two of them, one mild and one harsh. What the perturbation
    pages have stored is used, not run again.
    """

    perturbations: object = "all"
    networks: object = ("mlp", "cnn")

    KEYS = ("network", "perturbation", "rule", "regime")
    TOLERANCES = {"damage": 0.05, "recovery": 0.2}

    def check(self) -> None:
        if self.network != HardwareStudy.network:
            raise checks.ParameterError(
                f"network must be left out, as networks chooses, but {self.network!r} was given."
            )
        chosen = tuple(PERTURBATIONS) if self.perturbations == "all" else self.perturbations
        names = checks.choices("perturbations", chosen, HARDWARE)
        object.__setattr__(self, "perturbations", tuple(name for name in HARDWARE if name in names))
        object.__setattr__(self, "networks", checks.choices("networks", self.networks, NETWORKS))
        for study in self.studies():
            object.__setattr__(self, "rules", study.rules)

    def studies(self) -> list[Perturbation]:
        """The studies of the single perturbations, network by network."""
        given = {field.name: getattr(self, field.name) for field in fields(HardwareStudy) if field.name != "network"}
        return [
            Perturbation(
                perturbation=name,
                network=network,
                severities="auto" if first else HARDWARE[name].grid[-4::2],
                closer=first,
                **given,
            )
            for network, first in zip(self.networks, (True, *(False for _ in self.networks)), strict=False)
            for name in self.perturbations
        ]

    def run(self) -> Result:
        """Tables ``summary``, ``regimes``, ``cells`` (one row for each seed), ``scores`` and ``boundaries``."""
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
            "boundaries": boundaries(accuracy),
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
        known = summary[(summary.damage >= DAMAGE) & summary.known.notna()]
        moderate = regimes_[(regimes_.regime == "moderate") & (regimes_.rule == "autograd")]
        means = moderate.groupby("perturbation").recovery.mean().sort_values(ascending=False)
        shares = [f"{HARDWARE[name].title} {plain(value)}" for name, value in means.items()]
        best = told[told.diagnostic != JOINT].iloc[0]
        cosine, joint_ = (told[told.diagnostic == name].iloc[0] for name in ("cosine", JOINT))
        return (
            f"Among all classes, severities and networks where damage is done, {', '.join(parts)} cases. "
            + (
                f"When the chip is known in training, it is {int((known.known >= COMPENSATED).sum())} of {len(known)}. "
                if len(known)
                else ""
            )
            + (
                f"Where a distortion costs {100 * CLEAR_DAMAGE:g} to {100 * SEVERE:g} points, the share that vanilla "
                f"training wins back is: {', '.join(shares)}. "
                if shares
                else ""
            )
            + f"Of the gradient's properties before training, *{best.diagnostic}* tells best which cases will be "
            f"compensated, with an area under the ROC curve of {best.area:.2f}; the cosine with the clean gradient "
            f"reaches {cosine.area:.2f}, the three together {joint_.area:.2f} on classes not seen, and 0.5 is a coin."
        )

    def elsewhere(self) -> pd.DataFrame:
        """What the committed reference says of networks that this run leaves out: recovery by network and regime."""
        known = self.reference()
        if known is None:
            return pd.DataFrame(columns=[*self.KEYS, *self.TOLERANCES])
        return known[~known.network.isin(self.networks)].reset_index(drop=True)

    def summary(self, result: Result) -> pd.DataFrame:
        # Where the damage is slight, recovery divides by next to nothing.
        table = result.tables["regimes"]
        return table.loc[table.regime != "slight", [*self.KEYS, *self.TOLERANCES]].reset_index(drop=True)


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
        seeds = group.groupby("seed")[["damage", "gain"]].mean()
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
                "verdict": verdict(seeds.damage.mean(), won_back).name,
            }
        )
    return pd.DataFrame(rows)


def cells(accuracy: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Damaging cells, seed by seed: did training compensate, and what did the gradients say before?"""
    runs = damaging(accuracy)
    keys = ["network", "perturbation", "rule", "severity", "seed"]
    measured = diagnostics.rename(columns={"gain": "sensitivity"})
    table = runs.merge(measured, on=keys)
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
        for column, of in (("chance", "perturbation"), ("chance_network", "network")):
            table.loc[group.index, column] = joint(values, group.compensated.to_numpy(), group[of].to_numpy())
    return table


def boundaries(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The severity at which recovery falls below COMPENSATED, for each network, perturbation and rule.

    Between two severities it is interpolated geometrically; columns ``severity``, ``low`` and ``high`` (95 % bootstrap
    over seeds, cut off at the mildest and the harshest severity that do damage). nan: recovery is above everywhere
    ("beyond", see ``side``), or below everywhere it does damage ("before").
    """
    rows = []
    for (network, name, rule), group in damaging(accuracy).groupby(["network", "perturbation", "rule"], sort=False):
        severities = list(dict.fromkeys(group.severity))
        wide = [group[group.severity == one].set_index("seed")[["damage", "gain"]] for one in severities]
        table = np.stack([one.to_numpy() for one in wide])
        seeds = np.arange(table.shape[1])

        def crossing(picked: np.ndarray, table=table) -> float:
            lost, won = table[:, np.asarray(picked, dtype=int)].mean(1).T
            return _crossing(won / np.maximum(lost, DAMAGE / 10))

        at, last = crossing(seeds), len(severities) - 1
        side = "before" if at < 0 else "beyond" if at > last else "inside"
        row: dict[str, object] = {"network": network, "perturbation": name, "rule": rule, "side": side}
        ends = bootstrap(seeds, lambda picked: np.array(crossing(picked)), resamples=400)
        logs = np.log(severities)
        for column, place in zip(("severity", "low", "high"), (at, *ends), strict=True):
            inside = side == "inside" and place == place
            row[column] = float(np.exp(np.interp(place, range(last + 1), logs))) if inside else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def _crossing(won_back: np.ndarray) -> float:
    """The place, from mild to harsh, where ``won_back`` first falls below COMPENSATED; one step outside if nowhere."""
    below = np.flatnonzero(won_back < COMPENSATED)
    if not len(below):
        return float(len(won_back))
    if below[0] == 0:
        return -1.0
    before, after = won_back[below[0] - 1], won_back[below[0]]
    return float(below[0] - 1 + (before - COMPENSATED) / (before - after))


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """For each diagnostic and seed: the area under the ROC curve, and how well it transfers.

    ``area`` is that of the score itself; for the three together, of predictions for classes that were not fitted, and
    ``area_network`` of those for networks that were not. ``held_out`` and ``held_out_network`` are the balanced
    accuracy with a threshold (or a fit) from the other classes or networks; nan with a single network.
    """
    rows = []
    single = table.network.nunique() < 2
    for seed, group in table.groupby("seed"):
        label = group.compensated.to_numpy()
        kinds = {"held_out": group.perturbation.to_numpy(), "held_out_network": group.network.to_numpy()}
        for name, score in SCORES.items():
            values = score(group).to_numpy(dtype=float)
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
    found = pd.DataFrame(rows)
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
    for name, group in table.groupby("diagnostic", sort=False):
        row: dict[str, object] = {"diagnostic": name}
        for column in ("area", "area_network", "held_out", "held_out_network"):
            low, high = bootstrap(group[column])
            row |= {column: group[column].mean(), f"{column}_low": low, f"{column}_high": high}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("area", ascending=False, ignore_index=True)


def sides(result: Result) -> pd.DataFrame:
    """The verdicts of all classes, with recovery: a column for every network and regime (moderate, severe)."""
    table = result.tables["regimes"]
    table = table[table.regime != "slight"]
    shown = [
        "–" if value != value else f"{verdict} ({plain(value)})"
        for value, verdict in zip(table.recovery, table.verdict, strict=True)
    ]
    table = table.assign(shown=shown, column=table.network + ", " + table.regime)
    wide = table.pivot(index=["perturbation", "rule"], columns="column", values="shown")
    order = [f"{network}, {regime}" for network in dict.fromkeys(table.network) for regime in ("moderate", "severe")]
    names = [(name, rule) for name in dict.fromkeys(table.perturbation) for rule in dict.fromkeys(table.rule)]
    rows = [pair for pair in names if pair in wide.index]
    return wide.loc[rows, [name for name in order if name in wide]].fillna("not reached").reset_index()


def _beyond(accuracy: pd.DataFrame, name: str, rule: str, regime: str, share: float) -> np.ndarray:
    """Seed by seed, in points: what training won back minus ``share`` of the loss, over a regime's severities and
    networks.
    """
    runs = damaging(accuracy)
    chosen = runs[(runs.perturbation == name) & (runs.rule == rule) & (runs.regime == regime)]
    beyond = (chosen.gain - share * chosen.damage).groupby([chosen.network, chosen.seed]).mean()
    # Networks count alike, however many severities of theirs are in the regime.
    return 100 * beyond.groupby("seed").mean().to_numpy()


def _divided(claim: str, runs: pd.DataFrame, keys: list[str], name: str) -> Finding:
    """That no group of cells with the same ``keys`` has a compensated and an uncompensated one, over networks, classes
    and regimes.
    """
    sums = runs.pivot_table(index=["network", "perturbation", "regime"], columns="seed", values=["damage", "gain"])
    damage, gain = sums["damage"].to_numpy(), sums["gain"].to_numpy()

    def divided(picked: np.ndarray) -> float:
        won = gain[:, picked].mean(1) >= COMPENSATED * damage[:, picked].mean(1)
        sides = pd.Series(won, index=sums.index).groupby(keys).agg(["min", "max"])
        return float((sides["min"] != sides["max"]).sum())

    return over_seeds(claim, divided, damage.shape[1], "<=", 0, "", name)


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
            title = HARDWARE[name].title
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
    runs = damaging(accuracy)
    vanilla = runs[(runs.rule == "autograd") & (runs.regime != "slight")]
    if len(vanilla):
        found.append(
            _divided(
                "The line runs between classes: none is compensated where it costs little and not where it costs much",
                vanilla,
                ["network", "perturbation"],
                "classes on both sides, counted in each network",
            )
        )
    if vanilla.network.nunique() > 1:
        found.append(
            _divided(
                "The side does not depend on the network: at equal damage every network is on the same one",
                vanilla,
                ["perturbation", "regime"],
                "pairs of class and regime on which networks differ",
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
    titles = {
        "cosine": "Consistency (cosine) separates",
        "signal": "Variance (share of signal) separates",
        "live": "Sensitivity (live weights) separates",
        JOINT: "The three together separate, in classes not seen,",
    }
    for name, title in titles.items():
        own = measured[measured.diagnostic == name]
        claim = f"{title} what training compensates from what it does not"
        found.append(judge(claim, own.area, ">=", TELLS, name="area under ROC"))
    kinds = {"held_out": "a class", "held_out_network": "a network"}
    for name in titles:
        own = measured[measured.diagnostic == name]
        subject = titles[name].partition(" separate")[0]
        for kind, words in kinds.items():
            if own[kind].notna().any():
                verb = "decide" if name == JOINT else "decides"
                claim = f"{subject} {verb} about {words} not seen"
                found.append(judge(claim, own[kind], ">=", TRANSFERS, name="balanced accuracy"))
    return found
