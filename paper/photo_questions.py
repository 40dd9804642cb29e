"""What PhotoCLIP is asked without any training: pictures that its pre-training never saw, sentences in its words.

The pictures are Tiny ImageNet's validation pictures, which take its archive, and the shipped sample of CIFAR-10.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.prompts import photographs
from lib.prompts.backbone import Backbone
from lib.prompts.photographs import files, looks, words
from lib.runtime import stream

#: The pictures of a question fall into so many parts of equal size, each with the same share of every class.
FOLDS = 4
#: Random choices among seen classes, and how many classes are in each.
SUBSETS, OF = 50, 20
TEMPLATE = "a photo of a {}"


@dataclass(frozen=True)
class Asked:
    """Pictures [N, 3, 32, 32] in [0, 1] with labels [N], K sentences, and which sentences are right for a label, as
    ``right`` [labels, K]; ``subsets`` [S, K] of bool has choices of sentences among which alone the picture's is
    sought, of pictures to whose label one of them belongs.
    """

    images: Tensor
    labels: Tensor
    sentences: tuple[str, ...]
    right: Tensor
    subsets: Tensor | None = None

    @property
    def classes(self) -> int:
        """How many sentences there are to choose from."""
        return len(self.sentences) if self.subsets is None else int(self.subsets[0].sum())

    @property
    def chance(self) -> float:
        """Accuracy in per cent of choosing blindly."""
        return 100 / self.classes if self.subsets is not None else 100 * float(self.right[self.labels].float().mean())


def held_out(root: Path) -> Tensor:
    """The validation pictures of Tiny ImageNet in bytes [200, N, 3, 32, 32]; others than the recorded are refused."""
    return torch.stack([files.opened(photographs.TINY, root, one.wnid)[1] for one in words.classes()])


def identity(name: str) -> str:
    """What tells a question's pictures and words from others, from what is recorded: 16 hexadecimal digits."""
    if not QUESTIONS[name].archive:
        return photographs.identity("objects")
    known = files.record()[photographs.TINY]["classes"]
    return hashlib.sha256(repr((known, words.classes())).encode()).hexdigest()[:16]


def _validation(held: Tensor, places: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Validation pictures of some classes, and which of these each is of."""
    return held[list(places)].flatten(0, 1).float() / 255, torch.arange(len(places)).repeat_interleave(held.shape[1])


def _named(held: Tensor, seen: bool, sentence: Callable[[words.Photographed], str]) -> Asked:
    """Each class by a sentence of its own."""
    places = [place for place, one in enumerate(words.classes()) if one.seen is seen]
    sentences = tuple(sentence(words.classes()[place]) for place in places)
    return Asked(*_validation(held, places), sentences, torch.eye(len(places), dtype=torch.bool))


def _name(one: words.Photographed) -> str:
    return TEMPLATE.format(one.names[0])


def _name_and_kind(one: words.Photographed) -> str:
    return TEMPLATE.format(f"{one.names[0]} a kind of {one.general[0]}")


def _twenty(held: Tensor) -> Asked:
    """Seen classes by their names, among random choices of :data:`OF`."""
    whole = _named(held, True, _name)
    generator = stream(0, "zero-shot", "twenty_of_seen", "subsets")
    chosen = torch.stack([torch.randperm(len(whole.sentences), generator=generator)[:OF] for _ in range(SUBSETS)])
    subsets = torch.zeros(SUBSETS, len(whole.sentences), dtype=torch.bool).scatter_(1, chosen, True)
    return Asked(whole.images, whole.labels, whole.sentences, whole.right, subsets)


def _kinds(held: Tensor, any_true: bool) -> Asked:
    """Classes that were never shown by the nearest general words of all of them: right is the class's own, or any that
    is true of it.
    """
    known = words.classes()
    places = [place for place, one in enumerate(known) if not one.seen]
    general = list(dict.fromkeys(known[place].general[0] for place in places))
    right = torch.tensor(
        [
            [place in words.true_of(word) if any_true else known[place].general[0] == word for word in general]
            for place in places
        ]
    )
    return Asked(*_validation(held, places), tuple(map(TEMPLATE.format, general)), right)


def _objects() -> Asked:
    """The shipped sample of CIFAR-10 by words that PhotoCLIP knows."""
    task, _ = photographs.get("objects")
    images, labels = task.tested(len(task.names) * task.rounds(1))
    return Asked(images, labels, tuple(task.prompts), torch.eye(len(task.names), dtype=torch.bool))


def _looks(name: str, sentences: Sequence[str], first: int) -> Asked:
    """Pictures of the sample made to have one property each, of the :data:`~looks.PROPERTIES` from the ``first`` on, a
    sentence for each.
    """
    images = _objects().images
    generator = stream(0, "zero-shot", name, "looks")
    labels = torch.randperm(len(images), generator=generator) % len(sentences)
    has = F.one_hot(first + labels, len(looks.PROPERTIES)).bool()
    images = looks.moved(images, has[:, looks.PROPERTIES.index("close")], generator)
    images = looks.painted(images, has, generator)
    return Asked(images, labels, tuple(sentences), torch.eye(len(sentences), dtype=torch.bool))


def _look(name: str) -> Asked:
    """Which of the seven looks."""
    return _looks(name, [f"a {one} photo of a thing" for one in looks.LOOKS], 0)


def _coloured(name: str, where: str) -> Asked:
    """Which colour of a tint or a frame."""
    first = looks.PROPERTIES.index(f"{where} {next(iter(words.COLOURS))}")
    sentences = [f"a photo of a thing in a {where} of {colour}" for colour in words.COLOURS]
    return _looks(name, sentences, first)


@dataclass(frozen=True)
class Question:
    """What is asked, in words, and how: ``ask`` takes the validation pictures [200, N, 3, 32, 32] in bytes if the
    question is about them (``archive``), and nothing otherwise.
    """

    about: str
    archive: bool
    ask: Callable[..., Asked]


QUESTIONS: dict[str, Question] = {
    "seen_by_name": Question("classes of pre-training by their names", True, lambda held: _named(held, True, _name)),
    "seen_by_name_and_kind": Question(
        'the same by their names and a more general word ("tabby a kind of cat")',
        True,
        lambda held: _named(held, True, _name_and_kind),
    ),
    "twenty_of_seen": Question(f"the same among {OF} of them, drawn at random {SUBSETS} times", True, _twenty),
    "unseen_by_kind": Question(
        "classes never shown, by the nearest general words", True, lambda held: _kinds(held, False)
    ),
    "unseen_by_true_kind": Question(
        "the same, where any of these words that is true counts", True, lambda held: _kinds(held, True)
    ),
    "unseen_by_name": Question(
        "the same by their names, which no caption ever said", True, lambda held: _named(held, False, _name)
    ),
    "objects": Question("CIFAR-10 by words that captions said", False, _objects),
    "looks": Question(f"which of {', '.join(looks.LOOKS)}", False, lambda: _look("looks")),
    "tint_colours": Question("the colour of a tint", False, lambda: _coloured("tint_colours", "tint")),
    "frame_colours": Question("the colour of a frame", False, lambda: _coloured("frame_colours", "frame")),
}
"""Everything that is asked, by name."""
SHIPPED = tuple(name for name, one in QUESTIONS.items() if not one.archive)
"""The questions about pictures that are shipped with the repository."""


def _part(labels: Tensor, name: str, part: int, pictures: int | None) -> Tensor:
    """Places of a part's pictures, at most so many, every class in turn."""
    generator = stream(0, "zero-shot", name, "parts")
    order = torch.randperm(len(labels), generator=generator)
    turns = torch.zeros(len(labels), dtype=torch.long)
    for label in labels.unique():
        own = order[labels[order] == label]
        turns[own] = torch.arange(len(own))
    # Of equal turns those come first that the random order has first.
    order = order[turns[order].argsort(stable=True)]
    return order[turns[order] % FOLDS == part][:pictures]


def answers(
    backbone: Backbone, name: str, held: Tensor | None = None, parts: Sequence[int] = (0,), pictures: int | None = None
) -> list[dict[str, float]]:
    """How often a backbone is right on some ``parts`` of a question's pictures: a row for each that there is with its
    ``part``, its ``pictures`` (at most so many), ``accuracy`` in per cent, ``classes`` and ``chance``.

    ``held`` are validation pictures [200, N, 3, 32, 32] in bytes, for questions about them.
    """
    question = QUESTIONS[name]
    asked = question.ask(held) if question.archive else question.ask()
    text = backbone.text_features(asked.sentences)
    rows = []
    for part in parts:
        places = _part(asked.labels, name, part, pictures)
        if not len(places):
            continue
        scores = backbone.image_features(asked.images[places]) @ text.T
        right = _right(scores.cpu(), asked.right[asked.labels[places]], asked.subsets)
        share = {"accuracy": 100 * float(right.mean()), "classes": asked.classes, "chance": asked.chance}
        rows.append({"part": part, "pictures": len(places), **share})
    return rows


def _right(scores: Tensor, right: Tensor, subsets: Tensor | None) -> Tensor:
    """Truth values: whether the best of K sentences is right for N pictures, from [N, K] both; within each choice of
    sentences for the pictures that it has a right one for.
    """
    if subsets is None:
        return right.gather(1, scores.argmax(1, keepdim=True))[:, 0].float()
    found = []
    for chosen in subsets:
        own = right[:, chosen].any(1)
        best = scores[own][:, chosen].argmax(1, keepdim=True)
        found.append(right[own][:, chosen].gather(1, best)[:, 0])
    return torch.cat(found).float()


def zero_shot(backbone: Backbone, held: Tensor | None = None, pictures: int | None = None) -> list[dict]:
    """What a backbone knows without any training: a row per question with its classes, pictures, chance and accuracy in
    per cent, on all pictures that there are or at most so many for each part of them. Without ``held`` (see
    :func:`answers`) the questions about these pictures are left out.
    """
    table = []
    for name, question in QUESTIONS.items():
        if question.archive and held is None:
            continue
        rows = answers(backbone, name, held, range(FOLDS), pictures)
        count = sum(row["pictures"] for row in rows)
        mean = sum(row["pictures"] * row["accuracy"] for row in rows) / count
        shared = {"classes": rows[0]["classes"], "pictures": count, "chance": round(rows[0]["chance"], 1)}
        table.append({"task": name, **shared, "accuracy": round(mean, 1)})
    return table
