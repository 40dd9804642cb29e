"""Is the gate's gradient smaller than the prompts', by how much, and where does it get lost?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from lib.prompts import learners, tasks, training
from lib.prompts.backbone import Backbone, identity, load
from lib.prompts.data import RealTask
from lib.prompts.diagnosis import FACTORS
from lib.prompts.learners import Learner
from lib.prompts.tasks import Task
from lib.results import Store, code_version, provenance
from lib.runtime import resolve_device, stream
from lib.verdicts import Findings, judge
from paper.studies.base import Result
from paper.studies.gating import CODE, Bench, GateStudy, per_seed

REPORTED = 2.60
"""Magnitude gap in decades that the first source paper is quoted with for its gated MaPLe."""


SURVEYED = ("length", "depth", "both", "soft", "top_k", "gumbel")
"""Gates whose gap is measured with every learner before training."""
SURVEYED_LEARNERS = tuple(name for name in learners.LEARNERS if name != "zero_shot")


@dataclass(frozen=True, kw_only=True)
class GradientImbalance(GateStudy):
    """Gap between prompt and gate gradient along training, taken apart into factors.

    Tables: ``gaps`` (a row per learner, gate, task, seed, recorded step: gap and factors in decades), ``null`` (the
    same at the first step on a backbone with random weights) and ``survey`` (at the first step on the trained one, for
    every learner with each of the gates :data:`SURVEYED`).
    """

    KEYS = ("learner", "gate", "task", "step")
    TOLERANCES = {"gap": 0.5}

    def run(self) -> Result:
        store = self.store()
        gaps = Bench(self, store).run(self.cells()).moving
        null_gaps = self._before(store, "null", "random", [(c.learner, c.gate) for c in self.cells()])
        survey = self._before(store, "survey", self.pretrained, learners.pairs(SURVEYED_LEARNERS, SURVEYED))
        start = gaps[gaps["step"] == 0]
        device = resolve_device(self.device)
        return Result(
            {"gaps": gaps, "null": null_gaps, "survey": survey},
            self._findings(gaps, start, null_gaps, survey),
            provenance(device, list(range(self.seeds)), store.seconds),
        )

    def _before(self, store: Store, kind: str, weights: str, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
        """The gap before training with these weights, for all pairs of learner and gate and all tasks."""
        device = resolve_device(self.device)
        pairs = list(dict.fromkeys(pairs))

        def compute() -> pd.DataFrame:
            backbone = load(self.backbone, weights, device)
            return pd.concat(
                [
                    gap_before_training(
                        backbone,
                        learner=learner,
                        gate=gate,
                        task=self.find(task, self.strength)[0],
                        seeds=self.seeds,
                        tokens=self.tokens,
                        batch=self.batch,
                        prompt_std=self.prompt_std,
                    ).assign(learner=learner, gate=gate, task=task)
                    for learner, gate in pairs
                    for task in self.task
                ],
                ignore_index=True,
            )

        names = ("task", "seeds", "prompt_std", "tokens", "batch", "strength", "backbone", "protocol")
        config = {name: value for name, value in self.config().items() if name in names}
        config |= {
            "pairs": pairs,
            "weights": identity(self.backbone, weights),
            "data": [self.find(task)[0].identity() for task in self.task if task not in tasks.TASKS],
            "code": code_version(*CODE, "studies.gradient_imbalance"),
        }
        return store.get_or_run(kind, config, compute, device=device, seeds=list(range(self.seeds)))

    @staticmethod
    def _findings(gaps: pd.DataFrame, start: pd.DataFrame, null: pd.DataFrame, survey: pd.DataFrame) -> Findings:
        pairs = survey.groupby(["learner", "gate", "seed"])[["gap", "gap_rms"]].mean().reset_index()
        smallest = pairs.groupby("seed")[["gap", "gap_rms"]].min()
        error = (gaps[list(FACTORS)].sum(axis=1) - gaps["gap"]).abs()
        lost = start.assign(weak=start["prompt_norm"] + start["alignment"])
        deep = start[start["learner"] == "maple"]
        found = Findings(
            [
                judge(
                    "the gate's gradient is at least ten times smaller than the prompts', through training",
                    per_seed(gaps, "gap"),
                    ">",
                    1,
                    unit="decades",
                ),
                judge(
                    "before training the gap lies in the reported two to three orders of magnitude (above 2)",
                    per_seed(start, "gap"),
                    ">",
                    2,
                    unit="decades",
                ),
                judge(
                    "before training the gap lies in the reported two to three orders of magnitude (below 3)",
                    per_seed(start, "gap"),
                    "<",
                    3,
                    unit="decades",
                ),
                judge(
                    "the factors multiply to the measured gap",
                    error.tolist(),
                    "<",
                    1e-3,
                    unit="decades",
                    name="mean error",
                ),
                judge(
                    "short prompts and their poor alignment with the upstream gradient make most of the gap",
                    [weak / gap for weak, gap in zip(per_seed(lost, "weak"), per_seed(lost, "gap"), strict=True)],
                    ">",
                    0.5,
                    name="share of the gap",
                ),
                judge(
                    "a backbone with random weights, where a gate has nothing to do, shows such a gap as well",
                    per_seed(null, "gap"),
                    ">",
                    1,
                    unit="decades",
                ),
            ]
        )
        found += [
            judge(
                "before training every learner and gate has a gap of more than a decade (the smallest of them)",
                smallest["gap"].tolist(),
                ">",
                1,
                unit="decades",
            ),
            judge(
                "and still has it per parameter, so that it is no matter of their numbers",
                smallest["gap_rms"].tolist(),
                ">",
                1,
                unit="decades",
            ),
        ]
        if len(deep):
            found.append(
                judge(
                    "gated MaPLe starts within a quarter of a decade of the reported 2.60",
                    [abs(gap - REPORTED) for gap in per_seed(deep, "gap")],
                    "<",
                    0.25,
                    unit="decades",
                    name="mean distance",
                )
            )
        return found


def gap_before_training(
    backbone: Backbone,
    *,
    learner: str = "coop",
    gate: str = "length",
    task: str | Task | RealTask = "texture",
    seeds: int = 4,
    batch: int = 16,
    tokens: int = 4,
    strength: float = 1.0,
    **setting: object,
) -> pd.DataFrame:
    """The gap and its factors at initialisation, in decades: one row per seed. Takes a second or less.

    ``strength`` grades the conflict task; ``setting`` are entries of :class:`lib.prompts.training.Setting`:
    ``prompt_std``, ``bias``, ``gain`` and so on.
    """
    chosen = tasks.get(task, strength) if isinstance(task, str) else task
    model = Learner(learner, backbone, chosen.names, template=chosen.template, gate=gate, tokens=tokens)
    shots = -(-batch // len(chosen.names))
    runs = [training.Replica(chosen, seed, training.Setting(**setting), shots) for seed in range(seeds)]
    data = training.prepare(model, runs, 2)
    # A random batch per seed, as training would draw it.
    rows = [torch.randperm(data.sizes[0], generator=stream(seed, "batches"))[:batch] for seed in range(seeds)]
    measured = training.chains(model, data, training.initial(model, data), torch.stack(rows).to(backbone.device))
    return pd.DataFrame({name: value.tolist() for name, value in measured.items()}).assign(seed=range(seeds))
