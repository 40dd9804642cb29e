"""The fair trial of the separation: severities that cost what they say, verdicts by hand, predictors against loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from lib import gradients
from lib.checks import ParameterError
from lib.verdicts import Outcome
from paper import trial
from paper.families import FAMILIES, KINDS, SIX
from paper.figures import hardware_trial as figures
from paper.figures import style
from paper.prediction import area, balanced, conjunction, drawn_again
from paper.studies import hardware_trial as study
from paper.studies.hardware_trial import HardwareTrial
from paper.tools import profiles
from paper.words import hardware_trial as words

SITE = {"root": "", "device": "cpu"}
RECIPE = {"network": "mlp", "data": "digits", "batch": 32, "converge": 150, "steps": 16}
TINY = {
    "recipe": RECIPE,
    "pictures": "",
    "seeds": [0, 1],
    "chips": 3,
    "gradients": 4,
    "levels": ["30 %"],
    "published": None,
}


# ------------------------------------------------------------------------------------------------- families


def test_families_are_many_and_differ_in_more_than_severity():
    assert len(FAMILIES) >= 15 and tuple(FAMILIES)[: len(SIX)] == SIX
    laws = [(one.name, str(one.options), one.copies) for one in FAMILIES.values()]
    assert len(set(laws)) == len(laws)
    for one in FAMILIES.values():
        physics = one.physics()
        name = next(key for key, value in FAMILIES.items() if value is one)
        for severity in (one.mild, one.harsh, *filter(None, [study.harshest(name)])):
            physics.check(severity)
        assert one.kind in KINDS and (one.kind == "deterministic") == (not physics.random)
    kinds = {name: one.kind for name, one in FAMILIES.items()}
    assert kinds["read_noise"] == "read" and kinds["stuck_at"] == kinds["variability_copies"] == "chip"
    assert kinds["pcm"] == "chip and read" and kinds["adc"] == kinds["ir_drop_tiles"] == "deterministic"


def test_a_scale_is_given_where_a_family_has_none():
    assert FAMILIES["variability"].physics("detached").scale == "detached"
    assert FAMILIES["variability_columns"].physics("detached").scale == "column"
    assert FAMILIES["variability_copies"].physics("detached").scale == "detached"
    assert not study.sensible("variability_columns", "detached") and study.sensible("variability", "detached")


# ------------------------------------------------------------------------------------------------- severities


def test_a_crossing_lies_between_two_severities_on_a_logarithmic_scale():
    severities, lost = np.array([1.0, 100.0, 1000.0]), np.array([0.0, 0.2, 0.1])
    assert trial.crossing(severities, lost, 0.1) == pytest.approx(10)
    assert trial.crossing(severities, lost, 0.2) == pytest.approx(100)
    assert math.isnan(trial.crossing(severities, lost, 0.3)) and trial.crossing(severities, lost, -1) == 1


def test_severities_cost_networks_of_other_seeds_what_their_level_says():
    recipe = trial.Recipe(**RECIPE, root="")
    found = trial.severities(recipe, "read_noise", "cpu")
    assert list(found) == ["10 %", "30 %", "60 %", "85 %"]
    values = list(found.values())
    assert values == sorted(values) and all(value == trial.rounded(value) for value in values)
    base = trial.ground(recipe, trial.OTHERS, "cpu")
    lost = trial.damage_of(base, FAMILIES["read_noise"].physics(), values)
    assert lost == pytest.approx(list(trial.LEVELS), abs=0.06)
    bits = trial.severities(recipe, "adc", "cpu")
    own = list(bits.values())
    assert all(value == int(value) for value in own) and len(set(own)) == len(own)


def test_validation_pictures_are_no_training_and_no_test_pictures():
    train, validation = trial.split("digits", "")
    rows = [{one.numpy().tobytes() for one in part} for part in (train.x, train.test_x, validation.test_x)]
    assert not rows[0] & rows[2] and not rows[1] & rows[2]
    assert torch.equal(train.x, validation.x) and len(train.x) + len(validation.test_x) == 1198


# --------------------------------------------------------------------------------------------------- training


def test_falling_is_the_share_of_the_last_quarter():
    straight = np.linspace(8, 0, 9)
    assert trial.falling(straight) == pytest.approx(2 / 8)
    assert trial.falling(np.array([4.0, 2, 1, 1, 1, 1, 1, 1])) == 0
    # A loss that hardly moves is not said to fall by chance.
    assert trial.falling(np.array([1.0, 1, 1, 1, 1, 1.02, 1, 0.99])) == pytest.approx(0.06)
    both = np.stack([straight[1:], straight[1:] * 2], 1)
    assert trial.falling(both) == pytest.approx([2 / 7, 2 / 7])


def test_a_seed_gives_the_same_numbers_alone_and_beside_others():
    one = {**TINY, "family": "variability", "arm": "autograd", "rates": [0.01], "end": False}
    both = trial.trial(one, SITE)["accuracy"]
    alone = trial.trial({**one, "seeds": [1]}, SITE)["accuracy"]
    pd.testing.assert_frame_equal(both[both.seed == 1].reset_index(drop=True), alone, rtol=1e-3)
    assert (both.rate == 0.01).all() and set(both.level) == {"30 %"}


def test_the_rate_is_the_best_on_validation_pictures_of_other_seeds():
    one = {**TINY, "family": "variability", "arm": "autograd", "rates": [1e-6, 0.01], "end": False}
    found = trial.trial(one, SITE)
    rates = found["rates"]
    assert found["accuracy"].rate.unique().tolist() == [rates.rate[rates.validation.idxmax()]]
    assert trial.middle([1, 2, 3, 4]) == 2 and trial.middle([1, 2, 3]) == 2 and trial.middle([5]) == 5
    assert not set(trial.OTHERS) & set(range(1000))


def test_the_free_measure_is_one_of_those_tried():
    found = trial.free({**TINY, "family": "variability"}, SITE)["free"]
    for _, row in found.iterrows():
        assert row.free == row[row.clipped_at]
    assert (found.clean > found.unaware).all()


# ------------------------------------------------------------------------------------------------- diagnoses


def test_disjoint_cosines_are_those_of_the_means():
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(300, generator=generator)
    other = torch.randn(300, generator=generator)
    clear = [base + 0.05 * torch.randn(12, 300, generator=generator) for base in (direction, direction + other)]
    expected = gradients.cosine(direction, direction + other)
    assert trial.disjoint_cosine(*clear) == pytest.approx(expected, abs=0.01)
    noise = 30 * torch.randn(12, 300, generator=generator)
    assert math.isnan(trial.disjoint_cosine(noise, clear[0])) and not trial.known(noise)
    still = direction.expand(2, -1)
    assert trial.known(still) and trial.disjoint_cosine(still, still) == pytest.approx(1)
    assert not trial.known(torch.zeros(2, 300))


def test_a_mild_distortion_reads_like_none():
    base = trial.ground(trial.Recipe(**RECIPE, root=""), (0, 1), "cpu")
    found = trial.readings(base, base.fork, FAMILIES["programming"], ("autograd", "straight_through"), [0.01], 6)
    for name, tolerance in {"cosine": 0.02, "truth": 0.05, "gain": 0.05, "size": 0.05, "signal": 0.05}.items():
        assert found[name].to_numpy() == pytest.approx(1, abs=tolerance), name
    assert (found.output < 0.05).all() and (found.rise.abs() < 0.02).all() and (found.minibatch < 0.1).all()
    assert found.replica.tolist() == [0, 1, 0, 1]
    dead = trial.readings(base, base.fork, FAMILIES["adc"], ("autograd",), [3.0], 4)
    assert (dead[["live", "size", "signal", "truth"]] == 0).all(axis=None)


# ------------------------------------------------------------------------------------------------- prediction


def test_areas_drawn_again():
    score, label = np.array([0.1, 0.4, 0.35, 0.8, 0.9, 0.2]), np.array([0, 0, 1, 1, 1, 0], dtype=bool)
    value, (low, high) = drawn_again(score, label, np.array([0, 0, 1, 1, 2, 2]))
    assert value == area(score, label)
    # A draw of the first unit or the second alone has no duel: too many draws have none.
    assert math.isnan(low) and math.isnan(high)
    many = np.repeat(np.arange(12), 2)
    sides = np.tile([False, True], 12)
    value, (low, high) = drawn_again(np.tile([0.0, 1.0], 12), sides, many)
    assert value == low == high == 1
    noise = np.random.default_rng(0).normal(size=24)
    value, (low, high) = drawn_again(noise, sides, many)
    assert low < value < high
    assert drawn_again(noise, sides, many, rival=noise) == (0, (0, 0))
    # Rows without the score are not held against it by its rival either.
    part = np.where(np.arange(24) < 6, np.nan, noise)
    value, _ = drawn_again(part, sides, many, rival=np.tile([0.0, 1.0], 12))
    assert value == pytest.approx(area(noise[6:], sides[6:]) - 1)


def test_all_conditions_against_a_plain_loop():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(40, 2))
    label = (scores[:, 0] > 0.2) & (scores[:, 1] > -0.3)
    group = np.repeat(["a", "b", "c", "d"], 10)
    said = conjunction(scores, label, group, options=7)
    for name in "abcd":
        mine = group == name
        known, truth_ = scores[~mine], label[~mine]
        grids = [[None, *np.quantile(column, np.linspace(0, 1, 9)[1:-1])] for column in known.T]
        best, worth = (), -1.0
        for picked in itertools.product(*grids):
            yes = np.array([all(b is None or v > b for v, b in zip(row, picked, strict=True)) for row in known])
            if (value := balanced(yes, truth_)) > worth + 1e-12:
                best, worth = picked, value
        expected = [all(b is None or v > b for v, b in zip(row, best, strict=True)) for row in scores[mine]]
        assert said[mine].tolist() == expected
    assert balanced(said, label) > 0.8
    # What is not known meets no condition that asks for anything.
    scores[0] = np.nan
    assert not conjunction(scores, label, group)[0]


def test_the_share_between_groups():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 6)
    noise = rng.normal(size=120)
    assert study.between(np.repeat(rng.normal(size=20), 6), group) == pytest.approx(1)
    assert abs(study.between(noise, group)) < 0.15
    mixed = np.repeat(rng.normal(size=20), 6) + noise
    assert 0.2 < study.between(mixed, group) < 0.8
    assert math.isnan(study.between(noise[:20], np.arange(20)))
    assert math.isnan(study.between(np.ones(120), group))


def test_what_others_say_leaves_the_own_out():
    table = pd.DataFrame(
        {"kind": ["x", "x", "x", "y"], "family": ["a", "a", "b", "c"], "label": [True, False, True, True]}
    )
    found = study._others(table, ["kind"], "family")
    assert found[:3].tolist() == [1.0, 1.0, 0.5] and math.isnan(found[3])


# --------------------------------------------------------------------------------------------------- verdicts


def made(unaware: float, free: float, arms: dict[str, float], *, falling: float = 0.0, first: float | None = None):
    """Runs of one case over four seeds, clean 0.95."""
    rows = []
    looks = {f"look_{i}": 1.0 for i in range(trial.LOOKS)} | {"look_0": 2.0}
    looks |= {f"look_{i}": 1.0 + falling for i in range(1, trial.LOOKS - 1)}
    base = {"network": "mlp", "family": "variability", "level": "30 %", "severity": 0.1, "kind": "chip"}
    for arm, accuracy in arms.items():
        for seed in range(4):
            shift = 0.002 * (seed - 1.5)
            rows.append(
                {
                    **base,
                    "arm": arm,
                    "seed": seed,
                    "clean": 0.95,
                    "unaware": unaware + shift,
                    "clip_2": free + shift,
                    "free": free + shift,
                    "clipped_at": "clip_2",
                    "first": unaware if first is None else first,
                    "accuracy": accuracy - shift,
                    "validation": accuracy,
                    "low": accuracy,
                    "rate": 0.01,
                    "falling": falling,
                    "moved": 0.0 if arm == "dead" else 0.3,
                    **looks,
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (made(0.93, 0.93, {"autograd": 0.94}), "slight"),
        (made(0.70, 0.945, {"autograd": 0.90}), "needs no gradient"),
        (made(0.50, 0.60, {"autograd": 0.90}), "compensated"),
        (made(0.50, 0.60, {"autograd": 0.65, "long": 0.92}), "gradient fails"),
        (made(0.50, 0.60, {"autograd": 0.65, "long": 0.66}), "nothing to win"),
        (made(0.50, 0.60, {"autograd": 0.65, "known": 0.94}), "needs the chip"),
        (made(0.50, 0.60, {"autograd": 0.65, "known": 0.55}), "nothing to win"),
        (made(0.50, 0.60, {"autograd": 0.65, "long": 0.92}, falling=0.5), "not converged"),
        # What is compensated need not have converged.
        (made(0.50, 0.60, {"autograd": 0.90}, falling=0.5), "compensated"),
    ],
)
def test_verdicts(given, verdict):
    one = study.cases(given).set_index("arm").loc["autograd"]
    assert one.verdict == verdict and verdict in study.VERDICTS
    assert one.counted == (verdict not in ("slight", "needs no gradient", "not converged"))
    assert one.side == (verdict in ("compensated",) or (verdict == "slight" and one.over >= 0.5))


def test_what_has_no_gradient_is_a_control_and_does_not_count():
    found = study.cases(made(0.50, 0.50, {"autograd": 0.9, "dead": 0.5})).set_index("arm").loc["dead"]
    assert found.verdict == "no gradient" and not found.counted


def test_shares_of_a_case_by_hand():
    one = study.cases(made(0.50, 0.60, {"autograd": 0.77, "long": 0.86})).set_index("arm").loc["autograd"]
    assert one.recovery == pytest.approx(0.27 / 0.45) and one.free_part == pytest.approx(0.10 / 0.45)
    assert one.over == pytest.approx(0.17 / 0.35) and one.of_ceiling == pytest.approx(0.27 / 0.36)
    assert one.ceiling_arm == "long" and one.ceiling == pytest.approx(0.86)
    assert one.recovery_low < one.recovery < one.recovery_high


# ------------------------------------------------------------------------------------------------------ study


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"families": ["noise"]}, "families must be one or more"),
        ({"arms": ["magic"]}, "arms must be one or more"),
        ({"arms": ["long"]}, "arms must be one or more"),
        ({"networks": ["resnet"]}, "networks must be smaller than a resnet for digits, but 'resnet' was given."),
        ({"rates": [0]}, "rates must be"),
        ({"steps": 3}, "steps must be an integer from 8"),
        ({"gradients": 2}, "gradients must be"),
    ],
)
def test_bad_parameters_are_refused(given, sentence):
    with pytest.raises(ParameterError) as refused:
        HardwareTrial(**given)
    assert str(refused.value).startswith(sentence) and str(refused.value).endswith(" was given.")


def test_the_rerun_is_a_part_of_the_evidence():
    page = profiles.evidence()["hardware_trial"]
    whole = HardwareTrial(**page.parameters)
    assert HardwareTrial()._covered(whole)
    cells = whole.cells()
    assert len(set(cells)) == len(cells)
    steps = {cell.config["recipe"]["steps"] for cell in cells}
    assert len(steps) == 1, "every family is trained for as many steps"
    seeds = {seed for cell in cells for seed in cell.config["seeds"]}
    assert not seeds & set(trial.OTHERS)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    small = {"steps": 8, "seeds": 2, "chips": 2, "gradients": 4, "rates": [0.01], "device": "cpu"}
    families = ["variability", "stuck_at", "adc"]
    arms = ["autograd", "noise_injection"]
    place = str(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(study.SCHEDULES, "mlp", (32, 80))
        return HardwareTrial(families=families, arms=arms, extras="long,known", results=place, **small).run()


def test_a_small_trial_says_something_of_everything(result):
    tables = result.tables
    assert set(tables["cases"].arm) == {"autograd", "noise_injection", "long"}
    assert tables["cases"].verdict.isin(study.VERDICTS).all()
    cases = tables["cases"]
    assert not cases[(cases.family == "adc") & (cases.arm == "autograd") & cases.counted].side.any()
    assert any("nothing moved" in one for one in result.remarks)
    areas = tables["areas"]
    assert set(areas.rule) <= {"autograd", "noise_injection", study.POOLED}
    assert areas.area.dropna().between(0, 1).all()
    # Each rule by itself, by a plain loop over pairs.
    own = tables["scored"][tables["scored"].arm == "autograd"]
    pairs = [(a, b) for a in own[own.label].itertuples() for b in own[~own.label].itertuples()]
    if pairs:
        won = np.mean([(a.damage > b.damage) + 0.5 * (a.damage == b.damage) for a, b in pairs])
        row = areas[(areas.rule == "autograd") & (areas.scope == "all") & (areas.predictor == "damage")].iloc[0]
        assert row.area == pytest.approx(won)
    assert {one.outcome for one in result.findings} <= set(Outcome)


def test_figures_and_words_of_a_small_trial(result):
    tables = result.tables
    for drawn in (
        figures.phases(tables["cases"], rerun=tables["cases"]),
        figures.forest(tables["areas"], rerun=tables["areas"]),
        figures.curves(tables["runs"], network="mlp"),
        figures.beyond(tables["cases"], network="mlp", rerun=tables["cases"]),
    ):
        assert style.png(drawn)
    said = [
        words.answer(tables, result.findings),
        words.line(tables, result.findings),
        words.recipe(result.findings),
        words.telling(tables, result.findings),
        words.conditional(result.findings),
        words.counted(tables),
        words.longest(tables),
    ]
    assert not any("nan" in one.lower().split() for one in said) and "compensated" in said[0].lower()
    for table in (words.start, words.grid, words.verdicts, words.sides, words.told, words.inside, words.rate_table):
        assert isinstance(table(tables), pd.DataFrame)


def test_sentences_change_with_their_findings(result):
    def decided(outcome):
        from dataclasses import replace

        from lib.verdicts import Findings

        return Findings(replace(one, outcome=outcome) for one in result.findings)

    several = [words.line(result.tables, decided(one)) for one in Outcome]
    assert len(set(several)) == len(several)


def test_counts_of_verdicts_have_verbs_that_fit_and_stand_by_network():
    rows = [("mlp", "autograd", "gradient fails")] * 3 + [("mlp", "autograd", "needs the chip")]
    rows += [("cnn", "noise_injection", "compensated")] * 2
    cases = pd.DataFrame(rows, columns=["network", "arm", "verdict"])
    said = words._of_rule(cases, "autograd")
    assert said == "Vanilla training: of 4 cases in 3 the gradient fails, 1 needs the chip."
    table = words.verdicts({"cases": cases}).set_index("verdict")
    assert table.index.tolist() == ["compensated", "gradient fails", "needs the chip"]
    assert table.loc["compensated"].tolist() == ["0 / 0", "0 / 2"] and table.loc["gradient fails", "mlp"] == "3 / 0"
    assert words.verdicts_of({"cases": cases}).endswith("vanilla training / noise injection")
