"""The six classes closer up: the same distortion under another law, another calibration, another backward.

What separates two variants is one thing only, so that their difference says what that thing is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.results import Cell, Tables
from lib.verdicts import Claim, Relation, Threshold
from paper.criteria.hardware import BETTER, POINT, POINTS
from paper.studies.hardware import HardwareStudy
from paper.studies.recovery import void


@dataclass(frozen=True)
class Variant:
    """A class with ``options``, trained by ``rule``; ``judged`` are other options for the hardware that judges it."""

    options: Mapping[str, Any] = field(default_factory=dict)
    rule: str = "autograd"
    judged: Mapping[str, Any] | None = None


VARIANTS: dict[str, dict[str, Variant]] = {
    "read_noise": {"scale follows the largest weight": Variant(), "scale kept": Variant({"scale": "fixed"})},
    "variability": {"scale follows the largest weight": Variant(), "scale kept": Variant({"scale": "fixed"})},
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
        "scale kept": Variant({"scale": "fixed"}),
    },
    "ir_drop": {
        "circuit, gradient through it": Variant(),
        "circuit, straight-through": Variant(rule="straight_through"),
        "circuit, scale kept": Variant({"scale": "fixed"}),
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
class Contrast:
    """A claim about ``one`` variant minus the ``other``, in points of accuracy after training.

    With "unaware" as a ``column`` that of the network which was never trained; ``other_column`` where it is another.
    """

    id: str
    text: str
    one: str
    other: str
    relation: Relation
    points: Threshold
    column: str = "accuracy"
    other_column: str = ""


def _scale(free: str) -> Contrast:
    text = f"Training needs a scale that moves: keeping it as it was costs at least {POINTS:g} points of accuracy"
    return Contrast("scale", text, free, "scale kept", ">=", POINTS)


_FREE = "scale follows the largest weight"
_CIRCUIT = "circuit, gradient through it"
_FORMULA = "trained on the formula, judged on the circuit"
CONTRASTS: dict[str, tuple[Contrast, ...]] = {
    "read_noise": (_scale(_FREE),),
    "variability": (_scale(_FREE),),
    "drift": (
        Contrast(
            "compensation",
            f"One factor per layer is worth at least {POINTS:g} points without any training",
            *("compensated", "uncompensated", ">=", POINTS, "unaware"),
        ),
        Contrast(
            "readout",
            f"Reading the factor with the devices' own noise costs less than {POINT:g} point",
            *("compensated", "compensated, noisy read-out", "<", POINT, "unaware"),
        ),
        Contrast(
            "no_training",
            "Compensation without training beats training without compensation",
            *("compensated", "uncompensated", ">", BETTER, "unaware", "accuracy"),
        ),
    ),
    "stuck_at": (
        Contrast(
            "stuck_on",
            f"Stuck on costs more than stuck off, by at least {POINTS:g} points",
            *("all off", "all on", ">=", POINTS, "unaware"),
        ),
        Contrast(
            "clusters",
            "Clusters cost at most a point more than scattered faults",
            *("half on, half off", "in clusters of 4 x 4", "<=", POINT, "unaware"),
        ),
        _scale("half on, half off"),
    ),
    "ir_drop": (
        Contrast(
            "backward",
            f"It is the backward pass: straight-through loses at least {POINTS:g} points to the circuit's gradient",
            *(_CIRCUIT, "circuit, straight-through", ">=", POINTS),
        ),
        Contrast(
            "bounded",
            f"It is the bounded conductance: keeping the scale loses at least {POINTS:g} points",
            *(_CIRCUIT, "circuit, scale kept", ">=", POINTS),
        ),
        Contrast(
            "load",
            f"It is the load: freezing every cell's share of the loss gains at least {POINTS:g} points",
            *("load frozen", _CIRCUIT, ">=", POINTS),
        ),
        Contrast(
            "formula",
            f"Training on the formula is as good as on the circuit, to {POINTS:g} points",
            *(_CIRCUIT, _FORMULA, "<", POINTS),
        ),
    ),
    "adc": (
        Contrast(
            "range",
            f"The best quantile beats the largest current by at least {POINTS:g} points without training",
            *("best quantile", "largest", ">=", POINTS, "unaware"),
        ),
        Contrast(
            "learned",
            f"Learning the range beats the quantile by at least {POINT:g} point",
            *("learned", "quantile .99", ">=", POINT),
        ),
    ),
}


class Runs(NamedTuple):
    """The cells of a variant: the networks trained through it, and those never trained on hardware, judged on the same.

    None stands for the runs of the class as it is, which the page has anyway.
    """

    trained: Cell | None
    unaware: Cell | None


def closer(severities: Sequence[float]) -> tuple[float, ...]:
    """Two of the severities: the two mildest of the harsher half."""
    return tuple(severities[len(severities) // 2 :][:2])


def runs(study: HardwareStudy, start: Mapping[str, Any], name: str, severities: Sequence[float]) -> dict[str, Runs]:
    """The cells of every variant of a class, at two of the ``severities``."""
    picked = closer(severities)
    found = {}
    for label, variant in VARIANTS.get(name, {}).items():
        own = dict(variant.options)
        judged = own if variant.judged is None else dict(variant.judged)
        found[label] = Runs(
            study.accuracy_cell(start, name, picked, variant.rule, options=own, judged=judged) if own else None,
            study.accuracy_cell(start, name, picked, "unaware", options=judged) if judged else None,
        )
    return found


def table(wanted: Mapping[str, Runs], name: str, found: Mapping[Cell, Tables], main: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every variant of a class, one row for each seed and severity.

    Columns as in :meth:`~paper.sweep.Sweep.accuracy`, with ``variant`` and ``unaware`` (the network that was
    never trained on hardware, judged on the same). ``main`` are the runs of the class as it is.
    """
    keys = ["severity", "seed"]
    here = main[main.severity.isin(closer(list(dict.fromkeys(main.severity))))]
    tables = []
    for label, (trained, unaware) in wanted.items():
        rule = VARIANTS[name][label].rule
        own = here[here.rule == rule] if trained is None else found[trained]["accuracy"]
        base = here[here.rule == "unaware"] if unaware is None else found[unaware]["accuracy"]
        # The class as it is may have been trained by other rules only.
        if len(own):
            pairs = own.merge(base[[*keys, "accuracy"]].rename(columns={"accuracy": "unaware"}), on=keys)
            tables.append(pairs.assign(variant=label))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def claims(page: str, name: str, variants: pd.DataFrame) -> list[Claim]:
    """The claims about the variants of a class: differences in points, seed by seed, mean over the severities."""
    found = []
    for one in CONTRASTS.get(name, ()):
        if not {one.one, one.other} <= set(variants.variant):
            continue
        sides = ((one.one, one.column), (one.other, one.other_column or one.column))
        means = [
            variants[variants.variant == label].groupby("seed")[column].mean(skipna=False) for label, column in sides
        ]
        # Seeds that only one of them has left are no pair.
        points = 100 * np.subtract(*means[0].align(means[1], join="inner")).to_numpy()
        both = variants[variants.variant.isin({one.one, one.other})]
        worst = (both.clean - both.unaware).groupby([both.variant, both.seed]).mean().groupby("seed").max()
        found.append(
            Claim(
                f"{page}.variants.{one.id}",
                one.text,
                points,
                one.relation,
                one.points,
                f"{page} variants",
                unit="points",
                name="mean difference",
                void=void(worst),
            )
        )
    return found
