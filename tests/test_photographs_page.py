"""The same in photographs: agreement and disagreement are told, signs that travel do, what is missing is said."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

from lib.checks import ParameterError
from lib.prompts.diagnosis import FACTORS
from lib.results import Cell, measured
from lib.verdicts import Claim, Finding, Findings, Outcome
from paper.comparison import weakest
from paper.criteria import photographs as criteria
from paper.criteria import prompts
from paper.evidence import Evidence
from paper.figures import photographs as figures
from paper.figures import style
from paper.studies import base, escape, photographs
from paper.studies.base import Page, Result, Study
from paper.studies.photographs import PAGES, SIDES, Photographs, apart, by_chance, together, transfer
from paper.studies.predictors import LABELS, SCORES, SELECTED, TOGETHER, WHEN
from paper.tools import profiles
from paper.words import photographs as words

HOLDS, FAILS, OPEN = Outcome.HOLDS, Outcome.DOES_NOT_HOLD, Outcome.INCONCLUSIVE
SECTIONS = [*criteria.SECTIONS, "transfer"]


# ------------------------------------------------------------------------------------------- claim by claim
def measure(config, site):
    return {"rows": pd.DataFrame({"worth": config["worth"]})}


class Paged(Study):
    """A page with three claims about numbers of its own: the same sentences in both worlds."""

    shift: float = 0.0

    def cells(self):
        return [Cell("paged", {"worth": [self.shift + one for one in (5.9, 6.0, 6.1)]}, measure)]

    def judge(self, found):
        (tables,) = found.values()
        worth = tables["rows"]["worth"].tolist()
        texts = {"positive": 0.0, "large": 4.0, "huge": 9.0}
        return tables, Findings.of(
            Claim(f"learners.{name}", name, worth, ">", at, "learners") for name, at in texts.items()
        )


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book whose only pages are "learners" in both worlds; gives a function that stores the evidence of a world."""
    known = {
        "learners": profiles.Page("learners", "learners"),
        "learners_photo": profiles.Page("learners_photo", "learners", parameters={"shift": -3.0}),
    }
    monkeypatch.setattr(profiles, "evidence", lambda: known)
    monkeypatch.setattr(base, "EVIDENCE", tmp_path)
    monkeypatch.setattr(base, "named", lambda notebook: Paged)

    def store(name):
        cells = Paged(**known[name].parameters).cells()
        Evidence(tmp_path).home(cells[0], name).put(measured(cells, "cpu"))

    store.known = known
    return store


def test_planted_agreement_and_disagreement_are_told(book):
    book("learners")
    book("learners_photo")
    page = Photographs().page()
    assert page.tables["claims"].set_index("id")["together"].to_dict() == {
        "learners.positive": "alike",
        "learners.large": "differ",
        "learners.huge": "alike",
    }
    said = f"{words.answer(page)} {words.headline(page)}"
    assert "3 were judged in both worlds. **2 come out alike** (1 hold in both, 1 in neither), **1 differ**" in said
    assert "They differ on *Learners and gates* (1)." in said and "nothing is claimed of ViT-B/16" in said
    (row,) = words.rows(page, "differ").to_dict("records")
    assert row["claim"] == "large" and row["criterion"] == "mean > 4"
    assert row["drawn"].startswith("holds: 6 [") and row["photographs"].startswith("does not hold: 3 [")
    table = words.by_page(page).set_index("page")
    assert table.loc["all", ["alike", "differ", "open on one", "open on both", "one alone"]].tolist() == [2, 1, 0, 0, 0]
    assert words.missing(page).startswith(
        "Evidence is missing in the drawn world for *Gradient imbalance*, *Where the gap"
    )


def test_missing_evidence_says_so_and_the_rest_is_judged(book):
    book("learners")
    page = Photographs(pages="learners").page()
    assert words.missing(page).startswith("**Nothing has been measured on photographs yet**")
    assert words.answer(page).startswith("**No claim has been judged in both worlds yet.**")
    sources = page.tables["sources"].set_index("backbone")
    assert sources.loc["drawn", ["cells", "missing", "claims"]].tolist() == [1, 0, 3]
    assert sources.loc["photographs", ["cells", "missing", "claims"]].tolist() == [1, 1, 0]
    book("learners_photo")
    both = words.missing(Photographs(pages="learners").page())
    assert both == "The evidence of every page is there in both worlds."


def test_a_page_that_is_half_there_names_what_is_missing(book):
    book("learners")
    book("learners_photo")
    book.known["escape_photo"] = profiles.Page("escape_photo", "escape", parameters={"shift": 1.0})
    said = words.missing(Photographs(pages="learners,escape").page())
    assert "missing in the drawn world for *Nothing to gain, or too slow?*; the rest is judged." in said
    assert "missing on photographs for *Nothing to gain, or too slow?* (1 of 1 parts); the rest is judged." in said


def _everything(page):
    """Every figure and every sentence of the page; the figures by name."""
    tables = page.tables
    planted = {task: photographs.is_planted(task) for task in tables["points"]["task"].unique()}
    said = [
        words.missing(page),
        words.answer(page),
        words.headline(page),
        words.equal(page),
        words.health(page),
        words.carried(page),
    ]
    said += [words.strong(page), *(words.told(page, section) for section in SECTIONS)]
    for shown in (words.alike(page), *(words.beside(page, section) for section in SECTIONS)):
        assert shown._repr_html_().startswith("<table")
    for table in (words.by_page(page), words.verdicts(page), words.rows(page, "differ")):
        assert isinstance(table, pd.DataFrame)
    assert all(said)
    return {
        "outcomes": figures.outcomes(tables["claims"]),
        "strength": figures.strength(tables["strength"]),
        "gaps": figures.gaps(tables["gaps"], 2.6),
        "waterfalls": figures.waterfalls(tables["chain"], 2.6),
        "spread": figures.spread(tables["spread"]),
        "plane": figures.plane(tables["points"], planted),
        "planted": figures.planted(tables["planted"], words.CUES, criteria.HEALTHY),
        "escapes": figures.escapes(tables["escapes"], tables["levers"], escape.LEVERS),
        "transfer": figures.transfer(tables["transfer"], LABELS, criteria.TELLS),
    }


def test_a_page_with_nothing_at_all_still_builds(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "evidence", dict)
    monkeypatch.setattr(base, "EVIDENCE", tmp_path)
    page = Photographs().page()
    assert list(page.findings) == [] and page.notice == ""
    assert words.missing(page).startswith("**Nothing has been measured in either world yet**")
    for drawn in _everything(page).values():
        assert style.png(drawn)[:4] == b"\x89PNG"
        assert "measured" in drawn.get_label() or "nothing" in drawn.get_label() or "no evidence" in drawn.get_label()


def test_only_pages_that_are_known_are_taken():
    with pytest.raises(ParameterError, match="^pages must be .*learners.*predictors.*'world' was given"):
        Photographs(pages="world")
    assert Photographs(pages="escape,learners").pages == ("learners", "escape")


def test_what_two_outcomes_come_to():
    expected = {
        (HOLDS, HOLDS): "alike",
        (FAILS, FAILS): "alike",
        (HOLDS, FAILS): "differ",
        (FAILS, HOLDS): "differ",
        (HOLDS, OPEN): "open on one",
        (OPEN, FAILS): "open on one",
        (OPEN, OPEN): "open on both",
        (None, HOLDS): "one alone",
        (OPEN, None): "one alone",
    }
    assert {pair: together(*pair) for pair in expected} == expected


def test_agreement_by_chance_is_that_of_shuffled_outcomes():
    rng = np.random.default_rng(3)
    drawn = np.array(["holds"] * 14 + ["does not hold"] * 6)
    other = np.array(["holds"] * 9 + ["does not hold"] * 11)
    table = pd.DataFrame({"drawn": drawn, "photographs": other})
    table["together"] = np.where(table["drawn"] == table["photographs"], "alike", "differ")
    opened = pd.DataFrame({"drawn": ["inconclusive"], "photographs": ["holds"], "together": ["open on one"]})
    shuffled = [(drawn == rng.permutation(other)).sum() for _ in range(4000)]
    assert by_chance(pd.concat([table, opened])) == pytest.approx(np.mean(shuffled), abs=0.15)
    assert by_chance(table.iloc[:0]) == 0.0


def _found(outcome, adjusted=0.01):
    return Finding("it is so", "mean > 0", 1.0, (0.5, 1.5), outcome, adjusted=adjusted)


def test_of_several_a_claim_is_as_weak_as_the_weakest():
    order = {HOLDS: 2, OPEN: 1, FAILS: 0}
    for pair in product(order, repeat=2):
        assert weakest([_found(one) for one in pair]).outcome is min(pair, key=order.__getitem__)
    assert weakest([_found(HOLDS, 0.001), _found(HOLDS, 0.04)]).adjusted == 0.04
    assert weakest([_found(FAILS, 0.001), _found(FAILS, 0.04)]).adjusted == 0.001
    assert math.isnan(weakest([_found(OPEN, 0.3), _found(OPEN, math.nan)]).adjusted)


# ---------------------------------------------------------------------------------- signs that travel
def cells(side, seed=0):
    """Trainings on four tasks, two of which pay, by two learners and two recipes; every measurement is noise."""
    rng = np.random.default_rng([seed, len(side)])
    keys = list(product(("a", "b", "c", "d"), ("coop", "maple"), ("0.001", "0.01"), range(6), WHEN))
    table = pd.DataFrame(keys, columns=["task", "learner", "label", "seed", "when"]).assign(gate="length", strength=1.0)
    table["gains"] = table["task"].isin(["a", "b"]) ^ (table["seed"] == 5)
    table["depends"] = table["gains"]
    for name in ("gap", "gap_rms", "spread", "information", "snr", "loss_mean", "loss_shuffled", "loss_start"):
        table[name] = rng.normal(size=len(table))
    return table


def area_of(table, measurement, tested):
    own = table[(table["measurement"] == measurement) & (table["tested"] == tested) & (table["when"] == "early")]
    return own.iloc[0]


@pytest.mark.parametrize("tested", list(SIDES))
def test_a_perfect_sign_travels_and_one_that_turns_round_does_not(tested):
    both = {side: cells(side) for side in SIDES}
    for side, table in both.items():
        # A small gap is good: perfect in both worlds. A large deviation is good in one and bad in the other.
        table["gap"] = 1.0 - table["gains"]
        table["spread"] = table["gains"].astype(float) if side == "drawn" else 1.0 - table["gains"]
    table = transfer(both, 200)
    perfect, turned = (area_of(table, name, tested) for name in ("gap", "spread"))
    assert perfect[["area", "area_low", "area_high", "yes", "own", "sign"]].tolist() == [1, 1, 1, 1, 1, 1]
    assert turned[["area", "area_low", "area_high"]].tolist() == [0, 0, 0]
    assert turned["own"] == (1.0 if tested == "drawn" else 0.0)
    picked = area_of(table, SELECTED, tested)
    assert picked["area"] in (0.0, 1.0) and picked["chosen"] in ("gap", "spread")


@pytest.mark.parametrize("tested", list(SIDES))
def test_a_sign_that_is_turned_in_both_worlds_is_turned_back(tested):
    both = {side: cells(side) for side in SIDES}
    for table in both.values():
        table["snr"] = -table["gains"].astype(float)
    found = area_of(transfer(both, 200), "snr", tested)
    assert found[["area", "sign", "own"]].tolist() == [1, -1, 0]


def test_noise_is_a_coin_and_its_interval_lies_over_one_half():
    low, high, areas = 0, 0, []
    for seed in range(3):
        table = transfer({side: cells(side, seed) for side in SIDES}, 200)
        own = table[table["measurement"].isin([*SCORES, TOGETHER, SELECTED])]
        low, high = low + (own["area_low"] > 0.5).sum(), high + (own["area_high"] < 0.5).sum()
        areas += own["area"].tolist()
        assert (own["area_low"] < own["area_high"]).all()
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)
    # One in twenty is expected to miss, in a direction of its own.
    assert (low + high) / len(areas) < 0.12


def test_what_costs_nothing_stands_beside_and_a_world_alone_gives_nothing():
    table = transfer({side: cells(side) for side in SIDES}, 200)
    assert set(table["measurement"]) == set(LABELS)
    assert (table[table["measurement"] == "rate"]["area"] == 0.5).all(), "all trainings of a recipe share it"
    assert (table[table["measurement"] == "loss_start"]["over_loss"] == 0).all()
    assert not len(transfer({"drawn": cells("drawn")}))


def test_a_world_without_gates_that_gain_decides_nothing():
    both = {side: cells(side) for side in SIDES}
    both["photographs"]["gains"] = False
    table = transfer(both, 200)
    assert table[table["tested"] == "photographs"]["area"].isna().all()
    found = photographs.transferred(table, "photographs")
    assert found and all(one.outcome is OPEN for one in found.values())


# -------------------------------------------------------------------------------------------------- tables
def _seeds(value, count=8, scale=0.02, seed=0):
    return value + scale * np.random.default_rng(seed).normal(size=count)


def survey(gap, learners=("coop", "vpt")):
    rows = [
        {"learner": learner, "gate": gate, "task": task, "seed": seed, "gap": own}
        for learner, gate, task in product(learners, ("length", "tanh"), ("coarse", "shift"))
        for seed, own in enumerate(_seeds(gap) if gate == "length" else [-np.inf] * 8)
    ]
    return pd.DataFrame(rows)


def test_gaps_are_means_over_gates_that_both_worlds_have():
    more = survey(9.0, ("coop",)).assign(gate="depth")
    table = photographs.gaps({"drawn": pd.concat([survey(2.0), more]), "photographs": survey(2.5, ("coop",))})
    assert set(table["learner"]) == {"coop"}, "vpt is there once, the depth gate once, tanh has no finite gap"
    means = table.groupby("backbone")["value"].mean()
    assert means["drawn"] == pytest.approx(2.0, abs=0.03) and means["photographs"] == pytest.approx(2.5, abs=0.03)
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    alone = photographs.gaps({"drawn": pd.concat([survey(2.0), more])})
    assert set(alone["learner"]) == {"coop", "vpt"}


def shifts(gap):
    rows = []
    for weights, value, seed in product(("trained", "random"), (0.02, 0.2), range(8)):
        factors = dict.fromkeys(FACTORS, 0.0) | {"prompt_norm": gap / 2, "alignment": gap / 2}
        far = 10.0 if (weights, value) != ("trained", 0.02) else 0.0
        row = {"weights": weights, "learner": "coop", "gate": "length", "task": "fine", "intervention": "prompt_std"}
        rows.append(row | {"value": value, "seed": seed, "gap": gap + far} | factors)
    return pd.DataFrame(rows)


def test_the_chain_is_that_of_trained_weights_without_an_intervention():
    table = photographs.chain({"drawn": shifts(2.0), "photographs": shifts(3.0)})
    wide = table.pivot(index="factor", columns="backbone", values="value")
    assert wide.loc["gap"].to_dict() == {"drawn": 2.0, "photographs": 3.0}
    assert wide.loc[list(FACTORS)].sum().to_dict() == {"drawn": 2.0, "photographs": 3.0}


def points(worth, task="conflict", recipe="control"):
    columns = {name: _seeds(worth, scale=1.0, seed=at) for at, name in enumerate(photographs.OPPONENTS)}
    own = {"learner": "coop", "gate": "length", "task": task, "recipe": recipe, "seed": range(8)}
    return pd.DataFrame(own | columns | {"over_shuffled": columns["over_mean"]})


def test_healthy_is_said_where_the_gate_beats_all_three_and_not_where_it_loses_to_one():
    strong, weak = points(30.0), points(30.0, "conflict_blur")
    weak["over_blind"] = _seeds(0.0, scale=1.0)
    table = photographs.planted({"photographs": pd.concat([strong, weak])}, {})
    found = photographs.healthy(table, "photographs")
    assert found["conflict.healthy"].outcome is HOLDS
    assert found["conflict_blur.over_mean"].outcome is HOLDS and found["conflict_blur.over_blind"].outcome is FAILS
    assert found["conflict_blur.healthy"].outcome is FAILS
    assert photographs.healthy(table, "drawn") == {}


def test_a_planted_task_comes_from_the_fair_trial_and_else_from_the_predictors_at_their_largest_rate():
    worth = pd.concat(
        [
            points(value, task).drop(columns="recipe").assign(strength=strength, label=label)
            for value, task, strength, label in (
                (99.0, "conflict", 1.0, "0.01"),
                (5.0, "conflict_blur", 1.0, "0.0035"),
                (20.0, "conflict_blur", 1.0, "0.01"),
                (77.0, "conflict_blur", 0.5, "0.01"),
                (1.0, "coarse", 1.0, "0.01"),
            )
        ]
    )
    trial = pd.concat([points(30.0), points(60.0, recipe="tuned"), points(3.0, "coarse")])
    table = photographs.planted({"photographs": trial}, {"photographs": worth})
    means = table.groupby(["task", "recipe"])["over_mean"].mean().round()
    assert means.to_dict() == {("conflict", "control"): 30.0, ("conflict_blur", "largest rate"): 20.0}


def test_how_far_two_worlds_are_apart_has_the_interval_of_two_samples():
    one, two = _seeds(2.0, 40, 0.3, 1), _seeds(2.5, 40, 0.3, 2)
    value, (low, high) = apart(one, two)
    assert value == pytest.approx(two.mean() - one.mean())
    error = math.sqrt(one.var(ddof=1) / 40 + two.var(ddof=1) / 40)
    assert (high - low) / 2 == pytest.approx(1.99 * error, rel=0.1)
    assert apart(one, one[::-1])[0] == pytest.approx(0)
    assert np.isnan(apart([1.0], [2.0, 3.0])[1]).all() and np.isnan(apart([], [1.0])[0])


def left(factor):
    """Gates that leave after 1000 / rate steps, later by a factor, and not at all where that is beyond the end."""
    rows = []
    for (name, lever, taken), seed in product(
        (("plain", "home", 0.0), ("x 10", "rate", 1.0), ("Adam", "", 0.0)), range(8)
    ):
        step = 1000 * factor / 10**taken
        own = {
            "intervention": name,
            "lever": lever,
            "strength": 1.0,
            "seed": seed,
            "behind": 2.0 - taken,
            "taken": taken,
        }
        rows.append(own | {"escape": step if step <= 1200 else np.nan})
    return pd.DataFrame(rows)


def test_escapes_are_those_of_the_rate_alone():
    law = pd.DataFrame({"steps": [1200]})
    table = photographs.escapes({"drawn": left(1.0), "photographs": left(2.0)}, dict.fromkeys(SIDES, law))
    medians = table.groupby(["backbone", "rate"])["escape"].median()
    assert medians["drawn"].to_dict() == {1.0: 1000.0, 10.0: 100.0}
    assert np.isnan(medians["photographs"][1.0]) and medians["photographs"][10.0] == 200.0
    assert len(table) == 32, "Adam is no multiple of the rate"


# ------------------------------------------------------------------------------------------------ a whole page
def world(gap, worth, later):
    """Results of every page in one world, as small as their figures allow."""
    draws = _seeds(0.6, 9, 0.05)
    law = pd.DataFrame({"draw": range(9), "steps": 1200, **{name: draws for name in escape.LEVERS}})
    levers = pd.DataFrame({"lever": list(escape.LEVERS), "slope": 0.6, "low": 0.5, "high": 0.7})
    ends = pd.DataFrame(
        [
            {
                "learner": "coop",
                "gate": "length",
                "task": "coarse",
                "seed": seed,
                "information_first": 1e-4,
                "information_last": own,
            }
            for seed, own in enumerate(_seeds(2e-4, scale=1e-6))
        ]
    )
    long = ends.drop(columns=["learner", "gate"]).assign(training="Adam")
    zero = pd.DataFrame({"task": "coarse", "seed": range(8), "accuracy": _seeds(40.0)})
    plain = zero.assign(learner="coop", gate="none", recipe="tuned", accuracy=_seeds(60.0))
    trial = pd.concat([points(worth), points(0.0, "coarse")])
    verdicts = pd.DataFrame({"task": ["conflict", "coarse"], "verdict": ["useful", "idle"]})
    gaps = survey(gap).assign(step=0)
    tables = {
        "gradient_imbalance": {"survey": survey(gap), "gaps": gaps[np.isfinite(gaps["gap"])]},
        "gap_origin": {"shifts": shifts(gap)},
        "gate_degradation": {"ends": ends, "long_ends": long},
        "fair_trial": {"points": trial, "verdicts": verdicts, "zero_shot": zero, "accuracy": plain},
        "escape": {"escapes": left(later), "law": law, "levers": levers},
        "predictors": {"cells": cells("drawn"), "worth": points(worth).assign(strength=1.0, label="0.01")},
    }
    return {page: Result(own, told(page, gap)) for page, own in tables.items()}


def told(page, gap):
    """The findings that the page's sections ask for: they hold where the gap is two decades."""
    names = [name for own in criteria.SECTIONS.values() for name in own if name.partition(".")[0] == page]
    values = [one + (4.0 - 2 * gap) for one in (0.9, 1.0, 1.1)]
    return Findings.of(Claim(name, f"{name} is so", values, ">", 0, page) for name in names)


def page_of(sides):
    tables = photographs.compared(sides)
    sources = [(page, side, 1, int(page not in sides[side]), 0) for page in PAGES for side in SIDES]
    tables["sources"] = pd.DataFrame(sources, columns=["page", "backbone", "cells", "missing", "claims"])
    study = Photographs()
    return Page(study, Result({}), study, Result(tables, photographs.findings(sides, tables)), {"stale": 0})


@pytest.fixture(scope="module")
def page():
    return page_of({"drawn": world(2.0, 30.0, 1.0), "photographs": world(3.0, 20.0, 2.0)})


def test_every_section_has_findings_of_each_world_and_of_both(page):
    for section, names in criteria.SECTIONS.items():
        there = {name for name in names if name.partition(".")[0] not in ("learners", "gate_value")}
        for column in ("drawn", "photographs", "both"):
            assert there <= {one.id for one in words.of(page, column, section)}, (section, column)
    both, drawn = (words.of(page, column, "gap") for column in ("both", "drawn"))
    assert {one.outcome for one in drawn} == {HOLDS} and {one.outcome for one in both} == {FAILS}
    assert "**Differs, holds in the drawn world alone**: gradient_imbalance.through_training is so" in words.told(
        page, "gap"
    )
    ids = [one.id for one in page.findings]
    assert len(set(ids)) == len(ids) and all(one.claim.partition(": ")[1] for one in page.findings)


def test_the_same_number_and_another_are_told_apart(page):
    found = {one.id: one.outcome for one in words.of(page, "same", "same")}
    assert found["gap"] is FAILS and found["chain.slope"] is HOLDS and found["chain.alignment"] is FAILS
    assert found["escape.rate"] is HOLDS
    said = words.equal(page)
    assert "Not the same, photographs less drawn in decades: the gap before training (+1.00)" in said


def test_a_whole_page_draws_and_speaks(page):
    for name, drawn in _everything(page).items():
        assert style.png(drawn)[:4] == b"\x89PNG", name
        assert drawn.get_label(), name
        if name != "gaps":
            assert all(axis.get_xlabel() for axis in drawn.axes), name
        assert "Not measured" not in drawn.get_label(), name
    assert "“healthy” is said of *place*" in words.health(page)
    assert "On photographs “healthy” is said of *animal or vehicle*" in words.health(page)
    assert words.verdicts(page).set_index("verdict").loc["useful", "photographs, planted"] == 1


def test_one_world_alone_draws_and_says_so():
    alone = page_of({"drawn": world(2.0, 30.0, 1.0), "photographs": {}})
    for name, drawn in _everything(alone).items():
        if name not in ("outcomes", "transfer"):
            assert "Not measured yet: photographs." in drawn.get_label(), name
    assert words.told(alone, "gap") == "Measured in the drawn world alone so far: nothing can be said of both."


def test_thresholds_are_those_of_the_drawn_pages():
    assert criteria.HEALTHY is prompts.CONTROL and criteria.TELLS is prompts.TELLS
    assert criteria.SAME_DECADES is prompts.AS_REPORTED and criteria.SAME_SLOPE is prompts.SAME_SLOPE


def test_every_finding_that_is_set_side_by_side_is_judged_on_its_page():
    page = Photographs().page()
    for section, names in criteria.SECTIONS.items():
        assert set(names) <= {one.id for one in words.of(page, "drawn", section)}, section
    sources = page.tables["sources"]
    assert (sources[sources["backbone"] == "drawn"]["missing"] == 0).all()
