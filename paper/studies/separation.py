"""The six perturbations side by side: which side each is on, and which diagnostic tells."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from lib import checks
from lib.hardware.devices import HARDWARE
from lib.hardware.networks import NETWORKS
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings, Relation, Threshold, bootstrap
from paper.criteria.hardware import (
    BEYOND_TRIVIAL,
    CLEAR_DAMAGE,
    COMPENSATED,
    DAMAGE,
    NORMALISED_LOSES,
    NOTHING,
    RECOVERED,
    RULE_POINTS,
    SEVERE,
    TELLS,
    TRANSFERS,
    points,
)
from paper.prediction import Duels, clustered, duels, held_out, joint
from paper.studies.arms import CLIP
from paper.studies.base import Compared, pivoted
from paper.studies.beyond_training import MEASURES, NORMALISED, BeyondTraining
from paper.studies.hardware import NAMES, Classes, HardwareStudy, Seeds, with_converter
from paper.studies.parameters import Numbers, OneOf, Some
from paper.studies.perturbation import PerturbationStudy, few, measured
from paper.studies.recovery import beyond, over_seeds, paired, recovery, summarise, verdict

# What makes each diagnostic good, as a number that should be large. Fixed here, before any run.
SCORES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "cosine": lambda table: table.cosine.where(directed(table)),
    "truth": lambda table: -(table.truth - 1).abs(),
    "signal": lambda table: table.signal,
    "live": lambda table: table.live,
    "sensitivity": lambda table: -(table.sensitivity.clip(lower=1e-6)).map(np.log).abs(),
    "rank": lambda table: table["rank"],
}
#: The three together: a logistic regression on the ranks of these.
TOGETHER = ("cosine", "signal", "live")
JOINT = "three together"
#: What is known without a single gradient, and which way it should point: little damage, a mild place on the class's
#: own grid, and, as quoted of the source, a random distortion.
TRIVIAL: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "damage": lambda table: -table.damage,
    "severity": lambda table: (
        -pd.Series(
            [harshness(*pair) for pair in zip(table.perturbation, table.severity, strict=True)],
            table.index,
            dtype=float,
        )
    ),
    "kind": lambda table: table.perturbation.map({name: float(one.random) for name, one in HARDWARE.items()}),
}
#: Where rules are thrown together, their names are a predictor as well.
RULE = "rule"
#: What the same class did in the other networks: no measurement, but what a list of classes would be worth.
CLASS = "class"
#: All rules thrown together, beside each by itself.
POOLED = "pooled"
#: What predictors are called.
LABELS = {
    "cosine": "cosine with clean",
    "truth": "truth",
    "signal": "share of signal",
    "live": "live weights",
    "sensitivity": "Jacobian gain",
    "rank": "effective rank",
    JOINT: "the three together",
    "damage": "damage",
    "severity": "place on the class's grid",
    "kind": "random or not",
    RULE: "rule, and converter or not",
    CLASS: "class, from other networks",
}

#: Regimes of damage that claims speak of, and what an unaware network loses in them.
REGIMES = {
    "moderate": f"{points(CLEAR_DAMAGE):g} to {points(SEVERE):g} points",
    "severe": f"over {points(SEVERE):g} points",
}

#: Classes that the what-if shows with a converter behind them: an ADC is one, and wires take long to train through.
CONVERTED = ("read_noise", "variability", "drift", "stuck_at")
#: The rules that it shows.
ASKED_RULES = ("unaware", "autograd", "straight_through")


class Separation(HardwareStudy):
    """All perturbations with their own grids on several networks.

    ``perturbations`` is "all" (the six classes) or some names, ``networks`` are names. The first network runs over the
    whole grid of ``severities`` ("all") or every other one of it ("few"), the others over two of them, one mild and one
    harsh. The cells are those of the perturbation pages; where drift meets a network with batch normalisation, its
    statistics measured again on each chip (:mod:`paper.studies.beyond_training`) are read beside. ``bits`` are those of
    converters that the what-if puts behind the classes in :data:`CONVERTED`, in the first network. The rest is as in
    :class:`~paper.studies.hardware.HardwareStudy`.
    """

    perturbations: Classes = ("read_noise", "adc")
    networks: Annotated[tuple[str, ...], Some(NETWORKS)] = ("mlp",)
    severities: Annotated[str, OneOf(("few", "all"))] = "few"
    seeds: Seeds = 2
    bits: Annotated[tuple[float, ...], Numbers(HARDWARE["adc"].low, HARDWARE["adc"].high, empty=True)] = ()

    PARTS: ClassVar[tuple[str, ...]] = ("rules", "perturbations", "networks", "severities", "bits")
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

    def recalibrated(self) -> list[Cell]:
        """The drifting network with batch normalisation and its statistics measured again, where both are asked for."""
        if "drift" not in self.perturbations or NORMALISED not in self.networks:
            return []
        given = {name: getattr(self, name) for name in HardwareStudy.model_fields if name not in ("network", "rules")}
        return [BeyondTraining(**given).cell("drift", MEASURES["drift"]["batch statistics of each chip"])]

    def clipped(self) -> list[Cell]:
        """Finished networks that were never trained through hardware, their weights clipped: no gradient, no chip."""
        return [
            study.accuracy_cell(study.start(), study.perturbation, study.severities, "unaware", clip=CLIP)
            for study in self.studies()
        ]

    def cells(self) -> list[Cell]:
        """The cells of the single perturbations."""
        own = [cell for study in self.studies() for cell in study.cells()]
        return list(dict.fromkeys([*own, *self.clipped(), *self.recalibrated(), *self.converted().values()]))

    def converted(self) -> dict[tuple[str, float, str], Cell]:
        """What the what-if shows of chips with a converter, by class, bits and rule."""
        start, found = self.start(network=self.networks[0]), {}
        classes = [name for name in CONVERTED if name in self.perturbations]
        for name, bits, rule in itertools.product(classes, self.bits, ASKED_RULES):
            config = {
                "start": start,
                "perturbation": name,
                "severities": list(few(HARDWARE[name].grid)),
                "bits": bits,
                "rule": rule,
                "chips": self.chips,
                "gradients": self.gradients,
            }
            uses = (HARDWARE[name], HARDWARE["adc"])
            size = len(few(HARDWARE[name].grid)) * self.seeds
            found[name, bits, rule] = Cell("converted", config, with_converter, size=size, uses=uses, site=self.site())
        return found

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """Tables ``accuracy``, ``diagnostics``, ``clipped`` (finished networks), ``cells`` (one row for each seed),
        ``summary``, ``regimes``, ``beyond`` (clipping), ``areas``, ``boundaries``, and ``recalibrated`` where batch
        normalisation meets drift.
        """
        parts = [measured(study.parts(), found) for study in self.studies()]
        accuracy, diagnostics = (
            pd.concat([tables[kind] for tables in parts], ignore_index=True) for kind in ("accuracy", "diagnostics")
        )
        known = [tables["known"] for tables in parts if "known" in tables]
        clipped = pd.concat([found[cell]["accuracy"] for cell in self.clipped()], ignore_index=True)
        single = cells(accuracy, diagnostics, clipped)
        tables = {
            "accuracy": accuracy,
            "diagnostics": diagnostics,
            "clipped": clipped,
            "summary": summarise(accuracy, diagnostics, pd.concat(known, ignore_index=True) if known else None),
            "regimes": regimes(accuracy),
            "beyond": beyond_clipping(accuracy, clipped),
            "areas": areas(single),
            "cells": single,
            "boundaries": boundaries(accuracy),
        }
        again = [found[cell]["accuracy"] for cell in self.recalibrated()]
        if again:
            tables["recalibrated"] = again[0].assign(
                damage=again[0].clean - again[0].unaware, gain=again[0].accuracy - again[0].unaware
            )
        rows = [
            summarise(
                *(pd.concat([found[cell][name] for cell in cells_], ignore_index=True) for name, cells_ in parts_)
            ).assign(bits=bits)
            for bits, parts_ in self._converted_by_bits()
        ]
        tables["converted"] = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
        found_ = claims(accuracy, tables["areas"], tables.get("recalibrated"))
        return tables, Findings.of(found_, holm=True)

    def _converted_by_bits(self) -> Iterator[tuple[float, list[tuple[str, list[Cell]]]]]:
        """The cells with a converter of so many bits, by the table that they have."""
        for bits in self.bits:
            own = {(name, rule): cell for (name, at, rule), cell in self.converted().items() if at == bits}
            looked = [cell for (_, rule), cell in own.items() if rule != "unaware"]
            if own:
                yield bits, [("accuracy", list(own.values())), ("diagnostics", looked)]


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


def untrained(runs: pd.DataFrame, clipped: pd.DataFrame) -> pd.DataFrame:
    """Paired runs with the best that needs no training beside them: the unaware network, or that one clipped.

    Adds ``clipped``, its accuracy, and ``left``, what the better of the two leaves to be won, and ``more``, what
    training wins of that. Which of the two it is, the mean over seeds decides.
    """
    keys = ["network", "perturbation", "severity", "seed"]
    cut = clipped[[*keys, "accuracy"]].rename(columns={"accuracy": "clipped"})
    both = runs.merge(cut, on=keys, how="left")
    means = both.groupby([*keys[:3], "rule"])[["unaware", "clipped"]].transform("mean")
    free = both.unaware.where(~(means.clipped > means.unaware), both.clipped)
    return both.assign(left=both.clean - free, more=both.accuracy - free)


def beyond_clipping(accuracy: pd.DataFrame, clipped: pd.DataFrame) -> pd.DataFrame:
    """What clipping alone wins back, ``clipped`` with its verdict, and what training does of what is ``left`` then,
    ``recovery`` with its own, wherever damage is done.
    """
    rows = []
    keys = ["network", "perturbation", "rule", "severity"]
    for given, group in untrained(damaging(accuracy), clipped).groupby(keys, sort=False):
        alone = group.clipped - group.unaware
        row: dict[str, object] = dict(zip(keys, given, strict=True))
        row |= {"clipped": recovery(group.damage, alone)[0], "clipped_verdict": verdict(group.damage, alone).name}
        row |= {"left": group.left.mean(), "recovery": recovery(group.left, group.more)[0]}
        rows.append(row | {"verdict": verdict(group.left, group.more, group.gain.notna().any()).name})
    return pd.DataFrame(rows, columns=[*keys, "clipped", "clipped_verdict", "left", "recovery", "verdict"])


def cells(accuracy: pd.DataFrame, diagnostics: pd.DataFrame, clipped: pd.DataFrame | None = None) -> pd.DataFrame:
    """Cells of clear damage, seed by seed: did training compensate, and what did the gradients say before?

    ``chance`` is that of being compensated by the three together, from the other classes under the same rule.
    ``beyond`` says whether training wins back as much of what is left by the best that needs none, 1 or 0; nan where
    nothing clear is left, or networks were not ``clipped``.
    """
    runs = damaging(accuracy)
    keys = ["network", "perturbation", "rule", "severity", "seed"]
    measured = diagnostics.rename(columns={"gain": "sensitivity"})
    # Where next to nothing is lost, half of it is noise.
    table = runs[runs.gain.notna() & (runs.regime != "slight")].merge(measured, on=keys)
    table["recovery"] = table.gain / table.damage.clip(lower=DAMAGE)
    table["compensated"] = table.gain >= COMPENSATED * table.damage
    table["beyond"] = np.nan
    if clipped is not None:
        own = untrained(table, clipped)
        clear = own.groupby(keys[:4]).left.transform("mean") >= CLEAR_DAMAGE
        table["beyond"] = (own.more >= COMPENSATED * own.left).astype(float).where(clear & own.clipped.notna())
    table["chance"] = np.nan
    for rows in table.groupby("rule", sort=False).indices.values():
        table.loc[rows, "chance"] = together(table.iloc[rows], "perturbation")
    return table


def directed(table: pd.DataFrame) -> pd.Series:
    """Does the mean gradient have a direction that could be told from none? An interval from -1 to 1 is a measurement
    of nothing.
    """
    return (table.cosine_high - table.cosine_low) < 2


def harshness(name: str, severity: float) -> float:
    """The place of a severity on its class's own grid, from 0 (the mildest) to 1; nan for a class that is not known."""
    physics = HARDWARE.get(name)
    if physics is None:
        return float("nan")
    grid = np.array(physics.grid)
    milder = grid > severity if physics.off > physics.high else grid < severity
    return float(milder.sum()) / max(len(grid) - 1, 1)


def scored(name: str, table: pd.DataFrame) -> np.ndarray:
    """The score [N] of a diagnostic; nan where a cosine has no direction. A number that is missing for any other reason
    leaves nothing: the rest would be a selection.
    """
    values = SCORES[name](table).to_numpy(dtype=float)
    excused = ~directed(table).to_numpy() if name == "cosine" else np.zeros(len(table), dtype=bool)
    return np.where((np.isnan(values) & ~excused).any(), np.nan, values)


def together(table: pd.DataFrame, held: str) -> np.ndarray:
    """The chance [N] of being compensated by the three together, for each group of a column ``held`` from the other
    groups; nan where one of the three says nothing, or no other group has both outcomes.
    """
    values = np.stack([scored(name, table) for name in TOGETHER], 1)
    known = np.isfinite(values).all(axis=1)
    chance = np.full(len(table), np.nan)
    if known.any():
        own = table[known]
        chance[known] = joint(values[known], own.compensated.to_numpy(), own[held].to_numpy())
    return chance


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


#: What is held out in turn, with its column in the table of cells.
HELD = {"class": "perturbation", "network": "network"}


def areas(table: pd.DataFrame) -> pd.DataFrame:
    """How well each predictor tells the compensated cells from the others, under each rule by itself and POOLED.

    A row for every ``rule`` and ``predictor``: ``area`` under the ROC curve, a compensated cell against others of its
    own seed (``seeds_low``, ``seeds_high``: when seeds are drawn again); ``within``, against cells of its own class and
    network alone; ``held_class`` and ``held_network``, the balanced accuracy with a threshold, or a fit, from the other
    ones; ``over_trivial``, by how much the area is larger than that of the ``best`` of :data:`TRIVIAL` on the same
    rows, and ``over_rule`` than that of :data:`RULE` where rules are pooled. All have ``..._low`` and ``..._high`` when
    classes and networks are drawn again (:func:`~paper.prediction.clustered`). ``beyond`` is the area for what training
    compensates beyond clipping. The area of the three together is that of predictions for classes not fitted.
    ``trivial``: it takes no gradient; ``entered`` of ``rows`` have a value.
    """
    rules = list(dict.fromkeys(table.rule))
    scopes = {rule: table[table.rule == rule] for rule in rules}
    if len(rules) > 1:
        scopes[POOLED] = table
    rows = [row for scope, part in scopes.items() for row in _areas(scope, part.reset_index(drop=True))]
    ends = ("", "_low", "_high")
    columns = ["area", "area_low", "area_high", "seeds_low", "seeds_high"]
    columns += [
        f"{name}{end}"
        for name in ("within", "beyond", *(f"held_{one}" for one in HELD), "over_trivial", "over_rule")
        for end in ends
    ]
    names = ["rule", "predictor", "trivial", "rows", "entered", "classes", *columns, "best"]
    return pd.DataFrame(rows, columns=names)


def _areas(scope: str, part: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of one rule, or of all thrown together."""
    label, seed = part.compensated.to_numpy(dtype=bool), part.seed.to_numpy()
    pairs = part.groupby(["perturbation", "network"])
    unit, alike = pairs.ngroup().to_numpy(), part.groupby(["perturbation", "network", "seed"]).ngroup().to_numpy()
    clusters = [np.array(names) for names in zip(*pairs.groups, strict=True)]
    held = {name: part[column].to_numpy() for name, column in HELD.items() if part[column].nunique() > 1}
    free = {name: score(part).to_numpy(dtype=float) for name, score in TRIVIAL.items()}
    if scope == POOLED:
        # What the name of the rule says of the slope: that of what is computed, unless it is a staircase.
        stairs = part.perturbation.map({name: one.ranged for name, one in HARDWARE.items()}).to_numpy(dtype=bool)
        free[RULE] = ((part.rule == "autograd") & ~stairs).to_numpy(dtype=float)
    chances = {name: together(part, HELD[name]) for name in held}
    scores = {name: scored(name, part) for name in SCORES}
    scores |= {JOINT: chances.get("class", np.full(len(part), np.nan)), **free, CLASS: _elsewhere(part)}

    def met(score: np.ndarray, within: np.ndarray = seed) -> Duels:
        return duels(score, label, within, unit)

    over = part.beyond.to_numpy(dtype=float)
    rows = []
    for name, score in scores.items():
        known, trivial = np.isfinite(score), name in (*free, CLASS)
        row: dict[str, object] = {"rule": scope, "predictor": name, "trivial": trivial, "rows": len(part)}
        row |= {"entered": int(known.sum()), "classes": part.perturbation[known].nunique()}
        row |= _ends("area", clustered(met(score), clusters)) | _ends("within", clustered(met(score, alike), clusters))
        row["seeds_low"], row["seeds_high"] = _over_seeds(score, label, seed)
        left = np.where(np.isfinite(over), score, np.nan)
        row |= _ends("beyond", clustered(duels(left, over > 0, seed, unit), clusters))
        for one, of in held.items():
            said = np.full(len(part), np.nan)
            if name == JOINT:
                said = np.where(np.isfinite(chances[one]), chances[one] > 0.5, np.nan)
            elif len(np.unique(of[known])) > 1:
                said[known] = held_out(score[known], label[known], of[known])
            # The area of a yes or no is its balanced accuracy.
            found = clustered(met(said), clusters)
            # One answer for all is right about half of them whatever is drawn, which is no precision.
            constant = len(np.unique(said[np.isfinite(said)])) < 2
            row |= _ends(f"held_{one}", (found[0], (np.nan, np.nan)) if constant else found)
        if not trivial:
            rivals = {rival: met(np.where(known, own, np.nan)) for rival, own in free.items()}
            row |= _ends("over_trivial", clustered(met(score), clusters, list(rivals.values())))
            row["best"] = max(rivals, key=lambda one: rivals[one][0].sum())
            if RULE in rivals:
                row |= _ends("over_rule", clustered(met(score), clusters, [rivals[RULE]]))
        rows.append(row)
    return rows


def _ends(name: str, found: tuple[float, tuple[float, float]]) -> dict[str, object]:
    value, (low, high) = found
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _elsewhere(part: pd.DataFrame) -> np.ndarray:
    """The share of a class's cells in the other networks that are compensated; nan where there is no other network."""
    found = np.full(len(part), np.nan)
    for (name, network), rows in part.groupby(["perturbation", "network"]).indices.items():
        others = part[(part.perturbation == name) & (part.network != network)]
        found[rows] = others.compensated.mean() if len(others) else np.nan
    return found


def _over_seeds(score: np.ndarray, label: np.ndarray, seed: np.ndarray) -> tuple[float, float]:
    """The interval of the area when seeds are drawn again, of those that have both outcomes."""
    found = [duels(score[seed == one], label[seed == one]) for one in np.unique(seed)]
    won, fought = (np.array([pair[side].sum() for pair in found if pair[1].any()]) for side in (0, 1))

    def share(picked: np.ndarray, axis: int | None = None) -> np.ndarray:
        places = np.asarray(picked, dtype=int)
        return won[places].sum(axis) / fought[places].sum(axis)

    return bootstrap(np.arange(len(won)), share)


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

    A training that diverged is left out where it is, as in a verdict: its seed still counts for the other cells.
    """
    sums = runs[runs.gain.notna()].pivot_table(
        index=["network", "perturbation", "regime"], columns="seed", values=["damage", "gain"]
    )
    if sums.empty:
        unknown = (np.nan, (np.nan, np.nan))
        return Claim(claim, text, (), "<=", NOTHING, LINE, name=name, measured=unknown)
    damage, gain = (sums[one].to_numpy() for one in ("damage", "gain"))
    group = sums.index.to_frame(index=False).groupby(keys).ngroup().to_numpy()

    def divided(picked: np.ndarray) -> float:
        known = np.isfinite(gain[:, picked])
        cells_ = known.any(axis=1)
        won = np.where(known, beyond(damage[:, picked], gain[:, picked]), 0).sum(1) >= 0
        members, compensated = (np.bincount(group[cells_], weights=one[cells_]) for one in (cells_, won))
        return float(((compensated > 0) & (compensated < members)).sum())

    measured_ = over_seeds(divided, damage.shape[1])
    return Claim(claim, text, (), "<=", NOTHING, LINE, name=name, measured=measured_)


def claims(accuracy: pd.DataFrame, told: pd.DataFrame, again: pd.DataFrame | None = None) -> list[Claim]:
    """What the paper is quoted for, put to the test, and what separates; ``told`` are the areas, ``again`` a normalised
    network with its statistics measured again.
    """
    return [*_quoted(accuracy), *_lines(accuracy), *_normalised(accuracy, again), *_told(told)]


#: Families of claims: what the source is quoted for; where the line runs; and under each rule what tells
#: beforehand, what carries over, and what is worth more than a guess without a gradient.
QUOTED, LINE = "separation quoted", "separation line"


def _quoted(accuracy: pd.DataFrame) -> list[Claim]:
    """Each quoted side in both regimes."""
    found = []
    quoted: dict[str, tuple[str, Threshold, Relation]] = {
        "read_noise": ("compensable", COMPENSATED, ">="),
        "ir_drop": ("breaking", RECOVERED, "<="),
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
                        QUOTED,
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
                "The line runs between classes: each is on one side, where it costs little and where it costs much",
                vanilla,
                ["network", "perturbation"],
                "classes on both sides, counted in each network",
            )
        )
    if vanilla.network.nunique() > 1:
        found.append(
            _divided(
                "separation.networks",
                "Every network is on the same side, class by class, at equal damage",
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
                LINE,
                unit="points",
                name="mean difference",
            )
        )
    return found


def _normalised(accuracy: pd.DataFrame, again: pd.DataFrame | None) -> list[Claim]:
    """That drift is another matter for a network with batch normalisation, and what its statistics alone give back."""
    drift = accuracy[(accuracy.perturbation == "drift") & (accuracy.rule == "unaware")]
    networks = set(drift.network)
    found = []
    if NORMALISED in networks and len(networks) > 1:
        lost = drift.assign(lost=100 * (drift.clean - drift.accuracy))
        common = set.intersection(*(set(group.severity) for _, group in lost.groupby("network")))
        table = pivoted(lost[lost.severity.isin(common)], ["seed"], "network", "lost")
        more = (table[NORMALISED] - table.drop(columns=NORMALISED).max(axis=1)).to_numpy() if common else []
        text = "Drift costs the network with batch normalisation more than any other, at the same times"
        name = "mean difference to the one that loses most"
        found.append(Claim("separation.normalised", text, more, ">=", NORMALISED_LOSES, LINE, unit="points", name=name))
    if again is not None:
        mean = again.groupby("severity").damage.transform("mean")
        rest = again[mean >= CLEAR_DAMAGE]
        won = pd.Series(beyond(rest.damage, rest.gain), rest.index).groupby(rest.seed).mean().to_numpy()
        text = "Half of what drift costs a network with batch normalisation comes back with fresh batch statistics"
        name = f"won back minus {COMPENSATED:g} of the loss"
        found.append(Claim("separation.recalibrated", text, won, ">=", NOTHING, LINE, unit="points", name=name))
    return found


#: What claims about a predictor speak of; the others are in the table of areas only.
SUBJECTS = {
    "cosine": "consistency (cosine) {}",
    "signal": "variance (share of signal) {}",
    "live": "sensitivity (live weights) {}",
    JOINT: "the three together {}",
}


class _Question(NamedTuple):
    """Asked of every one of SUBJECTS under each rule: a sentence, a column of the areas and what it must reach."""

    text: str
    column: str
    threshold: Threshold
    name: str


_BALANCED, _DIFFERENCE = "balanced accuracy", "difference of areas under ROC"
_QUESTIONS = {
    "tells": _Question("can separate what training compensates from what it does not", "area", TELLS, "area under ROC"),
    "transfers.class": _Question("can decide about a class that was left out", "held_class", TRANSFERS, _BALANCED),
    "transfers.network": _Question(
        "can decide about a network that was left out", "held_network", TRANSFERS, _BALANCED
    ),
    "beyond": _Question(
        "can tell more than the best guess without a gradient", "over_trivial", BEYOND_TRIVIAL, _DIFFERENCE
    ),
}


def _told(areas_: pd.DataFrame) -> list[Claim]:
    """What a diagnostic tells under a rule, with intervals over classes: with a threshold of its own, about a class or
    a network that it never saw, and more than what takes no gradient; and what truth adds to the name of the rule.
    """
    found = []
    for rule in dict.fromkeys(areas_.rule[areas_.rule != POOLED]):
        own = areas_[areas_.rule == rule].set_index("predictor")
        for id, question in _QUESTIONS.items():
            if question.column.startswith("held") and own[question.column].isna().all():
                continue
            what, _, held = id.partition(".")
            for name, subject in SUBJECTS.items():
                key = ".".join(filter(None, ["separation", what, rule, name.replace(" ", "_"), held]))
                text = f"Under {NAMES.get(rule, rule)} {subject.format(question.text)}"
                found.append(_of(key, text, own.loc[name], question, f"separation {what} {rule}"))
    pooled = areas_[(areas_.rule == POOLED) & (areas_.predictor == "truth")]
    if len(pooled):
        text = "Over all rules the gradient's truth tells more than the rule and whether there is a converter"
        question = _Question(text, "over_rule", BEYOND_TRIVIAL, _DIFFERENCE)
        found.append(_of("separation.truth", text, pooled.iloc[0], question, "separation truth"))
    return found


def _of(id: str, text: str, row: pd.Series, question: _Question, family: str) -> Claim:
    value, low, high = (float(row[f"{question.column}{end}"]) for end in ("", "_low", "_high"))
    relation: Relation = ">" if question.threshold is BEYOND_TRIVIAL else ">="
    measured_ = (value, (low, high))
    return Claim(id, text, (), relation, question.threshold, family, name=question.name, measured=measured_)
