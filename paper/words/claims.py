"""The table of every claim as a reader sees it, and what is to be said of all of them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable

import pandas as pd

from lib.verdicts import Finding, Findings
from paper.comparison import change, marked, measured
from paper.studies.base import Page

#: Columns with the share of the width that each has: the whole must fit beside the contents of the book.
COLUMNS = {
    "Claim": 23,
    "Value [95 % interval]": 16,
    "p": 8,
    "Family": 12,
    "Criterion": 13,
    "Written in": 11,
    "Outcome": 17,
}


def spelt(name: str) -> str:
    """The name of a page or family in words."""
    main = name.removesuffix("_photo")
    return main.replace("_", " ") + ("" if main == name else ", on photographs")


def probability(p: float) -> str:
    """A p as a table shows it."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def family(finding: Finding, size: int) -> str:
    """Its family with the number of claims in it, and whether its p is corrected for them."""
    claims = f"corrected for {finding.among}" if finding.among else f"{size}, not corrected"
    return f"{spelt(finding.family)} ({claims})"


class Register:
    """Findings by page, one row each, in a table that wraps its words and needs no scrolling.

    ``pages`` are the names beside ``findings``; ``missing`` says of a page why it has none. Of the findings only those
    with this ``outcome`` are shown, or "all".
    """

    def __init__(self, pages: Iterable[str], findings: Findings, missing: dict[str, str], outcome: str = "all") -> None:
        self._missing, self._pages = missing, dict[str, list[Finding]]()
        self._sizes: dict[tuple[str, str], int] = {}
        for page, finding in zip(pages, findings, strict=True):
            own = (page, finding.family)
            self._sizes[own] = self._sizes.get(own, 0) + 1
            if outcome in ("all", finding.outcome):
                self._pages.setdefault(page, []).append(finding)

    def _cells(self, page: str, finding: Finding) -> list[str]:
        """The cells of one row, as HTML but for the last, which is the outcome's."""
        return [
            finding.claim,
            measured(finding),
            probability(finding.adjusted),
            family(finding, self._sizes[page, finding.family]),
            finding.criterion,
            " ".join(filter(None, [finding.since or "–", change(finding)])),
        ]

    def __repr__(self) -> str:
        lines = [
            " | ".join([page, *self._cells(page, finding), finding.outcome])
            for page, own in self._pages.items()
            for finding in own
        ]
        return "\n".join([*lines, *(f"{page} | {why}" for page, why in self._missing.items())])

    def _repr_html_(self) -> str:
        style = "text-align:left;vertical-align:top;white-space:normal;overflow-wrap:anywhere"
        widths = "".join(f'<col style="width:{share}%">' for share in COLUMNS.values())
        head = "".join(f'<th style="{style}">{name}</th>' for name in COLUMNS)
        rows = []
        for page, own in self._pages.items():
            rows.append(self._title(page, f"{len(own)} claim{'s' if len(own) > 1 else ''}"))
            for finding in own:
                last = marked(finding) + (f"<br>{html.escape(finding.note)}" if finding.note else "")
                cells = [*map(html.escape, self._cells(page, finding)), last]
                rows.append(f"<tr>{''.join(f'<td style={style!r}>{cell}</td>' for cell in cells)}</tr>")
        rows += [self._title(page, why) for page, why in self._missing.items()]
        body = f"<colgroup>{widths}</colgroup><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        return f'<table class="findings" style="table-layout:fixed;width:100%;font-size:0.75em">{body}</table>'

    @staticmethod
    def _title(page: str, words: str) -> str:
        text = f"<b>{html.escape(spelt(page))}</b>: {html.escape(words)}"
        return f'<tr><td colspan="{len(COLUMNS)}" style="text-align:left;padding-top:1em">{text}</td></tr>'


def register(page: Page) -> Register:
    """The table of every claim, or of those with the outcome that was asked for."""
    counts = page.tables["pages"]
    missing = {
        row.page: f"no claim yet, {row.missing} of {row.cells} parts of its evidence are missing"
        for row in counts[counts["missing"] > 0].itertuples()
    }
    return Register(page.tables["claims"]["page"], page.findings, missing, page.subject.outcome)  # type: ignore[attr-defined]


def counted(page: Page) -> pd.DataFrame:
    """Pages with the number of their claims and what became of them, and a row for all."""
    counts = page.tables["pages"].drop(columns=["cells", "missing"])
    total = counts.drop(columns="page").sum().to_frame().T.assign(page="all")
    return pd.concat([counts.assign(page=counts["page"].map(spelt)), total], ignore_index=True)[list(counts)]


def short(page: Page) -> str:
    """How many claims hold, and how many criteria moved after their numbers were seen."""
    moved = sum(bool(finding.changed) for finding in page.findings)
    late = (
        f"of {moved} of them the criterion was changed after its numbers were seen" if moved else "no criterion moved"
    )
    return f"{told(page).partition('. ')[0].removesuffix('.')}; {late}."


def told(page: Page) -> str:
    """How many claims there are, what became of them, and which criteria moved after their numbers were seen."""
    found, counts = page.findings, page.tables["pages"]
    outcomes = {name: int(counts[name].sum()) for name in ("holds", "does not hold", "inconclusive")}
    sentences = [
        f"{len(found)} claims stand on {int((counts['claims'] > 0).sum())} pages: {outcomes['holds']} hold,"
        f" {outcomes['does not hold']} do not, {outcomes['inconclusive']} are inconclusive."
    ]
    moved = [f"“{finding.claim}”: {change(finding)}" for finding in found if finding.changed]
    if moved:
        sentences.append(f"Not every criterion was fixed beforehand. {'; '.join(moved)}.")
    if lost := [spelt(name) for name in counts[counts["missing"] > 0]["page"]]:
        sentences.append(f"Evidence is missing for {', '.join(lost)}: their claims are not in the table.")
    return " ".join(sentences)
