"""What both diagnoses do alike: look at a loss, say how much of a gradient is signal, and what it all cost."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from lib import checks, gradients

FORWARD = 1 / 3
"""What a pass forward costs, of a step with its pass backward."""


def one_number(found: Any, where: str = "") -> Tensor:
    """A loss [] as it was given, if it is one finite number; ``where`` ends the sentence of a refusal."""
    if not isinstance(found, Tensor) or found.numel() != 1:
        given = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else repr(type(found).__name__)
        raise checks.ParameterError(f"loss must give one number (a tensor), but {given} was given.")
    if not bool(torch.isfinite(found.detach()).all()):
        raise checks.ParameterError(f"loss must be finite, but {float(found.detach())} was given{where}.")
    return found.reshape(())


def signal(samples: Tensor) -> tuple[float, float, float]:
    """The share of signal in one of the sampled gradients [K, P], 1 / (1 + variance ratio), with its interval."""
    ratio, ends = gradients.statistics(samples).variance_ratio, gradients.variance_interval(samples)
    return 0.0 if math.isnan(ratio) else 1 / (1 + ratio), 1 / (1 + ends[1]), 1 / (1 + ends[0])


def cost(began: float, backward: int, forward: int, steps: int) -> dict[str, float]:
    """What was spent since ``began``; of a training of so many ``steps`` (0: not known) also the share."""
    found = {"seconds": time.perf_counter() - began, "gradients": float(backward), "passes": float(forward)}
    return found | ({"share": (backward + forward * FORWARD) / steps} if steps else {})
