"""What a training on real pictures takes, said before it starts: memory by its sizes, time by a step that is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import checks, replicas, runtime
from lib.prompts import backbone as backbones
from lib.prompts import learners, training
from lib.replicas import Nested, Tree
from lib.results import Cell
from paper.studies.gating import PromptStudy, loaded

#: Seconds that what is timed takes at least, so that a GPU has something to do; and for how many classes.
ENOUGH, CLASSES = 0.2, 10


class Sizes(NamedTuple):
    """Pictures and steps of a cell. ``names`` are its classes; ``tested`` are the pictures of the test, those of new
    classes included, ``trained`` those of one seed, each in so many ``views``, and ``left`` those of its validation.
    """

    names: tuple[str, ...]
    tested: int
    trained: int
    views: int
    left: int
    seeds: int
    steps: int
    batch: int


class Costs:
    """What cells of a study take on its device. Nothing of the data is read but how much there is of it."""

    def __init__(self, study: PromptStudy) -> None:
        self.study = study
        self._known: dict[tuple[str, str, int], float] = {}

    def sizes(self, cell: Cell) -> Sizes:
        """Pictures and steps of a cell on real pictures."""
        config, sees = cell.config, learners.LEARNERS[cell.config["learner"]].sees
        task, new = self.study.find(config["task"], protocol=config["data"]["protocol"])
        counts = [sum(map(len, part.test)) for part in (task, new) if part is not None]
        shots, recipe, classes = config["shots"], config["recipe"], len(task.names)
        each = -(-training.VALIDATION // classes)
        trained = classes * shots
        # As many views as may be kept, and at least one.
        view = trained * (self.patch if sees else 4 * self.study.config()["embed_dim"])
        return Sizes(
            task.names,
            sum(min(config["test_size"], count) for count in counts),
            trained,
            max(1, min(recipe["augment"], int(training.KEPT // view))),
            sum(min(each, len(own) - shots) for own in task.train),
            len(config["seeds"]),
            0 if config["learner"] == "zero_shot" else recipe["steps"],
            recipe["batch"],
        )

    @cached_property
    def patch(self) -> int:
        """Bytes of a picture's tokens as the vision tower takes them."""
        vision = self.study.config()["vision_cfg"]
        return 4 * vision["width"] * (1 + (vision.get("image_size", 224) // vision["patch_size"]) ** 2)

    # Memory ----------------------------------------------------------------------------------------------
    def parts(self, cell: Cell) -> tuple[float, float]:
        """Bytes on the device that a cell needs for weights and pictures, and for a step of one seed."""
        own, config = self.sizes(cell), self.study.config()
        vision, text = config["vision_cfg"], config["text_cfg"]
        held = 4.0 * text.get("vocab_size", 49408) * text["width"]
        held += sum(4.0 * 12 * tower["layers"] * tower["width"] ** 2 for tower in (vision, text))
        if not runtime.resolve_device(self.study.device).type == "cuda":
            # A GPU sees them a few at a time.
            size = vision.get("image_size", 224)
            held += 4 * 3 * size**2 * (2 * own.tested + own.seeds * (own.trained + 2 * own.left))
        if learners.LEARNERS[cell.config["learner"]].sees:
            # They are there twice while they are stacked.
            held += 2 * self.patch * (own.tested + own.seeds * (own.trained * own.views + own.left))
        gated = cell.config["gate"] != "none"
        step = self.study.step_bytes(cell.config["learner"], gated, own.names, own.batch) if own.steps else 0
        # On the way through the tower before training, of one block.
        encoded = min(training.ENCODED, own.tested) * self.patch * learners.KEPT / 8
        return held, max(step, encoded)

    def memory(self, cell: Cell) -> float:
        """Bytes on the device that a cell needs at least: more seeds are trained at once where there is more."""
        return sum(self.parts(cell))

    def refuse(self, cells: list[Cell], jobs: int = 1) -> None:
        """Refuse cells that do not fit, so many at once, before anything is computed, and say what to lower."""
        place = runtime.resolve_device(self.study.device)
        have = runtime.memory(place)
        for cell in cells:
            held, step = self.parts(cell)
            if (held + step) * jobs <= have:
                continue
            lower = "batch (with recipes own)" if step > held else "test_size and seeds"
            raise checks.ParameterError(
                f"{'JOBS' if held + step <= have else lower} must be small enough for the {have / 2**30:.0f} GiB of"
                f" memory of {place}, but {told(cell)} needs about {(held + step) * jobs / 2**30:,.0f} GiB."
            )

    # Time ------------------------------------------------------------------------------------------------
    def seconds(self, cell: Cell) -> float:
        """About how long a cell takes: steps, tests and encoding, each in proportion to the numbers that pass through
        the towers, from one that was timed. Reading pictures from the disk is not in it.
        """
        own, (learner, gate) = self.sizes(cell), (cell.config["learner"], cell.config["gate"])
        gated = gate != "none"

        def bytes_of(pictures: int, each: bool) -> int:
            return self.study.step_bytes(learner, each, own.names, pictures)

        encoded = own.tested + own.seeds * (own.trained * own.views + own.left)
        spent = encoded * self._encoding
        if own.steps:
            rate = self._rate(learner, gate)
            looks = 2 * training.RECORDS if gated else 0
            spent += (own.steps + looks) * own.seeds * bytes_of(own.batch, gated) * rate
            # Forward alone is a third; a gate is tested as it is, shuffled, and held still for all.
            passes = [True, True, False] if gated else [False]
            spent += own.seeds * sum(bytes_of(own.tested + own.left, each) for each in passes) * rate / 3
        return spent

    @cached_property
    def _backbone(self) -> backbones.Backbone:
        """Any weights take as long."""
        config = {"backbone": self.study.backbone, "weights": "random"}
        return loaded(config, {"pretrained": "random", "device": self.study.place()})

    @cached_property
    def _encoding(self) -> float:
        """Seconds for the vision tower and one picture."""
        size = self._backbone.image_size
        pictures, seconds = _timed(
            lambda count: self._backbone.image_features(torch.rand(count, 3, size, size)), self._backbone.device
        )
        return seconds / pictures

    def _names(self) -> list[str]:
        """Names of classes; a backbone with words of its own knows no others."""
        tokenizer = self._backbone.tokenizer
        if isinstance(tokenizer, backbones.WordTokenizer):
            return [word for word in tokenizer.ids if word.isalpha()][:CLASSES]
        return [f"class {number}" for number in range(CLASSES)]

    def _rate(self, learner: str, gate: str) -> float:
        """Seconds for each byte that a step of this learner with this gate keeps."""
        key = (learner, gate, self.study.tokens)
        if key not in self._known:
            names = self._names()
            model = learners.Learner(learner, self._backbone, names, gate=gate, tokens=self.study.tokens)
            pictures, seconds = _timed(lambda count: _step(model, count), self._backbone.device)
            self._known[key] = seconds / model.kept(pictures, gate != "none")
        return self._known[key]


def told(cell: Cell) -> str:
    """A training on real pictures in words."""
    config = cell.config
    return " ".join(
        [config["learner"], config["gate"], config["task"], config["data"]["protocol"], f"{config['shots']} shots"]
    )


def _timed(work: Callable[[int], Any], device: torch.device) -> tuple[int, float]:
    """A number of pictures that takes long enough, and the seconds of work on them: the mean of two rounds."""
    count, seconds = 2, 0.0
    while seconds < 2 * ENOUGH and count <= 512:
        work(count)
        began = time.perf_counter()
        for _ in range(2):
            work(count)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds, tried, count = time.perf_counter() - began, count, 4 * count
    return tried, seconds / 2


def _step(learner: learners.Learner, pictures: int) -> Nested:
    """Gradients of one replica on random pictures."""
    backbone = learner.backbone
    generator = runtime.stream(0, "timed")
    inputs = {
        "features": torch.randn(1, pictures, backbone.embed_dim, generator=generator).to(backbone.device),
        "labels": torch.zeros(1, pictures, dtype=torch.long, device=backbone.device),
        "constants": replicas.stack([learner.constants]),
    }
    if learner.design.sees:
        shape = (1, pictures, backbone.patch_tokens, backbone.vision_width)
        inputs["patches"] = torch.randn(*shape, generator=generator).to(backbone.device)
    params = replicas.stack([learner.initial(generator)])

    def loss(params: Tree, batch: Nested) -> Tensor:
        logits = learner.logits(params, batch["features"], batch.get("patches"), constants=batch["constants"])
        return F.cross_entropy(logits, batch["labels"])

    return torch.func.vmap(torch.func.grad(loss))(params, inputs)
