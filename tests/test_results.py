"""The store loses nothing and serves nothing stale; reference and agreement say what they compared."""

from __future__ import annotations

import gzip
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import results
from lib.checks import ParameterError
from lib.results import DamagedResult, Store

CONFIG = {"task": "texture", "severity": 0.1, "seeds": (0, 1), "code": "abc"}


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


def only(root: Path, ending: str) -> Path:
    (found,) = root.rglob(f"*{ending}")
    return found


def test_a_table_comes_back_to_the_last_bit(tmp_path):
    store = Store(tmp_path)
    assert store.get("study", CONFIG) is None and store.provenance("study", CONFIG) is None
    store.put("study", CONFIG, table(), provenance={"seeds": [0, 1]})
    found = Store(tmp_path).get("study", CONFIG)
    pd.testing.assert_frame_equal(found, table(), check_exact=True)
    assert found["accuracy"][0] == 0.1 + 0.2
    assert store.provenance("study", CONFIG) == {"seeds": [0, 1]}


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
    store.put("study", CONFIG, given_table, provenance={})
    pd.testing.assert_frame_equal(store.get("study", CONFIG), given_table, check_exact=True)


def test_missing_words_become_empty_and_mixed_cells_are_refused(tmp_path):
    store = Store(tmp_path)
    store.put("study", CONFIG, pd.DataFrame({"w": ["a", None]}, index=[5, 6]), provenance={})
    assert store.get("study", CONFIG)["w"].tolist() == ["a", ""]
    store.put("study", CONFIG, pd.DataFrame({"w": ["", "", "a"]}), provenance={})
    assert store.get("study", CONFIG)["w"].tolist() == ["", "", "a"]
    for wrong in ({"w": ["a", 1]}, {"w": [[1], [2]]}, {3: [1]}, {"t": pd.to_datetime(["2020-01-01"])}):
        with pytest.raises(ParameterError, match=r"table must .* was given\."):
            store.put("study", CONFIG, pd.DataFrame(wrong), provenance={})


def test_the_key_is_the_whole_configuration(tmp_path):
    store = Store(tmp_path)
    store.put("study", CONFIG, table(), provenance={})
    same = dict(reversed(CONFIG.items())) | {"seeds": [0, 1], "severity": np.float64(0.1)}
    assert store.get("study", same) is not None
    for change in ({"severity": 0.2}, {"task": "shape"}, {"seeds": (1, 0)}, {"more": None}, {"code": "abd"}):
        assert store.get("study", CONFIG | change) is None
    assert store.get("other", CONFIG) is None
    with pytest.raises(ParameterError, match="configuration must be"):
        store.get("study", CONFIG | {"f": print})
    for kind in ("../up", "", "a/b", ".hidden"):
        with pytest.raises(ParameterError, match="kind must be"):
            store.get(kind, CONFIG)


def test_without_a_code_entry_any_change_of_the_library_counts(tmp_path, monkeypatch):
    store = Store(tmp_path)
    plain = {"seed": 1}
    store.put("study", plain, table(), provenance={})
    assert store.get("study", plain) is not None
    monkeypatch.setattr(results, "code_version", lambda *modules: "changed")
    assert store.get("study", plain) is None


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "library"
    (root / "wing" / "deep").mkdir(parents=True)
    for name in ("one.py", "two.py", "wing/__init__.py", "wing/deep/three.py"):
        (root / name).write_text(f"# {name}\n")
    monkeypatch.setattr(results, "_LIBRARY", root)
    return root


def test_the_code_version_follows_the_named_sources_only(library):
    before = {
        names: results.code_version(*names)
        for names in [("one",), ("wing",), ("one", "wing"), ("wing.deep.three",), ()]
    }
    assert len(set(before.values())) == 5
    assert results.code_version("wing", "one") == before["one", "wing"]
    (library / "one.py").write_bytes(b"# one.py\r\n")
    assert results.code_version("one") == before["one",]
    (library / "two.py").write_text("# changed\n")
    assert results.code_version("one", "wing") == before["one", "wing"] and results.code_version() != before[()]
    (library / "wing" / "deep" / "three.py").write_text("# changed\n")
    assert results.code_version("one") == before["one",]
    for names in (("wing",), ("one", "wing"), ("wing.deep.three",)):
        assert results.code_version(*names) != before[names]
    with pytest.raises(ParameterError, match="module must be"):
        results.code_version("absent")


def test_a_second_call_does_not_run_and_returns_the_same(tmp_path):
    calls = []

    def run() -> pd.DataFrame:
        calls.append(1)
        time.sleep(0.05)
        return table()

    store, later = Store(tmp_path), Store(tmp_path)
    first = store.get_or_run("study", CONFIG, run, device="cpu", seeds=[0, 1])
    second = later.get_or_run("study", CONFIG, run, device="cpu", seeds=[0, 1])
    assert len(calls) == 1
    # What it took is known to whoever uses it, however long ago it ran.
    assert store.seconds >= 0.05 and later.seconds == pytest.approx(store.seconds, abs=1e-3)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    source = store.provenance("study", CONFIG)
    assert source["seeds"] == [0, 1] and source["seconds"] >= 0 and source["device"] == "cpu"


def test_many_at_once_are_stored_group_by_group_and_only_the_missing_run(tmp_path):
    store, configs = Store(tmp_path), [CONFIG | {"seed": seed} for seed in range(5)]
    store.put("study", configs[1], pd.DataFrame({"seed": [1]}), provenance={"seconds": 1.0})
    asked = []

    def run(missing):
        asked.append(list(missing))
        yield {0: pd.DataFrame({"seed": [0]}), 2: pd.DataFrame({"seed": [2]})}
        if len(asked) == 1:
            raise KeyboardInterrupt
        yield {place: pd.DataFrame({"seed": [place]}) for place in missing}

    with pytest.raises(KeyboardInterrupt):
        store.get_or_run_all("study", configs, run, device="cpu", seeds=[0])
    found = store.get_or_run_all("study", configs, run, device="cpu", seeds=[0])
    assert asked == [[0, 2, 3, 4], [3, 4]], "what was yielded before the interruption is kept"
    assert [table["seed"].tolist() for table in found] == [[0], [1], [2], [3], [4]]


def test_a_killed_sweep_resumes_and_loses_nothing(tmp_path):
    """A process that is killed in its third cell; the next one computes only what is missing."""
    script = """
import os, sys
import pandas as pd
from lib import results
from lib.results import Store

results.provenance = lambda *arguments: {}  # saves importing torch
store = Store(sys.argv[1])
for seed in range(5):
    def run():
        if seed == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        print("ran", seed, flush=True)
        return pd.DataFrame({"seed": [seed]})
    store.get_or_run("sweep", {"seed": seed, "code": "1"}, run, device="cpu", seeds=[seed])
"""
    outputs = []
    for dies_at in (2, -1):
        command = [sys.executable, "-c", script, str(tmp_path), str(dies_at)]
        environment = {**os.environ, "PYTHONPATH": str(Path(results.__file__).parents[1])}
        run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        outputs.append((run.returncode, run.stdout.split()))
    assert outputs == [(-9, ["ran", "0", "ran", "1"]), (0, ["ran", "2", "ran", "3", "ran", "4"])]


def test_a_failing_write_leaves_the_old_result(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put("study", CONFIG, table(), provenance={"n": 1})
    before = files(tmp_path)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.os, "replace", fail)
    with pytest.raises(ParameterError, match=r"^results must be .*No space left on device.* was given\.$"):
        store.put("study", CONFIG, table().iloc[:1], provenance={"n": 2})
    monkeypatch.undo()
    assert files(tmp_path) == before
    assert len(store.get("study", CONFIG)) == 3 and store.provenance("study", CONFIG) == {"n": 1}


def test_a_table_without_its_side_file_does_not_count(tmp_path):
    store = Store(tmp_path)
    store.put("study", CONFIG, table(), provenance={})
    only(tmp_path, ".json").unlink()
    assert store.get("study", CONFIG) is None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "flipped bit": lambda root: flip(only(root, ".csv.gz")),
    "truncated": lambda root: only(root, ".csv.gz").write_bytes(only(root, ".csv.gz").read_bytes()[:20]),
    "emptied": lambda root: only(root, ".csv.gz").write_bytes(b""),
    "another table": lambda root: only(root, ".csv.gz").write_bytes(gzip.compress(b"a\n1\n")),
    "missing": lambda root: only(root, ".csv.gz").unlink(),
    "side file is no JSON": lambda root: only(root, ".json").write_text("{"),
    "side file is binary": lambda root: only(root, ".json").write_bytes(b"\xff\xfe\x00"),
    "side file is a list": lambda root: only(root, ".json").write_text("[1]"),
    "types that do not fit": lambda root: only(root, ".json").write_text(
        only(root, ".json").read_text().replace("float64", "bool")
    ),
    "side file of another configuration": lambda root: only(root, ".json").write_text(
        json.dumps(json.loads(only(root, ".json").read_text()) | {"config": {"task": "shape"}})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_is_refused_and_then_computed_again(tmp_path, damage):
    store = Store(tmp_path)
    store.put("study", CONFIG, table(), provenance={})
    damage(tmp_path)
    with pytest.raises(DamagedResult) as caught:
        store.get("study", CONFIG)
    sentence = str(caught.value)
    assert sentence.startswith("The stored result study/") and sentence.endswith("; delete it or run it again.")
    assert str(tmp_path) not in sentence
    found = store.get_or_run("study", CONFIG, table, device="cpu", seeds=[0])
    pd.testing.assert_frame_equal(found, table(), check_exact=True)
    pd.testing.assert_frame_equal(store.get("study", CONFIG), table(), check_exact=True)
    assert store.provenance("study", CONFIG)["replaced"] == sentence


def test_the_store_is_checked_when_it_is_opened(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match=r"^results must be a folder, but .* was given\.$"):
        Store(tmp_path / "file" / "store")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ParameterError, match="MiB of free space"):
        Store(tmp_path / "new")
    assert files(tmp_path) == ["file"] and not (tmp_path / "new").exists()


def test_the_default_store_is_in_results(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "repository", lambda: tmp_path)
    assert Store().root == Store("auto").root == tmp_path / "results" / "store"


def test_the_repository_is_the_checkout_or_the_working_folder(library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "library" / "wing")
    assert results.repository() == Path.cwd()
    (tmp_path / "pyproject.toml").write_text("")
    assert results.repository() == tmp_path


def test_provenance_can_be_published():
    source = results.provenance("cpu", (0, 1, 2), 12.34567)
    versions = {"python", "torch", "open_clip", "numpy"}
    machine = {"device", "device_name", "threads"}
    assert set(source) == versions | machine | {"seeds", "seconds", "commit", "date"}
    assert source["seeds"] == [0, 1, 2] and source["seconds"] == 12.346
    text = json.dumps(source)
    assert str(Path(results.__file__).parents[1]) not in text and str(Path.home()) + "/" not in text
    node = platform.node()
    assert not node or node not in text


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    run = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout(library, tmp_path):
    assert results._commit() == "unknown"
    git(tmp_path, "init", "-q")
    assert results._commit() == "unknown"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert results._commit() == head
    (tmp_path / "result.csv").write_text("what a run writes is no change of the code\n")
    assert results._commit() == head
    (library / "one.py").write_text("# changed\n")
    assert results._commit() == f"{head}+changes"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_surrounding_repository_is_not_ours(library, tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setattr(results, "_LIBRARY", library / "wing")
    assert results._commit() == "unknown"


def test_the_reference_comes_back_with_its_provenance(tmp_path):
    assert results.reference("gap", ["seed"], tmp_path) is None
    results.write_reference("gap", table(), {"seeds": (0, 1)}, tmp_path)
    assert files(tmp_path) == ["gap.csv", "gap.json"]
    found, source = results.reference("gap", ["seed", "accuracy"], tmp_path)
    pd.testing.assert_frame_equal(found, table(), check_exact=True)
    assert source == {"seeds": [0, 1]}


def test_a_reference_with_missing_columns_or_provenance_is_refused(tmp_path):
    results.write_reference("gap", table(), {}, tmp_path)
    with pytest.raises(ParameterError) as caught:
        results.reference("gap", ["seed", "gap"], tmp_path)
    assert str(caught.value) == (
        "reference gap must be a table with the columns seed, gap, "
        "but a table without gap (it has gate, seed, accuracy, rate, adapts) was given."
    )
    (tmp_path / "gap.csv").write_text("seed,accuracy\n1,0.5\n")
    assert results.reference("gap", ["seed"], tmp_path)[0].to_dict("list") == {"seed": [1], "accuracy": [0.5]}
    with pytest.raises(ParameterError, match="a table without gate"):
        results.reference("gap", ["gate", "seed"], tmp_path)
    for content in ("seed,unknown\n1,2\n", "seed\n1.5\n", "", "a,b\n1,2,3,4\n"):
        (tmp_path / "gap.csv").write_text(content)
        with pytest.raises(ParameterError, match=r"^reference gap must be .* was given\.$"):
            results.reference("gap", ["seed"], tmp_path)
    results.write_reference("gap", table(), {}, tmp_path)
    (tmp_path / "gap.json").unlink()
    with pytest.raises(ParameterError, match=r"^reference gap must be .* was given\.$"):
        results.reference("gap", ["seed"], tmp_path)
    (tmp_path / "gap.json").write_text("{}")
    with pytest.raises(ParameterError, match=r"^reference gap must be .* was given\.$"):
        results.reference("gap", ["seed"], tmp_path)


def test_agreement_counts_the_common_cells():
    here = pd.DataFrame(
        {
            "task": ["a", "b", "c", "d"],
            "severity": [0.1 * 3, 0.5, 0.5, 0.5],
            "x": [1.0, 2.0, 3.0, 9.0],
            "y": [1, 2, 3, 9],
        }
    )
    there = pd.DataFrame(
        {
            "task": ["c", "b", "a", "e"],
            "severity": [0.5, 0.5, 0.3, 0.5],
            "x": [3.5, 2.05, 1.0, 9.0],
            "y": [3, 2, 1, 9],
        }
    )
    found = results.agreement(here, there, ["task", "severity"], {"x": 0.1, "y": 0})
    assert (found.compared, found.within) == (6, 5)
    assert str(found) == repr(found) == "5 of 6 cells within tolerance"
    worst = found.worst.iloc[0]
    assert (worst["task"], worst["quantity"], worst["here"], worst["reference"]) == ("c", "x", 3.0, 3.5)
    assert found.worst["difference"].tolist()[:2] == pytest.approx([0.5, 0.05])


def test_agreement_on_missing_and_infinite_cells():
    here = pd.DataFrame({"k": [1, 2, 3, 4], "x": [math.nan, math.nan, math.inf, math.inf]})
    there = pd.DataFrame({"k": [1, 2, 3, 4], "x": [math.nan, 0.0, math.inf, 0.0]})
    found = results.agreement(here, there, ["k"], {"x": 1.0})
    assert (found.compared, found.within) == (4, 2)
    assert set(found.worst["k"][:2]) == {2, 4}


def test_agreement_without_common_rows_and_with_wrong_tables():
    one, two = pd.DataFrame({"k": ["a"], "x": [1.0]}), pd.DataFrame({"k": ["b"], "x": [1.0]})
    assert str(results.agreement(one, two, ["k"], {"x": 1})).startswith("nothing to compare")
    assert str(results.agreement(one, one, ["k"], {})).startswith("nothing to compare")
    with pytest.raises(ParameterError, match="reference must be a table with the columns"):
        results.agreement(one, two.drop(columns="x"), ["k"], {"x": 1})
    with pytest.raises(ParameterError, match="table must have one row for each k"):
        results.agreement(pd.concat([one, one]), two, ["k"], {"x": 1})
