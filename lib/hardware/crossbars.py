"""Layers on crossbars: the product of a linear or convolutional layer on a chip, and any module placed on one.

Everything that a layer does with its weight goes through one ``product(layer, x, weight)`` with ``x`` [batch, ..., in]
and ``weight`` [..., out, in]. :class:`Crossbars` is that function on hardware, :func:`ideal` is it in a computer. A
convolution fits the same slot: its patches are the inputs, one read each, and every group of it is an array of its own.
Biases are added digitally.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib import checks
from lib.hardware.numbers import ARRAY, Numbers, Parts, merged
from lib.hardware.perturbations import (
    Arrays,
    Pair,
    Perturbation,
    moved_weight,
    natural_scale,
    seen_weight,
    single,
    to_pair,
)
from lib.replicas import mapped

#: How the gradient passes the perturbation.
RULES = ("autograd", "straight_through", "unaware")

Product = Callable[[str, Tensor, Tensor], Tensor]


def ideal(layer: str, x: Tensor, weight: Tensor) -> Tensor:
    """The product as a computer computes it."""
    return F.linear(x, weight) if weight.dim() == 2 else x @ weight.mT


class Shape(NamedTuple):
    """What a layer's random numbers look like: its weight [..., out, in], and the currents of one input [..., out]."""

    weight: tuple[int, ...]
    current: tuple[int, ...]


def draw_chip(perturbation: Perturbation, shapes: dict[str, Shape], generator: torch.Generator) -> Numbers:
    """The random numbers of one chip."""
    return merged(
        *(
            {layer: perturbation.parts_of(draw(shape.weight, generator))}
            for draw in (perturbation.draw_chip, perturbation.draw_more)
            for layer, shape in shapes.items()
        )
    )


def draw_read(perturbation: Perturbation, shapes: dict[str, Shape], batch: int, generator: torch.Generator) -> Numbers:
    """The random numbers of one read of ``batch`` inputs."""
    return merged(
        *(
            {layer: perturbation.parts_of(perturbation.draw_read((batch, *shape.current), generator))}
            for layer, shape in shapes.items()
        )
    )


class _Programmed(NamedTuple):
    """A layer whose weight is in its arrays, and how to know that weight again."""

    weight: Tensor
    version: int
    norm: Tensor
    seen: Tensor
    arrays: Arrays

    def still(self, weight: Tensor) -> bool:
        """Is ``weight`` the one that was programmed, unchanged since?"""
        same = weight.data_ptr() == self.weight.data_ptr() and weight.shape == self.weight.shape
        # A change through `.data` leaves the version alone, but hardly the norm.
        return same and weight._version == self.version and bool(torch.linalg.vector_norm(weight) == self.norm)


@dataclass(frozen=True)
class Crossbars:
    """The product of every layer on one chip, in one read.

    ``drawn`` holds the numbers of a chip and of a read (:func:`draw_chip`, :func:`draw_read`), and what was calibrated,
    such as the range of a converter. What is missing among the latter is calibrated on the currents at hand;
    ``calibrated`` fills with it. ``perturbation`` None is "off": the plain network, bit by bit.
    ``memory`` keeps what is programmed from one operation to the next while no gradient is asked for and the weight is
    the same. Every tensor is a single replica's.
    """

    perturbation: Perturbation | None
    severity: Tensor
    rule: str
    drawn: Numbers
    calibrated: Numbers = field(default_factory=dict)
    memory: dict[str, _Programmed] | None = None

    def __post_init__(self) -> None:
        if self.severity is not None and (kind := self.severity.dtype) not in (torch.float32, torch.float64):
            raise checks.ParameterError(f"severity must be a tensor of float32 or float64, but {kind} was given.")

    def __call__(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        if self.perturbation is None or self.rule == "unaware":
            return ideal(layer, x, weight)
        if self.rule == "straight_through":
            # What comes back is the clean product's gradient, in the weight and in the input alike.
            clean = ideal(layer, x, weight)
            return clean + (self._perturbed(layer, x.detach(), weight.detach()) - clean).detach()
        return self._perturbed(layer, x, weight)

    def of_layer(self, layer: str) -> Parts:
        """The layer's numbers, to which others can be added."""
        return {part: dict(own) for part, own in self.drawn.get(layer, {}).items()}

    def program(self, weight: Tensor, parts: Parts) -> tuple[Tensor, Arrays]:
        """The weight that the network sees once ``weight`` is programmed into a layer's arrays, and the arrays."""
        hardware = self.perturbation
        assert hardware is not None
        drawn, array = hardware.own(parts), parts.setdefault(ARRAY, {})
        if hardware.alone and not hardware.fixed_scale:
            empty = weight.new_empty(0)
            seen = moved_weight(weight, self.severity, drawn["chip"], hardware)
            return seen, Arrays(Pair(weight, empty, empty), empty)
        if hardware.fixed_scale and "scale" not in array:
            array["scale"] = natural_scale(weight.detach(), hardware.window)
        pair = to_pair(weight, hardware.window, array.get("scale"), hardware.arrays)
        g = hardware.conductance(pair.g, self.severity, drawn) if hardware.arrays else pair.g
        return pair.weight if g is pair.g else seen_weight(pair, g), Arrays(pair, g)

    def _programmed(self, layer: str, weight: Tensor, parts: Parts) -> tuple[Tensor, Arrays]:
        if self.memory is None or torch.is_grad_enabled():
            return self.program(weight, parts)
        kept = self.memory.get(layer)
        if kept is None or not kept.still(weight):
            norm = torch.linalg.vector_norm(weight)
            kept = _Programmed(weight, weight._version, norm, *self.program(weight, parts))
            self.memory[layer] = kept
        return kept.seen, kept.arrays

    def operate(self, layer: str, x: Tensor, seen: Tensor, arrays: Arrays, parts: Parts) -> Tensor:
        """One read of programmed arrays."""
        hardware = self.perturbation
        assert hardware is not None
        drawn = hardware.own(parts)
        x = hardware.voltage(x, self.severity, drawn)
        y = hardware.current(ideal(layer, x, seen), x, arrays, self.severity, drawn)
        return hardware.digital(y, arrays, self.severity, drawn)

    def _perturbed(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        given, parts = self.drawn.get(layer, {}), self.of_layer(layer)
        y = self.operate(layer, single(x), *self._programmed(layer, single(weight), parts), parts)
        for part, own in parts.items():
            if found := {kind: value for kind, value in own.items() if kind not in given.get(part, {})}:
                self.calibrated.setdefault(layer, {})[part] = found
        return y.to(x.dtype)


# ------------------------------------------------------------------------------------------------ any module


def rows(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The patches of images [B, C, H, W] as inputs of arrays, and how to make images of the results again.

    Inputs are [B, L, in], with groups [B, groups, L, in]; L counts the places of the kernel.
    """
    if isinstance(layer.padding, str):
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        same = layer.padding == "same"
        height, width = ([extra // 2, extra - extra // 2] if same else [0, 0] for extra in total)
        x, padding = F.pad(x, (*width, *height)), (0, 0)
    else:
        padding = layer.padding  # type: ignore[assignment]
    sizes = [
        (x.shape[2 + i] + 2 * padding[i] - layer.dilation[i] * (layer.kernel_size[i] - 1) - 1) // layer.stride[i] + 1
        for i in range(2)
    ]
    patches = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
    batch, groups = x.shape[0], layer.groups
    if groups == 1:
        return patches.mT, lambda y: y.mT.reshape(batch, -1, *sizes)
    parted = patches.reshape(batch, groups, -1, patches.shape[-1])
    return parted.mT, lambda y: y.mT.reshape(batch, -1, *sizes)


def matrix(layer: nn.Module) -> Tensor:
    """The weight of a layer as its arrays hold it: [out, in], with groups [groups, out, in]."""
    weight = layer.weight.flatten(1)  # type: ignore[operator]
    groups = getattr(layer, "groups", 1)
    return weight if groups == 1 else weight.unflatten(0, (groups, -1))


def _forward(layer: nn.Module, name: str, product: Callable[[], Product], x: Tensor) -> Tensor:
    """What takes the place of a layer's own forward."""
    if isinstance(layer, nn.Linear):
        y = product()(name, x, layer.weight)
        return y if layer.bias is None else y + layer.bias
    if x.dim() == 3:
        return _forward(layer, name, product, x[None])[0]
    inputs, images = rows(layer, x)  # type: ignore[arg-type]
    y = images(product()(name, inputs, matrix(layer)))
    return y if layer.bias is None else y + layer.bias[:, None, None]  # type: ignore[index]


def _reason(layer: nn.Module) -> str | None:
    """Why a module with products of its own cannot be mapped, or None."""
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"it pads with {layer.padding_mode!r} instead of zeros"
    if isinstance(layer, nn.Linear | nn.Conv2d):
        own = type(layer).forward not in (nn.Linear.forward, nn.Conv2d.forward)
        return "its class has a forward of its own" if own else None
    if isinstance(layer, nn.TransformerEncoderLayer):
        return "in evaluation it computes without calling its layers"
    if isinstance(layer, nn.MultiheadAttention):
        return "its products are not layers of their own; write them as Linear"
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase | nn.Bilinear | nn.modules.conv._ConvNd):
        return "only Linear and Conv2d have a mapping"
    return None


def mappable(model: nn.Module, digital: Sequence[str] = ()) -> dict[str, nn.Module]:
    """The layers of ``model`` that go onto crossbars, by name; those named ``digital`` stay in the computer.

    A layer that multiplies by a weight but has no mapping is a :class:`~lib.checks.ParameterError` with its name and
    the reason; so is a name in ``digital`` that is no module, and a model without any layer to map.
    """
    modules = dict(model.named_modules())
    for name in digital:
        checks.choice("digital", name, [key for key in modules if key])
    kept = tuple(digital)
    found: dict[str, nn.Module] = {}
    for name, layer in modules.items():
        if any(name == one or name.startswith(f"{one}.") for one in kept):
            continue
        if reason := _reason(layer):
            raise checks.ParameterError(
                f"model must have layers that can be mapped, but {name or 'the model'} ({type(layer).__name__}) was "
                f"given: {reason}, or name it in digital."
            )
        if isinstance(layer, nn.Linear | nn.Conv2d):
            found[name] = layer
    if not found:
        raise checks.ParameterError("model must have a Linear or a Conv2d, but one without any was given.")
    return found


def divert(layers: dict[str, nn.Module], product: Callable[[], Product]) -> Callable[[], None]:
    """Let the layers compute through ``product()``; returns a function that undoes it. Their classes stay untouched."""
    before = {name: vars(layer).get("forward") for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.forward = partial(_forward, layer, name, product)

    def undo() -> None:
        for name, layer in layers.items():
            del layer.forward
            # A block within a block goes back to what the outer one computes.
            if before[name] is not None:
                layer.forward = before[name]  # type: ignore[assignment]

    return undo


class OnChip:
    """A module on a chip, for as long as :func:`on_chip` lasts. Draws every read anew, the chip when it is asked to."""

    def __init__(self, perturbation: Perturbation, severity: object, rule: str, generator: torch.Generator) -> None:
        self.perturbation, self.rule, self.generator = perturbation, checks.choice("rule", rule, RULES), generator
        self.severity = torch.tensor(perturbation.check(severity))
        self._numbers: Numbers = {}
        self._made: set[str] = set()
        self._memory: dict[str, _Programmed] = {}
        #: How far the last product of every layer lay from the ideal one: the largest difference.
        self.changed: dict[str, float] = {}
        #: Watch ``changed``: costs a second product for every layer.
        self.watch = False

    def renew(self) -> None:
        """A new chip: its numbers are drawn, and its converters calibrated, when they are next needed."""
        self._numbers.clear()
        self._made.clear()
        self._memory.clear()

    def product(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        """The product of one layer in one read."""
        hardware = self.perturbation
        if layer not in self._made:
            self._made.add(layer)
            chip = draw_chip(hardware, {layer: Shape(tuple(weight.shape), ())}, self.generator)
            self._numbers |= mapped(lambda value: value.to(x), chip)
        read = hardware.parts_of(hardware.draw_read((*x.shape[:-1], weight.shape[-2]), self.generator))
        drawn = merged(self._numbers, {layer: mapped(lambda value: value.to(x), read)})
        crossbars = Crossbars(hardware, self.severity.to(x), self.rule, drawn, memory=self._memory)
        y = crossbars(layer, x, weight)
        found = mapped(lambda value: value.detach(), crossbars.calibrated)
        self._numbers = merged(self._numbers, found)
        if self.watch:
            self.changed[layer] = float((y - ideal(layer, x, weight)).detach().abs().max())
        return y


@contextlib.contextmanager
def on_chip(
    model: nn.Module,
    perturbation: Perturbation | None,
    severity: object = None,
    *,
    rule: str = "autograd",
    generator: torch.Generator | None = None,
    digital: Sequence[str] = (),
) -> Iterator[OnChip | None]:
    """Place every Linear and Conv2d of ``model`` on a chip, without changing the model, until the block ends.

    ``perturbation`` None, or a ``severity`` at its "off", is the plain model, bit by bit. ``generator`` draws the chip
    and the reads (on the CPU); without one it is always the same chip. Layers named in ``digital`` stay in the
    computer. Converters calibrate their range on the first batch that they see: let that be training data. Yields the
    :class:`OnChip`.

    >>> with on_chip(model, ReadNoise(), 0.1, generator=torch.Generator().manual_seed(0)):
    ...     model(x)
    """
    layers = mappable(model, digital)
    if perturbation is None or perturbation.check(severity) == perturbation.off:
        yield None
        return
    chip = OnChip(perturbation, severity, rule, generator or torch.Generator().manual_seed(0))
    undo = divert(layers, lambda: chip.product)
    try:
        yield chip
    finally:
        undo()
