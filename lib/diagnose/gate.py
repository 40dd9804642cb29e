"""What a gate of your own does, from the gradients of two groups of parameters and from the values that it takes.

A gate is whatever module modulates something per input: a prompt's scale, the router of a mixture of experts, an
adapter's scale, a FiLM layer. What it modulates are the *prompts*: any other group of parameters.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lib import checks, gradients, runtime
from lib.diagnose._shared import cost, one_number, signal
from lib.diagnose.report import Advice, Report
from lib.prompts.diagnosis import gate_statistics
from lib.verdicts import bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Group = nn.Module | Iterable[nn.Parameter]
Loss = Callable[[Any], Tensor]

CONSTANT = 0.01
"""Below this input information a gate is called nearly constant."""
TWINS = {
    "mean": "itself held at its mean",
    "shuffled": "itself shuffled between inputs",
    "blind": "a blind gate of as many parameters",
    "fixed": "the model without a gate",
}
"""What a gate is held against: the first two are the gate's own (dependence), the others are trained apart (gain)."""
UNREACHED = 0.2
"""From this share on, parameters without any gradient are worth an advice: some ReLUs never open, and that is fine."""
EXACT = 1e-3
"""Decades by which the factors of a chain may miss the gap: rounding of float32."""
SELECTS = 1e-3
"""Rows of gate values whose sums lie this close to one are taken for the weights of a choice."""
MEANING = {
    "gap": "log10 of the length of the prompts' gradient over that of the gate's (0: alike)",
    "gap per parameter": "the same by root mean squares, so that group sizes do not count",
    "prompts without any gradient": "parameters that no batch gave a gradient",
    "gate without any gradient": "parameters that no batch gave a gradient",
    "signal of the gate's gradient": "of one batch's: 1 is the same in every batch, 0 nothing but noise",
    "input information": "how much of what the gate could vary follows its input (0: constant)",
    "spread": "standard deviation of a gate value over inputs",
    "saturation": "gate values so near 0 or 1 that hardly a gradient passes",
    "class share": "how much of the gate's variance follows the class",
    "used": "entries in use, by the exponential of the choice's entropy",
}
"""What the measures are; what stands for itself is left out."""


def diagnose_gate(
    loss: Loss,
    *,
    prompts: Group,
    gate: Group,
    inputs: Iterable[Any],
    labels: Callable[[Any], Tensor] | None = None,
    predictions: Mapping[str, Any] | None = None,
    chain: Callable[[Any], Mapping[str, float]] | None = None,
    negligible: float = 0.01,
    limit: int = 16,
    steps: int = 0,
    seed: int = 0,
) -> Report:
    """Is this gate alive, does it look at its input, and is it worth anything? Measured where the parameters stand.

    ``loss(batch)`` gives the mean loss of a batch, one number; ``inputs`` are batches of any kind, of which the first
    ``limit`` are used (intervals are over batches: take several). ``prompts`` and ``gate`` are modules, or parameters.
    Where ``gate`` is a module, what it gives (``[N, ...]``, an entry per input) is watched, and held at its mean and
    shuffled between the inputs of a batch to see whether the loss depends on it. ``labels(batch)`` gives classes [N],
    for the share of the gate that follows them.

    The gap is taken apart. Where the gate is a module: what of it lies between the prompts and the values that the gate
    gives, and what inside the gate. Where more is known of the structure, ``chain(batch)`` gives factors by name, in
    decades; they must add up to the gap of that batch. :func:`~lib.diagnose.learners.learner_parts` gives all of this
    for this library's own prompt learners.

    ``predictions`` are what decides: for each way of running the model on the same test examples an array of what is
    right (1 or 0, [N], or a row a seed [S, N]): "gated" and any of :data:`TWINS`. With "blind" or "fixed" the verdict
    is *useful* (it depends and gains), *co-adapted* (it depends and gains nothing), *idle*, *harmful* or
    *inconclusive*; without, it can only be said whether the loss depends on the gate now. ``negligible`` is the
    difference in the loss, and in the share of right answers, that does not matter.

    Rows of ``table``: measure, value with its 95 % interval, unit. Raises :class:`~lib.checks.ParameterError`.

    >>> gate, body = nn.Sequential(nn.Linear(4, 2), nn.Sigmoid()), nn.Linear(4, 2)
    >>> report = diagnose_gate(
    ...     lambda x: (body(x) * gate(x)).square().mean(), prompts=body, gate=gate, inputs=torch.randn(6, 8, 4).unbind()
    ... )
    >>> report.table["measure"].iloc[0]
    'gap'
    """
    began = time.perf_counter()
    groups = {"prompts": _parameters("prompts", prompts), "gate": _parameters("gate", gate)}
    shared = {id(one) for one in groups["prompts"]} & {id(one) for one in groups["gate"]}
    if shared:
        raise checks.ParameterError(f"prompts and gate must be different, but {len(shared)} parameters are in both.")
    checks.number("negligible", negligible, low=0)
    checks.integer("steps", steps, 0)
    if isinstance(inputs, Tensor | Mapping) or not isinstance(inputs, Iterable):
        raise checks.ParameterError(f"inputs must be several batches, but {type(inputs).__name__} was given.")
    batches = list(islice(inputs, checks.integer("limit", limit, 1)))
    if not batches:
        raise checks.ParameterError("inputs must hold at least one batch, but none was given.")
    worth = None if predictions is None else _worth(predictions)

    gaps, gate_gradients = [], []
    factors: dict[str, list[float]] = {}
    alive = {name: [torch.zeros_like(one, dtype=torch.bool) for one in group] for name, group in groups.items()}
    module = gate if isinstance(gate, nn.Module) else None
    watched = _Watched(module)
    with watched:
        for batch in batches:
            grads, values = _gradients(loss, batch, groups, watched)
            gaps.append(gradients.magnitude_gap(grads["prompts"], grads["gate"]))
            gate_gradients.append(torch.cat([one.detach().flatten().float().cpu() for one in grads["gate"]]))
            for name, group in grads.items():
                alive[name] = [seen | (one != 0) for seen, one in zip(alive[name], group, strict=True)]
            known_factors = _halves(grads, values) if chain is None else _whole(chain(batch), gaps[-1][0])
            for name, factor in known_factors.items():
                factors.setdefault(name, []).append(factor)
    rows = [
        _row("gap", [total for total, _ in gaps], "decades"),
        *(_row(f"of the gap: {name.replace('_', ' ')}", found, "decades") for name, found in factors.items()),
        _row("gap per parameter", [rms for _, rms in gaps], "decades"),
    ]
    dead = {name: 1 - float(torch.cat([one.flatten() for one in seen]).float().mean()) for name, seen in alive.items()}
    rows += [
        {"measure": f"{name} without any gradient", "value": share, "unit": "share"} for name, share in dead.items()
    ]
    if len(batches) > 1:
        share, low, high = signal(torch.stack(gate_gradients))
        ends = {"value_low": low, "value_high": high}
        rows.append({"measure": "signal of the gate's gradient", "value": share, **ends, "unit": "share"})
    known: dict[str, float] = {}
    dependence: dict[str, list[float]] = {}
    passes = 0
    if module is not None:
        values = watched.values()
        known = _values(values, batches, labels)
        rows += [{"measure": name, "value": value, "unit": _UNITS[name]} for name, value in known.items()]
        dependence = _dependence(loss, batches, module, values, seed)
        passes = 3 * len(batches)
        rows += [
            _row(f"loss of {TWINS[name]}, over its own", found, "unit of the loss")
            for name, found in dependence.items()
        ]
    if worth is not None:
        rows += [_row(f"right answers over {TWINS[name]}", found, "share") for name, found in worth.items()]
    table = pd.DataFrame(rows)
    name, sentence = _verdict(table, known, dependence, worth, negligible)
    sizes = {key: sum(one.numel() for one in group) for key, group in groups.items()}
    return Report(
        f"A gate of {sizes['gate']:,} parameters over prompts of {sizes['prompts']:,}",
        sentence,
        name not in ("", "inconclusive"),
        table,
        advice=_advice(name, known, dead),
        notes=_notes(len(batches), factors, {"prompts": prompts, "gate": gate}),
        cost=cost(began, len(batches), passes, steps),
        meaning=MEANING,
        _draw=lambda: _drawn(table),
    )


def _notes(batches: int, factors: Mapping[str, Sequence[float]], groups: Mapping[str, Group]) -> tuple[str, ...]:
    """What is worth a sentence beside the numbers."""
    found = [] if batches > 1 else ["One batch has no interval: give several."]
    means = {name: float(np.mean(values)) for name, values in factors.items()}
    if means:
        largest = max(means, key=lambda name: abs(means[name]))
        size = f"{means[largest]:+.2g}".replace("-", "−")
        found.append(f"The largest factor of the gap is “{largest.replace('_', ' ')}”: {size} decades.")
    for name, group in groups.items():
        if isinstance(group, nn.Module) and (
            frozen := [key for key, one in group.named_parameters() if not one.requires_grad]
        ):
            found.append(f"{len(frozen)} tensors of {name} are frozen and were left out: {', '.join(frozen[:3])}.")
    return tuple(found)


# ------------------------------------------------------------------------------------------------ gradients
def _parameters(name: str, group: Group) -> list[nn.Parameter]:
    found = list(group.parameters() if isinstance(group, nn.Module) else group)
    if any(not isinstance(one, Tensor) for one in found):
        raise checks.ParameterError(f"{name} must be a module or parameters, but {found!r:.60} was given.")
    found = [one for one in found if one.requires_grad]
    if not found:
        raise checks.ParameterError(f"{name} must have a trainable parameter, but none requires a gradient.")
    return found


def _gradients(
    loss: Loss, batch: Any, groups: Mapping[str, list[nn.Parameter]], watched: _Watched
) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """Gradients of a batch's loss: for both groups, and for what the gate gave on the way (none that was not used)."""
    watched.given.clear()
    value = one_number(loss(batch))
    given = [one for one in watched.given if one.requires_grad]
    every = [*(one for group in groups.values() for one in group), *given]
    if not value.requires_grad:
        raise checks.ParameterError(
            "loss must depend on prompts and gate, but its gradient is cut off (detached, or under no_grad)."
        )
    found = iter(torch.autograd.grad(value, every, allow_unused=True))
    out = {}
    for name, group in groups.items():
        own = [next(found) for _ in group]
        if all(one is None for one in own):
            raise checks.ParameterError(
                f"{name} must have a gradient path to the loss, but none of its {len(group)} parameters has one: is it "
                "used, and is what it gives detached on the way?"
            )
        out[name] = [torch.zeros_like(one) if g is None else g for g, one in zip(own, group, strict=True)]
    return out, [one for one in found if one is not None]


def _halves(grads: Mapping[str, Sequence[Tensor]], values: Sequence[Tensor]) -> dict[str, float]:
    """The gap in two, at the gradient of what the gate gives; nothing where that is not known, or nothing arrives."""
    norms = [
        float(torch.cat([one.detach().double().flatten().cpu() for one in group]).norm())
        for group in (grads["prompts"], values, grads["gate"])
        if group
    ]
    if len(norms) < 3 or not all(norms):
        return {}
    before, between, after = (math.log10(norm) for norm in norms)
    return {"from the prompts to the gate's values": before - between, "inside the gate": between - after}


def _whole(factors: Mapping[str, float], gap: float) -> dict[str, float]:
    """The factors of a chain, if they add up to the gap (or it has no end)."""
    found = {name: float(value) for name, value in factors.items()}
    if math.isfinite(gap) and not abs(sum(found.values()) - gap) <= EXACT:
        raise checks.ParameterError(
            f"chain must give factors that add up to the gap of {gap:.4g} decades, but {sum(found.values()):.4g} was"
            " given."
        )
    return found


# ------------------------------------------------------------------------------------------------ values
class _Watched:
    """Keeps what a module gives, until the block ends; ``given`` is what it gave last, with its graph."""

    def __init__(self, module: nn.Module | None) -> None:
        self._module, self._kept = module, list[Tensor]()
        self.given = list[Tensor]()

    def __enter__(self) -> None:
        def keep(_: nn.Module, __: Any, given: Any) -> None:
            if not isinstance(given, Tensor) or given.dim() < 1:
                raise checks.ParameterError(
                    f"gate must give a tensor [N, ...], an entry per input, but {type(given).__name__} was given; "
                    "give its parameters instead of the module to leave its values out."
                )
            self._kept.append(given.detach())
            self.given.append(given)

        self._handle = None if self._module is None else self._module.register_forward_hook(keep)

    def __exit__(self, *_: object) -> None:
        self.given.clear()
        if self._handle is not None:
            self._handle.remove()

    def values(self) -> list[Tensor]:
        """What it gave to every batch [N, ...]."""
        if not self._kept:
            raise checks.ParameterError("gate must be called by the loss, but the module was never called.")
        return self._kept


_UNITS = {
    "input information": "share",
    "spread": "as the gate",
    "saturation": "share",
    "class share": "share",
    "used": "entries",
    "mean": "as the gate",
}


def _values(
    values: Sequence[Tensor], batches: Sequence[Any], labels: Callable[[Any], Tensor] | None
) -> dict[str, float]:
    """How much the gate depends on its input: all of :func:`~lib.prompts.diagnosis.gate_statistics` for values from
    0 to 1, else what needs no scale.
    """
    rows = torch.cat([one.float().flatten(1) if one.dim() > 1 else one.float()[:, None] for one in values]).cpu()
    classes = torch.zeros(len(rows), dtype=torch.long)
    if labels is not None:
        classes = torch.cat([torch.as_tensor(labels(batch)).cpu().long().flatten() for batch in batches])
        if len(classes) != len(rows):
            raise checks.ParameterError(
                f"labels must be one for each of {len(rows)} gate values, but {len(classes)} were given."
            )
    spread = {"spread": float(rows.std(0, unbiased=False).mean()), "mean": float(rows.mean())}
    if bool(((rows < -1e-6) | (rows > 1 + 1e-6)).any()):
        return spread
    selects = rows.shape[1] > 1 and bool(((rows.sum(1) - 1).abs() < SELECTS).all())
    found = gate_statistics(rows, classes, selects)
    out = {"input information": found["information"], **spread}
    out |= {"used": found["used"]} if selects else {"saturation": found["saturation"]}
    return out if labels is None else out | {"class share": found["class_share"]}


@contextlib.contextmanager
def _held(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The module gives something else, until the block ends."""
    handle = module.register_forward_hook(lambda _, __, given: change(given))
    try:
        yield
    finally:
        handle.remove()


def _dependence(
    loss: Loss, batches: Sequence[Any], module: nn.Module, values: Sequence[Tensor], seed: int
) -> dict[str, list[float]]:
    """By how much the loss of every batch rises where the gate is held at its mean over all inputs, or shuffled."""
    mean = torch.cat([one.float() for one in values]).mean(0)
    source = runtime.stream(seed, "shuffled")

    def shuffled(given: Tensor) -> Tensor:
        if len(given) < 2:
            return given
        return given[runtime.derangement(len(given), source).to(given.device)]

    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": lambda given: mean.to(given).expand_as(given),
        "shuffled": shuffled,
    }
    found: dict[str, list[float]] = {name: [] for name in changes}
    with torch.no_grad():
        for batch in batches:
            own = float(one_number(loss(batch)))
            for name, change in changes.items():
                with _held(module, change):
                    found[name].append(float(one_number(loss(batch))) - own)
    return found


# ------------------------------------------------------------------------------------------------ worth
def _worth(predictions: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """By how much the gated model is right more often than each of the others: a number per seed, or per example."""
    for name in predictions:
        checks.choice("predictions", name, ("gated", *TWINS))
    if "gated" not in predictions or len(predictions) < 2:
        given = ", ".join(predictions) or "none"
        raise checks.ParameterError(
            f"predictions must be of gated and of one out of {', '.join(TWINS)}, but {given} was given."
        )
    found = {name: np.asarray(one, dtype=float) for name, one in predictions.items()}
    gated = found.pop("gated")
    for name, one in found.items():
        if one.shape != gated.shape or gated.ndim not in (1, 2) or not gated.size:
            raise checks.ParameterError(
                f"predictions must be arrays of one shape [N] or [S, N], but {gated.shape} and {one.shape} were given."
            )
        if not np.isfinite(one).all() or not np.isfinite(gated).all():
            raise checks.ParameterError(f"predictions must be finite, but {name} or gated has a number that is not.")
    differences = {name: gated - one for name, one in found.items()}
    return {name: one.mean(1) if one.ndim == 2 else one for name, one in differences.items()}


def _row(measure: str, samples: Sequence[float] | np.ndarray, unit: str) -> dict[str, Any]:
    low, high = bootstrap(samples)
    return {"measure": measure, "value": float(np.mean(samples)), "value_low": low, "value_high": high, "unit": unit}


def _over(samples: Sequence[float] | np.ndarray, threshold: float) -> bool | None:
    """Is the mean above the threshold, by its whole interval? None: the interval lies on both sides."""
    low, high = bootstrap(samples)
    if low > threshold:
        return True
    return False if high <= threshold else None


def _verdict(
    table: pd.DataFrame,
    known: Mapping[str, float],
    dependence: Mapping[str, Sequence[float]],
    worth: Mapping[str, np.ndarray] | None,
    negligible: float,
) -> tuple[str, str]:
    """Its name and one sentence."""
    gap, low, high = (float(table.iloc[0].get(name, math.nan)) for name in ("value", "value_low", "value_high"))
    said = f"The gate's gradient is {abs(gap):.1f} decades {'smaller' if gap >= 0 else 'larger'} than the prompts'"
    if low < 0 < high:
        said = "Whether the gate's gradient is smaller than the prompts' these batches leave open"
    if math.isinf(gap):
        said = f"{'The gate gets' if gap > 0 else 'The prompts get'} no gradient at all"
    if "input information" in known and known["input information"] < CONSTANT:
        said += ", and it is nearly constant over its inputs"
    own = {name: worth[name] for name in ("mean", "shuffled") if worth and name in worth} or dependence
    depends = [_over(samples, negligible) for samples in own.values()]
    needs = None if not depends or None in depends and False not in depends else all(depends)
    gains = [_over(worth[name], negligible) for name in ("blind", "fixed") if worth and name in worth]
    if worth and "fixed" in worth and _over(-worth["fixed"], negligible):
        return "harmful", f"Harmful: the model is better without the gate. {said}."
    if not depends:
        return "", f"{said}; whether anything depends on it was not measured."
    if needs is False:
        return "idle", f"Idle: held at its mean or shuffled, the gate does as well. {said}."
    if needs is None:
        return "inconclusive", f"Inconclusive: the intervals leave open whether anything depends on the gate. {said}."
    if not gains:
        return "depends", f"The model depends on its gate; whether it gains by it takes predictions of twins. {said}."
    if False in gains:
        return "co-adapted", f"Co-adapted: the model needs its gate, and does no better than without one. {said}."
    if None in gains:
        return "inconclusive", f"Inconclusive: it depends on its gate, and may or may not gain by it. {said}."
    return "useful", f"Useful: the model depends on its gate, and gains by it. {said}."


def _advice(name: str, known: Mapping[str, float], dead: Mapping[str, float]) -> tuple[Advice, ...]:
    """What to try next, by the verdict; first of all, what no training can mend."""
    unreached = [
        Advice(
            f"{100 * share:.2g} % of the parameters of the {group} get no gradient from any of these batches: are they"
            " used, are they ever chosen, are these the right tokens?"
        )
        for group, share in dead.items()
        if share > UNREACHED
    ]
    found = [
        Advice("Do not judge the gate by its gap: that tells nothing of what it will gain.", "predictors.before.gap")
    ]
    if name in ("idle", "inconclusive", ""):
        found += [
            Advice(
                "Train for longer, with Adam for the gate, before you call it dead.",
                "escape.adaptive.adam_for_the_gate",
            ),
            Advice("Whiten what the gate sees, or scale it up.", "escape.adaptive.whitened_feature"),
        ]
    if known.get("input information", 1.0) < CONSTANT:
        text = "A constant gate before training is where gates begin, and no sign of collapse."
        found.append(Advice(text, "gate_degradation.constant.before"))
    if name == "depends":
        text = "Train a blind twin and a model without a gate, equally well, and give their predictions."
        found.insert(0, Advice(text, "fair_trial.many.depends"))
    if name == "co-adapted":
        found.insert(
            0, Advice("Drop the gate: what grew used to it does as well without.", "fair_trial.many.over_blind")
        )
    if name == "harmful":
        found.insert(0, Advice("Drop the gate: the model is better without."))
    if name == "useful":
        found = [Advice("Keep the gate.", "fair_trial.planted.control.over_fixed")]
    return (*unreached, *found)


def _drawn(table: pd.DataFrame) -> Figure:
    """What the gate is held against: differences with their intervals."""
    from matplotlib.figure import Figure

    own = table[table["measure"].str.contains(" over ")]
    own = own if len(own) else table
    figure = Figure(figsize=(7, 0.8 + 0.45 * len(own)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(own.to_dict("records")):
        axis.plot([row["value_low"], row["value_high"]], [place, place], color="#0072B2", linewidth=3)
        axis.plot(row["value"], place, "o", color="#0072B2")
    axis.axvline(0, color="#767676", linewidth=1)
    axis.set_yticks(range(len(own)), own["measure"])
    axis.set_ylim(len(own) - 0.5, -0.5)
    axis.set_xlabel("; ".join(dict.fromkeys(own["unit"])))
    return figure
