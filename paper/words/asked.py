"""What a what-if says of a setting in numbers, what of it the evidence has beside a live run, and what came of the
question before it. All numbers are of a page's tables.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtr

from lib.checks import ParameterError
from lib.hardware.devices import HARDWARE
from lib.prompts.learners import pairs
from paper.figures.hardware import severity_label, title
from paper.studies.base import Page
from paper.studies.escape import named
from paper.studies.hardware import NAMES
from paper.studies.mixture import label
from paper.whatif import Reading, Readings
from paper.words.format import number, quantity
from paper.words.numbers import listed

Tables = Mapping[str, pd.DataFrame]

#: Where a severity lies on what was measured of its class.
PLACES = ("mild", "middle", "harsh")
#: What stands for a chip without a converter.
NO_CONVERTER = "no converter"


def _none(what: str) -> str:
    return f"The evidence has nothing for this setting: {what}."


# ------------------------------------------------------------------------------------------------- the gap
def gap_at(tables: Tables, prompt_std: float, bias: float) -> pd.DataFrame:
    """The gap and its factors before training, of all learners and gates of the page, at one setting."""
    asked = tables["asked"]
    if not len(asked):
        raise ParameterError(_none("it covers other parameters than these"))
    return asked[(asked["prompt_std"] == prompt_std) & (asked["bias"] == bias)]


def of_gap(gaps: pd.DataFrame) -> Readings:
    """The gap over seeds."""
    per_seed = gaps.groupby("seed")["gap"].mean()
    return [Reading.over_seeds("gap before training", per_seed, unit="decades", scale=(0.0, 6.0))]


def gap_known(page: Page, learner: str, gate: str, task: str, prompt_std: float, bias: float) -> Readings | str:
    """The gap that the evidence has for a learner, gate and task, whose prompts and gate start as they come."""
    if page.evidence is None:
        return _none("it covers other parameters than these")
    usual = page.subject.parameters()["prompt_std"]
    if not math.isclose(prompt_std, usual, rel_tol=1e-6) or bias:
        return _none(f"single tasks were measured at a deviation of {number(usual)} and a bias of 0")
    survey = page.tables["survey"]
    here = survey[(survey["learner"] == learner) & (survey["gate"] == gate) & (survey["task"] == task)]
    return of_gap(here) if len(here) else _none("this learner, gate and task were not measured together")


def gap_allowed(learner: str, gate: str, **_: object) -> None:
    """Refuses a learner with a gate that it cannot have."""
    pairs([learner], [gate])


def of_opening(tables: Tables) -> str:
    """What became of the question about a gate that starts open (Markdown)."""
    asked = tables["asked"]
    if not len(asked):
        return ""
    usual = asked["prompt_std"].iloc[(asked["prompt_std"] - 0.02).abs().argmin()]
    means = asked[asked["prompt_std"] == usual].groupby("bias")["gap"].mean()
    if 0 not in means or len(means) < 2:
        return ""
    lengths = asked[asked["bias"] == 0].groupby("prompt_std")["gap"].mean()
    shut, plain, wide = means.iloc[0], means[0], means.iloc[-1]
    verb = "hurts" if wide > plain else "helps"
    return (
        f"It {verb}: with a bias of +{means.index[-1]:g} the gap is {number(wide)} decades where it is {number(plain)}"
        f" without one, and {number(shut)} with a bias of −{abs(means.index[0]):g}. From the shortest prompts to the"
        f" longest it goes from {number(lengths.iloc[0])} to {number(lengths.iloc[-1])}."
    )


# ------------------------------------------------------------------------------------------------- graded conflict
def graded_at(tables: Tables, strength: float, step: int, rate: float) -> pd.DataFrame:
    """What the gates of one setting came to, a row per seed; with the accuracy without a gate.

    Where the page's own figures show the setting, its numbers are theirs: a gate that is just leaving amplifies
    rounding, so that a second run of the same training may leave some steps earlier or later. Bins are of that run.
    """
    graded, fixed = tables["graded"], tables["graded_fixed"]
    if not len(graded):
        raise ParameterError(_none("it covers other parameters than these"))
    here = graded[(graded["strength"] == strength) & (graded["step"] == step) & (graded["rate"] == rate)]
    looks = tables["looks"]
    names = ["map sgd"] if rate == 1 else []
    names += [named(rate)] if strength == 1 else []
    same = (looks["strength"] == strength) & (looks["step"] == step)
    for name in names:
        own = looks[same & (looks["intervention"] == name)].set_index("seed")
        if len(own) and set(here["seed"]) <= set(own.index):
            columns = ["gap", "information", "accuracy_gated", "accuracy_mean", "accuracy_shuffled"]
            here = here.assign(**{column: here["seed"].map(own[column]) for column in columns})
            break
    plain = fixed[(fixed["strength"] == strength) & (fixed["step"] == step)].set_index("seed")["accuracy"]
    return here.assign(accuracy_fixed=here["seed"].map(plain))


#: The accuracies of a gated learner and what they are called.
ACCURACIES = {
    "accuracy_gated": "accuracy, gate as trained",
    "accuracy_mean": "gate held at its mean",
    "accuracy_shuffled": "gate shuffled",
    "accuracy_fixed": "no gate",
}


def of_graded(ends: pd.DataFrame) -> Readings:
    """Accuracies with the gate as trained, held, shuffled and left out, and the gap after the last step."""
    found = [Reading.over_seeds(name, ends[column], unit="%") for column, name in ACCURACIES.items()]
    return [*found, Reading.over_seeds("gap after the last step", ends["gap"], unit="decades", scale=(-1.0, 5.0))]


def graded_known(page: Page, strength: float, step: int, rate: float) -> Readings | str:
    """The same of the evidence, if it has this strength, number of steps and rate."""
    if page.evidence is None or not len(page.tables["graded"]):
        return _none("it covers other parameters than these")
    here = graded_at(page.tables, strength, step, rate)
    graded = page.tables["graded"]
    has = "; ".join(
        f"{words} {listed(f'{value:g}' for value in sorted(graded[column].unique()))}"
        for column, words in (("strength", "strengths"), ("step", "steps"), ("rate", "rates"))
    )
    return of_graded(here) if len(here) else _none(f"it has {has}")


def of_effect(tables: Tables) -> str:
    """What became of the question about conflict, steps and rate (Markdown)."""
    graded = tables["graded"]
    if not len(graded):
        return ""
    places = graded[["strength", "rate", "step"]].drop_duplicates().itertuples(index=False)
    worth = pd.concat([graded_at(tables, one.strength, one.step, one.rate) for one in places])
    worth = worth.assign(worth=worth["accuracy_gated"] - worth["accuracy_mean"])
    means = worth.groupby(["strength", "rate", "step"])["worth"].mean()
    full, none = means.index.get_level_values(0).max(), means.index.get_level_values(0).min()
    first, last = worth["step"].min(), worth["step"].max()
    slow, fast = worth["rate"].min(), worth["rate"].max()
    return (
        f"At strength {full:g} the gate is worth {number(means[full, slow, first])} points over its mean after {first}"
        f" steps and {number(means[full, slow, last])} after {last}; at {fast:g} times its rate"
        f" {number(means[full, fast, first])} and {number(means[full, fast, last])}. At strength {none:g} it is worth"
        f" {number(means[none, slow, last])} after {last} steps, and {number(means[none, fast, last])} at {fast:g}"
        " times its rate: what it depends on there is nothing that the task has."
    )


def of_forecast(law: pd.DataFrame, levers: pd.DataFrame, names: Mapping[str, str], steps: int = 100) -> str:
    """What became of the question about a decade (Markdown): gates that have left, by lever."""
    fitted, told = law.iloc[0], []
    for lever, words in names.items():
        if np.isfinite(fitted[lever]) and lever in set(levers["lever"]):
            late = fitted["intercept"] - fitted[lever]
            told.append(f"{words} {100 * ndtr((np.log10(steps) - late) / fitted['scatter']):.0f} %")
    if not told or not np.isfinite(fitted["intercept"]):
        return ""
    plain = 100 * ndtr((np.log10(steps) - fitted["intercept"]) / fitted["scatter"])
    return (
        f"By the law, {plain:.0f} % have left after {steps} steps with nothing changed, and with a decade taken off by"
        f" {'; '.join(told)}."
    )


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
        raise ParameterError(_none("this severity was not trained by this rule"))
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
        return _none("it covers other parameters than these")
    runs, own = page.tables["accuracy"], page.subject.start()["steps"]  # type: ignore[attr-defined]
    if steps != own:
        return _none(f"its networks were trained for {own} steps")
    here = runs[runs.severity == severity]
    if rule not in set(here.rule):
        physics = page.subject.physics  # type: ignore[attr-defined]
        grid = listed(quantity(value, physics.unit) for value in runs.severity.unique())
        return _none(f"it has {grid}")
    return _accuracies(here, rule, NAMES[rule])


def mixture_known(page: Page, parts: Sequence[str], rule: str, steps: int) -> Readings | str:
    """What the evidence has of an attempt on a mixture."""
    if page.evidence is None:
        return _none("it covers other parameters than these")
    from paper.studies.composed import STEPS

    runs, own = page.tables["accuracy"], page.subject.start(most=STEPS)["steps"]  # type: ignore[attr-defined]
    if steps != own:
        return _none(f"its networks were trained for {own} steps")
    classes = page.subject.classes  # type: ignore[attr-defined]
    here = runs[runs.parts == label(name for name in classes if name in parts)]
    if rule not in set(here.rule):
        return _none("this mixture was not trained by this rule")
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
    told = [f"{title(row.perturbation)} ({row.measure}, {100 * row.accuracy:.0f} %)" for row in worst.itertuples()]
    trained = [title(row.perturbation) for row in worst.itertuples() if row.kind == "training"]
    return (
        f"Training is the worst of the measures tried for {listed(trained)}. The worst of each class, in mean accuracy"
        f" over its severities: {listed(told)}."
    )


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
        f"The pair furthest from the sum of its parts is {most.replace('_', ' ')}: it costs"
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
        return _none("it covers other parameters than these")
    found = _lost(page.tables, pattern, side, r_word) if r_word == r_bit else []
    return [Reading(LOST, one.value, one.low, one.high, one.unit) for one in found] or _none(
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
