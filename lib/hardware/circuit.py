"""The crossbar as a circuit: wires that have resistance, solved exactly, with an exact gradient.

An array has m word lines (inputs) and n bit lines (outputs). A source drives word line i through one wire
segment of resistance r_word before its first cell and one more between neighbouring cells; the far end
floats. Bit line j collects the currents of its cells and leads them down, through one segment of r_bit per
row, to a node held at 0 V; its top end floats. Cell (i, j) is a conductance G[i, j] between the two lines.

With linear cells the output currents are exactly linear in the input voltages, I = V @ G_eff, so the whole
effect of the wires is one matrix, the effective conductance. :func:`effective_conductance` computes it.

How. Let word line i carry V_i and let b be the voltages of the bit lines at that row. Eliminating the nodes
of the word line leaves the currents Y_i (V_i 1 - b) into the bit lines. Y_i = (diag(1/G_i) + r_word A)^-1 is
an n x n matrix, and A_kl = min(k, l) the number of segments that two cells share. It has a closed form,
because A^-1 + r_word diag(G_i) is tridiagonal. Going down the rows, with F = I - (I + E)^-1 and F_0 = 0,

    E_i = r_bit Y_i + F_(i-1),        S_i = [S_(i-1); Y_i 1] (I - F_i),        G_eff = S_m.

F_i is what one more segment of wire takes away. It is small, so it is computed in single precision by a
short series and subtracted in double precision: the result is good to a few 1e-7. Where F is not small, or
where asked for, everything is in double precision and F comes from an inverse.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib import checks

MICRO = 1e-6
# Above this bound on E the series E - E^2 + E^3 - ... is longer than an inverse is slow.
_SERIES_LIMIT = 0.25
_SERIES_ERROR = 1e-9
# Arrays that are worked on at a time.
_PART = 20


def _line(load: Tensor) -> tuple[Tensor, Tensor]:
    """Two vectors that make up H = (A^-1 + diag(load))^-1 of a line: ``H[k, l] = u[k] v[l]`` for k <= l.

    A^-1 is tridiagonal: 2 on the diagonal (1 at the floating end), -1 beside it. ``load`` [..., n] is the
    wire's resistance times the conductances on it. Recurrences of a tridiagonal inverse (Usmani 1994).
    """
    diagonal = list((2 + load).unbind(-1))
    diagonal[-1] = diagonal[-1] - 1
    one = torch.ones_like(diagonal[0])
    heads, tails = [one, diagonal[0]], [one]
    for entry in diagonal[1:]:
        heads.append(entry * heads[-1] - heads[-2])
    for entry in diagonal[:0:-1]:
        tails.append(entry * tails[-1] - tails[-2] if len(tails) > 1 else entry)
    return torch.stack(heads[:-1], -1) / heads[-1].unsqueeze(-1), torch.stack(tails[::-1], -1)


def _collected(g: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Y 1 of every row by running sums; ``left[k] right[l]`` (k <= l) is what the word line takes from g."""
    behind = right.flip(-1).cumsum(-1).flip(-1)
    return g - left * behind - right * (left.cumsum(-1) - left)


def _upper(g: Tensor) -> Tensor:
    return torch.ones(g.shape[-1], g.shape[-1], dtype=torch.bool, device=g.device).triu()


def _lost(pull: Tensor, terms: int, out: Tensor) -> None:
    """F = I - (I + E)^-1 by ``terms`` pairs of the series E - E^2 + E^3 - ..., or by an inverse for 0."""
    if terms == 0:
        unit = torch.eye(pull.shape[-1], dtype=pull.dtype, device=pull.device)
        torch.sub(unit, torch.linalg.inv(unit + pull), out=out)
        return
    if terms == 1:
        torch.baddbmm(pull, pull, pull, alpha=-1, out=out)
        return
    square = pull @ pull
    pair = lost = pull - square
    for _ in range(terms - 2):
        lost = torch.baddbmm(pair, square, lost)
    torch.baddbmm(pair, square, lost, out=out)


def _mapped(info, in_dims, g: Tensor, r_word: Tensor, r_bit: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
    """The replicas of ``vmap`` as further arrays of one call, and how to part them again."""
    tensors = [
        value.expand(info.batch_size, *value.shape) if where is None else value.movedim(where, 0)
        for value, where in zip((g, r_word, r_bit), in_dims, strict=True)
    ]
    return [value.flatten(0, 1) for value in tensors], tuple(tensors[0].shape[:2])


class _Network(torch.autograd.Function):
    """Effective conductance [N, m, n] of arrays g [N, m, n] in siemens; the resistances [N] get no gradient.

    Also returns F of every row, [m, N, n, n], for the adjoint. Under ``vmap`` the replicas join the N arrays of
    one call: then the computation sees numbers, counts its terms by them, and works in place.
    """

    @staticmethod
    def forward(g: Tensor, r_word: Tensor, r_bit: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
        word, bit = r_word[:, None, None], r_bit[:, None, None]
        count, m, n = g.shape
        parts = [slice(start, start + _PART) for start in range(0, count, _PART)]
        terms = [[0] * m if exact else _counts((bit * g)[part]) for part in parts]
        fast = all(map(all, terms))
        fine = torch.float32 if fast else torch.float64
        u, v = _line(word * g)
        left, right = g * u, word * g * v
        above = _collected(g, left, right)
        own, near, far = (bit * g).to(fine), (bit * left).to(fine), right.to(fine)
        upper = _upper(g)
        lost = torch.empty(m, count, n, n, dtype=fine, device=g.device)
        # A few arrays and one row at a time: more would not stay in the processor's cache.
        for part, counts in zip(parts, terms, strict=True):
            for i in range(m):
                product = near[part, i, :, None] * far[part, i, None, :]
                taken = torch.where(upper, product, product.mT)
                pull = lost[i - 1, part] - taken if i else taken.neg_()
                pull.diagonal(dim1=-2, dim2=-1).add_(own[part, i])
                _lost(pull, counts[i] if fast else 0, lost[i, part])
                rows = above[part, : i + 1]
                rows -= rows.to(fine) @ lost[i, part]
        return above, lost

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[:3], output[1])

    @staticmethod
    def backward(ctx, received: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return _Adjoint.apply(received, *ctx.saved_tensors), None, None, None

    @staticmethod
    def vmap(info, in_dims, g, r_word, r_bit, exact: bool):
        flat, shape = _mapped(info, in_dims[:3], g, r_word, r_bit)
        above, lost = _Network.apply(*flat, exact)
        return (above.unflatten(0, shape), lost.unflatten(1, shape)), (0, 1)


class _Adjoint(torch.autograd.Function):
    """The gradient [N, m, n] in g of what :class:`_Network` computes, given that in its result, ``received``.

    The elimination run backwards. A change of g changes Y by X' dg X, where X = I - r_word H g is the share of
    a cell's voltage that a change in another cell of its word line leaves it.
    """

    @staticmethod
    def forward(received: Tensor, g: Tensor, r_word: Tensor, r_bit: Tensor, lost: Tensor) -> Tensor:
        word, bit = r_word[:, None, None], r_bit[:, None, None]
        fine = lost.dtype
        u, v = _line(word * g)
        collected = _collected(g, g * u, word * g * v).to(fine)
        factors = [factor.to(fine) for factor in (word * u, g * v, word * v, g * u)]
        upper = _upper(g)
        gradient = torch.empty_like(received, dtype=fine)
        for start in range(0, len(g), _PART):
            part = slice(start, start + _PART)
            # The states S_i once more, in single precision: they only meet the incoming gradient.
            states = [collected[part, :0]]
            for i in range(g.shape[1]):
                rows = torch.cat([states[-1], collected[part, i : i + 1]], -2)
                states.append(torch.baddbmm(rows, rows, lost[i, part], alpha=-1))
            carried, passed = received[part].to(fine), torch.zeros_like(lost[0, part])
            for i in reversed(range(g.shape[1])):
                loss = lost[i, part]
                carried = torch.baddbmm(carried, carried, loss, alpha=-1)
                half = torch.baddbmm(passed, loss, passed, alpha=-1)
                passed = torch.baddbmm(half, half, loss, alpha=-1)
                passed.baddbmm_(states[i + 1].mT, carried, alpha=-1)
                # I - X, and with it the diagonal of X P X' and the part that goes straight down.
                a, b, c, d = (factor[part, i] for factor in factors)
                taken = torch.where(upper, a[:, :, None] * b[:, None, :], c[:, :, None] * d[:, None, :])
                through = torch.baddbmm(passed, taken, passed, alpha=-1)
                diagonal = through.diagonal(dim1=-2, dim2=-1) - (through * taken).sum(-1)
                straight = carried[:, i] - (taken @ carried[:, i, :, None]).squeeze(-1)
                gradient[part, i] = bit[part, 0].to(fine) * diagonal + straight * (1 - taken.sum(-1))
                carried = carried[:, :i]
        return gradient.to(g.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Nothing is kept: there is no second derivative."""

    @staticmethod
    def backward(ctx, _: Tensor) -> tuple[None, ...]:
        raise RuntimeError("The effective conductance has no second derivative.")

    @staticmethod
    def vmap(info, in_dims, received, g, r_word, r_bit, lost):
        flat, shape = _mapped(info, in_dims[1:4], g, r_word, r_bit)
        size = info.batch_size
        sent = received.expand(size, *received.shape) if in_dims[0] is None else received.movedim(in_dims[0], 0)
        rows = lost.unsqueeze(1).expand(-1, size, -1, -1, -1) if in_dims[4] is None else lost.movedim(in_dims[4], 1)
        return _Adjoint.apply(sent.flatten(0, 1), *flat, rows.flatten(1, 2)).unflatten(0, shape), 0


def _counts(loads: Tensor) -> list[int]:
    """How many pairs of the series leave a remainder below ``_SERIES_ERROR``, row by row; all 0: an inverse.

    ``loads`` [N, m, n] are r_bit times the conductances. Two bounds on E: it is at most the sum of the
    loads of the rows so far; and however many they are, it stays below the solution of E = x + E / (1 + E)
    with x the largest load, because wires further up hide behind those below. ``terms`` pairs leave E^(2
    terms + 1).
    """
    largest = float(loads.max())
    most = (largest + math.sqrt(largest**2 + 4 * largest)) / 2
    bounds = [min(most, bound) for bound in loads.cumsum(-2).amax((0, -1)).tolist()]
    if not bounds[-1] <= _SERIES_LIMIT:
        return [0] * len(bounds)
    target = math.log(_SERIES_ERROR)
    return [max(1, math.ceil((target / math.log(max(bound, 1e-12)) - 1) / 2)) for bound in bounds]


def effective_conductance(
    conductance: Tensor, r_word: float | Tensor, r_bit: float | Tensor, *, exact: bool = False
) -> Tensor:
    """What an array conducts from each input to each output once its wires have resistance.

    ``conductance`` [..., m, n] in microsiemens (m word lines, n bit lines, none negative), ``r_word`` and
    ``r_bit`` in ohm per segment, numbers or tensors that broadcast over the leading dimensions. Returns
    [..., m, n] in microsiemens, float64: output currents are ``V @ result``. Differentiable in
    ``conductance``; ``torch.func.vmap`` maps it over arrays and resistances. ``exact`` asks for double
    precision throughout.
    """
    shape = conductance.shape
    resistances = []
    for name, given in (("r_word", r_word), ("r_bit", r_bit)):
        if not isinstance(given, Tensor):
            given = torch.tensor(checks.number(name, given, low=0), dtype=torch.float64)
        given = given.to(device=conductance.device, dtype=torch.float64)
        resistances.append(given.expand(shape[:-2]).reshape(-1))
    arrays = conductance.to(torch.float64).reshape(-1, *shape[-2:]) * MICRO
    return _Network.apply(arrays, *resistances, exact)[0].reshape(shape) / MICRO
