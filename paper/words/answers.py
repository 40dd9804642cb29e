"""What a what-if on hardware says of a setting in numbers, what of it the evidence has beside a live run, and what came
of the question before it (``paper.words.asked`` is the same for gates). All numbers are of a page's tables.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.checks import ParameterError
from lib.hardware.devices import HARDWARE
from paper.figures.composed import short
from paper.figures.hardware import severity_label, title
from paper.studies.base import Page
from paper.studies.hardware import NAMES
from paper.studies.mixture import label, split
from paper.whatif import Reading, Readings
from paper.words.format import number, quantity
from paper.words.numbers import listed, no_evidence
from paper.words.spelling import in_sentence

Tables = Mapping[str, pd.DataFrame]

#: Where a severity lies on what was measured of its class.
PLACES = ("mild", "middle", "harsh")
#: What stands for a chip without a converter.
NO_CONVERTER = "no converter"


# ------------------------------------------------------------------------------------------------- hardware
def _diagnosed(row: pd.Series) -> list[Reading]:
    """The three diagnostics of a row of a summary (medians over seeds)."""
    lost = "no mean that can be told from zero"
    return [
        Reading("consistency: cosine with the clean gradient", float(row.cosine), scale=(-1.0, 1.0), why=lost),
        Reading("variance: share of signal", float(row.signal), scale=(0.0, 1.0)),
        Reading("sensitivity: live weights", float(row.live), scale=(0.0, 1.0)),
    ]


def of_row(row: pd.Series) -> Readings:
    """Accuracies, recovery and the three diagnostics of a row of a summary."""
    recovery, low, high = (100 * float(row[name]) for name in ("recovery", "recovery_low", "recovery_high"))
    return [
        Reading("accuracy, never trained for it", 100 * float(row.unaware), unit="%"),
        Reading("accuracy after training", 100 * float(row.accuracy), unit="%"),
        Reading("recovery", recovery, low, high, "%", why="no loss that training could win back"),
        *_diagnosed(row),
    ]


def of_severity(tables: Tables, severity: float, rule: str) -> Readings:
    """What a page on one perturbation has of a severity and rule."""
    summary = tables["summary"]
    here = summary[(summary.severity == severity) & (summary.rule == rule)]
    if not len(here):
        raise ParameterError(no_evidence("this severity was not trained by this rule"))
    return of_row(here.iloc[0])


def severity_of(tables: Tables, perturbation: str, place: str) -> float:
    """The severity of a class that is meant by "mild", "middle" or "harsh": every other one of its grid."""
    grid = HARDWARE[perturbation].grid[1::2]
    at = {"mild": 0, "harsh": len(grid) - 1, "middle": len(grid) // 2}[place]
    if place == "middle" and len(grid) < 3:
        two = listed(severity_label(value, HARDWARE[perturbation]) for value in grid)
        raise ParameterError(f"{title(perturbation)} has two severities here ({two} {HARDWARE[perturbation].unit}).")
    return float(grid[at])


def hardware_at(tables: Tables, perturbation: str, place: str, rule: str, converter: str) -> pd.Series:
    """The row of the summary of a class at a severity, under a rule, with a converter behind it or none."""
    severity, known = severity_of(tables, perturbation, place), tables["summary"]
    known = known[known.network == known.network.iloc[0]]
    if converter != NO_CONVERTER:
        if perturbation == "adc":
            raise ParameterError("This class is a converter itself: its severity is its bits.")
        known = tables["converted"]
        if not len(known) or perturbation not in set(known.perturbation):
            raise ParameterError(f"{title(perturbation)} was not trained with a converter behind it.")
        known = known[known.bits == float(converter.split()[0])]
    here = known[(known.perturbation == perturbation) & (known.severity == severity) & (known.rule == rule)]
    if not len(here):
        raise ParameterError(f"The evidence has no {NAMES[rule]} of {title(perturbation)} at this severity.")
    return here.iloc[0]


def of_hardware(tables: Tables, perturbation: str, severity: str, rule: str, bits: str) -> Readings:
    """The numbers of that row."""
    return of_row(hardware_at(tables, perturbation, severity, rule, bits))


def converters(tables: Tables) -> list[str]:
    """No converter, and those that the evidence has."""
    converted = tables["converted"]
    bits = sorted(converted.bits.unique(), reverse=True) if len(converted) else []
    return [NO_CONVERTER, *(f"{value:g} bits" for value in bits)]


def of_converter(tables: Tables) -> str:
    """What became of the question about a converter behind another class (Markdown)."""
    converted = tables["converted"]
    if not len(converted):
        return ""
    plain = tables["summary"]
    plain = plain[plain.network == plain.network.iloc[0]]
    keys = ["perturbation", "rule", "severity"]
    both = converted.merge(plain, on=keys, suffixes=("", "_plain"))
    told = []
    for rule in ("autograd", "straight_through"):
        own = both[(both.rule == rule) & both.recovery.notna() & both.recovery_plain.notna()]
        own = own[own.bits == own.bits.min()]
        if len(own) and own.damage.sum() > 0:
            back, plain_back = (
                100 * (own[f"accuracy{end}"] - own[f"unaware{end}"]).sum() / own[f"damage{end}"].sum()
                for end in ("", "_plain")
            )
            told.append(
                f"{NAMES[rule]} wins back {number(back)} % of what these chips lose with a converter of"
                f" {own.bits.iloc[0]:g} bits behind the class, {number(plain_back)} % without"
            )
    if not told:
        return ""
    gone = both[both.rule == "autograd"]
    dead = float((gone.live == 0).mean()) if len(gone) else math.nan
    return (
        f"Over all these classes and severities {'; '.join(told)}. In {number(100 * dead)} % of the"
        " settings with a converter no weight gets a vanilla gradient at all: a staircase has none, whatever stands in"
        " front of it."
    )


def attempted(table: pd.DataFrame) -> Readings:
    """The accuracies of a live attempt."""
    return [Reading(row.network, 100 * float(row.accuracy), unit="%") for row in table.itertuples()]


def _accuracies(runs: pd.DataFrame, rule: str, called: str) -> Readings:
    found = []
    for name, one, column in (
        ("clean, no hardware", "unaware", "clean"),
        ("unaware", "unaware", "accuracy"),
        (called, rule, "accuracy"),
    ):
        own = runs[runs.rule == one]
        found.append(Reading.over_seeds(name, 100 * own[column], unit="%"))
    return found


def attempt_known(page: Page, severity: float, rule: str, steps: int) -> Readings | str:
    """What the evidence has of an attempt on a page on one perturbation."""
    if page.evidence is None:
        return no_evidence("it covers other parameters than these")
    runs, own = page.tables["accuracy"], page.subject.start()["steps"]  # type: ignore[attr-defined]
    if steps != own:
        return no_evidence(f"its networks were trained for {own} steps")
    here = runs[runs.severity == severity]
    if rule not in set(here.rule):
        physics = page.subject.physics  # type: ignore[attr-defined]
        grid = listed(quantity(value, physics.unit) for value in runs.severity.unique())
        return no_evidence(f"it has {grid}")
    return _accuracies(here, rule, NAMES[rule])


def mixture_known(page: Page, parts: Sequence[str], rule: str, steps: int) -> Readings | str:
    """What the evidence has of an attempt on a mixture."""
    if page.evidence is None:
        return no_evidence("it covers other parameters than these")
    from paper.studies.composed import STEPS

    runs, own = page.tables["accuracy"], page.subject.start(most=STEPS)["steps"]  # type: ignore[attr-defined]
    if steps != own:
        return no_evidence(f"its networks were trained for {own} steps")
    classes = page.subject.classes  # type: ignore[attr-defined]
    here = runs[runs.parts == label(name for name in classes if name in parts)]
    if rule not in set(here.rule):
        return no_evidence("this mixture was not trained by this rule")
    return _accuracies(here, rule, NAMES.get(rule, "vanilla, on the staircase"))


def of_fates(page: Page) -> str:
    """What became of the question where each cloud leaves the diagonal (Markdown)."""
    summary = page.tables["summary"]
    physics = page.subject.physics  # type: ignore[attr-defined]
    told = []
    for rule, own in summary[summary.rule != "unaware"].groupby("rule", sort=False):
        gone = own[(own.cosine < 0.5) | own.cosine.isna()]
        where = f"from {quantity(gone.severity.iloc[0], physics.unit)} on" if len(gone) else "at none of them"
        told.append(f"under {NAMES[str(rule)]} {where}")
    own = summary.drop_duplicates("severity")
    half = own[own.unaware < 0.5 * own.clean]
    lost = f"from {quantity(half.severity.iloc[0], physics.unit)} on" if len(half) else "at none of these severities"
    return (
        f"A network that was never trained for it has lost half of its accuracy {lost}. The cosine of the gradient with"
        f" the clean one is below one half {'; '.join(told)}."
    )


def of_measures(summary: pd.DataFrame) -> str:
    """What became of the question for which class training is the worst of all measures (Markdown)."""
    own = summary[summary.network == summary.network.iloc[0]]
    means = own.groupby(["perturbation", "measure", "kind"], sort=False).accuracy.mean().reset_index()
    means = means.dropna(subset="accuracy")
    if not len(means):
        return ""
    worst = means.loc[means.groupby("perturbation", sort=False).accuracy.idxmin()]
    told = [
        f"{in_sentence(title(row.perturbation))} ({row.measure}, {100 * row.accuracy:.0f} %)"
        for row in worst.itertuples()
    ]
    trained = [in_sentence(title(row.perturbation)) for row in worst.itertuples() if row.kind == "training"]
    return (
        f"Training is the worst of the measures tried for {listed(trained)}. The worst of each class, in mean accuracy"
        f" over its severities: {listed(told)}."
    )


def _together(parts: str) -> str:
    """A composed chip by the words of its figures: "drift + stuck_at" -> "drift + stuck-at"."""
    return " + ".join(short(part) for part in split(parts))


def of_pairs(summary: pd.DataFrame, twos: Sequence[str]) -> str:
    """What became of the question which pair departs from the sum of its parts (Markdown)."""
    first = summary[(summary.rule == summary.rule.iloc[0]) & summary.parts.isin(list(twos))]
    first = first.dropna(subset=["damage", "summed", "by_noise"])
    if not len(first):
        return ""
    off = (100 * (first.damage - first.summed)).set_axis(first.parts)
    noise = (100 * (first.damage - first.by_noise)).set_axis(first.parts)
    most = off.abs().idxmax()
    return (
        f"The pair furthest from the sum of its parts is {_together(str(most))}: it costs"
        f" {number(abs(off[most]))} points {'more' if off[most] > 0 else 'less'}; noise added in the order of the"
        f" physics misses it by {number(abs(noise[most]))}. In the mean over pairs the two miss by"
        f" {number(off.abs().mean())} and {number(noise.abs().mean())} points."
    )


# ------------------------------------------------------------------------------------------------- wires
def of_wires(tables: Tables, kind: str, side: int, ohm: float, fresh: float) -> Readings:
    """What one array loses, and the arrays of the evidence in the mean; both in per cent of the current."""
    most = 100.0
    return [Reading("current lost, this array", fresh, unit="%", scale=(0.0, most)), *_lost(tables, kind, side, ohm)]


def _lost(tables: Tables, kind: str, side: int, ohm: float) -> list[Reading]:
    loss = tables["loss"]
    here = loss[(loss.kind == kind) & (loss.side == side) & (loss.ohm == ohm)]
    return [Reading.over_seeds(f"mean of {len(here)} such arrays", here.loss, unit="%")] if len(here) else []


def wires_known(page: Page, pattern: str, side: int, r_word: float, r_bit: float) -> Readings | str:
    """The loss of random arrays that the evidence has."""
    if page.evidence is None:
        return no_evidence("it covers other parameters than these")
    found = _lost(page.tables, pattern, side, r_word) if r_word == r_bit else []
    return [Reading(LOST, one.value, one.low, one.high, one.unit) for one in found] or no_evidence(
        "it has random arrays of a few sides and resistances, both wires alike"
    )


LOST = "current lost"


def of_corner(shares: np.ndarray) -> str:
    """Which corner of an array loses most, where only its bit lines have resistance (Markdown); ``shares`` [m, n]."""
    rows, columns = (size // 2 for size in shares.shape)
    corners = {
        f"{vertical}, {horizontal}": np.nanmean(shares[at, beside])
        for (vertical, at), (horizontal, beside) in itertools.product(
            (("far from the sense nodes", slice(0, rows)), ("near the sense nodes", slice(rows, None))),
            (("left", slice(0, columns)), ("right", slice(columns, None))),
        )
    }
    most = max(corners, key=lambda name: corners[name])
    least = min(corners, key=lambda name: corners[name])
    return (
        f"With resistance in the bit lines alone, the quarter that loses most is the one {most}"
        f" ({number(100 * corners[most])} % in the mean), the one that loses least is {least}"
        f" ({number(100 * corners[least])} %)."
    )


def of_sizes(tables: Tables) -> str:
    """What became of the question how the loss grows with the side and the resistance (Markdown)."""
    loss = tables["loss"]
    own = loss[loss.kind == "uniform"].groupby(["side", "ohm"]).loss.mean()
    sides, ohms = sorted(loss.side.unique()), sorted(loss.ohm.unique())
    if len(sides) < 2 or len(ohms) < 2:
        return ""
    small, large = sides[0], sides[-1]
    return (
        f"At {number(ohms[0])} Ω an array {large / small:g} times as long loses"
        f" {number(own[large, ohms[0]] / own[small, ohms[0]])} times as much, at {number(ohms[-1])} Ω only"
        f" {number(own[large, ohms[-1]] / own[small, ohms[-1]])} times; wires {number(ohms[-1] / ohms[0])} times as"
        f" resistive cost the smallest array {number(own[small, ohms[-1]] / own[small, ohms[0]])} times as much, the"
        f" largest {number(own[large, ohms[-1]] / own[large, ohms[0]])} times."
    )
