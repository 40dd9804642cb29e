"""The exercises of every page: whole commands that their studies take, with what comes out of them."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from paper.studies import base
from paper.tools import exercises as tool
from paper.tools import profiles, sources
from paper.words import exercises
from paper.words.exercises import EXERCISES, Exercise

PAGES = profiles.profile(sources.ROOT / "profiles" / "quick.yaml")


def test_every_page_of_the_book_has_exercises_and_shows_them():
    assert set(EXERCISES) == set(PAGES)
    for page in PAGES.values():
        cells = [cell["source"] for cell in sources.cells(page.source)]
        assert any("exercises.told(study)" in cell for cell in cells), page.name
        text = json.loads(page.source.read_text(encoding="utf-8"))["cells"]
        prose = "".join("".join(cell["source"]) for cell in text if cell["cell_type"] == "markdown")
        assert not re.search(r"\*\*(Exercises?|Try it)\.", prose), f"{page.name} has exercises in its prose"


@pytest.mark.parametrize("page", EXERCISES)
def test_commands_parse_and_their_studies_take_the_parameters(page):
    for exercise in EXERCISES[page]:
        given = shlex.split(exercise.command(page))
        assert given[:4] == ["python", "-m", "paper.tools.pages", "run"] and given[5] == "out.ipynb"
        notebook = sources.ROOT / given[4]
        values = {given[at + 1]: profiles.value(given[at + 2]) for at, word in enumerate(given) if word == "-p"}
        assert values == exercise.given
        profiles.check_parameters(notebook, values)
        if not exercise.needs:
            study = tool.study_of(page, exercise)
            assert study.notebook() == notebook.stem
            # Not the page itself, asked once more.
            defaults = {name: profiles.value(text) for name, text in profiles.parameters(notebook).items()}
            assert study != type(study)(**{**defaults, "device": "cpu"})


@pytest.mark.parametrize("page", EXERCISES)
def test_what_comes_out_is_there_and_folded(page):
    assert tool.check([page], judge=False) == []
    shown = exercises.told(_on(page))
    assert shown.count("```sh") == len(EXERCISES[page])
    expected = [exercises.result(page, number) for number in range(len(EXERCISES[page]))]
    assert shown.count('<details class="expected">') == sum(one is not None for one in expected)
    assert any(expected) or all(one.needs for one in EXERCISES[page])
    for one in filter(None, expected):
        assert one["findings"] or one["said"]


def _on(page: str) -> base.Study:
    """A study on a page: all that the words ask of it is its name."""
    return base.named(PAGES[page].notebook)(**PAGES[page].parameters)


@pytest.mark.parametrize("page", ["operator", "gap_origin"])
def test_what_is_kept_is_what_the_evidence_says_today(page):
    assert tool.check([page]) == []


def test_a_stale_result_is_found(monkeypatch, tmp_path):
    kept = json.loads(exercises.RESULTS.read_text(encoding="utf-8"))
    kept["pages"]["operator"][0]["findings"][0]["value"] = "42"
    kept["pages"]["operator"][1]["given"] = {"steps": 999}
    changed = tmp_path / "exercises.json"
    changed.write_text(json.dumps(kept), encoding="utf-8")
    monkeypatch.setattr(exercises, "result", lambda page, number, read=exercises.result: read(page, number, changed))
    first, second = tool.check(["operator"])
    assert first.endswith("what comes out has changed") and second.endswith("what comes out is missing")


def test_cells_of_other_code_are_not_taken(monkeypatch, tmp_path):
    shelf = tool.Shelf(tmp_path, tmp_path)
    study = tool.study_of("operator", EXERCISES["operator"][0])
    assert len(tool.missing(study, shelf)) == len(study.cells())


def test_what_a_reader_must_have_is_said_and_nothing_made_up(tmp_path):
    shown = exercises.told(_on("real_clip"), tmp_path / "none.json")
    assert "It needs the data set in FOLDER" in shown and "not measured here" in shown and "<details" not in shown


def test_a_command_is_quoted_for_a_shell():
    command = Exercise("?", {"rates": [1, 10], "name": "two words", "text": "3"}).command("world")
    assert shlex.split(command)[6:] == ["-p", "rates", "[1, 10]", "-p", "name", "two words", "-p", "text", "'3'"]
