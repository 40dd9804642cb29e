"""One look for all figures: colours that colour-blind readers tell apart, one frame, one kind of caption."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.verdicts import bootstrap

#: The palette of Okabe and Ito (2008).
COLOURS: MappingProxyType[str, str] = MappingProxyType(
    {
        "blue": "#0072B2",
        "orange": "#E69F00",
        "green": "#009E73",
        "vermillion": "#D55E00",
        "purple": "#CC79A7",
        "sky": "#56B4E9",
        "yellow": "#F0E442",
        "grey": "#767676",
        "black": "#000000",
    }
)

DPI = 110

_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": plt.cycler(color=[colour for name, colour in COLOURS.items() if name != "yellow"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 10,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


class _Drawing(Figure):
    """A figure that shows itself as the value of a cell, whatever backend the kernel has chosen."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=self.dpi, facecolor="white", metadata={"Software": None})
        return picture.getvalue()


def figure(
    width: float = 6.4, height: float = 3.6, columns: int = 1, rows: int = 1, **subplots: Any
) -> tuple[Figure, Any]:
    """A figure and its axes in the book's look, on opaque white (it must also read on a dark page).

    ``width`` and ``height`` are inches of the whole figure; ``columns`` and ``rows`` count the axes; further
    keywords (``sharey=True``) go to ``Figure.subplots``. The axes are one ``Axes``, or an array for several.
    The style is applied while the axes are made and nothing global changes.
    """
    with plt.rc_context(_STYLE):
        drawn = plt.figure(
            FigureClass=_Drawing, figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white"
        )
        axes = drawn.subplots(rows, columns, **subplots)
    # The cell shows what it returns; pyplot is not to show it a second time.
    plt.close(drawn)
    return drawn, axes


def known(reference: pd.DataFrame | None, run: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The rows of a reference for the cells of a run; none unless it has every cell, so that means compare."""
    wanted = run[list(keys)].drop_duplicates()
    if reference is None:
        return run.iloc[:0]
    found = wanted.merge(reference, on=list(keys))
    return found if len(found) == len(wanted) else found.iloc[:0]


def band(axis: Axes, steps: np.ndarray, rows: np.ndarray, colour: str, label: str, style: str = "-") -> None:
    """A line for the mean over seeds with its bootstrap interval; rows [steps, seeds]."""
    axis.plot(steps, rows.mean(1), style, color=colour, label=label, lw=1.8)
    if rows.shape[1] > 1:
        ends = np.array([bootstrap(row) for row in rows])
        axis.fill_between(steps, ends[:, 0], ends[:, 1], color=colour, alpha=0.18, lw=0)


#: What a caption says of :func:`rings`.
RINGS = " Open circles: the committed reference."


def rings(axis: Axes, places: Any, values: Any, colour: str) -> None:
    """The committed reference as open circles around where this run's points should be."""
    axis.plot(places, values, "o", mfc="none", mec=COLOURS[colour], ms=9, mew=0.9, zorder=4)


def caption(drawn: Figure, text: str) -> None:
    """Write the figure's message under it, wrapped to its width; the layout makes room."""
    characters = max(20, int(drawn.get_figwidth() * 14))
    drawn.supxlabel(textwrap.fill(text, characters), x=0.01, ha="left", fontsize=9, color="#333333")
