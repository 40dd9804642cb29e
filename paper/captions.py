"""Captions of the procedural world's scenes: what MiniCLIP was trained to match with their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from lib.prompts import world

ATTRIBUTES = ("shape", "colour", "texture", "size", "position", "count", "ground", "ground_colour", "style")


def captions(scenes: world.Scenes, generator: torch.Generator, named: Mapping[str, Tensor] | None = None) -> list[str]:
    """One caption per scene, naming a random part of what is there.

    ``named[attribute]`` (bool [N]) forces an attribute to be named where it is true.
    """
    n = len(scenes)
    chance = dict(
        shape=0.8,
        colour=0.6,
        texture=0.5,
        size=0.25,
        position=0.45,
        count=0.85,
        ground=0.25,
        ground_colour=0.5,
        style=0.25,
    )
    says = {a: torch.rand(n, generator=generator) < chance[a] for a in ATTRIBUTES}
    for attribute, mask in (named or {}).items():
        says[attribute] = says[attribute] | mask
    say = {a: m.tolist() for a, m in says.items()}
    value = {f.name: getattr(scenes, f.name).tolist() for f in fields(scenes)}
    dice = torch.rand(n, 4, generator=generator).tolist()
    return [_caption(i, value, say, dice[i]) for i in range(n)]


def _noun(shape: str, dice: float) -> str:
    """A rare synonym in every eighth case."""
    return world.SYNONYMS[shape] if shape in world.SYNONYMS and dice < 0.125 else shape


def _caption(
    i: int, value: Mapping[str, Sequence[int]], say: Mapping[str, Sequence[bool]], dice: Sequence[float]
) -> str:
    medium = world.MEDIA[int(dice[0] * len(world.MEDIA))]
    style = world.STYLES[value["style"][i]]
    words = ["a", *([style] if say["style"][i] else []), medium, "of"] if dice[1] < 0.85 else []
    colour = [world.COLOUR_NAMES[value["colour"][i]]] if say["colour"][i] else []
    kind = world.KINDS[value["kind"][i]]
    generic = "thing" if dice[2] < 0.5 else "object"
    noun = _noun(world.SHAPES[value["shape"][i]], dice[3]) if say["shape"][i] else generic
    if kind == "single":
        size = [world.SIZES[value["size"][i]]] if say["size"][i] else []
        texture = [world.TEXTURES[value["texture"][i]]] if say["texture"][i] else []
        words += ["a", *size, *texture, *colour, noun]
        if say["position"][i]:
            words += world.PLACE_WORDS[world.POSITIONS[value["position"][i]]]
    elif kind == "count":
        many = value["count"][i] > 0
        number = world.COUNTS[value["count"][i]] if say["count"][i] else ("" if many else "a")
        words += [*([number] if number else []), *colour, world.plural(noun) if many else noun]
    else:
        other = [world.COLOUR_NAMES[value["colour2"][i]]] if say["colour"][i] else []
        words += [
            "a",
            *colour,
            noun,
            *(("beside",) if dice[2] < 0.5 else ("next", "to")),
            "a",
            *other,
            world.SHAPES[value["shape2"][i]],
        ]
    if say["ground_colour"][i] or say["ground"][i]:
        ground = [world.GROUNDS[value["ground"][i]]] if say["ground"][i] else []
        ground += [world.COLOUR_NAMES[value["ground_colour"][i]]] if say["ground_colour"][i] else []
        words += ["on", "a", *ground, "background"]
    return " ".join(
        "an" if word == "a" and after[0] in "aeiou" else word
        for word, after in zip(words, (*words[1:], "."), strict=True)
    )
