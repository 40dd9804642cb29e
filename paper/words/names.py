"""Identifiers of the code in the words of the reader: values of cells, and headings of columns."""

from __future__ import annotations

import re
from functools import cache

from paper.words.spelling import NETWORKS, RULES, SPELT, TITLES, spelt, times

#: Headings of tables, where the name of a column is not the word for it.
HEADINGS = {
    "about": "what it is",
    "accuracy": "accuracy (%)",
    "arm": "training",
    "at 1e-5": "first steps at 10⁻⁵",
    "class_share_last": "told by the class, last",
    "depends": "seeds that depend",
    "fell": "fall of the loss",
    "gains": "seeds that gain",
    "gap_rms": "gap per parameter",
    "gated": "with the gate",
    "harmonic": "harmonic mean",
    "harmonic_over_blind": "harmonic mean over the blind twin",
    "held": "held out",
    "information_first": "input information, first",
    "information_last": "input information, last",
    "key": "source",
    "label": "learning rate",
    "later": "a fifth later (%)",
    "loss_before": "loss before",
    "loss_end": "loss at the end",
    "low": "worst chips (%)",
    "mean_last": "mean, last",
    "over_blind": "over the blind twin",
    "over_fixed": "over no gate",
    "over_mean": "over its mean",
    "over_random": "over random entries",
    "over_shuffled": "over the shuffled gate",
    "over_zero_shot": "over zero-shot",
    "routed": "told the cue",
    "rule": "backward rule",
    "saturation_last": "saturation, last",
    "spread_last": "spread, last",
    "unaware": "untrained (%)",
    "used_last": "entries used, last",
    "validation": "validation (%)",
    "worth_best": "worth, best look",
    "worth_last": "worth, last",
    "zero_shot": "zero-shot",
}

# An identifier: words of small letters joined by underscores; not the parts of a path like "prompt.deep_tokens".
_IDENTIFIER = re.compile(r"(?<![\w./`])[a-z]+(?:_[a-z0-9]+)+(?![\w.`(])")


@cache
def _known() -> dict[str, str]:
    """What stands for itself in a cell; the words of everyday language ("random", "pool") are left alone."""
    learners = {name: words for name, words in SPELT.items() if name not in {"random", "pool"}}
    return {**TITLES, **learners, **NETWORKS, **RULES}


def words(text: str) -> str:
    """The text of a cell without identifiers: "coop" -> "CoOp", "stuck_at" -> "Stuck-at faults"."""
    if text in _known():
        return _known()[text]
    return times(_IDENTIFIER.sub(lambda found: _known().get(found[0], spelt(found[0])), text))


def heading(column: str) -> str:
    """The heading of a column."""
    column, _, more = column.partition(", ")
    shown = HEADINGS.get(column) or words(column)
    return f"{shown}, {more}" if more else shown


def source(key: str) -> str:
    """An entry of the bibliography by its key: "nandakumar2019pcm" -> "Nandakumar 2019"."""
    return re.sub(r"^([a-z]+)([0-9]{4})\w*$", lambda found: f"{found[1].capitalize()} {found[2]}", key)
