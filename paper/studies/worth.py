"""What a gate is worth: *dependence*, what is lost when it is held still or shuffled, and *gain*, what a gated learner
has over its blind twin and over the learner without a gate. Two things, never one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lib.prompts.gates import BLIND
from lib.verdicts import Claim, Finding, Outcome, Verdict
from paper.criteria import prompts as criteria
from paper.studies.base import pivoted

#: What tells one gated learner from another, seeds apart.
KEYS = ["learner", "gate", "task", "recipe"]
#: Columns in points: the gate as trained less itself held at its mean, and shuffled; less its blind twin, and no gate.
DEPENDENCE = ("over_mean", "over_shuffled")
GAIN = ("over_blind", "over_fixed")

_TWINS = {blind: kind for kind, blind in BLIND.items()}
_ADVICE = {
    "useful": "keep the gate",
    "co-adapted": "drop the gate: the prompts have grown used to it, and do as well without",
    "idle": "drop the gate: a constant does the same",
    "harmful": "drop the gate: the learner is better without",
    "inconclusive": "more seeds or more test pictures",
}


def beside(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The rows with blind twins as a variant of their gates: ``blind``, equal parameters and nothing to see."""
    twin = accuracy["gate"].isin(list(_TWINS))
    kept = accuracy[~twin | (accuracy["variant"] == "gated")].copy()
    kept.loc[twin, "variant"] = "blind"
    kept["gate"] = kept["gate"].replace(_TWINS)
    return kept.reset_index(drop=True)


def advantages(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The gate as trained less each other variant, in percentage points, paired within ``keys``; a variant that is
    missing is nan.
    """
    means = pivoted(rows, keys, "variant", "accuracy")
    names = [name for name in ("mean", "shuffled", "blind", "fixed", "zero_shot") if name in means]
    return pd.DataFrame({f"over_{name}": means["gated"] - means[name] for name in names}).reset_index()


def differences(accuracy: pd.DataFrame) -> pd.DataFrame:
    """:func:`advantages` per learner, gate, task, recipe and seed, from rows as :func:`beside` gives them."""
    gates = [gate for gate in accuracy["gate"].unique() if gate != "none"]
    if not gates:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in (*KEYS, "seed", *DEPENDENCE, *GAIN)})
    # What has no gate is compared with each of them.
    plain = [accuracy[accuracy["gate"] == "none"].assign(gate=gate) for gate in gates]
    rows = pd.concat([accuracy[accuracy["gate"] != "none"], *plain])
    found = advantages(rows, [*KEYS, "seed"])
    # Not every learner has every gate.
    there = pd.MultiIndex.from_frame(accuracy.loc[accuracy["variant"] == "gated", KEYS])
    return found[pd.MultiIndex.from_frame(found[KEYS]).isin(there)].reset_index(drop=True)


def verdict(part: pd.DataFrame) -> Verdict:
    """What one gated learner is, decided as findings are, by the intervals over its seeds [columns of
    :data:`DEPENDENCE` and :data:`GAIN`, a row per seed].

    *Useful*: it depends on its picture and gains over both its blind twin and the learner without a gate.
    *Co-adapted*: it depends and does not gain. *Idle*: it does not depend. *Harmful*: worse than no gate.
    """
    depends = [_beats(part, name, criteria.ADAPTIVE) for name in DEPENDENCE]
    gains = [_beats(part, name, criteria.GAINS) for name in GAIN if name in part and part[name].notna().any()]
    harms = _claim(part, "over_fixed", "<", criteria.HARMS) if "over_fixed" in part else None
    reasons = tuple(str(one) for one in (*depends, *gains))
    name = "inconclusive"
    if harms is not None and harms.outcome is Outcome.HOLDS:
        name, reasons = "harmful", (*reasons, str(harms))
    elif any(one.outcome is Outcome.DOES_NOT_HOLD for one in depends):
        name = "idle"
    elif all(one.outcome is Outcome.HOLDS for one in depends):
        outcomes = [one.outcome for one in gains]
        if Outcome.DOES_NOT_HOLD in outcomes:
            name = "co-adapted"
        elif outcomes and all(one is Outcome.HOLDS for one in outcomes):
            name = "useful"
    return Verdict(name, reasons, _ADVICE[name])


def _beats(part: pd.DataFrame, column: str, threshold: float) -> Finding:
    return _claim(part, column, ">", threshold)


def _claim(part: pd.DataFrame, column: str, relation: Any, threshold: float) -> Finding:
    words = {
        "over_mean": "itself held at its mean",
        "over_shuffled": "itself shuffled",
        "over_blind": "its blind twin",
        "over_fixed": "the learner without a gate",
    }[column]
    text = f"the gate beats {words}" if relation == ">" else f"the gate loses to {words}"
    return Claim("", text, part[column].tolist(), relation, threshold, "", unit="points", rare=criteria.RARE).judged()


def verdicts(accuracy: pd.DataFrame) -> pd.DataFrame:
    """One row per learner, gate, task, recipe: means of the differences over seeds, and the verdict.

    For real data under base_to_new also the gated learner's accuracy on new classes and the harmonic mean.
    """
    rows = []
    for key, part in differences(accuracy).groupby(KEYS, sort=False):
        found = verdict(part)
        named = dict(zip(KEYS, key, strict=True))
        same = (accuracy[[*KEYS, "variant"]] == pd.Series(named | {"variant": "gated"})).all(axis=1)
        # Under base_to_new there are accuracies on the new classes too.
        beyond = {name: accuracy.loc[same, name].mean() for name in ("new", "harmonic") if name in accuracy}
        means = {name: part[name].mean() for name in part if name.startswith("over_")}
        rows.append(named | means | beyond | {"verdict": found.name, "advice": found.advice})
    return pd.DataFrame(rows)


def nulls(rows: pd.DataFrame) -> pd.DataFrame:
    """Blind twins as gates of their own, which must come out without dependence: columns :data:`KEYS`, seed, and the
    differences that they have (over mean, shuffled, fixed). Rows as training gives them.
    """
    own = rows[rows["gate"].isin([*_TWINS, "none"])]
    return differences(own)
