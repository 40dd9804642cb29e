"""Gradient statistics against closed forms, repetition and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import gradients
from lib.checks import ParameterError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Gaussian:
    """Gradients N(mean, diag(spread^2)) with everything about them known."""

    def __init__(self, size: int, noise: float, seed: int = 0) -> None:
        self.generator = generator(seed)
        self.mean = torch.randn(size, generator=self.generator, dtype=torch.float64)
        self.spread = noise * torch.rand(size, generator=self.generator, dtype=torch.float64)
        self.clean = self.mean + 0.7 * torch.randn(size, generator=self.generator, dtype=torch.float64)
        self.norm_sq = float(self.mean @ self.mean)
        self.trace = float(self.spread @ self.spread)
        self.cosine = float(self.mean @ self.clean / (self.mean.norm() * self.clean.norm()))
        self.bias = float((self.mean - self.clean).norm() / self.clean.norm())

    def draw(self, count: int) -> torch.Tensor:
        size = self.mean.numel()
        return self.mean + self.spread * torch.randn(count, size, generator=self.generator, dtype=torch.float64)


def standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def test_statistics_agree_with_numpy():
    samples = torch.randn(9, 31, generator=generator()) + 1
    found = gradients.statistics(samples)
    array = samples.double().numpy()
    covariance = np.cov(array, rowvar=False)
    np.testing.assert_allclose(found.mean.numpy(), array.mean(0), rtol=1e-12)
    assert found.count == 9
    assert found.trace_cov == pytest.approx(np.trace(covariance), rel=1e-12)
    assert found.norm_sq == pytest.approx((array.mean(0) ** 2).sum() - np.trace(covariance) / 9, rel=1e-9)
    assert found.variance_ratio == found.trace_cov / found.norm_sq
    assert found.snr == pytest.approx(found.norm_sq / found.trace_cov)


@pytest.mark.parametrize("noise", [0.5, 5.0])
def test_squared_norm_and_trace_are_unbiased(noise):
    truth = Gaussian(20, noise)
    found = [gradients.statistics(truth.draw(4)) for _ in range(3000)]
    for name, expected in (("norm_sq", truth.norm_sq), ("trace_cov", truth.trace)):
        values = np.array([getattr(each, name) for each in found])
        assert abs(values.mean() - expected) < 4 * standard_error(values)
    plain = np.array([float(each.mean.square().sum()) for each in found])
    if noise > 1:  # the test would notice a missing correction
        assert abs(plain.mean() - truth.norm_sq) > 20 * standard_error(plain)


def test_edges_of_the_variance_ratio():
    zeros = gradients.statistics(torch.zeros(3, 4))
    assert math.isnan(zeros.variance_ratio) and math.isnan(zeros.snr)
    constant = gradients.statistics(torch.ones(3, 4))
    assert constant.variance_ratio == 0 and constant.snr == math.inf
    noise = gradients.statistics(torch.tensor([[1.0], [-1.0]]))
    assert noise.norm_sq == -1 and noise.variance_ratio == math.inf and noise.snr == 0
    broken = gradients.statistics(torch.tensor([[1.0], [math.nan]]))
    assert math.isnan(broken.variance_ratio)


@pytest.mark.parametrize("shape", [(1, 3), (3,), (2, 3, 4), (0, 3)])
def test_statistics_need_two_flattened_samples(shape):
    with pytest.raises(ParameterError, match=r"samples must be .* was given\."):
        gradients.statistics(torch.zeros(shape))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
@settings(deadline=None)
def test_cosine_is_bounded_symmetric_and_blind_to_scale(values, first, second):
    a = torch.tensor(values, dtype=torch.float64)
    b = a.flip(0) + 1
    found = gradients.cosine(a, b)
    assert -1 <= found <= 1
    assert found == pytest.approx(gradients.cosine(b, a), abs=1e-9)
    if a.norm() > 1e-100:
        assert gradients.cosine(first * a, second * b) == pytest.approx(found, abs=1e-9)
        assert gradients.cosine(a, -a) == pytest.approx(-1)


def test_cosine_edges():
    a = torch.tensor([3.0, 4.0])
    assert gradients.cosine(a, torch.zeros(2)) == 0.0
    assert gradients.cosine(a, torch.tensor([4.0, -3.0])) == pytest.approx(0, abs=1e-12)
    assert gradients.cosine(1e-30 * a, 1e-30 * a) == pytest.approx(1)
    assert gradients.cosine(torch.ones(2, 3), torch.ones(6)) == pytest.approx(1)
    assert math.isnan(gradients.cosine(a, torch.tensor([math.inf, 1.0])))
    with pytest.raises(ParameterError):
        gradients.cosine(a, torch.ones(3))


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_cosine_of_the_expectation_does_not_fade_with_noise(noise):
    truth = Gaussian(200, noise)
    values = np.array([gradients.expected_cosine(truth.draw(16), truth.clean, resamples=2)[0] for _ in range(400)])
    plain = np.array([gradients.cosine(truth.draw(16).mean(0), truth.clean) for _ in range(400)])
    assert abs(values.mean() - truth.cosine) < 4 * standard_error(values) + 0.01
    if noise > 2:
        assert plain.mean() < truth.cosine - 0.1


@pytest.mark.parametrize(("count", "size", "noise"), [(16, 40, 1.0), (32, 200, 5.0)])
def test_intervals_cover_the_truth(count, size, noise):
    truth = Gaussian(size, noise)
    cosine, ratio = [], []
    for repetition in range(200):
        samples = truth.draw(count)
        low, high = gradients.expected_cosine(samples, truth.clean, seed=repetition)[1]
        cosine.append(low <= truth.cosine <= high)
        low, high = gradients.variance_interval(samples, seed=repetition)
        ratio.append(low <= truth.trace / truth.norm_sq <= high)
    # 95 % nominal; 0.89 is four standard errors of 200 repetitions below.
    assert np.mean(cosine) > 0.89 and np.mean(ratio) > 0.89


def test_intervals_agree_with_a_plain_bootstrap():
    """The Gram-matrix shortcut against resampling the rows, one by one."""
    truth = Gaussian(30, 0.5)
    samples = truth.draw(25)
    estimate = gradients.statistics(samples)
    plain_sq = float(estimate.mean @ estimate.mean)
    picks = np.random.default_rng(3).integers(25, size=(4000, 25))
    ratios, cosines = [], []
    for pick in picks:
        drawn = gradients.statistics(samples[pick])
        norm_sq = estimate.norm_sq + drawn.norm_sq - plain_sq
        ratios.append(drawn.trace_cov * 25 / 24 / norm_sq)
        cosines.append(float(drawn.mean @ truth.clean) / (float(truth.clean.norm()) * math.sqrt(norm_sq)))
    found = gradients.variance_interval(samples, resamples=4000)
    np.testing.assert_allclose(found, np.quantile(ratios, [0.025, 0.975]), rtol=0.04)
    found = gradients.expected_cosine(samples, truth.clean, resamples=4000)[1]
    np.testing.assert_allclose(found, np.quantile(cosines, [0.025, 0.975]), rtol=0.02)


def test_expected_cosine_edges():
    zeros, ones = torch.zeros(4, 3), torch.ones(3)
    assert gradients.expected_cosine(zeros, ones) == (0.0, (0.0, 0.0))
    assert gradients.expected_cosine(torch.ones(4, 3), torch.zeros(3)) == (0.0, (0.0, 0.0))
    value, (low, high) = gradients.expected_cosine(torch.ones(4, 3), ones)
    assert value == low == high == pytest.approx(1)
    value, interval = gradients.expected_cosine(torch.tensor([[1.0, 0.1], [-1.0, 0.1]]), torch.ones(2))
    assert interval == (-1.0, 1.0) and math.isnan(value)
    assert math.isnan(gradients.expected_cosine(torch.full((2, 3), math.nan), ones)[0])


@pytest.mark.parametrize(
    ("size", "noise", "told"), [(5, 100.0, False), (200, 100.0, False), (5, 1.0, True), (200, 5.0, True)]
)
@pytest.mark.parametrize("along", [0.6, 1.0])
def test_a_mean_that_drowns_in_noise_has_no_direction(size, noise, told, along):
    """tr Cov / ||E g||^2 = ``noise``, 32 samples: known by construction, so is the cosine."""
    draws = generator(1)
    mean, clean = torch.zeros(2, size, dtype=torch.float64)
    mean[0], mean[1], clean[0] = along, math.sqrt(1 - along**2), 1
    values, covered = [], []
    for repetition in range(200):
        samples = mean + math.sqrt(noise / size) * torch.randn(32, size, generator=draws, dtype=torch.float64)
        value, (low, high) = gradients.expected_cosine(samples, clean, seed=repetition)
        values.append(value)
        covered.append(low <= along <= high)
        assert not math.isnan(value) or (low, high) == (-1, 1)
    nothing = np.isnan(values)
    # Of noise at most as many are taken for a direction as an interval of 95 % leaves out; 4 standard errors more.
    assert nothing.mean() < 0.01 if told else nothing.mean() > 1 - 0.05 - 4 * math.sqrt(0.05 * 0.95 / 200)
    assert np.mean(covered) > 0.89
    if along < 1:
        assert np.mean(np.abs(values) == 1) < 0.02
    if told:
        assert np.nanmean(values) == pytest.approx(along, abs=0.05)


def test_variance_interval_edges():
    assert gradients.variance_interval(torch.ones(4, 3)) == (0.0, 0.0)
    assert all(math.isnan(end) for end in gradients.variance_interval(torch.zeros(4, 3)))
    noise = torch.randn(8, 50, generator=generator())
    low, high = gradients.variance_interval(noise - noise.mean(0))
    assert low > 8 and high == math.inf


def test_relative_bias_takes_the_sampling_noise_off():
    truth = Gaussian(50, 3.0)
    squares = np.array([gradients.relative_bias(truth.draw(8), truth.clean) ** 2 for _ in range(1000)])
    assert abs(squares.mean() - truth.bias**2) < 4 * standard_error(squares)
    plain = np.array(
        [float((truth.draw(8).mean(0) - truth.clean).norm() / truth.clean.norm()) ** 2 for _ in range(1000)]
    )
    assert plain.mean() - truth.bias**2 > 20 * standard_error(plain)


def test_relative_bias_edges():
    ones = torch.ones(4)
    assert gradients.relative_bias(ones.expand(3, 4), ones) == 0.0
    assert gradients.relative_bias(2 * ones.expand(3, 4), ones) == pytest.approx(1)
    assert gradients.relative_bias(torch.zeros(3, 4), ones) == pytest.approx(1)
    assert gradients.relative_bias(ones.expand(3, 4), 0 * ones) == math.inf
    assert gradients.relative_bias(torch.zeros(3, 4), 0 * ones) == 0.0


def test_truth_is_one_for_the_true_gradient_and_its_share_for_another():
    matrix = torch.randn(5, 5, generator=generator(), dtype=torch.float64)
    at = torch.randn(5, generator=generator(1), dtype=torch.float64)

    def objective(x):
        return (matrix @ x).square().sum() + x.sin().sum()

    point = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(point), point)
    assert gradients.truth(objective, at, gradient, 1e-4) == pytest.approx(1, abs=1e-7)
    assert gradients.truth(objective, at, 4 * gradient, 1e-4) == pytest.approx(0.25, abs=1e-7)
    other = torch.randn(5, generator=generator(2), dtype=torch.float64)
    expected = float(gradient @ other / other.square().sum())
    assert gradients.truth(objective, at, other, 1e-4) == pytest.approx(expected, abs=1e-6)
    assert gradients.truth(objective, at, torch.zeros(5), 1e-4) == 0.0
    assert gradients.truth(lambda x: 3.0 * float(x[0]), at.float(), torch.eye(5)[0], 1e-2) == pytest.approx(3, rel=1e-4)
    with pytest.raises(ParameterError):
        gradients.truth(objective, at, gradient, 0.0)


def test_dead_fraction_counts_parameters_silent_in_every_sample():
    samples = torch.tensor([[0.0, 0.0, 1e-9, 2.0], [0.0, 1.0, -1e-9, 3.0]])
    assert gradients.dead_fraction(samples) == 0.25
    assert gradients.dead_fraction(samples, tolerance=1e-8) == 0.5
    assert gradients.dead_fraction(torch.zeros(1, 7)) == 1.0


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_effective_rank_agrees_with_the_singular_values(shape):
    samples = torch.randn(shape, generator=generator(), dtype=torch.float64) @ torch.diag(
        torch.linspace(0.1, 3, shape[1], dtype=torch.float64)
    )
    energy = np.linalg.svd(samples.numpy(), compute_uv=False) ** 2
    share = energy / energy.sum()
    assert gradients.effective_rank(samples) == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-9)


def test_effective_rank_edges():
    assert gradients.effective_rank(torch.eye(5)) == pytest.approx(5)
    assert gradients.effective_rank(torch.ones(6, 3)) == pytest.approx(1)
    assert gradients.effective_rank(torch.zeros(4, 3)) == 0.0


def test_the_gap_between_two_groups_of_gradients():
    prompts, gate = [torch.full((2, 2), 3.0)], [torch.zeros(3), torch.tensor([0.06])]
    assert gradients.magnitude_gap(prompts, gate) == pytest.approx((2.0, 2.0), rel=1e-6)
    total, rms = gradients.magnitude_gap([torch.ones(100)], [torch.tensor(1.0)])
    assert (total, rms) == (pytest.approx(1), 0.0)
    some, none = [torch.ones(4)], [torch.zeros(4)]
    assert gradients.magnitude_gap(some, none) == (math.inf, math.inf)
    assert gradients.magnitude_gap(none, some) == (-math.inf, -math.inf)
    assert all(math.isnan(gap) for gap in gradients.magnitude_gap(none, none))


def test_flatten_and_back():
    tree = {"b": torch.randn(2, 3, generator=generator()), "a": torch.tensor(5.0), "c": torch.zeros(0)}
    vector = gradients.flatten(tree)
    assert vector.shape == (7,) and vector[6] == 5
    again = gradients.unflatten(vector, tree)
    assert list(again) == ["b", "a", "c"]
    assert all(torch.equal(again[name], tree[name]) for name in tree)
    with pytest.raises(ParameterError):
        gradients.unflatten(vector[:-1], tree)
