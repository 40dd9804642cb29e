"""The table of every claim as a reader sees it, and what is to be said of all of them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping

import pandas as pd

from lib.verdicts import Finding, Findings, Outcome
from paper.comparison import change, marked, measured, written
from paper.studies.base import Page
from paper.studies.claims import Claims
from paper.tools import profiles
from paper.words.titles import called

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
    """The name of a family in words."""
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
    """Findings by page, one row each, folded page by page, in tables that wrap their words and need no scrolling.

    ``pages`` are the names beside ``findings``; ``missing`` says of a page why it has none. Of the findings only those
    with this ``outcome`` are shown, or "all". ``homes`` has for a page the page of the book that shows it and the file
    that its evidence is in.
    """

    def __init__(
        self,
        pages: Iterable[str],
        findings: Findings,
        missing: dict[str, str],
        outcome: str = "all",
        homes: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self._homes = dict(homes or {})
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
            written(finding.criterion),
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
        # Once for all: there are some thousand rows.
        style = "text-align:left;vertical-align:top;white-space:normal;overflow-wrap:anywhere"
        style = f"<style>.register .register :is(th, td) {{{style}}}</style>"
        widths = "".join(f'<col style="width:{share}%">' for share in COLUMNS.values())
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        start = f"<colgroup>{widths}</colgroup><thead><tr>{head}</tr></thead>"
        parts = []
        for page, own in self._pages.items():
            rows = []
            for finding in own:
                last = marked(finding) + (f"<br>{html.escape(finding.note)}" if finding.note else "")
                cells = [*map(html.escape, self._cells(page, finding)), last]
                rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
            table = '<table class="findings register" style="table-layout:fixed;width:100%;font-size:0.75em">'
            body = f"{self._home(page)}{table}{start}<tbody>{''.join(rows)}</tbody></table>"
            parts.append(f"<details><summary>{self._title(page, _outcomes(own))}</summary>{body}</details>")
        parts += [f"<p>{self._title(page, why)}</p>" for page, why in self._missing.items()]
        return f'<div class="register">{style}{"".join(parts)}</div>'

    @staticmethod
    def _title(page: str, words: str) -> str:
        return f"<b>{html.escape(called(page))}</b>: {html.escape(words)}"

    def _home(self, page: str) -> str:
        """Where its claims are shown, what they rest on, and the command that computes what of it is missing."""
        if page not in self._homes:
            return ""
        shown, file = (html.escape(one) for one in self._homes[page])
        command = f"make evidence PAGES={html.escape(page)}"
        link = f'<a href="{shown}.html">{html.escape(called(shown))}</a>'
        return f"<p>Shown on {link}; evidence in <code>{file}</code>, by <code>{command}</code>.</p>"


#: What became of one claim and of several, in the order in which it is told.
_BECAME = {
    Outcome.HOLDS: ("holds", "hold"),
    Outcome.DOES_NOT_HOLD: ("does not hold", "do not hold"),
    Outcome.INCONCLUSIVE: ("inconclusive", "inconclusive"),
}


def _outcomes(findings: Iterable[Finding]) -> str:
    """How many claims, and what became of them."""
    outcomes = [one.outcome for one in findings]
    counts = [(len([one for one in outcomes if one is outcome]), words) for outcome, words in _BECAME.items()]
    told = ", ".join(f"{count} {words[count > 1]}" for count, words in counts if count)
    return f"{len(outcomes)} claim{'s' if len(outcomes) > 1 else ''} ({told})"


def register(page: Page) -> Register:
    """The table of every claim, or of those with the outcome that was asked for."""
    counts = page.tables["pages"]
    missing = {
        row.page: f"no claim yet, {row.missing} of {row.cells} parts of its evidence are missing"
        for row in counts[counts["missing"] > 0].itertuples()
    }
    subject = page.subject
    assert isinstance(subject, Claims)
    known = profiles.evidence()
    homes = {
        name: (known[name].beside or name, f"results/evidence/{study.shelf()}.csv")
        for name, study in subject.studies().items()
    }
    return Register(page.tables["claims"]["page"], page.findings, missing, subject.outcome, homes)


def counted(page: Page) -> pd.DataFrame:
    """Pages with the number of their claims and what became of them, and a row for all."""
    counts = page.tables["pages"].drop(columns=["cells", "missing"])
    total = counts.drop(columns="page").sum().to_frame().T.assign(page="all")
    return pd.concat([counts.assign(page=counts["page"].map(called)), total], ignore_index=True)[list(counts)]


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
    pages = {name.removesuffix("_photo") for name in counts[counts["claims"] > 0]["page"]}
    sentences = [
        f"{len(found)} claims stand on {len(pages)} pages: {outcomes['holds']} hold,"
        f" {outcomes['does not hold']} do not, {outcomes['inconclusive']} are inconclusive."
    ]
    homes = page.tables["claims"]["page"]
    moved = [
        f"on *{called(home)}*, “{finding.claim}” ({change(finding)})"
        for home, finding in zip(homes, found, strict=True)
        if finding.changed
    ]
    if moved:
        sentences.append(f"Not every criterion was fixed beforehand: {'; '.join(moved)}.")
    if lost := [called(name) for name in counts[counts["missing"] > 0]["page"]]:
        sentences.append(f"Evidence is missing for {', '.join(lost)}: their claims are not in the table.")
    return " ".join(sentences)
