"""Device, random streams and progress: what every experiment needs and no result may depend on."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

import torch

from lib import checks

_DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")


def resolve_device(device: str = "auto") -> torch.device:
    """The device to compute on: ``auto`` (a CUDA GPU if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or
    ``mps``. A device that this machine does not offer is a :class:`~lib.checks.ParameterError`.
    """
    given = str(device) if isinstance(device, torch.device) else device
    if isinstance(given, str) and re.fullmatch(r"cuda:\d+", given):
        kind, index = "cuda", int(given.split(":")[1])
    else:
        kind, index = checks.choice("device", given, _DEVICES), None
    if kind == "cuda:N":
        raise checks.ParameterError("device must be cuda:N with a number for N, but 'cuda:N' was given.")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        kind = "cuda" if gpus else "cpu"
    if kind == "cuda":
        if gpus and index is None:
            index = torch.cuda.current_device()
        if index is not None and index < gpus:
            return torch.device("cuda", index)
    elif kind == "cpu" or torch.backends.mps.is_available():
        return torch.device(kind)
    offered = ["cpu", *(f"cuda:{i}" for i in range(gpus)), *(["mps"] if torch.backends.mps.is_available() else [])]
    raise checks.ParameterError(
        f"device must be one that this machine offers (auto, {', '.join(offered)}), but {given!r} was given."
    )


def memory(device: torch.device) -> float:
    """The bytes of memory that a device has; infinite where nobody says."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator of its own for every (seed, names), the same on every machine.

    Draw on the CPU and move the numbers to the device: then CPU and GPU see the same randomness. torch's CPU
    generator keeps 32 bits of a seed, so two given streams coincide by accident with probability 2^-32.
    """
    # The type and length of each part are hashed too: ("ab", "c") and ("a", "bc"), 1 and "1" stay apart.
    text = "".join(f"{type(part).__name__}:{len(str(part))}:{part};" for part in (int(seed), *names))
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def derangement(count: int, generator: torch.Generator) -> torch.Tensor:
    """A random order of ``count`` things (at least 2) in which none is at its own place; all are equally likely."""
    checks.integer("count", count, 2)
    while True:
        order = torch.randperm(count, generator=generator)
        if bool((order != torch.arange(count)).all()):
            return order


def threads() -> int:
    """How many CPU threads torch computes with."""
    return torch.get_num_threads()


def _terminal() -> TextIO | None:
    """A new handle on the terminal behind this process, or None where there is none.

    A Jupyter kernel replaces both standard streams and keeps copies of the descriptors that it inherited, which
    ``fileno`` gives: writing there reaches the terminal that started the kernel, and never a cell's output.
    """
    for out in (sys.stderr, sys.stdout):
        # A stream may be None, closed or without a descriptor.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if os.isatty(out.fileno()):
                return os.fdopen(os.dup(out.fileno()), "w", encoding="utf-8", errors="replace")
    return None


@contextlib.contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """A progress bar on the terminal; yields ``advance(n)``. Silent where there is no terminal."""
    terminal = _terminal()
    if terminal is None:
        yield lambda n: None
        return
    from tqdm import tqdm

    with terminal, tqdm(total=total, desc=label, file=terminal, leave=False, mininterval=0.5) as bar:

        def advance(n: int) -> None:
            bar.update(n)

        yield advance
