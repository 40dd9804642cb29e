"""A page's figure on both backbones: the drawn world's and, where there is evidence, that of photographs.

Two pictures and not two panels: a page gives each of them its whole width, so that they also read on a phone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from paper.studies.base import Page

#: What stands above each of two pictures.
TITLES = ("Drawn world", "Photographs")

#: Inches that a title takes, and each line of it.
ROOM, LINE = 0.3, 0.2
#: Draws a figure from tables by name and this run's over them, None for a table that it has not measured again.
Draw = Callable[[Mapping[str, pd.DataFrame], Mapping[str, "pd.DataFrame | None"]], Figure]


@dataclass(frozen=True)
class Pair:
    """Two figures, which a notebook shows as two pictures of one cell."""

    drawn: Figure
    photographs: Figure

    def _ipython_display_(self) -> None:
        display(self.drawn)
        display(self.photographs)


def both(page: Page, draw: Draw) -> Figure | Pair:
    """What ``draw`` makes of the page's tables; where there is evidence on photographs, with what it makes of that."""
    own = draw(page.tables, page.over)
    if page.photographs is None:
        return own
    other = draw(page.photographs.tables, defaultdict(lambda: None))
    for title, one in zip(TITLES, (own, other), strict=True):
        _titled(one, title)
    return Pair(own, other)


def apart(page: Page, draw: Draw) -> tuple[Figure, Figure | None]:
    """The figures of :func:`both`, for a page that shows them in two places; None where there is no second one."""
    drawn = both(page, draw)
    return (drawn.drawn, drawn.photographs) if isinstance(drawn, Pair) else (drawn, None)


def _titled(drawn: Figure, title: str) -> None:
    """A title above everything, for which the figure grows; legends that stand there make room."""
    width, height = drawn.get_size_inches()
    drawn.set_size_inches(width, height + ROOM)
    # The layout keeps free what the taller of title and legend takes: the title has empty lines for the legend.
    taken = max((legend.get_window_extent().height / drawn.dpi for legend in drawn.legends), default=0.0)
    drawn.suptitle(title + "\n" * math.ceil(taken / LINE), x=0.01, ha="left", fontsize=12, fontweight="bold")
    for legend in drawn.legends:
        legend.set_bbox_to_anchor((0, 0, 1, 1 - ROOM / (height + ROOM)), transform=drawn.transFigure)
