"""The pages of the six classes: the method is said once, each page says what is particular to its class."""

from __future__ import annotations

import itertools
import re

import nbformat
import pytest

from lib.verdicts import Claim, Findings
from paper.studies.hardware import PERTURBATIONS
from paper.tools import pages
from paper.words import perturbation as words

RUNS = pages.ROOT / "book" / "runs"
NOTEBOOK = pages.NOTEBOOKS / "perturbation.ipynb"

#: The share of what a page says of its class that another page may say, too.
SHARED = 0.35
#: What every page needs, whatever its class: the opening, how to use the sliders, how to read the findings.
ASIDE = ("What if?", "Findings")


def sentences(text: str) -> set[str]:
    """The sentences of Markdown, of four words and more, without marks of emphasis; headings and code are none."""
    text = re.sub(r"`{3}[\s\S]*?`{3}|(?m:^#.*$)", "\n\n", text)
    parts = re.split(r"\n\s*\n|\n- |(?<=[.?!])\s+", text)
    plain = (" ".join(re.sub(r"[*_`]", "", part).split()) for part in parts)
    return {part for part in plain if len(part.split()) >= 4}


def prose(notebook: nbformat.NotebookNode) -> str:
    """What a page says between its opening and its end: its Markdown, and that which its cells make."""
    said, heading = [], ""
    for cell in notebook.cells:
        if found := re.match(r"##? (.+)", cell.source if cell.cell_type == "markdown" else ""):
            heading = found[0]
        if cell.cell_type == "code":
            texts = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
        else:
            # Under the heading of the findings stands the conclusion, which cells make.
            texts = [] if heading.removeprefix("## ") in ASIDE else [cell.source]
        said += texts if heading.startswith("## ") else []
    return "\n\n".join(said)


def test_executed_class_pages_do_not_repeat_each_other():
    said, current = {}, nbformat.read(NOTEBOOK, as_version=4)
    for name in PERTURBATIONS:
        path = RUNS / f"perturbation_{name}.ipynb"
        page = nbformat.read(path, as_version=4) if path.is_file() else None
        sources = {cell.source for cell in page.cells} if page else set()
        if not all(cell.source in sources for cell in current.cells[1:] if cell.cell_type == "markdown"):
            pytest.skip("the pages are to be run first: make book")
        said[name] = sentences(prose(page))
    pairs = itertools.permutations(said, 2)
    shares = {(one, other): len(said[one] & said[other]) / len(said[one]) for one, other in pairs}
    worst = max(shares, key=lambda pair: shares[pair])
    assert shares[worst] < SHARED, (worst, round(shares[worst], 2), sorted(said[worst[0]] & said[worst[1]]))


@pytest.mark.parametrize("place", [0, 1])
def test_every_class_has_a_conclusion_of_its_own(place):
    """Whether its claims hold or not, what to do about a class is said of no other."""
    ends = {}
    for name, physics in PERTURBATIONS.items():
        own = {**words._CLOSER_UP[name], **words._CONCLUSIONS[name]}
        samples = [[2.0, 2.1, 2.2], [0.0, 0.1, 0.2]][place]
        found = Findings.of([Claim(f"perturbation_{name}.{one}", "", samples, ">=", 1, "x") for one in own])
        ends[name] = sentences(f"{words.closer_up(found, physics)} {words.conclusion(found, physics)}")
        assert len(ends[name]) >= 3
    for one, other in itertools.combinations(ends, 2):
        assert not ends[one] & ends[other], (one, other)
