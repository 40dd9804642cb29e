"""A fair trial: does a gate gain anything once everything is trained? Dependence against gain, under every recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import pandas as pd

from lib import results
from lib.prompts import learners, training
from lib.prompts.gates import BLIND
from lib.results import Cell
from lib.verdicts import Claim, Findings
from paper.criteria import prompts as criteria
from paper.studies import roles, tuning, worth
from paper.studies.base import Compared
from paper.studies.gating import GateNames, GateStudy, LearnerNames, Seeds, TaskNames, assembled, per_seed, scored
from paper.studies.parameters import POSITIVE, Numbers, Some
from paper.words.spelling import spelt

CONTROL = training.Recipe(steps=300, batch=8, rate=0.01, optimiser="adam", warmup=0.0)
"""The recipe that is known to train a gate where there is something to gain."""
ZERO_SHOT = "zero-shot"
RECIPES = ("short", "control", "tuned")
"""Short: the study's own. Tuned: chosen for each learner and gate on validation pictures (``paper.studies.tuning``)."""
MANY = ("coop", "length")
"""Learner and gate that are tried with many seeds: the best known prompt learner, and the gate of the source paper."""


class FairTrial(GateStudy):
    """Gated learners, their blind twins and the learners without a gate, each under the same :data:`RECIPES`.

    Learners and gates named ``tuned_`` are trained by every recipe of the grid (``rates`` x ``lengths``) and judged
    under the one that is best for them on validation pictures: the gated learner, its twin and the learner without a
    gate each have a choice of their own. ``control_task`` are the tasks of the control's recipe.

    Tables: ``accuracy`` (a row per recipe, learner, gate, task, seed, variant), ``points`` (learner, gate, task,
    recipe, seed: dependence and gain in points), ``verdicts``, ``chosen`` (which recipe was chosen, and whether the
    loss is flat), ``lengths`` (validation accuracy of the tuned learners by number of steps).
    """

    task: TaskNames = ("shift",)
    learner: LearnerNames = ("coop",)
    gate: GateNames = ("length",)
    recipes: Annotated[tuple[str, ...], Some(RECIPES, everything="all", ordered=True)] = ("control",)
    control_task: TaskNames = ("shift",)
    control_learner: LearnerNames = ("coop",)
    control_gate: GateNames = ("length",)
    many_task: TaskNames = ("shift",)
    many_seeds: Seeds = 2
    tuned_learner: LearnerNames = ("coop",)
    tuned_gate: GateNames = ("length",)
    rates: Annotated[tuple[float, ...], Numbers(POSITIVE.low, POSITIVE.high)] = tuning.RATES
    lengths: Annotated[tuple[int, ...], Numbers(1, 1_000_000, whole=True, ordered=True)] = tuning.LENGTHS

    SIZES: ClassVar[tuple[str, ...]] = (*GateStudy.SIZES, "many_seeds")
    PARTS: ClassVar[tuple[str, ...]] = (
        *GateStudy.PARTS,
        *("recipes", "control_task", "control_learner", "control_gate", "many_task", "tuned_learner", "tuned_gate"),
    )
    TASKS: ClassVar[tuple[str, ...]] = ("task", "control_task", "many_task")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "accuracy": Compared((*worth.KEYS, "variant"), {"accuracy": 1.0}),
        "many": Compared(("task",), dict.fromkeys((*worth.DEPENDENCE, *worth.GAIN), 1.0)),
    }

    def check(self) -> None:
        super().check()
        for name in RECIPES[1:]:
            learners.pairs(getattr(self, f"{name}_learner"), getattr(self, f"{name}_gate"))

    def together(
        self, names: Sequence[str], kinds: Sequence[str], chosen: Sequence[str], recipe: training.Recipe
    ) -> list[Cell]:
        """Every learner with each of these gates, the gate's blind twin, and none, on the tasks chosen."""
        found: list[Cell] = []
        for learner, kind in learners.pairs(names, kinds):
            for gate in (kind, BLIND.get(kind, "none"), "none"):
                own = [self.cell(learner, gate, task, recipe=recipe) for task in chosen]
                # The short trainings of gates are looked at on other pages.
                found += own if gate == kind and recipe == self.recipe() else map(scored, own)
        return list(dict.fromkeys(found))

    def many(self) -> list[Cell]:
        """:data:`MANY`, its blind twin and the learner without a gate, with all their seeds."""
        seeds = {"seeds": list(range(self.many_seeds))}
        few = self.together([MANY[0]], [MANY[1]], self.many_task, CONTROL)
        return [replace(one, config={**one.config, **seeds}, size=self.many_seeds) for one in few]

    def trainings(self) -> list[tuple[str, Cell]]:
        """Every training with the name of its recipe; those of the grid as :func:`tuning.grid` names them."""
        every = dict.fromkeys((*self.task, *self.control_task, *self.many_task))
        found = [(ZERO_SHOT, self.cell("zero_shot", "none", task)) for task in every]
        if "short" in self.recipes:
            found += [("short", one) for one in self.together(self.learner, self.gate, self.task, self.recipe())]
        if "control" in self.recipes:
            tried = self.together(self.control_learner, self.control_gate, self.control_task, CONTROL)
            found += [("control", one) for one in tried]
            found += [("many", one) for one in self.many()]
        if "tuned" in self.recipes:
            for name, recipe in tuning.grid(self.rates, self.lengths).items():
                tried = self.together(self.tuned_learner, self.tuned_gate, self.task, recipe)
                found += [(name, one) for one in tried]
        return found

    def cells(self) -> list[Cell]:
        """Every training once."""
        return list(dict.fromkeys(cell for _, cell in self.trainings()))

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        every = assembled(found, self.trainings()).accuracy.rename(columns={"label": "recipe"})
        named = tuning.grid(self.rates, self.lengths)
        tried = every[every["recipe"].isin(list(named))]
        best = tuning.chosen(tried) if len(tried) else pd.DataFrame(columns=[*tuning.TUNED, "recipe", "flat"])
        rows = every[every["recipe"].isin(RECIPES)]
        if len(tried):
            rows = pd.concat([rows, tuning.tuned(tried).assign(recipe="tuned")], ignore_index=True)
        zero = every[every["recipe"] == ZERO_SHOT][["task", "seed", "accuracy"]].reset_index(drop=True)
        accuracy = worth.beside(rows)
        points = worth.differences(accuracy)
        closely = worth.beside(every[every["recipe"] == "many"])
        many = worth.differences(closely)
        tables = {
            "accuracy": accuracy,
            "points": pd.concat([points, many], ignore_index=True),
            "verdicts": worth.verdicts(pd.concat([accuracy, closely], ignore_index=True)),
            "many": many,
            "nulls": worth.nulls(rows),
            "zero_shot": zero,
            "chosen": best,
            "lengths": _lengths(tried, best),
        }
        claims = [*_trained(accuracy, zero, tables["lengths"]), *_many(many), *_ordinary(points), *_planted(points)]
        return tables, Findings.of(claims, holm=True)


def _lengths(tried: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracy at the chosen rate, by number of steps: learner, gate, task, steps, seed, validation."""
    if not len(tried):
        return pd.DataFrame(columns=[*tuning.TUNED, "steps", "seed", "validation"])
    rate = tried["recipe"].str.split(",").str[0]
    keys = best.assign(rate=best["recipe"].str.split(",").str[0])[[*tuning.TUNED, "rate"]]
    own = tried.assign(rate=rate)[tried["validation"].notna()].merge(keys, on=[*tuning.TUNED, "rate"])
    return own[[*tuning.TUNED, "steps", "seed", "validation"]].reset_index(drop=True)


def _claim(what: str, text: str, samples: Sequence[float], relation: Any, threshold: float, **more: Any) -> Claim:
    words: dict[str, Any] = {"family": "fair_trial", "unit": "points", "rare": criteria.RARE} | more
    return Claim(f"fair_trial.{what}", text, samples, relation, threshold, **words)


def _trained(accuracy: pd.DataFrame, zero: pd.DataFrame, lengths: pd.DataFrame) -> list[Claim]:
    """Are the learners without a gate trained until trained?"""
    ordinary = ~accuracy["task"].isin(roles.GRADED)
    plain = accuracy[(accuracy["recipe"] == "tuned") & (accuracy["gate"] == "none") & ordinary]
    if not len(plain):
        return []
    ahead = plain.merge(zero, on=["task", "seed"], suffixes=("", "_zero"))
    ahead["ahead"] = ahead["accuracy"] - ahead["accuracy_zero"]
    worst = ahead.groupby("task")["ahead"].mean().idxmin()
    found = [
        _claim(
            "trained.zero_shot",
            "the tuned learner without a gate beats the hand-written sentence on every ordinary task (the worst of"
            " them)",
            per_seed(ahead[ahead["task"] == worst], "ahead"),
            ">",
            criteria.LEARNS,
            rare=0.0,
        )
    ]
    own = lengths[lengths["gate"] == "none"]
    if (steps := sorted(own["steps"].unique()))[1:]:
        wide = own.pivot_table(index="seed", columns="steps", values="validation")
        found.append(
            _claim(
                "trained.longer",
                f"the tuned learner without a gate is trained out: {steps[-1]} steps instead of {steps[-2]} change its"
                " validation accuracy by less than a point",
                (wide[steps[-1]] - wide[steps[-2]]).tolist(),
                "within",
                criteria.NO_GAIN,
                rare=0.0,
            )
        )
    return found


_OVER = {"over_fixed": "the learner without a gate", "over_blind": "a blind gate of as many parameters"}


def _many(many: pd.DataFrame) -> list[Claim]:
    """With seeds enough to see a point: does a gate that is trained well depend, and gain, on ordinary tasks?"""
    ordinary = many[~many["task"].isin(roles.GRADED)] if len(many) else many
    found = []
    for task, part in [("", ordinary), *ordinary.groupby("task", sort=False)] if len(ordinary) else []:
        where = f"on the task {spelt(str(task))}" if task else "on ordinary tasks together"
        name = f"many.{task}." if task else "many."
        held = f"{where} a gate trained by the control recipe loses more than two points when it is held at its mean"
        own = {"family": "fair_trial_many"}
        found.append(_claim(f"{name}depends", held, per_seed(part, "over_mean"), ">", criteria.ADAPTIVE, **own))
        for column, words in _OVER.items():
            text = (
                f"{where} a gate trained by the control recipe is ahead of {words}, or behind it, by less than a point"
            )
            found.append(_claim(f"{name}{column}", text, per_seed(part, column), "within", criteria.NO_GAIN, **own))
    return found


def _ordinary(points: pd.DataFrame) -> list[Claim]:
    """Do gates depend, and gain, on the tasks that none was built for? Each recipe by itself."""
    ordinary = points[~points["task"].isin(roles.GRADED)]
    found = []
    for recipe, part in ordinary.groupby("recipe", sort=False):
        # A mean over learners and gates needs the same of them for every seed.
        found.append(
            _claim(
                f"{recipe}.depends",
                f"on ordinary tasks gates trained by the {recipe} recipe depend on their pictures: held at their mean"
                " they lose more than two points",
                per_seed(part, "over_mean"),
                ">",
                criteria.ADAPTIVE,
            )
        )
        for column, words in _OVER.items():
            whole = part.dropna(subset=[column])
            found.append(
                _claim(
                    f"{recipe}.{column}",
                    f"on ordinary tasks gates trained by the {recipe} recipe gain nothing over {words}: the difference"
                    " is less than a point",
                    per_seed(whole, column),
                    "within",
                    criteria.NO_GAIN,
                )
            )
    tuned = ordinary[ordinary["recipe"] == "tuned"]
    for task, part in tuned.groupby("task", sort=False):
        found.append(
            _claim(
                f"task.{task}",
                f"on the task {spelt(str(task))} a tuned gate gains more than a point over the tuned learner"
                " without a gate",
                per_seed(part, "over_fixed"),
                ">",
                criteria.GAINS,
            )
        )
    return found


def _planted(points: pd.DataFrame) -> list[Claim]:
    """Where the right prompt depends on the picture: the control, a learner that has nothing but its gate to see it
    with, must depend and gain. Whether another learner needs its gate there is a question.
    """
    planted = points[(points["task"] == "conflict") & (points["gate"] == MANY[1]) & (points["recipe"] != "short")]
    found = []
    for (recipe, learner), part in planted.groupby(["recipe", "learner"], sort=False):
        control = learner == MANY[0]
        who, name = ("control: ", "") if control else ("", f"{learner}.")
        for column, words in {"over_mean": "itself held at its mean", **_OVER}.items():
            found.append(
                _claim(
                    f"planted.{recipe}.{name}{column}",
                    f"{who}on the conflict task a gate of {spelt(str(learner))} trained by the {recipe} recipe is ten"
                    f" points and more ahead of {words}",
                    per_seed(part, column),
                    ">",
                    criteria.CONTROL,
                )
            )
    return found
