"""Figures of the composed chips. They draw tables and train nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from paper.criteria.hardware import DAMAGE, LOSS_ERROR, RECOVERY_ERROR
from paper.figures.hardware import RULES, classes, title
from paper.figures.style import (
    COLOURS,
    HALO,
    ON_MAP,
    Look,
    caption,
    diamonds,
    figure,
    legend_above,
    looks,
    named,
    order,
    this_run,
    verdict_mark,
    whiskers,
)
from paper.studies.hardware import NAMES
from paper.studies.mixture import split
from paper.words.format import duration

SHORT = {
    "read_noise": "read noise",
    "variability": "variability",
    "drift": "drift",
    "stuck_at": "stuck-at",
    "ir_drop": "IR-drop",
    "adc": "ADC",
}
CHIPS = {
    "alone": Look(COLOURS["grey"], "o", "alone"),
    "pair": Look(COLOURS["blue"], "s", "pair"),
    "all but one": Look(COLOURS["orange"], "^", "all but one"),
    "all": Look(COLOURS["green"], "P", "all"),
}


def short(part: str) -> str:
    """A part in a word; one that is not among the six by its title."""
    return SHORT.get(part, title(part))


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
    for kind, look in looks(order("kind", table, known=CHIPS), CHIPS).items():
        group = table[table.kind == kind]
        axis.plot(scale * group[x], scale * group[y], look.mark, color=look.colour, ms=6, alpha=0.9, label=look.label)


def _name_outliers(axis: Axes, table: pd.DataFrame, x: str, y: str, limit: float, every: pd.DataFrame) -> None:
    """The names of points (in per cent) that lie further than the ``limit`` from the diagonal, three at most, each
    where it covers no point of ``every`` and no other name.
    """
    off = (table[y] - table[x]).abs()
    low, high = axis.get_ylim()
    # About the size of a letter of 7.5 pt in a panel of this figure.
    wide, tall = (high - low) / 42, (high - low) / 20
    points = 100 * every[[x, y]].to_numpy()
    taken: list[tuple[float, float, float, float]] = []

    def free(box: tuple[float, float, float, float]) -> bool:
        left, bottom, right, top = box
        gap = wide
        over = (points > (left - gap, bottom - gap)) & (points < (right + gap, top + gap))
        apart = all(right < o[0] or left > o[2] or top < o[1] or bottom > o[3] for o in taken)
        return low <= left and right <= high and low <= bottom and top <= high and apart and not over.all(1).any()

    for row in table.assign(off=off)[off > limit].sort_values("off").tail(3).itertuples():
        at, text = (100 * getattr(row, x), 100 * getattr(row, y)), name(split(row.parts))
        length = wide * len(text)
        places = [
            (at[0] + shift, at[1] + tall * lift)
            for lift in (-0.5, 0.6, -1.6, 1.6, -2.6, 2.6)
            for shift in ((1.6 * wide, -1.6 * wide - length) if lift == -0.5 else (0, -length / 2, -length))
        ]
        boxes = [(left, bottom, left + length, bottom + tall) for left, bottom in places]
        box = next(filter(free, boxes), boxes[0])
        taken.append(box)
        axis.text(*box[:2], text, fontsize=7.5, ha="left", va="bottom", zorder=6, path_effects=HALO)


def _once(summary: pd.DataFrame) -> pd.DataFrame:
    """Every chip once, under the first rule: what it costs an unaware network is the same under every other."""
    return summary[summary.rule == next(iter(summary.rule), None)]


def predicted_loss(summary: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """The measured loss of every composed chip against three predictions from its parts."""
    drawn, axes = figure(9.4, 4.1, columns=3, sharey=True)
    table, again = (_once(one[one.kind != "alone"]) for one in (summary, this_run(rerun, summary)))
    titles = {"summed": "losses add", "in_logits": "log-odds add", "by_noise": "noise over signal adds, in order"}
    for axis, (column, heading) in zip(axes, titles.items(), strict=True):
        _diagonal(axis, 0, 92, 100 * LOSS_ERROR)
        _kinds(axis, table, column, "damage", 100)
        diamonds(axis, 100 * again[column], 100 * again.damage)
        _name_outliers(axis, table[table.kind != "all but one"], column, "damage", 2 * LOSS_ERROR, table)
        axis.set(title=heading, xlabel="predicted loss (points)")
    axes[0].set_ylabel("measured loss (points)")
    legend_above(drawn, axes[0])
    caption(
        drawn,
        "Losses do not add; noise over signal does. Each point is one composed chip, unaware networks, mean over "
        f"seeds; grey: the prediction, give or take {100 * LOSS_ERROR:g} points.",
    )
    return drawn


_BEYOND = TwoSlopeNorm(0, -30, 30)


def _field(row: int, column: int, cell: pd.Series) -> tuple[str, Any]:
    """What a field of :func:`pairs` says, and its colour."""
    loss = f"{100 * cell.damage:.0f}"
    if row == column:
        return loss, "white"
    if row < column:
        beyond = 100 * (cell.damage - cell.summed)
        return f"{loss}\n({beyond:+.0f})".replace("-", "−"), colormaps["PuOr_r"](_BEYOND(beyond))
    symbol, colour = verdict_mark(cell.verdict)
    share = "–" if cell.recovery != cell.recovery else f"{cell.recovery:.2f}".replace("-", "−")
    return f"{share}\n{symbol} {cell.verdict}".replace("\n ", "\n"), to_rgba(colour, 0.6)


def pairs(summary: pd.DataFrame, parts: Sequence[str], *, rerun: pd.DataFrame | None = None) -> Figure:
    """Pairs as a matrix: above the diagonal what they cost, below it what training wins back.

    This run's points are in the fields of pairs: above in the colour of its loss, below in that of its verdict.
    """
    again = this_run(rerun, summary)
    new = [part for chip in again[again.kind == "pair"].parts for part in split(chip)]
    parts = list(dict.fromkeys([*parts, *new]))
    count = len(parts)
    drawn, axis = figure(max(6.6, 1.1 * count), max(5.3, 0.88 * count))
    rule = summary.rule.iloc[0]
    table, points = (one[one.rule == rule].drop_duplicates("parts").set_index("parts") for one in (summary, again))
    for row, column in np.ndindex(count, count):
        own = " + ".join(parts[i] for i in sorted({row, column}))
        text, colour = _field(row, column, table.loc[own]) if own in table.index else ("not run", "#F4F4F4")
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="white", lw=2))
        dark = row < column and own in table.index and abs(table.damage[own] - table.summed[own]) > 0.18
        size = 9 if row <= column and own in table.index else 7.5
        ink = "white" if dark else "#888888" if text == "not run" else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
        if own in points.index and row != column:
            diamonds(axis, column + 0.36, row + 0.34, [to_rgba(_field(row, column, points.loc[own])[1])])
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
    alone = [part for part in summary[summary.kind == "alone"].parts.unique() if part not in parts]
    why = ", whose circuits take long to solve" if alone == ["ir_drop"] else ""
    left = f" In no pair: {', '.join(short(part) for part in alone)}{why}." if alone else ""
    caption(
        drawn,
        "Most pairs cost what their parts cost together; those that do not are recovered no worse. Framed: the loss "
        "alone, in points. Above the diagonal: the loss of the pair, in parentheses (and as colour) how far beyond the "
        f"sum. Below it: recovery and verdict after {NAMES.get(rule, rule)}.{left}",
        ON_MAP,
    )
    return drawn


def _noise(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Chip by chip the noise over signal, mean over seeds, with the loss in points where the summary has it."""
    means = table.groupby("parts", sort=False)[["measured", "unordered", "ordered"]].mean().reset_index()
    kinds = table.drop_duplicates("parts").set_index("parts").kind
    losses = _once(summary).set_index("parts").damage
    return means.assign(kind=means.parts.map(kinds), damage=100 * means.parts.map(losses).astype(float))


def signal(
    table: pd.DataFrame, summary: pd.DataFrame, ruler: pd.DataFrame, *, rerun: Mapping[str, pd.DataFrame] | None = None
) -> Figure:
    """Noise over signal, predicted with and without the order of the physics, and the loss that follows from it.

    ``rerun`` has this run's tables under the names ``signal`` and ``summary``, as the study has them.
    """
    drawn, (left, right) = figure(9.2, 4.2, columns=2)
    given = rerun or {}
    means = _noise(table, summary)
    again = _noise(this_run(given.get("signal"), table), this_run(given.get("summary"), summary))
    composed, points = (part[part.kind != "alone"] for part in (means, again))
    most = 1.1 * float(composed[["measured", "ordered"]].max().max())
    left.plot([0, most], [0, most], color="#999999", lw=1)
    left.plot(composed.unordered, composed.measured, "o", mfc="white", mec=COLOURS["grey"], ms=6, label="any order")
    left.plot(composed.ordered, composed.measured, "o", color=COLOURS["green"], ms=6, label="order of the physics")
    diamonds(left, points.unordered, points.measured)
    diamonds(left, points.ordered, points.measured)
    far = (composed.measured / composed.unordered - 1).abs()
    for row in composed.assign(far=far)[composed.kind == "pair"].sort_values("far").tail(2).itertuples():
        place = (row.unordered, row.measured)
        named(left, name(split(row.parts)), place)
    left.set(xlim=(0, most), ylim=(0, most), xlabel="predicted noise over signal", ylabel="measured noise over signal")
    left.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    line = ruler.groupby("severity")[["measured", "damage"]].mean()
    line = line[line.measured <= most]
    right.plot(line.measured, 100 * line.damage, "-", color=COLOURS["black"], lw=1.2, label="read noise alone")
    _kinds(right, means, "measured", "damage")
    diamonds(right, again.measured, again.damage)
    right.set(xlabel="measured noise over signal", ylabel="loss of an unaware network (points)", xlim=(0, most))
    right.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    caption(
        drawn,
        "One number for any mixture. Left: noise over signal follows from the parts once the order of the physics is "
        "kept (filled). Right: what a chip costs follows from that number, whatever its parts. Means over seeds, all "
        "layers added up.",
    )
    return drawn


def recoveries(summary: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """The recovery of every composed chip against the weighted mean of its parts, a panel for each rule."""
    again = this_run(rerun, summary)
    rules = [rule for rule in NAMES if rule in order("rule", summary, again)]
    drawn, axes = figure(4.2 * len(rules) + 0.6, 4.1, columns=len(rules), sharey=True, squeeze=False)
    chips = looks(order("kind", summary, known=CHIPS), CHIPS)
    for axis, rule in zip(axes[0], rules, strict=True):
        table, points = (part[(part.rule == rule) & (part.kind != "alone")] for part in (summary, again))
        _diagonal(axis, -0.8, 1, RECOVERY_ERROR)
        for kind, look in chips.items():
            group = table[(table.kind == kind) & (table.damage >= DAMAGE)]
            if kind == "alone":
                continue
            axis.errorbar(
                group.weighted,
                group.recovery,
                yerr=whiskers(group.recovery, group.recovery_low, group.recovery_high),
                fmt=look.mark,
                color=look.colour,
                ms=6,
                lw=0.8,
                label=look.label,
            )
        points = points[points.damage >= DAMAGE]
        diamonds(axis, points.weighted, points.recovery)
        far = table[(table.kind == "pair") & ((table.damage - table.summed).abs() > 2 * LOSS_ERROR)]
        # Names lie to the left, where no points are: that of the uppermost above it, the others below.
        for place, row in enumerate(far.sort_values("recovery", ascending=False).itertuples()):
            named(axis, name(split(row.parts)), (row.weighted, row.recovery), "right", up=place == 0)
        axis.set(xlim=(-0.8, 1), ylim=(-0.5, 1))
        axis.set(title=RULES[rule].label, xlabel="weighted mean of the parts' recoveries")
    axes[0, 0].set_ylabel("recovery of the chip")
    legend_above(drawn, axes[0, 0])
    caption(
        drawn,
        "Composed chips are recovered better than their parts let one expect. Points: one chip, with the 95 % "
        f"bootstrap over seeds; named: pairs whose losses do not add; grey: the prediction, give or take "
        f"{RECOVERY_ERROR:g}.",
    )
    return drawn


def removal(table: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """What each part costs alone, and what the full chip gets back without it, before and after training."""
    again = this_run(rerun, table)
    drawn, axis = figure(7.6, 3.9)
    parts, rules = order("part", table, again), looks(order("rule", table, again), RULES)
    places = np.arange(len(parts))
    height = 0.8 / (len(rules) + 1)
    at = places - 0.4 + height / 2
    alone, points = (100 * one.groupby("part").alone.mean().reindex(parts) for one in (table, again))
    axis.bar(at, alone, height, color="white", edgecolor=COLOURS["black"], label="costs alone")
    diamonds(axis, at, points)
    for shift, (rule, look) in enumerate(rules.items(), 1):
        wide, points = (
            100 * one[one.rule == rule].groupby("part").back.agg(["mean", "std"]).reindex(parts)
            for one in (table, again)
        )
        axis.bar(
            at + height * shift,
            wide["mean"],
            height,
            yerr=wide["std"],
            error_kw={"lw": 0.8, "ecolor": "#444444"},
            color=look.colour,
            label=f"gives back when removed, {look.label}",
        )
        diamonds(axis, at + height * shift, points["mean"])
    axis.axhline(0, color="#444444", lw=0.8)
    axis.set_xticks(places, [short(part) for part in parts])
    axis.grid(axis="x", visible=False)
    axis.set(ylabel="points")
    legend_above(drawn, axis, 2)
    caption(
        drawn,
        "What costs little alone may be what is worth removing. Empty: the loss of a chip with that part only. "
        "Coloured: what the full chip gets back without that part. Mean over seeds, bars: their standard deviation.",
    )
    return drawn


def phase_change(table: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Accuracy of the phase-change chip over time, with and without training and compensation."""
    again = this_run(rerun, table)
    drawn, axis = figure(6.8, 3.8)
    times = sorted(order("time", table, again))
    places = np.arange(len(times))
    axis.axhline(100 * table.clean.mean(), color=COLOURS["black"], ls="--", lw=1.2, label="clean, no hardware")
    compensations = order("compensation", table, again, known=("none", "global"))
    rules = looks(order("rule", table, again), RULES)
    for compensation, (rule, look) in itertools.product(compensations, rules.items()):
        group, points = (one[(one.compensation == compensation) & (one.rule == rule)] for one in (table, again))
        means = 100 * group.groupby("time")[["accuracy", "low"]].mean().reindex(times)
        plain = compensation == "none"
        text = {"none": "uncompensated", "global": "one factor per layer"}.get(compensation, compensation)
        face, style = ("white", "--") if plain else (look.colour, "-")
        label = f"{look.label}, {text}"
        axis.plot(places, means.accuracy, look.mark + style, color=look.colour, mfc=face, ms=5, label=label)
        if not plain:
            axis.fill_between(places, means.low, means.accuracy, color=look.colour, alpha=0.15, lw=0)
        diamonds(axis, places, 100 * points.groupby("time").accuracy.mean().reindex(times))
    axis.set_xticks(places, [duration(time) for time in times])
    axis.set(ylabel="test accuracy (%)", xlabel="time since programming")
    legend_above(drawn, axis, 2)
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
    faces = classes((one, other))
    bars = [
        (short(one), first.loc[one].damage, faces[one].colour),
        (short(other), first.loc[other].damage, faces[other].colour),
        ("losses\nadd", pair.summed, "white"),
        ("noise adds,\nin order", pair.by_noise, "white"),
        ("measured", pair.damage, COLOURS["black"]),
    ]
    for place, (_, value, face) in enumerate(bars):
        drawn_bars = left.bar(place, 100 * value, color=face, edgecolor="#444444", lw=0.8)
        left.bar_label(drawn_bars, fmt="%.0f", fontsize=9)
    left.axvline(1.5, color="#BBBBBB", lw=0.8)
    left.set_xticks(range(len(bars)), [text for text, _, _ in bars], fontsize=8)
    small = summary[summary.parts.map(lambda name: len(split(name)) <= 2)]
    most = 100 * float(small[["damage", "summed", "by_noise"]].max().max())
    left.set(ylabel="loss (points)", title="without training", ylim=(0, 1.15 * most))
    rows = [row for row in summary[summary.parts == parts].itertuples() if row.rule in NAMES]
    values = [("clean", pair.clean, COLOURS["black"]), ("unaware", pair.unaware, COLOURS["grey"])]
    for row in rows:
        look = RULES[row.rule]
        values.append((look.label.replace(", ", ",\n").replace("-through", "-\nthrough"), row.accuracy, look.colour))
    drawn_bars = right.bar(
        range(len(values)), [100 * value for _, value, _ in values], color=[colour for _, _, colour in values]
    )
    right.bar_label(drawn_bars, fmt="%.0f", fontsize=9)
    right.set_xticks(range(len(values)), [text for text, _, _ in values], fontsize=8)
    right.set(ylabel="test accuracy (%)", title="with training", ylim=(0, 112))
    for axis in (left, right):
        axis.grid(axis="x", visible=False)
    return drawn
