"""The sentences of the pages on the causes of a gate that does nothing: the gap's origin, escape, predictors."""

from __future__ import annotations

from lib.verdicts import Findings, Outcome
from paper.studies import escape, predictors
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
        Outcome.HOLDS: f"Adaptive within {study.steps} steps",
        Outcome.DOES_NOT_HOLD: "Not adaptive",
        Outcome.INCONCLUSIVE: "Left open by these seeds",
    }
    remarks = decided(
        findings,
        {
            escape.adaptive(escape.named(1000)): (
                "Even at a thousand times the rate a gate is adaptive.",
                "Larger steps help up to a point only: at a thousand times the rate the gate is not adaptive.",
            ),
            escape.adaptive("diversity loss"): (
                "A reward for *different* gate values helps.",
                "And what is often proposed against collapse need not help: a reward for *different* gate values does"
                " not.",
            ),
        },
    )
    return f"{sorted_out(findings, names, leads)}\n\n{remarks}"


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
            "escape.law.later": ("Under SGD it needs the more steps, the further its gradient is behind.", ""),
            "escape.nothing": (
                "Where nothing depends on the picture no training makes it adaptive, which is as it should be.",
                "Gates become adaptive where nothing depends on the picture, too: the test is not strict enough.",
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
            Outcome.HOLDS: f"{words} these tell which gates will gain",
            Outcome.DOES_NOT_HOLD: f"{words} these do not",
            Outcome.INCONCLUSIVE: f"{words} these trainings leave open",
        }
        better = {predictors.over_gap(when, what): about for what, about in predictors.LABELS.items()}
        ahead = {Outcome.HOLDS: "Better than the gap, then", Outcome.DOES_NOT_HOLD: "No better than the gap, then"}
        parts += [sorted_out(findings, names, leads), sorted_out(findings, better, ahead)]
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
