"""Things by name, to which a reader adds their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from lib import checks

T = TypeVar("T")


class Registry(dict[str, T]):
    """Things of one kind by name; ``kind`` is what a refusal calls them, ``entries`` are there from the start.

    What is added must be what those are, subclasses of one class or instances of it: whoever goes through all of them
    would stumble over anything else.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        super().__init__(entries)
        self.kind, self._house = kind, frozenset(entries)

    def register(self, name: str, value: T) -> None:
        """Add one, or replace one that was added (a notebook's cell may run twice), never one that was there before."""
        if not isinstance(name, str) or not re.fullmatch(r"\w+", name) or name == "none" or name in self._house:
            raise checks.ParameterError(
                f"{self.kind} must be added under a plain word that is not taken, but {name!r} was given."
            )
        if self._house and (wanted := _wanted(value, [self[one] for one in self._house])):
            raise checks.ParameterError(f"{self.kind} must be {wanted}, but {value!r} was given.")
        self[name] = value

    def __missing__(self, name: object) -> T:
        """Refuses an unknown name in one sentence that lists the known ones."""
        return self[checks.choice(self.kind, name, self)]


def _wanted(value: object, house: Sequence[object]) -> str:
    """What a value must be to stand beside these; empty if it is."""
    classes = isinstance(house[0], type)
    known = [one if isinstance(one, type) else type(one) for one in house]
    common = next(one for one in known[0].__mro__ if all(issubclass(other, one) for other in known))
    own = value if isinstance(value, type) else type(value)
    if isinstance(value, type) == classes and issubclass(own, common):
        return ""
    return f"{'a subclass' if classes else 'an instance'} of {common.__module__}.{common.__qualname__}"
