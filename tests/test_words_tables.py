"""Numbers, names and tables as a reader sees them."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

from lib.verdicts import Finding, Findings, Outcome
from paper import ROOT
from paper.comparison import Comparison
from paper.words import format, names
from paper.words.claims import Register
from paper.words.tables import FOLDED, WIDE, Table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3.14159, "3.14"),
        (0.5, "0.5"),
        (-0.0004, "−4 × 10⁻⁴"),
        (5.39e-5, "5.39 × 10⁻⁵"),
        (0.9996, "1"),
        (9.996e-4, "0.001"),
        (1234.5, "1,230"),
        (14002, "14,002"),
        (np.int64(-7), "−7"),
        (2.5e9, "2.5 × 10⁹"),
        (-0.0, "0"),
        (math.nan, "–"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers(value, shown):
    assert format.number(value) == shown


def test_numbers_read_back():
    """Whatever is shown is the number to three digits."""
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    for value in np.random.default_rng(0).normal(size=300) * 10.0 ** np.random.default_rng(1).integers(-9, 9, 300):
        text = format.number(value).translate(raised).replace(",", "").replace(" × 10", "e")
        assert float(text) == pytest.approx(value, rel=0.0051)


def test_intervals_and_units():
    assert format.interval(1.23, 0.9, 1.4) == "1.23 [0.9, 1.4]"
    assert format.interval(1.96, 1.96, 1.9601) == "1.96", "an interval without a width says nothing"
    assert format.interval(1.96, math.nan, math.nan) == "1.96"
    assert format.interval(0.5, -math.inf, 1) == "0.5 [−∞, 1]"
    assert format.interval(0.101, 0.00212, 0.21456) == "0.101 [0.002, 0.215]", "all end at one place"
    assert format.interval(0.0, -1.2345, 1.2) == "0 [−1.23, 1.2]"
    assert [format.duration(one) for one in (20.0, 3600.0, 86400.0, 3.15e9)] == ["20 s", "1 h", "1 d", "100 yr"]
    assert format.percent(0.25) == "25 %" and format.number(0.3, signed=True) == "+0.3"
    assert format.quantity(0.05, "of devices") == "5 % of devices"
    assert format.quantity(3600.0, "s") == "1 h" and format.quantity(0.05, "Gmax") == "0.05 Gmax"


def test_a_difference_that_rounding_makes_is_none():
    told = pd.DataFrame(
        {"gate": ["length"], "over_mean": [-4.4e-16], "over_fixed": [1.254], "harmonic_over_blind": [-2]}
    )
    assert Table(told).texts().iloc[0].tolist() == ["length", "0", "+1.25", "−2"]


def test_names():
    assert names.words("coop") == "CoOp" and names.words("straight_through") == "straight-through training"
    assert names.words("read_noise + variability") == "Read noise + variability"
    assert names.words("random") == "random", "a word of everyday language is none of ours"
    assert names.words("prompt.deep_tokens") == "prompt.deep_tokens", "a path is one"
    assert names.source("nandakumar2019pcm") == "Nandakumar 2019"
    assert (
        names.heading("over_mean") == "over its mean" and names.heading("cnn_norm, severe") == "CNN, normalised, severe"
    )


FRAME = pd.DataFrame(
    {
        "rule": ["autograd", "straight_through"],
        "recovery": [0.5, 1.0],
        "recovery_low": [0.4, 1.0],
        "recovery_high": [0.6, 1.0],
        "flat": [True, False],
        "seconds": [3.15e9, math.nan],
        "verdict": ["compensated", "harmed"],
    }
)


def test_a_table_for_reading():
    shown = Table(FRAME, "Title & all", shows={"seconds": "s"})
    assert list(shown.texts().columns) == ["backward rule", "verdict", "recovery", "flat", "seconds"]
    assert shown.texts().iloc[0].tolist() == ["vanilla training", "compensated", "0.5 [0.4, 0.6]", "yes", "100 yr"]
    assert shown.texts().iloc[1].tolist() == ["straight-through training", "harmed", "1", "no", "–"]
    assert "Title & all" in repr(shown) and "compensated" in repr(shown)
    page = BeautifulSoup(shown._repr_html_(), "html.parser")
    assert [head["scope"] for head in page.select("thead th")] == ["col"] * 5
    assert [head.get_text() for head in page.select("tbody th[scope=row]")] == shown.texts()["backward rule"].tolist()
    assert page.caption.get_text() == "Title & all"
    assert "✓" in page.select("td")[0].get_text(), "a verdict has its symbol"


def test_rows_with_an_index():
    wide = FRAME.pivot(index="rule", columns="flat", values="recovery").rename_axis(columns=None)
    assert list(Table(wide).texts().columns) == ["backward rule", "False", "True"]
    two = FRAME.assign(network="mlp").set_index(["network", "rule"])[["recovery"]]
    page = BeautifulSoup(Table(two)._repr_html_(), "html.parser")
    assert len(page.select("tbody th[scope=row]")) == 4 and page.select_one("tbody th").get_text() == "perceptron"
    assert not re.search(r"\b[a-z]+_[a-z]+\b", page.get_text())


def test_an_interval_without_width_is_left_out():
    told = pd.DataFrame({"what": ["a"], "area": ["0.50 [0.50, 0.50]"], "other": ["0.50 [0.40, 0.50]"]})
    assert Table(told).texts().iloc[0].tolist() == ["a", "0.50", "0.50 [0.40, 0.50]"]


def test_a_long_table_is_folded_below_its_caption():
    short, long = (Table(pd.DataFrame({"n": range(rows)}), "Title & all") for rows in (FOLDED, FOLDED + 1))
    assert short._repr_html_().startswith("<table")
    page = BeautifulSoup(long._repr_html_(), "html.parser")
    assert page.summary.get_text() == f"Title & all ({FOLDED + 1} rows)" and page.details.table.caption is not None
    wide = Table(pd.DataFrame({f"n{place}": range(FOLDED) for place in range(WIDE + 1)}), "Wide")
    assert wide._repr_html_().startswith("<details>")
    assert not page.details.has_attr("open") and len(page.select("tbody tr")) == FOLDED + 1


def test_a_note_that_begins_with_a_number_is_no_number():
    told = Table(
        pd.DataFrame({"a": ["1/f noise after 20 s"], "b": ["3.1 × 10⁻⁷ [3, 3.2] decades"], "c": ["8 bits"]}), keys=0
    )
    page = BeautifulSoup(told._repr_html_(), "html.parser")
    assert [cell.get("class") for cell in page.select("td")] == [None, ["number"], ["number"]]


def test_an_empty_table_keeps_its_headings_and_says_so():
    html = Table(FRAME.iloc[:0])._repr_html_()
    assert "<thead>" in html and f'<td colspan="{html.count("<th ")}">nothing was measured</td>' in html


# ------------------------------------------------------------------------------------------------ on a phone
@pytest.mark.browser
def test_a_row_of_sentences_is_a_card_on_a_phone_and_nowhere_else(chromium):
    """Findings, claims and any other table by one rule: what is too narrow for its sentences, or does not fit."""
    claim = (
        "a gate that was trained by the short recipe gains more than the learner without a gate on every ordinary task"
    )
    found = Findings([Finding(claim, "mean > 5 points", 6.1, (6, 6.2), Outcome.HOLDS, "points", "a.b", "a")])
    tables = {
        "findings": Comparison({"evidence": found, "this run": found}),
        "claims": Register(["a"], found, {}),
        "small": Table(FRAME[["rule", "verdict"]]),
        "wide": Table(pd.DataFrame({f"a column {n}": ["unbreakable" * 2] for n in range(9)})),
    }
    parts = [f'<div id="{name}" class="cell_output">{table._repr_html_()}</div>' for name, table in tables.items()]
    static = ROOT / "book" / "static"
    style, script = ((static / name).read_text(encoding="utf-8") for name in ("css/book.css", "js/page.js"))
    body = "".join(parts).replace("<details>", "<details open>")
    text = f'<style>{style}</style><article class="bd-article">{body}</article><script>{script}</script>'
    cards = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in (390, 1000):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.set_content(text, wait_until="load")
            page.wait_for_selector("#wide table.stacked", state="attached")
            page.wait_for_timeout(100)
            cards[width] = page.evaluate(
                "[...document.querySelectorAll('table.stacked')].map(e => e.closest('[id]').id)"
            )
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            labels = page.evaluate("[...document.querySelectorAll('#findings td')].map(e => e.dataset.label)")
            labels = [label.replace("\u00a0", " ") for label in labels]  # which keeps an interval's words together
            assert labels == ["Claim", "Criterion", "evidence [95 % interval]", "this run [95 % interval]"]
        browser.close()
    assert cards == {390: ["findings", "claims", "wide"], 1000: ["wide"]}


def test_perturbations_and_rules_are_spelt_as_they_are_called():
    from lib.hardware.devices import HARDWARE
    from paper.studies.hardware import NAMES
    from paper.words import spelling

    assert {name: HARDWARE[name].title for name in spelling.TITLES} == spelling.TITLES
    assert spelling.RULES == NAMES
