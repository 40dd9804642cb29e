"""Things by name, to which a reader adds their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from lib import checks

T = TypeVar("T")


class Registry(dict[str, T]):
    """Things of one kind by name; ``kind`` is what a refusal calls them, ``entries`` are there from the start."""

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        super().__init__(entries)
        self.kind, self._house = kind, frozenset(entries)

    def register(self, name: str, value: T) -> None:
        """Add one, or replace one that was added (a notebook's cell may run twice), never one that was there before."""
        if not isinstance(name, str) or not re.fullmatch(r"\w+", name) or name == "none" or name in self._house:
            raise checks.ParameterError(
                f"{self.kind} must be added under a plain word that is not taken, but {name!r} was given."
            )
        self[name] = value

    def __missing__(self, name: object) -> T:
        """Refuses an unknown name in one sentence that lists the known ones."""
        return self[checks.choice(self.kind, name, self)]
