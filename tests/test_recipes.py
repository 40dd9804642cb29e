"""Published recipes: their steps, their schedule, and the views of pictures that they train on."""

import pytest
import torch
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from lib.checks import ParameterError
from lib.prompts import backbone as backbones
from lib.prompts import data, learners, recipes, tasks, training
from lib.runtime import stream
from paper import ROOT


@pytest.mark.parametrize(
    ("name", "classes", "shots", "expected"),
    [
        ("coop", 8, 16, 200 * 4),
        ("coop", 8, 4, 100 * 1),
        ("coop", 8, 1, 50),  # eight pictures are less than a batch: an epoch is one step
        ("coop", 10, 16, 200 * 5),
        ("coop", 9, 5, 200 * 1),  # of 45 pictures the last 13 are dropped
        ("cocoop", 8, 16, 10 * 128),
        ("vpt", 8, 16, 5 * 32),
        ("ivlp", 8, 16, 5 * 32),
        ("maple_5", 5, 16, 100),  # EuroSAT's base classes: 80 pictures
        ("maple_50", 5, 16, 1000),
        ("l2p", 8, 16, 5 * 8),
    ],
)
def test_a_published_recipe_has_the_steps_of_its_epochs(name, classes, shots, expected):
    assert recipes.steps(name, classes, shots) == expected
    assert recipes.build(name, classes, shots).steps == expected


def test_every_source_stands_in_the_references():
    known = (ROOT / "book" / "references.bib").read_text()
    for recipe in recipes.RECIPES.values():
        assert f"{{{recipe.source}," in known and recipe.learner in learners.LEARNERS


def dassl(rate: float, epochs: int, steps: int) -> list[float]:
    """Rates by torch's own cosine over all epochs, begun after one epoch at 1e-5, each kept for so many steps."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    found = [1e-5] * steps
    for _ in range(epochs - 1):
        found += [optimiser.param_groups[0]["lr"]] * steps
        optimiser.step(), cosine.step()
    return found


@pytest.mark.parametrize(
    ("name", "classes", "epochs", "steps"),
    [("maple_5", 5, 5, 20), ("coop", 8, 200, 4), ("cocoop", 8, 10, 128), ("maple_50", 8, 50, 32)],
)
def test_the_rate_moves_once_an_epoch_as_in_dassl(name, classes, epochs, steps):
    optimiser = recipes.build(name, classes, 16).build()
    rates = [optimiser.rate_at(step) for step in range(optimiser.steps)]
    assert rates == pytest.approx(dassl(recipes.RECIPES[name].rate, epochs, steps), rel=1e-6)
    assert rates.count(1e-5) == steps


def test_the_pool_keeps_its_rate_from_the_first_step_on():
    optimiser = recipes.build("l2p", 8, 16).build()
    assert {optimiser.rate_at(step) for step in range(optimiser.steps)} == {0.03} and optimiser.name == "adam"


# ------------------------------------------------------------------------------------------------ augmentation
def test_crops_are_those_of_torchvision():
    torch.manual_seed(3)
    picture = torch.zeros(3, 32, 32)
    crop = RandomResizedCrop(32, (0.08, 1.0), (3 / 4, 4 / 3), InterpolationMode.BICUBIC)
    expected = [list(crop.get_params(picture, crop.scale, crop.ratio)) for _ in range(50)]
    generator = torch.Generator().manual_seed(3)
    assert [data._crop(32, generator) for _ in range(50)] == expected


@pytest.mark.parametrize("flips", [True, False])
def test_pictures_are_flipped_only_where_they_may_be(flips):
    # Brighter to the right, and so in every crop.
    images = torch.linspace(0, 1, 32).expand(40, 3, 32, 32)
    views = data.augmented(images, flips, stream(0, "flips"))
    turned = (views[..., :8].mean((1, 2, 3)) > views[..., -8:].mean((1, 2, 3))).sum()
    assert 10 < turned < 30 if flips else turned == 0
    assert views.min() >= 0 and views.max() <= 1


def test_labels_that_depend_on_left_and_right_forbid_flips():
    forbidden = {name for name in tasks.TASKS if not tasks.get(name, 0.5).flips}
    assert forbidden == {"position", "conflict"}


@pytest.fixture(scope="module")
def backbone():
    return backbones.load(device=torch.device("cpu"))


def prepared(backbone, learner, runs, augment):
    own = runs[0].task
    return training.prepare(learners.Learner(learner, backbone, own.names), runs, 12, augment)


@pytest.mark.parametrize("learner", ["coop", "vpt_shallow"])
def test_views_differ_keep_their_labels_and_are_the_same_alone(backbone, learner):
    task = tasks.get("texture")
    runs = [training.Replica(task, seed, shots=2) for seed in (0, 1)]
    both, plain = prepared(backbone, learner, runs, 3), prepared(backbone, learner, runs, 0)
    alone = prepared(backbone, learner, runs[1:], 3)
    count = plain.sizes[0]
    assert both.sizes == [3 * count] * 2
    assert torch.equal(both.labels, plain.labels.repeat(1, 3))
    whole = both.features if both.patches is None else both.patches.flatten(2)
    views = whole.unflatten(1, (3, count))
    for one, other in ((0, 1), (1, 2)):
        assert (views[:, one] - views[:, other]).flatten(2).norm(dim=2).min() > 1e-3
    torch.testing.assert_close(both.features[1], alone.features[0])
    # What is tested and chosen by is never augmented.
    torch.testing.assert_close(both.test_features, plain.test_features)
    torch.testing.assert_close(both.validation.test_features, plain.validation.test_features)


def test_views_take_no_more_memory_than_they_may(backbone, monkeypatch):
    runs = [training.Replica(tasks.get("texture"), 0, shots=2)]
    count = prepared(backbone, "coop", runs, 0).sizes[0]
    monkeypatch.setattr(training, "KEPT", 2.5 * 4 * count * backbone.embed_dim)
    assert prepared(backbone, "coop", runs, 10).sizes == [2 * count]
    monkeypatch.setattr(training, "KEPT", 1)
    assert prepared(backbone, "coop", runs, 10).sizes == [count]


def test_the_conflict_task_keeps_its_cues(backbone):
    runs = [training.Replica(tasks.get("conflict"), 0, shots=2)]
    both, plain = prepared(backbone, "coop", runs, 2), prepared(backbone, "coop", runs, 0)
    assert torch.equal(both.cue, plain.cue.repeat(1, 2))


@pytest.mark.parametrize("name", ["CoOp", "", "none"])
def test_an_unknown_recipe_is_refused(name):
    with pytest.raises(ParameterError, match="published must be"):
        recipes.build(name, 8, 16)
