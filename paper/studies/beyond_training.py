"""What helps where training cannot: calibration, architecture and circuit, each without and with training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd

from lib import checks
from lib.hardware.devices import HARDWARE, make
from lib.hardware.mitigation import Redundant, remapped
from lib.hardware.perturbations import Perturbation
from lib.hardware.training import severity_of_replicas, tiled
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings
from paper.criteria import hardware as criteria
from paper.studies.base import Compared
from paper.studies.hardware import Classes, HardwareStudy, Seeds, fork
from paper.studies.parameters import OneOf
from paper.studies.perturbation import PICTURE, Cells, PerturbationStudy, few
from paper.studies.recovery import on_known_chips, paired, recovery, verdict, void
from paper.sweep import Sweep

#: The kinds of measures, from what costs least in hardware to what costs most.
KINDS = ("training", "calibration", "training per chip", "architecture", "circuit")
#: A measure and training at once.
TOGETHER = "several together"
#: The network on which batch normalisation is recalibrated.
NORMALISED = "cnn_norm"


@dataclass(frozen=True)
class Measure:
    """Something that is done about a class: ``options`` of it, ``copies`` of every device, or a ``remap`` of lines.

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

    @property
    def plain(self) -> bool:
        """Is it training and nothing else, which the page of the class has measured?"""
        return self.rule is not None and not self.options and self.copies == 1

    def physics(self, name: str) -> Perturbation:
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

#: What is tried against each class; a class that is not here is trained through, and nothing else.
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


def measures(name: str) -> Mapping[str, Measure]:
    """What is tried against a class, by label."""
    return MEASURES.get(name, {**_TRAINING, **(_KNOWN if make(name).lasting else {})})


class BeyondTraining(HardwareStudy):
    """Measures against the six classes, on ``network`` (batch statistics on the normalised CNN).

    ``perturbations`` is "all" or some names. Every class is measured at every other severity of its grid; trainings
    without a measure are cells of the page of the class, which has run over "few" of the ``severities`` or "all". The
    rest is as in :class:`~paper.studies.hardware.HardwareStudy`.
    """

    perturbations: Classes = ("read_noise", "adc")
    severities: Annotated[str, OneOf(("few", "all"))] = "few"
    seeds: Seeds = 2

    PARTS: ClassVar[tuple[str, ...]] = ("perturbations", "severities")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "accuracy": Compared(("perturbation", "measure", "severity"), {"unaware": PICTURE, "accuracy": PICTURE})
    }

    def check(self) -> None:
        """Refuses ``rules``, of which each measure has its own."""
        if {*self.rules} - {"unaware"} != {*HardwareStudy.model_fields["rules"].default}:
            raise checks.ParameterError(
                f"rules must be left out, as the measures have their own, but {self.rules!r} was given."
            )
        super().check()

    def trainings(self, name: str) -> Cells:
        """The cells of the page of a class."""
        given = {one: getattr(self, one) for one in HardwareStudy.model_fields}
        return PerturbationStudy(perturbation=name, severities=self.severities, closer=("known",), **given).parts()

    def cell(self, name: str, measure: Measure) -> Cell:
        """The runs with a measure taken that is more than training."""
        start = self.start(name, network=NORMALISED if measure.statistics is not None else None)
        severities = list(few(HARDWARE[name].grid))
        config = {
            "start": start,
            "perturbation": name,
            "measure": asdict(measure),
            "severities": severities,
            "chips": self.chips,
        }
        size = len(severities) * self.seeds
        return Cell("measure", config, accuracy, size=size, uses=(measure.physics(name),), site=self.site())

    def cells(self) -> list[Cell]:
        """Training and no training from the pages of the classes, and a cell for every other measure."""
        found: dict[Cell, None] = {}
        for name in self.perturbations:
            trained = self.trainings(name)
            own = [self.cell(name, measure) for measure in measures(name).values() if not measure.plain]
            found |= dict.fromkeys([*trained.accuracy, *trained.known, *own])
        return list(found)

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """Tables ``accuracy`` (one row for each class, measure, severity, seed), ``summary`` (seeds joined) and
        ``advice`` (one row for each class and severity).
        """
        joined = pd.concat([table for name in self.perturbations for table in self._of(name, found)], ignore_index=True)
        summary = summarise(joined)
        return {"accuracy": joined, "summary": summary, "advice": advice(summary)}, Findings.of(claims(joined))

    def _of(self, name: str, found: Mapping[Cell, Tables]) -> Iterator[pd.DataFrame]:
        """The rows of every measure against a class."""
        trained = self.trainings(name)
        runs = pd.concat([found[cell]["accuracy"] for cell in trained.accuracy], ignore_index=True)
        runs = runs[runs.severity.isin(few(HARDWARE[name].grid))]
        pairs = paired(runs)
        for label, measure in measures(name).items():
            first = {"perturbation": name, "measure": label, "kind": measure.kind, "network": self.network}
            if measure.known:
                (known,) = (found[cell]["accuracy"] for cell in trained.known)
                table = on_known_chips(runs, known[known.severity.isin(runs.severity)])
            elif measure.plain:
                table = pairs[pairs.rule == measure.rule]
            else:
                table = found[self.cell(name, measure)]["accuracy"]
                if measure.statistics is None:
                    same = runs[runs.rule == "unaware"].set_index(["severity", "seed"]).accuracy
                    table = table.assign(
                        unaware=same.loc[list(zip(table.severity, table.seed, strict=True))].to_numpy()
                    )
                else:
                    first["network"] = NORMALISED
            yield table[["severity", "seed", "clean", "unaware", "accuracy", "low"]].assign(**first)


# ------------------------------------------------------------------------------------------------- computing


def accuracy(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``accuracy``: a row for every seed with a measure taken, and ``unaware``, with nothing done.

    Where the measure trains, ``diverged_at`` and ``moved`` as in :meth:`~paper.sweep.Sweep.accuracy`. ``unaware`` is
    measured on the normalised network only; the page of the class has it for the other.
    """
    begin, name, grid = fork(config["start"], site), config["perturbation"], config["severities"]
    measure = Measure(**config["measure"])
    trainer, physics = begin.trainer, measure.physics(name)
    judged = partial(
        trainer.accuracy_on_chips, severities=grid, seeds=begin.seeds, chips=config["chips"], start=begin.start
    )
    unaware = tiled(begin.clean, len(grid))
    told: dict[str, np.ndarray] = {}
    before = judged(unaware, make(name)).numpy().mean(1) if measure.statistics is not None else np.nan
    if measure.rule is not None:
        sweep = Sweep(begin, physics, grid)
        params, diverged = sweep.trained(measure.rule)
        told = {"diverged_at": diverged.numpy(), "moved": sweep.moved(params).numpy()}
        seen = judged(params, physics, statistics="another chip")
    elif measure.remap:
        severity = severity_of_replicas(grid, begin.seeds, begin.device)
        seen = judged(unaware, physics, arrange=remapped(physics, severity))
    else:
        seen = judged(unaware, physics, statistics=measure.statistics or "off chip")
    table = pd.DataFrame(
        {
            "severity": np.repeat(grid, len(begin.seeds)),
            "seed": list(begin.seeds) * len(grid),
            "clean": trainer.accuracy(begin.clean).repeat(len(grid)).numpy(),
            "unaware": before,
            "accuracy": seen.numpy().mean(1),
            "low": np.percentile(seen.numpy(), 5, axis=1),
            **told,
        }
    )
    return {"accuracy": table}


# --------------------------------------------------------------------------------------------------- judging


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row per class, severity and measure: seeds joined, with damage, recovery and verdict."""
    rows = []
    keys = ["perturbation", "severity", "measure", "kind", "network"]
    for given, group in table.groupby(keys, sort=False):
        damage, gain = group.clean - group.unaware, group.accuracy - group.unaware
        won_back, interval = recovery(damage, gain)
        means = group[["clean", "unaware", "accuracy", "low"]].mean()
        row = dict(zip(keys, given, strict=True)) | means.to_dict() | {"damage": damage.mean(), "recovery": won_back}
        row |= {"recovery_low": interval[0], "recovery_high": interval[1]}
        rows.append(row | {"verdict": verdict(damage, gain).name})
    return pd.DataFrame(rows)


def advice(summary: pd.DataFrame) -> pd.DataFrame:
    """For each class and severity the best recovery of every kind of measure, alone and together with training, and the
    first kind (:data:`KINDS`) that has a measure which compensates the loss beyond doubt.

    Where none does it is "inconclusive" or "not measured" if one may, "nothing tried" otherwise. Batch statistics are
    left out: they were measured on another network.
    """
    rows = []
    table = summary[summary.measure != next(iter(_STATISTICS))]
    for (name, severity), group in table.groupby(["perturbation", "severity"], sort=False):
        kinds = group.kind.where(~group.measure.str.contains("trained"), TOGETHER)
        row: dict[str, object] = {"perturbation": name, "severity": severity, "damage": group.damage.iloc[0]}
        row |= {kind: group[kinds == kind].recovery.max() for kind in (*KINDS, TOGETHER)}
        enough = [kind for kind in (*KINDS, TOGETHER) if "compensated" in set(group[kinds == kind].verdict)]
        said = set(group.verdict)
        open_ = next((one for one in ("inconclusive", "not measured") if one in said), "nothing tried")
        # All measures are held against the same loss, though some may do harm where there is none.
        row["advice"] = "no damage" if "no damage" in said else next(iter(enough), open_)
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Better:
    """A measure against a class is ahead of another (none: of nothing done) by at least so many points."""

    id: str
    text: str
    perturbation: str
    measure: str
    other: str | None
    ahead: float


_CLAIMS = (
    _Better(
        "drift.factor",
        "One factor per layer does more against drift than vanilla training",
        "drift",
        "one factor per layer",
        "vanilla training",
        criteria.MEASURE_AHEAD,
    ),
    _Better(
        "ir_drop.predistorted",
        "Programming the conductances higher does more against IR-drop than training, by at least "
        f"{criteria.MEASURE_CLEAR:g} points",
        "ir_drop",
        "conductances pre-distorted",
        "vanilla training",
        criteria.MEASURE_CLEAR,
    ),
    _Better(
        "ir_drop.tiles",
        f"Small arrays do more against IR-drop than training, by at least {criteria.MEASURE_CLEAR:g} points",
        "ir_drop",
        "arrays of 16 x 16",
        "vanilla training",
        criteria.MEASURE_CLEAR,
    ),
    _Better(
        "adc.range",
        "A better range does more against the ADC than straight-through training",
        "adc",
        "range that rounds best",
        "straight-through training",
        criteria.MEASURE_AHEAD,
    ),
    _Better(
        "stuck_at.remapped",
        "Remapping around known faults does as much as training for unknown ones",
        "stuck_at",
        "lines remapped around the faults",
        "vanilla training",
        criteria.MEASURE_AHEAD,
    ),
    _Better(
        "variability.copies",
        "Three devices for each weight do as much against variability as training",
        "variability",
        "every device three times",
        "vanilla training",
        criteria.MEASURE_AHEAD,
    ),
    _Better(
        "variability.known",
        "Training on the chip itself does more against variability than training for any chip, by at least "
        f"{criteria.KNOWN_FAR:g} points",
        "variability",
        "vanilla training on the chip itself",
        "vanilla training",
        criteria.KNOWN_FAR,
    ),
    _Better(
        "variability.together",
        "Three devices for each weight and training together do more against variability than training alone, by at "
        f"least {criteria.MEASURE_CLEAR:g} points",
        "variability",
        "every device three times, trained",
        "vanilla training",
        criteria.MEASURE_CLEAR,
    ),
    _Better(
        "drift.statistics",
        f"Recalibrated batch statistics save a normalised network from drift: at least {criteria.MEASURE_FAR:g} points",
        "drift",
        "batch statistics of each chip",
        None,
        criteria.MEASURE_FAR,
    ),
)


def claims(table: pd.DataFrame) -> list[Claim]:
    """What the measures are worth, over all severities of a class."""
    found = []
    for one in _CLAIMS:
        own = table[table.perturbation == one.perturbation]
        if not len(own):
            continue
        means = own[own.measure == one.measure].groupby("seed")[["accuracy", "unaware"]].mean(skipna=False)
        rival = own[own.measure == one.other].groupby("seed").accuracy.mean(skipna=False)
        both = means.accuracy.align(rival if one.other else means.unaware, join="inner")
        samples = 100 * np.subtract(*both).to_numpy()
        lost = (own.clean - own.unaware)[own.measure.isin({one.measure, one.other})].groupby(own.seed).mean()
        more: dict[str, Any] = {"unit": "points", "name": "mean difference", "void": void(lost)}
        found.append(Claim(f"beyond_training.{one.id}", one.text, samples, ">=", one.ahead, "beyond_training", **more))
    return found
