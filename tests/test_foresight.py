"""Would you have known? Signs that are there are found, others are a coin, and nothing is fitted on itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from lib.checks import ParameterError
from lib.verdicts import Findings, Outcome
from paper.criteria import foresight as criteria
from paper.figures import foresight as figures
from paper.prediction import area
from paper.studies import foresight, hardware_trial, own, predictors
from paper.studies.base import Page, Result
from paper.studies.foresight import GATES, HARDWARE, KNOWN, MEASURED, Foresight
from paper.words import foresight as words


def gates(rng, good=lambda rng, label: rng.normal(size=label.size)) -> pd.DataFrame:
    """Rows of the page on predictors: five tasks, two learners, two recipes, four strengths, three seeds."""
    keys = pd.MultiIndex.from_product(
        [
            ["a", "b", "c", "d"],
            ["coop", "maple"],
            ["0.1", "0.3"],
            [0.25, 0.5, 0.75, 1.0],
            range(3),
            ["before", "early"],
        ],
        names=["task", "learner", "label", "strength", "seed", "when"],
    )
    table = keys.to_frame(index=False).assign(gate="length")
    drawn = {key: rng.random() < 0.5 for key in table.groupby(["task", "learner", "label", "strength"]).groups}
    gains = np.array([drawn[key] for key in zip(table.task, table.learner, table.label, table.strength, strict=True)])
    score = good(rng, gains)
    columns = dict.fromkeys(("gap_rms", "spread", "information", "loss_mean", "loss_shuffled", "loss_start"))
    noise = {name: rng.normal(size=len(table)) for name in columns}
    return table.assign(gains=gains, depends=gains, gap=-score, snr=np.exp(score), **noise)


def hardware(rng, good=lambda rng, label: rng.normal(size=label.size)) -> pd.DataFrame:
    """Rows of the trial: eight families, two networks, two levels, two rules, three seeds."""
    families = [f"family {i}" for i in range(8)]
    keys = pd.MultiIndex.from_product(
        [["mlp", "cnn"], families, ["10 %", "60 %"], ["autograd", "noise_injection"], range(3)],
        names=["network", "family", "level", "arm", "seed"],
    )
    table = keys.to_frame(index=False)
    drawn = {key: rng.random() < 0.5 for key in table.groupby(["network", "family", "level", "arm"]).groups}
    label = np.array([drawn[key] for key in zip(table.network, table.family, table.level, table.arm, strict=True)])
    score = good(rng, label)
    table = table.assign(label=label)
    for name in hardware_trial.READINGS:
        table[f"{name}@start"] = rng.normal(size=len(table))
    for name in ("damage", "rank", "rise"):
        table[name] = rng.normal(size=len(table))
    return table.assign(**{"signal@start": 1 / (1 + np.exp(-score)), "size@start": np.exp(score)})


def cells(first, second) -> pd.DataFrame:
    return foresight.gathered({"predictors": Result({"cells": first}), "hardware_trial": Result({"scored": second})})


def clear(rng, label):
    return np.where(label, 1.0, -1.0) + 0.1 * rng.normal(size=label.size)


def noise(rng, label):
    return rng.normal(size=label.size)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


# ------------------------------------------------------------------------------------------- what is found
def test_a_clear_sign_is_found_and_beats_what_is_known(rng):
    table = cells(gates(rng, clear), hardware(rng, clear))
    found = foresight.areas(table).set_index(["part", "when", "predictor"])
    for part, name in ((GATES, "snr"), (GATES, "gap"), (HARDWARE, "signal")):
        row = found.loc[(part, "before", name)]
        assert row["area"] == 1.0 and row["over_trivial_low"] > 0.2
    assert 0.3 < found.loc[(HARDWARE, "before", "rise"), "area"] < 0.7
    assert found.loc[(HARDWARE, "before", "elsewhere"), "trivial"]
    left, _ = foresight.left_out(table)
    own = left[left["predictor"] == MEASURED].set_index(["part", "when", "held"])
    assert set(own.loc[(GATES, "before")].index) == {"task", "learner", "recipe"}
    assert set(own.loc[(HARDWARE, "before")].index) == {"class", "network", "backward rule"}
    assert (own["area"] > 0.97).all() and (own["over_known_low"] > 0.1).all() and (own["skill"] > 0.5).all()
    claimed = {
        one.id: one.outcome for one in Findings.of(foresight.claims({"left_out": left, "lens": foresight.lens(table)}))
    }
    assert claimed["foresight.gates.before.task.tells"] is Outcome.HOLDS
    assert claimed["foresight.hardware.before.class.beyond"] is Outcome.HOLDS
    assert claimed["foresight.lens.gates"] is Outcome.HOLDS and claimed["foresight.lens.hardware"] is Outcome.HOLDS


def test_noise_is_a_coin_and_no_claim_holds(rng):
    table = cells(gates(rng), hardware(rng))
    left, bins = foresight.left_out(table)
    assert left["area"].between(0.25, 0.75).all() and (left["skill"] < 0.15).all()
    found = Findings.of(foresight.claims({"left_out": left, "lens": foresight.lens(table)}), holm=True)
    assert not [one for one in found if one.outcome is Outcome.HOLDS]
    assert (
        bins["share"].between(0, 1).all()
        and bins.groupby(["part", "when", "held", "predictor"])["rows"].sum().min() > 90
    )


def test_one_lens_is_one_law_and_not_two(rng):
    """The same law in both parts passes from one to the other; the opposite law tells the opposite."""

    def turned(rng, label):
        return -clear(rng, label)

    same, other = (cells(gates(rng, clear), hardware(rng, good)) for good in (clear, turned))
    rows = foresight.lens(same).set_index(["tested", "score"])["area"]
    assert rows.loc[(GATES, "across")] > 0.95 and rows.loc[(HARDWARE, "across")] > 0.95
    rows = foresight.lens(other).set_index(["tested", "score"])["area"]
    assert rows.loc[(GATES, "across")] < 0.05 and rows.loc[(HARDWARE, "across")] < 0.05
    assert rows.loc[(HARDWARE, "own")] > 0.95, "within its own part the sign is learned"


def test_an_easy_recipe_or_network_does_not_help(rng):
    """All winners in one recipe: a score that names the recipe is a coin among equals."""
    table = gates(rng)
    table["gains"] = table["label"] == "0.3"
    mixed = rng.random(len(table)) < 0.2
    table["gains"] ^= mixed
    found = foresight.areas(foresight.gathered({"predictors": Result({"cells": table})}))
    rate = found[found["predictor"] == "rate"]["area"]
    assert (rate == 0.5).all()


def test_the_share_elsewhere_leaves_the_own_model_out(rng):
    table = pd.DataFrame(
        {
            "part": GATES, "when": "before", "backbone": "drawn", "kind": "a", "recipe": "r",
            "model": ["one", "one", "two", "two"], "label": [True, True, False, True],
        }
    )  # fmt: skip
    assert foresight._elsewhere(table).tolist() == [0.5, 0.5, 1.0, 1.0]
    assert foresight._elsewhere(table[table["model"] == "one"]).isna().all()


def test_the_skill_of_a_coin_is_zero_and_of_certainty_one():
    label = np.array([True, False] * 20)
    within = np.zeros(40)
    assert foresight._skill(np.full(40, 0.5), label, within) == 0
    assert foresight._skill(label.astype(float), label, within) == 1
    assert foresight._skill(1 - label.astype(float), label, within) == -3


def test_winners_and_losers_weigh_alike_in_a_calibration():
    label = np.array([True] * 30 + [False] * 10)
    (one,) = foresight._bins(np.full(40, 0.5), label, np.zeros(40), count=1)
    assert one == {"chance": pytest.approx(0.5), "share": pytest.approx(0.5), "rows": 40}


def test_both_parts_stand_in_one_table_with_their_own_scores(rng):
    first, second = gates(rng, clear), hardware(rng, clear)
    table = cells(first, second)
    assert len(table) == len(first) + len(second)
    own = table[(table["part"] == GATES) & (table["when"] == "before")]
    plain = first[first["when"] == "before"]
    assert np.allclose(own["signal"], plain["snr"] / (1 + plain["snr"])) and np.allclose(own["size"], -plain["gap"])
    assert np.allclose(own["gap"].astype(float), predictors.SCORES["gap"][1](plain))
    chips = table[table["part"] == HARDWARE]
    assert np.allclose(chips["size"], np.log10(second["size@start"]))
    assert area(chips["signal"].astype(float), chips["label"]) == 1.0


# ------------------------------------------------------------------------------------------- the page
def page(table, **parts) -> Page:
    left, bins = foresight.left_out(table)
    tables = {
        "cells": table,
        "areas": foresight.areas(table),
        "left_out": left,
        "calibration": bins,
        "lens": foresight.lens(table),
        "costs": foresight.costs(Foresight().studies()),
    } | parts
    found = Findings.of(foresight.claims(tables), holm=True)
    study = Foresight()
    return Page(study, Result({}), study, Result(tables, found), {"current": 1, "stale": 0, "missing": 0})


def test_a_whole_page_draws_and_speaks(rng):
    shown = page(cells(gates(rng, clear), hardware(rng)))
    tables = shown.tables
    drawn = [
        figures.plane(tables["cells"], tables["lens"]),
        figures.areas(tables["areas"], criteria.TELLS),
        figures.left_out(tables["left_out"], criteria.TELLS),
        figures.calibration(tables["calibration"]),
    ]
    assert all(isinstance(one, Figure) for one in drawn)
    said = words.answer(shown) + words.rely(shown)
    assert "**Of gates**" in said and "**Of hardware**" in said and "(area 1.00" in said
    assert "Beyond what needs no gradient this holds: *gates" in said and "nan" not in said
    costs = words.costs(shown)
    assert set(costs["part"]) == {GATES, HARDWARE} and costs["share"].between(0, 1).all()


def test_where_nothing_tells_nobody_is_to_rely_on_it(rng):
    said = words.rely(page(cells(gates(rng), hardware(rng))))
    assert "nobody should call a training off" in said and "In none of them" in said


def test_a_page_without_evidence_still_builds():
    shown = page(foresight.gathered({}))
    assert words.answer(shown) == "There is no evidence of either part yet."
    tables = shown.tables
    figures.plane(tables["cells"], tables["lens"])
    figures.areas(tables["areas"], criteria.TELLS)
    figures.left_out(tables["left_out"], criteria.TELLS)
    figures.calibration(tables["calibration"])


def test_one_part_alone_has_no_lens(rng):
    table = foresight.gathered({"predictors": Result({"cells": gates(rng, clear)})})
    assert foresight.lens(table).empty and isinstance(figures.plane(table, foresight.lens(table)), Figure)


def test_what_it_refuses():
    with pytest.raises(ParameterError, match="^pages must be one or more different names out of predictors"):
        Foresight(pages="world")


def test_everything_that_is_known_has_a_name():
    for part in (GATES, HARDWARE):
        for name in (*foresight.SCORES[part], *foresight.TRIVIAL[part], "elsewhere"):
            assert (said := foresight.named(part, name)) and "_" not in said
    assert KNOWN != MEASURED


# ------------------------------------------------------------------------------------------- the page on one's own
def test_the_tower_knows_its_pictures():
    """The page's open_clip tower, as it is given to the diagnosis, is right far more often than chance."""
    tower, loss, ((images, labels),), attention = own.tower("default")
    texts = loss.texts
    with torch.no_grad():
        right = (torch.nn.functional.normalize(tower(images), dim=-1) @ texts.T).argmax(1) == labels
    assert right.float().mean() > 0.8 and attention and all(name.endswith("attn") for name in attention)


def test_one_expert_alone_is_a_coin_and_a_router_is_not():
    assert own.right(own.trained()).mean() > 0.9 and abs(own.right(own.trained(blind=True)).mean() - 0.5) < 0.1
    assert not own.right(own.Mixture()).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"severities": [99]}, "^severities must be"),
        ({"perturbation": "nothing"}, "^perturbation must be"),
        ({"samples": 1}, "^samples must be"),
        ({"checkpoint": "nowhere.pt"}, "^pretrained must be"),
    ],
)
def test_what_the_page_on_ones_own_refuses(change, words):
    with pytest.raises(ParameterError, match=words):
        own.Own(**change)
