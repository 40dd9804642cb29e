"""Networks whose matrix products run on crossbars.

A network is a function of a tree of parameters; everything it does with a weight matrix goes through one
``product(layer, x, weight)``. :class:`Crossbars` is that function on hardware; :func:`ideal` is it in a
computer. A convolution fits the same slot: its patches are the rows of ``x``, its kernels the rows of
``weight``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from lib.hardware.perturbations import Perturbation, full_scale, seen_weight, to_pair
from lib.replicas import Tree

# How the gradient passes the perturbation.
RULES = ("autograd", "straight_through", "unaware")
# 8x8 pixels in, ten digits out.
SIZES = (64, 64, 32, 10)

Product = Callable[[str, Tensor, Tensor], Tensor]


class Digits(NamedTuple):
    """Images [N, 64] with values from 0 to 1, and labels [N], for training and for testing."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


@cache
def digits() -> Digits:
    """The 1,797 handwritten digits that come with scikit-learn: two thirds train, one third tests.

    The split is fixed and stratified; it does not depend on a seed of ours.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(images / 16, labels, test_size=1 / 3, stratify=labels, random_state=0)
    pixels, test_pixels = (torch.from_numpy(part).float() for part in (x, test_x))
    return Digits(pixels, torch.from_numpy(y).long(), test_pixels, torch.from_numpy(test_y).long())


def initial(generator: torch.Generator, sizes: Sequence[int] = SIZES) -> Tree:
    """``weight.0`` [out, in] and so on with variance 2/in (He et al. 2015), ``bias.0`` [out] and so on zero."""
    params: Tree = {}
    for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        params[f"weight.{layer}"] = torch.randn(outputs, inputs, generator=generator) * math.sqrt(2 / inputs)
        params[f"bias.{layer}"] = torch.zeros(outputs)
    return params


def layers(params: Tree) -> list[str]:
    """The layers' names, in order."""
    return [name.partition(".")[2] for name in params if name.startswith("weight.")]


def ideal(layer: str, x: Tensor, weight: Tensor) -> Tensor:
    """The product as a computer computes it."""
    return linear(x, weight)


def mlp(params: Tree, x: Tensor, product: Product = ideal) -> Tensor:
    """Logits [batch, classes] of the multilayer perceptron with ReLU; biases are added digitally."""
    names = layers(params)
    for layer in names:
        x = product(layer, x, params[f"weight.{layer}"]) + params[f"bias.{layer}"]
        if layer != names[-1]:
            x = x.relu()
    return x


@dataclass(frozen=True)
class Crossbars:
    """The product of every layer on one chip, in one read.

    ``drawn`` holds the random numbers, ``chip.LAYER`` [2, out, in] and ``read.LAYER`` [batch, out], and the
    calibrated ranges ``range.LAYER``; where a range is missing, the currents at hand calibrate it.
    ``ranges`` fills with the ranges that were used. ``perturbation`` None is "off": the plain network, bit
    by bit. Every tensor is a single replica's.
    """

    perturbation: Perturbation | None
    severity: Tensor
    rule: str
    drawn: Tree
    ranges: Tree = field(default_factory=dict)

    def __call__(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        if self.perturbation is None or self.rule == "unaware":
            return linear(x, weight)
        if self.rule == "straight_through":
            # What comes back is the clean product's gradient, in the weight and in the input alike.
            clean = linear(x, weight)
            return clean + (self._perturbed(layer, x.detach(), weight.detach()) - clean).detach()
        return self._perturbed(layer, x, weight)

    def _perturbed(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        assert self.perturbation is not None
        pair = to_pair(weight)
        changed = self.perturbation.conductance(pair.g, self.severity, self.drawn.get(f"chip.{layer}"))
        y = linear(x, weight if changed is pair.g else seen_weight(pair, changed))
        bound = None
        if self.perturbation.ranged:
            bound = self.drawn.get(f"range.{layer}")
            bound = self.ranges[f"range.{layer}"] = full_scale(y) if bound is None else bound
        return self.perturbation.current(y, x, pair.scale, self.severity, self.drawn.get(f"read.{layer}"), bound)
