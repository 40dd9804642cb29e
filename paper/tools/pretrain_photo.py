"""Trains PhotoCLIP from nothing on Tiny ImageNet with captions made from class names, and reports what it reaches.

``python -m paper.tools.pretrain_photo --help`` lists the options; ``make pretrain BACKBONE=photo`` runs it with the
defaults. Training is CLIP's symmetric contrastive loss (Radford et al. 2021) with one change that the few classes make
necessary: a caption that is true of another picture of the batch is not counted against it.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import checks, runtime
from lib.prompts import photoclip
from lib.prompts.photographs import words
from lib.prompts.photographs.looks import PROPERTIES, looks, moved, painted
from paper.tools.pretrain import text_features

#: Share of the pictures with a second caption.
MORE = 0.35


@dataclass(frozen=True)
class Recipe:
    """Everything that the training depends on::

        steps               optimiser steps; each shows one picture of every seen class
        rate, weight_decay  AdamW; warmup steps of linear warm-up, then cosine to zero
        smoothing           of the targets
        seed                of initial weights, pictures and captions

    The same recipe on the same machine gives the same weights.
    """

    steps: int = 6000
    rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 300
    smoothing: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer("steps", self.steps, 1)
        checks.number("rate", self.rate, above=0)
        checks.number("weight_decay", self.weight_decay, 0)
        checks.integer("warmup", self.warmup, 0)
        checks.number("smoothing", self.smoothing, 0, 0.9)
        checks.integer("seed", self.seed, 0)

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then cosine to zero."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


# ---------------------------------------------------------------------------------------------- captions
class Captions:
    """Makes captions; what is random in them follows from ``seed``."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        known = words.classes()
        phrases = sorted({phrase for one in known for phrase in (*one.names, *one.general)} | {"automobile", "thing"})
        self.truth = torch.tensor([[place in words.true_of(p) for place in range(len(known))] for p in phrases])
        self.place = {phrase: i for i, phrase in enumerate(phrases)}

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

    def __call__(self, labels: Tensor, has: Tensor) -> tuple[list[str], Tensor, Tensor, Tensor]:
        """A caption for each of N pictures that names its class, and for :data:`MORE` of them, drawn at random, one more that
        says a general word or how it looks.

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
                medium = self._one_of(words.MEDIA)
                if plain and self._chance(0.5):
                    parts = ["a", before, medium, after]
                elif not before and not after and self._chance(0.15):
                    parts = ["a", noun]
                elif self._chance(0.5):
                    parts = ["a", before, medium, "of a", noun, after]
                else:
                    parts = ["a", before, medium, after, "of a", noun]
                texts.append(" ".join(part for part in parts if part))
                kinds.append(torch.stack([self.truth[self.place[p]] for p in phrases]).all(0))
                named.append(F.one_hot(torch.tensor(told, dtype=torch.long), len(PROPERTIES)).sum(0).bool())
        return texts, owner, torch.stack(kinds), torch.stack(named)


def true(labels: Tensor, has: Tensor, kinds: Tensor, named: Tensor) -> Tensor:
    """Which captions [M] are true of which pictures [N], as [N, M]: the class fits and nothing named is missing."""
    return kinds[:, labels].T & ~((~has).float() @ named.float().T > 0)


def contrastive(logits: Tensor, truth: Tensor, owner: Tensor, smoothing: float) -> Tensor:
    """CLIP's loss for N pictures and M captions [N, M], caption j made for picture ``owner[j]``.

    A caption that is true of another picture too is left out of that picture's sum, and the other way round.
    """
    place = torch.arange(len(owner), device=logits.device)
    low = torch.finfo(logits.dtype).min
    losses = []
    for scores, left, target in ((logits[owner], truth[owner], place), (logits.T, truth.T, owner)):
        left = left.clone()
        left[place, target] = False
        logp = scores.masked_fill(left, low).log_softmax(1)
        even = logp.masked_fill(left, 0).sum(1) / (~left).sum(1)
        losses.append(-((1 - smoothing) * logp[place, target] + smoothing * even).mean())
    return torch.stack(losses).mean()


def by_length(model: open_clip.CLIP, tokens: Tensor, parts: int = 3) -> Tensor:
    """Text features [N, embed] of captions [N, T], short ones together, so that few tokens are computed in vain."""
    order = tokens.argmax(1).argsort()
    found = torch.cat([text_features(model, tokens[some]) for some in order.chunk(parts)])
    return found[order.argsort()]


# ---------------------------------------------------------------------------------------------- training
def train(
    recipe: Recipe,
    pictures: Tensor,
    labels: Sequence[int],
    device: torch.device,
    watch: Callable[[open_clip.CLIP], dict],
    report: Callable[[dict], None],
    every: int = 250,
) -> tuple[open_clip.CLIP, list[dict]]:
    """Trains a new PhotoCLIP on ``pictures`` [C, N, 3, 32, 32] in bytes of the C classes ``labels`` (their places in
    :func:`lib.prompts.photographs.words.classes`). Returns the model, its normalisation folded into its convolutions,
    and the training curve: a row per ``every`` steps with what ``watch`` says of the model, each given to ``report``
    as it comes.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        model = photoclip.build(training=True).to(device, memory_format=torch.channels_last).train()
    generator = runtime.stream(recipe.seed, "pretrain", "photo")
    tokenise, captions = photoclip.PhotoTokenizer(), Captions(recipe.seed)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=recipe.rate,
        betas=(0.9, 0.98),
    )
    classes, each = pictures.shape[:2]
    shown = torch.tensor(labels)
    order = torch.zeros(classes, 0, dtype=torch.long)
    mean, std = (torch.tensor(value, device=device)[:, None, None] for value in (photoclip.MEAN, photoclip.STD))
    curve: list[dict] = []
    losses, start = [], time.perf_counter()
    with runtime.progress(recipe.steps, "pre-training") as tick:
        for step in range(recipe.steps):
            if not order.shape[1]:
                # Every class in an order of its own, all pictures before any comes again.
                order = torch.rand(classes, each, generator=generator).argsort(1)
            drawn, order = order[:, 0], order[:, 1:]
            images = pictures[torch.arange(classes), drawn].float() / 255
            has = looks(classes, generator)
            images = painted(moved(images, has[:, PROPERTIES.index("close")], generator), has, generator)
            texts, owner, kinds, named = captions(shown, has)
            truth = true(shown, has, kinds, named).to(device)
            tokens = tokenise(texts).to(device)
            seen = ((images.to(device) - mean) / std).contiguous(memory_format=torch.channels_last)
            image = F.normalize(model.visual(seen), dim=-1)
            text = F.normalize(by_length(model, tokens), dim=-1)
            loss = contrastive(model.logit_scale.exp() * image @ text.T, truth, owner.to(device), recipe.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate_at(step)
            optimiser.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            losses.append(loss.detach())
            tick(1)
            if (step + 1) % every == 0 or step + 1 == recipe.steps:
                row = dict(
                    step=step + 1, loss=float(torch.stack(losses).mean()), seconds=round(time.perf_counter() - start, 1)
                )
                losses.clear()
                row |= watch(model.eval())
                model.train()
                report(row)
                curve.append(row)
    model.eval().visual.conv1 = photoclip.folded(model.visual.conv1)
    return model, curve
