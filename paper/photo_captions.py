"""Captions of photographs: what PhotoCLIP was trained to match with them, and of which others they are true."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.prompts.photographs import words
from lib.prompts.photographs.looks import PROPERTIES

#: Share of the pictures with a second caption.
MORE = 0.35


class Captions:
    """Makes captions; what is random in them follows from ``seed``."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        known = words.classes()
        phrases = sorted({phrase for one in known for phrase in (*one.names, *one.general)} | {"automobile", "thing"})
        self.truth = torch.tensor([[place in words.true_of(p) for place in range(len(known))] for p in phrases])
        self.place = {phrase: i for i, phrase in enumerate(phrases)}

    def state(self) -> Any:
        """Where the random numbers stand."""
        return self.random.getstate()

    def restore(self, state: Any) -> None:
        """Go on where ``state`` says."""
        self.random.setstate(state)

    def _one_of(self, options: Sequence[str]) -> str:
        return self.random.choice(options)

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _noun(self, label: int, general: bool) -> tuple[str, list[str]]:
        """Words for a class and the phrases in them."""
        one = words.classes()[label]
        # The first name half of the time, a synonym otherwise; near general words more often than far ones.
        name = one.names[0] if self._chance(0.6) else self._one_of(one.names)
        near = one.general[0] if self._chance(0.5) else self._one_of(one.general)
        near = self._one_of((near, *words.SYNONYMS.get(near, ())))
        if general:
            return near, [near]
        if self._chance(0.4):
            return f"{name} {self._one_of(('a', 'a type of', 'a kind of'))} {near}", [name, near]
        return name, [name]

    def _look(self, has: Tensor, share: float) -> tuple[str, str, list[int]]:
        """Adjectives, what is said at the end, and which properties these name."""
        before, after, named = [], [], []
        for place in has.nonzero()[:, 0].tolist():
            if not self._chance(share):
                continue
            kind, _, colour = PROPERTIES[place].partition(" ")
            named.append(place)
            if not colour:
                before.append(kind)
            elif self._chance(0.3):
                before.append(f"{colour} framed" if kind == "frame" else colour)
            else:
                after.append(f"in a {kind} of {colour}")
        return " ".join(before), " ".join(after), named

    def _sentence(self, noun: str, before: str, after: str, plain: bool) -> str:
        """A caption; a ``plain`` one may do without the noun."""
        medium = self._one_of(words.MEDIA)
        if plain and self._chance(0.5):
            parts = ["a", before, medium, after]
        elif not before and not after and self._chance(0.15):
            parts = ["a", noun]
        elif self._chance(0.5):
            parts = ["a", before, medium, "of a", noun, after]
        else:
            parts = ["a", before, medium, after, "of a", noun]
        return " ".join(part for part in parts if part)

    def of(self, noun: str, has: Tensor) -> str:
        """A caption that says all of how a picture looks, ``has`` [P], and calls what it shows by a noun."""
        before, after, _ = self._look(has, 1.0)
        return self._sentence(noun, before, after, plain=False)

    def __call__(self, labels: Tensor, has: Tensor) -> tuple[list[str], Tensor, Tensor, Tensor]:
        """A caption for each of N pictures that names its class, and for :data:`MORE` of them, drawn at random, one
        more that says a general word or how it looks.

        Returns M texts, the picture that each is of [M], the classes that it is true of [M, 200], and the properties
        that it names [M, P].
        """
        texts, kinds, named = [], [], []
        count = len(labels)
        some = torch.tensor(self.random.sample(range(count), round(MORE * count)), dtype=torch.long)
        owner = torch.cat([torch.arange(count), some])
        for second, chosen in ((False, owner[:count]), (True, some)):
            for label, own in zip(labels[chosen].tolist(), has[chosen], strict=True):
                plain = second and bool(own.any()) and self._chance(0.6)
                noun, phrases = ("thing", ["thing"]) if plain else self._noun(label, second)
                before, after, told = self._look(own, 0.9 if plain else 0.4)
                texts.append(self._sentence(noun, before, after, plain))
                kinds.append(torch.stack([self.truth[self.place[p]] for p in phrases]).all(0))
                named.append(F.one_hot(torch.tensor(told, dtype=torch.long), len(PROPERTIES)).sum(0).bool())
        return texts, owner, torch.stack(kinds), torch.stack(named)


def true(labels: Tensor, has: Tensor, kinds: Tensor, named: Tensor) -> Tensor:
    """Which captions [M] are true of which pictures [N], as [N, M]: the class fits and nothing named is missing."""
    return kinds[:, labels].T & ~((~has).float() @ named.float().T > 0)
