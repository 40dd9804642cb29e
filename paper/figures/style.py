"""One look for all figures: colours that colour-blind readers tell apart, one frame, one kind of caption.

A figure draws the evidence. What was measured again, its ``rerun``, lies over it as :func:`diamonds`.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from PIL import Image, ImageChops, ImageStat
from PIL.PngImagePlugin import PngInfo

from lib.verdicts import MARKS, Outcome, bootstrap
from paper.words.format import number
from paper.words.spelling import times

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

#: The colours of a map whose zero is nothing: there it is next to the ground of the page, also of a dark one.
SEQUENTIAL = "YlGnBu"

#: The width in pixels at which the book shows a figure that is not narrower, and how high its smallest text is there.
SHOWN, SMALLEST = 660, 9.0

#: Pixels of a picture for each one of the page on which it is shown, so that it is sharp on fine screens, too.
DENSITY = 2.0

#: The class of a caption that stands below its picture, and the key under which the picture's file has it.
CAPTION, DESCRIPTION = "figure-caption", "Description"

#: The key that a picture's file has, and the class of the picture in a page, where it shows photographs or the like,
#: whose colours are themselves: a dark page turns those of all others (css/book.css).
PICTURED = "pictured"

#: The key under which a picture's file has the width below which its text is too small.
NARROWEST = "narrowest"

_STYLE: dict[Any, Any] = {
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
    """A figure that shows itself as the value of a cell, whatever backend the kernel has chosen: a picture, and its
    caption below it as text.

    The picture says the same in its own file (see :func:`png`), from where the book takes it.
    """

    def _ipython_display_(self) -> None:
        if self.axes:
            width, height = (round(inches * DPI) for inches in self.get_size_inches())
            shown = {"image/png": base64.b64encode(png(self)).decode(), "text/plain": repr(self)}
            display(shown, metadata={"image/png": {"width": width, "height": height}}, raw=True)
        if self.get_label():
            display({"text/html": f'<p class="{CAPTION}">{html.escape(str(self.get_label()))}</p>'}, raw=True)


def png(drawn: Figure) -> bytes:
    """The figure as a PNG with at most 64 colours: a third of the size, and sharp for lines and text.

    It has :data:`DENSITY` times the pixels that the book shows of it, which are at most :data:`SHOWN` in a line. Its
    caption is in the file, as the description of the picture. Whoever compares only what stands beside pictures, as
    nbval does here, sets the environment's ``BOOK_PICTURES`` to ``none`` and gets one white pixel for each.
    """
    if os.environ.get("BOOK_PICTURES") == "none":
        return _nothing("png")
    raw, dots = _drawn(drawn)
    return compact(raw, 64, 1.0, str(drawn.get_label()), pictured(drawn), dots, least(drawn))


def webp(drawn: Figure) -> bytes:
    """The figure as a lossless WebP of as many pixels and 64 colours, whatever it shows: two thirds of a PNG, for pages
    that carry many; a notebook's viewers expect PNG of its figures.
    """
    if os.environ.get("BOOK_PICTURES") == "none":
        return _nothing("webp")
    small = io.BytesIO()
    picture = Image.open(io.BytesIO(_drawn(drawn)[0])).convert("RGB")
    # A higher method takes fifty times as long for a hundredth of the size.
    _fewer(picture, 64).convert("RGB").save(small, format="webp", lossless=True, quality=80, method=4)
    return small.getvalue()


def _nothing(kind: str) -> bytes:
    Image.new("RGB", (1, 1), "white").save(raw := io.BytesIO(), format=kind, lossless=True)
    return raw.getvalue()


def _drawn(drawn: Figure) -> tuple[bytes, float]:
    """The figure as matplotlib draws it (a PNG), its texts legible, and its pixels an inch."""
    legible(drawn)
    raw = io.BytesIO()
    dots = DPI * max(1.0, DENSITY * min(1.0, SHOWN / (drawn.get_figwidth() * DPI)))
    drawn.savefig(raw, format="png", dpi=dots, facecolor="white", metadata={"Software": None})
    return raw.getvalue(), dots


def pictured(drawn: Figure) -> bool:
    """Whether the figure shows pictures in their own colours, and not only values as colours."""
    return any(np.asarray(image.get_array()).ndim == 3 for axes in drawn.axes for image in axes.images)


def legible(drawn: Figure) -> None:
    """Raise the size of every text that would be smaller than :data:`SMALLEST` where the book shows the figure.

    A page shows a figure wider than :data:`SHOWN` smaller than it is drawn, its text with it.
    """
    wide = drawn.get_figwidth() * DPI
    least = SMALLEST * 72 / DPI * max(1.0, wide / SHOWN)
    for axes in drawn.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # The labels of ticks are made anew when they move.
            if any(float(text.get_fontsize()) < least for text in axis.get_ticklabels()):
                axis.set_tick_params(labelsize=least)
    for text in drawn.findobj(Text):
        if float(text.get_fontsize()) < least:
            text.set_fontsize(least)


def least(drawn: Figure) -> int:
    """The width in pixels of a page at which the smallest text of a figure that has been drawn is :data:`SMALLEST`."""
    texts = [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text().strip()]
    smallest = min((float(text.get_fontsize()) for text in texts), default=math.inf)
    return round(drawn.get_figwidth() * SMALLEST * 72 / smallest)


def compact(
    raw: bytes,
    colours: int = 64,
    apart: float = 1.0,
    description: str = "",
    own_colours: bool = False,
    dots: float = DPI,
    narrowest: int = 0,
) -> bytes:
    """A PNG with a description and at most so many colours, or with all of them where its values (0 to 255) would move
    by more than ``apart`` in the mean, as those of photographs would. ``dots`` are its pixels an inch, ``narrowest``
    the width in pixels of a page below which its text is too small.
    """
    picture = Image.open(io.BytesIO(raw)).convert("RGB")
    fewer = _fewer(picture, colours)
    moved = ImageStat.Stat(ImageChops.difference(picture, fewer.convert("RGB"))).mean
    if sum(moved) / len(moved) > apart:
        fewer = picture
    told = PngInfo()
    if description:
        told.add_itxt(DESCRIPTION, description)
    if own_colours:
        told.add_text(PICTURED, "yes")
    if narrowest:
        told.add_text(NARROWEST, str(narrowest))
    small = io.BytesIO()
    fewer.save(small, format="png", optimize=True, pnginfo=told, dpi=(dots, dots))
    return small.getvalue()


_GREYS = np.array([level * 0x010101 for level in (0, 64, 128, 192, 255)])


def _fewer(picture: Image.Image, colours: int) -> Image.Image:
    """The picture in so many of its own colours: half of them those that most of it has; the others, one by one, that
    which is furthest from all taken so far for the room that it has, so that a small mark keeps its hue.
    """
    values = np.asarray(picture).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    found, place, count = np.unique(values, return_inverse=True, return_counts=True)
    # Text stays grey beside a picture of many colours, its edges with it.
    often = np.unique(np.concatenate([_GREYS, found[np.argsort(-count, kind="stable")[: colours // 2 - len(_GREYS)]]]))
    parts, palette = (np.stack([of >> 16, of >> 8 & 255, of & 255], 1) for of in (found, often))
    away = ((parts[:, None] - palette) ** 2).sum(2).min(1)
    while len(palette) < colours and away.any():
        taken = parts[(away * np.sqrt(count)).argmax()]
        palette = np.concatenate([palette, taken[None]])
        away = np.minimum(away, ((parts - taken) ** 2).sum(1))
    nearest = ((parts**2).sum(1)[:, None] - 2 * parts @ palette.T + (palette**2).sum(1)).argmin(1)
    drawn = Image.fromarray(nearest[place].reshape(values.shape).astype(np.uint8), "P")
    drawn.putpalette(palette.astype(np.uint8).tobytes())
    return drawn


def ink(ground: Sequence[float] | np.ndarray) -> str:
    """Black or white, whichever is more legible on a colour (red, green, blue and more, from 0 to 1)."""
    light = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in ground[:3]]
    luminance = float(np.dot(light, (0.2126, 0.7152, 0.0722)))
    # Where the contrast with white and that with black are the same (WCAG 2).
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


class Described(NamedTuple):
    """What a PNG says of itself: its description, empty where it has none, its width and height in pixels of a page,
    whether its colours are its own, and the width below which its text is too small (0: it has none).
    """

    text: str
    size: tuple[int, int]
    pictured: bool
    narrowest: int


def described(path: Path | io.BytesIO) -> Described:
    """What a PNG says of itself."""
    with Image.open(path) as picture:
        scale = DPI / picture.info.get("dpi", (DPI, DPI))[0]
        width, height = (round(side * scale) for side in picture.size)
        said, narrowest = (picture.info.get(key, empty) for key, empty in ((DESCRIPTION, ""), (NARROWEST, 0)))
        return Described(str(said), (width, height), PICTURED in picture.info, int(narrowest))


def figure(
    width: float = 6.4, height: float = 3.6, columns: int = 1, rows: int = 1, **subplots: Any
) -> tuple[Figure, Any]:
    """A figure and its axes in the book's look, on opaque white (a reader of the notebook may have a dark page).

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


class Look(NamedTuple):
    """How a name is drawn: its colour (hexadecimal), its mark, and what the legend says."""

    colour: str
    mark: str
    label: str


# For names that no figure knows. No diamonds: these are the marks of this run.
_FREE_COLOURS = tuple(COLOURS[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black"))
_FREE_MARKS = ("o", "s", "^", "P", "X", "v", ">", "<")


def looks(names: Iterable[Any], known: Mapping[Any, Look] = MappingProxyType({})) -> dict[Any, Look]:
    """The look of every name, in order: the ``known`` ones have theirs, the others take what is free, in a cycle."""
    used = [look.colour for look in known.values()]
    colours = itertools.cycle([one for one in _FREE_COLOURS if one not in used] or _FREE_COLOURS)
    marks = itertools.cycle([one for one in _FREE_MARKS if one not in {look.mark for look in known.values()}] or ["o"])
    found = {}
    for name in dict.fromkeys(names):
        found[name] = known[name] if name in known else Look(next(colours), next(marks), str(name).replace("_", " "))
    return found


def order(column: str, *tables: pd.DataFrame, known: Iterable[Any] = ()) -> list[Any]:
    """The values of a column over the tables: the ``known`` ones first, in their order, the others as they come."""
    found = dict.fromkeys(itertools.chain.from_iterable(table[column] for table in tables))
    first = [value for value in known if value in found]
    return [*first, *(value for value in found if value not in first)]


#: Colour and symbol of what is neither of the three outcomes: nothing to decide, or a name that no one knows.
NEUTRAL = ("", "#D0D0D0")

#: Verdicts on one severity, from the mildest to the worst.
VERDICTS = (
    *("no damage", "compensated", "in part", "inconclusive", "not measured", "not trained"),
    *("not compensated", "not recovered", "harmed"),
)

_OUTCOMES = {
    "compensated": Outcome.HOLDS,
    "in part": Outcome.DOES_NOT_HOLD,
    "not recovered": Outcome.DOES_NOT_HOLD,
    "not compensated": Outcome.DOES_NOT_HOLD,
    "harmed": Outcome.DOES_NOT_HOLD,
    **{str(outcome): outcome for outcome in Outcome},
}


def outcome_of(verdict: object) -> Outcome | None:
    """The outcome that a verdict stands for; None where it stands for none."""
    return _OUTCOMES.get(verdict) if isinstance(verdict, str) else None


def verdict_mark(verdict: object) -> tuple[str, str]:
    """Symbol and colour of a verdict: those of the outcome that it stands for, :data:`NEUTRAL` for any other."""
    outcome = outcome_of(verdict)
    return NEUTRAL if outcome is None else MARKS[outcome]


def interval(values: Sequence[float] | np.ndarray | pd.Series) -> tuple[float, float, float]:
    """Mean over seeds with its 95 % bootstrap interval, of the seeds that have a value.

    One seed has no width: all three are its value. Without any seed they are nan.
    """
    own = np.asarray(values, dtype=float).ravel()
    own = own[np.isfinite(own)]
    if not len(own):
        return (np.nan, np.nan, np.nan)
    low, high = bootstrap(own) if len(own) > 1 else (own[0], own[0])
    return float(own.mean()), float(low), float(high)


def whiskers(value: Any, low: Any, high: Any) -> np.ndarray:
    """Lengths [2, n] of error bars from a value and the ends of its interval; none where an end is not known.

    Towards an end without bound the bar leaves every frame that shows shares.
    """
    ends = np.array([np.subtract(value, low), np.subtract(high, value)], dtype=float).reshape(2, -1)
    return np.nan_to_num(ends.clip(0, None), posinf=100.0)


def band(axis: Axes, rows: pd.DataFrame, colour: str, label: str, style: str = "-") -> None:
    """A line for the mean over seeds with its bootstrap interval; rows [steps, seeds], none: no line."""
    if not rows.size:
        return
    middle, low, high = np.array([interval(row) for row in rows.to_numpy()]).T
    axis.plot(rows.index, middle, style, color=colour, label=label, lw=1.8)
    if rows.shape[1] > 1:
        axis.fill_between(rows.index, low, high, color=colour, alpha=0.18, lw=0)


def legend_above(drawn: Figure, axis: Axes, columns: int = 4) -> None:
    """The legend of one panel above all of them, where it covers nothing."""
    handles, labels = axis.get_legend_handles_labels()
    drawn.legend(
        handles, labels, loc="outside upper center", ncols=min(columns, len(labels)), frameon=False, fontsize=8
    )


def this_run(rerun: pd.DataFrame | None, evidence: pd.DataFrame) -> pd.DataFrame:
    """What was measured again, in the shape of the evidence; no rows where nothing was."""
    return evidence.iloc[:0] if rerun is None or rerun.empty else rerun


_RERUN = "this run"


def diamonds(axis: Axes, x: Any, y: Any, faces: Any = "none") -> None:
    """This run over the evidence: small open diamonds at ``x``, ``y`` (scalars or equally long), nan left out.

    On a map ``faces`` [n] are their colours. :func:`caption` says what they are.
    """
    x, y = np.broadcast_arrays(*(np.atleast_1d(np.asarray(values, dtype=float)) for values in (x, y)))
    there = np.isfinite(x) & np.isfinite(y)
    if not there.any():
        return
    axis.scatter(
        x[there],
        y[there],
        s=26,
        marker="D",
        facecolors=faces if isinstance(faces, str) else np.asarray(faces)[there],
        edgecolors="#222222",
        linewidths=0.9,
        zorder=5,
        gid=_RERUN,
        # A thin rim of white, so that they also stand out on bars, lines and maps.
        path_effects=[withStroke(linewidth=2.4, foreground="white")],
    )


def fewer(rerun: pd.DataFrame, evidence: pd.DataFrame, *columns: str) -> str:
    """What :func:`caption` is to add where a mean over ``columns`` ("task") is one over fewer in this run."""
    short = [f"{name}s" for name in columns if len(rerun) and set(evidence[name]) - set(rerun[name])]
    return f", over fewer {' and '.join(short)}" if short else ""


#: What :func:`caption` is to add where the diamonds lie on a map.
ON_MAP = ", in the colours of the map"


#: What makes a name legible where points and lines are.
HALO = [withStroke(linewidth=2.6, foreground="white")]


def named(axis: Axes, text: str, place: tuple[float, float], ha: str = "center", up: bool = True) -> None:
    """The name of a point above it (or below), legible where other points are."""
    offset, va = ((0, 6), "bottom") if up else ((0, -6), "top")
    axis.annotate(
        text, place, offset, textcoords="offset points", fontsize=7.5, ha=ha, va=va, zorder=6, path_effects=HALO,
    )  # fmt: skip


def nothing(why: str) -> Figure:
    """A figure without axes, which shows as its caption alone: why there is nothing to draw."""
    drawn = plt.figure(FigureClass=_Drawing, figsize=(6.4, 1.0), dpi=DPI, facecolor="white")
    plt.close(drawn)
    caption(drawn, why)
    return drawn


# A hyphen that stands for a minus: before a number, behind no word or number.
_HYPHEN = re.compile(r"(?<![\w.)\]-])-(?=[\d.])")


# A number as Python writes it: "5e-05".
_POWER = re.compile(r"(?<![\w.])\d(?:\.\d+)?e[-+]?\d+")


def caption(drawn: Figure, text: str, note: str = "") -> None:
    """Give the figure its message, which stands below it as text and is read to those who cannot see it.

    Where :func:`diamonds` are drawn it says what they are, and ``note`` besides.
    """
    if any(shape.get_gid() == _RERUN for axis in drawn.axes for shape in axis.collections):
        text = f"{text} Diamonds: this run{note}."
    text = _POWER.sub(lambda found: number(float(found[0])), " ".join(text.split()))
    drawn.set_label(times(_HYPHEN.sub("−", text)))
