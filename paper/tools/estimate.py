"""What cells of evidence will take: time as they took before, or as cells like them took; and memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from paper.evidence import Evidence
from paper.studies import base

if TYPE_CHECKING:
    from paper.tools.evidence import Planned

#: What is known of times, wherever new evidence is kept.
COMMITTED = base.EVIDENCE
#: An estimate is good within this factor, either way.
FACTOR = 1.5
#: Cells from which a model of their times can be fitted, its trees, and a time below which nothing is told apart.
ENOUGH, TREES, LEAST = 50, 60, 0.01
#: Parts of the evidence, each expected from the others.
PARTS = 5
#: Memory of a process, in GiB: of 26 kinds of cells of the evidence each took 0.8 to 1.3 in its first 20 seconds.
GIB = 3.0


def time_left(seconds: float | None) -> str:
    """A time as a reader says it."""
    if seconds is None:
        return "for an unknown time"
    units = (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48), ("days", 86400, float("inf")))
    return next(f"about {seconds / unit:.0f} {name}" for name, unit, most in units if seconds < most * unit)


class Estimate:
    """What cells will take: as long as they took in the evidence, or else as their study says, or as the evidence of
    cells like them tells.
    """

    def __init__(self) -> None:
        folders = dict.fromkeys((COMMITTED, base.EVIDENCE))
        files = [file for folder in folders for file in Evidence(folder).files.values()]
        self._cells = {key: entry for file in files for key, entry in file.record["cells"].items()}

    def __call__(self, cells: Sequence[Planned]) -> float | None:
        """Seconds in all; None where nothing of a kind was measured."""
        times = [self._of(planned) for planned in cells]
        known = [time for time in times if time is not None]
        return sum(known) if len(known) == len(times) else None

    def _of(self, planned: Planned) -> float | None:
        cell = planned.cell
        if (own := self._cells.get(cell.key)) is not None:
            return own["seconds"]
        if planned.costs:
            return planned.costs.seconds(cell)
        alike = [entry["seconds"] for entry in self._cells.values() if entry["kind"] == cell.kind]
        if len(alike) < 2 or len(self._cells) < ENOUGH:
            return sum(alike) / len(alike) if alike else None
        return float(self._model.seconds([(cell.kind, json.loads(cell.text))])[0])

    @cached_property
    def _model(self) -> Model:
        return Model([(entry["kind"], entry["config"], entry["seconds"]) for entry in self._cells.values()])

    def gib(self, cells: Sequence[Planned]) -> float:
        """Memory that a process needs for a batch of cells, all of it, in GiB."""
        own = (planned.costs.memory(planned.cell) / 2**30 for planned in cells if planned.costs)
        return GIB + max(own, default=0.0)


def _flat(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The entries of a configuration as numbers: sizes by their logarithm, words and truth values as names."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flat(f"{name}.{key}", entry)
    elif isinstance(value, list | tuple):
        yield f"{name} of", math.log(1 + len(value))
        for entry in value:
            if isinstance(entry, str):
                yield f"{name} with {entry}", 1.0
            elif isinstance(entry, Mapping):
                yield from _flat(name, entry)
    elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        yield name, math.log(value)
    elif not (isinstance(value, str) and len(value) >= 12 and set(value) <= set("0123456789abcdef")):
        yield f"{name} is {value}", 1.0  # all but checksums


def _features(kind: str, config: Mapping[str, Any]) -> dict[str, float]:
    found = {"kind is " + kind: 1.0, **dict(_flat("", config))}
    # Steps, replicas and chips multiply.
    sizes = [value for name, value in found.items() if name.endswith((" of", "steps", "chips", "gradients"))]
    return {**found, "in all": sum(sizes)}


class Model:
    """Seconds from configurations, fitted to cells (kind, configuration, seconds) whose time is known: random trees on
    the logarithms of sizes and times.
    """

    def __init__(self, known: Sequence[tuple[str, Mapping[str, Any], float]]) -> None:
        from sklearn.ensemble import ExtraTreesRegressor
        from sklearn.feature_extraction import DictVectorizer

        self._columns = DictVectorizer(sparse=False)
        features = self._columns.fit_transform([_features(kind, config) for kind, config, _ in known])
        self._trees = ExtraTreesRegressor(TREES, max_features=0.6, random_state=0)
        self._trees.fit(features, np.log([max(seconds, LEAST) for *_, seconds in known]))

    def seconds(self, cells: Sequence[tuple[str, Mapping[str, Any]]]) -> np.ndarray:
        """What cells will take."""
        return np.exp(self._trees.predict(self._columns.transform([_features(*cell) for cell in cells])))


def _session(file: str, origin: Mapping[str, Any]) -> str:
    """Cells that were computed in one go, on a machine with as much to do."""
    return f"{file} {origin['commit']} {origin['date']}"


def measured() -> pd.DataFrame:
    """Every cell of the committed evidence: what it took, and what was to be expected of it from other cells.

    Columns: ``kind``, ``session``, ``seconds``, ``expected``. Each cell is expected by a model of four fifths of the
    cells, of which it is none, times what those tell of the session that computed it: their median ratio.
    """
    rows = [
        (entry["kind"], _session(name, file.record["origins"][entry["origin"]]), entry["seconds"], entry["config"])
        for name, file in Evidence(COMMITTED).files.items()
        for entry in file.record["cells"].values()
    ]
    found = pd.DataFrame(rows, columns=["kind", "session", "seconds", "config"])
    part = np.random.default_rng(0).permutation(len(found)) % PARTS
    expected = np.zeros(len(found))
    for number in range(PARTS):
        known, asked = found[part != number], found[part == number]
        model = Model(list(zip(known["kind"], known["config"], known["seconds"], strict=True)))
        expected[part == number] = model.seconds(list(zip(asked["kind"], asked["config"], strict=True)))
    found["expected"] = expected
    ratio = np.log(found["seconds"].clip(lower=LEAST) / found["expected"])
    for number in range(PARTS):
        speed = ratio[part != number].groupby(found["session"]).median()
        here = part == number
        found.loc[here, "expected"] *= np.exp(found.loc[here, "session"].map(speed).fillna(0.0))
    return found.drop(columns="config")


def in_jobs(cells: pd.DataFrame, minutes: float) -> pd.DataFrame:
    """The cells, in their order, in jobs of so many expected minutes: ``seconds`` and ``expected``."""
    number = (cells["expected"].cumsum() // (60 * minutes)).astype(int)
    return cells.groupby(number)[["seconds", "expected"]].sum()


def within(table: pd.DataFrame) -> float:
    """The share of rows whose time lies within :data:`FACTOR` of what was expected."""
    ratio = table["seconds"].clip(lower=LEAST) / table["expected"]
    return float(((ratio < FACTOR) & (ratio > 1 / FACTOR)).mean())


def against(minutes: float = 5) -> str:
    """What cells were expected to take against what they took, kind by kind, and jobs of them."""
    cells = measured()
    lines = [f"{'kind':<22}{'cells':>6}{'took, s':>10}{'expected':>10}   within a factor of {FACTOR:g}"]
    for kind, own in cells.groupby("kind"):
        sums = f"{own['seconds'].sum():10.0f}{own['expected'].sum():10.0f}"
        lines.append(f"{kind:<22}{len(own):6d}{sums}{within(own):8.0%}")
    jobs = in_jobs(cells, minutes)
    long = cells[cells["seconds"] >= 5]
    lines += [
        f"cells: {within(cells):.0%} of {len(cells)} within a factor of {FACTOR:g};"
        f" {within(long):.0%} of those that take five seconds or more",
        f"jobs of about {minutes:g} minutes: {within(jobs):.0%} of {len(jobs)}",
    ]
    return "\n".join(lines)
