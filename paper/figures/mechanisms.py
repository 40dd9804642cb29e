"""Figures of the mechanisms. They draw tables and train nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.hardware.devices import make
from lib.hardware.perturbations import PERTURBATIONS
from paper.criteria.hardware import COMPENSATED
from paper.figures.hardware import NETWORKS, severity_label, title
from paper.figures.style import (
    COLOURS,
    Look,
    caption,
    diamonds,
    fewer,
    figure,
    interval,
    looks,
    order,
    this_run,
    verdict_mark,
    whiskers,
)
from paper.studies import layers as by_layer
from paper.studies.mechanisms import ARMS, LAST, MAIN, SEVERITIES
from paper.words.spelling import spelt

_GOOD, _BAD = (verdict_mark(name)[1] for name in ("compensated", "not compensated"))
_NETWORKS = {
    "mlp": NETWORKS["mlp"]._replace(colour=COLOURS["blue"]),
    "cnn": NETWORKS["cnn"]._replace(colour=COLOURS["vermillion"]),
    "vit": NETWORKS["vit"]._replace(colour=COLOURS["green"]),
}
#: Recoveries beyond these are drawn at the edge.
_LEAST, _MOST = -0.6, 1.15


def _where(name: str, severities: tuple[float, ...]) -> str:
    """The severity that claims speak of, and behind a bar the other one."""
    physics = make(name)
    unit = "" if physics.unit in ("s", "of devices") else f" {physics.unit}"
    return " | ".join(severity_label(severity, physics) for severity in severities) + unit


def flips(summary: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """The share of the loss that every arm wins back, a panel for each class, a mark for each network."""
    again = this_run(rerun, summary)
    names = order("perturbation", summary, again, known=PERTURBATIONS)
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    most = max(len(ARMS[name]) for name in names)
    drawn, axes = figure(10.4, rows * (0.27 * most + 1.0) + 0.9, columns=columns, rows=rows, squeeze=False)
    nets = looks(order("network", summary, again), _NETWORKS)
    for axis, name in zip(axes.flat, names, strict=False):
        _panel(axis, name, summary, again, nets)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    handles = [
        Line2D([], [], color=look.colour, marker=look.mark, ls="", label=f"{look.label}, severity of the claims")
        for look in nets.values()
    ]
    handles.append(
        Line2D([], [], color="#777777", marker="|", ls="", label=f"the other severity, {_NETWORKS[MAIN].label}")
    )
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    caption(
        drawn,
        f"The share of the loss that comes back, arm by arm; from {COMPENSATED:g} on a loss counts as "
        "compensated. A mechanism that is right puts a class as it is and the arm that takes the mechanism away on "
        "different sides. Bars: 95 % bootstrap over seeds; what lies beyond the frame is drawn at its edge.",
    )
    return drawn


def _panel(axis: Axes, name: str, summary: pd.DataFrame, again: pd.DataFrame, nets: dict[str, Look]) -> None:
    """The arms of one class."""
    labels = list(ARMS[name])
    own, points = (part[part.perturbation == name] for part in (summary, again))
    axis.axvspan(COMPENSATED, _MOST, color=_GOOD, alpha=0.12, lw=0)
    axis.axvspan(_LEAST, COMPENSATED, color=_BAD, alpha=0.08, lw=0)
    shifts = np.linspace(-0.14, 0.14, len(nets)) if len(nets) > 1 else [0.0]
    first = SEVERITIES[name][0]
    for shift, (net, look) in zip(shifts, nets.items(), strict=True):
        rows = own[(own.network == net) & (own.severity == first)].set_index("arm").reindex(labels)
        values, low, high = (
            rows[column].clip(_LEAST, _MOST) for column in ("recovery", "recovery_low", "recovery_high")
        )
        axis.errorbar(
            *(values, np.arange(len(labels)) + shift),
            xerr=whiskers(values, low, high),
            fmt=look.mark,
            color=look.colour,
            ms=5.5,
            lw=1.3,
        )
        here = points[(points.network == net) & (points.severity == first)].set_index("arm").reindex(labels)
        diamonds(axis, here.recovery.clip(_LEAST, _MOST), np.arange(len(labels)) + shift)
    other = own[(own.network == MAIN) & (own.severity != first)].set_index("arm").reindex(labels)
    axis.plot(other.recovery.clip(_LEAST, _MOST), range(len(labels)), "|", color="#777777", ms=9, mew=1.6)
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set(xlim=(_LEAST - 0.03, _MOST), ylim=(len(labels) - 0.5, -0.5), xlabel="recovery")
    axis.set_title(f"{title(name)}\n{_where(name, SEVERITIES[name])}", fontsize=9.5)


def crests(summary: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """How far the largest weight stands out, untrained and after training, class by class."""
    again = this_run(rerun, summary)
    drawn, axis = figure(8.2, 3.2)
    names = order("perturbation", summary, again, known=PERTURBATIONS)
    nets = looks(order("network", summary, again), _NETWORKS)
    shifts = np.linspace(-0.12, 0.12, len(nets)) if len(nets) > 1 else [0.0]
    for shift, (net, look) in zip(shifts, nets.items(), strict=True):
        for place, name in enumerate(names):
            parts = []
            for part in (summary, again):
                own = part[(part.network == net) & (part.perturbation == name) & (part.arm == "trained")]
                parts.append(own[own.severity == SEVERITIES[name][0]])
            for one in parts[0].itertuples():
                axis.annotate(
                    "",
                    (place + shift, one.crest),
                    (place + shift, one.crest_unaware),
                    arrowprops={"arrowstyle": "->", "color": look.colour, "lw": 1.2},
                )
                axis.plot(place + shift, one.crest_unaware, look.mark, color=look.colour, mfc="white", ms=6)
                axis.plot(place + shift, one.crest, look.mark, color=look.colour, ms=6)
            diamonds(axis, place + shift, parts[1].crest.mean() if len(parts[1]) else np.nan)
    axis.set_xticks(range(len(names)), [title(name) for name in names], fontsize=8)
    axis.set(ylabel="largest weight over rms", xlim=(-0.5, len(names) - 0.5))
    handles = [Line2D([], [], color=look.colour, marker=look.mark, ls="", label=look.label) for look in nets.values()]
    handles += [
        Line2D([], [], color="#555555", marker="o", mfc="white", ls="", label="never saw hardware"),
        Line2D([], [], color="#555555", marker="o", ls="", label="trained through it"),
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    caption(
        drawn,
        "What training does to the largest weight, which sets the scale: mean over layers and seeds. Down: the window "
        "is filled. Up: most conductances are small beside the largest.",
    )
    return drawn


def layers(single: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """What mending each layer alone wins back, a map for each network: rows are classes, columns layers."""
    again = this_run(rerun, single)
    nets = order("network", single, again)
    names = order("perturbation", single, again, known=PERTURBATIONS)
    table, fresh = (by_layer.damage_by_layer(part) if len(part) else part for part in (single, again))
    counts = [table[table.network == net].layer.nunique() for net in nets]
    drawn, axes = figure(
        max(7.0, 0.72 * sum(counts) + 2.6),
        0.55 * len(names) + 1.9,
        columns=len(nets),
        squeeze=False,
        width_ratios=counts,
    )
    best = by_layer.mended(single)
    for axis, net in zip(axes[0], nets, strict=True):
        own = table[table.network == net]
        own = own.assign(share=own.digital / own.damage.clip(lower=1))
        wide = own.pivot(index="perturbation", columns="place", values="share").reindex(names)
        axis.imshow(wide, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(wide.to_numpy()):
            if np.isfinite(value):
                colour = "white" if value > 0.55 else "black"
                axis.text(
                    column,
                    row,
                    f"{100 * value:.0f}".replace("-0", "0").replace("-", "−"),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=colour,
                )
        places = own.drop_duplicates("layer").set_index("layer").place
        for row, name in enumerate(names):
            told = best[(best.network == net) & (best.perturbation == name) & (best.ranking == "margin")]
            if len(told):
                axis.plot(
                    places[told.layer.mode()[0]], row + 0.31, "^", color=COLOURS["orange"], ms=6, mec="black", mew=0.5
                )
            if len(fresh):
                here = fresh[(fresh.network == net) & (fresh.perturbation == name)]
                diamonds(axis, here.place + 0.34, np.where(here.digital == here.digital.max(), row - 0.3, np.nan))
        labels = [layer.rpartition(".")[2] if net == "vit" and "." in layer else layer for layer in places.index]
        axis.set_xticks(range(len(labels)), labels, fontsize=8, rotation=0)
        first = axis is axes[0][0]
        axis.set_yticks(range(len(names)) if first else [], [title(name) for name in names] if first else [])
        axis.set_title(spelt(net))
        axis.set_xlabel("layer, input on the left")
        axis.grid(visible=False)
    handles = [Line2D([], [], color=COLOURS["orange"], marker="^", mec="black", ls="", label="put first by the margin")]
    drawn.legend(handles=handles, loc="outside upper center", frameon=False, fontsize=8)
    caption(
        drawn,
        "How much of the loss comes back when one layer alone is computed digitally (%, mean over seeds). Triangles: "
        "the layer that the first-order effect on the margin puts first, in most seeds, before anything is tried.",
        " where its largest gain lies" + fewer(again, single, "network"),
    )
    return drawn


def rankings(mended: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """What mending the layer that a ranking puts first is worth, beside the mean of the others and the best."""
    again = this_run(rerun, mended)
    names = order("ranking", mended, again, known=by_layer.RANKINGS)
    short = fewer(again, mended, "network", "perturbation")
    drawn, axis = figure(8.2, 0.4 * len(names) + 1.7)
    for place, name in enumerate(names):
        means = mended[mended.ranking == name].groupby("seed")[["gain", "others", "best"]].mean()
        colour = COLOURS["blue"] if name in by_layer.GRADIENTS else COLOURS["grey"]
        value, low, high = interval(means.gain)
        axis.plot([means.others.mean(), value], [place, place], color="#BBBBBB", lw=1.5, zorder=1)
        axis.errorbar(value, place, xerr=whiskers(value, low, high), fmt="o", color=colour, ms=6, lw=1.5)
        axis.plot(means.others.mean(), place, "o", color=colour, mfc="white", ms=6)
        axis.plot(means.best.mean(), place, "|", color=COLOURS["black"], ms=13, mew=1.8)
        # A mean over fewer networks or classes is one of something else.
        own = again[again.ranking == name].groupby("seed").gain.mean() if len(again) and not short else None
        diamonds(axis, np.nan if own is None else own.mean(), place)
    axis.set_yticks(range(len(names)), [by_layer.NAMES[name] for name in names])
    axis.set(xlabel="points of accuracy won back by mending one layer", ylim=(len(names) - 0.5, -0.5))
    handles = [
        Line2D([], [], color=COLOURS["blue"], marker="o", ls="", label="put first, by a gradient"),
        Line2D([], [], color=COLOURS["grey"], marker="o", ls="", label="put first, without one"),
        Line2D([], [], color="#555555", marker="o", mfc="white", ls="", label="mean of the others"),
        Line2D([], [], color=COLOURS["black"], marker="|", ls="", label="best layer"),
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    caption(
        drawn,
        "Does a ranking know which layer to mend? Mean over classes and networks; bars: 95 % bootstrap over seeds. "
        "The variance says nothing of classes that draw nothing: its row is over the others.",
    )
    return drawn


_CALIBRATIONS = {
    "quantile": COLOURS["blue"],
    "largest": COLOURS["orange"],
    "best": COLOURS["green"],
    "learned": COLOURS["purple"],
}
_TRAINED = {
    "not trained": ("s", ":"),
    "past the rounding": ("o", "-"),
    "past rounding and cut-off": ("^", "--"),
    "vanilla": ("v", "-."),
}


def sweep(summary: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Accuracy of a converter over bits: calibrations by colour, trainings by mark, the last layer on it or not."""
    again = this_run(rerun, summary)
    bits = sorted({*summary.severity, *again.severity}, reverse=True)
    drawn, axes = figure(9.6, 4.4, columns=2, sharey=True)
    for axis, (last, heading) in zip(
        axes, zip(LAST, ("last layer on the converter", "last layer digital"), strict=True), strict=True
    ):
        labels = [label for label in order("arm", summary, again) if label.endswith("digital") == bool(last)]
        for label in labels:
            calibration, _, way = label.removesuffix(last).partition(", ")
            mark, style = _TRAINED[way]
            own = summary[summary.arm == label].set_index("severity").accuracy.reindex(bits)
            axis.plot(range(len(bits)), 100 * own, mark + style, color=_CALIBRATIONS[calibration], ms=4.5, lw=1.4)
            here = again[again.arm == label].set_index("severity").accuracy.reindex(bits)
            diamonds(axis, np.arange(len(bits)), 100 * here)
        axis.axhline(100 * summary.clean.mean(), color=COLOURS["black"], ls="--", lw=1)
        axis.set_xticks(range(len(bits)), [f"{one:g}" for one in bits])
        axis.set(xlabel="bits of the converter", title=heading)
    axes[0].set_ylabel("test accuracy (%)")
    handles = [Line2D([], [], color=colour, lw=3, label=name) for name, colour in _CALIBRATIONS.items()]
    handles += [
        Line2D([], [], color="#555555", marker=mark, ls=style, label=name) for name, (mark, style) in _TRAINED.items()
    ]
    handles.append(Line2D([], [], color=COLOURS["black"], ls="--", lw=1, label="clean"))
    drawn.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    caption(
        drawn,
        "What decides at few bits: how the range is calibrated (colour), how the network is trained through it (mark "
        "and line), and whether its logits are converted too (panels). Mean over seeds.",
    )
    return drawn
