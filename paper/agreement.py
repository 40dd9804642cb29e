"""Does a rerun agree with the evidence? A test that can fail, and that says which deviation it would have noticed.

A cell (a row of a table, seeds apart) of the rerun is compared with the same cell of the evidence: their difference
against its standard error, which comes from the spread over seeds in the evidence. Where both have seeds in common the
difference is taken over those seeds: the same code gives the same numbers there, so that the standard error of
independent seeds, which is used all the same, is an upper bound (training may be chaotic, and rounding differs between
machines). Besides single cells each quantity is tested as a whole, so that a small shift everywhere is noticed too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from lib import checks
from paper.words.names import words

#: Standard errors beyond which two means that share their seeds disagree.
PAIRED = 3.5
#: Chance of a false alarm on a page whose seeds are all others than those of the evidence.
LEVEL = 0.01
#: So many seeds' worth of the mean variance over cells joins that of each cell: a few seeds may agree by chance.
POOLED = 4
# What the digits that evidence keeps may be off.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Quantity:
    """What is compared: differences below ``resolution`` never count (a single test picture, rounding). On a "log"
    scale they are differences of log10, for norms and ratios, and what is below ``floor`` counts as that: of few
    pictures a choice may have no information at all.

    One that ``may_lack`` has no value in some seeds by what it is: the direction of a mean gradient that cannot be told
    from zero. Without any here, where the evidence lacks it in some of its seeds, a cell is not compared; of any other
    quantity that is a disagreement.
    """

    resolution: float = 0.0
    scale: Literal["linear", "log"] = "linear"
    floor: float = 0.0
    may_lack: bool = False


class Part(NamedTuple):
    """A table of a rerun with that of the evidence: one row for each seed and for each cell, which ``keys`` name."""

    name: str
    rerun: pd.DataFrame
    evidence: pd.DataFrame
    keys: Sequence[str]
    quantities: Mapping[str, Quantity | float]


_CELL = ["table", "cell", "quantity", "here", "evidence", "difference", "allowed"]


@dataclass(frozen=True)
class Agreement:
    """``cells`` has a row for each compared cell and quantity (means, difference, what is ``allowed``), ``shifts`` one
    for each quantity as a whole, in standard deviations over seeds. ``undefined`` counts what could not be compared.
    """

    cells: pd.DataFrame
    shifts: pd.DataFrame
    undefined: int = 0

    @property
    def compared(self) -> int:
        """How many cells were compared, each quantity of one counted."""
        return len(self.cells)

    @property
    def disagreeing(self) -> pd.DataFrame:
        """The cells that disagree, worst first."""
        wrong = self.cells[~(self.cells["difference"].abs() <= self.cells["allowed"])]
        return wrong.assign(size=wrong["difference"].abs() / wrong["allowed"]).sort_values("size", ascending=False)[
            _CELL
        ]

    @property
    def shifted(self) -> pd.DataFrame:
        """The quantities that are shifted as a whole."""
        return self.shifts[~(self.shifts["shift"].abs() <= self.shifts["allowed"])]

    def __bool__(self) -> bool:
        return bool(self.compared) and not len(self.disagreeing) and not len(self.shifted)

    def __str__(self) -> str:
        if not self.compared:
            return "nothing to compare: the evidence holds none of this run's cells"
        lacking = f"; {self.undefined} without a value here, as in some seeds of the evidence" if self.undefined else ""
        if self:
            return f"all {self.compared} compared values agree with the evidence{lacking}"
        wrong = [f"{words(row.quantity)} of {row.cell}" for row in self.disagreeing.itertuples()]
        whole = [f"{words(row.quantity)} as a whole" for row in self.shifted.itertuples()]
        return (
            f"{len(wrong)} of {self.compared} compared values disagree with the evidence: "
            f"{'; '.join([*wrong, *whole])}{lacking}"
        )

    __repr__ = __str__

    def noticed(self) -> pd.DataFrame:
        """The smallest deviation that would have been noticed, by quantity: in one cell (median over cells), in the
        unit of the quantity (decades on a log ``scale``), and everywhere alike, in standard deviations over seeds.
        """
        by = self.cells.groupby(["table", "quantity"], sort=False)
        single = by.agg(**{"scale": ("scale", "first"), "in one cell": ("allowed", "median")})
        whole = self.shifts.set_index(["table", "quantity"])["allowed"].rename("everywhere, in deviations over seeds")
        return single.join(whole).reset_index()


def agreement(parts: Sequence[Part], replicate: str = "seed") -> Agreement:
    """Compare the tables of a rerun with those of the evidence, wherever both have a cell.

    Equal infinities and two missing means agree; one alone does not, unless its quantity ``may_lack``. A table with two
    rows for one cell and seed is a :class:`~lib.checks.ParameterError`.
    """
    given = [
        _Compared(part, quantity, one if isinstance(one, Quantity) else Quantity(float(one)), replicate)
        for part in parts
        for quantity, one in part.quantities.items()
    ]
    total = sum(len(one.cells) for one in given)
    cells = [row for one in given for row in one.judged(total)]
    shifts = [one.shift(len(given)) for one in given if len(one.cells)]
    return Agreement(
        pd.DataFrame(cells, columns=[*_CELL, "scale"]),
        pd.DataFrame(shifts, columns=["table", "quantity", "shift", "allowed"]),
        sum(one.undefined for one in given),
    )


def _wide(label: str, table: pd.DataFrame, keys: Sequence[str], quantity: str, replicate: str) -> pd.DataFrame:
    """[cells, seeds] of a quantity."""
    checks.columns(label, table, [*keys, replicate, quantity])
    rows = table[[*keys, replicate, quantity]].copy()
    for key in keys:
        if rows[key].dtype.kind == "f":
            # 0.1 * 3 and 0.3 are the same severity.
            rows[key] = [float(f"{value:.9g}") for value in rows[key]]
    if rows.duplicated([*keys, replicate]).any():
        raise checks.ParameterError(
            f"{label} must have one row for each {', '.join(keys)} and {replicate}, "
            "but one with repeated rows was given."
        )
    return rows.set_index([*keys, replicate])[quantity].astype(float).unstack(replicate)


def _critical(level: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(-stdtrit(freedom, level / 2))


class _Compared:
    """One quantity of one table."""

    def __init__(self, part: Part, quantity: str, how: Quantity, replicate: str) -> None:
        self.part, self.quantity, self.how = part, quantity, how
        here = _wide(f"rerun {part.name}", part.rerun, part.keys, quantity, replicate)
        there = _wide(f"evidence {part.name}", part.evidence, part.keys, quantity, replicate)
        self.cells = [cell for cell in here.index if cell in there.index]
        self.here, self.there = (self._scaled(side.loc[self.cells]) for side in (here, there))
        self.common = [seed for seed in self.here.columns if seed in self.there.columns]
        counts = self.there.notna().sum(axis=1).clip(lower=1)
        variance = self.there.where(np.isfinite(self.there)).var(axis=1)
        pooled = variance.mean()
        freedom = (counts - 1).clip(lower=0)
        mixed = (freedom * variance.fillna(pooled) + POOLED * pooled) / (freedom + POOLED)
        self.deviation = np.sqrt(mixed.fillna(0.0))
        self.freedom = freedom + POOLED
        self.seeds = counts
        self.undefined = 0

    def _scaled(self, side: pd.DataFrame) -> pd.DataFrame:
        if self.how.scale == "linear":
            return side
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(side.clip(lower=self.how.floor or None))

    def _sides(self, seeds: pd.DataFrame) -> pd.DataFrame:
        """The seeds that both sides are compared on: the common ones, or else all."""
        return seeds[self.common] if self.common else seeds

    def judged(self, total: int) -> list[tuple]:
        """A row of :class:`Agreement` for each cell; ``total`` cells are compared on the whole page."""
        rows = []
        for place, cell in enumerate(self.cells):
            here, there = (self._sides(side).iloc[place].dropna() for side in (self.here, self.there))
            means = [side.mean() if len(side) else math.nan for side in (here, there)]
            if self.how.may_lack and not len(here) and len(there) and self.there.iloc[place].isna().any():
                self.undefined += 1
                continue
            seeds = max(len(here), 1)
            limit = PAIRED if self.common else max(PAIRED, _critical(LEVEL / total, self.freedom.iloc[place]))
            error = self.deviation.iloc[place] * math.sqrt(1 / seeds + 1 / self.seeds.iloc[place])
            # Rounding of the stored digits is no deviation.
            rounding = _ROUNDING * max(abs(means[0]), abs(means[1])) if np.isfinite(means).all() else 0.0
            allowed = limit * error + self.how.resolution + rounding
            same = means[0] == means[1] or (math.isnan(means[0]) and math.isnan(means[1]))
            difference = 0.0 if same else means[0] - means[1]
            difference = math.inf if math.isnan(difference) else difference
            rows.append((self.part.name, self._words(cell), self.quantity, *means, difference, allowed, self.how.scale))
        return rows

    def _words(self, cell: object) -> str:
        values = cell if isinstance(cell, tuple) else (cell,)
        shown = [f"{value:g}" if isinstance(value, float) else words(str(value)) for value in values]
        return ", ".join(shown)

    def shift(self, quantities: int) -> tuple[str, str, float, float]:
        """The mean over cells, each in units of its own deviation, and how far it may lie from that of the evidence.

        Taken seed by seed first, so that cells which share their seeds do not count as independent.
        """
        size = self.there.where(np.isfinite(self.there)).abs().mean(axis=1).fillna(0.0)
        floor = np.maximum(max(self.how.resolution, 1e-12), _ROUNDING * size)
        scale = np.maximum(self.deviation, floor).to_numpy()[:, None]
        sides = [side.where(np.isfinite(side)) / scale for side in (self.here, self.there)]
        both = [self._sides(side) for side in sides]
        if self.common:
            # A cell that one side could not measure is missing from both.
            known = both[0].notna() & both[1].notna()
            both = [side.where(known) for side in both]
        means = [side.mean(axis=0).mean() for side in both]
        over = sides[1].sub(sides[1].mean(axis=1), axis=0).mean(axis=0)
        least = 1 / math.sqrt(len(self.cells))
        deviation = max(float(over.std()) if len(over) > 1 else 1.0, least)
        seeds = max(self._sides(self.here).shape[1], 1)
        error = deviation * math.sqrt(1 / seeds + 1 / max(self.there.shape[1], 1))
        freedom = max(self.there.shape[1] - 1, 1) + POOLED
        limit = PAIRED if self.common else max(PAIRED, _critical(LEVEL / quantities, freedom))
        found = means[0] - means[1]
        # The resolution is what a single cell may be off; a mean over cells may be off by as much of it as one cell.
        extra = float((self.how.resolution / scale).mean()) if self.how.resolution else 0.0
        shift = 0.0 if math.isnan(found) else float(found)
        return self.part.name, self.quantity, shift, limit * error + extra
