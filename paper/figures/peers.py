"""Figures of the page on other simulators: sampled moments on published curves, and what is left between them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper import simulators as through
from paper.criteria.hardware import CHANCE, SIMULATORS_ALIKE
from paper.figures.style import COLOURS, Look, caption, diamonds, figure, interval, looks, order, this_run, whiskers
from paper.studies.peers import LAWS, SECONDS, curve
from paper.words.format import duration

# Drift begins at the first time; the reader counts the others from there.
_TIMES = {
    seconds: Look(COLOURS[colour], "o", duration(seconds - SECONDS[0] or seconds))
    for seconds, colour in zip(SECONDS, itertools.cycle(("blue", "green", "purple", "orange", "sky")), strict=False)
}


def _law(axis: Axes, law: str, statistics: pd.DataFrame, peers: pd.DataFrame, again: pd.DataFrame) -> None:
    """Published curves of one law, our samples with their errors, and aihwkit's; drift exponents as mean and spread."""
    own, points = (table[table.law == law] for table in (statistics, again))
    both = ("mean", "std") if law == "drift" else ("std",)
    relative = law == "read"
    for seconds in sorted(order("seconds", own, points)):
        line = curve(law, seconds)
        look = _TIMES.get(seconds, Look(COLOURS["blue"], "o", ""))
        for statistic in both:
            colour = COLOURS[{"mean": "blue", "std": "green"}[statistic]] if law == "drift" else look.colour
            axis.plot(line.g, line[statistic] / (line.g if relative else 1), color=colour, lw=1.4)
            here, there, this = (
                table[(table.law == law) & (table.seconds == seconds) & (table.statistic == statistic)]
                for table in (own, peers, points)
            )
            unit = here.g if relative else 1
            error = CHANCE * here.error / unit
            axis.errorbar(here.g, here.sampled / unit, yerr=error, fmt="o", ms=4, capsize=2, color=colour)
            axis.plot(there.g, there.peer / (there.g if relative else 1), "x", color=COLOURS["vermillion"], ms=7)
            diamonds(axis, this.g, this.sampled / (this.g if relative else 1))
            if law == "drift":
                at = line.iloc[len(line) // 8 if statistic == "mean" else -len(line) // 4]
                axis.annotate(statistic, (at.g, at[statistic]), xytext=(3, 5), textcoords="offset points", fontsize=8)
        if relative:
            axis.plot([], [], color=look.colour, lw=1.4, label=look.label)
            axis.legend(frameon=False, fontsize=8, loc="upper right")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_title(LAWS[law], fontsize=9.5)
    labels = {"drift": "exponent", "read": "std / conductance"}
    axis.set_ylabel(labels.get(law, "std (µS)"), fontsize=9)


def moments(
    statistics: pd.DataFrame, peers: pd.DataFrame, *, rerun: Mapping[str, pd.DataFrame] | None = None
) -> Figure:
    """Above: laws and samples. Below: how far the samples lie off, in standard errors.

    ``rerun`` has this run's ``statistics`` and ``peers``, or one of them.
    """
    given = rerun or {}
    again, apart = this_run(given.get("statistics"), statistics), this_run(given.get("peers"), peers)
    ratios = {"height_ratios": [1.7, 1.0]}
    drawn, axes = figure(10.4, 5.4, columns=len(LAWS), rows=2, sharex="col", gridspec_kw=ratios)
    for column, law in enumerate(LAWS):
        top, bottom = axes[:, column]
        _law(top, law, statistics, peers, again)
        bottom.axhspan(-CHANCE, CHANCE, color="#EEEEEE", lw=0)
        for table, points, colour, mark, shift in (
            (statistics, again, "blue", "o", 0.95),
            (peers, apart, "vermillion", "x", 1.05),
        ):
            here, there = (part[part.law == law] for part in (table, points))
            bottom.plot(here.g * shift, here.z, mark, color=COLOURS[colour], ms=4)
            diamonds(bottom, there.g * shift, there.z)
        bottom.set(ylim=(-1.3 * CHANCE, 1.3 * CHANCE), xlabel="conductance (µS)")
    axes[1, 0].set_ylabel("difference\n(standard errors)", fontsize=9)
    handles = [
        Line2D([], [], color=COLOURS["blue"], marker="o", lw=1.4, label="published curve, our samples on it"),
        Line2D([], [], color=COLOURS["vermillion"], marker="x", ls="", label="aihwkit's samples"),
        Line2D([], [], color=COLOURS["blue"], marker="o", ls="", label="below: ours minus published"),
        Line2D([], [], color=COLOURS["vermillion"], marker="x", ls="", label="below: ours minus aihwkit's"),
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    caption(
        drawn,
        f"Device by device we sample the published laws. Bars: ±{CHANCE:g} standard errors, mostly smaller than the "
        "dots. Below, every mean and standard deviation: a difference inside the grey band is chance. The resistive "
        "law was not sampled in aihwkit.",
    )
    return drawn


def chips(peers: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Whole phase-change chips: by how much our mean and spread differ from aihwkit's."""
    drawn, axes = figure(8.4, 3.4, columns=2, sharey=True)
    table, again = (part[part.law == "chip"] for part in (peers, this_run(rerun, peers)))
    times = looks(order("seconds", table, again, known=_TIMES), _TIMES)
    for axis, statistic, title in zip(axes, ("mean", "std"), ("mean", "standard deviation"), strict=True):
        axis.axhline(0, color="#999999", lw=1)
        for seconds, look in times.items():
            here, there = (part[(part.seconds == seconds) & (part.statistic == statistic)] for part in (table, again))
            error = 100 * CHANCE * here.error / here.peer
            axis.errorbar(
                here.g,
                100 * here.deviation,
                yerr=error,
                fmt="o-",
                ms=4,
                lw=1.2,
                capsize=3,
                color=look.colour,
                label=look.label,
            )
            diamonds(axis, there.g, 100 * there.deviation)
        axis.set(title=title, xlabel="target conductance (µS)")
    axes[0].set_ylabel("ours over aihwkit's − 1 (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    labels = [f"{label} after programming" for label in labels]
    drawn.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    spread = 100 * np.abs(table[table.statistic == "std"].deviation).max()
    apart = "differ in spread as time goes on, although every law alone agrees"
    told = apart if spread > 2 else "agree, as every law does alone"
    caption(
        drawn,
        f"Programmed, drifted and read: whole devices {told}. Bars: ±{CHANCE:g} standard errors of the difference.",
    )
    return drawn


#: How the simulators look.
_SIMULATORS = {
    "ours": Look(COLOURS["blue"], "o", "ours"),
    "aihwkit": Look(COLOURS["vermillion"], "s", "aihwkit, its tiles"),
    "aihwkit devices": Look(COLOURS["orange"], "^", "aihwkit, its devices in pairs"),
    "CrossSim": Look(COLOURS["green"], "P", "CrossSim"),
}
_PANELS = {
    "phase change, no compensation": ("programmed", *(f"pcm none {seconds:g}" for seconds in through.SECONDS)),
    "phase change, one factor per layer": tuple(f"pcm global {seconds:g}" for seconds in through.SECONDS),
    "6-bit converters behind wires": tuple(f"wires {ohm:g}" for ohm in (0.0, *through.OHMS)),
}


def _named(case: str) -> str:
    """What an axis calls a case."""
    if case.startswith("pcm"):
        seconds = float(case.split()[-1])
        return duration(seconds - SECONDS[0] or seconds)
    return f"{case.split()[-1]} Ω" if case.startswith("wires") else "written"


def simulators(
    simulated: pd.DataFrame, differences: pd.DataFrame, *, rerun: Mapping[str, pd.DataFrame] | None = None
) -> Figure:
    """The same networks through several simulators: above accuracy, below what others' is above ours.

    ``rerun`` has this run's ``simulated`` and ``differences``, or one of them.
    """
    given = rerun or {}
    again, apart = (this_run(given.get("simulated"), simulated), this_run(given.get("differences"), differences))
    drawn, axes = figure(10.4, 5.6, columns=3, rows=2, sharex="col", gridspec_kw={"height_ratios": [1.5, 1.0]})
    key = ["simulator", "case", "seed", "accuracy"]
    shown, here = (
        pd.concat([own[key], other[key]], ignore_index=True)
        for own, other in ((simulated, differences), (again, apart))
    )
    names = order("simulator", shown, here, known=_SIMULATORS)
    styles = looks(names, _SIMULATORS)
    for (title, cases), (top, bottom) in zip(_PANELS.items(), axes.T, strict=True):
        bottom.axhspan(-SIMULATORS_ALIKE, SIMULATORS_ALIKE, color="#EEEEEE", lw=0)
        bottom.axhline(0, color="#999999", lw=1)
        for axis, table, run, column in ((top, shown, here, "accuracy"), (bottom, differences, apart, "difference")):
            for (place, name), (at, case) in itertools.product(enumerate(names), enumerate(cases)):
                x, look = at + 0.18 * (place - (len(names) - 1) / 2) - 0.04, styles[name]
                whole, part = (one[(one.simulator == name) & (one.case == case)] for one in (table, run))
                if len(whole):
                    value, low, high = interval(whole.groupby("seed")[column].mean())
                    bars = {"color": look.colour, "ms": 4.5, "capsize": 2, "lw": 1.2}
                    axis.errorbar(x, value, whiskers(value, low, high), fmt=look.mark, **bars)
                if len(part):
                    # Beside the mark, which it would hide.
                    diamonds(axis, x + 0.09, part.groupby("seed")[column].mean().mean())
        top.set_title(title, fontsize=9.5)
        bottom.set_xticks(range(len(cases)), [_named(case) for case in cases])
    for at, about in enumerate(("time since programming", "time since programming", "resistance of a wire segment")):
        axes[1, at].set_xlabel(about, fontsize=9)
    edge = 1.4 * max(SIMULATORS_ALIKE, *axes[1, 0].get_ylim(), *axes[1, 1].get_ylim())
    for at in (0, 1):
        axes[1, at].set_ylim(-edge, edge)
    axes[0, 0].sharey(axes[0, 1])
    axes[0, 0].autoscale()
    axes[1, 2].set_yscale("symlog", linthresh=2 * SIMULATORS_ALIKE)
    axes[1, 2].set_yticks([-10, -1, 0, 1, 10], ["−10", "−1", "0", "1", "10"])
    axes[0, 0].set_ylabel("accuracy (%)", fontsize=9)
    axes[1, 0].set_ylabel("theirs − ours\n(points)", fontsize=9)
    handles = [Line2D([], [], color=look.colour, marker=look.mark, ls="", label=look.label) for look in styles.values()]
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    caption(
        drawn,
        "The same networks, trained for hardware or not, through each simulator; bars are 95 % intervals over seeds, "
        f"below of the difference on the same networks. Inside the grey band (±{SIMULATORS_ALIKE:g} point) two "
        "simulators count as alike; behind wires the lower axis is logarithmic beyond two points.",
    )
    return drawn
