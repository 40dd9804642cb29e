"""Learners, gates and their diagnosis, each against a second way of computing the same thing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import gradients, replicas
from lib.checks import ParameterError
from lib.prompts import backbone as backbones
from lib.prompts import gates, learners, tasks, training
from lib.prompts.backbone import Backbone, load
from lib.prompts.diagnosis import FACTORS, chain, gate_statistics
from lib.prompts.learners import Learner
from lib.runtime import stream
from paper.studies import gap_origin

CLASSES = ("red thing", "blue thing on the left", "two things")
TRAINED = [name for name in learners.LEARNERS if name != "zero_shot"]
GATED = [
    (name, kind)
    for name in TRAINED
    for kind, gate in gates.GATES.items()
    if gate.selects == learners.LEARNERS[name].pool
]
BLIND = [kind for kind, gate in gates.GATES.items() if gate.shuffled]
CELLS = [*((name, "none") for name in TRAINED), *GATED]


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load("miniclip", "random", seed=5)


@pytest.fixture(scope="module")
def narrow(narrow_sizes) -> Backbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "MINICLIP", narrow_sizes)
        return load("miniclip", "random", seed=5)


@pytest.fixture(scope="module")
def batch(mini) -> dict[str, torch.Tensor]:
    images = tasks.few_shot(tasks.get("counting"), 1, 0).images
    patches = mini.patches(images)
    return {"features": mini.vision_tower(patches), "patches": patches, "labels": torch.arange(6) % 3}


def double(learner: Learner, params: dict, batch: dict) -> tuple[Learner, dict, dict]:
    """A float64 copy of everything, for identities."""
    backbone = load("miniclip", "random", seed=5)
    backbone.model.double()
    again = Learner(
        learner.name,
        backbone,
        CLASSES,
        gate="none" if learner.gate is None else learner.gate.kind,
        tokens=learner.tokens,
    )
    return (
        again,
        {name: value.double() for name, value in params.items()},
        {name: value.double() if value.is_floating_point() else value for name, value in batch.items()},
    )


# ---------------------------------------------------------------------------------------------- learners
def by_hand(backbone: Backbone, names, text=None, visual=None, image=None, order=None) -> torch.Tensor:
    """Logits of one picture with open_clip's own blocks, prompts put before each block as the authors describe it.

    ``text`` is a list of contexts by layer, [M, d] for all classes or [K, M, d]; ``visual`` one of tokens [M, d_v].
    ``order`` rearranges the tokens of each sentence. Nothing of the library's towers is used.
    """
    model, stop = backbone.model, backbone.full_stop
    if text is None:
        ids = backbone.tokenizer([f"a photo of a {name}" for name in names])
        x = model.token_embedding(ids)
    else:
        tokens = text[0].shape[-2]
        ids = backbone.tokenizer(["a " * tokens + name + stop for name in names])
        x = model.token_embedding(ids).clone()
        x[:, 1 : 1 + tokens] = text[0]
    if order is not None:
        x = torch.stack([row[index] for row, index in zip(x, order, strict=True)])
    x = x + model.positional_embedding
    for layer, block in enumerate(model.transformer.resblocks):
        if layer and text is not None and layer < len(text):
            x = torch.cat([x[:, :1], text[layer].expand(len(names), -1, -1), x[:, 1 + tokens :]], 1)
        x = block(x, attn_mask=model.attn_mask)
    words = model.ln_final(x)[torch.arange(len(ids)), ids.argmax(1)] @ model.text_projection
    tower, size = model.visual, backbone._std
    y = tower.conv1((image - backbone._mean) / size).flatten(2).transpose(1, 2)
    y = torch.cat([tower.class_embedding[None, None], y], 1) + tower.positional_embedding
    if visual is not None:
        y = torch.cat([y, visual[0][None]], 1)
    y = tower.ln_pre(y)
    for layer, block in enumerate(tower.transformer.resblocks):
        if layer and visual is not None and layer < len(visual):
            y = torch.cat([y[:, : -len(visual[0])], visual[layer][None]], 1)
        y = block(y)
    feature = F.normalize(tower.ln_post(y[:, 0]) @ tower.proj, dim=-1)
    return model.logit_scale.exp() * feature @ F.normalize(words, dim=-1).T


def linear(prompts: torch.Tensor, params: dict, name: str = "") -> torch.Tensor:
    """Each layer's prompts through its own map."""
    maps = zip(prompts, params[f"coupling.{name}weight"], params[f"coupling.{name}bias"], strict=True)
    return torch.stack([F.linear(p, w, b) for p, w, b in maps])


def written_out(name: str, params: dict, feature: torch.Tensor) -> dict:
    """The prompts that each learner's authors put into the towers for one picture."""
    text, visual = params.get("prompt.tokens"), params.get("prompt.vision")
    if name == "cocoop":
        hidden = F.relu(F.linear(feature, params["meta.in.weight"], params["meta.in.bias"]))
        text = text + F.linear(hidden, params["meta.out.weight"], params["meta.out.bias"])
    if name == "maple":
        visual = linear(text, params)
    if name == "bimaple":
        text, visual = text + linear(visual, params, "back."), visual + linear(text, params)
    if name == "pool":
        text = text.mean(0, keepdim=True)
    return {"text": text, "visual": visual}


@pytest.mark.parametrize("name", list(learners.LEARNERS))
def test_learner_equals_the_published_construction(mini, name):
    learner = Learner(name, mini, CLASSES, tokens=3, std=0.3)
    params = learner.initial(stream(0, "x"))
    images = tasks.few_shot(tasks.get("counting"), 1, 0).images[:2]
    with torch.no_grad():
        patches = mini.patches(images)
        features = mini.vision_tower(patches)
        logits = learner.logits(params, features, patches)
        for image, feature, row in zip(images, features, logits, strict=True):
            expected = by_hand(mini, CLASSES, image=image[None], **written_out(name, params, feature))
            torch.testing.assert_close(row[None], expected, atol=2e-4, rtol=1e-4)


def test_coop_with_own_contexts_and_in_the_middle(mini):
    image = tasks.few_shot(tasks.get("counting"), 1, 0).images[:1]
    with torch.no_grad():
        features = mini.image_features(image)
        own = Learner("coop", mini, CLASSES, tokens=3, std=0.3, own=True)
        params = own.initial(stream(0, "x"))
        contexts = params["prompt.tokens"].reshape(3, len(CLASSES), -1).movedim(1, 0)
        torch.testing.assert_close(
            own.logits(params, features, None), by_hand(mini, CLASSES, [contexts], image=image), atol=2e-4, rtol=1e-4
        )
        middle = Learner("coop", mini, CLASSES, tokens=3, std=0.3, position="middle")
        params = middle.initial(stream(0, "x"))
        # Start, one context token, the name, two context tokens, end and padding.
        rows = []
        for name in CLASSES:
            count = len(name.split())
            rows.append([0, 1, *range(4, 4 + count), 2, 3, *range(4 + count, mini.context_length)])
        expected = by_hand(mini, CLASSES, [params["prompt.tokens"][0]], image=image, order=rows)
        torch.testing.assert_close(middle.logits(params, features, None), expected, atol=2e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def big() -> Backbone:
    return load("ViT-B-16-quickgelu", "random")


@pytest.mark.parametrize("name", ["coop", "cocoop", "vpt", "ivlp", "maple"])
def test_published_recipes_at_their_own_size(big, name):
    """Forward values at ViT-B/16 size, with byte-pair tokens, names of different length and a full stop."""
    names = ("abyssinian cat", "zebra", "forest road")
    learner = Learner(name, big, names, tokens=2, depth={"ivlp": 12, "vpt": 12, "maple": 9}.get(name, 0))
    params = learner.initial(stream(0, "x"))
    image = torch.rand(1, 3, 224, 224, generator=stream(0, "image"))
    with torch.no_grad():
        patches = big.patches(image)
        feature = big.vision_tower(patches)
        logits = learner.logits(params, feature, patches)
        expected = by_hand(big, names, image=image, **written_out(name, params, feature[0]))
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        ("zero_shot", {}, 0),
        ("coop", {"tokens": 16}, 8_192),
        ("coop", {"tokens": 4}, 2_048),
        ("coop", {"tokens": 16, "own": True}, 2 * 8_192),
        ("cocoop", {"tokens": 4}, 35_360),
        ("vpt_shallow", {"tokens": 8}, 8 * 768),
        ("vpt", {"tokens": 8}, 73_728),
        ("ivlp", {"tokens": 2}, 30_720),
        ("maple", {"tokens": 2, "depth": 9}, 3_555_072),
        ("pool", {"tokens": 5, "pool": 10}, 10 * 5 * 512),
    ],
)
def test_parameter_counts_of_the_published_recipes(big, name, options, published):
    learner = Learner(name, big, ("cat", "dog"), **options)
    assert sum(learner.counts().values()) == published == learner.table()["parameters"].sum()
    assert isinstance(big.model, open_clip.CLIP)


@pytest.mark.parametrize(("name", "kind"), [cell for cell in GATED if cell[0] != "pool"])
def test_an_open_gate_is_no_gate_and_a_shut_gate_removes_the_prompt(mini, batch, name, kind):
    gated = Learner(name, mini, CLASSES, gate=kind)
    params = gated.initial(stream(1, "x"))
    plain = Learner(name, mini, CLASSES, depth=gated.layers)
    inputs = (batch["features"], batch["patches"])
    with torch.no_grad():
        for value in (0.0, 0.37, 1.0):
            held = gated.logits(params, *inputs, gate=torch.full((gated.gate.units,), value))
            scaled = plain.logits(params | {n: value * p for n, p in plain.prompts(params).items()}, *inputs)
            torch.testing.assert_close(held, scaled, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "kind"), [cell for cell in CELLS if cell[1] not in BLIND])
def test_pictures_do_not_influence_each_other(mini, batch, name, kind):
    learner = Learner(name, mini, CLASSES, gate=kind, std=0.5)
    params = learner.initial(stream(1, "x"))
    with torch.no_grad():
        together = learner.logits(params, batch["features"], batch["patches"])
        alone = torch.cat(
            [learner.logits(params, batch["features"][i : i + 1], batch["patches"][i : i + 1]) for i in range(6)]
        )
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind, gate in gates.GATES.items() if gate.selects and not gate.shuffled])
def test_what_a_selector_chooses_does_not_depend_on_the_batch(mini, batch, kind):
    learner = Learner("pool", mini, CLASSES, gate=kind, std=0.5)
    params, constants = learner.initial(stream(1, "x")), learner.words(CLASSES, "a {}")
    order = torch.tensor([4, 2, 5, 0, 3, 1])
    with torch.no_grad():
        together = learner.gate_values(params, batch["features"], constants)
        shuffled = learner.gate_values(params, batch["features"][order], constants)
        alone = [learner.gate_values(params, one[None], constants) for one in batch["features"]]
    torch.testing.assert_close(together[order], shuffled)
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("kind", [kind for kind, gate in gates.GATES.items() if not gate.selects])
def test_what_a_gate_collects_is_the_adjoint_of_what_it_spreads(kind):
    gate = gates.build(kind, layers=3, tokens=4, features=8)
    values, weights = torch.rand(5, gate.units), torch.rand(5, 3, 4)
    spread = gate.spread(values)[..., 0].expand(5, 3, 4)
    torch.testing.assert_close((spread * weights).sum(), (values * gate.collect(weights)).sum())
    # A gate that only says how it spreads gets the rest from the base class.
    torch.testing.assert_close(gates.Gate.collect(gate, weights), gate.collect(weights))


def test_depth_gate_scales_layers_and_length_gate_tokens():
    for kind, expected in (("length", (5, 1, 4, 1)), ("depth", (5, 3, 1, 1)), ("both", (5, 3, 4, 1))):
        gate = gates.build(kind, layers=3, tokens=4, features=8)
        assert gate.spread(torch.rand(5, gate.units)).shape == expected


def test_selectors_mix_the_pool():
    pool = torch.randn(6, 4, 8)
    soft, hard = (gates.build(kind, 1, 4, 8, pool=6) for kind in ("soft", "top_k"))
    z = torch.randn(5, 6)
    weights = soft.activate(z)
    torch.testing.assert_close(weights, z.exp() / z.exp().sum(1, keepdim=True))
    mixed = soft.apply(weights, pool)
    assert mixed.shape == (5, 1, 4, 8)
    torch.testing.assert_close(mixed[2, 0], sum(w * p for w, p in zip(weights[2], pool, strict=True)))
    torch.testing.assert_close(hard.apply(hard.activate(z), pool)[:, 0], pool[z.argmax(1)])
    # Backwards, hard selection is softmax.
    upstream = torch.randn(5, 6)
    for gate in (hard, soft):
        _, pull = torch.func.vjp(gate.activate, z)
        torch.testing.assert_close(pull(upstream)[0], torch.func.vjp(lambda v: v.softmax(-1), z)[1](upstream)[0])


def test_a_pool_with_keys_chooses_by_cosine_and_learns_by_its_own_loss(mini, batch):
    """Written out with loops, after Wang et al. 2022: match, choose two, put their tokens together, pull their keys."""
    learner = Learner("pool", mini, CLASSES, gate="l2p", tokens=4, std=0.5, pool=6)
    params = learner.initial(stream(1, "x"))
    keys, pool = params["gate.keys"], params["prompt.tokens"]
    assert pool.shape[:2] == (6, 2) and keys.abs().max() <= 1 and keys.min() < -0.9 and keys.max() > 0.9
    own = keys.clone().requires_grad_()
    logits, pulled = learner.logits(params, batch["features"], None), 0.0
    for place, feature in enumerate(batch["features"]):
        match = [float(feature @ key) / float(feature.norm() * key.norm()) for key in keys]
        best = max(range(6), key=lambda one: match[one])
        second = max((one for one in range(6) if one != best), key=lambda one: match[one])
        chosen = sorted((best, second))
        context = torch.cat([pool[one] for one in chosen])
        images = tasks.few_shot(tasks.get("counting"), 1, 0).images[place][None]
        torch.testing.assert_close(
            logits[place][None], by_hand(mini, CLASSES, [context], image=images), atol=2e-4, rtol=1e-4
        )
        pulled = pulled + 0.1 / 6 * sum(1 - F.cosine_similarity(feature, own[one], dim=0) for one in chosen)
    given = dict(batch, cue=None)
    slope, loss = torch.func.grad_and_value(
        lambda keys: learner.gate.loss(learner.gate.preactivation({"gate.keys": keys}, batch["features"]), given)
    )(keys)
    torch.testing.assert_close(loss, pulled.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(pulled, own)[0], atol=1e-7, rtol=1e-4)
    # In training the task moves the tokens, the pull the keys; entries that no picture chooses stay.
    data = training.prepare(learner, [training.Replica(tasks.get("counting"), 0, shots=2)], 6)
    start = training.initial(learner, data)
    done = training.train(learner, data, training.Recipe(steps=1, rate=1.0, warmup=0))
    index = torch.randint(data.sizes[0], (4,), generator=stream(0, "batches"))
    query, first = data.features[0, index], start["gate.keys"][0]
    chosen = F.cosine_similarity(query[:, None], first, dim=-1).argsort(1, descending=True)[:, :2]
    still = torch.tensor([one not in chosen for one in range(6)])
    decayed = {name: (done.params[name][0] - (1 - 5e-4) * start[name][0]).abs().flatten(1).amax(1) for name in start}
    for moved in decayed.values():
        assert torch.equal(moved < 1e-6, still) and still.any()


def test_entries_at_random_have_nothing_to_do_with_the_picture_and_change_from_batch_to_batch(mini):
    task = tasks.get("background")
    learner = Learner("pool", mini, task.names, gate="random", tokens=4)
    data = training.prepare(learner, [training.Replica(task, seed, shots=1) for seed in range(6)], 240)
    params = training.initial(learner, data)
    values = training._gates(learner, params, data)
    assert torch.equal(values, training._gates(learner, params, data)), "a seed gives the same numbers"
    assert ((values > 0).sum(-1) == 2).all() and (values.sum(-1) == 1).all()
    torch.testing.assert_close(values.mean((0, 1)), torch.full((8,), 1 / 8), atol=0.02, rtol=0)
    labels = data.test_labels[data.test_place]
    shares = [gate_statistics(v, y, True)["class_share"] for v, y in zip(values, labels, strict=True)]
    assert np.mean(shares) < 0.03
    # One picture, ten times the same in a batch, is given different entries, and so teaches all of the pool.
    alone = training.prepare(learner, [training.Replica(tasks.get("texture"), 0, shots=1)], 2)
    alone.sizes[0] = 1
    done = training.train(learner, alone, training.Recipe(steps=2, batch=40, rate=1.0, warmup=0))
    start = training.initial(learner, alone)
    assert ((done.params["prompt.tokens"] - start["prompt.tokens"]).abs().flatten(2).amax(2) > 1e-3).all()
    assert torch.equal(done.params["gate.b2"], start["gate.b2"])


def test_controls_start_where_they_should(mini, batch):
    labels = batch["labels"]
    tanh = Learner("coop", mini, CLASSES, gate="tanh")
    params = tanh.initial(stream(0, "x"))
    assert not tanh.gate_values(params, batch["features"]).any()
    reversed_gap = chain(tanh, params, batch["features"], None, labels)
    assert float(reversed_gap["gap"]) == -math.inf == float(sum(reversed_gap[f] for f in FACTORS))
    constant = Learner("coop", mini, CLASSES, gate="constant")
    held = constant.gate_values(constant.initial(stream(0, "x")), batch["features"])
    assert held.shape == (6, 4) and (held == held[0]).all()
    shuffled = Learner("coop", mini, CLASSES, gate="shuffled")
    plain = Learner("coop", mini, CLASSES, gate="length")
    params = plain.initial(stream(0, "x"))
    torch.testing.assert_close(
        shuffled.gate_values(params, batch["features"]), plain.gate_values(params, batch["features"].roll(1, 0))
    )
    oracle = gates.build("oracle", 1, 4, 8)
    assert oracle.target(torch.tensor([True, False])).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "clip"}, "learner must be one of zero_shot, coop"),
        ({"gate": "wide"}, "gate must be one of length, depth"),
        ({"gate": "soft"}, "learner must have a partner"),
        ({"name": "pool"}, "learner must have a partner"),
        ({"name": "zero_shot"}, "learner must have a partner"),
        ({"name": "maple", "own": True}, "own and position must be left alone"),
        ({"position": "front"}, "position must be one of end, middle"),
        ({"tokens": 0}, "tokens must be"),
        ({"tokens": 30}, "context of 22"),
        ({"depth": 4}, "from 0 to 3"),
        ({"name": "pool", "gate": "l2p", "tokens": 5}, "tokens must be a multiple of 2 for gate 'l2p'"),
        ({"std": 0.0}, "prompt_std must be"),
    ],
)
def test_learner_errors(mini, change, words):
    arguments = {"name": "coop", "gate": "length"} | change
    with pytest.raises(ParameterError, match=words):
        Learner(arguments.pop("name"), mini, CLASSES, **arguments)


# --------------------------------------------------------------------------------------------- diagnosis
@pytest.mark.parametrize(("name", "kind"), [cell for cell in GATED if cell[1] != "tanh"])
def test_the_factors_multiply_to_the_gap(mini, batch, name, kind):
    learner, params, inputs = double(
        Learner(name, mini, CLASSES, gate=kind), Learner(name, mini, CLASSES, gate=kind).initial(stream(2, "x")), batch
    )
    measured = chain(learner, params, inputs["features"], inputs["patches"], inputs["labels"])
    own = {n: v.clone().requires_grad_() for n, v in params.items()}
    loss = F.cross_entropy(learner.logits(own, inputs["features"], inputs["patches"]), inputs["labels"])
    found = torch.autograd.grad(loss, list(own.values()), materialize_grads=True, allow_unused=True)
    slopes = dict(zip(own, found, strict=True))
    prompt = torch.cat([v.flatten() for n, v in slopes.items() if n.startswith("prompt.")]).norm()
    gate = torch.cat([v.flatten() for n, v in slopes.items() if n.startswith("gate.")]).norm()
    assert (gate == 0) == issubclass(gates.GATES[kind], gates.L2P), "the task has no slope along a choice"
    assert float(measured["gap"]) == pytest.approx(math.log10(prompt / gate), abs=1e-9)
    assert float(sum(measured[f] for f in FACTORS)) == pytest.approx(float(measured["gap"]), abs=1e-9)
    assert float(measured["identity"]) < 1e-9
    sizes = learner.counts()
    rms = math.log10(prompt / math.sqrt(sizes["prompt"]) / (gate / math.sqrt(sizes["gate"])))
    assert float(measured["gap_rms"]) == pytest.approx(rms, abs=1e-9)


def test_a_gate_that_explores_is_measured_with_the_noise_of_its_training(mini):
    """The first step of a training, by plain backpropagation through logits with the noise that it draws."""
    trained = quick(mini, "pool", "gumbel", [3], steps=1)
    learner, data = trained.learner, trained.data
    index = torch.randint(data.sizes[0], (4,), generator=stream(3, "batches"))
    drawn = torch.empty(4, learner.gate.units).exponential_(generator=stream(3, "gate noise"))
    params = learner.initial(stream(3, "initial", "pool"))
    features, labels = data.features[0, index], data.labels[0, index]

    def gap(noise: torch.Tensor | None) -> float:
        own = {n: v.clone().requires_grad_() for n, v in params.items()}
        F.cross_entropy(learner.logits(own, features, None, noise=noise), labels).backward()
        prompt, gate = (
            torch.cat([v.grad.flatten() for n, v in own.items() if n.startswith(group)]).norm()
            for group in ("prompt.", "gate.")
        )
        return math.log10(prompt / gate)

    assert gap(-drawn.log()) != pytest.approx(gap(None), abs=0.01)
    assert trained.trajectory["gap"].tolist() == pytest.approx([gap(-drawn.log())], abs=1e-4)
    again = training.chains(learner, data, training.initial(learner, data), index[None])
    assert again["gap"].tolist() == pytest.approx([gap(-drawn.log())], abs=1e-4)


@pytest.mark.parametrize(("kind", "unit"), [(gap_origin.TurnLength, 3), (gap_origin.TurnDepth, 2)])
def test_a_gate_that_turns_moves_across_its_prompts_and_keeps_the_chain(mini, batch, kind, unit):
    learner, params, inputs = double(
        Learner("coop", mini, CLASSES, gate="depth", tokens=4),
        Learner("coop", mini, CLASSES, gate="depth", tokens=4).initial(stream(2, "x")),
        batch,
    )
    learner.gate = kind("turn", learner.layers, 4, 128)
    params |= {n: v.double() for n, v in learner.gate.initial(stream(4, "x")).items()}
    prompts, values = params["prompt.tokens"], torch.rand(2, learner.gate.units).double()
    turned = learner.gate.apply(values, prompts)
    for layer, token in ((0, 0), (2, 3)):
        g = float(values[1, token if unit == 3 else layer])
        own = prompts[layer, token].tolist()
        plain = [(1 - g) * x + g * before for x, before in zip(own, [own[-1], *own[:-1]], strict=True)]
        assert turned[1, layer, token].tolist() == pytest.approx(plain)
    measured = chain(learner, params, inputs["features"], None, inputs["labels"])
    own = {n: v.clone().requires_grad_() for n, v in params.items()}
    F.cross_entropy(learner.logits(own, inputs["features"], None), inputs["labels"]).backward()
    gate = torch.cat([v.grad.flatten() for n, v in own.items() if n.startswith("gate.")]).norm()
    assert float(measured["gap"]) == pytest.approx(math.log10(own["prompt.tokens"].grad.norm() / gate), abs=1e-9)
    assert float(sum(measured[f] for f in FACTORS)) == pytest.approx(float(measured["gap"]), abs=1e-9)
    assert float(measured["identity"]) < 1e-9


def test_gate_gradient_agrees_with_finite_differences(mini, batch):
    learner, params, inputs = double(
        Learner("coop", mini, CLASSES, gate="length"),
        Learner("coop", mini, CLASSES, gate="length").initial(stream(2, "x")),
        batch,
    )

    def loss(tree):
        return F.cross_entropy(learner.logits(tree, inputs["features"], None), inputs["labels"])

    gradient = torch.func.grad(loss)(params)
    for name in ("gate.w2", "gate.b1", "prompt.tokens"):
        direction = torch.randn(params[name].shape, generator=stream(0, name), dtype=torch.float64)
        ahead, behind = (loss(params | {name: params[name] + sign * 1e-5 * direction}) for sign in (1, -1))
        assert float((ahead - behind) / 2e-5) == pytest.approx(
            float((gradient[name] * direction).sum()), rel=1e-5, abs=1e-10
        )


def test_changing_one_factor_moves_the_gap_by_what_the_chain_says(mini, batch):
    """Prompts k times as long (at the same upstream gradient): the prompt-norm factor falls by log10 k."""
    learner = Learner("coop", mini, CLASSES, gate="length")
    params = learner.initial(stream(3, "x"))
    inputs = (batch["features"], None, batch["labels"])
    before = chain(learner, params, *inputs)
    tiny = chain(learner, params | {"prompt.tokens": params["prompt.tokens"] * 1e-2}, *inputs)
    smaller = chain(learner, params | {"prompt.tokens": params["prompt.tokens"] * 1e-3}, *inputs)
    assert float(smaller["prompt_norm"] - tiny["prompt_norm"]) == pytest.approx(1, abs=0.01)
    assert float(smaller["gap"] - tiny["gap"]) == pytest.approx(1, abs=0.02)
    # A bias b on the pre-activation multiplies the slope; opening and slope together give 1 / (1 - g).
    wide = learner.constants | {"bias": torch.tensor(4.0), "temperature": torch.tensor(1.0)}
    opened = chain(learner, params, *inputs, wide)
    rise = opened["opening"] + opened["slope"] - before["opening"] - before["slope"]
    shut = [1 - learner.gate_values(params, batch["features"], own).mean() for own in (learner.constants, wide)]
    assert float(rise) == pytest.approx(float(torch.log10(shut[0] / shut[1])), abs=0.03)


def test_gate_statistics_in_closed_form():
    labels = torch.tensor([0, 0, 1, 1] * 50)
    constant = gate_statistics(torch.full((200, 3), 0.3), labels)
    assert constant["information"] == pytest.approx(0, abs=1e-12) and constant["spread"] == pytest.approx(0, abs=1e-7)
    assert constant["class_share"] == 0
    switch = gate_statistics(labels.double()[:, None], labels)
    assert switch["information"] == pytest.approx(1) and switch["class_share"] == pytest.approx(1)
    assert switch["saturation"] == 1 and switch["mean"] == pytest.approx(0.5)
    across = torch.tensor([0.25, 0.75] * 100)[:, None]
    free = gate_statistics(across, labels)
    assert free["information"] == pytest.approx(0.0625 / 0.25) and free["class_share"] == 0


def test_selector_statistics_in_closed_form():
    labels = torch.arange(8) % 4
    uniform = gate_statistics(torch.full((8, 4), 0.25), labels, selects=True)
    assert uniform["information"] == pytest.approx(0, abs=1e-12) and uniform["used"] == pytest.approx(4)
    switch = gate_statistics(F.one_hot(labels, 4).float(), labels, selects=True)
    assert switch["information"] == pytest.approx(1) and switch["used"] == pytest.approx(4)
    stuck = gate_statistics(F.one_hot(torch.zeros(8, dtype=torch.long), 4).float(), labels, selects=True)
    assert stuck["information"] == pytest.approx(0, abs=1e-12) and stuck["used"] == pytest.approx(1)
    # A pool of which two entries live is named by their number, even where the picture decides between them.
    living = gate_statistics(F.one_hot(labels % 2, 10).float(), labels, selects=True)
    assert living["used"] == pytest.approx(2) and living["information"] == pytest.approx(math.log(2) / math.log(10))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 3))
def test_gate_statistics_stay_in_their_range(seed, scale):
    generator = stream(seed, "property")
    values = torch.sigmoid(scale * torch.randn(40, 2, generator=generator))
    found = gate_statistics(values, torch.randint(4, (40,), generator=generator))
    assert 0 <= found["information"] <= 1 and 0 <= found["class_share"] <= 1 and 0 <= found["saturation"] <= 1


def test_class_share_of_a_gate_blind_to_the_class_is_near_zero_on_average():
    shares = [
        gate_statistics(torch.rand(60, 1, generator=stream(k, "blind")), torch.arange(60) % 12)["class_share"]
        for k in range(60)
    ]
    assert np.mean(shares) < 0.08, "plain eta squared would give 11 / 59 = 0.19"


# ---------------------------------------------------------------------------------------------- training
def quick(mini, name: str, kind: str, seeds, steps: int = 4) -> training.Trained:
    task = tasks.get("texture")
    learner = Learner(name, mini, task.names, template=task.template, gate=kind)
    data = training.prepare(learner, [training.Replica(task, seed, shots=2) for seed in seeds], 12)
    return training.train(learner, data, training.Recipe(steps=steps, rate=0.1))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("coop", "length"), ("maple", "depth"), ("bimaple", "both")),
        *(("cocoop", "tanh"), ("vpt", "depth"), ("pool", "gumbel"), ("pool", "random")),
    ],
)
def test_a_seed_gives_the_same_numbers_alone_and_in_a_batch(mini, name, kind):
    together, alone = quick(mini, name, kind, (0, 1, 2)), quick(mini, name, kind, (1,))
    for key, value in alone.params.items():
        torch.testing.assert_close(together.params[key][1], value[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.losses[:, 1], alone.losses[:, 0], atol=1e-5, rtol=1e-4)
    first = together.trajectory[together.trajectory["seed"] == 1].reset_index(drop=True)
    np.testing.assert_allclose(first[list(FACTORS)], alone.trajectory[list(FACTORS)], atol=2e-3)


MIXED = [
    ("texture", {}),
    ("shape", {"gate_rate": 30.0, "prompt_std": 0.2}),
    ("shift", {"view": "whitened", "gain": 2.0, "temperature": 0.5, "bias": 1.0}),
    ("counting", {"view": "centred", "balance": True}),
    ("texture", {"diversity": 0.5, "delay": 0.5}),
]


@pytest.mark.parametrize(
    ("name", "kind"), [("coop", "length"), ("maple", "depth"), ("vpt", "both"), ("pool", "soft"), ("pool", "l2p")]
)
def test_tasks_and_settings_share_a_batch_without_touching_each_other(narrow, name, kind):
    runs = [
        training.Replica(tasks.get(task), seed, training.Setting(**setting), shots=2 + seed)
        for seed, (task, setting) in enumerate(MIXED)
    ]
    recipe = training.Recipe(steps=4, rate=0.1, looks=(0, 4))

    def trained(some):
        learner = Learner(name, narrow, some[0].task.names, template=some[0].task.template, gate=kind)
        return training.train(learner, training.prepare(learner, some, 12), recipe)

    together = trained(runs)
    accuracy = training.evaluate(together)
    for place, run in enumerate(runs):
        alone = trained([run])
        torch.testing.assert_close(together.losses[:, place], alone.losses[:, 0], atol=1e-4, rtol=1e-4)
        for key, value in alone.params.items():
            torch.testing.assert_close(together.params[key][place], value[0], atol=1e-4, rtol=1e-3)
        for table, single in ((together.trajectory, alone.trajectory), (together.looks, alone.looks)):
            mine = table[table["replica"] == place].reset_index(drop=True)
            columns = [c for c in ("gap", "information", "spread", "loss_mean") if c in single]
            np.testing.assert_allclose(mine[columns], single[columns], atol=2e-3)
        mine = accuracy[accuracy["replica"] == place]
        np.testing.assert_allclose(mine["test_loss"], training.evaluate(alone)["test_loss"], atol=1e-4)


def test_names_that_share_a_sequence_are_kept_apart(mini, monkeypatch):
    """Any grouping of class names gives the logits of one name per sequence, with room to spare or without."""
    task = tasks.get("shift")
    found = []
    for size in (1, 8, 1000):
        monkeypatch.setattr(learners, "SEQUENCE", size)
        learner = Learner("maple", mini, task.names, gate="length")
        params = learner.initial(stream(0, "x"))
        images = tasks.few_shot(task, 1, 0).images
        features, patches = mini.image_features(images), mini.patches(images)
        for room in ((0, 0), (11, 6)):
            constants = learner.words(task.names, task.template, room)
            with torch.no_grad():
                logits = learner.logits(params, features, patches, constants=constants)
            assert (logits[:, len(task.names) :] == -torch.inf).all()
            found.append(logits[:, : len(task.names)])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-4, rtol=1e-4)


def test_settings_do_what_they_say():
    task = tasks.get("texture")
    learner = Learner("coop", load(), task.names, gate="length")

    def trained(steps, **setting):
        data = training.prepare(learner, [training.Replica(task, 0, training.Setting(**setting))], 12)
        start = training.initial(learner, data)
        return data, start, training.train(learner, data, training.Recipe(steps=steps, warmup=0.0, cosine=False))

    data, start, done = trained(3, delay=1.0)
    assert all(torch.equal(done.params[n], start[n]) for n in start if n.startswith("gate."))
    assert not torch.equal(done.params["prompt.tokens"], start["prompt.tokens"])
    data, start, done = trained(1, balance=True)
    moved = {n: (done.params[n] - start[n]).square().sum() for n in start}
    gate = sum(value for name, value in moved.items() if name.startswith("gate."))
    # Weight decay moves both a little.
    assert float((gate / moved["prompt.tokens"]).sqrt()) == pytest.approx(1, rel=0.1)
    data, *_ = trained(1, view="whitened")
    seen = learner.shown(data.features[0], replicas.unstack(data.constants, 0))
    assert float(seen.mean(0).abs().max()) < 1e-4
    variances = torch.linalg.eigvalsh(torch.cov(seen.T)).flip(0)
    assert 0.9 < float(variances[0]) <= 1.1, "directions that vary most end at one"
    data, *_ = trained(1, view="centred", gain=3.0)
    seen = learner.shown(data.features[0], replicas.unstack(data.constants, 0))
    torch.testing.assert_close(seen, 3 * (data.features[0] - data.features[0].mean(0)))
    # The reward for variety is what the loss loses.
    first = {}
    for weight in (0.0, 5e4):
        data, start, done = trained(1, diversity=weight, gain=5.0)
        first[weight] = float(done.losses[0, 0])
    order = torch.randint(data.sizes[0], (4,), generator=stream(0, "batches"))
    own = replicas.unstack(data.constants, 0)
    values = learner.gate_values(replicas.unstack(start, 0), data.features[0, order], own)
    rewarded = 5e4 * 4 * float(values.var(0, unbiased=False).mean())
    assert first[0.0] - first[5e4] == pytest.approx(rewarded, rel=1e-3) and rewarded > 1


def test_a_closer_look_measures_what_holding_the_gate_costs():
    task = tasks.get("texture")
    learner = Learner("coop", load(), task.names, gate="length")
    data = training.prepare(learner, [training.Replica(task, seed) for seed in (0, 1)], 12)
    params = training.initial(learner, data)
    params["prompt.tokens"] = params["prompt.tokens"] * 30
    params["gate.w1"] = params["gate.w1"] * 100
    looked = training._look(learner, data, params, 1)
    assert (looked["loss_mean"].abs() > 1e-4).all() and (looked["loss_shuffled"].abs() > 1e-4).all()
    params["gate.w1"] = params["gate.w1"] * 0
    still = training._look(learner, data, params, 1)
    assert "accuracy_gated" not in training._look(learner, data, params, 0)
    np.testing.assert_allclose(still[["loss_mean", "loss_shuffled", "spread"]], 0, atol=1e-5)
    assert list(still["accuracy_gated"]) == list(still["accuracy_mean"]) == list(still["accuracy_shuffled"])


def test_signal_to_noise_equals_the_statistics_of_single_pictures(mini, batch):
    learner, params, inputs = double(
        Learner("coop", mini, CLASSES, gate="length"),
        Learner("coop", mini, CLASSES, gate="length").initial(stream(2, "x")),
        batch,
    )

    def alone(i: int) -> torch.Tensor:
        def loss(tree):
            logits = learner.logits(tree, inputs["features"][i : i + 1], None)
            return F.cross_entropy(logits, inputs["labels"][i : i + 1])

        gradient = torch.func.grad(loss)(params)
        return torch.cat([value.flatten() for name, value in gradient.items() if name.startswith("gate.")])

    found = chain(learner, params, inputs["features"], None, inputs["labels"])["snr"]
    expected = gradients.statistics(torch.stack([alone(i) for i in range(6)]))
    assert float(found) == pytest.approx(expected.norm_sq / expected.trace_cov, rel=1e-6)


def test_training_equals_a_plain_loop_with_torch_optim(mini):
    trained = quick(mini, "coop", "length", (3,), steps=5)
    learner, data = trained.learner, trained.data
    recipe = training.Recipe(steps=5, rate=0.1)
    params = {n: v.clone().requires_grad_() for n, v in learner.initial(stream(3, "initial", "coop")).items()}
    optimiser = torch.optim.SGD(params.values(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    order = stream(3, "batches")
    for step in range(5):
        index = torch.randint(data.sizes[0], (recipe.batch,), generator=order)
        loss = F.cross_entropy(learner.logits(params, data.features[0][index], None), data.labels[0][index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = recipe.build().rate_at(step)
        optimiser.step()
        assert loss.item() == pytest.approx(float(trained.losses[step, 0]), rel=1e-4)
    for name, value in params.items():
        torch.testing.assert_close(trained.params[name][0], value.detach(), atol=1e-5, rtol=1e-4)


def test_no_picture_is_dropped_where_the_batch_does_not_divide_their_number(mini, monkeypatch):
    """Batches are whole, and over a long training every picture is in one, the last ones too."""
    task, seen = tasks.get("texture"), []
    learner = Learner("coop", mini, task.names, template=task.template)
    data = training.prepare(learner, [training.Replica(task, 0, shots=2)], 12)
    inputs = training.Data.inputs
    monkeypatch.setattr(training.Data, "inputs", lambda self, index: seen.append(index) or inputs(self, index))
    training.train(learner, data, training.Recipe(steps=40, batch=5))
    assert data.sizes[0] % 5 and all(index.shape == (1, 5) for index in seen)
    assert set(torch.cat(seen).flatten().tolist()) == set(range(data.sizes[0]))


@pytest.mark.parametrize("prompts", ["sgd", "adam"])
@pytest.mark.parametrize("gate", ["sgd", "adam"])
def test_a_gate_may_have_an_optimiser_of_its_own(mini, prompts, gate):
    task = tasks.get("background")
    learner = Learner("coop", mini, task.names, gate="length", tokens=2)
    data = training.prepare(learner, [training.Replica(task, 3, shots=1)], 2)
    recipe = training.Recipe(steps=4, rate=0.01, optimiser=prompts, gate_optimiser=gate, warmup=0, cosine=False)
    found = training.train(learner, data, recipe).params
    params = {name: value[0].clone().requires_grad_() for name, value in training.initial(learner, data).items()}
    kinds = {"sgd": lambda own: torch.optim.SGD(own, lr=0.01, momentum=0.9, weight_decay=5e-4),
             "adam": lambda own: torch.optim.Adam(own, lr=0.01, weight_decay=5e-4)}  # fmt: skip
    own = [value for name, value in params.items() if name.startswith("gate.")]
    peers = [kinds[gate](own), kinds[prompts]([params["prompt.tokens"]])]
    order = stream(3, "batches")
    for _ in range(4):
        index = torch.randint(data.sizes[0], (recipe.batch,), generator=order)
        logits = learner.logits(params, data.features[0, index], None)
        for peer in peers:
            peer.zero_grad()
        F.cross_entropy(logits, data.labels[0, index]).backward()
        for peer in peers:
            peer.step()
    for name, value in params.items():
        torch.testing.assert_close(found[name][0], value.detach(), rtol=2e-4, atol=2e-6)


def test_contexts_start_from_words_where_the_original_does(mini):
    words = mini.embed(mini.tokens(["a photo of a"])[0])[0, 1:5]
    for name in TRAINED:
        learner = Learner(name, mini, CLASSES, tokens=5)
        if not learner.design.text:
            continue
        for start in learners.STARTS:
            tokens = learner.initial(stream(0, "t"), start=start)["prompt.tokens"]
            worded = start == "words" or (not start and name in ("cocoop", "ivlp", "maple", "bimaple"))
            assert torch.equal(tokens[0, :4], words) == worded, (name, start)
            assert 0.01 < float(tokens[0, 4].std()) < 0.04, "what has no word is noise"
            assert learner.design.pool or not any(torch.equal(layer[:4], words) for layer in tokens[1:])
    with pytest.raises(ParameterError, match="^start must be one of"):
        training.Setting(start="zeros")


def test_what_settles_is_told_and_recipes_are_chosen_by_other_pictures(mini):
    task = tasks.get("background")
    learner = Learner("coop", mini, task.names, gate="length", tokens=2)
    data = training.prepare(learner, [training.Replica(task, seed, shots=1) for seed in (0, 1)], 12)
    done = training.train(learner, data, training.Recipe(steps=40, rate=0.1, warmup=0, cosine=False))
    ends = done.settled()
    assert ends["loss_end"] == pytest.approx(done.losses[36:].mean(0).tolist())
    assert ends["loss_before"] == pytest.approx(done.losses[32:36].mean(0).tolist())
    pictures, labels = task.validation(training.VALIDATION, 1, 1)
    logits = learner.logits(replicas.unstack(done.params, 1), mini.image_features(pictures), None)
    right = 100 * float((logits.argmax(1) == labels).double().mean())
    assert done.validated()[1] == pytest.approx(right, abs=0.9), "one picture may lie on the line"
    alone = training.prepare(learner, [training.Replica(task, 1, shots=1)], 12)
    again = training.train(learner, alone, training.Recipe(steps=40, rate=0.1, warmup=0, cosine=False))
    assert again.validated()[0] == pytest.approx(done.validated()[1], abs=0.9)


@pytest.mark.parametrize("kind", ["length", "soft", "top_k", "gumbel", "l2p"])
def test_a_gate_is_held_at_a_value_that_it_could_emit(kind):
    gate = gates.build(kind, 1, 4, 8, pool=4)
    z = torch.randn(1, 30, gate.units, generator=stream(0, "z"))
    own = gate.activate(z)
    there = torch.arange(30)[None] < 25
    still = training.held(gate, own, there, [0])
    if gate.hard:
        chosen = z[0, :25].argsort(1, descending=True)[:, : gate.count]
        often = torch.bincount(chosen.flatten(), minlength=4).argsort(descending=True)[: gate.count]
        expected = F.one_hot(often, 4).float().mean(0)
    else:
        expected = own[0, :25].mean(0)
    torch.testing.assert_close(still["mean"][0], expected)
    places = [(own[0] - row).abs().sum(1).argmin().item() for row in still["shuffled"][0, :25]]
    assert gate.hard or (sorted(places) == list(range(25)) and all(a != b for a, b in enumerate(places)))
    assert torch.equal(still["shuffled"][0, 25:], own[0, 25:])


@pytest.mark.parametrize("kind", gates.BLIND)
def test_a_blind_twin_differs_in_nothing_but_the_picture_that_it_sees(mini, kind):
    name = "pool" if gates.GATES[kind].selects else "coop"
    own, twin = (Learner(name, mini, CLASSES, gate=gate) for gate in (kind, gates.BLIND[kind]))
    assert own.table().equals(twin.table()) and own.layers == twin.layers
    params = own.initial(stream(0, "t"))
    features = F.normalize(torch.randn(5, mini.embed_dim, generator=stream(0, "f")), dim=-1)
    seen = own.gate_values(params, features)
    torch.testing.assert_close(twin.gate_values(params, features), seen.roll(1, 0))


def test_nothing_of_the_class_is_left_in_a_shuffled_gate(mini):
    """Test pictures are dealt class by class: the gate of a neighbour there, or of a cyclic shift, tells the class."""
    task = tasks.get("background")
    learner = Learner("coop", mini, task.names, gate="shuffled", tokens=2)
    data = training.prepare(learner, [training.Replica(task, seed, shots=1) for seed in range(6)], 240)
    params = training.initial(learner, data)
    blind = training._gates(learner, params, data)
    seeing = Learner("coop", mini, task.names, gate="length", tokens=2)
    own = training._gates(seeing, params, data)
    there = torch.ones(own.shape[:2], dtype=torch.bool)
    shuffled = training.held(seeing.gate, own, there, range(6))["shuffled"]
    labels = data.test_labels[data.test_place]

    def share(values: torch.Tensor) -> float:
        return float(np.mean([gate_statistics(v, y)["class_share"] for v, y in zip(values, labels, strict=True)]))

    assert share(own) > 0.1, "these gates do follow the class"
    assert share(blind) < 0.03 and share(shuffled) < 0.03


def test_gate_rate_multiplies_the_gate_alone(mini):
    task = tasks.get("texture")
    learner = Learner("coop", mini, task.names, gate="length")
    runs = [training.Replica(task, 0, training.Setting(gate_rate=rate), 1) for rate in (1.0, 10.0)]
    data = training.prepare(learner, runs, 6)
    start = training.initial(learner, data)
    done = training.train(learner, data, training.Recipe(steps=1, warmup=0.0))
    moved = {
        rate: {name: done.params[name][i] - start[name][i] for name in start} for i, rate in enumerate((1.0, 10.0))
    }
    torch.testing.assert_close(moved[10.0]["prompt.tokens"], moved[1.0]["prompt.tokens"])
    torch.testing.assert_close(moved[10.0]["gate.b2"], 10 * moved[1.0]["gate.b2"], rtol=1e-3, atol=1e-9)


def test_evaluation_variants(mini):
    trained = quick(mini, "coop", "length", (0, 1))
    scores = training.evaluate(trained)
    assert set(scores["variant"]) == set(training.VARIANTS) and len(scores) == 6
    # With a constant gate all variants are the same classifier.
    still = {name: torch.zeros_like(trained.params[name]) for name in ("gate.w1", "gate.w2")}
    constant = dataclasses.replace(trained, params=trained.params | still)
    same = training.evaluate(constant).groupby("seed")["test_loss"]
    assert (same.max() - same.min()).max() < 1e-5
    assert set(training.evaluate(quick(mini, "coop", "none", (0,)))["variant"]) == {"fixed"}


def test_recipe_errors():
    for change, words in (
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"optimiser": "lion"}, "optimiser"),
        ({"rate": -1.0}, "rate"),
        ({"warmup": 2.0}, "warmup"),
        ({"looks": (5000,)}, "looks"),
    ):
        with pytest.raises(ParameterError, match=f"^{words} must be"):
            training.Recipe(**change)
    for change in (
        *({"gate_rate": 0.0}, {"prompt_std": 0.0}, {"view": "wide"}, {"gain": -1.0}, {"bias": 30.0}),
        *({"temperature": 0.0}, {"balance": "yes"}, {"diversity": -1.0}, {"delay": 2.0}),
    ):
        with pytest.raises(ParameterError, match=f"^{next(iter(change))} must be"):
            training.Setting(**change)


def test_recorded_steps_include_first_and_last():
    for steps in (1, 2, 7, 100):
        recorded = training.Recipe(steps=steps).recorded()
        assert recorded[0] == 0 and recorded[-1] == steps - 1 and recorded == sorted(set(recorded))


def test_nothing_to_train_is_still_evaluated(mini):
    scores = training.evaluate(quick(mini, "zero_shot", "none", (0, 1)))
    assert scores["variant"].tolist() == ["fixed", "fixed"] and scores["accuracy"].nunique() == 1


def test_an_oracle_learns_the_cue_and_needs_one(mini):
    trained_clip = load()
    task, seeds = tasks.get("conflict"), (0, 1)
    learner = Learner("coop", trained_clip, task.names, gate="oracle")
    data = training.prepare(learner, [training.Replica(task, seed, shots=8) for seed in seeds], 12)
    recipe = training.Recipe(steps=80, rate=0.02, optimiser="adam", warmup=0)
    trained = training.train(learner, data, recipe)
    for replica in range(2):
        told = learner.gate.target(data.cue[replica])
        shown = learner.gate_values(replicas.unstack(trained.params, replica), data.features[replica])
        assert ((shown > 0.5) == (told > 0.5)).float().mean() > 0.9
    with pytest.raises(ParameterError, match="gate must be one that finds out by itself"):
        quick(mini, "coop", "oracle", (0,))


# ------------------------------------------------------------------------------------ what cannot be judged
class _Twice(gates.Length):
    def activate(self, z):
        return 2 * torch.sigmoid(z)


class _NoSpread(gates.Gate):
    units = 2


class _NoUnits(gates.Gate):
    def spread(self, values):
        return values[..., None, None]


class _Nan(gates.Length):
    def activate(self, z):
        return z.exp().exp() / z.exp().exp()


class _Many(gates.Length):
    def loss(self, z, batch):
        return z.square().mean(1)


class _Narrow(gates.Length):
    def activate(self, z):
        return z.sigmoid()[..., :1]


class _Unequal(gates.Soft):
    def activate(self, z):
        return z.sigmoid()


class _Twisted(gates.Length):
    def spread(self, values):
        return values[..., None]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (_Twice, "values from 0 .shut. to 1"),
        (_NoSpread, "units, spread and a loss"),
        (_NoUnits, "units, spread and a loss"),
        (_Nan, "one finite value"),
        (_Narrow, "one finite value"),
        (_Many, "a loss that is one number"),
        (_Unequal, "weights that add up to 1"),
        (_Twisted, "a spread that can be laid"),
        (lambda *a, **k: 5, "units, spread"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused_before_training(mini, monkeypatch, kind, words):
    monkeypatch.setitem(gates.GATES, "odd", kind)
    name = "pool" if getattr(kind, "selects", False) else "coop"
    kind.selects, kind.deep = (getattr(kind, one, False) for one in ("selects", "deep"))
    with pytest.raises(ParameterError, match=f"^gate must have {words}"):
        Learner(name, mini, CLASSES, gate="odd", tokens=3)


def test_gate_values_beyond_the_scale_have_no_information():
    with pytest.raises(ParameterError, match=r"^gate values must lie on a scale from 0 .* but 0\.5 to 1\.5"):
        gate_statistics(torch.tensor([[0.5], [1.5]]), torch.arange(2))
    assert math.isnan(gate_statistics(torch.tensor([[0.5], [math.nan]]), torch.arange(2))["information"])


def test_what_is_registered_takes_no_name_of_the_house():
    for name in ("length", "none", "a b", "", 3):
        with pytest.raises(ParameterError, match="^gate must be added under a plain word that is not taken"):
            gates.GATES.register(name, gates.Length)
    own = type(gates.GATES)("gate", {})
    own.register("mine", 1)
    own.register("mine", 2)
    assert own["mine"] == 2


@pytest.mark.parametrize(("batch", "shots", "test_size"), [(1, 2, 12), (4, 2, 1)])
def test_a_control_with_one_picture_is_refused(mini, batch, shots, test_size):
    learner = Learner("coop", mini, tasks.get("texture").names, gate="shuffled")
    with pytest.raises(ParameterError, match=r"must be at least 2 for"):
        data = training.prepare(learner, [training.Replica(tasks.get("texture"), 0, shots=shots)], test_size)
        training.train(learner, data, training.Recipe(steps=1, batch=batch))


def test_a_blind_gate_sees_a_picture_of_its_own_test_set(mini):
    learner = Learner("coop", mini, CLASSES, gate="shuffled")
    few, many = torch.randn(3, mini.embed_dim), torch.randn(5, mini.embed_dim)
    padded = training._padded([few, many])[0]
    torch.testing.assert_close(learner.shown(padded)[:3], learner.shown(few))


@pytest.mark.parametrize("name", ["zero_shot", "coop", "vpt"])
def test_a_name_longer_than_the_context_is_refused_with_the_name(big, name):
    long = " ".join(["very"] * 90) + " cat"
    with pytest.raises(ParameterError, match="caption must take fewer than 77 tokens, but '.*very"):
        Learner(name, big, ("dog", long))


def test_names_that_leave_no_room_and_templates_without_a_place_are_refused(mini, big):
    with pytest.raises(ParameterError, match="fit together into a context of 77, but 4 tokens with 'very"):
        Learner("coop", big, ("dog", " ".join(["very"] * 72)))
    with pytest.raises(ParameterError, match="^template must have a place"):
        Learner("zero_shot", mini, CLASSES, template="a photo")
    with pytest.raises(ParameterError, match="^classes must be a list of names"):
        Learner("zero_shot", mini, [])
