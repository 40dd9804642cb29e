"""What pages are called: a reader knows them by their headings, not by the names of their files."""

from __future__ import annotations

import functools
import json
import re

from paper.tools import profiles, sources


def called(name: str) -> str:
    """The heading of a page of the book; its name in words where there is no such page."""
    main = name.removesuffix("_photo")
    return pages().get(main, main.replace("_", " ")) + ("" if main == name else ", on photographs")


@functools.cache
def pages() -> dict[str, str]:
    """Headings by page; none without a checkout."""
    path = sources.ROOT / "profiles" / "quick.yaml"
    pages = profiles.profile(path) if path.is_file() else {}
    found = {name: page.title or _heading(page) for name, page in pages.items()}
    return {name: title for name, title in found.items() if title}


def _heading(page: profiles.Page) -> str:
    notebook = json.loads(page.source.read_text(encoding="utf-8"))
    texts = ("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return next((match[1].strip() for text in texts if (match := re.search(r"(?m)^# (.+)$", text))), "")
