"""The families of distortions of the fair trial: a law, where it acts, and how far it may go.

A family is the unit over which a sentence about "classes" is bootstrapped. Two families differ in law, in what of a
device or circuit is distorted, or in a measure that is part of the chip (compensation, tiles, copies); severities of
one family are never two families.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lib.hardware.devices import make
from lib.hardware.mitigation import Redundant
from lib.hardware.perturbations import Perturbation

#: Kinds of families: what is drawn anew in every read, once for a chip, both, or never.
KINDS = ("read", "chip", "chip and read", "deterministic")


@dataclass(frozen=True)
class Family:
    """A distortion by the ``name`` of :data:`lib.hardware.devices.HARDWARE`, with ``options``, in so many ``copies``.

    Severities are sought between ``mild`` and ``harsh``. A ``costly`` one solves circuits in every step and is trained
    under fewer variants.
    """

    title: str
    name: str
    mild: float
    harsh: float
    options: Mapping[str, Any] = field(default_factory=dict)
    copies: int = 1
    costly: bool = False

    def physics(self, scale: str = "") -> Perturbation:
        """The perturbation; ``scale`` takes the place of its own where it is given and the family has none."""
        own = dict(self.options)
        if scale and "scale" not in own:
            own["scale"] = scale
        one = make(self.name, **own)
        return one if self.copies == 1 else Redundant(one, copies=self.copies)

    @property
    def kind(self) -> str:
        """Which of :data:`KINDS` it is."""
        one = self.physics()
        drawn = [bool(getattr(part, "chip", None)) for part in _parts(one)]
        read = [bool(getattr(part, "read", None)) for part in _parts(one)]
        names = {(True, False): "chip", (False, True): "read", (True, True): "chip and read"}
        return names.get((any(drawn), any(read)), "deterministic")


def _parts(one: Perturbation) -> tuple[Perturbation, ...]:
    return getattr(one, "parts", None) or (getattr(one, "part", one),)


#: Severities of one device as a share of full scale, and rates.
_SHARE = (0.003, 1.0)
#: Seconds since programming.
_TIME = (60.0, 1e10)
#: Bits, from mild to harsh.
_BITS = (9.0, 2.0)
#: Multiples of what was published.
_MULTIPLES = (0.3, 30.0)
#: Ohm per segment of a wire.
_WIRES = (3.0, 1e4)

#: Every family by name, the six classes first.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "read_noise": Family("Read noise", "read_noise", *_SHARE),
        "variability": Family("Programming variability", "variability", *_SHARE),
        "drift": Family("Conductance drift", "drift", *_TIME),
        "stuck_at": Family("Stuck-at faults", "stuck_at", *_SHARE),
        "ir_drop": Family("IR-drop, one array", "ir_drop", *_WIRES, costly=True),
        "adc": Family("ADC, range by quantile", "adc", *_BITS, {"calibration": "quantile"}),
        "programming": Family("Programming noise, PCM", "programming_noise", *_MULTIPLES),
        "resistive": Family("Programming noise, RRAM", "rram", *_MULTIPLES),
        "flicker": Family("Read noise, 1/f", "flicker_noise", *_TIME),
        "pcm": Family("Phase-change chip", "pcm", *_TIME),
        "pcm_compensated": Family("Phase-change chip, compensated", "pcm", *_TIME, {"compensation": "global"}),
        "drift_compensated": Family("Drift, compensated", "drift", *_TIME, {"compensation": "global"}),
        "stuck_on": Family("Stuck on", "stuck_at", *_SHARE, {"on": 1.0}),
        "stuck_off": Family("Stuck off", "stuck_at", *_SHARE, {"on": 0.0}),
        "clusters": Family("Clustered faults", "stuck_at", *_SHARE, {"cluster": 4}),
        "dac": Family("DAC", "dac", *_BITS),
        "adc_largest": Family("ADC, range by largest", "adc", *_BITS, {"calibration": "largest"}),
        "adc_best": Family("ADC, best range", "adc", *_BITS, {"calibration": "best"}),
        "ir_drop_tiles": Family("IR-drop, tiles of 32", "ir_drop", *_WIRES, {"tile": (32, 32)}, costly=True),
        "ir_drop_asymmetric": Family(
            "IR-drop, word lines worse", "ir_drop", *_WIRES, {"ratio": 4.0, "tile": (32, 32)}, costly=True
        ),
        "variability_columns": Family("Variability, scale per column", "variability", *_SHARE, {"scale": "column"}),
        "read_noise_columns": Family("Read noise, scale per column", "read_noise", *_SHARE, {"scale": "column"}),
        "variability_copies": Family("Variability, three devices", "variability", *_SHARE, copies=3),
        "stuck_copies": Family("Stuck-at, three devices", "stuck_at", *_SHARE, copies=3),
    }
)
#: The six classes of the source paper.
SIX = ("read_noise", "variability", "drift", "stuck_at", "ir_drop", "adc")
