"""The figure of the page on a real CLIP. It draws a table and trains nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from paper.criteria import prompts as criteria
from paper.figures.prompts import spelt
from paper.figures.style import COLOURS, Look, caption, diamonds, fewer, figure, interval, looks, order, this_run
from paper.studies.real_clip import NAMES, NEW

CONDITIONS = {
    "1 shot": Look(COLOURS["sky"], "o", "1 shot"),
    "4 shots": Look(COLOURS["blue"], "o", "4 shots"),
    "16 shots": Look(COLOURS["black"], "o", "16 shots"),
    NEW: Look(COLOURS["vermillion"], "s", "base classes, 16 shots"),
}


def forest(points: pd.DataFrame, tasks: Sequence[str], *, rerun: pd.DataFrame | None = None) -> Figure:
    """Gated minus blind in points, a panel per data set, a row per learner and gate, a mark per condition; intervals
    over seeds, and the margin within which a gain is none as a band. ``tasks`` have a panel, known or not.
    """
    again = this_run(rerun, points)
    columns = ["learner", "gate"]
    tasks = list(dict.fromkeys([*tasks, *order("task", points, again)]))
    rows = list(dict.fromkeys(map(tuple, pd.concat([points, again])[columns].to_numpy())))
    conditions = order("recipe", points, again, known=CONDITIONS)
    styles = looks(conditions, CONDITIONS)
    places = np.linspace(-0.3, 0.3, len(conditions)) if len(conditions) > 1 else np.zeros(1)
    drawn, axes = figure(
        max(7.0, 1.2 + 1.9 * len(tasks)),
        2.2 + 0.5 * len(rows),
        columns=len(tasks),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    margin = criteria.NO_GAIN
    for axis, task in zip(axes[0], tasks, strict=True):
        axis.axvspan(-margin, margin, color=COLOURS["green"], alpha=0.15, lw=0)
        axis.axvline(0, color=COLOURS["black"], lw=0.7)
        axis.set_title(NAMES.get(task, spelt(task)))
        mine, here = (table[table["task"] == task] for table in (points, again))
        if mine["over_blind"].notna().sum() + here["over_blind"].notna().sum() == 0:
            axis.text(
                0.5,
                0.5,
                "not measured yet",
                transform=axis.transAxes,
                ha="center",
                va="center",
                color="#444444",
                bbox=dict(fc="white", ec="none", pad=1),
            )
        for row, (learner, gate) in enumerate(rows):
            for place, (condition, look) in zip(places, styles.items(), strict=True):
                key = [learner, gate, condition]
                mean, low, high = interval(_gain(mine, key))
                if np.isfinite(mean):
                    axis.plot([low, high], [row + place] * 2, color=look.colour, lw=1.3, alpha=0.7)
                    axis.plot(mean, row + place, look.mark, color=look.colour, ms=4.5, gid=condition)
                diamonds(axis, _gain(here, key).mean(), row + place)
    widest = max([2.0 * margin, *(abs(np.array(axes[0, 0].get_xlim())))])
    axes[0, 0].set(xlim=(-widest, widest), ylim=(max(len(rows), 1) - 0.4, -0.6))
    axes[0, 0].set_yticks(range(len(rows)), [f"{spelt(learner)}, {spelt(gate)}" for learner, gate in rows])
    drawn.supylabel("learner, gate", fontsize=10)
    for axis in axes[0]:
        axis.set_xlabel("gated − blind (points)", fontsize=8)
    handles: list = [
        Line2D([], [], color=one.colour, marker=one.mark, lw=1.3, label=one.label) for one in styles.values()
    ]
    handles.append(Patch(color=COLOURS["green"], alpha=0.15, label=f"no gain: within ±{margin:g} point"))
    drawn.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    caption(drawn, _told(points), fewer(again, points, "learner", "gate", "task"))
    return drawn


def _gain(points: pd.DataFrame, key: list[str]) -> pd.Series:
    """Gated minus blind of one learner, gate and condition, seed by seed."""
    return points.loc[(points[["learner", "gate", "recipe"]] == key).all(axis=1), "over_blind"]


def _told(points: pd.DataFrame) -> str:
    """How many gates gain, lose, or do neither, by their intervals."""
    keys = ["learner", "gate", "task", "recipe"]
    known = [interval(part["over_blind"]) for _, part in points.groupby(keys) if part["over_blind"].notna().any()]
    if not known:
        return "Nobody has measured this yet. Gates would gain nothing where their lines end within the band."
    low, high = np.array(known)[:, 1], np.array(known)[:, 2]
    margin = float(criteria.NO_GAIN)
    within, above, below = ((low > -margin) & (high < margin)).sum(), (low > margin).sum(), (high < -margin).sum()
    return (
        f"Of {len(known)} gates, each under one condition, {within} lie within the margin, {above} above it, {below}"
        " below it; the others are undecided. A gate and its blind twin have equally many parameters; lines: 95 % over"
        " seeds, paired."
    )
