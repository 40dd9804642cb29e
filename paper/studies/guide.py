"""What to do with a gate: one page, computed from the findings of the other pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib import checks
from lib.prompts.tasks import GRADED
from lib.results import provenance
from lib.runtime import resolve_device
from lib.verdicts import Finding, Findings, Outcome
from paper.studies.base import Result, Study
from paper.studies.escape import PUBLISHED
from paper.studies.gate_value import ADAPTIVE
from paper.studies.predictors import SCORES
from paper.tools import pages
from paper.tools.reference import study_of

PAGES = ("gradient_imbalance", "gap_origin", "gate_degradation", "gate_value", "escape", "predictors")
"""Pages that the guide draws on."""
SIGNS = {Outcome.HOLDS: 1, Outcome.INCONCLUSIVE: 0, Outcome.DOES_NOT_HOLD: -1}
"""Outcomes as numbers, for the comparison with the reference."""


@dataclass(frozen=True, kw_only=True)
class Guide(Study):
    """Rules computed from what the pages of a ``profile`` ("quick" or "full") have stored; what is missing is run.

    Tables: ``rules`` (question, measured here, what to do) and ``outcomes`` (page, claim, outcome: 1 holds, 0
    inconclusive, -1 does not hold).
    """

    profile: str = "quick"

    KEYS = ("page", "claim")
    TOLERANCES = {"outcome": 1}

    def check(self) -> None:
        known = sorted(path.stem for path in (pages.ROOT / "profiles").glob("*.yaml"))
        checks.choice("profile", self.profile, known)

    def run(self) -> Result:
        self.store()
        book = pages.profile(pages.ROOT / "profiles" / f"{self.profile}.yaml")
        where = {"device": self.device, "results": self.results}
        studies = {name: study_of(name)(**{**book[name].parameters, **where}) for name in PAGES}
        found = {name: study.run() for name, study in studies.items()}
        outcomes = pd.DataFrame(
            [
                {"page": name, "claim": finding.claim, "outcome": SIGNS[finding.outcome]}
                for name, result in found.items()
                for finding in result.findings
            ]
        )
        seconds = sum(result.provenance["seconds"] for result in found.values())
        return Result(
            {"outcomes": outcomes, "rules": rules(found)},
            Findings(),
            provenance(resolve_device(self.device), max(study.seeds for study in studies.values()), seconds),
        )

    @staticmethod
    def tally(result: Result) -> pd.DataFrame:
        """How many claims were put to the test on each page."""
        return result.tables["outcomes"].groupby("page", sort=False)["claim"].count().rename("claims").to_frame()


def rules(found: dict[str, Result]) -> pd.DataFrame:
    """The rules: columns question, measured, advice."""
    rows = [_gap(found), _why(found), _gain(found), _telling(found), *_reviving(found), _steps(found), _where(found)]
    return pd.DataFrame(rows, columns=["question", "measured", "advice"])


def _finding(result: Result, words: str) -> Finding:
    """The finding whose claim contains these words."""
    return next(finding for finding in result.findings if words in finding.claim)


def _number(finding: Finding) -> str:
    low, high = finding.interval
    if np.isnan(finding.value):
        return "not defined here"
    return f"{finding.value:.2f} [{low:.2f}, {high:.2f}]"


def _gap(found: dict[str, Result]) -> tuple[str, str, str]:
    smallest = _finding(found["gradient_imbalance"], "every learner and gate has a gap")
    early = _finding(found["predictors"], f"eighth of the steps, the {SCORES['gap'][0]}")
    survey = found["gradient_imbalance"].tables["survey"]
    means = survey.groupby(["learner", "gate"])["gap"].mean()
    advice = {
        Outcome.HOLDS: "A small gap early on speaks for the gate.",
        Outcome.DOES_NOT_HOLD: "Do not judge a gate by it: it was there before the first step, in gates that went on"
        " to adapt as in those that did not.",
        Outcome.INCONCLUSIVE: "Do not judge a gate by it alone.",
    }[early.outcome]
    return (
        "The gate's gradient is hundreds of times smaller than the prompts'. Is that the disease?",
        f"{means.min():.1f} to {means.max():.1f} decades before training in {len(means)} pairs of learner and gate (the"
        f" smallest, seed by seed: {_number(smallest)}). As a predictor early in training its area under the ROC curve"
        f" is {_number(early)}.",
        advice,
    )


def _why(found: dict[str, Result]) -> tuple[str, str, str]:
    share = _finding(found["gradient_imbalance"], "short prompts and their poor alignment")
    gate = _finding(found["gap_origin"], "scaling what the gate sees moves the whole gap")
    turned = _finding(found["gap_origin"], "turning the prompts all the way")
    first = (
        "To close it, scale the gate's input or cool the gate."
        if gate.outcome is not Outcome.DOES_NOT_HOLD
        else "No single lever moves it as predicted."
    )
    second = (
        "Turning the prompts towards their gradient helps as well."
        if turned.outcome is Outcome.HOLDS
        else "Turning the prompts towards their gradient does not help: the gradient turns away."
    )
    return (
        "Where does the gap come from?",
        f"{share.value:.0%} of it from short prompts at a poor angle to their gradient. Scaling what the gate sees"
        f" moves it to within {gate.value:.2f} decades of the prediction; prompts turned towards their gradient take"
        f" {turned.value:.2f} off.",
        f"{first} {second}",
    )


def _gain(found: dict[str, Result]) -> tuple[str, str, str]:
    value = found["gate_value"]
    ordinary = _finding(value, "on ordinary tasks the trained gate is worth less than a point over its own mean")
    control = _finding(value, "control: on the conflict task, trained for it")
    verdicts = value.tables["verdicts"]
    plain = verdicts[~verdicts["task"].isin(GRADED)]
    adaptive = (plain["verdict"] == "adaptive").sum()
    advice = (
        "Hold the trained gate at its mean first. If nothing is lost, a constant does the same: drop the gate, unless"
        " you know that the right prompt depends on the picture."
        if ordinary.outcome is Outcome.HOLDS
        else "Hold the trained gate at its mean: what is lost is what it is worth."
    )
    return (
        "Is the gate worth anything on my task?",
        f"On {plain['task'].nunique()} ordinary tasks holding it at its mean costs {ordinary.value:.2f}"
        f" points, and {adaptive} of the gates are adaptive; on the task built for it {control.value:.0f} points.",
        advice,
    )


def _telling(found: dict[str, Result]) -> tuple[str, str, str]:
    areas = found["predictors"].tables["areas"]
    early = areas[(areas["when"] == "early") & (areas["measurement"] != "all together")]
    question = "Can I know before paying for the training?"
    if early["area"].isna().all():
        return (question, "All gates came out alike: there was nothing to tell apart.", "Give gates a reason and time.")
    best = early.loc[early["area"].idxmax()]
    before = areas[areas["when"] == "before"]["area"].max()
    about = SCORES[best["measurement"]][0]
    held = np.nanmin([best.get("held_learner", np.nan), best.get("held_task", np.nan)])
    return (
        question,
        f"Before the first step the best measurement has an area of {before:.2f}. After an eighth of the steps the"
        f" {about} has {best['area']:.2f} [{best['area_low']:.2f}, {best['area_high']:.2f}]; its threshold from other"
        f" learners or tasks is right in {held:.0%} (balanced) at worst.",
        f"Train an eighth of the way and look at the {about}; before the first step, no measurement here is a verdict."
        if best["area_low"] > 0.5 >= areas[areas["when"] == "before"]["area_low"].max()
        else "Compare with a gate held at its mean; the early measurements alone are no verdict.",
    )


def _reviving(found: dict[str, Result]) -> list[tuple[str, str, str]]:
    looks = found["escape"].table
    own = looks[(looks["step"] == looks["step"].max()) & ~looks["intervention"].str.startswith("map ")]
    worth = own.groupby("intervention")["over_mean"].mean().sort_values(ascending=False)
    by = {
        finding.claim.partition(":")[0]: finding.outcome
        for finding in found["escape"].findings
        if finding.claim.endswith("the gate becomes adaptive")
    }

    def listed(outcome: Outcome) -> str:
        names = [name for name in worth.index if by.get(name) is outcome]
        return "; ".join(f"{name} ({round(worth[name])})" for name in names) or "none"

    last = int(looks["step"].max())
    return [
        (
            "The gate is idle though there is something to gain. What helps?",
            f"After {last} steps, points over the gate's mean: {listed(Outcome.HOLDS)}. Unclear over these seeds:"
            f" {listed(Outcome.INCONCLUSIVE)}.",
            "Take the first of the list. Whatever makes up for the size of the gate's gradient is a candidate, and too"
            " much of it saturates the gate.",
        ),
        (
            "And what does not?",
            f"After {last} steps: {listed(Outcome.DOES_NOT_HOLD)}; with the published optimiser and rate"
            f" {round(worth[PUBLISHED])}.",
            "Do not count on these within so many steps where the gradient is what is missing.",
        ),
    ]


def _steps(found: dict[str, Result]) -> tuple[str, str, str]:
    law = found["escape"].tables["law"].iloc[0]
    escapes = found["escape"].tables["escapes"]
    behind = escapes[escapes["intervention"] == PUBLISHED]["behind"].mean()
    if not np.isfinite(law["slope"]):
        measured, advice = "Too few gates left to fit a law.", "Train longer than the published recipe before judging."
    else:
        needed = 10 ** (law["intercept"] + law["slope"] * behind)
        measured = (
            f"A decade of gap costs {law['slope']:.2f} [{law['low']:.2f}, {law['high']:.2f}] decades of steps: at"
            f" {behind:.1f} decades a gate leaves after about {needed:,.0f} steps of SGD at the published rate."
        )
        advice = f"A short recipe does not show that a gate is useless: give it {needed:,.0f} steps, or Adam."
    return ("How many steps does a gate need?", measured, advice)


def _where(found: dict[str, Result]) -> tuple[str, str, str]:
    looks = found["escape"].table
    end = looks[(looks["step"] == looks["step"].max()) & looks["intervention"].str.startswith("map ")]
    means = end.groupby(["intervention", "strength"])["over_mean"].mean()
    parts, least = [], None
    for name, optimiser in (("map adam", "Adam"), ("map sgd", "SGD")):
        reached = means[name][means[name] > ADAPTIVE]
        parts.append(f"{optimiser}: {f'from strength {reached.index.min():g} on' if len(reached) else 'nowhere'}")
        if len(reached) and optimiser == "Adam":
            least = reached.index.min()
    advice = (
        f"Expect nothing where fewer than about {least / 2:.0%} of the pictures ask for another prompt."
        if least
        else "Nothing here says that gating pays."
    )
    return (
        "When is gating effective?",
        f"After {int(end['step'].max())} steps the gate is worth {ADAPTIVE:g} points and more with "
        + "; ".join(parts)
        + ". Strength s means that a fixed rule is wrong on s/2 of the pictures.",
        advice,
    )
