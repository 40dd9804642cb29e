"""The page on reproducing: what it says is what the runs and the evidence say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nbformat
import pytest

from paper.tools import reproducing
from paper.tools.reproducing import Book, took

ROOT = Path(__file__).resolve().parents[1]
MACHINE = {"device": "cpu", "device_name": "A chip", "threads": 2, "python": "3.12", "torch": "9", "open_clip": "1"}
MACHINE |= {"numpy": "2", "commit": "a" * 40, "date": "2031-05-06"}


@pytest.fixture
def book(tmp_path):
    """A copy with two executed pages and evidence of one study, computed on two machines."""
    (tmp_path / "book" / "runs").mkdir(parents=True)
    (tmp_path / "book" / "reproducing.md").write_text("# Reproducing\n")
    (tmp_path / "_toc.yml").write_text("chapters: [{file: book/runs/second}, {file: book/runs/first}]\n")
    (tmp_path / "results" / "evidence").mkdir(parents=True)
    (tmp_path / "profiles").mkdir()
    told = {"first": {"compared": 10, "disagree": 3, "seconds": 50}, "second": {"seconds": 71}}
    for name, run in told.items():
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(f"Before\n\n# The {name} | page")],
            metadata={"run": {"machine": MACHINE, "cells": {"stale": 2 if name == "first" else 0}, **run}},
        )
        nbformat.write(notebook, tmp_path / "book" / "runs" / f"{name}.ipynb")
    cells = {
        str(number): {"kind": "k", "config": {}, "origin": number % 2, "seconds": 100.0 * number} for number in range(4)
    }
    record = {"origins": [MACHINE, {**MACHINE, "device": "cuda", "date": "2030-01-01"}], "cells": cells}
    (tmp_path / "results" / "evidence" / "world.json").write_text(json.dumps(record))
    (tmp_path / "profiles" / "evidence.yaml").write_text("pages: {world: {notebook: world, parameters: {seeds: 4}}}\n")
    return tmp_path


def test_the_build_says_what_agrees_and_where_not(book):
    said = Book(book, ["first", "second"]).build()
    assert "2 pages" in said and "A chip (cpu, 2 threads)" in said and "2 min together" in said
    assert "10 values" in said and "7 agree" in said and "[The first | page](runs/first) (3)" in said
    assert "Evidence that is stale: [The first | page](runs/first) (2 cells)." in said and "missing" not in said


def test_machines_share_out_the_time_of_the_evidence(book):
    said = Book(book, []).machines()
    assert "| A chip (cpu, 2 threads) | 2 cells, 3 min | 2031-05-06 |" in said
    assert "| A chip (cuda) | 2 cells, 7 min | 2030-01-01 |" in said


def test_sums_are_those_of_the_files(book):
    path = book / "results" / "evidence" / "world.json"
    said = Book(book, []).checksums()
    assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  results/evidence/world.json" in said


def test_pages_stand_in_the_order_of_the_book_and_files_that_stay_are_not_touched(book):
    reproducing.write(book, ["first", "second"])
    folder = book / "book" / "runs" / "exports"
    pages = folder / "reproducing-pages.md"
    lines = pages.read_text().splitlines()
    assert [line.split("|")[1].strip().split(" ")[1] for line in lines[2:]] == ["second", "first"]
    assert r"[The first \| page](runs/first)" in lines[3] and "**3 disagree**" in lines[3]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    reproducing.write(book, ["first", "second"])
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_book_without_the_page_gets_nothing(tmp_path):
    reproducing.write(tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_the_page_includes_what_is_written_and_is_linked():
    text = (ROOT / "book" / "reproducing.md").read_text(encoding="utf-8")
    for part in ("build", "pages", "machines", "versions", "seeds", "checksums"):
        assert f"runs/exports/reproducing-{part}.md" in text
    assert "(reproducing)" in (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    assert "book/reproducing.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_evidence_and_weights_have_sums():
    names = [path.name for path in Book(ROOT, []).files()]
    assert {"miniclip.safetensors", "requirements.lock", "escape.csv"} <= set(names)


@pytest.mark.parametrize(
    "seconds, words", [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (8100, "2.25 h")]
)
def test_times(seconds, words):
    assert took(seconds) == words
