"""The sentences and tables of the page on other simulators."""

from __future__ import annotations

import pandas as pd

from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper import simulators as through
from paper.criteria.hardware import CHANCE, SIMULATORS_ALIKE, TRAINED_ALIKE
from paper.studies.base import shown_on
from paper.studies.peers import aihwkit, largest
from paper.words.format import duration, number, quantity
from paper.words.names import words


def readings_table(tables: Tables) -> pd.DataFrame:
    """Which reading of the formulas is whose: largest difference in standard errors."""
    table = tables["readings"].rename(columns={"here": "ours", "exponent": "exponent of", "noise": "noise of"})
    return table.set_index(["exponent of", "noise of"])


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
    wires = [f"{number(row.r_word)} / {number(row.r_bit)} Ω" for row in table.itertuples()]
    shown = table.assign(
        wires=wires,
        array=[f"{side} × {side + 3}" for side in table.side],
        **{"lost (%)": 100 * table.lost},
        fast=[number(error, digits=1) for error in table.fast],
        exact=[number(error, digits=1) for error in table.exact],
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


def ran() -> str:
    """Which simulators ran, in which versions, and how their training was checked (Markdown)."""
    table, origins = through.others()
    own = origins["aihwkit"]
    versions = own["versions"]
    solver = origins["crosssim"]["versions"]["cross-sim"]
    chips = int(table.chips.max())
    refused = origins["crosssim"].get("refused", [])
    also = f" Its solver found no solution in {len(refused)} cases, which are missing." if refused else ""
    return (
        f"aihwkit {versions['aihwkit']} (torch {versions['torch'].partition('+')[0]}) ran whole. CrossSim is on no "
        f"package index; of it ran the classes of its array, its converter and its phase-change device (from commits "
        f"{solver}), with a driver of ours around them.{also} Up to {chips} chips for each network. "
        f"Without noise, aihwkit's training ends at our weights to {number(own['without_noise'], digits=1)} of their "
        "norm: start, batches, rates and optimiser are the same."
    )


def _difference(table: pd.DataFrame, simulator: str, case: str) -> float:
    found = float(through.by_seed(table[(table.simulator == simulator) & (table.case == case)]).mean())
    return round(found, 1) + 0.0  # no negative zero


def aged(tables: Tables) -> str:
    """What whole phase-change chips come to (Markdown)."""
    table = tables["differences"]
    here = table[table.case.str.startswith(("pcm", "programmed"))]
    worst = here.groupby(["simulator", "case"]).apply(
        lambda own: float(through.by_seed(own).mean()), include_groups=False
    )
    at = worst.abs().idxmax()
    tiles = here[(here.simulator == "aihwkit") & (here.case == f"pcm global {through.AGES['day'][0]:g}")]
    plain = table[table.case == "ideal"].ours.mean()
    lost = [
        f"{plain - here[here.case == f'pcm none {seconds:g}'].ours.mean():.1f} points after {about}"
        for seconds, about in through.AGES.values()
    ]
    alike = "all within" if worst.abs().max() < SIMULATORS_ALIKE else "not all within"
    return (
        f"Of {len(worst)} comparisons on phase-change chips the largest mean difference is {worst[at]:+.2f} points "
        f"({through.SIMULATORS[at[0]]}, {_said(at[1])}): {alike} the {SIMULATORS_ALIKE:g} point that was set. "
        f"Hardware takes {' and '.join(lost)}, without compensation; a margin says something where it is much smaller "
        "than that. The "
        "standard deviation over chips, a day old and with one factor per layer, is "
        f"{tiles.spread.mean():.2f} points in aihwkit's tiles and {tiles.ours_spread.mean():.2f} here. Its read noise "
        "is drawn once for all pictures, ours for each."
    )


def _said(case: str) -> str:
    """A case in words."""
    if case == "programmed":
        return "programming noise alone"
    if case.startswith("wires"):
        ohm = float(case.split()[-1])
        return f"wires of {ohm:g} Ω" if ohm else "no wires"
    _, compensation, seconds = case.split()
    how = "one factor per layer" if compensation == "global" else "no compensation"
    return f"{duration(float(seconds))} after programming, {how}"


def taken_table(tables: Tables) -> pd.DataFrame:
    """What wires take from the outputs of every layer: ours and theirs, and how far apart."""
    table = tables["taken"]
    shown = table.assign(
        **{
            "wires": [quantity(ohm, "Ω") for ohm in table.ohm],
            "layer": table.layer + 1,
            "ours (%)": 100 * table.lost,
            "theirs (%)": 100 * table.lost_theirs,
            "apart (%)": 100 * table.apart,
            "bit lines alone (%)": 100 * table.lost_bit,
            "apart from these (%)": 100 * table.apart_bit,
        }
    )
    columns = ["ours (%)", "theirs (%)", "apart (%)", "bit lines alone (%)", "apart from these (%)"]
    return shown.set_index(["simulator", "layer", "wires"])[columns]


def wired(tables: Tables) -> str:
    """What converters behind wires come to in every simulator (Markdown)."""
    table, taken = tables["differences"], tables["taken"]
    parts = []
    for ohm in (0.0, *through.OHMS):
        case = f"wires {ohm:g}"
        here = table[table.case == case]
        ours = here.drop_duplicates(["kind", "seed"]).ours.mean()
        others = ", ".join(
            f"{number(_difference(table, name, case), signed=True)} in {through.SIMULATORS[name]}"
            for name in ("CrossSim", "aihwkit")
            if len(here[here.simulator == name])
        )
        parts.append(f"{_said(case)}: {ours:.1f} % here, {others}")
    formula = taken[(taken.simulator == "aihwkit") & (taken.ohm < max(through.OHMS))]
    ratio, bit = (formula.lost_theirs.to_numpy() / formula[one].to_numpy() for one in ("lost", "lost_bit"))
    return (
        f"Accuracy, and by how many points the others differ: {'; '.join(parts)}. Up to {formula.ohm.max():g} Ω "
        f"aihwkit's formula takes {ratio.min():.2f} to {ratio.max():.2f} times what the circuit takes, and "
        f"{bit.min():.2f} to {bit.max():.2f} times what bit lines alone would."
    )


def trained_table(tables: Tables) -> pd.DataFrame:
    """Mean accuracy (%) of networks that two libraries trained with the same noise."""
    table = tables["trained"]
    names = {"clean": "without hardware", **through.JUDGED}
    whose = {"here": "trained here", "aihwkit": "trained by aihwkit"}
    means = table.groupby(["by", "case"]).accuracy.mean().unstack("case")[list(names)]
    return means.rename(columns=names, index=whose).loc[list(whose.values())].rename_axis(columns=None)


def trained(tables: Tables) -> str:
    """How far apart the two trainings are, seed by seed (Markdown)."""
    table = tables["trained"]
    sides = table.pivot(index=["case", "seed"], columns="by", values="accuracy")
    apart = (sides["aihwkit"] - sides["here"]).groupby("case")
    each, means = apart.std(), apart.mean()
    return (
        f"Networks of one seed differ by {each.max():.2f} points (standard deviation) at most, for their noise is not "
        f"the same; their means by {means.abs().max():.2f}. The margin was {TRAINED_ALIKE:g} point."
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
    if _hold(findings, "simulators.day.", "simulators.decade.", "simulators.programmed."):
        said.append("The same networks come out alike on phase-change chips in every simulator that has them.")
    if _hold(findings, "simulators.trained."):
        said.append("Trained with the same noise by another library, they are as good.")
    return (
        f"**What follows.** {' '.join(said)} Whatever this book finds out about training is a finding about these "
        "models. Had the laws been put together in another way, it would have shown here, and nowhere else in the book."
    )


def _hold(findings: Findings, *starts: str) -> bool:
    """Do all claims hold whose names start so?"""
    own = [one for one in findings if one.id.startswith(starts)]
    return bool(own) and all(one.outcome == Outcome.HOLDS for one in own)


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
    ways = "; ".join(f"{words(str(rule))} {100 * row.accuracy:.0f} %" for rule, row in worst.iterrows())
    return (
        f"- **Faults.** With {100 * table.severity.max():g} % of all devices stuck, on chips that training has not "
        f"seen (clean: {100 * worst.clean.mean():.0f} %): {ways}."
    )
