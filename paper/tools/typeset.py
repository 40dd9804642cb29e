"""From pages to the book: a strict build that reads again only what has changed.

::

    python -m paper.tools.typeset [PAGE ...]     # the book with these executed pages, into _build/html

What Sphinx has read is kept beside the book, and only ever from a build without a warning: so a page that is not
read again has no warning of its own to lose. All pages are *written* each time, from what was read: that is where
references between pages are resolved, and a page that points to a label, term or heading that another has lost says
so in every build. A build with a warning leaves the last book, and what was read for it, as they were.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper.tools.sources import ROOT

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# A change in one of these may change every page: they are then all read again.
_SETTINGS = ("_config.yml", "_toc.yml", "requirements.lock", "book/references.bib")


def prune(folder: Path, names: Iterable[str]) -> None:
    """Remove from a folder of executed pages those that are not among ``names``, with what they exported."""
    kept = tuple(names)
    for path in [*folder.glob("*.ipynb"), *folder.glob("exports/*")]:
        page = path.stem if path.suffix == ".ipynb" else path.name.partition("-")[0]
        if page not in kept:
            path.unlink()


def _settings(root: Path) -> str:
    """A hash over what every page depends on."""
    files = [*(root / name for name in _SETTINGS), Path(__file__)]
    parts = [path.read_bytes() if path.is_file() else b"" for path in files]
    return hashlib.sha256(repr([sys.version, str(root), parts]).encode()).hexdigest()


def typeset(root: Path, jobs: int = 1) -> bool:
    """Build the book of ``root`` into ``_build/html``; false if there was a warning, which stands on stderr.

    The state that is kept is ``_build/read``: doctrees, the pictures of notebooks and ``settings``.
    """
    build = root / "_build"
    html, read, work = build / "html", build / "read", build / "next"
    settings = _settings(root)
    shutil.rmtree(work, ignore_errors=True)
    if (read / "settings").is_file() and (read / "settings").read_text() == settings:
        # A copy, in the place in which it was made: Sphinx notes where the pictures are.
        shutil.copytree(read, work)
    if not _sphinx(root, work, jobs):
        shutil.rmtree(work, ignore_errors=True)
        return False
    (work / "settings").write_text(settings)
    _replace(work / "html", html)
    _replace(work, read)
    return True


def _replace(new: Path, old: Path) -> None:
    """Put a folder in the place of another, which is missing for a moment only."""
    aside = old.with_name(f"{old.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


def _sphinx(root: Path, work: Path, jobs: int) -> bool:
    # What `jupyter-book build -W -n --keep-going` does, and in addition: all pages are written, by several processes.
    from jupyter_book.sphinx import build_sphinx

    overrides: dict[str, Any] = {
        "external_toc_path": str(root / "_toc.yml"),
        "latex_individualpages": False,
        "nitpicky": True,
    }
    status = build_sphinx(
        str(root),
        str(work / "html"),
        doctreedir=str(work / "doctrees"),
        noconfig=True,
        path_config=str(root / "_config.yml"),
        confoverrides=overrides,
        warningiserror=True,
        keep_going=True,
        force_all=True,
        quiet=True,
        jobs=jobs,
    )
    return status == 0


def setup(app: Sphinx) -> dict[str, Any]:
    """A Sphinx extension (see _config.yml): lets pages be read by several processes at once."""
    # It comes with the table of contents and does not say so: all it does is to number sections when all are read.
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(prog="python -m paper.tools.typeset", description="Build the book, strictly.")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="the executed pages; others are removed")
    parser.add_argument("--jobs", type=int, default=1, help="processes that read and write pages")
    parser.add_argument("--stamp", type=Path, help="an empty file to write at the end")
    options = parser.parse_args(arguments)
    prune(ROOT / "book" / "runs", options.pages)
    if not typeset(ROOT, options.jobs):
        return 1
    print(f"The book is typeset in {time.perf_counter() - began:.0f} s", flush=True)
    if options.stamp is not None:
        options.stamp.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
