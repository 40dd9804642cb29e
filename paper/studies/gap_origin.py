"""Where does the gap come from? One factor at a time is changed, and the gap must move by what the chain says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import checks
from lib.prompts import backbone as backbones
from lib.prompts import training
from lib.prompts.diagnosis import FACTORS, upstream
from lib.prompts.learners import Learner
from lib.replicas import Tree
from lib.results import code_version, provenance
from lib.runtime import resolve_device, stream
from lib.verdicts import Finding, Findings, judge
from paper.studies.base import Result
from paper.studies.gating import CODE, GateStudy

#: What is changed, to which values; the one in the middle of each list is where everything starts.
INTERVENTIONS: dict[str, tuple[float, ...]] = {
    "prompt_std": (0.002, 0.006, 0.02, 0.06, 0.2),
    "bias": (-4, -2, 0, 2, 4),
    "temperature": (0.1, 0.3, 1, 3, 10),
    "gain": (0.1, 0.3, 1, 3, 10),
    "aligned": (0, 0.25, 0.5, 0.75, 1),
}
CLOSE = 0.1
"""Decades within which a prediction counts as right."""
PERPENDICULAR = 0.02
"""Mean absolute cosine below which directions count as perpendicular; random ones have sqrt(2 / (pi d))."""


@dataclass(frozen=True, kw_only=True)
class GapOrigin(GateStudy):
    """The gap before training under interventions on single factors, predicted and measured.

    ``pictures`` are taken for every gradient. The prediction uses the gradients of the untouched learner and the
    changed prompts and gate, never the gradients of the changed learner: it says what would happen if nothing but the
    factors that are meant (:data:`MEANT`) answered. "aligned" a turns the prompts towards their
    upstream gradient: ``(1 - a) p + a |p| delta/|delta|``. Table ``shifts``: a row per backbone (trained, random),
    learner, gate, task, intervention, value, seed with the gap, the gap before, the predicted gap, the shift of the
    factors that were meant (``direct``) and all factors, in decades. Table ``angles``: for text prompts alone and every
    length of the prompts, the absolute cosine of the upstream gradient to the prompt and to the token that the tower
    sees, which is the gated prompt plus its position, mean over pictures and tokens.
    """

    task: str | Sequence[str] = "fine,mis_specified"
    seeds: int = 5
    pictures: int = 8

    KEYS = ("weights", "learner", "gate", "intervention", "value")
    TOLERANCES = {"gap": 0.3, "predicted": 0.3}

    def check(self) -> None:
        super().check()
        checks.integer("pictures", self.pictures, 2)

    def run(self) -> Result:
        store, device = self.store(), resolve_device(self.device)
        config = {name: value for name, value in self.config().items() if name not in ("steps", "rate", "optimiser")}
        config |= {
            "weights": backbones.identity(self.backbone, self.pretrained),
            "code": code_version(*CODE, "studies.gap_origin"),
        }
        seeds = list(range(self.seeds))
        table = store.get_or_run("gap_origin", config, self._compute, device=device, seeds=seeds)
        shifts = table.drop(columns=["to_prompt", "to_token"])
        angles = table.dropna(subset=["to_token"]).drop(columns=["gap", "predicted", "before", "direct", *FACTORS])
        return Result(
            {"shifts": shifts, "angles": angles},
            self._findings(shifts, angles),
            provenance(device, seeds, store.seconds),
        )

    def _compute(self) -> pd.DataFrame:
        trained, random = self.load(), backbones.load(self.backbone, "random", resolve_device(self.device))
        rows = [
            self._cell(backbone, cell.learner, cell.gate, cell.task).assign(
                weights=weights, learner=cell.learner, gate=cell.gate, task=cell.task
            )
            # The null needs no more than one learner and gate.
            for weights, backbone, cells in (
                ("trained", trained, self.cells()),
                ("random", random, self.cells()[: len(self.task)]),
            )
            for cell in cells
        ]
        return pd.concat(rows, ignore_index=True)

    def _cell(self, backbone: backbones.Backbone, name: str, gate: str, task: str) -> pd.DataFrame:
        """One learner on one task: all interventions, values and seeds as one batch."""
        chosen, _ = self.find(task, self.strength)
        learner = Learner(name, backbone, chosen.names, template=chosen.template, gate=gate, tokens=self.tokens)
        shots, seeds = -(-self.pictures // len(chosen.names)), self.seeds
        done = [(name, value) for name, values in INTERVENTIONS.items() for value in values]
        # prompt_std is a multiple of the study's own, so that the middle is where everything starts.
        scale = {"prompt_std": self.prompt_std / 0.02}
        settings = [
            self.setting(**({} if name == "aligned" else {name: value * scale.get(name, 1)})) for name, value in done
        ]
        runs = [training.Replica(chosen, seed, setting, shots) for setting in settings for seed in range(seeds)]
        data = training.prepare(learner, runs, 2)
        drawn = [torch.randperm(data.sizes[0], generator=stream(s, "batches"))[: self.pictures] for s in range(seeds)]
        index = torch.stack(drawn * len(done)).to(backbone.device)
        params = training.initial(learner, data)
        # Where everything starts, repeated for every intervention.
        start = done.index(("prompt_std", 0.02)) * seeds
        origin = torch.arange(start, start + seeds, device=backbone.device).repeat(len(done))
        base, inputs = {name: value[origin] for name, value in params.items()}, data.inputs(index)
        home = {name: value[origin] for name, value in data.constants.items()}
        pull = training.per_replica(upstream, learner, base, inputs | {"constants": home})
        shares = torch.tensor([value if name == "aligned" else 0.0 for name, value in done]).repeat_interleave(seeds)
        params = _turned(params, pull, shares.to(backbone.device))
        after = training.chains(learner, data, params, index)
        features = inputs["features"]
        predicted = _gate_alone(learner, params, features, data.constants) - _gate_alone(learner, base, features, home)
        predicted += _meeting(learner, params, pull) - _meeting(learner, base, pull)
        rows = pd.DataFrame({name: after[name].tolist() for name in ("gap", *FACTORS)})
        rows["intervention"], rows["value"] = zip(*(entry for entry in done for _ in range(seeds)), strict=True)
        rows["seed"] = list(range(seeds)) * len(done)
        rows["to_prompt"], rows["to_token"] = self._angles(learner, data, params, inputs, rows["intervention"])
        before = rows.iloc[origin.cpu().numpy()].reset_index(drop=True)
        rows["before"] = before["gap"]
        rows["predicted"] = before["gap"] + predicted.cpu().numpy()
        # What of the shift is in the factors that were meant; the others answer to the change.
        rows["direct"] = [
            sum(row[factor] - old[factor] for factor in MEANT[row["intervention"]])
            for (_, row), (_, old) in zip(rows.iterrows(), before.iterrows(), strict=True)
        ]
        return rows

    @staticmethod
    def _angles(
        learner: Learner, data: training.Data, params: Tree, inputs: Tree, interventions: pd.Series
    ) -> tuple[np.ndarray, np.ndarray]:
        """Absolute cosine of the upstream gradient to prompt and token [R]; nan but for text prompts of any length."""
        found = np.full((2, len(interventions)), np.nan)
        design = learner.design
        if design.sees or design.conditional or design.pool:
            return tuple(found)
        mine = np.flatnonzero(interventions == "prompt_std")
        chosen = torch.as_tensor(mine, device=learner.backbone.device)

        def picked(tree: Tree) -> Tree:
            return {name: picked(value) if isinstance(value, dict) else value[chosen] for name, value in tree.items()}

        some, given = picked(params), picked(inputs)
        delta = training.per_replica(upstream, learner, some, given)["prompt.tokens"][:, :, 0]
        values = torch.func.vmap(learner.gate_values)(some, given["features"], given["constants"])
        prompt = torch.func.vmap(learner.gate.apply)(values, some["prompt.tokens"])[:, :, 0]
        token = prompt + learner.backbone.model.positional_embedding[1 : 1 + learner.tokens]
        for row, vector in zip(found, (prompt, token), strict=True):
            row[mine] = torch.cosine_similarity(delta, vector, dim=-1).abs().mean((1, 2)).cpu().numpy()
        return tuple(found)

    @staticmethod
    def _findings(shifts: pd.DataFrame, angles: pd.DataFrame) -> Findings:
        moved = shifts.assign(
            error=(shifts["gap"] - shifts["predicted"]).abs(),
            missed=(shifts["direct"] - (shifts["predicted"] - shifts["before"])).abs(),
        )
        moved = moved[moved["predicted"] != moved["before"]]
        trained = moved[moved["weights"] == "trained"]
        found = Findings()
        for intervention, words in WORDS.items():
            for column, claim in (
                ("missed", f"{words} moves the factors that it means by what the chain predicts"),
                ("error", f"{words} moves the whole gap by that"),
            ):
                part = trained[trained["intervention"] == intervention]
                found.append(_close(claim, part, column))
        random = moved[(moved["weights"] == "random") & moved["intervention"].isin(["temperature", "gain"])]
        found.append(
            _close("with random weights too, heating the gate or scaling what it sees does so", random, "error")
        )
        for claim, intervention, value in (
            ("prompts ten times as long take at least half a decade off the gap", "prompt_std", 0.2),
            (
                "turning the prompts all the way towards their gradient takes at least half a decade off the gap",
                "aligned",
                1,
            ),
        ):
            part = trained[(trained["intervention"] == intervention) & (trained["value"] == value)]
            closed = (part["before"] - part["gap"]).groupby(part["seed"]).mean()
            found.append(judge(claim, closed.tolist(), ">", 0.5, unit="decades"))
        own = angles[angles["weights"] == "trained"]
        if len(own):
            found.append(
                judge(
                    "the gradient is perpendicular to the token that the tower sees",
                    own.groupby("seed")["to_token"].mean().tolist(),
                    "<",
                    PERPENDICULAR,
                    name="mean |cosine|",
                )
            )
        return found


def _close(claim: str, part: pd.DataFrame, column: str) -> Finding:
    return judge(claim, part.groupby("seed")[column].mean().tolist(), "<", CLOSE, unit="decades", name="mean error")


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


def _meeting(learner: Learner, params: Tree, pull: Tree) -> Tensor:
    """How much of the upstream gradient reaches the gate's outputs [R], in decades lost: -log10 |<delta, p>|."""
    prompts = learner.prompts(params)

    def one(prompts: Tree, pull: Tree) -> Tensor:
        return sum(learner.gate.product(delta, prompts[name]) for name, delta in pull.items()).norm()

    return -torch.func.vmap(one)(prompts, pull).double().log10()


def _gate_alone(learner: Learner, params: Tree, features: Tensor, constants: Tree) -> Tensor:
    """What the gate network by itself adds to the gap [R], in decades: log10 of opening over slope and Jacobian.

    Root mean squares over pictures and units, with no gradient of any loss: the chain weights them by its
    gradients, which are not to be used here.
    """

    def one(params: Tree, features: Tensor, constants: Tree) -> Tensor:
        seen = learner.shown(features, constants)
        z = learner.judged(params, seen, constants)
        values, slope = torch.func.vjp(learner.gate.activate, z)
        own = {name: value for name, value in params.items() if name.startswith("gate.")}

        def loudness(feature: Tensor) -> Tensor:
            jacobian = torch.func.jacrev(lambda p: learner.judged(p, feature, constants))(own)
            return torch.stack([part.flatten(1).square().sum(1) for part in jacobian.values()]).sum(0)

        (slopes,) = slope(torch.ones_like(values))
        reach = (slopes.square() * torch.func.vmap(loudness)(seen)).mean()
        return 0.5 * (values.square().mean().log10() - reach.log10())

    return torch.func.vmap(one)(params, features, constants).double()


def answers(shifts: pd.DataFrame) -> pd.DataFrame:
    """Per intervention and value on the trained backbone: predicted shift, that of the factors meant, and the gap's."""
    own = shifts[shifts["weights"] == "trained"].assign(
        predicted=lambda t: t["predicted"] - t["before"], gap=lambda t: t["gap"] - t["before"]
    )
    ends = own[own["value"] == own.groupby("intervention")["value"].transform("max")]
    table = ends.groupby(["intervention", "value"], sort=False)[["predicted", "direct", "gap"]].mean().reset_index()
    names = {"predicted": "predicted", "direct": "factors meant", "gap": "whole gap"}
    return table.assign(intervention=table["intervention"].map(WORDS)).rename(columns=names)
