"""The trainings that the pages on prompts share: a cell for every learner, gate and task, all its seeds together.

`gradient_imbalance`, `gate_degradation` and `gate_value` look at the same trainings from three sides. What one page has
trained is stored and serves the next. The tasks are those of the backbone's pictures (:mod:`paper.studies.roles`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, cast

import open_clip
import pandas as pd
import torch

from lib import checks, pictures, replicas, results
from lib.prompts import backbone as backbones
from lib.prompts import data, gates, learners, recipes, tasks, training
from lib.results import Cell
from paper.studies import roles
from paper.studies.base import Study, changed, fits
from paper.studies.parameters import POSITIVE, STEPS, Number, OneOf, Place, Some, Text, Whole

KEYS = ["learner", "gate", "task", "seed"]

#: Bytes that drawing a picture of the world takes for each of its own, as measured.
DRAWN = 8

#: Types of parameters that the pages on prompts share.
TaskNames = Annotated[tuple[str, ...], Some(roles.NAMES)]
LearnerNames = Annotated[tuple[str, ...], Some(lambda: learners.LEARNERS)]
GateNames = Annotated[tuple[str, ...], Some(lambda: gates.GATES)]
Seeds = Annotated[int, Whole(1, 1000)]
Steps = Annotated[int, STEPS]
Count = Annotated[int, Whole(1, 100_000)]
Positive = Annotated[float, POSITIVE]
BackboneName = Annotated[str, Text("the name of a backbone")]
WeightsName = Annotated[str, Place("the name of weights or the path of a file", names=True)]


class Tables(NamedTuple):
    """What a set of cells gives for every seed: a row per recorded step, per variant at the end, per closer look, and
    per step at which the gate was watched.
    """

    trajectory: pd.DataFrame
    accuracy: pd.DataFrame
    looks: pd.DataFrame
    watched: pd.DataFrame


class PromptStudy(Study):
    """Parameters that the pages on prompts share::

        task, learner         names, comma-separated or as a list
        seeds                 number of seeds, 0 to seeds - 1
        shots, steps, batch   pictures per class, optimiser steps, pictures per step
        rate, optimiser       peak learning rate; "sgd" or "adam"
        published             "none", or a recipe of lib.prompts.recipes in place of steps, batch, rate and optimiser
        tokens, prompt_std    learned tokens per layer and their initial standard deviation
        strength              strength of the conflict tasks
        test_size             test pictures per task
        backbone, pretrained  as in lib.prompts.backbone.load
        root, protocol        folder of real data sets; "few_shot" or "base_to_new" for them (lib.prompts.data)

    Words and numbers are checked when the study is made, before anything is loaded.
    """

    task: TaskNames = ("coarse", "mis_specified")
    learner: LearnerNames = ("coop",)
    seeds: Seeds = 2
    shots: Count = 16
    steps: Steps = 100
    batch: Count = 4
    rate: Positive = 0.0035
    optimiser: Annotated[str, OneOf(("sgd", "adam"))] = "sgd"
    published: Annotated[str, OneOf(("none", *recipes.RECIPES))] = "none"
    tokens: Annotated[int, Whole(1, 1000)] = 4
    prompt_std: Positive = 0.02
    strength: Annotated[float, Number(0, 1)] = 1.0
    test_size: Annotated[int, Whole(2, 100_000)] = 120
    backbone: BackboneName = backbones.NAME
    pretrained: WeightsName = "default"
    root: Annotated[str, Place("the path of a folder")] = "data"
    protocol: Annotated[str, OneOf(data.PROTOCOLS)] = "few_shot"

    SIZES: ClassVar[tuple[str, ...]] = ("seeds", "test_size")
    PARTS: ClassVar[tuple[str, ...]] = ("task", "learner")
    #: Fields that name tasks.
    TASKS: ClassVar[tuple[str, ...]] = ("task",)
    #: Does every picture have prompts of its own, so that the text tower runs for each?
    GATED: ClassVar[bool] = True

    def check(self) -> None:
        """Refuses what cannot be trained, before anything is loaded."""
        self.has_tasks()
        # A data set is listed once a session, and again for the first study after a file has changed.
        if set(self.task) & set(data.NAMES) and changed(pictures.folder(self.root)):
            _real.cache_clear()
        found = {name: self.find(name) for name in self.task}
        held = [found[name][0] for name in self.task if not self.drawn(name)]
        checks.integer("shots", self.shots, 1, None if held else tasks.POOL)
        for task in held:
            task.enough(self.shots)
        self.recipe(), self.setting()
        self.fits_published()
        backbones.check(self.backbone, self.pretrained)
        self.room([name for tried in found.values() for part in tried if part is not None for name in part.names])
        self.step_fits("batch")
        if len(held) < len(self.task):
            fits(self.device, DRAWN * 12 * tasks.world.SIZE**2 * self.test_size, test_size=self.test_size)

    def config(self) -> dict[str, Any]:
        """The sizes of the backbone, as open_clip writes them."""
        if self.backbone in backbones.ELSEWHERE:
            return cast(dict[str, Any], backbones.ELSEWHERE[self.backbone].configuration)
        known = backbones.MINICLIP if self.backbone == backbones.NAME else open_clip.get_model_config(self.backbone)
        return cast(dict[str, Any], known)

    def longest(self, names: Sequence[str]) -> int:
        """Tokens of the longest class name, the end of the text included; nothing is loaded for it."""
        if self.backbone in backbones.ELSEWHERE:
            tokenizer = backbones.ELSEWHERE[self.backbone].tokenizer()
        elif self.backbone == backbones.NAME:
            tokenizer = backbones.WordTokenizer()
        else:
            tokenizer = open_clip.get_tokenizer(self.backbone)
        stop = "" if isinstance(tokenizer, backbones.WordTokenizer) else "."
        return int(tokenizer([f"{name}{stop}" for name in names]).argmax(1).max())

    def room(self, names: Sequence[str]) -> None:
        """Refuse more tokens than the context has room for in front of the class names."""
        if not any(learners.LEARNERS[name].text for name in self.learner):
            return
        context = self.config()["text_cfg"].get("context_length", 77)
        room = context - 1 - self.longest(names)
        if self.tokens > room:
            raise checks.ParameterError(
                f"tokens must leave room for class names in a context of {context} (at most {room}),"
                f" but {self.tokens} was given."
            )

    def step_bytes(self, learner: str, own: bool, names: Sequence[str], pictures: int) -> int:
        """Bytes that a step of one replica keeps (:func:`lib.prompts.learners.kept`) with these class names."""
        text, vision = self.config()["text_cfg"], self.config()["vision_cfg"]
        tokens = learners.laid_out(len(names), self.longest(names), self.tokens)
        patches = 1 + (vision.get("image_size", 224) // vision["patch_size"]) ** 2
        return learners.kept(
            learners.LEARNERS[learner],
            pictures,
            own,
            (text["layers"], tokens, text["width"]),
            (vision["layers"], patches + self.tokens, vision["width"]),
        )

    def step_fits(self, size: str) -> None:
        """Refuse a number of pictures in a step, the field ``size``, that needs more memory than there is; of replicas
        no more are trained at once than fit (:func:`lib.prompts.training.together`).
        """
        pictures = getattr(self, size)
        for learner in self.learner:
            need = max(self.step_bytes(learner, self.GATED, self.find(name)[0].names, pictures) for name in self.task)
            fits(self.device, need, **{size: pictures})

    def has_tasks(self) -> None:
        """Refuse tasks that the backbone's pictures do not have."""
        known = roles.known(self.backbone)
        for field in self.TASKS:
            if lost := [name for name in getattr(self, field) if name not in known]:
                raise checks.ParameterError(
                    f"{field} must be among {', '.join(known)} with backbone {self.backbone!r}, but {lost[0]!r} was"
                    " given."
                )

    def drawn(self, task: str) -> bool:
        """Is this a task of the procedural world?"""
        return self.backbone not in roles.WORLDS and task in tasks.TASKS

    def ready(self) -> None:
        """Refuses photographs that are missing, damaged or not those that are recorded."""
        for name in dict.fromkeys(name for field in self.TASKS for name in getattr(self, field)):
            for part in self.find(name):
                if hasattr(part, "open"):
                    part.open()

    def fits_published(self) -> None:
        """Refuse learners that the published recipe is not of."""
        if self.published == "none":
            return
        known = recipes.RECIPES[self.published].learner
        if other := [name for name in self.learner if name not in (known, "zero_shot")]:
            raise checks.ParameterError(
                f"published must be a recipe of every learner ({self.published!r} is of {known}), but {other[0]} was"
                " given with it."
            )

    def published_for(self, name: str, task: str, shots: int | None = None) -> training.Recipe:
        """The published recipe of that name in steps of a task."""
        return recipes.build(name, len(self.find(task)[0].names), self.shots if shots is None else shots)

    def recipe(self, **changes: Any) -> training.Recipe:
        """The training recipe; ``changes`` replace single entries."""
        own = {name: getattr(self, name) for name in ("steps", "batch", "rate", "optimiser")}
        return training.Recipe(**(own | changes))

    def setting(self, **changes: Any) -> training.Setting:
        """What the study sets beside the recipe; ``changes`` replace single entries."""
        return training.Setting(**({"prompt_std": self.prompt_std} | changes))

    def cell(
        self,
        learner: str,
        gate: str,
        task: str,
        *,
        recipe: training.Recipe | None = None,
        setting: training.Setting | None = None,
        shots: int | None = None,
        strength: float | None = None,
        protocol: str | None = None,
    ) -> Cell:
        """One training for all seeds, with the study's recipe, setting, shots, strength and protocol unless others are
        given.
        """
        if recipe is None and self.published != "none" and learner != "zero_shot":
            recipe = self.published_for(self.published, task, shots)
        # Without a gate only the prompts can be set: the same training serves studies of different gates.
        own = self.setting() if gate != "none" else training.Setting(prompt_std=self.prompt_std)
        trained = {
            "learner": learner,
            "design": design(learner),
            "gate": gate,
            "tokens": self.tokens,
            "test_size": self.test_size,
            "recipe": asdict(recipe or self.recipe()),
            **self.weights(),
            # Tasks of the world are trained side by side, a real one by itself: it has its own number of pictures.
            "data": self.data_of(task, protocol),
        }
        config = {
            **trained,
            "task": task,
            "strength": self.graded(task, strength),
            "shots": self.shots if shots is None else shots,
            "seeds": list(range(self.seeds)),
            "setting": asdict(setting or own),
        }
        return Cell(
            "training",
            config,
            train,
            batch=json.dumps(results.plain(trained), sort_keys=True),
            size=self.seeds,
            uses=self.uses(gate),
            site=self.site(),
        )

    # What decides a cell's numbers beside its own parameters ---------------------------------------------
    def graded(self, task: str, strength: float | None = None) -> float:
        """The strength of a task, the study's unless another is given; one where there is nothing to grade."""
        return float(self.strength if strength is None else strength) if task in roles.GRADED else 1.0

    def data_of(self, task: str, protocol: str | None = None) -> dict[str, Any] | None:
        """What tells a real data set from another, and from another copy of it; None for the procedural world."""
        if self.drawn(task):
            return None
        if self.backbone in roles.WORLDS:
            return roles.data_of(self.backbone, task, self.root, protocol or self.protocol)
        identities = [identity(part) for part in self.find(task, protocol=protocol) if part is not None]
        return {"name": task, "protocol": protocol or self.protocol, "identities": identities}

    def weights(self, pretrained: str | None = None) -> dict[str, str]:
        """What tells a backbone with its weights from another."""
        return {
            "backbone": self.backbone,
            "weights": backbones.identity(self.backbone, self.pretrained if pretrained is None else pretrained),
        }

    def site(self, pretrained: str | None = None) -> dict[str, str]:
        """Where pictures and weights lie."""
        return {"root": self.root, "pretrained": self.pretrained if pretrained is None else pretrained}

    def uses(self, *kinds: str) -> tuple[Any, ...]:
        """The classes of gates with these names, and where it is not ours to know the code of backbone and pictures."""
        return *(gates.GATES[kind] for kind in kinds if kind != "none"), *roles.uses(self.backbone)

    def shelf(self) -> str:
        """Photographs have files of their own."""
        return f"{self.notebook()}_photo" if self.backbone in roles.WORLDS else self.notebook()

    def find(self, name: str, strength: float = 1.0, protocol: str | None = None) -> tuple[Any, Any]:
        """The task of that name in the backbone's pictures, and under base_to_new the task of its new classes."""
        if self.backbone in roles.WORLDS:
            return roles.find(self.backbone, name, strength, self.root, protocol or self.protocol)
        return task_named(name, strength, self.root, protocol or self.protocol)

    def load(self) -> backbones.Backbone:
        """The frozen backbone on the study's device."""
        return loaded(self.weights(), {**self.site(), "device": self.place()})


class GateStudy(PromptStudy):
    """A study of gated learners: ``gate`` names gates, ``gate_rate`` multiplies the learning rate of what is theirs."""

    gate: GateNames = ("length",)
    gate_rate: Positive = 1.0

    PARTS: ClassVar[tuple[str, ...]] = ("task", "learner", "gate")

    def check(self) -> None:
        """Refuses what cannot be trained, before anything is loaded."""
        super().check()
        for _, kind in self.pairs():
            gates.GATES[kind](kind, 1, self.tokens, 1, pool=learners.POOL)

    def setting(self, **changes: Any) -> training.Setting:
        """What the study sets beside the recipe, the gate's rate included; ``changes`` replace single entries."""
        return super().setting(**({"gate_rate": self.gate_rate} | changes))

    def pairs(self) -> list[tuple[str, str]]:
        """Every learner with its gates: selectors with the pool, other gates with other learners."""
        return learners.pairs(self.learner, self.gate)

    def gated(self, **changes: Any) -> list[Cell]:
        """Every learner, gate and task of the study; ``changes`` as :meth:`PromptStudy.cell` takes them."""
        return [self.cell(learner, gate, task, **changes) for learner, gate in self.pairs() for task in self.task]


def design(learner: str) -> dict[str, Any]:
    """What a learner of this name is, apart from words: a part of every configuration that names it."""
    return {name: value for name, value in asdict(learners.LEARNERS[learner]).items() if name != "about"}


# ------------------------------------------------------------------------------------------------- computing
def task_named(name: str, strength: float, root: str, protocol: str) -> tuple[Any, data.RealTask | None]:
    """The task of that name, and for a real data set under base_to_new the task of its new classes."""
    return (tasks.get(name, strength), None) if name in tasks.TASKS else _real(name, root, protocol)


@cache
def _real(name: str, root: str, protocol: str) -> tuple[data.RealTask, data.RealTask | None]:
    return data.get(name, root, cast(data.Protocol, protocol))


@lru_cache(maxsize=16)
def identity(task: data.RealTask) -> str:
    """What tells one copy of a task from another: a hash over class names and over label, path and content of every
    picture (paths as they lie below the folder that holds them all).
    """
    held = (("train", task.train), ("test", task.test))
    every = [(part, label, one) for part, own in held for label, group in enumerate(own) for one in group]
    folders = [one.parent for _, _, one in every if isinstance(one, Path)]
    base = os.path.commonpath(folders) if folders else ""
    found = hashlib.sha256(repr((task.names, task.template, task.source)).encode())
    for part, label, one in every:
        known = one.relative_to(base).as_posix() if isinstance(one, Path) else repr(one.shape)
        try:
            found.update(repr((part, label, known, pictures.digest(one))).encode())
        except OSError as problem:
            raise checks.ParameterError(
                f"root must hold pictures that can be read, but {str(one)!r} was given ({problem.strerror})."
            ) from None
    return found.hexdigest()[:16]


def task_of(config: Mapping[str, Any], site: Mapping[str, Any]) -> tuple[Any, data.RealTask | None]:
    """The task of a cell with "task", "strength" and "data", as :meth:`PromptStudy.find` gives it."""
    if (config["data"] or {}).get("world") in tasks.ELSEWHERE:
        return tasks.ELSEWHERE[config["data"]["world"]].task_of(config, site)
    known = config["data"]
    found = task_named(config["task"], config["strength"], site["root"], known["protocol"] if known else "few_shot")
    if known and known["identities"] != [identity(part) for part in found if part is not None]:
        raise checks.ParameterError(
            f"root must hold the pictures that the study was made with, but {site['root']!r} with others was given."
        )
    return found


def loaded(config: Mapping[str, Any], site: Mapping[str, Any]) -> backbones.Backbone:
    """The backbone of a cell with "backbone" and "weights"; kept in memory, with one other."""
    return _loaded(config["backbone"], site["pretrained"], config["weights"], site["device"])


@lru_cache(maxsize=2)
def _loaded(backbone: str, pretrained: str, weights: str, device: str) -> backbones.Backbone:
    return backbones.load(backbone, pretrained, torch.device(device))


def train(configs: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> list[results.Tables]:
    """Train the cells of one batch side by side; what they do not share is task, setting, shots and seeds.

    Tables (those that have rows): "trajectory" and "watched" (a row per seed and step), "accuracy" (a row per seed and
    variant of the gate), "looks" (a row per seed and closer look).
    """
    first = configs[0]
    tried = [task_of(config, site) for config in configs]
    # Equal tasks are one object: replicas share its pictures.
    chosen = {(config["task"], config["strength"]): task for config, (task, _) in zip(configs, tried, strict=True)}
    own, new = tried[0]
    learner = learners.Learner(
        first["learner"],
        loaded(first, site),
        own.names,
        template=own.template,
        gate=first["gate"],
        tokens=first["tokens"],
    )
    runs = [
        training.Replica(
            chosen[config["task"], config["strength"]], seed, training.Setting(**config["setting"]), config["shots"]
        )
        for config in configs
        for seed in config["seeds"]
    ]
    recipe = training.Recipe(**{**first["recipe"], "looks": tuple(first["recipe"]["looks"])})
    named = ", ".join(dict.fromkeys(config["task"] for config in configs))
    prepared = training.prepare(learner, runs, first["test_size"], recipe.augment)
    trained = training.train(learner, prepared, recipe, f"{first['learner']} {first['gate']} {named}")
    scores = training.evaluate(trained)
    told = {"diverged_at": trained.diverged_at.tolist(), "validation": trained.validated()}
    if trained.params:
        told["moved"] = replicas.moved(training.initial(learner, prepared), trained.params).tolist()
        told |= trained.settled()
    scores = scores.assign(**{name: scores["replica"].map(dict(enumerate(v))) for name, v in told.items()})
    # What is held still or shuffled is never chosen by.
    scores.loc[~scores["variant"].isin(["gated", "fixed"]), "validation"] = float("nan")
    if new is not None:
        scores["new"] = training.elsewhere(trained, new, first["test_size"])["accuracy"]
        # In words of the field: the harmonic mean of base and new accuracy.
        both = scores["accuracy"] + scores["new"]
        scores["harmonic"] = 2 * scores["accuracy"] * scores["new"] / both.clip(lower=1e-9)
    tables = Tables(trained.trajectory, scores, trained.looks, trained.watched)
    return _parted(tables, [len(config["seeds"]) for config in configs])


def accuracies(configs: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> list[results.Tables]:
    """Train the cells of one batch as :func:`train` does, and keep "accuracy" alone."""
    return [{"accuracy": tables["accuracy"]} for tables in train(configs, site)]


def scored(cell: Cell) -> Cell:
    """The same training, of which the accuracies alone are kept: its way there is not looked at."""
    return cell if cell.config["gate"] == "none" else replace(cell, kind="accuracy", compute=accuracies)


def _parted(tables: Tables, counts: Sequence[int]) -> list[results.Tables]:
    """The tables of so many replicas each."""
    parted, start = [], 0
    for count in counts:
        mine = range(start, start + count)
        own = {
            name: table[table["replica"].isin(mine)].drop(columns="replica").reset_index(drop=True)
            for name, table in tables._asdict().items()
            if len(table)
        }
        parted.append(own)
        start += count
    return parted


# -------------------------------------------------------------------------------------------------- judging
def assembled(found: Mapping[Cell, results.Tables], cells: Sequence[tuple[str, Cell]]) -> Tables:
    """The tables of some cells, each with a label of the reader's.

    In front stand the columns learner, gate, task, strength, shots, steps, label; a gate's trajectory and looks are
    empty for learners without one. Other tables of a cell are left alone.
    """
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in Tables._fields}
    for label, cell in cells:
        named = {name: cell.config[name] for name in ("learner", "gate", "task", "strength", "shots")}
        named |= {"steps": cell.config["recipe"]["steps"], "label": label}
        for name in parts.keys() & found[cell].keys():
            table = found[cell][name]
            parts[name].append(pd.concat([pd.DataFrame(named, index=table.index), table], axis=1))
    return Tables(**{name: pd.concat(own, ignore_index=True) if own else pd.DataFrame() for name, own in parts.items()})


def per_seed(table: pd.DataFrame, column: str) -> list[float]:
    """Mean of a column per seed: seeds are the independent units, cells are not. A value that is none leaves none."""
    return table.groupby("seed")[column].mean(skipna=False).tolist()
