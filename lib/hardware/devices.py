"""Calibrated devices, converters at the input, and chips on which several things go wrong at once.

The six classes of :mod:`lib.hardware.perturbations` have a textbook severity. Here are the laws that were measured on
real devices, and :class:`Composite`, which puts perturbations behind each other in the order of the physics.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lib import checks
from lib.hardware.numbers import Kinds, Own, Parts
from lib.hardware.periphery import InputNoise, OutputNoise, TileADC
from lib.hardware.perturbations import (
    ADC,
    PERTURBATIONS,
    T_LAST,
    T_ZERO,
    Drift,
    IRDrop,
    Perturbation,
    ReadNoise,
    StuckAt,
    Variability,
    calibrated,
    convert,
    exceeds,
    flicker,
    quantile_of_size,
)
from lib.registry import Registry


def pcm_spread(g: Tensor, high: float = 25.0) -> Tensor:
    """Standard deviation in microsiemens of a phase-change device programmed to ``g``.

    0.26348 + 1.9650 g/Gmax - 1.1731 (g/Gmax)^2, not below zero (Nandakumar et al. 2019, as aihwkit documents it).
    """
    share = g / high
    return (0.26348 + 1.9650 * share - 1.1731 * share.square()).clamp_min(0)


def rram_spread(g: Tensor, high: float = 25.0) -> Tensor:
    """Standard deviation in microsiemens of a resistive device programmed to ``g`` (Wan et al. 2022).

    1.536e-4 G^3 - 0.01167 G^2 + 0.2374 G + 1.053, measured up to 39.26 microsiemens; ``high`` does not matter.
    """
    return 1.536e-4 * g**3 - 0.01167 * g.square() + 0.2374 * g + 1.053


_SPREADS = {"pcm": pcm_spread, "rram": rram_spread}


@dataclass(frozen=True)
class ProgrammingNoise(Perturbation):
    """Programming variability as measured: G~ = max(0, G + k sigma(G) xi).

    ``law`` is sigma: :func:`pcm_spread` (Nandakumar et al. 2019) or :func:`rram_spread` (Wan et al. 2022).
    """

    law: Literal["pcm", "rram"] = "pcm"

    name, title = "programming_noise", "Programming noise as measured"
    measures, unit = "standard deviation of a programmed conductance, in multiples of the published one", "published"
    low, high, grid = 0.0, 30.0, (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
    chip = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("law", self.law, _SPREADS)

    def conductance(self, g, severity, drawn):
        change = severity * _SPREADS[self.law](g, self.window.high) * drawn["chip"]
        return g + torch.maximum(change, -g)


@dataclass(frozen=True)
class FlickerNoise(Perturbation):
    """Read noise as measured: y~ = y + sqrt(sum_j x_j^2 (sigma^2(G+_j) + sigma^2(G-_j))) / s xi.

    sigma is that of 1/f noise (:func:`~lib.hardware.perturbations.flicker`), which grows with the logarithm of time.
    """

    name, title = "flicker_noise", "Read noise as measured"
    measures, unit = "time since programming", "s"
    low, high, off, grid = T_ZERO, T_LAST, 0.0, (T_ZERO, 3.6e3, 8.64e4, 3.15e7)
    read = "normal"

    def current(self, y, x, arrays, severity, drawn):
        # At "off" (no time, no noise) the logarithm is cut off at zero.
        variance = flicker(arrays.g, severity, self.window, arrays.pair.g).square().sum(0).to(y.dtype)
        power, tiny = x.square() @ variance.mT, torch.finfo(y.dtype).tiny
        spread = power.clamp_min(tiny).sqrt() * exceeds(power, tiny) / arrays.pair.of_currents
        return y + spread * drawn["read"] * exceeds(severity, 0)


@dataclass(frozen=True)
class DAC(Perturbation):
    """The converter in front of the word lines: x~ = D clip(round(x / D), -L, L), L = 2^(b-1) - 1, D = range / L.

    Its range is the largest input on training data.
    """

    name, title = "dac", "DAC discretization"
    measures, unit = "resolution of the converter in front of every word line", "bits"
    low, high, off, whole, grid = ADC.low, ADC.high, ADC.off, True, ADC.grid
    arrays, ranged = False, True

    def voltage(self, x, severity, drawn):
        bound = calibrated(drawn, lambda: quantile_of_size(x, 1.0))
        return convert(x, severity, bound, inside=drawn.get("inside"))


#: The order of the physics: voltages enter, devices are programmed, drift and fail, wires lose, currents fluctuate,
#: converters round, and what is digital comes last. A class of one's own comes behind them.
ORDER = (
    DAC,
    InputNoise,
    Variability,
    ProgrammingNoise,
    Drift,
    StuckAt,
    IRDrop,
    ReadNoise,
    FlickerNoise,
    OutputNoise,
    ADC,
)


def _place(part: Perturbation) -> int:
    # What stands for a part (redundant devices) stands in its place.
    return next((i for i, kind in enumerate(ORDER) if isinstance(getattr(part, "part", part), kind)), len(ORDER))


@dataclass(frozen=True, init=False)
class Composite(Perturbation):
    """Several perturbations on one chip, in the order of the physics (:data:`ORDER`), whatever the order given.

    Its severity is a vector with one entry for each of ``parts``; a part at its ``off`` changes nothing.
    """

    parts: tuple[Perturbation, ...]

    name, title = "composite", "Composed chip"
    measures, unit = "severity of each part", "of each part"
    low, high, grid = 0.0, 1.0, ()

    def __init__(self, parts: Iterable[Perturbation]) -> None:
        listed = tuple(parts) if isinstance(parts, Iterable) else (parts,)
        for part in listed:
            if not isinstance(part, Perturbation):
                raise checks.ParameterError(f"parts must be perturbations like make('adc'), but {part!r} was given.")
            if isinstance(part, Composite):
                raise checks.ParameterError(
                    f"parts must be single perturbations, but {part.name}, which has parts of its own, was given."
                )
        ordered = tuple(sorted(listed, key=_place))
        names = [part.name for part in ordered]
        if not ordered or len(set(names)) < len(names):
            given = ", ".join(names) or "none"
            raise checks.ParameterError(f"parts must be different perturbations, but {given} was given.")
        if len({part.window for part in ordered}) > 1:
            raise checks.ParameterError("parts must share one conductance window, but different windows were given.")
        object.__setattr__(self, "parts", ordered)
        object.__setattr__(self, "window", ordered[0].window)
        # One pair of arrays has one scale; a part that says nothing of it goes along.
        scales = {part.scale for part in ordered} - {"differentiated"}
        if len(scales) > 1:
            raise checks.ParameterError(f"parts must share one scale, but {', '.join(sorted(scales))} were given.")
        object.__setattr__(self, "scale", next(iter(scales), "differentiated"))

    @property
    def off(self) -> Sequence[float]:  # type: ignore[override]
        """The severity at which no part changes anything."""
        return tuple(part.off for part in self.parts)

    # What is so of one of its parts is so of the chip.
    arrays = property(lambda self: any(part.arrays for part in self.parts))
    random = property(lambda self: any(part.random for part in self.parts))
    lasting = property(lambda self: any(part.lasting for part in self.parts))
    ranged = property(lambda self: any(part.ranged for part in self.parts))

    @property
    def learned(self) -> Kinds:
        return {name: kinds for part in self.parts for name, kinds in part.learned.items()}

    @property
    def held(self) -> Kinds:
        # One scale of the arrays, whichever part keeps it.
        return {name: kinds for part in self.parts for name, kinds in part.held.items()}

    def check(self, severity: object, name: str = "severity") -> tuple[float, ...]:  # type: ignore[override]
        """The vector of severities, or the mapping of names to severities (missing parts are off), as a vector."""
        known = {part.name: part for part in self.parts}
        if isinstance(severity, dict):
            for key in severity:
                checks.choice(name, key, known)
            severity = [severity.get(key, part.off) for key, part in known.items()]
        if not isinstance(severity, list | tuple) or len(severity) != len(known):
            raise checks.ParameterError(
                f"{name} must be one number for each of {', '.join(known)}, but {severity!r} was given."
            )
        return tuple(
            part.check(value, f"{name} of {key}") for (key, part), value in zip(known.items(), severity, strict=True)
        )

    def columns(self, place: int, severity: Sequence[float]) -> dict[str, float]:  # type: ignore[override]
        """A column ``severity_PART`` for each part, and the ``chip_index``."""
        own = {f"severity_{part.name}": float(value) for part, value in zip(self.parts, severity, strict=True)}
        return {"chip_index": place, **own}

    def severities(self, severity: Tensor) -> Sequence[Tensor]:
        """Every part's severity."""
        return severity.unbind(-1)

    def own(self, parts: Parts) -> Own:
        return parts

    def parts_of(self, own: Own) -> Parts:
        return own

    def without_chance(self, drawn: Parts) -> Parts:
        return {part.name: part.without_chance(drawn[part.name]) for part in self.parts if part.name in drawn}

    def draw_chip(self, shape, generator):
        return {part.name: part.draw_chip(shape, generator) for part in self.parts}

    def draw_more(self, shape, generator):
        return {part.name: part.draw_more(shape, generator) for part in self.parts}

    def draw_read(self, shape, generator):
        return {part.name: part.draw_read(shape, generator) for part in self.parts}

    def draw_inputs(self, shape, generator):
        return {part.name: part.draw_inputs(shape, generator) for part in self.parts}

    def _each(
        self, method: str, value: Tensor, severity: Tensor, drawn: Parts, *more: object, **shown: Tensor
    ) -> Tensor:
        """Pass ``value`` through a method of every part; ``shown`` are numbers that a part sees and does not keep."""
        idle = getattr(Perturbation, method)
        seen: Own = {**shown, **({"inside": drawn["inside"]} if "inside" in drawn else {})}
        for part, own in zip(self.parts, self.severities(severity), strict=True):
            if getattr(type(part), method) is not idle:
                value = getattr(part, method)(value, *more, own, ChainMap(part.own(drawn), seen))
        return value

    def voltage(self, x, severity, drawn):
        return self._each("voltage", x, severity, drawn)

    def conductance(self, g, severity, drawn):
        return self._each("conductance", g, severity, drawn, target=g)

    def current(self, y, x, arrays, severity, drawn):
        return self._each("current", y, severity, drawn, x, arrays)

    def digital(self, y, arrays, severity, drawn):
        return self._each("digital", y, severity, drawn, arrays)


@dataclass(frozen=True, init=False)
class PhaseChange(Composite):
    """A phase-change chip as published: programming noise, drift and 1/f read noise, so many seconds after programming.

    ``compensation`` and ``readout`` as in :class:`~lib.hardware.perturbations.Drift`, ``scale`` as everywhere.
    """

    name, title = "pcm", "Phase-change chip"
    measures, unit = "time since programming", "s"
    low, high, grid = T_ZERO, T_LAST, (T_ZERO, 3.6e3, 8.64e4, 2.6e6, 3.15e7, 3.15e8)  # type: ignore[assignment]
    off: ClassVar[float] = 0.0  # type: ignore[assignment]

    def __init__(self, compensation: str = "none", readout: str = "ideal", scale: str = "differentiated") -> None:
        own: dict = {"scale": scale}
        drift = Drift(compensation, readout, **own)  # type: ignore[arg-type]
        super().__init__((ProgrammingNoise(law="pcm", **own), drift, FlickerNoise(**own)))

    # One number for all its parts, as on any chip that is not composed.
    check, columns = Perturbation.check, Perturbation.columns  # type: ignore[assignment]

    def severities(self, severity: Tensor) -> Sequence[Tensor]:
        return (severity > 0).to(severity.dtype), severity.clamp_min(T_ZERO), severity


@dataclass(frozen=True)
class Resistive(ProgrammingNoise):
    """A resistive chip: the published programming noise of RRAM."""

    law: ClassVar[str] = "rram"  # type: ignore[misc]

    name, title = "rram", "Resistive chip"


class Ideal(Perturbation):
    """A chip on which nothing goes wrong."""

    name, title = "ideal", "Ideal chip"
    measures, unit = "nothing", ""
    low, high, grid = 0.0, 0.0, (0.0,)


#: Everything that a study takes by name: the six classes, further ones, and calibrated chips.
#: A class of one's own is added by ``HARDWARE.register(NAME, INSTANCE)``.
HARDWARE: Registry[Perturbation] = Registry(
    "perturbation",
    {
        **PERTURBATIONS,
        **{one.name: one for one in (ProgrammingNoise(), FlickerNoise(), DAC(), PhaseChange(), Resistive(), Ideal())},
        **{one.name: one for one in (InputNoise(), OutputNoise(), TileADC())},
    },
)


def make(name: str, /, **options: object) -> Perturbation:
    """The perturbation of that name with ``options`` (its fields); each class says in its text what they do.

    >>> make("drift", compensation="global").title
    'Conductance drift'
    """
    plain = HARDWARE[checks.choice("perturbation", name, HARDWARE)]
    if not options:
        return plain
    known = (
        ("compensation", "readout", "scale")
        if isinstance(plain, PhaseChange)
        else tuple(one.name for one in fields(plain) if one.name != "window")
    )
    for key in options:
        if key not in known:
            raise checks.ParameterError(
                f"options must be out of {', '.join(known) or 'none'} for {name}, but {key!r} was given."
            )
    return type(plain)(**options) if isinstance(plain, PhaseChange) else replace(plain, **options)  # type: ignore[arg-type]
