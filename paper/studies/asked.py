"""What the what-ifs of a page without a kernel ask beyond what the page measures: the same trainings, at more settings.

Each is one cell's computation; the studies whose pages ask (:mod:`~paper.studies.escape`,
:mod:`~paper.studies.gradient_imbalance`) say at which settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib import results
from lib.prompts import training
from lib.prompts.diagnosis import FACTORS
from lib.prompts.learners import Learner
from lib.runtime import stream
from paper.studies.gating import loaded, task_of

#: Bins of a histogram of gate values, which lie between 0 and 1.
BINS = 20


def bins() -> list[str]:
    """The columns of a histogram."""
    return [f"bin_{place:02d}" for place in range(BINS)]


def trained_for(configs: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> list[results.Tables]:
    """Trains the cells of one batch as :func:`paper.studies.gating.train` does, once for each number of steps in
    "lengths", and looks at the end.

    Table "ends", a row per seed and number of steps: "accuracy" in per cent for a learner without a gate; for a gated
    one that of the gate as trained, at its mean and shuffled, the magnitude gap and the input information at the last
    step, and how many per cent of the gate's values on test pictures lie in each of the :func:`bins`.
    """
    first = configs[0]
    chosen = {(one["task"], one["strength"]): task_of(one, site)[0] for one in configs}
    task = chosen[first["task"], first["strength"]]
    backbone = loaded(first, site)
    gate = first["gate"]
    learner = Learner(first["learner"], backbone, task.names, template=task.template, gate=gate, tokens=first["tokens"])
    runs = [
        training.Replica(chosen[one["task"], one["strength"]], seed, training.Setting(**one["setting"]), one["shots"])
        for one in configs
        for seed in one["seeds"]
    ]
    data = training.prepare(learner, runs, first["test_size"], first["recipe"]["augment"])
    parts: list[pd.DataFrame] = []
    for steps in first["lengths"]:
        looks = () if gate == "none" else (steps,)
        recipe = training.Recipe(**{**first["recipe"], "steps": steps, "looks": looks, "watch": False})
        done = training.train(learner, data, recipe, f"{first['learner']} {gate}, {steps} steps")
        if gate == "none":
            parts.append(training.evaluate(done)[["replica", "seed", "accuracy"]].assign(step=steps))
            continue
        kept = ["replica", "seed", "step", "gap", "information", *(f"accuracy_{name}" for name in training.VARIANTS)]
        parts.append(done.looks[kept].merge(_histograms(done), on="replica"))
    whole = pd.concat(parts, ignore_index=True)
    ends, place = [], 0
    for one in configs:
        mine = whole["replica"].isin(range(place, place + len(one["seeds"])))
        ends.append({"ends": whole[mine].drop(columns="replica").reset_index(drop=True)})
        place += len(one["seeds"])
    return ends


@torch.no_grad()
def _histograms(done: training.Trained) -> pd.DataFrame:
    """How many per cent of each replica's gate values on its test pictures lie in each bin."""
    learner, data = done.learner, done.data
    features = data.test_features[data.test_place]
    gate: Any = learner.gate
    z = torch.func.vmap(learner.preactivation)(done.params, features, data.constants)
    values, there = gate.activate(z), data.test_labels[data.test_place] >= 0
    rows = []
    for replica, (own, known) in enumerate(zip(values, there, strict=True)):
        counts, _ = np.histogram(own[known].cpu().double().numpy().ravel(), BINS, (0.0, 1.0))
        rows.append({"replica": replica, **dict(zip(bins(), 100 * counts / counts.sum(), strict=True))})
    return pd.DataFrame(rows)


def gaps_at_start(config: Mapping[str, Any], site: Mapping[str, Any]) -> results.Tables:
    """The gap of one gated learner at the first step of its trainings, for every pair of "stds" and "biases".

    Table "gap", a row per pair and seed: the gap and its factors in decades, mean over "tasks". The pictures of the
    first step are those of a training (:func:`lib.prompts.training.train`).
    """
    pairs = list(itertools.product(config["stds"], config["biases"]))
    seeds, found = config["seeds"], []
    for entry in config["tasks"]:
        task = task_of(entry, site)[0]
        learner = Learner(
            config["learner"],
            loaded(config, site),
            task.names,
            template=task.template,
            gate=config["gate"],
            tokens=config["tokens"],
        )
        runs = [
            training.Replica(task, seed, training.Setting(prompt_std=std, bias=bias), config["shots"])
            for std, bias in pairs
            for seed in seeds
        ]
        data = training.prepare(learner, runs, 2)
        counts = [data.sizes[place] for place in data.place.tolist()]
        drawn = [
            torch.randint(count, (config["batch"],), generator=stream(run.seed, "batches"))
            for count, run in zip(counts, runs, strict=True)
        ]
        index = torch.stack(drawn).to(loaded(config, site).device)
        measured = training.chains(learner, data, training.initial(learner, data), index)
        found.append(pd.DataFrame({name: measured[name].tolist() for name in ("gap", *FACTORS)}))
    mean = sum(found[1:], found[0]) / len(found)
    named = [{"prompt_std": std, "bias": bias, "seed": seed} for std, bias in pairs for seed in seeds]
    return {"gap": pd.concat([pd.DataFrame(named), mean], axis=1)}
