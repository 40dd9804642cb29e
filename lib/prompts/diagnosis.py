"""What a gated learner's gradients and gate values say.

Two tools. :func:`chain` takes the way from the prompt gradient to the gate gradient apart into factors whose
product is the measured gap; :func:`gate_statistics` measures how much a gate depends on its input.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.checks import ParameterError
from lib.prompts.learners import Learner, Nudge
from lib.replicas import Nested, Tree

FACTORS = ("coherence", "opening", "prompt_norm", "alignment", "slope", "network", "gate_coherence")
"""The factors of the gap, in the order of the way from the prompt gradient to the gate gradient."""


def _squares(tree: Tree) -> Tensor:
    """The squared norm of a whole tree."""
    return torch.stack([value.square().sum() for value in tree.values()]).sum()


def _gradients(
    learner: Learner,
    params: Tree,
    features: Tensor,
    patches: Tensor | None,
    labels: Tensor,
    constants: Tree | None,
    noise: Tensor | None,
) -> tuple[Tree, Nested]:
    """Gradients of the mean loss: for the parameters, and picture by picture for prompts p'(x) and pre-activations."""
    gate, batch = learner.gate, features.shape[0]
    prompts = learner.prompts(params)
    zeros = {
        "prompts": {name: features.new_zeros(batch, *gate.changed(value).shape) for name, value in prompts.items()},
        "gate": features.new_zeros(batch, gate.units),
    }

    def loss(params: Tree, nudges: Nested) -> Tensor:
        logits = learner.logits(params, features, patches, nudge=Nudge(**nudges), noise=noise, constants=constants)
        return F.cross_entropy(logits, labels)

    return torch.func.grad(loss, argnums=(0, 1))(params, zeros)


def upstream(
    learner: Learner,
    params: Tree,
    features: Tensor,
    patches: Tensor | None,
    labels: Tensor,
    constants: Tree | None = None,
    noise: Tensor | None = None,
) -> Tree:
    """dL/dp'(x) for every learned prompt, picture by picture [B, L, M, d]."""
    return _gradients(learner, params, features, patches, labels, constants, noise)[1]["prompts"]


def chain(
    learner: Learner,
    params: Tree,
    features: Tensor,
    patches: Tensor | None,
    labels: Tensor,
    constants: Tree | None = None,
    noise: Tensor | None = None,
) -> Tree:
    """The gap between prompt and gate gradient of one replica and its factors, in decades.

    With ``p' = g(x) p``, upstream ``delta(x) = dL/dp'(x)`` and ``z`` the gate's pre-activation, the norms ::

        |sum_x g delta|, |g delta|, |delta|, |delta_u||p_u|, <delta_u, p_u>, s <delta_u, p_u>,
        |J(x)^T u(x)|, |sum_x J(x)^T u(x)|        (s = dg/dz, for a sigmoid g (1 - g); u(x) = dL/dz(x), J = dz/dphi)

    are taken over pictures, layers and tokens (Frobenius) or over pictures and gate units; u runs over the
    block of prompts that a gate unit scales or selects. The first is the norm of the prompt gradient (text and vision
    prompts together), the last that of the gate's parameters; each factor is the ratio of two neighbours::

        coherence       how the gradients of single pictures add up for the prompts (> 0: alike, < 0: they cancel)
        opening         by how much the gate lets the gradient through to the prompts
        prompt_norm     1 / length of the prompts: short prompts leave the gate little to scale
        alignment       1 / cosine between upstream gradient and prompts
        slope           1 / slope of the activation, for a sigmoid g (1 - g)
        network         1 / size of the MLP's Jacobian
        gate_coherence  how the gradients of single pictures add up for the gate, with the opposite sign

    ``noise`` [B, U] is what training added to the pre-activations of a gate that explores. Returns scalars: ``gap``
    (total L2 norms), ``gap_rms`` (per parameter), each factor, all log10, and ``gap`` is computed from the autograd
    gradients alone, not from the factors; it is infinite where one side gets no gradient at all, such as the keys of a
    pool whose choices have no slope, or prompts that a gate shuts out. ``snr`` is the signal-to-noise ratio
    of one picture's gate gradient, ``|E g|^2 / tr Cov g`` without the bias of few pictures (it can be negative).

    >>> learner = Learner("coop", load("miniclip", "random"), ["circle", "square"], gate="length")
    >>> params = learner.initial(torch.Generator().manual_seed(0))
    >>> features = F.normalize(torch.ones(2, learner.backbone.embed_dim), dim=-1)
    >>> found = chain(learner, params, features, None, torch.tensor([0, 1]))
    >>> bool((sum(found[name] for name in FACTORS) - found["gap"]).abs() < 1e-4)
    True
    """
    gate, prompts, batch = learner.gate, learner.prompts(params), features.shape[0]
    gradients, nudged = _gradients(learner, params, features, patches, labels, constants, noise)
    deltas = nudged["prompts"]
    seen = learner.shown(features, constants)
    z = learner.judged(params, seen, constants)
    values, slope = torch.func.vjp(gate.activate, z if noise is None else z + noise)  # type: ignore[misc]
    opened = {name: gate.pull(values, delta) for name, delta in deltas.items()}
    block_delta = sum(gate.reach(delta) for delta in deltas.values()).sqrt()  # type: ignore[attr-defined, misc]
    block_prompt = sum(gate.length(value) for value in prompts.values()).sqrt()  # type: ignore[attr-defined, misc]
    product = sum(gate.product(delta, prompts[name]) for name, delta in deltas.items())  # type: ignore[misc]
    (upstream,) = slope(product)

    def per_picture(feature: Tensor, u: Tensor) -> Tensor:
        own = {name: params[name] for name in params if name.startswith("gate.")}
        _, pull = torch.func.vjp(lambda p: learner.judged(p, feature, constants), own)  # type: ignore[misc]
        return _squares(pull(u)[0])

    single = torch.func.vmap(per_picture)(seen, upstream).sum().sqrt()
    prompt = _squares({name: gradients[name] for name in prompts}).sqrt()
    whole = _squares({name: value for name, value in gradients.items() if name.startswith("gate.")}).sqrt()
    norms = [
        prompt,
        _squares(opened).sqrt(),
        _squares(deltas).sqrt(),
        (block_delta * block_prompt).norm(),
        product.norm(),  # type: ignore[attr-defined]
        upstream.norm(),
        single,
        whole,
    ]
    logs = [torch.log10(norm) for norm in norms]
    # Where nothing arrives nothing more is lost: zero over zero is no factor.
    ratios = [torch.where(a == b, 0.0, a - b) for a, b in itertools.pairwise(logs)]
    out = dict(zip(FACTORS, ratios, strict=True))
    gate_size = sum(value.numel() for name, value in params.items() if name.startswith("gate."))
    out["gap"] = logs[0] - logs[-1]
    prompt_size = sum(value.numel() for value in prompts.values())
    out["gap_rms"] = out["gap"] - 0.5 * math.log10(prompt_size / gate_size)
    out["prompt_gradient"], out["gate_gradient"] = prompt, whole
    # The loss is a mean over n pictures: one picture's gradient is n times its share, their mean is ``whole``.
    variance = (batch**2 * single.square() - batch * whole.square()) / max(batch - 1, 1)
    out["snr"] = whole.square() / variance.clamp_min(1e-30) - 1 / batch
    # A second route to dL/dz: autograd's own, against slope times <delta, p>. Zero up to rounding.
    out["identity"] = (nudged["gate"] - upstream).norm() / upstream.norm().clamp_min(1e-30)
    return out


def gate_statistics(values: Tensor, labels: Tensor, selects: bool = False) -> dict[str, float]:
    """How much a gate depends on its input.

    ``values`` [N, U] over N pictures with ``labels`` [N]. Returned, averaged over units::

        information  Var_x g / (m (1 - m)), m the mean gate: the part of a yes-no variable's variance that the input
                     decides; 0 for a constant gate, 1 for one that is open for some pictures and shut for others
        spread       standard deviation over pictures
        saturation   share of values below 0.05 or above 0.95
        class_share  Var(E[g | class]) / Var(g), less what class means of a gate blind to the class would show
                     by chance (epsilon squared, Kelley 1935): 1 if pictures of a class are gated alike
        mean         mean gate
        used         exp H(mean gate, normalised): how many units, or entries of a pool, are used on the whole

    For a selector (``selects``: rows are weights that add up to 1) the information is I(X; G) = H(m) - E H(g) over the
    log of the number of entries, which again is 0 for a constant and 1 for a switch.

    >>> gate_statistics(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))["information"]
    1.0
    """
    values = values.double()
    if bool(((values < -1e-6) | (values > 1 + 1e-6)).any()):
        given = f"{float(values.min()):g} to {float(values.max()):g}"
        raise ParameterError(f"gate values must lie on a scale from 0 (shut) to 1 (open), but {given} was given.")
    n, mean = values.shape[0], values.mean(0)
    variance = values.var(0, unbiased=False)
    classes = F.one_hot(labels).double()
    counts = classes.sum(0).clamp_min(1)
    class_means = classes.T @ values / counts[:, None]
    between = (counts[:, None] * (class_means - mean) ** 2).sum(0)
    within = variance * n - between
    k = int((classes.sum(0) > 0).sum())
    # A constant gate has no variance to share out; rounding noise must not look like a class effect.
    share = (between - (k - 1) * within / max(n - k, 1)) / (n * variance).clamp_min(1e-14)
    if selects:
        information = (_entropy(mean) - _entropy(values).mean()) / math.log(values.shape[1])
    else:
        information = variance / (mean * (1 - mean)).clamp_min(1e-12)
    return {
        "information": float(information.mean()),
        "spread": float(variance.sqrt().mean()),
        "saturation": float(((values < 0.05) | (values > 0.95)).double().mean()),
        "class_share": float(share.clamp(0, 1).mean()),
        "mean": float(mean.mean()),
        "used": float(_entropy(mean.abs() / mean.abs().sum().clamp_min(1e-30)).exp()),
    }


def _entropy(weights: Tensor) -> Tensor:
    """Entropy in nats of weights [..., U] that add up to 1."""
    return -torch.special.xlogy(weights, weights).sum(-1)
