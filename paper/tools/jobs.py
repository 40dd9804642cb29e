"""Cells of evidence as jobs: on a cluster, or on several devices of this machine, by Snakemake's executors.

What is missing or stale is cut into jobs by the time and memory that it will take. A job is a description in
``results/jobs``, named by the cells in it and their code; it keeps what it has finished in a folder of evidence of its
own, batch by batch, and ends in a stamp. Whoever submits takes over what there is, whole cells by their provenance, at
the beginning and at the end; so it may die, and the next one finds what is done, what still runs, and what is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lib import checks, results, runtime
from lib.results import write
from paper.evidence import Evidence, File
from paper.studies import base
from paper.tools import sources
from paper.words.format import several

if TYPE_CHECKING:
    from paper.tools.estimate import Estimate
    from paper.tools.evidence import Planned

#: What computes cells: forked processes of this machine, or jobs by one of Snakemake's executors.
EXECUTORS = ("local", "slurm", "kubernetes")
#: How long a job should take, in minutes: long against the seconds that it needs to start, short against what is lost
#: with it.
MINUTES = 30
#: What is asked for is more than what is expected, by these factors; and the least, since a start takes time, too.
SAFE_TIME, SAFE_MEMORY, LEAST_MINUTES = 2.0, 1.25, 5
#: How often a job is tried again that was lost.
RETRIES = 2
#: Seconds between two looks at the queue for jobs that someone else has submitted.
LOOK = 2.0

_PLUGIN = "snakemake-executor-plugin-{}"
#: How the plugin comments a job of the rule ``cells``.
_COMMENT = "rule_cells_wildcards_"
_BUSY = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "STOPPED")


def folder() -> Path:
    """Where jobs are described and keep their results: beside the evidence."""
    return base.EVIDENCE.parent / "jobs"


@dataclass(frozen=True)
class Order:
    """What is computed and how: the pages of a profile with their parameters, and the device."""

    pages: tuple[str, ...]
    profile: str
    given: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"

    def plan(self) -> list[Planned]:
        """Its cells, each with how its evidence stands."""
        from paper.tools import evidence

        # The device may be one of another machine.
        return evidence.plan(self.pages, "auto", self.profile, self.given)


@dataclass(frozen=True)
class Job:
    """Batches of cells that one process computes, and what it should take."""

    order: Order
    batches: tuple[tuple[Planned, ...], ...]
    seconds: float
    gib: float

    @property
    def cells(self) -> list[Planned]:
        return [one for batch in self.batches for one in batch]

    @property
    def name(self) -> str:
        """Twelve digits of its cells, their code and the device: the same work has the same name."""
        parts = sorted(f"{one.cell.key}{one.cell.code}" for one in self.cells)
        return hashlib.sha256(" ".join([*parts, self.order.device]).encode()).hexdigest()[:12]

    def described(self) -> dict[str, Any]:
        """All that a process on another machine needs to compute it."""
        return {
            "profile": self.order.profile,
            "pages": sorted({one.page for one in self.cells}),
            "given": dict(self.order.given),
            "device": self.order.device,
            "batches": [[one.cell.key for one in batch] for batch in self.batches],
            "codes": {one.cell.key: one.cell.code for one in self.cells},
            "homes": {one.cell.key: Evidence(base.EVIDENCE).home(one.cell, one.study).path.stem for one in self.cells},
            "seconds": round(self.seconds, 1),
            "minutes": max(LEAST_MINUTES, math.ceil(SAFE_TIME * self.seconds / 60)),
            "mib": math.ceil(SAFE_MEMORY * self.gib * 1024),
            "gpus": int(self.order.device.startswith("cuda")),
        }


def cut(todo: Sequence[Planned], order: Order, estimate: Estimate, minutes: float) -> list[Job]:
    """Jobs of about so many minutes, the longest first: batches that need about as much memory share one."""
    by_cell = {one.cell: one for one in todo}
    device = "cuda" if order.device.startswith("cuda") else "cpu"
    found: list[Job] = []
    open_: dict[int, Job] = {}
    for group in results.groups(list(by_cell), device):
        batch = tuple(by_cell[cell] for cell in group)
        # What nobody can estimate makes a job of its own.
        seconds = estimate(batch)
        seconds = 60.0 * minutes if seconds is None else seconds
        gib = estimate.gib(batch)
        size = math.ceil(math.log2(gib))
        job = open_.get(size)
        if job is None or job.seconds + seconds > 60 * minutes:
            if job is not None:
                found.append(job)
            job = Job(order, (), 0.0, 0.0)
        open_[size] = Job(order, (*job.batches, batch), job.seconds + seconds, max(job.gib, gib))
    return sorted([*found, *open_.values()], key=lambda job: -job.seconds)


# ---------------------------------------------------------------------------------------------- one job


def compute(description: Path, stamp: Path) -> int:
    """Compute a job, batch by batch, each kept as soon as it is finished; what was kept before stands. 0 when all was
    tried: the stamp says what failed, which would fail again. What a second attempt may mend, as too little memory,
    is raised.
    """
    from paper.tools import evidence

    asked = json.loads(description.read_text(encoding="utf-8"))
    own = description.with_suffix("")
    own.mkdir(exist_ok=True)
    began, failed = time.perf_counter(), {}
    with _at_work(own), _device(asked["device"], description.parent) as device:
        plan = evidence.plan(asked["pages"], device, asked["profile"], asked["given"])
        # Each goes into the file of evidence that it will be merged into.
        planned = {one.cell.key: replace(one, study=asked["homes"].get(one.cell.key, one.study)) for one in plan}
        for keys in asked["batches"]:
            kept = Evidence(own)
            batch = [planned[key] for key in keys if key in planned]
            batch = [one for one in batch if kept.state(one.cell) != "current"]
            if not batch:
                continue
            try:
                evidence.keep(batch, own, str(runtime.resolve_device(device)))
            except MemoryError:
                raise
            except Exception as error:
                if type(error).__name__ == "OutOfMemoryError":  # of a GPU
                    raise
                failed[f"{batch[0].study}, {batch[0].cell.kind}"] = traceback.format_exc()
            print(f"{len(batch)} cells of {batch[0].study}, {batch[0].cell.kind}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    took = {"seconds": round(time.perf_counter() - began, 1), "mib": math.ceil(peak), "failed": failed}
    write(stamp, json.dumps(took).encode())
    return 0


@contextlib.contextmanager
def _at_work(own: Path) -> Iterator[None]:
    """Let others on this machine see that a job is computed; the kernel forgets it with the process."""
    with open(own / "work.lock", "w") as lock, contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def _worked_on(own: Path) -> bool:
    try:
        with open(own / "work.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


@contextlib.contextmanager
def _device(named: str, where: Path) -> Iterator[str]:
    """The device of a job: of several that are named, one that no other job of this machine holds."""
    several = named.split(",")
    if len(several) == 1:
        yield named
        return
    while True:
        for number, device in enumerate(several):
            with open(where / f"device-{number}.lock", "w") as lock:
                try:
                    # The kernel drops it with the process, however that ends.
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                yield device
                return
        time.sleep(1.0)


# ---------------------------------------------------------------------------------------------- the queue


def ready(executor: str, device: str) -> None:
    """Refuse what cannot be submitted from here."""
    if executor == "local":
        return
    package = _PLUGIN.format(executor)
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        raise checks.ParameterError(
            f"EXECUTOR must be one whose package is installed, but {executor!r} was given and {package} is not"
            " (pip install '.[cluster]')."
        )
    if executor == "slurm" and (lost := [name for name in ("sbatch", "squeue") if shutil.which(name) is None]):
        raise checks.ParameterError(
            f"EXECUTOR must be one in reach, but 'slurm' was given and there is no {lost[0]} on PATH."
        )
    if "," in device:
        raise checks.ParameterError(
            f"DEVICE must be one with EXECUTOR {executor}, which gives each job a machine's, but {device!r} was given."
        )


def queued(executor: str) -> set[str]:
    """Jobs of this folder that wait or run: what an earlier submission has left behind is still at work."""
    found = {path.stem for path in folder().glob("*.json") if _worked_on(path.with_suffix(""))}
    if executor != "slurm":
        return found
    asked = ["squeue", "--noheader", "--user", str(os.getuid()), "--format=%T|%k|%Z"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    if said.returncode:
        raise checks.ParameterError(f"EXECUTOR must be one that answers, but squeue says: {said.stderr.strip()}.")
    for line in said.stdout.splitlines():
        state, comment, place = line.split("|", 2)
        if state in _BUSY and comment.startswith(_COMMENT) and Path(place) == folder():
            found.add(comment.removeprefix(_COMMENT))
    return found


def _held(names: set[str]) -> dict[str, str | None]:
    """The cells, by key, that jobs in the queue compute, and by which code."""
    held: dict[str, str | None] = {}
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            held |= json.loads((folder() / f"{name}.json").read_text(encoding="utf-8"))["codes"]
    return held


def _options(executor: str, jobs: str, device: str, profile: Path | None) -> list[str]:
    """What Snakemake is told of where jobs run."""
    several = device.split(",")
    if executor == "local":
        found = ["--cores", str(len(several)), "--resources", f"gpu={len(several)}"]
    else:
        found = ["--executor", executor, "--jobs", "unlimited" if jobs == "all" else jobs]
    if executor == "slurm" and subprocess.run(["sacct", "-n", "-X"], capture_output=True, check=False).returncode:
        # Without an accounting database only the queue can tell what has become of a job.
        found += ["--slurm-status-command", "squeue"]
    return [*found, *(["--profile", str(profile)] if profile else [])]


@contextlib.contextmanager
def _alone() -> Iterator[IO[str]]:
    """One submission at a time in this folder."""
    folder().mkdir(parents=True, exist_ok=True)
    checks.writable("jobs", folder())
    lock = open(folder() / "submission.lock", "w")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise checks.ParameterError(
            "EXECUTOR must wait for the submission that is at work in this folder, but a second was started."
        ) from None
    with lock:
        yield lock


def submit(
    order: Order,
    executor: str = "local",
    jobs: str = "all",
    minutes: float = MINUTES,
    dry: bool = False,
    profile: Path | None = None,
) -> int:
    """Let jobs compute what is missing or stale, and take over their evidence; 1 if anything failed."""
    from paper.tools.estimate import Estimate, time_left

    ready(executor, order.device)
    planned = order.plan()
    left = _left(planned)
    if dry:
        made = cut(left, order, Estimate(), minutes)
        print(_said(len(left), planned, made))
        for job in made:
            print(f"  {job.name}: {len(job.cells)} cells, {time_left(job.seconds)}, {job.gib:.1f} GiB")
        return 0
    asked = len(left)
    with _alone() as lock:
        options = _options(executor, jobs, order.device, profile)
        while True:
            running = queued(executor)
            failed = collect(planned, running)
            todo, held = _left(planned), _held(running)
            mine = [one for one in todo if held.get(one.cell.key, "") != one.cell.code]
            made = cut(mine, order, Estimate(), minutes)
            for check in dict.fromkeys(one.ready for one in mine):
                check()
            there = f"; {len(todo) - len(mine)} in {len(running)} jobs that are already there" if running else ""
            print(f"{_said(len(mine), planned, made)}{there}", flush=True)
            if made:
                _snakemake(made, options, lock)
            while running & queued(executor):
                time.sleep(LOOK)
            failed |= collect(planned, queued(executor))
            if not running:
                break  # what became of others' jobs the next round says
    for name, error in failed.items():
        print(f"FAILED {name}: {error.strip().splitlines()[-1]}\n{error}", file=sys.stderr, flush=True)
    left = _left(planned)
    print(f"{asked - len(left)} cells computed, {len(left)} left", flush=True)
    if left:
        print(f"What jobs and Snakemake said is in {folder()}.", file=sys.stderr, flush=True)
    return min(len(left), 1)


def _said(count: int, planned: Sequence[Planned], made: Sequence[Job]) -> str:
    from paper.tools.estimate import time_left

    expected = time_left(sum(job.seconds for job in made))
    return f"{count} of {len(planned)} cells to compute in {several(len(made), 'job')}, {expected}"


def _left(planned: Sequence[Planned]) -> list[Planned]:
    """What is not there yet, as the evidence stands now."""
    evidence = Evidence(base.EVIDENCE)
    now = [replace(one, state=evidence.state(one.cell)) for one in planned]
    return [one for one in now if one.state != "current"]


def _snakemake(made: Sequence[Job], options: Sequence[str], lock: IO[str]) -> None:
    """Run these jobs to their end, and say how far they are."""
    where = folder()
    for job in made:
        write(where / f"{job.name}.json", json.dumps(job.described(), indent=1).encode())
    write(where / "submitted", "\n".join(job.name for job in made).encode())
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(Path(__file__).with_suffix(".smk"))]
    command += ["--directory", str(where), "--nolock", "--keep-going", "--rerun-triggers", "mtime"]
    # Not in the rule, where a job's own Snakemake would try again, too.
    command += ["--retries", str(RETRIES), *options]
    command += ["--config", f"folder={where}", f"root={sources.ROOT}"]
    done = -1
    with open(where / "snakemake.log", "a", encoding="utf-8") as log:
        # It holds the lock, too: where this process dies alone, Snakemake goes on, and nobody submits beside it.
        process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=[lock.fileno()])
        while process.poll() is None:
            now = sum((where / f"{job.name}.done").is_file() for job in made)
            if now != done:
                print(f"{now}/{len(made)} jobs", flush=True)
            done = now
            time.sleep(0.5)


def collect(planned: Sequence[Planned], running: set[str]) -> dict[str, str]:
    """Take over what jobs have finished, into the evidence; what failed, by its study and kind, with the error.

    What is whole counts, and nothing else. Jobs that still run keep their folders.
    """
    codes = {one.cell.key: one.cell.code for one in planned}
    failed: dict[str, str] = {}
    for description in sorted(folder().glob("*.json")):
        own, stamp, log = (description.with_suffix(suffix) for suffix in ("", ".done", ".log"))
        for file in Evidence(own).files.values() if own.is_dir() else ():
            File(base.EVIDENCE / file.path.name).merge(file, codes)
        if description.stem in running:
            continue
        if stamp.is_file():
            took, asked = (json.loads(path.read_text(encoding="utf-8")) for path in (stamp, description))
            failed |= took["failed"]
            with open(folder() / "took.csv", "a", encoding="utf-8") as table:
                numbers = (asked["seconds"], took["seconds"], asked["mib"], took["mib"])
                table.write(",".join(map(str, (description.stem, *numbers))) + "\n")
            log.unlink(missing_ok=True)
        shutil.rmtree(own, ignore_errors=True)
        # Its description last: killed here, the next one does the rest.
        stamp.unlink(missing_ok=True)
        description.unlink()
    return failed
