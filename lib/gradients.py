"""Statistics of sampled gradients.

``samples`` is always a tensor [K, P]: K sampled gradients, flattened to P parameters. Sums run in double
precision. Quantities that a finite K would bias have the Monte-Carlo part taken off, so that they do not
depend on K except through their uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib import checks

Interval = tuple[float, float]


def _double(values: Tensor) -> Tensor:
    """Detached and in double precision; Apple's GPU has none, so its tensors move to the CPU."""
    values = values.detach()
    return (values.cpu() if values.device.type == "mps" else values).double()


def _samples(samples: Tensor, fewest: int = 2) -> Tensor:
    if samples.dim() != 2 or samples.shape[0] < fewest:
        raise checks.ParameterError(
            f"samples must be a tensor [K, P] of at least {fewest} flattened gradients, "
            f"but shape {tuple(samples.shape)} was given."
        )
    return _double(samples)


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.numel() != second.numel():
        raise checks.ParameterError(
            f"gradients must be of equal length, but {first.numel()} and {second.numel()} were given."
        )
    return _double(first).flatten(), _double(second).flatten()


def _ratio(trace_cov: float, norm_sq: float) -> float:
    if math.isnan(trace_cov) or math.isnan(norm_sq):
        return math.nan
    if norm_sq > 0:
        return trace_cov / norm_sq
    return math.inf if trace_cov > 0 else math.nan


@dataclass(frozen=True)
class GradientStatistics:
    """Mean gradient [P] over ``count`` samples, and unbiased estimates of ‖E g‖² and tr Cov g.

    ``norm_sq`` is ‖mean‖² − tr Cov/K and may be zero or negative when the mean drowns in noise.
    """

    mean: Tensor
    count: int
    norm_sq: float
    trace_cov: float

    @property
    def variance_ratio(self) -> float:
        """tr Cov g / ‖E g‖²: inf when only noise is left, nan when there is no gradient at all."""
        return _ratio(self.trace_cov, self.norm_sq)

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio ‖E g‖² / tr Cov g, the inverse of ``variance_ratio``."""
        ratio = self.variance_ratio
        return math.inf if ratio == 0 else 1 / ratio


def statistics(samples: Tensor) -> GradientStatistics:
    """Mean, ‖E g‖² and tr Cov g of the sampled gradients [K, P], K at least 2.

    >>> round(statistics(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).variance_ratio, 3)
    0.667
    """
    values = _samples(samples)
    count = values.shape[0]
    mean = values.mean(dim=0)
    trace_cov = float((values - mean).square().sum()) / (count - 1)
    return GradientStatistics(mean, count, float(mean.square().sum()) - trace_cov / count, trace_cov)


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two gradients; 0.0 when either is zero.

    >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]))
    1.0
    """
    first, second = _pair(a, b)
    lengths = float(first.norm()), float(second.norm())
    if not all(math.isfinite(length) for length in lengths):
        return math.nan
    if 0.0 in lengths:
        return 0.0
    # Each divided by its own norm first: the product of two tiny norms would underflow.
    return max(-1.0, min(1.0, float((first / lengths[0]) @ (second.to(first.device) / lengths[1]))))


class _Resamples(NamedTuple):
    """Bootstrap draws [B] of ‖E g‖², tr Cov g and ⟨E g, clean⟩."""

    norm_sq: np.ndarray
    trace_cov: np.ndarray
    along: np.ndarray


def _resample(values: Tensor, clean: Tensor | None, resamples: int, seed: int) -> _Resamples:
    """Bootstrap over the K samples through their K×K Gram matrix, so that the cost does not grow with B·P.

    The bootstrap treats the K samples as the population: its E g is their mean, whose squared norm exceeds
    ‖E g‖² by tr Cov/K on average, and its covariance is (K−1)/K of the unbiased one. Both known shifts are
    taken off, so that the draws scatter around the unbiased estimates.
    """
    count = values.shape[0]
    mean = values.mean(dim=0)
    centred = values - mean
    gram = (centred @ centred.T).cpu().numpy()
    towards_mean = (centred @ mean).cpu().numpy()
    mean_sq = float(mean.square().sum())
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    shift_sq = np.einsum("bk,kl,bl->b", weights, gram, weights, optimize=True)
    drawn_mean_sq = mean_sq + 2 * weights @ towards_mean + shift_sq
    drawn_trace = (weights @ np.diag(gram) - shift_sq) * count / (count - 1)
    trace_cov = float(np.trace(gram)) / (count - 1)
    norm_sq = drawn_mean_sq - drawn_trace / count - trace_cov / count
    if clean is None:
        along = np.zeros(resamples)
    else:
        along = float(mean @ clean) + weights @ (centred @ clean).cpu().numpy()
    return _Resamples(norm_sq, drawn_trace * count / (count - 1), along)


def _quantiles(draws: np.ndarray, level: float) -> Interval:
    # Neighbouring order statistics instead of a weighted mean of them, which would be nan between infinities.
    tail = (1 - level) / 2
    low = np.quantile(draws, tail, method="lower")
    high = np.quantile(draws, 1 - tail, method="higher")
    return (float(low), float(high))


def expected_cosine(
    samples: Tensor, clean: Tensor, level: float = 0.95, resamples: int = 400, seed: int = 0
) -> tuple[float, Interval]:
    """cos(E g, g0) with its bootstrap interval over the K samples.

    The norm of E g is the unbiased one: with the norm of the sample mean, noise alone would pull the cosine
    towards zero, the more so the fewer samples. Where E g cannot be told from zero (more of the draws have a
    ‖E g‖² of zero or less than the interval leaves out at one end) it has no direction: nan and (−1, 1). Zero
    gradients give 0.0 and (0.0, 0.0).

    >>> expected_cosine(torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 0.0]]), torch.tensor([1.0, 0.0]))[0]
    1.0
    """
    values = _samples(samples)
    _, direction = _pair(values[0], clean)
    direction = direction.to(values.device)
    length = float(direction.norm())
    estimate = statistics(samples)
    if length == 0 or (estimate.trace_cov == 0 and estimate.norm_sq == 0):
        return 0.0, (0.0, 0.0)
    if not math.isfinite(length) or not math.isfinite(estimate.norm_sq):
        return math.nan, (math.nan, math.nan)
    drawn = _resample(values, direction, resamples, seed)
    signal = drawn.norm_sq > 0
    if estimate.norm_sq <= 0 or np.mean(~signal) > (1 - level) / 2:
        return math.nan, (-1.0, 1.0)
    value = float(estimate.mean @ direction) / (length * math.sqrt(estimate.norm_sq))
    draws = np.clip(drawn.along[signal] / (length * np.sqrt(drawn.norm_sq[signal])), -1, 1)
    # A draw without signal has no direction: it may be anything, so it widens both ends.
    lost = np.count_nonzero(~signal)
    draws = np.concatenate([draws, np.full(lost, -1.0), np.full(lost, 1.0)])
    return max(-1.0, min(1.0, value)), _quantiles(draws, level)


def relative_bias(samples: Tensor, clean: Tensor) -> float:
    """‖E g − g0‖ / ‖g0‖. The Monte-Carlo part tr Cov/K is taken off the squared distance, which is floored at 0.

    With g0 = 0: 0.0 when E g is zero too, otherwise inf.

    >>> relative_bias(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([1.0, 0.0]))
    1.0
    """
    values = _samples(samples)
    _, reference = _pair(values[0], clean)
    distance = math.sqrt(max(statistics(values - reference.to(values.device)).norm_sq, 0.0))
    length = float(reference.norm())
    if length == 0:
        return math.inf if distance > 0 else 0.0
    return distance / length


def variance_interval(samples: Tensor, level: float = 0.95, resamples: int = 400, seed: int = 0) -> Interval:
    """Bootstrap interval of the variance ratio tr Cov g / ‖E g‖²; its upper end is inf where E g may be zero.

    >>> variance_interval(torch.tensor([[2.0, 0.0], [2.0, 0.0]]))
    (0.0, 0.0)
    """
    drawn = _resample(_samples(samples), None, resamples, seed)
    if not np.isfinite(drawn.norm_sq).all() or not drawn.trace_cov.any() and not drawn.norm_sq.any():
        return (math.nan, math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(drawn.norm_sq > 0, drawn.trace_cov / drawn.norm_sq, math.inf)
    return _quantiles(ratios, level)


def truth(objective: Callable[[Tensor], Tensor | float], at: Tensor, direction: Tensor, step: float) -> float:
    """Slope of ``objective`` along a gradient, over the gradient's norm: 1 when it tells the truth.

    The slope is a central difference between ``at`` [P] ± ``step`` · direction/‖direction‖, so ``step`` is
    a length in parameter space; use common random numbers inside ``objective``. A zero direction gives 0.0.

    >>> round(truth(lambda at: at.square().sum(), torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]), 0.01), 3)
    1.0
    """
    checks.number("step", step, above=0)
    _, along = _pair(at, direction)
    length = float(along.norm())
    if length == 0:
        return 0.0
    offset = (step * along / length).to(at).reshape(at.shape)
    with torch.no_grad():
        ahead, behind = (float(torch.as_tensor(objective(at + sign * offset)).detach()) for sign in (1, -1))
    return (ahead - behind) / (2 * step) / length


def dead_fraction(samples: Tensor, tolerance: float = 0.0) -> float:
    """Share of parameters whose gradient is at most ``tolerance`` in magnitude in every sample.

    >>> dead_fraction(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    0.5
    """
    values = _samples(samples, fewest=1)
    return float((values.abs() <= checks.number("tolerance", tolerance, low=0)).all(dim=0).double().mean())


def effective_rank(samples: Tensor) -> float:
    """exp of the entropy of the normalised squared singular values of ``samples`` (not centred); 0.0 for zeros.

    Roy and Vetterli (2007) normalise the singular values themselves; squared, they are shares of energy.

    >>> round(effective_rank(torch.eye(3)), 3)
    3.0
    """
    values = _samples(samples, fewest=1)
    gram = values @ values.T if values.shape[0] <= values.shape[1] else values.T @ values
    energies = torch.linalg.eigvalsh(gram.cpu()).clamp_min(0)
    total = float(energies.sum())
    if total == 0:
        return 0.0
    return float(torch.special.entr(energies / total).sum().exp())


def magnitude_gap(numerator: Iterable[Tensor], denominator: Iterable[Tensor]) -> tuple[float, float]:
    """Decades between the gradients of two groups of parameters (of one replica): log10 of the ratio of their total L2
    norms, and of their root mean squares per parameter.

    inf when only the denominator is zero, −inf when only the numerator is, nan when both are.

    >>> magnitude_gap([torch.tensor([100.0])], [torch.tensor([1.0])])
    (2.0, 2.0)
    """
    groups = [torch.cat([_double(gradient).flatten() for gradient in group]) for group in (numerator, denominator)]
    total = torch.stack([group.square().sum().log10() / 2 for group in groups])
    rms = total - torch.tensor([math.log10(len(group)) / 2 for group in groups]).to(total)
    return float(total[0] - total[1]), float(rms[0] - rms[1])


def flatten(tree: Mapping[str, Tensor]) -> Tensor:
    """One vector [P] of all tensors of a tree, in the tree's order."""
    return torch.cat([value.reshape(-1) for value in tree.values()])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`flatten`: a tree with the names and shapes of ``like``."""
    sizes = [value.numel() for value in like.values()]
    if vector.dim() != 1 or vector.numel() != sum(sizes):
        raise checks.ParameterError(
            f"vector must be of length {sum(sizes)}, but shape {tuple(vector.shape)} was given."
        )
    parts = vector.split(sizes)
    return {name: part.view(value.shape) for (name, value), part in zip(like.items(), parts, strict=True)}
