"""What a number means: findings with their criterion, and verdicts with their reasons.

A :class:`Finding` is a claim, the criterion that decides it, the measured value with its interval, and one
of three outcomes. The line that a finding prints holds no measured number, so that it is the same on every
machine; the numbers are shown separately by :meth:`Findings.numbers`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

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


class Outcome(StrEnum):
    """What the measurement says about a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    INCONCLUSIVE = "inconclusive"


#: Symbol and colour (Okabe-Ito, so that the outcomes differ for colour-blind readers too).
MARKS = {
    Outcome.HOLDS: ("✓", "#009E73"),
    Outcome.DOES_NOT_HOLD: ("✗", "#D55E00"),
    Outcome.INCONCLUSIVE: ("?", "#767676"),
}


@dataclass(frozen=True)
class Finding:
    """A claim, the criterion that decides it, the value with its 95 % interval, and the outcome."""

    claim: str
    criterion: str
    value: float
    interval: tuple[float, float]
    outcome: Outcome
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.outcome} | {self.claim} | {self.criterion}"


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
    if any(math.isnan(number) for number in (float(value), low, high, float(threshold))):
        outcome = Outcome.INCONCLUSIVE
    else:
        ends = (fulfils(low, threshold), fulfils(high, threshold))
        outcome = Outcome.HOLDS if all(ends) else Outcome.INCONCLUSIVE if any(ends) else Outcome.DOES_NOT_HOLD
    criterion = " ".join(filter(None, [name, relation, f"{threshold:g}", unit]))
    return Finding(claim, criterion, float(value), (low, high), outcome, unit)


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
    """A finding from samples: the bootstrap 95 % interval of ``statistic`` decides, as in
    :func:`judge_value`.

    Fewer than two samples, or a sample that is not finite, leave it inconclusive.
    """
    values = np.asarray(samples, dtype=float).ravel()
    value = float(_each(statistic, values[None])[0]) if values.size else math.nan
    return judge_value(claim, value, bootstrap(values, statistic), relation, threshold, unit=unit, name=name)


def _digits(number: float) -> str:
    if math.isnan(number):
        return "–"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    return f"{number:.3g}".replace("-", "−")


class _Numbers:
    """The findings with their measured numbers, as a table."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._findings = tuple(findings)

    @staticmethod
    def _measured(finding: Finding) -> str:
        low, high = finding.interval
        unit = f" {finding.unit}" if finding.unit else ""
        return f"{_digits(finding.value)} [{_digits(low)}, {_digits(high)}]{unit}"

    def __repr__(self) -> str:
        return "\n".join(f"{finding} | {self._measured(finding)}" for finding in self._findings)

    def _repr_html_(self) -> str:
        cells = ["Claim", "Criterion", "Measured [95 % interval]", "Outcome"]
        head = "".join(f'<th style="text-align:left">{cell}</th>' for cell in cells)
        rows = []
        for finding in self._findings:
            symbol, colour = MARKS[finding.outcome]
            texts = [finding.claim, finding.criterion, self._measured(finding)]
            row = "".join(f'<td style="text-align:left">{html.escape(text)}</td>' for text in texts)
            mark = f'<b style="color:{colour}">{symbol} {finding.outcome}</b>'
            rows.append(f'<tr>{row}<td style="text-align:left;white-space:nowrap">{mark}</td></tr>')
        body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        return f'<table class="findings">{body}</table>'


class Findings(list[Finding]):
    """Findings in order. Printed, they are one line each without measured numbers: ``holds | claim |
    criterion``.
    """

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self)

    __repr__ = __str__

    def numbers(self) -> _Numbers:
        """The same findings with value, interval and unit, for display."""
        return _Numbers(self)

    def table(self) -> pandas.DataFrame:
        """One row per finding: claim, criterion, value, low, high, unit, outcome."""
        import pandas

        names = ["claim", "criterion", "value", "low", "high", "unit", "outcome"]
        rows = [(f.claim, f.criterion, f.value, *f.interval, f.unit, str(f.outcome)) for f in self]
        return pandas.DataFrame(rows, columns=names)


@dataclass(frozen=True)
class Verdict:
    """The answer of a diagnosis: its name, the reasons for it, and what to do."""

    name: str
    reasons: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  because {reason}" for reason in self.reasons), f"  advice: {self.advice}"])
