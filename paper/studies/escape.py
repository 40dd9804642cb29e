"""Nothing to gain, or too slow? What revives an idle gate where there is something to gain, and how long it takes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import pandas as pd
from scipy.stats import norm
from torch import Tensor

from lib import checks, results
from lib.prompts import photographs, tasks, training
from lib.prompts.learners import Learner
from lib.registry import Registry
from lib.results import Cell
from lib.verdicts import Claim, Findings, tail
from paper.criteria import prompts as criteria
from paper.studies import roles
from paper.studies.asked import trained_for
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
    train,
)
from paper.studies.parameters import POSITIVE, Numbers, Some
from paper.studies.worth import DEPENDENCE, GAIN, verdict

ESCAPED = 0.02
"""Input information from which a gate counts as having left its starting point."""
GRADED = 400
"""Optimiser steps up to which the what-if trains anew: by then gates with a larger rate have left."""
MAPPED = ("sgd", "adam")
"""Optimisers of the map."""
PLAIN = "nothing changed"
"""Name of the gate to which nothing is done."""
TOLD = "told the cue"
"""Name of the gate that says what there is to gain."""
TOLD_FROM_WORDS = "told and from words"
"""Name of the same gate on prompts that start from words."""
REFERENCES = ("fixed", "blind", "routed")
"""What a gated learner is compared with: the same without a gate, with a gate that sees another picture, and prompts
for each rule with the rule's own pictures.
"""
ROUTED = training.Recipe(steps=600, rate=0.01, optimiser="adam", warmup=0.0)
"""The recipe of the routed prompts: from words their loss is flat in half the time."""
STARTS = ("words", "noise")
"""How the routed prompts start."""


TOLD_IDS = {TOLD: ("told", TOLD), TOLD_FROM_WORDS: ("told_from_words", "told the cue and starts from words")}
"""Their names in the ids of claims, and what they are in a sentence."""
DRAWS = 1000
"""How often seeds are drawn again for the law."""
LEVERS = {
    "rate": "the gate's rate",
    "prompts": "longer prompts",
    "temperature": "a colder gate",
    "gain": "a larger feature",
}
"""What takes decades off the gap, or makes up for them, one at a time."""
KINDS = {
    "steps": "larger steps",
    "optimiser": "another optimiser",
    "sight": "what the gate sees, and how sharply",
    "start": "where it starts",
    "order": "what is rewarded, and when",
    "told": "told the cue",
}
"""Families of interventions: their claims are judged, and corrected, together."""


@dataclass(frozen=True)
class Intervention:
    """One thing that is done to a gate: in words, its kind, the gate, what changes in recipe and setting.

    ``start`` is how the prompts start (:class:`lib.prompts.training.Setting`), ``longer`` a factor on them; for the
    first ``later`` steps they learn alone.
    """

    words: str
    kind: str
    gate: str = "length"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    longer: float = 1.0
    later: int = 0

    @property
    def lever(self) -> str:
        """Which of :data:`LEVERS` it moves and nothing else; "home" where nothing is moved, else empty."""
        setting = dict(self.setting)
        factors = {"rate": setting.pop("gate_rate", 1), "prompts": self.longer}
        factors |= {name: setting.pop(name, 1) for name in ("temperature", "gain")}
        moved = [name for name, factor in factors.items() if factor != 1]
        if setting or self.recipe or self.start or self.later or self.gate != "length" or len(moved) > 1:
            return ""
        return moved[0] if moved else "home"


_ADAM = {"optimiser": "adam"}
INTERVENTIONS: dict[str, Intervention] = {
    "all rates x 10": Intervention("a larger learning rate for everything", "steps", recipe={"rate": 0.035}),
    "Adam": Intervention("an optimiser that ignores the size of a gradient", "optimiser", recipe=_ADAM),
    "Adam for the gate": Intervention(
        "Adam on the gate, SGD on the prompts", "optimiser", recipe={"optimiser": "sgd", "gate_optimiser": "adam"}
    ),
    "Adam for the prompts": Intervention(
        "Adam on the prompts, SGD on the gate", "optimiser", recipe=_ADAM | {"gate_optimiser": "sgd"}
    ),
    "Adam from words": Intervention(
        'Adam, and prompts that start as "a photo of a"', "optimiser", recipe=_ADAM, start="words"
    ),
    "balanced gradients": Intervention(
        "the gate's gradient scaled to the prompts'", "optimiser", setting={"balance": True}
    ),
    "temperature 0.3": Intervention("a cooler gate", "sight", setting={"temperature": 0.3}),
    "temperature 0.1": Intervention("a cold gate", "sight", setting={"temperature": 0.1}),
    "feature x 3": Intervention("what the gate sees, three times as large", "sight", setting={"gain": 3.0}),
    "feature x 10": Intervention("what the gate sees, ten times as large", "sight", setting={"gain": 10.0}),
    "centred x 10": Intervention(
        "what the gate sees, less its mean, ten times as large", "sight", setting={"view": "centred", "gain": 10.0}
    ),
    "whitened feature": Intervention("what the gate sees, with covariance one", "sight", setting={"view": "whitened"}),
    "prompts x 3": Intervention("initial prompts three times as long", "start", longer=3.0),
    "prompts x 10": Intervention("initial prompts ten times as long", "start", longer=10.0),
    "prompts from words": Intervention('prompts that start as "a photo of a"', "start", start="words"),
    "gate starts open": Intervention("bias +2", "start", setting={"bias": 2.0}),
    "gate starts shut": Intervention("bias -2", "start", setting={"bias": -2.0}),
    "tanh from zero": Intervention("a gate that starts where its gradient is largest", "start", "tanh"),
    "diversity loss": Intervention("a reward for gates that differ", "order", setting={"diversity": 1.0}),
    "gate later": Intervention("the first hundred steps for the prompts alone", "order", later=100),
    TOLD: Intervention("an oracle's gate, at 100 times the rate", "told", "oracle", setting={"gate_rate": 100.0}),
    TOLD_FROM_WORDS: Intervention(
        "the same, with prompts that start from words", "told", "oracle", setting={"gate_rate": 100.0}, start="words"
    ),
}


class Escape(PromptStudy):
    """Gates on the conflict task, trained at a constant rate and looked at on the way.

    ``learner`` is gated by length; ``looks`` are the numbers of steps after which its worth is measured, ``steps`` the
    last of them; ``rates`` are multiples of the gate's learning rate, ``interventions`` names of
    :data:`INTERVENTIONS`, ``strengths`` those of the conflict on the map. ``graded_rates`` are multiples of the gate's
    rate that the what-if sets against every strength and the looks up to :data:`GRADED`; none, no what-if.
    Tables: ``looks`` (intervention, strength, seed, step: the worth of the gate over its mean in points,
    gap, input information and the rest of what a closer look gives), ``escapes`` (intervention, seed: the step at
    which the gate's input information first reached :data:`ESCAPED`, or none, and the gap at the start less log10 of
    the gate's rate), ``law`` (the fit of one to the other), ``boundary`` (of the map), ``graded`` and ``graded_fixed``
    (strength, step, seed, and of a gate its rate: :func:`paper.studies.asked.trained_for`).
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
    graded_rates: Annotated[tuple[float, ...], Numbers(POSITIVE.low, POSITIVE.high, empty=True)] = ()

    # At a constant rate a shorter training is the beginning of a longer one.
    SIZES: ClassVar[tuple[str, ...]] = (*PromptStudy.SIZES, "steps")
    PARTS: ClassVar[tuple[str, ...]] = (
        *PromptStudy.PARTS,
        *("looks", "rates", "interventions", "strengths", "references", "graded_rates"),
    )
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        # One test picture of 120.
        "looks": Compared(("intervention", "strength", "step"), {"over_mean": 100 / 120}),
        "escapes": Compared(("intervention", "strength"), {"behind": 1e-3}),
    }

    def check(self) -> None:
        super().check()
        for name, allowed in (("task", roles.graded(self.backbone)), ("learner", ())):
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
                "another learning rate for the gate" if rate != 1 else "the gate as it comes",
                "steps",
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
        cell = self.cell(
            learner, gate, task, strength=strength, recipe=self.recipe(**recipe), setting=self.setting(**setting)
        )
        return cell if gate == "none" else replace(cell, kind="departure", compute=departures)

    def mapped(self) -> list[tuple[str, Intervention, float]]:
        """The map: its name, what is done, and the strength."""
        ways = {f"map {optimiser}": Intervention("", "", recipe={"optimiser": optimiser}) for optimiser in MAPPED}
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
            "data": self.data_of(task),
            "shots": self.shots,
            "test_size": self.test_size,
            "prompt_std": self.prompt_std,
            "seeds": list(range(self.seeds)),
            "starts": list(STARTS),
            "recipe": asdict(ROUTED),
            **self.weights(),
        }
        uses = (*self.uses(), *((RuledPhotographs,) if self.uses() else ()))
        return [Cell("routed", config, route, size=3 * len(STARTS) * self.seeds, uses=uses, site=self.site())]

    def graded_steps(self) -> list[int]:
        """The numbers of steps that the what-if shows: the looks up to :data:`GRADED`, the first in any case."""
        looks = sorted(self.looks)
        return [step for step in looks if step <= GRADED] or looks[:1]

    def graded_cells(self) -> dict[tuple[float, float | None], Cell]:
        """What the what-if shows, by strength and by the multiple of the gate's rate; None: without a gate."""
        (learner,), (task,) = self.learner, self.task
        found = {}
        for rate, strength in itertools.product(
            (*self.graded_rates, None) if self.graded_rates else (), self.strengths
        ):
            gate = "none" if rate is None else "length"
            setting = self.setting() if rate is None else self.setting(gate_rate=rate)
            recipe = self.recipe(looks=(), watch=False)
            cell = self.cell(learner, gate, task, strength=strength, recipe=recipe, setting=setting)
            config = {**cell.config, "lengths": self.graded_steps()}
            found[strength, rate] = replace(cell, kind="graded", config=config, compute=trained_for)
        return found

    def cells(self) -> list[Cell]:
        """Every training once."""
        every = [*self.labelled(), *self.compared("fixed"), *self.compared("blind")]
        return [*dict.fromkeys(cell for _, cell in every), *self.routed(), *self.graded_cells().values()]

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        tables = assembled(found, self.labelled())
        looks = self.weighed(tables, found)
        escapes = self.escapes(found)
        law = fit(escapes, self.steps)
        judged = {"looks": looks, "escapes": escapes, "worth": self.worths(looks), "boundary": boundary(looks)}
        judged |= {"law": law, "levers": levers(escapes, law)}
        judged["routed"] = routes([found[cell]["routed"] for cell in self.routed()])
        graded = {place: found[cell]["ends"] for place, cell in self.graded_cells().items()}
        for name, gated in (("graded", True), ("graded_fixed", False)):
            rows = [
                ends.assign(strength=strength, **({"rate": rate} if gated else {}))
                for (strength, rate), ends in graded.items()
                if (rate is not None) == gated
            ]
            judged[name] = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
        return judged, Findings.of(claims(self.chosen(), judged), holm=True)

    def weighed(self, tables: Tables, found: Mapping[Cell, results.Tables]) -> pd.DataFrame:
        """The closer looks with dependence and gain: over the gate's mean, itself shuffled, a blind gate, no gate.

        A learner without a gate is looked at after the last step alone. A gate is adaptive in a seed that depends on it
        in both ways.
        """
        looks = tables.looks.rename(columns={"label": "intervention"})
        place = ["intervention", "strength", "seed"]
        blind = assembled(found, self.compared("blind")).looks
        fixed = assembled(found, self.compared("fixed")).accuracy
        for name, other, column in (("blind", blind, "accuracy_gated"), ("fixed", fixed, "accuracy")):
            if len(other):
                other = other.rename(columns={"label": "intervention", column: f"accuracy_{name}"})
                other = other.assign(step=self.steps) if name == "fixed" else other
                looks = looks.merge(other[[*place, "step", f"accuracy_{name}"]], on=[*place, "step"], how="left")
            else:
                looks[f"accuracy_{name}"] = np.nan
        for name in ("mean", "shuffled", "blind", "fixed"):
            looks[f"over_{name}"] = looks["accuracy_gated"] - looks[f"accuracy_{name}"]
        least = looks[[*DEPENDENCE]].min(axis=1, skipna=False)
        return looks.assign(adaptive=(least > criteria.ADAPTIVE).astype(float).where(least.notna()))

    def worths(self, looks: pd.DataFrame) -> pd.DataFrame:
        """What every intervention is worth after the last step: adaptive seeds, dependence, gain and verdict, and
        ``lost``, how much less it depends on its gate than at its best look before.
        """
        rows = []
        for name in self.chosen():
            mine = looks[looks["intervention"] == name]
            end = mine[mine["step"] == self.steps]
            means = {column: end[column].mean(skipna=False) for column in (*DEPENDENCE, *GAIN)}
            row = {"intervention": name, "adaptive": end["adaptive"].mean(skipna=False)}
            rows.append(row | means | {"lost": np.mean(lost(mine)), "verdict": verdict(end).name})
        return pd.DataFrame(rows)

    def described(self) -> pd.DataFrame:
        """What each intervention is, in words."""
        rows = [(name, one.words) for name, one in self.chosen().items()]
        return pd.DataFrame(rows, columns=["intervention", "what it is"])

    def escapes(self, found: Mapping[Cell, results.Tables]) -> pd.DataFrame:
        """When each gate left, how far behind its gradient was at the start, and how many decades its lever took off.

        A gate whose input information reaches :data:`ESCAPED` before the first step has not left anything: its lever
        is none.
        """
        chosen = self.chosen()
        parts = []
        for label, cell in self.labelled():
            one = chosen.get(label)
            rate = one.setting.get("gate_rate", 1.0) if one else 1.0
            left = found[cell]["left"]
            named = {"intervention": label, "lever": one.lever if one else "", "strength": cell.config["strength"]}
            # Step 0 is before the first update; on a logarithmic axis it is the first.
            known = left.assign(**named, escape=left["step"].clip(lower=1), behind=left["gap"] - np.log10(rate))
            known.loc[left["step"] == 0, "lever"] = ""
            parts.append(known[[*named, "seed", "escape", "behind"]])
        table = pd.concat(parts, ignore_index=True)
        home = table[table["lever"] == "home"].set_index("seed")["behind"]
        taken = table["seed"].map(home) - table["behind"]
        return table.assign(taken=taken.where(table["lever"] != ""))


# ------------------------------------------------------------------------------------------------- computing
def departures(configs: Sequence[Mapping[str, Any]], site: Mapping[str, Any]) -> list[results.Tables]:
    """Train the cells of one batch as :func:`paper.studies.gating.train` does; of the way there, when each gate left.

    Tables: "accuracy" and "looks" as there, and "left" (:func:`left`).
    """
    trained = train(configs, site)
    return [{**{name: own[name] for name in ("accuracy", "looks")}, "left": left(own)} for own in trained]


def left(tables: results.Tables) -> pd.DataFrame:
    """The step after which each gate has first had the input information :data:`ESCAPED` (nan: not in time), and the
    magnitude gap before the first step: columns seed, step, gap.
    """
    moving, watched = tables["trajectory"], tables["watched"]
    gone = watched[watched["information"] >= ESCAPED].groupby("seed")["step"].min()
    start = moving[moving["step"] == 0].set_index("seed")["gap"]
    return pd.DataFrame({"step": gone.reindex(start.index).astype(float), "gap": start}).reset_index()


def attempt(study: Escape, strength: float, step: int, rate: float) -> pd.DataFrame:
    """A small experiment of one seed, a few seconds: a gated learner and one without a gate, so many steps of each.

    A row as of :func:`paper.studies.asked.trained_for` with the accuracy without a gate beside it.
    """
    checks.number("strength", strength, low=0, high=1)
    checks.number("rate", rate, above=0)
    checks.integer("step", step, low=1)
    (learner,), (task,) = study.learner, study.task
    found = []
    for gate in ("length", "none"):
        setting = study.setting(gate_rate=rate) if gate == "length" else study.setting()
        cell = study.cell(
            learner, gate, task, strength=strength, recipe=study.recipe(steps=step, looks=()), setting=setting
        )
        config = {**cell.config, "seeds": [0], "lengths": [step]}
        found.append(trained_for([config], {**cell.site, "device": "cpu"})[0]["ends"])
    gated, fixed = found
    return gated.assign(strength=strength, rate=rate, accuracy_fixed=fixed["accuracy"])


class Ruled(tasks.Task):
    """The pictures of a conflict task that follow one of its two rules: the second where ``second``."""

    second: bool

    @classmethod
    def of(cls, task: tasks.Task, second: bool) -> Ruled:
        """The pictures of one rule, out of the same ones that the whole task draws."""
        if type(task).__name__ in ELSEWHERE:
            return ELSEWHERE[type(task).__name__].of(task, second)
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


class RuledPhotographs(photographs.ColourTask):
    """The same of a conflict task of photographs."""

    second: bool

    @classmethod
    def of(cls, task: photographs.ColourTask, second: bool) -> RuledPhotographs:
        """The pictures of one rule, out of the same ones that the whole task draws."""
        made = cls(**vars(task))
        object.__setattr__(made, "second", second)
        return made

    def few_shot(self, shots: int, seed: int, test_size: int, image_size: int = photographs.SIZE) -> tasks.FewShot:
        """Those of the whole task that follow this rule."""
        whole = super().few_shot(shots, seed, test_size, image_size)
        kept, tested = (cue == self.second for cue in cast(tuple[Tensor, Tensor], (whole.cue, whole.test_cue)))
        if not (kept.any() and tested.any()):
            raise checks.ParameterError(
                f"shots and test_size must leave pictures for either rule, but {shots} and {test_size} were given."
            )
        own, left = (whole.images, whole.labels), (whole.test_images, whole.test_labels)
        images, labels, test_images, test_labels = (*(x[kept] for x in own), *(x[tested] for x in left))
        return tasks.FewShot(images, labels, None, test_images, test_labels, None)


ELSEWHERE: Registry[Any] = Registry("conflict", {photographs.ColourTask.__name__: RuledPhotographs})
"""One rule of a conflict task of other pictures, by the name of its class."""


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


def _times(name: str) -> str:
    return name.replace(" x ", " × ")


def claims(chosen: Mapping[str, Intervention], tables: results.Tables) -> list[Claim]:
    """What is said of the gates' worth at the last look, and of the law; nothing about what was not measured."""
    looks = tables["looks"]
    last = int(looks["step"].max())
    end = looks[looks["step"] == last]
    own = {name: part for name, part in end.groupby("intervention", sort=False) if name in chosen}
    return [
        *_worth(chosen, looks, own, last),
        *_gains(own),
        *_bounds(own, tables["routed"]),
        *_law(tables["levers"]),
        *_nothing(end[end["strength"] == 0], last),
    ]


def _worth(
    chosen: Mapping[str, Intervention], looks: pd.DataFrame, own: Mapping[str, pd.DataFrame], last: int
) -> list[Claim]:
    """In how many seeds a gate depends on its picture: all or nothing, so that shares of seeds are judged."""
    found = []
    for name, part in own.items():
        seeds, kind = per_seed(part, "adaptive"), chosen[name].kind
        if name == PLAIN:
            text = f"with nothing changed the gate is idle in most seeds after {last} steps"
            found.append(
                Claim(
                    "escape.short", text, [1 - x for x in seeds], ">", criteria.MOST_SEEDS, "escape.plain", exact=True
                )
            )
        elif kind != "told":
            text = f"{_times(name)}: in most seeds the gate is adaptive after {last} steps"
            found.append(Claim(adaptive(name), text, seeds, ">", criteria.MOST_SEEDS, f"escape.{kind}", exact=True))
    rates = [name for name in own if chosen[name].lever == "rate"]
    if rates and looks["step"].nunique() > 1:
        name = max(rates, key=lambda one: chosen[one].setting["gate_rate"])
        text = f"{_times(name)}: the gate loses again what it was worth at its best look"
        fall = lost(looks[looks["intervention"] == name])
        found.append(
            Claim("escape.lost", text, fall, ">", criteria.FALLS, "escape.lost", unit="points", rare=criteria.RARE)
        )
    return found


def lost(looks: pd.DataFrame) -> list[float]:
    """Points of worth over its mean that one intervention has lost since its best look before the last, per seed.

    The best look is that of the mean over seeds; nothing (nan) where there is a single look.
    """
    wide = looks.pivot_table(index="seed", columns="step", values="over_mean", dropna=False)
    if wide.shape[1] < 2:
        return [np.nan] * len(wide)
    before = wide.iloc[:, :-1]
    best = before.mean().fillna(-np.inf).idxmax()
    return (wide[best] - wide.iloc[:, -1]).tolist()


def _gains(own: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """What a gated learner has over the same without a gate and with a blind one, where these were trained."""
    found = []
    for name, words, stem in (
        ("Adam", "trained by Adam", "adam"),
        ("Adam for the gate", "with Adam for the gate alone", "adam_for_the_gate"),
        ("Adam for the prompts", "with Adam for the prompts alone", "adam_for_the_prompts"),
        ("Adam from words", "trained by Adam from words", "adam_from_words"),
    ):
        for column, other in (("over_fixed", "the learner without a gate"), ("over_blind", "a blind gate")):
            if name in own and own[name][column].notna().any():
                what, samples = f"escape.gains.{stem}.{column}", per_seed(own[name], column)
                text = f"{words}, the gated learner is more than a point better than {other}"
                more: dict[str, Any] = {"unit": "points", "rare": criteria.RARE}
                found.append(Claim(what, text, samples, ">", criteria.GAINS, "escape.gains", **more))
    return found


def _bounds(own: Mapping[str, pd.DataFrame], routed: pd.DataFrame) -> list[Claim]:
    """Is there something to gain, and what bounds it?"""
    points: dict[str, Any] = {"family": "escape.bounds", "unit": "points", "rare": criteria.RARE}
    found = []
    told = next((name for name in (TOLD_FROM_WORDS, TOLD) if name in own), "")
    if told and own[told]["over_fixed"].notna().any():
        text = (
            f"there is something to gain: a gate that is {TOLD_IDS[told][1]} is worth ten points and more over no gate"
        )
        found.append(
            Claim("escape.gain", text, per_seed(own[told], "over_fixed"), ">", criteria.SOMETHING_TO_GAIN, **points)
        )
    accuracy = {name: part.set_index("seed")["accuracy_gated"] for name, part in own.items()}

    def bound(what: str, text: str, limit: pd.Series, names: Sequence[str]) -> None:
        # The best of several is too good by chance: that is against the bound, not for it.
        if names:
            ahead = accuracy[max(names, key=lambda name: accuracy[name].mean())] - limit
            found.append(Claim(f"escape.bound.{what}", text, ahead.tolist(), "<", criteria.GAINS, **points))

    if len(routed):
        wide = routed.pivot(index="seed", columns="start", values="routed")
        text = "started from noise, prompts of each rule's own are ten points and more worse than from words"
        apart = (wide["words"] - wide["noise"]).tolist()
        found.append(Claim("escape.start", text, apart, ">", criteria.SOMETHING_TO_GAIN, **points))
        text = "the best gate, told the cue or not, is less than a point ahead of prompts of each rule's own"
        bound("routed", text, wide["words"], list(accuracy))
    for name, (what, words) in TOLD_IDS.items():
        if name in accuracy:
            text = f"the best gate that finds out by itself is less than a point ahead of one that is {words}"
            bound(what, text, accuracy[name], [other for other in accuracy if other not in TOLD_IDS])
    return found


def _law(levers: pd.DataFrame) -> list[Claim]:
    """Does a decade that a lever takes off bring the escape forward, and as much as one of the rate?"""
    found = []

    def add(what: str, text: str, relation: Any, threshold: float, family: str, ends: Sequence[float], of: str) -> None:
        value, low, high = ends
        measured = (value, (low, high))
        found.append(Claim(f"escape.{what}", text, (), relation, threshold, family, name=of, measured=measured))

    slope = "decades of steps per decade"
    for row in levers.to_dict("records"):
        lever, ends = row["lever"], [row["slope"], row["low"], row["high"]]
        if lever == "rate":
            text = "a larger rate of the gate brings the escape forward"
            add("law.later", text, ">", criteria.LATER, "escape.law", ends, slope)
            text = (
                "steps are in inverse proportion to the rate: ten times the rate leaves in a tenth of them, or nearly"
            )
            add("law.proportional", text, ">", criteria.IN_PROPORTION, "escape.pace", ends, slope)
            text = "steps go as the root of the rate: ten times the rate saves half a decade of steps"
            half = [end - 0.5 for end in ends]
            add("law.root", text, "within", criteria.SAME_SLOPE, "escape.pace", half, f"{slope} less 0.5")
            continue
        words, less = LEVERS[lever], [row["less_rate"], row["less_low"], row["less_high"]]
        text = f"a decade of gap taken off by {words} brings the escape forward"
        add(f"law.{lever}", text, ">", criteria.LATER, "escape.law", ends, slope)
        text = f"a decade is a decade: {words} and a larger rate bring the escape forward alike"
        add(f"law.same.{lever}", text, "within", criteria.SAME_SLOPE, "escape.same", less, f"difference of {slope}")
    return found


def _nothing(end: pd.DataFrame, last: int) -> list[Claim]:
    if not len(end):
        return []
    text = f"where there is nothing to gain, held at their mean gates lose less than two points after {last} steps"
    points: dict[str, Any] = {"unit": "points", "rare": criteria.RARE}
    return [
        Claim("escape.nothing", text, per_seed(end, "over_mean"), "<", criteria.ADAPTIVE, "escape.nothing", **points)
    ]


# The law ------------------------------------------------------------------------------------------
def fit(escapes: pd.DataFrame, steps: int) -> pd.DataFrame:
    """log10 of the escape step over the decades that each lever took off: a coefficient for each lever.

    A gate that has not left after ``steps`` counts as one that leaves later (a Tobit model, Tobin 1958), so that slow
    gates are not lost. A lever has a coefficient, the decades of steps that a decade of it saves, if some gate left
    with it. Rows: ``draw`` 0 is the fit, the others are fits to seeds drawn again; columns intercept, one per lever
    (nan: none), scatter (decades), steps, trainings, left. A single row of nan where hardly a gate has left.
    """
    own = escapes[(escapes["lever"] != "") & (escapes["strength"] == 1)].dropna(subset="taken")
    late = own["escape"].isna().to_numpy()
    row = {"draw": 0, "steps": steps, "trainings": len(own), "left": int((~late).sum())}
    moved = [lever for lever in LEVERS if own.loc[~late, "lever"].eq(lever).any()]
    nothing = pd.DataFrame([row | dict.fromkeys(("intercept", *LEVERS, "scatter"), np.nan)])
    if row["left"] < 4 or not moved:
        return nothing
    own = own[own["lever"].isin(["home", *moved])]
    late = own["escape"].isna().to_numpy()
    columns = [-own["taken"].where(own["lever"] == lever, 0.0) for lever in moved]
    x = np.stack([np.ones(len(own)), *columns], axis=1)
    y = np.log10(own["escape"].fillna(steps).to_numpy())
    seeds, place = np.unique(own["seed"], return_inverse=True)
    # How often each seed is drawn, first of all once each.
    drawn = np.random.default_rng(0).multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), DRAWS)
    weights = np.concatenate([np.ones((1, len(seeds))), drawn]) if len(seeds) > 1 else np.ones((1, 1))
    fitted = censored(x, y, late, weights[:, place])
    table = pd.DataFrame(fitted, columns=["intercept", *moved, "scatter"]).reindex(columns=nothing.columns)
    return table.assign(**(row | {"draw": range(len(table))}))


def censored(x: np.ndarray, y: np.ndarray, late: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficients and scatter [D, p + 1] of y [n] over x [n, p] with normal scatter, by maximum likelihood, for D
    weights [D, n]; the ``late`` ones of y are only known to lie beyond.

    By Newton's method in coefficients over scatter and one over scatter, in which the likelihood has a single summit
    (Olsen 1978). A weak pull towards zero keeps coefficients finite that nothing holds.
    """
    rows = np.concatenate([-x, y[:, None]], axis=1)
    at = np.zeros((len(weights), rows.shape[1]))
    at[:, -1] = 1.0
    pull = np.full(rows.shape[1], 1e-3)
    pull[-1] = 0.0

    def height(at: np.ndarray) -> np.ndarray:
        z, sharp = at @ rows.T, np.maximum(at[:, -1:], 1e-300)
        each = np.where(late, norm.logsf(z), np.log(sharp) - 0.5 * z**2)
        return (weights * each).sum(1) - 0.5 * (pull * at**2).sum(1)

    for _ in range(50):
        z, sharp = at @ rows.T, at[:, -1]
        hazard = np.exp(norm.logpdf(z) - norm.logsf(z))
        slope = (weights * np.where(late, -hazard, -z)) @ rows - pull * at
        bend = np.einsum("dn,ni,nj->dij", weights * np.where(late, hazard * (hazard - z), 1.0), rows, rows)
        inside = (weights * ~late).sum(1)
        slope[:, -1] += inside / sharp
        bend[:, -1, -1] += inside / sharp**2
        step = np.linalg.solve(bend + np.diag(pull + 1e-9), slope[..., None])[..., 0]
        now, size = height(at), np.ones(len(at))
        for _ in range(30):
            tried = at + size[:, None] * step
            worse = (tried[:, -1] <= 0) | (height(tried) < now - 1e-12)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        at = np.where(worse[:, None], at, tried)
        if np.abs(size[:, None] * step).max() < 1e-8:
            break
    return np.concatenate([at[:, :-1], np.ones((len(at), 1))], axis=1) / at[:, -1:]


def levers(escapes: pd.DataFrame, law: pd.DataFrame) -> pd.DataFrame:
    """A row per lever of the law: its slope and 95 % interval (seeds drawn again), the same of its difference from the
    rate's, its share of the squared decades that all took off, the most it took off, trainings, how many left, seeds.
    """
    own = escapes[(escapes["lever"] != "") & (escapes["strength"] == 1)]
    rows = []
    for lever in LEVERS:
        mine = own[own["lever"] == lever]
        if not len(mine):
            continue
        share = mine["taken"].pow(2).sum(skipna=False) / own["taken"].pow(2).sum(skipna=False)
        row = {"lever": lever, "share": share, "decades": mine.groupby("intervention")["taken"].mean().max()}
        for name, values in (("", law[lever]), ("less_", law[lever] - law["rate"])):
            low, high = spread(values[1:], own["seed"].nunique())
            row |= {name + ("rate" if name else "slope"): values.iloc[0], f"{name}low": low, f"{name}high": high}
        counts = {"trainings": len(mine), "left": int(mine["escape"].notna().sum()), "seeds": own["seed"].nunique()}
        rows.append(row | counts)
    names = ["lever", "share", "decades", "slope", "low", "high", "less_rate", "less_low", "less_high"]
    return pd.DataFrame(rows, columns=[*names, "trainings", "left", "seeds"])


def spread(drawn: Any, seeds: int) -> np.ndarray:
    """The ends [2, ...] of the 95 % interval of what fits to seeds drawn again [D, ...] give."""
    values = np.asarray(drawn, dtype=float)
    if seeds < 2 or not len(values):
        return np.full((2, *values.shape[1:]), np.nan)
    return np.quantile(values, [tail(seeds, 0.95), 1 - tail(seeds, 0.95)], axis=0)


def routes(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Per start and seed the accuracy of prompts that are chosen by the rule of the picture (``routed``), of one prompt
    trained on all pictures (``together``), of the best single one of the three (``single``), ``gain`` in points over
    that, and by how much the loss still ``fell`` (nats).
    """
    names = ["start", "seed", "routed", "together", "single", "gain", "fell"]
    rows = []
    for table in tables:
        for (start, seed), part in table.groupby(["start", "seed"], sort=False):
            one = part.set_index("rule")
            own = one.loc[["first", "second"]]
            routed = float(np.average(own["own"], weights=own["pictures"]))
            single = one["whole"].max()
            fell = (part["loss_before"] - part["loss_end"]).max()
            rows.append((start, seed, routed, one.loc["both", "whole"], single, routed - single, fell))
    return pd.DataFrame(rows, columns=names)


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
