"""Trained until trained: recipes from a stated grid, chosen on validation pictures, and whether the loss is flat."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.prompts.training import Recipe
from paper.criteria import prompts as criteria

RATES = (0.003, 0.01)
LENGTHS = (300, 1000)
#: What tells a training that is tuned from another; each of them gets the same grid.
TUNED = ["learner", "gate", "task"]


def grid(rates: Sequence[float] = RATES, lengths: Sequence[int] = LENGTHS) -> dict[str, Recipe]:
    """The recipes to choose from, by their names: Adam on prompts and gate, a cosine to zero without a warm-up."""
    return {
        f"Adam {rate:g}, {steps} steps": Recipe(steps=steps, rate=rate, optimiser="adam", warmup=0.0)
        for rate in rates
        for steps in lengths
    }


def chosen(accuracy: pd.DataFrame) -> pd.DataFrame:
    """For each training the recipe whose mean ``validation`` accuracy over seeds is the highest; of equals the one with
    the fewest steps. Columns :data:`TUNED`, recipe, steps, validation, loss_end and loss_before (training loss over the
    last tenth of the steps and the tenth before, nats), flat (do these differ by less than the criterion?).

    ``accuracy`` has a row per recipe, seed and variant; test accuracies are not looked at.
    """
    own = accuracy[accuracy["validation"].notna()]
    columns = ["validation", "loss_end", "loss_before"]
    means = own.groupby([*TUNED, "recipe", "steps"], sort=False)[columns].mean().reset_index()
    ordered = means.sort_values(["validation", "steps"], ascending=[False, True], kind="stable")
    best = ordered.drop_duplicates(TUNED).sort_index()
    flat = (best["loss_before"] - best["loss_end"]).abs() < criteria.FLAT
    return best.assign(flat=flat).reset_index(drop=True)


def tuned(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The rows of the chosen recipes alone."""
    best = chosen(accuracy)[[*TUNED, "recipe"]]
    return accuracy.merge(best, on=[*TUNED, "recipe"])
