"""Networks on crossbars: the plain network, the backward rules, and that the gradients are those of what
runs.
"""

from __future__ import annotations

import hashlib
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy
from torchvision.datasets import CIFAR10

from lib import replicas, runtime
from lib.checks import ParameterError
from lib.hardware import circuit, networks
from lib.hardware.crossbars import Crossbars, Shape, draw_chip, draw_read, ideal
from lib.hardware.devices import HARDWARE, Composite
from lib.hardware.networks import NETWORKS, BatchNorm, Network, cifar10, dataset, digits, network
from lib.hardware.numbers import merged
from lib.hardware.perturbations import ADC, PERTURBATIONS, Drift, ReadNoise, Variability
from lib.replicas import Optimiser, unstack

MIDDLE = {"read_noise": 0.05, "variability": 0.1, "drift": 1e6, "stuck_at": 0.1, "ir_drop": 500.0, "adc": 4.0}
CALIBRATED = {"programming_noise": 2.0, "flicker_noise": 1e6, "pcm": 1e6, "rram": 1.0}
SMALL = [name for name in NETWORKS if not name.startswith("resnet")]
TINY = Network("mlp", size=3, classes=4)
LAST = TINY.layers[-1]


def small(dtype=torch.float64) -> tuple[dict, torch.Tensor, torch.Tensor]:
    params = {name: value.to(dtype) for name, value in TINY.initial(runtime.stream(0, "initial")).items()}
    params = {name: value + 0.1 if name.endswith("bias") else value for name, value in params.items()}
    x = torch.rand(11, 1, 3, 3, generator=runtime.stream(0, "x")).to(dtype)
    return params, x, torch.randint(0, 4, (11,), generator=runtime.stream(0, "y"))


def on_chip(name, rule: str, params: dict, x: torch.Tensor, net: Network = TINY) -> Crossbars:
    perturbation = HARDWARE[name]
    source = runtime.stream(0, "chip")
    drawn = merged(draw_chip(perturbation, net.shapes, source), draw_read(perturbation, net.shapes, len(x), source))
    drawn = replicas.mapped(lambda value: value.to(x.dtype), drawn)
    return Crossbars(perturbation, torch.tensor({**MIDDLE, **CALIBRATED}[name], dtype=x.dtype), rule, drawn)


# ------------------------------------------------------------------------------------------------ plain networks


def test_the_perceptron_is_the_usual_one():
    params, x, _ = small()
    modules: list[nn.Module] = []
    for layer in TINY.layers:
        outputs, inputs = params[f"{layer}.weight"].shape
        modules += [nn.Linear(inputs, outputs, dtype=torch.float64), nn.ReLU()]
        modules[-2].load_state_dict({"weight": params[f"{layer}.weight"], "bias": params[f"{layer}.bias"]})
    assert torch.allclose(TINY(params, x), nn.Sequential(*modules[:-1])(x.flatten(1)))
    assert [tuple(params[f"{layer}.weight"].shape) for layer in TINY.layers] == [(64, 9), (32, 64), (4, 32)]


def test_the_convolutional_network_is_the_usual_one():
    net = Network("cnn")
    params = {name: value.double() for name, value in net.initial(runtime.stream(0, "initial")).items()}
    params = {name: value + 0.1 if name.endswith("bias") else value for name, value in params.items()}
    x = torch.rand(5, 1, 8, 8, generator=runtime.stream(0, "x")).double()
    weights, biases = ([params[f"{layer}.{kind}"] for layer in net.layers] for kind in ("weight", "bias"))
    hidden = x
    for weight, bias, stride in zip(weights[:3], biases[:3], (1, 2, 2), strict=True):
        hidden = F.conv2d(hidden, weight, bias, stride, 1).relu()
    assert torch.allclose(net(params, x), F.linear(hidden.flatten(1), weights[3], biases[3]))


def test_initial_weights_have_the_variance_of_he():
    params = Network("mlp", size=40).initial(runtime.stream(0, "initial"))
    assert params["1.weight"].shape == (64, 1600)
    assert params["1.weight"].var().item() == pytest.approx(2 / 1600, rel=0.02)
    assert not params["1.bias"].any()
    convolution = Network("cnn", channels=64).initial(runtime.stream(0, "initial"))["0.weight"]
    assert convolution.shape == (8, 64, 3, 3) and convolution.var().item() == pytest.approx(2 / 576, rel=0.05)


@pytest.mark.parametrize("name", SMALL)
def test_initial_parameters_depend_on_the_generator_alone(name):
    net = network(name)
    first, again, other = (net.initial(runtime.stream(seed, "initial")) for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(not torch.equal(first[f"{layer}.weight"], other[f"{layer}.weight"]) for layer in net.layers)
    torch.manual_seed(1)
    fresh = Network(name)
    assert all(torch.equal(value, first[key]) for key, value in fresh.initial(runtime.stream(0, "initial")).items())


def test_making_a_network_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    Network("vit").initial(runtime.stream(0, "initial"))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("mlp", [((64, 64), (64,)), ((32, 64), (32,)), ((10, 32), (10,))]),
        ("cnn", [((8, 9), (64, 8)), ((16, 72), (16, 16)), ((16, 144), (4, 16)), ((10, 64), (10,))]),
        ("cnn_norm", [((8, 9), (64, 8)), ((16, 72), (16, 16)), ((16, 144), (4, 16)), ((10, 64), (10,))]),
        (
            "vit",
            [((24, 4), (16, 24)), ((72, 24), (16, 72)), ((24, 24), (16, 24))]
            + [((48, 24), (16, 48)), ((24, 48), (16, 24)), ((10, 24), (10,))],
        ),
    ],
)
def test_shapes_are_those_of_weights_and_currents(name, shapes):
    net = network(name)
    assert tuple(net.shapes) == net.layers
    assert [tuple(shape) for shape in net.shapes.values()] == shapes
    params = net.initial(runtime.stream(0, "initial"))
    for layer, (weight, current) in net.shapes.items():
        assert params[f"{layer}.weight"].flatten(1).shape == weight and current[-1] == weight[0]
    assert list(net.weights(params)) == [f"{layer}.weight" for layer in net.layers]
    assert net.normalised == (name == "cnn_norm")
    assert network(name) is net
    assert net(params, digits().x[:3]).shape == (3, 10)


@pytest.mark.parametrize("name", SMALL)
def test_every_network_learns_a_few_digits(name):
    net, data = network(name), digits()
    x, y = data.x[:32], data.y[:32]
    params = replicas.stack([net.initial(runtime.stream(0, "initial"))])

    def loss(one, drawn):
        return cross_entropy(net(one, drawn["x"]), drawn["y"])

    optimiser = Optimiser("adam", 1e-2, 40)
    trained = replicas.train(loss, params, lambda step: {"x": x[None], "y": y[None]}, optimiser)
    assert trained.losses[-1] < 0.5 * trained.losses[0]
    assert (net(unstack(trained.params, 0), x).argmax(1) == y).double().mean() > 0.8


def test_resnet_has_the_structure_of_resnet_20():
    net = Network("resnet", channels=3, size=32)
    params = net.initial(runtime.stream(0, "initial"))
    # 19 convolutions and the head, and about 0.27 million parameters (He et al. 2016, table 6).
    assert len(net.layers) == 20 and net.normalised
    assert 0.265e6 < sum(value.numel() for value in params.values()) < 0.275e6
    widths = [shape.weight[0] for shape in net.shapes.values()]
    assert widths == [16] * 7 + [32] * 6 + [64] * 6 + [10]
    pixels = [shape.current[0] for shape in net.shapes.values()][:-1]
    assert pixels == [1024] * 7 + [256] * 6 + [64] * 6
    x = torch.rand(2, 3, 32, 32, generator=runtime.stream(0, "x"))
    plain = net(params, x)
    assert plain.shape == (2, 10) and plain.isfinite().all()
    drawn = draw_chip(Variability(), net.shapes, runtime.stream(0, "chip"))
    seen = net(params, x, Crossbars(Variability(), torch.tensor(0.1), "autograd", drawn))
    assert seen.shape == (2, 10) and not torch.allclose(seen, plain, atol=1e-2)


def test_a_block_that_narrows_passes_every_other_pixel_around():
    block = networks.Block(2, 5, 2)
    for convolution in (block.first, block.second):
        nn.init.zeros_(convolution.weight)
    x = torch.rand(3, 2, 6, 6)
    y = block(x)
    assert y.shape == (3, 5, 3, 3)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2]) and not y[:, 2:].any()


def test_attention_is_that_of_torch():
    block = networks.Attention(8, 2)
    x = torch.rand(3, 5, 8)
    hidden = block.before(x)
    weights = (block.mix.weight, block.mix.bias, None, None, False, 0.0, block.out.weight, block.out.bias)
    mixed, _ = F.multi_head_attention_forward(*(hidden.transpose(0, 1),) * 3, 8, 2, *weights)
    expected = x + mixed.transpose(0, 1)
    expected = expected + block.narrow(F.gelu(block.wide(block.between(expected))))
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_tokens_are_the_patches_of_an_image():
    tokens = networks.Tokens(2, 8, 2, 3)
    x = torch.rand(4, 2, 8, 8)
    seen = tokens(x)
    assert seen.shape == (4, 16, 3)
    # The sixth: second row, second column of patches.
    patch = x[:, :, 2:4, 2:4].flatten(1)
    assert torch.allclose(seen[:, 5], tokens.embed(patch) + tokens.place[5], atol=1e-5)


def test_batch_normalisation_with_the_statistics_of_the_batch_is_torchs():
    norm = BatchNorm(4)
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
        norm.shift.copy_(torch.tensor([0.0, 1.0, 2.0, -3.0]))
    x = 3 * torch.randn(6, 4, 5, 7) + 2
    assert torch.allclose(norm(x), F.batch_norm(x, None, None, norm.scale, norm.shift, training=True), atol=1e-5)
    mean, variance = torch.randn(4), torch.rand(4)
    norm.statistics = lambda name, images: (mean, variance)
    assert torch.allclose(norm(x), F.batch_norm(x, mean, variance, norm.scale, norm.shift), rtol=1e-4, atol=1e-4)


def test_statistics_are_calibrated_once_and_then_taken_from_what_was_drawn():
    net = network("cnn_norm")
    params = net.initial(runtime.stream(0, "initial"))
    x, other = digits().x[:50], digits().x[50:60]
    first = Crossbars(None, torch.tensor(0.0), "autograd", {})
    assert torch.equal(net(params, x, first), net(params, x))
    norms = [name for name in params if name.endswith("scale")]
    paths = {(name.removesuffix(".scale"), "statistics", kind) for name in norms for kind in ("mean", "variance")}
    assert set(replicas.flat(first.calibrated)) == paths
    hidden = F.conv2d(x, params["0.weight"], None, 1, 1)
    found = first.calibrated["1"]["statistics"]
    assert torch.allclose(found["mean"], hidden.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(found["variance"], hidden.var((0, 2, 3), unbiased=False), atol=1e-5)
    # Given, they make an image independent of the others in its batch.
    fixed = Crossbars(None, torch.tensor(0.0), "autograd", dict(first.calibrated))
    assert torch.allclose(net(params, other, fixed)[:1], net(params, other[:1], fixed), atol=1e-5)
    assert not fixed.calibrated and not torch.allclose(net(params, other, fixed), net(params, other), atol=1e-3)
    # What was taken for one call is not left for the next.
    assert torch.equal(net(params, x), net(params, x, first))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("hardware", [None, "variability", "pcm"])
def test_replicas_under_vmap_are_single_runs(name, hardware):
    net, x = network(name), digits().x[:6]
    trees = [net.initial(runtime.stream(seed, "initial")) for seed in range(3)]
    chips = [{} for _ in range(3)]
    perturbation = HARDWARE[hardware] if hardware else None
    severities = torch.tensor([0.0, 0.1, 0.2] if hardware == "variability" else [0.0, 20.0, 1e5])
    if perturbation:
        chips = [
            merged(
                draw_chip(perturbation, net.shapes, runtime.stream(seed, "chip")),
                draw_read(perturbation, net.shapes, len(x), runtime.stream(seed, "read")),
            )
            for seed in range(3)
        ]

    def single(params, severity, drawn):
        return net(params, x, Crossbars(perturbation, severity, "autograd", drawn))

    dims = (0, 0, 0 if perturbation else None)
    stacked = replicas.stack(chips) if perturbation else {}
    mapped = torch.func.vmap(single, in_dims=dims)(replicas.stack(trees), severities, stacked)
    for i in range(3):
        alone = single(trees[i], severities[i], chips[i])
        assert torch.allclose(mapped[i], alone, rtol=1e-3, atol=2e-4)
    assert not torch.allclose(mapped[0], mapped[1], atol=1e-2)


# ------------------------------------------------------------------------------------------------ on chips


def test_without_hardware_and_unaware_it_is_the_plain_network_bit_by_bit():
    params, x, _ = small(torch.float32)
    plain = TINY(params, x)
    assert torch.equal(plain, TINY(params, x, ideal))
    assert torch.equal(plain, TINY(params, x, Crossbars(None, torch.tensor(0.0), "autograd", {})))
    for name in MIDDLE | CALIBRATED:
        assert torch.equal(plain, TINY(params, x, on_chip(name, "unaware", params, x)))


@pytest.mark.parametrize("name", MIDDLE | CALIBRATED)
def test_both_rules_run_the_same_forward_pass(name):
    params, x, _ = small()
    one, other = (TINY(params, x, on_chip(name, rule, params, x)) for rule in ("autograd", "straight_through"))
    assert torch.allclose(one, other, atol=1e-12)
    assert not torch.allclose(one, TINY(params, x))


@pytest.mark.parametrize("name", [name for name in MIDDLE | CALIBRATED if name != "adc"])
def test_autograd_is_the_slope_of_what_was_computed(name, monkeypatch):
    params, x, y = small()

    def loss(tree):
        return cross_entropy(TINY(tree, x, on_chip(name, "autograd", params, x)), y)

    slopes = torch.func.grad(loss)(params)
    # The circuit is solved to some 1e-7, too coarse for differences: take them of the exact circuit.
    monkeypatch.setattr(circuit, "effective_conductance", partial(circuit.effective_conductance, exact=True))
    for layer in TINY.layers:
        key = f"{layer}.weight"
        direction = torch.randn(params[key].shape, generator=runtime.stream(1, key)).double()

        def moved(sign, key=key, along=1e-6 * direction):
            return loss({**params, key: params[key] + sign * along}).item()

        slope = (moved(1) - moved(-1)) / 2e-6
        close = 1e-4 if name == "ir_drop" else 1e-6
        assert (slopes[key] * direction).sum().item() == pytest.approx(slope, rel=close, abs=1e-7)


@pytest.mark.parametrize("name", ["cnn", "cnn_norm", "vit"])
def test_autograd_is_the_slope_in_other_networks_too(name):
    net = network(name)
    params = {key: value.double() for key, value in net.initial(runtime.stream(0, "initial")).items()}
    # Without the biases, what is blank in an image would sit exactly where ReLU has no slope.
    params = {key: value + 0.1 if key.endswith("bias") else value for key, value in params.items()}
    x, y = digits().x[:6].double(), digits().y[:6]

    def loss(tree):
        return cross_entropy(net(tree, x, on_chip("variability", "autograd", params, x, net)), y)

    slopes = torch.func.grad(loss)(params)
    source = runtime.stream(1, "direction")
    direction = {key: torch.randn(value.shape, generator=source).double() for key, value in params.items()}
    ahead, behind = (
        loss({key: value + sign * 1e-6 * direction[key] for key, value in params.items()}).item() for sign in (1, -1)
    )
    along = sum((slopes[key] * direction[key]).sum().item() for key in params)
    assert along == pytest.approx((ahead - behind) / 2e-6, rel=1e-4)


def test_straight_through_takes_the_clean_products_gradient():
    params, x, _ = small()
    layer = TINY.layers[0]
    weight, x = params[f"{layer}.weight"].requires_grad_(), x.flatten(1).requires_grad_()
    out = on_chip("stuck_at", "straight_through", params, x)(layer, x, weight)
    sent = torch.randn(out.shape, generator=runtime.stream(0, "sent")).double()
    into_weight, into_x = torch.autograd.grad(out, (weight, x), sent)
    assert torch.allclose(into_weight, sent.T @ x) and torch.allclose(into_x, sent @ weight)
    # Autograd, in contrast, sends nothing to a weight whose two devices are both stuck.
    crossbars = on_chip("stuck_at", "autograd", params, x)
    (real,) = torch.autograd.grad(crossbars(layer, x, weight), weight, sent)
    stuck = (crossbars.drawn[layer]["stuck_at"]["chip"] < MIDDLE["stuck_at"]).all(0)
    assert not torch.allclose(real, sent.T @ x)
    assert stuck.any() and real[stuck].abs().max() < 1e-12


def test_an_adc_kills_every_weights_gradient_and_straight_through_revives_it():
    params, x, y = small()
    for rule, alive in (("autograd", False), ("straight_through", True)):
        crossbars = on_chip("adc", rule, params, x)
        slopes = torch.func.grad(lambda tree, product=crossbars: cross_entropy(TINY(tree, x, product), y))(params)
        for layer in TINY.layers:
            assert slopes[f"{layer}.weight"].any().item() == alive
        # The last bias is added behind the last converter.
        assert slopes[f"{LAST}.bias"].any()


def test_calibrated_ranges_are_used_where_given():
    params, x, _ = small()
    crossbars = on_chip("adc", "autograd", params, x)
    out = TINY(params, x, crossbars)
    assert set(replicas.flat(crossbars.calibrated)) == {(layer, "adc", "range") for layer in TINY.layers}
    again = Crossbars(crossbars.perturbation, crossbars.severity, "autograd", dict(crossbars.calibrated))
    assert torch.equal(TINY(params, x, again), out) and not again.calibrated
    wider = replicas.mapped(lambda value: 2 * value, crossbars.calibrated)
    assert not torch.equal(
        TINY(params, x, Crossbars(crossbars.perturbation, crossbars.severity, "autograd", wider)), out
    )


def test_a_network_on_a_composed_chip():
    params, x, _ = small(torch.float32)
    one = Composite([Variability(), ReadNoise(), Drift(), ADC()])
    source = runtime.stream(0, "chip")
    drawn = merged(draw_chip(one, TINY.shapes, source), draw_read(one, TINY.shapes, len(x), source))
    off, on = (torch.tensor(one.check(given)) for given in ({}, {"variability": 0.1, "adc": 5}))
    assert torch.equal(TINY(params, x, Crossbars(one, off, "autograd", drawn)), TINY(params, x))
    assert not torch.allclose(TINY(params, x, Crossbars(one, on, "autograd", drawn)), TINY(params, x), atol=1e-2)


def test_an_unknown_network_is_refused():
    with pytest.raises(
        ParameterError, match="^network must be one of mlp, cnn, cnn_norm, vit, resnet, resnet_narrow, but 'rnn' was"
    ):
        Network("rnn")


# ------------------------------------------------------------------------------------------------ data


def test_the_digits_are_split_once_and_for_all():
    data = digits()
    assert data.x.shape == (1198, 1, 8, 8) and data.test_x.shape == (599, 1, 8, 8)
    assert 0 <= data.x.min() and data.x.max() == 1
    for labels in (data.y, data.test_y):
        share = labels.bincount(minlength=10) / len(labels)
        assert (share - 0.1).abs().max() < 0.01
    # No picture is in both.
    both = torch.cat([data.x, data.test_x]).unique(dim=0)
    assert len(both) == 1797
    assert digits() is data and dataset("digits") is data and data.classes == 10


def test_the_digits_are_those_of_scikit_learn_upright():
    from sklearn.datasets import load_digits

    known = {image.tobytes(): label for image, label in zip(load_digits().images, load_digits().target, strict=True)}
    data = digits()
    for x, y in zip(data.test_x[:20], data.test_y[:20], strict=True):
        assert known[(x[0] * 16).double().numpy().tobytes()] == y


def folder(root, train=("cat", "dog"), test=("cat", "dog"), size=(32, 32), last=None, count=3):
    """A miniature image folder of noise; the picture ``last`` may have a size of its own."""
    from PIL import Image

    source = np.random.default_rng(0)
    pictures = {}
    for part, classes in (("train", train), ("test", test)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                width, height = last if last and (part, name, i) == ("test", "dog", 1) else size
                smooth = np.broadcast_to(source.integers(40, 200, 3, dtype=np.uint8), (height, width, 3)).copy()
                smooth[: height // 2] = 255 - smooth[: height // 2]
                Image.fromarray(smooth).save(root / part / name / f"{i}.jpg", quality=95)
                pictures[part, name, i] = smooth
    return pictures


def test_cifar10_from_a_folder_of_images(tmp_path):
    pictures = folder(tmp_path)
    data = cifar10(str(tmp_path))
    assert data.x.shape == (6, 3, 32, 32) == data.test_x.shape and data.x.dtype == torch.float32
    assert data.y.tolist() == [0, 0, 0, 1, 1, 1] == data.test_y.tolist() and data.classes == 2
    expected = torch.from_numpy(pictures["train", "dog", 2]).permute(2, 0, 1) / 255
    # JPEG loses a little, and most of it at the edge between the two halves.
    assert (data.x[5] - expected).abs().max() < 0.2 and (data.x[5] - expected).abs().mean() < 0.01
    expected = torch.from_numpy(pictures["test", "cat", 0]).permute(2, 0, 1) / 255
    assert (data.test_x[0] - expected).abs().mean() < 0.01
    assert dataset("cifar10", str(tmp_path)) is data
    net = network("cnn", "cifar10", str(tmp_path))
    assert net(net.initial(runtime.stream(0, "initial")), data.x).shape == (6, 2)


def test_cifar10_from_the_files_of_torchvision(tmp_path, monkeypatch):
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    source = np.random.default_rng(0)

    def write(name, content):
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    batches = [{"data": source.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [i, 1, 2, 9]} for i in range(3)]
    names = ["data_batch_1", "data_batch_2", "test_batch"]
    files = [write(name, batch) for name, batch in zip(names, batches, strict=True)]
    meta = write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", files[:2])
    monkeypatch.setattr(CIFAR10, "test_list", files[2:])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    data = cifar10(str(tmp_path))
    assert data.y.tolist() == [0, 1, 2, 9, 1, 1, 2, 9] and data.test_y.tolist() == [2, 1, 2, 9] and data.classes == 10
    expected = np.concatenate([batches[0]["data"], batches[1]["data"]]).reshape(8, 3, 32, 32) / 255
    assert torch.allclose(data.x.double(), torch.from_numpy(expected), atol=1e-6)
    assert torch.allclose(data.test_x[3].flatten().double(), torch.from_numpy(batches[2]["data"][3] / 255), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": (28, 28)}, "root must hold pictures of 32 x 32 pixels, but 28 x 28 was given."),
        # Also where only one in the middle is wrong, even if it has as many pixels.
        ({"last": (16, 64)}, "root must hold pictures of 32 x 32 pixels, but 16 x 64 was given."),
        (
            {"test": ("cat", "cow")},
            "root must hold pictures of every class in train and in test, but 'cow' without any in train was given.",
        ),
    ],
)
def test_a_folder_that_is_not_cifar10_is_refused(tmp_path, options, sentence):
    folder(tmp_path, **options)
    with pytest.raises(ParameterError) as error:
        cifar10(str(tmp_path))
    assert str(error.value) == sentence


def test_a_missing_folder_is_refused_with_what_to_put_there(tmp_path):
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ParameterError) as error:
            cifar10(str(root))
        assert str(error.value) == (
            "root must be a folder that holds train/<class> and test/<class> with pictures, or torchvision's "
            f"cifar-10-batches-py (from cifar-10-python.tar.gz) (put the missing train into {str(root)!r}), "
            f"but {str(root)!r} was given."
        )
    with pytest.raises(ParameterError, match="^data must be one of digits, cifar10, but 'mnist' was given.$"):
        dataset("mnist")


def test_shape_is_what_it_says():
    assert TINY.shapes[LAST] == Shape((4, 32), (4,))
    assert list(PERTURBATIONS) == list(MIDDLE)
