"""What the page on reproducing shows: machines, times, seeds, versions, checksums, and how this build agrees.

Written into ``book/runs/exports`` while the book is typeset (:mod:`paper.tools.typeset`), from the metadata of the
executed pages and the committed evidence; ``book/reproducing.md`` includes it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lib.checks import ParameterError
from paper.tools import profiles, version
from paper.words.format import several

#: The page that includes what is written here, and the files that a reader may want to check.
PAGE = "reproducing"
FILES = (
    "requirements.lock",
    "results/evidence/*.csv",
    "results/evidence/*.json",
    "results/exercises*/*.csv",
    "results/peers/*.csv",
    "lib/prompts/weights/*.safetensors",
    "lib/prompts/photographs/*.tar.xz",
    "paper/weights/*.safetensors",
)
_VERSIONS = {"python": "Python", "torch": "PyTorch", "open_clip": "open_clip", "numpy": "NumPy"}


def took(seconds: float) -> str:
    """A time that was taken, rounded: seconds below two minutes, minutes below two hours."""
    for unit, name, most in ((1, "s", 120), (60, "min", 7200), (3600, "h", float("inf"))):
        if seconds < most:
            return f"{seconds / unit:.3g} {name}" if name == "h" else f"{seconds / unit:.0f} {name}"
    raise AssertionError(seconds)


@dataclass(frozen=True)
class Run:
    """An executed page: its name, its title, and what its run said of itself."""

    page: str
    title: str
    said: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path) -> Run:
        """That of an executed notebook."""
        notebook = json.loads(path.read_text(encoding="utf-8"))
        text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        found = re.search(r"(?m)^# (.+)$", text)
        return cls(path.stem, found[1].strip() if found else path.stem, notebook["metadata"].get("run", {}))

    @property
    def agreement(self) -> str:
        """How its rerun agrees with the evidence, in words."""
        compared, differ = self.said.get("compared"), self.said.get("disagree", 0)
        if not compared:
            return "nothing to compare"
        return f"{several(compared, 'value')}, " + (f"**{differ} disagree**" if differ else "all agree")


@dataclass(frozen=True)
class Book:
    """A copy of the book with its executed ``pages``."""

    root: Path
    pages: Sequence[str]

    @cached_property
    def runs(self) -> list[Run]:
        """What every executed page says, in the order of the pages."""
        paths = [self.root / "book" / "runs" / f"{name}.ipynb" for name in self.pages]
        return [Run.of(path) for path in paths if path.is_file()]

    @cached_property
    def evidence(self) -> dict[str, dict[str, Any]]:
        """What the side file of every study's evidence says, by its name."""
        folder = self.root / "results" / "evidence"
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}

    # ------------------------------------------------------------------------------------------------ sections
    def build(self) -> str:
        """This build in a few sentences."""
        said = [run.said for run in self.runs]
        compared = sum(one.get("compared", 0) for one in said)
        differ = sum(one.get("disagree", 0) for one in said)
        machines = sorted({_machine(one["machine"]) for one in said if one.get("machine")})
        commit = version.commit(self.root)
        text = [
            f"{several(len(said), 'page')} were run{' at commit ' + version.short(commit) if commit else ''}"
            f"{' on ' + '; '.join(machines) if machines else ''}, in"
            f" {took(sum(one.get('seconds', 0) for one in said))} together, one core each."
        ]
        if compared:
            agree = f"{compared - differ:,}" if differ else "all"
            text.append(f"They compared {several(compared, 'value')} with the evidence; {agree} agree.")
        lost = [f"{_link(run)} ({run.said['disagree']})" for run in self.runs if run.said.get("disagree")]
        text.append(f"The others are on {', '.join(lost)}." if lost else "")
        text += [self._lacking(name) for name in ("stale", "missing")]
        if not any(text[-2:]):
            text.append("All of the evidence that they show is there and current.")
        return " ".join(filter(None, text))

    def _lacking(self, state: str) -> str:
        """Which pages have evidence in this state; empty where none has."""
        counts = [(run, count) for run in self.runs if (count := run.said.get("cells", {}).get(state, 0))]
        own = ", ".join(f"{_link(run)} ({several(count, 'cell')})" for run, count in counts)
        return f"Evidence that is {state}: {own}." if own else ""

    def table(self) -> str:
        """Every page: this build beside its evidence."""
        known = _profile(self.root)
        beside: dict[str, list[str]] = {}
        for name, page in known.items():
            beside.setdefault(page.beside or name, []).append(name)
        rows = []
        for run in self.runs:
            here = f"{run.agreement}; {took(run.said.get('seconds', 0))}"
            own = [self._evidence(name, known[name]) for name in beside.get(run.page, []) if self._cells(name, known)]
            rows.append((_link(run), here, "<br>".join(own) or "none of its own"))
        return _table(("Page", "This build", "Its evidence"), rows)

    def _cells(self, name: str, known: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The cells in the file of a page's evidence; of one that it shares with others those of its own."""
        file = name if name in self.evidence else known[name].notebook
        cells = list(self.evidence.get(file, {"cells": {}})["cells"].values())
        own = known[name].parameters.get("perturbation")
        return [cell for cell in cells if own in (None, cell["config"].get("perturbation"))]

    def _evidence(self, name: str, page: Any) -> str:
        cells = self._cells(name, {name: page})
        return f"`{name}`: {several(len(cells), 'cell')}, {took(sum(cell['seconds'] for cell in cells))}"

    def machines(self) -> str:
        """Where the evidence was computed."""
        found: dict[tuple[str, str], list[Any]] = {}
        for record in self.evidence.values():
            for cell in record["cells"].values():
                origin = record["origins"][cell["origin"]]
                kind = (_machine(origin), ", ".join(f"{said} {origin[name]}" for name, said in _VERSIONS.items()))
                found.setdefault(kind, []).append((cell["seconds"], origin["date"], origin["commit"]))
        rows = [
            (machine, f"{several(len(own), 'cell')}, {took(sum(one[0] for one in own))}", _span(one[1] for one in own))
            for (machine, _), own in sorted(found.items(), key=lambda item: -len(item[1]))
        ]
        return _table(("Machine", "Evidence computed there", "When"), rows)

    def versions(self) -> str:
        """With which versions, of the evidence and here."""
        rows = []
        origins = [origin for record in self.evidence.values() for origin in record["origins"]]
        here = [run.said["machine"] for run in self.runs if run.said.get("machine")]
        for name, said in _VERSIONS.items():
            rows.append((said, *(", ".join(sorted({one[name] for one in own})) or "–" for own in (origins, here))))
        commits = len({origin["commit"] for origin in origins})
        citation = version.Citation.of(self.root)
        of_book = f"The book is version {citation.version}. " if citation else ""
        text = (
            f"{of_book}All other packages are in `requirements.lock`. The evidence was computed at"
            f" {several(commits, 'commit')}; which cell at which stands in its file, and whether today's code is the"
            " same for it is checked, not assumed."
        )
        return f"{_table(('', 'Evidence', 'This build'), rows)}\n\n{text}"

    def seeds(self) -> str:
        """How many seeds each page's evidence has, and its rerun."""
        groups: dict[tuple[str, str], list[str]] = {}
        known = _profile(self.root)
        for run in self.runs:
            page = known.get(run.page)
            if page is None or "seeds" not in page.parameters:
                continue
            default = profiles.parameters(page.source).get("seeds", "–")
            counts = (str(page.parameters["seeds"]), str(run.said.get("parameters", {}).get("seeds", default)))
            groups.setdefault(counts, []).append(_link(run))
        most = sorted(groups.items(), key=lambda item: int(item[0][0]), reverse=True)
        rows = [(*counts, ", ".join(own)) for counts, own in most]
        return _table(("Seeds in the evidence", "in the rerun", "Pages"), rows)

    def checksums(self) -> str:
        """SHA-256 of evidence and weights, as ``sha256sum -c`` takes them."""
        lines = [f"{sha256(path)}  {path.relative_to(self.root)}" for path in self.files()]
        text = "\n".join(lines)
        return (
            f"Of {several(len(lines), 'file')}: evidence, weights, pictures and the lock. In a copy of the book,"
            " `sha256sum -c FILE` compares it with these lines in `FILE`.\n\n"
            f":::{{dropdown}} SHA-256 sums\n```text\n{text}\n```\n:::"
        )

    def files(self) -> list[Path]:
        """The files that have checksums."""
        return sorted({path for pattern in FILES for path in self.root.glob(pattern)})


def sha256(path: Path) -> str:
    """The checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _profile(root: Path) -> dict[str, Any]:
    path = root / "profiles" / "evidence.yaml"
    try:
        return profiles.profile(path) if path.is_file() else {}
    except ParameterError:
        return {}


def _machine(origin: Mapping[str, Any]) -> str:
    threads = "" if origin["device"] != "cpu" else f", {several(int(origin['threads']), 'thread')}"
    return f"{origin['device_name']} ({origin['device']}{threads})"


def _span(dates: Iterable[str]) -> str:
    found = sorted(set(dates))
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _link(run: Run) -> str:
    return f"[{run.title}](runs/{run.page})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(one.replace('|', chr(92) + '|') for one in line)} |" for line in lines)


def write(root: Path, pages: Sequence[str]) -> None:
    """Write what the page includes; nothing where the book has no such page. A file that stays the same is not
    touched, so that nothing is read again for it.
    """
    if not (root / "book" / f"{PAGE}.md").is_file():
        return
    table = (root / "_toc.yml").read_text(encoding="utf-8") if (root / "_toc.yml").is_file() else ""
    order = {name: place for place, name in enumerate(re.findall(r"book/runs/(\w+)", table))}
    book = Book(root, sorted(pages, key=lambda name: order.get(name, len(order))))
    parts = {
        "build": book.build(),
        "pages": book.table(),
        "machines": book.machines(),
        "versions": book.versions(),
        "seeds": book.seeds(),
        "checksums": book.checksums(),
    }
    folder = root / "book" / "runs" / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in parts.items():
        path = folder / f"{PAGE}-{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != f"{text}\n":
            path.write_text(f"{text}\n", encoding="utf-8")
