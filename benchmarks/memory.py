"""``python -m benchmarks.memory NAME SIDE``: how far training one side of a comparison raises this process's memory.

A process of its own for each side, because memory that was freed is seldom given back. Linux only: the peak is read
from /proc (``ru_maxrss`` will not do, a new process inherits it from the one that started it).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.sides import ours, theirs

SEEDS = 8
STATUS = Path("/proc/self/status")


def sides(learner: str, batch: int = 16) -> dict[str, Callable[[], object]]:
    """What is compared: the straightforward loop, the library with one seed, and with :data:`SEEDS` as one batch."""
    return {
        "plain": lambda: theirs(learner == "cocoop", batch),
        "one": lambda: _bound(ours(learner, "none", 1, batch), 1),
        "batch": lambda: _bound(ours(learner, "none", SEEDS, batch), SEEDS),
    }


def _bound(run: Callable[[tuple[int, ...]], object], seeds: int) -> Callable[[], object]:
    return lambda: run(tuple(range(seeds)))


def _kib(entry: str) -> int:
    """An entry of the process's status, in KiB."""
    return int(STATUS.read_text().split(f"{entry}:")[1].split()[0])


def peak(learner: str, side: str) -> int:
    """KiB that training takes at its peak beyond what weights and data take; measured in this process."""
    train = sides(learner)[side]()
    before = _kib("VmRSS")
    train()
    return _kib("VmHWM") - before


def measured(learner: str, side: str) -> int:
    """:func:`peak` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", learner, side], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


if __name__ == "__main__":
    print(peak(*sys.argv[1:]))
