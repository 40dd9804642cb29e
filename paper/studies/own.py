"""Models to point the two diagnoses at: a network of torchvision, a tower of open_clip, a mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import checks, diagnose_perturbation, results
from lib.hardware.devices import HARDWARE
from lib.prompts import backbone as backbones
from lib.prompts import photographs, tasks, training
from lib.prompts.learners import LEARNERS, Learner
from lib.replicas import Tree, unstack
from lib.results import Cell
from lib.runtime import stream
from lib.verdicts import Findings
from paper.studies.base import Digest, Study
from paper.studies.gating import WeightsName
from paper.studies.parameters import POSITIVE, Numbers, OneOf, Whole

Pairs = list[tuple[Tensor, Tensor]]


class Own(Digest):
    """What the page on models of one's own asks: a ``perturbation`` at ``severities`` with ``samples`` gradients each;
    ``checkpoint`` is that of the open_clip tower (MiniCLIP's architecture). It judges nothing: reports do.
    """

    perturbation: Annotated[str, OneOf(HARDWARE)] = "read_noise"
    severities: Annotated[tuple[float, ...], Numbers(0, POSITIVE.high, ordered=True)] = (0.02, 0.1)
    samples: Annotated[int, Whole(4, 1000)] = 8
    checkpoint: WeightsName = "default"

    SIZES: ClassVar[tuple[str, ...]] = ("samples",)

    def check(self) -> None:
        """Refuses severities that the perturbation does not have, and weights that are not there."""
        hardware = HARDWARE[self.perturbation]
        for one in self.severities:
            hardware.check(one, "severities")
        backbones.check(backbones.NAME, self.checkpoint)

    def studies(self) -> dict[str, Study]:
        """None: it reads no evidence."""
        return {}

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        """Nothing."""
        return {}, Findings()


def network(pictures: int = 32, seed: int = 0) -> tuple[nn.Module, nn.Module, Pairs]:
    """torchvision's SqueezeNet for ten classes, where its training would begin, its loss, and one batch of photographs
    of CIFAR-10 [N, 3, 32, 32] with labels [N].
    """
    from torchvision.models import squeezenet1_1

    checks.integer("pictures", pictures, 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = squeezenet1_1(num_classes=10)
    task, _ = photographs.get("objects")
    return model, nn.CrossEntropyLoss(), [task.tested(pictures)]


def tower(checkpoint: str, pictures: int = 48) -> tuple[nn.Module, nn.Module, Pairs, list[str]]:
    """An open_clip image tower from a checkpoint, its loss on the words of a task (:class:`Spoken`), a batch of the
    drawn world, and the names of its attention, whose products are no layers.
    """
    backbone = backbones.load(backbones.NAME, checkpoint)
    visual = backbone.model.visual.requires_grad_(True)
    task = tasks.get("texture")
    shown = task.few_shot(1, 0, pictures)
    # As MiniCLIP was pre-trained: its tower takes pictures with their mean and spread taken off.
    images = (shown.test_images - 0.5) / 0.25
    attention = [name for name, module in visual.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return visual, Spoken(backbone, task.prompts), [(images, shown.test_labels)], attention


class Spoken(nn.CrossEntropyLoss):
    """Cross-entropy of image features [N, E] against the sentences of classes."""

    def __init__(self, backbone: backbones.Backbone, prompts: list[str]) -> None:
        super().__init__()
        self.texts, self.scale = backbone.text_features(prompts), backbone.scale

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(self.scale * F.normalize(input, dim=-1) @ self.texts.T, target)


class Mixture(nn.Module):
    """Two linear experts and a router, which sees nothing if it is ``blind``: inputs [N, 8] -> logits [N, 2]."""

    def __init__(self, blind: bool = False) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(8, 2) for _ in range(2)])
        self.router = nn.Sequential(nn.Linear(8, 2), nn.Softmax(-1))
        self.blind = blind

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(torch.zeros_like(x) if self.blind else x)
        return (weights[:, :, None] * torch.stack([one(x) for one in self.experts], 1)).sum(1)


def crossed(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs [N, 8] and labels [N]: the sign of the second number, turned round where the first is negative. No single
    linear expert is right more often than a coin.
    """
    x = torch.randn(count, 8, generator=stream(seed, "crossed"))
    return x, ((x[:, 1] > 0) ^ (x[:, 0] < 0)).long()


def trained(blind: bool = False, steps: int = 300, seed: int = 1) -> Mixture:
    """A mixture after so many steps of Adam on 512 inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Mixture(blind)
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    x, y = crossed(512, 0)
    for _ in range(checks.integer("steps", steps, 0)):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model


def right(model: nn.Module, count: int = 400) -> Any:
    """Which of ``count`` new inputs a model gets right, as numbers [N]."""
    x, y = crossed(count, 99)
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().numpy()


class Residual(Learner):
    """A prompt learner of one's own, after TaskRes (Yu et al. 2023): nothing is put in front of the words; what is
    learned is added to the features of the sentences [K, F].
    """

    def initial(self, generator: torch.Generator, *_: Any, **__: Any) -> Tree:
        return {"prompt.residual": torch.zeros(self.classes, self.backbone.embed_dim)}

    def logits(
        self, params: Tree, features: Tensor, patches: Tensor | None, *, constants: Tree | None = None, **_: Any
    ) -> Tensor:
        text = (constants or self.constants)["text"] + 0.5 * params["prompt.residual"]
        return self.backbone.scale * features @ F.normalize(text, dim=-1).T


def compared(
    checkpoint: str,
    learners: Mapping[str, str | type[Learner]],
    task: str = "shift",
    steps: int = 60,
    seeds: int = 2,
    rates: Sequence[float] = (0.001, 0.01),
) -> pd.DataFrame:
    """Learners on the same pictures, shots and seeds: accuracy on test pictures in per cent, a row per seed.

    ``learners`` are names of :data:`lib.prompts.learners.LEARNERS` and subclasses of
    :class:`lib.prompts.learners.Learner`, under the name of their column; a class of one's own starts from the frozen
    model without prompts. Each is trained by Adam at the one of ``rates`` that is best for it on validation pictures.
    All are checked before the first is trained.
    """
    if not learners:
        raise checks.ParameterError("learners must name at least one learner, but none was given.")
    made: dict[str, tuple[type[Learner], str]] = {}
    for name, kind in learners.items():
        if isinstance(kind, str):
            made[name] = (Learner, checks.choice("learners", kind, LEARNERS))
        elif isinstance(kind, type) and issubclass(kind, Learner):
            made[name] = (kind, "zero_shot")
        else:
            raise checks.ParameterError(
                f"learners must be names or subclasses of lib.prompts.learners.Learner, but {kind!r} was given."
            )
    checks.choice("task", task, tasks.TASKS)
    backbone, chosen = backbones.load(backbones.NAME, checkpoint), tasks.get(task)
    runs = [training.Replica(chosen, seed) for seed in range(checks.integer("seeds", seeds, 1))]
    rows = {}
    for name, (built, plain) in made.items():
        learner = built(plain, backbone, chosen.names, template=chosen.template)
        data = training.prepare(learner, runs, 100)
        tried = [training.train(learner, data, training.Recipe(steps, 8, rate, "adam")) for rate in rates]
        rows[name] = max(tried, key=lambda one: sum(one.validated())).scores["accuracy"].tolist()
    return pd.DataFrame(rows, index=pd.RangeIndex(seeds, name="seed"))


def gated(checkpoint: str, steps: int = 0) -> tuple[Learner, Tree, Pairs]:
    """A gated CoOp for the conflict task after so many steps of Adam, its parameters, and batches of test pictures."""
    backbone, task = backbones.load(backbones.NAME, checkpoint), tasks.get("conflict")
    learner = Learner("coop", backbone, task.names, template=task.template, gate="length")
    data = training.prepare(learner, [training.Replica(task, 0)], 2)
    params = training.initial(learner, data)
    if steps:
        params = training.train(learner, data, training.Recipe(steps, 8, 0.01, "adam")).params
    shown = task.few_shot(1, 1, 96)
    order = torch.randperm(96, generator=stream(0, "shown"))
    parts = order.split(16)
    return learner, unstack(params, 0), [(shown.test_images[part], shown.test_labels[part]) for part in parts]


def reported(study: Own) -> str:
    """The verdict of a report on a network of torchvision, as the study asks for it."""
    seen = {"severity": list(study.severities), "samples": study.samples}
    return diagnose_perturbation(*network(), study.perturbation, **seen).verdict
