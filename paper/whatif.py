"""What-ifs: figures that follow sliders.

:func:`panels` draws every setting beforehand, so that the sliders move in the static page, without a kernel
and without a network. :func:`live` runs a small experiment of the reader's choice and needs a kernel.
"""

from __future__ import annotations

import base64
import html
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from lib import checks
from paper.figures import style

#: Panels that one page carries without becoming slow to load (about 15 KB each).
LIMIT = 120


class WhatIf(widgets.VBox):
    """A column of widgets that prints as one stable line, whatever the identities of its models are."""

    summary: str = "What-if"

    def __repr__(self) -> str:
        return self.summary


def png(drawn: Figure) -> bytes:
    """The figure as a PNG with at most 64 colours, whatever it shows: a page carries many."""
    return style.png(drawn, 64, math.inf)


def _panel(drawn: Figure, description: str, layout: widgets.Layout) -> widgets.HTML:
    """One picture as an HTML widget: unlike an Image it carries a text for those who cannot see it."""
    data = base64.b64encode(png(drawn)).decode()
    width, height = (round(side * drawn.dpi) for side in drawn.get_size_inches())
    plt.close(drawn)
    source = (
        f'<img width="{width}" height="{height}" style="max-width:100%;height:auto" '
        f'alt="{html.escape(description, quote=True)}" src="data:image/png;base64,{data}">'
    )
    return widgets.HTML(source, layout=layout)


def _words(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def panels(
    axes: Mapping[str, Sequence[Any]],
    draw: Callable[..., Figure],
    *,
    labels: Mapping[str, str] | None = None,
    alt: Callable[..., str] | None = None,
    start: Mapping[str, Any] | None = None,
) -> WhatIf:
    """Sliders that choose among pictures drawn here and now, in a page without a kernel.

    ``axes`` names one or two parameters and the values of each; ``draw(**values)`` gives the figure of one
    setting (all of the same size; each is closed). ``labels`` are the words at the sliders (with units),
    ``alt(**values)`` the text in place of a picture, ``start`` the values shown first (default: the first of
    each axis).
    """
    values = {name: tuple(axes[name]) for name in axes}
    if not 1 <= len(values) <= 2:
        raise checks.ParameterError(f"axes must be one or two parameters, but {len(values)} were given.")
    for name, options in values.items():
        if not options or len({_words(option) for option in options}) < len(options):
            raise checks.ParameterError(f"axes must be values that differ for {name}, but {options!r} was given.")
    if (count := len(list(itertools.product(*values.values())))) > LIMIT:
        raise checks.ParameterError(f"axes must be at most {LIMIT} settings together, but {count} were given.")
    titles = {name: (labels or {}).get(name, name.replace("_", " ")) for name in values}
    chosen = {name: options.index((start or {}).get(name, options[0])) for name, options in values.items()}

    def describe(setting: Mapping[str, Any]) -> str:
        if alt is not None:
            return alt(**setting)
        return "Figure for " + ", ".join(f"{titles[name]} {_words(value)}" for name, value in setting.items())

    names = list(values)
    width = f"{0.6 * max(map(len, titles.values())) + 1:.1f}em"
    sliders = [
        widgets.SelectionSlider(
            options=[_words(option) for option in values[name]],
            index=chosen[name],
            description=titles[name],
            continuous_update=True,
            style={"description_width": width},
            layout={"width": "95%", "max_width": "480px"},
        )
        for name in names
    ]
    layout = widgets.Layout(margin="0")

    def column(fixed: Mapping[str, Any], depth: int) -> widgets.Stack:
        """The stack over one parameter; with a second one, a stack of such stacks."""
        name = names[depth]
        children = []
        for value in values[name]:
            setting = {**fixed, name: value}
            last = depth == len(names) - 1
            children.append(_panel(draw(**setting), describe(setting), layout) if last else column(setting, depth + 1))
        stack = widgets.Stack(children, selected_index=chosen[name])
        # The link lives in the page (no kernel): each inner stack follows the inner slider by its own link.
        widgets.jslink((sliders[depth], "index"), (stack, "selected_index"))
        return stack

    shown = WhatIf([*sliders, column({}, 0)])
    shown.summary = "What-if over " + " and ".join(f"{titles[name]} ({len(values[name])})" for name in names)
    shown.add_class("what-if")
    return shown


def live(run: Callable[..., Figure], controls: Mapping[str, widgets.Widget], *, button: str = "Run") -> WhatIf:
    """Controls and a button that runs ``run(**values)`` in the kernel and shows the figure it returns.

    A :class:`~lib.checks.ParameterError` shows as its sentence. A page without a kernel cannot run anything:
    tag the cell ``remove-output`` and say in the text beside it that this part runs in Jupyter.
    """
    output = widgets.Output()
    start = widgets.Button(description=button, button_style="primary")
    status = widgets.Label("")

    def clicked(_: widgets.Button) -> None:
        start.disabled, status.value = True, "running"
        began = time.perf_counter()
        output.clear_output(wait=True)
        with output:  # anything unexpected shows its traceback here
            try:
                drawn = run(**{name: control.value for name, control in controls.items()})
            except checks.ParameterError as refused:
                status.value = str(refused)
            else:
                display(drawn)
                plt.close(drawn)
                status.value = f"{time.perf_counter() - began:.1f} s"
        start.disabled = False

    start.on_click(clicked)
    shown = WhatIf([*controls.values(), widgets.HBox([start, status]), output])
    shown.summary = "Live what-if over " + ", ".join(controls)
    shown.add_class("what-if")
    return shown
