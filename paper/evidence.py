"""The committed evidence: per-seed rows of every cell with their provenance, in two text files a study.

``NAME.csv`` holds the rows of all cells and tables (columns ``cell`` and ``table``, then what each table has),
``NAME.json`` says what each cell is: kind, configuration, the version of the code that computed it, where and when.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd

from lib import checks
from lib.results import Cell, DamagedResult, Stored, Tables, plain, tidied, typed, words_of, write

State = Literal["current", "stale", "missing"]

#: Digits that a number keeps: more than any measurement here is worth, and half the bytes.
DIGITS = 7
#: What one study's rows may take, in bytes.
LIMIT = 2**20


def _text(value: object, kind: str) -> str:
    return f"{value:.{DIGITS}g}" if kind.startswith("float") else str(value)


class File:
    """The evidence of one study: ``path`` is its CSV file, which need not be there yet.

    Reading is free; :meth:`put` locks the file, so that several processes may write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def _side(self) -> Path:
        return self.path.with_suffix(".json")

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the side file says: ``origins``, and ``cells`` by their key."""
        if not self._side.exists():
            return {"origins": [], "cells": {}}
        try:
            found = json.loads(self._side.read_text(encoding="utf-8"))
            cells = {key: dict(entry) for key, entry in found["cells"].items()}
            return {"origins": list(found["origins"]), "cells": cells}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise DamagedResult(f"The evidence {self._side.name} is damaged; restore it.") from None

    @cached_property
    def rows(self) -> dict[str, pd.DataFrame]:
        """The rows of every cell, as words, by the name that its record has for them."""
        if not self.path.exists():
            return {}
        try:
            words = words_of(self.path.read_text(encoding="utf-8"))
            return dict(list(words.groupby("cell", sort=False)))
        except (OSError, ValueError, KeyError):
            raise DamagedResult(f"The evidence {self.path.name} is damaged; restore it.") from None

    def state(self, cell: Cell) -> State:
        """Is there evidence of this cell, and is its code that of today?"""
        entry = self.record["cells"].get(cell.key)
        if entry is None or len(self.rows.get(entry["rows"], ())) != entry["count"]:
            return "missing"
        return "current" if entry["code"] == cell.code else "stale"

    def get(self, cell: Cell) -> Stored | None:
        """The tables of a cell with their provenance, whatever code computed them; None if there are none."""
        if self.state(cell) == "missing":
            return None
        entry = self.record["cells"][cell.key]
        nothing = pd.DataFrame(columns=["table", *{column for types in entry["tables"].values() for column in types}])
        own = self.rows.get(entry["rows"], nothing)
        try:
            tables = {name: typed(own[own["table"] == name], types) for name, types in entry["tables"].items()}
        except (KeyError, ValueError):
            raise DamagedResult(f"The evidence {self.path.name} does not fit its side file; restore both.") from None
        return Stored(tables, {**self.record["origins"][entry["origin"]], "seconds": entry["seconds"]})

    def put(self, finished: Iterable[tuple[Cell, Tables, Mapping[str, Any]]]) -> None:
        """Keep cells with their tables and provenance, each beside or in place of an older one. Safe against kills.

        A cell whose code cannot be read cannot be evidence.
        """
        with self._locked():
            self._forget()
            for cell, tables, origin in finished:
                if cell.code is None:
                    raise checks.ParameterError(
                        f"cell must be computed by code that can be read, but one of {cell.kind} was given."
                    )
                self._add(cell, tables, dict(origin))
            self._save()

    def verify(self, cell: Cell, note: Mapping[str, Any]) -> None:
        """Let the rows of a cell stand for today's code, which gave the same; ``note`` says what was tried."""
        with self._locked():
            self._forget()
            self.record["cells"][cell.key] |= {"code": cell.code, "verified": plain(note)}
            self._save()

    def merge(self, other: File, codes: Mapping[str, str | None] = MappingProxyType({})) -> int:
        """Take over what another machine, or a job, has computed: cells that are missing here, or better there. Counts
        them. Of two the better is what today's code has computed, where ``codes`` says by key which that is; then the
        newer; then one by its rows: so that the order in which files are merged decides nothing. What is half written
        is no cell, on either side.
        """
        with self._locked():
            self._forget()
            taken = 0
            for key, entry in other.record["cells"].items():
                theirs = other._rank(key, codes)
                if theirs is None or theirs <= (self._rank(key, codes) or (False, "", "")):
                    continue
                self.record["cells"][key] = {**entry, "origin": self._origin(other.record["origins"][entry["origin"]])}
                if entry["rows"] in other.rows:
                    self.rows[entry["rows"]] = other.rows[entry["rows"]]
                taken += 1
            if taken:
                self._save()
        return taken

    def _rank(self, key: str, codes: Mapping[str, str | None]) -> tuple[bool, str, str] | None:
        """How good a cell is against the same one elsewhere; None where there is not all of it."""
        entry = self.record["cells"].get(key)
        if entry is None or len(self.rows.get(entry["rows"], ())) != entry["count"]:
            return None
        return entry["code"] == codes.get(key), self.record["origins"][entry["origin"]]["date"], entry["rows"]

    def keep(self, keys: Iterable[str]) -> int:
        """Drop all cells but these; counts what was dropped."""
        wanted = set(keys)
        with self._locked():
            self._forget()
            gone = [key for key in self.record["cells"] if key not in wanted]
            for key in gone:
                del self.record["cells"][key]
            if gone:
                self._save()
        return len(gone)

    def _forget(self) -> None:
        """Read anew: another process may have written."""
        for name in ("record", "rows"):
            self.__dict__.pop(name, None)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        checks.writable("evidence", self.path.parent)
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _origin(self, origin: Mapping[str, Any]) -> int:
        """The place of an origin in the list; cells that were computed alike share one."""
        shared = {name: value for name, value in plain(origin).items() if name != "seconds"}
        if shared not in self.record["origins"]:
            self.record["origins"].append(shared)
        return self.record["origins"].index(shared)

    def _add(self, cell: Cell, tables: Tables, origin: dict[str, Any]) -> None:
        named, types = [], {}
        for name, table in tables.items():
            tidy, types[name] = tidied(table)
            words = {column: [_text(value, kind) for value in tidy[column]] for column, kind in types[name].items()}
            named.append(pd.DataFrame({"table": [name] * len(tidy), **words}, dtype="str"))
        body = pd.concat(named, ignore_index=True).fillna("")
        # Named by their content: rows that a killed process left behind belong to nobody and never to another cell.
        name = hashlib.sha256(f"{cell.key}{cell.code}{body.to_csv()}".encode()).hexdigest()[:10]
        body.insert(0, "cell", name)
        self.rows[name] = body
        self.record["cells"][cell.key] = {
            "kind": cell.kind,
            "config": json.loads(cell.text),
            "code": cell.code,
            "rows": name,
            "count": len(body),
            "tables": types,
            "origin": self._origin(origin),
            "seconds": origin["seconds"],
        }

    def _save(self) -> None:
        """Rows first, those of the older record too; then the record. A kill in between loses nothing."""
        older = self._stored_rows()
        cells = dict(sorted(self.record["cells"].items(), key=lambda item: (item[1]["kind"], item[0])))
        self.record["cells"] = cells
        wanted = [entry["rows"] for entry in cells.values()]
        write(self.path, _csv([self.rows[name] for name in dict.fromkeys([*wanted, *older]) if name in self.rows]))
        used = sorted({entry["origin"] for entry in cells.values()})
        origins = [self.record["origins"][place] for place in used]
        cells = {key: {**entry, "origin": used.index(entry["origin"])} for key, entry in cells.items()}
        self.record["origins"], self.record["cells"] = origins, cells
        text = _lines(origins, cells)
        write(self._side, text.encode("utf-8"))
        self.rows = {name: own for name, own in self.rows.items() if name in wanted}
        write(self.path, _csv([self.rows[name] for name in dict.fromkeys(wanted) if name in self.rows]))

    def _stored_rows(self) -> list[str]:
        """The names of rows that the record on disk refers to."""
        return [entry["rows"] for entry in File(self.path).record["cells"].values()]


def _lines(origins: Sequence[Mapping[str, Any]], cells: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line for each origin and each cell, so that a change is a line in a diff."""
    first = ",\n".join(json.dumps(origin, sort_keys=True) for origin in origins)
    second = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in cells.items())
    return f'{{"origins": [\n{first}\n],\n"cells": {{\n{second}\n}}}}\n'


def _csv(parts: Sequence[pd.DataFrame]) -> bytes:
    """One table of all parts, each with its own columns; the others are empty in its rows."""
    columns = list(dict.fromkeys(column for part in parts for column in part.columns))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for part in parts:
        places = [part.columns.get_loc(column) if column in part.columns else None for column in columns]
        for row in part.itertuples(index=False, name=None):
            writer.writerow(["" if place is None else row[place] for place in places])
    return out.getvalue().encode("utf-8")


class Evidence:
    """All evidence files of a folder. A cell is found in whichever file holds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def files(self) -> dict[str, File]:
        """The files by study."""
        return {path.stem: File(path.with_suffix(".csv")) for path in sorted(self.folder.glob("*.json"))}

    def _holding(self, cell: Cell) -> File | None:
        return next((file for file in self.files.values() if cell.key in file.record["cells"]), None)

    def state(self, cell: Cell) -> State:
        """As :meth:`File.state`, over all files."""
        file = self._holding(cell)
        return "missing" if file is None else file.state(cell)

    def get(self, cell: Cell) -> Stored | None:
        """As :meth:`File.get`, over all files."""
        file = self._holding(cell)
        return None if file is None else file.get(cell)

    def home(self, cell: Cell, study: str) -> File:
        """The file that a cell of this study belongs to: where it is already, or else the study's own."""
        return self._holding(cell) or self.files.get(study) or File(self.folder / f"{study}.csv")
