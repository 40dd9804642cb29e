"""The end of every page: how it is run again, taken along, opened elsewhere, corrected and cited."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from docutils import nodes

from paper.tools import version, ways
from paper.tools.ways import Repository, Source

ROOT = Path(__file__).resolve().parents[1]
RUN = {"notebook": "perturbation", "parameters": {"perturbation": "ir_drop", "severities": [3000]}, "seconds": 61}


@pytest.fixture
def book(tmp_path):
    """A book with one page of text and one executed notebook, as Sphinx finds it."""
    (tmp_path / "book" / "runs").mkdir(parents=True)
    (tmp_path / "book" / "text.md").write_text("# Text\n")
    (tmp_path / "CITATION.cff").write_text((ROOT / "CITATION.cff").read_text())
    code = nbformat.v4.new_code_cell("1 + 1", execution_count=1, outputs=[nbformat.v4.new_output("stream", text="2")])
    cells = [nbformat.v4.new_markdown_cell("# IR-drop"), code]
    made = nbformat.v4.new_notebook(
        cells=cells, metadata={"run": RUN, "widgets": {}, "kernelspec": {"name": "python3", "display_name": "P"}}
    )
    nbformat.write(made, tmp_path / "book" / "runs" / "ir.ipynb")
    return tmp_path


def doctree(*paragraphs: str) -> nodes.document:
    made = nodes.document(None, None)
    made += [nodes.paragraph("", text) for text in paragraphs]
    return made


SAID = "Wires have a resistance, and a large crossbar loses what it should add up. "


def shown(book: Path, page: str, url: str = "", hub: str = "", tree: nodes.document | None = None) -> dict[str, str]:
    """What a page's template is given."""
    options = {"repository_url": url, "repository_branch": "main", "launch_buttons": {"jupyterhub_url": hub}}
    config = SimpleNamespace(html_theme_options=options, copyright="2026", jupyterhub="")
    app = SimpleNamespace(srcdir=str(book), outdir=str(book / "html"), config=config)
    ways._own_hub(app, config)
    assert "launch_buttons" not in options, "the theme's button would ask for notebooks that are not in the repository"
    context = {"body": "<h1>A & B</h1>", "title": "A &amp; B", "pathto": lambda name, _: f"../../{name}"}
    ways._page(app, page, "page.html", context, doctree("Short.", SAID * 5) if tree is None else tree)
    return context


def test_a_page_can_be_run_downloaded_and_cited(book):
    body = shown(book, "book/runs/ir")["body"]
    command = "notebooks/perturbation.ipynb out.ipynb -p perturbation ir_drop -p severities &#x27;[3000]&#x27;"
    assert f"python -m paper.tools.pages run {command}" in body
    assert "(about 70 s where this was built)" in body and 'href="../../notebooks/ir.ipynb" download' in body
    assert "version 0.1.0" in body and "@misc{when-gradients-cannot-help," in body


def test_no_link_leaves_the_book_while_there_is_no_repository(book):
    assert "http" not in shown(book, "book/runs/ir")["body"] and "http" not in shown(book, "book/text")["body"]
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"]["url"] == "" and not config["launch_buttons"]["jupyterhub_url"]


def test_one_setting_turns_all_links_on(book):
    body = shown(book, "book/runs/ir", "https://github.com/someone/book.git/", hub="https://hub.example.org/")["body"]
    for address in (
        "https://github.com/someone/book",
        "https://github.com/someone/book/issues/new?title=A%20%26%20B%3A%20",
        "https://github.com/someone/book/edit/main/notebooks/perturbation.ipynb",
        "https://mybinder.org/v2/gh/someone/book/main?urlpath=lab%2Ftree%2Fnotebooks%2Fperturbation.ipynb",
        "https://colab.research.google.com/github/someone/book/blob/main/notebooks/perturbation.ipynb",
    ):
        assert f'href="{address}"' in body
    assert "https://hub.example.org/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2Fsomeone%2Fbook" in body
    assert "git clone --depth 1 -b main https://github.com/someone/book" in body, "Colab has no copy of the book"
    text = shown(book, "book/text", "https://github.com/someone/book")["body"]
    assert "/edit/main/book/text.md" in text and "Binder" not in text and "pages run" not in text


def test_other_hosts_have_other_addresses():
    home = Repository("https://gitlab.com/group/sub/book")
    assert home.edit("book/a b.md") == "https://gitlab.com/group/sub/book/-/edit/main/book/a%20b.md"
    assert home.launch("notebooks/a.ipynb") == {
        "Binder": "https://mybinder.org/v2/gl/group%2Fsub%2Fbook/main?urlpath=lab%2Ftree%2Fnotebooks%2Fa.ipynb"
    }
    assert "Colab" not in Repository("https://codeberg.org/a/b").launch("notebooks/a.ipynb")


def test_the_downloaded_notebook_is_the_pages_and_has_no_outputs(book):
    shown(book, "book/runs/ir")
    path = book / "html" / "notebooks" / "ir.ipynb"
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    assert [cell.source for cell in found.cells] == ["# IR-drop", "1 + 1"]
    assert not found.cells[1].outputs and found.cells[1].execution_count is None
    assert set(found.metadata) == {"kernelspec"}
    assert json.loads((book / "book" / "runs" / "ir.ipynb").read_text())["cells"][1]["outputs"], "the page keeps them"


def test_every_page_has_a_description_of_its_own(book):
    tags = shown(book, "book/text")["metatags"]
    said = xml.etree.ElementTree.fromstring(tags.strip()).attrib["content"]
    assert tags.count("<meta") == 1 and said.startswith("Wires have") and len(said) <= 160 and said.endswith("…")
    # Without a paragraph that says something, what the book is about.
    assert "An executable book" in shown(book, "book/text", tree=doctree("Short."))["metatags"]
    formula = nodes.paragraph("", "A long sentence about a formula that nobody can read here: ")
    formula += nodes.math("", r"\frac{1}{2}")
    assert ways.description(formula.deepcopy()) == ""


def test_pages_without_a_file_get_no_end(book):
    assert shown(book, "genindex")["body"] == "<h1>A & B</h1>"
    assert Source.of(book, "genindex") is None


@pytest.mark.parametrize(
    "seconds, words",
    [(0.2, "10 s"), (41, "50 s"), (90, "90 s"), (91, "2 min"), (600, "10 min"), (5400, "90 min"), (5500, "2 h")],
)
def test_times_are_rounded_up(seconds, words):
    assert ways.about(seconds) == f"about {words}"


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *own, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_is_that_of_the_checkout_or_of_its_archive(tmp_path):
    assert version.commit(tmp_path) == ""
    for name in (".gitattributes", ".git_archival.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    assert version.commit(tmp_path) == "", "nobody has filled it in"
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert version.commit(tmp_path) == head and version.short(head) == head[:7]
    archive = tmp_path / "archive"
    archive.mkdir()
    git(tmp_path, "archive", "-o", "a.tar", "HEAD")
    subprocess.run(["tar", "xf", "../a.tar"], cwd=archive, check=True)
    # Within another repository, whose commit is none of its own.
    assert version.commit(archive) == head
    (tmp_path / ".gitattributes").write_text("")
    assert version.commit(tmp_path) == f"{head}+changes"
    assert version.short(f"{head}+changes") == f"{head[:7]} with changes"


def test_citation_needs_no_authors_of_one_kind(tmp_path):
    (tmp_path / "CITATION.cff").write_text(
        "title: T\nversion: 2.0\ndate-released: 2031-05-06\n"
        "authors: [{given-names: Ada, family-names: Byron}, {name: The group}]\n"
    )
    found = version.Citation.of(tmp_path, "1999")
    assert found.sentence("a" * 40) == "Ada Byron, The group (2031). T, version 2.0, commit aaaaaaa."
    assert "author = {{Ada Byron} and {The group}}" in found.bibtex()
    assert version.Citation.of(tmp_path / "nowhere") is None


def test_the_icon_is_a_small_drawing():
    path = ROOT / yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["favicon"]
    assert path.stat().st_size < 2000
    drawn = xml.etree.ElementTree.parse(path).getroot()
    assert drawn.tag.endswith("svg") and not list(drawn.iter("{http://www.w3.org/2000/svg}image"))
