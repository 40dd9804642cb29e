"""Layers one by one: which breaks first on a chip, what says so beforehand, and what mending it alone is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lib import gradients
from lib.hardware.crossbars import Crossbars, ideal
from lib.hardware.devices import make
from lib.hardware.numbers import Numbers, merged
from lib.hardware.perturbations import Perturbation
from lib.hardware.training import Trainer
from lib.replicas import Tree, unstack
from lib.results import Cell, Tables
from lib.verdicts import Claim
from paper.criteria import hardware as criteria
from paper.interventions import Softened, like
from paper.studies.hardware import fork

#: One severity of each class, at which networks that never saw hardware lose something clear, or as much as they do.
SEVERITIES = {"read_noise": 0.1, "variability": 0.1, "drift": 3.15e9, "stuck_at": 0.05, "ir_drop": 300.0, "adc": 3.0}

#: Images on which layers are diagnosed.
IMAGES = 256

#: Chips on which they are judged, at most.
CHIPS = 5

#: What ranks layers, as a number that is large where a layer is said to break first. The first four look at gradients
#: or errors before anything is tried; then what is known without a chip; "trial" tries each layer on chips, with
#: training images.
RANKINGS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "margin": lambda table: table.margin,
    "cosine": lambda table: -table.cosine,
    "variance": lambda table: table.variance,
    "error": lambda table: table.error,
    "size": lambda table: table["size"],
    "first": lambda table: -table.place,
    "last": lambda table: table.place,
    "trial": lambda table: table.trial,
}
#: The rankings that look at a gradient.
GRADIENTS = ("margin", "cosine", "variance")


def cell(start: Mapping[str, Any], name: str, severity: float, chips: int) -> Cell:
    """The cell of a class on a network."""
    config = {"start": dict(start), "perturbation": name, "severity": severity, "chips": chips}
    return Cell("layers", config, measured, size=len(start["seeds"]), uses=(make(name),), site={"root": ""})


# ------------------------------------------------------------------------------------------------- computing


def measured(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``layers``: a row for every seed and layer of networks that never saw hardware.

    ``clean`` without hardware, ``unaware`` with all layers on the chip, ``only`` with this one alone, ``without`` with
    all but this one, ``softer`` with a better chip for this one (:func:`~paper.interventions.softer`); ``size`` in
    weights, ``place`` from the input on; and what ranks layers beforehand (:func:`diagnosed`), with ``trial``, the loss
    of accuracy on training images with this layer alone on the chip.
    """
    begin, physics, severity = fork(config["start"], site), make(config["perturbation"]), config["severity"]
    plain, params, seeds = begin.trainer, begin.clean, begin.seeds
    # Every layer is tried in four ways.
    chips = min(config["chips"], CHIPS)
    names = plain.network.layers

    def judged(trainer: Trainer) -> np.ndarray:
        return trainer.accuracy_on_chips(params, physics, [severity], seeds, chips, start=begin.start).numpy().mean(1)

    rehearsal = plain.data._replace(test_x=plain.data.x[:IMAGES], test_y=plain.data.y[:IMAGES])
    clean, whole = plain.accuracy(params).numpy(), judged(plain)
    tables = [diagnosed(plain, unstack(params, at), physics, severity, seed, chips) for at, seed in enumerate(seeds)]
    rows = []
    for place, layer in enumerate(names):
        others = tuple(name for name in names if name != layer)
        alone = like(plain, digital=others)
        tried = like(alone, data=rehearsal)
        own = {
            "only": judged(alone),
            "without": judged(like(plain, digital=(layer,))),
            "softer": judged(like(plain, Softened, layer=layer)),
            "trial": tried.accuracy(params).numpy() - judged(tried),
        }
        for at, seed in enumerate(seeds):
            row = {"seed": seed, "layer": layer, "place": place, "size": params[f"{layer}.weight"][0].numel()}
            row |= {"clean": clean[at], "unaware": whole[at], **{kind: value[at] for kind, value in own.items()}}
            rows.append(row | tables[at][layer])
    return {"layers": pd.DataFrame(rows)}


def diagnosed(
    trainer: Trainer, params: Tree, physics: Perturbation, severity: float, seed: int, chips: int
) -> dict[str, dict[str, float]]:
    """What says beforehand which layer of one network breaks, by layer; ``chips`` are drawn, one where all are alike.

    With e the error of a layer's output on the chip for clean inputs: ``error`` is its mean square over the variance of
    the clean output; ``margin`` the root mean square over images and chips of <dm/dy, e>, which is what the error does,
    to first order, to the margin m of the right logit over the next, over the mean margin. Of gradients on the chip, by
    the rule "noise_injection": ``cosine`` of their mean with the clean gradient and ``variance`` = tr Cov g / |E g|^2.
    """
    network, at = trainer.network, torch.tensor(severity)
    x, y = trainer.data.x[:IMAGES], trainer.data.y[:IMAGES]
    count = chips if physics.random else 1
    numbers = [
        merged(
            trainer.chip(physics, seed, "diagnosis chip", chip), trainer.read(physics, len(x), seed, "diagnosis", chip)
        )
        for chip in range(count)
    ]
    taps, clean = _margins(trainer, params, x, y)
    squares = dict.fromkeys(network.layers, 0.0)
    shifts = dict(squares)
    for drawn in numbers:
        for layer, error in _errors(trainer, params, x, physics, at, drawn).items():
            squares[layer] += float(error.square().mean()) / count
            shifts[layer] += float((taps[layer] * error).flatten(1).sum(1).square().mean()) / count
    outputs = _outputs(trainer, params, x)
    sampled = [_gradients(trainer, params, x, y, physics, at, drawn) for drawn in numbers]
    reference = _gradients(trainer, params, x, y, None, at, {})
    found = {}
    for layer in network.layers:
        own = torch.stack([one[layer] for one in sampled])
        moments = gradients.statistics(own.expand(max(len(own), 2), -1))
        mean = own.mean(0)
        found[layer] = {
            "margin": shifts[layer] ** 0.5 / clean,
            "error": squares[layer] / float(outputs[layer].var()),
            "cosine": float(torch.nn.functional.cosine_similarity(mean, reference[layer], dim=0)),
            "variance": moments.variance_ratio if physics.random else 0.0,
        }
    return found


def _outputs(trainer: Trainer, params: Tree, x: Tensor) -> dict[str, Tensor]:
    """Every layer's clean output [images, ..., out]."""
    found: dict[str, Tensor] = {}

    def product(layer: str, inputs: Tensor, weight: Tensor) -> Tensor:
        found[layer] = ideal(layer, inputs, weight)
        return found[layer]

    with torch.no_grad():
        trainer.network(params, x, product)
    return found


def _margins(trainer: Trainer, params: Tree, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], float]:
    """The derivative of every image's margin in every layer's output [images, ..., out], and the mean size of margins.

    An image's margin depends on its own outputs alone, so one backward pass of their sum gives all.
    """
    taps = {layer: torch.zeros_like(value).requires_grad_() for layer, value in _outputs(trainer, params, x).items()}

    def product(layer: str, inputs: Tensor, weight: Tensor) -> Tensor:
        return ideal(layer, inputs, weight) + taps[layer]

    logits = trainer.network(params, x, product)
    right = logits.gather(1, y[:, None]).squeeze(1)
    next_best = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = right - next_best
    slopes = torch.autograd.grad(margin.sum(), list(taps.values()))
    return dict(zip(taps, slopes, strict=True)), float(margin.detach().abs().mean())


def _errors(
    trainer: Trainer, params: Tree, x: Tensor, physics: Perturbation, severity: Tensor, drawn: Numbers
) -> dict[str, Tensor]:
    """The error of every layer's output on one chip [images, ..., out], for the inputs that it has without hardware."""
    chip = Crossbars(physics, severity, "autograd", drawn)
    found: dict[str, Tensor] = {}

    def product(layer: str, inputs: Tensor, weight: Tensor) -> Tensor:
        clean = ideal(layer, inputs, weight)
        found[layer] = chip(layer, inputs, weight) - clean
        return clean

    with torch.no_grad():
        trainer.network(params, x, product)
    return found


def _gradients(
    trainer: Trainer, params: Tree, x: Tensor, y: Tensor, physics: Perturbation | None, severity: Tensor, drawn: Numbers
) -> dict[str, Tensor]:
    """The gradient of the loss in every layer's weight [weights] on one chip (None: off chip)."""
    held = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    product = Crossbars(physics, severity, "noise_injection", drawn)
    loss = cross_entropy(trainer.network(held, x, product), y)
    names = [f"{layer}.weight" for layer in trainer.network.layers]
    found = torch.autograd.grad(loss, [held[name] for name in names])
    return {layer: value.flatten() for layer, value in zip(trainer.network.layers, found, strict=True)}


# --------------------------------------------------------------------------------------------------- judging


def mended(single: pd.DataFrame) -> pd.DataFrame:
    """What mending the layer that each of :data:`RANKINGS` puts first is worth: a row for each network, class, ranking
    and seed.

    In points of accuracy: ``gain`` of making that layer digital, ``softer`` of a better chip for it; ``others`` the
    mean gain of the other layers, ``alike`` that of the one closest to it in size, ``best`` that of the best layer. Of
    layers that are ranked alike the first one counts.
    """
    rows = []
    for (net, name, seed), group in single.groupby(["network", "perturbation", "seed"], sort=False):
        group = group.reset_index(drop=True)
        gain = 100 * (group.without - group.unaware)
        soft = 100 * (group.softer - group.unaware)
        for ranking, score in RANKINGS.items():
            values = score(group)
            # Where a ranking says the same of all it says nothing.
            if values.isna().any() or values.nunique() == 1:
                continue
            first = int(values.idxmax())
            rest = group.index[group.index != first]
            sizes = np.log(group["size"][rest] / group["size"][first]).abs()
            rows.append(
                {
                    "network": net,
                    "perturbation": name,
                    "seed": seed,
                    "ranking": ranking,
                    "layer": group.layer[first],
                    "damage": 100 * float(group.clean[0] - group.unaware[0]),
                    "gain": gain[first],
                    "softer": soft[first],
                    "others": gain[rest].mean(),
                    "others_softer": soft[rest].mean(),
                    "alike": gain[int(sizes.idxmin())],
                    "best": gain.max(),
                }
            )
    return pd.DataFrame(rows)


#: What each ranking is called in sentences.
NAMES = {
    "margin": "the error's first-order effect on the margin",
    "cosine": "the cosine of its gradient with the clean one",
    "variance": "the variance of its gradient",
    "error": "the error of its output",
    "size": "its size",
    "first": "being the first",
    "last": "being the last",
    "trial": "a trial with that layer alone on the chip",
}


def claims(table: pd.DataFrame) -> Iterator[Claim]:
    """For each ranking: is mending the layer that it puts first worth more than mending others, and nearly the best?

    Seed by seed, networks and classes count alike.
    """
    family = "mechanisms layers"
    for ranking, own in table.groupby("ranking", sort=False):
        means = own.groupby("seed")[["gain", "softer", "others", "others_softer", "alike", "best"]].mean()
        more: dict[str, Any] = {"unit": "points", "name": "mean difference"}
        text = f"Mending the layer put first by {NAMES[str(ranking)]}"
        for what, than in (("others", "the mean of the others"), ("alike", "the one closest to it in size")):
            yield Claim(
                f"mechanisms.layers.{ranking}.{what}",
                f"{text} gives at least {criteria.LAYER_AHEAD:g} points more than mending {than}",
                (means.gain - means[what]).to_numpy(),
                ">=",
                criteria.LAYER_AHEAD,
                family,
                **more,
            )
        yield Claim(
            f"mechanisms.layers.{ranking}.found",
            f"{text} gives at least {100 * criteria.LAYER_FOUND:g} % of what mending the best one does",
            (means.gain - criteria.LAYER_FOUND * means.best).to_numpy(),
            ">=",
            criteria.NOTHING,
            family,
            unit="points",
            name=f"gained beyond {criteria.LAYER_FOUND:g} of the best",
        )
        if ranking == "margin":
            yield Claim(
                f"mechanisms.layers.{ranking}.softer",
                f"{text} by a better chip instead of a computer, is still ahead of the mean of the others",
                (means.softer - means.others_softer).to_numpy(),
                ">",
                criteria.NOTHING,
                family,
                **more,
            )


def damage_by_layer(single: pd.DataFrame) -> pd.DataFrame:
    """Seeds joined, in points: what each layer alone costs, and what mending it wins back."""
    own = single.assign(
        alone=100 * (single.clean - single.only),
        digital=100 * (single.without - single.unaware),
        better=100 * (single.softer - single.unaware),
        damage=100 * (single.clean - single.unaware),
    )
    keys = ["network", "perturbation", "layer", "place"]
    return own.groupby(keys, sort=False)[["alone", "digital", "better", "damage", "margin"]].mean().reset_index()
