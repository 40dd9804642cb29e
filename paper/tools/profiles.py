"""Profiles: which pages the book has, and with which parameters each notebook runs.

Everything is checked when a profile is read, before any page runs, and nothing heavy is imported for it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lib.checks import ParameterError
from paper.tools import sources

#: The name by which a build calls what it does after the pages.
BOOK = "book"


@dataclass(frozen=True)
class Page:
    """One page of the book: a notebook, its parameters, and the pages whose stored results it reuses."""

    name: str
    notebook: str
    title: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    threads: int = 1  # CPU threads of its job; 0: all
    first: bool = False  # starts before other pages that could run
    beside: str = ""  # no page of its own: evidence that the page of this name shows beside its own

    @property
    def source(self) -> Path:
        return sources.NOTEBOOKS / f"{self.notebook}.ipynb"


def profile(path: Path) -> dict[str, Page]:
    """The pages of a profile file, with every parameter known to its notebook and none waiting for itself."""
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in path.parent.glob("*.yaml")))
        raise ParameterError(f"PROFILE must be one of {known}, but {path.stem!r} was given.")
    pages = {name: _page(path, name, entry) for name, entry in _entries(path).items()}
    for page in pages.values():
        if lost := [name for name in page.after if name not in pages]:
            raise ParameterError(f"after of {page.name} must be pages of {path.name}, but {lost[0]!r} was given.")
        main = pages.get(page.beside)
        if page.beside and (main is None or main.beside or main.notebook != page.notebook):
            raise ParameterError(
                f"beside of {page.name} must be a page of {path.name} with the notebook {page.notebook},"
                f" but {page.beside!r} was given."
            )
        try:
            check_parameters(page.source, page.parameters)
        except ParameterError as refused:
            raise ParameterError(f"{path.name}, page {page.name}: {refused}") from None
    _check_order(path, pages)
    return pages


@functools.cache
def evidence() -> dict[str, Page]:
    """The pages whose evidence is committed, with the parameters that it was measured with; none without a checkout."""
    path = sources.ROOT / "profiles" / "evidence.yaml"
    return profile(path) if path.is_file() else {}


@functools.cache
def real() -> dict[str, Page]:
    """The pages whose evidence is measured by whoever has the data, the weights and a GPU."""
    path = sources.ROOT / "profiles" / "real.yaml"
    return profile(path) if path.is_file() else {}


class _Loader(yaml.SafeLoader):
    """YAML in which 1e3 and 35e-4 are numbers, as in Python and not in YAML 1.1, and in which no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; of two equal keys YAML would drop the first without a word."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z"), list("-+.0123456789")
)


def read_yaml(path: Path) -> Any:
    """What a YAML file says; one that cannot be read is refused by name and line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        mark, what = (
            getattr(error, "problem_mark", None),
            getattr(error, "problem", None) or getattr(error, "reason", ""),
        )
        line = f":{mark.line + 1}" if mark else ""
        raise ParameterError(f"{path.name}{line} must be YAML, but it is not: {what}.") from None
    except (OSError, ValueError, RecursionError) as error:
        what = getattr(error, "strerror", None) or error
        raise ParameterError(f"{path.name} must be YAML, but it is not: {what}.") from None


def _entries(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    entries = content.get("pages") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise ParameterError(f"pages of {path.name} must be one or more named pages, but {entries!r} was given.")
    return entries


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "notebook": (lambda given: isinstance(given, str), "a name"),
    "title": (lambda given: isinstance(given, str) and len(given.strip().splitlines()) == 1, "a text on one line"),
    "parameters": (lambda given: isinstance(given, dict), "names with values"),
    "after": (
        lambda given: isinstance(given, list) and all(isinstance(name, str) for name in given),
        "a list of pages",
    ),
    "threads": (lambda given: type(given) is int and given >= 0, "a whole number of at least 0"),
    "first": (lambda given: isinstance(given, bool), "true or false"),
    "beside": (lambda given: isinstance(given, str), "the name of a page"),
}


def _page(path: Path, name: Any, entry: Any) -> Page:
    # The name is that of files, and exports are told by what stands before the first hyphen of theirs.
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]+", name) or name == BOOK:
        raise ParameterError(
            f"Pages of {path.name} must have plain words (letters, digits, _; not {BOOK}) as names, "
            f"but {name!r} was given."
        )
    where = f"{name} in {path.name}"
    if not isinstance(entry, dict) or "notebook" not in entry:
        raise ParameterError(f"{where} must be a page with a notebook, but {entry!r} was given.")
    for key, given in entry.items():
        if key not in _KINDS:
            raise ParameterError(f"Keys of {where} must be among {', '.join(_KINDS)}, but {key!r} was given.")
        fits, words = _KINDS[key]
        if not fits(given):
            raise ParameterError(f"{key} of {where} must be {words}, but {given!r} was given.")
    page = Page(name, **{**entry, "after": tuple(entry.get("after", ()))})
    if not page.source.is_file():
        known = ", ".join(sorted(found.stem for found in sources.NOTEBOOKS.glob("*.ipynb")))
        raise ParameterError(f"notebook of {where} must be one of {known}, but {page.notebook!r} was given.")
    for key, given in page.parameters.items():
        if value(text(given)) != given:
            raise ParameterError(
                f"{key} of {where} must be made of numbers, words, truth values, lists and mappings, "
                f"but {given!r} was given."
            )
    return page


def _check_order(path: Path, pages: Mapping[str, Page]) -> None:
    """Refuse pages that wait for each other in a circle."""
    done: set[str] = set()

    def visit(name: str, waiting: tuple[str, ...]) -> None:
        if name in waiting:
            circle = " → ".join([*waiting[waiting.index(name) :], name])
            raise ParameterError(f"after in {path.name} must not run in a circle, but {circle} was given.")
        if name not in done:
            for other in pages[name].after:
                visit(other, (*waiting, name))
            done.add(name)

    for name in pages:
        visit(name, ())


def parameters(notebook: Path) -> dict[str, str]:
    """The notebook's parameters and the text of their defaults, read from the cell tagged ``parameters``."""
    found: dict[str, str] = {}
    for number, cell in enumerate(sources.cells(notebook), 1):
        if "parameters" not in cell.get("metadata", {}).get("tags", []):
            continue
        for node in sources.cell_tree(notebook, number, cell["source"]).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            default = ast.get_source_segment(cell["source"], node.value) if getattr(node, "value", None) else None  # type: ignore[attr-defined]
            found.update({target.id: default or "" for target in targets if isinstance(target, ast.Name)})
    return found


def check_parameters(notebook: Path, given: Mapping[str, Any]) -> None:
    """Refuse a name that the notebook does not have; papermill alone would only warn."""
    known = parameters(notebook)
    for name in given:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise ParameterError(f"{name} is not a parameter of {notebook.name}; the parameters are {listed}.")


def value(text: str) -> Any:
    """A value from the command line: a Python literal, ``true``, ``false``, ``null``, or else the text."""
    plain = {"true": True, "false": False, "null": None}
    if text.lower() in plain:
        return plain[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def text(given: Any) -> str:
    """What stands for a value on the command line, so that :func:`value` gives it back: the text "3" is no number."""
    if isinstance(given, str) and value(given) == given and not given.startswith("-"):
        return given
    shown = repr(given)
    return f"({shown})" if shown.startswith("-") else shown  # no option
