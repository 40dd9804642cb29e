"""Figures of the page on CIFAR-10. They draw tables and train nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.hardware.devices import HARDWARE
from paper.criteria.hardware import COMPENSATED, DAMAGE, TELLS
from paper.figures.hardware import severity_label, title
from paper.figures.style import (
    COLOURS,
    Look,
    caption,
    diamonds,
    figure,
    interval,
    looks,
    nothing,
    order,
    this_run,
    whiskers,
)
from paper.published import INSIDE, side
from paper.studies.separation import LABELS
from paper.words.format import duration

ARMS: Mapping[str, Look] = {
    "unaware": Look(COLOURS["grey"], "s", "as it is"),
    "statistics": Look(COLOURS["sky"], "v", "normalisation measured on the chip"),
    "clipped": Look(COLOURS["green"], "^", "normalisation measured, clipped"),
    "autograd": Look(COLOURS["blue"], "o", "HAT, vanilla"),
    "noise_injection": Look(COLOURS["purple"], "P", "HAT, noise injection"),
    "noise_injection, clipped": Look(COLOURS["vermillion"], "X", "HAT, noise injection and clipping"),
}
PREDICTORS = {**LABELS, "damage": "damage (no gradient)", "severity": "severity (no gradient)"}
#: On chips of which some have the network's own normalisation: clipped is only that.
_ON_CHIPS = {**ARMS, "clipped": ARMS["clipped"]._replace(label="clipped")}
#: What the legends abbreviate.
_HAT = "HAT: hardware-aware training."
_MEASURES = {
    ("none", "off chip"): "as programmed",
    ("global", "off chip"): "drift compensated",
    ("global", "each chip"): "compensated and recalibrated",
}


def _missing() -> Figure:
    return nothing("Measured with pictures = 'all' and the folder of CIFAR-10 alone.")


def _legend(drawn: Figure, arms: Sequence[str], known: Mapping[str, Look] = ARMS, columns: int = 3) -> None:
    shown = looks(arms, known).values()
    handles = [Line2D([], [], color=look.colour, marker=look.mark, label=look.label) for look in shown]
    handles.append(Line2D([], [], color=COLOURS["black"], ls="--", label="clean, no hardware"))
    drawn.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=8)


def accuracies(table: pd.DataFrame | None) -> Figure:
    """Accuracy over three severities, a panel for each class and a line for each arm; published severities shaded."""
    if table is None:
        return _missing()
    names, arms = order("perturbation", table), order("arm", table)
    drawn, axes = figure(9.2, 5.6, columns=3, rows=2, sharey=True)
    for axis, name in zip(axes.flat, names, strict=False):
        own, physics = table[table.perturbation == name], HARDWARE[name]
        severities = list(dict.fromkeys(own.severity))
        places = np.arange(len(severities))
        inside = [place for place, severity in enumerate(severities) if side(name, severity) == INSIDE]
        if inside:
            axis.axvspan(-0.4, max(inside) + 0.4, color="#F3EFE2", lw=0, zorder=0)
        axis.axhline(100 * own.clean.mean(), color=COLOURS["black"], ls="--", lw=1.2)
        for arm, look in looks(arms, ARMS).items():
            seeds = own[own.arm == arm].groupby("severity").accuracy
            middle, low, high = (100 * part().reindex(severities) for part in (seeds.mean, seeds.min, seeds.max))
            axis.plot(places, middle, look.mark + "-", color=look.colour, ms=5, lw=1.5)
            axis.vlines(places, low, high, color=look.colour, lw=1.2)
        unit = "" if physics.unit == "s" else f" ({physics.unit})"
        axis.set_xticks(places, [severity_label(severity, physics) for severity in severities])
        axis.set(xlim=(-0.4, len(severities) - 0.6), ylim=(0, 76), title=f"{title(name)}{unit}")
        axis.axhline(10, color=COLOURS["grey"], ls=":", lw=1)
    for row in axes:
        row[0].set_ylabel("test accuracy (%)")
    _legend(drawn, arms)
    caption(
        drawn,
        "A finished CNN on CIFAR-10 on hardware, harsher to the right; shaded: severities that published devices have. "
        f"Marks: mean over {table.seed.nunique()} seeds and their unseen chips, strokes: the range over seeds, dotted: "
        f"chance. {_HAT}",
    )
    return drawn


def phases(table: pd.DataFrame | None) -> Figure:
    """The phase diagram: recovery by class and severity under each rule and by the best measure without a gradient."""
    if table is None:
        return _missing()
    names, arms = order("perturbation", table), order("arm", table)
    columns = ["free", *arms]
    first = table.drop_duplicates(["perturbation", "severity"])
    rows = [(name, at) for name in names for at in first[first.perturbation == name].severity]
    values = np.full((len(rows), len(columns)), np.nan)
    for place, (name, severity) in enumerate(rows):
        own = table[(table.perturbation == name) & (table.severity == severity)].set_index("arm")
        values[place] = [own.free.iloc[0], *own.recovery.reindex(arms)]
    drawn, axis = figure(6.6, 7.0)
    shown = axis.imshow(values, cmap="BrBG", vmin=-1, vmax=1, aspect="auto")
    axis.set_facecolor("#E2E2E2")
    for place in range(len(rows)):
        for column, value in enumerate(values[place]):
            text = "no damage" if value != value else f"{value:.2f}".replace("-", "−")
            dark = value == value and abs(value) > 0.65
            axis.text(column, place, text, ha="center", va="center", fontsize=8, color="white" if dark else "#222222")
    labels = []
    for name, at in rows:
        own = first[(first.perturbation == name) & (first.severity == at)].iloc[0]
        physics = HARDWARE[name]
        unit = "" if physics.unit == "s" else f" {physics.unit}".replace(" of devices", " stuck")
        mark = "•" if side(name, at) == INSIDE else " "
        lost = f"{100 * own.damage:.0f}"
        sign = "" if lost in ("0", "-0") else "−"
        labels.append(f"{title(name)}, {severity_label(at, physics)}{unit}, {sign}{lost.removeprefix('-')} {mark}")
    axis.set_yticks(range(len(rows)), labels)
    heads = ["best without\na gradient", *(looks(arms, ARMS)[arm].label.replace(", ", ",\n") for arm in arms)]
    axis.set_xticks(range(len(columns)), heads)
    axis.xaxis.tick_top()
    axis.grid(False)
    axis.tick_params(length=0, labelsize=8)
    for place in range(1, len(rows)):
        if rows[place][0] != rows[place - 1][0]:
            axis.axhline(place - 0.5, color="white", lw=2)
    bar = drawn.colorbar(shown, ax=axis, shrink=0.5, label="recovery")
    # As far down as a field goes: the picture has no colours to spare for others.
    bar.ax.set_ylim(min(0.0, math.floor(4 * np.nanmin(values.clip(-1), initial=0.0)) / 4), 1)
    caption(
        drawn,
        "Recovery, the share of the loss that comes back. Each row: class, severity and points lost by the network as "
        "it is; a dot marks what published devices have. Below "
        f"{100 * DAMAGE:g} point of loss recovery is undefined; {COMPENSATED:g} counts as compensated. {_HAT}",
    )
    return drawn


def curves(table: pd.DataFrame | None) -> Figure:
    """The loss of training on fresh chips in parts of equal length, a panel for each class, harsher ones darker."""
    if table is None:
        return _missing()
    names, arms = order("perturbation", table), order("arm", table)
    drawn, axes = figure(9.2, 4.8, columns=3, rows=2)
    for axis, name in zip(axes.flat, names, strict=False):
        own = table[table.perturbation == name]
        severities = list(dict.fromkeys(own.severity))
        for arm, look in looks(arms, ARMS).items():
            for place, severity in enumerate(severities):
                rows = own[(own.arm == arm) & (own.severity == severity)].groupby("part").loss.mean()
                shade = 0.35 + 0.65 * place / max(len(severities) - 1, 1)
                axis.plot(rows.index + 1, rows, look.mark + "-", color=look.colour, alpha=shade, ms=3, lw=1.3)
        axis.set(title=title(name))
    for row in axes:
        row[0].set_ylabel("training loss")
    for axis in axes[-1]:
        axis.set_xlabel("eighth of the training")
    shown = looks(arms, ARMS).values()
    handles = [Line2D([], [], color=look.colour, marker=look.mark, label=look.label) for look in shown]
    drawn.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    caption(
        drawn,
        "Does training still learn? The loss on fresh chips in each eighth of it; the harsher the severity the "
        "stronger the line. A line that still falls at its end is a lower bound of what training could reach. " + _HAT,
    )
    return drawn


def areas(table: pd.DataFrame | None) -> Figure:
    """The area under the ROC curve of every predictor, rule by rule."""
    if table is None:
        return _missing()
    arms, names = order("arm", table), order("predictor", table)
    drawn, axis = figure(7.0, 0.42 * len(names) + 1.9)
    axis.axvline(0.5, color="#999999", ls=":", lw=1.2)
    axis.axvline(TELLS, color="#999999", ls="--", lw=1.2)
    for shift, (arm, look) in zip(np.linspace(-0.14, 0.14, len(arms)), looks(arms, ARMS).items(), strict=True):
        own = table[table.arm == arm].set_index("predictor").reindex(names)
        places = np.arange(len(names)) + shift
        label = f"{look.label} ({int(own.compensated.max())} of {int(own.cells.max())} cells compensated)"
        error = whiskers(own.area, own.low, own.high)
        axis.errorbar(
            own.area, places, xerr=error, fmt=look.mark, color=look.colour, ms=5, lw=1.4, capsize=2, label=label
        )
        axis.plot(own.further, places, look.mark, color=look.colour, mfc="white", ms=5)
    axis.set_yticks(range(len(names)), [PREDICTORS.get(name, name) for name in names])
    axis.invert_yaxis()
    axis.set(xlim=(-0.02, 1.02), xlabel="area under the ROC curve")
    drawn.legend(loc="outside upper center", ncols=1, frameon=False, fontsize=8)
    caption(
        drawn,
        "What tells beforehand whether at least half comes back, rule by rule: properties of a few gradients at the "
        "finished network, and two numbers that need no gradient. Dotted: a coin; dashed: what counts as telling. "
        "Bars: 95 % over classes drawn again. Open: what tells whether training will be a point above the best measure "
        f"without a gradient. {_HAT}",
    )
    return drawn


def chips(table: pd.DataFrame | None) -> Figure:
    """Accuracy on phase-change chips over time, a panel for what a chip is given, a line for each arm."""
    if table is None:
        return _missing()
    arms, times = order("arm", table), sorted(set(table.seconds))
    drawn, axes = figure(9.6, 4.2, columns=3)
    places = np.arange(len(times))
    # What is given nothing falls to chance; beside that the arms of the others would lie on each other.
    kept = 100 * table[table.compensation != "none"].accuracy
    low, high = 5 * math.floor(kept.min() / 5), 5 * math.ceil(max(kept.max(), 100 * table.clean.max()) / 5) + 0.5
    clean = 100 * table[table.arm == "unaware"].clean.mean()
    for axis, (given, heading) in zip(axes.flat, _MEASURES.items(), strict=True):
        own = table[(table.compensation == given[0]) & (table.statistics == given[1])]
        axis.axhline(clean, color=COLOURS["black"], ls="--", lw=1.2)
        for arm, look in looks(arms, _ON_CHIPS).items():
            rows = [interval(100 * own[(own.arm == arm) & (own.seconds == at)].accuracy) for at in times]
            middle, least, most = np.array(rows).T
            axis.plot(places, middle, look.mark + "-", color=look.colour, ms=5, lw=1.5)
            axis.fill_between(places, least, most, color=look.colour, alpha=0.14, lw=0)
        axis.set(title=heading, ylim=(0, high) if given[0] == "none" else (low, high))
        if given[0] == "none":
            axis.axhline(10, color=COLOURS["grey"], ls=":", lw=1)
        axis.set_xticks(places, [duration(at) for at in times])
    axes[0].set_ylabel("test accuracy (%)")
    axes[1].set_xlabel("time since programming")
    _legend(drawn, arms, _ON_CHIPS)
    caption(
        drawn,
        "A narrow ResNet-20 on phase-change chips as published: programming noise, drift and 1/f noise. Panels: what a "
        f"chip is given after training; the axes of the last two begin at {low:g} %. Mean over {table.seed.nunique()} "
        f"seeds with their unseen chips, bands: 95 % bootstrap; dotted: chance. {_HAT}",
    )
    return drawn


def converters(table: pd.DataFrame | None) -> Figure:
    """Accuracy with converters and wires, a group for each resistance and a mark for each arm."""
    if table is None:
        return _missing()
    arms, ohms = order("arm", table), order("ohm", table)
    drawn, axis = figure(6.8, 3.6)
    width = 0.8 / len(arms)
    for place, (arm, look) in enumerate(looks(arms, ARMS).items()):
        rows = np.array([interval(100 * table[(table.arm == arm) & (table.ohm == ohm)].accuracy) for ohm in ohms])
        at = np.arange(len(ohms)) + (place - (len(arms) - 1) / 2) * width
        axis.errorbar(at, rows[:, 0], whiskers(*rows.T), fmt=look.mark, color=look.colour, ms=6, capsize=2, lw=1.2)
        for x, value, top in zip(at, rows[:, 0], rows[:, 2], strict=True):
            axis.annotate(f"{value:.1f}", (x, top), (0, 6), textcoords="offset points", ha="center", fontsize=9)
    axis.axhline(100 * table.clean.mean(), color=COLOURS["black"], ls="--", lw=1.2)
    axis.set_xticks(range(len(ohms)), [f"{ohm:g} Ω per segment" for ohm in ohms])
    axis.set(ylabel="test accuracy (%)", xlim=(-0.5, len(ohms) - 0.5))
    axis.margins(y=0.15)
    axis.grid(axis="x", visible=False)
    _legend(drawn, arms)
    caption(
        drawn,
        "The same network with 6-bit converters behind arrays of 64 lines whose wires have resistance. Mean over "
        f"{table.seed.nunique()} seeds, bars: 95 % bootstrap (untrained networks have no spread: nothing is random). "
        f"The axis does not begin at zero. {_HAT}",
    )
    return drawn


def sample(table: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """The finished networks on the sample of pictures: accuracy by class and measure."""
    again = this_run(rerun, table)
    keys = ["network", "perturbation", "severity"]
    rows = list(dict.fromkeys(table[keys].itertuples(index=False, name=None)))
    arms = order("arm", table, again)
    drawn, axis = figure(7.4, 0.42 * len(rows) + 1.6)
    for shift, (arm, look) in zip(np.linspace(-0.2, 0.2, len(arms)), looks(arms, ARMS).items(), strict=True):
        for place, row in enumerate(rows):
            own, other = (
                part[(part[keys] == list(row)).all(axis=1) & (part.arm == arm)].accuracy for part in (table, again)
            )
            middle, low, high = interval(100 * own)
            axis.plot([low, high], [place + shift] * 2, color=look.colour, lw=4, alpha=0.35, solid_capstyle="butt")
            axis.plot(middle, place + shift, look.mark, color=look.colour, ms=5)
            if len(other):
                diamonds(axis, 100 * other.mean(), place + shift)
    labels = [
        f"{title(name)}, {severity_label(at, HARDWARE[name])}"
        + ("" if HARDWARE[name].unit == "s" else f" {HARDWARE[name].unit}".replace(" of devices", ""))
        + (" (ResNet)" if network == "resnet_narrow" else "")
        for network, name, at in rows
    ]
    axis.set_yticks(range(len(rows)), labels)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="accuracy on the sample of pictures (%)")
    shown = looks(arms, ARMS).values()
    handles = [Line2D([], [], color=look.colour, marker=look.mark, ls="", label=look.label) for look in shown]
    drawn.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    caption(
        drawn,
        "What this run measures again: the finished networks without training, on the sample of pictures that comes "
        f"with the book. Mean over {table.seed.nunique()} seeds of two chips, bars: 95 % bootstrap.",
    )
    return drawn
