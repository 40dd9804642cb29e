"""Figures of the page on the forward operator: arrays in space, what wires cost, chips over time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from paper.figures.style import COLOURS, Look, band, caption, diamonds, figure, legend_above, looks, order, this_run
from paper.studies.operator import View
from paper.words.format import duration

# One scale for every picture of a loss, so that pictures compare: from 0.1 to 100 per cent.
_LOSS = LogNorm(0.1, 100)
_CHIPS = {
    "phase-change": Look(COLOURS["blue"], "o", "phase-change"),
    "phase-change, compensated": Look(COLOURS["sky"], "o", "phase-change, compensated"),
    "resistive": Look(COLOURS["vermillion"], "o", "resistive"),
    "ideal": Look(COLOURS["grey"], "o", "ideal"),
}
_ARRAYS = {"uniform": "o-", "sparse": "s:"}


def _map(axis: Axes, values: np.ndarray, title: str, label: str, **look: Any) -> None:
    """A heat map over the array: word lines downwards, bit lines to the right, with its scale below."""
    shown = axis.imshow(values, aspect="auto", interpolation="nearest", **look)
    axis.set(title=title)
    axis.grid(False)
    bar = axis.figure.colorbar(shown, ax=axis, location="bottom", shrink=0.9, aspect=22, pad=0.02)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axis.tick_params(labelsize=7)


def _lines(axis: Axes, word: bool = True, bit: bool = True) -> None:
    if word:
        axis.set_ylabel("word line (input)", fontsize=8)
    if bit:
        axis.set_xlabel("bit line (output)", fontsize=8)


def pair(weight: np.ndarray, g: np.ndarray) -> Figure:
    """A layer's weight [in, out] and the two arrays [2, in, out] that stand for it."""
    drawn, axes = figure(9.2, 4.0, columns=3)
    size = np.abs(weight).max()
    _map(axes[0], weight, "weight $W$", "weight", cmap="coolwarm", vmin=-size, vmax=size)
    for axis, array, name in zip(axes[1:], g, ("$G^+$", "$G^-$"), strict=True):
        _map(axis, array, f"array {name}", "conductance (µS)", cmap="cividis", vmin=0, vmax=g.max())
    for axis in axes:
        _lines(axis, word=axis is axes[0])
    caption(
        drawn,
        "One weight, two devices. Positive weights live in the first array, negative ones in the second, and the "
        "partner rests at the lower end of the window. The largest weight fills the window and sets the scale for "
        "all others.",
    )
    return drawn


def circuit(view: View) -> Figure:
    """A small array as it is wired: lines coloured by their voltage, cells as large as their current."""
    drawn, axis = figure(7.0, 4.6)
    m, n = view.g.shape
    volts = 1e3 * np.concatenate([view.volts[:, None], view.word], 1)
    largest = 1e3 * view.volts.max()
    across: list[Any] = [[[j - 1 if j else -0.9, i + 0.0], [j, i]] for i in range(m) for j in range(n)]
    down: list[Any] = [[[j + 0.3, i + 0.3], [j + 0.3, i + 1.3]] for i in range(m) for j in range(n)]
    look = {"cmap": "cividis", "linewidths": 3.2}
    for segments, values in ((across, volts[:, 1:].ravel()), (down, 1e3 * view.bit.ravel())):
        lines = LineCollection(segments, array=values, zorder=2, **look)
        lines.set_clim(0, largest)
        axis.add_collection(lines)
    rows, columns = np.mgrid[:m, :n]
    axis.plot([columns.ravel(), columns.ravel() + 0.3], [rows.ravel(), rows.ravel() + 0.3], color="#555555", lw=0.8)
    size = 90 * view.current / view.current.max()
    axis.scatter(columns + 0.15, rows + 0.15, s=size, color=COLOURS["vermillion"], zorder=4, lw=0)
    for i in range(m):
        axis.text(-1.0, i, f"{1e3 * view.volts[i]:.0f} mV", ha="right", va="center", fontsize=8)
    for j, (real, due) in enumerate(zip(view.output, view.ideal, strict=True)):
        axis.text(j + 0.3, m + 0.5, f"{real:.1f}\nof {due:.1f}", ha="center", va="top", fontsize=7.5)
    axis.text(-1.0, m + 0.5, "µA delivered\nof µA owed", ha="right", va="top", fontsize=7.5)
    axis.text((n - 1) / 2, -0.75, "word lines: inputs as voltages", ha="center", fontsize=9)
    axis.text(n - 0.25, (m - 1) / 2, "bit lines: outputs as currents", va="center", rotation=270, fontsize=9)
    axis.set(xlim=(-2.1, n + 0.2), ylim=(m + 1.6, -1.0))
    axis.axis("off")
    bar = drawn.colorbar(lines, ax=axis, shrink=0.75, pad=0.01)
    bar.set_label("voltage of the wire (mV)")
    caption(
        drawn,
        f"{m} word lines (across, driven from the left) and {n} bit lines (down, held at 0 V at their lower ends), "
        f"wires of {view.r_word:g} Ω per segment. Dots: cells, their area is the current. The voltage between the two "
        "wires of a cell shrinks towards the upper right, and with it the current.",
    )
    return drawn


def _outputs(axis: Axes, view: View) -> None:
    places = np.arange(len(view.output))
    axis.step(places, view.ideal, where="mid", color=COLOURS["grey"], lw=1.2, label="owed")
    axis.fill_between(places, view.output, step="mid", color=COLOURS["blue"], alpha=0.55, lw=0, label="delivered")
    axis.set(xlim=(-0.5, len(places) - 0.5), ylim=(0, 1.45 * view.ideal.max()), title="output currents")
    axis.set_ylabel("µA", fontsize=8)
    axis.legend(frameon=False, fontsize=7.5, ncols=2, loc="upper left")
    axis.tick_params(labelsize=7)
    _lines(axis, word=False)


def _loss_map(axis: Axes, view: View, norm: Normalize | None = _LOSS) -> None:
    axis.set_facecolor("#DDDDDD")
    # Where current runs backwards, or nothing flows, there is no loss to draw.
    share = 100 * view.cell_loss
    shown = np.where(share > 0, share, np.nan)
    norm = norm or Normalize(0, float(np.nanmax(share)))
    _map(axis, shown, "loss of each cell", "% of its current", cmap="cividis", norm=norm)


def crossbar(view: View, digit: np.ndarray | None = None) -> Figure:
    """An array in operation, and the weight that the network really sees."""
    drawn, axes = figure(10.4, 7.2, columns=4, rows=2)
    first = axes[0, 0]
    if digit is None:
        _map(first, view.g, "conductance", "µS", cmap="cividis", vmin=0)
    else:
        _map(first, 1e3 * view.volts.reshape(digit.shape), "input image", "mV", cmap="cividis", vmin=0)
        first.set_box_aspect(1)
        first.set(xticks=[], yticks=[])
    _map(axes[0, 1], 1e3 * (view.volts[:, None] - view.word), "sag of word lines", "mV", cmap="cividis", vmin=0)
    _map(axes[0, 2], 1e3 * view.bit, "rise of bit lines", "mV", cmap="cividis", vmin=0)
    _loss_map(axes[0, 3], view, None)
    _outputs(axes[1, 0], view)
    size = np.abs(view.meant).max()
    symmetric = {"cmap": "coolwarm", "vmin": -size, "vmax": size}
    _map(axes[1, 1], view.meant, "meant", view.unit, **symmetric)
    _map(axes[1, 2], view.seen, "what the network sees", view.unit, **symmetric)
    change = view.seen - view.meant
    largest = np.abs(change).max()
    _map(axes[1, 3], change, "seen minus meant", view.unit, cmap="coolwarm", vmin=-largest, vmax=largest)
    for axis in (axes[0, 1], axes[1, 1]):
        _lines(axis, bit=False)
    for axis in axes[1, 1:]:
        _lines(axis, word=False)
    caption(
        drawn,
        f"Wires of {view.r_word:g} Ω (word) and {view.r_bit:g} Ω (bit) per segment. Above: voltages sag along the word "
        "lines and pile up on the bit lines, towards their floating ends; a cell loses most where both are far away, "
        "and where its input is weak (grey: not driven). Below: the currents that arrive, and the matrix by "
        "which the input was really multiplied.",
    )
    return drawn


def setting(view: View) -> Figure:
    """One panel of the what-if: where the signal is lost, and what is left of the weight."""
    drawn, axes = figure(9.2, 3.0, columns=4)
    word = 100 * (view.volts[:, None] - view.word) / view.volts.max()
    bit = 100 * view.bit / view.volts.max()
    axes[0].set_facecolor("#DDDDDD")
    axes[1].set_facecolor("#DDDDDD")
    for axis, values, title in ((axes[0], word, "sag of word lines"), (axes[1], bit, "rise of bit lines")):
        shown = np.where(values > 1e-9, values, np.nan)
        _map(axis, shown, title, "% of the largest input", cmap="cividis", norm=_LOSS)
    _loss_map(axes[2], view)
    size = np.abs(view.meant).max()
    axes[3].plot([-size, size], [-size, size], color="#BBBBBB", lw=1)
    axes[3].plot(view.meant.ravel(), view.seen.ravel(), ".", color=COLOURS["blue"], ms=1.5)
    axes[3].set(title="weights", xlim=(-size, size), ylim=(-size, size))
    axes[3].set_xlabel("meant", fontsize=8)
    axes[3].set_ylabel("seen", fontsize=8)
    axes[3].tick_params(labelsize=7)
    axes[3].text(
        0.05, 0.93, f"current lost: {100 * view.total_loss:.2g} %", transform=axes[3].transAxes, fontsize=8, va="top"
    )
    _lines(axes[0])
    caption(
        drawn,
        f"Wires of {view.r_word:g} Ω (word) and {view.r_bit:g} Ω (bit) per segment: {100 * view.total_loss:.2g} % of "
        f"the current is lost; no word line sags by more than {word.max():.2g} % of the largest input, and no bit line "
        f"rises by more than {bit.max():.2g} %.",
    )
    return drawn


def array(view: View) -> Figure:
    """One panel of the what-if over size and resistance: where an array loses current, and what its outputs deliver."""
    drawn, axes = figure(7.4, 3.0, columns=2, gridspec_kw={"width_ratios": (1, 1.3)})
    _loss_map(axes[0], view)
    _lines(axes[0])
    _outputs(axes[1], view)
    side = len(view.g)
    share = 100 * view.cell_loss
    caption(
        drawn,
        f"{side} × {side} at {view.r_word:g} Ω per segment: {100 * view.total_loss:.2g} % of the current is lost, "
        f"{np.nanmin(share):.2g} % in the best cell and {np.nanmax(share):.2g} % in the worst.",
    )
    return drawn


def wires(loss: pd.DataFrame, tiles: pd.DataFrame, *, rerun: Mapping[str, pd.DataFrame] | None = None) -> Figure:
    """What wires cost over side and resistance, how far the fast estimate is off, and what cutting into tiles saves.

    ``rerun`` has this run's ``loss`` and ``tiles``, or one of them.
    """
    given = rerun or {}
    again, cut = this_run(given.get("loss"), loss), this_run(given.get("tiles"), tiles)
    drawn, axes = figure(9.6, 3.9, columns=3)
    colours = itertools.cycle(("sky", "blue", "green", "orange", "vermillion", "purple", "grey"))
    sides = np.array(sorted(order("side", loss, again)))
    for ohm, colour in zip(sorted(order("ohm", loss, again)), colours, strict=False):
        for axis, column in zip(axes, ("loss", "error"), strict=False):
            means, points = (
                table[table.ohm == ohm].groupby(["kind", "side"])[column].mean() for table in (loss, again)
            )
            for kind, style in _ARRAYS.items():
                label = f"{ohm:g} Ω" if kind == "uniform" and axis is axes[0] else None
                here, there = (part[part.index.get_level_values("kind") == kind] for part in (means, points))
                at = here.index.get_level_values("side")
                axis.loglog(at, here, style, color=COLOURS[colour], ms=4, lw=1.5, label=label)
                diamonds(axis, there.index.get_level_values("side"), there)
    start = loss[(loss.kind == "uniform") & (loss.ohm == loss.ohm.min())].groupby("side").loss.mean().iloc[0]
    axes[0].loglog(sides, 0.5 * start * (sides / sides[0]) ** 2.0, "--", color=COLOURS["black"], lw=1, label="square")
    axes[0].set(title="loss in the wires", ylabel="current lost (%)", xlabel="lines on a side")
    legend_above(drawn, axes[0], 8)
    axes[0].set_ylim(bottom=0.05 * start)
    axes[1].axhline(1, color=COLOURS["black"], ls="--", lw=1)
    axes[1].set(title="error of the fast estimate", ylabel="% of the largest current", xlabel="lines on a side")
    for axis in axes[:2]:
        axis.set_xticks(sides, [str(side) for side in sides])
        axis.minorticks_off()
    by_tile, points = (table.groupby("tile").loss.mean() for table in (tiles, cut))
    by_tile = by_tile.reindex(sorted({*by_tile.index, *points.index}))
    bars = axes[2].bar(range(len(by_tile)), by_tile, color=COLOURS["blue"])
    diamonds(axes[2], [by_tile.index.get_loc(tile) for tile in points.index], points)
    # Above the marks of this run.
    axes[2].bar_label(bars, fmt=lambda value: f"{value:#.2g}".removesuffix("."), fontsize=8, padding=7)
    axes[2].margins(y=0.1)
    axes[2].set_xticks(range(len(by_tile)), [str(tile) for tile in by_tile.index])
    axes[2].set(title=f"{int(tiles.side.iloc[0])} lines in tiles", ylabel="current lost (%)", xlabel="lines of a tile")
    axes[2].grid(axis="x", visible=False)
    caption(
        drawn,
        "The loss grows nearly with the square of the side until it is no longer small; tiles buy it back. Dashed, "
        "left: the square; middle: one per cent. Solid, circles: uniform random conductances; dotted, squares: one "
        f"cell in ten fully on. Mean over {loss.seed.nunique()} arrays of each kind, all inputs driven (loss) or "
        "random "
        "inputs (error); tiles at 1 Ω.",
    )
    return drawn


def over_time(chips: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Accuracy of an unaware network on calibrated chips, over the time since programming."""
    again = this_run(rerun, chips)
    drawn, axis = figure(7.0, 3.8)
    times = np.array(sorted(time for time in order("seconds", chips, again) if time > 0))
    for name, look in looks(order("chip", chips, again), _CHIPS).items():
        group, points = (table[table.chip == name] for table in (chips, again))
        if (pd.concat([group, points]).seconds > 0).any():
            rows = group.pivot_table(index="seconds", columns="seed", values="accuracy")
            band(axis, rows, look.colour, look.label, "o-")
            low = group.groupby("seconds").low.mean()
            axis.plot(low.index, low, ":", color=look.colour, lw=1.2)
            there = points.groupby("seconds").accuracy.mean()
            diamonds(axis, there.index, there)
        else:
            axis.axhline(group.accuracy.mean(), color=look.colour, ls="-", lw=1.6, label=look.label)
            axis.axhline(group.low.mean(), color=look.colour, ls=":", lw=1.2)
            # It holds at any time: the point stands at the first.
            diamonds(axis, times[0], points.accuracy.mean())
    axis.set_xscale("log")
    axis.set_xticks(times, [duration(time) for time in times])
    axis.minorticks_off()
    axis.set(xlabel="time since programming", ylabel="test accuracy (%)")
    axis.set_ylim(top=99.5)
    drawn.legend(loc="outside upper center", frameon=False, fontsize=8, ncols=4)
    caption(
        drawn,
        "A network that never heard of hardware, on chips with published statistics. Solid: mean over chips and "
        f"{chips.seed.nunique()} networks, with its 95 % interval over networks; dotted: 5th percentile of chips. "
        "What does not change with time is a level line.",
    )
    return drawn
