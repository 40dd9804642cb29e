"""Interpreters against versions of torch: a fresh environment for each, the package installed, a few tests run.

::

    make matrix                                                  # all of it: gigabytes of packages, half an hour
    python tests/matrix.py --pythons 3.12 --sets oldest locked   # a part

A row is a Python that pyproject.toml allows, as far as one can be had on this machine. The sets of versions are
``oldest`` (torch and torchvision at the bounds of pyproject.toml), ``locked`` (requirements.lock, what ``make env``
installs) and ``newest`` (whatever there is now, if its torch is not the locked one). The environments lie outside of
the repository, in a folder that is removed, and hold a copy of what is tracked.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
SETS = ("oldest", "locked", "newest")
#: Every kind of code that a version can break: tables, random streams, batched trainings, hardware, gates, reports.
TESTS = (
    "tests/test_face.py",
    "tests/test_gradients.py",
    "tests/test_replicas.py",
    "tests/test_results.py",
    "tests/test_runtime.py",
    "tests/test_checks.py",
    "tests/test_hardware_perturbations.py",
    "tests/test_hardware_networks.py",
)
#: What a test is given, in seconds, before it counts as failed.
LONGEST = 1800


def _pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def supported() -> list[str]:
    """The Pythons that the package and its conda environment allow, as ``3.11``."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (conda,) = [Requirement(one).specifier for one in entries if isinstance(one, str) and one.startswith("python ")]
    both = conda & SpecifierSet(_pyproject()["requires-python"])
    return [f"3.{minor}" for minor in range(100) if f"3.{minor}.1" in both]


def interpreter(python: str) -> str | None:
    """The program of a Python that runs, can make environments, and is what its name says."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    names = [shutil.which(f"python{python}"), *sorted(kept.glob(f"{python}.*/bin/python{python}"), reverse=True)]
    for name in filter(None, names):
        asked = "import sys, venv, ssl; print('%d.%d' % sys.version_info[:2])"
        answer = subprocess.run([str(name), "-c", asked], capture_output=True, text=True)
        if answer.returncode == 0 and answer.stdout.strip() == python:
            return str(name)
    return None


def bounds(*packages: str) -> list[str]:
    """Requirements that hold packages at their lower bounds in pyproject.toml: ``torch>=2.11`` as ``torch==2.11.*``."""
    found = {one.name: one for one in map(Requirement, _pyproject()["dependencies"])}
    lowest = []
    for name in packages:
        (bound,) = [one.version for one in found[name].specifier if one.operator == ">="]
        lowest.append(f"{name}=={bound}.*")
    return lowest


def versions(kind: str) -> list[str]:
    """What is installed, as arguments of ``uv pip install``."""
    tests = _pyproject()["optional-dependencies"]["test"]
    needed = [one for one in tests if Requirement(one).name.startswith(("pytest", "hypothesis"))]
    return {
        "oldest": ["-e", ".", *bounds("torch", "torchvision"), *needed],
        "locked": ["-r", "requirements.lock", "-e", "."],
        "newest": ["-e", ".", *needed],
    }[kind]


@dataclass(frozen=True)
class Outcome:
    """What became of one interpreter with one set of versions."""

    python: str
    kind: str
    said: str
    torch: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.said.startswith(("failed", "not installed"))


def copy(place: Path) -> Path:
    """What is tracked, in a folder of its own: an installation writes beside the sources."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith("notebooks/") and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    return place


def _said(run: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"


def tried(python: str, kind: str, tests: Sequence[str], environment: dict[str, str]) -> Outcome:
    """Install and test; never raises for what the versions do."""
    program = interpreter(python)
    if program is None:
        return Outcome(python, kind, "not to be had: no such Python on this machine")
    outcome = functools.partial(Outcome, python, kind)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        place = copy(Path(folder) / "book")
        inside = str(Path(folder) / "env" / "bin" / "python")
        run = functools.partial(subprocess.run, cwd=place, capture_output=True, text=True, env=environment)
        run(["uv", "venv", "--quiet", "--python", program, str(Path(folder) / "env")], check=True)
        installed = run(["uv", "pip", "install", "--quiet", "--python", inside, *versions(kind)])
        if installed.returncode:
            return outcome(f"not installed: {_said(installed)}")
        torch = run([inside, "-c", "import torch, torchvision; print(torch.__version__)"])
        if torch.returncode:
            return outcome(f"failed: {_said(torch)}")
        version = torch.stdout.strip()
        locked = re.search(r"^torch==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
        if kind == "newest" and locked and version.partition("+")[0] == locked[1]:
            return outcome("not run: the newest torch is the locked one", version)
        command = [inside, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests]
        try:
            ran = run(command, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            return outcome(f"failed: not done in {LONGEST} s", version, time.monotonic() - began)
        if ran.returncode:
            print(ran.stdout[-4000:], ran.stderr[-1000:], file=sys.stderr)
        said = re.sub(r"^=+ | in [\d.]+s.*$", "", _said(ran))
        return outcome(f"failed: {said}" if ran.returncode else said, version, time.monotonic() - began)


def rows(pythons: Sequence[str], kinds: Sequence[str], tests: Sequence[str]) -> Iterator[Outcome]:
    """One after the other: an environment has gigabytes."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1"}
    for python in pythons:
        for kind in kinds:
            yield tried(python, kind, tests, environment)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python tests/matrix.py", description=__doc__.splitlines()[0])
    allowed = supported()
    parser.add_argument("--pythons", nargs="+", choices=allowed, default=allowed, metavar="PYTHON")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files of tests, or tests as pytest names them")
    options = parser.parse_args(arguments)
    failed = False
    print("| Python | versions | torch | outcome | seconds |\n|---|---|---|---|---|", flush=True)
    for one in rows(options.pythons, options.sets, options.tests):
        print(f"| {one.python} | {one.kind} | {one.torch} | {one.said} | {one.seconds:.0f} |", flush=True)
        failed |= one.failed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
