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

#: For the page: what the variants of a class are, and what to look for (Markdown).
QUESTIONS = {
    "read_noise": (
        "Vanilla training found a way around the noise: smaller outstanding weights, so that the window holds a finer "
        "scale. Is that all it found? With the *scale kept* as it was at the fork, weights that outgrow the window "
        "are cut off and smaller ones gain nothing."
    ),
    "variability": (
        "With the *scale kept* as it was at the fork, a smaller largest weight no longer buys precision. What training "
        "still wins back then, it wins by finding weights that bear errors."
    ),
    "drift": (
        "The weights shrink nearly together, so one factor per layer behind the array, measured by reading out the "
        "sum of its conductances, undoes most of it, without any training. The factor can be read exactly or with the "
        "devices' own fluctuations."
    ),
    "stuck_at": (
        "Not all faults are alike. A device stuck *off* takes at most its own weight away; one stuck *on* adds a "
        "full-scale weight. Faults may come in *clusters*, when a driver or a wire fails. And as before, training may "
        "lower the scale, unless the *scale is kept*."
    ),
    "ir_drop": (
        "When does IR-drop break training, and what does it? There are four suspects. The *forward distortion* "
        "itself: freeze every cell's share of the loss as it is at the fork, and the map from weights to outputs is "
        "linear, with the same losses. The *load dependence*: the true circuit, in which a larger weight takes "
        "voltage away from its neighbours, less the frozen one. The *bounded conductance*: keep the scale, so that "
        "weights which grow are cut off. And the *backward*: straight-through instead of the gradient through the "
        "circuit. A fifth question is what a cheap formula for the circuit is worth: train on the formula, and judge "
        "on the circuit."
    ),
    "adc": (
        "A converter needs a range. It can be set to the *largest* current on training data, to a *quantile*, to the "
        "quantile that makes the rounding error smallest (*best*), or be *learned* with the weights: then rounding "
        "passes the gradient on, cutting off does not."
    ),
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
