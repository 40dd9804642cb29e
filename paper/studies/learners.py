"""What the prompt learners are, how much each learns, and how far each gets without a gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lib import results, runtime
from lib.prompts import data, learners, recipes
from lib.results import Cell
from lib.verdicts import Claim, Findings
from paper.criteria.prompts import LEARNS, SIZE_DECIDES, VISION_PAYS
from paper.studies import tuning
from paper.studies.base import Compared, joined, pivoted
from paper.studies.gating import LearnerNames, PromptStudy, TaskNames, assembled, design, loaded, per_seed, task_of
from paper.studies.parameters import POSITIVE, Numbers, Some

UNTRAINED = "zero_shot"


RECIPES = ("short", "published", "tuned")
"""Short: the study's own. Published: those of the learner in :mod:`lib.prompts.recipes`. Tuned: chosen on validation
pictures (:mod:`paper.studies.tuning`)."""


class Learners(PromptStudy):
    """Every learner without a gate, beside the hand-written sentence, by each of the :data:`RECIPES`.

    Learners in ``tuned_learner`` are trained by every recipe of the grid (``rates`` x ``lengths``) and judged under the
    one that is best for them on validation pictures.

    Tables: ``accuracy`` (by, recipe, learner, task, seed, accuracy in per cent, steps; ``by`` is the recipe's
    :func:`kind`, and the hand-written sentence has :data:`UNTRAINED`), ``ahead`` (the same in points over it),
    ``recipes`` (what each is, in steps of the tasks), ``chosen`` (which recipe was chosen, and whether the loss is
    flat), ``views`` (:func:`views`), ``designs`` (learner, about, parameters) and ``tensors`` (learner, group, tensor,
    shape, parameters: all that each learner trains for the first task).
    """

    task: TaskNames = ("fine",)
    learner: LearnerNames = ("zero_shot", "vpt_shallow", "vpt", "pool")
    recipes: Annotated[tuple[str, ...], Some(RECIPES, everything="all", ordered=True)] = ("short", "published")
    tuned_learner: LearnerNames = ("coop",)
    rates: Annotated[tuple[float, ...], Numbers(POSITIVE.low, POSITIVE.high)] = tuning.RATES
    lengths: Annotated[tuple[int, ...], Numbers(1, 1_000_000, whole=True, ordered=True)] = tuning.LENGTHS

    GATED: ClassVar[bool] = False
    PARTS: ClassVar[tuple[str, ...]] = (*PromptStudy.PARTS, "recipes", "tuned_learner")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "accuracy": Compared(("recipe", "learner", "task"), {"accuracy": 1.0})
    }

    def trainings(self) -> list[tuple[str, Cell]]:
        """Every training with the name of its recipe; those of the grid as :func:`tuning.grid` names them."""
        found = [(UNTRAINED, self.cell("zero_shot", "none", task)) for task in self.task if "zero_shot" in self.learner]
        trained = [name for name in self.learner if name != "zero_shot"]
        if "short" in self.recipes:
            found += [("short", self.cell(name, "none", task)) for name in trained for task in self.task]
        if "published" in self.recipes:
            found += [
                (name, self.cell(known.learner, "none", task, recipe=self.published_for(name, task)))
                for name, known in recipes.RECIPES.items()
                if known.learner in trained
                for task in self.task
            ]
        if "tuned" in self.recipes:
            found += [
                (name, self.cell(learner, "none", task, recipe=recipe))
                for name, recipe in tuning.grid(self.rates, self.lengths).items()
                for learner in self.tuned_learner
                for task in self.task
            ]
        return found

    def cells(self) -> list[Cell]:
        """The trainings, each once, what is trained, and what is left of pictures that are cropped."""
        cropped = [self._views(task) for task in self.task if "published" in self.recipes]
        return [*dict.fromkeys(cell for _, cell in self.trainings()), *cropped, self._designs()]

    def _views(self, task: str) -> Cell:
        config = {
            "task": task,
            "strength": self.graded(task),
            "data": self.data_of(task),
            "shots": self.shots,
            "seeds": list(range(self.seeds)),
            **self.weights(),
        }
        return Cell("views", config, views, uses=self.uses(), site=self.site())

    def _all(self) -> list[str]:
        """Every learner that is looked at, those that are only tuned included."""
        return list(dict.fromkeys((*self.learner, *(self.tuned_learner if "tuned" in self.recipes else ()))))

    def _designs(self) -> Cell:
        first = self.task[0]
        config = {
            "learners": {name: design(name) for name in self._all()},
            "task": first,
            "strength": 1.0,
            "data": self.data_of(first),
            "tokens": self.tokens,
            **self.weights(),
        }
        return Cell("designs", config, designs, uses=self.uses(), site=self.site())

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        trained = self.trainings()
        every = assembled(found, trained).accuracy.rename(columns={"label": "recipe"})
        named = tuning.grid(self.rates, self.lengths)
        tried = every[every["recipe"].isin(list(named))]
        best = tuning.chosen(tried) if len(tried) else pd.DataFrame(columns=[*tuning.TUNED, "recipe", "flat"])
        accuracy = every[~every["recipe"].isin(list(named))]
        if len(tried):
            accuracy = pd.concat([accuracy, tuning.tuned(tried).assign(recipe="tuned")])
        accuracy = accuracy.assign(by=accuracy["recipe"].map(kind)).reset_index(drop=True)
        tensors = found[self._designs()]["tensors"]
        size = tensors.groupby("learner")["parameters"].sum()
        rows = [(name, learners.LEARNERS[name].about, int(size.get(name, 0))) for name in self._all()]
        about = pd.DataFrame(rows, columns=["learner", "about", "parameters"])
        ahead = _ahead(accuracy)
        tables = {
            "accuracy": accuracy,
            "ahead": ahead,
            "recipes": _recipes([(name, cell) for name, cell in trained if name not in named]),
            "chosen": best,
            **joined({cell: one for cell, one in found.items() if cell.kind == "views"}),
            "designs": about,
            "tensors": tensors,
        }
        return tables, Findings.of(_claims(ahead, about), holm=True)


def kind(recipe: str) -> str:
    """Which of the :data:`RECIPES` one of that name is."""
    return "published" if recipe in recipes.RECIPES else recipe


def _recipes(trained: list[tuple[str, Cell]]) -> pd.DataFrame:
    """Recipes with steps and all, as the cells have them; the short one in one row for all learners."""
    rows = []
    for name, cell in trained:
        if name == UNTRAINED:
            continue
        own = cell.config["recipe"]
        known = recipes.RECIPES.get(name)
        rows.append(
            {
                "recipe": name,
                "learner": cell.config["learner"] if known else "every learner",
                "task": cell.config["task"] if known else "every task",
                "steps": own["steps"],
                "at 1e-5": int(own["warmup"] * own["steps"]),
                **{entry: own[entry] for entry in ("batch", "rate", "optimiser")},
                "views": own["augment"],
                "source": known.source if known else "",
            }
        )
    return pd.DataFrame(rows).drop_duplicates(ignore_index=True)


def _ahead(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Points over the hand-written sentence: by, recipe, learner, task, seed, ahead; no rows where it was not asked."""
    zero = accuracy[accuracy["recipe"] == UNTRAINED][["task", "seed", "accuracy"]]
    both = accuracy[accuracy["recipe"] != UNTRAINED].merge(zero, on=["task", "seed"], suffixes=("", "_zero"))
    both["ahead"] = both["accuracy"] - both["accuracy_zero"]
    return both[["by", "recipe", "learner", "task", "seed", "ahead"]]


def designs(config: Mapping[str, Any], site: Mapping[str, Any]) -> results.Tables:
    """What each learner trains: a row per tensor."""
    backbone, (task, _) = loaded(config, site), task_of(config, site)
    parts = [
        learners.Learner(name, backbone, task.names, tokens=config["tokens"]).table().assign(learner=name)
        for name in config["learners"]
    ]
    table = pd.concat(parts, ignore_index=True)
    return {"tensors": table[["learner", "group", "tensor", "shape", "parameters"]].astype({"parameters": int})}


def views(config: Mapping[str, Any], site: Mapping[str, Any]) -> results.Tables:
    """In how many per cent the hand-written sentence is right: of training pictures, and of a random view of each.

    Table "views": columns task, seed, pictures, views.
    """
    backbone, (task, _) = loaded(config, site), task_of(config, site)
    rows = []
    for seed in config["seeds"]:
        split = task.few_shot(config["shots"], seed, 1, backbone.image_size)
        cropped = data.augmented(split.images, task.flips, runtime.stream(seed, "task", task.name, "views"))
        shown = {"pictures": split.images, "views": cropped}
        right = {
            name: 100 * (backbone.zero_shot(images, task.prompts).cpu() == split.labels).float().mean().item()
            for name, images in shown.items()
        }
        rows.append({"task": config["task"], "seed": seed, **right})
    return {"views": pd.DataFrame(rows)}


def _claims(ahead: pd.DataFrame, designs: pd.DataFrame) -> list[Claim]:
    """What is claimed of each kind of recipe, where the hand-written sentence can be compared with several learners."""
    size = designs.set_index("learner")["parameters"]
    claims = []
    for by in RECIPES:
        own = ahead[ahead["by"] == by]
        if own["learner"].nunique() < 3:
            continue
        several = own.groupby(["recipe", "learner", "task"])["ahead"]
        # Where all have diverged none is the worst, and nothing is decided.
        lowest = several.mean().fillna(np.inf).idxmin()
        worst = several.get_group(lowest).to_frame().assign(seed=own["seed"])
        claims.append(
            Claim(
                f"learners.every.{by}",
                f"{_BY[by]}, every learner beats the hand-written sentence on every task (the worst of them)",
                per_seed(worst, "ahead"),
                ">",
                LEARNS,
                "learners",
                unit="points",
                name="gain of the worst",
            )
        )
        means = pivoted(own, ["seed"], "learner", "ahead")
        claims.append(
            Claim(
                f"learners.size.{by}",
                f"{_BY[by]}, the number of trainable parameters decides how far a learner gets",
                [_rank_correlation(size.loc[means.columns].to_numpy(), row) for row in means.to_numpy()],
                ">",
                SIZE_DECIDES,
                "learners",
                name="rank correlation over learners",
            )
        )
        sees = [name for name in means.columns if learners.LEARNERS[name].sees]
        blind = [name for name in means.columns if name not in sees]
        if sees and blind:
            claims.append(
                Claim(
                    f"learners.vision.{by}",
                    f"{_BY[by]}, prompts in the vision tower are worth five points more than prompts in the text alone",
                    np.subtract(*(means[some].mean(axis=1, skipna=False) for some in (sees, blind))).tolist(),
                    ">",
                    VISION_PAYS,
                    "learners",
                    unit="points",
                    name="mean difference",
                )
            )
    return claims


_BY = {
    "short": "trained by the short recipe",
    "published": "trained as published",
    "tuned": "trained by a recipe chosen on validation pictures",
}


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's; nan where all learners gain alike."""
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else float("nan")
