"""Ways out of every page: download it, run it again, open it elsewhere, correct it, cite it.

A Sphinx extension (see _config.yml). It adds a short block to the end of every page and a description to its head.
Links to a repository, and to services that run its notebooks, come from one setting, ``repository: url`` in
``_config.yml``; while it is empty there are none. ``launch_buttons: jupyterhub_url`` adds a hub of one's own.

The theme has buttons of this kind. They take the place of a page in the repository from its place in the book, and
pages here are made from ``notebooks/``, so those stay off.
"""

from __future__ import annotations

import functools
import html
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from paper.tools import profiles, version

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.config import Config

#: How long a description may be: what search engines and messengers show of one.
LONGEST = 160


# --------------------------------------------------------------------------------------------------- the repository


@dataclass(frozen=True)
class Repository:
    """Addresses at the host of a repository, and at the services that run notebooks of it."""

    url: str
    branch: str = "main"
    hub: str = ""

    @property
    def _host(self) -> str:
        found = re.match(r"https?://([^/]+)/", f"{self.url}/")
        return found[1].lower() if found else ""

    @property
    def _name(self) -> str:
        """Owner and name."""
        return self.url.partition(self._host)[2].strip("/") if self._host else ""

    def issues(self, about: str) -> str:
        """Where to report something about a page."""
        words = {"github.com": ("/issues/new", "title"), "gitlab.com": ("/-/issues/new", "issue[title]")}
        path, field = words.get(self._host, ("/issues/new", "title"))
        return f"{self.url}{path}?{urlencode({field: f'{about}: '}, quote_via=quote)}"

    def edit(self, path: str) -> str:
        """Where to change a file."""
        middle = {"github.com": "/edit", "gitlab.com": "/-/edit"}.get(self._host, "/_edit")
        return f"{self.url}{middle}/{quote(self.branch)}/{quote(path)}"

    def launch(self, notebook: str) -> dict[str, str]:
        """Services that open a notebook, by their names."""
        branch = quote(self.branch, safe="")
        known = {"github.com": f"gh/{self._name}", "gitlab.com": f"gl/{quote(self._name, safe='')}"}
        at = known.get(self._host, f"git/{quote(self.url, safe='')}")
        lab = f"lab/tree/{notebook}"
        found = {"Binder": f"https://mybinder.org/v2/{at}/{branch}?{urlencode({'urlpath': lab})}"}
        if self._host == "github.com":
            found["Colab"] = f"https://colab.research.google.com/github/{self._name}/blob/{branch}/{quote(notebook)}"
        if self.hub:
            pull = {
                "repo": self.url,
                "branch": self.branch,
                "urlpath": f"lab/tree/{self._name.split('/')[-1]}/{notebook}",
            }
            found["JupyterHub"] = f"{self.hub}/hub/user-redirect/git-pull?{urlencode(pull)}"
        return found

    def colab(self) -> str:
        """What has to run first in Colab, whose machine has no copy of the book."""
        return f"!git clone --depth 1 -b {self.branch} {self.url} book && pip install -q -e book"


def repository(config: Config) -> Repository | None:
    """The repository that the configuration names, or None."""
    options = config.html_theme_options
    url = str(options.get("repository_url") or "").strip().rstrip("/").removesuffix(".git")
    branch = str(options.get("repository_branch") or "main")
    return Repository(url, branch, str(config.jupyterhub).rstrip("/")) if url else None


# ------------------------------------------------------------------------------------------------------- one page


def about(seconds: float) -> str:
    """A time as a promise is made: rounded up, and no more exact than it can be on another machine."""
    for size, step, unit, most in ((1, 10, "s", 90), (60, 1, "min", 90 * 60), (3600, 1, "h", float("inf"))):
        if seconds <= most:
            rounded = -(-seconds // (size * step)) * step
            return f"about {max(rounded, step):.0f} {unit}"
    raise AssertionError(seconds)


@dataclass(frozen=True)
class Source:
    """The file behind a page: its path in the repository, and for a notebook how it is run."""

    path: str
    command: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, root: Path, page: str) -> Source | None:
        """That of a page of the book in ``root``; None for a page that no file stands behind, as the index of terms."""
        executed = root / f"{page}.ipynb"
        if not executed.is_file():
            return next((cls(f"{page}{end}") for end in (".md", ".rst") if (root / f"{page}{end}").is_file()), None)
        run = json.loads(executed.read_text(encoding="utf-8"))["metadata"].get("run", {})
        notebook = f"notebooks/{run.get('notebook', executed.stem)}.ipynb"
        given = "".join(f" -p {name} {_quoted(value)}" for name, value in run.get("parameters", {}).items())
        command = f"python -m paper.tools.pages run {notebook} out.ipynb{given}"
        return cls(notebook, command, run.get("seconds", 0.0))


def _quoted(value: Any) -> str:
    return shlex.quote(profiles.text(value))


def emptied(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook without its outputs and what its run told, as one downloads it; its parameters stay."""
    cells = []
    for cell in notebook["cells"]:
        empty: dict[str, Any] = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
        cells.append({**cell, **empty})
    metadata = {name: value for name, value in notebook["metadata"].items() if name not in ("widgets", "run")}
    return {**notebook, "cells": cells, "metadata": metadata}


def description(doctree: nodes.document | None) -> str:
    """The first paragraph of a page that is long enough to say something; empty where there is none."""
    from docutils import nodes

    for paragraph in doctree.findall(nodes.paragraph) if doctree is not None else ():
        text = " ".join(paragraph.astext().split())
        if len(text) >= 40 and not any(paragraph.findall(nodes.math)) and "\\" not in text:
            return beginning(text)
    return ""


def beginning(text: str, longest: int = LONGEST) -> str:
    """A text as a description: its beginning, cut after a word."""
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1].rpartition(" ")[0].rstrip(",;:–") + "…"


def _link(address: str, words: str, more: str = "") -> str:
    return f'<a href="{html.escape(address)}"{more}>{html.escape(words)}</a>'


def block(
    title: str, source: Source, download: str, home: Repository | None, citation: version.Citation | None, commit: str
) -> str:
    """The end of a page, as HTML; ``download`` is the address of its notebook, empty for a page of text."""
    rows = []
    if source.command:
        takes = f" ({about(source.seconds)} where this was built)" if source.seconds else ""
        rows.append(f"<p>Run this page again in a copy of the book{takes}:</p><pre>{html.escape(source.command)}</pre>")
    links = [_link(download, "Download the notebook", " download")] if download else []
    if home is not None:
        if source.command:
            links += [_link(address, f"Open in {name}") for name, address in home.launch(source.path).items()]
        links += [
            _link(home.url, "Repository"),
            _link(home.issues(title), "Report an issue"),
            _link(home.edit(source.path), "Edit the source"),
        ]
    if links:
        rows.append(f"<ul>{''.join(f'<li>{link}</li>' for link in links)}</ul>")
    if home is not None and source.command and "Colab" in home.launch(source.path):
        rows.append(f"<p>In Colab run this first, then restart the session:</p><pre>{html.escape(home.colab())}</pre>")
    if citation is not None:
        address = home.url if home is not None else ""
        cite = html.escape(citation.sentence(commit, address))
        bibtex = html.escape(citation.bibtex(commit, address))
        rows.append(f"<details><summary>Cite: {cite}</summary><pre>{bibtex}</pre></details>")
    return (
        f'<aside class="ways" aria-label="This page: run it, take it, cite it">{"".join(rows)}</aside>' if rows else ""
    )


# ---------------------------------------------------------------------------------------------------------- Sphinx


@functools.cache
def _commit(root: Path) -> str:
    return version.commit(root)


def _own_hub(app: Sphinx, config: Config) -> None:
    """Take the hub's address from the theme, whose button would ask for notebooks that are not in the repository; and
    ask for the commit before pages are written by several processes.
    """
    buttons = config.html_theme_options.pop("launch_buttons", None) or {}
    config.jupyterhub = config.jupyterhub or buttons.get("jupyterhub_url", "")
    _commit(Path(app.srcdir))


def _page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    root = Path(app.srcdir)
    citation = version.Citation.of(root, str(app.config.copyright))
    said = description(doctree) or (beginning(citation.abstract) if citation else "")
    if said:
        context["metatags"] = (
            f'{context.get("metatags", "")}\n<meta name="description" content="{html.escape(said)}" />'
        )
    source = Source.of(root, page) if doctree is not None else None
    if source is None or "body" not in context:
        return
    download = ""
    if source.command:
        download = _downloadable(root / f"{page}.ipynb", Path(app.outdir), context["pathto"])
    title = re.sub(r"<[^>]*>", "", str(context.get("title", "")))
    context["body"] += block(html.unescape(title), source, download, repository(app.config), citation, _commit(root))


def _downloadable(executed: Path, out: Path, pathto: Callable[..., str]) -> str:
    """Write a page's notebook without its outputs into the book; its address from the page."""
    name = f"notebooks/{executed.name}"
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    notebook = emptied(json.loads(executed.read_text(encoding="utf-8")))
    (out / name).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return pathto(name, 1)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("jupyterhub", "", "html")
    app.connect("config-inited", _own_hub)
    app.connect("html-page-context", _page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
