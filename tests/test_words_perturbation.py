"""Sentences of a perturbation page name the severity that a number is of, and say harm where there is harm."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.hardware.devices import make
from lib.verdicts import Claim, Findings
from paper.words import perturbation as words


def judged(physics: str, **values: float) -> Findings:
    claims = [
        Claim(f"perturbation_{physics}.{name.replace('__', '.')}", "", [value, value], ">", 0, "x")
        for name, value in values.items()
    ]
    return Findings.of(claims)


def test_a_mean_over_two_panels_says_what_each_of_them_is():
    rows = [
        {"variant": variant, "severity": severity, "seed": 0, "unaware": unaware, "accuracy": 0.9}
        for variant, severity, unaware in (
            ("largest", 4.0, 0.90), ("largest", 3.0, 0.80), ("best quantile", 4.0, 0.92), ("best quantile", 3.0, 0.94),
        )
    ]  # fmt: skip
    told = words.closer_up(judged("adc", variants__range=8), make("adc"), {"variants": pd.DataFrame(rows)})
    assert "8.0 points (the mean of 2.0 at 4 bits and 14.0 at 3 bits)" in told
    assert words.closer_up(judged("adc", variants__range=8), make("adc")).count("(") == 0


def summary(trained: float, verdict: str) -> pd.DataFrame:
    rows = [(4.0, 0.99, 0.01), (3.0, 0.90, 0.1), (2.0, 0.5, 0.5)]
    return pd.DataFrame(
        {"severity": severity, "rule": "autograd", "damage": lost, "unaware": seen, "accuracy": trained}
        | {"verdict": verdict}
        for severity, seen, lost in rows
    )


@pytest.mark.parametrize(
    ("trained", "verdict", "said"),
    [
        (0.87, "harmed", "(3 bits), training with it in the forward pass does harm: it costs another 3.0 points"),
        (0.95, "compensated", "(3 bits), training with it in the forward pass wins back half of the loss or more"),
    ],
)
def test_the_answer_names_its_severities_and_harm(trained, verdict, said):
    values = {"costs": 50.0, "won_back__autograd__mildest": 1.0, "won_back__autograd__harshest": -1.0}
    page = SimpleNamespace(
        findings=judged("adc", **values),
        tables={"summary": summary(trained, verdict)},
        subject=SimpleNamespace(physics=make("adc")),
    )
    told = words.short_answer(page)
    assert said in told and told.startswith("At its harshest (2 bits) it takes 50 of 100")
    page.findings = Findings.of([])
    assert "none of the claims" in words.short_answer(page)


def test_what_several_rules_have_in_common_is_said_once():
    both = {f"won_back__{rule}__harshest": -1.0 for rule in ("autograd", "straight_through")}
    told = words.follows(judged("adc", **both), make("adc"))
    assert told.count("win back half") == 1 and "vanilla training and straight-through training do not" in told
