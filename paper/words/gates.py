"""Sentences of the pages on the world, on learners and on gates: numbers from tables, statements from findings."""

from __future__ import annotations

from lib.prompts.learners import LEARNERS
from lib.results import Tables
from lib.verdicts import Findings
from paper.figures.prompts import spelt
from paper.words.outcomes import decided


def limits(tables: Tables) -> str:
    """Where MiniCLIP's world ends."""
    table = tables["zero_shot"]
    below = table[table["high"] < table["chance"]]
    hard = table[table["high"] >= table["chance"]].nsmallest(3, "accuracy")
    parts = [
        f"*{spelt(row.task).capitalize()}* lies below chance ({row.accuracy:.0f} % where guessing gives"
        f" {row.chance:.0f} %)."
        + (
            " It should: the sentences speak of the background, and the backbone believes them."
            if row.task == "mis_specified"
            else ""
        )
        for row in below.itertuples()
    ]
    if len(hard) and len(table) > 3:
        named = ", ".join(f"*{spelt(row.task)}* ({row.accuracy:.0f} %)" for row in hard.itertuples())
        parts.append(f"Of the others it finds these hardest: {named}.")
    return " ".join(parts)


def reached(tables: Tables) -> str:
    """How far learners get that prompt the text, and those that prompt the picture alone."""
    means = tables["accuracy"].groupby(["task", "learner"], sort=False)["accuracy"].mean()
    parts = []
    for task, own in means.groupby(level="task", sort=False):
        mean = own.droplevel("task")
        text = [name for name in mean.index if LEARNERS[name].text]
        picture = [name for name in mean.index if LEARNERS[name].vision and not LEARNERS[name].text]
        groups = {
            "the hand-written sentence": ["zero_shot"],
            "prompts in the text": text,
            "in the picture alone": picture,
        }
        shown = [
            f"{name} {mean[some].mean():.0f} %"
            for name, some in groups.items()
            if some and set(some) <= set(mean.dropna().index)
        ]
        if not shown:
            continue
        parts.append(f"On *{spelt(str(task))}*: {', '.join(shown)} (means over learners).")
    return " ".join(parts)


def learners_follow(findings: Findings) -> str:
    """What the comparison of learners says."""
    return decided(
        findings,
        {
            "learners.every": (
                "Every learner beats the hand-written sentence.",
                "Not every learner beats the hand-written sentence: few steps with few pictures can do harm as well.",
            ),
            "learners.size": (
                "The more a learner trains, the further it gets.",
                "The number of its parameters does not say how far a learner gets.",
            ),
        },
    )


def gap_in_training(tables: Tables, findings: Findings) -> str:
    """What becomes of the gap while prompts and gate are trained."""
    means = tables["gaps"].groupby("step")["gap"].mean()
    told = decided(
        findings,
        {
            "gradient_imbalance.through_training": (
                "The gap is there at the first step, before anything could have gone wrong, and it stays.",
                "",
            )
        },
    )
    if means.isna().all():
        return told
    return f"{told} It is {means.iloc[0]:.2f} decades at the first step and {means.iloc[-1]:.2f} at the last.".strip()


def per_parameter(tables: Tables) -> str:
    """How much of the gap is a matter of numbers of parameters."""
    means = tables["survey"].groupby(["learner", "gate"])[["gap", "gap_rms"]].mean()
    apart = (means["gap"] - means["gap_rms"]).abs()
    learner, gate = apart.idxmax()
    return (
        f"They differ by {apart.median():.2f} decades in the median, and most for {spelt(learner)} with the gate"
        f" *{spelt(gate)}* ({apart.max():.2f})."
    )


def factors(tables: Tables, findings: Findings) -> str:
    """Where the gap comes from."""
    start = tables["gaps"][tables["gaps"]["step"] == 0]
    mean = start[["slope", "prompt_norm", "alignment"]].mean()
    told = decided(
        findings,
        {
            "gradient_imbalance.meeting": (
                "Most of the gap is geometry: initial prompts are short, so that scaling them changes little, and in a"
                " space of many dimensions they are nearly orthogonal to the direction in which the loss wants them to"
                " move.",
                "",
            )
        },
    )
    return (
        f"A sigmoid costs 0.6 decades at its best, because its slope is at most a quarter; here {mean['slope']:.2f}."
        f" {told}"
    ).strip()


def imbalance_follows(findings: Findings) -> str:
    """What the page on the gap says."""
    return decided(
        findings,
        {
            "gradient_imbalance.reported.from": (
                "The reported imbalance reproduces in size, and it is there from the start.",
                "Before training the imbalance is smaller than reported.",
            ),
            "gradient_imbalance.meeting": ("It is made of the length of prompts and an angle, for the most part.", ""),
            "gradient_imbalance.null": (
                "A backbone that has learned nothing has it too. So such a gap cannot, by itself, say that a gate has"
                " failed.",
                "A backbone that has learned nothing does not have it.",
            ),
        },
    )


def degradation_follows(findings: Findings) -> str:
    """What the page on gates that become constant says."""
    return decided(
        findings,
        {
            "gate_degradation.constant.before": (
                "An untrained gate is nearly constant: a unit-norm feature moves the pre-activation of a freshly drawn"
                " MLP by a few hundredths, and the sigmoid makes a few thousandths of that.",
                "An untrained gate varies with the picture.",
            ),
            "gate_degradation.constant.after": (
                "After training it is nearly constant still.",
                "After training it varies with the picture.",
            ),
            "gate_degradation.taken": (
                "Training has taken most of its little information away: it did degrade.",
                "Training did not take it away: such gates do not degrade, they begin that way. To call this *collapse*"
                " suggests something that happened during training.",
            ),
        },
    )


def value_follows(findings: Findings) -> str:
    """What the page on the value of gates says of its two groups of bars at the right."""
    return decided(
        findings,
        {
            "gate_value.control.over_mean": (
                "Compare the two groups of bars at the right, the same gate and the same task: with the recipe that was"
                " chosen for it the gate carries the solution.",
                "",
            ),
            "gate_value.conflict.published": ("With the published recipe it does nothing.", ""),
        },
    )
