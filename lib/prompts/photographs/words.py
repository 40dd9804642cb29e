"""What can be said of a photograph of Tiny ImageNet: its class, more general words, and how the picture looks.

Names, synonyms and more general words of the 200 classes are WordNet's (Miller 1995), cut to plain ones, in
``classes.csv``. Forty classes are never shown in pre-training; each has general words that others of its kind teach.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

START, END, PAD = "<start>", "<end>", "<pad>"
MEDIA = ("photo", "picture", "image")
COLOURS = {
    "red": (0.85, 0.12, 0.12),
    "green": (0.1, 0.65, 0.15),
    "blue": (0.12, 0.2, 0.85),
    "yellow": (0.92, 0.85, 0.1),
    "purple": (0.6, 0.12, 0.75),
    "cyan": (0.1, 0.8, 0.85),
}
"""Of frames and of tints: red, green and blue from 0 to 1."""
LOOKS = ("grey", "dark", "bright", "blurry", "noisy", "faded", "close")
"""How a photograph can look, beside a tint and a frame; "close" is shown by its middle alone."""
_FILLERS = "a an of in the type kind thing framed tint frame with colour".split()
#: Other words of the same WordNet synset.
SYNONYMS = {"car": ("automobile",)}


@dataclass(frozen=True)
class Photographed:
    """A class of Tiny ImageNet: WordNet's number, names (the first is said most), general words from near to far."""

    wnid: str
    names: tuple[str, ...]
    general: tuple[str, ...]
    seen: bool


@cache
def classes() -> tuple[Photographed, ...]:
    """The 200 classes in the order of their numbers."""
    with (Path(__file__).parent / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        Photographed(
            row["wnid"],
            (row["name"], *filter(None, row["synonyms"].split(";"))),
            tuple(row["general"].split(";")),
            row["seen"] == "yes",
        )
        for row in rows
    )


def true_of(phrase: str) -> frozenset[int]:
    """The places in :func:`classes` of those that a name or general word is true of."""
    return _truths()[phrase]


@cache
def _truths() -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {"thing": set(range(len(classes())))}
    for place, one in enumerate(classes()):
        for phrase in (*one.names, *one.general):
            for said in (phrase, *SYNONYMS.get(phrase, ())):
                found.setdefault(said, set()).add(place)
    return {phrase: frozenset(places) for phrase, places in found.items()}


@cache
def vocabulary() -> tuple[str, ...]:
    """The whole vocabulary; a word's id is its place. The end-of-text word comes last: its id is the largest, which
    open_clip's argmax pooling needs.
    """
    known = {word for phrase in _truths() for word in phrase.split()}
    known |= {*MEDIA, *COLOURS, *LOOKS, *_FILLERS}
    return (PAD, START, *sorted(known), END)
