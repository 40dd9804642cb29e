"""Gates: small networks that look at a picture's frozen feature and scale the prompts.

g(x) = sigmoid(MLP(feature of x)), one unit per token (length gate) or per layer (depth gate). A learner needs
three things of a gate: its initial parameters, its pre-activations, and how its units spread over the
prompts; anything with these methods is a gate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lib import checks
from lib.replicas import Tree

KINDS = ("length", "depth")


def linear_init(rows: int, columns: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight [rows, columns] and bias [rows] as ``torch.nn.Linear`` draws them: U(-1, 1) / sqrt(columns)."""
    bound = 1 / math.sqrt(columns)
    weight = torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(rows).uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True)
class Gate:
    """Linear - ReLU - Linear - sigmoid on the unit image feature.

    ``kind`` "length" has one unit per prompt token (the same in every layer), "depth" one per layer (the same
    for every token). ``layers`` and ``tokens`` are those of the prompts, ``features`` the width of the image
    feature. ``gain`` multiplies the feature before the MLP (1: as it comes, of unit norm) and ``bias`` is
    added to the pre-activation, so that a gate can start open.
    """

    kind: str
    layers: int
    tokens: int
    features: int
    hidden: int = 32
    gain: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        checks.choice("gate", self.kind, KINDS)
        checks.integer("hidden", self.hidden, 1)
        checks.number("gain", self.gain, above=0)
        checks.number("bias", self.bias, -20, 20)

    @property
    def units(self) -> int:
        """U, the number of gate outputs per picture."""
        return self.tokens if self.kind == "length" else self.layers

    def initial(self, generator: torch.Generator) -> Tree:
        """Fresh parameters; every name begins with "gate."."""
        w1, b1 = linear_init(self.hidden, self.features, generator)
        w2, b2 = linear_init(self.units, self.hidden, generator)
        return {"gate.w1": w1, "gate.b1": b1, "gate.w2": w2, "gate.b2": b2}

    def preactivation(self, params: Tree, features: Tensor) -> Tensor:
        """Unit features [..., F] -> pre-activations [..., U]."""
        hidden = torch.relu(self.gain * features @ params["gate.w1"].T + params["gate.b1"])
        return hidden @ params["gate.w2"].T + params["gate.b2"] + self.bias

    def values(self, params: Tree, features: Tensor) -> Tensor:
        """Gate values in (0, 1), [..., F] -> [..., U]."""
        return torch.sigmoid(self.preactivation(params, features))

    def spread(self, values: Tensor) -> Tensor:
        """Gate values [..., U] laid over the prompts, broadcastable to [..., L, M, 1]."""
        return values[..., None, :, None] if self.kind == "length" else values[..., :, None, None]

    def collect(self, prompts: Tensor) -> Tensor:
        """The adjoint of :meth:`spread`: sums [..., L, M] over what each unit scales -> [..., U]."""
        return prompts.sum(-2) if self.kind == "length" else prompts.sum(-1)
