"""What a number means: claims with their criterion, findings, and verdicts with their reasons.

A :class:`Claim` is a sentence about measured samples and the criterion that decides it; what decides it is a
:class:`Finding`: the value with its interval and one of three outcomes. The line that a finding prints holds no
measured number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lib import checks

if TYPE_CHECKING:
    import pandas

Relation = Literal[">", "<", ">=", "<=", "within"]
_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda value, threshold: value > threshold,
    "<": lambda value, threshold: value < threshold,
    ">=": lambda value, threshold: value >= threshold,
    "<=": lambda value, threshold: value <= threshold,
    "within": lambda value, threshold: abs(value) < threshold,
}
# Resampled numbers held in memory at once; more are handled in portions.
_PORTION = 4_000_000


#: What the interval leaves out at either end, together: a p below it decides.
_ALPHA = 0.05
#: A p that decides, by however little.
_DECIDED = math.nextafter(_ALPHA, 0)
#: The chance of meeting a rare seed from which on not having met one says something.
POWER = 0.8
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
    numbers had been seen (``changed``, empty if none did) from the value that it had at ``first``.
    """

    since: str
    changed: str
    first: float | None

    def __new__(cls, value: float, since: str, changed: str = "", first: float | None = None) -> Threshold:
        made = super().__new__(cls, value)
        made.since, made.changed, made.first = since, changed, first
        return made


@dataclass(frozen=True)
class Finding:
    """A claim, the criterion that decides it, the value with its 95 % interval, and the outcome.

    ``id`` names the claim for those who refer to it, ``family`` the claims that are judged together; ``since`` is the
    commit in which its criterion was first written, ``changed`` the one that changed it after numbers had been seen,
    from the value ``first``. ``note`` says why nothing could be decided, where the interval alone does not say it.

    ``p`` is two-sided, of the value against the threshold: below .05 exactly where the interval decides. ``adjusted``
    is the same after correction for the ``among`` claims of its family, or ``p`` itself where there was none (0).
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
    first: float | None = None
    p: float = math.nan
    adjusted: float = math.nan
    among: int = 0
    threshold: float = math.nan

    def __str__(self) -> str:
        return " | ".join(filter(None, [self.outcome, self.claim, self.criterion, self.note]))


def tail(count: int, level: float) -> float:
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

    >>> bootstrap([1.0, 1.0, 1.0])
    (1.0, 1.0)
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
    end = tail(values.size, level)
    low, high = np.quantile(np.concatenate(drawn), [end, 1 - end])
    return (float(low), float(high))


def exact_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share from ``hits`` among ``count`` (Clopper and Pearson)."""
    from scipy.special import betaincinv

    low = betaincinv(hits, count - hits + 1, _ALPHA / 2) if hits else 0.0
    high = betaincinv(hits + 1, count - hits, 1 - _ALPHA / 2) if hits < count else 1.0
    return (float(low), float(high))


def exact_p(hits: int, count: int, share: float) -> float:
    """Two-sided p of ``hits`` among ``count`` where each has the chance ``share``: twice the smaller tail."""
    from scipy.special import bdtr

    if not 0 <= share <= 1:
        return 0.0
    at_least = 1.0 if not hits else bdtr(count - hits, count, 1 - share)
    return float(min(1.0, 2 * min(bdtr(hits, count, share), at_least)))


def interval_p(value: float, interval: tuple[float, float], threshold: float, df: float = math.inf) -> float:
    """Two-sided p of a value against a threshold, as its 95 % interval has it on the threshold's side with Student's t
    of ``df`` degrees of freedom: .05 where the interval ends at the threshold, 1 at the value, 0 without any width.
    """
    from scipy.special import stdtr, stdtrit

    away = abs(threshold - value)
    half = max(0.0, interval[1] - value if threshold > value else value - interval[0])
    if not away or half == math.inf:
        # An infinite distance over an infinite width says no more than that the interval ends before it.
        return 1.0 if away < math.inf else _ALPHA
    return float(2 * stdtr(df, stdtrit(df, _ALPHA / 2) * away / half)) if half else 0.0


def judge_value(
    claim: str,
    value: float,
    interval: tuple[float, float],
    relation: Relation,
    threshold: float,
    *,
    unit: str = "",
    name: str = "value",
    p: Callable[[float], float] | None = None,
) -> Finding:
    """A finding from a value and its interval: it holds when the whole interval fulfils the relation, does
    not hold when the whole interval violates it, and is inconclusive otherwise (also when anything is nan).

    "within" is equivalence, ``abs(value) < threshold``; an interval that violates it must lie on one side. ``p`` is the
    p of the value against a threshold, if not :func:`interval_p`.
    """
    fulfils = _RELATIONS[checks.choice("relation", relation, _RELATIONS)]
    value, low, high, threshold = (float(number) for number in (value, *interval, threshold))
    note, chance = "", math.nan
    if any(math.isnan(number) for number in (value, low, high, threshold)):
        outcome, note = Outcome.INCONCLUSIVE, "nothing was measured" if math.isnan(value) else "there is no interval"
    else:
        ends = (fulfils(low, threshold), fulfils(high, threshold))
        outcome = Outcome.HOLDS if all(ends) else Outcome.INCONCLUSIVE if any(ends) else Outcome.DOES_NOT_HOLD
        edges = [threshold]
        if relation == "within":
            edges.append(-threshold)
            outcome = Outcome.INCONCLUSIVE if low <= -threshold and high >= threshold else outcome
        p = p or (lambda edge: interval_p(value, (low, high), edge))
        # Where an end falls on the threshold, rounding is not to decide between the two.
        bound = max if outcome is Outcome.INCONCLUSIVE else min
        chance = bound(max(map(p, edges)), _ALPHA if outcome is Outcome.INCONCLUSIVE else _DECIDED)
    shown = f"{relation} {'±' if relation == 'within' else ''}{threshold:g}"
    criterion = " ".join(filter(None, [name, shown, unit]))
    return Finding(
        claim, criterion, value, (low, high), outcome, unit, note=note, p=chance, adjusted=chance, threshold=threshold
    )


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

    >>> print(judge("it is positive", [1.0, 1.2, 0.9, 1.1], ">", 0))
    holds | it is positive | mean > 0
    """
    values = np.asarray(samples, dtype=float).ravel()
    value = float(_each(statistic, values[None])[0]) if values.size else math.nan
    interval = bootstrap(values, statistic)

    def p(edge: float) -> float:
        return interval_p(value, interval, edge, values.size - 1)

    found = judge_value(claim, value, interval, relation, threshold, unit=unit, name=name, p=p)
    if lost := int((~np.isfinite(values)).sum()):
        return replace(found, note=f"{lost} of {values.size} values are not finite")
    return replace(found, note=ONE_SEED) if values.size == 1 and found.note else found


def judge_share(
    claim: str,
    samples: Sequence[float] | np.ndarray,
    relation: Relation,
    threshold: float,
    *,
    unit: str = "",
    name: str = "share",
) -> Finding:
    """A finding on the share of ``samples`` [n] that are true: the exact interval of the binomial decides.

    A sample that is not finite leaves it inconclusive.
    """
    values = np.asarray(samples, dtype=float).ravel()
    if not np.isin(values[np.isfinite(values)], (0, 1)).all():
        raise checks.ParameterError(f"samples of an exact claim must be truth values, but {values.tolist()} was given.")
    lost = int((~np.isfinite(values)).sum())
    hits, count = (math.nan, 0) if lost else (values.sum(), values.size)

    def p(edge: float) -> float:
        return exact_p(int(hits), count, edge)

    interval = exact_interval(int(hits), count) if count else (math.nan, math.nan)
    value = hits / count if count else math.nan
    found = judge_value(claim, value, interval, relation, threshold, unit=unit, name=name, p=p)
    return replace(found, note=f"{lost} of {values.size} values are not finite") if lost else found


@dataclass(frozen=True)
class Claim:
    """A sentence ``text`` about ``samples`` [n], and the criterion: ``statistic`` of them (None: the mean), called
    ``name``, stands in ``relation`` to ``threshold`` (a :class:`Threshold`, or a number that nothing could have moved).

    ``measured`` is a value with its interval, where those are not the bootstrap's over samples. ``family`` names the
    claims with which it is judged together. ``void`` says why there is nothing to decide, such as nothing being lost
    that could come back: then it is inconclusive, whatever the samples are.

    ``exact``: the samples are truth values, one per seed, and what is judged is the share that is true. ``rare`` is the
    share of seeds in which alone there may be something large and which must still be seen: samples too few to meet one
    such seed with a chance of :data:`POWER` cannot say that there is nothing (">" does not hold, "<" and "within" do).
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
    exact: bool = False
    rare: float = 0.0

    def judged(self) -> Finding:
        """What the samples say of it."""
        criterion: dict[str, Any] = {"unit": self.unit, "name": self.name}
        if self.measured is not None:
            found = judge_value(self.text, *self.measured, self.relation, self.threshold, **criterion)
        elif self.exact:
            criterion["name"] = "share" if self.name == "mean" else self.name
            found = judge_share(self.text, self.samples, self.relation, self.threshold, **criterion)
        else:
            statistic = self.statistic or np.mean
            found = judge(self.text, self.samples, self.relation, self.threshold, statistic=statistic, **criterion)
        if self.void:
            found = replace(found, outcome=Outcome.INCONCLUSIVE, note=self.void, p=math.nan, adjusted=math.nan)
        seeds = np.size(self.samples)
        nothing = Outcome.DOES_NOT_HOLD if self.relation in (">", ">=") else Outcome.HOLDS
        if found.outcome is nothing and self.rare and 1 - (1 - self.rare) ** seeds < POWER:
            note = f"{seeds} seeds would miss what one in {1 / self.rare:.3g} has"
            found = replace(found, outcome=Outcome.INCONCLUSIVE, note=note)
        origin = {name: getattr(self.threshold, name, "") for name in ("since", "changed")}
        first = getattr(self.threshold, "first", None)
        return replace(found, id=self.id, family=self.family, first=first, **origin)  # type: ignore[arg-type]


class Findings(list[Finding]):
    """Findings in order. Printed, they are one line each without measured numbers: ``holds | claim | criterion``."""

    @classmethod
    def of(cls, claims: Iterable[Claim], *, holm: bool = False) -> Findings:
        """The claims, judged, and where ``holm`` corrected within each family; two with one id are refused."""
        found = cls(claim.judged() for claim in claims)
        ids = [finding.id for finding in found]
        if twice := [name for name in dict.fromkeys(ids) if ids.count(name) > 1]:
            raise checks.ParameterError(f"claims must have different ids, but {twice[0]!r} was given twice.")
        return found.corrected() if holm else found

    def corrected(self) -> Findings:
        """After Holm's correction for the claims of each family that have a p: what it takes back is inconclusive."""
        tested = sorted((at for at, one in enumerate(self) if not math.isnan(one.p)), key=lambda at: self[at].p)
        sizes = Counter(self[at].family for at in tested)
        left, worst, made = sizes.copy(), dict.fromkeys(sizes, 0.0), Findings(self)
        for at in tested:
            one = self[at]
            # The smallest p counts as often as there are claims, the next once less, and none less than one before.
            worst[one.family] = min(1.0, max(worst[one.family], left[one.family] * one.p))
            left[one.family] -= 1
            made[at] = replace(one, adjusted=worst[one.family], among=sizes[one.family])
            if one.outcome is not Outcome.INCONCLUSIVE and worst[one.family] >= _ALPHA:
                note = f"not after correction for the {sizes[one.family]} claims of its family"
                made[at] = replace(made[at], outcome=Outcome.INCONCLUSIVE, note=note)
        return made

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self)

    __repr__ = __str__

    def get(self, claim: str) -> Finding | None:
        """The finding of the claim with this id, or None where it was not judged."""
        return next((finding for finding in self if finding.id == claim), None)

    def table(self) -> pandas.DataFrame:
        """One row per finding: id, family, claim, criterion, value, low, high, unit, outcome, and the rest of it."""
        import pandas

        names = ["id", "family", "claim", "criterion", "value", "low", "high", "unit", "outcome"]
        rows = [(f.id, f.family, f.claim, f.criterion, f.value, *f.interval, f.unit, str(f.outcome)) for f in self]
        more = ("since", "changed", "note", "first", "p", "adjusted", "among", "threshold")
        return pandas.DataFrame(rows, columns=names).assign(**{name: [getattr(f, name) for f in self] for name in more})


@dataclass(frozen=True)
class Verdict:
    """The answer of a diagnosis: its name, the reasons for it, and what to do."""

    name: str
    reasons: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  because {reason}" for reason in self.reasons), f"  advice: {self.advice}"])
