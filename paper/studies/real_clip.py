"""On a real CLIP: what a gate gains on photographs, measured by whoever has data sets, weights and a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

import pandas as pd

from lib import checks, results
from lib.prompts import backbone as backbones
from lib.prompts import data
from lib.prompts import recipes as published
from lib.prompts.gates import BLIND
from lib.results import Cell, plain
from lib.verdicts import Claim, Findings, bootstrap
from paper.criteria import prompts as criteria
from paper.evidence import Evidence
from paper.studies import base, worth
from paper.studies.base import Result
from paper.studies.cost import Costs
from paper.studies.gating import (
    BackboneName,
    Count,
    GateNames,
    GateStudy,
    LearnerNames,
    Seeds,
    TaskNames,
    WeightsName,
    accuracies,
)
from paper.studies.parameters import Numbers, OneOf, Place, Some, Whole

KIND = "real_clip"
#: The folder of the data sets where there is none: the page then shows what others have measured.
NOWHERE = "none"
UNTRAINED = "zero_shot"
NAMES = {"eurosat": "EuroSAT", "dtd": "DTD", "flowers102": "Flowers102", "ucf101": "UCF101"}
#: Conditions that are not a number of pictures: learned on base classes and tested on new ones too; the hand-written
#: sentence, which learns from none; and what stands before the number of a further copy of data or weights.
NEW, FEW, COPY = "base to new", "few shot", " (copy "

#: By which published recipe a learner is trained under each protocol. BiMaPLe has none of its own.
RECIPES = {
    "few_shot": {"coop": "coop", "cocoop": "cocoop", "maple": "maple_50", "bimaple": "maple_50", "pool": "l2p"},
    "base_to_new": {"coop": "coop", "cocoop": "cocoop", "maple": "maple_5", "bimaple": "maple_5", "pool": "l2p"},
}
_KEYS = [*worth.KEYS, "seed", "variant"]
#: Columns of the table ``gains``.
GAINS = [
    *worth.KEYS,
    "seeds",
    *(f"{column}{end}" for column in worth.GAIN for end in ("", "_low", "_high")),
    *worth.DEPENDENCE,
    *("zero_shot", "fixed", "blind", "gated", "new", "harmonic", "harmonic_over_blind", "verdict"),
]


class RealClip(GateStudy):
    """Gated learners, their blind twins and the learners without a gate on a CLIP that was trained on photographs.

    Under few_shot with every number of pictures per class in ``few_shots``, under base_to_new with ``shots``; on all
    test pictures that there are, or on ``test_size`` of them. Each learner by its published recipe, CoCoOp with two
    pictures a step in place of one, because a blind gate needs another picture to look at; with ``recipes`` own by the
    study's ``steps``, ``batch``, ``rate`` and ``optimiser``. Every context has the same number of ``tokens``.

    Nothing is measured without ``root``, the folder of the data sets. What is shown is the evidence that there is of
    these parameters, whoever has computed it and of whichever copies of data and weights; copies are never paired with
    each other.

    Tables: ``accuracy`` (learner, gate, task, recipe, seed, variant, accuracy, and under base to new the accuracy on
    new classes and the harmonic mean), ``points`` (learner, gate, task, recipe, seed: dependence and gain in points),
    ``beyond`` (the same of the harmonic mean), ``gains`` (per learner, gate, task, recipe: means, intervals, verdict),
    ``zero_shot``. Their ``recipe`` is the condition: "1 shot", "4 shots", and so on, or "base to new".
    """

    task: TaskNames = tuple(NAMES)
    learner: LearnerNames = ("coop", "cocoop", "maple", "bimaple", "pool")
    gate: GateNames = ("length", "depth", "soft")
    seeds: Seeds = 10
    protocols: Annotated[tuple[str, ...], Some(data.PROTOCOLS, everything="all", ordered=True)] = data.PROTOCOLS
    few_shots: Annotated[tuple[int, ...], Numbers(1, 100_000, whole=True, ordered=True)] = (1, 4, 16)
    shots: Count = 16
    recipes: Annotated[str, OneOf(("published", "own"))] = "published"
    test_size: Annotated[int, Whole(2, 100_000)] = 100_000
    backbone: BackboneName = "ViT-B-16-quickgelu"
    pretrained: WeightsName = "openai"
    root: Annotated[str, Place("the path of a folder, or none", also=(NOWHERE,))] = NOWHERE

    def check(self) -> None:
        """Refuses what cannot be trained, before anything is loaded: what only the pictures can say where they are."""
        if made_up := [name for name in self.task if name not in data.NAMES]:
            raise checks.ParameterError(
                f"task must be data sets of real pictures ({', '.join(data.NAMES)}), but {made_up[0]!r} was given."
            )
        if unknown := [name for name in self.learner if name not in RECIPES["few_shot"]]:
            known = ", ".join(RECIPES["few_shot"])
            raise checks.ParameterError(f"learner must be among {known}, but {unknown[0]!r} was given.")
        self.pairs(), self.recipe(), self.setting()
        backbones.check(self.backbone, self.pretrained)
        if self.root != NOWHERE:
            super().check()
            for protocol, shots in self.conditions():
                for name in self.task:
                    self.find(name, protocol=protocol)[0].enough(shots)

    # What is measured ------------------------------------------------------------------------------------
    def conditions(self) -> list[tuple[str, int]]:
        """Every protocol with its numbers of pictures per class."""
        numbers = {"few_shot": self.few_shots, "base_to_new": (self.shots,)}
        return [(protocol, shots) for protocol in self.protocols for shots in numbers[protocol]]

    def kinds(self) -> list[tuple[str, str]]:
        """Every learner with its gates, their blind twins, and none."""
        found = [(name, other) for name, kind in self.pairs() for other in (kind, BLIND.get(kind, "none"), "none")]
        return list(dict.fromkeys(found))

    def cells(self) -> list[Cell]:
        """A training for each data set, condition, learner and gate, and the hand-written sentence on each test set."""
        if self.root == NOWHERE:
            raise checks.ParameterError(
                f"root must be the folder of the data sets {', '.join(self.task)}, but {NOWHERE!r} was given."
            )
        found = []
        for protocol, shots in self.conditions():
            for task in self.task:
                found.append(self.measured(UNTRAINED, "none", task, protocol, 1))
                found += [self.measured(learner, gate, task, protocol, shots) for learner, gate in self.kinds()]
        return list(dict.fromkeys(found))

    def measured(self, learner: str, gate: str, task: str, protocol: str, shots: int) -> Cell:
        """One training, of which the accuracies alone are kept."""
        recipe = self.recipe()
        if self.recipes == "published" and learner != UNTRAINED:
            classes = len(self.find(task, protocol=protocol)[0].names)
            recipe = published.build(RECIPES[protocol][learner], classes, shots)
            recipe = replace(recipe, batch=max(recipe.batch, 2))
        cell = self.cell(learner, gate, task, recipe=recipe, shots=shots, protocol=protocol)
        return replace(cell, kind=KIND, config={**cell.config, "recipes": self.recipes}, compute=accuracies)

    def costs(self) -> Costs:
        """What its cells take."""
        return Costs(self)

    def run(self) -> Result:
        """Compute, or fetch what is stored, and judge; where there are no pictures, nothing."""
        if self.root == NOWHERE:
            return self.judged({})
        store = self.store()
        self.costs().refuse([cell for cell in self.cells() if store.get(cell) is None])
        return super().run()

    # The evidence ----------------------------------------------------------------------------------------
    def covering(self) -> RealClip:
        """Itself: the evidence is what there is of these parameters."""
        return self

    def asks(self, config: Mapping[str, Any]) -> bool:
        """Is a cell with this configuration one of the study's, whatever copies of data and weights it is of?"""
        here = (config["data"]["protocol"], config["shots"])
        return (
            config["task"] in self.task
            and (config["learner"], config["gate"]) in [*self.kinds(), (UNTRAINED, "none")]
            and (config["learner"] == UNTRAINED or here in self.conditions())
            and here[0] in self.protocols
            and config["tokens"] == self.tokens
            and config["backbone"] == self.backbone
            and (config["weights"] == "random") == (self.pretrained == "random")
            and config["setting"]["prompt_std"] == self.prompt_std
            and config["setting"]["gate_rate"] == (1.0 if config["gate"] == "none" else self.gate_rate)
            and config["recipes"] == self.recipes
            and (self.recipes == "published" or config["recipe"] == plain(asdict(self.recipe())))
        )

    def shelf(self) -> str:
        """One file for whatever pictures and weights a reader has."""
        return self.notebook()

    def from_evidence(self) -> tuple[Result | None, dict[str, int]]:
        """What the evidence holds of these parameters, None where it is nothing; pictures are not needed for it."""
        evidence = Evidence(base.EVIDENCE)
        home = evidence.files.get(self.notebook())
        entries = home.record["cells"].values() if home else ()
        cells = [
            Cell(KIND, entry["config"], accuracies, uses=self.uses(entry["config"]["gate"]))
            for entry in entries
            if entry["kind"] == KIND and self.asks(entry["config"])
        ]
        planned = len(self.task) * (len(self.protocols) + len(self.conditions()) * len(self.kinds()))
        states = {"current": 0, "stale": 0, "missing": max(0, planned - len(cells))}
        found = {}
        for cell in cells:
            stored = evidence.get(cell)
            if stored is not None:
                states[evidence.state(cell)] += 1
                found[cell] = stored
        if not found:
            return None, states
        result = self.judged({cell: one.tables for cell, one in found.items()})
        return replace(result, seconds=sum(one.provenance["seconds"] for one in found.values())), states

    # What it says ----------------------------------------------------------------------------------------
    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        # The record of the evidence has an order of its own.
        order = {name: place for place, name in enumerate((*self.task, *(UNTRAINED, *self.learner), *self.gate))}
        named = sorted(
            found,
            key=lambda cell: (
                order.get(cell.config["task"]),
                cell.config["data"]["protocol"] == "base_to_new",
                cell.config["shots"],
                order.get(cell.config["learner"]),
                order.get(cell.config["gate"], len(order)),
                -len(cell.config["seeds"]),
            ),
        )
        rows = _rows({cell: found[cell] for cell in named})
        untrained = rows["learner"] == UNTRAINED
        zero = rows[untrained][["task", "recipe", "seed", "accuracy"]].reset_index(drop=True)
        accuracy = worth.beside(rows[~untrained])
        points = _differences(accuracy)
        new = accuracy[accuracy["harmonic"].notna()]
        beyond = _differences(new.assign(accuracy=new["harmonic"]))
        tables = {
            "accuracy": accuracy,
            "points": points,
            "beyond": beyond,
            "gains": _gains(accuracy, points, beyond, zero),
            "zero_shot": zero,
        }
        return tables, Findings.of(_claims(self.task, points, beyond), holm=True)


def _rows(found: Mapping[Cell, results.Tables]) -> pd.DataFrame:
    """All accuracies, named. Conditions of further copies of data and weights are numbered through, and of a seed that
    was trained twice one training counts.
    """
    parts: list[pd.DataFrame] = []
    copies: dict[tuple[str, str], list[tuple]] = {}
    for cell, tables in found.items():
        config = cell.config
        protocol, shots = config["data"]["protocol"], config["shots"]
        copy = (config["weights"], *config["data"]["identities"], config["test_size"])
        known = copies.setdefault((config["task"], protocol), [])
        known.extend([] if copy in known else [copy])
        condition = NEW if protocol == "base_to_new" else f"{shots} shot{'s' if shots > 1 else ''}"
        if config["learner"] == UNTRAINED and condition != NEW:
            condition = FEW
        more = known.index(copy) + 1
        named = {name: config[name] for name in ("learner", "gate", "task")}
        named["recipe"] = condition if more == 1 else f"{condition}{COPY}{more})"
        parts.append(tables["accuracy"].assign(**named))
    columns = [*_KEYS, "accuracy", "new", "harmonic"]
    if not parts:
        return pd.DataFrame({name: pd.Series(dtype="float" if name in columns[-3:] else "object") for name in columns})
    return pd.concat(parts, ignore_index=True).reindex(columns=columns).drop_duplicates(_KEYS)


def _sentence(condition: str) -> str:
    """The condition under which the hand-written sentence was tested on the same pictures."""
    name, mark, copy = condition.partition(COPY)
    return f"{NEW if name == NEW else FEW}{mark}{copy}"


def _differences(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Dependence and gain per seed, as :func:`worth.differences`, where anything was trained."""
    columns = [*worth.KEYS, "seed", *worth.DEPENDENCE, *worth.GAIN]
    if not (accuracy["variant"] == "gated").any():
        return pd.DataFrame(columns=columns)
    return worth.differences(accuracy).reindex(columns=columns)


def _gains(accuracy: pd.DataFrame, points: pd.DataFrame, beyond: pd.DataFrame, zero: pd.DataFrame) -> pd.DataFrame:
    """A row per learner, gate, task and condition: gains with intervals, dependence, accuracies (%), verdict."""
    rows = []
    further = dict(list(beyond.groupby(worth.KEYS, sort=False)))
    for key, part in points.groupby(worth.KEYS, sort=False):
        row: dict[str, Any] = dict(zip(worth.KEYS, key, strict=True)) | {"seeds": part["seed"].nunique()}
        for column in worth.GAIN:
            row[column] = part[column].mean()
            row[f"{column}_low"], row[f"{column}_high"] = bootstrap(part[column])
        row |= {column: part[column].mean() for column in worth.DEPENDENCE}
        sentence = zero[(zero["task"] == row["task"]) & (zero["recipe"] == _sentence(row["recipe"]))]
        row["zero_shot"] = sentence["accuracy"].mean()
        mine = accuracy[
            (accuracy[["learner", "task", "recipe"]] == [row[k] for k in ("learner", "task", "recipe")]).all(axis=1)
        ]
        own = mine[mine["gate"] == row["gate"]].groupby("variant")
        row |= {name: own["accuracy"].mean().get(name) for name in ("gated", "blind")}
        row["fixed"] = mine.loc[mine["variant"] == "fixed", "accuracy"].mean()
        row |= {name: own[name].mean().get("gated") for name in ("new", "harmonic")}
        other = further.get(key)
        row["harmonic_over_blind"] = float("nan") if other is None else other["over_blind"].mean()
        rows.append(row | {"verdict": worth.verdict(part).name})
    words = [*worth.KEYS, "verdict"]
    return pd.DataFrame(rows, columns=GAINS).astype({name: "float" for name in GAINS if name not in words})


def _per_seed(points: pd.DataFrame, column: str) -> list[float]:
    """Means over learners, gates and conditions of every seed that has them all."""
    wide = points.dropna(subset=[column]).pivot_table(index="seed", columns=worth.KEYS, values=column)
    return wide.dropna().mean(axis=1).tolist()


def _claims(names: Sequence[str], points: pd.DataFrame, beyond: pd.DataFrame) -> list[Claim]:
    """No gain, data set by data set, and none on new classes; open where nobody has measured it."""
    over = {"over_blind": "a blind gate of as many parameters", "over_fixed": "the learner without a gate"}
    parts = {
        name: (f"on {NAMES.get(name, name)}, with few pictures per class,", "accuracy", few)
        for name in names
        for few in [points[(points["task"] == name) & ~points["recipe"].str.startswith(NEW)]]
    }
    parts["new"] = ("from base classes to new ones", "the harmonic mean of base and new accuracy", beyond)
    return [
        Claim(
            f"real_clip.{what}.{column}",
            f"{lead} gates on a real CLIP gain nothing over {words}: the difference in {measure} is less than a point",
            _per_seed(part, column),
            "within",
            criteria.NO_GAIN,
            "real_clip",
            unit="points",
            rare=criteria.RARE,
        )
        for what, (lead, measure, part) in parts.items()
        for column, words in over.items()
    ]
