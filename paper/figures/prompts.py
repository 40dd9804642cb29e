"""Figures of Part I. They draw tables and train nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lib.prompts import tasks, world
from lib.prompts.diagnosis import FACTORS
from lib.runtime import stream
from lib.verdicts import bootstrap
from paper.figures.style import COLOURS, RINGS, band, caption, figure, known, rings

CELL_COLOURS = ("blue", "vermillion", "green", "purple")
FACTOR_LABELS = {
    "coherence": "pictures\nadd up\n(prompts)",
    "opening": "gate lets\nthrough",
    "prompt_norm": "1 / prompt\nlength",
    "alignment": "1 / cosine\nof gradient\nand prompt",
    "slope": "1 / sigmoid\nslope",
    "network": "1 / MLP\nJacobian",
    "gate_coherence": "pictures\nadd up\n(gate)",
}
SPELT = {
    "zero_shot": "zero-shot",
    "coop": "CoOp",
    "cocoop": "CoCoOp",
    "vpt_shallow": "VPT, shallow",
    "vpt": "VPT, deep",
    "ivlp": "IVLP",
    "maple": "MaPLe",
    "bimaple": "MaPLe, both ways",
    "pool": "pool of contexts",
    "mis_specified": "mis-specified",
    "conflict_size": "conflict of sizes",
}
VARIANT_COLOURS = {"fixed": "grey", "blind": "purple", "gated": "blue", "mean": "orange", "shuffled": "vermillion"}
VARIANT_LABELS = {
    "fixed": "no gate",
    "blind": "blind gate",
    "gated": "gate as trained",
    "mean": "gate at its mean",
    "shuffled": "gate shuffled",
}


def words(name: str) -> str:
    """A name as the reader sees it: "mis_specified" -> "mis-specified"."""
    return SPELT.get(name, name.replace("_", " "))


def _ends(table: pd.DataFrame, column: str) -> tuple[float, float]:
    """Mean of a column at the first and at the last recorded step."""
    means = table.groupby("step")[column].mean()
    return means.iloc[0], means.iloc[-1]


def gap_over_training(gaps: pd.DataFrame, reported: float, reference: pd.DataFrame | None = None) -> Figure:
    """Gap over optimiser steps, a panel per learner, a line per gate, mean over tasks with 95 % intervals."""
    learners = list(dict.fromkeys(gaps["learner"]))
    kept = known(reference, gaps, ("learner", "gate", "task", "step"))
    drawn, axes = figure(7.2, 3.5, columns=len(learners), sharey=True, squeeze=False)
    for axis, learner in zip(axes[0], learners, strict=True):
        part = gaps[gaps["learner"] == learner]
        for gate, colour in zip(dict.fromkeys(gaps["gate"]), CELL_COLOURS, strict=False):
            rows = part[part["gate"] == gate].pivot_table(index="step", columns="seed", values="gap")
            band(axis, rows.index.to_numpy(), rows.to_numpy(), COLOURS[colour], f"{gate} gate")
            there = kept[(kept["learner"] == learner) & (kept["gate"] == gate)].groupby("step")["gap"].mean()
            rings(axis, there.index, there, colour)
        axis.axhline(reported, color=COLOURS["black"], ls=":", lw=1.2, label="reported for gated MaPLe")
        axis.axhspan(2, 3, color=COLOURS["grey"], alpha=0.12, lw=0)
        axis.set(title=words(learner), xlabel="optimiser step")
    axes[0, 0].set_ylabel("magnitude gap (decades)")
    axes[0, -1].legend(frameon=False, fontsize=8)
    first, last = _ends(gaps, "gap")
    caption(
        drawn,
        f"The gate's gradient is {10**first:.0f} times smaller than the prompts' at the first step and {10**last:.0f} "
        "times at the last. Lines: mean over tasks; bands: 95 % over seeds; grey: the reported two to three orders of "
        "magnitude." + (RINGS if len(kept) else ""),
    )
    return drawn


def waterfall(gaps: pd.DataFrame, title: str = "before training", floor: float | None = None) -> Figure:
    """From the prompt gradient to the gate gradient, one step per factor, in decades below the prompts'."""
    means = gaps[list(FACTORS)].mean()
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
    axis.bar(end, -level, color=COLOURS["blue"], width=0.7)
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
    axis.set_xticks(
        range(end + 1),
        ["prompt\ngradient", *(FACTOR_LABELS[name] for name in FACTORS), "gate\ngradient"],
        fontsize=7,
    )
    axis.set(ylabel="decades below the prompt gradient", title=title)
    low, high = axis.get_ylim()
    axis.set_ylim(low - 0.25 if floor is None else floor, high + 0.1 if floor is None else 1.5)
    meeting = means["prompt_norm"] + means["alignment"]
    caption(
        drawn,
        f"Of {level:.2f} decades, {meeting:.2f} go where the upstream gradient meets the prompts: they are "
        "short and point elsewhere. Red: the gradient shrinks; blue: it grows. Mean over seeds and cells.",
    )
    return drawn


def gap_by_task(start: pd.DataFrame, null: pd.DataFrame) -> Figure:
    """Initial gap per task with trained and with random weights, dots are seeds and cells."""
    names = list(dict.fromkeys(start["task"]))
    drawn, axis = figure(7.2, 3.2)
    for table, colour, shift, label in (
        (start, "blue", -0.14, "trained backbone"),
        (null, "orange", 0.14, "random backbone (null)"),
    ):
        for place, task in enumerate(names):
            values = table[table["task"] == task]["gap"].to_numpy()
            spread = np.linspace(-0.09, 0.09, len(values))
            axis.plot(
                place + shift + spread,
                values,
                ".",
                color=COLOURS[colour],
                ms=4,
                alpha=0.55,
                label=label if place == 0 else None,
            )
            axis.plot(
                [place + shift - 0.11, place + shift + 0.11],
                [values.mean()] * 2,
                color=COLOURS[colour],
                lw=2.4,
            )
    axis.set_xticks(range(len(names)), [words(name) for name in names])
    axis.set(ylabel="gap before training (decades)", xlabel="task")
    axis.legend(frameon=False, fontsize=8)
    caption(
        drawn,
        f"With a trained backbone the gap is {start['gap'].mean():.2f} decades, with one that has learned nothing "
        f"{null['gap'].mean():.2f}; what both share comes from how prompts and gate are wired, not from what there is "
        "to learn. Points: seeds, learners and gates; bars: their mean.",
    )
    return drawn


def gates_over_training(gates: pd.DataFrame) -> Figure:
    """Information, spread, class share and saturation over optimiser steps."""
    columns = (
        ("information", "input information (0 to 1)"),
        ("spread", "deviation over pictures"),
        ("class_share", "class share (0 to 1)"),
        ("saturation", "saturated share (0 to 1)"),
    )
    drawn, axes = figure(7.2, 5.2, columns=2, rows=2, sharex=True)
    pairs = list(dict.fromkeys(zip(gates["learner"], gates["gate"], strict=True)))
    for axis, (column, label) in zip(axes.flat, columns, strict=True):
        for (learner, gate), colour in zip(pairs, CELL_COLOURS, strict=False):
            part = gates[(gates["learner"] == learner) & (gates["gate"] == gate)]
            rows = part.pivot_table(index="step", columns="seed", values=column)
            band(axis, rows.index.to_numpy(), rows.to_numpy(), COLOURS[colour], f"{words(learner)}, {gate}")
        axis.set_ylabel(label, fontsize=9)
        if column in ("information", "spread"):
            axis.set_yscale("log")
        else:
            axis.set_ylim(-0.02, 1)
    for axis in axes[-1]:
        axis.set_xlabel("optimiser step")
    axes[0, 0].axhline(1, color=COLOURS["black"], ls=":", lw=1)
    axes[0, 0].annotate("a gate that switches", (0, 1), xytext=(2, -10), textcoords="offset points", fontsize=8)
    axes[0, 1].legend(frameon=False, fontsize=8)
    first, last = _ends(gates, "information")
    caption(
        drawn,
        f"Where a gate that switches has an input information of 1, these have {first:.1g} before training and "
        f"{last:.1g} after it. Mean over tasks; bands: 95 % over seeds.",
    )
    return drawn


def _cost(accuracy: pd.DataFrame, variant: str) -> str:
    """Points of accuracy that ``variant`` costs the gate as trained, in the mean; never "-0.0"."""
    means = accuracy.groupby("variant")["accuracy"].mean()
    return f"{round(means['gated'] - means[variant], 1) + 0.0:.1f}"


def value_bars(accuracy: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """Bars per task: no gate, blind gate, gate as trained, at its mean, shuffled; conflict task on the right."""
    ordinary = list(dict.fromkeys(accuracy[~accuracy["task"].isin(tasks.GRADED)]["task"]))
    groups = [(task, "published", words(task)) for task in ordinary]
    conflict = accuracy[accuracy["task"] == "conflict"]
    groups += [
        ("conflict", recipe, f"conflict,\n{label}")
        for recipe, label in (("published", "published recipe"), ("control", "trained for it"))
        if recipe in set(conflict["recipe"])
    ]
    kept = known(reference, accuracy, ("learner", "gate", "task", "recipe", "variant"))
    drawn, axis = figure(7.6, 3.8)
    for place, (task, recipe, _) in enumerate(groups):
        there = kept[(kept["task"] == task) & (kept["recipe"] == recipe)].groupby("variant")["accuracy"].mean()
        part = accuracy[(accuracy["task"] == task) & (accuracy["recipe"] == recipe)]
        for offset, (variant, colour) in zip((-0.32, -0.16, 0, 0.16, 0.32), VARIANT_COLOURS.items(), strict=True):
            values = part[part["variant"] == variant].groupby("seed")["accuracy"].mean().to_numpy()
            if not len(values):
                continue
            low, high = bootstrap(values) if len(values) > 1 else (values[0], values[0])
            axis.bar(
                place + offset,
                values.mean(),
                width=0.15,
                color=COLOURS[colour],
                label=VARIANT_LABELS[variant] if place == 0 else None,
            )
            axis.errorbar(
                place + offset,
                values.mean(),
                yerr=[[max(values.mean() - low, 0)], [max(high - values.mean(), 0)]],
                color=COLOURS["black"],
                lw=1,
                capsize=2,
            )
            if variant in there:
                rings(axis, place + offset, there[variant], "black")
    if ordinary and len(groups) > len(ordinary):
        axis.axvline(len(ordinary) - 0.5, color=COLOURS["grey"], lw=1, ls="--")
    axis.set_xticks(range(len(groups)), [label for *_, label in groups], fontsize=8)
    axis.set(ylabel="test accuracy (%)", ylim=(0, 112))
    told = [
        f"{where}, holding the gate at its mean costs {_cost(part, 'mean')} points, shuffling it "
        f"{_cost(part, 'shuffled')}."
        for where, part in (
            ("Left: on ordinary tasks", accuracy[~accuracy["task"].isin(tasks.GRADED)]),
            (
                "Right: where the right prompt depends on the picture and the gate is trained for it",
                conflict[conflict["recipe"] == "control"],
            ),
        )
        if len(part)
    ]
    axis.legend(frameon=False, fontsize=8, ncols=5, loc="upper left")
    caption(
        drawn,
        " ".join(told) + " Whiskers: 95 % over seeds." + (RINGS if len(kept) else ""),
    )
    return drawn


def learner_points(accuracy: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """Accuracy of each learner, a panel per task: mean over seeds with 95 % interval, zero-shot as a line."""
    names, shown = (list(dict.fromkeys(accuracy[column])) for column in ("learner", "task"))
    kept = known(reference, accuracy, ("learner", "task"))
    drawn, axes = figure(7.4, 1.4 + 0.3 * len(names), columns=len(shown), sharey=True, squeeze=False)
    best = []
    for axis, task in zip(axes[0], shown, strict=True):
        part = accuracy[accuracy["task"] == task]
        means = part.groupby("learner")["accuracy"].mean()
        for place, name in enumerate(names):
            values = part[part["learner"] == name]["accuracy"].to_numpy()
            low, high = bootstrap(values) if len(values) > 1 else (values[0], values[0])
            axis.plot([low, high], [place, place], color=COLOURS["blue"], lw=2, alpha=0.5)
            axis.plot(values.mean(), place, "o", color=COLOURS["blue"], ms=5)
        there = kept[kept["task"] == task].set_index("learner")["accuracy"]
        rings(axis, there, [names.index(name) for name in there.index], "black")
        if "zero_shot" in means:
            axis.axvline(means["zero_shot"], color=COLOURS["vermillion"], ls="--", lw=1.2)
        best.append(f"{words(means.idxmax())} on {words(task)} ({means.max():.0f} %)")
        axis.set(title=words(task), xlabel="test accuracy (%)", xlim=(0, 102))
    axes[0, 0].set_yticks(range(len(names)), [words(name) for name in names])
    axes[0, 0].invert_yaxis()
    caption(
        drawn,
        f"Best: {', '.join(best)}. Points: mean over seeds with 95 % interval; dashed: the hand-written sentence."
        + (RINGS if len(kept) else ""),
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
        row[0].set_ylabel(words(name), fontsize=8)
    caption(drawn, f"One row per task, {world.SIZE} x {world.SIZE} pixels each; above every picture its label.")
    return drawn


def captioned(count: int = 8, columns: int = 4, seed: int = 1) -> Figure:
    """Pictures of the pre-training world with the captions that MiniCLIP read."""
    generator = stream(seed, "captioned")
    scenes = world.sample(count, generator)
    images, texts = world.render(scenes, generator), world.captions(scenes, generator)
    rows = -(-count // columns)
    drawn, axes = figure(7.4, 2.35 * rows, columns=columns, rows=rows, squeeze=False)
    for axis, image, text in zip(axes.flat, images, texts, strict=False):
        axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        axis.set_xticks([]), axis.set_yticks([])
        parts = text.split()
        lines = [" ".join(parts[i : i + 4]) for i in range(0, len(parts), 4)]
        axis.set_xlabel("\n".join(lines), fontsize=7)
    caption(drawn, "Every caption names a random part of what is there, and is true by construction.")
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


def zero_shot_bars(table: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """Zero-shot accuracy per task beside chance."""
    kept = known(reference, table, ("task",))
    drawn, axis = figure(6.8, 3.6)
    places = np.arange(len(table))
    axis.barh(
        places,
        table["accuracy"],
        color=COLOURS["blue"],
        height=0.62,
        xerr=[table["accuracy"] - table["low"], table["high"] - table["accuracy"]],
        error_kw={"lw": 1, "ecolor": COLOURS["black"]},
        label="zero-shot (95 % interval)",
    )
    axis.plot(table["chance"], places, "|", color=COLOURS["vermillion"], ms=14, mew=2.2, label="chance")
    if len(kept):
        rings(axis, kept.set_index("task")["accuracy"].loc[table["task"]], places, "black")
    axis.set_yticks(
        places,
        [f"{words(name)} ({k})" for name, k in zip(table["task"], table["classes"], strict=True)],
        fontsize=8,
    )
    axis.invert_yaxis()
    axis.set(xlabel="accuracy (%)", xlim=(0, 104))
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    caption(
        drawn,
        "What the backbone can do without any training on a task (number of classes in brackets). On "
        f"{int((table['accuracy'] < 90).sum())} of {len(table)} tasks it is wrong more than once in ten: there is "
        "something left to learn." + (RINGS if len(kept) else ""),
    )
    return drawn
