"""``python -m benchmarks [NAME ...]``: every benchmark prints one ratio, the median of several repetitions.

Timings are noisy and mean little across machines; the two sides of a ratio run alternately in one process. Peak memory
is measured in a process of its own for each side.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch

from benchmarks import plain
from lib.prompts import backbone, tasks, training
from lib.prompts.learners import Learner

STEPS = 10
TASK = "texture"
SHOTS = 4


def ratio(slow: Callable[[], object], fast: Callable[[], object], repetitions: int = 3) -> float:
    """How many times as long ``slow`` takes as ``fast``: median over repetitions, the two taking turns."""
    fast()
    ratios = []
    for _ in range(repetitions):
        seconds = []
        for side in (slow, fast):
            began = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def ours(learner: str, gate: str, seeds: int, batch: int = 4) -> Callable[[tuple[int, ...]], object]:
    """The library's training of some of the ``seeds`` as one batch; pictures are encoded here, once."""
    model, task = backbone.load(), tasks.get(TASK)
    prompt_learner = Learner(learner, model, task.names, gate=gate)
    sees = prompt_learner.design.sees
    groups = [tuple(range(seeds)), *((seed,) for seed in range(seeds))]
    data = {group: training.prepare(model, task, SHOTS, group, 6, sees) for group in groups}
    recipe = training.Recipe(steps=STEPS, batch=batch, warmup=0)
    return lambda group: training.train(prompt_learner, data[group], recipe, group)


def theirs(conditional: bool, batch: int) -> Callable[[], object]:
    """The straightforward training of one seed."""
    model, task = backbone.load(), tasks.get(TASK)
    split = tasks.few_shot(task, SHOTS, 0, 6)
    return lambda: plain.train(model, task.names, split.images, split.labels, STEPS, batch, conditional)


def batched(learner: str, gate: str, seeds: int = 16) -> str:
    """All seeds one after the other, over all seeds as one batch."""
    run = ours(learner, gate, seeds)
    found = ratio(lambda: [run((seed,)) for seed in range(seeds)], lambda: run(tuple(range(seeds))))
    return f"one seed at a time takes {found:.1f} times as long as {seeds} seeds in a batch"


def against_plain(learner: str, batch: int = 16, seeds: int = 8) -> str:
    """Time per seed and peak memory per seed of a straightforward loop, over the library's."""
    conditional = learner == "cocoop"
    slow, fast = theirs(conditional, batch), ours(learner, "none", seeds, batch)
    found = ratio(slow, lambda: fast(tuple(range(seeds)))) * seeds
    memory = [_peak(learner, side, batch, seeds) for side in ("theirs", "ours")]
    more = memory[0] * seeds / memory[1]
    return (
        f"a straightforward loop takes {found:.1f} times as long per seed, and {more:.1f} times the memory per seed"
        f" ({memory[0]:.0f} MiB for one, {memory[1]:.0f} MiB for {seeds} in a batch)"
    )


def _peak(learner: str, side: str, batch: int, seeds: int) -> float:
    """MiB that training adds to the peak of a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (learner, side, batch, seeds))


def _measure(learner: str, side: str, batch: int, seeds: int) -> float:
    run = theirs(learner == "cocoop", batch) if side == "theirs" else ours(learner, "none", seeds, batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run() if side == "theirs" else run(tuple(range(seeds)))
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 1) / 1024


BENCHMARKS: dict[str, Callable[[], str]] = {
    "coop_batched": lambda: batched("coop", "length"),
    "maple_batched": lambda: batched("maple", "length"),
    "coop_plain": lambda: against_plain("coop"),
    "cocoop_plain": lambda: against_plain("cocoop"),
}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Ratios of running times, each measured within one run.")
    parser.add_argument("name", nargs="*", choices=[[], *BENCHMARKS], help="benchmarks (default: all)")
    for name in parser.parse_args().name or BENCHMARKS:
        print(f"{name}: {BENCHMARKS[name]()} ({torch.get_num_threads()} threads, median of 3)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
