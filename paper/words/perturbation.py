"""The sentences of a perturbation page: what goes wrong, what came out, what to look for closer up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import pandas as pd
import torch

from lib.hardware.perturbations import Perturbation
from lib.results import Tables
from lib.verdicts import ONE_SEED, Finding, Findings, Outcome
from paper import published
from paper.criteria.hardware import CLEAR_DAMAGE, POINTS, points
from paper.studies import arms, variants
from paper.studies.base import Page
from paper.studies.hardware import NAMES
from paper.studies.perturbation import PerturbationStudy
from paper.studies.recovery import by_side, recovery
from paper.words import format
from paper.words.hardware import wording
from paper.words.numbers import UNJUDGED, Shown, cosine, interval, listed, share
from paper.words.outcomes import decided
from paper.words.spelling import in_sentence

_QUESTIONS = {
    "read_noise": (
        "Vanilla training found a way around the noise: smaller outstanding weights, so that the window holds a finer "
        "scale. Is that all it found? With the *scale kept* as it was at the fork, weights that outgrow the window "
        "are cut off and smaller ones gain nothing."
    ),
    "variability": (
        "With the *scale kept* as it was at the fork, a smaller largest weight no longer buys precision. What training "
        "still wins back then, it wins by finding weights that bear errors."
    ),
    "drift": (
        "The weights shrink, and one factor per layer behind the array, measured by reading out the sum of its "
        "conductances, undoes what they have in common, without any training. The factor can be read exactly or with "
        "the devices' own fluctuations."
    ),
    "stuck_at": (
        "Not all faults are alike. A device stuck *off* takes at most its own weight away; one stuck *on* adds a "
        "full-scale weight. Faults may come in *clusters*, when a driver or a wire fails. And as before, training may "
        "lower the scale, unless the *scale is kept*."
    ),
    "ir_drop": (
        "When does IR-drop break training, and what does it? There are four suspects. The *forward distortion* "
        "itself: freeze every cell's share of the loss as it is at the fork, and the map from weights to outputs is "
        "linear, with the same losses. The *load dependence*: the true circuit, in which a larger weight takes "
        "voltage away from its neighbours, less the frozen one. The *bounded conductance*: keep the scale, so that "
        "weights which grow are cut off. And the *backward*: straight-through instead of the gradient through the "
        "circuit. A fifth question is what a cheap formula for the circuit is worth: train on the formula, and judge "
        "on the circuit."
    ),
    "adc": (
        "A converter needs a range. It can be set to the *largest* current on training data, to a *quantile*, to the "
        "quantile that makes the rounding error smallest (*best*), or be *learned* with the weights: then rounding "
        "passes the gradient on, cutting off does not."
    ),
}


def _at(severity: float, physics: Perturbation) -> str:
    """A severity as a reader says it: "0.1 Gmax", "100 yr", "5 % of devices"."""
    return format.quantity(severity, physics.unit)


def about(physics: Perturbation) -> str:
    """The paragraphs of a page on its perturbation (Markdown): physics, law, what severity means."""
    span = f"from {_at(physics.low, physics)} to {_at(physics.high, physics)}"
    off = "not converting at all" if physics.off > physics.high else _at(physics.off, physics)
    reads = bool(physics.draw_read((1, 1), torch.Generator()))
    chips = {
        (True, False): "The random numbers belong to the *chip*: drawn once, then frozen.",
        (False, True): "The random numbers belong to the *read*: every operation draws new ones.",
        (True, True): "Some random numbers belong to the *chip*, drawn once, others to the *read*, drawn each time.",
        (False, False): "Nothing is random: all chips with the same weights are alike, and one stands for all.",
    }[physics.lasting, reads]
    said = wording(physics.name)
    return (
        (f"{said.physics}\n\n" if said.physics else "")
        + (f"$$ {said.formula} $$\n\n" if said.formula else "")
        + f"**Severity** is the {physics.measures}, {span}; off is {off}. {chips}"
        + (f"\n\n**What to look for.** {said.lesson}" if said.lesson else "")
    )


def story(tables: Tables, physics: Perturbation) -> str:
    """What came out, in sentences with the measured numbers (Markdown)."""
    table = tables["summary"]
    clear = table[table.damage >= CLEAR_DAMAGE]
    if not len(clear):
        return f"No severity costs {points(CLEAR_DAMAGE):g} points: an unaware network does not mind {physics.title}."
    first, last = clear.severity.iloc[0], table.severity.iloc[-1]
    lines = []
    for severity in dict.fromkeys((first, last)):
        here = table[table.severity == severity]
        parts = [
            f"{NAMES[row.rule]} brings it to {100 * row.accuracy:.0f} %, a recovery of {share(row.recovery)} "
            f"{interval(row.recovery_low, row.recovery_high)}"
            for row in here[here.recovery.notna()].itertuples()
        ]
        cost = (
            f"an unaware network is right on {100 * here.unaware.iloc[0]:.0f} % instead of "
            f"{100 * here.clean.iloc[0]:.0f} %"
        )
        lines.append(f"- At **{_at(severity, physics)}** {'; '.join([cost, *parts])}.")
    runs = tables["accuracy"]
    at_first = runs[runs.severity == first].groupby("rule", sort=False).crest.mean()
    stands = [
        f"{value:.1f} times after {NAMES[rule]}" for rule, value in at_first.dropna().items() if rule != "unaware"
    ]
    after = f", and at {_at(first, physics)} {', '.join(stands)}" if stands else ""
    lines.append(
        "- The largest weight of a layer, which sets the scale of its conductances, is "
        f"{at_first['unaware']:.1f} times the root mean square in the clean network{after}."
    )
    return "\n".join(lines)


def inside_and_beyond(tables: Tables, physics: Perturbation) -> str:
    """What is lost and won back where published devices lie, and beyond, judged separately (Markdown)."""
    table, known = by_side(tables["accuracy"]), published.sentence(physics.name)
    if table.empty or not known:
        return "Of no published device do we know where on this axis it lies."
    lines = [f"{known} (the grey band in the figures)."]
    for side, where in ((published.INSIDE, "**Up to the harshest of them**"), (published.BEYOND, "**Beyond** that")):
        here = table[table.published == side]
        if here.empty:
            lines.append(f"{where} lies none of the severities shown.")
            continue
        first = here.iloc[0]
        count = f"{first.severities} severit{'y' if first.severities == 1 else 'ies'}"
        if side == published.INSIDE and (milder := _milder(tables["accuracy"], physics)):
            count += (
                f", {milder} of them milder than any published"
                if first.severities > 1
                else ", milder than any published"
            )
        cost = f"{where} ({count}) an unaware network loses {Shown(100 * first.damage):.1f} points in the mean"
        said = [f"{NAMES[row.rule]} {_won(row)}" for row in here.itertuples() if row.rule != "unaware"]
        lines.append(f"{'; '.join([cost, *said])}.")
    return " ".join(lines)


def _milder(accuracy: pd.DataFrame, physics: Perturbation) -> int:
    """How many severities are milder than the mildest published one."""
    mildest, *_ = published.span(physics.name) or (physics.off,)
    falls = physics.off > physics.high
    return sum(one > mildest if falls else one < mildest for one in accuracy.severity.unique())


def _won(row: Any) -> str:
    """What training does on one side of the range: the recovery where something is lost, the points where not."""
    if row.recovery == row.recovery:
        ends = interval(row.recovery_low, row.recovery_high)
        known = f"wins back {share(row.recovery)} of it {ends}".rstrip()
    elif row.gain == row.gain:
        known = f"changes the accuracy by {Shown(100 * row.gain):.1f} points"
    else:
        known = "has no number"
    return f"{known}, *{row.verdict}*"


#: What was not fixed before numbers of it were seen.
_MOVED = {
    "ir_drop": (
        " Where it is measured was not: a first reference (commit `442186b`, 30 to 1,000 Ω, 100 steps) existed when "
        "`ba2efeb` moved the severities to 100 to 3,000 Ω and `d0efa5f` the steps to 80."
    )
}


def fixed(physics: Perturbation) -> str:
    """What was fixed before the run, and what was not (Markdown)."""
    return f"Each other criterion was fixed before the run.{_MOVED.get(physics.name, '')}"


def verdicts(tables: Tables) -> pd.DataFrame:
    """The verdict table of a page, rounded for reading; the recovery with its interval, which decides the verdict."""
    table = tables["summary"]
    percent = 100 * table[["unaware", "accuracy", "low"]]
    shown = table[["severity", "rule"]].join(percent.round(1))
    ends = zip(table.recovery, table.recovery_low, table.recovery_high, strict=True)
    shown["recovery"] = ["–" if value != value else f"{share(value)} {interval(*span)}" for value, *span in ends]
    shown["known"] = ["–" if value != value else share(value) for value in table.known]
    shown = shown.assign(verdict=table.verdict, published=table.published, steps=table.steps)
    if table.get("clipped", pd.Series(dtype=float)).notna().any():
        shown["clipped"] = ["–" if value != value else share(value) for value in table.clipped]
        over = zip(table.beyond, table.beyond_low, table.beyond_high, strict=True)
        shown["beyond clipping"] = [
            "–" if value != value else f"{share(value)} {interval(*span)}" for value, *span in over
        ]
        shown["by training"] = ["nothing left" if said == "no damage" else said for said in table.beyond_verdict]
    return shown


def of_arms(tables: Tables, physics: Perturbation) -> str:
    """What the arms of scale, rule and clipping amount to, with the measured numbers (Markdown)."""
    looks, summary = tables.get("arms_diagnostics"), tables["summary"]
    if "arms" not in tables:
        return "The arms are not among these parameters (`-p closer all`)."
    lines = []
    ends = [summary.severity.iloc[0], summary.severity.iloc[-1]]
    if looks is not None and physics.random and {arms.DIFFERENTIATED, arms.DETACHED} <= set(looks.arm):
        median = looks.groupby(["arm", "severity"])[["variance", "top"]].median()
        one, other = (median.loc[arm].loc[ends] for arm in (arms.DIFFERENTIATED, arms.DETACHED))
        heavy = [
            f"{format.percent(at.top.iloc[0], 2)} at the mildest and {format.percent(at.top.iloc[1], 2)} at the "
            "harshest"
            for at in (one, other)
        ]
        lines.append(
            f"- **Variance over signal**, from {_at(ends[0], physics)} to {_at(ends[1], physics)}: "
            f"{one.variance.iloc[0]:.2g} to {one.variance.iloc[1]:.2g} with the scale differentiated, "
            f"{other.variance.iloc[0]:.2g} to {other.variance.iloc[1]:.2g} with it detached. The largest weight of "
            f"every layer, one each, carries {heavy[0]} of the squared mean gradient in the first case, {heavy[1]} in "
            "the second."
        )
    clear = summary[(summary.damage >= CLEAR_DAMAGE)].severity
    at = [severity for severity in clear.unique() if severity in set(tables["arms"].severity)]
    if at:
        here = tables["arms"][tables["arms"].severity == at[0]]
        said = []
        for arm, group in here.groupby("arm", sort=False):
            # Each against networks that were never trained, on the same hardware.
            won, span = recovery(group.clean - group.unaware, group.accuracy - group.unaware)
            # What has diverged in some seed has no number.
            if won != won:
                continue
            said.append(f"{arm} {share(won)} {interval(*span)}")
        if said:
            lines.append(f"- **Recovery** at {_at(at[0], physics)}: {'; '.join(said)}.")
        vanilla = summary[(summary.severity == at[0]) & (summary.rule == "autograd")]
        if len(vanilla) and vanilla.beyond.notna().all():
            row = vanilla.iloc[0]
            text = (
                f"- **By training**, at {_at(at[0], physics)}. Of what the best measure without training leaves, "
                f"vanilla training wins back {share(row.beyond)} {interval(row.beyond_low, row.beyond_high)}"
            )
            # Where doing nothing is the best measure the two are one number.
            same = share(row.recovery) == share(row.beyond)
            lines.append(
                f"{text}." if same else f"{text}; against the untouched network it seems to be {share(row.recovery)}."
            )
    return "\n".join(lines)


def question(name: str) -> str:
    """What the variants of a class are, and what to look for (Markdown); empty where it has none."""
    return _QUESTIONS.get(name, "")


#: What is said of a difference that is there and below its criterion.
_LESS = f"below the {POINTS:g} points of the criterion"

#: What the variants of a class amount to: a claim, what it says where it holds, and where it does not.
_CLOSER_UP: dict[str, dict[str, tuple[str, str]]] = {
    "read_noise": {
        "variants.scale": (
            "With the scale kept {value:.1f} points{each} are missing: a part of the way around read noise leads "
            "through the window.",
            "With the scale kept only {value:.1f} points{each} are missing: what training finds against read noise is "
            "more "
            "than a finer window.",
        )
    },
    "variability": {
        "variants.scale": (
            "Kept, the scale costs {value:.1f} points{each}, so that a part of what training wins against variability "
            "is "
            "precision, bought by a smaller largest weight.",
            "Kept, the scale costs {value:.1f} points{each}: against variability training finds weights that bear "
            "errors.",
        )
    },
    "drift": {
        "variants.compensation": (
            "Without training the factor is worth {value:.1f} points{each}.",
            f"Without training the factor is worth {{value:.1f}} points{{each}}, {_LESS}.",
        ),
        "variants.readout": (
            "Read with noisy devices it costs less than a point ({value:.2f}).",
            "Read with noisy devices it loses {value:.1f} points{each}.",
        ),
        "variants.no_training": (
            "Set against training through uncompensated drift it is ahead by {value:.1f} points{each}.",
            "Training through uncompensated drift does as well.",
        ),
    },
    "stuck_at": {
        "variants.stuck_on": (
            "In a network without training stuck on costs {value:.0f} points{each} more than stuck off.",
            "In a network without training {value:.1f} points{each} lie between stuck on and stuck off, no more.",
        ),
        "variants.clusters": (
            "Nor do clusters cost it more than a point more than as many scattered faults.",
            "Clusters cost it {value:.1f} points{each} more than as many scattered faults.",
        ),
        "variants.scale": (
            "Faults of the size of full scale make a smaller scale welcome to training: kept, it costs {value:.1f} "
            "points{each}.",
            "Of the scale, training against faults makes little use: kept, it costs {value:.1f} points{each}.",
        ),
    },
    "ir_drop": {
        "variants.backward": (
            "Of the suspects, the backward pass is guilty: {value:.0f} points{each} are lost by going straight "
            "through.",
            f"Going straight through costs {{value:.1f}} points{{each}}, {_LESS}.",
        ),
        "variants.bounded": (
            "So is the bounded conductance, by {value:.0f} points{each}.",
            f"The bounded conductance costs {{value:.1f}} points{{each}}, {_LESS}.",
        ),
        "variants.load": (
            "The load is worth {value:.0f} points{each}: with every cell's share of the loss frozen, so many come "
            "back.",
            f"Freezing the load gains {{value:.1f}} points{{each}}, {_LESS}.",
        ),
        "variants.formula": (
            "And the cheap formula is good enough to train on: judged on the circuit, its networks are {value:.1f} "
            "points{each} away.",
            "And the cheap formula is not good enough to train on.",
        ),
    },
    "adc": {
        "variants.range": (
            "The best quantile beats the largest current by {value:.1f} points{each}, untrained.",
            "Between the best quantile and the largest current lie {value:.1f} points{each}, no more.",
        ),
        "variants.learned": (
            "To training a learned range adds {value:.1f} points{each}.",
            "To training a learned range adds {value:.1f} points{each}, less than one.",
        ),
    },
}

#: The conclusion of a class, in the same form; a third sentence stands where the seeds leave the claim open.
_CONCLUSIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "read_noise": {
        "arms.trained": (
            "Read noise is a case for training: where it first hurts, training wins back at least half of what "
            "clipping leaves.",
            "Clip first: where read noise first hurts, training wins back less than half of what clipping leaves.",
        ),
        "arms.detached": (
            "Use a gradient that knows the scale of its hardware, which is worth {value:.1f} points{each}.",
            f"That the gradient knows the scale of its hardware is worth {{value:.1f}} points{{each}}, {_LESS}.",
        ),
        "arms.column": (
            "In the circuit, a scale for each column buys {value:.1f} points{each} before any training.",
            f"In the circuit, a scale for each column buys {{value:.1f}} points{{each}}, {_LESS}.",
        ),
        "won_back.autograd.harshest": (
            "Even of the strongest noise shown vanilla training takes half of the cost away.",
            "At the strongest noise shown vanilla training wins back less than half: read several times and "
            "average, or build larger devices.",
        ),
    },
    "variability": {
        "known": (
            "If you can measure the chip, train for the chip: with its own errors in every step, half of the loss "
            "comes back even where they are largest.",
            "Measuring the chip and training for it does not win back half of the loss where its errors are largest.",
        ),
        "arms.trained": (
            "For chips that nobody has measured training is still worth its while: half of what clipping leaves comes "
            "back where variability first hurts.",
            "For chips that nobody has measured, clip: of what that leaves where variability first hurts, training "
            "wins back less than half.",
        ),
        "arms.recipe": (
            "The field's recipe, noise injection with clipping, is ahead of vanilla training by {value:.1f} "
            "points{each}.",
            "The field's recipe, noise injection with clipping, is not ahead of vanilla training.",
        ),
    },
    "drift": {
        "costs": (
            "Drift costs this network its five points at the end of the axis.",
            "Drift does not cost this network five points, whatever the time.",
            "Whether drift costs this network five points at all, even at the end of the axis, its seeds do not "
            "decide; verdicts that divide by so small a loss stay open.",
        ),
        "variants.no_training": (
            "Calibrate: a factor per layer that is read out and divided off is {value:.1f} points{each} ahead of "
            "training "
            "through the drift.",
            "A factor per layer is no better than training through the drift; it takes one read-out and no training.",
        ),
        "known": (
            "Known, the exponents of one chip can be trained for: half of what they cost comes back.",
            "Trained for its own known exponents, one chip gets back less than half of what they cost.",
            "Nor do the seeds decide whether knowing the exponents of one chip would help.",
        ),
    },
    "stuck_at": {
        "variants.stuck_on": (
            "Look at how your devices fail. Those stuck on cost {value:.0f} points{each} more than as many stuck off, "
            "and a "
            "switch that disconnects one would turn it into one stuck off.",
            f"Devices stuck on cost {{value:.1f}} points{{each}} more than as many stuck off, {_LESS}.",
        ),
        "known": (
            "Test the chip and train with the map of its faults: half of the loss comes back even where they are most.",
            "Even with the map of its faults, a chip with the most of them does not get back half of the loss.",
        ),
        "arms.trained": (
            "Without the map training still wins back half of what clipping leaves where faults first hurt.",
            "Without the map, where faults first hurt, training wins back less than half of what clipping leaves.",
        ),
        "arms.recipe": (
            "If you must train without it, clip while you inject noise: that is {value:.1f} points{each} ahead of "
            "vanilla.",
            "Clipping while noise is injected is no better than vanilla training without it.",
        ),
    },
    "ir_drop": {
        "won_back.autograd.harshest": (
            "Train by a gradient that goes through the circuit: half of what wires cost comes back, even at the "
            "largest resistance shown.",
            "At the largest resistance shown a gradient that goes through the circuit wins back less than half.",
        ),
        "won_back.straight_through.harshest": (
            "It may even ignore them: straight through, half of the loss comes back as well.",
            "It must not ignore them: straight through, less than half of the loss comes back there.",
        ),
        "variants.formula": (
            "It need not solve the circuit in every step: trained on the cheap formula, networks are {value:.1f} "
            "points{each} away.",
            "It has to solve the circuit: trained on the cheap formula, networks are {value:.1f} points{each} behind.",
        ),
        "clipped.half": (
            "Clipping, made for noise, wins back half against wires too.",
            "Clipping, made for noise, wins back less than half here: larger conductances load the wires more.",
        ),
    },
    "adc": {
        "gradient.live": (
            "The vanilla gradient reaches the weights.",
            "Vanilla training has nothing to go by, since rounding passes no gradient.",
        ),
        "won_back.straight_through.mildest": (
            "Go straight through: half of the loss comes back where the resolution first hurts.",
            "Straight-through has something to go by and wins back less than half where the resolution first hurts.",
        ),
        "variants.range": (
            "The range comes first. Calibrated well it is worth {value:.1f} points{each}, and costs a few recorded "
            "currents.",
            "The range is no remedy here: calibrated well it is worth {value:.1f} points{each}.",
        ),
        "clipped.half": (
            "Clipping the weights wins back half as well.",
            "Clipping the weights wins back less than half: the range follows the currents anyhow.",
        ),
    },
}


def _decided(
    findings: Findings, physics: Perturbation, sentences: Mapping[str, tuple[str, ...]], tables: Tables
) -> str:
    page, each = f"perturbation_{physics.name}", _each(tables, physics)
    told = (
        decided(findings, {f"{page}.{name}": said}, {"each": each.get(name, "")}) for name, said in sentences.items()
    )
    return " ".join(filter(None, told))


def _each(tables: Tables, physics: Perturbation) -> dict[str, str]:
    """The differences of variants and arms severity by severity, of which findings are the mean: in brackets, by the
    finding's id.
    """
    found = {}
    for one in variants.CONTRASTS.get(physics.name, ()):
        if "variants" not in tables:
            break
        other = one.other_column or one.column
        sides = (
            _by_severity(tables["variants"], "variant", *side) for side in ((one.one, one.column), (one.other, other))
        )
        found[f"variants.{one.id}"] = next(sides) - next(sides)
    if "arms" in tables:
        table, accuracy = tables["arms"], tables["accuracy"]
        plain = accuracy[accuracy.rule == "unaware"].assign(arm="plain", unaware=lambda rows: rows.accuracy)
        table = pd.concat([table, plain], ignore_index=True)
        mean = tables["summary"].groupby("severity").damage.first()
        clear = list(mean[mean >= CLEAR_DAMAGE].index)
        for name, with_, without, column in (
            ("detached", arms.DIFFERENTIATED, arms.DETACHED, "accuracy"),
            ("recipe", arms.RECIPE, arms.DIFFERENTIATED, "accuracy"),
            ("column", arms.COLUMN, "plain", "unaware"),
        ):
            both = _by_severity(table, "arm", with_, column) - _by_severity(table, "arm", without, column)
            found[f"arms.{name}"] = both[[severity in clear for severity in both.index]]
    return {name: _ranging(values.dropna(), physics) for name, values in found.items()}


def _by_severity(table: pd.DataFrame, key: str, label: str, column: str) -> pd.Series:
    """The mean over seeds at every severity, in points."""
    return 100 * table[table[key] == label].groupby("severity", sort=False)[column].mean()


def _ranging(values: pd.Series, physics: Perturbation) -> str:
    """Numbers by severity in brackets: each of two, of more the least and the most."""
    if len(values) < 2:
        return ""
    ends = values if len(values) == 2 else values.loc[[values.idxmin(), values.idxmax()]]
    said = [f"{Shown(value):.1f} at {_at(severity, physics)}" for severity, value in ends.items()]
    many = "the mean of" if len(values) == 2 else f"the mean over {len(values)} severities, between"
    return f" ({many} {' and '.join(said)})"


def closer_up(findings: Findings, physics: Perturbation, tables: Tables | None = None) -> str:
    """What the variants of a class amount to (Markdown); empty where it has none or they were not run."""
    return _decided(findings, physics, _CLOSER_UP.get(physics.name, {}), tables or {})


def conclusion(findings: Findings, physics: Perturbation, tables: Tables | None = None) -> str:
    """What to do about this class (Markdown): its own sentences, and what became of training rule by rule."""
    own = _decided(findings, physics, _CONCLUSIONS.get(physics.name, {}), tables or {})
    return "\n\n".join(filter(None, [f"**What to do.** {own}" if own else "", follows(findings, physics)]))


def short_answer(page: Page) -> str:
    """The page's answer: what the class costs at its harshest, and what training makes of it there and where it first
    hurts, each with its severity (Markdown); empty where nothing was judged.
    """
    findings, summary = page.findings, page.tables["summary"]
    physics = cast(PerturbationStudy, page.subject).physics
    own = f"perturbation_{physics.name}"
    costs = findings.get(f"{own}.costs")
    if costs is None:
        return UNJUDGED
    clear = summary[summary.damage >= CLEAR_DAMAGE].severity
    harshest = summary.severity.iloc[-1]
    taken = f"{costs.value:.0f} of 100 test pictures from a network that was trained without it"
    at = f"At its harshest ({_at(harshest, physics)})"
    told = [
        {
            Outcome.HOLDS: f"{at} it takes {taken}.",
            Outcome.DOES_NOT_HOLD: f"Little: {in_sentence(at)} it takes {taken}.",
            Outcome.INCONCLUSIVE: f"{at} it takes about {taken}; its seeds leave open whether that is "
            f"{points(CLEAR_DAMAGE):g} or more.",
        }[costs.outcome]
    ]
    first = clear.iloc[0] if len(clear) else harshest
    places = {"harshest": (harshest, "At the harshest")}
    if first != harshest:
        where = f"Where it first costs {points(CLEAR_DAMAGE):g} points ({_at(first, physics)})"
        places = {"mildest": (first, where), **places}
    training = "training with it in the forward pass"
    for place, (severity, where) in places.items():
        won = findings.get(f"{own}.won_back.autograd.{place}")
        if won is None:
            continue
        row = summary[(summary.severity == severity) & (summary.rule == "autograd")].iloc[0]
        if row.verdict == "harmed":
            more = Shown(100 * (row.unaware - row.accuracy))
            told.append(f"{where}, {training} does harm: it costs another {more:.1f} points.")
            training = "training"
            continue
        told.append(
            {
                Outcome.HOLDS: f"{where}, {training} wins back half of the loss or more.",
                Outcome.DOES_NOT_HOLD: f"{where}, {training} wins back less than half of the loss.",
                Outcome.INCONCLUSIVE: f"{where}, it is open whether {training} wins back half of the loss.",
            }[won.outcome]
        )
        training = "training"
    beyond = findings.get(f"{own}.arms.beyond")
    if beyond is not None:
        every = f"all severities that cost {points(CLEAR_DAMAGE):g} points"
        over = f"In the mean over {every}" if first != harshest else "There"
        told.append(
            {
                Outcome.HOLDS: f"{over} training wins more than the best measure that needs none.",
                Outcome.DOES_NOT_HOLD: f"{over} the best measure that needs no training wins as much.",
                Outcome.INCONCLUSIVE: f"{over} it is open whether training wins more than the best measure that needs "
                "none.",
            }[beyond.outcome]
        )
    return " ".join(told)


def law(physics: Perturbation) -> list[Callable[..., object]]:
    """The methods in which its class says what it does to voltages, conductances, currents and digital numbers."""
    stages = ("moved", "voltage", "conductance", "current", "digital")
    own = type(physics).__mro__[: type(physics).__mro__.index(Perturbation)]
    return [vars(kind)[name] for kind in own for name in stages if name in vars(kind)]


def beforehand(tables: Tables, physics: Perturbation) -> str:
    """What the gradients say where the damage is clear, rule by rule, with the measured numbers (Markdown)."""
    summary = tables["summary"]
    clear = summary[(summary.damage >= CLEAR_DAMAGE) & summary.recovery.notna()]
    if not len(clear):
        return ""
    severity = clear.severity.iloc[0]
    parts = [
        f"the gradient of {NAMES[row.rule]} has {cosine(row.cosine)} and a truth of "
        f"{share(row.truth)}, and afterwards {share(row.recovery)} of the loss comes back"
        for row in clear[clear.severity == severity].itertuples()
    ]
    return (
        f"Read the panels against the recovery above: at {_at(severity, physics)}, the mildest severity that costs "
        f"{points(CLEAR_DAMAGE):g} points, {'; '.join(parts)}."
    )


_OUTCOMES = {
    Outcome.HOLDS: ("wins back at least half of the loss", "win back at least half of the loss"),
    Outcome.DOES_NOT_HOLD: ("does not win back half of the loss", "do not win back half of the loss"),
    Outcome.INCONCLUSIVE: (
        "may or may not win back half of the loss (the seeds do not decide)",
        "may or may not win back half of the loss (the seeds do not decide)",
    ),
}


def _said(found: Finding) -> tuple[str, str]:
    """What became of a claim about the loss, of one subject and of several; one without a loss, or without a number,
    says why.
    """
    if found.note in ("", ONE_SEED):
        return _OUTCOMES[found.outcome]
    return f"leaves open what comes back ({found.note})", f"leave open what comes back ({found.note})"


def _spoken(physics: Perturbation) -> str:
    """The name of a class within a sentence."""
    return in_sentence(physics.title)


def follows(findings: Findings, physics: Perturbation) -> str:
    """What became of training through this class, as the findings of its page say it, in one sentence (Markdown)."""
    page = f"perturbation_{physics.name}"
    places = {
        "mildest": f"where it first costs {points(CLEAR_DAMAGE):g} points",
        "harshest": "at the harshest severity",
    }
    # What is said alike of several is said once.
    alike: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for rule in ("autograd", "straight_through"):
        found = {where: findings.get(f"{page}.won_back.{rule}.{where}") for where in places}
        said = tuple((*_said(one), places[where]) for where, one in found.items() if one is not None)
        if said:
            alike.setdefault(said, []).append(NAMES[rule])
    known = findings.get(f"{page}.known")
    if known is not None:
        alike.setdefault(((*_said(known), places["harshest"]),), []).append("vanilla training of a chip that it knows")
    parts = []
    for said, subjects in alike.items():
        ends = list(dict.fromkeys(part[len(subjects) > 1] for part in said))
        where = [part[2] for part in said]
        told = f"{ends[0]} {(', nor ' if ends[0].startswith('do') else ' and ').join(where)}"
        if len(ends) > 1:
            told = ", and ".join(f"{part[len(subjects) > 1]} {part[2]}" for part in said)
        parts.append(f"{listed(subjects)} {told}")
    rules = findings.get(f"{page}.rules")
    if rules is not None and rules.outcome != Outcome.INCONCLUSIVE:
        more = "more" if rules.outcome == Outcome.HOLDS else "no more"
        parts.append(f"all in all straight-through wins back {more} than vanilla training")
    beyond = findings.get(f"{page}.arms.beyond")
    if beyond is not None and beyond.outcome != Outcome.INCONCLUSIVE:
        more = "more" if beyond.outcome == Outcome.HOLDS else "no more"
        parts.append(f"vanilla training wins back {more} than the best measure that needs none, clipping among them")
    return f"In short, {_spoken(physics)}: {'; '.join(parts)}." if parts else ""
