"""One set of versions: the lock, the conda environment, pyproject and requirements.in say the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests import matrix

ROOT = Path(__file__).resolve().parents[1]


def requirements(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    entries = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    assert len({canonicalize_name(entry.name) for entry in entries}) == len(entries)
    return {canonicalize_name(entry.name): entry for entry in entries}


def locked() -> dict[str, Version]:
    versions = {}
    for name, entry in requirements("requirements.lock").items():
        (pin,) = entry.specifier
        assert pin.operator == "==" and "*" not in pin.version, entry
        versions[name] = Version(pin.version)
    return versions


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {canonicalize_name(entry.name): entry for group in groups for entry in map(Requirement, group)}


def test_lock_satisfies_the_bounds_of_the_package():
    versions = locked()
    for name, entry in declared().items():
        assert name in versions, f"{name} is declared and not locked"
        assert entry.specifier.contains(versions[name]), f"{entry} against {versions[name]}"


def test_lock_comes_from_requirements_in():
    versions = locked()
    for name, entry in requirements("requirements.in").items():
        assert entry.specifier.contains(versions[name]), f"{entry} against {versions[name]}"
    # What the package declares is asked for directly, so that no bound rests on a dependency of a dependency.
    assert set(declared()) <= set(requirements("requirements.in"))


def test_conda_installs_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    # Every package comes from the lock itself: there is no second list that could say something else.
    assert pip == ["-r requirements.lock", "-e ."]
    assert [Requirement(entry).name for entry in plain] == ["python", "pip"]
    python = Requirement(plain[0]).specifier
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bound = Requirement(f"python{project['requires-python']}").specifier
    for version in ("3.11.9", "3.12.4", "3.13.1"):
        assert python.contains(version) and bound.contains(version)
    assert not python.contains("3.10.14")


@pytest.mark.slow
def test_conda_makes_an_environment_in_which_the_library_answers(tmp_path):
    conda = next(filter(None, map(shutil.which, ("micromamba", "mamba", "conda"))), None)
    if conda is None:
        pytest.skip("neither conda, mamba nor micromamba is installed")
    # The words of README, with a place of the test's own; micromamba says the same without `env`, and asks.
    verb = ["create", "--yes"] if conda.endswith("micromamba") else ["env", "create"]
    command = [conda, *verb, "--quiet", "-f", "environment.yml", "-p", str(tmp_path / "env")]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = made.stdout + made.stderr
    if made.returncode and re.search(r"Connection|HTTPError|[Cc]ould not (resolve|connect)|Download error", said):
        pytest.skip(f"conda-forge cannot be reached: {said.strip().splitlines()[-1]}")
    assert made.returncode == 0, said
    asked = (
        "import json, lib, torch; from importlib.metadata import version; lib.load('miniclip');"
        "print(json.dumps({name: version(name) for name in ('torch', 'numpy', 'jupyter-book')}))"
    )
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(tmp_path / "env" / "bin" / "python"), "-c", asked]
    ran = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert {name: Version(one) for name, one in json.loads(ran.stdout).items()} == {
        name: locked()[name] for name in ("torch", "numpy", "jupyter-book")
    }


def test_the_matrix_covers_what_is_promised():
    promised = matrix.supported()
    assert promised[0] == "3.11" and {"3.12", "3.13"} <= set(promised)
    assert declared()["torch"].specifier.contains("2.11.0") and not declared()["torch"].specifier.contains("2.10.9")
    assert matrix.bounds("torch") == ["torch==2.11.*"]
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert matrix.interpreter(mine) and matrix.interpreter("3.99") is None
    assert all((ROOT / path).is_file() for path in matrix.TESTS)
    assert matrix.tried("3.99", "oldest", [], {}).said.startswith("not to be had")


def test_torch_and_torchvision_match():
    versions = locked()
    # torchvision is built against one release of torch and names it in its metadata.
    (needed,) = [
        Requirement(line) for line in metadata.requires("torchvision") or () if re.match(r"torch\b(?!vision)", line)
    ]
    assert needed.specifier.contains(versions["torch"])


def test_lock_works_on_every_machine():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"file:|https?://|--|/|@", text), "a path, an address or an option of one machine"


def test_this_environment_is_the_locked_one():
    markers = {name: entry.marker for name, entry in requirements("requirements.lock").items()}
    wrong = {}
    for name, version in locked().items():
        if markers[name] is not None and not markers[name].evaluate():
            continue
        try:
            installed = Version(metadata.version(name))
        except metadata.PackageNotFoundError:
            wrong[name] = "missing"
            continue
        # A build for one kind of hardware carries a local suffix: 2.15.0+cpu is the locked 2.15.0.
        if installed.public != version.public:
            wrong[name] = f"{installed} instead of {version}"
    if len(wrong) > 20:
        pytest.skip("the tests run in an environment of their own, not in the locked one")
    assert not wrong


def test_book_stays_below_the_second_jupyter_book():
    assert locked()["jupyter-book"] < Version("2")
    assert locked()["torch"] >= Version("2.11")
