"""Every figure from small tables: what it draws of the evidence, where this run lies over it, and what is not known."""

from __future__ import annotations

import ast
import inspect
import io
import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from lib.hardware import devices, perturbations
from lib.hardware.perturbations import PERTURBATIONS, ReadNoise
from lib.prompts.diagnosis import FACTORS
from lib.verdicts import MARKS, Outcome
from paper.figures import (
    composed,
    crossbar,
    foresight,
    gates,
    hardware,
    peers,
    photo_world,
    prompts,
    real,
    style,
    summaries,
    worth,
)
from paper.studies import base
from paper.studies.peers import LAWS, SECONDS
from paper.studies.separation import JOINT, SCORES, TRIVIAL
from paper.tools import profiles

PHYSICS = PERTURBATIONS["read_noise"]
MODULES = (prompts, photo_world, gates, hardware, composed, crossbar, peers, real, worth)
Point = tuple[int, float, float]


def cells(**columns: Any) -> pd.DataFrame:
    """Every combination of the columns' values."""
    return pd.DataFrame(list(itertools.product(*columns.values())), columns=list(columns))


def measured(table: pd.DataFrame, *names: str, low: float = 0.2, high: float = 0.8, seed: int = 0) -> pd.DataFrame:
    """The table with columns of reproducible numbers between ``low`` and ``high``."""
    rng = np.random.default_rng(seed)
    return table.assign(**{name: rng.uniform(low, high, len(table)) for name in names})


def ended(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The table with an interval around each of the columns."""
    ends = {f"{name}_low": table[name] - 0.05 for name in names} | {
        f"{name}_high": table[name] + 0.05 for name in names
    }
    return table.assign(**ends)


# ------------------------------------------------------------------------------------------------ small tables
def gaps(seeds: int, new: str = "length") -> pd.DataFrame:
    table = cells(learner=["coop", "maple"], gate=["depth", new], task=["shapes", "colours"], step=[0, 10, 20])
    table = table.merge(pd.DataFrame({"seed": range(seeds)}), how="cross")
    return measured(table, "gap", *FACTORS, "information", "spread", "class_share", "saturation", "used", low=0.4)


def values(seeds: int, new: str = "gated") -> pd.DataFrame:
    variants = list(dict.fromkeys(["fixed", "blind", "gated", "mean", "shuffled", new]))
    kinds = [("shapes", "short"), ("conflict", "short"), ("conflict", "control")]
    parts = [
        cells(task=[task], recipe=[recipe], variant=variants, learner=["coop"], gate=["length"], seed=range(seeds))
        for task, recipe in kinds
    ]
    return measured(pd.concat(parts, ignore_index=True), "accuracy", low=40, high=90)


def shifts(seeds: int, new: str = "bias") -> pd.DataFrame:
    names = list(dict.fromkeys(["prompt_std", "bias", "temperature", "gain", "aligned", new]))
    table = cells(weights=["trained", "random"], intervention=names, value=[0.1, 1.0], seed=range(seeds))
    return measured(table.assign(learner="coop", gate="length", task="shapes"), "gap", "predicted", "before")


def looks(seeds: int, new: str = "nothing changed") -> pd.DataFrame:
    names = list(dict.fromkeys(["nothing changed", "gate rate x 10", "map sgd", "map adam", new]))
    table = cells(intervention=names, strength=[0.5, 1.0], step=[10, 100], seed=range(seeds))
    worth = ("over_mean", "over_shuffled", "over_fixed", "over_blind")
    return measured(table.assign(adaptive=1.0), *worth, low=0, high=20)


def escapes(seeds: int, new: str = "rate") -> pd.DataFrame:
    table = cells(lever=list(dict.fromkeys(["home", "rate", new])), seed=range(seeds))
    table = table.assign(strength=1.0, intervention=table["lever"])
    return measured(measured(table, "taken", low=0, high=3), "escape", low=20, high=900, seed=1)


def levers(_: int, new: str = "rate") -> pd.DataFrame:
    table = cells(lever=list(dict.fromkeys(["rate", "gain", new])))
    ends = {"low": 0.1, "high": 0.9, "less_low": -0.4, "less_high": 0.4}
    return measured(table, "slope", "less_rate").assign(**ends)


def gained(seeds: int, new: str = "16 shots") -> pd.DataFrame:
    conditions = list(dict.fromkeys(["1 shot", "16 shots", "base to new", new]))
    table = cells(learner=["coop", "maple"], gate=["length"], task=["eurosat", "dtd"], recipe=conditions)
    return measured(table.merge(pd.DataFrame({"seed": range(seeds)}), how="cross"), "over_blind", low=-1, high=4)


def areas(_: int, new: str = "gap") -> pd.DataFrame:
    names = list(dict.fromkeys(["gap", "information", new]))
    table = measured(cells(measurement=names, when=["before", "early", "late"]), "area", "dependence")
    return ended(table, "area", "dependence")


def worths(seeds: int, new: str = "length") -> pd.DataFrame:
    table = cells(learner=["coop"], gate=["depth", new], task=["shapes", "conflict"], recipe=["short", "tuned"])
    table = table.merge(pd.DataFrame({"seed": range(seeds)}), how="cross")
    return measured(table, "over_mean", "over_shuffled", "over_fixed", "over_blind", low=-8, high=30)


def manys(seeds: int, new: str = "conflict") -> pd.DataFrame:
    table = cells(task=list(dict.fromkeys(["shapes", "conflict", new])), seed=range(seeds))
    return measured(table, "over_mean", "over_shuffled", "over_fixed", "over_blind", low=-8, high=30)


def runs(seeds: int, new: str = "autograd") -> pd.DataFrame:
    rules = list(dict.fromkeys(["unaware", "autograd", "straight_through", new]))
    table = cells(perturbation=["read_noise"], rule=rules, severity=[0.05, 0.2, 0.8], seed=range(seeds))
    table = table.assign(network="mlp", clean=0.9, chips=25, steps=300, variant="plain")
    names = ("accuracy", "low", "unaware", "cosine", "truth", "signal", "live", "gain")
    return measured(table, *names)


def summary(_: int, new: str = "read_noise") -> pd.DataFrame:
    names = list(dict.fromkeys(["read_noise", "adc", new]))
    parts = []
    for name in names:
        grid = PERTURBATIONS[name].grid[1:4] if name in PERTURBATIONS else (1.0, 2.0, 3.0)
        parts.append(cells(perturbation=[name], rule=["autograd", "straight_through"], severity=grid))
    table = pd.concat(parts, ignore_index=True).assign(network="mlp", known=np.nan)
    table["verdict"] = list(itertools.islice(itertools.cycle(style.VERDICTS), len(table)))
    columns = ("recovery", "damage", "cosine", "signal", "live", "clean", "unaware", "accuracy", "low")
    return ended(measured(table, *columns), "recovery")


def one_class(seeds: int, _: str = "") -> pd.DataFrame:
    table = summary(seeds)
    return table[table.perturbation == "read_noise"]


def damaging(seeds: int, new: str = "read_noise") -> pd.DataFrame:
    names = list(dict.fromkeys(["read_noise", "adc", new]))
    table = cells(
        network=["mlp", "vit"], perturbation=names, rule=["autograd", "straight_through"], severity=[1.0, 2.0]
    )
    table = table.merge(pd.DataFrame({"seed": range(seeds)}), how="cross")
    table = measured(table, *SCORES, "gain", "damage", "chance")
    table = table.assign(cosine_low=table.cosine - 0.1, cosine_high=table.cosine + 0.1)
    return table.assign(compensated=[number % 2 == 0 for number in range(len(table))])


def told(_: int, new: str = "cosine") -> pd.DataFrame:
    names = list(dict.fromkeys([*SCORES, JOINT, *TRIVIAL, new]))
    table = measured(cells(rule=["autograd", "straight_through", "pooled"], predictor=names), "area", low=0.4)
    ends = {"area_low": -0.3, "area_high": 0.2, "seeds_low": -0.1, "seeds_high": 0.1}
    return table.assign(**{name: table.area + off for name, off in ends.items()})


def remedied(_: int, new: str = "read_noise") -> pd.DataFrame:
    table = summary(0, new).drop_duplicates(["perturbation", "severity"])
    kinds = {"vanilla training": "training", "one factor per layer": "calibration", "another": "magic"}
    parts = [table.assign(measure=measure, kind=kind) for measure, kind in kinds.items()]
    return measured(pd.concat(parts, ignore_index=True), "recovery")


def yielded(_: int, new: str = "stuck_at") -> pd.DataFrame:
    arms = ["unaware", "clipped", "autograd"]
    names = list(dict.fromkeys(["variability", new]))
    table = cells(perturbation=names, severity=[0.05, 0.2], arm=arms, specification=[2.0, 5.0])
    return ended(measured(table, "share"), "share").rename(columns={"share_low": "low", "share_high": "high"})


def chips(_: int, new: str = "adc") -> pd.DataFrame:
    parts = list(dict.fromkeys(["read_noise", "drift", "adc", new]))
    named = {name: "alone" for name in parts}
    named |= {" + ".join(pair): "pair" for pair in itertools.combinations(parts, 2)}
    named[" + ".join(parts)] = "all"
    table = cells(parts=list(named), rule=["autograd", "straight_through"])
    table = table.assign(kind=table.parts.map(named), network="mlp", verdict="compensated", worst="not recovered")
    columns = ("damage", "recovery", "summed", "in_logits", "by_noise", "weighted", "clean", "unaware", "accuracy")
    return ended(measured(table, *columns), "recovery")


def noise(seeds: int, new: str = "adc") -> pd.DataFrame:
    table = chips(seeds, new)[["parts", "kind"]].drop_duplicates()
    return measured(table.merge(pd.DataFrame({"seed": range(seeds)}), how="cross"), "measured", "unordered", "ordered")


def ruler(seeds: int) -> pd.DataFrame:
    return measured(cells(severity=[0.1, 0.2, 0.4], seed=range(seeds)), "measured", "damage")


def removed(seeds: int, new: str = "adc") -> pd.DataFrame:
    parts = list(dict.fromkeys(["read_noise", "adc", new]))
    return measured(cells(part=parts, rule=["unaware", "autograd"], seed=range(seeds)), "alone", "back")


def aged(seeds: int, new: str = "none") -> pd.DataFrame:
    ways = list(dict.fromkeys(["none", "global", new]))
    table = cells(time=[20.0, 8.64e4], compensation=ways, rule=["unaware", "autograd"], seed=range(seeds))
    return measured(table.assign(clean=0.9, chips=25), "accuracy", "low")


def wired(arrays: int, new: float = 1.0) -> pd.DataFrame:
    ohms = list(dict.fromkeys([1.0, 10.0, new]))
    return measured(cells(ohm=ohms, kind=["uniform", "sparse"], side=[8, 16], seed=range(arrays)), "loss", "error")


def tiled(arrays: int) -> pd.DataFrame:
    return measured(cells(tile=[8, 16], seed=range(arrays)).assign(side=16), "loss")


def operated(seeds: int, new: str = "ideal") -> pd.DataFrame:
    names = list(dict.fromkeys(["phase-change", "resistive", new]))
    table = cells(chip=names, seconds=[20.0, 3620.0], seed=range(seeds))
    table.loc[table.chip == "resistive", "seconds"] = 0.0
    return measured(table, "accuracy", "low", low=80, high=99)


def sampled(_: int) -> pd.DataFrame:
    parts = [
        cells(law=[law], g=[2.5, 10.0], seconds=SECONDS if law == "read" else [0.0], statistic=["mean", "std"])
        for law in LAWS
    ]
    return measured(pd.concat(parts, ignore_index=True), "sampled", "error", "z")


def compared(_: int, new: float = SECONDS[0]) -> pd.DataFrame:
    table = cells(law=["chip"], g=[2.5, 10.0], seconds=list(dict.fromkeys([*SECONDS, new])), statistic=["mean", "std"])
    table = pd.concat([sampled(0)[["law", "g", "seconds", "statistic"]], table], ignore_index=True)
    return measured(table, "peer", "error", "z", "deviation")


def judged(seeds: int, *new: str) -> pd.DataFrame:
    cases = ["programmed", "pcm none 86420", "wires 100"]
    table = cells(simulator=["aihwkit", *new], case=cases, kind=["unaware", "aware"], seed=range(seeds))
    return measured(table, "accuracy", "difference")


VERDICTS = cells(task=["shapes", "conflict"]).assign(verdict="idle")


def long(seeds: int, new: str = "SGD") -> pd.DataFrame:
    names = list(dict.fromkeys(["SGD", "Adam", new]))
    table = cells(task=["conflict", "coarse"], training=names, step=[1, 10, 100], seed=range(seeds))
    return measured(table, "information", "spread", "saturation", "over_mean")


# --------------------------------------------------------------------------------------------------- the figures
@dataclass(frozen=True)
class Case:
    """A figure, its tables for so many seeds (and with a name that no one knows), this run's, and where these lie."""

    draw: Callable[..., Any]
    tables: Callable[..., tuple[Any, ...]]
    unknown: tuple[Any, ...]
    #: From the tables of this run to its ``rerun``; None: the first table itself.
    rerun: Callable[..., Any] | None
    #: From the tables of this run to some points that must be there: axis, x, y.
    points: Callable[..., list[Point]]
    note: str = ""


def first_of(table: pd.DataFrame, **given: Any) -> pd.DataFrame:
    for name, value in given.items():
        table = table[table[name] == value]
    return table


STARTS = lambda n, *new: (gaps(n, *new), gaps(n, *new).assign(gap=lambda table: 0.5 * table.gap))  # noqa: E731
SLOPES = {"rate": 0.8, "prompts": np.nan, "temperature": np.nan, "gain": np.nan}
LAW = pd.DataFrame([{"draw": 0, "intercept": 3.0, **SLOPES, "scatter": 0.2, "steps": 1000}])
BOUNDARY = pd.DataFrame({"intervention": ["map sgd"] * 2, "strength": [0.5, 1.0], "steps": [80.0, 20.0]})
BOUNDARIES = pd.DataFrame(
    [{"network": "mlp", "perturbation": "adc", "rule": "autograd", "severity": 4.0, "low": 3.5, "high": 5.0}]
)

CASES = {
    "prompts.gap_over_training": Case(
        prompts.gap_over_training,
        lambda n, *new: (gaps(n, *new), {"coop": 2.3}),
        ("unheard_of",),
        None,
        lambda t, _: [(0, 10, first_of(t, learner="coop", gate="depth", step=10).gap.mean())],
    ),
    "prompts.waterfall": Case(
        prompts.waterfall,
        lambda n, *new: (gaps(n, *new),),
        ("unheard_of",),
        None,
        lambda t: [(0, 2.38, -t[list(FACTORS[:2])].mean().sum()), (0, 8.38, -t[list(FACTORS)].mean().sum())],
    ),
    "prompts.gap_by_task": Case(
        prompts.gap_by_task,
        STARTS,
        ("unheard_of",),
        lambda start, null: {"start": start, "null": null},
        lambda start, null: [
            (0, -0.14, first_of(start, task="shapes").gap.mean()),
            (0, 1.14, first_of(null, task="colours").gap.mean()),
        ],
    ),
    "prompts.gates_over_training": Case(
        prompts.gates_over_training,
        lambda n, *new: (gaps(n, *new),),
        ("unheard_of",),
        None,
        lambda t: [(3, 20, first_of(t, learner="maple", gate="depth", step=20).saturation.mean())],
    ),
    "prompts.value_bars": Case(
        prompts.value_bars,
        lambda n, *new: (values(n, *new),),
        ("unheard_of",),
        None,
        lambda t: [
            (
                0,
                2 + 0.8 / t.variant.nunique() * (2 - (t.variant.nunique() - 1) / 2),
                first_of(t, task="conflict", recipe="control", variant="gated").accuracy.mean(),
            )
        ],
    ),
    "prompts.learner_points": Case(
        prompts.learner_points,
        lambda n, new="coop": (
            measured(
                cells(
                    learner=dict.fromkeys(["zero_shot", "coop", new]), task=["shapes", "colours"], seed=range(n)
                ).assign(by="short", recipe="short"),
                "accuracy",
                low=40,
                high=90,
            ),
        ),
        ("unheard_of",),
        None,
        lambda t: [(1, first_of(t, learner="coop", task="colours").accuracy.mean(), 0)],
    ),
    "prompts.zero_shot_bars": Case(
        prompts.zero_shot_bars,
        lambda n, new="shapes": (
            measured(
                pd.DataFrame({"task": list(dict.fromkeys(["shapes", "colours", new]))}), "accuracy", high=90
            ).assign(low=lambda t: t.accuracy - 2, high=lambda t: t.accuracy + 2, chance=10, classes=10),
        ),
        ("unheard_of",),
        None,
        lambda t: [(0, t.accuracy[1], 1)],
    ),
    "gates.gap_survey": Case(
        gates.gap_survey,
        lambda n, *new: (gaps(n, *new),),
        ("unheard_of",),
        None,
        lambda t: [(0, 0.36, 1)],
        "in the colours of the map",
    ),
    "gates.origin_shifts": Case(
        gates.origin_shifts,
        lambda n, *new: (shifts(n, *new),),
        ("unheard_of",),
        None,
        lambda t: [(1, 1.0, first_of(t, weights="trained", intervention="bias", value=1.0).gap.mean())],
    ),
    "gates.angles": Case(
        gates.angles,
        lambda n, *new: (
            measured(
                cells(weights=["trained"], layer=dict.fromkeys(["first", *new]), value=[0.01, 0.1], seed=range(n)),
                *("to_prompt", "to_token", "sine", "chance"),
            ),
        ),
        ("unheard_of",),
        None,
        lambda t: [(0, 0.1, first_of(t, layer="first", value=0.1).to_token.mean())],
    ),
    "gates.ways_to_act": Case(
        gates.ways_to_act,
        lambda n, *new: (
            measured(
                cells(gate=dict.fromkeys(["length", "soft", *new]), task=["fine"], value=[0.02, 0.2], seed=range(n)),
                "gap",
            ),
        ),
        ("unheard_of",),
        None,
        lambda t: [(0, 0.2, first_of(t, gate="soft", value=0.2).gap.mean())],
    ),
    "gates.from_words": Case(
        gates.from_words,
        lambda n, *new: (
            measured(cells(learner=dict.fromkeys(["coop", "maple", *new]), seed=range(n)), "taken", "predicted"),
        ),
        ("unheard_of",),
        None,
        lambda t: [(0, first_of(t, learner="maple").taken.mean(), 1)],
    ),
    "gates.selection_usage": Case(
        gates.selection_usage,
        lambda n, *new: (gaps(n, *new), 8),
        ("unheard_of",),
        None,
        lambda t, _: [(1, 20, first_of(t, gate="depth", step=20).information.mean())],
    ),
    "gates.value_by_shots": Case(
        gates.value_by_shots,
        lambda n, new="coarse": (
            measured(
                cells(task=dict.fromkeys(["coarse", new]), shots=[1, 4], seed=range(n)),
                *("over_mean", "over_fixed", "over_blind"),
            ),
        ),
        ("unheard_of",),
        None,
        lambda t: [(0, 4, first_of(t, task="coarse", shots=4).over_blind.mean())],
    ),
    "gates.intervention_looks": Case(
        gates.intervention_looks,
        lambda n, *new: (looks(n, *new), 2.0),
        ("unheard of",),
        None,
        lambda t, _: [(1, first_of(t, intervention="nothing changed", step=100).over_mean.mean(), None)],
    ),
    "gates.intervention_worth": Case(
        gates.intervention_worth,
        lambda n, *new: (looks(n, *new), 1.0),
        ("unheard of",),
        None,
        lambda t, _: [(1, first_of(t, intervention="nothing changed", step=100).over_blind.mean(), None)],
    ),
    "real.forest": Case(
        real.forest,
        lambda n, *new: (gained(n, *new), ["eurosat", "dtd"]),
        ("64 shots",),
        None,
        lambda t, _: [(1, first_of(t, task="dtd", learner="maple", recipe="1 shot").over_blind.mean(), None)],
    ),
    "gates.lever_slopes": Case(
        gates.lever_slopes,
        lambda n, *new: (levers(n, *new), 0.25),
        ("unheard_of",),
        None,
        lambda t, _: [(0, t.slope.iloc[0], 0), (1, t.less_rate.iloc[0], 0)],
    ),
    "gates.escape_law": Case(
        gates.escape_law,
        lambda n, *new: (escapes(n, *new), LAW),
        ("unheard_of",),
        None,
        lambda t, _: [(0, t[t.lever == "rate"].taken.mean(), t[t.lever == "rate"].escape.median())],
    ),
    "gates.escape_map": Case(
        gates.escape_map,
        lambda n, *new: (looks(n, *new), BOUNDARY, 2.0),
        ("map unheard of",),
        None,
        lambda *_: [(0, 1.34, 0)],
        "in the colours of the map",
    ),
    "gates.long_runs": Case(
        gates.long_runs,
        lambda n, *new: (long(n, *new), long(n, *new)),
        ("unheard_of",),
        lambda t, *_: {"long": t},
        lambda t, *_: [(0, 1, first_of(t, task="conflict", training="SGD", step=1).information.mean())],
    ),
    "worth.plane": Case(
        worth.plane,
        lambda n, *new: (worths(n, *new), worths(n).head(0), VERDICTS),
        ("unheard_of",),
        None,
        lambda t, *_: [
            (0, of.over_mean.mean(), of.over_fixed.mean())
            for of in [first_of(t, gate="depth", task="shapes", recipe="short")]
        ],
    ),
    "worth.forest": Case(
        worth.forest,
        lambda n, *new: (manys(n, *new),),
        ("unheard_of",),
        None,
        lambda t, *_: [
            (axis, of[name].mean(), row + shift)
            for row, task in enumerate(["shapes", "conflict"])
            for of in [first_of(t, task=task)]
            for axis, shift, name in [
                (0, -0.13, "over_mean"),
                (0, 0.13, "over_shuffled"),
                (1, -0.13, "over_fixed"),
                (1, 0.13, "over_blind"),
            ]
        ],
    ),
    "worth.by_recipe": Case(
        worth.by_recipe,
        lambda n, *new: (values(n, *new), pd.DataFrame({"task": ["shapes", "conflict"], "accuracy": [60.0, 60.0]})),
        ("unheard_of",),
        None,
        lambda t, _: [(0, 0.22, first_of(t, task="shapes", recipe="short", variant="gated").accuracy.mean())],
    ),
    "gates.roc_areas": Case(
        gates.roc_areas,
        lambda n, *new: (areas(n, *new), {}, 0.8),
        ("unheard_of",),
        None,
        lambda t, *_: [(0, first_of(t, measurement="information", when="late").area.item(), 1.22)],
    ),
    "hardware.accuracy": Case(
        hardware.accuracy,
        lambda n, *new: (runs(n, *new), PHYSICS),
        ("unheard_of",),
        None,
        lambda t, _: [(0, 1, 100 * first_of(t, rule="straight_through", severity=0.2).accuracy.mean())],
    ),
    "hardware.diagnostics": Case(
        hardware.diagnostics,
        lambda n, *new: (runs(n, *new), PHYSICS),
        ("unheard_of",),
        None,
        lambda t, _: [(2, 2, first_of(t, rule="autograd", severity=0.8).gain.median())],
    ),
    "hardware.recovery": Case(
        hardware.recovery,
        lambda n, new="autograd": (
            pd.concat([one_class(n), one_class(n).assign(rule=new)]).drop_duplicates(["rule", "severity"]),
            PHYSICS,
        ),
        ("unheard_of",),
        None,
        lambda t, _: [(0, -0.06, first_of(t, rule="autograd").recovery.iloc[0])],
    ),
    "hardware.variants": Case(
        hardware.variants,
        lambda n, *new: (
            pd.concat([first_of(runs(n, *new), rule=rule).assign(variant=rule) for rule in ("autograd", *new)]),
            PHYSICS,
        ),
        ("unheard_of",),
        None,
        lambda t, _: [(1, 100 * first_of(t, rule="autograd", severity=0.2).accuracy.mean(), 0)],
    ),
    "hardware.arms": Case(
        hardware.arms,
        lambda n, *new: (
            pd.concat([first_of(runs(n, *new), rule=rule).assign(arm=rule) for rule in ("autograd", *new)]),
            first_of(runs(n), rule="autograd").assign(arm="scale detached", variance=3.0),
            PHYSICS,
        ),
        ("unheard_of",),
        None,
        lambda t, *_: [(0, 100 * first_of(t, rule="autograd", severity=0.05).accuracy.mean(), 0)],
    ),
    "hardware.strips": Case(
        hardware.strips,
        lambda n, *new: (summary(n, *new),),
        ("temperature",),
        None,
        lambda t: [(2, 1, first_of(t, perturbation="adc", rule="autograd").recovery.iloc[1]), (3, 1.3, 2)],
    ),
    "hardware.against_recovery": Case(
        hardware.against_recovery,
        lambda n, *new: (damaging(n, *new),),
        ("temperature",),
        None,
        lambda t: [
            (
                1,
                first_of(t, network="vit", perturbation="adc", rule="autograd", severity=2.0).signal.mean(),
                np.clip(
                    first_of(t, network="vit", perturbation="adc", rule="autograd", severity=2.0).gain.mean()
                    / first_of(t, network="vit", perturbation="adc", rule="autograd", severity=2.0).damage.mean(),
                    -0.5,
                    1.1,
                ),
            )
        ],
    ),
    "hardware.roc": Case(
        hardware.roc,
        lambda n, *new: (damaging(n), told(n, *new)),
        ("unheard_of",),
        lambda _, told: told,
        lambda _, t: [(1, first_of(t, predictor="signal", rule="straight_through").area.item(), 2.0)],
    ),
    "hardware.phases": Case(
        hardware.phases,
        lambda n, *new: (summary(n, *new), BOUNDARIES),
        ("temperature",),
        None,
        lambda *_: [(1, 1.36, 0.66)],
        "in the colours of the map",
    ),
    "hardware.remedies": Case(
        hardware.remedies,
        lambda n, *new: (remedied(n, *new),),
        ("temperature",),
        None,
        lambda t: [(1, first_of(t, perturbation="adc", measure="one factor per layer").recovery.iloc[0], 1)],
    ),
    "hardware.yields": Case(
        hardware.yields,
        lambda n, *new: (yielded(n, *new),),
        ("temperature",),
        None,
        lambda t: [
            (
                0,
                0.92,
                first_of(t, perturbation="variability", severity=0.2, arm="unaware", specification=5.0).share.iloc[0],
            )
        ],
    ),
    "composed.predicted_loss": Case(
        composed.predicted_loss,
        lambda n, *new: (chips(n, *new),),
        ("temperature",),
        None,
        lambda t: [
            (2, *(100 * first_of(t, parts="read_noise + adc", rule="autograd")[["by_noise", "damage"]].iloc[0]))
        ],
    ),
    "composed.pairs": Case(
        composed.pairs,
        lambda n, *new: (chips(n, *new), ("read_noise", "drift", "adc", *new)),
        ("temperature",),
        None,
        lambda *_: [(0, 2.36, 0.34), (0, 0.36, 2.34)],
        "in the colours of the map",
    ),
    "composed.signal": Case(
        composed.signal,
        lambda n, *new: (noise(n, *new), chips(n, *new), ruler(n)),
        ("temperature",),
        lambda signal, summary, _: {"signal": signal, "summary": summary},
        lambda signal, summary, _: [
            (0, *first_of(signal, parts="drift + adc")[["ordered", "measured"]].mean()),
            (
                1,
                first_of(signal, parts="adc").measured.mean(),
                100 * first_of(summary, parts="adc", rule="autograd").damage.item(),
            ),
        ],
    ),
    "composed.recoveries": Case(
        composed.recoveries,
        lambda n, *new: (chips(n, *new),),
        ("temperature",),
        None,
        lambda t: [
            (1, *first_of(t, parts="read_noise + adc", rule="straight_through")[["weighted", "recovery"]].iloc[0])
        ],
    ),
    "composed.removal": Case(
        composed.removal,
        lambda n, *new: (removed(n, *new),),
        ("temperature",),
        None,
        lambda t: [
            (0, 1 - 0.4 + 0.4 / 3, 100 * first_of(t, part="adc").alone.mean()),
            (0, 1 - 0.4 + 0.4 / 3 + 0.8 / 3, 100 * first_of(t, part="adc", rule="unaware").back.mean()),
        ],
    ),
    "composed.phase_change": Case(
        composed.phase_change,
        lambda n, *new: (aged(n, *new),),
        ("unheard of",),
        None,
        lambda t: [(0, 1, 100 * first_of(t, time=8.64e4, compensation="global", rule="autograd").accuracy.mean())],
    ),
    "crossbar.wires": Case(
        crossbar.wires,
        lambda n, *new: (wired(n, *new), tiled(n)),
        (1000.0,),
        lambda loss, tiles: {"loss": loss, "tiles": tiles},
        lambda loss, tiles: [
            (1, 16, first_of(loss, ohm=10.0, kind="sparse", side=16).error.mean()),
            (2, 1, first_of(tiles, tile=16).loss.mean()),
        ],
    ),
    "crossbar.over_time": Case(
        crossbar.over_time,
        lambda n, *new: (operated(n, *new),),
        ("unheard of",),
        None,
        lambda t: [
            (0, 3620, first_of(t, chip="phase-change", seconds=3620.0).accuracy.mean()),
            (0, 20, first_of(t, chip="resistive").accuracy.mean()),
        ],
    ),
    "peers.moments": Case(
        peers.moments,
        lambda n, *_: (sampled(n), compared(n)),
        (),
        lambda statistics, peers: {"statistics": statistics, "peers": peers},
        lambda statistics, peers: [
            (0, 10.0, first_of(statistics, law="programming", g=10.0, statistic="std").sampled.item()),
            (len(LAWS), 10.5, first_of(peers, law="programming", g=10.0, statistic="mean").z.item()),
        ],
    ),
    "peers.chips": Case(
        peers.chips,
        lambda n, *new: (compared(n, *new),),
        (3.15e7,),
        None,
        lambda t: [
            (1, 2.5, 100 * first_of(t, law="chip", g=2.5, seconds=SECONDS[1], statistic="std").deviation.item())
        ],
    ),
    "peers.simulators": Case(
        peers.simulators,
        lambda n, *new: (judged(n).assign(simulator="ours"), judged(n, *new)),
        ("abacus",),
        lambda simulated, differences: {"simulated": simulated, "differences": differences},
        lambda simulated, differences: [
            (0, -0.04, first_of(simulated, case="programmed").accuracy.mean()),
            (5, 2.14, first_of(differences, case="wires 100").difference.mean()),
        ],
    ),
}


def diamonds(drawn: Any) -> list[Point]:
    """Axis, x and y of everything that is drawn of this run."""
    return [
        (number, *map(float, place))
        for number, axis in enumerate(drawn.axes)
        for shape in axis.collections
        if shape.get_gid() == "this run"
        for place in shape.get_offsets()
    ]


def said(drawn: Any) -> str:
    return drawn.get_label()


def again(case: Case, *new: Any) -> tuple[tuple[Any, ...], Any]:
    """Tables of a run with one seed and other numbers, and what the figure is given of them."""
    tables = []
    for table in case.tables(1, *new):
        if isinstance(table, pd.DataFrame):
            numbers = NUMBERS & set(table.select_dtypes("number"))
            table = table.assign(**{name: 0.9 * table[name] for name in numbers})
        tables.append(table)
    return tuple(tables), case.rerun(*tables) if case.rerun else tables[0]


NUMBERS = {
    *("gap", *FACTORS, "information", "spread", "class_share", "saturation", "used", "accuracy", "low", "over_mean"),
    *(
        "to_prompt",
        "to_token",
        "over_fixed",
        "over_blind",
        "over_shuffled",
        "taken",
        "escape",
        "area",
        "unaware",
        "cosine",
        "truth",
    ),
    *("signal", "live", "gain", "recovery", "damage", "summed", "in_logits", "by_noise"),
    *(
        "slope",
        "less_rate",
        "weighted",
        "measured",
        "unordered",
        "ordered",
        "alone",
        "back",
        "loss",
        "error",
        "sampled",
        "z",
        "deviation",
        "difference",
    ),
}


def test_every_figure_of_measured_cells_takes_a_rerun():
    pictures = {
        *("prompts.gallery", "prompts.captioned", "prompts.curve", "gates.forecast", "hardware.through_the_chip"),
        *("photo_world.gallery", "photo_world.changed", "photo_world.curve"),
        *("hardware.attempt", "hardware.measures", "composed.together", "crossbar.pair", "crossbar.circuit"),
        *("crossbar.crossbar", "crossbar.setting", "crossbar.array", "hardware.weights", "gates.gate_histogram"),
    }
    figures = {
        f"{module.__name__.rpartition('.')[2]}.{name}": one
        for module in MODULES
        for name, one in vars(module).items()
        if _draws(module, one)
    }
    assert set(figures) == set(CASES) | pictures
    for name, one in figures.items():
        given = inspect.signature(one).parameters
        assert ("rerun" in given) == (name in CASES), name
        assert "rerun" not in given or (given["rerun"].kind, given["rerun"].default) == (
            given["rerun"].KEYWORD_ONLY,
            None,
        )


def _draws(module: ModuleType, one: Any) -> bool:
    own = inspect.isfunction(one) and one.__module__ == module.__name__ and not one.__name__.startswith("_")
    return own and inspect.signature(one).return_annotation == "Figure"


@pytest.mark.parametrize("name", CASES)
def test_this_run_lies_over_the_evidence(name):
    case = CASES[name]
    tables, rerun = again(case)
    drawn = case.draw(*case.tables(3), rerun=rerun)
    found = diamonds(drawn)
    for axis, x, y in case.points(*tables):
        near = [
            one for one in found if one[0] == axis and np.isclose(one[1], x) and (y is None or np.isclose(one[2], y))
        ]
        assert near, f"nothing of this run at {x}, {y} in panel {axis}: {found}"
    assert "Diamonds: this run" in said(drawn) and case.note in said(drawn)
    assert style.png(drawn).startswith(b"\x89PNG")


def written(drawn: Any) -> list[Text]:
    """Every text that a picture shows."""
    texts = [one for one in drawn.findobj(Text) if one.get_visible() and one.get_text().strip()]
    hidden = {id(text) for axis in drawn.axes if not axis.axison for text in (axis.xaxis, axis.yaxis)}
    unseen = [one for axis in drawn.axes for side in (axis.xaxis, axis.yaxis) for one in _unseen(axis, side, hidden)]
    return [one for one in texts if one not in unseen]


def _unseen(axis: Any, side: Any, hidden: set[int]) -> list[Text]:
    """Texts of an axis that are not drawn: all where it is off, else those of ticks beyond its ends."""
    if id(side) in hidden or not axis.get_visible():
        return list(side.findobj(Text))
    drawn = {id(label) for tick in side._update_ticks() for label in (tick.label1, tick.label2)}
    ticks = [*side.get_major_ticks(), *side.get_minor_ticks()]
    return [label for tick in ticks for label in (tick.label1, tick.label2) if id(label) not in drawn]


def collisions(drawn: Any) -> list[str]:
    """Texts that print over each other or beyond the picture, and legends that lie over points or lines."""
    drawn.draw_without_rendering()
    boxes = [(one.get_text(), one.get_window_extent()) for one in written(drawn)]
    found = [
        f"{first!r} over {second!r}"
        for (first, one), (second, two) in itertools.combinations(boxes, 2)
        if min(one.x1, two.x1) - max(one.x0, two.x0) > 1 and min(one.y1, two.y1) - max(one.y0, two.y0) > 1.5
    ]
    whole = drawn.bbox
    found += [
        f"{text!r} beyond the picture"
        for text, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > whole.x1 + 1 or box.y1 > whole.y1 + 1
    ]
    for axis in drawn.axes:
        if axis.get_legend() is not None:
            box = axis.get_legend().get_window_extent()
            for line in axis.lines:
                points = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
                points = points[np.isfinite(points).all(axis=1)]
                if box.count_contains(points):
                    found.append(f"a legend over {line.get_label()!r}")
    return found


@pytest.mark.parametrize("name", CASES)
def test_texts_are_legible_and_do_not_print_over_each_other(name):
    case = CASES[name]
    drawn = case.draw(*case.tables(3), rerun=again(case)[1])
    style.legible(drawn)
    assert not collisions(drawn)
    scale = style.DPI / 72 * min(1, style.SHOWN / (drawn.get_figwidth() * style.DPI))
    assert min(one.get_size() for one in written(drawn)) * scale >= style.SMALLEST - 0.01


#: Figures whose evidence has more names, or longer ones, than the tables made up here: the page and how it draws them.
CROWDED = {
    "perturbation_adc": lambda t: [
        hardware.arms(t["arms"], t.get("arms_diagnostics"), devices.make("adc")),
        hardware.variants(t["variants"], devices.make("adc")),
    ],
    "perturbation_stuck_at": lambda t: [hardware.arms(t["arms"], t["arms_diagnostics"], devices.make("stuck_at"))],
    "perturbation_ir_drop": lambda t: [hardware.arms(t["arms"], None, devices.make("ir_drop"))],
    "separation": lambda t: [hardware.roc(t["cells"], t["areas"])],
    "foresight": lambda t: [foresight.areas(t["areas"], 0.8)],
    "composed": lambda t: [composed.predicted_loss(t["summary"])],
}  # fmt: skip


@pytest.mark.parametrize("page", CROWDED)
def test_texts_of_crowded_figures_are_within_them(page):
    own = profiles.evidence()[page]
    result, _ = base.named(own.notebook)(**own.parameters).from_evidence()
    for drawn in CROWDED[page](result.tables):
        style.legible(drawn)
        assert [one for one in collisions(drawn) if one.endswith("beyond the picture")] == []


@pytest.mark.parametrize("name", CASES)
def test_without_a_rerun_the_caption_says_nothing_of_it(name):
    case = CASES[name]
    nothing = [None, {} if isinstance(again(case)[1], dict) else pd.DataFrame()]
    for rerun in nothing:
        drawn = case.draw(*case.tables(3), rerun=rerun)
        assert not diamonds(drawn) and "Diamonds" not in said(drawn) and "nan" not in said(drawn)


@pytest.mark.parametrize("name", CASES)
def test_one_seed_and_unknown_names_are_drawn_too(name):
    case = CASES[name]
    one = case.draw(*case.tables(1), rerun=again(case)[1])
    assert diamonds(one) and "nan" not in said(one)
    beyond = case.draw(*case.tables(2, *case.unknown), rerun=again(case, *case.unknown)[1])
    assert len(diamonds(beyond)) >= len(diamonds(one)) and "nan" not in said(beyond)
    # What only this run has is drawn as well.
    alone = case.draw(*case.tables(2), rerun=again(case, *case.unknown)[1])
    assert len(diamonds(alone)) == len(diamonds(beyond))


@pytest.mark.parametrize("name", CASES)
def test_a_run_of_a_part_is_drawn_where_it_is(name):
    case = CASES[name]
    whole = again(case)[1]
    for part in (
        {key: table.iloc[:1] for key, table in whole.items()} if isinstance(whole, dict) else whole.iloc[:1],
        {key: table.iloc[-1:] for key, table in whole.items()} if isinstance(whole, dict) else whole.iloc[-1:],
    ):
        assert case.draw(*case.tables(2), rerun=part).axes


# ----------------------------------------------------------------------------------------------- what is not known
@dataclass(frozen=True)
class Temperature(ReadNoise):
    name, title, unit, measures = "temperature", "Temperature", "K", "temperature of the chip"


def test_a_seventh_class_has_its_own_colour_title_and_panel(monkeypatch):
    monkeypatch.setitem(perturbations.PERTURBATIONS, "temperature", Temperature())
    monkeypatch.setitem(devices.HARDWARE, "temperature", Temperature())
    drawn = hardware.strips(summary(0, "temperature"))
    assert [axis.get_title() for axis in drawn.axes[::2]] == ["Read noise", "ADC discretization", "Temperature"]
    found = hardware.classes([*perturbations.PERTURBATIONS])
    assert found["temperature"].label == "Temperature"
    assert len({look.colour for look in found.values()}) == 7
    # The same colour on every page, whatever else is on it.
    assert hardware.classes(["temperature"])["temperature"] == found["temperature"]
    axis = hardware.accuracy(runs(2).assign(perturbation="temperature"), Temperature()).axes[0]
    assert axis.get_xlabel() == "temperature of the chip (K), harsher to the right"


def test_more_names_than_colours_are_all_drawn():
    table = pd.concat([gaps(2).assign(gate=f"gate {number}") for number in range(12)])
    labels = [line.get_label() for line in prompts.gap_over_training(table, {"coop": 2.3}).axes[0].lines]
    assert sum(label.startswith("gate ") for label in labels) == 12
    found = style.looks([f"gate {number}" for number in range(12)])
    assert len(found) == 12 and "D" not in {look.mark for look in found.values()}


def test_known_names_come_first_and_unknown_ones_last():
    table = pd.DataFrame({"variant": ["magic", "mean", "fixed", "mean"]})
    assert style.order("variant", table, known=prompts.VARIANTS) == ["fixed", "mean", "magic"]
    assert style.order("variant", table, pd.DataFrame({"variant": ["other"]})) == ["magic", "mean", "fixed", "other"]


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        ("compensated", Outcome.HOLDS),
        ("not compensated", Outcome.DOES_NOT_HOLD),
        ("not recovered", Outcome.DOES_NOT_HOLD),
        ("in part", Outcome.DOES_NOT_HOLD),
        ("inconclusive", Outcome.INCONCLUSIVE),
        ("holds", Outcome.HOLDS),
    ],
)
def test_a_verdict_has_the_mark_of_its_outcome(verdict, outcome):
    assert style.verdict_mark(verdict) == MARKS[outcome]


@pytest.mark.parametrize("verdict", ["no damage", "unheard of", np.nan, None])
def test_any_other_verdict_is_neutral(verdict):
    assert style.verdict_mark(verdict) == style.NEUTRAL


def test_a_mean_over_fewer_tasks_is_told_apart():
    evidence = gaps(2)
    part = evidence[evidence.task == "shapes"]
    assert "Diamonds: this run, over fewer tasks." in said(prompts.gap_over_training(evidence, {}, rerun=part))
    assert "Diamonds: this run." in said(prompts.gap_over_training(evidence, {}, rerun=evidence))


def test_the_colour_of_a_diamond_on_a_map_is_this_runs_value():
    evidence = gaps(2)
    drawn = gates.gap_survey(evidence, rerun=evidence.assign(gap=evidence.gap.max()))
    picture, shape = drawn.axes[0].images[0], drawn.axes[0].collections[-1]
    assert np.allclose(shape.get_facecolors(), picture.to_rgba(evidence.gap.max()))


def test_an_infinite_gap_is_written_and_takes_no_colour():
    evidence = gaps(2)
    for gate, value in (("depth", -np.inf), ("length", np.inf)):
        drawn = gates.gap_survey(evidence.assign(gap=evidence.gap.where(evidence.gate != gate, value)))
        written = [text.get_text() for text in drawn.axes[0].texts]
        assert ("−∞" if value < 0 else "∞") in written and not any("inf" in one for one in written)
        colours = drawn.axes[0].images[0].get_array()
        assert np.isfinite(np.ma.masked_invalid(colours).compressed()).all() and "inf" not in said(drawn)
    assert "inf" not in said(prompts.waterfall(evidence.assign(gap=-np.inf)))


def test_interval_of_seeds():
    assert style.interval([2.0]) == (2.0, 2.0, 2.0)
    mean, low, high = style.interval([1.0, np.nan, 3.0, 2.0])
    assert mean == 2.0 and low < 2.0 < high
    assert np.isnan(style.interval([])).all()
    assert style.whiskers(2.0, np.nan, 3.0).tolist() == [[0.0], [1.0]]


# ------------------------------------------------------------------------------------------------ on a dark page
def _light(colour: np.ndarray) -> np.ndarray:
    """Linear light of sRGB between 0 and 1."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def _turned(colour: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """A colour as book.css shows it in the dark: inverted, its hue turned, saturated, and black is the ground."""
    css = (Path(__file__).parents[1] / "book" / "static" / "css" / "book.css").read_text(encoding="utf-8")
    found = re.search(r"filter: invert\(1\) hue-rotate\((\d+)deg\) saturate\(([\d.]+)\);\s*mix-blend-mode: screen", css)
    assert found, "the filter of figures in the dark"
    # The matrices of the Filter Effects specification; both leave this luminance alone.
    weights, turn = np.array([0.213, 0.715, 0.072]), math.radians(float(found[1]))
    sideways = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    hue = weights + math.cos(turn) * (np.eye(3) - weights) + math.sin(turn) * sideways
    saturate = weights + float(found[2]) * (np.eye(3) - weights)
    shown = (saturate @ (hue @ (1 - colour)).clip(0, 1)).clip(0, 1)
    return 1 - (1 - shown) * (1 - ground)


def _lab(colour: np.ndarray) -> np.ndarray:
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    root = np.cbrt(np.array(xyz) @ _light(colour) / [0.9505, 1, 1.089])
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def test_colours_keep_apart_on_a_dark_page():
    """By readers with full sight and without red or green, no worse than on white; and from the page itself."""
    eyes = {
        "full": np.eye(3),
        "deuteranopia": np.array([[0.625, 0.375, 0], [0.7, 0.3, 0], [0, 0.3, 0.7]]),
        "protanopia": np.array([[0.567, 0.433, 0], [0.558, 0.442, 0], [0, 0.242, 0.758]]),
    }
    ground = np.array(to_rgb("#14181e"))
    light = {name: np.array(to_rgb(colour)) for name, colour in style.COLOURS.items() if name != "yellow"}
    dark = {name: _turned(colour, ground) for name, colour in light.items()}

    def closest(colours: dict[str, np.ndarray], eye: np.ndarray) -> float:
        seen = [_lab((eye @ colour).clip(0, 1)) for colour in colours.values()]
        return min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2))

    worst = {theme: min(closest(of, eye) for eye in eyes.values()) for theme, of in (("light", light), ("dark", dark))}
    assert worst["dark"] >= worst["light"] > 10
    luminance = {name: float(_light(colour) @ [0.2126, 0.7152, 0.0722]) for name, colour in dark.items()}
    page = float(_light(ground) @ [0.2126, 0.7152, 0.0722])
    assert min((one + 0.05) / (page + 0.05) for one in luminance.values()) >= 3


def test_no_caption_tells_shades_that_a_dark_page_turns_round():
    """What is light on a white page is dark on a black one; colours keep their names."""
    shades = re.compile(r"\((?:light|dark)\b|\b(?:darker|lighter|light blue|White|Black)\b")
    for path in sorted(Path(style.__file__).parent.glob("*.py")):
        every = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        explained = {id(node.value) for node in every if isinstance(node, ast.Expr)}
        texts = [node for node in every if isinstance(node, ast.Constant) and id(node) not in explained]
        assert [one.value for one in texts if isinstance(one.value, str) and shades.search(one.value)] == [], path.name


def test_part_one_names_nothing_by_a_colour():
    """A dark page turns colours: a legend, a line, a band, "filled" and "to the right" stay what they are."""
    hue = r"(?:[Rr]ed|[Bb]lue|[Oo]range|[Pp]urple|[Gg]reen|[Gg]rey)"
    named = re.compile(rf"\((?:\w+ )?{hue}\)|\b{hue}:|\binside the {hue}\b|\bin {hue}\b(?! of)")
    house = Path(style.__file__).parent
    modules = [house / f"{name}.py" for name in ("gates", "photographs", "prompts", "summaries", "worth")]
    modules += [house.parent / "words" / f"{name}.py" for name in ("asked", "causes", "gates", "guide", "worth")]
    texts = [
        (path.name, node.value)
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for name in (
        "gradient_imbalance",
        "gap_origin",
        "gate_degradation",
        "fair_trial",
        "escape",
        "photographs",
        "guide",
    ):
        book = json.loads((house.parents[1] / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        texts += [(name, "".join(cell["source"])) for cell in book["cells"] if cell["cell_type"] == "markdown"]
    assert [(name, found[0]) for name, text in texts if (found := named.search(text))] == []


def test_what_is_lost_and_what_is_gained_is_said_by_the_numbers():
    table = looks(3).assign(over_mean=55.0, over_fixed=53.0)
    said = gates.intervention_worth(table, 1.0).get_label()
    assert "53 points" in said and "loses 55" in said and "differ by 2.0 points in the mean" in said
    assert "No blind gate was trained" not in said
    lost = table.assign(over_blind=table["over_blind"].where(table["intervention"] != "gate rate x 10"))
    assert "No blind gate was trained for gate rate × 10." in gates.intervention_worth(lost, 1.0).get_label()


def test_errors_of_predictions_leave_out_what_was_not_changed():
    """As the findings on them do, so that both are one number."""
    table = shifts(2).assign(gap=2.0, before=1.0)
    table["predicted"] = np.where(table["value"] == 1.0, 1.0, 1.5)
    assert "0.50, 0.50, 0.50, 0.50, 0.50 decades" in gates.origin_shifts(table).get_label()


def test_the_first_picture_says_whose_numbers_it_shows():
    points = pd.DataFrame([("coop", 34.0), ("maple", -8.2)], columns=["learner", "over_fixed"]).assign(
        gate="length", task="conflict", recipe="tuned", seed=0, over_mean=41.0
    )
    many = points.iloc[:1].assign(task="shift", over_mean=3.7, over_fixed=-0.4)
    said = summaries.gates({"points": points, "many": many}).get_label()
    assert "(CoOp, length gate; 1 task, 1 seed) 3.7 points are lost" in said and "0.4 are lost by having it" in said
    assert (
        "34 are gained by having it" in said
        and "(MaPLe, length gate; 1 task, 1 seed); there 8.2 are lost by having it." in said
    )


def test_whoever_compares_no_pictures_gets_none(monkeypatch):
    drawn, axes = style.figure()
    axes.plot([0, 1])
    whole = style.png(drawn)
    monkeypatch.setenv("BOOK_PICTURES", "none")
    assert style.described(io.BytesIO(style.png(drawn))).size == (1, 1)
    monkeypatch.delenv("BOOK_PICTURES")
    assert style.png(drawn) == whole


@pytest.mark.parametrize(
    ("ground", "expected"), [((1, 1, 1, 1), "black"), ((0, 0, 0, 1), "white"), ((0, 0.45, 0.7), "white")]
)
def test_ink_is_what_can_be_read_on_a_colour(ground, expected):
    assert style.ink(ground) == expected
