"""``python -m benchmarks [NAME ...]``: every benchmark prints ratios; those of time are medians of several repetitions.

Timings are noisy and mean little across machines; the two sides of a ratio run alternately in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from unittest import mock

import torch

from benchmarks import crossbar, hardware
from benchmarks.memory import SEEDS, STATUS, measured
from benchmarks.sides import ours, theirs


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


def batched(learner: str, gate: str, seeds: int = 16) -> str:
    """All seeds one after the other, over all seeds as one batch."""
    run = ours(learner, gate, seeds)
    found = ratio(lambda: [run((seed,)) for seed in range(seeds)], lambda: run(tuple(range(seeds))))
    return f"one seed at a time takes {found:.1f} times as long as {seeds} seeds in a batch"


def against_plain(learner: str, batch: int = 16, seeds: int = 8) -> str:
    """Time per seed of a straightforward loop, over the library's."""
    conditional = learner == "cocoop"
    slow, fast = theirs(conditional, batch), ours(learner, "none", seeds, batch)
    found = ratio(slow, lambda: fast(tuple(range(seeds)))) * seeds
    return f"a straightforward loop takes {found:.1f} times as long per seed as {seeds} seeds in a batch"


def memory(learner: str) -> str:
    """Peak memory of a straightforward loop over the library's, for one seed and for a batch of seeds."""
    if not STATUS.exists():
        return "peak memory is read from /proc, which this system does not have"
    plain, one, batch = (measured(learner, side) for side in ("plain", "one", "batch"))
    return (
        f"a straightforward loop peaks at {plain / one:.1f} times the memory of one seed here ({plain / 1024:.0f} and"
        f" {one / 1024:.0f} MiB beyond weights and data), {SEEDS} seeds in a batch at {batch / 1024:.0f} MiB"
    )


def hardware_batched(seeds: int = 5, severities: int = 6) -> str:
    """All trainings through hardware one after the other, over all of them as one batch."""
    found = ratio(*hardware.trainings("variability", seeds, severities))
    return f"one training at a time takes {found:.1f} times as long as {seeds * severities} in a batch"


def hardware_pass(kind: str) -> str:
    """A batch of the peers' perceptron through a chip, over the same in plain torch."""
    found = [f"{name} {ratio(*hardware.passes(name, kind), repetitions=7):.2f}" for name in hardware.HARDWARE]
    return f"a {kind} through a chip takes, in times of plain torch: {', '.join(found)}"


def hardware_aihwkit() -> str:
    """A network trained with fresh noise on its weights, here and in aihwkit, each over plain torch beside it."""
    peer = hardware.aihwkit()
    if peer is None:
        return "aihwkit's environment cannot be made here (uv, a network and 6 GB of disk)"
    ours = ratio(*hardware.peer_training(), repetitions=7)
    versions = ", ".join(f"{name} {version}" for name, version in peer["versions"].items())
    theirs = ", ".join(f"{name} {value:.2f}" for name, value in peer["over_plain"].items())
    return (
        f"a network trained with noise on its weights takes, in times of plain torch, here {ours:.2f}; on aihwkit's "
        f"torch tile: {theirs} ({versions})"
    )


def on_a_gpu(part: str, severities: int = 8, seeds: int = 32) -> str:
    """A CPU core's loop over 256 trainings, told from four of them, over one batch of all on a GPU."""
    if not torch.cuda.is_available():
        return "there is no CUDA GPU on this machine"
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    every, place = seeds * severities, torch.device("cuda", torch.cuda.current_device())
    if part == "hardware":
        _, fast = hardware.trainings("variability", seeds, severities, device=place)
        loop, _ = hardware.trainings("variability", 4, 1)
        few = 4
    else:
        run, alone = ours("coop", "length", every, device=str(place)), ours("coop", "length", 4)
        fast, loop, few = lambda: run(tuple(range(every))), lambda: [alone((seed,)) for seed in range(4)], 4
    torch.cuda.reset_peak_memory_stats(place)
    found = ratio(loop, fast) * every / few
    peak = torch.cuda.max_memory_allocated(place) / 2**20
    return (
        f"{every} trainings in a CPU core's loop take {found:.0f} times as long as on the GPU (at most {peak:.0f} MiB)"
    )


def compiled(device: str, seeds: int = 16) -> str:
    """Gated trainings as PyTorch runs them, over the same with their step compiled (``torch.compile``), and how long
    the first of those takes. Steps through hardware cannot be compiled: their rounding is a function with a backward
    pass of its own, which Dynamo does not follow under ``vmap``.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return "there is no CUDA GPU on this machine"
    run, plain = ours("coop", "length", seeds, device=device), torch.func.vmap

    def whole() -> None:
        run(tuple(range(seeds)))

    def faster() -> None:
        with mock.patch.object(torch.func, "vmap", lambda *given, **how: torch.compile(plain(*given, **how))):
            whole()

    began = time.perf_counter()
    faster()
    first = time.perf_counter() - began
    found = ratio(whole, faster)
    return (
        f"{found:.2f} times as long as with the step compiled, whose first run took {first:.0f} s, compiling included"
    )


BENCHMARKS: dict[str, Callable[[], str]] = {
    "coop_batched": lambda: batched("coop", "length"),
    "maple_batched": lambda: batched("maple", "length"),
    "coop_plain": lambda: against_plain("coop"),
    "cocoop_plain": lambda: against_plain("cocoop"),
    "coop_memory": lambda: memory("coop"),
    "cocoop_memory": lambda: memory("cocoop"),
    "hardware_batched": hardware_batched,
    "hardware_gpu": lambda: on_a_gpu("hardware"),
    "gates_gpu": lambda: on_a_gpu("gates"),
    "gates_compiled": lambda: compiled("cpu"),
    "gates_compiled_gpu": lambda: compiled("cuda", 256),
    "hardware_pass": lambda: hardware_pass("pass"),
    "hardware_step": lambda: hardware_pass("step"),
    "hardware_aihwkit": hardware_aihwkit,
    "crossbar_badcrossbar": lambda: crossbar.against_badcrossbar(ratio),
}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Ratios of running time and memory, each measured within one run.")
    parser.add_argument("name", nargs="*", choices=[[], *BENCHMARKS], help="benchmarks (default: all)")
    chosen = parser.parse_args().name or BENCHMARKS
    print(f"torch computes with {torch.get_num_threads()} threads; crossbars are solved with one", flush=True)
    for name in chosen:
        print(f"{name}: {BENCHMARKS[name]()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
