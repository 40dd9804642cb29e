"""Sentences that follow the outcomes of findings."""

from __future__ import annotations

from collections.abc import Mapping

from lib.verdicts import Findings, Outcome


def said(findings: Findings, sentences: Mapping[str, tuple[str, str]]) -> str:
    """For each claim by its id the sentence if it holds or the one if it does not; none where that is open."""
    lines = []
    for claim, (holds, fails) in sentences.items():
        found = findings.get(claim)
        if found is not None and found.outcome is not Outcome.INCONCLUSIVE:
            lines.append(holds if found.outcome is Outcome.HOLDS else fails)
    return " ".join(filter(None, lines))
