"""Why a class recovers or not: an experiment for each with an intervention that should flip it; layers one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from lib.hardware.devices import make
from lib.hardware.mitigation import Redundant
from lib.hardware.perturbations import PERTURBATIONS, Perturbation
from lib.hardware.training import tiled
from lib.replicas import moved
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings, Outcome, Relation, Threshold
from paper.criteria import hardware as criteria
from paper.interventions import Held, HeldRatio, PartlyKnown, ShuffledIRDrop, SpreadDrift, UnmaskedADC, like
from paper.studies import layers
from paper.studies.base import Compared, Study
from paper.studies.hardware import PICTURE, Count, Schedule, Seeds, fork
from paper.studies.parameters import Numbers, OneOf, Some, Whole
from paper.studies.recovery import beyond, recovery, void
from paper.sweep import crest
from paper.words.spelling import spelt

#: How networks are trained here: before the fork until clean accuracy no longer rises, then the same for every class.
LONG = {"mlp": Schedule(128, 300, 200), "cnn": Schedule(64, 150, 150), "vit": Schedule(64, 400, 200)}
#: The network on which every arm is run, at all severities, and the converter's sweep.
MAIN = "mlp"

#: Severities at which classes are looked at: the first is what claims speak of, the rest is shown. Chosen from what
#: they cost networks that never saw hardware: a clear loss that leaves room on both sides, where the class has one.
SEVERITIES: dict[str, tuple[float, ...]] = {
    "read_noise": (0.1, 0.2),
    "variability": (0.1, 0.2),
    "drift": (3.15e9,),
    "stuck_at": (0.05, 0.1),
    "ir_drop": (300.0,),
    "adc": (2.0, 3.0),
}


@dataclass(frozen=True)
class Arm:
    """One way to treat a class. ``options`` and ``change`` make the hardware what it is, the rest is what is done.

    ``change``: the hardware differs in one thing (:mod:`paper.interventions`), "held" in its conductances' ``size``,
    "ratio" in that of signal to error, "spread" in the spread of exponents, which is an option then, "shuffled" in the
    place of its lines, "unmasked" in what the gradient sees of a converter.
    ``rule`` trains through it (None: the network is not trained). ``measure`` are further options, ``copies`` of every
    device, weights ``clip``ped at so many standard deviations without training, the last layer ``digital``, and the
    share of the chip's devices that is ``known`` in training (None: judged on all chips).
    """

    rule: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    change: str = ""
    size: str = "rms"
    measure: Mapping[str, Any] = field(default_factory=dict)
    copies: int = 1
    clip: float | None = None
    digital: bool = False
    known: float | None = None

    def hardware(self, name: str, mended: bool) -> Perturbation:
        """The hardware, with the measures taken or without."""
        options = {**self.options, **(self.measure if mended else {})}
        kind = {"spread": SpreadDrift, "unmasked": UnmaskedADC, "shuffled": ShuffledIRDrop}.get(self.change)
        one = make(name, **options) if kind is None else kind(**options)
        one = Held(one, size=self.size) if self.change == "held" else one  # type: ignore[arg-type]
        one = HeldRatio(one) if self.change == "ratio" else one
        return Redundant(one, copies=self.copies) if mended and self.copies > 1 else one


_FACTOR = {"compensation": "global"}
_WIDE = {"spread": 4.0}
_NOISE = {
    "trained": Arm("autograd"),
    "clipped, not trained": Arm(clip=2.0),
    "trained, conductances held": Arm("autograd", change="held"),
    "clipped, conductances held": Arm(clip=2.0, change="held"),
    "trained, signal to error held": Arm("autograd", change="ratio"),
}
#: What is done about each class, by label.
ARMS: dict[str, dict[str, Arm]] = {
    "read_noise": _NOISE,
    "variability": _NOISE,
    "drift": {
        "trained": Arm("autograd"),
        "one factor, not trained": Arm(measure=_FACTOR),
        "one factor, trained": Arm("autograd", measure=_FACTOR),
        "wide exponents, one factor, not trained": Arm(options=_WIDE, change="spread", measure=_FACTOR),
        "wide exponents, one factor, trained": Arm("autograd", options=_WIDE, change="spread", measure=_FACTOR),
    },
    "stuck_at": {
        "trained": Arm("autograd"),
        "trained, half of the devices known": Arm("autograd", known=0.5),
        "trained, nine in ten known": Arm("autograd", known=0.9),
        "trained, chip known": Arm("autograd", known=1.0),
        "trained, three devices each": Arm("autograd", copies=3),
        "clipped, not trained": Arm(clip=2.0),
        "all stuck off, trained": Arm("autograd", options={"on": 0.0}),
        "trained, conductances held": Arm("autograd", change="held"),
        "trained, signal to error held": Arm("autograd", change="ratio"),
    },
    "ir_drop": {
        "trained": Arm("autograd"),
        "trained, backward without the circuit": Arm("straight_through"),
        "trained, conductances held": Arm("autograd", change="held", size="mean"),
        "trained, scale kept": Arm("autograd", options={"scale": "fixed"}),
        "pre-distorted, not trained": Arm(measure={"predistort": 3}),
        "trained, lines shuffled": Arm("autograd", change="shuffled"),
        "clipped, not trained": Arm(clip=2.0),
    },
    "adc": {
        "trained": Arm("autograd"),
        "trained past the rounding": Arm("straight_through"),
        "trained past rounding and cut-off": Arm("straight_through", change="unmasked"),
        "last layer digital, not trained": Arm(digital=True),
        "last layer digital, trained past the rounding": Arm("straight_through", digital=True),
    },
}

#: The converter's sweep: how it is trained through and how its range is chosen, with the last layer on it or not.
LAST = {"": False, ", last layer digital": True}
CALIBRATIONS = ("quantile", "largest", "best")
TRAINED = {"not trained": Arm(), "past the rounding": Arm("straight_through")}
UNMASKED = Arm("straight_through", change="unmasked")
SWEEP: dict[str, Arm] = {
    f"{calibration}, {label}{last}": Arm(
        arm.rule, {"calibration": "quantile"}, arm.change, measure={"calibration": calibration}, digital=digital
    )
    for last, digital in LAST.items()
    for calibration in CALIBRATIONS
    for label, arm in {**TRAINED, "past rounding and cut-off": UNMASKED}.items()
    if arm is not UNMASKED or (calibration, digital) == ("quantile", False)
} | {
    f"{label}{last}": Arm("autograd", {"calibration": "quantile"}, measure=measure, digital=digital)
    for last, digital in LAST.items()
    for label, measure in {"learned, past the rounding": {"calibration": "learned"}, "quantile, vanilla": {}}.items()
    if measure or not digital
}
#: What of it a rerun does.
FEW = ("quantile, not trained", "quantile, past the rounding", "quantile, not trained, last layer digital")


class Mechanisms(Study):
    """Arms of each class on ``networks``, layers one by one on ``layered``, and the converter's sweep over ``bits``.

    ``classes`` is "all" or some of the six; ``sweep`` is "all" or "few" (:data:`FEW`) ways of converting for
    ``bits`` on :data:`MAIN`. ``steps`` after the fork are "auto" as :data:`LONG` has them, the same for all.

    Tables: ``accuracy`` (a row per network, class, arm, severity, seed), ``summary`` (seeds joined), ``flips`` (what
    was predicted of every mechanism, and what came of it), ``layers`` (network, class, layer, seed), ``mended``
    (network, class, ranking, seed), ``sweep`` and ``sweep_summary`` (as accuracy and summary).
    """

    classes: Annotated[tuple[str, ...], Some(tuple(PERTURBATIONS), everything="all", ordered=True)] = ("drift",)
    networks: Annotated[tuple[str, ...], Some(tuple(LONG), ordered=True)] = ("mlp",)
    layered: Annotated[tuple[str, ...], Some(tuple(LONG), ordered=True)] = ("mlp",)
    sweep: Annotated[str, OneOf(("few", "all"))] = "few"
    bits: Annotated[tuple[int, ...], Numbers(2, 16, whole=True)] = (3,)
    seeds: Seeds = 2
    chips: Count = 5
    steps: Annotated[int | str, Whole(1, 1_000_000, also=("auto",))] = "auto"

    SIZES: ClassVar[tuple[str, ...]] = ("seeds", "chips")
    PARTS: ClassVar[tuple[str, ...]] = ("classes", "networks", "layered", "sweep", "bits")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "accuracy": Compared(("network", "perturbation", "arm", "severity"), {"unaware": PICTURE, "accuracy": PICTURE}),
        "layers": Compared(("network", "perturbation", "layer"), {"only": PICTURE, "without": PICTURE}),
        "sweep": Compared(("arm", "severity"), {"unaware": PICTURE, "accuracy": PICTURE}),
    }

    def start(self, name: str) -> dict[str, Any]:
        """Where the runs of a network begin, and how long they last."""
        schedule = LONG[name]
        return {
            "network": name,
            "data": "digits",
            "pictures": "",
            "seeds": list(range(self.seeds)),
            "batch": schedule.batch,
            "warm_up": schedule.warm_up,
            "steps": schedule.steps if self.steps == "auto" else self.steps,
        }

    def cell(self, net: str, perturbation: str, label: str, one: Arm, severities: tuple[float, ...]) -> Cell:
        """The runs of an arm of a class on a network."""
        config = {
            "start": self.start(net),
            "perturbation": perturbation,
            "arm": label,
            "treatment": asdict(one),
            "severities": list(severities),
            "chips": self.chips,
        }
        uses = (one.hardware(perturbation, mended=True), one.hardware(perturbation, mended=False))
        return Cell("mechanism", config, arm, size=len(severities) * self.seeds, uses=uses, site={"root": ""})

    def arms(self) -> dict[tuple[str, str, str], Cell]:
        """The cells of the classes' arms, by network, class and label."""
        return {
            (net, name, label): self.cell(net, name, label, one, SEVERITIES[name][: None if net == MAIN else 1])
            for net in self.networks
            for name in self.classes
            for label, one in ARMS[name].items()
            if net == MAIN or label in NEEDED[name]
        }

    def converters(self) -> dict[str, Cell]:
        """The cells of the converter's sweep, by label."""
        chosen = {label: one for label, one in SWEEP.items() if self.sweep == "all" or label in FEW}
        bits = tuple(float(one) for one in self.bits)
        return {label: self.cell(MAIN, "adc", label, one, bits) for label, one in chosen.items()}

    def by_layer(self) -> dict[tuple[str, str], Cell]:
        """The cells that take layers one by one, by network and class."""
        return {
            (net, name): layers.cell(self.start(net), name, layers.SEVERITIES[name], self.chips)
            for net in self.layered
            for name in self.classes
        }

    def cells(self) -> list[Cell]:
        """A cell for every arm, network with layers, and way of converting."""
        arms, by_layer = self.arms(), self.by_layer()
        first = [cell for (net, *_), cell in arms.items() if net == MAIN]
        return list(dict.fromkeys([*first, *self.converters().values(), *by_layer.values(), *arms.values()]))

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        accuracy = pd.concat(
            [
                found[cell]["accuracy"].assign(network=net, perturbation=name, arm=label)
                for (net, name, label), cell in self.arms().items()
            ],
            ignore_index=True,
        )
        single = pd.concat(
            [
                found[cell]["layers"].assign(network=net, perturbation=name)
                for (net, name), cell in self.by_layer().items()
            ],
            ignore_index=True,
        )
        swept = pd.concat(
            [found[cell]["accuracy"].assign(arm=label) for label, cell in self.converters().items()], ignore_index=True
        )
        mended = layers.mended(single)
        findings = Findings.of([*predicted(accuracy), *layers.claims(mended), *converting(swept)], holm=True)
        return {
            "accuracy": accuracy,
            "summary": summarise(accuracy, ("network", "perturbation", "arm", "severity")),
            "flips": flips(findings),
            "layers": single,
            "mended": mended,
            "sweep": swept,
            "sweep_summary": summarise(swept, ("arm", "severity")),
        }, findings


# ------------------------------------------------------------------------------------------------- computing


def arm(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``accuracy``: a row for every severity and seed of an arm.

    ``unaware`` is the network that never saw hardware, on the arm's hardware with nothing done; ``accuracy`` after what
    the arm does; ``clean`` without hardware; ``crest`` how far the largest weight stands out in the end, and
    ``crest_unaware``; ``diverged_at`` and ``moved`` as in :meth:`~paper.sweep.Sweep.accuracy`, where it trains.
    """
    begin, name, grid = fork(config["start"], site), config["perturbation"], config["severities"]
    one = Arm(**config["treatment"])
    bare, physics = (one.hardware(name, mended) for mended in (False, True))
    chips = config["chips"] if one.known is None else 1
    plain = begin.trainer
    trainer = like(plain, digital=(plain.network.layers[-1],) if one.digital else ())
    if one.known is not None:
        trainer = like(trainer, PartlyKnown, share=one.known)
    unaware = tiled(begin.clean, len(grid))
    given = {"severities": grid, "seeds": begin.seeds, "chips": chips, "start": begin.start}
    before = plain.accuracy_on_chips(unaware, bare, **given).numpy().mean(1)
    told: dict[str, np.ndarray] = {}
    params = unaware
    if one.rule is not None:
        run = (begin.start, physics, one.rule, grid, begin.seeds, begin.optimiser, begin.warm_up)
        trained = trainer.train_aware(*run)
        params, weights = trained.params, plain.network.weights
        away = moved(weights(tiled(begin.start, len(grid))), weights(params))
        told = {"diverged_at": trained.diverged_at.numpy(), "moved": away.numpy()}
    if one.clip is not None:
        params = trainer.clipped(params, one.clip)
    seen = trainer.accuracy_on_chips(params, physics, **given).numpy()
    table = pd.DataFrame(
        {
            "severity": np.repeat(grid, len(begin.seeds)),
            "seed": list(begin.seeds) * len(grid),
            "clean": plain.accuracy(begin.clean).repeat(len(grid)).numpy(),
            "unaware": before,
            "accuracy": seen.mean(1),
            "crest": crest(plain.network.weights(params)).numpy(),
            "crest_unaware": crest(plain.network.weights(unaware)).numpy(),
            **told,
        }
    )
    return {"accuracy": table}


# --------------------------------------------------------------------------------------------------- judging


def summarise(table: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    """Seeds joined: means, damage, and recovery with its interval."""
    rows = []
    for given, group in table.groupby(list(keys), sort=False):
        damage, gain = group.clean - group.unaware, group.accuracy - group.unaware
        won_back, (low, high) = recovery(damage, gain)
        means = group[["clean", "unaware", "accuracy", "crest", "crest_unaware"]].mean()
        row = dict(zip(keys, given, strict=True)) | means.to_dict() | {"damage": damage.mean()}
        rows.append(row | {"recovery": won_back, "recovery_low": low, "recovery_high": high})
    return pd.DataFrame(rows)


class Prediction(NamedTuple):
    """Of an arm of a class: that it wins back at least ``share`` of the loss (">="), or less ("<").

    ``role``: what the mechanism says of the class as it is ("base"), of the intervention ("flip"), what another
    mechanism would say ("rival"), or what a "second" one says that was proposed when the first had been refuted.
    """

    id: str
    role: str
    text: str
    arm: str
    relation: Relation
    share: Threshold


_HALF = criteria.COMPENSATED


#: The mechanism of each class in one sentence, and what it predicts. Written before any of it was measured.
MECHANISMS: dict[str, tuple[str, tuple[Prediction, ...]]] = {
    "read_noise": (
        "Noise is a share of full scale, and training wins by using the window fully: no weight stands out.",
        (
            Prediction("trained", "base", "Training wins back at least half", "trained", ">=", _HALF),
            Prediction(
                *("held", "flip", "With the conductances held it wins back less than half"),
                *("trained, conductances held", "<", _HALF),
            ),
        ),
    ),
    "variability": (
        "Errors are a share of full scale, and training wins by using the window fully: no weight stands out.",
        (
            Prediction("trained", "base", "Training wins back at least half", "trained", ">=", _HALF),
            Prediction(
                *("held", "flip", "With the conductances held it wins back less than half"),
                *("trained, conductances held", "<", _HALF),
            ),
        ),
    ),
    "drift": (
        "Conductances shrink together: one factor a layer gives the loss back, and only the exponents' spread is left.",
        (
            Prediction(
                *("factor", "base", "One factor per layer wins back at least half without training"),
                *("one factor, not trained", ">=", _HALF),
            ),
            Prediction(
                *("spread", "flip", "With exponents four times as far apart it wins back less than half"),
                *("wide exponents, one factor, not trained", "<", _HALF),
            ),
        ),
    ),
    "stuck_at": (
        "What is missing is where the faults are: training for any chip cannot aim, training for one can.",
        (
            Prediction("trained", "base", "Training for any chip wins back less than half", "trained", "<", _HALF),
            Prediction(
                *("known", "flip", "Training on the known chip wins back at least half"),
                *("trained, chip known", ">=", _HALF),
            ),
            Prediction(
                *("half_known", "rival", "Half of the map is enough: it wins back at least half"),
                *("trained, half of the devices known", ">=", _HALF),
            ),
            Prediction(
                *("off", "rival", "It is the size of the fault: with all stuck off, training for any chip wins half"),
                *("all stuck off, trained", ">=", _HALF),
            ),
        ),
    ),
    "ir_drop": (
        "The loss follows from the weights, and training wins by emptying the wires: fewer conductances load them.",
        (
            Prediction("trained", "base", "Training wins back at least half", "trained", ">=", _HALF),
            Prediction(
                *("held", "flip", "With the mean conductance held it wins back less than half"),
                *("trained, conductances held", "<", _HALF),
            ),
            Prediction(
                *("backward", "rival", "It is the backward pass: without the circuit in it less than half comes back"),
                *("trained, backward without the circuit", "<", _HALF),
            ),
            Prediction(
                *("bounded", "rival", "It is the bounded window: with the scale kept less than half comes back"),
                *("trained, scale kept", "<", _HALF),
            ),
            Prediction(
                *("inverted", "rival", "It is the inverse of a known map: pre-distortion without training wins half"),
                *("pre-distorted, not trained", ">=", _HALF),
            ),
        ),
    ),
    "adc": (
        "Rounding has no gradient (a control), and with two bits the logits have too few values to be ordered.",
        (
            Prediction(
                *("trained", "base", "Vanilla training wins back less than a fifth"),
                *("trained", "<", criteria.RECOVERED),
            ),
            Prediction(
                *("through", "flip", "A gradient that passes the rounding wins back at least half"),
                *("trained past the rounding", ">=", _HALF),
            ),
            Prediction(
                *("logits", "rival", "A digital last layer alone wins back at least half, without training"),
                *("last layer digital, not trained", ">=", _HALF),
            ),
        ),
    ),
}


#: Second mechanisms, proposed when the perceptron's first numbers had refuted the first ones. What they say of arms
#: that those numbers had shown is no prediction on the perceptron (``SEEN``); elsewhere nothing had been measured.
SECOND: dict[str, tuple[str, tuple[Prediction, ...]]] = {
    "read_noise": (
        "Training raises every layer's signal over its errors: by filling the window or, where it cannot, by weights "
        "that the inputs excite more.",
        (
            Prediction(
                *("ratio", "second", "With the ratio of signal to error held, training wins back less than half"),
                *("trained, signal to error held", "<", _HALF),
            ),
        ),
    ),
    "variability": (
        "Training raises every layer's signal over its errors: by filling the window or, where it cannot, by weights "
        "that the inputs excite more.",
        (
            Prediction(
                *("ratio", "second", "With the ratio of signal to error held, training wins back less than half"),
                *("trained, signal to error held", "<", _HALF),
            ),
        ),
    ),
    "stuck_at": (
        "Stuck devices are an error like any other to a layer: training raises the signal over it.",
        (
            Prediction(*("any", "second", "Training for any chip wins back at least half"), *("trained", ">=", _HALF)),
            Prediction(
                *("ratio", "second", "With the ratio of signal to error held, it wins back less than half"),
                *("trained, signal to error held", "<", _HALF),
            ),
        ),
    ),
    "ir_drop": (
        "Nothing about it is random: every chip loses the same currents, so training needs no more than to see them.",
        (
            Prediction(
                *("shuffled", "second", "With the lines in another order on every chip it wins back less than half"),
                *("trained, lines shuffled", "<", _HALF),
            ),
        ),
    ),
    "adc": (
        "With two bits the logits have too few values and the gradient has to pass the rounding: each alone is too "
        "little, both together are enough.",
        (
            Prediction(
                *("only_through", "second", "A gradient that passes the rounding wins back less than half alone"),
                *("trained past the rounding", "<", _HALF),
            ),
            Prediction(
                *("only_logits", "second", "A digital last layer wins back less than half alone"),
                *("last layer digital, not trained", "<", _HALF),
            ),
            Prediction(
                *("both", "second", "Both together win back at least half"),
                *("last layer digital, trained past the rounding", ">=", _HALF),
            ),
        ),
    ),
}
#: Second claims about arms whose recovery on the perceptron was known when they were written.
SEEN = {"stuck_at.any", "adc.only_through", "adc.only_logits", "adc.both"}

#: The first mechanism's predictions and the second's, by class.
PREDICTIONS = {name: (*own, *SECOND.get(name, ("", ()))[1]) for name, (_, own) in MECHANISMS.items()}
#: Arms with which others are compared.
_BESIDE = {
    "read_noise": ("clipped, not trained",),
    "variability": ("clipped, not trained",),
    "drift": ("one factor, trained",),
}
#: Arms that a class's own mechanisms need, and those that train nothing: others are run on MAIN only.
NEEDED = {
    name: {
        *("trained", *_BESIDE.get(name, ())),
        *(one.arm for one in own if one.role != "rival" or ARMS[name][one.arm].rule is None),
    }
    for name, own in PREDICTIONS.items()
}


def _at(table: pd.DataFrame, net: str, name: str, label: str) -> pd.DataFrame:
    """The runs of an arm at the severity that claims speak of, by seed."""
    own = table[(table.network == net) & (table.perturbation == name) & (table.arm == label)]
    return own[own.severity == SEVERITIES[name][0]].set_index("seed")


def predicted(accuracy: pd.DataFrame) -> Iterator[Claim]:
    """What every mechanism predicts, network by network, and what a measure without a gradient has of the win."""
    for net in dict.fromkeys(accuracy.network):
        for name in dict.fromkeys(accuracy.perturbation):
            title, family = f"{make(name).title}, {spelt(net)}", f"mechanisms {name}"
            for one in PREDICTIONS[name]:
                seen = net == "mlp" and f"{name}.{one.id}" in SEEN
                runs = _at(accuracy, net, name, one.arm)
                if not len(runs):
                    continue
                lost, won = runs.clean - runs.unaware, runs.accuracy - runs.unaware
                yield Claim(
                    f"mechanisms.{name}.{one.id}.{net}",
                    f"{title}: {one.text[0].lower()}{one.text[1:]}"
                    + (" (second mechanism)" if one.role == "second" else "")
                    + (", written when this was known" if seen else ""),
                    beyond(lost.to_numpy(), won.to_numpy(), one.share),
                    one.relation,
                    criteria.NOTHING,
                    family,
                    unit="points",
                    name=f"won back beyond {one.share:g} of the loss",
                    void=void(lost),
                )
            if name in ("read_noise", "variability"):
                both = [_at(accuracy, net, name, label) for label in ("trained", "clipped, not trained")]
                won, cut = (one.accuracy - one.unaware for one in both)
                yield Claim(
                    f"mechanisms.{name}.clipped.{net}",
                    f"{title}: weights clipped at two standard deviations, without training, win back at least half of "
                    "what training wins",
                    100 * (cut - criteria.MOST_OF_IT * won).dropna().to_numpy(),
                    ">=",
                    criteria.NOTHING,
                    family,
                    unit="points",
                    name=f"won back beyond {criteria.MOST_OF_IT:g} of training's",
                    void=void(both[0].clean - both[0].unaware),
                )
            if name == "drift":
                factor, on_top = (
                    _at(accuracy, net, name, f"one factor, {label}").accuracy for label in ("not trained", "trained")
                )
                yield Claim(
                    f"mechanisms.drift.left.{net}",
                    f"{title}: behind one factor per layer training adds less than a point",
                    100 * (on_top - factor).dropna().to_numpy(),
                    "<",
                    criteria.LEFT_TO_WIN,
                    family,
                    unit="points",
                    name="mean difference",
                )


def flips(findings: Findings) -> pd.DataFrame:
    """What became of each mechanism: a row per claim with its ``role`` and outcome, and whether the mechanism holds.

    The first ``mechanism`` "holds" where what it says of the class and of its intervention both hold, "does not hold"
    where one of them does not, and is "inconclusive" otherwise; so does the ``second`` with all that it says ("" where
    none was proposed).
    """
    rows = []
    for one in findings:
        parts = one.id.split(".")
        if len(parts) != 4 or parts[1] not in MECHANISMS:
            continue
        roles = {each.id: each.role for each in PREDICTIONS[parts[1]]}
        row = {"perturbation": parts[1], "network": parts[3], "claim": parts[2], "role": roles.get(parts[2], "more")}
        rows.append(row | {"outcome": str(one.outcome), "value": one.value})
    table = pd.DataFrame(rows, columns=["perturbation", "network", "claim", "role", "outcome", "value"])
    keys = ["perturbation", "network"]
    for column, of in {"mechanism": ["base", "flip"], "second": ["second"]}.items():
        own = table[table.role.isin(of)].groupby(keys, sort=False).outcome.agg(_together)
        table = table.join(own.rename(column), on=keys)
    return table.fillna({"mechanism": "", "second": ""})


def _together(outcomes: pd.Series) -> str:
    """The outcome of claims that have to hold all."""
    found = set(outcomes)
    if str(Outcome.DOES_NOT_HOLD) in found:
        return str(Outcome.DOES_NOT_HOLD)
    return str(Outcome.HOLDS) if found == {str(Outcome.HOLDS)} else str(Outcome.INCONCLUSIVE)


class Better(NamedTuple):
    """Of the converter at so many ``bits``: ``one`` way is ahead of the ``other`` by at least so many points."""

    id: str
    text: str
    bits: int
    one: str
    other: str
    relation: Relation
    points: Threshold


_CONVERTING = (
    Better(
        "control",
        "Control: vanilla training, whose gradient is zero, is within a point of no training",
        *(3, "quantile, vanilla", "quantile, not trained", "within", criteria.CONVERTS_BETTER),
    ),
    Better(
        "mask",
        "A gradient that knows where the converter cuts off is ahead of one that does not, by a point",
        *(2, "quantile, past the rounding", "quantile, past rounding and cut-off", ">=", criteria.CONVERTS_BETTER),
    ),
    Better(
        "last",
        "A digital last layer lifts an untrained network by five points",
        *(3, "quantile, not trained, last layer digital", "quantile, not trained", ">=", criteria.CONVERTS_CLEARLY),
    ),
    Better(
        "best",
        "Untrained, the range that rounds best is ahead of the largest current by five points",
        *(3, "best, not trained", "largest, not trained", ">=", criteria.CONVERTS_CLEARLY),
    ),
    Better(
        "on_top",
        "Where the range rounds best and the last layer is digital, training past the rounding adds a point",
        3,
        "best, past the rounding, last layer digital",
        "best, not trained, last layer digital",
        ">=",
        criteria.CONVERTS_BETTER,
    ),
    Better(
        "on_top.2",
        "With two bits, where the range rounds best and the last layer is digital, training past the rounding adds "
        "five points",
        2,
        "best, past the rounding, last layer digital",
        "best, not trained, last layer digital",
        ">=",
        criteria.CONVERTS_CLEARLY,
    ),
    Better(
        "learned",
        "With two bits a range learned in training is ahead of the quantile by five points",
        *(2, "learned, past the rounding", "quantile, past the rounding", ">=", criteria.CONVERTS_CLEARLY),
    ),
)


def converting(swept: pd.DataFrame) -> Iterator[Claim]:
    """What rule, calibration and a digital last layer are worth to a converter."""
    for one in _CONVERTING:
        here = swept[swept.severity == one.bits]
        if not {one.one, one.other} <= set(here.arm):
            continue
        first, second = (here[here.arm == label].set_index("seed").accuracy for label in (one.one, one.other))
        yield Claim(
            f"mechanisms.converter.{one.id}",
            f"{one.text} ({one.bits} bits)" if "bits" not in one.text else one.text,
            100 * (first - second).dropna().to_numpy(),
            one.relation,
            one.points,
            "mechanisms converter",
            unit="points",
            name="mean difference",
        )
