"""What the frozen backbone can do on every task before anything is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from scipy.stats import binomtest

from lib import checks
from lib.prompts import backbone as backbones
from lib.prompts import tasks
from lib.prompts.pretrain import GOALS, ZERO_SHOT
from lib.results import code_version, provenance
from lib.runtime import resolve_device, stream
from lib.verdicts import Findings, judge_value
from paper.studies.base import Result, Study


@dataclass(frozen=True, kw_only=True)
class World(Study):
    """Zero-shot accuracy on every task of the procedural world::

        task                  task names, comma-separated or as a list
        pictures              test pictures per task
        backbone, pretrained  as in lib.prompts.backbone.load

    Table ``zero_shot``: task, classes, chance, accuracy, low, high (per cent; 95 % Wilson interval).
    """

    task: str | Sequence[str] = ",".join(ZERO_SHOT)
    pictures: int = 600
    backbone: str = backbones.NAME
    pretrained: str = "default"

    def check(self) -> None:
        object.__setattr__(self, "task", checks.choices("task", self.task, ZERO_SHOT))
        checks.integer("pictures", self.pictures, 2, 1_000_000)
        backbones.check(self.backbone, self.pretrained)

    KEYS = ("task",)
    # Three standard errors of 600 pictures are six points at the most.
    TOLERANCES = {"accuracy": 6.0}

    def run(self) -> Result:
        device = resolve_device(self.device)
        weights = backbones.identity(self.backbone, self.pretrained)
        config = {
            "task": self.task,
            "pictures": self.pictures,
            "backbone": self.backbone,
            "weights": weights,
            "code": code_version("prompts", "runtime", "studies.world"),
        }
        store = self.store()
        table = store.get_or_run("zero_shot", config, self._measure, device=device, seeds=[0])
        shown = [
            judge_value(
                f"the backbone tells {name.replace('_', ' ')} apart far better than chance",
                row.accuracy,
                (row.low, row.high),
                ">",
                round((100 + 3 * row.chance) / 4, 1),
                unit="%",
                name="accuracy",
            )
            for name, row in table.set_index("task").iterrows()
            if name in GOALS
        ]
        return Result({"zero_shot": table}, Findings(shown), provenance(device, [0], store.seconds))

    def _measure(self) -> pd.DataFrame:
        backbone = backbones.load(self.backbone, self.pretrained, resolve_device(self.device))
        rows = []
        for name in self.task:
            task = tasks.get(name)
            labels = torch.arange(self.pictures) % len(task.names)
            images, _ = task.draw(labels, stream(0, "zero-shot", name))
            right = int((backbone.zero_shot(images, task.prompts).cpu() == labels).sum())
            ends = binomtest(right, self.pictures).proportion_ci(0.95, method="wilson")
            rows.append(
                {
                    "task": name,
                    "classes": len(task.names),
                    "chance": 100 / len(task.names),
                    "accuracy": 100 * right / self.pictures,
                    "low": 100 * ends.low,
                    "high": 100 * ends.high,
                }
            )
        return pd.DataFrame(rows)
