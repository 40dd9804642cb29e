"""The scale between weights and conductances, noise injection, clipping, digital layers and several chips a step."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

from lib import runtime
from lib.checks import ParameterError
from lib.hardware import diagnostics, training
from lib.hardware.crossbars import Crossbars, draw_chip, draw_read, on_chip
from lib.hardware.devices import DAC, Composite, FlickerNoise, make
from lib.hardware.mitigation import Redundant, remapped
from lib.hardware.numbers import merged
from lib.hardware.perturbations import (
    ADC,
    SCALES,
    WINDOW,
    Drift,
    IRDrop,
    ReadNoise,
    StuckAt,
    Variability,
    natural_scale,
    to_pair,
)
from lib.hardware.training import Trainer
from lib.replicas import Optimiser, unstack

CPU = torch.device("cpu")
MLP = Trainer.named("mlp", batch=16)
FIRST, SECOND, LAST = MLP.network.layers
PLAIN = Optimiser("sgd", 0.05, 3, cosine=False)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed)).double()


@pytest.fixture(scope="module")
def start():
    return MLP.fork((0, 1), 20, CPU)


def chip_of(physics, x: torch.Tensor, weight: torch.Tensor) -> dict:
    """The numbers of a chip and of a read for one layer, in double precision."""
    own = physics.parts_of(physics.draw_chip(tuple(weight.shape), seeded(1)))
    read = physics.parts_of(physics.draw_read((*x.shape[:-1], weight.shape[-2]), seeded(2)))
    drawn = merged({"layer": own}, {"layer": read})
    return {
        "layer": {
            part: {kind: value.double() for kind, value in own.items()} for part, own in drawn.get("layer", {}).items()
        }
    }


def product(physics, severity, x, weight, rule="autograd", **more):
    level = torch.tensor(severity, dtype=torch.float64)
    return Crossbars(physics, level, rule, chip_of(physics, x, weight), **more)("layer", x, weight)


def slopes(physics, severity, x, weight, rule="autograd", **more):
    """What arrives at weight and input of a gradient sent into the product."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = product(physics, severity, x, weight, rule, **more)
    return torch.autograd.grad(y, (weight, x), normal(*y.shape, seed=3))


def measured(physics, severity, x, weight, held: torch.Tensor | None = None, size: float = 1e-6):
    """The slope along one direction of the weights by finite differences; with a scale ``held`` where it is given."""
    direction = normal(*weight.shape, seed=4)
    if held is not None:
        # At a scale that stays, a device at the end of its window has a slope to one side only.
        direction = direction * (weight.abs() < weight.abs().amax(-1, keepdim=True))
    ahead = []
    for sign in (1, -1):
        drawn = chip_of(physics, x, weight)
        at = weight + sign * size * direction
        if held is None:
            crossbars = Crossbars(physics, torch.tensor(severity, dtype=torch.float64), "autograd", drawn)
            y = crossbars("layer", x, at)
        else:
            # The same law by its general way, on arrays at a scale that stays.
            own = physics.own(drawn["layer"])
            scaled = held * at
            g = torch.stack([scaled.relu(), (-scaled).relu()]) + WINDOW.low
            level = torch.tensor(severity, dtype=torch.float64)
            changed = physics.conductance(g, level, own) if physics.arrays else g
            deviation = changed - g
            seen = at + (deviation[0] - deviation[1]) / held
            y = x @ seen.mT
            if isinstance(physics, ReadNoise):
                of_currents = held.mT if held.dim() else held
                length = x.norm(dim=-1, keepdim=True)
                y = y + severity * math.sqrt(2) * WINDOW.high / of_currents * length * own["read"]
        sent = normal(*y.shape, seed=3)
        ahead.append((y * sent).sum().item())
    return (ahead[0] - ahead[1]) / (2 * size), direction


CASES = [
    (Variability, 0.1, 1e-6),
    (ReadNoise, 0.1, 1e-6),
    (StuckAt, 0.2, 1e-6),
    (Drift, 1e6, 1e-6),
    (IRDrop, 500.0, 1e-4),
]


@pytest.mark.parametrize("groups", [(), (3,)], ids=["linear", "groups"])
@pytest.mark.parametrize(("kind", "severity", "size"), CASES, ids=lambda one: getattr(one, "name", ""))
def test_the_gradient_follows_the_scale_or_holds_it(kind, severity, size, groups):
    x, weight = normal(5, *groups, 7, 6), normal(*groups, 4, 6, seed=1)
    real = {scale: slopes(kind(scale=scale), severity, x, weight)[0] for scale in SCALES[:3]}
    close = 1e-3 if kind is IRDrop else 1e-5
    slope, direction = measured(kind(), severity, x, weight, size=size)
    whole = natural_scale(weight)
    assert (real["differentiated"] * direction).sum().item() == pytest.approx(slope, rel=close)
    # Only a scale that is differentiated knows of the largest weight.
    unlike = real["differentiated"] != real["detached"]
    assert unlike.flatten()[weight.abs().argmax()]
    held, direction = measured(kind(), severity, x, weight, whole, size)
    assert (real["detached"] * direction).sum().item() == pytest.approx(held, rel=close)
    each = (WINDOW.high - WINDOW.low) / weight.abs().amax(-1, keepdim=True)
    held, _ = measured(kind(), severity, x, weight, each, size)
    assert (real["column"] * direction).sum().item() == pytest.approx(held, rel=close)


@pytest.mark.parametrize("kind", [Variability, ReadNoise, StuckAt, FlickerNoise])
def test_detached_changes_the_gradient_of_the_largest_weight_alone(kind):
    severity = 3600.0 if kind is FlickerNoise else 0.2
    x, weight = normal(5, 6), normal(4, 6, seed=1)
    values = [product(kind(scale=scale), severity, x, weight) for scale in ("differentiated", "detached")]
    assert torch.equal(*values)
    one, other = (slopes(kind(scale=scale), severity, x, weight)[0] for scale in ("differentiated", "detached"))
    differs = (one - other).abs() > 1e-9
    assert differs.sum() == 1 and differs.flatten()[weight.abs().argmax()]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", [Variability, ReadNoise, StuckAt, Drift, IRDrop])
def test_off_is_the_plain_product_bit_by_bit_at_every_scale(kind, scale):
    for groups in ((), (3,)):
        x, weight = normal(5, *groups, 7, 6).float(), normal(*groups, 4, 6, seed=1).float()
        off = torch.tensor(kind.off)
        for rule in ("autograd", "noise_injection", "straight_through"):
            physics = kind(scale=scale)
            drawn = merged(
                *(
                    {"layer": physics.parts_of(own)}
                    for own in (
                        physics.draw_chip(tuple(weight.shape), seeded(1)),
                        physics.draw_read((5, *groups, 7, 4), seeded(2)),
                    )
                )
            )
            seen = Crossbars(physics, off, rule, drawn)("layer", x, weight)
            expected = linear(x, weight) if not groups else x @ weight.mT
            assert torch.equal(seen, expected)


@pytest.mark.parametrize("scale", SCALES)
def test_replicas_in_a_batch_get_what_each_gets_alone(scale):
    physics = Composite([Variability(scale=scale), ReadNoise()])
    weights, x = normal(3, 4, 6), normal(3, 5, 6, seed=1)
    drawn = chip_of(physics, x[0], weights[0])["layer"]
    level = torch.tensor([0.1, 0.1]).double()

    def one(weight, x):
        return Crossbars(physics, level, "autograd", {"layer": drawn})("layer", x, weight).square().sum()

    batch = torch.func.vmap(torch.func.grad(one))(weights, x)
    for weight, inputs, seen in zip(weights, x, batch, strict=True):
        assert torch.allclose(torch.func.grad(one)(weight, inputs), seen)


def test_a_column_scale_uses_the_whole_window_in_every_column():
    weight = normal(4, 6) * torch.tensor([[1.0], [0.01], [10.0], [0.0]])
    pair = to_pair(weight, kind="column")
    largest = pair.g.amax((0, 2))
    assert pair.scale.shape == (4, 1) and torch.allclose(largest[:3], torch.full((3,), WINDOW.high).double())
    # A column of zeros errs like its layer, which is no more and no less than finite.
    assert pair.scale[3] == natural_scale(weight) and largest[3] == WINDOW.low
    zeros = torch.zeros(4, 6)
    assert torch.equal(natural_scale(zeros, kind="column"), torch.full((4, 1), WINDOW.high - WINDOW.low))
    for scale in SCALES[:3]:
        y = product(StuckAt(scale=scale), 0.5, normal(5, 6), zeros.double())
        assert y.isfinite().all() and y.any()


def test_column_noise_is_smaller_in_columns_of_small_weights():
    weight = normal(4, 600) * torch.tensor([[1.0], [0.01], [1.0], [0.01]])
    x = normal(200, 600, seed=5)
    for kind in (ReadNoise, Variability):
        clean = x @ weight.mT
        of = {scale: (product(kind(scale=scale), 0.1, x, weight) - clean).std(0) for scale in ("detached", "column")}
        assert torch.allclose(of["column"][[0, 2]], of["detached"][[0, 2]], rtol=0.4)
        assert (of["column"][[1, 3]] < 0.03 * of["detached"][[1, 3]]).all()


def test_parts_share_one_scale():
    assert Composite([Variability(scale="detached"), ReadNoise()]).scale == "detached"
    with pytest.raises(ParameterError, match="^parts must share one scale, but column, detached were given.$"):
        Composite([Variability(scale="detached"), ReadNoise(scale="column")])
    assert make("pcm", scale="column").scale == "column" and make("variability", scale="detached").scale == "detached"
    assert Redundant(Variability(scale="column")).scale == "column"
    with pytest.raises(ParameterError, match="^part must be a perturbation of single devices, with its own scale"):
        Redundant(Variability(scale="fixed"))
    with pytest.raises(ParameterError, match="^scale must be one for the whole array where its lines are remapped"):
        remapped(StuckAt(scale="column"), torch.tensor([0.1]))


# --------------------------------------------------------------------------------------------- noise injection


def test_noise_injection_is_the_formula_on_two_layers():
    x, first, second = normal(5, 6), normal(4, 6, seed=1), normal(3, 4, seed=2)
    noisy = {"a": first + 0.3 * normal(4, 6, seed=5), "b": second + 0.3 * normal(3, 4, seed=6)}

    class Given(Variability):
        """Devices that come out so that the network sees a weight that is given."""

        name, alone = "given", False

        def conductance(self, g, severity, drawn):
            change = drawn["seen"] - drawn["meant"]
            scale = natural_scale(drawn["meant"])
            return torch.stack([g[0] + scale * change, g[1]])

    drawn = {
        "a": {"given": {"seen": noisy["a"], "meant": first}},
        "b": {"given": {"seen": noisy["b"], "meant": second}},
    }
    crossbars = Crossbars(Given(), torch.tensor(1.0).double(), "noise_injection", drawn)
    one, two, into = (value.clone().requires_grad_() for value in (first, second, x))
    y = crossbars("b", torch.tanh(crossbars("a", into, one)), two)
    sent = normal(*y.shape, seed=3)
    found = torch.autograd.grad(y, (one, two, into), sent)
    # By hand: forward and input gradient through what was seen, weight gradients passed on as they are.
    hidden = torch.tanh(x @ noisy["a"].T)
    assert torch.allclose(y, hidden @ noisy["b"].T)
    back = (sent @ noisy["b"]) * (1 - hidden**2)
    for seen, expected in zip(found, (back.T @ x, sent.T @ hidden, back @ noisy["a"]), strict=True):
        assert torch.allclose(seen, expected)


@pytest.mark.parametrize(
    ("physics", "severity"),
    [
        (Variability(), 0.1),
        (StuckAt(), 0.1),
        (IRDrop(), 500.0),
        (ReadNoise(), 0.2),
        (Composite([Variability(), Drift(compensation="global"), ReadNoise(), ADC(), DAC()]), (0.1, 1e5, 0.1, 4, 4)),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_every_rule_computes_what_the_chip_computes(physics, severity):
    if isinstance(physics, Composite):
        severity = physics.check(dict(zip(("variability", "drift", "read_noise", "adc", "dac"), severity, strict=True)))
    x, weight = normal(5, 6), normal(4, 6, seed=1)
    real, *others = (
        product(physics, severity, x, weight, rule) for rule in ("autograd", "noise_injection", "straight_through")
    )
    assert all(torch.allclose(real, one, rtol=1e-12) for one in others)


def test_additive_read_noise_is_no_matter_to_noise_injection():
    x, weight = normal(5, 6), normal(4, 6, seed=1)
    into_weight, into_x = slopes(ReadNoise(), 0.3, x, weight, "noise_injection")
    sent = normal(5, 4, seed=3)
    assert torch.allclose(into_weight, sent.T @ x) and torch.allclose(into_x, sent @ weight)


@pytest.mark.parametrize("rule", ["noise_injection", "straight_through"])
def test_a_converter_that_cuts_off_passes_nothing_on(rule):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    with on_chip(layer, ADC(calibration="largest"), 3, rule=rule):
        layer(torch.linspace(0, 1, 20)[:, None])
        for value, expected in ((50.0, 0.0), (0.5, 0.5), (-50.0, 0.0)):
            y = layer(torch.tensor([[value]]))
            assert abs(y.item()) <= 1
            (slope,) = torch.autograd.grad(y, layer.weight)
            assert slope.item() == expected
    # A converter at the input cuts off the gradient of the input, and what it lets through reaches the weight.
    with on_chip(layer, DAC(), 3, rule=rule):
        layer(torch.linspace(0, 1, 20)[:, None])
        for value, expected in ((50.0, 0.0), (0.5, 1.0)):
            x = torch.tensor([[value]], requires_grad=True)
            (into,) = torch.autograd.grad(layer(x), x)
            assert into.item() == expected


def test_in_a_composed_chip_only_what_the_converter_lets_through_has_a_gradient():
    physics = Composite([Variability(), ADC(quantile=0.5)])
    x, weight = normal(40, 6), normal(4, 6, seed=1)
    noisy = product(Variability(), 0.1, x, weight)
    for rule in ("noise_injection", "straight_through"):
        _, into = slopes(physics, (0.1, 4.0), x, weight, rule)
        bound = noisy.abs().flatten().topk(noisy.numel() // 2).values[-1]
        passes = (noisy.abs() <= bound).double()
        seen = torch.autograd.functional.jacobian(lambda x: product(Variability(), 0.1, x, weight).sum(0), x)
        used = weight if rule == "straight_through" else seen[:, 0]
        assert torch.allclose(into, (normal(40, 4, seed=3) * passes) @ used, atol=1e-9)


# --------------------------------------------------------------------------------------- trainer and its options


def test_clipping_cuts_the_weights_of_every_replica_at_its_own_deviation(start):
    cut = MLP.clipped(start, 1.5)
    for layer in MLP.network.layers:
        for before, after in zip(start[f"{layer}.weight"], cut[f"{layer}.weight"], strict=True):
            bound = 1.5 * before.std()
            assert torch.allclose(after, before.clamp(-bound, bound)) and (after != before).any()
        assert torch.equal(cut[f"{layer}.bias"], start[f"{layer}.bias"])
    with pytest.raises(ParameterError, match="^deviations must be "):
        MLP.clipped(start, 0)


def by_hand(tree, physics, severity, seed, *, clip=None, chips=1, rule="autograd", steps=3):
    """SGD in a plain loop, the weights cut off at the start and after every step."""
    net, size = MLP.network, MLP.batch
    weights = [f"{layer}.weight" for layer in net.layers]

    def cut(params):
        if clip is None:
            return params
        bounds = {name: clip * params[name].std() for name in weights}
        return {
            name: value.clamp(-bounds[name], bounds[name]) if name in weights else value
            for name, value in params.items()
        }

    params = cut(dict(tree))
    velocity = {name: torch.zeros_like(value) for name, value in params.items()}
    for step in range(steps):
        inputs, found = MLP.images(seed, step), {name: 0.0 for name in params}
        for chip in range(chips):
            more = (chip,) if chip else ()
            drawn = merged(
                draw_chip(physics, net.shapes, runtime.stream(seed, physics.name, "training chip", step, *more)),
                draw_read(
                    physics, net.shapes, size, runtime.stream(seed, physics.name, "read", "training", step, *more)
                ),
            )

            def loss(one, drawn=drawn, inputs=inputs):
                crossbars = Crossbars(physics, torch.tensor(severity), rule, drawn)
                return cross_entropy(net(one, inputs["x"], crossbars), inputs["y"])

            slope = torch.func.grad(loss)(params)
            found = {name: found[name] + slope[name] / chips for name in params}
        velocity = {name: 0.9 * value + found[name] for name, value in velocity.items()}
        params = cut({name: value - PLAIN.rate * velocity[name] for name, value in params.items()})
    return params


@pytest.mark.parametrize(("clip", "chips"), [(2.0, 1), (None, 3), (1.5, 2)])
def test_clipped_training_on_several_chips_by_a_plain_loop(start, clip, chips):
    physics = Composite([Variability(scale="detached"), ReadNoise()])
    severities = [(0.05, 0.02), (0.2, 0.1)]
    before = {name: value.clone() for name, value in start.items()}
    trained = MLP.train_aware(start, physics, "noise_injection", severities, (0, 1), PLAIN, clip=clip, chips=chips)
    for replica, (severity, i) in enumerate((severity, i) for severity in severities for i in range(2)):
        given = {"clip": clip, "chips": chips, "rule": "noise_injection"}
        expected = by_hand(unstack(start, i), physics, severity, i, **given)
        for name, value in expected.items():
            assert torch.allclose(trained.params[name][replica], value, atol=1e-5), name
    assert all(torch.equal(start[name], value) for name, value in before.items())


def test_clipping_holds_at_the_end_and_goes_with_what_is_held_and_learned(start):
    physics = Composite([IRDrop(load="frozen"), ReadNoise(scale="fixed"), ADC(calibration="learned")])
    severity = physics.check({"ir_drop": 100.0, "read_noise": 0.1, "adc": 6})
    one = {name: value[:1] for name, value in start.items()}
    trained = MLP.train_aware(one, physics, "autograd", [severity], (0,), PLAIN, clip=2.0, chips=2)
    for layer in MLP.network.layers:
        weight = trained.params[f"{layer}.weight"][0]
        assert weight.isfinite().all() and (weight.abs() == weight.abs().max()).sum() > 1


def test_one_chip_where_nothing_is_random(start):
    given = (start, ADC(), "straight_through", [4.0], (0, 1), PLAIN)
    one, several = (MLP.train_aware(*given, chips=chips).params for chips in (1, 3))
    assert all(torch.equal(one[name], several[name]) for name in one)
    with pytest.raises(ParameterError, match="^chips must be "):
        MLP.train_aware(*given, chips=0)
    with pytest.raises(ParameterError, match="^clip must be "):
        MLP.train_aware(*given, clip=-1.0)


def test_a_digital_layer_is_nowhere_on_the_chip(start):
    away = dataclasses.replace(MLP, digital=(LAST, FIRST))
    physics = Composite([Variability(), ADC()])
    severity = physics.check({"variability": 0.2, "adc": 3})
    found = away.calibrate(
        start,
        physics,
        torch.tensor([severity] * 2),
        {
            layer: {"variability": {"chip": torch.zeros(2, 2, *shape.weight)}}
            for layer, shape in MLP.network.shapes.items()
        },
    )
    assert list(found) == [SECOND]
    assert list(away.weights(start)) == [f"{SECOND}.weight"]
    assert torch.equal(away.clipped(start, 1.0)[f"{LAST}.weight"], start[f"{LAST}.weight"])
    trained = away.train_aware(start, physics, "autograd", [severity], (0, 1), PLAIN)
    # Nothing passes the converter of the second layer, so the first learns nothing, and the digital last one does.
    assert torch.equal(trained.params[f"{FIRST}.weight"], start[f"{FIRST}.weight"])
    assert not torch.equal(trained.params[f"{LAST}.weight"], start[f"{LAST}.weight"])
    seen = away.accuracy_on_chips(start, physics, [severity], (0, 1), 2)
    whole = MLP.accuracy_on_chips(start, physics, [severity], (0, 1), 2)
    assert (seen > whole).all()
    table = diagnostics.diagnose(away, start, physics, "straight_through", [severity], (0, 1), 3)
    assert table.live.between(0, 1.01).all()
    with pytest.raises(ParameterError, match="^digital must be one or more different names out of"):
        Trainer.named("mlp", digital=("none",))
    with pytest.raises(ParameterError, match="^digital must leave a layer on the chip, but .* was given.$"):
        Trainer.named("mlp", digital=MLP.network.layers)


def test_truth_is_measured_on_other_chips_than_those_that_gave_the_direction(start):
    physics, severity, count = Variability(), 0.3, 3
    one = {name: value[:1] for name, value in start.items()}
    (row,) = diagnostics.diagnose(MLP, one, physics, "autograd", [severity], (0,), count).to_dict("records")
    params, batch = unstack(start, 0), MLP.images(0, "diagnosis")
    weights = {f"{layer}.weight": params[f"{layer}.weight"] for layer in MLP.network.layers}

    def loss(weights, sample):
        chip = draw_chip(physics, MLP.network.shapes, runtime.stream(0, physics.name, "diagnosis chip", sample))
        inputs = {**batch, "chip": chip, "severity": torch.tensor(severity)}
        return MLP.objective({**params, **weights}, inputs, physics, "autograd")

    sampled = [torch.func.grad(loss)(weights, sample) for sample in range(count)]
    direction = {name: sum(one[name] for one in sampled) / count for name in weights}
    norm = math.sqrt(sum(float(one.square().sum()) for one in direction.values()))
    others = range(diagnostics.PROBES, diagnostics.PROBES + count)
    along = sum(
        float((torch.func.grad(loss)(weights, sample)[name] * direction[name]).sum()) / count
        for sample in others
        for name in weights
    )
    assert row["truth"] == pytest.approx(along / norm**2, abs=0.02)


def test_every_perturbation_trains_as_long_as_the_others():
    from paper.studies.perturbation import PerturbationStudy

    slow, quick = (PerturbationStudy(perturbation=name).cells()[0] for name in ("ir_drop", "read_noise"))
    assert slow.config["start"] == quick.config["start"]


def test_training_rate_is_that_of_adam():
    assert training.RATE == 5e-3
