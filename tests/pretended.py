"""A GPU that is not there: tensors on a device of their own, whose numbers a CPU computes.

What goes wrong on a GPU and never on a CPU becomes an error here, or a count:

- an operation on tensors of two devices is refused, as CUDA refuses it;
- so is a random generator of another device than the tensor that it fills;
- every moment at which a program must wait for the device (``.item()``, a truth value, a copy to the CPU, a result
  whose size depends on numbers) is counted, with the line that asked for it;
- the operations are noted, so that each can be looked up: is there a CUDA kernel for it?

The device is torch's slot for backends written in Python, so autograd and ``torch.func`` treat it as any other.
PyTorch's own fake tensors would do for devices, but have no numbers: what looks at its results (a training that is
watched, an evaluation) could not run, and nothing could be compared with the CPU. And torch refuses to differentiate
fake tensors on ``cuda`` where there is no GPU.
"""

from __future__ import annotations

import linecache
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretended"

aten = torch.ops.aten

#: Operations that a program must wait for: their result decides what it does next, or has a size that depends on it.
WAITED = frozenset(
    {
        aten._local_scalar_dense,
        aten.equal,
        aten.is_nonzero,
        aten.nonzero,
        aten.masked_select,
        aten.unique_consecutive,
        aten._unique2,
        aten.bincount,
    }
)
#: Operations that take tensors of two devices on CUDA, too.
ACROSS = frozenset({aten.copy_, aten._to_copy})
#: Operations that take indices from the CPU, at the price of a copy.
INDEXED = frozenset({aten.index, aten.index_put, aten.index_put_})


class Place(NamedTuple):
    """A line of our code, and the function around it by its full name."""

    function: str
    file: str
    line: int

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.function.rpartition(".")[2]

    @property
    def source(self) -> str:
        """The line's text."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.function}: {self.source}"


class Wait(NamedTuple):
    """A moment at which the program waited for the device, or copied to it."""

    operation: str
    #: The lines of our code that led to it, the innermost first.
    places: tuple[Place, ...]
    #: In the thread of a backward pass?
    backward: bool


class Far(Tensor):
    """A tensor on the pretended device; ``value`` holds its numbers, on the CPU."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> Far:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=device(),
        )

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Far({self.value!r})"

    def tolist(self) -> Any:
        """As torch does it for a device: a copy first."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} ran on the pretended device outside of its `with` block.")


@cache
def device() -> torch.device:
    """The pretended device, which is there from now on. RuntimeError where this torch cannot have it."""
    if torch.cuda.is_available():
        raise RuntimeError("there is a GPU, and torch has one kind of accelerator at a time")
    try:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as register
    except ImportError as problem:
        raise RuntimeError("this version of torch has no backends in Python") from problem
    register(NAME)
    return torch.device(NAME, 0)


def _wait(operation: str) -> Wait:
    """A wait that happens now."""
    places, frame = [], sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == "lib":
            code = frame.f_code
            places.append(Place(f"{module}.{code.co_qualname}", code.co_filename, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return Wait(operation, tuple(places), threading.current_thread() is not threading.main_thread())


class Machine(TorchDispatchMode):
    """The pretended device at work, while its ``with`` block lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.device = device()
        self.waits: list[Wait] = []
        #: Copies from the CPU to the device.
        self.copies: list[Wait] = []
        self.operations: Counter[torch._ops.OpOverload] = Counter()

    def __enter__(self) -> Machine:
        # Without this, ``torch.tensor(..., device=...)`` would copy to the device where no mode sees it.
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lifted)
        super().__exit__(*raised)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # There is nothing to compile here, and to be skipped takes time at every operation.
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = kwargs or {}
        values, named = [_near(one) for one in args], {name: _near(one) for name, one in given.items()}
        far = [one for one in _tensors((*args, *given.values())) if isinstance(one, Far)]
        asked = given.get("device")
        to = torch.device(asked) if asked is not None else far[0].device if far else None
        if to is not None and to.type == NAME:
            if asked is not None:
                named["device"] = torch.device("cpu")
            self._check(func, args, given, far, to)
        elif far:
            self._check(func, args, given, far, to)
        found = func(*values, **named)
        if to is None or not (far or to.type == NAME):
            return found
        self.operations[func] += 1
        if to.type == "cpu":
            return found
        if torch.Tag.inplace_view in func.tags:
            # Its shape is another one from here on, too.
            with torch._C._DisableTorchDispatch():
                args[0].as_strided_(found.size(), found.stride(), found.storage_offset())
            return args[0]
        if func._schema.is_mutable and isinstance(found, Tensor):
            # What was written to is what comes back.
            written = given.get("out", args[0] if args else None)
            return written if isinstance(written, Far) else found
        return _far(found)

    def _check(self, func, args, given, far: list[Far], to: torch.device) -> None:
        packet = func.overloadpacket
        if packet in ACROSS:
            source, target = (args[1].device, args[0].device) if packet is aten.copy_ else (args[0].device, to)
            if source.type == NAME and target.type == "cpu":
                self.waits.append(_wait(f"{func} to the CPU"))
            elif source.type == "cpu" and target.type == NAME:
                self.copies.append(_wait(str(func)))
            return
        generator = given.get("generator")
        if generator is not None and generator.device.type != NAME:
            raise RuntimeError(
                f"Expected a '{NAME}' device type for generator but found '{generator.device.type}' in {func}"
            )
        if not far:
            return
        near = [one for one in _tensors((*args, *given.values())) if not isinstance(one, Far)]
        if packet in INDEXED and isinstance(args[0], Far):
            indices = [one for one in args[1] if one is not None]
            # A single number written through a mask is a fill, which nobody waits for.
            fill = packet is not aten.index and args[2].numel() == 1
            if not fill and any(one.dtype in (torch.bool, torch.uint8) for one in indices):
                self.waits.append(_wait(f"{func} by a mask"))
            if any(not isinstance(one, Far) and one.dim() for one in indices):
                self.copies.append(_wait(f"{func} by indices of the CPU"))
            near = [one for one in near if not any(one is index for index in indices)]
        # CUDA takes a single number from the CPU beside a tensor.
        strange = [one for one in near if one.dim()]
        if strange:
            shapes = ", ".join(f"{one.device} {tuple(one.shape)}" for one in (*far, *strange))
            raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {shapes}")
        if packet in WAITED:
            self.waits.append(_wait(str(func)))


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among the arguments of an operation, and in lists among them."""
    found: list[Tensor] = []
    for one in values:
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, list | tuple):
            found += _tensors(one)
    return found


def _near(value: Any) -> Any:
    """An argument with its tensors on the CPU."""
    if isinstance(value, Far):
        return value.value
    return type(value)(_near(one) for one in value) if type(value) in (list, tuple) else value


def _far(value: Any) -> Any:
    """A result with its tensors on the device."""
    if isinstance(value, Tensor):
        return value if isinstance(value, Far) else Far(value)
    return type(value)(_far(one) for one in value) if type(value) in (list, tuple) else value


def without_kernel(operations: Counter[torch._ops.OpOverload]) -> list[str]:
    """Those of some operations that this torch could not run on CUDA, by name."""
    keys = ("CUDA", "CompositeExplicitAutograd", "CompositeImplicitAutograd", "CompositeExplicitAutogradNonFunctional")
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return sorted({str(one) for one in operations if not any(has(one.name(), key) for key in keys)})


def in_steps(waits: list[Wait]) -> list[str]:
    """Where the steps of a training (:func:`lib.replicas.train`) waited: lines of code, one entry a time.

    What is recorded on the way is left out, and what comes after the last step. Backward passes have a thread of their
    own, in which nobody is above them: they count.
    """
    found = []
    for wait in waits:
        loop = next((at for at, place in enumerate(wait.places) if place.function == "lib.replicas.train"), None)
        inner = wait.places[:loop]
        recorded = any(place.name == "record" for place in inner)
        over = loop is not None and wait.places[loop].source.startswith("return ")
        if not recorded and not over and (loop is not None or wait.backward):
            found.append(f"{wait.operation} at {wait.places[0] if wait.places else 'a backward pass of torch'}")
    return found
