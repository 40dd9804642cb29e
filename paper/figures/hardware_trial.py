"""Figures of the fair trial of the separation. They draw tables and train nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from paper import trial
from paper.criteria.hardware import COMPENSATED, TELLS
from paper.families import FAMILIES
from paper.figures.style import COLOURS, Look, caption, diamonds, figure, order, this_run, whiskers
from paper.studies.hardware_trial import POOLED, SELECTED, VERDICTS, named

#: The backward rules under trial, and what they are held against.
ARMS = {
    "autograd": Look(COLOURS["blue"], "o", "vanilla"),
    "detached": Look(COLOURS["sky"], "v", "vanilla, detached"),
    "noise_injection": Look(COLOURS["purple"], "P", "noise injection"),
    "straight_through": Look(COLOURS["orange"], "^", "straight-through"),
}
#: The verdicts' edges, colour and line: what wins, what does not, what has nothing to say; those of no side are grey.
EDGES = {
    "compensated": (COLOURS["green"], "-"),
    "gradient fails": (COLOURS["vermillion"], "-"),
    "needs the chip": (COLOURS["vermillion"], ":"),
    "nothing to win": (COLOURS["black"], "-"),
    "not converged": (COLOURS["black"], ":"),
    "inconclusive": (COLOURS["grey"], "-"),
}
#: What is written in a field that has no side.
_SHORT = {"slight": "slight", "needs no gradient": "free", "no gradient": "none"}
_LEVELS = (*(f"{100 * level:g} %" for level in trial.LEVELS), trial.PUBLISHED)


def title(family: str) -> str:
    """What a family is called."""
    return FAMILIES[family].title if family in FAMILIES else family.replace("_", " ")


def _first(table: pd.DataFrame, network: str | None) -> pd.DataFrame:
    return table if network is None else table[table.network == network]


def phases(cases: pd.DataFrame, *, network: str | None = None, rerun: pd.DataFrame | None = None) -> Figure:
    """Families over damage, a panel for each backward rule: how much of what is attainable came back, with the verdict
    as the edge.
    """
    own, again = _first(cases, network), _first(this_run(rerun, cases), network)
    families, levels = order("family", own, again, known=FAMILIES), order("level", own, again, known=_LEVELS)
    rules = [rule for rule in ARMS if rule in set(own.arm) | set(again.arm)]
    drawn, axes = figure(
        9.6, 0.31 * len(families) + 2.0, columns=max(len(rules), 1), squeeze=False, sharey=True, sharex=True
    )
    picture = None
    for axis, rule in zip(axes[0], rules, strict=False):
        here = own[own.arm == rule]
        shown = np.full((len(families), len(levels)), np.nan)
        for one in here.itertuples():
            x, y = levels.index(one.level), families.index(one.family)
            sided = one.verdict not in _SHORT
            shown[y, x] = one.of_ceiling if sided else np.nan
            text = f"{one.of_ceiling:.2f}".replace("-", "−") if sided and one.of_ceiling == one.of_ceiling else "–"
            light = not sided or one.of_ceiling > 0.45 or one.of_ceiling != one.of_ceiling
            colour = "black" if light else "white"
            axis.text(
                x, y, text if sided else _SHORT[one.verdict], ha="center", va="center", fontsize=6.5, color=colour
            )
            if one.verdict in EDGES:
                colour, line = EDGES[one.verdict]
                # On white, so that it is seen on every field.
                for ink, style, wide in (("white", "-", 3.2), (colour, line, 1.9)):
                    box = Rectangle((x - 0.44, y - 0.42), 0.88, 0.84, fill=False, ec=ink, ls=style, lw=wide, zorder=4)
                    axis.add_patch(box)
        picture = axis.imshow(shown.clip(0, 1), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        points = again[(again.arm == rule) & ~again.verdict.isin(_SHORT) & again.of_ceiling.notna()]
        diamonds(
            axis,
            [levels.index(level) + 0.34 for level in points.level],
            [families.index(family) for family in points.family],
            picture.to_rgba(points.of_ceiling.clip(0, 1).to_numpy()),
        )
        axis.set_title(ARMS[rule].label, fontsize=9.5)
        axis.set_xticks(range(len(levels)), ["publ." if level == trial.PUBLISHED else level for level in levels])
        axis.tick_params(axis="x", labelsize=7.5)
        axis.set_yticks(range(len(families)), [title(name) for name in families], fontsize=8)
        axis.grid(False)
    if picture is not None:
        drawn.colorbar(picture, ax=axes, shrink=0.6, label="share attained", aspect=30)
    known = [name for name in VERDICTS if name in set(own.verdict) and name in EDGES]
    edges = {name: EDGES[name] for name in known}
    handles = [Patch(fill=False, ec=colour, ls=line, lw=1.8, label=name) for name, (colour, line) in edges.items()]
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles) or 1, frameon=False, fontsize=8)
    caption(
        drawn,
        "Families over damage: severities at which networks of other seeds lose 10, 30, 60 and 85 % of what can be "
        "lost, and the harshest that is published. In every field, the share of what is attainable that training wins "
        "back; the edge is the verdict over seeds, beyond what needs no gradient. Slight: the loss is under five "
        "points; free: a measure without a gradient leaves less than a point; none: there is no gradient, and nothing "
        "moves.",
    )
    return drawn


def forest(areas: pd.DataFrame, *, place: str = "start", rerun: pd.DataFrame | None = None) -> Figure:
    """Areas under the ROC curve of readings at one place and of trivial predictors, a panel for each backward rule."""
    own, again = areas[areas.scope == "all"], this_run(rerun, areas)
    own = own[(own.place == place) | (own.place == "")]
    again = again[(again.scope == "all") & ((again.place == place) | (again.place == ""))] if len(again) else again
    names = order("predictor", own, again)
    rules = [rule for rule in (*ARMS, POOLED) if rule in set(own.rule) | set(again.rule)]
    drawn, axes = figure(
        9.6, 0.27 * len(names) + 1.9, columns=max(len(rules), 1), squeeze=False, sharey=True, sharex=True
    )
    places = np.arange(len(names))
    trivial = set(own[own.trivial.astype(bool)].predictor) if len(own) else set()
    for axis, rule in zip(axes[0], rules, strict=False):
        rows = own[own.rule == rule].drop_duplicates("predictor").set_index("predictor").reindex(names)
        points = again[again.rule == rule].drop_duplicates("predictor").set_index("predictor").reindex(names)
        for kind, colour in ((False, "blue"), (True, "orange")):
            at = np.array([i for i, name in enumerate(names) if (name in trivial) == kind], dtype=int)
            part = rows.iloc[at]
            axis.errorbar(
                part.area,
                at,
                xerr=whiskers(part.area, part.low, part.high),
                fmt="s" if kind else "o",
                color=COLOURS[colour],
                ms=4.5,
                capsize=2.5,
                lw=1.2,
            )
        diamonds(axis, points.area, places)
        axis.axvline(0.5, color="#BBBBBB", ls="--", lw=1)
        axis.axvline(float(TELLS), color=COLOURS["green"], ls=":", lw=1)
        axis.set_title(ARMS[rule].label if rule in ARMS else rule, fontsize=8.5)
        axis.set_xlim(-0.06, 1.06)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=8)
        axis.set_yticks(places, [named(name) for name in names], fontsize=8)
    axes[0, 0].invert_yaxis()
    handles = [
        Line2D([], [], color=COLOURS["blue"], marker="o", lw=1.2, label="reading of the gradient"),
        Line2D([], [], color=COLOURS["orange"], marker="s", lw=1.2, label="known without any gradient"),
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    caption(
        drawn,
        'Area under the ROC curve for "training compensates", each backward rule by itself; intervals when families '
        f"are drawn again. Dashed: a coin; dotted: {TELLS:g}. {named(SELECTED).capitalize()} is judged on the "
        "family that was left out.",
    )
    return drawn


def curves(
    runs: pd.DataFrame, *, network: str | None = None, level: str = "30 %", rerun: pd.DataFrame | None = None
) -> Figure:
    """Learning curves: the mean training loss on fresh chips over each eighth of the steps, a panel for each family."""
    own, again = _first(runs, network), _first(this_run(rerun, runs), network)
    families = order("family", own, again, known=FAMILIES)
    columns = min(6, max(len(families), 1))
    lines = -(-len(families) // columns)
    drawn, axes = figure(
        9.6, 1.35 * lines + 1.3, columns=columns, rows=max(lines, 1), squeeze=False, sharex=True, sharey=True
    )
    steps = (np.arange(trial.LOOKS) + 0.5) / trial.LOOKS
    names = [f"look_{i}" for i in range(trial.LOOKS)]
    for axis in axes.ravel()[len(families) :]:
        axis.set_visible(False)
    for axis, family in zip(axes.ravel(), families, strict=False):
        at = _level(own[own.family == family], level)
        for arm, look in ARMS.items():
            part = own[(own.family == family) & (own.level == at) & (own.arm == arm)]
            if len(part):
                axis.plot(steps, part[names].mean(), color=look.colour, lw=1.5, label=look.label)
                axis.fill_between(steps, part[names].min(), part[names].max(), color=look.colour, alpha=0.15, lw=0)
            points = again[(again.family == family) & (again.level == at) & (again.arm == arm)]
            if len(points):
                diamonds(axis, steps[[-1]], points[names[-1:]].mean())
        axis.set_title(title(family).replace(", ", ",\n"), fontsize=7)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.tick_params(labelsize=7)
    handles = [Line2D([], [], color=look.colour, label=look.label) for look in _there(own, again).values()]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    drawn.supylabel("training loss", fontsize=9)
    caption(
        drawn,
        "Learning curves over the share of the steps done, from the converged network: the loss on chips that are new "
        "in every step, mean over an eighth of the steps; bands: all seeds. The level is that at which networks of "
        f"other seeds lose {level}, or the mildest there is.",
    )
    return drawn


def _there(*tables: pd.DataFrame) -> dict[str, Look]:
    """The looks of the arms that any of the tables has."""
    found = {arm for table in tables for arm in table.arm}
    return {arm: look for arm, look in ARMS.items() if arm in found}


def _level(part: pd.DataFrame, wanted: str) -> str:
    """The level that is wanted, or else the mildest there is."""
    there = list(part.level)
    return wanted if wanted in there else (there[0] if there else wanted)


def beyond(
    cases: pd.DataFrame,
    *,
    network: str | None = None,
    levels: Sequence[str] = _LEVELS[:-1],
    rerun: pd.DataFrame | None = None,
) -> Figure:
    """What comes back without a gradient, with one, and what could: a row for each family, a panel for each level."""
    own, again = _first(cases, network), _first(this_run(rerun, cases), network)
    families = order("family", own, again, known=FAMILIES)
    drawn, axes = figure(11.0, 0.3 * len(families) + 2.0, columns=len(levels), sharey=True, sharex=True)
    for axis, level in zip(np.atleast_1d(axes), levels, strict=True):
        here = own[(own.level == level) & (own.verdict != "slight")]
        for y, family in enumerate(families):
            part = here[here.family == family]
            if not len(part):
                continue
            one = part.iloc[0]
            axis.barh(y, one.free_part, height=0.62, color="#D0D0D0", lw=0, zorder=1)
            axis.plot([one.ceiling_recovery] * 2, [y - 0.36, y + 0.36], color=COLOURS["black"], lw=2, zorder=3)
            if one.known == one.known:
                axis.plot(one.known, y, marker="*", color=COLOURS["black"], mfc="white", ms=7, lw=0, zorder=3)
            for shift, (arm, look) in zip((-0.24, -0.08, 0.08, 0.24), ARMS.items(), strict=True):
                row = part[part.arm == arm]
                if len(row):
                    value = row.iloc[0]
                    axis.errorbar(
                        value.recovery,
                        y + shift,
                        xerr=whiskers(value.recovery, value.recovery_low, value.recovery_high),
                        fmt=look.mark,
                        color=look.colour,
                        ms=4,
                        lw=1,
                        zorder=4,
                    )
        for shift, arm in zip((-0.24, -0.08, 0.08, 0.24), ARMS, strict=True):
            points = again[(again.level == level) & (again.arm == arm) & (again.verdict != "slight")]
            diamonds(axis, points.recovery, [families.index(name) + shift for name in points.family])
        axis.axvline(float(COMPENSATED), color="#888888", ls=":", lw=1)
        axis.set(xlim=(-0.35, 1.1), title=f"{level} lost", xlabel="recovery")
        axis.set_yticks(range(len(families)), [title(name) for name in families], fontsize=8)
    np.atleast_1d(axes)[0].invert_yaxis()
    known = _there(own, again).values()
    handles: list[Artist] = [
        *(Line2D([], [], color=one.colour, marker=one.mark, lw=0, label=one.label) for one in known),
        Patch(facecolor="#D0D0D0", label="without a gradient"),
        Line2D([], [], color=COLOURS["black"], lw=2, label="attainable on any chip"),
        Line2D([], [], color=COLOURS["black"], mfc="white", marker="*", lw=0, ms=7, label="chip known"),
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    caption(
        drawn,
        "Recovery by training beside what needs no gradient (the best clipping, chosen on validation pictures) and "
        "what is attainable. Rows that are missing do not reach that level, or cost less than five points at it.",
    )
    return drawn
