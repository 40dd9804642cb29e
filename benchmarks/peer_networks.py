# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "aihwkit==1.2.0; python_version >= '3.12'",
#     "torch==2.15.0; python_version >= '3.12'",
#     "aihwkit==1.1.0; python_version < '3.12'",
#     "torch==2.10.0; python_version < '3.12'",
# ]
# ///
"""The networks of the page on other simulators in IBM's aihwkit: their accuracy on its chips, and its own training.

A stand-alone program for an environment of its own, whose packages the comment above lists. ``python -m
paper.simulators export EXCHANGE.npz`` writes the networks and pictures that it reads; it writes one folder::

    python benchmarks/peer_networks.py EXCHANGE.npz FOLDER
    python -m paper.simulators keep FOLDER

``record.json`` has versions and settings and, for every case, network and chip, how many test pictures were right;
``outputs.npz`` what layers give behind wires; ``trained.npz`` networks that aihwkit trained by its weight modifier.

What is matched: a pair of devices for each weight from 0.1 to 25 µS at the scale of the layer's largest weight; biases
in the computer; inputs of 8 bits up to the largest on training pictures; converters of 6 bits up to the .99 quantile of
the sizes that this simulator's own outputs have on training pictures. ``devices`` runs aihwkit's noise model on both
devices of every pair; ``library`` is what its tiles do: they keep the difference of a pair after programming and take
it for a single device from then on.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.inference.compensation.drift import GlobalDriftCompensation
from aihwkit.inference.converter.conductance import SinglePairConductanceConverter
from aihwkit.nn import AnalogLinear, AnalogSequential
from aihwkit.optim import AnalogAdam
from aihwkit.simulator.configs import (
    BoundManagementType,
    InferenceRPUConfig,
    NoiseManagementType,
    TorchInferenceRPUConfig,
    WeightModifierType,
)
from torch import Tensor, nn

LOW, HIGH = 0.1, 25.0
LAYERS = ("1", "3", "5")
SECONDS = (20.0, 3620.0, 86420.0, 315000020.0)
OHMS = (5.0, 100.0, 1000.0)
INPUT_BITS, OUTPUT_BITS, QUANTILE = 8, 6, 0.99
PICTURES = 64
BETAS, EPS = (0.9, 0.999), 1e-8

Parts = dict[str, tuple[Tensor, Tensor]]


def networks(file: dict[str, np.ndarray], kinds: tuple[str, ...]) -> Iterator[tuple[str, int, Parts]]:
    """Kind, seed, and weight [out, in] and bias [out] by layer, of every network in the exchange file."""
    for kind in kinds:
        for seed in sorted({int(name.split("/")[1]) for name in file if name.startswith(f"{kind}/")}):
            layers = {
                layer: tuple(torch.from_numpy(file[f"{kind}/{seed}/{layer}/{part}"]) for part in ("weight", "bias"))
                for layer in LAYERS
            }
            yield kind, seed, layers  # type: ignore[misc]


def model_of(noise_scale: float = 1.0) -> PCMLikeNoiseModel:
    """The phase-change preset on the window of the page."""
    converter = SinglePairConductanceConverter(g_max=HIGH, g_min=LOW)
    return PCMLikeNoiseModel(g_converter=converter, read_noise_scale=noise_scale)


def tile(weight: Tensor, config: InferenceRPUConfig | TorchInferenceRPUConfig) -> AnalogLinear:
    """A layer without bias in a tile of that configuration; its weights as they are, up to one largest weight of 1."""
    layer = AnalogLinear(weight.shape[1], weight.shape[0], bias=False, rpu_config=config)
    layer.set_weights(weight)
    return layer.eval()


def through(layers: Parts, product: Callable[[str, Tensor], Tensor], x: Tensor) -> Tensor:
    """Logits of the perceptron whose products are ``product(layer, x)``."""
    for layer, (_, bias) in layers.items():
        x = product(layer, x) + bias
        x = x if layer == LAYERS[-1] else x.relu()
    return x


def plain(weights: dict[str, Tensor]) -> Callable[[str, Tensor], Tensor]:
    """Products with these weights by layer."""
    return lambda name, x: x @ weights[name].T


def own(layers: Parts) -> dict[str, Tensor]:
    """The weights of a network by layer."""
    return {name: weight for name, (weight, _) in layers.items()}


def right(logits: Tensor, labels: Tensor) -> int:
    """How many pictures are right."""
    return int((logits.argmax(-1) == labels).sum())


# ---------------------------------------------------------------------------------------------------- phase change


def perfect(compensated: bool) -> TorchInferenceRPUConfig:
    """A tile of phase-change devices without converters."""
    config = TorchInferenceRPUConfig()
    config.forward.is_perfect = True
    config.mapping.weight_scaling_omega = 0.0
    config.noise_model = model_of()
    config.drift_compensation = GlobalDriftCompensation() if compensated else None
    return config


def called(tiles: dict[str, AnalogLinear], name: str, x: Tensor) -> Tensor:
    """The product of a layer in its tile."""
    return tiles[name](x)


def library(layers: Parts, x: Tensor, labels: Tensor, chips: int) -> Iterator[tuple[str, int, int]]:
    """Case, chip and pictures right, by aihwkit's tiles."""
    for compensation in ("none", "global"):
        tiles = {name: tile(weight, perfect(compensation == "global")) for name, (weight, _) in layers.items()}
        whole = AnalogSequential(*tiles.values()).eval()
        for chip in range(chips):
            whole.program_analog_weights()
            for seconds in SECONDS:
                whole.drift_analog_weights(seconds - 20.0)
                logits = through(layers, partial(called, tiles), x)
                yield f"pcm {compensation} {seconds:g}", chip, right(logits, labels)


def devices(layers: Parts, x: Tensor, labels: Tensor, chips: int) -> Iterator[tuple[str, int, int]]:
    """Case, chip and pictures right, by aihwkit's noise model on both devices of every pair.

    ``programmed`` has programming noise alone. Compensation is that of our library: what the sum of a layer's
    conductances has lost.
    """
    model, quiet = model_of(), model_of(0.0)
    for chip in range(chips):
        known = {}
        for name, (weight, _) in layers.items():
            targets, own = model.g_converter.convert_to_conductances(weight)
            done = [model.apply_programming_noise_to_conductance(target.clone()) for target in targets]
            known[name] = targets, own, done, [model.generate_drift_coefficients(target) for target in targets]

        def seen(seconds: float, noise: PCMLikeNoiseModel, factor: bool, known: dict = known) -> dict[str, Tensor]:
            found = {}
            for name, (targets, own, done, exponents) in known.items():
                now = [
                    noise.apply_drift_noise_to_conductance(one, exponent, seconds - 20.0)
                    for one, exponent in zip(done, exponents, strict=True)
                ]
                still = [
                    quiet.apply_drift_noise_to_conductance(one, exponent, seconds - 20.0)
                    for one, exponent in zip(done, exponents, strict=True)
                ]
                gain = sum(map(torch.sum, targets)) / sum(map(torch.sum, still)) if factor else 1.0
                found[name] = model.g_converter.convert_back_to_weights(now, own) * gain
            return found

        cases = {"programmed": seen(20.0, quiet, False)}
        for factor in (False, True):
            for seconds in SECONDS:
                cases[f"pcm {'global' if factor else 'none'} {seconds:g}"] = seen(seconds, model, factor)
        for case, weights in cases.items():
            logits = through(layers, plain(weights), x)
            yield case, chip, right(logits, labels)


# ------------------------------------------------------------------------------------------- wires and converters


def converting(ohm: float, bound: float | None, inputs: bool = True) -> InferenceRPUConfig:
    """A compiled tile with wires by aihwkit's formula, with a converter for ``inputs`` (at most 1) and, with a
    ``bound``, one for outputs.
    """
    config = InferenceRPUConfig()
    config.mapping.weight_scaling_omega = 1.0
    config.drift_compensation = None
    forward = config.forward
    forward.is_perfect = False
    forward.inp_bound, forward.inp_res = 1.0, 1 / (2**INPUT_BITS - 2) if inputs else -1.0
    forward.out_bound, forward.out_res = (-1.0, -1.0) if bound is None else (bound, 1 / (2**OUTPUT_BITS - 2))
    forward.inp_noise = forward.out_noise = forward.w_noise = 0.0
    forward.noise_management = NoiseManagementType.NONE
    forward.bound_management = BoundManagementType.NONE
    if ohm:
        forward.ir_drop, forward.ir_drop_g_ratio = 1.0, 1 / (ohm * HIGH * 1e-6)
    return config


def wired(layers: Parts, ohm: float, train: Tensor) -> Callable[[str, Tensor], Tensor]:
    """The product of every layer behind wires and converters, calibrated layer by layer on training pictures."""
    tiles: dict[str, AnalogLinear] = {}
    largest: dict[str, float] = {}
    x = train
    for name, (weight, bias) in layers.items():
        largest[name] = float(x.max())
        full = float(weight.abs().max())
        plain = tile(weight, converting(ohm, None))(x / largest[name])
        sizes = plain.abs().flatten()
        bound = float(sizes.topk(max(1, round((1 - QUANTILE) * sizes.numel()))).values[-1])
        # Inside the tile the largest weight is 1.
        tiles[name] = tile(weight, converting(ohm, bound / full))
        x = tiles[name](x / largest[name]) * largest[name] + bias
        x = x if name == LAYERS[-1] else x.relu()
    return lambda name, x: tiles[name](x / largest[name]) * largest[name]


def outputs(layers: Parts, ohm: float, x: Tensor, train: Tensor) -> dict[str, np.ndarray]:
    """What every layer gives behind wires alone [pictures, out], for the inputs that it has in a plain network."""
    found = {}
    for name, (weight, bias) in layers.items():
        largest = float(train.max())
        found[f"{ohm:g}/{name}"] = (tile(weight, converting(ohm, None, inputs=False))(x / largest) * largest).numpy()
        x, train = ((one @ weight.T + bias).relu() for one in (x, train))
    return found


# ------------------------------------------------------------------------------------------------------- training


def trained(file: dict[str, np.ndarray], seed: int, layers: Parts, noise: float) -> Parts:
    """The network after aihwkit's hardware-aware training: noise on weights in units of the layer's largest one, drawn
    anew at every step, from the start, on the batches and at the rates of the exchange file.
    """
    config = TorchInferenceRPUConfig()
    config.forward.is_perfect = True
    config.mapping.weight_scaling_omega = 0.0
    if noise:
        config.modifier.type, config.modifier.std_dev = WeightModifierType.ADD_NORMAL, noise
    body: list[nn.Module] = []
    for name, (weight, bias) in layers.items():
        layer = AnalogLinear(weight.shape[1], weight.shape[0], bias=True, rpu_config=config)
        layer.set_weights(weight, bias)
        body += [layer] if name == LAYERS[-1] else [layer, nn.ReLU()]
    model = AnalogSequential(*body).train()
    optimiser = AnalogAdam(model.parameters(), lr=1.0, betas=BETAS, eps=EPS)
    optimiser.regroup_param_groups(model)
    x, y = torch.from_numpy(file["train_x"]), torch.from_numpy(file["train_y"]).long()
    for rate, picked in zip(file["rates"], torch.from_numpy(file[f"batches/{seed}"]).long(), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = float(rate)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[picked]), y[picked]).backward()
        optimiser.step()
    analog = [layer for layer in body if isinstance(layer, AnalogLinear)]
    return {name: tuple(layer.get_weights()) for name, layer in zip(layers, analog, strict=True)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Networks on aihwkit's chips, and its training by noise on weights.")
    parser.add_argument("exchange", type=Path, help="what `python -m paper.simulators export` wrote")
    parser.add_argument("folder", type=Path, help="where results are written")
    parser.add_argument("--chips", type=int, default=200, help="for each network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(options.exchange, allow_pickle=False) as archive:
        file = {name: archive[name] for name in archive.files}
    x, train, labels = (torch.from_numpy(file[name]) for name in ("test_x", "train_x", "test_y"))
    rows: list[dict[str, object]] = []
    kept: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for kind, seed, layers in networks(file, ("unaware", "aware")):
            key = {"kind": kind, "seed": seed}
            ideal = right(through(layers, plain(own(layers)), x), labels)
            rows.append({**key, "simulator": "aihwkit", "case": "ideal", "chip": 0, "right": ideal})
            for simulator, run in (("aihwkit", library), ("aihwkit devices", devices)):
                for case, chip, count in run(layers, x, labels, options.chips):
                    rows.append({**key, "simulator": simulator, "case": case, "chip": chip, "right": count})
            for ohm in (0.0, *OHMS):
                count = right(through(layers, wired(layers, ohm, train), x), labels)
                rows.append({**key, "simulator": "aihwkit", "case": f"wires {ohm:g}", "chip": 0, "right": count})
            if (kind, seed) == ("unaware", 0):
                for ohm in OHMS:
                    kept |= outputs(layers, ohm, x[:PICTURES], train)
    found: dict[str, np.ndarray] = {}
    check = 0.0
    for _, seed, layers in networks(file, ("start",)):
        for layer, parts in trained(file, seed, layers, float(file["noise"])).items():
            for part, value in zip(("weight", "bias"), parts, strict=True):
                found[f"{seed}/{layer}/{part}"] = value.detach().numpy()
        if not check:
            # Without noise this is the plain training that the exchange file has the result of.
            for layer, parts in trained(file, seed, layers, 0.0).items():
                clean = torch.from_numpy(file[f"clean/{seed}/{layer}/weight"])
                check = max(check, float((parts[0].detach() - clean).norm() / clean.norm()))
    record = {
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "aihwkit": version("aihwkit")},
        "command": f"benchmarks/peer_networks.py --chips {options.chips}",
        "networks": str(file["networks"]),
        "chips": options.chips,
        "without_noise": check,
        "rows": rows,
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    np.savez_compressed(options.folder / "outputs.npz", **kept)  # type: ignore[arg-type]
    np.savez_compressed(options.folder / "trained.npz", **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
