"""Networks on crossbars: the plain network, the backward rules, and that the gradients are those of what
runs.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy, linear, unfold

from lib import runtime
from lib.hardware.networks import RULES, Crossbars, digits, ideal, initial, layers, mlp
from lib.hardware.perturbations import PERTURBATIONS
from lib.hardware.training import draw

SIZES = (9, 7, 6, 4)
MIDDLE = {"read_noise": 0.05, "variability": 0.1, "drift": 1e6, "stuck_at": 0.1, "ir_drop": 500.0, "adc": 4.0}


def small(dtype=torch.float64) -> tuple[dict, torch.Tensor, torch.Tensor]:
    params = {name: value.to(dtype) for name, value in initial(runtime.stream(0, "initial"), SIZES).items()}
    params = {name: value + 0.1 if name.startswith("bias") else value for name, value in params.items()}
    x = torch.rand(11, SIZES[0], generator=runtime.stream(0, "x")).to(dtype)
    return params, x, torch.randint(0, SIZES[-1], (11,), generator=runtime.stream(0, "y"))


def on_chip(name: str, rule: str, params: dict, x: torch.Tensor) -> Crossbars:
    perturbation = PERTURBATIONS[name]
    drawn = draw(perturbation, params, len(x), runtime.stream(0, "chip"))
    drawn = {key: value.to(x.dtype) for key, value in drawn.items()}
    return Crossbars(perturbation, torch.tensor(MIDDLE[name], dtype=x.dtype), rule, drawn)


def test_the_perceptron_is_the_usual_one():
    params, x, _ = small()
    modules: list[nn.Module] = []
    for layer in layers(params):
        outputs, inputs = params[f"weight.{layer}"].shape
        modules += [nn.Linear(inputs, outputs, dtype=torch.float64), nn.ReLU()]
        modules[-2].load_state_dict({"weight": params[f"weight.{layer}"], "bias": params[f"bias.{layer}"]})
    assert torch.allclose(mlp(params, x), nn.Sequential(*modules[:-1])(x))


def test_initial_weights_have_the_variance_of_he():
    params = initial(runtime.stream(0, "initial"), (400, 300, 10))
    assert params["weight.0"].shape == (300, 400)
    assert params["weight.0"].var().item() == pytest.approx(2 / 400, rel=0.02)
    assert not params["bias.0"].any()


def test_without_hardware_and_unaware_it_is_the_plain_network_bit_by_bit():
    params, x, _ = small(torch.float32)
    plain = mlp(params, x)
    assert torch.equal(plain, mlp(params, x, ideal))
    assert torch.equal(plain, mlp(params, x, Crossbars(None, torch.tensor(0.0), "autograd", {})))
    for name in PERTURBATIONS:
        assert torch.equal(plain, mlp(params, x, on_chip(name, "unaware", params, x)))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_both_rules_run_the_same_forward_pass(name):
    params, x, _ = small()
    one, other = (mlp(params, x, on_chip(name, rule, params, x)) for rule in ("autograd", "straight_through"))
    assert torch.allclose(one, other, atol=1e-12)
    assert not torch.allclose(one, mlp(params, x))


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if name != "adc"])
def test_autograd_is_the_slope_of_what_was_computed(name):
    params, x, y = small()

    def loss(tree):
        return cross_entropy(mlp(tree, x, on_chip(name, "autograd", params, x)), y)

    slopes = torch.func.grad(loss)(params)
    for layer in layers(params):
        key = f"weight.{layer}"
        direction = torch.randn(params[key].shape, generator=runtime.stream(1, key)).double()
        # The circuit is solved to some 1e-7, so its differences need a wider step.
        step = 1e-3 if name == "ir_drop" else 1e-6

        def moved(sign, key=key, along=step * direction):
            return loss({**params, key: params[key] + sign * along}).item()

        slope = (moved(1) - moved(-1)) / (2 * step)
        assert (slopes[key] * direction).sum().item() == pytest.approx(
            slope, rel=1e-3 if name == "ir_drop" else 1e-6, abs=1e-7
        )


def test_straight_through_takes_the_clean_products_gradient():
    params, x, _ = small()
    weight, x = params["weight.0"].requires_grad_(), x.requires_grad_()
    out = on_chip("stuck_at", "straight_through", params, x)("0", x, weight)
    sent = torch.randn(out.shape, generator=runtime.stream(0, "sent")).double()
    into_weight, into_x = torch.autograd.grad(out, (weight, x), sent)
    assert torch.allclose(into_weight, sent.T @ x) and torch.allclose(into_x, sent @ weight)
    # Autograd, in contrast, sends nothing to a weight whose two devices are both stuck.
    crossbars = on_chip("stuck_at", "autograd", params, x)
    (real,) = torch.autograd.grad(crossbars("0", x, weight), weight, sent)
    stuck = (crossbars.drawn["chip.0"] < MIDDLE["stuck_at"]).all(0)
    assert not torch.allclose(real, sent.T @ x)
    assert stuck.any() and real[stuck].abs().max() < 1e-12


def test_an_adc_kills_every_weights_gradient_and_straight_through_revives_it():
    params, x, y = small()
    for rule, alive in (("autograd", False), ("straight_through", True)):
        crossbars = on_chip("adc", rule, params, x)
        slopes = torch.func.grad(lambda tree, product=crossbars: cross_entropy(mlp(tree, x, product), y))(params)
        for layer in layers(params):
            assert slopes[f"weight.{layer}"].any().item() == alive
        # The last bias is added behind the last converter.
        assert slopes["bias.2"].any()


def test_calibrated_ranges_are_used_where_given():
    params, x, _ = small()
    crossbars = on_chip("adc", "autograd", params, x)
    out = mlp(params, x, crossbars)
    assert set(crossbars.ranges) == {"range.0", "range.1", "range.2"}
    again = Crossbars(crossbars.perturbation, crossbars.severity, "autograd", dict(crossbars.ranges))
    assert torch.equal(mlp(params, x, again), out)
    wider = {name: 2 * value for name, value in crossbars.ranges.items()}
    assert not torch.equal(
        mlp(params, x, Crossbars(crossbars.perturbation, crossbars.severity, "autograd", wider)), out
    )


def test_a_convolution_fits_the_same_slot():
    image = torch.rand(2, 3, 8, 8, generator=runtime.stream(0, "image"))
    kernel = torch.randn(5, 3, 3, 3, generator=runtime.stream(0, "kernel"))
    patches = unfold(image, 3, stride=2).mT.reshape(-1, 27)
    off = Crossbars(PERTURBATIONS["variability"], torch.tensor(0.0), "autograd", {"chip.c": torch.zeros(2, 5, 27)})
    out = off("c", patches, kernel.flatten(1)).reshape(2, 9, 5).mT.reshape(2, 5, 3, 3)
    assert torch.allclose(out, conv2d(image, kernel, stride=2), atol=1e-5)
    assert torch.equal(off("c", patches, kernel.flatten(1)), linear(patches, kernel.flatten(1)))


def test_the_digits_are_split_once_and_for_all():
    data = digits()
    assert data.x.shape == (1198, 64) and data.test_x.shape == (599, 64)
    assert 0 <= data.x.min() and data.x.max() == 1
    for labels in (data.y, data.test_y):
        share = labels.bincount(minlength=10) / len(labels)
        assert (share - 0.1).abs().max() < 0.01
    # No picture is in both.
    both = torch.cat([data.x, data.test_x]).unique(dim=0)
    assert len(both) == 1797
    assert digits() is data


def test_the_rules():
    assert RULES == ("autograd", "straight_through", "unaware")
