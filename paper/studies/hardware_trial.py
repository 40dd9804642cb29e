"""A fair trial of the separation: what comes back beyond what needs no gradient, of what could come back, and who knew?

Every training starts from a network that has converged and takes equally many steps, whatever the family; learning
rates are tuned, severities cost equally much, and a family is the unit over which sentences about families are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd

from lib import checks
from lib.hardware.networks import DATA, NETWORKS
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings, Outcome, Relation, bootstrap, judge
from paper import trial
from paper.criteria import trial as criteria
from paper.criteria.hardware import CLEAR_DAMAGE, COMPENSATED, DAMAGE, POINTS, TELLS, TRANSFERS
from paper.families import FAMILIES
from paper.prediction import conjunction, drawn_again, nested
from paper.published import span
from paper.studies.base import STILL, Compared, Study
from paper.studies.hardware import PICTURE, pictures
from paper.studies.parameters import DRAWS, POSITIVE, STEPS, Numbers, OneOf, Place, Some, Whole
from paper.studies.recovery import beyond, over_seeds

#: Images of a step, and clean steps until a network has converged.
SCHEDULES = {"mlp": (128, 600), "cnn": (64, 600), "cnn_norm": (64, 500), "vit": (64, 900), "resnet": (128, 4000)}
#: Arms beside the backward rules: what is attainable, and other recipes.
EXTRAS = tuple(name for name in trial.ARMS if name not in trial.RULES)
LEVELS = tuple(f"{100 * level:g} %" for level in trial.LEVELS)
#: Levels of the costly arms that say what is attainable with several chips a step.
HARSHER = LEVELS[2:]

Families = Annotated[tuple[str, ...], Some(FAMILIES, everything="all", of=lambda: FAMILIES, ordered=True)]
Seeds = Annotated[int, Whole(1, 1000)]


class HardwareTrial(Study):
    """The trial of ``families`` (:data:`paper.families.FAMILIES`) on ``networks``.

    The first network has every arm: the backward rules ``arms``, and of the ``extras`` those that say something of a
    family. Further networks have ``more_families``, ``more_arms`` and ``more_seeds``, at the harsher levels. ``rates``
    are learning rates out of which one is chosen for each family and arm on networks of other seeds; what is not tuned
    has the middle one (of four, the second). ``chips`` are those on which networks are judged, ``gradients`` those of a
    reading.
    """

    networks: Annotated[tuple[str, ...], Some(NETWORKS)] = ("mlp",)
    families: Families = ("variability",)
    arms: Annotated[tuple[str, ...], Some(trial.RULES, everything="all", ordered=True)] = ("autograd",)
    extras: Annotated[tuple[str, ...], Some(EXTRAS, everything="all", nothing="none", ordered=True)] = ()
    more_families: Families = ("variability",)
    more_arms: Annotated[tuple[str, ...], Some(tuple(trial.ARMS), ordered=True)] = ("autograd",)
    more_seeds: Seeds = 2
    seeds: Seeds = 2
    chips: Annotated[int, DRAWS] = 10
    steps: Annotated[int, Whole(trial.LOOKS, STEPS.high)] = 300
    rates: Annotated[tuple[float, ...], Numbers(POSITIVE.low, 1.0, ordered=True)] = (0.003, 0.01, 0.03, 0.1)
    gradients: Annotated[int, Whole(4, DRAWS.high)] = 8
    data: Annotated[str, OneOf(DATA)] = "digits"
    root: Annotated[str, Place("the path of a folder", also=("",))] = ""

    SIZES: ClassVar[tuple[str, ...]] = ("seeds", "more_seeds", "chips", "gradients")
    PARTS: ClassVar[tuple[str, ...]] = ("networks", "families", "arms", "extras", "more_families", "more_arms")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "runs": Compared(("network", "family", "level", "arm"), {"accuracy": PICTURE}),
        "free": Compared(("network", "family", "level"), {"clean": PICTURE, "unaware": PICTURE, "clip_2": PICTURE}),
    }

    def check(self) -> None:
        """Refuses a network that is too large for the digits."""
        if "resnet" in self.networks and self.data == "digits":
            raise checks.ParameterError("networks must be smaller than a resnet for digits, but 'resnet' was given.")

    # What is measured -----------------------------------------------------------------------------------
    def _config(self, network: str, first: bool) -> dict[str, Any]:
        batch, converge = SCHEDULES[network]
        recipe = {"network": network, "data": self.data, "batch": batch, "converge": converge, "steps": self.steps}
        return {
            "recipe": recipe,
            "pictures": pictures(self.data, self.root),
            "seeds": list(range(self.seeds if first else self.more_seeds)),
            "chips": self.chips,
            "gradients": self.gradients,
        }

    def _cell(self, kind: str, compute: Callable[..., Any], config: Mapping[str, Any], *families: str) -> Cell:
        uses = tuple(FAMILIES[name].physics() for name in families)
        return Cell(kind, config, compute, size=10 * len(config["seeds"]), uses=uses, site={"root": self.root})

    def _of(self, network: str) -> tuple[tuple[str, ...], tuple[str, ...], list[str], bool]:
        """Families, arms and levels of a network, and whether it is the first."""
        first = network == self.networks[0]
        if first:
            return self.families, (*self.arms, *self.extras), [*LEVELS, trial.PUBLISHED], True
        return self.more_families, self.more_arms, list(HARSHER), False

    def cells(self) -> list[Cell]:
        """Where everything starts; then network by network and family by family, those that cost most last: what needs
        no training, the backward rules, readings, and what is attainable.
        """
        started, found = [], []
        for network in self.networks:
            families, arms, levels, first = self._of(network)
            config = self._config(network, first)
            whole = {key: config[key] for key in ("recipe", "pictures", "seeds")}
            started.append(self._cell("trial_start", trial.start, whole))
            for family in sorted(families, key=lambda name: FAMILIES[name].costly):
                own = config | {"family": family, "levels": levels, "published": harshest(family)}
                free = {key: value for key, value in own.items() if key != "gradients"}
                rules = [arm for arm in arms if arm in trial.RULES and sensible(family, arm)]
                looked = {key: value for key, value in own.items() if key != "chips"}
                looked |= {"rules": rules, "places": list(trial.PLACES)}
                trained = [self._arm(own, arm, first) for arm in arms if sensible(family, arm)]
                found += [
                    self._cell("trial_free", trial.free, free, family),
                    *trained[: len(rules)],
                    self._cell("trial_diagnosis", trial.diagnosis, looked, family),
                    *trained[len(rules) :],
                ]
        return list(dict.fromkeys([*started, *found]))

    def _arm(self, own: Mapping[str, Any], arm: str, first: bool) -> Cell:
        """A family's training by one arm; a costly family is trained at the middle rate alone."""
        family, rates = own["family"], list(self.rates)
        if not trial.ARMS[arm].tuned or FAMILIES[family].costly:
            rates = [trial.middle(rates)]
        at = [level for level in own["levels"] if level in levels_of(family, arm)]
        config = {**own, "arm": arm, "levels": at, "rates": rates, "end": arm == "autograd" and first}
        return self._cell("trial_arm", trial.trial, config, family)

    # What it says ---------------------------------------------------------------------------------------
    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """Tables ``start``, ``free``, ``runs`` (a row for each network, family, level, arm and seed), ``rates``,
        ``readings``, ``cases`` (seeds joined: recovery, ceiling, verdict), ``areas``, ``sides``, ``shares``,
        ``properties``, ``chosen`` and ``longer``.
        """
        joined: dict[str, list[pd.DataFrame]] = {}
        for cell in self.cells():
            for name, table in found[cell].items():
                joined.setdefault(name, []).append(table)
        tables = {name: pd.concat(parts, ignore_index=True) for name, parts in joined.items()}
        free = tables["free"]
        own = runs(free, tables["accuracy"])
        every = cases(own)
        readings = tables.get("diagnostics", pd.DataFrame())
        scored = beside(every, readings, own)
        areas_, chosen = areas(scored)
        made: Tables = {
            "start": tables["start"],
            "free": free,
            "runs": own,
            "cases": every,
            "rates": tables.get("rates", pd.DataFrame(columns=["family", "arm", "rate"])),
            "readings": readings,
            "scored": scored,
            "areas": areas_,
            "chosen": chosen,
            "sides": sides(every),
            "shares": shares(every),
            "properties": properties(scored),
            "published": published(every),
        }
        return made, Findings.of(claims(made), holm=True)


def harshest(family: str) -> float | None:
    """The harshest published severity of a family's law (:mod:`paper.published`); None where there is none."""
    known = span(FAMILIES[family].name)
    return None if known is None else float(f"{known[1]:.3g}")


def sensible(family: str, arm: str) -> bool:
    """Does this arm say something of a family that another does not say already?"""
    own = FAMILIES[family]
    physics = own.physics()
    if arm == "detached":
        # Converters know no scale; a scale of its own is detached anyway; a circuit is costly.
        return not physics.ranged and "scale" not in own.options and not own.costly
    if arm in trial.RULES:
        return True
    if own.costly:
        return False
    if arm == "known":
        return own.kind.startswith("chip")
    if arm in ("long", "scratch", "chips"):
        # The staircase of a converter has no gradient to follow, however long; what is fixed has one chip only.
        return not physics.ranged and (arm != "chips" or physics.random)
    return arm != "injected" or physics.ranged


def levels_of(family: str, arm: str) -> tuple[str, ...]:
    """The levels at which an arm is trained through a family."""
    if arm in trial.RULES:
        return LEVELS if FAMILIES[family].costly else (*LEVELS, trial.PUBLISHED)
    # What takes long is done where it matters most.
    return {"chips": LEVELS[2:3], "scratch": LEVELS[1:2], "long": HARSHER, "injected": HARSHER}.get(arm, LEVELS)


# -------------------------------------------------------------------------------------------- what came of it

KEYS = ["network", "family", "level"]
#: Verdicts on a case, from the mildest to the worst; the first two and the last three are no side.
VERDICTS = (
    "slight",
    "needs no gradient",
    "compensated",
    "gradient fails",
    "needs the chip",
    "nothing to win",
    "no gradient",
    "not converged",
    "inconclusive",
)


def runs(free: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """Every training with what networks without it do in the same case and seed, and ``falling``: what its loss still
    fell by in the last quarter (:func:`falling`).
    """
    base = free[[*KEYS, "seed", "kind", "clean", "unaware", "first", "clip_2", "free", "clipped_at"]]
    table = accuracy.merge(base, on=[*KEYS, "seed"])
    curve = table[[f"look_{i}" for i in range(trial.LOOKS)]].to_numpy().T
    return table.assign(falling=falling(curve))


def falling(curve: np.ndarray) -> np.ndarray:
    """Of losses [looks, ...]: what they fell by over the last quarter, as a share of their whole fall, or of half of
    the largest where that is more: a loss that hardly moves, or rises, falls by chance.
    """
    last = curve[-1 - len(curve) // 4] - curve[-1]
    return (last / np.maximum(curve[0] - curve[-1], curve.max(0) / 2)).clip(0, None)


def outcome(lost: np.ndarray, won: np.ndarray) -> Outcome:
    """Does at least COMPENSATED of what was lost come back, by the whole interval over seeds?"""
    return judge("", beyond(lost, won), ">=", 0).outcome


def cases(every: pd.DataFrame) -> pd.DataFrame:
    """Seeds joined: a row for each network, family, level and arm.

    ``recovery`` is the share of the damage that came back, ``free_part`` the share that the best measure without a
    gradient brings, ``over`` the share of the rest that training brings on top, ``of_ceiling`` the share of what is
    attainable: the arm that is best on validation pictures, ``ceiling_arm``; ``known`` is the recovery of training on
    the chip itself. ``side`` is whether training compensates ``over`` what needs none, in the mean; ``counted`` says
    whether the case counts: damage is clear, something is left, the weights have moved (rounding has no gradient, which
    is a control and no result), and what is not compensated has converged.
    """
    rows = []
    for key, group in every.groupby(KEYS, sort=False):
        own = group[group.arm != "known"]
        best = own.groupby("arm", sort=False).validation.mean()
        ceiling_arm = str(best.idxmax()) if best.notna().any() else ""
        ceiling = own[own.arm == ceiling_arm].set_index("seed")
        chip = group[group.arm == "known"]
        on_chip = outcome(chip.clean - chip["first"], chip.accuracy - chip["first"]) if len(chip) else None
        for arm, part in own.groupby("arm", sort=False):
            part = part.set_index("seed")
            most = ceiling.reindex(part.index)
            damage, left = part.clean - part.unaware, part.clean - part.free
            attainable = most.accuracy - part.free
            falling = float(part.falling.mean())
            verdict = _verdict(damage, left, part.accuracy - part.free, attainable, on_chip, falling)
            still = bool((part.moved < STILL).all())
            if still and verdict not in VERDICTS[:2]:
                verdict = "no gradient"
            lost, won = damage.mean(), (part.accuracy - part.unaware).mean()
            over = (part.accuracy - part.free).mean() / max(left.mean(), DAMAGE)
            width = (most.accuracy - part.unaware).mean()
            low, high = _share_interval(damage.to_numpy(), (part.accuracy - part.unaware).to_numpy())
            compensated = bool(over >= COMPENSATED)
            rows.append(
                {
                    **dict(zip(KEYS, key, strict=True)),
                    "arm": arm,
                    "kind": part.kind.iloc[0],
                    "severity": part.severity.iloc[0],
                    **{name: part[name].mean() for name in ("clean", "unaware", "free", "accuracy", "low", "rate")},
                    "damage": lost,
                    "left": left.mean(),
                    "recovery": won / max(lost, DAMAGE),
                    "recovery_low": low,
                    "recovery_high": high,
                    "clip_part": (part.clip_2 - part.unaware).mean() / max(lost, DAMAGE),
                    "free_part": (part.free - part.unaware).mean() / max(lost, DAMAGE),
                    "clipped_at": part.clipped_at.iloc[0],
                    "over": over,
                    "ceiling": most.accuracy.mean(),
                    "ceiling_arm": ceiling_arm,
                    "of_ceiling": won / width if width >= DAMAGE else np.nan,
                    "ceiling_recovery": width / max(lost, DAMAGE),
                    "known": _known(chip),
                    "falling": falling,
                    "verdict": verdict,
                    "side": compensated,
                    "counted": bool(
                        lost >= CLEAR_DAMAGE
                        and left.mean() >= DAMAGE
                        and (compensated or falling <= criteria.RISING)
                        and np.isfinite(over)
                        and not still
                    ),
                }
            )
    return pd.DataFrame(rows)


def _known(chip: pd.DataFrame) -> float:
    """Recovery on the chip itself; nan where there was no such training."""
    lost = (chip.clean - chip["first"]).mean()
    return float((chip.accuracy - chip["first"]).mean() / max(lost, DAMAGE)) if len(chip) else float("nan")


def _share_interval(lost: np.ndarray, won: np.ndarray) -> tuple[float, float]:
    """The interval over seeds of the sum of gains over the sum of losses."""

    def ratio(picked: np.ndarray, axis: int | None = None) -> np.ndarray:
        at = np.asarray(picked, dtype=int)
        return won[at].mean(axis) / np.maximum(lost[at].mean(axis), DAMAGE)

    return bootstrap(np.arange(len(lost)), ratio)


def _verdict(
    damage: pd.Series, left: pd.Series, over: pd.Series, attainable: pd.Series, chip: Outcome | None, falling: float
) -> str:
    """One of :data:`VERDICTS`, by whole intervals over seeds."""
    if damage.mean() < CLEAR_DAMAGE:
        return "slight"
    if left.mean() < DAMAGE:
        return "needs no gradient"
    own = outcome(left.to_numpy(), over.to_numpy())
    if own is Outcome.HOLDS:
        return "compensated"
    if own is Outcome.INCONCLUSIVE:
        return "inconclusive"
    if falling > criteria.RISING:
        return "not converged"
    most = outcome(left.to_numpy(), attainable.to_numpy())
    if most is Outcome.HOLDS:
        return "gradient fails"
    if most is Outcome.INCONCLUSIVE:
        return "inconclusive"
    return "needs the chip" if chip is Outcome.HOLDS else "nothing to win"


# -------------------------------------------------------------------------------------------- who knew it before

#: What makes each reading good, as a number that should be large. Fixed before the trial was run.
READINGS: dict[str, tuple[str, Callable[[pd.Series], pd.Series]]] = {
    "cosine": ("cosine with the clean gradient", lambda v: v),
    "expected": ("cosine with the gradient of the expected loss", lambda v: v),
    "truth": ("truth, on other chips", lambda v: -(v - 1).abs()),
    "signal": ("share of signal", lambda v: v),
    "minibatch": ("variance over that of minibatches", lambda v: -v),
    "averaged": ("signal over noise in Adam's mean", lambda v: v),
    "live": ("live weights", lambda v: v),
    "gain": ("Jacobian gain", lambda v: -v.clip(lower=1e-6).map(np.log).abs()),
    "size": ("length of the gradient", lambda v: -v.clip(lower=1e-6).map(np.log).abs()),
}
#: What is known without any gradient.
TRIVIAL: dict[str, str] = {
    "damage": "damage",
    "rank": "severity, as its rank",
    "kind": "kind of family, from the others",
    "elsewhere": "the same family in other networks",
    "output": "change of logits over their spread",
    "rise": "rise of the loss",
    "rule": "backward rule, from other families",
}
SELECTED = "selected"
PLACES = (*trial.PLACES, "end")
#: The three conditions of the source paper, as read at the start.
CONDITIONS = ("cosine", "signal", "live")
#: Which families a table of areas is about.
SCOPES = ("all", "stochastic")
POOLED = "all rules"


def named(reading: str) -> str:
    """What a reading or a trivial predictor is called."""
    if reading == SELECTED:
        return "the reading chosen on other families"
    return READINGS[reading][0] if reading in READINGS else TRIVIAL[reading]


def tried() -> int:
    """How many readings are tried, places counted."""
    return len(READINGS) * len(PLACES)


def beside(every: pd.DataFrame, readings: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Counted cases seed by seed: ``label`` says whether training by a backward rule compensated, beside it stand every
    reading at every place (READING@PLACE) and the trivial predictors.
    """
    chosen = every[every.counted & every.arm.isin(trial.RULES)]
    table = own.merge(chosen[[*KEYS, "arm"]], on=[*KEYS, "arm"])
    left = table.clean - table.free
    table = table[[*KEYS, "arm", "seed", "kind"]].assign(
        damage=table.clean - table.unaware, label=table.accuracy - table.free >= COMPENSATED * left
    )
    keys = [*KEYS, "arm", "seed"]
    places = readings.place.unique() if len(readings) else ()
    for place in places:
        part = readings[readings.place == place].rename(columns={"rule": "arm"})
        columns = [*READINGS, *(("output", "rise") if place == "start" else ())]
        renamed = {name: f"{name}@{place}" if name in READINGS else name for name in columns}
        table = table.merge(part[[*keys, *columns]].rename(columns=renamed), on=keys, how="left")
    ranks = every[KEYS + ["damage"]].drop_duplicates(KEYS)
    ranks = ranks.assign(rank=-ranks.groupby(["network", "family"]).damage.rank())
    table = table.merge(ranks[[*KEYS, "rank"]], on=KEYS, how="left")
    table = table.assign(damage=-table.damage)
    for name in ("output", "rise"):
        table[name] = -table[name] if name in table else np.nan
    table["kind_score"] = _others(table, ["kind", "arm"], "family")
    table["elsewhere"] = _others(table, ["family", "arm"], "network")
    table["rule"] = _others(table, ["arm"], "family")
    return table.reset_index(drop=True)


def _others(table: pd.DataFrame, alike: Sequence[str], without: str) -> pd.Series:
    """The share that is compensated among rows that are ``alike`` and of another ``without``; nan where none is."""
    label = table.label.astype(float)
    sums = [label.groupby([table[name] for name in keys]).agg(["sum", "count"]) for keys in (alike, [*alike, without])]
    whole, own = (
        table[list(keys)].merge(one.reset_index(), on=list(keys), how="left")[["sum", "count"]].to_numpy()
        for keys, one in zip((alike, [*alike, without]), sums, strict=True)
    )
    rest = whole - own
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.Series(np.where(rest[:, 1] > 0, rest[:, 0] / rest[:, 1], np.nan), table.index)


def scores(table: pd.DataFrame, pooled: bool = False) -> dict[tuple[str, str], np.ndarray]:
    """Every predictor of the table as numbers that should be large, by its name and place ("" for trivial ones)."""
    found = {}
    for name, (_, good) in READINGS.items():
        for place in PLACES:
            if (column := f"{name}@{place}") in table and table[column].notna().any():
                found[name, place] = good(table[column]).to_numpy(dtype=float)
    for name in TRIVIAL:
        column = "kind_score" if name == "kind" else name
        if name == "rule" and not pooled or table[column].isna().all():
            continue
        found[name, ""] = table[column].to_numpy(dtype=float)
    return found


def areas(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Areas under the ROC curve, for every backward rule by itself and for all rules, among all families and among
    stochastic ones: a row for each predictor and place, with intervals when families are drawn again (``low``,
    ``high``) and when seeds are (``seed_low``, ``seed_high``); ``known`` is the share of rows that have the score.
    Positives meet negatives of the same network. The row SELECTED is the reading that does best on other families.
    And which that is, for each family left out.
    """
    rows, chosen = [], []
    rules = [rule for rule in trial.RULES if rule in set(table.arm)]
    for rule in [*rules, *([POOLED] if len(rules) > 1 else [])]:
        for scope in SCOPES:
            part = table if rule == POOLED else table[table.arm == rule]
            part = part if scope == "all" else part[part.kind != "deterministic"]
            part = part.reset_index(drop=True)
            if not len(part):
                continue
            label, network = part.label.to_numpy(dtype=bool), part.network.to_numpy()
            sizes = {"rows": len(part), "families": part.family.nunique(), "positive": label.mean()}
            found = scores(part, rule == POOLED)
            if rule != POOLED and scope == "all" and part.family.nunique() > 2:
                picked = _selected(found, part)
                found[SELECTED, ""] = picked.rank
                chosen += [{"rule": rule, "family": name, "reading": one} for name, one in picked.choice.items()]
            for (name, place), score in found.items():
                by: dict[str, float] = {}
                for unit, ends in (("family", ("low", "high")), ("seed", ("seed_low", "seed_high"))):
                    value, interval = drawn_again(score, label, part[unit], network)
                    by |= {"area": value, **dict(zip(ends, interval, strict=True))}
                if name != "damage":
                    more, ends_ = drawn_again(score, label, part.family, network, found["damage", ""])
                    by |= {"over_damage": more, "over_low": ends_[0], "over_high": ends_[1]}
                row = {"rule": rule, "scope": scope, "predictor": name, "place": place, **by, **sizes}
                rows.append(row | {"known": float(np.isfinite(score).mean()), "trivial": name in TRIVIAL})
    columns = ["rule", "scope", "predictor", "place", "area", "low", "high", "seed_low", "seed_high"]
    sizes_ = ["over_damage", "over_low", "over_high", "rows", "families", "positive", "known", "trivial"]
    return pd.DataFrame(rows, columns=[*columns, *sizes_]), pd.DataFrame(chosen, columns=["rule", "family", "reading"])


def _selected(found: Mapping[tuple[str, str], np.ndarray], part: pd.DataFrame) -> Any:
    """The reading, out of all at all places before training, that does best on other families."""
    own = {f"{name}@{place}": score for (name, place), score in found.items() if place in trial.PLACES}
    # What is not known is at the bottom.
    filled = {name: np.where(np.isfinite(one), one, np.nanmin(one) - 1) for name, one in own.items()}
    label, family = part.label.to_numpy(dtype=bool), part.family.to_numpy()
    folds = np.unique(family, return_inverse=True)[1] % 4
    return nested(filled, label, family, folds, part.network.to_numpy())


# --------------------------------------------------------------------------------------------- three readings


def sides(every: pd.DataFrame) -> pd.DataFrame:
    """By class at equal damage: how many of a family's counted cases each backward rule compensates, over levels and
    networks; ``side`` is "all", "none" or "some".
    """
    own = every[every.counted & every.level.isin(LEVELS) & every.arm.isin(trial.RULES)]
    table = own.groupby(["arm", "family"], sort=False).side.agg(["sum", "count"]).reset_index()
    table = table.rename(columns={"sum": "compensated", "count": "cases"})
    side = np.where(table.compensated == table.cases, "all", np.where(table.compensated == 0, "none", "some"))
    return table.assign(compensated=table.compensated.astype(int), side=side)


def between(values: np.ndarray, group: np.ndarray) -> float:
    """The share of the variance of ``values`` that lies between groups, adjusted for how many groups there are (the
    adjusted R² of the groups' means); nan where there is one value a group or no variance.
    """
    names, codes = np.unique(group, return_inverse=True)
    free = len(values) - len(names)
    if free < 1 or len(names) < 2 or np.var(values) == 0:
        return float("nan")
    means = np.bincount(codes, values) / np.bincount(codes)
    inside = np.square(values - means[codes]).sum() / free
    return float(1 - inside / np.var(values, ddof=1))


def shares(every: pd.DataFrame) -> pd.DataFrame:
    """The share of the variance of recovery that lies between families, levels and networks, for each backward rule at
    equal damage; the intervals are those when families are drawn again.
    """
    rows = []
    own = every[every.counted & every.level.isin(LEVELS) & every.arm.isin(trial.RULES)]
    for rule, part in own.groupby("arm", sort=False):
        values = part.recovery.clip(-1, 1).to_numpy()
        families = part.family.unique()
        place = {name: np.flatnonzero(part.family == name) for name in families}
        for what in ("family", "level", "network"):
            groups = part[what].to_numpy()

            def value(
                picked: np.ndarray, what=what, values=values, groups=groups, place=place, names=families
            ) -> float:
                at = [place[names[int(i)]] for i in picked]
                rows_ = np.concatenate(at)
                # A family that is drawn twice is two families.
                own = np.repeat(np.arange(len(at)), [len(one) for one in at]) if what == "family" else groups[rows_]
                return between(values[rows_], own)

            every_one = np.arange(len(families))
            low, high = bootstrap(every_one, lambda picked: np.array(value(picked)), resamples=400)  # noqa: B023
            rows.append({"rule": rule, "what": what, "share": value(every_one), "low": low, "high": high})
    return pd.DataFrame(rows, columns=["rule", "what", "share", "low", "high"])


def properties(table: pd.DataFrame) -> pd.DataFrame:
    """By property: the balanced accuracy of "all three conditions are met" on families, or networks, that the
    thresholds were not fixed on, for each backward rule and for all, with intervals over families; ``damage`` is that
    of a threshold on damage alone, fixed in the same way.
    """
    rows = []
    rules = [rule for rule in trial.RULES if rule in set(table.arm)]
    columns = [f"{name}@start" for name in CONDITIONS]
    if not set(columns) <= set(table):
        return pd.DataFrame(columns=["rule", "held", "what", "balanced", "low", "high"])
    for rule in [*rules, *([POOLED] if len(rules) > 1 else [])]:
        part = (table if rule == POOLED else table[table.arm == rule]).reset_index(drop=True)
        label = part.label.to_numpy(dtype=bool)
        for held in ("family", "network"):
            group = part[held].to_numpy()
            if len(np.unique(group)) < 2 or label.all() or not label.any():
                continue
            for what, names in (("three conditions", columns), ("damage", ["damage"])):
                said = conjunction(part[names].to_numpy(dtype=float), label, group)
                value, (low, high) = drawn_again(said.astype(float), label, part.family)
                rows.append({"rule": rule, "held": held, "what": what, "balanced": value, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["rule", "held", "what", "balanced", "low", "high"])


def published(every: pd.DataFrame) -> pd.DataFrame:
    """By class within published severities: what each costs and what the backward rules make of it."""
    own = every[(every.level == trial.PUBLISHED) & every.arm.isin(trial.RULES)]
    return own[
        ["network", "family", "arm", "severity", "damage", "free_part", "over", "recovery", "verdict", "counted"]
    ]


# ---------------------------------------------------------------------------------------------------- claims

#: What the backward rules are called in sentences.
NAMES = {
    "autograd": "vanilla training",
    "detached": "vanilla training with a detached scale",
    "noise_injection": "noise injection",
    "straight_through": "straight-through training",
    POOLED: "all backward rules together",
}
_SUBJECTS = {
    "cosine": "consistency (cosine with the clean gradient)",
    "signal": "bounded variance (share of signal)",
    "live": "sensitivity (live weights)",
    "truth": "truth, on chips that did not give the direction,",
}


def claims(tables: Tables) -> list[Claim]:
    """The recipe, the three readings of separation, the diagnostics rule by rule, and the conditional rule."""
    return [*_recipe(tables), *_separation(tables), *_told(tables["areas"])]


def _claim(what: str, text: str, relation: Relation, threshold: float, family: str, **more: Any) -> Claim:
    samples = more.pop("samples", ())
    return Claim(f"hardware_trial.{what}", text, samples, relation, threshold, f"hardware_trial {family}", **more)


def _by_family(table: pd.DataFrame, column: str) -> np.ndarray:
    """Means of a column, one number for each family: what a claim about families is judged over."""
    return table.groupby("family", sort=False)[column].mean().to_numpy() if len(table) else np.array([])


def _pairs(every: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """Cases with clear damage that both arms were trained in: ``points`` by which the first is ahead, ``same`` side."""
    clear = every[every.damage >= CLEAR_DAMAGE]
    both = clear[clear.arm == one].merge(clear[clear.arm == other], on=KEYS, suffixes=("", "_other"))
    return both.assign(points=100 * (both.accuracy - both.accuracy_other), same=both.side == both.side_other)


def _recipe(tables: Tables) -> list[Claim]:
    """What the recipe rests on, and what arms of it are worth."""
    every, start = tables["cases"], tables["start"]
    worst = start.groupby("seed").slope.max()
    found = [
        _claim(
            "flat",
            "The networks have converged before the trial: over the last quarter of their training the loss falls by"
            " next to nothing of its whole fall, in the worst network",
            "<=",
            criteria.FLAT,
            "recipe",
            samples=worst.to_numpy(),
            name="share of the fall",
        )
    ]
    cases_ = every[(every.damage >= CLEAR_DAMAGE) & (every.kind != "deterministic")].drop_duplicates(KEYS)
    found.append(
        _claim(
            "clipping",
            "A good part of the compensation needs no gradient: clipping the finished network at two standard"
            " deviations wins back at least a fifth of the loss in stochastic families",
            ">=",
            criteria.FREE_PART,
            "recipe",
            samples=_by_family(cases_, "clip_part"),
            name="recovery, mean over families",
        )
    )
    contrasts: tuple[tuple[str, str, str, str, Relation, float], ...] = (
        (
            "scale",
            "Vanilla training owes much to the differentiated scale: detached, it loses at least five points",
            "autograd",
            "detached",
            ">=",
            POINTS,
        ),
        (
            "clip_scale",
            "Clipping does what the differentiated scale does: noise injection with clipping and vanilla training are"
            " less than five points apart",
            "clipped",
            "autograd",
            "within",
            POINTS,
        ),
        (
            "injection",
            "The field's usual rule, noise injection, is ahead of straight-through training",
            "noise_injection",
            "straight_through",
            ">",
            criteria.BETTER,
        ),
        (
            "scratch",
            "Training from scratch through the hardware is within five points of training from a converged network",
            "scratch",
            "autograd",
            "within",
            POINTS,
        ),
    )
    for name, text, one, other, relation, threshold in contrasts:
        pairs = _pairs(every, one, other)
        if len(pairs):
            more: dict[str, Any] = {"samples": _by_family(pairs, "points"), "unit": "points"}
            found.append(
                _claim(name, text, relation, threshold, "recipe", name="difference, mean over families", **more)
            )
    longer = _pairs(every, "autograd", "long")
    if len(longer):
        found.append(
            _claim(
                "longer",
                "The recipe is long enough: with five times the steps vanilla training stays on its side, at every"
                " level of a family",
                ">=",
                criteria.SAME_SIDE,
                "recipe",
                samples=longer.groupby("family").same.all().to_numpy(dtype=float),
                exact=True,
                name="share of families",
            )
        )
    same = rates(tables["rates"])
    if len(same):
        found.append(
            _claim(
                "rates",
                "The side is the same at every learning rate that was tried",
                ">=",
                criteria.SAME_SIDE,
                "recipe",
                samples=same.same.to_numpy(dtype=float),
                exact=True,
                name="share of families and rules",
            )
        )
    return found


def rates(table: pd.DataFrame) -> pd.DataFrame:
    """Families and rules whose damage was clear where the rate was chosen: recovery at the ``best``, the ``worst`` and
    the chosen rate, and whether all are on the ``same`` side.
    """
    rows = []
    if not len(table):
        return pd.DataFrame(columns=["network", "family", "arm", "same"])
    for (network, family, arm), group in table.groupby(["network", "family", "arm"], sort=False):
        lost = group.clean - group.unaware
        if lost.mean() < CLEAR_DAMAGE:
            continue
        won = (group.accuracy - group.unaware) / lost
        chosen = group.rate[group.validation.idxmax()]
        same = (won >= COMPENSATED).nunique() == 1
        rows.append(
            {
                "network": network,
                "family": family,
                "arm": arm,
                "chosen": chosen,
                "worst": won.min(),
                "best": won.max(),
                "same": same,
            }
        )
    return pd.DataFrame(rows, columns=["network", "family", "arm", "chosen", "worst", "best", "same"])


def _counts(tables: Tables, rule: str, levels: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Of a rule's counted cases at some levels: what training won over what needs none, and what was left [cases,
    seeds] (nan where a network has fewer seeds), and the family of each.
    """
    every = tables["cases"]
    chosen = every[every.counted & (every.arm == rule) & every.level.isin(levels)][[*KEYS, "arm"]]
    own = tables["runs"].merge(chosen, on=[*KEYS, "arm"])
    if not len(own):
        return None
    own = own.assign(over=own.accuracy - own.free, left=own.clean - own.free)
    wide = own.pivot_table(index=KEYS, columns="seed", values=["over", "left"], sort=False)
    families = wide.index.get_level_values("family").to_numpy()
    return wide["over"].to_numpy(), wide["left"].to_numpy(), families


def _sided(counts: tuple[np.ndarray, np.ndarray, np.ndarray], picked: np.ndarray) -> np.ndarray:
    """Which cases are compensated by the mean of the picked seeds; by that of all where none of them is there."""
    won, left, _ = counts
    own = won - COMPENSATED * left
    with np.errstate(invalid="ignore"):
        there = np.isfinite(own[:, picked])
        sums = np.where(there, own[:, picked], 0).sum(1)
    whole = np.nansum(own, axis=1)
    return np.where(there.any(1), sums, whole) >= 0


def _separation(tables: Tables) -> list[Claim]:
    """By class at equal damage, by class within published severities, and by property."""
    found, shares_ = [], tables["shares"]
    for rule in trial.RULES:
        counts = _counts(tables, rule, LEVELS)
        if counts is None:
            continue
        families, codes = np.unique(counts[2], return_inverse=True)

        def smaller(picked: np.ndarray, counts=counts, codes=codes) -> float:
            won = np.bincount(codes, _sided(counts, picked)) / np.bincount(codes)
            return float(min((won == 1).sum(), (won == 0).sum()))

        found.append(
            _claim(
                f"class.sides.{rule}",
                f"By class, under {NAMES[rule]}: at equal damage at least one whole family is on each side",
                ">=",
                criteria.ONE_FAMILY,
                "separation",
                measured=over_seeds(smaller, counts[0].shape[1]),
                name="families on the smaller side",
            )
        )
        row = shares_[(shares_.rule == rule) & (shares_.what == "family")]
        if len(row):
            one = row.iloc[0]
            found.append(
                _claim(
                    f"class.share.{rule}",
                    f"By class, under {NAMES[rule]}: at equal damage at least half of the variance of recovery lies"
                    " between families",
                    ">=",
                    criteria.BETWEEN,
                    "separation",
                    measured=(one.share, (one.low, one.high)),
                    name="share of variance",
                )
            )
        within = _counts(tables, rule, [trial.PUBLISHED])
        if within is not None:

            def failing(picked: np.ndarray, counts=within) -> float:
                lost = ~_sided(counts, picked)
                return float(len(set(counts[2][lost])))

            found.append(
                _claim(
                    f"published.{rule}",
                    f"By class within published severities, under {NAMES[rule]}: training leaves at least one family"
                    " that does clear damage uncompensated",
                    ">=",
                    criteria.ONE_FAMILY,
                    "separation",
                    measured=over_seeds(failing, within[0].shape[1]),
                    name="families not compensated",
                )
            )
    held = tables["properties"]
    for one in held[held.what == "three conditions"].itertuples():
        where = "a family" if one.held == "family" else "a network"
        found.append(
            _claim(
                f"property.{one.held}.{one.rule.replace(' ', '_')}",
                f"By property, under {NAMES[one.rule]}: whether all three conditions are met, by thresholds"
                f" fixed without {where}, tells what is compensated in it",
                ">=",
                TRANSFERS,
                "property",
                measured=(one.balanced, (one.low, one.high)),
                name="balanced accuracy",
            )
        )
    return found


def _told(table: pd.DataFrame) -> list[Claim]:
    """Which diagnostics tell, for each backward rule by itself, and the conditional rule that was expected."""
    found = []

    def one(rule: str, scope: str, name: str, place: str) -> pd.Series | None:
        rows = table[(table.rule == rule) & (table.scope == scope) & (table.predictor == name) & (table.place == place)]
        return rows.iloc[0] if len(rows) else None

    def add(id: str, text: str, row: pd.Series, family: str) -> None:
        measured = (row.area, (row.low, row.high))
        found.append(_claim(id, text, ">=", TELLS, family, measured=measured, name="area under ROC"))

    for rule in trial.RULES:
        for name in CONDITIONS:
            row = one(rule, "all", name, "start")
            if row is not None:
                text = (
                    f"Under {NAMES[rule]}, {_SUBJECTS[name]} separates what training compensates from what it does not"
                )
                add(f"tells.{name}.{rule}", text, row, "diagnostics")
        row = one(rule, "all", SELECTED, "")
        if row is not None:
            text = f"Under {NAMES[rule]}, the reading that does best on other families tells about the one left out"
            add(f"tells.selected.{rule}", text, row, "diagnostics")
            found.append(
                _claim(
                    f"better.selected.{rule}",
                    f"Under {NAMES[rule]}, the reading that does best on other families tells more than damage alone",
                    ">",
                    criteria.BETTER,
                    "diagnostics",
                    measured=(row.over_damage, (row.over_low, row.over_high)),
                    name="difference of areas",
                )
            )
    conditional = (
        ("cosine", "autograd", "stochastic", "Within stochastic families vanilla's cosine tells what is compensated"),
        (
            "signal",
            "autograd",
            "stochastic",
            "Within stochastic families vanilla's share of signal tells what is compensated",
        ),
        (
            "truth",
            POOLED,
            "all",
            "Over all backward rules the gradient's truth on other chips tells what is compensated",
        ),
        ("live", POOLED, "all", "Over all backward rules the share of live weights tells what is compensated"),
    )
    for name, rule, scope, text in conditional:
        row = one(rule, scope, name, "start")
        if row is not None:
            add(f"conditional.{name}", f"The conditional rule: {text[0].lower()}{text[1:]}", row, "conditional")
    return found
