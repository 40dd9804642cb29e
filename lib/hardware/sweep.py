"""One perturbation over severities, seeds and backward rules: the tables that the studies read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.hardware import training
from lib.hardware.diagnostics import diagnose
from lib.hardware.perturbations import Perturbation
from lib.replicas import Optimiser, Tree


def crest(params: Tree) -> Tensor:
    """How far the largest weight stands out [replicas]: its size over the root mean square, mean over layers.

    The largest weight sets the scale between weights and conductances, and with it what a device's error means.
    """
    ratios = [
        (value.abs().amax((1, 2)) / value.square().mean((1, 2)).sqrt()).cpu()
        for name, value in params.items()
        if name.startswith("weight.")
    ]
    return torch.stack(ratios).mean(0)


@dataclass(frozen=True)
class Sweep:
    """All runs of a perturbation. ``warm_up`` steps of clean training lead to the fork, ``steps`` follow it.

    What the rules share, the fork and the clean networks, is trained once, when first needed.
    """

    physics: Perturbation
    severities: Sequence[float]
    seeds: Sequence[int]
    chips: int
    warm_up: int
    steps: int
    gradients: int
    device: torch.device

    @cached_property
    def start(self) -> Tree:
        """The networks at the fork [seeds, ...]."""
        return training.fork(self.seeds, self.warm_up, self.device)

    @cached_property
    def clean(self) -> Tree:
        """The networks that never see hardware in training [seeds, ...]."""
        return training.train_clean(self.start, self.seeds, self._optimiser, self.warm_up)

    @property
    def _optimiser(self) -> Optimiser:
        return Optimiser("adam", training.RATE, self.steps)

    def accuracy(self, rule: str) -> pd.DataFrame:
        """Test accuracy on unseen chips after training by ``rule``, one row for each seed and severity.

        Columns: ``clean`` without hardware; ``accuracy`` mean, ``low`` 5th percentile and ``spread`` standard
        deviation over ``chips``; ``steps`` in all; ``crest``; ``diverged_at`` a step, or -1.
        """
        repeat = len(self.severities)
        names = [(seed, float(severity)) for severity in self.severities for seed in self.seeds]
        diverged = torch.full((len(names),), -1)
        if rule == "unaware":
            params = training.tiled(self.clean, repeat)
        else:
            trained = training.train_aware(
                self.start, self.physics, rule, self.severities, self.seeds, self._optimiser, self.warm_up
            )
            params, diverged = trained.params, trained.diverged_at
        seen = training.accuracy_on_chips(params, self.physics, self.severities, self.seeds, self.chips).numpy()
        return pd.DataFrame(
            {
                "perturbation": self.physics.name,
                "rule": rule,
                "severity": [severity for _, severity in names],
                "seed": [seed for seed, _ in names],
                "steps": self.warm_up + self.steps,
                "chips": seen.shape[1],
                "clean": training.accuracy(self.clean).repeat(repeat).numpy(),
                "accuracy": seen.mean(1),
                "low": np.percentile(seen, 5, axis=1),
                "spread": seen.std(1),
                "crest": crest(params).numpy(),
                "diverged_at": diverged.numpy(),
            }
        )

    def diagnostics(self, rule: str) -> pd.DataFrame:
        """The diagnostics of ``rule`` at the fork (see :func:`~lib.hardware.diagnostics.diagnose`)."""
        table = diagnose(self.start, self.physics, rule, self.severities, self.seeds, self.gradients)
        table.insert(0, "perturbation", self.physics.name)
        table.insert(1, "rule", rule)
        return table
