"""Checks of parameters, made before any compute.

Every failure is a :class:`ParameterError` with one sentence: ``NAME must be ALLOWED, but GIVEN was given.``
"""

from __future__ import annotations

import contextlib
import math
import numbers as abstract
import os
import reprlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

_MEBIBYTE = 2**20


class ParameterError(ValueError):
    """A parameter that cannot be used; the message is one sentence for the reader."""


def _refuse(name: str, allowed: str, given: object) -> ParameterError:
    shown = given if isinstance(given, _Verbatim) else reprlib.repr(given)
    return ParameterError(f"{name} must be {allowed}, but {shown} was given.")


class _Verbatim(str):
    """A description of what was given that needs no quotation marks."""


def _span(noun: str, low: float | None, high: float | None, above: float | None = None) -> str:
    """The allowed range in words, for example "an integer from 1 to 8"."""
    lower = f"above {above:g}" if above is not None else ""
    if low is not None and high is not None:
        bounds = f"from {low:g} to {high:g}"
    elif low is not None:
        bounds = f"of at least {low:g}"
    elif high is not None:
        bounds = f"of at most {high:g}" if above is None else f"at most {high:g}"
    else:
        bounds = ""
    return " ".join(filter(None, [noun, " and ".join(filter(None, [lower, bounds]))]))


def reason(problem: Exception) -> str:
    """The first line of what was raised, as part of a sentence."""
    return ascii(next(iter(str(problem).splitlines()), "")[:120].rstrip(". ") or type(problem).__name__)[1:-1]


def choice(name: str, given: object, allowed: Iterable[str]) -> str:
    """``given`` if it is one of the ``allowed`` words."""
    known = tuple(allowed)
    if not isinstance(given, str) or given not in known:
        raise _refuse(name, f"one of {', '.join(known)}", given)
    return given


def choices(name: str, given: str | Sequence[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Several different words out of ``allowed``, as a list, a tuple or a comma-separated string."""
    known = tuple(allowed)
    sentence = f"one or more different names out of {', '.join(known)}"
    if isinstance(given, str):
        words: tuple[object, ...] = tuple(part.strip() for part in given.split(","))
    elif isinstance(given, list | tuple):
        words = tuple(given)
    else:
        raise _refuse(name, sentence, given)
    if not words:
        raise _refuse(name, sentence, given)
    for word in words:
        if not isinstance(word, str) or word not in known:
            raise _refuse(name, sentence, word)
    if len(set(words)) < len(words):
        raise _refuse(name, sentence, given)
    return tuple(str(word) for word in words)


def integer(name: str, given: object, low: float | None = None, high: float | None = None) -> int:
    """A whole number with ``low <= given <= high``; booleans, 2.0 and "2" are refused."""
    allowed = _span("an integer", low, high)
    if isinstance(given, bool) or not isinstance(given, abstract.Integral):
        raise _refuse(name, allowed, given)
    value = int(given)
    if (low is not None and value < low) or (high is not None and value > high):
        raise _refuse(name, allowed, given)
    return value


def integers(name: str, given: object, low: float | None = None, high: float | None = None) -> tuple[int, ...]:
    """One or more whole numbers in the range: a number, a list, a tuple or a comma-separated string."""
    allowed = _span("one or more integers", low, high)
    if isinstance(given, str):
        parts = [part.strip() for part in given.split(",")]
        if not all(part.lstrip("-").isdecimal() for part in parts):
            raise _refuse(name, allowed, given)
        given = [int(part) for part in parts]
    entries = list(given) if isinstance(given, list | tuple) else [given]
    if not entries:
        raise _refuse(name, allowed, given)
    return tuple(integer(name, entry, low, high) for entry in entries)


def _fits(given: object, low: float | None, high: float | None, above: float | None) -> float | None:
    """The number as a float, or None if it is not a finite number in the range."""
    if isinstance(given, bool) or not isinstance(given, abstract.Real):
        return None
    try:
        value = float(given)
    except OverflowError:
        return None
    inside = (
        math.isfinite(value)
        and (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
    )
    return value if inside else None


def number(
    name: str, given: object, low: float | None = None, high: float | None = None, *, above: float | None = None
) -> float:
    """A finite number with ``low <= given <= high`` (both inclusive) and ``given > above`` (exclusive)."""
    value = _fits(given, low, high, above)
    if value is None:
        raise _refuse(name, _span("a number", low, high, above), given)
    return value


def numbers(
    name: str, given: object, low: float | None = None, high: float | None = None, *, above: float | None = None
) -> tuple[float, ...]:
    """One or more finite numbers in the range: a number, a list, a tuple or a comma-separated string."""
    allowed = _span("one or more numbers", low, high, above)
    if isinstance(given, str):
        entries: list[object] = []
        for part in given.split(","):
            try:
                entries.append(float(part))
            except ValueError:
                raise _refuse(name, allowed, given) from None
    elif isinstance(given, list | tuple):
        entries = list(given)
    else:
        entries = [given]
    if not entries:
        raise _refuse(name, allowed, given)
    values = []
    for entry in entries:
        value = _fits(entry, low, high, above)
        if value is None:
            raise _refuse(name, allowed, entry)
        values.append(value)
    return tuple(values)


def flag(name: str, given: object) -> bool:
    """True or False, and nothing that merely looks like it (1, "yes")."""
    if not isinstance(given, bool):
        raise _refuse(name, "True or False", given)
    return given


def columns(name: str, table: pandas.DataFrame, required: Iterable[str]) -> None:
    """Refuse a table in which one of the ``required`` columns is missing."""
    wanted = list(required)
    present = [str(column) for column in table.columns]
    missing = [column for column in wanted if column not in present]
    if missing:
        given = _Verbatim(f"a table without {', '.join(missing)} (it has {', '.join(present) or 'no columns'})")
        raise _refuse(name, f"a table with the columns {', '.join(wanted)}", given)


def writable(name: str, folder: str | Path, need: int = 64 * _MEBIBYTE) -> Path:
    """Make ``folder`` and prove that it can be written; ``need`` is the free space wanted, in bytes.

    On failure every folder made here is removed again. The proof is a small temporary file, since
    permission bits alone do not tell (read-only mounts, quotas, a superuser).
    """
    if not isinstance(folder, str | Path) or not str(folder).strip() or "\0" in str(folder):
        raise _refuse(name, "the path of a folder", folder)
    path = Path(os.path.expanduser(folder)).absolute()
    shown = repr(str(folder))
    made: list[Path] = []
    missing: list[Path] = []
    base = path
    while not os.path.lexists(base) and base != base.parent:
        missing.append(base)
        base = base.parent
    if not base.is_dir():
        where = shown if base == path else f"{shown} below the file {str(base)!r}"
        raise _refuse(name, "a folder", _Verbatim(f"the file {where}" if base == path else where))
    free = shutil.disk_usage(base).free
    if free < need:
        given = _Verbatim(f"{shown} with {free / _MEBIBYTE:.0f} MiB free")
        raise _refuse(name, f"a folder with at least {need / _MEBIBYTE:.0f} MiB of free space", given)
    try:
        if not os.access(base, os.W_OK | os.X_OK):
            raise PermissionError
        for part in reversed(missing):
            # Another run may have made it meanwhile: then it is not ours to remove.
            with contextlib.suppress(FileExistsError):
                part.mkdir()
                made.append(part)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"probe")
    except OSError as error:
        for part in reversed(made):
            with contextlib.suppress(OSError):
                part.rmdir()
        raise _refuse(name, "a folder that this user has the right to write", _Verbatim(shown)) from error
    return path
