"""The sentences and tables of the page on composed chips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.hardware.devices import HARDWARE, ORDER
from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.criteria.hardware import LOSS_ERROR, points
from paper.studies.hardware import NAMES
from paper.studies.mixture import gradient_signal, split
from paper.words.numbers import cosine, interval, share

_STAGES = {
    "voltage": "on the voltages that enter",
    "conductance": "on the conductances",
    "current": "on the currents that leave",
    "digital": "behind the converter",
}


def order() -> str:
    """The order in which a signal meets the parts of a chip (Markdown)."""
    lines = []
    for place, kind in enumerate(ORDER, 1):
        stages = [words for method, words in _STAGES.items() if method in vars(kind)]
        lines.append(f"{place}. **{kind.title}**: {', and '.join(stages)}")
    return "\n".join(lines)


def named(parts: Sequence[str]) -> str:
    """The parts of a chip as the reader says them."""
    titles = [HARDWARE[part].title for part in parts]
    titles = [title if title.isupper() or title[:2].isupper() else title.lower() for title in titles]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def story(tables: Tables) -> str:
    """What the composed chips cost and what comes back, in sentences with the measured numbers (Markdown)."""
    summary = tables["summary"]
    rows = summary[summary.rule == summary.rule.iloc[0]]
    composed = rows[rows.kind != "alone"]
    full = rows[rows.kind == "all"].iloc[0]
    far = composed.assign(beyond=composed.damage - composed.summed)
    pairs = far[far.kind == "pair"].sort_values("beyond", ascending=False)
    near = int((pairs.beyond.abs() <= LOSS_ERROR).sum())
    lines = [
        f"- The chip with all parts costs {100 * full.damage:.0f} points; its parts cost {100 * full.summed:.0f} "
        "together."
    ]
    if len(pairs):
        top = pairs.iloc[0]
        lines.append(
            f"- {near} of {len(pairs)} pairs cost what their parts cost together, to {points(LOSS_ERROR):g} points. "
            f"Furthest off: {named(split(top.parts))}, with {100 * top.damage:.0f} points instead of "
            f"{100 * top.summed:.0f}."
        )
    for row in summary[(summary.kind == "all") & summary.recovery.notna()].itertuples():
        rule = "vanilla training on the converter's staircase" if row.rule == "staircase" else NAMES[row.rule]
        lines.append(
            f"- On the chip with all parts {rule} brings the accuracy from {100 * row.unaware:.0f} to "
            f"{100 * row.accuracy:.0f} %, a "
            f"recovery of {share(row.recovery)} {interval(row.recovery_low, row.recovery_high)}; its parts "
            f"let one expect {share(row.weighted)}. It is *{row.verdict}*, and the worst of its parts is *{row.worst}*."
        )
    return "\n".join(lines)


def on_removal(tables: Tables) -> str:
    """Which part is worth most when it is removed, with the measured numbers (Markdown); empty where none was."""
    table = tables["removed"]
    if table.empty:
        return ""
    alone = table.groupby("part").alone.mean()
    parts = [
        f"Alone, {named([alone.idxmax()])} costs most ({100 * alone.max():.0f} points) and {named([alone.idxmin()])} "
        f"least ({100 * alone.min():.0f})."
    ]
    for rule, group in table.groupby("rule", sort=False):
        back = group.groupby("part").back.mean()
        if back.isna().all():
            continue
        when = "Without training" if rule == "unaware" else f"After {NAMES[rule]}"
        parts.append(
            f"{when} the full chip gets most back when {named([back.idxmax()])} is removed: "
            f"{100 * back.max():.0f} points."
        )
    return " ".join(parts)


def on_gradients(tables: Tables) -> str:
    """What the gradients at the fork say of the full chip (Markdown)."""
    if tables["diagnostics"].empty:
        return ""
    table = gradient_signal(tables["diagnostics"]).mean()
    return (
        f"At the fork the vanilla gradient of the full chip has {cosine(table.cosine)}, "
        f"and {share(table.measured)} of its second moment is signal; adding up the variances of its parts one expects "
        f"{share(table.added)}."
    )


def twos(tables: Tables) -> list[str]:
    """The chips with two parts."""
    return [name for name in tables["summary"].parts.unique() if len(split(name)) == 2]


def verdicts(tables: Tables) -> pd.DataFrame:
    """The table of the page, rounded for reading."""
    table = tables["summary"]
    everything = split(table.parts[table.kind == "all"].iloc[0])

    def short(name: str, kind: str) -> str:
        if kind == "all":
            return kind
        lacking = [HARDWARE[part].title for part in everything if part not in split(name)]
        return f"all but {lacking[-1]}" if kind == "all but one" else " + ".join(HARDWARE[p].title for p in split(name))

    table = table[table.kind != "alone"]
    chips = [short(name, kind) for name, kind in zip(table.parts, table.kind, strict=True)]
    shown = table[["rule"]].join((100 * table[["unaware", "accuracy", "damage", "summed"]]).round(1))
    shown.insert(0, "chip", chips)
    for column in ("recovery", "weighted"):
        shown[column] = ["–" if value != value else share(value) for value in table[column]]
    return shown.assign(verdict=table.verdict, worst=table.worst).reset_index(drop=True)


def on_pairs(tables: Tables) -> str:
    """Which pairs do what one would expect, and what is behind those that do not (Markdown)."""
    summary = tables["summary"]
    pairs = summary[(summary.rule == summary.rule.iloc[0]) & (summary.kind == "pair")]
    if pairs.empty:
        return ""
    far = pairs[(pairs.damage - pairs.summed).abs() > LOSS_ERROR]
    parts = [set(split(name)) for name in far.parts]
    near = (
        f"{len(pairs) - len(far)} of {len(pairs)} pairs cost what their parts cost together, to {points(LOSS_ERROR):g} "
        "points."
    )
    return f"{near} {_DRIFT}" if parts and all("drift" in one for one in parts) else near


_DRIFT = (
    "Those that do not have drift in common. Drift takes away signal from all devices alike, which a network hardly "
    "minds, since what counts is which output is largest. But what comes *after* drift does not shrink with it: a "
    "device that is stuck at full conductance stays there, and a read fluctuates as much as ever. Measured against the "
    "signal that is left, both have grown. What comes *before* drift, an error of programming, shrinks along; and a "
    "converter whose range is calibrated shrinks with its signal too."
)

#: Sentences about what came out, each with the findings and outcomes that it rests on.
_SAID = {
    "recoveries": (
        "The mean recovery of the parts is not that of the chip. Drift takes away signal, and with it the gradient, so "
        "that training through it is slow; alone, where there is hardly anything to win, a network that is late shows "
        "as a bad recovery. In company the same drift costs much, but what it costs "
        "is other parts' noise, grown; and noise is what vanilla training can deal with.",
        {"recovery.autograd": Outcome.DOES_NOT_HOLD},
    ),
    "worst": (
        "The worst part is a poor judge, because a verdict divides by a loss: alone, a part with a small loss is "
        "*not compensated* by a trifle.",
        {"verdict.worst.autograd": Outcome.DOES_NOT_HOLD},
    ),
    "staircase": (
        "One part is absolute. Where a single one has a derivative of zero, no gradient reaches anything, and nothing "
        "else on the chip can be trained through either. That is a matter of the backward rule, and of one line of "
        "code.",
        {"staircase": Outcome.HOLDS},
    ),
    "gradients": (
        "So the gradients do not add up either. On a chip that does this much damage the loss is steep, and every "
        "sampled gradient points away from it: the mean grows with the damage, and its share in one gradient with it. "
        "A few gradients of the composed chip itself are the better adviser than any sum over its parts.",
        {"gradients.add": Outcome.DOES_NOT_HOLD},
    ),
    "factor": (
        "The factor undoes the loss of signal and nothing else, and that is worth more than training without it. "
        "Training *instead of* the factor has to fight a shrunken signal within the same number of steps; training "
        "*on top of* it meets noise only.",
        {"pcm.factor": Outcome.HOLDS},
    ),
    "beyond": (
        "Verdicts on single classes do not add up to a verdict on a chip: the chip costs more than its parts.",
        {"losses.beyond": Outcome.HOLDS},
    ),
    "noise": (
        "What does add up is noise over signal, if one keeps the order of the physics. In practice: ask of every part "
        "whether it takes away signal or adds noise, and whether that noise has a size of its own. Take care of the "
        "signal first, because it decides what all later noise is worth.",
        {"noise.ordered": Outcome.HOLDS},
    ),
}


def on_curve(findings: Findings, tables: Tables) -> str:
    """How close chips lie to the curve that read noise alone draws (Markdown); empty where they do not follow it."""
    found = findings.get("composed.noise.follows")
    if found is None or found.outcome is not Outcome.HOLDS:
        return ""
    line = tables["ruler"].groupby("severity")[["measured", "damage"]].mean().sort_values("measured")
    means = tables["signal"].groupby("parts").measured.mean()
    summary = tables["summary"]
    losses = summary[summary.rule == summary.rule.iloc[0]].set_index("parts").damage
    both = means.to_frame().join(losses, how="inner")
    both = both[both.measured <= line.measured.max()]
    off = (both.damage - np.interp(both.measured, line.measured, line.damage)).abs().max()
    return (
        f"All chips lie close to one curve, whatever they are made of: at most {100 * off:.0f} points off that which "
        "read noise alone draws."
    )


def said(findings: Findings, *names: str) -> str:
    """Sentences about what came out (Markdown): those whose findings came out so."""
    return " ".join(
        text
        for text, rests in (_SAID[name] for name in names)
        if all((found := findings.get(f"composed.{own}")) and found.outcome == out for own, out in rests.items())
    )
