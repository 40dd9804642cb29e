"""What is asked of both backbones, and the margins within which they are alike. Written before any gate was trained on
photographs; every threshold is one of the drawn pages' own (:mod:`paper.criteria.prompts`), so none is chosen anew.
"""

from __future__ import annotations

from paper.criteria import prompts

#: The findings that each section sets side by side, by their ids on the pages of the drawn world.
SECTIONS: dict[str, tuple[str, ...]] = {
    "strength": ("fair_trial.trained.zero_shot", "fair_trial.trained.longer", "learners.every.tuned"),
    "gap": (
        "gradient_imbalance.through_training",
        "gradient_imbalance.reported.from",
        "gradient_imbalance.reported.to",
        "gradient_imbalance.reported.before",
        "gradient_imbalance.survey.total",
        "gradient_imbalance.null",
    ),
    "chain": (
        "gradient_imbalance.factors",
        "gradient_imbalance.meeting",
        "gap_origin.perpendicular",
        "gap_origin.chance.default",
        "gap_origin.gap.temperature",
        "gap_origin.gap.gain",
        "gap_origin.gap.prompt_std",
        "gap_origin.longer",
        "gap_origin.turned",
    ),
    "spread": (
        "gate_degradation.constant.before",
        "gate_degradation.constant.after",
        "gate_degradation.taken",
        "gate_degradation.saturated",
        "gate_degradation.classes",
        "gate_degradation.long.coarse.adam.given",
        "gate_degradation.long.conflict.adam.given",
    ),
    "worth": (
        "gate_value.ordinary.over_mean",
        "fair_trial.many.depends",
        "fair_trial.many.over_blind",
        "fair_trial.many.over_fixed",
        "fair_trial.tuned.depends",
        "fair_trial.tuned.over_blind",
        "fair_trial.tuned.over_fixed",
    ),
    "planted": ("gate_value.conflict.short", "fair_trial.planted.tuned.maple.over_fixed"),
    "escape": (
        "escape.gain",
        "escape.nothing",
        "escape.short",
        "escape.adaptive.adam",
        "escape.gains.adam.over_fixed",
        "escape.law.later",
        "escape.law.proportional",
        "escape.law.prompts",
        "escape.law.temperature",
        "escape.law.gain",
    ),
    "predictors": (
        "predictors.before.gap",
        "predictors.early.gap",
        "predictors.early.loss_mean",
        "predictors.early.loss_mean.over_gap",
        "predictors.early.selected.over_gap",
        "predictors.early.selected.over_loss",
    ),
}

#: Decades within which the gap, or a factor of it, is the same on both.
SAME_DECADES = prompts.AS_REPORTED
#: Decades of steps per decade within which a slope of the law of escape is the same on both.
SAME_SLOPE = prompts.SAME_SLOPE
#: Points that a planted conflict must be worth to its gate, over each of what it is compared with: "healthy".
HEALTHY = prompts.CONTROL
#: Share of the seeds that alone may have something from a gate, and have to be seen.
RARE = prompts.RARE
#: Area under the ROC curve from which on a measurement that was chosen on one backbone tells on the other.
TELLS = prompts.TELLS
