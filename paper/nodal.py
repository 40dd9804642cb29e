"""Kirchhoff's equations at every node of a crossbar: what the engine's effective conductance is held against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from lib.checks import ParameterError
from lib.hardware import circuit


class Nodes(NamedTuple):
    """An array in operation: voltages of the ``word`` and the ``bit`` line at each cell [..., m, n] in volt, the
    ``current`` through each cell [..., m, n] and the ``output`` currents [..., n] in microampere; all float64.
    """

    word: Tensor
    bit: Tensor
    current: Tensor
    output: Tensor


def _chain(length: int) -> sparse.dia_array:
    """Kirchhoff's matrix of a line of unit segments that is held at its first end and floats at the other."""
    diagonal = np.full(length, 2.0)
    diagonal[-1] = 1.0
    beside = np.full(length - 1, -1.0)
    return sparse.diags_array([beside, diagonal, beside], offsets=[-1, 0, 1])


def node_voltages(conductance: Tensor, r_word: float | Tensor, r_bit: float | Tensor, volts: Tensor) -> Nodes:
    """Every node of one array, from Kirchhoff's equations at all of them: a sparse nodal analysis.

    ``conductance`` [m, n] in microsiemens, ``r_word`` and ``r_bit`` in ohm per segment, ``volts`` [..., m] at the
    inputs; one factorization serves all of them. Shares no step with
    :func:`lib.hardware.circuit.effective_conductance`, so that each can be held against the other. Not
    differentiable. Lines without resistance are held: a word line at its source's voltage, a bit line at 0 V.

    Raises :class:`~lib.checks.ParameterError` for a conductance or a resistance that is negative or not finite,
    and for volts that are not finite or do not fit the word lines.
    """
    given, word, bit = circuit.checked(conductance, r_word, r_bit, 2)
    m, n = given.shape
    if not isinstance(volts, Tensor) or volts.shape[-1:] != (m,) or not volts.isfinite().all():
        shown = list(volts.shape) if isinstance(volts, Tensor) else type(volts).__name__
        raise ParameterError(f"volts must be a tensor of finite numbers of shape [..., {m}], but {shown} was given.")
    # As measured: numbers of the factors, and what is held for every input; both grow with the nodes.
    nodes_in_all, inputs = 2 * m * n, volts.numel() / m
    circuit.room(given, nodes_in_all * (1500 + 48 * inputs), nodes_in_all * (16e-6 + 4e-7 * inputs))
    g = given.detach().cpu().numpy()
    # In microsiemens; a line that is held needs no conductance of its segments.
    word_segment, bit_segment = (1 / (circuit.MICRO * r.item()) if r > 0 else 0.0 for r in (word, bit))
    cells = sparse.diags_array(g.ravel())
    word_lines = sparse.kron(sparse.eye_array(m), word_segment * _chain(n))
    bit_lines = sparse.kron(bit_segment * _chain(m).tocsr()[::-1, ::-1], sparse.eye_array(n))
    matrix = sparse.block_array([[word_lines + cells, -cells], [-cells, bit_lines + cells]], format="csr")
    # Column by column an input: the voltages of the nodes, word lines first, of which only those held are known.
    sources = volts.detach().reshape(-1, m).to("cpu", torch.float64).numpy().T
    nodes = np.zeros((2, m, n, sources.shape[1]))
    driven = np.zeros_like(nodes)
    if word_segment:
        driven[0, :, 0] = word_segment * sources
    else:
        nodes[0] = sources[:, None]
    nodes, driven = nodes.reshape(2 * m * n, -1), driven.reshape(2 * m * n, -1)  # type: ignore[assignment]
    free = np.repeat([word_segment > 0, bit_segment > 0], m * n)
    if free.any():
        known = driven[free] - matrix[free][:, ~free] @ nodes[~free]
        # Symmetric and positive definite: no pivots are needed, and an ordering for symmetric fill is best.
        factors = splu(
            matrix[free][:, free].tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        nodes[free] = factors.solve(known)
    word_volts, bit_volts = np.moveaxis(nodes.reshape(2, m, n, -1), -1, 1)
    currents = g * (word_volts - bit_volts)
    lead = volts.shape[:-1]
    word_volts, bit_volts, currents, outputs = (  # type: ignore[assignment]
        torch.from_numpy(np.ascontiguousarray(each)).to(given.device).reshape(*lead, *each.shape[1:])
        for each in (word_volts, bit_volts, currents, currents.sum(-2))
    )
    return Nodes(word_volts, bit_volts, currents, outputs)  # type: ignore[arg-type]
