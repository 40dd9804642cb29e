"""What a what-if on gates says of a setting in numbers, what of it the evidence has beside a live run, and what came of
the question before it. All numbers are of a page's tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import ndtr

from lib.checks import ParameterError
from lib.prompts.learners import pairs
from paper.studies.base import Page
from paper.studies.escape import named
from paper.whatif import Reading, Readings
from paper.words.format import number
from paper.words.numbers import listed, no_evidence

Tables = Mapping[str, pd.DataFrame]


# ------------------------------------------------------------------------------------------------- the gap
def gap_at(tables: Tables, prompt_std: float, bias: float) -> pd.DataFrame:
    """The gap and its factors before training, of all learners and gates of the page, at one setting."""
    asked = tables["asked"]
    if not len(asked):
        raise ParameterError(no_evidence("it covers other parameters than these"))
    return asked[(asked["prompt_std"] == prompt_std) & (asked["bias"] == bias)]


def of_gap(gaps: pd.DataFrame) -> Readings:
    """The gap over seeds."""
    per_seed = gaps.groupby("seed")["gap"].mean()
    return [Reading.over_seeds("gap before training", per_seed, unit="decades", scale=(0.0, 6.0))]


def gap_known(page: Page, learner: str, gate: str, task: str, prompt_std: float, bias: float) -> Readings | str:
    """The gap that the evidence has for a learner, gate and task, whose prompts and gate start as they come."""
    if page.evidence is None:
        return no_evidence("it covers other parameters than these")
    usual = page.subject.parameters()["prompt_std"]
    if not math.isclose(prompt_std, usual, rel_tol=1e-6) or bias:
        return no_evidence(f"single tasks were measured at a deviation of {number(usual)} and a bias of 0")
    survey = page.tables["survey"]
    here = survey[(survey["learner"] == learner) & (survey["gate"] == gate) & (survey["task"] == task)]
    return of_gap(here) if len(here) else no_evidence("this learner, gate and task were not measured together")


def gap_allowed(learner: str, gate: str, **_: object) -> None:
    """Refuses a learner with a gate that it cannot have."""
    pairs([learner], [gate])


def of_opening(tables: Tables) -> str:
    """What became of the question about a gate that starts open (Markdown)."""
    asked = tables["asked"]
    if not len(asked):
        return ""
    usual = asked["prompt_std"].iloc[(asked["prompt_std"] - 0.02).abs().argmin()]
    means = asked[asked["prompt_std"] == usual].groupby("bias")["gap"].mean()
    if 0 not in means or len(means) < 2:
        return ""
    lengths = asked[asked["bias"] == 0].groupby("prompt_std")["gap"].mean()
    shut, plain, wide = means.iloc[0], means[0], means.iloc[-1]
    verb = "hurts" if wide > plain else "helps"
    return (
        f"It {verb}: with a bias of +{means.index[-1]:g} the gap is {number(wide)} decades where it is {number(plain)}"
        f" without one, and {number(shut)} with a bias of −{abs(means.index[0]):g}. From the shortest prompts to the"
        f" longest it goes from {number(lengths.iloc[0])} to {number(lengths.iloc[-1])}."
    )


# ------------------------------------------------------------------------------------------------- graded conflict
def graded_at(tables: Tables, strength: float, step: int, rate: float) -> pd.DataFrame:
    """What the gates of one setting came to, a row per seed; with the accuracy without a gate.

    Where the page's own figures show the setting, its numbers are theirs: a gate that is just leaving amplifies
    rounding, so that a second run of the same training may leave some steps earlier or later. Bins are of that run.
    """
    graded, fixed = tables["graded"], tables["graded_fixed"]
    if not len(graded):
        raise ParameterError(no_evidence("it covers other parameters than these"))
    here = graded[(graded["strength"] == strength) & (graded["step"] == step) & (graded["rate"] == rate)]
    looks = tables["looks"]
    names = ["map sgd"] if rate == 1 else []
    names += [named(rate)] if strength == 1 else []
    same = (looks["strength"] == strength) & (looks["step"] == step)
    for name in names:
        own = looks[same & (looks["intervention"] == name)].set_index("seed")
        if len(own) and set(here["seed"]) <= set(own.index):
            columns = ["gap", "information", "accuracy_gated", "accuracy_mean", "accuracy_shuffled"]
            here = here.assign(**{column: here["seed"].map(own[column]) for column in columns})
            break
    plain = fixed[(fixed["strength"] == strength) & (fixed["step"] == step)].set_index("seed")["accuracy"]
    return here.assign(accuracy_fixed=here["seed"].map(plain))


#: The accuracies of a gated learner and what they are called.
ACCURACIES = {
    "accuracy_gated": "accuracy, gate as trained",
    "accuracy_mean": "gate held at its mean",
    "accuracy_shuffled": "gate shuffled",
    "accuracy_fixed": "no gate",
}


def of_graded(ends: pd.DataFrame) -> Readings:
    """Accuracies with the gate as trained, held, shuffled and left out, and the gap after the last step."""
    found = [Reading.over_seeds(name, ends[column], unit="%") for column, name in ACCURACIES.items()]
    return [*found, Reading.over_seeds("gap after the last step", ends["gap"], unit="decades", scale=(-1.0, 5.0))]


def graded_known(page: Page, strength: float, step: int, rate: float) -> Readings | str:
    """The same of the evidence, if it has this strength, number of steps and rate."""
    if page.evidence is None or not len(page.tables["graded"]):
        return no_evidence("it covers other parameters than these")
    here = graded_at(page.tables, strength, step, rate)
    graded = page.tables["graded"]
    has = "; ".join(
        f"{words} {listed(f'{value:g}' for value in sorted(graded[column].unique()))}"
        for column, words in (("strength", "strengths"), ("step", "steps"), ("rate", "rates"))
    )
    return of_graded(here) if len(here) else no_evidence(f"it has {has}")


def of_effect(tables: Tables) -> str:
    """What became of the question about conflict, steps and rate (Markdown)."""
    graded = tables["graded"]
    if not len(graded):
        return ""
    places = graded[["strength", "rate", "step"]].drop_duplicates().itertuples(index=False)
    worth = pd.concat([graded_at(tables, one.strength, one.step, one.rate) for one in places])
    worth = worth.assign(worth=worth["accuracy_gated"] - worth["accuracy_mean"])
    means = worth.groupby(["strength", "rate", "step"])["worth"].mean()
    full, none = means.index.get_level_values(0).max(), means.index.get_level_values(0).min()
    first, last = worth["step"].min(), worth["step"].max()
    slow, fast = worth["rate"].min(), worth["rate"].max()
    return (
        f"At strength {full:g} the gate is worth {number(means[full, slow, first])} points over its mean after {first}"
        f" steps and {number(means[full, slow, last])} after {last}; at {fast:g} times its rate"
        f" {number(means[full, fast, first])} and {number(means[full, fast, last])}. At strength {none:g} it is worth"
        f" {number(means[none, slow, last])} after {last} steps, and {number(means[none, fast, last])} at {fast:g}"
        " times its rate: what it depends on there is nothing that the task has."
    )


def of_forecast(law: pd.DataFrame, levers: pd.DataFrame, names: Mapping[str, str], steps: int = 100) -> str:
    """What became of the question about a decade (Markdown): gates that have left, by lever."""
    fitted, told, less = law.iloc[0], [], []
    reached = levers.set_index("lever")["decades"]
    for lever, words in names.items():
        if lever in reached and np.isfinite(fitted[lever]):
            # A lever is followed no further than trainings went.
            most = min(1.0, float(reached[lever]))
            late = fitted["intercept"] - fitted[lever] * most
            left = f"{words} {100 * ndtr((np.log10(steps) - late) / fitted['scatter']):.0f} %"
            if most == 1:
                told.append(left)
            else:
                less.append(f"{left} ({most:.2f} decades)")
    if not (told or less) or not np.isfinite(fitted["intercept"]):
        return ""
    plain = 100 * ndtr((np.log10(steps) - fitted["intercept"]) / fitted["scatter"])
    whole = f", and with a decade taken off by {'; '.join(told)}" if told else ""
    part = f" A whole decade was taken off by none of these; with the most that they took off: {'; '.join(less)}."
    return f"By the law, {plain:.0f} % have left after {steps} steps with nothing changed{whole}.{part if less else ''}"
