"""What the whole experiment would cost on a real CLIP: every learner, every gate, eleven data sets, ten seeds.

A plan, not a measurement: the arithmetic of every training is counted from the sizes of the towers, and becomes time
and money by the :class:`Assumptions`, which are yours to change::

    python -m paper.scale --price 1.5 --busy 0.2 --gpus 64

What a training takes on a machine at hand is measured there, with one step of it (:mod:`paper.studies.cost`):
``make evidence PROFILE=real ROOT=FOLDER DRY=1``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, NamedTuple

import open_clip
import pandas as pd

from lib import checks
from lib.prompts import gates, learners, recipes, training
from paper.studies import base
from paper.words import format, names

BACKBONE = "ViT-B-16-quickgelu"
#: Gates that look at their own picture; their blind twins and the learners without a gate are trained beside them.
GATES = ("length", "depth", "both", "soft", "top_k", "gumbel")
#: The published recipe of each learner on sixteen pictures per class; BiMaPLe takes MaPLe's.
RECIPES = {
    "coop": "coop",
    "cocoop": "cocoop",
    "vpt_shallow": "vpt",
    "vpt": "vpt",
    "ivlp": "ivlp",
    "maple": "maple_50",
    "bimaple": "maple_50",
    "pool": "l2p",
}
TOKENS = 4


class DataSet(NamedTuple):
    """A data set of the few-shot benchmark: classes and test pictures."""

    classes: int
    tested: int


#: The eleven data sets on which CoOp was published (its appendix lists these sizes).
DATA = {
    "ImageNet": DataSet(1000, 50_000),
    "Caltech101": DataSet(100, 2_465),
    "OxfordPets": DataSet(37, 3_669),
    "StanfordCars": DataSet(196, 8_041),
    "Flowers102": DataSet(102, 2_463),
    "Food101": DataSet(101, 30_300),
    "FGVCAircraft": DataSet(100, 3_333),
    "SUN397": DataSet(397, 19_850),
    "DTD": DataSet(47, 1_692),
    "EuroSAT": DataSet(10, 8_100),
    "UCF101": DataSet(101, 3_783),
}


@dataclass(frozen=True)
class Assumptions:
    """What nobody can count beforehand. ``peak`` is the arithmetic of a GPU in single precision in TFLOP/s, without
    TF32, which evidence does not use (67 is what NVIDIA states of an H100 SXM); ``busy`` is the share of it that a
    program reaches, ``price`` a GPU hour in US dollars, ``gpus`` how many there are, ``memory`` that of one in GiB.
    ``words`` is the length of a class name in tokens, ``picture`` a picture's size on the disk in kB.
    """

    peak: float = 67.0
    busy: float = 0.35
    price: float = 2.5
    gpus: int = 8
    memory: float = 80.0
    seeds: int = 10
    shots: int = 16
    words: int = 6
    picture: float = 110.0

    def __post_init__(self) -> None:
        for one in fields(self):
            given = getattr(self, one.name)
            if one.type == "int":
                checks.integer(one.name, given, 1)
            else:
                checks.number(one.name, given, above=0)
        checks.number("busy", self.busy, above=0, high=1)


# ------------------------------------------------------------------------------------------------ arithmetic
def tower(layers: int, width: int, tokens: int, read: int | None = None) -> float:
    """FLOP of a transformer on one sequence, forward, a multiplication and an addition counted as two.

    A block multiplies every token with 12 width² weights and compares it with every other. Of the last block only the
    tokens that are ``read`` are computed, as this library does it; all of them without a number.
    """
    block = 24.0 * tokens * width**2 + 4.0 * tokens**2 * width
    if read is None:
        return layers * block
    last = 4.0 * tokens * width**2 + 20 * read * width**2 + 4 * read * tokens * width
    return (layers - 1) * block + last


@cache
def sizes() -> dict[str, Any]:
    """The backbone's sizes, as open_clip writes them."""
    return open_clip.get_model_config(BACKBONE)


def patches() -> int:
    """Tokens of a picture, its class token included."""
    vision = sizes()["vision_cfg"]
    return 1 + (vision.get("image_size", 224) // vision["patch_size"]) ** 2


def vision(prompts: int = 0) -> float:
    """FLOP of the vision tower on one picture with so many prompt tokens; cutting it into patches is left out."""
    own = sizes()["vision_cfg"]
    return tower(own["layers"], own["width"], patches() + prompts, 1)


def text(classes: int, name: int) -> float:
    """FLOP of the text tower on all class names behind one context, laid out as the learners do it."""
    own, group = sizes()["text_cfg"], learners.grouped(classes, name)
    sequences = -(-classes // group)
    return sequences * tower(own["layers"], own["width"], 1 + TOKENS + group * name, group)


class Work(NamedTuple):
    """FLOP of one training with its tests, part by part, and the bytes that a step of it keeps."""

    encoding: float
    text: float
    vision: float
    tests: float
    bytes: float

    @property
    def whole(self) -> float:
        """All parts."""
        return self.encoding + self.text + self.vision + self.tests


def work(learner: str, gate: str, data: DataSet, given: Assumptions) -> Work:
    """What one seed of a training computes.

    The weights of the towers are frozen, so a backward pass costs as much as a forward pass: gradients of activations,
    and none of weights. Where the prompts differ from picture to picture, the text tower runs for each of them.
    """
    design, own = learners.LEARNERS[learner], gate != "none"
    recipe = recipes.build(RECIPES[learner], data.classes, given.shots)
    batch = max(recipe.batch, 2)
    apart = own or design.conditional
    texts, visions = text(data.classes, given.words) * bool(design.text), vision(TOKENS) * design.sees
    left = min(training.VALIDATION, data.tested)
    encoded = data.tested / given.seeds + data.classes * given.shots * recipe.augment + left
    passes = (2, 1) if own else (0, 1)
    tested = data.tested + left
    tests = sum(passes) * tested * visions + (passes[0] + design.conditional) * tested * texts
    kept = learners.kept(
        design,
        batch,
        own,
        (
            sizes()["text_cfg"]["layers"],
            learners.laid_out(data.classes, given.words, TOKENS),
            sizes()["text_cfg"]["width"],
        ),
        (sizes()["vision_cfg"]["layers"], patches() + TOKENS, sizes()["vision_cfg"]["width"]),
    )
    return Work(
        encoded * vision(),
        2 * recipe.steps * (batch if apart else 1) * texts,
        2 * recipe.steps * batch * visions,
        tests,
        kept,
    )


def kinds() -> list[tuple[str, str]]:
    """Every learner with the gates that make sense for it, their blind twins, and none."""
    found = [(name, "none") for name in RECIPES]
    for name, gate in learners.pairs(tuple(RECIPES), GATES):
        found += [(name, gate), *([(name, gates.BLIND[gate])] if gate in gates.BLIND else [])]
    return found


PARTS = {
    "text": "the text tower in training",
    "vision": "the vision tower in training",
    "tests": "tests",
    "encoding": "encoding pictures before training",
}


def plan(given: Assumptions) -> pd.DataFrame:
    """A row for each cell (data set, learner, gate; all seeds together): its FLOP part by part, hours on one GPU, and
    GiB of a step of one seed.
    """
    rows = []
    for name, data in DATA.items():
        for learner, gate in kinds():
            own = work(learner, gate, data, given)
            parts = {
                part: given.seeds * getattr(own, part) for part in ("encoding", "text", "vision", "tests", "whole")
            }
            hours = parts["whole"] / (given.peak * 1e12 * given.busy) / 3600
            rows.append(
                {"data": name, "learner": learner, "gate": gate, **parts, "hours": hours, "gib": own.bytes / 2**30}
            )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------ in words
def _evidence() -> float:
    """Bytes that a cell of committed evidence takes, with where it comes from: one of the page on a fair trial."""
    table, record = (base.EVIDENCE / f"fair_trial.{end}" for end in ("csv", "json"))
    cells = len(json.loads(record.read_text(encoding="utf-8"))["cells"])
    return (table.stat().st_size + record.stat().st_size) / cells


def _table(frame: pd.DataFrame) -> str:
    """A table in Markdown; words stand to the left, numbers to the right."""
    numbers = ["---" if name in ("option", "what it is") else "---:" for name in frame.columns]
    lines = [list(frame.columns), ["---", *numbers[1:]], *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _hours(value: float) -> str:
    return format.number(value, 2)


def _grouped(cells: pd.DataFrame, by: str, heading: str, given: Assumptions) -> str:
    """Hours, money and share of the whole, by a column."""
    hours = cells.groupby(by, sort=False)["hours"].sum().sort_values(ascending=False)
    return _table(
        pd.DataFrame(
            {
                heading: [names.words(str(name)) for name in hours.index],
                "cells": [int((cells[by] == name).sum()) for name in hours.index],
                "GPU hours": [_hours(value) for value in hours],
                "US dollars": [format.number(value * given.price, 2) for value in hours],
                "share": [format.percent(value / hours.sum(), 2) for value in hours],
            }
        )
    )


def asked() -> str:
    """What "every learner with every gate" means, in a sentence."""
    makes_sense = [one for one in kinds() if one[1] in GATES]
    twins = len(kinds()) - len(makes_sense) - len(RECIPES)
    return (
        f"Of {len(RECIPES)} learners × {len(GATES)} gates {len(makes_sense)} pairs make sense: gates that choose"
        f" ({', '.join(names.words(one) for one in GATES if gates.GATES[one].selects)}) need a pool of prompts, the"
        f" others need prompts that are not one. To say what a gate is worth, {twins} blind twins and each learner"
        f" without a gate are trained beside them: {len(kinds())} trainings for each of {len(DATA)} data sets."
    )


def summary(given: Assumptions = Assumptions()) -> str:
    """The answer in a few sentences."""
    cells = plan(given)
    hours, without = cells.hours.sum(), cells[cells.data != "ImageNet"].hours.sum()
    pictures = sum(data.classes * given.shots + data.tested for data in DATA.values())
    stored = len(cells) * _evidence() / 2**20
    return (
        f"**{format.number(hours, 2)} GPU hours, {format.number(hours * given.price, 2)} US dollars**: that is what"
        f" {len(cells):,} cells of {given.seeds} seeds each take, {len(cells) * given.seeds:,} trainings."
        f" On {given.gpus} GPUs it is {format.duration(hours / given.gpus * 3600)}. Without ImageNet"
        f" it is {format.number(without, 2)} GPU hours, {format.number(without * given.price, 2)} US dollars."
        f" What is kept is small: about {format.number(stored, 2)} MiB of evidence, and"
        f" {format.number(pictures * given.picture / 1e6, 2)} GB of pictures to read"
        f" ({pictures:,} of {format.number(given.picture)} kB)."
    )


def assumed(given: Assumptions = Assumptions()) -> str:
    """The assumptions as a table."""
    about = {
        "peak": "TFLOP/s of a GPU in single precision without TF32",
        "busy": "share of it that is reached",
        "price": "US dollars for a GPU hour",
        "gpus": "GPUs at once",
        "memory": "GiB of memory of a GPU",
        "seeds": "seeds of every training",
        "shots": "pictures per class",
        "words": "tokens of a class name",
        "picture": "kB of a picture on the disk",
    }
    return _table(
        pd.DataFrame(
            {
                "option": [f"`--{name}`" for name in about],
                "value": [format.number(getattr(given, name)) for name in about],
                "what it is": list(about.values()),
            }
        )
    )


def by_data(given: Assumptions = Assumptions()) -> str:
    """The plan by data set."""
    return _grouped(plan(given), "data", "data set", given)


def by_learner(given: Assumptions = Assumptions()) -> str:
    """The plan by learner."""
    return _grouped(plan(given), "learner", "learner", given)


def bottleneck(given: Assumptions = Assumptions()) -> str:
    """What takes the time, in sentences."""
    cells = plan(given)
    parts = {name: cells[part].sum() for part, name in PARTS.items()}
    shares = ", ".join(
        f"{format.percent(value / cells.whole.sum(), 2)} {name}"
        for name, value in sorted(parts.items(), key=lambda one: -one[1])
    )
    own = work("coop", "length", DATA["ImageNet"], given)
    plain = work("coop", "none", DATA["ImageNet"], given)
    return (
        f"The arithmetic goes into {shares}. The dearest part is a gate on *text* prompts: with prompts of its own for"
        f" every picture, the text tower reads all class names again for each of them. On ImageNet's"
        f" {DATA['ImageNet'].classes:,} classes CoOp with a gate computes"
        f" {format.number(own.whole / plain.whole, 2)} times what CoOp without one does."
    )


def split(given: Assumptions = Assumptions()) -> str:
    """How the work divides over GPUs, in sentences."""
    cells = plan(given)
    room = given.memory / 2
    together = int(room // cells.gib.max())
    many = (cells.gib * given.seeds <= room).mean()
    bound = cells.hours.sum() / cells.hours.max()
    alone = (
        f"the hungriest seed keeps {format.number(cells.gib.max(), 2)} GiB in a step,"
        f" so {together} of them are trained at once"
        if together
        else f"the hungriest seed keeps {format.number(cells.gib.max(), 2)} GiB in a step and needs a smaller batch"
    )
    longest = cells.loc[cells.hours.idxmax()]
    return (
        f"Cells know nothing of each other: {len(cells):,} jobs, in any order, on any machines, resumed one by one. The"
        f" longest ({names.words(longest.learner)} with the gate {names.words(longest.gate)} on {longest.data}) takes"
        f" {format.duration(longest.hours * 3600)}; it bounds the whole from below, so more than"
        f" {format.number(bound, 2)} GPUs bring nothing unless its seeds are cells of their own. Inside of a cell"
        f" seeds share a batch: with half of {format.number(given.memory)} GiB for it,"
        f" {format.percent(many, 2)} of the cells train all {given.seeds} seeds at once; {alone}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    command = argparse.ArgumentParser(prog="python -m paper.scale", description=(__doc__ or "").splitlines()[0])
    plain = Assumptions()
    for one in fields(Assumptions):
        value = getattr(plain, one.name)
        command.add_argument(f"--{one.name}", type=type(value), default=value, help=f"(default: {value})")
    try:
        given = Assumptions(**vars(command.parse_args(arguments)))
    except checks.ParameterError as refused:
        command.exit(2, f"{refused}\n")
    print(asked())
    for part in (summary, assumed, by_data, by_learner, bottleneck, split):
        print(f"\n{part(given)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
