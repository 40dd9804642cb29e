"""Is the gate's gradient smaller than the prompts', by how much, and where does it get lost?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch

from lib import results
from lib.prompts import learners, tasks, training
from lib.prompts.backbone import Backbone
from lib.prompts.data import RealTask
from lib.prompts.diagnosis import FACTORS
from lib.prompts.gates import Gate
from lib.prompts.learners import Learner
from lib.prompts.tasks import Task
from lib.replicas import Tree
from lib.results import Cell
from lib.runtime import stream
from lib.verdicts import Claim, Findings
from paper.criteria import prompts as criteria
from paper.studies import roles
from paper.studies.asked import gaps_at_start
from paper.studies.base import Compared
from paper.studies.gating import GateNames, GateStudy, assembled, design, loaded, per_seed, task_of
from paper.studies.parameters import Numbers, Some
from paper.words.spelling import spelt

REPORTED = 2.60
"""Magnitude gap in decades that the first source paper is quoted with for its gated MaPLe, coupled both ways."""
REPORTED_OF = "bimaple"
"""The learner of which it is reported."""

SURVEYED = ("length", "depth", "both", "tanh", "soft", "top_k", "gumbel", "l2p")
"""Gates whose gap is measured with every learner before training."""
SURVEYED_LEARNERS = tuple(name for name in learners.LEARNERS if name != "zero_shot")
STARTED = tuple(name for name in SURVEYED_LEARNERS if learners.LEARNERS[name].text and name != "pool")
"""Learners whose contexts can start from words, and of which the gap is measured from noise as well."""

LENGTHS = (0.002, 0.006, 0.02, 0.06, 0.2, 0.6)
"""Initial standard deviations of the prompts that the what-if asks about."""


class GradientImbalance(GateStudy):
    """Gap between prompt and gate gradient along training, taken apart into factors.

    Tables: ``gaps`` (a row per learner, gate, task, seed, recorded step: gap and factors in decades), ``null`` (the
    same at the first step on a backbone with random weights) and ``survey`` (at the first step on the trained one, for
    the learners ``surveyed`` with each of the gates :data:`SURVEYED`). ``starts`` is the same with a length gate for
    contexts that start from "words" and from "noise", with the ``length`` of what the gate scales (root mean square
    over units). ``biases`` of the gate are what the what-if sets against every length of prompts in :data:`LENGTHS`, at
    the first step of the same trainings (table ``asked``: learner, gate, prompt_std, bias, seed, mean over tasks).
    """

    gate: GateNames = ("length", "depth")
    surveyed: Annotated[tuple[str, ...], Some(SURVEYED_LEARNERS)] = ("coop", "vpt", "ivlp", "pool")
    biases: Annotated[tuple[float, ...], Numbers(-50, 50, empty=True)] = ()

    PARTS: ClassVar[tuple[str, ...]] = (*GateStudy.PARTS, "surveyed", "biases")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "gaps": Compared(("learner", "gate", "task", "step"), {"gap": 0.01}),
        "null": Compared(("learner", "gate", "task"), {"gap": 0.01}),
        "survey": Compared(("learner", "gate", "task"), {"gap": 0.01}),
        "starts": Compared(("learner", "gate", "task", "start"), {"gap": 0.01}),
    }

    def _surveyed(self) -> list[tuple[str, str]]:
        """Pairs of learner and gate whose gap is measured before training."""
        everything = learners.pairs(SURVEYED_LEARNERS, SURVEYED)
        return [(learner, gate) for learner, gate in everything if learner in self.surveyed]

    def cells(self) -> list[Cell]:
        """The trainings, the null, the survey, and both ways to start."""
        before = [*self._before("random", self.pairs()), *self._before(self.pretrained, self._surveyed())]
        started = [cell for start in ("words", "noise") for cell in self._started(start)]
        return [*self.gated(), *before, *started, *self.asked().values()]

    def asked(self) -> dict[tuple[str, str], Cell]:
        """What the what-if shows, by learner and gate."""
        found = {}
        for learner, gate in self.pairs() if self.biases else ():
            config = {
                "learner": learner,
                "design": design(learner),
                "gate": gate,
                "tasks": [self._named(task) for task in self.task],
                "seeds": list(range(self.seeds)),
                "batch": self.batch,
                "shots": self.shots,
                "tokens": self.tokens,
                "stds": list(LENGTHS),
                "biases": list(self.biases),
                **self.weights(),
            }
            found[learner, gate] = Cell("gap_asked", config, gaps_at_start, uses=self.uses(gate), site=self.site())
        return found

    def _named(self, task: str) -> dict[str, Any]:
        """A task as cells name it."""
        return {"task": task, "strength": self.graded(task), "data": self.data_of(task)}

    def _started(self, start: str) -> list[Cell]:
        """The survey of what can start from words, with a length gate and this start."""
        pairs = [(learner, "length") for learner in STARTED if learner in self.surveyed]
        return self._before(self.pretrained, pairs, start)

    def _before(self, pretrained: str, pairs: Sequence[tuple[str, str]], start: str = "") -> list[Cell]:
        """The gap before training with these weights: a cell per learner, with its gates and all tasks."""
        found = []
        for learner in dict.fromkeys(learner for learner, _ in pairs):
            kinds = [kind for name, kind in pairs if name == learner]
            config = {
                "learner": learner,
                "design": design(learner),
                "gates": kinds,
                "tasks": [self._named(task) for task in self.task],
                "seeds": list(range(self.seeds)),
                "batch": self.batch,
                "tokens": self.tokens,
                "prompt_std": self.prompt_std,
                "start": start,
                **self.weights(pretrained),
            }
            found.append(Cell("gap", config, gaps_before, uses=self.uses(*kinds), site=self.site(pretrained)))
        return found

    def before(self, model: Backbone, *, task: str = "", **given: Any) -> pd.DataFrame:
        """:func:`gap_before_training` on a task of the backbone's pictures, by default one that is easy to see."""
        easy = "objects" if self.backbone in roles.WORLDS else "texture"
        chosen, _ = self.find(task or easy, given.pop("strength", 1.0))
        return gap_before_training(model, task=chosen, **given)

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        gaps = assembled(found, [("", cell) for cell in self.gated()]).trajectory

        def joined(cells: Sequence[Cell]) -> pd.DataFrame:
            return pd.concat([found[cell]["gap"] for cell in cells], ignore_index=True)

        null = joined(self._before("random", self.pairs()))
        survey = joined(self._before(self.pretrained, self._surveyed()))
        tables = {"gaps": gaps, "null": null, "survey": survey}
        claims = [*_claims(gaps, null), *_surveyed(survey), *_reported(gaps)]
        both = [cell for start in ("words", "noise") for cell in self._started(start)]
        tables["starts"] = joined(both) if both else pd.DataFrame()
        asked = [found[cell]["gap"].assign(learner=name[0], gate=name[1]) for name, cell in self.asked().items()]
        tables["asked"] = pd.concat(asked, ignore_index=True) if asked else pd.DataFrame()
        return tables, Findings.of([*claims, *_started(tables["starts"])], holm=True)


def at_start(gaps: pd.DataFrame | None) -> pd.DataFrame | None:
    """The gap before the first step; None where nothing was measured."""
    return None if gaps is None else gaps[gaps["step"] == 0]


def _claim(what: str, text: str, samples: Sequence[float], relation: Any, threshold: float, **more: Any) -> Claim:
    return Claim(f"gradient_imbalance.{what}", text, samples, relation, threshold, "gradient_imbalance", **more)


def _claims(gaps: pd.DataFrame, null: pd.DataFrame) -> list[Claim]:
    """Claims on the gap through training, before it, its factors, and the null."""
    start = gaps[gaps["step"] == 0]
    product = gaps[list(FACTORS)].sum(axis=1, skipna=False)
    # Two equal infinities are no error.
    error = gaps.assign(error=(product - gaps["gap"]).abs().where(product != gaps["gap"], 0.0))
    lost = start.assign(weak=start["prompt_norm"] + start["alignment"])
    return [
        _claim(
            "through_training",
            "the gate's gradient is at least ten times smaller than the prompts', in the mean over a short training",
            per_seed(gaps, "gap"),
            ">",
            criteria.TENFOLD,
            unit="decades",
        ),
        _claim(
            "reported.from",
            "before training the gap lies above the lower end of the reported two to three orders of magnitude, in the"
            " mean over learners and gates",
            per_seed(start, "gap"),
            ">",
            criteria.REPORTED_FROM,
            unit="decades",
        ),
        _claim(
            "reported.to",
            "before training the gap lies below the upper end of the reported two to three orders of magnitude, in the"
            " mean over learners and gates",
            per_seed(start, "gap"),
            "<",
            criteria.REPORTED_TO,
            unit="decades",
        ),
        _claim(
            "factors",
            "the factors of the chain multiply to the measured gap",
            per_seed(error, "error"),
            "<",
            criteria.EXACT,
            unit="decades",
            name="mean error",
        ),
        _claim(
            "meeting",
            "short prompts and their poor alignment with the upstream gradient make most of the gap before training",
            [
                weak / gap if math.isfinite(gap) else math.nan
                for weak, gap in zip(per_seed(lost, "weak"), per_seed(lost, "gap"), strict=True)
            ],
            ">",
            criteria.MOST,
            name="share of the gap",
        ),
        _claim(
            "null",
            "a backbone with random weights, where a gate has nothing to do, shows a gap of more than a decade as well",
            per_seed(null, "gap"),
            ">",
            criteria.TENFOLD,
            unit="decades",
        ),
    ]


def _surveyed(survey: pd.DataFrame) -> list[Claim]:
    """Claims on every learner and gate before training: all of them, and those whose gap is finite."""
    pairs = survey.groupby(["learner", "gate", "seed"])[["gap", "gap_rms"]].mean(skipna=False).reset_index()
    passing = pairs[~np.isinf(pairs["gap"])]
    smallest = passing.groupby("seed")[["gap", "gap_rms"]].min(skipna=False)
    behind = pairs.assign(behind=(pairs["gap"] > criteria.TENFOLD_EVERYWHERE).where(pairs["gap"].notna()))
    return [
        _claim(
            "survey.every",
            "before training every learner with every gate has a gap of more than a decade, also where a gate lets no"
            " gradient through to the prompts",
            per_seed(behind.astype({"behind": float}), "behind"),
            ">=",
            1,
            name="share of learners and gates",
        ),
        _claim(
            "survey.total",
            "before training every learner and gate of which both prompts and gate get a gradient has a gap of more"
            " than a decade (the smallest of them)",
            smallest["gap"].tolist(),
            ">",
            criteria.TENFOLD_EVERYWHERE,
            unit="decades",
        ),
        _claim(
            "survey.per_parameter",
            "before training every learner and gate of which both prompts and gate get a gradient has a gap of more"
            " than a decade per parameter, too",
            smallest["gap_rms"].tolist(),
            ">",
            criteria.TENFOLD_EVERYWHERE,
            unit="decades",
        ),
    ]


def _reported(gaps: pd.DataFrame) -> list[Claim]:
    """The claims on the paper's own number, if the learner is there of which it is reported."""
    own = gaps[gaps["learner"] == REPORTED_OF]
    if not len(own):
        return []
    return [
        _claim(
            f"reported.{when}",
            f"gated MaPLe, coupled both ways, has a gap within a quarter of a decade of the reported {REPORTED:.2f}"
            f" {words}",
            [gap - REPORTED for gap in per_seed(part, "gap")],
            "within",
            criteria.AS_REPORTED,
            unit="decades",
            name="mean difference",
        )
        for when, words, part in (
            ("before", "before training", own[own["step"] == 0]),
            ("through", "in the mean over a short training", own),
        )
    ]


def from_words(starts: pd.DataFrame) -> pd.DataFrame:
    """What contexts that start from words in place of noise take off the gap, in decades: a row per learner and seed,
    none where no learner has such contexts.

    ``predicted`` is the law that the gate's gradient is in proportion to the length of what the gate scales.
    """
    if not len(starts):
        return pd.DataFrame()
    own = starts.assign(predicted=np.log10(starts["length"]))
    wide = own.groupby(["learner", "seed", "start"], sort=False)[["gap", "predicted"]].mean().unstack("start")
    taken = wide["gap", "noise"] - wide["gap", "words"]
    predicted = wide["predicted", "words"] - wide["predicted", "noise"]
    return pd.DataFrame({"predicted": predicted, "taken": taken}).reset_index()


def _started(starts: pd.DataFrame) -> list[Claim]:
    """Claims on the gap of contexts that start from words, learner by learner, if there are any."""
    found = []
    for learner, part in from_words(starts).groupby("learner", sort=False) if len(starts) else ():
        who = f"with {spelt(str(learner))}"
        text = f"{who}, contexts that start from words take at least a quarter of a decade off the gap"
        shared: dict[str, Any] = {"unit": "decades"}
        found.append(_claim(f"starts.{learner}", text, part["taken"].tolist(), ">", criteria.FROM_WORDS, **shared))
        text = f"{who}, starting from words moves the gap by what the length of the prompts predicts"
        missed = (part["taken"] - part["predicted"]).tolist()
        found.append(_claim(f"law.{learner}", text, missed, "within", criteria.FROM_WORDS, name="mean miss", **shared))
    return found


def gaps_before(config: Mapping[str, Any], site: Mapping[str, Any]) -> results.Tables:
    """The gap before training of one learner with some gates on some tasks: a row per gate, task and seed."""
    backbone = loaded(config, site)
    rows = [
        gap_before_training(
            backbone,
            learner=config["learner"],
            gate=gate,
            task=task_of(task, site)[0],
            seeds=config["seeds"],
            batch=config["batch"],
            tokens=config["tokens"],
            prompt_std=config["prompt_std"],
            start=config["start"],
        ).assign(learner=config["learner"], gate=gate, task=task["task"], start=config["start"])
        for gate in config["gates"]
        for task in config["tasks"]
    ]
    return {"gap": pd.concat(rows, ignore_index=True)}


def gap_before_training(
    backbone: Backbone,
    *,
    learner: str = "coop",
    gate: str = "length",
    task: str | Task | RealTask = "texture",
    seeds: int | Sequence[int] = 4,
    batch: int = 16,
    tokens: int = 4,
    strength: float = 1.0,
    **setting: Any,
) -> pd.DataFrame:
    """The gap and its factors at initialisation, in decades: one row per seed. Takes a second or less.

    ``seeds`` are the seeds, or how many; ``strength`` grades the conflict task; ``setting`` are entries of
    :class:`lib.prompts.training.Setting`: ``prompt_std``, ``bias``, ``gain`` and so on.
    """
    chosen: Any = tasks.get(task, strength) if isinstance(task, str) else task
    each = range(seeds) if isinstance(seeds, int) else seeds
    model = Learner(learner, backbone, chosen.names, template=chosen.template, gate=gate, tokens=tokens)
    shots = -(-batch // len(chosen.names))
    runs = [training.Replica(chosen, seed, training.Setting(**setting), shots) for seed in each]
    data = training.prepare(model, runs, 2)
    # A random batch per seed, as training would draw it.
    rows = [torch.randperm(data.sizes[0], generator=stream(seed, "batches"))[:batch] for seed in each]
    params = training.initial(model, data)
    measured = training.chains(model, data, params, torch.stack(rows).to(backbone.device))
    measured["length"] = torch.func.vmap(lambda tree: _length(model, tree))(params)
    return pd.DataFrame({name: value.tolist() for name, value in measured.items()}).assign(seed=list(each))


def _length(learner: Learner, params: Tree) -> torch.Tensor:
    """Length of the prompts that a unit of the gate scales, root mean square over units."""
    squares = [cast(Gate, learner.gate).length(value) for value in learner.prompts(params).values()]
    return torch.stack(squares).sum(0).mean().sqrt()
