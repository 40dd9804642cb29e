"""One picture for each part of the book: few bars, large words, so that they also read on a phone. They draw tables."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lib.prompts.learners import LEARNERS
from lib.results import Tables
from paper import trial
from paper.figures.style import COLOURS, caption, figure, interval, nothing, whiskers
from paper.studies import roles
from paper.words.format import several
from paper.words.numbers import Shown, listed
from paper.words.spelling import spelt

#: Inches of a summary and points of its words: they can be read on a phone, and in half of a page.
WIDTH, SIZE = 5.0, 12

_BARS = {
    "over_mean": ("lost when the gate is held still", COLOURS["orange"]),
    "over_fixed": ("gained over the learner without a gate", COLOURS["blue"]),
}


def gates(tables: Tables) -> Figure:
    """What trained gates lose when they are held still, beside what they gain: on ordinary tasks and where the right
    prompt depends on the picture. ``tables`` are the fair trial's.
    """
    points, many = tables["points"], tables["many"]
    ordinary = many[~many["task"].isin(roles.GRADED)]
    if not len(ordinary):
        ordinary = points[~points["task"].isin(roles.GRADED) & (points["recipe"] == "tuned")]
    sees = points["learner"].map(lambda name: LEARNERS[name].sees).astype(bool)
    tuned = points[points["task"].isin(roles.GRADED) & (points["recipe"] == "tuned")]
    planted, seeing = (tuned[sees.reindex(tuned.index) == kind] for kind in (False, True))
    groups = {"ordinary tasks": ordinary, "a task built to need a gate": planted}
    groups = {name: part for name, part in groups.items() if len(part)}
    if not groups:
        return nothing("None of these gates was trained.")
    drawn, axis = figure(WIDTH, 1.2 + 1.35 * len(groups))
    height, said = 0.36, []
    for place, (name, part) in enumerate(groups.items()):
        told = []
        for shift, (column, (_, colour)) in zip((-0.19, 0.19), _BARS.items(), strict=True):
            value, low, high = interval(part.groupby("seed")[column].mean())
            end = place + shift
            axis.barh(end, value, height=height, color=colour, xerr=whiskers(value, low, high), ecolor="#222222")
            text = f"{value:.0f}" if abs(value) >= 9.5 else f"{value:.1f}"
            text = {"-0.0": "0.0"}.get(text, text).replace("-", "−")
            told.append(text)
            axis.text(max(high, 0) + 1, end, text, va="center", fontsize=SIZE, fontweight="bold")
        lost, gained = told
        said.append(
            f"On {name} ({averaged(part)}) {lost} points are lost when the gate is held still and {_having(gained)}."
        )
    top = max(0.0, *(bar.get_x() + bar.get_width() for bar in axis.patches))
    axis.set_xlim(min(-4.0, axis.get_xlim()[0]), 1.35 * top)
    axis.axvline(0, color="#444444", lw=1)
    axis.set_yticks([])
    for place, name in enumerate(groups):
        axis.text(0, place - 0.46, f" On {name}", va="bottom", ha="left", fontsize=SIZE, color="#222222")
    axis.set_ylim(len(groups) - 0.45, -0.75)
    axis.set_xlabel("points of accuracy", fontsize=SIZE)
    axis.tick_params(labelsize=SIZE)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="y", visible=False)
    _legend(drawn, list(_BARS.values()))
    if len(seeing):
        mean = interval(seeing.groupby("seed")["over_fixed"].mean())[0]
        there = _having(f"{Shown(mean):.1f}")
        said.append(
            f"Not drawn: learners whose vision prompts see the picture too ({averaged(seeing)}); there {there}."
        )
    caption(drawn, " ".join(said))
    return drawn


def averaged(part: pd.DataFrame) -> str:
    """What a mean is over: "CoOp, length gate; 4 tasks, 64 seeds"."""
    who = listed(
        dict.fromkeys(
            f"{spelt(learner)}, {spelt(gate)} gate" for learner, gate in part.groupby(["learner", "gate"]).groups
        )
    )
    tasks, seeds = part["task"].nunique(), part["seed"].nunique()
    return f"{who}; {several(tasks, 'task')}, {several(seeds, 'seed')}"


def _having(gained: str) -> str:
    """What having the gate is worth, as the bar says it: a negative gain is a loss."""
    return f"{gained.lstrip('−')} are {'lost' if gained.startswith('−') else 'gained'} by having it"


#: Where each verdict stands in the picture; a slight case is in none.
SIDES = {
    "makes up for it": (("compensated",), COLOURS["blue"], "white"),
    "falls short": (("gradient fails", "needs the chip", "not converged", "no gradient"), COLOURS["orange"], "black"),
    "nothing left to win": (("needs no gradient", "nothing to win"), "#D0D0D0", "black"),
    "undecided": (("inconclusive",), "#F2F2F2", "black"),
}
_RULES = {
    "autograd": "Training, gradient through the hardware",
    "noise_injection": "Training, gradient of the plain network",
}


def hardware(tables: Tables) -> Figure:
    """Of how many clear cases of damage training makes up beyond what is free: a bar for each backward rule. ``tables``
    are the trial's.
    """
    cases = tables["cases"]
    clear = cases[(cases["verdict"] != "slight") & cases["arm"].isin(trial.RULES)]
    rules = [rule for rule in _RULES if rule in set(clear["arm"])]
    if not rules:
        return nothing("No case of clear damage was trained.")
    drawn, axis = figure(WIDTH, 1.4 + 0.85 * len(rules))
    said = []
    for place, rule in enumerate(rules):
        counts = clear[clear["arm"] == rule]["verdict"].value_counts()
        begin, told = 0, []
        for side, (names, colour, ink) in SIDES.items():
            many = int(counts.reindex(names).fillna(0).sum())
            axis.barh(place, many, left=begin, height=0.5, color=colour, edgecolor="#444444", lw=0.6)
            if many > 4:
                text = {"ha": "center", "va": "center", "fontsize": SIZE, "fontweight": "bold"}
                axis.text(begin + many / 2, place, str(many), color=ink, **text)
            begin += many
            told.append(f"{side} in {many}")
        said.append(f"{_RULES[rule]}: {', '.join(told)}")
        axis.text(0, place - 0.29, _RULES[rule], ha="left", va="bottom", fontsize=SIZE, color="#222222")
    axis.set_ylim(len(rules) - 0.6, -0.65)
    axis.set_yticks([])
    axis.set_xlabel("clear cases of damage", fontsize=SIZE)
    axis.tick_params(labelsize=SIZE)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="y", visible=False)
    _legend(drawn, [(name, colour) for name, (_, colour, _) in SIDES.items()], columns=2)
    caption(drawn, f"Clear cases of damage by what training does. {'. '.join(said)}.")
    return drawn


def _legend(drawn: Figure, entries: list[tuple[str, str]], columns: int = 1) -> None:
    handles = [Patch(facecolor=colour, edgecolor="#444444", lw=0.6, label=name) for name, colour in entries]
    drawn.legend(
        handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=SIZE, handlelength=1.1
    )
