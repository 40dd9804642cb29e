"""Every claim of the book in one table: each exactly once, with its family, its criterion and what changed it."""

from __future__ import annotations

import re
import subprocess

import nbformat
import pandas as pd
import pytest
from playwright.sync_api import sync_playwright

from lib.checks import ParameterError
from lib.results import Cell, measured
from lib.verdicts import Claim, Findings, Threshold
from paper import ROOT
from paper.comparison import Comparison
from paper.criteria import hardware, prompts, trial
from paper.evidence import Evidence
from paper.studies import base
from paper.studies.base import Study
from paper.studies.claims import Claims
from paper.tools import profiles
from paper.words.claims import Register, counted, register, told
from paper.words.titles import called

MOVED = Threshold(5, "abc1234", changed="def5678", first=2)
LONG = "a gate that was trained by the short recipe gains more than the learner without a gate on every ordinary task"


def measure(config, site):
    return {"rows": pd.DataFrame({"seed": [0, 1, 2], "worth": [6.0, 6.2, 6.1]})}


class Paged(Study):
    """A page with two claims, whose ids are its own."""

    name: str = ""

    def cells(self):
        return [Cell("paged", {"name": self.name}, measure)]

    def judge(self, found):
        (tables,) = found.values()
        worth = tables["rows"]["worth"].tolist()
        about = {"family": self.name, "unit": "points"}
        claims = [
            Claim(f"{self.name}.moved", LONG, worth, ">", MOVED, **about),
            Claim(f"{self.name}.open", "it is six", worth, ">", 6.1, **about),
        ]
        return tables, Findings.of(claims, holm=self.name == "one")


@pytest.fixture
def book(tmp_path, monkeypatch):
    """Three pages, of which "three" has no evidence, beside one that measures nothing."""
    made = {name: profiles.Page(name, name, parameters={"name": name}) for name in ("one", "two", "three")}
    known = {**made, "claims": profiles.Page("claims", "claims")}
    monkeypatch.setattr(profiles, "evidence", lambda: known)
    monkeypatch.setattr(base, "EVIDENCE", tmp_path)
    monkeypatch.setattr(base, "named", lambda notebook: Claims if notebook == "claims" else Paged)
    for name in ("one", "two"):
        cells = Paged(name=name).cells()
        Evidence(tmp_path).home(cells[0], name).put(measured(cells, "cpu"))


def test_every_claim_of_every_page_is_there_exactly_once(book):
    page = Claims().page()
    claims = page.tables["claims"]
    assert claims["id"].tolist() == ["one.moved", "one.open", "two.moved", "two.open"]
    assert claims["page"].tolist() == ["one", "one", "two", "two"]
    assert claims["outcome"].tolist() == ["holds", "inconclusive"] * 2
    shown = register(page)
    for text in (repr(shown), shown._repr_html_()):
        assert text.count(LONG) == text.count("it is six") == 2
    assert counted(page).set_index("page").loc["all", "claims"] == 4


def test_a_row_has_value_family_criterion_and_commits(book):
    first, _, third, _, _ = repr(register(Claims().page())).splitlines()
    assert first.startswith(f"one | {LONG} | 6.1 [") and "points | < 0.001 | one" in first
    assert "one (corrected for 2) | mean > 5 points | abc1234 criterion changed from 2 to 5 in def5678" in first
    assert "two (2, not corrected)" in third


def test_claims_are_folded_by_page_with_its_link_its_evidence_and_its_command(book):
    text = register(Claims().page())._repr_html_()
    assert text.count("<details>") == text.count("</details>") == 2
    assert "<b>one</b>: 2 claims (1 holds, 1 inconclusive)" in text
    assert '<a href="two.html">two</a>' in text and "make evidence PAGES=two" in text
    assert f"results/evidence/{Paged(name='two').shelf()}.csv" in text


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("gap_origin", "Where the gap comes from"),
        ("perturbation_drift", "Drift"),
        ("fair_trial_photo", "A fair trial, on photographs"),
        ("no_page", "no page"),
    ],
)
def test_a_page_is_called_by_its_heading(name, title):
    assert called(name) == title


def test_a_page_without_evidence_says_so(book):
    page = Claims().page()
    assert page.tables["pages"].set_index("page")["missing"].to_dict() == {"one": 0, "two": 0, "three": 1}
    why = "no claim yet, 1 of 1 parts of its evidence are missing"
    assert f"three | {why}" in repr(register(page)) and why in register(page)._repr_html_()
    assert "Evidence is missing for three" in told(page)


def test_one_outcome_alone_is_shown(book):
    lines = repr(register(Claims(outcome="inconclusive").page())).splitlines()
    assert [line.rpartition(" | ")[2] for line in lines[:-1]] == ["inconclusive"] * 2
    with pytest.raises(ParameterError, match="^outcome must be one of all, holds, does not hold, inconclusive, but"):
        Claims(outcome="likely")


def test_a_changed_criterion_is_said_on_its_page_too(book):
    words = "criterion changed from 2 to 5 in def5678, after its numbers were seen"
    assert told(Claims().page()).count(words) == 2
    findings = Claims().page().findings
    shown = Comparison({"evidence": findings})
    assert repr(shown).count(words) == shown._repr_html_().count(words) == 2
    assert "changed" not in Comparison({"evidence": Findings(one for one in findings if not one.changed)})._repr_html_()


def test_the_book_has_every_page_that_measures_something():
    known = profiles.evidence()
    without = {name for name in known if not base.named(known[name].notebook)(**known[name].parameters).cells()}
    assert set(Claims().studies()) == set(known) - without and {"guide", "claims"} <= without


# ------------------------------------------------------------------------------------------------ in plain words
#: What is no word of a reader's: names of the code, and powers of ten as Python writes them.
RAW = re.compile(
    r"\b[a-z]+_[a-z0-9_]+|\d[eE][-+]?\d|[<>]="
    r"|\b(coop|cocoop|vpt|ivlp|maple|bimaple|l2p|mlp|cnn|vit|adc|pcm|autograd)\b"
)
_NO = r"\b(no|not|none|nothing|never|neither|nor|cannot|nobody)\b"
#: Sentences that deny twice: their reader has to count.
TWICE = re.compile(
    rf"{_NO}[^.:;|]*{_NO}|{_NO}[^.:;|]* either\b|\bno (more|less|fewer) than\b|\bnot (un|without)"
    r"|\bleaves\b.* without\b"
)
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*\.\d+")


def faults(text: str) -> list[str]:
    """What is wrong with a sentence: names of the code in it, two negations, numbers of more than three digits."""
    long = [one for one in _NUMBER.findall(text) if len(one.replace(",", "").replace(".", "").lstrip("0")) > 3]
    return [found[0] for pattern in (RAW, TWICE) if (found := pattern.search(text))] + long


def test_every_claim_is_in_plain_words():
    """As the page of all claims shows them: each sentence, value and criterion."""
    notebook = nbformat.read(ROOT / "notebooks" / "claims.ipynb", as_version=4)
    (cell,) = (one for one in notebook.cells if one.source == "register(page)")
    rows = [line.split(" | ") for line in cell.outputs[0]["data"]["text/plain"].splitlines()]
    assert len(rows) > 800
    assert {row[1]: found for row in rows if (found := faults(" | ".join((row[1], row[2], row[5]))))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "with the learner coop prompts take off the gap a decade",
        "over_mean is larger",
        "error < 1e-06",
        "won back >= 0 points",
        "no class passes a layer by that is not on the chip",
        "it uses no more than half",
        "with nothing to gain no gate depends on its picture",
        "the recipe leaves the gate without two points",
        "an accuracy of 97.253 %",
    ],
)
def test_what_is_hard_to_read_is_found(text):
    assert faults(text)


@pytest.mark.parametrize(
    "text", ["a gate of CoOp gains nothing over the learner without a gate", "1,200 steps, 0.0123 and 3.5 × 10⁻⁷"]
)
def test_what_is_plain_is_left_alone(text):
    assert faults(text) == []


def _thresholds():
    for part in (prompts, hardware, trial):
        yield from ((name, one) for name, one in vars(part).items() if isinstance(one, Threshold))


@pytest.mark.parametrize(("name", "threshold"), list(_thresholds()))
def test_a_criterion_names_commits_of_this_repository(name, threshold):
    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)

    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("there is no history here")
    assert threshold.since and bool(threshold.changed) == (threshold.first is not None)
    for commit in filter(None, (threshold.since, threshold.changed)):
        assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0, f"{name} names {commit}"


@pytest.mark.browser
def test_the_table_fits_beside_the_contents(chromium):
    """At 1280 pixels the page has 688 for it; Chromium draws every word within."""
    name = "gradient_imbalance_with_a_long_name"
    samples = {"a": [-1.0, 1.5, 1200.25], "b": [-1201.5, -1201.25, -1201.75]}
    findings = Findings.of(
        Claim(one, LONG, given, ">", MOVED, name, unit="percentage points") for one, given in samples.items()
    )
    assert [str(one.outcome) for one in findings] == ["inconclusive", "does not hold"]
    text = Register(["gradient_imbalance"] * 2, findings, {"real": "no claim yet"})._repr_html_()
    style = (ROOT / "book" / "static" / "css" / "book.css").read_text(encoding="utf-8")
    text = f'<style>{style}</style><article class="bd-article"><div class="cell_output">{text}</div></article>'
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        text = text.replace("<details>", "<details open>")
        page.set_content(f'<div style="width:688px;overflow-x:auto;font-family:sans-serif">{text}</div>')
        room, need = page.evaluate("(e => [e.clientWidth, e.scrollWidth])(document.querySelector('div'))")
        cells = "[...document.querySelectorAll('td, th')].filter(e => e.scrollWidth > e.clientWidth).length"
        assert need <= room and page.evaluate(cells) == 0
        browser.close()
