"""Figures of the page that asks who could have known. They draw tables and train nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper.figures.style import COLOURS, Look, caption, figure, nothing
from paper.studies.foresight import GATES, HARDWARE, KNOWN, MEASURED, TIMES, named

PARTS = {GATES: Look(COLOURS["blue"], "o", "gates"), HARDWARE: Look(COLOURS["vermillion"], "s", "hardware")}
_PREDICTORS = {
    MEASURED: Look(COLOURS["blue"], "o", "all measurements"),
    KNOWN: Look(COLOURS["grey"], "s", "all that is known without a gradient"),
}


def _empty(what: str) -> Figure:
    return nothing(f"There is no evidence of {what} yet.")


def plane(cells: pd.DataFrame, lens: pd.DataFrame) -> Figure:
    """Every training of both parts in one plane: share of signal against size; full where training wins."""
    before = cells[cells["when"] == "before"]
    if not len(before):
        return _empty("trainings")
    # A mark a training, not a seed.
    keys = ["part", "backbone", "training"]
    own = before.groupby(keys, as_index=False, sort=False)[["signal", "size", "label"]].mean()
    drawn, axes = figure(8.8, 4.4, columns=2, sharex=True)
    for axis, (part, look) in zip(axes, PARTS.items(), strict=True):
        rows = own[own["part"] == part]
        for wins in (False, True):
            kept = rows[(rows["label"] > 0.5) == wins]
            face = look.colour if wins else "none"
            axis.scatter(
                kept["signal"], kept["size"], marker=look.mark, s=34, facecolor=face, edgecolor=look.colour, lw=1
            )
        axis.axhline(0, color=COLOURS["black"], lw=0.8, ls=":")
        axis.set(xlabel="share of signal in one gradient", xlim=(-0.03, 1.03))
        axis.set_title(look.label, fontsize=11)
    axes[0].set_ylabel("gate's gradient / prompts' (decades)")
    axes[1].set_ylabel("gradient on chip / off chip (decades)")
    handles = [
        Line2D([], [], marker="o", ls="", color="#444444", label="training wins"),
        Line2D([], [], marker="o", ls="", color="#444444", markerfacecolor="none", label="it does not"),
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    told = "One plane, two worlds."
    across = lens[lens["score"] == "across"].set_index("tested") if len(lens) else lens
    if len(across) == len(PARTS):
        said = [
            f"{across.loc[part, 'area']:.2f} [{across.loc[part, 'area_low']:.2f}, {across.loc[part, 'area_high']:.2f}]"
            for part in PARTS
        ]
        told = (
            f"A rule for this plane that was learned in the other part has an area under the ROC curve of {said[0]} "
            f"among gates and of {said[1]} among hardware (a coin: 0.5)."
        )
    caption(drawn, f"{told} A mark is a training, in the mean over its seeds; full where most of them win.")
    return drawn


def areas(table: pd.DataFrame, tells: float) -> Figure:
    """Area under the ROC curve of every predictor, a panel for each part; what needs no gradient stands below."""
    if not len(table):
        return _empty("predictors")
    parts = [part for part in PARTS if part in set(table["part"])]
    counts = [table[table["part"] == part]["predictor"].nunique() for part in parts]
    drawn, axes = figure(8.8, 1.9 + 0.3 * max(counts), columns=len(parts), squeeze=False)
    best = []
    for axis, part in zip(axes[0], parts, strict=True):
        own = table[table["part"] == part]
        trivial = own.groupby("predictor", sort=False)["trivial"].first()
        names = [*trivial[~trivial].index, *trivial[trivial].index]
        for shift, (when, colour) in zip((-0.17, 0.17), (("before", "sky"), ("early", "orange")), strict=True):
            rows = own[own["when"] == when].set_index("predictor").reindex(names)
            places = np.arange(len(names)) + shift
            axis.hlines(places, rows["area_low"], rows["area_high"], color=COLOURS[colour], lw=2)
            axis.plot(rows["area"], places, "o" if when == "before" else "s", color=COLOURS[colour], ms=5)
        axis.axhspan((~trivial).sum() - 0.5, len(names) - 0.5, color="#EFEFEF", zorder=0)
        axis.axvline(0.5, color=COLOURS["black"], lw=0.8, ls=":")
        axis.axvline(tells, color=COLOURS["vermillion"], lw=1.1, ls="--")
        axis.set_yticks(range(len(names)), [named(part, name) for name in names], fontsize=8)
        axis.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 1.02))
        axis.set_title(PARTS[part].label, fontsize=11)
        first = own[own["when"] == "before"]
        tops = [first[first["trivial"] == one].nlargest(1, "area") for one in (False, True)]
        if all(len(top) for top in tops):
            words = [f"{named(part, top['predictor'].iloc[0])} ({top['area'].iloc[0]:.2f})" for top in tops]
            best.append(f"{part}: {words[0]}, against {words[1]} without any")
    # Once for both panels, which are narrower than it.
    drawn.supxlabel("area under the ROC curve", fontsize=10)
    handles = [
        Line2D([], [], color=COLOURS[colour], marker=mark, ls="", label=TIMES[when])
        for when, colour, mark in (("before", "sky", "o"), ("early", "orange", "s"))
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    caption(
        drawn,
        f"The best of the measurements before the first step. {'; '.join(best).capitalize()}. Grey ground: known "
        f"without a gradient. Dotted: a coin; dashed: {tells:g}. Lines: 95 % when trainings (gates) or families "
        "(hardware) are drawn again.",
    )
    return drawn


def left_out(table: pd.DataFrame, tells: float) -> Figure:
    """Regressions tried on what was left out: with all measurements, and with what is known without a gradient."""
    if not len(table):
        return _empty("groups that could be left out")
    rows = table[["part", "when", "held"]].drop_duplicates().reset_index(drop=True)
    drawn, axis = figure(7.4, 1.6 + 0.42 * len(rows))
    ahead = 0
    for place, row in rows.iterrows():
        own = table[(table[["part", "when", "held"]] == row).all(axis=1)].set_index("predictor")
        for shift, (name, look) in zip((-0.15, 0.15), _PREDICTORS.items(), strict=True):
            one = own.loc[name]
            axis.hlines(place + shift, one["area_low"], one["area_high"], color=look.colour, lw=2)
            axis.plot(one["area"], place + shift, look.mark, color=look.colour, ms=6)
        ahead += own.loc[MEASURED, "over_known_low"] > 0
    axis.axvline(0.5, color=COLOURS["black"], lw=0.8, ls=":")
    axis.axvline(tells, color=COLOURS["vermillion"], lw=1.1, ls="--")
    labels = [f"{row['part']}, {TIMES[row['when']]}: a {row['held']} left out" for row in rows.to_dict("records")]
    axis.set_yticks(range(len(rows)), labels)
    axis.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.02), xlabel="area under the ROC curve, of what was not fitted")
    handles = [
        Line2D([], [], color=one.colour, marker=one.mark, ls="", label=one.label) for one in _PREDICTORS.values()
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    caption(
        drawn,
        f"In {ahead} of {len(rows)} cases the measurements are ahead of what is known without a gradient, by the whole "
        f"interval of their difference (uncorrected). Dotted: a coin; dashed: {tells:g}.",
    )
    return drawn


def calibration(table: pd.DataFrame) -> Figure:
    """The chance that was said against the share that won, for what was left out."""
    own = table[table["predictor"] == MEASURED] if len(table) else table
    if not len(own):
        return _empty("chances")
    drawn, axes = figure(8.2, 4.4, columns=2, sharex=True, sharey=True)
    apart = []
    for axis, part in zip(axes, PARTS, strict=True):
        kept = own[own["part"] == part]
        colours = [COLOURS[name] for name in ("blue", "vermillion", "green", "purple")]
        for (held, rows), colour, mark in zip(kept.groupby("held", sort=False), colours, "os^P", strict=False):
            for when, line in rows.groupby("when", sort=False):
                style = "-" if when == "before" else "--"
                axis.plot(
                    line["chance"],
                    line["share"],
                    style,
                    marker=mark,
                    color=colour,
                    ms=5,
                    lw=1.2,
                    label=f"{held}, {when}",
                )
        axis.plot([0, 1], [0, 1], color=COLOURS["black"], lw=0.8, ls=":")
        axis.set(xlabel="chance that was said", xlim=(0, 1), ylim=(0, 1))
        axis.set_title(PARTS[part].label, fontsize=11)
        if len(kept):
            axis.legend(fontsize=7, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
            off = np.average((kept["chance"] - kept["share"]).abs(), weights=kept["rows"])
            apart.append(f"{100 * off:.0f} points among {PARTS[part].label}")
    axes[0].set_ylabel("share that won")
    caption(
        drawn,
        f"Chance and share lie {' and '.join(apart)} apart in the mean. Winners and losers of a stratum weigh alike. A "
        "line for each thing that was left out; the dotted one is where a chance means what it says.",
    )
    return drawn
