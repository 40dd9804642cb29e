"""Many trainings as one batched program.

A replica is one training: its own parameters, its own data, noise and settings. Replicas are stacked along
the first dimension, the loss is written for one of them, and ``torch.func.vmap`` runs all of them together.
No operation mixes replicas, so each gets the numbers (to rounding) that it would get alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib import checks, runtime

Tree = dict[str, Tensor]
Rates = Mapping[str, float | Tensor]


def stack(trees: Sequence[Tree]) -> Tree:
    """One tree with the replicas along a new first dimension; all trees need the same names and shapes."""
    if not trees:
        raise checks.ParameterError("replicas must be at least one tree of tensors, but none was given.")
    names = list(trees[0])
    for tree in trees:
        if set(tree) != set(names):
            raise checks.ParameterError(
                f"replicas must be trees with the same names ({', '.join(names)}), "
                f"but one with {', '.join(tree) or 'no names'} was given."
            )
    return {name: torch.stack([tree[name] for tree in trees]) for name in names}


def unstack(tree: Tree, i: int) -> Tree:
    """Replica ``i`` of a stacked tree."""
    return {name: value[i] for name, value in tree.items()}


@dataclass(frozen=True)
class Optimiser:
    """SGD with momentum or Adam, with the arithmetic of ``torch.optim``, and a learning-rate schedule.

    ``rate`` is the peak learning rate, ``steps`` the number of updates. ``weight_decay`` is added to the
    gradient (L2), as ``torch.optim.SGD`` and ``torch.optim.Adam`` do.
    """

    name: str
    rate: float
    steps: int
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_steps: int = 0
    warmup_rate: float = 1e-5
    cosine: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        checks.choice("optimiser", self.name, ("sgd", "adam"))
        checks.number("rate", self.rate, above=0)
        checks.integer("steps", self.steps, low=1)
        checks.number("momentum", self.momentum, low=0, high=1)
        checks.number("weight_decay", self.weight_decay, low=0)
        checks.integer("warmup_steps", self.warmup_steps, low=0, high=self.steps)
        checks.number("warmup_rate", self.warmup_rate, low=0)
        checks.flag("cosine", self.cosine)
        if len(checks.numbers("betas", self.betas, low=0, high=1)) != 2:
            raise checks.ParameterError(f"betas must be two numbers from 0 to 1, but {self.betas!r} was given.")
        checks.number("eps", self.eps, above=0)

    def rate_at(self, step: int) -> float:
        """Learning rate of update ``step`` (from 0): ``warmup_rate`` during the warm-up, then half a cosine
        from ``rate`` towards 0, or ``rate`` throughout when ``cosine`` is off.
        """
        if step < self.warmup_steps:
            return self.warmup_rate
        if not self.cosine:
            return self.rate
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class _State:
    """The optimiser's memory: element-wise on stacked tensors, so replicas stay apart."""

    def __init__(self, optimiser: Optimiser, params: Tree) -> None:
        self.optimiser = optimiser
        self.first = {name: torch.zeros_like(value) for name, value in params.items()}
        second = params if optimiser.name == "adam" else {}
        self.second = {name: torch.zeros_like(value) for name, value in second.items()}

    def change(self, name: str, param: Tensor, gradient: Tensor, step: int) -> Tensor:
        """What the update subtracts, before the learning rate."""
        optimiser = self.optimiser
        if optimiser.weight_decay:
            gradient = gradient + optimiser.weight_decay * param
        if optimiser.name == "sgd":
            return self.first[name].mul_(optimiser.momentum).add_(gradient)
        beta1, beta2 = optimiser.betas
        first = self.first[name].lerp_(gradient, 1 - beta1)
        second = self.second[name].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # torch.optim.Adam folds the first bias correction into the rate and adds eps after the second.
        spread = (second.sqrt() / math.sqrt(1 - beta2 ** (step + 1))).add_(optimiser.eps)
        return first / spread / (1 - beta1 ** (step + 1))


@dataclass(frozen=True)
class Step:
    """What ``record`` sees: losses [R], gradients and parameters before the update [R, ...], the inputs that
    were drawn, the loss's extra.
    """

    index: int
    loss: Tensor
    gradients: Tree
    params: Tree
    inputs: Tree
    aux: Any = None


@dataclass
class Training:
    """Final parameters [R, ...], losses [steps, R] on the CPU (nan from divergence on), and the step at which
    each replica diverged [R] (-1: never).
    """

    params: Tree
    losses: Tensor
    diverged_at: Tensor


def _along(replicas: Tensor, like: Tensor) -> Tensor:
    """A tensor [R] shaped to broadcast against ``like`` [R, ...]."""
    return replicas.reshape(-1, *(1,) * (like.dim() - 1))


def _multipliers(rates: Rates | None, params: Tree, count: int) -> dict[str, float | Tensor]:
    multipliers: dict[str, float | Tensor] = dict.fromkeys(params, 1.0)
    for name, rate in (rates or {}).items():
        checks.choice("rates", name, params)
        if isinstance(rate, Tensor) and rate.dim() > 0:
            if rate.shape != (count,):
                raise checks.ParameterError(
                    f"rates[{name!r}] must be a number or one number for each of {count} replicas, "
                    f"but shape {tuple(rate.shape)} was given."
                )
            multipliers[name] = _along(rate.to(params[name]), params[name])
        else:
            multipliers[name] = float(rate)
    return multipliers


def _finite(value: Tensor) -> Tensor:
    """[R]: is every entry of the replica finite? A largest magnitude is one reduction and keeps nan and
    inf.
    """
    flat = value.reshape(value.shape[0], -1)
    return torch.linalg.vector_norm(flat, ord=math.inf, dim=1).isfinite()


def train(
    loss: Callable[[Tree, Tree], Tensor | tuple[Tensor, Any]],
    params: Tree,
    draw: Callable[[int], Tree],
    optimiser: Optimiser,
    *,
    rates: Rates | Callable[[int], Rates] | None = None,
    adjust: Callable[[Tree], Tree] | None = None,
    record: Callable[[Step], None] | None = None,
    record_at: Collection[int] = (),
    has_aux: bool = False,
    chunk: int | None = None,
    label: str = "training",
) -> Training:
    """Train all replicas for ``optimiser.steps`` updates.

    ``loss(params, inputs)`` is written for one replica and returns a scalar (with ``has_aux``: a scalar and
    an extra of tensors). ``params`` [R, ...] are the stacked initial values, left untouched. ``draw(step)``
    gives the inputs of all replicas [R, ...] on the device of ``params``: noise, batches, settings.
    ``rates`` multiplies the learning rate of named parameters, for all replicas or one number each; it may be a
    function of the step. ``adjust`` changes the gradients [R, ...] before the optimiser sees them.
    ``record`` is called before the update at every step in ``record_at``. ``chunk`` bounds how many
    replicas are differentiated at once (memory).

    A replica whose loss, gradient or next parameters are not finite stays at its last finite parameters; the
    others do not notice.
    """
    if not params:
        raise checks.ParameterError("params must be at least one stacked tensor, but none was given.")
    counts = {name: value.shape[0] if value.dim() else 0 for name, value in params.items()}
    count = next(iter(counts.values()))
    if count < 1 or set(counts.values()) != {count}:
        raise checks.ParameterError(f"params must be stacked with one number of replicas, but {counts} was given.")
    if chunk is not None:
        checks.integer("chunk", chunk, low=1)
    current = {name: value.detach().clone() for name, value in params.items()}
    multipliers = {} if callable(rates) else _multipliers(rates, current, count)
    state = _State(optimiser, current)
    device = next(iter(current.values())).device
    diverged_at = torch.full((count,), -1, dtype=torch.long, device=device)
    losses: list[Tensor] = []
    recorded = frozenset(record_at) if record is not None else frozenset()
    differentiate = torch.func.vmap(torch.func.grad_and_value(loss, has_aux=has_aux), chunk_size=chunk)

    with runtime.progress(optimiser.steps, label) as advance, torch.no_grad():
        for index in range(optimiser.steps):
            inputs = draw(index)
            gradients, value = differentiate(current, inputs)
            value, aux = value if has_aux else (value, None)
            if record is not None and index in recorded:
                record(Step(index, value, gradients, current, inputs, aux))
            if adjust is not None:
                gradients = adjust(gradients)
            if callable(rates):
                multipliers = _multipliers(rates(index), current, count)
            rate = optimiser.rate_at(index)
            # A gradient that is not finite makes the next parameters not finite: one check covers both.
            healthy = value.isfinite()
            proposed: Tree = {}
            for name, old in current.items():
                change = state.change(name, old, gradients[name], index)
                proposed[name] = old - rate * multipliers[name] * change
                healthy = healthy & _finite(proposed[name])
            diverged_at = torch.where((diverged_at < 0) & ~healthy, index, diverged_at)
            active = diverged_at < 0
            # Selection, not multiplication by zero: 0 * nan would be nan.
            current = {name: torch.where(_along(active, new), new, current[name]) for name, new in proposed.items()}
            losses.append(torch.where(active, value, torch.nan))
            advance(1)
    return Training(current, torch.stack(losses).cpu(), diverged_at.cpu())
