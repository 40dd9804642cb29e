"""How well a score tells beforehand: ROC area, and predictions for groups that were never seen."""

from __future__ import annotations

import numpy as np
import pandas as pd


def area(score: pd.Series | np.ndarray, label: pd.Series | np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties count half."""
    good, bad = (np.asarray(score, dtype=float)[np.asarray(label, dtype=bool) == side] for side in (True, False))
    if not len(good) or not len(bad):
        return float("nan")
    above = np.sign(good[:, None] - bad[None, :])
    return float((above.mean() + 1) / 2)


def balanced(predicted: np.ndarray, label: np.ndarray) -> float:
    """Mean of the shares of positives and of negatives that are predicted right."""
    sides = [(predicted == label)[label == side] for side in (True, False)]
    return float(np.mean([side.mean() for side in sides if len(side)])) if len(label) else float("nan")


def held_out(score: np.ndarray, label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Predictions for every group by the threshold on ``score`` that is best on all other groups."""
    predicted = np.zeros(len(score), dtype=bool)
    for name in np.unique(group):
        inside = group == name
        ordered = np.unique(score[~inside])
        # Between neighbours, and below the lowest: a threshold on a value would turn on rounding.
        options = np.concatenate([[-np.inf], (ordered[1:] + ordered[:-1]) / 2])
        worth = [balanced(score[~inside] > option, label[~inside]) for option in options]
        predicted[inside] = score[inside] > options[int(np.argmax(worth))]
    return predicted


def joint(scores: np.ndarray, label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The chance of a positive [N] by logistic regression on ``scores`` [N, D], fitted without the row's own group.

    Scores become ranks first (of the rows that are fitted), so that their units and outliers do not matter; a ridge of
    one keeps correlated scores apart. nan where the other groups hold one outcome only.
    """
    from sklearn.linear_model import LogisticRegression

    chance = np.full(len(label), np.nan)
    for name in np.unique(group):
        inside = group == name
        known, truth = scores[~inside], label[~inside]
        if len(np.unique(truth)) < 2:
            continue
        ordered = np.sort(known, axis=0)
        ranks = np.stack(
            [np.searchsorted(ordered[:, i], scores[:, i]) / len(known) for i in range(scores.shape[1])], axis=1
        )
        model = LogisticRegression(C=1.0, class_weight="balanced").fit(ranks[~inside], truth)
        chance[inside] = model.predict_proba(ranks[inside])[:, 1]
    return chance
