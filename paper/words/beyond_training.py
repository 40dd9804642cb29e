"""The sentences of the page on measures beyond training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lib.hardware.devices import HARDWARE
from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.criteria.hardware import CLEAR_DAMAGE, SPECIFICATION, points
from paper.studies.beyond_training import NORMALISED
from paper.words.format import number, quantity
from paper.words.numbers import interval, share

#: What yields are of, as sentences say it.
YIELD_ARMS = {"unaware": "nothing done", "clipped": "clipped", "autograd": "trained"}


def answer(tables: Tables) -> str:
    """The page in a few sentences, with its measured numbers (Markdown)."""
    table = tables["advice"]
    hurt = table[(table.damage >= CLEAR_DAMAGE) & (table.answer != "untrained")]
    if not len(hurt):
        return ""
    counts = hurt.answer.value_counts()
    said = [
        f"Of {len(hurt)} pairs of class and severity that cost at least {points(CLEAR_DAMAGE):g} points, "
        f"{counts.get('training', 0)} are compensated by training in the strict sense, beyond the best measure that "
        f"needs none; in {counts.get('no training', 0)} a measure without training does at least as much, and "
        f"{counts.get('inconclusive', 0)} are left open by the seeds."
    ]
    best = hurt.without.value_counts()
    said.append("The best measure without training is " + ", ".join(f"*{one}* in {n}" for one, n in best.items()) + ".")
    summary = tables["summary"].merge(hurt[["perturbation", "network", "severity"]])
    kept = summary[summary.worth].measure.value_counts()
    never = sorted(set(summary.measure) - set(kept.index))
    if never:
        said.append(f"Beaten in costs and recovery at every one of them: {', '.join(f'*{one}*' for one in never)}.")
    return " ".join(said)


def shown(tables: Tables) -> pd.DataFrame:
    """The measures that none beats, for reading: what each gives back and what it costs, class by class."""
    rows = []
    for row in tables["advice"].to_dict("records"):
        at = ["perturbation", "network", "severity"]
        summary = tables["summary"]
        same = summary[(summary[at] == [row[one] for one in at]).all(axis=1) & summary.worth]
        listed = [f"{one.measure} {share(one.recovery)} ({_price(one)})" for one in same.itertuples()]
        rows.append({**_where(row), "worth considering": "; ".join(listed) or "–", "by training": row["answer"]})
    return pd.DataFrame(rows).set_index(["class", "severity"])


def ahead(tables: Tables) -> pd.DataFrame:
    """Training against the best measure that needs none, for reading."""
    rows = []
    for row in tables["advice"].to_dict("records"):
        if row["answer"] in ("no damage", "untrained"):
            continue
        best = {
            name: f"{row[column]} {share(row[f'{column}_recovery'])}"
            for name, column in (("best without training", "without"), ("best trained once", "trained"))
        }
        rows.append({**_where(row), **best, "points beyond": row["beyond"], "by training": row["answer"]})
    return pd.DataFrame(rows).set_index(["class", "severity"]) if rows else pd.DataFrame()


def _where(row: Mapping[Any, Any]) -> dict[str, Any]:
    physics = HARDWARE[row["perturbation"]]
    where = quantity(row["severity"], physics.unit)
    title = physics.title if row["network"] != NORMALISED else f"{physics.title}, normalised CNN"
    return {"class": title, "severity": where, "loss (points)": 100 * row["damage"]}


def _price(row: Any) -> str:
    """What a measure costs beyond two devices a weight, one conversion an output, and nothing else."""
    price = []
    if row.devices > 2:
        price.append(f"{row.devices:g} devices a weight")
    if row.energy > 1:
        price.append(f"{number(row.energy)} × converter energy")
    if row.measurements:
        price.append(f"{row.measurements:,.0f} measurements a chip")
    if row.steps:
        price.append(f"{row.steps:g} steps once")
    if row.steps_per_chip:
        price.append(f"{row.steps_per_chip:g} steps a chip")
    return ", ".join(price) or "free"


def of_yield(tables: Tables) -> str:
    """How many chips are good enough where it matters, with intervals (Markdown)."""
    if "yield" not in tables:
        return "No class among these parameters has chips that differ (`-p perturbations variability,stuck_at`)."
    found, advised = tables["yield"], tables["advice"]
    lines = []
    for name, group in found[found.specification == SPECIFICATION].groupby("perturbation", sort=False):
        hurt = advised[
            (advised.perturbation == name) & (advised.network != NORMALISED) & (advised.damage >= CLEAR_DAMAGE)
        ].severity
        at = next((severity for severity in group.severity.unique() if severity in set(hurt)), None)
        if at is None:
            continue
        arms = group[group.severity == at].set_index("arm").loc[list(YIELD_ARMS)]
        said = [
            f"{label} {share(arms.share[arm])} {interval(arms.low[arm], arms.high[arm])}"
            for arm, label in YIELD_ARMS.items()
        ]
        where = _where({"perturbation": name, "severity": at, "network": "", "damage": 0.0})
        lines.append(f"- **{where['class']}, {where['severity']}**: {', '.join(said)}.")
    within = f"Share of chips within {SPECIFICATION:g} points of the clean network"
    head = f"{within}, at the mildest severity that costs it {100 * CLEAR_DAMAGE:g} points:"
    return "\n".join([head, "", *lines]) if lines else "No severity here costs enough for a yield to matter."


def follows(findings: Findings) -> str:
    """What follows from the findings (Markdown): a sentence is there when all that it rests on holds."""
    rests = {
        "What is common to a layer or follows from the weights, a shrinking scale, the losses of wires, is better "
        "measured or computed than learned.": ("drift.factor", "ir_drop.predistorted"),
        "A converter's range is better measured than trained around.": ("adc.range",),
        "What differs from device to device can be trained away where it is known, chip by chip.": (
            "variability.known",
        ),
        "Statistics of a normalised network follow its chip, and cost more to leave alone than to measure again.": (
            "drift.normalised",
            "drift.restored",
        ),
        "Where it is not known it can be averaged, by more devices; and both together carry further than training "
        "alone.": ("variability.together",),
    }
    said = [text for text, names in rests.items() if all(_holds(findings, name) for name in names)]
    question = "Before training through a distortion, ask whether it is a number that someone could measure."
    return " ".join(["**What follows.**", question, *said])


def _holds(findings: Findings, name: str) -> bool:
    found = findings.get(f"beyond_training.{name}")
    return found is not None and found.outcome == Outcome.HOLDS
