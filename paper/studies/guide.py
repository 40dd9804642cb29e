"""What to do with a gate: sentences that follow from the findings of the other pages, each named by its id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import pandas as pd

from lib import results
from lib.results import Cell
from lib.verdicts import Finding, Findings, Outcome
from paper.studies import base, escape, predictors
from paper.studies.base import Digest, Page, Study
from paper.studies.parameters import Some
from paper.tools import profiles
from paper.words.guide import RULES, Listing
from paper.words.numbers import Shown

PAGES = ("gradient_imbalance", "gap_origin", "gate_degradation", "gate_value", "escape", "predictors")
"""Pages that the guide draws on."""


class Guide(Digest):
    """What the committed evidence of ``pages`` says to do; what a page without complete evidence would say is left out.

    Tables: ``rules`` (question, sentence, and the finding or findings it follows from), ``sources`` (page, what became
    of its claims; none where evidence is missing).
    """

    pages: Annotated[tuple[str, ...], Some(PAGES, ordered=True)] = PAGES

    PARTS: ClassVar[tuple[str, ...]] = ("pages",)

    def studies(self) -> dict[str, Study]:
        """The studies that the evidence is of, by page."""
        known = profiles.evidence()
        return {name: base.named(name)(**known[name].parameters) for name in self.pages if name in known}

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        """Rules from the tables of the other pages' cells; a page that lacks a cell says nothing."""
        judged = {}
        for name, study in self.studies().items():
            if (own := study.cells()) and all(cell in found for cell in own):
                judged[name] = study.judged({cell: found[cell] for cell in own}).findings
        tables = {"rules": rules(judged, self.studies()), "sources": self.sources(judged)}
        told = {name for names in tables["rules"]["findings"] for name in names.split()}
        return tables, Findings(one for findings in judged.values() for one in findings if one.id in told)

    def sources(self, judged: Mapping[str, Findings]) -> pd.DataFrame:
        """How many claims were put to the test on each page, and what became of them."""
        rows = []
        for name in self.pages:
            outcomes = [finding.outcome for finding in judged.get(name, ())]
            counts = {str(outcome): outcomes.count(outcome) for outcome in Outcome}
            rows.append({"page": name, "claims": len(outcomes)} | counts)
        return pd.DataFrame(rows)


def listed(studies: Mapping[str, Study]) -> dict[str, dict[str, str]]:
    """The findings of each listing: their ids with the name that is listed."""
    # A measurement with a rule of its own is not listed too.
    found = {
        f"predictors.{when}": {
            name: about
            for what, (about, _) in predictors.SCORES.items()
            if (name := predictors.telling(when, what)) not in RULES
        }
        for when in predictors.WHEN
    }
    study = studies.get("escape")
    chosen = study.chosen() if isinstance(study, escape.Escape) else {}
    return found | {"escape.adaptive": {escape.adaptive(name): name for name in chosen}}


def rules(judged: Mapping[str, Findings], studies: Mapping[str, Study]) -> pd.DataFrame:
    """The sentences: columns question, sentence, findings (ids). Inconclusive findings and missing ones have none."""
    found = {finding.id: finding for findings in judged.values() for finding in findings}
    names, rows = listed(studies), []
    for about, rule in RULES.items():
        steps = getattr(studies.get(about.partition(".")[0]), "steps", "")
        for outcome, sentence in ((Outcome.HOLDS, rule.holds), (Outcome.DOES_NOT_HOLD, rule.fails)):
            ids = names[about] if isinstance(rule, Listing) else {about: ""}
            mine = {name: found[name] for name in ids if name in found and found[name].outcome is outcome}
            if not mine:
                continue
            best = sorted(mine.values(), key=lambda finding: finding.value, reverse=True)
            told = {"steps": steps, "criterion": best[0].criterion, **_numbers(best[0])}
            if isinstance(rule, Listing):
                shown = (f"{ids[one.id]} ({Shown(one.value):.{rule.digits}f})" for one in best)
                told["names"] = "; ".join(shown)
            rows.append((rule.question, sentence.format(**told), " ".join(one.id for one in best)))
    return pd.DataFrame(rows, columns=["question", "sentence", "findings"])


def text(page: Page) -> str:
    """The guide as Markdown: a paragraph for each question that something can be said about."""
    paragraphs = [
        f"**{question}** {' '.join(part['sentence'])}"
        for question, part in page.tables["rules"].groupby("question", sort=False)
    ]
    sources = page.tables["sources"]
    if lost := [name.replace("_", " ") for name in sources[sources["claims"] == 0]["page"]]:
        paragraphs.append(f"Nothing is said here of {', '.join(lost)}: the evidence there is not complete.")
    return "\n\n".join(paragraphs)


def _numbers(finding: Finding) -> dict[str, Shown]:
    low, high = finding.interval
    return {"value": Shown(finding.value), "low": Shown(low), "high": Shown(high)}
