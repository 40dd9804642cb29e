"""The straightforward peers of the benchmarks compute what the library computes; otherwise a ratio means nothing."""

from __future__ import annotations

import pytest
import torch

from benchmarks import hardware, plain
from lib.hardware.crossbars import on_chip
from lib.hardware.perturbations import moved_weight
from lib.prompts import tasks
from lib.prompts.backbone import load
from lib.prompts.learners import Learner
from lib.runtime import stream


@pytest.mark.parametrize(("name", "conditional"), [("coop", False), ("cocoop", True)])
def test_the_peer_has_the_same_parameters_and_logits(name, conditional):
    backbone, task = load("miniclip", "random"), tasks.get("texture")
    learner = Learner(name, backbone, task.names, tokens=4)
    params = learner.initial(stream(0, "x"))
    peer = plain.Plain(backbone, task.names, 4, conditional)
    trained = {key: value for key, value in peer.named_parameters() if value.requires_grad}
    assert sum(value.numel() for value in trained.values()) == sum(learner.counts().values())
    ours = {"context": params["prompt.tokens"][0]}
    if conditional:
        ours |= {
            f"network.{at}.{end}": params[f"meta.{key}.{end}"]
            for at, key in ((0, "in"), (2, "out"))
            for end in ("weight", "bias")
        }
    with torch.no_grad():
        for key, value in trained.items():
            value.copy_(ours[key])
        images = tasks.few_shot(task, 1, 0).images
        expected = peer(images)
        found = learner.logits(params, backbone.image_features(images), None)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def test_the_peer_learns():
    backbone, task = load(), tasks.get("mis_specified")
    split = tasks.few_shot(task, 4, 0)
    losses = plain.train(backbone, task.names, split.images, split.labels, 30, 8, False)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_batch_trains_what_the_loop_trains():
    loop, batch = hardware.trainings("variability", 2, 2, steps=3)
    single, together = loop(), batch()
    assert len(single) == 4
    for place, one in enumerate(single):
        for name, value in one.params.items():
            torch.testing.assert_close(together.params[name][place], value[0], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", hardware.HARDWARE)
def test_a_pass_through_a_chip_is_a_pass_through_a_chip(name):
    model = hardware.perceptron()
    assert [tuple(layer.weight.shape[::-1]) for layer in model if hasattr(layer, "weight")] == list(
        zip(hardware.SIZES, hardware.SIZES[1:], strict=False)
    )
    x = torch.rand(4, hardware.SIZES[0], generator=stream(0, "x"))
    perturbation, severity = hardware.HARDWARE[name]
    with on_chip(model, perturbation, severity, generator=stream(0, "chip")):
        seen = model(x)
    assert (seen - model(x)).abs().max() > 0.01
    for kind in ("pass", "step", "fresh step"):
        through, plainly = hardware.passes(name, kind, steps=1)
        first, second = through(), through()
        assert (first - plainly()).abs().max() > 0.01, "the chip is still there"
        # A programmed chip stays as it is, its reads do not; a fresh one differs.
        assert torch.equal(first, second) == (name == "variability" and kind != "fresh step")


def test_the_peers_training_learns_through_noise_of_the_stated_size():
    through, plainly = hardware.peer_training(steps=40)
    assert plainly() < 2.31 and through() < 2.31
    weight = torch.randn(60, 50, generator=stream(0, "weight"))
    noise = hardware.WeightNoise()
    chip = noise.draw_chip((60, 50), stream(0, "chip"))["chip"]
    seen = moved_weight(weight, torch.tensor(0.1), chip, noise)
    assert (seen - weight).std() == pytest.approx(0.1 * weight.abs().max().item(), rel=0.05)
