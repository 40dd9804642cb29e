"""The effective conductance against Kirchhoff's equations at every node, against closed forms, and its gradient."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from torch.func import grad, vmap

from lib import runtime
from lib.checks import ParameterError
from lib.hardware import circuit
from lib.hardware.circuit import approximate_conductance, effective_conductance, tiled_conductance
from lib.hardware.perturbations import IRDrop
from paper.nodal import node_voltages

# Word and bit lines in ohm per segment: with and without resistance, and one much worse than the other.
WIRES = [(1.0, 1.0), (30.0, 4.0), (20.0, 500.0), (1000.0, 1000.0), (0.0, 40.0), (40.0, 0.0), (0.0, 0.0)]


def conductances(*shape: int, seed: int = 0) -> torch.Tensor:
    """Half of the cells near zero and half anywhere up to 25 microsiemens, as in one array of a pair."""
    drawn = torch.rand(*shape, dtype=torch.float64, generator=runtime.stream(seed, "conductance", *shape))
    return 0.1 + 24.9 * (2 * drawn - 1).relu()


def by_nodes(g: torch.Tensor, r_word: float | torch.Tensor, r_bit: float | torch.Tensor) -> torch.Tensor:
    """The effective conductance by nodal analysis, every input at 1 V in turn."""
    given, word, bit = circuit.checked(g, r_word, r_bit, 2)
    return node_voltages(given, word, bit, torch.eye(len(given), dtype=torch.float64)).output


def normal(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=runtime.stream(0, name))


def test_one_cell_is_three_resistors_in_series():
    g = torch.tensor([[20.0]], dtype=torch.float64)
    expected = 1e6 / (300.0 + 1e6 / 20.0 + 70.0)
    assert effective_conductance(g, 300.0, 70.0).item() == pytest.approx(expected, rel=1e-9)


def test_one_word_line_with_two_cells_by_hand():
    a, b, word, bit = 1e6 / 20.0, 1e6 / 5.0, 400.0, 150.0
    first, second = a + bit, word + b + bit
    current = 1 / (word + 1 / (1 / first + 1 / second))
    shared = current / (1 / first + 1 / second)
    expected = [1e6 * shared / first, 1e6 * shared / second]
    seen = effective_conductance(torch.tensor([[20.0, 5.0]], dtype=torch.float64), word, bit)
    assert seen[0].tolist() == pytest.approx(expected, rel=1e-9)


def test_one_bit_line_with_two_cells_by_hand():
    upper, lower, bit = 400.0 + 1e6 / 20.0, 400.0 + 1e6 / 5.0, 150.0
    # Driving the upper source: its current meets the lower branch (held at 0 V) and the last segment.
    node = lower * bit / (lower + bit)
    from_upper = (1 / (upper + bit + node)) * lower / (lower + bit)
    above = upper + bit
    node = above * bit / (above + bit)
    from_lower = (1 / (lower + node)) * above / (above + bit)
    seen = effective_conductance(torch.tensor([[20.0], [5.0]], dtype=torch.float64), 400.0, bit)
    assert seen[:, 0].tolist() == pytest.approx([1e6 * from_upper, 1e6 * from_lower], rel=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (9, 6)])
@pytest.mark.parametrize("wires", WIRES)
def test_node_voltages_fulfil_kirchhoff_at_every_node(shape, wires):
    g, volts = conductances(*shape), normal("volts", 2, 3, shape[0])
    word, bit, current, output = node_voltages(g, *wires, volts)
    assert word.shape == bit.shape == current.shape == (2, 3, *shape)
    assert torch.allclose(current, g * (word - bit), rtol=1e-12, atol=0)
    source, ground = volts[..., None], torch.zeros(2, 3, 1, shape[1], dtype=torch.float64)
    # Voltage along each segment, from the source on and down to the sense node; what flows in flows out.
    along, down = -torch.cat([source, word], -1).diff(), -torch.cat([bit, ground], -2).diff(dim=-2)
    # A segment's current is a small difference of voltages, known to their last bits.
    word_tolerance, bit_tolerance = (1e-9 * current.abs().max() + (1e-9 / r if r else 0) for r in wires)
    if wires[0]:
        segments = 1e6 * along / wires[0]
        assert (segments - current.flip(-1).cumsum(-1).flip(-1)).abs().max() <= word_tolerance
    else:
        assert not along.any()
    if wires[1]:
        segments = 1e6 * down / wires[1]
        assert (segments - current.cumsum(-2)).abs().max() <= bit_tolerance
        assert (segments[..., -1, :] - output).abs().max() <= bit_tolerance
    else:
        assert not down.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 5), (16, 9), (9, 40), (64, 64)])
@pytest.mark.parametrize("wires", WIRES)
def test_agrees_with_a_sparse_nodal_solve(shape, wires):
    g = conductances(*shape)
    volts = normal("volts", shape[0])
    expected = node_voltages(g, *wires, volts).output
    for exact, tolerance in ((False, 1e-6), (True, 1e-10)):
        currents = volts @ effective_conductance(g, *wires, exact=exact)
        assert (currents - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("shape", [(128, 128), (96, 128)])
def test_a_large_array_agrees_with_a_sparse_nodal_solve(shape):
    g = conductances(*shape)
    expected = by_nodes(g, 0.5, 3.0)
    assert (effective_conductance(g, 0.5, 3.0, exact=True) - expected).abs().max() <= 1e-9 * expected.max()


@pytest.mark.parametrize("r", [1.0, 100.0, 1000.0])
def test_the_harshest_array_is_still_solved_to_a_millionth(r):
    # Every device at full scale: nothing loads the wires more.
    g = torch.full((64, 64), 25.0, dtype=torch.float64)
    exact, seen = effective_conductance(g, r, r, exact=True), effective_conductance(g, r, r)
    assert (seen - exact).abs().max() <= 1e-6 * exact.max()


def test_word_and_bit_lines_are_not_interchangeable():
    g = conductances(8, 8)
    one, other = effective_conductance(g, 500.0, 5.0), effective_conductance(g, 5.0, 500.0)
    assert (one - other).abs().max() > 0.01 * one.max()


def test_reciprocity():
    # Exchanging sources and sense nodes mirrors the array: the same cell joins the same two terminals.
    g = conductances(12, 7)
    mirrored = effective_conductance(g.flip(0).T.flip(0), 9.0, 200.0, exact=True)
    assert torch.allclose(
        effective_conductance(g, 200.0, 9.0, exact=True), mirrored.flip(0).T.flip(0), rtol=1e-10, atol=0
    )


def test_without_resistance_nothing_changes_to_the_last_bit():
    g = conductances(64, 32).float()
    for exact in (False, True):
        assert torch.equal(effective_conductance(g, 0.0, 0.0, exact=exact).float(), g)


def test_more_resistance_carries_less_current():
    g = conductances(32, 32)
    totals = [effective_conductance(g, r, r).sum().item() for r in (0.0, 1.0, 10.0, 100.0, 1000.0)]
    assert all(low > high for low, high in zip(totals, totals[1:], strict=False))
    # To first order the loss is proportional to the resistance.
    loss = [1 - effective_conductance(g, r, r).sum().item() / totals[0] for r in (0.01, 0.1)]
    assert loss[1] / loss[0] == pytest.approx(10, rel=0.01)


def test_known_loss_of_a_random_array():
    # 3.5 % of the mean current at 1 ohm for uniform conductances of up to 25 microsiemens on 64 x 64.
    uniform = 25 * torch.rand(64, 64, dtype=torch.float64, generator=runtime.stream(0, "uniform"))
    lost = 1 - effective_conductance(uniform, 1.0, 1.0).sum() / uniform.sum()
    assert lost.item() == pytest.approx(0.035, abs=0.004)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (5, 3), (4, 6), (2, 3, 4)])
@pytest.mark.parametrize("wires", [(800.0, 300.0), (0.0, 300.0), (800.0, 0.0)])
def test_exact_gradient_by_finite_differences(shape, wires):
    g, weights = conductances(*shape).requires_grad_(), normal("weights", *shape)

    def function(given):
        return (weights * effective_conductance(given, *wires, exact=True)).sum()

    assert torch.autograd.gradcheck(function, g, eps=1e-4, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 40), (24, 40), (40, 24)])
def test_exact_gradients_of_mapped_arrays_by_finite_differences(shape):
    g = 1 + conductances(3, *shape)
    r_word, r_bit = torch.tensor([[2.0, 100.0, 0.0], [30.0, 1.0, 300.0]], dtype=torch.float64)
    weights, direction = normal("weights", *shape), normal("direction", *shape).clamp(-3, 3)

    def function(given, word, bit):
        return (weights * effective_conductance(given, word, bit, exact=True)).sum()

    gradients = vmap(grad(function))(g, r_word, r_bit)
    for one, word, bit, gradient in zip(g, r_word, r_bit, gradients, strict=True):
        near, far = (
            function(one + h * direction, word, bit) - function(one - h * direction, word, bit) for h in (0.05, 0.1)
        )
        # The derivative up to the fourth power of the step.
        slope = (8 * near - far) / 0.6
        assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-8)


def test_fast_gradient_by_finite_differences_at_full_size():
    g = conductances(64, 64)
    weights, direction = normal("weights", 64, 64), normal("direction", 64, 64)
    direction = direction * (g > 1)

    def function(given, exact):
        return (weights * effective_conductance(given, 100.0, 300.0, exact=exact)).sum()

    slope = (function(g + 1e-3 * direction, True) - function(g - 1e-3 * direction, True)) / 2e-3
    (gradient,) = torch.autograd.grad(function(leaf := g.clone().requires_grad_(), False), leaf)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=2e-5)


def test_batched_and_mapped_arrays_are_the_single_ones():
    g = conductances(4, 10, 6)
    r = torch.tensor([0.0, 3.0, 100.0, 1000.0], dtype=torch.float64)

    def total(one, resistance):
        seen = effective_conductance(one, resistance, resistance)
        return (seen * torch.arange(60.0).reshape(10, 6)).sum(), seen

    batched = effective_conductance(g, r, r)
    gradients, mapped = vmap(grad(total, has_aux=True))(g, r)
    for i in range(4):
        gradient, single = grad(total, has_aux=True)(g[i], r[i])
        assert torch.allclose(batched[i], single, rtol=1e-7, atol=0)
        assert torch.allclose(mapped[i], single, rtol=1e-7, atol=0)
        assert torch.allclose(gradients[i], gradient, rtol=1e-4, atol=1e-4 * gradient.abs().max())


@pytest.mark.parametrize("tile", [(4, 3), (5, 20), (13, 2), (1, 1)])
def test_tiles_are_arrays_of_their_own(tile):
    g, wires = conductances(2, 13, 7), (400.0, 90.0)
    whole = tiled_conductance(g, *wires, tile, exact=True)
    for top in range(0, 13, tile[0]):
        for left in range(0, 7, tile[1]):
            part = (slice(None), slice(top, top + tile[0]), slice(left, left + tile[1]))
            alone = effective_conductance(g[part], *wires, exact=True)
            assert torch.allclose(whole[part], alone, rtol=1e-12, atol=0)


def test_a_tile_as_large_as_the_array_is_the_array():
    g = conductances(12, 9)
    for tile in ((12, 9), (40, 9), (100, 100)):
        assert torch.equal(tiled_conductance(g, 50.0, 20.0, tile), effective_conductance(g, 50.0, 20.0))


def test_smaller_tiles_lose_less():
    g = conductances(48, 48)
    seen = [tiled_conductance(g, 20.0, 20.0, (side, side)).sum() for side in (64, 24, 20, 8, 1)]
    assert all(low < high for low, high in zip(seen, [*seen[1:], g.sum()], strict=True))


def test_tiles_are_mapped_and_have_a_gradient():
    g = conductances(3, 5, 7)
    r = torch.tensor([0.0, 300.0, 1000.0], dtype=torch.float64)
    weights = normal("weights", 5, 7)

    def total(one, resistance):
        return (weights * tiled_conductance(one, resistance, 2 * resistance, (2, 3), exact=True)).sum()

    gradients = vmap(grad(total))(g, r)
    batched = tiled_conductance(g, r, 2 * r, (2, 3), exact=True)
    for one, resistance, gradient, array in zip(g, r, gradients, batched, strict=True):
        assert torch.allclose(tiled_conductance(one, resistance, 2 * resistance, (2, 3), exact=True), array)
        assert torch.allclose(grad(total)(one, resistance), gradient)
        numerical = {"eps": 1e-4, "atol": 1e-8, "rtol": 1e-6}
        assert torch.autograd.gradcheck(lambda given, r=resistance: total(given, r), one.requires_grad_(), **numerical)


def relative(seen: torch.Tensor, expected: torch.Tensor) -> float:
    return ((seen - expected).norm() / expected.norm()).item()


def first_order(g: torch.Tensor, r: float) -> torch.Tensor:
    """The estimate that the approximation improves on, for equal resistances; written as sums over cells."""
    m, n = g.shape
    load = torch.zeros_like(g)
    for i in range(m):
        for j in range(n):
            load[i, j] = sum((1 + min(j, k)) * g[i, k] for k in range(n))
            load[i, j] += sum((m - max(i, k)) * g[k, j] for k in range(m))
    return g / (1 + r * 1e-6 * load)


def test_the_approximation_is_first_order_and_better_than_its_first_order():
    g = conductances(12, 8)
    errors = [
        relative(approximate_conductance(g, r, r), effective_conductance(g, r, r, exact=True))
        for r in (0.5, 1.0, 2.0, 4.0)
    ]
    # The error over the square of the resistance tends to a constant.
    assert [high / low for low, high in zip(errors, errors[1:], strict=False)] == pytest.approx([4] * 3, rel=0.02)
    plain = [relative(first_order(g, r), effective_conductance(g, r, r, exact=True)) for r in (0.5, 1.0)]
    assert plain[1] / plain[0] == pytest.approx(4, rel=0.02)
    assert errors[1] < plain[1] / 2


def test_the_approximation_of_equal_cells_is_second_order():
    g = torch.full((20, 30), 25.0, dtype=torch.float64)
    errors = [
        relative(approximate_conductance(g, r, 3 * r), effective_conductance(g, r, 3 * r, exact=True))
        for r in (0.05, 0.1)
    ]
    assert errors[1] / errors[0] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize(
    ("side", "bounds"), [(16, (2e-7, 2e-5, 2e-3)), (64, (1e-5, 1e-3, 6e-2)), (128, (7e-5, 1.2e-2, 0.3))]
)
def test_error_of_the_approximation(side, bounds):
    g = conductances(side, side)
    for r, bound in zip((1.0, 10.0, 100.0), bounds, strict=True):
        error = relative(approximate_conductance(g, r, r), effective_conductance(g, r, r, exact=True))
        assert bound / 5 <= error <= bound


def test_the_approximation_is_mapped_and_has_a_gradient():
    g = conductances(3, 4, 5)
    r = torch.tensor([0.0, 300.0, 1000.0], dtype=torch.float64)
    assert torch.equal(approximate_conductance(g, 0.0, 0.0), g)
    batched = approximate_conductance(g, r, 2 * r)
    mapped = vmap(approximate_conductance)(g, r, 2 * r)
    single = torch.stack([approximate_conductance(one, at, 2 * at) for one, at in zip(g, r, strict=True)])
    assert torch.allclose(batched, single) and torch.allclose(mapped, single)
    assert torch.autograd.gradcheck(lambda given: approximate_conductance(given, r, 2 * r), g.requires_grad_())


def test_an_open_array_conducts_nothing():
    g = torch.zeros(3, 4, dtype=torch.float64)
    for solve in (effective_conductance, by_nodes, approximate_conductance):
        assert not solve(g, 10.0, 20.0).any()


SOLVERS = (effective_conductance, approximate_conductance, by_nodes, lambda *given: tiled_conductance(*given, (2, 2)))


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("given", [-1.0, float("nan"), float("inf")])
def test_a_resistance_or_a_conductance_that_is_none_is_refused(solve, given):
    g = conductances(3, 4)
    for wires, name in (((given, 1.0), "r_word"), ((1.0, given), "r_bit")):
        for kind in (float, torch.tensor):
            with pytest.raises(ParameterError, match=f"^{name} must be a number of at least 0, but {given} was given"):
                solve(g, *map(kind, wires))
    g[1, 2] = given
    with pytest.raises(ParameterError, match=f"^conductance must be a number of at least 0, but {given} was given"):
        solve(g, 1.0, 1.0)


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("given", [torch.ones(3), torch.ones(0, 2), torch.tensor(1.0), [[1.0]]])
def test_a_conductance_that_is_no_array_is_refused(solve, given):
    with pytest.raises(ParameterError, match="^conductance must be .* was given.$"):
        solve(given, 1.0, 1.0)


@pytest.mark.parametrize("tile", [(0, 4), (4, -1), (2.0, 2), (True, 2), 4, (1, 2, 3), "44"])
def test_a_tile_that_is_none_is_refused(tile):
    with pytest.raises(ParameterError, match=r"^tile.* must be .*integers? of at least 1, but .* was given\.$"):
        tiled_conductance(conductances(4, 4), 1.0, 1.0, tile)


@pytest.mark.parametrize("volts", [torch.ones(4), torch.tensor(1.0), torch.full((3,), float("nan")), [1.0, 1.0, 1.0]])
def test_volts_that_do_not_fit_are_refused(volts):
    with pytest.raises(ParameterError, match=r"^volts must be .* shape \[\.\.\., 3\], but .* was given\.$"):
        node_voltages(conductances(3, 4), 1.0, 1.0, volts)
    with pytest.raises(ParameterError, match=r"^conductance must be of shape \[m, n\]"):
        node_voltages(conductances(2, 3, 4), 1.0, 1.0, torch.ones(3))


def test_arrays_that_do_not_fit_into_memory_are_refused(monkeypatch):
    assert circuit._free_memory(torch.device("cpu")) > 0
    monkeypatch.setattr(circuit, "_SMALL", 0)
    monkeypatch.setattr(circuit, "_free_memory", lambda device: 64 * 32 * 32 * 8 * 4)
    g, r = conductances(5, 32, 64), torch.ones(5, dtype=torch.float64)
    message = r"free \(cut into tiles they need less\), but 5 of 64 by 32 lines, which need 0\.0 GiB, was given\.$"
    exactly = partial(effective_conductance, exact=True)
    for solve in (exactly, vmap(exactly, in_dims=(0, 0, 0))):
        with pytest.raises(ParameterError, match=message):
            solve(g, 1e5 * r, r)
    exactly(g[:4], 1e5, 1.0)
    # Single precision needs half of it.
    effective_conductance(g, 1e5, 1.0)
    tiled_conductance(g, 1e5, 1.0, (16, 16), exact=True)


def test_node_voltages_that_do_not_fit_into_memory_are_refused(monkeypatch):
    monkeypatch.setattr(circuit, "_SMALL", 0)
    monkeypatch.setattr(circuit, "_free_memory", lambda device: 2 * 32 * 64 * 5000)
    with pytest.raises(
        ParameterError, match=r"^conductance must be .* but 1 of 64 by 32 lines, which need .* was given"
    ):
        node_voltages(conductances(32, 64), 1.0, 1.0, torch.ones(100, 32))
    assert node_voltages(conductances(32, 64), 1.0, 1.0, torch.ones(3, 32)).output.isfinite().all()


def test_large_arrays_that_take_long_are_said_before_they_are_solved(monkeypatch):
    monkeypatch.setattr(circuit, "_LONG", 1e-3)
    solvers = [
        lambda g: effective_conductance(g, 1.0, 1.0),
        lambda g: vmap(lambda one: effective_conductance(one, 1.0, 1.0))(g[None]),
        lambda g: node_voltages(g, 1.0, 1.0, torch.ones(g.shape[-2])),
    ]
    for solve in solvers:
        with pytest.warns(
            UserWarning, match=r"^To solve arrays \(1 of 90 by 80 lines\) takes about 0 s .*tile=\(64, 64\)"
        ):
            solve(conductances(80, 90))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # In tiles of a usual size, or one that small: no other way is faster.
        tiled_conductance(conductances(80, 90), 1.0, 1.0, (64, 64))
        effective_conductance(conductances(90, 64), 1.0, 1.0)
        monkeypatch.setattr(circuit, "_LONG", 10.0)
        effective_conductance(conductances(80, 90), 1.0, 1.0)


def test_an_untiled_layer_of_512_lines_is_said_to_take_half_a_minute():
    class Reached(Exception):
        pass

    def stop(load):
        raise Reached

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="takes about 3[0-9] s on a core"):
        patch.setattr(circuit, "_line", stop)
        with pytest.raises(Reached):
            IRDrop().conductance(torch.ones(2, 512, 512), torch.tensor(100.0), {})


def test_a_replica_that_has_diverged_leaves_the_others_alone():
    g = conductances(3, 6, 6)
    g[1, 2, 2] = float("nan")
    for wires in ((5.0, 5.0), (5.0, 1e5)):
        seen = vmap(lambda one, at=wires: effective_conductance(one, *at, exact=True))(g)
        assert seen[1].isnan().any()
        for i in (0, 2):
            assert torch.allclose(seen[i], effective_conductance(g[i], *wires, exact=True), rtol=1e-10)
