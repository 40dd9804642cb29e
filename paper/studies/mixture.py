"""What one expects of a chip with several parts, from what each part does alone: predictions, and claims about them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.verdicts import Claim, Threshold
from paper.criteria.hardware import (
    CLEAR_DAMAGE,
    COMPENSATED,
    DAMAGE,
    FACTOR_ON_TOP,
    FOLLOWS,
    LOSS_ERROR,
    NOISE_ERROR,
    RECOVERED,
    RECOVERY_ERROR,
    RULES_APART,
    VERDICTS_RIGHT,
    points,
)
from paper.studies.base import pivoted
from paper.studies.hardware import NAMES
from paper.studies.recovery import NO_DAMAGE, OPEN, over_seeds, paired, recovery, verdict, void

#: What these add to a current has a size of its own; what the others add shrinks with the signal.
ABSOLUTE = ("stuck_at", "read_noise")
#: Verdicts from the mildest to the worst.
WORST = ("no damage", "compensated", *OPEN, "not compensated", "not recovered", "harmed")
#: What tells one run of a table from another.
KEYS = ("network", "parts", "seed")

Parts = tuple[str, ...]


def label(parts: Iterable[str]) -> str:
    """The parts of a chip as one name."""
    return " + ".join(parts)


def split(name: str) -> Parts:
    """The parts that a name stands for."""
    return tuple(name.split(" + "))


# -------------------------------------------------------------------------------------------- noise over signal


def noise(signal: pd.DataFrame, order_of: Callable[[Parts], Parts]) -> pd.DataFrame:
    """Noise over signal of every chip and seed, all layers added up, and two predictions of it from the parts alone.

    ``unordered``: the squares of the parts' noise over signal add. ``ordered``: in the order of the physics, and what
    an :data:`ABSOLUTE` part adds is weighed against the signal that the parts before it have left. ``order_of`` brings
    parts into that order.
    """
    wide = signal.pivot_table(index="parts", columns=["seed", "layer"], values=["signal", "error"], sort=False)
    rows = []
    for name in wide.index:
        left, unordered, ordered = 1.0, 0.0, 0.0
        for part in order_of(split(name)):
            alone = wide.loc[part]
            own = (alone["error"] / alone["signal"]) ** 2
            unordered = unordered + own
            ordered = ordered + (own / left**2 if part in ABSOLUTE else own)
            left = left * alone["signal"]
        here = wide.loc[name]
        columns = {"measured": (here["error"] / here["signal"]) ** 2, "unordered": unordered, "ordered": ordered}
        seeds = {kind: value.groupby("seed").sum() ** 0.5 for kind, value in columns.items()}
        kept = here["signal"].groupby("seed").mean()
        rows.append(pd.DataFrame(seeds).assign(signal=kept, parts=name).reset_index())
    kinds = signal.drop_duplicates("parts").set_index("parts").kind
    table = pd.concat(rows, ignore_index=True)
    return table.assign(kind=table.parts.map(kinds))


def by_ruler(signal: pd.DataFrame, scale: pd.DataFrame) -> pd.DataFrame:
    """``signal`` with the loss that read noise of the same size does, seed by seed: ``by_noise``.

    The size is the one predicted from the parts in the order of the physics.
    """
    values = signal["ordered"].copy()
    for seed, own in scale.groupby("seed"):
        own = own.sort_values("measured")
        here = signal.seed == seed
        values[here] = np.interp(signal["ordered"][here], [0, *own["measured"]], [0, *own["damage"]])
    return signal.assign(by_noise=values)


# ------------------------------------------------------------------------------------------------ predictions


def summed(damage: np.ndarray, clean: float, chance: float) -> float:
    """The loss of a chip if the losses of its parts add, as far as there is anything to lose."""
    return float(min(np.sum(damage), clean - chance))


def in_logits(damage: np.ndarray, clean: float, chance: float) -> float:
    """The loss of a chip if the parts' losses add in the log-odds of the accuracy above chance."""

    def odds(accuracy: np.ndarray) -> np.ndarray:
        above = np.clip((accuracy - chance) / (1 - chance), 1e-3, 1 - 1e-3)
        return np.log(above / (1 - above))

    before = odds(np.asarray(clean))
    after = before - np.sum(before - odds(clean - np.asarray(damage)))
    return float(clean - chance - (1 - chance) / (1 + np.exp(-after)))


def weighted(damage: np.ndarray, gain: np.ndarray) -> float:
    """The mean recovery of the parts, weighted by their losses; nan where they lose nothing together."""
    return float(np.sum(gain) / np.sum(damage)) if np.sum(damage) >= DAMAGE else float("nan")


def worst(verdicts: Sequence[str]) -> str:
    """The worst of several verdicts; an open one counts between those that are good and those that are bad."""
    return max(verdicts, key=WORST.index)


def called(damage: float, won_back: float) -> str:
    """The verdict by the numbers alone, for predictions of it, whose interval is taken over everything at once."""
    if won_back * max(damage, DAMAGE / 10) <= -DAMAGE:
        return "harmed"
    if damage < DAMAGE:
        return "no damage"
    if won_back >= COMPENSATED:
        return "compensated"
    return "not recovered" if won_back < RECOVERED and damage >= CLEAR_DAMAGE else "not compensated"


class Chips(NamedTuple):
    """Chips of one rule: their parts, and clean accuracy [seeds], damage and gain [chips, seeds]."""

    parts: list[Parts]
    clean: np.ndarray
    damage: np.ndarray
    gain: np.ndarray

    def alone(self, parts: Parts) -> list[int]:
        """Where the parts of a chip stand alone."""
        return [self.parts.index((part,)) for part in parts]


def chips(runs: pd.DataFrame, rule: str) -> Chips:
    """The paired runs of one rule. Parts that were not run alone under it are those of vanilla training."""
    chosen = runs[runs.rule == rule]
    if rule == "staircase":
        # Without a converter there are no stairs.
        missing = runs[(runs.rule == "autograd") & (runs.kind == "alone") & ~runs.parts.isin(chosen.parts)]
        chosen = pd.concat([missing, chosen], ignore_index=True)
    names = list(dict.fromkeys(chosen.parts))
    found = {column: pivoted(chosen, ["parts"], "seed", column).loc[names] for column in ("clean", "damage", "gain")}
    whole = found["gain"].notna().all()
    # Seeds that a chip lacks tell nothing about all of them; where there is no other the number is not known.
    kept = whole[whole].index if whole.any() else whole.index
    values = {column: table[kept].to_numpy() for column, table in found.items()}
    return Chips([split(name) for name in names], values["clean"][0], values["damage"], values["gain"])


def errors(table: Chips, chance: float, picked: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
    """How far every prediction is off on every composed chip, means over the ``picked`` seeds."""
    clean, lost, won = (value[..., picked].mean(-1) for value in (table.clean, table.damage, table.gain))
    off: dict[str, list[float]] = {"summed": [], "in_logits": [], "weighted": [], "worst": [], "of_weighted": []}
    verdicts = [called(one, two / max(one, DAMAGE / 10)) for one, two in zip(lost, won, strict=True)]
    for place, parts in enumerate(table.parts):
        if len(parts) == 1:
            continue
        own = table.alone(parts)
        back = weighted(lost[own], won[own])
        off["summed"].append(lost[place] - summed(lost[own], clean, chance))
        off["in_logits"].append(lost[place] - in_logits(lost[own], clean, chance))
        if lost[place] >= DAMAGE or won[place] != won[place]:
            off["weighted"].append(won[place] / lost[place] - (0.0 if back != back else back))
        off["worst"].append(float(verdicts[place] != worst([verdicts[i] for i in own])))
        off["of_weighted"].append(float(verdicts[place] != called(lost[own].sum(), back)))
    return {name: np.array(values) for name, values in off.items()}


def summarise(accuracy: pd.DataFrame, signal: pd.DataFrame, chance: float) -> pd.DataFrame:
    """One row for each chip and rule: what it loses, what comes back, its verdict, and the predictions of all three."""
    runs, rows = paired(accuracy, KEYS), []
    by_noise = signal.groupby("parts").by_noise.mean()
    for rule in dict.fromkeys(runs.rule):
        table = chips(runs, rule)
        verdicts = {}
        for parts, damage, gain in zip(table.parts, table.damage, table.gain, strict=True):
            won_back, interval = recovery(damage, gain)
            verdicts[parts] = verdict(damage, gain, rule != "unaware").name
            group = runs[(runs.rule == rule) & (runs.parts == label(parts))]
            if not len(group):
                continue
            own = table.alone(parts)
            lost, won, clean = table.damage[own].mean(1), table.gain[own].mean(1), table.clean.mean()
            back = weighted(lost, won)
            rows.append(
                {
                    "network": group.network.iloc[0],
                    "parts": label(parts),
                    "kind": group.kind.iloc[0],
                    "rule": rule,
                    **{column: group[column].mean() for column in ("clean", "unaware", "accuracy", "low")},
                    "damage": damage.mean(),
                    "summed": summed(lost, clean, chance),
                    "in_logits": in_logits(lost, clean, chance),
                    "by_noise": by_noise[label(parts)],
                    "recovery": won_back,
                    "recovery_low": interval[0],
                    "recovery_high": interval[1],
                    "weighted": back,
                    "verdict": verdicts[parts],
                    "of_weighted": verdict(table.damage[own].sum(0), table.gain[own].sum(0), rule != "unaware").name,
                    "worst": worst([verdicts[(part,)] for part in parts]),
                    "steps": int(group.steps.iloc[0]),
                }
            )
    return pd.DataFrame(rows)


def removed(accuracy: pd.DataFrame) -> pd.DataFrame:
    """What the full chip gets back without one of its parts, one row for each rule, part and seed.

    Column ``alone``: what that part costs alone.
    """
    wide = accuracy.pivot(index=["rule", "seed"], columns="parts", values="accuracy")
    full = accuracy[accuracy.kind == "all"].parts.iloc[0]
    clean = accuracy.drop_duplicates("seed").set_index("seed").clean
    rows = []
    rules = [name for name in dict.fromkeys(accuracy.rule) if name != "staircase"]
    for part in split(full):
        rest = label(one for one in split(full) if one != part)
        if rest not in wide:
            continue
        cost = clean - wide.loc["unaware", part]
        for rule in rules:
            back = wide.loc[rule, rest] - wide.loc[rule, full]
            rows.append(pd.DataFrame({"back": back, "alone": cost}).assign(rule=rule, part=part).reset_index())
    return (
        pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["seed", "back", "alone", "rule", "part"])
    )


def gradient_signal(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """The share of signal in the full chip's gradient, seed by seed: ``measured``, and ``added`` from its parts."""
    alone = diagnostics[diagnostics.kind == "alone"].groupby("seed").variance.sum()
    full = diagnostics[diagnostics.kind == "all"].set_index("seed")
    return pd.DataFrame({"measured": full.signal, "added": 1 / (1 + alone), "cosine": full.cosine})


# ---------------------------------------------------------------------------------------------------- claims

_POINTS: dict[str, Any] = {"unit": "points", "name": "mean difference"}


def claims(tables: Mapping[str, pd.DataFrame], chance: float) -> list[Claim]:
    """The claims of the page."""
    runs = paired(tables["accuracy"], KEYS)
    rules = [rule for rule in NAMES if rule in set(runs.rule) - {"unaware"}]
    found = [
        *_of_losses(chips(runs, [*rules, "unaware"][0]), chance),
        *(claim for rule in rules for claim in _of_recoveries(chips(runs, rule), rule, chance)),
        *_of_removal(tables["removed"], rules),
        *_of_rules(runs, rules),
        *_of_signal(tables["signal"], tables["accuracy"]),
    ]
    if len(tables["diagnostics"]):
        found.append(_of_gradients(tables["diagnostics"]))
    return [*found, *_of_phase_change(tables["phase_change"])]


Picked = Callable[[np.ndarray], dict[str, np.ndarray]]


def _errors(table: Chips, chance: float) -> Picked:
    """:func:`errors` by the seeds picked, computed once for each set of them: five seeds have only 126."""
    known = functools.cache(lambda picked: errors(table, chance, np.array(picked, dtype=int)))
    return lambda picked: known(tuple(sorted(picked.tolist())))


def _predicted(own: str, text: str, table: Chips, off_by: Picked, column: str, limit: float, **more: Any) -> Claim:
    """A prediction's mean error over chips is at most ``limit``, with a bootstrap over seeds."""
    scale = 100 if more.get("unit") == "points" else 1

    def error(picked: np.ndarray) -> float:
        off = off_by(picked)[column]
        return scale * float(np.abs(off).mean()) if len(off) else float("nan")

    measured = over_seeds(error, len(table.clean))
    lost = [loss for parts, loss in zip(table.parts, table.damage, strict=True) if len(parts) > 1]
    nothing = NO_DAMAGE if column == "weighted" and not any(not void(loss) for loss in lost) else ""
    return Claim(f"composed.{own}", text, [], "<=", limit, "composed", measured=measured, void=nothing, **more)


def _of_losses(table: Chips, chance: float) -> Iterator[Claim]:
    """What the parts cost alone, against what the chip costs."""
    limit, off_by = points(LOSS_ERROR), _errors(table, chance)
    for column, own, words in (
        ("summed", "losses.add", "Losses add"),
        ("in_logits", "losses.logits", "Losses add in the log-odds of the accuracy"),
    ):
        text = f"{words}: what the parts lose alone says what a composed chip loses, to {limit:g} points"
        yield _predicted(own, text, table, off_by, column, limit, unit="points", name="mean error")
    full = next(place for place, parts in enumerate(table.parts) if len(parts) == max(map(len, table.parts)))
    own_parts = table.alone(table.parts[full])
    beyond = 100 * (table.damage[full] - np.minimum(table.damage[own_parts].sum(0), table.clean - chance))
    text = "The chip with all parts costs more than its parts together"
    more: dict[str, Any] = {"unit": "points", "name": "loss beyond the sum"}
    yield Claim("composed.losses.beyond", text, beyond, ">", 0, "composed", **more)


def _of_recoveries(table: Chips, rule: str, chance: float) -> Iterator[Claim]:
    """What training wins back of the parts, against what it wins back of the chip."""
    name, wrong = NAMES[rule].capitalize(), Threshold(1 - VERDICTS_RIGHT, VERDICTS_RIGHT.since, VERDICTS_RIGHT.changed)
    text = f"{name}: the mean recovery of the parts, weighted by their losses, is that of the chip"
    off_by = _errors(table, chance)
    yield _predicted(f"recovery.{rule}", text, table, off_by, "weighted", RECOVERY_ERROR, name="mean error")
    for column, own, words in (
        ("worst", "worst", "the worst verdict of a part"),
        ("of_weighted", "of_weighted", "the verdict of the parts' weighted mean recovery"),
    ):
        text = f"{name}: {words} is the verdict of the chip on {100 * VERDICTS_RIGHT:g} % of the chips"
        more: dict[str, Any] = {"name": "share of chips that are not"}
        yield _predicted(f"verdict.{own}.{rule}", text, table, off_by, column, wrong, **more)


def _against_best(wide: pd.DataFrame, part: str) -> np.ndarray:
    """Seed by seed, in points: column ``part`` minus the best of the other columns (best in the mean)."""
    others = wide.drop(columns=part)
    if others.isna().all(axis=None):
        return np.full(len(wide), np.nan)
    return 100 * (wide[part] - others[others.mean().idxmax()]).to_numpy()


def _of_removal(table: pd.DataFrame, rules: Sequence[str]) -> Iterator[Claim]:
    """Which part is worth removing from the full chip; nothing to claim unless two were removed."""
    if table.part.nunique() < 2:
        return
    wide = {rule: own.pivot(index="seed", columns="part", values="back") for rule, own in table.groupby("rule")}
    more: dict[str, Any] = {"unit": "points", "name": "minus the best other"}
    dearest = table[table.rule == "unaware"].groupby("part", sort=False).alone.mean().idxmax()
    text = "The part that costs most alone is the one whose removal gives back most, without training"
    samples = _against_best(wide["unaware"], dearest)
    yield Claim("composed.removal.dearest", text, samples, ">=", 0, "composed", **more)
    best = wide["unaware"].mean().idxmax()
    for rule in rules:
        text = f"The part whose removal gives back most without training does so after {NAMES[rule]} too"
        samples = _against_best(wide[rule], best)
        yield Claim(f"composed.removal.{rule}", text, samples, ">=", 0, "composed", **more)


def _of_rules(runs: pd.DataFrame, rules: Sequence[str]) -> Iterator[Claim]:
    """The backward rules on the full chip."""
    whole = runs[runs.kind == "all"].pivot(index="seed", columns="rule", values=["gain", "damage"])
    if "staircase" in set(runs.rule):
        beyond = 100 * (whole["gain"]["staircase"] - RECOVERED * whole["damage"]["staircase"]).to_numpy()
        text = "One staircase silences the chip: with it, vanilla training wins back less than a fifth of the loss"
        name = f"won back minus {RECOVERED:g} of the loss"
        more: dict[str, Any] = {"unit": "points", "name": name, "void": void(whole["damage"]["staircase"])}
        yield Claim("composed.staircase", text, beyond, "<", 0, "composed", **more)
    if len(rules) == 2:
        samples = 100 * (whole["gain"][rules[0]] - whole["gain"][rules[1]]).to_numpy()
        text = (
            "With a converter that lets it pass, the vanilla gradient beats straight-through by "
            f"{RULES_APART:g} points on the full chip"
        )
        yield Claim("composed.rules", text, samples, ">=", RULES_APART, "composed", **_POINTS)


def _of_signal(table: pd.DataFrame, accuracy: pd.DataFrame) -> Iterator[Claim]:
    """Does noise over signal add, with and without the order of the physics, and does the loss follow it?"""
    composed = table[table.kind != "alone"]
    for column, words in (
        ("unordered", "Whatever their order, the squares of the parts' noise over signal add"),
        (
            "ordered",
            "In the order of the physics the squares of the parts' noise over signal add: noise that comes after a "
            "loss of signal weighs more",
        ),
    ):
        off = (composed[column] / composed["measured"] - 1).abs().groupby(composed.seed).mean()
        yield Claim(
            f"composed.noise.{column}", words, off, "<=", NOISE_ERROR, "composed noise", name="mean relative error"
        )
    unaware = accuracy[accuracy.rule == "unaware"].assign(damage=lambda runs: runs.clean - runs.accuracy)
    joined = table.merge(unaware[["parts", "seed", "damage"]], on=["parts", "seed"])
    ranks = [group["measured"].corr(group.damage, method="spearman") for _, group in joined.groupby("seed")]
    text = "What a chip costs follows its noise over signal, whatever its parts are"
    yield Claim("composed.noise.follows", text, ranks, ">=", FOLLOWS, "composed noise", name="rank correlation")
    several = joined[joined.kind != "alone"]
    wide = several.assign(off=several.damage - several.by_noise).pivot(index="parts", columns="seed", values="off")
    off = 100 * wide.to_numpy()
    limit = points(LOSS_ERROR)
    text = f"Read noise of the predicted size costs what the chip costs, to {limit:g} points"
    measured = over_seeds(lambda picked: float(np.abs(off[:, picked].mean(1)).mean()), off.shape[1])
    more: dict[str, Any] = {"unit": "points", "name": "mean error"}
    yield Claim("composed.noise.ruler", text, [], "<=", limit, "composed noise", measured=measured, **more)


def _of_gradients(diagnostics: pd.DataFrame) -> Claim:
    table = gradient_signal(diagnostics)
    text = "The variances of the parts' gradients add: the share of signal in the full chip's gradient follows"
    off = (table.measured - table.added).abs()
    return Claim("composed.gradients.add", text, off, "<=", RECOVERY_ERROR, "composed", name="mean error")


def _of_phase_change(table: pd.DataFrame) -> list[Claim]:
    """The phase-change chip at the last time: what compensation is worth, and training, and both."""
    last = table[table.time == table.time.max()]
    wide = 100 * last.pivot(index="seed", columns=["compensation", "rule"], values="accuracy")
    clean = 100 * last.groupby("seed").clean.first()
    plain, both, cost = wide["none"], wide["global"], points(CLEAR_DAMAGE)
    where = "Phase-change chip, at the last time:"

    def claim(own: str, text: str, samples: pd.Series, relation: Any, limit: float, name: str) -> Claim:
        lost = "" if own == "costs" else void((clean - plain["unaware"]) / 100)
        more: dict[str, Any] = {"unit": "points", "name": name, "void": lost}
        return Claim(
            f"composed.pcm.{own}", f"{where} {text}", samples, relation, limit, "composed phase-change", **more
        )

    difference = "mean difference"
    return [
        claim(
            "costs",
            f"an unaware network loses at least {cost:g} points",
            clean - plain["unaware"],
            ">=",
            cost,
            "mean loss",
        ),
        claim(
            "training",
            "training without compensation wins back anything at all",
            plain["autograd"] - plain["unaware"],
            ">",
            0,
            difference,
        ),
        claim(
            "factor",
            "one factor per layer without training is worth more than training without it",
            both["unaware"] - plain["autograd"],
            ">",
            0,
            difference,
        ),
        claim(
            "both",
            "training on top of the factor is worth at least a point more",
            both["autograd"] - both["unaware"],
            ">=",
            FACTOR_ON_TOP,
            difference,
        ),
    ]
