"""What a few gradients say about a perturbation before any training through it.

Everything is measured at one point, whatever networks are given: by default the fork, a network after a short
clean training, from which the clean run and all hardware-aware runs continue. At the very beginning the
gradient says little about the task; at the end of a clean run the clean gradient is almost zero and its
direction is noise. At the fork it still points somewhere.

The images are one fixed training batch, so that only the hardware varies between sampled gradients. They
are taken with respect to the weights, which live in the arrays; everything else is digital.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from lib import gradients, runtime
from lib.hardware.numbers import merged
from lib.hardware.perturbations import Perturbation
from lib.hardware.training import Trainer, given, severity_of_replicas, spread, tiled
from lib.replicas import Nested, Tree, mapped, stack, unstack

PROBES = 4
GROUPS = 8
# The slope of the objective is measured over this share of the weights' norm to both sides: an optimiser step moves
# about ten times as far, and single precision resolves the difference of losses to about a per cent. A converter's
# staircase has a slope only on a scale that is wider than its steps, hence ten times the stride there.
STRIDE = 0.0003
STRIDE_ON_STAIRS = 0.003
# Below this share of the largest clean gradient a weight counts as dead: stuck devices leave rounding, not zero.
DEAD = 1e-6


def _rows(tree: Tree) -> Tensor:
    """[R, P]: the flattened parameters of every replica."""
    return torch.cat([value.flatten(1) for value in tree.values()], 1)


def _largest(weights: Tree) -> list[int]:
    """Where the largest weight of every layer lies among all of them."""
    sizes = [value.numel() for value in weights.values()]
    return [sum(sizes[:place]) + int(value.abs().argmax()) for place, value in enumerate(weights.values())]


def _part(inputs: Nested, group: int) -> Nested:
    """One of GROUPS parts of the images, together with their reads; the chip stays."""
    parted = {name: inputs[name] for name in ("x", "y", "read")}
    return {**inputs, **mapped(lambda value: value.chunk(GROUPS, 1)[group], parted)}


def diagnose(
    trainer: Trainer,
    start: Tree,
    perturbation: Perturbation,
    rule: str,
    severities: Sequence[object],
    seeds: Sequence[int],
    count: int,
) -> pd.DataFrame:
    """The three diagnostics at ``start`` [seeds, ...], one row for each seed and severity (of a composed chip, one
    column for each part).

    ``count`` gradients are sampled, each with its own chip and read (one where nothing is random). Columns:

    - consistency: ``cosine`` of E g and the clean gradient with its interval, relative ``bias``, and ``truth``,
      the slope of the mean loss on the hardware along the mean of the sampled gradients over the norm of that mean. The
      loss is that of ``count`` other chips and reads: on those that gave the direction any derivative of what was
      computed would have 1. A true gradient has 1 here as well where ``count`` is enough to average the variance
      out, and 1 / (1 + variance / count) in expectation;
    - variance: ``variance`` = tr Cov g / ‖E g‖² with its interval, and ``signal`` = 1 / (1 + variance), 0 where
      no gradient is left;
    - sensitivity, each relative to the clean network: ``live`` parameters, Jacobian ``gain``, effective ``rank``
      of the gradients of image groups;
    - ``top``: the share of ‖E g‖² that the largest weight of every layer carries, those which set the scales (nan where
      no gradient is left).
    """
    device = next(iter(start.values())).device
    repeat = len(severities)
    params = tiled(start, repeat)
    weights = trainer.weights(params)
    others = {name: value for name, value in params.items() if name not in weights}
    severity = severity_of_replicas(severities, seeds, device)
    kept = trainer.held(params, perturbation, severity)
    batch = [trainer.images(seed, "diagnosis") for seed in seeds]
    size, classes = len(batch[0]["y"]), trainer.data.classes
    count = count if perturbation.random else 1

    def loss(weights: Tree, others: Tree, inputs: Nested, hardware: Perturbation | None, rule: str) -> Tensor:
        return trainer.objective({**weights, **others}, inputs, hardware, rule)

    def projected(weights: Tree, others: Tree, inputs: Nested, hardware: Perturbation | None, rule: str) -> Tensor:
        crossbars = trainer.crossbars(hardware, inputs["severity"], rule, merged(inputs["chip"], inputs["read"]))
        return (trainer.network({**weights, **others}, inputs["x"], crossbars) * inputs["probe"]).sum()

    def inputs(sample: int) -> Nested:
        per_seed = []
        for seed, picked in zip(seeds, batch, strict=True):
            signs = torch.randint(0, 2, (size, classes), generator=runtime.stream(seed, "probe", sample))
            chip = trainer.chip(perturbation, seed, "diagnosis chip", sample)
            read = trainer.read(perturbation, size, seed, "diagnosis", sample)
            per_seed.append({**picked, "chip": chip, "read": read, "probe": 2.0 * signs - 1})
        return given(spread(per_seed, repeat, device), kept, severity)

    def gradient(own: Nested, function=loss, hardware: Perturbation | None = perturbation) -> Tensor:
        def one(weights: Tree, others: Tree, own: Nested) -> Tensor:
            return function(weights, others, own, hardware, rule)

        return _rows(torch.func.vmap(torch.func.grad(one))(weights, others, own))

    drawn = [inputs(sample) for sample in range(max(count, PROBES))]
    # What was averaged over chips is judged on others.
    others_drawn = [inputs(len(drawn) + sample) for sample in range(count)] if perturbation.random else drawn[:count]
    clean = gradient(drawn[0], hardware=None)
    unaware = rule == "unaware"
    sampled = torch.stack([clean] if unaware else [gradient(own) for own in drawn[:count]], 1)
    sampled = sampled.expand(-1, max(sampled.shape[1], 2), -1)
    gains = [
        torch.stack([gradient(own, projected, hardware).square().sum(1) for own in drawn[:PROBES]]).mean(0).sqrt()
        for hardware in ((None,) if unaware else (None, perturbation))
    ]
    grouped = [
        torch.stack([gradient(_part(drawn[0], group), hardware=hardware) for group in range(GROUPS)], 1)
        for hardware in ((None,) if unaware else (None, perturbation))
    ]
    names = [(seed, place, value) for place, value in enumerate(severities) for seed in seeds]
    stride = STRIDE_ON_STAIRS if perturbation.ranged else STRIDE
    rows = []
    for replica, (seed, place, value) in enumerate(names):
        samples, reference = sampled[replica], clean[replica]
        own_weights, own_others = unstack(weights, replica), unstack(others, replica)
        seen = stack([unstack(own, replica) for own in others_drawn])
        at = gradients.flatten(own_weights)

        def mean_loss(vector: Tensor, own=own_weights, fixed=own_others, seen=seen) -> Tensor:
            moved = gradients.unflatten(vector, own)
            losses = torch.func.vmap(loss, in_dims=(None, None, 0, None, None))
            return losses(moved, fixed, seen, perturbation, "autograd").mean()

        moments = gradients.statistics(samples)
        cosine, cosine_interval = gradients.expected_cosine(samples, reference)
        # Relative to the clean gradient: on the chip a single weight, the one that sets the scale, may tower.
        floor = DEAD * float(grouped[0][replica].abs().max())
        dead = [gradients.dead_fraction(group[replica], floor) for group in grouped]
        ranks = [gradients.effective_rank(group[replica]) for group in grouped]
        ratio = moments.variance_ratio
        low, high = gradients.variance_interval(samples)
        rows.append(
            {
                "seed": seed,
                **perturbation.columns(place, value),
                "cosine": cosine,
                "cosine_low": cosine_interval[0],
                "cosine_high": cosine_interval[1],
                "bias": gradients.relative_bias(samples, reference),
                "truth": gradients.truth(mean_loss, at, moments.mean, stride * float(at.norm())),
                "variance": ratio,
                "variance_low": low,
                "variance_high": high,
                "signal": 0.0 if ratio != ratio else 1 / (1 + ratio),
                "live": (1 - dead[-1]) / (1 - dead[0]),
                "gain": float(gains[-1][replica] / gains[0][replica]),
                "rank": ranks[-1] / ranks[0],
                "top": float(moments.mean[_largest(own_weights)].square().sum() / moments.mean.square().sum()),
            }
        )
    return pd.DataFrame(rows)
