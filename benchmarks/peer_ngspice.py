"""The circuit of trained layers in ngspice (a package of Debian) beside ours: ``python -m benchmarks.peer_ngspice``.

Both arrays of every layer of the first unaware network in ``results/peers/networks.npz``, for the inputs that the first
test picture gives the layer. Prints one line of JSON: versions, and for every layer and wire the largest difference of
a current from ngspice's, relative to the largest current, for our circuit solved in double precision and fast.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from lib.hardware import circuit
from lib.hardware.networks import digits, network
from lib.hardware.perturbations import to_pair
from paper.simulators import OHMS, kept, params


def netlist(g: Tensor, volts: Tensor, ohm: float) -> str:
    """Word lines [in] driven at one end through a segment of wire, bit lines [out] ending in sources of 0 V that sense
    their currents, and a device of ``g`` [in, out] microsiemens at every crossing.
    """
    lines = ["crossbar"]
    last = len(g) - 1
    for i, row in enumerate(g.tolist()):
        lines.append(f"V{i} s{i} 0 {float(volts[i])!r}")
        for j, conductance in enumerate(row):
            before, after = f"w{i}_{j - 1}" if j else f"s{i}", f"b{i + 1}_{j}" if i < last else f"o{j}"
            lines.append(f"Rw{i}_{j} {before} w{i}_{j} {ohm!r}")
            lines.append(f"Rg{i}_{j} w{i}_{j} b{i}_{j} {1e6 / conductance!r}")
            lines.append(f"Rb{i}_{j} b{i}_{j} {after} {ohm!r}")
    outputs = range(g.shape[1])
    lines += [f"Vs{j} o{j} 0 0" for j in outputs]
    lines += [".control", "set numdgt=14", "op", *(f"print i(Vs{j})" for j in outputs), ".endc", ".end"]
    return "\n".join(lines)


def currents(program: str, g: Tensor, volts: Tensor, ohm: float) -> Tensor:
    """The currents of all bit lines [out] in microampere, by ngspice."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crossbar.cir"
        path.write_text(netlist(g, volts, ohm), encoding="utf-8")
        printed = subprocess.run([program, "-b", str(path)], capture_output=True, text=True, check=False).stdout
    found = [float(value) for value in re.findall(r"i\(vs\d+\)\s*=\s*(\S+)", printed)]
    if len(found) != g.shape[1]:
        raise RuntimeError(f"ngspice must print {g.shape[1]} currents, but it printed {len(found)}: {printed[-300:]}")
    return 1e6 * torch.tensor(found, dtype=torch.float64)


def main() -> int:
    """Command line; 1 where there is no ngspice."""
    program = shutil.which("ngspice")
    if program is None:
        print("ngspice must be on the path, but there is none (apt-get install ngspice).", file=sys.stderr)
        return 1
    banner = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    own = {name: value[0] for name, value in params(kept("networks"), "unaware", [0]).items()}
    x = digits().test_x[0].flatten()
    rows = []
    for layer in network("mlp").layers:
        weight = own[f"{layer}.weight"]
        volts = (x / x.max()).double()
        for ohm in OHMS:
            worst = {"exact": 0.0, "fast": 0.0}
            for side in to_pair(weight).g.double():
                theirs = currents(program, side.mT, volts, ohm)
                for name in worst:
                    ours = circuit.effective_conductance(side.mT, ohm, ohm, exact=name == "exact").mT @ volts
                    error = float((ours - theirs).abs().max() / theirs.abs().max())
                    worst[name] = max(worst[name], error)
            rows.append({"layer": layer, "ohm": ohm, **worst})
        x = (x @ weight.mT + own[f"{layer}.bias"]).relu()
    version = re.search(r"ngspice-\S+", banner)
    print(
        json.dumps(
            {"versions": {"ngspice": version.group() if version else "", "torch": torch.__version__}, "rows": rows}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
