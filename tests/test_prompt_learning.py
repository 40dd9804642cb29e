"""Learners, gates and their diagnosis, each against a second way of computing the same thing."""

from __future__ import annotations

import math

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import replicas
from lib.checks import ParameterError
from lib.prompts import learners, tasks, training
from lib.prompts.backbone import Backbone, load
from lib.prompts.diagnosis import FACTORS, chain, gate_statistics
from lib.prompts.gates import Gate
from lib.prompts.learners import Learner
from lib.runtime import stream

CLASSES = ("red thing", "blue thing on the left", "two things")
CELLS = [(name, gate) for name in learners.LEARNERS for gate in ("none", "length", "depth")]


@pytest.fixture(scope="module")
def mini() -> Backbone:
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
def coop_by_hand(backbone: Backbone, context: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """CoOp as its authors wrote it: open_clip's own text tower, with the context in place of dummy tokens."""
    model, tokenizer = backbone.model, backbone.tokenizer
    ids = tokenizer(["a " * context.shape[0] + name for name in CLASSES])
    x = model.token_embedding(ids).clone()
    x[:, 1 : 1 + context.shape[0]] = context
    x = model.ln_final(model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask))
    text = F.normalize(x[torch.arange(len(ids)), ids.argmax(1)] @ model.text_projection, dim=-1)
    return model.logit_scale.exp() * features @ text.T


def test_coop_equals_the_reference_construction(mini, batch):
    learner = Learner("coop", mini, CLASSES, tokens=3, std=0.3)
    params = learner.initial(stream(0, "x"))
    with torch.no_grad():
        expected = coop_by_hand(mini, params["prompt.tokens"][0], batch["features"])
        torch.testing.assert_close(
            learner.logits(params, batch["features"], None), expected, atol=1e-4, rtol=1e-4
        )


def maple_by_hand(backbone: Backbone, params: dict, tokens: int, image: torch.Tensor, names) -> torch.Tensor:
    """MaPLe for one picture with open_clip's own blocks: replace prompts before each block in both towers."""
    model, prompts = backbone.model, params["prompt.tokens"]
    ids = backbone.tokenizer(["a " * tokens + name for name in names])
    x = model.token_embedding(ids).clone()
    x[:, 1 : 1 + tokens] = prompts[0]
    x = x + model.positional_embedding
    for layer, block in enumerate(model.transformer.resblocks):
        if layer:
            x = torch.cat([x[:, :1], prompts[layer].expand(len(names), -1, -1), x[:, 1 + tokens :]], 1)
        x = block(x, attn_mask=model.attn_mask)
    text = model.ln_final(x)[torch.arange(len(ids)), ids.argmax(1)] @ model.text_projection
    visual = model.visual
    coupled = [
        F.linear(p, w, b)
        for p, w, b in zip(prompts, params["coupling.weight"], params["coupling.bias"], strict=True)
    ]
    y = visual.conv1((image - 0.5) / 0.25).flatten(2).transpose(1, 2)
    y = torch.cat([visual.class_embedding[None, None], y], 1) + visual.positional_embedding
    y = visual.ln_pre(torch.cat([y, coupled[0][None]], 1))
    for layer, block in enumerate(visual.transformer.resblocks):
        if layer:
            y = torch.cat([y[:, :-tokens], coupled[layer][None]], 1)
        y = block(y)
    feature = F.normalize(visual.ln_post(y[:, 0]) @ visual.proj, dim=-1)
    return model.logit_scale.exp() * feature @ F.normalize(text, dim=-1).T


def test_maple_equals_the_reference_construction(mini):
    learner = Learner("maple", mini, CLASSES, tokens=2, std=0.3)
    params = learner.initial(stream(0, "x"))
    images = tasks.few_shot(tasks.get("counting"), 1, 0).images[:2]
    with torch.no_grad():
        patches = mini.patches(images)
        logits = learner.logits(params, mini.vision_tower(patches), patches)
        for image, row in zip(images, logits, strict=True):
            torch.testing.assert_close(
                row[None], maple_by_hand(mini, params, 2, image[None], CLASSES), atol=1e-4, rtol=1e-4
            )


def test_parameter_counts_of_the_published_recipes():
    """CoOp with 4 tokens has 2,048, MaPLe with 9 layers of 2 tokens 3,555,072 trainable parameters at ViT-B/16."""
    big = load("ViT-B-16-quickgelu", "random")
    assert Learner("coop", big, ("cat", "dog")).counts() == {"prompt": 2048}
    maple = Learner("maple", big, ("cat", "dog"), tokens=2, depth=9).counts()
    assert sum(maple.values()) == 3_555_072 and maple["prompt"] == 9 * 2 * 512
    assert isinstance(big.model, open_clip.CLIP)


@pytest.mark.parametrize("name", learners.LEARNERS)
@pytest.mark.parametrize("kind", ["length", "depth"])
def test_an_open_gate_is_no_gate_and_a_shut_gate_removes_the_prompt(mini, batch, name, kind):
    gated = Learner(name, mini, CLASSES, gate=kind)
    params = gated.initial(stream(1, "x"))
    plain = Learner(name, mini, CLASSES, depth=gated.layers)
    inputs = (batch["features"], batch["patches"])
    with torch.no_grad():
        for value in (0.0, 0.37, 1.0):
            held = gated.logits(params, *inputs, gate=torch.full((gated.gate.units,), value))
            scaled = plain.logits(params | {"prompt.tokens": value * params["prompt.tokens"]}, *inputs)
            torch.testing.assert_close(held, scaled, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_pictures_do_not_influence_each_other(mini, batch, name, kind):
    learner = Learner(name, mini, CLASSES, gate=kind, std=0.5)
    params = learner.initial(stream(1, "x"))
    with torch.no_grad():
        together = learner.logits(params, batch["features"], batch["patches"])
        alone = torch.cat(
            [
                learner.logits(params, batch["features"][i : i + 1], batch["patches"][i : i + 1])
                for i in range(6)
            ]
        )
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_depth_gate_scales_layers_and_length_gate_tokens():
    for kind, expected in (("length", (5, 1, 4, 1)), ("depth", (5, 3, 1, 1))):
        gate = Gate(kind, layers=3, tokens=4, features=8)
        values = torch.rand(5, gate.units)
        assert gate.spread(values).shape == expected
        # collect is the adjoint of spread: <spread(v), w> = <v, collect(w)>.
        weights = torch.rand(5, 3, 4)
        spread = gate.spread(values)[..., 0].expand(5, 3, 4)
        torch.testing.assert_close((spread * weights).sum(), (values * gate.collect(weights)).sum())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "clip"}, "learner must be one of coop, maple"),
        ({"gate": "wide"}, "gate must be one of length, depth"),
        ({"tokens": 0}, "tokens must be"),
        ({"tokens": 30}, "context of 22"),
        ({"depth": 4}, "from 0 to 3"),
        ({"std": 0.0}, "prompt_std must be"),
    ],
)
def test_learner_errors(mini, change, words):
    arguments = {"name": "coop", "gate": "length"} | change
    with pytest.raises(ParameterError, match=words):
        Learner(arguments.pop("name"), mini, CLASSES, **arguments)


# --------------------------------------------------------------------------------------------- diagnosis
@pytest.mark.parametrize(("name", "kind"), [cell for cell in CELLS if cell[1] != "none"])
def test_the_factors_multiply_to_the_gap(mini, batch, name, kind):
    learner, params, inputs = double(
        Learner(name, mini, CLASSES, gate=kind),
        Learner(name, mini, CLASSES, gate=kind).initial(stream(2, "x")),
        batch,
    )
    measured = chain(learner, params, inputs["features"], inputs["patches"], inputs["labels"])
    own = {n: v.clone().requires_grad_() for n, v in params.items()}
    F.cross_entropy(learner.logits(own, inputs["features"], inputs["patches"]), inputs["labels"]).backward()
    prompt = own["prompt.tokens"].grad.norm()
    gate = torch.cat([v.grad.flatten() for n, v in own.items() if n.startswith("gate.")]).norm()
    assert float(measured["gap"]) == pytest.approx(math.log10(prompt / gate), abs=1e-9)
    assert float(sum(measured[f] for f in FACTORS)) == pytest.approx(float(measured["gap"]), abs=1e-9)
    assert float(measured["identity"]) < 1e-9
    sizes = learner.counts()
    rms = math.log10(prompt / math.sqrt(sizes["prompt"]) / (gate / math.sqrt(sizes["gate"])))
    assert float(measured["gap_rms"]) == pytest.approx(rms, abs=1e-9)


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
    wide = Learner("coop", mini, CLASSES, gate="length", gate_bias=4.0)
    opened = chain(wide, params, *inputs)
    rise = opened["opening"] + opened["slope"] - before["opening"] - before["slope"]
    gates = [learner_.gate.values(params, batch["features"]).mean() for learner_ in (learner, wide)]
    assert float(rise) == pytest.approx(float(torch.log10((1 - gates[0]) / (1 - gates[1]))), abs=0.03)


def test_gate_statistics_in_closed_form():
    labels = torch.tensor([0, 0, 1, 1] * 50)
    constant = gate_statistics(torch.full((200, 3), 0.3), labels)
    assert constant["information"] == pytest.approx(0, abs=1e-12) and constant["spread"] == pytest.approx(
        0, abs=1e-7
    )
    assert constant["class_share"] == 0
    switch = gate_statistics(labels.double()[:, None], labels)
    assert switch["information"] == pytest.approx(1) and switch["class_share"] == pytest.approx(1)
    assert switch["saturation"] == 1 and switch["mean"] == pytest.approx(0.5)
    across = torch.tensor([0.25, 0.75] * 100)[:, None]
    free = gate_statistics(across, labels)
    assert free["information"] == pytest.approx(0.0625 / 0.25) and free["class_share"] == 0


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
    data = training.prepare(mini, task, 2, seeds, 12, name == "maple")
    return training.train(
        Learner(name, mini, task.names, gate=kind), data, training.Recipe(steps=steps, rate=0.1), seeds
    )


@pytest.mark.parametrize(("name", "kind"), [("coop", "length"), ("maple", "depth")])
def test_a_seed_gives_the_same_numbers_alone_and_in_a_batch(mini, name, kind):
    together, alone = quick(mini, name, kind, (0, 1, 2)), quick(mini, name, kind, (1,))
    for key, value in alone.params.items():
        torch.testing.assert_close(together.params[key][1], value[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.losses[:, 1], alone.losses[:, 0], atol=1e-5, rtol=1e-4)
    first = together.trajectory[together.trajectory["seed"] == 1].reset_index(drop=True)
    np.testing.assert_allclose(first[list(FACTORS)], alone.trajectory[list(FACTORS)], atol=2e-3)


def test_training_equals_a_plain_loop_with_torch_optim(mini):
    trained = quick(mini, "coop", "length", (3,), steps=5)
    learner, data = trained.learner, trained.data
    recipe = training.Recipe(steps=5, rate=0.1)
    params = {n: v.clone().requires_grad_() for n, v in learner.initial(stream(3, "initial", "coop")).items()}
    optimiser = torch.optim.SGD(params.values(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    order = stream(3, "batches")
    for step in range(5):
        index = torch.randint(len(data.labels), (recipe.batch,), generator=order)
        loss = F.cross_entropy(learner.logits(params, data.features[0][index], None), data.labels[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = recipe.build().rate_at(step)
        optimiser.step()
        assert loss.item() == pytest.approx(float(trained.losses[step, 0]), rel=1e-4)
    for name, value in params.items():
        torch.testing.assert_close(trained.params[name][0], value.detach(), atol=1e-5, rtol=1e-4)


def test_gate_rate_multiplies_the_gate_alone(mini):
    task = tasks.get("texture")
    data = training.prepare(mini, task, 1, (0,), 6, False)
    learner = Learner("coop", mini, task.names, gate="length")
    start = replicas.stack([learner.initial(stream(0, "initial", "coop"))])
    moved = {}
    for rate in (1.0, 10.0):
        done = training.train(learner, data, training.Recipe(steps=1, warmup=0.0, gate_rate=rate), (0,))
        moved[rate] = {name: done.params[name] - start[name] for name in start}
    torch.testing.assert_close(moved[10.0]["prompt.tokens"], moved[1.0]["prompt.tokens"])
    torch.testing.assert_close(moved[10.0]["gate.b2"], 10 * moved[1.0]["gate.b2"], rtol=1e-3, atol=1e-9)


def test_evaluation_variants(mini):
    trained = quick(mini, "coop", "length", (0, 1))
    scores = training.evaluate(trained)
    assert set(scores["variant"]) == set(training.VARIANTS) and len(scores) == 6
    # With a constant gate all variants are the same classifier.
    for name in ("gate.w1", "gate.w2"):
        trained.params[name] = torch.zeros_like(trained.params[name])
    same = training.evaluate(trained).groupby("seed")["test_loss"]
    assert (same.max() - same.min()).max() < 1e-5
    assert set(training.evaluate(quick(mini, "coop", "none", (0,)))["variant"]) == {"fixed"}


def test_recipe_errors():
    for change, words in (
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"optimiser": "lion"}, "optimiser"),
        ({"rate": -1.0}, "rate"),
        ({"warmup": 2.0}, "warmup"),
        ({"gate_rate": 0.0}, "gate_rate"),
    ):
        with pytest.raises(ParameterError, match=f"^{words} must be"):
            training.Recipe(**change)


def test_recorded_steps_include_first_and_last():
    for steps in (1, 2, 7, 100):
        recorded = training.Recipe(steps=steps).recorded()
        assert recorded[0] == 0 and recorded[-1] == steps - 1 and recorded == sorted(set(recorded))
