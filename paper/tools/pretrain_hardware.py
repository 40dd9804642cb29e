"""Trains a network of Part II on CIFAR-10 in the computer, until trained, and reports what it can.

``python -m paper.tools.pretrain_hardware NETWORK --root FOLDER`` trains again what lies in ``paper/weights``. The
module is the plain one, without crossbars: ordinary convolutions and torch's own batch normalisation, in bfloat16 where
the network is normalised. What is kept is a tree of parameters as :class:`lib.hardware.networks.Network` takes it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import nn

from lib import checks, runtime
from lib.checks import ParameterError
from lib.hardware.networks import BatchNorm, Images, Network, build, dataset
from lib.hardware.training import Trainer
from lib.replicas import Tree
from lib.results import provenance, write
from paper.convolved import Convolved
from paper.finished import FINISHED, WEIGHTS, moved


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
    weight_decay: float = 2e-4
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
    net = plain(build(name, channels, size, data.classes))
    begin = Network(name, channels, size, data.classes).initial(runtime.stream(recipe.seed, "initial"))
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


#: What the weights here were trained with, where it is not the recipe's default.
RECIPES = {"cnn_norm": Recipe(epochs=30), "resnet_narrow": Recipe(epochs=9)}


def slope(curve: list[dict]) -> float:
    """How the loss still falls at the end: its slope over the last quarter of the steps, per 1,000 of them."""
    last = curve[-max(2, len(curve) // 4) :]
    steps, losses = (np.array([row[name] for row in last], dtype=float) for name in ("step", "loss"))
    return float(np.polyfit(steps / 1000, losses, 1)[0])


def finish(
    name: str, params: Tree, curve: list[dict], recipe: Recipe, data: Images, folder: Path, note: str = ""
) -> dict[str, object]:
    """Writes weights (half precision) and their record, and returns the record. What was written is what is judged."""
    half = {key: value.to(torch.float16).contiguous() for key, value in params.items()}
    channels, size = data.x.shape[1:3]
    judge = Trainer(Convolved(name, channels, size, data.classes), data)
    accuracy = float(judge.accuracy({key: value.float()[None] for key, value in half.items()}))
    content = save(half)
    found = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(value.numel() for value in params.values()),
        "recipe": asdict(recipe),
        **({"note": note} if note else {}),
        "steps": curve[-1]["step"],
        "accuracy": round(accuracy, 4),
        "test_pictures": len(data.test_y),
        "slope": round(slope(curve), 5),
        "curve": curve,
        "provenance": {**provenance(torch.device("cpu"), curve[-1]["seconds"]), "seeds": [recipe.seed]},
    }
    write(folder / f"{name}.safetensors", content)
    write(folder / f"{name}.json", f"{json.dumps(found, indent=1)}\n".encode())
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line: trains, writes weights and record, prints what came of it."""
    parser = argparse.ArgumentParser(description="Train a network of Part II on CIFAR-10 (minutes on one core).")
    parser.add_argument("network", help=", ".join(FINISHED))
    parser.add_argument("--root", required=True, help="the folder of CIFAR-10 (book/rerun.md)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for weights and record")
    parser.add_argument("--checkpoint", type=Path, help="a file from which an interrupted training goes on")
    for entry in fields(Recipe):
        parser.add_argument(f"--{entry.name.replace('_', '-')}", type=type(entry.default))
    given = vars(parser.parse_args(arguments))
    try:
        name = checks.choice("network", given["network"], FINISHED)
        changed = {entry.name: given[entry.name] for entry in fields(Recipe) if given[entry.name] is not None}
        recipe = replace(RECIPES[name], **changed)
        folder, data = checks.writable("out", given["out"]), dataset("cifar10", given["root"])
    except ParameterError as problem:
        print(problem, file=sys.stderr)
        return 2

    def report(row: dict) -> None:
        print(f"step {row['step']:6d}  loss {row['loss']:.3f}  {row['seconds']:.0f} s", flush=True)

    params, curve = train(name, data, recipe, report, given["checkpoint"])
    found = finish(name, params, curve, recipe, data, folder)
    print(f"{name}: {100 * float(found['accuracy']):.1f} % of {found['test_pictures']} test pictures")  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
