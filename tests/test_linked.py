"""Words of the glossary are linked where a page first uses them."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.utils import new_document
from sphinx.addnodes import pending_xref

from paper.tools import linked


def test_the_first_use_of_a_word_is_linked_and_nothing_else():
    document = new_document("page")
    first = nodes.paragraph(
        "", "", nodes.literal("chip", "chip"), nodes.Text(" and two chips, a known chip, a chip-set")
    )
    # The title of a box that opens is a rubric: it is pressed itself.
    head = nodes.rubric("", "chip.py")
    document += nodes.section(
        "", nodes.title("", "A chip"), head, first, nodes.paragraph("", "Another chip, read here.")
    )
    linked.link(
        document, linked.terms("```{glossary}\nchip\n  One.\n\nknown chip\n  Two.\n\nread\n  Three.\n```"), "page"
    )
    found = [(one["reftarget"], one.astext()) for one in document.findall(pending_xref)]
    assert found == [("chip", "chips"), ("known chip", "known chip")]
    assert (
        document.astext().replace("\n", " ").startswith("A chip  chip.py  chip and two chips, a known chip, a chip-set")
    )
    again = document.deepcopy()
    linked.link(again, ["chip", "known chip"], "page")
    assert again.pformat() == document.pformat()


def test_the_glossary_of_the_book_is_read():
    root = Path(__file__).resolve().parents[1]
    found = linked.terms((root / f"{linked.GLOSSARY}.md").read_text(encoding="utf-8"))
    assert {"recovery", "not recovered", "backward rule", "known chip"} <= set(found)
    assert not linked.PLAIN & set(found)
