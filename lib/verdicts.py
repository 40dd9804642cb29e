"""What a number means: claims with their criterion, findings, and verdicts with their reasons.

A :class:`Claim` is a sentence about measured samples and the criterion that decides it; what decides it is a
:class:`Finding`: the value with its interval and one of three outcomes. The line that a finding prints holds no
measured number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lib import checks

if TYPE_CHECKING:
    import pandas

Relation = Literal[">", "<", ">=", "<="]
_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda value, threshold: value > threshold,
    "<": lambda value, threshold: value < threshold,
    ">=": lambda value, threshold: value >= threshold,
    "<=": lambda value, threshold: value <= threshold,
}
# Resampled numbers held in memory at once; more are handled in portions.
_PORTION = 4_000_000


#: Why a single sample leaves everything open.
ONE_SEED = "one seed has no interval"


class Outcome(StrEnum):
    """What the measurement says about a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    INCONCLUSIVE = "inconclusive"


#: Symbol and colour of every outcome (Okabe-Ito, so that they differ for colour-blind readers too).
MARKS = {
    Outcome.HOLDS: ("✓", "#009E73"),
    Outcome.DOES_NOT_HOLD: ("✗", "#D55E00"),
    Outcome.INCONCLUSIVE: ("?", "#767676"),
}


class Threshold(float):
    """A criterion's number with the commit in which it was first written (``since``), and the one that changed it after
    numbers had been seen (``changed``, empty if none did).
    """

    since: str
    changed: str

    def __new__(cls, value: float, since: str, changed: str = "") -> Threshold:
        made = super().__new__(cls, value)
        made.since, made.changed = since, changed
        return made


@dataclass(frozen=True)
class Finding:
    """A claim, the criterion that decides it, the value with its 95 % interval, and the outcome.

    ``id`` names the claim for those who refer to it, ``family`` the claims that are judged together; ``since`` is the
    commit in which its criterion was first written, ``changed`` the one that changed it after numbers had been seen.
    ``note`` says why nothing could be decided, where that is not a matter of more seeds.
    """

    claim: str
    criterion: str
    value: float
    interval: tuple[float, float]
    outcome: Outcome
    unit: str = ""
    id: str = ""
    family: str = ""
    since: str = ""
    changed: str = ""
    note: str = ""

    def __str__(self) -> str:
        return " | ".join(filter(None, [self.outcome, self.claim, self.criterion, self.note]))


def _tail(count: int, level: float) -> float:
    """Lower tail of the percentile interval for ``count`` samples.

    The percentile interval of a few samples is too narrow: the bootstrap spread is a factor sqrt((n-1)/n)
    short and knows nothing of Student's t. Widening the percentiles repairs most of it (Hesterberg 2015,
    "expanded percentile interval"); for many samples it changes nothing.
    """
    from scipy.special import ndtr, stdtrit

    t = stdtrit(count - 1, (1 - level) / 2)
    return float(ndtr(math.sqrt(count / (count - 1)) * t))


def _each(statistic: Callable[..., np.ndarray], rows: np.ndarray) -> np.ndarray:
    """The statistic of each row; one call when it takes an axis, a loop otherwise."""
    try:
        return np.asarray(statistic(rows, axis=1), dtype=float)
    except TypeError:
        return np.array([float(statistic(row)) for row in rows])


def bootstrap(
    samples: Sequence[float] | np.ndarray,
    statistic: Callable[..., np.ndarray] = np.mean,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``statistic`` over ``samples`` [n]; (nan, nan) for fewer than two.

    ``statistic`` takes ``axis`` like numpy's own (or a single row). The same seed gives the same interval.
    """
    values = np.asarray(samples, dtype=float).ravel()
    checks.number("level", level, above=0, high=1)
    if values.size < 2 or not np.isfinite(values).all():
        return (math.nan, math.nan)
    generator = np.random.default_rng(seed)
    rows = max(1, min(resamples, _PORTION // values.size))
    drawn = []
    for start in range(0, resamples, rows):
        picks = values[generator.integers(values.size, size=(min(rows, resamples - start), values.size))]
        drawn.append(_each(statistic, picks))
    tail = _tail(values.size, level)
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return (float(low), float(high))


def judge_value(
    claim: str,
    value: float,
    interval: tuple[float, float],
    relation: Relation,
    threshold: float,
    *,
    unit: str = "",
    name: str = "value",
) -> Finding:
    """A finding from a value and its interval: it holds when the whole interval fulfils the relation, does
    not hold when the whole interval violates it, and is inconclusive otherwise (also when anything is nan).
    """
    fulfils = _RELATIONS[checks.choice("relation", relation, _RELATIONS)]
    low, high = (float(end) for end in interval)
    note = ""
    if any(math.isnan(number) for number in (float(value), low, high, float(threshold))):
        outcome, note = Outcome.INCONCLUSIVE, "nothing was measured" if math.isnan(value) else "there is no interval"
    else:
        ends = (fulfils(low, threshold), fulfils(high, threshold))
        outcome = Outcome.HOLDS if all(ends) else Outcome.INCONCLUSIVE if any(ends) else Outcome.DOES_NOT_HOLD
    criterion = " ".join(filter(None, [name, relation, f"{threshold:g}", unit]))
    return Finding(claim, criterion, float(value), (low, high), outcome, unit, note=note)


def judge(
    claim: str,
    samples: Sequence[float] | np.ndarray,
    relation: Relation,
    threshold: float,
    *,
    unit: str = "",
    statistic: Callable[..., np.ndarray] = np.mean,
    name: str = "mean",
) -> Finding:
    """A finding from samples: the bootstrap 95 % interval of ``statistic`` decides, as in :func:`judge_value`.

    Fewer than two samples, or a sample that is not finite, leave it inconclusive.
    """
    values = np.asarray(samples, dtype=float).ravel()
    value = float(_each(statistic, values[None])[0]) if values.size else math.nan
    found = judge_value(claim, value, bootstrap(values, statistic), relation, threshold, unit=unit, name=name)
    if lost := int((~np.isfinite(values)).sum()):
        return replace(found, note=f"{lost} of {values.size} values are not finite")
    return replace(found, note=ONE_SEED) if values.size == 1 and found.note else found


@dataclass(frozen=True)
class Claim:
    """A sentence ``text`` about ``samples`` [n], and the criterion: ``statistic`` of them (None: the mean), called
    ``name``, stands in ``relation`` to ``threshold`` (a :class:`Threshold`, or a number that nothing could have moved).

    ``measured`` is a value with its interval, where those are not the bootstrap's over samples. ``family`` names the
    claims with which it is judged together. ``void`` says why there is nothing to decide, such as nothing being lost
    that could come back: then it is inconclusive, whatever the samples are.
    """

    id: str
    text: str
    samples: Sequence[float] | np.ndarray
    relation: Relation
    threshold: float
    family: str
    unit: str = ""
    name: str = "mean"
    statistic: Callable[..., np.ndarray] | None = None
    measured: tuple[float, tuple[float, float]] | None = None
    void: str = ""

    def judged(self) -> Finding:
        """What the samples say of it."""
        criterion: dict[str, Any] = {"unit": self.unit, "name": self.name}
        if self.measured is None:
            statistic = self.statistic or np.mean
            found = judge(self.text, self.samples, self.relation, self.threshold, statistic=statistic, **criterion)
        else:
            found = judge_value(self.text, *self.measured, self.relation, self.threshold, **criterion)
        if self.void:
            found = replace(found, outcome=Outcome.INCONCLUSIVE, note=self.void)
        origin = {name: getattr(self.threshold, name, "") for name in ("since", "changed")}
        return replace(found, id=self.id, family=self.family, **origin)  # type: ignore[arg-type]


class Findings(list[Finding]):
    """Findings in order. Printed, they are one line each without measured numbers: ``holds | claim | criterion``."""

    @classmethod
    def of(cls, claims: Iterable[Claim]) -> Findings:
        """The claims, judged; two with one id are refused."""
        found = cls(claim.judged() for claim in claims)
        ids = [finding.id for finding in found]
        if twice := [name for name in dict.fromkeys(ids) if ids.count(name) > 1]:
            raise checks.ParameterError(f"claims must have different ids, but {twice[0]!r} was given twice.")
        return found

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self)

    __repr__ = __str__

    def get(self, claim: str) -> Finding | None:
        """The finding of the claim with this id, or None where it was not judged."""
        return next((finding for finding in self if finding.id == claim), None)

    def table(self) -> pandas.DataFrame:
        """One row per finding: id, family, claim, criterion, value, low, high, unit, outcome, since, changed, note."""
        import pandas

        names = ["id", "family", "claim", "criterion", "value", "low", "high", "unit", "outcome"]
        rows = [(f.id, f.family, f.claim, f.criterion, f.value, *f.interval, f.unit, str(f.outcome)) for f in self]
        more = {name: [getattr(f, name) for f in self] for name in ("since", "changed", "note")}
        return pandas.DataFrame(rows, columns=names).assign(**more)


@dataclass(frozen=True)
class Verdict:
    """The answer of a diagnosis: its name, the reasons for it, and what to do."""

    name: str
    reasons: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  because {reason}" for reason in self.reasons), f"  advice: {self.advice}"])
