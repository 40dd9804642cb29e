"""The studies of what moves the gap, what revives a gate, and what tells beforehand, on tiny settings and data."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.checks import ParameterError
from lib.prompts import backbone as backbones
from lib.prompts import tasks
from lib.results import Cell
from lib.verdicts import Claim, Findings, Outcome
from paper.criteria.prompts import ADAPTIVE, MOST_SEEDS, NO_GAIN, TELLS
from paper.evidence import File
from paper.figures import gates as figures
from paper.prediction import area, balanced, duels, joint
from paper.studies import base, escape, fair_trial, gap_origin, guide, predictors
from paper.studies.base import Page, Result
from paper.studies.fair_trial import FairTrial
from paper.studies.gate_degradation import LONG, GateDegradation
from paper.studies.gate_value import GateValue
from paper.studies.gradient_imbalance import GradientImbalance, from_words
from paper.tools import profiles
from paper.words import asked
from paper.words import causes as words
from paper.words.guide import RULES, Listing
from paper.words.spelling import times

pytestmark = pytest.mark.usefixtures("narrow_miniclip")
TINY = dict(seeds=2, shots=1, test_size=12, device="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def studies(store) -> Iterator[dict]:
    """Every study that the guide draws on, as small as it gets."""
    few = dict(few_shots=(1, 2), few_tasks="texture", control_steps=2, control_batch=2)
    gates = dict(TINY, task="texture", steps=3, results=store)
    loose = dict(steps=4, looks=(1, 4), strengths=(0, 1), rates=(1, 100), interventions="all", references="fixed,blind")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fair_trial, "CONTROL", dataclasses.replace(fair_trial.CONTROL, steps=2, batch=2))
        yield {
            "gradient_imbalance": GradientImbalance(**gates, learner="coop", gate="length"),
            "gap_origin": gap_origin.GapOrigin(**gates, learner="coop", gate="length", pictures=4),
            "gate_degradation": GateDegradation(
                **gates, learner="coop,pool", gate="length,soft,top_k,l2p,random", long_steps=3
            ),
            "gate_value": GateValue(**gates, learner="coop", gate="length", **few),
            "fair_trial": FairTrial(
                **gates,
                recipes="all",
                control_task="texture",
                many_task="texture",
                tuned_learner="coop,maple",
                rates=[0.01],
                lengths=[2, 3],
            ).changed(task="texture,conflict"),
            "escape": escape.Escape(**TINY, **loose, results=store),
            "predictors": predictors.Predictors(
                **TINY, steps=8, learner="coop,vpt", task="conflict,texture", results=store
            ),
        }


@pytest.fixture(scope="module")
def found(studies) -> dict:
    return {name: study.run() for name, study in studies.items()}


def test_a_cell_says_all_that_its_numbers_need(studies):
    """The configuration may travel as JSON, and a rerun with fewer seeds gives the same rows of those it has."""
    for name in ("gap_origin", "escape", "predictors"):
        study = studies[name]
        (cell, *_), (fewer, *_) = study.cells(), study.changed(seeds=1).cells()
        whole, part = (_computed(one, json.loads(one.text)) for one in (cell, fewer))
        stored = study.store().fetch([cell], "cpu")[cell]
        assert set(whole) == set(part) == set(stored)
        for table, rows in whole.items():
            pd.testing.assert_frame_equal(rows, stored[table], check_dtype=False, rtol=1e-5)
            same = rows[rows["seed"] == 0].reset_index(drop=True)
            pd.testing.assert_frame_equal(part[table], same, check_dtype=False, rtol=1e-3, atol=1e-5)


def _computed(cell: Cell, config: dict) -> dict:
    site = {**cell.site, "device": "cpu"}
    return cell.compute(config, site) if cell.batch is None else cell.compute([config], site)[0]


@pytest.fixture(scope="module")
def small(studies) -> dict:
    """One seed and one outcome."""
    return {
        "gap_origin": studies["gap_origin"].changed(seeds=1),
        "escape": studies["escape"].changed(seeds=1, rates=1, strengths=1, interventions="Adam"),
        "predictors": studies["predictors"].changed(seeds=1, learner="coop", task="conflict"),
    }


def test_the_smallest_rerun_is_judged_without_a_crash(small):
    """Claims that need more are inconclusive, what was not measured is not claimed."""
    done = {name: study.run() for name, study in small.items()}
    for result in done.values():
        assert {finding.outcome for finding in result.findings} == {Outcome.INCONCLUSIVE}
    ids = {finding.id for finding in done["escape"].findings}
    gains = {f"escape.gains.adam.over_{other}" for other in ("fixed", "blind")}
    assert ids == {"escape.short", "escape.adaptive.adam", *gains}


def test_evidence_and_rerun_are_judged_and_compared_alike(studies, found, small):
    """The same rows give the same findings, and a rerun of some of them agrees with the whole."""
    for name, study in small.items():
        assert study._covered(studies[name])
        agreed = Page(study, study.run(), studies[name], found[name], {"stale": 0}).agreement
        assert agreed.compared >= 8 and agreed, str(agreed)
        assert str(studies[name].run().findings) == str(found[name].findings)


def test_a_dead_gate_is_noticed(studies, found):
    """A rerun whose gates are worth nothing, where in the evidence they are worth thirty points."""
    study, rng = studies["escape"], np.random.default_rng(0)
    looks = found["escape"].tables["looks"]
    worth = looks.assign(over_mean=30 + 4 * rng.normal(size=len(looks)))
    sides = [Result({**found["escape"].tables, "looks": table}) for table in (worth.assign(over_mean=0.0), worth)]
    assert not Page(study, sides[0], study, sides[1], {"stale": 0}).agreement


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
    assert set(angles["value"]) == set(gap_origin.INTERVENTIONS["prompt_std"]) and set(angles["layer"]) == {"first"}
    assert (angles["to_token"] < 0.03).all()
    assert (angles[angles["value"] == 0.002]["to_prompt"] > 2 * angles[angles["value"] == 0.002]["to_token"]).all()
    # Of so many numbers a token; a short prompt lies across its position, a long one along its token.
    width = backbones.MINICLIP["text_cfg"]["width"]
    assert angles["chance"].iloc[0] == pytest.approx(
        np.abs(np.random.default_rng(0).normal(size=10**6)).mean() / width**0.5, rel=0.01
    )
    means = angles.groupby("value")[["sine", "share"]].mean()
    assert means["sine"].is_monotonic_decreasing and means["sine"].iloc[0] > 0.98 and means["sine"].iloc[-1] < 0.5
    assert means["share"].is_monotonic_increasing and means["share"].iloc[-1] == pytest.approx(1, abs=0.1)


def test_where_the_prompt_is_the_token_a_scaling_gate_meets_nothing(studies):
    study = studies["gap_origin"].changed(gate="depth")
    angles = study.run().tables["angles"]
    deep = angles[(angles["layer"] == "deeper") & (angles["weights"] == "trained") & (angles["value"] == 0.2)]
    assert (deep["sine"] < 1e-3).all() and (deep["to_prompt"] == deep["to_token"]).all()
    assert (deep["to_prompt"] < 0.01).all()


def _angled(to_prompt: float, deeper: float) -> pd.DataFrame:
    """Cosines of eight seeds where random directions have 0.07; prompts ten times as long have a tenth of it."""
    rows = [
        dict(weights="trained", layer=layer, value=value, seed=seed, to_prompt=cosine * (1 + 0.01 * seed))
        for layer, cosines in (("first", (to_prompt, 0.1 * to_prompt)), ("deeper", (deeper, 0.1 * deeper)))
        for value, cosine in zip((0.02, 0.2), cosines, strict=True)
        for seed in range(8)
    ]
    return pd.DataFrame(rows).assign(to_token=0.002, sine=0.9, share=0.4, chance=0.07)


@pytest.mark.parametrize(
    ("to_prompt", "deeper", "said", "unsaid"),
    [
        (0.068, 0.006, "explains none of the gap", "differs from that"),
        (0.02, 0.006, "differs from that of random directions", "explains none"),
        (0.068, 0.07, "it is not below that of random directions", "built to ignore"),
    ],
)
def test_what_the_angle_explains_is_what_the_cosine_says(to_prompt, deeper, said, unsaid):
    angles = _angled(to_prompt, deeper)
    told = words.ignored(Findings.of(gap_origin._perpendicular(angles)), angles)
    assert said in told and unsaid not in told and "0.002" in told and "no choice of" not in told


def _ways(drop: dict[str, float]) -> pd.DataFrame:
    """Gaps of eight seeds at two lengths of prompts, and what ten times the length takes off."""
    rows = [
        dict(
            gate=gate, value=value, seed=seed, gap=2 + 0.01 * seed - (value == 0.2) * (drop.get(gate, 1) + 0.001 * seed)
        )
        for gate in gap_origin.ACTING
        for value in (0.02, 0.2)
        for seed in range(8)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("scaled", [0.5, 1.0])
def test_a_gate_that_turns_is_better_only_where_scaling_falls_behind(scaled):
    found = Findings.of(gap_origin._across(_ways({"length": scaled, "depth": scaled})))
    behind = Outcome.DOES_NOT_HOLD if scaled < 1 else Outcome.HOLDS
    assert found.get("gap_origin.across.length").outcome is behind
    assert found.get("gap_origin.across.turn_length").outcome is Outcome.HOLDS
    assert found.get("gap_origin.across.turned.default").outcome is Outcome.HOLDS
    longest = found.get("gap_origin.across.turned.longest").outcome
    assert longest is (Outcome.HOLDS if scaled < 1 else Outcome.DOES_NOT_HOLD)
    assert ("worth 0.50 decades to turn" in words.turning(found)) == (scaled < 1)


@pytest.mark.parametrize("taken", [0.98, 0.2])
def test_tenfold_prompts_are_said_to_move_the_gap_when_they_do(found, taken):
    """Predictions that miss cell by cell both ways are right in the mean."""
    shifts = found["gap_origin"].table
    rows = pd.concat([shifts.assign(seed=seed) for seed in range(8)])
    miss = np.where(rows.reset_index().index % 2, 0.3, -0.3)
    longer = (rows["intervention"] == "prompt_std") & (rows["value"] == 0.2)
    rows["gap"] = np.where(longer, rows["before"] - taken, rows["predicted"] + miss)
    findings = Findings.of(gap_origin._shifted(rows))
    told = words.answered(findings) + words.levers(findings)
    assert f"take {taken:.2f} decades off the gap" in told if taken > 0.5 else f"no more than {taken:.2f}" in told
    assert ("The length of the prompts is no lever" in told) == (taken < 0.5)
    assert findings.get("gap_origin.gap.prompt_std").outcome is Outcome.DOES_NOT_HOLD


# ---------------------------------------------------------------------------------------- what revives a gate
SLOPES = {"rate": 0.5, "prompts": 0.0, "temperature": 0.9, "gain": 0.5}


def _escapes(scatter: float, last: int, seeds: int, home: float = 3.2) -> pd.DataFrame:
    """Escapes by a law with those slopes; each lever alone, the seeds with a part of the scatter of their own."""
    generator = np.random.default_rng(0)
    luck = 0.5 * scatter * generator.normal(size=seeds)
    rows = []
    for lever, decades in {
        "home": (0,),
        "rate": (0.5, 1, 1.5, 2),
        **dict.fromkeys(list(SLOPES)[1:], (0.5, 0.9)),
    }.items():
        for taken in decades:
            for seed in range(seeds):
                step = 10 ** (home - SLOPES.get(lever, 0) * taken + luck[seed] + scatter * generator.normal())
                named = dict(intervention=f"{lever} {taken}", lever=lever, strength=1.0, seed=seed)
                rows.append(named | dict(taken=float(taken), behind=2 - taken, escape=step if step <= last else np.nan))
    return pd.DataFrame(rows)


@pytest.mark.parametrize("last", [100_000, 1000])
def test_the_law_of_each_lever_is_found_though_slow_gates_are_cut_off(last):
    table = _escapes(0.2, last, seeds=60)
    law = escape.fit(table, last)
    found = law.iloc[0]
    for lever, slope in SLOPES.items():
        assert found[lever] == pytest.approx(slope, abs=0.12)
    assert found["scatter"] == pytest.approx(0.22, abs=0.05)
    rows = escape.levers(table, law).set_index("lever")
    assert ((rows["low"] < pd.Series(SLOPES)) & (pd.Series(SLOPES) < rows["high"])).all()
    assert (
        rows.loc["rate", "less_rate"] == 0
        and rows.loc["temperature", "less_low"] > 0 > rows.loc["prompts", "less_high"]
    )
    if last == 1000:
        left = table.dropna()
        x = np.stack([np.ones(len(left)), *(-left["taken"].where(left["lever"] == name, 0) for name in SLOPES)], axis=1)
        naive = np.linalg.lstsq(x, np.log10(left["escape"]), rcond=None)[0]
        assert abs(naive[1] - 0.5) > 2 * abs(found["rate"] - 0.5), "leaving slow gates out would bend the line"


def test_one_line_over_the_gap_is_a_line_over_the_lever_that_moved_it_most():
    table = _escapes(0.2, 1000, seeds=8)
    rows = escape.levers(table, escape.fit(table, 1000)).set_index("lever")
    squares = {"rate": 0.5**2 + 1 + 1.5**2 + 4, "prompts": 0.5**2 + 0.9**2}
    assert rows["share"].sum() == pytest.approx(1)
    assert rows.loc["rate", "share"] / rows.loc["prompts", "share"] == pytest.approx(
        squares["rate"] / squares["prompts"]
    )


def test_a_censored_fit_is_where_the_likelihood_is_largest():
    from scipy.optimize import minimize
    from scipy.stats import norm

    generator = np.random.default_rng(1)
    x = np.stack([np.ones(50), generator.uniform(0, 2, 50)], axis=1)
    y = x @ [3.0, -0.7] + 0.3 * generator.normal(size=50)
    late, y = y > 2.6, np.minimum(y, 2.6)
    weights = np.stack([np.ones(50), generator.integers(0, 3, 50)])
    for own, found in zip(weights, escape.censored(x, y, late, weights), strict=True):

        def loss(at: np.ndarray, own: np.ndarray = own) -> float:
            z = (y - x @ at[:2]) / np.exp(at[2])
            return float((own * np.where(late, -norm.logsf(z), 0.5 * z**2 + at[2])).sum())

        best = minimize(loss, [3, -0.5, -1]).x
        np.testing.assert_allclose(found, [*best[:2], np.exp(best[2])], atol=0.01)


def test_no_law_where_hardly_a_gate_leaves():
    law = escape.fit(_escapes(0.2, 20, seeds=3), 20)
    assert len(law) == 1 and law[list(SLOPES)].isna().all(axis=None)


def test_what_a_gate_had_and_lost_is_told_by_seed():
    worth = {100: (0, 20), 400: (30, 22), 1200: (2, 6)}
    rows = [dict(seed=seed, step=step, over_mean=own[seed]) for step, own in worth.items() for seed in (0, 1)]
    assert escape.lost(pd.DataFrame(rows)) == [28, 16]
    assert np.isnan(escape.lost(pd.DataFrame(rows[:2]))).all(), "a single look loses nothing"


def test_a_seed_is_adaptive_if_it_falls_both_when_held_and_when_shuffled(found):
    looks = found["escape"].tables["looks"]
    both = (looks["over_mean"] > ADAPTIVE) & (looks["over_shuffled"] > ADAPTIVE)
    assert (looks["adaptive"] == both).all()
    end = looks[looks["step"] == 4]
    np.testing.assert_allclose(end["over_fixed"], end["accuracy_gated"] - end["accuracy_fixed"])
    assert end["over_fixed"].notna().all() and looks.loc[looks["step"] == 1, "over_fixed"].isna().all()
    blind = end.groupby("intervention")["over_blind"].apply(lambda one: one.notna().all())
    assert blind["Adam"] and blind["gate starts shut"] and not blind["prompts x 3"] and not blind["map adam"]


def test_a_reference_shares_recipe_and_prompts_and_nothing_of_the_gate(studies):
    study = studies["escape"]
    fixed, blind = (dict(study.compared(name)) for name in ("fixed", "blind"))
    assert (
        fixed["gate rate x 100"] == fixed["temperature 0.1"] == fixed["Adam for the gate"] == fixed["nothing changed"]
    )
    assert blind["Adam for the gate"].config["recipe"]["gate_optimiser"] == "adam"
    assert fixed["Adam for the prompts"] == fixed["Adam"] != fixed["Adam from words"]
    assert fixed["prompts x 10"].config["setting"]["prompt_std"] == pytest.approx(10 * study.prompt_std)


def test_a_shorter_training_is_the_beginning_of_a_longer_one(store):
    """So that a short rerun is compared with long evidence, whatever is done to the gate."""
    given = dict(TINY, interventions="gate later,feature x 10", references="none", results=store)
    short, long = (escape.Escape(**given, steps=looks[-1], looks=looks) for looks in ((1, 3), (1, 3, 6)))
    assert short._covered(long) and not long._covered(short)
    ours, theirs = (study.run().table.query("step == 3").set_index(["intervention", "seed"]) for study in (short, long))
    names = ["gap", "information", "accuracy_gated"]
    pd.testing.assert_frame_equal(ours[names], theirs[names], rtol=1e-4)


@pytest.mark.parametrize("name", escape.INTERVENTIONS)
def test_every_intervention_can_be_asked_for_by_its_name(name):
    assert escape.Escape(interventions=name).interventions == (name,)


def test_a_lever_is_what_moves_alone():
    levers = {name: one.lever for name, one in escape.INTERVENTIONS.items()}
    assert levers["temperature 0.1"] == "temperature" and levers["prompts x 3"] == "prompts"
    assert levers["feature x 10"] == "gain" and not levers["centred x 10"] and not levers["Adam"]


def test_routed_prompts_are_judged_by_the_rule_of_the_picture(store, monkeypatch):
    """Their accuracy is that of each pair of prompts on the pictures of its own rule, counted picture by picture."""
    monkeypatch.setattr(escape, "ROUTED", replace(escape.ROUTED, steps=3))
    study = escape.Escape(**TINY | {"shots": 4}, steps=4, looks=(1, 4), references="routed", results=store)
    (cell,) = study.routed()
    table = _computed(cell, json.loads(cell.text))["routed"]
    assert table.groupby(["start", "rule", "seed"]).size().eq(1).all()
    for (_, seed), part in table.groupby(["start", "seed"]):
        one = part.set_index("rule")
        cue = tasks.get("conflict").few_shot(4, seed, 12).test_cue
        assert one.loc["second", "pictures"] == cue.sum() and one["pictures"].tolist()[0] == 12
        assert one.loc["both", "own"] == one.loc["both", "whole"]
        # On its own pictures a prompt is right as often as on all, less the others.
        right = one["own"] * one["pictures"] / 100
        np.testing.assert_allclose(right, right.round(), atol=1e-4)
    row = escape.routes([table]).set_index(["start", "seed"]).loc[("words", 0)]
    own = table[(table["start"] == "words") & (table["seed"] == 0)].set_index("rule")
    hits = (own["own"] * own["pictures"]).loc[["first", "second"]].sum() / 12
    assert row["routed"] == pytest.approx(hits) and row["gain"] == pytest.approx(hits - own["whole"].max())


def test_what_no_gate_can_beat_is_said_only_where_none_does():
    def own(accuracy: float) -> pd.DataFrame:
        return pd.DataFrame(dict(seed=range(8), accuracy_gated=accuracy + np.linspace(0, 1, 8), over_fixed=20.0))

    routed = pd.DataFrame([dict(start=start, seed=seed, routed=80.0) for start in escape.STARTS for seed in range(8)])
    gates = {"Adam": own(90), escape.TOLD: own(70), escape.TOLD_FROM_WORDS: own(95)}
    for limit, outcomes in ((80.0, "does not hold"), (100.0, "holds")):
        found = Findings.of(escape._bounds(gates, routed.assign(routed=limit)), holm=True)
        assert found.get("escape.bound.routed").outcome == outcomes
        assert found.get("escape.bound.told").outcome == "does not hold"
        assert found.get("escape.bound.told_from_words").outcome == "holds"


def test_eight_seeds_decide_every_family_of_shares():
    """All eight of eight must hold after the correction for the family, or no evidence could decide it."""
    families = pd.Series([one.kind for name, one in escape.INTERVENTIONS.items() if one.kind != "told"]).value_counts()
    families["steps"] += 4  # multiples of the rate
    claims = [
        Claim(f"{kind} {i}", "it is so", [1.0] * 8, ">", MOST_SEEDS, kind, exact=True)
        for kind, count in families.items()
        for i in range(count)
    ]
    assert {one.outcome for one in Findings.of(claims, holm=True)} == {Outcome.HOLDS}


@pytest.mark.parametrize(
    ("decades", "steps", "beyond"), [(1.0, 1000, ""), (1.0, 400, "extrapolation"), (3.0, 1000, "No gate")]
)
def test_a_forecast_has_an_interval_and_says_where_nothing_was_measured(decades, steps, beyond):
    table = _escapes(0.2, steps, seeds=8)
    law = escape.fit(table, steps)
    drawn = figures.forecast(law, escape.levers(table, law), "rate", decades, steps=500)
    told = drawn.get_label()
    assert re.search(r"\d+ % \[\d+, \d+\] of such gates have left after 500 steps", told)
    assert ("extrapolation" in told or "No gate" in told) == bool(beyond) and beyond in told
    (axis,) = drawn.axes
    solid = [line for line in axis.lines if line.get_linestyle() == "-" and len(line.get_xdata())]
    assert all(line.get_xdata().max() <= steps for line in solid) and bool(solid) == (decades <= 2)


def test_a_lever_is_followed_no_further_than_it_was_pulled():
    law = pd.DataFrame({"intercept": [3.0], "rate": [0.6], "gain": [1.9], "scatter": [0.3], "steps": [1200]})
    levers = pd.DataFrame({"lever": ["rate", "gain"], "decades": [2.0, 0.55]})
    said = asked.of_forecast(law, levers, {"rate": "the rate", "gain": "a larger feature"})
    assert "with a decade taken off by the rate 9 %." in said
    assert "with the most that they took off: a larger feature 56 % (0.55 decades)." in said


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
    assert {escape.PLAIN, "gate rate x 100", *escape.INTERVENTIONS} <= set(looks["intervention"])
    assert set(looks[looks["intervention"] == "map adam"]["strength"]) == {0, 1} and set(looks["step"]) == {1, 4}
    escapes = result.tables["escapes"].set_index(["intervention", "strength", "seed"])["behind"]
    # The same gate at a hundred times the rate is two decades less behind.
    assert escapes[escape.PLAIN, 1.0, 0] - escapes["gate rate x 100", 1.0, 0] == pytest.approx(2)
    assert escapes[escape.PLAIN, 1.0, 0] == escapes["map sgd", 1.0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"looks": (1, 3)}, r"^looks must end with steps \(4\)"),
        ({"looks": (0, 4)}, "^looks must be"),
        ({"task": "texture"}, "^task must be one of conflict, conflict_size"),
        ({"learner": "coop,maple"}, "^learner must be one learner"),
        ({"rates": (0,)}, "^rates must be"),
        ({"strengths": (2,)}, "^strengths must be"),
        ({"interventions": "prayer"}, "^interventions must be one or more different names out of all rates x 10"),
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


def test_gain_and_dependence_are_two_truths_of_one_training():
    """Of five seeds one does both, each of the others misses one of the four."""
    points = {"mean": [9, 1, 9, 9, 9], "shuffled": [9, 9, 1, 9, 9], "blind": [9, 9, 9, 1, 9], "fixed": [9, 9, 9, 9, 1]}
    same = dict(learner="coop", task="conflict", strength=1.0, label="0.01")
    rows = [
        dict(same, gate=gate, seed=seed, variant=variant, accuracy=60.0 - less)
        for gate, variant, worse in [
            ("length", "gated", [0] * 5),
            ("length", "mean", points["mean"]),
            ("length", "shuffled", points["shuffled"]),
            ("shuffled", "gated", points["blind"]),
            # What a blind twin loses without its gate is nobody's business.
            ("shuffled", "mean", [0] * 5),
            ("none", "fixed", points["fixed"]),
        ]
        for seed, less in enumerate(worse)
    ]
    looks = [dict(same, gate="length", seed=i, step=step, loss=i + step) for i in range(5) for step in (0, 1, 8)]
    cells = predictors.outcomes(pd.DataFrame(looks), pd.DataFrame(rows))
    ends = cells.groupby("seed").first()
    assert ends["gains"].tolist() == [True, True, True, False, False] and 1 < ADAPTIVE < 9
    assert ends["depends"].tolist() == [True, False, False, True, True]
    assert ends["loss_start"].tolist() == [0, 1, 2, 3, 4] and set(cells["when"]) == set(predictors.WHEN)


def test_areas_keep_to_their_recipe_and_agree_with_a_plain_loop():
    generator = np.random.default_rng(0)
    score, label = generator.integers(0, 4, 60).astype(float), generator.random(60) < 0.4
    recipe, unit = np.repeat(["a", "b", "c"], 20), np.tile(np.repeat(["x", "y"], 10), 3)
    score[5] = np.nan
    met = [(i, j) for i in range(60) for j in range(60) if label[i] and not label[j] and recipe[i] == recipe[j]]
    met = [(i, j) for i, j in met if 5 not in (i, j)]
    won = [1.0 if score[i] > score[j] else 0.5 * (score[i] == score[j]) for i, j in met]
    assert area(score, label, recipe) == pytest.approx(np.mean(won))
    parts = duels(score, label, recipe, unit)
    assert parts[0][0, 1] == sum(w for w, (i, j) in zip(won, met, strict=True) if (unit[i], unit[j]) == ("x", "y"))
    assert parts[1].sum() == len(met)
    # A number of the recipe is worth a coin, though it sorts all rows together.
    assert area(np.repeat([1.0, 2.0, 3.0], 20), label, recipe) == 0.5
    assert np.isnan(area(score, np.repeat([True, False], 30), np.repeat(["a", "b"], 30)))
    # The area of a yes or no is its balanced accuracy.
    assert area(score > 1, label) == pytest.approx(balanced(score > 1, label))


def _trainings(gains, measured) -> pd.DataFrame:
    """Two learners, four tasks, three recipes, eight seeds, at every time: ``gains`` and measurements by their name,
    functions of rows and a generator; what is not named is noise.
    """
    generator = np.random.default_rng(0)
    keys = itertools.product(
        ["coop", "maple"], ["t0", "t1", "t2", "t3"], ["0.001", "0.003", "0.01"], range(8), predictors.WHEN
    )
    table = pd.DataFrame(list(keys), columns=["learner", "task", "label", "seed", "when"])
    table = table.assign(gate="length", strength=1.0)
    first = table["when"] == "before"
    table.loc[first, "gains"] = gains(table[first], generator)
    table["gains"] = table["gains"].ffill().astype(bool)
    columns = [*predictors.SCORES, "loss_start"]
    table = table.assign(depends=table["gains"], **{name: generator.normal(size=len(table)) for name in columns})
    return table.assign(**{name: value(table, generator) for name, value in measured.items()})


def test_what_detects_the_recipe_tells_nothing():
    """Early measurements that only say which recipe trains, where recipes decide which gates gain: pooled over recipes
    one of them has a large area, which is how the page was fooled.
    """
    often = {"0.001": 0.05, "0.003": 0.5, "0.01": 0.95}
    table = _trainings(
        lambda rows, generator: generator.random(len(rows)) < rows["label"].map(often),
        {name: lambda rows, _: rows["label"].astype(float) for name in ("gap", "information", "loss_mean")},
    )
    part = table[table["when"] == "early"]
    assert area(part["information"], part["gains"]) > TELLS
    areas, _ = predictors.areas(table)
    own = areas.set_index(["measurement", "when"])
    for name in ("gap", "information", "loss_mean", "rate"):
        assert own.loc[name, "area"].tolist() == [0.5] * 3
        assert own.loc[name, [f"held_{held}" for held in predictors.HELD]].eq(0.5).all(axis=None)
    assert own["area"].between(0.35, 0.65).all() and own["held_recipe"].between(0.35, 0.65).all()
    outcomes = {finding.id: finding.outcome for finding in Findings.of(predictors.claims(areas), holm=True)}
    assert Outcome.HOLDS not in outcomes.values()
    assert outcomes[predictors.telling("early", "information")] is Outcome.DOES_NOT_HOLD


def test_labels_that_the_recipe_decides_alone_leave_everything_open():
    table = _trainings(lambda rows, _: rows["label"] == "0.01", {})
    areas, _ = predictors.areas(table)
    assert areas["area"].isna().all(), "no pair within a recipe"
    assert {finding.outcome for finding in Findings.of(predictors.claims(areas))} == {Outcome.INCONCLUSIVE}


def test_nested_selection_finds_the_one_that_tells_in_every_group():
    """The spread tells everywhere; the information tells better, but not on one task, and there the other way round."""

    def misled(rows, generator):
        sign = np.where(rows["task"] == "t0", -3, 3)
        return sign * rows["gains"] + 0.3 * generator.normal(size=len(rows))

    table = _trainings(
        lambda rows, generator: generator.random(len(rows)) < 0.4,
        {"spread": lambda rows, generator: 3 * rows["gains"] + generator.normal(size=len(rows)), "information": misled},
    )
    areas, chosen = predictors.areas(table)
    picks = chosen[chosen["when"] == "early"].set_index(["held", "group"])["measurement"]
    # Without its one bad task the information is the better choice, and does worse there than a coin.
    assert picks.drop(("task", "t0")).eq("spread").all() and picks["task", "t0"] == "information"
    early = areas[areas["when"] == "early"].set_index("measurement")
    assert early.loc["spread", "area"] > 0.95 > early.loc["information", "area"]
    assert early.loc["selected", "held_learner"] > 0.85 and early.loc["selected", "held_recipe"] > 0.85
    assert early.loc["selected", "held_task"] < early.loc["spread", "held_task"] - 0.1
    found = Findings.of(predictors.claims(areas), holm=True)
    assert found.get(predictors.over_gap("early", "spread")).outcome is Outcome.HOLDS
    assert found.get(predictors.transfers("learner")).outcome is Outcome.HOLDS
    assert found.get(predictors.over_gap("early", "snr")).outcome is not Outcome.HOLDS


def test_intervals_come_from_trainings_and_differences_are_paired():
    """Two signs that say nearly the same: each is uncertain over few tasks, their difference is not."""
    table = _trainings(
        lambda rows, _: rows["task"].isin(["t0", "t1"]) ^ (rows["seed"] == 0),
        {
            "gap": lambda rows, _: -rows["task"].map({"t0": 3.0, "t1": 1.0, "t2": 2.0, "t3": 0.0}),
            "spread": lambda rows, _: rows["task"].map({"t0": 3.0, "t1": 1.0, "t2": 1.9, "t3": 0.0}),
        },
    )
    own = predictors.areas(table)[0].set_index(["measurement", "when"]).loc[("spread", "early")]
    assert own["area_high"] - own["area_low"] > 0.15 and own["area_over_gap"] == 0
    assert own["area_over_gap_high"] - own["area_over_gap_low"] == 0


def test_predictors_train_each_gate_beside_its_twin_and_need_a_task_with_something_to_gain(studies, found, store):
    study, tables = studies["predictors"], found["predictors"].tables
    cells = tables["cells"]
    assert set(cells["label"]) == {"0.0035", "0.0105"} and set(cells["when"]) == set(predictors.WHEN)
    optimisers = {(cell.config["gate"], cell.config["recipe"]["optimiser"]) for cell in study.cells()}
    assert optimisers == {("length", "adam"), ("shuffled", "adam"), ("none", "adam")}
    assert set(tables["areas"]["measurement"]) == set(predictors.LABELS)
    assert set(tables["chosen"]["held"]) == set(predictors.HELD)
    with pytest.raises(ParameterError, match="^task must include one of conflict"):
        predictors.Predictors(**TINY, task="texture", results=store)
    with pytest.raises(ParameterError, match="^gate must be one with a blind twin"):
        predictors.Predictors(**TINY, gate="tanh", results=store)


# --------------------------------------------------------------------------------------------------- the guide
@pytest.fixture
def book(studies, tmp_path, monkeypatch) -> dict:
    """A profile with the tiny studies, and a folder for their evidence."""
    profile = {
        name: profiles.Page(name, name, parameters={**study.parameters(), "results": "auto"})
        for name, study in studies.items()
    }
    monkeypatch.setattr(profiles, "evidence", lambda: profile)
    monkeypatch.setattr(base, "EVIDENCE", tmp_path)
    return studies


def _keep(study, folder) -> None:
    cells = study.store().fetch(study.cells(), "cpu")
    origin = {"seconds": 1.0, "date": "2026-01-01"}
    File(folder / f"{study.notebook()}.csv").put((cell, tables, origin) for cell, tables in cells.items())


def _judged(outcomes: dict[str, Outcome]) -> dict[str, Findings]:
    """Findings of these claims with these outcomes, by page."""
    numbers = {Outcome.HOLDS: [1.0, 1.1], Outcome.DOES_NOT_HOLD: [-1.1, -1.0], Outcome.INCONCLUSIVE: [-1.0, 1.0]}
    judged: dict[str, Findings] = {}
    for name, outcome in outcomes.items():
        (finding,) = Findings.of([Claim(name, "it is so", numbers[outcome], ">", 0, "test")])
        assert finding.outcome is outcome
        judged.setdefault(name.partition(".")[0], Findings()).append(finding)
    return judged


def test_a_sentence_follows_its_finding_and_disappears_with_it(studies):
    single = [name for name, rule in RULES.items() if not isinstance(rule, Listing)]
    listed = {name: about for about, names in guide.listed(studies).items() if about in RULES for name in names}
    said = {}
    for outcome in Outcome:
        table = guide.rules(_judged(dict.fromkeys([*single, *listed], outcome)), studies)
        said[outcome] = dict(zip(table["findings"], table["sentence"], strict=True))
    assert not said[Outcome.INCONCLUSIVE]
    for outcome in (Outcome.HOLDS, Outcome.DOES_NOT_HOLD):
        ids = [name for names in said[outcome] for name in names.split()]
        assert sorted(ids) == sorted([*single, *listed]), "one rule for every finding, and no more"
        assert not any("nan" in text or "{" in text for text in said[outcome].values())
    for name in single:
        assert said[Outcome.HOLDS][name] != said[Outcome.DOES_NOT_HOLD][name]
    one = guide.rules(_judged({**dict.fromkeys(single, Outcome.HOLDS), single[0]: Outcome.INCONCLUSIVE}), studies)
    assert set(one["findings"]) == set(single[1:])


def test_a_rule_is_about_a_finding_that_its_page_has(found, studies):
    ids = {finding.id for result in found.values() for finding in result.findings}
    known = {name for about, names in guide.listed(studies).items() if about in RULES for name in names}
    assert {name for name, rule in RULES.items() if not isinstance(rule, Listing)} <= ids
    told = {escape.adaptive(name) for name in (escape.PLAIN, escape.TOLD, escape.TOLD_FROM_WORDS)}
    assert known - told <= ids, "the listings too, but for the two gates that have claims of their own"


def test_what_is_listed_is_sorted_by_its_outcome(studies):
    judged = _judged(
        {
            escape.adaptive("Adam"): Outcome.HOLDS,
            escape.adaptive("gate later"): Outcome.DOES_NOT_HOLD,
            escape.adaptive("diversity loss"): Outcome.INCONCLUSIVE,
        }
    )
    works, fails = guide.rules(judged, studies)["sentence"]
    assert works.endswith(": Adam (1.05).") and "within 4 steps" in works
    assert fails.endswith(": gate later (−1.05).")


def test_the_guide_reads_the_evidence_and_says_what_is_missing(book, tmp_path):
    page = guide.Guide().page()
    assert page.tables["rules"].empty and not page.findings
    assert "Nothing is said here of gradient imbalance, gap origin" in guide.text(page)
    for name in ("escape", "gap_origin"):
        _keep(book[name], tmp_path)
    page = guide.Guide().page()
    claims = page.tables["sources"].set_index("page")["claims"]
    assert set(claims[claims > 0].index) == {"escape", "gap_origin"} and page.states["stale"] == 0
    assert {finding.id.partition(".")[0] for finding in page.findings} <= {"escape", "gap_origin"}
    told = guide.text(page)
    assert "escape" not in told.rpartition("Nothing is said")[2] and "predictors" in told
    assert guide.text(guide.Guide().page()) == told
    assert "Nothing is said" not in guide.text(guide.Guide(pages="gap_origin").page())


def test_what_the_guide_refuses():
    with pytest.raises(ParameterError, match="^pages must be one or more different names out of gradient_imbalance"):
        guide.Guide(pages="world")


# ------------------------------------------------------------------------------------------------- the figures
def test_figures_draw_what_the_tables_hold(found):
    origin, value, loose = found["gap_origin"], found["gate_value"], found["escape"]
    gates, long = found["gate_degradation"].table, found["gate_degradation"].tables
    again = {"long": long["long"], "worth": long["looks"]}
    drawn = {
        "long": figures.long_runs(long["long"], long["looks"], rerun=again),
        "survey": figures.gap_survey(found["gradient_imbalance"].tables["survey"]),
        "shifts": figures.origin_shifts(origin.table),
        "angles": figures.angles(origin.tables["angles"]),
        "ways": figures.ways_to_act(origin.tables["across"]),
        "words": figures.from_words(from_words(found["gradient_imbalance"].tables["starts"])),
        "usage": figures.selection_usage(gates[gates["learner"] == "pool"], 8),
        "shots": figures.value_by_shots(value.tables["few"]),
        "bars": figures.intervention_looks(loose.table, ADAPTIVE),
        "worth": figures.intervention_worth(loose.table, NO_GAIN),
        "law": figures.escape_law(loose.tables["escapes"], loose.tables["law"]),
        "map": figures.escape_map(loose.table, loose.tables["boundary"], ADAPTIVE),
        "areas": figures.roc_areas(found["predictors"].tables["areas"], predictors.LABELS, TELLS),
    }
    written = {text.get_text() for text in drawn["survey"].axes[0].texts}
    assert {"−∞", "∞"} <= written and "-inf" not in drawn["survey"].get_label()
    legend = [text.get_text() for text in drawn["long"].legends[0].get_texts()]
    assert set(legend) == set(LONG) and len(drawn["long"].axes) == 4
    assert len(drawn["shifts"].axes) == len(gap_origin.INTERVENTIONS)
    names = [label.get_text() for label in drawn["bars"].axes[0].get_yticklabels()]
    assert set(names) == {times(name) for name in loose.table["intervention"] if not name.startswith("map ")}
    cells = [text.get_text() for text in drawn["map"].axes[0].texts]
    assert len(cells) == 4
    for figure in drawn.values():
        for axis in figure.axes:
            assert axis.get_xlabel() or axis.get_ylabel()


def test_the_guide_says_what_comes_out_alike_on_photographs(studies):
    judged = _judged({"escape.one": Outcome.HOLDS, "escape.two": Outcome.HOLDS, "predictors.a": Outcome.HOLDS})
    rules = pd.DataFrame(
        {"question": ["What helps?", "Beforehand?"], "findings": ["escape.one escape.two", "predictors.a"]}
    )
    assert guide.agreed(rules, judged).empty
    for there, said in (
        ({"escape.one": Outcome.HOLDS, "escape.two": Outcome.HOLDS}, "2 of 2 findings come out alike."),
        ({"escape.one": Outcome.HOLDS}, "1 of 2 findings come out alike, 1 was not asked."),
        (
            {"escape.one": Outcome.INCONCLUSIVE, "escape.two": Outcome.DOES_NOT_HOLD},
            "0 of 2 findings come out alike, 1 is open. 1 does not hold there: “it is so”.",
        ),
    ):
        rows = guide.agreed(rules, judged | {"escape_photo": _judged(there)["escape"]})
        assert set(rows["question"]) == {"What helps?"}, "nothing was measured of the other page"
        assert guide.on_photographs(rows) == said
