"""Trains a network of Part II on CIFAR-10 in the computer, until trained, and reports what it can.

``python -m paper.tools.pretrain_hardware NETWORK --root FOLDER`` trains again what lies in ``paper/weights``. The module
is the plain one, without crossbars: ordinary convolutions and torch's own batch normalisation, in bfloat16 where the
network is normalised. What is kept is a tree of parameters as :class:`lib.hardware.networks.Network` takes it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import checks, runtime
from lib.checks import ParameterError
from lib.hardware.networks import NETWORKS, BatchNorm, Images, build, dataset, network
from lib.hardware.training import Trainer
from lib.replicas import Tree, stack
from lib.results import provenance
from paper import weights

#: Pixels by which a picture is moved at most.
MARGIN = 4


@dataclass(frozen=True)
class Recipe:
    """Everything that the training depends on::

        epochs, batch       passes over the training pictures, pictures per step
        rate, weight_decay  stochastic gradient descent with Nesterov's momentum .9; a linear warm-up over ``warmup``
                            of the steps, then cosine to zero
        smoothing           of labels
        seed                of initial weights, of the order, the places and the sides of pictures
    """

    epochs: int = 30
    batch: int = 128
    rate: float = 0.1
    weight_decay: float = 5e-4
    warmup: float = 0.05
    smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer("epochs", self.epochs, 1)
        checks.integer("batch", self.batch, 8)
        checks.number("rate", self.rate, above=0)
        checks.number("weight_decay", self.weight_decay, 0)
        checks.number("warmup", self.warmup, 0, 0.5)
        checks.number("smoothing", self.smoothing, 0, 0.5)
        checks.integer("seed", self.seed, 0)

    def rate_at(self, share: float) -> float:
        """The learning rate after a share of all steps."""
        if share < self.warmup:
            return self.rate * share / self.warmup
        return self.rate * 0.5 * (1 + math.cos(math.pi * (share - self.warmup) / (1 - self.warmup)))


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [N, C, H, W], each moved by up to MARGIN pixels (black comes in), and every other one mirrored."""
    count, _, height, width = x.shape
    down, right = (torch.randint(2 * MARGIN + 1, (count, 1), generator=generator) for _ in range(2))
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = down + torch.arange(height)
    columns = right + torch.where(mirrored, torch.arange(width).flip(0), torch.arange(width))
    padded = F.pad(x, (MARGIN,) * 4)
    return padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def plain(net: nn.Module) -> nn.Module:
    """The module with torch's own batch normalisation in place of ours, which computes the same faster."""
    for name, child in net.named_children():
        if isinstance(child, BatchNorm):
            setattr(net, name, nn.BatchNorm2d(len(child.scale), track_running_stats=False))
        else:
            plain(child)
    return net


def parameters(net: nn.Module, names: list[str]) -> Tree:
    """The parameters of a plain module under the ``names`` that the network knows them by, in the same order."""
    return {name: value.detach().clone() for name, value in zip(names, net.parameters(), strict=True)}


def train(
    name: str, data: Images, recipe: Recipe, report: Callable[[dict], None], checkpoint: Path | None = None
) -> tuple[Tree, list[dict]]:
    """Trains a new network. Returns its parameters and the training curve, one row an epoch.

    ``checkpoint``: a file that is written after each epoch, and from which an interrupted training goes on.
    """
    channels, size = data.x.shape[1:3]
    ours = network_of(name, data)
    net = plain(build(name, channels, size, data.classes))
    begin = ours.initial(runtime.stream(recipe.seed, "initial"))
    for own, value in zip(net.parameters(), begin.values(), strict=True):
        own.data.copy_(value)
    half = any(isinstance(one, nn.BatchNorm2d) for one in net.modules())
    if half:
        net = net.to(memory_format=torch.channels_last)
    heavy = [one for one in net.parameters() if one.dim() > 1]
    light = [one for one in net.parameters() if one.dim() < 2]
    groups = [{"params": heavy, "weight_decay": recipe.weight_decay}, {"params": light, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, nesterov=True)
    each = len(data.y) // recipe.batch
    curve: list[dict] = []
    if checkpoint is not None and checkpoint.is_file():
        known = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(known["net"])
        optimiser.load_state_dict(known["optimiser"])
        curve = known["curve"]
    start, spent = time.perf_counter(), curve[-1]["seconds"] if curve else 0.0
    for epoch in range(len(curve), recipe.epochs):
        generator = runtime.stream(recipe.seed, "pictures", epoch)
        order, losses = torch.randperm(len(data.y), generator=generator), []
        for step in range(each):
            picked = order[step * recipe.batch :][: recipe.batch]
            x = moved(data.x[picked], generator)
            if half:
                x = x.contiguous(memory_format=torch.channels_last)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate_at((epoch * each + step) / (recipe.epochs * each))
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = net(x)
            loss = F.cross_entropy(logits.float(), data.y[picked], label_smoothing=recipe.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            losses.append(float(loss.detach()))
        seconds = round(spent + time.perf_counter() - start, 1)
        row = {"step": (epoch + 1) * each, "loss": round(float(np.mean(losses)), 5), "seconds": seconds}
        curve.append(row)
        report(row)
        if checkpoint is not None:
            torch.save({"net": net.state_dict(), "optimiser": optimiser.state_dict(), "curve": curve}, checkpoint)
    return parameters(net, list(begin)), curve


def network_of(name: str, data: Images):  # noqa: ANN201 - a Network
    """The network of that name for these pictures."""
    from lib.hardware.networks import Network

    return Network(name, data.x.shape[1], data.x.shape[2], data.classes)
