"""Layers on crossbars: the product of a linear or convolutional layer on a chip, and any module placed on one.

Everything that a layer does with its weight goes through one ``product(layer, x, weight)`` with ``x`` [batch, ..., in]
and ``weight`` [..., out, in]. :class:`Crossbars` is that function on hardware, :func:`ideal` is it in a computer. A
convolution fits the same slot: its patches are the inputs, one read each, and every group of it is an array of its own.
Biases are added digitally.
"""

from __future__ import annotations

import contextlib
import copyreg
import math
import warnings
from collections import ChainMap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from lib import checks
from lib.hardware.numbers import ARRAY, Numbers, Parts, merged, selected
from lib.hardware.perturbations import (
    Arrays,
    Pair,
    Perturbation,
    moved_weight,
    natural_scale,
    seen_weight,
    to_pair,
    usable,
)
from lib.replicas import mapped

#: How the gradient passes the perturbation: see :class:`Crossbars`.
RULES = ("autograd", "noise_injection", "straight_through", "unaware")

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
    draws = (perturbation.draw_chip, perturbation.draw_more)
    drawn = ((layer, draw(shape.weight, generator)) for draw in draws for layer, shape in shapes.items())
    return merged(*({layer: perturbation.parts_of(own)} for layer, own in drawn))


def draw_read(perturbation: Perturbation, shapes: dict[str, Shape], batch: int, generator: torch.Generator) -> Numbers:
    """The random numbers of one read of ``batch`` inputs."""
    drawn = [(layer, perturbation.draw_read((batch, *one.current), generator)) for layer, one in shapes.items()]
    for layer, (weight, current) in shapes.items():
        drawn.append((layer, perturbation.draw_inputs((batch, *current[:-1], weight[-1]), generator)))
    return merged(*({layer: perturbation.parts_of(own)} for layer, own in drawn))


def _alike(one: Tensor, other: Tensor) -> bool:
    """Do two tensors of a kind on one device hold the same numbers?"""
    if one.device.type == "cpu" and one.is_contiguous() and other.is_contiguous() and one.numel() % 2 == 0:
        # Bits by numpy, two numbers at a time: a fifth of the time of torch's comparison.
        bits = (each.detach().flatten().numpy().view(np.int64) for each in (one, other))
        return one.shape == other.shape and np.array_equal(next(bits), next(bits))
    return torch.equal(one, other)


class _Programmed(NamedTuple):
    """A layer whose weight is in its arrays, and what they were programmed with: copies, for all of it may change."""

    hardware: Perturbation | None
    severity: Tensor
    weight: Tensor
    seen: Tensor
    arrays: Arrays

    def still(self, hardware: Perturbation | None, severity: Tensor, weight: Tensor) -> bool:
        """Would the same be programmed again?"""
        same = hardware is self.hardware and weight.dtype == self.weight.dtype and weight.device == self.weight.device
        return same and _alike(weight, self.weight) and (severity is self.severity or _alike(severity, self.severity))


@dataclass(frozen=True, eq=False)
class Crossbars:
    """The product of every layer on one chip, in one read.

    ``drawn`` holds the numbers of a chip and of a read (:func:`draw_chip`, :func:`draw_read`), and what was calibrated,
    such as the range of a converter. What is missing among the latter is calibrated on the currents at hand;
    ``calibrated`` fills with it. ``perturbation`` None is "off": the plain network, bit by bit.
    ``memory`` keeps what is programmed from one operation to the next while no gradient is asked for and the weight is
    the same. Layers named ``digital`` stay in the computer. Every tensor is a single replica's.

    The result is the chip's under every rule but "unaware"; with d the gradient that arrives at it, the ``rule`` says
    what reaches weight and input:

    - "autograd": the derivative of what was computed;
    - "noise_injection": dW = d^T x~ and dx = d W~ with what reached the word lines x~ and the weight W~ that the
      network saw. Noise is a constant, so the weight gets what its noisy copy gets (Joshi et al. 2020);
    - "straight_through": dW = d^T x and dx = d W, those of the clean product (Bengio et al. 2013);
    - "unaware": the clean product, forward and backward.

    The two in the middle take rounding for the identity, and pass nothing on where a converter cuts off.
    """

    perturbation: Perturbation | None
    severity: Tensor
    rule: str
    drawn: Numbers
    calibrated: Numbers = field(default_factory=dict)
    memory: dict[str, _Programmed] | None = None
    digital: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.severity is not None and (kind := self.severity.dtype) not in (torch.float32, torch.float64):
            raise checks.ParameterError(f"severity must be a tensor of float32 or float64, but {kind} was given.")

    def __call__(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        if self.perturbation is None or self.rule == "unaware" or layer in self.digital:
            return ideal(layer, x, weight)
        return self._perturbed(layer, x, weight)

    def program(self, weight: Tensor, parts: Parts) -> tuple[Tensor, Arrays]:
        """The weight that the network sees once ``weight`` is programmed into a layer's arrays, and the arrays."""
        hardware = self.perturbation
        assert hardware is not None
        drawn, array = hardware.own(parts), parts.setdefault(ARRAY, {})
        if hardware.alone and hardware.scale in ("differentiated", "detached"):
            empty = weight.new_empty(0)
            seen = moved_weight(weight, self.severity, drawn["chip"], hardware)
            return seen, Arrays(Pair(weight, empty, empty), empty)
        if hardware.scale == "fixed" and "scale" not in array:
            array["scale"] = natural_scale(weight.detach(), hardware.window)
        pair = to_pair(weight, hardware.window, array.get("scale"), hardware.arrays, hardware.scale)
        g = hardware.conductance(pair.g, self.severity, drawn) if hardware.arrays else pair.g
        return pair.weight if g is pair.g else seen_weight(pair, g), Arrays(pair, g)

    def _programmed(self, layer: str, weight: Tensor, parts: Parts) -> tuple[Tensor, Arrays]:
        # Numbers that belong to a transform, or to a trace, cannot be looked at.
        elsewhere = torch.compiler.is_compiling() or functorch.is_functorch_wrapped_tensor(weight)
        if self.memory is None or torch.is_grad_enabled() or elsewhere:
            return self.program(weight, parts)
        kept = self.memory.get(layer)
        if kept is None or not kept.still(self.perturbation, self.severity, weight):
            kept = _Programmed(self.perturbation, self.severity, weight.clone(), *self.program(weight, parts))
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

    def _injected(self, layer: str, x: Tensor, weight: Tensor, parts: Parts) -> Tensor:
        """One read under a rule of its own: every value is the chip's, the gradient goes past what the chip does."""
        hardware = self.perturbation
        assert hardware is not None
        clean = self.rule == "straight_through"
        seen, arrays = self._programmed(layer, weight.detach(), parts)
        at_input: list[Tensor] = []
        at_output: list[Tensor] = []
        voltage = hardware.voltage(x.detach(), self.severity, self._shown(parts, at_input))
        into = math.prod(at_input, start=x - x.detach())
        if clean:
            product = ideal(layer, voltage, seen)
            passed = ideal(layer, x.detach() + into, weight)
        else:
            # The value of what was seen, with the gradient of what was meant.
            product = passed = ideal(layer, voltage + into, seen + (weight - weight.detach()))
        y = hardware.current(product.detach(), voltage.detach(), arrays, self.severity, self._shown(parts, at_output))
        out = math.prod(at_output, start=passed - passed.detach())
        if clean:
            return hardware.digital(y, arrays, self.severity, hardware.own(parts)).detach() + out
        return hardware.digital(y + out, arrays, self.severity, hardware.own(parts))

    def _shown(self, parts: Parts, inside: list[Tensor]) -> Any:
        """A part's numbers, with a list for what its converters do not cut off, which is not kept."""
        assert self.perturbation is not None
        return ChainMap(self.perturbation.own(parts), {"inside": inside})

    def _perturbed(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        given = self.drawn.get(layer, {})
        parts = {part: dict(own) for part, own in given.items()}
        kind = torch.promote_types(weight.dtype, torch.float32)
        at, meant = x.to(kind), weight.to(kind)
        if self.rule == "autograd":
            y = self.operate(layer, at, *self._programmed(layer, meant, parts), parts)
        else:
            y = self._injected(layer, at, meant, parts)
        for part, own in parts.items():
            if found := {kind: value for kind, value in own.items() if kind not in given.get(part, {})}:
                self.calibrated.setdefault(layer, {})[part] = found
        return y.to(x.dtype)


# ------------------------------------------------------------------------------------------------ any module


def rows(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The patches of images [B, C, H, W] as inputs of arrays, and how to make images of the results again.

    Inputs are [B, L, in], with groups [B, groups, L, in]; L counts the places of the kernel.
    """
    padding: Any = layer.padding
    if isinstance(padding, str):
        x, padding = F.pad(x, layer._reversed_padding_repeated_twice), (0, 0)
    sizes = [
        (x.shape[2 + i] + 2 * padding[i] - layer.dilation[i] * (layer.kernel_size[i] - 1) - 1) // layer.stride[i] + 1
        for i in range(2)
    ]
    patches = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
    batch, groups = x.shape[0], layer.groups
    patches = patches if groups == 1 else patches.unflatten(1, (groups, -1))
    return patches.mT, lambda y: y.mT.reshape(batch, layer.out_channels, *sizes)


def matrix(layer: nn.Module, weight: Tensor | None = None) -> Tensor:
    """The weight of a layer, or the one given, as its arrays hold it: [out, in], with groups [groups, out, in]."""
    weight = (layer.weight if weight is None else weight).flatten(1)  # type: ignore[operator]
    groups = getattr(layer, "groups", 1)
    return weight if groups == 1 else weight.unflatten(0, (groups, -1))


def _forward(layer: nn.Linear | nn.Conv2d, name: str, product: Product, x: Tensor) -> Tensor:
    """What takes the place of a layer's own forward: computes in single precision at least, gives what that gives."""
    weight, bias = layer.weight, layer.bias
    device, kinds = weight.device.type, (x.dtype, weight.dtype)
    auto = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    given, result = (auto if auto and kind.is_floating_point and kind != torch.float64 else kind for kind in kinds)
    if given != result:
        raise checks.ParameterError(f"input of {name or 'the layer'} must be {weight.dtype}, but {x.dtype} was given.")
    single = torch.promote_types(result, torch.float32)
    with contextlib.nullcontext() if auto is None else torch.autocast(device, enabled=False):
        x, weight = x.to(single), weight.to(single)
        if isinstance(layer, nn.Linear):
            y = product(name, x, weight)
        else:
            inputs, images = rows(layer, x if x.dim() == 4 else x[None])
            y = images(product(name, inputs, matrix(layer, weight)))
            y, bias = y if x.dim() == 4 else y[0], None if bias is None else bias[:, None, None]
    return (y if bias is None else y + bias.to(single)).to(result)


def _reason(layer: nn.Module) -> str | None:
    """Why a module with products of its own cannot be mapped, or None."""
    if isinstance(layer, torch.jit.ScriptModule) and any(value.dim() > 1 for value in layer.parameters()):
        return "once compiled it computes without calling its layers"
    if type(layer).__module__.startswith("torch.ao.nn") and "quantized" in type(layer).__module__:
        return "it computes with quantized numbers"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"it pads with {layer.padding_mode!r} instead of zeros"
    if isinstance(layer, nn.Linear | nn.Conv2d):
        kind = getattr(layer, "_chip_ordinary", type(layer))
        known = {nn.Linear.forward, nn.Conv2d.forward, nn.Conv2d._conv_forward}
        if {kind.forward, getattr(kind, "_conv_forward", kind.forward)} - known or "forward" in vars(layer):
            return "it has a forward of its own"
        # Not `layer.weight`: to ask a parametrization for it may change its state.
        held = layer._parameters.get("weight")
        if held is not None and (is_lazy(held) or held.is_meta or held.is_complex() or held.layout != torch.strided):
            return "its weight must be a dense tensor of real numbers (a lazy one gets them with its first input)"
        return None
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
    if not isinstance(model, nn.Module):
        raise checks.ParameterError(f"model must be an nn.Module, but {model!r} was given.")
    modules = dict(model.named_modules())
    kept = checks.choices("digital", digital, [key for key in modules if key]) if digital else ()
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


def _diverted(kind: Any, name: str, source: Callable[[], Product | None]) -> Any:
    """A class of the same name for a layer that computes through ``source()``; copied or saved it is ordinary."""
    ordinary = getattr(kind, "_chip_ordinary", kind)

    def forward(self: Any, input: Tensor) -> Tensor:
        if made._chip_source is None:
            return kind.forward(self, input)
        product = source()
        return ordinary.forward(self, input) if product is None else _forward(self, name, product, input)

    def reduced(self: Any, protocol: Any) -> tuple:
        return copyreg._reconstructor, (ordinary, object, None), nn.Module.__getstate__(self)  # type: ignore

    own = {"_chip_ordinary": ordinary, "_chip_source": source, "__module__": kind.__module__, "forward": forward}
    own |= {"__reduce_ex__": reduced} | ({"__deepcopy__": None} if hasattr(kind, "__deepcopy__") else {})
    made: Any = type(kind.__name__, (kind,), own)
    return made


def divert(layers: dict[str, nn.Module], source: Callable[[], Product | None]) -> Callable[[], None]:
    """Let the layers compute through the product that ``source()`` gives (None: as they are); returns a function that
    undoes it. They get classes derived from theirs; nothing else in them changes.
    """
    kinds = {name: _diverted(type(layer), name, source) for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.__class__ = kinds[name]

    def undo() -> None:
        for name, layer in layers.items():
            kinds[name]._chip_source = None
            # Blocks may end in another order than they began, and classes may have changed meanwhile.
            while vars(type(layer)).get("_chip_source", layer) is None:
                layer.__class__ = type(layer).__bases__[0]

    return undo


def _lasting(value: Tensor) -> Tensor:
    """A number that stays on a chip, free of the mode or transform in which it was found."""
    while functorch.is_functorch_wrapped_tensor(value):
        if functorch.is_batchedtensor(value):
            raise checks.ParameterError("input must be a whole batch to calibrate on, but a part in a vmap was given.")
        value = functorch.get_unwrapped(value)
    # A copy made within a transform would be the transform's.
    with torch.inference_mode(False), temporarily_clear_interpreter_stack():
        return value.detach().clone()


@dataclass(eq=False, repr=False)
class OnChip:
    """A module on a chip within ``with``: see :func:`on_chip`. Draws every read anew, the chip when it is asked to.

    ``severity`` and ``rule`` may change on the way, on the same chip; another ``perturbation`` is another chip.
    ``changed`` is how far, at most, each layer's last product lay from the ideal one; ``watch`` it (a second product).
    """

    perturbation: Perturbation | None
    severity: object
    rule: str
    generator: torch.Generator
    layers: dict[str, nn.Module] = field(default_factory=dict)
    watch: bool = False

    def __post_init__(self) -> None:
        if not isinstance(given := self.perturbation, Perturbation | None):
            raise checks.ParameterError(f"perturbation must be one like make('pcm'), or None, but {given!r} was given.")
        if not isinstance(drawn := self.generator, torch.Generator) or drawn.device.type != "cpu":
            raise checks.ParameterError(f"generator must be a torch.Generator of the CPU, but {drawn!r} was given.")
        checks.choice("rule", self.rule, RULES)
        self._checked: tuple[object, object, Any] = (None, None, None)
        self._levels: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self.changed: dict[str, float] = dict.fromkeys(self.layers, 0.0) if self.off else {}
        self._undo: list[Callable[[], None]] = []
        self._used: set[str] = set()
        self._told: set[str] = set()
        self._numbers: dict[str, tuple[Perturbation, Parts]] = {}
        self._memory: dict[str, _Programmed] = {}

    def _severity(self) -> Any:
        """The severity as a number or as numbers: it is checked again where it may have changed."""
        hardware, given, value = self._checked
        if hardware is not self.perturbation or given is not self.severity or isinstance(given, list | dict):
            assert self.perturbation is not None
            value = self.perturbation.check(self.severity)
            self._checked = self.perturbation, self.severity, value
            self._levels.clear()
        return value

    @property
    def off(self) -> bool:
        """Is it the plain model?"""
        return self.perturbation is None or self._severity() == self.perturbation.off

    def __enter__(self) -> OnChip:
        self._undo.append(divert(self.layers, lambda: None if self.off else self.product))
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._undo.pop()()
        missed = [name or "the layer" for name in self.layers if name not in self._used]
        if missed and error is None and not self.off:
            named = ", ".join(missed[:6]) + (f" and {len(missed) - 6} more" if len(missed) > 6 else "")
            only = "Only a layer's own forward does, and not a copy's; name in digital what shall stay in the computer."
            warnings.warn(f"Never computed on the chip: {named}. {only}", stacklevel=2)

    def renew(self) -> None:
        """A new chip: its numbers are drawn, and its converters calibrated, when they are next needed."""
        self._numbers.clear()
        self._memory.clear()

    def product(self, layer: str, x: Tensor, weight: Tensor) -> Tensor:
        """The product of one layer in one read."""
        hardware = self.perturbation
        assert hardware is not None
        self._used.add(layer)
        if not x.numel() or not weight.numel():
            return ideal(layer, x, weight)
        like = partial(Tensor.to, device=x.device, dtype=x.dtype)
        of, numbers = self._numbers.get(layer, (None, {}))
        if of is not hardware:
            # One chip, whatever mode or transform is the first to use it.
            with torch.inference_mode(False), temporarily_clear_interpreter_stack(), torch.device("cpu"):
                chip = draw_chip(hardware, {layer: Shape(tuple(weight.shape), ())}, self.generator)
                of, numbers = self._numbers[layer] = hardware, mapped(like, chip.get(layer, {}))
        with torch.device("cpu"):
            (*lead, _), (*_, out, inputs) = x.shape, weight.shape
            own = (
                hardware.draw_read((*lead, out), self.generator),
                hardware.draw_inputs((*lead, inputs), self.generator),
            )
            read = merged(*({layer: hardware.parts_of(one)} for one in own))
        value, kind = self._severity(), (x.device, x.dtype)
        if kind not in self._levels:
            with torch.inference_mode(False), temporarily_clear_interpreter_stack(), torch.device("cpu"):
                self._levels[kind] = like(torch.tensor(value))
        severity = self._levels[kind]
        drawn = mapped(like, merged({layer: numbers}, read))
        crossbars = Crossbars(hardware, severity, checks.choice("rule", self.rule, RULES), drawn, memory=self._memory)
        y = crossbars(layer, x, weight)
        found = mapped(_lasting, crossbars.calibrated)
        found = selected(found, lambda part, kind: kind != "range" or usable(found[layer][part][kind]))
        self._numbers[layer] = hardware, merged({layer: numbers}, found).get(layer, {})
        ranged = 0 if self.rule == "unaware" else sum(part.ranged for part in getattr(hardware, "parts", (hardware,)))
        if layer not in self._told and sum("range" in own for own in self._numbers[layer][1].values()) < ranged:
            self._told.add(layer)
            nothing = "its batch gave it nothing but zeros, or numbers that are not finite"
            warnings.warn(
                f"The converter of {layer or 'the layer'} is not calibrated: {nothing}. The next batch will.",
                stacklevel=2,
            )
        if self.watch:
            self.changed[layer] = float((y - ideal(layer, x, weight)).detach().abs().max())
        return y


def on_chip(
    model: nn.Module,
    perturbation: Perturbation | None,
    severity: object = None,
    *,
    rule: str = "autograd",
    generator: torch.Generator | None = None,
    digital: Sequence[str] = (),
) -> OnChip:
    """Place every Linear and Conv2d of ``model`` on a chip, without changing the model, until the block ends.

    ``perturbation`` None, or a ``severity`` at its "off", is the plain model, bit by bit. ``generator`` draws the chip
    and the reads (on the CPU); without one it is always the same chip. Layers named in ``digital`` stay in the
    computer. Converters calibrate their range on the first batch that they see: let that be training data. One that
    sees nothing but zeros is named in a warning, and calibrates on the next.

    On the chip is each layer's own forward; a layer that never ran is named in a warning when the block ends, products
    without a layer (``x @ self.w``) stay in the computer. A copy made meanwhile, or a file, is an ordinary model.

    >>> model, x = nn.Linear(4, 2), torch.ones(1, 4)
    >>> with on_chip(model, make("read_noise"), 0.1, generator=torch.Generator().manual_seed(0)) as chip:
    ...     noisy = model(x)
    >>> torch.equal(noisy, model(x))
    False
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    return OnChip(perturbation, severity, rule, source, mappable(model, digital))
