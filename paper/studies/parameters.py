"""Types of parameters: what a notebook may be given, each refused in one sentence.

``seeds: Annotated[int, Whole(1, 1000)] = 5`` is a field of a :class:`~paper.studies.base.Study` that takes the integers
from 1 to 1000. The checks are those of :mod:`lib.checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from lib import checks

Words = Iterable[str] | Callable[[], Iterable[str]]


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
        return checks.integer(name, given, self.low, self.high)


@dataclass(frozen=True)
class Number(Checked):
    """A number from ``low`` to ``high`` and ``above`` a bound."""

    low: float | None = None
    high: float | None = None
    above: float | None = None

    def check(self, name: str, given: Any) -> float:
        return checks.number(name, given, self.low, self.high, above=self.above)


@dataclass(frozen=True)
class Numbers(Number):
    """One or more different numbers, as a list or comma-separated; ``whole`` ones are integers.

    Kept in the order given, or from small to large where ``ordered``.
    """

    whole: bool = False
    also: tuple[str, ...] = ()
    ordered: bool = False

    def check(self, name: str, given: Any) -> Any:
        if isinstance(given, str) and given in self.also:
            return given
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
        if self.nothing and (given == self.nothing or given == ()):
            return ()
        found = checks.choices(name, given, known)
        return tuple(word for word in known if word in found) if self.ordered else found


@dataclass(frozen=True)
class Text(Checked):
    """Words of any kind; not blank unless ``blank``."""

    what: str = "a text"
    blank: bool = False

    def check(self, name: str, given: Any) -> str:
        if not isinstance(given, str) or not (self.blank or given.strip()):
            raise checks.ParameterError(f"{name} must be {self.what}, but {given!r} was given.")
        return given


@dataclass(frozen=True)
class Options(Checked):
    """A mapping of words to values; the words in ``also`` are taken too."""

    also: tuple[str, ...] = ()
    what: ClassVar[str] = "a mapping of names to values"

    def check(self, name: str, given: Any) -> Any:
        if isinstance(given, str) and given in self.also:
            return given
        if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
            allowed = " or ".join([*self.also, self.what])
            raise checks.ParameterError(f"{name} must be {allowed}, but {given!r} was given.")
        return given
