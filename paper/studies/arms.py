"""Arms of a class: whether the gradient knows the scale, what the backward rule overlooks, and what clipping is worth.

A vanilla gradient differentiates through the largest weight, which sets the scale between weights and conductances. The
arms tell what that one path is worth: the same hardware with the scale held (detached), hardware with a scale for each
column, the rule of the field (noise injection), and clipping, in training and as a measure that needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lib.hardware.devices import DAC, make
from lib.hardware.perturbations import ADC, Perturbation
from lib.results import Cell, Tables
from lib.verdicts import Claim, Relation, Threshold
from paper.criteria.hardware import BETTER, CLEAR_DAMAGE, COMPENSATED, NOTHING, POINTS, RISES, points
from paper.studies.hardware import HardwareStudy
from paper.studies.recovery import KEYS, beyond, paired, recovery, verdict, void
from paper.studies.variants import closer

#: Standard deviations of a layer at which its weights are cut off, as Joshi et al. (2020) train.
CLIP = 2.0


@dataclass(frozen=True)
class Arm:
    """A class with ``options``, trained by ``rule``, with weights cut off in training or not."""

    rule: str = "autograd"
    options: Mapping[str, Any] = field(default_factory=dict)
    clip: float | None = None

    @property
    def other(self) -> bool:
        """Is it another hardware, to be compared with networks that were never trained through that one?"""
        return self.options.get("scale") == "column"


DIFFERENTIATED, DETACHED, COLUMN = "scale differentiated", "scale detached", "a scale for each column"
STRAIGHT, INJECTION = "straight-through", "noise injection"
CLIPPED, RECIPE, FINISHED = "scale differentiated, clipped", "noise injection, clipped", "clipped, never trained"
#: What a vanilla gradient, the field's rule and clipping make of a class. The first arms of all are runs of its page.
ARMS: Mapping[str, Arm] = {
    DIFFERENTIATED: Arm(),
    DETACHED: Arm(options={"scale": "detached"}),
    COLUMN: Arm(options={"scale": "column"}),
    STRAIGHT: Arm("straight_through"),
    INJECTION: Arm("noise_injection"),
    CLIPPED: Arm(clip=CLIP),
    RECIPE: Arm("noise_injection", clip=CLIP),
    FINISHED: Arm("unaware", clip=CLIP),
}
#: The arms that go with each word of ``closer``.
OF = {"clipped": (CLIPPED, FINISHED), "arms": (DETACHED, COLUMN, INJECTION, RECIPE)}
#: The arms whose gradients are looked at.
LOOKED = (DETACHED, COLUMN, INJECTION)


class Runs(NamedTuple):
    """The cells of an arm: trained, never trained on the same hardware, and what its gradients say.

    None stands for what the page has anyway, or what is not asked for.
    """

    trained: Cell
    unaware: Cell | None
    diagnostics: Cell | None


def runs(
    study: HardwareStudy, start: Mapping[str, Any], name: str, severities: Sequence[float], words: Sequence[str]
) -> dict[str, Runs]:
    """The cells of the arms that ``words`` ask for; a circuit is trained through at two of the ``severities`` only."""
    found = {}
    # Training through a circuit is a hundred times as slow as through noise.
    slow = closer(severities) if name == "ir_drop" else severities
    for label in (label for word in words for label in OF.get(word, ())):
        arm, own = ARMS[label], dict(ARMS[label].options)
        # To a converter the scale of the arrays is no matter.
        if own and isinstance(make(name), ADC | DAC):
            continue
        at = severities if arm.rule == "unaware" else slow
        looked = study.diagnostics_cell(start, name, severities, arm.rule, options=own) if label in LOOKED else None
        unaware = study.accuracy_cell(start, name, at, "unaware", options=own) if arm.other else None
        trained = study.accuracy_cell(start, name, at, arm.rule, options=own, clip=arm.clip)
        found[label] = Runs(trained, unaware, looked)
    return found


def tables(wanted: Mapping[str, Runs], found: Mapping[Cell, Tables], main: Tables) -> Tables:
    """Tables ``arms`` (accuracy, one row for each arm, severity and seed) and ``arms_diagnostics``.

    Columns as in :meth:`~paper.sweep.Sweep.accuracy` and :func:`~lib.hardware.diagnostics.diagnose`, with ``arm``, and
    ``unaware``: the network that was never trained on hardware, judged on the same. ``main`` are the page's own runs.
    """
    accuracy, looks = main["accuracy"], main["diagnostics"]
    base = accuracy[accuracy.rule == "unaware"]
    trained, looked = [], []
    page = {DIFFERENTIATED: "autograd", STRAIGHT: "straight_through"}
    for label in ARMS:
        cells = wanted.get(label)
        own = base if cells is None or cells.unaware is None else found[cells.unaware]["accuracy"]
        if cells is not None:
            runs = found[cells.trained]["accuracy"]
            looks_here = None if cells.diagnostics is None else found[cells.diagnostics]["diagnostics"]
        elif label in page:
            runs, looks_here = (table[table.rule == page[label]] for table in (accuracy, looks))
        else:
            continue
        keys = ["severity", "seed"]
        trained.append(runs.merge(own[[*keys, "accuracy"]].rename(columns={"accuracy": "unaware"}), on=keys))
        trained[-1] = trained[-1].assign(arm=label)
        if looks_here is not None and len(looks_here):
            looked.append(looks_here.assign(arm=label))
    return {
        name: pd.concat([part for part in parts if len(part)], ignore_index=True)
        for name, parts in (("arms", trained), ("arms_diagnostics", looked))
        if any(len(part) for part in parts)
    }


def untrained(accuracy: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """The best that needs no training, severity by severity: the better of the unaware network and that one clipped.

    Rows as the unaware ones of ``accuracy``; which of the two it is, the mean over seeds decides.
    """
    base = accuracy[accuracy.rule == "unaware"]
    keys = ["severity", "seed"]
    cut = arms[arms.arm == FINISHED][[*keys, "accuracy"]].rename(columns={"accuracy": "clipped"})
    both = base.merge(cut, on=keys)
    means = both.groupby("severity")[["accuracy", "clipped"]].transform("mean")
    return both.assign(accuracy=both.accuracy.where(means.accuracy >= means.clipped, both.clipped))


def beyond_clipping(summary: pd.DataFrame, accuracy: pd.DataFrame, arms: pd.DataFrame | None) -> pd.DataFrame:
    """The summary with what clipping alone recovers, and what training wins back of what that leaves.

    Columns ``clipped``, ``beyond`` (each with ``_low`` and ``_high``) and ``beyond_verdict``, which is that of
    :func:`~paper.studies.recovery.verdict` with the best that needs no training in place of the unaware network.
    """
    names = [f"{name}{end}" for name in ("clipped", "beyond") for end in ("", "_low", "_high")]
    empty: dict[str, Any] = {**dict.fromkeys(names, np.nan), "beyond_verdict": ""}
    if arms is None or FINISHED not in set(arms.arm):
        return summary.assign(**empty)
    cut = arms[arms.arm == FINISHED]
    best = untrained(accuracy, arms)
    trained = paired(pd.concat([best, accuracy[accuracy.rule != "unaware"]], ignore_index=True))
    rows = []
    for row in summary.itertuples():
        own = cut[cut.severity == row.severity]
        alone = recovery(own.clean - own.unaware, own.accuracy - own.unaware)
        left = trained[(trained.severity == row.severity) & (trained.rule == row.rule)]
        more = recovery(left.damage, left.gain) if left.gain.notna().all() else (np.nan, (np.nan, np.nan))
        said = verdict(left.damage, left.gain).name
        rows.append(dict(zip([*names, "beyond_verdict"], (alone[0], *alone[1], more[0], *more[1], said), strict=True)))
    return pd.concat([summary.reset_index(drop=True), pd.DataFrame(rows)], axis=1)


# --------------------------------------------------------------------------------------------------- claims


def _means(arms: pd.DataFrame, label: str, severities: Sequence[float], column: str = "accuracy") -> pd.Series:
    """The seeds' means over severities, in points."""
    here = arms[(arms.arm == label) & arms.severity.isin(list(severities))]
    return 100 * here.groupby("seed")[column].mean()


def rises(looks: pd.DataFrame) -> np.ndarray:
    """Rank correlation of variance over signal with severity, seed by seed; nan where nothing can be ranked."""
    found = []
    for _, group in looks.groupby("seed"):
        if len(group) < 3 or group.variance.nunique() < 2 or group.variance.isna().any():
            found.append(np.nan)
            continue
        ranks = rankdata(group.severity), rankdata(group.variance)
        found.append(float(np.corrcoef(*ranks)[0, 1]))
    return np.asarray(found)


def claims(
    page: str, physics: Perturbation, main: Tables, mildest: float | None, clear: Sequence[float]
) -> list[Claim]:
    """The claims about the arms that are there; ``clear`` are the severities with clear damage, the ``mildest`` first.

    Differences are seed by seed, in points, mean over those of the clear severities that both arms have.
    """
    if "arms" not in main:
        return []
    arms = main["arms"]
    there, family = set(arms.arm), f"{page} arms"
    cheap = "" if len(clear) else f"no severity costs {points(CLEAR_DAMAGE):g} points"
    found = []

    def shared(*labels: str) -> list[float]:
        sets = [set(arms[arms.arm == label].severity) for label in labels]
        return [severity for severity in clear if all(severity in one for one in sets)]

    def difference(
        own: str, text: str, one: str, other: str, threshold: Threshold, columns: tuple[str, str] = ("accuracy",) * 2
    ) -> None:
        if not {one, other} <= there:
            return
        at = shared(one, other)
        sides = (_means(arms, label, at, column) for label, column in zip((one, other), columns, strict=True))
        samples = np.subtract(*next(sides).align(next(sides), join="inner")).to_numpy() if at else []
        relation: Relation = ">" if threshold is BETTER else ">="
        more: dict[str, Any] = {"unit": "points", "name": "mean difference", "void": cheap}
        found.append(Claim(f"{page}.{own}", text, samples, relation, threshold, family, **more))

    if FINISHED in there:
        half: dict[str, Any] = {"unit": "points", "name": f"won back minus {COMPENSATED:g} of the loss"}
        where = f"at the mildest severity that costs {points(CLEAR_DAMAGE):g} points"
        own = arms[(arms.arm == FINISHED) & (arms.severity == mildest)]
        lost = (own.clean - own.unaware).to_numpy()
        samples = beyond(lost, (own.accuracy - own.unaware).to_numpy())
        text = f"Clipping the finished network at {CLIP:g} standard deviations wins back at least half of the loss"
        nothing = cheap or void(lost)
        found.append(
            Claim(
                f"{page}.clipped.half", f"{text} {where}", samples, ">=", NOTHING, family, **{**half, "void": nothing}
            )
        )
        best = untrained(main["accuracy"], arms)
        trained = paired(
            pd.concat([best, main["accuracy"][main["accuracy"].rule == "autograd"]], ignore_index=True), KEYS
        )
        trained = trained[trained.rule == "autograd"]
        if len(trained):
            over = trained[trained.severity.isin(list(clear))]
            found.append(
                Claim(
                    f"{page}.arms.beyond",
                    "Vanilla training wins back more than the better of no measure and clipping",
                    (100 * over.groupby("seed").gain.mean()).to_numpy(),
                    ">",
                    BETTER,
                    family,
                    unit="points",
                    name="mean difference",
                    void=cheap,
                )
            )
            left = trained[trained.severity == mildest]
            text = "Compensated by training: it wins back at least half of what clipping or nothing leaves"
            samples = beyond(left.damage.to_numpy(), left.gain.to_numpy())
            nothing = cheap or ("" if not void(left.damage) else "clipping leaves less than a point to win back")
            found.append(
                Claim(
                    f"{page}.arms.trained", f"{text}, {where}", samples, ">=", NOTHING, family,
                    **{**half, "void": nothing},
                )
            )  # fmt: skip
    worth = f"is worth at least {POINTS:g} points"
    difference(
        "arms.detached",
        f"A gradient that passes the scale of the weights {worth} to vanilla training",
        *(DIFFERENTIATED, DETACHED, POINTS),
    )
    looks = main.get("arms_diagnostics")
    if looks is not None and physics.random:
        for key, label in (("differentiated", DIFFERENTIATED), ("detached", DETACHED)):
            if label not in set(looks.arm):
                continue
            found.append(
                Claim(
                    f"{page}.arms.variance.{key}",
                    f"{label.capitalize()}: the vanilla gradient's variance over its signal rises with severity",
                    rises(looks[looks.arm == label]),
                    ">=",
                    RISES,
                    family,
                    name="mean rank correlation",
                )
            )
    difference("arms.injection", "Noise injection wins back more than straight-through", *(INJECTION, STRAIGHT, BETTER))
    difference("arms.clipping", f"Clipping in training {worth} to noise injection", *(RECIPE, INJECTION, POINTS))
    difference(
        "arms.recipe",
        "The field's recipe, noise injection with clipping, wins back more than vanilla training",
        *(RECIPE, DIFFERENTIATED, BETTER),
    )
    if COLUMN in there:
        own = arms[arms.arm == COLUMN].rename(columns={"unaware": "on_columns"})
        plain = main["accuracy"][main["accuracy"].rule == "unaware"][["severity", "seed", "accuracy"]]
        both = own[["severity", "seed", "on_columns"]].merge(plain, on=["severity", "seed"])
        both = both[both.severity.isin(list(clear))]
        samples = (100 * (both.on_columns - both.accuracy)).groupby(both.seed).mean().to_numpy()
        found.append(
            Claim(
                f"{page}.arms.column",
                f"A scale of its own for each column {worth} without any training",
                samples,
                ">=",
                POINTS,
                family,
                unit="points",
                name="mean difference",
                void=cheap,
            )
        )
    return found
