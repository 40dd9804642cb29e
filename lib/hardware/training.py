"""Hardware-aware training: fresh chips in every step, evaluation on chips never seen.

All replicas of one backward rule (seeds x severities) are one batch. A replica's random numbers come from
its seed alone: its images, its initial weights, its chips and its reads are the same at every severity and
under every rule, so that what differs between two replicas is what is being compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lib import replicas, runtime
from lib.hardware.networks import SIZES, Crossbars, digits, initial, mlp
from lib.hardware.perturbations import Perturbation
from lib.replicas import Optimiser, Tree

BATCH = 128
RATE = 5e-3


def draw(perturbation: Perturbation, params: Tree, batch: int, generator: torch.Generator) -> Tree:
    """The random numbers of one chip and one read of ``batch`` inputs, for the weights of ``params``."""
    drawn: Tree = {}
    for name, weight in params.items():
        kind, _, layer = name.partition(".")
        if kind != "weight":
            continue
        outputs, inputs = weight.shape[-2:]
        if perturbation.chip == "normal":
            drawn[f"chip.{layer}"] = torch.randn(2, outputs, inputs, generator=generator)
        elif perturbation.chip == "uniform":
            drawn[f"chip.{layer}"] = torch.rand(2, outputs, inputs, generator=generator)
        if perturbation.read == "normal":
            drawn[f"read.{layer}"] = torch.randn(batch, outputs, generator=generator)
    return drawn


def tiled(tree: Tree, count: int) -> Tree:
    """One entry per seed [seeds, ...], repeated for ``count`` severities: [severities x seeds, ...].

    Severity by severity, so that neighbours in a batch cost the same to compute.
    """
    return {name: value.repeat(count, *(1,) * (value.dim() - 1)) for name, value in tree.items()}


def spread(per_seed: Sequence[Tree], count: int, device: torch.device) -> Tree:
    """One tree per seed as a batch [severities x seeds, ...] on ``device`` (an empty tree stays empty)."""
    if not per_seed[0]:
        return {}
    return tiled({name: value.to(device) for name, value in replicas.stack(per_seed).items()}, count)


def images(seed: int, step: int | str) -> Tree:
    """The training images and labels of one step."""
    data = digits()
    picked = torch.randint(len(data.y), (BATCH,), generator=runtime.stream(seed, "images", step))
    return {"x": data.x[picked], "y": data.y[picked]}


def objective(params: Tree, inputs: Tree, perturbation: Perturbation | None, rule: str) -> Tensor:
    """Cross-entropy of one replica on the images ``x``, ``y`` of ``inputs``, with its ``severity`` and
    random numbers.
    """
    product = Crossbars(perturbation, inputs.get("severity"), rule, inputs)
    return cross_entropy(mlp(params, inputs["x"], product), inputs["y"])


def train_clean(params: Tree, seeds: Sequence[int], optimiser: Optimiser, first: int = 0) -> Tree:
    """Ordinary training of one network per seed, from ``params`` [seeds, ...]; steps count from ``first``."""
    device = next(iter(params.values())).device

    def inputs(step: int) -> Tree:
        return spread([images(seed, first + step) for seed in seeds], 1, device)

    def loss(one: Tree, drawn: Tree) -> Tensor:
        return objective(one, drawn, None, "unaware")

    return replicas.train(loss, params, inputs, optimiser, label="clean training").params


def fork(seeds: Sequence[int], steps: int, device: torch.device) -> Tree:
    """The common starting point [seeds, ...] of all runs: each seed's network after a short clean training."""
    params = replicas.stack([initial(runtime.stream(seed, "initial"), SIZES) for seed in seeds])
    params = {name: value.to(device) for name, value in params.items()}
    return train_clean(params, seeds, Optimiser("adam", RATE, steps, cosine=False))


def train_aware(
    start: Tree,
    perturbation: Perturbation,
    rule: str,
    severities: Sequence[float],
    seeds: Sequence[int],
    optimiser: Optimiser,
    first: int = 0,
) -> replicas.Training:
    """Hardware-aware training from ``start`` [seeds, ...]: replicas [severities x seeds], a fresh chip and
    read each step.
    """
    device = next(iter(start.values())).device
    params = tiled(start, len(severities))
    severity = torch.tensor(severities, device=device).repeat_interleave(len(seeds))

    def inputs(step: int) -> Tree:
        names = (perturbation.name, "training chip", first + step)
        per_seed = [
            {**images(seed, first + step), **draw(perturbation, start, BATCH, runtime.stream(seed, *names))}
            for seed in seeds
        ]
        return {**spread(per_seed, len(severities), device), "severity": severity}

    def loss(one: Tree, drawn: Tree) -> Tensor:
        return objective(one, drawn, perturbation, rule)

    return replicas.train(loss, params, inputs, optimiser, label=f"{perturbation.name}, {rule}")


def accuracy(params: Tree) -> Tensor:
    """Test accuracy [replicas] of plain networks [replicas, ...]."""
    data = digits()
    device = next(iter(params.values())).device
    logits = torch.func.vmap(mlp, in_dims=(0, None))(params, data.test_x.to(device))
    return (logits.argmax(-1) == data.test_y.to(device)).double().mean(-1).cpu()


@torch.no_grad()
def accuracy_on_chips(
    params: Tree, perturbation: Perturbation, severities: Sequence[float], seeds: Sequence[int], chips: int
) -> Tensor:
    """Test accuracy [severities x seeds, chips] of networks [severities x seeds, ...] on chips never seen
    in training.

    Where nothing is random all chips are the same one, and there is one column. Converters are calibrated
    on the training images first.
    """
    data = digits()
    device = next(iter(params.values())).device
    severity = torch.tensor(severities, device=device).repeat_interleave(len(seeds))
    x, y = data.test_x.to(device), data.test_y.to(device)

    def calibrate(one: Tree, severity: Tensor) -> Tree:
        crossbars = Crossbars(perturbation, severity, "autograd", {})
        mlp(one, data.x.to(device), crossbars)
        return crossbars.ranges

    def logits(one: Tree, severity: Tensor, drawn: Tree) -> Tensor:
        return mlp(one, x, Crossbars(perturbation, severity, "autograd", drawn))

    ranges = torch.func.vmap(calibrate)(params, severity) if perturbation.ranged else {}
    columns = []
    for chip in range(chips if perturbation.random else 1):
        names = (perturbation.name, "unseen chip", chip)
        per_seed = [draw(perturbation, params, len(y), runtime.stream(seed, *names)) for seed in seeds]
        drawn = {**spread(per_seed, len(severities), device), **ranges}
        seen = torch.func.vmap(logits, in_dims=(0, 0, 0 if drawn else None))(params, severity, drawn)
        columns.append((seen.argmax(-1) == y).double().mean(-1))
    return torch.stack(columns, -1).cpu()
