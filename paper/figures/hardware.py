"""Figures of Part II. They draw tables and train nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.hardware.devices import HARDWARE
from lib.hardware.perturbations import Perturbation
from lib.verdicts import bootstrap
from paper.figures.style import COLOURS, RINGS, caption, figure, known, rings
from paper.studies.base import duration
from paper.studies.perturbation import BROKEN, COMPENSATED, DAMAGE, Look
from paper.studies.separation import JOINT, SCORES

RULE_COLOURS = {"unaware": "grey", "autograd": "blue", "straight_through": "orange"}
RULE_LABELS = {"unaware": "unaware", "autograd": "HAT, autograd", "straight_through": "HAT, straight-through"}
RULE_MARKS = {"unaware": "s", "autograd": "o", "straight_through": "^"}
NETWORK_MARKS = {"mlp": "o", "cnn": "s", "cnn_norm": "P", "vit": "D", "resnet": "X"}
KIND_COLOURS = {
    "training": "blue",
    "calibration": "orange",
    "training per chip": "sky",
    "architecture": "green",
    "circuit": "purple",
}
VERDICT_COLOURS = {"no damage": "#D0D0D0", "compensated": "#009E73", "in part": "#F0E442", "broken": "#D55E00"}
CLASS_COLOURS = {
    "read_noise": "blue",
    "variability": "orange",
    "drift": "green",
    "stuck_at": "purple",
    "ir_drop": "vermillion",
    "adc": "sky",
}
DIAGNOSTIC_LABELS = {
    "cosine": "cosine with clean",
    "truth": "truth",
    "signal": "share of signal",
    "live": "live weights",
    "sensitivity": "Jacobian gain",
    "rank": "effective rank",
    JOINT: "the three together",
}


def class_colour(name: str) -> str:
    """The colour of a class; those that the book has none for are black."""
    return COLOURS[CLASS_COLOURS.get(name, "black")]


def words(severity: float, physics: Perturbation) -> str:
    """A severity as the reader says it: a time in hours or years, otherwise the number."""
    return duration(severity) if physics.unit == "s" else f"{severity:g}"


def _severity_axis(axis: Axes, severities: Sequence[float], physics: Perturbation, label: bool = True) -> np.ndarray:
    """Severities evenly spaced from mild to harsh; returns their positions."""
    places = np.arange(len(severities))
    axis.set_xticks(places, [words(severity, physics) for severity in severities])
    axis.set_xlim(-0.4, len(severities) - 0.6)
    if label:
        unit = "" if physics.unit == "s" else f" ({physics.unit})"
        axis.set_xlabel(f"{_SHORT.get(physics.name, 'severity')}{unit}, harsher to the right")
    return places


_SHORT = {
    "read_noise": "noise of one device",
    "variability": "programming error",
    "drift": "time since programming",
    "stuck_at": "share stuck",
    "ir_drop": "wire resistance per segment",
    "adc": "resolution",
    "dac": "resolution",
    "pcm": "time since programming",
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
        f"{shown}; {int(table.steps.iloc[0])} optimiser steps in all." + (RINGS if len(kept) else ""),
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
    known_ = table[table.known.notna()].set_index("severity").known
    if len(known_):
        at = [severities.index(severity) for severity in known_.index]
        axis.plot(at, known_, "D--", color=COLOURS["purple"], ms=4, lw=1.2, label="HAT, autograd, chip known")
    idle = table.groupby("severity").damage.mean().loc[severities] < DAMAGE
    for place in places[idle.to_numpy()]:
        axis.text(place, 0.35, "no damage", rotation=90, ha="center", va="center", fontsize=8, color="#555555")
    axis.text(len(places) - 0.65, 1.04, "compensated", ha="right", fontsize=8, color="#00694D")
    axis.text(len(places) - 0.65, -0.46, "broken", ha="right", fontsize=8, color="#A14400")
    axis.set(ylabel="recovery", ylim=(-0.55, 1.15))
    axis.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0)
    caption(
        drawn,
        f"The share of the loss that training wins back. From {COMPENSATED:g} on a severity counts as compensated, "
        f"below {BROKEN:g} as broken. Bars: 95 % bootstrap over seeds; below one point of loss it is undefined."
        + (" Diamonds: trained on the chip itself, and judged on it." if len(known_) else ""),
    )
    return drawn


def variants(table: pd.DataFrame | None, physics: Perturbation) -> Figure:
    """Variants of a class: accuracy without training (open) and after it (filled), a panel for each severity.

    Hardware without variants gives a line that says so.
    """
    if table is None or not len(table):
        drawn, axis = figure(6.4, 0.8)
        axis.set_axis_off()
        axis.text(0, 0.5, f"There are no variants of {physics.title.lower()} with these parameters.", va="center")
        return drawn
    severities, labels = _severities(table), list(dict.fromkeys(table.variant))
    drawn, axes = figure(9.0, 0.42 * len(labels) + 1.5, columns=len(severities), sharey=True, squeeze=False)
    for axis, severity in zip(axes[0], severities, strict=True):
        here = table[table.severity == severity]
        axis.axvline(100 * here.clean.mean(), color=COLOURS["black"], ls="--", lw=1.2)
        for place, label in enumerate(labels):
            group = here[here.variant == label]
            before, after = 100 * group.unaware.mean(), 100 * group.accuracy.mean()
            low, high = 100 * np.array(bootstrap(group.accuracy)) if len(group) > 1 else (after, after)
            colour = COLOURS[RULE_COLOURS[group.rule.iloc[0]]]
            axis.plot([before, after], [place, place], color="#BBBBBB", lw=1.5, zorder=1)
            axis.plot([low, high], [place, place], color=colour, lw=4, alpha=0.35, solid_capstyle="butt")
            axis.plot(before, place, "o", color=COLOURS["grey"], mfc="white", ms=6)
            axis.plot(after, place, RULE_MARKS[group.rule.iloc[0]], color=colour, ms=6)
        title = f"{words(severity, physics)} {_unit(physics)}".strip()
        axis.set(xlim=(0, 102), xlabel="test accuracy (%)", title=title)
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].invert_yaxis()
    handles = [Line2D([], [], color=COLOURS["grey"], marker="o", mfc="white", ls="", label="without training")]
    handles += [
        Line2D([], [], color=COLOURS[RULE_COLOURS[rule]], marker=RULE_MARKS[rule], ls="", label=RULE_LABELS[rule])
        for rule in dict.fromkeys(table.rule)
    ]
    handles.append(Line2D([], [], color=COLOURS["black"], ls="--", label="clean, no hardware"))
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    caption(
        drawn,
        f"{physics.title} closer up: what differs between two rows is one thing, so the distance between their filled "
        "points is what that thing is worth to training, and between their open ones without. Mean over "
        f"{table.seed.nunique()} seeds, bars: 95 % bootstrap.",
    )
    return drawn


def _unit(physics: Perturbation) -> str:
    return "" if physics.unit == "s" else physics.unit


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
        physics = HARDWARE[name]
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
    drawn, axes = figure(9.2, 3.8, columns=len(columns), sharey=True)
    joined = (
        cells.groupby(["network", "perturbation", "rule", "severity"], sort=False)[[*columns, "damage", "gain"]]
        .mean()
        .reset_index()
    )
    joined["recovery"] = (joined.gain / joined.damage).clip(-0.5, 1.1)
    for axis, column in zip(axes, columns, strict=True):
        axis.axhspan(COMPENSATED, 1.2, color=VERDICT_COLOURS["compensated"], alpha=0.10, lw=0)
        axis.axhspan(-0.6, BROKEN, color=VERDICT_COLOURS["broken"], alpha=0.08, lw=0)
        for (network, name, rule), group in joined.groupby(["network", "perturbation", "rule"], sort=False):
            axis.plot(
                group[column],
                group.recovery,
                NETWORK_MARKS[network],
                color=class_colour(name),
                ms=5.5,
                mfc=None if rule == "autograd" else "white",
                alpha=0.9,
            )
        axis.set(xlabel=DIAGNOSTIC_LABELS[column], ylim=(-0.6, 1.2), xlim=(-0.06, 1.08))
    axes[0].set_ylabel("recovery", labelpad=8)
    handles = [
        Line2D([], [], color=class_colour(name), marker="o", ls="", label=HARDWARE[name].title)
        for name in dict.fromkeys(cells.perturbation)
    ]
    plain = {"color": COLOURS["black"], "ls": ""}
    handles += [Line2D([], [], marker=NETWORK_MARKS[one], label=one, **plain) for one in dict.fromkeys(cells.network)]
    handles += [
        Line2D([], [], marker="o", label=RULE_LABELS[rule], mfc=None if rule == "autograd" else "white", **plain)
        for rule in dict.fromkeys(cells.rule)
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    caption(
        drawn,
        "A diagnostic that tells would sort the points: high recovery on the right, low on the left. Each point is "
        "one class at one damaging severity in one network (shape) under one rule (filled or open), mean over seeds.",
    )
    return drawn


def roc(cells: pd.DataFrame, told: pd.DataFrame) -> Figure:
    """ROC curves of the diagnostics (all seeds pooled) and their areas with the balanced accuracy on unseen
    classes.
    """
    drawn, (left, right) = figure(9.4, 4.2, columns=2)
    colours = dict(zip(SCORES, ("blue", "orange", "green", "purple", "vermillion", "sky"), strict=True))
    for name in told.diagnostic:
        chosen = cells[cells.chance.notna()] if name == JOINT else cells
        label = chosen.compensated.to_numpy()
        score = (chosen.chance if name == JOINT else SCORES[name](chosen)).to_numpy(dtype=float)
        thresholds = np.concatenate([[math.inf], np.unique(score)[::-1]])
        hits = [(score[label] >= threshold).mean() for threshold in thresholds]
        alarms = [(score[~label] >= threshold).mean() for threshold in thresholds]
        colour, width = ("black", 2.4) if name == JOINT else (colours[name], 1.4)
        left.plot(alarms, hits, color=COLOURS[colour], lw=width, label=DIAGNOSTIC_LABELS[name])
    left.plot([0, 1], [0, 1], color="#BBBBBB", lw=1, ls="--")
    left.set(xlabel="share of uncompensated called compensable", ylabel="share of compensated called so")
    left.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    places = np.arange(len(told))
    for shift, column, colour, words_ in (
        (-0.2, "area", "black", "area under ROC"),
        (0.0, "held_out", "vermillion", "balanced accuracy, class unseen"),
        (0.2, "held_out_network", "sky", "balanced accuracy, network unseen"),
    ):
        if told[column].isna().all():
            continue
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
    right.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    caption(
        drawn,
        'Left: each diagnostic as a test for "training will compensate"; the three together are judged on classes that '
        "they were not fitted to. Right: the area under the curve, and how often a threshold learnt on the other "
        "classes or networks is right about one that it has not seen (mean over seeds, 95 % bootstrap).",
    )
    return drawn


def phases(summary: pd.DataFrame, boundaries: pd.DataFrame) -> Figure:
    """Phase diagrams: class over severity, a panel for each network and rule, coloured by recovery; the boundary with
    its interval in red.
    """
    networks, rules = list(dict.fromkeys(summary.network)), list(dict.fromkeys(summary.rule))
    names = list(dict.fromkeys(summary.perturbation))
    grids = {name: list(HARDWARE[name].grid) for name in names}
    columns = max(map(len, grids.values()))
    drawn, axes = figure(
        9.6, 2.6 * len(networks) + 1.4, columns=len(rules), rows=len(networks), squeeze=False, sharex=True, sharey=True
    )
    for (row, network), (column, rule) in itertools.product(enumerate(networks), enumerate(rules)):
        axis, here = axes[row, column], summary[(summary.network == network) & (summary.rule == rule)]
        shown = np.full((len(names), columns), np.nan)
        for one in here.itertuples():
            if one.severity not in grids[one.perturbation]:
                continue
            place = (names.index(one.perturbation), grids[one.perturbation].index(one.severity))
            shown[place] = one.recovery
            text = f"{words(one.severity, HARDWARE[one.perturbation])}\n" + (
                "no loss" if one.recovery != one.recovery else f"{one.recovery:.2f}".replace("-", "−")
            )
            light = one.recovery != one.recovery or one.recovery > 0.45
            colour = "black" if light else "white"
            axis.text(place[1], place[0], text, ha="center", va="center", fontsize=6.5, color=colour)
        picture = axis.imshow(shown.clip(0, 1), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for line in boundaries[(boundaries.network == network) & (boundaries.rule == rule)].itertuples():
            at = [_between(value, grids[line.perturbation]) for value in (line.low, line.severity, line.high)]
            y = names.index(line.perturbation)
            if np.isfinite(at[1]):
                ends = np.nan_to_num([at[0], at[2]], nan=at[1], posinf=columns, neginf=-1).clip(-0.5, columns - 0.5)
                red = COLOURS["vermillion"]
                axis.plot([at[1], at[1]], [y - 0.46, y + 0.46], color=red, lw=2.5)
                axis.plot(ends, [y + 0.4, y + 0.4], color=red, lw=1.2)
        axis.set_title(f"{network}, {RULE_LABELS[rule]}", fontsize=9.5)
        axis.set_yticks(range(len(names)), [HARDWARE[name].title for name in names], fontsize=8)
        axis.set_xticks([])
        axis.grid(False)
        if row == len(networks) - 1:
            axis.set_xlabel("severity, harsher to the right")
    drawn.colorbar(picture, ax=axes, shrink=0.6, label="recovery", aspect=30)
    caption(
        drawn,
        "Where training wins back the loss (light) and where it does not (dark), with the severity in every field. "
        f"Red: the boundary at which recovery falls below {COMPENSATED:g}, and its 95 % interval over seeds. White "
        "fields were not run, or cost less than a point.",
    )
    return drawn


def _between(value: float, grid: Sequence[float]) -> float:
    """The place of a severity between those of a grid, which runs from mild to harsh."""
    if not np.isfinite(value):
        return value
    logs = np.log(grid)
    order = np.argsort(logs)
    return float(np.interp(math.log(value), logs[order], np.arange(len(grid))[order]))


def remedies(summary: pd.DataFrame) -> Figure:
    """What every measure gives back: a panel for each class, a row for each measure, a mark for each severity."""
    names = list(dict.fromkeys(summary.perturbation))
    rows = {name: list(dict.fromkeys(summary[summary.perturbation == name].measure)) for name in names}
    heights = [len(rows[name]) + 0.8 for name in names]
    ratios = {"height_ratios": heights}
    first, *others = dict.fromkeys(summary.network)
    drawn, axes = figure(
        8.8, 0.27 * sum(heights) + 1.8, rows=len(names), squeeze=False, sharex=True, gridspec_kw=ratios
    )
    shades = ("#C9C9C9", "#8A8A8A", "#3C3C3C")
    for axis, name in zip(axes[:, 0], names, strict=True):
        here = summary[summary.perturbation == name]
        severities = _severities(here)
        axis.axvspan(COMPENSATED, 1.25, color=VERDICT_COLOURS["compensated"], alpha=0.10, lw=0)
        axis.axvline(0, color="#BBBBBB", lw=0.8)
        for place, measure in enumerate(rows[name]):
            group = here[here.measure == measure].set_index("severity")
            colour = COLOURS[KIND_COLOURS[group.kind.iloc[0]]]
            for shade, severity in zip(shades[-len(severities) :], severities, strict=True):
                value = group.recovery.get(severity, math.nan)
                if value == value:
                    axis.plot(np.clip(value, -0.45, 1.2), place, "o", color=colour, mec=shade, mew=2.2, ms=7)
        axis.set_yticks(range(len(rows[name])), rows[name], fontsize=8)
        axis.set_ylim(len(rows[name]) - 0.4, -0.6)
        axis.set_xlim(-0.5, 1.25)
        physics = HARDWARE[name]
        span = ", ".join(words(severity, physics) for severity in severities)
        title = f"{physics.title} ({span} {_unit(physics)})".replace(" )", ")")
        axis.set_title(title, fontsize=9.5, fontweight="bold")
    axes[-1, 0].set_xlabel("share of the loss given back")
    handles = [
        Line2D([], [], color=COLOURS[colour], marker="o", ls="", ms=7, label=kind)
        for kind, colour in KIND_COLOURS.items()
    ]
    handles += [
        Line2D([], [], marker="o", ls="", color="white", mec=shade, mew=2.2, ms=7, label=label)
        for shade, label in zip((shades[0], shades[-1]), ("mild", "harsh"), strict=True)
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    caption(
        drawn,
        "What each measure gives back of the loss: colour for the kind of measure, rim for the severity (light: mild, "
        "dark: harsh). Green ground: at least half. Severities that cost less than a point have no mark. "
        f"Batch statistics were measured on a {' or '.join(others)}, everything else on a {first}.",
    )
    return drawn


def measures(summary: pd.DataFrame, perturbation: str) -> Figure:
    """One panel of the what-if: accuracy under every measure against one class, a bar for each severity."""
    here = summary[(summary.perturbation == perturbation) & (summary.network == summary.network.iloc[0])]
    labels, severities, physics = list(dict.fromkeys(here.measure)), _severities(here), HARDWARE[perturbation]
    drawn, axes = figure(8.6, 3.6, columns=3, sharey=True)
    for axis in axes[len(severities) :]:
        axis.set_axis_off()
    for axis, severity in zip(axes, severities, strict=False):
        group = here[here.severity == severity].set_index("measure").loc[labels]
        values = [100 * group.unaware.iloc[0], *(100 * group.accuracy)]
        colours = ["grey", *(KIND_COLOURS[kind] for kind in group.kind)]
        bars = axis.barh(range(len(values)), values, color=[COLOURS[colour] for colour in colours])
        axis.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
        axis.axvline(100 * group.clean.iloc[0], color=COLOURS["black"], ls="--", lw=1.2)
        title = f"{words(severity, physics)} {_unit(physics)}".strip()
        axis.set(xlim=(0, 112), xlabel="test accuracy (%)", title=title)
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(labels) + 1), ["nothing", *labels], fontsize=8)
    axes[0].invert_yaxis()
    return drawn
