"""The committed notebooks: complete, clean, short, and known to both profiles. nbval re-executes them."""

from __future__ import annotations

import configparser
import re
import statistics

import nbformat
import pytest

from paper.studies import base
from paper.tools import pages, profiles

NOTEBOOKS = sorted(pages.NOTEBOOKS.glob("*.ipynb"))
ROOT = profiles.sources.ROOT
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_stored_outputs_do_not_depend_on_the_words_of_matplotlib():
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "nbval.cfg")

    def compared(text: str) -> str:
        for name in rules.sections():
            text = re.sub(rules[name]["regex"], rules[name]["replace"], text)
        return text

    for cell in (cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells):
        for text in (output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])):
            assert not re.search(r"\bAxes\b|matplotlib", compared(text)), text
    assert compared("<_Drawing size 8x5 with 2 Axes>") == compared("<matplotlib.figure.Figure at 0x7f00aa>")
    assert compared("2 points with 3 classes") == "2 points with 3 classes"


def test_there_are_notebooks():
    assert NOTEBOOKS


@each
def test_nothing_unwanted_is_stored(path):
    assert pages.problems(nbformat.read(path, as_version=4)) == []


@each
def test_stored_form_is_the_tidy_one(path):
    stored = nbformat.read(path, as_version=4)
    assert pages.tidy(nbformat.read(path, as_version=4)) == stored
    nbformat.validate(stored)


@each
def test_code_is_short_and_prose_carries_the_page(path):
    cells = nbformat.read(path, as_version=4).cells
    lengths = [
        len([line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")])
        for cell in cells
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    assert statistics.median(lengths) <= 6
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    assert words >= 5 * sum(lengths)
    assert re.match(r"# \S", cells[0].source), "a page begins with its heading"


@each
def test_cells_ran_in_order(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


#: README's pictures as the Makefile writes them: notebook, what it exports, file.
PICTURES = re.findall(
    r"(?m)^\t@python -m paper\.tools\.pages export (\w+) (\S+) (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(("name", "export", "picture"), PICTURES, ids=[one[0] for one in PICTURES])
def test_readme_shows_the_pictures_of_the_committed_notebooks(name, export, picture):
    found = pages.exports(nbformat.read(pages.NOTEBOOKS / f"{name}.ipynb", as_version=4))
    assert (ROOT / picture).read_bytes() == found[export], "`make notebooks` writes it"
    shown = re.findall(r"!\[([^\]]{20,})\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert picture in {path for _, path in shown}, "README shows it, and says in words what is to be seen"


def test_readme_shows_no_other_picture_and_one_of_each_part():
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown == [picture for _, _, picture in PICTURES] and len(shown) == 3


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profiles_name_known_notebooks_and_parameters(path):
    book = profiles.profile(path)
    real = {page.notebook for page in profiles.real().values()}
    wanted = {"real": real, "evidence": {one.stem for one in NOTEBOOKS} - real}
    assert {page.notebook for page in book.values()} == wanted.get(path.stem, {one.stem for one in NOTEBOOKS})


@each
def test_defaults_are_those_of_the_study_and_covered_by_the_evidence(path):
    """A notebook run as it is must find its evidence: its parameters are the study's, and the evidence has them."""
    study = base.named(path.stem)
    (cell,) = [one for one in nbformat.read(path, as_version=4).cells if "parameters" in one.metadata.get("tags", [])]
    given: dict[str, object] = {}
    exec(cell.source, given)
    given.pop("__builtins__")
    assert study(**given) == study()
    assert set(given) <= set(study.model_fields)
    assert study(**given).covering() is not None


@each
def test_shared_notebook_defines_no_labels(path):
    (quick,) = [profile for profile in PROFILES if profile.stem == "quick"]
    users = [page for page in profiles.profile(quick).values() if page.notebook == path.stem]
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    if len(users) > 1:
        # A label of one notebook would be defined once on each of its pages.
        assert not re.search(r"(?m)^\([\w-]+\)=$|\$\$ *\([\w-]+\)|:name:|:label:", text)
