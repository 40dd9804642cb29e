"""The numbers of a chip, and where each is found: ``layer -> part -> kind -> Tensor``.

A *layer* is a layer's name in the network. A *part* is a perturbation on the chip, by its name; a single perturbation
is the only part. A *kind* is what the number is: "chip" and "read" are drawn, "range" (the full scale of a converter),
"share" (what a cell loses) and others are calibrated. Under :data:`ARRAY` lies what belongs to a layer's arrays
whatever the parts ("scale"), under :data:`STATISTICS` what a batch normalisation, a layer here, has measured ("mean"
and "variance"). Redundant devices have a level more: ``part -> copy -> kind``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ARRAY = "array"
STATISTICS = "statistics"

#: What one part has on one layer, ``kind -> Tensor``; with parts or copies of its own, those come first.
Own = dict[str, Any]
#: What all parts have on one layer.
Parts = dict[str, Own]
#: What all parts have on all layers.
Numbers = dict[str, Parts]
#: Kinds of numbers by part.
Kinds = dict[str, tuple[str, ...]]


def merged(*several: Numbers) -> Numbers:
    """All numbers of ``several`` in one tree; of two in the same place the later one counts."""
    found: Numbers = {}
    for numbers in several:
        for layer, parts in numbers.items():
            for part, own in parts.items():
                if own:
                    found.setdefault(layer, {}).setdefault(part, {}).update(own)
    return found


def selected(numbers: Numbers, wanted: Callable[[str, str], bool]) -> Numbers:
    """The numbers whose part and kind are ``wanted``."""
    return merged(
        *(
            {layer: {part: {kind: own[kind] for kind in own if wanted(part, kind)}}}
            for layer, parts in numbers.items()
            for part, own in parts.items()
        )
    )


def of_kinds(numbers: Numbers, kinds: Kinds) -> Numbers:
    """The numbers of these kinds, which are named part by part."""
    return selected(numbers, lambda part, kind: kind in kinds.get(part, ()))
