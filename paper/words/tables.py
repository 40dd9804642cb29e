"""Tables as pages show them: words for identifiers, one formatter, the answer first, cells that say what they are."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from lib.verdicts import MARKS
from paper.comparison import INK
from paper.figures.style import outcome_of
from paper.words import format, names

#: Columns that say what came of a row: they stand directly behind what the row is about.
ANSWERS = ("verdict", "by training", "answer", "outcome")

Shows = Callable[[Any], str]

# How a column's numbers may be shown, by a short word.
_KINDS: dict[str, Shows] = {
    "share": format.percent,
    # A difference that is less than a hundredth of a point is rounding.
    "points": lambda value: format.number(round(float(value), 2), signed=True),
}
_ENDS = ("_low", "_high")
#: A table of more rows than these is folded: what it says at a glance stands in the figure and the sentences around it.
#: So is half as long a one of more columns than WIDE, which is read row by row.
FOLDED, WIDE = 10, 11


@dataclass(frozen=True, repr=False)
class Table:
    """A table for reading, shown by Jupyter and by the book.

    An index that has a name is what its rows are about; else the first ``keys`` columns are. ``shows`` says how a
    column is shown: "share", "points" (a difference of accuracies, as columns with over_ in their names are), a unit
    ("s", "Gmax"), or a function of a value. A column with others that end in _low and _high has them as its interval.
    Columns in :data:`ANSWERS` follow the keys. More than :data:`FOLDED` rows are folded below the caption, fewer of a
    wide table.
    """

    frame: pd.DataFrame
    caption: str = ""
    keys: int = 1
    shows: Mapping[str, str | Shows] = field(default_factory=dict)
    headings: Mapping[str, str] = field(default_factory=dict)

    def texts(self) -> pd.DataFrame:
        """Every cell as text, under the headings of the reader; what a row is about comes first."""
        frame, keys = self._flat()
        shown = {}
        for name in self._order(list(frame.columns), keys):
            ends = [f"{name}{end}" for end in _ENDS if f"{name}{end}" in frame]
            columns = [frame[one].tolist() for one in (name, *ends)]
            shows = self._shows(str(name))
            shown[self.headings.get(str(name)) or names.heading(str(name))] = [
                _narrow(shows(row[0]) if len(row) < 3 else format.interval(*row)) for row in zip(*columns, strict=True)
            ]
        return pd.DataFrame(shown)

    def _flat(self) -> tuple[pd.DataFrame, int]:
        frame, keys = self.frame, self.keys
        if any(name is not None for name in frame.index.names):
            keys, frame = frame.index.nlevels, frame.reset_index()
        elif not isinstance(frame.index, pd.RangeIndex) and frame.index.dtype == object:
            keys, frame = 1, frame.rename_axis("").reset_index()
        frame.columns = [
            ", ".join(map(str, filter(None, name))) if isinstance(name, tuple) else _column(name)
            for name in frame.columns
        ]
        return frame, keys

    @staticmethod
    def _order(columns: Sequence[str], keys: int) -> list[str]:
        ends = {f"{name}{end}" for name in columns for end in _ENDS}
        kept = [name for name in columns if name not in ends]
        first = [name for name in ANSWERS if name in kept[keys:]]
        return [*kept[:keys], *first, *(name for name in kept[keys:] if name not in first)]

    def _shows(self, name: str) -> Shows:
        chosen = self.shows.get(name, "points" if "_over_" in f"_{name}" else _cell)
        if isinstance(chosen, str):
            unit = chosen
            chosen = _KINDS.get(unit, lambda value: format.quantity(value, unit))
        how: Shows = chosen
        return lambda value: format.NOTHING if _missing(value) else how(value)

    def __repr__(self) -> str:
        return "\n".join(filter(None, [self.caption, self.texts().to_string(index=False)]))

    def _repr_html_(self) -> str:
        texts, keys = self.texts(), self._flat()[1]
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in texts)
        # Columns of numbers are set flush right.
        right = [all(_numeric(text) for text in texts[name]) and len(texts) > 0 for name in texts]
        body = []
        for row in texts.itertuples(index=False, name=None):
            cells = []
            for place, text in enumerate(row):
                kind = ' class="number"' if right[place] else ""
                tag = '<th scope="row"' if place < keys else "<td"
                cells.append(f"{tag}{kind}>{_marked(text)}</{tag[1:3]}>")
            body.append(f"<tr>{''.join(cells)}</tr>")
        if not body:
            body = [f'<tr><td colspan="{max(len(texts.columns), 1)}">nothing was measured</td></tr>']
        title = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        table = f'<table class="shown">{title}<thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
        if len(body) <= (FOLDED if len(texts.columns) <= WIDE else FOLDED // 2):
            return table
        rows = f" ({len(body)} rows)"
        return f"<details><summary>{html.escape(self.caption or 'The table')}{rows}</summary>{table}</details>"


@dataclass(frozen=True, repr=False)
class Several:
    """Tables under each other."""

    tables: Sequence[Table]

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.tables))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables)


def _column(name: object) -> str:
    return format.number(name) if isinstance(name, Real) and not isinstance(name, bool) else str(name)


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, Real) and not isinstance(value, bool) and value != value)


def _cell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return format.number(value) if isinstance(value, Real) else names.words(str(value))


# A number with an interval that has no width: "1.96 [1.96, 1.96]".
_WIDTHLESS = re.compile(r"(?<!\S)(\S+) \[\1, \1\]")


def _narrow(text: str) -> str:
    return _WIDTHLESS.sub(r"\1", text)


# A number, with its power of ten, its interval and its unit; or nothing.
_NUMBER = re.compile(
    r"–|[+−<>≤≥ ]*[\d∞][\d.,]*(?: × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?(?: \[[^\]]*\])?"
    r"(?: (?:of|x|×) \d[\d,]*)*(?: [^ ,;()]{1,10}| of devices)?"
)


def _numeric(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _marked(text: str) -> str:
    """A verdict with its symbol and colour, any other text as it is."""
    outcome = outcome_of(text)
    if outcome is None:
        return html.escape(text)
    return f'<b style="color:{INK[outcome]}">{MARKS[outcome][0]} {html.escape(text)}</b>'
