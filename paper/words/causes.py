"""The sentences of the pages on the causes of a gate that does nothing: the gap's origin, escape, predictors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.verdicts import Findings, Outcome
from paper.criteria import prompts as criteria
from paper.figures.prompts import spelt
from paper.studies import escape, predictors
from paper.studies.base import Result
from paper.studies.gap_origin import ACTING, HOME, WORDS
from paper.words.numbers import Shown
from paper.words.outcomes import decided, sorted_out
from paper.words.spelling import times


# ------------------------------------------------------------------------------------ where the gap comes from
def ignored(findings: Findings, angles: pd.DataFrame) -> str:
    """What the angle between gradient and token means for a gate that scales."""
    told = decided(
        findings,
        {
            "gap_origin.perpendicular": (
                "The gradient is perpendicular to the token that the tower sees (mean |cosine| {value:.3f}): a gate"
                " that scaled whole tokens would have next to no gradient.",
                "The gradient is not perpendicular to the token here (mean |cosine| {value:.3f}): the argument is not"
                " the whole story.",
            ),
            "gap_origin.chance.default": (
                "At the length from which prompts start this explains none of the gap: the cosine of prompt and"
                " gradient is that of random directions. A gate meets a random angle times a short length there.",
                "At the length from which prompts start the cosine of prompt and gradient differs from that of random"
                " directions ({value:.2f} decades below).",
            ),
            "gap_origin.chance.longest": (
                "In prompts ten times as long the cosine is {value:.2f} decades below that of random directions.",
                "Not even in prompts ten times as long is the cosine below that of random directions.",
            ),
            "gap_origin.chance.deeper": (
                "In deeper layers, where the prompt is the whole token, the cosine is {value:.2f} decades below that of"
                " random directions at the length from which prompts start: a gate that scales deep prompts works in"
                " the direction that the network is built to ignore.",
                "In deeper layers, where the prompt is the whole token, it is not below that of random directions at"
                " the length from which prompts start.",
            ),
            "gap_origin.chance.geometry": (
                "The angle between prompt and token accounts for it: what is left is a random direction across the"
                " token.",
                "The angle between prompt and token does not account for all of it: the cosine is {value:.2f} decades"
                " above that of a random direction across the token.",
            ),
        },
    )
    return " ".join(filter(None, [told, _onset(angles)]))


def _onset(angles: pd.DataFrame) -> str:
    """Where the cosine to prompts of the first layer falls below that of random directions."""
    if not len(angles):
        return ""
    first = angles[(angles["weights"] == "trained") & (angles["layer"] == "first")]
    means = first.groupby("value")[["to_prompt", "chance", "share"]].mean()
    home = min(means.index, key=lambda value: abs(value - HOME))
    parts = [f"A prompt of the first layer is {means.loc[home, 'share']:.2f} times as long as its token at the start"]
    below = np.log10(means["chance"] / means["to_prompt"])
    after = [value for value in means.index if value > home and below[value] > criteria.MATTERS]
    if after and below[home] <= criteria.MATTERS:
        # Between two lengths that were measured, on a line.
        before = max(value for value in means.index if value < after[0])
        part = (criteria.MATTERS - below[before]) / (below[after[0]] - below[before])
        at = before * (after[0] / before) ** part
        share = np.interp(np.log10(at), np.log10([before, after[0]]), means.loc[[before, after[0]], "share"])
        parts.append(
            f"the angle begins to matter, by {criteria.MATTERS:g} decades, at a deviation of about {at:.2g}, where the"
            f" prompt is {share:.2f} times as long"
        )
    return "; ".join(parts) + "."


def turning(findings: Findings) -> str:
    """What a gate gains that moves across a prompt instead of along it."""

    def listed(gate: str) -> str:
        found = findings.get(_across(gate))
        return ACTING[gate] if found is None else f"{ACTING[gate]} ({Shown(1 + found.value):.2f})"

    names = {_across(gate): listed(gate) for gate in ACTING}
    leads = {
        Outcome.HOLDS: "Prompts ten times as long take the whole predicted decade off the gap of",
        Outcome.DOES_NOT_HOLD: "Prompts ten times as long take another share than the predicted decade off the gap of",
        Outcome.INCONCLUSIVE: "Whether longer prompts take the whole decade off, these seeds leave open for",
    }
    told = decided(
        findings,
        {
            "gap_origin.across.turned.default": (
                "At the length from which prompts start turning them in place of scaling changes nothing: to act across"
                " a token is no cure while prompts are short.",
                "At the length from which prompts start a gate that scales them has another gap than one that turns"
                " them ({value:+.2f} decades).",
            ),
            "gap_origin.across.turned.longest": (
                "In prompts ten times as long it is worth {value:.2f} decades to turn in place of scaling.",
                "Not even in prompts ten times as long does turning have a smaller gap than scaling.",
            ),
        },
    )
    return " ".join(filter(None, [sorted_out(findings, names, leads), told]))


def _across(gate: str) -> str:
    return f"gap_origin.across.{gate.replace(' ', '_')}"


def answered(findings: Findings) -> str:
    """Whether gap and prediction part, cell by cell and in the mean."""
    parts = []
    for what, subject in (("factors", "the factors that are meant move"), ("gap", "the whole gap moves")):
        names = {f"gap_origin.{what}.{name}": words for name, words in WORDS.items()}
        leads = {
            Outcome.HOLDS: f"Cell by cell {subject} as predicted, to within {criteria.CLOSE:g} decades, by",
            Outcome.DOES_NOT_HOLD: f"Cell by cell {subject} otherwise by",
            Outcome.INCONCLUSIVE: f"Whether {subject} as predicted, these seeds leave open for",
        }
        parts.append(sorted_out(findings, names, leads))
    longer = {
        one.id: f"{spelt(one.id.rpartition('.')[2])} ({Shown(1 + one.value):.2f})"
        for one in findings
        if one.id.startswith("gap_origin.longer.")
    }
    leads = {
        Outcome.HOLDS: "Longer prompts take the whole decade off that is predicted with",
        Outcome.DOES_NOT_HOLD: "Longer prompts take another share off than the decade that is predicted with",
        Outcome.INCONCLUSIVE: "Whether that is the whole decade that is predicted, these seeds leave open with",
    }
    mean = {
        "gap_origin.longer": (
            "In the mean over cells prompts ten times as long take {value:.2f} decades off the gap.",
            "In the mean over cells prompts ten times as long take no more than {value:.2f} decades off the gap.",
        )
    }
    turned = {
        "gap_origin.turned": (
            "Prompts that are turned towards their gradient take {value:.2f} decades off the gap.",
            "Prompts that are turned towards their gradient take no more than {value:.2f} decades off the gap: the"
            " gradient turns away.",
        )
    }
    parts += [decided(findings, mean), sorted_out(findings, longer, leads), decided(findings, turned)]
    return " ".join(filter(None, parts))


def levers(findings: Findings) -> str:
    """What follows from the page on the gap's origin."""
    return decided(
        findings,
        {
            "gap_origin.gap.temperature": (
                "On the gate's side its temperature is a reliable lever.",
                "The gate's temperature is no reliable lever.",
            ),
            "gap_origin.gap.gain": (
                "The scale of what the gate sees is a reliable lever.",
                "The scale of what the gate sees is no reliable lever.",
            ),
            "gap_origin.longer": (
                "On the prompts' side their length is a lever: ten times as long, they take {value:.2f} decades off the"
                " gap.",
                "The length of the prompts is no lever.",
            ),
            "gap_origin.turned": ("The direction of the prompts is one, too.", "The direction of the prompts is none."),
        },
    )


# ------------------------------------------------------------------------------------------ what revives a gate
def revived(findings: Findings, study: escape.Escape) -> str:
    """Which interventions work, and what is worth a second look."""
    names = {escape.adaptive(name): times(name) for name in study.chosen()}
    leads = {
        Outcome.HOLDS: f"Adaptive in most seeds after {study.steps} steps, by the whole interval over seeds",
        Outcome.DOES_NOT_HOLD: "Not adaptive in most seeds",
        Outcome.INCONCLUSIVE: "Left open by these seeds",
    }
    remarks = decided(
        findings,
        {
            escape.adaptive("Adam for the gate"): (
                "Adam on the gate alone is enough.",
                "Adam on the gate alone is not enough: the prompts have to move as well.",
            ),
            escape.adaptive("Adam for the prompts"): (
                "Adam on the prompts alone is enough, although the gate's steps stay as small as they were.",
                "Adam on the prompts alone is not enough.",
            ),
            escape.adaptive("diversity loss"): (
                "A reward for *different* gate values helps.",
                "And what is often proposed against collapse need not help: a reward for *different* gate values does"
                " not.",
            ),
        },
    )
    return f"{sorted_out(findings, names, leads)}\n\n{remarks}"


def kept(findings: Findings, worth: pd.DataFrame) -> str:
    """Which gates have lost what they were worth at an earlier look."""
    fallen = worth[worth["lost"] > criteria.FALLS].sort_values("lost", ascending=False)
    names = [
        f"{times(name)} ({Shown(points):.0f})"
        for name, points in zip(fallen["intervention"], fallen["lost"], strict=True)
    ]
    told = f"Less at the last look than at the best before, in points: {', '.join(names)}." if names else ""
    lost = {
        "escape.lost": (
            "What a large rate wins it does not keep: a gate has to be looked at more than once.",
            "What the largest rate wins it keeps.",
        )
    }
    return " ".join(filter(None, [told, decided(findings, lost)]))


def gained(findings: Findings) -> str:
    """Whether gates that depend on their picture gain something by it."""
    return decided(
        findings,
        {
            "escape.gains.adam.over_fixed": (
                "Trained by Adam, the gated learner beats the same learner without a gate by {value:.0f} points.",
                "Trained by Adam, the gated learner does not beat the same learner without a gate.",
            ),
            "escape.gains.adam.over_blind": (
                "It is the looking that helps: a blind gate of as many parameters is {value:.0f} points worse.",
                "A blind gate of as many parameters does as well.",
            ),
        },
    )


def bounded(findings: Findings) -> str:
    """What bounds the accuracy of a gate on this task, and what is slow besides the gate."""
    return decided(
        findings,
        {
            "escape.bound.told": (
                "No gate that finds out by itself is more accurate than one that is told the cue.",
                "Being told the cue is no upper bound: a gate that finds out by itself is {value:.0f} points more"
                " accurate.",
            ),
            "escape.bound.told_from_words": (
                "Told the cue, and with prompts that start from words, it is beaten by none that finds out by itself.",
                "Even told the cue and started from words it is beaten by one that finds out by itself.",
            ),
            "escape.bound.routed": (
                "Prompts of each rule's own are an upper bound: no gate is more than a point more accurate.",
                "Prompts of each rule's own are no upper bound either: the best gate is {value:.0f} points more"
                " accurate.",
            ),
            "escape.start": (
                "And the gate is not all that is slow. The same two prompts, each trained on the pictures of its own"
                " rule where there is nothing left to choose, are {value:.0f} points worse when they start from noise"
                " than when they start from words.",
                "How these prompts start hardly matters.",
            ),
        },
    )


def alike(findings: Findings) -> str:
    """Whether a decade is a decade, whoever closes it."""
    names = {f"escape.law.same.{lever}": words for lever, words in escape.LEVERS.items() if lever != "rate"}
    leads = {
        Outcome.HOLDS: "A decade is a decade for",
        Outcome.DOES_NOT_HOLD: "A decade off the gap is not worth what a decade of the rate is for",
        Outcome.INCONCLUSIVE: "Left open by these seeds, whether a decade is a decade, for",
    }
    moves = {f"escape.law.{lever}": words for lever, words in escape.LEVERS.items() if lever != "rate"}
    helps = {
        Outcome.HOLDS: "Of the levers that shrink the gap itself, these bring the escape forward",
        Outcome.DOES_NOT_HOLD: "These shrink the gap and do not bring the escape forward",
        Outcome.INCONCLUSIVE: "Left open, whether they bring it forward",
    }
    return " ".join(filter(None, [sorted_out(findings, moves, helps), sorted_out(findings, names, leads)]))


def paced(findings: Findings) -> str:
    """Whether steps go in proportion to the rate, or as its root."""
    return decided(
        findings,
        {
            "escape.law.root": (
                "For the rate the root is near: prompts and gate help each other.",
                "For the rate the root is not what is measured ({value:.2f} decades per decade away from it).",
            ),
            "escape.law.proportional": (
                "For the rate steps are in proportion: the gate climbs alone.",
                "For the rate steps are not in proportion ({value:.2f} decades of steps per decade).",
            ),
        },
    )


def excused(findings: Findings, photographs: Result | None = None) -> str:
    """What follows from the page on escape, and what of it does not on photographs."""
    told = decided(
        findings,
        {
            "escape.short": ("An idle gate in a short run says little about the gate and much about the run.", ""),
            escape.adaptive("Adam"): (
                "Before a gate is called useless it needs an optimiser that does not mind small gradients.",
                "An optimiser that does not mind small gradients is not enough to make it work.",
            ),
            "escape.law.later": ("Under SGD the gate's own rate brings its escape forward.", ""),
            "escape.start": (
                "Before a gate is blamed, the prompts that it is to choose between have to be learnable from where they"
                " start.",
                "",
            ),
            "escape.nothing": (
                "Where nothing depends on the picture no training makes a gate depend on it, which is as it should be.",
                "Gates depend on their picture where there is nothing to gain, too: the test is not strict enough.",
            ),
        },
    )
    here = findings.get("escape.nothing")
    there = None if photographs is None else photographs.findings.get("escape.nothing")
    if here and there and (here.outcome, there.outcome) == (Outcome.HOLDS, Outcome.DOES_NOT_HOLD):
        told += f" Not so on photographs: there gates come to depend on it all the same ({there.value:.1f} points)."
    return told


# ------------------------------------------------------------------------------------------ what tells beforehand
def telling(findings: Findings) -> str:
    """What follows from the page on predictors."""
    parts = []
    for when, words in (("before", "Before the first step"), ("early", "After an eighth of the steps")):
        names = {predictors.telling(when, what): about for what, (about, _) in predictors.SCORES.items()}
        leads = {
            Outcome.HOLDS: f"{words} these tell which gates will gain",
            Outcome.DOES_NOT_HOLD: f"{words} these do not",
            Outcome.INCONCLUSIVE: f"{words} these trainings leave open",
        }
        better = {predictors.over_gap(when, what): about for what, about in predictors.LABELS.items()}
        better[predictors.over_gap(when, "selected")] = "what nested selection picks"
        ahead = {Outcome.HOLDS: "Better than the gap, then", Outcome.DOES_NOT_HOLD: "No better than the gap, then"}
        outcomes = [found.outcome for name in names if (found := findings.get(name))]
        none = len(outcomes) == len(names) and set(outcomes) == {Outcome.DOES_NOT_HOLD}
        told = f"{words} none of the {len(names)} measurements tells which gates will gain."
        parts += [told if none else sorted_out(findings, names, leads), sorted_out(findings, better, ahead)]
    late = decided(
        findings,
        {
            predictors.over_loss("early"): (
                "What nested selection picks early beats a look at the initial loss, which costs nothing.",
                "What nested selection picks early is no better than a look at the initial loss, which costs nothing.",
            ),
            **{
                predictors.transfers(held): (
                    f"On a {held} that it has not seen, the rule that nested selection picks early is better than one"
                    " on the gap.",
                    f"On a {held} that it has not seen, the rule that nested selection picks early is no better than"
                    " one on the gap.",
                )
                for held in predictors.HELD
            },
            predictors.telling("late", "information"): (
                "In the end it shows in the gate itself: those that gain depend on their input.",
                "Even in the end the gate's dependence on its input does not tell which gain.",
            ),
            predictors.telling("late", "gap"): (
                "By then the gap tells as well, when it no longer needs to predict anything.",
                "The gap does not tell even then.",
            ),
        },
    )
    return " ".join(filter(None, [*parts, late]))
