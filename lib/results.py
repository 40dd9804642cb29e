"""Tidy tables and where they come from: cells of a study, the store that keeps them, and their provenance.

A :class:`Cell` is one training batch of a study: the unit that is computed, stored, resumed and sent to a cluster.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import checks, code

Tables = dict[str, pd.DataFrame]

#: Replicas that are computed as one batch: on a CPU more bring nothing, and what is finished is stored in between.
TOGETHER = {"cpu": 16, "cuda": 256}

_MISSING = "nan"


class DamagedResult(ValueError):
    """A stored result that is not what was written; the message says which file and what to do."""


def plain(value: object) -> Any:
    """A configuration value as JSON knows it; numpy numbers become Python's, tuples lists."""
    if value is None or isinstance(value, str | bool | int | float):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    raise checks.ParameterError(
        f"configuration must be made of numbers, words, lists and mappings, but a {type(value).__name__} was given."
    )


def _name(name: str, given: str) -> str:
    if not isinstance(given, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", given):
        raise checks.ParameterError(f"{name} must be a plain word (letters, digits, _ . -), but {given!r} was given.")
    return given


def tidied(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table as a text file can hold it, and the type of each column; a missing word becomes an empty one."""
    types: dict[str, str] = {}
    tidy = table.infer_objects().reset_index(drop=True)
    for column in tidy.columns:
        if not isinstance(column, str) or column in types:
            raise checks.ParameterError(f"table must have different words as column names, but {column!r} was given.")
        values = tidy[column]
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biuf":
            types[column] = values.dtype.name
            continue
        words = ["" if missing else value for value, missing in zip(values, values.isna(), strict=True)]
        if not all(isinstance(word, str) for word in words):
            raise checks.ParameterError(
                "table must hold numbers, truth values or words, "
                f"but column {column!r} of type {values.dtype} was given."
            )
        types[column] = "str"
        tidy[column] = pd.Series(words, dtype="str")
    return tidy, types


def to_csv(table: pd.DataFrame) -> str:
    """A tidied table as text, floats to the last bit."""
    return table.to_csv(index=False, na_rep=_MISSING, lineterminator="\n")


def _column(words: Sequence[str], kind: str) -> pd.Series:
    if kind == "str":
        return pd.Series(words, dtype="str")
    if kind == "bool":
        return pd.Series([{"True": True, "False": False}[word] for word in words], dtype="bool")
    parse = float if kind.startswith("float") else int
    return pd.Series([parse(word) for word in words], dtype=kind)


def words_of(text: str) -> pd.DataFrame:
    """A table of words as it stands in a CSV file: nothing is missing, nothing is a number."""
    return pd.read_csv(io.StringIO(text), dtype="str", na_filter=False, skip_blank_lines=False)


def typed(words: pd.DataFrame, types: Mapping[str, str]) -> pd.DataFrame:
    """The columns named in ``types``, with their types: floats to the last bit, words such as "none" or "" as words."""
    # Python parses the numbers: pandas' own default has been less than exact in some versions.
    return pd.DataFrame({column: _column(words[column].tolist(), kind) for column, kind in types.items()})


def from_csv(text: str, types: Mapping[str, str]) -> pd.DataFrame:
    """Read back what :func:`to_csv` wrote."""
    return typed(words_of(text), types)


def write(path: Path, content: bytes) -> None:
    """All or nothing: a reader sees the old file or the whole new one."""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        reason = error.strerror or type(error).__name__
        raise checks.ParameterError(
            f"results must be a folder that can be written, but {str(path.parent)!r} ({reason}) was given."
        ) from error


@dataclass(frozen=True, eq=False)
class Cell:
    """One training batch of a study.

    ``kind`` names the computation, ``config`` (numbers, words, lists, mappings) is everything that decides its numbers
    apart from the code; two cells with equal kind and config are the same cell. ``compute`` is a function of a module,
    so that its code can be told from that of the study's sentences: ``compute(config, site)`` gives named tables, where
    ``site`` says where it is computed: the "device", and what else the cell's own ``site`` holds (folders of pictures
    or weights, which decide nothing). Cells of equal kind and ``batch`` may be computed together: then ``compute``
    takes a list of configurations and gives a list. ``size`` counts a cell's replicas. ``uses`` are objects whose
    classes belong to the code: the perturbation or the gate in use.
    """

    kind: str
    config: Mapping[str, Any]
    compute: Callable[..., Any]
    batch: str | None = None
    size: int = 1
    uses: tuple[object, ...] = ()
    site: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """The configuration as JSON."""
        return json.dumps(plain(self.config), sort_keys=True, ensure_ascii=True)

    @cached_property
    def key(self) -> str:
        """What tells this cell from others, in twelve digits."""
        return hashlib.sha256(f"{_name('kind', self.kind)}:{self.text}".encode()).hexdigest()[:12]

    @cached_property
    def code(self) -> str | None:
        """The version of the code that computes it; None where a class of the reader's has no source to be read."""
        try:
            return code.version(self.compute, *self.uses)
        except checks.ParameterError:
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def groups(cells: Sequence[Cell], device: str) -> list[list[Cell]]:
    """The cells as batches that are computed together, at most :data:`TOGETHER` replicas each on this device."""
    most = TOGETHER.get(device.partition(":")[0], TOGETHER["cpu"])
    found: list[list[Cell]] = []
    open_: dict[tuple[str, str], list[Cell]] = {}
    for cell in dict.fromkeys(cells):
        group = open_.get((cell.kind, cell.batch)) if cell.batch is not None else None
        if group is None or sum(one.size for one in group) + cell.size > most:
            group = []
            found.append(group)
            if cell.batch is not None:
                open_[cell.kind, cell.batch] = group
        group.append(cell)
    return found


def computed(group: Sequence[Cell], device: str) -> list[Tables]:
    """The tables of a batch of cells, computed here and now."""
    first = group[0]
    site = {**first.site, "device": device}
    if first.batch is None:
        return [first.compute(first.config, site)]
    return list(first.compute([cell.config for cell in group], site))


@dataclass(frozen=True)
class Stored:
    """What is kept of a cell."""

    tables: Tables
    provenance: dict[str, Any]


class Store:
    """Finished cells in a folder, one file each: their tables, what they are, and where they come from.

    A cell is found under its kind, configuration and the version of its code.
    """

    def __init__(self, root: str | Path) -> None:
        if not isinstance(root, str | Path):
            raise checks.ParameterError(f"results must be the path of a folder, but {root!r} was given.")
        self.root = Path(os.path.expanduser(root))
        #: What computing all the tables took that :meth:`fetch` has returned, now or when they were stored, in seconds.
        self.seconds = 0.0

    def _file(self, cell: Cell) -> Path:
        return self.root / cell.kind / f"{cell.key}-{cell.code}.zip"

    def has(self, cell: Cell) -> bool:
        """Is there a file of the cell? It may be damaged."""
        return cell.code is not None and os.path.exists(self._file(cell))

    def get(self, cell: Cell) -> Stored | None:
        """What is stored of the cell, None if there is nothing; a damaged file raises :class:`DamagedResult`."""
        path = self._file(cell)
        try:
            if cell.code is None or not path.exists():
                return None
        except OSError as error:
            given = f"{str(self.root)!r} ({error.strerror}) was given."
            raise checks.ParameterError(f"results must be a folder that can be read, but {given}") from None
        try:
            with zipfile.ZipFile(path) as packed:
                record = json.loads(packed.read("record.json"))
                texts = {name: packed.read(f"{name}.csv").decode("utf-8") for name in record["types"]}
            tables = {name: from_csv(texts[name], types) for name, types in record["types"].items()}
            if record["config"] != json.loads(cell.text) or not tables:
                raise ValueError("it belongs to another configuration")
            if not math.isfinite(record["provenance"].get("seconds", 0.0)):
                raise ValueError("its time is no number")
            return Stored(tables, record["provenance"])
        except Exception:  # whatever reading raises; no code is run by it
            shown = f"{cell.kind}/{path.name}"
            raise DamagedResult(f"The stored result {shown} is damaged; delete it or run it again.") from None

    def put(self, cell: Cell, tables: Mapping[str, pd.DataFrame], provenance: Mapping[str, object]) -> Stored:
        """Keep the tables of a cell (numbers, truth values, words; indices are not kept). All or nothing.

        Returns what a later :meth:`get` will. A cell whose code cannot be read is not kept.
        """
        texts, types = {}, {}
        for name, table in tables.items():
            tidy, types[_name("table", name)] = tidied(table)
            texts[name] = to_csv(tidy)
        kept = {name: from_csv(text, types[name]) for name, text in texts.items()}
        if cell.code is not None:
            record = {"config": json.loads(cell.text), "types": types, "provenance": plain(provenance)}
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, text in (("record.json", json.dumps(record)), *((f"{n}.csv", t) for n, t in texts.items())):
                    archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
            path = self._file(cell)
            checks.writable("results", path.parent, need=len(packed.getvalue()) + 2**16)
            write(path, packed.getvalue())
        return Stored(kept, dict(provenance))

    def fetch(self, cells: Sequence[Cell], device: str) -> dict[Cell, Tables]:
        """The tables of every cell: what is stored, and the rest computed in batches and stored as it is finished.

        A damaged file is computed again, and its provenance then says why (``replaced``).
        """
        found: dict[Cell, Tables] = {}
        replaced: dict[Cell, dict[str, str]] = {}
        for cell in dict.fromkeys(cells):
            try:
                stored = self.get(cell)
            except DamagedResult as error:
                stored, replaced[cell] = None, {"replaced": str(error)}
            if stored is not None:
                self.seconds += stored.provenance.get("seconds", 0.0)
                found[cell] = stored.tables
        missing = [cell for cell in dict.fromkeys(cells) if cell not in found]
        if missing:
            # A folder that cannot be written is found out before hours of compute.
            checks.writable("results", self.root)
        for cell, tables, origin in measured(missing, device):
            self.seconds += origin["seconds"]
            found[cell] = self.put(cell, tables, {**origin, **replaced.get(cell, {})}).tables
        return {cell: found[cell] for cell in cells}


def measured(cells: Sequence[Cell], device: str) -> Iterator[tuple[Cell, Tables, dict[str, Any]]]:
    """Compute cells batch by batch: each with its tables and provenance. A batch's time is shared out equally."""
    for group in groups(cells, device):
        began = time.perf_counter()
        tables = computed(group, device)
        origin = provenance(device, (time.perf_counter() - began) / len(group))
        yield from ((cell, own, origin) for cell, own in zip(group, tables, strict=True))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _device_name(device: object) -> str:
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(torch.device(str(device)))
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine() or "unknown"


def _commit() -> str:
    """The commit of this checkout, with "+changes" when its Python code differs from it."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An installed copy may lie inside some other repository, whose commit says nothing.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return "unknown"
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--", "*.py") else commit
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def provenance(device: object, seconds: float) -> dict[str, Any]:
    """Where numbers come from: versions, device, threads, wall time in seconds, commit, date (UTC).

    No path and no host name, so that it can be published.
    """
    from lib import runtime

    return {
        "python": platform.python_version(),
        "torch": _version("torch"),
        "open_clip": _version("open_clip_torch"),
        "numpy": _version("numpy"),
        "device": str(device),
        "device_name": _device_name(device),
        "threads": runtime.threads(),
        "seconds": round(float(seconds), 3),
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }
