"""Figures of what gates are worth: dependence against gain. They draw tables and train nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper.criteria import prompts as criteria
from paper.figures.prompts import spelt
from paper.figures.style import COLOURS, HALO, Look, caption, diamonds, fewer, figure, interval, looks, order, this_run
from paper.studies import roles
from paper.studies.worth import KEYS
from paper.words.numbers import listed
from paper.words.outcomes import ahead

RECIPES = {
    "short": Look(COLOURS["grey"], "o", "short recipe"),
    "control": Look(COLOURS["orange"], "o", "control's recipe"),
    "tuned": Look(COLOURS["blue"], "o", "tuned"),
    "many": Look(COLOURS["purple"], "o", "control's, many seeds"),
}
#: Beyond this many points the axes are logarithmic, so that what is small can be told from nothing.
LINEAR = 5
_PANELS = {"over_fixed": "gain over the learner without a gate", "over_blind": "gain over the blind twin"}


def _means(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Mean and interval over seeds of some columns for every gated learner: columns x, x_low, x_high and so on."""
    rows = []
    for key, part in table.groupby(KEYS, sort=False):
        row = dict(zip(KEYS, key, strict=True))
        for column in columns:
            row |= dict(zip((column, f"{column}_low", f"{column}_high"), interval(part[column]), strict=True))
        rows.append(row)
    return pd.DataFrame(rows, columns=[*KEYS, *(f"{c}{end}" for c in columns for end in ("", "_low", "_high"))])


def plane(
    points: pd.DataFrame, nulls: pd.DataFrame, verdicts: pd.DataFrame, *, rerun: pd.DataFrame | None = None
) -> Figure:
    """Dependence against gain: a dot for each learner, gate, task and recipe, with intervals over seeds on both axes.

    ``points`` and ``nulls`` as the study gives them; the planted control tasks are stars, blind gates crosses.
    ``rerun`` are this run's points.
    """
    again = this_run(rerun, points)
    drawn, axes = figure(8.6, 4.7, columns=2, sharex=True, sharey=True)
    styles = looks(order("recipe", points, again, known=RECIPES), RECIPES)
    depends, gains, harms = criteria.ADAPTIVE, criteria.GAINS, criteria.HARMS
    for axis, (column, label) in zip(axes, _PANELS.items(), strict=True):
        axis.set_xscale("symlog", linthresh=LINEAR)
        axis.set_yscale("symlog", linthresh=LINEAR)
        top = 120
        axis.fill_between([depends, top], gains, top, color=COLOURS["green"], alpha=0.10, lw=0)
        axis.fill_between([-top, top], -top, harms, color=COLOURS["vermillion"], alpha=0.07, lw=0)
        axis.axhline(0, color=COLOURS["black"], lw=0.7)
        axis.axvline(0, color=COLOURS["black"], lw=0.7)
        own = _means(points, ["over_mean", column])
        for _, row in own.iterrows():
            look, planted = styles[row["recipe"]], row["task"] in roles.GRADED
            x, y = row["over_mean"], row[column]
            # What has the most seeds says the most.
            wide, over = (1.6, 5) if row["recipe"] == "many" else (0.7, 3)
            lines = {"color": look.colour, "lw": wide, "alpha": 0.45 * min(wide, 1.5), "zorder": over - 1}
            axis.plot([row["over_mean_low"], row["over_mean_high"]], [y, y], **lines)
            axis.plot([x, x], [row[f"{column}_low"], row[f"{column}_high"]], **lines)
            axis.plot(x, y, "*" if planted else "o", color=look.colour, mec="white", mew=0.5, zorder=over,
                      ms=11 if planted else 4 + 1.7 * wide)  # fmt: skip
        if column in nulls and len(nulls):
            blind = _means(nulls, ["over_mean", column])
            axis.plot(blind["over_mean"], blind[column], "x", color=COLOURS["black"], ms=4, mew=0.9, alpha=0.7)
        there = _means(again, ["over_mean", column]) if len(again) else again
        if len(there):
            diamonds(axis, there["over_mean"], there[column])
        axis.set(xlabel="dependence: points lost when the gate is held still", ylabel=f"{label} (points)")
        ticks = [-30, -10, -5, -2, 0, 2, 5, 10, 30]
        for side in (axis.xaxis, axis.yaxis):
            side.set_ticks(ticks, [f"{tick}".replace("-", "−") for tick in ticks])
            side.set_minor_locator(_none())
        axis.set_xlim(-12, 110)
        axis.set_ylim(-40, 115)
        for text, x, y in (("useful", 100, 100), ("harmful", 100, -32), ("idle", -10, 100), ("co-adapted", 100, 0.12)):
            right = text != "idle"
            axis.annotate(text, (x, y), fontsize=8, color="#444444", style="italic", ha="right" if right else "left",
                          va="bottom" if text == "co-adapted" else "top" if y > 0 else "bottom", zorder=6,
                          path_effects=HALO)  # fmt: skip
    axes[1].set_ylabel("gain over the blind twin (points)")
    handles = [Line2D([], [], color=look.colour, marker="o", lw=0, label=look.label) for look in styles.values()]
    handles += [
        Line2D([], [], color="#444444", marker="*", ms=10, lw=0, label="planted: the picture matters"),
        Line2D([], [], color=COLOURS["black"], marker="x", lw=0, label="null: blind gate"),
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=6, frameon=False, fontsize=8, columnspacing=1)
    caption(drawn, f"{_told(verdicts)} Lines: 95 % over seeds.", fewer(again, points, "learner", "gate", "task"))
    return drawn


def _none() -> object:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _told(verdicts: pd.DataFrame) -> str:
    """How many gates are what, on ordinary tasks and on planted ones."""
    said = []
    planted = verdicts["task"].isin(roles.GRADED)
    for words, part in (("ordinary tasks", verdicts[~planted]), ("planted ones", verdicts[planted])):
        counts = part["verdict"].value_counts()
        shown = listed(f"{count} {'is' if count == 1 else 'are'} {name}" for name, count in counts.items())
        if len(part):
            said.append(f"of {len(part)} gates on {words} {shown}")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}."


def forest(many: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Dependence (left) and gain (right) of one gate with many seeds: a row for each task and one for the mean over
    ordinary tasks, lines the intervals over seeds, and the margin within which a gain is none as a band.
    """
    again = this_run(rerun, many)
    names = order("task", many, again)
    drawn, axes = figure(8.6, 1.8 + 0.5 * len(names), columns=2, sharey=True)
    sides = (
        (axes[0], {"over_mean": "over itself at its mean", "over_shuffled": "over itself shuffled"}),
        (axes[1], {"over_fixed": "over the learner without a gate", "over_blind": "over its blind twin"}),
    )
    margin = criteria.NO_GAIN
    axes[1].axvspan(-margin, margin, color=COLOURS["green"], alpha=0.15, lw=0, label=f"no gain: within ±{margin:g}")
    for axis, columns in sides:
        axis.axvline(0, color=COLOURS["black"], lw=0.7)
        for (shift, colour), (column, label) in zip(((-0.13, "blue"), (0.13, "orange")), columns.items(), strict=True):
            axis.plot([], [], "o", color=COLOURS[colour], ms=5, label=label)
            for row, task in enumerate([*names, None]):
                mean, low, high = interval(_by_seed(many, task, column))
                if np.isfinite(mean):
                    axis.plot([low, high], [row + shift] * 2, color=COLOURS[colour], lw=1.6, alpha=0.7)
                    axis.plot(mean, row + shift, "o", color=COLOURS[colour], ms=5)
                # A mean over fewer tasks is no other measurement of the one over all of them.
                if task is not None or set(again["task"]) >= set(many["task"]):
                    diamonds(axis, _by_seed(again, task, column).mean(), row + shift)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1, frameon=False, fontsize=7)
    axes[0].set_yticks(range(len(names) + 1), [*map(spelt, names), "ordinary tasks together"])
    axes[0].set(ylim=(len(names) + 0.6, -0.6), xlabel="dependence (points)", ylabel="task")
    axes[1].set(xlabel="gain (points)")
    seeds = int(many["seed"].nunique()) if len(many) else 0
    means = {words.removeprefix("over "): _by_seed(many, None, name).mean() for name, words in sides[1][1].items()}
    told = " and ".join(f"{ahead(mean)} {words}" for words, mean in means.items() if np.isfinite(mean))
    text = f" the gate is, in the mean over tasks, {told}" if told else ""
    caption(drawn, f"With {seeds} seeds{text}. Lines: 95 % over seeds.")
    return drawn


def _by_seed(many: pd.DataFrame, task: str | None, column: str) -> pd.Series:
    """The differences on a task, seed by seed; without one their mean over the ordinary tasks."""
    chosen = ~many["task"].isin(roles.GRADED) if task is None else many["task"] == task
    return many[chosen].groupby("seed")[column].mean()


def by_recipe(accuracy: pd.DataFrame, zero: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Accuracy without a gate, with a blind gate and with a gate, by recipe; a column of panels per task, a row per
    learner, zero-shot as a line. What ends below the hand-written sentence is crossed out.
    """
    again = this_run(rerun, accuracy)
    names, learners = order("task", accuracy, again), order("learner", accuracy, again)
    recipes = order("recipe", accuracy, again, known=RECIPES)
    shown = {"fixed": ("grey", "no gate"), "blind": ("purple", "blind gate"), "gated": ("blue", "gate as trained")}
    size = (max(6.4, 1.75 * len(names)), 1.4 + 1.6 * len(learners))
    drawn, axes = figure(*size, rows=len(learners), columns=len(names), sharex=True, sharey=True, squeeze=False)
    below = 0

    def own(table: pd.DataFrame, **given: str) -> pd.Series:
        rows = table[(table[list(given)] == pd.Series(given)).all(axis=1)]
        return rows.groupby("seed")["accuracy"].mean()

    for (row, learner), (column, task) in itertools.product(enumerate(learners), enumerate(names)):
        axis, level = axes[row, column], zero[zero["task"] == task]["accuracy"].mean()
        axis.axhline(level, color=COLOURS["vermillion"], ls="--", lw=1.2)
        for place, recipe in enumerate(recipes):
            for shift, (variant, (colour, _)) in zip((-0.22, 0, 0.22), shown.items(), strict=True):
                given = {"learner": learner, "task": task, "recipe": recipe, "variant": variant}
                mean, low, high = interval(own(accuracy, **given))
                if np.isfinite(mean):
                    under = bool(mean < level)
                    below += under
                    axis.plot([place + shift] * 2, [low, high], color=COLOURS[colour], lw=1.6, alpha=0.6)
                    axis.plot(place + shift, mean, "X" if under else "o", color=COLOURS[colour], ms=5 + under)
                diamonds(axis, place + shift, own(again, **given).mean() if len(again) else np.nan)
        axis.set_xticks(range(len(recipes)), [spelt(name) for name in recipes], fontsize=8)
        axis.set(xlim=(-0.5, len(recipes) - 0.5), ylim=(0, 102))
        if not row:
            axis.set_title(spelt(task))
        if not column:
            axis.set_ylabel(spelt(learner))
    drawn.supylabel("test accuracy (%)", fontsize=10)
    handles = [Line2D([], [], color=COLOURS[colour], marker="o", lw=0, label=label) for colour, label in shown.values()]
    handles.append(Line2D([], [], color=COLOURS["vermillion"], ls="--", lw=1.2, label="the hand-written sentence"))
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    caption(
        drawn,
        f"{below} of these means end below the hand-written sentence (crosses). Means over gates; lines: 95 % over"
        " seeds.",
        fewer(again, accuracy, "learner", "gate", "task"),
    )
    return drawn
