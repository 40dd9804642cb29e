"""One array against badcrossbar (Joksas and Mehonic 2020), a nodal analysis of the same circuit.

The peer is no dependency of this project: it is installed into a folder of its own, without what only its
drawings need, and then imported from there into this very process. So both sides run on the same numpy and scipy,
and a ratio compares nothing but the computation.
"""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from lib.hardware.circuit import effective_conductance
from lib.runtime import stream

FOLDER = Path(__file__).resolve().parents[1] / ".venv-peers"
VERSION = "1.1.0"
# The second is all that its computations import beyond numpy and scipy.
PACKAGES = (f"badcrossbar=={VERSION}", "pathvalidate==3.3.1")
SIDE = 128
R_WORD, R_BIT = 1.0, 2.0

Ratio = Callable[[Callable[[], object], Callable[[], object]], float]


def install() -> None:
    """Install the peer into its folder; a ``CalledProcessError`` where packages cannot be had."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER), *PACKAGES]
    subprocess.run(command, check=True)


def peer() -> ModuleType | None:
    """The package badcrossbar if its folder is there."""
    if not (FOLDER / "badcrossbar").is_dir():
        return None
    sys.path.insert(0, str(FOLDER))
    try:
        # It warns that it cannot draw.
        with warnings.catch_warnings(record=True):
            module = importlib.import_module("badcrossbar")
    finally:
        sys.path.remove(str(FOLDER))
    logging.getLogger("badcrossbar").setLevel(logging.WARNING)
    return module


def outputs(module: ModuleType, conductance: Tensor, r_word: float, r_bit: float, volts: Tensor) -> Tensor:
    """The peer's output currents [k, n] in microampere, for volts [k, m]; nothing else is asked of it."""
    # A cell that conducts nothing is an infinite resistance there.
    with np.errstate(divide="ignore"):
        ohms = 1e6 / conductance.numpy()
    solution = module.compute(
        volts.numpy().T, ohms, r_i_word_line=r_word, r_i_bit_line=r_bit, node_voltages=False, all_currents=False
    )
    return 1e6 * torch.from_numpy(solution.currents.output)


def against_badcrossbar(ratio: Ratio) -> str:
    """Time of the peer over ours, in double precision, for few and for many inputs of one array.

    ``ratio`` times two functions. Both sides begin with the conductances and end with all output currents, and both
    have one thread, as the project's own runs do: neither's many small steps gain from a second one.
    """
    try:
        if peer() is None:
            install()
    except subprocess.CalledProcessError:
        return f"badcrossbar {VERSION} could not be installed"
    module = peer()
    assert module is not None
    source = stream(0, "crossbar")
    g = 0.1 + 24.9 * torch.rand(SIDE, SIDE, dtype=torch.float64, generator=source)
    found = []
    for count in (64, 1024):
        volts = torch.rand(count, SIDE, dtype=torch.float64, generator=source)

        def theirs(volts: Tensor = volts) -> Tensor:
            return outputs(module, g, R_WORD, R_BIT, volts)

        def ours(volts: Tensor = volts) -> Tensor:
            return volts @ effective_conductance(g, R_WORD, R_BIT, exact=True)

        expected = theirs()
        # A ratio means something only if both compute the same.
        assert (ours() - expected).abs().max() <= 1e-9 * expected.abs().max()
        with threadpool_limits(1):
            found.append(f"{ratio(theirs, ours):.1f} times as long for {count} inputs")
    return f"badcrossbar {VERSION} takes {' and '.join(found)} of one {SIDE} x {SIDE} array, each on one thread"
