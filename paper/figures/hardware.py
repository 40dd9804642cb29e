"""Figures of Part II. They draw tables and train nothing."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.hardware.devices import HARDWARE
from lib.hardware.perturbations import PERTURBATIONS, Perturbation
from paper import published
from paper.criteria.hardware import CLEAR_DAMAGE, COMPENSATED, DAMAGE
from paper.figures.style import (
    COLOURS,
    ON_MAP,
    VERDICTS,
    Look,
    caption,
    diamonds,
    figure,
    ink,
    interval,
    legend_above,
    looks,
    nothing,
    order,
    this_run,
    verdict_mark,
    whiskers,
)
from paper.studies.arms import COLUMN, DETACHED, DIFFERENTIATED, INJECTION, STRAIGHT
from paper.studies.bench import Look as ChipLook
from paper.studies.bench import Response
from paper.studies.hardware import NAMES
from paper.studies.separation import JOINT, LABELS, POOLED, SCORES, TRIVIAL
from paper.words.format import duration
from paper.words.numbers import share
from paper.words.spelling import in_sentence, spelt

RULES = {
    "unaware": Look(COLOURS["grey"], "s", "unaware"),
    "autograd": Look(COLOURS["blue"], "o", "HAT, vanilla"),
    "noise_injection": Look(COLOURS["purple"], "P", "HAT, noise injection"),
    "straight_through": Look(COLOURS["orange"], "^", "HAT, straight-through"),
    "staircase": Look(COLOURS["sky"], "v", "HAT, on the staircase"),
}
NETWORKS = {
    "mlp": Look(COLOURS["black"], "o", spelt("mlp")),
    "cnn": Look(COLOURS["black"], "s", spelt("cnn")),
    "cnn_norm": Look(COLOURS["black"], "P", spelt("cnn_norm")),
    "vit": Look(COLOURS["black"], "v", spelt("vit")),
    "resnet": Look(COLOURS["black"], "X", spelt("resnet")),
    "resnet_narrow": Look(COLOURS["black"], "^", spelt("resnet_narrow")),
}
KINDS = {
    "no training": Look(COLOURS["vermillion"], "o", "what is programmed"),
    "training": Look(COLOURS["blue"], "o", "training"),
    "calibration": Look(COLOURS["orange"], "o", "calibration"),
    "training per chip": Look(COLOURS["sky"], "o", "training per chip"),
    "architecture": Look(COLOURS["green"], "o", "architecture"),
    "circuit": Look(COLOURS["purple"], "o", "circuit"),
}
_CLASS_COLOURS = {
    "read_noise": "blue",
    "variability": "orange",
    "drift": "green",
    "stuck_at": "purple",
    "ir_drop": "vermillion",
    "adc": "sky",
}
#: Colours of the ground on which recovery is shown: compensated, and not.
_COMPENSATED, _NOT = (verdict_mark(name)[1] for name in ("compensated", "not compensated"))


def physics_of(name: str) -> Perturbation | None:
    """The perturbation of that name, None where there is none."""
    return PERTURBATIONS.get(name) or HARDWARE.get(name)


def title(name: str) -> str:
    """The title of a perturbation; of one that is not known, its name."""
    physics = physics_of(name)
    return physics.title if physics else name.replace("_", " ").capitalize()


def classes(names: Iterable[str]) -> dict[str, Look]:
    """Colour and title of every perturbation; one beyond the six has the same colour on every page."""
    known = {name: Look(COLOURS[colour], "o", title(name)) for name, colour in _CLASS_COLOURS.items()}
    found = looks([*PERTURBATIONS, *names], known)
    return {name: found[name]._replace(label=title(name)) for name in dict.fromkeys(names)}


def severity_label(severity: float, physics: Perturbation | None) -> str:
    """A severity as the reader says it: a time in hours or years, otherwise the number."""
    return duration(severity) if physics and physics.unit == "s" else f"{severity:g}"


def _severity_axis(axis: Axes, severities: Sequence[float], physics: Perturbation, label: bool = True) -> np.ndarray:
    """Severities evenly spaced from mild to harsh; returns their positions."""
    places = np.arange(len(severities))
    axis.set_xticks(places, [severity_label(severity, physics) for severity in severities])
    axis.set_xlim(-0.4, len(severities) - 0.6)
    if label:
        unit = "" if physics.unit in ("", "s") else f" ({physics.unit})"
        axis.set_xlabel(f"{_SHORT.get(physics.name, physics.measures)}{unit}, harsher to the right")
    published_band(axis, severities, physics.name)
    return places


#: What captions say of the band.
_BAND = " Grey: where published devices lie."


def published_band(axis: Axes, severities: Sequence[float], name: str, label: bool = False) -> None:
    """A grey band where published devices lie on an axis of severities that stand at 0, 1, 2 and so on.

    Its harsh end is a dotted line, which is all of it where even the mildest severity is beyond them.
    """
    known = published.place(name, severities)
    if known is None:
        return
    low, high = (min(max(end, -0.4), len(severities) - 0.6) for end in known)
    text = "published devices" if label else "_"
    axis.axvspan(low, high, color=COLOURS["grey"], alpha=0.16, lw=0, zorder=0, label=text)
    axis.axvline(high, color=COLOURS["grey"], ls=":", lw=1.2, zorder=0)


_SHORT = {
    "read_noise": "noise of one device",
    "variability": "programming error",
    "drift": "time since programming",
    "stuck_at": "share stuck",
    "ir_drop": "wire resistance per segment",
    "adc": "resolution",
    "dac": "resolution",
    "pcm": "time since programming",
}


def _severities(physics: Perturbation | None, *tables: pd.DataFrame) -> list[float]:
    """All severities of the tables, from mild to harsh where it is known which is which."""
    found = order("severity", *tables)
    return sorted(found, reverse=physics.off > physics.high) if physics else found


def _diamonds(axis: Axes, severities: Sequence[float], values: pd.Series, scale: float = 1, shift: float = 0) -> None:
    """This run's ``values``, whose index are severities, over an axis on which these are evenly spaced."""
    diamonds(axis, [severities.index(severity) + shift for severity in values.index], scale * values.to_numpy())


def accuracy(table: pd.DataFrame, physics: Perturbation, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Accuracy over severity: clean, unaware, and trained under each backward rule; mean and 5th
    percentile.
    """
    again = this_run(rerun, table)
    drawn, axis = figure(6.8, 4.1)
    severities = _severities(physics, table, again)
    places = _severity_axis(axis, severities, physics)
    axis.axhline(100 * table.clean.mean(), color=COLOURS["black"], ls="--", lw=1.2, label="clean, no hardware")
    for rule, look in looks(order("rule", table, again), RULES).items():
        means = table[table.rule == rule].groupby("severity")[["accuracy", "low"]].mean().reindex(severities) * 100
        axis.plot(places, means.accuracy, look.mark + "-", color=look.colour, label=look.label, ms=5)
        axis.fill_between(places, means.low, means.accuracy, color=look.colour, alpha=0.16, lw=0)
        _diamonds(axis, severities, again[again.rule == rule].groupby("severity").accuracy.mean(), 100)
    drawn_means = [part.groupby(["rule", "severity"])[["low", "accuracy"]].mean() for part in (table, again)]
    lowest = 100 * min(float(means.min().min()) for means in drawn_means if len(means))
    # Where little is lost the axis begins near what is shown: lines that lie on each other say nothing.
    begins = math.floor(lowest - 1) if lowest > 60 else 0
    if not begins:
        axis.axhline(10, color=COLOURS["grey"], ls=":", lw=1, label="chance")
    axis.set(ylabel="test accuracy (%)", ylim=(begins, 100 if begins else 102))
    legend_above(drawn, axis, 3)
    chips = int(table.chips.iloc[0])
    shown = (
        f"{chips} unseen chips, bands: down to their 5th percentile" if physics.random else "one chip (all are alike)"
    )
    caption(
        drawn,
        f"The cost of {in_sentence(physics.title)}, and what training wins back. Lines: mean over "
        f"{table.seed.nunique()} seeds and {shown}; {int(table.steps.iloc[0])} optimiser steps in all.{_BAND}"
        + (f" The axis begins at {begins} %." if begins else ""),
    )
    return drawn


def diagnostics(table: pd.DataFrame, physics: Perturbation, *, rerun: pd.DataFrame | None = None) -> Figure:
    """The three diagnostics over severity, a line for each backward rule: median over seeds and range."""
    again = this_run(rerun, table)
    drawn, axes = figure(9.2, 3.7, columns=3)
    severities = _severities(physics, table, again)
    panels = (("cosine", "truth"), ("signal",), ("live", "gain"))
    titles = ("expectation consistency", "bounded variance", "sensitivity, relative to clean")
    rules = looks(order("rule", table, again), RULES)
    for axis, columns, heading in zip(axes, panels, titles, strict=True):
        places = _severity_axis(axis, severities, physics, label=axis is axes[1])
        for rule, look in rules.items():
            group, points = (part[part.rule == rule] for part in (table, again))
            for column, style in zip(columns, ("-", ":"), strict=False):
                if rule == "unaware" and column != "truth":
                    continue
                spread = group.groupby("severity")[column].agg(["median", "min", "max"]).reindex(severities)
                mark = look.mark if style == "-" else ""
                axis.plot(places, spread["median"], mark + style, color=look.colour, lw=1.6, ms=4)
                axis.fill_between(places, spread["min"], spread["max"], color=look.colour, alpha=0.13, lw=0)
                _diamonds(axis, severities, points.groupby("severity")[column].median())
        axis.set_title(heading)
        axis.tick_params(axis="x", labelsize=7)
        axis.axhline(1, color="#BBBBBB", lw=0.8)
        axis.axhline(0, color="#BBBBBB", lw=0.8)
    axes[0].set_ylabel("solid: cosine, dotted: truth")
    axes[1].set_ylabel("share of signal")
    axes[2].set_ylabel("solid: live, dotted: gain")
    # The slope of a flat loss over a tiny length may be anything: what runs out of the frame is cut off.
    axes[0].set_ylim(-1.1, 2.1)
    axes[1].set_ylim(-0.05, 1.08)
    handles = [Line2D([], [], color=look.colour, marker=look.mark, label=look.label) for look in rules.values()]
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    caption(
        drawn,
        "What the gradients say at the fork, before any training through the hardware (1 is as good as clean). "
        f"Lines: median over {table.seed.nunique()} seeds; bands: their range, cut off at the frame. The share of "
        "signal is 1 / (1 + tr Cov g / ‖E g‖²); the unaware gradient is the clean one, so only its truth is drawn."
        f"{_BAND}",
    )
    return drawn


def recovery(table: pd.DataFrame, physics: Perturbation, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Recovery over severity from the summary, with what counts as compensated."""
    again = this_run(rerun, table)
    drawn, axis = figure(6.8, 3.6)
    severities = _severities(physics, table, again)
    places = _severity_axis(axis, severities, physics)
    axis.axhspan(COMPENSATED, 1.6, color=_COMPENSATED, alpha=0.12, lw=0)
    axis.axhspan(-1.6, COMPENSATED, color=_NOT, alpha=0.08, lw=0)
    rules = looks(order("rule", table, again), RULES)
    for shift, (rule, look) in zip(_shifts(len(rules), 0.06), rules.items(), strict=True):
        group = table[table.rule == rule].set_index("severity").reindex(severities)
        axis.errorbar(
            places + shift,
            group.recovery,
            yerr=whiskers(group.recovery, group.recovery_low, group.recovery_high),
            color=look.colour,
            capsize=3,
            lw=1.5,
            ms=5,
            marker=look.mark,
            label=look.label,
        )
        _diamonds(axis, severities, again[again.rule == rule].set_index("severity").recovery, shift=shift)
    of_known = table[table.known.notna()].set_index("severity").known
    if len(of_known):
        at = [severities.index(severity) for severity in of_known.index]
        look = RULES["autograd"]._replace(mark="v", label="HAT, vanilla, chip known")
        axis.plot(at, of_known, "v--", color=look.colour, mfc="white", ms=5.5, lw=1.2, label=look.label)
    _diamonds(axis, severities, again[again.known.notna()].set_index("severity").known)
    for severity, group in table[table.damage < DAMAGE].groupby("severity"):
        # Recovery is undefined, and the verdicts say whether that is because nothing is lost.
        said = dict(zip(group.verdict, (rules[rule].label.removeprefix("HAT, ") for rule in group.rule), strict=True))
        text = next(iter(said)) if len(said) == 1 else "\n".join(f"{one}: {rule}" for one, rule in said.items())
        place = severities.index(severity)
        axis.text(place, 0.25, text, rotation=90, ha="center", va="center", fontsize=8, color="#555555")
    axis.text(len(places) - 0.65, 1.04, "compensated", ha="right", fontsize=8, color="#00694D")
    axis.text(len(places) - 0.65, -0.48, "not compensated", ha="right", fontsize=8, color="#A14400")
    axis.set(ylabel="recovery", ylim=(-0.55, 1.15))
    legend_above(drawn, axis, 3)
    caption(
        drawn,
        f"The share of the loss that training wins back. From {COMPENSATED:g} on a severity counts as "
        "compensated. Bars: 95 % bootstrap over seeds; below one point of loss it is undefined."
        + (" Hollow triangles: trained on the chip itself, and judged on it." if len(of_known) else "")
        + _BAND,
    )
    return drawn


def _shifts(count: int, most: float) -> np.ndarray:
    """Where ``count`` marks stand beside each other, so that none covers another."""
    return np.linspace(-most, most, count) if count > 1 else np.zeros(count)


def variants(table: pd.DataFrame | None, physics: Perturbation, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Variants of a class: accuracy without training (open) and after it (filled), a panel for each severity.

    Hardware without variants gives a line that says so.
    """
    if table is None or not len(table):
        return nothing(f"There are no variants of {physics.title.lower()} with these parameters.")
    again = this_run(rerun, table)
    severities, labels = _severities(physics, table, again), order("variant", table, again)
    rules = looks(order("rule", table, again), RULES)
    width = max(9.0, 2.6 * len(severities))
    drawn, axes = figure(width, 0.42 * len(labels) + 1.5, columns=len(severities), sharey=True, squeeze=False)
    known = {label: rules[part.rule.iloc[0]] for label, part in table.groupby("variant")}
    for axis, severity in zip(axes[0], severities, strict=True):
        here, points = (part[part.severity == severity] for part in (table, again))
        _before_and_after(axis, here, points, labels, "variant", known)
        axis.set_title(f"{severity_label(severity, physics)} {_unit(physics)}".strip())
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].set_ylim(len(labels) - 0.5, -0.5)
    _legend_of_rows(drawn, rules.values())
    caption(
        drawn,
        f"{physics.title} closer up: what differs between two rows is one thing, so the distance between their filled "
        "points is what that thing is worth to training, and between their open ones without. Mean over "
        f"{table.seed.nunique()} seeds, bars: 95 % bootstrap.",
    )
    return drawn


def _before_and_after(
    axis: Axes, here: pd.DataFrame, points: pd.DataFrame, labels: Sequence[str], column: str, known: Mapping[str, Look]
) -> None:
    """A row for each of the ``labels``: accuracy without training (open) and after it, at one severity."""
    if len(here):
        axis.axvline(100 * here.clean.mean(), color=COLOURS["black"], ls="--", lw=1.2)
    for place, label in enumerate(labels):
        there = points[points[column] == label]
        diamonds(axis, 100 * there[["unaware", "accuracy"]].mean().to_numpy(), place)
        group = here[here[column] == label]
        if not len(group):
            continue
        look, before = known[label], 100 * group.unaware.mean()
        after, low, high = interval(100 * group.accuracy)
        axis.plot([before, after], [place, place], color="#BBBBBB", lw=1.5, zorder=1)
        axis.plot([low, high], [place, place], color=look.colour, lw=4, alpha=0.35, solid_capstyle="butt")
        axis.plot(before, place, "o", color=COLOURS["grey"], mfc="white", ms=6)
        axis.plot(after, place, look.mark, color=look.colour, ms=6)
    axis.set(xlabel="test accuracy (%)")
    axis.margins(x=0.1)


def _legend_of_rows(drawn: Figure, kinds: Iterable[Look]) -> None:
    handles = [Line2D([], [], color=COLOURS["grey"], marker="o", mfc="white", ls="", label="without training")]
    handles += [Line2D([], [], color=look.colour, marker=look.mark, ls="", label=look.label) for look in kinds]
    handles.append(Line2D([], [], color=COLOURS["black"], ls="--", label="clean, no hardware"))
    # About two inches for each.
    columns = min(len(handles), max(2, int(drawn.get_figwidth() / 1.9)))
    drawn.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=8)


def arms(
    table: pd.DataFrame | None,
    diagnostics: pd.DataFrame | None,
    physics: Perturbation,
    *,
    rerun: pd.DataFrame | None = None,
) -> Figure:
    """Arms of scale, rule and clipping: accuracy before and after at two severities, and what variance does over all.

    The severities are the two mildest of those that cost clearly and that every trained arm has run at.
    """
    if table is None or not len(table):
        return nothing("The arms of scale, rule and clipping are not among these parameters.")
    again = this_run(rerun, table)
    labels = order("arm", table, again)
    runs = [set(part.severity) for _, part in table.groupby("arm")]
    severities = [one for one in _severities(physics, table, again) if all(one in own for own in runs)]
    damage = (table.clean - table.unaware).groupby(table.severity).max()
    picked = [one for one in severities if damage.get(one, 0.0) >= CLEAR_DAMAGE][:2] or severities[-2:]
    looked = diagnostics is not None and physics.random
    ratios = [1.0] * len(picked) + [1.15] * looked
    drawn, axes = figure(
        2.2 + 3.2 * len(ratios),
        max(0.36 * len(labels) + 1.6, 2.8) + 0.5 * looked,
        columns=len(ratios),
        squeeze=False,
        gridspec_kw={"width_ratios": ratios},
    )
    rules = looks(order("rule", table, again), RULES)
    known = {label: rules[part.rule.iloc[0]] for label, part in table.groupby("arm")}
    for axis, severity in zip(axes[0], picked, strict=False):
        here, points = (part[part.severity == severity] for part in (table, again))
        _before_and_after(axis, here, points, labels, "arm", known)
        axis.set_title(f"{severity_label(severity, physics)} {_unit(physics)}".strip())
        axis.set_yticks(range(len(labels)), labels if axis is axes[0, 0] else [""] * len(labels))
        axis.set_ylim(len(labels) - 0.5, -0.5)
    if looked:
        assert diagnostics is not None
        _variances(drawn, axes[0, -1], diagnostics, physics)
    _legend_of_rows(drawn, rules.values())
    caption(
        drawn,
        "The same class under gradients that know the scale or do not, by rule, with and without clipping. Open: never "
        "trained on hardware, on the same chips; filled: trained (or, in the last row, clipped). Mean over "
        f"{table.seed.nunique()} seeds, bars: 95 % bootstrap."
        + (" Right: tr Cov g / ‖E g‖² at the fork, median over seeds and range." if looked else ""),
    )
    return drawn


#: How the arms look whose gradients are compared.
_LOOKED = {
    DIFFERENTIATED: (COLOURS["blue"], "o", "-"),
    DETACHED: (COLOURS["vermillion"], "s", "-"),
    COLUMN: (COLOURS["sky"], "v", "--"),
    INJECTION: (COLOURS["purple"], "P", "--"),
    STRAIGHT: (COLOURS["orange"], "^", ":"),
}


def _variances(drawn: Figure, axis: Axes, table: pd.DataFrame, physics: Perturbation) -> None:
    """Variance over signal against severity, an arm each."""
    severities = _severities(physics, table)
    places = _severity_axis(axis, severities, physics, label=False)
    unit = "" if physics.unit in ("", "s") else f" ({physics.unit})"
    axis.set_xlabel(f"{_SHORT.get(physics.name, 'severity')}{unit}")
    for label, (colour, mark, line) in _LOOKED.items():
        own = table[(table.arm == label) & np.isfinite(table.variance) & (table.variance > 0)]
        if not len(own):
            continue
        spread = own.groupby("severity").variance.agg(["median", "min", "max"]).reindex(severities)
        axis.plot(places, spread["median"], marker=mark, ls=line, color=colour, ms=4, lw=1.4, label=label)
        axis.fill_between(places, spread["min"], spread["max"], color=colour, alpha=0.12, lw=0)
    axis.set(yscale="log", ylabel="variance over signal", title="gradient at the fork")
    # Below all panels, in a row: the looks of this one alone.
    columns = max(2, int(drawn.get_figwidth() / 2.2))
    near: dict[str, Any] = {"loc": "outside lower right", "ncols": columns, "frameon": False, "fontsize": 8}
    drawn.legend(*axis.get_legend_handles_labels(), title="gradient at the fork (right)", title_fontsize=8, **near)


def _unit(physics: Perturbation | None) -> str:
    return "" if physics is None or physics.unit == "s" else physics.unit


def through_the_chip(look: ChipLook, table: pd.DataFrame, severity: float, rule: str) -> Figure:
    """One panel of the what-if: currents forward, gradients backward, and what became of the accuracy."""
    drawn, axes = figure(8.6, 3.1, columns=3)
    rules = looks(["unaware", rule], RULES)
    for axis, (ideal, real), name in (
        (axes[0], look.currents, "output of the first layer"),
        (axes[1], look.gradient, "gradient of a weight"),
    ):
        size = np.quantile(np.abs(ideal), 0.999) * 1.3
        axis.plot([-size, size], [-size, size], color="#BBBBBB", lw=1)
        axis.plot(ideal, np.clip(real, -1.5 * size, 1.5 * size), ".", color=rules[rule].colour, ms=2.5)
        axis.set(xlim=(-size, size), ylim=(-1.5 * size, 1.5 * size), xlabel="ideal", ylabel="on the chip", title=name)
        axis.ticklabel_format(style="sci", scilimits=(-2, 3))
    axes[1].text(0.04, 0.92, f"cosine {look.cosine:.2f}", transform=axes[1].transAxes, fontsize=9)
    here = table[table.severity == severity]
    values = [100 * here.clean.mean(), *(100 * here[here.rule == one].accuracy.mean() for one in rules)]
    colours = [COLOURS["black"], *(one.colour for one in rules.values())]
    bars = axes[2].bar(range(len(values)), values, color=colours)
    axes[2].bar_label(bars, fmt="%.0f", fontsize=9)
    labels = ["clean", *(one.label.replace(", ", ",\n").replace("straight-", "str.-\n") for one in rules.values())]
    axes[2].set_xticks(range(len(values)), labels, fontsize=8)
    axes[2].set(ylim=(0, 112), ylabel="test accuracy (%)", title="after training")
    axes[2].grid(axis="x", visible=False)
    told = ", ".join(
        f"{name} {value:.0f} %" for name, value in zip(("clean", "unaware", NAMES[rule]), values, strict=True)
    )
    caption(
        drawn,
        f"One chip and one batch of the first seed, at the fork: outputs, and gradients of single weights (cosine "
        f"{look.cosine:.2f}), on the chip over ideal. Accuracies over seeds and unseen chips: {told}.",
    )
    return drawn


def weights(response: Response) -> Figure:
    """One panel of the what-if over classes: the weights as they were meant and as the chip has them, in one colour
    scale.
    """
    drawn, axes = figure(6.6, 3.0, columns=2, sharex=True, sharey=True)
    size = float(np.abs(response.meant).max())
    look: dict[str, Any] = {"cmap": "coolwarm", "vmin": -size, "vmax": size, "aspect": "auto"}
    for axis, values, name in ((axes[0], response.meant, "meant"), (axes[1], response.seen, "on the chip")):
        axis.imshow(values, interpolation="nearest", **look)
        axis.set(title=name, xlabel="output")
        axis.grid(False)
    axes[0].set_ylabel("input")
    drawn.colorbar(axes[0].images[0], ax=list(axes), label="weight")
    off = np.linalg.norm(response.seen - response.meant) / np.linalg.norm(response.meant)
    caption(
        drawn,
        f"First layer, {response.words}: what each output answers to each input alone. The two differ by "
        f"{100 * off:.0f} % of the size of the weights.",
    )
    return drawn


def attempt(table: pd.DataFrame) -> Figure:
    """Bars of the live experiment: accuracy of each network, with the 5th percentile of chips."""
    drawn, axis = figure(5.2, 2.6)
    places = np.arange(len(table))
    colours = itertools.islice(itertools.cycle(("black", "grey", "blue")), len(table))
    axis.barh(places, 100 * table.accuracy, color=[COLOURS[name] for name in colours])
    axis.plot(100 * table.low, places, "|", color=COLOURS["vermillion"], ms=14, mew=2, label="5th percentile of chips")
    legend_above(drawn, axis)
    axis.set_yticks(places, table.network)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="test accuracy (%)")
    return drawn


# ------------------------------------------------------------------------------------------------ side by side


def strips(summary: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """A strip per class: recovery as curves, the three diagnostics as bands below, the verdicts as coloured edges."""
    again = this_run(rerun, summary)
    names, rules = order("perturbation", summary, again), looks(order("rule", summary, again), RULES)
    drawn, axes = figure(
        8.4,
        1.75 * len(names) + 0.9,
        rows=2 * len(names),
        squeeze=False,
        gridspec_kw={"height_ratios": [2.3, 1.0] * len(names)},
    )
    for row, name in enumerate(names):
        physics, (table, points) = physics_of(name), (part[part.perturbation == name] for part in (summary, again))
        severities = _severities(physics, table, points)
        _strip(axes[2 * row, 0], severities, rules, table, points)
        published_band(axes[2 * row, 0], severities, name)
        axes[2 * row, 0].set_title(title(name), fontweight="bold", fontsize=10)
        axis = axes[2 * row + 1, 0]
        first = next(iter(rules))
        _told_beforehand(axis, severities, table[table.rule == first], points[points.rule == first])
        unit = "" if physics is None or physics.unit in ("s", "of devices") else f" {physics.unit}"
        axis.set_xticks(
            range(len(severities)), [severity_label(value, physics) + unit for value in severities], fontsize=8
        )
    handles: list[Artist] = [
        Line2D([], [], color=look.colour, marker=look.mark, ls="--" if place else "-", label=look.label)
        for place, look in enumerate(rules.values())
    ]
    # Verdicts that look alike are one entry.
    alike: dict[tuple[str, str], list[str]] = {}
    for verdict in order("verdict", summary, known=VERDICTS):
        alike.setdefault(verdict_mark(verdict), []).append(str(verdict))
    handles += [
        Patch(color=colour, label=f"{symbol} {', '.join(verdicts)}".strip())
        for (symbol, colour), verdicts in alike.items()
    ]
    shade, edge = to_rgba(COLOURS["grey"], 0.16), COLOURS["grey"]
    handles.append(Patch(facecolor=shade, edgecolor=edge, ls=":", label="published devices"))
    drawn.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    above, *below = (look.label.removeprefix("HAT, ") for look in rules.values())
    edges = f"{above} (above)" + (f" and {below[0]} (below)" if below else "")
    caption(
        drawn,
        f"Severity grows to the right. Curves: recovery. Edges: the verdict on training, {edges}. Bands: what the "
        "vanilla gradient said beforehand, 1 as good as clean, 0 nothing left.",
    )
    return drawn


def _strip(
    axis: Axes, severities: Sequence[float], rules: Mapping[str, Look], table: pd.DataFrame, points: pd.DataFrame
) -> None:
    """Recovery over severity; verdicts under the first rule as the upper edge, under the second as the lower one."""
    places = np.arange(len(severities))
    for number, (rule, look) in enumerate(rules.items()):
        group = table[table.rule == rule].set_index("severity").reindex(severities)
        mark = look.mark + ("--" if number else "-")
        axis.plot(places, group.recovery.clip(-0.5, 1.1), mark, color=look.colour, ms=4, lw=1.5)
        _diamonds(axis, severities, points[points.rule == rule].set_index("severity").recovery.clip(-0.5, 1.1))
        for place, verdict in zip(places, group.verdict, strict=True):
            if number < 2 and isinstance(verdict, str):
                ends, edge = [place - 0.48, place + 0.48], (1.22, -0.58)[number]
                colour = verdict_mark(verdict)[1]
                axis.plot(ends, [edge, edge], color=colour, lw=6, solid_capstyle="butt", clip_on=False)
    axis.axhline(0, color="#BBBBBB", lw=0.8)
    axis.set(ylim=(-0.6, 1.25), yticks=[0, 0.5, 1], ylabel="recovery", xlim=(-0.5, len(places) - 0.5), xticks=[])


def _told_beforehand(axis: Axes, severities: Sequence[float], table: pd.DataFrame, points: pd.DataFrame) -> None:
    """Cosine, share of signal and share of live weights over severity, a field each; tables of one rule."""
    columns = ["cosine", "signal", "live"]
    bands, again = (
        part.set_index("severity").reindex(severities)[columns].to_numpy().T.clip(0, 1) for part in (table, points)
    )
    shown = axis.imshow(
        bands, aspect="auto", cmap="Purples", vmin=0, vmax=1, extent=(-0.5, len(severities) - 0.5, 2.5, -0.5)
    )
    lines, places = np.nonzero(np.isfinite(again))
    diamonds(axis, places + 0.3, lines, shown.to_rgba(again[lines, places]))
    for (line, place), value in np.ndenumerate(bands):
        if np.isfinite(value):
            colour = ink(shown.to_rgba(value))
            axis.text(place, line, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_yticks(range(len(columns)), columns, fontsize=7)
    axis.grid(False)


#: How marks are filled that differ by rule.
_FILLS = ("full", "none", "left", "bottom")


def against_recovery(
    cells: pd.DataFrame, columns: Sequence[str] = ("cosine", "signal", "live"), *, rerun: pd.DataFrame | None = None
) -> Figure:
    """Each diagnostic at the fork against the recovery reached, one point for each class, severity and rule."""
    drawn, axes = figure(9.2, 3.8, columns=len(columns), sharey=True, squeeze=False)
    again = this_run(rerun, cells)
    joined, points = (_recovered(table, columns) for table in (cells, again))
    colours, marks = classes(order("perturbation", cells)), looks(order("network", cells), NETWORKS)
    fills = dict(zip(order("rule", cells), itertools.cycle(_FILLS), strict=False))
    for axis, column in zip(axes[0], columns, strict=True):
        axis.axhspan(COMPENSATED, 1.2, color=_COMPENSATED, alpha=0.10, lw=0)
        axis.axhspan(-0.6, COMPENSATED, color=_NOT, alpha=0.06, lw=0)
        for (network, name, rule), group in joined.groupby(["network", "perturbation", "rule"], sort=False):
            axis.plot(
                group[column],
                group.recovery,
                marks[network].mark,
                color=colours[name].colour,
                ms=5.5,
                fillstyle=fills[rule],
                mfcalt="white",
                alpha=0.9,
            )
        diamonds(axis, points[column], points.recovery)
        axis.set(xlabel=LABELS.get(column, column), ylim=(-0.6, 1.2), xlim=(-0.06, 1.08))
    axes[0, 0].set_ylabel("recovery")
    handles = [Line2D([], [], color=look.colour, marker="o", ls="", label=look.label) for look in colours.values()]
    plain: dict[str, Any] = {"color": COLOURS["black"], "ls": ""}
    handles += [Line2D([], [], marker=look.mark, label=look.label, **plain) for look in marks.values()]
    handles += [
        Line2D([], [], marker="o", label=look.label, fillstyle=fills[rule], mfcalt="white", **plain)
        for rule, look in looks(order("rule", cells), RULES).items()
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    caption(
        drawn,
        "A diagnostic that tells would sort the points: high recovery on the right, low on the left. Each point is "
        "one class at one severity of clear damage in one network (shape) under one rule (how it is filled), mean over "
        "seeds; none where a gradient has no direction.",
    )
    return drawn


def _recovered(cells: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Seeds joined: the mean diagnostics and the recovery, cut off at the frame, of every cell."""
    keys = ["network", "perturbation", "rule", "severity"]
    joined = cells.groupby(keys, sort=False)[[*columns, "damage", "gain"]].mean().reset_index()
    return joined.assign(recovery=(joined.gain / joined.damage).clip(-0.5, 1.1))


def roc(cells: pd.DataFrame, areas: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """ROC curves of the predictors under the first rule, and the areas under every rule with two intervals: over seeds
    (thick) and over classes and networks (thin).

    ``rerun`` is what this run has for ``areas``: its points are drawn on the right.
    """
    again = this_run(rerun, areas)
    drawn, (left, right) = figure(9.4, 6.4, columns=2, width_ratios=(1, 1.15))
    names = order("predictor", areas, again, known=[*SCORES, JOINT, *TRIVIAL])
    rules = looks(
        order("rule", areas, again), {**RULES, POOLED: Look(COLOURS["black"], "X", "all rules thrown together")}
    )
    first = next(iter(rules), "")
    # Colours go with the scores' own order, not with that of their areas, which may change.
    lines = looks([*SCORES, JOINT], {JOINT: Look(COLOURS["black"], "o", LABELS[JOINT])})
    greys = dict(zip(TRIVIAL, ("--", ":", "-."), strict=False))
    chosen = cells[cells.rule == first]
    for name in names:
        score = _score(name, chosen)
        known = np.isfinite(score)
        score, label = score[known], chosen.compensated.to_numpy(dtype=bool)[known]
        if label.all() or not label.any():
            continue
        thresholds = np.concatenate([[math.inf], np.unique(score)[::-1]])
        hits = [(score[label] >= threshold).mean() for threshold in thresholds]
        alarms = [(score[~label] >= threshold).mean() for threshold in thresholds]
        colour = lines[name].colour if name in lines else COLOURS["grey"]
        width = 2.4 if name == JOINT else 1.6
        left.plot(alarms, hits, greys.get(name, "-"), color=colour, lw=width, label=LABELS[name])
    left.plot([0, 1], [0, 1], color="#BBBBBB", lw=1, ls="--")
    left.set(xlabel="share of uncompensated called compensable", ylabel="share of compensated called so")
    if left.get_legend_handles_labels()[0]:
        above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2, "borderaxespad": 0}
        left.legend(frameon=False, fontsize=8, title=f"Curves: {rules[first].label}", title_fontsize=9, **above)
    places = np.arange(len(names))
    for shift, (rule, look) in zip(np.linspace(-0.27, 0.27, max(len(rules), 2)), rules.items(), strict=False):
        shown, points = (table[table.rule == rule].set_index("predictor").reindex(names) for table in (areas, again))
        diamonds(right, points.area, places + shift)
        for kind, width in (("area", 1.0), ("seeds", 3.2)):
            ends = whiskers(shown.area, shown[f"{kind}_low"], shown[f"{kind}_high"])
            right.errorbar(shown.area, places + shift, xerr=ends, fmt="none", ecolor=look.colour, elinewidth=width)
        right.plot(shown.area, places + shift, look.mark, color=look.colour, ms=5, label=look.label)
    right.axvline(0.5, color="#BBBBBB", ls="--", lw=1)
    free = [place for place, name in enumerate(names) if name not in (*SCORES, JOINT)]
    if free:
        right.axhspan(min(free) - 0.5, max(free) + 0.5, color=COLOURS["grey"], alpha=0.12, lw=0)
    right.set_yticks(places, [LABELS.get(name, str(name).replace("_", " ")) for name in names])
    right.set_ylim(max(len(names), 1) - 0.5, -0.5)
    right.set(xlim=(-0.03, 1.03), xlabel="area under ROC (0.5: a coin)")
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=1, borderaxespad=0)
    caption(
        drawn,
        'Left: each predictor as a test for "training will win back half" (grey: known without a gradient). Right: the '
        "area under the curve, rule by rule, 95 % over seeds (thick) and over classes and networks (thin; none where "
        "one class holds all of one side). Grey ground: known without a gradient. The three together are judged on "
        "classes that they were not fitted to.",
    )
    return drawn


def _score(name: str, cells: pd.DataFrame) -> np.ndarray:
    """What a predictor says of every cell; nothing where the table of cells does not have it."""
    if name == JOINT:
        return cells.chance.to_numpy(dtype=float)
    known = {**SCORES, **TRIVIAL}
    return known[name](cells).to_numpy(dtype=float) if name in known else np.full(len(cells), np.nan)


#: What a field without a recovery says, by its verdict.
_NONE = {"no damage": "–", "not trained": "–", "harmed": "✗"}


def phases(summary: pd.DataFrame, boundaries: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Phase diagrams: class over severity, a panel for each network and rule, coloured by recovery; the boundary with
    its interval in red.

    ``rerun`` is what this run has for ``summary``; the boundary is that of the evidence.
    """
    again = this_run(rerun, summary)
    networks, names = order("network", summary, again), order("perturbation", summary, again)
    rules = looks(order("rule", summary, again), RULES)
    grids = {name: _grid(name, summary, again) for name in names}
    columns = max(map(len, grids.values()))
    height = (0.42 * len(names) + 0.5) * len(networks) + 1.6
    drawn, axes = figure(9.6, height, columns=len(rules), rows=len(networks), squeeze=False, sharex=True, sharey=True)
    for (row, network), (column, rule) in itertools.product(enumerate(networks), enumerate(rules)):
        axis = axes[row, column]
        here, points = (part[(part.network == network) & (part.rule == rule)] for part in (summary, again))
        shown = np.full((len(names), columns), np.nan)
        for one in here.itertuples():
            place = (names.index(one.perturbation), grids[one.perturbation].index(one.severity))
            shown[place] = one.recovery
            text = f"{severity_label(one.severity, physics_of(one.perturbation))}\n" + (
                _NONE.get(one.verdict, "?")
                if one.recovery != one.recovery
                else "< −1"
                if one.recovery < -1
                else share(one.recovery)
            )
            light = one.recovery != one.recovery or one.recovery > 0.45
            colour = "black" if light else "white"
            axis.text(place[1], place[0], text, ha="center", va="center", fontsize=6.5, color=colour)
        picture = axis.imshow(shown.clip(0, 1), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        points = points[points.recovery.notna()]
        diamonds(
            axis,
            # In a corner, beside what the field says.
            [grids[one.perturbation].index(one.severity) + 0.36 for one in points.itertuples()],
            [names.index(one.perturbation) - 0.34 for one in points.itertuples()],
            picture.to_rgba(points.recovery.clip(0, 1).to_numpy()),
        )
        for line in boundaries[(boundaries.network == network) & (boundaries.rule == rule)].itertuples():
            at = [_between(value, grids[line.perturbation]) for value in (line.low, line.severity, line.high)]
            y = names.index(line.perturbation)
            if np.isfinite(at[1]):
                ends = np.nan_to_num([at[0], at[2]], nan=at[1], posinf=columns, neginf=-1).clip(-0.5, columns - 0.5)
                red = COLOURS["vermillion"]
                # Not across what is written in the field.
                for from_, to in ((-0.46, -0.28), (0.28, 0.46)):
                    axis.plot([at[1], at[1]], [y + from_, y + to], color=red, lw=2.5)
                axis.plot(ends, [y + 0.4, y + 0.4], color=red, lw=1.2)
        for y, name in enumerate(names):
            # Between fields: the line must not cross what is written in them.
            sides = [published.side(name, one) for one in grids[name]]
            if published.INSIDE in sides:
                end = sides.count(published.INSIDE) - 0.5
                axis.plot([end, end], [y - 0.46, y + 0.46], color="white", lw=2.4)
                axis.plot([end, end], [y - 0.46, y + 0.46], color=COLOURS["black"], ls=":", lw=1.6)
        axis.set_title(f"{spelt(network)}, {rules[rule].label.removeprefix('HAT, ')}", fontsize=9.5)
        axis.set_yticks(
            range(len(names)), [textwrap.fill(title(name), 12, break_long_words=False) for name in names], fontsize=8
        )
        axis.set_xticks([])
        axis.grid(False)
        if row == len(networks) - 1:
            axis.set_xlabel("severity, harsher to the right")
    drawn.colorbar(picture, ax=axes, shrink=0.6, label="recovery", aspect=40, location="bottom", pad=0.02)
    caption(
        drawn,
        "Where training wins back the loss, with the severity in every field above the recovery. "
        f"Upright lines: the boundary at which recovery falls below {COMPENSATED:g}, with its 95 % interval over seeds "
        "below. Fields "
        "without a colour were not run, cost less than a point (–), or were harmed (✗). Dotted: what lies to the "
        "right is beyond published devices.",
        ON_MAP,
    )
    return drawn


def _grid(name: str, *tables: pd.DataFrame) -> list[float]:
    """The severities of a class's own grid and those of the tables, from mild to harsh."""
    physics = physics_of(name)
    own = pd.DataFrame({"severity": physics.grid if physics else ()})
    return _severities(physics, own, *(table[table.perturbation == name] for table in tables))


def _between(value: float, grid: Sequence[float]) -> float:
    """The place of a severity between those of a grid, which runs from mild to harsh."""
    if not np.isfinite(value):
        return value
    logs = np.log(grid)
    order = np.argsort(logs)
    return float(np.interp(math.log(value), logs[order], np.arange(len(grid))[order]))


def remedies(summary: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """What every measure gives back: a panel for each class, a row for each measure, a mark for each severity."""
    again = this_run(rerun, summary)
    names, kinds = order("perturbation", summary, again), looks(order("kind", summary, again, known=KINDS), KINDS)
    tables = {name: [part[part.perturbation == name] for part in (summary, again)] for name in names}
    rows = {name: order("measure", *tables[name]) for name in names}
    heights = [len(rows[name]) + 0.8 for name in names]
    ratios = {"height_ratios": heights}
    first, *others = order("network", summary)
    drawn, axes = figure(
        8.8, 0.27 * sum(heights) + 1.8, rows=len(names), squeeze=False, sharex=True, gridspec_kw=ratios
    )
    for axis, name in zip(axes[:, 0], names, strict=True):
        (here, points), physics = tables[name], physics_of(name)
        severities = _severities(physics, here, points)
        axis.axvspan(COMPENSATED, 1.25, color=_COMPENSATED, alpha=0.10, lw=0)
        axis.axvline(0, color="#BBBBBB", lw=0.8)
        for shade, severity in zip(_shades(len(severities)), severities, strict=True):
            for one in here[(here.severity == severity) & here.recovery.notna()].itertuples():
                x, place = np.clip(one.recovery, -0.45, 1.2), rows[name].index(one.measure)
                axis.plot(x, place, "o", color=kinds[one.kind].colour, mec=shade, mew=2.2, ms=7)
                if x != one.recovery:
                    # What lies beyond the frame says where.
                    sign, ha, off = ("←", "left", 8) if x < one.recovery or x == -0.45 else ("→", "right", -8)
                    text = f"{sign} {share(one.recovery)}"
                    near = {"textcoords": "offset points", "ha": ha, "va": "center", "fontsize": 7.5}
                    axis.annotate(text, (x, place), (off, 0), **near)
        diamonds(axis, points.recovery.clip(-0.45, 1.2), [rows[name].index(measure) for measure in points.measure])
        axis.set_yticks(range(len(rows[name])), rows[name], fontsize=8)
        axis.set_ylim(len(rows[name]) - 0.4, -0.6)
        axis.set_xlim(-0.5, 1.25)
        span = ", ".join(severity_label(severity, physics) for severity in severities)
        axis.set_title(f"{title(name)} ({span} {_unit(physics)})".replace(" )", ")"), fontsize=9.5, fontweight="bold")
    axes[-1, 0].set_xlabel("share of the loss given back")
    handles = [Line2D([], [], color=look.colour, marker="o", ls="", ms=7, label=look.label) for look in kinds.values()]
    handles += [
        Line2D([], [], marker="o", ls="", color="white", mec=shade, mew=2.2, ms=7, label=label)
        for shade, label in zip(_shades(2), ("mild", "harsh"), strict=True)
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    apart = f" Batch statistics were measured on: {' or '.join(map(spelt, others))}; all else: {spelt(first)}."
    caption(
        drawn,
        "What each measure gives back of the loss: colour for the kind of measure, rim for the severity (faint: mild, "
        "strong: harsh). Shaded: at least half. Severities that cost less than a point have no mark; a mark with an "
        "arrow lies beyond the frame." + (apart if others else ""),
    )
    return drawn


def yields(table: pd.DataFrame, *, specification: float = 5.0, rerun: pd.DataFrame | None = None) -> Figure:
    """The share of chips that meet a specification over severity: a panel for each class, a line for what was done."""
    again = this_run(rerun, table)
    here, points = (part[part.specification == specification] for part in (table, again))
    names = order("perturbation", here, points)
    arms = {
        "unaware": Look(COLOURS["grey"], "s", "nothing done"),
        "clipped": Look(COLOURS["vermillion"], "^", "weights clipped"),
        "autograd": Look(COLOURS["blue"], "o", "vanilla training"),
    }
    drawn, axes = figure(max(5.6, 3.7 * len(names)), 3.6, columns=len(names), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        physics = physics_of(name)
        own, seen = (part[part.perturbation == name] for part in (here, points))
        severities = _severities(physics, own, seen)
        physics = physics or HARDWARE["ideal"]
        places = _severity_axis(axis, severities, physics, label=False)
        unit = "" if physics.unit in ("", "s") else f" ({physics.unit})"
        axis.set_xlabel(f"{_SHORT.get(physics.name, physics.measures)}{unit}")
        for shift, (arm, look) in zip((-0.08, 0.0, 0.08), arms.items(), strict=True):
            line = own[own.arm == arm].set_index("severity").reindex(severities)
            bars = whiskers(line.share, line.low, line.high)
            axis.errorbar(places + shift, line.share, bars, color=look.colour, marker=look.mark, label=look.label)
            diamonds(axis, places + shift, seen[seen.arm == arm].set_index("severity").reindex(severities).share)
        axis.set(ylim=(-0.04, 1.04), title=title(name))
    axes[0, 0].set_ylabel(f"share of chips within {specification:g} points")
    drawn.supxlabel("harsher to the right", fontsize=9)
    legend_above(drawn, axes[0, 0])
    caption(
        drawn,
        f"Yield: the share of chips on which a network loses at most {specification:g} points against the clean one. "
        "Bars: seeds drawn again and then their chips, and no narrower than the exact binomial interval." + _BAND,
    )
    return drawn


def _shades(count: int) -> list[str]:
    """Greys for severities from mild (light) to harsh (dark)."""
    return [f"{value:.3f}" for value in np.linspace(0.79, 0.235, count)] if count > 1 else ["0.235"]


def measures(summary: pd.DataFrame, perturbation: str) -> Figure:
    """One panel of the what-if: accuracy under every measure against one class, a bar for each severity."""
    own = summary[summary.network == summary.network.iloc[0]]
    # As many places as the class with most severities has, so that all panels of the what-if are alike.
    columns = int(own.groupby("perturbation").severity.nunique().max())
    here, physics = own[own.perturbation == perturbation], physics_of(perturbation)
    labels, severities = order("measure", here), _severities(physics, here)
    kinds = looks(order("kind", summary), KINDS)
    drawn, axes = figure(max(8.6, 2.6 * columns), 3.6, columns=columns, sharey=True, squeeze=False)
    for axis in axes[0, len(severities) :]:
        axis.set_axis_off()
    for axis, severity in zip(axes[0], severities, strict=False):
        group = here[here.severity == severity].set_index("measure").loc[labels]
        values = [100 * group.unaware.iloc[0], *(100 * group.accuracy)]
        colours = [COLOURS["grey"], *(kinds[kind].colour for kind in group.kind)]
        bars = axis.barh(range(len(values)), values, color=colours)
        # Behind a long bar would be the line of the clean network.
        for bar, value in zip(bars, values, strict=True):
            inside = value > 50
            place, side, colour = (value - 2, "right", "white") if inside else (value + 2, "left", "black")
            axis.text(
                place,
                bar.get_y() + bar.get_height() / 2,
                f"{value:.0f}",
                ha=side,
                va="center",
                fontsize=8,
                color=colour,
            )
        axis.axvline(100 * group.clean.iloc[0], color=COLOURS["black"], ls="--", lw=1.2)
        heading = f"{severity_label(severity, physics)} {_unit(physics)}".strip()
        axis.set(xlim=(0, 112), xlabel="test accuracy (%)", title=heading)
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(labels) + 1), ["nothing", *labels], fontsize=8)
    axes[0, 0].invert_yaxis()
    return drawn
