"""Whole models on a chip: what may change meanwhile, what comes off, what never gets there, and what is refused."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import threading
import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel

from lib.checks import ParameterError
from lib.gradients import truth
from lib.hardware.crossbars import mappable, on_chip
from lib.hardware.devices import HARDWARE, Composite, make
from lib.hardware.perturbations import ADC, IRDrop, ReadNoise, StuckAt, Variability, Window

V = Variability()
X = torch.rand(5, 6, generator=torch.Generator().manual_seed(1))
IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(build=lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def convolutions() -> nn.Module:
    return made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten()))


def anew(model: nn.Module, x=X, hardware=V, severity: object = 0.3, seed: int = 0) -> torch.Tensor:
    """What a model computes that has never been on a chip before."""
    fresh = copy.deepcopy(model)
    with on_chip(fresh, hardware, severity, generator=seeded(seed)), torch.no_grad():
        return fresh(x)


# ------------------------------------------------------------------------------------------ what changes meanwhile


def _optimised(model, chip):
    for value in model.parameters():
        value.grad = torch.ones_like(value)
    torch.optim.SGD(model.parameters(), 0.1).step()


CHANGES = {
    "its sign": lambda model, chip: model[0].weight.data.neg_(),
    "one entry": lambda model, chip: model[2].weight.data[0, 0].add_(3e-7),
    "its order": lambda model, chip: model[0].weight.data.copy_(model[0].weight.data.flip(0)),
    "a vector": lambda model, chip: vector_to_parameters(-parameters_to_vector(model.parameters()), model.parameters()),
    "an optimiser": _optimised,
    "a state": lambda model, chip: model.load_state_dict({k: -v for k, v in model.state_dict().items()}),
    "another parameter": lambda model, chip: setattr(model[0], "weight", nn.Parameter(-model[0].weight.data)),
    "precision": lambda model, chip: model.double(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_weight_that_has_changed_is_programmed_again(change):
    model = made()
    with on_chip(model, V, 0.3, generator=seeded()) as chip, torch.no_grad():
        model(X)
        CHANGES[change](model, chip)
        seen = model(X.to(model[0].weight.dtype))
    assert torch.equal(seen, anew(model, X.to(seen.dtype)))


def test_the_slope_is_measured_where_both_ends_have_one_norm():
    # Behind a layer norm the gradient is orthogonal to the weight, so both ends are equally long.
    model = made(lambda: nn.Sequential(nn.Linear(6, 16, bias=False), nn.LayerNorm(16), nn.Linear(16, 4)))
    weight, labels = model[0].weight, torch.arange(5) % 4
    with on_chip(model, V, 1e-6):
        start = weight.detach().clone()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(X), labels), weight)

        def objective(moved):
            weight.data.copy_(moved)
            return F.cross_entropy(model(X), labels)

        assert truth(objective, start, gradient, 1e-3) == pytest.approx(1, abs=0.02)


def test_severity_and_rule_may_change_on_the_same_chip():
    model = made()
    with on_chip(model, V, 0.0, generator=seeded()) as chip, torch.no_grad():
        assert torch.equal(model(X), made()(X))
        for severity in (0.3, 0.6, 0.0, 0.3):
            chip.severity = severity
            assert torch.equal(model(X), anew(model, severity=severity))
        chip.rule = "unaware"
        assert torch.allclose(model(X), made()(X), atol=1e-6)
        chip.rule = "magic"
        with pytest.raises(ParameterError, match="^rule must be one of"):
            model(X)
        chip.severity = 7.0
        with pytest.raises(ParameterError, match="^severity must be a number from 0 to 1, but 7.0"):
            model(X)
        chip.severity, chip.rule = 0.3, "autograd"


@pytest.mark.parametrize("other", [StuckAt(), Variability(window=Window(1.0, 5.0))], ids=["kind", "window"])
def test_another_perturbation_is_another_chip(other):
    model = made()
    with on_chip(model, V, 0.3, generator=seeded()) as chip, torch.no_grad():
        first = model(X)
        chip.perturbation = other
        second = model(X)
        assert not torch.allclose(first, second) and torch.equal(second, model(X))


def test_a_chip_that_inference_mode_drew_can_be_trained_through():
    model = made()
    with on_chip(model, make("pcm"), 1e4):
        with torch.inference_mode():
            model(X)
        model(X).sum().backward()
    assert model[0].weight.grad.any()


def test_a_loaded_state_keeps_no_old_chip():
    first, second = made(), made(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)))
    nn.init.ones_(second[0].weight)
    with on_chip(first, V, 0.3, generator=seeded(1)), torch.no_grad():
        first(X)
        state = copy.deepcopy(first.state_dict())
    assert list(state) == list(made().state_dict())
    with on_chip(second, V, 0.3, generator=seeded(2)), torch.no_grad():
        second(X)
        second.load_state_dict(state)
        assert torch.equal(second(X), anew(first, seed=2))


# ------------------------------------------------------------------------------------------------ copies and blocks


def _saved(model: nn.Module) -> nn.Module:
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    return torch.load(stored, weights_only=False)


def _normed() -> nn.Module:
    return nn.Sequential(spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 4)).eval()


@pytest.mark.parametrize(
    ("copied", "build"),
    [
        (copy.deepcopy, None),
        (AveragedModel, None),
        (lambda model: pickle.loads(pickle.dumps(model)), None),
        (_saved, None),
        (lambda model: nn.Sequential(*(copy.copy(layer) for layer in model)), None),
        (copy.deepcopy, _normed),
    ],
    ids=["deep", "average", "pickle", "file", "shallow", "parametrized"],
)
def test_a_copy_made_on_the_chip_is_an_ordinary_model(copied, build):
    model = made(build) if build else made()
    plain = model(X)
    with on_chip(model, V, 0.3):
        own = copied(model)
        assert torch.equal(own(X), plain) and not torch.allclose(model(X), plain, atol=1e-3)
    assert torch.equal(own(X), plain) and torch.equal(model(X), plain)
    if copied is copy.deepcopy:
        assert [type(layer) for layer in own] == [type(layer) for layer in model]
        assert torch.equal(anew(own), anew(model))


def test_what_stands_in_for_a_layer_on_several_devices_uses_its_own_weight():
    layer = made()[0]
    with on_chip(layer, V, 0.3, generator=seeded()), torch.no_grad():
        layer(X)
        twin = layer._replicate_for_data_parallel()
        twin._parameters = {name: -value for name, value in layer.named_parameters()}
        seen = twin(X)
    assert torch.equal(seen, anew(twin))


def test_blocks_may_end_in_any_order_be_within_each_other_and_begin_again():
    model = made()
    plain = model(X)
    first, second = (on_chip(model, one, 0.3, generator=seeded()) for one in (V, StuckAt()))
    with torch.no_grad():
        for _ in range(2):
            with first:
                outer = model(X)
                with second:
                    assert torch.equal(model(X), anew(model, hardware=StuckAt()))
                    with on_chip(model, V, 0.0):
                        assert torch.equal(model(X), plain)
                assert torch.equal(model(X), outer) and torch.equal(outer, anew(model))
        first.__enter__()
        second.__enter__()
        first.__exit__(None)
        assert torch.equal(model(X), anew(model, hardware=StuckAt()))
        second.__exit__(None)
    assert torch.equal(model(X), plain) and [type(layer) for layer in model] == [nn.Linear, nn.ReLU, nn.Linear]


def test_a_sweep_from_off_on_can_renew_and_watch():
    model, worst = made(), []
    for severity in (0.0, 0.3):
        with on_chip(model, V, severity, generator=seeded()) as chip:
            chip.watch = True
            model(X)
            chip.renew()
            worst.append(max(chip.changed.values()))
    assert worst[0] == 0 < worst[1]
    with on_chip(model, None) as chip:
        chip.renew()


def test_a_compiled_model_goes_on_the_chip_and_comes_off():
    model = made()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        plain = compiled(X)
        with on_chip(model, V, 0.3, generator=seeded()):
            assert torch.allclose(compiled(X), anew(model), atol=1e-6)
        assert torch.equal(compiled(X), plain)


# ---------------------------------------------------------------------------------------------- what never gets there


class Around(nn.Module):
    """Computes with the weight of a layer instead of with the layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        return self.b(F.linear(x, self.a.weight))


def warned(model: nn.Module, x: torch.Tensor, run=None, severity: float = 0.1, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with on_chip(model, ReadNoise(), severity, **options), torch.no_grad():
            (run or model)(x)
    said = [one for one in caught if "on the chip" in str(one.message)]
    assert all(one.filename == __file__ for one in said)
    return [str(one.message) for one in said]


def test_layers_that_never_computed_are_named_at_the_end():
    (message,) = warned(Around(), X)
    assert message.startswith("Never computed on the chip: a. Only")
    assert warned(Around(), X, digital=["a"]) == [] == warned(Around(), X, severity=0.0)
    swin = made(lambda: torchvision.models.swin_t(num_classes=5)).eval()
    (message,) = warned(swin, torch.rand(1, 3, 32, 32))
    assert "features.1.0.attn.qkv, features.1.0.attn.proj, " in message and " and 18 more" in message
    model = made()
    (message,) = warned(model, X, run=copy.deepcopy(model))
    assert message.startswith("Never computed on the chip: 0, 2. Only")


def test_nothing_is_said_where_all_computed_or_something_else_went_wrong():
    shared, tied = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    tied[1].weight = tied[0].weight
    elsewhere = made()

    def in_a_thread(x):
        thread = threading.Thread(target=elsewhere, args=(x,))
        thread.start()
        thread.join()

    assert warned(nn.Sequential(shared, shared), X) == [] == warned(tied, X)
    assert warned(elsewhere, X, run=in_a_thread) == [] == warned(made(), X[:0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError, match="mine"), on_chip(Around(), V, 0.1):
            raise KeyError("mine")


class Standardised(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


def _own_forward() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x
    return layer


def _of_weight(change) -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(change(layer.weight.detach()))
    return layer


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (_own_forward(), "it has a forward of its own"),
        (Standardised(3, 4, 3), "it has a forward of its own"),
        (torch.jit.script(nn.Linear(4, 4)), "once compiled it computes without calling its layers"),
        (torch.ao.nn.quantized.dynamic.Linear(4, 4), "it computes with quantized numbers"),
        (nn.LazyLinear(4), "its weight must be a dense tensor of real numbers"),
        (nn.LazyConv2d(4, 3), "its weight must be a dense tensor of real numbers"),
        (nn.Linear(4, 4, device="meta"), "its weight must be a dense tensor of real numbers"),
        (nn.Linear(4, 4, dtype=torch.complex64), "its weight must be a dense tensor of real numbers"),
        (_of_weight(torch.Tensor.to_sparse), "its weight must be a dense tensor of real numbers"),
    ],
)
def test_a_layer_that_would_not_compute_on_the_chip_is_refused(layer, reason):
    model = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(ParameterError, match=rf"^model must .* but 1 \(\w+\) was given: {reason}"):
        mappable(model)
    assert list(mappable(model, ["1"])) == ["0"]


def test_to_look_at_a_parametrized_layer_does_not_change_it():
    layer = made(lambda: spectral_norm(nn.Linear(6, 6)))
    before = copy.deepcopy(layer.state_dict())
    mappable(layer)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("model", {"model": "mlp"}),
        ("perturbation", {"perturbation": "pcm"}),
        ("perturbation", {"perturbation": ReadNoise}),
        ("generator", {"generator": 0}),
        ("generator", {"generator": 5}),
        ("rule", {"rule": "magic"}),
        ("rule", {"rule": "magic", "severity": 0.0}),
        ("digital", {"digital": 5}),
        ("digital", {"digital": ["2", "2"]}),
    ],
)
def test_what_cannot_be_placed_is_refused_in_one_sentence(name, given):
    own = {"model": made(), "perturbation": V, "severity": 0.1, **given}
    with pytest.raises(ParameterError, match=rf"^{name} must be .*, but .* was given\.$"):
        on_chip(own.pop("model"), own.pop("perturbation"), own.pop("severity"), **own)


# ---------------------------------------------------------------------------------------- numbers of other precision


KINDS = {"pcm": 86400.0, "variability": 0.1, "adc": 6, "ir_drop": 100.0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("build", [made, convolutions])
@pytest.mark.parametrize("chip", KINDS)
def test_a_model_in_half_precision_is_computed_in_single(chip, build, dtype):
    model, x = build(), IMAGES if build is convolutions else X
    expected = anew(model, x, HARDWARE[chip], KINDS[chip])
    with on_chip(model, HARDWARE[chip], KINDS[chip], generator=seeded()), torch.no_grad():
        with torch.autocast("cpu", dtype):
            mixed = model(x)
    # Cast down on the way, too: the chip stays.
    with on_chip(model, HARDWARE[chip], KINDS[chip], generator=seeded()):
        model(x)
        below = model.to(dtype)(x.to(dtype))
        below.float().sum().backward()
    assert below.dtype == mixed.dtype == dtype and below.isfinite().all()
    assert all(value.grad.dtype == dtype and value.grad.isfinite().all() for value in model.parameters())
    assert torch.allclose(mixed.float(), expected, atol=0.05)
    if chip != "pcm":
        assert torch.allclose(below.float(), expected, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.float64], ids=str)
@pytest.mark.parametrize(("build", "x"), [(made, X), (convolutions, IMAGES)])
def test_an_input_of_another_type_is_refused(build, x, dtype):
    model = build()
    with pytest.raises(ParameterError, match=rf"^input of 0 must be torch.float32, but {dtype} was given\.$"):
        with on_chip(model, ReadNoise(), 0.1):
            model(x.to(dtype))


CONVERTERS = {
    **{f"adc, {name}": ADC(calibration=name) for name in ("quantile", "largest", "best", "learned")},
    "dac": make("dac"),
    "both": Composite([make("dac"), ADC()]),
}
WAYS = {
    "plain": lambda layer, x: layer(x),
    "no gradient": lambda layer, x: torch.no_grad()(layer)(x),
    "func": lambda layer, x: torch.func.grad(lambda x: layer(x).sum())(x),
    "twice": lambda layer, x: torch.func.jacfwd(torch.func.grad(lambda x: layer(x).sum()))(x),
}


@pytest.mark.parametrize("name", CONVERTERS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("nothing", [0.0, 1e-38, 1e-20])
def test_a_converter_that_sees_nothing_says_so_once_and_waits_for_the_next_batch(name, way, nothing):
    layer, one = nn.Linear(6, 8, bias=False), CONVERTERS[name]
    severity = (8, 8) if name == "both" else 8
    if way == "twice":
        layer, nothing = nn.Linear(2, 2, bias=False), 0.0
    x, zeros = X[:, : layer.in_features], torch.full((2, layer.in_features), nothing)
    with on_chip(layer, one, severity, generator=seeded()) as chip:
        with pytest.warns(UserWarning, match="^The converter of the layer is not calibrated: .* The next batch will"):
            assert WAYS[way](layer, zeros).isfinite().all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            WAYS[way](layer, zeros)
            seen = layer(x)
        assert all(type(own["range"]) is torch.Tensor for own in chip._numbers[""][1].values())
    assert torch.equal(seen, anew(layer, x, one, severity))
    # Eight bits of what there is, not of what there was not; the quantile cuts off little.
    assert (seen - x @ layer.weight.mT).abs().max() < 0.1


def test_a_converter_says_nothing_where_it_is_not_used():
    layer = nn.Linear(6, 8)
    with warnings.catch_warnings(), on_chip(layer, ADC(), 8, rule="unaware"):
        warnings.simplefilter("error")
        layer(torch.zeros(2, 6))


def test_a_range_of_nothing_that_nobody_could_look_at_does_not_cut_off_what_comes_later():
    zeros, y = torch.zeros(2, 9), torch.linspace(-1, 1, 9)
    bound = torch.func.vmap(lambda y: ADC().full_scale(y, torch.tensor(8.0)))(zeros)[0]
    drawn = {"range": bound}
    assert (ADC().current(y, None, None, torch.tensor(8.0), drawn) - y).abs().max() < 0.005
    # The smallest of ranges that is one stays what it is.
    tiny = {"range": torch.tensor(1e-12)}
    assert ADC().current(y, None, None, torch.tensor(8.0), tiny).abs().max() == pytest.approx(1e-12)


@pytest.mark.parametrize("chip", KINDS)
def test_an_empty_batch_gives_an_empty_result_and_calibrates_nothing(chip):
    for model, x in ((made(), X), (convolutions(), IMAGES), (nn.Conv2d(4, 4, 3, groups=2), torch.rand(2, 4, 8, 8))):
        with on_chip(model, HARDWARE[chip], KINDS[chip], generator=seeded()), torch.no_grad():
            assert model(x[:0]).shape == (0, *model(x).shape[1:])
        if chip == "adc":
            with on_chip(model, HARDWARE[chip], KINDS[chip], generator=seeded()), torch.no_grad():
                model(x[:0])
                assert torch.equal(model(x), anew(model, x, HARDWARE[chip], KINDS[chip]))


def test_transforms_see_one_chip():
    model = made()
    params = {name: torch.stack([value.detach(), -value.detach()]) for name, value in model.named_parameters()}
    with on_chip(model, V, 0.3, generator=seeded()), torch.no_grad():
        mapped = torch.func.vmap(model)(X)
        several = torch.func.vmap(lambda own: torch.func.functional_call(model, own, (X,)))(params)
        assert torch.allclose(mapped, anew(model), atol=1e-6) and torch.equal(model(X), anew(model))
        assert torch.allclose(several[0], mapped, atol=1e-6)
    with on_chip(model, ADC(), 4, generator=seeded()), torch.no_grad():
        with pytest.raises(ParameterError, match="^input must be a whole batch"):
            torch.func.vmap(model)(X)
        assert torch.allclose(model(X), torch.func.vmap(model)(X), atol=1e-6)
    with on_chip(model[0], make("pcm"), 1e4, generator=seeded()), torch.no_grad(), torch.device("meta"):
        assert torch.equal(model[0](input=X), anew(model[0], hardware=make("pcm"), severity=1e4))


# ------------------------------------------------------------------------------------------ networks of convolutions


def test_a_convolution_wider_than_a_tile_is_cut_into_several():
    # 27 inputs and 5 outputs in tiles of 8 x 4: what is computed is the sum over arrays that are small layers alone.
    layer = made(lambda: nn.Conv2d(3, 5, 3, bias=False))
    seen = anew(layer, IMAGES, IRDrop(tile=(8, 4), scale="fixed"), 500.0)
    patches, weight = F.unfold(IMAGES, 3).mT, layer.weight.detach().flatten(1)
    scale = (25 - 0.1) / weight.abs().max()
    total = torch.zeros(2, 36, 5)
    for out, into in itertools.product(range(0, 5, 4), range(0, 27, 8)):
        part = weight[out : out + 4, into : into + 8]
        g = torch.stack([(scale * part).relu(), (-scale * part).relu()]) + 0.1
        through = IRDrop().seen(g, torch.tensor(500.0)).float()
        total[..., out : out + 4] += patches[..., into : into + 8] @ ((through[0] - through[1]) / scale).mT
    assert torch.allclose(seen, total.mT.reshape(seen.shape), atol=1e-4)
    assert not torch.allclose(seen, layer(IMAGES), atol=1e-2)


SINGLE = {"read_noise": 0.2, "variability": 0.2, "drift": 1e6, "stuck_at": 0.2, "ir_drop": 1000.0, "adc": 3, "dac": 3}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SINGLE, 2)))
def test_each_effect_acts_on_convolutions_alone_and_in_every_pair(one, other):
    model = convolutions()
    pair = Composite((HARDWARE[one], HARDWARE[other]))

    def seen(*on: str) -> torch.Tensor:
        return anew(model, IMAGES, pair, {name: SINGLE[name] for name in on})

    plain, first, second, both = seen(), seen(one), seen(other), seen(one, other)
    assert torch.equal(plain, model(IMAGES))
    different = [first - plain, second - plain, both - first, both - second]
    assert min(float(change.abs().max()) for change in different) > 1e-3
    # What is deterministic is the same with a part beside it that is off as without one.
    for name, found in ((one, first), (other, second)):
        if not HARDWARE[name].random:
            assert torch.allclose(found, anew(model, IMAGES, HARDWARE[name], SINGLE[name]), atol=1e-5)
