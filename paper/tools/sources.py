"""What a page's numbers can depend on: the files that a notebook's imports reach, all of them parsed.

Reads files and imports nothing but the standard library, so that a build that has nothing to do says so at once.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lib.checks import ParameterError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"

#: The packages of this repository.
PACKAGES = ("lib", "paper")

# A cell may use `await`; what else IPython adds to Python is taken out before.
_CELL_FLAGS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _refused(path: Path, where: str, error: SyntaxError | ValueError) -> ParameterError:
    """The sentence about a file that is no Python; an editor finds the place by ``FILE:LINE``."""
    line = getattr(error, "lineno", None)
    place = f"{_shown(path)}{f':{line}' if line and not where else ''}{where}"
    what = error.msg if isinstance(error, SyntaxError) else str(error)
    return ParameterError(f"{place} must be Python, but it is not: {what}.")


@functools.lru_cache(maxsize=512)
def _parsed(path: Path, changed: int) -> ast.Module:
    """The syntax tree of a module; ``changed`` (nanoseconds) tells its states apart."""
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise _refused(path, "", error) from None


def parse(path: Path) -> ast.Module:
    """The syntax tree of a Python file; one that is no Python is refused by name and line."""
    return _parsed(path, path.stat().st_mtime_ns)


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook as stored, each with its ``source`` in one piece."""
    refusal = ParameterError(
        f"NOTEBOOK must be a Jupyter notebook with a Python kernel, but {str(notebook)!r} was given."
    )
    if not notebook.is_file():
        raise ParameterError(f"NOTEBOOK must be a file, but {str(notebook)!r} was given.")
    try:
        stored = json.loads(notebook.read_text(encoding="utf-8"))
        language = stored["metadata"].get("kernelspec", {}).get("language", "python")
        found = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
        found = [{**cell, "source": "".join(cell["source"])} for cell in found]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise refusal from None
    if language != "python":
        raise refusal
    return found


def _plain(source: str) -> str:
    """The cell without what IPython adds to Python: magics and shell commands, which import nothing of ours."""
    if re.match(r"\s*%%(?!time|capture|prun)", source):
        return ""  # another language, or a file
    return re.sub(r"(?m)^(\s*)(?:[%!]|\w+\s*=\s*[%!]|\?|.*\?\s*$).*$", r"\1pass", source)


def cell_tree(notebook: Path, number: int, source: str) -> ast.Module:
    """The syntax tree of code cell ``number`` (from 1); one that is no Python is refused by name."""
    try:
        return compile(source, "<cell>", "exec", _CELL_FLAGS)
    except (SyntaxError, ValueError):
        pass
    try:
        return compile(_plain(source), "<cell>", "exec", _CELL_FLAGS)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise _refused(notebook, f" (code cell {number}{line})", error) from None


def _module_file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Modules that the code imports, anywhere in it; ``package`` resolves relative imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports(path: Path) -> list[str]:
    """All names that a module of the repository imports, anywhere in it; some may be no modules."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return sorted(set(_imports(parse(path), ".".join(parts[:-1]))))


@functools.lru_cache(maxsize=512)
def _imported(path: Path, package: str, changed: int) -> frozenset[str]:
    """The modules of this repository that a module imports."""
    names = _imports(_parsed(path, changed), package)
    return frozenset(name for name in names if name.partition(".")[0] in PACKAGES)


def reached(notebook: Path) -> list[Path]:
    """The files of this repository that the notebook reaches through imports, with the data of their packages.

    A change in any other file cannot change the page, so the build leaves the page alone.
    """
    trees = [cell_tree(notebook, number, cell["source"]) for number, cell in enumerate(cells(notebook), 1)]
    found: set[Path] = set()
    todo = [name for tree in trees for name in _imports(tree, "")]
    while todo:
        name = todo.pop()
        if name.partition(".")[0] not in PACKAGES:
            continue
        todo += [name.rpartition(".")[0]] if "." in name else []
        path = _module_file(name)
        if path is None or path in found:
            continue
        found.add(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        todo += _imported(path, package, path.stat().st_mtime_ns)
    return sorted(found | _data({path.parent for path in found} - {ROOT / name for name in PACKAGES}))


def _data(packages: Iterable[Path]) -> set[Path]:
    return {
        path
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and not path.name.startswith(".")
    }


def modules() -> list[Path]:
    """Every Python file of the repository's packages."""
    return sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
