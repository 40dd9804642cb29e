"""The batched trainer against torch.optim and a plain loop over single runs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lib import replicas, runtime
from lib.checks import ParameterError
from lib.replicas import Optimiser, Step, Tree

REPLICAS = 5
SGD = Optimiser("sgd", 0.05, 25, weight_decay=5e-4, warmup_steps=3, warmup_rate=1e-3)
ADAM = Optimiser("adam", 0.01, 25, weight_decay=1e-2, cosine=False)
MATRIX = torch.randn(40, 6, generator=runtime.stream(0, "matrix"))


def initial(replica: int) -> Tree:
    source = runtime.stream(replica, "initial")
    return {"weight": torch.randn(6, 4, generator=source) / 2, "bias": torch.zeros(4), "scale": torch.ones(())}


def inputs(replica: int, step: int) -> Tree:
    source = runtime.stream(replica, "inputs", step)
    rows = torch.randint(0, 40, (8,), generator=source)
    return {
        "x": MATRIX[rows],
        "y": torch.randint(0, 4, (8,), generator=source),
        "noise": torch.randn(6, 4, generator=source),
        "severity": torch.tensor(0.1 * replica),
    }


def loss(params: Tree, drawn: Tree) -> Tensor:
    weight = params["weight"] + drawn["severity"] * drawn["noise"]
    logits = params["scale"] * (drawn["x"] @ weight).tanh() + params["bias"]
    return torch.nn.functional.cross_entropy(logits, drawn["y"])


def batch(which=range(REPLICAS)):
    params = replicas.stack([initial(replica) for replica in which])
    return params, lambda step: replicas.stack([inputs(replica, step) for replica in which])


def single(replica: int, optimiser: Optimiser, rates=None, loss=loss):
    """One run, written with nn.Parameter and torch.optim."""
    params = {name: torch.nn.Parameter(value.clone()) for name, value in initial(replica).items()}
    factors = {name: float((rates or {}).get(name, 1.0)) for name in params}
    groups = [{"params": [value], "factor": factors[name]} for name, value in params.items()]
    if optimiser.name == "sgd":
        peer = torch.optim.SGD(groups, lr=1.0, momentum=optimiser.momentum, weight_decay=optimiser.weight_decay)
    else:
        peer = torch.optim.Adam(
            groups, lr=1.0, betas=optimiser.betas, eps=optimiser.eps, weight_decay=optimiser.weight_decay
        )
    losses = []
    for step in range(optimiser.steps):
        for group in peer.param_groups:
            group["lr"] = optimiser.rate_at(step) * group["factor"]
        peer.zero_grad()
        value = loss(params, inputs(replica, step))
        value.backward()
        peer.step()
        losses.append(float(value.detach()))
    return {name: value.detach() for name, value in params.items()}, torch.tensor(losses)


def assert_close(found: Tree, expected: Tree) -> None:
    assert set(found) == set(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("optimiser", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_the_batch_gives_what_torch_optim_gives_one_by_one(optimiser, chunk):
    params, draw = batch()
    before = {name: value.clone() for name, value in params.items()}
    found = replicas.train(loss, params, draw, optimiser, chunk=chunk)
    assert found.losses.shape == (25, REPLICAS) and found.diverged_at.tolist() == [-1] * REPLICAS
    for replica in range(REPLICAS):
        expected, losses = single(replica, optimiser)
        assert_close(replicas.unstack(found.params, replica), expected)
        torch.testing.assert_close(found.losses[:, replica], losses, rtol=2e-5, atol=2e-6)
    assert all(torch.equal(params[name], before[name]) for name in before)


@pytest.mark.parametrize("which", [[3], [4, 3], [3, 0, 1]])
def test_a_replica_gets_the_same_numbers_in_any_company(which):
    params, draw = batch()
    everyone = replicas.train(loss, params, draw, SGD)
    params, draw = batch(which)
    few = replicas.train(loss, params, draw, SGD)
    assert_close(replicas.unstack(few.params, which.index(3)), replicas.unstack(everyone.params, 3))


@pytest.mark.parametrize("optimiser", [SGD, ADAM], ids=["sgd", "adam"])
def test_rates_multiply_the_learning_rate_by_name_and_replica(optimiser):
    params, draw = batch()
    factors = torch.tensor([0.0, 1.0, 3.0, 0.5, 2.0])
    found = replicas.train(loss, params, draw, optimiser, rates={"weight": factors, "bias": 0.25})
    for replica in range(REPLICAS):
        expected, _ = single(replica, optimiser, {"weight": factors[replica], "bias": 0.25})
        assert_close(replicas.unstack(found.params, replica), expected)
    assert torch.equal(found.params["weight"][0], params["weight"][0])


def test_rates_may_change_with_the_step_and_gradients_on_their_way():
    params, draw = batch()
    late = replicas.train(loss, params, draw, SGD, rates=lambda step: {"weight": float(step >= SGD.steps)})
    assert torch.equal(late.params["weight"], params["weight"]) and not torch.equal(late.params["bias"], params["bias"])
    constant = replicas.train(loss, params, draw, SGD, rates=lambda step: {"bias": 0.25})
    assert_close(constant.params, replicas.train(loss, params, draw, SGD, rates={"bias": 0.25}).params)
    # Doubled gradients are, for SGD without decay, a doubled rate.
    plain = Optimiser("sgd", 0.05, 5)
    doubled = replicas.train(
        loss, params, draw, plain, adjust=lambda gradients: {name: 2 * value for name, value in gradients.items()}
    )
    faster = replicas.train(loss, params, draw, Optimiser("sgd", 0.1, 5))
    assert_close(doubled.params, faster.params)


def broken(params: Tree, drawn: Tree) -> Tensor:
    """Replica 2 meets a loss of nan, replica 4 a finite loss with a gradient of nan, each at its step."""
    value = loss(params, drawn)
    poison = torch.where(drawn["poison"] == 1, torch.nan, 0.0)
    cliff = (params["scale"] * 0 + torch.where(drawn["poison"] == 2, 0.0, 1.0)).sqrt() * 1e-3
    return value + poison + cliff


def poisoned(step: int) -> Tree:
    drawn = batch()[1](step)
    drawn["poison"] = torch.zeros(REPLICAS)
    drawn["poison"][2] = float(step == 7)
    drawn["poison"][4] = 2.0 * (step == 11)
    return drawn


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_diverging_replica_is_frozen_and_does_not_touch_the_others(name):
    params, _ = batch()
    found = replicas.train(broken, params, poisoned, Optimiser(name, 0.02, 20))
    assert found.diverged_at.tolist() == [-1, -1, 7, -1, 11]

    def healthy(step: int) -> Tree:
        return {**poisoned(step), "poison": torch.zeros(REPLICAS)}

    peer = replicas.train(broken, params, healthy, Optimiser(name, 0.02, 20))
    for replica in (0, 1, 3):
        for key in params:
            assert torch.equal(found.params[key][replica], peer.params[key][replica])
        assert torch.equal(found.losses[:, replica], peer.losses[:, replica])
    for replica, step in ((2, 7), (4, 11)):
        seen: list[Tree] = []
        replicas.train(
            broken,
            params,
            healthy,
            Optimiser(name, 0.02, 20),
            record=lambda at, seen=seen: seen.append(at.params),
            record_at=[step],
        )
        for key in params:
            assert torch.equal(found.params[key][replica], seen[0][key][replica])
        assert found.losses[:step, replica].isfinite().all() and found.losses[step:, replica].isnan().all()


def test_an_overflowing_update_is_undone():
    params = {"x": torch.tensor([1.0, 1.0])}
    found = replicas.train(
        lambda p, d: d["slope"] * p["x"],
        params,
        lambda step: {"slope": torch.tensor([1.0, 3e38])},
        Optimiser("sgd", 10.0, 3, momentum=0.0, cosine=False),
    )
    assert found.diverged_at.tolist() == [-1, 0]
    assert found.params["x"].tolist() == [-29.0, 1.0]


def test_record_sees_gradients_and_parameters_before_the_update():
    params, draw = batch()
    seen: list[Step] = []

    def with_logits(one: Tree, drawn: Tree):
        return loss(one, drawn), {"mean": drawn["x"].mean(), "row": drawn["x"][0]}

    found = replicas.train(
        with_logits, params, draw, SGD, record=seen.append, record_at={0, 4}, has_aux=True, label="recorded"
    )
    assert [step.index for step in seen] == [0, 4]
    assert all(torch.equal(seen[0].params[name], params[name]) for name in params)
    assert torch.equal(seen[1].loss, found.losses[4])
    assert seen[1].aux["mean"].shape == (REPLICAS,) and seen[1].aux["row"].shape == (REPLICAS, 6)
    for step in seen:
        for replica in range(REPLICAS):
            one = {name: value[replica].clone().requires_grad_() for name, value in step.params.items()}
            value = loss(one, inputs(replica, step.index))
            value.backward()
            assert float(step.loss[replica]) == pytest.approx(float(value.detach()), rel=1e-5)
            assert_close(replicas.unstack(step.gradients, replica), {name: one[name].grad for name in one})


def test_gradients_agree_with_finite_differences():
    params, draw = batch([1])
    params = {name: value.double() for name, value in params.items()}

    def double(step: int) -> Tree:
        return {name: v.double() if v.is_floating_point() else v for name, v in draw(step).items()}

    seen: list[Step] = []
    once = Optimiser("sgd", 0.1, 1)
    replicas.train(loss, params, double, once, record=seen.append, record_at=[0])
    one, drawn = replicas.unstack(params, 0), replicas.unstack(double(0), 0)
    for name, place in (("weight", (2, 1)), ("bias", (3,)), ("scale", ())):
        values = []
        for sign in (1, -1):
            moved = {key: value.clone() for key, value in one.items()}
            moved[name][place] += sign * 1e-5
            values.append(float(loss(moved, drawn)))
        expected = (values[0] - values[1]) / 2e-5
        assert float(seen[0].gradients[name][0][place]) == pytest.approx(expected, abs=1e-8)


def test_the_schedule_is_warm_up_then_half_a_cosine():
    optimiser = Optimiser("sgd", 0.2, 110, warmup_steps=10, warmup_rate=1e-4)
    rates = [optimiser.rate_at(step) for step in range(110)]
    assert rates[:10] == [1e-4] * 10
    assert rates[10] == 0.2 and rates[60] == pytest.approx(0.1) and 0 < rates[-1] < 1e-4
    weight = torch.nn.Parameter(torch.zeros(1))
    peer = torch.optim.SGD([weight], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(peer, T_max=100)
    for rate in rates[10:]:
        assert rate == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        peer.step()
        schedule.step()
    assert {Optimiser("adam", 0.1, 9, cosine=False).rate_at(step) for step in range(9)} == {0.1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "rmsprop"}, "optimiser must be one of sgd, adam"),
        ({"rate": 0.0}, "rate must be a number above 0"),
        ({"rate": math.nan}, "rate must be"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"steps": 2.5}, "steps must be"),
        ({"momentum": -0.1}, "momentum must be"),
        ({"warmup_steps": 11}, "warmup_steps must be an integer from 0 to 10"),
        ({"betas": (0.9,)}, "betas must be"),
        ({"cosine": 1}, "cosine must be True or False"),
    ],
)
def test_an_impossible_optimiser_is_refused(change, words):
    with pytest.raises(ParameterError, match=words):
        Optimiser(**{"name": "sgd", "rate": 0.1, "steps": 10, **change})


def test_impossible_batches_are_refused_before_any_step():
    params, draw = batch()
    for wrong, options in [
        ({}, {}),
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, {}),
        ({"a": torch.zeros(())}, {}),
        (params, {"rates": {"wieght": 2.0}}),
        (params, {"rates": {"weight": torch.ones(3)}}),
        (params, {"chunk": 0}),
    ]:
        with pytest.raises(ParameterError, match=r"must be .* given\.$"):
            replicas.train(loss, wrong, lambda step: pytest.fail("no step may run"), SGD, **options)


def test_stack_and_unstack():
    trees = [initial(replica) for replica in range(3)]
    stacked = replicas.stack(trees)
    assert stacked["weight"].shape == (3, 6, 4) and stacked["scale"].shape == (3,)
    for replica in range(3):
        assert all(torch.equal(replicas.unstack(stacked, replica)[n], trees[replica][n]) for n in stacked)
    with pytest.raises(ParameterError):
        replicas.stack([])
    with pytest.raises(ParameterError, match="same names"):
        replicas.stack([{"a": torch.zeros(1)}, {"b": torch.zeros(1)}])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_numbers_of_the_cpu():
    params, draw = batch()
    expected = replicas.train(loss, params, draw, SGD)
    found = replicas.train(
        loss,
        {name: value.cuda() for name, value in params.items()},
        lambda step: {name: value.cuda() for name, value in draw(step).items()},
        SGD,
    )
    assert found.losses.device.type == "cpu" and found.diverged_at.device.type == "cpu"
    for name, value in found.params.items():
        torch.testing.assert_close(value.cpu(), expected.params[name], rtol=1e-3, atol=1e-4)


def test_trees_of_any_depth_train_as_flat_ones_do():
    """Branches change where a parameter is found, not what becomes of it; a rate holds for a whole branch."""
    first, second = (
        torch.randn(3, 4, generator=runtime.stream(0, "a")),
        torch.randn(3, 2, generator=runtime.stream(0, "b")),
    )
    tree = {"w": first, "more": {"deep": {"v": second}, "empty": {}}}
    assert replicas.nested(replicas.flat(tree)) == {"w": first, "more": {"deep": {"v": second}}}
    assert list(replicas.flat(tree)) == [("w",), ("more", "deep", "v")]
    one = replicas.unstack(tree, 1)
    assert torch.equal(one["more"]["deep"]["v"], second[1])
    together = replicas.stack([replicas.unstack(tree, i) for i in range(3)])
    assert torch.equal(together["w"], first) and together["more"]["empty"] == {}
    optimiser = replicas.Optimiser("adam", 0.1, 5)

    def loss(w, v, inputs):
        return ((w.sum() - inputs["to"]["a"]) ** 2 + v.square().sum() * w[0]).square()

    def draw(step):
        return {"to": {"a": torch.arange(3.0) + step}}

    rates = {"more": torch.tensor([0.5, 1.0, 2.0])}
    deep = replicas.train(lambda p, i: loss(p["w"], p["more"]["deep"]["v"], i), tree, draw, optimiser, rates=rates)
    flat = replicas.train(
        lambda p, i: loss(p["w"], p["v"], i), {"w": first, "v": second}, draw, optimiser, rates={"v": rates["more"]}
    )
    assert torch.equal(deep.losses, flat.losses) and torch.equal(deep.params["w"], flat.params["w"])
    assert torch.equal(deep.params["more"]["deep"]["v"], flat.params["v"]) and not torch.equal(flat.params["v"], second)
