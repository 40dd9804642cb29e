"""Published recipes by name: how the originals train their learners, in steps of the task at hand.

An epoch is one pass over the training pictures in whole batches, or one step where there are fewer pictures than a
batch, as in Dassl, the library of CoOp and its successors. Their schedule: the first epoch at a rate of 1e-5, then a
cosine that moves once an epoch; SGD with momentum 0.9 and weight decay 5e-4; pictures cropped and flipped at random.

Where this differs from the originals: pictures are drawn with replacement; views of pictures are drawn beforehand,
one for each epoch and at most :data:`VIEWS` of each picture; where an epoch is a single step the cosine ends at 0; L2P
keeps the weight decay of the others. Numbers of tokens and layers are the learner's own. Crops may cut away what a
label speaks of, as they may on photographs; a flip never does (``Task.flips``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lib import checks
from lib.prompts.training import Recipe

VIEWS = 10
"""Views of a training picture at most: more epochs see them again."""


@dataclass(frozen=True)
class Published:
    """How a learner is trained by those who published it.

    ``epochs`` is a number, or one for each number of pictures per class from which on it holds. ``source`` is a key of
    the book's references. With ``schedule`` off the rate stays as it is, from the first step on.
    """

    learner: str
    source: str
    rate: float
    batch: int
    epochs: int | Mapping[int, int]
    optimiser: str = "sgd"
    schedule: bool = True

    def passes(self, shots: int) -> int:
        """Epochs with so many pictures per class."""
        if isinstance(self.epochs, int):
            return self.epochs
        return self.epochs[max(few for few in self.epochs if few <= shots)]

    def epoch(self, classes: int, shots: int) -> int:
        """Steps of an epoch."""
        return max(classes * shots // self.batch, 1)


#: Recipes by name.
RECIPES: dict[str, Published] = {
    "coop": Published("coop", "zhou2022coop", 0.002, 32, {1: 50, 2: 100, 5: 200}),
    "cocoop": Published("cocoop", "zhou2022cocoop", 0.002, 1, 10),
    "vpt": Published("vpt", "khattak2023maple", 0.0025, 4, 5),
    "ivlp": Published("ivlp", "khattak2023maple", 0.0035, 4, 5),
    "maple_5": Published("maple", "khattak2023maple", 0.0035, 4, 5),
    "maple_50": Published("maple", "khattak2023promptsrc", 0.0035, 4, 50),
    "l2p": Published("pool", "wang2022l2p", 0.03, 16, 5, "adam", schedule=False),
}


def steps(name: str, classes: int, shots: int) -> int:
    """Steps of a recipe on a task with so many classes and pictures per class."""
    known = RECIPES[checks.choice("published", name, RECIPES)]
    return known.passes(checks.integer("shots", shots, 1)) * known.epoch(checks.integer("classes", classes, 1), shots)


def build(name: str, classes: int, shots: int) -> Recipe:
    """The recipe of that name for such a task."""
    total, known = steps(name, classes, shots), RECIPES[name]
    epochs = known.passes(shots)
    return Recipe(
        steps=total,
        batch=known.batch,
        rate=known.rate,
        optimiser=known.optimiser,
        warmup=1 / epochs if known.schedule else 0.0,
        cosine=known.schedule,
        epoch=known.epoch(classes, shots),
        augment=min(epochs, VIEWS),
    )
