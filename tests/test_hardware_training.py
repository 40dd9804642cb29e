"""Training through hardware: replicas, random streams, evaluation on unseen chips, and the diagnostics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lib import gradients, runtime
from lib.hardware import diagnostics, training
from lib.hardware.networks import Crossbars, digits, mlp
from lib.hardware.perturbations import PERTURBATIONS, full_scale
from lib.replicas import Optimiser, unstack

CPU = torch.device("cpu")
SEEDS = (0, 1)
SHORT = Optimiser("adam", training.RATE, 4)


@pytest.fixture(scope="module")
def start():
    return training.fork(SEEDS, 25, CPU)


def only(tree, seeds):
    """The fork of some seeds."""
    return {name: value[list(seeds)] for name, value in tree.items()}


def test_clean_training_learns_the_digits(start):
    trained = training.train_clean(start, SEEDS, Optimiser("adam", training.RATE, 60), 25)
    assert (training.accuracy(start) > 0.75).all()
    assert (training.accuracy(trained) > 0.93).all()
    x, y = digits().test_x, digits().test_y
    by_hand = [(mlp(unstack(trained, i), x).argmax(1) == y).double().mean() for i in range(2)]
    assert torch.allclose(training.accuracy(trained), torch.stack(by_hand))


@pytest.mark.parametrize("name", ["read_noise", "stuck_at", "ir_drop", "adc"])
def test_a_replica_alone_gets_the_numbers_it_gets_in_a_batch(start, name):
    severities = PERTURBATIONS[name].grid[-2:]
    steps = Optimiser("adam", training.RATE, 2) if name == "ir_drop" else SHORT
    rule = "straight_through" if name == "adc" else "autograd"
    batch = training.train_aware(start, PERTURBATIONS[name], rule, severities, SEEDS, steps)
    alone = training.train_aware(only(start, [1]), PERTURBATIONS[name], rule, severities[1:], [1], steps)
    for key, value in alone.params.items():
        assert torch.allclose(batch.params[key][3], value[0], atol=2e-4), key
    assert not torch.allclose(batch.params["weight.0"][2], batch.params["weight.0"][3], atol=2e-4)


def test_training_at_off_is_clean_training(start):
    clean = training.train_clean(start, SEEDS, SHORT, 25)
    for name in ("variability", "adc"):
        off = PERTURBATIONS[name].off
        aware = training.train_aware(start, PERTURBATIONS[name], "autograd", [off], SEEDS, SHORT, 25)
        for key, value in clean.items():
            assert torch.allclose(aware.params[key], value, atol=1e-5)


def test_chips_differ_between_steps_and_seeds_but_not_between_severities(start):
    seen = []
    physics = PERTURBATIONS["variability"]

    class Spy(type(physics)):
        def conductance(self, g, severity, chip):
            seen.append(chip)
            return super().conductance(g, severity, chip)

    for seed in SEEDS:
        for step in range(2):
            source = runtime.stream(seed, physics.name, "training chip", step)
            seen.append(training.draw(Spy(), start, 3, source)["chip.0"])
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    spread = training.spread([{"a": torch.tensor([0.0])}, {"a": torch.tensor([1.0])}], 3, CPU)
    assert spread["a"].flatten().tolist() == [0, 1, 0, 1, 0, 1]
    assert training.spread([{}, {}], 3, CPU) == {}


def test_unseen_chips_by_a_plain_loop(start):
    physics, severities, chips = PERTURBATIONS["stuck_at"], (0.02, 0.1), 3
    params = training.tiled(start, 2)
    seen = training.accuracy_on_chips(params, physics, severities, SEEDS, chips)
    assert seen.shape == (4, chips)
    x, y = digits().test_x, digits().test_y
    for row, (severity, i) in enumerate((severity, i) for severity in severities for i in range(2)):
        for chip in range(chips):
            source = runtime.stream(SEEDS[i], "stuck_at", "unseen chip", chip)
            drawn = training.draw(physics, unstack(start, i), len(y), source)
            crossbars = Crossbars(physics, torch.tensor(severity), "autograd", drawn)
            right = (mlp(unstack(start, i), x, crossbars).argmax(1) == y).double().mean().item()
            assert seen[row, chip].item() == pytest.approx(right, abs=2.1 / len(y))


def test_off_costs_nothing_and_without_randomness_there_is_one_chip(start):
    plain = training.accuracy(start)
    for name, physics in PERTURBATIONS.items():
        seen = training.accuracy_on_chips(start, physics, [physics.off], SEEDS, 2)
        assert seen.shape == (2, 1 if name in ("ir_drop", "adc") else 2)
        assert torch.allclose(seen, plain[:, None].expand_as(seen), atol=1e-9), name


def test_converters_are_calibrated_on_training_images(start, monkeypatch):
    physics = PERTURBATIONS["adc"]
    used = {}
    current = type(physics).current

    def spy(self, y, x, scale, severity, read, bound):
        used[tuple(y.shape)] = bound
        return current(self, y, x, scale, severity, read, bound)

    monkeypatch.setattr(type(physics), "current", spy)
    one = unstack(start, 0)
    training.accuracy_on_chips(only(start, [0]), physics, [4.0], [0], 1)
    y = digits().x @ one["weight.0"].T
    assert used[(599, 64)].shape == () or used[(599, 64)] is not None
    monkeypatch.undo()
    crossbars = Crossbars(physics, torch.tensor(4.0), "autograd", {})
    mlp(one, digits().x, crossbars)
    assert crossbars.ranges["range.0"].item() == pytest.approx(full_scale(y).item())
    fixed = Crossbars(physics, torch.tensor(4.0), "autograd", dict(crossbars.ranges))
    right = (mlp(one, digits().test_x, fixed).argmax(1) == digits().test_y).double().mean().item()
    seen = training.accuracy_on_chips(only(start, [0]), physics, [4.0], [0], 1)
    assert seen.item() == pytest.approx(right, abs=1.1 / 599)


def test_at_off_every_diagnostic_is_that_of_the_clean_network(start):
    for name in ("variability", "adc"):
        physics = PERTURBATIONS[name]
        for rule in ("autograd", "straight_through", "unaware"):
            (row,) = diagnostics.diagnose(only(start, [0]), physics, rule, [physics.off], [0], 4).to_dict("records")
            assert row["cosine"] == pytest.approx(1, abs=1e-6) and row["bias"] == pytest.approx(0, abs=1e-5)
            assert row["truth"] == pytest.approx(1, abs=0.02)
            assert row["variance"] == pytest.approx(0, abs=1e-9) and row["signal"] == pytest.approx(1)
            assert row["live"] == row["gain"] == row["rank"] == pytest.approx(1, abs=1e-5)


def test_diagnostics_of_an_adc(start):
    physics = PERTURBATIONS["adc"]
    vanilla = diagnostics.diagnose(start, physics, "autograd", [4.0], SEEDS, 4)
    for column in ("cosine", "truth", "signal", "live", "gain", "rank"):
        assert (vanilla[column] == 0).all(), column
    assert vanilla.variance.isna().all() and np.allclose(vanilla.bias, 1)
    through = diagnostics.diagnose(start, physics, "straight_through", [6.0, 3.0], SEEDS, 4)
    assert (through.cosine > 0.5).all() and (through.live > 0.9).all() and (through.signal == 1).all()
    mild, harsh = (through[through.severity == bits].cosine.mean() for bits in (6.0, 3.0))
    assert mild > harsh


def test_diagnostics_by_a_plain_loop(start):
    physics, severity, count = PERTURBATIONS["variability"], 0.1, 6
    (row,) = diagnostics.diagnose(only(start, [1]), physics, "straight_through", [severity], [1], count).to_dict(
        "records"
    )
    params, batch = unstack(start, 1), training.images(1, "diagnosis")
    weights = [name for name in params if name.startswith("weight")]

    def gradient(hardware, sample):
        source = runtime.stream(1, "variability", "diagnosis chip", sample)
        inputs = {
            **batch,
            **training.draw(physics, params, len(batch["y"]), source),
            "severity": torch.tensor(severity),
        }
        tree = torch.func.grad(training.objective)(params, inputs, hardware, "straight_through")
        return torch.cat([tree[name].flatten() for name in weights])

    clean = gradient(None, 0)
    samples = torch.stack([gradient(physics, sample) for sample in range(count)])
    moments = gradients.statistics(samples)
    assert row["cosine"] == pytest.approx(gradients.expected_cosine(samples, clean)[0], rel=1e-4)
    assert row["bias"] == pytest.approx(gradients.relative_bias(samples, clean), rel=1e-4)
    assert row["variance"] == pytest.approx(moments.variance_ratio, rel=1e-4)
    assert row["signal"] == pytest.approx(1 / (1 + row["variance"]))
    assert row["variance_low"] <= row["variance"] <= row["variance_high"]


def test_the_gain_is_that_of_the_jacobian(start, monkeypatch):
    monkeypatch.setattr(diagnostics, "PROBES", 40)
    physics, severity = PERTURBATIONS["ir_drop"], 300.0
    params = unstack(start, 0)
    batch = training.images(0, "diagnosis")
    # A small batch keeps it short; the chip is the same for all probes.
    few = {name: value[:16] for name, value in batch.items()}
    monkeypatch.setattr(diagnostics, "images", lambda seed, step: few)
    (row,) = diagnostics.diagnose(only(start, [0]), physics, "straight_through", [severity], [0], 2).to_dict("records")
    weights, biases = diagnostics._split(params)

    def logits(vector, hardware):
        tree = {**gradients.unflatten(vector, weights), **biases}
        return mlp(tree, few["x"], Crossbars(hardware, torch.tensor(severity), "straight_through", {}))

    at = gradients.flatten(weights)
    norms = [
        gradients.jacobian_norm(lambda vector, one=one: logits(vector, one), at, 300, runtime.stream(0, "probes"))
        for one in (None, physics)
    ]
    assert row["gain"] == pytest.approx(norms[1] / norms[0], rel=0.15)


def test_truth_tells_a_rule_that_ignores_the_hardware_from_one_that_does_not(start):
    physics = PERTURBATIONS["ir_drop"]
    truth = {
        rule: diagnostics.diagnose(only(start, [0]), physics, rule, [200.0], [0], 2).truth.item()
        for rule in ("autograd", "straight_through")
    }
    assert truth["autograd"] == pytest.approx(1, abs=0.02)
    assert abs(truth["straight_through"] - 1) > 0.3 and math.isfinite(truth["straight_through"])
