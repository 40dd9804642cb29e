"""Trainings and diagnoses of the fair trial, each from a network that has converged.

Severities are found, not chosen: those at which finished networks of other seeds lose so much of what can be lost.
Learning rates are chosen on those other seeds too, on validation pictures, family by family and arm by arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import gradients, replicas, runtime
from lib.hardware.diagnostics import DEAD, PROBES, STRIDE, STRIDE_ON_STAIRS
from lib.hardware.networks import Images, dataset, network
from lib.hardware.numbers import merged
from lib.hardware.perturbations import Perturbation
from lib.hardware.training import RATE, Trainer, severity_of_replicas, spread, tiled
from lib.replicas import Nested, Optimiser, Tree, mapped
from paper.families import FAMILIES, Family
from paper.sweep import crest

#: Every so many training pictures are left out of training and choose what has to be chosen.
LEFT_OUT = 5
#: Added to a seed for the chips of validation, which so are not those of the test.
OTHER_CHIPS = 5000
#: Seeds of the networks on which severities and learning rates are chosen; no study's own.
OTHERS = (9000, 9001)
#: Steps of the short clean training that the other pages call the fork.
FORK = 60
#: Looks at a training, evenly spaced.
LOOKS = 8
#: Standard deviations of a layer at which a finished network is clipped; the first is the one fixed beforehand.
CLIPS = (2.0, 1.5, 2.5, 3.0)
#: Of what can be lost (down to chance), the share that a level costs. The last was added when four families had been
#: seen: up to 60 % vanilla training compensated every one of them, which left nothing to tell apart.
LEVELS = (0.1, 0.3, 0.6, 0.85)
PUBLISHED = "published"
#: The level on which learning rates are chosen.
TUNED_AT = 1
#: Severities that are tried on the way to a level, first over the whole range, then around each level.
_COARSE, _FINE = 13, 5
#: Chips and pictures of a validation.
_CHIPS = 4
#: Gradients that Adam's mean holds: (1 + b) / (1 - b) with b = 0.9.
HORIZON = 19.0
#: Groups of images whose gradients tell what is live.
_GROUPS = 8


class Arm(NamedTuple):
    """A way of training: a backward ``rule``, the ``scale`` as the gradient takes it, and what else it does.

    ``steps`` multiplies the recipe's, ``chips`` are those of a step. ``tuned``: at its own learning rate, chosen on
    validation pictures; otherwise at the middle one.
    """

    label: str
    rule: str = "autograd"
    scale: str = ""
    steps: int = 1
    chips: int = 1
    clip: float | None = None
    known: bool = False
    scratch: bool = False
    tuned: bool = False


#: The backward rules under trial, then what they are held against.
ARMS: dict[str, Arm] = {
    "autograd": Arm("vanilla, scale differentiated", tuned=True),
    "detached": Arm("vanilla, scale detached", scale="detached", tuned=True),
    "noise_injection": Arm("noise injection", "noise_injection", tuned=True),
    "straight_through": Arm("straight-through", "straight_through", tuned=True),
    "clipped": Arm("noise injection and clipping", "noise_injection", clip=CLIPS[0]),
    "scratch": Arm("vanilla from scratch", scratch=True),
    "long": Arm("vanilla, five times the steps", steps=5),
    "injected": Arm("noise injection, five times the steps", "noise_injection", steps=5),
    "chips": Arm("vanilla, four chips a step", chips=4),
    "known": Arm("vanilla, chip known", known=True),
}
RULES = ("autograd", "detached", "noise_injection", "straight_through")
#: Arms that say what is attainable on any chip.
CEILING = ("long", "injected", "chips", "clipped", "scratch")
#: What the networks of clean training can be given without any gradient, by the name of its column.
RECALIBRATED = "recalibrated"
#: Places at which gradients are looked at beforehand.
PLACES = ("initial", "fork", "start")


class Recipe(NamedTuple):
    """How a network is trained: images of a step, clean steps until it has converged, steps through hardware."""

    network: str
    data: str
    root: str
    batch: int
    converge: int
    steps: int


@cache
def split(data: str, root: str) -> tuple[Images, Images]:
    """The data with its test pictures, and with validation pictures in their place; both train on the same rest."""
    whole = dataset(data, root)
    left = torch.arange(len(whole.y)) % LEFT_OUT == 0
    x, y = whole.x[~left], whole.y[~left]
    return Images(x, y, whole.test_x, whole.test_y), Images(x, y, whole.x[left], whole.y[left])


def trained_clean(
    trainer: Trainer, params: Tree, seeds: Sequence[int], optimiser: Optimiser, first: int
) -> replicas.Training:
    """Ordinary training, as :meth:`~lib.hardware.training.Trainer.train_clean` does it, with its losses."""
    device = next(iter(params.values())).device

    def inputs(step: int) -> Tree:
        return spread([trainer.images(seed, first + step) for seed in seeds], 1, device)

    def loss(one: Tree, drawn: Tree) -> Tensor:
        return trainer.objective(one, drawn, None, "unaware")

    return replicas.train(loss, params, inputs, optimiser, label="clean training")


@dataclass(frozen=True)
class Ground:
    """The networks of some seeds from which everything starts, and with which everything is compared."""

    recipe: Recipe
    seeds: tuple[int, ...]
    device: torch.device

    @cached_property
    def trainer(self) -> Trainer:
        """Trains on the training pictures, judges on the test pictures."""
        own = self.recipe
        return Trainer(network(own.network, own.data, own.root), split(own.data, own.root)[0], own.batch)

    @cached_property
    def validation(self) -> Trainer:
        """The same, which judges on validation pictures."""
        own = self.recipe
        return Trainer(network(own.network, own.data, own.root), split(own.data, own.root)[1], own.batch)

    @cached_property
    def initial(self) -> Tree:
        """Networks before any training [seeds, ...]."""
        drawn = replicas.stack([self.trainer.network.initial(runtime.stream(seed, "initial")) for seed in self.seeds])
        return {name: value.to(self.device) for name, value in drawn.items()}

    @cached_property
    def fork(self) -> Tree:
        """After a short clean training, as on the other pages."""
        return self.trainer.fork(self.seeds, FORK, self.device)

    @cached_property
    def converged(self) -> replicas.Training:
        """The clean training until the loss is flat, with a cosine schedule."""
        optimiser = Optimiser("adam", RATE, self.recipe.converge)
        return trained_clean(self.trainer, self.initial, self.seeds, optimiser, 0)

    @property
    def start(self) -> Tree:
        """The converged networks from which all trainings through hardware start [seeds, ...]."""
        return self.converged.params

    @cached_property
    def unaware(self) -> Tree:
        """The same after as many further steps of clean training [seeds, ...]."""
        optimiser = Optimiser("adam", RATE, self.recipe.steps)
        own = trained_clean(self.trainer, self.start, self.seeds, optimiser, self.recipe.converge)
        return own.params

    def places(self) -> dict[str, Tree]:
        """The networks at every one of :data:`PLACES`."""
        return {"initial": self.initial, "fork": self.fork, "start": self.start}


@cache
def ground(recipe: Recipe, seeds: tuple[int, ...], device: str) -> Ground:
    """The ground of some seeds, once in a process."""
    return Ground(recipe, seeds, torch.device(device))


# ----------------------------------------------------------------------------------------------- severities


def damage_of(base: Ground, one: Perturbation, severities: Sequence[float]) -> np.ndarray:
    """Which share of what can be lost unaware networks lose at each severity, on validation pictures."""
    params = tiled(base.unaware, len(severities))
    seen = base.validation.accuracy_on_chips(params, one, severities, base.seeds, _CHIPS, start=base.start)
    clean = base.validation.accuracy(base.unaware).mean()
    chance = 1 / base.trainer.data.classes
    lost = (clean - seen.mean(1).view(len(severities), -1).mean(1)) / (clean - chance)
    return lost.numpy()


def crossing(severities: np.ndarray, lost: np.ndarray, level: float) -> float:
    """The severity, between two of those given (from mild to harsh), at which damage first reaches a level; nan where
    it never does.
    """
    above = np.flatnonzero(lost >= level)
    if not len(above):
        return float("nan")
    at = int(above[0])
    if at == 0:
        return float(severities[0])
    share = (level - lost[at - 1]) / (lost[at] - lost[at - 1])
    ends = np.log(severities[[at - 1, at]])
    return float(np.exp(ends[0] + share * (ends[1] - ends[0])))


def rounded(value: float) -> float:
    """Two digits: what rounding of another machine cannot change easily."""
    return float(f"{value:.2g}")


@cache
def severities(recipe: Recipe, family: str, device: str) -> dict[str, float]:
    """The severity of every level by its name, from mild to harsh.

    Levels that the harshest severity does not reach are missing; where none is reached, the harshest stands for the
    mildest level.
    """
    own, base = FAMILIES[family], ground(recipe, OTHERS, device)
    one = own.physics()
    if one.whole:
        tried = np.arange(own.mild, own.harsh - 1, -1.0)
        lost = damage_of(base, one, list(tried))
        picked = [float(tried[np.abs(lost - level).argmin()]) for level in LEVELS]
        named = {_name(level): value for level, value in zip(LEVELS, picked, strict=True)}
        # One severity for one level: the mildest level that it is closest to.
        found = {name: value for i, (name, value) in enumerate(named.items()) if value not in picked[:i]}
    else:
        coarse = np.geomspace(own.mild, own.harsh, _COARSE)
        lost = damage_of(base, one, list(coarse))
        found = {}
        for level in LEVELS:
            about = crossing(coarse, lost, level)
            if about == about:
                at = int(np.flatnonzero(lost >= level)[0])
                fine = np.geomspace(coarse[max(at - 1, 0)], coarse[at], _FINE)
                closer = crossing(fine, damage_of(base, one, list(fine)), level)
                found[_name(level)] = rounded(closer if closer == closer else about)
        found = found or {_name(LEVELS[0]): rounded(own.harsh)}
    return found


def _name(level: float) -> str:
    return f"{100 * level:g} %"


# ------------------------------------------------------------------------------------------------ training


class Trained(NamedTuple):
    """Networks [severities x seeds, ...], losses [steps, replicas], and where each diverged."""

    params: Tree
    losses: Tensor
    diverged_at: Tensor


def train(base: Ground, family: Family, arm: Arm, severities: Sequence[float], rate: float) -> Trained:
    """Training through a family's chips by one arm."""
    recipe = base.recipe
    start, first = (base.initial, 0) if arm.scratch else (base.start, recipe.converge)
    steps = recipe.steps * arm.steps + (recipe.converge if arm.scratch else 0)
    more: dict[str, Any] = {}
    if arm.clip is not None:
        more["clip"] = arm.clip
    if arm.chips > 1:
        more["chips"] = arm.chips
    optimiser = Optimiser("adam", RATE if arm.scratch else rate, steps)
    one = family.physics(arm.scale)
    found = base.trainer.train_aware(
        start, one, arm.rule, severities, base.seeds, optimiser, first, known=arm.known, **more
    )
    return Trained(found.params, found.losses, found.diverged_at)


def judged(
    base: Ground,
    family: Family,
    params: Tree,
    severities: Sequence[float],
    chips: int,
    statistics: str = "another chip",
    validation: bool = False,
) -> np.ndarray:
    """Accuracy [replicas, chips] on chips never seen: of the test, or other ones on validation pictures; with the
    ``statistics`` of batch normalisation from another chip, which training through chips leaves behind, or "off chip".
    """
    trainer = base.validation if validation else base.trainer
    seeds = [seed + OTHER_CHIPS for seed in base.seeds] if validation else list(base.seeds)
    one = family.physics()
    found = trainer.accuracy_on_chips(params, one, severities, seeds, chips, start=base.start, statistics=statistics)
    return found.numpy()


def tuned(recipe: Recipe, family: str, arm: str, rates: Sequence[float], device: str) -> tuple[float, pd.DataFrame]:
    """The learning rate that is best on validation pictures for networks of other seeds, at one level; and a row for
    each rate: ``validation`` and test ``accuracy`` of those networks, ``unaware`` and ``clean``.
    """
    base, own = ground(recipe, OTHERS, device), FAMILIES[family]
    found = list(severities(recipe, family, device).values())
    severity = [found[min(TUNED_AT, len(found) - 1)]]
    rows = []
    lost = judged(base, own, base.unaware, severity, _CHIPS, "off chip").mean()
    for rate in rates:
        one = train(base, own, ARMS[arm], severity, rate)
        seen = [judged(base, own, one.params, severity, _CHIPS, validation=checked).mean() for checked in (True, False)]
        clean = float(base.trainer.accuracy(base.unaware).mean())
        row = {"rate": rate, "validation": seen[0], "accuracy": seen[1], "unaware": lost, "clean": clean}
        rows.append({"severity": severity[0], **row})
    table = pd.DataFrame(rows)
    return float(table.rate[table.validation.idxmax()]), table


def middle(rates: Sequence[float]) -> float:
    """The learning rate of what is not tuned: the middle one, or the lower of two."""
    return rates[(len(rates) - 1) // 2]


def looks(losses: Tensor) -> dict[str, np.ndarray]:
    """Mean training losses [replicas] over each of :data:`LOOKS` equal parts of the steps."""
    parts = torch.tensor_split(losses.double(), LOOKS)
    return {f"look_{i}": part.mean(0).numpy() for i, part in enumerate(parts)}


def trial(config: Mapping[str, Any], site: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """A family's training by one arm. Tables ``accuracy`` (a row for every level and seed), ``rates`` where the rate
    was chosen, ``diagnostics`` of the trained networks where asked for ("end").
    """
    recipe, device = Recipe(**config["recipe"], root=site["root"]), site["device"]
    base, family = ground(recipe, tuple(config["seeds"]), device), FAMILIES[config["family"]]
    arm = ARMS[config["arm"]]
    rates = list(config["rates"])
    rate, tables = middle(rates), {}
    if arm.tuned and len(rates) > 1:
        rate, tried = tuned(recipe, config["family"], config["arm"], rates, device)
        tables["rates"] = tried.assign(network=recipe.network, family=config["family"], arm=config["arm"])
    levels = _levels(config, recipe, device)
    values = list(levels.values())
    found = train(base, family, arm, values, rate)
    seen = judged(base, family, found.params, values, 1 if arm.known else config["chips"])
    checked = judged(base, family, found.params, values, _CHIPS, validation=True).mean(1)
    tables["accuracy"] = pd.DataFrame(
        {
            **_named(config, levels, base),
            "arm": config["arm"],
            "rate": rate,
            "validation": checked,
            "accuracy": seen.mean(1),
            "low": np.percentile(seen, 5, axis=1),
            **looks(found.losses),
            "diverged_at": found.diverged_at.numpy(),
            "moved": replicas.moved(
                tiled(base.trainer.network.weights(base.initial if arm.scratch else base.start), len(values)),
                base.trainer.network.weights(found.params),
            ).numpy(),
        }
    )
    if config["end"]:
        table = readings(base, found.params, family, (config["arm"],), values, config["gradients"])
        tables["diagnostics"] = _keyed(table, config, levels, base).assign(place="end")
    return {"accuracy": tables.pop("accuracy"), **tables}


def free(config: Mapping[str, Any], site: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """What networks that never saw hardware do, as they are and clipped. Table ``free``: a row for every level and seed
    with ``clean``, ``unaware``, ``first`` (on the first chip alone), ``clip_X`` for every clipping (the same with
    "recalibrated" before it where there is batch normalisation), and ``free``: the one of all these that validation
    pictures choose, ``clipped_at``.
    """
    recipe, device = Recipe(**config["recipe"], root=site["root"]), site["device"]
    base, family = ground(recipe, tuple(config["seeds"]), device), FAMILIES[config["family"]]
    levels = _levels(config, recipe, device)
    values = list(levels.values())
    params = tiled(base.unaware, len(values))
    tried = {"unaware": params} | {f"clip_{one:g}": base.trainer.clipped(params, one) for one in CLIPS}
    where = dict.fromkeys(tried, "off chip")
    if base.trainer.network.normalised:
        # What training through chips leaves behind without a gradient: statistics as they are on a chip.
        tried |= {f"{RECALIBRATED} {name}": own for name, own in tried.items()}
        where = {name: where.get(name, "another chip") for name in tried}
    seen = {name: judged(base, family, own, values, config["chips"], where[name]) for name, own in tried.items()}
    checked = {
        name: judged(base, family, own, values, _CHIPS, where[name], True).mean(1).reshape(len(values), -1).mean(1)
        for name, own in tried.items()
    }
    names = list(tried)
    best = np.stack([checked[name] for name in names]).argmax(0)
    chosen = [seen[names[place]].mean(1).reshape(len(values), -1)[i] for i, place in enumerate(best)]
    clean = base.trainer.accuracy(base.unaware).repeat(len(values)).numpy()
    table = {
        **_named(config, levels, base),
        "kind": family.kind,
        "clean": clean,
        **{name: one.mean(1) for name, one in seen.items()},
        "first": seen["unaware"][:, 0],
        "free": np.concatenate(chosen),
        "clipped_at": np.repeat([names[place] for place in best], len(base.seeds)),
        "crest": crest(base.trainer.network.weights(params)).numpy(),
    }
    return {"free": pd.DataFrame(table)}


def start(config: Mapping[str, Any], site: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Where everything starts. Table ``start``: a row for every seed with the accuracy of the converged network
    (``clean``) and after as many further steps (``later``), the mean loss over each of :data:`LOOKS` parts of its
    training, and ``slope``: what it fell by over the last quarter, as a share of all that it fell.
    """
    recipe = Recipe(**config["recipe"], root=site["root"])
    base = ground(recipe, tuple(config["seeds"]), site["device"])
    seen = looks(base.converged.losses)
    table = {
        "network": recipe.network,
        "seed": list(base.seeds),
        "clean": base.trainer.accuracy(base.start).numpy(),
        "later": base.trainer.accuracy(base.unaware).numpy(),
        "slope": falling(np.stack(list(seen.values()))),
        **seen,
    }
    return {"start": pd.DataFrame(table)}


def falling(curve: np.ndarray) -> np.ndarray:
    """Of curves [looks, ...]: what they fell by over the last quarter, as a share of their whole fall, or of half of
    where they began where that is more (a loss that hardly moves falls by chance).
    """
    curve = np.asarray(curve, dtype=float)
    whole, last = curve[0] - curve[-1], curve[-1 - len(curve) // 4] - curve[-1]
    return (last / np.maximum(whole, curve[0] / 2)).clip(0, None)


def _levels(config: Mapping[str, Any], recipe: Recipe, device: str) -> dict[str, float]:
    """The levels that are wanted and reached (the mildest that is, where none is), and the published severity."""
    found = severities(recipe, config["family"], device)
    wanted = {name: value for name, value in found.items() if name in config["levels"]}
    wanted = wanted or dict([next(iter(found.items()))])
    if PUBLISHED in config["levels"] and config["published"] is not None:
        wanted[PUBLISHED] = config["published"]
    return wanted


def _named(config: Mapping[str, Any], levels: Mapping[str, float], base: Ground) -> dict[str, Any]:
    count = len(base.seeds)
    return {
        "network": config["recipe"]["network"],
        "family": config["family"],
        "level": np.repeat(list(levels), count),
        "severity": np.repeat(list(levels.values()), count),
        "seed": np.tile(base.seeds, len(levels)),
    }


# --------------------------------------------------------------------------------------------- diagnostics


def diagnosis(config: Mapping[str, Any], site: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """What gradients say beforehand. Table ``diagnostics``: a row for every place, rule, level and seed."""
    recipe, device = Recipe(**config["recipe"], root=site["root"]), site["device"]
    base, family = ground(recipe, tuple(config["seeds"]), device), FAMILIES[config["family"]]
    levels = _levels(config, recipe, device)
    values = list(levels.values())
    tables = []
    for place, params in base.places().items():
        if place not in config["places"]:
            continue
        own = readings(base, tiled(params, len(values)), family, config["rules"], values, config["gradients"])
        tables.append(_keyed(own, config, levels, base).assign(place=place))
    return {"diagnostics": pd.concat(tables, ignore_index=True)}


def _keyed(table: pd.DataFrame, config: Mapping[str, Any], levels: Mapping[str, float], base: Ground) -> pd.DataFrame:
    """Readings (replica by replica, rule by rule) with the columns that name them."""
    keys = pd.DataFrame(_named(config, levels, base))
    return pd.concat([keys.loc[table.replica].reset_index(drop=True), table.drop(columns="replica")], axis=1)


def _rows(tree: Tree) -> Tensor:
    return torch.cat([value.flatten(1) for value in tree.values()], 1)


def disjoint_cosine(one: Tensor, other: Tensor) -> float:
    """The cosine of two expected gradients from samples [K, P] of each that share no chip, with unbiased norms; nan
    where either cannot be told from nothing.
    """
    moments = [gradients.statistics(samples) for samples in (one, other)]
    if any(not known(samples) for samples in (one, other)):
        return float("nan")
    length = float(np.sqrt(moments[0].norm_sq * moments[1].norm_sq))
    return float(np.clip(float(moments[0].mean @ moments[1].mean) / length, -1, 1))


def known(samples: Tensor) -> bool:
    """Can the mean of samples [K, P] be told from nothing?"""
    moments = gradients.statistics(samples)
    if moments.trace_cov == 0:
        return moments.norm_sq > 0
    return moments.norm_sq > 0 and bool(np.isfinite(gradients.variance_interval(samples)[1]))


def readings(
    base: Ground, params: Tree, family: Family, arms: Sequence[str], severities: Sequence[float], count: int
) -> pd.DataFrame:
    """What ``count`` gradients of each arm say about networks [severities x seeds, ...], a row for each replica.

    The images are one batch; chips are of two sets that share none. Of an arm's expected gradient E g, over the first:

    - ``cosine`` with the clean gradient; ``expected`` with the expected gradient of autograd over the second;
    - ``truth``: slope of the mean loss on the second set along E g, over ‖E g‖;
    - ``variance`` tr Cov g / ‖E g‖²; ``minibatch`` tr Cov g / tr Cov of the clean gradient over batches; ``averaged``
      ‖E g‖² over the variance by chips and batches that is left in Adam's mean;
    - ``live``, the share of weights that get a gradient; Jacobian ``gain`` and ``size`` ‖E g‖, each relative to the
      clean network.

    And of the network itself, whatever the arm: ``output`` root mean square change of logits over their standard
    deviation, ``rise`` of the loss.
    """
    trainer, device = base.trainer, base.device
    repeat, plain = len(severities), family.physics()
    names = trainer.network.weights(params)
    weights = dict(names)
    others = {name: value for name, value in params.items() if name not in names}
    severity = severity_of_replicas(severities, base.seeds, device)
    batch = [trainer.images(seed, "diagnosis") for seed in base.seeds]
    size, classes = len(batch[0]["y"]), trainer.data.classes
    count = count if plain.random else 1

    def drawn(one: int | str, which: str, images: Sequence[Tree] = batch) -> Nested:
        per_seed = []
        for seed, picked in zip(base.seeds, images, strict=True):
            signs = torch.randint(0, 2, (size, classes), generator=runtime.stream(seed, "probe", one))
            chip = trainer.chip(plain, seed, "trial", which, one)
            read = trainer.read(plain, size, seed, "trial", which, one)
            per_seed.append({**picked, "chip": chip, "read": read, "probe": 2.0 * signs - 1})
        return {**spread(per_seed, repeat, device), "severity": severity}

    def value(weights: Tree, others: Tree, own: Nested, hardware: Perturbation | None, rule: str) -> Tensor:
        return trainer.objective({**weights, **others}, own, hardware, rule)

    def logits(weights: Tree, others: Tree, own: Nested, hardware: Perturbation | None, rule: str) -> Tensor:
        chip = merged(own["chip"], own["read"])
        product = trainer.crossbars(hardware, own["severity"], rule, chip)
        return trainer.network({**weights, **others}, own["x"], product)

    def projected(weights: Tree, others: Tree, own: Nested, hardware: Perturbation | None, rule: str) -> Tensor:
        return (logits(weights, others, own, hardware, rule) * own["probe"]).sum()

    def slopes(own: Nested, hardware: Perturbation | None, rule: str, function=value) -> Tensor:
        def one(weights: Tree, others: Tree, own: Nested) -> Tensor:
            return function(weights, others, own, hardware, rule)

        return _rows(torch.func.vmap(torch.func.grad(one))(weights, others, own)).detach()

    def seen(own: Nested, hardware: Perturbation | None, at: Tree = weights, function=value) -> Tensor:
        def one(weights: Tree, others: Tree, own: Nested) -> Tensor:
            return function(weights, others, own, hardware, "autograd")

        with torch.no_grad():
            return torch.func.vmap(one)(at, others, own)

    first = [drawn(sample, "first") for sample in range(count)]
    second = [drawn(sample, "second") for sample in range(count)] if plain.random else first
    probes = [drawn(sample, "first") for sample in range(PROBES)]
    clean = slopes(first[0], None, "unaware")
    # Of the clean network every severity is the same: its batches are those of the seeds.
    batches = torch.stack(
        [
            slopes(drawn("none", "batch", [trainer.images(seed, f"batch {i}") for seed in base.seeds]), None, "unaware")
            for i in range(max(4, count // 2))
        ],
        1,
    )
    ideal, base_loss = seen(first[0], None, function=logits), seen(first[0], None)
    changes = torch.stack([(seen(own, plain, function=logits) - ideal).square().mean((1, 2)) for own in first])
    output = changes.mean(0).sqrt() / ideal.flatten(1).std(1)
    rise = torch.stack([seen(own, plain) for own in second]).mean(0) - base_loss
    reference = torch.stack([slopes(own, plain, "autograd") for own in second], 1)
    clean_gain = torch.stack([slopes(own, None, "unaware", projected).square().sum(1) for own in probes]).mean(0)
    clean_groups = _grouped(first[0], None, "unaware", slopes)
    floor = DEAD * clean_groups.abs().amax((1, 2))
    stride = STRIDE_ON_STAIRS if plain.ranged else STRIDE
    rows = []
    for name in arms:
        arm = ARMS[name]
        hardware = family.physics(arm.scale)
        samples = torch.stack([slopes(own, hardware, arm.rule) for own in first], 1)
        gain = torch.stack([slopes(own, hardware, arm.rule, projected).square().sum(1) for own in probes]).mean(0)
        groups = _grouped(first[0], hardware, arm.rule, slopes)
        mean = samples.double().mean(1)
        length = mean.norm(dim=1)
        at = _rows(weights)
        step = stride * at.norm(dim=1)
        along = (mean / length.clamp_min(1e-30)[:, None] * step[:, None]).to(at)
        ahead, behind = (
            torch.stack([seen(own, plain, _moved(weights, sign * along)) for own in second]).double().mean(0)
            for sign in (1, -1)
        )
        slope = torch.where(length > 0, (ahead - behind) / (2 * step.double()) / length.clamp_min(1e-30), 0.0)
        for i in range(len(severity)):
            own, g0 = samples[i], clean[i]
            own, other = (one.expand(max(len(one), 2), -1) for one in (own, reference[i]))
            moments = gradients.statistics(own)
            cosine, interval = gradients.expected_cosine(own, g0)
            ratio = moments.variance_ratio
            by_batch = gradients.statistics(batches[i]).trace_cov
            noise = (moments.trace_cov + by_batch) / HORIZON
            dead = float((groups[i].abs() <= floor[i]).all(0).double().mean())
            rows.append(
                {
                    "replica": i,
                    "rule": name,
                    "cosine": cosine if interval[1] - interval[0] < 2 else np.nan,
                    "expected": disjoint_cosine(own, other),
                    "truth": float(slope[i]),
                    "variance": ratio,
                    "signal": 0.0 if ratio != ratio else 1 / (1 + ratio),
                    "minibatch": moments.trace_cov / by_batch,
                    "averaged": max(moments.norm_sq, 0.0) / noise,
                    "live": 1 - dead,
                    "gain": float((gain[i] / clean_gain[i]).sqrt()),
                    "size": float(np.sqrt(max(moments.norm_sq, 0.0))) / float(g0.norm()),
                    "output": float(output[i]),
                    "rise": float(rise[i]),
                }
            )
    return pd.DataFrame(rows)


def _grouped(own: Nested, hardware: Perturbation | None, rule: str, slopes: Any) -> Tensor:
    """Gradients [replicas, groups, P] of groups of the images, on one chip."""
    found = []
    for group in range(_GROUPS):
        part = {name: own[name] for name in ("x", "y", "read")}
        found.append(slopes({**own, **mapped(lambda one, g=group: one.chunk(_GROUPS, 1)[g], part)}, hardware, rule))  # type: ignore[misc]
    return torch.stack(found, 1)


def _moved(weights: Tree, by: Tensor) -> Tree:
    """Weights [R, ...] moved along rows [R, P]."""
    sizes = [value[0].numel() for value in weights.values()]
    parts = by.split(sizes, 1)
    return {name: value + part.view_as(value) for (name, value), part in zip(weights.items(), parts, strict=True)}
