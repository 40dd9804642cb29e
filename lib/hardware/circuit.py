"""The crossbar as a circuit: wires that have resistance, solved exactly, with an exact gradient.

An array has m word lines (inputs) and n bit lines (outputs). A source drives word line i through one wire
segment of resistance r_word before its first cell and one more between neighbouring cells; the far end
floats. Bit line j collects the currents of its cells and leads them down, through one segment of r_bit per
row, to a node held at 0 V; its top end floats. Cell (i, j) is a conductance G[i, j] between the two lines.

With linear cells the output currents are exactly linear in the input voltages, I = V @ G_eff, so the whole
effect of the wires is one matrix, the effective conductance. :func:`effective_conductance` computes it,
:func:`tiled_conductance` that of a layer that is cut into several arrays, and :func:`approximate_conductance`
a cheap estimate.

How. Let word line i carry V_i and let b be the voltages of the bit lines at that row. Eliminating the nodes
of the word line leaves the currents Y_i (V_i 1 - b) into the bit lines. Y_i = (diag(1/G_i) + r_word A)^-1 is
an n x n matrix, and A_kl = min(k, l) the number of segments that two cells share. It has a closed form,
because A^-1 + r_word diag(G_i) is tridiagonal. Going down the rows, with F = I - (I + E)^-1 and F_0 = 0,

    E_i = r_bit Y_i + F_(i-1),        S_i = [S_(i-1); Y_i 1] (I - F_i),        G_eff = S_m.

F_i is what one more segment of wire takes away. In single precision, by a short series where it is small and from an
inverse where it is not, it is good to a few 1e-7 of the currents; the subtraction is in double precision. Where asked
for, everything is in double precision and F comes from an inverse. A row costs n^3, so an array with more bit lines
than word lines is solved as its mirror image, in which the two have changed places.
"""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

from lib import checks
from lib.checks import ParameterError

MICRO = 1e-6
# Above this bound on E the series E - E^2 + E^3 - ... is longer than an inverse is slow.
_SERIES_LIMIT = 0.25
_SERIES_ERROR = 1e-9
# Arrays that are worked on at a time.
_PART = 20
_GIBIBYTE = 2**30
# A solution this small is not worth the question how much memory there is.
_SMALL = _GIBIBYTE // 16
# Seconds from which a solution is long enough to be told of.
_LONG = 10.0


def wrapped(given: Tensor) -> bool:
    """Does the tensor belong to a ``torch.func`` transform, so that its numbers cannot be looked at?"""
    return torch._C._functorch.is_functorch_wrapped_tensor(given)


def _not_negative(name: str, given: Tensor) -> None:
    """Refuse a tensor with an entry that is negative or not finite.

    Inside ``torch.func`` transforms nothing is looked at: there the numbers differ from replica to replica, and
    one that has diverged must not end the others.
    """
    if given.numel() and not wrapped(given):
        # Both extremes of a tensor with a NaN in it are NaN.
        for extreme in torch.aminmax(given.detach()):
            checks.number(name, extreme.item(), low=0)


def checked(
    conductance: Tensor, r_word: float | Tensor, r_bit: float | Tensor, dimensions: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Checked: the conductance [..., m, n] and both resistances, float64 on its device."""
    if not isinstance(conductance, Tensor):
        raise ParameterError(f"conductance must be a tensor, but {type(conductance).__name__} was given.")
    shape = tuple(conductance.shape)
    if len(shape) < 2 or 0 in shape[-2:] or dimensions not in (None, len(shape)):
        allowed = "[m, n]" if dimensions == 2 else "[..., m, n]"
        raise ParameterError(f"conductance must be of shape {allowed} with m, n >= 1, but {list(shape)} was given.")
    _not_negative("conductance", conductance)
    resistances = []
    for name, given in (("r_word", r_word), ("r_bit", r_bit)):
        if isinstance(given, Tensor):
            _not_negative(name, given)
        else:
            given = torch.tensor(checks.number(name, given, low=0), dtype=torch.float64)
        resistances.append(given.to(conductance.device, torch.float64))
    return conductance.to(torch.float64), *resistances  # type: ignore[return-value]


def _free_memory(device: torch.device) -> int:
    """Bytes that can still be had on the device."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    try:
        # The system's own count of free pages leaves out what it would give back from its caches.
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def room(arrays: Tensor, need: float, seconds: float) -> None:
    """Refuse arrays [..., m, n] that ``need`` more bytes than are free, and warn of ``seconds`` that are many."""
    *lead, m, n = arrays.shape
    what = f"{math.prod(lead)} of {max(m, n)} by {min(m, n)} lines"
    if need > _SMALL and need > (free := _free_memory(arrays.device)):
        raise ParameterError(
            f"conductance must be arrays that can be solved in the {free / _GIBIBYTE:.1f} GiB of memory that are free"
            f" (cut into tiles they need less), but {what}, which need {need / _GIBIBYTE:.1f} GiB, was given."
        )
    # Below a usual tile's size, tiles would not help.
    if seconds > _LONG and min(m, n) > 64 and arrays.device.type == "cpu":
        tiles = "in tiles, as with IRDrop(tile=(64, 64)), it takes a fraction of that"
        warnings.warn(f"To solve arrays ({what}) takes about {seconds:.0f} s on a core; {tiles}.", stacklevel=2)


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
        # E is symmetric and not negative. Without the check, numbers that have diverged are passed on.
        factor = torch.linalg.cholesky_ex(unit + pull).L
        torch.sub(unit, torch.cholesky_inverse(factor), out=out)
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
    return [value.flatten(0, 1) for value in tensors], tuple(tensors[0].shape[:2])  # type: ignore[return-value]


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
        fine = torch.float64 if exact else torch.float32
        room(g, count * m * n**2 * fine.itemsize, count * m * n**3 * fine.itemsize * 6e-11)
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
                _lost(pull, counts[i], lost[i, part])
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

    ``loads`` [N, m, n] are r_bit times the conductances. Two bounds on E: it is at most the sum of the loads of the
    rows so far; and however many they are, it stays below the solution of E = x + E / (1 + E) with x the largest load,
    because wires further up hide behind those below. ``terms`` pairs leave E^(2 terms + 1).
    """
    largest = float(loads.max())
    most = (largest + math.sqrt(largest**2 + 4 * largest)) / 2
    bounds = [min(most, bound) for bound in loads.cumsum(-2).amax((0, -1)).tolist()]
    if not bounds[-1] <= _SERIES_LIMIT:
        return [0] * len(bounds)
    target = math.log(_SERIES_ERROR)
    return [max(1, math.ceil((target / math.log(max(bound, 1e-12)) - 1) / 2)) for bound in bounds]


def _mirrored(g: Tensor) -> Tensor:
    """The array [..., n, m] in which sources and sense nodes have changed places; its mirror image is ``g``."""
    return g.mT.flip(-2, -1)


def effective_conductance(
    conductance: Tensor, r_word: float | Tensor, r_bit: float | Tensor, *, exact: bool = False
) -> Tensor:
    """What an array conducts from each input to each output once its wires have resistance.

    ``conductance`` [..., m, n] in microsiemens (m word lines, n bit lines, none negative), ``r_word`` and ``r_bit`` in
    ohm per segment, numbers or tensors that broadcast over the leading dimensions. Returns [..., m, n] in microsiemens,
    float64: output currents are ``V @ result``. Differentiable in ``conductance``; ``torch.func.vmap`` maps it over
    arrays and resistances. ``exact`` asks for double precision throughout.

    Raises :class:`~lib.checks.ParameterError` for a conductance or a resistance that is negative or not finite
    (outside ``torch.func`` transforms) and for arrays that would not fit into memory.
    """
    given, word, bit = checked(conductance, r_word, r_bit)
    # Reciprocity: the same cell joins the same two terminals whichever of them is driven.
    wide = given.shape[-1] > given.shape[-2]
    if wide:
        given, word, bit = _mirrored(given), bit, word
    shape = given.shape
    resistances = (each.expand(shape[:-2]).reshape(-1) for each in (word, bit))
    arrays = given.reshape(-1, *shape[-2:]) * MICRO
    solved = _Network.apply(arrays, *resistances, exact)[0].reshape(shape) / MICRO
    if not wrapped(solved) and given.isfinite().all() and not solved.isfinite().all():
        raise ParameterError(
            f"r_word and r_bit must be resistances whose circuit can be solved in double precision, but up to "
            f"{float(word.max()):g} and {float(bit.max()):g} ohm on {shape[-2]} by {shape[-1]} lines were given."
        )
    return _mirrored(solved) if wide else solved


def _pieces(size: int, most: int) -> list[tuple[slice, int, int]]:
    """A side of ``size`` lines in pieces of ``most``, and the rest: where, how many pieces, and how long each."""
    whole = size - size % most
    parts = [(slice(0, whole), whole // most, most), (slice(whole, size), 1, size - whole)]
    return [part for part in parts if part[0].start < part[0].stop]


def check_tile(tile: object) -> tuple[int, int]:
    """``tile`` as numbers of word and bit lines, if it is two whole numbers of at least 1."""
    if not isinstance(tile, list | tuple) or len(tile) != 2:
        raise ParameterError(f"tile must be two integers of at least 1, but {tile!r} was given.")
    rows, columns = (checks.integer(f"tile[{at}]", most, low=1) for at, most in enumerate(tile))
    return rows, columns


def tiled_conductance(
    conductance: Tensor, r_word: float | Tensor, r_bit: float | Tensor, tile: tuple[int, int], *, exact: bool = False
) -> Tensor:
    """The effective conductance of a layer that is cut into arrays of at most ``tile`` (word, bit) lines.

    Every tile is an array of its own with wires, sources and sense nodes of its own; those at the lower and the
    right edge are as small as what is left. The currents of tiles that share outputs are added digitally, so
    the result [..., m, n] is made of the tiles' own effective conductances. Arguments, units and errors as in
    :func:`effective_conductance`; tiles of equal size are solved as one batch.
    """
    rows, columns = check_tile(tile)
    given, word, bit = checked(conductance, r_word, r_bit)
    wires = [each[..., None, None] if each.dim() else each for each in (word, bit)]
    bands = []
    for across, down, height in _pieces(given.shape[-2], rows):
        band = []
        for along, right, width in _pieces(given.shape[-1], columns):
            tiles = given[..., across, along].unflatten(-2, (down, height)).unflatten(-1, (right, width))
            solved = effective_conductance(tiles.transpose(-3, -2), *wires, exact=exact)
            band.append(solved.transpose(-3, -2).flatten(-2).flatten(-3, -2))
        bands.append(torch.cat(band, -1))
    return torch.cat(bands, -2)


def approximate_conductance(conductance: Tensor, r_word: float | Tensor, r_bit: float | Tensor) -> Tensor:
    """An estimate of :func:`effective_conductance` by five matrix products; same arguments, units and errors.

    To first order in the resistances a cell's word line takes the share W = r_word G A of its voltage and its bit
    line the share D = r_bit B G of its current. A_kl = min(k, l) and B_ik = m + 1 - max(i, k) count the segments
    that two cells share, from 1. G / (1 + W + D) has that order right. To second order the other cells of a line
    pull less, by their own 1 + W or 1 + D, relative to this one's:

        G / (1 + r_word (G w) A / w + r_bit B (G d) / d),        w = 1 / (1 + W),  d = 1 / (1 + D).

    What is left of that order is a path through three cells: out of the word line, along a bit line into another
    word line, and along that. Exactly it takes m^2 n^2 operations. Here the conductance of a bit line's cells
    stands for their mean, weighted with B, which leaves an error of second order that vanishes for equal cells
    and averages out over many. How large the errors are: see the test, ``test_hardware_circuit.py``.
    """
    g, word, bit = checked(conductance, r_word, r_bit)
    word, bit = (each[..., None, None] * MICRO for each in (word, bit))
    m, n = g.shape[-2:]
    down, along = (torch.arange(1, size + 1, dtype=g.dtype, device=g.device) for size in (m, n))
    shared_word = torch.minimum(along[:, None], along)
    shared_bit = m + 1 - torch.maximum(down[:, None], down)
    below = shared_bit @ g
    mean = below / shared_bit.sum(-1, keepdim=True)
    taken, lost = word * (g @ shared_word), bit * below
    w, d = 1 / (1 + taken), 1 / (1 + lost)
    direct = g / (1 + word * ((g * w) @ shared_word) / w + bit * (shared_bit @ (g * d)) / d)
    # The path through three cells, less what the direct term already has of it.
    around = lost * (word * ((g * mean) @ shared_word) - g * taken)
    return direct + around * (w * d) ** 2
