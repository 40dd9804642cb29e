"""Sentences that a finding decides, by its id."""

from __future__ import annotations

from collections.abc import Mapping

from lib.verdicts import Findings, Outcome
from paper.words.numbers import Shown


def decided(findings: Findings, sentences: Mapping[str, tuple[str, str]]) -> str:
    """For each claim, by its id, the first sentence where it holds and the second where it does not, one after the
    other. An inconclusive claim, and one that was not judged, says nothing. ``{value}`` stands for the measured number.
    """
    told = []
    for name, (holds, fails) in sentences.items():
        found = findings.get(name)
        if found is not None and found.outcome is not Outcome.INCONCLUSIVE:
            sentence = holds if found.outcome is Outcome.HOLDS else fails
            told.append(sentence.format(value=Shown(found.value)))
    return " ".join(filter(None, told))


def sorted_out(findings: Findings, names: Mapping[str, str], leads: Mapping[Outcome, str]) -> str:
    """Findings that are alike, by outcome behind the words of ``leads``; ``names`` are ids with what is listed."""
    parts = []
    for outcome, lead in leads.items():
        own = [name for one, name in names.items() if (found := findings.get(one)) and found.outcome is outcome]
        if own:
            parts.append(f"{lead}: {', '.join(own)}.")
    return " ".join(parts)
