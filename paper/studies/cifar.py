"""Part II on pictures: finished networks for CIFAR-10, what hardware costs them and what wins it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import torch

from lib import checks
from lib import pictures as files
from lib.hardware.devices import Composite, make
from lib.hardware.diagnostics import diagnose
from lib.hardware.networks import cifar10
from lib.hardware.perturbations import ADC, PERTURBATIONS, IRDrop, Perturbation
from lib.hardware.training import Trainer, tiled
from lib.replicas import Optimiser, Training, moved
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings, Relation, Threshold
from paper import finished
from paper.criteria.hardware import (
    BETTER,
    CLEAR_DAMAGE,
    COMPENSATED,
    DAMAGE,
    HURT_INSIDE,
    MEASURE_FAR,
    NOTHING,
    POINT,
    RECOVERED,
    TELLS,
)
from paper.prediction import area
from paper.published import INSIDE, side
from paper.studies.base import Compared, Result, Study, changed, joined
from paper.studies.parameters import DRAWS, STEPS, OneOf, Place, Whole
from paper.studies.recovery import beyond, recovery
from paper.studies.separation import SCORES

#: The network of the phase diagram, and the one that is put on a phase-change chip.
SMALL, DEEP = "cnn_norm", "resnet_narrow"
#: What tells the whole of CIFAR-10 that the evidence was measured on from other copies of it.
WHOLE = "85433049abdc"
#: Three severities of each class: where one can, the first two are published ones.
GRID: Mapping[str, tuple[float, ...]] = {
    "read_noise": (0.02, 0.035, 0.1),
    "variability": (0.02, 0.04, 0.1),
    "drift": (8.64e4, 3.15e7, 3.15e8),
    "stuck_at": (0.01, 0.03, 0.1),
    "ir_drop": (20.0, 80.0, 320.0),
    "adc": (8.0, 6.0, 4.0),
}
#: Layers are cut into arrays of so many lines, as long ones are.
TILE = (64, 64)
OPTIONS: Mapping[str, Mapping[str, Any]] = {"ir_drop": {"tile": list(TILE)}}
#: Measures that need no gradient: the network as it is; with the statistics of its normalisation measured on each chip;
#: and that one clipped at CLIP standard deviations.
UNTRAINED = ("unaware", "statistics", "clipped")
#: Backward rules that train.
RULES = ("autograd", "noise_injection")
CLIP = 2.0
#: Images of a step and rate of Adam, from the finished network on. The deep one loses 4.5 points of its clean accuracy
#: at the rate of the small one, which was seen before its own was chosen.
BATCH, RATE, DEEP_RATE = 32, 3e-3, 5e-4
#: What the deep network is trained with: noise on every conductance, about the largest that was published for PCM.
NOISE = 0.04
#: Seconds after programming: 20 s, a day, a month and a year.
TIMES = (20.0, 8.64e4, 2.6e6, 3.15e7)
DAY = TIMES[1]
#: Bits of its converters, and ohm per segment of its wires: a recent technology and an older one.
BITS, OHMS = 6.0, (0.35, 5.0)
#: Arms of the deep network: not trained, or trained with noise, clipped or not.
ARMS = ("unaware", "clipped", "noise_injection", "noise_injection, clipped")
#: What a chip may be given: a factor for every layer against drift, and statistics of normalisation of its own.
MEASURES = (("none", "off chip"), ("global", "off chip"), ("global", "each chip"))
#: Chips on which the sample is judged, and severities of it.
FEW = 2
#: Parts of a training curve.
PARTS = 8
#: Predictors that need no gradient.
TRIVIAL = {"damage": lambda table: -table.damage, "severity": lambda table: -table["place"]}


class Cifar(Study):
    """Finished networks on CIFAR-10 through hardware::

        pictures   "few": the finished networks are judged on the sample of pictures in the repository;
                   "all": that, and everything else on the whole data set
        root       the folder of CIFAR-10, to compute with all pictures; the evidence is shown without
        seeds      orders of training pictures, each with chips and reads of its own; the network is one
        repeats    seeds of the judgement on the sample, which trains nothing
        chips      unseen chips on which every network is judged
        tested     test pictures on which the phase diagram is judged; the deep network takes half of them
        steps      optimiser steps from the finished network on; the deep network takes half of them
        gradients  sampled gradients of a diagnosis

    Tables: ``sample`` (network, perturbation, arm, severity, seed, accuracy); with all pictures ``accuracy``, ``curve``
    (the loss of training in eight parts), ``diagnostics``, ``cells`` (damaging ones, seed by seed), ``summary`` (with
    recovery and what is beyond the best measure without a gradient), ``areas``, ``chips`` and ``converters``.
    """

    pictures: Annotated[str, OneOf(("few", "all"))] = "few"
    root: Annotated[str, Place("the path of a folder", also=("",))] = ""
    seeds: Annotated[int, Whole(1, 1000)] = 2
    repeats: Annotated[int, Whole(2, 1000)] = 2
    chips: Annotated[int, DRAWS] = 3
    tested: Annotated[int, Whole(100, 10_000)] = 600
    steps: Annotated[int, Whole(2, STEPS.high)] = 300
    gradients: Annotated[int, Whole(2, DRAWS.high)] = 8

    SIZES: ClassVar[tuple[str, ...]] = ("seeds", "repeats")
    PARTS: ClassVar[tuple[str, ...]] = ("pictures",)
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "sample": Compared(("network", "perturbation", "arm", "severity"), {"accuracy": 1 / 200})
    }

    def check(self) -> None:
        """Refuses a folder where none is used, and one that holds no pictures."""
        if self.root and self.pictures == "few":
            raise checks.ParameterError(f"root must be left out with pictures 'few', but {self.root!r} was given.")
        if self.root:
            if changed(files.folder(self.root)):
                for known in (cifar10, finished.pictures, finished.identity):
                    known.cache_clear()
            finished.pictures(self.root)

    def run(self) -> Result:
        """Compute, or fetch what is stored, and judge; the whole needs its pictures."""
        if self.pictures == "all" and not self.root:
            raise checks.ParameterError("root must be the folder of CIFAR-10 with pictures 'all', but '' was given.")
        return super().run()

    # What is measured -----------------------------------------------------------------------------------
    def cells(self) -> list[Cell]:
        """The finished networks on the sample; with all pictures also trainings, diagnoses and whole chips."""
        found = [
            self.cell(
                "cifar_accuracy",
                accuracy,
                network,
                "sample",
                finished.identity(""),
                perturbation=name,
                options=dict(OPTIONS.get(name, {})),
                severities=list(severities),
                arm=arm,
                seeds=list(range(self.repeats)),
                chips=FEW,
                tested=200,
            )
            for network, name, severities in (
                *((SMALL, name, GRID[name][1:2]) for name in PERTURBATIONS),
                (DEEP, "pcm", (DAY,)),
            )
            for arm in UNTRAINED
        ]
        return found + (self.whole() if self.pictures == "all" else [])

    def whole(self) -> list[Cell]:
        """What is measured on the whole data set."""
        copy = finished.identity(self.root) if self.root else WHOLE
        seeds = list(range(self.seeds))
        training = {"steps": self.steps, "batch": BATCH, "rate": RATE}
        own = {"seeds": seeds, "chips": self.chips, "tested": self.tested}
        found = []
        for name in PERTURBATIONS:
            physics = {"perturbation": name, "options": dict(OPTIONS.get(name, {})), "severities": list(GRID[name])}
            for arm in (*UNTRAINED, *RULES):
                given = {**physics, **own, "arm": arm, **(training if arm in RULES else {})}
                found.append(self.cell("cifar_accuracy", accuracy, SMALL, "all", copy, **given))
            for rule in RULES:
                given = {**physics, "seeds": seeds, "rule": rule, "batch": BATCH, "gradients": self.gradients}
                found.append(self.cell("cifar_diagnostics", diagnostics, SMALL, "all", copy, **given))
        # The deep network takes ten times as long for a picture.
        own["tested"], training = self.tested // 2, training | {"steps": self.steps // 2, "rate": DEEP_RATE}
        for arm in ARMS:
            more: dict[str, Any] = training | {"noise": NOISE} if arm in ARMS[2:] else {}
            given = {**own, "arm": arm, "times": list(TIMES), **more}
            found.append(self.cell("cifar_chips", chips, DEEP, "all", copy, **given))
        for arm in (*UNTRAINED, "noise_injection"):
            # Nothing is random but the order of the pictures that are trained on.
            more = training if arm == "noise_injection" else {"seeds": seeds[:1]}
            given = {**own, "chips": 1, "arm": arm, "bits": BITS, "ohms": list(OHMS), "tile": list(TILE), **more}
            found.append(self.cell("cifar_converters", converters, DEEP, "all", copy, **given))
        return found

    def cell(self, kind: str, compute: Any, network: str, data: str, copy: str, **config: Any) -> Cell:
        """One cell: on which finished network and pictures, and the rest of its configuration."""
        origin = {"network": network, "weights": finished.record(network)["sha256"][:12], "pictures": copy}
        names = [config["perturbation"]] if "perturbation" in config else ["pcm", "variability", "ir_drop", "adc"]
        size = len(config["seeds"]) * len(config.get("severities", (0,)))
        uses = tuple(make(name) for name in names)
        return Cell(kind, {**origin, **config}, compute, size=size, uses=uses, site={"root": self.folder(data)})

    def folder(self, data: str) -> str:
        """Where the pictures lie; empty for the sample."""
        return self.root if data == "all" else ""

    # What it says ---------------------------------------------------------------------------------------
    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """All tables, and the claims that the whole data set decides."""
        sample = {cell: one for cell, one in found.items() if cell.config["pictures"] == finished.identity("")}
        tables = {"sample": joined(sample)["accuracy"]}
        whole = joined({cell: one for cell, one in found.items() if cell not in sample})
        if not whole:
            return tables, Findings.of([])
        accuracy = whole["accuracy"]
        cells = damaging(accuracy, whole["diagnostics"])
        tables |= {
            "accuracy": accuracy,
            "curve": whole["curve"],
            "diagnostics": whole["diagnostics"],
            "cells": cells,
            "summary": summary(accuracy),
            "areas": areas(cells),
            "chips": whole["chips"],
            "converters": whole["converters"],
        }
        return tables, Findings.of(claims(tables))


# ------------------------------------------------------------------------------------------------- computing


def _setting(config: Mapping[str, Any], site: Mapping[str, Any]) -> tuple[Trainer, Any]:
    """The trainer of a cell, and the finished network [seeds, ...]."""
    if config["pictures"] != (here := finished.identity(site["root"])):
        raise checks.ParameterError(
            f"root must hold the pictures that the study is about ({config['pictures']}), but {site['root']!r} with "
            f"others ({here}) was given."
        )
    trainer = finished.trainer(config["network"], site["root"], config.get("batch", 128), config.get("tested", 200))
    return trainer, finished.start(config["network"], config["seeds"], torch.device(site["device"]))


def _train(
    trainer: Trainer,
    start: Any,
    physics: Perturbation,
    rule: str,
    severities: Sequence[Any],
    config: Mapping[str, Any],
    clip: float | None = None,
) -> Training:
    optimiser = Optimiser("adam", config["rate"], config["steps"])
    return trainer.train_aware(start, physics, rule, severities, config["seeds"], optimiser, clip=clip)


def _physics(config: Mapping[str, Any]) -> Perturbation:
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in config["options"].items()}
    return make(config["perturbation"], **options)


def accuracy(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``accuracy`` of one arm: a row for each severity and seed, on unseen chips; ``curve`` where it trains."""
    trainer, start = _setting(config, site)
    physics, severities, seeds, arm = _physics(config), config["severities"], config["seeds"], config["arm"]
    many = len(severities)
    rows = {"severity": np.repeat(severities, len(seeds)), "seed": list(seeds) * many}
    trained = None
    params = tiled(start, many)
    if arm == "clipped":
        params = trainer.clipped(params, CLIP)
    elif arm not in UNTRAINED:
        trained = _train(trainer, start, physics, arm, severities, config)
        params = trained.params
    statistics = "off chip" if arm == "unaware" else "each chip"
    seen = trainer.accuracy_on_chips(params, physics, severities, seeds, config["chips"], statistics=statistics).numpy()
    clean = trainer.accuracy(finished.start(config["network"], seeds[:1], torch.device(site["device"]))).item()
    first = trainer.weights(tiled(start, many))
    table = pd.DataFrame(
        {
            "network": config["network"],
            "perturbation": physics.name,
            "arm": arm,
            **rows,
            "chips": seen.shape[1],
            "clean": clean,
            "accuracy": seen.mean(1),
            "low": np.percentile(seen, 5, axis=1),
            "spread": seen.std(1),
        }
    )
    if trained is None:
        return {"accuracy": table}
    table = table.assign(
        diverged_at=trained.diverged_at.numpy(), moved=moved(first, trainer.weights(trained.params)).numpy()
    )
    return {"accuracy": table, "curve": _curve(trained, {"perturbation": physics.name, "arm": arm}, rows)}


def _curve(trained: Training, key: Mapping[str, str], rows: Mapping[str, Any]) -> pd.DataFrame:
    """The mean loss of training in PARTS parts, a row for each replica and part."""
    parts = torch.stack([part.mean(0) for part in trained.losses.tensor_split(PARTS)]).numpy()
    tables = [pd.DataFrame({**key, **rows, "part": part, "loss": parts[part]}) for part in range(PARTS)]
    return pd.concat(tables, ignore_index=True)


def diagnostics(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``diagnostics``: what the gradients of a rule say at the finished network."""
    trainer, start = _setting(config, site)
    given = (config["rule"], config["severities"], config["seeds"], config["gradients"])
    table = diagnose(trainer, start, _physics(config), *given)
    return {"diagnostics": table.assign(network=config["network"], perturbation=config["perturbation"], arm=given[0])}


def chips(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``chips``: accuracy on phase-change chips over time, with and without what a chip may be given."""
    trainer, start = _setting(config, site)
    arm, seeds = config["arm"], config["seeds"]
    params, diverged = start, torch.full((len(seeds),), -1)
    if arm == "clipped":
        params = trainer.clipped(start, CLIP)
    elif arm != "unaware":
        clip = CLIP if arm.endswith("clipped") else None
        trained = _train(trainer, start, make("variability"), "noise_injection", [config["noise"]], config, clip)
        params, diverged = trained.params, trained.diverged_at
    clean = trainer.accuracy(params).numpy()
    tables = []
    for compensation, statistics in MEASURES:
        physics = make("pcm", compensation=compensation)
        for seconds in config["times"]:
            seen = trainer.accuracy_on_chips(params, physics, [seconds], seeds, config["chips"], statistics=statistics)
            row = {"arm": arm, "compensation": compensation, "statistics": statistics, "seconds": seconds}
            own = {"seed": seeds, "clean": clean, "accuracy": seen.mean(1).numpy(), "spread": seen.std(1).numpy()}
            tables.append(pd.DataFrame({**row, **own, "diverged_at": diverged.numpy()}))
    return {"chips": pd.concat(tables, ignore_index=True)}


def converters(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``converters``: accuracy with converters behind arrays whose wires have resistance."""
    trainer, start = _setting(config, site)
    arm, seeds = config["arm"], config["seeds"]
    physics = Composite((IRDrop(tile=tuple(config["tile"])), ADC()))
    severities = [physics.check({"ir_drop": ohm, "adc": config["bits"]}) for ohm in config["ohms"]]
    params, diverged = start, torch.full((len(seeds),), -1)
    if arm == "clipped":
        params = trainer.clipped(params, CLIP)
    elif arm not in UNTRAINED:
        # Through the wires that lose most.
        trained = _train(trainer, start, physics, arm, severities[-1:], config)
        params, diverged = trained.params, trained.diverged_at
    params = tiled(params, len(severities))
    statistics = "off chip" if arm == "unaware" else "each chip"
    seen = trainer.accuracy_on_chips(params, physics, severities, seeds, 1, statistics=statistics).numpy()
    table = pd.DataFrame(
        {
            "arm": arm,
            "ohm": np.repeat(config["ohms"], len(seeds)),
            "seed": list(seeds) * len(severities),
            "clean": trainer.accuracy({name: value[:1] for name, value in start.items()}).item(),
            "accuracy": seen[:, 0],
            "diverged_at": diverged.repeat(len(severities)).numpy(),
        }
    )
    return {"converters": table}


# -------------------------------------------------------------------------------------------------- judging

_RUN = ["perturbation", "severity", "seed"]


def paired(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Rows of trained arms with ``unaware``, ``damage`` and ``gain``, the best measure without a gradient of the same
    class and severity (``untrained``, its name in ``measure``; the mean over seeds decides) and the ``place`` of the
    severity among those of its class.
    """
    wide = accuracy[accuracy.arm.isin(UNTRAINED)].pivot(index=_RUN, columns="arm", values="accuracy")
    means = wide.groupby(level=["perturbation", "severity"])[list(UNTRAINED)].mean()
    best = means.idxmax(axis=1).rename("measure")
    free = wide.join(best)
    free["untrained"] = [row[row["measure"]] for _, row in free.iterrows()]
    table = accuracy[~accuracy.arm.isin(UNTRAINED)].merge(free.reset_index(), on=_RUN)
    place = {(name, severity): i for name, grid in GRID.items() for i, severity in enumerate(grid)}
    places = [place[pair] for pair in zip(table.perturbation, table.severity, strict=True)]
    return table.assign(damage=table.clean - table.unaware, gain=table.accuracy - table.unaware, place=places)


def damaging(accuracy: pd.DataFrame, looks: pd.DataFrame) -> pd.DataFrame:
    """Trained runs at severities that cost DAMAGE at least, in the mean over seeds, with their diagnostics."""
    runs = paired(accuracy)
    mean = runs.groupby(["perturbation", "severity"]).damage.transform("mean")
    keys = ["network", "perturbation", "arm", "severity", "seed"]
    table = runs[mean >= DAMAGE].merge(looks.rename(columns={"gain": "sensitivity"}), on=keys)
    return table.assign(
        recovery=table.gain / table.damage.clip(lower=DAMAGE), compensated=table.gain >= COMPENSATED * table.damage
    )


def summary(accuracy: pd.DataFrame) -> pd.DataFrame:
    """One row for each class, severity and trained arm, seeds joined: ``damage``, ``recovery`` with its interval,
    ``free`` (what the best ``measure`` without a gradient wins back), and ``beyond`` it in points.
    """
    rows = []
    for (name, severity, arm), group in paired(accuracy).groupby(["perturbation", "severity", "arm"], sort=False):
        won, ends = recovery(group.damage, group.gain)
        free, _ = recovery(group.damage, group.untrained - group.unaware)
        rows.append(
            {
                "perturbation": name,
                "severity": severity,
                "arm": arm,
                "side": side(name, severity),
                "clean": group.clean.mean(),
                "unaware": group.unaware.mean(),
                "accuracy": group.accuracy.mean(),
                "damage": group.damage.mean(),
                "recovery": won,
                "recovery_low": ends[0],
                "recovery_high": ends[1],
                "measure": group.measure.iloc[0],
                "untrained": group.untrained.mean(),
                "free": free,
                "beyond": 100 * (group.accuracy - group.untrained).mean(),
            }
        )
    return pd.DataFrame(rows)


def predictors() -> dict[str, Any]:
    """All predictors of a cell's fate, those without a gradient last."""
    return {**SCORES, **TRIVIAL}


def areas(cells: pd.DataFrame) -> pd.DataFrame:
    """The area under the ROC curve of every predictor, rule by rule, with an interval over classes.

    ``area`` is that for "training wins back half of the loss", ``further`` that for "it is a POINT above the best
    measure without a gradient"; ``ahead`` counts the latter.
    """
    rows = []
    for arm, group in cells.groupby("arm", sort=False):
        label = group.compensated.to_numpy()
        more = (100 * (group.accuracy - group.untrained) >= POINT).to_numpy()
        for name, score in predictors().items():
            values = score(group).to_numpy(dtype=float)
            value, ends = _over_classes(group, lambda own, values=values, label=label: area(values[own], label[own]))
            row = {"arm": arm, "predictor": name, "cells": len(group), "compensated": int(label.sum())}
            row |= {"ahead": int(more.sum()), "area": value, "low": ends[0], "high": ends[1]}
            rows.append(row | {"further": area(values, more)})
    columns = ["arm", "predictor", "cells", "compensated", "ahead", "area", "low", "high", "further"]
    return pd.DataFrame(rows, columns=columns)


def _over_classes(cells: pd.DataFrame, value: Any) -> tuple[float, tuple[float, float]]:
    """A value of rows by their places, with the interval that comes from drawing classes again.

    Draws in which all rows are on one side have no area and are left out.
    """
    names = list(dict.fromkeys(cells.perturbation))
    places = [np.flatnonzero((cells.perturbation == name).to_numpy()) for name in names]
    source = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        picked = source.integers(len(names), size=len(names))
        drawn.append(value(np.concatenate([places[i] for i in picked])))
    known = np.array(drawn)[np.isfinite(drawn)]
    whole = value(np.arange(len(cells)))
    if not len(known) or whole != whole:
        return float("nan"), (float("nan"), float("nan"))
    return float(whole), (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975)))


def hurt(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs at severities that cost CLEAR_DAMAGE in the mean over seeds."""
    return runs[runs.groupby(["perturbation", "severity"]).damage.transform("mean") >= CLEAR_DAMAGE]


def _by_class(runs: pd.DataFrame, values: Any) -> np.ndarray:
    """The mean over runs of each class."""
    return pd.Series(np.asarray(values), runs.index).groupby(runs.perturbation, sort=False).mean().to_numpy()


def claims(tables: Tables) -> list[Claim]:
    """What is claimed of the small network, of the diagnostics at it, and of the deep network."""
    return [*_small(tables["accuracy"]), *_told(tables), *_deep(tables["chips"], tables["converters"])]


def _small(accuracy: pd.DataFrame) -> list[Claim]:
    runs = hurt(paired(accuracy))
    one = runs[runs.arm == RULES[0]]
    inside = one[[side(name, at) == INSIDE for name, at in zip(one.perturbation, one.severity, strict=True)]]
    counts = [inside[inside.seed == seed].perturbation.nunique() for seed in dict.fromkeys(accuracy.seed)]
    found = [
        Claim(
            "cifar.inside",
            f"At least {HURT_INSIDE:g} classes cost {100 * CLEAR_DAMAGE:g} points at a published severity",
            counts,
            ">=",
            HURT_INSIDE,
            "pictures",
            unit="classes",
            name="classes",
        )
    ]
    quoted: tuple[tuple[str, Threshold, Relation, str], ...] = (
        ("read_noise", COMPENSATED, ">=", "Read noise is on the compensable side under vanilla training"),
        ("ir_drop", RECOVERED, "<=", "IR-drop is on the breaking side under vanilla training"),
    )
    for name, share, relation, text in quoted:
        own = one[one.perturbation == name]
        more = pd.Series(beyond(own.damage, own.gain, share), own.index).groupby(own.seed).mean()
        label = f"won back minus {share:g} of the loss"
        found.append(
            Claim(f"cifar.{name}", text, more.to_numpy(), relation, NOTHING, "pictures quoted", "points", label)
        )
    injected = runs[runs.arm == "noise_injection"]
    both = injected.merge(one[[*_RUN, "accuracy"]], on=_RUN, suffixes=("", "_vanilla"))
    free = beyond(one.damage, one.untrained - one.unaware)
    more = 100 * (injected.accuracy - injected.untrained)
    rule = 100 * (both.accuracy - both.accuracy_vanilla)
    found += [
        Claim(
            "cifar.no_gradient",
            "A measure without a gradient wins back half of what hardware costs, in the mean over classes",
            _by_class(one, free),
            ">=",
            NOTHING,
            "pictures",
            "points",
            f"won back minus {COMPENSATED:g} of the loss",
        ),
        Claim(
            "cifar.beyond",
            "Noise injection wins back more than the best measure without a gradient, in the mean over classes",
            _by_class(injected, more),
            ">",
            BETTER,
            "pictures",
            "points",
            "mean difference",
        ),
        Claim(
            "cifar.injection",
            "Noise injection wins back more than vanilla training, in the mean over classes",
            _by_class(both, rule),
            ">",
            BETTER,
            "pictures",
            "points",
            "mean difference",
        ),
    ]
    return found


_SUBJECTS = {
    "cosine": "Consistency (cosine)",
    "signal": "Variance (share of signal)",
    "live": "Sensitivity (live weights)",
}
_OF_RULE = {"autograd": "vanilla training", "noise_injection": "noise injection"}


def _told(tables: Tables) -> list[Claim]:
    """What each diagnostic tells of each rule, and the cosine beside the damage."""
    found = []
    told, cells = tables["areas"].set_index(["arm", "predictor"]), tables["cells"]
    for arm in dict.fromkeys(cells.arm):
        for name, subject in _SUBJECTS.items():
            row = told.loc[(arm, name)]
            text = f"{subject} separates what {_OF_RULE[arm]} compensates from what it does not"
            measured = (row.area, (row.low, row.high))
            family = f"pictures told, {arm}"
            found.append(
                Claim(f"cifar.tells.{name}.{arm}", text, (), ">=", TELLS, family, name="area", measured=measured)
            )
        own = cells[cells.arm == arm]
        label = own.compensated.to_numpy()
        scores = [predictors()[name](own).to_numpy(dtype=float) for name in ("cosine", "damage")]

        def ahead(rows: np.ndarray, scores=scores, label=label) -> float:
            return area(scores[0][rows], label[rows]) - area(scores[1][rows], label[rows])

        found.append(
            Claim(
                f"cifar.trivial.{arm}",
                f"The cosine tells more than the damage alone of what {_OF_RULE[arm]} compensates",
                (),
                ">",
                BETTER,
                f"pictures told, {arm}",
                name="difference of areas",
                measured=_over_classes(own, ahead),
            )
        )
    return found


def of_chips(table: pd.DataFrame, arm: str, measures: tuple[str, str], seconds: float) -> pd.Series:
    """Accuracy on phase-change chips by seed."""
    rows = (table.arm == arm) & (table.compensation == measures[0]) & (table.statistics == measures[1])
    return table[rows & (table.seconds == seconds)].set_index("seed").accuracy


def _deep(table: pd.DataFrame, converted: pd.DataFrame) -> list[Claim]:
    bare, both = MEASURES[0], MEASURES[-1]
    best = ARMS[-1]
    clean = table[(table.arm == "unaware")].groupby("seed").clean.first()
    day = {arm: of_chips(table, arm, both, DAY) for arm in ARMS}
    drop = 100 * (of_chips(table, best, both, TIMES[0]) - day[best])
    norm = 100 * (clean - of_chips(table, "unaware", bare, DAY))
    # Without training all seeds are alike.
    free = converted[converted.arm.isin(UNTRAINED)].groupby("ohm").accuracy.max()
    own = converted[~converted.arm.isin(UNTRAINED)]
    ahead = 100 * (own.accuracy - own.ohm.map(free)).groupby(own.seed).mean()
    given = ("resnet", "points", "mean difference")
    texts = {
        "hat": "On a phase-change chip after a day, compensated and recalibrated, training with noise and clipping is "
        "ahead of no training",
        "day": f"So trained it loses at most {POINT:g} point between 20 s and a day",
        "norm": f"Without either measure a day costs the network that never saw noise {MEASURE_FAR:g} points",
        "converter": f"With {BITS:g} bits and wires training is ahead of the best measure without a gradient",
    }
    return [
        Claim("resnet.hat", texts["hat"], (100 * (day[best] - day["unaware"])).to_numpy(), ">", BETTER, *given),
        Claim("resnet.day", texts["day"], drop.to_numpy(), "<=", POINT, *given),
        Claim("resnet.norm", texts["norm"], norm.to_numpy(), ">=", MEASURE_FAR, *given),
        Claim("resnet.converter", texts["converter"], ahead.to_numpy(), ">", BETTER, *given),
    ]
