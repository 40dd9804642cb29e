"""This library's own prompt learners, and yours that are built on them, as a diagnosis of a gate takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import checks
from lib.prompts.diagnosis import FACTORS, chain
from lib.prompts.learners import Learner
from lib.replicas import Tree

Encoded = tuple[Tensor, Tensor | None, Tensor]


def learner_parts(
    learner: Learner, params: Tree, batches: Iterable[tuple[Tensor, Tensor]], *, limit: int = 16
) -> dict[str, Any]:
    """What :func:`~lib.diagnose.gate.diagnose_gate` asks for, of a gated learner with the parameters of one replica.

    ``batches`` are pictures [B, 3, H, W], as :meth:`lib.prompts.backbone.Backbone.image_features` takes them, and
    labels [B]; the first ``limit`` are encoded, once. Returned: ``loss``, ``prompts``, ``gate`` (a module from features
    [B, F] to values [B, U]), ``inputs``, ``labels`` and ``chain``, the seven factors of
    :func:`lib.prompts.diagnosis.chain`. A learner of your own is a subclass of :class:`~lib.prompts.learners.Learner`
    whose ``logits`` take a ``gate``. ``params`` are copied. Raises :class:`~lib.checks.ParameterError` for a learner
    without a gate, and for parameters or pictures that are not its own.

    >>> backbone = load("miniclip", "random")
    >>> learner = Learner("coop", backbone, ["circle", "square"], gate="length")
    >>> params = learner.initial(torch.Generator().manual_seed(0))
    >>> batches = [(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
    >>> report = diagnose_gate(**learner_parts(learner, params, batches))
    >>> list(report.table["measure"][:3])
    ['gap', 'of the gap: coherence', 'of the gap: opening']
    """
    if learner.gate is None:
        raise checks.ParameterError(f"learner must have a gate, but {learner.name} without one was given.")
    wanted = {name: tuple(one.shape) for name, one in learner.initial(torch.Generator().manual_seed(0)).items()}
    given = {name: tuple(one.shape) for name, one in params.items()}
    if given != wanted:
        raise checks.ParameterError(
            f"params must be those of one replica of this learner, {wanted}, but {given} was given."
        )
    device = learner.backbone.device
    inputs = [_encoded(learner, *one) for one in islice(batches, checks.integer("limit", limit, 1))]
    own: Tree = {name: nn.Parameter(one.detach().clone().to(device)) for name, one in params.items()}
    gate = _Values(learner, own)

    def loss(batch: Encoded) -> Tensor:
        features, patches, labels = batch
        logits = learner.logits(own, features, patches, gate=gate(features))
        return F.cross_entropy(logits, labels)

    def factors(batch: Encoded) -> Mapping[str, float]:
        found = chain(learner, {name: one.detach() for name, one in own.items()}, *batch)
        return {name: float(found[name]) for name in FACTORS}

    return {
        "loss": loss,
        "prompts": list(learner.prompts(own).values()),
        "gate": gate,
        "inputs": inputs,
        "labels": lambda batch: batch[2],
        "chain": factors,
    }


class _Values(nn.Module):
    """The gate of a learner as a module: features [B, F] -> values [B, U]."""

    def __init__(self, learner: Learner, params: Tree) -> None:
        super().__init__()
        self._learner, self._tree = learner, params
        # Names of parameters hold no dots.
        for name in params:
            if name.startswith("gate."):
                self.register_parameter(name.replace(".", "_"), params[name])  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        return self._learner.gate_values(self._tree, features)


def _encoded(learner: Learner, images: Tensor, labels: Tensor) -> Encoded:
    """A batch as the learner takes it, on the backbone's device."""
    if images.dim() != 4 or len(images) != len(labels):
        raise checks.ParameterError(
            "batches must be pictures [B, 3, H, W] with a label each, but "
            f"{tuple(images.shape)} with {tuple(labels.shape)} was given."
        )
    backbone = learner.backbone
    with torch.no_grad():
        patches = backbone.patches(images) if learner.design.sees else None
        features = backbone.image_features(images) if patches is None else backbone.vision_tower(patches)
    return features, patches, labels.to(backbone.device)
