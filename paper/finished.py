"""Finished networks for CIFAR-10: their weights and record, the sample of pictures beside them, and their trainer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from lib import checks, runtime
from lib.checks import ParameterError
from lib.hardware.networks import Images, Network, dataset
from lib.hardware.numbers import Numbers
from lib.hardware.perturbations import Perturbation
from lib.hardware.training import Trainer
from lib.replicas import Nested, Tree, stack
from paper import ROOT
from paper.convolved import Convolved

#: Where weights and their records lie, and the sample of pictures.
WEIGHTS = ROOT / "paper" / "weights"
SAMPLE = ROOT / "paper" / "pictures" / "cifar10"
#: The networks that are there.
FINISHED = ("cnn_norm", "resnet_narrow")
#: Channels, pixels and classes of the pictures.
CHANNELS, SIZE, CLASSES = 3, 32, 10
#: Training pictures on which converters and statistics are calibrated: each is a thousand places of a kernel.
CALIBRATION = 300
#: Pixels by which a training picture is moved at most.
MARGIN = 4


def record(name: str, folder: Path = WEIGHTS) -> dict[str, Any]:
    """How a finished network came about: recipe, training curve, accuracy, checksum."""
    path = folder / f"{checks.choice('network', name, FINISHED)}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ParameterError(
            f"network must be one with a record of its training in {path.name}, but {name!r} without a readable one was"
            f" given ({checks.reason(problem)}): run python -m paper.tools.pretrain_hardware {name}."
        ) from None


def weights(name: str, folder: Path = WEIGHTS) -> Tree:
    """The parameters of a finished network in single precision.

    A file that is missing, damaged, changed or of another shape is a :class:`~lib.checks.ParameterError`.
    """
    wanted, path = record(name, folder), folder / f"{name}.safetensors"
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise ParameterError(
            f"network must be one with weights in {path.name}, but {name!r} without them was given"
            f" ({checks.reason(problem)}): run python -m paper.tools.pretrain_hardware {name}."
        ) from None
    if hashlib.sha256(content).hexdigest() != wanted["sha256"]:
        raise ParameterError(f"{path.name} must have the SHA-256 of its record, but a file with another was given.")
    try:
        found = load_file(path)
    except safetensors.SafetensorError as problem:
        raise ParameterError(
            f"{path.name} must be safetensors, but a file was given: {checks.reason(problem)}."
        ) from None
    shapes = {key: value.shape for key, value in _network(name).initial(torch.Generator()).items()}
    held = {key: value.shape for key, value in found.items()}
    if held != shapes:
        odd = next(key for key in [*shapes, *held] if held.get(key) != shapes.get(key))
        raise ParameterError(
            f"{path.name} must hold the tensors of {name}, but {odd} of shape {held.get(odd)} was given."
        )
    return {key: found[key].float() for key in shapes}


@cache
def _network(name: str) -> Network:
    return Convolved(name, CHANNELS, SIZE, CLASSES)


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [N, C, H, W], each moved by up to MARGIN pixels (black comes in), and every other one mirrored."""
    count, _, height, width = x.shape
    down, right = (torch.randint(2 * MARGIN + 1, (count, 1), generator=generator) for _ in range(2))
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = down + torch.arange(height)
    columns = right + torch.where(mirrored, torch.arange(width).flip(0), torch.arange(width))
    padded = F.pad(x, (MARGIN,) * 4)
    return padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class OnPictures(Trainer):
    """A trainer whose training pictures are moved and mirrored, and which calibrates on a few hundred of them."""

    def images(self, seed: int, step: int | str) -> Tree:
        """The training images and labels of one step."""
        plain = super().images(seed, step)
        return {**plain, "x": moved(plain["x"], runtime.stream(seed, "moved", step))}

    def calibrate(self, params: Nested, perturbation: Perturbation | None, severity: Tensor, chip: Numbers) -> Numbers:
        """What is calibrated on CALIBRATION training pictures, every so many of them."""
        x, y = (part[:: max(1, len(part) // CALIBRATION)][:CALIBRATION] for part in (self.data.x, self.data.y))
        few = Trainer(self.network, self.data._replace(x=x, y=y), self.batch, self.digital)
        return few.calibrate(params, perturbation, severity, chip)


@cache
def pictures(root: str) -> Images:
    """CIFAR-10 below a folder; without one, the sample."""
    return dataset("cifar10", root or str(SAMPLE))


@cache
def identity(root: str) -> str:
    """What tells these pictures, with their labels and order, from others."""
    found = hashlib.sha256()
    for part in pictures(root):
        found.update(part.contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def some(images: Images, count: int) -> Images:
    """With at most so many test pictures: every so many, for they lie class by class."""
    every = max(1, len(images.test_y) // count)
    x, y = (part[::every][:count] for part in (images.test_x, images.test_y))
    return images._replace(test_x=x, test_y=y)


def trainer(name: str, root: str, batch: int, judged: int) -> OnPictures:
    """The trainer of a finished network, which judges it on so many test pictures."""
    return OnPictures(_network(name), some(pictures(root), judged), batch)


def start(name: str, seeds: Sequence[int], device: torch.device) -> Tree:
    """The finished network [seeds, ...], the same for all of them: a seed is an order of pictures, chips and reads."""
    own = weights(name)
    return {key: value.to(device) for key, value in stack([own for _ in seeds]).items()}
