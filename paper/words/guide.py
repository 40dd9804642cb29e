"""What the guide says: a sentence for each outcome of a finding, named by its id; an inconclusive one says nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """Under a ``question``: what is said where the finding holds, and where it does not (``fails``).

    ``{value}``, ``{low}``, ``{high}`` stand for the measured numbers, ``{steps}`` for the steps of its page.
    """

    question: str
    holds: str
    fails: str


@dataclass(frozen=True)
class Listing(Rule):
    """A rule for findings that are alike: ``{names}`` lists those with this outcome, each with its number in ``digits``
    after the point; ``{criterion}`` is what they share.
    """

    digits: int = 0


DISEASE = "The gate's gradient is far smaller than the prompts'. Is that the disease?"
ORIGIN = "Where does the gap come from?"
COLLAPSE = "My gate is nearly constant. Has training made it so?"
WORTH = "Is the gate worth anything on my task?"
BEFOREHAND = "Can I know before paying for the training?"
IDLE = "The gate is idle though there is something to gain. What helps?"
STEPS = "How many steps does a gate need?"

#: The rule of each finding, by its id, in the order of the page.
RULES: dict[str, Rule] = {
    "gradient_imbalance.survey.total": Rule(
        DISEASE,
        "Every learner and gate of which both prompts and gate get a gradient has such a gap before the first step,"
        " in the mean over tasks {value:.1f} decades [{low:.1f}, {high:.1f}] at the least.",
        "Not every learner and gate has it: the smallest gap before the first step, in the mean over tasks, is"
        " {value:.1f} decades [{low:.1f}, {high:.1f}].",
    ),
    "gradient_imbalance.null": Rule(
        DISEASE,
        "With random weights, where there is nothing to adapt to, it is {value:.1f} decades: it comes with the wiring"
        " and is no sign of a bad gate.",
        "With random weights it is only {value:.1f} decades: it comes with what the backbone has learned.",
    ),
    "predictors.before.gap": Rule(
        DISEASE,
        "*A small gap before training speaks for a gate*: as a test of which gates will gain it has an area under the"
        " ROC curve of {value:.2f} [{low:.2f}, {high:.2f}] over the trainings of the drawn world.",
        "*Do not judge a gate by it*: as a test of which gates will gain it has an area under the ROC curve of"
        " {value:.2f} [{low:.2f}, {high:.2f}] before training, over the trainings of the drawn world.",
    ),
    "gradient_imbalance.meeting": Rule(
        ORIGIN,
        "{value:.0%} of it from short prompts at a poor angle to their gradient.",
        "Only {value:.0%} of it from short prompts at a poor angle to their gradient.",
    ),
    "gap_origin.perpendicular": Rule(
        ORIGIN,
        "The gradient is perpendicular to the token that the tower sees (mean |cosine| {value:.3f}): the more of a"
        " token is prompt, the less there is for a gate that scales it.",
        "The gradient is not perpendicular to the token that the tower sees (mean |cosine| {value:.3f}).",
    ),
    "gap_origin.gap.temperature": Rule(
        ORIGIN,
        "*Cool the gate to close it*: that moves the gap as predicted, to within {value:.2f} decades.",
        "Cooling the gate is no reliable lever: the gap misses the prediction by {value:.2f} decades.",
    ),
    "gap_origin.gap.gain": Rule(
        ORIGIN,
        "*Scale what the gate sees to close it*: that moves the gap as predicted, to within {value:.2f} decades.",
        "Scaling what the gate sees is no reliable lever: the gap misses the prediction by {value:.2f} decades.",
    ),
    "gap_origin.longer": Rule(
        ORIGIN,
        "Prompts ten times as long take {value:.2f} decades off it.",
        "Prompts ten times as long do not close it ({value:.2f} decades).",
    ),
    "gap_origin.turned": Rule(
        ORIGIN,
        "Prompts turned towards their gradient take {value:.2f} decades off it.",
        "Prompts turned towards their gradient do not close it ({value:.2f} decades): the gradient turns away.",
    ),
    "gate_degradation.constant.before": Rule(
        COLLAPSE,
        "It was nearly constant before the first step already (input information {value:.5f}): *compare with its start"
        " before you speak of collapse.*",
        "It was not constant before the first step (input information {value:.2f}).",
    ),
    "gate_degradation.taken": Rule(
        COLLAPSE,
        "Training on ordinary tasks takes half of a gate's input information and more away (after over before:"
        " {value:.2f}).",
        "Training on ordinary tasks does not take a gate's input information away (after over before: {value:.2f}).",
    ),
    "gate_degradation.saturated": Rule(
        COLLAPSE,
        "Saturation is a part of it: {value:.0%} of the values.",
        "Saturation is not the reason: {value:.1%} of the values.",
    ),
    # Of one gate with many seeds, as the two rules below: numbers that are to be set beside each other.
    "fair_trial.many.depends": Rule(
        WORTH,
        "*Do not ask whether it breaks when held still.* Trained well, CoOp's gate loses {value:.1f} points"
        " [{low:.1f}, {high:.1f}] that way in the mean over ordinary tasks, whether or not it is any use.",
        "Trained well, CoOp's gate loses no more than {value:.1f} points [{low:.1f}, {high:.1f}] in the mean over"
        " ordinary tasks when it is held still.",
    ),
    "fair_trial.many.over_blind": Rule(
        WORTH,
        "*Ask whether it beats its blind twin, which sees another picture, trained as long.* On ordinary tasks it does"
        " not: it is {ahead} it [{low:.1f}, {high:.1f}].",
        "*Ask whether it beats its blind twin, which sees another picture, trained as long.* On ordinary tasks it is"
        " {ahead} it [{low:.1f}, {high:.1f}].",
    ),
    "fair_trial.many.over_fixed": Rule(
        WORTH,
        "The learner without a gate does as well: with a gate it is {ahead} it [{low:.1f}, {high:.1f}].",
        "With a gate it is {ahead} the learner without one [{low:.1f}, {high:.1f}].",
    ),
    "fair_trial.planted.tuned.over_fixed": Rule(
        WORTH,
        "Where the right prompt depends on the picture tuned CoOp with a gate is {value:.0f} points ahead of tuned CoOp"
        " without one: *add a gate where you can say what it should look at.*",
        "Even where the right prompt depends on the picture a tuned gate gains no more than {value:.1f} points.",
    ),
    "fair_trial.planted.tuned.maple.over_fixed": Rule(
        WORTH,
        "That holds for MaPLe too, whose vision prompts see the picture as well: {value:.0f} points.",
        "*But not to a learner that sees the picture without it*: tuned MaPLe, whose vision prompts do, is {ahead}"
        " itself without one once it has a gate [{low:.1f}, {high:.1f}].",
    ),
    "gate_value.ordinary.over_mean": Rule(
        WORTH,
        "After the short recipe a gate on an ordinary task is idle: held at its mean it loses {value:.2f} points"
        " [{low:.2f}, {high:.2f}].",
        "After the short recipe a gate on an ordinary task loses {value:.1f} points [{low:.1f}, {high:.1f}] when it is"
        " held at its mean.",
    ),
    "gate_value.control.over_mean": Rule(
        WORTH,
        "Where the right prompt depends on the picture, and the gate is trained for it, it is worth {value:.0f} points"
        " over its mean.",
        "Even where the right prompt depends on the picture it is worth {value:.1f} points over its mean.",
    ),
    "escape.nothing": Rule(
        WORTH,
        "Where nothing depends on the picture, no gate depends on it after {steps} steps.",
        "Even where nothing depends on the picture gates depend on it ({value:.1f} points after {steps} steps).",
    ),
    "predictors.before": Listing(
        BEFOREHAND,
        "Before the first step these tell ({criterion}): {names}.",
        "Before the first step these do not tell: {names}.",
        digits=2,
    ),
    "predictors.early": Listing(
        BEFOREHAND,
        "*Train an eighth of the way and look* at what tells then ({criterion}): {names}.",
        "After an eighth of the steps these do not tell: {names}.",
        digits=2,
    ),
    "predictors.early.loss_mean.over_gap": Rule(
        BEFOREHAND,
        "By then the training loss with the gate held at its mean is ahead of the gap, by an area of {value:.2f}"
        " [{low:.2f}, {high:.2f}]: *if you look at one thing early, look at that.*",
        "Even then the training loss with the gate held at its mean is no better than the gap.",
    ),
    "escape.gain": Rule(
        IDLE,
        "There was something to gain: told the cue, and with prompts that start from words, a gate is worth"
        " {value:.0f} points over no gate.",
        "There was little to gain: told the cue, and with prompts that start from words, a gate is worth {value:.1f}"
        " points over no gate.",
    ),
    "escape.adaptive": Listing(
        IDLE,
        "*Try what made it adaptive within {steps} steps* (share of the seeds): {names}.",
        "*Do not count on what did not* within {steps} steps: {names}.",
        digits=2,
    ),
    "escape.short": Rule(
        STEPS,
        "With optimiser and rate of the short recipe a gate with something to gain is still idle after {steps} steps"
        " (in {value:.0%} of the seeds).",
        "With optimiser and rate of the short recipe a gate with something to gain is idle in {value:.0%} of the seeds"
        " after {steps} steps.",
    ),
    "gate_value.conflict.short": Rule(
        STEPS,
        "The short recipe leaves a gate idle where it could be worth a lot (it is {ahead} itself held at"
        " its mean): *a short run does not show that a gate is useless.*",
        "The short recipe makes a gate worth {value:.1f} points where it can be worth something.",
    ),
    "escape.law.later": Rule(
        STEPS,
        "A larger rate for the gate alone brings its escape forward: a decade of it saves {value:.2f}"
        " [{low:.2f}, {high:.2f}] decades of steps.",
        "A larger rate for the gate alone hardly brings its escape forward: a decade of it saves {value:.2f}"
        " [{low:.2f}, {high:.2f}] decades of steps.",
    ),
    "escape.law.proportional": Rule(
        STEPS,
        "Ten times the rate leaves in a tenth of the steps, or nearly.",
        "Ten times the rate needs more than a tenth of the steps: {value:.2f} decades are saved per decade.",
    ),
}
