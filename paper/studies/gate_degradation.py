"""Does a gate become constant, or is it constant from the start? And what becomes of it in a long training?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from lib import results
from lib.prompts.gates import GATES
from lib.results import Cell
from lib.verdicts import Claim, Findings
from paper.agreement import Quantity
from paper.criteria import prompts as criteria
from paper.studies.base import Compared
from paper.studies.gating import KEYS, GateNames, GateStudy, LearnerNames, Steps, TaskNames, assembled, per_seed
from paper.words.spelling import spelt


class Optimisers(NamedTuple):
    """Who trains the prompts, who the gate ("": the same), and a multiple of the gate's learning rate."""

    prompts: str
    gate: str = ""
    gate_rate: float = 1.0


#: The trainings of the long run by their names.
LONG = {
    "SGD": Optimisers("sgd"),
    "SGD with Adam for the gate": Optimisers("sgd", "adam"),
    "Adam with SGD for the gate": Optimisers("adam", "sgd"),
    "Adam": Optimisers("adam"),
    "SGD with gate rate x 100": Optimisers("sgd", gate_rate=100.0),
}
#: What selectors are called in a sentence.
SELECTORS = {
    "soft": "soft selection",
    "top_k": "top-k selection",
    "gumbel": "Gumbel selection",
    "l2p": "the pool with keys (L2P)",
    "random": "a draw of entries at random",
}
#: What a page on gates says of them, first and last.
STATISTICS = ["information", "spread", "saturation", "class_share", "mean", "used"]
BITS = "I(X; G) / log E after training"
#: What tells one long training from another.
RUNS = ["training", "task", "seed"]
#: Numbers of steps after which a long training is looked at, beside its last.
LOOKS = (100, 400, 1000)
#: How what a gate chooses by the picture is compared with the evidence.
_CHOICE = Quantity(scale="log", floor=1e-3)


class GateDegradation(GateStudy):
    """How much gates depend on their input, along training.

    The trainings of the short recipe, and beside them CoOp with a length gate on ``long_tasks`` for ``long_steps``
    steps at a constant rate, once for each of :data:`LONG`.

    Table ``gates``: a row per learner, gate, task, seed, recorded step with the statistics of
    :func:`lib.prompts.diagnosis.gate_statistics` on test pictures. Table ``ends``: first and last step side by
    side. Table ``selectors``: what each selector is worth over its modal choice, shuffled, and over entries at random,
    per task and seed. Tables ``long`` (training, task, seed, step: the same statistics), ``looks`` (the worth of the
    gate over its mean and over a shuffled one, in points, at a few steps) and ``long_ends`` (both, first and last).
    """

    task: TaskNames = ("coarse",)
    learner: LearnerNames = ("coop", "pool")
    gate: GateNames = ("length", "top_k", "l2p", "random")
    long_steps: Steps = 100
    long_tasks: TaskNames = ("conflict",)

    # At a constant rate a shorter training is the beginning of a longer one.
    SIZES: ClassVar[tuple[str, ...]] = (*GateStudy.SIZES, "long_steps")
    PARTS: ClassVar[tuple[str, ...]] = (*GateStudy.PARTS, "long_tasks")
    TASKS: ClassVar[tuple[str, ...]] = ("task", "long_tasks")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "gates": Compared(
            ("learner", "gate", "task", "step"), {"information": _CHOICE, "spread": _CHOICE, "mean": 1e-3}
        ),
        "long": Compared(("training", "task", "step"), {"information": _CHOICE, "spread": _CHOICE, "saturation": 0.01}),
        "looks": Compared(("training", "task", "step"), {"over_mean": 1.0}),
    }

    def check(self) -> None:
        """Refuses what cannot be trained, before anything is loaded."""
        super().check()
        for task in self.long_tasks:
            self.find(task)

    def long(self) -> list[tuple[str, Cell]]:
        """The long trainings with their names."""
        looks = (*(look for look in LOOKS if look < self.long_steps), self.long_steps)
        own = {"steps": self.long_steps, "warmup": 0.0, "cosine": False, "looks": looks, "watch": True}
        return [
            (
                name,
                self.cell(
                    "coop",
                    "length",
                    task,
                    recipe=self.recipe(**own, optimiser=one.prompts, gate_optimiser=one.gate),
                    setting=self.setting(gate_rate=one.gate_rate * self.gate_rate),
                ),
            )
            for name, one in LONG.items()
            for task in self.long_tasks
        ]

    def cells(self) -> list[Cell]:
        """Every learner, gate and task, and the long trainings."""
        return [*self.gated(), *(cell for _, cell in self.long())]

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        short = assembled(found, [("", cell) for cell in self.gated()])
        gates = short.trajectory
        ends = both_ends(gates, KEYS, STATISTICS)
        scaling, selecting = split(ends)
        selectors = _selectors(split(short.accuracy)[1])
        long = assembled(found, self.long())
        watched = long.watched.rename(columns={"label": "training"})
        looks = long.looks.rename(columns={"label": "training"})
        for other in ("mean", "shuffled"):
            looks[f"over_{other}"] = looks["accuracy_gated"] - looks[f"accuracy_{other}"]
        long_ends = both_ends(watched, RUNS, STATISTICS).merge(falls(looks), on=RUNS)
        tables = {"gates": gates, "ends": ends, "selectors": selectors}
        tables |= {"long": watched, "looks": looks, "long_ends": long_ends}
        claims = [*_scaling(scaling), *_selecting(selecting, selectors), *_long(long_ends, self.long_steps)]
        return tables, Findings.of(claims, holm=True)


def both_ends(table: pd.DataFrame, keys: list[str], names: list[str]) -> pd.DataFrame:
    """First and last step of every training side by side: ``names`` with "_first" and "_last"."""
    first, last = (table.loc[at].set_index(keys)[names] for at in _places(table, keys))
    return first.add_suffix("_first").join(last.add_suffix("_last")).reset_index()


def _places(table: pd.DataFrame, keys: list[str]) -> tuple[pd.Series, pd.Series]:
    """Where the first and the last step of every training stand."""
    steps = table.groupby(keys, sort=False)["step"]
    return steps.idxmin(), steps.idxmax()


def split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of gates that scale prompts, and those of selectors."""
    selects = table["gate"].map(lambda name: GATES[name].selects).astype(bool)
    return table[~selects], table[selects]


def of_scaling(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of gates that scale prompts; None where nothing was measured."""
    return None if table is None else split(table)[0]


def falls(looks: pd.DataFrame) -> pd.DataFrame:
    """By how many points each gate's worth at the last look lies below that at the best one: training, task, seed,
    ``best`` (the step), ``worth_best``, ``worth_last``, ``fall``.

    The best look is that of the highest mean over seeds: each seed's own best would lie above the last by chance.
    """
    rows = []
    for (training, task), part in looks.groupby(["training", "task"], sort=False):
        worth = part.pivot(index="seed", columns="step", values="over_mean")
        means = worth.mean(skipna=False)
        best = means.fillna(-math.inf).idxmax()
        own = pd.DataFrame({"worth_best": worth[best], "worth_last": worth[worth.columns.max()]}).reset_index()
        rows.append(own.assign(training=training, task=task, best=best, fall=own["worth_best"] - own["worth_last"]))
    return pd.concat(rows, ignore_index=True)


def _selectors(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The worth of each selector in points: columns gate, task, seed, over_mean, over_shuffled, and over_random, which
    is the accuracy less that of entries at random.
    """
    if not len(accuracy):
        return pd.DataFrame(columns=["gate", "task", "seed", "over_mean", "over_shuffled", "over_random"])
    keys = ["gate", "task", "seed"]
    wide = accuracy.pivot(index=keys, columns="variant", values="accuracy")
    found = pd.DataFrame({f"over_{name}": wide["gated"] - wide[name] for name in ("mean", "shuffled")})
    lottery = wide["gated"].reset_index().query("gate == 'random'").set_index(["task", "seed"])["gated"]
    places = wide.index.droplevel("gate")
    return found.assign(over_random=wide["gated"].to_numpy() - lottery.reindex(places).to_numpy()).reset_index()


def _claim(what: str, text: str, samples: list[float], relation: Any, threshold: float, **more: Any) -> Claim:
    family = more.pop("family", "gate_degradation")
    return Claim(f"gate_degradation.{what}", text, samples, relation, threshold, family, **more)


def _scaling(ends: pd.DataFrame) -> list[Claim]:
    """Claims on gates that scale prompts, if there are any."""
    if not len(ends):
        return []
    ratio = ends.assign(ratio=ends["information_last"] / ends["information_first"])
    return [
        _claim(
            "constant.before",
            "an untrained gate is nearly constant",
            per_seed(ends, "information_first"),
            "<",
            criteria.CONSTANT,
            name="input information before training",
        ),
        _claim(
            "constant.after",
            "a gate trained by the short recipe is nearly constant",
            per_seed(ends, "information_last"),
            "<",
            criteria.CONSTANT,
            name="input information after training",
        ),
        _claim(
            "taken",
            "the short recipe takes at least half of a gate's input information away",
            per_seed(ratio, "ratio"),
            "<",
            criteria.TAKEN,
            name="input information after / before",
        ),
        _claim(
            "saturated",
            "gates trained by the short recipe saturate",
            per_seed(ends, "saturation_last"),
            ">",
            criteria.SATURATED,
            name="share of saturated values",
        ),
        _claim(
            "classes",
            "what varies in a gate trained by the short recipe follows the classes (at least half of it)",
            per_seed(ends, "class_share_last"),
            ">",
            criteria.FOLLOWS_CLASSES,
            name="class share",
        ),
    ]


def selector(kind: str) -> str:
    """What a selector is called in a sentence."""
    return SELECTORS.get(kind, f"the selector {kind.replace('_', ' ')}")


def _selecting(ends: pd.DataFrame, worth: pd.DataFrame) -> list[Claim]:
    """Claims on each selector: how much of the pool it uses, whether the picture decides, and what the choice is worth;
    entries at random say what these numbers are where nothing is chosen.
    """
    found = []
    pool: dict[str, Any] = {"family": "gate_degradation.pool"}
    points = pool | {"unit": "points", "rare": criteria.RARE}
    for kind, part in ends.groupby("gate", sort=False):
        own, name = worth[worth["gate"] == kind], selector(str(kind))
        hard, lottery = GATES[str(kind)].hard, kind == "random"
        for other, words in (("mean", "its modal choice" if hard else "its mean"), ("shuffled", "itself shuffled")):
            text = f"{name} is worth more than two points over {words}"
            samples = per_seed(own, f"over_{other}")
            found.append(_claim(f"pool.{other}.{kind}", text, samples, ">", criteria.ADAPTIVE, **points))
        said = (
            "I(X; G) takes a lottery for a choice: that of {} is above what a blind choice has"
            if lottery
            else "{} hardly heeds the picture"
        )
        relation = ">" if lottery else "<"
        samples = per_seed(part, "information_last")
        text = said.format(name)
        found.append(_claim(f"pool.picture.{kind}", text, samples, relation, criteria.BLIND_CHOICE, name=BITS, **pool))
        if lottery:
            continue
        if hard:
            for when, words in (("first", "before training already"), ("last", "after training")):
                text = f"{name} uses at most half of the pool, {words}"
                samples, threshold = per_seed(part, f"used_{when}"), criteria.HALF_THE_POOL
                found.append(
                    _claim(f"pool.{when}.{kind}", text, samples, "<", threshold, name="entries in use", **pool)
                )
        # The same prompts, chosen otherwise: a comparison with random entries is fair to this one alone.
        if kind == "l2p" and own["over_random"].notna().any():
            text = f"{name} gains more than a point over as many entries at random"
            found.append(_claim("pool.random", text, per_seed(own, "over_random"), ">", criteria.GAINS, **points))
    return found


def _long(ends: pd.DataFrame, steps: int) -> list[Claim]:
    """Claims on every long training: is the gate constant, has training given or taken, does it saturate, does its
    worth collapse late?
    """
    ratio = ends.assign(ratio=ends["information_last"] / ends["information_first"])
    late = ends["fall"].gt(criteria.FALLS).astype(float).where(ends["fall"].notna())
    found = []
    for (training, task), part in ratio.assign(late=late).groupby(["training", "task"], sort=False):
        where = f"on the task {spelt(str(task))}, after {steps} steps by {training}"
        criterion: tuple[tuple[str, str, str, Any, float, dict[str, Any]], ...] = (
            (
                "constant",
                f"{where}, the gate is nearly constant",
                "information_last",
                "<",
                criteria.CONSTANT,
                {"name": "input information"},
            ),
            (
                "given",
                f"{where}, the gate has more input information than before",
                "ratio",
                ">",
                1.0,
                {"name": "input information after / before", "statistic": _geometric},
            ),
            (
                "saturated",
                f"{where}, the gate saturates",
                "saturation_last",
                ">",
                criteria.SATURATED,
                {"name": "share of saturated values"},
            ),
            (
                "late",
                f"{where}, most gates are worth less by two points than at their best",
                "late",
                ">",
                criteria.MOST_SEEDS,
                {"name": "share of seeds", "exact": True},
            ),
        )
        for what, text, column, relation, threshold, more in criterion:
            family = f"gate_degradation.long.{what}.{task}"
            samples = per_seed(part, column)
            name = f"{long_id(str(training), str(task))}.{what}"
            found.append(_claim(name, text, samples, relation, threshold, family=family, **more))
    return found


def long_id(training: str, task: str) -> str:
    """What the ids of claims on a long training begin with, behind the page's name."""
    return f"long.{task}.{training.lower().replace(' ', '_')}"


def _geometric(samples: np.ndarray, axis: int | None = None) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.exp(np.log(samples).mean(axis=axis))
