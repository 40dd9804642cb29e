"""The studies of what moves the gap, what revives a gate, and what tells beforehand, on tiny settings and data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lib.checks import ParameterError
from lib.results import Cell
from lib.verdicts import Claim, Findings, Outcome
from paper.criteria.prompts import ADAPTIVE, TELLS
from paper.evidence import File
from paper.figures import gates as figures
from paper.prediction import area, joint
from paper.studies import base, escape, gap_origin, guide, predictors
from paper.studies.base import Page, Result
from paper.studies.gate_degradation import LONG, GateDegradation
from paper.studies.gate_value import GateValue
from paper.studies.gradient_imbalance import GradientImbalance
from paper.tools import profiles
from paper.words.guide import RULES, Listing

TINY = dict(seeds=2, shots=1, test_size=12, device="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def studies(store) -> dict:
    """Every study that the guide draws on, as small as it gets."""
    few = dict(few_shots=(1, 2), few_tasks="texture", control_steps=2, control_batch=2)
    gates = dict(TINY, task="texture", steps=3, results=store)
    loose = dict(steps=4, looks=(1, 4), strengths=(0, 1), rates=(1, 100), interventions="all")
    return {
        "gradient_imbalance": GradientImbalance(**gates, learner="coop", gate="length"),
        "gap_origin": gap_origin.GapOrigin(**gates, learner="coop", gate="length", pictures=4),
        "gate_degradation": GateDegradation(
            **gates, learner="coop,pool", gate="length,soft,top_k,l2p,random", long_steps=3
        ),
        "gate_value": GateValue(**gates, learner="coop", gate="length", **few),
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
    assert ids == {"escape.published", "escape.adaptive.adam", "escape.law.later", "escape.law.proportional"}


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
    assert {"as published", "gate rate x 100", *escape.INTERVENTIONS} <= set(looks["intervention"])
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
    cells = predictors.outcomes(pd.DataFrame(rows))
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
    told = {escape.adaptive(name) for name in (escape.PUBLISHED, escape.TOLD)}
    assert known - told <= ids, "the listings too, but for the two gates that have claims of their own"


def test_what_is_listed_is_sorted_by_its_outcome(studies):
    judged = _judged(
        {
            escape.adaptive("Adam"): Outcome.HOLDS,
            escape.adaptive("hot gate"): Outcome.DOES_NOT_HOLD,
            escape.adaptive("cold gate"): Outcome.INCONCLUSIVE,
        }
    )
    works, fails = guide.rules(judged, studies)["sentence"]
    assert works.endswith(": Adam (1).") and "within 4 steps" in works
    assert fails.endswith(": hot gate (−1).")


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
    assert "gap_origin.perpendicular" in set(page.tables["rules"]["findings"])
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
        "angles": figures.angles(origin.tables["angles"], 128),
        "usage": figures.selection_usage(gates[gates["learner"] == "pool"], 8),
        "shots": figures.value_by_shots(value.tables["few"]),
        "bars": figures.intervention_bars(loose.table, ADAPTIVE),
        "law": figures.escape_law(loose.tables["escapes"], loose.tables["law"]),
        "map": figures.escape_map(loose.table, loose.tables["boundary"], ADAPTIVE),
        "areas": figures.roc_areas(found["predictors"].tables["areas"], {}, TELLS),
    }
    law = pd.DataFrame([dict(slope=0.8, intercept=1.0, scatter=0.2)])
    told = figures.forecast(law, gap=2.0, rate=10.0, steps=63).get_supxlabel().replace("\n", " ")
    # Behind by one decade: half leave at 10 ** 1.8 = 63 steps.
    assert "50 % of such gates have left after 63 steps" in told
    legend = [text.get_text() for text in drawn["long"].legends[0].get_texts()]
    assert set(legend) == set(LONG) and len(drawn["long"].axes) == 4
    assert len(drawn["shifts"].axes) == len(gap_origin.INTERVENTIONS)
    names = [label.get_text() for label in drawn["bars"].axes[0].get_yticklabels()]
    assert set(names) == {name for name in loose.table["intervention"] if not name.startswith("map ")}
    cells = [text.get_text() for text in drawn["map"].axes[0].texts]
    assert len(cells) == 4
    for figure in drawn.values():
        for axis in figure.axes:
            assert axis.get_xlabel() or axis.get_ylabel()
