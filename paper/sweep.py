"""One perturbation over severities, seeds and backward rules: the tables that the studies read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.hardware.diagnostics import diagnose
from lib.hardware.perturbations import Perturbation
from lib.hardware.training import RATE, Trainer, tiled
from lib.replicas import Optimiser, Tree, moved


def crest(weights: Tree) -> Tensor:
    """How far the largest weight stands out [replicas]: its size over the root mean square, mean over layers.

    The largest weight sets the scale between weights and conductances, and with it what a device's error means.
    """
    flat = [value.flatten(1) for value in weights.values()]
    return torch.stack([(value.abs().amax(1) / value.square().mean(1).sqrt()).cpu() for value in flat]).mean(0)


@dataclass(frozen=True)
class Fork:
    """Where all runs of a study part: ``warm_up`` steps of clean training lead here, ``steps`` follow.

    What the runs share, the networks here and the clean ones, is trained once, when first needed.
    """

    trainer: Trainer
    seeds: Sequence[int]
    warm_up: int
    steps: int
    device: torch.device

    @cached_property
    def start(self) -> Tree:
        """The networks at the fork [seeds, ...]."""
        return self.trainer.fork(self.seeds, self.warm_up, self.device)

    @cached_property
    def clean(self) -> Tree:
        """The networks that never see hardware in training [seeds, ...]."""
        return self.trainer.train_clean(self.start, self.seeds, self.optimiser, self.warm_up)

    @property
    def optimiser(self) -> Optimiser:
        """What trains from here on."""
        return Optimiser("adam", RATE, self.steps)


@dataclass(frozen=True)
class Sweep:
    """All runs of a perturbation from one fork. ``judge`` is the hardware that networks are judged on, where it is not
    the one that they are trained through.
    """

    fork: Fork
    physics: Perturbation
    severities: Sequence[object]
    chips: int = 25
    gradients: int = 32
    judge: Perturbation | None = None

    def trained(self, rule: str, known: bool = False, clip: float | None = None) -> tuple[Tree, Tensor]:
        """Networks [severities x seeds, ...] after training by ``rule``, and the step at which each diverged (-1)."""
        fork = self.fork
        if rule == "unaware":
            clean = fork.clean if clip is None else fork.trainer.clipped(fork.clean, clip)
            params = tiled(clean, len(self.severities))
            return params, torch.full((len(next(iter(params.values()))),), -1)
        given = (fork.start, self.physics, rule, self.severities, fork.seeds, fork.optimiser, fork.warm_up)
        trained = fork.trainer.train_aware(*given, known=known, clip=clip)
        return trained.params, trained.diverged_at

    def accuracy(self, rule: str, known: bool = False, clip: float | None = None) -> pd.DataFrame:
        """Test accuracy on unseen chips after training by ``rule``, one row for each seed and severity.

        Columns: ``severity``, or of a composed chip ``severity_PART`` for each part and the ``chip_index``; ``clean``
        without hardware; ``accuracy`` mean, ``low`` 5th percentile and ``spread`` standard deviation over ``chips``;
        ``first`` accuracy on the first of them; ``steps`` in all; ``crest``; ``diverged_at`` a step, or -1; how far the
        weights have ``moved`` from the fork. ``known``: trained on the first chip, and judged on that one only.
        ``clip``: weights cut off at so many standard deviations, in training or (unaware) when it is over.
        """
        params, diverged = self.trained(rule, known, clip)
        fork, chips = self.fork, 1 if known else self.chips
        seen = fork.trainer.accuracy_on_chips(
            params,
            self.judge or self.physics,
            self.severities,
            fork.seeds,
            chips,
            start=fork.start,
            statistics="each chip" if known else "off chip" if rule == "unaware" else "another chip",
        ).numpy()
        clean = fork.trainer.accuracy(fork.clean).repeat(len(self.severities)).numpy()
        columns = {
            "perturbation": self.physics.name,
            "rule": f"{rule}, known chip" if known else rule,
            **self._names(),
            "steps": fork.warm_up + fork.steps,
            "chips": seen.shape[1],
            "clean": clean,
            "accuracy": seen.mean(1),
            "low": np.percentile(seen, 5, axis=1),
            "spread": seen.std(1),
            "first": seen[:, 0],
            "crest": crest(fork.trainer.network.weights(params)).numpy(),
            "diverged_at": diverged.numpy(),
            "moved": self.moved(params).numpy(),
        }
        return pd.DataFrame(columns)

    def moved(self, params: Tree) -> Tensor:
        """How far the weights of networks [severities x seeds] have moved from the fork."""
        weights = self.fork.trainer.network.weights
        return moved(weights(tiled(self.fork.start, len(self.severities))), weights(params))

    def diagnostics(self, rule: str) -> pd.DataFrame:
        """The diagnostics of ``rule`` at the fork (see :func:`~lib.hardware.diagnostics.diagnose`)."""
        given = (self.fork.start, self.physics, rule, self.severities, self.fork.seeds, self.gradients)
        table = diagnose(self.fork.trainer, *given)
        table.insert(0, "perturbation", self.physics.name)
        table.insert(1, "rule", rule)
        return table

    def _names(self) -> dict[str, list]:
        """Severity and seed of every replica."""
        rows = [
            {**self.physics.columns(place, severity), "seed": seed}
            for place, severity in enumerate(self.severities)
            for seed in self.fork.seeds
        ]
        return {name: [row[name] for row in rows] for name in rows[0]}
