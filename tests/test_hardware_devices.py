"""Calibrated devices, converters at the input, and chips on which several things go wrong at once."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from lib import replicas, runtime
from lib.checks import ParameterError
from lib.hardware.crossbars import Crossbars, Shape, draw_chip, draw_read, on_chip
from lib.hardware.devices import (
    DAC,
    HARDWARE,
    Composite,
    FlickerNoise,
    Ideal,
    PhaseChange,
    ProgrammingNoise,
    Resistive,
    make,
    pcm_spread,
    rram_spread,
)
from lib.hardware.mitigation import Redundant
from lib.hardware.numbers import merged
from lib.hardware.perturbations import (
    ADC,
    PERTURBATIONS,
    T_LAST,
    T_ZERO,
    WINDOW,
    Drift,
    IRDrop,
    ReadNoise,
    StuckAt,
    Variability,
    Window,
    flicker,
    to_pair,
)

WEIGHT = torch.randn(12, 20, generator=runtime.stream(0, "weight")) / 4
INPUT = torch.rand(9, 20, generator=runtime.stream(0, "input"))
DAY, YEAR = 86400.0, 3.15e7


def numbers(one, seed=0, weight=WEIGHT, batch=9) -> dict:
    """The random numbers of one chip and one read of a single layer, "0"."""
    shapes = {"0": Shape(tuple(weight.shape), (weight.shape[-2],))}
    source = runtime.stream(seed, "chip")
    return merged(draw_chip(one, shapes, source), draw_read(one, shapes, batch, source))


def product(one, severity, drawn=None, *, seed=0, rule="autograd", x=INPUT, weight=WEIGHT):
    """One product on the chip of a seed, or on one with the numbers given."""
    drawn = numbers(one, seed, weight, len(x)) if drawn is None else drawn
    return Crossbars(one, torch.tensor(severity), rule, drawn)("0", x, weight)


# ------------------------------------------------------------------------------------------------ published laws


@pytest.mark.parametrize(("share", "spread"), [(0.0, 0.26348), (0.5, 0.952705), (1.0, 1.05538), (0.1, 0.448249)])
def test_the_spread_of_a_programmed_phase_change_device(share, spread):
    assert pcm_spread(torch.tensor(25 * share)).item() == pytest.approx(spread, rel=1e-5)
    assert pcm_spread(torch.tensor(40 * share), 40.0).item() == pytest.approx(spread, rel=1e-5)
    assert pcm_spread(torch.tensor(1e3)).item() == 0


@pytest.mark.parametrize(("g", "spread"), [(0.0, 1.053), (10.0, 2.4136), (25.0, 2.09425), (39.26, 1.680554)])
def test_the_spread_of_a_programmed_resistive_device(g, spread):
    assert rram_spread(torch.tensor(g, dtype=torch.float64)).item() == pytest.approx(spread, rel=1e-4)
    assert rram_spread(torch.tensor(g), 40.0) == rram_spread(torch.tensor(g))


@pytest.mark.parametrize(("share", "relative"), [(1.0, 0.037), (0.5, 0.058), (0.1, 0.164)])
def test_the_read_noise_of_a_phase_change_device_at_twenty_seconds(share, relative):
    g = torch.tensor(25 * share)
    assert (flicker(g, torch.tensor(20.0)) / g).item() == pytest.approx(relative, abs=5e-4)


def test_read_noise_grows_with_the_logarithm_of_time_and_is_bounded_for_devices_at_rest():
    g = torch.tensor(5.0)
    early, late = (flicker(g, torch.tensor(t)).item() for t in (20.0, YEAR))
    assert late / early == pytest.approx(math.sqrt(math.log(YEAR / 5e-7) / math.log(20 / 5e-7)), rel=1e-5)
    # Below some 0.8 % of full scale the relative noise grows no more.
    small, smaller = (flicker(torch.tensor(g), torch.tensor(20.0)).item() / g for g in (0.1, 0.01))
    assert small == pytest.approx(smaller, rel=1e-5) == pytest.approx(0.2 * math.sqrt(math.log(20 / 5e-7)), rel=1e-5)
    assert flicker(g, torch.tensor(0.0)) == 0


@pytest.mark.parametrize("law", ["pcm", "rram"])
@pytest.mark.parametrize("k", [1.0, 2.0])
def test_programming_noise_has_the_spread_of_its_law(law, k):
    weight = torch.full((200, 200), 0.5)
    weight[0, 0] = 1.0
    one, g = ProgrammingNoise(law=law), to_pair(weight).g
    drawn = numbers(one, weight=weight)["0"]["programming_noise"]
    changed = one.conductance(g, torch.tensor(k), drawn)
    middle = (changed - g)[0, 1:, 1:]
    expected = {"pcm": pcm_spread, "rram": rram_spread}[law](g[0, 1, 1]).item()
    assert middle.std().item() == pytest.approx(k * expected, rel=0.02)
    assert abs(middle.mean().item()) < 4 * k * expected / 200
    # At rest a device can lose no more than it has.
    assert changed.min() == 0 and (changed[1, 1:, 1:] == 0).double().mean() > 0.2


def test_flicker_noise_is_the_sum_of_every_devices_fluctuation():
    reads, at, one = 4000, torch.tensor(DAY), FlickerNoise()
    x, weight = INPUT[:1], WEIGHT[:3]
    pair = to_pair(weight)
    fluctuation = torch.randn(reads, *pair.g.shape, generator=runtime.stream(0, "devices"))
    devices = pair.g + flicker(pair.g, at) * fluctuation
    simulated = ((devices[:, 0] - devices[:, 1]) / pair.scale) @ x[0]
    # All reads as one batch of the same input: every one is drawn for itself.
    drawn = product(one, DAY, x=x.expand(reads, -1), weight=weight)
    plain = linear(x, weight)[0]
    assert torch.allclose(drawn.std(0), simulated.std(0), rtol=0.06)
    assert ((drawn.mean(0) - plain).abs() < 4 * drawn.std(0) / math.sqrt(reads)).all()
    assert not torch.equal(product(one, DAY, seed=1), product(one, DAY, seed=2))
    # It is the devices' own conductance that fluctuates, not the full scale: a quiet layer is quieter.
    quiet = product(one, DAY, x=x.expand(reads, -1), weight=torch.cat([weight * 0.05, weight[:1]]))[:, :3]
    assert (quiet.std(0) < drawn.std(0)).all()


@settings(max_examples=40, deadline=None)
@given(
    share=st.floats(0, 1),
    seconds=st.floats(T_ZERO, 1e10),
    k=st.floats(0, 30),
    law=st.sampled_from(["pcm", "rram"]),
    seed=st.integers(0, 2**20),
)
def test_noise_is_never_negative_and_conductances_are_neither(share, seconds, k, law, seed):
    g = torch.full((2, 3, 4), WINDOW.low + share * (WINDOW.high - WINDOW.low))
    assert (flicker(g, torch.tensor(seconds)) > 0).all() and (pcm_spread(g) > 0).all() and (rram_spread(g) > 0).all()
    drawn = {"chip": torch.randn(g.shape, generator=runtime.stream(seed, "chip"))}
    assert (ProgrammingNoise(law=law).conductance(g, torch.tensor(k), drawn) >= 0).all()


# ------------------------------------------------------------------------------------------------ off and on

FURTHER = {
    "programming_noise": ProgrammingNoise(),
    "programming_noise, rram": ProgrammingNoise(law="rram"),
    "flicker_noise": FlickerNoise(),
    "dac": DAC(),
    "pcm": PhaseChange(),
    "pcm, compensated": PhaseChange(compensation="global", readout="noisy"),
    "rram": Resistive(),
}


@pytest.mark.parametrize("name", FURTHER)
@pytest.mark.parametrize("rule", ["autograd", "straight_through"])
def test_off_is_the_plain_product_bit_by_bit(name, rule):
    one = FURTHER[name]
    drawn = numbers(one)
    assert torch.equal(product(one, one.off, rule=rule), linear(INPUT, WEIGHT))
    severities = torch.tensor([one.off, one.grid[-1], one.off])
    mapped = torch.func.vmap(lambda s: Crossbars(one, s, rule, drawn)("0", INPUT, WEIGHT))(severities)
    single = torch.func.vmap(lambda s: linear(INPUT, WEIGHT) + 0 * s.clamp(0, 1))(severities)
    assert torch.equal(mapped[0], single[0]) and torch.equal(mapped[2], single[2])
    assert not torch.equal(mapped[1], single[1])


@pytest.mark.parametrize("name", FURTHER)
def test_harsher_changes_the_product_more(name):
    one = FURTHER[name]
    plain = linear(INPUT, WEIGHT)
    mild, harsh = (
        np.mean([(product(one, severity, seed=seed) - plain).square().mean().item() for seed in range(20)])
        for severity in (one.grid[0], one.grid[-1])
    )
    assert 0 < mild < harsh


@pytest.mark.parametrize("name", FURTHER)
def test_a_replica_in_a_batch_is_as_it_is_alone(name):
    one = FURTHER[name]
    severities = torch.tensor(one.grid[:3])
    trees = [numbers(one, seed) for seed in range(3)]
    weights = torch.stack([WEIGHT, 2 * WEIGHT, -WEIGHT])
    stacked = replicas.stack(trees)

    def single(severity, weight, drawn):
        return Crossbars(one, severity, "autograd", drawn)("0", INPUT, weight)

    mapped = torch.func.vmap(single, in_dims=(0, 0, 0 if stacked else None))(severities, weights, stacked)
    for i in range(3):
        assert torch.allclose(mapped[i], single(severities[i], weights[i], trees[i]), atol=1e-5)


def test_the_ideal_chip_changes_nothing():
    assert torch.equal(product(Ideal(), 0.0), linear(INPUT, WEIGHT))
    assert not Ideal().random and not Ideal().ranged and Ideal().check(0.0) == 0
    with pytest.raises(ParameterError):
        Ideal().check(0.1)


@pytest.mark.parametrize("bits", [2, 3, 6])
def test_a_dac_knows_two_to_the_b_minus_one_voltages_and_its_range_is_the_largest_input(bits):
    x, drawn = torch.randn(500, 8, generator=runtime.stream(0, "inputs")), {}
    seen = DAC().voltage(x, torch.tensor(float(bits)), drawn)
    assert drawn["range"] == x.abs().max()
    levels = 2 ** (bits - 1) - 1
    whole = seen / (drawn["range"] / levels)
    assert torch.allclose(whole, whole.round(), atol=1e-4) and len(whole.round().unique()) <= 2**bits - 1
    assert seen.abs().max() == pytest.approx(drawn["range"].item(), rel=1e-6)
    assert (seen - x).abs().max() <= drawn["range"] / levels / 2 * 1.001
    # The product is that of the rounded inputs; what is calibrated already is used.
    y = Crossbars(DAC(), torch.tensor(float(bits)), "autograd", {"0": {"dac": drawn}})("0", x, WEIGHT[:, :8])
    assert torch.equal(y, linear(seen, WEIGHT[:, :8]))


def test_a_dac_is_not_calibrated_on_nothing():
    drawn = {}
    for nothing in (0.0, math.nan, math.inf):
        DAC().voltage(torch.full((4, 3), nothing), torch.tensor(8.0), drawn)
        assert drawn == {}
    assert torch.allclose(DAC().voltage(INPUT, torch.tensor(8.0), drawn), INPUT, atol=0.01)
    # On a composed chip neither.
    whole = Composite([DAC(), ADC()])
    crossbars = Crossbars(whole, torch.tensor([4.0, 4.0]), "autograd", {})
    assert not crossbars("0", torch.zeros(2, 20), WEIGHT).any() and crossbars.calibrated == {}


def test_which_gradient_passes_a_dac():
    sent = torch.randn(9, 12, generator=runtime.stream(0, "sent"))
    for rule, passes in (("autograd", False), ("straight_through", True)):
        x, weight = INPUT.clone().requires_grad_(), WEIGHT.clone().requires_grad_()
        into_x, into_weight = torch.autograd.grad(product(DAC(), 3.0, rule=rule, x=x, weight=weight), (x, weight), sent)
        # The weight's gradient lives: what is rounded are its inputs.
        assert into_x.any().item() == passes and into_weight.any()
        assert not passes or torch.allclose(into_x, sent @ WEIGHT, atol=1e-5)


# ------------------------------------------------------------------------------------------------ composites

PARTS = {
    "dac": (DAC(), 6.0),
    "variability": (Variability(), 0.1),
    "programming_noise": (ProgrammingNoise(), 2.0),
    "drift": (Drift(), YEAR),
    "stuck_at": (StuckAt(), 0.1),
    "ir_drop": (IRDrop(), 200.0),
    "read_noise": (ReadNoise(), 0.1),
    "flicker_noise": (FlickerNoise(), DAY),
    "adc": (ADC(), 4.0),
}
WHOLE = Composite(part for part, _ in PARTS.values())


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_parts_is_that_of_the_physics_whatever_the_order_given(seed):
    shuffled = [PARTS[name][0] for name in np.random.default_rng(seed).permutation(list(PARTS))]
    one = Composite(shuffled)
    assert [part.name for part in one.parts] == list(PARTS)
    assert one == WHOLE
    severity = [value for _, value in PARTS.values()]
    assert torch.equal(product(one, severity), product(WHOLE, severity))


@pytest.mark.parametrize("rule", ["autograd", "straight_through"])
@pytest.mark.parametrize("compensation", ["none", "global"])
def test_parts_at_off_change_nothing_bit_for_bit(rule, compensation):
    parts = [part for part, _ in PARTS.values() if part.name != "drift"]
    one = Composite([*parts, Drift(compensation=compensation, readout="noisy")])
    off, on = list(one.off), [value for _, value in PARTS.values()]
    drawn = numbers(one)
    assert torch.equal(product(one, off, drawn, rule=rule), linear(INPUT, WEIGHT))
    severities = torch.tensor([off, on])
    mapped = torch.func.vmap(lambda s: Crossbars(one, s, rule, drawn)("0", INPUT, WEIGHT))(severities)
    single = torch.func.vmap(lambda s: linear(INPUT, WEIGHT) + 0 * s[..., 0].clamp(0, 1))(severities)
    assert torch.equal(mapped[0], single[0]) and not torch.equal(mapped[1], single[1])


@pytest.mark.parametrize("name", PARTS)
def test_a_composite_of_one_active_part_is_that_part(name):
    part, value = PARTS[name]
    severity = WHOLE.check({name: value})
    assert sum(one != off for one, off in zip(severity, WHOLE.off, strict=True)) == 1
    drawn = numbers(WHOLE)
    alone = {"0": {key: own for key, own in drawn["0"].items() if key == name}}
    expected = product(part, value, alone)
    assert not torch.equal(expected, linear(INPUT, WEIGHT))
    assert torch.allclose(product(WHOLE, severity, drawn), expected, rtol=1e-5, atol=1e-6)
    single = product(Composite([part]), [value], drawn)
    # A class that moves devices one by one takes a shorter way when it is alone, which rounds differently.
    assert torch.allclose(single, expected, rtol=1e-5, atol=1e-6) if part.alone else torch.equal(single, expected)
    if name != "ir_drop":
        # The circuit computes in double precision, which changes the last bit; without it, not even that.
        dry = Composite(part for part, _ in PARTS.values() if part.name != "ir_drop")
        assert torch.equal(product(dry, dry.check({name: value}), drawn), single)


def test_noise_comes_before_the_converter():
    one = Composite([ADC(), ReadNoise()])
    crossbars = Crossbars(one, torch.tensor([0.3, 4.0]), "autograd", numbers(one))
    y = crossbars("0", INPUT, WEIGHT)
    bound = crossbars.calibrated["0"]["adc"]["range"]
    assert crossbars.calibrated == {"0": {"adc": {"range": bound}}}
    places = y / (bound / 7)
    assert torch.allclose(places, places.round(), atol=1e-4) and places.abs().max() <= 7 * (1 + 1e-6)
    # And the noise has moved some of them.
    quiet = Crossbars(one, torch.tensor([0.0, 4.0]), "autograd", merged(numbers(one), {"0": {"adc": {"range": bound}}}))
    moved = (quiet("0", INPUT, WEIGHT) / (bound / 7)).round() != places.round()
    assert 0.05 < moved.double().mean() < 1


def test_stuck_devices_do_not_drift():
    one = Composite([StuckAt(), Drift()])
    assert [part.name for part in one.parts] == ["drift", "stuck_at"]
    g = to_pair(WEIGHT).g
    drawn = numbers(one)["0"]
    seen = one.conductance(g, torch.tensor([YEAR, 0.3]), drawn)
    stuck = drawn["stuck_at"]["chip"] < 0.3
    assert set(seen[stuck].unique().tolist()) == {torch.tensor(WINDOW.low).item(), WINDOW.high}
    assert (seen[~stuck] < g[~stuck]).all()


def test_wires_lose_what_the_changed_devices_draw():
    one = Composite([IRDrop(), StuckAt()])
    g = to_pair(WEIGHT).g
    drawn = numbers(one)["0"]
    stuck = StuckAt().conductance(g, torch.tensor(0.2), drawn["stuck_at"])
    expected = IRDrop().conductance(stuck, torch.tensor(200.0), {})
    assert torch.equal(one.conductance(g, torch.tensor([0.2, 200.0]), drawn), expected)


def test_what_the_parts_are_makes_up_the_whole():
    assert WHOLE.random and WHOLE.ranged and WHOLE.held == {}
    assert not Composite([IRDrop(), ADC()]).random and not Composite([Drift()]).ranged
    frozen = Composite([IRDrop(load="frozen"), ReadNoise(scale="fixed")])
    assert frozen.scale == "fixed" and frozen.held == {"array": ("scale",), "ir_drop": ("share",)}
    window = Window(1.0, 50.0)
    assert Composite([Drift(window=window), StuckAt(window=window)]).window == window
    chip, read = numbers(WHOLE)["0"], draw_read(WHOLE, {"0": Shape((2, 3), (2,))}, 4, runtime.stream(0, "read"))["0"]
    assert {part for part, own in chip.items() if "chip" in own} == {
        *("variability", "programming_noise", "drift", "stuck_at")
    }
    assert {part: set(own) for part, own in read.items()} == {"read_noise": {"read"}, "flicker_noise": {"read"}}


def test_a_share_that_a_part_holds_is_its_own():
    one = Composite([IRDrop(load="frozen"), Variability(scale="fixed")])
    crossbars = Crossbars(one, torch.tensor([0.1, 300.0]), "autograd", numbers(one))
    first = crossbars("0", INPUT, WEIGHT)
    found = crossbars.calibrated["0"]
    assert {part: set(own) for part, own in found.items()} == {"ir_drop": {"share"}, "array": {"scale"}}
    held = merged(numbers(one), crossbars.calibrated)
    again = Crossbars(one, torch.tensor([0.1, 300.0]), "autograd", held)
    assert torch.equal(again("0", INPUT, WEIGHT), first) and not again.calibrated
    # Also beside devices that the spread has left without any conductance.
    assert first.isfinite().all() and (found["ir_drop"]["share"] == 1).any()
    # Other weights meet the share and the scale that were held.
    other = Crossbars(one, torch.tensor([0.1, 300.0]), "autograd", numbers(one))
    assert not torch.allclose(again("0", INPUT, WEIGHT / 2), other("0", INPUT, WEIGHT / 2), rtol=1e-3)


def test_a_vector_of_severities_and_a_mapping_say_the_same():
    one = Composite([ADC(), Drift(), StuckAt()])
    assert one.off == (20.0, 0.0, math.inf)
    assert one.check([DAY, 0.1, 4]) == (DAY, 0.1, 4.0) == one.check({"adc": 4, "drift": DAY, "stuck_at": 0.1})
    assert one.check({}) == one.off == one.check(one.off)
    assert one.check({"adc": 4}) == (20.0, 0.0, 4.0)


@pytest.mark.parametrize(
    ("severity", "sentence"),
    [
        ([DAY, 0.1], "severity must be one number for each of drift, stuck_at, adc, but [86400.0, 0.1] was given."),
        (0.1, "severity must be one number for each of drift, stuck_at, adc, but 0.1 was given."),
        ({"dac": 4}, "severity must be one of drift, stuck_at, adc, but 'dac' was given."),
        ([DAY, 1.5, 4], "severity of stuck_at must be a number from 0 to 1, but 1.5 was given."),
        ([DAY, 0.1, 4.5], "severity of adc must be a whole number of bits from 2 to 16, but 4.5 was given."),
        ({"drift": 0}, "severity of drift must be a number from 20 to 1e+10, but 0 was given."),
    ],
)
def test_a_severity_that_does_not_fit_the_parts_is_refused(severity, sentence):
    with pytest.raises(ParameterError) as error:
        Composite([ADC(), Drift(), StuckAt()]).check(severity)
    assert str(error.value) == sentence


@pytest.mark.parametrize("parts", ["adc", ["adc"], None, 5, [None], [ADC], [ADC(), 5], {"adc": ADC()}])
def test_parts_that_are_no_perturbations_are_refused(parts):
    with pytest.raises(ParameterError, match=r"^parts must be perturbations like make\('adc'\), but .* was given.$"):
        Composite(parts)


def test_redundant_devices_stand_where_their_part_stands_and_see_what_it_sees():
    order = [part.name for part in Composite([ADC(), IRDrop(), Redundant(StuckAt()), DAC()]).parts]
    assert order == ["dac", "stuck_at", "ir_drop", "adc"]
    # The law of drift goes by the conductance that was aimed at, in every copy.
    g, seconds = to_pair(WEIGHT).g, torch.tensor([1.0, YEAR])
    chips = {"programming_noise": {"chip": torch.randn(g.shape, generator=runtime.stream(0, "chip"))}}
    drift = {"chip": torch.zeros(g.shape)}
    plain = Composite([ProgrammingNoise(), Drift()]).conductance(g, seconds, chips | {"drift": drift})
    copied = Composite([ProgrammingNoise(), Redundant(Drift(), copies=2)])
    assert torch.allclose(copied.conductance(g, seconds, chips | {"drift": {"0": drift, "1": drift}}), plain)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ([ADC(), ADC(quantile=0.9)], "parts must be different perturbations, but adc, adc was given."),
        ([], "parts must be different perturbations, but none was given."),
        (
            [Drift(), StuckAt(window=Window(1.0, 25.0))],
            "parts must share one conductance window, but different windows were given.",
        ),
        ([PhaseChange(), ADC()], "parts must be single perturbations, but pcm, which has parts of its own, was given."),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts, sentence):
    with pytest.raises(ParameterError) as error:
        Composite(parts)
    assert str(error.value) == sentence


# ------------------------------------------------------------------------------------------------ named chips


def test_a_phase_change_chip_is_its_three_parts_at_one_time():
    one = PhaseChange()
    parts = Composite([ProgrammingNoise(), Drift(), FlickerNoise()])
    drawn = numbers(one)
    assert torch.equal(product(one, DAY, drawn), product(parts, [1.0, DAY, DAY], drawn))
    # As soon as it is programmed: no drift yet, but its error and the fluctuations.
    assert torch.equal(product(one, T_ZERO, drawn), product(parts, [1.0, T_ZERO, T_ZERO], drawn))
    assert one.off == 0 and one.check(0.0) == 0 and one.check(DAY) == DAY
    assert Composite([Variability()]).off == (0.0,)
    for wrong in (1.0, [DAY], 2e10):
        with pytest.raises(ParameterError, match="^severity must be a number from 20 to 1e[+]10"):
            one.check(wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_ages_as_one_in_single_precision(dtype):
    half = torch.nn.Linear(20, 12).to(dtype)
    whole = copy.deepcopy(half).float()
    for seconds in (DAY, YEAR, T_LAST):
        with torch.no_grad(), on_chip(half, PhaseChange(), seconds), on_chip(whole, PhaseChange(), seconds):
            seen, expected = half(INPUT.to(dtype)), whole(INPUT.to(dtype).float())
        assert seen.dtype == dtype and seen.isfinite().all()
        assert torch.allclose(seen.float(), expected, rtol=2 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


def test_compensation_helps_a_phase_change_chip_after_a_year():
    plain = linear(INPUT, WEIGHT)
    errors = [
        np.mean([(product(make("pcm", **options), YEAR, seed=i) - plain).square().mean().item() for i in range(10)])
        for options in ({}, {"compensation": "global"}, {"compensation": "global", "readout": "noisy"})
    ]
    assert max(errors[1:]) < 0.5 * errors[0]


def test_a_resistive_chip_is_programming_noise_of_its_law():
    one = Resistive()
    assert torch.equal(product(one, 1.0), product(ProgrammingNoise(law="rram"), 1.0))
    assert not torch.equal(product(one, 1.0), product(ProgrammingNoise(law="pcm"), 1.0))


def test_hardware_by_name():
    more = {
        "programming_noise",
        "flicker_noise",
        "dac",
        "pcm",
        "rram",
        "ideal",
        "input_noise",
        "output_noise",
        "tile_adc",
    }
    assert set(HARDWARE) == {*PERTURBATIONS} | more
    assert all(make(name) is one and one.name == name for name, one in HARDWARE.items())
    assert make("drift", compensation="global") == Drift(compensation="global")
    assert make("adc", calibration="best", scale="fixed") == ADC(calibration="best", scale="fixed")
    assert make("stuck_at", on=0.2, cluster=4) == StuckAt(on=0.2, cluster=4)
    assert make("pcm", compensation="global", readout="noisy").parts[1] == Drift("global", "noisy")
    assert make("rram", scale="fixed").scale == "fixed" and isinstance(make("rram", scale="fixed"), Resistive)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("noise", {}, "perturbation must be one of read_noise, variability"),
        ("adc", {"bits": 4}, "options must be out of scale, calibration, quantile for adc, but 'bits' was"),
        ("adc", {"name": "x"}, "options must be out of scale, calibration, quantile for adc, but 'name' was"),
        ("adc", {"low": 1.0}, "options must be out of scale, calibration, quantile for adc, but 'low' was"),
        ("drift", {"window": WINDOW}, "options must be out of scale, compensation, readout for drift, but"),
        ("pcm", {"law": "rram"}, "options must be out of compensation, readout, scale for pcm, but 'law' was given."),
        ("rram", {"law": "pcm"}, "options must be out of scale for rram, but 'law' was given."),
        ("pcm", {"readout": "x"}, "readout must be one of ideal, noisy, but 'x' was given."),
        ("programming_noise", {"law": "mram"}, "law must be one of pcm, rram, but 'mram' was given."),
        ("programming_noise", {"law": ["pcm"]}, "law must be one of pcm, rram, but ['pcm'] was given."),
        ("adc", {"scale": "no"}, "scale must be one of differentiated, detached, column, fixed, but 'no' was given."),
        ("rram", {"scale": True}, "scale must be one of differentiated, detached, column, fixed, but True was given."),
        ("ir_drop", {"tile": "16,16"}, "tile must be two integers of at least 1, but '16,16' was given."),
        (["pcm"], {}, "perturbation must be one of read_noise, variability"),
        (None, {}, "perturbation must be one of read_noise, variability"),
    ],
)
def test_unknown_hardware_and_options_are_refused(name, options, sentence):
    with pytest.raises(ParameterError) as error:
        make(name, **options)
    assert str(error.value).startswith(sentence)
