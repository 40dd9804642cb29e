"""The sentences and tables of the page on other simulators."""

from __future__ import annotations

import pandas as pd

from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.criteria.hardware import CHANCE
from paper.studies.base import shown_on
from paper.studies.peers import aihwkit, largest


def readings_table(tables: Tables) -> pd.DataFrame:
    """Which reading of the formulas is whose: largest difference in standard errors."""
    table = tables["readings"].rename(columns={"here": "ours", "exponent": "exponent of", "noise": "noise of"})
    return table.set_index(["exponent of", "noise of"]).round(1)


def readings(tables: Tables) -> str:
    """Which reading of the formulas is whose (Markdown)."""
    table = tables["readings"]
    said = []
    for column, whose in (("here", "Our chips"), ("aihwkit", "aihwkit's")):
        fits = table[table[column] < CHANCE]
        ways = " or ".join(
            f"the exponent of the {one.exponent} and the noise of the {one.noise}" for one in fits.itertuples()
        )
        said.append(f"{whose} have {ways} conductance." if ways else f"{whose} are none of the readings.")
    return " ".join(said)


def wires_table(tables: Tables) -> pd.DataFrame:
    """Relative errors of both ways to solve the circuit, by side and wires."""
    table = tables["wires"]
    wires = [f"{row.r_word:g} / {row.r_bit:g}" for row in table.itertuples()]
    shown = table.assign(
        wires=wires,
        array=[f"{side} × {side + 3}" for side in table.side],
        **{"lost (%)": (100 * table.lost).map("{:.2g}".format)},
        fast=table.fast.map("{:.0e}".format),
        exact=table.exact.map("{:.0e}".format),
    )
    return shown[shown.side == table.side.max()].set_index(["array", "wires"])[["lost (%)", "fast", "exact"]]


def compared(tables: Tables) -> str:
    """How many comparisons there were, and how they came out (Markdown)."""
    statistics, peers = tables["statistics"], tables["peers"]
    single, chip = peers[peers.law != "chip"], peers[peers.law == "chip"]
    _, origin = aihwkit()
    versions = origin["versions"]
    return (
        f"{int(statistics.samples.iloc[0]):,} devices for each point here, {origin['samples']:,} in aihwkit "
        f"{versions['aihwkit']} (torch {versions['torch'].partition('+')[0]}). Of {len(statistics)} moments the one "
        f"furthest from its formula lies {largest(statistics.z):.1f} standard errors away; of {len(single)} that "
        f"aihwkit sampled too, {largest(single.z):.1f}. Of the {len(chip)} moments of whole chips the largest "
        f"difference is {100 * largest(chip.deviation):.1f} %, and {largest(chip.z):.0f} standard errors."
    )


def follows(findings: Findings) -> str:
    """What follows from the findings (Markdown): only what holds is said."""

    def holds(start: str) -> bool:
        own = [one for one in findings if one.id.startswith(f"peers.{start}")]
        return bool(own) and all(one.outcome == Outcome.HOLDS for one in own)

    said = []
    if holds("published."):
        chip = ", and so is the chip that they make up together" if holds("documented.here") else ""
        said.append(f"Each law is as published{chip}, within what sampling can tell.")
    if holds("circuit."):
        said.append("The circuit is as Kirchhoff has it, within rounding.")
    return (
        f"**What follows.** {' '.join(said)} Whatever this book finds out about training is a finding about these "
        "models. Had the laws been put together in another way, it would have shown here, and nowhere else in the book."
    )


def beside() -> str:
    """Our own numbers for what the cited works report, as far as the evidence of this book has them (Markdown)."""
    return "\n".join(filter(None, [_phase_change(), _faults()]))


def _phase_change() -> str:
    found = shown_on("operator")
    if found is None:
        return ""
    chips = found.tables["chips"]
    means = chips[chips.chip == "phase-change"].groupby("seconds").accuracy.mean()
    day = means[means.index <= 86400.0].iloc[-1]
    return (
        f"- **Phase-change memory.** A perceptron that never heard of hardware, right on {chips.clean.mean():.1f} % of "
        f"the digits without it: {means.iloc[0]:.1f} % after mapping, {day:.1f} % after a day."
    )


def _faults() -> str:
    found = shown_on("perturbation_stuck_at")
    if found is None:
        return ""
    table = found.tables["accuracy"]
    worst = table[table.severity == table.severity.max()].groupby("rule")[["clean", "accuracy"]].mean()
    ways = "; ".join(f"{rule.replace('_', '-')} {100 * row.accuracy:.0f} %" for rule, row in worst.iterrows())
    return (
        f"- **Faults.** With {100 * table.severity.max():g} % of all devices stuck, on chips that training has not "
        f"seen (clean: {100 * worst.clean.mean():.0f} %): {ways}."
    )
