"""Sentences that a finding decides, by its id."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lib.verdicts import Findings, Outcome
from paper.words.numbers import Shown


def decided(
    findings: Findings, sentences: Mapping[str, tuple[str, ...]], given: Mapping[str, object] = MappingProxyType({})
) -> str:
    """For each claim, by its id, the first sentence where it holds and the second where it does not, one after the
    other. An inconclusive claim says its third sentence, nothing where it has none; a claim that was not judged says
    nothing. ``{value}`` stands for the measured number, ``{ahead}`` for :func:`ahead` of it, other names for what is
    ``given``.
    """
    told = []
    for name, said in sentences.items():
        found = findings.get(name)
        place = -1 if found is None else _PLACES[found.outcome]
        if found is not None and place < len(said):
            told.append(said[place].format(value=Shown(found.value), ahead=ahead(found.value), **given))
    return " ".join(filter(None, told))


def ahead(points: float, unit: str = "points") -> str:
    """A difference to what is named next, in words: "3.0 points ahead of", "0.4 points behind", "level with"."""
    if (size := f"{Shown(abs(points)):.1f}") == "0.0":
        return "level with"
    return " ".join(filter(None, [size, unit, "behind" if points < 0 else "ahead of"]))


_PLACES = {Outcome.HOLDS: 0, Outcome.DOES_NOT_HOLD: 1, Outcome.INCONCLUSIVE: 2}


def sorted_out(findings: Findings, names: Mapping[str, str], leads: Mapping[Outcome, str]) -> str:
    """Findings that are alike, by outcome behind the words of ``leads``; ``names`` are ids with what is listed."""
    parts = []
    for outcome, lead in leads.items():
        own = [name for one, name in names.items() if (found := findings.get(one)) and found.outcome is outcome]
        if own:
            parts.append(f"{lead}: {', '.join(own)}.")
    return " ".join(parts)
