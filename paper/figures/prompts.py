"""Figures of Part I. They draw tables and train nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.prompts import tasks, world
from lib.prompts.diagnosis import FACTORS
from lib.runtime import stream
from paper.captions import captions
from paper.figures.style import (
    COLOURS,
    Look,
    band,
    caption,
    diamonds,
    fewer,
    figure,
    interval,
    legend_above,
    looks,
    named,
    order,
    this_run,
    whiskers,
)
from paper.studies import roles
from paper.words.spelling import spelt

FACTOR_LABELS = {
    "coherence": "pictures\nadd up\n(prompts)",
    "opening": "gate lets\nthrough",
    "prompt_norm": "1 / prompt\nlength",
    "alignment": "1 / cosine\nof gradient\nand prompt",
    "slope": "1 / sigmoid\nslope",
    "network": "1 / MLP\nJacobian",
    "gate_coherence": "pictures\nadd up\n(gate)",
}
VARIANTS = {
    "fixed": Look(COLOURS["grey"], "o", "no gate"),
    "blind": Look(COLOURS["purple"], "o", "blind gate"),
    "gated": Look(COLOURS["blue"], "o", "gate as trained"),
    "mean": Look(COLOURS["orange"], "o", "gate at its mean"),
    "shuffled": Look(COLOURS["vermillion"], "o", "gate shuffled"),
}
CAPTIONED = (
    "Every caption names a random part of what is there, and is true by construction. Word for word as the text tower "
    "reads them: it knows one article, “a”."
)
#: Of a bar that is a sum, and of neither kind of its parts.
TOTAL = "#777777"
RECIPES = {"short": "short recipe", "control": "trained for it"}
BY = {
    "short": Look(COLOURS["blue"], "o", "short recipe"),
    "published": Look(COLOURS["green"], "s", "as published"),
    "tuned": Look(COLOURS["orange"], "^", "tuned"),
}


def _ends(table: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean of a column at the first and at the last recorded step."""
    means = table.groupby("step")[column].mean()
    return means.iloc[0], means.iloc[-1]


def gap_over_training(
    gaps: pd.DataFrame, reported: Mapping[str, float], *, rerun: pd.DataFrame | None = None
) -> Figure:
    """Gap over optimiser steps, a panel per learner, a line per gate, mean over tasks with 95 % intervals.

    ``reported`` is what a source reports, by learner: a line in the panel of that learner alone.
    """
    again = this_run(rerun, gaps)
    learners, gates = order("learner", gaps, again), looks(order("gate", gaps, again))
    drawn, axes = figure(7.2, 3.5, columns=len(learners), sharey=True, squeeze=False)
    for axis, learner in zip(axes[0], learners, strict=True):
        part, points = gaps[gaps["learner"] == learner], again[again["learner"] == learner]
        for gate, look in gates.items():
            rows = part[part["gate"] == gate].pivot_table(index="step", columns="seed", values="gap")
            band(axis, rows, look.colour, f"{look.label} gate")
            there = points[points["gate"] == gate].groupby("step")["gap"].mean()
            diamonds(axis, there.index, there)
        if learner in reported:
            axis.axhline(reported[learner], color=COLOURS["black"], ls=":", lw=1.2)
            told = {"xytext": (2, 3), "textcoords": "offset points", "fontsize": 8}
            axis.annotate("reported of it", (0, reported[learner]), **told)
        axis.axhspan(2, 3, color=COLOURS["grey"], alpha=0.12, lw=0)
        axis.set(title=spelt(learner), xlabel="optimiser step")
    axes[0, 0].set_ylabel("magnitude gap (decades)")
    legend_above(drawn, axes[0, 0])
    first, last = _ends(gaps, "gap")
    caption(
        drawn,
        f"The gate's gradient is {10**first:.0f} times smaller than the prompts' at the first step and {10**last:.0f} "
        "times at the last. Lines: mean over tasks; shades along them: 95 % over seeds; level band: "
        "the reported two to three "
        "orders of magnitude.",
        fewer(again, gaps, "task"),
    )
    return drawn


def waterfall(
    gaps: pd.DataFrame, title: str = "before training", floor: float | None = None, *, rerun: pd.DataFrame | None = None
) -> Figure:
    """From the prompt gradient to the gate gradient, one step per factor, in decades below the prompts'.

    This run's points are where its own chain stands after each factor.
    """
    again = this_run(rerun, gaps)
    # Where prompts or gate get no gradient at all there is no way from the one to the other.
    gaps, again = (table[np.isfinite(table["gap"])] for table in (gaps, again))
    means = gaps[list(FACTORS)].mean().fillna(0.0)
    drawn, axis = figure(7.2, 3.9)
    level = 0.0
    axis.bar(0, 0.04, bottom=-0.02, color=COLOURS["black"], width=0.7)
    for place, name in enumerate(FACTORS, start=1):
        value = means[name]
        colour = COLOURS["vermillion"] if value > 0 else COLOURS["sky"]
        axis.bar(place, -value, bottom=-level, color=colour, width=0.7)
        axis.annotate(
            f"{-value:+.2f}".replace("-", "−"),
            (place, -max(level, level + value)),
            xytext=(0, -3),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
        )
        axis.plot([place - 0.35, place + 1.35], [-(level + value)] * 2, color=COLOURS["grey"], lw=0.8)
        level += value
    end = len(FACTORS) + 1
    axis.bar(end, -level, color=TOTAL, width=0.7)
    axis.annotate(
        f"{-level:.2f}".replace("-", "−"),
        (end, -level),
        xytext=(0, -3),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=9,
        fontweight="bold",
    )
    if len(again):
        chain = -again[list(FACTORS)].mean().cumsum().to_numpy()
        # At the right edge of the bars, beside what is written below them.
        diamonds(axis, np.arange(1, end + 1) + 0.38, [*chain, chain[-1]])
    labels = [FACTOR_LABELS.get(name, name.replace("_", "\n")) for name in FACTORS]
    axis.set_xticks(range(end + 1), ["prompt\ngradient", *labels, "gate\ngradient"], fontsize=7)
    axis.set(ylabel="decades below the prompt gradient", title=title)
    low, high = axis.get_ylim()
    axis.set_ylim(low - 0.25 if floor is None else floor, high + 0.1 if floor is None else 1.5)
    meeting = means["prompt_norm"] + means["alignment"]
    caption(
        drawn,
        f"Of {level:.2f} decades, {meeting:.2f} go where the upstream gradient meets the prompts: they are "
        "short and point elsewhere. Down (−): the gradient shrinks; up (+): it grows. Mean over seeds, learners, gates "
        "and tasks.",
        fewer(again, gaps, *(name for name in ("learner", "gate", "task") if name in gaps)),
    )
    return drawn


def gap_by_task(start: pd.DataFrame, null: pd.DataFrame, *, rerun: Mapping[str, pd.DataFrame] | None = None) -> Figure:
    """Initial gap per task with trained and with random weights, dots are seeds and cells.

    ``rerun`` has this run's ``start`` and ``null``, or one of them.
    """
    given = rerun or {}
    again, nulls = this_run(given.get("start"), start), this_run(given.get("null"), null)
    names = order("task", start, null, again, nulls)
    drawn, axis = figure(7.2, 3.2)
    for table, points, colour, shift, label in (
        (start, again, "blue", -0.14, "trained backbone"),
        (null, nulls, "orange", 0.14, "random backbone (null)"),
    ):
        there = points.groupby("task")["gap"].mean()
        diamonds(axis, [names.index(task) + shift for task in there.index], there)
        for place, task in enumerate(names):
            values = table[table["task"] == task]["gap"].to_numpy()
            if not len(values):
                continue
            spread = np.linspace(-0.09, 0.09, len(values))
            axis.plot(
                place + shift + spread,
                values,
                ".",
                color=COLOURS[colour],
                ms=4,
                alpha=0.55,
                label=label if task == table["task"].iloc[0] else None,
            )
            axis.plot([place + shift - 0.11, place + shift + 0.11], [values.mean()] * 2, color=COLOURS[colour], lw=2.4)
    axis.set_xticks(range(len(names)), [spelt(name) for name in names])
    axis.set(ylabel="gap before training (decades)", xlabel="task")
    legend_above(drawn, axis)
    caption(
        drawn,
        f"With a trained backbone the gap is {start['gap'].mean():.2f} decades, with one that has learned nothing "
        f"{null['gap'].mean():.2f}. Points: seeds, learners and gates; bars: their mean.",
        fewer(again, start, "learner", "gate"),
    )
    return drawn


def _pairs(table: pd.DataFrame) -> Iterable[tuple[str, str]]:
    return zip(table["learner"], table["gate"], strict=True)


def gates_over_training(gates: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Information, spread, class share and saturation over optimiser steps."""
    again = this_run(rerun, gates)
    columns = (
        ("information", "input information (0 to 1)"),
        ("spread", "deviation over pictures"),
        ("class_share", "class share (0 to 1)"),
        ("saturation", "saturated share (0 to 1)"),
    )
    drawn, axes = figure(7.2, 5.2, columns=2, rows=2, sharex=True)
    cells = looks(dict.fromkeys(pair for table in (gates, again) for pair in _pairs(table)))
    for axis, (column, label) in zip(axes.flat, columns, strict=True):
        for (learner, gate), look in cells.items():
            part, points = (table[(table["learner"] == learner) & (table["gate"] == gate)] for table in (gates, again))
            rows = part.pivot_table(index="step", columns="seed", values=column)
            band(axis, rows, look.colour, f"{spelt(learner)}, {spelt(gate)}")
            there = points.groupby("step")[column].mean()
            diamonds(axis, there.index, there)
        axis.set_ylabel(label, fontsize=9)
        if column in ("information", "spread"):
            axis.set_yscale("log")
        else:
            axis.set_ylim(-0.02, 1)
    for axis in axes[-1]:
        axis.set_xlabel("optimiser step")
    axes[0, 0].axhline(1, color=COLOURS["black"], ls=":", lw=1)
    axes[0, 0].annotate("a gate that switches", (0, 1), xytext=(2, -10), textcoords="offset points", fontsize=8)
    legend_above(drawn, axes[0, 0])
    first, last = _ends(gates, "information")
    caption(
        drawn,
        f"Where a gate that switches has an input information of 1, these have {first:.1g} before training and "
        f"{last:.1g} after it. Mean over tasks; bands: 95 % over seeds.",
        fewer(again, gates, "task"),
    )
    return drawn


def _cost(accuracy: pd.DataFrame, variant: str) -> str:
    """Points of accuracy that ``variant`` costs the gate as trained, in the mean; never "-0.0"."""
    means = accuracy.groupby("variant")["accuracy"].mean()
    return f"{round(means['gated'] - means[variant], 1) + 0.0:.1f}"


def value_bars(
    accuracy: pd.DataFrame, zero: pd.DataFrame | None = None, *, rerun: pd.DataFrame | None = None
) -> Figure:
    """Bars per task: no gate, blind gate, gate as trained, at its mean, shuffled; conflict task on the right.

    ``zero`` has the accuracy of the hand-written sentence, a line; what ends below it is hatched.
    """
    again = this_run(rerun, accuracy)
    plain, planted = (
        [table[table["task"].isin(roles.GRADED) == graded] for table in (accuracy, again)] for graded in (False, True)
    )
    ordinary = order("task", *plain)
    # An ordinary task has one recipe; where it has more, the others stand beside it under their names.
    groups = [
        (task, recipe, spelt(task) if recipe == "short" else f"{spelt(task)},\n{spelt(recipe)}")
        for task in ordinary
        for recipe in order("recipe", *(table[table["task"] == task] for table in plain), known=RECIPES)
    ]
    left = len(groups)
    groups += [
        (task, recipe, f"{spelt(task)},\n{RECIPES.get(recipe, spelt(recipe))}")
        for task in order("task", *planted, known=roles.GRADED)
        for recipe in order("recipe", *(table[table["task"] == task] for table in planted), known=RECIPES)
    ]
    variants = looks(order("variant", accuracy, again, known=VARIANTS), VARIANTS)
    width = 0.8 / max(len(variants), 1)
    drawn, axis = figure(max(7.6, 0.8 * len(groups)), 3.8)
    levels = {} if zero is None else zero.groupby("task")["accuracy"].mean().to_dict()
    below = 0
    for place, (task, recipe, _) in enumerate(groups):
        level = levels.get(task, -np.inf)
        axis.plot([place - 0.45, place + 0.45], [level, level], color=COLOURS["black"], ls=":", lw=1.4)
        part, points = (table[(table["task"] == task) & (table["recipe"] == recipe)] for table in (accuracy, again))
        there = points.groupby("variant")["accuracy"].mean()
        for number, (variant, look) in enumerate(variants.items()):
            at = place + width * (number - (len(variants) - 1) / 2)
            diamonds(axis, at, there.get(variant, np.nan))
            mean, *ends = interval(part[part["variant"] == variant].groupby("seed")["accuracy"].mean())
            if np.isfinite(mean):
                under = bool(mean < level)
                below += under
                axis.bar(
                    at, mean, width=0.94 * width, color=look.colour, hatch="///" if under else None, edgecolor="white"
                )
                axis.errorbar(at, mean, yerr=whiskers(mean, *ends), color=COLOURS["black"], lw=1, capsize=2)
    if 0 < left < len(groups):
        axis.axvline(left - 0.5, color=COLOURS["grey"], lw=1, ls="--")
    axis.set_xticks(range(len(groups)), [label for *_, label in groups], fontsize=8)
    axis.set(ylabel="test accuracy (%)", ylim=(0, 102))
    axis.grid(axis="x", visible=False)
    told = [
        f"{where}, holding the gate still costs {_cost(part, 'mean')} points, shuffling it {_cost(part, 'shuffled')}."
        for where, part in (
            ("Left: on ordinary tasks", plain[0]),
            (
                "Right: where the right prompt depends on the picture and the gate is trained for it",
                planted[0][planted[0]["recipe"] == "control"],
            ),
        )
        if len(part)
    ]
    handles = [Patch(color=look.colour, label=look.label) for look in variants.values()]
    drawn.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    if levels:
        told.append(f"Dotted: the hand-written sentence; {below} bars end below it (hatched).")
    caption(drawn, " ".join([*told, "Whiskers: 95 % over seeds."]), fewer(again, accuracy, "learner", "gate"))
    return drawn


def learner_points(accuracy: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Accuracy of each learner by each kind of recipe, a panel per task: mean over seeds with 95 % interval, zero-shot
    as a line, hollow points for what ends below it.
    """
    again = this_run(rerun, accuracy)
    trained, there = (table[table["learner"] != "zero_shot"] for table in (accuracy, again))
    names, shown = order("learner", trained, there), order("task", accuracy, again)
    known = looks(order("by", trained, there, known=BY), BY)
    offsets = dict(zip(known, np.linspace(-0.24, 0.24, len(known)) if len(known) > 1 else [0.0], strict=True))
    drawn, axes = figure(7.4, 1.9 + 0.42 * len(names), columns=len(shown), sharey=True, squeeze=False)
    several = trained.groupby(["learner", "by"])["recipe"].nunique()
    best, below, count = [], 0, 0
    # From ten to ten around what is drawn, the same in every panel.
    spans = [interval(own) for _, own in accuracy.groupby(["learner", "by", "recipe", "task"])["accuracy"]]
    seen = np.array([*np.ravel(spans), *there["accuracy"]], dtype=float)
    seen = seen[np.isfinite(seen)] if np.isfinite(seen).any() else np.array([0.0, 100.0])
    low, high = 10 * np.floor(seen.min() / 10), 10 * np.ceil(seen.max() / 10)
    for axis, task in zip(axes[0], shown, strict=True):
        told: dict[tuple[Any, Any], list[tuple[float, str]]] = {}
        zero = accuracy[(accuracy["learner"] == "zero_shot") & (accuracy["task"] == task)]["accuracy"].mean()
        part = trained[trained["task"] == task].groupby(["learner", "by", "recipe"], sort=False)["accuracy"]
        for (name, by, recipe), own in part:
            look, place = known[by], names.index(name) + offsets[by]
            mean, *ends = interval(own)
            worse = mean < zero
            below, count = below + worse, count + 1
            axis.plot(ends, [place, place], color=look.colour, lw=2, alpha=0.5)
            face = "white" if worse else look.colour
            axis.plot(mean, place, look.mark, color=look.colour, markerfacecolor=face, ms=5)
            if several[name, by] > 1:
                told.setdefault((name, by), []).append((mean, spelt(recipe)))
        # Names of points that are close stand together.
        for (name, by), points in told.items():
            place = names.index(name) + offsets[by]
            means, texts = zip(*sorted(points), strict=True)
            if means[-1] - means[0] < 0.3 * (high - low):
                means, texts = (float(np.mean(means)),), (", ".join(texts),)
            for mean, text in zip(means, texts, strict=True):
                named(axis, text, (mean, place), up=False)
        means = there[there["task"] == task].groupby(["learner", "by", "recipe"], sort=False)["accuracy"].mean()
        diamonds(axis, means, [names.index(name) + offsets[by] for name, by, _ in means.index])
        if np.isfinite(zero):
            axis.axvline(zero, color=COLOURS["vermillion"], ls="--", lw=1.2)
        if (ends := part.mean()).notna().any():
            name, by, _ = ends.idxmax()
            best.append(f"{spelt(name)}, {known[by].label}, on {spelt(task)} ({ends.max():.0f} %)")
        axis.set(title=spelt(task), xlabel="test accuracy (%)", xlim=(low - 2, high + 2))
    axes[0, 0].set_yticks(range(len(names)), [spelt(name) for name in names])
    axes[0, 0].invert_yaxis()
    handles = [Line2D([], [], color=look.colour, marker=look.mark, ls="", label=look.label) for look in known.values()]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    caption(
        drawn,
        f"Best: {'; '.join(best)}. Points: mean over seeds with 95 % interval; dashed: the hand-written sentence; "
        f"hollow: below it ({below} of {count}).",
    )
    return drawn


def gallery(names: Sequence[str], columns: int = 6) -> Figure:
    """One row of test pictures per task, each with its label."""
    drawn, axes = figure(7.4, 1.32 * len(names), columns=columns, rows=len(names), squeeze=False)
    for row, name in zip(axes, names, strict=True):
        task = tasks.get(name)
        labels = torch.arange(columns) * len(task.names) // columns
        images, _ = task.draw(labels, stream(0, "gallery", name))
        for axis, image, label in zip(row, images, labels, strict=True):
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set_xticks([]), axis.set_yticks([])
            axis.set_title(task.names[int(label)].removesuffix(" thing"), fontsize=7, loc="center", pad=2)
        row[0].set_ylabel(spelt(name), fontsize=8)
    caption(drawn, f"One row per task, {world.SIZE} × {world.SIZE} pixels each; above every picture its label.")
    return drawn


def captioned(count: int = 8, columns: int = 4, seed: int = 1) -> Figure:
    """Pictures of the pre-training world with the captions that MiniCLIP read."""
    generator = stream(seed, "captioned")
    scenes = world.sample(count, generator)
    images, texts = world.render(scenes, generator), captions(scenes, generator)
    rows = -(-count // columns)
    drawn, axes = figure(7.4, 2.35 * rows, columns=columns, rows=rows, squeeze=False)
    for axis, image, text in zip(axes.flat, images, texts, strict=False):
        axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        axis.set_xticks([]), axis.set_yticks([])
        parts = text.split()
        lines = [" ".join(parts[i : i + 4]) for i in range(0, len(parts), 4)]
        axis.set_xlabel("\n".join(lines), fontsize=7)
    caption(drawn, CAPTIONED)
    return drawn


def curve(record: dict) -> Figure:
    """Pre-training loss over steps, with the share of scenes from the full world."""
    table = pd.DataFrame(record["curve"])
    drawn, axis = figure(6.4, 3.0)
    axis.plot(table["step"], table["loss"], color=COLOURS["blue"], lw=1.8)
    axis.set(xlabel="optimiser step", ylabel="contrastive loss (nats)", ylim=(0, None))
    twin = axis.twinx()
    twin.plot(table["step"], table["difficulty"], color=COLOURS["orange"], lw=1.4, ls="--")
    twin.set(ylabel="share of full-world scenes (dashed)", ylim=(-0.03, 1.03))
    twin.grid(False)
    caption(
        drawn,
        f"Pre-training: the loss falls to {table['loss'].iloc[-1]:.2f} nats while scenes grow from easy ones to the "
        f"full world (dashed); guessing would cost {np.log(record['recipe']['batch']):.2f}.",
    )
    return drawn


def zero_shot_bars(table: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Zero-shot accuracy per task beside chance."""
    again = this_run(rerun, table)
    names = order("task", table, again)
    classes = pd.concat([table, again]).drop_duplicates("task").set_index("task")["classes"]
    drawn, axis = figure(6.8, max(3.6, 0.3 * len(names) + 1.2))
    places = np.arange(len(table))
    axis.barh(
        places,
        table["accuracy"],
        color=COLOURS["blue"],
        height=0.62,
        xerr=whiskers(table["accuracy"], table["low"], table["high"]),
        error_kw={"lw": 1, "ecolor": COLOURS["black"]},
        label="zero-shot (95 % interval)",
    )
    axis.plot(table["chance"], places, "|", color=COLOURS["vermillion"], ms=14, mew=2.2, label="chance")
    diamonds(axis, again["accuracy"], [names.index(name) for name in again["task"]])
    axis.set_yticks(range(len(names)), [f"{spelt(name)} ({classes[name]:g})" for name in names], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="accuracy (%)", xlim=(0, 104))
    legend_above(drawn, axis)
    caption(
        drawn,
        "What the backbone can do without any training on a task (number of classes in brackets). On "
        f"{int((table['accuracy'] < 90).sum())} of {len(table)} tasks it is wrong more than once in ten: there is "
        "something left to learn.",
    )
    return drawn
