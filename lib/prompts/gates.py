"""Gates: small networks that look at a picture's frozen feature and change the prompts.

g(x) = activation(MLP(feature of x)). Most gates scale learned prompts, one unit per token ("length"), per layer
("depth") or per token of every layer ("both"); selection gates mix the entries of a pool of prompts. Beside them stand
the controls that a diagnosis must tell apart: a gate that cannot look at the picture ("constant"), one that looks at
another picture ("shuffled"), one that is told the answer ("oracle") and one that starts where its gradient is larger
than the prompts' ("tanh").

A gate of your own is a subclass of :class:`Gate` with an entry in :data:`GATES`; most need nothing but ``units`` and
``spread``, and one that is to learn from more than the task needs a ``loss``. Symbols: U units, F feature width,
L layers, M tokens, d prompt width, E pool entries; ``...`` are any leading dimensions (pictures).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lib import checks
from lib.registry import Registry
from lib.replicas import Tree


def linear_init(rows: int, columns: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight [rows, columns] and bias [rows] as ``torch.nn.Linear`` draws them: U(-1, 1) / sqrt(columns)."""
    bound = 1 / math.sqrt(columns)
    weight = torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(rows).uniform_(-bound, bound, generator=generator)


class Gate:
    """Linear - ReLU - Linear - sigmoid on the unit image feature, scaling prompts.

    ``layers`` and ``tokens`` are those of the prompts, ``features`` the width of the image feature, ``pool`` the number
    of entries that a selection gate chooses from.
    """

    #: Does it choose from a pool of prompts? Does it see another picture than its own?
    selects: ClassVar[bool] = False
    shuffled: ClassVar[bool] = False
    #: Is it told the cue in training? Does it learn from :meth:`loss` alone and nothing from the task?
    supervised: ClassVar[bool] = False
    apart: ClassVar[bool] = False
    #: Does training draw noise for it? Do all other measurements draw it too?
    noisy: ClassVar[bool] = False
    random: ClassVar[bool] = False
    #: Does it emit nothing but whole choices, so that a mean is none of its values?
    hard: ClassVar[bool] = False
    #: Does it act on layers, so that learners with shallow prompts take deep ones for it?
    deep: ClassVar[bool] = False

    def __init__(self, kind: str, layers: int, tokens: int, features: int, *, pool: int = 1, hidden: int = 32) -> None:
        self.kind, self.layers, self.tokens, self.features, self.pool = kind, layers, tokens, features, pool
        self.hidden = checks.integer("hidden", hidden, 1)

    # The network -----------------------------------------------------------------------------------
    @property
    def units(self) -> int:
        """U, the number of gate outputs per picture."""
        raise NotImplementedError

    @property
    def entry(self) -> int:
        """How many tokens are learned in a layer, or in an entry of the pool."""
        return self.tokens

    def initial(self, generator: torch.Generator) -> Tree:
        """Fresh parameters; every name begins with "gate."."""
        w1, b1 = linear_init(self.hidden, self.features, generator)
        w2, b2 = linear_init(self.units, self.hidden, generator)
        return {"gate.w1": w1, "gate.b1": b1, "gate.w2": w2, "gate.b2": b2}

    def preactivation(self, params: Tree, features: Tensor) -> Tensor:
        """Features [..., F] -> pre-activations [..., U]."""
        hidden = torch.relu(features @ params["gate.w1"].T + params["gate.b1"])
        return hidden @ params["gate.w2"].T + params["gate.b2"]

    def activate(self, z: Tensor) -> Tensor:
        """Pre-activations [..., U] -> gate values [..., U]."""
        return torch.sigmoid(z)

    def openness(self, values: Tensor) -> Tensor:
        """Gate values on a scale from 0 (shut) to 1 (open), for statistics."""
        return values

    def typical(self, values: Tensor) -> Tensor:
        """The one value [U] at which it is held still, of its values [N, U] on N pictures: their mean."""
        return values.mean(0)

    def loss(self, z: Tensor, batch: Tree) -> Tensor:
        """What it adds to the loss of a batch [] (nats): nothing. ``z`` [B, U] are its pre-activations without noise,
        ``batch`` holds "features" [B, F], "labels" [B] and, for a supervised gate, "cue" [B].
        """
        return z.new_zeros(())

    # What it does to prompts -----------------------------------------------------------------------
    def spread(self, values: Tensor) -> Tensor:
        """Gate values [..., U] laid over the prompts, broadcastable to [..., L, M, 1]."""
        raise NotImplementedError

    def collect(self, prompts: Tensor) -> Tensor:
        """The adjoint of :meth:`spread`: sums [..., L, M] over what each unit scales -> [..., U]."""
        pulled = torch.zeros(self.units, dtype=prompts.dtype, device=prompts.device)
        like = prompts.reshape(-1, self.layers, self.tokens)

        def one(part: Tensor) -> Tensor:
            _, pull = torch.func.vjp(lambda v: self.spread(v)[..., 0].expand(self.layers, self.tokens), pulled)  # type: ignore[misc]
            return pull(part)[0]

        return torch.func.vmap(one)(like).reshape(*prompts.shape[:-2], self.units)

    def apply(self, values: Tensor, prompts: Tensor) -> Tensor:
        """Gate values [..., U] and prompts [L, M, d] -> the prompts of each picture [..., L, M, d]."""
        return self.spread(values) * prompts

    def changed(self, prompts: Tensor) -> Tensor:
        """Prompts [L, M, d] in the shape that :meth:`apply` gives them for one picture."""
        return prompts

    # The four sums that take the chain of gradients apart (delta = dL/d apply(...), [..., L, M, d]) -------
    def pull(self, values: Tensor, delta: Tensor) -> Tensor:
        """What each picture sends to the prompts: the adjoint of :meth:`apply` in ``prompts``."""
        return self.spread(values) * delta

    def product(self, delta: Tensor, prompts: Tensor) -> Tensor:
        """dL/dg of each picture [..., U]: delta times what the unit scales."""
        return self.collect((delta * prompts).sum(-1))

    def reach(self, delta: Tensor) -> Tensor:
        """Squared norm of the part of ``delta`` that each unit meets, [..., U]."""
        return self.collect(delta.square().sum(-1))

    def length(self, prompts: Tensor) -> Tensor:
        """Squared norm of the prompts that each unit scales, [U]."""
        return self.collect(prompts.square().sum(-1))


class Length(Gate):
    """One unit per prompt token, the same in every layer: how long is the prompt?"""

    @property
    def units(self) -> int:
        return self.tokens

    def spread(self, values: Tensor) -> Tensor:
        return values[..., None, :, None]

    def collect(self, prompts: Tensor) -> Tensor:
        return prompts.sum(-2)


class Depth(Gate):
    """One unit per layer, the same for every token: where does the prompt enter?"""

    deep = True

    @property
    def units(self) -> int:
        return self.layers

    def spread(self, values: Tensor) -> Tensor:
        return values[..., :, None, None]

    def collect(self, prompts: Tensor) -> Tensor:
        return prompts.sum(-1)


class Both(Gate):
    """One unit per token of every layer: length and depth at once."""

    deep = True

    @property
    def units(self) -> int:
        return self.layers * self.tokens

    def spread(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.layers, self.tokens))[..., None]

    def collect(self, prompts: Tensor) -> Tensor:
        return prompts.flatten(-2)


class Tanh(Length):
    """A length gate with tanh and a last layer of zeros: it starts at 0, where its gradient is at its largest.

    At first the prompts get no gradient at all (they are scaled by zero) and the gate gets all of it: the imbalance
    is reversed. A positive control, after the gated cross-attention of Flamingo (Alayrac et al. 2022).
    """

    def initial(self, generator: torch.Generator) -> Tree:
        drawn = super().initial(generator)
        return drawn | {name: torch.zeros_like(drawn[name]) for name in ("gate.w2", "gate.b2")}

    def activate(self, z: Tensor) -> Tensor:
        return torch.tanh(z)

    def openness(self, values: Tensor) -> Tensor:
        return (1 + values) / 2


class Constant(Length):
    """A length gate that does not look: one trained number per token. The null of input dependence."""

    def initial(self, generator: torch.Generator) -> Tree:
        return {"gate.b2": linear_init(self.units, self.hidden, generator)[1]}

    def preactivation(self, params: Tree, features: Tensor) -> Tensor:
        return params["gate.b2"].expand(*features.shape[:-1], self.units)


class Shuffled(Length):
    """A length gate that sees the feature of another picture: equal parameters, nothing to adapt to."""

    shuffled = True


class Oracle(Length):
    """A length gate that is told, in training, which rule a picture follows: even units open on the cue, odd ones shut.

    It learns from the cue alone: what gating can be worth when finding out is not the problem. Needs a task with a cue.
    """

    supervised = apart = True

    def loss(self, z: Tensor, batch: Tree) -> Tensor:
        return F.binary_cross_entropy_with_logits(z, self.target(batch["cue"]))

    def target(self, cue: Tensor) -> Tensor:
        """What the units should be [B, U] for cues [B] (true or false)."""
        odd = torch.arange(self.units, device=cue.device) % 2 == 1
        return (cue[:, None] ^ odd).float()


class Soft(Gate):
    """Mixes the prompts of a pool with softmax weights, one unit per entry."""

    selects = True

    @property
    def units(self) -> int:
        return self.pool

    def activate(self, z: Tensor) -> Tensor:
        return z.softmax(-1)

    def apply(self, values: Tensor, prompts: Tensor) -> Tensor:
        """Weights [..., E] and the pool [E, M, d] -> [..., 1, M, d]."""
        return torch.einsum("...e,emd->...md", values, prompts).unsqueeze(-3)

    def changed(self, prompts: Tensor) -> Tensor:
        return prompts[:1]

    def pull(self, values: Tensor, delta: Tensor) -> Tensor:
        return values[..., None, None] * delta

    def product(self, delta: Tensor, prompts: Tensor) -> Tensor:
        return torch.einsum("...lmd,emd->...e", delta, prompts)

    def reach(self, delta: Tensor) -> Tensor:
        return delta.square().sum((-3, -2, -1))[..., None].expand(*delta.shape[:-3], self.units)

    def length(self, prompts: Tensor) -> Tensor:
        return prompts.square().sum((-2, -1))


class TopK(Soft):
    """Hard selection: equal weights for the ``count`` best entries; backwards like softmax (straight-through)."""

    hard = True
    count: ClassVar[int] = 1

    def activate(self, z: Tensor) -> Tensor:
        soft = z.softmax(-1)
        return soft + (self.best(z) - soft).detach()

    def best(self, scores: Tensor) -> Tensor:
        """Equal weights for the entries with the ``count`` highest scores [..., E]."""
        chosen = scores.topk(min(self.count, self.units), dim=-1).indices
        return torch.zeros_like(scores).scatter(-1, chosen, 1 / chosen.shape[-1])

    def typical(self, values: Tensor) -> Tensor:
        """The entries that it chooses most often: a mean of choices is nothing that it could emit."""
        return self.best(values.mean(0))


class Gumbel(TopK):
    """Hard selection of one entry after adding Gumbel noise in training (Jang et al. 2017): it explores."""

    noisy = True


class L2P(TopK):
    """Learning to prompt (Wang et al. 2022): the entries whose keys lie nearest to the picture, one behind the other.

    Every entry has a key, drawn from U(-1, 1) in each of F numbers; the query is the frozen image feature. The
    ``count`` entries whose keys have the highest cosine with it are chosen, and their tokens stand in the context
    together, in the order of the pool: so that it has M tokens, an entry has M / ``count`` of them (the original takes
    5 of 10 entries of 5 tokens each). Keys learn from nothing but :meth:`loss`, which draws the chosen ones to
    their queries; the task's loss, to which a choice has no slope, teaches the chosen tokens alone. There is no penalty
    on entries that are chosen often, which the original has as an option.
    """

    apart = True
    count = 2
    #: Weight of the loss that draws keys to queries.
    weight: ClassVar[float] = 0.1

    def __init__(self, kind: str, layers: int, tokens: int, features: int, **settings: int) -> None:
        super().__init__(kind, layers, tokens, features, **settings)
        if tokens % self.count:
            raise checks.ParameterError(
                f"tokens must be a multiple of {self.count} for gate {kind!r}, which puts {self.count} entries of the"
                f" pool together, but {tokens} was given."
            )

    @property
    def entry(self) -> int:
        return self.tokens // self.count

    def initial(self, generator: torch.Generator) -> Tree:
        return {"gate.keys": torch.empty(self.units, self.features).uniform_(-1, 1, generator=generator)}

    def preactivation(self, params: Tree, features: Tensor) -> Tensor:
        """Features [..., F] -> cosines with the keys [..., E]."""
        return F.normalize(features, dim=-1) @ F.normalize(params["gate.keys"], dim=-1).T

    def activate(self, z: Tensor) -> Tensor:
        return self.best(z)

    def loss(self, z: Tensor, batch: Tree) -> Tensor:
        """``weight`` times the sum of 1 - cosine over the chosen keys, mean over pictures."""
        return self.weight * ((1 - z) * (self.best(z) > 0)).sum(-1).mean()

    def _places(self, values: Tensor) -> Tensor:
        """Which entry stands where: [..., count, E] of zeros and ones."""
        chosen = values.topk(self.count, dim=-1).indices.sort(-1).values
        return (chosen[..., None] == torch.arange(self.units, device=values.device)).to(values)

    def apply(self, values: Tensor, prompts: Tensor) -> Tensor:
        """Weights [..., E] and the pool [E, M / count, d] -> [..., 1, M, d]."""
        return torch.einsum("...ke,emd->...kmd", self._places(values), prompts).flatten(-3, -2).unsqueeze(-3)

    def changed(self, prompts: Tensor) -> Tensor:
        return prompts[: self.count].flatten(0, 1)[None]

    def pull(self, values: Tensor, delta: Tensor) -> Tensor:
        parts = delta.squeeze(-3).unflatten(-2, (self.count, self.entry))
        return torch.einsum("...ke,...kmd->...emd", self._places(values), parts)

    def product(self, delta: Tensor, prompts: Tensor) -> Tensor:
        return delta.new_zeros(*delta.shape[:-3], self.units)


class Random(L2P):
    """The control of :class:`L2P`: as many entries at random, drawn in training for every picture of every batch, and
    for every picture that is measured.

    Its one parameter per entry gets no gradient and stays at zero.
    """

    noisy = random = True

    def initial(self, generator: torch.Generator) -> Tree:
        return {"gate.b2": torch.zeros(self.units)}

    def preactivation(self, params: Tree, features: Tensor) -> Tensor:
        return params["gate.b2"].expand(*features.shape[:-1], self.units)

    def loss(self, z: Tensor, batch: Tree) -> Tensor:
        return z.new_zeros(())


class BlindDepth(Depth):
    """A depth gate that sees the feature of another picture."""

    shuffled = True


class BlindSoft(Soft):
    """A soft selector that sees the feature of another picture."""

    shuffled = True


class BlindTopK(TopK):
    """A hard selector that sees the feature of another picture."""

    shuffled = True


class BlindGumbel(Gumbel):
    """An exploring selector that sees the feature of another picture."""

    shuffled = True


class BlindL2P(L2P):
    """A pool whose keys are matched with the feature of another picture."""

    shuffled = True


#: Gates by name. A gate of your own joins them here.
GATES: Registry[type[Gate]] = Registry(
    "gate",
    {
        "length": Length,
        "depth": Depth,
        "both": Both,
        "tanh": Tanh,
        "constant": Constant,
        "shuffled": Shuffled,
        "oracle": Oracle,
        "soft": Soft,
        "top_k": TopK,
        "gumbel": Gumbel,
        "l2p": L2P,
        "random": Random,
        "blind_depth": BlindDepth,
        "blind_soft": BlindSoft,
        "blind_top_k": BlindTopK,
        "blind_gumbel": BlindGumbel,
        "blind_l2p": BlindL2P,
    },
)
BLIND = {
    "length": "shuffled",
    "depth": "blind_depth",
    "soft": "blind_soft",
    "top_k": "blind_top_k",
    "gumbel": "blind_gumbel",
    "l2p": "blind_l2p",
}
"""The blind twin of a gate: equal parameters, but it sees another picture, in training and in the test."""


def build(kind: str, layers: int, tokens: int, features: int, **settings: object) -> Gate:
    """The gate of that name; ``settings`` are those of :class:`Gate`."""
    gate = GATES[kind](kind, layers, tokens, features, **settings)  # type: ignore[arg-type]
    try:
        wrong = next((needed for fine, needed in _sound(gate) if not fine), "")
    except Exception as error:
        wrong = f"units, spread and a loss that can be computed (not {error!r})"
        raise checks.ParameterError(f"gate must have {wrong}, but {kind!r} was given.") from error
    if wrong:
        raise checks.ParameterError(f"gate must have {wrong}, but {kind!r} was given.")
    return gate


def _sound(gate: Gate) -> Iterator[tuple[bool, str]]:
    """What every gate must have, and whether this one has it: tried on four pictures before any training."""
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(4, gate.features, generator=generator), dim=-1)
    z = gate.preactivation(gate.initial(generator), features)
    # As far as training may take it, both ways.
    wide = torch.cat([z, torch.linspace(-30, 30, 61)[:, None].expand(-1, gate.units)])
    values = gate.activate(wide)
    yield values.shape == wide.shape and bool(values.isfinite().all()), "one finite value for each of its units"
    opened = gate.openness(values)
    inside = bool((opened >= -1e-6).all() and (opened <= 1 + 1e-6).all())
    yield inside, "values from 0 (shut) to 1 (open), or an openness that lays them on that scale"
    yield (
        not gate.selects or bool((opened.sum(-1) - 1).abs().max() < 1e-4),
        "weights that add up to 1, since it selects",
    )
    prompts = torch.ones(gate.pool if gate.selects else gate.layers, gate.entry, 2)
    shape = (4, *gate.changed(prompts).shape)
    yield gate.apply(values[:4], prompts).shape == shape, "a spread that can be laid over layers and tokens"
    told = {"features": features, "labels": torch.arange(4), "cue": torch.arange(4) % 2 == 0}
    yield gate.loss(z, told).shape == (), "a loss that is one number"
