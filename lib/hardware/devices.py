"""Calibrated devices, converters at the input, and chips on which several things go wrong at once.

The six classes of :mod:`lib.hardware.perturbations` have a textbook severity. Here are the laws that were measured on
real devices, and :class:`Composite`, which puts perturbations behind each other in the order of the physics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lib import checks
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
    Tree,
    Variability,
    convert,
    flicker,
    quantile_of_size,
)


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
    """Programming variability as measured: its ``law`` gives every conductance its own standard deviation."""

    law: Literal["pcm", "rram"] = "pcm"

    name, title = "programming_noise", "Programming noise as measured"
    measures, unit = "standard deviation of a programmed conductance, in multiples of the published one", "published"
    low, high, grid = 0.0, 30.0, (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
    chip = "normal"
    formula = r"\tilde G = \max\bigl(0,\; G + k\,\sigma(G)\,\xi\bigr)"
    physics = (
        "Programming noise measured on real devices: the standard deviation depends on the target. The phase-change "
        "law is largest at intermediate conductances, the resistive one nearly flat."
    )
    lesson = "At its published size it costs a small network next to nothing."

    def __post_init__(self) -> None:
        checks.choice("law", self.law, _SPREADS)

    def conductance(self, g, severity, drawn):
        change = severity * _SPREADS[self.law](g, self.window.high) * drawn["chip"]
        return g + torch.maximum(change, -g)


@dataclass(frozen=True)
class FlickerNoise(Perturbation):
    """Read noise as measured on phase-change devices, which grows with the logarithm of time."""

    name, title = "flicker_noise", "Read noise as measured"
    measures, unit = "time since programming", "s"
    low, high, off, grid = T_ZERO, T_LAST, 0.0, (T_ZERO, 3.6e3, 8.64e4, 3.15e7)
    read = "normal"
    formula = (
        r"\tilde y_i = y_i + \tfrac1s\sqrt{\textstyle\sum_j x_j^2\,(\sigma^2(G^+_{ij}) + \sigma^2(G^-_{ij}))}\;\xi_i"
    )
    physics = "Fluctuations with a spectrum of 1/f: relative to its conductance, a device at rest fluctuates most."
    lesson = "At its published size it costs a small network next to nothing."

    def current(self, y, x, arrays, severity, drawn):
        # At "off" (no time, no noise) the logarithm is cut off at zero.
        variance = flicker(arrays.g, severity, self.window, arrays.pair.g).square().sum(0).to(y.dtype)
        spread = (x.square() @ variance.mT).clamp_min(torch.finfo(y.dtype).tiny).sqrt() / arrays.pair.scale
        return torch.where(severity > 0, y + spread * drawn["read"], y)


@dataclass(frozen=True)
class DAC(Perturbation):
    """The converter in front of the word lines; its range is the largest input on training data."""

    name, title = "dac", "DAC discretization"
    measures, unit = "resolution of the converter in front of every word line", "bits"
    low, high, off, whole, grid = ADC.low, ADC.high, ADC.off, True, ADC.grid
    arrays = False
    formula = r"\tilde x = \Delta\,\mathrm{clip}\bigl(\mathrm{round}(x/\Delta),\,-L,\,L\bigr)"
    physics = "Inputs are numbers, word lines carry voltages: a converter of b bits knows 2^b - 1 of them."
    lesson = "What is rounded here is multiplied by every weight of its row."

    @property
    def ranged(self) -> bool:
        return True

    def voltage(self, x, severity, drawn):
        if "range" not in drawn:
            drawn["range"] = quantile_of_size(x, 1.0)
        return convert(x, severity, drawn["range"])


#: The order of the physics: voltages enter, devices are programmed, drift and fail, wires lose, currents fluctuate,
#: converters round, and what is digital comes last. A class of one's own comes behind them.
ORDER = (DAC, Variability, ProgrammingNoise, Drift, StuckAt, IRDrop, ReadNoise, FlickerNoise, ADC)


def _place(part: Perturbation) -> int:
    return next((i for i, kind in enumerate(ORDER) if isinstance(part, kind)), len(ORDER))


@dataclass(frozen=True, init=False)
class Composite(Perturbation):
    """Several perturbations on one chip, in the order of the physics (:data:`ORDER`), whatever the order given.

    Its severity is a vector with one entry for each of ``parts``; a part at its ``off`` changes nothing.
    """

    parts: tuple[Perturbation, ...]

    name, title = "composite", "Composed chip"
    measures, unit = "severity of each part", "of each part"
    low, high, grid = 0.0, 1.0, ()
    formula = (
        r"\tilde f = \mathrm{ADC} \circ \mathrm{noise} \circ \mathrm{wires} \circ \mathrm{devices} \circ "
        r"\mathrm{DAC}"
    )
    physics = "Real chips have all of it at once."
    lesson = "Which part decides?"

    def __init__(self, parts: Iterable[Perturbation]) -> None:
        ordered = tuple(sorted(parts, key=_place))
        names = [part.name for part in ordered]
        if not ordered or len(set(names)) < len(names):
            given = ", ".join(names) or "none"
            raise checks.ParameterError(f"parts must be different perturbations, but {given} was given.")
        for part in ordered:
            if isinstance(part, Composite):
                raise checks.ParameterError(
                    f"parts must be single perturbations, but {part.name}, which has parts of its own, was given."
                )
        if len({part.window for part in ordered}) > 1:
            raise checks.ParameterError("parts must share one conductance window, but different windows were given.")
        object.__setattr__(self, "parts", ordered)
        object.__setattr__(self, "window", ordered[0].window)
        object.__setattr__(self, "fixed_scale", any(part.fixed_scale for part in ordered))

    @property
    def off(self) -> Sequence[float]:
        """The severity at which no part changes anything."""
        return tuple(part.off for part in self.parts)

    @property
    def arrays(self) -> bool:
        return any(part.arrays for part in self.parts)

    @property
    def random(self) -> bool:
        return any(part.random for part in self.parts)

    @property
    def lasting(self) -> bool:
        return any(part.lasting for part in self.parts)

    @property
    def ranged(self) -> bool:
        return any(part.ranged for part in self.parts)

    @property
    def learned(self) -> tuple[str, ...]:
        return tuple(f"{kind}:{part.name}" for part in self.parts for kind in part.learned)

    @property
    def held(self) -> tuple[str, ...]:
        shared = ("scale",) if self.fixed_scale else ()
        return (*shared, *(f"{kind}:{part.name}" for part in self.parts for kind in part.held if kind != "scale"))

    def check(self, severity: object, name: str = "severity") -> tuple[float, ...]:
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

    def severities(self, severity: Tensor) -> Sequence[Tensor]:
        """Every part's severity."""
        return severity.unbind(-1)

    def draw_chip(self, shape, generator):
        return self._drawn("draw_chip", shape, generator)

    def draw_more(self, shape, generator):
        return self._drawn("draw_more", shape, generator)

    def draw_read(self, shape, generator):
        return self._drawn("draw_read", shape, generator)

    def _drawn(self, method: str, shape: tuple[int, ...], generator: torch.Generator) -> Tree:
        return {
            f"{kind}:{part.name}": value
            for part in self.parts
            for kind, value in getattr(part, method)(shape, generator).items()
        }

    def _each(
        self, method: str, value: Tensor, severity: Tensor, drawn: Tree, *more: object, **shown: Tensor
    ) -> Tensor:
        """Pass ``value`` through a method of every part; ``shown`` are numbers that a part sees and does not keep."""
        for part, own in zip(self.parts, self.severities(severity), strict=True):
            ending = f":{part.name}"
            kept = {kind.removesuffix(ending): number for kind, number in drawn.items() if kind.endswith(ending)}
            kept |= shown
            value = getattr(part, method)(value, *more, own, kept)
            drawn.update({f"{kind}{ending}": number for kind, number in kept.items() if kind not in shown})
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

    ``compensation`` and ``readout`` as in :class:`~lib.hardware.perturbations.Drift`.
    """

    name, title = "pcm", "Phase-change chip"
    measures, unit = "time since programming", "s"
    low, high, grid = T_ZERO, T_LAST, (T_ZERO, 3.6e3, 8.64e4, 2.6e6, 3.15e7, 3.15e8)
    formula = r"\tilde G = \bigl(G + \sigma(G)\,\xi\bigr)\,(t/t_0)^{-\nu},\quad \text{read with } 1/f \text{ noise}"
    physics = (
        "All that is published of a phase-change device at once: it is programmed with an error, drifts from there, "
        "and fluctuates in every read."
    )
    lesson = "Severity is time. The textbook classes have a knob for each of the three; a real chip turns all of them."
    off: ClassVar[float] = 0.0

    def __init__(self, compensation: str = "none", readout: str = "ideal") -> None:
        super().__init__((ProgrammingNoise(law="pcm"), Drift(compensation, readout), FlickerNoise()))

    def check(self, severity: object, name: str = "severity") -> float:
        return Perturbation.check(self, severity, name)

    def severities(self, severity: Tensor) -> Sequence[Tensor]:
        return (severity > 0).to(severity.dtype), severity.clamp_min(T_ZERO), severity


@dataclass(frozen=True)
class Resistive(ProgrammingNoise):
    """A resistive chip: the published programming noise of RRAM."""

    law: ClassVar[str] = "rram"

    name, title = "rram", "Resistive chip"
    physics = "Programming noise as measured on a resistive chip: one to two microsiemens at every target."


class Ideal(Perturbation):
    """A chip on which nothing goes wrong."""

    name, title = "ideal", "Ideal chip"
    measures, unit = "nothing", ""
    low, high, grid = 0.0, 0.0, (0.0,)
    formula = r"\tilde y = y"
    physics = "Devices that are exactly where they were aimed, wires without resistance, converters without steps."
    lesson = "The null: whatever is measured here is no effect of hardware."


#: Everything that a study takes by name: the six classes, further ones, and calibrated chips.
HARDWARE: dict[str, Perturbation] = {
    **PERTURBATIONS,
    **{one.name: one for one in (ProgrammingNoise(), FlickerNoise(), DAC(), PhaseChange(), Resistive(), Ideal())},
}


def make(name: str, /, **options: object) -> Perturbation:
    """The perturbation of that name with ``options`` (its fields); each class says in its text what they do."""
    plain = HARDWARE[checks.choice("perturbation", name, HARDWARE)]
    if not options:
        return plain
    known = (
        ("compensation", "readout")
        if isinstance(plain, PhaseChange)
        else tuple(one.name for one in fields(plain) if one.name != "window")
    )
    for key in options:
        if key not in known:
            raise checks.ParameterError(
                f"options must be out of {', '.join(known) or 'none'} for {name}, but {key!r} was given."
            )
    return type(plain)(**options) if isinstance(plain, PhaseChange) else replace(plain, **options)
