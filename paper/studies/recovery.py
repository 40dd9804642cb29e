"""What training through hardware wins back: runs in pairs, recovery over seeds, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.verdicts import Outcome, Verdict, bootstrap, judge, tail
from paper import published
from paper.criteria.hardware import CLEAR_DAMAGE, COMPENSATED, DAMAGE, RECOVERED, points

#: Verdicts, from the mildest to the worst.
VERDICTS = ("no damage", "compensated", "not compensated", "not recovered", "harmed")
#: What is said where none of them is: the seeds do not decide, a number is missing, nothing was trained.
OPEN = ("inconclusive", "not measured", "not trained")
#: Why nothing is said of what comes back where next to nothing was lost.
NO_DAMAGE = f"no damage: an unaware network loses less than {points(DAMAGE):g} point, so there is nothing to win back"

#: What decides a run of a table.
KEYS = ("network", "perturbation", "severity", "seed")

#: Draws of a bootstrap.
RESAMPLES = 2000


def paired(accuracy: pd.DataFrame, keys: Sequence[str] = KEYS) -> pd.DataFrame:
    """Rows of trained rules with the unaware accuracy of the same run (by its ``keys``) beside them.

    Adds ``unaware``, ``damage`` = clean - unaware and ``gain`` = accuracy - unaware. Where nothing was trained these
    are the unaware runs, and nothing is known of a gain.
    """
    base = accuracy[accuracy.rule == "unaware"][[*keys, "accuracy"]].rename(columns={"accuracy": "unaware"})
    trained = accuracy[accuracy.rule != "unaware"]
    table = (trained if len(trained) else accuracy).merge(base, on=list(keys))
    gain = (table.accuracy - table.unaware).where(table.rule != "unaware")
    return table.assign(damage=table.clean - table.unaware, gain=gain)


def void(damage: Sequence[float] | np.ndarray) -> str:
    """Why nothing can be said of a share of this loss, seed by seed: it is next to none; empty where it is one."""
    lost = np.asarray(damage, dtype=float)
    return NO_DAMAGE if lost.size and lost.mean() < DAMAGE else ""


def on_known_chips(accuracy: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Runs trained on the chip that they are judged on, beside an unaware network on that same chip."""
    first = accuracy[accuracy.rule == "unaware"].assign(accuracy=lambda table: table["first"])
    return paired(pd.concat([first, known], ignore_index=True))


def recovery(damage: Sequence[float], gain: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Recovery over seeds, sum of gains over sum of damages, with a bootstrap interval over seeds.

    A ratio of means: with the seed's own small damage as a denominator, single ratios run off to infinity. The interval
    is that of the ratio itself: resamples in which nothing is lost may stand for any ratio, so that an end is infinite
    where more than the interval leaves out are such. NaN ("no damage") where the mean damage is below DAMAGE, or where
    a seed has no number; without an interval for one seed.
    """
    lost, won = _pairs(damage, gain)
    unknown = (float("nan"), float("nan"))
    if not lost.mean() >= DAMAGE or np.isnan(won).any():
        return float("nan"), unknown
    value = float(won.mean() / lost.mean())
    if len(lost) < 2:
        return value, unknown
    picks = np.random.default_rng(0).integers(len(lost), size=(RESAMPLES, len(lost)))
    lost, won = lost[picks].mean(1), won[picks].mean(1)
    none = np.full(np.count_nonzero(lost <= 0), np.inf)
    with np.errstate(over="ignore"):
        drawn = np.concatenate([won[lost > 0] / lost[lost > 0], none, -none])
    end = tail(picks.shape[1], 0.95)
    # Neighbouring order statistics: a weighted mean of two would be nan between infinities.
    low, high = np.quantile(drawn, end, method="lower"), np.quantile(drawn, 1 - end, method="higher")
    return value, (float(low), float(high))


def _pairs(damage: Sequence[float], gain: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Losses and gains of the seeds, in an order that does not depend on the one in which they are given."""
    lost, won = np.broadcast_arrays(*(np.atleast_1d(np.asarray(values, dtype=float)) for values in (damage, gain)))
    order = np.lexsort((won, lost))
    return lost[order], won[order]


def beyond(damage: np.ndarray, gain: np.ndarray, share: float = COMPENSATED) -> np.ndarray:
    """What was won back beyond a ``share`` of the loss, in points, for every run."""
    return 100 * (np.asarray(gain, dtype=float) - share * np.asarray(damage, dtype=float))


def verdict(damage: Sequence[float], gain: Sequence[float], trained: bool = True) -> Verdict:
    """What the seeds' losses and gains say about one severity and backward rule.

    Decided as a claim is, by whole intervals over seeds: "harmed" where training costs at least DAMAGE, whatever was
    lost before; "no damage" where less than DAMAGE is lost, and no more by training; "compensated" where at least
    DAMAGE is lost and at least COMPENSATED of it comes back, "not compensated" where less does, "not recovered" where
    less than RECOVERED comes back of a loss of at least CLEAR_DAMAGE. "inconclusive" where an interval has both sides
    in it, "not measured" where a seed has no number or there is one seed, which has no interval; "not trained" where
    nothing was ``trained``, and something may be lost.
    """
    lost, won = _pairs(damage, gain)
    more = "Measure more seeds."
    if missing := int((np.isnan(lost) | (np.isnan(won) if trained else False)).sum()):
        return Verdict("not measured", (f"{missing} of {lost.size} seeds have no number",), "Measure it.")
    if lost.size < 2:
        return Verdict("not measured", ("one seed has no interval",), more)
    reason = f"the unaware network loses {100 * lost.mean():.1f} points"
    little = judge("", lost, "<", DAMAGE).outcome
    if not trained:
        if little is Outcome.HOLDS:
            return Verdict("no damage", (reason,), "Nothing to do.")
        return Verdict("not trained", (reason,), "Train through it.")
    after = f"training changes the accuracy by {100 * won.mean():+.1f}"
    worse = judge("", np.sort(won), "<=", -DAMAGE).outcome
    if worse is Outcome.HOLDS:
        return Verdict("harmed", (f"{reason}, {after}",), "Do not train through it like this.")
    if little is Outcome.INCONCLUSIVE:
        return Verdict("inconclusive", (f"{reason}, more in some seeds than in others",), more)
    if little is Outcome.HOLDS:
        if worse is Outcome.DOES_NOT_HOLD:
            return Verdict("no damage", (reason,), "Nothing to do.")
        return Verdict("inconclusive", (f"{reason}, {after}",), more)
    reason = f"training wins back {100 * won.mean() / lost.mean():.0f} % of {100 * lost.mean():.1f} points"
    enough = judge("", np.sort(beyond(lost, won)), ">=", 0).outcome
    if enough is Outcome.HOLDS:
        return Verdict("compensated", (reason,), "Train through it.")
    if enough is Outcome.INCONCLUSIVE:
        return Verdict("inconclusive", (reason,), more)
    clear = judge("", lost, ">=", CLEAR_DAMAGE).outcome is Outcome.HOLDS
    if clear and judge("", np.sort(beyond(lost, won, RECOVERED)), "<", 0).outcome is Outcome.HOLDS:
        return Verdict("not recovered", (reason,), "Change the backward rule, the calibration or the circuit.")
    return Verdict("not compensated", (reason,), "Train through it, and reduce it by calibration or in the circuit.")


def over_seeds(value: Callable[[np.ndarray], float], seeds: int) -> tuple[float, tuple[float, float]]:
    """A value that is computed from some seeds, given by their places, with its bootstrap interval."""
    places = np.arange(seeds)
    interval = bootstrap(places, lambda picked: np.array(value(np.asarray(picked, dtype=int))), resamples=400)
    return value(places), interval


def summarise(accuracy: pd.DataFrame, diagnostics: pd.DataFrame, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per network, perturbation, rule and severity: seeds joined, recovery, verdict, median diagnostics.

    ``published`` says whether the severity lies inside of what published devices have, or beyond.
    ``known`` are the runs of vanilla training on the chip itself, where there are any: their recovery and verdict are
    in columns ``known`` and ``known_verdict``.
    """
    measured = ["cosine", "bias", "truth", "variance", "signal", "live", "gain", "rank"]
    keys = ["network", "perturbation", "rule", "severity"]
    of_known = {}
    if known is not None:
        for case, group in on_known_chips(accuracy, known).groupby(["network", "perturbation", "severity"]):
            won = verdict(group.damage, group.gain).name
            of_known[case] = (recovery(group.damage, group.gain)[0], won)
    # The median: a variance ratio may be infinite in one seed.
    medians = diagnostics.groupby(keys)[measured].median().rename(columns={"gain": "sensitivity"})
    measures, unmeasured = medians.to_dict("index"), dict.fromkeys(medians.columns, float("nan"))
    rows = []
    for (network, name, rule, severity), group in paired(accuracy).groupby(keys, sort=False):
        won_back, interval = recovery(group.damage, group.gain)
        none = (float("nan"), "")
        own, on_own = of_known.get((network, name, severity), none) if rule == "autograd" else none
        rows.append(
            {
                "network": network,
                "perturbation": name,
                "rule": rule,
                "severity": severity,
                "published": published.side(name, severity),
                **{
                    column: group[column].mean()
                    for column in ("clean", "unaware", "accuracy", "low", "damage", "crest")
                },
                "recovery": won_back,
                "recovery_low": interval[0],
                "recovery_high": interval[1],
                "known": own,
                "known_verdict": on_own,
                "verdict": verdict(group.damage, group.gain, rule != "unaware").name,
                **measures.get((network, name, rule, severity), unmeasured),
                "steps": int(group.steps.iloc[0]),
            }
        )
    return pd.DataFrame(rows)


def by_side(accuracy: pd.DataFrame) -> pd.DataFrame:
    """What is lost and won back inside the range of published devices and beyond, judged separately.

    One row per network, perturbation, rule and side; each seed counts with its mean over the severities of the side,
    whose number is in ``severities``, whose ``most`` is the largest loss among them.
    """
    runs = paired(accuracy)
    runs = runs.assign(published=published.sides(runs))
    runs = runs[runs.published != ""]
    rows = []
    keys = ["network", "perturbation", "rule", "published"]
    for given, group in runs.groupby(keys, sort=False):
        row: dict[str, Any] = dict(zip(keys, given, strict=True))
        # Seeds of which one training has diverged are no mean over the same severities as the others.
        seeds = group.groupby("seed")[["damage", "gain"]].mean().assign(count=group.groupby("seed").size())
        if row["rule"] != "unaware":
            seeds = seeds[seeds["count"] == group.severity.nunique()]
        won_back, (low, high) = recovery(seeds.damage, seeds.gain)
        row |= {"severities": group.severity.nunique(), "damage": seeds.damage.mean(), "gain": seeds.gain.mean()}
        row |= {"most": group.groupby("severity").damage.mean().max(), "recovery": won_back}
        row |= {"recovery_low": low, "recovery_high": high}
        rows.append(row | {"verdict": verdict(seeds.damage, seeds.gain, row["rule"] != "unaware").name})
    names = ["severities", "damage", "gain", "most", "recovery", "recovery_low", "recovery_high", "verdict"]
    return pd.DataFrame(rows, columns=[*keys, *names])
