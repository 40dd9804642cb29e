"""The sentences and tables of the page on mechanisms."""

from __future__ import annotations

import pandas as pd

from lib.hardware.devices import HARDWARE
from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.criteria.hardware import DAMAGE
from paper.studies import layers as by_layer
from paper.studies.mechanisms import MECHANISMS, PREDICTIONS, SECOND, SEVERITIES, Prediction
from paper.words.numbers import Shown, interval, share
from paper.words.outcomes import decided, sorted_out
from paper.words.spelling import spelt

#: Outcomes of mechanisms in the order in which they are told.
_OUTCOMES = ("holds", "does not hold", "inconclusive")


def answer(tables: Tables, findings: Findings) -> str:
    """The page in a few sentences (Markdown)."""
    table = tables["flips"].drop_duplicates(["perturbation", "network"])
    told = [f"Mechanisms that were proposed first: {_sorted(table, 'mechanism')}."]
    if len(again := table[table.second != ""]):
        told.append(f"Second ones, proposed when the first numbers had refuted those: {_sorted(again, 'second')}.")
    return " ".join(told)


def _sorted(table: pd.DataFrame, column: str) -> str:
    """Classes with their networks by what became of their mechanism."""
    parts = []
    for outcome in _OUTCOMES:
        own = table[table[column] == outcome]
        if len(own):
            by_class = own.groupby("perturbation", sort=False).network
            names = [f"{HARDWARE[str(name)].title} ({', '.join(map(spelt, nets))})" for name, nets in by_class]
            parts.append(f"**{outcome}** for {', '.join(names)}")
    return "; ".join(parts)


def mechanisms(tables: Tables) -> str:
    """Every mechanism with what was predicted and what came of it, as a folded table (Markdown)."""
    rows = [
        "| class, network | mechanism | does it flip as predicted? | predictions, and the share that came back |",
        "|---|---|---|---|",
    ]
    for (name, net), own in tables["flips"].groupby(["perturbation", "network"], sort=False):
        texts = {one.id: one for one in PREDICTIONS[str(name)]}
        came: dict[str, list[str]] = {"first": [], "second": []}
        for row in own.itertuples():
            one = texts.get(str(row.claim))
            if one is not None:
                came["second" if one.role == "second" else "first"].append(_came(tables, net, name, one, row.outcome))
        where = f"{HARDWARE[str(name)].title}, {spelt(str(net))}"
        first = own.iloc[0]
        rows.append(f"| {where} | {MECHANISMS[str(name)][0]} | **{first.mechanism}** | {'; '.join(came['first'])} |")
        if came["second"]:
            text = f"*Second:* {SECOND[str(name)][0]}"
            rows.append(f"| {where} | {text} | **{first.second}** | {'; '.join(came['second'])} |")
    return (
        f"<details><summary>Every prediction ({len(rows) - 2} rows)</summary>\n\n" + "\n".join(rows) + "\n\n</details>"
    )


def _came(tables: Tables, net: object, name: object, one: Prediction, outcome: object) -> str:
    """What was predicted of an arm, and what came."""
    summary = tables["summary"]
    own = summary[(summary.network == net) & (summary.perturbation == name) & (summary.arm == one.arm)]
    here = own[own.severity == SEVERITIES[str(name)][0]].iloc[0]
    won = f"{share(here.recovery)} {interval(here.recovery_low, here.recovery_high)}".strip()
    if here.recovery != here.recovery:
        won = "nothing lost" if here.damage < DAMAGE else "not known"
    role = "(another mechanism) " if one.role == "rival" else ""
    relation = "at least" if one.relation == ">=" else "less than"
    return f"{role}*{one.arm}*: {won}, {relation} {one.share:g} predicted, {outcome}"


def _sentences(net: str) -> dict[str, tuple[str, str]]:
    """By claim about a network: the sentence where it holds, and where it does not."""
    return {
        f"mechanisms.read_noise.held.{net}": (
            "Read noise is beaten by filling the window: where training cannot, less than half of the loss comes back.",
            "Filling the window is not all that training does against read noise: where it cannot, at least half of "
            "the loss still comes back.",
        ),
        f"mechanisms.read_noise.clipped.{net}": (
            "Clipping at two standard deviations, without a gradient, has at least half of what training wins against "
            "read noise.",
            "Clipping has less than half of what training wins against read noise.",
        ),
        f"mechanisms.variability.held.{net}": (
            "Variability is beaten by filling the window: where training cannot, less than half comes back.",
            "Of what variability costs at least half comes back where training cannot fill the window.",
        ),
        f"mechanisms.variability.clipped.{net}": (
            "Clipping has at least half of the win against variability.",
            "Clipping has less than half of the win against variability.",
        ),
        f"mechanisms.drift.factor.{net}": (
            "Drift is mostly a common factor: one number per layer gives at least half of the loss back, untrained.",
            "Drift is not a common factor here: one number per layer gives back less than half.",
        ),
        f"mechanisms.drift.left.{net}": (
            "Behind one factor per layer training adds less than a point.",
            "Behind one factor per layer training still adds a point and more.",
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
            "Half of the map is enough for half of the loss.",
            "Half of the map is not enough for half of the loss.",
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
            "The win against IR-drop does not need the circuit in the backward.",
        ),
        f"mechanisms.ir_drop.bounded.{net}": (
            "A scale that is kept costs IR-drop's win.",
            "A scale that is kept does not take IR-drop's win away.",
        ),
        f"mechanisms.ir_drop.inverted.{net}": (
            "Pre-distortion, the inverse of the known map, needs no training for it.",
            "Pre-distortion without training gives back less than half.",
        ),
        f"mechanisms.read_noise.ratio.{net}": (
            "What training does to read noise is to raise each layer's signal over it: with that ratio held less than "
            "half comes back.",
            "Even with every layer's ratio of signal to noise held at least half comes back: training also learns to "
            "live with errors that it cannot make smaller.",
        ),
        f"mechanisms.variability.ratio.{net}": (
            "Against variability training needs the ratio of signal to error: held, it leaves less than half to win.",
            "Against variability at least half comes back with the ratio held.",
        ),
        f"mechanisms.stuck_at.ratio.{net}": (
            "With the ratio of signal to error held, less than half of what stuck devices cost comes back.",
            "Against stuck devices at least half comes back with the ratio held.",
        ),
        f"mechanisms.ir_drop.shuffled.{net}": (
            "What makes IR-drop easy is that nothing about it is random: with the lines in another order on every "
            "chip, training for any chip does not give half of it back.",
            "That nothing about IR-drop is random is not why it is easy: with the lines in another order on every "
            "chip, training for any chip still gives back at least half.",
        ),
        f"mechanisms.adc.both.{net}": (
            "A digital last layer and a gradient that passes the rounding give back at least half together.",
            "Not even a digital last layer and a gradient that passes the rounding together give half back.",
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


#: Claims that say something only where another one of their class holds: there is no win to explain without one.
_RESTS = {
    **{
        f"{name}.{claim}": "trained" for name in ("read_noise", "variability") for claim in ("held", "ratio", "clipped")
    },
    **{f"ir_drop.{claim}": "trained" for claim in ("held", "backward", "bounded", "shuffled")},
    **{"drift.left": "factor", "drift.spread": "factor", "stuck_at.ratio": "any"},
}


def told(findings: Findings, networks: tuple[str, ...]) -> str:
    """What the claims about mechanisms come to, class by class; the networks after the first are folded (Markdown)."""
    parts: list[str] = []
    for net in networks:
        said: dict[str, dict[str, tuple[str, str]]] = {}
        for name, text in _sentences(net).items():
            if _rests(findings, name):
                said.setdefault(name.split(".")[1], {})[name] = text
        every = {name: decided(findings, own) for name, own in said.items()}
        lines = "\n".join(f"- *{HARDWARE[name].title}.* {text}" for name, text in every.items() if text)
        if lines and parts:
            parts.append(f"<details><summary>The same in the {spelt(str(net))}</summary>\n\n{lines}\n\n</details>")
        elif lines:
            parts.append(f"In the {spelt(str(net))}:\n\n{lines}")
    return "\n\n".join(parts)


def _rests(findings: Findings, name: str) -> bool:
    """Is there what a claim rests on?"""
    _, of, claim, net = name.split(".")
    if (needed := _RESTS.get(f"{of}.{claim}")) is None:
        return True
    found = findings.get(f"mechanisms.{of}.{needed}.{net}")
    return found is not None and found.outcome is Outcome.HOLDS


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
        "Untrained, the range that rounds best is {value:.1f} points ahead of the largest current at three bits.",
        "Untrained, the range that rounds best is less than five points ahead of the largest current ({value:.1f}).",
    ),
    "mechanisms.converter.on_top": (
        "With the best range and a digital last layer, training still adds {value:.1f} points at three bits.",
        "With the best range and a digital last layer there is less than a point left for training at three bits.",
    ),
    "mechanisms.converter.on_top.2": (
        "With both, training adds {value:.1f} points at two bits.",
        "With both, training adds less than five points at two bits ({value:.1f}).",
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
    core = [one for one in findings if len(one.id.split(".")) == 4 and one.id.split(".")[1] in MECHANISMS]
    counts = {outcome: sum(one.outcome is outcome for one in core) for outcome in Outcome}
    verbs = {
        Outcome.HOLDS: ("holds", "hold"),
        Outcome.DOES_NOT_HOLD: ("does not hold", "do not hold"),
        Outcome.INCONCLUSIVE: ("is inconclusive", "are inconclusive"),
    }
    text = ", ".join(f"{count} {verbs[outcome][count > 1]}" for outcome, count in counts.items() if count)
    advice = decided(
        findings,
        {
            "mechanisms.layers.margin.found": (
                "One forward and one backward pass tell which layer to mend first.",
                "A first-order look at the margin does not tell which layer to mend first: try them one by one.",
            ),
            "mechanisms.layers.size.others": (
                "So, against the mean of the others, does the number of its weights, which costs nothing to know.",
                "",
            ),
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
