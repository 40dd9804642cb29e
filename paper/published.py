"""Where published devices lie on the axes of severity: a typed table, and the range that follows from it.

What is measured in microsiemens is computed from the published laws that :mod:`lib.hardware` holds. A value that no
single publication stands for, but that studies share, says so: it is a convention, and has no key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
import pandas as pd
import torch

from lib.hardware.devices import HARDWARE, pcm_spread, rram_spread
from lib.hardware.perturbations import T_ZERO, WINDOW, Perturbation, flicker

#: Seconds in ten years, for which a memory is asked to keep what it holds.
TEN_YEARS = 10 * 365.25 * 86400
#: Lines of an array for which wire resistance is published, and of the largest of our own (the perceptron's inputs).
THEIRS, OURS = 512, 64
#: The two sides of a range.
INSIDE, BEYOND = "inside", "beyond"


@dataclass(frozen=True)
class Device:
    """A severity that hardware has: of a perturbation by name, in its unit; ``key`` is an entry of the bibliography,
    empty for a convention; ``note`` says how the number follows.
    """

    perturbation: str
    severity: float
    what: str
    key: str
    note: str


def equivalent(ohm: float, lines: int = THEIRS, own: int = OURS) -> float:
    """The resistance of a segment at which ``own`` lines lose as much as so many ``lines`` do at ``ohm``.

    Along a line of n cells the currents of up to n devices add up over n segments: the relative loss grows as r n^2
    G, as long as it is small.
    """
    return ohm * (lines / own) ** 2


def _peak(law: str) -> tuple[float, float]:
    """The smallest and the largest spread of a law of programming noise, as shares of the full scale it goes to."""
    high = {"pcm": WINDOW.high, "rram": 39.26}[law]
    g = torch.linspace(0, high, 2001, dtype=torch.float64)
    spread = (pcm_spread(g, high) if law == "pcm" else rram_spread(g)) / high
    return float(spread.min()), float(spread.max())


@cache
def devices() -> tuple[Device, ...]:
    """All that is known, from mild to harsh within a class."""
    least, most = _peak("pcm")
    resistive = _peak("rram")[1]
    g = torch.linspace(WINDOW.low, WINDOW.high, 2001, dtype=torch.float64)
    read = flicker(g, torch.tensor(T_ZERO, dtype=torch.float64)) / WINDOW.high
    pcm, tool = "nandakumar2019pcm", "rasch2021aihwkit"
    ten = "the retention that a memory is commonly asked for"
    found = [
        Device("read_noise", float(read.min()), "phase-change device at low conductance", pcm, "1/f noise after 20 s"),
        Device("read_noise", float(read.max()), "phase-change device at Gmax", pcm, "1/f noise after 20 s"),
        Device("variability", least, "phase-change device at zero", pcm, "smallest spread of the law"),
        Device("variability", most, "phase-change device", pcm, "largest spread of the law"),
        Device("variability", resistive, "resistive device", "wan2022rram", "largest spread, on a full scale of 39 µS"),
        Device("drift", T_ZERO, "first read", pcm, "where the law begins"),
        Device("drift", 86400.0, "a network after a day", "joshi2020pcm", "how long accuracy was reported"),
        Device("drift", TEN_YEARS, "ten years", "", ten),
        Device("stuck_at", 0.01, "mild end of studies", "", "studies take 1 to 20 %"),
        Device("stuck_at", 0.0175 + 0.0904, "resistive array", "", "1.75 % stuck one way and 9.04 % the other"),
        Device("ir_drop", equivalent(0.15), "array of 512 lines", "", "0.15 Ω per cell, a recent technology"),
        Device("ir_drop", equivalent(0.35), "array of 512 lines", tool, "0.35 Ω per cell, a tool's default"),
        Device("ir_drop", equivalent(5.0), "array of 512 lines", "", "several Ω (taken as 5), an older technology"),
        Device("adc", 9.0, "converter", "", "analog tiles have 8 to 9 bits"),
        Device("adc", 8.0, "converter", tool, "254 steps, a tool's preset"),
        Device("dac", 8.0, "converter", tool, "254 steps, a tool's preset"),
        Device("dac", 7.0, "converter", "", "analog tiles have 7 to 8 bits"),
        Device("programming_noise", 1.0, "the law itself", pcm, "severity is in multiples of what was published"),
        Device("rram", 1.0, "the law itself", "wan2022rram", "severity is in multiples of what was published"),
        *(Device(name, TEN_YEARS, "ten years", "", ten) for name in ("flicker_noise", "pcm")),
        *(Device(name, T_ZERO, "first read", pcm, "where the law begins") for name in ("flicker_noise", "pcm")),
    ]
    return tuple(found)


def table(names: Iterable[str] | None = None) -> pd.DataFrame:
    """The devices of all perturbations, or of those named, one a row."""
    chosen = None if names is None else set(names)
    rows = [asdict(one) for one in devices() if chosen is None or one.perturbation in chosen]
    return pd.DataFrame(rows, columns=list(Device.__dataclass_fields__))


def span(name: str) -> tuple[float, float] | None:
    """The mildest and the harshest published severity of a perturbation; None where nothing is known of it."""
    values = [one.severity for one in devices() if one.perturbation == name]
    if not values:
        return None
    ends = min(values), max(values)
    return ends[::-1] if _falls(name) else ends


def _falls(name: str) -> bool:
    """Is less of it harsher, as with the bits of a converter?"""
    physics: Perturbation = HARDWARE[name]
    return bool(np.ndim(physics.off) == 0 and physics.off > physics.high)


def side(name: str, severity: float) -> str:
    """ "inside" where a severity is no harsher than the harshest published one, "beyond" where it is; empty where
    nothing is known of the perturbation.
    """
    known = span(name)
    if known is None:
        return ""
    harshest = known[1]
    # Where a number was computed, its last digit is not to decide.
    beyond = severity < harshest * (1 - 1e-9) if _falls(name) else severity > harshest * (1 + 1e-9)
    return BEYOND if beyond else INSIDE


def place(name: str, severities: Sequence[float]) -> tuple[float, float] | None:
    """The published range on an axis on which ``severities``, from mild to harsh, stand at 0, 1, 2 and so on.

    Between two of them it is interpolated geometrically; an end that lies outside is half a step outside.
    """
    known = span(name)
    if known is None or not len(severities):
        return None
    sign = -1 if _falls(name) else 1
    grid = [sign * math.log(max(one, 1e-30)) for one in severities]
    ends, last = [sign * math.log(one) for one in known], len(grid) - 1
    at = np.interp(ends, grid, np.arange(len(grid)), left=-0.5, right=last + 0.5)
    return float(at[0]), float(at[1])


def sides(accuracy: pd.DataFrame) -> pd.Series:
    """On which side of the published range every row of a table lies."""
    pairs = zip(accuracy.perturbation, accuracy.severity, strict=True)
    return pd.Series([side(name, severity) for name, severity in pairs], accuracy.index, dtype=object)


def sentence(name: str) -> str:
    """The published range in words, with its unit (Markdown); empty where nothing is known."""
    known = span(name)
    if known is None:
        return ""
    physics = HARDWARE[name]
    if physics.unit == "s":
        return "Published devices reach from the first read to ten years"
    # From the smaller number to the larger, whichever is harsher; shares in per cent, as severities are written.
    share = physics.unit == "of devices"
    mild, harsh = (f"{100 * one:.3g}" if share else f"{one:.2g}" if one < 1 else f"{one:.3g}" for one in sorted(known))
    scaled = (
        f" ({span(name)[1] / equivalent(1):.3g} Ω on {THEIRS} lines, as resistance weighs with the square of the lines)"  # type: ignore[index]
        if name == "ir_drop"
        else ""
    )
    ends = mild if mild == harsh else f"{mild} to {harsh}"
    return f"Published devices lie at {ends} {'% ' * share}{physics.unit}{scaled}"
