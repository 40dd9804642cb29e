"""Nothing to gain, or too slow? What revives an idle gate where there is something to gain, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import norm
from torch import Tensor

from lib import checks, results
from lib.prompts import tasks, training
from lib.prompts.learners import Learner
from lib.results import Cell
from lib.verdicts import Claim, Findings
from paper.criteria import prompts as criteria
from paper.studies.base import Compared
from paper.studies.gating import (
    LearnerNames,
    PromptStudy,
    Seeds,
    Steps,
    Tables,
    TaskNames,
    assembled,
    design,
    loaded,
    per_seed,
    task_of,
)
from paper.studies.parameters import POSITIVE, Numbers, Some

ESCAPED = 0.02
"""Input information from which a gate counts as having left its starting point."""
MAPPED = ("sgd", "adam")
"""Optimisers of the map."""
PLAIN = "nothing changed"
"""Name of the gate to which nothing is done."""
TOLD = "told the cue"
"""Name of the gate that says what there is to gain."""
TOLD_FROM_WORDS = "told, from words"
"""Name of the same gate on prompts that start from words."""
REFERENCES = ("fixed", "blind", "routed")
"""What a gated learner is compared with: the same without a gate, with a gate that sees another picture, and prompts
for each rule with the rule's own pictures.
"""
ROUTED = training.Recipe(steps=600, rate=0.01, optimiser="adam", warmup=0.0)
"""The recipe of the routed prompts: from words their loss is flat in half the time."""
STARTS = ("words", "noise")
"""How the routed prompts start."""


@dataclass(frozen=True)
class Intervention:
    """One thing that is done to a gate: in words, the gate, and what changes in the recipe and in the setting.

    ``start`` is how the prompts start (:class:`lib.prompts.training.Setting`), ``longer`` a factor on them; for the
    first ``later`` steps they learn alone.
    """

    words: str
    gate: str = "length"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    longer: float = 1.0
    later: int = 0


INTERVENTIONS: dict[str, Intervention] = {
    "all rates x 10": Intervention("a larger learning rate for everything", recipe={"rate": 0.035}),
    "Adam": Intervention("an optimiser that ignores the size of a gradient", recipe={"optimiser": "adam"}),
    "Adam for the gate": Intervention(
        "Adam on the gate, SGD on the prompts", recipe={"optimiser": "sgd", "gate_optimiser": "adam"}
    ),
    "Adam for the prompts": Intervention(
        "Adam on the prompts, SGD on the gate", recipe={"optimiser": "adam", "gate_optimiser": "sgd"}
    ),
    "balanced gradients": Intervention("the gate's gradient scaled to the prompts'", setting={"balance": True}),
    "temperature 0.3": Intervention("a cooler gate", setting={"temperature": 0.3}),
    "temperature 0.1": Intervention("a cold gate", setting={"temperature": 0.1}),
    "feature x 3": Intervention("what the gate sees, three times as large", setting={"gain": 3.0}),
    "feature x 10": Intervention("what the gate sees, ten times as large", setting={"gain": 10.0}),
    "prompts x 3": Intervention("initial prompts three times as long", longer=3.0),
    "prompts x 10": Intervention("initial prompts ten times as long", longer=10.0),
    "prompts from words": Intervention('prompts that start as "a photo of a"', start="words"),
    "from words, Adam": Intervention("the same with Adam", recipe={"optimiser": "adam"}, start="words"),
    "gate starts open": Intervention("bias +2", setting={"bias": 2.0}),
    "gate starts shut": Intervention("bias -2", setting={"bias": -2.0}),
    "centred x 10": Intervention(
        "what the gate sees, less its mean, ten times as large", setting={"view": "centred", "gain": 10.0}
    ),
    "whitened feature": Intervention("what the gate sees, with covariance one", setting={"view": "whitened"}),
    "diversity loss": Intervention("a reward for gates that differ", setting={"diversity": 1.0}),
    "gate later": Intervention("the first hundred steps for the prompts alone", later=100),
    "tanh from zero": Intervention("a gate that starts where its gradient is largest", "tanh"),
    TOLD: Intervention("an oracle's gate, at 100 times the rate", "oracle", setting={"gate_rate": 100.0}),
    TOLD_FROM_WORDS: Intervention(
        "the same, with prompts that start from words", "oracle", setting={"gate_rate": 100.0}, start="words"
    ),
}


class Escape(PromptStudy):
    """Gates on the conflict task, trained at a constant rate and looked at on the way.

    ``learner`` is gated by length; ``looks`` are the numbers of steps after which its worth is measured, ``steps`` the
    last of them; ``rates`` are multiples of the gate's learning rate, ``interventions`` names of
    :data:`INTERVENTIONS`, ``strengths`` those of the conflict on the map.
    Tables: ``looks`` (intervention, strength, seed, step: the worth of the gate over its mean in points,
    gap, input information and the rest of what a closer look gives), ``escapes`` (intervention, seed: the step at
    which the gate's input information first reached :data:`ESCAPED`, or none, and the gap at the start less log10 of
    the gate's rate), ``law`` (the fit of one to the other), ``boundary`` (of the map).
    """

    task: TaskNames = ("conflict",)
    learner: LearnerNames = ("coop",)
    seeds: Seeds = 2
    steps: Steps = 400
    looks: Annotated[tuple[int, ...], Numbers(1, whole=True)] = (100, 400)
    rates: Annotated[tuple[float, ...], Numbers(POSITIVE.low, POSITIVE.high)] = (1,)
    interventions: Annotated[tuple[str, ...], Some(INTERVENTIONS, everything="all")] = ("Adam",)
    strengths: Annotated[tuple[float, ...], Numbers(0, 1)] = (1,)
    references: Annotated[tuple[str, ...], Some(REFERENCES, everything="all", nothing="none")] = ("fixed",)

    # At a constant rate a shorter training is the beginning of a longer one.
    SIZES: ClassVar[tuple[str, ...]] = (*PromptStudy.SIZES, "steps")
    PARTS: ClassVar[tuple[str, ...]] = (
        *PromptStudy.PARTS,
        *("looks", "rates", "interventions", "strengths", "references"),
    )
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        # One test picture of 120.
        "looks": Compared(("intervention", "strength", "step"), {"over_mean": 100 / 120}),
        "escapes": Compared(("intervention", "strength"), {"behind": 1e-3}),
    }

    def check(self) -> None:
        super().check()
        for name, allowed in (("task", tasks.GRADED), ("learner", ())):
            if len(given := getattr(self, name)) != 1 or (allowed and given[0] not in allowed):
                one = f"one of {', '.join(allowed)}" if allowed else "one learner"
                raise checks.ParameterError(f"{name} must be {one}, but {', '.join(given)!r} was given.")
        if max(self.looks) != self.steps:
            raise checks.ParameterError(
                f"looks must end with steps ({self.steps}), but {max(self.looks)} was given as the last."
            )

    def recipe(self, **changes: Any) -> training.Recipe:
        """A constant rate, because a schedule would tie what is seen at a step to the number of steps."""
        own = {"warmup": 0.0, "cosine": False, "looks": tuple(sorted(self.looks)), "watch": True}
        return super().recipe(**(own | changes))

    def chosen(self) -> dict[str, Intervention]:
        """The multiples of the gate's rate, and the interventions."""
        rates = {
            named(rate): Intervention(
                "a larger learning rate for the gate" if rate != 1 else "the gate as it comes",
                setting={"gate_rate": rate},
            )
            for rate in self.rates
        }
        return rates | {name: INTERVENTIONS[name] for name in self.interventions}

    def trained(self, one: Intervention, gate: str, strength: float = 1.0) -> Cell:
        """The training of an intervention, with its own gate or a reference's.

        A reference shares the recipe and how the prompts start; nothing is done to its gate, if it has one.
        """
        (learner,), (task,) = self.learner, self.task
        setting = {"prompt_std": one.longer * self.prompt_std, "start": one.start}
        if gate == one.gate:
            setting |= dict(one.setting) | {"delay": min(one.later / self.steps, 1.0)}
        recipe = dict(one.recipe)
        if gate == "none":
            recipe |= {"gate_optimiser": "", "looks": (), "watch": False}
        return self.cell(
            learner, gate, task, strength=strength, recipe=self.recipe(**recipe), setting=self.setting(**setting)
        )

    def mapped(self) -> list[tuple[str, Intervention, float]]:
        """The map: its name, what is done, and the strength."""
        ways = {f"map {optimiser}": Intervention("", recipe={"optimiser": optimiser}) for optimiser in MAPPED}
        return [(name, one, strength) for name, one in ways.items() for strength in self.strengths]

    def places(self) -> list[tuple[str, Intervention, float]]:
        """Interventions at full strength, and the map."""
        return [*((name, one, 1.0) for name, one in self.chosen().items()), *self.mapped()]

    def labelled(self) -> list[tuple[str, Cell]]:
        """Every gated training with its name; some are one training under two names."""
        return [(name, self.trained(one, one.gate, strength)) for name, one, strength in self.places()]

    def compared(self, reference: str) -> list[tuple[str, Cell]]:
        """What gated trainings are compared with, by their names. Blind gates are for recipes, not for the map or for
        prompts of other lengths.
        """
        if reference not in self.references:
            return []
        if reference == "fixed":
            return [(name, self.trained(one, "none", strength)) for name, one, strength in self.places()]
        return [(name, self.trained(one, "shuffled")) for name, one in self.chosen().items() if one.longer == 1]

    def routed(self) -> list[Cell]:
        """Prompts for each rule."""
        if "routed" not in self.references:
            return []
        (learner,), (task,) = self.learner, self.task
        config = {
            "learner": learner,
            "design": design(learner),
            "tokens": self.tokens,
            "task": task,
            "strength": 1.0,
            "data": None,
            "shots": self.shots,
            "test_size": self.test_size,
            "prompt_std": self.prompt_std,
            "seeds": list(range(self.seeds)),
            "starts": list(STARTS),
            "recipe": asdict(ROUTED),
            **self.weights(),
        }
        return [Cell("routed", config, route, size=3 * len(STARTS) * self.seeds, site=self.site())]

    def cells(self) -> list[Cell]:
        """Every training once."""
        every = [*self.labelled(), *self.compared("fixed"), *self.compared("blind")]
        return [*dict.fromkeys(cell for _, cell in every), *self.routed()]

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        tables = assembled(found, self.labelled())
        looks = tables.looks.rename(columns={"label": "intervention"})
        for other in ("mean", "shuffled"):
            looks[f"over_{other}"] = looks["accuracy_gated"] - looks[f"accuracy_{other}"]
        escapes = self.escapes(tables)
        law = fit(escapes[escapes["intervention"].isin([named(rate) for rate in self.rates])], self.steps)
        judged = {"looks": looks, "escapes": escapes, "law": law, "boundary": boundary(looks)}
        return judged, Findings.of(claims(looks, law))

    def described(self) -> pd.DataFrame:
        """What each intervention is, in words."""
        rows = [(name, one.words) for name, one in self.chosen().items()]
        return pd.DataFrame(rows, columns=["intervention", "what it is"])

    def escapes(self, tables: Tables) -> pd.DataFrame:
        """When each gate left, and how far behind its gradient was at the start."""
        rates = {name: one.setting.get("gate_rate", 1.0) for name, one in self.chosen().items()}
        moving = tables.trajectory
        start = moving[moving["step"] == 0].set_index(["label", "strength", "seed"])["gap"]
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


# ------------------------------------------------------------------------------------------------- computing
class Ruled(tasks.Task):
    """The pictures of a conflict task that follow one of its two rules: the second where ``second``."""

    second: bool

    @classmethod
    def of(cls, task: tasks.Task, second: bool) -> Ruled:
        """The pictures of one rule, out of the same ones that the whole task draws."""
        made = cls(**vars(task))
        object.__setattr__(made, "second", second)
        return made

    def few_shot(self, shots: int, seed: int, test_size: int, size: int = tasks.world.SIZE) -> tasks.FewShot:
        whole = super().few_shot(shots, seed, test_size, size)
        kept, tested = (cue == self.second for cue in cast(tuple[Tensor, Tensor], (whole.cue, whole.test_cue)))
        if not (kept.any() and tested.any()):
            raise checks.ParameterError(
                f"shots and test_size must leave pictures for either rule, but {shots} and {test_size} were given."
            )
        return tasks.FewShot(
            whole.images[kept], whole.labels[kept], None, whole.test_images[tested], whole.test_labels[tested], None
        )


def route(config: Mapping[str, Any], site: Mapping[str, Any]) -> results.Tables:
    """The learner without a gate trained on all pictures and on those of each rule alone, from words and from noise.

    Table "routed", a row per start, rule ("both", "first", "second") and seed: accuracy in per cent on the test
    pictures of that rule (``own``) and on all (``whole``), how many there are of the rule (``pictures``), and the
    training loss (nats) over the last tenth of the steps and over the tenth before.
    """
    task, _ = task_of(config, site)
    rules = {"both": task, "first": Ruled.of(task, False), "second": Ruled.of(task, True)}
    made = Learner(config["learner"], loaded(config, site), task.names, template=task.template, tokens=config["tokens"])
    rows = [
        {"start": start, "rule": rule, "seed": seed}
        for start in config["starts"]
        for rule in rules
        for seed in config["seeds"]
    ]
    std, shots = config["prompt_std"], config["shots"]
    settings = {start: training.Setting(prompt_std=std, start=start) for start in config["starts"]}
    runs = [training.Replica(rules[row["rule"]], row["seed"], settings[row["start"]], shots) for row in rows]
    data = training.prepare(made, runs, config["test_size"])
    recipe = training.Recipe(**{**config["recipe"], "looks": ()})
    trained = training.train(made, data, recipe, f"{config['learner']} routed {config['task']}")
    # Seeds are the fastest index, and all pictures come first.
    every = data.test_place[: len(config["seeds"])].repeat(len(rows) // len(config["seeds"]))
    everywhere = replace(trained, data=replace(data, test_place=every))
    own, whole = (training.evaluate(one)["accuracy"].tolist() for one in (trained, everywhere))
    pictures = (data.test_labels[data.test_place] >= 0).sum(1).tolist()
    return {"routed": pd.DataFrame(rows).assign(own=own, whole=whole, pictures=pictures, **trained.settled())}


# --------------------------------------------------------------------------------------------------- judging
def named(rate: float) -> str:
    """What a multiple of the gate's rate is called."""
    return PLAIN if rate == 1 else f"gate rate x {rate:g}"


def adaptive(name: str) -> str:
    """The id of the claim that the intervention of this name makes the gate adaptive."""
    return f"escape.adaptive.{name.lower().replace(' ', '_')}"


def claims(looks: pd.DataFrame, law: pd.DataFrame) -> list[Claim]:
    """What is said of the gates' worth at the last look, and of the law; nothing about what was not measured."""
    last = int(looks["step"].max())
    end = looks[looks["step"] == last]
    own = end[~end["intervention"].str.startswith("map ")]
    worth = {name: per_seed(part, "over_mean") for name, part in own.groupby("intervention", sort=False)}
    points: dict[str, Any] = {"family": "escape", "unit": "points"}
    found = []
    if TOLD in worth:
        text = "there is something to gain: told the cue, the gate is worth ten points and more over its mean"
        found.append(Claim("escape.gain", text, worth[TOLD], ">", criteria.SOMETHING_TO_GAIN, **points))
    if PLAIN in worth:
        text = f"with the published optimiser and rate the gate is still useless after {last} steps"
        found.append(Claim("escape.published", text, worth[PLAIN], "<", criteria.ADAPTIVE, **points))
    for name, samples in worth.items():
        if name not in (PLAIN, TOLD):
            text = f"{name}: within {last} steps the gate becomes adaptive"
            family = "escape.interventions"
            found.append(Claim(adaptive(name), text, samples, ">", criteria.ADAPTIVE, family, unit="points"))
    slope = law.iloc[0]
    for what, text, threshold in (
        ("later", "the further its gradient is behind, the later a gate leaves", criteria.LATER),
        (
            "proportional",
            "in proportion: a decade of gap costs a decade of steps (at least 0.8)",
            criteria.IN_PROPORTION,
        ),
    ):
        measured = (slope["slope"], (slope["low"], slope["high"]))
        name = "decades of steps per decade of gap"
        found.append(Claim(f"escape.law.{what}", text, (), ">", threshold, "escape", name=name, measured=measured))
    if len(nothing := end[end["strength"] == 0]):
        text = f"with nothing to gain no gate is adaptive after {last} steps either"
        found.append(Claim("escape.nothing", text, per_seed(nothing, "over_mean"), "<", criteria.ADAPTIVE, **points))
    return found


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
    slope, intercept, scatter = censored(own)
    seeds, generator = own["seed"].unique(), np.random.default_rng(0)
    parts = dict(list(own.groupby("seed")))
    drawn = []
    for _ in range(200):
        again = pd.concat([parts[seed] for seed in generator.choice(seeds, len(seeds))])
        if (~again["late"]).sum() > 3:
            drawn.append(censored(again)[0])
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(seeds) > 1 and drawn else (np.nan, np.nan)
    return pd.DataFrame([dict(slope=slope, intercept=intercept, low=low, high=high, scatter=scatter) | row])


def censored(own: pd.DataFrame) -> tuple[float, float, float]:
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
        outcome = (part["over_mean"] > criteria.ADAPTIVE).to_numpy()
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
