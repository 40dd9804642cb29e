"""How well a score tells beforehand: ROC area, and predictions for groups that were never seen.

``within`` [N] names strata, such as recipes of training: a positive is compared with negatives of its own stratum only,
so that how many positives a stratum has cannot help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from lib.verdicts import tail

Labels: TypeAlias = pd.Series | np.ndarray


def area(score: Labels, label: Labels, within: Labels | None = None) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties count half."""
    won, met = duels(score, label, within)
    return float(won.sum() / met.sum()) if met.any() else float("nan")


def duels(
    score: Labels, label: Labels, within: Labels | None = None, unit: Labels | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How many duels of a positive of unit t with a negative of unit u there are, ``met`` [T, T], and how many of them
    the positive has ``won`` [T, T], ties count half; units in sorted order, all rows are one where none are given.

    Rows without a score meet nobody.
    """
    score, label = np.asarray(score, dtype=float), np.asarray(label, dtype=bool)
    strata, units = (_codes(one, len(label)) for one in (within, unit))
    count = int(units.max(initial=0)) + 1
    won, met = np.zeros(count * count), np.zeros(count * count)
    known = np.isfinite(score)
    for stratum in np.unique(strata):
        own = known & (strata == stratum)
        good, bad = np.flatnonzero(own & label), np.flatnonzero(own & ~label)
        above = (np.sign(score[good][:, None] - score[bad][None, :]) + 1) / 2
        place = (count * units[good][:, None] + units[bad][None, :]).ravel()
        won += np.bincount(place, above.ravel(), minlength=len(won))
        met += np.bincount(place, minlength=len(met))
    return won.reshape(count, count), met.reshape(count, count)


Duels: TypeAlias = tuple[np.ndarray, np.ndarray]


def drawn_again(
    score: Labels,
    label: Labels,
    unit: Labels,
    within: Labels | None = None,
    rival: Labels | None = None,
    resamples: int = 500,
) -> tuple[float, tuple[float, float]]:
    """The area of a score with its 95 % interval when whole units are drawn again, or by how much it is larger than
    that of a ``rival`` on the rows that have the score.
    """
    found = duels(score, label, within, unit)
    other = () if rival is None else (duels(np.where(np.isfinite(score), rival, np.nan), label, within, unit),)
    return clustered(found, [np.arange(len(found[0]))], other, resamples)


def conjunction(scores: np.ndarray, label: np.ndarray, group: np.ndarray, options: int = 9) -> np.ndarray:
    """For every group: are all of the ``scores`` [N, D] above thresholds that are best together on all other groups?

    The thresholds of each score are ``options`` quantiles of it and one below all; what is best has the largest
    balanced accuracy, and among equals the lowest thresholds. A score that is not known is not above any threshold but
    the lowest.
    """
    filled = np.where(np.isfinite(scores), scores, -np.inf)
    said = np.zeros(len(label), dtype=bool)
    for name in np.unique(group):
        inside = group == name
        known = filled[~inside]
        grids = []
        for column in known.T:
            finite = column[np.isfinite(column)]
            ends = np.linspace(0, 1, options + 2)[1:-1]
            grids.append([None, *(np.unique(np.quantile(finite, ends)) if len(finite) else ())])
        # By how many of each side are above: a row for every choice of thresholds, in the order of their product.
        above = np.ones((1, len(known)), dtype=bool)
        for column, bounds in zip(known.T, grids, strict=True):
            own = np.stack([_all_above(column[:, None], (bound,)) for bound in bounds])
            above = (above[:, None] & own).reshape(-1, len(known))
        best, worth = None, -1.0
        for picked, value in zip(product(*grids), _balanced(above, label[~inside]), strict=True):
            if value > worth + 1e-12:
                best, worth = picked, value
        said[inside] = _all_above(filled[inside], best)
    return said


def _all_above(scores: np.ndarray, thresholds: tuple[float | None, ...] | None) -> np.ndarray:
    above = np.ones(len(scores), dtype=bool)
    for column, bound in zip(scores.T, thresholds or (), strict=False):
        if bound is not None:
            above &= column > bound
    return above


def _codes(names: Labels | None, count: int) -> np.ndarray:
    return np.zeros(count, dtype=int) if names is None else np.unique(np.asarray(names), return_inverse=True)[1]


def balanced(predicted: np.ndarray, label: np.ndarray) -> float:
    """Mean of the shares of positives and of negatives that are predicted right."""
    return float(_balanced(np.asarray(predicted)[None], label)[0])


def _balanced(predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
    """As :func:`balanced`, of every row of predictions [R, N]."""
    right = predicted == np.asarray(label)
    shares = [right[:, label == side].mean(1) for side in (True, False) if (label == side).any()]
    return np.mean(shares, axis=0) if shares else np.full(len(predicted), np.nan)


def threshold(score: np.ndarray, label: np.ndarray, within: np.ndarray | None = None) -> float:
    """The value above which rows are best called positive: by balanced accuracy, a mean over strata that weighs each by
    its duels.
    """
    strata = _codes(within, len(label))
    ordered = np.unique(score[np.isfinite(score)])
    # Between neighbours, and below the lowest: a threshold on a value would turn on rounding.
    options = np.concatenate([[-np.inf], (ordered[1:] + ordered[:-1]) / 2])
    worth, weights = [], []
    for stratum in np.unique(strata):
        sides = [np.sort(score[(strata == stratum) & (label == side)]) for side in (True, False)]
        below = [np.searchsorted(side, options, "right") / max(len(side), 1) for side in sides]
        right = [share for share, side in zip((1 - below[0], below[1]), sides, strict=True) if len(side)]
        worth.append(np.mean(right, axis=0))
        weights.append(len(sides[0]) * len(sides[1]))
    found = np.average(worth, axis=0, weights=weights if any(weights) else None) if worth else np.zeros(1)
    return float(options[int(np.argmax(found))])


def held_out(score: np.ndarray, label: np.ndarray, group: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """Predictions for every group by the threshold on ``score`` that is best on all other groups."""
    predicted = np.zeros(len(score), dtype=bool)
    for name in np.unique(group):
        inside = group == name
        others = None if within is None else within[~inside]
        predicted[inside] = score[inside] > threshold(score[~inside], label[~inside], others)
    return predicted


def joint(scores: np.ndarray, label: np.ndarray, group: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """The chance of a positive [N] by logistic regression on ``scores`` [N, D], fitted without the row's own group.

    Scores become ranks first (of the rows that are fitted), so that their units and outliers do not matter; a ridge of
    one keeps correlated scores apart. Positives and negatives of every stratum weigh alike; a stratum with one outcome
    only teaches nothing. nan where no other group has both.
    """
    from sklearn.linear_model import LogisticRegression

    chance = np.full(len(label), np.nan)
    sides: np.ndarray = 2 * _codes(within, len(label)) + label
    for name in np.unique(group):
        inside = group == name
        known, mine = scores[~inside], sides[~inside]
        counts = np.bincount(mine, minlength=2 * (int(sides.max()) // 2 + 1)).reshape(-1, 2)
        both = counts.min(axis=1) > 0
        if not both.any():
            continue
        weights = np.where(both[mine // 2], counts[both].sum() / (2 * both.sum() * counts.ravel()[mine]), 0)
        ranks = ranked(scores, known)
        model = LogisticRegression(C=1.0).fit(ranks[~inside], label[~inside], sample_weight=weights)
        chance[inside] = model.predict_proba(ranks[inside])[:, 1]
    return chance


def ranked(scores: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The share of ``known`` scores [M, D] below each of ``scores`` [N, D]."""
    ordered = np.sort(known, axis=0)
    return np.stack([np.searchsorted(ordered[:, i], scores[:, i]) / len(known) for i in range(scores.shape[1])], axis=1)


def clustered(
    found: Duels, clusters: Sequence[Labels], rivals: Sequence[Duels] = (), resamples: int = 2000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """The share of duels won with its 95 % interval when whole clusters are drawn again; with ``rivals``, by how much
    it is larger than that of the best of them (who is the best may differ from draw to draw).

    ``clusters`` [F][T] name, for every way to group units, the group of each of the T units; the first is the one that
    a claim is about. The groups of every way are drawn by themselves, and a duel counts as often as its two sides are
    drawn (the pigeonhole bootstrap, Owen 2007), but copies of one group do not meet each other: they are not two.
    Percentiles are expanded for so many groups of the first kind as have duels. There is no interval with one of them
    alone, and none where more than one draw in twenty is without a duel: then a single group holds one side.
    """
    every = (found, *rivals)
    entered = np.flatnonzero(sum(met.sum(0) + met.sum(1) for _, met in every) > 0)
    every = tuple((won[np.ix_(entered, entered)], met[np.ix_(entered, entered)]) for won, met in every)

    def value(weights: np.ndarray) -> np.ndarray:
        shares = []
        for won, met in every:
            fought = (weights * met).sum((1, 2))
            shares.append((weights * won).sum((1, 2)) / np.where(fought > 0, fought, np.nan))
        return shares[0] - np.max(shares[1:], axis=0) if rivals else shares[0]

    point = float(value(np.ones((1, len(entered), len(entered))))[0])
    codes = [np.unique(np.asarray(one)[entered], return_inverse=True)[1] for one in clusters]
    if point != point or codes[0].max(initial=0) < 1:
        return point, (float("nan"), float("nan"))
    source, draws, left = np.random.default_rng(seed), [], resamples
    while left > 0:
        part = min(left, 250)
        weights = np.ones((part, len(entered), len(entered)))
        for code in codes:
            size = int(code.max()) + 1
            times = source.multinomial(size, np.full(size, 1 / size), part)[:, code].astype(float)
            same = code[:, None] == code[None, :]
            weights *= np.where(same, times[:, :, None], times[:, :, None] * times[:, None, :])
        draws.append(value(weights))
        left -= part
    values = np.concatenate(draws)
    fought = np.isfinite(values)
    if fought.mean() < 0.95:
        return point, (float("nan"), float("nan"))
    end = tail(int(codes[0].max()) + 1, 0.95)
    low, high = np.quantile(values[fought], [end, 1 - end])
    return point, (float(low), float(high))


class Selected(NamedTuple):
    """Predictions [N] of a measurement that is chosen anew for every group, its ranks [N] among the rows by which it
    was chosen, and the choice of each group.
    """

    said: np.ndarray
    rank: np.ndarray
    choice: dict[str, str]


def nested(
    scores: Mapping[str, np.ndarray], label: np.ndarray, group: np.ndarray, inner: np.ndarray, within: np.ndarray
) -> Selected:
    """For every group: on all others, the score that does best on each of *their* ``inner`` groups in turn with the
    threshold of the rest; then that score with the threshold that is best on all of them. The group itself is not
    looked at. Where the others hold one inner group only, the score that does best with its best threshold.
    """
    said, rank = np.zeros(len(label), dtype=bool), np.full(len(label), np.nan)
    choice = {}
    for name in np.unique(group):
        inside = group == name
        rows = np.flatnonzero(~inside)
        single = len(np.unique(inner[rows])) < 2
        worth = {}
        for key, score in scores.items():
            own = (score[rows], label[rows])
            tried = own[0] > threshold(*own, within[rows]) if single else held_out(*own, inner[rows], within[rows])
            worth[key] = area(tried, own[1], within[rows])
        best = max(worth, key=lambda key: np.nan_to_num(worth[key]))
        said[inside] = scores[best][inside] > threshold(scores[best][rows], label[rows], within[rows])
        rank[inside] = ranked(scores[best][inside, None], scores[best][rows, None])[:, 0]
        choice[str(name)] = best
    return Selected(said, rank, choice)
