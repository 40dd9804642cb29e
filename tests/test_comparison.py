"""Evidence and rerun side by side: every finding with its numbers and outcome, in both columns."""

from __future__ import annotations

import math
import re

import pytest

from lib.verdicts import Finding, Findings, Outcome
from paper.comparison import Comparison, on_both, written


def finding(name: str, value: float, interval: tuple[float, float], outcome: Outcome, unit: str = "") -> Finding:
    return Finding(
        f"gates <{name}>", f"mean > 2 {unit}".strip(), value, interval, outcome, unit, f"page.{name}", "page"
    )


EVIDENCE = Findings(
    [
        finding("collapse", 2.6181, (2.5, 2.7), Outcome.HOLDS, "decades"),
        finding("help", -0.123456, (-1.0, math.inf), Outcome.INCONCLUSIVE, "points"),
        finding("differ", math.nan, (math.nan, math.nan), Outcome.DOES_NOT_HOLD),
    ]
)
RERUN = Findings(
    [
        finding("collapse", 2.1, (1.5, 2.7), Outcome.INCONCLUSIVE, "decades"),
        finding("more", 3.0, (2.5, 3.5), Outcome.HOLDS),
    ]
)


def test_both_columns_have_value_interval_unit_and_outcome():
    html = Comparison({"evidence": EVIDENCE, "this run": RERUN})._repr_html_()
    assert "evidence [95 % interval]" in html and "this run [95 % interval]" in html
    assert "gates &lt;collapse&gt;" in html and "<collapse>" not in html
    assert "2.62 [2.5, 2.7] decades" in html and "2.1 [1.5, 2.7] decades" in html
    assert "−0.123 [−1, ∞] points" in html
    for symbol, outcome in (("✓", "holds"), ("?", "inconclusive"), ("✗", "does not hold")):
        assert f"{symbol} {outcome}" in html
    assert html.count("<tr>") == 1 + 4 and len(set(re.findall(r"color:([^;]+);", html))) == 3


def test_what_one_side_did_not_measure_is_said_and_order_is_that_of_the_evidence():
    shown = Comparison({"evidence": EVIDENCE, "this run": RERUN})
    assert shown._repr_html_().count("not measured") == 3
    lines = repr(shown).splitlines()
    assert [re.search(r"<(\w+)>", line)[1] for line in lines] == ["collapse", "help", "differ", "more"]
    assert lines[0].startswith("holds | ") and "this run: 2.1 [1.5, 2.7] decades inconclusive" in lines[0]


def test_one_side_alone_is_one_column():
    html = Comparison({"this run": RERUN})._repr_html_()
    assert "evidence" not in html and html.count("<tr>") == 3


def test_a_criterion_is_written_as_a_reader_writes_it():
    typed = ["error < 1e-06", "won back >= 0 points", "difference within ±1 points", "differ <= 0", "mean > 1 points"]
    assert [*map(written, typed)] == [
        *("error < 1 × 10⁻⁶", "won back ≥ 0 points", "difference within ±1 point", "differ ≤ 0", "mean > 1 point")
    ]


# ------------------------------------------------------------------------------------------------ two backbones
OUTCOMES = {"h": Outcome.HOLDS, "d": Outcome.DOES_NOT_HOLD, "i": Outcome.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("one", "other", "together", "why"),
    [
        ("h", "h", "h", ""),
        ("d", "d", "d", "not on the drawn world and photographs"),
        ("h", "d", "d", "not on photographs"),
        ("d", "h", "d", "not on the drawn world"),
        ("i", "h", "i", "open on the drawn world"),
        ("d", "i", "d", "not on the drawn world"),
        ("i", "i", "i", "open on the drawn world and photographs"),
        ("h", "", "i", "not asked of photographs"),
        ("", "d", "i", "not asked of the drawn world"),
        ("i", "", "i", "not asked of photographs"),
    ],
)
def test_on_both_a_claim_is_as_weak_as_the_weaker_of_its_findings(one, other, together, why):
    sides = {
        name: finding("c", 1.0, (0.5, 1.5), OUTCOMES[given]) if given else None
        for name, given in (("the drawn world", one), ("photographs", other))
    }
    assert on_both(sides) == (OUTCOMES[together], why)


def test_what_both_say_stands_behind_them_and_before_this_run():
    photographs = Findings([finding("collapse", 2.2, (2.1, 2.3), Outcome.DOES_NOT_HOLD, "decades")])
    sides = {"one": EVIDENCE, "other": photographs, "this run": RERUN}
    shown = Comparison(sides, both={"one": "the drawn world", "other": "photographs"})
    html = shown._repr_html_()
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", html)
    assert heads[2:] == ["one [95 % interval]", "other [95 % interval]", "on both", "this run [95 % interval]"]
    assert all(row.count("<td") == 6 for row in re.findall(r"<tr>(<td.*?)</tr>", html))
    assert "not on photographs" in html and html.count("not asked of photographs") == 2
    lines = repr(shown).splitlines()
    assert (
        "other: 2.2 [2.1, 2.3] decades does not hold | on both: does not hold (not on photographs) | this run: 2.1"
        in lines[0]
    )
    assert lines[3].endswith(
        "on both: inconclusive (not asked of the drawn world and photographs) | this run: 3 [2.5, 3.5] holds"
    )
