"""The six classes closer up: the same distortion under another law, another calibration, another backward.

What separates two variants is one thing only, so that their difference says what that thing is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from lib.hardware.devices import make
from lib.hardware.sweep import Fork, Sweep
from lib.results import Store
from lib.verdicts import Finding, Relation, judge


@dataclass(frozen=True)
class Variant:
    """A class with ``options``, trained by ``rule``; ``judged`` are other options for the hardware that judges it."""

    options: Mapping[str, Any] = field(default_factory=dict)
    rule: str = "autograd"
    judged: Mapping[str, Any] | None = None


VARIANTS: dict[str, dict[str, Variant]] = {
    "read_noise": {
        "scale follows the largest weight": Variant(),
        "scale kept": Variant({"fixed_scale": True}),
    },
    "variability": {
        "scale follows the largest weight": Variant(),
        "scale kept": Variant({"fixed_scale": True}),
    },
    "drift": {
        "uncompensated": Variant(),
        "compensated": Variant({"compensation": "global"}),
        "compensated, noisy read-out": Variant({"compensation": "global", "readout": "noisy"}),
    },
    "stuck_at": {
        "half on, half off": Variant(),
        "all off": Variant({"on": 0.0}),
        "all on": Variant({"on": 1.0}),
        "in clusters of 4 x 4": Variant({"cluster": 4}),
        "scale kept": Variant({"fixed_scale": True}),
    },
    "ir_drop": {
        "circuit, gradient through it": Variant(),
        "circuit, straight-through": Variant(rule="straight_through"),
        "circuit, scale kept": Variant({"fixed_scale": True}),
        "load frozen": Variant({"load": "frozen"}),
        "trained on the formula, judged on the circuit": Variant({"solver": "approximate"}, judged={}),
    },
    "adc": {
        "largest": Variant({"calibration": "largest"}, "straight_through"),
        "quantile .99": Variant({}, "straight_through"),
        "best quantile": Variant({"calibration": "best"}, "straight_through"),
        "learned": Variant({"calibration": "learned"}),
    },
}


@dataclass(frozen=True)
class Claim:
    """``one`` variant minus the ``other``, in points of ``column``: "unaware" without training, "accuracy" after it."""

    text: str
    one: str
    other: str
    relation: Relation
    points: float
    column: str = "accuracy"
    other_column: str = ""


def _scale(free: str) -> Claim:
    text = "Training needs the scale: keeping it costs at least 5 points of accuracy"
    return Claim(text, free, "scale kept", ">=", 5)


_FREE = "scale follows the largest weight"
_CIRCUIT = "circuit, gradient through it"
_FORMULA = "trained on the formula, judged on the circuit"
_CLAIMS: dict[str, tuple[Claim, ...]] = {
    "read_noise": (_scale(_FREE),),
    "variability": (_scale(_FREE),),
    "drift": (
        Claim(
            "One factor per layer is worth at least 5 points without any training",
            *("compensated", "uncompensated", ">=", 5, "unaware"),
        ),
        Claim(
            "Reading the factor with the devices' own noise costs less than 1 point",
            *("compensated", "compensated, noisy read-out", "<", 1, "unaware"),
        ),
        Claim(
            "Compensation without training beats training without compensation",
            *("compensated", "uncompensated", ">", 0, "unaware", "accuracy"),
        ),
    ),
    "stuck_at": (
        Claim("Stuck on costs more than stuck off, by at least 5 points", "all off", "all on", ">=", 5, "unaware"),
        Claim(
            "Clusters cost at most a point more than scattered faults",
            *("half on, half off", "in clusters of 4 x 4", "<=", 1, "unaware"),
        ),
        _scale("half on, half off"),
    ),
    "ir_drop": (
        Claim(
            "It is the backward: straight-through loses at least 5 points against the circuit's gradient",
            *(_CIRCUIT, "circuit, straight-through", ">=", 5),
        ),
        Claim(
            "It is the bounded conductance: keeping the scale loses at least 5 points",
            *(_CIRCUIT, "circuit, scale kept", ">=", 5),
        ),
        Claim(
            "It is the load: freezing every cell's share of the loss gains at least 5 points",
            *("load frozen", _CIRCUIT, ">=", 5),
        ),
        Claim("Training on the formula is as good as on the circuit, to 5 points", _CIRCUIT, _FORMULA, "<", 5),
    ),
    "adc": (
        Claim(
            "The best quantile beats the largest current by at least 5 points without training",
            *("best quantile", "largest", ">=", 5, "unaware"),
        ),
        Claim("Learning the range beats the quantile by at least 1 point", "learned", "quantile .99", ">=", 1),
    ),
}


def closer(severities: Sequence[float]) -> tuple[float, ...]:
    """Two of the severities: the two mildest of the harsher half."""
    return tuple(severities[len(severities) // 2 :][:2])


def variants(
    store: Store, key: Mapping[str, Any], fork: Fork, name: str, main: pd.DataFrame, chips: int
) -> pd.DataFrame:
    """Accuracy of every variant of a class, one row for each seed and severity.

    Columns as in :meth:`~lib.hardware.sweep.Sweep.accuracy`, with ``variant`` and ``unaware`` (the network that was
    never trained on hardware, judged on the same). ``main`` are the runs of the class as it is: a variant that changes
    nothing is taken from there.
    """
    picked = closer(list(dict.fromkeys(main.severity)))
    here = main[main.severity.isin(picked)]
    untrained = here[here.rule == "unaware"].accuracy.to_numpy()

    def run(variant: Variant) -> pd.DataFrame:
        physics = make(name, **variant.options)
        judged = physics if variant.judged is None else make(name, **variant.judged)
        plain = Sweep(fork, judged, picked, chips).accuracy("unaware")
        trained = Sweep(fork, physics, picked, chips, judge=judged).accuracy(variant.rule)
        return trained.assign(unaware=plain.accuracy)

    tables = []
    for label, variant in VARIANTS.get(name, {}).items():
        if not variant.options:
            known = here[here.rule == variant.rule]
            table = known.assign(unaware=untrained) if len(known) else None
        else:
            given = {"options": variant.options, "rule": variant.rule, "judged": variant.judged, "severities": picked}
            compute = partial(run, variant)
            table = store.get_or_run("variants", {**key, **given}, compute, device=fork.device, seeds=len(fork.seeds))
        if table is not None:
            tables.append(table.assign(variant=label))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def comparisons(name: str, table: pd.DataFrame) -> list[Finding]:
    """The claims about the variants of a class: differences in points, seed by seed, mean over the severities."""
    found = []
    for claim in _CLAIMS.get(name, ()):
        if not {claim.one, claim.other} <= set(table.variant):
            continue
        sides = ((claim.one, claim.column), (claim.other, claim.other_column or claim.column))
        means = [table[table.variant == label].groupby("seed")[column].mean() for label, column in sides]
        points = (100 * (means[0] - means[1])).to_numpy()
        found.append(judge(claim.text, points, claim.relation, claim.points, unit="points", name="mean difference"))
    return found
