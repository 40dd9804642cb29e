"""Trains MiniCLIP from nothing on the procedural world and reports what it can and cannot do.

``python -m paper.tools.pretrain --help`` lists the options; ``make pretrain`` runs it with the defaults.
Training is CLIP's symmetric contrastive loss (Radford et al. 2021) with two helps that make a two-core
budget enough: a curriculum from easy scenes to the full world, and batches half of which are *groups*, six
scenes that agree in everything but one attribute, so that the attribute cannot be ignored.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from lib import checks, runtime
from lib.checks import ParameterError
from lib.prompts import tasks, world
from lib.prompts.backbone import MINICLIP, RECORD, WEIGHTS, Backbone, WordTokenizer, build_miniclip, checksum, load
from lib.results import provenance
from paper.captions import captions

GROUP = 6
VARIED = (
    ("shape", 0.34),
    ("texture", 0.26),
    ("count", 0.16),
    ("position", 0.10),
    ("colour", 0.09),
    ("ground_colour", 0.05),
)
"""Attributes that a group varies, and how often."""
KIND_OF = {"texture": 0, "position": 0, "count": 1}
"""Scene kind that shows an attribute at all."""


class Schedule(Protocol):
    """What of a recipe every pre-training needs."""

    @property
    def steps(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def warmup(self) -> int: ...


def rate_at(recipe: Schedule, step: int) -> float:
    """The learning rate of a step: linear warm-up, then cosine to zero."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup) / (recipe.steps - recipe.warmup)))


@dataclass(frozen=True)
class Recipe:
    """Everything that the training depends on::

        steps, batch        optimiser steps, picture and caption pairs per step
        groups              groups of GROUP scenes in a batch; the rest of it is independent scenes
        rate, weight_decay  AdamW; warmup steps of linear warm-up, then cosine to zero
        easy, full          share of the steps with easy scenes only, and from which on all are of the full world
        pool, fresh         how many recent batches are kept, and the share of steps that draw a new one
        seed                of initial weights, scenes, pictures and captions

    The same recipe on the same machine gives the same weights.
    """

    steps: int = 6500
    batch: int = 128
    groups: int = 12
    rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 200
    easy: float = 0.25
    full: float = 0.6
    pool: int = 48
    fresh: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer("steps", self.steps, 1)
        checks.integer("batch", self.batch, 2)
        checks.integer("groups", self.groups, 0, self.batch // GROUP)
        checks.number("rate", self.rate, above=0)
        checks.number("weight_decay", self.weight_decay, 0)
        checks.integer("warmup", self.warmup, 0)
        checks.number("easy", self.easy, 0, 1)
        checks.number("full", self.full, 0, 1)
        if self.full <= self.easy:
            raise ParameterError(f"full must be above easy ({self.easy:g}), but {self.full:g} was given.")
        checks.integer("pool", self.pool, 1)
        checks.number("fresh", self.fresh, 0, 1)
        checks.integer("seed", self.seed, 0)

    def difficulty(self, step: int) -> float:
        """Share of scenes from the full world: 0 for the first ``easy`` of the steps, 1 from ``full`` on."""
        return min(1.0, max(0.0, (step / self.steps - self.easy) / (self.full - self.easy)))


def grouped(groups: int, difficulty: float, generator: torch.Generator) -> tuple[world.Scenes, dict[str, Tensor]]:
    """Groups of :data:`GROUP` scenes that differ in one attribute, and which attribute each must name.

    Returns scenes of length groups * GROUP and ``named`` as :func:`paper.captions.captions` takes it.
    """
    base = world.sample(groups, generator, difficulty=difficulty)
    names, weights = zip(*VARIED, strict=True)
    which = torch.multinomial(torch.tensor(weights), groups, replacement=True, generator=generator)
    kind = base.kind.clone()
    for attribute, needed in KIND_OF.items():
        kind[which == names.index(attribute)] = needed
    base = base.with_(kind=kind)
    scenes = base[torch.arange(groups).repeat_interleave(GROUP)]
    # What an attribute does not mean for a kind of scene stays off, as in world.sample.
    single = scenes.kind == 0
    scenes = scenes.with_(
        texture=torch.where(single, scenes.texture, 0), position=torch.where(single, scenes.position, 0)
    )
    named = {}
    options = dict(
        shape=len(world.SHAPES),
        texture=len(world.TEXTURES),
        count=len(world.COUNTS),
        position=len(world.POSITIONS),
        colour=len(world.COLOURS),
        ground_colour=len(world.COLOURS),
    )
    for index, attribute in enumerate(names):
        rows = (which == index).nonzero()[:, 0]
        mask = torch.zeros(groups, dtype=torch.bool)
        mask[rows] = True
        named[attribute] = mask.repeat_interleave(GROUP)
        if len(rows):
            n = options[attribute]
            orders = torch.rand(len(rows), n, generator=generator).argsort(1)
            drawn = orders[:, torch.arange(GROUP) % n].reshape(-1)
            values = getattr(scenes, attribute).clone()
            values[named[attribute]] = drawn
            scenes = scenes.with_(**{attribute: values})
    return world.allow(scenes, generator), named


class Batches:
    """Training batches; pictures are drawn once and used a few times, each time with new captions.

    Drawing costs about as much as a quarter of a training step on a CPU, so a share ``1 - recipe.fresh`` of
    the batches comes from a ring of recent ones.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.generator = runtime.stream(recipe.seed, "pretrain")
        self.grouped: deque[tuple] = deque(maxlen=recipe.pool)
        self.single: deque[tuple] = deque(maxlen=recipe.pool)

    def _draw(self, difficulty: float) -> None:
        recipe, generator = self.recipe, self.generator
        scenes, named = grouped(recipe.groups, difficulty, generator)
        self.grouped.append((scenes, named, world.render(scenes, generator)))
        scenes = world.sample(recipe.batch - recipe.groups * GROUP, generator, difficulty=difficulty)
        self.single.append((scenes, None, world.render(scenes, generator)))

    def __call__(self, step: int) -> tuple[Tensor, list[str]]:
        """Pictures [batch, 3, 32, 32] and their captions."""
        generator = self.generator
        fresh = not self.single or torch.rand((), generator=generator) < self.recipe.fresh
        if fresh:
            self._draw(self.recipe.difficulty(step))
        images, words = [], []
        for ring in (self.grouped, self.single):
            index = -1 if fresh else int(torch.randint(len(ring), (), generator=generator))
            scenes, named, pictures = ring[index]
            images.append(pictures)
            words += captions(scenes, generator, named)
        return torch.cat(images), words


def text_features(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Text features [N, embed]; text is cut after the last end-of-text token, exact under the causal mask."""
    last = int(tokens.argmax(1).max()) + 1
    tokens = tokens[:, :last]
    x = model.token_embedding(tokens) + model.positional_embedding[:last]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:last, :last]))
    return x[torch.arange(len(x), device=x.device), tokens.argmax(1)] @ model.text_projection


def save_weights(model: nn.Module, path: Path) -> str:
    """Writes the weights as fp16 safetensors (through a temporary name) and returns their checksum."""
    state = {
        name: value.detach().to("cpu", torch.float16 if value.is_floating_point() else None).contiguous()
        for name, value in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file(state, temporary)
    temporary.replace(path)
    return checksum(path)


class Draws(Protocol):
    """What shows a training its pictures, and can go on where it stopped."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain numbers that say where it stands."""

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where ``state`` says."""


@dataclass(frozen=True)
class Checkpoint:
    """The file ``path`` in which a training is kept whenever its curve grows, for one that does the ``same`` (numbers
    and words) to go on from if it may ``resume``; ``draws`` goes on with it.
    """

    path: Path
    draws: Draws
    same: dict[str, Any]
    resume: bool = False

    def read(self) -> dict[str, Any]:
        """What is kept; a :class:`ParameterError` where that is nothing, damaged, or of another training."""
        try:
            known = torch.load(self.path, map_location="cpu", weights_only=True)
            same = known["same"] == self.same
        except Exception as problem:  # damaged bytes make a reader raise anything
            raise ParameterError(
                f"resume must be given with a folder that holds a training that was interrupted, but {self.path.name!r}"
                f" in it cannot be read ({checks.reason(problem)})."
            ) from None
        if not same:
            raise ParameterError(
                f"resume must be given with the recipe and the pictures of the training that was interrupted, but"
                f" {self.path.name!r} is of others."
            )
        return known

    def write(self, model: nn.Module, optimiser: torch.optim.Optimizer, curve: list[dict]) -> None:
        """Keeps a training (through a temporary name)."""
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "curve": curve}
        temporary = self.path.with_name(self.path.name + ".tmp")
        torch.save({**state, "draws": self.draws.state(), "same": self.same}, temporary)
        temporary.replace(self.path)


def descend(
    model: open_clip.CLIP,
    recipe: Schedule,
    loss_at: Callable[[int], Tensor],
    watch: Callable[[int], dict],
    report: Callable[[dict], None],
    every: int,
    helper: nn.Module | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[dict]:
    """Trains a model by AdamW on the loss of each step, and returns the training curve: a row per ``every`` steps with
    the mean loss since the last one and what ``watch`` says after that step, each given to ``report`` as it comes. A
    ``helper`` is a module that takes part in the loss alone, and is trained with the model.
    """
    both = nn.ModuleList([model, helper or nn.Identity()])
    decay = [p for p in both.parameters() if p.ndim >= 2]
    rest = [p for p in both.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=recipe.rate,
        betas=(0.9, 0.98),
    )
    curve: list[dict] = []
    if checkpoint is not None and checkpoint.resume:
        known = checkpoint.read()
        both.load_state_dict(known["model"])
        optimiser.load_state_dict(known["optimiser"])
        checkpoint.draws.restore(known["draws"])
        curve = known["curve"]
    begun, spent = (curve[-1]["step"], curve[-1]["seconds"]) if curve else (0, 0.0)
    losses, start = [], time.perf_counter()
    with runtime.progress(recipe.steps, "pre-training") as tick:
        tick(begun)
        for step in range(begun, recipe.steps):
            loss = loss_at(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            for group in optimiser.param_groups:
                group["lr"] = rate_at(recipe, step)
            optimiser.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            losses.append(loss.detach())
            tick(1)
            if (step + 1) % every == 0 or step + 1 == recipe.steps:
                seconds = round(spent + time.perf_counter() - start, 1)
                row = {"step": step + 1, "loss": float(torch.stack(losses).mean()), "seconds": seconds, **watch(step)}
                losses.clear()
                report(row)
                curve.append(row)
                if checkpoint is not None:
                    checkpoint.write(both, optimiser, curve)
    return curve


def train(
    recipe: Recipe, device: torch.device, report: Callable[[dict], None], every: int = 250
) -> tuple[torch.nn.Module, list[dict]]:
    """Trains a new MiniCLIP. Returns the model and the training curve (one row per ``every`` steps).

    ``report`` is called with every row of the curve as it comes.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        # open_clip initialises from torch's global generator; the fork leaves the caller's untouched.
        torch.manual_seed(recipe.seed)
        model = build_miniclip().to(device).train()
    tokenise, batches = WordTokenizer(), Batches(recipe)

    def loss_at(step: int) -> Tensor:
        images, words = batches(step)
        tokens = tokenise(words).to(device)
        image = F.normalize(model.visual((images.to(device) - 0.5) / 0.25), dim=-1)
        text = F.normalize(text_features(model, tokens), dim=-1)
        logits = model.logit_scale.exp() * image @ text.T
        # Equal captions are not each other's negatives.
        target = (tokens[:, None] == tokens[None, :]).all(-1).float()
        target = target / target.sum(1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def watch(step: int) -> dict:
        return {"difficulty": round(recipe.difficulty(step), 3)}

    curve = descend(model, recipe, loss_at, watch, report, every)
    return model.eval(), curve


ZERO_SHOT = tuple(name for name in tasks.TASKS if name not in tasks.GRADED)
GOALS = {"background": 97, "shape": 62, "texture": 55, "counting": 75, "position": 90, "held_out": 85}
"""Zero-shot accuracies in per cent that the shipped weights must reach; a test holds them to it."""


def zero_shot(backbone: Backbone, pictures: int = 1500) -> list[dict]:
    """Zero-shot accuracy in per cent on ``pictures`` test pictures of every task, with chance and class count."""
    rows = []
    for name in ZERO_SHOT:
        task = tasks.get(name)
        labels = torch.arange(pictures) % len(task.names)
        images, _ = task.draw(labels, runtime.stream(0, "zero-shot", name))
        right = backbone.zero_shot(images, task.prompts).cpu() == labels
        rows.append(
            {
                "task": name,
                "classes": len(task.names),
                "chance": round(100 / len(task.names), 1),
                "accuracy": round(100 * float(right.float().mean()), 1),
            }
        )
    return rows


def write(
    model: torch.nn.Module,
    curve: list[dict],
    recipe: Recipe,
    device: torch.device,
    seconds: float,
    folder: Path,
    pictures: int = 1500,
) -> list[dict]:
    """Writes weights and training record into ``folder`` and returns the zero-shot table of what was written."""
    weights = folder / WEIGHTS.name
    sha256 = save_weights(model, weights)
    table = zero_shot(load("miniclip", str(weights), device), pictures)
    record = {
        "sha256": sha256,
        "parameters": sum(p.numel() for p in model.parameters()),
        "configuration": MINICLIP,
        "recipe": asdict(recipe),
        "zero_shot": table,
        "curve": curve,
        "provenance": {**provenance(device, seconds), "seeds": [recipe.seed]},
    }
    (folder / RECORD.name).write_text(json.dumps(record, indent=1) + "\n")
    return table


def read(parser: argparse.ArgumentParser, recipe: type, arguments: list[str] | None) -> dict[str, Any]:
    """The options of a command line, those of a dataclass ``recipe`` among them."""
    for entry in fields(recipe):
        parser.add_argument(
            f"--{entry.name.replace('_', '-')}",
            type=type(entry.default),
            default=entry.default,
            help=f"(default: {entry.default})",
        )
    return vars(parser.parse_args(arguments))


def say(row: dict) -> None:
    """Prints a row of the training curve."""
    more = "".join(f"  {name} {value:g}" for name, value in row.items() if name not in ("step", "loss", "seconds"))
    print(f"step {row['step']:6d}  loss {row['loss']:.3f}  {row['seconds']:.0f} s{more}", flush=True)


def tell(table: list[dict], goals: Mapping[str, float]) -> None:
    """Prints a zero-shot table beside what was aimed at."""
    width = max(len(row["task"]) for row in table)
    for row in table:
        reached = f"{row['classes']:3d} classes  {row['accuracy']:5.1f} %  chance {row['chance']} %"
        goal = f"  (goal {goals[row['task']]:g})" if row["task"] in goals else ""
        print(f"{row['task']:{width}s} {reached}{goal}")


def main(arguments: list[str] | None = None) -> int:
    """Command line: trains, writes weights and record, prints the zero-shot table."""
    parser = argparse.ArgumentParser(description="Train MiniCLIP from nothing (about 45 minutes on two CPU cores).")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="folder for weights and training record")
    parser.add_argument("--pictures", type=int, default=1500, help="test pictures per task (default: 1500)")
    given = read(parser, Recipe, arguments)
    try:
        recipe = Recipe(**{entry.name: given[entry.name] for entry in fields(Recipe)})
        device = runtime.resolve_device(given["device"])
        checks.integer("pictures", given["pictures"], 1)
        folder = checks.writable("out", given["out"])
    except ParameterError as problem:
        print(problem, file=sys.stderr)
        return 2
    start = time.perf_counter()
    model, curve = train(recipe, device, say)
    table = write(model, curve, recipe, device, time.perf_counter() - start, folder, given["pictures"])
    tell(table, GOALS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
