"""Looking at one chip and trying one training: what the what-ifs of a perturbation page compute."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import torch

from lib import checks, gradients, runtime
from lib.hardware.crossbars import RULES, Crossbars, ideal
from lib.hardware.devices import Composite, make
from lib.hardware.numbers import merged
from lib.hardware.perturbations import Perturbation
from lib.hardware.training import Trainer
from lib.replicas import Tree, unstack
from paper.studies.hardware import NAMES, SCHEDULES, pictures
from paper.studies.perturbation import PerturbationStudy
from paper.studies.separation import Separation
from paper.sweep import Fork, Sweep
from paper.words.format import quantity


@dataclass(frozen=True)
class Look:
    """One layer and one gradient, through one chip: flat samples of ideal and real values, in pairs.

    ``currents`` [2, n] are the first layer's outputs on one batch, ``gradient`` [2, n] one sampled gradient
    of the loss with respect to the weights, with the clean gradient first in both.
    """

    currents: np.ndarray
    gradient: np.ndarray
    cosine: float


def look(study: PerturbationStudy, severity: float, rule: str, points: int = 500) -> Look:
    """What the perturbation does to the forward and to the backward pass at the fork, for the first seed."""
    known = pictures(study.data, study.root)
    return _bench(study.physics, study.network, study.data, study.root, known).at(severity, rule, points)


class _Bench:
    """The fork of the first seed, a batch and a chip, kept between the panels of a what-if."""

    def __init__(self, physics: Perturbation, trainer: Trainer, warm_up: int) -> None:
        self.physics, self.trainer = physics, trainer
        self.params = unstack(trainer.fork([0], warm_up, torch.device("cpu")), 0)
        self.batch = trainer.images(0, "diagnosis")
        chip = trainer.chip(self.physics, 0, "diagnosis chip", 0)
        read = trainer.read(self.physics, trainer.batch, 0, "diagnosis", 0)
        self.drawn = {"chip": chip, "read": read}

    def at(self, severity: float, rule: str, points: int) -> Look:
        level = torch.tensor(float(severity))
        inputs = {**self.batch, **self.drawn, "severity": level}
        pairs: list[torch.Tensor] = []

        def first(layer: str, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            y = ideal(layer, x, weight)
            if not pairs:
                crossbars = Crossbars(self.physics, level, "autograd", merged(*self.drawn.values()))
                pairs.append(torch.stack([y, crossbars(layer, x, weight)]).flatten(1))
            return y

        network = self.trainer.network
        network(self.params, self.batch["x"], first)
        rows = []
        for hardware in (None, self.physics):
            tree = torch.func.grad(self.trainer.objective)(self.params, inputs, hardware, rule)
            rows.append(gradients.flatten(network.weights(tree)))
        picked = runtime.stream(0, "points")
        columns = [torch.randperm(part.shape[-1], generator=picked)[:points] for part in (pairs[0], rows[0])]
        return Look(
            pairs[0][:, columns[0]].detach().numpy(), torch.stack(rows)[:, columns[1]].numpy(), gradients.cosine(*rows)
        )


@cache
def _bench(physics: Perturbation, network: str, data: str, root: str, known: str) -> _Bench:
    schedule = SCHEDULES[network]
    return _Bench(physics, Trainer.named(network, data, root, schedule.batch), schedule.warm_up)


@dataclass(frozen=True)
class Response:
    """The first layer's weights [in, out] as ``meant``, and as ``seen``: what each output answers to each input alone.

    ``words`` say on which chip.
    """

    meant: np.ndarray
    seen: np.ndarray
    words: str


def response(study: Separation, perturbation: str, severity: float, bits: float | None = None) -> Response:
    """What a chip makes of the first layer at the fork of the first seed, with a converter of so many ``bits`` or none.

    The layer must be one of a perceptron, with a number for every input and output.
    """
    own, level = make(perturbation), [float(severity)]
    physics: Perturbation = own if bits is None else Composite([own, make("adc")])
    if isinstance(physics, Composite):
        level = list(physics.check({perturbation: severity, "adc": bits}))
    name = study.networks[0]
    trainer, params = _first(name, study.data, study.root, pictures(study.data, study.root))
    found: list[Response] = []
    value = quantity(severity, own.unit)
    words = f"{own.title.lower()}, {value}" + ("" if bits is None else f", with a converter of {bits:g} bits")

    def first(layer: str, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        y = ideal(layer, x, weight)
        if not found:
            if x.ndim != 2 or weight.ndim != 2:
                raise checks.ParameterError(f"network must begin with a perceptron's layer, but {name!r} was given.")
            alone = torch.eye(x.shape[1])
            chip = trainer.chip(physics, 0, "diagnosis chip", 0)
            read = trainer.read(physics, len(alone), 0, "diagnosis", 0)
            at = torch.tensor(level if isinstance(physics, Composite) else level[0])
            seen = Crossbars(physics, at, "autograd", merged(chip, read))(layer, alone, weight)
            found.append(Response(ideal(layer, alone, weight).numpy(), seen.numpy(), words))
        return y

    with torch.no_grad():
        trainer.network(params, trainer.images(0, "diagnosis")["x"], first)
    return found[0]


@cache
def _first(network: str, data: str, root: str, known: str) -> tuple[Trainer, Tree]:
    """A trainer and the network of the first seed at the fork."""
    schedule = SCHEDULES[network]
    trainer = Trainer.named(network, data, root, schedule.batch)
    return trainer, unstack(trainer.fork([0], schedule.warm_up, torch.device("cpu")), 0)


def attempt(study: PerturbationStudy, severity: float, rule: str, steps: int = 40, chips: int = 10) -> pd.DataFrame:
    """A small experiment of one seed, about a second: a clean, an unaware and a hardware-aware network.

    ``steps`` after the fork. Columns ``network``, ``accuracy``, ``low`` (5th percentile over chips).
    """
    physics = study.physics
    severity = physics.check(severity)
    checks.choice("rule", rule, RULES)
    schedule = SCHEDULES[study.network]
    trainer = Trainer.named(study.network, study.data, study.root, schedule.batch)
    fork = Fork(trainer, [0], schedule.warm_up, checks.integer("steps", steps, low=1), torch.device("cpu"))
    sweep = Sweep(fork, physics, [severity], chips)
    clean = float(trainer.accuracy(fork.clean)[0])
    rows = [("clean, no hardware", clean, clean)]
    for one in dict.fromkeys(("unaware", rule)):
        (seen,) = sweep.accuracy(one).itertuples()
        rows.append(("unaware" if one == "unaware" else NAMES[one], seen.accuracy, seen.low))
    return pd.DataFrame(rows, columns=["network", "accuracy", "low"])
