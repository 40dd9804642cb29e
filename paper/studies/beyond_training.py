"""What helps where training cannot: calibration, architecture and circuit, each without and with training, what each
costs, and how many chips are good enough with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd

from lib import checks
from lib.hardware.crossbars import Shape
from lib.hardware.devices import HARDWARE, make
from lib.hardware.mitigation import Redundant, remapped
from lib.hardware.networks import network
from lib.hardware.perturbations import Perturbation
from lib.hardware.training import CALIBRATION, severity_of_replicas, tiled
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings, Outcome, exact_interval, judge
from paper import published
from paper.criteria import hardware as criteria
from paper.studies.base import Compared
from paper.studies.hardware import Classes, Count, HardwareStudy, Seeds, fork
from paper.studies.parameters import OneOf
from paper.studies.perturbation import PICTURE, Cells, PerturbationStudy, few
from paper.studies.recovery import on_known_chips, paired, recovery, verdict, void
from paper.sweep import Sweep

#: The kinds of measures; "no training" changes what is programmed, and no hardware.
KINDS = ("no training", "training", "calibration", "training per chip", "architecture", "circuit")
#: The network on which batch normalisation is recalibrated.
NORMALISED = "cnn_norm"
#: Standard deviations of a layer at which weights are clipped.
CLIP = 2.0
#: What yields compare: no training, clipping, vanilla training.
ARMS = ("unaware", "clipped", "autograd")
#: Points below the clean network at which a chip still meets a specification.
SPECIFICATIONS = (1.0, 2.0, 5.0)
#: What a measure costs: devices for each weight, energy of converters in an inference, measurements on every chip,
#: steps of training once for all chips, and on every chip.
COSTS = ("devices", "energy", "measurements", "steps", "steps_per_chip")


@dataclass(frozen=True)
class Measure:
    """Something that is done about a class: ``options`` of it, ``copies`` of every device, or a ``remap`` of lines.

    ``rule`` trains through it (None: the network is not trained), with ``known`` through the very chip that it will run
    on; ``clip`` cuts weights off at so many standard deviations; converters get so many ``bits`` more; ``statistics``
    as in :meth:`~lib.hardware.training.Trainer.accuracy_on_chips`, on the normalised network.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    rule: str | None = None
    known: bool = False
    copies: int = 1
    remap: bool = False
    statistics: str | None = None
    clip: float | None = None
    bits: int = 0

    @property
    def plain(self) -> bool:
        """Is it training and nothing else, which the page of the class has measured?"""
        return self.rule is not None and not self.options and self.copies == 1 and self.clip is None

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
_CLIPPED = {"weights clipped": Measure("no training", clip=CLIP)}
_WEIGHTS = {
    **_CLIPPED,
    "weights clipped, trained": Measure("training", rule="autograd", clip=CLIP),
    "a scale for each column": Measure("no training", {"scale": "column"}),
}

#: What is tried against each class; a class that is not here is trained through, and nothing else.
MEASURES: dict[str, dict[str, Measure]] = {
    "read_noise": {**_WEIGHTS, **_TRAINING, **_COPIES},
    "variability": {**_WEIGHTS, **_TRAINING, **_KNOWN, **_COPIES},
    "drift": {
        **_CLIPPED,
        **_TRAINING,
        "one factor per layer": Measure("calibration", {"compensation": "global", "readout": "noisy"}),
        "one factor per layer, trained": Measure(
            "calibration", {"compensation": "global", "readout": "noisy"}, rule="autograd"
        ),
        **_STATISTICS,
        **_KNOWN,
    },
    "stuck_at": {
        **_WEIGHTS,
        **_TRAINING,
        **_KNOWN,
        "lines remapped around the faults": Measure("architecture", remap=True),
        **_COPIES,
    },
    "ir_drop": {
        **_CLIPPED,
        **_TRAINING,
        "conductances pre-distorted": Measure("calibration", {"predistort": 3}),
        **_STATISTICS,
        "arrays of 16 x 16": Measure("circuit", {"tile": (16, 16)}),
    },
    "adc": {
        **_CLIPPED,
        **_TRAINING,
        "range that rounds best": Measure("calibration", {"calibration": "best"}),
        "range that rounds best, trained": Measure("calibration", {"calibration": "best"}, rule="straight_through"),
        "range learned in training": Measure("calibration", {"calibration": "learned"}, rule="autograd"),
        "one bit more": Measure("circuit", bits=1),
    },
}


def measures(name: str) -> Mapping[str, Measure]:
    """What is tried against a class, by label."""
    return MEASURES.get(name, {**_CLIPPED, **_TRAINING, **(_KNOWN if make(name).lasting else {})})


class BeyondTraining(HardwareStudy):
    """Measures against the six classes, on ``network`` (batch statistics on the normalised CNN).

    ``perturbations`` is "all" or some names. Every class is measured at every other severity of its grid; trainings
    without a measure are cells of the page of the class, which has run over "few" of the ``severities`` or "all".
    ``yield_chips`` are the chips of every network on which a yield is counted, where chips of a class differ. The rest
    is as in :class:`~paper.studies.hardware.HardwareStudy`.
    """

    perturbations: Classes = ("variability",)
    severities: Annotated[str, OneOf(("few", "all"))] = "few"
    seeds: Seeds = 2
    yield_chips: Count = 20

    SIZES: ClassVar[tuple[str, ...]] = (*HardwareStudy.SIZES, "yield_chips")
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
        start = self.start(network=NORMALISED if measure.statistics is not None else None)
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

    def yields(self) -> dict[tuple[str, str], Cell]:
        """The cells that count good chips, by class and by what was done (:data:`ARMS`)."""
        found = {}
        for name in self.perturbations:
            if not (physics := make(name)).lasting:
                continue
            severities = list(few(physics.grid))
            for arm in ARMS:
                config = {
                    "start": self.start(),
                    "perturbation": name,
                    "severities": severities,
                    "arm": arm,
                    "clip": CLIP,
                    "specifications": list(SPECIFICATIONS),
                    "chips": self.yield_chips,
                }
                size = len(severities) * self.seeds
                found[name, arm] = Cell("yield", config, good_chips, size=size, uses=(physics,), site=self.site())
        return found

    def cells(self) -> list[Cell]:
        """The yields, training and no training from the pages of the classes, and a cell for every other measure."""
        found: dict[Cell, None] = {}
        for name in self.perturbations:
            trained = self.trainings(name)
            own = [self.cell(name, measure) for measure in measures(name).values() if not measure.plain]
            found |= dict.fromkeys([*trained.accuracy, *trained.known, *own])
        return [*self.yields().values(), *found]

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """Tables ``accuracy`` (one row for each class, measure, severity, seed), ``summary`` (seeds joined, costs),
        ``advice`` (one row for each class, network and severity), ``chips`` and ``yield`` (seeds joined).
        """
        joined = pd.concat([table for name in self.perturbations for table in self._of(name, found)], ignore_index=True)
        summary = worth(summarise(joined).merge(self.priced(), on=["perturbation", "measure"], how="left"))
        tables = {"accuracy": joined, "summary": summary, "advice": advice(summary, joined)}
        listed = [
            found[cell]["chips"].assign(perturbation=name, arm=arm) for (name, arm), cell in self.yields().items()
        ]
        chips = pd.concat(listed, ignore_index=True) if listed else None
        if chips is not None:
            tables |= {"chips": chips, "yield": yields(chips)}
        return tables, Findings.of(claims(joined, chips))

    def priced(self) -> pd.DataFrame:
        """What every measure costs (:data:`COSTS`), one row for each class and measure."""
        rows = []
        for name in self.perturbations:
            for label, measure in measures(name).items():
                own = NORMALISED if measure.statistics is not None else self.network
                start = self.start(network=own)
                found = costs(measure, network(own, self.data, self.root).shapes, start["warm_up"] + start["steps"])
                rows.append({"perturbation": name, "measure": label, "trained": measure.rule is not None, **found})
        return pd.DataFrame(rows)

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
    finished = begin.clean if measure.clip is None else trainer.clipped(begin.clean, measure.clip)
    unaware = tiled(finished, len(grid))
    told: dict[str, np.ndarray] = {}
    before = judged(unaware, make(name)).numpy().mean(1) if measure.statistics is not None else np.nan
    if measure.rule is not None:
        sweep = Sweep(begin, physics, grid)
        params, diverged = sweep.trained(measure.rule, clip=measure.clip)
        told = {"diverged_at": diverged.numpy(), "moved": sweep.moved(params).numpy()}
        seen = judged(params, physics, statistics="another chip")
    elif measure.remap:
        severity = severity_of_replicas(grid, begin.seeds, begin.device)
        seen = judged(unaware, physics, arrange=remapped(physics, severity))
    else:
        finer = [severity + measure.bits for severity in grid]
        seen = judged(unaware, physics, severities=finer, statistics=measure.statistics or "off chip")
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


def good_chips(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``chips``: for every severity and seed how many ``chips`` lose at most so many points against the clean
    network, in columns ``within_POINTS``, after what the ``arm`` says.
    """
    begin, grid = fork(config["start"], site), config["severities"]
    physics, arm, trainer = make(config["perturbation"]), config["arm"], begin.trainer
    rule = "autograd" if arm == "autograd" else "unaware"
    params, _ = Sweep(begin, physics, grid).trained(rule, clip=config["clip"] if arm == "clipped" else None)
    statistics = "off chip" if rule == "unaware" else "another chip"
    given = (grid, begin.seeds, config["chips"])
    seen = trainer.accuracy_on_chips(params, physics, *given, start=begin.start, statistics=statistics).numpy()
    clean = trainer.accuracy(begin.clean).repeat(len(grid)).numpy()
    columns = {"severity": np.repeat(grid, len(begin.seeds)), "seed": list(begin.seeds) * len(grid), "clean": clean}
    # Shares of whole pictures: a chip at the very edge is within.
    lost = 100 * (clean[:, None] - seen) - 1e-9
    good = {f"within_{points:g}": (lost <= points).sum(1) for points in config["specifications"]}
    return {"chips": pd.DataFrame({**columns, "chips": seen.shape[1], **good})}


# --------------------------------------------------------------------------------------------------- judging


def costs(measure: Measure, shapes: Mapping[str, Shape], steps: int) -> dict[str, float]:
    """What a measure costs (:data:`COSTS`) on a network whose layers have these ``shapes``, trained for ``steps``.

    ``energy`` is that of all converters in one inference, over that with nothing done: a conversion costs 2^bits, the
    usual figure of merit (Walden 1999), and tiles convert every output once for each of them. A model, not a
    measurement: between designs of one resolution the factor differs more than between neighbouring resolutions.
    """
    outputs = {layer: math.prod(shape.current) for layer, shape in shapes.items()}
    tile = measure.options.get("tile")
    tiles = {layer: -(-shape.weight[-1] // tile[0]) if tile else 1 for layer, shape in shapes.items()}
    conversions = sum(outputs[layer] * tiles[layer] for layer in shapes) / sum(outputs.values())
    devices = 2 * measure.copies
    measured = 0
    if measure.options.get("compensation") == "global":
        measured = len(shapes)
    elif measure.statistics == "each chip":
        measured = CALIBRATION
    elif measure.remap:
        measured = devices * sum(math.prod(shape.weight) for shape in shapes.values())
    trained = steps if measure.rule is not None else 0
    found = (devices, conversions * 2.0**measure.bits, measured, 0 if measure.known else trained)
    return dict(zip(COSTS, (*found, trained if measure.known else 0), strict=True))


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
        row["published"] = published.side(row["perturbation"], row["severity"])
        rows.append(row | {"verdict": verdict(damage, gain).name})
    return pd.DataFrame(rows)


def worth(summary: pd.DataFrame) -> pd.DataFrame:
    """The ``summary`` with a column ``worth``: no other measure against the same class, network and severity gives back
    at least as much at no higher cost of any kind (:data:`COSTS`). What gives back nothing is beaten by doing nothing.
    """
    kept = pd.Series(False, index=summary.index)
    for _, group in summary.groupby(["perturbation", "network", "severity"], sort=False):
        given, paid = group.recovery.to_numpy(), group[list(COSTS)].to_numpy(dtype=float)
        for at, (own, cost) in enumerate(zip(given, paid, strict=True)):
            no_worse = (given >= own) & (paid <= cost).all(1)
            better = no_worse & ((given > own) | (paid < cost).any(1))
            kept[group.index[at]] = own > 0 and not better.any()
    return summary.assign(worth=kept)


def advice(summary: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """One row for each class, network and severity: the ``damage``, the best measure ``without`` training and the best
    ``trained`` once for all chips, with their recoveries, and whether training compensates.

    ``beyond`` is what the best trained measure has over the best that needs none, in points of accuracy. "Compensated
    by training" is that difference, seed by seed, beyond doubt above zero: ``answer`` "training" then, "no training"
    where it is beyond doubt not, "inconclusive" between; "no damage", "nothing helps" (no measure gives anything back)
    and "untrained" (nothing was trained) say so. ``worth`` are the measures that none beats in costs and recovery.
    """
    rows = []
    for (name, own, severity), group in summary.groupby(["perturbation", "network", "severity"], sort=False):
        damage = group.damage[group.kind != "training per chip"].iloc[0]
        row: dict[str, Any] = {"perturbation": name, "network": own, "severity": severity, "damage": damage}
        row["published"] = published.side(str(name), float(severity))
        best = {}
        once = group.trained & (group.kind != "training per chip")
        for column, part in (("without", group[~group.trained]), ("trained", group[once])):
            # What diverged in every seed has no accuracy, and is nobody's best.
            part = part[part.accuracy.notna()]
            at = part.accuracy.idxmax() if len(part) else None
            best[column] = "" if at is None else part.measure[at]
            row |= {column: best[column], f"{column}_recovery": np.nan if at is None else part.recovery[at]}
        row |= {"beyond": np.nan, "answer": "untrained"}
        if best["trained"] and best["without"]:
            ahead = _ahead(accuracy, str(name), str(own), float(severity), best["trained"], best["without"])
            row["beyond"] = ahead.mean()
            outcome = judge("", ahead, ">", criteria.MEASURE_AHEAD).outcome
            words = {Outcome.HOLDS: "training", Outcome.DOES_NOT_HOLD: "no training"}
            row["answer"] = words.get(outcome, "inconclusive")
        if damage < criteria.DAMAGE:
            row["answer"] = "no damage"
        elif not group.recovery.max() > 0:
            row["answer"] = "nothing helps"
        rows.append(row | {"worth": "; ".join(group.measure[group.worth])})
    return pd.DataFrame(rows)


def _ahead(table: pd.DataFrame, name: str, own: str, severity: float, one: str, other: str) -> np.ndarray:
    """By how many points ``one`` measure is ahead of another at a severity, seed by seed."""
    here = table[(table.perturbation == name) & (table.network == own) & (table.severity == severity)]
    pair = [here[here.measure == label].set_index("seed").accuracy for label in (one, other)]
    return 100 * (pair[0] - pair[1]).to_numpy()


def yields(chips: pd.DataFrame) -> pd.DataFrame:
    """One row for each class, severity, arm and specification: the ``share`` of chips that meet it, seeds joined.

    Its interval has the seeds drawn again and then their chips, and holds the exact one for all chips together, which
    is what is left where every chip is good, or none.
    """
    rows = []
    for (name, severity, arm), group in chips.groupby(["perturbation", "severity", "arm"], sort=False):
        for points in SPECIFICATIONS:
            hits, count = group[f"within_{points:g}"].to_numpy(), group.chips.to_numpy()
            drawn = np.random.default_rng(0)
            picked = drawn.integers(len(hits), size=(2000, len(hits)))
            again = drawn.binomial(count[picked], hits[picked] / count[picked]) / count[picked]
            low, high = np.quantile(again.mean(1), [0.025, 0.975])
            exact = exact_interval(int(hits.sum()), int(count.sum()))
            row = {"perturbation": name, "severity": severity, "arm": arm, "specification": points}
            row |= {"share": (hits / count).mean(), "low": min(low, exact[0]), "high": max(high, exact[1])}
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


def claims(table: pd.DataFrame, chips: pd.DataFrame | None = None) -> list[Claim]:
    """What the measures are worth, over all severities of a class; ``chips`` are those counted for the yield."""
    found = [*_beyond(table), *_normalised(table), *_yields(chips)]
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


def _beyond(table: pd.DataFrame) -> Iterator[Claim]:
    """Of every class: is vanilla training ahead of the best measure that needs no training, severity by severity?"""
    for name, own in table.groupby("perturbation", sort=False):
        known = measures(str(name))
        own = own[own.network == own.network.iloc[0]]
        untrained = own[own.measure.isin([label for label, one in known.items() if one.rule is None])]
        ahead = []
        for severity, group in untrained.groupby("severity"):
            means = group.groupby("measure").accuracy.mean().dropna()
            if len(means):
                net = str(own.network.iloc[0])
                ahead.append(_ahead(own, str(name), net, float(severity), "vanilla training", str(means.idxmax())))
        if not ahead:
            continue
        first = own[own.measure == "vanilla training"]
        lost = (first.clean - first.unaware).groupby(first.seed).mean()
        yield Claim(
            f"beyond_training.{name}.training",
            f"{HARDWARE[str(name)].title}: vanilla training does more than the best measure that needs no training",
            np.mean(ahead, 0),
            ">=",
            criteria.MEASURE_AHEAD,
            "beyond_training training",
            unit="points",
            name="mean difference",
            void=void(lost),
        )


def _normalised(table: pd.DataFrame) -> Iterator[Claim]:
    """What a day of drift costs a normalised network, and what recalibrated statistics leave of it."""
    day = table[(table.perturbation == "drift") & (table.network == NORMALISED) & (table.severity == 86_400.0)]
    day = day[day.measure == next(iter(_STATISTICS))]
    if not len(day):
        return
    texts: dict[str, tuple[str, Any, float, str]] = {
        "normalised": ("unaware", ">=", criteria.MEASURE_FAR, "A day of drift costs a normalised network at least"),
        "restored": (
            "accuracy",
            "<=",
            criteria.RESTORED,
            "Recalibrated batch statistics leave of a day of drift at most",
        ),
    }
    for place, (column, relation, edge, text) in texts.items():
        samples = 100 * (day.clean - day[column]).to_numpy()
        more: dict[str, Any] = {"unit": "points", "name": "mean loss"}
        said = f"{text} {edge:g} points"
        yield Claim(f"beyond_training.drift.{place}", said, samples, relation, edge, "beyond_training", **more)


def _yields(chips: pd.DataFrame | None) -> Iterator[Claim]:
    """Of every class: are more chips good enough after training than after clipping, in the mean over severities?"""
    if chips is None:
        return
    edge, column = criteria.YIELD_AHEAD, f"within_{criteria.SPECIFICATION:g}"
    for name, own in chips.groupby("perturbation", sort=False):
        shares = (100 * own[column] / own.chips).groupby([own.arm, own.seed]).mean()
        yield Claim(
            f"beyond_training.yield.{name}",
            f"{HARDWARE[str(name)].title}: training brings at least {edge:g} hundredths of the chips more within "
            f"{criteria.SPECIFICATION:g} points of the clean network than clipping",
            (shares["autograd"] - shares["clipped"]).to_numpy(),
            ">=",
            edge,
            "beyond_training yield",
            unit="points",
            name="mean difference",
        )
