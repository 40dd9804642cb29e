"""Sentences of the pages on the world, on learners and on gates: numbers from tables, statements from findings."""

from __future__ import annotations

import numpy as np

from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.criteria import prompts as criteria
from paper.figures.prompts import BY, spelt
from paper.studies.base import Page
from paper.studies.gate_degradation import LONG, long_id
from paper.studies.gradient_imbalance import REPORTED
from paper.words.outcomes import decided, sorted_out
from paper.words.spelling import times

#: So many cases are named, more are counted: the figure shows which.
FEW = 4
#: What a flat loss is, with the criterion.
FLAT_IS = (
    "flat is one whose means over the last tenth of the steps and over the tenth before differ by less than {:g} nats."
)


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
    """How far learners get by each kind of recipe, and which end below the hand-written sentence."""
    accuracy, ahead = tables["accuracy"], tables["ahead"]
    zero = accuracy[accuracy["learner"] == "zero_shot"].groupby("task", sort=False)["accuracy"].mean()
    means = accuracy[accuracy["learner"] != "zero_shot"].groupby(["task", "by", "learner", "recipe"], sort=False)
    parts = []
    for task, own in means["accuracy"].mean().dropna().groupby(level="task", sort=False):
        spans = [
            f"{span.min():.0f} to {span.max():.0f} % ({BY[str(by)].label})"
            for by, span in own.groupby(level="by", sort=False)
        ]
        first = f" the hand-written sentence is right in {zero[task]:.0f} % of the pictures;" if task in zero else ""
        parts.append(f"On *{spelt(str(task))}*{first} learners reach {', '.join(spans)}.")
    ends = ahead.groupby(["by", "learner", "recipe", "task"], sort=False)["ahead"].mean()
    for by, own in ends.groupby(level="by", sort=False):
        below = own[own < 0]
        where = ", ".join(f"{spelt(name)} on {spelt(task)}" for _, name, _, task in below.index)
        named = f" ({where})" if 0 < len(below) <= FEW else ""
        parts.append(f"By the recipe *{BY[str(by)].label}*, {len(below)} of {len(own)} end below that sentence{named}.")
    return " ".join(parts)


def reached_in_both(page: Page) -> str:
    """:func:`reached` of either world, where both were measured."""
    if page.photographs is None:
        return reached(page.tables)
    return f"*In the drawn world.* {reached(page.tables)}\n\n*On photographs.* {reached(page.photographs.tables)}"


def cropped(tables: Tables) -> str:
    """What is left of pictures that are cropped as for the published recipes."""
    if "views" not in tables:
        return ""
    means = tables["views"].groupby("task", sort=False)[["pictures", "views"]].mean()
    shown = ", ".join(
        f"{row.pictures:.0f} % of the training pictures and {row.views:.0f} % of their views on *{spelt(row.Index)}*"
        for row in means.itertuples()
    )
    lost = (
        " Crops that suit photographs, in which the same thing fills much of the picture, cut small drawings to pieces."
        if (means["views"] < means["pictures"]).all()
        else ""
    )
    return f"What does cropping leave? The hand-written sentence is right in {shown}.{lost}"


def settled(tables: Tables) -> str:
    """Which recipes were chosen on validation pictures, and whether the loss is flat there."""
    best = tables["chosen"]
    if not len(best):
        return ""
    steep = best[~best["flat"].astype(bool)]
    named = ", ".join(f"{spelt(row.learner)} on {spelt(row.task)}" for row in steep.itertuples())
    counts = best["recipe"].value_counts()
    most = f"Most often chosen: {counts.index[0]} ({counts.iloc[0]} of {len(best)})."
    rule = FLAT_IS.format(criteria.FLAT)
    return f"{most} " + (
        f"Not flat at the end is the loss of {named}: {rule}" if named else f"The loss is flat in all: {rule}"
    )


def learners_follow(findings: Findings) -> str:
    """What the comparison of learners says."""
    by = {"short": "by the short recipe", "published": "trained as published", "tuned": "tuned on validation pictures"}
    return decided(
        findings,
        {
            f"learners.every.{kind}": (
                f"{words.capitalize()}, every learner beats the hand-written sentence.",
                f"{words.capitalize()}, not every learner beats the hand-written sentence.",
            )
            for kind, words in by.items()
        }
        | {
            f"learners.size.{kind}": (
                f"{words.capitalize()}, a learner gets the further, the more it trains.",
                f"{words.capitalize()}, the number of its parameters does not say how far a learner gets.",
            )
            for kind, words in by.items()
        },
    )


def gap_in_training(tables: Tables, findings: Findings) -> str:
    """What becomes of the gap while prompts and gate are trained."""
    told = decided(
        findings,
        {
            "gradient_imbalance.through_training": (
                "The gap is there at the first step, before anything could have gone wrong, and it is {value:.2f}"
                " decades in the mean over the training.",
                "In the mean over the training the gap is {value:.2f} decades.",
            )
        },
    )
    parts = [told]
    for learner, own in tables["gaps"].groupby("learner", sort=False):
        means = own.groupby("step")[["gap", "prompt_norm"]].mean()
        if np.isfinite(means.to_numpy()).all():
            (first, length), (last, longer) = means.iloc[0], means.iloc[-1]
            said = f"{spelt(str(learner))}: {first:.2f} decades at the first step, {last:.2f} at the last"
            grown = f"; by growing longer alone the prompts would have taken {length - longer:.2f} off"
            parts.append(f"{said}{grown if first > last and length > longer else ''}.")
    return " ".join(filter(None, parts))


def as_reported(tables: Tables, findings: Findings) -> str:
    """The reported number beside that of the learner of which it is reported, and of MaPLe."""
    who = f"MaPLe coupled both ways, of which {REPORTED:.2f} decades are reported,"
    near = f"that to within {criteria.AS_REPORTED:g} decades"
    told = decided(
        findings,
        {
            "gradient_imbalance.reported.before": (
                f"{who} has {near} before training.",
                f"{who} has another gap before training ({{value:+.2f}} decades).",
                f"Whether {who} has {near} before training is open.",
            ),
            "gradient_imbalance.reported.through": (
                f"In the mean over a short training it has {near}.",
                "In the mean over a short training it has another gap ({value:+.2f} decades).",
                "",
            ),
        },
    )
    gaps = tables["gaps"]
    plain = gaps[(gaps["learner"] == "maple") & (gaps["step"] == 0)]["gap"].mean()
    beside = "" if np.isnan(plain) else f"MaPLe itself, of which no number is reported, starts at {plain:.2f} decades."
    return " ".join(filter(None, [told, beside]))


def every_gate(tables: Tables, findings: Findings) -> str:
    """Whether every learner and gate has the gap."""
    means = tables["survey"].groupby("gate", sort=False)["gap"].mean()
    shut = ", ".join(f"*{spelt(str(gate))}*" for gate in means.index[np.isneginf(means)])
    told = decided(
        findings,
        {
            "gradient_imbalance.survey.every": (
                "Every learner with every gate has a gap of more than a decade before training.",
                "Not every gate is behind"
                + (f": with {shut} it is the prompts that get no gradient." if shut else "."),
            ),
            "gradient_imbalance.survey.total": (
                "Wherever prompts and gate both get a gradient, the gap is more than a decade in the mean over tasks"
                " (the smallest of every seed: {value:.2f} in their mean).",
                "Among those where prompts and gate both get a gradient some have a gap of less than a decade in the"
                " mean over tasks (the smallest of every seed: {value:.2f} in their mean).",
            ),
        },
    )
    return told


def per_parameter(tables: Tables) -> str:
    """How much of the gap is a matter of numbers of parameters."""
    means = tables["survey"].groupby(["learner", "gate"])[["gap", "gap_rms"]].mean()
    means = means[np.isfinite(means).all(axis=1)]
    apart = (means["gap"] - means["gap_rms"]).abs()
    if apart.empty:
        return ""
    learner, gate = apart.idxmax()
    return (
        f"They differ by {apart.median():.2f} decades in the median, and most for {spelt(learner)} with the gate"
        f" *{spelt(gate)}* ({apart.max():.2f})."
    )


def starting(findings: Findings) -> str:
    """What contexts that start from words take off the gap, and whether their length predicts it."""
    parts = []
    for what, leads in (
        (
            "starts",
            {
                Outcome.HOLDS: "Starting from words takes at least a quarter of a decade off the gap with",
                Outcome.DOES_NOT_HOLD: "Starting from words takes less than that off the gap, or nothing, with",
                Outcome.INCONCLUSIVE: "Whether starting from words takes that much off, these seeds leave open with",
            },
        ),
        (
            "law",
            {
                Outcome.HOLDS: "The length of the prompts predicts the difference to a quarter of a decade with",
                Outcome.DOES_NOT_HOLD: "The length of the prompts does not predict the difference with",
                Outcome.INCONCLUSIVE: "Whether the length of the prompts predicts it, these seeds leave open with",
            },
        ),
    ):
        lead = f"gradient_imbalance.{what}."
        known = [one.id for one in findings if one.id.startswith(lead)]
        names = {name: spelt(name.removeprefix(lead)).replace(",", "") for name in known}
        parts.append(sorted_out(findings, names, leads))
    return " ".join(filter(None, parts))


def factors(tables: Tables, findings: Findings) -> str:
    """Where the gap comes from."""
    start = tables["gaps"][tables["gaps"]["step"] == 0]
    mean = start[["slope", "prompt_norm", "alignment"]].mean()
    told = decided(
        findings,
        {
            "gradient_imbalance.meeting": (
                "Most of the gap is geometry: initial prompts are short, so that scaling them changes little, and they"
                " are nearly orthogonal to the direction in which the loss wants them to move.",
                "Less than half of the gap comes from short prompts at a poor angle to their gradient.",
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
                "Before training the gap lies above the lower end of what is reported: it is there from the start.",
                "Before training the gap is smaller than reported ({value:.2f} decades).",
            ),
            "gradient_imbalance.reported.to": ("", "It is larger than reported ({value:.2f} decades)."),
            "gradient_imbalance.survey.every": (
                "No gate escapes it.",
                "It does not belong to gating as such: not every gate is behind.",
            ),
            "gradient_imbalance.meeting": (
                "Where it is there, the length of prompts and an angle make most of it.",
                "The length of prompts and an angle make less than half of it.",
            ),
            "gradient_imbalance.null": (
                "A backbone that has learned nothing has it too. So such a gap cannot, by itself, say that a gate has"
                " failed.",
                "A backbone that has learned nothing does not have it.",
            ),
        },
    )


def degradation_follows(findings: Findings) -> str:
    """What the page on gates that become constant says: of the short recipe, of long trainings, and of both."""
    short = decided(
        findings,
        {
            "gate_degradation.constant.before": (
                "An untrained gate is nearly constant: a unit-norm feature moves the pre-activation of a freshly drawn"
                " MLP by a few hundredths, and the sigmoid makes a few thousandths of that.",
                "An untrained gate varies with the picture.",
            ),
            "gate_degradation.constant.after": (
                "After the short recipe a gate is nearly constant.",
                "After the short recipe a gate varies with the picture.",
            ),
            "gate_degradation.taken": (
                "The short recipe takes most of a gate's little information away.",
                "The short recipe does not take a gate's information away.",
            ),
        },
    )
    tasks = dict.fromkeys(one.id.split(".")[2] for one in findings if one.id.startswith("gate_degradation.long."))
    long = [_long_follows(findings, task) for task in tasks]
    taken = findings.get("gate_degradation.taken")
    ends = {
        one.outcome for one in findings if one.id.startswith("gate_degradation.long.") and one.id.endswith(".constant")
    }
    if Outcome.DOES_NOT_HOLD in ends:
        told = (
            "That a gate is constant after the short recipe is no law of gates: it says by whom the gate was trained,"
            " for how long, and on what."
        )
    elif ends == {Outcome.HOLDS} and taken and taken.outcome is Outcome.DOES_NOT_HOLD:
        told = "Trained shortly or long, such gates do not degrade: they begin as constants and stay constants."
    else:
        told = ""
    return "\n\n".join(filter(None, [short, *long, told]))


def _long_follows(findings: Findings, task: str) -> str:
    """What long trainings on a task have made of gates."""
    held, not_so = Outcome.HOLDS, Outcome.DOES_NOT_HOLD
    asked = {
        "constant": {held: "gates end nearly constant", not_so: "gates end as ones that vary with the picture"},
        "given": {held: "training adds input information", not_so: "training takes input information away"},
        "saturated": {held: "gates saturate"},
        "late": {held: "most gates fall by two points and more from their best"},
    }
    told = []
    for what, leads in asked.items():
        names = {f"gate_degradation.{long_id(training, task)}.{what}": times(training) for training in LONG}
        led = {outcome: f"{lead} under" for outcome, lead in leads.items()}
        told.append(sorted_out(findings, names, led).replace(": ", " ").rstrip(".").replace(". ", "; "))
    said = "; ".join(filter(None, told))
    return f"In long trainings on *{spelt(task)}* {said}." if said else ""


def selection_follows(findings: Findings) -> str:
    """What the page on gates that become constant says of selectors."""
    return decided(
        findings,
        {
            "gate_degradation.pool.picture.random": (
                "Entries drawn at random score on $I(X;G)$ too: it says that choices differ from picture to picture,"
                " not that they suit them.",
                "",
            ),
            "gate_degradation.pool.mean.l2p": (
                "The pool with keys is worth more than its two most frequent entries.",
                "The pool with keys is not worth more than its two most frequent entries alone.",
            ),
            "gate_degradation.pool.shuffled.l2p": (
                "Choices of the pool with keys that are given to other pictures cost it points.",
                "Choices of the pool with keys that are given to other pictures do as well.",
            ),
            "gate_degradation.pool.random": (
                "The pool with keys gains over entries at random.",
                "The pool with keys gains nothing over entries at random.",
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
            "gate_value.conflict.short": ("With the short recipe it does nothing.", ""),
        },
    )
