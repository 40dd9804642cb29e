"""What PhotoCLIP knows of photographs before anything is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pandas as pd
from scipy.stats import binomtest

from lib import pictures as folders
from lib.prompts import backbone as backbones
from lib.prompts import photoclip
from lib.prompts.photographs import TINY, files
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings, Threshold
from paper.criteria.prompts import OBJECTS, SEEN_BY_NAME, TWENTY_OF_SEEN
from paper.photo_questions import FOLDS, QUESTIONS, SHIPPED, answers, held_out, identity
from paper.studies.base import Compared, Result, Study
from paper.studies.gating import WeightsName, loaded
from paper.studies.parameters import Place, Some, Whole
from paper.studies.world import far_above

GOALS: Mapping[str, tuple[str, Threshold]] = {
    "seen_by_name": ("PhotoCLIP names the classes of its pre-training on new pictures", SEEN_BY_NAME),
    "twenty_of_seen": ("PhotoCLIP names the classes of its pre-training among twenty at a time", TWENTY_OF_SEEN),
    "objects": ("PhotoCLIP names what CIFAR-10 shows, of which it never saw a picture", OBJECTS),
}
"""What was aimed at."""
FAR: Mapping[str, str] = {
    "unseen_by_kind": "general words find classes that were never shown, far better than chance",
    "looks": "PhotoCLIP tells the looks of a photograph apart far better than chance",
    "tint_colours": "PhotoCLIP tells the colours of tints apart far better than chance",
    "frame_colours": "PhotoCLIP tells the colours of frames apart far better than chance",
}
"""What else it should know."""


class PhotoWorld(Study):
    """Zero-shot accuracy of PhotoCLIP on photographs that its pre-training never saw::

        task        names of questions (paper.photo_questions), comma-separated or as a list; "all" for all of them
        seeds       how many of the four parts of a question's pictures are asked
        pictures    at most so many pictures of each part
        pretrained  as in lib.prompts.backbone.load
        root        folder with Tiny ImageNet, for questions about its pictures

    Tables: ``draws`` (task, seed, pictures, classes, chance, accuracy in per cent) and ``zero_shot`` (task, classes,
    pictures, chance, accuracy, low, high: per cent over the pictures of all parts, with the 95 % Wilson interval).
    """

    task: Annotated[tuple[str, ...], Some(QUESTIONS, everything="all")] = SHIPPED
    pictures: Annotated[int, Whole(2, 1_000_000)] = 150
    seeds: Annotated[int, Whole(1, FOLDS)] = 2
    pretrained: WeightsName = "default"
    root: Annotated[str, Place("the path of a folder")] = "data"

    SIZES: ClassVar[tuple[str, ...]] = ("seeds", "pictures", "root")
    PARTS: ClassVar[tuple[str, ...]] = ("task",)
    COMPARED: ClassVar[Mapping[str, Compared]] = {"draws": Compared(("task",), {"accuracy": 0.3})}

    def check(self) -> None:
        folders.folder(self.root)
        backbones.check(photoclip.NAME, self.pretrained)

    def cells(self) -> list[Cell]:
        """One for each question."""
        shared = {
            "pictures": self.pictures,
            "seeds": list(range(self.seeds)),
            "backbone": photoclip.NAME,
            "weights": backbones.identity(photoclip.NAME, self.pretrained),
        }
        site = {"pretrained": self.pretrained, "root": self.root}
        return [
            Cell("photo_zero_shot", {"task": name, "data": identity(name), **shared}, measure, site=site)
            for name in self.task
        ]

    def run(self) -> Result:
        """Compute, or fetch what is stored, and judge; a missing archive is refused before anything is computed."""
        if any(QUESTIONS[name].archive for name in self.task):
            files.place(TINY, folders.folder(self.root))
        return super().run()

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        draws = pd.concat([found[cell]["zero_shot"] for cell in self.cells()], ignore_index=True)
        table = pd.DataFrame([_joined(name, part) for name, part in draws.groupby("task", sort=False)])
        claims = [_claim(row) for row in table.itertuples() if row.task in GOALS or row.task in FAR]
        return {"zero_shot": table, "draws": draws}, Findings.of(claims)


def _joined(name: str, draws: pd.DataFrame) -> dict[str, object]:
    """The pictures of all parts together."""
    pictures = int(draws["pictures"].sum())
    share = float((draws["accuracy"] * draws["pictures"]).sum() / pictures / 100)
    # A picture that is asked in several choices of classes counts once.
    ends = binomtest(round(share * pictures), pictures).proportion_ci(0.95, method="wilson")
    percent = {"accuracy": 100 * share, "low": 100 * ends.low, "high": 100 * ends.high}
    one = draws.iloc[0]
    return {"task": name, "classes": int(one["classes"]), "pictures": pictures, "chance": one["chance"], **percent}


def _claim(row: Any) -> Claim:
    """Against what was aimed at, or far above chance."""
    text, threshold = GOALS[row.task] if row.task in GOALS else (FAR[row.task], far_above(row.chance))
    return Claim(
        f"photo_world.{row.task}",
        text,
        (),
        ">=" if row.task in GOALS else ">",
        threshold,
        "photo_world",
        unit="%",
        name="accuracy",
        measured=(row.accuracy, (row.low, row.high)),
    )


def measure(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Zero-shot answers to one question: a row per part of its pictures."""
    backbone, name = loaded(config, site), config["task"]
    held = held_out(folders.folder(site["root"])) if QUESTIONS[name].archive else None
    rows = pd.DataFrame(answers(backbone, name, held, config["seeds"], config["pictures"]))
    rows = rows.rename(columns={"part": "seed"})
    rows.insert(0, "task", name)
    return {"zero_shot": rows}
