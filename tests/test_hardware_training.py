"""Training through hardware: replicas, random streams, evaluation on unseen chips, and the diagnostics."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lib import gradients, replicas, runtime
from lib.checks import ParameterError
from lib.hardware import diagnostics, training
from lib.hardware.crossbars import Crossbars, draw_chip, draw_read
from lib.hardware.devices import DAC, HARDWARE, Composite, PhaseChange
from lib.hardware.mitigation import Redundant
from lib.hardware.networks import digits
from lib.hardware.numbers import merged
from lib.hardware.perturbations import (
    ADC,
    PERTURBATIONS,
    Drift,
    IRDrop,
    ReadNoise,
    StuckAt,
    Variability,
    natural_scale,
    quantile_of_size,
    to_pair,
)
from lib.hardware.training import Trainer
from lib.replicas import Optimiser, flat, nested, unstack

CPU = torch.device("cpu")
SEEDS = (0, 1)
SHORT = Optimiser("adam", training.RATE, 4)
MLP = Trainer.named("mlp")
FIRST = MLP.network.layers[0]
FEW = dataclasses.replace(MLP, batch=16)
NORM = Trainer.named("cnn_norm", batch=64)


@pytest.fixture(scope="module")
def start():
    return MLP.fork(SEEDS, 25, CPU)


@pytest.fixture(scope="module")
def norm_start():
    return NORM.fork((0,), 40, CPU)


def only(tree, seeds):
    """The fork of some seeds."""
    return {name: value[list(seeds)] for name, value in tree.items()}


def numbers(physics, seed: int, *names, batch: int | None = None, net=MLP.network) -> dict:
    """A chip of a seed, drawn by hand; with a read of ``batch`` images that ``names`` stand for."""
    drawn = draw_chip(physics, net.shapes, runtime.stream(seed, physics.name, *names))
    if batch is None:
        return drawn
    return merged(drawn, draw_read(physics, net.shapes, batch, runtime.stream(seed, physics.name, "read", *names)))


# ------------------------------------------------------------------------------------------------ training


def test_the_constants():
    assert MLP.batch == 128 and training.RATE == 5e-3
    assert Trainer.named("mlp").network.name == MLP.network.name == "mlp" and MLP.data is digits()
    assert MLP.images(0, 3)["x"].shape == (128, 1, 8, 8) and MLP.images(0, 3)["y"].shape == (128,)


def test_clean_training_learns_the_digits(start):
    trained = MLP.train_clean(start, SEEDS, Optimiser("adam", training.RATE, 60), 25)
    assert (MLP.accuracy(start) > 0.75).all()
    assert (MLP.accuracy(trained) > 0.93).all()
    x, y = digits().test_x, digits().test_y
    by_hand = [(MLP.network(unstack(trained, i), x).argmax(1) == y).double().mean() for i in range(2)]
    assert torch.allclose(MLP.accuracy(trained), torch.stack(by_hand))


def test_test_images_judged_in_parts_give_the_same_accuracy(start, monkeypatch):
    whole = MLP.accuracy(start)
    monkeypatch.setattr(training, "_PART", 100)
    assert torch.allclose(MLP.accuracy(start), whole, atol=1e-9)
    seen = MLP.accuracy_on_chips(start, PERTURBATIONS["variability"], [1e-9], SEEDS, 1)
    assert torch.allclose(seen[:, 0], whole, atol=1.1 / 599)


@pytest.mark.parametrize("name", ["read_noise", "stuck_at", "ir_drop", "adc", "pcm"])
def test_a_replica_alone_gets_the_numbers_it_gets_in_a_batch(start, name):
    severities = HARDWARE[name].grid[-2:]
    steps = Optimiser("adam", training.RATE, 2) if name == "ir_drop" else SHORT
    rule = "straight_through" if name == "adc" else "autograd"
    batch = MLP.train_aware(start, HARDWARE[name], rule, severities, SEEDS, steps)
    alone = MLP.train_aware(only(start, [1]), HARDWARE[name], rule, severities[1:], [1], steps)
    for key, value in alone.params.items():
        assert torch.allclose(batch.params[key][3], value[0], atol=2e-4), key
    key = f"{FIRST}.weight"
    assert not torch.allclose(batch.params[key][2], batch.params[key][3], atol=2e-4)


def test_training_at_off_is_clean_training(start):
    clean = MLP.train_clean(start, SEEDS, SHORT, 25)
    for name in ("variability", "adc", "pcm", "dac"):
        physics = HARDWARE[name]
        aware = MLP.train_aware(start, physics, "autograd", [physics.off], SEEDS, SHORT, 25)
        for key, value in clean.items():
            assert torch.allclose(aware.params[key], value, atol=1e-5)


def by_hand(trainer, tree, physics, rule, severity, seed, optimiser, *, names=None, held=None):
    """A training with SGD in a plain loop over steps; ``names`` of the chip in every step."""
    params, net, size = flat(tree), trainer.network, len(trainer.images(seed, 0)["y"])
    velocity = {name: torch.zeros_like(value) for name, value in params.items()}
    for step in range(optimiser.steps):
        source = runtime.stream(seed, physics.name, *(names or ("training chip", step)))
        inputs = trainer.images(seed, step)
        drawn = merged(
            draw_chip(physics, net.shapes, source),
            draw_read(physics, net.shapes, size, runtime.stream(seed, physics.name, "read", "training", step)),
            held or {},
        )

        def loss(leaves, inputs=inputs, drawn=drawn):
            one = nested(leaves)
            crossbars = Crossbars(physics, torch.tensor(severity), rule, merged(drawn, one.get("learned", {})))
            return cross_entropy(net(one, inputs["x"], crossbars), inputs["y"])

        found = torch.func.grad(loss)(params)
        velocity = {name: 0.9 * value + found[name] for name, value in velocity.items()}
        params = {name: value - optimiser.rate * velocity[name] for name, value in params.items()}
    return nested(params)


PLAIN = Optimiser("sgd", 0.05, 3, cosine=False)


def assert_same(trained, replica, expected):
    seen = flat(trained.params)
    assert seen.keys() == flat(expected).keys()
    for path, value in flat(expected).items():
        assert torch.allclose(seen[path][replica], value, atol=1e-5), path


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("rule", ["autograd", "straight_through"])
def test_training_by_a_plain_loop_on_fresh_chips_or_on_the_known_one(start, known, rule):
    physics = Composite([Variability(), ReadNoise()])
    severities = [(0.05, 0.02), (0.2, 0.1)]
    trained = FEW.train_aware(start, physics, rule, severities, SEEDS, PLAIN, known=known)
    # The known chip is the first that the network will be judged on.
    names = ("unseen chip", 0) if known else None
    for replica, (severity, i) in enumerate((severity, i) for severity in severities for i in range(2)):
        expected = by_hand(FEW, unstack(start, i), physics, rule, severity, SEEDS[i], PLAIN, names=names)
        assert_same(trained, replica, expected)
    other = by_hand(FEW, unstack(start, 0), physics, rule, severities[1], 0, PLAIN, names=("unseen chip", 1))
    key = f"{FIRST}.weight"
    assert not torch.allclose(trained.params[key][2], other[key], atol=1e-4)


def test_a_held_scale_is_that_of_the_start(start):
    physics = Variability(scale="fixed")
    steps = dataclasses.replace(PLAIN, rate=0.5)
    trained = FEW.train_aware(start, physics, "autograd", [0.05], SEEDS, steps)
    free = FEW.train_aware(start, Variability(), "autograd", [0.05], SEEDS, steps)
    for i, seed in enumerate(SEEDS):
        tree = unstack(start, i)
        scales = {layer: natural_scale(tree[f"{layer}.weight"]) for layer in MLP.network.layers}
        held = {layer: {"array": {"scale": scale}} for layer, scale in scales.items()}
        assert_same(trained, i, by_hand(FEW, tree, physics, "autograd", 0.05, seed, steps, held=held))
    # It matters: the largest weights have grown, and are cut off.
    largest = [one.params[f"{FIRST}.weight"].abs().amax((1, 2)) for one in (trained, free)]
    assert not torch.allclose(*largest, rtol=1e-4)
    # In the evaluation it is held too, if the start is known.
    grown = {name: 2 * value for name, value in start.items()}
    seen, unheld = (MLP.accuracy_on_chips(grown, physics, [0.3], SEEDS, 2, start=given) for given in (start, None))
    assert not torch.equal(seen, unheld)


def test_a_held_share_is_that_of_the_circuit_at_the_start_without_any_chance(start):
    severity = torch.tensor([300.0, 300.0])
    frozen = IRDrop(load="frozen")
    found = MLP.held(start, frozen, severity)
    assert set(flat(found)) == {(layer, "ir_drop", "share") for layer in MLP.network.layers}
    for i in range(2):
        g = to_pair(start[f"{FIRST}.weight"][i]).g
        expected = IRDrop().seen(g, torch.tensor(300.0)) / g
        assert torch.allclose(found[FIRST]["ir_drop"]["share"][i], expected, rtol=1e-5)
    # On a chip of several parts: no device is stuck and none has varied when it is measured.
    whole = Composite([StuckAt(), frozen, Variability(scale="fixed")])
    composed = MLP.held(start, whole, torch.tensor([[0.1, 0.2, 300.0]]).expand(2, 3))
    assert {path[1:] for path in flat(composed)} == {("array", "scale"), ("ir_drop", "share")}
    assert torch.allclose(composed[FIRST]["ir_drop"]["share"], found[FIRST]["ir_drop"]["share"], rtol=1e-5)
    assert torch.allclose(
        composed[FIRST]["array"]["scale"], torch.stack([natural_scale(one) for one in start[f"{FIRST}.weight"]])
    )
    assert MLP.held(start, IRDrop(), severity) == {}
    trained = FEW.train_aware(only(start, [0]), frozen, "autograd", [300.0], [0], PLAIN)
    share = unstack(found, 0)
    assert_same(trained, 0, by_hand(FEW, unstack(start, 0), frozen, "autograd", 300.0, 0, PLAIN, held=share))


@pytest.mark.parametrize(
    "parts",
    [(Redundant(StuckAt(), copies=2), ADC(calibration="learned")), (Redundant(StuckAt()), IRDrop(load="frozen"))],
    ids=["learned", "held"],
)
def test_redundant_copies_are_not_all_stuck_where_something_else_is_calibrated(start, parts):
    """With nothing left to chance no copy is stuck: the other part is calibrated as if it were alone."""
    one = Composite(parts)
    alone = Composite(part for part in one.parts if not isinstance(part, Redundant))
    harsh = {"stuck_at": 0.3, "adc": 4.0} if one.learned else {"stuck_at": 0.3, "ir_drop": 300.0}
    severities = [
        [physics.check({name: harsh[name] for name in names})]
        for physics, names in ((one, harsh), (alone, [part.name for part in alone.parts]))
    ]
    if one.learned:
        steps = dataclasses.replace(SHORT, steps=1, rate=1e-12)
        found, expected = (
            FEW.train_aware(start, physics, "autograd", values, SEEDS, steps).params["learned"]
            for physics, values in zip((one, alone), severities, strict=True)
        )
    else:
        found, expected = (
            FEW.held(start, physics, torch.tensor(values).repeat(2, 1))
            for physics, values in zip((one, alone), severities, strict=True)
        )
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[path], expected[path], rtol=1e-4) for path in found)


@pytest.mark.parametrize("rule", ["autograd", "straight_through"])
def test_learned_ranges_begin_at_the_calibrated_ones_and_are_trained(start, rule):
    physics, severities = ADC(calibration="learned"), [3.0, 6.0]
    trained = FEW.train_aware(start, physics, rule, severities, SEEDS, PLAIN)
    paths = [(layer, "adc", "range") for layer in MLP.network.layers]
    assert set(trained.params) == {*start, "learned"} and list(flat(trained.params["learned"])) == paths
    for replica, (severity, i) in enumerate((severity, i) for severity in severities for i in range(2)):
        crossbars = Crossbars(physics, torch.tensor(severity), "autograd", {})
        MLP.network(unstack(start, i), digits().x, crossbars)
        first = {**unstack(start, i), "learned": crossbars.calibrated}
        expected = by_hand(FEW, first, physics, rule, severity, SEEDS[i], PLAIN)
        assert_same(trained, replica, expected)
        before, after = flat(crossbars.calibrated), flat(expected["learned"])
        moved = [not torch.allclose(after[path], before[path], rtol=1e-6) for path in paths]
        # Straight-through takes the clean product's gradient, in which there are no ranges.
        assert all(moved) if rule == "autograd" else not any(moved)
    # Its weights learn too, unlike behind a fixed converter; and what was learned is what judges.
    key = f"{FIRST}.weight"
    assert not torch.equal(trained.params[key][:2], start[key])
    fixed = FEW.train_aware(start, ADC(), "autograd", severities, SEEDS, PLAIN)
    assert torch.equal(fixed.params[key][:2], start[key])
    seen = MLP.accuracy_on_chips(trained.params, physics, severities, SEEDS, 3)
    crossbars = Crossbars(physics, torch.tensor(3.0), "autograd", unstack(trained.params["learned"], 0))
    right = MLP.network(unstack(trained.params, 0), digits().test_x, crossbars).argmax(1) == digits().test_y
    assert seen.shape == (4, 1) and seen[0].item() == pytest.approx(right.double().mean().item(), abs=1.1 / 599)


def test_only_ranges_join_the_parameters_of_a_normalised_network(norm_start):
    physics = ADC(calibration="learned", scale="fixed")
    trained = NORM.train_aware(norm_start, physics, "autograd", [5.0], (0,), dataclasses.replace(SHORT, steps=2))
    assert set(trained.params) == {*norm_start, "learned"}
    assert set(flat(trained.params["learned"])) == {(layer, "adc", "range") for layer in NORM.network.layers}
    seen = NORM.accuracy_on_chips(trained.params, physics, [5.0], (0,), 1, start=norm_start)
    assert seen.item() > 0.5
    assert NORM.accuracy(trained.params).item() > 0.5


def test_chips_differ_between_steps_and_seeds_but_not_between_severities(start, monkeypatch):
    physics, seen = PERTURBATIONS["variability"], []
    train = replicas.train

    def spy(loss, params, draw, optimiser, **options):
        seen.extend(draw(step) for step in range(2))
        return train(loss, params, draw, optimiser, **options)

    monkeypatch.setattr(replicas, "train", spy)
    severities = (0.05, 0.1, 0.2)
    MLP.train_aware(start, physics, "autograd", severities, SEEDS, dataclasses.replace(SHORT, steps=1))
    assert [given["severity"].tolist() for given in seen] == [pytest.approx([0.05, 0.05, 0.1, 0.1, 0.2, 0.2])] * 2
    chips = [given["chip"][FIRST]["variability"]["chip"] for given in seen]
    for chip in chips:
        assert torch.equal(chip[:2], chip[2:4]) and torch.equal(chip[:2], chip[4:])
    drawn = [chip[i] for chip in chips for i in range(2)]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert all(torch.equal(given["x"][:2], given["x"][2:4]) for given in seen)
    # By name: of the seed, of what it is for, of the step.
    assert torch.equal(chips[1][1], numbers(physics, 1, "training chip", 1)[FIRST]["variability"]["chip"])
    assert torch.equal(MLP.chip(physics, 1, "training chip", 1)[FIRST]["variability"]["chip"], chips[1][1])
    spread = training.spread([{"a": torch.tensor([0.0])}, {"a": torch.tensor([1.0])}], 3, CPU)
    assert spread["a"].flatten().tolist() == [0, 1, 0, 1, 0, 1]
    assert training.spread([{}, {}], 3, CPU) == {}
    assert training.severity_of_replicas([(1, 2), (3, 4)], SEEDS, CPU).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


# ------------------------------------------------------------------------------------------------ evaluation


@pytest.mark.parametrize("name", ["stuck_at", "read_noise", "pcm"])
def test_unseen_chips_by_a_plain_loop(start, name):
    physics, chips = HARDWARE[name], 3
    severities = physics.grid[1:4:2]
    params = training.tiled(start, 2)
    seen = MLP.accuracy_on_chips(params, physics, severities, SEEDS, chips)
    assert seen.shape == (4, chips)
    x, y = digits().test_x, digits().test_y
    for row, (severity, i) in enumerate((severity, i) for severity in severities for i in range(2)):
        for chip in range(chips):
            read = runtime.stream(SEEDS[i], name, "read", "unseen chip", chip, 0)
            drawn = numbers(physics, SEEDS[i], "unseen chip", chip)
            drawn = merged(drawn, draw_read(physics, MLP.network.shapes, len(y), read))
            crossbars = Crossbars(physics, torch.tensor(severity), "autograd", drawn)
            right = (MLP.network(unstack(start, i), x, crossbars).argmax(1) == y).double().mean().item()
            assert seen[row, chip].item() == pytest.approx(right, abs=2.1 / len(y))
    assert len(seen.unique()) > 6


def test_off_costs_nothing_and_without_randomness_there_is_one_chip(start):
    plain = MLP.accuracy(start)
    for name, physics in HARDWARE.items():
        seen = MLP.accuracy_on_chips(start, physics, [physics.off], SEEDS, 2)
        assert seen.shape == (2, 1 if name in ("ir_drop", "adc", "dac", "ideal") else 2)
        assert torch.allclose(seen, plain[:, None].expand_as(seen), atol=1e-9), name


def test_converters_are_calibrated_on_training_images(start, monkeypatch):
    physics = PERTURBATIONS["adc"]
    sizes, current = [], type(physics).current

    def spy(self, y, *given):
        sizes.append(len(y))
        return current(self, y, *given)

    monkeypatch.setattr(type(physics), "current", spy)
    one = unstack(start, 0)
    seen = MLP.accuracy_on_chips(only(start, [0]), physics, [4.0], [0], 1)
    # First all 1198 training images, layer by layer, then the test images.
    assert sizes == [1198] * 3 + [599] * 3
    monkeypatch.undo()
    y = digits().x.flatten(1) @ one[f"{FIRST}.weight"].T
    crossbars = Crossbars(physics, torch.tensor(4.0), "autograd", {})
    MLP.network(one, digits().x, crossbars)
    assert crossbars.calibrated[FIRST]["adc"]["range"].item() == pytest.approx(quantile_of_size(y, 0.99).item())
    found = flat(MLP.calibrate(only(start, [0]), physics, torch.tensor([4.0]), {}))
    expected = flat(crossbars.calibrated)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[path][0], expected[path], rtol=1e-5) for path in found)
    fixed = Crossbars(physics, torch.tensor(4.0), "autograd", dict(crossbars.calibrated))
    right = (MLP.network(one, digits().test_x, fixed).argmax(1) == digits().test_y).double().mean().item()
    assert seen.item() == pytest.approx(right, abs=1.1 / 599)
    # Whatever the test images are.
    far = dataclasses.replace(MLP, data=digits()._replace(test_x=50 * digits().test_x))
    again = flat(far.calibrate(only(start, [0]), physics, torch.tensor([4.0]), {}))
    assert all(torch.equal(again[path], found[path]) for path in found)


def test_calibration_averages_reads_away_and_has_a_chip_of_its_own(start):
    one, severity = Composite([ReadNoise(), ADC(), DAC()]), torch.tensor([[6.0, 0.4, 6.0]])
    params = only(start, [0])
    found = flat(MLP.calibrate(params, one, severity, {}))
    quiet = flat(MLP.calibrate(params, one, torch.tensor([[6.0, 0.0, 6.0]]), {}))
    assert set(found) == {(layer, part, "range") for part in ("adc", "dac") for layer in MLP.network.layers}
    assert all(torch.equal(found[path], quiet[path]) for path in found)
    # By hand: the ranges of the calibration chip, on every unseen chip.
    one, values = Composite([StuckAt(), ADC()]), (0.1, 4.0)
    seen = MLP.accuracy_on_chips(params, one, [values], [0], 2)
    first = Crossbars(one, torch.tensor(values), "autograd", numbers(one, 0, "calibration chip"))
    MLP.network(unstack(start, 0), digits().x, first)
    for chip in range(2):
        drawn = merged(numbers(one, 0, "unseen chip", chip), first.calibrated)
        crossbars = Crossbars(one, torch.tensor(values), "autograd", drawn)
        right = MLP.network(unstack(start, 0), digits().test_x, crossbars).argmax(1) == digits().test_y
        assert seen[0, chip].item() == pytest.approx(right.double().mean().item(), abs=2.1 / 599)


def test_a_measure_that_knows_the_chip_arranges_its_numbers(start):
    physics, plain = PERTURBATIONS["stuck_at"], MLP.accuracy(start)
    given = []

    def heal(chip, params):
        given.append((chip, params))
        return replicas.mapped(torch.ones_like, chip)

    params = training.tiled(start, 2)
    seen = MLP.accuracy_on_chips(params, physics, [0.1, 0.2], SEEDS, 2, arrange=heal)
    assert torch.allclose(seen, plain.repeat(2)[:, None].expand_as(seen), atol=1e-9)
    assert len(given) == 2 and all(params is one for _, one in given)
    chips = [chip for chip, _ in given]
    assert set(flat(chips[0])) == {(layer, "stuck_at", "chip") for layer in MLP.network.layers}
    expected = numbers(physics, 1, "unseen chip", 1)[FIRST]["stuck_at"]["chip"]
    assert torch.equal(chips[1][FIRST]["stuck_at"]["chip"][3], expected)
    unarranged = MLP.accuracy_on_chips(params, physics, [0.1, 0.2], SEEDS, 2)
    assert (unarranged < seen).all()


def test_batch_statistics_recalibrated_on_each_chip_undo_most_of_drift(norm_start):
    physics, severities = PERTURBATIONS["drift"], [3.15e9]
    plain = NORM.accuracy(norm_start)
    assert plain.item() > 0.8
    seen = {
        statistics: NORM.accuracy_on_chips(norm_start, physics, severities, (0,), 3, statistics=statistics)
        for statistics in training.STATISTICS
    }
    off, each = seen["off chip"].mean(), seen["each chip"].mean()
    assert each > off + 0.1 and each > plain.item() - 0.15
    # By hand, chip by chip, on training images.
    for chip in range(3):
        drawn = numbers(physics, 0, "unseen chip", chip, net=NORM.network)
        tree, severity = unstack(norm_start, 0), torch.tensor(severities[0])
        first = Crossbars(physics, severity, "autograd", drawn)
        NORM.network(tree, digits().x, first)
        crossbars = Crossbars(physics, severity, "autograd", merged(drawn, first.calibrated))
        right = NORM.network(tree, digits().test_x, crossbars).argmax(1) == digits().test_y
        assert seen["each chip"][0, chip].item() == pytest.approx(right.double().mean().item(), abs=2.1 / 599)
    # Those of another chip of the same age are nearly as good here; off chip they are the clean network's.
    assert seen["another chip"].mean() > off + 0.1
    assert torch.equal(seen["off chip"], NORM.accuracy_on_chips(norm_start, physics, severities, (0,), 3))


def test_the_accuracy_of_a_normalised_network_uses_statistics_of_training_images(norm_start):
    tree = unstack(norm_start, 0)
    first = Crossbars(None, torch.tensor(0.0), "autograd", {})
    NORM.network(tree, digits().x, first)
    fixed = Crossbars(None, torch.tensor(0.0), "autograd", dict(first.calibrated))
    right = NORM.network(tree, digits().test_x, fixed).argmax(1) == digits().test_y
    assert NORM.accuracy(norm_start).item() == pytest.approx(right.double().mean().item(), abs=1.1 / 599)


def test_unknown_statistics_are_refused(start):
    with pytest.raises(ParameterError, match="^statistics must be one of .*, but 'fresh' was given.$"):
        MLP.accuracy_on_chips(start, PERTURBATIONS["drift"], [1e5], SEEDS, 1, statistics="fresh")
    # A network without normalisation has none, whichever are asked for.
    seen = [
        MLP.accuracy_on_chips(start, PERTURBATIONS["drift"], [1e5], SEEDS, 2, statistics=one)
        for one in training.STATISTICS
    ]
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])


def test_training_on_the_known_chip_helps_on_that_chip(start):
    physics, severity = PERTURBATIONS["stuck_at"], [0.1]
    steps = Optimiser("adam", training.RATE, 40)
    fresh = MLP.train_aware(start, physics, "straight_through", severity, SEEDS, steps, 25)
    known = MLP.train_aware(start, physics, "straight_through", severity, SEEDS, steps, 25, known=True)
    on_it = [MLP.accuracy_on_chips(one.params, physics, severity, SEEDS, 1).mean() for one in (fresh, known)]
    assert on_it[1] > on_it[0] + 0.03


# ------------------------------------------------------------------------------------------------ diagnostics


def test_at_off_every_diagnostic_is_that_of_the_clean_network(start):
    for name in ("variability", "adc"):
        physics = PERTURBATIONS[name]
        for rule in ("autograd", "straight_through", "unaware"):
            table = diagnostics.diagnose(MLP, only(start, [0]), physics, rule, [physics.off], [0], 4)
            (row,) = table.to_dict("records")
            assert row["cosine"] == pytest.approx(1, abs=1e-6) and row["bias"] == pytest.approx(0, abs=1e-5)
            assert row["truth"] == pytest.approx(1, abs=0.02)
            assert row["variance"] == pytest.approx(0, abs=1e-9) and row["signal"] == pytest.approx(1)
            assert row["live"] == row["gain"] == row["rank"] == pytest.approx(1, abs=1e-5)


def test_diagnostics_of_an_adc(start):
    physics = PERTURBATIONS["adc"]
    vanilla = diagnostics.diagnose(MLP, start, physics, "autograd", [4.0], SEEDS, 4)
    for column in ("cosine", "truth", "signal", "live", "gain", "rank"):
        assert (vanilla[column] == 0).all(), column
    assert vanilla.variance.isna().all() and np.allclose(vanilla.bias, 1)
    through = diagnostics.diagnose(MLP, start, physics, "straight_through", [6.0, 3.0], SEEDS, 4)
    assert (through.cosine > 0.5).all() and (through.live > 0.9).all() and (through.signal == 1).all()
    mild, harsh = (through[through.severity == bits].cosine.mean() for bits in (6.0, 3.0))
    assert mild > harsh


@pytest.mark.parametrize(
    ("physics", "severity"),
    [(Variability(), 0.1), (PhaseChange(), 1e6), (Composite([Drift(), ReadNoise(scale="fixed")]), (1e6, 0.1))],
    ids=["variability", "pcm", "composite"],
)
def test_diagnostics_by_a_plain_loop(start, physics, severity):
    count = 6
    table = diagnostics.diagnose(MLP, only(start, [1]), physics, "straight_through", [severity], [1], count)
    (row,) = table.to_dict("records")
    # Every part of a composed chip has its own.
    if isinstance(severity, tuple):
        assert "severity" not in row and row["chip_index"] == 0
        assert (row["severity_drift"], row["severity_read_noise"]) == severity
    else:
        assert row["severity"] == pytest.approx(severity)
    params, batch = unstack(start, 1), MLP.images(1, "diagnosis")
    weights = [f"{layer}.weight" for layer in MLP.network.layers]

    def gradient(hardware, sample):
        chip = draw_chip(physics, MLP.network.shapes, runtime.stream(1, physics.name, "diagnosis chip", sample))
        source = runtime.stream(1, physics.name, "read", "diagnosis", sample)
        read = draw_read(physics, MLP.network.shapes, len(batch["y"]), source)
        inputs = {**batch, "chip": chip, "read": read, "severity": torch.tensor(severity)}
        tree = torch.func.grad(MLP.objective)(params, inputs, hardware, "straight_through")
        return torch.cat([tree[name].flatten() for name in weights])

    clean = gradient(None, 0)
    samples = torch.stack([gradient(physics, sample) for sample in range(count)])
    moments = gradients.statistics(samples)
    value, ends = gradients.expected_cosine(samples, clean)
    found = [row[name] for name in ("cosine", "cosine_low", "cosine_high")]
    assert found == pytest.approx([value, *ends], rel=1e-3, nan_ok=True)
    assert row["bias"] == pytest.approx(gradients.relative_bias(samples, clean), rel=1e-4)
    assert row["variance"] == pytest.approx(moments.variance_ratio, rel=1e-4)
    assert row["signal"] == pytest.approx(1 / (1 + row["variance"]))
    assert row["variance_low"] <= row["variance"] <= row["variance_high"]


def test_the_gain_is_that_of_the_jacobian(start, monkeypatch):
    monkeypatch.setattr(diagnostics, "PROBES", 40)
    physics, severity = PERTURBATIONS["ir_drop"], 300.0
    params = unstack(start, 0)
    # A small batch keeps it short; the chip is the same for all probes.
    few = FEW.images(0, "diagnosis")
    table = diagnostics.diagnose(FEW, only(start, [0]), physics, "straight_through", [severity], [0], 2)
    (row,) = table.to_dict("records")
    weights = MLP.network.weights(params)
    biases = {name: value for name, value in params.items() if name not in weights}

    def logits(vector, hardware):
        tree = {**gradients.unflatten(vector, weights), **biases}
        crossbars = Crossbars(hardware, torch.tensor(severity), "straight_through", {})
        return MLP.network(tree, few["x"], crossbars)

    at = gradients.flatten(weights)
    # The whole Jacobian, row by row: no random probes.
    norms = [torch.func.jacrev(lambda vector, one=one: logits(vector, one))(at).norm() for one in (None, physics)]
    assert row["gain"] == pytest.approx(float(norms[1] / norms[0]), rel=0.15)


def test_truth_tells_a_rule_that_ignores_the_hardware_from_one_that_does_not(start):
    physics = PERTURBATIONS["ir_drop"]
    truth = {
        rule: diagnostics.diagnose(MLP, only(start, [0]), physics, rule, [200.0], [0], 2).truth.item()
        for rule in ("autograd", "straight_through")
    }
    assert truth["autograd"] == pytest.approx(1, abs=0.02)
    assert abs(truth["straight_through"] - 1) > 0.3 and math.isfinite(truth["straight_through"])


@pytest.mark.parametrize("rule", ["autograd", "straight_through"])
def test_diagnostics_of_a_normalised_network_on_a_composed_chip(norm_start, rule):
    physics = Composite([Variability(), ReadNoise()])
    few = dataclasses.replace(NORM, batch=32)
    severities = [(0.0, 0.0), (0.3, 0.1)]
    table = diagnostics.diagnose(few, norm_start, physics, rule, severities, (0,), 4)
    assert table.chip_index.tolist() == [0, 1] and table.severity_read_noise.tolist() == [0.0, 0.1]
    off, on = table.to_dict("records")
    assert off["cosine"] == pytest.approx(1, abs=1e-5) and off["variance"] == pytest.approx(0, abs=1e-8)
    assert on["cosine"] < 0.95 and on["variance"] > 0.01


def test_calibration_sees_every_class_when_pictures_come_class_by_class(monkeypatch):
    order = digits().y.argsort(stable=True)
    data = digits()._replace(x=digits().x[order], y=digits().y[order])
    monkeypatch.setattr(training, "CALIBRATION", 40)
    seen = []
    one = dataclasses.replace(NORM, data=data, network=lambda own, x, product: seen.append(x) or x.sum())
    one.network.shapes = NORM.network.shapes
    one.calibrate({"weight": torch.zeros(1, 1)}, None, torch.zeros(1), {})
    (pictures,) = seen
    assert len(pictures) == 40
    places = [int((data.x == picture).flatten(1).all(1).nonzero()[0]) for picture in pictures]
    assert set(data.y[places].tolist()) == set(range(10))


@pytest.mark.parametrize("name", ["read_noise", "stuck_at", "adc"])
def test_what_does_not_fit_at_once_is_computed_in_parts(start, name, monkeypatch):
    """Fewer replicas and fewer images at a time: the same training, and the same accuracy where no read is drawn."""
    physics, severities = PERTURBATIONS[name], PERTURBATIONS[name].grid[2:4]
    rule = "straight_through" if name == "adc" else "autograd"
    trainer = Trainer.named("mlp")
    whole = trainer.train_aware(start, physics, rule, severities, SEEDS, SHORT)
    right = trainer.accuracy_on_chips(whole.params, physics, severities, SEEDS, 2)
    numbers = 10 * 106 * trainer.batch * 3
    monkeypatch.setattr(training, "_NUMBERS", numbers)
    assert trainer._fit(trainer.batch, 4) == (96, 3) and trainer._fit(trainer.batch, 2) == (128, None)
    parts = trainer.train_aware(start, physics, rule, severities, SEEDS, SHORT)
    for key, value in whole.params.items():
        assert torch.allclose(parts.params[key], value, atol=2e-4), key
    again = trainer.accuracy_on_chips(whole.params, physics, severities, SEEDS, 2)
    assert (again - right).abs().max() <= (0.05 if name == "read_noise" else 2.1 / 599)


def test_a_batch_has_an_image_for_every_group():
    with pytest.raises(ParameterError, match="^batch must be an integer of at least 8, but 4 was given.$"):
        Trainer.named("mlp", batch=4)
