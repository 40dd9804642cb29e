"""Sentences and tables that a page of prose computes while the book is built::

    ```{computed} paper.scale:summary
    ```

The function is called without arguments and gives Markdown. A page is read again when its function's module changes.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Computed(SphinxDirective):
    """The directive: its argument is ``module:function``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """What the function says, as if it stood on the page."""
        module, _, name = self.arguments[0].partition(":")
        function = getattr(importlib.import_module(module), name)
        self.env.note_dependency(inspect.getfile(function))
        here = nodes.Element()
        self.state.nested_parse(StringList(function().splitlines(), self.arguments[0]), 0, here)
        return here.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Makes the directive known."""
    app.add_directive("computed", Computed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
