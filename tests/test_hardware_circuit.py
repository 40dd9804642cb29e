"""The effective conductance against Kirchhoff's equations solved node by node, and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sparse
import scipy.sparse.linalg as sparse_linalg
import torch

from lib import runtime
from lib.checks import ParameterError
from lib.hardware.circuit import effective_conductance


def conductances(*shape: int, seed: int = 0) -> torch.Tensor:
    """Half of the cells near zero and half anywhere up to 25 microsiemens, as in one array of a pair."""
    drawn = torch.rand(*shape, dtype=torch.float64, generator=runtime.stream(seed, "conductance", *shape))
    return 0.1 + 24.9 * (2 * drawn - 1).relu()


def nodal(g: np.ndarray, r_word: float, r_bit: float, volts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Currents into the sense nodes and out of the sources (microampere), from a sparse nodal analysis.

    Unknown are the 2mn voltages of all nodes, numbered word lines first; written without any elimination.
    """
    m, n = g.shape
    word, bit = np.arange(m * n).reshape(m, n), m * n + np.arange(m * n).reshape(m, n)
    entries: list[tuple[int, int, float]] = []
    right = np.zeros(2 * m * n)

    def resistor(a: int, b: int, siemens: float) -> None:
        entries.extend([(a, a, siemens), (b, b, siemens), (a, b, -siemens), (b, a, -siemens)])

    for i in range(m):
        for j in range(n):
            resistor(word[i, j], bit[i, j], g[i, j] * 1e-6)
            if j + 1 < n:
                resistor(word[i, j], word[i, j + 1], 1 / r_word)
            if i + 1 < m:
                resistor(bit[i, j], bit[i + 1, j], 1 / r_bit)
        entries.append((word[i, 0], word[i, 0], 1 / r_word))
        right[word[i, 0]] += volts[i] / r_word
    for j in range(n):
        entries.append((bit[m - 1, j], bit[m - 1, j], 1 / r_bit))
    rows, columns, values = zip(*entries, strict=True)
    matrix = sparse.csc_matrix((values, (rows, columns)), shape=(2 * m * n, 2 * m * n))
    nodes = sparse_linalg.spsolve(matrix, right)
    return 1e6 * nodes[bit[m - 1]] / r_bit, 1e6 * (volts - nodes[word[:, 0]]) / r_word


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


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 5), (16, 9), (64, 64)])
@pytest.mark.parametrize("wires", [(1.0, 1.0), (30.0, 4.0), (20.0, 500.0), (1000.0, 1000.0)])
def test_agrees_with_a_sparse_nodal_solve(shape, wires):
    g = conductances(*shape)
    volts = torch.randn(shape[0], dtype=torch.float64, generator=runtime.stream(1, "volts"))
    expected, delivered = nodal(g.numpy(), *wires, volts.numpy())
    # What the sources deliver is what the sense nodes collect.
    assert delivered.sum() == pytest.approx(expected.sum(), rel=1e-6, abs=1e-9)
    scale = np.abs(expected).max()
    for exact, tolerance in ((False, 1e-6), (True, 1e-10)):
        currents = (volts @ effective_conductance(g, *wires, exact=exact)).numpy()
        assert np.abs(currents - expected).max() <= tolerance * scale


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


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 6)])
def test_exact_gradient_by_finite_differences(shape):
    g = conductances(*shape).requires_grad_()
    weights = torch.randn(shape, dtype=torch.float64, generator=runtime.stream(2, "weights"))

    def function(given):
        return (weights * effective_conductance(given, 800.0, 300.0, exact=True)).sum()

    assert torch.autograd.gradcheck(function, g, eps=1e-4, atol=1e-8, rtol=1e-6)


def test_fast_gradient_by_finite_differences_at_full_size():
    g = conductances(64, 64)
    source = runtime.stream(3, "direction")
    weights, direction = (torch.randn(64, 64, dtype=torch.float64, generator=source) for _ in range(2))
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
    gradients, mapped = torch.func.vmap(torch.func.grad(total, has_aux=True))(g, r)
    for i in range(4):
        gradient, single = torch.func.grad(total, has_aux=True)(g[i], r[i])
        assert torch.allclose(batched[i], single, rtol=1e-7, atol=0)
        assert torch.allclose(mapped[i], single, rtol=1e-7, atol=0)
        assert torch.allclose(gradients[i], gradient, rtol=1e-4, atol=1e-4 * gradient.abs().max())


@pytest.mark.parametrize("given", [(-1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)])
def test_a_resistance_that_is_none_is_refused(given):
    with pytest.raises(ParameterError, match="must be a number of at least 0"):
        effective_conductance(conductances(2, 2), *given)
