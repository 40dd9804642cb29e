"""The evidence that the book shows: compute what is missing or stale, say what is, and merge what others computed.

::

    python -m paper.tools.evidence run [PAGE ...] [--device auto] [--jobs 1] [--dry-run] [--verify]
    python -m paper.tools.evidence run --profile real -p root FOLDER [-p NAME VALUE ...]
    python -m paper.tools.evidence run --executor slurm [--cluster FOLDER] [--minutes 30]
    python -m paper.tools.evidence run --device cuda:0,cuda:1
    python -m paper.tools.evidence estimate
    python -m paper.tools.evidence check [PAGE ...]
    python -m paper.tools.evidence merge FOLDER
    python -m paper.tools.evidence prune

Cells are computed one after the other (with ``--jobs``, side by side) and each is on disk as soon as it is finished, so
a run may be killed and started again, here or on another machine. On a cluster, or with several devices, they are
computed by jobs (:mod:`paper.tools.jobs`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from lib import checks, results, runtime
from lib.results import Cell, Tables
from paper.evidence import LIMIT, Evidence, File, State
from paper.studies import base
from paper.tools import estimate, jobs, profiles
from paper.tools.estimate import Estimate, time_left

#: Relative difference that rounding in batches of other sizes may make.
ROUNDING = 2e-3


@dataclass(frozen=True)
class Planned:
    """A cell of the book with the file of evidence that it belongs to, and how its evidence stands."""

    cell: Cell
    study: str
    state: State
    #: The page that asks for it first.
    page: str = ""
    #: What it will take, where its study can say it beforehand (:class:`paper.studies.cost.Costs`).
    costs: Any = None
    #: Refuses what stands in the way of computing it.
    ready: Callable[[], None] = field(default=lambda: None, compare=False)


#: Profiles whose evidence is committed: what the book shows, and what is left to whoever has a real CLIP.
PROFILES = ("evidence", "real")


def studies(
    names: Sequence[str] = (),
    device: str = "auto",
    profile: str = "evidence",
    given: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, base.Study]:
    """The studies of a profile by page, or of the pages named; parameters ``given`` take the place of the profile's."""
    pages = _pages(profile)
    for name in names:
        checks.choice("PAGES", name, pages)
    chosen = {name: page for name, page in pages.items() if not names or name in names}
    return {
        name: base.named(page.notebook)(**{**page.parameters, **given, "device": device})
        for name, page in chosen.items()
    }


def _pages(profile: str) -> Mapping[str, profiles.Page]:
    """The pages of a profile: one whose evidence is committed, or a file of one's own."""
    if profile.endswith(".yaml"):
        return profiles.profile(Path(profile).expanduser())
    return profiles.real() if checks.choice("PROFILE", profile, PROFILES) == "real" else profiles.evidence()


def plan(
    names: Sequence[str] = (),
    device: str = "auto",
    profile: str = "evidence",
    given: Mapping[str, Any] = MappingProxyType({}),
) -> list[Planned]:
    """Every cell of these pages, once; a cell of several pages belongs to the first."""
    evidence = Evidence(base.EVIDENCE)
    found: dict[Cell, Planned] = {}
    for page, study in studies(names, device, profile, given).items():
        costs = study.costs()
        for cell in study.cells():
            found.setdefault(cell, Planned(cell, study.shelf(), evidence.state(cell), page, costs, study.ready))
    return list(found.values())


def agrees(stored: Tables, again: Tables, seed: int) -> bool:
    """Are these the stored rows of a seed, to what batches of other sizes may round differently?"""
    for name, table in stored.items():
        old = table[table["seed"] == seed].reset_index(drop=True) if "seed" in table else table
        new = again.get(name)
        if new is None or set(new.columns) != set(old.columns) or len(new) != len(old):
            return False
        for column in old:
            one, other = old[column], new[column].reset_index(drop=True)
            if one.dtype.kind == "f":
                if not np.isclose(one, other, rtol=ROUNDING, atol=1e-6, equal_nan=True).all():
                    return False
            elif one.tolist() != other.tolist():
                return False
    return True


def _verified(planned: Planned, evidence: Evidence) -> bool:
    """Does the first seed of a stale cell, computed again by today's code, give the stored rows? Then they stand."""
    cell, stored = planned.cell, evidence.get(planned.cell)
    seeds = cell.config.get("seeds")
    if planned.state != "stale" or stored is None or not isinstance(seeds, list | tuple) or len(seeds) < 2:
        return False
    alone = replace(cell, config={**cell.config, "seeds": list(seeds[:1])}, size=1)
    ((_, tables, origin),) = results.measured([alone], _DEVICE)
    if not agrees(stored.tables, {name: results.tidied(table)[0] for name, table in tables.items()}, seeds[0]):
        return False
    note = {name: origin[name] for name in ("commit", "date")} | {"seed": seeds[0]}
    evidence.home(cell, planned.study).verify(cell, note)
    return True


# What a forked worker computes: set before the fork, since functions and tables do not travel through a pipe.
_WORK: list[list[Planned]] = []
_DEVICE = "cpu"
_VERIFY = False


def keep(batch: Sequence[Planned], folder: Path, device: str) -> None:
    """Compute one batch, and put it into the evidence in a folder."""
    evidence = Evidence(folder)
    homes: dict[Path, File] = {}
    parts: dict[Path, list] = {}
    for planned, one in zip(batch, results.measured([planned.cell for planned in batch], device), strict=True):
        home = evidence.home(planned.cell, planned.study)
        homes[home.path] = home
        parts.setdefault(home.path, []).append(one)
    for path, home in homes.items():
        home.put(parts[path])


def _compute(number: int) -> tuple[int, float, str]:
    """Compute one batch and keep it; gives its number, the seconds, and what went wrong."""
    group = _WORK[number]
    began = time.perf_counter()
    try:
        if _VERIFY:
            evidence = Evidence(base.EVIDENCE)
            group = [planned for planned in group if not _verified(planned, evidence)]
        keep(group, base.EVIDENCE, _DEVICE)
    except Exception:
        return number, time.perf_counter() - began, traceback.format_exc()
    return number, time.perf_counter() - began, ""


def _outcomes(jobs: int) -> Iterator[tuple[int, float, str]]:
    if jobs == 1:
        yield from map(_compute, range(len(_WORK)))
        return
    import torch

    # Forked workers with threads of their own would fight over the cores, and may hang on the parent's.
    torch.set_num_threads(1)
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_compute, range(len(_WORK)))


def run(
    names: Sequence[str],
    device: str,
    jobs: int,
    dry: bool = False,
    verify: bool = False,
    profile: str = "evidence",
    given: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    """Compute what is missing or stale of these pages; 1 if anything failed. With ``verify`` the rows of a stale cell
    stand where its first seed, computed again, gives the same.
    """
    global _DEVICE, _VERIFY
    _VERIFY = verify
    planned = plan(names, device, profile, given)
    todo = [one for one in planned if one.state != "current"]
    _DEVICE = str(runtime.resolve_device(device))
    if _DEVICE.startswith("cuda") and jobs > 1:
        raise checks.ParameterError(f"JOBS must be 1 on a GPU, which works on a batch at a time, but {jobs} was given.")
    if _DEVICE.startswith("cuda"):
        # A GPU's convolutions would round to ten bits otherwise, and its evidence would not be a CPU's.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        print(f"{_DEVICE} computes in single precision, TF32 is off", flush=True)
    by_cell = {one.cell: one for one in todo}
    _WORK[:] = [[by_cell[cell] for cell in group] for group in results.groups(list(by_cell), _DEVICE)]
    for ready in dict.fromkeys(one.ready for one in todo if not dry):
        ready()
    for one in todo if not dry else ():
        if one.costs:
            one.costs.refuse([one.cell], jobs)
    takes = Estimate()
    expected = takes(todo)
    per_job = None if expected is None else expected / jobs
    count = f"{len(todo)} of {len(planned)} cells to compute in {len(_WORK)} batches"
    print(f"{count}, {time_left(per_job)} with {jobs} job{'s' if jobs > 1 else ''}", flush=True)
    if dry:
        for one in todo:
            print(f"  {one.study} {one.cell.kind} {one.cell.key} ({one.state}): {_taken(one, takes([one]))}")
        return 0
    began, done, failed = time.perf_counter(), 0, 0
    for number, seconds, error in _outcomes(jobs):
        group = _WORK[number]
        done += len(group)
        failed += bool(error)
        left = (time.perf_counter() - began) / done * (len(todo) - done)
        name = f"{group[0].study}, {group[0].cell.kind}"
        if error:
            print(f"FAILED {name}: {error.strip().splitlines()[-1]}\n{error}", file=sys.stderr, flush=True)
        print(f"{done}/{len(todo)} {name} ({len(group)} cells, {seconds:.0f} s); {time_left(left)} left", flush=True)
    return min(failed, 1)


def _taken(one: Planned, seconds: float | None) -> str:
    """What a cell will take, in words."""
    if not one.costs:
        return time_left(seconds)
    from paper.studies import cost  # with a real CLIP, which takes seconds to import

    return f"{cost.told(one.cell)}: about {one.costs.memory(one.cell) / 2**30:.1f} GiB, {time_left(seconds)}"


def check(names: Sequence[str]) -> list[str]:
    """What is wrong with the evidence of these pages: one sentence each."""
    found = []
    counts: dict[tuple[str, State], int] = {}
    for planned in plan(names, "cpu"):
        counts[planned.study, planned.state] = counts.get((planned.study, planned.state), 0) + 1
    for (study, state), count in counts.items():
        if state == "stale":
            found.append(f"evidence {study}: {count} cells are stale (the code that computed them has changed)")
        if state == "missing":
            found.append(f"evidence {study}: {count} cells are missing")
    for file in Evidence(base.EVIDENCE).files.values():
        if (size := file.path.stat().st_size) > LIMIT:
            found.append(f"evidence {file.path.stem}: {size / 2**20:.1f} MiB, more than {LIMIT / 2**20:g}")
    return found


def prune() -> int:
    """Drop cells that no page of the profile asks for any more; counts them. What of a real CLIP is asked for only
    those can say who have the pictures, so all of it stays.
    """
    wanted = {planned.cell.key for planned in plan((), "cpu")}
    kept = {page.notebook for page in profiles.real().values()}
    files = Evidence(base.EVIDENCE).files
    return sum(file.keep(wanted) for name, file in files.items() if name not in kept)


def merge(folder: Path) -> int:
    """Take over the evidence in another folder; counts the cells."""
    if not folder.is_dir():
        raise checks.ParameterError(f"FOLDER must be a folder with evidence, but {str(folder)!r} was given.")
    codes = {planned.cell.key: planned.cell.code for planned in plan((), "cpu")}
    return sum(File(base.EVIDENCE / file.path.name).merge(file, codes) for file in Evidence(folder).files.values())


def _jobs(given: str, device: str) -> int:
    """How many batches are computed at once: on a GPU one, whose replicas fill it."""
    if given == "all":
        return 1 if runtime.resolve_device(device).type == "cuda" else os.cpu_count() or 1
    return checks.integer("JOBS", int(given) if given.lstrip("-").isdigit() else given, low=1)


def _run(options: argparse.Namespace) -> int:
    """The command ``run``: by this machine's processes, or by jobs."""
    given = {name: profiles.value(text) for name, text in options.p}
    executor = checks.choice("EXECUTOR", options.executor, jobs.EXECUTORS)
    if executor == "local" and "," not in options.device:
        if options.cluster:
            raise checks.ParameterError("CLUSTER must be left out with EXECUTOR local, but a folder was given.")
        count = _jobs(options.jobs or "1", options.device)
        return run(options.pages, options.device, count, options.dry_run, options.verify, options.profile, given)
    if options.verify:
        raise checks.ParameterError("VERIFY must be left out with jobs, but it was given.")
    if options.cluster and not (options.cluster / "config.yaml").is_file():
        raise checks.ParameterError(
            f"CLUSTER must be a folder with Snakemake's config.yaml, but {str(options.cluster)!r} was given."
        )
    at_once = options.jobs or "all"
    if at_once != "all":
        checks.integer("JOBS", profiles.value(at_once), low=1)
    minutes = checks.number("MINUTES", profiles.value(options.minutes), above=0)
    for device in options.device.split(",") if executor == "local" else ():
        runtime.resolve_device(device)
    order = jobs.Order(tuple(options.pages), options.profile, given, options.device)
    return jobs.submit(order, executor, at_once, minutes, options.dry_run, options.cluster)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 done, 1 failed or out of date, 2 refused."""
    parser = argparse.ArgumentParser(prog="python -m paper.tools.evidence", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    command = commands.add_parser("run", help="compute what is missing or stale")
    command.add_argument("pages", nargs="*", metavar="PAGE", help="pages of the profile (default: all)")
    command.add_argument("--profile", default="evidence", help="evidence (default), or real: with a real CLIP")
    command.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter of the profile's pages, such as root, the folder of real data sets",
    )
    command.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto); several, with commas: a job each"
    )
    command.add_argument("--jobs", help="batches at once, one thread each: a number (1), or all cores (all)")
    command.add_argument("--executor", default="local", help="local (default), slurm or kubernetes: who computes")
    command.add_argument("--minutes", default="30", help="about how long a job of a cluster or a device takes (30)")
    command.add_argument(
        "--cluster", type=Path, help="a folder with a profile of Snakemake: accounts, partitions, images"
    )
    command.add_argument("--into", type=Path, help="where the evidence is kept (default: results/evidence)")
    command.add_argument("--dry-run", action="store_true", help="only say what would be computed")
    command.add_argument(
        "--verify", action="store_true", help="where code has changed: keep what its first seed, run again, reproduces"
    )
    command = commands.add_parser("check", help="say what is stale, missing or too large")
    command.add_argument("pages", nargs="*", metavar="PAGE")
    command = commands.add_parser("merge", help="take over evidence that another machine has computed")
    command.add_argument("folder", type=Path)
    command = commands.add_parser("job", help="compute a job; what --executor lets machines do")
    command.add_argument("description", type=Path)
    command.add_argument("--stamp", type=Path, required=True)
    commands.add_parser("estimate", help="what cells were expected to take against what they took")
    commands.add_parser("prune", help="drop cells that no page asks for any more")
    options = parser.parse_args(arguments)
    if getattr(options, "into", None):
        base.EVIDENCE = options.into.resolve()
    try:
        if options.command == "run":
            return _run(options)
        if options.command == "job":
            return jobs.compute(options.description, options.stamp)
        if options.command == "estimate":
            print(estimate.against())
            return 0
        if options.command == "merge":
            print(f"{merge(options.folder)} cells taken over")
            return 0
        if options.command == "prune":
            print(f"{prune()} cells dropped")
            return 0
        found = check(options.pages)
    except checks.ParameterError as refused:
        print(refused, file=sys.stderr)
        return 2
    print("\n".join(found) or "evidence: all of it is there and current")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
