"""What hardware does to a model of your own and to its gradient, from a few dozen gradients at the point given.

Everything is measured where the weights stand. The batches stay the same throughout, so that nothing but the hardware
differs between sampled gradients; these are taken with respect to the weights in the arrays.
"""

from __future__ import annotations

import contextlib
import functools
import math
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib import checks, gradients, runtime
from lib.diagnose._shared import FORWARD, cost, one_number, signal
from lib.diagnose.report import Advice, Report
from lib.hardware.crossbars import RULES, OnChip, mappable, on_chip
from lib.hardware.devices import Composite, PhaseChange, make
from lib.hardware.diagnostics import DEAD, STRIDE, STRIDE_ON_STAIRS
from lib.hardware.perturbations import Perturbation
from lib.verdicts import bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Loss = Callable[..., Tensor]

TRAINED = tuple(rule for rule in RULES if rule != "unaware")
"""Backward rules that can be asked for."""
NOISY = 0.1
"""Below this share of signal, by the whole of its interval, a single gradient is called drowned in noise."""
TRUE = 0.5
"""Below this truth a gradient that is not drowned is called misleading: it keeps less than half of what it promises."""
FEWEST = 8
"""So many cases of the evidence must be like the one at hand, or it is not asked."""
ALIKE = 2.0
"""Cases of the evidence are alike whose loss rises by no more than this factor more or less."""
CHIPS = 4
"""On so many chips single layers and parts are judged."""
BUDGET = 0.02
"""The share of the training that a diagnosis may cost."""
STATES = {
    "unchanged": "changes nothing",
    "harmless": "costs nothing that matters",
    "usable": "leaves a usable gradient",
    "drowned": "drowns the gradient in noise",
    "misleading": "makes the gradient misleading",
    "gone": "leaves no gradient",
}
"""What can be said of a severity under a rule."""
MEANING = {
    "rise": "how much higher the loss is than the plain model's, in its own unit",
    "cosine": "between the mean gradient on chips and the plain model's (1: the same way)",
    "truth": "how much the loss of chips not seen falls down the mean gradient, over what the gradient promises",
    "signal": "1 / (1 + variance over squared mean) of one gradient: 1 is no noise, 0 nothing but noise",
    "size": "length of the mean gradient over the plain model's",
    "live": "share of the weights with a gradient, over the plain model's",
    "changed": "by how much the output of a layer changes, at most (0: the setting does nothing)",
    "state": "the verdict of this row",
}
"""What the columns of the table are."""


@dataclass
class _Probe:
    """Losses and gradients of a model on chips: counts what it does, and leaves the model as it found it."""

    model: nn.Module
    loss: Loss
    batches: list[Any]
    whole: bool
    digital: tuple[str, ...]
    layers: dict[str, nn.Module]
    seed: int
    passes: int = 0
    backward: int = 0
    missed: set[str] = field(default_factory=set)
    advance: Callable[[int], None] = field(default=lambda _: None)

    def __post_init__(self) -> None:
        # A weight that two layers share counts for the first of them.
        self.weights: dict[str, list[nn.Parameter]] = {}
        known: set[int] = set()
        for name, layer in self.layers.items():
            own = [one for key, one in layer.named_parameters() if key != "bias" and one.requires_grad]
            fresh = [one for one in own if id(one) not in known]
            known |= {id(one) for one in fresh}
            if fresh:
                self.weights[name] = fresh
        if not self.weights:
            raise checks.ParameterError(
                f"model must have trainable weights in its Linear and Conv2d layers, but none of {len(self.layers)} "
                "requires a gradient."
            )

    @property
    def size(self) -> int:
        """P, the number of weights."""
        return sum(one.numel() for own in self.weights.values() for one in own)

    def value(self, number: int) -> Tensor:
        """The loss of one batch, checked."""
        batch = self.batches[number]
        if self.whole:
            found = self.loss(self.model, batch)
        else:
            inputs, *targets = batch
            found = self.loss(self._outputs(inputs), *targets)
        return one_number(found, f" for batch {number + 1}")

    def _outputs(self, inputs: Any) -> Any:
        if isinstance(inputs, Mapping):
            return self.model(**inputs)
        return self.model(*inputs) if isinstance(inputs, tuple) else self.model(inputs)

    @contextlib.contextmanager
    def chip(
        self,
        hardware: Perturbation | None,
        severity: object,
        rule: str,
        *stream: str | int,
        digital: Sequence[str] = (),
    ) -> Iterator[OnChip]:
        """The model on the chip of this stream; what never ran there is remembered and not warned of each time."""
        source = runtime.stream(self.seed, *stream)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with on_chip(
                self.model, hardware, severity, rule=rule, generator=source, digital=[*self.digital, *digital]
            ) as chip:
                yield chip
        for one in caught:
            text = str(one.message)
            if text.startswith("Never computed on the chip"):
                self.missed |= {name for name in self.weights if name not in chip._used}
            else:
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def losses(self, *chip: Any, digital: Sequence[str] = ()) -> float:
        """The mean loss over the batches, without a gradient."""
        with torch.no_grad(), self.chip(*chip, digital=digital):
            self.passes += len(self.batches)
            return float(np.mean([float(self.value(number)) for number in range(len(self.batches))]))

    def gradient(self, *chip: Any, watch: bool = False) -> tuple[float, dict[str, Tensor], dict[str, Tensor], float]:
        """The mean loss and, layer by layer, its gradient [P] and the largest of any batch [P]; with ``watch`` also how
        far, at most, a product lay from the ideal one.
        """
        every = [one for own in self.weights.values() for one in own]
        total, mean, most = 0.0, dict[str, Tensor](), dict[str, Tensor]()
        with self.chip(*chip) as placed:
            placed.watch, changed = watch, 0.0
            for number in range(len(self.batches)):
                self.backward += 1
                self.advance(1)
                found = self.value(number)
                if not found.requires_grad:
                    raise checks.ParameterError(
                        "loss must depend on the model's weights, but its gradient is cut off (detached, or under "
                        "no_grad)."
                    )
                grads = iter(torch.autograd.grad(found, every, allow_unused=True))
                total += float(found.detach()) / len(self.batches)
                for name, own in self.weights.items():
                    parts = [(next(grads), one) for one in own]
                    flat = torch.cat([(one * 0 if g is None else g).detach().float().flatten() for g, one in parts])
                    mean[name] = mean.get(name, 0) + flat / len(self.batches)
                    most[name] = torch.maximum(most[name], flat.abs()) if name in most else flat.abs()
                changed = max([changed, *placed.changed.values()])
        return total, mean, most, changed

    @contextlib.contextmanager
    def moved(self, direction: Mapping[str, Tensor], step: float) -> Iterator[None]:
        """The model with its weights moved, until the block ends."""
        kept = [(one, one.detach().clone()) for own in self.weights.values() for one in own]
        try:
            with torch.no_grad():
                for name, own in self.weights.items():
                    parts = direction[name].split([one.numel() for one in own])
                    for one, part in zip(own, parts, strict=True):
                        one.add_((step * part).reshape(one.shape).to(one))
            yield
        finally:
            with torch.no_grad():
                for one, value in kept:
                    one.copy_(value)


@contextlib.contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """The model in evaluation, with the modes and buffers that it had when the block ends."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(one, one.detach().clone()) for one in model.buffers()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for one, value in buffers:
                one.copy_(value)


def _gram(rows: Sequence[Tensor]) -> Tensor:
    """Inner products [n, n] of vectors [P], in double precision, a portion of P at a time."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for parts in zip(*(row.split(2**20) for row in rows), strict=True):
        block = torch.stack(parts).double()
        total += (block @ block.T).cpu()
    return total


def _vectors(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors [K, n] and [n] with these inner products: what the statistics of :mod:`lib.gradients` depend on is all
    there, whatever P was. The last is the clean gradient.
    """
    values, axes = torch.linalg.eigh(gram)
    found = axes * values.clamp_min(0).sqrt()
    return found[:-1], found[-1]


def _statistics(gram: Tensor) -> dict[str, float]:
    """The three diagnostics, as far as inner products of gradients tell them."""
    samples, clean = _vectors(gram)
    length = float(gram[-1, -1]) ** 0.5
    if not bool(gram[:-1, :-1].any()):
        nothing = dict.fromkeys(("cosine", "cosine_low", "cosine_high", "signal", "signal_low", "signal_high"), 0.0)
        return {**nothing, "size": 0.0}
    cosine, (low, high) = gradients.expected_cosine(samples, clean)
    share, least, largest = signal(samples)
    norm_sq = gradients.statistics(samples).norm_sq
    return {
        "cosine": cosine,
        "cosine_low": low,
        "cosine_high": high,
        "signal": share,
        "signal_low": least,
        "signal_high": largest,
        "size": math.sqrt(max(norm_sq, 0.0)) / length if length else math.nan,
    }


def _live(most: Mapping[str, Tensor], clean: Mapping[str, Tensor]) -> float:
    """The share of weights that still get a gradient, of those that get one without the hardware."""
    floor = DEAD * max(float(one.max()) for one in clean.values())
    alive = [sum(int((one > floor).sum()) for one in tree.values()) for tree in (most, clean)]
    return alive[0] / alive[1] if alive[1] else math.nan


def diagnose_perturbation(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    perturbation: str | Perturbation,
    severity: Any = None,
    *,
    rules: str | Sequence[str] = "autograd",
    digital: Sequence[str] = (),
    samples: int | None = None,
    limit: int = 1,
    whole: bool = False,
    negligible: float = 0.02,
    steps: int = 0,
    seed: int = 0,
) -> Report:
    """Would training through this hardware work? Measured on ``model`` as it is, without training it.

    ``model`` is any module that :func:`~lib.hardware.crossbars.on_chip` takes, ``perturbation`` a name or an instance
    (of a class of one's own as well), ``severity`` one or several (its ``grid`` without any; of a composed chip a
    vector or mapping each). ``batches`` are pairs (inputs, targets), such as those of a ``DataLoader``; the first
    ``limit`` of them are used, and ``loss(model(inputs), targets)`` gives one number. With ``whole`` it is
    ``loss(model, batch)``, for whatever batches are. The model is looked at in evaluation, and left as it was, bit by
    bit.

    ``samples`` gradients are taken for each severity and each of the backward ``rules``, every one on a chip of its
    own, and as many chips judge them. ``negligible`` is a rise of the loss that does not matter, in the loss's own
    unit. With the ``steps`` that the training would have, the cost is also given as a share of it; without ``samples``
    there are then as many (from 4 to 32, else 16) as keep it below :data:`BUDGET`.

    Columns of ``table``: ``loss`` and ``rise`` over the plain model; ``cosine`` with the clean gradient and ``truth``,
    the slope on chips not seen over the slope promised (consistency); ``signal`` = 1 / (1 + variance over squared
    mean) of one gradient (variance); ``live`` weights and ``size`` of the mean gradient, relative to the plain model
    (sensitivity); ``state``, out of :data:`STATES`. Details: "layers" (each on the chip by itself, at the harshest
    severity), "parts" of a composed chip, and "evidence", what training won back in the book where a cross-entropy
    rose as much.

    Raises :class:`~lib.checks.ParameterError`, before anything is computed where that is possible.

    >>> model, batch = nn.Linear(4, 2), (torch.ones(8, 4), torch.zeros(8, dtype=torch.long))
    >>> report = diagnose_perturbation(model, nn.CrossEntropyLoss(), [batch], "adc", severity=4)
    >>> float(report.table["live"].iloc[0])
    0.0
    """
    began = time.perf_counter()
    hardware = make(perturbation) if isinstance(perturbation, str) else perturbation
    if not isinstance(hardware, Perturbation):
        raise checks.ParameterError(
            f"perturbation must be a name or a Perturbation like make('adc'), but {perturbation!r} was given."
        )
    severities = _severities(hardware, severity)
    asked = checks.choices("rules", rules, TRAINED)
    checks.number("negligible", negligible, low=0)
    checks.integer("steps", steps, 0)
    kept = (digital,) if isinstance(digital, str) else tuple(digital)
    layers = mappable(model, kept)
    device = next(next(iter(layers.values())).parameters()).device
    count = _count(samples, steps, len(asked) * len(severities), len(layers), limit) if hardware.random else 1
    given = _batches(batches, checks.integer("limit", limit, 1), whole, device)
    probe = _Probe(model, loss, given, whole, kept, layers, seed)
    room = 4 * probe.size * (count + 4)
    if room > 0.5 * runtime.memory(device):
        raise checks.ParameterError(
            f"samples must leave room for gradients of {probe.size:,} weights, but {count} would take "
            f"{room / 2**30:.0f} GiB."
        )
    total = len(given) * (1 + len(asked) * len(severities) * count)
    with _still(model), runtime.progress(total, "gradients") as probe.advance:
        clean_loss, clean, clean_most, _ = probe.gradient(None, None, "autograd", "clean")
        rows, by_layer = list[dict[str, Any]](), []
        for rule in asked:
            for one in severities:
                row, own = _measure(probe, hardware, one, rule, count, (clean_loss, clean, clean_most))
                rows.append({"rule": rule, **_named(hardware, one), **row, "state": _state(row, negligible)})
                by_layer.append(own)
        details = {"layers": _alone(probe, hardware, severities[-1], clean_loss, by_layer[-1], count)}
        if isinstance(hardware, Composite) and _composed(hardware):
            details["parts"] = _parts(probe, hardware, severities[-1], clean_loss, count)
    table = pd.DataFrame(rows)
    if _entropy(loss, whole):
        details["evidence"] = pd.DataFrame([{"rule": row["rule"], **_evidence(row, negligible)} for row in rows])
    where = f"{len(layers)} layers with {probe.size:,} weights"
    return Report(
        f"{hardware.title} on {where}",
        _verdict(hardware, table, details.get("evidence")),
        bool((table["state"] != "").all()),
        table,
        details,
        _advice(hardware, table),
        _notes(probe, hardware, table),
        cost(began, probe.backward, probe.passes, steps),
        MEANING,
        lambda: _drawn(table, hardware),
    )


# ------------------------------------------------------------------------------------------------ what is asked
def _severities(hardware: Perturbation, given: Any) -> list[Any]:
    """One severity or several, each checked; a composed chip's is a vector or a mapping."""
    if given is None:
        if not hardware.grid:
            raise checks.ParameterError(f"severity must be given for {hardware.title}, which has no grid of its own.")
        return list(hardware.grid)
    several = isinstance(given, list | tuple | range) or hasattr(given, "tolist")
    if not several or (_composed(hardware) and not isinstance(given[0], list | tuple | Mapping)):
        return [hardware.check(given)]
    if not len(given):
        raise checks.ParameterError("severity must be one or several, but none was given.")
    return [hardware.check(one) for one in given]


def _count(samples: int | None, steps: int, readings: int, layers: int, batches: int) -> int:
    """How many gradients a reading has: as given, or as the budget of a training of so many steps allows."""
    if samples is not None:
        return checks.integer("samples", samples, 4, 10_000)
    if not steps:
        return 16
    left = BUDGET * steps / batches - 1 - layers * CHIPS * FORWARD
    return int(min(max(left / readings / (1 + 2 * FORWARD), 4), 32))


def _composed(hardware: Perturbation) -> bool:
    """Does it have a severity for each of its parts?"""
    return isinstance(hardware, Composite) and not isinstance(hardware, PhaseChange)


def _named(hardware: Perturbation, severity: Any) -> dict[str, float]:
    return {name: value for name, value in hardware.columns(0, severity).items() if name != "chip_index"}


def _batches(batches: Iterable[Any], limit: int, whole: bool, device: torch.device) -> list[Any]:
    """The first batches, on the model's device."""
    if isinstance(batches, Tensor | Mapping) or not isinstance(batches, Iterable):
        raise checks.ParameterError(
            f"batches must be several, such as a DataLoader or [(x, y)], but {type(batches).__name__} was given."
        )
    found = [_moved(batch, device) for batch in islice(batches, limit)]
    if not found:
        raise checks.ParameterError("batches must hold at least one batch, but none was given.")
    for batch in found:
        if not whole and not (isinstance(batch, list | tuple) and len(batch) >= 2):
            raise checks.ParameterError(
                f"batches must hold pairs (inputs, targets), but {type(batch).__name__} was given; with whole=True "
                "loss takes the model and a batch of any kind."
            )
        if any(isinstance(one, Tensor) and not one.numel() for one in _tensors(batch)):
            raise checks.ParameterError("batches must hold examples, but one without any was given.")
    return found


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Mapping):
        return {name: _moved(one, device) for name, one in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_moved(one, device) for one in batch) if not hasattr(batch, "_fields") else batch
    return batch.to(device) if isinstance(batch, Tensor) else batch


def _tensors(batch: Any) -> Iterator[Any]:
    for one in batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else [batch]:
        yield from _tensors(one) if isinstance(one, Mapping | list | tuple) else [one]


# ------------------------------------------------------------------------------------------------ what is measured
def _measure(
    probe: _Probe,
    hardware: Perturbation,
    severity: Any,
    rule: str,
    count: int,
    plain: tuple[float, dict[str, Tensor], dict[str, Tensor]],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """One severity under one rule: the row of the table, and the statistics of every layer's own gradient."""
    clean_loss, clean, clean_most = plain
    losses, drawn, most, changed = [], [], clean_most, 0.0
    for sample in range(count):
        found, own, largest, apart = probe.gradient(hardware, severity, rule, "chip", sample, watch=not sample)
        losses.append(found)
        drawn.append(own)
        if not sample:
            most, changed = largest, apart
    repeated = drawn if count > 1 else drawn * 2
    grams = {name: _gram([*(one[name] for one in repeated), clean[name]]) for name in clean}
    mean = {name: torch.stack([one[name] for one in drawn]).mean(0) for name in clean}
    rises = np.asarray(losses) - clean_loss
    low, high = bootstrap(rises) if count > 1 else (rises[0], rises[0])
    row = {
        "loss": float(np.mean(losses)),
        "rise": float(rises.mean()),
        "rise_low": float(low),
        "rise_high": float(high),
        **_statistics(torch.stack(list(grams.values())).sum(0)),
        "truth": _truth(probe, hardware, severity, mean, count),
        "live": _live(most, clean_most),
        "changed": changed,
    }
    layers = {
        name: {**_statistics(gram), "live": _live({name: most[name]}, {name: clean_most[name]})}
        for name, gram in grams.items()
    }
    return row, layers


def _truth(probe: _Probe, hardware: Perturbation, severity: Any, mean: Mapping[str, Tensor], count: int) -> float:
    """The slope of the loss along the mean gradient on ``count`` chips that it has not seen, over its norm."""
    length = math.sqrt(sum(float(one.double().square().sum()) for one in mean.values()))
    if length == 0:
        return 0.0
    weights = [one for own in probe.weights.values() for one in own]
    size = math.sqrt(sum(float(one.detach().double().square().sum()) for one in weights))
    step = (STRIDE_ON_STAIRS if hardware.ranged else STRIDE) * size
    ends = []
    for sign in (1, -1):
        with probe.moved(mean, sign * step / length):
            losses = [probe.losses(hardware, severity, "autograd", "other chip", chip) for chip in range(count)]
            ends.append(float(np.mean(losses)))
    return (ends[0] - ends[1]) / (2 * step) / length


def _alone(
    probe: _Probe,
    hardware: Perturbation,
    severity: Any,
    clean_loss: float,
    statistics: Mapping[str, Mapping[str, float]],
    count: int,
) -> pd.DataFrame:
    """Every layer: the rise of the loss with that layer alone on the chip, and what its own gradient says."""
    chips = range(min(count, CHIPS))
    rows = []
    for name in probe.layers:
        others = [other for other in probe.layers if other != name]
        if name in probe.missed or not name:
            continue
        rises = [
            probe.losses(hardware, severity, "autograd", "chip", chip, digital=others) - clean_loss for chip in chips
        ]
        low, high = bootstrap(rises) if len(rises) > 1 else (rises[0], rises[0])
        own = {"layer": name, "alone": float(np.mean(rises)), "alone_low": float(low), "alone_high": float(high)}
        rows.append(own | dict(statistics.get(name, {})))
    table = pd.DataFrame(rows)
    return table.sort_values("alone", ascending=False, ignore_index=True) if len(table) else table


def _parts(probe: _Probe, chip: Composite, severity: Any, clean_loss: float, count: int) -> pd.DataFrame:
    """Every part of a composed chip: the rise of the loss with it alone, and how much less it rises without it."""
    chips = range(min(count, CHIPS))

    def rise(vector: Sequence[float]) -> float:
        if tuple(vector) == tuple(chip.off):
            return 0.0
        return (
            float(np.mean([probe.losses(chip, tuple(vector), "autograd", "chip", one) for one in chips])) - clean_loss
        )

    whole, rows = rise(severity), []
    for place, part in enumerate(chip.parts):
        alone = [value if i == place else off for i, (value, off) in enumerate(zip(severity, chip.off, strict=True))]
        without = [off if i == place else value for i, (value, off) in enumerate(zip(severity, chip.off, strict=True))]
        rows.append({"part": part.name, "alone": rise(alone), "saved": whole - rise(without)})
    return pd.DataFrame(rows).sort_values("saved", ascending=False, ignore_index=True)


# ------------------------------------------------------------------------------------------------ what it means
def _state(row: Mapping[str, Any], negligible: float) -> str:
    """Which of :data:`STATES` a row is in; empty where its intervals leave it open."""
    if row["changed"] == 0:
        return "unchanged"
    if row["rise_high"] < negligible:
        return "harmless"
    if row["live"] == 0 or row["size"] == 0:
        return "gone"
    if row["signal_high"] < NOISY:
        return "drowned"
    if row["truth"] < TRUE and row["signal_low"] >= NOISY:
        return "misleading"
    return "usable" if row["truth"] >= TRUE else ""


def _entropy(loss: Any, whole: bool) -> bool:
    """Is the loss a cross-entropy, in which the evidence was measured?"""
    return not whole and (loss is nn.functional.cross_entropy or isinstance(loss, nn.CrossEntropyLoss))


@functools.cache
def _known() -> pd.DataFrame:
    """The cases of the evidence: rule, family, network, rise of the loss in nats, recovery (from 0 to 1)."""
    with (files("lib.diagnose") / "known.csv").open(encoding="utf-8") as table:
        return pd.read_csv(table)


def _evidence(row: Mapping[str, Any], negligible: float) -> dict[str, float]:
    """Of the cases under the same rule whose loss rose as much: how many, in how many families, and what training won
    back of what was lost: their median, and the interval that holds eight of ten of them (all nan: too few).
    """
    cases = _known()
    near = cases[(cases["rule"] == row["rule"]) & cases["rise"].between(row["rise"] / ALIKE, row["rise"] * ALIKE)]
    out = {"rise": float(row["rise"]), "cases": len(near), "families": near["family"].nunique()}
    if len(near) < FEWEST or row["rise"] < negligible:
        return out | dict.fromkeys(("recovery", "recovery_low", "recovery_high"), math.nan)
    low, middle, high = np.quantile(near["recovery"], [0.1, 0.5, 0.9])
    return out | {"recovery": float(middle), "recovery_low": float(low), "recovery_high": float(high)}


def _at(hardware: Perturbation, row: Mapping[str, Any]) -> str:
    values = [float(row[name]) for name in row if str(name).startswith("severity")]
    unit = "" if _composed(hardware) else f" {hardware.unit}"
    return f"{', '.join(f'{value:g}' for value in values)}{unit}".strip()


def _verdict(hardware: Perturbation, table: pd.DataFrame, evidence: pd.DataFrame | None) -> str:
    """One sentence a rule: from which severity on what is the case, and what the evidence says of the harshest."""
    said = []
    for rule, part in table.groupby("rule", sort=False):
        spans = []
        for state, run in groupby(part.to_dict("records"), key=lambda row: row["state"]):
            rows = list(run)
            ends = " to ".join(dict.fromkeys((_at(hardware, rows[0]), _at(hardware, rows[-1]))))
            spans.append(f"at {ends} it {STATES.get(state, 'cannot be told apart from noise with so many samples')}")
        lead = "" if table["rule"].nunique() == 1 else f"{_spelt(str(rule))}: "
        said.append(f"{lead}{hardware.title}: {'; '.join(spans)}.")
        last = part.to_dict("records")[-1]
        if evidence is None or last["state"] in ("unchanged", "harmless", "gone"):
            continue
        known = evidence[evidence["rule"] == rule].to_dict("records")[-1]
        if math.isnan(known["recovery"]):
            said.append("What training would win back the evidence does not say.")
        else:
            middle, low, high = (100 * known[name] for name in ("recovery", "recovery_low", "recovery_high"))
            said.append(
                f"In {known['cases']} cases of the evidence whose loss rose as much, training won back {middle:.0f} % "
                f"of the accuracy in the median, and from {low:.0f} to {high:.0f} % in eight of ten."
            )
    return " ".join(said)


def _spelt(rule: str) -> str:
    return rule.replace("_", " ")


#: What the book found to help against a class, with the finding.
_HELP: dict[str, tuple[Advice, ...]] = {
    "read_noise": (
        Advice("Clip the weights at two standard deviations before you train at all.", "hardware_trial.clipping"),
    ),
    "variability": (
        Advice("Clip the weights at two standard deviations before you train at all.", "hardware_trial.clipping"),
        Advice("Train on the chip itself where you can measure it.", "beyond_training.variability.known"),
    ),
    "drift": (
        Advice(
            "Scale every layer by one factor measured on the chip before you train.", "beyond_training.drift.factor"
        ),
        Advice("Measure batch statistics again on the chip.", "beyond_training.drift.statistics"),
    ),
    "stuck_at": (
        Advice(
            "Remap around known faults: it does as much as training for unknown ones.",
            "beyond_training.stuck_at.remapped",
        ),
    ),
    "ir_drop": (
        Advice("Program the conductances higher, by what the wires will lose.", "beyond_training.ir_drop.predistorted"),
    ),
    "adc": (
        Advice("Give the converter a better range first.", "beyond_training.adc.range"),
        Advice(
            "Train with straight_through, and keep the last layer digital: one without the other does little.",
            "mechanisms.adc.both.mlp",
        ),
    ),
}


def _advice(hardware: Perturbation, table: pd.DataFrame) -> tuple[Advice, ...]:
    states = set(table["state"])
    if states <= {"unchanged"}:
        return (Advice("This setting changes nothing: look for another severity, or another place for the fault."),)
    if states <= {"unchanged", "harmless"}:
        return (Advice("Nothing to train against."),)
    found = []
    parts = hardware.parts if isinstance(hardware, Composite) else (hardware,)
    if len(parts) > 1:
        text = "Mend the part first whose removal saves most: it is not always the one that costs most alone."
        found.append(Advice(text, "composed.removal.autograd"))
    if "gone" in states and len(parts) > 1 and any(part.ranged for part in parts):
        found.append(Advice("One staircase silences the whole chip: let the gradient pass it.", "composed.staircase"))
    for part in parts:
        found += _HELP.get(part.name, ())
    if states & {"usable", "drowned", "misleading", ""}:
        text = "Mend the layer first that costs most alone on the chip: its gradient does not find it."
        found.append(Advice(text, "mechanisms.layers.trial.found"))
        text = "Try more than one learning rate before you give training up: the side depends on it."
        found.append(Advice(text, "hardware_trial.rates"))
    return tuple(dict.fromkeys(found))


def _notes(probe: _Probe, hardware: Perturbation, table: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    quiet = table[(table["state"] == "harmless") & (table["signal"] < 0.5)]
    if len(quiet) and hardware.random:
        notes.append(
            "Where the loss does not rise there is nothing to win back now; if the model is still to be trained, "
            f"training would follow gradients of which {100 * quiet['signal'].min():.0f} % is signal."
        )
    if probe.missed:
        notes.append(f"Never computed on the chip, and so not judged: {', '.join(sorted(probe.missed))}.")
    if not hardware.random:
        notes.append("Nothing is random here: one gradient says all, and intervals have no width.")
    return tuple(notes)


def _drawn(table: pd.DataFrame, hardware: Perturbation) -> Figure:
    """The three diagnostics over the severities, and the rise of the loss above them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for rule, part in table.groupby("rule", sort=False):
        places = np.arange(len(part))
        style = "-" if rule == table["rule"].iloc[0] else "--"
        above.plot(places, part["rise"], style, marker="o", color="#000000", label=_spelt(str(rule)))
        above.fill_between(places, part["rise_low"], part["rise_high"], color="#000000", alpha=0.15, linewidth=0)
        for name, colour, mark in (("cosine", "#0072B2", "o"), ("signal", "#D55E00", "s"), ("live", "#009E73", "^")):
            label = name if style == "-" else None
            below.plot(places, part[name], style, marker=mark, color=colour, label=label)
            if f"{name}_low" in part:
                ends = part[f"{name}_low"], part[f"{name}_high"]
                below.fill_between(places, *ends, color=colour, alpha=0.15, linewidth=0)
    first = table[table["rule"] == table["rule"].iloc[0]].to_dict("records")
    below.set_xticks(range(len(first)), [_at(hardware, row).removesuffix(hardware.unit).strip() for row in first])
    label = hardware.measures if _composed(hardware) else f"{hardware.measures} ({hardware.unit or 'no unit'})"
    below.set_xlabel(textwrap.fill(label, 70))
    above.set_ylabel("rise of the loss")
    below.set_ylabel("relative to the plain model")
    most = table["live"].max() if "live" in table else 1.0
    below.set_ylim(-0.05, max(1.1, 1.1 * most) if math.isfinite(most) else 1.1)
    below.legend(ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    if table["rule"].nunique() > 1:
        above.legend(frameon=False)
    return figure
