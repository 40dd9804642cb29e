"""What the frozen backbone can do on every task before anything is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pandas as pd
import torch
from scipy.stats import binomtest

from lib.prompts import backbone as backbones
from lib.prompts import tasks
from lib.results import Cell, Tables
from lib.runtime import stream
from lib.verdicts import Claim, Findings, Threshold
from paper.criteria.prompts import FAR_ABOVE_CHANCE
from paper.studies.base import Compared, Study, fits
from paper.studies.gating import DRAWN, BackboneName, Seeds, WeightsName, loaded
from paper.studies.parameters import Some, Whole
from paper.tools.pretrain import GOALS, ZERO_SHOT
from paper.words.spelling import spelt


class World(Study):
    """Zero-shot accuracy on every task of the procedural world::

        task                  task names, comma-separated or as a list
        pictures, seeds       test pictures per task and seed, and the number of seeds
        backbone, pretrained  as in lib.prompts.backbone.load

    Tables: ``draws`` (task, seed, right, accuracy in per cent) and ``zero_shot`` (task, classes, chance, accuracy, low,
    high: per cent over the pictures of all seeds, with the 95 % Wilson interval).
    """

    task: Annotated[tuple[str, ...], Some(ZERO_SHOT)] = ZERO_SHOT
    pictures: Annotated[int, Whole(2, 1_000_000)] = 300
    seeds: Seeds = 2
    backbone: BackboneName = backbones.NAME
    pretrained: WeightsName = "default"

    SIZES: ClassVar[tuple[str, ...]] = ("seeds", "pictures")
    PARTS: ClassVar[tuple[str, ...]] = ("task",)
    COMPARED: ClassVar[Mapping[str, Compared]] = {"draws": Compared(("task",), {"accuracy": 0.3})}

    def check(self) -> None:
        backbones.check(self.backbone, self.pretrained)
        fits(self.device, DRAWN * 12 * tasks.world.SIZE**2 * self.pictures, pictures=self.pictures)

    def cells(self) -> list[Cell]:
        """One for each task."""
        shared = {
            "pictures": self.pictures,
            "seeds": list(range(self.seeds)),
            "backbone": self.backbone,
            "weights": backbones.identity(self.backbone, self.pretrained),
        }
        site = {"pretrained": self.pretrained}
        return [Cell("zero_shot", {"task": name, **shared}, measure, site=site) for name in self.task]

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        draws = pd.concat([found[cell]["zero_shot"] for cell in self.cells()], ignore_index=True)
        table = pd.DataFrame([_joined(name, part) for name, part in draws.groupby("task", sort=False)])
        claims = [_claim(row) for row in table.itertuples() if row.task in GOALS]
        return {"zero_shot": table, "draws": draws}, Findings.of(claims)


def _joined(name: str, draws: pd.DataFrame) -> dict[str, object]:
    """The pictures of all seeds together."""
    right, pictures = int(draws["right"].sum()), int(draws["pictures"].sum())
    classes = len(tasks.get(name).names)
    ends = binomtest(right, pictures).proportion_ci(0.95, method="wilson")
    percent = {"accuracy": 100 * right / pictures, "low": 100 * ends.low, "high": 100 * ends.high}
    return {"task": name, "classes": classes, "chance": 100 / classes, **percent}


def far_above(chance: float) -> Threshold:
    """The accuracy that is far above ``chance``, both in per cent."""
    far = chance + FAR_ABOVE_CHANCE * (100 - chance)
    return Threshold(round(far, 1), FAR_ABOVE_CHANCE.since, FAR_ABOVE_CHANCE.changed)


#: What a task asks for, in the words of its claim.
_TOLD = {"counting": "numbers of objects", "held_out": "combinations that were held out"}


def _claim(row: Any) -> Claim:
    return Claim(
        f"world.{row.task}",
        f"the backbone tells {_TOLD.get(row.task, spelt(row.task))} apart far better than chance",
        (),
        ">",
        far_above(row.chance),
        "world",
        unit="%",
        name="accuracy",
        measured=(row.accuracy, (row.low, row.high)),
    )


def measure(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Zero-shot answers on one task: a row per seed."""
    backbone, name, pictures = loaded(config, site), config["task"], config["pictures"]
    task = tasks.get(name)
    labels = torch.arange(pictures) % len(task.names)
    return {"zero_shot": pd.DataFrame([_draw(backbone, task, labels, seed) for seed in config["seeds"]])}


def _draw(backbone: backbones.Backbone, task: tasks.Task, labels: torch.Tensor, seed: int) -> dict[str, object]:
    images, _ = task.draw(labels, stream(seed, "zero-shot", task.name))
    right = int((backbone.zero_shot(images, task.prompts).cpu() == labels).sum())
    count = len(labels)
    return {"task": task.name, "seed": seed, "pictures": count, "right": right, "accuracy": 100 * right / count}
