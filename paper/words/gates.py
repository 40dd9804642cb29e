"""Sentences of the pages on the world, on learners and on gates: numbers from tables, statements from findings."""

from __future__ import annotations

from lib.prompts.learners import LEARNERS
from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.figures.prompts import spelt
from paper.studies.gate_degradation import LONG, long_id
from paper.words.outcomes import decided, sorted_out


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
        names = {f"gate_degradation.{long_id(training, task)}.{what}": training for training in LONG}
        led = {outcome: f"In long trainings on *{spelt(task)}* {lead} under" for outcome, lead in leads.items()}
        told.append(sorted_out(findings, names, led))
    return " ".join(filter(None, told))


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
            "gate_value.conflict.published": ("With the published recipe it does nothing.", ""),
        },
    )
