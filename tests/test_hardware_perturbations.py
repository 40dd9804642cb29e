"""Each perturbation against what its physics says, drawn or solved independently."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from lib import runtime
from lib.checks import ParameterError
from lib.hardware.circuit import effective_conductance
from lib.hardware.crossbars import Crossbars, Shape, draw_chip, draw_read, ideal, on_chip
from lib.hardware.devices import HARDWARE, PhaseChange
from lib.hardware.numbers import merged
from lib.hardware.perturbations import (
    ADC,
    PERTURBATIONS,
    T_LAST,
    T_ZERO,
    WINDOW,
    Arrays,
    Drift,
    IRDrop,
    Perturbation,
    StuckAt,
    Variability,
    Window,
    convert,
    natural_scale,
    quantile_of_size,
    seen_weight,
    to_pair,
)
from lib.replicas import flat, stack
from paper.words.hardware import wording

WEIGHT = torch.randn(12, 20, generator=runtime.stream(0, "weight")) / 4
INPUT = torch.rand(9, 20, generator=runtime.stream(0, "input"))
G_MIN, G_MAX = WINDOW.low, WINDOW.high
YEAR = 3.15e7

# Every class, and every class with the options that change what it computes.
OPTIONS: dict[str, Perturbation] = {
    **PERTURBATIONS,
    "drift, compensated": Drift(compensation="global"),
    "drift, compensated by a noisy readout": Drift(compensation="global", readout="noisy"),
    "stuck_at, mostly on": StuckAt(on=0.9),
    "stuck_at, clustered": StuckAt(cluster=3),
    "ir_drop, uneven": IRDrop(ratio=0.3),
    "ir_drop, in tiles": IRDrop(tile=(8, 5)),
    "ir_drop, approximate": IRDrop(solver="approximate"),
    "ir_drop, frozen": IRDrop(load="frozen"),
    "ir_drop, predistorted": IRDrop(predistort=1),
    "adc, largest": ADC(calibration="largest"),
    "adc, best": ADC(calibration="best"),
    "adc, learned": ADC(calibration="learned"),
    "variability, fixed scale": Variability(scale="fixed"),
    "variability, other window": Variability(window=Window(1.0, 40.0)),
}


def numbers(one: Perturbation, seed: int = 0, weight=WEIGHT, batch: int = len(INPUT)) -> dict:
    """The random numbers of one chip and one read of a single layer, "0"."""
    shapes = {"0": Shape(tuple(weight.shape), (weight.shape[-2],))}
    source = runtime.stream(seed, "chip")
    return merged(draw_chip(one, shapes, source), draw_read(one, shapes, batch, source))


def product(one: Perturbation | str, severity: float, *, seed: int = 0, rule="autograd", x=INPUT, weight=WEIGHT):
    """One product on the chip of a seed."""
    perturbation = OPTIONS[one] if isinstance(one, str) else one
    drawn = numbers(perturbation, seed, weight, len(x))
    return Crossbars(perturbation, torch.tensor(severity), rule, drawn)("0", x, weight)


def chip(severity: float, one: Perturbation | str, weight: torch.Tensor, seed: int = 0):
    """Conductances before and after a perturbation of the arrays."""
    perturbation = OPTIONS[one] if isinstance(one, str) else one
    drawn = numbers(perturbation, seed, weight, 1).get("0", {}).get(perturbation.name, {})
    g = to_pair(weight).g
    return g, perturbation.conductance(g, torch.tensor(severity), drawn)


def level(share: float, side: int = 150) -> torch.Tensor:
    """Weights that are all at one share of the largest, which is the first."""
    weight = torch.full((side, side), share)
    weight[0, 0] = 1.0
    return weight


# ------------------------------------------------------------------------------------------ classes and windows


def test_the_six_classes():
    assert list(PERTURBATIONS) == ["read_noise", "variability", "drift", "stuck_at", "ir_drop", "adc"]
    assert len({one.title for one in PERTURBATIONS.values()}) == 6
    for one in HARDWARE.values():
        severities = (*one.grid, one.off, one.low, one.high)
        assert all(one.check(severity) == severity for severity in severities if severity != () != one.off)
        said = wording(one.name)
        assert said.formula and said.physics and said.lesson and one.measures and type(one).__doc__
        assert one.unit or one.name == "ideal"


def test_constants_and_ranges():
    assert (WINDOW.low, WINDOW.high) == (0.1, 25.0) and T_ZERO == 20.0 and T_LAST == 1e10
    assert ADC().quantile == 0.99 and ADC().calibration == "quantile"
    ranges = {name: (one.low, one.high, one.off, one.whole) for name, one in PERTURBATIONS.items()}
    assert ranges == {
        "read_noise": (0, 1, 0, False),
        "variability": (0, 1, 0, False),
        "drift": (20, 1e10, 20, False),
        "stuck_at": (0, 1, 0, False),
        "ir_drop": (0, 1e4, 0, False),
        "adc": (2, 16, math.inf, True),
    }
    assert [name for name, one in PERTURBATIONS.items() if not one.random] == ["ir_drop", "adc"]
    assert [name for name, one in PERTURBATIONS.items() if one.ranged] == ["adc"]


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        ((5.0, 5.0), "window.high must be a number above 5, but 5.0 was given."),
        ((5.0, 1.0), "window.high must be a number above 5, but 1.0 was given."),
        ((-1.0, 25.0), "window.low must be a number of at least 0, but -1.0 was given."),
        ((math.nan, 25.0), "window.low must be a number of at least 0, but nan was given."),
        ((0.1, math.inf), "window.high must be a number above 0.1, but inf was given."),
    ],
)
def test_a_contradictory_window_is_refused(window, sentence):
    with pytest.raises(ParameterError) as error:
        Window(*window)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (StuckAt, {"on": 1.1}, "on"),
        (StuckAt, {"on": True}, "on"),
        (StuckAt, {"cluster": 0}, "cluster"),
        (StuckAt, {"cluster": 2.0}, "cluster"),
        (Drift, {"compensation": "local"}, "compensation"),
        (Drift, {"readout": "wrong"}, "readout"),
        (IRDrop, {"ratio": -1}, "ratio"),
        (IRDrop, {"solver": "spice"}, "solver"),
        (IRDrop, {"load": "none"}, "load"),
        (IRDrop, {"predistort": -1}, "predistort"),
        (ADC, {"calibration": "smallest"}, "calibration"),
        (ADC, {"quantile": 0}, "quantile"),
        (ADC, {"quantile": 1.5}, "quantile"),
        (ADC, {"quantile": math.nan}, "quantile"),
        (ADC, {"quantile": "0.9"}, "quantile"),
        (StuckAt, {"on": "0.5"}, "on"),
        (StuckAt, {"cluster": True}, "cluster"),
        (IRDrop, {"ratio": [1.0]}, "ratio"),
        (IRDrop, {"predistort": 1.0}, "predistort"),
        (IRDrop, {"predistort": 10**9}, "predistort"),
        (IRDrop, {"tile": "16, 16"}, "tile"),
    ],
)
def test_an_option_out_of_range_is_refused(kind, options, named):
    with pytest.raises(ParameterError, match=f"^{named} must be .*, but .* was given.$"):
        kind(**options)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in dict.fromkeys(map(type, HARDWARE.values())) if kind is not PhaseChange],
    ids=lambda one: one.name,
)
def test_every_class_refuses_a_window_and_a_scale_that_are_none(kind):
    for wrong in ("no", 1, 0.0, None, [True], math.nan):
        with pytest.raises(ParameterError, match="^scale must be one of differentiated, .*, but .* was given.$"):
            kind(scale=wrong)
    for wrong in ((0.1, 25.0), None, 25.0, "0.1"):
        with pytest.raises(ParameterError, match="^window must be a Window, but .* was given.$"):
            kind(window=wrong)


@pytest.mark.parametrize("name", HARDWARE)
def test_a_severity_that_is_no_number_of_the_range_is_refused_and_the_ends_of_the_range_are_not(name):
    one = HARDWARE[name]
    wrong = ["0.1", b"1", "", None, True, math.nan, -math.inf, -1, 1e30, 10**400, 1j, [0.1], {"a": 1}, object()]
    wrong += [torch.tensor(4), torch.tensor(0.1).half(), torch.tensor([4.0, 4.0]), np.array(4.0)]
    for severity in wrong + ([math.inf] if one.off != math.inf else []):
        with pytest.raises(ParameterError, match="^severity must be a number from .*, but .* was given.$") as error:
            one.check(severity)
        assert "\n" not in str(error.value)
    for severity in (one.low, one.high, one.off, *one.grid):
        assert one.check(np.float32(severity)) == np.float32(severity)


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("read_noise", -0.1),
        ("variability", 1.5),
        ("drift", 1.0),
        ("drift", 0),
        ("stuck_at", 1.01),
        ("ir_drop", -1),
        ("ir_drop", 20000.0),
        ("adc", 1),
        ("adc", 4.5),
        ("adc", 0),
        ("adc", "4"),
        ("read_noise", True),
        ("read_noise", math.nan),
        ("read_noise", math.inf),
    ],
)
def test_a_severity_out_of_range_is_refused(name, severity):
    with pytest.raises(ParameterError, match="^severity must be .*, but .* was given.$"):
        PERTURBATIONS[name].check(severity)


# ------------------------------------------------------------------------------------------------ pairs


def test_a_differential_pair_holds_the_weight_within_the_window():
    pair = to_pair(WEIGHT)
    assert torch.allclose((pair.g[0] - pair.g[1]) / pair.scale, WEIGHT, atol=1e-6)
    assert pair.g.min() == G_MIN and pair.g.max() == pytest.approx(G_MAX, rel=1e-6)
    # One of the two is always at rest.
    assert (pair.g.amin(0) == G_MIN).all()
    assert torch.equal(seen_weight(pair, pair.g), WEIGHT)


def test_a_pair_in_another_window_fills_that_one():
    window = Window(2.0, 10.0)
    pair = to_pair(WEIGHT, window)
    assert pair.g.min() == 2 and pair.g.max() == pytest.approx(10, rel=1e-6)
    assert pair.scale == natural_scale(WEIGHT, window) == 8 / WEIGHT.abs().max()
    assert torch.allclose((pair.g[0] - pair.g[1]) / pair.scale, WEIGHT, atol=1e-6)


def test_a_pair_with_a_scale_of_its_own_is_cut_off_at_the_window():
    scale = 2 * natural_scale(WEIGHT)
    pair = to_pair(WEIGHT, scale=scale)
    most = (G_MAX - G_MIN) / scale
    fits = WEIGHT.abs() <= most
    assert fits.any() and not fits.all()
    assert pair.scale == scale and pair.g.max() <= G_MAX * (1 + 1e-6) and pair.g.min() == G_MIN
    # What fits is kept to the last bit; of the rest the network sees what could be programmed.
    assert torch.equal(pair.weight[fits], WEIGHT[fits])
    assert torch.allclose(pair.weight, WEIGHT.clamp(-most, most), rtol=1e-6)
    assert torch.allclose((pair.g[0] - pair.g[1]) / scale, pair.weight, atol=1e-6)
    # The natural scale given is the natural scale found, to the last bit.
    natural = to_pair(WEIGHT, scale=natural_scale(WEIGHT))
    assert all(torch.equal(one, other) for one, other in zip(natural, to_pair(WEIGHT), strict=True))
    # A smaller scale than the natural one leaves the window partly empty and cuts off nothing.
    half = to_pair(WEIGHT, scale=scale / 4)
    assert torch.equal(half.weight, WEIGHT) and half.g.max() == pytest.approx((G_MAX + G_MIN) / 2, rel=1e-6)


def test_a_held_scale_cuts_the_product_off_and_passes_no_gradient_to_what_was_cut_off():
    held = Variability(scale="fixed")
    assert held.held == {"array": ("scale",)} and Variability().held == {}
    scale = 2 * natural_scale(WEIGHT)
    weight = WEIGHT.clone().requires_grad_()
    drawn = merged(numbers(held), {"0": {"array": {"scale": scale}}})
    crossbars = Crossbars(held, torch.tensor(0.0), "autograd", drawn)
    y = crossbars("0", INPUT, weight)
    most = (G_MAX - G_MIN) / scale
    assert torch.allclose(y, linear(INPUT, WEIGHT.clamp(-most, most)), atol=1e-5)
    y.sum().backward()
    cut = WEIGHT.abs() > most
    assert not weight.grad[cut].any() and weight.grad[~cut].all()
    # Without one given, the scale of the weight at hand is kept.
    free = Crossbars(held, torch.tensor(0.0), "autograd", numbers(held))
    free("0", INPUT, WEIGHT)
    assert free.calibrated["0"]["array"]["scale"] == natural_scale(WEIGHT)


# ------------------------------------------------------------------------------------------------ off and on


@pytest.mark.parametrize("name", OPTIONS)
def test_off_is_the_plain_product_bit_by_bit(name):
    one = OPTIONS[name]
    plain = linear(INPUT, WEIGHT)
    assert torch.equal(product(name, one.off), plain)
    # Also beside replicas for which it is on.
    severities = torch.tensor([one.off, one.grid[-1], one.off])
    drawn = numbers(one)
    mapped = torch.func.vmap(lambda s: Crossbars(one, s, "autograd", drawn)("0", INPUT, WEIGHT))(severities)
    single = torch.func.vmap(lambda s: linear(INPUT, WEIGHT) + 0 * s.clamp(0, 1))(severities)
    assert torch.equal(mapped[0], single[0]) and torch.equal(mapped[2], single[2])
    assert not torch.equal(mapped[1], single[1])


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(OPTIONS)),
    out=st.integers(1, 6),
    inputs=st.integers(1, 6),
    groups=st.integers(1, 3),
    batch=st.integers(1, 4),
    place=st.integers(0, 3),
    straight=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_off_is_bit_identical_for_any_shape_in_a_batch(name, out, inputs, groups, batch, place, straight, seed):
    one, source = OPTIONS[name], runtime.stream(seed, "shapes")
    lead = (groups,) if groups > 1 else ()
    weight = torch.randn(*lead, out, inputs, generator=source)
    shapes = {"0": Shape(tuple(weight.shape), (*lead, inputs, out))}
    drawn = merged(draw_chip(one, shapes, source), draw_read(one, shapes, batch, source))
    severities = torch.tensor([one.off, one.grid[place], one.off])
    rule = "straight_through" if straight else "autograd"

    def product(severity, x):
        return Crossbars(one, severity, rule, drawn)("0", x, weight)

    # One input after the other at one: what comes out is the weight itself, in whatever order products are added.
    unit = torch.eye(inputs).expand(batch, *lead, inputs, inputs)
    mapped = torch.func.vmap(product, in_dims=(0, None))(severities, unit)
    expected = weight.mT.expand(batch, *lead, inputs, out)
    assert torch.equal(mapped[0], expected) and torch.equal(mapped[2], expected)
    x = torch.randn(batch, *lead, inputs, inputs, generator=source)
    assert torch.equal(product(torch.tensor(one.off), x), ideal("0", x, weight))
    assert torch.allclose(torch.func.vmap(product, in_dims=(0, None))(severities, x)[0], x @ weight.mT, atol=1e-5)


@pytest.mark.parametrize("name", ["ir_drop, predistorted", "variability, fixed scale", "variability"])
def test_off_is_bit_identical_wherever_the_largest_conductance_is_rounded_to(name):
    # In some of these the window is exceeded by a rounding error.
    one, above = OPTIONS[name], 0
    for seed in range(100):
        weight = torch.randn(3, 4, generator=runtime.stream(seed, "weight"))
        above += (to_pair(weight).g > G_MAX).any().item()
        assert torch.equal(product(one, one.off, x=torch.eye(4), weight=weight), weight.T)
        natural = to_pair(weight, scale=natural_scale(weight))
        assert all(torch.equal(*both) for both in zip(natural, to_pair(weight), strict=True))
    assert above > 0


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_on_changes_the_product_and_harsher_changes_it_more(name):
    one = PERTURBATIONS[name]
    plain = linear(INPUT, WEIGHT)
    mild, harsh = (
        np.mean([(product(name, severity, seed=seed) - plain).square().mean().item() for seed in range(20)])
        for severity in (one.grid[0], one.grid[-1])
    )
    assert 0 < mild < harsh


@pytest.mark.parametrize("name", OPTIONS)
def test_replicas_have_their_own_severity_and_chip(name):
    one = OPTIONS[name]
    severities = torch.tensor(one.grid[:3])
    trees = [numbers(one, seed) for seed in range(3)]
    weights = torch.stack([WEIGHT, 2 * WEIGHT, -WEIGHT])
    stacked = stack(trees)

    def single(severity, weight, drawn):
        return Crossbars(one, severity, "autograd", drawn)("0", INPUT, weight)

    mapped = torch.func.vmap(single, in_dims=(0, 0, 0 if stacked else None))(severities, weights, stacked)
    for i in range(3):
        assert torch.allclose(mapped[i], single(severities[i], weights[i], trees[i]), atol=1e-5)


@pytest.mark.parametrize("name", {**OPTIONS, **HARDWARE})
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_in_another_precision_gets_what_single_precision_gets(name, dtype):
    one = {**HARDWARE, **OPTIONS}[name]
    # What the numbers of that precision are, single precision computes with as well.
    x, weight = (value.to(dtype) for value in (INPUT, WEIGHT))
    for severity in (one.off, *one.grid):
        expected = product(one, severity, x=x.float(), weight=weight.float())
        seen = product(one, severity, x=x, weight=weight)
        assert seen.dtype == dtype and seen.isfinite().all()
        near = torch.finfo(dtype).eps if dtype != torch.float64 else 1e-5
        # In double precision another rounding may move a number to the next level of a converter.
        close = torch.isclose(seen.float(), expected, rtol=near, atol=near * expected.abs().max())
        assert close.all() or (one.ranged and dtype == torch.float64 and close.double().mean() > 0.97)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_a_severity_in_numbers_that_cannot_hold_it_is_refused(dtype):
    with pytest.raises(ParameterError, match="^severity must be a tensor of float32 or float64, but torch"):
        Crossbars(Drift(), torch.tensor(86400.0).to(dtype), "autograd", {})


def test_the_scale_of_half_precision_weights_is_found_in_single_precision():
    weight = (WEIGHT * 1e-3).half()
    assert natural_scale(weight) == natural_scale(weight.float())


LAYERS = {
    "zeros": torch.zeros(5, 6),
    "one zero": torch.zeros(1, 1),
    "one weight that is not zero": torch.eye(6)[:5] * torch.tensor([0, 0, 0.7, 0, 0])[:, None],
    "all alike": torch.full((5, 6), -0.3),
    "one row": WEIGHT[:1],
    "one column": WEIGHT[:, :1],
    "one device": WEIGHT[:1, :1],
    "hardly anything": WEIGHT[:5, :6] * 1e-30,
    "little": WEIGHT[:5, :6] * 1e-4,
    "very large": WEIGHT[:5, :6] * 1e10,
    "huge": WEIGHT[:5, :6] * 1e30,
}


@pytest.mark.parametrize("name", {**OPTIONS, **HARDWARE})
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("low", [0.1, 0.0])
def test_odd_layers_give_finite_products_and_gradients(name, layer, low):
    one = {**HARDWARE, **OPTIONS}[name]
    if low == 0 and "window" in {field.name for field in dataclasses.fields(one)} and one.name != "pcm":
        if name == "ir_drop, frozen":
            return
        one = dataclasses.replace(one, window=Window(0.0, 25.0))
    weight = LAYERS[layer]
    for x in (INPUT[:, : weight.shape[1]].contiguous(), torch.zeros(4, weight.shape[1])):
        assert torch.equal(product(one, one.off, x=x, weight=weight), linear(x, weight))
        for severity in one.grid[:: max(1, len(one.grid) - 1)]:
            at = weight.clone().requires_grad_()
            seen = product(one, severity, x=x, weight=at)
            seen.sum().backward()
            assert seen.isfinite().all() and at.grad.isfinite().all()
            # No voltage, no current.
            assert x.any() or seen.abs().max() < 1e-12


def test_a_layer_of_zeros_has_faults_like_any_other():
    assert natural_scale(torch.zeros(2, 3)) == natural_scale(torch.eye(3)) == G_MAX - G_MIN
    weight, ones = torch.zeros(40, 30), torch.ones(1, 30)
    drawn = numbers(StuckAt(), weight=weight, batch=1)["0"]["stuck_at"]["chip"]
    # By hand: what is stuck at the highest conductance is a weight of one, on either side of the pair.
    on = (drawn < 0.1).double() - (drawn < 0.05).double()
    expected = (on[0] - on[1]).sum(1)
    seen = product("stuck_at", 0.1, x=ones, weight=weight)[0]
    assert torch.allclose(seen.double(), expected, atol=1e-5) and expected.any()
    for name in ("variability", "read_noise", "programming_noise", "flicker_noise", "pcm", "rram"):
        one = HARDWARE[name]
        assert product(one, one.grid[-1], x=ones, weight=weight).abs().max() > 1e-3
        # Next to nothing is nothing: the fault must not fade with the weight that it replaces.
        for little in (1e-38, 1e-20, 1e-7):
            almost = product(one, one.grid[-1], x=ones, weight=torch.full((40, 30), little))
            assert almost.abs().max() > 1e-3
    # A scale that was kept when a layer began at zero leaves room for the weights that it learns.
    held = Variability(scale="fixed")
    started = Crossbars(held, torch.tensor(0.0), "autograd", numbers(held))
    started("0", INPUT, torch.zeros_like(WEIGHT))
    later = Crossbars(held, torch.tensor(0.0), "autograd", merged(numbers(held), started.calibrated))
    assert torch.allclose(later("0", INPUT, WEIGHT / 2), linear(INPUT, WEIGHT / 2), atol=1e-5)


@pytest.mark.parametrize("name", HARDWARE)
def test_no_step_of_a_grid_is_without_effect(name):
    one = HARDWARE[name]
    products = [product(one, severity) for severity in (one.off, *(at for at in one.grid if at != one.off))]
    for mild, harsh in itertools.pairwise(products):
        assert not torch.allclose(mild, harsh, rtol=1e-4)


def test_a_flat_drift_curve_is_seen_to_be_without_effect():
    class Flat(Drift):
        def exponent(self, g, normal):
            return torch.zeros_like(g)

    model = torch.nn.Linear(20, 12, bias=False)
    changes = {kind: [_changed(model, kind(), seconds) for seconds in Drift.grid] for kind in (Flat, Drift)}
    assert changes[Flat] == [0.0] * len(Drift.grid)
    assert 0 < changes[Drift][0] and changes[Drift] == sorted(changes[Drift])


def _changed(model: torch.nn.Module, one: Perturbation, severity: float) -> float:
    with on_chip(model, one, severity) as chip:
        chip.watch = True
        model(INPUT)
    return chip.changed[""]


# ------------------------------------------------------------------------------------------------ class by class


def test_read_noise_is_the_sum_of_every_devices_fluctuation():
    sigma, reads = 0.1, 4000
    source = runtime.stream(0, "devices")
    x, weight = INPUT[:1], WEIGHT[:3]
    pair = to_pair(weight)
    devices = pair.g + sigma * G_MAX * torch.randn(reads, *pair.g.shape, generator=source)
    simulated = ((devices[:, 0] - devices[:, 1]) / pair.scale) @ x[0]
    drawn = torch.stack([product("read_noise", sigma, seed=seed, x=x, weight=weight)[0] for seed in range(reads)])
    plain = linear(x, weight)[0]
    assert torch.allclose(drawn.std(0), simulated.std(0), rtol=0.08)
    assert ((drawn.mean(0) - plain).abs() < 4 * drawn.std(0) / math.sqrt(reads)).all()
    # A second read of the same images gives other numbers; so do two images of one read.
    assert not torch.equal(drawn[0], drawn[1])
    twice = product("read_noise", sigma, x=x.repeat(2, 1), weight=weight)
    assert not torch.equal(twice[0], twice[1])


def test_variability_spreads_by_sigma_and_stays_in_the_window():
    g, changed = chip(0.1, "variability", level(0.5, 200))
    middle = (changed - g)[0, 1:, 1:]
    assert middle.std().item() == pytest.approx(0.1 * G_MAX, rel=0.02)
    assert abs(middle.mean().item()) < 0.05
    assert changed.min() == 0 and changed.max() <= G_MAX * (1 + 1e-6)
    # A device at rest can only err upwards: half a Gaussian.
    at_rest = (changed - g)[1, 1:, 1:]
    assert at_rest.mean().item() == pytest.approx(0.1 * G_MAX / math.sqrt(2 * math.pi), rel=0.05)


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(0, 5),
    width=st.floats(0.5, 50),
    severity=st.floats(0, 1),
    out=st.integers(1, 5),
    inputs=st.integers(1, 5),
    seed=st.integers(0, 2**20),
)
def test_what_varies_conducts_no_less_than_nothing_and_no_more_than_the_window(low, width, severity, out, inputs, seed):
    window = Window(low, low + width)
    one = Variability(window=window)
    source = runtime.stream(seed, "devices")
    g = to_pair(torch.randn(out, inputs, generator=source), window).g
    seen = one.conductance(g, torch.tensor(severity), {"chip": 3 * torch.randn(g.shape, generator=source)})
    assert (seen >= 0).all() and (seen <= g.clamp_min(window.high) * (1 + 1e-6)).all()


def test_drift_follows_the_published_law():
    day = 86400.0
    for share, kept in ((1.0, 0.665), (0.5, 0.665), (0.01, 0.48)):
        g, changed = chip(day, "drift", level((share * G_MAX - G_MIN) / (G_MAX - G_MIN)))
        assert (changed / g)[0, 1:, 1:].mean().item() == pytest.approx(kept, rel=0.02)
    g = to_pair(torch.ones(1, 1)).g
    drawn = {"chip": torch.zeros(2, 1, 1)}
    mean = PERTURBATIONS["drift"].conductance(g, torch.tensor(day), drawn)
    assert mean[0].item() == pytest.approx(G_MAX * (day / T_ZERO) ** -0.049, rel=1e-5)
    later = PERTURBATIONS["drift"].conductance(g, torch.tensor(10 * day), drawn)
    assert (later < mean).all()


def test_ideal_compensation_restores_the_sum_of_conductances():
    one = Drift(compensation="global")
    g, drifted = chip(YEAR, one, WEIGHT)
    pair = to_pair(WEIGHT)
    y = torch.randn(5, 12, generator=runtime.stream(0, "currents"))
    factor = one.digital(y, Arrays(pair, drifted), torch.tensor(YEAR), {}) / y
    assert torch.allclose(factor, factor[0, 0].expand_as(factor), rtol=1e-5)
    assert (factor[0, 0] * drifted.sum()).item() == pytest.approx(g.sum().item(), rel=1e-5)
    assert factor[0, 0] > 1.5
    # Before anything has drifted, there is nothing to restore; without compensation, nothing is restored.
    assert torch.equal(one.digital(y, Arrays(pair, pair.g), torch.tensor(T_ZERO), {}), y)
    assert torch.equal(Drift().digital(y, Arrays(pair, drifted), torch.tensor(YEAR), {}), y)


def test_compensation_brings_the_product_of_a_drifted_array_closer():
    plain = linear(INPUT, WEIGHT)
    error = {
        name: np.mean([(product(name, YEAR, seed=seed) - plain).square().mean().item() for seed in range(10)])
        for name in ("drift", "drift, compensated", "drift, compensated by a noisy readout")
    }
    assert error["drift, compensated"] < 0.5 * error["drift"]
    assert error["drift, compensated by a noisy readout"] == pytest.approx(error["drift, compensated"], rel=0.3)


def test_a_noisy_readout_adds_the_fluctuation_of_the_summed_devices():
    ideal, noisy = Drift(compensation="global"), Drift(compensation="global", readout="noisy")
    weight = level(0.5, 12)
    pair = to_pair(weight)
    exponents = torch.zeros(2, 12, 12)
    g = ideal.conductance(pair.g, torch.tensor(YEAR), {"chip": exponents})
    y = torch.ones(1)

    def factor(one, **drawn):
        return one.digital(y, Arrays(pair, g), torch.tensor(YEAR), drawn).item()

    gauges = torch.randn(4000, generator=runtime.stream(0, "gauge"))
    seen = pair.g.sum().item() / np.array([factor(noisy, gauge=gauge) for gauge in gauges])
    # By hand: every device's share of fluctuation, independent of the others', by the conductance it was aimed at.
    share = pair.g.double() / G_MAX
    quality = (0.0088 / share**0.65).clamp(max=0.2)
    spread = (g * quality).square().sum().sqrt() * math.sqrt(math.log((YEAR + 250e-9) / 500e-9))
    assert seen.std() == pytest.approx(spread.item(), rel=0.05)
    assert seen.mean() == pytest.approx(g.sum().item(), abs=4 * spread.item() / math.sqrt(4000))
    assert factor(noisy, gauge=torch.tensor(0.0)) == pytest.approx(factor(ideal), rel=1e-6)
    # The readout is done once for a chip; without it, no number is drawn for it. And it leaves the exponents of all
    # layers as they are.
    shapes = {layer: Shape((3, 4), ()) for layer in "ab"}
    quiet, loud = (draw_chip(one, shapes, runtime.stream(0, "a")) for one in (ideal, noisy))
    quiet, loud = flat(quiet), flat(loud)
    assert set(quiet) == {(layer, "drift", "chip") for layer in "ab"}
    assert set(loud) == {*quiet, *((layer, "drift", "gauge") for layer in "ab")}
    assert all(torch.equal(quiet[path], loud[path]) for path in quiet)


def test_stuck_devices_are_half_low_half_high_and_stay_stuck_when_more_join():
    weight = level(0.4, 300)
    g, changed = chip(0.1, "stuck_at", weight)
    low, high = (changed == G_MIN)[0, 1:, 1:], (changed == G_MAX)[:, 1:, 1:]
    assert low.double().mean().item() == pytest.approx(0.05, abs=0.005)
    assert high.double().mean().item() == pytest.approx(0.05, abs=0.005)
    kept = ~low & ~high[0]
    assert torch.equal(changed[0, 1:, 1:][kept], g[0, 1:, 1:][kept])
    _, more = chip(0.2, "stuck_at", weight)
    assert (more == G_MAX)[:, 1:, 1:].sum() > high.sum()
    # Nested: what is stuck at a low rate is stuck at a higher one.
    assert not (low & (more[0, 1:, 1:] == g[0, 1:, 1:])).any()


@pytest.mark.parametrize("on", [0.0, 0.2, 1.0])
def test_the_share_of_devices_that_are_stuck_on(on):
    _, changed = chip(0.2, StuckAt(on=on), level(0.4, 300))
    high = (changed[0, 1:, 1:] == G_MAX).double().mean().item()
    low = (changed[0, 1:, 1:] == G_MIN).double().mean().item()
    assert high == pytest.approx(0.2 * on, abs=0.005) and low == pytest.approx(0.2 * (1 - on), abs=0.005)
    if on in (0, 1):
        assert (low if on else high) == 0


def test_separate_rates_of_faults():
    one, severity = StuckAt.rates(on=0.0175, off=0.0904)
    assert severity == pytest.approx(0.1079)
    _, changed = chip(severity, one, level(0.4, 400))
    assert (changed[0, 1:, 1:] == G_MAX).double().mean().item() == pytest.approx(0.0175, abs=0.002)
    assert (changed[0, 1:, 1:] == G_MIN).double().mean().item() == pytest.approx(0.0904, abs=0.004)
    clustered, severity = StuckAt.rates(0.1, 0.1, cluster=4)
    assert clustered == StuckAt(on=0.5, cluster=4) and severity == pytest.approx(0.2)
    none, severity = StuckAt.rates(0, 0)
    assert none.check(severity) == none.off


@pytest.mark.parametrize(("on", "off"), [(0.6, 0.5), (-0.1, 0.1), (0.1, 1.2), ("0.1", 0.1), (math.nan, 0.1)])
def test_impossible_rates_of_faults_are_refused(on, off):
    with pytest.raises(ParameterError, match="^(on|off|on [+] off) must be .*, but .* was given.$"):
        StuckAt.rates(on, off)


def test_clustered_faults_come_in_blocks_that_are_stuck_alike():
    one, side = StuckAt(cluster=4), 300
    drawn = one.draw_chip((side, side), runtime.stream(0, "faults"))["chip"]
    assert drawn.shape == (2, side, side)
    blocks = drawn.unflatten(1, (-1, 4)).unflatten(3, (-1, 4))
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    # Blocks differ from each other, and the two arrays of a pair too.
    assert len(blocks[:, :, 0, :, 0].unique()) > 0.99 * 2 * (side // 4) ** 2
    g = to_pair(level(0.4, side)).g
    changed = one.conductance(g, torch.tensor(0.2), {"chip": drawn})[0]
    stuck = (changed == G_MAX) | (changed == G_MIN)
    assert stuck.double().mean().item() == pytest.approx(0.2, abs=0.02)
    states = changed[4:, 4:].unflatten(0, (-1, 4)).unflatten(2, (-1, 4))
    assert (states == states[:, :1, :, :1]).all()


def test_clusters_are_cut_off_at_the_edges_of_the_array_and_each_group_has_its_own():
    drawn = StuckAt(cluster=3).draw_chip((5, 7, 4), runtime.stream(0, "faults"))["chip"]
    assert drawn.shape == (2, 5, 7, 4)
    assert (drawn[..., :3, :3] == drawn[..., :1, :1]).all() and (drawn[..., 6, 3] != drawn[..., 5, 3]).all()
    assert (drawn[:, 0] != drawn[:, 1]).all()


def test_ir_drop_is_the_circuit_of_both_arrays():
    _, changed = chip(200.0, "ir_drop", WEIGHT)
    pair = to_pair(WEIGHT)
    arrays = [effective_conductance(pair.g[k].T, 200.0, 200.0, exact=True).T for k in range(2)]
    assert torch.allclose(changed, torch.stack(arrays), rtol=1e-6)
    expected = (arrays[0] - arrays[1]) / pair.scale
    assert torch.allclose(product("ir_drop", 200.0), linear(INPUT.double(), expected).float(), atol=1e-5)
    # No randomness: every chip is the same.
    assert not PERTURBATIONS["ir_drop"].random
    assert torch.equal(product("ir_drop", 200.0, seed=1), product("ir_drop", 200.0, seed=2))


def test_the_ratio_is_that_of_the_word_lines_resistance():
    _, changed = chip(200.0, "ir_drop, uneven", WEIGHT)
    expected = effective_conductance(to_pair(WEIGHT).g.mT, 60.0, 200.0, exact=True).mT
    assert torch.allclose(changed, expected, rtol=1e-6)
    swapped = effective_conductance(to_pair(WEIGHT).g.mT, 200.0, 60.0, exact=True).mT
    assert not torch.allclose(changed, swapped, rtol=1e-3)


def test_the_approximate_circuit_is_close_to_the_circuit():
    g, exact = chip(100.0, "ir_drop", WEIGHT)
    _, near = chip(100.0, "ir_drop, approximate", WEIGHT)
    assert (near - exact).abs().max() < 0.05 * (g - exact).abs().max()
    assert not torch.equal(near, exact)


def test_a_layer_in_tiles_is_made_of_the_tiles_own_circuits():
    g = to_pair(WEIGHT).g
    one, alone = IRDrop(ratio=0.5, tile=(8, 5)), IRDrop(ratio=0.5)
    seen = one.conductance(g, torch.tensor(300.0), {})
    for top in range(0, 20, 8):
        for left in range(0, 12, 5):
            # Word lines are inputs, bit lines outputs.
            part = (..., slice(left, left + 5), slice(top, top + 8))
            assert torch.allclose(seen[part], alone.conductance(g[part], torch.tensor(300.0), {}), rtol=1e-5)
    whole = IRDrop(ratio=0.5, tile=(64, 64)).conductance(g, torch.tensor(300.0), {})
    assert torch.allclose(whole, alone.conductance(g, torch.tensor(300.0), {}), rtol=1e-6)
    # Shorter wires lose less.
    assert (seen - g).abs().mean() < 0.5 * (whole - g).abs().mean()


def test_a_tile_given_as_a_list_is_the_same_value():
    assert IRDrop(tile=[8, 5]) == IRDrop(tile=(8, 5)) and hash(IRDrop(tile=[8, 5])) == hash(IRDrop(tile=(8, 5)))


@pytest.mark.parametrize("tile", [(0, 5), 8, (8, 5, 2), (8.0, 5)])
def test_impossible_tiles_are_refused(tile):
    with pytest.raises(ParameterError, match="^tile.* must be .*, but .* was given.$"):
        IRDrop(tile=tile)
    with pytest.raises(ParameterError, match="^solver must be circuit with tiles, but 'approximate' was given.$"):
        IRDrop(tile=(8, 8), solver="approximate")


def test_a_frozen_load_is_linear_in_the_conductances():
    one = IRDrop(load="frozen")
    assert one.held == {"ir_drop": ("share",)} and IRDrop().held == {}
    g, drawn = to_pair(WEIGHT).g, {}
    first = one.conductance(g, torch.tensor(300.0), drawn)
    assert torch.allclose(first, chip(300.0, "ir_drop", WEIGHT)[1], rtol=1e-6)
    assert drawn["share"].mean() < 1
    other = to_pair(WEIGHT.flip(0)).g
    seen = one.conductance(other, torch.tensor(300.0), drawn)
    assert torch.allclose(seen, other * first / g, rtol=1e-5)
    assert not torch.allclose(seen, chip(300.0, "ir_drop", WEIGHT.flip(0))[1], rtol=1e-3)


def test_a_frozen_load_is_refused_where_devices_may_conduct_nothing():
    with pytest.raises(ParameterError, match="^window.low must be a number above 0, but 0.0 was given.$"):
        IRDrop(load="frozen", window=Window(0.0, 25.0))
    assert IRDrop(window=Window(0.0, 25.0)).held == {}


def test_predistortion_brings_the_circuit_closer_to_what_was_meant():
    g = to_pair(WEIGHT / 2).g
    errors = []
    for corrections in range(4):
        one = IRDrop(predistort=corrections)
        programmed = one.programmed(g, torch.tensor(100.0))
        assert (programmed <= g.clamp_min(G_MAX)).all() and (programmed > 0).all()
        errors.append((one.conductance(g, torch.tensor(100.0), {}) - g).abs().mean().item())
    assert errors[0] > 2 * errors[1] and errors[1] > errors[2] > errors[3] > 0


# ------------------------------------------------------------------------------------------------ converters


@pytest.mark.parametrize("calibration", ["quantile", "largest", "best", "learned"])
@pytest.mark.parametrize("nothing", [0.0, math.nan, math.inf])
def test_a_converter_is_not_calibrated_on_nothing(calibration, nothing):
    one, bits, drawn = ADC(calibration=calibration), torch.tensor(4.0), {}
    one.current(torch.full((4, 3), nothing), None, None, bits, drawn)
    assert drawn == {}
    y = torch.linspace(-1, 1, 90).requires_grad_()
    seen = one.current(y, None, None, bits, drawn)
    assert (seen - y).abs().max() <= 1 / 14 * 1.3 and drawn["range"] >= 0.9
    seen.sum().backward()
    assert y.grad.isfinite().all()


def test_a_model_whose_first_batch_is_zero_is_calibrated_on_the_next():
    model = torch.nn.Linear(20, 12, bias=False)
    with torch.no_grad(), on_chip(model, ADC(), 8):
        assert not model(torch.zeros(3, 20)).any()
        seen = model(INPUT)
    with torch.no_grad(), on_chip(model, ADC(), 8):
        assert torch.equal(model(INPUT), seen)


def test_a_range_found_on_zeros_where_numbers_cannot_be_looked_at_gives_no_nan():
    bound = torch.func.vmap(lambda y: ADC().full_scale(y, torch.tensor(4.0)))(torch.zeros(2, 9))
    assert (bound > 0).all()
    y = torch.ones(3, requires_grad=True)
    seen = convert(y, torch.tensor(4.0), bound[0], through=True)
    seen.sum().backward()
    assert seen.isfinite().all() and y.grad.isfinite().all()


def test_the_range_of_currents_that_are_almost_all_zero_is_their_largest():
    y = torch.zeros(1000)
    y[7] = -3.0
    assert quantile_of_size(y, 0.99) == 3
    y[:20] = torch.linspace(1, 2, 20)
    assert quantile_of_size(y, 0.99) == pytest.approx(np.sort(y.numpy())[-10], rel=1e-6)


def converted(y: torch.Tensor, bits: float, bound: torch.Tensor, one: ADC | None = None) -> torch.Tensor:
    return (one or ADC()).current(y, y, None, torch.tensor(float(bits)), {"range": bound})


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_an_adc_of_b_bits_knows_two_to_the_b_minus_one_values(bits):
    y = torch.linspace(-3, 3, 20001)[:, None]
    seen = converted(y, bits, torch.tensor(2.0))
    levels = seen.unique()
    assert len(levels) == 2**bits - 1
    step = 2.0 / (2 ** (bits - 1) - 1)
    assert torch.allclose(levels.diff(), torch.tensor(step), rtol=1e-3)
    inside = y.abs() <= 2
    assert (seen - y)[inside].abs().max() <= step / 2 * 1.001
    assert seen.max() == pytest.approx(2.0) and seen.min() == pytest.approx(-2.0)
    assert (seen[1:] >= seen[:-1]).all()


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=30),
    bits=st.integers(2, 16),
    bound=st.floats(1e-3, 1e3),
    through=st.booleans(),
)
def test_a_converter_is_monotone_odd_and_within_its_range(values, bits, bound, through):
    y = torch.tensor(values).sort().values
    seen = convert(y, torch.tensor(float(bits)), torch.tensor(bound), through)
    assert (seen.diff() >= 0).all() and (seen.abs() <= bound * (1 + 1e-6)).all()
    assert torch.equal(convert(-y, torch.tensor(float(bits)), torch.tensor(bound), through), -seen)
    # Converting twice changes nothing more.
    assert torch.allclose(convert(seen, torch.tensor(float(bits)), torch.tensor(bound)), seen, rtol=1e-4)


def test_the_range_of_an_adc_is_a_quantile_of_the_magnitude_and_carries_no_gradient():
    y = torch.randn(128, 64, generator=runtime.stream(0, "currents")).requires_grad_()
    found = ADC().full_scale(y, torch.tensor(4.0))
    assert not found.requires_grad
    assert found.item() == pytest.approx(np.quantile(y.detach().abs().numpy(), 0.99), rel=0.01)
    # Not of the signed value: that would be 2.33 here, not 2.58.
    assert found.item() > 2.4
    lower = ADC(quantile=0.9).full_scale(y, torch.tensor(4.0))
    assert lower.item() == pytest.approx(np.quantile(y.detach().abs().numpy(), 0.9), rel=0.01)


def test_the_largest_calibration_cuts_off_nothing():
    y = torch.randn(40, 30, generator=runtime.stream(0, "currents"))
    assert ADC(calibration="largest").full_scale(y, torch.tensor(4.0)) == y.abs().max()


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(2, 10), seed=st.integers(0, 2**20), heavy=st.booleans(), count=st.integers(1, 400))
def test_the_best_calibration_is_no_worse_than_any_candidate(bits, seed, heavy, count):
    y = torch.randn(count, generator=runtime.stream(seed, "currents"))
    y = y**3 if heavy else y
    one, severity = ADC(calibration="best"), torch.tensor(float(bits))

    def error(bound):
        return (convert(y, severity, bound) - y).abs().mean().item()

    candidates = [error(quantile_of_size(y, share)) for share in ADC.CANDIDATES]
    assert error(one.full_scale(y, severity)) == pytest.approx(min(candidates), rel=1e-6)


def test_the_best_calibration_depends_on_the_resolution():
    y = torch.randn(20000, generator=runtime.stream(0, "currents"))
    coarse, fine = (ADC(calibration="best").full_scale(y, torch.tensor(bits)) for bits in (3.0, 10.0))
    assert coarse < fine <= y.abs().max()
    # Also when every replica has a resolution of its own.
    both = torch.func.vmap(lambda bits: ADC(calibration="best").full_scale(y, bits))(torch.tensor([3.0, 10.0]))
    assert torch.equal(both, torch.stack([coarse, fine]))


def test_a_learned_range_passes_gradient_through_rounding_but_not_through_cutting_off():
    # Also those that round up to the highest level, from below it and from above.
    y = torch.tensor([-3.0, -2.2, -1.9, -0.4, 0.0, 0.3, 1.2, 1.7, 1.99, 2.01, 2.2, 5.0], requires_grad=True)
    bound = torch.tensor(2.0, requires_grad=True)
    seen = converted(y, 3.0, bound, ADC(calibration="learned"))
    assert torch.equal(seen, converted(y, 3.0, bound))
    (into_y,) = torch.autograd.grad(seen.sum(), y, retain_graph=True)
    assert torch.allclose(into_y, (y.detach().abs() <= 2).float())


def test_the_gradient_into_a_learned_range_is_the_slope_of_the_surrogate():
    y = 2 * torch.randn(200, generator=runtime.stream(0, "currents")).double()
    sent = torch.randn(200, generator=runtime.stream(0, "sent")).double()
    bound = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    seen = converted(y, 4.0, bound, ADC(calibration="learned"))
    (found,) = torch.autograd.grad((seen * sent).sum(), bound)
    # The surrogate: what rounding adds, in steps, is a constant; the rest follows the range.
    levels = 7
    place = (y / (1.7 / levels)).clamp(-levels, levels)
    added = place.round() - place

    def surrogate(at: float) -> float:
        step = at / levels
        return (((y / step).clamp(-levels, levels) + added) * step * sent).sum().item()

    assert found.item() == pytest.approx((surrogate(1.7 + 1e-6) - surrogate(1.7 - 1e-6)) / 2e-6, rel=1e-6)
    assert found != 0
    # Under the other calibrations the staircase has no slope in its input.
    fixed = y.clone().requires_grad_()
    (flat,) = torch.autograd.grad((converted(fixed, 4.0, torch.tensor(1.7)) * sent).sum(), fixed)
    assert not flat.any()


def test_which_gradient_passes_an_adc():
    for rule, passes in (("autograd", False), ("straight_through", True), ("noise_injection", True)):
        weight = WEIGHT.clone().requires_grad_()
        product("adc", 4.0, rule=rule, weight=weight).square().sum().backward()
        assert (weight.grad != 0).any().item() == passes


def test_perturbations_are_values():
    assert Drift() == Drift() != Drift(compensation="global") and hash(StuckAt(on=0.2)) == hash(StuckAt(on=0.2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Drift().compensation = "global"
