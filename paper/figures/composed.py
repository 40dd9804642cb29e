"""Figures of the composed chips. They draw tables and train nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.hardware.devices import HARDWARE
from paper.figures.hardware import CLASS_COLOURS, RULE_COLOURS, RULE_LABELS, RULE_MARKS, VERDICT_COLOURS
from paper.figures.style import COLOURS, RINGS, caption, figure, known, rings
from paper.studies.base import duration
from paper.studies.composed import LOSS_ERROR, RECOVERY_ERROR, split
from paper.studies.perturbation import DAMAGE, NAMES

SHORT = {
    "read_noise": "read noise",
    "variability": "variability",
    "drift": "drift",
    "stuck_at": "stuck-at",
    "ir_drop": "IR-drop",
    "adc": "ADC",
}
KIND_MARKS = {"alone": ("o", "grey"), "pair": ("s", "blue"), "all but one": ("^", "orange"), "all": ("D", "vermillion")}


def short(part: str) -> str:
    """A class in a word."""
    return SHORT.get(part) or HARDWARE[part].title.lower()


def name(parts: Sequence[str], most: int = 6) -> str:
    """A chip in a word or two; the long ones by what they lack."""
    if len(parts) <= 2:
        return " + ".join(short(part) for part in parts)
    lacking = [word for part, word in SHORT.items() if part not in parts]
    return f"without {lacking[0]}" if len(lacking) == 1 and most == len(SHORT) else "all"


def _diagonal(axis: Axes, low: float, high: float, width: float) -> None:
    axis.plot([low, high], [low, high], color="#999999", lw=1)
    axis.fill_between([low, high], [low - width, high - width], [low + width, high + width], color="#EEEEEE", lw=0)
    axis.set(xlim=(low, high), ylim=(low, high))


def _kinds(axis: Axes, table: pd.DataFrame, x: str, y: str, scale: float = 1) -> None:
    for kind, (mark, colour) in KIND_MARKS.items():
        group = table[table.kind == kind]
        axis.plot(scale * group[x], scale * group[y], mark, color=COLOURS[colour], ms=6, alpha=0.9, label=kind)


def _name_outliers(axis: Axes, table: pd.DataFrame, x: str, y: str, scale: float, limit: float, most: int = 3) -> None:
    off = (table[y] - table[x]).abs()
    for row in table.assign(off=off)[off > limit].sort_values("off").tail(most).itertuples():
        place = (scale * getattr(row, x), scale * getattr(row, y))
        axis.annotate(name(split(row.parts)), place, xytext=(6, -3), textcoords="offset points", fontsize=7.5)


def predicted_loss(summary: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """The measured loss of every composed chip against three predictions from its parts."""
    drawn, axes = figure(9.4, 3.9, columns=3, sharey=True)
    table = summary[(summary.rule == summary.rule.iloc[0]) & (summary.kind != "alone")]
    kept = known(reference, table, ("network", "parts", "rule")).merge(
        table.drop(columns=["damage", "recovery"]), on=["network", "parts", "rule"]
    )
    titles = {
        "summed": "losses add",
        "in_logits": "log-odds add",
        "by_noise": "noise over signal adds, in order",
    }
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        _diagonal(axis, 0, 92, 100 * LOSS_ERROR)
        _kinds(axis, table, column, "damage", 100)
        if len(kept):
            rings(axis, 100 * kept[column], 100 * kept.damage, "black")
        _name_outliers(axis, table[table.kind != "all but one"], column, "damage", 100, 2 * LOSS_ERROR)
        axis.set(title=title, xlabel="predicted loss (points)")
    axes[0].set_ylabel("measured loss (points)")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[2].legend(handles[1:], labels[1:], frameon=False, fontsize=8, loc="lower right")
    caption(
        drawn,
        "Losses do not add; noise over signal does. Each point is one composed chip, unaware networks, mean over "
        f"seeds; grey: the prediction, give or take {100 * LOSS_ERROR:g} points." + (RINGS if len(kept) else ""),
    )
    return drawn


def pairs(summary: pd.DataFrame, parts: Sequence[str]) -> Figure:
    """Pairs as a matrix: above the diagonal what they cost, below it what training wins back."""
    drawn, axis = figure(6.6, 5.3)
    table = summary[summary.rule == summary.rule.iloc[0]].set_index("parts")
    count = len(parts)
    norm = TwoSlopeNorm(0, -30, 30)
    shades = colormaps["PuOr_r"]
    for row, column in np.ndindex(count, count):
        own = " + ".join(parts[i] for i in sorted({row, column}))
        text, colour = "not run", "#F4F4F4"
        if own in table.index:
            cell = table.loc[own]
            if row == column:
                text, colour = f"{100 * cell.damage:.0f}", "white"
            elif row < column:
                beyond = 100 * (cell.damage - cell.summed)
                text, colour = f"{100 * cell.damage:.0f}\n({beyond:+.0f})".replace("-", "−"), shades(norm(beyond))
            else:
                text = "–" if cell.recovery != cell.recovery else f"{cell.recovery:.2f}".replace("-", "−")
                text, colour = f"{text}\n{cell.verdict}", VERDICT_COLOURS[cell.verdict] + "99"
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="white", lw=2))
        dark = row < column and own in table.index and abs(beyond) > 18
        size = 7.5 if text == "not run" else 9
        ink = "white" if dark else "#888888" if text == "not run" else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
        if row == column:
            axis.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="#444444", lw=1.2))
    labels = [short(part) for part in parts]
    axis.set_xticks(range(count), labels)
    axis.set_yticks(range(count), labels)
    axis.xaxis.tick_top()
    axis.grid(False)
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    caption(
        drawn,
        "Most pairs cost what their parts cost together; those that do not are recovered no worse. Framed: the loss "
        "alone, in points. Above the diagonal: the loss of the pair, in parentheses (and as colour) how far beyond the "
        f"sum. Below it: recovery and verdict after {NAMES[summary.rule.iloc[0]]}.",
    )
    return drawn


def signal(table: pd.DataFrame, summary: pd.DataFrame, scale: pd.DataFrame) -> Figure:
    """Noise over signal, predicted with and without the order of the physics, and the loss that follows from it."""
    drawn, (left, right) = figure(9.2, 4.0, columns=2)
    means = table.groupby("parts", sort=False)[["measured", "unordered", "ordered"]].mean()
    kinds = table.drop_duplicates("parts").set_index("parts").kind
    means = means.assign(kind=kinds).reset_index()
    composed = means[means.kind != "alone"]
    most = 1.1 * float(composed[["measured", "ordered"]].max().max())
    left.plot([0, most], [0, most], color="#999999", lw=1)
    left.plot(composed.unordered, composed.measured, "o", mfc="white", mec=COLOURS["grey"], ms=6, label="any order")
    left.plot(composed.ordered, composed.measured, "o", color=COLOURS["green"], ms=6, label="order of the physics")
    far = (composed.measured / composed.unordered - 1).abs()
    for row in composed.assign(far=far)[composed.kind == "pair"].sort_values("far").tail(2).itertuples():
        place = (row.unordered, row.measured)
        left.annotate(
            name(split(row.parts)), place, xytext=(0, 8), textcoords="offset points", fontsize=7.5, ha="center"
        )
    left.set(xlim=(0, most), ylim=(0, most), xlabel="predicted noise over signal", ylabel="measured noise over signal")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    line = scale.groupby("severity")[["measured", "damage"]].mean()
    line = line[line.measured <= most]
    right.plot(line.measured, 100 * line.damage, "-", color=COLOURS["black"], lw=1.2, label="read noise alone")
    loss = summary[summary.rule == summary.rule.iloc[0]].set_index("parts").damage
    _kinds(right, means.assign(damage=means.parts.map(loss) * 100, measured=means.measured), "measured", "damage")
    right.set(xlabel="measured noise over signal", ylabel="loss of an unaware network (points)", xlim=(0, most))
    right.legend(frameon=False, fontsize=8, loc="upper left")
    caption(
        drawn,
        "One number for any mixture. Left: noise over signal follows from the parts once the order of the physics is "
        "kept (filled). Right: what a chip costs follows from that number, whatever its parts. Means over seeds, all "
        "layers added up.",
    )
    return drawn


def recoveries(summary: pd.DataFrame) -> Figure:
    """The recovery of every composed chip against the weighted mean of its parts, a panel for each rule."""
    rules = [rule for rule in NAMES if rule in set(summary.rule)]
    drawn, axes = figure(4.2 * len(rules) + 0.6, 3.9, columns=len(rules), sharey=True, squeeze=False)
    for axis, rule in zip(axes[0], rules, strict=True):
        table = summary[(summary.rule == rule) & (summary.kind != "alone")]
        _diagonal(axis, -0.8, 1, RECOVERY_ERROR)
        for kind, (mark, colour) in KIND_MARKS.items():
            group = table[(table.kind == kind) & (table.damage >= DAMAGE)]
            ends = np.clip([group.recovery - group.recovery_low, group.recovery_high - group.recovery], 0, None)
            axis.errorbar(
                group.weighted,
                group.recovery,
                yerr=np.nan_to_num(ends),
                fmt=mark,
                color=COLOURS[colour],
                ms=6,
                lw=0.8,
                label=kind,
            )
        far = table[(table.kind == "pair") & ((table.damage - table.summed).abs() > 2 * LOSS_ERROR)]
        for row in far.itertuples():
            axis.annotate(
                name(split(row.parts)),
                (row.weighted, row.recovery),
                xytext=(-8, -3),
                textcoords="offset points",
                fontsize=7.5,
                ha="right",
            )
        axis.set(xlim=(-0.8, 1), ylim=(-0.5, 1))
        axis.set(title=RULE_LABELS[rule], xlabel="weighted mean of the parts' recoveries")
    axes[0, 0].set_ylabel("recovery of the chip")
    handles, labels = axes[0, -1].get_legend_handles_labels()
    axes[0, -1].legend(handles[1:], labels[1:], frameon=False, fontsize=8, loc="lower right")
    caption(
        drawn,
        "Composed chips are recovered better than their parts let one expect. Points: one chip, with the 95 % "
        f"bootstrap over seeds; named: pairs whose losses do not add; grey: the prediction, give or take "
        f"{RECOVERY_ERROR:g}.",
    )
    return drawn


def removal(table: pd.DataFrame) -> Figure:
    """What each part costs alone, and what the full chip gets back without it, before and after training."""
    drawn, axis = figure(7.6, 3.7)
    parts = list(dict.fromkeys(table.part))
    rules = list(dict.fromkeys(table.rule))
    places = np.arange(len(parts))
    height = 0.8 / (len(rules) + 1)
    alone = 100 * table.groupby("part").alone.mean().loc[parts]
    axis.bar(places - 0.4 + height / 2, alone, height, color="white", edgecolor=COLOURS["black"], label="costs alone")
    for shift, rule in enumerate(rules, 1):
        wide = table[table.rule == rule].pivot(index="seed", columns="part", values="back")[parts] * 100
        axis.bar(
            places - 0.4 + height * (shift + 0.5),
            wide.mean(),
            height,
            yerr=wide.std(),
            error_kw={"lw": 0.8, "ecolor": "#444444"},
            color=COLOURS[RULE_COLOURS[rule]],
            label=f"gives back when removed, {RULE_LABELS[rule]}",
        )
    axis.axhline(0, color="#444444", lw=0.8)
    axis.set_xticks(places, [short(part) for part in parts])
    axis.grid(axis="x", visible=False)
    axis.set(ylabel="points")
    axis.legend(frameon=False, fontsize=8, loc="upper right")
    caption(
        drawn,
        "What costs little alone may be what is worth removing. White: the loss of a chip with that part only. "
        "Coloured: what the full chip gets back without that part. Mean over seeds, bars: their standard deviation.",
    )
    return drawn


def phase_change(table: pd.DataFrame) -> Figure:
    """Accuracy of the phase-change chip over time, with and without training and compensation."""
    drawn, axis = figure(6.8, 3.6)
    times = sorted(set(table.time))
    places = np.arange(len(times))
    axis.axhline(100 * table.clean.mean(), color=COLOURS["black"], ls="--", lw=1.2, label="clean, no hardware")
    for compensation, style in (("none", "--"), ("global", "-")):
        for rule in ("unaware", "autograd"):
            group = table[(table.compensation == compensation) & (table.rule == rule)]
            means = 100 * group.groupby("time")[["accuracy", "low"]].mean().loc[times]
            colour = COLOURS[RULE_COLOURS[rule]]
            text = f"{RULE_LABELS[rule]}, {'one factor per layer' if compensation == 'global' else 'uncompensated'}"
            face = colour if compensation == "global" else "white"
            axis.plot(places, means.accuracy, RULE_MARKS[rule] + style, color=colour, mfc=face, ms=5, label=text)
            if compensation == "global":
                axis.fill_between(places, means.low, means.accuracy, color=colour, alpha=0.15, lw=0)
    axis.set_xticks(places, [duration(time) for time in times])
    axis.set(ylabel="test accuracy (%)", xlabel="time since programming")
    axis.legend(frameon=False, fontsize=8, loc="lower left")
    chips = int(table.chips.iloc[0])
    caption(
        drawn,
        "A phase-change chip as published: programming noise, drift and 1/f noise at once. One digital factor per "
        f"layer is worth more than training without it. Mean over {table.seed.nunique()} seeds, {chips} unseen chips; "
        "bands: down to their 5th percentile.",
    )
    return drawn


def together(summary: pd.DataFrame, parts: str) -> Figure:
    """One panel of the what-if: what two parts cost alone, what one expects of the pair, and what it costs."""
    drawn, (left, right) = figure(8.2, 3.1, columns=2, gridspec_kw={"width_ratios": (3, 2)})
    first = summary[summary.rule == summary.rule.iloc[0]].set_index("parts")
    one, other = split(parts)
    pair = first.loc[parts]
    bars = [
        (short(one), first.loc[one].damage, CLASS_COLOURS.get(one, "black")),
        (short(other), first.loc[other].damage, CLASS_COLOURS.get(other, "black")),
        ("losses\nadd", pair.summed, None),
        ("noise adds,\nin order", pair.by_noise, None),
        ("measured", pair.damage, "black"),
    ]
    for place, (_, value, colour) in enumerate(bars):
        face = COLOURS[colour] if colour else "white"
        drawn_bars = left.bar(place, 100 * value, color=face, edgecolor="#444444", lw=0.8)
        left.bar_label(drawn_bars, fmt="%.0f", fontsize=9)
    left.axvline(1.5, color="#BBBBBB", lw=0.8)
    left.set_xticks(range(len(bars)), [text for text, _, _ in bars], fontsize=8)
    small = summary[summary.parts.map(lambda name: len(split(name)) <= 2)]
    most = 100 * float(small[["damage", "summed", "by_noise"]].max().max())
    left.set(ylabel="loss (points)", title="without training", ylim=(0, 1.15 * most))
    rows = [row for row in summary[summary.parts == parts].itertuples() if row.rule in NAMES]
    values = [("clean", pair.clean, "black"), ("unaware", pair.unaware, "grey")]
    values += [
        (
            RULE_LABELS[row.rule].replace(", ", ",\n").replace("-through", "-\nthrough"),
            row.accuracy,
            RULE_COLOURS[row.rule],
        )
        for row in rows
    ]
    drawn_bars = right.bar(
        range(len(values)), [100 * value for _, value, _ in values], color=[COLOURS[colour] for _, _, colour in values]
    )
    right.bar_label(drawn_bars, fmt="%.0f", fontsize=9)
    right.set_xticks(range(len(values)), [text for text, _, _ in values], fontsize=8)
    right.set(ylabel="test accuracy (%)", title="with training", ylim=(0, 112))
    for axis in (left, right):
        axis.grid(axis="x", visible=False)
    return drawn
