"""A release: refused where it would not be one, alike wherever it is made, and whole."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from lib.checks import ParameterError
from paper.tools import printing, release

ROOT = Path(__file__).resolve().parents[1]
PAGE = """<!DOCTYPE html><html><head><title>T</title><link rel="stylesheet" href="../_static/a.css">
<script src="../_static/mathjax/tex.js"></script><script src="../_static/other.js"></script></head><body>
<article class="bd-article"><section id="top"><h1>{name}<a class="headerlink" href="#top">#</a></h1>
<p><a href="{other}.html#top">there</a> <a href="https://example.org">out</a> <img src="../_images/{name}.png"></p>
<details class="hide"><summary>code</summary></details><details><summary>more</summary></details>
<script>1</script></section><aside class="ways">, commit {commit}.</aside></article></body></html>
"""


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *own, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def tree(tmp_path):
    """A committed book of two pages, built."""
    root = tmp_path / "tree"
    (root / "results" / "evidence").mkdir(parents=True)
    (root / "results" / "evidence" / "a.csv").write_text("cell\n")
    for name in ("CITATION.cff", "LICENSE", "LICENSE-text", "README.md", "requirements.lock", ".zenodo.json"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    (root / ".gitignore").write_text("_build/\nbook/runs/\n")
    (root / "notebooks").mkdir()
    (root / "notebooks" / "one.ipynb").write_text("{}")
    (root / "_toc.yml").write_text("root: book/one\nparts: [{chapters: [{file: book/two}]}]\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    build(root)
    return root


def build(root: Path) -> None:
    (root / "book" / "runs").mkdir(parents=True, exist_ok=True)
    (root / "book" / "runs" / "one.ipynb").write_text('{"metadata": {"run": {"notebook": "one"}}}')
    html = root / "_build" / "html"
    (html / "book").mkdir(parents=True, exist_ok=True)
    (html / "index.html").write_text("<a href=book/one.html>")
    (html / ".buildinfo").write_text(str(time.time()))
    # What is no page: the rest of a print that was killed, and a template of the theme.
    (html / printing.DOCUMENT).write_text('<aside class="ways">, commit of long ago.</aside>')
    (html / "_static").mkdir(exist_ok=True)
    (html / "_static" / "webpack-macros.html").write_text("{{ }}")
    commit = git(root, "rev-parse", "--short=7", "HEAD")
    for name, other in (("one", "two"), ("two", "one")):
        (html / "book" / f"{name}.html").write_text(PAGE.format(name=name, other=other, commit=commit))


def test_a_release_has_source_evidence_book_and_sums(tree, tmp_path):
    made = release.make(tree, tmp_path / "dist")
    folder = made[0].parent
    names = {path.name for path in made}
    name = release.name_of(ROOT)
    assert folder.name == name == "when-gradients-cannot-help-0.1.0"
    archives = {f"{name}-source.tar.gz", f"{name}-evidence.tar.gz", f"{name}-book.zip"}
    assert names == {*archives, *release.BESIDE, release.SUMS}
    for line in (folder / release.SUMS).read_text().splitlines():
        digest, path = line.split("  ")
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest
    with tarfile.open(folder / f"{name}-source.tar.gz") as source:
        assert f"{name}/notebooks/one.ipynb" in source.getnames()
    with tarfile.open(folder / f"{name}-evidence.tar.gz") as source:
        files = [one.name for one in source.getmembers() if one.isfile()]
    assert files == [f"{name}/results/evidence/a.csv"]
    with zipfile.ZipFile(folder / f"{name}-book.zip") as book:
        assert {f"{name}-book/index.html", f"{name}-book/book/one.html"} <= set(book.namelist())
        assert not any(re.search(r"\.buildinfo|_print|macros", one) for one in book.namelist())


def test_the_same_commit_and_book_give_the_same_bytes(tree, tmp_path):
    first = {path.name: path.read_bytes() for path in release.make(tree, tmp_path / "first")}
    for path in (tree / "_build").rglob("*"):
        os.utime(path, (1, 1))
    (tree / "_build" / "html" / ".buildinfo").write_text("later")
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(tree), str(copy))
    for folder in ("_build", "book"):
        subprocess.run(["cp", "-r", str(tree / folder), str(copy)], check=True)
    assert {path.name: path.read_bytes() for path in release.make(copy, tmp_path / "second")} == first


def test_what_would_be_no_release_is_refused_in_one_sentence(tree, tmp_path):
    out = tmp_path / "dist"

    def refused() -> str:
        with pytest.raises(ParameterError) as caught:
            release.make(tree, out)
        assert not out.exists() and "\n" not in str(caught.value)
        return str(caught.value)

    (tree / "new.txt").write_text("x")
    assert "new.txt is not committed" in refused()
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "second")
    assert re.search(r"must be of commit \w{7}, but book/one.html says another: make book", refused())
    build(tree)
    later = time.time() + 100
    os.utime(tree / "notebooks" / "one.ipynb", (later, later))
    assert "one.ipynb is newer: make book" in refused()
    os.utime(tree / "notebooks" / "one.ipynb", (1, 1))
    (tree / "_build" / "html" / "index.html").unlink()
    assert "_build/html has none: make book" in refused()


def test_a_folder_without_a_commit_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="must be made in a git checkout"):
        release.check_clean(tmp_path)


def test_zenodo_is_told_what_the_citation_says():
    assert (ROOT / ".zenodo.json").read_text(encoding="utf-8") == release.zenodo(ROOT), (
        "python -m paper.tools.release zenodo"
    )
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    told = json.loads(release.zenodo(ROOT))
    assert (told["title"], told["version"], told["license"]) == (cited["title"], cited["version"], cited["license"])
    assert [one["name"] for one in told["creators"]] == [one["name"] for one in cited["authors"]]
    assert len(told["related_identifiers"]) == len(cited["references"])


def test_people_are_named_as_zenodo_wants_them():
    given = {"family-names": "Byron", "given-names": "Ada", "orcid": "https://orcid.org/0000-0001"}
    assert release._creator(given) == {"name": "Byron, Ada", "orcid": "0000-0001"}


def test_a_zip_has_no_time_and_no_owner():
    from datetime import UTC, datetime

    when = datetime(2031, 5, 6, tzinfo=UTC)
    files = [("b", b"2"), ("a", b"1")]
    made = release.zipped(files, when)
    assert made == release.zipped(reversed(files), when)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert [(one.filename, one.date_time[:3]) for one in archive.infolist()] == [
            ("a", (2031, 5, 6)),
            ("b", (2031, 5, 6)),
        ]


def test_pages_become_one_document_with_links_within_it(tree):
    html = tree / "_build" / "html"
    text = printing.merged(html, printing.chapters(tree / "_toc.yml"))
    assert text.index('id="book-one"') < text.index('id="book-two"')
    assert 'href="#book-two--top"' in text and 'id="book-two--top"' in text and 'href="https://example.org"' in text
    assert 'src="_images/one.png"' in text and 'href="_static/a.css"' in text
    assert 'src="_static/mathjax/tex.js"' in text and "other.js" not in text and "<script>1" not in text
    # What is folded is open; code that is folded is left out, with the line that would unfold it.
    assert 'class="hide"' not in text and '<details open="">' in text and "headerlink" not in text


@pytest.mark.browser
def test_a_book_is_printed(tree, chromium, tmp_path):
    made = release.printed(tree, tmp_path / "book.pdf")
    assert made.read_bytes().startswith(b"%PDF") and not list((tree / "_build" / "html").glob("_print*"))
    # A second later it would have another time in it.
    assert release.printed(tree, tmp_path / "again.pdf").read_bytes() == made.read_bytes()
    stamp = release._committed(tree).strftime("%Y%m%d%H%M%S")
    assert f"/CreationDate (D:{stamp}".encode() in made.read_bytes()


@pytest.mark.browser
def test_no_table_is_cut_on_paper(chromium):
    from paper.tools import looks

    row = "".join(f"<td>{'unbreakable' * 2}{index}</td>" for index in range(8))
    tables = f"<table><tr>{row}</tr></table><table><tr><td>small</td></tr></table>"
    wide = "[...document.querySelectorAll('table')].map(one => one.getBoundingClientRect().width)"
    with looks.opened(chromium) as browser:
        page = browser.new_page(viewport={"width": printing._WIDTH, "height": 500})
        page.set_content(f"<style>{printing._STYLE}</style><main><div>{tables}</div></main>")
        before = page.evaluate(wide)
        page.evaluate(printing.FITTED)
        after = page.evaluate(wide)
    assert before[0] > printing._WIDTH >= after[0] and before[1] == after[1]
