"""Few-shot training of prompt learners, many seeds as one batch, with the gate watched on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import checks, replicas
from lib.checks import ParameterError
from lib.prompts import tasks
from lib.prompts.backbone import Backbone
from lib.prompts.diagnosis import chain, gate_statistics
from lib.prompts.learners import Learner
from lib.replicas import Optimiser, Step, Tree
from lib.runtime import stream

RECORDS = 9
"""How many times a gate is looked at during training, first and last step included."""


@dataclass(frozen=True)
class Recipe:
    """How prompts are trained; the defaults are MaPLe's published recipe cut to ``steps`` updates.

    SGD with momentum 0.9 and weight decay 5e-4, a fifth of the steps at a rate of 1e-5, then a cosine from
    ``rate`` to 0. ``gate_rate`` multiplies the learning rate of the gate.
    """

    steps: int = 100
    batch: int = 4
    rate: float = 0.0035
    optimiser: str = "sgd"
    warmup: float = 0.2
    gate_rate: float = 1.0

    def __post_init__(self) -> None:
        checks.integer("batch", self.batch, 1)
        checks.number("warmup", self.warmup, 0, 1)
        checks.number("gate_rate", self.gate_rate, above=0)
        self.build()

    def build(self) -> Optimiser:
        """The optimiser; checks steps, rate and the optimiser's name."""
        checks.integer("steps", self.steps, 1)
        return Optimiser(
            self.optimiser,
            self.rate,
            self.steps,
            weight_decay=5e-4,
            warmup_steps=int(self.warmup * self.steps),
        )

    def recorded(self) -> list[int]:
        """Steps at which the gate is looked at: dense early, then even, the last one included."""
        early = [0, 2, 5]
        even = [round(i * (self.steps - 1) / (RECORDS - len(early))) for i in range(RECORDS - len(early) + 1)]
        return sorted({step for step in [*early, *even] if step < self.steps})


@dataclass
class Data:
    """Frozen features of one task for R seeds.

    ``features`` [R, N, F], ``patches`` [R, N, 1 + P, d] or None, ``labels`` [N], ``cue`` [R, N] or None; ``test_*``
    without the seed dimension, because the test set is the same for every seed.
    """

    features: Tensor
    patches: Tensor | None
    labels: Tensor
    cue: Tensor | None
    test_features: Tensor
    test_patches: Tensor | None
    test_labels: Tensor
    test_cue: Tensor | None


def prepare(
    backbone: Backbone, task: tasks.Task, shots: int, seeds: Sequence[int], test_size: int, vision: bool
) -> Data:
    """Encodes a task once: nothing of this changes while prompts are learned (no augmentation is used)."""
    splits = [tasks.few_shot(task, shots, seed, test_size) for seed in seeds]
    first = splits[0]

    def encode(images: Tensor) -> tuple[Tensor, Tensor | None]:
        patches = backbone.patches(images)
        return backbone.vision_tower(patches), patches if vision else None

    with torch.no_grad():
        encoded = [encode(split.images) for split in splits]
        test_features, test_patches = encode(first.test_images)
    device = backbone.device
    return Data(
        torch.stack([features for features, _ in encoded]),
        torch.stack([patches for _, patches in encoded]) if vision else None,
        first.labels.to(device),
        None if first.cue is None else torch.stack([split.cue for split in splits]).to(device),
        test_features,
        test_patches,
        first.test_labels.to(device),
        None if first.test_cue is None else first.test_cue.to(device),
    )


@dataclass
class Trained:
    """A trained learner for R seeds: stacked parameters, trajectory (tidy), losses [steps, R]."""

    learner: Learner
    data: Data
    seeds: tuple[int, ...]
    params: Tree
    losses: Tensor
    diverged_at: Tensor
    trajectory: pd.DataFrame = field(default_factory=pd.DataFrame)


def train(learner: Learner, data: Data, recipe: Recipe, seeds: Sequence[int], label: str = "prompts") -> Trained:
    """Trains one learner on one task for all seeds at once.

    Every seed has its own few-shot set, initial parameters and order of batches. For a gated learner the
    trajectory has one row per recorded step and seed: the gap with its factors on that step's batch, the gate
    statistics on the test pictures (never trained on).
    """
    device = learner.backbone.device
    gate = learner.gate
    if gate is not None and gate.supervised and data.cue is None:
        raise ParameterError(
            f"gate must be one that finds out by itself on a task without a cue, but {gate.kind!r} was given."
        )
    initial = replicas.stack([learner.initial(stream(seed, "initial", learner.name)) for seed in seeds])
    if not initial:
        return Trained(learner, data, tuple(seeds), {}, torch.empty(0, len(seeds)), torch.full((len(seeds),), -1))
    orders = [stream(seed, "batches") for seed in seeds]
    noises = [stream(seed, "gate noise") for seed in seeds]
    count = data.labels.shape[0]
    rows = torch.arange(len(seeds), device=device)[:, None]

    def draw(step: int) -> Tree:
        index = torch.stack([torch.randint(count, (recipe.batch,), generator=order) for order in orders]).to(device)
        batch = {"features": data.features[rows, index], "labels": data.labels[index]}
        if data.patches is not None:
            batch["patches"] = data.patches[rows, index]
        if gate is not None and gate.noisy:
            drawn = [torch.empty(recipe.batch, gate.units).exponential_(generator=noise) for noise in noises]
            batch["noise"] = -torch.stack(drawn).log().to(device)
        if gate is not None and gate.supervised:
            batch["cue"] = data.cue[rows, index]
        return batch

    def loss(params: Tree, batch: Tree) -> Tensor:
        features, patches, labels = batch["features"], batch.get("patches"), batch["labels"]
        if "cue" not in batch:
            return F.cross_entropy(learner.logits(params, features, patches, noise=batch.get("noise")), labels)
        # An oracle's gate learns from the cue alone, so that only the prompts follow the task.
        z = learner.preactivation(params, features)
        logits = learner.logits(params, features, patches, gate=gate.activate(z).detach())
        return F.cross_entropy(logits, labels) + F.binary_cross_entropy_with_logits(z, gate.target(batch["cue"]))

    table: list[dict] = []

    def record(step: Step) -> None:
        measured = torch.func.vmap(
            lambda params, batch: chain(learner, params, batch["features"], batch.get("patches"), batch["labels"]),
            chunk_size=8,
        )(step.params, step.inputs)
        for replica, seed in enumerate(seeds):
            params = replicas.unstack(step.params, replica)
            values = gate.openness(learner.gate_values(params, data.test_features))
            table.append(
                {"seed": seed, "step": step.index, "loss": float(step.loss[replica])}
                | {name: float(value[replica]) for name, value in measured.items()}
                | gate_statistics(values, data.test_labels, gate.selects)
            )

    rates = {name: recipe.gate_rate for name in learner.groups().get("gate", [])}
    done = replicas.train(
        loss,
        initial,
        draw,
        recipe.build(),
        rates=rates,
        label=label,
        record=record if gate is not None else None,
        record_at=recipe.recorded(),
    )
    return Trained(learner, data, tuple(seeds), done.params, done.losses, done.diverged_at, pd.DataFrame(table))


VARIANTS = ("gated", "mean", "shuffled")
"""The gate as trained; held at its mean over the test pictures; shuffled between them."""


@torch.no_grad()
def evaluate(trained: Trained, batch: int = 60) -> pd.DataFrame:
    """Test accuracy in per cent of every seed: columns seed, variant, accuracy, loss (cross-entropy in nats).

    A gated learner has the three :data:`VARIANTS`, a learner without a gate the one variant "fixed".
    """
    learner, data = trained.learner, trained.data
    rows = []
    for replica, seed in enumerate(trained.seeds):
        params = replicas.unstack(trained.params, replica)
        gates: dict[str, Tensor | None] = {"fixed": None}
        if learner.gate is not None:
            own = learner.gate_values(params, data.test_features)
            order = torch.randperm(len(own), generator=stream(seed, "shuffle")).to(own.device)
            gates = dict(zip(VARIANTS, (own, own.mean(0), own[order]), strict=True))
        for variant, gate in gates.items():
            logits = torch.cat(
                [
                    learner.logits(
                        params,
                        data.test_features[part],
                        None if data.test_patches is None else data.test_patches[part],
                        gate=gate if gate is None or gate.ndim == 1 else gate[part],
                    )
                    for part in torch.arange(len(data.test_labels), device=learner.backbone.device).split(batch)
                ]
            )
            correct = logits.argmax(1) == data.test_labels
            rows.append(
                {
                    "seed": seed,
                    "variant": variant,
                    "accuracy": 100 * float(correct.float().mean()),
                    "test_loss": float(F.cross_entropy(logits, data.test_labels)),
                }
            )
    return pd.DataFrame(rows)
