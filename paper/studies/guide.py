"""What to do with a gate: sentences that follow from the findings of the other pages, each named by its id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import pandas as pd

from lib import results
from lib.results import Cell
from lib.verdicts import Finding, Findings, Outcome
from paper.studies import escape, photographs, predictors
from paper.studies.base import Digest, Page, Study
from paper.studies.parameters import Some
from paper.words.guide import RULES, Listing
from paper.words.numbers import Shown
from paper.words.outcomes import ahead
from paper.words.spelling import times

PAGES = ("gradient_imbalance", "gap_origin", "gate_degradation", "gate_value", "fair_trial", "escape", "predictors")
"""Pages that the guide draws on."""


class Guide(Digest):
    """What the committed evidence of ``pages`` says to do; what a page without complete evidence would say is left out.

    Tables: ``rules`` (question, sentence, and the finding or findings it follows from), ``photographs`` (for each of
    these: question, finding, claim, :func:`paper.studies.photographs.together`), ``sources`` (page, what became of its
    claims; none where evidence is missing).
    """

    pages: Annotated[tuple[str, ...], Some(PAGES, ordered=True)] = PAGES

    PARTS: ClassVar[tuple[str, ...]] = ("pages",)

    def studies(self) -> dict[str, Study]:
        """The studies that the evidence is of, by page, with those of photographs that stand beside them."""
        return photographs.studied(self.pages)

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        """Rules from the tables of the other pages' cells in the drawn world; a page that lacks a cell says nothing."""
        whole = {name: result.findings for name, result in self.whole(found).items()}
        judged = {name: whole[name] for name in self.pages if name in whole}
        known = rules(judged, self.studies())
        tables = {"rules": known, "photographs": agreed(known, whole), "sources": self.sources(judged)}
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
            told = {"steps": steps, "criterion": best[0].criterion, **_numbers(best[0]), "ahead": ahead(best[0].value)}
            if isinstance(rule, Listing):
                shown = (f"{times(ids[one.id])} ({Shown(one.value):.{rule.digits}f})" for one in best)
                told["names"] = "; ".join(shown)
            rows.append((rule.question, sentence.format(**told), " ".join(one.id for one in best)))
    return pd.DataFrame(rows, columns=["question", "sentence", "findings"])


def agreed(rules: pd.DataFrame, whole: Mapping[str, Findings]) -> pd.DataFrame:
    """Whether what each sentence follows from comes out alike on photographs: columns question, finding, claim, there
    (the outcome, "" where it was not asked), together; empty where nothing was measured on photographs. ``whole`` are
    the findings of both worlds by page.
    """
    found = {name: {one.id: one for one in findings} for name, findings in whole.items()}
    rows = []
    for question, names in zip(rules["question"], rules["findings"], strict=True):
        for name in names.split():
            page = name.partition(".")[0]
            beside = found.get(f"{page}{photographs.SIDES['photographs']}")
            if beside is not None:
                drawn, there = found[page][name], beside.get(name)
                outcome = there.outcome if there else None
                same = photographs.together(drawn.outcome, outcome)
                rows.append((question, name, drawn.claim, str(outcome or ""), same))
    return pd.DataFrame(rows, columns=["question", "finding", "claim", "there", "together"])


def text(page: Page) -> str:
    """The guide as Markdown: a paragraph for each question that something can be said about, and what of it comes out
    alike on photographs.
    """
    beside = dict(iter(page.tables["photographs"].groupby("question", sort=False)))
    paragraphs = []
    for question, part in page.tables["rules"].groupby("question", sort=False):
        paragraphs.append(f"**{question}** {' '.join(part['sentence'])}")
        if question in beside:
            paragraphs[-1] += f" *On photographs:* {on_photographs(beside[question])}"
    sources = page.tables["sources"]
    if lost := [name.replace("_", " ") for name in sources[sources["claims"] == 0]["page"]]:
        paragraphs.append(f"Nothing is said here of {', '.join(lost)}: the evidence there is not complete.")
    return "\n\n".join(paragraphs)


def on_photographs(rows: pd.DataFrame) -> str:
    """How many of these findings come out alike there; of those that differ, which hold there and which do not."""
    said = rows["together"]
    words = [f"{(said == 'alike').sum()} of {len(rows)} findings come out alike"]
    if opened := int(said.str.startswith("open").sum()):
        words.append(f"{opened} {'is' if opened == 1 else 'are'} open")
    if alone := int((said == "one alone").sum()):
        words.append(f"{alone} {'was' if alone == 1 else 'were'} not asked")
    text = f"{', '.join(words)}."
    # A claim is a sentence: in which of the two worlds it is true has to be said before it.
    for outcome, one, more in (
        (
            Outcome.HOLDS,
            "holds on photographs and not in the drawn world",
            "hold on photographs and not in the drawn world",
        ),
        (Outcome.DOES_NOT_HOLD, "does not hold there", "do not hold there"),
    ):
        own = rows[(said == "differ") & (rows["there"] == str(outcome))]["claim"]
        if len(own):
            listed = "; ".join(f"“{claim}”" for claim in own)
            text += f" {len(own)} {one if len(own) == 1 else more}: {listed}."
    return text


def _numbers(finding: Finding) -> dict[str, Shown]:
    low, high = finding.interval
    return {"value": Shown(finding.value), "low": Shown(low), "high": Shown(high)}
