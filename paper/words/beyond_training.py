"""The sentences of the page on measures beyond training."""

from __future__ import annotations

import pandas as pd

from lib.hardware.devices import HARDWARE
from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.criteria.hardware import CLEAR_DAMAGE, points
from paper.studies.base import duration
from paper.studies.beyond_training import KINDS, TOGETHER
from paper.studies.recovery import OPEN
from paper.words.numbers import share


def answer(tables: Tables) -> str:
    """The page in a few sentences, with its measured numbers (Markdown)."""
    table = tables["advice"]
    hurt = table[table.damage >= CLEAR_DAMAGE]
    counts = hurt.advice.value_counts()
    words = [f"{kind} in {counts[kind]}" for kind in (*KINDS, TOGETHER, "nothing tried") if kind in counts]
    if not words:
        return ""
    left = sum(counts.get(name, 0) for name in OPEN)
    open_ = f" The seeds leave {left} of them open." if left else ""
    return (
        f"Of {len(hurt)} pairs of class and severity that cost at least {points(CLEAR_DAMAGE):g} points, the first "
        f"measure that gives half of the loss back is {', '.join(words)}.{open_}"
    )


def shown(tables: Tables) -> pd.DataFrame:
    """The advice for reading: recoveries with two decimals, dashes where nothing was tried."""
    rows = []
    for row in tables["advice"].to_dict("records"):
        physics = HARDWARE[row["perturbation"]]
        kinds = {kind: "–" if row[kind] != row[kind] else share(row[kind]) for kind in (*KINDS, TOGETHER)}
        loss = f"{100 * row['damage'] + 0.0:.0f}"
        number = f"{row['severity']:.3g} {physics.unit}".removesuffix(" of devices")
        where = duration(row["severity"]) if physics.unit == "s" else number
        rows.append({"class": physics.title, "severity": where, "loss": loss, **kinds, "advice": row["advice"]})
    short = {"training per chip": "per chip", TOGETHER: "together"}
    return pd.DataFrame(rows).rename(columns=short).set_index("class")


def follows(findings: Findings) -> str:
    """What follows from the findings (Markdown): a sentence is there when all that it rests on holds."""
    rests = {
        "What is common to a layer or follows from the weights, a shrinking scale, the losses of wires, is better "
        "measured or computed than learned.": ("drift.factor", "ir_drop.predistorted"),
        "A converter's range is better measured than trained around.": ("adc.range",),
        "What differs from device to device can be trained away where it is known, chip by chip.": (
            "variability.known",
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
