"""From a conductance to a layer: what a crossbar makes of the matrix-vector product that a network asks for."""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib import checks, results, runtime
from lib.hardware import circuit, devices
from lib.hardware.crossbars import OnChip, divert, ideal, mappable, on_chip
from lib.hardware.perturbations import PERTURBATIONS, WINDOW, Perturbation, seen_weight, to_pair
from lib.hardware.training import Trainer, tiled
from lib.verdicts import Finding, Findings, judge, judge_value
from paper.studies.base import Result, Study, double_precision, duration

#: Volts at a word line for the largest input.
VOLTS = 0.2
#: What "grows with the square" allows: the exponent's distance from 2.
SQUARE = 0.1
#: Realistic wires, and the array on which the estimate is judged, in per cent of the largest current.
REALISTIC, ARRAY, CLOSE = 1.0, 64, 1.0
#: Tiles of this side, and the share of the whole array's loss that they may leave.
TILE, LEFT = 32, 0.1
#: Points of accuracy: what counts as no loss, and as a clear one.
NO_LOSS, CLEAR_LOSS = 1.0, 5.0
#: A smaller relative change of a layer's output means that a perturbation was not applied.
APPLIED = 1e-4

KINDS = ("uniform", "sparse")
PATTERNS = (*KINDS, "all on", "one strong row", "one strong column")
#: Which of the two kinds of wires have resistance.
WIRES = {"both": (1.0, 1.0), "word lines": (1.0, 0.0), "bit lines": (0.0, 1.0)}
_MODULES = ("checks", "gradients", "hardware", "replicas", "runtime", "studies.operator")


@dataclass(frozen=True, kw_only=True)
class Operator(Study):
    """A layer on hardware, looked at from the circuit up to the network::

        sides, resistances    of square arrays, in lines, and of their wires, in ohm per segment
        arrays                random arrays of every kind for each side: conductances "uniform" over the window, or
                              "sparse", one cell in ten fully on and the rest at the lower end
        seeds, steps, chips   networks, their optimiser steps, and unseen chips for each
        times                 seconds after programming at which a phase-change chip is looked at
        ohm                   wires of the array that is drawn

    Tables: ``loss`` (what wires cost, and how far the fast estimate is off), ``tiles``, ``layers`` (every class on
    every kind of layer) and ``chips`` (accuracy over time).
    """

    sides: object = (16, 32, 64, 128)
    resistances: object = (0.1, 0.3, 1.0, 3.0, 10.0)
    arrays: int = 8
    seeds: int = 4
    steps: int = 200
    chips: int = 10
    times: object = (20.0, 3600.0, 86400.0, 2.6e6, 3.15e7)
    ohm: float = 10.0

    KEYS = ("kind", "side", "ohm")
    TOLERANCES = {"loss": 1.0, "error": 0.5}

    def check(self) -> None:
        if not isinstance(self.sides, list | tuple) or not self.sides:
            raise checks.ParameterError(
                f"sides must be one or more integers from 2 to 512, but {self.sides!r} was given."
            )
        sides = tuple(checks.integer("sides", side, 2, 512) for side in self.sides)
        times = tuple(devices.make("pcm").check(time, "times") for time in checks.numbers("times", self.times))
        for name, values in (
            ("sides", sides),
            ("resistances", checks.numbers("resistances", self.resistances, above=0, high=1000)),
            ("times", times),
        ):
            if len(set(values)) < len(values):
                raise checks.ParameterError(f"{name} must be different numbers, but {values!r} was given.")
            object.__setattr__(self, name, tuple(sorted(values)))
        for name in ("arrays", "seeds", "steps", "chips"):
            checks.integer(name, getattr(self, name), low=1)
        checks.number("ohm", self.ohm, above=0, high=1000)
        double_precision(self.device)

    def run(self) -> Result:
        store = self.store()
        device = runtime.resolve_device(self.device)
        parts = {
            "loss": (partial(_loss, self, device), ("sides", "resistances", "arrays")),
            "tiles": (partial(_tiles, self, device), ("sides", "arrays")),
            "layers": (_layers, ()),
            "chips": (partial(_chips, self, device), ("seeds", "steps", "chips", "times")),
        }
        tables = {}
        for name, (compute, fields) in parts.items():
            config = {"code": results.code_version(*_MODULES), **{field: getattr(self, field) for field in fields}}
            tables[name] = store.get_or_run(f"operator_{name}", config, compute, device=device, seeds=self.seeds)
        record = results.provenance(device, self.seeds, store.seconds)
        return Result(tables, findings(tables), record)


# ---------------------------------------------------------------------------------------------- wires and tiles


def _array(kind: str, side: int, number: int) -> Tensor:
    """A random array [side, side] in microsiemens."""
    drawn = torch.rand(side, side, generator=runtime.stream(number, kind, side), dtype=torch.float64)
    share = drawn if kind == "uniform" else (drawn < 0.1).double()
    return WINDOW.low + (WINDOW.high - WINDOW.low) * share


def _lost(g: Tensor, seen: Tensor) -> float:
    """Per cent of the current that is lost when every input is driven alike."""
    return 100 * float(1 - seen.sum() / g.sum())


def _loss(study: Operator, device: torch.device) -> pd.DataFrame:
    rows = []
    for side in study.sides:
        volts = torch.rand(20, side, generator=runtime.stream(0, "volts", side), dtype=torch.float64).to(device)
        for kind, number, ohm in itertools.product(KINDS, range(study.arrays), study.resistances):
            g = _array(kind, side, number).to(device)
            exact = circuit.effective_conductance(g, ohm, ohm)
            guess = circuit.approximate_conductance(g, ohm, ohm)
            current = volts @ exact
            error = 100 * float((volts @ guess - current).abs().max() / current.max())
            row = {"kind": kind, "side": side, "ohm": ohm, "array": number}
            rows.append({**row, "loss": _lost(g, exact), "error": error})
    return pd.DataFrame(rows)


def _tiles(study: Operator, device: torch.device) -> pd.DataFrame:
    side = study.sides[-1]
    tiles = sorted({*(2**power for power in range(3, 9) if 2**power < side), side})
    rows = []
    for number in range(study.arrays):
        g = _array("uniform", side, number).to(device)
        for tile in tiles:
            seen = circuit.tiled_conductance(g, REALISTIC, REALISTIC, (tile, tile))
            rows.append({"side": side, "tile": tile, "array": number, "loss": _lost(g, seen)})
    return pd.DataFrame(rows)


def exponents(loss: pd.DataFrame, ohm: float) -> np.ndarray:
    """By which power of the side the loss of uniform arrays grows at ``ohm``: slopes through the logarithms."""
    here = loss[(loss.ohm == ohm) & (loss.kind == "uniform")]
    if here.side.nunique() < 2:
        return np.array([])
    return np.array([np.polyfit(np.log(one.side), np.log(one.loss), 1)[0] for _, one in here.groupby("array")])


# ------------------------------------------------------------------------------------------------ kinds of layers


def _kinds() -> dict[str, tuple[nn.Module, Tensor]]:
    """A layer of each kind with inputs; weights as large as a trained layer's usually are."""
    made = {
        "linear": (nn.Linear(64, 32), (32, 64)),
        "convolution, stride 2": (nn.Conv2d(8, 16, 3, stride=2, padding=1), (32, 8, 8, 8)),
        "convolution, 4 groups": (nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4), (32, 8, 8, 8)),
    }
    found = {}
    for name, (layer, shape) in made.items():
        source = runtime.stream(0, "layer", name)
        for value in layer.requires_grad_(False).parameters():
            value.copy_(torch.randn(value.shape, generator=source) / math.sqrt(value[0].numel()))
        found[name] = nn.Sequential(layer), torch.rand(shape, generator=source)
    return found


@contextlib.contextmanager
def _through(model: nn.Module, product: object):
    undo = divert(mappable(model), lambda: product)
    try:
        yield
    finally:
        undo()


def same_when_off(model: nn.Module, x: Tensor, physics: Perturbation) -> bool:
    """Is every bit of the output the same at "off": put on a chip, and through every step of the arithmetic as well?"""
    plain = model(x)
    with on_chip(model, physics, physics.off):
        placed = model(x)
    with _through(model, ideal):
        rows = model(x)
    with _through(model, OnChip(physics, physics.off, "autograd", runtime.stream(0, "off")).product):
        stepped = model(x)
    return torch.equal(plain, placed) and torch.equal(rows, stepped)


def _layers() -> pd.DataFrame:
    rows = []
    for name, physics in PERTURBATIONS.items():
        severity = physics.grid[min(2, len(physics.grid) - 1)]
        for kind, (model, x) in _kinds().items():
            plain = model(x)
            with on_chip(model, physics, severity, generator=runtime.stream(0, "layers", name)):
                change = (model(x) - plain).norm() / plain.norm()
            rows.append(
                {
                    "perturbation": name,
                    "severity": severity,
                    "unit": physics.unit,
                    "layer": kind,
                    "change": float(change),
                    "same_when_off": same_when_off(model, x, physics),
                }
            )
    return pd.DataFrame(rows)


# --------------------------------------------------------------------------------------------------- whole chips


CHIPS = {
    "phase-change": ("pcm", {}),
    "phase-change, compensated": ("pcm", {"compensation": "global"}),
    "resistive": ("rram", {}),
    "ideal": ("ideal", {}),
}


def _chips(study: Operator, device: torch.device) -> pd.DataFrame:
    trainer, seeds = Trainer.named("mlp"), range(study.seeds)
    start = trainer.fork(seeds, study.steps, device)
    clean = trainer.accuracy(start)
    rows = []
    for name, (kind, options) in CHIPS.items():
        physics = devices.make(kind, **options)
        timed = kind == "pcm"
        severities = study.times if timed else (physics.grid[0],)
        seen = trainer.accuracy_on_chips(tiled(start, len(severities)), physics, severities, seeds, study.chips)
        for (at, severity), seed in ((pair, seed) for pair in enumerate(severities) for seed in seeds):
            here = 100 * seen[at * study.seeds + seed].double().numpy()
            rows.append(
                {
                    "chip": name,
                    # What does not change with time has none.
                    "seconds": severity if timed else 0.0,
                    "seed": seed,
                    "clean": 100 * float(clean[seed]),
                    "accuracy": here.mean(),
                    "low": np.percentile(here, 5),
                }
            )
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------------------- findings


def _lost_points(chips: pd.DataFrame, name: str, seconds: float) -> np.ndarray:
    here = chips[(chips.chip == name) & (chips.seconds == seconds)]
    return (here.clean - here.accuracy).to_numpy()


def findings(tables: dict[str, pd.DataFrame]) -> Findings:
    """The claims of the page. Criteria are fixed here, before any number is known."""
    loss, tiles, layers, chips = (tables[name] for name in ("loss", "tiles", "layers", "chips"))
    found = Findings()
    for ohm, words in ((loss.ohm.min(), "where it is small"), (REALISTIC, f"at {REALISTIC:g} Ω per segment")):
        found.append(_square(loss, ohm, words))
    here = loss[(loss.side == ARRAY) & (loss.ohm <= REALISTIC)].groupby(["kind", "array"]).error.max()
    where = f"on {ARRAY} × {ARRAY} up to {REALISTIC:g} Ω"
    claim = f"The fast estimate stays within {CLOSE:g} % of the largest current {where}"
    found.append(judge(claim, here.to_numpy(), "<", CLOSE, unit="%", name="mean of the arrays' largest errors"))
    by_tile = tiles.pivot_table(index="array", columns="tile", values="loss")
    shares = (by_tile[TILE] / by_tile[by_tile.columns.max()]).to_numpy() if TILE in by_tile else np.array([])
    claim = f"Tiles of {TILE} lines leave less than {100 * LEFT:g} % of the loss of the largest array"
    found.append(judge(claim, shares, "<", LEFT, name="share of the loss"))
    changed = float((~layers.same_when_off).sum())
    claim = "Off leaves every bit as it was, for every class on every kind of layer"
    found.append(judge_value(claim, changed, (changed, changed), "<=", 0, name="layers that differ"))
    smallest = float(layers.change.min())
    claim = "No class passes a kind of layer by"
    found.append(judge_value(claim, smallest, (smallest, smallest), ">", APPLIED, name="smallest relative change"))
    first, last = chips.seconds[chips.seconds > 0].min(), chips.seconds.max()
    plain, repaired = (_lost_points(chips, name, last) for name in ("phase-change", "phase-change, compensated"))
    claim = f"Right after programming a phase-change chip costs an unaware network less than {NO_LOSS:g} point"
    at_first = _lost_points(chips, "phase-change", first)
    found.append(judge(claim, at_first, "<", NO_LOSS, unit="points", name="mean loss"))
    claim = f"At the last time looked at it costs at least {CLEAR_LOSS:g} points"
    found.append(judge(claim, plain, ">=", CLEAR_LOSS, unit="points", name="mean loss"))
    claim = "One factor per layer wins back at least half of that"
    found.append(judge(claim, plain / 2 - repaired, ">=", 0, unit="points", name="won back minus half of the loss"))
    return found


def _square(loss: pd.DataFrame, ohm: float, words: str) -> Finding:
    away = np.abs(exponents(loss, ohm) - 2)
    return judge(
        f"The loss in the wires grows with the square of the side, {words}", away, "<", SQUARE, name="|exponent − 2|"
    )


# ----------------------------------------------------------------------------------------------------------- looking


@dataclass(frozen=True)
class View:
    """One array in operation: ``volts`` [m] drive it, the rest is as in :class:`~lib.hardware.circuit.Nodes`.

    ``meant`` and ``seen`` [m, n] are what was to be multiplied by and what the circuit multiplies by, in ``unit``;
    ``ideal`` [n] are the outputs of wires without resistance, in microampere.
    """

    volts: np.ndarray
    g: np.ndarray
    word: np.ndarray
    bit: np.ndarray
    current: np.ndarray
    output: np.ndarray
    ideal: np.ndarray
    meant: np.ndarray
    seen: np.ndarray
    unit: str
    r_word: float
    r_bit: float

    @property
    def cell_loss(self) -> np.ndarray:
        """The share of its ideal current that each cell loses [m, n]; NaN where it is not driven."""
        due = self.g * self.volts[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(due > 0, 1 - self.current / due, np.nan)

    @property
    def total_loss(self) -> float:
        """The share of the whole ideal current that is lost."""
        return float(1 - self.output.sum() / self.ideal.sum())


def view(g: Tensor, volts: Tensor, r_word: float, r_bit: float, meant: Tensor, seen: Tensor, unit: str) -> View:
    """The array ``g`` [m, n] driven by ``volts`` [m]."""
    nodes = circuit.node_voltages(g, r_word, r_bit, volts)
    tensors = (volts, g, *nodes, volts.to(g) @ g, meant, seen)
    arrays = [value.detach().cpu().double().numpy() for value in tensors]
    return View(*arrays, unit, float(r_word), float(r_bit))


@cache
def _network(steps: int) -> tuple[Trainer, dict[str, Tensor]]:
    trainer = Trainer.named("mlp")
    start = trainer.fork([0], steps, torch.device("cpu"))
    return trainer, {name: value[0].detach() for name, value in start.items()}


def model(study: Operator) -> tuple[nn.Module, Tensor, Tensor]:
    """The trained perceptron as an ordinary module, with test images and labels."""
    trainer, params = _network(study.steps)
    linear = [value for name, value in params.items() if name.endswith("weight")]
    layers: list[nn.Module] = [nn.Flatten()]
    for weight in linear:
        layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
    made = nn.Sequential(*layers[:-1]).requires_grad_(False)
    made.load_state_dict(params)
    return made, trainer.data.test_x, trainer.data.test_y


def first_layer(study: Operator) -> tuple[np.ndarray, np.ndarray]:
    """The first layer's weight [in, out] and its pair of arrays [2, in, out] in microsiemens."""
    pair = to_pair(_network(study.steps)[1]["1.weight"])
    return pair.weight.mT.numpy(), pair.g.mT.numpy()


def look(study: Operator, r_word: float, r_bit: float, digit: int = 3) -> View:
    """The positive array of the first layer with the first test image of ``digit`` at its word lines."""
    trainer, params = _network(study.steps)
    pair = to_pair(params["1.weight"])
    place = int((trainer.data.test_y == digit).nonzero()[0, 0])
    volts = VOLTS * trainer.data.test_x[place].flatten()
    conducted = circuit.effective_conductance(pair.g.mT, r_word, r_bit).mT
    return view(pair.g[0].mT, volts, r_word, r_bit, pair.weight.mT, seen_weight(pair, conducted).mT, "weight")


def own(r_word: float, r_bit: float, side: int = 32, pattern: str = "uniform") -> View:
    """An array of the reader's choice, every word line driven alike."""
    checks.choice("pattern", pattern, PATTERNS)
    checks.integer("side", side, 2, 256)
    for name, value in (("r_word", r_word), ("r_bit", r_bit)):
        checks.number(name, value, low=0, high=1e4)
    g = torch.full((side, side), WINDOW.high, dtype=torch.float64)
    if pattern in KINDS:
        g = _array(pattern, side, 0)
    elif pattern.startswith("one strong"):
        strong = torch.zeros(side, side, dtype=torch.bool)
        strong[(side // 2,) if pattern.endswith("row") else (slice(None), side // 2)] = True
        g = torch.where(strong, g, WINDOW.high / 10)
    volts = torch.full((side,), VOLTS, dtype=torch.float64)
    return view(g, volts, r_word, r_bit, g, circuit.effective_conductance(g, r_word, r_bit), "µS")


# --------------------------------------------------------------------------------------------------- tables and prose


def layer_table(result: Result) -> pd.DataFrame:
    """Relative change of the output in per cent: a row for each class, a column for each kind of layer."""
    table = result.tables["layers"]
    named = table.assign(
        severity=[
            duration(row.severity) if row.unit == "s" else f"{row.severity:g} {row.unit}" for row in table.itertuples()
        ],
        perturbation=[PERTURBATIONS[name].title for name in table.perturbation],
        change=(100 * table.change).round(1),
    )
    return named.pivot_table(index=["perturbation", "severity"], columns="layer", values="change", sort=False)


def estimate_table(result: Result) -> pd.DataFrame:
    """Largest error of the fast estimate in per cent of the largest current, mean over arrays."""
    table = result.tables["loss"].pivot_table(index=["kind", "side"], columns="ohm", values="error", sort=False)
    return table.map(lambda value: f"{value:.1g}").rename_axis(columns="Ω per segment", index=["kind", "lines"])


def where_lost(seen: View) -> str:
    """Where the signal of a view goes, in a sentence with the measured numbers (Markdown)."""
    lost = seen.cell_loss
    dark = seen.volts == 0
    back = -seen.current[dark].sum()
    m, n = lost.shape
    driven = np.flatnonzero(~dark)
    near, far = lost[driven[-1], 0], lost[driven[0], n - 1]
    return (
        f"With {seen.r_word:g} Ω per segment the array delivers {100 * (1 - seen.total_loss):.1f} % of the current "
        f"that it owes. The cell nearest to its source and its sense node loses {100 * near:.1f} %, the one "
        f"furthest from both {100 * far:.1f} %. {int(dark.sum())} of {m} word lines carry no input; through their "
        f"cells {back:.2g} µA run backwards, from the bit lines, which are no longer at 0 V, into word lines that are."
    )


def of_wires(result: Result) -> str:
    """What wires cost over side and resistance (Markdown)."""
    loss, tiles = result.tables["loss"], result.tables["tiles"]
    ohm = REALISTIC if REALISTIC in set(loss.ohm) else loss.ohm.min()
    means = loss[(loss.ohm == ohm) & (loss.kind == "uniform")].groupby("side").loss.mean()
    steps = ", ".join(f"{value:.2g} % at {side} lines" for side, value in means.items())
    powers = "; ".join(
        f"{exponents(loss, one).mean():.2f} at {one:g} Ω" for one in sorted(set(loss.ohm)) if len(means) > 1
    )
    by_tile = tiles.groupby("tile").loss.mean()
    cut = ", ".join(f"{value:.2g} % in tiles of {tile}" for tile, value in by_tile.items())
    return (
        f"At {ohm:g} Ω per segment an array of uniform random conductances loses {steps}. The power of the side "
        f"by which the loss grows: {powers}. Cut into smaller arrays, {int(tiles.side.iloc[0])} lines "
        f"lose {cut} (at {REALISTIC:g} Ω)."
    )


def over_time(result: Result) -> str:
    """What calibrated chips cost an unaware network (Markdown)."""
    table = result.tables["chips"]
    means = table.groupby(["chip", "seconds"], sort=False)[["accuracy", "low"]].mean()
    clean = table.groupby("seed").clean.first().mean()
    first, last = table.seconds[table.seconds > 0].min(), table.seconds.max()
    raw, repaired = means.loc["phase-change"].accuracy, means.loc["phase-change, compensated"].accuracy
    resistive = means.loc["resistive"].iloc[0]
    return (
        f"The plain network is right on {clean:.1f} % of the test images. On phase-change chips it is right on "
        f"{raw[first]:.1f} % after {duration(first)} and on {raw[last]:.1f} % after {duration(last)}; with one factor "
        f"per layer behind the array, on {repaired[last]:.1f} %. On resistive chips it is right on "
        f"{resistive.accuracy:.1f} % (5th percentile of chips {resistive.low:.1f} %)."
    )
