"""A release: source, lock, evidence and built book in one folder, with checksums, ready for an archive with a DOI.

::

    python -m paper.tools.release make [--out dist] [--pdf]    # all of it, from a clean checkout with its book built
    python -m paper.tools.release archive [--out dist]         # the built book alone, as a zip that opens offline
    python -m paper.tools.release pdf [--out dist]             # the built book as one PDF, printed by Chromium
    python -m paper.tools.release zenodo                       # .zenodo.json from CITATION.cff

Files are packed in the order of their names, with the time of the commit and without owners: the same commit and the
same book give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from lib.checks import ParameterError
from paper.tools import printing, version
from paper.tools.sources import ROOT

#: What stands beside the archives as it is.
BESIDE = ("CITATION.cff", ".zenodo.json", "LICENSE", "LICENSE-text", "README.md", "requirements.lock")
#: What of the repository is evidence.
EVIDENCE = "results"
SUMS = "SHA256SUMS"
#: What is said first on opening the zip of the book.
_START = "Open index.html in a browser. Nothing is asked of the network.\n"


def _git(root: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True).stdout


def name_of(root: Path) -> str:
    """The name of a release: title and version, in the letters that a file may have."""
    citation = version.Citation.of(root)
    if citation is None:
        raise ParameterError("A release must have a CITATION.cff with title and version, but there is none.")
    title = re.sub(r"[^a-z0-9]+", "-", citation.title.lower()).strip("-")
    return f"{title}-{citation.version}"


# ---------------------------------------------------------------------------------------------------- refusals


def check_clean(root: Path) -> str:
    """The commit of a checkout; one with changes is refused."""
    try:
        changes = _git(root, "status", "--porcelain").decode().splitlines()
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
    except (OSError, subprocess.CalledProcessError):
        raise ParameterError("A release must be made in a git checkout with a commit, but this is none.") from None
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise ParameterError(f"A release must be made from a commit, but {changes[0][3:]}{more} is not committed.")
    return commit


def check_built(root: Path) -> Path:
    """The folder of the built book; one that is not there, not of this commit, or older than a page is refused."""
    html = root / "_build" / "html"
    if not (html / "index.html").is_file():
        raise ParameterError("A release must have the built book, but _build/html has none: make book.")
    for run in sorted((root / "book" / "runs").glob("*.ipynb")):
        made = json.loads(run.read_text(encoding="utf-8"))["metadata"].get("run", {})
        notebook = root / "notebooks" / f"{made.get('notebook', run.stem)}.ipynb"
        if notebook.is_file() and notebook.stat().st_mtime > run.stat().st_mtime:
            raise ParameterError(f"The book must be newer than its pages, but {notebook.name} is newer: make book.")
    return html


def check_commit(html: Path, commit: str) -> None:
    """Refuse a book whose pages say that they are of another commit."""
    wanted = f"commit {version.short(commit)}."
    found = [path for path in sorted(html.rglob("*.html")) if not _left_out(path)]
    pages = [path for path in found if 'class="ways"' in path.read_text(encoding="utf-8")]
    other = [path for path in pages if wanted not in path.read_text(encoding="utf-8")]
    if other or not pages:
        given = f"{other[0].relative_to(html)} says another" if other else "none of its pages names one"
        raise ParameterError(f"The book must be of commit {version.short(commit)}, but {given}: make book.")


# ----------------------------------------------------------------------------------------------------- packing


def zipped(files: Iterable[tuple[str, bytes]], when: datetime) -> bytes:
    """A zip of files by name, alike wherever it is made."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(files):
            entry = zipfile.ZipInfo(name, when.timetuple()[:6])
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(entry, content)
    return out.getvalue()


def packed(root: Path, name: str, *paths: str) -> bytes:
    """A tar.gz of a commit's files (all, or below ``paths``), alike wherever it is made."""
    tar = _git(root, "archive", "--format=tar", f"--prefix={name}/", "HEAD", *paths)
    return gzip.compress(tar, 9, mtime=0)


def book(html: Path, name: str, when: datetime) -> bytes:
    """The zip of a built book: a folder whose ``index.html`` opens in any browser, without a network."""
    files = [path for path in html.rglob("*") if path.is_file() and not _left_out(path.relative_to(html))]
    content = [(f"{name}/{path.relative_to(html).as_posix()}", path.read_bytes()) for path in files]
    return zipped([*content, (f"{name}/START-HERE.txt", _START.encode())], when)


def _left_out(path: Path) -> bool:
    """What is no page: Sphinx's notes for itself, with the time of the build in them, templates of the theme, and what
    a print that was killed has left, or one that goes on.
    """
    names = {".buildinfo", "objects.inv", ".nojekyll", "webpack-macros.html", "sbt-webpack-macros.html"}
    return path.name in {*names, printing.DOCUMENT} or path.suffix in {".doctree", ".pickle"}


def _committed(root: Path) -> datetime:
    """When HEAD was committed; now and here mean nothing in an archive."""
    try:
        return datetime.fromtimestamp(int(_git(root, "log", "-1", "--format=%ct")), UTC)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return datetime(1980, 1, 1, tzinfo=UTC)


def archive(root: Path, out: Path) -> Path:
    """Write the zip of the built book, whatever state the checkout is in; its path."""
    name = f"{name_of(root)}-book"
    path = out / f"{name}.zip"
    out.mkdir(parents=True, exist_ok=True)
    path.write_bytes(book(check_built(root), name, _committed(root)))
    return path


def make(root: Path, out: Path, pdf: bool = False) -> list[Path]:
    """Write a release into ``out``; the paths of its files. All that can be refused is refused before."""
    commit = check_clean(root)
    html = check_built(root)
    check_commit(html, commit)
    if (root / ".zenodo.json").read_text(encoding="utf-8") != zenodo(root):
        raise ParameterError(
            ".zenodo.json must be what CITATION.cff says, but it is not: python -m paper.tools.release zenodo."
        )
    name, when = name_of(root), _committed(root)
    folder = out / name
    made = {
        f"{name}-source.tar.gz": packed(root, name),
        f"{name}-evidence.tar.gz": packed(root, name, EVIDENCE),
        f"{name}-book.zip": book(html, f"{name}-book", when),
        **{one: (root / one).read_bytes() for one in BESIDE},
    }
    # Complete or not at all: a folder with half of it would look like a release.
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as place:
        new = Path(place) / name
        new.mkdir()
        for one, content in made.items():
            (new / one).write_bytes(content)
        if pdf:
            printed(root, new / f"{name}-book.pdf")
        (new / SUMS).write_text(sums(new), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    return sorted(folder.iterdir())


def sums(folder: Path) -> str:
    """SHA-256 of every file of a folder, as ``sha256sum -c`` takes them."""
    paths = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)


def printed(root: Path, path: Path) -> Path:
    """The built book as one PDF."""
    printing.pdf(check_built(root), root / "_toc.yml", path, _committed(root))
    return path


# ------------------------------------------------------------------------------------------------------ Zenodo


def zenodo(root: Path) -> str:
    """What Zenodo asks of a deposit, from ``CITATION.cff``."""
    found = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    record: dict[str, Any] = {
        "title": found["title"],
        "upload_type": "software",
        "description": " ".join(found["abstract"].split()),
        "creators": [_creator(one) for one in found["authors"]],
        "version": str(found["version"]),
        "license": found["license"],
        "keywords": found["keywords"],
        "related_identifiers": [
            {"identifier": one["url"], "relation": "references", "resource_type": "publication-article"}
            for one in found.get("references", [])
            if "url" in one
        ],
    }
    if "date-released" in found:
        record["publication_date"] = str(found["date-released"])
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _creator(author: dict[str, str]) -> dict[str, str]:
    name = author.get("name") or ", ".join(filter(None, (author.get("family-names"), author.get("given-names"))))
    more = {key: author[key] for key in ("affiliation",) if key in author}
    if "orcid" in author:
        more["orcid"] = author["orcid"].rpartition("/")[2]
    return {"name": name, **more}


# ------------------------------------------------------------------------------------------------ command line


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 done, 2 refused."""
    parser = argparse.ArgumentParser(prog="python -m paper.tools.release", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("make", "archive", "pdf", "zenodo"))
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder to write into (dist)")
    parser.add_argument("--pdf", action="store_true", help="with the book as a PDF, too (needs Chromium)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "zenodo":
            (ROOT / ".zenodo.json").write_text(zenodo(ROOT), encoding="utf-8")
            written = [ROOT / ".zenodo.json"]
        elif options.command == "make":
            written = make(ROOT, options.out, options.pdf)
        elif options.command == "archive":
            written = [archive(ROOT, options.out)]
        else:
            options.out.mkdir(parents=True, exist_ok=True)
            written = [printed(ROOT, options.out / f"{name_of(ROOT)}-book.pdf")]
    except ParameterError as refused:
        print(refused, file=sys.stderr)
        return 2
    for path in written:
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
