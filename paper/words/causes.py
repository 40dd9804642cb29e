"""The sentences of the pages on the causes of a gate that does nothing: the gap's origin, escape, predictors."""

from __future__ import annotations

import pandas as pd

from lib.verdicts import Findings, Outcome
from paper.criteria import prompts as criteria
from paper.studies import escape, predictors
from paper.words.numbers import Shown
from paper.words.outcomes import decided, sorted_out


# ------------------------------------------------------------------------------------ where the gap comes from
def answered(findings: Findings) -> str:
    """Whether gap and prediction part."""
    return decided(
        findings,
        {
            "gap_origin.gap.temperature": (
                "Heating and cooling the gate moves the gap as written.",
                "Heating and cooling the gate does not move the gap as written ({value:.2f} decades off).",
            ),
            "gap_origin.gap.gain": (
                "Scaling what it sees moves the gap as written.",
                "Scaling what it sees does not move the gap as written ({value:.2f} decades off).",
            ),
            "gap_origin.gap.bias": (
                "Opening and shutting the gate moves the gap as written.",
                "Opening or shutting the gate does not move the gap as written ({value:.2f} decades off): other factors"
                " answer.",
            ),
            "gap_origin.gap.prompt_std": (
                "Longer prompts do what was predicted.",
                "Longer prompts do not do what was predicted ({value:.2f} decades off).",
            ),
            "gap_origin.gap.aligned": (
                "Turned prompts do what was predicted.",
                "The last panel shows it best: turn the prompts towards their gradient, and the gradient turns away.",
            ),
        },
    )


def ignored(findings: Findings) -> str:
    """What the angle between gradient and token means for a gate."""
    return decided(
        findings,
        {
            "gap_origin.perpendicular": (
                "A gate that scales prompts works in the one direction that the network is built to ignore, and no"
                " choice of initial prompts mends that.",
                "The gradient is not perpendicular to the token here: the argument is not the whole story.",
            )
        },
    )


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
                "The scale of its input is a reliable lever.",
                "The scale of its input is no reliable lever.",
            ),
            "gap_origin.turned": (
                "On the prompts' side their direction is one.",
                "On the prompts' side their direction is none.",
            ),
        },
    )


# ------------------------------------------------------------------------------------------ what revives a gate
def revived(findings: Findings, study: escape.Escape) -> str:
    """Which interventions work, and what is worth a second look."""
    names = {escape.adaptive(name): name for name in study.chosen()}
    leads = {
        Outcome.HOLDS: f"Adaptive in most seeds after {study.steps} steps",
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
        f"{name} ({Shown(points):.0f})" for name, points in zip(fallen["intervention"], fallen["lost"], strict=True)
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
        Outcome.DOES_NOT_HOLD: "A decade is not what a decade of the rate is for",
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


def excused(findings: Findings) -> str:
    """What follows from the page on escape."""
    return decided(
        findings,
        {
            "escape.published": ("An idle gate in a short run says little about the gate and much about the run.", ""),
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


# ------------------------------------------------------------------------------------------ what tells beforehand
def telling(findings: Findings) -> str:
    """What follows from the page on predictors."""
    parts = []
    for when, words in (("before", "Before the first step"), ("early", "After an eighth of the steps")):
        names = {predictors.telling(when, what): about for what, (about, _) in predictors.SCORES.items()}
        leads = {
            Outcome.HOLDS: f"{words} these tell",
            Outcome.DOES_NOT_HOLD: f"{words} these do not",
            Outcome.INCONCLUSIVE: f"{words} these seeds leave open",
        }
        parts.append(sorted_out(findings, names, leads))
    late = decided(
        findings,
        {
            predictors.telling("late", "information"): (
                "In the end it shows in the gate itself: those that are worth something depend on their input.",
                "Even in the end the gate's dependence on its input does not tell which are worth something.",
            ),
            predictors.telling("late", "gap"): (
                "By then the gap tells as well, when it no longer needs to predict anything.",
                "The gap does not tell even then.",
            ),
        },
    )
    return " ".join(filter(None, [*parts, late]))
