"""What helps where training cannot: calibration, architecture and circuit, each without and with training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from lib import checks, results, runtime
from lib.hardware.crossbars import RULES
from lib.hardware.devices import HARDWARE, make
from lib.hardware.mitigation import Redundant, remapped
from lib.hardware.perturbations import PERTURBATIONS
from lib.hardware.perturbations import Perturbation as Physics
from lib.hardware.sweep import Fork, Sweep
from lib.hardware.training import severity_of_replicas, tiled
from lib.verdicts import Findings, judge
from paper.studies.base import Result, duration
from paper.studies.perturbation import (
    CLEAR_DAMAGE,
    COMPENSATED,
    DAMAGE,
    HardwareStudy,
    Perturbation,
    on_known_chips,
    paired,
    plain,
    recovery,
)

#: The kinds of measures, from what costs least in hardware to what costs most.
KINDS = ("training", "calibration", "training per chip", "architecture", "circuit")
#: The network on which batch normalisation is recalibrated.
NORMALISED = "cnn_norm"


@dataclass(frozen=True)
class Measure:
    """Something that is done about a class: ``options`` of it, ``copies`` of every device, or faults ``remapped``.

    ``rule`` trains through it (None: the network is not trained), with ``known`` through the very chip that it will run
    on; ``statistics`` as in :meth:`~lib.hardware.training.Trainer.accuracy_on_chips`, on the normalised network.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rule: str | None = None
    known: bool = False
    copies: int = 1
    remap: bool = False
    statistics: str | None = None

    def physics(self, name: str) -> Physics:
        """The hardware with the measure taken."""
        one = make(name, **self.options)
        return Redundant(one, copies=self.copies) if self.copies > 1 else one


_TRAINING = {
    "vanilla training": Measure("training", rule="autograd"),
    "straight-through training": Measure("training", rule="straight_through"),
}
_KNOWN = {"vanilla training on the chip itself": Measure("training per chip", rule="autograd", known=True)}
_COPIES = {
    "every device three times": Measure("architecture", copies=3),
    "every device three times, trained": Measure("architecture", copies=3, rule="autograd"),
}
_STATISTICS = {"batch statistics of each chip": Measure("calibration", statistics="each chip")}

MEASURES: dict[str, dict[str, Measure]] = {
    "read_noise": {**_TRAINING, **_COPIES},
    "variability": {**_TRAINING, **_KNOWN, **_COPIES},
    "drift": {
        **_TRAINING,
        "one factor per layer": Measure("calibration", {"compensation": "global", "readout": "noisy"}),
        "one factor per layer, trained": Measure(
            "calibration", {"compensation": "global", "readout": "noisy"}, rule="autograd"
        ),
        **_STATISTICS,
        **_KNOWN,
    },
    "stuck_at": {
        **_TRAINING,
        **_KNOWN,
        "lines remapped around the faults": Measure("architecture", remap=True),
        **_COPIES,
    },
    "ir_drop": {
        **_TRAINING,
        "conductances pre-distorted": Measure("calibration", {"predistort": 3}),
        **_STATISTICS,
        "arrays of 16 x 16": Measure("circuit", {"tile": (16, 16)}),
    },
    "adc": {
        **_TRAINING,
        "range that rounds best": Measure("calibration", {"calibration": "best"}),
        "range that rounds best, trained": Measure("calibration", {"calibration": "best"}, rule="straight_through"),
        "range learned in training": Measure("calibration", {"calibration": "learned"}, rule="autograd"),
    },
}


@dataclass(frozen=True, kw_only=True)
class BeyondTraining(HardwareStudy):
    """Measures against the six classes, on ``network`` (batch statistics on the normalised CNN).

    ``perturbations`` is "all" or a list of names; other parameters as in
    :class:`~paper.studies.perturbation.Perturbation`. Every class is measured at every other severity of its grid.
    """

    perturbations: object = "all"

    KEYS = ("perturbation", "measure", "severity")
    TOLERANCES = {"damage": 0.05, "accuracy": 0.05}

    def check(self) -> None:
        super().check()
        chosen = tuple(PERTURBATIONS) if self.perturbations == "all" else self.perturbations
        names = checks.choices("perturbations", chosen, HARDWARE)
        object.__setattr__(self, "perturbations", tuple(name for name in HARDWARE if name in names))
        if self.rules != RULES:
            raise checks.ParameterError(
                f"rules must be left out, as the measures have their own, but {self.rules!r} was given."
            )

    def run(self) -> Result:
        """Tables ``accuracy`` (one row for each class, measure, severity, seed), ``summary`` (seeds joined) and
        ``advice`` (one row for each class and severity).
        """
        store = self.store()
        device = runtime.resolve_device(self.device)
        parts, seconds = [], 0.0
        for name in self.perturbations:
            given = {field.name: getattr(self, field.name) for field in fields(HardwareStudy)}
            study = Perturbation(perturbation=name, **given)
            main = study.run()
            seconds += main.provenance["seconds"]
            forks = {self.network: study.fork(name)}
            for label, measure in MEASURES.get(name, _TRAINING).items():
                network = self.network
                if measure.known:
                    table = trained(on_known_chips(main.tables["accuracy"], main.tables["known"]), name)
                elif measure.rule is not None and not measure.options and measure.copies == 1:
                    table = trained(paired(main.tables["accuracy"]), name, measure.rule)
                else:
                    if measure.statistics is not None:
                        network = NORMALISED
                        normalised = Perturbation(perturbation=name, **{**given, "network": network})
                        forks.setdefault(network, normalised.fork(name))
                    fork = forks[network]
                    key = {**self.key(fork, "studies.beyond_training"), "network": network}
                    key |= {"perturbation": name, "measure": _plain(measure)}
                    run = partial(accuracy, fork, name, measure, self.chips)
                    table = store.get_or_run("beyond_training", key, run, device=device, seeds=self.seeds)
                    if network == self.network:
                        same = trained(paired(main.tables["accuracy"]), name, "autograd")
                        table["unaware"] = same.unaware.to_numpy()
                first = {"perturbation": name, "measure": label, "kind": measure.kind, "network": network}
                parts.append(table.assign(**first))
        joined = pd.concat(parts, ignore_index=True)
        summary = summarise(joined)
        record = results.provenance(device, self.seeds, store.seconds + seconds)
        tables = {"accuracy": joined, "summary": summary, "advice": advice(summary)}
        return Result(tables, findings(joined), record)

    def summary(self, result: Result) -> pd.DataFrame:
        table = result.tables["summary"]
        return table[[*self.KEYS, *self.TOLERANCES]].reset_index(drop=True)

    def answer(self, result: Result) -> str:
        """The page in a few sentences, with its measured numbers (Markdown)."""
        table = result.tables["advice"]
        hurt = table[table.damage >= CLEAR_DAMAGE]
        counts = hurt.advice.value_counts()
        kinds = (*KINDS, "several together", "nothing tried")
        words = [f"{kind} in {counts[kind]}" for kind in kinds if kind in counts]
        return (
            f"Of {len(hurt)} pairs of class and severity that cost at least {100 * CLEAR_DAMAGE:g} points, the first "
            f"measure that gives half of the loss back is {', '.join(words)}."
        )


def _plain(measure: Measure) -> dict[str, Any]:
    return {**vars(measure), "options": dict(measure.options)}


def severities(name: str) -> tuple[float, ...]:
    """Every other severity of the grid of a class."""
    return HARDWARE[name].grid[1::2]


def trained(runs: pd.DataFrame, name: str, rule: str | None = None) -> pd.DataFrame:
    """Paired runs of the page of a class (of one ``rule``), as :func:`accuracy` has them."""
    here = runs[runs.severity.isin(severities(name)) & ((runs.rule == rule) if rule else True)]
    return here[["severity", "seed", "clean", "unaware", "accuracy", "low"]]


def accuracy(fork: Fork, name: str, measure: Measure, chips: int) -> pd.DataFrame:
    """Accuracy of every seed with a measure taken: ``clean``, ``unaware`` (nothing done), ``accuracy`` and ``low``.

    ``unaware`` is measured on the normalised network only; the page of the class has it for the other.
    """
    grid = severities(name)
    trainer, physics = fork.trainer, measure.physics(name)
    judged = partial(trainer.accuracy_on_chips, severities=grid, seeds=fork.seeds, chips=chips, start=fork.start)
    unaware = tiled(fork.clean, len(grid))
    normalised = measure.statistics is not None
    before = judged(unaware, HARDWARE[name]).numpy().mean(1) if normalised else np.nan
    if measure.rule is not None:
        params, _ = Sweep(fork, physics, grid).trained(measure.rule)
        seen = judged(params, physics, statistics="another chip")
    elif measure.remap:
        severity = severity_of_replicas(grid, fork.seeds, fork.device)
        seen = judged(unaware, physics, arrange=remapped(physics, severity))
    else:
        seen = judged(unaware, physics, statistics=measure.statistics or "off chip")
    return pd.DataFrame(
        {
            "severity": np.repeat(grid, len(fork.seeds)),
            "seed": list(fork.seeds) * len(grid),
            "clean": trainer.accuracy(fork.clean).repeat(len(grid)).numpy(),
            "unaware": before,
            "accuracy": seen.numpy().mean(1),
            "low": np.percentile(seen.numpy(), 5, axis=1),
        }
    )


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row per class, severity and measure: seeds joined, with damage and recovery."""
    rows = []
    keys = ["perturbation", "severity", "measure", "kind", "network"]
    for given, group in table.groupby(keys, sort=False):
        damage, gain = group.clean - group.unaware, group.accuracy - group.unaware
        won_back, interval = recovery(damage, gain)
        means = group[["clean", "unaware", "accuracy", "low"]].mean()
        row = dict(zip(keys, given, strict=True)) | means.to_dict() | {"damage": damage.mean(), "recovery": won_back}
        rows.append(row | {"recovery_low": interval[0], "recovery_high": interval[1]})
    return pd.DataFrame(rows)


def advice(summary: pd.DataFrame) -> pd.DataFrame:
    """For each class and severity the best recovery of every kind of measure, alone and together with training, and the
    first kind (:data:`KINDS`) that gives back at least COMPENSATED of the loss.

    Batch statistics are left out: they were measured on another network.
    """
    rows = []
    table = summary[summary.measure != next(iter(_STATISTICS))]
    for (name, severity), group in table.groupby(["perturbation", "severity"], sort=False):
        together = group.measure.str.contains("trained")
        row: dict[str, object] = {"perturbation": name, "severity": severity, "damage": group.damage.iloc[0]}
        for kind in KINDS:
            row[kind] = group[(group.kind == kind) & ~together].recovery.max()
        row["several together"] = group[together].recovery.max()
        enough = [kind for kind in (*KINDS, "several together") if row[kind] >= COMPENSATED]
        row["advice"] = "no damage" if row["damage"] < DAMAGE else next(iter(enough), "nothing tried")
        rows.append(row)
    return pd.DataFrame(rows)


def shown(result: Result) -> pd.DataFrame:
    """The advice for reading: recoveries with two decimals, dashes where nothing was tried."""
    rows = []
    for row in result.tables["advice"].to_dict("records"):
        physics = HARDWARE[row["perturbation"]]
        kinds = {kind: "–" if row[kind] != row[kind] else plain(row[kind]) for kind in (*KINDS, "several together")}
        loss = f"{100 * row['damage'] + 0.0:.0f}"
        number = f"{row['severity']:.3g} {physics.unit}".removesuffix(" of devices")
        where = duration(row["severity"]) if physics.unit == "s" else number
        rows.append({"class": physics.title, "severity": where, "loss": loss, **kinds, "advice": row["advice"]})
    short = {"training per chip": "per chip", "several together": "together"}
    return pd.DataFrame(rows).rename(columns=short).set_index("class")


#: Claim, class, measure, the other measure ("": nothing done), points that it must be ahead.
_CLAIMS = (
    (
        "One factor per layer does more against drift than vanilla training",
        "drift",
        "one factor per layer",
        "vanilla training",
        0,
    ),
    (
        "Programming the conductances higher does more against IR-drop than training, by at least 5 points",
        "ir_drop",
        "conductances pre-distorted",
        "vanilla training",
        5,
    ),
    ("So do small arrays", "ir_drop", "arrays of 16 x 16", "vanilla training", 5),
    (
        "A better range does more against the ADC than straight-through training",
        "adc",
        "range that rounds best",
        "straight-through training",
        0,
    ),
    (
        "Remapping around known faults does as much as training for unknown ones",
        "stuck_at",
        "lines remapped around the faults",
        "vanilla training",
        0,
    ),
    (
        "Three devices for each weight do as much against variability as training",
        "variability",
        "every device three times",
        "vanilla training",
        0,
    ),
    (
        "Training on the chip itself does more against variability than training for any chip, by at least 20 points",
        "variability",
        "vanilla training on the chip itself",
        "vanilla training",
        20,
    ),
    (
        "Both together do more than either, by at least 5 points: variability",
        "variability",
        "every device three times, trained",
        "vanilla training",
        5,
    ),
    (
        "Recalibrated batch statistics save a normalised network from drift: at least 20 points",
        "drift",
        "batch statistics of each chip",
        "",
        20,
    ),
)


def findings(table: pd.DataFrame) -> Findings:
    """What the measures are worth, over all severities of a class. Criteria are fixed here."""
    found = Findings()
    for claim, name, one, other, points in _CLAIMS:
        own = table[table.perturbation == name]
        if not len(own):
            continue
        means = own[own.measure == one].groupby("seed")[["accuracy", "unaware"]].mean()
        rival = means.unaware if not other else own[own.measure == other].groupby("seed").accuracy.mean()
        values = 100 * (means.accuracy - rival).to_numpy()
        found.append(judge(claim, values, ">=", points, unit="points", name="mean difference"))
    return found
