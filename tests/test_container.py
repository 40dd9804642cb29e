"""The container: built and run without a network where podman or docker is, looked at as text everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile: word and rest."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_every_instruction_is_one_and_the_base_is_a_supported_python():
    words = [word for word, _ in instructions()]
    assert set(words) <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "CMD"}
    assert words[0] == "FROM" and words.count("FROM") == words.count("CMD") == 1 and words[-1] == "CMD"
    (version,) = re.findall(r"python:(\d+\.\d+)", instructions()[0][1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SpecifierSet(project["requires-python"]).contains(f"{version}.0")


def test_what_is_copied_is_in_the_repository_and_all_that_a_build_reads_is_copied():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("these sources are no git repository")
    tracked = {name.partition("/")[0] for name in listed.stdout.splitlines()}
    copied = [name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]]
    assert set(copied) <= tracked
    # What a book is not built from: tests, the tools of git and CI, the other ways of installing.
    other = {"tests", "environment.yml", "requirements.in", "CONTRIBUTING.md", "Containerfile"}
    assert {name for name in tracked if not name.startswith(".")} - set(copied) <= other | {"_config.yml", "_toc.yml"}
    assert not set(copied) & set(ignored())


def ignored() -> list[str]:
    """What an image leaves out of the folder that it is made in."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def test_nothing_generated_gets_into_an_image():
    # docker reads .dockerignore only; podman reads it where there is no .containerignore.
    assert not (ROOT / ".containerignore").exists()
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    generated = {line.strip("/") for line in lines if line.strip() and not line.startswith("#")}
    missing = generated - {one.removeprefix("**/") for one in ignored()}
    assert not missing, f".gitignore names what .dockerignore does not: {sorted(missing)}"
    # git ignores a bare name at any depth, docker at the top only.
    assert {".git", "**/__pycache__", "**/*.egg-info"} <= set(ignored())


def test_the_lock_installs_and_the_book_is_built_last_and_offline():
    steps = instructions()
    assert ("RUN", "make env") in steps, "make's own rule installs the lock; there is no second list of versions"
    assert steps[-1] == ("CMD", '["make", "book"]')
    running = [rest for word, rest in steps if word == "RUN"]
    network = re.compile(r"\b(pip|curl|wget|git|uv|npm|conda)\b")
    assert not any(network.search(rest) for rest in [*running, steps[-1][1]])
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    assert "--network none" in text, "the way to run it says so"


def works(program: str) -> bool:
    """Is the program installed, and does what it needs (docker's daemon) run?"""
    return bool(shutil.which(program)) and subprocess.run([program, "info"], capture_output=True).returncode == 0


@pytest.mark.slow
def test_the_image_builds_the_book_without_a_network(tmp_path):
    program = next(filter(works, ("podman", "docker")), None)
    if program is None:
        pytest.skip("neither podman nor docker is installed and at work")
    tag = "gradients-test"
    built = subprocess.run(
        [program, "build", "-q", "-t", tag, "-f", "Containerfile", "."], cwd=ROOT, capture_output=True, text=True
    )
    if built.returncode and re.search(r"registry|dial tcp|lookup|pull", built.stderr):
        pytest.skip(f"the base image cannot be had: {built.stderr.strip().splitlines()[-1]}")
    if built.returncode and re.search(r"creating container|OCI (runtime|permission)|cgroups", built.stderr):
        pytest.skip(f"{program} can run nothing on this machine: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    command = [program, "run", "--rm", "--network", "none", "-v", f"{tmp_path}:/book/_build", tag]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "html" / "index.html").is_file()
