"""Does a rerun agree with the committed evidence? A test that can fail, and that says what it would have noticed.

Both tables hold one row a seed and cell. The spread over the seeds of the evidence says how far means over a few seeds
may lie apart; each cell is compared within that, and all cells of a quantity once more together, so that a small shift
everywhere is noticed although no cell is out on its own. A page of correct code fails with a probability of at most
``level``: half of it is shared by all comparisons of single cells, half by the joint ones (Bonferroni).

**Spread.** With few seeds a cell's own variance s² (d degrees of freedom) is a poor guide: eight seeds that all learnt
do not tell that one in ten fails. It is drawn towards the mean variance s0² of the quantity,
(d0 s0² + d s²) / (d0 + d), and then has d0 + d degrees of freedom. How much s0² is worth, d0, comes from how far the
variances differ between cells beyond chance (empirical Bayes: G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004), 3,
section 6.2), and is at least 4: cells that all spread alike are pooled, others keep much of their own.

**Difference.** Over n seeds here and N of the evidence, means of independent runs differ by sd √(1/n + 1/N). Where
seeds are common, the difference is the mean of the paired ones. Equal code repeats a seed exactly on the same machine
and loses track of it on another, so that bound is conservative for pairs that keep together; if at least nine in ten of
the *other* cells show that seeds keep together (at least four such cells), it is tightened to sd √(2 q / n), where q is
the share of the variance that does not repeat, and never less than a quarter; this is a bound and no estimate from the
cell's few seeds, so its limit has the degrees of freedom of all cells. If pairs lose each other, the means over all
seeds are compared instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from lib import checks

# Of the spread over seeds, what a seed that is run again may always differ by.
_DRIFT = 0.25
# How many other cells have to show that seeds repeat.
_WITNESSES = 4
# Numbers closer than single precision is good for are equal.
_ROUNDING = 1e-5
# What the typical spread of a quantity is worth at least, in degrees of freedom.
_PRIOR = 4
_NAMED = 6


@dataclass(frozen=True)
class Quantity:
    """How a column is compared.

    ``resolution``: a difference that means nothing, such as what one test picture is worth. ``scale``: "linear", or
    "log" for positive numbers that span decades (gradient norms); then the resolution is in decades too.
    """

    resolution: float = 0.0
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        checks.number("resolution", self.resolution, low=0)
        checks.choice("scale", self.scale, ("linear", "log"))


@dataclass(frozen=True, eq=False)
class Numbers:
    """The measured side of an agreement: what would have been noticed, and what disagrees."""

    smallest: pd.DataFrame
    disagreeing: pd.DataFrame

    def _tables(self) -> list[pd.DataFrame]:
        return [table for table in (self.smallest, self.disagreeing) if len(table)]

    def __repr__(self) -> str:
        if not self._tables():
            return "nothing was compared"
        return "\n\n".join(table.to_string(index=False, float_format="{:.3g}".format) for table in self._tables())

    def _repr_html_(self) -> str:
        if not self._tables():
            return f"<p>{self!r}</p>"
        return "\n".join(table.to_html(index=False, float_format="{:.3g}".format, border=0) for table in self._tables())


@dataclass(frozen=True, eq=False)
class Agreement:
    """What a comparison found. True if something was compared and all of it agrees.

    ``compared``: cells in both tables; 0 is a state of its own, neither agreement nor disagreement.
    ``disagreeing``: one row a cell and quantity that is out: keys, ``quantity``, ``here``, ``evidence``,
    ``difference``, ``allowed`` (differences in decades on a log scale).
    ``joint``: one row a quantity: ``cells``, mean ``difference`` in standard deviations over seeds, ``allowed``,
    ``agrees``.
    ``smallest``: one row a quantity: the smallest deviation of one cell that would have been noticed (``single``,
    median over cells) and of all cells together (``uniform``, missing where one cell or one seed leaves nothing to
    average).
    """

    keys: tuple[str, ...]
    compared: int
    disagreeing: pd.DataFrame
    joint: pd.DataFrame
    smallest: pd.DataFrame

    def __bool__(self) -> bool:
        return self.compared > 0 and self.disagreeing.empty and bool(self.joint["agrees"].all())

    def __str__(self) -> str:
        """One or two lines without a measured number, so that they are the same on every machine."""
        if not self.compared:
            return "nothing to compare: the evidence holds none of these cells"
        named: dict[str, list[str]] = {}
        for _, row in self.disagreeing.iterrows():
            cell = ", ".join(f"{key} {_word(row[key])}" for key in self.keys) or "the only cell"
            named.setdefault(cell, []).append(str(row["quantity"]))
        cells = [f"{cell} ({', '.join(quantities)})" for cell, quantities in named.items()]
        more = [f"and {len(cells) - _NAMED} more"] if len(cells) > _NAMED else []
        one = f"{self.compared} cell{'s' if self.compared > 1 else ''}"
        line = f"all {one} agree" if self.compared > 1 else f"the {one} agrees"
        if cells:
            verb = "disagrees" if len(cells) == 1 else "disagree"
            line = f"{len(cells)} of {one} {verb}: {'; '.join([*cells[:_NAMED], *more])}"
        shifted = self.joint.loc[~self.joint["agrees"].astype(bool), "quantity"]
        return line + (f"\nover all cells together, shifted: {', '.join(shifted)}" if len(shifted) else "")

    def numbers(self) -> Numbers:
        """The measured differences and the smallest deviations that would have been noticed, to be displayed."""
        return Numbers(self.smallest, self.disagreeing)


def _word(value: object) -> str:
    """A key as text; numbers that are equal to 9 digits are the same, 1 and 1.0 too."""
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return f"{float(value) + 0.0:.9g}"
    return str(value)


def _labelled(name: str, table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """The columns by cell and replicate, in words; a row given twice is refused."""
    checks.columns(name, table, [*keys, *columns])
    words = [[_word(value) for value in table[key]] for key in keys]
    found = table[list(columns)].astype(float).set_axis(pd.MultiIndex.from_arrays(words, names=keys))
    if (twice := found.index.duplicated()).any():
        row = ", ".join(f"{key} {word}" for key, word in zip(keys, found.index[twice][0], strict=True))
        raise checks.ParameterError(
            f"{name} must be a table with one row for each {', '.join(keys)}, but {row} was given twice."
        )
    return found


def _matrix(values: pd.Series, cells: pd.Index, seeds: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Values [cells, seeds], and which of them there are (a value that is missing may be there)."""
    rows, places = cells.get_indexer(values.index.droplevel(-1)), seeds.get_indexer(values.index.get_level_values(-1))
    kept = rows >= 0
    matrix = np.full((len(cells), len(seeds)), math.nan)
    there = np.zeros(matrix.shape, bool)
    matrix[rows[kept], places[kept]] = values.to_numpy()[kept]
    there[rows[kept], places[kept]] = True
    return matrix, there


def _mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over seeds [cells] of the chosen values; missing where none is."""
    count = chosen.sum(1)
    return np.where(chosen, values, 0.0).sum(1) / np.where(count > 0, count, math.nan)


def _spread(values: np.ndarray, finite: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation over seeds of every cell, drawn towards what is typical, and its degrees of freedom."""
    from scipy.special import digamma, polygamma

    own = np.maximum(finite.sum(1) - 1, 0)
    centred = np.where(finite, values - _mean(values, finite)[:, None], 0.0)
    variance = np.where(own > 0, np.square(centred).sum(1) / np.maximum(own, 1), 0.0)
    # Cells in which every seed gives the same tell nothing about the others.
    telling = variance > 1e-12 * variance.max(initial=0.0)
    if telling.sum() < 2:
        typical = variance[telling].mean() if telling.any() else 0.0
        return np.sqrt(np.where(own > 0, variance, typical)), np.maximum(own, own[telling].max(initial=1))
    half = own[telling] / 2
    logs = np.log(variance[telling]) - digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - polygamma(1, half).mean()
    grid = np.geomspace(0.1, 1e4, 500)
    prior = float(np.interp(-excess, -polygamma(1, grid / 2), grid))
    typical = float((own * variance).sum() / own.sum())
    weight = min(max(prior, _PRIOR), float(own[telling].sum()))
    return np.sqrt((weight * typical + own * variance) / (weight + own)), np.maximum(weight + own, 1)


def _drift(difference: np.ndarray, common: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """The share of the variance over seeds that does not repeat in nine of ten *other* cells [cells]; missing where too
    few tell.
    """
    telling = common.any(1) & (sd > 0)
    share = np.full(len(sd), math.nan)
    share[telling] = _mean(np.square(difference), common)[telling] / (2 * np.square(sd[telling]))
    found = np.full(len(sd), math.nan)
    order = np.sort(share[telling])
    for cell in range(len(sd)):
        others = np.delete(order, np.searchsorted(order, share[cell])) if telling[cell] else order
        if len(others) >= _WITNESSES:
            found[cell] = others[math.ceil(0.9 * (len(others) - 1))]
    return found


@dataclass
class _Compared:
    """One quantity over all cells: [cells] each. ``error``, and what it is for ``independent`` runs, are in units of
    ``sd``; ``common`` counts seeds.
    """

    here: np.ndarray
    evidence: np.ndarray
    difference: np.ndarray
    sd: np.ndarray
    freedom: np.ndarray
    error: np.ndarray
    independent: np.ndarray
    common: np.ndarray
    resolution: np.ndarray
    #: Standard deviation over the evidence's seeds of the mean over cells, in units of ``sd``, and its freedom.
    shared: float
    seeds: int

    @property
    def measured(self) -> np.ndarray:
        """Where there are numbers on both sides."""
        return np.isfinite(self.difference) & np.isfinite(self.error)

    def allowed(self, tail: float) -> np.ndarray:
        """What a single cell may differ by."""
        from scipy.special import stdtrit

        limit = stdtrit(self.freedom, 1 - tail) * self.sd * self.error
        return np.where(self.measured, np.where(self.sd > 0, limit, 0.0) + self.resolution, 0.0)

    def joint(self, tail: float) -> _Joint:
        """All cells together."""
        from scipy.special import stdtrit

        unit = np.hypot(self.sd, self.resolution)
        kept = self.measured & (unit > 0)
        if kept.sum() < 2 or self.seeds < 2:
            return _Joint(int(kept.sum()))
        unit = unit[kept]
        limit = self.shared * float(stdtrit(self.seeds - 1, 1 - tail))
        rounding = float((self.resolution[kept] / unit).mean())
        allowed, loose = (limit * math.sqrt(np.square(each[kept]).mean()) for each in (self.error, self.independent))
        # A large shift of all cells looks like seeds that do not repeat, which takes the tighter bound away.
        noticed = allowed if limit < math.sqrt(max(1, self.common[kept].min())) else loose
        return _Joint(
            int(kept.sum()),
            float((self.difference[kept] / unit).mean()),
            allowed + rounding,
            (noticed + rounding) * float(np.median(unit)),
        )


@dataclass(frozen=True)
class _Joint:
    """How many cells are taken together, their mean difference and what is allowed in standard deviations, and the
    smallest uniform shift that would be noticed.
    """

    cells: int
    difference: float = math.nan
    allowed: float = math.nan
    smallest: float = math.nan


def _scaled(name: str, values: np.ndarray, scale: str) -> np.ndarray:
    if scale == "linear":
        return values
    if (values < 0).any():
        raise checks.ParameterError(
            f"{name} must be made of positive numbers on a log scale, but {values[values < 0][0]:g} was given."
        )
    with np.errstate(divide="ignore"):
        return np.log10(values)


def _special(here: np.ndarray, evidence: np.ndarray, there: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Cells [cells] that disagree in what is missing or infinite: seed by seed where seeds are common; otherwise what
    is seen here must have been seen in the evidence, and a cell all of one kind must be so here.
    """
    kind_here, kind_known = (
        np.where(np.isnan(table), 2, np.where(np.isinf(table), np.sign(table), 0.5)) for table in (here, evidence)
    )
    common = there & known
    paired = ((kind_here != kind_known) & common).any(1)
    unpaired = np.zeros(len(here), bool)
    for kind in (2, -1, 1, 0.5):
        seen_here, seen_known = (kind_here == kind) & there, (kind_known == kind) & known
        new = seen_here.any(1) & ~seen_known.any(1)
        always = (seen_known.sum(1) == known.sum(1)) & (seen_here.sum(1) < there.sum(1))
        unpaired |= new | (always & (kind != 0.5))
    return np.where(common.any(1), paired, unpaired)


def _compare(name: str, quantity: Quantity, rerun: pd.DataFrame, evidence: pd.DataFrame, cells: pd.Index) -> _Compared:
    """One quantity in all cells."""
    seeds = rerun.index.unique(level=-1).union(evidence.index.unique(level=-1))
    here, there = _matrix(rerun[name], cells, seeds)
    known, held = _matrix(evidence[name], cells, seeds)
    here, known = (_scaled(name, values, quantity.scale) for values in (here, known))
    finite, proven = np.isfinite(here), np.isfinite(known)
    common = finite & proven
    sd, freedom = _spread(known, proven)
    means = _mean(here, finite), _mean(known, proven)
    pairs = np.where(common, here, 0.0) - np.where(common, known, 0.0)

    drift = _drift(pairs, common, sd)
    with np.errstate(divide="ignore"):
        independent = 1 / finite.sum(1) + 1 / proven.sum(1)
        repeated = 2 * np.maximum(drift, _DRIFT) / common.sum(1)
    paired = common.any(1) & (np.isnan(drift) | (repeated <= independent))
    difference = np.where(paired, _mean(pairs, common), means[0] - means[1])
    together = paired & ~np.isnan(drift)
    error = np.sqrt(np.where(together, repeated, independent))
    freedom = np.where(together, np.maximum(proven.sum(1) - 1, 0).sum(), freedom)
    if quantity.scale == "linear":
        rounding = _ROUNDING * np.abs(np.nan_to_num(means[1]))
    else:
        rounding = np.full(len(cells), math.log10(1 + _ROUNDING))
    resolution = np.maximum(quantity.resolution, rounding)

    out = _special(here, known, there, held)
    nothing = ~out & ~(finite.any(1) & proven.any(1))
    difference = np.where(out, math.inf, np.where(nothing, 0.0, difference))
    error, independent = (np.where(out | nothing, math.nan, each) for each in (error, np.sqrt(independent)))
    unit = np.hypot(sd, resolution)
    use = proven & (np.isfinite(error) & (unit > 0))[:, None]
    residual = np.where(use, (known - means[1][:, None]) / np.where(unit > 0, unit, 1.0)[:, None], math.nan)
    by_seed = _mean(residual.T, use.T)
    by_seed = by_seed[np.isfinite(by_seed)]
    count = len(by_seed)
    shared = math.sqrt(np.square(by_seed).sum() / (count - 1)) if count > 1 else math.nan
    shown = [_mean(table, present) for table, present in ((here, there), (known, held))]
    return _Compared(
        here=shown[0],
        evidence=shown[1],
        difference=difference,
        sd=sd,
        freedom=freedom,
        error=error,
        independent=independent,
        common=common.sum(1),
        resolution=resolution,
        shared=shared,
        seeds=count,
    )


def agreement(
    rerun: pd.DataFrame,
    evidence: pd.DataFrame,
    keys: Sequence[str],
    quantities: Mapping[str, Quantity | float],
    replicate: str = "seed",
    level: float = 0.01,
) -> Agreement:
    """Compare a rerun with the evidence in the cells (values of ``keys``) that both have.

    ``quantities``: the columns to compare; a number stands for a linear quantity of that resolution. A cell disagrees
    when its difference is more than ``limit`` standard errors and the resolution, where the limit is Student's t at the
    degrees of freedom of its spread. Without any spread known (one seed a cell) it may differ by the resolution. Equal
    infinities agree and so do two missing values; one missing or one infinite value disagrees.

    Cells of one page share seeds, so the joint test takes its error from the spread over seeds of the *mean over
    cells*, which knows how cells move together. ``level``: the chance that a page of correct code fails. Seeds that
    are common but do not repeat exactly are within it as long as they repeat in all cells alike; if they repeat in nine
    of ten cells and not in the last, such a cell has a chance of about 5 % to be named. Seeds far from normal cost
    more: where one in twenty fails outright and other seeds are run here, a page of 20 cells fails with about 15 %.
    """
    checks.number("level", level, above=0, high=0.5)
    wanted = {
        name: given if isinstance(given, Quantity) else Quantity(checks.number(name, given, low=0))
        for name, given in quantities.items()
    }
    here = _labelled("rerun", rerun, [*keys, replicate], list(wanted))
    there = _labelled("evidence", evidence, [*keys, replicate], list(wanted))
    one = "cell"
    if not keys:
        here, there = (pd.concat({one: table}) for table in (here, there))
    names = [table.index.droplevel(-1).unique() for table in (here, there)]
    cells = names[0][names[0].isin(names[1])]
    compared = len(cells) if wanted else 0
    found = {name: _compare(name, each, here, there, cells) for name, each in wanted.items()} if compared else {}

    single = level / (4 * max(1, sum(int(each.measured.sum()) for each in found.values())))
    together = level / (4 * max(1, len(found)))
    table = rerun.loc[~here.index.droplevel(-1).duplicated(), list(keys)].reset_index(drop=True)
    shown = table[names[0].isin(names[1])].reset_index(drop=True) if keys else pd.DataFrame(index=range(compared))
    outs, joint, smallest = [], [], []
    for name, each in found.items():
        allowed = each.allowed(single)
        all_cells = each.joint(together)
        rows = shown.assign(
            quantity=name, here=each.here, evidence=each.evidence, difference=each.difference, allowed=allowed
        )
        outs.append(rows[np.abs(each.difference) > allowed])
        joint.append(
            {
                "quantity": name,
                "cells": all_cells.cells,
                "difference": all_cells.difference,
                "allowed": all_cells.allowed,
                "agrees": not abs(all_cells.difference) > all_cells.allowed,
            }
        )
        within = float(np.median(allowed[each.measured])) if each.measured.any() else math.nan
        words = "decades" if wanted[name].scale == "log" else ""
        smallest.append({"quantity": name, "single": within, "uniform": all_cells.smallest, "unit": words})
    columns = [*keys, "quantity", "here", "evidence", "difference", "allowed"]
    disagreeing = pd.concat(outs, ignore_index=True) if outs else pd.DataFrame(columns=columns)
    return Agreement(
        tuple(keys),
        compared,
        disagreeing,
        pd.DataFrame(joint, columns=["quantity", "cells", "difference", "allowed", "agrees"]),
        pd.DataFrame(smallest, columns=["quantity", "single", "uniform", "unit"]),
    )
