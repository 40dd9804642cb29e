"""Findings of the evidence and of a rerun, side by side, with their measured numbers; and what two backbones agree on.

A claim that was judged on two backbones *holds on both* where it holds on each, and *does not hold on both* where it
does not hold on one (an intersection-union test, Berger 1982: no p is to be corrected for their number). It is as weak
as the weakest of its findings, and *inconclusive* where that is, or where one backbone was not asked.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from lib.verdicts import MARKS, Finding, Findings, Outcome
from paper.words import format


def measured(finding: Finding) -> str:
    """Its value with interval and unit; without an interval that has no width."""
    return " ".join(filter(None, [format.interval(finding.value, *finding.interval), finding.unit]))


# What Python writes otherwise than a reader: powers of ten, and relations.
_POWER = re.compile(r"(?<![\w.])\d(?:\.\d+)?e[-+]\d+")
_RELATIONS = {">=": "≥", "<=": "≤"}


def written(criterion: str) -> str:
    """A criterion as a reader writes it: "area ≥ 0.8", "error < 1 × 10⁻⁶", a single point or decade in the singular."""
    shown = _POWER.sub(lambda found: format.number(float(found[0])), criterion)
    for typed, sign in _RELATIONS.items():
        shown = shown.replace(typed, sign)
    return re.sub(r"(?<=[<>≥≤±] 1 )(point|decade)s$|(?<=±1 )(point|decade)s$", lambda one: one[0][:-1], shown)


def change(finding: Finding) -> str:
    """What a reader must know of a criterion that was not fixed beforehand; empty for all others."""
    if not finding.changed:
        return ""
    first = "" if finding.first is None else f" from {finding.first:g} to {finding.threshold:g}"
    return f"criterion changed{first} in {finding.changed}, after its numbers were seen"


def marked(finding: Finding) -> str:
    """Its outcome with symbol and colour (HTML)."""
    return _mark(finding.outcome)


#: Colours in which outcomes are written, dark enough for text; the book's CSS has others for a dark page.
INK = {
    Outcome.HOLDS: "var(--book-holds, #00684a)",
    Outcome.DOES_NOT_HOLD: "var(--book-fails, #a83a00)",
    Outcome.INCONCLUSIVE: "var(--book-open, #6b5200)",
}


def _mark(outcome: Outcome) -> str:
    symbol, _ = MARKS[outcome]
    return f'<b style="color:{INK[outcome]};white-space:nowrap">{symbol} {outcome}</b>'


#: The heading of what two sides say together.
JOINT = "on both"


_WEAKNESS = {Outcome.DOES_NOT_HOLD: 0, Outcome.INCONCLUSIVE: 1, Outcome.HOLDS: 2}


def weakest(found: Iterable[Finding]) -> Finding:
    """The finding that decides a claim about all of ``found``: of those that hold the one with the largest p, of those
    that do not hold that with the smallest.
    """

    def strength(one: Finding) -> tuple[int, float]:
        p = one.adjusted if math.isfinite(one.adjusted) else 1.0
        return _WEAKNESS[one.outcome], p if one.outcome is Outcome.DOES_NOT_HOLD else -p

    return min(found, key=strength)


def on_both(sides: Mapping[str, Finding | None]) -> tuple[Outcome, str]:
    """What the findings of one claim say together, by the names of the two sides, and where they do not say that it
    holds, whose word that is; None is a claim that was not asked there.
    """
    found = {name: one for name, one in sides.items() if one is not None}
    if absent := [name for name in sides if name not in found]:
        return Outcome.INCONCLUSIVE, f"not asked of {' and '.join(absent)}"
    outcome = weakest(found.values()).outcome
    if outcome is Outcome.HOLDS:
        return outcome, ""
    words = {Outcome.DOES_NOT_HOLD: "not on", Outcome.INCONCLUSIVE: "open on"}[outcome]
    return outcome, f"{words} {' and '.join(name for name, one in found.items() if one.outcome is outcome)}"


class Comparison:
    """Findings from the evidence and from this run, side by side: shown as a table with both columns.

    ``sides`` are findings by the heading of their column; rows follow the first side, then what others add. ``both``
    says of two of them what they are of; they are judged together (:func:`on_both`) in a column behind the second.
    The claims whose ids are in ``first`` are shown, the table of all of them is folded below.
    """

    #: Claims that are shown where none is known to come first, and how many more than these it takes to fold a table.
    SHOWN, MORE = 3, 2

    def __init__(
        self, sides: Mapping[str, Findings], both: Mapping[str, str] | None = None, first: Sequence[str] = ()
    ) -> None:
        self._both = dict(both or {})
        self._sides = {name: {found.id or found.claim: found for found in side} for name, side in sides.items()}
        self._last = next(reversed(self._both), None)
        self._first = first
        #: The first that is known of every claim, in order.
        self._rows: dict[str, Finding] = {}
        for side in self._sides.values():
            self._rows = {**self._rows, **{key: found for key, found in side.items() if key not in self._rows}}

    def on_both(self, key: str) -> tuple[Outcome, str]:
        """:func:`on_both` of the claim with this id."""
        return on_both({of: self._sides[name].get(key) for name, of in self._both.items()})

    def __repr__(self) -> str:
        lines = []
        for key, first in self._rows.items():
            parts = [*filter(None, (str(first), change(first)))]
            for name, side in self._sides.items():
                if found := side.get(key):
                    parts.append(f"{name}: {measured(found)} {found.outcome}")
                if name == self._last:
                    together, why = self.on_both(key)
                    parts.append(f"{JOINT}: {together}{f' ({why})' if why else ''}")
            lines.append(" | ".join(parts))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        shown = [key for key in self._first if key in self._rows] or list(self._rows)[: self.SHOWN]
        if len(self._rows) < len(shown) + self.MORE:
            return self._table(self._rows)
        some, every = self._table(shown), self._table(self._rows)
        return f"{some}<details><summary>All {len(self._rows)} findings</summary>{every}</details>"

    def _table(self, keys: Iterable[str]) -> str:
        """The findings with these ids."""

        def cell(text: str) -> str:
            return f'<td style="text-align:left">{text}</td>'

        heads = ["Claim", "Criterion"]
        for name in self._sides:
            heads += [f"{name} [95 % interval]", *([JOINT] if name == self._last else [])]
        head = "".join(f'<th style="text-align:left">{html.escape(name)}</th>' for name in heads)
        rows = []
        for key in keys:
            first = self._rows[key]
            said = "<br>".join(map(html.escape, filter(None, (written(first.criterion), change(first)))))
            row = cell(html.escape(first.claim)) + cell(said)
            for name, side in self._sides.items():
                found = side.get(key)
                if found is None:
                    row += cell("not measured")
                else:
                    below = map(html.escape, filter(None, [measured(found), found.note]))
                    row += cell("<br>".join([marked(found), *below]))
                if name == self._last:
                    together, why = self.on_both(key)
                    row += cell("<br>".join([_mark(together), *filter(None, [html.escape(why)])]))
            rows.append(f"<tr>{row}</tr>")
        body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        return f'<table class="findings">{body}</table>'
