"""Figures of the page that sets photographs beside the drawn world. They draw tables and train nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from lib.prompts.diagnosis import FACTORS
from lib.verdicts import MARKS, Outcome
from paper.criteria import prompts as criteria
from paper.figures.prompts import TOTAL, spelt
from paper.figures.style import COLOURS, HALO, Look, caption, figure, interval, nothing, order, whiskers

LOOKS = {
    "drawn": Look(COLOURS["blue"], "o", "drawn world (MiniCLIP)"),
    "photographs": Look(COLOURS["vermillion"], "s", "photographs (PhotoCLIP)"),
}
FACTOR_LABELS = {
    "coherence": "pictures add up (prompts)",
    "opening": "gate lets through",
    "prompt_norm": "1 / prompt length",
    "alignment": "1 / cosine of gradient and prompt",
    "slope": "1 / sigmoid slope",
    "network": "1 / MLP Jacobian",
    "gate_coherence": "pictures add up (gate)",
}
_TRAINING = {
    "SGD": "SGD",
    "SGD with Adam for the gate": "SGD, Adam for the gate",
    "Adam with SGD for the gate": "Adam, SGD for the gate",
    "Adam": "Adam",
    "SGD with gate rate x 100": "SGD, gate rate x 100",
}
#: Beyond this many points the axes of the plane are logarithmic.
LINEAR = 5


def _empty(what: str) -> Figure:
    """A figure that says that there is nothing to draw."""
    return nothing(f"There is no evidence of {what} yet, in either world.")


def _sides(table: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, Look]]:
    """The rows of each world that has some, with its look."""
    parts = {side: (table[table["backbone"] == side], look) for side, look in LOOKS.items()}
    return {side: part for side, part in parts.items() if len(part[0])}


def _lacking(sides: Mapping[str, object]) -> str:
    """What a caption adds where a world is not there."""
    lost = [name for name in LOOKS if name not in sides]
    return f" Not measured yet: {', '.join(lost)}." if lost else ""


def _legend(drawn: Figure, sides: Mapping[str, object], more: Sequence[Line2D] = ()) -> None:
    handles = [
        Line2D([], [], color=LOOKS[side].colour, marker=LOOKS[side].mark, ls="", label=LOOKS[side].label)
        for side in sides
    ]
    drawn.legend(handles=[*handles, *more], loc="outside upper center", ncols=4, frameon=False, fontsize=8)


def _shift(side: str, width: float = 0.16) -> float:
    """Where the point of a world lies beside its row."""
    return -width if side == "drawn" else width


def _dots(axis: Axes, part: pd.DataFrame, places: Sequence[float], look: Look, size: float = 5) -> None:
    """Points with horizontal intervals."""
    axis.errorbar(part["value"], places, xerr=whiskers(part["value"], part["low"], part["high"]), fmt=look.mark,
                  color=look.colour, ms=size, lw=1.6, mec="white", mew=0.5)  # fmt: skip


def _rows(axis: Axes, labels: Sequence[str]) -> None:
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_ylim(len(labels) - 0.5, -0.5)


def outcomes(claims: pd.DataFrame) -> Figure:
    """How many claims come out how: outcome in the drawn world (rows) by outcome on photographs (columns)."""
    own = claims[claims["together"] != "one alone"]
    if not len(own):
        return nothing("No claim has been judged on both worlds yet: there is nothing to compare.")
    names = [str(outcome) for outcome in Outcome]
    counts = pd.crosstab(own["drawn"], own["photographs"]).reindex(index=names, columns=names, fill_value=0)
    drawn, axis = figure(6.4, 3.5)
    axis.grid(False)
    alike = {"alike": COLOURS["green"], "differ": COLOURS["vermillion"], "open": COLOURS["grey"]}
    for row, first in enumerate(names):
        for column, second in enumerate(names):
            opened = str(Outcome.INCONCLUSIVE) in (first, second)
            kind = "open" if opened else "alike" if first == second else "differ"
            count = int(counts.loc[first, second])
            strong = 0.12 + 0.5 * count / max(int(counts.to_numpy().max()), 1) if count else 0.04
            # What it means stands in it: the colours only repeat it.
            place = (column - 0.48, row - 0.48)
            axis.add_patch(Rectangle(place, 0.96, 0.96, color=alike[kind], alpha=strong, lw=0))
            axis.annotate(str(count), (column, row - 0.08), ha="center", va="center", fontsize=17, color="#222222")
            axis.annotate(kind, (column, row + 0.3), ha="center", va="center", fontsize=8, color="#333333")
    marks = {str(outcome): mark for outcome, (mark, _) in MARKS.items()}
    axis.set_xticks(range(len(names)), [f"{marks[name]} {name}" for name in names])
    axis.set_yticks(range(len(names)), [f"{marks[name]} {name}" for name in names])
    axis.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    axis.set(xlabel="outcome on photographs (number of claims)", ylabel="in the drawn world")
    axis.tick_params(length=0)
    found = own["together"].value_counts()
    caption(
        drawn,
        f"{len(own)} claims were judged in both worlds: {found.get('alike', 0)} alike, {found.get('differ', 0)} "
        f"differ, {found.get('open on one', 0) + found.get('open on both', 0)} are open in at least one of them.",
    )
    return drawn


def strength(table: pd.DataFrame) -> Figure:
    """Accuracy of the hand-written sentence (hollow) and of tuned prompts (filled) by task, a panel for each world."""
    if not len(table):
        return _empty("zero-shot and tuned accuracy")
    sides, names = _sides(table), order("task", table)
    learned = order("learner", table[table["learner"] != "zero_shot"])
    drawn, axes = figure(8.2, 1.9 + 0.42 * len(names), columns=2, sharey=True)
    shifts = dict(zip(["zero_shot", *learned], np.linspace(-0.22, 0.22, 1 + len(learned)), strict=True))
    marks = dict(zip(learned, ("o", "^", "s", "P"), strict=False))
    for axis, side in zip(axes, LOOKS, strict=True):
        axis.set(title=LOOKS[side].label, xlabel="test accuracy (%)", xlim=(0, 102))
        if side not in sides:
            axis.annotate("not measured yet", (51, (len(names) - 1) / 2), ha="center", fontsize=9, color="#555555")
            continue
        part, look = sides[side]
        for learner, own in part.groupby("learner", sort=False):
            plain = learner == "zero_shot"
            places = [names.index(task) + shifts[learner] for task in own["task"]]
            axis.errorbar(own["value"], places, xerr=whiskers(own["value"], own["low"], own["high"]),
                          fmt="p" if plain else marks.get(learner, "o"), color=look.colour, ms=5, lw=1.4,
                          mfc="white" if plain else look.colour)  # fmt: skip
    _rows(axes[0], [spelt(name) for name in names])
    handles = [Line2D([], [], color="#444444", marker="p", mfc="white", ls="", label="hand-written sentence")]
    handles += [
        Line2D([], [], color="#444444", marker=marks.get(name, "o"), ls="", label=f"{spelt(name)}, tuned")
        for name in learned
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    means = {side: part[part["learner"] == "zero_shot"]["value"].mean() for side, (part, _) in sides.items()}
    told = ", ".join(f"{LOOKS[side].label} {mean:.0f} %" for side, mean in means.items())
    caption(
        drawn,
        f"Without any training, in the mean over all tasks of a world: {told}. Tasks of one name play the same part in "
        f"both worlds and are not the same task; without a mark: not measured. "
        f"Lines: 95 % over seeds.{_lacking(sides)}",
    )
    return drawn


def gaps(table: pd.DataFrame, reported: float) -> Figure:
    """The gap before training, learner by learner, a panel for each task; both worlds in every row."""
    if not len(table):
        return _empty("the gap")
    sides, tasks, learners = _sides(table), order("task", table), order("learner", table)
    drawn, axes = figure(8.6, 2.0 + 0.36 * len(learners), columns=len(tasks), sharey=True, sharex=True, squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        axis.axvspan(criteria.REPORTED_FROM, criteria.REPORTED_TO, color=COLOURS["grey"], alpha=0.14, lw=0)
        axis.axvline(reported, color=COLOURS["black"], ls=":", lw=1.2)
        for place, learner in enumerate(learners):
            pair = table[(table["task"] == task) & (table["learner"] == learner)]
            if len(pair) == len(LOOKS):
                axis.plot(pair["value"], [place + _shift(side) for side in pair["backbone"]], color="#999999", lw=0.9)
        for side, (part, look) in sides.items():
            own = part[part["task"] == task]
            _dots(axis, own, [learners.index(name) + _shift(side) for name in own["learner"]], look)
        axis.set_title(spelt(task), fontsize=10)
        axis.set_xlim(min(0.0, float(table["low"].min(skipna=True))) if table["low"].notna().any() else 0.0, None)
    _rows(axes[0, 0], [spelt(name) for name in learners])
    axes[0, len(tasks) // 2].set_xlabel("gap before training (decades)", x=0.0 if len(tasks) % 2 == 0 else 0.5)
    _legend(drawn, sides)
    told = "; ".join(f"{LOOKS[side].label} {part['value'].mean():.2f}" for side, (part, _) in sides.items())
    caption(
        drawn,
        f"Mean over these {len(learners)} learners and {len(tasks)} tasks, in decades: {told}. "
        f"Band: the reported two to three orders of magnitude; "
        f"dotted: {reported:.2f}, reported of MaPLe coupled both ways. Mean over gates, the same for both; lines: 95 % "
        f"over seeds.{_lacking(sides)}",
    )
    return drawn


def waterfalls(table: pd.DataFrame, reported: float) -> Figure:
    """The gap factor by factor, from the prompt gradient (zero) to the gate gradient: one panel for each world."""
    if not len(table):
        return _empty("the factors of the gap")
    sides = _sides(table)
    drawn, axes = figure(8.6, 4.2, columns=2, sharey=True, sharex=True)
    rows = [*FACTORS, "gap"]
    # The line of what was reported crosses numbers: they stand on white.
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    for axis, side in zip(axes, LOOKS, strict=True):
        axis.set(title=LOOKS[side].label, xlabel="decades below the prompt gradient")
        if side not in sides:
            axis.annotate("not measured yet", (0.5, 0.5), xycoords="axes fraction", ha="center", color="#555555")
            continue
        own, level = sides[side][0].set_index("factor"), 0.0
        axis.axvline(reported, color=COLOURS["black"], ls=":", lw=1.2)
        for place, name in enumerate(rows):
            value, low, high = (float(own.loc[name, column]) for column in ("value", "low", "high"))
            start = 0.0 if name == "gap" else level
            # Red and blue are told apart by their sign, written beside them.
            colour = TOTAL if name == "gap" else COLOURS["orange"] if value > 0 else COLOURS["sky"]
            axis.barh(place, value, left=start, color=colour, height=0.66)
            axis.errorbar(
                start + value, place, xerr=whiskers(value, low, high), color=COLOURS["black"], lw=1, capsize=2
            )
            text = f"{value:+.2f}" if name != "gap" else f"{value:.2f}"
            right = max(start, start + value, start + high if np.isfinite(high) else start)
            axis.annotate(text.replace("-", "−"), (right, place), (5, 0), textcoords="offset points", va="center",
                          fontsize=8, fontweight="bold" if name == "gap" else None, bbox=paper)  # fmt: skip
            if name != "gap":
                level = start + value
                axis.plot([level, level], [place - 0.33, place + 1.33], color=COLOURS["grey"], lw=0.8)
    _rows(axes[0], [*(FACTOR_LABELS[name] for name in FACTORS), "gap"])
    left, right = axes[0].get_xlim()
    axes[0].set_xlim(left, right + 0.14 * (right - left))
    most = {
        side: part[part["factor"] != "gap"].set_index("factor")["value"].idxmax() for side, (part, _) in sides.items()
    }
    told = "; ".join(f"{side}: {FACTOR_LABELS[name]}" for side, name in most.items())
    caption(
        drawn,
        f"Where most is lost: {told}. To the right (+): the gradient shrinks, to the left (−): it grows. "
        f"Dotted: the reported "
        f"{reported:.2f}. Whiskers: 95 % over seeds.{_lacking(sides)}",
    )
    return drawn


def spread(table: pd.DataFrame) -> Figure:
    """Input information of gates before (hollow) and after training, short and long, in both worlds."""
    if not len(table):
        return _empty("what is left of gates")
    sides = _sides(table)
    parts = {name: table[table["recipe"] == name] for name in ("short", "long")}
    keys = {
        name: list(dict.fromkeys(part[["what", "which"]].itertuples(index=False, name=None)))
        for name, part in parts.items()
    }
    count = max(map(len, keys.values()))
    drawn, axes = figure(8.8, 1.9 + 0.36 * count, columns=2, sharex=True)
    titles = {"short": "short recipe", "long": "long trainings (CoOp, length)"}
    for axis, (name, part) in zip(axes, parts.items(), strict=True):
        for side, (_, look) in sides.items():
            own = part[part["backbone"] == side]
            own_keys = own[["what", "which"]].itertuples(index=False, name=None)
            places = [keys[name].index(key) + _shift(side) for key in own_keys]
            axis.hlines(places, own["first"], own["value"], color=look.colour, lw=0.9, alpha=0.6)
            axis.plot(own["first"], places, look.mark, color=look.colour, mfc="white", ms=5)
            _dots(axis, own, places, look)
        axis.set_xscale("log")
        axis.axvline(criteria.CONSTANT, color=COLOURS["black"], ls=":", lw=1.2)
        axis.set(title=titles[name], xlabel="input information (0 to 1)")
        first = {one: spelt(one) if name == "short" else _TRAINING.get(one, one) for one, _ in keys[name]}
        _rows(axis, [f"{first[one]}, {spelt(two)}" for one, two in keys[name]])
    hollow = Line2D([], [], color="#444444", marker="o", mfc="white", ls="", label="before training")
    _legend(drawn, sides, [hollow])
    told = []
    for side in sides:
        own = parts["short"][(parts["short"]["backbone"] == side) & (parts["short"]["what"] != "pool")]
        if len(own):
            told.append(f"{side} {own['first'].mean():.1g} before, {own['value'].mean():.1g} after")
    caption(
        drawn,
        f"Gates that scale prompts, by the short recipe: {'; '.join(told)}. Left of the dotted line "
        f"({criteria.CONSTANT:g}) a gate is nearly constant. Lines: 95 % over seeds.{_lacking(sides)}",
    )
    return drawn


def plane(points: pd.DataFrame, is_planted: Mapping[str, bool]) -> Figure:
    """Dependence against gain, a dot for each learner, gate, task and recipe of both worlds; stars: planted tasks."""
    if not len(points):
        return _empty("dependence and gain")
    sides = _sides(points)
    drawn, axes = figure(8.8, 4.8, columns=2, sharex=True, sharey=True)
    panels = {"over_fixed": "gain over the learner without a gate", "over_blind": "gain over the blind twin"}
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        axis.set_xscale("symlog", linthresh=LINEAR)
        axis.set_yscale("symlog", linthresh=LINEAR)
        axis.fill_between([criteria.ADAPTIVE, 120], criteria.GAINS, 120, color=COLOURS["green"], alpha=0.10, lw=0)
        axis.fill_between([-120, 120], -120, criteria.HARMS, color=COLOURS["grey"], alpha=0.10, lw=0)
        axis.axhline(0, color=COLOURS["black"], lw=0.7)
        axis.axvline(0, color=COLOURS["black"], lw=0.7)
        for part, look in sides.values():
            for key, own in part.groupby(["learner", "gate", "task", "recipe"], sort=False):
                (x, *xs), (y, *ys) = interval(own["over_mean"]), interval(own[column])
                planted = is_planted[key[2]]
                axis.plot(xs, [y, y], color=look.colour, lw=0.7, alpha=0.35)
                axis.plot([x, x], ys, color=look.colour, lw=0.7, alpha=0.35)
                axis.plot(x, y, "*" if planted else look.mark, color=look.colour, mec="white", mew=0.5,
                          ms=12 if planted else 5.5, zorder=4 if planted else 3)  # fmt: skip
        ticks = [-30, -10, -5, -2, 0, 2, 5, 10, 30]
        for side in (axis.xaxis, axis.yaxis):
            side.set_ticks(ticks, [f"{tick}".replace("-", "−") for tick in ticks])
            side.set_minor_locator(NullLocator())
        axis.set(xlabel="dependence: points lost when the gate is held still", ylabel=f"{label} (points)")
        axis.set_xlim(-12, 110)
        axis.set_ylim(-40, 115)
        for text, x, y in (("useful", 100, 100), ("harmful", 100, -34), ("idle", -10, 100), ("co-adapted", 100, 0.12)):
            axis.annotate(text, (x, y), fontsize=8, color="#444444", style="italic",
                          ha="left" if text == "idle" else "right",
                          va="bottom" if text == "co-adapted" else "top" if y > 0 else "bottom", zorder=6,
                          path_effects=HALO)  # fmt: skip
    _legend(drawn, sides, [Line2D([], [], color="#444444", marker="*", ms=10, ls="", label="planted conflict")])
    means = []
    for side, (part, _) in sides.items():
        planted = part["task"].map(is_planted).astype(bool)
        own = [
            f"{words} {rows['over_mean'].mean():.1f} held still, {rows['over_fixed'].mean():.1f} over no gate"
            for words, rows in (("ordinary tasks", part[~planted]), ("planted", part[planted]))
            if len(rows)
        ]
        means.append(f"{side}: {'; '.join(own)}".replace("-", "−"))
    caption(drawn, f"Mean over all dots, in points. {'. '.join(means)}. Lines: 95 % over seeds.{_lacking(sides)}")
    return drawn


def planted(table: pd.DataFrame, cues: Mapping[tuple[str, str], str], margin: float) -> Figure:
    """What the control's gate is worth on every planted conflict, over each of what it is compared with."""
    if not len(table):
        return _empty("planted conflicts")
    sides = _sides(table)
    keys = list(dict.fromkeys(table[["backbone", "task", "recipe"]].itertuples(index=False, name=None)))
    panels = {"over_mean": "over its mean", "over_blind": "over its blind twin", "over_fixed": "over no gate"}
    drawn, axes = figure(8.6, 1.9 + 0.42 * len(keys), columns=3, sharex=True, sharey=True)
    for axis, (column, words) in zip(axes, panels.items(), strict=True):
        for place, key in enumerate(keys):
            own = table[(table[["backbone", "task", "recipe"]] == list(key)).all(axis=1)][column]
            mean, low, high = interval(own)
            look = LOOKS[key[0]]
            jitter = place + np.linspace(-0.16, 0.16, len(own))
            axis.plot(own, jitter, ".", color=look.colour, ms=3.5, alpha=0.4)
            axis.errorbar(mean, place, xerr=whiskers(mean, low, high), fmt=look.mark, color=look.colour, ms=6.5, lw=1.8,
                          mec="white", mew=0.5)  # fmt: skip
        axis.axvline(0, color=COLOURS["black"], lw=0.8)
        axis.axvline(margin, color=COLOURS["green"], ls="--", lw=1.3)
        axis.set(title=words, xlabel="points")
    labels = []
    for side, task, recipe in keys:
        cue = cues.get((side, task), task.replace("_", " "))
        labels.append(f"{cue}" if recipe == "control" else f"{cue},\n{recipe}")
    _rows(axes[0], labels)
    _legend(drawn, sides)
    caption(
        drawn,
        f"Each row is a planted conflict, named by its cue. Right of the dashed line ({margin:g} points) in all three "
        f"panels, the diagnosis says healthy. Small: seeds; lines: 95 % over them.{_lacking(sides)}",
    )
    return drawn


def escapes(table: pd.DataFrame, levers: pd.DataFrame, words: Mapping[str, str]) -> Figure:
    """Left: steps until the gate leaves, against its learning rate. Right: what a decade of each lever saves."""
    if not len(table):
        return _empty("escapes")
    sides = _sides(table)
    drawn, axes = figure(8.6, 3.9, columns=2, width_ratios=[1.25, 1])
    axis, told = axes[0], []
    for side, (part, look) in sides.items():
        beside = part["rate"] * 10 ** (0.5 * _shift(side, 0.06))
        axis.plot(beside, part["escape"], look.mark, color=look.colour, ms=3.2, alpha=0.4)
        late = part.assign(late=part["escape"].fillna(np.inf)).groupby("rate")
        middle, limit = late["late"].median(), int(part["steps"].iloc[0])
        there = middle[np.isfinite(middle)]
        axis.plot(there.index, there, look.mark, ls="-", color=look.colour, ms=7, lw=1.5, mec="white", mew=0.5)
        gone = middle[~np.isfinite(middle)]
        axis.plot(gone.index, [limit * (1.22 if side == "drawn" else 1.45)] * len(gone), look.mark, color=look.colour,
                  mfc="white", ms=7)  # fmt: skip
        axis.axhline(limit, color=COLOURS["grey"], ls=":", lw=1)
        if len(there):
            ends = (f"{there.loc[rate]:.0f} at {rate:g} x" for rate in dict.fromkeys(there.index[[0, -1]]))
            told.append(f"{side} {', '.join(ends)}")
    axis.set(
        xscale="log", yscale="log", xlabel="learning rate of the gate (multiples)", ylabel="step at which it leaves"
    )
    names = order("lever", levers, known=words) if len(levers) else []
    for side, (part, look) in _sides(levers).items():
        own = part[part["slope"].notna()]
        places = [names.index(name) + _shift(side) for name in own["lever"]]
        axes[1].errorbar(own["slope"], places, xerr=whiskers(own["slope"], own["low"], own["high"]), fmt=look.mark,
                         color=look.colour, ms=6, lw=1.8, mec="white", mew=0.5)  # fmt: skip
    _rows(axes[1], [words.get(name, name) for name in names])
    axes[1].axvline(0, color=COLOURS["black"], lw=0.8)
    axes[1].axvline(1, color=COLOURS["black"], lw=0.8, ls=":")
    axes[1].set(xlabel="decades of steps per decade", xlim=(-1.2, 3))
    _legend(drawn, sides)
    caption(
        drawn,
        f"Median step of escape: {'; '.join(told) or 'half of the gates leave at no rate'}. Hollow: half of the seeds "
        "had not left at the end (dotted). Right: what a decade of each lever saves, dotted: as many decades of steps; "
        f"95 % over seeds.{_lacking(sides)}",
    )
    return drawn


def transfer(table: pd.DataFrame, labels: Mapping[str, str], tells: float) -> Figure:
    """Area under the ROC curve of what was chosen in one world, tried in the other: a panel for each way."""
    moments = {
        "before": Look(COLOURS["sky"], "o", "before the first step"),
        "early": Look(COLOURS["orange"], "s", "after an eighth of the steps"),
        "late": Look(COLOURS["blue"], "^", "after the last step"),
    }
    if not len(table):
        return nothing("Predictors pass from one world to the other only where both have been measured.")
    names = order("measurement", table)
    ways = {"photographs": "chosen in the drawn world,\ntried on photographs",
            "drawn": "chosen on photographs,\ntried in the drawn world"}  # fmt: skip
    drawn, axes = figure(8.8, 2.1 + 0.4 * len(names), columns=2, sharey=True)
    best = []
    for axis, (side, title) in zip(axes, ways.items(), strict=True):
        for shift, (when, look) in zip((-0.24, 0.0, 0.24), moments.items(), strict=True):
            part = table[(table["tested"] == side) & (table["when"] == when)].set_index("measurement").reindex(names)
            places = np.arange(len(names)) + shift
            axis.hlines(places, part["area_low"], part["area_high"], color=look.colour, lw=2, alpha=0.6)
            axis.plot(part["area"], places, look.mark, color=look.colour, ms=5)
            own = part["own"].to_numpy(dtype=float)
            axis.plot(own, places, "|", color="#222222", ms=7, mew=1.2)
        axis.axvline(0.5, color=COLOURS["black"], lw=0.8, ls=":")
        axis.axvline(tells, color=COLOURS["vermillion"], lw=1.1, ls="--")
        axis.set(xlabel="area under the ROC curve", xlim=(0, 1.02))
        axis.set_title(title, fontsize=10)
        early = table[(table["tested"] == side) & (table["when"] == "early")].dropna(subset=["area"])
        if len(early):
            top = early.loc[early["area"].idxmax()]
            best.append(f"on {side} {labels.get(top['measurement'], top['measurement'])} ({top['area']:.2f})")
    _rows(axes[0], [labels.get(name, name) for name in names])
    handles = [
        Line2D([], [], color=look.colour, marker=look.mark, ls="", label=look.label) for look in moments.values()
    ]
    handles.append(Line2D([], [], color="#222222", marker="|", ls="", label="as fixed beforehand"))
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    told = f"Best early: {'; '.join(best)}." if best else "No recipe has both outcomes: there is nothing to compare."
    caption(
        drawn,
        f"{told} The sign of each measurement, the measurement that is selected and the regression come from the other "
        f"world. Dotted: a coin; dashed: {tells:g}. Lines: 95 % over trainings drawn again.",
    )
    return drawn
