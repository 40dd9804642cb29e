"""Few-shot training of prompt learners, many replicas as one batch, with the gate watched on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, cast

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import checks, replicas, runtime
from lib.checks import ParameterError
from lib.prompts.data import RealTask, augmented
from lib.prompts.diagnosis import chain, gate_statistics
from lib.prompts.gates import Gate
from lib.prompts.learners import STARTS, Learner
from lib.prompts.tasks import Task
from lib.replicas import Nested, Optimiser, Step, Tree
from lib.runtime import derangement, stream

RECORDS = 9
"""How many times a gate is looked at during training, first and last step included."""
PROBE = 64
"""Training pictures on which a closer look at a gate holds it still and shuffles it."""
VALIDATION = 120
"""Pictures, of a seed's own, by which recipes are chosen."""
KEPT = 2**30
"""Bytes that the augmented views of one few-shot set may take."""
PICTURES = 16
"""Training pictures from which a closer look takes gradients."""
ENCODED = 256
"""Pictures that go through the vision tower at once before training."""
TESTED = 2**31
"""Bytes that test pictures may take at once on their way through the towers."""

View = Literal["plain", "centred", "whitened"]
VIEWS: tuple[View, ...] = ("plain", "centred", "whitened")
"""What a gate may see of the image feature: as it comes, less its mean, or with the identity as its covariance."""


@dataclass(frozen=True)
class Recipe:
    """How prompts are trained; the defaults are the short recipe: MaPLe's, cut to ``steps`` updates.

    SGD with momentum 0.9 and weight decay 5e-4, a fifth of the steps at a rate of 1e-5, then a cosine from ``rate`` to
    0 (or, with ``cosine`` off, ``rate`` throughout), which moves on every ``epoch`` steps. With ``augment`` that many
    views of every training picture, cropped and flipped at random, are trained on in its place (:func:`prepare`). A
    gate may have a ``gate_optimiser`` of its own, at the same rate. After ``looks`` numbers of updates the gate gets a
    closer look (:func:`train`); with ``watch`` its values are measured ten times in every decade of steps.
    """

    steps: int = 100
    batch: int = 4
    rate: float = 0.0035
    optimiser: str = "sgd"
    gate_optimiser: str = ""
    warmup: float = 0.2
    cosine: bool = True
    epoch: int = 1
    augment: int = 0
    looks: tuple[int, ...] = ()
    watch: bool = False

    def __post_init__(self) -> None:
        checks.integer("batch", self.batch, 1)
        checks.number("warmup", self.warmup, 0, 1)
        self.build()
        checks.integer("augment", self.augment, 0)
        if self.gate_optimiser:
            checks.choice("gate_optimiser", self.gate_optimiser, ("sgd", "adam"))
        if self.looks != ():
            checks.integers("looks", self.looks, 0, self.steps)
        checks.flag("watch", self.watch)

    def build(self) -> Optimiser:
        """The optimiser; checks steps, rate and the optimiser's name."""
        checks.integer("steps", self.steps, 1)
        return Optimiser(
            self.optimiser,
            self.rate,
            self.steps,
            weight_decay=5e-4,
            warmup_steps=int(self.warmup * self.steps),
            cosine=self.cosine,
            epoch=self.epoch,
        )

    def others(self, learner: Learner) -> dict[str, Optimiser]:
        """The optimiser of the gate's parameters, by their names, where it has its own."""
        if not self.gate_optimiser:
            return {}
        return dict.fromkeys(learner.groups().get("gate", ()), replace(self.build(), name=self.gate_optimiser))

    def recorded(self) -> list[int]:
        """Steps at which the gate is looked at: dense early, then even, the last one included."""
        early = [0, 2, 5]
        even = [round(i * (self.steps - 1) / (RECORDS - len(early))) for i in range(RECORDS - len(early) + 1)]
        return sorted({step for step in [*early, *even] if step < self.steps})

    def watched(self) -> list[int]:
        """Steps at which the gate's values are measured: 0 and ten in every decade."""
        if not self.watch:
            return []
        grid = {round(10 ** (i / 10)) for i in range(int(10 * math.log10(self.steps)) + 1)}
        return sorted({0, *grid, self.steps - 1})


@dataclass(frozen=True)
class Setting:
    """What replicas of one batch may differ in beside task and seed.

    ``gate_rate`` multiplies the learning rate of the gate; ``prompt_std`` is the standard deviation of the initial
    prompts, ``start`` how text prompts start (:data:`lib.prompts.learners.STARTS`). ``view`` is what the gate sees of
    the image feature (:data:`VIEWS`) and ``gain`` a factor on it.
    ``temperature`` divides the gate's pre-activations, ``bias`` is added after that: the gate starts open (> 0) or shut
    (< 0). With ``balance`` the gate's gradient is scaled to the norm of the prompts' gradient in every step.
    ``diversity`` weighs a reward for gate values that differ between the pictures of a batch: the loss loses
    ``diversity`` times the mean of 4 Var g, at most ``diversity`` for values from 0 to 1. ``delay`` is the share of the
    steps in which the prompts learn alone.
    """

    gate_rate: float = 1.0
    prompt_std: float = 0.02
    start: str = ""
    view: View = "plain"
    gain: float = 1.0
    bias: float = 0.0
    temperature: float = 1.0
    balance: bool = False
    diversity: float = 0.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gate_rate", "prompt_std", "gain", "temperature"):
            checks.number(name, getattr(self, name), above=0)
        checks.choice("start", self.start, STARTS)
        checks.choice("view", self.view, VIEWS)
        checks.number("bias", self.bias, -20, 20)
        checks.flag("balance", self.balance)
        checks.number("diversity", self.diversity, 0)
        checks.number("delay", self.delay, 0, 1)


@dataclass(frozen=True)
class Replica:
    """One training of a batch."""

    task: Task | RealTask
    seed: int
    setting: Setting = Setting()
    shots: int = 16


@dataclass
class Data:
    """Frozen features for R replicas that share S few-shot sets (of N pictures at most) and Q test sets (of N').

    ``features`` [S, N, F], ``patches`` [S, N, 1 + P, d] or None, ``labels`` [S, N], ``cue`` [S, N] or None, ``sizes``
    (how many of the N are there, every view counted); ``place`` [R] says which set is whose. The same with ``test_``
    for the test pictures, whose missing labels are -1. ``constants`` are those of the replicas, stacked [R, ...].
    ``validation`` is the same with the validation pictures of every set in place of the test pictures.
    """

    replicas: tuple[Replica, ...]
    features: Tensor
    patches: Tensor | None
    labels: Tensor
    cue: Tensor | None
    sizes: list[int]
    place: Tensor
    test_features: Tensor
    test_patches: Tensor | None
    test_labels: Tensor
    test_place: Tensor
    constants: Tree
    validation: Data | None = None

    def inputs(self, index: Tensor) -> Nested:
        """Features, labels and what else there is of pictures ``index`` [R, B], with the constants."""
        rows = self.place[:, None]
        batch = {"features": self.features[rows, index], "labels": self.labels[rows, index]}
        if self.patches is not None:
            batch["patches"] = self.patches[rows, index]
        return batch | {"constants": self.constants}


def _padded(tensors: Sequence[Tensor], value: float | None = None) -> Tensor:
    """Stacked along a new first dimension, shorter ones filled up along their own first.

    Without a ``value`` the last entry is repeated: a gate that looks at the picture before finds one of its own task.
    """
    longest = max(len(tensor) for tensor in tensors)
    ends = [t[-1:].expand(longest - len(t), *t.shape[1:]) for t in tensors]
    ends = ends if value is None else [torch.full_like(end, value) for end in ends]
    return torch.stack([torch.cat(pair) for pair in zip(tensors, ends, strict=True)])


def prepare(learner: Learner, runs: Sequence[Replica], test_size: int, augment: int = 0) -> Data:
    """Encodes every task once: nothing of this changes while prompts are learned.

    With ``augment`` that many random views of every training picture (:func:`lib.prompts.data.augmented`) stand in
    its place, or as many as fit into :data:`KEPT`, drawn from a stream of the seed's own and encoded beforehand: a step
    draws a picture and a view of it.
    """
    backbone, device = learner.backbone, learner.backbone.device
    runs = tuple(runs)
    keys = [(id(run.task), run.shots, run.seed) for run in runs]
    distinct = dict(zip(keys, runs, strict=True))
    sets, place = list(distinct.values()), [list(distinct).index(key) for key in keys]

    def tested_on(run: Replica) -> tuple[int, int]:
        return id(run.task), run.task.test_seed(test_size, run.seed)

    tests = [next(i for i, own in enumerate(sets) if tested_on(own) == tested_on(run)) for run in runs]
    order = sorted(set(tests))
    # Of sets with the same test pictures only the first one needs them.
    splits = [
        run.task.few_shot(run.shots, run.seed, test_size if i in order else 1, backbone.image_size)
        for i, run in enumerate(sets)
    ]

    def encode(images: Tensor) -> tuple[Tensor, Tensor | None]:
        return _encoded(learner, images)

    def views_of(run: Replica, images: Tensor) -> tuple[Tensor, Tensor | None]:
        generator = stream(run.seed, "task", run.task.name, "views")
        drawn = [encode(augmented(images, run.task.flips, generator))]
        taken = sum(4 * part.numel() for part in drawn[0] if part is not None)
        for _ in range(min(augment, int(KEPT // taken)) - 1):
            drawn.append(encode(augmented(images, run.task.flips, generator)))
        seen = torch.cat([patches for _, patches in drawn]) if learner.design.sees else None  # type: ignore[misc]
        return torch.cat([features for features, _ in drawn]), seen

    with torch.no_grad():
        trained = [
            views_of(run, split.images) if augment else encode(split.images)
            for run, split in zip(sets, splits, strict=True)
        ]
        # All views of a kind together: of labels and cues there are as many rounds.
        rounds = [len(features) // len(split.labels) for (features, _), split in zip(trained, splits, strict=True)]
        # In random order, so that a neighbour is a picture of any class.
        mixed = [_mixed(splits[i].test_images, splits[i].test_labels, sets[i].seed) for i in order]
        tested = [encode(images) for images, _ in mixed]
        left = [run.task.validation(VALIDATION, run.shots, run.seed, backbone.image_size) for run in sets]
        left = [_mixed(*pictures, run.seed) for pictures, run in zip(left, sets, strict=True)]
        seen = [encode(images) for images, _ in left] if all(len(labels) > 1 for _, labels in left) else []
    fewest = min(len(splits[i].test_labels) for i in order)
    if learner.gate is not None and fewest < 2:
        raise ParameterError(f"test_size must be at least 2 for a gate, to shuffle it, but {fewest} was given.")
    labels = [split.labels.repeat(count) for split, count in zip(splits, rounds, strict=True)]
    cues = [split.cue if split.cue is None else split.cue.repeat(n) for split, n in zip(splits, rounds, strict=True)]
    data = Data(
        runs,
        _padded([features for features, _ in trained]),
        _padded([patches for _, patches in trained]) if learner.design.sees else None,  # type: ignore[misc]
        _padded(labels).to(device),
        _padded(cues).to(device) if all(cue is not None for cue in cues) else None,  # type: ignore[arg-type]
        [len(own) for own in labels],
        torch.tensor(place, device=device),
        _padded([features for features, _ in tested]),
        _padded([patches for _, patches in tested]) if learner.design.sees else None,  # type: ignore[misc]
        _padded([labels for _, labels in mixed], -1).to(device),
        torch.tensor([order.index(i) for i in tests], device=device),
        _constants(learner, runs, [trained[i][0] for i in place]),
    )
    if seen:
        data.validation = replace(
            data,
            test_features=_padded([features for features, _ in seen]),
            test_patches=_padded([patches for _, patches in seen]) if learner.design.sees else None,  # type: ignore[misc]
            test_labels=_padded([labels for _, labels in left], -1).to(device),
            test_place=data.place,
        )
    return data


def _encoded(learner: Learner, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Features [N, F] of pictures, and their patches where the learner's prompts enter the vision tower."""
    backbone = learner.backbone
    if not learner.design.sees:
        return backbone.image_features(images, ENCODED), None
    patches = backbone.patches(images, ENCODED)
    return torch.cat([backbone.vision_tower(part) for part in patches.split(ENCODED)]), patches


def _mixed(images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures and labels in random order."""
    order = torch.randperm(len(labels), generator=stream(seed, "order"))
    return images[order], labels[order]


def _constants(learner: Learner, runs: Sequence[Replica], features: Sequence[Tensor]) -> Tree:
    """The words of each replica's task and what its setting makes of the gate, stacked."""
    distinct = {id(run.task): run.task for run in runs}
    room = (0, 0)
    if len(distinct) > 1:
        # The size of the largest task, as the learner itself lays it out.
        stop, every = learner.backbone.full_stop, list(distinct.values())
        longest = learner.backbone.tokens([f"{name}{stop}" for task in every for name in task.names])[0].shape[1] - 1
        room = (max(len(task.names) for task in every), longest)
    words = {key: learner.words(task.names, task.template, room) for key, task in distinct.items()}
    settings = [run.setting for run in runs]
    looking = any((setting.view, setting.gain) != ("plain", 1.0) for setting in settings)
    biased = any((setting.bias, setting.temperature) != (0.0, 1.0) for setting in settings)
    trees = []
    for run, seen in zip(runs, features, strict=True):
        tree = dict(words[id(run.task)])
        if looking:
            tree["shift"], tree["map"] = _view(run.setting, seen)
        if biased:
            tree |= {name: seen.new_tensor(getattr(run.setting, name)) for name in ("bias", "temperature")}
        trees.append(tree)
    return replicas.stack(trees)


def _view(setting: Setting, features: Tensor) -> tuple[Tensor, Tensor]:
    """What turns a feature x into what the gate sees, (x - shift) map, from training features [N, F]."""
    width = features.shape[1]
    shift = torch.zeros_like(features[0]) if setting.view == "plain" else features.mean(0)
    turned = torch.eye(width, device=features.device)
    if setting.view == "whitened":
        # Fewer pictures than dimensions: a tenth of the mean variance is added to every direction.
        centred = (features - shift).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(features))
        values = values.clamp_min(0)
        values = values + 0.1 * values.mean() + 1e-12
        turned = ((vectors * values.rsqrt()) @ vectors.T).to(features.dtype)
    return shift, setting.gain * turned


def initial(learner: Learner, data: Data) -> Tree:
    """Fresh parameters of all replicas, stacked."""
    return replicas.stack(
        [
            learner.initial(stream(run.seed, "initial", learner.name), run.setting.prompt_std, run.setting.start)
            for run in data.replicas
        ]
    )


@dataclass
class Trained:
    """A trained learner for R replicas: stacked parameters, losses [steps, R], and what was seen of its gate.

    ``trajectory``, ``watched`` and ``looks`` are tidy, with a column "replica". For other parameters make another one
    (``dataclasses.replace``): accuracies are kept.
    """

    learner: Learner
    data: Data
    params: Tree
    losses: Tensor
    diverged_at: Tensor
    trajectory: pd.DataFrame = field(default_factory=pd.DataFrame)
    watched: pd.DataFrame = field(default_factory=pd.DataFrame)
    looks: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """What :func:`evaluate` returns, computed once: a closer look after the last step measures the same."""
        return _evaluate(self.learner, self.data, self.params)

    def validated(self) -> list[float]:
        """Accuracy in per cent of every replica, as trained, on the validation pictures; nan where there are none."""
        if self.data.validation is None:
            return [math.nan] * len(self.data.replicas)
        scores = _evaluate(self.learner, self.data.validation, self.params, VARIANTS[:1])
        return scores["accuracy"].tolist()

    def settled(self) -> dict[str, list[float]]:
        """Mean training loss (nats) of every replica over the last tenth of the steps, "loss_end", and over the tenth
        before, "loss_before": alike where the loss is flat.
        """
        tenth = max(len(self.losses) // 10, 1)
        ends = {"loss_end": self.losses[-tenth:], "loss_before": self.losses[-2 * tenth : -tenth]}
        return {name: part.mean(0).tolist() for name, part in ends.items()}


def train(learner: Learner, data: Data, recipe: Recipe, label: str = "prompts") -> Trained:
    """Trains all replicas at once, each with its own few-shot set, initial parameters, batches and setting.

    For a gated learner the trajectory has one row per recorded step and replica: the gap with its factors on that
    step's batch, the gate statistics on the test pictures (never trained on). A closer look adds, on training
    pictures, gate statistics, the gap and the signal-to-noise ratio of the gate's gradient, the loss (in nats) and by
    how much it rises when the gate is held at its mean or shuffled; on the test pictures, from the first step on, the
    accuracy of the :data:`VARIANTS`.
    """
    gate, runs = learner.gate, data.replicas
    device = learner.backbone.device
    if gate is not None and gate.supervised and data.cue is None:
        raise ParameterError(
            f"gate must be one that finds out by itself on a task without a cue, but {gate.kind!r} was given."
        )
    if gate is not None and gate.shuffled and min(recipe.batch, *data.sizes) < 2:
        raise ParameterError(
            f"batch and training pictures must be at least 2 for gate {gate.kind!r}, which looks at another picture,"
            f" but {recipe.batch} and {min(data.sizes)} were given."
        )
    start = initial(learner, data)
    if not start:
        return Trained(learner, data, {}, torch.empty(0, len(runs)), torch.full((len(runs),), -1))
    orders = [stream(run.seed, "batches") for run in runs]
    noises = _noises(runs)
    counts = [data.sizes[place] for place in data.place.tolist()]
    settings = [run.setting for run in runs]
    diversity = torch.tensor([setting.diversity for setting in settings], device=device)

    def draw(step: int) -> Nested:
        drawn = [torch.randint(n, (recipe.batch,), generator=order) for n, order in zip(counts, orders, strict=True)]
        index = torch.stack(drawn).to(device)
        batch = data.inputs(index)
        if gate is not None and gate.noisy:
            batch["noise"] = _noise(gate, noises, recipe.batch).to(device)
        if gate is not None and gate.supervised:
            batch["cue"] = data.cue[data.place[:, None], index]  # type: ignore[index]
        if gate is not None and diversity.any():
            batch["diversity"] = diversity
        return batch

    def loss(params: Tree, batch: Nested) -> Tensor:
        features, patches, constants = batch["features"], batch.get("patches"), batch["constants"]
        if gate is None:
            return F.cross_entropy(learner.logits(params, features, patches, constants=constants), batch["labels"])
        z = learner.preactivation(params, features, constants)
        values = gate.activate(z + batch["noise"] if "noise" in batch else z)
        # Where the gate learns from its own loss alone, only the prompts follow the task.
        held = values.detach() if gate.apart else values
        logits = learner.logits(params, features, patches, gate=held, constants=constants)
        value = F.cross_entropy(logits, batch["labels"]) + gate.loss(z, batch)
        if "diversity" in batch:
            value = value - batch["diversity"] * 4 * gate.activate(z).var(0, unbiased=False).mean()
        return value

    table: list[dict] = []
    looks: list[pd.DataFrame] = []
    watched: list[dict] = []
    recorded, watching = recipe.recorded(), recipe.watched()

    def record(step: Step) -> None:
        if step.index in recipe.looks:
            looks.append(_look(learner, data, step.params, step.index))
        chained = step.index in recorded
        if not chained and step.index not in watching:
            return
        measured = per_replica(chain, learner, step.params, step.inputs) if chained else {}
        values = _gates(learner, step.params, data)
        for i, run in enumerate(runs):
            own = data.test_labels[data.test_place[i]]
            row = {"replica": i, "seed": run.seed, "step": step.index, "loss": float(step.loss[i])}
            row |= gate_statistics(gate.openness(values[i][own >= 0]), own[own >= 0], gate.selects)
            if step.index in watching:
                watched.append(row)
            if chained:
                table.append(row | {name: float(value[i]) for name, value in measured.items()})

    chunk = together(learner, recipe.batch)
    done = replicas.train(
        loss,
        start,
        draw,
        recipe.build(),
        others=recipe.others(learner),
        rates=_rates(learner, settings, recipe.steps, device),
        adjust=_balance(learner, settings, device),
        chunk=chunk if chunk < len(runs) else None,
        label=label,
        record=record if gate is not None else None,
        record_at={*recorded, *watching, *recipe.looks},
    )
    trained = Trained(
        learner, data, done.params, done.losses, done.diverged_at, pd.DataFrame(table), pd.DataFrame(watched)
    )
    if gate is not None and recipe.steps in recipe.looks:
        looks.append(_look(learner, data, done.params, recipe.steps, trained.scores))
    if looks:
        trained.looks = pd.concat(looks, ignore_index=True)
    return trained


def _rates(
    learner: Learner, settings: Sequence[Setting], steps: int, device: torch.device
) -> replicas.Rates | Callable[[int], replicas.Rates]:
    """Multipliers of the gate's learning rate, one per replica; before a replica's delay is over, zero."""
    names = learner.groups().get("gate", [])
    rate = torch.tensor([setting.gate_rate for setting in settings], device=device)
    start = torch.tensor([round(setting.delay * steps) for setting in settings], device=device)
    if not start.any():
        return dict.fromkeys(names, rate)
    return lambda step: dict.fromkeys(names, torch.where(step < start, 0.0, rate))


def _balance(learner: Learner, settings: Sequence[Setting], device: torch.device) -> Callable[[Tree], Tree] | None:
    """Scales the gate's gradient to the norm of the prompts' gradient, in the replicas that ask for it."""
    if not any(setting.balance for setting in settings):
        return None
    asked = torch.tensor([setting.balance for setting in settings], device=device)

    def norm(gradients: Tree, group: str) -> Tensor:
        squares = [g.flatten(1).square().sum(1) for name, g in gradients.items() if name.startswith(group)]
        return torch.stack(squares).sum(0).sqrt()

    def adjust(gradients: Tree) -> Tree:
        wanted = norm(gradients, "prompt.") / norm(gradients, "gate.").clamp_min(1e-30)
        factor = torch.where(asked, wanted, 1.0)
        return {
            name: g * factor.reshape(-1, *(1,) * (g.ndim - 1)) if name.startswith("gate.") else g
            for name, g in gradients.items()
        }

    return adjust


def per_replica(diagnosis: Callable[..., Tree], learner: Learner, params: Tree, inputs: Tree) -> Tree:
    """A function of :mod:`lib.prompts.diagnosis` for each replica on its batch, as :meth:`Data.inputs` gives it."""

    def one(params: Tree, batch: Tree) -> Tree:
        names = ("features", "patches", "labels", "constants", "noise")
        return diagnosis(learner, params, *(batch.get(name) for name in names))

    chunk = min(16, together(learner, inputs["labels"].shape[1]))
    return torch.func.vmap(one, chunk_size=chunk)(params, inputs)


def together(learner: Learner, pictures: int) -> int:
    """How many replicas may be differentiated at once on so many pictures each, to take half of the memory at most."""
    step = max(learner.kept(pictures, learner.gate is not None), 1)
    return int(min(max(runtime.memory(learner.backbone.device) / 2 // step, 1), 2**30))


def chains(learner: Learner, data: Data, params: Tree, index: Tensor) -> Tree:
    """:func:`lib.prompts.diagnosis.chain` of every replica on its training pictures ``index`` [R, B]; values [R].

    A gate that explores is measured as it is trained: with noise, that of a training's first step.
    """
    inputs, gate = data.inputs(index), learner.gate
    if gate is not None and gate.noisy:
        inputs["noise"] = _noise(gate, _noises(data.replicas), index.shape[1]).to(index.device)
    return per_replica(chain, learner, params, inputs)


def _noises(runs: Sequence[Replica]) -> list[torch.Generator]:
    """Where each replica's noise for a gate comes from."""
    return [stream(run.seed, "gate noise") for run in runs]


def _noise(gate: Gate, streams: Sequence[torch.Generator], count: int) -> Tensor:
    """Gumbel noise [R, count, U] for pre-activations."""
    drawn = [torch.empty(count, gate.units).exponential_(generator=stream) for stream in streams]
    return -torch.stack(drawn).log()


@torch.no_grad()
def _gates(learner: Learner, params: Tree, data: Data, features: Tensor | None = None) -> Tensor:
    """Gate values [R, N', U] on pictures with ``features`` [R, N', F], the test pictures unless others are given."""
    gate = cast(Gate, learner.gate)
    features = data.test_features[data.test_place] if features is None else features
    z = torch.func.vmap(learner.preactivation)(params, features, data.constants)
    if gate.random:
        z = z + _noise(gate, [stream(run.seed, "choice") for run in data.replicas], z.shape[1]).to(z)
    return gate.activate(z)


def _look(learner: Learner, data: Data, params: Tree, step: int, scores: pd.DataFrame | None = None) -> pd.DataFrame:
    """What :func:`train` promises of a closer look, a row per replica; ``scores`` are the accuracies, if known."""
    device, gate = data.labels.device, learner.gate
    counts = [data.sizes[place] for place in data.place.tolist()]
    # Fewer pictures than asked for are taken again, in the same order: every replica looks at the same number.
    drawn = [
        torch.randperm(n, generator=stream(run.seed, "probe")).repeat(-(-PROBE // n))[:PROBE]
        for n, run in zip(counts, data.replicas, strict=True)
    ]
    index = torch.stack(drawn).to(device)
    probe = data.inputs(index)
    measured = chains(learner, data, params, index[:, :PICTURES])
    with torch.no_grad():
        values = _gates(learner, params, data, probe["features"])
        there = torch.ones_like(probe["labels"], dtype=torch.bool)
        variants = held(cast(Gate, gate), values, there, [run.seed for run in data.replicas])

        def loss(params: Tree, batch: Nested, values: Tensor) -> Tensor:
            logits = learner.logits(
                params, batch["features"], batch.get("patches"), gate=values, constants=batch["constants"]
            )
            return F.cross_entropy(logits, batch["labels"])

        losses = {name: torch.func.vmap(loss, chunk_size=8)(params, probe, value) for name, value in variants.items()}
    rows = [
        {"replica": i, "seed": run.seed, "step": step, "loss": float(losses["gated"][i])}
        | {name: float(measured[name][i]) for name in ("gap", "gap_rms", "snr")}
        | gate_statistics(gate.openness(values[i]), probe["labels"][i], gate.selects)
        | {f"loss_{name}": float(losses[name][i] - losses["gated"][i]) for name in ("mean", "shuffled")}
        for i, run in enumerate(data.replicas)
    ]
    if not step:
        return pd.DataFrame(rows)
    scores = _evaluate(learner, data, params) if scores is None else scores
    wide = scores.pivot(index="replica", columns="variant", values="accuracy")
    return pd.DataFrame(rows).join(wide.add_prefix("accuracy_"), on="replica")


VARIANTS = ("gated", "mean", "shuffled")
"""The gate as trained; held at what is typical of it over the test pictures (its mean,
or the entries that a hard selector chooses most often); shuffled between them."""


def elsewhere(trained: Trained, task: RealTask, test_size: int) -> pd.DataFrame:
    """:func:`evaluate` on the test pictures and class names of another task, such as the new classes of a data set."""
    learner, data = trained.learner, trained.data
    backbone, count = learner.backbone, len(data.replicas)
    images, labels = _mixed(*task.tested(test_size, backbone.image_size), 0)
    with torch.no_grad():
        features, patches = _encoded(learner, images)
    words = learner.words(task.names, task.template)
    other = replace(
        data,
        test_features=features[None],
        test_patches=None if patches is None else patches[None],
        test_labels=labels[None].to(backbone.device),
        test_place=torch.zeros(count, dtype=torch.long, device=backbone.device),
        constants=data.constants | replicas.stack([words] * count),
    )
    return _evaluate(learner, other, trained.params)


def evaluate(trained: Trained) -> pd.DataFrame:
    """Test accuracy in per cent of every replica: columns replica, seed, variant, accuracy, test_loss (nats).

    A gated learner has the three :data:`VARIANTS`, a learner without a gate the one variant "fixed".
    """
    return trained.scores.copy()


def held(gate: Gate, own: Tensor, there: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Gate values [R, N', U] on pictures, as they are, held at what is typical of them [R, U], and each given to
    another picture at random.

    ``there`` [R, N'] says which pictures there are; means and shuffles keep to those.
    """
    mean = torch.stack([gate.typical(values[mine]) for values, mine in zip(own, there, strict=True)])
    other = own.clone()
    for values, mine, seed in zip(other, there, seeds, strict=True):
        order = derangement(int(mine.sum()), stream(seed, "shuffle")).to(values.device)
        values[mine] = values[mine][order]
    return dict(zip(VARIANTS, (own, mean, other), strict=True))


@torch.no_grad()
def _evaluate(learner: Learner, data: Data, params: Tree, variants: Sequence[str] = VARIANTS) -> pd.DataFrame:
    runs, labels = data.replicas, data.test_labels[data.test_place]
    there = labels >= 0
    gates: Mapping[str, Tensor | None] = {"fixed": None}
    if learner.gate is not None:
        every = held(cast(Gate, learner.gate), _gates(learner, params, data), there, [run.seed for run in runs])
        gates = {name: every[name] for name in variants}
    rows = []
    for variant, values in gates.items():
        # Some replicas at a time: the test pictures of all of them would not fit into memory.
        parts = [slice(start, start + 8) for start in range(0, len(runs), 8)]
        logits = torch.cat([_logits(learner, data, params, values, part) for part in parts])
        right = ((logits.argmax(-1) == labels) & there).sum(1) / there.sum(1)
        losses = F.cross_entropy(logits.movedim(-1, 1), labels.clamp_min(0), reduction="none")
        losses = torch.where(there, losses, 0).sum(1) / there.sum(1)
        rows += [
            {"replica": i, "seed": run.seed, "variant": variant, "accuracy": 100 * hit, "test_loss": loss}
            for i, (run, hit, loss) in enumerate(zip(runs, right.tolist(), losses.tolist(), strict=True))
        ]
    return pd.DataFrame(rows).sort_values("replica", kind="stable", ignore_index=True)


def _logits(learner: Learner, data: Data, params: Tree, values: Tensor | None, part: slice) -> Tensor:
    """Logits [r, N', K] on the test pictures for some replicas, with gate ``values`` [R, N', U] or [R, U]."""
    # Without gradients one block at a time is kept; a picture costs what it adds to what all of them share.
    own, backbone = values is not None and values.ndim == 3, learner.backbone
    each = (learner.kept(1, own) - learner.kept(0, own)) / min(backbone.text_layers, backbone.vision_layers)
    batch = min(60, max(1, int(TESTED // max(each * (part.stop - part.start), 1))))
    some = {name: value[part] for name, value in params.items()}
    constants = {name: value[part] for name, value in data.constants.items()}
    place = data.test_place[part]

    def one(params: Tree, features: Tensor, patches: Tensor | None, constants: Tree, gate: Tensor | None) -> Tensor:
        return learner.logits(params, features, patches, gate=gate, constants=constants)

    def shown(tensor: Tensor | None, at: slice) -> Tensor | None:
        return None if tensor is None else tensor[place, at]

    found = []
    for start in range(0, data.test_labels.shape[1], batch):
        at = slice(start, start + batch)
        gate = values if values is None else values[part] if values.ndim == 2 else values[part, at]
        given = (some, shown(data.test_features, at), shown(data.test_patches, at), constants, gate)
        axes = tuple(None if value is None else 0 for value in given)
        found.append(torch.func.vmap(one, in_dims=axes)(*given))  # type: ignore[arg-type]
    return torch.cat(found, 1)
