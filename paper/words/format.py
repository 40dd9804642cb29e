"""Numbers and units as every table and sentence shows them: three digits, a true minus, an interval only where there is
one, times as "1 d" or "100 yr".
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import SupportsFloat

#: Stands where nothing was measured.
NOTHING = "–"

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Further away from one than this, digits before or behind the point are zeros that nobody counts.
_SMALL, _LARGE = 1e-3, 1e6


def number(value: SupportsFloat, digits: int = 3, signed: bool = False) -> str:
    """A number with so many significant digits; whole numbers in full, both with thousands set off."""
    if isinstance(value, Integral):
        return _sign(f"{abs(int(value)):,}", int(value), signed)
    real = float(value)
    if math.isnan(real):
        return NOTHING
    if math.isinf(real):
        return _sign("∞", real, signed)
    if real == 0:
        return "0"
    # Rounding first: 0.9996 is 1.00, with one place less.
    rounded = float(f"{abs(real):.{digits - 1}e}")
    power = math.floor(math.log10(rounded))
    if not _SMALL <= rounded < _LARGE:
        mantissa = f"{rounded / 10.0**power:.{digits - 1}f}".rstrip("0").rstrip(".")
        return _sign(f"{mantissa} × 10{str(power).translate(_RAISED)}", real, signed)
    text = f"{rounded:,.{max(0, digits - 1 - power)}f}"
    return _sign(text.rstrip("0").rstrip(".") if "." in text else text, real, signed)


def _sign(shown: str, value: float, signed: bool) -> str:
    return f"−{shown}" if value < 0 else f"+{shown}" if signed and value > 0 else shown


def interval(value: SupportsFloat, low: SupportsFloat, high: SupportsFloat, digits: int = 3) -> str:
    """A number with its interval, "1.2 [0.9, 1.4]"; without one where it has no width that shows, or is not known.

    All three end at one decimal place: that of the larger of the number and half its interval.
    """
    every = [float(one) for one in (value, low, high)]
    size = max(filter(math.isfinite, (abs(every[0]), (every[2] - every[1]) / 2)), default=0.0)
    places = digits - 1 - math.floor(math.log10(size)) if size > 0 else None
    shown, *ends = (
        number(one if places is None or not math.isfinite(one) else round(one, places), digits) for one in every
    )
    if NOTHING in ends or ends == [shown, shown]:
        return shown
    return f"{shown} [{ends[0]}, {ends[1]}]"


def percent(share: SupportsFloat, digits: int = 3) -> str:
    """A share as a percentage."""
    shown = number(100 * float(share), digits)
    return shown if shown == NOTHING else f"{shown} %"


def duration(seconds: SupportsFloat) -> str:
    """A time in the unit that a reader thinks in: "20 s", "1 h", "100 yr"."""
    time = float(seconds)
    units = (("yr", 3.15e7), ("mo", 2.6e6), ("d", 86400.0), ("h", 3600.0), ("min", 60.0))
    size, unit = next(((size, unit) for unit, size in units if time >= 0.99 * size), (1.0, "s"))
    return NOTHING if math.isnan(time) else f"{number(time / size)} {unit}"


def several(count: int, name: str) -> str:
    """A number of things: "1 seed", "1,024 seeds"."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def quantity(value: SupportsFloat, unit: str) -> str:
    """A number with its unit; times in the unit that fits, shares of devices in per cent, "1 step" for one of them."""
    if unit == "s":
        return duration(value)
    if unit == "of devices":
        return f"{percent(value)} {unit}"
    shown = number(value)
    if shown == "1" and unit in ("decades", "points", "steps"):
        unit = unit.removesuffix("s")
    return shown if shown == NOTHING or not unit else f"{shown} {unit}"
