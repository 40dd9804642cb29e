"""Cells as jobs, without a cluster: what is cut, kept, taken over and refused, and what jobs are expected to take."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from lib.results import Cell, provenance
from paper.evidence import File
from paper.studies import base
from paper.tools import estimate, jobs
from paper.tools import evidence as tool

BROKEN: set[int] = set()


def measure(config, site):
    if config["number"] in BROKEN:
        raise RuntimeError("the device is on fire")
    return {"rows": pd.DataFrame({"seed": [0, 1], "accuracy": [0.5, config["number"] / 10]})}


CELLS = [Cell("toy", {"number": number}, measure) for number in range(6)]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The plan of six cells, with evidence in a folder of its own."""
    monkeypatch.setattr(base, "EVIDENCE", tmp_path / "evidence")
    base.EVIDENCE.mkdir()
    jobs.folder().mkdir()
    BROKEN.clear()
    found = [tool.Planned(cell, "toy", "missing", "page") for cell in CELLS]
    monkeypatch.setattr(tool, "plan", lambda *_: found)
    return found


def written(plan, minutes=1.0):
    """The descriptions of jobs of two cells each, as they are submitted."""
    takes = estimate.Estimate()
    takes._cells = {"other": {"kind": "toy", "seconds": 25.0, "config": {}}}
    made = jobs.cut(plan, jobs.Order((), "evidence", {}, "cpu"), takes, minutes)
    paths = [jobs.folder() / f"{job.name}.json" for job in made]
    for job, path in zip(made, paths, strict=True):
        path.write_text(json.dumps(job.described()))
    return made, paths


def test_jobs_hold_what_fits_into_their_time(plan):
    made, _ = written(plan)
    assert [len(job.cells) for job in made] == [2, 2, 2] and {job.seconds for job in made} == {50.0}
    assert {one.cell for job in made for one in job.cells} == set(CELLS)
    assert {job.name for job in made} == {job.name for job in written(plan)[0]}, "the same work has the same name"
    assert len(written(plan, 1e9)[0]) == 1
    asked = made[0].described()
    assert asked["minutes"] >= 5 and asked["mib"] > 3000 and asked["gpus"] == 0


def test_a_dry_run_says_what_jobs_there_would_be(plan, capsys, monkeypatch):
    assert jobs.submit(jobs.Order((), "evidence", {}, "cpu"), dry=True) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("6 of 6 cells to compute in 6 jobs, ") and len(rest) == 6
    monkeypatch.setattr(jobs, "_left", lambda _: [])
    assert jobs.submit(jobs.Order((), "evidence", {}, "cpu"), dry=True) == 0
    assert capsys.readouterr().out.startswith("0 of 6 cells to compute in 0 jobs")


def test_what_jobs_finish_is_taken_over_and_the_rest_is_left(plan):
    BROKEN.add(3)
    _, paths = written(plan)
    for path in paths:
        assert jobs.compute(path, path.with_suffix(".done")) == 0
    # One is lost before its stamp, another is still at work.
    paths[0].with_suffix(".done").unlink()
    failed = jobs.collect(plan, {paths[2].stem})
    assert [error.splitlines()[-1] for error in failed.values()] == ["RuntimeError: the device is on fire"]
    assert {one.cell.config["number"] for one in jobs._left(plan)} == {3}
    assert [path for path in paths if path.exists()] == [paths[2]], "what runs keeps its folder"
    assert jobs.collect(plan, set()) == {} and not list(jobs.folder().glob("*.json"))


def test_a_job_goes_on_from_what_it_has_kept(plan, monkeypatch):
    _, (path, *_) = written(plan)
    jobs.compute(path, path.with_suffix(".done"))
    monkeypatch.setattr(tool, "keep", lambda *_: pytest.fail("it was there already"))
    assert jobs.compute(path, path.with_suffix(".done")) == 0


def test_want_of_memory_loses_a_job_and_does_not_fail_its_cells(plan, monkeypatch):
    def full(*_):
        raise MemoryError

    _, (path, *_) = written(plan)
    monkeypatch.setattr(tool, "keep", full)
    with pytest.raises(MemoryError):
        jobs.compute(path, path.with_suffix(".done"))
    assert not path.with_suffix(".done").exists()


def _files(folder):
    """The same cell three times: by older code, by today's, and by today's with other numbers."""
    own = provenance("cpu", 1.0)
    for name, code, date, value in (
        ("a", "old", "2030-01-02", 1),
        ("b", "new", "2030-01-01", 2),
        ("c", "new", "2030-01-01", 3),
    ):
        cell = Cell("toy", {"number": 0}, measure)
        cell.__dict__["code"] = code
        File(folder / f"{name}.csv").put([(cell, {"rows": pd.DataFrame({"x": [value]})}, {**own, "date": date})])
    return [File(folder / f"{name}.csv") for name in "abc"], {CELLS[0].key: "new"}


def test_the_order_of_merging_decides_nothing_and_todays_code_wins(tmp_path):
    files, codes = _files(tmp_path)
    found = set()
    for number, order in enumerate(itertools.permutations(files)):
        whole = File(tmp_path / f"whole{number}.csv")
        for file in order:
            whole.merge(file, codes)
        assert whole.record["cells"][CELLS[0].key]["code"] == "new"
        found.add(whole.path.read_text())
    assert len(found) == 1


def test_a_half_written_cell_counts_for_nothing(tmp_path):
    (file, *_), _ = _files(tmp_path)
    shutil.copy(file.path, tmp_path / "kept.csv")
    file.path.write_text("cell,table,x\n")
    whole = File(tmp_path / "whole.csv")
    assert whole.merge(File(file.path)) == 0 and whole.state(CELLS[0]) == "missing"
    shutil.copy(tmp_path / "kept.csv", file.path)
    assert whole.merge(File(file.path)) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--executor", "pbs"], "EXECUTOR must be one of local, slurm, kubernetes, but 'pbs' was given."),
        (["--cluster", "x"], "CLUSTER must be left out with EXECUTOR local, but a folder was given."),
        (["--device", "cpu,tpu"], "device must be one of auto, cpu, cuda, cuda:N, mps, but 'tpu' was given."),
        (["--device", "cpu,cpu", "--verify"], "VERIFY must be left out with jobs, but it was given."),
        (["--device", "cpu,cpu", "--minutes", "0"], "MINUTES must be a number above 0, but 0 was given."),
    ],
)
def test_refusals_are_one_sentence(plan, capsys, given, words):
    assert tool.main(["run", *given]) == 2
    assert capsys.readouterr().err.strip() == words


def test_a_plugin_or_a_program_that_is_not_there_is_named(plan, monkeypatch, capsys):
    monkeypatch.setattr(jobs.importlib.util, "find_spec", lambda name: None)
    assert tool.main(["run", "--executor", "slurm"]) == 2
    assert "snakemake-executor-plugin-slurm is not (pip install '.[cluster]')." in capsys.readouterr().err
    monkeypatch.setattr(jobs.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(jobs.shutil, "which", lambda name: None)
    assert tool.main(["run", "--executor", "slurm"]) == 2
    assert "there is no sbatch on PATH." in capsys.readouterr().err


@pytest.mark.slow
def test_nine_of_ten_jobs_take_what_was_expected():
    """Of the committed evidence, each cell expected by a model of others, none of its batch among them. Single
    cells are less certain: measured twice, the same cell lies no closer.
    """
    cells = estimate.measured()
    assert estimate.within(estimate.in_jobs(cells, 10)) >= 0.9
    assert estimate.within(estimate.in_jobs(cells, 5)) >= 0.87
    assert estimate.within(cells) >= 0.75


def test_times_of_sessions_are_told_apart_from_times_of_cells():
    """A machine that was busy in one session does not make its cells look long."""
    rows = [
        {"kind": "toy", "config": {"steps": steps}, "session": name, "seconds": 0.1 * steps * slowness}
        for name, slowness in (("idle", 1.0), ("busy", 3.0), ("usual", 1.0))
        for steps in range(10, 50, 2)
    ]
    model = estimate.Model(pd.DataFrame(rows))
    assert 2 < np.exp(model.slowness["busy"] - model.slowness["idle"]) < 4
    asked = pd.DataFrame({"kind": ["toy"] * 2, "config": [{"steps": 31}] * 2, "session": ["idle", "busy"]})
    assert model.seconds(asked) == pytest.approx([3.1, 9.3], rel=0.4)


def test_two_measurements_spread_more_than_one():
    """What a perfect expectation would reach is told from pairs alone."""
    error = np.random.default_rng(0).normal(0, 0.25, (2, 4000))
    twice = pd.DataFrame({"seconds": 10 * np.exp(error[0]), "expected": 10 * np.exp(error[1])})
    alone = pd.DataFrame({"seconds": 10 * np.exp(error[0]), "expected": 10.0})
    assert estimate.within(twice) < estimate.within(alone) - 0.1
    assert estimate.attainable(twice) == pytest.approx(estimate.within(alone), abs=0.02)
