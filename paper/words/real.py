"""Sentences of the page on a real CLIP."""

from __future__ import annotations

from lib.verdicts import Findings, Outcome
from paper.studies.base import Page
from paper.studies.real_clip import NAMES
from paper.words.outcomes import sorted_out

COMMANDS = """```bash
# memory and time of every training
make evidence PROFILE=real ROOT=FOLDER DRY=1
# compute, training by training
make evidence PROFILE=real ROOT=FOLDER
```"""


def stands(page: Page) -> str:
    """How much of the evidence there is, and how to compute what is missing (Markdown)."""
    missing = page.states["missing"]
    there = page.states["current"] + page.states["stale"]
    how = f"With the data sets in `FOLDER`:\n\n{COMMANDS}"
    if page.evidence is None:
        return f"::::{{important}}\n**Nobody has run this yet.** {how}\n::::\n"
    told = f"The evidence holds {there} trainings; every number on this page comes from them."
    if missing:
        told = f"::::{{note}}\n**{there} of {there + missing} trainings are there.** {how}\n::::\n"
    return page.notice + told


def short(page: Page) -> str:
    """What has been found so far, in a sentence (Markdown)."""
    if page.evidence is None:
        return "Nobody has measured it yet with this book's code: it takes a GPU, the weights and the data sets."
    return follows(page.findings) or "What has been measured so far decides nothing."


def follows(findings: Findings) -> str:
    """What the claims of the page come to (Markdown); of what nobody has measured it says so."""
    leads = {
        Outcome.HOLDS: "Gates gain nothing over {over}, to within the margin, on",
        Outcome.DOES_NOT_HOLD: "Gates change accuracy by more than the margin over {over} on",
        Outcome.INCONCLUSIVE: "Whether gates gain over {over} is open on",
    }
    names = {one.id.split(".")[1]: NAMES.get(one.id.split(".")[1], "new classes") for one in findings}
    told = []
    for column, over in (("over_blind", "their blind twins"), ("over_fixed", "the learners without a gate")):
        ids = {f"real_clip.{name}.{column}": shown for name, shown in names.items()}
        told.append(sorted_out(findings, ids, {outcome: lead.format(over=over) for outcome, lead in leads.items()}))
    return "\n\n".join(filter(None, told))
