"""The store loses nothing and serves nothing stale; cells are computed in batches; provenance can be published."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import results
from lib.checks import ParameterError
from lib.results import Cell, DamagedResult, Store

CONFIG = {"task": "texture", "severity": 0.1, "seeds": (0, 1)}
ORIGIN = {"seconds": 1.0, "device": "cpu"}


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "gate": ["none", "", "NA, or nan"],
            "seed": [0, 1, 2],
            "accuracy": [0.1 + 0.2, math.nan, -math.inf],
            "rate": np.array([0.1, 1e-30, 3.0], dtype=np.float32),
            "adapts": [True, False, True],
        }
    )


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def only(root: Path) -> Path:
    (found,) = root.rglob("*.zip")
    return found


def measure(config, site):
    """What a study would compute: a table of the cell's own seed."""
    calls.append(config["seed"])
    if config["seed"] in failing:
        raise KeyboardInterrupt
    return {"rows": pd.DataFrame({"seed": [config["seed"]], "device": [site["device"]]})}


def measure_many(configs, site):
    calls.append([config["seed"] for config in configs])
    return [{"rows": pd.DataFrame({"seed": [config["seed"]]})} for config in configs]


calls: list = []
failing: set = set()


@pytest.fixture(autouse=True)
def fresh():
    calls.clear()
    failing.clear()


def cell(**changes: object) -> Cell:
    return Cell("study", CONFIG | changes, measure)


def test_several_tables_come_back_to_the_last_bit(tmp_path):
    store = Store(tmp_path)
    assert store.get(cell()) is None
    other = pd.DataFrame({"step": [1, 2]})
    put = store.put(cell(), {"rows": table(), "more": other}, ORIGIN)
    found = Store(tmp_path).get(cell())
    for stored in (put, found):
        assert list(stored.tables) == ["rows", "more"] and stored.provenance == ORIGIN
        pd.testing.assert_frame_equal(stored.tables["rows"], table(), check_exact=True)
        pd.testing.assert_frame_equal(stored.tables["more"], other, check_exact=True)
    assert found.tables["rows"]["accuracy"][0] == 0.1 + 0.2


@given(
    st.lists(
        st.tuples(
            st.floats(),
            st.integers(-(2**62), 2**62),
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r")),
            st.booleans(),
        ),
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tidy_table_survives(tmp_path, rows):
    given_table = pd.DataFrame(rows, columns=["float", "int", "word", "flag"]).astype(
        {"float": "float64", "int": "int64", "word": "str", "flag": "bool"}
    )
    store = Store(tmp_path)
    store.put(cell(), {"rows": given_table}, ORIGIN)
    pd.testing.assert_frame_equal(store.get(cell()).tables["rows"], given_table, check_exact=True)


def test_missing_words_become_empty_and_mixed_columns_are_refused(tmp_path):
    store = Store(tmp_path)
    for given_words, kept in ((["a", None], ["a", ""]), (["", "", "a"], ["", "", "a"])):
        store.put(cell(), {"rows": pd.DataFrame({"w": given_words})}, ORIGIN)
        assert store.get(cell()).tables["rows"]["w"].tolist() == kept
    for wrong in ({"w": ["a", 1]}, {"w": [[1], [2]]}, {3: [1]}, {"t": pd.to_datetime(["2020-01-01"])}):
        with pytest.raises(ParameterError, match=r"table must .* was given\."):
            store.put(cell(), {"rows": pd.DataFrame(wrong)}, ORIGIN)


def test_the_key_is_kind_and_whole_configuration(tmp_path):
    store = Store(tmp_path)
    store.put(cell(), {"rows": table()}, ORIGIN)
    same = dict(reversed(CONFIG.items())) | {"seeds": [0, 1], "severity": np.float64(0.1)}
    assert store.get(Cell("study", same, measure)) is not None and Cell("study", same, measure) == cell()
    for change in ({"severity": 0.2}, {"task": "shape"}, {"seeds": (1, 0)}, {"more": None}):
        assert store.get(cell(**change)) is None and cell(**change) != cell()
    assert store.get(Cell("other", CONFIG, measure)) is None
    with pytest.raises(ParameterError, match="configuration must be"):
        store.get(cell(f=print))
    for kind in ("../up", "", "a/b", ".hidden"):
        with pytest.raises(ParameterError, match="kind must be"):
            store.get(Cell(kind, CONFIG, measure))


def test_where_it_is_computed_decides_nothing(tmp_path):
    near, far = (Cell("study", CONFIG, measure, site={"root": root}) for root in ("near", "far"))
    assert near == far and near.key == far.key


def test_changed_code_is_never_served_old_numbers(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put(cell(), {"rows": table()}, ORIGIN)
    assert store.get(cell()) is not None
    monkeypatch.setattr(results.code, "version", lambda *roots: "changed")
    assert store.get(cell()) is None


def test_what_has_no_source_is_computed_each_time(tmp_path, monkeypatch):
    def unreadable(*roots):
        raise ParameterError("source must be readable, but none was given.")

    monkeypatch.setattr(results.code, "version", unreadable)
    store = Store(tmp_path)
    for _ in range(2):
        store.fetch([cell(seed=3)], "cpu")
    assert calls == [3, 3] and not files(tmp_path)


def test_only_what_is_missing_is_computed_and_kept_as_it_is_finished(tmp_path):
    cells = [cell(seed=seed) for seed in range(4)]
    store = Store(tmp_path)
    store.put(cells[1], {"rows": pd.DataFrame({"seed": [1]})}, ORIGIN)
    failing.add(3)
    with pytest.raises(KeyboardInterrupt):
        store.fetch(cells, "cpu")
    assert calls == [0, 2, 3]
    failing.clear()
    later = Store(tmp_path)
    found = later.fetch(cells, "cpu")
    assert calls == [0, 2, 3, 3], "what was finished before the interruption is kept"
    assert [found[one]["rows"]["seed"].tolist() for one in cells] == [[0], [1], [2], [3]]
    assert later.get(cells[0]).provenance["device"] == "cpu" and later.seconds >= 1.0


def test_cells_that_belong_together_are_one_batch_up_to_what_fits():
    many = [Cell("study", {"seed": seed}, measure_many, batch="b", size=6) for seed in range(5)]
    single = Cell("study", {"seed": 9}, measure)
    made = results.groups([many[0], single, *many[1:], many[0]], "cpu")
    assert [[one.config["seed"] for one in group] for group in made] == [[0, 1], [9], [2, 3], [4]]
    assert [len(group) for group in results.groups(many, "cuda:0")] == [5]
    finished = list(results.measured(many[:3], "cpu"))
    assert calls == [[0, 1], [2]]
    assert [(one.config["seed"], tables["rows"]["seed"][0]) for one, tables, _ in finished] == [(0, 0), (1, 1), (2, 2)]
    assert all(origin["seconds"] >= 0 for _, _, origin in finished)


def test_a_killed_sweep_resumes_and_loses_nothing(tmp_path):
    """A process that is killed in its third cell; the next one computes only what is missing."""
    (tmp_path / "sweep.py").write_text(
        """
import os, sys
import pandas as pd
from lib import results
from lib.results import Cell, Store

results.provenance = lambda *arguments: {"seconds": 0}  # saves importing torch

def measure(config, site):
    if config["seed"] == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    print("ran", config["seed"], flush=True)
    return {"rows": pd.DataFrame({"seed": [config["seed"]]})}

if __name__ == "__main__":
    Store(sys.argv[1]).fetch([Cell("sweep", {"seed": seed}, measure) for seed in range(5)], "cpu")
"""
    )
    outputs = []
    for dies_at in (2, -1):
        command = [sys.executable, str(tmp_path / "sweep.py"), str(tmp_path / "store"), str(dies_at)]
        environment = {**os.environ, "PYTHONPATH": str(Path(results.__file__).parents[1])}
        run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        outputs.append((run.returncode, run.stdout.split()))
    assert outputs == [(-9, ["ran", "0", "ran", "1"]), (0, ["ran", "2", "ran", "3", "ran", "4"])]


def test_a_failing_write_leaves_the_old_result(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put(cell(), {"rows": table()}, ORIGIN)
    before = files(tmp_path)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.os, "replace", fail)
    with pytest.raises(ParameterError, match=r"^results must be .*No space left on device.* was given\.$"):
        store.put(cell(), {"rows": table().iloc[:1]}, ORIGIN)
    monkeypatch.undo()
    assert files(tmp_path) == before
    assert len(store.get(cell()).tables["rows"]) == 3


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(path: Path, **changes: object) -> None:
    """The same file with another record."""
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    parts["record.json"] = json.dumps(json.loads(parts["record.json"]) | changes).encode()
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in parts.items():
            packed.writestr(name, content)


def rewrite_text(path: Path, record: bytes) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("record.json", record)


def encrypted(content: bytes) -> bytes:
    """The archive with the mark of an encrypted first part."""
    changed = bytearray(content)
    changed[6] |= 1
    changed[content.find(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


DAMAGE = {
    "flipped bit": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "emptied": lambda path: path.write_bytes(b""),
    "no archive": lambda path: path.write_text("{"),
    "types that do not fit": lambda path: rewrite(path, types={"rows": {"gate": "bool"}}),
    "a missing table": lambda path: rewrite(path, types={"rest": {}}),
    "another configuration": lambda path: rewrite(path, config={"task": "shape"}),
    "a record that is a list": lambda path: rewrite(path, types=[1]),
    "no table": lambda path: rewrite(path, types={}),
    "no provenance": lambda path: rewrite(path, provenance=None),
    "a time that is a word": lambda path: rewrite(path, provenance={"seconds": "long"}),
    "a time that is no number": lambda path: rewrite(path, provenance={"seconds": math.nan}),
    "brackets without end": lambda path: rewrite_text(path, b"[" * 100_000),
    "encrypted": lambda path: path.write_bytes(encrypted(path.read_bytes())),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_is_refused_and_then_computed_again(tmp_path, damage):
    store, one = Store(tmp_path), cell(seed=5)
    store.put(one, {"rows": table()}, ORIGIN)
    damage(only(tmp_path))
    with pytest.raises(DamagedResult) as caught:
        store.get(one)
    sentence = str(caught.value)
    assert sentence.startswith("The stored result study/") and sentence.endswith("; delete it or run it again.")
    assert str(tmp_path) not in sentence
    assert store.fetch([one], "cpu")[one]["rows"]["seed"].tolist() == [5]
    assert store.get(one).provenance["replaced"] == sentence


def test_a_folder_that_cannot_be_written_is_found_out_before_anything_is_computed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match=r"^results must be a folder, but .* was given\.$"):
        Store(tmp_path / "file" / "store").fetch([cell(seed=1)], "cpu")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ParameterError, match="MiB of free space"):
        Store(tmp_path / "new").fetch([cell(seed=1)], "cpu")
    assert not calls and files(tmp_path) == ["file"] and not (tmp_path / "new").exists()


@pytest.mark.parametrize("root", ["x" * 300, 3, None, "~nobody-of-that-name/x\0"])
def test_what_is_no_folder_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"^results must be .* was given\.$"):
        Store(root).fetch([cell(seed=1)], "cpu")
    assert not calls


def test_a_complete_folder_need_not_be_writable(tmp_path, monkeypatch):
    Store(tmp_path).put(cell(seed=1), {"rows": table()}, ORIGIN)

    def refuse(*arguments, **more):
        raise ParameterError("results must be writable, but it was not.")

    monkeypatch.setattr(results.checks, "writable", refuse)
    assert len(Store(tmp_path).fetch([cell(seed=1)], "cpu")) == 1


def test_provenance_can_be_published():
    source = results.provenance("cpu", 12.34567)
    versions = {"python", "torch", "open_clip", "numpy"}
    machine = {"device", "device_name", "threads"}
    assert set(source) == versions | machine | {"seconds", "commit", "date"}
    assert source["seconds"] == 12.346
    text = json.dumps(source)
    assert str(Path(results.__file__).parents[1]) not in text and str(Path.home()) + "/" not in text
    node = platform.node()
    assert not node or node not in text


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    run = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout whose library is one file."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "results.py").write_text("x = 1\n")
    monkeypatch.setattr(results, "__file__", str(tmp_path / "lib" / "results.py"))
    return tmp_path


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout(checkout):
    assert results._commit() == "unknown"
    git(checkout, "init", "-q")
    assert results._commit() == "unknown"
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first")
    head = git(checkout, "rev-parse", "HEAD")
    assert results._commit() == head
    (checkout / "result.csv").write_text("what a run writes is no change of the code\n")
    assert results._commit() == head
    (checkout / "lib" / "results.py").write_text("x = 2\n")
    assert results._commit() == f"{head}+changes"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_surrounding_repository_is_not_ours(checkout, monkeypatch):
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first")
    inner = checkout / "inner" / "lib"
    inner.mkdir(parents=True)
    monkeypatch.setattr(results, "__file__", str(inner / "results.py"))
    assert results._commit() == "unknown"
