"""Figures of photographs and of the CLIP that was trained on them. They draw pictures and tables and train nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lib.prompts import photographs
from lib.prompts.photographs import looks
from lib.runtime import stream
from paper.figures.prompts import spelt
from paper.figures.style import COLOURS, caption, figure
from paper.photo_captions import Captions


def _shown(axis: Any, image: Tensor) -> None:
    """A picture [3, S, S] in [0, 1], pixel by pixel."""
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_xticks([]), axis.set_yticks([])


def changed(count: int = 10, columns: int = 5, seed: int = 4) -> Figure:
    """Pictures of the shipped sample, changed as pre-training changes its own, with captions that say all of it."""
    task, _ = photographs.get("objects")
    images, labels = task.tested(count)
    generator, captions = stream(seed, "changed"), Captions(seed)
    # Enough draws for one in which most pictures have a look.
    has = looks.looks(20 * count, generator)
    has = has[has.sum(1).argsort(descending=True, stable=True)][2 : 2 + 4 * count : 4]
    images = looks.moved(images, has[:, looks.PROPERTIES.index("close")], generator)
    images = looks.painted(images, has, generator)
    rows = -(-count // columns)
    drawn, axes = figure(7.4, 2.15 * rows, columns=columns, rows=rows, squeeze=False)
    for axis, image, label, own in zip(axes.flat, images, labels.tolist(), has, strict=False):
        _shown(axis, image)
        said = captions.of(task.names[label], own).split()
        axis.set_xlabel("\n".join(" ".join(said[i : i + 4]) for i in range(0, len(said), 4)), fontsize=7)
    caption(
        drawn,
        "CIFAR-10, changed as pre-training changed pictures of its own, with captions that say all of it; those of"
        " pre-training leave most of it out. Word for word as the text tower reads them: it knows one article, “a”.",
    )
    return drawn


def gallery(names: Sequence[str] | None = None, columns: int = 8, seed: int = 0) -> Figure:
    """Test pictures of tasks with their labels, two rows for a task with a cue: without it and with it. Without
    ``names`` all tasks whose pictures are shipped.
    """
    known = [name for name in photographs.TASKS if photographs.get(name)[0].source == photographs.CIFAR]
    rows = [row for name in (known if names is None else names) for row in _rows(name, columns, seed)]
    drawn, axes = figure(7.4, 1.17 * len(rows), columns=columns, rows=len(rows), squeeze=False)
    for line, (title, words, images) in zip(axes, rows, strict=True):
        for axis, word, image in zip(line, words, images, strict=True):
            _shown(axis, image)
            axis.set_title(word, fontsize=7, loc="center", pad=2)
        line[0].set_ylabel(title, fontsize=8)
    side = photographs.SIZE
    caption(drawn, f"One row per task, {side} × {side} pixels each; above every picture the label that is right.")
    return drawn


def _rows(name: str, columns: int, seed: int) -> list[tuple[str, list[str], Tensor]]:
    """Title, labels in words and pictures of the rows of a task."""
    task, _ = photographs.get(name)
    few = task.few_shot(1, seed, 20 * columns)
    cue = few.test_cue
    parts = {"": torch.ones(len(few.test_labels), dtype=torch.bool)}
    if cue is not None:
        parts = {"\nuncued": ~cue, "\ncued": cue}
    found = []
    for more, own in parts.items():
        # Labels in turn, so that a row shows many of them.
        order = own.nonzero()[:columns, 0]
        words = [
            task.names[label].split()[-1 if "frame" in task.names[label] else 0] for label in few.test_labels[order]
        ]
        found.append((spelt(name).replace(" ", "\n") + more, words, few.test_images[order]))
    return found


def curve(record: dict) -> Figure:
    """Pre-training loss and zero-shot accuracy over steps."""
    table = pd.DataFrame(record["curve"])
    seen = len(record["data"]["seen"])
    drawn, axis = figure(6.4, 3.0)
    axis.plot(table["step"], table["loss"], color=COLOURS["blue"], lw=1.8)
    axis.set(xlabel="optimiser step", ylabel="contrastive loss (nats)", ylim=(0, None))
    twin = axis.twinx()
    twin.plot(table["step"], table["accuracy"], color=COLOURS["orange"], lw=1.4, ls="--")
    twin.set(ylabel="accuracy (%, dashed)", ylim=(0, None))
    twin.grid(False)
    first, last = table["loss"].iloc[[0, -1]]
    caption(
        drawn,
        f"Pre-training: the loss, at first with the classifier's, falls from {first:.2f} to {last:.2f} nats (guessing"
        f" costs {np.log(seen):.2f}), while zero-shot accuracy on {seen} classes, pictures held out, rises to"
        f" {table['accuracy'].iloc[-1]:.0f} % (dashed; chance is {100 / seen:.1f} %).",
    )
    return drawn
