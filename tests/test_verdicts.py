"""Findings: intervals that cover, outcomes that follow from them, and lines without measured numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lib import verdicts
from lib.checks import ParameterError
from lib.verdicts import Claim, Finding, Findings, Outcome, Threshold, Verdict

number = st.floats(-1e6, 1e6)


def test_the_interval_of_many_samples_is_the_textbook_one():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    expected = stats.t.interval(0.95, 399, values.mean(), values.std(ddof=1) / 20)
    np.testing.assert_allclose(verdicts.bootstrap(values, resamples=20_000), expected, atol=0.02)
    found = stats.bootstrap((values,), np.median, method="percentile", n_resamples=9999, rng=1)
    np.testing.assert_allclose(verdicts.bootstrap(values, np.median), found.confidence_interval, atol=0.03)


@pytest.mark.parametrize(("count", "at_least"), [(5, 0.88), (10, 0.89), (30, 0.90)])
def test_the_interval_covers_the_mean_even_for_few_samples(count, at_least):
    generator = np.random.default_rng(1)
    covered = []
    for repetition in range(500):
        low, high = verdicts.bootstrap(generator.normal(size=count), seed=repetition, resamples=1000)
        covered.append(low <= 0 <= high)
    assert np.mean(covered) > at_least


def test_bootstrap_is_repeatable_and_in_portions_the_same_shape(monkeypatch):
    values = np.arange(10.0)
    assert verdicts.bootstrap(values) == verdicts.bootstrap(values)
    whole = verdicts.bootstrap(values)
    monkeypatch.setattr(verdicts, "_PORTION", 50)
    np.testing.assert_allclose(verdicts.bootstrap(values), whole, atol=1e-12)


def test_bootstrap_takes_a_statistic_without_axis():
    values = np.random.default_rng(2).normal(size=50)
    assert verdicts.bootstrap(values, lambda row: float(np.mean(row)), resamples=300) == pytest.approx(
        verdicts.bootstrap(values, resamples=300)
    )


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_bootstrap_without_information_is_nan(values):
    assert all(math.isnan(end) for end in verdicts.bootstrap(values))


@given(number, number, number, st.sampled_from([">", "<", ">=", "<="]))
def test_the_outcome_follows_from_the_whole_interval(first, second, threshold, relation):
    low, high = sorted((first, second))
    finding = verdicts.judge_value("claim", low, (low, high), relation, threshold)
    inside = [eval(f"{end!r} {relation} {threshold!r}") for end in (low, high)]  # noqa: S307
    expected = {2: Outcome.HOLDS, 1: Outcome.INCONCLUSIVE, 0: Outcome.DOES_NOT_HOLD}[sum(inside)]
    assert finding.outcome is expected


def test_nothing_follows_from_nan():
    for value, interval, threshold in [
        (math.nan, (1, 2), 0),
        (1, (math.nan, 2), 0),
        (1, (1, math.nan), 0),
        (1, (1, 2), math.nan),
    ]:
        assert verdicts.judge_value("c", value, interval, ">", threshold).outcome is Outcome.INCONCLUSIVE


def test_infinite_ends_are_compared():
    assert verdicts.judge_value("c", math.inf, (20, math.inf), ">", 10).outcome is Outcome.HOLDS
    assert verdicts.judge_value("c", 20, (5, math.inf), ">", 10).outcome is Outcome.INCONCLUSIVE


def test_judge_on_samples():
    values = np.random.default_rng(3).normal(2.6, 0.1, size=5)
    holds = verdicts.judge("the gap exceeds two decades", values, ">", 2, unit="decades")
    assert holds.outcome is Outcome.HOLDS
    assert holds.value == pytest.approx(values.mean())
    assert holds.interval[0] <= holds.value <= holds.interval[1]
    assert str(holds) == "holds | the gap exceeds two decades | mean > 2 decades"
    assert verdicts.judge("c", values, "<", 2).outcome is Outcome.DOES_NOT_HOLD
    assert verdicts.judge("c", values, ">", float(values.mean())).outcome is Outcome.INCONCLUSIVE
    worst = verdicts.judge("c", values, ">", 0, statistic=np.min, name="smallest")
    assert worst.value == values.min() and worst.criterion == "smallest > 0"


@pytest.mark.parametrize("samples", [[], [5.0], [5.0, math.nan]])
def test_too_few_samples_are_inconclusive(samples):
    assert verdicts.judge("c", samples, ">", 0).outcome is Outcome.INCONCLUSIVE


def test_an_unknown_relation_is_refused():
    with pytest.raises(ParameterError, match="relation must be one of >, <, >=, <=, but '==' was given."):
        verdicts.judge("c", [1, 2], "==", 0)


def example() -> Findings:
    return Findings(
        [
            Finding("gates <collapse>", "mean > 2 decades", 2.6181, (2.5, 2.7), Outcome.HOLDS, "decades"),
            Finding("gates help", "mean > 0 points", -0.123456, (-1.0, math.inf), Outcome.INCONCLUSIVE, "points"),
            Finding("gates differ", "ratio < 1", math.nan, (math.nan, math.nan), Outcome.DOES_NOT_HOLD),
        ]
    )


def test_findings_print_without_measured_numbers():
    expected = (
        "holds | gates <collapse> | mean > 2 decades\n"
        "inconclusive | gates help | mean > 0 points\n"
        "does not hold | gates differ | ratio < 1"
    )
    assert str(example()) == repr(example()) == expected


def test_findings_in_a_notebook_show_the_same_lines():
    from IPython.core.formatters import PlainTextFormatter

    assert PlainTextFormatter()(example()) == str(example())


def test_findings_as_a_table():
    table = example().table()
    assert set(table.columns) >= {
        "id",
        "family",
        "claim",
        "criterion",
        "value",
        "low",
        "high",
        "unit",
        "outcome",
        "since",
    }
    assert table["outcome"].tolist() == ["holds", "inconclusive", "does not hold"]
    assert table["value"][0] == 2.6181 and table["low"][1] == -1
    assert len(Findings().table()) == 0 and str(Findings()) == ""


def test_a_verdict_says_why_and_what_to_do():
    verdict = Verdict("collapsed", ("it is constant", "nothing to gain"), "drop the gate")
    assert str(verdict).splitlines() == [
        "collapsed",
        "  because it is constant",
        "  because nothing to gain",
        "  advice: drop the gate",
    ]


MARGIN = Threshold(1.0, "abc1234", "def5678")


def claim(key: str, samples, threshold: float = MARGIN, **more) -> Claim:
    return Claim(key, f"the gate is worth {key}", samples, ">", threshold, "page", unit="points", **more)


def test_claims_become_findings_that_know_where_their_criterion_comes_from():
    found = Findings.of([claim("page.much", [2, 3, 4, 2.5]), claim("page.little", [0.1, 0.2, 0.1, 0.2], 0.5)])
    first, second = found
    assert (first.outcome, second.outcome) == (Outcome.HOLDS, Outcome.DOES_NOT_HOLD)
    assert (first.id, first.family, first.since, first.changed) == ("page.much", "page", "abc1234", "def5678")
    assert first.criterion == "mean > 1 points" and first.value == pytest.approx(2.875)
    assert (second.since, second.changed) == ("", ""), "a plain number has no history"
    assert found.get("page.little") is second and found.get("page.none") is None


def test_a_measured_value_with_its_interval_needs_no_samples():
    (found,) = Findings.of([claim("page.slope", [], 0.8, measured=(1.0, (0.9, 1.1)), name="slope")])
    assert found.outcome is Outcome.HOLDS and found.criterion == "slope > 0.8 points"


def test_two_claims_with_one_id_are_refused():
    with pytest.raises(ParameterError, match="claims must have different ids, but 'page.a' was given twice"):
        Findings.of([claim("page.a", [1, 2]), claim("page.a", [1, 2])])


def test_a_threshold_is_a_number_with_a_history():
    margin = Threshold(2.0, "abc1234")
    assert margin == 2 and 100 * margin == 200 and f"{margin:g}" == "2"
    assert (margin.since, margin.changed) == ("abc1234", "")
