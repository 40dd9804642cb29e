"""The trainings that the pages on prompts share: every learner x gate x task, all seeds as one batch.

`gradient_imbalance`, `gate_degradation` and `gate_value` look at the same trainings from three sides. What
one page has trained is stored and serves the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lib import checks
from lib.prompts import backbone as backbones
from lib.prompts import gates, learners, tasks, training
from lib.results import Store, code_version
from lib.runtime import resolve_device
from lib.studies.base import Study

CODE = ("prompts", "gradients", "replicas", "runtime", "studies.gating")
KEYS = ["learner", "gate", "task", "seed"]


@dataclass(frozen=True, kw_only=True)
class PromptStudy(Study):
    """Parameters that the pages on prompts share::

        task, learner         names, comma-separated or as a list
        seeds                 number of seeds, 0 to seeds - 1
        shots, steps, batch   pictures per class, optimiser steps, pictures per step
        rate, optimiser       peak learning rate; "sgd" or "adam"
        tokens, prompt_std    learned tokens per layer and their initial standard deviation
        strength              strength of the conflict task
        test_size             test pictures per task
        backbone, pretrained  as in lib.prompts.backbone.load

    Words and numbers are checked when the study is made, before anything is loaded.
    """

    task: str | Sequence[str] = "coarse,fine,shift,mis_specified"
    learner: str | Sequence[str] = "coop,maple"
    seeds: int = 5
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

    def check(self) -> None:
        """Refuses what cannot be trained, before anything is loaded."""
        for name, allowed in (("task", tasks.TASKS), ("learner", learners.LEARNERS)):
            object.__setattr__(self, name, checks.choices(name, getattr(self, name), allowed))
        checks.integer("seeds", self.seeds, 1, 1000)
        checks.integer("shots", self.shots, 1, tasks.POOL)
        checks.integer("tokens", self.tokens, 1)
        checks.number("prompt_std", self.prompt_std, above=0)
        checks.number("strength", self.strength, 0, 1)
        checks.integer("test_size", self.test_size, 2, 100_000)
        self.recipe()
        backbones.check(self.backbone, self.pretrained)

    def recipe(self, **changes: object) -> training.Recipe:
        """The training recipe; ``changes`` replace single entries."""
        own = {name: getattr(self, name) for name in ("steps", "batch", "rate", "optimiser")}
        return training.Recipe(**(own | changes))

    def load(self) -> backbones.Backbone:
        """The frozen backbone on the study's device."""
        return backbones.load(self.backbone, self.pretrained, resolve_device(self.device))


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

    def recipe(self, **changes: object) -> training.Recipe:
        """The training recipe with the gate's own rate; ``changes`` replace single entries."""
        return super().recipe(**({"gate_rate": self.gate_rate} | changes))

    def cells(self) -> list[tuple[str, str, str]]:
        """Every (learner, gate, task) of the study: selectors with the pool, other gates with other learners."""
        chosen = learners.pairs(self.learner, self.gate)
        return [(learner, gate, task) for learner, gate in chosen for task in self.task]

    def trainings(self, bench: Bench) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Trajectories and test accuracies of all gated cells."""
        parts = [bench.run(learner, gate, task, self.recipe()) for learner, gate, task in self.cells()]
        return tuple(pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))


class Bench:
    """Runs trainings of a :class:`PromptStudy` or fetches them from the store; loads the backbone when needed."""

    def __init__(self, study: PromptStudy, store: Store) -> None:
        self.study, self.store = study, store

    @cached_property
    def backbone(self) -> backbones.Backbone:
        """The backbone, loaded on first use: a page whose trainings are stored never needs it."""
        return self.study.load()

    def run(
        self, learner: str, gate: str, task: str, recipe: training.Recipe, strength: float | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """One cell, all seeds: its trajectory (empty without a gate) and its accuracies per gate variant."""
        study = self.study
        strength = study.strength if strength is None else strength
        config = {
            "learner": learner,
            "gate": gate,
            "task": task,
            "seeds": list(range(study.seeds)),
            "shots": study.shots,
            "tokens": study.tokens,
            "prompt_std": study.prompt_std,
            "test_size": study.test_size,
            "backbone": study.backbone,
            "pretrained": study.pretrained,
            "strength": strength if task == "conflict" else None,
            "recipe": {name: getattr(recipe, name) for name in recipe.__dataclass_fields__},
            "weights": backbones.identity(study.backbone, study.pretrained),
            "code": code_version(*CODE),
        }

        def compute() -> pd.DataFrame:
            seeds = range(study.seeds)
            chosen = tasks.get(task, strength)
            prompt_learner = learners.Learner(
                learner,
                self.backbone,
                chosen.names,
                template=chosen.template,
                gate=gate,
                tokens=study.tokens,
                std=study.prompt_std,
            )
            sees = prompt_learner.design.sees
            data = training.prepare(self.backbone, chosen, study.shots, seeds, study.test_size, sees)
            trained = training.train(prompt_learner, data, recipe, seeds, label=f"{learner} {gate} {task}")
            scores = training.evaluate(trained).assign(
                diverged_at=lambda t: [int(trained.diverged_at[s]) for s in t["seed"]]
            )
            return pd.concat(
                [trained.trajectory.assign(part="trajectory"), scores.assign(part="accuracy")],
                ignore_index=True,
            )

        if gate == "none" or gates.GATES[gate].__module__ == gates.__name__:
            device = resolve_device(study.device)
            table = self.store.get_or_run("gating", config, compute, device=device, seeds=config["seeds"])
        else:
            # A reader's own gate may change from one run to the next; its source is not part of the key.
            table = compute()
        table = table.assign(learner=learner, gate=gate, task=task, steps=recipe.steps)
        # The two parts have columns of their own; each is empty in the rows of the other.
        parts = (table[table["part"] == part].drop(columns="part") for part in ("trajectory", "accuracy"))
        moving, final = (part.loc[:, part.notna().all() & (part != "").all()].reset_index(drop=True) for part in parts)
        return moving, final


def per_seed(table: pd.DataFrame, column: str) -> list[float]:
    """Mean of a column per seed: seeds are the independent units, cells are not."""
    return table.groupby("seed")[column].mean().tolist()
