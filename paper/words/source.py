"""The lines that matter: source from the engine itself, shown folded under the formula that it computes."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from IPython.display import Markdown

from paper import ROOT


def glimpse(*objects: Callable[..., object] | type) -> Markdown:
    """The source of functions, methods or classes without their docstrings, a folded box for each file."""
    boxes = []
    for file, some in groupby(objects, key=_file):
        code = "\n\n".join(_bare(inspect.getsource(inspect.unwrap(one))) for one in some)
        boxes.append(f":::{{dropdown}} In code: {file}\n```python\n{code}\n```\n:::\n")
    return Markdown("\n".join(boxes))


def _file(one: Callable[..., object] | type) -> str:
    path = Path(inspect.getsourcefile(inspect.unwrap(one)) or "")
    # A reader's own class lies in a notebook, not below the checkout.
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _bare(source: str) -> str:
    """The source, moved to the margin, without docstrings."""
    source = textwrap.dedent(source).rstrip()
    lines = source.split("\n")
    gone: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if len(node.body) > 1 and ast.get_docstring(node) is not None:
            first, last = node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno
            gone |= set(range(first, last + 1))
            if not lines[last].strip():
                gone.add(last + 1)
    return "\n".join(line for number, line in enumerate(lines, start=1) if number not in gone)
