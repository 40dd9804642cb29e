"""What surrounds the arrays: noise at their inputs and outputs, and converters that differ from column to column."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib import checks
from lib.hardware.numbers import Own
from lib.hardware.perturbations import (
    ADC,
    NOTHING,
    Perturbation,
    calibrated,
    convert,
    exceeds,
    quantile_of_size,
    seen_weight,
)


def input_range(x: Tensor, drawn: Own) -> Tensor:
    """The largest input in training, as a converter's range is calibrated; 0 where there is no input at all."""
    found = calibrated(drawn, lambda: quantile_of_size(x, 1.0))
    return found * exceeds(found, NOTHING)


@dataclass(frozen=True)
class InputNoise(Perturbation):
    """Every word line's voltage fluctuates in every read: x~ = x + sigma X xi, with X the largest input in training.

    All outputs of a read see the same fluctuation, so it does not average out over columns as output noise does.
    """

    name, title = "input_noise", "Input noise"
    measures, unit = "standard deviation of an input in one read, as a share of the input range", "of the range"
    low, high, grid = 0.0, 1.0, (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
    arrays, ranged, random = False, True, True

    def draw_inputs(self, shape: tuple[int, ...], generator: torch.Generator) -> Own:
        return {"input": torch.randn(shape, generator=generator)}

    def voltage(self, x, severity, drawn):
        return torch.addcmul(x, severity * input_range(x, drawn), drawn["input"])


@dataclass(frozen=True)
class OutputNoise(Perturbation):
    """The read-out adds noise that the signal does not scale: y~ = y + sigma max|W| X xi, X as in :class:`InputNoise`.

    The unit is the current of one full-scale device at a full-scale input, in which presets for training have .04 to .1
    (Rasch et al. 2023).
    """

    name, title = "output_noise", "Output noise"
    measures, unit = "standard deviation of an output, in currents of a full-scale device at full input", "full scale"
    low, high, grid = 0.0, 100.0, (0.04, 0.1, 0.2, 0.4, 0.8, 1.6)
    read, arrays, ranged = "normal", False, True

    def current(self, y, x, arrays, severity, drawn):
        spread = severity * (self.window.high - self.window.low) * input_range(x, drawn) / arrays.pair.of_currents
        return torch.addcmul(y, spread, drawn["read"])


@dataclass(frozen=True)
class TileADC(ADC):
    """Layers cut into tiles of ``rows`` word lines, each column of a tile with a converter of its own, added digitally:
    y~_j = sum_t convert((1 + gain xi_tj) y_tj + offset R eta_tj), R the range.

    ``gain`` and ``offset`` are standard deviations over the converters of a chip; at "off" (no converter) there are no
    errors of converters either. All have one range, calibrated on the currents of the tiles. What was added to a
    layer's currents before (noise) counts in equal parts on its tiles.
    """

    rows: int = 64
    gain: float = 0.02
    offset: float = 0.01

    name, title = "tile_adc", "Converters of tiles"
    measures = "resolution of the converter at the end of every bit line of every tile"
    arrays, random, lasting = True, True, True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("rows", self.rows, low=1)
        checks.number("gain", self.gain, low=0, high=1)
        checks.number("offset", self.offset, low=0, high=1)

    def draw_chip(self, shape, generator):
        *lead, out, inputs = shape
        own = (*lead, -(-inputs // self.rows), out)
        return {kind: torch.randn(own, generator=generator) for kind in ("gain", "offset")}

    def current(self, y, x, arrays, severity, drawn):
        weight = seen_weight(arrays.pair, arrays.g)
        pieces = zip(x.split(self.rows, -1), weight.split(self.rows, -1), strict=True)
        tiles = torch.stack([piece @ own.mT for piece, own in pieces], -2)
        tiles = tiles + ((y - tiles.sum(-2)) / tiles.shape[-2]).unsqueeze(-2)
        # One converter whatever the place in a picture: [..., 1, tiles, out].
        gain, offset = (drawn[kind].unsqueeze(-3) for kind in ("gain", "offset"))
        bound = calibrated(drawn, lambda: self.full_scale(tiles, severity))
        seen = tiles * (1 + self.gain * gain) + self.offset * bound * offset
        inside: list[Tensor] = []
        total = convert(seen, severity, bound, self.calibration == "learned", inside).sum(-2)
        if "inside" in drawn:
            # A rule that overlooks converters takes an output for the share of its tiles that is not cut off.
            drawn["inside"].append(inside[0].mean(-2))
        off = torch.isinf(severity).to(y.dtype)
        return y * off + total * (1 - off)
