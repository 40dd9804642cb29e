"""Part I twice: what was found in the drawn world beside what was found on photographs, and what of it is alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import pandas as pd

from lib import results
from lib.prompts.diagnosis import FACTORS
from lib.results import Cell
from lib.verdicts import Claim, Finding, Findings, Outcome, bootstrap, tail
from paper.comparison import weakest
from paper.criteria import photographs as criteria
from paper.prediction import area, drawn_again, held_out, joint, nested
from paper.studies import base, escape, gap_origin, roles
from paper.studies.base import Digest, Result, Study
from paper.studies.gating import per_seed
from paper.studies.parameters import Some
from paper.studies.predictors import SCORES, SELECTED, TOGETHER, TRAINING, TRIVIAL, WHEN
from paper.tools import profiles
from paper.words.spelling import spelt

PAGES = (
    *("learners", "gradient_imbalance", "gap_origin", "gate_degradation", "gate_value", "fair_trial"),
    *("escape", "predictors"),
)
"""Pages that are compared."""
SIDES = {"drawn": "", "photographs": "_photo"}
"""The worlds, and what is added to a page's name for its evidence there."""
OTHER = {"drawn": "photographs", "photographs": "drawn"}
COLUMNS = {
    "drawn": "drawn",
    "photographs": "photographs",
    "both": "on both",
    "to_photographs": "drawn to photographs",
    "to_drawn": "photographs to drawn",
    "same": "photographs against drawn",
}
"""What findings are about: a world, both of them, a way from one to the other, or their difference."""
CONTROL = ("coop", "length")
"""Learner and gate of the planted control: it has nothing but its gate to see the picture with."""
OPPONENTS = {"over_mean": "itself held at its mean", "over_blind": "its blind twin", "over_fixed": "no gate"}
TRANSFERRED = ("gap", "loss_mean", SELECTED, TOGETHER)
"""Predictors of whose transfer there is a claim."""

Sides: TypeAlias = Mapping[str, Mapping[str, Result]]
Tables: TypeAlias = Mapping[str, pd.DataFrame]


class Photographs(Digest):
    """The committed evidence of ``pages`` on both worlds: each claim side by side, and judged on both together.

    A world whose evidence of a page is not complete is left out of that page's comparison, and ``sources`` says so.
    Tables: ``sources`` (page, backbone, cells, missing, claims), ``claims`` (a row per claim that either world has:
    outcome and value on each, and :func:`together`), and with a column ``backbone`` each: ``gaps``, ``chain``,
    ``spread``, ``points``, ``verdicts``, ``planted``, ``escapes``, ``levers``, ``strength``; ``transfer`` (measurement,
    when, ``tested``: what was chosen on the other world, tried on this one).
    """

    pages: Annotated[tuple[str, ...], Some(PAGES, ordered=True)] = PAGES

    PARTS: ClassVar[tuple[str, ...]] = ("pages",)

    def studies(self) -> dict[str, Study]:
        """The studies that the evidence is of, by page: those that the profile of the evidence has."""
        return studied(self.pages)

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        """Both worlds' pages as their own studies judge them, and the comparison."""
        judged = self.whole(found)
        sides = {
            side: {page: judged[f"{page}{ending}"] for page in self.pages if f"{page}{ending}" in judged}
            for side, ending in SIDES.items()
        }
        tables = {"sources": self.sources(found, judged), **compared(sides)}
        return tables, findings(sides, tables)

    def sources(self, found: Mapping[Cell, results.Tables], judged: Mapping[str, Result]) -> pd.DataFrame:
        """For each page and world: how many parts its evidence has (none: it is not planned), how many of them are
        missing, and how many claims it gives.
        """
        studies, rows = self.studies(), []
        for page in self.pages:
            for side, ending in SIDES.items():
                name = f"{page}{ending}"
                own = studies[name].cells() if name in studies else []
                missing = sum(cell not in found for cell in own)
                claims = len(judged[name].findings) if name in judged else 0
                rows.append((page, side, len(own), missing, claims))
        return pd.DataFrame(rows, columns=["page", "backbone", "cells", "missing", "claims"])


def studied(pages: Sequence[str]) -> dict[str, Study]:
    """The studies that the evidence of these pages is of, by their names there, in each world that has any."""
    known = profiles.evidence()
    names = [f"{page}{ending}" for page in pages for ending in SIDES.values()]
    return {name: base.named(known[name].notebook)(**known[name].parameters) for name in names if name in known}


# --------------------------------------------------------------------------------------------- claim by claim
def together(drawn: Outcome | None, photographs: Outcome | None) -> str:
    """What two outcomes of one claim are: alike, differ, open (on one or on both), or judged on one world alone."""
    if drawn is None or photographs is None:
        return "one alone"
    opened = [one is Outcome.INCONCLUSIVE for one in (drawn, photographs)]
    if any(opened):
        return "open on both" if all(opened) else "open on one"
    return "alike" if drawn is photographs else "differ"


def claims(sides: Sides) -> pd.DataFrame:
    """A row for each claim of the pages that both worlds have: outcome, value and interval on each, and
    :func:`together`.
    """
    rows = []
    for page in (page for page in sides["drawn"] if page in sides["photographs"]):
        own = {side: {one.id: one for one in sides[side][page].findings} for side in SIDES}
        for name in dict.fromkeys([*own["drawn"], *own["photographs"]]):
            pair = {side: own[side].get(name) for side in SIDES}
            first = next(one for one in pair.values() if one is not None)
            row: dict[str, Any] = {"page": page, "id": name, "claim": first.claim, "criterion": first.criterion}
            for side, one in pair.items():
                row |= {side: "" if one is None else str(one.outcome), f"{side}_value": np.nan, f"{side}_unit": ""}
                if one is not None:
                    low, high = one.interval
                    row |= {f"{side}_value": one.value, f"{side}_low": low, f"{side}_high": high}
                    row[f"{side}_unit"] = one.unit
            outcomes = [None if one is None else one.outcome for one in pair.values()]
            rows.append(row | {"together": together(*outcomes)})
    ends = [f"{side}{end}" for side in SIDES for end in ("", "_value", "_unit", "_low", "_high")]
    return pd.DataFrame(rows, columns=["page", "id", "claim", "criterion", *ends, "together"])


def by_chance(claims: pd.DataFrame) -> float:
    """How many of the claims that both worlds decide would come out alike if outcomes were dealt at random, each world
    keeping its own share of claims that hold.
    """
    decided = claims[claims["together"].isin(["alike", "differ"])]
    shares = [(decided[side] == str(Outcome.HOLDS)).mean() for side in SIDES]
    return len(decided) * float(np.prod(shares) + np.prod([1 - share for share in shares])) if len(decided) else 0.0


def about(column: str, section: str, finding: Finding) -> Finding:
    """A finding of this page, with what it is about (of :data:`COLUMNS`) in its id and before its words."""
    return replace(
        finding, id=f"photographs.{column}.{section}.{finding.id}", claim=f"{COLUMNS[column]}: {finding.claim}"
    )


def findings(sides: Sides, tables: Tables) -> Findings:
    """What each section says of the drawn world, of photographs and of both, and of what is the same on them."""
    every = Findings()
    for section, names in criteria.SECTIONS.items():
        own: dict[str, dict[str, Finding]] = {side: {} for side in SIDES}
        for side, name in ((side, name) for side in SIDES for name in names):
            page = sides[side].get(name.partition(".")[0])
            if page is not None and (one := page.findings.get(name)) is not None:
                own[side][name] = one
        if section == "planted":
            for side in SIDES:
                own[side] |= healthy(tables["planted"], side)
        every += _beside(section, own, ("drawn", "photographs"))
    ways = {f"to_{side}": transferred(tables["transfer"], side) for side in SIDES}
    every += _beside("transfer", ways, ("to_photographs", "to_drawn"))
    return Findings([*every, *(about("same", "same", one) for one in same(sides))])


def _beside(section: str, own: Mapping[str, Mapping[str, Finding]], columns: Sequence[str]) -> list[Finding]:
    """Findings of two columns by the name of their claim, and those about both where both have one."""
    names = dict.fromkeys(name for column in columns for name in own[column])
    found = [about(column, section, one) for column in columns for one in own[column].values()]
    pairs = {name: [own[column][name] for column in columns if name in own[column]] for name in names}
    return found + [about("both", section, weakest(pair)) for pair in pairs.values() if len(pair) == len(columns)]


# -------------------------------------------------------------------------------------------------- tables
def compared(sides: Sides) -> dict[str, pd.DataFrame]:
    """The tables that figures draw; one without rows where no world has the evidence."""

    def of(page: str, name: str) -> dict[str, pd.DataFrame]:
        """A table of a page, for each world that has it."""
        return {side: pages[page].tables[name] for side, pages in sides.items() if page in pages}

    return {
        "claims": claims(sides),
        "gaps": gaps(of("gradient_imbalance", "survey")),
        "chain": chain(of("gap_origin", "shifts")),
        "spread": spread(of("gate_degradation", "ends"), of("gate_degradation", "long_ends")),
        "points": stacked(of("fair_trial", "points"), "learner", "task", "over_mean", "over_fixed", "over_blind"),
        "verdicts": stacked(of("fair_trial", "verdicts"), "task", "verdict"),
        "planted": planted(of("fair_trial", "points"), of("predictors", "worth")),
        "escapes": escapes(of("escape", "escapes"), of("escape", "law")),
        "levers": stacked(of("escape", "levers"), "lever", "slope", "low", "high"),
        "strength": strength(of("fair_trial", "zero_shot"), of("fair_trial", "accuracy")),
        "transfer": transfer(of("predictors", "cells")),
    }


def stacked(tables: Tables, *columns: str) -> pd.DataFrame:
    """The tables below each other with their ``backbone``; without rows but with ``columns`` where there is none."""
    parts = [table.assign(backbone=side) for side, table in tables.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["backbone", *columns])


def shared(tables: Tables, keys: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The rows whose ``keys`` every table has, so that means over them are about the same things."""
    known = [set(table[[*keys]].itertuples(index=False, name=None)) for table in tables.values()]
    common = set.intersection(*known) if known else set()
    return {
        side: table[[row in common for row in table[[*keys]].itertuples(index=False, name=None)]]
        for side, table in tables.items()
    }


def _with_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval over seeds: value, low, high."""
    own = np.asarray(values, dtype=float)
    low, high = bootstrap(own)
    return {"value": float(own.mean()) if len(own) else np.nan, "low": low, "high": high}


def _over_seeds(table: pd.DataFrame, keys: Sequence[str], column: str) -> list[dict[str, Any]]:
    """For each of ``keys`` the mean of ``column`` per seed, and its interval over them."""
    found = []
    for key, part in table.groupby([*keys], sort=False):
        found.append(dict(zip(keys, key, strict=True)) | _with_interval(per_seed(part, column)))
    return found


_ENDS = ("value", "low", "high")


def gaps(surveys: Tables) -> pd.DataFrame:
    """The gap before training in decades, per learner and task: the mean over gates that let a gradient through to the
    prompts and get one, the same gates for both worlds.
    """
    passing = {side: table[np.isfinite(table["gap"])] for side, table in surveys.items()}
    rows = [
        {"backbone": side, **row}
        for side, table in shared(passing, ("learner", "gate")).items()
        for row in _over_seeds(table, ("learner", "task"), "gap")
    ]
    return pd.DataFrame(rows, columns=["backbone", "learner", "task", *_ENDS])


def at_home(shifts: Tables) -> dict[str, pd.DataFrame]:
    """The rows in which nothing is intervened on, with trained weights, of learners, gates and tasks that are there in
    both worlds.
    """
    found = {}
    for side, table in shifts.items():
        home = (table["intervention"] == "prompt_std") & np.isclose(table["value"], gap_origin.HOME)
        found[side] = table[home & (table["weights"] == "trained")]
    return shared(found, ("learner", "gate", "task"))


def chain(shifts: Tables) -> pd.DataFrame:
    """Every factor of the gap in decades before training, and "gap", their sum: mean over learners, gates and tasks."""
    rows = [
        {"backbone": side, "factor": name, **_with_interval(per_seed(table, name))}
        for side, table in at_home(shifts).items()
        for name in (*FACTORS, "gap")
    ]
    return pd.DataFrame(rows, columns=["backbone", "factor", *_ENDS])


def spread(ends: Tables, long: Tables) -> pd.DataFrame:
    """Input information of gates: ``first`` before training, ``value`` after it, with interval over seeds. Rows of the
    "short" recipe by learner and gate over tasks, and of each "long" training by its task.
    """
    rows = []
    for recipe, tables, keys, over in (
        ("short", ends, ("learner", "gate"), ("learner", "gate", "task")),
        ("long", long, ("training", "task"), ("training", "task")),
    ):
        for side, table in shared(tables, over).items():
            before = table.groupby([*keys])["information_first"].mean()
            for row in _over_seeds(table, keys, "information_last"):
                name = tuple(row.pop(key) for key in keys)
                own = {"backbone": side, "recipe": recipe, "what": name[0], "which": name[1]}
                rows.append(own | {"first": before[name], **row})
    return pd.DataFrame(rows, columns=["backbone", "recipe", "what", "which", "first", *_ENDS])


def is_planted(task: str) -> bool:
    """Does the right prompt depend on the picture by construction?"""
    return task in roles.GRADED


def planted(points: Tables, worth: Tables) -> pd.DataFrame:
    """What the gate of the control is worth on each planted task, in points per seed: over itself at its mean, over its
    blind twin, over no gate.

    Recipe "control" is that of the fair trial; a task that has none of it is taken from the page on predictors, at full
    strength and the largest learning rate there (which was fixed before, whatever it does).
    """
    columns = ["backbone", "task", "recipe", "seed", *OPPONENTS]
    parts = []
    for side in SIDES:
        trial, known = _of_control(points.get(side)), set[str]()
        if len(trial):
            trial = trial[trial["recipe"] == "control"]
            known = set(trial["task"])
        more = _of_control(worth.get(side))
        if len(more):
            rates = more["label"].astype(float)
            more = more[(more["strength"] == 1) & (rates == rates.max()) & ~more["task"].isin(known)]
            more = more.assign(recipe="largest rate")
        parts += [part.assign(backbone=side)[columns] for part in (trial, more) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _of_control(table: pd.DataFrame | None) -> pd.DataFrame:
    """The rows of the control's learner and gate on planted tasks."""
    if table is None or not len(table):
        return pd.DataFrame()
    own = (table["learner"] == CONTROL[0]) & (table["gate"] == CONTROL[1]) & table["task"].map(is_planted)
    return table[own.astype(bool)]


def healthy(planted: pd.DataFrame, side: str) -> dict[str, Finding]:
    """Whether "healthy" can be said in a world: for each planted task a finding against each of :data:`OPPONENTS`, and
    one that is as weak as the weakest of them.
    """
    own, made = planted[planted["backbone"] == side], []
    for task, part in own.groupby("task", sort=False):
        for column, words in OPPONENTS.items():
            text = f"on the task {spelt(str(task))} the control's gate is ten points and more ahead of {words}"
            samples, family = per_seed(part, column), f"photographs.planted.{side}"
            made.append(Claim(f"{task}.{column}", text, samples, ">", criteria.HEALTHY, family, unit="points"))
    found = {one.id: one for one in Findings.of(made, holm=True)}
    for task in own["task"].unique():
        text = f"on the task {spelt(str(task))} the control's gate is healthy: ten points and more ahead of all three"
        least = weakest([found[f"{task}.{column}"] for column in OPPONENTS])
        found[f"{task}.healthy"] = replace(least, id=f"{task}.healthy", claim=text)
    return found


def escapes(left: Tables, laws: Tables) -> pd.DataFrame:
    """At which step the gate left at each multiple of its rate (nan: not within ``steps``), a row per seed."""
    columns = ["backbone", "rate", "seed", "escape", "steps"]
    parts = []
    for side, table in left.items():
        own = table[table["lever"].isin(["home", "rate"]) & (table["strength"] == 1)]
        rate = 10 ** own.groupby("intervention")["taken"].transform("mean")
        steps = int(laws[side]["steps"].iloc[0])
        parts.append(own.assign(backbone=side, rate=rate.round(2), steps=steps)[columns])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def strength(zero: Tables, accuracy: Tables) -> pd.DataFrame:
    """Test accuracy in per cent of the hand-written sentence and of tuned prompts without a gate, by task: ``learner``
    is "zero_shot" or the learner that was tuned.
    """
    rows = []
    for side, table in zero.items():
        rows += [{"backbone": side, "learner": "zero_shot", **row} for row in _over_seeds(table, ("task",), "accuracy")]
        tuned = accuracy[side]
        tuned = tuned[(tuned["recipe"] == "tuned") & (tuned["gate"] == "none")]
        rows += [{"backbone": side, **row} for row in _over_seeds(tuned, ("learner", "task"), "accuracy")]
    return pd.DataFrame(rows, columns=["backbone", "learner", "task", *_ENDS])


# ------------------------------------------------------------------------------------------- from one to the other
def directed(score: np.ndarray, label: np.ndarray, group: np.ndarray, within: np.ndarray) -> np.ndarray:
    """The score of every group with the sign that gives the larger area on all other groups (as it is where these
    cannot tell).
    """
    found = score.copy()
    for name in np.unique(group):
        inside = group == name
        if area(score[~inside], label[~inside], within[~inside]) < 0.5:
            found[inside] = -score[inside]
    return found


def transfer(cells: Tables, resamples: int = 2000) -> pd.DataFrame:
    """Everything that is to be chosen of a predictor, chosen on one world and tried on the other (``tested``).

    ``area``: of its score, with the sign that is better on the other world (``sign`` -1 where that turns it); for
    :data:`SELECTED` the measurement (``chosen``) that does best there on tasks left out, for :data:`TOGETHER` a
    regression that was fitted there. ``yes``: balanced accuracy of yes and no by the threshold that is best there.
    ``own``: the area with the direction that was fixed beforehand, for which nothing was chosen. ``over_loss``: how
    much larger its area is than that of the loss before the first step. Each with its 95 % interval when whole
    trainings are drawn again; positives meet negatives of their own recipe.
    """
    names = ["area", "yes", "over_loss"]
    columns = ["tested", "measurement", "when", "sign", "chosen", "own"]
    columns += [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    if set(cells) != set(SIDES):
        return pd.DataFrame(columns=columns)
    both = stacked(cells)
    rows: list[dict[str, Any]] = []
    for when in WHEN:
        part = both[both["when"] == when].reset_index(drop=True)
        rows += [{"when": when, **row} for row in _transfer(part, resamples)]
    return pd.DataFrame(rows, columns=columns)


def _transfer(part: pd.DataFrame, resamples: int) -> list[dict[str, Any]]:
    gains, within, group = part["gains"].to_numpy(dtype=bool), part["label"].to_numpy(), part["backbone"].to_numpy()
    units = part.groupby(list(TRAINING), sort=False).ngroup().to_numpy()
    plain = {name: score(part).to_numpy(dtype=float) for name, (_, score) in (SCORES | TRIVIAL).items()}
    scores = {name: directed(score, gains, group, within) for name, score in plain.items()}
    said: dict[str, np.ndarray] = {name: held_out(score, gains, group, within) for name, score in plain.items()}
    measured = {name: plain[name] for name in SCORES}
    chance = joint(np.nan_to_num(np.stack(list(measured.values()), axis=1)), gains, group, within)
    picked = nested(measured, gains, group, part["task"].to_numpy(), within)
    scores |= {TOGETHER: chance, SELECTED: picked.rank}
    said |= {TOGETHER: chance > 0.5, SELECTED: picked.said}
    rows = []
    for tested in SIDES:
        mine = group == tested
        where: dict[str, Any] = {"label": gains[mine], "unit": units[mine], "within": within[mine]}
        for name, score in scores.items():
            row: dict[str, Any] = {"tested": tested, "measurement": name, "sign": 1, "chosen": "", "own": np.nan}
            if name in plain:
                row["sign"] = 1 if np.array_equal(score[mine], plain[name][mine], equal_nan=True) else -1
                row["own"] = area(plain[name][mine], gains[mine], within[mine])
            if name == SELECTED:
                row["chosen"] = picked.choice[tested]
            for column, values, rival in (
                ("area", score, None),
                ("yes", said[name].astype(float), None),
                ("over_loss", score, scores["loss_start"]),
            ):
                less = None if rival is None else rival[mine]
                value, (low, high) = drawn_again(values[mine], **where, rival=less, resamples=resamples)
                row |= {column: value, f"{column}_low": low, f"{column}_high": high}
            rows.append(row)
    return rows


def transferred(transfer: pd.DataFrame, tested: str) -> dict[str, Finding]:
    """Claims on what was chosen on the other world: does it tell here, and better than what costs nothing?"""
    words = {"before": "before the first step", "early": "after an eighth of the steps"}
    names = {name: f"the {label}" for name, (label, _) in SCORES.items()}
    names |= {TOGETHER: "a regression on all measurements", SELECTED: "the measurement that does best there"}
    table, made = transfer[transfer["tested"] == tested].set_index(["when", "measurement"]), []
    for when, what in ((when, what) for when in words for what in TRANSFERRED if len(table)):
        asked: list[tuple[str, str, Any, str, str]] = [
            (f"{when}.{what}", "area", criteria.TELLS, "tells which gates will gain", "area under the ROC curve")
        ]
        if what == SELECTED:
            better = "tells which gates will gain better than the initial training loss"
            asked.append(
                (f"{when}.{what}.over_loss", "over_loss", 0, better, "difference of areas under the ROC curve")
            )
        for name, column, threshold, does, called in asked:
            value, low, high = (float(table.loc[(when, what), f"{column}{end}"]) for end in ("", "_low", "_high"))
            text = f"{words[when]}, {names[what]} as it was chosen on the other backbone {does}"
            family = f"photographs.to_{tested}.{when}"
            measured = (value, (low, high))
            made.append(Claim(name, text, (), ">", threshold, family, name=called, measured=measured))
    return {one.id: one for one in Findings.of(made, holm=True)}


# ---------------------------------------------------------------------------------------------- the same number
def apart(first: Sequence[float], second: Sequence[float], seed: int = 0) -> tuple[float, tuple[float, float]]:
    """By how much the mean of the second is larger, with its 95 % interval when both are drawn again, each by itself:
    a seed of the one has nothing to do with the same seed of the other. No interval for fewer than two of either.
    """
    one, two = (np.asarray(values, dtype=float) for values in (first, second))
    if not (one.size and two.size):
        return np.nan, (np.nan, np.nan)
    value = float(two.mean() - one.mean())
    if min(one.size, two.size) < 2 or not np.isfinite([*one, *two]).all():
        return value, (np.nan, np.nan)
    source = np.random.default_rng(seed)
    drawn = [values[source.integers(values.size, size=(4000, values.size))].mean(1) for values in (one, two)]
    end = tail(min(one.size, two.size), 0.95)
    low, high = np.quantile(drawn[1] - drawn[0], [end, 1 - end])
    return value, (float(low), float(high))


#: What the factors of the gap are called in a sentence.
FACTOR_WORDS = {
    "coherence": "how pictures add up for the prompts",
    "opening": "what the gate lets through",
    "prompt_norm": "one over the length of the prompts",
    "alignment": "one over the cosine of gradient and prompt",
    "slope": "one over the slope of the sigmoid",
    "network": "one over the size of the MLP's Jacobian",
    "gate_coherence": "how pictures add up for the gate",
}


def same(sides: Sides) -> Findings:
    """Is it the same number? The gap, each factor of it, and the slopes of the law of escape, photographs less drawn:
    claims of equivalence, for what both worlds have.
    """
    pages = {page: {side: own[page] for side, own in sides.items() if page in own} for page in PAGES}
    made: list[Claim] = []

    def ask(name: str, text: str, measured: tuple[float, tuple[float, float]], margin: float, unit: str) -> None:
        more: dict[str, Any] = {"name": "difference", "unit": unit, "measured": measured}
        made.append(Claim(name, text, (), "within", margin, "photographs.same", **more))

    if len(both := pages["gradient_imbalance"]) == len(SIDES):
        first = {side: one.tables["gaps"].query("step == 0") for side, one in both.items()}
        own = [per_seed(table, "gap") for table in shared(first, ("learner", "gate", "task")).values()]
        text = "the gap before training is the same to a quarter of a decade"
        ask("gap", text, apart(own[0], own[1]), criteria.SAME_DECADES, "decades")
    if len(both := pages["gap_origin"]) == len(SIDES):
        home = at_home({side: one.tables["shifts"] for side, one in both.items()})
        for factor in FACTORS:
            text = f"{FACTOR_WORDS[factor]} is the same to a quarter of a decade"
            own = [per_seed(table, factor) for table in home.values()]
            ask(f"chain.{factor}", text, apart(own[0], own[1]), criteria.SAME_DECADES, "decades")
    if len(both := pages["escape"]) == len(SIDES):
        laws = {side: one.tables["law"] for side, one in both.items()}
        seeds = min(one.tables["escapes"]["seed"].nunique() for one in both.values())
        for lever, words in escape.LEVERS.items():
            less = laws["photographs"][lever] - laws["drawn"][lever]
            if np.isnan(less.iloc[0]):
                continue
            low, high = escape.spread(less[1:].dropna(), seeds)
            text = f"a decade taken off by {words} saves as many steps, to a quarter of a decade"
            measured = (float(less.iloc[0]), (float(low), float(high)))
            ask(f"escape.{lever}", text, measured, criteria.SAME_SLOPE, "decades of steps per decade")
    return Findings.of(made, holm=True)
