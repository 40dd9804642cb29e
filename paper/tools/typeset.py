"""From pages to the book: a strict build that reads again only what has changed.

::

    python -m paper.tools.typeset [PAGE ...]     # the book with these executed pages, into _build/html

Pages that are not named are left out: of the table of contents, and as targets of links, which become plain text.
What another page shows of them comes from their notebook as it is committed. Pages that ``_toc.yml`` does not name
come last.

What Sphinx has read is kept beside the book, and only ever from a build without a warning: so a page that is not
read again has no warning of its own to lose. All pages are *written* each time, from what was read: that is where
references between pages are resolved, and a page that points to a label, term or heading that another has lost says
so in every build. A build with a warning leaves the last book, and what was read for it, as they were.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import posixpath
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lib.checks import ParameterError
from paper.tools import profiles, reproducing
from paper.tools.sources import ROOT

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

# A change in one of these, or in the table of contents, may change every page: they are then all read again.
_SETTINGS = ("_config.yml", "requirements.lock", "book/references.bib")

_RUNS = "book/runs"


def contents(root: Path, pages: Iterable[str]) -> tuple[dict[str, Any], set[str]]:
    """The table of contents of a book with these executed pages, and the names of those that are left out.

    A table that cannot be read, or that names a file that is not there, is refused.
    """
    path, wanted = root / "_toc.yml", list(pages)
    absent: set[str] = set()

    def kept(entries: Any) -> list[dict[str, Any]]:
        found = []
        for entry in entries:
            folder, _, name = entry["file"].rpartition("/")
            if folder != _RUNS and not list((root / folder).glob(f"{name}*")):
                raise ParameterError(f"Files in {path.name} must exist, but {entry['file']!r} was given.")
            if folder == _RUNS:
                (named if name in wanted else absent).add(name)
            if folder != _RUNS or name in wanted:
                found.append({**entry, **({"sections": kept(entry["sections"])} if "sections" in entry else {})})
        return found

    named: set[str] = set()
    table = profiles.read_yaml(path)
    try:
        kept([{"file": table["root"]}])
        parts = [{**part, "chapters": kept(part["chapters"])} for part in table["parts"]]
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        if isinstance(error, ParameterError):
            raise
        allowed = "a root and parts with chapters, each a file with its name"
        raise ParameterError(f"{path.name} must have {allowed}, but it has not: {error!r}.") from None
    more = [{"file": f"{_RUNS}/{name}"} for name in wanted if name not in named]
    parts.append({"caption": "More pages", "chapters": more})
    return {**table, "parts": [part for part in parts if part["chapters"]]}, absent


def prune(folder: Path, names: Iterable[str]) -> None:
    """Remove from a folder of executed pages those that are not among ``names``, with what they exported."""
    kept = tuple(names)
    for path in [*folder.glob("*.ipynb"), *folder.glob("exports/*")]:
        page = path.stem if path.suffix == ".ipynb" else path.name.partition("-")[0]
        if page not in kept:
            path.unlink()


def _stand_in(root: Path, absent: Iterable[str]) -> None:
    """Write what pages that are left out export, as their committed notebooks have it."""
    import nbformat

    from paper.tools.pages import exports

    folder = root / _RUNS / "exports"
    for name in absent:
        notebook = root / "notebooks" / f"{name}.ipynb"
        found = exports(nbformat.read(notebook, as_version=4)) if notebook.is_file() else {}
        for export, content in found.items():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}-{export}").write_bytes(content)


def _settings(root: Path, table: str) -> str:
    """A hash over what every page depends on."""
    files = [*(root / name for name in _SETTINGS), Path(__file__)]
    parts = [path.read_bytes() if path.is_file() else b"" for path in files]
    return hashlib.sha256(repr([sys.version, str(root), table, parts]).encode()).hexdigest()


def typeset(root: Path, pages: Iterable[str], jobs: int = 1) -> bool:
    """Build the book of ``root`` with these pages into ``_build/html``; false if there was a warning, which stands on
    stderr.

    The state that is kept is ``_build/read``: doctrees, the pictures of notebooks and ``settings``.
    """
    build = root / "_build"
    html, read, work = build / "html", build / "read", build / "next"
    pages = list(pages)
    table, absent = contents(root, pages)
    _stand_in(root, absent)
    reproducing.write(root, pages)
    text = yaml.safe_dump(table, sort_keys=False)
    settings = _settings(root, text)
    shutil.rmtree(work, ignore_errors=True)
    if (read / "settings").is_file() and (read / "settings").read_text() == settings:
        # A copy, in the place in which it was made: Sphinx notes where the pictures are.
        shutil.copytree(read, work)
    work.mkdir(parents=True, exist_ok=True)
    (work / "toc.yml").write_text(text)
    if not _sphinx(root, work, sorted(absent), jobs):
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


def _sphinx(root: Path, work: Path, absent: list[str], jobs: int) -> bool:
    # What `jupyter-book build -W -n --keep-going` does, and in addition: all pages are written, by several processes.
    from jupyter_book.sphinx import build_sphinx

    overrides: dict[str, Any] = {
        "external_toc_path": str(work / "toc.yml"),
        "left_out": absent,
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


def _unlink(app: Sphinx, document: nodes.document) -> None:
    """Links to pages that are left out become plain text."""
    from docutils.nodes import Text
    from sphinx.addnodes import pending_xref

    for link in list(document.findall(pending_xref)):
        target = link["reftarget"].partition("#")[0].removesuffix(".ipynb")
        near = posixpath.normpath(posixpath.join(posixpath.dirname(app.env.docname), target))
        if {near, target.lstrip("/")} & {f"{_RUNS}/{name}" for name in app.config.left_out}:
            link.replace_self(link.children if link.astext() else Text(target))


#: Tags of the cells that a page begins with: they run first and are shown, folded into one box, behind its opening.
SET_UP = {"tag_set-up", "tag_injected-parameters"}
#: Tags of the cells that open a page: question and answer, and the picture.
OPENING = {"tag_opening", "tag_picture"}


def _fold_set_up(app: Sphinx, document: nodes.document) -> None:
    """Parameters and imports go behind the page's question, answer and picture, into one box that is closed."""
    from docutils.nodes import container, section
    from myst_nb.sphinx_ import HideCodeCellNode

    first = next(iter(document.findall(section)), None)
    if first is None or app.builder.format != "html":
        return
    cells = [cell for cell in first.children if isinstance(cell, container)]
    moved = [cell for cell in cells if SET_UP & set(cell["classes"])]
    opened = [cell for cell in cells if OPENING & set(cell["classes"])]
    if not moved:
        return
    for cell in moved:
        first.remove(cell)
        cell.attributes.pop("hide_mode", None)  # the box is one fold, its cells are none
    box = HideCodeCellNode(prompt_show="Set-up: parameters and imports", prompt_hide="Hide the set-up")
    box["classes"].append("above-input")
    box += moved
    # The frame by which the style knows a folded cell.
    frame = container(classes=["cell", "set-up"])
    frame += box
    first.insert(first.index(opened[-1]) + 1 if opened else 1, frame)


def _picture(app: Sphinx, image: nodes.image) -> str:
    """Give a picture its width and its text for those who cannot see it, from its file; returns that text.

    A picture that shows photographs or the like gets a class by which a dark page leaves its colours alone, and one
    with text another, by which a telephone does not make that too small.
    """
    from paper.figures.style import PICTURED, described

    path = Path(app.srcdir) / image["uri"]
    if path.suffix != ".png" or not path.is_file():
        return ""
    said, (width, _), own_colours, narrowest = described(path)
    if own_colours:
        image["classes"].append(PICTURED)
    if narrowest:
        image["classes"].append(f"least-{narrowest}")
    if said:
        image["alt"] = said
        image["width"] = f"{width}px"
        image.attributes.pop("height", None)
    return said


def figures(app: Sphinx, document: nodes.document) -> None:
    """Pictures that say what they show become figures with that as their caption, and as the text in their place.

    A notebook shows a caption as an output of its own below the picture. Figures of prose keep a caption of their own.
    """
    from docutils import nodes

    from paper.figures.style import CAPTION

    number = itertools.count(1)
    for image in list(document.findall(nodes.image)):
        said = _picture(app, image)
        if said and isinstance(image.parent, nodes.figure):
            image.parent["classes"].append("drawn")
        elif said:
            # Named, since Sphinx asks that; here, after figures have been counted, it gets no number.
            name = f"figure-{next(number)}"
            image.replace_self(
                nodes.figure("", image.deepcopy(), nodes.caption(said, said), classes=["drawn"], ids=[name])
            )
    for raw in list(document.findall(nodes.raw)):
        if (said := cited(raw.astext(), app.config.left_out)) != raw.astext():
            raw.children = [nodes.Text(said)]
        bundle = raw.parent
        while bundle is not None and bundle.get("nb_element") != "mime_bundle":
            bundle = bundle.parent
        if bundle is None or f'class="{CAPTION}"' not in raw.astext():
            continue
        place = bundle.parent.index(bundle)
        if place and any(bundle.parent[place - 1].findall(nodes.figure)):
            bundle.parent.remove(bundle)


# How a report of the library ends a piece of advice: with the finding that it rests on.
_FINDING = re.compile(r"\((\w+)\.\w[\w.]*\)</li>")


def cited(said: str, left_out: Sequence[str] = ()) -> str:
    """The HTML of a report with the page of a finding, by its title, in place of the finding's id, which only the
    library knows it by.
    """

    def page(found: re.Match[str]) -> str:
        from paper.words.titles import called, pages

        name = found[1]
        if name not in pages():
            return found[0]
        return f"({called(name)})</li>" if name in left_out else f'(<a href="{name}.html">{called(name)}</a>)</li>'

    return _FINDING.sub(page, said)


def _post_transform() -> type:
    from sphinx.transforms.post_transforms import SphinxPostTransform

    class Figures(SphinxPostTransform):
        """Runs :func:`figures` before myst-nb chooses among the forms of an output."""

        default_priority = 3

        def run(self, **_: Any) -> None:
            figures(self.app, self.document)

    return Figures


#: Letters of a value that stands beside its name on the library's pages; what is longer is a table or a list.
_SHORT = 40


def _shorten(_app: Sphinx, document: nodes.document) -> None:
    """Leave out values of the library that are too long to be read beside their names."""
    from sphinx.addnodes import desc_annotation

    for note in list(document.findall(desc_annotation)):
        if note.astext().strip().startswith("=") and len(note.astext()) > _SHORT:
            note.parent.remove(note)


def _skipped(_app: Sphinx, _what: str, name: str, member: object, skip: bool, _options: Any) -> bool:
    """Whether a member stays out of the library's pages: of fields of a named tuple Python says their number alone, and
    how pydantic is set up says nothing to a reader.
    """
    return skip or name == "model_config" or str(getattr(member, "__doc__", "")).startswith("Alias for field number")


def setup(app: Sphinx) -> dict[str, Any]:
    """A Sphinx extension (see _config.yml): lets pages be read by several processes at once, and pages be left out."""
    app.add_config_value("left_out", [], "env")
    app.connect("autodoc-skip-member", _skipped)
    app.connect("doctree-read", _shorten)
    app.connect("doctree-read", _unlink)
    app.connect("doctree-read", _fold_set_up)
    app.add_post_transform(_post_transform())
    # It comes with the table of contents and does not say so: all it does is to number sections when all are read.
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(prog="python -m paper.tools.typeset", description="Build the book, strictly.")
    parser.add_argument("pages", nargs="+", metavar="PAGE", help="the executed pages; others are removed")
    parser.add_argument("--jobs", type=int, default=1, help="processes that read and write pages")
    parser.add_argument("--stamp", type=Path, help="an empty file to write at the end")
    options = parser.parse_args(arguments)
    prune(ROOT / "book" / "runs", options.pages)
    if not typeset(ROOT, options.pages, options.jobs):
        return 1
    _, absent = contents(ROOT, options.pages)
    without = f", without {len(absent)} pages of _toc.yml" if absent else ""
    print(f"The book is typeset in {time.perf_counter() - began:.0f} s{without}", flush=True)
    if options.stamp is not None:
        options.stamp.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
