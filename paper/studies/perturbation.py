"""One perturbation: its cost, what training through it wins back, and what a few gradients say beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from lib import checks, gradients, results, runtime
from lib.hardware.crossbars import RULES, Crossbars, ideal
from lib.hardware.devices import make
from lib.hardware.networks import DATA, NETWORKS, dataset
from lib.hardware.numbers import merged
from lib.hardware.perturbations import Perturbation as Physics
from lib.hardware.sweep import Fork, Sweep
from lib.hardware.training import Trainer
from lib.replicas import unstack
from lib.verdicts import Finding, Findings, Relation, Verdict, bootstrap, judge, judge_value
from paper.studies.base import Result, Study, double_precision
from paper.studies.variants import comparisons, variants
from paper.words.hardware import words


class Recipe(NamedTuple):
    """Images of a step, steps of clean training before the fork, and steps after it where ``steps`` is "auto"."""

    batch: int
    warm_up: int
    steps: int


#: How each network is trained.
RECIPES = {
    "mlp": Recipe(128, 60, 300),
    "cnn": Recipe(64, 80, 120),
    "cnn_norm": Recipe(64, 60, 120),
    "vit": Recipe(64, 150, 150),
    "resnet": Recipe(128, 400, 2000),
}
#: Solving the circuits in every step of every replica is slow, and training through them settles early.
MOST_STEPS = {"ir_drop": 80}

# ---------------------------------------------------------------------------- thresholds, all in one place

#: Losing less than this (share of test images) is "no damage", and recovery is not defined.
DAMAGE = 0.01
#: A severity that costs at least this much hurts beyond doubt; findings speak of the mildest such severity.
CLEAR_DAMAGE = 0.05
#: Recovery from which on a perturbation counts as compensated, and below which as broken.
COMPENSATED = 0.5
BROKEN = 0.2
#: A usable gradient has this cosine with the clean one, this share of signal, this share of live weights.
COSINE = 0.5
SIGNAL = 0.1
LIVE = 0.5

NAMES = {"autograd": "vanilla training", "straight_through": "straight-through training", "unaware": "no training"}
_MODULES = ("gradients", "replicas", "runtime", "hardware")


@dataclass(frozen=True, kw_only=True)
class HardwareStudy(Study):
    """Parameters that the hardware pages share, as :class:`Perturbation` explains them."""

    rules: object = ("autograd", "straight_through")
    seeds: int = 5
    chips: int = 25
    steps: object = "auto"
    gradients: int = 32
    network: str = "mlp"
    data: str = "digits"
    root: str = ""

    def check(self) -> None:
        chosen = checks.choices("rules", self.rules, RULES)
        object.__setattr__(self, "rules", tuple(rule for rule in RULES if rule in chosen or rule == "unaware"))
        checks.integer("seeds", self.seeds, low=1)
        checks.integer("chips", self.chips, low=1)
        if self.steps != "auto":
            checks.integer("steps", self.steps, low=1)
        checks.integer("gradients", self.gradients, low=2)
        checks.choice("network", self.network, NETWORKS)
        checks.choice("data", self.data, DATA)
        if self.network == "resnet" and self.data == "digits":
            raise checks.ParameterError("network must be smaller than a resnet for digits, but 'resnet' was given.")
        # Pictures that are not there are found missing here, before anything is computed.
        dataset(self.data, self.root)

    def fork(self, hardware: str) -> Fork:
        """Where the runs through the hardware of that name begin."""
        recipe = RECIPES[self.network]
        steps = min(recipe.steps, MOST_STEPS.get(hardware, recipe.steps)) if self.steps == "auto" else self.steps
        device = runtime.resolve_device(self.device)
        return _fork(self.network, self.data, self.root, self.seeds, recipe, steps, device)

    def key(self, fork: Fork, *modules: str) -> dict[str, Any]:
        """What decides the numbers of every run from ``fork``, for the store; ``modules`` compute it besides."""
        shared = {name: getattr(self, name) for name in ("seeds", "network", "data", "chips")}
        # Pictures from a folder may change under its name; their count and first bytes say which they were.
        pictures = {"pictures": _fingerprint(self.data, self.root)} if self.data != "digits" else {}
        recipe = {"batch": fork.trainer.batch, "warm_up": fork.warm_up, "steps": fork.steps}
        return {"code": results.code_version(*_MODULES, *modules), **shared, **pictures, **recipe}


@cache
def _fork(network: str, data: str, root: str, seeds: int, recipe: Recipe, steps: int, device: torch.device) -> Fork:
    """One fork for all studies of a process that begin there."""
    trainer = Trainer.named(network, data, root, recipe.batch)
    return Fork(trainer, range(seeds), recipe.warm_up, steps, device)


@cache
def _fingerprint(data: str, root: str) -> list[float]:
    images = dataset(data, root)
    return [len(images.y), len(images.test_y), float(images.x.double().sum()), float(images.test_x.double().sum())]


@dataclass(frozen=True, kw_only=True)
class Perturbation(HardwareStudy):
    """The sweep of one perturbation over severity, seed and backward rule.

    ``perturbation`` is one of the six classes or another name of :data:`~lib.hardware.devices.HARDWARE`, ``options``
    are its fields; ``severities`` is a list in its unit, or "auto" for its own grid; ``seeds``, ``chips`` and
    ``gradients`` are numbers of them; ``steps`` are optimiser steps after the fork, for the clean run and the
    hardware-aware runs alike ("auto": as :data:`RECIPES` has them, at most 80 for IR-drop). The unaware baseline is
    always there. ``network`` is trained on ``data``, whose pictures lie in ``root`` where they do not come with the
    library. ``closer`` adds the variants of the class (:mod:`paper.studies.variants`) and chips known in training.
    """

    perturbation: str = "read_noise"
    options: Mapping[str, Any] = field(default_factory=dict)
    severities: object = "auto"
    closer: bool = True

    KEYS = ("perturbation", "network", "rule", "severity")
    TOLERANCES = {"clean": 0.02, "accuracy": 0.05}

    def check(self) -> None:
        super().check()
        if not isinstance(self.options, Mapping):
            raise checks.ParameterError(
                f"options must be a mapping of names to values, but {self.options!r} was given."
            )
        physics = make(self.perturbation, **self.options)
        if self.severities == "auto":
            severities: tuple[float, ...] = physics.grid
        else:
            severities = tuple(
                physics.check(value, "severities") for value in checks.numbers("severities", self.severities)
            )
            if len(set(severities)) < len(severities):
                raise checks.ParameterError(f"severities must be different numbers, but {self.severities!r} was given.")
        # From mild to harsh, which for an ADC is from many bits to few.
        object.__setattr__(self, "severities", tuple(sorted(severities, reverse=physics.off > physics.high)))
        checks.flag("closer", self.closer)
        if self.perturbation == "ir_drop":
            double_precision(self.device, " for ir_drop")

    def reference_name(self) -> str:
        return f"perturbation_{self.perturbation}"

    def reference(self) -> pd.DataFrame | None:
        """None with ``options``: the reference is that of the class as it is."""
        return None if self.options else super().reference()

    def write_reference(self, result: Result) -> None:
        """Refused with ``options``, which the reference knows nothing of."""
        if self.options:
            raise checks.ParameterError(f"options must be none for a reference, but {self.options!r} was given.")
        super().write_reference(result)

    @property
    def physics(self) -> Physics:
        """The perturbation itself."""
        return make(self.perturbation, **self.options)

    def run(self) -> Result:
        """Tables ``accuracy`` and ``diagnostics`` (one row for each rule, severity, seed), ``known`` (trained on the
        chip that it is judged on), ``variants`` (the class closer up) and ``summary`` (seeds joined).
        """
        store = self.store()
        physics, fork = self.physics, self.fork(self.perturbation)
        sweep = Sweep(fork, physics, self.severities, self.chips, self.gradients)
        own = {name: getattr(self, name) for name in ("perturbation", "options", "severities")}
        key = {**self.key(fork), **own}

        def stored(kind: str, run, **more: object) -> pd.DataFrame:
            table = store.get_or_run(kind, {**key, **more}, run, device=fork.device, seeds=self.seeds)
            return table.assign(network=self.network)

        parts: dict[str, list[pd.DataFrame]] = {"accuracy": [], "diagnostics": []}
        for rule in self.rules:
            parts["accuracy"].append(stored("perturbation_accuracy", partial(sweep.accuracy, rule), rule=rule))
            if rule != "unaware" or self.closer:
                run = partial(sweep.diagnostics, rule)
                given = {"rule": rule, "gradients": self.gradients}
                parts["diagnostics"].append(stored("perturbation_diagnostics", run, **given))
        tables = {kind: pd.concat(found, ignore_index=True) for kind, found in parts.items()}
        if self.closer and physics.lasting:
            tables["known"] = stored("perturbation_known", partial(sweep.accuracy, "autograd", known=True))
        if self.closer and not self.options:
            key |= self.key(fork, "studies.variants")
            tables["variants"] = variants(store, key, fork, self.perturbation, tables["accuracy"], self.chips)
        tables["summary"] = summarise(tables["accuracy"], tables["diagnostics"], tables.get("known"))
        record = results.provenance(fork.device, self.seeds, store.seconds)
        return Result(tables, findings(physics, tables), record)


# -------------------------------------------------------------------------------------------- reading tables


def paired(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Rows of trained rules with the unaware accuracy of the same seed and severity (or composed chip) beside them.

    Adds ``unaware``, ``damage`` = clean - unaware and ``gain`` = accuracy - unaware.
    """
    keys = ["network", "perturbation", "parts" if "parts" in accuracy else "severity", "seed"]
    base = accuracy[accuracy.rule == "unaware"][[*keys, "accuracy"]].rename(columns={"accuracy": "unaware"})
    table = accuracy[accuracy.rule != "unaware"].merge(base, on=keys)
    return table.assign(damage=table.clean - table.unaware, gain=table.accuracy - table.unaware)


def recovery(damage: Sequence[float], gain: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Recovery over seeds, sum of gains over sum of damages, with a bootstrap interval over seeds.

    A ratio of means: with the seed's own small damage as a denominator, single ratios run off to infinity.
    NaN ("no damage") where the mean damage is below DAMAGE.
    """
    pairs = np.stack([np.asarray(damage, dtype=float), np.asarray(gain, dtype=float)])
    if pairs[0].mean() < DAMAGE:
        return float("nan"), (float("nan"), float("nan"))
    seeds = np.arange(pairs.shape[1])

    def ratio(picked: np.ndarray, axis: int | None = None) -> np.ndarray:
        lost, won = pairs[:, np.asarray(picked, dtype=int)]
        # A resample may hold only seeds that lost nothing.
        return won.mean(axis) / np.maximum(lost.mean(axis), DAMAGE / 10)

    return float(ratio(seeds)), bootstrap(seeds, ratio)


def over_seeds(
    claim: str,
    value: Callable[[np.ndarray], float],
    seeds: int,
    relation: Relation,
    limit: float,
    unit: str,
    name: str,
) -> Finding:
    """A claim on a value that is computed from some seeds, given by their places."""
    places = np.arange(seeds)
    interval = bootstrap(places, lambda picked: np.array(value(np.asarray(picked, dtype=int))), resamples=400)
    return judge_value(claim, value(places), interval, relation, limit, unit=unit, name=name)


def verdict(damage: float, won_back: float) -> Verdict:
    """What the runs say about one severity and backward rule."""
    if damage < DAMAGE:
        reason = f"the unaware network loses {100 * damage:.1f} points"
        return Verdict("no damage", (reason,), "Nothing to do.")
    reason = f"training wins back {100 * won_back:.0f} % of {100 * damage:.1f} points"
    if won_back >= COMPENSATED:
        return Verdict("compensated", (reason,), "Train through it.")
    if won_back >= BROKEN:
        return Verdict("in part", (reason,), "Train through it, and reduce it by calibration or in the circuit.")
    return Verdict("broken", (reason,), "Change the backward rule, the calibration or the circuit.")


def on_known_chips(accuracy: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Runs trained on the chip that they are judged on, beside an unaware network on that same chip."""
    first = accuracy[accuracy.rule == "unaware"].assign(accuracy=lambda table: table["first"])
    return paired(pd.concat([first, known], ignore_index=True))


def summarise(accuracy: pd.DataFrame, diagnostics: pd.DataFrame, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per network, perturbation, rule and severity: seeds joined, recovery, verdict, median diagnostics.

    ``known`` is the recovery by vanilla training on the chip itself, where that was run.
    """
    measured = ["cosine", "bias", "truth", "variance", "signal", "live", "gain", "rank"]
    keys = ["network", "perturbation", "rule", "severity"]
    of_known = {}
    if known is not None:
        for severity, group in on_known_chips(accuracy, known).groupby("severity"):
            of_known["autograd", severity] = recovery(group.damage, group.gain)[0]
    rows = []
    for (network, name, rule, severity), group in paired(accuracy).groupby(keys, sort=False):
        won_back, interval = recovery(group.damage, group.gain)
        same = (diagnostics[keys] == [network, name, rule, severity]).all(axis=1)
        rows.append(
            {
                "network": network,
                "perturbation": name,
                "rule": rule,
                "severity": severity,
                **{
                    column: group[column].mean()
                    for column in ("clean", "unaware", "accuracy", "low", "damage", "crest")
                },
                "recovery": won_back,
                "recovery_low": interval[0],
                "recovery_high": interval[1],
                "known": of_known.get((rule, severity), float("nan")),
                "verdict": verdict(group.damage.mean(), won_back).name,
                # The median: a variance ratio may be infinite in one seed.
                **diagnostics.loc[same, measured].rename(columns={"gain": "sensitivity"}).median().to_dict(),
                "steps": int(group.steps.iloc[0]),
            }
        )
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------------- findings


def _at(table: pd.DataFrame, severity: float | None, rule: str, column: str) -> np.ndarray:
    """The seeds' values at one severity; none where the severity does not exist."""
    return table[(table.severity == severity) & (table.rule == rule)][column].to_numpy()


def findings(physics: Physics, tables: dict[str, pd.DataFrame]) -> Findings:
    """The claims of a perturbation page. Criteria are fixed here, before any number is known."""
    runs = paired(tables["accuracy"])
    # In percentage points: what was won back beyond the share that counts as compensated.
    runs = runs.assign(beyond=100 * (runs.gain - COMPENSATED * runs.damage), points=100 * runs.gain)
    diagnostics = tables["diagnostics"]
    damage = tables["accuracy"][tables["accuracy"].rule == "unaware"]
    damage = damage.assign(points=100 * (damage.clean - damage.accuracy))
    mean = damage.groupby("severity", sort=False).points.mean()
    clear = mean[mean >= 100 * CLEAR_DAMAGE]
    mildest = clear.index[0] if len(clear) else None
    harshest = mean.index[-1]
    found = Findings()
    name = physics.title
    found.append(
        judge(
            f"{name}: an unaware network loses at least {100 * CLEAR_DAMAGE:g} points at the harshest severity",
            _at(damage, harshest, "unaware", "points"),
            ">=",
            100 * CLEAR_DAMAGE,
            unit="points",
            name="mean loss",
        )
    )
    rules = [rule for rule in NAMES if rule in set(runs.rule)]
    half = f"won back minus {COMPENSATED:g} of the loss"
    where = {f"the mildest severity that costs {100 * CLEAR_DAMAGE:g} points": mildest}
    if mildest != harshest:
        where["the harshest severity"] = harshest
    for rule in rules:
        for place, severity in where.items():
            claim = f"{NAMES[rule].capitalize()} wins back at least half of the loss at {place}"
            found.append(judge(claim, _at(runs, severity, rule, "beyond"), ">=", 0, unit="points", name=half))
    if len(rules) == 2:
        hurt = runs[runs.severity.isin(clear.index)]
        table = hurt.pivot_table(index="seed", columns="rule", values="points")
        found.append(
            judge(
                "Straight-through wins back more than vanilla training, over all severities that cost as much",
                (table[rules[1]] - table[rules[0]]).to_numpy() if len(table) else [],
                ">",
                0,
                unit="points",
                name="mean difference",
            )
        )
    if "autograd" in rules:
        for claim, column, threshold in (
            (f"Consistent: the vanilla gradient keeps a cosine of {COSINE:g} with the clean one", "cosine", COSINE),
            (f"Bounded: at least {SIGNAL:g} of the vanilla gradient's second moment is signal", "signal", SIGNAL),
            (f"Sensitive: at least {LIVE:g} of the clean network's live weights get a vanilla gradient", "live", LIVE),
        ):
            values = _at(diagnostics, harshest, "autograd", column)
            found.append(judge(f"{claim}, at the harshest severity", values, ">=", threshold, name="mean"))
    if "known" in tables:
        chips = on_known_chips(tables["accuracy"], tables["known"])
        chips = chips.assign(beyond=100 * (chips.gain - COMPENSATED * chips.damage))
        claim = "A chip that is known in training: vanilla training wins back at least half of the loss at the harshest"
        values = chips[chips.severity == harshest].beyond
        found.append(judge(f"{claim} severity", values, ">=", 0, unit="points", name=half))
    if "variants" in tables:
        found.extend(comparisons(physics.name, tables["variants"]))
    return found


# ---------------------------------------------------------------------------------------------------- prose


def about(physics: Physics) -> str:
    """The paragraphs of a page on its perturbation (Markdown): physics, law, what severity means."""
    said = words(physics.name)
    span = f"from {physics.low:g} to {physics.high:g} {physics.unit}"
    off = "not converting at all" if physics.off > physics.high else f"{physics.off:g}"
    reads = bool(physics.draw_read((1, 1), torch.Generator()))
    chips = {
        (True, False): "The random numbers belong to the *chip*: drawn once, then frozen.",
        (False, True): "The random numbers belong to the *read*: every operation draws new ones.",
        (True, True): "Some random numbers belong to the *chip*, drawn once, others to the *read*, drawn each time.",
        (False, False): "Nothing is random: all chips with the same weights are alike, and one stands for all.",
    }[physics.lasting, reads]
    return (
        (f"{said.physics}\n\n" if said.physics else "")
        + (f"$$ {said.formula} $$\n\n" if said.formula else "")
        + f"**Severity** is the {physics.measures}, {span}; off is {off}. {chips}"
        + (f"\n\n**What to look for.** {said.lesson}" if said.lesson else "")
    )


def plain(value: float) -> str:
    """A share with two decimals, a true minus sign and no negative zero."""
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def story(result: Result, physics: Physics) -> str:
    """What came out, in sentences with the measured numbers (Markdown)."""
    table = result.tables["summary"]
    clear = table[table.damage >= CLEAR_DAMAGE]
    unit = f" {physics.unit}"
    if not len(clear):
        return f"No severity costs {100 * CLEAR_DAMAGE:g} points: an unaware network does not mind {physics.title}."
    first, last = clear.severity.iloc[0], table.severity.iloc[-1]
    lines = []
    for severity in dict.fromkeys((first, last)):
        here = table[table.severity == severity]
        parts = [
            f"{NAMES[row.rule]} brings it to {100 * row.accuracy:.0f} %, a recovery of {plain(row.recovery)} "
            f"([{plain(row.recovery_low)}, {plain(row.recovery_high)}])"
            for row in here.itertuples()
        ]
        lines.append(
            f"- At **{severity:g}{unit}** an unaware network is right on {100 * here.unaware.iloc[0]:.0f} % "
            f"instead of {100 * here.clean.iloc[0]:.0f} %; {'; '.join(parts)}."
        )
    runs = result.tables["accuracy"]
    at_first = runs[runs.severity == first].groupby("rule", sort=False).crest.mean()
    stand = ", ".join(f"{value:.1f} times after {NAMES[rule]}" for rule, value in at_first.items() if rule != "unaware")
    lines.append(
        "- The largest weight of a layer, which sets the scale of its conductances, is "
        f"{at_first['unaware']:.1f} times the root mean square in the clean network, and at {first:g}{unit} {stand}."
    )
    return "\n".join(lines)


def verdicts(result: Result) -> pd.DataFrame:
    """The verdict table of a page, rounded for reading."""
    table = result.tables["summary"]
    percent = 100 * table[["unaware", "accuracy", "low"]]
    shown = table[["severity", "rule"]].join(percent.round(1))
    for column in ("recovery", "known"):
        shown[column] = ["–" if value != value else plain(value) for value in table[column]]
    return shown.assign(verdict=table.verdict, steps=table.steps)


# ----------------------------------------------------------------------------------------- looking and trying


@dataclass(frozen=True)
class Look:
    """One layer and one gradient, through one chip: flat samples of ideal and real values, in pairs.

    ``currents`` [2, n] are the first layer's outputs on one batch, ``gradient`` [2, n] one sampled gradient
    of the loss with respect to the weights, with the clean gradient first in both.
    """

    currents: np.ndarray
    gradient: np.ndarray
    cosine: float


def look(study: Perturbation, severity: float, rule: str, points: int = 500) -> Look:
    """What the perturbation does to the forward and to the backward pass at the fork, for the first seed."""
    return _bench(study.physics, study.network, study.data, study.root).at(severity, rule, points)


class _Bench:
    """The fork of the first seed, a batch and a chip, kept between the panels of a what-if."""

    def __init__(self, physics: Physics, trainer: Trainer, warm_up: int) -> None:
        self.physics, self.trainer = physics, trainer
        self.params = unstack(trainer.fork([0], warm_up, torch.device("cpu")), 0)
        self.batch = trainer.images(0, "diagnosis")
        chip = trainer.chip(self.physics, 0, "diagnosis chip", 0)
        read = trainer.read(self.physics, trainer.batch, 0, "diagnosis", 0)
        self.drawn = {"chip": chip, "read": read}

    def at(self, severity: float, rule: str, points: int) -> Look:
        inputs = {**self.batch, **self.drawn, "severity": torch.tensor(float(severity))}
        pairs = []

        def first(layer: str, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            y = ideal(layer, x, weight)
            if not pairs:
                crossbars = Crossbars(self.physics, inputs["severity"], "autograd", merged(*self.drawn.values()))
                pairs.append(torch.stack([y, crossbars(layer, x, weight)]).flatten(1))
            return y

        network = self.trainer.network
        network(self.params, self.batch["x"], first)
        rows = []
        for hardware in (None, self.physics):
            tree = torch.func.grad(self.trainer.objective)(self.params, inputs, hardware, rule)
            rows.append(gradients.flatten(network.weights(tree)))
        picked = runtime.stream(0, "points")
        columns = [torch.randperm(part.shape[-1], generator=picked)[:points] for part in (pairs[0], rows[0])]
        return Look(
            pairs[0][:, columns[0]].detach().numpy(),
            torch.stack(rows)[:, columns[1]].numpy(),
            gradients.cosine(*rows),
        )


@cache
def _bench(physics: Physics, network: str, data: str, root: str) -> _Bench:
    recipe = RECIPES[network]
    return _Bench(physics, Trainer.named(network, data, root, recipe.batch), recipe.warm_up)


def attempt(study: Perturbation, severity: float, rule: str, steps: int = 40, chips: int = 10) -> pd.DataFrame:
    """A small experiment of one seed, about a second: a clean, an unaware and a hardware-aware network.

    ``steps`` after the fork. Columns ``network``, ``accuracy``, ``low`` (5th percentile over chips).
    """
    physics = study.physics
    severity = physics.check(severity)
    checks.choice("rule", rule, RULES)
    recipe = RECIPES[study.network]
    trainer = Trainer.named(study.network, study.data, study.root, recipe.batch)
    fork = Fork(trainer, [0], recipe.warm_up, checks.integer("steps", steps, low=1), torch.device("cpu"))
    sweep = Sweep(fork, physics, [severity], chips)
    clean = float(trainer.accuracy(fork.clean)[0])
    rows = [("clean, no hardware", clean, clean)]
    for one in dict.fromkeys(("unaware", rule)):
        (seen,) = sweep.accuracy(one).itertuples()
        rows.append(("unaware" if one == "unaware" else NAMES[one], seen.accuracy, seen.low))
    return pd.DataFrame(rows, columns=["network", "accuracy", "low"])
