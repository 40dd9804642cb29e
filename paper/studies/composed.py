"""Several perturbations on one chip: does what each does alone say what they do together?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any, ClassVar, cast

import pandas as pd
import torch
from torch import Tensor

from lib import checks, results
from lib.hardware.crossbars import Crossbars, ideal
from lib.hardware.devices import HARDWARE, Composite, make
from lib.hardware.networks import dataset
from lib.hardware.numbers import merged
from lib.hardware.training import severity_of_replicas, spread, tiled
from lib.replicas import Nested, Tree
from lib.results import Cell, Tables
from lib.verdicts import Findings
from paper.agreement import Quantity
from paper.studies import mixture
from paper.studies.base import Compared, double_precision
from paper.studies.hardware import NAMES, HardwareStudy, Rules, Seeds, fork
from paper.studies.mixture import Parts, label
from paper.studies.parameters import Numbers, Options, Some
from paper.studies.perturbation import PICTURE
from paper.sweep import Fork, Sweep

#: One moderate severity of each class: alone it costs a small network between three and twenty points.
SEVERITIES = {"read_noise": 0.05, "variability": 0.1, "drift": 3.15e8, "stuck_at": 0.01, "ir_drop": 100.0, "adc": 3.0}
#: Steps after the fork where they are "auto", or as many as the network's schedule has: many chips are trained.
STEPS = 100
#: How each rule trains: the backward rule, and what its converter does with the gradient. Vanilla training has a
#: converter that lets the gradient pass and learns its range; on the "staircase" it has the converter's own derivative.
ARMS = {
    "unaware": ("unaware", "quantile"),
    "autograd": ("autograd", "learned"),
    "straight_through": ("straight_through", "quantile"),
    "staircase": ("autograd", "quantile"),
}
#: Chips on which signal and noise of the currents are measured.
SIGNAL_CHIPS = 4
#: Severities of read noise alone, with which any other noise is measured.
RULER = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)


def _single() -> list[str]:
    """What may be a part of a chip."""
    return [name for name, one in HARDWARE.items() if not isinstance(one, Composite)]


_Classes = Annotated[tuple[str, ...], Some(_single, ordered=True)]
_Chosen = Annotated[tuple[str, ...] | str, Some(_single, also=("few", "auto", "all"), nothing="none")]


class Composed(HardwareStudy):
    """Chips with several of the six classes at once, and a phase-change chip with its own physics.

    ``classes`` are two or more of the six, or others with a severity of theirs; ``severities`` maps classes to
    severities other than :data:`SEVERITIES` ("auto": none). Every class is run alone, and all of them together;
    ``pairs`` says which are also paired, ``without`` which are left out of all, one at a time (names, "none", "all",
    "few": the first three, or "auto": all but ir_drop, whose circuits take long to solve). ``times`` are seconds after
    programming at which the phase-change chip is looked at. The rest is as in
    :class:`~paper.studies.hardware.HardwareStudy`; ``steps`` "auto" are at most :data:`STEPS`.
    """

    classes: _Classes = tuple(SEVERITIES)
    severities: Annotated[dict[str, float] | str, Options(also=("auto",))] = "auto"
    pairs: _Chosen = "few"
    without: _Chosen = ()
    times: Annotated[tuple[float, ...], Numbers(ordered=True)] = (20.0, 3.15e9)
    rules: Rules = ("autograd",)
    seeds: Seeds = 2

    PARTS: ClassVar[tuple[str, ...]] = ("rules", "pairs", "without", "times")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "accuracy": Compared(("rule", "parts"), {"clean": PICTURE, "accuracy": PICTURE}),
        "signal": Compared(("parts",), {"measured": 0.01, "signal": 0.01}),
        "diagnostics": Compared(("parts",), {"cosine": Quantity(0.01, may_lack=True), "signal": 0.01}),
        "phase_change": Compared(("compensation", "rule", "time"), {"accuracy": PICTURE}),
    }

    def check(self) -> None:
        """Fills in severities and refuses what does not fit together."""
        super().check()
        if len(self.classes) < 2:
            raise checks.ParameterError(f"classes must be at least two names, but {list(self.classes)!r} was given.")
        object.__setattr__(self, "severities", self._severities())
        for name in ("pairs", "without"):
            object.__setattr__(self, name, self._chosen(name))
        if len(self.pairs) == 1:
            raise checks.ParameterError(f"pairs must be at least two names, but {list(self.pairs)!r} was given.")
        for time in self.times:
            make("pcm").check(time, "times")
        if "ir_drop" in self.classes:
            double_precision(self.device, " for ir_drop")

    def _chosen(self, name: str) -> Parts:
        """Those of the classes that a field names, in their order."""
        given = getattr(self, name)
        if isinstance(given, str):
            own = self.classes[:3] if given == "few" else self.classes
            return tuple(one for one in own if given == "all" or one != "ir_drop")
        chosen = checks.choices(name, given, self.classes) if given else ()
        return tuple(one for one in self.classes if one in chosen)

    def _severities(self) -> dict[str, float]:
        given = {} if isinstance(self.severities, str) else self.severities
        for name in given:
            checks.choice("severities", name, self.classes)
        found = {}
        for name in self.classes:
            physics = HARDWARE[name]
            found[name] = physics.check(given.get(name, SEVERITIES.get(name)), f"severities of {name}")
            if found[name] == physics.off:
                raise checks.ParameterError(
                    f"severities of {name} must be other than its off, but {given[name]!r} was given."
                )
        return found

    def vectors(self) -> list[Parts]:
        """The parts of every chip: one alone, pairs, all but one, all."""
        most = self.classes
        alone = [(name,) for name in most]
        rest = [tuple(one for one in most if one != name) for name in self.without] if len(most) > 2 else []
        return list(dict.fromkeys([*alone, *combinations(self.pairs, 2), *rest, most]))

    def kind(self, parts: Parts) -> str:
        """What a chip is there for."""
        if len(parts) == 1:
            return "alone"
        if parts == self.classes:
            return "all"
        return "pair" if len(parts) == 2 else "all but one"

    def arms(self) -> list[str]:
        """The rules that are run: those asked for, and the staircase beside vanilla training where there is one."""
        staircase = "adc" in self.classes and "autograd" in self.rules
        return [arm for arm in ARMS if arm in self.rules or (arm == "staircase" and staircase)]

    def on(self, arm: str) -> list[Parts]:
        """The chips that an arm is run on."""
        return [("adc",), self.classes] if arm == "staircase" else self.vectors()

    def cell(self, parts: Parts, arm: str) -> Cell:
        """One chip under one arm. Gradients are looked at on chips with one part and with all, with the converter of
        vanilla training, whose gradients they are.
        """
        told = arm == "autograd" and self.kind(parts) in ("alone", "all")
        shared = {
            "start": self.start(most=STEPS),
            "classes": list(self.classes),
            "arm": arm,
            "chips": self.chips,
            "gradients": self.gradients if told else 0,
        }
        own = {"parts": list(parts), "severities": {name: cast(dict, self.severities)[name] for name in parts}}
        present = _present(self.classes, parts)
        return Cell(
            "composed",
            {**shared, **own},
            composed,
            batch=json.dumps(results.plain({**shared, "present": present}), sort_keys=True),
            size=self.seeds,
            uses=(chip(present, ARMS[arm][1]),),
            site=self.site(),
        )

    def ruler_cell(self) -> Cell:
        """Read noise alone, at several severities."""
        config = {"start": self.start(most=STEPS), "severities": list(RULER), "chips": self.chips}
        return Cell("composed_ruler", config, ruler, uses=(make("read_noise"),), site=self.site())

    def phase_change(self) -> dict[tuple[str, str], Cell]:
        """The runs of the phase-change chip by compensation and rule."""
        begin = self.start(most=STEPS)
        return {
            (one, rule): self.accuracy_cell(begin, "pcm", self.times, rule, options={"compensation": one})
            for one in ("none", "global")
            for rule in ("unaware", "autograd")
        }

    def cells(self) -> list[Cell]:
        """Every chip under every arm, the ruler, and the phase-change chip."""
        chips = [self.cell(parts, arm) for arm in self.arms() for parts in self.on(arm)]
        return [*chips, self.ruler_cell(), *self.phase_change().values()]

    @property
    def chance(self) -> float:
        """The accuracy of a guess."""
        return 1 / dataset(self.data, self.root).classes

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """Tables ``accuracy`` (one row for each rule, chip and seed), ``summary`` (seeds joined, with predictions),
        ``removed``, ``signal`` (what reaches the layers), ``ruler`` (read noise alone), ``diagnostics`` (at the fork)
        and ``phase_change``.
        """
        runs = self._collected("accuracy", found)
        scale = found[self.ruler_cell()]["ruler"]
        signal = mixture.by_ruler(mixture.noise(self._collected("signal", found), order_of), scale)
        diagnostics = self._collected("diagnostics", found)
        changes = [found[cell]["accuracy"].assign(compensation=one) for (one, _), cell in self.phase_change().items()]
        tables = {
            "accuracy": runs,
            "summary": mixture.summarise(runs, signal, self.chance),
            "removed": mixture.removed(runs),
            "signal": signal,
            "ruler": scale,
            "diagnostics": diagnostics,
            "phase_change": pd.concat(changes, ignore_index=True).rename(columns={"severity": "time"}),
        }
        return tables, Findings.of(mixture.claims(tables, self.chance))

    def _collected(self, name: str, found: Mapping[Cell, Tables]) -> pd.DataFrame:
        """The tables of that name of all chips that have one, with the chip in front."""
        rows = []
        for arm in self.arms():
            for parts in self.on(arm):
                table = found[self.cell(parts, arm)].get(name)
                if table is not None:
                    named = {"network": self.network, "parts": label(parts), "kind": self.kind(parts), "rule": arm}
                    rows.append(table.assign(**named))
        return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


# ------------------------------------------------------------------------------------------------- computing


def chip(parts: Sequence[str], calibration: str = "quantile", solver: str = "circuit") -> Composite:
    """A chip with these parts; ``calibration`` is its converter's, ``solver`` that of its wires."""
    options = {"adc": {"calibration": calibration}, "ir_drop": {"solver": solver}}
    return Composite(make(name, **options.get(name, {})) for name in parts)


def order_of(parts: Sequence[str]) -> Parts:
    """The parts of a chip as a signal meets them."""
    return tuple(part.name for part in chip(parts).parts)


def _present(classes: Sequence[str], parts: Sequence[str]) -> list[str]:
    """The parts that a batch with this chip has, off or not: where wires are off, no circuit needs to be solved.

    Wires draw no random numbers, so a chip has the same ones with and without.
    """
    return [name for name in classes if name != "ir_drop" or name in parts]


def sweep_of(begin: Fork, configs: Sequence[Mapping[str, Any]]) -> Sweep:
    """The runs of a batch of chips: wires are trained through by the formula, and judged as a circuit."""
    first = configs[0]
    present, calibration = _present(first["classes"], first["parts"]), ARMS[first["arm"]][1]
    seen, through = (chip(present, calibration, solver) for solver in ("circuit", "approximate"))
    values = [seen.check(dict(config["severities"])) for config in configs]
    return Sweep(begin, through, values, first["chips"], first["gradients"], judge=seen)


def composed(configs: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> list[Tables]:
    """Chips of one arm, side by side. Tables with a row for each seed: ``accuracy``, for untrained networks ``signal``
    (:func:`signal_and_noise`), and ``diagnostics`` where "gradients" are asked for.
    """
    first = configs[0]
    sweep = sweep_of(fork(first["start"], site), configs)
    whole = {"accuracy": sweep.accuracy(ARMS[first["arm"]][0])}
    if first["arm"] == "unaware":
        whole["signal"] = signal_and_noise(sweep)
    if first["gradients"]:
        whole["diagnostics"] = sweep.diagnostics(ARMS[first["arm"]][0])
    return [{name: _of_chip(table, place) for name, table in whole.items()} for place in range(len(configs))]


def _of_chip(table: pd.DataFrame, place: int) -> pd.DataFrame:
    """The rows of one chip of a batch, without what says which it is."""
    shared = [name for name in table if name in ("chip_index", "perturbation", "rule") or name.startswith("severity_")]
    return table[table.chip_index == place].drop(columns=shared).reset_index(drop=True)


@torch.no_grad()
def signal_and_noise(sweep: Sweep) -> pd.DataFrame:
    """What reaches the layers of unaware networks, one row for each chip of a batch, seed and layer.

    Each layer gets its ideal input. ``signal`` is the slope of its real currents over the ideal ones, ``error`` the
    root mean square of what the slope leaves, relative to that of the ideal currents; over :data:`SIGNAL_CHIPS` chips.
    """
    begin, physics = sweep.fork, sweep.judge or sweep.physics
    trainer, seeds, repeat = begin.trainer, begin.seeds, len(sweep.severities)
    params = tiled(begin.clean, repeat)
    severity = severity_of_replicas(sweep.severities, seeds, begin.device)

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
        chips.append(torch.func.vmap(one)(params, severity, spread(per_seed, repeat, begin.device)))
    mean = torch.stack(chips).mean(0).cpu().numpy()
    replicas = [(place, seed) for place in range(repeat) for seed in seeds]
    return pd.DataFrame(
        [
            {"chip_index": place, "seed": seed, "layer": layer, "signal": signal, "error": float(rest) ** 0.5}
            for (place, seed), layers in zip(replicas, mean, strict=True)
            for layer, (signal, rest) in zip(trainer.network.layers, layers, strict=True)
        ]
    )


def ruler(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``ruler``: noise over signal and loss of untrained networks, one row for each severity and seed."""
    sweep = Sweep(fork(config["start"], site), make("read_noise"), config["severities"], config["chips"])
    signal = signal_and_noise(sweep)
    squares = (signal["error"] / signal["signal"]) ** 2
    measured = squares.groupby([signal.chip_index, signal.seed]).sum() ** 0.5
    runs = sweep.accuracy("unaware").reset_index(drop=True)
    places = pd.MultiIndex.from_arrays([runs.index // len(sweep.fork.seeds), runs.seed])
    found = {"severity": runs.severity, "seed": runs.seed, "measured": measured.loc[places].to_numpy()}
    return {"ruler": pd.DataFrame({**found, "damage": runs.clean - runs.accuracy})}


# ---------------------------------------------------------------------------------------------------- trying


def allowed(study: Composed, parts: Sequence[str], rule: str = "autograd", **_: object) -> None:
    """Refuses what :func:`attempt` cannot train."""
    chosen = checks.choices("parts", parts, study.classes)
    if rule == "staircase" and "adc" not in chosen:
        raise checks.ParameterError("rule must be another than staircase without an adc among the parts.")


def attempt(
    study: Composed, parts: Sequence[str], rule: str = "autograd", steps: int = 40, chips: int = 10
) -> pd.DataFrame:
    """A small experiment of one seed: a chip of these parts. Columns ``network``, ``accuracy``, ``low``."""
    chosen = checks.choices("parts", parts, study.classes)
    chosen = tuple(name for name in study.classes if name in chosen)
    checks.choice("rule", rule, [arm for arm in ARMS if arm != "unaware"])
    begin = {**study.start(most=STEPS), "seeds": [0], "steps": checks.integer("steps", steps, low=1)}
    one = fork(begin, {**study.site(), "device": "cpu"})
    clean = float(one.trainer.accuracy(one.clean)[0])
    rows = [("clean, no hardware", clean, clean)]
    for arm in ("unaware", rule):
        config = {**study.cell(chosen, arm).config, "classes": list(chosen), "chips": chips}
        (seen,) = sweep_of(one, [config]).accuracy(ARMS[arm][0]).itertuples()
        named = "unaware" if arm == "unaware" else NAMES.get(arm, "vanilla, on the staircase")
        rows.append((named, seen.accuracy, seen.low))
    return pd.DataFrame(rows, columns=["network", "accuracy", "low"])
