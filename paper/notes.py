"""What a run says of itself beside its page: the page is alike on every machine, and this is not.

The process that executes a notebook gives its kernel a file; studies note in it how long they took and whether they
agree with the evidence, and :mod:`paper.tools.pages` keeps that in the metadata of the executed page, where the book
finds it. A notebook that is run by hand notes nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

#: The variable of the environment that names the file.
PLACE = "BOOK_NOTES"


def note(**said: Any) -> None:
    """Note plain values by name; a later one stands in place of an earlier one."""
    if path := os.environ.get(PLACE):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")


def noted(path: Path) -> dict[str, Any]:
    """All that was noted in a file; nothing where there is none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {name: value for line in lines for name, value in json.loads(line).items()}
