"""Few-shot tasks of photographs, for PhotoCLIP: the counterparts of the drawn world's tasks, and tasks of their own.

Tasks on CIFAR-10 (Krizhevsky 2009) need nothing but the sample that stands in this folder; tasks on Tiny ImageNet need
its archive below ``root``. Pre-training saw none of their pictures: nothing of CIFAR-10, and of Tiny ImageNet neither
the first 64 training pictures of a class, nor its validation pictures, nor anything of forty classes. ::

    objects, coarse, shift          CIFAR-10's ten classes: as they are, through a coarse camera, in looks never seen
    mis_specified                   tinted and framed photographs, asked for the tint in words for the frame
    conflict, conflict_blur         the colour of the frame or of the tint, as the cue says
    unseen                          sixteen classes that pre-training never showed, by general words that it taught
    fine, insects, vehicles         classes that are easily confused, by their own names
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import checks, pictures
from lib.checks import ParameterError
from lib.prompts import tasks
from lib.prompts.photographs import files, looks, words
from lib.runtime import stream

CIFAR, TINY = "cifar10", "tiny_imagenet"
SIZE = 32
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
VEHICLES = ("airplane", "automobile", "ship", "truck")
SPOKEN = {"airplane": "craft", "deer": "ruminant", "horse": "ungulate", "ship": "watercraft"}
"""Names that PhotoCLIP has no word for, and a more general word that is true of them."""
#: Pictures of a class that pre-training never showed, and of one that it did: number and word in a task.
UNSEEN = {
    "frog": "n01644900",
    "spider": "n01774750",
    "bird": "n01855672",
    "lobster": "n01984695",
    "dog": "n02106662",
    "cat": "n02123394",
    "butterfly": "n02281406",
    "ape": "n02480495",
    "bottle": "n03983396",
    "bridge": "n04366367",
    "car": "n04285008",
    "ball": "n04118538",
    "bus": "n04146614",
    "citrus": "n07749582",
    "shore": "n09332890",
    "table": "n03179701",
}
SEEN = {
    "fish": "n01443537",
    "snake": "n01742172",
    "mollusk": "n01944390",
    "bear": "n02132136",
    "beetle": "n02165456",
    "rodent": "n02364673",
    "sheep": "n02415577",
    "monkey": "n02486410",
    "truck": "n03796401",
    "boat": "n03662601",
    "tower": "n02814860",
    "chair": "n04099969",
    "hat": "n04259630",
    "dish": "n07873807",
    "building": "n02793495",
    "mountain": "n09193705",
}
Look = Callable[[Tensor, torch.Generator], Tensor]


def spoken(names: Sequence[str]) -> tuple[str, ...]:
    """CIFAR-10's class names in words that PhotoCLIP knows; other names as they are."""
    return tuple(SPOKEN.get(name, name) for name in names)


# --------------------------------------------------------------------------------------------------- tasks
@dataclass(frozen=True, eq=False)
class PhotoTask:
    """A K-way task of photographs; its label is the class of the picture.

    ``names`` are the class names, ``template`` puts one into a sentence, ``about`` says what the task asks, ``source``
    and ``root`` where its pictures lie. ``kinds`` are groups of the set's classes, here one for each label; ``look``
    changes the finished pictures. A task that is not ``trained`` is only tested on.

    Pictures are dealt in rounds, one picture for each label. A seed deals all training pictures of a group in an order
    of its own: the first ``shots`` rounds are trained on, the next ones validate; test pictures are dealt likewise.
    """

    name: str
    names: tuple[str, ...]
    template: str
    about: str
    source: str
    root: Path
    kinds: tuple[tuple[str, ...], ...]
    look: Look | None = None
    trained: bool = True

    #: Nothing that is asked depends on left and right.
    flips = True

    @property
    def prompts(self) -> list[str]:
        """One zero-shot sentence per class."""
        return [self.template.format(name) for name in self.names]

    def rounds(self, part: int) -> int:
        """How many rounds the training pictures (0) or the test pictures (1) make."""
        return files.record()[self.source]["counts"][part]

    def enough(self, shots: int) -> None:
        """Refuses more training pictures per class than there are, and any for a task that is only tested on."""
        checks.integer("shots", shots, 1, min(tasks.POOL, self.rounds(0)))
        if not self.trained:
            raise ParameterError(
                f"shots must be drawn from the base classes ({self.name!r} is only tested on), but {shots} was given."
            )

    def open(self) -> None:
        """Opens all pictures: refuses, with one sentence, what is missing, damaged or not the recorded set."""
        for kind in {kind for group in self.kinds for kind in group}:
            files.opened(self.source, self.root, kind)

    def few_shot(self, shots: int, seed: int, test_size: int, image_size: int = SIZE) -> tasks.FewShot:
        """``shots`` training pictures per class and at most ``test_size`` test pictures, for one seed."""
        self.enough(shots)
        images, labels, cue = self._dealt(0, range(shots), seed, image_size)
        # Class by class, as everywhere.
        order = labels.argsort(stable=True)
        test_images, test_labels, test_cue = self._tested(test_size, image_size, seed)
        own = None if cue is None else cue[order]
        return tasks.FewShot(images[order], labels[order], own, test_images, test_labels, test_cue)

    def validation(self, count: int, shots: int, seed: int, image_size: int = SIZE) -> tuple[Tensor, Tensor]:
        """Training pictures [N, 3, S, S] that ``shots`` leave over and labels [N]: about ``count`` or fewer."""
        checks.integer("count", count, 1)
        self.enough(shots)
        last = min(self.rounds(0), shots - (-count // len(self.names)))
        images, labels, _ = self._dealt(0, range(shots, last), seed, image_size)
        return images, labels

    def test_seed(self, test_size: int, seed: int) -> int:
        """The seed on which the test set depends: every seed has pictures of its own."""
        return seed

    def tested(self, test_size: int, image_size: int = SIZE, seed: int = 0) -> tuple[Tensor, Tensor]:
        """At most ``test_size`` test pictures [N, 3, S, S] in [0, 1] and labels [N]; more pictures take none away."""
        images, labels, _ = self._tested(test_size, image_size, seed)
        return images, labels

    def _tested(self, test_size: int, image_size: int, seed: int) -> tuple[Tensor, Tensor, Tensor | None]:
        checks.integer("test_size", test_size, 1)
        last = min(self.rounds(1), -(-test_size // len(self.names)))
        images, labels, cue = self._dealt(1, range(last), seed, image_size)
        return images[:test_size], labels[:test_size], None if cue is None else cue[:test_size]

    def _dealt(self, part: int, rounds: range, seed: int, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Pictures [N, 3, S, S] in [0, 1], labels [N] and perhaps cues [N] of some rounds."""
        checks.integer("image_size", size, 1)
        opened = [[files.opened(self.source, self.root, kind)[part] for kind in group] for group in self.kinds]
        generator = stream(seed, "task", self.name, ("train", "test")[part])
        pools = [pool[torch.randperm(len(pool), generator=generator)] for pool in map(torch.cat, opened)]
        images, cues = torch.empty(len(rounds), len(self.names), 3, SIZE, SIZE), list[Tensor]()
        for row, number in zip(images, rounds, strict=True):
            # A stream for every round, so that a picture is the same whatever else is drawn.
            generator = stream(seed, "task", self.name, ("train", "test")[part], number)
            pixels, cue = self._round(pools, number, generator)
            row.copy_(pixels if self.look is None else self.look(pixels, generator))
            cues += [] if cue is None else [cue]
        images = images.flatten(0, 1)
        if size != SIZE and len(images):
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        labels = torch.arange(len(self.names)).repeat(len(rounds))
        return images, labels, torch.cat(cues) if cues else None

    def _round(self, pools: list[Tensor], number: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Pictures [K, 3, 32, 32] in [0, 1] with the labels 0 to K - 1, and perhaps which are cued [K]."""
        return torch.stack([pool[number] for pool in pools]).float() / 255, None


@dataclass(frozen=True, eq=False)
class ColourTask(PhotoTask):
    """A task whose label is a colour: every photograph has a tint and a frame, of two colours.

    The label is the colour of the tint. Of a share ``strength / 2`` of the pictures, those that are cued, it is the
    colour of the frame. With two groups in ``kinds`` a cued photograph is of the second; with ``blur`` all that are not
    cued are blurred. ``cue`` tells whether a task has a cue at all.
    """

    strength: float = 0.0
    blur: bool = False

    @property
    def cue(self) -> bool:
        """Is there a second rule that something visible tells from the first?"""
        return self.blur or len(self.kinds) > 1

    def rounds(self, part: int) -> int:
        """How many rounds the training pictures (0) or the test pictures (1) make, whichever of them are cued."""
        return super().rounds(part) * min(map(len, self.kinds)) // len(self.names)

    def _round(self, pools: list[Tensor], number: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        count = len(self.names)
        labels = torch.arange(count)
        cued = torch.rand(count, generator=generator) < self.strength / 2
        # The other colour is never the label: a wrong rule gives a wrong answer.
        other = (labels + 1 + torch.randint(count - 1, (count,), generator=generator)) % count
        group = cued.long() if len(pools) > 1 else torch.zeros_like(labels)
        photos = torch.stack([pools[own][number * count + row] for row, own in enumerate(group.tolist())])
        has = torch.zeros(count, len(looks.PROPERTIES), dtype=torch.bool)
        tint, frame = (looks.PROPERTIES.index(f"{kind} {next(iter(words.COLOURS))}") for kind in ("tint", "frame"))
        has[labels, tint + torch.where(cued, other, labels)] = True
        has[labels, frame + torch.where(cued, labels, other)] = True
        has[:, looks.PROPERTIES.index("blurry")] = ~cued & self.blur
        return looks.painted(photos.float() / 255, has, generator), cued if self.cue else None


# --------------------------------------------------------------------------------------------------- looks
def coarse(images: Tensor, generator: torch.Generator) -> Tensor:
    """An eight-by-eight camera: every block of 4 x 4 pixels becomes its mean."""
    return F.interpolate(F.avg_pool2d(images, 4), scale_factor=4)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture grey and noisy, strongly blurred, or of very low contrast: more than pre-training ever showed."""
    kind = torch.randint(3, (len(images), 1, 1, 1), generator=generator)
    noise = torch.randn(len(images), 1, *images.shape[2:], generator=generator)
    noisy = (images.mean(1, keepdim=True) + 0.25 * noise).expand_as(images)
    blurred = images
    for _ in range(3):
        blurred = F.avg_pool2d(F.pad(blurred, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    flat = 0.5 + 0.12 * (images - 0.5)
    return torch.where(kind == 0, noisy, torch.where(kind == 1, blurred, flat)).clamp(0, 1)


# --------------------------------------------------------------------------------------------------- by name
def _own_words(numbers: Sequence[str]) -> str:
    """How many of these classes have names with words that pre-training never taught."""
    taught = {
        word for one in words.classes() if one.seen for said in (*one.names, *one.general) for word in said.split()
    }
    names = [one.names[0] for one in words.classes() if one.wnid in numbers]
    new = sum(not set(name.split()) <= taught for name in names)
    return f"{len(names)} ways, by their names; {new} of them have words that pre-training never taught"


def _of(word: str) -> tuple[str, ...]:
    """The numbers of Tiny ImageNet's classes that a word is true of."""
    return tuple(words.classes()[place].wnid for place in sorted(words.true_of(word)))


_DOGS, _INSECTS, _VEHICLES = _of("dog"), _of("insect"), tuple(sorted((*_of("vehicle"), *_of("bus"))))
TASKS: dict[str, str] = {
    "objects": "what the photograph shows, 10 ways",
    "coarse": "what the photograph shows, through a camera of eight by eight pixels",
    "shift": "what a photograph shows that is grey and noisy, strongly blurred or of very low contrast",
    "mis_specified": "the colour of the tint, asked with class names that speak of the frame",
    "conflict": "the colour of the tint if the photograph shows a vehicle, of the frame if it shows an animal",
    "conflict_blur": "the colour of the tint if the photograph is blurred, of the frame if it is sharp",
    "unseen": "classes that pre-training never showed, 16 ways, by general words",
    "fine": f"kinds of dogs, {_own_words(_DOGS)}",
    "insects": f"kinds of insects, {_own_words(_INSECTS)}",
    "vehicles": f"kinds of vehicles, {_own_words(_VEHICLES)}",
}
"""Tasks by name, and what each asks."""
GRADED: dict[str, str] = {"conflict": "content", "conflict_blur": "blur"}
"""Tasks that are graded by a strength, and the cue of each: here a gate has something to gain."""
_NUMBERS = {"fine": _DOGS, "insects": _INSECTS, "vehicles": _VEHICLES}
_CAMERAS: dict[str, Look | None] = {"objects": None, "coarse": coarse, "shift": shifted}


def get(
    name: str, strength: float = 1.0, root: str | Path = "data", protocol: str = "few_shot"
) -> tuple[PhotoTask, PhotoTask | None]:
    """The task of that name; for ``unseen`` under base_to_new a task of seen classes, and that of the unseen ones,
    which is only tested on.

    ``strength`` grades the conflict tasks; Tiny ImageNet is looked for below ``root``. Equal arguments give the same
    task. No picture is opened before it is drawn, or before the task is asked to :meth:`~PhotoTask.open`.
    """
    checks.choice("task", name, TASKS)
    checks.number("strength", strength, 0, 1)
    checks.choice("protocol", protocol, ("few_shot", "base_to_new"))
    graded = float(strength) if name in GRADED else 0.0
    return _get(name, graded, pictures.folder(root), protocol if name == "unseen" else "few_shot")


@lru_cache(maxsize=64)
def _get(name: str, strength: float, root: Path, protocol: str) -> tuple[PhotoTask, PhotoTask | None]:
    about, photo = TASKS[name], "a photo of a {}"
    if name in _CAMERAS:
        known = sorted((*ANIMALS, *VEHICLES))
        one_each = tuple((kind,) for kind in known)
        return PhotoTask(name, spoken(known), photo, about, CIFAR, files.HERE, one_each, _CAMERAS[name]), None
    if name == "mis_specified" or name in GRADED:
        # As pre-training puts it: "a red photo of a thing" is tinted; a thing stands "in a frame of red".
        spec = name == "mis_specified"
        names = tuple(f"frame of {colour}" if spec else f"{colour} photo" for colour in words.COLOURS)
        template = "a photo of a thing in a {}" if spec else "a {} of a thing"
        kinds = (VEHICLES, ANIMALS) if name == "conflict" else ((*ANIMALS, *VEHICLES),)
        blur = name == "conflict_blur"
        return ColourTask(name, names, template, about, CIFAR, files.HERE, kinds, strength=strength, blur=blur), None
    if name in _NUMBERS:
        spoken_of = {one.wnid: one.names[0] for one in words.classes()}
        numbers = _NUMBERS[name]
        names = tuple(spoken_of[number] for number in numbers)
        return PhotoTask(name, names, photo, about, TINY, root, tuple((number,) for number in numbers)), None

    def half(called: str, classes: Mapping[str, str], trained: bool = True) -> PhotoTask:
        kinds = tuple((number,) for number in classes.values())
        return PhotoTask(called, tuple(classes), photo, about, TINY, root, kinds, trained=trained)

    if protocol == "few_shot":
        return half(name, UNSEEN), None
    return half(f"{name} base", SEEN), half(f"{name} new", UNSEEN, trained=False)


def identity(name: str) -> str:
    """What tells the pictures of a task from others, with its words, from what is recorded: no picture is needed."""
    found = hashlib.sha256()
    for task in (*get(name), *get(name, protocol="base_to_new")):
        if task is not None:
            own = [[files.record()[task.source]["classes"][kind] for kind in group] for group in task.kinds]
            found.update(repr((task.name, task.names, task.template, own)).encode())
    return found.hexdigest()[:16]


def task_of(config: Mapping[str, Any], site: Mapping[str, Any]) -> tuple[PhotoTask, PhotoTask | None]:
    """The task of a cell with "task", "strength" and "data", all its pictures opened: others than those of the record
    are refused.
    """
    known = config["data"] or {}
    found = get(config["task"], config["strength"], site["root"], known.get("protocol", "few_shot"))
    if known.get("identities", [identity(config["task"])]) != [identity(config["task"])]:
        raise ParameterError(
            f"task must be of the pictures that the study was made with, but {config['task']!r} of others was given."
        )
    for part in found:
        if part is not None:
            part.open()
    return found


class Photographs:
    """What :data:`lib.prompts.tasks.ELSEWHERE` holds by the name ``photographs``."""

    TASKS, GRADED = TASKS, GRADED
    get, identity, task_of = staticmethod(get), staticmethod(identity), staticmethod(task_of)


tasks.ELSEWHERE["photographs"] = Photographs
