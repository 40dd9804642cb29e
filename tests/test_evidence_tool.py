"""``make evidence``: cell by cell, resumable after kills, honest about what is stale and what it will take."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from typing import Annotated, ClassVar, TextIO

import pandas as pd
import pytest

from lib.checks import ParameterError
from lib.results import Cell
from paper.evidence import Evidence
from paper.studies import base
from paper.studies.base import Study
from paper.studies.parameters import Numbers, Whole
from paper.tools import estimate, profiles
from paper.tools import evidence as tool

SLOW = {"seconds": 0.0}
TOGETHER: list = []
BROKEN: set[float] = set()
FACTOR: dict[float, float] = {}
asked: list = []


def measure(config, site):
    time.sleep(SLOW["seconds"])
    for barrier in TOGETHER:
        barrier.wait()
    asked.append((config["severity"], config["seeds"]))
    if config["severity"] in BROKEN:
        raise RuntimeError("the device is on fire")
    return {
        "rows": pd.DataFrame(
            {"seed": config["seeds"], "accuracy": config["severity"] * FACTOR.get(config["severity"], 1)}
        )
    }


class Toy(Study):
    severities: Annotated[tuple[float, ...], Numbers(0, 100)] = (0.0, 0.5)
    seeds: Annotated[int, Whole(1)] = 2

    PARTS: ClassVar = ("severities",)

    def cells(self):
        seeds = list(range(self.seeds))
        return [Cell("toy", {"severity": value, "seeds": seeds}, measure) for value in self.severities]


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile of two pages, which share a cell; a function that says how the evidence stands."""
    entries = {
        "one": profiles.Page("one", "toy", parameters={"severities": [0.0, 1.0, 2.0]}),
        "two": profiles.Page("two", "toy", parameters={"severities": [2.0, 3.0]}),
    }
    monkeypatch.setattr(base, "EVIDENCE", tmp_path / "evidence")
    # Times of these cells are expected from them alone: a model of all that is committed takes seconds.
    monkeypatch.setattr(estimate, "COMMITTED", tmp_path / "evidence")
    monkeypatch.setattr(profiles, "evidence", lambda: entries)
    monkeypatch.setattr(base, "named", lambda notebook: Toy)
    monkeypatch.setattr(Toy, "notebook", classmethod(lambda cls: "toy"))
    SLOW["seconds"] = 0.0
    BROKEN.clear()
    return lambda: {one.cell.config["severity"]: one.state for one in tool.plan()}


def test_everything_missing_is_computed_once_and_then_nothing(profile, capsys):
    assert set(profile().values()) == {"missing"} and len(profile()) == 4
    assert tool.main(["run"]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 cells to compute in 4 batches" in said and "4/4 toy, toy" in said and "left" in said
    assert set(profile().values()) == {"current"}
    assert tool.main(["run"]) == 0 and "0 of 4 cells to compute" in capsys.readouterr().out
    assert tool.main(["check"]) == 0


def test_pages_may_be_named(profile, capsys):
    assert tool.main(["run", "two"]) == 0
    assert profile() == {0.0: "missing", 1.0: "missing", 2.0: "current", 3.0: "current"}
    assert tool.main(["run", "three"]) == 2
    assert capsys.readouterr().err.strip() == "PAGES must be one of one, two, but 'three' was given."


def test_a_dry_run_says_what_and_how_long_and_computes_nothing(profile, capsys):
    SLOW["seconds"] = 0.2
    tool.main(["run", "one"])
    capsys.readouterr()
    assert tool.main(["run", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "1 of 4 cells to compute" in said and "about 0 s" in said and "(missing)" in said
    assert profile()[3.0] == "missing"


def test_jobs_work_side_by_side(profile):
    """Each cell waits until all four are at work."""
    TOGETHER.append(multiprocessing.Barrier(4, timeout=100))
    try:
        assert tool.main(["run", "--jobs", "4"]) == 0
    finally:
        TOGETHER.clear()
    assert set(profile().values()) == {"current"}


def test_one_that_fails_is_named_and_the_others_are_finished(profile, capsys):
    BROKEN.add(1.0)
    assert tool.main(["run"]) == 1
    assert "FAILED toy, toy: RuntimeError: the device is on fire" in capsys.readouterr().err
    assert profile() == {0.0: "current", 1.0: "missing", 2.0: "current", 3.0: "current"}


def test_changed_code_is_named_and_computed_again(profile, monkeypatch, capsys):
    tool.main(["run"])
    monkeypatch.setattr("lib.results.code.version", lambda *roots: "0123456789ab")
    capsys.readouterr()
    assert tool.main(["check"]) == 1
    assert capsys.readouterr().out == "evidence toy: 4 cells are stale (the code that computed them has changed)\n"
    assert tool.main(["run"]) == 0 and tool.main(["check"]) == 0


def test_rows_stand_for_changed_code_only_where_it_gives_the_same(profile, monkeypatch, capsys):
    tool.main(["run"])
    monkeypatch.setattr("lib.results.code.version", lambda *roots: "0123456789ab")
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", {1.0: 1.1})
    asked.clear()
    assert tool.main(["run", "--verify"]) == 0
    assert tool.main(["check"]) == 0
    # One seed of each, and all of the one that came out otherwise.
    assert sorted(map(str, asked)) == sorted(map(str, [(0.0, [0]), (1.0, [0]), (1.0, [0, 1]), (2.0, [0]), (3.0, [0])]))
    cells = {
        entry["config"]["severity"]: entry for entry in Evidence(base.EVIDENCE).files["toy"].record["cells"].values()
    }
    assert [("verified" in cells[value]) for value in (0.0, 1.0, 2.0, 3.0)] == [True, False, True, True]
    assert cells[0.0]["verified"]["seed"] == 0


def test_another_machine_may_go_on_and_what_it_did_is_merged(profile, tmp_path, monkeypatch, capsys):
    tool.main(["run", "one"])
    monkeypatch.setattr(base, "EVIDENCE", tmp_path / "elsewhere")
    tool.main(["run", "two"])
    monkeypatch.setattr(base, "EVIDENCE", tmp_path / "evidence")
    capsys.readouterr()
    assert tool.main(["merge", str(tmp_path / "elsewhere")]) == 0
    assert capsys.readouterr().out == "1 cells taken over\n"
    assert set(profile().values()) == {"current"}
    assert tool.main(["merge", str(tmp_path / "nowhere")]) == 2


def test_what_no_page_asks_for_is_dropped(profile, monkeypatch, capsys):
    tool.main(["run"])
    entries = {"two": profiles.evidence()["two"]}
    monkeypatch.setattr(profiles, "evidence", lambda: entries)
    capsys.readouterr()
    assert tool.main(["prune"]) == 0 and capsys.readouterr().out == "2 cells dropped\n"
    assert len(Evidence(base.EVIDENCE).files["toy"].record["cells"]) == 2


def test_too_much_evidence_is_named(profile, monkeypatch, capsys):
    tool.main(["run"])
    monkeypatch.setattr(tool, "LIMIT", 10)
    assert [line for line in tool.check([]) if "MiB, more than" in line]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["run", "--jobs", "0"], "JOBS must be an integer of at least 1, but 0 was given."),
        (["run", "--device", "tpu"], "device must be one of auto, cpu, cuda, cuda:N, mps, but 'tpu' was given."),
    ],
)
def test_refusals_are_one_sentence(profile, capsys, given, words):
    assert tool.main(given) == 2
    assert capsys.readouterr().err.strip() == words


def started() -> tuple[int, TextIO]:
    """The tool with two workers in a fork that leads a group of its own: its process and what it prints."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.setsid()
            sys.stdout = os.fdopen(writing, "w")
            status = tool.main(["run", "--jobs", "2"])
            sys.stdout.flush()
            os._exit(status)
        finally:
            os._exit(99)
    os.close(writing)
    return process, os.fdopen(reading)


def test_five_kills_and_nothing_is_lost(profile, monkeypatch):
    """The whole tool with two workers, killed five times in the middle and then finished."""
    entries = {"one": profiles.Page("one", "toy", parameters={"severities": [float(i) for i in range(30)]})}
    monkeypatch.setattr(profiles, "evidence", lambda: entries)
    SLOW["seconds"] = 0.05
    counts = []
    for kill in range(6):
        process, said = started()
        with said:
            counts.append(int(said.readline().split()[0]))
            seen = 0
            for line in said:
                seen += line[0].isdigit()
                if kill < 5 and seen == 4:
                    os.killpg(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    # Each start finds at least what the one before had reported as finished.
    assert counts[0] == 30 and all(later <= earlier - 4 for earlier, later in zip(counts, counts[1:], strict=False))
    found = Evidence(base.EVIDENCE).files
    cells = [entry for file in found.values() for entry in file.record["cells"].values()]
    assert len(cells) == 30 and sum(len(file.rows) for file in found.values()) == 30


def test_the_committed_evidence_is_whole_and_current():
    """CI fails here when code that a number rests on has changed since."""
    assert tool.check([]) == []


def test_refused_parameters_of_the_profile_are_named(monkeypatch):
    entries = {"one": profiles.Page("one", "toy", parameters={"seeds": 0})}
    monkeypatch.setattr(profiles, "evidence", lambda: entries)
    monkeypatch.setattr(base, "named", lambda notebook: Toy)
    with pytest.raises(ParameterError, match="seeds must be an integer of at least 1"):
        tool.plan()
