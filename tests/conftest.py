"""Fixtures around a tiny book: the real configuration, one page of formulas, one notebook with what-ifs."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from paper.tools import pages

ROOT = Path(__file__).resolve().parents[1]


def chapters() -> list[str]:
    """Every page that the table of contents names, the first page included."""

    def files(entries: list[dict]) -> Iterator[str]:
        for entry in entries:
            yield entry["file"]
            yield from files(entry.get("sections", []))

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(name for part in toc["parts"] for name in files(part["chapters"]))]


@pytest.fixture(scope="session")
def narrow_sizes() -> dict[str, Any]:
    """MiniCLIP's configuration with a quarter of its width: for tests that train and do not ask what was learnt."""
    from lib.prompts.backbone import MINICLIP

    return {
        **MINICLIP,
        "embed_dim": 32,
        "vision_cfg": {**MINICLIP["vision_cfg"], "width": 32, "head_width": 16},
        "text_cfg": {**MINICLIP["text_cfg"], "width": 32, "heads": 2},
    }


@pytest.fixture(scope="module")
def narrow_miniclip(narrow_sizes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In the tests of a module MiniCLIP is of that width, and its weights are random."""
    import torch
    from safetensors.torch import save_file

    from lib.prompts import backbone

    weights = tmp_path_factory.mktemp("narrow") / backbone.WEIGHTS.name
    record = backbone.record()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "MINICLIP", narrow_sizes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_file(backbone.build_miniclip().state_dict(), weights)
        record |= {"sha256": backbone.checksum(weights), "configuration": narrow_sizes}
        weights.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
        patch.setattr(backbone, "WEIGHTS", weights)
        patch.setattr(backbone, "RECORD", weights.with_suffix(".json"))
        yield


@pytest.fixture(scope="session")
def contents() -> list[str]:
    """The pages of the book, in order."""
    return chapters()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for ``chapter`` runs once for each page of the table of contents."""
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", chapters())


INDEX = r"""# Formulas

Inline $\gamma = \log_{10} x$ and on a line of its own

$$
\cos(\mathbb{E}\,g, g_0)
  = \frac{\langle \mathbb{E}\,g, g_0 \rangle}{\lVert \mathbb{E}\,g \rVert \lVert g_0 \rVert}
$$ (cosine)

as {eq}`cosine` says. {cite:t}`radford2021clip`.
"""

DRAW = """
def draw(severity, rule="autograd"):
    if severity == 0 and rule == "straight_through":
        raise ParameterError("severity must be above 0 for straight_through.")
    drawn, axes = style.figure(4.6, 2.9)
    axes.plot([0, severity])
    axes.set(xlabel="severity", ylabel="recovery", title=rule)
    return drawn
"""


def _cells() -> list[nbformat.NotebookNode]:
    code = functools.partial(nbformat.v4.new_code_cell)
    return [
        nbformat.v4.new_markdown_cell("# What if\n\nThe slope $s$ follows the slider."),
        code("levels = 3", metadata={"tags": ["parameters"]}),
        code(
            "import ipywidgets\nfrom lib.checks import ParameterError\n"
            "from paper import whatif\nfrom paper.figures import style"
        ),
        code(DRAW.strip()),
        code(
            "values = [i / 2 for i in range(levels)]\n"
            "rules = ['autograd', 'straight_through']\n"
            "whatif.panels({'severity': values, 'rule': rules}, draw,\n"
            "    labels={'severity': 'severity of the fault'}, units={'severity': 'S'},\n"
            "    alt=lambda severity, rule: f'line of slope {severity} under {rule}')"
        ),
        code(
            "whatif.panels({'severity': values}, draw, start={'severity': 0.5},\n"
            "    readings=lambda severity: [whatif.Reading('slope', severity, severity / 2, severity, '', (0, 2))],\n"
            "    alt=lambda severity: f'one line of slope {severity}')"
        ),
        code("whatif.live(draw, {'severity': ipywidgets.FloatSlider(0.5)})", metadata={"tags": ["remove-output"]}),
        code("from IPython.display import Markdown\n\nMarkdown('The law is\\n\\n$$ \\\\tilde y = s $$')"),
        code("draw(0.25).axes[0].get_title()"),
    ]


@pytest.fixture(scope="session")
def tiny_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a strictly built tiny book (its html), made with the project's own configuration."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "book" / "runs").mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    shutil.copytree(ROOT / "book" / "static", root / "book" / "static")
    (root / "book" / "index.md").write_text(INDEX + "\n```{bibliography}\n```\n", encoding="utf-8")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: book/runs/whatif\n", encoding="utf-8"
    )
    notebook = pages.tidy(nbformat.v4.new_notebook(cells=_cells()))
    nbformat.write(notebook, root / "whatif.ipynb")
    pages.run(root / "whatif.ipynb", root / "book" / "runs" / "whatif.ipynb", {"levels": 3})
    book = Path(sys.executable).with_name("jupyter-book")
    command = [str(book), "build", str(root), "-W", "-n", "--keep-going", "--quiet"]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return root / "_build" / "html"


class _References(HTMLParser):
    """What a browser would fetch for a page: scripts, styles, fonts, images, frames; links are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "link" and given.get("rel") not in {"canonical", "author", "license", "search", "next", "prev"}:
            self.found.append(given.get("href", ""))
        elif tag != "a":
            self.found += [given[name] for name in ("src", "data", "poster") if tag != "input" and name in given]
            self.found += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        self.found += re.findall(r"url\(([^)]+)\)", given.get("style", ""))


def _outside(folder: Path) -> list[str]:
    wanted = re.compile(r"^['\"]?\s*(?:https?:)?//", re.IGNORECASE)
    found = []
    for path in folder.rglob("*"):
        if path.suffix == ".html":
            parser = _References()
            parser.feed(path.read_text(encoding="utf-8"))
            references = parser.found
        elif path.suffix == ".css":
            text = path.read_text(encoding="utf-8")
            references = re.findall(r"url\(([^)]+)\)", text) + re.findall(r"@import\s+([^;]+);", text)
        else:
            continue
        found += [f"{path.relative_to(folder)}: {target}" for target in references if wanted.match(target)]
    return found


@pytest.fixture(scope="session")
def outside() -> Callable[[Path], list[str]]:
    """A function that lists what the pages and styles in a folder would fetch from other hosts."""
    return _outside


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: the test looks at the answers themselves."""


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """A function that serves a folder on this machine and returns its address."""
    servers = []

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium on this machine; without one the test is skipped, and fails under CI."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        message = "NO BROWSER: neither chromium nor google-chrome is installed, so no page was opened."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
