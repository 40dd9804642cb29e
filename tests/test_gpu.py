"""On a GPU: the numbers of the CPU in single precision without TF32, and how much memory it took."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lib.hardware.devices import make
from tests import on_pretended

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU on this machine")

#: A few of each part: all of them run on the pretended device.
CASES = {
    "a learner with a gate": partial(on_pretended.prompts, name="maple", gate="length"),
    "a pool with a selector": partial(on_pretended.prompts, name="pool", gate="gumbel"),
    "read noise": partial(on_pretended.hardware, perturbation=make("read_noise"), rule="autograd"),
    "a converter": partial(on_pretended.hardware, perturbation=make("adc"), rule="straight_through"),
    "wires": partial(on_pretended.hardware, perturbation=make("ir_drop"), rule="autograd"),
}


def flat(value: object) -> list[torch.Tensor]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [one for own in value for one in flat(own)]
    return [torch.as_tensor(value, dtype=torch.float64).cpu()]


@pytest.mark.parametrize("name", CASES)
def test_a_gpu_finds_what_a_cpu_finds(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    device = torch.device("cuda", torch.cuda.current_device())
    expected = flat(on_pretended.near(CASES[name](torch.device("cpu"))))
    torch.cuda.reset_peak_memory_stats(device)
    found = flat(on_pretended.near(CASES[name](device)))
    print(f"{name}: at most {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB on the GPU, TF32 off")
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3, equal_nan=True)
