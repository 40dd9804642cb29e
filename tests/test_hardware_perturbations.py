"""Each perturbation against what its physics says, drawn or solved independently."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from lib import runtime
from lib.checks import ParameterError
from lib.hardware.circuit import effective_conductance
from lib.hardware.networks import Crossbars
from lib.hardware.perturbations import (
    ADC_QUANTILE,
    G_MAX,
    G_MIN,
    PERTURBATIONS,
    T_ZERO,
    full_scale,
    seen_weight,
    to_pair,
)
from lib.hardware.training import draw

WEIGHT = torch.randn(12, 20, generator=runtime.stream(0, "weight")) / 4
INPUT = torch.rand(9, 20, generator=runtime.stream(0, "input"))


def product(name: str, severity: float, *, seed: int = 0, rule: str = "autograd", x=INPUT, weight=WEIGHT):
    """One product on the chip of a seed."""
    perturbation = PERTURBATIONS[name]
    drawn = draw(perturbation, {"weight.0": weight}, len(x), runtime.stream(seed, "chip"))
    return Crossbars(perturbation, torch.tensor(severity), rule, drawn)("0", x, weight)


def chip(severity: float, name: str, weight: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Conductances before and after a perturbation of the arrays."""
    perturbation = PERTURBATIONS[name]
    drawn = draw(perturbation, {"weight.0": weight}, 1, runtime.stream(seed, "chip"))
    g = to_pair(weight).g
    return g, perturbation.conductance(g, torch.tensor(severity), drawn.get("chip.0"))


def test_the_six_classes():
    assert list(PERTURBATIONS) == ["read_noise", "variability", "drift", "stuck_at", "ir_drop", "adc"]
    assert len({one.title for one in PERTURBATIONS.values()}) == 6
    for one in PERTURBATIONS.values():
        assert all(one.check(severity) == severity for severity in (*one.grid, one.off, one.low, one.high))
        assert one.formula and one.physics and one.measures and one.unit


def test_a_differential_pair_holds_the_weight_within_the_window():
    pair = to_pair(WEIGHT)
    assert torch.allclose((pair.g[0] - pair.g[1]) / pair.scale, WEIGHT, atol=1e-6)
    assert pair.g.min() == G_MIN and pair.g.max() == pytest.approx(G_MAX, rel=1e-6)
    # One of the two is always at rest.
    assert (pair.g.amin(0) == G_MIN).all()
    assert torch.equal(seen_weight(pair, pair.g), WEIGHT)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_off_is_the_plain_product_bit_by_bit(name):
    one = PERTURBATIONS[name]
    plain = linear(INPUT, WEIGHT)
    assert torch.equal(product(name, one.off), plain)
    # Also beside replicas for which it is on.
    severities = torch.tensor([one.off, one.grid[-1], one.off])
    drawn = draw(one, {"weight.0": WEIGHT}, len(INPUT), runtime.stream(0, "chip"))
    mapped = torch.func.vmap(lambda s: Crossbars(one, s, "autograd", drawn)("0", INPUT, WEIGHT))(severities)
    single = torch.func.vmap(lambda s: linear(INPUT, WEIGHT) + 0 * s.clamp(0, 1))(severities)
    assert torch.equal(mapped[0], single[0]) and torch.equal(mapped[2], single[2])
    assert not torch.equal(mapped[1], single[1])


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_on_changes_the_product_and_harsher_changes_it_more(name):
    one = PERTURBATIONS[name]
    plain = linear(INPUT, WEIGHT)
    mild, harsh = (
        np.mean([(product(name, severity, seed=seed) - plain).square().mean().item() for seed in range(20)])
        for severity in (one.grid[0], one.grid[-1])
    )
    assert 0 < mild < harsh


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_replicas_have_their_own_severity_and_chip(name):
    one = PERTURBATIONS[name]
    severities = torch.tensor(one.grid[:3])
    trees = [draw(one, {"weight.0": WEIGHT}, len(INPUT), runtime.stream(seed, "chip")) for seed in range(3)]
    weights = torch.stack([WEIGHT, 2 * WEIGHT, -WEIGHT])
    stacked = {key: torch.stack([tree[key] for tree in trees]) for key in trees[0]}

    def single(severity, weight, drawn):
        return Crossbars(one, severity, "autograd", drawn)("0", INPUT, weight)

    mapped = torch.func.vmap(single, in_dims=(0, 0, 0 if stacked else None))(severities, weights, stacked)
    for i in range(3):
        assert torch.allclose(mapped[i], single(severities[i], weights[i], trees[i]), atol=1e-5)


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
    weight = torch.full((200, 200), 0.5)
    weight[0, 0] = 1.0
    g, changed = chip(0.1, "variability", weight)
    middle = (changed - g)[0, 1:, 1:]
    assert middle.std().item() == pytest.approx(0.1 * G_MAX, rel=0.02)
    assert abs(middle.mean().item()) < 0.05
    assert changed.min() == 0 and changed.max() <= G_MAX * (1 + 1e-6)
    # A device at rest can only err upwards: half a Gaussian.
    at_rest = (changed - g)[1, 1:, 1:]
    assert at_rest.mean().item() == pytest.approx(0.1 * G_MAX / math.sqrt(2 * math.pi), rel=0.05)


def test_drift_follows_the_published_law():
    day = 86400.0
    for level, kept in ((1.0, 0.665), (0.5, 0.665), (0.01, 0.48)):
        weight = torch.full((150, 150), (level * G_MAX - G_MIN) / (G_MAX - G_MIN))
        weight[0, 0] = 1.0
        g, changed = chip(day, "drift", weight)
        assert (changed / g)[0, 1:, 1:].mean().item() == pytest.approx(kept, rel=0.02)
    g = to_pair(torch.ones(1, 1)).g
    mean = PERTURBATIONS["drift"].conductance(g, torch.tensor(day), torch.zeros(2, 1, 1))
    assert mean[0].item() == pytest.approx(G_MAX * (day / T_ZERO) ** -0.049, rel=1e-5)
    later = PERTURBATIONS["drift"].conductance(g, torch.tensor(10 * day), torch.zeros(2, 1, 1))
    assert (later < mean).all()


def test_stuck_devices_are_half_low_half_high_and_stay_stuck_when_more_join():
    weight = torch.full((300, 300), 0.4)
    weight[0, 0] = 1.0
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


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_an_adc_of_b_bits_knows_two_to_the_b_minus_one_values(bits):
    adc = PERTURBATIONS["adc"]
    y = torch.linspace(-3, 3, 20001)[:, None]
    bound = torch.tensor(2.0)
    seen = adc.current(y, y, torch.ones(()), torch.tensor(float(bits)), None, bound)
    levels = seen.unique()
    assert len(levels) == 2**bits - 1
    step = 2.0 / (2 ** (bits - 1) - 1)
    assert torch.allclose(levels.diff(), torch.tensor(step), rtol=1e-3)
    inside = y.abs() <= 2
    assert (seen - y)[inside].abs().max() <= step / 2 * 1.001
    assert seen.max() == pytest.approx(2.0) and seen.min() == pytest.approx(-2.0)
    assert (seen[1:] >= seen[:-1]).all()


def test_the_range_of_an_adc_is_a_quantile_of_the_magnitude_and_carries_no_gradient():
    y = torch.randn(128, 64, generator=runtime.stream(0, "currents")).requires_grad_()
    found = full_scale(y)
    assert not found.requires_grad
    assert found.item() == pytest.approx(np.quantile(y.detach().abs().numpy(), ADC_QUANTILE), rel=0.01)
    # Not of the signed value: that would be 2.33 here, not 2.58.
    assert found.item() > 2.4


def test_which_gradient_passes_an_adc():
    for rule, passes in (("autograd", False), ("straight_through", True)):
        weight = WEIGHT.clone().requires_grad_()
        product("adc", 4.0, rule=rule, weight=weight).square().sum().backward()
        assert (weight.grad != 0).any().item() == passes


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("read_noise", -0.1),
        ("variability", 1.5),
        ("drift", 1.0),
        ("drift", 0),
        ("stuck_at", 1.01),
        ("ir_drop", -1),
        ("ir_drop", 2000.0),
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
