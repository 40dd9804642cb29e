"""The thresholds of the fair trial of the separation, each with the commit in which it was first written.

What they share with the other pages on hardware (damage, recovery, areas that tell) is in
:mod:`paper.criteria.hardware`.
"""

from __future__ import annotations

from lib.verdicts import Threshold

_FIRST = "1ef168b"

# ------------------------------------------------------------------------------------------------ recipe
#: A network has converged when its loss falls, over the last quarter of training, by at most this share of all that it
#: fell.
FLAT = Threshold(0.05, since=_FIRST)
#: A training through hardware whose loss still falls by more than this share of all that it fell, over the last quarter
#: of its steps, has not converged: it may say that something is compensated, and not that it is not.
RISING = Threshold(0.2, since=_FIRST)
#: The share of cells whose side must not change when the learning rate does.
SAME_SIDE = Threshold(0.8, since=_FIRST)
#: Recovery that a measure without any gradient must reach to count as a good part of the compensation.
FREE_PART = Threshold(0.2, since=_FIRST)

# ------------------------------------------------------------------------------------------- separation
#: The share of the variance of recovery that lies between families when the line runs between them.
BETWEEN = Threshold(0.5, since=_FIRST)
#: At least one family must be on each side, whole.
ONE_FAMILY = Threshold(1.0, since=_FIRST)
#: An area under the ROC curve that a coin has: what a telling diagnostic must be above in the whole interval.
COIN = Threshold(0.5, since=_FIRST)
#: One predictor is better than another, by however little.
BETTER = Threshold(0.0, since=_FIRST)
