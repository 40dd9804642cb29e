"""How photographs are made to look: tinted, framed, grey, blurry and so on, as pre-training says in its captions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.prompts.photographs import words

#: How often a picture is made to look so; a tint and a frame have a colour each.
LOOKS = {"grey": 0.05, "dark": 0.05, "bright": 0.04, "blurry": 0.05, "noisy": 0.05, "faded": 0.04, "close": 0.06}
TINT, FRAME = 0.1, 0.1
#: Width of a frame in pixels.
BORDER = 2
_COLOURS = tuple(words.COLOURS)
#: Everything that a caption can say of a picture's look.
PROPERTIES = (*LOOKS, *(f"tint {c}" for c in _COLOURS), *(f"frame {c}" for c in _COLOURS))


def looks(count: int, generator: torch.Generator) -> Tensor:
    """Which of :data:`PROPERTIES` each of ``count`` pictures is to have, [N, P] of bool."""
    has = torch.rand(count, len(LOOKS), generator=generator) < torch.tensor(list(LOOKS.values()))
    names = list(LOOKS)
    # Nothing is dark and bright.
    has[:, names.index("bright")] &= ~has[:, names.index("dark")]
    colours = []
    for share in (TINT, FRAME):
        chosen = torch.randint(len(_COLOURS), (count,), generator=generator)
        shown = torch.rand(count, generator=generator) < share
        colours.append(F.one_hot(chosen, len(_COLOURS)).bool() & shown[:, None])
    # What is grey has no tint, nor what is tinted the other's colour in its frame: both would be guessed from one.
    colours[0] &= ~has[:, [names.index("grey")]]
    return torch.cat([has, *colours], 1)


def moved(images: Tensor, close: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [N, 3, S, S] turned left to right at random and cut out at random, those that are ``close`` [N] much."""
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    side = torch.where(close, uniform(0.45, 0.6), uniform(0.75, 1.05))
    room = (1 - side).abs()
    # A close look is at the middle, where the object stands.
    shift = torch.where(close[:, None], 0.4, 1.0) * room[:, None]
    centre = shift * torch.stack([uniform(-1, 1), uniform(-1, 1)], 1)
    turned = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(side)
    theta = torch.stack(
        [torch.stack([side * turned, zero, centre[:, 0]], 1), torch.stack([zero, side, centre[:, 1]], 1)], 1
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def painted(images: Tensor, has: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [N, 3, S, S] in [0, 1] made to look as ``has`` [N, P] says (all but how close they are)."""
    palette = torch.tensor(list(words.COLOURS.values()))
    count = len(images)

    def where(name: str, changed: Tensor) -> Tensor:
        return torch.where(has[:, PROPERTIES.index(name), None, None, None], changed, images)

    jitter = 1 + 0.2 * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    images = images * jitter
    blurred = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    images = where("blurry", blurred)
    images = where("faded", 0.5 + 0.3 * (images - 0.5))
    images = where("grey", images.mean(1, keepdim=True).expand_as(images))
    first = len(LOOKS)
    tint, frame = has[:, first : first + len(palette)].float(), has[:, first + len(palette) :].float()
    strength = 0.35 + 0.2 * torch.rand(count, 1, 1, 1, generator=generator)
    tinted = (1 - strength) * images + strength * (tint @ palette)[:, :, None, None]
    images = torch.where(tint.any(1)[:, None, None, None], tinted, images)
    images = where("dark", images * 0.4)
    images = where("bright", 1 - 0.45 * (1 - images))
    images = where("noisy", images + 0.14 * torch.randn(images.shape, generator=generator))
    border = torch.ones(images.shape[-2:], dtype=torch.bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    framed = torch.where(border, (frame @ palette)[:, :, None, None], images)
    return torch.where(frame.any(1)[:, None, None, None], framed, images).clamp(0, 1)
