"""Every page begins with its question, its answer and a picture, and ends in the findings that answer it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import nbformat
import pytest

from lib.verdicts import Finding, Findings, Outcome
from paper.comparison import Comparison, measured
from paper.figures import summaries
from paper.studies import base
from paper.studies.hardware_trial import VERDICTS
from paper.tools import profiles
from paper.words import opening
from paper.words.opening import OPENINGS, Said

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
#: Its answer is what a report says of a model, and no finding.
OF_A_REPORT = {"own"}
#: The register has a table and no picture.
WITHOUT_PICTURE = {"claims"}
#: Pages whose evidence is judged in a second or two; of the others it is looked up whether their study knows the id.
QUICK = ("world", "photo_world", "learners", "gate_value", "operator", "peers", "gap_origin", "cifar", "composed")


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_question_answer_and_picture_stand_before_the_first_section(name):
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    assert cells[0].source.startswith("# ") and "\n" not in cells[0].source
    first = next(place for place, cell in enumerate(cells) if re.search(r"(?m)^## ", cell.source))
    above = cells[1:first]
    said = [cell for cell in above if cell.id == "opening"]
    assert len(said) == 1
    assert said[0].source == f"Markdown(opening({'report' if name in OF_A_REPORT else 'page'}))"
    assert {"opening", "remove-input", "nbval-ignore-output"} <= tags(said[0])
    pictures = [cell for cell in above if "picture" in tags(cell)]
    assert len(pictures) == (0 if name in WITHOUT_PICTURE else 1)
    # Nothing is read before them: what stands above in the notebook is folded away behind them on the page.
    last = above.index(pictures[-1] if pictures else said[0])
    early = [cell for cell in above[:last] if cell.id != "opening" and "remove-cell" not in tags(cell)]
    assert all({"set-up", "hide-input"} <= tags(cell) for cell in early)
    assert "parameters" in tags(early[0])


def test_every_notebook_has_an_opening_and_every_outcome_words():
    assert set(OPENINGS) == set(NOTEBOOKS) - OF_A_REPORT
    for name, one in OPENINGS.items():
        assert one.question.endswith("?"), name
        assert one.told or any(one.headlines.values()), name
        for words in filter(None, one.headlines.values()):
            for outcome in Outcome:
                found = Finding("c", "mean > 0", -1.5, (-2.0, math.inf), outcome)
                text = words.of(found)
                assert "{" not in text and not re.search(r"-\d", text), name
                assert text == "" or text[-1] in ".:", name
            assert words.holds and words.fails, name


def test_a_sentence_turns_with_its_finding():
    words = Said("Yes, {value:.1f}.", "No, {value:+.1f}.", "Open.")
    told = [words.of(Finding("c", "mean > 0", -0.04, (-1, 1), outcome)) for outcome in Outcome]
    assert told == ["Yes, 0.0.", "No, 0.0.", "Open."] or told[0] == "Yes, 0.0."


def pages():
    known = profiles.evidence()
    return [name for name, page in known.items() if not page.beside and page.notebook in OPENINGS]


@pytest.mark.parametrize("name", pages())
def test_headlines_are_claims_of_the_page(name):
    page = profiles.evidence()[name]
    study = base.named(page.notebook)(**page.parameters)
    ids = opening.headlines(study)
    if page.notebook in QUICK or page.notebook == "perturbation":
        result = study.from_evidence()[0]
        assert result is not None
        found = {one.id for one in result.findings}
        # Drift hurts too little for a mildest severity that hurts.
        assert [one for one in ids if one not in found and not one.endswith(".mildest")] == []
        assert len(found & set(ids)) >= 2
        return
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "paper" / "studies").glob("*.py"))
    words = {part for one in ids for part in one.split(".")[1:]}
    assert [word for word in words if word not in source and not word.startswith("adam")] == []


# ------------------------------------------------------------------------------------------------ the findings
def findings(count: int) -> Findings:
    return Findings(
        Finding(f"claim {n}", "mean > 0", 1.0, (0.5, 1.5), Outcome.HOLDS, id=f"p.{n}") for n in range(count)
    )


def test_the_whole_table_is_folded_behind_the_headlines():
    html = Comparison({"evidence": findings(9)}, first=["p.7", "p.2", "p.gone"])._repr_html_()
    shown, folded = html.split("<details>")
    assert re.findall(r"claim \d", shown) == ["claim 7", "claim 2"]
    assert "All 9 findings" in folded and re.findall(r"claim \d", folded) == [f"claim {n}" for n in range(9)]


def test_without_headlines_the_first_stand_in_front_and_a_short_table_is_whole():
    assert "<details>" not in Comparison({"evidence": findings(4)})._repr_html_()
    html = Comparison({"evidence": findings(6)})._repr_html_()
    assert re.findall(r"claim \d", html.split("<details>")[0]) == ["claim 0", "claim 1", "claim 2"]


def test_numbers_have_three_digits_and_no_interval_without_width():
    assert measured(Finding("c", "m", 1.9601, (1.9602, 1.9603), Outcome.HOLDS, "points")) == "1.96 points"
    assert measured(Finding("c", "m", 2.0, (1.0, 3.0), Outcome.HOLDS)) == "2 [1, 3]"


# ------------------------------------------------------------------------------------------------ the first page
def test_the_picture_of_hardware_has_a_place_for_every_verdict():
    assert {name for names, _, _ in summaries.SIDES.values() for name in names} == set(VERDICTS) - {"slight"}


def test_the_first_page_answers_at_once_and_in_plain_words():
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    first = text.partition("## How to read it")[0]
    for export in ("fair_trial-summary.png", "fair_trial-short.md", "foresight-gates.md"):
        assert f"runs/exports/{export}" in first
    for export in ("hardware_trial-summary.png", "hardware_trial-short.md", "foresight-hardware.md"):
        assert f"runs/exports/{export}" in first
    assert first.index("summary.png") < first.index("## The answer")
    # Words that only the folded numbers use, where they are explained.
    plain = re.sub(r"(?s):::\{dropdown\}.*?\n:::\n", "", first)
    assert not re.search(r"vanilla|recovery|truth|backward rule|noise injection", plain, re.I)
    assert all(not re.search(r"vanilla|recovery|truth|backward rule", one.question) for one in OPENINGS.values())
