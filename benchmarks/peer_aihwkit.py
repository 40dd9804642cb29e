# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "aihwkit==1.2.0; python_version >= '3.12'",
#     "torch==2.15.0; python_version >= '3.12'",
#     "aihwkit==1.1.0; python_version < '3.12'",
#     "torch==2.10.0; python_version < '3.12'",
# ]
# ///
"""IBM's aihwkit beside plain torch: time of a training step, and samples of its noise model of PCM devices.

A stand-alone program for an environment of its own, whose packages the comment above lists (``uv run --script`` reads
it). A wheel of aihwkit fits only versions of torch near the one it was compiled against: with others it does not load,
or refuses weights because it reads their shape wrongly. ``error`` below compares a compiled tile with plain arithmetic.
Both modes print one line of JSON.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import platform
import statistics
import textwrap
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.nn import AnalogLinear, AnalogSequential
from aihwkit.optim import AnalogSGD
from aihwkit.simulator.configs import (
    BoundManagementType,
    InferenceRPUConfig,
    NoiseManagementType,
    TorchInferenceRPUConfig,
    WeightModifierType,
)
from torch import Tensor, nn

SIZES = (784, 256, 128, 10)
BATCHES = 16
RATE = 0.1
G_MAX = 25.0
CONDUCTANCES = (0.1, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 25.0)
SECONDS_AFTER_PROGRAMMING = (0.0, 20.0, 3600.0, 86400.0)
SMALL = 1e-3  # a noise scale at which no conductance falls below zero, where the model would cut it off


def versions() -> dict[str, str]:
    """Of everything that decides the numbers."""
    return {"python": platform.python_version(), "torch": torch.__version__, "aihwkit": version("aihwkit")}


def configuration(modifier: float = 0.0, out_noise: float = 0.0, adc: bool = False) -> TorchInferenceRPUConfig:
    """A torch tile, ideal but for Gaussian noise on weights, noise on outputs and an output converter of 8 bits.

    ``modifier`` is in units of the layer's largest weight, as aihwkit has it, and drawn anew at every forward pass.
    """
    config = TorchInferenceRPUConfig()
    if modifier:
        config.modifier.type = WeightModifierType.ADD_NORMAL
        config.modifier.std_dev = modifier
    forward = config.forward
    forward.is_perfect = not (out_noise or adc)
    forward.inp_bound = forward.inp_res = -1.0
    forward.out_noise = out_noise
    forward.out_bound, forward.out_res = (10.0, 1 / 254) if adc else (-1.0, -1.0)
    forward.noise_management = NoiseManagementType.NONE
    forward.bound_management = BoundManagementType.NONE
    return config


def network(activation: str, config: TorchInferenceRPUConfig | None) -> nn.Module:
    """The perceptron of aihwkit's MNIST example, of plain layers without a ``config``."""
    between = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}[activation]
    layers: list[nn.Module] = []
    for wide, narrow in zip(SIZES, SIZES[1:], strict=False):
        layers.append(nn.Linear(wide, narrow) if config is None else AnalogLinear(wide, narrow, rpu_config=config))
        layers.append(between() if narrow != SIZES[-1] else nn.LogSoftmax(dim=1))
    return (nn.Sequential if config is None else AnalogSequential)(*layers)


def trainer(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[int], float]:
    """A function that trains for a number of steps and returns the last loss."""
    analog = isinstance(model, AnalogSequential)
    optimiser = (AnalogSGD if analog else torch.optim.SGD)(model.parameters(), lr=RATE)
    if analog:
        optimiser.regroup_param_groups(model)
    criterion = nn.NLLLoss()

    def train(steps: int) -> float:
        for step in range(steps):
            optimiser.zero_grad()
            loss = criterion(model(images[step % BATCHES]), labels[step % BATCHES])
            loss.backward()
            optimiser.step()
        return float(loss.detach())

    return train


def tile_error() -> float:
    """Largest difference between a compiled ideal tile and the product it stands for."""
    config = InferenceRPUConfig()
    config.forward.is_perfect = True
    layer, inputs = AnalogLinear(40, 30, rpu_config=config), torch.rand(20, 40)
    weight, bias = layer.get_weights()
    with torch.no_grad():
        return float((layer(inputs) - nn.functional.linear(inputs, weight, bias)).abs().max())


def timings(options: argparse.Namespace) -> dict[str, Any]:
    """Median seconds a step of plain torch and of every kind of tile, all taking turns in this process."""
    error = tile_error()
    sides: dict[str, TorchInferenceRPUConfig | None] = {
        "plain": None,
        "ideal": configuration(),
        "modifier": configuration(options.modifier),
        "modifier_read": configuration(options.modifier, options.out_noise),
        "modifier_read_adc": configuration(options.modifier, options.out_noise, adc=True),
    }
    labels = torch.randint(SIZES[-1], (BATCHES, options.batch))
    images = (torch.rand(SIZES[-1], SIZES[0])[labels] + torch.rand(BATCHES, options.batch, SIZES[0])) / 2
    trainers = {name: trainer(network(options.activation, config), images, labels) for name, config in sides.items()}
    for train in trainers.values():
        train(options.steps)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    losses: dict[str, float] = {}
    for _ in range(options.repetitions):
        for name, train in trainers.items():
            began = time.perf_counter()
            losses[name] = train(options.steps)
            seconds[name].append((time.perf_counter() - began) / options.steps)
    ratios = {
        name: [mine / plain for mine, plain in zip(found, seconds["plain"], strict=True)]
        for name, found in seconds.items()
    }
    return {
        "sizes": SIZES,
        "activation": options.activation,
        "batch": options.batch,
        "steps": options.steps,
        "repetitions": options.repetitions,
        "threads": torch.get_num_threads(),
        "modifier_std": options.modifier,
        "out_noise": options.out_noise,
        "error": error,
        "seconds_per_step": {name: statistics.median(found) for name, found in seconds.items()},
        "over_plain": {name: statistics.median(found) for name, found in ratios.items()},
        "over_plain_range": {name: [min(found), max(found)] for name, found in ratios.items()},
        "last_loss": losses,
    }


def constants(method: Callable[..., Any]) -> list[float]:
    """All numbers in a method's source, in order of appearance: aihwkit has no names for most of its coefficients."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) in (int, float)]
    found.sort(key=lambda node: (node.lineno, node.col_offset))
    return [node.value for node in found]


def moments(values: Tensor, scale: float = 1.0) -> dict[str, float]:
    """Mean, and standard deviation over ``scale``."""
    return {"mean": float(values.mean()), "std": float(values.std()) / scale}


def noise(options: argparse.Namespace) -> dict[str, Any]:
    """Programming noise, drift exponents and read noise of ``PCMLikeNoiseModel`` at fixed conductances (in µS).

    ``uncut`` is the standard deviation before the model sets negative conductances to zero. Read noise is that of a
    device at exactly ``g`` that does not drift; ``everything`` is programming, drift and read noise together.
    """
    model = PCMLikeNoiseModel(g_max=G_MAX)
    small = PCMLikeNoiseModel(g_max=G_MAX, prog_noise_scale=SMALL, read_noise_scale=SMALL)
    rows = []
    for conductance in CONDUCTANCES:
        target = torch.full((options.samples,), conductance, dtype=torch.float64)
        still = torch.zeros_like(target)
        programmed = model.apply_programming_noise_to_conductance(target)
        exponents = model.generate_drift_coefficients(target)
        read, everything = {}, {}
        for seconds in SECONDS_AFTER_PROGRAMMING:
            key = f"{seconds:g}"
            read[key] = moments(model.apply_drift_noise_to_conductance(target, still, seconds))
            uncut = moments(small.apply_drift_noise_to_conductance(target, still, seconds), SMALL)
            read[key] |= {"uncut": uncut["std"]}
            everything[key] = moments(model.apply_drift_noise_to_conductance(programmed, exponents, seconds))
        uncut = moments(small.apply_programming_noise_to_conductance(target), SMALL)
        rows.append(
            {
                "g": conductance,
                "programming": moments(programmed) | {"uncut": uncut["std"]},
                "nu": moments(exponents),
                "read": read,
                "everything": everything,
            }
        )
    return {
        "samples": options.samples,
        "seconds_after_programming": SECONDS_AFTER_PROGRAMMING,
        "model": {
            "prog_coeff": model.prog_coeff,
            "prog_coeff_g_max_reference": model.prog_coeff_g_max_reference,
            "g_max": model.g_max,
            "t_0": model.t_0,
            "t_read": model.t_read,
        },
        "constants": {
            "generate_drift_coefficients": constants(PCMLikeNoiseModel.generate_drift_coefficients),
            "apply_drift_noise_to_conductance": constants(PCMLikeNoiseModel.apply_drift_noise_to_conductance),
        },
        "rows": rows,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time of aihwkit's training step, or samples of its noise model.")
    parser.add_argument("--noise", action="store_true", help="sample the noise model instead of timing steps")
    parser.add_argument("--samples", type=int, default=200_000, help="for each conductance (with --noise)")
    parser.add_argument("--steps", type=int, default=20, help="in each repetition")
    parser.add_argument("--repetitions", type=int, default=15, help="of all sides, which take turns")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--activation", choices=("sigmoid", "relu"), default="sigmoid")
    parser.add_argument("--modifier", type=float, default=0.1, help="weight noise over the layer's largest weight")
    parser.add_argument("--out-noise", type=float, default=0.06, help="read noise at a tile's output")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    print(json.dumps({"versions": versions()} | (noise(options) if options.noise else timings(options))))


if __name__ == "__main__":
    main()
