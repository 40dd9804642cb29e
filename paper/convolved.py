"""Convolutions on crossbars without writing their patches out: the same products, several times faster on a CPU.

What enters the arrays of a convolution are the patches of its images. A :class:`Patches` stands for them and answers
the few questions that the physics asks of them, each as a convolution: the product with a weight, the sum of squares
each device sees, the length of an input. :class:`Convolved` is a network whose convolutions hand over these, so
that everything else (chips, backward rules, calibration, diagnostics) is the library's own code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.checks import ParameterError
from lib.hardware.crossbars import matrix
from lib.hardware.networks import Network


@dataclass(frozen=True, eq=False)
class Patches:
    """The inputs [B, L, in] of a convolution's arrays, as the images ``x`` [B, C, H, W] that they are patches of.

    ``where`` is the size, stride and padding of its kernels. What changes numbers one by one changes the images.
    """

    x: Tensor
    where: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, layer: nn.Conv2d, x: Tensor) -> Patches:
        """The patches that the kernels of a layer see."""
        assert layer.groups == 1 and layer.dilation == (1, 1) and not isinstance(layer.padding, str)
        return cls(x, (layer.kernel_size, layer.stride, layer.padding))  # type: ignore[arg-type]

    def _with(self, x: Tensor) -> Patches:
        return Patches(x, self.where)

    @property
    def dtype(self) -> torch.dtype:
        """The type of its numbers."""
        return self.x.dtype

    def to(self, kind: torch.dtype) -> Patches:
        """In another precision."""
        return self._with(self.x.to(kind))

    def detach(self) -> Patches:
        """Constants to a gradient."""
        return self._with(self.x.detach())

    def square(self) -> Patches:
        """The squares."""
        return self._with(self.x.square())

    def abs(self) -> Patches:
        """What a converter at the input asks for, whose range goes by patches and not by images."""
        raise ParameterError(
            "perturbation must be one that leaves the inputs of arrays as they are, but a converter of them was given."
        )

    def __add__(self, other: Patches) -> Patches:
        return self._with(self.x + other.x)

    def __sub__(self, other: Patches) -> Patches:
        return self._with(self.x - other.x)

    def __mul__(self, other: Patches) -> Patches:
        return self._with(self.x * other.x)

    __rmul__ = __mul__

    def __matmul__(self, weight: Tensor) -> Tensor:
        """The product [B, L, out] with a weight [in, out]."""
        (kernel, stride, padding), channels = self.where, self.x.shape[-3]
        kernels = weight.mT.reshape(weight.shape[-1], channels, *kernel)
        return F.conv2d(self.x, kernels, None, stride, padding).flatten(-2).mT

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, given: Any = (), options: Any = None) -> Any:
        if function is F.linear:
            return given[0] @ given[1].mT
        if function is torch.linalg.vector_norm:
            (own,) = given
            assert options == {"dim": -1, "keepdim": True}
            length = math.prod(own.where[0]) * own.x.shape[-3]
            return (own.square() @ torch.ones(length, 1).to(own.x)).clamp_min(0).sqrt()
        return NotImplemented


class Convolved(Network):
    """A network whose convolutions go over their images instead of through patches; see :class:`Network`.

    Converters at the input (:class:`~lib.hardware.devices.DAC`) have no short way and are refused.
    """

    def __init__(self, name: str, channels: int = 1, size: int = 8, classes: int = 10) -> None:
        super().__init__(name, channels, size, classes)
        for at, layer in self._module.named_modules():
            if isinstance(layer, nn.Conv2d):
                layer.forward = partial(self._convolve, layer, at)  # type: ignore[method-assign]

    def _convolve(self, layer: nn.Conv2d, name: str, x: Tensor) -> Tensor:
        product: Callable[[str, Any, Tensor], Tensor] = self._product
        y = product(name, Patches.of(layer, x), matrix(layer, layer.weight)).mT
        sizes = [
            (x.shape[2 + i] + 2 * int(layer.padding[i]) - layer.kernel_size[i]) // layer.stride[i] + 1 for i in (0, 1)
        ]
        images = y.reshape(x.shape[0], layer.out_channels, *sizes)
        return images if layer.bias is None else images + layer.bias[:, None, None]
