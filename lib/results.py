"""Tidy tables on disk: the store of finished runs, their provenance, and agreement with the committed
reference.
"""

from __future__ import annotations

import contextlib
import gzip
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import checks

_LIBRARY = Path(__file__).resolve().parent
_MISSING = "nan"


class DamagedResult(ValueError):
    """A stored result that is not what was written; the message says which file and what to do."""


def repository() -> Path:
    """The folder that holds ``results/``: the checkout of this project, or else the working folder."""
    return _LIBRARY.parent if (_LIBRARY.parent / "pyproject.toml").is_file() else Path.cwd()


def code_version(*modules: str) -> str:
    """Short hash over the source of modules and packages of ``lib``, for example
    ``code_version("gradients", "hardware", "studies.perturbation")``; without names, over all of ``lib``.
    """
    digest = hashlib.sha256()
    for module in sorted(set(modules)) or ["."]:
        home = _LIBRARY.parent / "paper" if module.startswith("studies") else _LIBRARY
        base = home.joinpath(*module.split(".")) if module != "." else _LIBRARY
        files = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
        if not files or not files[0].is_file():
            raise checks.ParameterError(f"module must be one of lib's modules or packages, but {module!r} was given.")
        for file in files:
            # Line endings follow the platform of a checkout, not the code.
            source = file.read_bytes().replace(b"\r\n", b"\n")
            name = file.relative_to(home if module != "." else _LIBRARY).as_posix()
            digest.update(f"{name}:{len(source)}:".encode() + source)
    return digest.hexdigest()[:12]


def _plain(value: object) -> Any:
    """A configuration value as JSON knows it; numpy numbers become Python's, tuples lists."""
    if value is None or isinstance(value, str | bool | int | float):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    raise checks.ParameterError(
        f"configuration must be made of numbers, words, lists and mappings, but a {type(value).__name__} was given."
    )


def _name(name: str, given: str) -> str:
    if not isinstance(given, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", given):
        raise checks.ParameterError(f"{name} must be a plain word (letters, digits, _ . -), but {given!r} was given.")
    return given


def _tidy(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table as a text file can hold it, and the type of each column; a missing word becomes an empty
    one.
    """
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


def _to_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, na_rep=_MISSING, lineterminator="\n")


def _column(words: Sequence[str], kind: str) -> pd.Series:
    if kind == "str":
        return pd.Series(words, dtype="str")
    if kind == "bool":
        return pd.Series([{"True": True, "False": False}[word] for word in words], dtype="bool")
    parse = float if kind.startswith("float") else int
    return pd.Series([parse(word) for word in words], dtype=kind)


def _from_csv(text: str, types: Mapping[str, str]) -> pd.DataFrame:
    """Read back what ``_to_csv`` wrote: floats to the last bit, words such as "none" or "" as words."""
    # Python parses the numbers: pandas' own default has been less than exact in some versions.
    words = pd.read_csv(io.StringIO(text), dtype="str", na_filter=False, skip_blank_lines=False)
    return pd.DataFrame({column: _column(words[column].tolist(), types[column]) for column in words.columns})


def _write(path: Path, content: bytes) -> None:
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


class Store:
    """Finished tables by kind and configuration, one compressed CSV with a JSON side file each.

    The key is the configuration together with the version of the code: ``config["code"]``, which a study
    sets with :func:`code_version` over the modules that it stands on; without that entry, all of ``lib``
    counts.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        """``root``: a folder, or None or "auto" for ``results/store`` of this project. Checked for writing
        here.
        """
        chosen = repository() / "results" / "store" if root is None or root == "auto" else root
        self.root = checks.writable("results", chosen)
        #: What computing all the tables took that :meth:`get_or_run` has returned, now or when they were stored.
        self.seconds = 0.0

    def _locate(self, kind: str, config: Mapping[str, object]) -> tuple[Path, Path, dict[str, Any]]:
        complete = _plain({"code": code_version(), **config} if "code" not in config else config)
        text = json.dumps(complete, sort_keys=True, ensure_ascii=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:20]
        folder = self.root / _name("kind", kind)
        # Through JSON once, so that it compares equal to what a side file holds (nan apart).
        return folder / f"{key}.csv.gz", folder / f"{key}.json", json.loads(text)

    def _load(self, kind: str, config: Mapping[str, object]) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        data, side, complete = self._locate(kind, config)
        if not side.exists():
            return None
        damaged = f"The stored result {kind}/{data.name} is damaged ({{}}); delete it or run it again."
        try:
            record = json.loads(side.read_text(encoding="utf-8"))
            types, checksum, provenance = record["types"], record["sha256"], record["provenance"]
            same = json.dumps(record["config"], sort_keys=True) == json.dumps(complete, sort_keys=True)
        except (OSError, ValueError, KeyError, TypeError):
            raise DamagedResult(damaged.format("its side file cannot be read")) from None
        if not same:
            raise DamagedResult(damaged.format("it belongs to another configuration"))
        try:
            packed = data.read_bytes()
        except OSError:
            raise DamagedResult(damaged.format("the table is missing")) from None
        if hashlib.sha256(packed).hexdigest() != checksum:
            raise DamagedResult(damaged.format("its checksum does not match"))
        try:
            return _from_csv(gzip.decompress(packed).decode("utf-8"), types), provenance
        except (ValueError, KeyError, TypeError):
            raise DamagedResult(damaged.format("its side file does not fit the table")) from None

    def get(self, kind: str, config: Mapping[str, object]) -> pd.DataFrame | None:
        """The stored table, None if there is none; a damaged one raises :class:`DamagedResult`."""
        loaded = self._load(kind, config)
        return None if loaded is None else loaded[0]

    def provenance(self, kind: str, config: Mapping[str, object]) -> dict[str, Any] | None:
        """The provenance stored with a table, None if there is none."""
        loaded = self._load(kind, config)
        return None if loaded is None else loaded[1]

    def put(
        self,
        kind: str,
        config: Mapping[str, object],
        table: pd.DataFrame,
        *,
        provenance: Mapping[str, object],
    ) -> None:
        """Store a table of numbers, truth values and words; its index is not kept. Atomic."""
        data, side, complete = self._locate(kind, config)
        tidy, types = _tidy(table)
        # mtime=0: equal tables give equal files, so two runs that finish together do not disturb each other.
        packed = gzip.compress(_to_csv(tidy).encode("utf-8"), mtime=0)
        checksum = hashlib.sha256(packed).hexdigest()
        record = {"config": complete, "types": types, "sha256": checksum, "provenance": _plain(provenance)}
        checks.writable("results", data.parent, need=len(packed) + 2**16)
        # The side file comes last: a table without one does not count as finished.
        _write(data, packed)
        _write(side, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode("utf-8"))

    def get_or_run(
        self,
        kind: str,
        config: Mapping[str, object],
        run: Callable[[], pd.DataFrame],
        *,
        device: object,
        seeds: object,
    ) -> pd.DataFrame:
        """The stored table, or the table that ``run`` computes, stored with its provenance.

        A damaged result is computed again, and its provenance then says why (``replaced``). What is
        returned is always what the store holds, so a first and a second call give the same table.
        """
        return self.get_or_run_all(kind, [config], lambda _: [{0: run()}], device=device, seeds=seeds)[0]

    def get_or_run_all(
        self,
        kind: str,
        configs: Sequence[Mapping[str, object]],
        run: Callable[[list[int]], Iterable[Mapping[int, pd.DataFrame]]],
        *,
        device: object,
        seeds: object,
    ) -> list[pd.DataFrame]:
        """A table for each configuration, as :meth:`get_or_run` gives it.

        ``run`` is told the places of those that are missing and yields them in groups as they are finished, tables
        by place; what it has yielded is stored before it goes on. The time of a group is shared out equally.
        """
        found: dict[int, pd.DataFrame] = {}
        replaced: dict[int, dict[str, str]] = {}
        for place, config in enumerate(configs):
            try:
                loaded = self._load(kind, config)
            except DamagedResult as error:
                loaded, replaced[place] = None, {"replaced": str(error)}
            if loaded is not None:
                self.seconds += loaded[1].get("seconds", 0.0)
                found[place] = loaded[0]
        missing = [place for place in range(len(configs)) if place not in found]
        began = time.perf_counter()
        for group in run(missing) if missing else ():
            spent = time.perf_counter() - began
            self.seconds += spent
            for place, table in group.items():
                origin = {**provenance(device, seeds, spent / len(group)), **replaced.get(place, {})}
                self.put(kind, configs[place], table, provenance=origin)
                tidy, types = _tidy(table)
                found[place] = _from_csv(_to_csv(tidy), types)
            began = time.perf_counter()
        return [found[place] for place in range(len(configs))]


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
    """The commit of this checkout, with "+changes" when the library's code differs from it."""
    root = _LIBRARY.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An installed copy may lie inside some other repository, whose commit says nothing.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return "unknown"
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--", _LIBRARY.name) else commit
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def provenance(device: object, seeds: object, seconds: float) -> dict[str, Any]:
    """Where numbers come from: versions, device, threads, seeds, wall time in seconds, commit, date (UTC).

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
        "seeds": _plain(seeds),
        "seconds": round(float(seconds), 3),
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _reference_files(name: str, folder: Path | None) -> tuple[Path, Path]:
    base = repository() / "results" / "reference" if folder is None else Path(folder)
    plain = _name("reference", name)
    return base / f"{plain}.csv", base / f"{plain}.json"


def reference(
    name: str, required: Iterable[str], folder: Path | None = None
) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """The committed table of the full profile and its provenance, or None where there is none yet.

    A table without the ``required`` columns, or without readable provenance, is a ``ParameterError``.
    """
    data, side = _reference_files(name, folder)
    if not data.exists():
        return None
    try:
        record = json.loads(side.read_text(encoding="utf-8"))
        table = _from_csv(data.read_text(encoding="utf-8"), record["types"])
        source = dict(record["provenance"])
    except (OSError, ValueError, KeyError, TypeError):
        raise checks.ParameterError(
            f"reference {name} must be a table with its provenance, "
            f"but {data.name} with {side.name} that cannot be read together was given."
        ) from None
    checks.columns(f"reference {name}", table, required)
    return table, source


def write_reference(
    name: str, table: pd.DataFrame, provenance: Mapping[str, object], folder: Path | None = None
) -> None:
    """Write ``results/reference/NAME.csv`` and its side file ``NAME.json``."""
    data, side = _reference_files(name, folder)
    checks.writable("reference", data.parent)
    tidy, types = _tidy(table)
    record = {"types": types, "provenance": _plain(provenance)}
    _write(data, _to_csv(tidy).encode("utf-8"))
    _write(side, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode("utf-8"))


@dataclass(frozen=True)
class Agreement:
    """How many compared cells lie within their tolerance, and the worst of them.

    ``worst`` has one row per cell, the largest difference in units of its tolerance first (at most twenty):
    the keys, ``quantity``, ``here``, ``reference``, ``difference``, ``tolerance``.
    """

    compared: int
    within: int
    worst: pd.DataFrame

    def __str__(self) -> str:
        if not self.compared:
            return "nothing to compare: the reference holds none of this run's cells"
        return f"{self.within} of {self.compared} cells within tolerance"

    __repr__ = __str__


def agreement(
    table: pd.DataFrame, ref: pd.DataFrame, keys: Sequence[str], tolerances: Mapping[str, float]
) -> Agreement:
    """Compare the quantities in ``tolerances`` (absolute) wherever both tables have a row with the same
    ``keys``.

    Two missing values agree; one missing value does not.
    """
    quantities = list(tolerances)
    for label, given in (("table", table), ("reference", ref)):
        checks.columns(label, given, [*keys, *quantities])
    sides = []
    for label, given in (("table", table), ("reference", ref)):
        side = given[[*keys, *quantities]].copy()
        for key in keys:
            if side[key].dtype.kind == "f":
                # 0.1 * 3 and 0.3 are the same severity.
                side[key] = [float(f"{value:.9g}") for value in side[key]]
        if side.duplicated(list(keys)).any():
            raise checks.ParameterError(
                f"{label} must have one row for each {', '.join(keys)}, but one with repeated rows was given."
            )
        sides.append(side)
    joined = sides[0].merge(sides[1], on=list(keys), suffixes=("", " of the reference"))
    parts = []
    for quantity, tolerance in tolerances.items():
        part = joined[list(keys)].copy()
        part["quantity"] = quantity
        part["here"] = joined[quantity].astype(float)
        part["reference"] = joined[f"{quantity} of the reference"].astype(float)
        difference = (part["here"] - part["reference"]).abs()
        # Equal infinities and two missing values agree, although their difference is not a number.
        same = (part["here"] == part["reference"]) | (part["here"].isna() & part["reference"].isna())
        part["difference"] = difference.mask(same, 0.0).fillna(math.inf)
        part["tolerance"] = float(tolerance)
        parts.append(part)
    cells = pd.concat(parts, ignore_index=True) if parts else joined.iloc[:0].assign(difference=0.0, tolerance=0.0)
    fits = cells["difference"] <= cells["tolerance"]
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.nan_to_num(cells["difference"].to_numpy() / cells["tolerance"].to_numpy(), nan=0.0, posinf=math.inf)
    order = np.argsort(-excess, kind="stable")[:20]
    return Agreement(len(cells), int(fits.sum()), cells.iloc[order].reset_index(drop=True))
