"""From a conductance to a layer: what a crossbar makes of the matrix-vector product that a network asks for."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib import checks, runtime
from lib.hardware import circuit, devices
from lib.hardware.crossbars import OnChip, Product, divert, ideal, mappable, on_chip
from lib.hardware.perturbations import PERTURBATIONS, WINDOW, Perturbation, seen_weight, to_pair
from lib.hardware.training import Trainer, tiled
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings
from paper.agreement import Quantity
from paper.criteria import hardware as criteria
from paper.nodal import node_voltages
from paper.studies.base import Compared, Study, double_precision, joined
from paper.studies.parameters import DRAWS, STEPS, Number, Numbers, Whole
from paper.studies.recovery import void

#: Volts at a word line for the largest input.
VOLTS = 0.2
#: Realistic wires in ohm per segment, the array on which the estimate is judged, and the tiles of a large one.
REALISTIC, ARRAY, TILE = 1.0, 64, 32

KINDS = ("uniform", "sparse")
PATTERNS = (*KINDS, "all on", "one strong row", "one strong column")
#: Which of the two kinds of wires have resistance.
WIRES = {"both": (1.0, 1.0), "word lines": (1.0, 0.0), "bit lines": (0.0, 1.0)}
#: Whole chips: the hardware and its options.
CHIPS: dict[str, tuple[str, dict[str, str]]] = {
    "phase-change": ("pcm", {}),
    "phase-change, compensated": ("pcm", {"compensation": "global"}),
    "resistive": ("rram", {}),
    "ideal": ("ideal", {}),
}

Count = Annotated[int, Whole(1, 1000)]


class Operator(Study):
    """A layer on hardware, looked at from the circuit up to the network::

        sides, resistances    of square arrays, in lines, and of their wires, in ohm per segment
        arrays                random arrays of every kind for each side: conductances "uniform" over the window, or
                              "sparse", one cell in ten fully on and the rest at the lower end
        seeds, steps, chips   networks, their optimiser steps, and unseen chips for each
        times                 seconds after programming at which a phase-change chip is looked at
        ohm                   wires of the array that is drawn

    Tables: ``loss`` (what wires cost, and how far the fast estimate is off), ``tiles``, ``layers`` (every class on
    every kind of layer) and ``chips`` (accuracy over time). An array's seed is its number.
    """

    sides: Annotated[tuple[int, ...], Numbers(2, 512, whole=True, ordered=True)] = (16, 32, 64, 128)
    resistances: Annotated[tuple[float, ...], Numbers(1e-6, 1000, ordered=True)] = (0.1, 0.3, 1.0, 3.0, 10.0)
    arrays: Count = 3
    seeds: Count = 3
    steps: Annotated[int, STEPS] = 200
    chips: Annotated[int, DRAWS] = 5
    times: Annotated[tuple[float, ...], Numbers(ordered=True)] = (20.0, 3600.0, 86400.0, 2.6e6, 3.15e7)
    ohm: Annotated[float, Number(1e-6, 1000)] = 10.0

    SIZES: ClassVar[tuple[str, ...]] = ("arrays", "seeds", "chips")
    PARTS: ClassVar[tuple[str, ...]] = ("sides", "resistances", "times")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "loss": Compared(("kind", "side", "ohm"), {"loss": Quantity(scale="log"), "error": Quantity(scale="log")}),
        "tiles": Compared(("side", "tile"), {"loss": Quantity(scale="log")}),
        # A test picture in per cent.
        "chips": Compared(("chip", "seconds"), {"accuracy": 0.2, "clean": 0.2}),
    }

    def check(self) -> None:
        for time in self.times:
            devices.make("pcm").check(time, "times")
        double_precision(self.device)

    def cells(self) -> list[Cell]:
        """Arrays of every side, the largest in tiles, every class on every kind of layer, and networks on chips."""
        arrays = {"arrays": list(range(self.arrays)), "window": [WINDOW.low, WINDOW.high]}
        wires = {**arrays, "resistances": list(self.resistances)}
        largest = self.sides[-1]
        tiles = sorted({*(2**power for power in range(3, 9) if 2**power < largest), largest})
        found = [Cell("operator_wires", {**wires, "side": side}, wires_of) for side in self.sides]
        found.append(Cell("operator_tiles", {**arrays, "side": largest, "tiles": tiles, "ohm": REALISTIC}, tiles_of))
        found += [
            Cell("operator_layers", {"perturbation": name, "severity": physics.grid[2]}, layers_of, uses=(physics,))
            for name, physics in PERTURBATIONS.items()
        ]
        made = {name: devices.make(kind, **options) for name, (kind, options) in CHIPS.items()}
        # What does not change with time has none.
        severities = {name: [*self.times] if one.unit == "s" else [one.grid[0]] for name, one in made.items()}
        chips = [[name, kind, options, severities[name]] for name, (kind, options) in CHIPS.items()]
        given = {"seeds": list(range(self.seeds)), "steps": self.steps, "number": self.chips, "chips": chips}
        return [*found, Cell("operator_chips", given, chips_of, uses=tuple(made.values()))]

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        whole = joined(found)
        return whole, findings(whole)


# ---------------------------------------------------------------------------------------------- wires and tiles


def _array(kind: str, side: int, number: int) -> Tensor:
    """A random array [side, side] in microsiemens."""
    drawn = torch.rand(side, side, generator=runtime.stream(number, kind, side), dtype=torch.float64)
    share = drawn if kind == "uniform" else (drawn < 0.1).double()
    return WINDOW.low + (WINDOW.high - WINDOW.low) * share


def _lost(g: Tensor, seen: Tensor) -> float:
    """Per cent of the current that is lost when every input is driven alike."""
    return 100 * float(1 - seen.sum() / g.sum())


def wires_of(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``loss``: what wires cost the arrays of one side, and how far the estimate is off, both in per cent."""
    side, device, rows = config["side"], site["device"], []
    volts = torch.rand(20, side, generator=runtime.stream(0, "volts", side), dtype=torch.float64).to(device)
    for kind, number, ohm in itertools.product(KINDS, config["arrays"], config["resistances"]):
        g = _array(kind, side, number).to(device)
        exact = circuit.effective_conductance(g, ohm, ohm)
        guess = circuit.approximate_conductance(g, ohm, ohm)
        current = volts @ exact
        error = 100 * float((volts @ guess - current).abs().max() / current.max())
        row = {"kind": kind, "side": side, "ohm": ohm, "seed": number}
        rows.append({**row, "loss": _lost(g, exact), "error": error})
    return {"loss": pd.DataFrame(rows)}


def tiles_of(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``tiles``: what is lost when uniform arrays are cut into smaller ones, in per cent."""
    side, ohm, rows = config["side"], config["ohm"], []
    for number in config["arrays"]:
        g = _array("uniform", side, number).to(site["device"])
        for tile in config["tiles"]:
            seen = circuit.tiled_conductance(g, ohm, ohm, (tile, tile))
            rows.append({"side": side, "tile": tile, "seed": number, "loss": _lost(g, seen)})
    return {"tiles": pd.DataFrame(rows)}


def exponents(loss: pd.DataFrame, ohm: float) -> np.ndarray:
    """By which power of the side the loss of uniform arrays grows at ``ohm``: slopes through the logarithms."""
    here = loss[(loss.ohm == ohm) & (loss.kind == "uniform")]
    if here.side.nunique() < 2:
        return np.array([])
    return np.array([np.polyfit(np.log(one.side), np.log(one.loss), 1)[0] for _, one in here.groupby("seed")])


# ------------------------------------------------------------------------------------------------ kinds of layers


def _kinds() -> dict[str, tuple[nn.Module, Tensor]]:
    """A layer of each kind with inputs; weights as large as a trained layer's usually are."""
    made = {
        "linear": (nn.Linear(64, 32), (32, 64)),
        "convolution, stride 2": (nn.Conv2d(8, 16, 3, stride=2, padding=1), (32, 8, 8, 8)),
        "convolution, 4 groups": (nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4), (32, 8, 8, 8)),
    }
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    for name, (layer, shape) in made.items():
        source = runtime.stream(0, "layer", name)
        for value in layer.requires_grad_(False).parameters():
            value.copy_(torch.randn(value.shape, generator=source) / math.sqrt(value[0].numel()))
        found[name] = nn.Sequential(layer), torch.rand(shape, generator=source)
    return found


@contextlib.contextmanager
def _through(model: nn.Module, product: Product) -> Iterator[None]:
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


def layers_of(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``layers``: what one class changes in the output of every kind of layer, and whether "off" is off."""
    name, severity = config["perturbation"], config["severity"]
    physics, rows = devices.make(name), []
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
    return {"layers": pd.DataFrame(rows)}


# --------------------------------------------------------------------------------------------------- whole chips


def chips_of(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``chips``: accuracy of unaware networks on unseen chips of several kinds, in per cent."""
    trainer, seeds, rows = Trainer.named("mlp"), config["seeds"], []
    start = trainer.fork(seeds, config["steps"], torch.device(site["device"]))
    clean = trainer.accuracy(start)
    for name, kind, options, severities in config["chips"]:
        physics = devices.make(kind, **options)
        on_chips = trainer.accuracy_on_chips(
            tiled(start, len(severities)), physics, severities, seeds, config["number"]
        )
        seen = 100 * on_chips.double().numpy()
        for (at, severity), (place, seed) in itertools.product(enumerate(severities), enumerate(seeds)):
            here = seen[at * len(seeds) + place]
            rows.append(
                {
                    "chip": name,
                    "seconds": severity if physics.unit == "s" else 0.0,
                    "seed": seed,
                    "clean": 100 * float(clean[place]),
                    "accuracy": here.mean(),
                    "low": np.percentile(here, 5),
                }
            )
    return {"chips": pd.DataFrame(rows)}


# -------------------------------------------------------------------------------------------------------- findings


def findings(tables: Mapping[str, pd.DataFrame]) -> Findings:
    """The claims of the page."""
    return Findings.of([*_of_wires(tables["loss"], tables["tiles"]), *_of_layers(tables["layers"]), *_of_chips(tables)])


def _of_wires(loss: pd.DataFrame, tiles: pd.DataFrame) -> Iterator[Claim]:
    square = "The loss in the wires grows with the square of the side"
    for name, ohm, words in (
        ("small", loss.ohm.min(), "where it is small"),
        ("realistic", REALISTIC, f"at {REALISTIC:g} Ω per segment"),
    ):
        away = np.abs(exponents(loss, ohm) - 2)
        own = f"operator.square.{name}"
        yield Claim(own, f"{square}, {words}", away, "<", criteria.SQUARE, "operator wires", name="|exponent − 2|")
    here = loss[(loss.side == ARRAY) & (loss.ohm <= REALISTIC)].groupby(["kind", "seed"]).error.max(skipna=False)
    yield Claim(
        "operator.estimate",
        f"The fast estimate stays within {criteria.ESTIMATE_CLOSE:g} % of the largest current "
        f"on {ARRAY} × {ARRAY} up to {REALISTIC:g} Ω",
        here.to_numpy(),
        "<",
        criteria.ESTIMATE_CLOSE,
        "operator wires",
        unit="%",
        name="mean of the arrays' largest errors",
    )
    by_tile = tiles.pivot_table(index="seed", columns="tile", values="loss")
    shares = (by_tile[TILE] / by_tile[by_tile.columns.max()]).to_numpy() if TILE in by_tile else np.array([])
    share = f"{100 * criteria.TILES_LEAVE:g} %"
    claim = f"Tiles of {TILE} lines leave less than {share} of the loss of the largest array"
    limit = criteria.TILES_LEAVE
    yield Claim("operator.tiles", claim, shares, "<", limit, "operator wires", name="share of the loss")


def _of_layers(layers: pd.DataFrame) -> Iterator[Claim]:
    changed, smallest = float((~layers.same_when_off).sum()), float(np.min(layers.change.to_numpy()))
    yield Claim(
        "operator.off",
        "Switched off, every class leaves every bit as it was, on every kind of layer",
        [],
        "<=",
        0,
        "operator layers",
        name="layers that differ",
        measured=(changed, (changed, changed)),
    )
    yield Claim(
        "operator.applied",
        "Every class changes the output of every kind of layer",
        [],
        ">",
        criteria.APPLIED,
        "operator layers",
        name="smallest relative change",
        measured=(smallest, (smallest, smallest)),
    )


def _of_chips(tables: Mapping[str, pd.DataFrame]) -> Iterator[Claim]:
    chips = tables["chips"]
    first, last = chips.seconds[chips.seconds > 0].min(), chips.seconds.max()

    def lost(name: str, seconds: float) -> np.ndarray:
        here = chips[(chips.chip == name) & (chips.seconds == seconds)]
        return (here.clean - here.accuracy).to_numpy()

    family, clear = "operator chips", criteria.CHIP_CLEAR_LOSS
    yield Claim(
        "operator.chip.first",
        "Right after programming a phase-change chip costs an unaware network less than "
        f"{criteria.CHIP_NO_LOSS:g} point",
        lost("phase-change", first),
        "<",
        criteria.CHIP_NO_LOSS,
        family,
        unit="points",
        name="mean loss",
    )
    plain, repaired = lost("phase-change", last), lost("phase-change, compensated", last)
    claim = f"At the last time looked at a phase-change chip costs an unaware network at least {clear:g} points"
    yield Claim("operator.chip.last", claim, plain, ">=", clear, family, unit="points", name="mean loss")
    claim = "One factor per layer wins back at least half of what a phase-change chip costs at the last time looked at"
    won = plain / 2 - repaired
    name = "won back minus half of the loss"
    more: dict[str, Any] = {"unit": "points", "name": name, "void": void(plain / 100)}
    yield Claim("operator.chip.compensated", claim, won, ">=", 0, family, **more)


# ----------------------------------------------------------------------------------------------------------- looking


@dataclass(frozen=True)
class View:
    """One array in operation: ``volts`` [m] drive it, the rest is as in :class:`~paper.nodal.Nodes`.

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
    nodes = node_voltages(g, r_word, r_bit, volts)
    tensors = (volts, g, *nodes, volts.to(g) @ g, meant, seen)
    arrays: list[Any] = [value.detach().cpu().double().numpy() for value in tensors]
    return View(*[*arrays, unit, float(r_word), float(r_bit)])


@cache
def _network(steps: int) -> tuple[Trainer, dict[str, Tensor]]:
    trainer = Trainer.named("mlp")
    start = trainer.fork([0], steps, torch.device("cpu"))
    return trainer, {name: value[0].detach() for name, value in start.items()}


def network_of(study: Operator) -> tuple[nn.Module, Tensor, Tensor]:
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


def allowed(r_word: float, r_bit: float, side: int = 32, pattern: str = "uniform") -> None:
    """Refuses an array that :func:`own` cannot solve."""
    checks.choice("pattern", pattern, PATTERNS)
    checks.integer("side", side, 2, 256)
    for name, value in (("r_word", r_word), ("r_bit", r_bit)):
        checks.number(name, value, low=0, high=1e4)


def own(r_word: float, r_bit: float, side: int = 32, pattern: str = "uniform") -> View:
    """An array of the reader's choice, every word line driven alike."""
    allowed(r_word, r_bit, side, pattern)
    g = torch.full((side, side), WINDOW.high, dtype=torch.float64)
    if pattern in KINDS:
        g = _array(pattern, side, 0)
    elif pattern.startswith("one strong"):
        strong = torch.zeros(side, side, dtype=torch.bool)
        strong[(side // 2,) if pattern.endswith("row") else (slice(None), side // 2)] = True
        g = torch.where(strong, g, WINDOW.high / 10)
    volts = torch.full((side,), VOLTS, dtype=torch.float64)
    return view(g, volts, r_word, r_bit, g, circuit.effective_conductance(g, r_word, r_bit), "µS")
