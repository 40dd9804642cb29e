"""Figures of the page on other simulators: sampled moments on published curves, and what is left between them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper.criteria.hardware import CHANCE
from paper.figures.style import COLOURS, caption, figure
from paper.studies.peers import LAWS, SECONDS, curve

_TIMES = dict(zip(SECONDS, (("20 s", "blue"), ("1 h", "green"), ("1 d", "purple")), strict=True))


def _law(axis: Axes, law: str, statistics: pd.DataFrame, peers: pd.DataFrame) -> None:
    """Published curves of one law, our samples with their errors, and aihwkit's; drift exponents as mean and spread."""
    own = statistics[statistics.law == law]
    both = ("mean", "std") if law == "drift" else ("std",)
    for seconds in sorted(own.seconds.unique()):
        line, relative = curve(law, seconds), law == "read"
        words, colour = _TIMES.get(seconds, ("", "blue"))
        for statistic in both:
            colour = {"mean": "blue", "std": "green"}[statistic] if law == "drift" else colour
            axis.plot(line.g, line[statistic] / (line.g if relative else 1), color=COLOURS[colour], lw=1.4)
            here = own[(own.seconds == seconds) & (own.statistic == statistic)]
            unit = here.g if relative else 1
            axis.errorbar(
                here.g,
                here.sampled / unit,
                yerr=CHANCE * here.error / unit,
                fmt="o",
                ms=4,
                capsize=2,
                color=COLOURS[colour],
            )
            there = peers[(peers.law == law) & (peers.seconds == seconds) & (peers.statistic == statistic)]
            axis.plot(there.g, there.peer / (there.g if relative else 1), "x", color=COLOURS["vermillion"], ms=7)
            if law == "drift":
                at = line.iloc[len(line) // 3]
                axis.annotate(statistic, (at.g, at[statistic]), xytext=(3, 5), textcoords="offset points", fontsize=8)
        if relative:
            axis.plot([], [], color=COLOURS[colour], lw=1.4, label=words)
            axis.legend(frameon=False, fontsize=8, loc="upper right")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_title(LAWS[law], fontsize=9.5)
    labels = {"drift": "exponent", "read": "std / conductance"}
    axis.set_ylabel(labels.get(law, "std (µS)"), fontsize=9)


def moments(statistics: pd.DataFrame, peers: pd.DataFrame) -> Figure:
    """Above: laws and samples. Below: how far the samples lie off, in standard errors."""
    drawn, axes = figure(10.4, 5.4, columns=4, rows=2, sharex="col", gridspec_kw={"height_ratios": [1.7, 1.0]})
    for column, law in enumerate(LAWS):
        top, bottom = axes[:, column]
        _law(top, law, statistics, peers)
        bottom.axhspan(-CHANCE, CHANCE, color="#EEEEEE", lw=0)
        for table, colour, mark, shift in ((statistics, "blue", "o", 0.95), (peers, "vermillion", "x", 1.05)):
            here = table[table.law == law]
            bottom.plot(here.g * shift, here.z, mark, color=COLOURS[colour], ms=4)
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


def chips(peers: pd.DataFrame) -> Figure:
    """Whole phase-change chips: by how much our mean and spread differ from aihwkit's."""
    drawn, axes = figure(8.4, 3.4, columns=2, sharey=True)
    table = peers[peers.law == "chip"]
    for axis, statistic, title in zip(axes, ("mean", "std"), ("mean", "standard deviation"), strict=True):
        axis.axhline(0, color="#999999", lw=1)
        for seconds, (words, colour) in _TIMES.items():
            here = table[(table.seconds == seconds) & (table.statistic == statistic)]
            error = 100 * CHANCE * here.error / here.peer
            axis.errorbar(
                here.g,
                100 * here.deviation,
                yerr=error,
                fmt="o-",
                ms=4,
                lw=1.2,
                capsize=3,
                color=COLOURS[colour],
                label=words,
            )
        axis.set(title=title, xlabel="target conductance (µS)")
    axes[0].set_ylabel("ours over aihwkit's − 1 (%)")
    axes[0].legend(frameon=False, fontsize=8, loc="upper right", title="after programming", title_fontsize=8)
    spread = 100 * np.abs(table[table.statistic == "std"].deviation).max()
    apart = "differ in spread as time goes on, although every law alone agrees"
    told = apart if spread > 2 else "agree, as every law does alone"
    caption(
        drawn,
        f"Programmed, drifted and read: whole devices {told}. Bars: ±{CHANCE:g} standard errors of the difference.",
    )
    return drawn
