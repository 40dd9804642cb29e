"""Findings: intervals that cover, outcomes that follow from them, and lines without measured numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
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
    with pytest.raises(ParameterError, match="relation must be one of >, <, >=, <=, within, but '==' was given."):
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


# ------------------------------------------------------------------------------------------- equivalence and power
@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        ((-0.9, 0.9), Outcome.HOLDS),
        ((-0.9, 1.1), Outcome.INCONCLUSIVE),
        ((-1.2, 1.2), Outcome.INCONCLUSIVE),
        ((1.1, 2.0), Outcome.DOES_NOT_HOLD),
        ((-2.0, -1.1), Outcome.DOES_NOT_HOLD),
        ((0.0, 1.0), Outcome.INCONCLUSIVE),
    ],
)
def test_equivalence_needs_the_whole_interval_between_the_margins(interval, outcome):
    found = verdicts.judge_value("c", sum(interval) / 2, interval, "within", 1, unit="points")
    assert found.outcome is outcome and found.criterion == "value within ±1 points"
    assert (found.p < 0.05) == (outcome is not Outcome.INCONCLUSIVE)


LUCKY = [0, 0.8, 0, 0, 0]


@pytest.mark.parametrize(("relation", "said"), [(">", "does not hold"), ("<", "holds"), ("within", "holds")])
def test_five_seeds_do_not_exclude_what_one_in_five_has(relation, said):
    found = {
        rare: Claim("c", "the gate gains", LUCKY, relation, 2, "page", rare=rare).judged() for rare in (0, 0.2, 0.5)
    }
    assert [str(one.outcome) for one in found.values()] == [said, "inconclusive", said]
    assert found[0.2].note == "5 seeds would miss what one in 5 has"
    eight = Claim("c", "the gate gains", [*LUCKY, 0, 0, 0], relation, 2, "page", rare=0.2).judged()
    assert str(eight.outcome) == said, "eight seeds meet one in five with a chance of 83 %"


def test_an_effect_that_was_seen_needs_no_power():
    assert Claim("c", "the gate gains", [9, 9.5, 9.2], ">", 2, "page", rare=0.2).judged().outcome is Outcome.HOLDS


def test_what_a_fifth_of_the_seeds_has_is_denied_only_where_no_seed_had_it():
    """A fifth of the seeds escapes and is worth 45 points: nine on average, with two as the criterion."""
    generator, said = np.random.default_rng(5), {"mean of 5": [], "mean of 8": [], "share of 8": []}
    for _ in range(400):
        escaped = generator.random(8) < 0.2
        worth = np.where(escaped, 45.0, 0.0) + generator.normal(0, 0.3, 8)
        claims = [
            Claim("mean of 5", "gains", worth[:5], ">", 2, "f", rare=0.2),
            Claim("mean of 8", "gains", worth, ">", 2, "f", rare=0.2),
            Claim("share of 8", "some escape", escaped, ">", 0.05, "f", exact=True),
        ]
        for one in Findings.of(claims):
            said[one.id].append(one.outcome is Outcome.DOES_NOT_HOLD)
    assert np.mean(said["mean of 5"]) == np.mean(said["share of 8"]) == 0
    assert np.mean(said["mean of 8"]) < 0.8**8 + 0.05


# ------------------------------------------------------------------------------------------------ all or nothing
@pytest.mark.parametrize("count", [1, 5, 8])
def test_the_exact_interval_covers_every_share(count):
    """By enumeration: of all outcomes together those count whose interval has the share."""
    for share in np.linspace(0.01, 0.99, 50):
        covered = [low <= share <= high for low, high in (verdicts.exact_interval(k, count) for k in range(count + 1))]
        assert stats.binom.pmf(np.arange(count + 1), count, share)[covered].sum() >= 0.95


@settings(deadline=None)
@given(st.integers(1, 12), st.data(), st.floats(0, 1))
def test_exact_numbers_are_those_of_a_second_implementation(count, data, share):
    hits = data.draw(st.integers(0, count))
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose(verdicts.exact_interval(hits, count), expected, atol=1e-9)
    tails = [stats.binomtest(hits, count, share, alternative=side).pvalue for side in ("less", "greater")]
    assert verdicts.exact_p(hits, count, share) == pytest.approx(min(1, 2 * min(tails)), abs=1e-9)


@pytest.mark.parametrize(
    ("samples", "outcome"),
    [
        ([True] * 8, "holds"),
        ([True] * 5, "inconclusive"),
        ([False] * 7 + [True], "inconclusive"),
        ([0] * 8, "does not hold"),
    ],
)
def test_a_claim_about_most_seeds(samples, outcome):
    found = Claim("c", "most seeds escape", samples, ">", 0.5, "page", exact=True).judged()
    assert (str(found.outcome), found.criterion) == (outcome, "share > 0.5") and found.value == np.mean(samples)


def test_what_is_not_a_truth_value_has_no_share():
    with pytest.raises(ParameterError, match="truth values, but .*0.5"):
        verdicts.judge_share("c", [0.5, 1], ">", 0.5)
    found = verdicts.judge_share("c", [1, math.nan], ">", 0.5)
    assert (found.outcome, found.note) == (Outcome.INCONCLUSIVE, "1 of 2 values are not finite")
    assert verdicts.judge_share("c", [], ">", 0.5).note == "nothing was measured"


# ------------------------------------------------------------------------------------------------------ p and Holm
@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=9),
    st.floats(-100, 100),
    st.sampled_from([">", "<", ">=", "<=", "within"]),
)
def test_p_is_below_a_twentieth_exactly_where_the_interval_decides(samples, threshold, relation):
    found = verdicts.judge("c", samples, relation, threshold)
    assert (found.p < 0.05) == (found.outcome is not Outcome.INCONCLUSIVE) and 0 <= found.p <= 1


def test_p_is_the_one_of_a_t_test_where_the_interval_is():
    values = np.random.default_rng(6).normal(1, 2, size=9)
    interval = stats.t.interval(0.95, 8, values.mean(), stats.sem(values))
    for threshold in (-1.0, 0.5, 3.0):
        expected = stats.ttest_1samp(values, threshold).pvalue
        assert verdicts.interval_p(values.mean(), interval, threshold, 8) == pytest.approx(expected)
    assert verdicts.interval_p(1.0, (1 - 1.959964, 1 + 4.0), 0.0) == pytest.approx(2 * stats.norm.sf(1))


def by_hand(ps: list[float]) -> list[float]:
    """Holm: the smallest adjusted p of a claim is the largest of what it and the smaller ones before it need."""
    order = sorted(ps)
    return [max(min(1.0, (len(ps) - rank) * p) for rank, p in enumerate(order) if p <= mine) for mine in ps]


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("ab")), max_size=12))
def test_holm_within_families_is_that_of_a_second_implementation(drawn):
    found = Findings(
        Finding(f"c{at}", "", 1, (0, 2), Outcome.HOLDS, family=family, p=p) for at, (p, family) in enumerate(drawn)
    )
    corrected = found.corrected()
    for family in "ab":
        ps = [one.p for one in found if one.family == family]
        mine = [one for one in corrected if one.family == family]
        np.testing.assert_allclose([one.adjusted for one in mine], by_hand(ps))
        for one in mine:
            assert (one.outcome is Outcome.HOLDS) == (one.adjusted < 0.05)
            assert one.note == (
                "" if one.adjusted < 0.05 else f"not after correction for the {len(ps)} claims of its family"
            )


def test_a_family_is_corrected_where_that_is_asked_for_and_only_by_what_was_tested():
    weak = np.random.default_rng(7).normal(1.0, 1.0, size=8).tolist()
    claims = [claim(f"page.{at}", weak, 0.1) for at in range(9)] + [claim("page.void", weak, void="nothing was lost")]
    plain, holm = Findings.of(claims), Findings.of(claims, holm=True)
    assert {one.outcome for one in plain[:9]} == {Outcome.HOLDS} and plain[0].adjusted == plain[0].p < 0.05
    assert {one.outcome for one in holm[:9]} == {Outcome.INCONCLUSIVE}
    assert str(holm[0]).endswith("points | not after correction for the 9 claims of its family")
    assert (holm[9].note, holm[0].p) == ("nothing was lost", plain[0].p)


def test_a_changed_threshold_says_what_it_was():
    (found,) = Findings.of([claim("page.a", [6, 7, 8], Threshold(5, "abc1234", "def5678", first=2))])
    assert (found.since, found.changed, found.first) == ("abc1234", "def5678", 2)
    assert Findings([found]).table()["first"].tolist() == [2]
