"""The circuit against two programs that know nothing of it: ngspice, and badcrossbar (Joksas and Mehonic 2020)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from benchmarks import crossbar
from lib.hardware.circuit import effective_conductance
from lib.runtime import stream
from paper.nodal import node_voltages

# Of the largest value.
TOLERANCE = 1e-9


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=stream(0, "peers", *shape))


def array(m: int, n: int, faults: bool = False) -> Tensor:
    """Conductances in microsiemens; with ``faults``, cells stuck at either end of the window and open ones."""
    g = 0.1 + 24.9 * uniform(m, n)
    if faults:
        state = uniform(m, n, 1)[..., 0]
        for below, stuck in ((0.3, 0.0), (0.2, 25.0), (0.1, 0.1)):
            g = torch.where(state < below, stuck, g)
    return g


def differ(seen: Tensor, expected: Tensor) -> float:
    """The largest error over the largest value."""
    return ((seen - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(scope="session")
def ngspice() -> str:
    """The path of ngspice on this machine; without it the test is skipped, and fails under CI."""
    path = shutil.which("ngspice")
    if path is None:
        message = "NO NGSPICE: ngspice is not installed, so no circuit was held against it."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def badcrossbar() -> ModuleType:
    """The package, from the folder in which the benchmark installs it; without it the test is skipped."""
    if os.environ.get("PEERS") == "1" and crossbar.peer() is None:
        crossbar.install()
    module = crossbar.peer()
    if module is None:
        pytest.skip("NO BADCROSSBAR: run `python -m benchmarks crossbar_badcrossbar` or set PEERS=1 to install it.")
    return module


def netlist(g: Tensor, r_word: float, r_bit: float, volts: Tensor) -> str:
    """The array resistor by resistor; nodes w_i_j and b_i_j at cell (i, j), 0 V sources as ammeters below.

    Lines without resistance are one node, which is their source's s_i or their sense node's o_j.
    """
    m, n = g.shape

    def word(i: int, j: int) -> str:
        return f"w_{i}_{j}" if j >= 0 and r_word else f"s_{i}"

    def bit(i: int, j: int) -> str:
        return f"b_{i}_{j}" if i < m and r_bit else f"o_{j}"

    lines = ["crossbar"]
    lines += [f"Vin_{i} s_{i} 0 DC {volts[i].item()!r}" for i in range(m)]
    lines += [f"Vs_{j} o_{j} 0 DC 0" for j in range(n)]
    for i in range(m):
        for j in range(n):
            if r_word:
                lines.append(f"Rw_{i}_{j} {word(i, j - 1)} {word(i, j)} {r_word!r}")
            if r_bit:
                lines.append(f"Rb_{i}_{j} {bit(i, j)} {bit(i + 1, j)} {r_bit!r}")
            if g[i, j] > 0:
                lines.append(f"Rg_{i}_{j} {word(i, j)} {bit(i, j)} {1e6 / g[i, j].item()!r}")
    asked = [f"i(Vs_{j})" for j in range(n)]
    for at, resistance in ((word, r_word), (bit, r_bit)):
        asked += [f"v({at(i, j)})" for i in range(m) for j in range(n) if resistance]
    control = [".control", "set numdgt=14", "op", *(f"print {name}" for name in asked), "quit", ".endc", ".end"]
    return "\n".join([*lines, *control]) + "\n"


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (8, 8), (5, 32), (32, 9), (32, 32)])
@pytest.mark.parametrize(("wires", "faults"), [((2.0, 0.7), False), ((15.0, 400.0), True)])
def test_agrees_with_ngspice(ngspice, tmp_path, shape, wires, faults):
    compare(ngspice, tmp_path, array(*shape, faults), *wires)


@pytest.mark.parametrize("wires", [(0.0, 30.0), (30.0, 0.0), (0.0, 0.0)])
def test_agrees_with_ngspice_where_wires_are_ideal(ngspice, tmp_path, wires):
    compare(ngspice, tmp_path, array(9, 6, faults=True), *wires)


def compare(ngspice: str, folder: Path, g: Tensor, r_word: float, r_bit: float) -> None:
    """Output currents by either method, and the voltages of all nodes, against ngspice."""
    m, n = g.shape
    volts = uniform(m) - 0.3
    file = folder / "crossbar.cir"
    file.write_text(netlist(g, r_word, r_bit, volts))
    done = subprocess.run([ngspice, "-b", str(file)], capture_output=True, text=True, timeout=120)
    printed = dict(re.findall(r"^([iv]\(\w+\)) = (\S+)$", done.stdout, re.MULTILINE))
    nodes = node_voltages(g, r_word, r_bit, volts)
    # ngspice prints names in small letters.
    expected = 1e6 * torch.tensor([float(printed[f"i(vs_{j})"]) for j in range(n)], dtype=torch.float64)
    assert differ(volts @ effective_conductance(g, r_word, r_bit, exact=True), expected) <= TOLERANCE
    assert differ(nodes.output, expected) <= TOLERANCE
    for letter, resistance, seen in (("w", r_word, nodes.word), ("b", r_bit, nodes.bit)):
        if resistance:
            values = [float(printed[f"v({letter}_{i}_{j})"]) for i in range(m) for j in range(n)]
            assert differ(seen, torch.tensor(values, dtype=torch.float64).reshape(m, n)) <= TOLERANCE


@pytest.mark.parametrize("shape", [(1, 5), (16, 16), (64, 24), (24, 64), (128, 128)])
@pytest.mark.parametrize(("wires", "faults"), [((1.0, 2.0), False), ((60.0, 5.0), True)])
def test_agrees_with_badcrossbar(badcrossbar, shape, wires, faults):
    g, volts = array(*shape, faults), uniform(4, shape[0]) - 0.3
    expected = crossbar.outputs(badcrossbar, g, *wires, volts)
    assert differ(volts @ effective_conductance(g, *wires, exact=True), expected) <= TOLERANCE
    assert differ(node_voltages(g, *wires, volts).output, expected) <= TOLERANCE


@pytest.mark.parametrize(("wires", "faults"), [((1.0, 2.0), False), ((60.0, 5.0), True)])
def test_both_methods_agree_on_a_large_array(wires, faults):
    # What badcrossbar is asked where it is installed, our own nodal analysis is asked everywhere.
    g, volts = array(128, 128, faults), uniform(4, 128) - 0.3
    expected = node_voltages(g, *wires, volts).output
    assert differ(volts @ effective_conductance(g, *wires, exact=True), expected) <= TOLERANCE
