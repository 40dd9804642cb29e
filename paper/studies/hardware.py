"""The trainings that the pages on hardware share: where they begin, and a cell for every rule of a perturbation.

A cell is one batch: all seeds and severities of a perturbation under one rule. What one page has trained is stored and
serves the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, NamedTuple

import torch

from lib import checks
from lib import pictures as files
from lib.hardware.crossbars import RULES
from lib.hardware.devices import HARDWARE, Composite, make
from lib.hardware.networks import DATA, NETWORKS, Network, cifar10, dataset, network
from lib.hardware.perturbations import PERTURBATIONS
from lib.hardware.training import Trainer
from lib.results import Cell, Tables
from paper.studies.base import Study, changed
from paper.studies.parameters import DRAWS, STEPS, OneOf, Place, Some, Whole
from paper.sweep import Fork, Sweep
from paper.words import spelling


class Schedule(NamedTuple):
    """Images of a step, steps of clean training before the fork, and steps after it where ``steps`` is "auto"."""

    batch: int
    warm_up: int
    steps: int


#: How each network is trained.
SCHEDULES = {
    "mlp": Schedule(128, 60, 300),
    "cnn": Schedule(64, 80, 120),
    "cnn_norm": Schedule(64, 60, 120),
    "vit": Schedule(64, 150, 150),
    "resnet": Schedule(128, 400, 2000),
    "resnet_narrow": Schedule(128, 400, 2000),
}

#: What the rules are called in sentences.
NAMES = spelling.RULES

#: Bytes that a replica holds for each parameter: weight, gradient, two moments, two conductances, and noise on each.
HELD = 32

#: What a single test picture of the digits is worth.
PICTURE = 1 / 599

#: Types of parameters that the pages on hardware share.
Rules = Annotated[tuple[str, ...], Some(RULES, ordered=True)]
Classes = Annotated[tuple[str, ...], Some(lambda: HARDWARE, everything="all", of=lambda: PERTURBATIONS, ordered=True)]
Seeds = Annotated[int, Whole(1, 1000)]
Count = Annotated[int, DRAWS]


class HardwareStudy(Study):
    """Parameters that the pages on hardware share::

    rules       backward rules that train; the unaware baseline is always there
    seeds       number of seeds, 0 to seeds - 1
    chips       unseen chips on which every network is judged
    steps       optimiser steps after the fork; "auto": as SCHEDULES has them
    gradients   sampled gradients of a diagnosis
    network     a network of lib.hardware.networks
    data, root  the data set, and the folder of pictures that do not come with the library
    """

    rules: Rules = ("autograd", "straight_through")
    seeds: Seeds = 3
    chips: Count = 10
    steps: Annotated[int | str, Whole(1, STEPS.high, also=("auto",))] = "auto"
    gradients: Annotated[int, Whole(2, DRAWS.high)] = 16
    network: Annotated[str, OneOf(NETWORKS)] = "mlp"
    data: Annotated[str, OneOf(DATA)] = "digits"
    root: Annotated[str, Place("the path of a folder", also=("",))] = ""

    SIZES: ClassVar[tuple[str, ...]] = ("seeds", "chips", "gradients")
    PARTS: ClassVar[tuple[str, ...]] = ("rules",)

    def check(self) -> None:
        """Refuses what does not fit together, and pictures that are not there."""
        object.__setattr__(self, "rules", tuple(rule for rule in RULES if rule in self.rules or rule == "unaware"))
        if self.network.startswith("resnet") and self.data == "digits":
            raise checks.ParameterError(
                f"network must be smaller than a resnet for digits, but {self.network!r} was given."
            )
        # Pictures are read once a session, and again for the first study after a file has changed.
        if self.data != "digits" and changed(files.folder(self.root)):
            for known in (cifar10, network, pictures, _fork):
                known.cache_clear()
        dataset(self.data, self.root)

    def start(self, *, network: str | None = None, most: int | None = None) -> dict[str, Any]:
        """What decides where the runs through hardware begin, and how long they last: the same for every perturbation.

        ``network`` is the study's own unless another is named, ``most`` bounds the steps where they are "auto".
        """
        own = network or self.network
        schedule = SCHEDULES[own]
        bound = min(schedule.steps, most or schedule.steps)
        return {
            "network": own,
            "data": self.data,
            "pictures": pictures(self.data, self.root),
            "seeds": list(range(self.seeds)),
            "batch": schedule.batch,
            "warm_up": schedule.warm_up,
            "steps": bound if self.steps == "auto" else self.steps,
        }

    def site(self) -> dict[str, str]:
        """Where pictures lie."""
        return {"root": self.root}

    def accuracy_cell(
        self,
        start: Mapping[str, Any],
        perturbation: str,
        severities: Sequence[float],
        rule: str,
        *,
        options: Mapping[str, Any] | None = None,
        judged: Mapping[str, Any] | None = None,
        known: bool = False,
        clip: float | None = None,
    ) -> Cell:
        """Training by ``rule`` from ``start``, or none ("unaware"), and the accuracy on unseen chips.

        ``options`` are those of the perturbation, ``judged`` of the hardware that networks are judged on where it is
        another; ``known``: trained on the first unseen chip, and judged on that one only. ``clip``: weights cut off at
        so many standard deviations of their layer, in training or once where there is none.
        """
        own = {} if options is None else dict(options)
        config = {
            "start": dict(start),
            "perturbation": perturbation,
            "options": own,
            "judged": own if judged is None else dict(judged),
            "severities": list(severities),
            "rule": rule,
            "known": known,
            "clip": clip,
            "chips": 1 if known else self.chips,
        }
        return Cell(
            "hardware_accuracy",
            config,
            accuracy,
            size=len(severities) * len(start["seeds"]),
            uses=(make(perturbation, **own),),
            site=self.site(),
        )

    def diagnostics_cell(
        self,
        start: Mapping[str, Any],
        perturbation: str,
        severities: Sequence[float],
        rule: str,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Cell:
        """What gradients by ``rule`` say at the fork."""
        own = {} if options is None else dict(options)
        config = {
            "start": dict(start),
            "perturbation": perturbation,
            "options": own,
            "severities": list(severities),
            "rule": rule,
            "gradients": self.gradients,
        }
        return Cell(
            "hardware_diagnostics",
            config,
            diagnostics,
            size=len(severities) * len(start["seeds"]),
            uses=(make(perturbation, **own),),
            site=self.site(),
        )


# ------------------------------------------------------------------------------------------------- computing


@cache
def trained(network: str) -> int:
    """How many trained numbers a network has."""
    return sum(one.numel() for one in Network(network).initial(torch.Generator()).values())


@cache
def pictures(data: str, root: str) -> str:
    """What tells pictures in a folder, with their labels and order, from others; empty for those of the library."""
    if data == "digits":
        return ""
    found = hashlib.sha256()
    for part in dataset(data, root):
        found.update(part.contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def fork(start: Mapping[str, Any], site: Mapping[str, Any]) -> Fork:
    """Where runs begin: the same object for all cells of a process that begin there, so that it is trained once."""
    if start["pictures"] != pictures(start["data"], site["root"]):
        raise checks.ParameterError(
            f"root must hold the pictures that the study was made with, but {site['root']!r} with others was given."
        )
    schedule = Schedule(start["batch"], start["warm_up"], start["steps"])
    return _fork(start["network"], start["data"], site["root"], tuple(start["seeds"]), schedule, site["device"])


@cache
def _fork(network: str, data: str, root: str, seeds: tuple[int, ...], schedule: Schedule, device: str) -> Fork:
    trainer = Trainer.named(network, data, root, schedule.batch)
    return Fork(trainer, seeds, schedule.warm_up, schedule.steps, torch.device(device))


def accuracy(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``accuracy``: a row for every seed and severity (:meth:`~paper.sweep.Sweep.accuracy`)."""
    own, judged = (make(config["perturbation"], **config[name]) for name in ("options", "judged"))
    begin = fork(config["start"], site)
    sweep = Sweep(begin, own, config["severities"], config["chips"], judge=judged)
    table = sweep.accuracy(config["rule"], config["known"], config["clip"])
    return {"accuracy": table.assign(network=config["start"]["network"])}


def diagnostics(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``diagnostics``: a row for every seed and severity (:meth:`~paper.sweep.Sweep.diagnostics`)."""
    own = make(config["perturbation"], **config["options"])
    sweep = Sweep(fork(config["start"], site), own, config["severities"], gradients=config["gradients"])
    return {"diagnostics": sweep.diagnostics(config["rule"]).assign(network=config["start"]["network"])}


def with_converter(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """A perturbation on a chip that has a converter of so many "bits" as well, under one rule.

    Tables ``accuracy`` and, for rules that train, ``diagnostics``: a row for every seed and severity, as of the
    perturbation alone (:func:`accuracy`).
    """
    own = config["perturbation"]
    chip = Composite([make(own), make("adc")])
    at = [chip.check({own: severity, "adc": config["bits"]}) for severity in config["severities"]]
    sweep = Sweep(fork(config["start"], site), chip, at, config["chips"], config["gradients"])
    tables = {"accuracy": sweep.accuracy(config["rule"])}
    if config["rule"] != "unaware":
        tables["diagnostics"] = sweep.diagnostics(config["rule"])
    shared = {"perturbation": own, "network": config["start"]["network"]}
    gone = ["chip_index", "severity_adc"]
    return {
        name: table.rename(columns={f"severity_{own}": "severity"}).drop(columns=gone).assign(**shared)
        for name, table in tables.items()
    }
