"""The sentences and tables of the page on mechanisms."""

from __future__ import annotations

import pandas as pd

from lib.hardware.devices import HARDWARE
from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.studies import layers as by_layer
from paper.studies.mechanisms import MECHANISMS, SEVERITIES
from paper.words.numbers import Shown, interval, share
from paper.words.outcomes import decided, sorted_out

#: Outcomes of mechanisms in the order in which they are told.
_OUTCOMES = ("holds", "does not hold", "inconclusive")


def answer(tables: Tables, findings: Findings) -> str:
    """The page in a few sentences (Markdown)."""
    table = tables["flips"].drop_duplicates(["perturbation", "network"])
    told = []
    for outcome in _OUTCOMES:
        own = table[table.mechanism == outcome]
        if len(own):
            names = [
                f"{HARDWARE[str(name)].title} ({', '.join(part.network)})"
                for name, part in own.groupby("perturbation", sort=False)
            ]
            told.append(f"{outcome}: {'; '.join(names)}")
    return f"Of the mechanisms proposed, tested by an intervention that should flip the class: {'. '.join(told)}."


def mechanisms(tables: Tables) -> str:
    """Every mechanism with what was predicted and what came, as a table (Markdown)."""
    rows = ["| class | mechanism proposed | network | flips as predicted? | what came of its predictions |"]
    rows.append("|---|---|---|---|---|")
    for (name, net), own in tables["flips"].groupby(["perturbation", "network"], sort=False):
        came = []
        texts = {one.id: one for one in MECHANISMS[str(name)][1]}
        summary = tables["summary"]
        for row in own.itertuples():
            if (one := texts.get(str(row.claim))) is None:
                continue
            here = summary[
                (summary.network == net)
                & (summary.perturbation == name)
                & (summary.arm == one.arm)
                & (summary.severity == SEVERITIES[str(name)][0])
            ].iloc[0]
            role = "another mechanism: " if one.role == "rival" else ""
            won = f"{share(here.recovery)} {interval(here.recovery_low, here.recovery_high)}".strip()
            won = "nothing lost" if here.recovery != here.recovery else won
            came.append(f"{role}*{one.arm}* {won}, predicted {one.relation} {one.share:g}: {row.outcome}")
        verdict = f"**{own.mechanism.iloc[0]}**"
        rows.append(
            f"| {HARDWARE[str(name)].title} | {MECHANISMS[str(name)][0]} | {net} | {verdict} | {'; '.join(came)} |"
        )
    return "\n".join(rows)


def _sentences(net: str) -> dict[str, tuple[str, str]]:
    """By claim about a network: the sentence where it holds, and where it does not."""
    return {
        f"mechanisms.read_noise.held.{net}": (
            "Read noise is beaten by filling the window: where training cannot, less than half of the loss comes back.",
            "Filling the window is not all that training does against read noise: where it cannot, at least half of "
            "the loss still comes back.",
        ),
        f"mechanisms.read_noise.clipped.{net}": (
            "Half of the win needs no gradient: two standard deviations are enough.",
            "Clipping has less than half of what training wins.",
        ),
        f"mechanisms.variability.held.{net}": (
            "Variability is beaten in the same way.",
            "Against variability, too, at least half comes back without it.",
        ),
        f"mechanisms.variability.clipped.{net}": (
            "There too clipping has at least half of the win.",
            "There clipping has less than half of the win.",
        ),
        f"mechanisms.drift.factor.{net}": (
            "Drift is mostly a common factor: one number per layer gives at least half of the loss back, untrained.",
            "Drift is not a common factor here: one number per layer gives back less than half.",
        ),
        f"mechanisms.drift.left.{net}": (
            "Behind that factor training finds nothing to win.",
            "Behind that factor training still adds a point and more.",
        ),
        f"mechanisms.drift.spread.{net}": (
            "What the factor cannot mend is the spread of exponents: with four times as much of it, it is no longer "
            "enough.",
            "Even with exponents four times as far apart the factor gives back at least half.",
        ),
        f"mechanisms.stuck_at.trained.{net}": (
            "Stuck devices are not trained away for chips to come.",
            "Training for any chip gives back at least half of what stuck devices cost, wherever they are.",
        ),
        f"mechanisms.stuck_at.known.{net}": (
            "With the map of the chip, training gives back at least half.",
            "Knowing the chip does not help enough either.",
        ),
        f"mechanisms.stuck_at.half_known.{net}": (
            "Half of the map is enough for that.",
            "Half of the map is not enough for that.",
        ),
        f"mechanisms.stuck_at.off.{net}": (
            "If all of them were stuck off, training for any chip would do.",
            "With all of them stuck off training for any chip does not do it either.",
        ),
        f"mechanisms.ir_drop.held.{net}": (
            "Wires are beaten by emptying them: with the mean conductance held most of the win is gone.",
            "Emptying the wires is not what wins against IR-drop, or not alone: with the mean conductance held at "
            "least half still comes back.",
        ),
        f"mechanisms.ir_drop.backward.{net}": (
            "A backward that does not know the circuit loses the win.",
            "The win does not need the circuit in the backward.",
        ),
        f"mechanisms.ir_drop.bounded.{net}": (
            "So does a scale that is kept.",
            "A scale that is kept does not take it away.",
        ),
        f"mechanisms.ir_drop.inverted.{net}": (
            "Pre-distortion, the inverse of the known map, needs no training for it.",
            "Pre-distortion without training gives back less than half.",
        ),
        f"mechanisms.adc.trained.{net}": (
            "Through rounding nothing comes back, as it must be with a gradient that is zero.",
            "Something comes back although the gradient through rounding is zero: more steps, not the converter.",
        ),
        f"mechanisms.adc.through.{net}": (
            "A gradient that passes the rounding gives back at least half at two bits.",
            "A gradient that passes the rounding does not give back half at two bits.",
        ),
        f"mechanisms.adc.logits.{net}": (
            "A digital last layer alone does, without training.",
            "A digital last layer alone, without training, does not.",
        ),
    }


def told(findings: Findings, networks: tuple[str, ...]) -> str:
    """What the claims about mechanisms come to, network by network (Markdown)."""
    lines = [f"- *{net}.* {said}" for net in networks if (said := decided(findings, _sentences(net)))]
    return "\n".join(lines)


def layers(tables: Tables, findings: Findings) -> str:
    """Which ranking finds the layer to mend (Markdown)."""
    table = tables["mended"]
    means = table.groupby("ranking", sort=False)[["gain", "others", "best"]].mean()
    names = {
        f"mechanisms.layers.{name}.found": (
            f"{by_layer.NAMES[str(name)]} ({Shown(row.gain):.1f} of {Shown(row.best):.1f} points)"
        )
        for name, row in means.iterrows()
    }
    leads = {
        Outcome.HOLDS: "Nearly the best layer is found by",
        Outcome.DOES_NOT_HOLD: "It is not found by",
        Outcome.INCONCLUSIVE: "Undecided are",
    }
    return sorted_out(findings, names, leads)


_CONVERTER = {
    "mechanisms.converter.control": (
        "Vanilla training stays within a point of no training, at equal steps: the control.",
        "Vanilla training is more than a point away from no training, though its gradient is zero.",
    ),
    "mechanisms.converter.mask": (
        "A gradient has to know where the converter cuts off.",
        "Whether the gradient knows where the converter cuts off makes less than a point.",
    ),
    "mechanisms.converter.last": (
        "Keeping the logits out of the converter lifts an untrained network by {value:.1f} points at three bits.",
        "Keeping the logits out of the converter is worth less than five points at three bits ({value:.1f}).",
    ),
    "mechanisms.converter.best": (
        "Untrained, the range alone is worth {value:.1f} points there.",
        "Untrained, the range alone is worth less than five points there ({value:.1f}).",
    ),
    "mechanisms.converter.on_top": (
        "With the best range and a digital last layer, training still adds {value:.1f} points at three bits.",
        "With the best range and a digital last layer there is less than a point left for training at three bits.",
    ),
    "mechanisms.converter.on_top.2": (
        "At two bits it adds {value:.1f}.",
        "At two bits it adds less than five ({value:.1f}).",
    ),
    "mechanisms.converter.learned": (
        "A range learned in training is {value:.1f} points ahead of the quantile at two bits.",
        "A range learned in training is not five points ahead of the quantile at two bits ({value:.1f}).",
    ),
}


def converter(findings: Findings) -> str:
    """What decides about a converter (Markdown)."""
    return decided(findings, _CONVERTER)


def follows(findings: Findings) -> str:
    """What follows from the findings (Markdown)."""
    core = [one for one in findings if one.id.startswith("mechanisms.") and one.family == "mechanisms"]
    counts = {outcome: sum(one.outcome is outcome for one in core) for outcome in Outcome}
    text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    advice = decided(
        findings,
        {
            "mechanisms.layers.margin.found": (
                "One forward and one backward pass tell which layer to mend first.",
                "A first-order look at the margin does not tell which layer to mend first: try them one by one.",
            )
        },
    )
    return (
        f"**What follows.** Of the predictions about mechanisms: {text}. An explanation that was not put to an "
        f"intervention is a story. {advice}"
    ).strip()


def table(tables: Tables) -> pd.DataFrame:
    """Means of the layers for reading: what each alone costs, and what mending it wins back, in points."""
    own = by_layer.damage_by_layer(tables["layers"])
    own["perturbation"] = [HARDWARE[name].title for name in own.perturbation]
    return own.drop(columns="place").set_index(["network", "perturbation", "layer"]).round(1)
