"""Nothing to gain, or too slow? What revives an idle gate where there is something to gain, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import norm

from lib import checks
from lib.prompts import tasks, training
from lib.results import provenance
from lib.runtime import resolve_device
from lib.verdicts import Findings, judge, judge_value
from paper.studies.base import Result
from paper.studies.gate_value import ADAPTIVE
from paper.studies.gating import Bench, Cell, PromptStudy, Tables, per_seed

ESCAPED = 0.02
"""Input information from which a gate counts as having left its starting point."""
MAPPED = ("sgd", "adam")
"""Optimisers of the map."""

#: What is done to the gate: name, what it is, gate, changes of the recipe, changes of the setting.
INTERVENTIONS: tuple[tuple[str, str, str, dict, dict], ...] = (
    ("all rates x 10", "a larger learning rate for everything", "length", {"rate": 0.035}, {}),
    ("Adam", "an optimiser that ignores the size of a gradient", "length", {"optimiser": "adam"}, {}),
    ("balanced gradients", "the gate's gradient scaled to the prompts'", "length", {}, {"balance": True}),
    ("cold gate", "temperature 0.1", "length", {}, {"temperature": 0.1}),
    ("hot gate", "temperature 10", "length", {}, {"temperature": 10.0}),
    ("gate starts open", "bias +2", "length", {}, {"bias": 2.0}),
    ("gate starts shut", "bias -2", "length", {}, {"bias": -2.0}),
    ("feature x 10", "what the gate sees, ten times as large", "length", {}, {"gain": 10.0}),
    ("centred feature", "what the gate sees, less its mean", "length", {}, {"view": "centred"}),
    ("centred x 10", "the same ten times as large", "length", {}, {"view": "centred", "gain": 10.0}),
    ("whitened feature", "what the gate sees, with covariance one", "length", {}, {"view": "whitened"}),
    ("longer prompts", "initial prompts ten times as long", "length", {}, {"prompt_std": 0.2}),
    ("diversity loss", "a reward for gates that differ", "length", {}, {"diversity": 1.0}),
    ("gate later", "the first quarter for the prompts alone", "length", {}, {"delay": 0.25}),
    ("tanh from zero", "a gate that starts where its gradient is largest", "tanh", {}, {}),
    ("told the cue", "an oracle's gate, at 100 times the rate", "oracle", {}, {"gate_rate": 100.0}),
)
PUBLISHED = "as published"
"""Name of the gate with the published optimiser and rate."""


@dataclass(frozen=True, kw_only=True)
class Escape(PromptStudy):
    """Gates on the conflict task, trained at a constant rate and looked at on the way.

    ``learner`` is gated by length; ``looks`` are the numbers of steps after which its worth is measured, ``steps`` the
    last of them; ``rates`` are multiples of the gate's learning rate, ``strengths`` those of the conflict on the map.
    Tables: ``looks`` (intervention, strength, seed, step: the worth of the gate over its mean in points,
    gap, input information and the rest of what a closer look gives), ``escapes`` (intervention, seed: the step at
    which the gate's input information first reached :data:`ESCAPED`, or none, and the gap at the start less log10 of
    the gate's rate), ``law`` (the fit of one to the other), ``boundary`` (of the map).
    """

    task: str | Sequence[str] = "conflict"
    learner: str | Sequence[str] = "coop"
    seeds: int = 5
    steps: int = 400
    looks: object = (100, 400)
    rates: object = (1, 10, 100, 1000)
    strengths: object = (0, 0.5, 1)

    KEYS = ("intervention", "strength", "step")
    # A gate has left or it has not, so seeds differ by forty points: two standard errors of five seeds against eight.
    TOLERANCES = {"over_mean": 25.0}
    SETTLED = ("something to gain:", "published optimiser", "hot gate", "starts open", "nothing to gain no gate")

    def check(self) -> None:
        looks = tuple(int(look) for look in checks.numbers("looks", self.looks, 1))
        object.__setattr__(self, "looks", looks)
        object.__setattr__(self, "rates", checks.numbers("rates", self.rates, above=0))
        object.__setattr__(self, "strengths", checks.numbers("strengths", self.strengths, 0, 1))
        super().check()
        for name, allowed in (("task", tasks.GRADED), ("learner", ())):
            if len(given := getattr(self, name)) != 1 or (allowed and given[0] not in allowed):
                one = f"one of {', '.join(allowed)}" if allowed else "one learner"
                raise checks.ParameterError(f"{name} must be {one}, but {', '.join(given)!r} was given.")
        if max(looks) != self.steps:
            raise checks.ParameterError(
                f"looks must end with steps ({self.steps}), but {max(looks)} was given as the last."
            )

    def recipe(self, **changes: object) -> training.Recipe:
        """A constant rate, because a schedule would tie what is seen at a step to the number of steps."""
        own = {"warmup": 0.0, "cosine": False, "looks": tuple(sorted(self.looks)), "watch": True}
        return super().recipe(**(own | changes))

    def interventions(self) -> list[tuple[str, str, str, dict, dict]]:
        """:data:`INTERVENTIONS` behind the multiples of the gate's rate."""
        return [
            (
                *(named(rate), "a larger learning rate for the gate" if rate != 1 else "SGD at the published rate"),
                *("length", {}, {"gate_rate": rate}),
            )
            for rate in self.rates
        ] + list(INTERVENTIONS)

    def cells(self) -> list[Cell]:
        """Interventions at full strength, and the map."""
        learner, task = self.learner[0], self.task[0]
        found = [
            self.cell(
                learner, gate, task, strength=1.0, label=name, recipe=self.recipe(**recipe), setting=self.setting(**own)
            )
            for name, _, gate, recipe, own in self.interventions()
        ]
        for optimiser in MAPPED:
            recipe = self.recipe(optimiser=optimiser)
            found += [
                self.cell(learner, "length", task, strength=strength, label=f"map {optimiser}", recipe=recipe)
                for strength in self.strengths
            ]
        return found

    def run(self) -> Result:
        bench = Bench(self, self.store())
        tables = bench.run(self.cells())
        looks = tables.looks.rename(columns={"label": "intervention"})
        for other in ("mean", "shuffled"):
            looks[f"over_{other}"] = looks["accuracy_gated"] - looks[f"accuracy_{other}"]
        escapes = self.escapes(tables)
        law = fit(escapes[escapes["intervention"].isin([named(rate) for rate in self.rates])], self.steps)
        return Result(
            {"looks": looks, "escapes": escapes, "law": law, "boundary": boundary(looks)},
            self._findings(looks, escapes, law),
            provenance(resolve_device(self.device), list(range(self.seeds)), bench.store.seconds),
        )

    def described(self) -> pd.DataFrame:
        """What each intervention is, in words."""
        return pd.DataFrame([row[:2] for row in self.interventions()], columns=["intervention", "what it is"])

    def escapes(self, tables: Tables) -> pd.DataFrame:
        """When each gate left, and how far behind its gradient was at the start."""
        rates = {name: own.get("gate_rate", 1.0) for name, _, _, _, own in self.interventions()}
        start = tables.moving[tables.moving["step"] == 0].set_index(["label", "strength", "seed"])["gap"]
        rows = []
        for (label, strength, seed), part in tables.watched.groupby(["label", "strength", "seed"], sort=False):
            left = part[part["information"] >= ESCAPED]["step"]
            rows.append(
                {
                    "intervention": label,
                    "strength": strength,
                    "seed": seed,
                    # Step 0 is before the first update; on a logarithmic axis it is the first.
                    "escape": max(float(left.min()), 1.0) if len(left) else np.nan,
                    "behind": start[label, strength, seed] - np.log10(rates.get(label, 1.0)),
                }
            )
        return pd.DataFrame(rows)

    @staticmethod
    def _findings(looks: pd.DataFrame, escapes: pd.DataFrame, law: pd.DataFrame) -> Findings:
        last = int(looks["step"].max())
        end = looks[looks["step"] == last]

        def worth(name: str) -> list[float]:
            return per_seed(end[end["intervention"] == name], "over_mean")

        found = [
            judge(
                "there is something to gain: told the cue, the gate is worth ten points and more over its mean",
                worth("told the cue"),
                ">",
                10,
                unit="points",
            ),
            judge(
                f"with the published optimiser and rate the gate is still useless after {last} steps",
                worth(PUBLISHED),
                "<",
                ADAPTIVE,
                unit="points",
            ),
        ]
        for name in end["intervention"].unique():
            if name not in (PUBLISHED, "told the cue") and not name.startswith("map "):
                claim = f"{name}: within {last} steps the gate becomes adaptive"
                found.append(judge(claim, worth(name), ">", ADAPTIVE, unit="points"))
        slope = law.iloc[0]
        found += [
            judge_value(
                claim,
                slope["slope"],
                (slope["low"], slope["high"]),
                ">",
                threshold,
                name="decades of steps per decade of gap",
            )
            for claim, threshold in (
                ("the further its gradient is behind, the later a gate leaves", 0.1),
                ("in proportion: a decade of gap costs a decade of steps (at least 0.8)", 0.8),
            )
        ]
        found.append(
            judge(
                f"with nothing to gain no gate is adaptive after {last} steps either",
                per_seed(end[end["strength"] == 0], "over_mean"),
                "<",
                ADAPTIVE,
                unit="points",
            )
        )
        return Findings(found)


def named(rate: float) -> str:
    """What a multiple of the gate's rate is called."""
    return PUBLISHED if rate == 1 else f"gate rate x {rate:g}"


def fit(escapes: pd.DataFrame, steps: int) -> pd.DataFrame:
    """log10 of the escape step over decades behind: a line with normal scatter, by maximum likelihood.

    A gate that has not left after ``steps`` counts as one that leaves later (a Tobit model, Tobin 1958), so that slow
    gates are not lost. Multiples of the rate above a hundred, which leave at once and saturate, are no part of it.
    One row: slope, intercept, the 95 % interval of the slope (seeds drawn again), scatter in decades, trainings used
    and how many of them left.
    """
    behind = escapes.assign(late=escapes["escape"].isna())
    slow = behind.groupby("intervention")["behind"].transform("mean") >= behind["behind"].max() - 2.6
    own = behind[slow & (behind["strength"] == 1)].fillna({"escape": float(steps)})
    row = {"trainings": len(own), "left": int((~own["late"]).sum())}
    if row["left"] < 4 or own.loc[~own["late"], "intervention"].nunique() < 2:
        return pd.DataFrame([dict.fromkeys(("slope", "intercept", "low", "high", "scatter"), np.nan) | row])
    slope, intercept, scatter = _censored(own)
    seeds, generator = own["seed"].unique(), np.random.default_rng(0)
    parts = dict(list(own.groupby("seed")))
    drawn = []
    for _ in range(200):
        again = pd.concat([parts[seed] for seed in generator.choice(seeds, len(seeds))])
        if (~again["late"]).sum() > 3:
            drawn.append(_censored(again)[0])
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(seeds) > 1 and drawn else (np.nan, np.nan)
    return pd.DataFrame([dict(slope=slope, intercept=intercept, low=low, high=high, scatter=scatter) | row])


def _censored(own: pd.DataFrame) -> tuple[float, float, float]:
    """Slope, intercept and scatter of log10 escape over behind; late ones are only known to lie beyond."""
    x, y, late = own["behind"].to_numpy(), np.log10(own["escape"].to_numpy()), own["late"].to_numpy()

    def loss(at: np.ndarray) -> float:
        z = (y - at[0] * x - at[1]) / np.exp(at[2])
        return float(np.where(late, -norm.logsf(z), 0.5 * z**2 + at[2]).sum())

    slope, intercept = np.polyfit(x, y, 1)
    best = minimize(loss, [slope, intercept, -1.0], method="Nelder-Mead", options={"maxiter": 2000})
    return float(best.x[0]), float(best.x[1]), float(np.exp(best.x[2]))


def boundary(looks: pd.DataFrame) -> pd.DataFrame:
    """Where the odds of an adaptive gate are even: columns intervention, strength, steps, for each map.

    By logistic regression of the trainings' outcomes on log10 of the steps and the strength; no rows where all come
    out alike, or where more steps do not help.
    """
    from sklearn.linear_model import LogisticRegression

    rows = []
    for name, part in looks[looks["intervention"].str.startswith("map ")].groupby("intervention"):
        outcome = (part["over_mean"] > ADAPTIVE).to_numpy()
        if outcome.all() or not outcome.any():
            continue
        model = LogisticRegression(C=100.0).fit(np.stack([np.log10(part["step"]), part["strength"]], axis=1), outcome)
        slope, weight = model.coef_[0]
        if slope <= 0:
            continue
        for strength in np.linspace(0, 1, 21):
            steps = 10 ** min(-(model.intercept_[0] + weight * strength) / slope, 9)
            rows.append({"intervention": name, "strength": strength, "steps": steps})
    return pd.DataFrame(rows, columns=["intervention", "strength", "steps"])
