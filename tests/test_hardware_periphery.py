"""Noise at inputs and outputs, converters of tiles, interleaved columns: each against a second way to compute it."""

from __future__ import annotations

import math

import pytest
import torch

from lib import runtime
from lib.checks import ParameterError
from lib.hardware.crossbars import Crossbars, Shape, draw_chip, draw_read
from lib.hardware.devices import Composite, make
from lib.hardware.numbers import merged
from lib.hardware.periphery import InputNoise, OutputNoise, TileADC
from lib.hardware.perturbations import ADC, IRDrop, ReadNoise, natural_scale, to_pair
from lib.hardware.training import Trainer
from paper.nodal import node_voltages

WEIGHT = torch.randn(5, 13, generator=runtime.stream(0, "weight"))
INPUT = torch.rand(4000, 13, generator=runtime.stream(0, "input"))


def product(one, severity, x=INPUT, weight=WEIGHT, rule="autograd", **known):
    """The product of one layer, what was drawn for it and what was calibrated."""
    shapes = {"0": Shape(tuple(weight.shape), (*x.shape[1:-1], weight.shape[-2]))}
    chip = draw_chip(one, shapes, runtime.stream(0, "chip"))
    read = draw_read(one, shapes, len(x), runtime.stream(0, "read"))
    drawn = merged(chip, read, {"0": {one.name: known}})
    own = drawn.get("0", {}).get(one.name, {})
    crossbars = Crossbars(one, torch.tensor(severity), rule, drawn)
    return crossbars("0", x, weight), own, crossbars.calibrated


def test_noise_of_inputs_is_one_draw_for_every_word_line_and_all_outputs_see_it():
    seen, own, found = product(InputNoise(), 0.1)
    assert own["input"].shape == INPUT.shape and float(found["0"]["input_noise"]["range"]) == float(INPUT.max())
    expected = torch.stack([w @ (INPUT + 0.1 * INPUT.max() * own["input"]).T for w in WEIGHT], -1)
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-5)
    error = seen - INPUT @ WEIGHT.T
    # Errors of outputs go together as their weights do.
    covariance = (0.1 * INPUT.max()) ** 2 * WEIGHT @ WEIGHT.T
    assert (error.T.cov() - covariance).abs().max() < 0.1 * covariance.diagonal().max()


def test_noise_of_outputs_has_the_size_of_a_full_scale_device_whatever_the_signal():
    for scale in (1.0, 7.0):
        seen, own, _ = product(OutputNoise(), 0.06, weight=scale * WEIGHT)
        error = (seen - INPUT @ (scale * WEIGHT).T) / own["read"]
        expected = 0.06 * scale * WEIGHT.abs().max() * INPUT.max()
        torch.testing.assert_close(error, expected.expand_as(error), atol=1e-3 * float(expected), rtol=0.05)
    by_column, _, _ = product(OutputNoise(scale="column"), 0.06)
    spread = (by_column - INPUT @ WEIGHT.T).std(0)
    torch.testing.assert_close(spread, 0.06 * WEIGHT.abs().amax(1) * INPUT.max(), rtol=0.05, atol=0.0)


@pytest.mark.parametrize("rows", [4, 13, 100])
def test_converters_of_tiles_convert_one_by_one_what_is_added_digitally(rows):
    bits, bound, one = 4.0, 1.7, TileADC(rows=rows, gain=0.1, offset=0.05)
    x = INPUT[:20]
    seen, own, _ = product(one, bits, x, range=torch.tensor(bound))
    levels, expected = 2 ** (bits - 1) - 1, torch.zeros(20, 5)
    for image in range(20):
        for column in range(5):
            for tile, start in enumerate(range(0, 13, rows)):
                lines = slice(start, start + rows)
                current = float(x[image, lines] @ WEIGHT[column, lines])
                read = (1 + 0.1 * float(own["gain"][tile, column])) * current
                read += 0.05 * bound * float(own["offset"][tile, column])
                steps = round(min(max(read / bound * levels, -levels), levels))
                expected[image, column] += steps * bound / levels
    # A value between two steps may fall to either side.
    assert ((seen - expected).abs() > 1e-4).float().mean() < 0.02


def test_one_tile_without_errors_is_the_converter_of_a_layer_and_no_converter_has_no_error():
    x, one = INPUT[:50], TileADC(rows=13, gain=0.0, offset=0.0)
    for severity in (3.0, 6.0):
        torch.testing.assert_close(product(one, severity, x)[0], product(ADC(), severity, x)[0], atol=1e-5, rtol=0)
    plain = torch.nn.functional.linear(x, WEIGHT)
    assert torch.equal(product(TileADC(rows=4), math.inf, x)[0], plain)


def test_noise_before_the_converters_of_tiles_is_kept():
    both = Composite([ReadNoise(), TileADC(rows=4, gain=0.0, offset=0.0)])
    fine, noisy = product(both, [0.1, 16.0])[0], product(ReadNoise(), 0.1)[0]
    # What lies within the range of every tile, nearly all of it, is rounded finely.
    assert ((fine - noisy).abs() < 1e-3).float().mean() > 0.8


@pytest.mark.parametrize("rule", ["autograd", "noise_injection", "straight_through"])
def test_gradients_through_the_converters_of_tiles(rule):
    weight = WEIGHT.clone().requires_grad_()
    product(TileADC(rows=4), 6.0, INPUT[:50], weight, rule)[0].sum().backward()
    ideal = INPUT[:50].sum(0).expand(5, -1)
    alike = torch.nn.functional.cosine_similarity(weight.grad.flatten(), ideal.flatten(), dim=0)
    assert weight.grad.abs().max() == 0 if rule == "autograd" else alike > 0.9


def test_interleaved_columns_are_one_array_of_twice_as_many_bit_lines():
    weight = WEIGHT.double()
    one = IRDrop(interleaved=True, ratio=0.5)
    g = to_pair(weight).g
    seen = one.conductance(g, torch.tensor(300.0, dtype=torch.float64), {})
    array = torch.zeros(13, 10, dtype=torch.float64)
    for column in range(5):
        array[:, 2 * column], array[:, 2 * column + 1] = g[0, column], g[1, column]
    out = node_voltages(array, 150.0, 300.0, torch.eye(13, dtype=torch.float64)).output
    for column in range(5):
        torch.testing.assert_close(seen[0, column], out[:, 2 * column], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(seen[1, column], out[:, 2 * column + 1], rtol=1e-6, atol=1e-9)
    # A word line that carries both, twice as long, loses more.
    apart = IRDrop(ratio=0.5).conductance(g, torch.tensor(300.0, dtype=torch.float64), {})
    assert seen.sum() < apart.sum() < g.sum()
    halves = IRDrop(interleaved=True, tile=(13, 2)).conductance(g, torch.tensor(300.0), {})
    alone = [IRDrop(interleaved=True).conductance(g[:, [i]], torch.tensor(300.0), {}) for i in range(5)]
    torch.testing.assert_close(halves, torch.cat(alone, 1))


def test_without_resistance_of_word_lines_interleaving_changes_nothing():
    g, ohm = to_pair(WEIGHT.double()).g, torch.tensor(300.0)
    both = [IRDrop(interleaved=flag, ratio=0.0).conductance(g, ohm, {}) for flag in (True, False)]
    torch.testing.assert_close(*both, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["input_noise", "output_noise", "tile_adc"])
def test_networks_train_and_are_judged_on_them(name):
    trainer, one = Trainer.named("cnn"), make(name)
    start = trainer.fork([0], 2, torch.device("cpu"))
    severities = [one.grid[0], one.grid[-1]]
    with torch.no_grad():
        found = trainer.accuracy_on_chips(
            {k: v.repeat(2, *(1,) * (v.dim() - 1)) for k, v in start.items()}, one, severities, [0], 2
        )
    assert found.shape == (2, 2) and found.isfinite().all()


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"gain": -0.1}, {"offset": 2}, {"rows": 1.5}])
def test_what_is_no_tile_is_refused(wrong):
    with pytest.raises(ParameterError, match="must be .*, but .* was given"):
        TileADC(**wrong)
    with pytest.raises(ParameterError, match="interleaved must be"):
        IRDrop(interleaved=1)


def test_the_scale_of_a_largest_weight_keeps_its_gradient():
    weight = torch.tensor([[1.0, -3.0, 3.0], [0.0, 2.0, -1.0]], requires_grad=True)
    (found,) = torch.autograd.grad(natural_scale(weight), weight)
    other = weight.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(24.9 / other.abs().amax(), other)
    torch.testing.assert_close(found, expected)
