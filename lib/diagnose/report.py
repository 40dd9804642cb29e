"""What a diagnosis gives: the verdict in a sentence, the numbers, one picture, what to do next, and what it cost."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lib import checks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title><style>:root{{color-scheme:light dark}}body{{max-width:60rem;margin:2rem auto;"
    "padding:0 1rem;font-family:system-ui,sans-serif;line-height:1.5}}table{{border-collapse:collapse}}"
    "td,th{{padding:.2rem .6rem;text-align:right}}td:first-child,th:first-child{{text-align:left}}"
    ".wide{{overflow-x:auto}}img{{max-width:100%;background:#fff}}"
    # A figure in the dark, as in the book: light and dark change places, hues stay apart for colour-blind readers.
    "@media(prefers-color-scheme:dark){{img{{filter:invert(1) hue-rotate(190deg) saturate(1.6);"
    "mix-blend-mode:screen}}}}</style>"
    "<body>{body}</body></html>"
)

FEW = 3
"""So many rows stand beside each other, each as a column."""


@dataclass(frozen=True)
class Advice:
    """What to try next, and the id of the book's finding that it follows from (empty: it follows from no finding)."""

    text: str
    finding: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.finding})" if self.finding else self.text


@dataclass(frozen=True)
class Report:
    """A diagnosis. It prints itself, and shows itself in a notebook.

    ``verdict`` is one sentence, and ``decided`` whether there could be one. ``table`` holds the numbers, with the ends
    of their 95 % intervals as ``NAME_low`` and ``NAME_high``; ``details`` are further tables by name, ``advice`` is in
    the order in which to try it, ``cost`` says what the diagnosis took: "seconds", "gradients" (passes backward),
    "passes" (passes forward alone) and, where the steps of the training were given, "share" of it. ``meaning`` says
    what a column is, or a measure that a row is of.
    """

    subject: str
    verdict: str
    decided: bool
    table: pd.DataFrame
    details: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    meaning: Mapping[str, str] = field(default_factory=dict)
    _draw: Callable[[], Figure] | None = field(default=None, repr=False, compare=False)

    def picture(self) -> Figure:
        """The report's one figure."""
        if self._draw is None:
            raise checks.ParameterError("picture must be of a report that has one, but this one has none.")
        return self._draw()

    def _cost(self) -> str:
        if not self.cost:
            return ""
        spent = self.cost["seconds"]
        said = f"{'less than 0.1' if spent < 0.05 else f'{spent:.1f}'} s, {self.cost['gradients']:.0f} gradients"
        if passes := self.cost.get("passes"):
            said += f" and {passes:.0f} passes forward"
        if "share" in self.cost:
            said += f": {100 * self.cost['share']:.2g} % of the training"
        return f"Cost: {said}."

    def __repr__(self) -> str:
        parts = [self.subject, self.verdict, shown(self.table).to_string(index=False)]
        parts += [f"Note: {note}" for note in self.notes]
        parts += [f"Next: {one}" for one in self.advice]
        return "\n".join(filter(None, [*parts, self._cost()]))

    def _repr_html_(self) -> str:
        def table(of: pd.DataFrame) -> str:
            return f'<div class="wide" style="overflow-x:auto">{_upright(shown(of))}</div>'

        body = [f"<h3>{html.escape(self.subject)}</h3>", f"<p><b>{html.escape(self.verdict)}</b></p>"]
        if self._draw is not None:
            alt = html.escape(self.verdict, quote=True)
            body.append(f'<img alt="{alt}" src="data:image/png;base64,{_png(self.picture())}">')
        body.append(table(self.table))
        for name, detail in self.details.items():
            body.append(f"<details><summary>{html.escape(name)}</summary>{table(detail)}</details>")
        named = {*self.table.columns, *self.table.iloc[:, 0]}
        told = {name: text for name, text in self.meaning.items() if name in named}
        if told:
            lines = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in told.items())
            body.append(f"<details><summary>what the numbers are</summary><dl>{lines}</dl></details>")
        body += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        if self.advice:
            body.append(f"<ul>{''.join(f'<li>{html.escape(str(one))}</li>' for one in self.advice)}</ul>")
        return "".join([*body, f"<p>{html.escape(self._cost())}</p>"])

    def to_json(self) -> str:
        """Everything but the picture; what is no number (nan, inf) is null."""
        own = {
            "subject": self.subject,
            "verdict": self.verdict,
            "decided": self.decided,
            "table": _records(self.table),
            "details": {name: _records(table) for name, table in self.details.items()},
            "advice": [{"text": one.text, "finding": one.finding} for one in self.advice],
            "notes": list(self.notes),
            "cost": {name: _plain(value) for name, value in self.cost.items()},
            "meaning": dict(self.meaning),
        }
        return json.dumps(own, indent=1)

    def save(self, path: str | Path) -> Path:
        """Write the report as a page (.html, nothing of it is elsewhere) or as data (.json)."""
        place = Path(path)
        if place.suffix not in (".html", ".json"):
            raise checks.ParameterError(f"path must end in .html or .json, but {str(path)!r} was given.")
        page = place.suffix == ".html"
        body = _PAGE.format(title=html.escape(self.subject), body=self._repr_html_()) if page else self.to_json()
        place.write_text(body, encoding="utf-8")
        return place


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table as it is read: three digits, an interval behind its number, no column that is empty."""
    out: dict[str, list[str]] = {}
    for name in table.columns:
        if name.endswith(("_low", "_high")) and name.rpartition("_")[0] in table:
            continue
        ends = [f"{name}_low", f"{name}_high"]
        rows = table[[name, *(end for end in ends if end in table)]].itertuples(index=False)
        texts = [_text(*row) for row in rows]
        if any(texts):
            out[name.replace("_", " ")] = texts
    return pd.DataFrame(out)


def _upright(table: pd.DataFrame) -> str:
    """The table as HTML; few rows of many columns stand upright, so that a phone shows them whole."""
    if len(table) <= FEW < len(table.columns):
        return table.T.to_html(header=False, border=0)
    return table.to_html(index=False, border=0)


def _text(value: object, low: float = math.nan, high: float = math.nan) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value) and math.isnan(low):
        return ""
    number = _number(value)
    return number if math.isnan(low) or low == high else f"{number} [{_number(low)}, {_number(high)}]"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _number(value: float) -> str:
    """Three digits and a true minus; a power of ten where there would be zeros that nobody counts."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits, _, power = f"{value:.3g}".partition("e")
    raised = f" × 10{str(int(power)).translate(_RAISED)}" if power else ""
    if power and 0 < int(power) < 6:
        digits, raised = f"{value:,.0f}", ""
    elif not power and 0 < abs(value) < 1e-3:
        mantissa, _, small = f"{value:.2e}".partition("e")
        digits, raised = f"{float(mantissa):g}", f" × 10{str(int(small)).translate(_RAISED)}"
    return f"{digits}{raised}".replace("-", "−")


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _png(figure: Figure) -> str:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=150)
    return base64.b64encode(held.getvalue()).decode()
