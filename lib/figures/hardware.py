"""Figures of Part II. They draw tables and train nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures.style import COLOURS, RINGS, caption, figure, known, rings
from lib.hardware.perturbations import PERTURBATIONS, Perturbation
from lib.studies.perturbation import BROKEN, COMPENSATED, DAMAGE, Look
from lib.studies.separation import SCORES

RULE_COLOURS = {"unaware": "grey", "autograd": "blue", "straight_through": "orange"}
RULE_LABELS = {"unaware": "unaware", "autograd": "HAT, autograd", "straight_through": "HAT, straight-through"}
RULE_MARKS = {"unaware": "s", "autograd": "o", "straight_through": "^"}
VERDICT_COLOURS = {"no damage": "#D0D0D0", "compensated": "#009E73", "in part": "#F0E442", "broken": "#D55E00"}
CLASS_COLOURS = dict(zip(PERTURBATIONS, ("blue", "orange", "green", "purple", "vermillion", "sky"), strict=True))
DIAGNOSTIC_LABELS = {
    "cosine": "cosine with clean",
    "truth": "truth",
    "signal": "share of signal",
    "live": "live weights",
    "sensitivity": "Jacobian gain",
    "rank": "effective rank",
}
_UNITS = (("yr", 3.15e7), ("mo", 2.6e6), ("d", 86400.0), ("h", 3600.0), ("min", 60.0))


def words(severity: float, physics: Perturbation) -> str:
    """A severity as the reader says it: a time in hours or years, otherwise the number."""
    if physics.unit == "s":
        for unit, seconds in _UNITS:
            if severity >= 0.99 * seconds:
                return f"{severity / seconds:.3g} {unit}"
    return f"{severity:g}"


def _severity_axis(axis: Axes, severities: Sequence[float], physics: Perturbation, label: bool = True) -> np.ndarray:
    """Severities evenly spaced from mild to harsh; returns their positions."""
    places = np.arange(len(severities))
    axis.set_xticks(places, [words(severity, physics) for severity in severities])
    axis.set_xlim(-0.4, len(severities) - 0.6)
    if label:
        unit = "" if physics.unit == "s" else f" ({physics.unit})"
        axis.set_xlabel(f"{_SHORT[physics.name]}{unit}, harsher to the right")
    return places


_SHORT = {
    "read_noise": "noise of one device",
    "variability": "programming error",
    "drift": "time since programming",
    "stuck_at": "share stuck",
    "ir_drop": "wire resistance per segment",
    "adc": "resolution",
}


def _severities(table: pd.DataFrame) -> list[float]:
    return list(dict.fromkeys(table.severity))


def accuracy(table: pd.DataFrame, physics: Perturbation, reference: pd.DataFrame | None = None) -> Figure:
    """Accuracy over severity: clean, unaware, and trained under each backward rule; mean and 5th
    percentile.
    """
    drawn, axis = figure(6.8, 3.9)
    severities = _severities(table)
    places = _severity_axis(axis, severities, physics)
    kept = known(reference, table, ("perturbation", "rule", "severity"))
    axis.axhline(100 * table.clean.mean(), color=COLOURS["black"], ls="--", lw=1.2, label="clean, no hardware")
    for rule, group in table.groupby("rule", sort=False):
        means = group.groupby("severity")[["accuracy", "low"]].mean().loc[severities] * 100
        colour = COLOURS[RULE_COLOURS[rule]]
        axis.plot(places, means.accuracy, RULE_MARKS[rule] + "-", color=colour, label=RULE_LABELS[rule], ms=5)
        axis.fill_between(places, means.low, means.accuracy, color=colour, alpha=0.16, lw=0)
        there = kept[kept.rule == rule].set_index("severity").accuracy
        rings(axis, [severities.index(severity) for severity in there.index], 100 * there, RULE_COLOURS[rule])
    axis.axhline(10, color=COLOURS["grey"], ls=":", lw=1, label="chance")
    axis.set(ylabel="test accuracy (%)", ylim=(0, 102))
    axis.legend(fontsize=8, loc="lower left", edgecolor="none", framealpha=0.9)
    chips = int(table.chips.iloc[0])
    shown = (
        f"{chips} unseen chips, bands: down to their 5th percentile" if physics.random else "one chip (all are alike)"
    )
    caption(
        drawn,
        f"What {physics.title} costs and what training wins back. Lines: mean over {table.seed.nunique()} seeds and "
        f"{shown}; {int(table.steps.iloc[0])} optimiser steps in all."
        + (RINGS if len(kept) else ""),
    )
    return drawn


def diagnostics(table: pd.DataFrame, physics: Perturbation) -> Figure:
    """The three diagnostics over severity, a line for each backward rule: median over seeds and range."""
    drawn, axes = figure(9.2, 3.5, columns=3)
    severities = _severities(table)
    panels = (("cosine", "truth"), ("signal",), ("live", "gain"))
    titles = ("expectation consistency", "bounded variance", "sensitivity, relative to clean")
    for axis, columns, title in zip(axes, panels, titles, strict=True):
        places = _severity_axis(axis, severities, physics, label=axis is axes[1])
        for rule, group in table.groupby("rule", sort=False):
            for column, style in zip(columns, ("-", ":"), strict=False):
                if rule == "unaware" and column != "truth":
                    continue
                spread = group.groupby("severity")[column].agg(["median", "min", "max"]).loc[severities]
                colour = COLOURS[RULE_COLOURS[rule]]
                mark = RULE_MARKS[rule] if style == "-" else ""
                axis.plot(places, spread["median"], mark + style, color=colour, lw=1.6, ms=4)
                axis.fill_between(places, spread["min"], spread["max"], color=colour, alpha=0.13, lw=0)
        axis.set_title(title)
        axis.tick_params(axis="x", labelsize=7)
        axis.axhline(1, color="#BBBBBB", lw=0.8)
        axis.axhline(0, color="#BBBBBB", lw=0.8)
    axes[0].set_ylabel("solid: cosine, dotted: truth")
    axes[1].set_ylabel("share of signal")
    axes[2].set_ylabel("solid: live, dotted: gain")
    # The slope of a flat loss over a tiny length may be anything: what runs out of the frame is cut off.
    axes[0].set_ylim(-1.1, 2.1)
    axes[1].set_ylim(-0.05, 1.08)
    handles = [
        Line2D([], [], color=COLOURS[colour], marker=RULE_MARKS[rule], label=RULE_LABELS[rule])
        for rule, colour in RULE_COLOURS.items()
        if rule in set(table.rule)
    ]
    axes[1].legend(handles=handles, frameon=False, fontsize=7.5, loc="lower left")
    caption(
        drawn,
        "What the gradients say at the fork, before any training through the hardware (1 is as good as clean). "
        f"Lines: median over {table.seed.nunique()} seeds; bands: their range, cut off at the frame. The share of "
        "signal is 1 / (1 + tr Cov g / ‖E g‖²); the unaware gradient is the clean one, so only its truth is drawn.",
    )
    return drawn


def recovery(table: pd.DataFrame, physics: Perturbation) -> Figure:
    """Recovery over severity from the summary, with what counts as compensated and as broken."""
    drawn, axis = figure(6.8, 3.4)
    severities = _severities(table)
    places = _severity_axis(axis, severities, physics)
    axis.axhspan(COMPENSATED, 1.6, color=VERDICT_COLOURS["compensated"], alpha=0.12, lw=0)
    axis.axhspan(-1.6, BROKEN, color=VERDICT_COLOURS["broken"], alpha=0.10, lw=0)
    for rule, group in table.groupby("rule", sort=False):
        group = group.set_index("severity").loc[severities]
        colour = COLOURS[RULE_COLOURS[rule]]
        ends = [group.recovery - group.recovery_low, group.recovery_high - group.recovery]
        ends = np.nan_to_num(np.clip(ends, 0, None))
        shift = -0.06 if rule == "autograd" else 0.06
        axis.errorbar(
            places + shift,
            group.recovery,
            yerr=ends,
            color=colour,
            capsize=3,
            lw=1.5,
            ms=5,
            marker=RULE_MARKS[rule],
            label=RULE_LABELS[rule],
        )
    idle = table.groupby("severity").damage.mean().loc[severities] < DAMAGE
    for place in places[idle.to_numpy()]:
        axis.text(place, 0.35, "no damage", rotation=90, ha="center", va="center", fontsize=8, color="#555555")
    axis.text(len(places) - 0.65, 1.04, "compensated", ha="right", fontsize=8, color="#00694D")
    axis.text(len(places) - 0.65, -0.46, "broken", ha="right", fontsize=8, color="#A14400")
    axis.set(ylabel="recovery", ylim=(-0.55, 1.15))
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 1.0))
    caption(
        drawn,
        f"The share of the loss that training wins back. From {COMPENSATED:g} on a severity counts as compensated, "
        f"below {BROKEN:g} as broken. Bars: 95 % bootstrap over seeds; below one point of loss it is undefined.",
    )
    return drawn


def through_the_chip(look: Look, table: pd.DataFrame, severity: float, rule: str) -> Figure:
    """One panel of the what-if: currents forward, gradients backward, and what became of the accuracy."""
    drawn, axes = figure(8.6, 3.1, columns=3)
    for axis, (ideal, real), name in (
        (axes[0], look.currents, "output of the first layer"),
        (axes[1], look.gradient, "gradient of a weight"),
    ):
        size = np.quantile(np.abs(ideal), 0.999) * 1.3
        axis.plot([-size, size], [-size, size], color="#BBBBBB", lw=1)
        axis.plot(ideal, np.clip(real, -1.5 * size, 1.5 * size), ".", color=COLOURS[RULE_COLOURS[rule]], ms=2.5)
        axis.set(xlim=(-size, size), ylim=(-1.5 * size, 1.5 * size), xlabel="ideal", ylabel="on the chip", title=name)
        axis.ticklabel_format(style="sci", scilimits=(-2, 3))
    axes[1].text(0.04, 0.92, f"cosine {look.cosine:.2f}", transform=axes[1].transAxes, fontsize=9)
    here = table[table.severity == severity]
    rules = list(dict.fromkeys(["unaware", rule]))
    values = [100 * here.clean.mean(), *(100 * here[here.rule == one].accuracy.mean() for one in rules)]
    bars = axes[2].bar(
        range(len(values)), values, color=[COLOURS["black"], *(COLOURS[RULE_COLOURS[one]] for one in rules)]
    )
    axes[2].bar_label(bars, fmt="%.0f", fontsize=9)
    labels = [
        "clean",
        *({"autograd": "HAT,\nautograd", "straight_through": "HAT, str.-\nthrough"}.get(one, one) for one in rules),
    ]
    axes[2].set_xticks(range(len(values)), labels, fontsize=8)
    axes[2].set(ylim=(0, 112), ylabel="test accuracy (%)", title="after training")
    axes[2].grid(axis="x", visible=False)
    return drawn


def attempt(table: pd.DataFrame) -> Figure:
    """Bars of the live experiment: accuracy of each network, with the 5th percentile of chips."""
    drawn, axis = figure(5.2, 2.6)
    places = np.arange(len(table))
    axis.barh(places, 100 * table.accuracy, color=[COLOURS[name] for name in ("black", "grey", "blue")][: len(table)])
    axis.plot(100 * table.low, places, "|", color=COLOURS["vermillion"], ms=14, mew=2, label="5th percentile of chips")
    axis.set_yticks(places, table.network)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="test accuracy (%)")
    axis.legend(frameon=False, fontsize=8, loc="lower left")
    return drawn


# ------------------------------------------------------------------------------------------------ side by
# side


def strips(summary: pd.DataFrame) -> Figure:
    """Six strips: recovery as curves, the three diagnostics as bands below, the verdicts as coloured edges."""
    names = list(dict.fromkeys(summary.perturbation))
    drawn, axes = figure(
        8.4,
        1.75 * len(names) + 0.9,
        rows=2 * len(names),
        squeeze=False,
        gridspec_kw={"height_ratios": [2.3, 1.0] * len(names)},
    )
    for row, name in enumerate(names):
        top, bottom = axes[2 * row, 0], axes[2 * row + 1, 0]
        physics = PERTURBATIONS[name]
        table = summary[summary.perturbation == name]
        severities = _severities(table)
        places = np.arange(len(severities))
        for rule, group in table.groupby("rule", sort=False):
            group = group.set_index("severity").loc[severities]
            mark = RULE_MARKS[rule] + ("-" if rule == "autograd" else "--")
            top.plot(places, group.recovery.clip(-0.5, 1.1), mark, color=COLOURS[RULE_COLOURS[rule]], ms=4, lw=1.5)
            edge = 1.22 if rule == "autograd" else -0.58
            for place, verdict in zip(places, group.verdict, strict=True):
                top.plot(
                    [place - 0.48, place + 0.48],
                    [edge, edge],
                    color=VERDICT_COLOURS[verdict],
                    lw=6,
                    solid_capstyle="butt",
                    clip_on=False,
                )
        top.axhline(0, color="#BBBBBB", lw=0.8)
        top.set(ylim=(-0.6, 1.25), yticks=[0, 0.5, 1], ylabel="recovery", xlim=(-0.5, len(places) - 0.5), xticks=[])
        top.set_title(physics.title, fontweight="bold", fontsize=10)
        vanilla = table[table.rule == table.rule.iloc[0]].set_index("severity").loc[severities]
        bands = np.stack([vanilla.cosine, vanilla.signal, vanilla.live]).clip(0, 1)
        bottom.imshow(bands, aspect="auto", cmap="cividis", vmin=0, vmax=1, extent=(-0.5, len(places) - 0.5, 2.5, -0.5))
        for (line, place), value in np.ndenumerate(bands):
            bottom.text(
                place,
                line,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if value > 0.5 else "white",
            )
        bottom.set_yticks(range(3), ["cosine", "signal", "live"], fontsize=7)
        bottom.grid(False)
        unit = "" if physics.unit in ("s", "of devices") else f" {physics.unit}"
        bottom.set_xticks(places, [words(severity, physics) + unit for severity in severities], fontsize=8)
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[RULE_COLOURS[rule]],
            marker=RULE_MARKS[rule],
            ls="-" if rule == "autograd" else "--",
            label=RULE_LABELS[rule],
        )
        for rule in dict.fromkeys(summary.rule)
    ]
    handles += [Patch(color=colour, label=name) for name, colour in VERDICT_COLOURS.items()]
    drawn.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    caption(
        drawn,
        "Severity grows to the right. Curves: recovery. Edges: the verdict under autograd (above) and straight-through "
        "(below). Bands: what the vanilla gradient said beforehand, 1 (light) as good as clean, 0 (dark) nothing left.",
    )
    return drawn


def against_recovery(cells: pd.DataFrame, columns: Sequence[str] = ("cosine", "signal", "live")) -> Figure:
    """Each diagnostic at the fork against the recovery reached, one point for each class, severity and
    rule.
    """
    drawn, axes = figure(9.2, 3.6, columns=len(columns), sharey=True)
    joined = (
        cells.groupby(["perturbation", "rule", "severity"], sort=False)[[*columns, "damage", "gain"]]
        .mean()
        .reset_index()
    )
    joined["recovery"] = (joined.gain / joined.damage).clip(-0.5, 1.1)
    for axis, column in zip(axes, columns, strict=True):
        axis.axhspan(COMPENSATED, 1.2, color=VERDICT_COLOURS["compensated"], alpha=0.10, lw=0)
        axis.axhspan(-0.6, BROKEN, color=VERDICT_COLOURS["broken"], alpha=0.08, lw=0)
        for (name, rule), group in joined.groupby(["perturbation", "rule"], sort=False):
            axis.plot(
                group[column],
                group.recovery,
                RULE_MARKS[rule],
                color=COLOURS[CLASS_COLOURS[name]],
                ms=6,
                mfc=None if rule == "autograd" else "white",
                alpha=0.9,
            )
        axis.set(xlabel=DIAGNOSTIC_LABELS[column], ylim=(-0.6, 1.2), xlim=(-0.06, 1.08))
    axes[0].set_ylabel("recovery")
    handles = [
        Line2D([], [], color=COLOURS[CLASS_COLOURS[name]], marker="o", ls="", label=PERTURBATIONS[name].title)
        for name in dict.fromkeys(cells.perturbation)
    ]
    handles += [
        Line2D(
            [],
            [],
            color=COLOURS["black"],
            marker=RULE_MARKS[rule],
            ls="",
            label=RULE_LABELS[rule],
            mfc=None if rule == "autograd" else "white",
        )
        for rule in dict.fromkeys(cells.rule)
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    caption(
        drawn,
        "A diagnostic that tells would sort the points: high recovery on the right, low on the left. Each point is one "
        "class at one damaging severity under one backward rule, mean over seeds.",
    )
    return drawn


def roc(cells: pd.DataFrame, told: pd.DataFrame) -> Figure:
    """ROC curves of the diagnostics (all seeds pooled) and their areas with the balanced accuracy on unseen
    classes.
    """
    drawn, (left, right) = figure(9.0, 3.8, columns=2)
    colours = dict(zip(SCORES, ("blue", "orange", "green", "purple", "vermillion", "sky"), strict=True))
    label = cells.compensated.to_numpy()
    for name in told.diagnostic:
        score = SCORES[name](cells).to_numpy(dtype=float)
        thresholds = np.concatenate([[math.inf], np.unique(score)[::-1]])
        hits = [(score[label] >= threshold).mean() for threshold in thresholds]
        alarms = [(score[~label] >= threshold).mean() for threshold in thresholds]
        left.plot(alarms, hits, color=COLOURS[colours[name]], lw=1.6, label=DIAGNOSTIC_LABELS[name])
    left.plot([0, 1], [0, 1], color="#BBBBBB", lw=1, ls="--")
    left.set(xlabel="share of uncompensated called compensable", ylabel="share of compensated called so")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    places = np.arange(len(told))
    for shift, column, colour, words_ in (
        (-0.12, "area", "black", "area under ROC"),
        (0.12, "held_out", "grey", "balanced accuracy, class unseen"),
    ):
        ends = np.clip([told[column] - told[f"{column}_low"], told[f"{column}_high"] - told[column]], 0, None)
        right.errorbar(
            told[column],
            places + shift,
            xerr=np.nan_to_num(ends),
            fmt="o",
            color=COLOURS[colour],
            capsize=3,
            ms=5,
            label=words_,
        )
    right.axvline(0.5, color="#BBBBBB", ls="--", lw=1)
    right.set_yticks(places, [DIAGNOSTIC_LABELS[name] for name in told.diagnostic])
    right.invert_yaxis()
    right.set(xlim=(0.2, 1.02), xlabel="score (0.5: a coin)")
    right.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    caption(
        drawn,
        'Left: each diagnostic as a test for "training will compensate". Right: the area under its curve, and '
        "how often a threshold learnt on the other classes is right about one that it has not seen (mean over seeds, "
        "95 % bootstrap).",
    )
    return drawn
