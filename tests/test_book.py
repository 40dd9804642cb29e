"""The book's configuration, its vendored scripts, and the built book if there is one."""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_file

from paper.tools import sources

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "_build" / "html"
VENDORED = ROOT / "book" / "static" / "jsvendor"


def settings() -> dict:
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def test_book_executes_nothing_and_fetches_nothing():
    config = settings()
    assert config["execute"] == {"execute_notebooks": "off", "stderr_output": "remove-warn"}
    assert config["only_build_toc_files"] is True
    assert (ROOT / "book" / "static" / config["sphinx"]["config"]["mathjax_path"]).is_file()
    assert config["sphinx"]["config"]["nb_ipywidgets_js"] == {}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
def test_contents_and_profile_name_the_same_pages(name, contents):
    runs = {chapter.removeprefix("book/runs/") for chapter in contents if chapter.startswith("book/runs/")}
    entries = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text(encoding="utf-8"))["pages"]
    if name in ("evidence", "real"):
        # They are about numbers and make no pages; what one of them leaves is the other's. What is shown beside a page
        # has none of its own.
        own = {page for page, entry in entries.items() if "beside" not in entry}
        assert own == {page for page in runs if (page == "real_clip") == (name == "real")}
        return
    assert set(entries) == runs
    titles = [entry["title"] for entry in entries.values() if "title" in entry]
    assert len(set(titles)) == len(titles)
    shared = [entry["notebook"] for entry in entries.values()]
    # Pages from one notebook would all carry its heading.
    assert all("title" in entry for entry in entries.values() if shared.count(entry["notebook"]) > 1)


def test_contents_name_pages_that_exist(chapter):
    assert chapter.startswith("book/runs/") or (ROOT / f"{chapter}.md").is_file()


def test_glossary_has_the_words_of_the_book():
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    words = set(re.findall(r"(?m)^([a-z][\w -]*)$", text))
    assert words >= {
        *("learner", "gate", "backbone", "task", "perturbation", "severity", "chip", "read", "backward rule"),
        *("recovery", "replica", "finding", "evidence", "rerun", "cell"),
    }


def test_no_two_papers_are_cited_by_the_same_words():
    """Authors as the book names them, and the year; two papers of the same authors and year have a and b behind it."""
    labels = []
    for entry in parse_file(ROOT / "book" / "references.bib").entries.values():
        names = [" ".join(person.last_names) for person in entry.persons["author"]]
        labels.append((" and ".join(names) if len(names) < 3 else f"{names[0]} et al.", entry.fields["year"]))
    assert len(set(labels)) == len(labels) > 30


def test_library_pages_name_every_public_module():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("api*.md"))
    named = {name for name in re.findall(r"automodule:: (\S+)", text) if name.partition(".")[0] == "lib"}
    public = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "lib").rglob("*.py")
        if not path.name.startswith("_")
    }
    files = {module: ROOT.joinpath(*module.split(".")) for module in named}
    packages = {module for module, path in files.items() if (path / "__init__.py").is_file()}
    assert {module for module in named - packages if module.startswith("lib.")} == public
    assert [module for module in named - packages if not files[module].with_suffix(".py").is_file()] == []


def test_vendored_scripts_are_the_ones_declared():
    declared = {}
    for line in (VENDORED / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, name = line.split(maxsplit=1)
        declared[name] = digest
    found = {
        str(path.relative_to(VENDORED)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDORED.rglob("*")
        if path.is_file() and path.name not in {"README.md", "SHA256SUMS"}
    }
    assert found == declared
    assert "mathjax/LICENSE" in found


def _imported(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    code = ast.parse(path.read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(code) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


#: What modules whose names begin so must never import.
FORBIDDEN = {
    "lib": ("paper",),
    "lib.prompts": ("lib.hardware",),
    "lib.hardware": ("lib.prompts",),
    "paper.figures": ("lib.replicas", "lib.prompts.training", "lib.hardware.training", "paper.sweep"),
    "paper.words": ("lib.replicas", "lib.prompts.training", "lib.hardware.training", "paper.sweep"),
    **{
        f"lib.{name}": ("lib.prompts", "lib.hardware")
        for name in (
            "checks",
            "code",
            "registry",
            "runtime",
            "gradients",
            "verdicts",
            "replicas",
            "results",
            "pictures",
        )
    },
}


def test_the_house_stands_on_its_ground_floor():
    """lib never imports paper, the ground floor knows no wing, no wing the other, and figures train nothing."""
    for path in [*(ROOT / "lib").rglob("*.py"), *(ROOT / "paper").rglob("*.py")]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        imported = _imported(path)
        for start, refused in FORBIDDEN.items():
            if f"{module}.".startswith(f"{start}."):
                bad = [name for name in imported if any(f"{name}.".startswith(f"{one}.") for one in refused)]
                assert not bad, (module, bad)


def test_the_library_is_small_and_knows_no_paths_of_the_repository():
    files = list((ROOT / "lib").rglob("*.py"))
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 11_750
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"[\"'](?:results|notebooks|profiles|book)/", text), path


@pytest.mark.parametrize("wing, other", [("gradient_imbalance", "hardware"), ("perturbation", "prompts")])
def test_page_does_not_depend_on_the_other_wing(wing, other):
    notebook = ROOT / "notebooks" / f"{wing}.ipynb"
    if not notebook.is_file():
        pytest.skip(f"{notebook.name} is not there")
    parts = {part for path in sources.reached(notebook) for part in path.relative_to(ROOT).parts}
    assert other not in parts


def test_offline_check_sees_what_it_must(tmp_path, outside):
    (tmp_path / "page.html").write_text(
        '<link rel="stylesheet" href="https://a.example/x.css"><a href="https://fine.example">fine</a>'
        '<script src="//b.example/x.js"></script><img src="x.png" srcset="https://c.example/x.png 2x">'
        '<div style="background:url(http://d.example/x.png)"></div><link rel="canonical" href="https://fine.example">'
    )
    (tmp_path / "page.css").write_text("@import 'https://e.example/x.css'; a {src: url('//f.example/x.woff')}")
    hosts = sorted(re.search(r"//(\w)\.", found)[1] for found in outside(tmp_path))
    assert hosts == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="no book is built here: `make book`")
def test_built_book_is_whole_and_asks_nothing_outside(outside, contents):
    assert outside(BUILT) == []
    titles = {}
    for chapter in contents:
        text = (BUILT / f"{chapter}.html").read_text(encoding="utf-8")
        titles[chapter] = re.search(r"<title>(.*?)</title>", text, re.DOTALL)[1].strip()
        assert str(ROOT) not in text, f"{chapter} names a folder of the machine that built it"
        if "math notranslate" in text:
            assert "_static/jsvendor/mathjax/es5/tex-chtml-full.js" in text, chapter
    assert len(set(titles.values())) == len(titles), titles
    assert not list(BUILT.rglob("_sources"))


@pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="no book is built here: `make book`")
def test_pages_of_the_library_show_short_values_and_no_words_of_python(contents):
    for chapter in (one for one in contents if one.startswith("book/api_")):
        text = (BUILT / f"{chapter}.html").read_text(encoding="utf-8")
        named = re.findall(r'<em class="property">(.*?)</em>', text, re.DOTALL)
        values = [value for one in named if (value := " ".join(re.sub(r"<[^>]+>", "", one).split())).startswith("=")]
        assert not [value for value in values if len(value) > 45], chapter
        assert "Alias for field number" not in text and "ConfigDict" not in text, chapter
