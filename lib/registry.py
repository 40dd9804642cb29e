"""What is known by name: a mapping to which a class of one's own is added with one entry."""

from __future__ import annotations

from typing import TypeVar

from lib import checks

T = TypeVar("T")


class Registry(dict[str, T]):
    """Objects by their names, in the order in which they were added; ``what`` is said of a name that is not there.

    >>> CLASSES: Registry[type] = Registry("class", {"small": int})
    >>> CLASSES.register("large", float)
    """

    def __init__(self, what: str, known: dict[str, T]) -> None:
        super().__init__(known)
        self.what = what

    def __missing__(self, name: object) -> T:
        checks.choice(self.what, name, self)
        raise KeyError(name)

    def register(self, name: str, entry: T) -> T:
        """Add ``entry`` under a name that is free; returns it. A name that is taken is a ParameterError."""
        if not isinstance(name, str) or not name or name in self:
            raise checks.ParameterError(f"{self.what} must be a name that is free, but {name!r} was given.")
        self[name] = entry
        return entry
