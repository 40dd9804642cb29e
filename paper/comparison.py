"""Findings of the evidence and of a rerun, side by side, with their measured numbers."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping

from lib.verdicts import MARKS, Finding, Findings


def _digits(number: float) -> str:
    if math.isnan(number):
        return "–"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    return f"{number:.3g}".replace("-", "−")


def measured(finding: Finding) -> str:
    """Its value with interval and unit."""
    low, high = finding.interval
    unit = f" {finding.unit}" if finding.unit else ""
    return f"{_digits(finding.value)} [{_digits(low)}, {_digits(high)}]{unit}"


def change(finding: Finding) -> str:
    """What a reader must know of a criterion that was not fixed beforehand; empty for all others."""
    if not finding.changed:
        return ""
    first = "" if finding.first is None else f" from {finding.first:g} to {finding.threshold:g}"
    return f"criterion changed{first} in {finding.changed}, after its numbers were seen"


def marked(finding: Finding) -> str:
    """Its outcome with symbol and colour (HTML)."""
    symbol, colour = MARKS[finding.outcome]
    return f'<b style="color:{colour};white-space:nowrap">{symbol} {finding.outcome}</b>'


class Comparison:
    """Findings from the evidence and from this run, side by side: shown as a table with both columns.

    ``sides`` are findings by the heading of their column; rows follow the first side, then what others add.
    """

    def __init__(self, sides: Mapping[str, Findings]) -> None:
        self._sides = {name: {found.id or found.claim: found for found in side} for name, side in sides.items()}
        #: The first that is known of every claim, in order.
        self._rows: dict[str, Finding] = {}
        for side in self._sides.values():
            self._rows = {**self._rows, **{key: found for key, found in side.items() if key not in self._rows}}

    def __repr__(self) -> str:
        lines = []
        for key, first in self._rows.items():
            parts = [*filter(None, (str(first), change(first)))]
            for name, side in self._sides.items():
                if found := side.get(key):
                    parts.append(f"{name}: {measured(found)} {found.outcome}")
            lines.append(" | ".join(parts))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def cell(text: str, more: str = "") -> str:
            return f'<td style="text-align:left{more}">{text}</td>'

        heads = ["Claim", "Criterion", *(f"{name} [95 % interval]" for name in self._sides)]
        head = "".join(f'<th style="text-align:left">{html.escape(name)}</th>' for name in heads)
        rows = []
        for key, first in self._rows.items():
            criterion = "<br>".join(map(html.escape, filter(None, (first.criterion, change(first)))))
            row = cell(html.escape(first.claim)) + cell(criterion)
            for side in self._sides.values():
                found = side.get(key)
                if found is None:
                    row += cell("not measured")
                    continue
                below = map(html.escape, filter(None, [measured(found), found.note]))
                row += cell("<br>".join([marked(found), *below]))
            rows.append(f"<tr>{row}</tr>")
        body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        return f'<table class="findings">{body}</table>'
