"""Few-shot tasks drawn from the procedural world.

A :class:`Task` knows its classes in words, a hand-written template, and how to draw scenes of a class. :func:`few_shot`
turns it into pictures: a few training pictures per class and a test set, both drawn anew for every seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import checks
from lib.checks import ParameterError
from lib.prompts import world
from lib.prompts.world import Scenes
from lib.registry import Registry
from lib.runtime import stream

POOL = 64
"""Training pictures that a task holds per class; ``shots`` cannot exceed it."""

ELSEWHERE: Registry[Any] = Registry("tasks", {})
"""Tasks of other modules, for backbones that cannot read the drawn world: a class with ``TASKS``, ``GRADED``, ``get``,
``identity`` and ``task_of``.
"""

Labeller = Callable[[Scenes, Tensor, torch.Generator], Scenes]


@dataclass(frozen=True)
class Task:
    """A K-way task.

    ``names`` are the class names as noun phrases, ``template`` puts one into a sentence for zero-shot use,
    ``assign(scenes, labels, generator)`` gives random scenes the attributes of their labels, ``about`` says
    what the task asks. ``cue`` tells which scenes follow the second rule of the conflict task; ``camera`` changes
    the finished pictures in a way that pre-training never saw. Where the label depends on left and right, ``flips`` is
    off: no training picture may be turned about.
    """

    name: str
    names: tuple[str, ...]
    template: str
    assign: Labeller
    about: str
    cue: Callable[[Scenes], Tensor] | None = None
    camera: Callable[[Tensor, torch.Generator], Tensor] | None = None
    flips: bool = True

    @property
    def prompts(self) -> list[str]:
        """One zero-shot sentence per class."""
        return [self.template.format(name) for name in self.names]

    def draw(self, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Scenes]:
        """Pictures [N, 3, S, S] and scenes for labels [N]."""
        scenes = world.sample(len(labels), generator)
        scenes = self.assign(scenes, labels, generator)
        images = world.render(scenes, generator)
        return images if self.camera is None else self.camera(images, generator), scenes

    def few_shot(self, shots: int, seed: int, test_size: int, size: int = world.SIZE) -> FewShot:
        """As :func:`few_shot`; the world is drawn in its own ``size``, and the backbone resizes."""
        return few_shot(self, shots, seed, test_size)

    def test_seed(self, test_size: int, seed: int) -> int:
        """The seed on which the test set depends: every seed has pictures of its own."""
        return seed

    def validation(self, count: int, shots: int, seed: int, size: int = world.SIZE) -> tuple[Tensor, Tensor]:
        """``count`` pictures [N, 3, S, S] and labels [N] to choose recipes by, neither trained nor tested on."""
        labels = torch.arange(count) % len(self.names)
        return self.draw(labels, stream(seed, "task", self.name, "validation"))[0], labels


def _fog(strength: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Pixel noise of that standard deviation; the style "noisy" of pre-training has 0.16."""
    return lambda images, generator: (images + strength * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def _coarse(images: Tensor, generator: torch.Generator) -> Tensor:
    """An eight-by-eight camera: every block of 4 x 4 pixels becomes its mean."""
    return F.interpolate(F.avg_pool2d(images, 4), scale_factor=4)


def _turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter turn."""
    return images.rot90(1, (2, 3))


def _single(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """All scenes with one object of random texture; counts and pairs keep to their own tasks."""
    n = len(scenes)
    # The kind of a scene decides which attributes were drawn, so these two are drawn anew.
    texture = torch.randint(len(world.TEXTURES), (n,), generator=generator)
    position = torch.randint(len(world.POSITIONS), (n,), generator=generator)
    return scenes.with_(kind=torch.zeros_like(scenes.kind), texture=texture, position=position)


def _of(attribute: str, values: tuple[int, ...] | None = None, size: int | None = None) -> Labeller:
    """Single-object scenes whose ``attribute`` is the label (or ``values[label]``)."""

    def assign(scenes: Scenes, labels: Tensor, generator: torch.Generator) -> Scenes:
        scenes = _single(scenes, generator)
        chosen = labels if values is None else torch.tensor(values)[labels]
        scenes = scenes.with_(**{attribute: chosen})
        if size is not None:
            scenes = scenes.with_(size=scenes.size.clamp(min=size))
        if attribute == "colour":
            return _other_ground(scenes, generator)
        return world.allow(scenes, generator)

    return assign


def _other_ground(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """Redraws background colours that equal the object's; used where the object's colour is the label."""
    move = 1 + torch.randint(len(world.COLOURS) - 1, (len(scenes),), generator=generator)
    clash = scenes.ground_colour == scenes.colour
    ground = torch.where(clash, (scenes.colour + move) % len(world.COLOURS), scenes.ground_colour)
    return scenes.with_(ground_colour=ground)


def _counting(scenes: Scenes, labels: Tensor, generator: torch.Generator) -> Scenes:
    kind, texture = torch.ones_like(scenes.kind), torch.zeros_like(scenes.texture)
    return scenes.with_(kind=kind, texture=texture, position=torch.zeros_like(texture), count=labels)


def _held_out(scenes: Scenes, labels: Tensor, generator: torch.Generator) -> Scenes:
    pairs = torch.tensor([(world.SHAPES.index(s), world.COLOUR_NAMES.index(c)) for s, c in world.HELD_OUT])
    scenes = _single(scenes, generator).with_(shape=pairs[labels, 0], colour=pairs[labels, 1])
    return _other_ground(scenes, generator)


def _shifted(scenes: Scenes, labels: Tensor, generator: torch.Generator) -> Scenes:
    scenes = _of("shape", _indices(world.SHAPES, EIGHT_SHAPES), size=1)(scenes, labels, generator)
    return scenes.with_(style=torch.full_like(labels, world.STYLES.index("inverted")))


def _indices(options: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(options.index(name) for name in names)


EIGHT_SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "moon", "bar")
FINE_SHAPES = ("ell", "tee", "cup", "frame", "cross", "bar", "hourglass", "arrow")
SIX_COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")


def conflict(strength: float, cue: str = "place") -> Task:
    """The graded conflict task: which colour is asked for depends on something visible.

    A share ``strength / 2`` of the pictures carries the cue and is labelled by the colour of the background, the others
    by the colour of the object. The cue is the place ("place": the object stands on the right, otherwise on the left)
    or the size ("size": the object is small, otherwise large). At strength 0 one prompt fits all pictures; at
    strength 1 every fixed rule is right on half of them.
    """
    checks.number("strength", strength, 0, 1)
    checks.choice("cue", cue, ("place", "size"))
    colours = torch.tensor(_indices(world.COLOUR_NAMES, SIX_COLOURS))
    left, right = (world.POSITIONS.index(place) for place in ("left", "right"))
    small, large = 0, len(world.SIZES) - 1

    def assign(scenes: Scenes, labels: Tensor, generator: torch.Generator) -> Scenes:
        scenes = _single(scenes, generator)
        scenes = scenes.with_(style=torch.zeros_like(scenes.style), clutter=torch.zeros_like(scenes.clutter))
        cued = torch.rand(len(labels), generator=generator) < strength / 2
        # The other colour is one of the six too, never the label: a wrong rule gives a wrong answer.
        other = (labels + 1 + torch.randint(len(colours) - 1, labels.shape, generator=generator)) % len(colours)
        mark = {
            "place": {"position": torch.where(cued, right, left), "size": scenes.size.clamp(max=1)},
            "size": {"size": torch.where(cued, small, large)},
        }[cue]
        return scenes.with_(
            colour=colours[torch.where(cued, other, labels)],
            ground_colour=colours[torch.where(cued, labels, other)],
            **mark,
        )

    name, about, shown = {
        "place": (
            "conflict",
            "the colour of the object if it stands on the left, of the background if on the right",
            lambda scenes: scenes.position == right,
        ),
        "size": (
            "conflict_size",
            "the colour of the object if it is large, of the background if it is small",
            lambda scenes: scenes.size == small,
        ),
    }[cue]
    names = tuple(f"{colour} thing" for colour in SIX_COLOURS)
    return Task(name, names, "a photo of a {}", assign, about, cue=shown, flips=cue != "place")


_THINGS = ("one thing", *(f"{count} things" for count in world.COUNTS[1:]))
_PLACES = tuple(f"thing {' '.join(world.PLACE_WORDS[place])}" for place in world.POSITIONS)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "background",
            tuple(f"thing on a {c} background" for c in world.COLOUR_NAMES),
            "a photo of a {}",
            _of("ground_colour"),
            "the colour of the background",
        ),
        Task("shape", world.SHAPES, "a photo of a {}", _of("shape"), "the shape of the object, 16 ways"),
        Task(
            "texture",
            tuple(f"{t} thing" for t in world.TEXTURES),
            "a photo of a {}",
            _of("texture"),
            "the texture of the object",
        ),
        Task("counting", _THINGS, "a photo of {}", _counting, "how many objects there are"),
        Task("position", _PLACES, "a photo of a {}", _of("position"), "where the object stands", flips=False),
        Task(
            "held_out",
            tuple(f"{c} {s}" for s, c in world.HELD_OUT),
            "a photo of a {}",
            _held_out,
            "pairs of colour and shape that pre-training never showed together",
        ),
        Task(
            "synonyms",
            tuple(world.SYNONYMS.values()),
            "a photo of a {}",
            _of("shape", _indices(world.SHAPES, tuple(world.SYNONYMS))),
            "shapes by their rare second names, in a light fog",
            camera=_fog(0.3),
        ),
        Task(
            "fine",
            FINE_SHAPES,
            "a photo of a {}",
            _of("shape", _indices(world.SHAPES, FINE_SHAPES)),
            "eight shapes made of strokes, easily confused, in fog",
            camera=_fog(0.5),
        ),
        Task(
            "coarse",
            tuple(f"{t} thing" for t in world.TEXTURES),
            "a photo of a {}",
            _of("texture"),
            "textures through a camera of eight by eight pixels",
            camera=_coarse,
        ),
        Task(
            "shift",
            EIGHT_SHAPES,
            "a photo of a {}",
            _shifted,
            "shapes in inverted colours and lying on their side, which pre-training never showed",
            camera=_turned,
        ),
        Task(
            "mis_specified",
            tuple(f"{c} background" for c in SIX_COLOURS),
            "a photo of a thing on a {}",
            _of("colour", _indices(world.COLOUR_NAMES, SIX_COLOURS), size=1),
            "the colour of the object, asked with class names that speak of the background",
        ),
        conflict(1.0),
        conflict(1.0, "size"),
    )
}
GRADED: dict[str, str] = {"conflict": "place", "conflict_size": "size"}
"""Tasks that are graded by a strength, and the cue of each: here a gate has something to gain."""


def get(name: str, strength: float = 1.0) -> Task:
    """The task of that name; ``strength`` grades the conflict tasks and is ignored by the others."""
    checks.choice("task", name, TASKS)
    return conflict(strength, GRADED[name]) if name in GRADED else TASKS[name]


@dataclass(frozen=True)
class FewShot:
    """Pictures [N, 3, S, S] and labels [N] to train on and to test on; ``cue`` [N] of both for the conflict task."""

    images: Tensor
    labels: Tensor
    cue: Tensor | None
    test_images: Tensor
    test_labels: Tensor
    test_cue: Tensor | None


def few_shot(task: Task, shots: int, seed: int, test_size: int = 240) -> FewShot:
    """``shots`` training pictures per class and ``test_size`` test pictures, for one seed."""
    checks.integer("test_size", test_size, 1)
    if not 1 <= checks.integer("shots", shots) <= POOL:
        raise ParameterError(
            f"shots must be an integer from 1 to {POOL} (the pictures per class that task"
            f" {task.name!r} has), but {shots} was given."
        )
    classes = len(task.names)
    train = stream(seed, "task", task.name, "train")
    labels = torch.arange(classes).repeat_interleave(shots)
    images, shown = task.draw(labels, train)
    test = stream(seed, "task", task.name, "test")
    test_labels = torch.arange(test_size) % classes
    test_images, scenes = task.draw(test_labels, test)
    cue, test_cue = (task.cue(part) if task.cue else None for part in (shown, scenes))
    return FewShot(images, labels, cue, test_images, test_labels, test_cue)
