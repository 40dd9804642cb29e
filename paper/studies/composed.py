"""Several perturbations on one chip: does what each does alone say what they do together?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import checks, results
from lib.hardware.crossbars import Crossbars, ideal
from lib.hardware.devices import HARDWARE, ORDER, Composite, make
from lib.hardware.networks import dataset
from lib.hardware.numbers import merged
from lib.hardware.training import severity_of_replicas, spread, tiled
from lib.replicas import Nested, Tree
from lib.verdicts import Finding, Findings, Relation, judge
from paper.studies.base import Result, double_precision
from paper.studies.perturbation import (
    BROKEN,
    CLEAR_DAMAGE,
    DAMAGE,
    NAMES,
    RECIPES,
    HardwareStudy,
    over_seeds,
    paired,
    plain,
    recovery,
    verdict,
)
from paper.sweep import Fork, Sweep

#: One moderate severity of each class: alone it costs a small network between three and twenty points.
SEVERITIES = {
    "read_noise": 0.05,
    "variability": 0.1,
    "drift": 3.15e8,
    "stuck_at": 0.01,
    "ir_drop": 100.0,
    "adc": 3.0,
}
#: Steps after the fork where they are "auto", or as many as the network's recipe has: many chips are trained.
STEPS = 100
#: How each rule trains: the backward rule, and what its converter does with the gradient. Vanilla training has a
#: converter that lets the gradient pass and learns its range; on the "staircase" it has the converter's own derivative.
ARMS = {
    "unaware": ("unaware", "quantile"),
    "autograd": ("autograd", "learned"),
    "straight_through": ("straight_through", "quantile"),
    "staircase": ("autograd", "quantile"),
}
#: From the mildest verdict to the worst.
WORST = ("no damage", "compensated", "in part", "broken")
#: What these add to a current has a size of its own; what the others add shrinks with the signal.
ABSOLUTE = ("stuck_at", "read_noise")
#: Chips on which signal and noise of the currents are measured.
SIGNAL_CHIPS = 4
#: Severities of read noise alone, with which any other noise is measured.
RULER = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)

# ------------------------------------------------------------- criteria, fixed before any composed chip was run

#: A predicted loss is right when it is off by at most this share of the test images, in the mean.
LOSS_ERROR = 0.05
#: A predicted recovery is right when it is off by at most this, in the mean.
RECOVERY_ERROR = 0.1
#: The share of verdicts that a rule for them must get right.
VERDICTS_RIGHT = 0.8
#: Two rules differ when they are this many points apart.
POINTS = 5.0
#: Noise over signal is predicted when it is off by at most this share, in the mean.
NOISE_ERROR = 0.2
#: Rank correlation from which on one number says what another will be.
FOLLOWS = 0.9

Parts = tuple[str, ...]
_STAGES = {
    "voltage": "on the voltages that enter",
    "conductance": "on the conductances",
    "current": "on the currents that leave",
    "digital": "behind the converter",
}


def label(parts: Sequence[str]) -> str:
    """The parts of a chip as one name."""
    return " + ".join(parts)


def split(name: str) -> Parts:
    """The parts that a name stands for."""
    return tuple(name.split(" + "))


def chip(parts: Sequence[str], calibration: str = "quantile", solver: str = "circuit") -> Composite:
    """A chip with these parts; ``calibration`` is its converter's, ``solver`` that of its wires."""
    options = {"adc": {"calibration": calibration}, "ir_drop": {"solver": solver}}
    return Composite(make(name, **options.get(name, {})) for name in parts)


def order() -> str:
    """The order in which a signal meets the parts of a chip (Markdown)."""
    lines = []
    for place, kind in enumerate(ORDER, 1):
        stages = [words for method, words in _STAGES.items() if method in vars(kind)]
        lines.append(f"{place}. **{kind.title}**: {', and '.join(stages)}")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Composed(HardwareStudy):
    """Chips with several of the six classes at once, and a phase-change chip with its own physics.

    ``classes`` are two or more of the six, or others with a severity of theirs; ``severities`` maps classes to
    severities other than :data:`SEVERITIES` ("auto": none). Every class is run alone, all of them together, and all
    but one; ``pairs`` says which classes are also paired: "auto" (all but ir_drop, whose circuits take long to solve),
    "all" or a list of names. ``times`` are seconds after programming at which the phase-change chip is looked at. The
    rest is as in :class:`~paper.studies.perturbation.Perturbation`; ``steps`` "auto" are at most :data:`STEPS`.
    """

    classes: object = tuple(SEVERITIES)
    severities: object = "auto"
    pairs: object = "auto"
    times: object = (20.0, 8.64e4, 3.15e7, 3.15e9)
    gradients: int = 16

    KEYS = ("network", "parts", "rule")
    TOLERANCES = {"damage": 0.05, "recovery": 0.2}

    def check(self) -> None:
        super().check()
        if self.rules == ("unaware",):
            raise checks.ParameterError("rules must be at least one that trains, but 'unaware' was given.")
        single = [name for name, one in HARDWARE.items() if not isinstance(one, Composite)]
        chosen = checks.choices("classes", self.classes, single)
        if len(chosen) < 2:
            raise checks.ParameterError(f"classes must be at least two names, but {self.classes!r} was given.")
        classes = tuple(name for name in single if name in chosen)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "severities", self._severities(classes))
        if self.pairs in ("auto", "all"):
            paired_ = tuple(name for name in classes if self.pairs == "all" or name != "ir_drop")
        else:
            paired_ = checks.choices("pairs", self.pairs, classes)
            if len(paired_) < 2:
                raise checks.ParameterError(f"pairs must be at least two names, but {self.pairs!r} was given.")
        object.__setattr__(self, "pairs", tuple(name for name in classes if name in paired_))
        times = tuple(make("pcm").check(time, "times") for time in checks.numbers("times", self.times))
        if len(set(times)) < len(times):
            raise checks.ParameterError(f"times must be different numbers, but {self.times!r} was given.")
        object.__setattr__(self, "times", tuple(sorted(times)))
        if "ir_drop" in classes:
            double_precision(self.device, " for ir_drop")

    def _severities(self, classes: Parts) -> dict[str, float]:
        given = {} if self.severities == "auto" else self.severities
        if not isinstance(given, Mapping):
            raise checks.ParameterError(
                f"severities must be auto or a mapping of classes to numbers, but {given!r} was given."
            )
        for name in given:
            checks.choice("severities", name, classes)
        found = {}
        for name in classes:
            physics = HARDWARE[name]
            found[name] = physics.check(given.get(name, SEVERITIES.get(name)), f"severities of {name}")
            if found[name] == physics.off:
                raise checks.ParameterError(
                    f"severities of {name} must be other than its off, but {given[name]!r} was given."
                )
        return found

    def start(self) -> Fork:
        """Where all runs begin."""
        steps = min(RECIPES[self.network].steps, STEPS) if self.steps == "auto" else self.steps
        return replace(self, steps=steps).fork("composite")

    def vectors(self) -> list[Parts]:
        """The parts of every chip: one alone, pairs, all but one, all."""
        most = self.classes
        alone = [(name,) for name in most]
        without = [tuple(one for one in most if one != name) for name in most] if len(most) > 2 else []
        return list(dict.fromkeys([*alone, *combinations(self.pairs, 2), *without, most]))

    def kind(self, parts: Parts) -> str:
        """What a chip is there for."""
        if len(parts) == 1:
            return "alone"
        if parts == self.classes:
            return "all"
        return "pair" if len(parts) == 2 else "all but one"

    def groups(self, vectors: Sequence[Parts]) -> list[tuple[Parts, list[Parts]]]:
        """The chips in batches, with the parts that a batch needs: those without wires need no circuit solved.

        Wires draw no random numbers, so a chip has the same ones in either batch.
        """
        dry = tuple(name for name in self.classes if name != "ir_drop")
        found = [
            (dry, [parts for parts in vectors if "ir_drop" not in parts]),
            (self.classes, [parts for parts in vectors if "ir_drop" in parts]),
        ]
        return [(present, group) for present, group in found if group]

    def sweep(self, fork: Fork, present: Parts, group: Sequence[Parts], arm: str = "unaware", chips: int = 0) -> Sweep:
        """The runs of a batch: wires are trained through by the formula, and judged as a circuit."""
        calibration = ARMS[arm][1]
        seen, through = (chip(present, calibration, solver) for solver in ("circuit", "approximate"))
        values = [seen.check({name: self.severities[name] for name in parts}) for parts in group]
        return Sweep(fork, through, values, chips or self.chips, self.gradients, judge=seen)

    def run(self) -> Result:
        """Tables ``accuracy`` (one row for each rule, chip and seed), ``summary`` (seeds joined, with predictions),
        ``removed``, ``signal`` (what reaches the layers), ``ruler`` (read noise alone), ``diagnostics`` (at the fork)
        and ``phase_change``.
        """
        store, fork = self.store(), self.start()
        key, vectors = self.key(fork, "studies.composed"), self.vectors()

        def stored(kind: str, run: Callable[[], pd.DataFrame], **more: object) -> pd.DataFrame:
            return store.get_or_run(kind, {**key, **more}, run, device=fork.device, seeds=self.seeds)

        def collected(kind: str, wanted: Sequence[Parts], run: Callable[[Sweep], pd.DataFrame], arm: str = "unaware"):
            tables = []
            for present, group in self.groups(wanted):
                sweep = self.sweep(fork, present, group, arm)
                severities = {name: self.severities[name] for name in present}
                given = {"parts": [list(parts) for parts in group], "of": severities, "arm": arm}
                more = {"gradients": self.gradients} if kind == "composed_diagnostics" else {}
                table = stored(kind, partial(run, sweep), **given, **more)
                names = [label(group[place]) for place in table.chip_index]
                kinds = [self.kind(group[place]) for place in table.chip_index]
                places = [vectors.index(group[place]) for place in table.chip_index]
                tables.append(table.assign(parts=names, kind=kinds, chip_index=places))
            return pd.concat(tables, ignore_index=True)

        accuracy = []
        for arm in self.arms():
            wanted = self._on_staircase() if arm == "staircase" else vectors
            table = collected("composed_accuracy", wanted, lambda sweep, arm=arm: sweep.accuracy(ARMS[arm][0]), arm)
            accuracy.append(table.assign(rule=arm, network=self.network))
        runs = pd.concat(accuracy, ignore_index=True)
        told = [parts for parts in vectors if self.kind(parts) in ("alone", "all")]
        # With the converter of vanilla training, whose gradient it is.
        diagnostics = collected("composed_diagnostics", told, lambda sweep: sweep.diagnostics("autograd"), "autograd")
        signal = collected("composed_signal", vectors, signal_and_noise)
        noises = Sweep(fork, make("read_noise"), RULER, self.chips)
        scale = stored("composed_ruler", partial(ruler, noises), severities=RULER)
        signal = by_ruler(noise(signal), scale)
        tables = {
            "accuracy": runs,
            "summary": summarise(runs, signal, self.chance),
            "removed": removed(runs),
            "signal": signal,
            "ruler": scale,
            "diagnostics": diagnostics,
            "phase_change": self._phase_change(fork, stored),
        }
        record = results.provenance(fork.device, self.seeds, store.seconds)
        return Result(tables, findings(tables, self.chance), record)

    def arms(self) -> list[str]:
        """The rules that are run: those asked for, and the staircase beside vanilla training where there is one."""
        staircase = "adc" in self.classes and "autograd" in self.rules
        return [arm for arm in ARMS if arm in self.rules or (arm == "staircase" and staircase)]

    def _on_staircase(self) -> list[Parts]:
        return [("adc",), self.classes]

    @property
    def chance(self) -> float:
        """The accuracy of a guess."""
        return 1 / dataset(self.data, self.root).classes

    def _phase_change(self, fork: Fork, stored: Callable[..., pd.DataFrame]) -> pd.DataFrame:
        tables = []
        for compensation in ("none", "global"):
            physics = make("pcm", compensation=compensation)
            sweep = Sweep(fork, physics, self.times, self.chips)
            for rule in ("unaware", "autograd"):
                given = {"compensation": compensation, "rule": rule, "times": self.times}
                table = stored("composed_pcm", partial(sweep.accuracy, rule), **given)
                tables.append(table.assign(compensation=compensation, network=self.network))
        return pd.concat(tables, ignore_index=True).rename(columns={"severity": "time"})

    def summary(self, result: Result) -> pd.DataFrame:
        return result.tables["summary"][[*self.KEYS, *self.TOLERANCES]].reset_index(drop=True)


# ----------------------------------------------------------------------------------------------- the currents


@torch.no_grad()
def signal_and_noise(sweep: Sweep) -> pd.DataFrame:
    """What reaches the layers of unaware networks, one row for each chip of a batch, seed and layer.

    Each layer gets its ideal input. ``signal`` is the slope of its real currents over the ideal ones, ``error`` the
    root mean square of what the slope leaves, relative to that of the ideal currents; over :data:`SIGNAL_CHIPS` chips.
    """
    fork, physics = sweep.fork, sweep.judge or sweep.physics
    trainer, seeds, repeat = fork.trainer, fork.seeds, len(sweep.severities)
    params = tiled(fork.clean, repeat)
    severity = severity_of_replicas(sweep.severities, seeds, fork.device)

    def one(own: Tree, severity: Tensor, drawn: Nested) -> Tensor:
        crossbars = Crossbars(physics, severity, "autograd", merged(drawn["chip"], drawn["read"]))
        found = []

        def product(layer: str, x: Tensor, weight: Tensor) -> Tensor:
            y = ideal(layer, x, weight)
            real = crossbars(layer, x, weight)
            slope = (y * real).sum() / y.square().sum()
            rest = (real - slope * y).square().sum() / y.square().sum()
            found.append(torch.stack([slope, rest]))
            return y

        trainer.network(own, drawn["x"], product)
        return torch.stack(found)

    chips = []
    for number in range(SIGNAL_CHIPS):
        per_seed = [
            {
                "x": trainer.images(seed, "signal")["x"],
                "chip": trainer.chip(physics, seed, "signal", number),
                "read": trainer.read(physics, trainer.batch, seed, "signal", number),
            }
            for seed in seeds
        ]
        chips.append(torch.func.vmap(one)(params, severity, spread(per_seed, repeat, fork.device)))
    mean = torch.stack(chips).mean(0).cpu().numpy()
    replicas = [(place, seed) for place in range(repeat) for seed in seeds]
    return pd.DataFrame(
        [
            {"chip_index": place, "seed": seed, "layer": layer, "signal": signal, "error": float(rest) ** 0.5}
            for (place, seed), layers in zip(replicas, mean, strict=True)
            for layer, (signal, rest) in zip(trainer.network.layers, layers, strict=True)
        ]
    )


def noise(signal: pd.DataFrame) -> pd.DataFrame:
    """Noise over signal of every chip and seed, all layers added up, and two predictions of it from the parts alone.

    ``unordered``: the squares of the parts' noise over signal add. ``ordered``: in the order of the physics, and what
    an :data:`ABSOLUTE` part adds is weighed against the signal that the parts before it have left.
    """
    wide = signal.pivot_table(index="parts", columns=["seed", "layer"], values=["signal", "error"], sort=False)
    rows = []
    for name in wide.index:
        parts = [part.name for part in chip(split(name)).parts]
        left, unordered, ordered = 1.0, 0.0, 0.0
        for part in parts:
            alone = wide.loc[part]
            own = (alone["error"] / alone["signal"]) ** 2
            unordered = unordered + own
            ordered = ordered + (own / left**2 if part in ABSOLUTE else own)
            left = left * alone["signal"]
        here = wide.loc[name]
        columns = {"measured": (here["error"] / here["signal"]) ** 2, "unordered": unordered, "ordered": ordered}
        seeds = {kind: value.groupby("seed").sum() ** 0.5 for kind, value in columns.items()}
        kept = here["signal"].groupby("seed").mean()
        rows.append(pd.DataFrame(seeds).assign(signal=kept, parts=name, kind=len(parts)).reset_index())
    kinds = signal.drop_duplicates("parts").set_index("parts").kind
    table = pd.concat(rows, ignore_index=True)
    return table.assign(kind=table.parts.map(kinds))


def ruler(sweep: Sweep) -> pd.DataFrame:
    """Noise over signal and loss of an unaware network, one row for each severity and seed."""
    signal = signal_and_noise(sweep)
    squares = (signal["error"] / signal["signal"]) ** 2
    measured = squares.groupby([signal.chip_index, signal.seed]).sum() ** 0.5
    runs = sweep.accuracy("unaware").reset_index(drop=True)
    places = pd.MultiIndex.from_arrays([runs.index // len(sweep.fork.seeds), runs.seed])
    noise_ = measured.loc[places].to_numpy()
    return pd.DataFrame(
        {"severity": runs.severity, "seed": runs.seed, "measured": noise_, "damage": runs.clean - runs.accuracy}
    )


def by_ruler(signal: pd.DataFrame, scale: pd.DataFrame) -> pd.DataFrame:
    """``signal`` with the loss that read noise of the same size does, seed by seed: ``by_noise``.

    The size is the one predicted from the parts in the order of the physics.
    """
    values = signal["ordered"].copy()
    for seed, own in scale.groupby("seed"):
        own = own.sort_values("measured")
        here = signal.seed == seed
        values[here] = np.interp(signal["ordered"][here], [0, *own["measured"]], [0, *own["damage"]])
    return signal.assign(by_noise=values)


# ------------------------------------------------------------------------------------------------ predictions


def summed(damage: np.ndarray, clean: float, chance: float) -> float:
    """The loss of a chip if the losses of its parts add, as far as there is anything to lose."""
    return float(min(np.sum(damage), clean - chance))


def in_logits(damage: np.ndarray, clean: float, chance: float) -> float:
    """The loss of a chip if the parts' losses add in the log-odds of the accuracy above chance."""

    def odds(accuracy: np.ndarray) -> np.ndarray:
        above = np.clip((accuracy - chance) / (1 - chance), 1e-3, 1 - 1e-3)
        return np.log(above / (1 - above))

    before = odds(np.asarray(clean))
    after = before - np.sum(before - odds(clean - np.asarray(damage)))
    return float(clean - chance - (1 - chance) / (1 + np.exp(-after)))


def weighted(damage: np.ndarray, gain: np.ndarray) -> float:
    """The mean recovery of the parts, weighted by their losses; nan where they lose nothing together."""
    return float(np.sum(gain) / np.sum(damage)) if np.sum(damage) >= DAMAGE else float("nan")


def worst(verdicts: Sequence[str]) -> str:
    """The worst of several verdicts."""
    return max(verdicts, key=WORST.index)


class Cells(NamedTuple):
    """Chips of one rule: their parts, and clean accuracy [seeds], damage and gain [chips, seeds]."""

    parts: list[Parts]
    clean: np.ndarray
    damage: np.ndarray
    gain: np.ndarray

    def alone(self, parts: Parts) -> list[int]:
        """Where the parts of a chip stand alone."""
        return [self.parts.index((part,)) for part in parts]


def cells(runs: pd.DataFrame, rule: str) -> Cells:
    """The paired runs of one rule. Parts that were not run alone under it are those of vanilla training."""
    chosen = runs[runs.rule == rule]
    if rule == "staircase":
        # Without a converter there are no stairs.
        missing = runs[(runs.rule == "autograd") & (runs.kind == "alone") & ~runs.parts.isin(chosen.parts)]
        chosen = pd.concat([missing, chosen], ignore_index=True)
    wide = {
        column: chosen.pivot_table(index="parts", columns="seed", values=column, sort=False)
        for column in ("clean", "damage", "gain")
    }
    names = list(wide["damage"].index)
    values = {column: table.loc[names].to_numpy() for column, table in wide.items()}
    return Cells([split(name) for name in names], values["clean"][0], values["damage"], values["gain"])


def errors(table: Cells, chance: float, picked: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
    """How far every prediction is off on every composed chip, means over the ``picked`` seeds."""
    clean, lost, won = (value[..., picked].mean(-1) for value in (table.clean, table.damage, table.gain))
    off: dict[str, list[float]] = {"summed": [], "in_logits": [], "weighted": [], "worst": [], "of_weighted": []}
    verdicts = [verdict(one, two / max(one, DAMAGE / 10)).name for one, two in zip(lost, won, strict=True)]
    for place, parts in enumerate(table.parts):
        if len(parts) == 1:
            continue
        own = table.alone(parts)
        back = weighted(lost[own], won[own])
        off["summed"].append(lost[place] - summed(lost[own], clean, chance))
        off["in_logits"].append(lost[place] - in_logits(lost[own], clean, chance))
        off["weighted"].append(won[place] / max(lost[place], DAMAGE) - (0.0 if back != back else back))
        off["worst"].append(float(verdicts[place] != worst([verdicts[i] for i in own])))
        off["of_weighted"].append(float(verdicts[place] != verdict(lost[own].sum(), back).name))
    return {name: np.array(values) for name, values in off.items()}


def summarise(accuracy: pd.DataFrame, signal: pd.DataFrame, chance: float) -> pd.DataFrame:
    """One row for each chip and rule: what it loses, what comes back, its verdict, and the predictions of all three."""
    runs, rows = paired(accuracy), []
    by_noise = signal.groupby("parts").by_noise.mean()
    for rule in dict.fromkeys(runs.rule):
        table = cells(runs, rule)
        verdicts = {}
        for parts, damage, gain in zip(table.parts, table.damage, table.gain, strict=True):
            won_back, interval = recovery(damage, gain)
            verdicts[parts] = verdict(damage.mean(), won_back).name
            group = runs[(runs.rule == rule) & (runs.parts == label(parts))]
            if not len(group):
                continue
            own = table.alone(parts)
            lost, won, clean = table.damage[own].mean(1), table.gain[own].mean(1), table.clean.mean()
            back = weighted(lost, won)
            rows.append(
                {
                    "network": group.network.iloc[0],
                    "parts": label(parts),
                    "kind": group.kind.iloc[0],
                    "rule": rule,
                    **{column: group[column].mean() for column in ("clean", "unaware", "accuracy", "low")},
                    "damage": damage.mean(),
                    "summed": summed(lost, clean, chance),
                    "in_logits": in_logits(lost, clean, chance),
                    "by_noise": by_noise[label(parts)],
                    "recovery": won_back,
                    "recovery_low": interval[0],
                    "recovery_high": interval[1],
                    "weighted": back,
                    "verdict": verdicts[parts],
                    "of_weighted": verdict(lost.sum(), back).name,
                    "worst": worst([verdicts[(part,)] for part in parts]),
                    "steps": int(group.steps.iloc[0]),
                }
            )
    return pd.DataFrame(rows)


def removed(accuracy: pd.DataFrame) -> pd.DataFrame:
    """What the full chip gets back without one of its parts, one row for each rule, part and seed.

    Column ``alone``: what that part costs alone.
    """
    wide = accuracy.pivot_table(index=["rule", "seed"], columns="parts", values="accuracy", sort=False)
    full = accuracy[accuracy.kind == "all"].parts.iloc[0]
    clean = accuracy.drop_duplicates("seed").set_index("seed").clean
    rows = []
    for part in split(full):
        rest = label(one for one in split(full) if one != part)
        cost = clean - wide.loc["unaware", part]
        for rule in (name for name in dict.fromkeys(accuracy.rule) if name != "staircase"):
            back = wide.loc[rule, rest] - wide.loc[rule, full]
            rows.append(pd.DataFrame({"back": back, "alone": cost}).assign(rule=rule, part=part).reset_index())
    return pd.concat(rows, ignore_index=True)


# -------------------------------------------------------------------------------------------------- findings


def _mean_error(table: Cells, chance: float, column: str, relation: Relation, limit: float, claim: str) -> Finding:
    """A claim on the mean error of a prediction, with a bootstrap over seeds."""
    scale, unit, name = {
        "summed": (100, "points", "mean error"),
        "in_logits": (100, "points", "mean error"),
        "weighted": (1, "", "mean error"),
    }.get(column, (1, "", "share of chips that are not"))

    def error(picked: np.ndarray) -> float:
        return scale * float(np.abs(errors(table, chance, picked)[column]).mean())

    return over_seeds(claim, error, len(table.clean), relation, scale * limit, unit, name)


def _against_best(wide: pd.DataFrame, part: str) -> np.ndarray:
    """Seed by seed, in points: column ``part`` minus the best of the other columns (best in the mean)."""
    others = wide.drop(columns=part)
    return 100 * (wide[part] - others[others.mean().idxmax()]).to_numpy()


def findings(tables: Mapping[str, pd.DataFrame], chance: float) -> Findings:
    """The claims of the page. Criteria are fixed here."""
    accuracy = tables["accuracy"]
    runs = paired(accuracy)
    rules = [rule for rule in NAMES if rule in set(runs.rule)]
    found = Findings()
    first = cells(runs, rules[0])
    for column, words in (("summed", "Losses add"), ("in_logits", "Losses add in the log-odds of the accuracy")):
        claim = f"{words}: what the parts lose alone says what a composed chip loses, to {100 * LOSS_ERROR:g} points"
        found.append(_mean_error(first, chance, column, "<=", LOSS_ERROR, claim))
    full = next(place for place, parts in enumerate(first.parts) if len(parts) == max(map(len, first.parts)))
    own = first.alone(first.parts[full])
    beyond = 100 * (first.damage[full] - np.minimum(first.damage[own].sum(0), first.clean - chance))
    claim = "The chip with all parts costs more than its parts together"
    found.append(judge(claim, beyond, ">", 0, unit="points", name="loss beyond the sum"))
    for rule in rules:
        table, name = cells(runs, rule), NAMES[rule].capitalize()
        claim = f"{name}: the mean recovery of the parts, weighted by their losses, is that of the chip"
        found.append(_mean_error(table, chance, "weighted", "<=", RECOVERY_ERROR, claim))
        for column, words in (("worst", "the worst verdict of a part"), ("of_weighted", "that mean's verdict")):
            claim = f"{name}: {words} is the verdict of the chip on {100 * VERDICTS_RIGHT:g} % of the chips"
            found.append(_mean_error(table, chance, column, "<=", 1 - VERDICTS_RIGHT, claim))
    found.extend(_of_removal(tables["removed"], rules))
    whole = runs[runs.kind == "all"].pivot_table(index="seed", columns="rule", values=["gain", "damage"])
    if "staircase" in set(runs.rule):
        beyond = 100 * (whole["gain"]["staircase"] - BROKEN * whole["damage"]["staircase"]).to_numpy()
        claim = "One staircase silences the chip: with it, vanilla training wins back less than a fifth of the loss"
        found.append(judge(claim, beyond, "<", 0, unit="points", name=f"won back minus {BROKEN:g} of the loss"))
    if len(rules) == 2:
        points = 100 * (whole["gain"][rules[0]] - whole["gain"][rules[1]]).to_numpy()
        claim = f"With a converter that lets it pass, the vanilla gradient beats straight-through by {POINTS:g} points"
        found.append(judge(f"{claim} on the full chip", points, ">=", POINTS, unit="points", name="mean difference"))
    found.extend(_of_signal(tables["signal"], accuracy))
    found.extend(_of_gradients(tables["diagnostics"]))
    found.extend(_of_phase_change(tables["phase_change"]))
    return found


def _of_removal(table: pd.DataFrame, rules: Sequence[str]) -> list[Finding]:
    """Which part is worth removing from the full chip."""
    before = table[table.rule == "unaware"]
    dearest = before.groupby("part", sort=False).alone.mean().idxmax()
    wide = before.pivot_table(index="seed", columns="part", values="back", sort=False)
    claim = "The part that costs most alone is the one whose removal gives back most, without training"
    found = [judge(claim, _against_best(wide, dearest), ">=", 0, unit="points", name="minus the best other")]
    best = wide.mean().idxmax()
    for rule in rules:
        after = table[table.rule == rule].pivot_table(index="seed", columns="part", values="back", sort=False)
        claim = f"The part whose removal gives back most without training does so after {NAMES[rule]} too"
        found.append(judge(claim, _against_best(after, best), ">=", 0, unit="points", name="minus the best other"))
    return found


def _of_signal(table: pd.DataFrame, accuracy: pd.DataFrame) -> list[Finding]:
    """Does noise over signal add, with and without the order of the physics, and does the loss follow it?"""
    composed = table[table.kind != "alone"]
    found = []
    for column, words in (
        ("unordered", "Whatever their order, the squares of the parts' noise over signal add"),
        ("ordered", "In the order of the physics they do: noise that comes after a loss of signal weighs more"),
    ):
        off = (composed[column] / composed["measured"] - 1).abs().groupby(composed.seed).mean()
        found.append(judge(words, off, "<=", NOISE_ERROR, name="mean relative error"))
    unaware = accuracy[accuracy.rule == "unaware"].assign(damage=lambda runs: runs.clean - runs.accuracy)
    joined = table.merge(unaware[["parts", "seed", "damage"]], on=["parts", "seed"])
    ranks = [group["measured"].corr(group.damage, method="spearman") for _, group in joined.groupby("seed")]
    claim = "What a chip costs follows its noise over signal, whatever its parts are"
    found.append(judge(claim, ranks, ">=", FOLLOWS, name="rank correlation"))
    chips = joined[joined.kind != "alone"]
    off = 100 * chips.assign(off=chips.damage - chips.by_noise).pivot(index="parts", columns="seed", values="off")
    claim = f"Read noise of the predicted size costs what the chip costs, to {100 * LOSS_ERROR:g} points"

    def error(picked: np.ndarray) -> float:
        return float(np.abs(off.to_numpy()[:, picked].mean(1)).mean())

    found.append(over_seeds(claim, error, off.shape[1], "<=", 100 * LOSS_ERROR, "points", "mean error"))
    return found


def gradient_signal(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """The share of signal in the full chip's gradient, seed by seed: ``measured``, and ``added`` from its parts."""
    alone = diagnostics[diagnostics.kind == "alone"].groupby("seed").variance.sum()
    full = diagnostics[diagnostics.kind == "all"].set_index("seed")
    return pd.DataFrame({"measured": full.signal, "added": 1 / (1 + alone), "cosine": full.cosine})


def _of_gradients(diagnostics: pd.DataFrame) -> list[Finding]:
    table = gradient_signal(diagnostics)
    claim = "The variances of the parts' gradients add: the share of signal in the full chip's gradient follows"
    off = (table.measured - table.added).abs()
    return [judge(claim, off, "<=", RECOVERY_ERROR, name="mean error")]


def _of_phase_change(table: pd.DataFrame) -> list[Finding]:
    """The phase-change chip at the last time: what compensation is worth, and training, and both."""
    last = table[table.time == table.time.max()]
    wide = 100 * last.pivot_table(index="seed", columns=["compensation", "rule"], values="accuracy")
    clean = 100 * last.groupby("seed").clean.first()
    plain_, both = wide["none"], wide["global"]
    return [
        judge(
            f"Phase-change chip, at the last time: an unaware network loses at least {100 * CLEAR_DAMAGE:g} points",
            clean - plain_["unaware"],
            *(">=", 100 * CLEAR_DAMAGE),
            unit="points",
            name="mean loss",
        ),
        judge(
            "There, training without compensation wins back anything at all",
            plain_["autograd"] - plain_["unaware"],
            *(">", 0),
            unit="points",
            name="mean difference",
        ),
        judge(
            "There, one factor per layer without training is worth more than training without it",
            both["unaware"] - plain_["autograd"],
            *(">", 0),
            unit="points",
            name="mean difference",
        ),
        judge(
            "There, training on top of the factor is worth at least a point more",
            both["autograd"] - both["unaware"],
            *(">=", 1),
            unit="points",
            name="mean difference",
        ),
    ]


# ---------------------------------------------------------------------------------------------------- prose


def words(parts: Sequence[str]) -> str:
    """The parts of a chip as the reader says them."""
    titles = [HARDWARE[part].title for part in parts]
    titles = [title if title.isupper() or title[:2].isupper() else title.lower() for title in titles]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def story(result: Result) -> str:
    """What the composed chips cost and what comes back, in sentences with the measured numbers (Markdown)."""
    summary = result.tables["summary"]
    rows = summary[summary.rule == summary.rule.iloc[0]]
    composed = rows[rows.kind != "alone"]
    full = rows[rows.kind == "all"].iloc[0]
    far = composed.assign(beyond=composed.damage - composed.summed)
    pairs = far[far.kind == "pair"].sort_values("beyond", ascending=False)
    near = int((pairs.beyond.abs() <= LOSS_ERROR).sum())
    lines = [
        f"- The chip with all parts costs {100 * full.damage:.0f} points; its parts cost {100 * full.summed:.0f} "
        "together."
    ]
    if len(pairs):
        top = pairs.iloc[0]
        lines.append(
            f"- {near} of {len(pairs)} pairs cost what their parts cost together, to {100 * LOSS_ERROR:g} points. "
            f"Furthest off: {words(split(top.parts))}, with {100 * top.damage:.0f} points instead of "
            f"{100 * top.summed:.0f}."
        )
    for row in summary[summary.kind == "all"].itertuples():
        named = "vanilla training on the converter's staircase" if row.rule == "staircase" else NAMES[row.rule]
        lines.append(
            f"- On that chip {named} brings the accuracy from {100 * row.unaware:.0f} to {100 * row.accuracy:.0f} %, a "
            f"recovery of {plain(row.recovery)} ([{plain(row.recovery_low)}, {plain(row.recovery_high)}]); its parts "
            f"let one expect {plain(row.weighted)}. It is *{row.verdict}*, and the worst of its parts is *{row.worst}*."
        )
    return "\n".join(lines)


def on_removal(result: Result) -> str:
    """Which part is worth most when it is removed, in a sentence with the measured numbers (Markdown)."""
    table = result.tables["removed"]
    alone = table.groupby("part").alone.mean()
    parts = [
        f"Alone, {words([alone.idxmax()])} costs most ({100 * alone.max():.0f} points) and {words([alone.idxmin()])} "
        f"least ({100 * alone.min():.0f})."
    ]
    for rule, group in table.groupby("rule", sort=False):
        back = group.groupby("part").back.mean()
        when = "Without training" if rule == "unaware" else f"After {NAMES[rule]}"
        parts.append(
            f"{when} the full chip gets most back when {words([back.idxmax()])} is removed: "
            f"{100 * back.max():.0f} points."
        )
    return " ".join(parts)


def on_gradients(result: Result) -> str:
    """What the gradients at the fork say of the full chip (Markdown)."""
    table = gradient_signal(result.tables["diagnostics"]).mean()
    return (
        f"At the fork the vanilla gradient of the full chip has a cosine of {plain(table.cosine)} with the clean one, "
        f"and {plain(table.measured)} of its second moment is signal; adding up the variances of its parts one expects "
        f"{plain(table.added)}."
    )


def twos(result: Result) -> list[str]:
    """The chips with two parts."""
    return [name for name in result.tables["summary"].parts.unique() if len(split(name)) == 2]


def verdicts(result: Result) -> pd.DataFrame:
    """The table of the page, rounded for reading."""
    table = result.tables["summary"]
    everything = split(table.parts[table.kind == "all"].iloc[0])

    def short(name: str, kind: str) -> str:
        (*_, last) = [part for part in everything if part not in split(name)] or [""]
        return {"all": "all", "all but one": f"all but {last}"}.get(kind, name)

    table = table[table.kind != "alone"]
    chips = [short(name, kind) for name, kind in zip(table.parts, table.kind, strict=True)]
    shown = table[["rule"]].join((100 * table[["unaware", "accuracy", "damage", "summed"]]).round(1))
    shown.insert(0, "chip", chips)
    for column in ("recovery", "weighted"):
        shown[column] = ["–" if value != value else plain(value) for value in table[column]]
    return shown.assign(verdict=table.verdict, worst=table.worst).reset_index(drop=True)


def attempt(
    study: Composed, parts: Sequence[str], rule: str = "autograd", steps: int = 40, chips: int = 10
) -> pd.DataFrame:
    """A small experiment of one seed: a chip of these parts. Columns ``network``, ``accuracy``, ``low``."""
    chosen = checks.choices("parts", parts, study.classes)
    chosen = tuple(name for name in study.classes if name in chosen)
    checks.choice("rule", rule, [arm for arm in ARMS if arm != "unaware"])
    usual = study.start()
    steps = checks.integer("steps", steps, low=1)
    fork = Fork(usual.trainer, [0], usual.warm_up, steps, torch.device("cpu"))
    clean = float(fork.trainer.accuracy(fork.clean)[0])
    rows = [("clean, no hardware", clean, clean)]
    for arm in ("unaware", rule):
        (seen,) = study.sweep(fork, chosen, [chosen], arm, chips).accuracy(ARMS[arm][0]).itertuples()
        named = "unaware" if arm == "unaware" else NAMES.get(arm, "vanilla, on the staircase")
        rows.append((named, seen.accuracy, seen.low))
    return pd.DataFrame(rows, columns=["network", "accuracy", "low"])
