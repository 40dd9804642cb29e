"""Both parts on a pretended GPU, case by case: ``python -m tests.on_pretended`` prints what was found, as JSON.

It is a program of its own because torch counts its devices once, when a process first differentiates. Each case is run
on the CPU and on the device. Sizes are the smallest at which every line still runs.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from lib import diagnose, replicas, runtime
from lib.hardware import crossbars, networks
from lib.hardware.devices import HARDWARE, Composite, make
from lib.hardware.diagnostics import diagnose as hardware_diagnostics
from lib.hardware.mitigation import Redundant, remapped
from lib.hardware.perturbations import ADC, ReadNoise
from lib.hardware.training import STATISTICS, Trainer
from lib.prompts import backbone, gates, tasks, training
from lib.prompts.learners import LEARNERS, Learner
from lib.replicas import Nested, Optimiser
from tests import pretended

CPU = torch.device("cpu")
SEEDS, STEPS = (0, 1), 2
Case = Callable[[torch.device], Any]


# ------------------------------------------------------------------------------------------------ prompts
@cache
def clip(device: torch.device) -> backbone.Backbone:
    """MiniCLIP with two narrow layers a tower and random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vision = CLIPVisionCfg(image_size=32, patch_size=16, width=16, layers=2, head_width=8, mlp_ratio=1.0)
        text = CLIPTextCfg(
            context_length=backbone.CONTEXT, vocab_size=len(backbone.world.WORDS), width=16, heads=2, layers=2
        )
        model = open_clip.CLIP(16, vision, text)
    return backbone.Backbone("tiny", model, backbone.WordTokenizer(), device, (0.5,) * 3, (0.25,) * 3)


#: What a replica may be set to beside task and seed, all of it at once.
EVERY = {"balance": True, "diversity": 0.5, "delay": 0.5, "bias": 1.0, "temperature": 2.0, "view": "whitened"}


class Recipe(training.Recipe):
    """A recipe whose gate is looked at in one step alone."""

    def recorded(self) -> list[int]:
        return [self.steps - 1]


def prompts(device: torch.device, name: str, gate: str, look: bool = False, **settings: Any) -> Any:
    """Training and test of two replicas of a learner, with everything that is looked at on the way."""
    task = tasks.get("conflict")
    learner = Learner(name, clip(device), task.names, gate=gate, tokens=2)
    runs = [training.Replica(task, seed, training.Setting(**settings), shots=1) for seed in SEEDS]
    data = training.prepare(learner, runs, 4)
    recipe = Recipe(steps=STEPS, batch=2, warmup=0, looks=(STEPS,) if look else (), watch=look)
    trained = training.train(learner, data, recipe)
    return trained.params, trained.losses, training.evaluate(trained)["accuracy"].tolist()


def gate_diagnosed(device: torch.device) -> Any:
    """:func:`lib.diagnose.diagnose_gate` on a learner of this library."""
    task = tasks.get("conflict")
    learner = Learner("coop", clip(device), task.names, gate="length", tokens=2)
    params = learner.initial(runtime.stream(0, "initial"))
    split = task.few_shot(2, 0, 4, 32)
    batches = [(split.images[at::2], split.labels[at::2]) for at in range(2)]
    report = diagnose.diagnose_gate(**diagnose.learner_parts(learner, params, batches))
    return report.table["value"].tolist()


# ------------------------------------------------------------------------------------------------ hardware
@cache
def trainer(network: str = "mlp") -> Trainer:
    """A network on a few digits."""
    digits = networks.digits()
    few = networks.Images(digits.x[:40], digits.y[:40], digits.test_x[:8], digits.test_y[:8])
    return Trainer(networks.network(network), few._replace(y=torch.arange(40) % 10), batch=8)


def start(device: torch.device, network: str = "mlp") -> Nested:
    """Where the trainings of a network begin."""
    initial = [trainer(network).network.initial(runtime.stream(seed, "initial")) for seed in SEEDS]
    return replicas.mapped(lambda value: value.to(device), replicas.stack(initial))


def hard(perturbation: Any) -> list[Any]:
    """Two severities of a perturbation."""
    if isinstance(perturbation, Composite) and not perturbation.grid:
        return [[part.grid[-1] for part in perturbation.parts]] * 2
    return [perturbation.grid[0], perturbation.grid[-1]]


def hardware(device: torch.device, perturbation: Any, rule: str, network: str = "mlp", **options: Any) -> Any:
    """Training through a perturbation, and the test on chips never seen."""
    own, begin, severities = trainer(network), start(device, network), hard(perturbation)
    done = own.train_aware(begin, perturbation, rule, severities, SEEDS, Optimiser("adam", 0.01, STEPS), **options)
    right = own.accuracy_on_chips(done.params, perturbation, severities, SEEDS, 1, start=begin)
    return done.params, done.losses, right


def judged(device: torch.device, perturbation: Any, statistics: str) -> Any:
    """A network with batch normalisation on unseen chips."""
    own, begin, severities = trainer("cnn_norm"), start(device, "cnn_norm"), hard(perturbation)
    tiled = {name: value.repeat(len(severities), *(1,) * (value.dim() - 1)) for name, value in begin.items()}
    return own.accuracy_on_chips(tiled, perturbation, severities, SEEDS, 1, statistics=statistics)


def rearranged(device: torch.device) -> Any:
    """Faults remapped by a measure that knows the chip."""
    own, begin, faults = trainer(), start(device), make("stuck_at")
    arrange = remapped(faults, torch.full((len(SEEDS),), faults.grid[-1], device=device))
    return own.accuracy_on_chips(begin, faults, [faults.grid[-1]], SEEDS, 1, arrange=arrange)


def three(device: torch.device, perturbation: Any, rule: str) -> Any:
    """The three diagnostics."""
    own = trainer()
    return hardware_diagnostics(own, start(device), perturbation, rule, hard(perturbation)[-1:], SEEDS, 2)["cosine"]


def module() -> nn.Module:
    """A small convolutional network of anyone's."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))


def diagnosed(device: torch.device, perturbation: Any) -> Any:
    """:func:`lib.diagnose.diagnose_perturbation` on a module of one's own; the batches stay where they are read."""
    data = trainer().data
    report = diagnose.diagnose_perturbation(
        module().to(device),
        nn.CrossEntropyLoss(),
        [(data.x[:4], data.y[:4])],
        perturbation,
        severity=hard(perturbation)[-1],
        samples=4,
    )
    return report.table["loss"].tolist()


def placed(device: torch.device, perturbation: Any) -> Any:
    """A module on a chip, forward and backward."""
    own, data = module().to(device), trainer().data
    with crossbars.on_chip(own, perturbation, hard(perturbation)[-1]):
        nn.functional.cross_entropy(own(data.x[:4].to(device)), data.y[:4].to(device)).backward()
    return [value.grad for value in own.parameters()]


# ------------------------------------------------------------------------------------------------ planted faults
def planted(device: torch.device, fault: str) -> Any:
    """A training with a fault that shows on a GPU alone; with the fault "none" it has none."""
    params, elsewhere = {"w": torch.ones(2, 3).to(device)}, torch.ones(3)

    def draw(step: int) -> Nested:
        x = torch.rand(2, 3, generator=runtime.stream(0, "x", step)).to(device)
        if fault == "item" and x.sum().item() > 1e9:
            x = x + 1
        if fault == "mask":
            x = x + x[x > 2].sum()
        if fault == "generator":
            x.exponential_(generator=runtime.stream(0, "noise", step))
        return {"x": x}

    def loss(own: Nested, given: Nested) -> Tensor:
        moved = own["w"] * given["x"]
        return (moved + elsewhere if fault == "tensor" else moved).square().sum()

    return replicas.train(loss, params, draw, Optimiser("sgd", 0.1, STEPS)).params


# ------------------------------------------------------------------------------------------------ all of them
def cases() -> Iterator[tuple[str, Case]]:
    """Every learner, gate, setting, perturbation and rule, by name."""
    for name, design in LEARNERS.items():
        gate = "none" if name in ("zero_shot", "coop") else "soft" if design.pool else "length"
        yield f"learner {name} with gate {gate}", partial(prompts, name=name, gate=gate)
    for gate, kind in gates.GATES.items():
        name = "pool" if kind.selects else "ivlp" if kind.deep else "coop"
        yield f"gate {gate} of {name}", partial(prompts, name=name, gate=gate)
    yield "every setting", partial(prompts, name="coop", gate="length", look=True, **EVERY)
    yield "diagnose_gate", gate_diagnosed
    several: dict[str, Any] = {**HARDWARE, "composite": Composite((ReadNoise(), ADC()))}
    several["ir_drop"] = make("ir_drop", solver="approximate")
    for name, perturbation in several.items():
        for rule in crossbars.RULES:
            yield f"{name} under {rule}", partial(hardware, perturbation=perturbation, rule=rule)
        yield f"{name} on a module", partial(placed, perturbation=perturbation)
    for name in ("read_noise", "adc", "ir_drop"):
        yield (
            f"{name} in convolutions",
            partial(hardware, perturbation=several[name], rule="autograd", network="cnn_norm"),
        )
        yield f"diagnostics of {name}", partial(three, perturbation=several[name], rule="autograd")
        yield f"diagnose_perturbation of {name}", partial(diagnosed, perturbation=several[name])
    yield "wires by the circuit", partial(hardware, perturbation=make("ir_drop"), rule="autograd")
    for name, options in {
        "a known chip": {"known": True},
        "clipping": {"clip": 2.0},
        "two chips": {"chips": 2},
    }.items():
        yield (
            f"training with {name}",
            partial(hardware, perturbation=make("variability"), rule="noise_injection", **options),
        )
    for statistics in STATISTICS:
        yield f"statistics {statistics}", partial(judged, perturbation=make("variability"), statistics=statistics)
    yield "redundant devices", partial(hardware, perturbation=Redundant(make("variability"), 2), rule="autograd")
    yield "remapped faults", rearranged
    for fault in ("none", "item", "mask", "generator", "tensor"):
        yield f"planted {fault}", partial(planted, fault=fault)


def near(value: Any) -> Any:
    """A result with all its tensors on the CPU."""
    if isinstance(value, dict):
        return {name: near(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [near(own) for own in value]
    return value.detach().cpu() if isinstance(value, Tensor) else value


def alike(one: Any, other: Any) -> bool:
    """Are two results the same, bit by bit (nan equals nan)?"""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    return one is other or str(one) == str(other)


def look(case: Case) -> dict[str, Any]:
    """What one case shows: the fault, if it has one, and what it waited for in its training steps."""
    began = time.perf_counter()
    expected = near(case(CPU))
    machine = pretended.Machine()
    found: dict[str, Any] = {"fault": "", "alike": False}
    try:
        with machine:
            done = near(case(machine.device))
        found["alike"] = alike(expected, done)
    except Exception as problem:
        lines = [
            line for line in traceback.format_exc().splitlines() if "/lib/" in line and "site-packages" not in line
        ]
        found["fault"] = f"{type(problem).__name__}: {problem} ({(lines or [''])[-1].strip()})"
    return found | {
        "waits": Counter(pretended.in_steps(machine.waits)),
        "copies": len(pretended.in_steps(machine.copies)) / STEPS,
        "no_kernel": pretended.without_kernel(machine.operations),
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    """Prints a line of JSON for each case whose name holds all words given."""
    warnings.simplefilter("ignore")
    training.VALIDATION = 2
    # The same pictures for every case.
    for name in ("few_shot", "validation"):
        setattr(tasks.Task, name, cache(getattr(tasks.Task, name)))
    pretended.device()
    for name, case in cases():
        if all(word in name for word in sys.argv[1:]):
            print(json.dumps({"case": name, **look(case)}), flush=True)


if __name__ == "__main__":
    main()
