"""Types of parameters: what a notebook may be given, each refused in one sentence.

``seeds: Annotated[int, Whole(1, 1000)] = 5`` is a field of a :class:`~paper.studies.base.Study` that takes the integers
from 1 to 1000. The checks are those of :mod:`lib.checks`.

A value means the same whatever brings it: see :func:`read` for numbers, :class:`Place` for paths.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from lib import checks

Words = Iterable[str] | Callable[[], Iterable[str]]


def read(given: Any) -> Any:
    """A number, or a list or mapping of them, where words say one in Python; anything else as it is.

    YAML takes 1e3 and 35e-4 for words, papermill takes ``[1, 2]``, ``{"on": 1}`` and what follows ``-r`` for one.
    """
    if isinstance(given, list | tuple):
        return type(given)(map(read, given))
    if isinstance(given, dict):
        return {key: read(value) for key, value in given.items()}
    if not isinstance(given, str):
        return given
    try:
        found = ast.literal_eval(given.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return given
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return read(found) if isinstance(found, list | tuple | dict) else found if number else given


@dataclass(frozen=True)
class Checked:
    """A type whose values pass :meth:`check`, which is told the field's name and gives the value to keep."""

    def check(self, name: str, given: Any) -> Any:
        """The value, or a :class:`~lib.checks.ParameterError`."""
        raise TypeError(f"{type(self).__name__} checks nothing.")

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def checked(given: Any, info: core_schema.ValidationInfo) -> Any:
            return self.check(info.field_name or "value", given)

        return core_schema.with_info_plain_validator_function(checked)


@dataclass(frozen=True)
class Whole(Checked):
    """An integer from ``low`` to ``high``; the words in ``also`` are taken too."""

    low: int | None = None
    high: int | None = None
    also: tuple[str, ...] = ()

    def check(self, name: str, given: Any) -> Any:
        if isinstance(given, str) and given in self.also:
            return given
        return checks.integer(name, read(given), self.low, self.high)


@dataclass(frozen=True)
class Number(Checked):
    """A number from ``low`` to ``high`` and ``above`` a bound."""

    low: float | None = None
    high: float | None = None
    above: float | None = None

    def check(self, name: str, given: Any) -> float:
        return checks.number(name, read(given), self.low, self.high, above=self.above)


#: Factors and rates: what float32 can still tell from nothing and does not overflow at once.
POSITIVE = Number(1e-12, 1e6)
#: Steps of an optimiser, and things that are drawn once for each.
STEPS, DRAWS = Whole(1, 1_000_000), Whole(1, 10_000)


@dataclass(frozen=True)
class Numbers(Number):
    """One or more different numbers, as a list or comma-separated; ``whole`` ones are integers.

    Kept in the order given, or from small to large where ``ordered``. With ``empty`` there may be none ("none" or an
    empty list).
    """

    whole: bool = False
    also: tuple[str, ...] = ()
    ordered: bool = False
    empty: bool = False

    def check(self, name: str, given: Any) -> Any:
        if isinstance(given, str) and given in self.also:
            return given
        if self.empty and (given == "none" or (isinstance(given, list | tuple) and not given)):
            return ()
        given = read(given)
        if self.whole:
            found: tuple[float, ...] = checks.integers(name, given, self.low, self.high)
        else:
            found = checks.numbers(name, given, self.low, self.high, above=self.above)
        if len(set(found)) < len(found):
            kind = "integers" if self.whole else "numbers"
            raise checks.ParameterError(f"{name} must be different {kind}, but {given!r} was given.")
        return tuple(sorted(found)) if self.ordered else found


@dataclass(frozen=True)
class OneOf(Checked):
    """One of some words; ``words`` may be a function, for registries that grow."""

    words: Words

    def known(self) -> Iterable[str]:
        """The words of today."""
        return self.words() if callable(self.words) else self.words

    def check(self, name: str, given: Any) -> Any:
        return checks.choice(name, given, self.known())


@dataclass(frozen=True)
class Some(OneOf):
    """Some different ones of the words, as a list or comma-separated; ``everything`` is a word for all of them, or for
    those that ``of`` gives, ``nothing`` for none; the words in ``also`` are taken as they are.

    Kept in the order given, or in that of the words where ``ordered``.
    """

    everything: str = ""
    of: Callable[[], Iterable[str]] | None = None
    ordered: bool = False
    nothing: str = ""
    also: tuple[str, ...] = ()

    def check(self, name: str, given: Any) -> Any:
        if isinstance(given, str) and given in self.also:
            return given
        known = tuple(self.known())
        if self.everything and given == self.everything:
            return tuple(self.of()) if self.of else known
        if self.nothing and isinstance(given, str | list | tuple) and given in (self.nothing, (), []):
            return ()
        found = checks.choices(name, given, known)
        return tuple(word for word in known if word in found) if self.ordered else found


@dataclass(frozen=True)
class Text(Checked):
    """Words of any kind, but not blank."""

    what: str = "a text"

    def check(self, name: str, given: Any) -> str:
        if not isinstance(given, str) or not given.strip():
            raise checks.ParameterError(f"{name} must be {self.what}, but {given!r} was given.")
        return given


@dataclass(frozen=True)
class Place(Text):
    """The path of a file or folder, kept absolute, so that it is the same place whoever looks and from where: below a
    ``~`` the home of a user, else below the folder in which the process runs.

    The words in ``also`` are taken as they are, and where a path stands beside ``names`` so is all that has no slash.
    """

    also: tuple[str, ...] = ()
    names: bool = False

    def check(self, name: str, given: Any) -> str:
        if isinstance(given, os.PathLike):
            given = os.fspath(given)
        if isinstance(given, str) and given in self.also:
            return given
        path = os.path.expanduser(super().check(name, given))
        if "\0" in path or path.startswith("~"):
            raise checks.ParameterError(f"{name} must be {self.what}, but {given!r} was given.")
        return given if self.names and path == given and os.sep not in given else os.path.abspath(path)


@dataclass(frozen=True)
class Options(Checked):
    """A mapping of words to values; the words in ``also`` are taken too."""

    also: tuple[str, ...] = ()
    what: ClassVar[str] = "a mapping of names to values"

    def check(self, name: str, given: Any) -> Any:
        if isinstance(given, str) and given in self.also:
            return given
        given = read(given)
        if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
            allowed = " or ".join([*self.also, self.what])
            raise checks.ParameterError(f"{name} must be {allowed}, but {given!r} was given.")
        return given
