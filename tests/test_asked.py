"""What a what-if says is what the figures above it show: the same task, seeds and aggregation."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest

from lib.checks import ParameterError
from paper.studies.base import Page, named, shown_on
from paper.studies.composed import Composed, allowed
from paper.studies.escape import Escape
from paper.studies.gradient_imbalance import LENGTHS, at_start
from paper.studies.operator import own
from paper.tools import profiles
from paper.whatif import Reading, beside
from paper.words import answers, asked


@functools.cache
def page_of(name: str) -> Page:
    """A page of the book with its evidence, and without a rerun."""
    one = profiles.evidence()[name]
    study = named(one.notebook)(**one.parameters)
    found = shown_on(name)
    assert found is not None, f"the evidence of {name} is not complete"
    return Page(study, found, study, found, {"stale": 0})


def numbers(readings) -> dict[str, float]:
    return {one.name: one.value for one in readings}


def test_the_gap_of_the_what_if_is_that_of_the_figure_at_the_top():
    page = page_of("gradient_imbalance")
    assert sorted(page.tables["asked"]["prompt_std"].unique()) == sorted(LENGTHS)
    figure = at_start(page.tables["gaps"])
    shown = asked.gap_at(page.tables, page.subject.prompt_std, 0.0)
    for column in ("gap", "prompt_norm", "alignment", "slope"):
        assert shown[column].mean() == pytest.approx(figure[column].mean(), abs=1e-3)
    (reading,) = asked.of_gap(shown)
    assert reading.value == pytest.approx(figure["gap"].mean(), abs=1e-3)


def test_graded_gates_are_those_of_the_map_and_of_the_larger_rates():
    page = page_of("escape")
    looks, graded = page.tables["looks"], page.tables["graded"]
    assert set(graded["step"]) <= set(looks["step"]) and set(graded["strength"]) <= set(looks["strength"])
    places = [
        *((strength, 1, "map sgd") for strength in graded["strength"].unique()),
        *((1, rate, f"gate rate x {rate:g}") for rate in graded["rate"].unique() if rate != 1),
    ]
    for (strength, rate, name), step in itertools.product(places, graded["step"].unique()):
        above = looks[(looks["intervention"] == name) & (looks["strength"] == strength) & (looks["step"] == step)]
        ends = asked.graded_at(page.tables, strength, step, rate)
        told = numbers(asked.of_graded(ends))
        worth = told["accuracy, gate as trained"] - told["gate held at its mean"]
        assert worth == pytest.approx(above["over_mean"].mean()), (name, strength, step)
        assert told["gap after the last step"] == pytest.approx(above["gap"].mean()), (name, strength, step)
        # The run behind the histogram is of the same trainings; a gate that is just leaving amplifies its rounding.
        again = graded[(graded["strength"] == strength) & (graded["rate"] == rate) & (graded["step"] == step)]
        off = again.set_index("seed")["gap"] - above.set_index("seed")["gap"]
        assert (off.abs() < 0.05).mean() >= 0.75, (name, strength, step)
        bins = ends[[column for column in ends if column.startswith("bin_")]]
        assert np.allclose(bins.sum(axis=1), 100, atol=1e-3)


def test_a_class_without_a_converter_is_the_strip_above():
    page = page_of("separation")
    summary = page.tables["summary"]
    strip = summary[(summary.network == "mlp") & (summary.perturbation == "stuck_at") & (summary.rule == "autograd")]
    severity = answers.severity_of(page.tables, "stuck_at", "middle")
    row = strip[strip.severity == severity].iloc[0]
    told = numbers(answers.of_hardware(page.tables, "stuck_at", "middle", "autograd", answers.NO_CONVERTER))
    assert told["recovery"] == pytest.approx(100 * row.recovery)
    assert told["variance: share of signal"] == pytest.approx(row.signal)
    assert told["accuracy after training"] == pytest.approx(100 * row.accuracy)
    # With a converter the same networks, seeds and steps; rounding may turn over a picture of the 599.
    alone = summary[summary.network == "mlp"].iloc[0]
    assert np.allclose(page.tables["converted"].clean, alone.clean, atol=1 / 599)
    assert set(page.tables["converted"].steps) == {alone.steps}


def test_what_was_not_measured_with_a_converter_is_refused_with_the_reason():
    page = page_of("separation")
    some = answers.converters(page.tables)[1]
    for perturbation, words in (("adc", "a converter itself"), ("ir_drop", "was not trained with a converter")):
        with pytest.raises(ParameterError, match=words):
            answers.of_hardware(page.tables, perturbation, "harsh", "autograd", some)
    with pytest.raises(ParameterError, match="two severities"):
        answers.severity_of(page.tables, "ir_drop", "middle")


def test_an_array_of_the_what_if_is_the_first_of_the_figure_above():
    page = page_of("operator")
    loss = page.tables["loss"]
    for kind, side, ohm in (("uniform", 16, 1.0), ("sparse", 32, 3.0)):
        here = loss[(loss.kind == kind) & (loss.side == side) & (loss.ohm == ohm)]
        fresh = 100 * own(ohm, ohm, side, kind).total_loss
        assert fresh == pytest.approx(here[here.seed == 0].loss.iloc[0], rel=1e-5)
        told = answers.of_wires(page.tables, kind, side, ohm, fresh)
        assert [one.value for one in told] == pytest.approx([fresh, here.loss.mean()])
        assert told[1].low <= told[1].value <= told[1].high


@pytest.mark.parametrize("name", ["perturbation_adc", "perturbation_stuck_at"])
def test_a_severity_of_the_what_if_has_the_bars_of_the_figure_above(name):
    page = page_of(name)
    accuracy = page.tables["accuracy"]
    severity = page.subject.severities[2]
    here = accuracy[accuracy.severity == severity]
    told = numbers(answers.of_severity(page.tables, severity, "straight_through"))
    for label, rule in (("accuracy, never trained for it", "unaware"), ("accuracy after training", "straight_through")):
        assert told[label] == pytest.approx(100 * here[here.rule == rule].accuracy.mean())


def test_the_evidence_stands_beside_a_live_run_where_it_has_the_setting():
    page = page_of("perturbation_adc")
    severity, steps = page.subject.severities[1], page.subject.start()["steps"]
    known = answers.attempt_known(page, severity, "autograd", steps)
    runs = page.tables["accuracy"]
    expected = 100 * runs[(runs.severity == severity) & (runs.rule == "autograd")].accuracy.mean()
    assert known[-1].value == pytest.approx(expected) and known[-1].low <= expected <= known[-1].high
    for given in ((7.0, "autograd", steps), (severity, "autograd", steps - 10)):
        told = answers.attempt_known(page, *given)
        assert isinstance(told, str) and told.startswith("The evidence has nothing for this setting: ")


def test_the_evidence_of_a_gap_a_mixture_and_an_array():
    page = page_of("gradient_imbalance")
    (known,) = asked.gap_known(page, "coop", "length", "coarse", page.subject.prompt_std, 0.0)
    survey = page.tables["survey"]
    here = survey[(survey["learner"] == "coop") & (survey["gate"] == "length") & (survey["task"] == "coarse")]
    assert known.value == pytest.approx(here["gap"].mean())
    assert "a bias of 0" in asked.gap_known(page, "coop", "length", "coarse", page.subject.prompt_std, 2.0)
    page = page_of("composed")
    runs, steps = page.tables["accuracy"], page.subject.start(most=100)["steps"]
    known = answers.mixture_known(page, ["drift", "read_noise"], "autograd", steps)
    parts = runs[runs.parts == answers.label(("read_noise", "drift"))]
    assert known[-1].value == pytest.approx(100 * parts[parts.rule == "autograd"].accuracy.mean())
    page = page_of("operator")
    (known,) = answers.wires_known(page, "uniform", 32, 3.0, 3.0)
    loss = page.tables["loss"]
    here = loss[(loss.kind == "uniform") & (loss.side == 32) & (loss.ohm == 3.0)]
    assert known.value == pytest.approx(here.loss.mean())
    assert isinstance(answers.wires_known(page, "uniform", 32, 3.0, 1.0), str)


def test_what_cannot_be_together_is_refused_before_it_is_run():
    with pytest.raises(ParameterError, match="must have a partner"):
        asked.gap_allowed("coop", "soft", task="coarse")
    asked.gap_allowed("pool", "soft", task="coarse")
    study = Composed()
    with pytest.raises(ParameterError, match="staircase without an adc"):
        allowed(study, ("drift",), "staircase")
    with pytest.raises(ParameterError):
        allowed(study, ())
    allowed(study, ("drift", "adc"), "staircase")


def test_a_study_without_the_what_if_trains_nothing_for_it():
    assert not Escape().graded_cells() and Escape(graded_rates=[3]).graded_steps() == [100, 400]
    assert len(Escape(graded_rates=[3], strengths=[0, 1]).graded_cells()) == 4


def test_a_reading_says_its_number_and_where_it_lies():
    one = Reading("loss", 25.0, 20.0, 40.0, "%")
    assert one.text == "25 [20, 40] %" and one.bar() == [25.0, 20.0, 40.0]
    assert Reading("loss", 250.0, unit="%").bar() == [100.0, 100.0, 100.0]
    none = Reading("recovery", math.nan, why="nothing is lost")
    assert none.text == "nothing is lost" and none.bar() == []
    table = beside([one], [Reading("loss", 30.0, unit="%")])
    assert "25 [20, 40] %" in table and "30 %" in table and "evidence" in table
    assert "no such <setting>".replace("<", "&lt;").replace(">", "&gt;") in beside([one], "no such <setting>")
