"""Checks: what is allowed passes unchanged, everything else is one sentence, and nothing is left behind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import checks
from lib.checks import ParameterError

SENTENCE = re.compile(r"^\S.* must be .+, but .+ was given\.$")
finite = st.floats(allow_nan=False, allow_infinity=False)
anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2)
)


def refused(function, *arguments, **options) -> str:
    with pytest.raises(ParameterError) as caught:
        function(*arguments, **options)
    sentence = str(caught.value)
    assert SENTENCE.match(sentence) and "\n" not in sentence
    return sentence


def test_importing_the_ground_floor_is_light():
    code = "import sys, lib; print(sorted({'torch', 'pandas', 'numpy', 'open_clip'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_sentence_names_parameter_given_and_allowed():
    assert refused(checks.choice, "gate", "dept", ["length", "depth"]) == (
        "gate must be one of length, depth, but 'dept' was given."
    )
    assert refused(checks.integer, "shots", 0, 1, 16) == ("shots must be an integer from 1 to 16, but 0 was given.")
    assert refused(checks.integer, "seeds", -2, 1) == ("seeds must be an integer of at least 1, but -2 was given.")
    assert refused(checks.number, "rate", 0, above=0) == "rate must be a number above 0, but 0 was given."
    assert refused(checks.number, "x", 2, above=0, high=1) == (
        "x must be a number above 0 and at most 1, but 2 was given."
    )


@given(anything | st.sampled_from("abc"), st.lists(st.text("abc", min_size=1, max_size=2), min_size=1))
def test_choice_is_membership_of_words(value, allowed):
    if isinstance(value, str) and value in allowed:
        assert checks.choice("x", value, iter(allowed)) is value
    else:
        refused(checks.choice, "x", value, allowed)


@given(anything, st.integers(-5, 5), st.integers(-5, 5))
def test_integer_is_a_whole_number_in_range(value, low, high):
    if type(value) is int and low <= value <= high:
        assert checks.integer("x", value, low, high) == value
    else:
        refused(checks.integer, "x", value, low, high)


@given(anything, st.floats(-5, 5), st.floats(-5, 5))
def test_number_is_finite_and_in_range(value, low, high):
    if type(value) in (int, float) and value == value and low <= value <= high:
        result = checks.number("x", value, low, high)
        assert result == value and type(result) is float
    else:
        refused(checks.number, "x", value, low, high)


@given(finite, finite)
def test_above_is_exclusive(value, bound):
    if value > bound:
        assert checks.number("x", value, above=bound) == value
    else:
        refused(checks.number, "x", value, above=bound)


@pytest.mark.parametrize("value", [True, 2.0, "2", None, np.float64(2), np.bool_(True), [2]])
def test_integer_refuses_what_only_looks_whole(value):
    refused(checks.integer, "x", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, "1", True, 1j])
def test_number_refuses_what_is_not_a_finite_number(value):
    refused(checks.number, "x", value)


def test_numbers_of_other_libraries_become_plain():
    assert type(checks.integer("x", np.int64(3))) is int
    assert type(checks.number("x", np.float32(0.5))) is float
    assert checks.number("x", Fraction(1, 2)) == 0.5


@given(st.lists(finite, min_size=1, max_size=5))
def test_numbers_reads_lists_and_strings_alike(values):
    expected = tuple(values)
    assert checks.numbers("x", values) == expected
    assert checks.numbers("x", expected) == expected
    assert checks.numbers("x", ", ".join(map(repr, values))) == expected
    assert checks.numbers("x", values[0]) == expected[:1]


@pytest.mark.parametrize("value", ["", [], "1,a", "1,,2", [1, None], [0.5, 2.0], "nan", None, {"a": 1}, [True]])
def test_numbers_refuses_every_bad_entry(value):
    refused(checks.numbers, "x", value, 0, 1)


def test_choices_reads_lists_and_strings_alike():
    allowed = ["a", "b", "c"]
    assert checks.choices("x", "b, a", allowed) == ("b", "a")
    assert checks.choices("x", ["b", "a"], iter(allowed)) == ("b", "a")
    assert checks.choices("x", "c", allowed) == ("c",)


@pytest.mark.parametrize("value", ["", [], (), "a,a", ["a", "d"], "a,", 3, None, [1], {"a"}])
def test_choices_refuses_empty_repeated_and_unknown(value):
    refused(checks.choices, "x", value, ["a", "b", "c"])


@given(anything)
def test_flag_takes_truth_values_only(value):
    if isinstance(value, bool):
        assert checks.flag("x", value) is value
    else:
        refused(checks.flag, "x", value)


def test_columns_names_what_is_missing():
    table = pd.DataFrame({"a": [1], "b": [2]})
    checks.columns("reference", table, ["b", "a"])
    sentence = refused(checks.columns, "reference", table, ["a", "c", "d"])
    assert sentence == (
        "reference must be a table with the columns a, c, d, but a table without c, d (it has a, b) was given."
    )


@given(st.text(min_size=200, max_size=2000))
def test_a_long_value_does_not_flood_the_sentence(value):
    assert len(refused(checks.choice, "x", value, ["a"])) < 120


def test_writable_makes_the_folder_and_leaves_it_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    assert checks.writable("results", str(folder)) == folder
    assert folder.is_dir() and not any(folder.iterdir())
    assert checks.writable("results", folder) == folder


def test_writable_refuses_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("kept")
    for given_path in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        assert "file" in refused(checks.writable, "results", given_path)
    assert (tmp_path / "file").read_text() == "kept"


def test_writable_refuses_too_little_space(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    sentence = refused(checks.writable, "results", tmp_path / "new")
    assert "at least 64 MiB of free space" in sentence and "with 1 MiB free" in sentence
    assert not (tmp_path / "new").exists()
    assert checks.writable("results", tmp_path / "new", need=2**19).is_dir()


def test_writable_refuses_a_folder_without_the_right(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert "right to write" in refused(checks.writable, "results", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("error", [PermissionError("read-only"), OSError(28, "No space left on device")])
def test_writable_removes_what_it_made_when_the_probe_fails(tmp_path, monkeypatch, error):
    def fail(**options):
        raise error

    monkeypatch.setattr(checks.tempfile, "TemporaryFile", fail)
    refused(checks.writable, "results", tmp_path / "a" / "b" / "c")
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="a superuser may write everywhere")
def test_writable_refuses_a_real_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    try:
        refused(checks.writable, "results", tmp_path / "new")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("value", ["", "  ", "a\0b", None, 3])
def test_writable_refuses_what_is_no_path(value):
    refused(checks.writable, "results", value)


@pytest.mark.parametrize("given", [[8, 16], (8, 16), "8, 16"])
def test_integers_reads_lists_and_strings_alike(given):
    assert checks.integers("x", given, 2, 512) == (8, 16)
    assert checks.integers("x", 8) == (8,)


def test_integers_refuses_every_bad_entry():
    for wrong, sentence in (
        ([], "x must be one or more integers from 2 to 512, but [] was given."),
        ("8, wide", "x must be one or more integers from 2 to 512, but '8, wide' was given."),
        ("8, 1", "x must be an integer from 2 to 512, but 1 was given."),
        ([8, 2.0], "x must be an integer from 2 to 512, but 2.0 was given."),
        ([True], "x must be an integer from 2 to 512, but True was given."),
    ):
        with pytest.raises(checks.ParameterError) as caught:
            checks.integers("x", wrong, 2, 512)
        assert str(caught.value) == sentence
