"""Dependence and gain are two things: verdicts on made-up accuracies, tuning on validation pictures, a tiny trial."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib.verdicts import Finding, Findings, Outcome
from paper.figures import worth as figures
from paper.studies import fair_trial, tuning, worth
from paper.studies.fair_trial import FairTrial
from paper.words import outcomes
from paper.words import worth as words

WOBBLE = np.array([-0.4, -0.3, -0.1, 0.0, 0.0, 0.1, 0.3, 0.4])


def made_up(**means: float) -> pd.DataFrame:
    """Differences of eight seeds about these means."""
    return pd.DataFrame({name: value + np.roll(WOBBLE, place) for place, (name, value) in enumerate(means.items())})


@pytest.mark.parametrize(
    ("dependence", "gain", "name"),
    [
        ((8, 12), (6, 5), "useful"),
        # Held still it breaks, and yet the learner is better off without: once called adaptive, keep the gate.
        ((8, 12), (-6, -6), "harmful"),
        ((8, 12), (4, 0), "co-adapted"),
        ((8, 12), (0, 4), "co-adapted"),
        ((0.1, 12), (4, 4), "idle"),
        ((0.1, 0), (0, 0), "idle"),
        ((0.1, 0), (0, -3), "harmful"),
        ((2.1, 12), (4, 4), "inconclusive"),
        ((8, 12), (1.1, 4), "inconclusive"),
    ],
)
def test_a_verdict_needs_dependence_and_gain(dependence, gain, name):
    part = made_up(**dict(zip((*worth.DEPENDENCE, *worth.GAIN), (*dependence, *gain), strict=True)))
    assert worth.verdict(part).name == name


@pytest.mark.parametrize("seeds", [1, 3, 7])
def test_few_seeds_cannot_call_a_gate_idle(seeds):
    part = made_up(over_mean=0, over_shuffled=0, over_blind=0, over_fixed=0).head(seeds)
    assert worth.verdict(part).name == "inconclusive", "one in five seeds may have a gate that works"


def rows(**more: object) -> list[dict]:
    """A gated learner, its twin and the learner without a gate."""
    made = []
    for seed, wobble in enumerate(WOBBLE):
        for gate, variant, accuracy in (
            ("depth", "gated", 80 + wobble),
            ("depth", "mean", 70),
            ("depth", "shuffled", 60),
            ("blind_depth", "gated", 75),
            ("blind_depth", "mean", 74),
            ("blind_depth", "shuffled", 76),
            ("none", "fixed", 72),
        ):
            made.append(
                {"learner": "coop", "gate": gate, "task": "shift", "recipe": "short", "seed": seed}
                | {"variant": variant, "accuracy": accuracy, **more}
            )
    return made


def test_the_blind_twin_is_a_variant_of_its_gate_and_a_null_of_its_own():
    table = pd.DataFrame(rows())
    found = worth.differences(worth.beside(table))
    means = found.groupby("gate").mean(numeric_only=True).loc["depth"]
    assert means[["over_mean", "over_shuffled", "over_blind", "over_fixed"]].tolist() == pytest.approx([10, 20, 5, 8])
    assert worth.verdicts(worth.beside(table))["verdict"].tolist() == ["useful"]
    null = worth.nulls(table)
    assert null["gate"].unique().tolist() == ["blind_depth"] and null["over_fixed"].tolist() == [3] * 8
    assert null["over_mean"].tolist() == [1] * 8


def tried() -> pd.DataFrame:
    """Two recipes and a learner without a gate: one is better on validation pictures, the other on test pictures."""
    parts = []
    for recipe, steps, validation, test in (
        ("Adam 0.003, 300 steps", 300, 60, 70),
        ("Adam 0.01, 1000 steps", 1000, 66, 50),
    ):
        for seed in range(3):
            parts.append(
                {"learner": "coop", "gate": "none", "task": "shift", "recipe": recipe, "steps": steps, "seed": seed}
                | {"variant": "fixed", "accuracy": test + seed, "validation": validation + seed}
                | {"loss_end": 0.50, "loss_before": 0.52 + (steps == 300)}
            )
    return pd.DataFrame(parts)


def test_recipes_are_chosen_by_validation_pictures_alone():
    table = tried()
    best = tuning.chosen(table)
    assert best["recipe"].tolist() == ["Adam 0.01, 1000 steps"] and best["flat"].tolist() == [True]
    assert tuning.tuned(table)["accuracy"].tolist() == [50, 51, 52]
    shuffled = table.assign(accuracy=table["accuracy"].sample(frac=1, random_state=0).to_numpy())
    pd.testing.assert_frame_equal(tuning.chosen(shuffled), best)
    equal = tuning.chosen(table.assign(validation=50.0))
    assert equal["steps"].tolist() == [300] and equal["flat"].tolist() == [False], "of equals the shorter one"


def test_a_tiny_fair_trial_holds_every_recipe_and_draws_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(fair_trial, "CONTROL", dataclasses.replace(fair_trial.CONTROL, steps=2, batch=2))
    study = FairTrial(
        task="texture,conflict", recipes="all", control_task="conflict", rates=[0.003, 0.01], lengths=[1, 2],
        many_task="texture,conflict", many_seeds=3, seeds=2, shots=1, steps=2, test_size=12, device="cpu",
        results=str(tmp_path),
    )  # fmt: skip
    result = study.run()
    many = result.tables["many"]
    assert many.groupby("task")["seed"].nunique().to_dict() == {"texture": 3, "conflict": 3}
    few = result.tables["points"].query("recipe == 'control' and gate == 'length'")
    same = many[(many["task"] == "conflict") & (many["seed"] < 2)].drop(columns="recipe").reset_index(drop=True)
    pd.testing.assert_frame_equal(same, few.drop(columns="recipe").reset_index(drop=True), atol=1e-3)
    accuracy = result.tables["accuracy"]
    assert set(accuracy["recipe"]) == {"short", "control", "tuned"}
    assert set(accuracy["variant"]) == {"fixed", "blind", "gated", "mean", "shuffled"}
    chosen = result.tables["chosen"]
    assert set(chosen["gate"]) == {"length", "shuffled", "none"} and set(chosen["task"]) == {"texture", "conflict"}
    for _, row in chosen.iterrows():
        own = tuning.TUNED
        mine = accuracy[(accuracy["recipe"] == "tuned") & (accuracy["task"] == row["task"])]
        variant = {"length": "gated", "shuffled": "blind", "none": "fixed"}[row["gate"]]
        assert mine[mine["variant"] == variant]["validation"].mean() == pytest.approx(row["validation"]), own
    assert set(result.tables["zero_shot"]["task"]) == {"texture", "conflict"}
    assert all(
        one.outcome is Outcome.INCONCLUSIVE for one in result.findings if one.unit == "points" and "gain" in one.claim
    )
    points = result.tables["points"]
    assert len(figures.plane(points, result.tables["nulls"], result.tables["verdicts"], rerun=points).axes) == 2
    assert len(figures.forest(many, rerun=many).axes) == 2
    assert len(figures.by_recipe(accuracy, result.tables["zero_shot"], rerun=accuracy).axes) == 2


@pytest.mark.parametrize("recipe", fair_trial.RECIPES)
def test_a_page_of_one_recipe_alone_is_drawn_and_told(tmp_path, monkeypatch, recipe):
    monkeypatch.setattr(fair_trial, "CONTROL", dataclasses.replace(fair_trial.CONTROL, steps=2, batch=2))
    study = FairTrial(
        task="texture", recipes=recipe, control_task="texture", many_task="texture", rates=[0.003], lengths=[1],
        seeds=2, shots=1, steps=2, test_size=12, device="cpu", results=str(tmp_path),
    )  # fmt: skip
    result = study.run()
    tables = result.tables
    assert set(tables["accuracy"]["recipe"]) == {recipe}
    assert set(tables["points"]["recipe"]) == {recipe} | ({"many"} if recipe == "control" else set())
    assert len(words.judged(tables["verdicts"])) == len(tables["verdicts"]) > 0
    assert "gate" in words.answer(tables) and "nan" not in words.answer(tables)
    assert "nan" not in words.enough(tables, result.findings) + words.trained(tables, result.findings)
    words.choices(tables)
    for drawn in (
        figures.plane(tables["points"], tables["nulls"], tables["verdicts"], rerun=tables["points"]),
        figures.forest(tables["many"], rerun=tables["many"]),
        figures.by_recipe(tables["accuracy"], tables["zero_shot"], rerun=tables["accuracy"]),
    ):
        drawn.draw_without_rendering()
        assert "nan" not in drawn.get_label()


@pytest.mark.parametrize(("gain", "outcome"), [(0.1, Outcome.HOLDS), (2.0, Outcome.DOES_NOT_HOLD)])
def test_many_seeds_can_show_that_there_is_no_gain_and_that_there_is(gain, outcome):
    spread = np.random.default_rng(0).normal(0, 2.4, 64)
    spread -= spread.mean()
    parts = [
        pd.DataFrame({"task": task, "seed": range(64), "over_mean": 9 + spread, "over_fixed": gain + spread,
                      "over_blind": gain - spread})
        for task in ("coarse", "shift", "conflict")
    ]  # fmt: skip
    claims = fair_trial._many(pd.concat(parts))
    assert not any("conflict" in one.id for one in claims), "a task that needs a gate is not ordinary"
    found = {one.id: one.judged() for one in claims}
    for column in ("over_fixed", "over_blind"):
        assert found[f"fair_trial.many.{column}"].outcome is outcome
        assert found[f"fair_trial.many.shift.{column}"].outcome is outcome
    few = fair_trial._many(pd.concat(part.head(8) for part in parts))
    eight = next(one for one in few if one.id == "fair_trial.many.over_fixed").judged()
    assert eight.outcome is not Outcome.HOLDS, "eight seeds do not show a point"


def test_what_the_correction_takes_back_is_not_called_open_without_a_word():
    def one(name: str, value: float, note: str) -> Finding:
        ends = (value - 0.5, value + 0.5)
        return Finding("c", "m", value, ends, Outcome.INCONCLUSIVE, "points", f"fair_trial.many.{name}", note=note)

    taken = "not after correction for the 15 claims of its family"
    found = Findings([one("coarse.over_fixed", -1.9, taken), one("shift.over_fixed", -0.6, "")])
    many = pd.DataFrame({"task": ["coarse", "shift"], "over_fixed": 0.0})
    said = words.enough({"many": many, "verdicts": pd.DataFrame(columns=["recipe"])}, found)
    assert "Open whether it is less than a point: shift over no gate." in said
    assert "By its interval alone more than a point one way" in said and "coarse over no gate (−1.9)." in said


@pytest.mark.parametrize(
    ("points", "said"), [(3.0, "3.0 points ahead of"), (-0.4, "0.4 points behind"), (0.0, "level with")]
)
def test_a_negative_gain_is_behind(points, said):
    assert outcomes.ahead(points) == said
