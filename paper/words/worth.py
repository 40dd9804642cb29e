"""Sentences and tables of the page on a fair trial: numbers from tables, statements from findings."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from lib.prompts.gates import BLIND
from lib.prompts.learners import LEARNERS
from lib.results import Tables
from lib.verdicts import Finding, Findings, Outcome
from paper.criteria import prompts as criteria
from paper.figures.prompts import spelt
from paper.studies import roles
from paper.words.gates import FLAT_IS
from paper.words.numbers import Shown, listed
from paper.words.outcomes import ahead, decided, sorted_out


def answer(tables: Tables) -> str:
    """The page in a few sentences, with its measured numbers (Markdown)."""
    points, verdicts = tables["points"], tables["verdicts"]
    ordinary, planted = (points[points["task"].isin(roles.GRADED) == graded] for graded in (False, True))
    said = []
    trained = [recipe for recipe in ("tuned", "control", "short") if (ordinary["recipe"] == recipe).any()]
    if trained:
        part = ordinary[ordinary["recipe"] == trained[0]]
        strongest = part.groupby("task")["over_mean"].mean().idxmax()
        own = part[part["task"] == strongest]
        said.append(
            f"On ordinary tasks a gate trained by the {trained[0]} recipe (mean over {_who(part)}) loses"
            f" {_mean(part, 'over_mean')} points when it is held still, and is"
            f" {_against(part, 'over_fixed', 'points')} the learner without a gate. It depends most on"
            f" *{spelt(str(strongest))}*: there it loses {_mean(own, 'over_mean')} points held still, and is"
            f" {_against(own, 'over_fixed')} no gate."
        )
    planted = planted[planted["recipe"] != "short"]
    sees = planted["learner"].map(lambda name: LEARNERS[name].sees).astype(bool)
    told = [
        f"lose {_mean(part, 'over_mean')} points held still and are {_against(part, 'over_fixed')} no gate {who}"
        for who, part in (
            ("if the learner has prompts in the text alone", planted[~sees]),
            ("if its vision prompts see the picture themselves", planted[sees]),
        )
        if len(part)
    ]
    if told:
        where = "Where the right prompt depends on the picture by construction, trained gates"
        said.append(f"{where} {', and '.join(told)}.")
    many = tables["many"]
    if len(many := many[~many["task"].isin(roles.GRADED)]):
        said.append(
            f"Looked at closely, with {many['seed'].nunique()} seeds, one such gate ({_who(many)}) depends by"
            f" {_mean(many, 'over_mean')} points and is {_against(many, 'over_fixed')} no gate and"
            f" {_against(many, 'over_blind')} its blind twin."
        )
    counts = verdicts[~verdicts["task"].isin(roles.GRADED)]["verdict"].value_counts()
    if len(counts):
        verbs = (f"{count} {'is' if count == 1 else 'are'} *{name}*" for name, count in counts.items())
        said.append(f"Of {counts.sum()} gates on ordinary tasks {listed(verbs)}.")
    return " ".join(said)


def _who(part: pd.DataFrame) -> str:
    return listed(spelt(str(name)) for name in part["learner"].unique())


def _mean(part: pd.DataFrame, column: str) -> str:
    return f"{Shown(part[column].mean()):.1f}"


def _against(part: pd.DataFrame, column: str, unit: str = "") -> str:
    """The mean of a difference to what is named next, as :func:`ahead` says it."""
    return ahead(part[column].mean(), unit)


def enough(tables: Tables, findings: Findings) -> str:
    """What many seeds say of one gate: together, and on each task."""
    told = decided(
        findings,
        {
            "fair_trial.many.depends": (
                "On ordinary tasks a trained gate depends on its picture: held still it loses {value:.1f} points.",
                "On ordinary tasks a trained gate does not lose two points when it is held still ({value:.1f}).",
            ),
            "fair_trial.many.over_fixed": (
                "It is worth less than a point either way against no gate ({value:.1f}).",
                "It is {ahead} no gate.",
            ),
            "fair_trial.many.over_blind": (
                "It is worth less than a point either way against a gate that sees another picture ({value:.1f}).",
                "It is {ahead} a gate that sees another picture.",
            ),
        },
    )
    leads = {
        Outcome.HOLDS: "Less than a point either way",
        Outcome.DOES_NOT_HOLD: "More than a point one way",
        Outcome.INCONCLUSIVE: "Open whether it is less than a point",
    }
    over = {"over_fixed": "over no gate", "over_blind": "over the blind twin"}
    many = tables["many"]
    names = {
        f"fair_trial.many.{task}.{column}": f"{spelt(task)} {words}"
        for task in many["task"].unique()
        for column, words in over.items()
    }
    apart = many.groupby("task")["over_fixed"].std().max()
    varied = (
        f"From seed to seed the difference to no gate varies by up to {Shown(apart):.1f} points (standard deviation)."
    )
    own = tables["verdicts"]
    own = own[own["recipe"] == "many"]
    every = "; ".join(f"{spelt(row.task)}: *{row.verdict}*" for row in own.itertuples())
    verdicts = f"The verdicts, dependence and gain together, by intervals alone: {every}." if every else ""
    taken = {name: told for name, told in names.items() if (one := findings.get(name)) and _taken_back(one)}
    by_task = sorted_out(findings, {name: told for name, told in names.items() if name not in taken}, leads)
    return " ".join(filter(None, (varied if apart == apart else "", told, by_task, _before(findings, taken), verdicts)))


def _taken_back(one: Finding) -> bool:
    """Whether the interval alone decides what the correction for the other claims leaves open."""
    return one.outcome is Outcome.INCONCLUSIVE and bool(one.note) and not math.isnan(one.value)


def _before(findings: Findings, names: Mapping[str, str]) -> str:
    """What intervals alone say of gains within a margin, and the correction for the other claims takes back."""
    parts: dict[str, list[str]] = {}
    for one in findings:
        if one.id in names:
            within = max(map(abs, one.interval)) < criteria.NO_GAIN
            said = "less than a point either way" if within else "more than a point one way"
            parts.setdefault(said, []).append(f"{names[one.id]} ({Shown(one.value):+.1f})")
    return " ".join(
        f"By its interval alone {said}, and open after correction for the other claims: {', '.join(own)}."
        for said, own in parts.items()
    )


def trained(tables: Tables, findings: Findings) -> str:
    """Whether the learners without a gate are trained until trained."""
    best = tables["chosen"]
    flat = (
        f"At the end of the chosen recipes the loss is flat in {int(best['flat'].sum())} of {len(best)} trainings:"
        f" {FLAT_IS.format(criteria.FLAT)}"
    )
    told = decided(
        findings,
        {
            "fair_trial.trained.zero_shot": (
                "Tuned, the learner without a gate beats the hand-written sentence on every ordinary task.",
                "Even tuned, the learner without a gate does not beat the hand-written sentence on every ordinary task"
                " (at worst by {value:.1f} points).",
            ),
            "fair_trial.trained.longer": (
                "The longer recipes of the grid change its validation accuracy by less than a point.",
                "The longer recipes of the grid are needed, and change its validation accuracy by {value:.1f} points;"
                " longer ones than these were not tried.",
            ),
        },
    )
    return f"{flat} {told}".strip() if len(best) else told


#: Columns of a table of verdicts, as a reader sees them.
OVER = {
    "over_mean": "its mean",
    "over_shuffled": "shuffled",
    "over_blind": "blind twin",
    "over_fixed": "no gate",
    "over_zero_shot": "zero-shot",
}


def judged(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Verdicts for reading: what a gate is, and its points over what; names spelt out."""
    wanted = [name for name in ("learner", "gate", "task", "recipe", "verdict", *OVER) if name in verdicts]
    beyond = [name for name in verdicts if name not in (*wanted, "advice")]
    named = {name: verdicts[name].map(spelt) for name in ("gate", "task", "recipe")}
    return verdicts.assign(**named)[[*wanted, *beyond]].rename(columns=OVER)


def choices(tables: Tables) -> pd.DataFrame:
    """The chosen recipes for reading, blind twins as such."""
    table = tables["chosen"].sort_values(["learner", "task", "gate"])
    table["gate"] = table["gate"].map(lambda gate: "blind twin" if gate in BLIND.values() else spelt(gate))
    table["task"] = table["task"].map(spelt)
    names = {"validation": "validation (%)", "loss_before": "loss before", "loss_end": "loss at the end"}
    wanted = [name for name in ("learner", "gate", "task", "recipe", *names, "flat") if name in table]
    return table[wanted].rename(columns=names)


def follows(findings: Findings) -> str:
    """What the trial says."""
    return decided(
        findings,
        {
            "fair_trial.control.depends": (
                "A gate that is trained well on an ordinary task does not stay idle: held still it costs points.",
                "Gates on ordinary tasks stay idle even when they are trained well.",
            ),
            "fair_trial.many.over_blind": (
                "Seeing the picture does not pay: a gate that sees another one does the same to a point.",
                "Whether a gate sees its picture or another makes a difference: it is {ahead} one that sees another.",
            ),
            "fair_trial.many.over_fixed": (
                "The learner without a gate does the same to a point.",
                "Learners with and without a gate are not the same: with one they are {ahead} those without.",
            ),
            "fair_trial.planted.tuned.over_fixed": (
                "Where the right prompt depends on the picture, the same gate gains what it depends on.",
                "Even where the right prompt depends on the picture, a tuned gate gains too little.",
            ),
            "fair_trial.planted.tuned.maple.over_fixed": (
                "So does that of MaPLe, whose vision prompts see the picture as well.",
                "Not so that of MaPLe: its vision prompts see the picture themselves, and with a gate it is {ahead}"
                " itself without one, however much breaks when the gate is held still.",
            ),
        },
    )
