"""What cells of evidence will take: time as they took before, or as cells like them took; and memory."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from paper.evidence import Evidence, File
from paper.studies import base

if TYPE_CHECKING:
    from paper.tools.evidence import Planned

#: What is known of times, wherever new evidence is kept.
COMMITTED = base.EVIDENCE
#: An estimate is good within this factor, either way.
FACTOR = 1.5
#: Cells from which a model of their times can be fitted, its trees, and a time below which nothing is told apart.
ENOUGH, TREES, LEAST = 50, 30, 0.01
#: How often the model and the speeds of the sessions that it was fitted to are told apart anew.
ROUNDS = 2
#: Parts of the evidence, each expected from the others.
PARTS = 5
#: Cells that two sessions must share to tell how fast one was against the other.
SHARED = 6
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
        self._cells = {key: entry for file in files for key, entry in _cells(file).items()}

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
        asked = pd.DataFrame({"kind": [cell.kind], "config": [json.loads(cell.text)]})
        return float(self._model.seconds(asked)[0])

    @cached_property
    def _model(self) -> Model:
        return Model(pd.DataFrame(self._cells.values(), columns=["kind", "config", "seconds", "session"]))

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
    """Seconds from configurations, fitted to cells whose time is known: random trees on the logarithms of sizes and
    times, with a speed for each session, since a machine that had other things to do says little of what a cell takes.

    ``known`` has the columns ``kind``, ``config``, ``seconds`` and ``session``.
    """

    def __init__(self, known: pd.DataFrame) -> None:
        from sklearn.ensemble import ExtraTreesRegressor
        from sklearn.feature_extraction import DictVectorizer

        self._columns = DictVectorizer(sparse=False)
        features = self._columns.fit_transform(_all_features(known))
        took = np.log(known["seconds"].clip(lower=LEAST))
        #: The logarithm of how much longer than usual cells took, by session.
        self.slowness = pd.Series(0.0, index=known["session"].unique())
        shared = {"n_estimators": TREES, "max_features": 0.6, "random_state": 0}
        for _ in range(ROUNDS):
            # Each cell is looked at by the trees that have not seen it.
            others = ExtraTreesRegressor(**shared, bootstrap=True, oob_score=True)
            others.fit(features, took - known["session"].map(self.slowness))
            self.slowness = (took - others.oob_prediction_).groupby(known["session"]).median()
        self._trees = ExtraTreesRegressor(**shared).fit(features, took - known["session"].map(self.slowness))

    def seconds(self, cells: pd.DataFrame) -> np.ndarray:
        """What cells (``kind``, ``config``) will take, or would have taken in their session where that is known."""
        expected = self._trees.predict(self._columns.transform(_all_features(cells)))
        slowness = cells["session"].map(self.slowness).fillna(0.0).to_numpy() if "session" in cells else 0.0
        return np.exp(expected + slowness)


def _all_features(cells: pd.DataFrame) -> list[dict[str, float]]:
    return [_features(kind, config) for kind, config in zip(cells["kind"], cells["config"], strict=True)]


def _cells(file: File) -> dict[str, dict[str, Any]]:
    """The cells of a file of evidence, each with its ``session``: cells that were computed in one go, on a machine with
    as much to do.
    """
    return _in_sessions(file.path.stem, file.record)


def _in_sessions(name: str, record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    named = [f"{name} {origin['commit']} {origin['date']}" for origin in record["origins"]]
    return {key: {**entry, "session": named[entry["origin"]]} for key, entry in record["cells"].items()}


def measured() -> pd.DataFrame:
    """Every cell of the committed evidence: what it took, and what was to be expected of it from other cells.

    Columns: ``kind``, ``session``, ``seconds``, ``expected``. Each cell is expected by a model of four fifths of the
    cells, of which neither it is one nor any that shared its batch, and whose share of the time is the same.
    """
    rows = [entry for file in Evidence(COMMITTED).files.values() for entry in _cells(file).values()]
    found = pd.DataFrame(rows, columns=["kind", "session", "seconds", "config"])
    batch = found.groupby(["session", "kind", "seconds"], sort=False).ngroup()
    part = batch.map(pd.Series(np.random.default_rng(0).permutation(batch.max() + 1) % PARTS))
    found["expected"] = 0.0
    for number in range(PARTS):
        asked = part == number
        found.loc[asked, "expected"] = Model(found[~asked]).seconds(found[asked])
    return found.drop(columns="config")


def repeated(revisions: int = 1000) -> pd.DataFrame:
    """Cells that were measured twice, as the repository's history has them: how far one says the other.

    Columns: ``kind``, ``seconds`` and ``expected``, which is the other time with the speeds of the two sessions taken
    off. Empty where there is no history.
    """

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(COMMITTED), *words], capture_output=True, text=True).stdout

    seen: dict[str, dict[str, tuple[str, float]]] = {}
    files: set[tuple[str, str]] = set()
    for commit in git("log", "--format=%H", f"-{revisions}", "--", ".").split():
        lines = [line.split() for line in git("ls-tree", commit, ".").splitlines()]
        files |= {(Path(path).stem, blob) for *_, blob, path in lines if path.endswith(".json")}
    for name, blob in sorted(files):
        record = json.loads(git("cat-file", "blob", blob))
        for key, entry in _in_sessions(name, record).items() if "origins" in record else ():
            seen.setdefault(key, {})[entry["session"]] = (entry["kind"], entry["seconds"])
    rows = [
        (own[one][0], f"{one} and {other}", own[one][1], own[other][1])
        for own in seen.values()
        for one, other in itertools.combinations(sorted(own), 2)
        if own[one][1] != own[other][1]  # else taken over from there
    ]
    found = pd.DataFrame(rows, columns=["kind", "sessions", "seconds", "again"])
    ratio = np.log(found["seconds"].clip(lower=LEAST) / found["again"].clip(lower=LEAST))
    sessions = ratio.groupby(found["sessions"])
    found["expected"] = found["again"].clip(lower=LEAST) * np.exp(sessions.transform("median"))
    return found.loc[sessions.transform("size") >= SHARED, ["kind", "seconds", "expected"]]


def in_jobs(cells: pd.DataFrame, minutes: float) -> pd.DataFrame:
    """The cells, in their order, in jobs of so many expected minutes: ``seconds`` and ``expected``."""
    number = (cells["expected"].cumsum() // (60 * minutes)).astype(int)
    return cells.groupby(number)[["seconds", "expected"]].sum()


def within(table: pd.DataFrame, factor: float = FACTOR) -> float:
    """The share of rows whose time lies within a factor of what was expected."""
    ratio = table["seconds"].clip(lower=LEAST) / table["expected"]
    return float(((ratio < factor) & (ratio > 1 / factor)).mean())


def attainable(twice: pd.DataFrame) -> float:
    """The share of cells that would lie within :data:`FACTOR` of a perfect expectation, from cells measured twice: of
    two measurements each has an error, so their ratio spreads more than one of them, by the root of two.
    """
    return within(twice, FACTOR**2**0.5)


def summary() -> str:
    """How near the committed cells, and jobs of them, come to what was expected (Markdown)."""
    cells = measured()
    jobs = [f"{within(in_jobs(cells, minutes)):.0%} of jobs of {minutes} minutes" for minutes in (10, 5)]
    return (
        f"Of the evidence in this book {', '.join(jobs)}, and {within(cells):.0%} of single cells, took within a "
        f"factor of {FACTOR:g} of what is expected of them by a model of the others, none of their batch among them."
    ).replace("%", " %")


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
    if len(twice := repeated()):
        lines.append(
            f"the same cell measured twice: {within(twice):.0%} of {len(twice)} pairs;"
            f" so a perfect expectation would reach about {attainable(twice):.0%} of cells"
        )
    return "\n".join(lines)
