"""``python -m benchmarks [NAME ...]``: every benchmark prints one ratio, the median of several repetitions.

Timings are noisy and mean little across machines; the two sides of a ratio run alternately in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from lib.prompts import backbone, tasks, training
from lib.prompts.learners import Learner

SEEDS = tuple(range(8))
STEPS = 10


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


def batched(learner: str) -> float:
    """Training eight gated seeds one after the other, over training them as one batch."""
    model = backbone.load()
    task = tasks.get("texture")
    recipe = training.Recipe(steps=STEPS)
    prompt_learner = Learner(learner, model, task.names, gate="length")
    data = {
        seeds: training.prepare(model, task, 4, seeds, 6, learner == "maple")
        for seeds in (SEEDS, *((seed,) for seed in SEEDS))
    }

    def run(seeds: tuple[int, ...]) -> None:
        training.train(prompt_learner, data[seeds], recipe, seeds)

    return ratio(lambda: [run((seed,)) for seed in SEEDS], lambda: run(SEEDS))


BENCHMARKS = {"coop_batched": lambda: batched("coop"), "maple_batched": lambda: batched("maple")}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Ratios of running times, each measured within one run.")
    parser.add_argument("name", nargs="*", choices=[[], *BENCHMARKS], help="benchmarks (default: all)")
    for name in parser.parse_args().name or BENCHMARKS:
        print(
            f"{name}: one seed at a time takes {BENCHMARKS[name]():.1f} times as long as {len(SEEDS)} seeds in a batch"
            f" ({torch.get_num_threads()} threads, median of 3)",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
