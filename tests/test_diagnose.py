"""Diagnoses of models and gates of one's own: known answers come out, models stay as they are, nonsense is refused."""

from __future__ import annotations

import functools
import html
import importlib
import json
import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib import Learner, ParameterError, diagnose_gate, diagnose_perturbation, gradients, learner_parts, load
from lib.__main__ import main
from lib.diagnose import gate as own_gate
from lib.diagnose import perturbation as own
from lib.diagnose.report import Report, shown
from lib.hardware.devices import Composite, make
from lib.hardware.perturbations import Perturbation
from lib.prompts import tasks, training
from lib.prompts.diagnosis import FACTORS
from paper.studies import base
from paper.studies.own import Mixture, Residual, compared, crossed, trained
from paper.tools import known as tool

CLASSES = 4


def network() -> nn.Sequential:
    """A finished network for an easy task, with batch statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, CLASSES))
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    x, y = data()
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    optimiser.zero_grad()
    return model.train()


def data(seed: int = 0, count: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :CLASSES].argmax(1)


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return network()


@pytest.fixture
def batches() -> list:
    x, y = data()
    return [(x[:48], y[:48]), (x[48:], y[48:])]


# ------------------------------------------------------------------------------------------- perturbations
@dataclass(frozen=True)
class Weaker(Perturbation):
    """Every product comes out weaker by a share: nothing random, and known through and through."""

    name, title, measures, unit = "weaker", "Weaker", "share lost", ""
    low, high, grid = 0.0, 0.9, (0.5,)
    arrays = False

    def digital(self, y, arrays, severity, drawn):
        return y * (1 - severity)


@dataclass(frozen=True)
class Offset(Perturbation):
    """Currents with noise that does not depend on weights or inputs."""

    name, title, measures, unit = "offset", "Offset", "standard deviation", ""
    low, high, grid = 0.0, 10.0, (1.0,)
    arrays, read = False, "normal"

    def digital(self, y, arrays, severity, drawn):
        return y + severity * drawn["read"]


def linear(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs * targets).mean()


def test_a_perturbation_of_ones_own_whose_answers_are_known():
    """A linear loss of a linear model: half the product is half the gradient, noise that is added leaves it alone."""
    model = nn.Sequential(nn.Linear(6, 3, bias=False))
    x, y = torch.randn(8, 6), torch.randn(8, 3)
    row = diagnose_perturbation(model, linear, [(x, y)], Weaker(), 0.75, negligible=0).table.iloc[0]
    assert row["cosine"] == pytest.approx(1, abs=1e-6) and row["size"] == pytest.approx(0.25, rel=1e-5)
    assert row["signal"] == pytest.approx(1, abs=1e-6) and row["live"] == 1
    # Along the gradient of what was computed the loss falls as promised.
    assert row["truth"] == pytest.approx(1, abs=0.02)
    assert row["rise"] == pytest.approx(-0.75 * float(linear(model(x), y)), rel=1e-4)
    noisy = diagnose_perturbation(model, linear, [(x, y)], Offset(), 2.0, samples=8, negligible=0).table.iloc[0]
    assert noisy["cosine"] == pytest.approx(1, abs=1e-5) and noisy["signal"] == pytest.approx(1, abs=1e-5)
    assert noisy["changed"] > 0 and noisy["rise_low"] < 0 < noisy["rise_high"]


def test_it_says_what_the_six_classes_do(model, batches):
    noise = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, "read_noise", [0.0, 0.01, 0.3], limit=2)
    assert noise.table["state"].tolist() == ["unchanged", "harmless", "usable"] and noise.decided
    assert any("still to be trained" in note for note in noise.notes) == (noise.table["signal"].iloc[1] < 0.5)
    assert noise.table["cosine"].is_monotonic_decreasing and noise.table["rise"].is_monotonic_increasing
    stairs = diagnose_perturbation(
        model, nn.CrossEntropyLoss(), batches, make("adc"), 2, rules="autograd,straight_through"
    ).table.set_index("rule")
    assert stairs.loc["autograd", "state"] == "gone" and stairs.loc["autograd", "live"] == 0
    assert stairs.loc["straight_through", "live"] > 0.5 and stairs.loc["straight_through", "state"] != "gone"


def test_the_model_is_left_bit_by_bit_as_it_was(batches):
    model = network()
    model[1].eval()
    for one in model.parameters():
        one.grad = torch.ones_like(one)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    first = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, "variability", 0.2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(one.grad, torch.ones_like(one)) for one in model.parameters())
    assert type(model[0]) is nn.Linear
    again = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, "variability", 0.2)
    pd.testing.assert_frame_equal(first.table, again.table)
    other = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, "variability", 0.2, seed=1)
    assert other.table["cosine"].iloc[0] != first.table["cosine"].iloc[0]


def test_a_model_stays_as_it_was_when_its_loss_breaks(batches):
    model, calls = network(), []

    def breaks(outputs, targets):
        calls.append(1)
        if len(calls) > 20:
            raise RuntimeError("it broke")
        return nn.functional.cross_entropy(outputs, targets)

    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="it broke"):
        diagnose_perturbation(model, breaks, batches, "read_noise", 0.3)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items()) and model.training
    assert type(model[0]) is nn.Linear


def test_the_layer_that_suffers_is_first():
    """One layer passes a large signal on that the other takes away again: only its noise can be seen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    with torch.no_grad():
        model[1].weight.mul_(1e-4)
        model[1].bias.zero_()
    x, y = torch.randn(16, 6), torch.randint(0, 2, (16,))
    layers = diagnose_perturbation(model, nn.CrossEntropyLoss(), [(x, y)], Offset(), 1.0).details["layers"]
    assert layers["layer"].tolist() == ["1", "0"] and layers["alone"].iloc[0] > 10 * abs(layers["alone"].iloc[1])


def test_the_part_that_costs_is_first(model, batches):
    chip = Composite((make("read_noise"), make("adc")))
    report = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, chip, {"read_noise": 0.3, "adc": 12})
    parts = report.details["parts"].set_index("part")
    assert parts.index[0] == "read_noise" and parts.loc["read_noise", "alone"] > 10 * abs(parts.loc["adc", "alone"])
    several = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, chip, [(0.0, 12), (0.3, 12)], samples=4)
    assert len(several.table) == 2 and {"severity_read_noise", "severity_adc"} <= set(several.table)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.integers(2, 40), st.integers(0, 2**20), st.floats(0.01, 100))
def test_inner_products_are_all_that_the_statistics_need(count, size, seed, scale):
    rows = scale * torch.randn(count + 1, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    found = own._statistics(own._gram(list(rows)))
    moments = gradients.statistics(rows[:-1])
    assert found["size"] == pytest.approx(
        math.sqrt(max(moments.norm_sq, 0)) / float(rows[-1].norm()), rel=1e-4, abs=1e-4
    )
    ratio = moments.variance_ratio
    assert found["signal"] == pytest.approx(1 / (1 + ratio), rel=1e-4, abs=1e-6)
    cosine, _ = gradients.expected_cosine(rows[:-1], rows[-1])
    assert found["cosine"] == pytest.approx(cosine, abs=1e-4, nan_ok=True)


def test_what_any_module_may_be(batches):
    """A convolution, tied weights, inputs of several tensors, a loss on whole batches."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.two = nn.Conv2d(1, 2, 3), nn.Linear(2, 2), nn.Linear(2, 2)
            self.two.weight = self.one.weight

        def forward(self, x, factor):
            return self.two(self.one(self.conv(x).mean((2, 3)))) * factor

    model = Tied()
    x, y = torch.randn(6, 1, 5, 5), torch.randint(0, 2, (6,))
    pairs = [((x, torch.tensor(2.0)), y)]
    plain = diagnose_perturbation(model, nn.CrossEntropyLoss(), pairs, "read_noise", 0.2)
    assert "3 layers with 22 weights" in plain.subject, "what is shared counts once"

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch["x"], 2.0), batch["y"])

    whole = diagnose_perturbation(model, loss, [{"x": x, "y": y}], "read_noise", 0.2, whole=True)
    pd.testing.assert_frame_equal(plain.table, whole.table)
    assert "evidence" in plain.details and "evidence" not in whole.details, "only a cross-entropy is known"


def test_a_layer_that_never_ran_is_named(model, batches):
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(12, 4), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    report = diagnose_perturbation(Idle(), nn.CrossEntropyLoss(), batches, "read_noise", 0.2)
    assert any("unused" in note for note in report.notes)
    assert report.details["layers"]["layer"].tolist() == ["used"]


def test_the_budget_decides_how_many_gradients(model, batches):
    """Two in a hundred of the training, whatever the grid; what it took is counted."""
    for steps in (2000, 20000):
        report = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, "read_noise", [0.1, 0.3], steps=steps)
        assert report.cost["share"] <= own.BUDGET
        spent = report.cost["gradients"] + own.FORWARD * report.cost["passes"]
        assert report.cost["share"] == pytest.approx(spent / steps)
    assert "% of the training" in repr(report)


def test_the_evidence_says_what_training_won_back_or_that_it_does_not_know(model, batches, monkeypatch):
    cases = pd.DataFrame(
        {"rule": "autograd", "family": list("aabbccddee"), "rise": 1.0, "recovery": np.arange(10) / 10}
    )
    monkeypatch.setattr(own, "_known", lambda: cases)
    row = {"rule": "autograd", "rise": 1.5}
    found = own._evidence(row, 0.02)
    assert found["cases"] == 10 and found["families"] == 5
    assert (found["recovery"], found["recovery_low"], found["recovery_high"]) == pytest.approx((0.45, 0.09, 0.81))
    for other in ({"rule": "autograd", "rise": 2.1}, {"rule": "straight_through", "rise": 1.0}):
        assert math.isnan(own._evidence(other, 0.02)["recovery"])
    monkeypatch.setattr(own, "_known", lambda: cases.iloc[:0])
    report = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, "read_noise", 0.3)
    assert "the evidence does not say" in report.verdict


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": nn.ReLU()}, "^model must have a Linear or a Conv2d"),
        ({"model": nn.LSTM(2, 2)}, "^model must have layers that can be mapped"),
        ({"loss": lambda o, t: o.sum(1)}, r"^loss must give one number \(a tensor\), but shape \(48,\) was given"),
        ({"loss": lambda o, t: 1.0}, "^loss must give one number .* but 'float' was given"),
        ({"loss": lambda o, t: o.sum() * math.nan}, "^loss must be finite, but nan was given for batch 1"),
        ({"loss": lambda o, t: o.detach().sum()}, "^loss must depend on the model's weights"),
        ({"batches": []}, "^batches must hold at least one batch"),
        ({"batches": torch.ones(3)}, "^batches must be several"),
        ({"batches": [(torch.ones(0, 12), torch.ones(0))]}, "^batches must hold examples"),
        ({"batches": [{"x": 1}]}, "^batches must hold pairs"),
        ({"perturbation": "adcc"}, "^perturbation must be"),
        ({"perturbation": 3}, "^perturbation must be a name or a Perturbation"),
        ({"severity": 77}, "^severity must be"),
        ({"severity": []}, "^severity must be one or several"),
        ({"rules": "unaware"}, "^rules must be"),
        ({"samples": 2}, "^samples must be"),
        ({"digital": "nothing"}, "^digital must be"),
        ({"perturbation": Composite((make("adc"), make("drift")))}, "^severity must be given for Composed chip"),
    ],
)
def test_what_it_refuses(model, batches, changes, words):
    asked = {"model": model, "loss": nn.CrossEntropyLoss(), "batches": batches, "perturbation": "read_noise"} | changes
    with pytest.raises(ParameterError, match=words):
        diagnose_perturbation(**asked)


def test_a_frozen_model_is_refused(batches):
    model = network().requires_grad_(False)
    with pytest.raises(ParameterError, match="^model must have trainable weights .* none of 2 requires a gradient"):
        diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, "read_noise", 0.1)


# ------------------------------------------------------------------------------------------- gates
def of(model: Mixture, **more):
    batches = [crossed(64, 10 + i) for i in range(6)]
    asked = {
        "loss": lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        "prompts": model.experts,
        "gate": model.router,
        "inputs": batches,
    }
    return diagnose_gate(**(asked | more))


@pytest.fixture(scope="module")
def mixtures() -> tuple[Mixture, Mixture]:
    # The task can be routed by either of two numbers: with this seed the router goes by the first.
    return trained(seed=0), trained(blind=True, seed=0)


def test_a_router_that_is_needed_is_told_from_a_blind_one(mixtures):
    router, blind = mixtures
    x, y = crossed(400, 99)
    right = {
        name: (one(x).argmax(1) == y).float().numpy() for name, one in zip(("gated", "blind"), mixtures, strict=True)
    }
    found = of(router, predictions=right)
    assert found.verdict.startswith("Useful") and found.decided
    assert found.advice[0].finding == "fair_trial.planted.control.over_fixed"
    table = found.table.set_index("measure")
    assert table.loc["input information", "value"] > 0.5 and table.loc["used", "value"] > 1.8
    assert table.loc["loss of itself held at its mean, over its own", "value_low"] > 0.1
    twin = of(blind)
    assert twin.verdict.startswith("Idle") and "nearly constant" in twin.verdict
    assert (
        abs(twin.table.set_index("measure").loc["loss of itself shuffled between inputs, over its own", "value"]) < 1e-6
    )
    same = of(router, predictions={"gated": right["gated"], "fixed": right["gated"], "blind": right["gated"]})
    assert same.verdict.startswith("Co-adapted")
    worse = of(router, predictions={"gated": right["blind"], "fixed": right["gated"]})
    assert worse.verdict.startswith("Harmful")
    alone = of(router)
    assert "takes predictions of twins" in alone.verdict and alone.decided


def test_the_gap_is_that_of_the_two_gradients(mixtures):
    router, _ = mixtures
    batch = crossed(64, 10)
    loss = nn.functional.cross_entropy(router(batch[0]), batch[1])
    norms = [
        torch.cat(
            [one.flatten() for one in torch.autograd.grad(loss, list(part.parameters()), retain_graph=True)]
        ).norm()
        for part in (router.experts, router.router)
    ]
    found = of(router, inputs=[batch], gate=list(router.router.parameters()))
    assert found.table["value"].iloc[0] == pytest.approx(float(torch.log10(norms[0] / norms[1])), abs=1e-5)
    assert not found.decided and any("One batch" in note for note in found.notes)
    left = {"gap", "gap per parameter", "prompts without any gradient", "gate without any gradient"}
    assert set(found.table["measure"]) == left, "parameters alone have no values"


def test_a_gap_that_may_go_either_way_is_left_open():
    for samples, said in (([0.4, -0.5, 0.3, -0.4], "Whether the gate's gradient"), ([0.4, 0.6], "is 0.5 decades")):
        table = pd.DataFrame([own_gate._row("gap", samples, "decades")])
        assert said in own_gate._verdict(table, {}, {}, None, 0.01)[1]


def test_the_gap_is_divided_at_what_the_gate_gives(mixtures):
    router, _ = mixtures
    x, y = crossed(64, 10)
    weights = router.router(x).detach().requires_grad_()
    experts = torch.stack([one(x) for one in router.experts], 1)
    loss = nn.functional.cross_entropy((weights[:, :, None] * experts).sum(1), y)
    between, *rest = torch.autograd.grad(loss, [weights, *router.experts.parameters()])
    before = torch.cat([one.flatten() for one in rest]).norm()
    table = of(router, inputs=[(x, y)]).table.set_index("measure")["value"]
    first = table["of the gap: from the prompts to the gate's values"]
    assert first == pytest.approx(float(torch.log10(before / between.norm())), abs=1e-5)
    assert first + table["of the gap: inside the gate"] == pytest.approx(table["gap"], abs=1e-5)


def test_parameters_that_nothing_reaches_and_frozen_ones_are_named():
    body, gate = nn.Linear(8, 4), nn.Sequential(nn.Linear(8, 4), nn.Sigmoid())
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    gate[0].bias.requires_grad_(False)
    asked = {"prompts": body, "gate": gate, "inputs": x.split(16)}
    # Of four outputs of the body three are never looked at.
    found = diagnose_gate(lambda one: (body(one) * gate(one))[:, 0].square().mean(), **asked)
    shares = found.table.set_index("measure")["value"]
    assert shares["prompts without any gradient"] == shares["gate without any gradient"] == 0.75
    assert found.advice[0].text.startswith("75 % of the parameters of the prompts get no gradient")
    assert any(note == "1 tensors of gate are frozen and were left out: 0.bias." for note in found.notes)
    whole = diagnose_gate(lambda one: (body(one) * gate(one)).square().mean(), **asked)
    assert not any("no gradient from any" in one.text for one in whole.advice)


# --------------------------------------------------------------------------------------- prompt learners
@pytest.fixture(scope="module")
def mini():
    return load("miniclip", "random")


def parts(mini, name: str, gate: str, seed: int = 0):
    names = ("circle", "square", "star")
    learner = Learner(name, mini, names, gate=gate)
    generator = torch.Generator().manual_seed(seed)
    params = learner.initial(generator)
    # As training leaves them: gates that begin at nothing have moved.
    params = {key: one + 0.1 * torch.randn(one.shape, generator=generator) for key, one in params.items()}
    batches = [(torch.rand(6, 3, 32, 32, generator=generator), torch.arange(6) % 3) for _ in range(2)]
    return learner, params, learner_parts(learner, params, batches)


@pytest.mark.parametrize(
    ("name", "gate"), [("coop", "length"), ("maple", "depth"), ("vpt", "both"), ("pool", "soft"), ("coop", "tanh")]
)
def test_a_learner_of_the_library_is_diagnosed_by_its_exact_chain(mini, name, gate):
    learner, params, given = parts(mini, name, gate)
    before = {key: one.clone() for key, one in params.items()}
    report = diagnose_gate(**given)
    table = report.table.set_index("measure")["value"]
    assert all(torch.equal(before[key], one) for key, one in params.items()), "parameters are copied"
    factors = [table["of the gap: " + one.replace("_", " ")] for one in FACTORS]
    assert sum(factors) == pytest.approx(table["gap"], abs=1e-3)
    # By a loop over batches, with the learner's own forward pass, in which no gate is handed over.
    gaps = []
    for features, patches, labels in given["inputs"]:
        leaves = {key: one.clone().requires_grad_() for key, one in params.items()}
        loss = nn.functional.cross_entropy(learner.logits(leaves, features, patches), labels)
        found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True), strict=True))
        norms = [
            torch.cat([one.flatten() for key, one in found.items() if key.startswith(group)]).norm()
            for group in ("prompt.", "gate.")
        ]
        gaps.append(float(torch.log10(norms[0] / norms[1])))
    assert table["gap"] == pytest.approx(float(np.mean(gaps)), abs=1e-4)


def test_a_learners_gate_is_held_where_it_acts(mini):
    learner, params, given = parts(mini, "coop", "length")
    table = diagnose_gate(**given).table.set_index("measure")["value"]
    values = [learner.gate_values(params, features) for features, _, _ in given["inputs"]]
    mean, risen = torch.cat(values).mean(0), []
    for features, patches, labels in given["inputs"]:
        held, own = (
            nn.functional.cross_entropy(learner.logits(params, features, patches, gate=gate), labels)
            for gate in (mean, None)
        )
        risen.append(float(held - own))
    assert table["loss of itself held at its mean, over its own"] == pytest.approx(np.mean(risen), abs=1e-5)


def test_what_is_no_gated_learner_or_not_its_own_is_refused(mini):
    learner, params, given = parts(mini, "coop", "length")
    pictures = [(torch.rand(2, 3, 32, 32), torch.tensor([0, 1]))]
    with pytest.raises(ParameterError, match="^learner must have a gate, but coop without one was given"):
        learner_parts(Learner("coop", mini, ("circle", "square")), params, pictures)
    with pytest.raises(ParameterError, match="^params must be those of one replica of this learner"):
        learner_parts(learner, {name: one[None] for name, one in params.items()}, pictures)
    with pytest.raises(ParameterError, match=r"^batches must be pictures \[B, 3, H, W\] with a label each"):
        learner_parts(learner, params, [(torch.rand(2, 3, 32, 32), torch.tensor([0]))])
    with pytest.raises(ParameterError, match="^chain must give factors that add up to the gap of .* but 7 was given"):
        diagnose_gate(**(given | {"chain": lambda batch: {"other": 7.0}}))


def test_a_prompt_learner_of_ones_own_is_compared_with_the_library_s():
    """One that learns nothing that shows is the hand-written sentence, picture by picture."""

    class Idle(Residual):
        def logits(self, params, features, patches, **given):
            return super().logits({name: 0 * value for name, value in params.items()}, features, patches, **given)

    found = compared("default", {"sentence": "zero_shot", "mine": Idle, "theirs": Residual}, steps=4, rates=(0.01,))
    assert found["mine"].tolist() == found["sentence"].tolist() != found["theirs"].tolist()


@pytest.mark.parametrize(
    ("learners", "told"),
    [
        ({}, "learners must name at least one learner, but none was given."),
        ({"a": "coop", "b": "none"}, "learners must be one of"),
        ({"a": int}, "subclasses of lib.prompts.learners.Learner, but <class 'int'> was given"),
        ({"a": 3}, "subclasses of lib.prompts.learners.Learner, but 3 was given"),
    ],
)
def test_what_is_no_learner_is_refused_before_anything_is_trained(learners, told):
    with pytest.raises(ParameterError, match=re.escape(told)):
        compared("default", learners, steps=10**9)


def test_a_prompt_learner_of_ones_own_trains_like_those_of_the_library(mini):
    task = tasks.get("texture")
    learner = Residual("zero_shot", mini, task.names, template=task.template)
    plain = Learner("zero_shot", mini, task.names, template=task.template)
    features = mini.image_features(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    params = learner.initial(torch.Generator())
    torch.testing.assert_close(learner.logits(params, features, None), plain.logits({}, features, None))
    runs = [training.Replica(task, seed, shots=2) for seed in range(2)]
    trained = training.train(learner, training.prepare(learner, runs, 12), training.Recipe(30, 8, 0.01, "adam"))
    assert float(trained.losses[-5:].mean()) < float(trained.losses[:5].mean()) - 0.1


def test_classes_that_a_gate_follows(mixtures):
    router, _ = mixtures
    found = of(router, labels=lambda batch: (batch[0][:, 0] < 0).long()).table.set_index("measure")
    other = of(router, labels=lambda batch: (batch[0][:, 5] < 0).long()).table.set_index("measure")
    assert found.loc["class share", "value"] > 0.6 > 0.1 > other.loc["class share", "value"]


def test_a_scale_without_bounds_is_a_gate_too():
    scale, body = nn.Linear(8, 4), nn.Linear(8, 4)
    x, y = crossed(64, 0)
    report = diagnose_gate(
        lambda batch: nn.functional.cross_entropy((body(batch[0]) * (3 * scale(batch[0])))[:, :2], batch[1]),
        prompts=body,
        gate=scale,
        inputs=[(x[:32], y[:32]), (x[32:], y[32:])],
    )
    measures = set(report.table["measure"])
    assert "spread" in measures and "input information" not in measures


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"gate": nn.Linear(2, 2)},
            "^gate must have a gradient path to the loss, but none of its 2 parameters has one",
        ),
        ({"gate": nn.ReLU()}, "^gate must have a trainable parameter"),
        ({"gate": [3]}, "^gate must be a module or parameters"),
        ({"inputs": []}, "^inputs must hold at least one batch"),
        ({"inputs": torch.ones(2)}, "^inputs must be several batches"),
        ({"loss": lambda batch: batch[0].sum(1)}, "^loss must give one number"),
        ({"loss": lambda batch: batch[0].sum()}, "^loss must depend on prompts and gate"),
        ({"predictions": {"gated": [1]}}, "^predictions must be of gated and of one"),
        ({"predictions": {"gated": [1, 0], "blind": [1]}}, "^predictions must be arrays of one shape"),
        ({"predictions": {"gated": [1], "other": [1]}}, "^predictions must be"),
        (
            {"labels": lambda batch: torch.zeros(3)},
            "^labels must be one for each of 384 gate values, but 18 were given",
        ),
    ],
)
def test_what_a_diagnosis_of_a_gate_refuses(mixtures, changes, words):
    with pytest.raises(ParameterError, match=words):
        of(mixtures[0], **changes)
    if "predictions" not in changes:
        with pytest.raises(ParameterError, match="^prompts and gate must be different, but 2 parameters are in both"):
            of(mixtures[0], prompts=mixtures[0])


# ------------------------------------------------------------------------------------------- reports
def test_a_report_shows_itself_and_is_saved(model, batches, tmp_path):
    report = diagnose_perturbation(model, nn.CrossEntropyLoss(), batches, "read_noise", [0.1, 0.3], steps=5000)
    text, page = repr(report), report._repr_html_()
    for words in (report.verdict, "hardware_trial.clipping", "Cost: "):
        assert words in text and words.replace("'", "&#x27;") in page
    assert page.count("<img ") == 1 and "<summary>layers</summary>" in page
    whole = report.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert whole.startswith("<!doctype html>") and "http" not in whole
    kept = json.loads(report.save(tmp_path / "report.json").read_text(encoding="utf-8"))
    assert kept["verdict"] == report.verdict and len(kept["table"]) == 2 and kept["decided"] is True
    assert kept["table"][0]["cosine"] == report.table["cosine"].iloc[0]
    with pytest.raises(ParameterError, match=r"^path must end in .html or .json"):
        report.save(tmp_path / "report.txt")
    with pytest.raises(ParameterError, match="^picture must be"):
        Report("a", "b", True, report.table).picture()


def test_a_table_as_it_is_read():
    table = pd.DataFrame(
        {"a": [1.23456, math.nan], "a_low": [1.0, math.nan], "a_high": [2.0, math.nan], "b": [math.nan] * 2}
    )
    read = shown(table)
    assert list(read) == ["a"] and read["a"].tolist() == ["1.23 [1, 2]", ""]


SCRIPT = """
import torch
from torch import nn

def make_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return model, nn.CrossEntropyLoss(), [(torch.randn(32, 4), torch.randint(0, 2, (32,)))]

def make_gate():
    torch.manual_seed(0)
    gate, body = nn.Sequential(nn.Linear(4, 2), nn.Sigmoid()), nn.Linear(4, 2)
    loss = lambda batch: nn.functional.cross_entropy(body(batch[0]) * gate(batch[0]), batch[1])
    inputs = [(torch.randn(32, 4), torch.randint(0, 2, (32,))) for _ in range(4)]
    return {"loss": loss, "prompts": body, "gate": gate, "inputs": inputs}
"""


def test_the_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_own.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    asked = ["diagnose", "my_own:make_model", "--perturbation", "read_noise"]
    assert main([*asked, "--severity", "[0.1, 0.5]", "--json", "out.json", "--html", "out.html"]) in (0, 1)
    kept = json.loads((tmp_path / "out.json").read_text())
    assert len(kept["table"]) == 2 and kept["verdict"] in capsys.readouterr().out
    assert (tmp_path / "out.html").stat().st_size > 1000
    assert main(["diagnose", "my_own:make_gate", "--gate"]) in (0, 1)
    own = [*asked[:3], "tests_of_nothing:nothing"]
    for words, said in (
        ([*asked[:3], "read_noise", "--severity", "77"], "severity must be"),
        (["diagnose", "my_own:nothing", "--gate"], "target must be something that can be imported"),
        (["diagnose", "my_own", "--gate"], "target must be MODULE:NAME"),
        (["diagnose", "my_own:make_model", "--gate"], "must give a mapping"),
        (["diagnose", "my_own:make_gate", "--perturbation", "adc"], "must give (model, loss, batches)"),
        ([*asked, "--json", "no/folder/out.json"], "FILE must be in a folder that exists"),
        (own, "perturbation must be something that can be imported"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- what it refers to
@functools.cache
@functools.cache
def judged(page: str) -> base.Result:
    """What the committed evidence of a page says."""
    return base.shown_on(page)


def test_what_the_library_knows_of_recovery_is_the_evidence():
    found = tool.known(judged(tool.PAGE).tables).to_csv(index=False)
    assert tool.PLACE.read_text(encoding="utf-8") == found, "python -m paper.tools.known"


def test_every_advice_names_a_finding_of_the_book():
    cited = {one.finding for advice in own._HELP.values() for one in advice}
    table = pd.DataFrame({"state": ["usable", "gone"]})
    cited |= {one.finding for one in own._advice(Composite((make("adc"), make("drift"))), table)}
    names = ("idle", "depends", "co-adapted", "harmful", "useful", "inconclusive", "")
    cited |= {one.finding for name in names for one in own_gate._advice(name, {"input information": 0.0}, {})}
    cited -= {""}
    found = {one.id for page in {name.partition(".")[0] for name in cited} for one in judged(page).findings}
    assert cited <= found


def test_what_the_numbers_are_is_said_of_every_number_of_a_report_and_of_no_other(mini, tmp_path):
    gated = diagnose_gate(**parts(mini, "coop", "length")[2])
    model, batch = nn.Linear(4, 2), (torch.ones(8, 4), torch.zeros(8, dtype=torch.long))
    chip = diagnose_perturbation(model, nn.CrossEntropyLoss(), [batch], "read_noise", [0.1, 0.2], samples=4)
    plain = {"rule", "severity", "loss", "mean"}
    for report, names in ((gated, gated.table["measure"]), (chip, shown(chip.table).columns)):
        left = {name for name in names if name not in report.meaning} - plain
        assert all(name.startswith(("of the gap: ", "loss of ", "right answers over ")) for name in left)
        page = report.save(tmp_path / "report.html").read_text()
        assert all((f"<dt>{html.escape(name)}</dt>" in page) == (name in set(names)) for name in report.meaning)


def test_few_rows_of_many_columns_stand_upright(tmp_path):
    """A phone shows them whole: the widest line has a name and no more than three numbers."""
    wide = pd.DataFrame({f"c{n}": [1.0, 2.0] for n in range(9)})
    lines = Report("s", "v", True, wide)._repr_html_().split("<tr>")[1:]
    assert len(lines) == 9 and all(line.count("<td>") == 2 for line in lines)
    long = Report("s", "v", True, pd.concat([wide] * 3))._repr_html_().split("<tr>")[1:]
    assert len(long) == 6 and all(line.count("<td>") == 9 for line in long)
