"""Thresholds of Part I: ``since`` is the commit in which a criterion was first written, ``changed`` the one in which
its value was changed when numbers had been seen.
"""

from lib.verdicts import Threshold

# --------------------------------------------------------------------------------------------------- world
#: A quarter of the way from chance to 100 %: "far better than chance".
FAR_ABOVE_CHANCE = Threshold(0.25, since="bde1ba3")

# --------------------------------------------------------------------------------------------- photographs
#: Zero-shot accuracies in per cent that PhotoCLIP was to reach: on the classes of its pre-training by their names,
#: among twenty of them at a time, and on CIFAR-10 by words that it knows.
SEEN_BY_NAME = Threshold(30, since="02f7223")
TWENTY_OF_SEEN = Threshold(65, since="02f7223")
OBJECTS = Threshold(55, since="02f7223")

# ------------------------------------------------------------------------------------------------ learners
#: Points by which the worst learner must beat the hand-written sentence.
LEARNS = Threshold(0, since="321f052")
#: Rank correlation from which the number of parameters counts as deciding.
SIZE_DECIDES = Threshold(0.8, since="321f052")
#: Points that prompts in the vision tower must be worth more than prompts in the text alone.
VISION_PAYS = Threshold(5, since="321f052")

# -------------------------------------------------------------------------------------- gradient imbalance
#: Decades: ten times smaller.
TENFOLD = Threshold(1, since="bde1ba3")
#: The reported two to three orders of magnitude, in decades.
REPORTED_FROM = Threshold(2, since="bde1ba3")
REPORTED_TO = Threshold(3, since="bde1ba3")
#: Decades by which the factors may miss the measured gap.
EXACT = Threshold(1e-3, since="bde1ba3")
#: Share of the gap that counts as most of it.
MOST = Threshold(0.5, since="bde1ba3")
#: Decades, for the smallest gap of all learners and gates.
TENFOLD_EVERYWHERE = Threshold(1, since="1cd3c6e")
#: Decades within which a gap equals the reported one.
AS_REPORTED = Threshold(0.25, since="bde1ba3")
#: Decades that contexts must take off the gap by starting from words, and within which their length must say so.
FROM_WORDS = Threshold(0.25, since="5794fe4")

# ---------------------------------------------------------------------------------------- gate degradation
#: Input information below which a gate is nearly constant.
CONSTANT = Threshold(0.01, since="bde1ba3")
#: Ratio of input information after to before training below which training took it away.
TAKEN = Threshold(0.5, since="bde1ba3")
#: Share of values at either end of the sigmoid from which gates saturate.
SATURATED = Threshold(0.1, since="bde1ba3")
#: Share of a gate's variance between classes from which it follows them.
FOLLOWS_CLASSES = Threshold(0.5, since="bde1ba3")
#: Entries in use of a pool of eight below which a selector uses no more than half of it.
HALF_THE_POOL = Threshold(4, since="1cd3c6e")
#: I(X; G) / log E below which a selection hardly depends on the picture.
BLIND_CHOICE = Threshold(0.05, since="1cd3c6e")
#: Points by which the worth of a gate must have fallen from its best look to the last to have collapsed late.
FALLS = Threshold(2, since="9ce42d1")

# ---------------------------------------------------------------------------------------------- gate value
#: Points by which a gate must beat its own mean and its own shuffle to be called adaptive.
ADAPTIVE = Threshold(2, since="bde1ba3")
#: Points by which a gated learner must beat the ungated one for the gate to be worth its parameters.
WORTHWHILE = Threshold(5, since="bde1ba3", changed="babed03", first=2)
#: The same against a gate of as many parameters that sees another picture.
WORTHWHILE_OVER_BLIND = Threshold(5, since="1cd3c6e")
#: Points below which a gate's advantage counts as nothing.
NOTHING = Threshold(1, since="bde1ba3")
#: The same for every number of pictures per class.
NOTHING_WITH_FEW = Threshold(1, since="1cd3c6e")
#: Points that the control, which must come out adaptive, has to be worth.
CONTROL = Threshold(10, since="bde1ba3")

# -------------------------------------------------------------------------------------------- gap's origin
#: Decades within which a prediction counts as right.
CLOSE = Threshold(0.1, since="c4c37fc")
#: Decades that an intervention must take off the gap to count as closing it.
CLOSES = Threshold(0.5, since="c4c37fc")
#: Decades by which a cosine must differ from that of random directions, and one gap from another, to count.
MATTERS = Threshold(0.1, since="5794fe4")
#: Mean absolute cosine below which directions count as perpendicular; random ones have sqrt(2 / (pi d)).
PERPENDICULAR = Threshold(0.02, since="1cd3c6e")

# ------------------------------------------------------------------------------------------------- escape
#: Points that a gate which is told the cue must be worth for there to be something to gain, and prompts by their start.
SOMETHING_TO_GAIN = Threshold(10, since="1cd3c6e")
#: Decades of steps that a decade of gap must cost at least, for gates that are behind to leave later.
LATER = Threshold(0.1, since="1cd3c6e")
#: The same for the steps to be in proportion to the gap.
IN_PROPORTION = Threshold(0.8, since="1cd3c6e")
#: Decades of steps per decade within which two slopes count as one.
SAME_SLOPE = Threshold(0.25, since="d823a6b")

# --------------------------------------------------------------------------------------------- predictors
#: Area under the ROC curve from which on a measurement counts as telling.
TELLS = Threshold(0.8, since="1cd3c6e")

# --------------------------------------------------------------------------------- dependence and gain, anywhere
#: Share of the seeds that alone may have something from a gate, and have to be seen: eight seeds see one in five.
RARE = Threshold(0.2, since="0f42962")
#: Points within which a gain counts as none: the margin of equivalence.
NO_GAIN = Threshold(1, since="0f42962")
#: Points over the blind gate and over no gate from which a gate gains.
GAINS = Threshold(1, since="0f42962")
#: Points against the learner without a gate below which a gate harms.
HARMS = Threshold(-1, since="0f42962")
#: Share of the seeds that makes it most of them.
MOST_SEEDS = Threshold(0.5, since="0f42962")

# ------------------------------------------------------------------------------------------------- fair trial
#: Nats by which the training loss may still fall from the last tenth but one of the steps to the last, to be flat.
FLAT = Threshold(0.05, since="5a4e368")
