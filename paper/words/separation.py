"""The sentences and tables of the page on the separation."""

from __future__ import annotations

import pandas as pd

from lib.hardware.devices import HARDWARE
from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.criteria.hardware import CLEAR_DAMAGE, DAMAGE, SEVERE, points
from paper.studies.hardware import NAMES
from paper.studies.separation import JOINT, REGIMES, tell
from paper.words.numbers import interval, share


def answer(tables: Tables) -> str:
    """The page in a few sentences, with its measured numbers (Markdown)."""
    summary, regimes, told = tables["summary"], tables["regimes"], tell(tables["scores"])
    parts = []
    for rule in dict.fromkeys(summary.rule):
        hurt = summary[(summary.rule == rule) & (summary.damage >= DAMAGE)]
        won, lost = int((hurt.verdict == "compensated").sum()), int(hurt.verdict.isin(_SHORT).sum())
        parts.append(f"{NAMES[rule]} wins back at least half of the loss in {won} of {len(hurt)} and less in {lost}")
    known = summary[(summary.damage >= DAMAGE) & summary.known.notna()]
    moderate = regimes[(regimes.regime == "moderate") & (regimes.rule == "autograd")]
    means = moderate.groupby("perturbation").recovery.mean().sort_values(ascending=False)
    shares = [f"{HARDWARE[name].title} {share(value)}" for name, value in means.dropna().items()]
    best = told[told.diagnostic != JOINT].iloc[0]
    cosine, together = (told[told.diagnostic == name].iloc[0] for name in ("cosine", JOINT))
    telling = (
        f"Of the gradient's properties before training, *{best.diagnostic}* tells best which cases will be "
        f"compensated, with an area under the ROC curve of {best.area:.2f}; the cosine with the clean gradient "
        f"reaches {cosine.area:.2f}, "
        # With a single class there is none that was not seen.
        + (f"the three together {together.area:.2f} on classes not seen, " if together.area == together.area else "")
        + "and 0.5 is a coin."
    )
    return (
        f"Among all classes, severities and networks where damage is done, {'; '.join(parts)} cases; the others are "
        "undecided. "
        + (
            "When the chip is known in training, at least half comes back in "
            f"{int((known.known_verdict == 'compensated').sum())} of {len(known)}. "
            if len(known)
            else ""
        )
        + (
            f"Where a distortion costs {points(CLEAR_DAMAGE):g} to {points(SEVERE):g} points, the share that vanilla "
            f"training wins back is: {', '.join(shares)}. "
            if shares
            else ""
        )
        + (telling if best.area == best.area else "")
    )


# Verdicts that say that less than half of the loss comes back.
_SHORT = ("not compensated", "broken", "harmed")


def sides(tables: Tables) -> pd.DataFrame:
    """The verdicts of all classes, with recovery: a column for every network and regime (moderate, severe)."""
    table = tables["regimes"]
    table = table[table.regime != "slight"]
    shown = [
        "–" if value != value else f"{verdict} ({share(value)})"
        for value, verdict in zip(table.recovery, table.verdict, strict=True)
    ]
    table = table.assign(shown=shown, column=table.network + ", " + table.regime)
    wide = table.pivot(index=["perturbation", "rule"], columns="column", values="shown")
    order = [f"{network}, {regime}" for network in dict.fromkeys(table.network) for regime in REGIMES]
    names = [(name, rule) for name in dict.fromkeys(table.perturbation) for rule in dict.fromkeys(table.rule)]
    rows = [pair for pair in names if pair in wide.index]
    return wide.loc[rows, [name for name in order if name in wide]].fillna("not reached").reset_index()


# By claim: the sentence where it holds, and where it does not. Where it is undecided nothing is said.
_LINES = {
    "separation.classes": (
        "The line runs between classes: none is compensated where it costs little and lost where it costs much.",
        "The line does not run between classes but through them: one that is compensated where it costs little is not "
        "where it costs much.",
    ),
    "separation.networks": (
        "At equal damage the networks are on the same side everywhere.",
        "Where the line runs depends on the network.",
    ),
    "separation.adc_rule": (
        "The backward rule moves the line: an ADC under vanilla training is another case than under straight-through.",
        "For an ADC the two backward rules are not far apart.",
    ),
    "separation.read_noise.moderate": (
        "Read noise is compensated where it costs little.",
        "Read noise is not compensated, even where it costs little.",
    ),
    "separation.read_noise.severe": (
        "Read noise is compensated even where it costs most of the accuracy.",
        "Where read noise costs most of the accuracy, training does not get half of it back.",
    ),
    "separation.ir_drop.moderate": (
        "IR-drop breaks training even where it costs little.",
        "IR-drop, whose currents follow from the weights by Kirchhoff's laws, is not on the breaking side where it "
        "costs little, once the forward pass contains the circuit; what it takes to break it is the subject of "
        "[its own page](perturbation_ir_drop.ipynb).",
    ),
    "separation.ir_drop.severe": (
        "Where IR-drop costs most of the accuracy, training does not get it back.",
        "Even where IR-drop costs most of the accuracy, training wins more than a fifth of it back.",
    ),
}


def outstanding(findings: Findings) -> str:
    """What stands out, one sentence for every decided claim about the line (Markdown)."""
    return _decided(findings, _LINES)


def _decided(findings: Findings, sentences: dict[str, tuple[str, str]]) -> str:
    lines = []
    for claim, (holds, fails) in sentences.items():
        found = findings.get(claim)
        if found is not None and found.outcome != Outcome.INCONCLUSIVE:
            lines.append(f"- {holds if found.outcome == Outcome.HOLDS else fails}")
    return "\n".join(lines)


_TELLS = {
    "separation.tells.cosine": (
        "The cosine with the clean gradient separates the two sides.",
        "The cosine with the clean gradient does not separate the two sides: under vanilla training the gradient may "
        "well leave the clean direction, because the chip asks for another network than the computer does.",
    ),
    "separation.transfers.cosine.class": (
        "A threshold on the cosine decides about a class that it never saw.",
        "A threshold on the cosine that was learnt on the other classes misleads about the one that was left out.",
    ),
    "separation.tells.signal": (
        "The share of signal separates the two sides.",
        "The share of signal does not separate the two sides.",
    ),
    "separation.tells.live": (
        "The share of live weights separates the two sides.",
        "The share of live weights does not separate the two sides.",
    ),
    "separation.tells.three_together": (
        "The three together separate the two sides in classes that were not fitted.",
        "Three numbers that each mean something else in every class do not become a rule by being added up: what a "
        "regression learns on the other classes does not carry over.",
    ),
}


def telling(tables: Tables, findings: Findings) -> str:
    """Which diagnostics tell, by their claims, and which of all has the largest area (Markdown)."""
    told = tell(tables["scores"])
    lines = [_decided(findings, _TELLS)]
    single = told[(told.diagnostic != JOINT) & told.area.notna()]
    if len(single):
        best = single.iloc[0]
        ends = interval(best.area_low, best.area_high)
        lines.append(f"- The largest area is that of *{best.diagnostic}*: {share(best.area)} {ends}.")
    if (told.area_high < 0.5).any():
        lines.append("- An area below one half is no plotting error: that diagnostic points the wrong way here.")
    return "\n".join(filter(None, lines))
