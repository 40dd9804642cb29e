"""Layers on crossbars: every kind of layer on every kind of hardware, the backward rules, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lib import replicas, runtime
from lib.checks import ParameterError
from lib.hardware.crossbars import RULES, Crossbars, Shape, draw_chip, draw_read, ideal, mappable, matrix, on_chip, rows
from lib.hardware.devices import HARDWARE, Composite, make
from lib.hardware.perturbations import (
    ADC,
    PERTURBATIONS,
    Drift,
    IRDrop,
    Perturbation,
    ReadNoise,
    StuckAt,
    Variability,
    moved_weight,
    seen_weight,
    to_pair,
)

MIDDLE = {
    "read_noise": 0.1,
    "variability": 0.1,
    "drift": 1e6,
    "stuck_at": 0.2,
    "ir_drop": 500.0,
    "adc": 4.0,
    "programming_noise": 4.0,
    "flicker_noise": 1e6,
    "dac": 4.0,
    "pcm": 1e6,
    "rram": 2.0,
    "input_noise": 0.1,
    "output_noise": 0.4,
    "tile_adc": 4.0,
}
CHIPS: dict[str, tuple[Perturbation, object]] = {
    **{name: (HARDWARE[name], severity) for name, severity in MIDDLE.items()},
    "composite": (Composite([Variability(), ReadNoise(), ADC()]), [0.1, 0.05, 5]),
}
# What leaves the weights as they are.
AROUND = ("read_noise", "flicker_noise", "dac", "input_noise", "output_noise")
LAYERS = {
    "linear": lambda: nn.Linear(7, 5),
    "linear without bias": lambda: nn.Linear(7, 5, bias=False),
    "conv": lambda: nn.Conv2d(4, 6, 3),
    "conv without bias": lambda: nn.Conv2d(4, 6, 3, bias=False),
    "conv of one pixel": lambda: nn.Conv2d(4, 6, 1),
    "padded, strided": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "uneven": lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(0, 1), dilation=(2, 1)),
    "dilated": lambda: nn.Conv2d(4, 6, 3, dilation=2),
    "same": lambda: nn.Conv2d(4, 6, (3, 4), padding="same", dilation=(2, 1)),
    "valid": lambda: nn.Conv2d(4, 6, 3, padding="valid"),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1),
    "grouped, same, without bias": lambda: nn.Conv2d(4, 8, 3, groups=2, padding="same", bias=False),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
    "depthwise, wide, strided": lambda: nn.Conv2d(4, 8, 3, groups=4, stride=2),
}


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A layer and inputs for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = LAYERS[name]()
        x = torch.rand(3, 7) if isinstance(layer, nn.Linear) else torch.rand(3, 4, 9, 8)
    return layer, x


def net() -> tuple[nn.Module, torch.Tensor]:
    """Convolutions and linear layers, one of them within another module, whose name ends like the last one's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 3, stride=2))
        model = nn.Sequential(inner, nn.Flatten(), nn.Linear(27, 8))
        return model, torch.rand(4, 2, 9, 9)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------- every layer on every chip


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("chip", CHIPS)
def test_every_layer_changes_on_every_chip_and_is_untouched_afterwards(chip, layer):
    (hardware, severity), (model, x) = CHIPS[chip], built(layer)
    before, plain = copy.deepcopy(model.state_dict()), model(x)
    with on_chip(model, hardware, severity, generator=seeded()) as placed:
        placed.watch = True
        seen = model(x)
    assert seen.shape == plain.shape and seen.dtype == plain.dtype and seen.isfinite().all()
    assert not torch.equal(seen, plain)
    assert placed.changed[""] == pytest.approx((seen - plain).abs().max().item(), rel=1e-3, abs=1e-5)
    assert placed.changed[""] > 0
    assert torch.equal(model(x), plain)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "forward" not in vars(model) and type(model) in (nn.Linear, nn.Conv2d)


@pytest.mark.parametrize("layer", LAYERS)
def test_off_and_no_hardware_are_the_plain_model_bit_by_bit(layer):
    model, x = built(layer)
    plain = model(x)
    for hardware, severity in CHIPS.values():
        with on_chip(model, hardware, hardware.off) as placed:
            assert placed.off and torch.equal(model(x), plain)
        assert hardware.check(severity) != hardware.off
    with on_chip(model, None) as placed:
        assert placed.off and torch.equal(model(x), plain)


@pytest.mark.parametrize("layer", LAYERS)
def test_patches_times_matrix_are_the_layer(layer):
    # Nearly off, hence through the arrays; and in a batch in which one replica is off.
    model, x = built(layer)
    plain = model(x)
    for hardware, severity in ((Variability(), 1e-9), (ReadNoise(), 1e-9), (Drift(), 20.0001), (IRDrop(), 1e-4)):
        with on_chip(model, hardware, severity):
            assert torch.allclose(model(x), plain, rtol=1e-3, atol=1e-4)
    if isinstance(model, nn.Linear):
        return
    inputs, images = rows(model, x)
    weight = matrix(model)
    shapes = {"c": Shape(tuple(weight.shape), ())}
    drawn = draw_chip(Variability(), shapes, seeded())
    product = torch.func.vmap(lambda s: Crossbars(Variability(), s, "autograd", drawn)("c", inputs, weight))
    bias = 0 if model.bias is None else model.bias[:, None, None]
    off, on = (images(y) + bias for y in product(torch.tensor([0.0, 0.3])))
    assert torch.allclose(off, plain, atol=1e-5) and not torch.allclose(on, plain, atol=1e-2)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 3),
    outputs=st.integers(1, 3),
    groups=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.one_of(st.sampled_from(["same", "valid"]), st.tuples(st.integers(0, 2), st.integers(0, 2))),
    size=st.tuples(st.integers(5, 8), st.integers(5, 8)),
    bias=st.booleans(),
)
def test_any_convolution_is_patches_times_matrix(
    channels, outputs, groups, kernel, stride, dilation, padding, size, bias
):
    stride = (1, 1) if padding == "same" else stride
    layer = nn.Conv2d(channels * groups, outputs * groups, kernel, stride, padding, dilation, groups, bias).double()
    x = torch.rand(2, channels * groups, *size, dtype=torch.float64)
    inputs, images = rows(layer, x)
    y = images(ideal("", inputs, matrix(layer)))
    y = y if layer.bias is None else y + layer.bias[:, None, None]
    assert torch.allclose(y, layer(x), atol=1e-12)
    with on_chip(layer, StuckAt(), 0.5):
        assert layer(x).shape == y.shape


def test_every_group_of_a_convolution_is_an_array_of_its_own():
    model, x = built("grouped")
    assert matrix(model).shape == (2, 3, 18)
    shapes = {"c": Shape(tuple(matrix(model).shape), ())}
    assert draw_chip(Variability(), shapes, seeded())["c"]["variability"]["chip"].shape == (2, 2, 3, 18)
    # One wire resistance, but two small arrays instead of a large one: each group as if it were a layer alone.
    with on_chip(model, IRDrop(), 500.0):
        whole = model(x)
    for group in range(2):
        half = nn.Conv2d(2, 3, 3, padding=1)
        # Both groups share the layer's scale.
        half.load_state_dict({"weight": model.weight[3 * group :][:3], "bias": model.bias[3 * group :][:3]})
        scale = {"": {"array": {"scale": (25 - 0.1) / model.weight.detach().abs().max()}}}
        inputs, images = rows(half, x[:, 2 * group :][:, :2])
        crossbars = Crossbars(IRDrop(scale="fixed"), torch.tensor(500.0), "autograd", scale)
        expected = images(crossbars("", inputs, matrix(half))) + half.bias[:, None, None]
        assert torch.allclose(whole[:, 3 * group :][:, :3], expected, atol=1e-4)


@pytest.mark.parametrize("layer", ["conv", "grouped", "linear"])
@pytest.mark.parametrize("chip", ["variability", "read_noise", "adc"])
def test_a_single_input_needs_no_batch_dimension(layer, chip):
    (hardware, severity), (model, x) = CHIPS[chip], built(layer)
    plain = model(x[0])
    with on_chip(model, hardware, severity):
        seen = model(x[0])
    assert seen.shape == plain.shape and not torch.equal(seen, plain)
    with on_chip(model, Variability(), 1e-9):
        assert torch.allclose(model(x[0]), plain, atol=1e-5)


@pytest.mark.parametrize("chip", CHIPS)
def test_double_precision_stays_double(chip):
    (hardware, severity), (model, x) = CHIPS[chip], net()
    with on_chip(model.double(), hardware, severity):
        assert model(x.double()).dtype == torch.float64


# ------------------------------------------------------------------------------------------------ chips and reads


def test_every_layer_of_a_network_changes():
    model, x = net()
    for hardware, severity in CHIPS.values():
        with on_chip(model, hardware, severity, generator=seeded()) as chip:
            chip.watch = True
            model(x)
        assert list(chip.changed) == ["0.0", "0.2", "2"] and min(chip.changed.values()) > 0, hardware.name


def test_unwatched_nothing_is_compared():
    model, x = net()
    with on_chip(model, Variability(), 0.1) as chip:
        model(x)
    assert chip.changed == {}


def test_the_same_generator_gives_the_same_chip_and_another_gives_another():
    model, x = net()

    def seen(seed):
        with on_chip(model, CHIPS["composite"][0], CHIPS["composite"][1], generator=seeded(seed)):
            return model(x), model(x)

    first, again, other = seen(0), seen(0), seen(1)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    with on_chip(model, Variability(), 0.1), torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        model(x)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("chip", ["variability", "drift", "stuck_at", "programming_noise", "rram"])
def test_a_chip_stays_until_it_is_renewed(chip):
    (hardware, severity), (model, x) = CHIPS[chip], net()
    with on_chip(model, hardware, severity) as placed:
        first, second = model(x), model(x)
        placed.renew()
        third, fourth = model(x), model(x)
    assert torch.equal(first, second) and torch.equal(third, fourth) and not torch.equal(first, third)


@pytest.mark.parametrize("chip", ["read_noise", "flicker_noise", "pcm"])
def test_reads_differ_in_each_call(chip):
    (hardware, severity), (model, x) = CHIPS[chip], net()
    with on_chip(model, hardware, severity):
        assert not torch.equal(model(x), model(x))


def test_reads_differ_while_the_chip_stays():
    layer, x = built("linear")
    one = Composite([Variability(), ReadNoise()])
    with on_chip(layer, one, [0.3, 0.01], generator=seeded()) as chip, torch.no_grad():
        same = torch.stack([layer(x) for _ in range(50)])
        chip.renew()
        other = torch.stack([layer(x) for _ in range(50)])
    # Reads scatter around what one chip computes, and that is far from the other's.
    assert (same.std(0) > 0).all()
    assert (same.mean(0) - other.mean(0)).abs().mean() > 5 * same.std(0).mean()


def test_a_layer_that_is_used_twice_is_one_chip():
    layer = nn.Linear(6, 6)
    x = torch.rand(3, 6)
    with on_chip(nn.Sequential(layer, layer), Variability(), 0.2):
        assert torch.equal(layer(x), layer(x))


def test_converters_calibrate_on_the_first_batch_and_again_on_a_new_chip():
    layer, x = built("linear without bias")
    with on_chip(layer, ADC(calibration="largest"), 8) as chip, torch.no_grad():
        first = layer(x)
        assert layer(10 * x).abs().max() == pytest.approx(first.abs().max().item(), rel=1e-5)
        chip.renew()
        assert layer(10 * x).abs().max() > 5 * first.abs().max()


def test_a_held_scale_stays_when_the_weights_grow():
    layer, x = built("linear without bias")
    with on_chip(layer, Variability(scale="fixed"), 1e-9), torch.no_grad():
        first = layer(x)
        layer.weight.mul_(2)
        assert not torch.allclose(layer(x), 2 * first, atol=1e-3)


# ------------------------------------------------------------------------------------------------ gradients


def gradients(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output's and every parameter's gradient for one fixed vector that is sent back."""
    y = model(x)
    sent = torch.randn(y.shape, generator=seeded(5)).to(y)
    found = torch.autograd.grad(y, [*model.parameters()], sent)
    return y, dict(zip(dict(model.named_parameters()), found, strict=True))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("chip", CHIPS)
def test_gradients_under_every_rule(chip, layer):
    (hardware, severity), (model, x) = CHIPS[chip], built(layer)
    x.requires_grad_()
    clean_y, clean = gradients(model, x)
    (clean_x,) = torch.autograd.grad(model(x).sum(), x)
    found = {}
    for rule in RULES:
        with on_chip(model, hardware, severity, rule=rule, generator=seeded()):
            y, found[rule] = gradients(model, x)
            (into_x,) = torch.autograd.grad(model(x).sum(), x)
        if rule == "unaware":
            assert torch.allclose(y, clean_y, atol=1e-5)
        else:
            assert not torch.allclose(y, clean_y, atol=1e-5)
        if rule != "autograd" and not isinstance(hardware, ADC) and chip != "composite":
            # Noise injection sends what goes to the input through the weight that was seen, and no noise of currents.
            same = rule != "noise_injection" or chip in AROUND
            assert torch.allclose(into_x, clean_x, atol=1e-4) == same
            # What was rounded or disturbed at the input is what the weight meets.
            if rule != "noise_injection" or chip not in ("dac", "input_noise"):
                assert all(torch.allclose(found[rule][name], clean[name], atol=1e-4) for name in clean)
    real = found["autograd"]["weight"]
    assert real.isfinite().all()
    if isinstance(hardware, ADC) or chip == "composite":
        assert not real.any()
    else:
        assert real.any()
        # Even additive noise: it follows the scale, which the largest weight sets.
        assert not torch.allclose(real, clean["weight"], rtol=1e-4, atol=1e-7)
    if "bias" in clean:
        assert torch.allclose(found["autograd"]["bias"], clean["bias"], atol=1e-4)


@pytest.mark.parametrize("chip", ["variability", "read_noise", "drift", "ir_drop", "flicker_noise"])
@pytest.mark.parametrize("layer", ["linear", "grouped", "same"])
def test_autograd_is_the_slope_of_what_was_computed(chip, layer):
    (hardware, severity), (model, x) = CHIPS[chip], built(layer)
    model, x = model.double(), x.double()
    with on_chip(model, hardware, severity, generator=seeded()):
        _, found = gradients(model, x)
    direction = torch.randn(model.weight.shape, generator=seeded(7)).double()
    step = 1e-4 if chip == "ir_drop" else 1e-6
    ahead = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            moved.weight.add_(sign * step * direction)
        with on_chip(moved, hardware, severity, generator=seeded()), torch.no_grad():
            y = moved(x)
        ahead.append((y * torch.randn(y.shape, generator=seeded(5)).to(y)).sum().item())
    slope = (ahead[0] - ahead[1]) / (2 * step)
    close = 1e-3 if chip == "ir_drop" else 1e-5
    assert (found["weight"] * direction).sum().item() == pytest.approx(slope, rel=close)


def test_an_unknown_rule_is_refused():
    model, _ = net()
    with pytest.raises(
        ParameterError, match="^rule must be one of autograd, noise_injection, straight_through, unaware, but"
    ):
        with on_chip(model, Variability(), 0.1, rule="magic"):
            pass
    assert not any("forward" in vars(module) for module in model.modules())


# ------------------------------------------------------------------------------------------------ the model itself


def test_a_model_is_restored_after_an_exception_inside_the_block():
    model, x = net()
    plain = model(x)
    with pytest.raises(RuntimeError, match="inside"):
        with on_chip(model, Variability(), 0.5):
            model(x)
            raise RuntimeError("inside")
    assert torch.equal(model(x), plain)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_block_within_a_block_goes_back_to_the_outer_one():
    model, x = built("conv")
    plain = model(x)
    with on_chip(model, StuckAt(), 0.3, generator=seeded()):
        outer = model(x)
        with on_chip(model, Variability(), 0.5, generator=seeded()):
            assert not torch.equal(model(x), outer)
        assert torch.equal(model(x), outer)
    assert torch.equal(model(x), plain)


def test_hooks_and_modes_of_the_model_live_on():
    model, x = net()
    calls = []
    model[2].register_forward_hook(lambda *given: calls.append(given))
    with on_chip(model.eval(), Variability(), 0.1):
        model(x)
        assert not model.training
    assert len(calls) == 1 and not torch.equal(calls[0][2], model(x))


def test_a_severity_out_of_range_is_refused_before_anything_is_touched():
    model, x = net()
    for severity in (None, 2.0, "0.1"):
        with pytest.raises(ParameterError, match="^severity must be"), on_chip(model, Variability(), severity):
            pass
    assert not any("forward" in vars(module) for module in model.modules())


class _Masked(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight * (self.weight > 0), self.bias)


class _Holder(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


@pytest.mark.parametrize(
    ("layer", "kind", "reason"),
    [
        (nn.MultiheadAttention(8, 2), "MultiheadAttention", "its products are not layers of their own"),
        (nn.LSTM(4, 4), "LSTM", "only Linear and Conv2d have a mapping"),
        (nn.GRUCell(4, 4), "GRUCell", "only Linear and Conv2d have a mapping"),
        (nn.Bilinear(4, 4, 4), "Bilinear", "only Linear and Conv2d have a mapping"),
        (nn.ConvTranspose2d(4, 4, 3), "ConvTranspose2d", "only Linear and Conv2d have a mapping"),
        (nn.Conv1d(4, 4, 3), "Conv1d", "only Linear and Conv2d have a mapping"),
        (nn.Conv3d(4, 4, 3), "Conv3d", "only Linear and Conv2d have a mapping"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "Conv2d", "it pads with 'circular' instead of zeros"),
        (_Masked(4, 4), "_Masked", "it has a forward of its own"),
        (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            "TransformerEncoderLayer",
            "in evaluation it computes without calling its layers",
        ),
    ],
)
def test_what_has_no_mapping_is_refused_by_name_and_reason(layer, kind, reason):
    model = _Holder(first=nn.Linear(4, 4), odd=_Holder(part=layer))
    with pytest.raises(ParameterError) as error:
        mappable(model)
    assert str(error.value).startswith("model must have layers that can be mapped, but odd.part ")
    assert f"({kind})" in str(error.value) and reason in str(error.value) and "digital" in str(error.value)
    with pytest.raises(ParameterError, match="odd.part"), on_chip(model, Variability(), 0.1):
        pass
    # Named as digital, alone or with what holds it, the rest is mapped.
    assert list(mappable(model, ["odd.part"])) == ["first"] == list(mappable(model, ["odd"]))


def test_a_model_without_anything_to_map_is_refused():
    for model, digital in ((nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), ()), (nn.Sequential(nn.Linear(2, 2)), ["0"])):
        with pytest.raises(ParameterError, match="^model must have a Linear or a Conv2d, but one without any"):
            mappable(model, digital)


def test_an_unknown_digital_name_is_refused():
    model, _ = net()
    with pytest.raises(ParameterError, match="^digital must be .* out of 0, 0.0, 0.1, 0.2, 1, 2, but 'head'"):
        mappable(model, ["head"])


def test_digital_layers_stay_in_the_computer():
    model, x = net()
    assert list(mappable(model)) == ["0.0", "0.2", "2"]
    assert list(mappable(model, ["0"])) == ["2"] and list(mappable(model, ["2", "0.0"])) == ["0.2"]
    hidden = model[0](x)
    with on_chip(model, Variability(), 0.3, digital=["0"]) as chip:
        chip.watch = True
        assert torch.equal(model[0](x), hidden)
        model(x)
    assert set(chip.changed) == {"2"}
    # A name that only begins like a digital one is not digital.
    wide = _Holder(head=nn.Linear(2, 2), head2=nn.Linear(2, 2))
    assert list(mappable(wide, ["head"])) == ["head2"]


# ------------------------------------------------------------------------------------------------ the product


def test_the_rules():
    assert RULES == ("autograd", "noise_injection", "straight_through", "unaware")


def test_numbers_of_chips_and_reads_lie_by_layer_part_and_kind():
    shapes = {"a": Shape((3, 4), (3,)), "b.0": Shape((2, 3, 4), (2, 5, 3))}
    one = Composite([Drift(readout="noisy"), ReadNoise()])
    chip, read = draw_chip(one, shapes, seeded()), draw_read(one, shapes, 7, seeded())
    assert replicas.mapped(lambda value: tuple(value.shape), chip) == {
        "a": {"drift": {"chip": (2, 3, 4), "gauge": ()}},
        "b.0": {"drift": {"chip": (2, 2, 3, 4), "gauge": ()}},
    }
    assert replicas.mapped(lambda value: tuple(value.shape), read) == {
        "a": {"read_noise": {"read": (7, 3)}},
        "b.0": {"read_noise": {"read": (7, 2, 5, 3)}},
    }
    assert draw_chip(IRDrop(), shapes, seeded()) == {} == draw_read(IRDrop(), shapes, 7, seeded())


def test_layers_whose_names_end_alike_keep_their_numbers_apart():
    x, weight = torch.rand(3, 4), torch.randn(5, 4, generator=seeded())
    shapes = {name: Shape((5, 4), (5,)) for name in ("0", "a.0", "b.a.0")}
    drawn = draw_chip(Variability(), shapes, seeded())
    for layer in shapes:
        alone = {layer: drawn[layer]}
        whole, single = (
            Crossbars(Variability(), torch.tensor(0.1), "autograd", numbers)(layer, x, weight)
            for numbers in (drawn, alone)
        )
        assert torch.equal(whole, single)


def test_a_convolution_fits_the_slot_of_a_matrix():
    image = torch.rand(2, 3, 8, 8, generator=runtime.stream(0, "image"))
    kernel = torch.randn(5, 3, 3, 3, generator=runtime.stream(0, "kernel"))
    patches = F.unfold(image, 3, stride=2).mT
    drawn = {"c": {"variability": {"chip": torch.zeros(2, 5, 27)}}}
    off = Crossbars(Variability(), torch.tensor(0.0), "autograd", drawn)
    flat = patches.reshape(-1, 27)
    out = off("c", flat, kernel.flatten(1)).reshape(2, 9, 5).mT.reshape(2, 5, 3, 3)
    assert torch.allclose(out, F.conv2d(image, kernel, stride=2), atol=1e-5)
    assert torch.equal(off("c", flat, kernel.flatten(1)), F.linear(flat, kernel.flatten(1)))
    kept = off("c", patches, kernel.flatten(1)).reshape(-1, 5)
    assert torch.allclose(kept, F.linear(flat, kernel.flatten(1)), atol=1e-5)


def test_drift_is_compensated_layer_by_layer():
    model, x = net()
    plain = model(x)
    error = {}
    for compensation in ("none", "global"):
        one = make("drift", compensation=compensation)
        with on_chip(model, one, 3.15e7, generator=seeded()), torch.no_grad():
            error[compensation] = (model(x) - plain).square().mean().item()
    assert error["global"] < 0.3 * error["none"]


@pytest.mark.parametrize("name", [name for name, one in PERTURBATIONS.items() if one.alone])
def test_the_shorter_way_of_single_devices_computes_what_the_arrays_conduct(name):
    """Values and gradients of `moved_weight` against the pair, the conductances and the difference, one by one."""
    one, severity = PERTURBATIONS[name], torch.tensor(PERTURBATIONS[name].grid[3], dtype=torch.float64)
    weight = torch.randn(9, 7, generator=runtime.stream(0, "weight"), dtype=torch.float64)
    chip = one.draw_chip((9, 7), runtime.stream(0, "chip"))["chip"].double()
    sent = torch.randn(9, 7, generator=runtime.stream(0, "sent"), dtype=torch.float64)

    def longer(weight):
        pair = to_pair(weight)
        return seen_weight(pair, one.conductance(pair.g, severity, {"chip": chip}))

    def shorter(weight):
        return moved_weight(weight, severity, chip, one)

    (expected, back), (found, ours) = (torch.func.vjp(way, weight) for way in (longer, shorter))
    assert torch.allclose(found, expected, atol=1e-12) and not torch.allclose(found, weight, atol=1e-3)
    assert torch.allclose(ours(sent)[0], back(sent)[0], atol=1e-12)
    several = torch.stack([weight, -2 * weight])
    assert torch.allclose(torch.func.vmap(shorter)(several)[1], longer(-2 * weight), atol=1e-12)
