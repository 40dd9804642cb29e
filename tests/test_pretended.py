"""Both parts compute on a GPU what they compute on a CPU, and wait for it only where that is known: without a GPU.

The device is pretended (``tests/pretended.py``), its numbers are real. Where there is a GPU,
``tests/test_gpu.py`` asks it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import on_pretended

ROOT = Path(__file__).resolve().parents[1]
CASES = [name for name, _ in on_pretended.cases()]

#: Functions that wait in a training step, and why they may.
KNOWN = {
    "lib.hardware.circuit._counts": "how many terms a series takes is counted once for all of an array's lines",
    # Part I's evidence rests on this function: the line goes when that is computed anew.
    "lib.prompts.training.train.<locals>.draw": "a tensor is asked whether a gate is rewarded for diversity, each step",
}
#: Copies from the CPU in a step: numbers are drawn on the CPU, and each kind of number is one copy for all replicas.
COPIES = 16


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    """What every case showed; the program has a process of its own, see there."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, which tests/test_gpu.py asks itself")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.on_pretended"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if "has no backends in Python" in done.stderr:
        pytest.skip("this version of torch has no backends in Python")
    assert done.returncode == 0, done.stderr
    return {line["case"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("case", [name for name in CASES if "planted" not in name])
def test_a_gpu_computes_what_a_cpu_computes(found, case):
    seen = found[case]
    assert not seen["fault"]
    assert seen["alike"], "the numbers are others"
    waited = [place for place in seen["waits"] if not any(f" at {known}: " in place for known in KNOWN)]
    assert not waited, "a training step waits for the device"
    assert seen["copies"] <= COPIES
    assert not seen["no_kernel"] or torch.version.cuda is None, "operations that CUDA does not have"


@pytest.mark.parametrize("case", [name for name in CASES if "planted" in name])
def test_a_planted_fault_is_noticed(found, case):
    seen, fault = found[case], case.split()[-1]
    assert seen["alike"] == (fault in ("none", "item", "mask"))
    assert bool(seen["waits"]) == (fault in ("item", "mask"))
    assert ("same device" in seen["fault"]) == (fault == "tensor")
    assert ("for generator" in seen["fault"]) == (fault == "generator")


def test_every_reason_to_wait_is_still_needed(found):
    waited = " ".join(place for seen in found.values() for place in seen["waits"])
    assert all(known in waited for known in KNOWN)
