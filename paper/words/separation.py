"""The sentences and tables of the page on the separation."""

from __future__ import annotations

import pandas as pd

from lib.hardware.perturbations import PERTURBATIONS
from lib.results import Tables
from paper.criteria.hardware import CLEAR_DAMAGE, DAMAGE, SEVERE, points
from paper.studies.hardware import NAMES
from paper.studies.separation import JOINT, REGIMES, tell
from paper.words.numbers import share


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
    shares = [f"{PERTURBATIONS[name].title} {share(value)}" for name, value in means.items()]
    best = told[told.diagnostic != JOINT].iloc[0]
    cosine, together = (told[told.diagnostic == name].iloc[0] for name in ("cosine", JOINT))
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
        + f"Of the gradient's properties before training, *{best.diagnostic}* tells best which cases will be "
        f"compensated, with an area under the ROC curve of {best.area:.2f}; the cosine with the clean gradient "
        f"reaches {cosine.area:.2f}, the three together {together.area:.2f} on classes not seen, and 0.5 is a coin."
    )


# Verdicts that say that less than half of the loss comes back.
_SHORT = ("not compensated", "broken")


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
