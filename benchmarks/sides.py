"""The two sides of each comparison of prompt learners."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import plain
from lib.prompts import backbone, tasks, training
from lib.prompts.learners import Learner

STEPS = 30
TASK = "texture"
SHOTS = 4


def ours(
    learner: str, gate: str, seeds: int, batch: int = 4, device: str = "cpu"
) -> Callable[[tuple[int, ...]], object]:
    """The library's training of some of the ``seeds`` as one batch; pictures are encoded here, once."""
    model, task = backbone.load(device=device), tasks.get(TASK)
    prompt_learner = Learner(learner, model, task.names, gate=gate)
    groups = [tuple(range(seeds)), *((seed,) for seed in range(seeds))]
    runs = {group: [training.Replica(task, seed, shots=SHOTS) for seed in group] for group in groups}
    data = {group: training.prepare(prompt_learner, replicas, 6) for group, replicas in runs.items()}
    recipe = training.Recipe(steps=STEPS, batch=batch, warmup=0)
    return lambda group: training.train(prompt_learner, data[group], recipe)


def theirs(conditional: bool, batch: int) -> Callable[[], object]:
    """The straightforward training of one seed."""
    model, task = backbone.load(), tasks.get(TASK)
    split = tasks.few_shot(task, SHOTS, 0, 6)
    return lambda: plain.train(model, task.names, split.images, split.labels, STEPS, batch, conditional)
