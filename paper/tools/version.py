"""Which state of the book this is: its version, its commit, and how it is cited."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml


def commit(root: Path) -> str:
    """The commit of a checkout, with ``+changes`` where tracked files differ from it; that of an archive; or ""."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # A copy may lie inside some other repository, whose commit says nothing.
        if Path(git("rev-parse", "--show-toplevel")).resolve() == root.resolve():
            changes = git("status", "--porcelain", "--untracked-files=no")
            return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        pass
    archived = root / ".git_archival.txt"
    found = re.search(r"node: ([0-9a-f]{40})", archived.read_text(encoding="utf-8")) if archived.is_file() else None
    return found[1] if found else ""


def short(commit: str) -> str:
    """A commit as a reader needs it."""
    return commit[:7] + (" with changes" if commit.endswith("+changes") else "")


@dataclass(frozen=True)
class Citation:
    """What ``CITATION.cff`` says, and the year of ``_config.yml`` where it gives no date."""

    title: str
    authors: tuple[str, ...]
    version: str
    year: str
    abstract: str = ""

    @classmethod
    def of(cls, root: Path, year: str = "") -> Citation | None:
        """The citation of a book; None where it has none."""
        path = root / "CITATION.cff"
        if not path.is_file():
            return None
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = (
            one.get("name") or " ".join(filter(None, (one.get("given-names"), one.get("family-names"))))
            for one in found["authors"]
        )
        year = str(found.get("date-released", ""))[:4] or year
        return cls(found["title"], tuple(names), str(found["version"]), year, found.get("abstract", ""))

    def sentence(self, commit: str = "", address: str = "") -> str:
        """As a list of references has it."""
        state = ", ".join(filter(None, (f"version {self.version}", f"commit {short(commit)}" if commit else "")))
        year = f" ({self.year})" if self.year else ""
        return f"{', '.join(self.authors)}{year}. {self.title}, {state}.{f' {address}' if address else ''}"

    def bibtex(self, commit: str = "", address: str = "") -> str:
        """As a bibliography has it. Each name is in braces of its own: it may be that of a group."""
        fields = {
            "title": f"{{{self.title}}}",
            "author": " and ".join(f"{{{name}}}" for name in self.authors),
            "year": self.year,
            "version": self.version,
            "note": f"commit {short(commit)}" if commit else "",
            "url": address,
        }
        key = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@misc{{{key},\n{lines}\n}}"
