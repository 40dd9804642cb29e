"""Cells as jobs on a real Slurm of two nodes: what is killed, or lost with its node, is done again, and the evidence is
that of a local run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paper.evidence import Evidence

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "tests" / "cluster"

_spec = importlib.util.spec_from_file_location("cluster_slurm", CLUSTER / "slurm.py")
slurm = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(slurm)

if reason := slurm.missing():
    pytest.skip(f"no Slurm to try jobs on: {reason}", allow_module_level=True)
pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra 'cluster' is not installed")

SETTINGS = """
slurm-init-seconds-before-status-checks: 1
latency-wait: 20
"""
#: The plugin looks after its jobs ever less often, down to every three minutes, and has no setting for it.
IMPATIENT = """
import sys
if {"snakemake", "slurm"} <= set(sys.orig_argv):
    import asyncio
    sleep = asyncio.sleep
    asyncio.sleep = lambda seconds, *result: sleep(min(seconds, 0.5), *result)
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    early = tmp_path_factory.mktemp("early")
    (early / "sitecustomize.py").write_text(IMPATIENT)
    with slurm.cluster(nodes=2, cpus=1) as environment:
        path = f"{ROOT}{os.pathsep}{early}"
        given = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        yield {**environment, **given}


def command(into: Path, *options: str) -> list[str]:
    own = ["--profile", str(CLUSTER / "tiny.yaml"), "--into", str(into / "evidence"), "--device", "cpu"]
    return [sys.executable, "-m", "paper.tools.evidence", "run", *own, *options]


def started(environment: dict[str, str], *line: str, out: Path) -> subprocess.Popen:
    with open(out, "w") as file:
        return subprocess.Popen(line, env=environment, stdout=file, stderr=file, cwd=ROOT, start_new_session=True)


def wait(there: Callable[[], object], what: str, *said: Path):
    """What comes, within a time that only a stuck machine needs."""
    ends = time.monotonic() + 400
    while not (found := there()):
        if time.monotonic() > ends:
            raise AssertionError(f"waited for {what}:\n" + "\n".join(path.read_text()[-3000:] for path in said))
        time.sleep(0.05)
    return found


def kept(jobs: Path, name: str) -> int:
    """Cells that a job has finished."""
    with contextlib.suppress(OSError, ValueError):
        return sum(len(json.loads(path.read_text())["cells"]) for path in (jobs / name).glob("*.json"))
    return 0


def worker(name: str) -> int | None:
    """The process that computes a job's cells."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (path / "cmdline").read_bytes().split(b"\0")
            if b"job" in line and any(part.endswith(f"{name}.json".encode()) for part in line):
                return int(path.name)
    return None


def queue(environment: dict[str, str], jobs: Path) -> dict[str, str]:
    """What waits or runs of this folder: the numbers of Slurm's jobs by our names."""
    asked = ["squeue", "--noheader", "--format=%i|%k|%Z"]
    said = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
    lines = [line.split("|") for line in said.splitlines()]
    return {comment.rpartition("_")[2]: number for number, comment, place in lines if Path(place) == jobs}


def running(environment: dict[str, str], jobs: Path) -> tuple[str, str] | None:
    """The number of a job of this folder that runs, and its node, where there is one."""
    asked = ["squeue", "--noheader", "--states=RUNNING", "--format=%i|%N|%Z"]
    said = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
    lines = (line.split("|") for line in said.splitlines())
    return next(((number, node) for number, node, place in lines if Path(place) == jobs), None)


def lose(number: str, node: str) -> None:
    """End a node at once: its daemon, and the steps and processes of the job that it runs."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line, given = ((path / name).read_bytes() for name in ("cmdline", "environ"))
            daemon = line.rstrip(b"\0").endswith(f"-N\0{node}".encode())
            step = line.startswith(f"slurmstepd: [{number}.".encode())
            if daemon or step or f"SLURMD_NODENAME={node}\0".encode() in given:
                os.kill(int(path.name), signal.SIGKILL)


def tables(folder: Path) -> dict[str, list]:
    """Every cell with its code and its rows, without when and where."""
    return {
        key: [entry["config"], entry["code"], file.rows[entry["rows"]].drop(columns="cell").to_dict("records")]
        for file in Evidence(folder).files.values()
        for key, entry in file.record["cells"].items()
    }


def test_killed_cancelled_left_alone_and_without_a_node_it_ends_with_the_evidence_of_a_local_run(here, tmp_path):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "config.yaml").write_text(SETTINGS)
    away, local, jobs = tmp_path / "away", tmp_path / "local", tmp_path / "away" / "jobs"
    submit = command(away, "--executor", "slurm", "--cluster", str(tmp_path / "settings"), "--minutes", "0.4")
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"

    submitting = started(here, *submit, out=first)
    alone = started(here, *command(local), out=tmp_path / "alone.txt")
    before = wait(lambda: len(found := queue(here, jobs)) >= 2 and found, "two jobs", first)
    sizes = {name: len(json.loads((jobs / f"{name}.json").read_text())["batches"]) for name in before}
    large, small = max(sizes, key=sizes.get), min(sizes, key=sizes.get)
    assert sizes[large] >= 3, "the larger job has something to lose"

    # One is cancelled; Snakemake submits it again.
    subprocess.run(["scancel", before[small]], env=here, check=True)
    # The other's process is killed when it has kept something and not all.
    wait(lambda: kept(jobs, large), "a finished cell", first)
    os.kill(worker(large), signal.SIGKILL)
    assert 0 < kept(jobs, large) < sizes[large]
    again = wait(
        lambda: (now := queue(here, jobs)).get(large, before[large]) != before[large] and now, "another attempt", first
    )
    # Now whoever submitted dies, and the jobs stay.
    os.killpg(submitting.pid, signal.SIGKILL)
    submitting.wait()
    assert not Evidence(away / "evidence").files, "nothing has been taken over yet"
    assert again[large] != before[large]

    resubmitting = started(here, *submit, out=second)
    # A node is lost with all that runs on it; what it had not finished is done by the other one.
    number, node = wait(lambda: running(here, jobs), "a running job", second)
    lose(number, node)
    assert alone.wait() == 0, (tmp_path / "alone.txt").read_text()
    assert wait(lambda: resubmitting.poll() is not None, "the end", second, jobs / "snakemake.log")
    said = second.read_text()
    assert resubmitting.returncode == 0, said
    assert "jobs that are already there" in said, "the second finds what the first had left"

    # The same cells by the same code with the same numbers, and no trace of the jobs but what they took.
    assert tables(away / "evidence") == tables(local / "evidence") and len(tables(local / "evidence")) == 5
    assert not list(jobs.glob("*.json")) and not queue(here, jobs)
    assert (jobs / "took.csv").read_text().count(large) == 1
