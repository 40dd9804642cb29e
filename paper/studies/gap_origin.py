"""Where does the gap come from? One factor at a time is changed, and the gap must move by what the chain says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import results
from lib.prompts import training
from lib.prompts.diagnosis import FACTORS, upstream
from lib.prompts.gates import Depth, Gate, Length, Soft
from lib.prompts.learners import Learner
from lib.replicas import Tree
from lib.results import Cell
from lib.runtime import stream
from lib.verdicts import Claim, Findings
from paper.criteria import prompts as criteria
from paper.studies.base import Compared
from paper.studies.gating import GateNames, GateStudy, LearnerNames, Seeds, TaskNames, design, loaded, task_of
from paper.studies.parameters import Whole
from paper.words.spelling import spelt

#: What is changed, to which values; the one in the middle of each list is where everything starts.
INTERVENTIONS: dict[str, tuple[float, ...]] = {
    "prompt_std": (0.002, 0.006, 0.02, 0.06, 0.2),
    "bias": (-4, -2, 0, 2, 4),
    "temperature": (0.1, 0.3, 1, 3, 10),
    "gain": (0.1, 0.3, 1, 3, 10),
    "aligned": (0, 0.25, 0.5, 0.75, 1),
}
HOME = 0.02
"""The standard deviation of prompts that stands for the study's own: "prompt_std" is a multiple of it."""

#: The factors that an intervention is meant to change, and what it does in words.
MEANT: dict[str, tuple[str, ...]] = {
    "prompt_std": ("prompt_norm",),
    "bias": ("opening", "slope"),
    "temperature": ("opening", "slope", "network"),
    "gain": ("opening", "slope", "network"),
    "aligned": ("prompt_norm", "alignment"),
}
WORDS: dict[str, str] = {
    "prompt_std": "making prompts longer or shorter",
    "bias": "opening or shutting the gate",
    "temperature": "heating or cooling the gate",
    "gain": "scaling what the gate sees",
    "aligned": "turning prompts towards their gradient",
}


class GapOrigin(GateStudy):
    """The gap before training under interventions on single factors, predicted and measured.

    ``pictures`` are taken for every gradient. The prediction uses the gradients of the untouched learner and the
    changed prompts and gate, never the gradients of the changed learner: it says what would happen if nothing but the
    factors that are meant (:data:`MEANT`) answered. "aligned" a turns the prompts towards their
    upstream gradient: ``(1 - a) p + a |p| delta/|delta|``. Table ``shifts``: a row per backbone (trained, random),
    learner, gate, task, intervention, value, seed with the gap, the gap before, the predicted gap, the shift of the
    factors that were meant (``direct``) and all factors, in decades. Table ``angles``: for text prompts alone and every
    length of the prompts, the absolute cosine of the upstream gradient to the prompt and to the token that the tower
    sees, the sine between these two, and how long the prompt is in lengths of the token, mean over pictures and tokens;
    in the first ``layer``, where the token is the gated prompt plus its position, and in deeper ones, where it is the
    prompt alone; ``chance`` is the cosine of random directions. Table ``across``: the gap of gates that scale text
    prompts, turn them, and mix those of a pool (:data:`ACROSS`), at every length of the prompts.
    """

    task: TaskNames = ("fine",)
    learner: LearnerNames = ("coop", "maple")
    gate: GateNames = ("length", "depth")
    seeds: Seeds = 2
    pictures: Annotated[int, Whole(2, 10_000)] = 8

    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "shifts": Compared(
            ("weights", "learner", "gate", "task", "intervention", "value"), {"gap": 1e-3, "predicted": 1e-3}
        ),
        "angles": Compared(
            ("weights", "learner", "gate", "task", "layer", "value"), {"to_prompt": 1e-4, "to_token": 1e-4}
        ),
        "across": Compared(("gate", "task", "value"), {"gap": 1e-3}),
    }

    def check(self) -> None:
        super().check()
        self.step_fits("pictures")

    def labelled(self) -> list[tuple[str, Cell]]:
        """Every learner, gate and task, and the first learner and gate with random weights: the null needs no more."""
        pairs = self.pairs()
        return [
            (weights, self.origin(learner, gate, task, pretrained))
            for weights, pretrained, some in (("trained", None, pairs), ("random", "random", pairs[:1]))
            for learner, gate in some
            for task in self.task
        ]

    def _shared(self, task: str) -> dict[str, Any]:
        """What the configurations of all cells on a task hold."""
        return {
            "tokens": self.tokens,
            "task": task,
            "strength": self.graded(task),
            "data": self.data_of(task),
            "pictures": self.pictures,
            "prompt_std": self.prompt_std,
            "seeds": list(range(self.seeds)),
        }

    def ways(self, task: str) -> Cell:
        """Gates that scale, turn and mix, on one task: all lengths and seeds."""
        used = {learner: design(learner) for learner, _, _ in ACROSS.values()}
        config = {"designs": used, "lengths": list(INTERVENTIONS["prompt_std"]), **self._shared(task), **self.weights()}
        return Cell("gap_across", config, across, uses=(TurnLength, TurnDepth, Soft, *self.uses()), site=self.site())

    def origin(self, learner: str, gate: str, task: str, pretrained: str | None) -> Cell:
        """One learner on one task: all interventions, values and seeds as one batch."""
        config = {
            "learner": learner,
            "design": design(learner),
            "gate": gate,
            **self._shared(task),
            # A list, because rows stand in its order and a mapping has none as JSON.
            "interventions": [[name, list(values)] for name, values in INTERVENTIONS.items()],
            **self.weights(pretrained),
        }
        return Cell("gap_origin", config, intervene, uses=self.uses(gate), site=self.site(pretrained))

    def cells(self) -> list[Cell]:
        """One for each learner, gate, task and backbone, and one for the ways to act on each task."""
        return [*(cell for _, cell in self.labelled()), *map(self.ways, self.task)]

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        parts: dict[str, list[pd.DataFrame]] = {"shifts": [], "angles": []}
        for weights, cell in self.labelled():
            named = {"weights": weights} | {name: cell.config[name] for name in ("learner", "gate", "task")}
            for name, own in found[cell].items():
                parts[name].append(pd.concat([pd.DataFrame(named, index=own.index), own], axis=1))
        tables = {name: pd.concat(own, ignore_index=True) if own else pd.DataFrame() for name, own in parts.items()}
        ways = [found[self.ways(task)]["across"].assign(task=task) for task in self.task]
        tables["across"] = pd.concat(ways, ignore_index=True)
        if len(tables["angles"]):
            tables["angles"]["chance"] = self.chance()
        claims = [*_perpendicular(tables["angles"]), *_across(tables["across"]), *_shifted(tables["shifts"])]
        return tables, Findings.of(claims, holm=True)

    def chance(self) -> float:
        """Mean absolute cosine of random directions in the text tower: sqrt(2 / (pi d))."""
        width = self.config().get("text_cfg", {}).get("width", math.nan)
        return math.sqrt(2 / (math.pi * width))


# ------------------------------------------------------------------------------------------------- computing
def intervene(config: Mapping[str, Any], site: Mapping[str, Any]) -> results.Tables:
    """The gap of one learner on one task under all interventions: a row per intervention, value and seed.

    Tables: "shifts" (the gap, before, predicted, the factors) and, for text prompts of any length, "angles".
    """
    chosen, _ = task_of(config, site)
    backbone, seeds = loaded(config, site), config["seeds"]
    learner = Learner(
        config["learner"],
        backbone,
        chosen.names,
        template=chosen.template,
        gate=config["gate"],
        tokens=config["tokens"],
    )
    done = [(name, value) for name, values in config["interventions"] for value in values]
    shots = -(-config["pictures"] // len(chosen.names))
    settings = [_setting(config["prompt_std"], name, value) for name, value in done]
    runs = [training.Replica(chosen, seed, setting, shots) for setting in settings for seed in seeds]
    data = training.prepare(learner, runs, 2)
    drawn = [torch.randperm(data.sizes[0], generator=stream(s, "batches"))[: config["pictures"]] for s in seeds]
    index = torch.stack(drawn * len(done)).to(backbone.device)
    params = training.initial(learner, data)
    # Where everything starts, repeated for every intervention.
    start = done.index(("prompt_std", HOME)) * len(seeds)
    origin = torch.arange(start, start + len(seeds), device=backbone.device).repeat(len(done))
    base = {name: value[origin] for name, value in params.items()}
    inputs: dict[str, Any] = data.inputs(index)
    home = {name: value[origin] for name, value in data.constants.items()}
    pull = training.per_replica(upstream, learner, base, inputs | {"constants": home})
    shares = torch.tensor([value if name == "aligned" else 0.0 for name, value in done]).repeat_interleave(len(seeds))
    params = _turned(params, pull, shares.to(backbone.device))
    after = training.chains(learner, data, params, index)
    features = inputs["features"]
    predicted = gate_alone(learner, params, features, data.constants) - gate_alone(learner, base, features, home)
    predicted += meeting(learner, params, pull) - meeting(learner, base, pull)
    rows = pd.DataFrame(
        [{"intervention": name, "value": float(value), "seed": seed} for name, value in done for seed in seeds]
    ).assign(**{name: after[name].tolist() for name in ("gap", *FACTORS)})
    before = rows.iloc[origin.cpu().numpy()].reset_index(drop=True)
    rows["before"] = before["gap"]
    rows["predicted"] = before["gap"] + predicted.cpu().numpy()
    # What of the shift is in the factors that were meant; the others answer to the change.
    moved = rows[list(FACTORS)] - before[list(FACTORS)]
    rows["direct"] = [moved.loc[place, list(MEANT[name])].sum() for place, name in enumerate(rows["intervention"])]
    angles = _angles(learner, params, inputs, rows)
    return {"shifts": rows} | ({"angles": angles} if len(angles) else {})


def _setting(prompt_std: float, name: str, value: float) -> training.Setting:
    """An intervention on the initial learner; "aligned" turns prompts afterwards and needs none."""
    # Contexts start from noise, whose length can be chosen.
    own: dict[str, Any] = {"prompt_std": prompt_std, "start": "noise"}
    if name != "aligned":
        # prompt_std is a multiple of the study's own, so that the middle is where everything starts.
        own[name] = value * prompt_std / HOME if name == "prompt_std" else value
    return training.Setting(**own)


def _angles(learner: Learner, params: Tree, inputs: Mapping[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    """Absolute cosine of the upstream gradient to prompt and token, for every length of text prompts; no rows for
    learners with other prompts.

    What a scaling gate moves along is the prompt; ``sine`` is that of the angle between prompt and token: the part of
    the prompt that a gradient perpendicular to the token can meet at all. In the first layer the token is the prompt
    plus its position; in deeper ones it is the prompt alone, and there is nothing of it left to meet.
    """
    design = learner.design
    mine = rows[rows["intervention"] == "prompt_std"]
    if design.sees or design.conditional or design.pool:
        return mine.iloc[:0]
    chosen = torch.tensor(mine.index.to_list(), device=learner.backbone.device)

    def picked(tree: Mapping[str, Any]) -> dict[str, Any]:
        return {name: picked(value) if isinstance(value, dict) else value[chosen] for name, value in tree.items()}

    some, given = picked(params), picked(inputs)
    delta = training.per_replica(upstream, learner, some, given)["prompt.tokens"]
    values = torch.func.vmap(learner.gate_values)(some, given["features"], given["constants"])
    prompt = torch.func.vmap(cast(Gate, learner.gate).apply)(values, some["prompt.tokens"])
    token = prompt.clone()
    token[:, :, 0] += cast(Tensor, learner.backbone.model.positional_embedding)[1 : 1 + learner.tokens]

    def cosine(one: Tensor, other: Tensor) -> Tensor:
        return torch.cosine_similarity(one.double(), other.double(), dim=-1, eps=1e-30)

    numbers = {
        "to_prompt": cosine(delta, prompt).abs(),
        "to_token": cosine(delta, token).abs(),
        "sine": (1 - cosine(prompt, token).square()).clamp_min(0).sqrt(),
        "share": (prompt.norm(dim=-1) / token.norm(dim=-1)).double(),
    }
    parts = []
    for name, layers in (("first", slice(0, 1)), ("deeper", slice(1, None))):
        if delta.shape[2] > 1 or name == "first":
            means = {column: value[:, :, layers].mean((1, 2, 3)).tolist() for column, value in numbers.items()}
            part = mine[["intervention", "value", "seed"]].reset_index(drop=True)
            parts.append(part.assign(layer=name, **means))
    return pd.concat(parts, ignore_index=True)


class Turning(Gate):
    """Turns a prompt instead of scaling it: p' = (1 - g) p + g R p; with a gate that says what its units stand for.

    R moves every entry of a token to the next place. R p is as long as p, and for random prompts perpendicular to it:
    the gate moves across the prompt and keeps its gradient where scaling loses it.
    """

    def apply(self, values: Tensor, prompts: Tensor) -> Tensor:
        return prompts + self.spread(values) * self._way(prompts)

    def pull(self, values: Tensor, delta: Tensor) -> Tensor:
        return delta + self.spread(values) * (delta.roll(-1, -1) - delta)

    def product(self, delta: Tensor, prompts: Tensor) -> Tensor:
        return super().product(delta, self._way(prompts))

    def length(self, prompts: Tensor) -> Tensor:
        return super().length(self._way(prompts))

    def _way(self, prompts: Tensor) -> Tensor:
        """The direction in which it moves."""
        return prompts.roll(1, -1) - prompts


class TurnLength(Turning, Length):
    """Turns every token."""


class TurnDepth(Turning, Depth):
    """Turns the tokens of every layer."""


#: Ways to act on text prompts, along them, across them and among several: learner, gate, and what takes its place.
ACROSS: dict[str, tuple[str, str, type[Gate] | None]] = {
    "length": ("coop", "length", None),
    "turn length": ("coop", "length", TurnLength),
    "depth": ("coop", "depth", None),
    "turn depth": ("coop", "depth", TurnDepth),
    "soft": ("pool", "soft", None),
}


def across(config: Mapping[str, Any], site: Mapping[str, Any]) -> results.Tables:
    """The gap of gates that scale, turn or mix text prompts, at every length: a row per gate, length and seed.

    Table "across": the gap before training and its factors on one task; ``gate`` is one of :data:`ACROSS`.
    """
    chosen, _ = task_of(config, site)
    backbone, seeds = loaded(config, site), config["seeds"]
    shots = -(-config["pictures"] // len(chosen.names))
    settings = [_setting(config["prompt_std"], "prompt_std", value) for value in config["lengths"]]
    runs = [training.Replica(chosen, seed, setting, shots) for setting in settings for seed in seeds]
    parts = []
    for gate, (name, built, instead) in ACROSS.items():
        learner = Learner(name, backbone, chosen.names, template=chosen.template, gate=built, tokens=config["tokens"])
        if instead is not None:
            learner.gate = instead(gate, learner.layers, learner.tokens, backbone.embed_dim)
        data = training.prepare(learner, runs, 2)
        drawn = [torch.randperm(data.sizes[0], generator=stream(s, "batches"))[: config["pictures"]] for s in seeds]
        index = torch.stack(drawn * len(settings)).to(backbone.device)
        found = training.chains(learner, data, training.initial(learner, data), index)
        rows = [{"gate": gate, "value": float(value), "seed": s} for value in config["lengths"] for s in seeds]
        parts.append(pd.DataFrame(rows).assign(**{name: found[name].tolist() for name in ("gap", *FACTORS)}))
    return {"across": pd.concat(parts, ignore_index=True)}


def _turned(params: Tree, pull: Tree, share: Tensor) -> Tree:
    """Prompts [R, ...] turned towards their upstream gradient by ``share`` [R], as long as before token by token."""
    turned = dict(params)
    for name, delta in pull.items():
        prompts, mean = params[name], delta.mean(1)
        unit = mean / mean.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        part = share.reshape(-1, *(1,) * (prompts.ndim - 1))
        turned[name] = torch.where(
            part > 0, (1 - part) * prompts + part * prompts.norm(dim=-1, keepdim=True) * unit, prompts
        )
    return turned


def meeting(learner: Learner, params: Tree, pull: Tree) -> Tensor:
    """How much of the upstream gradient reaches the gate's outputs [R], in decades lost: -log10 |<delta, p>|."""
    gate = cast(Gate, learner.gate)

    def one(prompts: Tree, pull: Tree) -> Tensor:
        met = [gate.product(delta, prompts[name]) for name, delta in pull.items()]
        return torch.stack(met).sum(0).norm()

    return -torch.func.vmap(one)(learner.prompts(params), pull).double().log10()


def gate_alone(learner: Learner, params: Tree, features: Tensor, constants: Tree) -> Tensor:
    """What the gate network by itself adds to the gap [R], in decades: log10 of opening over slope and Jacobian.

    Root mean squares over pictures and units, with no gradient of any loss: the chain weights them by its
    gradients, which are not to be used here.
    """

    gate = cast(Gate, learner.gate)

    def one(params: Tree, features: Tensor, constants: Tree) -> Tensor:
        seen = learner.shown(features, constants)
        z = learner.judged(params, seen, constants)
        values, slope = torch.func.vjp(gate.activate, z)  # type: ignore[misc]
        own = {name: value for name, value in params.items() if name.startswith("gate.")}

        def loudness(feature: Tensor) -> Tensor:
            jacobian = torch.func.jacrev(lambda p: learner.judged(p, feature, constants))(own)
            return torch.stack([part.flatten(1).square().sum(1) for part in jacobian.values()]).sum(0)

        (slopes,) = slope(torch.ones_like(values))
        reach = (slopes.square() * torch.func.vmap(loudness)(seen)).mean()
        return 0.5 * (values.square().mean().log10() - reach.log10())

    return torch.func.vmap(one)(params, features, constants).double()


# -------------------------------------------------------------------------------------------------- judging
def _claim(what: str, text: str, samples: pd.Series, relation: Any, threshold: float, **more: Any) -> Claim:
    """A claim about a number per seed."""
    return Claim(f"gap_origin.{what}", text, samples.tolist(), relation, threshold, "gap_origin", **more)


def _close(what: str, text: str, part: pd.DataFrame, column: str) -> Claim:
    errors = part.groupby("seed")[column].mean(skipna=False)
    return _claim(what, text, errors, "<", criteria.CLOSE, unit="decades", name="mean error")


def _shifted(shifts: pd.DataFrame) -> list[Claim]:
    """Predicted and measured shifts, and what closes the gap."""
    moved = shifts.assign(
        error=(shifts["gap"] - shifts["predicted"]).abs().where(shifts["before"].notna()),
        missed=(shifts["direct"] - (shifts["predicted"] - shifts["before"])).abs(),
    )
    moved = moved[moved["predicted"] != moved["before"]]
    trained = moved[moved["weights"] == "trained"]
    found = []
    for name, words in WORDS.items():
        part = trained[trained["intervention"] == name]
        text = f"{words} moves the factors that this means by what the chain predicts"
        found.append(_close(f"factors.{name}", text, part, "missed"))
        found.append(_close(f"gap.{name}", f"{words} moves the whole gap by what the chain predicts", part, "error"))
    random = moved[(moved["weights"] == "random") & moved["intervention"].isin(["temperature", "gain"])]
    text = "with random weights too, heating the gate or scaling what it sees moves the whole gap as predicted"
    found.append(_close("random", text, random, "error"))
    for what, text, name in (
        ("longer", "prompts ten times as long take at least half a decade off the gap", "prompt_std"),
        (
            "turned",
            "prompts turned all the way towards their gradient take at least half a decade off the gap",
            "aligned",
        ),
    ):
        closed = _closed(trained, name).groupby("seed").mean(skipna=False)
        found.append(_claim(what, text, closed, ">", criteria.CLOSES, unit="decades"))
    longer = _closed(trained, "prompt_std")
    for learner in longer.index.unique("learner"):
        text = (
            f"with {spelt(str(learner))}, prompts ten times as long take off the gap the decade that the chain predicts"
        )
        short = (longer.xs(learner, level="learner") - 1).groupby("seed").mean(skipna=False)
        found.append(_claim(f"longer.{learner}", text, short, "within", criteria.MATTERS, unit="decades", name="miss"))
    return found


def _closed(shifts: pd.DataFrame, intervention: str) -> pd.Series:
    """Decades that an intervention at its largest value takes off the gap, by learner and seed."""
    part = shifts[(shifts["intervention"] == intervention) & (shifts["value"] == max(INTERVENTIONS[intervention]))]
    return (part["before"] - part["gap"]).groupby([part["learner"], part["seed"]]).mean(skipna=False)


def _perpendicular(angles: pd.DataFrame) -> list[Claim]:
    """Nothing where no learner has text prompts alone."""
    if not len(angles):
        return []
    own = angles[angles["weights"] == "trained"].assign(left=angles["chance"] * angles["sine"])
    first, deeper = (own[own["layer"] == layer] for layer in ("first", "deeper"))

    def below(part: pd.DataFrame, column: str = "chance") -> pd.Series:
        """Decades by which the cosine to the prompt is smaller, per seed."""
        means = part.groupby("seed")[["to_prompt", column]].mean()
        return np.log10(means[column] / means["to_prompt"])

    found = [
        _claim(
            "perpendicular",
            "the gradient is perpendicular to the token that the tower sees, gated prompt plus position",
            first.groupby("seed")["to_token"].mean(skipna=False),
            "<",
            criteria.PERPENDICULAR,
            name="mean |cosine|",
        )
    ]
    for what, text, part, relation in (
        (
            "chance.default",
            "at the length from which prompts start, the cosine of prompt and gradient is that of random directions:"
            " that the gradient is perpendicular to the token explains none of the gap",
            first[first["value"] == HOME],
            "within",
        ),
        (
            "chance.longest",
            "in prompts ten times as long the cosine of prompt and gradient is below that of random directions",
            first[first["value"] == max(INTERVENTIONS["prompt_std"])],
            ">",
        ),
        (
            "chance.deeper",
            "in deeper layers, where the token is the prompt alone, the cosine of prompt and gradient is below that of"
            " random directions at the length from which prompts start",
            deeper[deeper["value"] == HOME],
            ">",
        ),
    ):
        if len(part):
            name = "decades below chance"
            found.append(_claim(what, text, below(part), relation, criteria.MATTERS, unit="decades", name=name))
    longest = first[first["value"] == max(INTERVENTIONS["prompt_std"])]
    text = (
        "in prompts ten times as long the cosine of prompt and gradient is that of a random direction perpendicular to"
        " the token"
    )
    name = "decades above it"
    claim = _claim(
        "chance.geometry", text, -below(longest, "left"), "within", criteria.MATTERS, unit="decades", name=name
    )
    found.append(claim)
    return found


#: What the ways to act on prompts are called in a sentence.
ACTING: dict[str, str] = {
    "length": "a gate that scales tokens",
    "turn length": "a gate that turns tokens",
    "depth": "a gate that scales layers",
    "turn depth": "a gate that turns layers",
    "soft": "a soft selector",
}


def _across(across: pd.DataFrame) -> list[Claim]:
    """What prompts ten times as long take off the gap of each gate, and what turning does in place of scaling."""
    gaps = across.groupby(["seed", "gate", "value"])["gap"].mean(skipna=False).unstack(["gate", "value"])
    long = max(INTERVENTIONS["prompt_std"])
    found = [
        _claim(
            f"across.{gate.replace(' ', '_')}",
            f"prompts ten times as long take the whole predicted decade off the gap of {words}",
            gaps[gate, HOME] - gaps[gate, long] - 1,
            "within",
            criteria.MATTERS,
            unit="decades",
            name="miss",
        )
        for gate, words in ACTING.items()
    ]
    for what, value, text, relation in (
        (
            "turned.default",
            HOME,
            "at the length from which prompts start, a gate that turns them has the same gap as one that scales them",
            "within",
        ),
        (
            "turned.longest",
            long,
            "in prompts ten times as long a gate that turns them has a smaller gap than one that scales them",
            ">",
        ),
    ):
        saved = sum(gaps[gate, value] - gaps[f"turn {gate}", value] for gate in ("length", "depth")) / 2
        name = "mean difference"
        found.append(_claim(f"across.{what}", text, saved, relation, criteria.MATTERS, unit="decades", name=name))
    return found


def answers(shifts: pd.DataFrame) -> pd.DataFrame:
    """Per intervention and value on the trained backbone: predicted shift, that of the factors meant, and the gap's."""
    own = shifts[shifts["weights"] == "trained"].assign(
        predicted=lambda t: t["predicted"] - t["before"], gap=lambda t: t["gap"] - t["before"]
    )
    ends = own[own["value"] == own.groupby("intervention")["value"].transform("max")]
    table = ends.groupby(["intervention", "value"], sort=False)[["predicted", "direct", "gap"]].mean().reset_index()
    names = {"predicted": "predicted", "direct": "factors meant", "gap": "whole gap"}
    return table.assign(intervention=table["intervention"].map(WORDS)).rename(columns=names)
