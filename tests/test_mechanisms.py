"""Mechanisms: hardware with one thing held, layers one by one, and claims that go both ways."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from lib import runtime
from lib.checks import ParameterError
from lib.hardware.crossbars import Crossbars, ideal
from lib.hardware.devices import make
from lib.hardware.numbers import merged
from lib.hardware.perturbations import PERTURBATIONS, natural_scale
from lib.hardware.training import Trainer, tiled
from lib.replicas import Optimiser, Tree, flat, unstack
from lib.verdicts import Findings
from paper.figures import mechanisms as figures
from paper.interventions import (
    Held,
    HeldRatio,
    PartlyKnown,
    ShuffledIRDrop,
    Softened,
    SpreadDrift,
    UnmaskedADC,
    like,
    softer,
    standing_out,
)
from paper.studies import layers
from paper.studies.mechanisms import (
    ARMS,
    MECHANISMS,
    PREDICTIONS,
    SEVERITIES,
    SWEEP,
    Arm,
    Mechanisms,
    converting,
    flips,
    predicted,
)
from paper.words import mechanisms as words

CPU = torch.device("cpu")
SEEDS = (0, 1)
WEIGHT = torch.randn(6, 9, generator=runtime.stream(0, "weight"))
INPUT = torch.rand(5, 9, generator=runtime.stream(0, "input"))


@cache
def fork() -> tuple[Trainer, Tree]:
    trainer = Trainer.named("mlp")
    return trainer, trainer.fork(SEEDS, 30, CPU)


def on(trainer, params, physics, severity, start=None, chips=2):
    return trainer.accuracy_on_chips(params, physics, [severity], SEEDS, chips, start=start or params)


# --------------------------------------------------------------------------------------- one thing is held


@pytest.mark.parametrize("name", ["read_noise", "variability", "stuck_at", "ir_drop"])
@pytest.mark.parametrize("size", ["rms", "mean"])
def test_where_training_begins_held_hardware_is_the_class_itself(name, size):
    trainer, params = fork()
    severity = SEVERITIES[name][0]
    plain, held = (on(trainer, params, one, severity) for one in (make(name), Held(make(name), size=size)))
    assert torch.allclose(plain, held, atol=0.004)


@pytest.mark.parametrize("name", ["read_noise", "variability", "drift", "stuck_at", "ir_drop"])
def test_off_it_changes_no_bit(name):
    trainer, params = fork()
    part = make(name)
    x = trainer.data.test_x[:20]
    one, numbers = unstack(params, 0), trainer.chip(part, 0, "chip")
    drawn = merged(
        numbers, trainer.read(part, 20, 0), {layer: {name: {"crest": torch.tensor(2.0)}} for layer in numbers}
    )
    chip = Crossbars(Held(part), torch.tensor(float(part.off)), "autograd", drawn)
    assert torch.equal(trainer.network(one, x, chip), trainer.network(one, x))


def test_an_error_is_a_share_of_the_weights_size_whatever_stands_out():
    # The law written down: dW = sigma Gmax xi c0 rms(W) / (high - low), where nothing meets an edge of the window.
    part, sigma, start = make("variability"), 0.01, torch.tensor(3.0)
    mid = WEIGHT.sign() * (0.5 + 0.1 * torch.rand(WEIGHT.shape, generator=runtime.stream(1, "mid")))
    xi = torch.zeros(2, *WEIGHT.shape)
    xi[0] = torch.randn(WEIGHT.shape, generator=runtime.stream(2, "xi")) * (mid > 0)
    for weight in (mid, torch.where(mid == mid.max(), 0.7, mid)):
        chip = Crossbars(
            Held(part), torch.tensor(sigma), "autograd", {"layer": {"variability": {"chip": xi, "crest": start}}}
        )
        change = chip("layer", torch.eye(9), weight) - weight.mT
        window = part.window
        law = sigma * window.high * start * weight.square().mean().sqrt() / (window.high - window.low) * xi[0].mT
        assert torch.allclose(change, law, atol=1e-6)


def test_held_noise_does_not_see_the_largest_weight_and_scales_with_all():
    part = make("read_noise")
    read = torch.randn(5, 6, generator=runtime.stream(3, "read"))

    def noise(weight, held):
        physics = Held(part) if held else part
        drawn = {"layer": {"read_noise": {"read": read, "crest": torch.tensor(3.0)}}}
        return Crossbars(physics, torch.tensor(0.1), "autograd", drawn)("layer", INPUT, weight) - ideal(
            "", INPUT, weight
        )

    tall = WEIGHT.clone()
    tall[0, 0] = 3 * WEIGHT.abs().max()
    grows = {held: float(noise(tall, held).norm() / noise(WEIGHT, held).norm()) for held in (False, True)}
    assert grows[False] == pytest.approx(3, rel=1e-4)
    assert grows[True] == pytest.approx(float(tall.square().mean().sqrt() / WEIGHT.square().mean().sqrt()), rel=1e-4)
    # And by hand: the natural scale's noise with the largest weight replaced by c0 times the root mean square.
    scale = natural_scale(WEIGHT) * WEIGHT.abs().max() / (3.0 * WEIGHT.square().mean().sqrt())
    law = 0.1 * math.sqrt(2) * part.window.high / scale * INPUT.norm(dim=1, keepdim=True) * read
    assert torch.allclose(noise(WEIGHT, True), law, atol=1e-5)


@pytest.mark.parametrize("size", ["rms", "mean"])
def test_standing_out_is_that_of_a_plain_loop(size):
    values = [abs(float(one)) for one in WEIGHT.flatten()]
    mean = sum(values) / len(values) if size == "mean" else math.sqrt(sum(one**2 for one in values) / len(values))
    assert float(standing_out(WEIGHT, size)) == pytest.approx(max(values) / mean, rel=1e-5)


def test_wires_of_held_arrays_are_loaded_alike():
    # An outlier empties ordinary arrays, for all others become small beside it; held ones stay as loaded as they were.
    tall = WEIGHT.clone()
    tall[0, 0] = 20 * WEIGHT.abs().max()
    start = standing_out(WEIGHT, "mean")

    def loss(physics, weight):
        drawn = {"layer": {"ir_drop": {"crest": start}}}
        seen = Crossbars(physics, torch.tensor(1000.0), "autograd", drawn)("layer", torch.eye(9), weight)
        return float((1 - seen / weight.mT).median())

    part = make("ir_drop")
    held = Held(part, size="mean")
    assert loss(part, tall) < 0.6 * loss(part, WEIGHT)
    assert loss(held, WEIGHT) == pytest.approx(loss(part, WEIGHT), rel=1e-3)
    # Half of the sum is the outlier's own: the rest is scaled by what it adds to the mean, and no more.
    share = WEIGHT.abs().mean() / tall.abs().mean()
    thinned = loss(Held(make("ir_drop"), size="mean"), WEIGHT) * float(share)
    assert loss(held, tall) == pytest.approx(thinned, rel=0.5)


def test_a_held_size_that_nobody_knows_is_refused():
    with pytest.raises(ParameterError, match="size must be one of rms, mean"):
        Held(make("read_noise"), size="median")
    with pytest.raises(ParameterError, match="spread must be"):
        SpreadDrift(spread=-1)


@pytest.mark.parametrize("name", ["read_noise", "variability", "stuck_at"])
def test_a_held_ratio_is_the_class_itself_where_training_begins_and_stays(name):
    trainer, params = fork()
    severity = torch.tensor(SEVERITIES[name][0])
    part = make(name)
    x, one = trainer.data.x[:200], unstack(params, 0)
    drawn = merged(trainer.chip(part, 0, "chip"), trainer.read(part, 200, 0))

    def error(physics, weight, told):
        seen = Crossbars(physics, severity, "autograd", merged({"1": drawn["1"]}, told))
        clean = ideal("1", x.flatten(1), weight)
        noise = seen("1", x.flatten(1), weight) - clean
        return float(noise.std() / (clean - clean.mean(0)).std()), seen.calibrated

    weight = one["1.weight"]
    plain, _ = error(part, weight, {})
    held, told = error(HeldRatio(part), weight, {})
    assert held == pytest.approx(plain, rel=1e-4)
    # Weights that stand out less, and weights that the inputs excite more: the class errs less, the held one as before.
    flat_ = weight.clamp(-0.1, 0.1)
    mean = x.flatten(1).mean(0)
    excited = weight + 0.3 * (x.flatten(1)[0] - mean)
    for changed in (flat_, excited):
        before, (after, _) = error(part, changed, {})[0], error(HeldRatio(part), changed, told)
        assert before < 0.9 * plain and after == pytest.approx(held, rel=0.15 if name == "read_noise" else 0.5)


def test_shuffled_lines_lose_what_their_place_loses():
    part, severity = ShuffledIRDrop(), torch.tensor(1000.0)
    drawn = part.draw_chip((6, 9), runtime.stream(0, "order"))
    columns, rows = drawn["columns"].argsort(), drawn["rows"].argsort()
    crossbars = Crossbars(part, severity, "autograd", {"layer": {"ir_drop": dict(drawn)}})
    seen = crossbars("layer", torch.eye(9), WEIGHT).mT
    plain = Crossbars(make("ir_drop"), severity, "autograd", {})
    # By hand: store the rows of the matrix where the chip has them, and read them from there.
    placed = torch.stack([torch.stack([WEIGHT[i, j] for j in rows]) for i in columns])
    there = plain("layer", torch.eye(9), placed).mT
    expected = torch.empty_like(WEIGHT)
    for at, i in enumerate(columns):
        for to, j in enumerate(rows):
            expected[i, j] = there[at, to]
    assert torch.allclose(seen, expected, atol=1e-6)
    quiet = part.without_chance(drawn)
    same = Crossbars(part, severity, "autograd", {"layer": {"ir_drop": quiet}})("layer", torch.eye(9), WEIGHT)
    assert torch.allclose(same, plain("layer", torch.eye(9), WEIGHT), atol=1e-6)


def test_exponents_spread_as_told():
    g = torch.full((1000,), 12.0)
    xi = torch.randn(1000, generator=runtime.stream(0, "xi"))
    once, four, none = (SpreadDrift(spread=spread).exponent(g, xi) for spread in (1.0, 4.0, 0.0))
    assert torch.equal(once, make("drift").exponent(g, xi))
    assert len(none.unique()) == 1 and 3 < four.std() / once.std() < 5


# ---------------------------------------------------------------------------------------- gradients of a converter


def _gradient(physics, rule, bound):
    weight = WEIGHT.clone().requires_grad_()
    drawn = {"layer": {"adc": {"range": torch.tensor(bound)}}}
    y = Crossbars(physics, torch.tensor(3.0), rule, drawn)("layer", INPUT, weight)
    (found,) = torch.autograd.grad(y.square().sum(), weight)
    return y.detach(), found


def test_unmasked_a_gradient_passes_beyond_the_range():
    clean = ideal("", INPUT, WEIGHT)
    # Between two outputs: at the edge itself half of the gradient passes.
    bound = 1.001 * float(clean.abs().median())
    y, masked = _gradient(make("adc"), "straight_through", bound)
    same, whole = _gradient(UnmaskedADC(), "straight_through", bound)
    inside = (clean.abs() < bound).float()
    assert torch.equal(y, same) and 0 < inside.mean() < 1
    assert torch.allclose(masked, (2 * y * inside).mT @ INPUT, atol=1e-5)
    assert torch.allclose(whole, (2 * y).mT @ INPUT, atol=1e-5)


def test_of_a_converter_noise_injection_says_what_straight_through_says():
    bound = float(ideal("", INPUT, WEIGHT).abs().median())
    for physics in (make("adc"), UnmaskedADC()):
        (y, one), (same, other) = (_gradient(physics, rule, bound) for rule in ("straight_through", "noise_injection"))
        assert torch.allclose(y, same) and torch.allclose(one, other, atol=1e-5)


# ----------------------------------------------------------------------------------------------- what is known


def test_who_knows_none_trains_for_any_chip_and_who_knows_all_for_one():
    trainer, start = fork()
    physics, optimiser = make("stuck_at"), Optimiser("adam", 5e-3, 3)
    given = (start, physics, "autograd", [0.1], SEEDS, optimiser, 30)
    for share, known in ((0.0, False), (1.0, True)):
        told = like(trainer, PartlyKnown, share=share).train_aware(*given)
        plain = trainer.train_aware(*given, known=known)
        assert all(
            torch.equal(one, other)
            for one, other in zip(flat(told.params).values(), flat(plain.params).values(), strict=True)
        )


def test_half_known_is_half_the_chip_and_stays_the_same_half():
    trainer = like(fork()[0], PartlyKnown, share=0.5)
    physics = make("stuck_at")
    whole = trainer.chip(physics, 0, "unseen chip", 0)["1"]["stuck_at"]["chip"]
    same = [trainer.chip(physics, 0, "training chip", step)["1"]["stuck_at"]["chip"] == whole for step in (1, 2)]
    assert torch.equal(*same) and float(same[0].float().mean()) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ParameterError, match="share must be"):
        like(trainer, PartlyKnown, share=1.5)


# ------------------------------------------------------------------------------------------------ layer by layer


def test_a_softer_chip_for_one_layer_is_one_with_its_own_severity():
    trainer, params = fork()
    part, one = make("read_noise"), unstack(params, 0)
    x, drawn = trainer.data.test_x[:30], trainer.read(make("read_noise"), 30, 0)
    severity = torch.tensor(0.3)
    soft = like(trainer, Softened, layer="3").crossbars(part, severity, "autograd", drawn)

    def product(layer, inputs, weight):
        own = severity / 3 if layer == "3" else severity
        return Crossbars(part, own, "autograd", drawn)(layer, inputs, weight)

    assert torch.equal(trainer.network(one, x, soft), trainer.network(one, x, product))


@pytest.mark.parametrize("name", list(PERTURBATIONS))
def test_softer_is_less(name):
    physics = make(name)
    harsh = torch.tensor(layers.SEVERITIES[name])
    mild = softer(physics, harsh)
    assert (mild > harsh) == physics.ranged and physics.check(float(mild)) == float(mild)


def test_a_calibrated_converter_of_a_softer_layer_keeps_its_range():
    trainer, params = fork()
    plain, soft = (on(one, params, make("adc"), 2.0) for one in (trainer, like(trainer, Softened, layer="5")))
    assert soft.mean() > plain.mean()


def test_the_margin_moves_as_its_derivative_says():
    trainer, params = fork()
    one, x, y = unstack(params, 0), trainer.data.x[:40], trainer.data.y[:40]
    taps, _ = layers._margins(trainer, one, x, y)

    def margin(move):
        def product(layer, inputs, weight):
            return ideal(layer, inputs, weight) + move.get(layer, 0)

        logits = trainer.network(one, x, product)
        right = logits.gather(1, y[:, None]).squeeze(1)
        return right - logits.scatter(1, y[:, None], -torch.inf).amax(1)

    for layer, slope in taps.items():
        step = 1e-3 * torch.randn(slope.shape, generator=runtime.stream(0, "step", layer))
        moved = margin({layer: step}) - margin({layer: -step})
        # Where no unit switches in between it is exact.
        exact = torch.isclose(moved / 2, (slope * step).sum(1), atol=2e-5)
        assert exact.float().mean() > 0.9


def test_errors_are_those_of_one_layer_at_a_time():
    trainer, params = fork()
    one, x, part = unstack(params, 0), trainer.data.x[:20], make("read_noise")
    drawn, severity = trainer.read(part, 20, 0), torch.tensor(0.2)
    found = layers._errors(trainer, one, x, part, severity, drawn)
    hidden = (x.flatten(1) @ one["1.weight"].mT + one["1.bias"]).relu()
    length = hidden.norm(dim=1, keepdim=True)
    scale = natural_scale(one["3.weight"])
    law = 0.2 * math.sqrt(2) * part.window.high / scale * length * drawn["3"]["read_noise"]["read"]
    assert torch.allclose(found["3"], law, atol=1e-4)


def test_a_diagnosis_without_hardware_finds_nothing():
    trainer, params = fork()
    found = layers.diagnosed(trainer, unstack(params, 0), make("read_noise"), 0.0, 0, 2)
    for own in found.values():
        assert own["margin"] == own["error"] == 0 and own["cosine"] == pytest.approx(1, abs=1e-5)
        assert own["variance"] == pytest.approx(0, abs=1e-6)


def _single(**more):
    rows = {
        "network": "mlp",
        "perturbation": "adc",
        "layer": ["a", "b", "c"],
        "place": [0, 1, 2],
        "size": [4000, 2000, 300],
        "clean": 0.9,
        "unaware": 0.5,
        "only": [0.8, 0.7, 0.6],
        "without": [0.55, 0.6, 0.8],
        "softer": [0.52, 0.55, 0.7],
        "margin": [0.1, 0.2, 0.9],
        "cosine": [0.9, 0.5, 0.1],
        "variance": 0.0,
        "error": [0.3, 0.2, 0.1],
        "trial": [0.1, 0.2, 0.3],
    }
    return pd.concat([pd.DataFrame({**rows, "seed": seed, **more}) for seed in range(3)], ignore_index=True)


def test_mended_by_hand():
    table = layers.mended(_single()).set_index(["ranking", "seed"])
    best = table.loc[("margin", 0)]
    assert best.layer == "c" and best.gain == pytest.approx(30) and best.others == pytest.approx(7.5)
    assert best.alike == pytest.approx(10) and best.best == pytest.approx(30) and best.softer == pytest.approx(20)
    worst = table.loc[("error", 1)]
    assert worst.layer == "a" and worst.gain == pytest.approx(5) and worst.alike == pytest.approx(10)
    # A ranking that says the same of all layers says nothing.
    assert "variance" not in table.index.get_level_values(0)


def test_claims_about_layers_go_both_ways():
    outcomes = {one.id: str(one.outcome) for one in Findings.of(layers.claims(layers.mended(_single())))}
    assert outcomes["mechanisms.layers.margin.others"] == outcomes["mechanisms.layers.margin.found"] == "holds"
    assert outcomes["mechanisms.layers.error.others"] == outcomes["mechanisms.layers.size.found"] == "does not hold"


# ------------------------------------------------------------------------------------------------------- claims


def _runs(recoveries, name="variability", damage=0.4):
    """Rows of arms with these recoveries at the severity that claims speak of."""
    rows = []
    for label, share in recoveries.items():
        for seed in range(5):
            lost = damage + 0.01 * seed
            rows.append(
                {
                    "network": "mlp",
                    "perturbation": name,
                    "arm": label,
                    "severity": SEVERITIES[name][0],
                    "seed": seed,
                    "clean": 0.9,
                    "unaware": 0.9 - lost,
                    "accuracy": 0.9 - lost + share * lost,
                    "crest": 3.0,
                    "crest_unaware": 4.0,
                }
            )
    return pd.DataFrame(rows)


def _noise(held, clipped=0.6):
    return _runs(
        {
            "trained": 0.8,
            "clipped, not trained": clipped,
            "trained, conductances held": held,
            "trained, signal to error held": 0.2,
        }
    )


def test_a_mechanism_holds_where_its_intervention_flips():
    for held, outcome in ((0.1, "holds"), (0.7, "does not hold")):
        findings = Findings.of(predicted(_noise(held)))
        table = flips(findings)
        assert set(table.mechanism) == {outcome}
        assert set(table.role) == {"base", "flip", "second", "more"}
        assert str(findings.get("mechanisms.variability.clipped.mlp").outcome) == "holds"
    assert str(Findings.of(predicted(_noise(0.1, 0.2))).get("mechanisms.variability.clipped.mlp").outcome) == (
        "does not hold"
    )


def test_where_nothing_is_lost_nothing_is_decided():
    small = _runs(
        {
            "trained": 0.8,
            "clipped, not trained": 0.5,
            "trained, conductances held": 0.1,
            "trained, signal to error held": 0.2,
        },
        damage=-0.02,
    )
    assert {str(one.outcome) for one in Findings.of(predicted(small))} == {"inconclusive"}


def test_converters_are_compared_seed_by_seed():
    rows = [
        {"arm": label, "severity": 3.0, "seed": seed, "accuracy": value + 0.002 * seed}
        for label, value in (("quantile, vanilla", 0.9), ("quantile, not trained", 0.901))
        for seed in range(5)
    ]
    (found,) = Findings.of(converting(pd.DataFrame(rows)))
    assert found.id == "mechanisms.converter.control" and str(found.outcome) == "holds"


def test_every_prediction_has_its_arm_and_every_mechanism_a_flip():
    assert (
        set(MECHANISMS)
        == set(PREDICTIONS)
        == set(ARMS)
        == set(SEVERITIES)
        == set(layers.SEVERITIES)
        == set(PERTURBATIONS)
    )
    for name, predictions in PREDICTIONS.items():
        assert {one.arm for one in predictions} <= set(ARMS[name])
        assert {"base", "flip"} <= {one.role for one in predictions}
        for one in ARMS[name].values():
            for mended in (True, False):
                assert one.hardware(name, mended).name == name
    for one in SWEEP.values():
        assert one.hardware("adc", True).name == "adc"


def test_the_baseline_of_a_measure_is_the_hardware_without_it():
    one = Arm(measure={"compensation": "global"}, options={"spread": 4.0}, change="spread")
    assert one.hardware("drift", False) == SpreadDrift(spread=4.0)
    assert one.hardware("drift", True) == SpreadDrift(spread=4.0, compensation="global")
    three = Arm("autograd", copies=3)
    assert three.hardware("stuck_at", False) == make("stuck_at") and three.hardware("stuck_at", True).copies == 3


# -------------------------------------------------------------------------------------------------------- whole


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"classes": "noise"}, "classes must be one or more different names out of read_noise"),
        ({"networks": "resnet"}, "networks must be one or more different names out of mlp, cnn, vit"),
        ({"bits": [1]}, "bits must be"),
        ({"sweep": "most"}, "sweep must be one of few, all"),
        ({"steps": 0}, "steps must be"),
    ],
)
def test_refusals(given, sentence):
    with pytest.raises(ParameterError, match=sentence):
        Mechanisms(**given)


def test_a_small_run_from_cells_to_the_page(tmp_path):
    study = Mechanisms(
        classes="read_noise,drift,adc", steps=2, seeds=2, chips=2, bits=(3, 2), device="cpu", results=str(tmp_path)
    )
    result = study.run()
    tables = result.tables
    assert set(tables["accuracy"].perturbation) == {"read_noise", "drift", "adc"}
    assert (tables["accuracy"][["unaware", "accuracy"]] > 0).all(axis=None)
    assert len({one.id for one in result.findings}) == len(result.findings) > 20
    for drawn in (
        figures.flips(tables["summary"]),
        figures.layers(tables["layers"]),
        figures.rankings(tables["mended"]),
        figures.sweep(tables["sweep_summary"]),
    ):
        assert drawn.axes
    for text in (words.answer(tables, result.findings), words.mechanisms(tables), words.follows(result.findings)):
        assert "nan" not in text
    assert study._covered(study.changed(classes="all", sweep="all", seeds=5, networks="mlp,cnn"))
    np.testing.assert_allclose(tables["accuracy"].clean, study.run().tables["accuracy"].clean)


def test_a_cell_alone_has_the_numbers_that_it_has_among_others():
    trainer, params = fork()
    both = on(trainer, params, Held(make("variability")), 0.1)
    again = trainer.accuracy_on_chips(tiled(params, 2), Held(make("variability")), [0.1, 0.3], SEEDS, 2, start=params)
    assert torch.allclose(both, again[:2])
