"""Many trainings as one batched program.

A replica is one training: its own parameters, its own data, noise and settings. Replicas are stacked along
the first dimension, the loss is written for one of them, and ``torch.func.vmap`` runs all of them together.
No operation mixes replicas, so each gets the numbers (to rounding) that it would get alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib import checks, runtime

Tree = dict[str, Tensor]
#: A tree of any depth, with tensors at its leaves.
Nested = dict[str, Any]
Path = tuple[str, ...]
Rates = Mapping[str, float | Tensor]


def flat(tree: Nested, at: Path = ()) -> dict[Path, Tensor]:
    """The leaves of a tree by their paths, in its order."""
    found: dict[Path, Tensor] = {}
    for name, value in tree.items():
        found |= flat(value, (*at, name)) if isinstance(value, dict) else {(*at, name): value}
    return found


def nested(leaves: Mapping[Path, Tensor]) -> Nested:
    """The tree of these leaves: undoes :func:`flat`."""
    tree: Nested = {}
    for path, value in leaves.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = value
    return tree


def mapped(function: Callable[[Tensor], Tensor], tree: Nested) -> Nested:
    """The tree with ``function`` of every leaf."""
    return {
        name: mapped(function, value) if isinstance(value, dict) else function(value) for name, value in tree.items()
    }


def stack(trees: Sequence[Nested]) -> Nested:
    """One tree with the replicas along a new first dimension; all trees need the same names and shapes.

    >>> stack([{"w": torch.zeros(2)}, {"w": torch.ones(2)}])["w"].shape
    torch.Size([2, 2])
    """
    if not trees:
        raise checks.ParameterError("replicas must be at least one tree of tensors, but none was given.")
    several = [flat(tree) for tree in trees]
    names = list(several[0])
    for leaves in several:
        if set(leaves) != set(names):
            raise checks.ParameterError(
                f"replicas must be trees with the same names ({_said(names)}), "
                f"but one with {_said(leaves) or 'no names'} was given."
            )
    return _stacked(trees)


def _stacked(trees: Sequence[Nested]) -> Nested:
    # Branch by branch: an empty one stays.
    return {
        name: _stacked([tree.get(name, {}) for tree in trees])
        if isinstance(value, dict)
        else torch.stack([tree[name] for tree in trees])
        for name, value in trees[0].items()
    }


def _said(paths: Iterable[Path]) -> str:
    return ", ".join(" > ".join(path) for path in paths)


def unstack(tree: Nested, i: int) -> Nested:
    """Replica ``i`` of a stacked tree.

    >>> unstack({"w": torch.arange(3)}, 1)["w"]
    tensor(1)
    """
    return mapped(lambda value: value[i], tree)


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
    epoch: int = 1
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
        checks.integer("epoch", self.epoch, low=1)
        if len(checks.numbers("betas", self.betas, low=0, high=1)) != 2:
            raise checks.ParameterError(f"betas must be two numbers from 0 to 1, but {self.betas!r} was given.")
        checks.number("eps", self.eps, above=0)

    def rate_at(self, step: int) -> float:
        """Learning rate of update ``step`` (from 0): ``warmup_rate`` during the warm-up, then half a cosine
        from ``rate`` towards 0, or ``rate`` throughout when ``cosine`` is off. It changes every ``epoch`` steps.

        With epochs of several steps it is the schedule of Dassl, CoOp's library: the cosine would take all ``steps``,
        so that the warm-up cuts off its end.
        """
        step -= step % self.epoch
        if step < self.warmup_steps:
            return self.warmup_rate
        if not self.cosine:
            return self.rate
        length = self.steps if self.epoch > 1 else self.steps - self.warmup_steps
        done = (step - self.warmup_steps) / max(length, 1)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class _State:
    """The optimiser's memory: element-wise on stacked tensors, so replicas stay apart."""

    def __init__(self, optimiser: Callable[[Path], Optimiser], params: Mapping[Path, Tensor]) -> None:
        self.optimiser = optimiser
        self.first = {name: torch.zeros_like(value) for name, value in params.items()}
        second = [name for name in params if optimiser(name).name == "adam"]
        self.second = {name: torch.zeros_like(params[name]) for name in second}

    def change(self, name: Path, param: Tensor, gradient: Tensor, step: int) -> Tensor:
        """What the update subtracts, before the learning rate."""
        optimiser = self.optimiser(name)
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
    gradients: Nested
    params: Nested
    inputs: Nested
    aux: Any = None


@dataclass
class Training:
    """Final parameters [R, ...], losses [steps, R] on the CPU (nan from divergence on), and the step at which
    each replica diverged [R] (-1: never).
    """

    params: Nested
    losses: Tensor
    diverged_at: Tensor


def _along(replicas: Tensor, like: Tensor) -> Tensor:
    """A tensor [R] shaped to broadcast against ``like`` [R, ...]."""
    return replicas.reshape(-1, *(1,) * (like.dim() - 1))


def _multipliers(rates: Rates | None, params: Nested, count: int) -> dict[Path, float | Tensor]:
    rates = rates or {}
    for name, rate in rates.items():
        checks.choice("rates", name, params)
        if isinstance(rate, Tensor) and rate.dim() > 0 and rate.shape != (count,):
            raise checks.ParameterError(
                f"rates[{name!r}] must be a number or one number for each of {count} replicas, "
                f"but shape {tuple(rate.shape)} was given."
            )
    multipliers: dict[Path, float | Tensor] = {}
    for path, value in flat(params).items():
        rate = rates.get(path[0], 1.0)
        many = isinstance(rate, Tensor) and rate.dim() > 0
        multipliers[path] = _along(rate.to(value), value) if many else float(rate)  # type: ignore[union-attr]
    return multipliers


def _finite(value: Tensor) -> Tensor:
    """[R]: is every entry of the replica finite? A largest magnitude is one reduction and keeps nan and inf."""
    flat = value.reshape(value.shape[0], -1)
    return torch.linalg.vector_norm(flat, ord=math.inf, dim=1).isfinite()


def moved(before: Nested, after: Nested) -> Tensor:
    """How far training has moved each replica's parameters [R]: the norm of the change over that of ``before``."""
    start, end = (torch.cat([value.flatten(1) for value in flat(tree).values()], 1) for tree in (before, after))
    return ((end - start).norm(dim=1) / start.norm(dim=1)).cpu()


def train(
    loss: Callable[[Nested, Nested], Tensor | tuple[Tensor, Any]],
    params: Nested,
    draw: Callable[[int], Nested],
    optimiser: Optimiser,
    *,
    others: Mapping[str, Optimiser] | None = None,
    rates: Rates | Callable[[int], Rates] | None = None,
    adjust: Callable[[Nested], Nested] | None = None,
    record: Callable[[Step], None] | None = None,
    record_at: Collection[int] = (),
    has_aux: bool = False,
    chunk: int | None = None,
    label: str = "training",
) -> Training:
    """Train all replicas for ``optimiser.steps`` updates; ``others`` are optimisers of named parameters (or branches).

    ``loss(params, inputs)`` is written for one replica and returns a scalar (with ``has_aux``: a scalar and
    an extra of tensors). ``params`` [R, ...] are the stacked initial values, left untouched. ``draw(step)``
    gives the inputs of all replicas [R, ...] on the device of ``params``: noise, batches, settings. Both are trees
    of any depth. ``rates`` multiplies the learning rate of named parameters (or branches of them), for all replicas or
    one number each; it may be a function of the step. ``adjust`` changes the gradients [R, ...] before the optimiser
    sees them. ``record`` is called before the update at every step in ``record_at``. ``chunk`` bounds how many
    replicas are differentiated at once (memory).

    A replica whose loss, gradient or next parameters are not finite stays at its last finite parameters; the
    others do not notice.

    >>> start, nothing = {"w": torch.tensor([1.0, -2.0])}, {"x": torch.zeros(2)}
    >>> done = train(lambda own, _: own["w"] ** 2, start, lambda step: nothing, Optimiser("sgd", 0.1, 100))
    >>> bool((done.params["w"].abs() < 0.1).all())
    True
    """
    current = {path: value.detach().clone() for path, value in flat(params).items()}
    if not current:
        raise checks.ParameterError("params must be at least one stacked tensor, but none was given.")
    counts = {" > ".join(path): value.shape[0] if value.dim() else 0 for path, value in current.items()}
    count = next(iter(counts.values()))
    if count < 1 or set(counts.values()) != {count}:
        raise checks.ParameterError(f"params must be stacked with one number of replicas, but {counts} was given.")
    if chunk is not None:
        checks.integer("chunk", chunk, low=1)
    multipliers = {} if callable(rates) else _multipliers(rates, params, count)
    for name in others or {}:
        checks.choice("others", name, params)

    def own(path: Path) -> Optimiser:
        return (others or {}).get(path[0], optimiser)

    state = _State(own, current)
    device = next(iter(current.values())).device
    diverged_at = torch.full((count,), -1, dtype=torch.long, device=device)
    losses: list[Tensor] = []
    recorded = frozenset(record_at) if record is not None else frozenset()
    differentiate = torch.func.vmap(torch.func.grad_and_value(loss, has_aux=has_aux), chunk_size=chunk)

    with runtime.progress(optimiser.steps, label) as advance, torch.no_grad():
        for index in range(optimiser.steps):
            inputs = draw(index)
            tree = nested(current)
            gradients, value = differentiate(tree, inputs)
            value, aux = value if has_aux else (value, None)
            if record is not None and index in recorded:
                record(Step(index, value, gradients, tree, inputs, aux))
            if adjust is not None:
                gradients = adjust(gradients)
            if callable(rates):
                multipliers = _multipliers(rates(index), params, count)
            slopes = flat(gradients)
            # A gradient that is not finite makes the next parameters not finite: one check covers both.
            healthy = value.isfinite()
            proposed: dict[Path, Tensor] = {}
            for path, old in current.items():
                change = state.change(path, old, slopes[path], index)
                proposed[path] = old - own(path).rate_at(index) * multipliers[path] * change
                healthy = healthy & _finite(proposed[path])
            diverged_at = torch.where((diverged_at < 0) & ~healthy, index, diverged_at)
            active = diverged_at < 0
            # To ask is cheap on a CPU, where selection is not; a GPU would have to be waited for.
            if device.type == "cpu" and active.all():
                current = proposed
            else:
                # Selection, not multiplication by zero: 0 * nan would be nan.
                current = {path: torch.where(_along(active, new), new, current[path]) for path, new in proposed.items()}
            losses.append(torch.where(active, value, torch.nan))
            advance(1)
    return Training(nested(current), torch.stack(losses).cpu(), diverged_at.cpu())
