"""Prompt learners on a frozen CLIP: CoOp and MaPLe, each with or without a gate.

CoOp (Zhou et al. 2022) learns context tokens in front of the class name. MaPLe (Khattak et al. 2023) learns
context tokens for several layers of the text tower and maps them, layer by layer, to prompt tokens of the
vision tower. A gate g(x) scales the learned tokens, ``p' = g(x) p``, before they are used anywhere. A depth gate
needs several layers to choose from, so CoOp with a depth gate has contexts of its own in every text layer.

A learner is stateless: its parameters are a tree, written for one replica and batched by
:mod:`lib.replicas`. Symbols: B pictures, K classes, L layers with prompts, M tokens, d width, U gate units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib import checks
from lib.checks import ParameterError
from lib.prompts.backbone import Backbone
from lib.prompts.gates import Gate, linear_init
from lib.replicas import Tree

LEARNERS = ("coop", "maple")


@dataclass(frozen=True)
class Nudge:
    """Zero tensors at which the chain of gradients is taken apart.

    ``prompts`` [B, L, M, d] is added to the scaled prompts p' and ``gate`` [B, U] to the pre-activations, so
    that their gradients are dL/dp'(x) and dL/dz(x), picture by picture.
    """

    prompts: Tensor
    gate: Tensor


class Learner:
    """One prompt learner for one task on one backbone.

    ``depth`` is the number of layers with prompts (0: what the learner and gate ask for), ``std`` the
    standard deviation of the initial tokens. ``gate`` is "none", "length" or "depth"; ``gate_gain`` and
    ``gate_bias`` are passed to :class:`~lib.prompts.gates.Gate`.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        classes: Sequence[str],
        *,
        gate: str = "none",
        tokens: int = 4,
        depth: int = 0,
        std: float = 0.02,
        gate_gain: float = 1.0,
        gate_bias: float = 0.0,
    ) -> None:
        self.name = checks.choice("learner", name, LEARNERS)
        self.backbone = backbone
        self.tokens = checks.integer("tokens", tokens, 1)
        self.std = checks.number("prompt_std", std, above=0)
        deepest = backbone.text_layers
        if name == "maple":
            deepest = min(deepest, backbone.vision_layers)
        if not 0 <= checks.integer("depth", depth) <= deepest:
            raise ParameterError(
                f"depth must be an integer from 0 to {deepest} with this backbone, but {depth} was given."
            )
        default = deepest if name == "maple" or gate == "depth" else 1
        self.layers = depth or default
        self.gate = (
            None
            if gate == "none"
            else Gate(gate, self.layers, tokens, backbone.embed_dim, gain=gate_gain, bias=gate_bias)
        )
        ids, end = backbone.tokens(classes)
        # The learned context stands between the start token and the class name.
        self._start, self._names = backbone.embed(ids[:1, :1])[0], backbone.embed(ids[:, 1:])
        self._end = end + tokens
        length = self._names.shape[1] + 1 + tokens
        if length > backbone.context_length:
            raise ParameterError(
                f"tokens must leave room for class names in a context of {backbone.context_length},"
                f" but {tokens} was given."
            )

    # Parameters ------------------------------------------------------------------------------------
    def initial(self, generator: torch.Generator) -> Tree:
        """Fresh parameters of one replica: "prompt.tokens" [L, M, d], the coupling of MaPLe, the gate's."""
        width = self.backbone.text_width
        params = {"prompt.tokens": torch.randn(self.layers, self.tokens, width, generator=generator) * self.std}
        if self.name == "maple":
            drawn = [linear_init(self.backbone.vision_width, width, generator) for _ in range(self.layers)]
            params["coupling.weight"] = torch.stack([weight for weight, _ in drawn])
            params["coupling.bias"] = torch.stack([bias for _, bias in drawn])
        if self.gate is not None:
            params |= self.gate.initial(generator)
        return {name: value.to(self.backbone.device) for name, value in params.items()}

    def groups(self) -> dict[str, list[str]]:
        """Names of the parameters in each group: prompt, coupling, gate."""
        names = self.initial(torch.Generator().manual_seed(0))
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(name.partition(".")[0], []).append(name)
        return found

    def counts(self) -> dict[str, int]:
        """Number of trainable parameters in each group."""
        tree = self.initial(torch.Generator().manual_seed(0))
        return {group: sum(tree[name].numel() for name in names) for group, names in self.groups().items()}

    # Forward pass ----------------------------------------------------------------------------------
    def logits(
        self,
        params: Tree,
        features: Tensor,
        patches: Tensor | None,
        *,
        gate: Tensor | None = None,
        nudge: Nudge | None = None,
    ) -> Tensor:
        """Class logits [B, K].

        ``features`` [B, F] are the frozen unit image features, ``patches`` [B, 1 + P, d_v] the frozen tokens
        before the first vision block (MaPLe only). ``gate`` [B, U] or [U] replaces the gate's own output:
        one row for all pictures is enough where the gate is held fixed.
        """
        prompts = params["prompt.tokens"]
        if self.gate is not None:
            if gate is None:
                z = self.gate.preactivation(params, features)
                gate = torch.sigmoid(z + nudge.gate if nudge is not None else z)
            prompts = self.gate.spread(gate) * prompts
        if nudge is not None:
            prompts = prompts + nudge.prompts
        text = self._text(prompts)
        if self.name == "maple":
            features = self._image(params, prompts, patches)
        similarity = features @ text.T if text.ndim == 2 else (text @ features[..., None]).squeeze(-1)
        return self.backbone.scale * similarity

    def _text(self, prompts: Tensor) -> Tensor:
        """Prompts [L, M, d] or [B, L, M, d] -> text features [K, embed] or [B, K, embed]."""
        classes, width = self._names.shape[0], self._names.shape[2]
        lead = prompts.shape[:-3]

        def rows(x: Tensor) -> Tensor:
            return x[..., None, :, :].expand(*lead, classes, *x.shape[-2:])

        start = self._start.expand(*lead, classes, 1, width)
        names = self._names.expand(*lead, *self._names.shape)
        x = torch.cat([start, rows(prompts[..., 0, :, :]), names], dim=-2)

        def insert(layer: int, x: Tensor) -> Tensor:
            if layer >= self.layers:
                return x
            return torch.cat([x[..., :1, :], rows(prompts[..., layer, :, :]), x[..., 1 + self.tokens :, :]], dim=-2)

        return self.backbone.text_tower(x, self._end, insert)

    def _image(self, params: Tree, prompts: Tensor, patches: Tensor) -> Tensor:
        """MaPLe's prompted image features [B, embed]."""
        coupled = torch.einsum("...lmd,lvd->...lmv", prompts, params["coupling.weight"])
        coupled = coupled + params["coupling.bias"][:, None]
        coupled = coupled.expand(*patches.shape[:-2], *coupled.shape[-3:])
        x = torch.cat([patches, self.backbone.pre_norm(coupled[..., 0, :, :])], dim=-2)

        def insert(layer: int, x: Tensor) -> Tensor:
            if layer >= self.layers:
                return x
            return torch.cat([x[..., : -self.tokens, :], coupled[..., layer, :, :]], dim=-2)

        return self.backbone.vision_tower(x, insert)
