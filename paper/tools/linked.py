"""A Sphinx extension (see _config.yml): the words of the glossary are linked where a page first uses them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

#: The page that explains the words.
GLOSSARY = "book/glossary"
#: Words that are also plain English; a writer links those by hand.
PLAIN = frozenset(
    {"read", "cell", "task", "yield", "margin", "finding", "spread", "gain", "evidence", "rerun", "alike", "on both"}
)


def terms(text: str) -> list[str]:
    """The words that a glossary explains, the longest first, without those that are :data:`PLAIN`."""
    block = re.search(r"```\{glossary\}[^\n]*\n(.*?)\n```", text, re.DOTALL)
    found = re.findall(r"(?m)^([^\s:].*?)\s*$", block[1]) if block else []
    return sorted((term for term in found if term not in PLAIN), key=lambda term: (-len(term), term))


def link(document: nodes.document, words: Iterable[str], docname: str) -> None:
    """Link the first use of each of the words, also in the plural; never in a heading, in code or in a link."""
    from docutils import nodes as node
    from sphinx.addnodes import pending_xref

    closed = (
        node.title,
        node.literal,
        node.reference,
        pending_xref,
        node.FixedTextElement,
        node.Invisible,
        node.math,
        node.rubric,
    )
    linked = {one["reftarget"].lower() for one in document.findall(pending_xref) if one.get("reftype") == "term"}
    for term in words:
        if term.lower() in linked:
            continue
        pattern = re.compile(rf"(?<![\w-]){re.escape(term)}s?(?![\w-])")
        for text in list(document.findall(node.Text)):
            found = pattern.search(text.astext())
            parent = text.parent
            while parent is not None and not isinstance(parent, closed):
                parent = parent.parent
            if found is None or parent is not None or not isinstance(text.parent, node.TextElement):
                continue
            target = {"refdomain": "std", "reftype": "term", "reftarget": term, "refexplicit": True, "refwarn": True}
            cross = pending_xref("", node.inline(found[0], found[0]), refdoc=docname, **target)
            before, after = text.astext()[: found.start()], text.astext()[found.end() :]
            place = text.parent.index(text)
            parts = [node.Text(before) if before else None, cross, node.Text(after) if after else None]
            text.parent[place : place + 1] = [part for part in parts if part is not None]
            break


def _read(app: Sphinx, document: nodes.document) -> None:
    path = Path(app.srcdir) / f"{GLOSSARY}.md"
    docname = app.env.docname
    if path.is_file() and docname != GLOSSARY and not docname.startswith("book/api"):
        app.env.note_dependency(str(path))
        link(document, terms(path.read_text(encoding="utf-8")), docname)


def setup(app: Sphinx) -> dict[str, Any]:
    """Links are made when a page has been read, before pages that are left out lose theirs."""
    app.connect("doctree-read", _read, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
