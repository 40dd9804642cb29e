"""Refusals at once: what the fields of a study take, without importing what computes.

A study's module needs torch and much else to compute, and nothing of it to say that ``shots`` must be an integer. A
process of its own imports the module with stand-ins for all that is installed, and lives only as long as it takes to
ask the fields. So what they take is declared in one place, and a gate or class that a reader has added counts at once.
What a stand-in cannot say (has this machine that GPU? is there room for so many tokens?) is left to the study itself,
which checks everything again.
"""

from __future__ import annotations

import ast
import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from lib.checks import ParameterError
from paper.tools import sources

# What fields are made of is imported as it is, beside our own packages and the standard library.
_TYPES = ("annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection")
_AS_IT_IS = {*sys.stdlib_module_names, *sources.PACKAGES, *_TYPES}


class _AnyType(type):
    def __getattr__(cls, name: str) -> Any:
        return _absent(name)

    def __iter__(cls) -> Iterator[Any]:
        return iter((_Any, _Any))  # modules unpack pairs while they are imported: rows, columns = torch.meshgrid(...)

    def __setitem__(cls, key: object, value: object) -> None:
        pass

    def _same(cls, *given: object, **named: object) -> Any:
        return _Any

    __call__ = __getitem__ = __neg__ = __add__ = __radd__ = __sub__ = __rsub__ = _same
    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _same


class _Any(metaclass=_AnyType):
    """Stands for any value, function, class or decorator that a module may need while it is imported."""


def _absent(name: str) -> type[_Any]:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Any


class _StandIns(MetaPathFinder, Loader):
    """Finds whatever is not imported as it is, and has everything in it."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] in _AS_IT_IS else ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = _absent  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def _study(notebook: Path) -> tuple[str, str] | None:
    """Module and class of the study that takes the notebook's parameters; None if it has none of ours."""
    nodes = [
        node
        for number, cell in enumerate(sources.cells(notebook), 1)
        for node in ast.walk(sources.cell_tree(notebook, number, cell["source"]))
    ]
    modules = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("paper.studies.")
        for alias in node.names
    }
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr == "from_notebook" and isinstance(node.value, ast.Name):
            return modules.get(node.value.id)
    return None


def check(notebook: Path, given: Mapping[str, Any]) -> None:
    """Refuse a value that its parameter does not take; silent where the study itself has to say it."""
    study = _study(notebook) if given else None
    if study is None:
        return
    command, request = [sys.executable, "-m", __name__], pickle.dumps((*study, dict(given)))
    asked = subprocess.run(command, input=request, capture_output=True, check=False)
    if asked.returncode == 0 and asked.stdout:
        raise ParameterError(asked.stdout.decode())


def _ask(module: str, study: str, given: Mapping[str, Any]) -> str:
    """The sentence about the first value that is refused, or nothing."""
    sys.meta_path.insert(0, _StandIns())
    fields = getattr(importlib.import_module(module), study).model_fields
    for name, value in given.items():
        for kind in fields[name].metadata if name in fields else ():
            try:
                kind.check(name, value)
            except ParameterError as refused:
                return str(refused)
            except Exception:  # a stand-in was asked for what only the real one knows
                continue
    return ""


if __name__ == "__main__":
    sys.stdout.buffer.write(_ask(*pickle.load(sys.stdin.buffer)).encode())
