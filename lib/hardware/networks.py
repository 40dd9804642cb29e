"""The networks and data of Part II.

A network is an ordinary ``nn.Module`` whose layers compute through a ``product`` (:mod:`lib.hardware.crossbars`) and
whose parameters come from outside, so that ``torch.func`` can map it over replicas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib import checks, pictures
from lib.hardware.crossbars import Crossbars, Product, Shape, divert, ideal, mappable
from lib.hardware.numbers import STATISTICS
from lib.replicas import Nested, Tree

DATA = ("digits", "cifar10")
#: Among the parameters of a network the branch with what is trained of its chip (:mod:`lib.hardware.numbers`).
LEARNED = "learned"


class Images(NamedTuple):
    """Images [N, C, H, W] with values from 0 to 1, and labels [N], for training and for testing."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.y.max()) + 1


@cache
def digits() -> Images:
    """The 1,797 handwritten digits that come with scikit-learn: two thirds train, one third tests.

    The split is fixed and stratified; it does not depend on a seed of ours.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(images / 16, labels, test_size=1 / 3, stratify=labels, random_state=0)
    pixels, test_pixels = (torch.from_numpy(part).float().view(-1, 1, 8, 8) for part in (x, test_x))
    return Images(pixels, torch.from_numpy(y).long(), test_pixels, torch.from_numpy(test_y).long())


@cache
def cifar10(root: str) -> Images:
    """CIFAR-10 below ``root``: either an image folder ``train|test/CLASS/NAME.jpg``, or torchvision's own files.

    Nothing is downloaded: a folder that holds neither is refused with what to put there.
    """
    below, batches = pictures.folder(root), "cifar-10-batches-py"
    packed = (below / batches).is_dir() and not all((below / part).is_dir() for part in ("train", "test"))
    other = f"torchvision's {batches} (from cifar-10-python.tar.gz)"
    found = pictures.whole(
        "CIFAR-10", below, lambda: pictures.batches(below) if packed else pictures.by_class(below, other)
    )
    tensors: list[Tensor] = []
    for items in (found.train, found.test):
        items[:] = [(np.asarray(pictures.rgb(picture)), label) for picture, label in items]
        x, y = zip(*items, strict=True)
        if odd := next((f"{one.shape[1]} x {one.shape[0]}" for one in x if one.shape != (32, 32, 3)), None):
            raise checks.ParameterError(f"root must hold pictures of 32 x 32 pixels, but {odd} was given.")
        tensors += [torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2).float() / 255, torch.tensor(y)]
    found.distinct()
    return Images(*tensors)


def dataset(name: str, root: str = "") -> Images:
    """The data by name; ``root`` is where pictures that do not come with the library lie."""
    if checks.choice("data", name, DATA) == "cifar10" or root != "":
        root = str(pictures.folder(root))
    return cifar10(root) if name == "cifar10" else digits()


# ------------------------------------------------------------------------------------------------- networks


class BatchNorm(nn.Module):
    """Batch normalisation whose statistics come from outside, or from the batch where none are given.

    There is no running average: statistics are measured in a pass of their own, on the chip or off it, which is what
    recalibrating them means.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.name = ""
        self.statistics: Callable[[str, Tensor], tuple[Tensor, Tensor]] = self.of_batch

    @staticmethod
    def of_batch(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [channels] of images [B, C, H, W]."""
        return x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.statistics(self.name, x)
        normal = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return normal * self.scale[:, None, None] + self.shift[:, None, None]


class Block(nn.Module):
    """Two convolutions with a way around them (He et al. 2016); where it narrows, the way drops every other pixel."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = BatchNorm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = BatchNorm(outputs)
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.second_norm(self.second(self.first_norm(self.first(x)).relu()))
        around = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return (y + around).relu()


class Attention(nn.Module):
    """A transformer block whose four products are layers of their own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[-2:]
        parts = self.mix(self.before(x)).reshape(-1, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(-1, tokens, width))
        return x + self.narrow(F.gelu(self.wide(self.between(x))))


class Tokens(nn.Module):
    """Patches of an image as tokens, with learned positions."""

    def __init__(self, channels: int, size: int, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(channels * patch**2, width)
        self.place = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(F.unfold(x, self.patch, stride=self.patch).mT) + self.place


class Pooled(nn.Module):
    """The mean over tokens [B, T, d], or over the pixels of images [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1) if x.dim() == 3 else x.mean((2, 3))


def _mlp(channels: int, size: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * size**2, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes)
    )


def _cnn(channels: int, size: int, classes: int, norm: bool = False) -> nn.Module:
    def layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not norm)
        return [convolution, *([BatchNorm(outputs)] if norm else []), nn.ReLU()]

    body = [*layer(channels, 8, 1), *layer(8, 16, 2), *layer(16, 16, 2)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(16 * math.ceil(size / 4) ** 2, classes))


def _vit(channels: int, size: int, classes: int) -> nn.Module:
    width, patch = 24, size // 4
    body = [Tokens(channels, size, patch, width), Attention(width, 2), nn.LayerNorm(width), Pooled()]
    return nn.Sequential(*body, nn.Linear(width, classes))


def _resnet(channels: int, size: int, classes: int, width: int = 16) -> nn.Module:
    """ResNet-20 (He et al. 2016, for CIFAR-10): three stages of three blocks, 1, 2 and 4 times ``width`` channels."""
    widths = [width] * 3 + [2 * width] * 3 + [4 * width] * 3
    blocks = [Block(a, b, 2 if b > a else 1) for a, b in zip([width, *widths], widths, strict=False)]
    first = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
    return nn.Sequential(first, BatchNorm(width), nn.ReLU(), *blocks, Pooled(), nn.Linear(4 * width, classes))


_NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "cnn_norm": lambda *given: _cnn(*given, norm=True),  # type: ignore[misc]
    "vit": _vit,
    "resnet": _resnet,
    "resnet_narrow": lambda *given: _resnet(*given, width=8),  # type: ignore[misc]
}
NETWORKS = tuple(_NETWORKS)


def build(name: str, channels: int = 1, size: int = 8, classes: int = 10) -> nn.Module:
    """The plain module of that name, as it is built: with it a network can be trained in the computer alone."""
    return _NETWORKS[checks.choice("network", name, NETWORKS)](channels, size, classes)


class Network:
    """A network by name for images of ``size`` x ``size`` pixels: its parameters are an argument.

    ``layers`` are the names of those on crossbars (``LAYER.weight`` is their parameter), ``shapes`` what their random
    numbers look like.
    """

    def __init__(self, name: str, channels: int = 1, size: int = 8, classes: int = 10) -> None:
        self.name = checks.choice("network", name, NETWORKS)
        self._input = (channels, size, size)
        with torch.random.fork_rng(devices=[]):
            self._module = build(name, channels, size, classes).requires_grad_(False)
        self._product: Product = ideal
        self._statistics = BatchNorm.of_batch
        layers = mappable(self._module)
        self.layers = tuple(layers)
        divert(layers, lambda: self._product)
        for at, module in self._module.named_modules():
            if isinstance(module, BatchNorm):
                module.name, module.statistics = at, lambda norm, x: self._statistics(norm, x)
        self.normalised = any(isinstance(module, BatchNorm) for module in self._module.modules())
        self.shapes = self._shapes()

    def _shapes(self) -> dict[str, Shape]:
        found: dict[str, Shape] = {}

        def record(layer: str, x: Tensor, weight: Tensor) -> Tensor:
            y = ideal(layer, x, weight)
            found[layer] = Shape(tuple(weight.shape), tuple(y.shape[1:]))
            return y

        self(dict(self._module.named_parameters()), torch.zeros(1, *self._input), record)
        return found

    def initial(self, generator: torch.Generator) -> Tree:
        """Parameters for a new network: weights with variance 2/in (He et al. 2015), biases zero, the rest as built."""
        params: Tree = {}
        for name, value in self._module.named_parameters():
            layer, _, kind = name.rpartition(".")
            if layer in self.layers:
                fan = value[0].numel()
                drawn = torch.randn(value.shape, generator=generator) * math.sqrt(2 / fan)
                params[name] = drawn if kind == "weight" else torch.zeros_like(value)
            elif name.endswith("place"):
                params[name] = 0.02 * torch.randn(value.shape, generator=generator)
            else:
                params[name] = value.detach().clone()
        return params

    def weights(self, params: Tree) -> Tree:
        """The parameters that live in arrays."""
        return {name: params[name] for name in (f"{layer}.weight" for layer in self.layers)}

    def __call__(self, params: Nested, x: Tensor, product: Product = ideal) -> Tensor:
        """Logits [batch, classes] for images [batch, C, H, W]; what is :data:`LEARNED` of the chip is no matter here.

        On :class:`~lib.hardware.crossbars.Crossbars` the statistics of batch normalisation are calibrated like the
        range of a converter: taken from ``drawn`` where they are there, from the batch where they are not.
        """
        self._product, self._statistics = product, BatchNorm.of_batch
        if isinstance(product, Crossbars):
            self._statistics = lambda norm, images: self._calibrated(product, norm, images)  # type: ignore[assignment]
        own = {name: value for name, value in params.items() if name != LEARNED}
        return torch.func.functional_call(self._module, own, (x,))

    @staticmethod
    def _calibrated(crossbars: Crossbars, norm: str, images: Tensor) -> tuple[Tensor, Tensor]:
        known = crossbars.drawn.get(norm, {}).get(STATISTICS)
        if known:
            return known["mean"], known["variance"]
        mean, variance = BatchNorm.of_batch(norm, images)
        crossbars.calibrated[norm] = {STATISTICS: {"mean": mean.detach(), "variance": variance.detach()}}
        return mean, variance


@cache
def network(name: str, data: str = "digits", root: str = "") -> Network:
    """The network for a data set, made once."""
    images = dataset(data, root)
    return Network(name, images.x.shape[1], images.x.shape[2], images.classes)
