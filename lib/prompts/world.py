"""The procedural world that MiniCLIP is trained on: scenes, pictures, and the words that captions are made of.

A scene is a handful of named attributes. :func:`render` draws scenes as pictures, and :func:`sample` draws
scenes at random. The same attributes make the few-shot tasks of
:mod:`lib.prompts.tasks`, so every label in this project is true by construction.

A batch of N scenes is a :class:`Scenes`: one integer tensor of shape [N] per attribute. All randomness
comes from the generator that the caller passes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

SIZE = 32
"""Side of a picture in pixels."""

SHAPES = (
    *("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart"),
    *("moon", "arrow", "ell", "tee", "bar", "frame", "hourglass", "cup"),
)
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.12),
    "green": (0.10, 0.60, 0.16),
    "blue": (0.12, 0.24, 0.86),
    "yellow": (0.96, 0.88, 0.14),
    "orange": (0.98, 0.52, 0.06),
    "purple": (0.50, 0.14, 0.66),
    "pink": (0.98, 0.58, 0.74),
    "brown": (0.44, 0.26, 0.10),
    "cyan": (0.16, 0.82, 0.88),
    "white": (0.97, 0.97, 0.97),
    "black": (0.05, 0.05, 0.05),
    "grey": (0.50, 0.50, 0.50),
}
COLOUR_NAMES = tuple(COLOURS)
TEXTURES = ("solid", "striped", "barred", "checked", "dotted", "shaded")
SIZES = ("small", "medium", "large")
POSITIONS = ("centre", "left", "right", "top", "bottom")
COUNTS = ("one", "two", "three", "four", "five", "six")
GROUNDS = ("plain", "faded", "grainy")
STYLES = ("clean", "outlined", "blurred", "noisy", "dim", "tinted", "inverted")
"""Render styles. The last one, "inverted", never occurs in pre-training: it is the shifted style."""
KINDS = ("single", "count", "pair")

SYNONYMS = {
    "circle": "disc",
    "square": "block",
    "triangle": "wedge",
    "diamond": "rhombus",
    "star": "asterisk",
    "cross": "plus",
    "ring": "hoop",
    "heart": "valentine",
    "moon": "crescent",
    "arrow": "pointer",
    "frame": "window",
    "cup": "bucket",
}
"""Rare second names; a caption uses one instead of the common name in every eighth case."""

RADII = (6.5, 9.0, 12.0)
"""Radius in pixels of a small, medium, large object."""
COUNT_RADIUS = 3.9
PAIR_RADIUS = 6.2
OFFSETS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
SHIFT = (8.0, 6.5, 4.5)
"""How far, in pixels, a small, medium, large object is moved off the centre."""

HELD_OUT = tuple((SHAPES[(3 * k + k // 12) % 16], COLOUR_NAMES[k % 12]) for k in range(24))
"""Shape and colour pairs that never occur together in pre-training."""


@dataclass(frozen=True)
class Scenes:
    """N scenes; every field is an integer tensor [N] of indices into the tuples of this module.

    ``kind`` says what the scene shows: one object, ``count + 1`` equal objects, or a pair of objects side
    by side. ``shape2`` and ``colour2`` describe the right-hand object of a pair. ``clutter`` is the number
    of small distracting specks.
    """

    kind: Tensor
    shape: Tensor
    colour: Tensor
    texture: Tensor
    size: Tensor
    position: Tensor
    count: Tensor
    ground: Tensor
    ground_colour: Tensor
    style: Tensor
    shape2: Tensor
    colour2: Tensor
    clutter: Tensor

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: Tensor | slice) -> Scenes:
        return Scenes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def with_(self, **attributes: Tensor) -> Scenes:
        """A copy with some attributes replaced."""
        return replace(self, **attributes)


def _pick(n: int, options: int, generator: torch.Generator) -> Tensor:
    return torch.randint(options, (n,), generator=generator)


def _different(taken: Tensor, options: int, generator: torch.Generator) -> Tensor:
    """Uniform over the options other than ``taken``."""
    return (taken + 1 + _pick(len(taken), options - 1, generator)) % options


def held_out_mask(shape: Tensor, colour: Tensor) -> Tensor:
    """True where a shape and colour pair belongs to :data:`HELD_OUT`. Shapes [N] -> bool [N]."""
    return _HELD_OUT_TABLE[shape, colour]


_HELD_OUT_TABLE = torch.zeros(len(SHAPES), len(COLOURS), dtype=torch.bool)
for _shape, _colour in HELD_OUT:
    _HELD_OUT_TABLE[SHAPES.index(_shape), COLOUR_NAMES.index(_colour)] = True


def allow(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """Redraws colours until no object is a held-out pair or vanishes into its background."""
    colour, colour2 = scenes.colour.clone(), scenes.colour2.clone()
    while True:
        bad = held_out_mask(scenes.shape, colour) | (colour == scenes.ground_colour)
        bad2 = held_out_mask(scenes.shape2, colour2) | (colour2 == scenes.ground_colour)
        if not (bad.any() or bad2.any()):
            return scenes.with_(colour=colour, colour2=colour2)
        colour[bad] = _pick(int(bad.sum()), len(COLOURS), generator)
        colour2[bad2] = _pick(int(bad2.sum()), len(COLOURS), generator)


def sample(n: int, generator: torch.Generator, *, difficulty: float = 1.0) -> Scenes:
    """Draws n scenes of the pre-training distribution.

    ``difficulty`` in [0, 1] is the probability that a scene is of the full distribution instead of the
    easy one (one medium or large object in a clean picture without clutter).
    """
    hard = torch.rand(n, generator=generator) < difficulty
    kind_draw = torch.rand(n, generator=generator)
    kind = torch.where(hard & (kind_draw > 0.85), 2, torch.where(kind_draw > 0.65, 1, 0))
    size = torch.where(hard, _pick(n, 3, generator), 1 + _pick(n, 2, generator))
    shape, ground_colour = _pick(n, len(SHAPES), generator), _pick(n, len(COLOURS), generator)
    position = torch.where(torch.rand(n, generator=generator) < 0.6, _pick(n, len(POSITIONS), generator), 0)
    scenes = Scenes(
        kind=kind,
        shape=shape,
        colour=_different(ground_colour, len(COLOURS), generator),
        texture=torch.where(kind == 0, _pick(n, len(TEXTURES), generator), 0),
        size=size,
        position=torch.where(kind == 0, position, 0),
        count=_pick(n, len(COUNTS), generator),
        ground=torch.where(hard, _pick(n, len(GROUNDS), generator), 0),
        ground_colour=ground_colour,
        style=torch.where(hard & (torch.rand(n, generator=generator) < 0.5), _pick(n, len(STYLES) - 1, generator), 0),
        shape2=_different(shape, len(SHAPES), generator),
        colour2=_different(ground_colour, len(COLOURS), generator),
        clutter=torch.where(hard, _pick(n, 4, generator), 0),
    )
    return allow(scenes, generator)


# ---------------------------------------------------------------------------------------------- pictures
def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(v - 0.75, 0.894 * u.abs() - 0.447 * v - 0.447)


def _box(u: Tensor, v: Tensor, x: float, y: float, half_width: float, half_height: float) -> Tensor:
    return torch.maximum((u - x).abs() - half_width, (v - y).abs() - half_height)


def _star(u: Tensor, v: Tensor) -> Tensor:
    turn = torch.atan2(u, -v) / (2 * math.pi) * 5
    tip = 1 - 2 * (turn - turn.round()).abs()
    return 0.6 * (torch.hypot(u, v) - (0.38 + 0.62 * tip**1.5))


def _heart(u: Tensor, v: Tensor) -> Tensor:
    lobes = torch.hypot(u.abs() - 0.45, v + 0.35) - 0.5
    return torch.minimum(lobes, torch.maximum(0.76 * u.abs() + 0.65 * (v - 0.95), -0.2 - v))


def _arrow(u: Tensor, v: Tensor) -> Tensor:
    head = torch.maximum(v + 0.05, 0.8 * u.abs() - 0.6 * v - 0.57)
    return torch.minimum(head, _box(u, v, 0, 0.4, 0.25, 0.55))


def _cup(u: Tensor, v: Tensor) -> Tensor:
    slot = torch.maximum(u.abs() - 0.4, v - 0.35)
    return torch.maximum(_box(u, v, 0, 0, 0.85, 0.85), -slot)


_DRAW: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # Signed distances (negative inside) in units of the radius; u points right, v points down.
    "circle": lambda u, v: torch.hypot(u, v) - 0.95,
    "square": lambda u, v: _box(u, v, 0, 0, 0.82, 0.82),
    "triangle": _triangle,
    "diamond": lambda u, v: 0.57 * (u.abs() / 0.7 + v.abs() - 1),
    "star": _star,
    "cross": lambda u, v: torch.minimum(_box(u, v, 0, 0, 0.3, 0.95), _box(u, v, 0, 0, 0.95, 0.3)),
    "ring": lambda u, v: (torch.hypot(u, v) - 0.68).abs() - 0.26,
    "heart": _heart,
    "moon": lambda u, v: torch.maximum(torch.hypot(u, v) - 0.95, 0.75 - torch.hypot(u - 0.5, v)),
    "arrow": _arrow,
    "ell": lambda u, v: torch.minimum(_box(u, v, -0.5, 0, 0.28, 0.9), _box(u, v, 0, 0.62, 0.78, 0.28)),
    "tee": lambda u, v: torch.minimum(_box(u, v, 0, -0.62, 0.85, 0.28), _box(u, v, 0, 0, 0.28, 0.9)),
    "bar": lambda u, v: _box(u, v, 0, 0, 0.98, 0.32),
    "frame": lambda u, v: (torch.maximum(u.abs(), v.abs()) - 0.66).abs() - 0.2,
    "hourglass": lambda u, v: torch.maximum(v.abs() - 0.9, 0.8 * (u.abs() - 0.1 - 0.8 * v.abs())),
    "cup": _cup,
}

_PALETTE = torch.tensor(list(COLOURS.values()))
_ROWS, _COLUMNS = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")


def _coverage(shape: Tensor, x: Tensor, y: Tensor, radius: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each pixel an object covers [M, S, S], and the object's distance field in pixels."""
    c, s = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    r = radius[:, None, None]
    dx, dy = (_COLUMNS - x[:, None, None]) / r, (_ROWS - y[:, None, None]) / r
    u, v = c * dx + s * dy, c * dy - s * dx
    distance = torch.empty_like(u)
    for index in shape.unique().tolist():
        rows = shape == index
        distance[rows] = _DRAW[SHAPES[index]](u[rows], v[rows])
    distance = distance * r
    return (0.5 - distance).clamp(0, 1), distance


def _textured(texture: Tensor, colour: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Colour of every pixel of an object [M, 3, S, S]: its own colour and, patterned, a second one."""
    base = _PALETTE[colour]
    dark = base.mean(1, keepdim=True) < 0.4
    second = torch.where(dark, base * 0.45 + 0.55, base * 0.25)
    dx, dy = _COLUMNS - x[:, None, None].round(), _ROWS - y[:, None, None].round()
    across, down = torch.remainder(dx, 6) < 3, torch.remainder(dy, 6) < 3
    dots = torch.hypot(torch.remainder(dx, 5) - 2.5, torch.remainder(dy, 5) - 2.5) < 1.5
    pattern = torch.zeros_like(dx)
    for name, mask in (("striped", down), ("barred", across), ("checked", across ^ down), ("dotted", dots)):
        rows = (texture == TEXTURES.index(name))[:, None, None]
        pattern = torch.where(rows, mask.float(), pattern)
    shaded = (texture == TEXTURES.index("shaded"))[:, None, None]
    pattern = torch.where(shaded, ((dx + dy) / 16 + 0.5).clamp(0, 1), pattern)[:, None]
    return base[:, :, None, None] * (1 - pattern) + second[:, :, None, None] * pattern


def _paint(image: Tensor, rows: Tensor, *objects: Tensor) -> None:
    """Draws one object into each of the ``rows`` of ``image`` [N, 3, S, S], in place.

    ``objects``: shape, colour, texture, x, y, radius, angle and whether it is outlined, each [N].
    """
    if not len(rows):
        return
    shape, colour, texture, x, y, radius, angle, outlined = (each[rows] for each in objects)
    alpha, distance = _coverage(shape, x, y, radius, angle)
    paint = _textured(texture, colour, x, y)
    edge = ((1.2 - distance.abs()).clamp(0, 1) * outlined[:, None, None].float())[:, None]
    base = _PALETTE[colour]
    ink = torch.where(base.mean(1, keepdim=True) < 0.4, 1.0, 0.0)[:, :, None, None].expand_as(paint)
    alpha = alpha[:, None]
    mixed = image[rows] * (1 - alpha) + paint * alpha
    image[rows] = mixed * (1 - edge) + ink * edge


def render(scenes: Scenes, generator: torch.Generator) -> Tensor:
    """Draws scenes as pictures [N, 3, 32, 32], values in [0, 1].

    Place, angle, radius, colour, grain and noise are jittered, so that two pictures of the same attributes differ.
    """
    n = len(scenes)

    def uniform(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    ground = _PALETTE[scenes.ground_colour][:, :, None, None].expand(n, 3, SIZE, SIZE).clone()
    fade = 0.55 + 0.45 * (_ROWS / SIZE)
    grain = 1 - 0.35 * torch.rand(n, 1, SIZE, SIZE, generator=generator)
    which = scenes.ground[:, None, None, None]
    image = torch.where(which == 1, ground * fade, torch.where(which == 2, ground * grain, ground))

    # Specks lie behind the objects.
    speck_x, speck_y = uniform(n, 3, low=1, high=SIZE - 1), uniform(n, 3, low=1, high=SIZE - 1)
    speck_colour = _PALETTE[torch.randint(len(COLOURS), (n, 3), generator=generator)]
    for k in range(3):
        inside = torch.hypot(_COLUMNS - speck_x[:, k, None, None], _ROWS - speck_y[:, k, None, None]) < 1.3
        shown = (inside & (scenes.clutter > k)[:, None, None])[:, None]
        image = torch.where(shown, speck_colour[:, k, :, None, None], image)

    outlined = scenes.style == STYLES.index("outlined")
    angle, stretch = uniform(n) * 0.2, 1 + 0.08 * uniform(n)
    jitter_x, jitter_y = uniform(n), uniform(n)
    offsets = torch.tensor(OFFSETS, dtype=torch.float32)[scenes.position]
    shift = torch.tensor(SHIFT)[scenes.size]
    x, y = SIZE / 2 + shift * offsets[:, 0] + jitter_x, SIZE / 2 + shift * offsets[:, 1] + jitter_y
    kinds = [(scenes.kind == kind).nonzero()[:, 0] for kind in range(len(KINDS))]
    look, radius = (scenes.shape, scenes.colour, scenes.texture), torch.tensor(RADII)[scenes.size] * stretch
    _paint(image, kinds[0], *look, x, y, radius, angle, outlined)
    # Counted objects stand in a random choice of the six cells of a 3 x 2 grid.
    places = torch.rand(n, 6, generator=generator).argsort(1)
    cell_jitter = uniform(n, 6, 2) * 1.0
    for k in range(6):
        rows, cell = ((scenes.kind == 1) & (scenes.count >= k)).nonzero()[:, 0], places[:, k]
        x = 5.6 + 10.4 * (cell % 3) + cell_jitter[:, k, 0]
        y = 8.5 + 15.0 * (cell // 3) + cell_jitter[:, k, 1]
        _paint(image, rows, *look, x, y, COUNT_RADIUS * (1 + 0.1 * jitter_x), angle, outlined)
    plain, radius = torch.zeros(n, dtype=torch.long), torch.full((n,), PAIR_RADIUS)
    for side, shape, colour in ((-1, scenes.shape, scenes.colour), (1, scenes.shape2, scenes.colour2)):
        x, y = SIZE / 2 + side * 8.0 + 0.6 * jitter_x, SIZE / 2 + 3 * jitter_y
        _paint(image, kinds[2], shape, colour, plain, x, y, radius, angle, outlined)

    noise = torch.randn(n, 3, SIZE, SIZE, generator=generator)
    tint = uniform(n, 3, low=0.6, high=1.0)[:, :, None, None]
    style = scenes.style[:, None, None, None]
    blurred = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1
    )
    for name, changed in (
        ("blurred", blurred),
        ("noisy", image + 0.16 * noise),
        ("dim", image * 0.45),
        ("tinted", image * tint),
        ("inverted", 1 - image),
    ):
        image = torch.where(style == STYLES.index(name), changed, image)
    return (image + 0.02 * noise).clamp(0, 1)


# ------------------------------------------------------------------------------------------------- words
START, END, PAD = "<start>", "<end>", "<pad>"
PLACE_WORDS = {
    "centre": ("in", "the", "centre"),
    "left": ("on", "the", "left"),
    "right": ("on", "the", "right"),
    "top": ("at", "the", "top"),
    "bottom": ("at", "the", "bottom"),
}
MEDIA = ("photo", "picture", "image", "drawing")
_FILLERS = (
    "a an of on in at the and with background thing things object objects next to beside this is there are shows "
    "style scene"
).split()


def plural(noun: str) -> str:
    """ "cross" -> "crosses", "circle" -> "circles"."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def _words() -> tuple[str, ...]:
    nouns = (*SHAPES, *SYNONYMS.values())
    words = {
        *nouns,
        *map(plural, nouns),
        *COLOUR_NAMES,
        *TEXTURES,
        *SIZES,
        *COUNTS,
        *GROUNDS,
        *STYLES,
        *POSITIONS,
        *MEDIA,
        *_FILLERS,
    }
    # The end-of-text word comes last: its id is then the largest, which open_clip's argmax pooling needs.
    return (PAD, START, *sorted(words), END)


WORDS = _words()
"""The whole vocabulary; a word's id is its place here."""
