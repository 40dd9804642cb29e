"""The studies of what moves the gap, what revives a gate, and what tells beforehand, on tiny settings and data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.checks import ParameterError
from paper.figures import gates as figures
from paper.prediction import area, joint
from paper.studies import escape, gap_origin, guide, predictors
from paper.studies.gate_degradation import GateDegradation
from paper.studies.gate_value import ADAPTIVE, GateValue
from paper.studies.gradient_imbalance import GradientImbalance

TINY = dict(seeds=2, shots=1, test_size=12, device="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def found(store) -> dict:
    """Every study that the guide draws on, as small as it gets."""
    few = dict(few_shots=(1, 2), few_tasks="texture", control_steps=2, control_batch=2)
    gates = dict(TINY, task="texture", steps=3, results=store)
    studies = {
        "gradient_imbalance": GradientImbalance(**gates, learner="coop", gate="length"),
        "gap_origin": gap_origin.GapOrigin(**gates, learner="coop", gate="length", pictures=4),
        "gate_degradation": GateDegradation(**gates, learner="coop,pool", gate="length,soft,top_k"),
        "gate_value": GateValue(**gates, learner="coop", gate="length", **few),
        "escape": escape.Escape(**TINY, steps=4, looks=(1, 4), strengths=(0, 1), rates=(1, 100), results=store),
        "predictors": predictors.Predictors(
            **TINY, steps=8, learner="coop,vpt", task="conflict,texture", results=store
        ),
    }
    return {name: study.run() for name, study in studies.items()}


# ------------------------------------------------------------------------------------- where the gap comes from
def test_predictions_are_exact_where_nothing_is_changed_and_for_small_changes_of_the_gate(found):
    shifts = found["gap_origin"].table
    trained = shifts[shifts["weights"] == "trained"]
    home = {name: values[0 if name == "aligned" else 2] for name, values in gap_origin.INTERVENTIONS.items()}
    still = trained[trained["value"] == trained["intervention"].map(home)]
    np.testing.assert_allclose(still["gap"], still["before"], atol=1e-4)
    np.testing.assert_allclose(still["predicted"], still["before"], atol=1e-4)
    assert (still["direct"].abs() < 1e-4).all()
    heat = trained[(trained["intervention"] == "temperature") & (trained["value"] == 3)]
    np.testing.assert_allclose(heat["predicted"] - heat["before"], np.log10(3), atol=0.05)
    np.testing.assert_allclose(heat["gap"], heat["predicted"], atol=0.05)
    longer = trained[(trained["intervention"] == "prompt_std") & (trained["value"] == 0.002)]
    np.testing.assert_allclose(longer["direct"], 1, atol=0.01)


def test_gradients_are_perpendicular_to_tokens_not_to_prompts(found):
    angles = found["gap_origin"].tables["angles"]
    assert set(angles["value"]) == set(gap_origin.INTERVENTIONS["prompt_std"])
    assert (angles["to_token"] < 0.03).all()
    assert (angles[angles["value"] == 0.002]["to_prompt"] > 2 * angles[angles["value"] == 0.002]["to_token"]).all()


# ---------------------------------------------------------------------------------------- what revives a gate
def _escapes(slope: float, scatter: float, last: int, seeds: int = 80) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for rate in (1, 3, 10, 30, 100):
        for seed in range(seeds):
            behind = 2 - np.log10(rate)
            step = 10 ** (1 + slope * behind + scatter * generator.normal())
            rows.append(
                dict(
                    intervention=escape.named(rate),
                    strength=1.0,
                    seed=seed,
                    behind=behind,
                    escape=step if step <= last else np.nan,
                )
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("last", [100_000, 60])
def test_the_law_is_found_though_slow_gates_are_cut_off(last):
    table = _escapes(0.8, 0.2, last)
    law = escape.fit(table, last).iloc[0]
    assert law["slope"] == pytest.approx(0.8, abs=0.15) and law["scatter"] == pytest.approx(0.2, abs=0.08)
    assert law["low"] < 0.8 < law["high"] and law["high"] - law["low"] < 0.4
    if last == 60:
        left = table.dropna()
        naive = np.polyfit(left["behind"], np.log10(left["escape"]), 1)[0]
        assert abs(naive - 0.8) > 2 * abs(law["slope"] - 0.8), "leaving slow gates out would bend the line"


def test_no_law_where_hardly_a_gate_leaves():
    law = escape.fit(_escapes(0.8, 0.2, 5, seeds=3), 5).iloc[0]
    assert np.isnan(law["slope"]) and law["left"] < 4


def test_the_boundary_of_a_map_is_where_outcomes_change():
    def worth(amount: float, seed: int) -> float:
        return 20.0 if amount > 100 * 2 ** (seed - 2) else 0.0

    rows = [
        dict(intervention="map adam", strength=s, step=step, seed=seed, over_mean=worth(step * s, seed))
        for s in (0.25, 0.5, 1.0)
        for step in (50, 100, 200, 400, 800)
        for seed in range(5)
    ]
    rows += [dict(row, intervention="map sgd", over_mean=0.0) for row in rows]
    line = escape.boundary(pd.DataFrame(rows))
    assert set(line["intervention"]) == {"map adam"}, "no line where all come out alike"
    at = np.interp([0.5, 1.0], line["strength"], np.log10(line["steps"]))
    np.testing.assert_allclose(at, np.log10([200, 100]), atol=0.25)


def test_escape_looks_at_every_intervention_and_the_map(found):
    result = found["escape"]
    looks = result.table
    assert {"as published", "gate rate x 100", *(row[0] for row in escape.INTERVENTIONS)} <= set(looks["intervention"])
    assert set(looks[looks["intervention"] == "map adam"]["strength"]) == {0, 1} and set(looks["step"]) == {1, 4}
    escapes = result.tables["escapes"].set_index(["intervention", "strength", "seed"])["behind"]
    # The same gate at a hundred times the rate is two decades less behind.
    assert escapes["as published", 1.0, 0] - escapes["gate rate x 100", 1.0, 0] == pytest.approx(2)
    assert escapes["as published", 1.0, 0] == escapes["map sgd", 1.0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"looks": (1, 3)}, r"^looks must end with steps \(4\)"),
        ({"looks": (0, 4)}, "^looks must be"),
        ({"task": "texture"}, "^task must be one of conflict, conflict_size"),
        ({"learner": "coop,maple"}, "^learner must be one learner"),
        ({"rates": (0,)}, "^rates must be"),
        ({"strengths": (2,)}, "^strengths must be"),
    ],
)
def test_what_escape_refuses(change, words):
    with pytest.raises(ParameterError, match=words):
        escape.Escape(**{**TINY, "steps": 4, "looks": (1, 4), **change})


# ---------------------------------------------------------------------------------------- what tells beforehand
def test_all_scores_together_find_what_each_holds_a_part_of():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(400, 3))
    label = scores[:, 0] + scores[:, 1] > 0
    group = np.repeat(["a", "b", "c", "d"], 100)
    chance = joint(scores, label, group)
    assert area(chance, label) > 0.95 > max(area(scores[:, i], label) for i in range(3))
    # A monotone change of a score, or another unit, changes nothing.
    again = joint(np.stack([np.exp(scores[:, 0]), 100 * scores[:, 1], scores[:, 2] ** 3], axis=1), label, group)
    np.testing.assert_allclose(again, chance)
    # What is held out decides nothing: turning the labels of a group leaves its own predictions alone.
    turned = np.where(group == "a", ~label, label)
    np.testing.assert_allclose(joint(scores, turned, group)[:100], chance[:100])
    assert np.isnan(joint(scores, label & (group == "a"), group)[:100]).all()


def test_a_gate_is_adaptive_if_it_beats_both_its_mean_and_its_shuffle():
    rows = [
        dict(
            learner="coop",
            gate="length",
            task="conflict",
            strength=1.0,
            label="Adam",
            seed=seed,
            step=step,
            accuracy_gated=60.0,
            accuracy_mean=mean,
            accuracy_shuffled=shuffled,
        )
        for seed, (mean, shuffled) in enumerate([(50, 50), (59, 50), (50, 59)])
        for step in (0, 1, 8)
    ]
    cells = predictors.labelled(pd.DataFrame(rows))
    assert cells.groupby("seed")["adaptive"].first().tolist() == [True, False, False]
    assert cells["when"].value_counts().to_dict() == dict.fromkeys(predictors.WHEN, 3)
    assert min(60 - 59, 60 - 50) < ADAPTIVE


def test_intervals_of_an_area_come_from_cells_not_from_seeds():
    rows = [
        dict(learner="coop", gate="length", task=f"t{cell}", strength=1.0, label="Adam", adaptive=cell % 2 == 0)
        for cell in range(6)
        for _ in range(50)
    ]
    table = pd.DataFrame(rows)
    score = np.repeat([3.0, 1.0, 2.0, 2.5, 4.0, 0.5], 50)
    label = table["adaptive"].to_numpy()
    low, high = predictors.resampled(table, lambda rows: area(score[rows], label[rows]))
    assert low < 0.75 and high == 1, "six cells leave a wide interval, however many seeds each has"


def test_predictors_train_every_recipe_and_need_a_task_with_something_to_gain(found, store):
    cells = found["predictors"].table
    assert set(cells["label"]) == {"Adam", "SGD"} and set(cells["when"]) == set(predictors.WHEN)
    assert set(cells[cells["label"] == "Adam"].groupby("task")["strength"].nunique()) == {1, 2}
    areas = found["predictors"].tables["areas"]
    assert set(areas["measurement"]) == {*predictors.SCORES, "all together"}
    with pytest.raises(ParameterError, match="^task must include one of conflict"):
        predictors.Predictors(**TINY, task="texture", results=store)


# --------------------------------------------------------------------------------------------------- the guide
def test_rules_follow_the_outcomes(found):
    rules = guide.rules(found).set_index("question")
    assert len(rules) == 8 and rules["advice"].str.len().min() > 20
    assert not rules["measured"].str.contains("nan").any()
    changed = dict(found)
    findings = type(found["gate_value"].findings)(
        type(f)(f.claim, f.criterion, 30.0, (25.0, 35.0), guide.Outcome.DOES_NOT_HOLD, f.unit)
        if "over its own mean" in f.claim
        else f
        for f in found["gate_value"].findings
    )
    changed["gate_value"] = type(found["gate_value"])(found["gate_value"].tables, findings)
    again = guide.rules(changed).set_index("question")
    question = "Is the gate worth anything on my task?"
    assert "30.00 points" in again.loc[question, "measured"]
    assert again.loc[question, "advice"] != rules.loc[question, "advice"]
    assert (again.drop(question) == rules.drop(question)).all(axis=None)


def test_the_guide_gathers_every_claim(found, monkeypatch, store):
    monkeypatch.setattr(guide, "study_of", lambda name: lambda **given: _Done(found[name]))
    result = guide.Guide(results=store).run()
    outcomes = result.table
    assert len(outcomes) == sum(len(part.findings) for part in found.values())
    assert not outcomes.duplicated(["page", "claim"]).any() and set(outcomes["outcome"]) <= {-1, 0, 1}
    assert guide.Guide.tally(result)["claims"].sum() == len(outcomes)
    with pytest.raises(ParameterError, match="^profile must be one of full, quick"):
        guide.Guide(profile="huge")


class _Done:
    """A study that has run."""

    def __init__(self, result) -> None:
        self.result, self.seeds = result, 2

    def run(self):
        return self.result


# ------------------------------------------------------------------------------------------------- the figures
def test_figures_draw_what_the_tables_hold(found):
    origin, value, loose = found["gap_origin"], found["gate_value"], found["escape"]
    gates = found["gate_degradation"].table
    drawn = {
        "survey": figures.gap_survey(found["gradient_imbalance"].tables["survey"]),
        "shifts": figures.origin_shifts(origin.table),
        "angles": figures.angles(origin.tables["angles"], 128),
        "usage": figures.selection_usage(gates[gates["learner"] == "pool"], 8),
        "shots": figures.value_by_shots(value.tables["few"]),
        "bars": figures.intervention_bars(loose.table, ADAPTIVE),
        "law": figures.escape_law(loose.tables["escapes"], loose.tables["law"]),
        "map": figures.escape_map(loose.table, loose.tables["boundary"], ADAPTIVE),
        "areas": figures.roc_areas(found["predictors"].tables["areas"], {}, predictors.TELLS),
    }
    law = pd.DataFrame([dict(slope=0.8, intercept=1.0, scatter=0.2)])
    told = figures.forecast(law, gap=2.0, rate=10.0, steps=63).get_supxlabel().replace("\n", " ")
    # Behind by one decade: half leave at 10 ** 1.8 = 63 steps.
    assert "50 % of such gates have left after 63 steps" in told
    assert len(drawn["shifts"].axes) == len(gap_origin.INTERVENTIONS)
    names = [label.get_text() for label in drawn["bars"].axes[0].get_yticklabels()]
    assert set(names) == {name for name in loose.table["intervention"] if not name.startswith("map ")}
    cells = [text.get_text() for text in drawn["map"].axes[0].texts]
    assert len(cells) == 4
    for figure in drawn.values():
        for axis in figure.axes:
            assert axis.get_xlabel() or axis.get_ylabel()
