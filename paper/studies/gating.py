"""The trainings that the pages on prompts share: every learner x gate x task, all seeds as one batch.

`gradient_imbalance`, `gate_degradation` and `gate_value` look at the same trainings from three sides. What
one page has trained is stored and serves the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from typing import NamedTuple

import pandas as pd

from lib import checks
from lib.prompts import backbone as backbones
from lib.prompts import data, gates, learners, tasks, training
from lib.results import Store, code_version
from lib.runtime import resolve_device
from paper.studies.base import Study

CODE = ("prompts", "gradients", "replicas", "runtime", "studies.gating")
KEYS = ["learner", "gate", "task", "seed"]
TOGETHER = {"cpu": 16, "cuda": 256}
"""Replicas that are trained as one batch: on a CPU more bring nothing, and what is finished is stored between batches.
"""


@dataclass(frozen=True)
class Cell:
    """One training for all seeds of a study. ``label`` is the reader's name for it and does not change it."""

    learner: str
    gate: str
    task: str
    recipe: training.Recipe = training.Recipe()
    setting: training.Setting = training.Setting()
    shots: int = 16
    strength: float = 1.0
    label: str = field(default="", compare=False)


PARTS = ("trajectory", "accuracy", "look", "watch")


class Tables(NamedTuple):
    """What a set of cells gives for every seed: a row per recorded step, per variant at the end, per closer look, and
    per step at which the gate was watched.
    """

    moving: pd.DataFrame
    final: pd.DataFrame
    looks: pd.DataFrame
    watched: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class PromptStudy(Study):
    """Parameters that the pages on prompts share::

        task, learner         names, comma-separated or as a list
        seeds                 number of seeds, 0 to seeds - 1
        shots, steps, batch   pictures per class, optimiser steps, pictures per step
        rate, optimiser       peak learning rate; "sgd" or "adam"
        tokens, prompt_std    learned tokens per layer and their initial standard deviation
        strength              strength of the conflict tasks
        test_size             test pictures per task
        backbone, pretrained  as in lib.prompts.backbone.load
        root, protocol        folder of real data sets; "few_shot" or "base_to_new" for them (lib.prompts.data)

    Words and numbers are checked when the study is made, before anything is loaded.
    """

    task: str | Sequence[str] = "coarse,fine,shift,mis_specified"
    learner: str | Sequence[str] = "coop,maple"
    seeds: int = 8
    shots: int = 16
    steps: int = 100
    batch: int = 4
    rate: float = 0.0035
    optimiser: str = "sgd"
    tokens: int = 4
    prompt_std: float = 0.02
    strength: float = 1.0
    test_size: int = 120
    backbone: str = backbones.NAME
    pretrained: str = "default"
    root: str = "data"
    protocol: data.Protocol = "few_shot"

    def check(self) -> None:
        """Refuses what cannot be trained, before anything is loaded."""
        for name, allowed in (("task", (*tasks.TASKS, *data.NAMES)), ("learner", learners.LEARNERS)):
            object.__setattr__(self, name, checks.choices(name, getattr(self, name), allowed))
        checks.choice("protocol", self.protocol, data.PROTOCOLS)
        checks.integer("seeds", self.seeds, 1, 1000)
        real = [self.find(task)[0] for task in self.task if task not in tasks.TASKS]
        checks.integer("shots", self.shots, 1, None if real else tasks.POOL)
        for task in real:
            task.enough(self.shots)
        checks.integer("tokens", self.tokens, 1)
        checks.number("strength", self.strength, 0, 1)
        checks.integer("test_size", self.test_size, 2, 100_000)
        self.recipe(), self.setting()
        backbones.check(self.backbone, self.pretrained)

    def recipe(self, **changes: object) -> training.Recipe:
        """The training recipe; ``changes`` replace single entries."""
        own = {name: getattr(self, name) for name in ("steps", "batch", "rate", "optimiser")}
        return training.Recipe(**(own | changes))

    def setting(self, **changes: object) -> training.Setting:
        """What the study sets beside the recipe; ``changes`` replace single entries."""
        return training.Setting(**({"prompt_std": self.prompt_std} | changes))

    def cell(self, learner: str, gate: str, task: str, **changes: object) -> Cell:
        """One cell with the study's recipe, setting, shots and strength; ``changes`` replace single entries."""
        # Without a gate only the prompts can be set: the same training serves studies of different gates.
        setting = self.setting() if gate != "none" else training.Setting(prompt_std=self.prompt_std)
        own = {"recipe": self.recipe(), "setting": setting, "shots": self.shots, "strength": self.strength}
        return Cell(learner, gate, task, **(own | changes))

    def find(self, name: str, strength: float = 1.0) -> tuple[tasks.Task | data.RealTask, data.RealTask | None]:
        """The task of that name, and for a real data set under base_to_new the task of its new classes."""
        return (tasks.get(name, strength), None) if name in tasks.TASKS else _real(name, self.root, self.protocol)

    def load(self) -> backbones.Backbone:
        """The frozen backbone on the study's device."""
        return backbones.load(self.backbone, self.pretrained, resolve_device(self.device))


@cache
def _real(name: str, root: str, protocol: data.Protocol) -> tuple[data.RealTask, data.RealTask | None]:
    """A data set is listed once a session, not at every mention."""
    return data.get(name, root, protocol)


@dataclass(frozen=True, kw_only=True)
class GateStudy(PromptStudy):
    """A study of gated learners: ``gate`` names gates, ``gate_rate`` multiplies the learning rate of what is theirs."""

    gate: str | Sequence[str] = "length,depth"
    gate_rate: float = 1.0

    def check(self) -> None:
        """Refuses what cannot be trained, before anything is loaded."""
        super().check()
        object.__setattr__(self, "gate", checks.choices("gate", self.gate, gates.GATES))
        learners.pairs(self.learner, self.gate)

    def setting(self, **changes: object) -> training.Setting:
        """What the study sets beside the recipe, the gate's rate included; ``changes`` replace single entries."""
        return super().setting(**({"gate_rate": self.gate_rate} | changes))

    def cells(self) -> list[Cell]:
        """Every learner, gate and task of the study: selectors with the pool, other gates with other learners."""
        chosen = learners.pairs(self.learner, self.gate)
        return [self.cell(learner, gate, task) for learner, gate in chosen for task in self.task]


class Bench:
    """Runs trainings of a :class:`PromptStudy` or fetches them from the store; loads the backbone when needed."""

    def __init__(self, study: PromptStudy, store: Store) -> None:
        self.study, self.store = study, store

    @cached_property
    def backbone(self) -> backbones.Backbone:
        """The backbone, loaded on first use: a page whose trainings are stored never needs it."""
        return self.study.load()

    def run(self, cells: Sequence[Cell]) -> Tables:
        """All cells for all seeds: what is stored is fetched, the rest is trained in batches of one learner.

        Tables have the columns learner, gate, task, strength, shots, steps and label in front; a gate's trajectory and
        looks are empty for learners without one.
        """
        # A reader's own gate may change from one run to the next; its source is not part of the key.
        stored, fresh = [], []
        for cell in dict.fromkeys(cells):
            ours = cell.gate == "none" or gates.GATES[cell.gate].__module__ == gates.__name__
            (stored if ours else fresh).append(cell)

        def compute(missing: list[int]) -> Iterator[dict[int, pd.DataFrame]]:
            for group in self._train_all([stored[place] for place in missing]):
                yield {missing[i]: table for i, table in group.items()}

        tables = {fresh[i]: table for group in self._train_all(fresh) for i, table in group.items()}
        kept = self.store.get_or_run_all(
            "gating",
            [self._config(cell) for cell in stored],
            compute,
            device=resolve_device(self.study.device),
            seeds=list(range(self.study.seeds)),
        )
        tables |= dict(zip(stored, kept, strict=True))
        named = [
            tables[c].assign(
                learner=c.learner,
                gate=c.gate,
                task=c.task,
                strength=c.strength,
                shots=c.shots,
                steps=c.recipe.steps,
                label=c.label,
            )
            for c in cells
        ]
        table = pd.concat(named, ignore_index=True)
        # The parts have columns of their own; each is empty in the rows of the others.
        parts = (table[table["part"] == part].drop(columns="part") for part in PARTS)
        return Tables(*(part.loc[:, _filled(part)].reset_index(drop=True) for part in parts))

    def _config(self, cell: Cell) -> dict[str, object]:
        study = self.study
        return {
            "learner": cell.learner,
            "gate": cell.gate,
            "task": cell.task,
            "seeds": list(range(study.seeds)),
            "shots": cell.shots,
            "tokens": study.tokens,
            "test_size": study.test_size,
            "backbone": study.backbone,
            "pretrained": study.pretrained,
            "strength": cell.strength if cell.task in tasks.GRADED else None,
            "data": None if cell.task in tasks.TASKS else [study.protocol, study.find(cell.task)[0].identity()],
            "recipe": asdict(cell.recipe),
            "setting": asdict(cell.setting),
            "weights": backbones.identity(study.backbone, study.pretrained),
            "code": code_version(*CODE),
        }

    def _train_all(self, cells: Sequence[Cell]) -> Iterator[dict[int, pd.DataFrame]]:
        """Batches of cells of one learner, gate and recipe, tasks of a size side by side; tables by place.

        A real data set keeps to itself: its test pictures are as many as it has.
        """
        device = resolve_device(self.study.device)
        size = max(1, TOGETHER.get(device.type, TOGETHER["cpu"]) // self.study.seeds)
        alike: dict[tuple, list[tuple[int, Cell]]] = {}
        for place, cell in enumerate(cells):
            own = "" if cell.task in tasks.TASKS else cell.task
            alike.setdefault((cell.learner, cell.gate, cell.recipe, own), []).append((place, cell))
        for group in alike.values():
            group.sort(key=lambda entry: (len(self.study.find(entry[1].task)[0].names), entry[0]))
            for start in range(0, len(group), size):
                yield self._train(group[start : start + size])

    def _train(self, group: list[tuple[int, Cell]]) -> dict[int, pd.DataFrame]:
        """Trains some cells as one batch."""
        study, first = self.study, group[0][1]
        found = {(c.task, c.strength): study.find(c.task, c.strength) for _, c in group}
        chosen = {key: task for key, (task, _) in found.items()}
        own, new = found[first.task, first.strength]
        learner = learners.Learner(
            first.learner, self.backbone, own.names, template=own.template, gate=first.gate, tokens=study.tokens
        )
        runs = [
            training.Replica(chosen[cell.task, cell.strength], seed, cell.setting, cell.shots)
            for _, cell in group
            for seed in range(study.seeds)
        ]
        prepared = training.prepare(learner, runs, study.test_size)
        named = ", ".join(dict.fromkeys(cell.task for _, cell in group))
        trained = training.train(learner, prepared, first.recipe, f"{first.learner} {first.gate} {named}")
        scores = training.evaluate(trained)
        scores["diverged_at"] = scores["replica"].map(dict(enumerate(trained.diverged_at.tolist())))
        if new is not None:
            scores["new"] = training.elsewhere(trained, new, study.test_size)["accuracy"]
            # In words of the field: the harmonic mean of base and new accuracy.
            both = scores["accuracy"] + scores["new"]
            scores["harmonic"] = 2 * scores["accuracy"] * scores["new"] / both.clip(lower=1e-9)
        tables = dict(zip(PARTS, (trained.trajectory, scores, trained.looks, trained.watched), strict=True))
        parted = {}
        for number, (place, _) in enumerate(group):
            mine = range(number * study.seeds, (number + 1) * study.seeds)
            parts = [
                table[table["replica"].isin(mine)].drop(columns="replica").assign(part=part)
                for part, table in tables.items()
                if len(table)
            ]
            parted[place] = pd.concat(parts, ignore_index=True)
        return parted


def _filled(table: pd.DataFrame) -> pd.Series:
    """Which columns hold something, or are named by every cell."""
    return (table.notna() & (table != "")).any() | table.columns.isin(["label"])


def per_seed(table: pd.DataFrame, column: str) -> list[float]:
    """Mean of a column per seed: seeds are the independent units, cells are not."""
    return table.groupby("seed")[column].mean().tolist()
