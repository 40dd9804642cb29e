"""The sides of the comparisons of Part II: batches of trainings, and the price of one product on a chip."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, nll_loss

from lib.hardware.crossbars import on_chip
from lib.hardware.devices import Composite, make
from lib.hardware.perturbations import ADC, Perturbation, ReadNoise, Variability
from lib.hardware.training import RATE, Trainer
from lib.replicas import Optimiser, Training
from lib.runtime import stream

CPU = torch.device("cpu")
#: The perceptron of the peers' own example.
SIZES, BATCH = (784, 256, 128, 10), 128
PEER = Path(__file__).with_name("peer_aihwkit.py")


def trainings(
    name: str, seeds: int, severities: int, steps: int = 30, device: torch.device = CPU
) -> tuple[Callable[[], object], ...]:
    """Single runs one after the other, and the same runs as one batch."""
    trainer, physics = Trainer.named("mlp"), make(name)
    grid = torch.linspace(physics.grid[0], physics.grid[-1], severities).tolist()
    start = trainer.fork(range(seeds), 5, device)
    optimiser = Optimiser("adam", RATE, steps)

    def run(chosen: list[int], values: list[float]) -> Training:
        own = {name: value[chosen] for name, value in start.items()}
        return trainer.train_aware(own, physics, "autograd", values, chosen, optimiser)

    def one_by_one() -> list[Training]:
        return [run([seed], [value]) for value in grid for seed in range(seeds)]

    return one_by_one, partial(run, list(range(seeds)), grid)


def perceptron() -> nn.Module:
    """784-256-128-10 with ReLU."""
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in zip(SIZES, SIZES[1:], strict=False)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


#: What one training step is measured with; a chip's noise at a tenth of the full scale.
HARDWARE: dict[str, tuple[Perturbation, object]] = {
    "read noise": (ReadNoise(), 0.1),
    "variability": (Variability(), 0.1),
    "read noise and ADC": (Composite((ReadNoise(), ADC())), (0.1, 8.0)),
}


def passes(hardware: str, kind: str, steps: int = 20) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """A batch through a chip, and through plain torch.

    ``kind``: "pass" is forward on a programmed chip, with fresh reads; "step" adds the backward; "fresh step" is a step
    of hardware-aware training, with a new chip each time.
    """
    model = perceptron()
    x, y = torch.rand(BATCH, SIZES[0], generator=stream(0, "x")), torch.arange(BATCH) % SIZES[-1]

    def once(own: nn.Module) -> Tensor:
        if kind == "pass":
            with torch.no_grad():
                return own(x)
        own.zero_grad()
        y_hat = own(x)
        cross_entropy(y_hat, y).backward()
        return y_hat.detach()

    def steps_of(own: nn.Module, before: Callable[[], object]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            for _ in range(steps):
                before()
                seen = once(own)
            return seen

        return run

    perturbation, severity = HARDWARE[hardware]
    placed = copy.deepcopy(model)
    # The chip stays programmed from one measurement to the next, for as long as its context is referred to.
    context = on_chip(placed, perturbation, severity, generator=stream(0, "chip"))
    chip = context.__enter__()
    through = steps_of(placed, lambda held=context: chip.renew() if kind == "fresh step" else held)
    plain = steps_of(model, lambda: None)
    through()
    return through, plain


@dataclass(frozen=True)
class WeightNoise(Perturbation):
    """What usually stands in for a chip in training: W + sigma max|W| xi, shared by the two devices."""

    name, title, measures, unit = "weight_noise", "Weight noise", "standard deviation of a weight", "max|W|"
    low, high, grid = 0.0, 1.0, (0.1,)
    chip, alone = "normal", True

    def draw_chip(self, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
        return {"chip": torch.randn(shape, generator=generator)}

    def difference(self, scaled: Tensor, severity: Tensor, chip: Tensor) -> tuple[Tensor, Tensor]:
        # Nothing is cut off, so the noise of a pair is that of its difference: one number for each weight is exact.
        span = self.window.high - self.window.low
        return chip * (severity * span), scaled.new_ones(()).expand_as(scaled)

    def conductance(self, g: Tensor, severity: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        change = self.difference(g[0], severity, drawn["chip"])[0] / 2
        return g + torch.stack([change, -change])


def peer_training(steps: int = 20) -> tuple[Callable[[], object], Callable[[], object]]:
    """The training that the peer's script times, through weight noise of a tenth on a fresh chip, and in plain torch.

    The same perceptron with sigmoids, the same batch, loss and optimiser, as many steps.
    """
    torch.manual_seed(0)
    widths = list(zip(SIZES, SIZES[1:], strict=False))
    layers = [part for wide, narrow in widths for part in (nn.Linear(wide, narrow), nn.Sigmoid())]
    model = nn.Sequential(*layers[:-1], nn.LogSoftmax(dim=1))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.rand(BATCH, SIZES[0], generator=stream(0, "x")), torch.arange(BATCH) % SIZES[-1]

    def train(renew: Callable[[], object]) -> float:
        for _ in range(steps):
            renew()
            optimiser.zero_grad()
            loss = nll_loss(model(x), y)
            loss.backward()
            optimiser.step()
        return float(loss.detach())

    def through() -> float:
        with on_chip(model, WeightNoise(), 0.1, generator=stream(0, "chip")) as chip:
            return train(chip.renew)

    return through, lambda: train(lambda: None)


def aihwkit() -> dict[str, dict] | None:
    """What the peer measures in its own environment (see the script's head), or None where it cannot be made."""
    command = [sys.executable, "-m", "uv", "run", "--no-project", "--no-python-downloads", "--script", str(PEER)]
    done = subprocess.run([*command, "--threads", str(torch.get_num_threads())], capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
