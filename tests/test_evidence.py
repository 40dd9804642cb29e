"""The committed evidence: nothing is lost, stale cells are known, machines can be merged, kills do no harm."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import results
from lib.checks import ParameterError
from lib.results import Cell, DamagedResult
from paper import evidence as module
from paper.evidence import Evidence, File

ORIGIN = {"device": "cpu", "commit": "abc", "date": "2026-01-01", "seconds": 2.5}


def measure(config, site):
    return {"rows": rows(config["seed"])}


def rows(seed: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"seed": [seed, seed + 1], "accuracy": np.array([1 / 3, math.nan]), "gate": ["none", ""], "held": [True, False]}
    )


def cell(seed: int = 0) -> Cell:
    return Cell("study", {"seed": seed}, measure)


def filled(path: Path, *seeds: int) -> File:
    file = File(path)
    file.put((cell(seed), {"rows": rows(seed), "steps": pd.DataFrame({"step": [seed]})}, ORIGIN) for seed in seeds)
    return file


def test_cells_come_back_with_their_tables_types_and_origin(tmp_path):
    filled(tmp_path / "study.csv", 0, 1)
    file = File(tmp_path / "study.csv")
    found = file.get(cell(1))
    pd.testing.assert_frame_equal(found.tables["rows"], rows(1), rtol=1e-6)
    assert found.tables["steps"]["step"].tolist() == [1]
    assert found.provenance == ORIGIN
    assert file.get(cell(2)) is None
    assert [file.state(cell(seed)) for seed in (0, 2)] == ["current", "missing"]


def test_infinite_numbers_come_back(tmp_path):
    """The gap of a gate that lets no gradient through, and of one that gets none."""
    gaps = pd.DataFrame({"seed": [0, 1, 2, 3], "gap": [-math.inf, math.inf, 2.5, math.nan]})
    File(tmp_path / "study.csv").put([(cell(), {"rows": gaps}, ORIGIN)])
    pd.testing.assert_frame_equal(File(tmp_path / "study.csv").get(cell()).tables["rows"], gaps)


def test_numbers_keep_seven_digits(tmp_path):
    file = filled(tmp_path / "study.csv", 0)
    assert "0.3333333," in file.path.read_text() and "0.33333333" not in file.path.read_text()


def test_tables_without_rows_survive(tmp_path):
    file = File(tmp_path / "study.csv")
    file.put([(cell(), {"rows": rows(0).iloc[:0]}, ORIGIN)])
    again = File(tmp_path / "study.csv")
    assert again.state(cell()) == "current" and len(again.get(cell()).tables["rows"]) == 0
    assert list(again.get(cell()).tables["rows"].columns) == list(rows(0).columns)


def test_changed_code_makes_stale_and_a_new_run_replaces(tmp_path, monkeypatch):
    file = filled(tmp_path / "study.csv", 0, 1)
    monkeypatch.setattr(results.code, "version", lambda *roots: "0123456789ab")
    assert [file.state(cell(seed)) for seed in (0, 1)] == ["stale", "stale"]
    assert file.get(cell(0)) is not None, "stale evidence is shown, in a box"
    file.put([(cell(0), {"rows": rows(7)}, ORIGIN)])
    assert [file.state(cell(seed)) for seed in (0, 1)] == ["current", "stale"]
    assert file.get(cell(0)).tables["rows"]["seed"].tolist() == [7, 8]
    assert len(pd.read_csv(file.path)) == 2 + 3, "the older rows are gone"


def test_equal_origins_are_written_once(tmp_path):
    file = filled(tmp_path / "study.csv", *range(5))
    assert len(json.loads(file.path.with_suffix(".json").read_text())["origins"]) == 1


def test_the_order_of_computing_leaves_no_trace(tmp_path):
    one, two = filled(tmp_path / "one.csv", 0, 1, 2), filled(tmp_path / "two.csv", 2, 0)
    two.put([(cell(1), {"rows": rows(1), "steps": pd.DataFrame({"step": [1]})}, ORIGIN)])
    assert one.path.with_suffix(".json").read_bytes() == two.path.with_suffix(".json").read_bytes()
    assert one.path.read_bytes() == two.path.read_bytes()


def test_code_without_source_cannot_be_evidence(tmp_path, monkeypatch):
    def unreadable(*roots):
        raise ParameterError("source must be readable, but none was given.")

    monkeypatch.setattr(results.code, "version", unreadable)
    with pytest.raises(ParameterError, match=r"^cell must be computed by code that can be read, .* was given\.$"):
        File(tmp_path / "study.csv").put([(cell(), {"rows": rows(0)}, ORIGIN)])


def test_what_machines_computed_is_merged_by_what_it_is(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    here, there = filled(tmp_path / "a" / "study.csv", 0, 1), filled(tmp_path / "b" / "study.csv", 1, 2)
    newer = {**ORIGIN, "date": "2026-02-02"}
    there.put([(cell(1), {"rows": rows(5)}, newer)])
    assert here.merge(there) == 2, "one was missing, one is newer there"
    assert here.get(cell(1)).tables["rows"]["seed"].tolist() == [5, 6]
    assert here.get(cell(1)).provenance == newer and here.get(cell(0)).provenance == ORIGIN
    assert here.merge(there) == 0
    assert File(here.path).get(cell(2)).tables["steps"]["step"].tolist() == [2]


def test_cells_that_nobody_asks_for_are_dropped(tmp_path):
    file = filled(tmp_path / "study.csv", 0, 1, 2)
    assert file.keep([cell(1).key]) == 2
    assert [File(file.path).state(cell(seed)) for seed in (0, 1)] == ["missing", "current"]
    assert len(pd.read_csv(file.path)) == 3


def test_a_cell_is_found_in_whichever_file_holds_it(tmp_path):
    filled(tmp_path / "one.csv", 0), filled(tmp_path / "two.csv", 1)
    found = Evidence(tmp_path)
    assert [found.state(cell(seed)) for seed in (0, 1, 2)] == ["current", "current", "missing"]
    assert found.get(cell(1)).tables["steps"]["step"].tolist() == [1]
    assert found.home(cell(1), "three").path.name == "two.csv"
    assert found.home(cell(2), "three").path.name == "three.csv"
    assert Evidence(tmp_path / "nowhere").state(cell()) == "missing"


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_damage_is_one_sentence(tmp_path, ending):
    file = filled(tmp_path / "study.csv", 0)
    file.path.with_suffix(f".{ending}").write_bytes(b"\xff\xfe{")
    with pytest.raises(DamagedResult, match=rf"^The evidence study.{ending} .*restore it\.$"):
        File(file.path).get(cell(0))


def test_rows_that_are_gone_count_as_missing(tmp_path):
    file = filled(tmp_path / "study.csv", 0, 1)
    lines = file.path.read_text().splitlines(keepends=True)
    file.path.write_text("".join(lines[:4]))
    states = [File(file.path).state(cell(seed)) for seed in (0, 1)]
    assert sorted(states) == ["current", "missing"]


def test_a_kill_between_the_two_files_loses_nothing(tmp_path, monkeypatch):
    file = filled(tmp_path / "study.csv", 0, 1)
    written = []

    def dies(path, content):
        written.append(path.suffix)
        if path.suffix == ".json":
            raise KeyboardInterrupt
        results.write(path, content)

    monkeypatch.setattr(module, "write", dies)
    monkeypatch.setattr(results.code, "version", lambda *roots: "0123456789ab")
    with pytest.raises(KeyboardInterrupt):
        file.put([(cell(0), {"rows": rows(9)}, ORIGIN), (cell(2), {"rows": rows(2)}, ORIGIN)])
    assert written == [".csv", ".json"]
    again = File(file.path)
    assert [again.get(cell(seed)).tables["rows"]["seed"][0] for seed in (0, 1)] == [0, 1]
    assert again.state(cell(2)) == "missing"


def _write_some(path: str, seeds: list[int]) -> None:
    for seed in seeds:
        File(Path(path)).put([(cell(seed), {"rows": rows(seed)}, ORIGIN)])


def test_processes_that_write_side_by_side_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    path = str(tmp_path / "study.csv")
    writers = [context.Process(target=_write_some, args=(path, list(range(first, 12, 3)))) for first in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert all(File(Path(path)).state(cell(seed)) == "current" for seed in range(12))


def test_five_kills_lose_nothing(tmp_path):
    """A process that writes cell after cell is killed five times, at any moment; what it has said is there stays."""
    script = tmp_path / "writer.py"
    script.write_text(
        """
import sys
from pathlib import Path
import pandas as pd
from paper.evidence import File
from lib.results import Cell

def measure(config, site):
    return {}

file = File(Path(sys.argv[1]))
for seed in range(40):
    cell = Cell("study", {"seed": seed}, measure)
    if file.state(cell) != "current":
        table = pd.DataFrame({"seed": range(50), "value": [seed / 7] * 50})
        file.put([(cell, {"rows": table}, {"date": "2026-01-01", "seconds": 0.1})])
        print(seed, flush=True)
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(results.__file__).parents[1])}
    command = [sys.executable, str(script), str(tmp_path / "study.csv")]
    said: set[int] = set()
    for kill in range(6):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        lines = []
        for line in process.stdout:
            lines.append(int(line))
            if kill < 5 and len(lines) == 3:
                time.sleep(0.003 * kill)
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stdout.read()
        process.wait()
        lines += [int(word) for word in rest.split()]
        assert not said & set(lines), "nothing that was finished is computed again"
        said |= set(lines)
        record = json.loads((tmp_path / "study.json").read_text())["cells"]
        assert {entry["config"]["seed"] for entry in record.values()} >= said
    assert said == set(range(40)) or len(said) >= 35
    record = File(tmp_path / "study.csv")
    assert len(record.record["cells"]) == 40 and len(pd.read_csv(record.path)) == 40 * 50
