"""Figures of Part I. They draw tables and train nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lib.figures.style import COLOURS, caption, figure
from lib.prompts import tasks, world
from lib.prompts.diagnosis import FACTORS
from lib.runtime import stream
from lib.verdicts import bootstrap

CELL_COLOURS = ("blue", "vermillion", "green", "purple")
FACTOR_LABELS = {
    "coherence": "pictures add up\n(prompts)",
    "opening": "gate lets\nthrough",
    "prompt_norm": "1 / prompt\nlength",
    "alignment": "1 / cosine\n(gradient, prompt)",
    "slope": "1 / sigmoid\nslope",
    "network": "1 / MLP\nJacobian",
    "gate_coherence": "pictures add up\n(gate)",
}
VARIANT_COLOURS = {"fixed": "grey", "gated": "blue", "mean": "orange", "shuffled": "vermillion"}
VARIANT_LABELS = {
    "fixed": "no gate",
    "gated": "gate as trained",
    "mean": "gate at its mean",
    "shuffled": "gate shuffled",
}


def words(name: str) -> str:
    """A name as the reader sees it: "mis_specified" -> "mis-specified"."""
    return {"coop": "CoOp", "maple": "MaPLe", "mis_specified": "mis-specified"}.get(
        name, name.replace("_", " ")
    )


def _band(axis, steps: np.ndarray, rows: np.ndarray, colour: str, label: str, style: str = "-") -> None:
    """Mean over seeds with its bootstrap interval; rows [steps, seeds]."""
    axis.plot(steps, rows.mean(1), style, color=colour, label=label, lw=1.8)
    if rows.shape[1] > 1:
        ends = np.array([bootstrap(row) for row in rows])
        axis.fill_between(steps, ends[:, 0], ends[:, 1], color=colour, alpha=0.18, lw=0)


def gap_over_training(gaps: pd.DataFrame, reported: float) -> Figure:
    """Gap over optimiser steps, a panel per learner, a line per gate, mean over tasks with 95 % intervals."""
    learners = list(dict.fromkeys(gaps["learner"]))
    drawn, axes = figure(7.2, 3.5, columns=len(learners), sharey=True, squeeze=False)
    for axis, learner in zip(axes[0], learners, strict=True):
        part = gaps[gaps["learner"] == learner]
        for gate, colour in zip(dict.fromkeys(gaps["gate"]), CELL_COLOURS, strict=False):
            rows = part[part["gate"] == gate].pivot_table(index="step", columns="seed", values="gap")
            _band(axis, rows.index.to_numpy(), rows.to_numpy(), COLOURS[colour], f"{gate} gate")
        axis.axhline(reported, color=COLOURS["black"], ls=":", lw=1.2, label="reported for gated MaPLe")
        axis.axhspan(2, 3, color=COLOURS["grey"], alpha=0.12, lw=0)
        axis.set(title=words(learner), xlabel="optimiser step")
    axes[0, 0].set_ylabel("magnitude gap (decades)")
    axes[0, -1].legend(frameon=False, fontsize=8)
    caption(
        drawn,
        "The gate's gradient is far smaller than the prompts' from the first step on. Lines: mean over tasks; "
        "bands: 95 % over seeds; grey: the reported two to three orders of magnitude.",
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
    axis.set_ylim(low - 0.25 if floor is None else floor, max(high, 0.15) if floor is None else 1.5)
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
    axis.set(ylabel="magnitude gap before training (decades)", xlabel="task")
    axis.legend(frameon=False, fontsize=8)
    caption(
        drawn,
        "The gap hardly depends on the task, and a backbone that has learned nothing shows it as well: it is "
        "a property of how prompts and gate are wired, not of what there is to learn. Bars: means.",
    )
    return drawn


def gates_over_training(gates: pd.DataFrame) -> Figure:
    """Information, spread, class share and saturation over optimiser steps."""
    columns = (
        ("information", "input information"),
        ("spread", "standard deviation"),
        ("class_share", "class share"),
        ("saturation", "saturated share"),
    )
    drawn, axes = figure(7.2, 5.2, columns=2, rows=2, sharex=True)
    pairs = list(dict.fromkeys(zip(gates["learner"], gates["gate"], strict=True)))
    for axis, (column, label) in zip(axes.flat, columns, strict=True):
        for (learner, gate), colour in zip(pairs, CELL_COLOURS, strict=False):
            part = gates[(gates["learner"] == learner) & (gates["gate"] == gate)]
            rows = part.pivot_table(index="step", columns="seed", values=column)
            _band(axis, rows.index.to_numpy(), rows.to_numpy(), COLOURS[colour], f"{words(learner)}, {gate}")
        axis.set_ylabel(label + (" (0 to 1)" if column != "spread" else " of g over pictures"))
        if column in ("information", "spread"):
            axis.set_yscale("log")
        else:
            axis.set_ylim(-0.02, 1)
    for axis in axes[-1]:
        axis.set_xlabel("optimiser step")
    axes[0, 0].axhline(1, color=COLOURS["black"], ls=":", lw=1)
    axes[0, 0].annotate(
        "a gate that switches", (0, 1), xytext=(2, -10), textcoords="offset points", fontsize=8
    )
    axes[0, 1].legend(frameon=False, fontsize=8)
    caption(
        drawn,
        "Gates do not become constant: they are constant from the start, and training leaves them so. "
        "Mean over tasks; bands: 95 % over seeds.",
    )
    return drawn


def value_bars(accuracy: pd.DataFrame) -> Figure:
    """Four bars per task: no gate, gate as trained, at its mean, shuffled; conflict task on the right."""
    ordinary = list(dict.fromkeys(accuracy[accuracy["task"] != "conflict"]["task"]))
    groups = [(task, "published", words(task)) for task in ordinary]
    conflict = accuracy[accuracy["task"] == "conflict"]
    groups += [
        ("conflict", recipe, f"conflict,\n{label}")
        for recipe, label in (("published", "published recipe"), ("control", "trained for it"))
        if recipe in set(conflict["recipe"])
    ]
    drawn, axis = figure(7.6, 3.8)
    for place, (task, recipe, _) in enumerate(groups):
        part = accuracy[(accuracy["task"] == task) & (accuracy["recipe"] == recipe)]
        for offset, (variant, colour) in zip((-0.3, -0.1, 0.1, 0.3), VARIANT_COLOURS.items(), strict=True):
            values = part[part["variant"] == variant].groupby("seed")["accuracy"].mean().to_numpy()
            if not len(values):
                continue
            low, high = bootstrap(values) if len(values) > 1 else (values[0], values[0])
            axis.bar(
                place + offset,
                values.mean(),
                width=0.18,
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
    if ordinary and len(groups) > len(ordinary):
        axis.axvline(len(ordinary) - 0.5, color=COLOURS["grey"], lw=1, ls="--")
    axis.set_xticks(range(len(groups)), [label for *_, label in groups], fontsize=8)
    axis.set(ylabel="test accuracy (%)", ylim=(0, 112))
    axis.legend(frameon=False, fontsize=8, ncols=4, loc="upper left")
    caption(
        drawn,
        "Left: on ordinary tasks nothing is lost when the gate is held at its mean or shuffled, so it does not "
        "adapt. Right: where the right prompt depends on the picture and the gate is trained for it, both "
        "destroy the solution. Whiskers: 95 % over seeds.",
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
    caption(
        drawn, f"One row per task, {world.SIZE} x {world.SIZE} pixels each; above every picture its label."
    )
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
        "Pre-training: the loss falls on easy scenes, rises as the full world is mixed in, and falls again.",
    )
    return drawn


def zero_shot_bars(table: pd.DataFrame) -> Figure:
    """Zero-shot accuracy per task beside chance."""
    drawn, axis = figure(6.8, 3.6)
    places = np.arange(len(table))
    axis.barh(
        places,
        table["accuracy"],
        color=COLOURS["blue"],
        height=0.62,
        xerr=[table["accuracy"] - table["low"], table["high"] - table["accuracy"]],
        error_kw={"lw": 1, "ecolor": COLOURS["black"]},
        label="MiniCLIP, zero-shot (95 % interval)",
    )
    axis.plot(table["chance"], places, "|", color=COLOURS["vermillion"], ms=14, mew=2.2, label="chance")
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
        "What MiniCLIP can do without any training on a task (number of classes in brackets): most tasks lie "
        "well between chance and 100 %, so there is something left to learn.",
    )
    return drawn
