"""The networks of the page on other simulators in Sandia's CrossSim: its wires, converters and phase-change devices.

A stand-alone program that needs numpy and CrossSim's package ``simulator`` on the path (https://github.com/
sandialabs/cross-sim; it is on no package index). It calls three of its classes directly: the circuit solver
``NonInterleaved_InputSource_Array``, the converter ``SignMagnitudeADC`` and the device ``PCMJoshi``; what the core does
around them (weights to conductances, the difference of a pair before the converter) is written here. ``python -m
paper.simulators export EXCHANGE.npz`` writes the networks and pictures that it reads; it writes one folder::

    PYTHONPATH=CROSSSIM python benchmarks/peer_crosssim.py EXCHANGE.npz FOLDER --commit HASH
    python -m paper.simulators keep FOLDER

What is matched: a pair of devices for each weight from 0.1 to 25 µS at the scale of the layer's largest weight; biases
in the computer; inputs of 8 bits up to the largest on training pictures; converters of 6 bits up to the .99 quantile of
the sizes that this simulator's own outputs have on training pictures. Each array is solved for one
full input at a time, since its currents are linear in the voltages.
Its phase-change device has a programming error, by a fit of its own, and neither drift nor read noise.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from simulator.circuits.adc.quantizer_adc import SignMagnitudeADC
from simulator.circuits.array.NonInterleaved_InputSource import NonInterleaved_InputSource_Array
from simulator.devices.custom.PCM_Joshi import PCMJoshi
from simulator.parameters.core_parameters import CoreStyle
from simulator.parameters.xbar_parameters import ADCRangeLimits

LOW, HIGH = 0.1, 25.0
LAYERS = ("1", "3", "5")
OHMS = (5.0, 100.0, 1000.0)
INPUT_BITS, OUTPUT_BITS, QUANTILE = 8, 6, 0.99
PICTURES = 64
#: Voltage errors below this share of a full input: a hundredth of CrossSim's default, for a single input alone loses
#: less than all together. Its defaults of 100 sweeps of full steps would be reduced by 2 % at a time until the fixed
#: point is found; with long wires we begin with shorter steps.
TOLERANCE, SWEEPS = 1e-5, 2000
RELAXATION = {5.0: 1.0, 100.0: 0.5, 1000.0: 0.1}

Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def networks(file: dict[str, np.ndarray], kinds: tuple[str, ...]) -> Iterator[tuple[str, int, Parts]]:
    """Kind, seed, and weight [out, in] and bias [out] by layer, of every network in the exchange file."""
    for kind in kinds:
        for seed in sorted({int(name.split("/")[1]) for name in file if name.startswith(f"{kind}/")}):
            yield (
                kind,
                seed,
                {
                    layer: (file[f"{kind}/{seed}/{layer}/weight"], file[f"{kind}/{seed}/{layer}/bias"])
                    for layer in LAYERS
                },
            )


def pair(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both conductances as shares of the largest [out, in], and what a share is worth in units of weight."""
    low, full = LOW / HIGH, float(np.abs(weight).max())
    scaled = weight.astype(np.float64) / full * (1 - low)
    return np.maximum(scaled, 0) + low, np.maximum(-scaled, 0) + low, full / (1 - low)


def solver(ohm: float) -> NonInterleaved_InputSource_Array:
    """CrossSim's array with wires of so many ohms a segment, on word and bit lines alike."""
    wire = ohm * HIGH * 1e-6
    lines = SimpleNamespace(Rp_row_norm=wire, Rp_col_norm=wire, Rp_row_terminal_norm=0.0, Rp_col_terminal_norm=0.0)
    settings = SimpleNamespace(
        fast_matmul=True,
        Niters_max_parasitics=SWEEPS,
        Verr_th_mvm=TOLERANCE,
        hide_convergence_msg=True,
        Verr_matmul_criterion="max_max",
        relaxation_gamma=RELAXATION[ohm],
    )
    crossbar = SimpleNamespace(array=SimpleNamespace(parasitics=lines))
    return NonInterleaved_InputSource_Array(SimpleNamespace(xbar=crossbar, simulation=settings))


def product(weight: np.ndarray, ohm: float, x: np.ndarray) -> np.ndarray:
    """Outputs [pictures, out] of a layer behind wires, for inputs [pictures, in] from 0 to 1."""
    plus, minus, share = pair(weight)
    if ohm:
        plus, minus = (effective(matrix.tobytes(), matrix.shape, ohm) for matrix in (plus, minus))
    return x @ (plus - minus).T * share


@cache
def effective(matrix: bytes, shape: tuple[int, int], ohm: float) -> np.ndarray:
    """What an array conducts behind wires [out, in], as shares of the largest conductance."""
    g, inputs = np.frombuffer(matrix).reshape(shape), np.eye(shape[1])
    # A few at a time fit into the cache.
    found = [solver(ohm).iterative_solve(g, inputs[:, at : at + 4]) for at in range(0, shape[1], 4)]
    return np.concatenate(found, axis=1)


def converter(bits: int, bound: float) -> SignMagnitudeADC:
    """CrossSim's converter of so many bits from -bound to bound."""
    adc = SimpleNamespace(
        bits=bits,
        signed=True,
        stochastic_rounding=False,
        adc_per_ibit=False,
        calibrated_range=(-bound, bound),
        adc_range_option=ADCRangeLimits.CALIBRATED,
    )
    core = SimpleNamespace(style=CoreStyle.BALANCED, weight_bits=0)
    made = SignMagnitudeADC(adc, SimpleNamespace(signed=True, bits=0), core, SimpleNamespace(), 0)
    made.set_limits(None)
    return made


def largest_but(values: np.ndarray, share: float) -> float:
    """The quantile of the sizes at ``share``: at least one value is as large."""
    sizes = np.sort(np.abs(values), axis=None)[::-1]
    return float(sizes[max(1, round((1 - share) * sizes.size)) - 1])


def through(layers: Parts, computed: Callable[[str, np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Logits of the perceptron whose products are ``computed(layer, x)``."""
    for layer, (_, bias) in layers.items():
        x = computed(layer, x) + bias
        x = x if layer == LAYERS[-1] else np.maximum(x, 0)
    return x


def plain(weights: dict[str, np.ndarray]) -> Callable[[str, np.ndarray], np.ndarray]:
    """Products with these weights by layer."""
    return lambda name, x: x @ weights[name].T


def wired(layers: Parts, ohm: float, train: np.ndarray) -> Callable[[str, np.ndarray], np.ndarray]:
    """The product of every layer behind wires and converters, calibrated layer by layer on training pictures."""
    largest: dict[str, float] = {}
    ends: dict[str, SignMagnitudeADC] = {}

    def entered(name: str, x: np.ndarray) -> np.ndarray:
        return converter(INPUT_BITS, largest[name]).convert(x.astype(np.float64)) / largest[name]

    def before(name: str, x: np.ndarray) -> np.ndarray:
        return product(layers[name][0], ohm, entered(name, x)) * largest[name]

    def calibrated(name: str, x: np.ndarray) -> np.ndarray:
        largest[name] = float(x.max())
        y = before(name, x)
        ends[name] = converter(OUTPUT_BITS, largest_but(y, QUANTILE))
        return ends[name].convert(y)

    through(layers, calibrated, train)
    return lambda name, x: ends[name].convert(before(name, x))


def programmed(weight: np.ndarray) -> np.ndarray:
    """The weight after CrossSim's programming error of phase-change devices."""
    plus, minus, share = pair(weight)
    low = LOW / HIGH
    settings = SimpleNamespace(
        Gmin_norm=low,
        Gmax_norm=1.0,
        Grange_norm=1 - low,
        clip_conductance=False,
        cell_bits=0,
        time=0,
        Rmin=1e6 / HIGH * (1 + 1e-12),
    )
    device = PCMJoshi(settings, SimpleNamespace(magnitude=0.0))
    return (device.programming_error(plus) - device.programming_error(minus)) * share


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Networks in CrossSim.")
    parser.add_argument("exchange", type=Path, help="what `python -m paper.simulators export` wrote")
    parser.add_argument("folder", type=Path, help="where results are written")
    parser.add_argument("--chips", type=int, default=200, help="for each network")
    parser.add_argument("--commit", required=True, help="of CrossSim")
    options = parser.parse_args()
    np.random.seed(0)  # the global source that CrossSim draws from
    with np.load(options.exchange, allow_pickle=False) as archive:
        file = {name: archive[name] for name in archive.files}
    x, train, labels = file["test_x"], file["train_x"], file["test_y"]
    rows: list[dict[str, object]] = []
    kept: dict[str, np.ndarray] = {}
    refused: list[str] = []
    for kind, seed, layers in networks(file, ("unaware", "aware")):

        def judged(case: str, chip: int, logits: np.ndarray, kind: str = kind, seed: int = seed) -> None:
            count = int((logits.argmax(-1) == labels).sum())
            key = {"kind": kind, "seed": seed, "simulator": "CrossSim", "case": case}
            rows.append({**key, "chip": chip, "right": count})

        judged("ideal", 0, through(layers, plain({name: weight for name, (weight, _) in layers.items()}), x))
        for chip in range(options.chips):
            weights = {name: programmed(weight) for name, (weight, _) in layers.items()}
            judged("programmed", chip, through(layers, plain(weights), x))
        for ohm in (0.0, *OHMS):
            try:
                judged(f"wires {ohm:g}", 0, through(layers, wired(layers, ohm, train), x))
            except ValueError as error:
                refused.append(f"{kind} {seed} at {ohm:g} ohm: {error}")
        if (kind, seed) == ("unaware", 0):
            for ohm in OHMS:
                inputs, largest = x[:PICTURES], train
                for name, (weight, bias) in layers.items():
                    full = float(largest.max())
                    kept[f"{ohm:g}/{name}"] = (product(weight, ohm, inputs / full) * full).astype(np.float32)
                    inputs, largest = (np.maximum(one @ weight.T + bias, 0) for one in (inputs, largest))
    record = {
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "cross-sim": options.commit},
        "command": f"benchmarks/peer_crosssim.py --chips {options.chips}",
        "networks": str(file["networks"]),
        "chips": options.chips,
        "refused": refused,
        "rows": rows,
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    np.savez_compressed(options.folder / "outputs.npz", **kept)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
