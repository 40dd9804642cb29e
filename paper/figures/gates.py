"""Figures of the pages on gates: what moves the gap, what revives a gate, what tells beforehand. They draw tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import ndtr

from paper.figures.prompts import spelt
from paper.figures.style import (
    COLOURS,
    ON_MAP,
    SEQUENTIAL,
    Look,
    band,
    caption,
    diamonds,
    fewer,
    figure,
    ink,
    interval,
    legend_above,
    looks,
    nothing,
    order,
    this_run,
)
from paper.studies.base import Result
from paper.studies.escape import spread
from paper.words.numbers import Shown, listed
from paper.words.spelling import times


def gap_survey(survey: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """The gap before training, a row per learner and a column per gate, mean over tasks and seeds; an infinite one, of
    either sign, is written without a colour.
    """
    again = this_run(rerun, survey)
    names, gates = (order(column, survey, again) for column in ("learner", "gate"))
    means = survey.pivot_table(index="learner", columns="gate", values="gap").reindex(names, columns=gates)
    finite = means.where(np.isfinite(means))
    drawn, axis = figure(7.4, max(2.6, 1.3 + 0.34 * len(means)))
    shown = axis.imshow(finite.to_numpy(), cmap=SEQUENTIAL, aspect="auto", vmin=0)
    there = again.groupby(["learner", "gate"])["gap"].mean()
    there = there[np.isfinite(there)]
    diamonds(
        axis,
        [gates.index(gate) + 0.36 for _, gate in there.index],
        [names.index(name) for name, _ in there.index],
        shown.to_rgba(there.to_numpy()),
    )
    for (row, column), value in np.ndenumerate(means.to_numpy()):
        if not np.isnan(value):
            colour = ink(shown.to_rgba(value)) if np.isfinite(value) else "black"
            said = f"{value:.1f}" if np.isfinite(value) else "∞" if value > 0 else "−∞"
            axis.text(column, row, said, ha="center", va="center", fontsize=9, color=colour)
    axis.set_xticks(range(len(means.columns)), [spelt(name) for name in means.columns])
    axis.set_yticks(range(len(means)), [spelt(name) for name in means.index])
    axis.set(xlabel="gate", ylabel="learner")
    axis.grid(False)
    drawn.colorbar(shown, label="gap before training (decades)")
    told = []
    if len(cells := finite.stack().dropna()):
        low, high = cells.idxmin(), cells.idxmax()
        told.append(
            f"Means over tasks and seeds: from {cells.min():.2f} decades ({spelt(low[0])}, {spelt(low[1])}) to "
            f"{cells.max():.2f} ({spelt(high[0])}, {spelt(high[1])})."
        )
    if np.isneginf(means).to_numpy().any():
        told.append("−∞: the prompts get no gradient at all, the gate all of it.")
    if np.isposinf(means).to_numpy().any():
        told.append("∞: the task's loss has no gradient for the gate.")
    told.append("Selectors choose from the pool, other gates scale.")
    caption(drawn, " ".join(told), fewer(again, survey, "task") + ON_MAP)
    return drawn


def from_words(starts: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """What contexts take off the gap by starting from words, a row per learner: measured with its interval, and
    predicted from the length of the prompts.
    """
    if not len(starts):
        return nothing("No learner here has contexts that could start from words.")
    again = this_run(rerun, starts)
    names = order("learner", starts, again)
    drawn, axis = figure(6.4, 1.5 + 0.3 * len(names))
    for place, name in enumerate(names):
        own = starts[starts["learner"] == name]
        mean, *ends = interval(own["taken"])
        axis.plot(ends, [place, place], color=COLOURS["blue"], lw=2, alpha=0.5)
        axis.plot(mean, place, "o", color=COLOURS["blue"], ms=5, label=None if place else "measured")
        axis.plot(
            own["predicted"].mean(),
            place,
            "|",
            color=COLOURS["vermillion"],
            ms=14,
            mew=2,
            label=None if place else "predicted by the length of the prompts",
        )
    there = again.groupby("learner")["taken"].mean()
    diamonds(axis, there, [names.index(name) for name in there.index])
    axis.axvline(0, color=COLOURS["black"], lw=0.8)
    axis.set_yticks(range(len(names)), [spelt(name) for name in names])
    axis.set(xlabel="taken off the gap by starting from words (decades)", ylim=(len(names) - 0.4, -0.6))
    legend_above(drawn, axis)
    means = starts.groupby("learner", sort=False)[["taken", "predicted"]].mean()
    told = ", ".join(
        f"{spelt(row.Index)} {row.taken:.2f} (predicted {row.predicted:.2f})" for row in means.itertuples()
    )
    caption(drawn, f"Taken off, in decades: {told}. Length gate; bars: 95 % over seeds.")
    return drawn


CHANGED = {
    "prompt_std": "initial deviation\nof the prompts",
    "bias": "bias of the gate",
    "temperature": "temperature\nof the gate",
    "gain": "factor on what\nthe gate sees",
    "aligned": "prompts turned towards\ntheir gradient",
}


def origin_shifts(shifts: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Gap over what is changed: measured, and predicted from the untouched gradients; a panel per intervention."""
    own, again = (table[table["weights"] == "trained"] for table in (shifts, this_run(rerun, shifts)))
    names = order("intervention", own, again, known=CHANGED)
    drawn, axes = figure(max(7.8, 1.56 * len(names)), 3.4, columns=len(names), sharey=True, squeeze=False)
    missed = {}
    for axis, name in zip(axes[0], names, strict=True):
        part, label = own[own["intervention"] == name], CHANGED.get(name, spelt(name))
        per_seed = part.groupby(["value", "seed"])[["gap", "predicted"]].mean()
        rows = per_seed["gap"].unstack()
        band(axis, rows, COLOURS["blue"], "measured")
        means = per_seed["predicted"].groupby("value").mean()
        axis.plot(means.index, means, "--", color=COLOURS["vermillion"], lw=1.8, label="predicted")
        axis.plot(rows.index, rows.mean(axis=1), "o", color=COLOURS["blue"], ms=4)
        there = again[again["intervention"] == name].groupby("value")["gap"].mean()
        diamonds(axis, there.index, there)
        if name not in ("bias", "aligned") and min([*means.index, *there.index]) > 0:
            axis.set_xscale("log")
        axis.set_xlabel(label, fontsize=8)
        axis.tick_params(labelsize=8)
        if len(part):
            # As the finding on it: where nothing is changed there is nothing to miss.
            moved = part[part["predicted"] != part["before"]]
            missed[name] = (moved["gap"] - moved["predicted"]).abs().groupby(moved["seed"]).mean().mean()
    axes[0, 0].set_ylabel("gap before training (decades)")
    legend_above(drawn, axes[0, 0])
    errors = ", ".join(f"{value:.2f}" for value in missed.values())
    caption(
        drawn,
        "Dashed: what the chain of factors predicts if only the factors that are meant answer. Mean errors from left "
        f"to right, cell by cell, where something is changed: {errors} decades. Bands: 95 % over seeds.",
        fewer(again, own, *(name for name in ("learner", "gate", "task") if name in own)),
    )
    return drawn


def angles(table: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Absolute cosine of the upstream gradient to prompt and token, over the prompts' initial deviation: in the first
    layer, where a token is prompt and position, and in deeper ones, where it is the prompt.
    """
    if not len(table):
        return nothing("No learner here has its prompts in the text alone.")
    own, again = (part[part["weights"] == "trained"] for part in (table, this_run(rerun, table)))
    layers = order("layer", own, again)
    titles = {"first": "first layer: token = prompt + position", "deeper": "deeper layers: token = prompt"}
    drawn, axes = figure(6.0 + 1.4 * (len(layers) > 1), 3.5, columns=len(layers), sharey=True, squeeze=False)
    for axis, layer in zip(axes[0], layers, strict=True):
        part, points = (rows[rows["layer"] == layer] for rows in (own, again))
        for column, colour, label in (
            ("to_prompt", "blue", "gradient and prompt"),
            ("to_token", "vermillion", "gradient and token"),
        ):
            if layer == "deeper" and column == "to_token":
                continue  # the same direction as the prompt's
            rows = part.pivot_table(index="value", columns="seed", values=column)
            band(axis, rows, COLOURS[colour], label)
            axis.plot(rows.index, rows.mean(axis=1), "o", color=COLOURS[colour], ms=4)
            there = points.groupby("value")[column].mean()
            diamonds(axis, there.index, there)
        if layer == "first":
            left = (part["chance"] * part["sine"]).groupby(part["value"]).mean()
            axis.plot(left.index, left, "--", color=COLOURS["blue"], lw=1.2, label="random, across the token")
        axis.axhline(part["chance"].mean(), color=COLOURS["black"], lw=0.9, ls=":", label="random directions")
        axis.set(xscale="log", yscale="log", xlabel="initial deviation of the prompts", title=titles.get(layer, layer))
        axis.title.set_fontsize(9)
    axes[0, 0].set_ylabel("mean |cosine|")
    legend_above(drawn, axes[0, 0], 4 if len(layers) > 1 else 2)
    first = own[own["layer"] == "first"]
    caption(
        drawn,
        f"To the token as the tower sees it the gradient has a cosine of {first['to_token'].mean():.3f} where random "
        f"directions have {first['chance'].mean():.3f}. What a gate meets is the cosine to the prompt. "
        "Bands: 95 % over seeds.",
        fewer(again, own, *(name for name in ("learner", "gate", "task") if name in own)),
    )
    return drawn


WAYS = {
    "length": Look(COLOURS["blue"], "o", "scales tokens"),
    "turn length": Look(COLOURS["vermillion"], "o", "turns tokens"),
    "depth": Look(COLOURS["sky"], "s", "scales layers"),
    "turn depth": Look(COLOURS["orange"], "s", "turns layers"),
    "soft": Look(COLOURS["green"], "^", "mixes a pool"),
}


def ways_to_act(across: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """The gap over the length of the prompts, for gates that scale them, turn them and mix several."""
    again = this_run(rerun, across)
    known = looks(order("gate", across, again, known=WAYS), WAYS)
    drawn, axis = figure(6.8, 3.6)
    closed = {}
    for name, look in known.items():
        rows = across[across["gate"] == name].pivot_table(index="value", columns="seed", values="gap")
        band(axis, rows, look.colour, look.label)
        means = rows.mean(axis=1)
        axis.plot(means.index, means, look.mark, color=look.colour, ms=4)
        there = again[again["gate"] == name].groupby("value")["gap"].mean()
        diamonds(axis, there.index, there)
        if len(means):
            closed[look.label] = means.iloc[0] - means.iloc[-1]
    axis.set(xscale="log", xlabel="initial deviation of the prompts", ylabel="gap before training (decades)")
    legend_above(drawn, axis, columns=5)
    values = sorted(set(across["value"]))
    told = ", ".join(f"{name} {value:.2f}" for name, value in closed.items())
    caption(
        drawn,
        f"From the shortest prompts to the longest, where a gate in proportion to their length gains "
        f"{np.log10(values[-1] / values[0]):.2f} decades: {told}. Mean over tasks; bands: 95 % over seeds.",
        fewer(again, across, "task"),
    )
    return drawn


def selection_usage(gates: pd.DataFrame, pool: int, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Entries of the pool in use, and input information, over optimiser steps, a line per selector."""
    again = this_run(rerun, gates)
    drawn, axes = figure(7.2, 3.5, columns=2)
    for axis, column in zip(axes, ("used", "information"), strict=True):
        for name, look in looks(order("gate", gates, again)).items():
            rows = gates[gates["gate"] == name].pivot_table(index="step", columns="seed", values=column)
            band(axis, rows, look.colour, spelt(name))
            there = again[again["gate"] == name].groupby("step")[column].mean()
            diamonds(axis, there.index, there)
        axis.set_xlabel("optimiser step")
    axes[0].axhline(pool, color=COLOURS["black"], ls=":", lw=1)
    axes[0].set(ylabel="entries of the pool in use", ylim=(0, pool + 0.5))
    axes[1].set(ylabel="input information (0 to 1)", ylim=(0, None))
    legend_above(drawn, axes[0])
    last = gates[gates["step"] == gates["step"].max()].groupby("gate", sort=False)["used"].mean()
    told = ", ".join(f"{value:.1f} by {spelt(name)}" for name, value in last.items())
    caption(
        drawn,
        f"Of {pool} entries (dotted), after training {told} are in use. Mean over tasks; bands: 95 % over seeds.",
        fewer(again, gates, "task"),
    )
    return drawn


LONG_LABELS = {
    "information": "input\ninformation",
    "spread": "deviation\nover pictures",
    "saturation": "saturated\nshare",
    "over_mean": "worth over\nits mean (points)",
}

#: Where logarithmic axes end: what a saturated gate has left is beyond.
LOWEST = {"information": 1e-6, "spread": 1e-4}


def long_runs(long: pd.DataFrame, worth: pd.DataFrame, *, rerun: Mapping[str, pd.DataFrame] | None = None) -> Figure:
    """Information, spread, saturation and worth of gates over the steps of long trainings: a column of panels per task,
    a line per training.

    ``rerun`` has this run's ``long`` and ``worth``, or one of them.
    """
    given = rerun or {}
    again = {"long": this_run(given.get("long"), long), "worth": this_run(given.get("worth"), worth)}
    names, trainings = order("task", long, again["long"]), looks(order("training", long, again["long"]))
    drawn, axes = figure(7.6, 7.2, columns=len(names), rows=len(LONG_LABELS), sharex=True, sharey="row", squeeze=False)
    for place, task in enumerate(names):
        for axis, (column, label) in zip(axes[:, place], LONG_LABELS.items(), strict=True):
            tables = (worth, again["worth"]) if column == "over_mean" else (long, again["long"])
            part, points = (table[table["task"] == task] for table in tables)
            for name, look in trainings.items():
                own, there = (table[table["training"] == name] for table in (part, points))
                rows = own.pivot_table(index="step", columns="seed", values=column)
                band(axis, rows, look.colour, look.label)
                if column == "over_mean":
                    axis.plot(rows.index, rows.mean(axis=1), look.mark, color=look.colour, ms=4)
                # Of what is watched all the time a few points will do.
                seen = there.groupby("step")[column].mean().iloc[:: 1 if column == "over_mean" else 5]
                diamonds(axis, seen.index, seen)
            axis.set_xscale("symlog", linthresh=1)
            if column in LOWEST:
                axis.set(yscale="log", ylim=(LOWEST[column], 1))
            if not place:
                axis.set_ylabel(label, fontsize=9)
        axes[0, place].set_title(spelt(task))
        axes[-1, place].set_xlabel("optimiser step")
        axes[-1, place].axhline(0, color=COLOURS["black"], lw=0.8)
    legend_above(drawn, axes[0, 0], 3)
    last = long.loc[long.groupby(["training", "task", "seed"])["step"].idxmax()]
    ends = last.groupby("training")["information"].mean().sort_values(na_position="first")
    over = f", in the mean over {listed(spelt(name) for name in names)}" if len(names) > 1 else ""
    caption(
        drawn,
        f"After {long['step'].max() + 1:,} steps at a constant rate the input information runs from {ends.iloc[0]:.1g} "
        f"({ends.index[0]}) to {ends.iloc[-1]:.1g} ({ends.index[-1]}){over}. The worth is measured "
        "at a few steps only. Bands: 95 % over seeds.",
        fewer(again["long"], long, "task"),
    )
    return drawn


ADVANTAGES = {
    "over_mean": Look(COLOURS["orange"], "o", "over its own mean"),
    "over_fixed": Look(COLOURS["grey"], "o", "over no gate"),
    "over_blind": Look(COLOURS["purple"], "o", "over a blind gate"),
}


def value_by_shots(few: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Advantage of the gate over its mean, over no gate and over a blind gate, against pictures per class."""
    again = this_run(rerun, few)
    names = order("task", few, again)
    drawn, axes = figure(7.2, 3.5, columns=len(names), sharey=True, squeeze=False)
    for axis, task in zip(axes[0], names, strict=True):
        part, points = (table[table["task"] == task] for table in (few, again))
        for column, look in ADVANTAGES.items():
            band(axis, part.pivot_table(index="shots", columns="seed", values=column), look.colour, look.label)
            there = points.groupby("shots")[column].mean()
            diamonds(axis, there.index, there)
        axis.axhline(0, color=COLOURS["black"], lw=0.8)
        axis.set_xscale("log", base=2)
        shots = sorted(order("shots", part, points))
        axis.set_xticks(shots, [f"{count:g}" for count in shots])
        axis.set(title=spelt(task), xlabel="pictures per class")
    axes[0, 0].set_ylabel("advantage of the gate (points)")
    legend_above(drawn, axes[0, 0])
    means = few.groupby(["task", "shots"])[list(ADVANTAGES)].mean()
    told = "; ".join(
        f"{look.label} {Shown(means[column].min()):+.1f} to {Shown(means[column].max()):+.1f}"
        for column, look in ADVANTAGES.items()
        if means[column].notna().any()
    )
    hidden = " The line over its own mean lies on zero." if means["over_mean"].abs().max() < 0.5 else ""
    caption(drawn, f"Points with few pictures as with many, task by task: {told}.{hidden} Bands: 95 % over seeds.")
    return drawn


def _own(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of interventions, without those of the map."""
    return table[~table["intervention"].str.startswith("map ")]


def intervention_looks(looks: pd.DataFrame, adaptive: float, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Worth of the gate over its mean at every look under each intervention: a dot per seed, a line for the mean."""
    own, again = _own(looks), _own(this_run(rerun, looks))
    steps = sorted(own["step"].unique())
    means = own[own["step"] == steps[-1]].groupby("intervention")["over_mean"].mean().sort_values()
    names = order("intervention", own, again, known=means.index)
    drawn, axes = figure(7.6, 1.5 + 0.25 * len(names), columns=len(steps), sharey=True, sharex=True, squeeze=False)
    for axis, step in zip(axes[0], steps, strict=True):
        for place, name in enumerate(names):
            part = own[(own["intervention"] == name) & (own["step"] == step)]
            values = part.groupby("seed")["over_mean"].mean()
            most = bool(len(part)) and part["adaptive"].mean() > 0.5
            face = {} if most else {"mfc": "none"}
            axis.plot(
                values,
                [place] * len(values),
                "o",
                color=COLOURS["blue" if most else "grey"],
                ms=3.5,
                alpha=0.55,
                **face,
            )
            axis.plot(values.mean(), place, "|", color=COLOURS["black"], ms=10, mew=1.6)
        there = again[again["step"] == step].groupby("intervention")["over_mean"].mean()
        diamonds(axis, there, [names.index(name) for name in there.index])
        axis.axvline(adaptive, color=COLOURS["vermillion"], ls="--", lw=1)
        axis.set(title=f"{step:g} steps", xlabel="points over its mean", ylim=(-0.7, len(names) - 0.3))
    axes[0, 0].set_yticks(range(len(names)), map(times, names), fontsize=8)
    most = own[own["step"] == steps[-1]].groupby("intervention")["adaptive"].mean() > 0.5
    caption(
        drawn,
        f"Of these seeds more than half have a gate that depends on its picture after {steps[-1]:g} steps under "
        f"{int(most.sum())} of {len(most)} ways to train it (filled); whether that is more than chance is judged "
        f"below. A dot is a seed, a bar the mean, dashed {adaptive:g} points.",
    )
    return drawn


WORTH = {
    "over_mean": Look(COLOURS["orange"], "o", "over its own mean"),
    "over_shuffled": Look(COLOURS["sky"], "o", "over itself shuffled"),
    "over_fixed": Look(COLOURS["grey"], "o", "over no gate"),
    "over_blind": Look(COLOURS["purple"], "o", "over a blind gate"),
}


def intervention_worth(looks: pd.DataFrame, margin: float, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Dependence on the left and gain on the right after the last step, with intervals over seeds."""
    own, again = _own(looks), _own(this_run(rerun, looks))
    end, points = own[own["step"] == own["step"].max()], again[again["step"] == again["step"].max()]
    means = end.groupby("intervention")["over_mean"].mean().sort_values()
    names = order("intervention", end, points, known=means.index)
    drawn, axes = figure(7.6, 1.6 + 0.27 * len(names), columns=2, sharey=True)
    panels = (("dependence", ("over_mean", "over_shuffled")), ("gain", ("over_fixed", "over_blind")))
    for axis, (title, columns) in zip(axes, panels, strict=True):
        for shift, column in zip((0.16, -0.16), columns, strict=True):
            look = WORTH[column]
            rows = [interval(end.loc[end["intervention"] == name, column]) for name in names]
            middle, low, high = np.array(rows).T
            places = np.arange(len(names)) + shift
            axis.hlines(places, low, high, color=look.colour, lw=1.6, alpha=0.7)
            axis.plot(middle, places, look.mark, color=look.colour, ms=4, label=look.label)
            there = points.groupby("intervention")[column].mean()
            diamonds(axis, there, [names.index(name) + shift for name in there.index])
        axis.axvline(0, color=COLOURS["black"], lw=0.8)
        axis.set(xlabel=f"{title} (points)", ylim=(-0.7, len(names) - 0.3))
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8, frameon=False)
    axes[1].axvspan(-margin, margin, color=COLOURS["green"], alpha=0.3, lw=0)
    axes[0].set_yticks(range(len(names)), map(times, names), fontsize=8)
    means = end.groupby("intervention")[["over_mean", "over_fixed", "over_blind"]].mean()
    both, told = means.dropna(subset=["over_mean", "over_fixed"]), ["No gain was measured."]
    if len(both):
        best, apart = both.loc[both["over_fixed"].idxmax()], (both["over_mean"] - both["over_fixed"]).abs()
        told = [
            f"The largest gain over no gate is {best['over_fixed']:.0f} points ({best.name}), whose gate loses "
            f"{best['over_mean']:.0f} held at its mean. Over all rows the two differ by {apart.mean():.1f} "
            f"points in the mean, and most with {apart.idxmax()} ({apart.max():.1f})."
        ]
    lost = [name for name in reversed(names) if name in means.index and np.isnan(means.loc[name, "over_blind"])]
    if lost and len(lost) < len(means):
        told.append(f"No blind gate was trained for {listed(lost)}.")
    caption(drawn, f"{' '.join(told)} Narrow band: within {margin:g} of nothing. Lines: 95 % over seeds.")
    return drawn


LEVERS = {
    "rate": Look(COLOURS["blue"], "o", "gate's rate"),
    "prompts": Look(COLOURS["orange"], "s", "longer prompts"),
    "temperature": Look(COLOURS["green"], "^", "colder gate"),
    "gain": Look(COLOURS["purple"], "v", "larger feature"),
}
_HOME = Look(COLOURS["black"], "P", "nothing changed")


def _escaped(escapes: pd.DataFrame) -> pd.DataFrame:
    """For each training of the law: its lever, decades taken off, the median step of escape and how many left.

    The median counts seeds that have not left as later than all: it is none where half of them have not.
    """
    own = escapes[(escapes["lever"] != "") & (escapes["strength"] == 1)].assign(late=escapes["escape"].fillna(np.inf))
    return own.groupby(["lever", "intervention"], sort=False, as_index=False).agg(
        taken=("taken", "mean"), middle=("late", "median"), left=("escape", "count"), seeds=("seed", "count")
    )


def escape_law(escapes: pd.DataFrame, law: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Step at which each gate left, against the decades that one lever took off its gap, and the fit of each lever.

    ``rerun`` are this run's ``escapes``; the law is that of the evidence.
    """
    own = escapes[(escapes["lever"] != "") & (escapes["strength"] == 1)]
    means, again = _escaped(escapes), _escaped(this_run(rerun, escapes))
    fitted = law.iloc[0]
    drawn, axis = figure(7.2, 4.2)
    names = order("lever", means, known=["home", *LEVERS])
    for lever in names:
        look = {"home": _HOME, **LEVERS}.get(lever) or Look(COLOURS["grey"], "o", lever)
        mine, part = own[own["lever"] == lever], means[means["lever"] == lever]
        axis.plot(mine["taken"], mine["escape"], look.mark, color=look.colour, ms=3, alpha=0.35)
        whole = np.isfinite(part["middle"])
        axis.plot(part["taken"][whole], part["middle"][whole], look.mark, color=look.colour, ms=8, label=look.label)
        late = part[~whole]
        axis.plot(late["taken"], [fitted["steps"] * 1.25] * len(late), look.mark, color=look.colour, ms=8, mfc="none")
        # An arrow says: later than this.
        axis.plot(
            late["taken"], [fitted["steps"] * 1.55] * len(late), marker="$\\uparrow$", ls="", color=look.colour, ms=9
        )
        if lever in fitted and np.isfinite(fitted[lever]):
            x = np.linspace(0, part["taken"].max(), 30)
            axis.plot(x, 10 ** (fitted["intercept"] - fitted[lever] * x), "--", color=look.colour, lw=1.4)
    diamonds(axis, again["taken"], again["middle"])
    axis.axhline(fitted["steps"], color=COLOURS["grey"], lw=1, ls=":")
    axis.set_yscale("log")
    axis.set(xlabel="decades taken off the gap", ylabel="step at which the gate leaves")
    legend_above(drawn, axis, columns=5)
    told = "Too few gates have left for a law to be fitted."
    slopes = [
        f"{look.label} {fitted[name]:.2f}".replace("-", "−")
        for name, look in LEVERS.items()
        if np.isfinite(fitted[name])
    ]
    if slopes:
        told = f"A decade saves so many decades of steps: {', '.join(slopes)} ({fitted['scatter']:.2f} of scatter)."
    caption(
        drawn,
        f"{told} Large: median over seeds, hollow with an arrow where half have not left in time (dotted). Small: "
        "seeds that left.",
    )
    return drawn


def lever_slopes(levers: pd.DataFrame, margin: float, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Decades of steps that a decade of each lever saves, and how much that differs from a decade of the rate."""
    again = this_run(rerun, levers)
    names = order("lever", levers, again, known=LEVERS)
    drawn, axes = figure(7.2, 1.5 + 0.4 * len(names), columns=2, sharey=True)
    panels = (
        ("slope", "low", "high", "decades of steps per decade"),
        ("less_rate", "less_low", "less_high", "less rate"),
    )
    for axis, (value, low, high, words) in zip(axes, panels, strict=True):
        for place, name in enumerate(names):
            row = levers[levers["lever"] == name]
            colour = LEVERS[name].colour if name in LEVERS else COLOURS["grey"]
            axis.hlines([place] * len(row), row[low], row[high], color=colour, lw=2, alpha=0.7)
            axis.plot(row[value], [place] * len(row), "o", color=colour, ms=6)
        diamonds(axis, again[value], [names.index(name) for name in again["lever"]])
        axis.set(xlabel=words, ylim=(-0.6, len(names) - 0.4))
        axis.axvline(0, color=COLOURS["black"], lw=0.8)
    axes[1].axvspan(-margin, margin, color=COLOURS["grey"], alpha=0.2, lw=0)
    labels = [LEVERS[name].label if name in LEVERS else str(name) for name in names]
    axes[0].set_yticks(range(len(names)), labels)
    caption(
        drawn,
        f"Left: what a decade saves. Right: less what a decade of the rate saves; inside the band ({margin:g}) a "
        "decade is a decade. Lines: 95 % over seeds drawn again.",
    )
    return drawn


def forecast(law: pd.DataFrame, levers: pd.DataFrame, lever: str, decades: float, steps: int = 100) -> Figure:
    """The chance that a gate has left, over optimiser steps, when a lever takes ``decades`` off its gap; ``steps`` are
    marked. With its 95 % interval; dashed where no gate was trained for so long or had so much taken off.
    """
    drawn, axis = figure(6.4, 3.4)
    fitted, name = law.iloc[0], LEVERS[lever].label
    axis.set(xscale="log", xlabel="optimiser steps", ylabel="gates that have left (%)", ylim=(-2, 102), xlim=(3, 1e5))
    if not np.isfinite(fitted[lever]):
        caption(drawn, f"Too few gates have left for a law to be fitted to: {name}.")
        return drawn
    row = levers.set_index("lever").loc[lever]
    seeds, trained = int(row["seeds"]), fitted["steps"]
    late = law["intercept"].to_numpy()[:, None] - law[lever].to_numpy()[:, None] * decades

    def chances(at: np.ndarray) -> np.ndarray:
        """Of every fit [D, steps], in per cent."""
        return 100 * ndtr((np.log10(at) - late) / law["scatter"].to_numpy()[:, None])

    grid = np.logspace(0.5, 5, 181)
    every = chances(grid)
    low, high = spread(every[1:], seeds)
    within = decades <= row["decades"] + 0.05
    seen = (grid <= trained) & within
    for where, colour, style in ((seen, "blue", "-"), (~seen | (grid >= grid[seen].max(initial=0)), "grey", "--")):
        axis.plot(grid[where], every[0][where], style, color=COLOURS[colour], lw=1.8)
        axis.fill_between(grid, low, high, where=where, color=COLOURS[colour], alpha=0.2, lw=0)
    axis.axvline(steps, color=COLOURS["vermillion"], ls="-.", lw=1.4)
    axis.axvline(trained, color=COLOURS["grey"], lw=1, ls=":")
    axis.set_title(f"{name}: {decades:g} decade{'' if decades == 1 else 's'} taken off")
    at = chances(np.array([float(steps)]))
    ends = spread(at[1:, 0], seeds)
    half, (first, last) = 10 ** late[0, 0], 10 ** spread(late[1:, 0], seeds)
    beyond = "" if within else f" No gate had so much taken off by this lever (at most {row['decades']:.1f})."
    if half > trained:
        beyond += f" Past {trained:g} steps no gate was watched (dashed): that is an extrapolation."
    caption(
        drawn,
        f"{at[0, 0]:.0f} % [{ends[0]:.0f}, {ends[1]:.0f}] of such gates have left after {steps} steps (dash-dotted), "
        f"half of them after {_steps(half)} [{_steps(first)}, {_steps(last)}].{beyond}",
    )
    return drawn


def gate_histogram(ends: pd.DataFrame, strength: float, step: int, rate: float) -> Figure:
    """How the values of a gate lie between shut and open over the test pictures, after so many steps: a bar per bin."""
    columns = [name for name in ends if str(name).startswith("bin_")]
    rows = ends[columns].to_numpy()
    edges = np.linspace(0, 1, len(columns) + 1)
    drawn, axis = figure(6.4, 2.8)
    middle, low, high = np.array([interval(row) for row in rows.T]).T
    axis.bar(edges[:-1], middle, width=np.diff(edges), align="edge", color=COLOURS["blue"], ec="white", lw=0.6)
    axis.vlines((edges[:-1] + edges[1:]) / 2, low, high, color=COLOURS["black"], lw=1)
    axis.set(xlabel="value of the gate (0 shut, 1 open)", ylabel="share of values (%)", xlim=(0, 1), ylim=(0, 100))
    axis.grid(axis="x", visible=False)
    centre = (edges[:-1] + edges[1:]) / 2
    mean = rows @ centre / 100
    apart = np.sqrt(np.maximum(rows @ centre**2 / 100 - mean**2, 0))
    caption(
        drawn,
        f"Conflict {strength:g}, {step} steps, {rate:g} times the gate's rate: the gate's values lie around "
        f"{mean.mean():.2f} with a deviation of {apart.mean():.2f}; input information {ends['information'].mean():.2g}."
        f" Over test pictures and {len(ends)} seeds; bars: 95 % over seeds.",
    )
    return drawn


def _steps(count: float) -> str:
    """A number of steps, as far as it can be meant."""
    return "over a million" if count > 1e6 else f"{float(f'{count:.2g}'):,.0f}"


def highest(*results: Result | None) -> float:
    """The largest mean worth on the maps of these results, to which one scale of colours for all of them goes."""
    every = [result.tables["looks"] for result in results if result is not None]
    shown = [table[table["intervention"].str.startswith("map ")] for table in every]
    means = [table.groupby(["intervention", "strength", "step"])["over_mean"].mean() for table in shown]
    return max((float(one.max()) for one in means if one.notna().any()), default=1.0)


def escape_map(
    looks: pd.DataFrame,
    boundary: pd.DataFrame,
    adaptive: float,
    *,
    top: float | None = None,
    rerun: pd.DataFrame | None = None,
) -> Figure:
    """Conflict strength x steps, coloured by the gate's worth, with the line where half the trainings are adaptive.

    Colours end at ``top``, or at the largest value shown. ``rerun`` are this run's ``looks``; the line is that of the
    evidence.
    """
    again = this_run(rerun, looks)
    names = [name for name in order("intervention", looks, again) if name.startswith("map ")]
    drawn, axes = figure(7.4, 3.6, columns=len(names), sharey=True, squeeze=False)
    top = top or max(
        looks["over_mean"].groupby([looks["intervention"], looks["strength"], looks["step"]]).mean().max(), 1
    )
    reached, without = [], False
    for axis, name in zip(axes[0], names, strict=True):
        part, points = (table[table["intervention"] == name] for table in (looks, again))
        strengths, steps = (sorted(order(column, part, points)) for column in ("strength", "step"))
        means = part.pivot_table(index="strength", columns="step", values="over_mean").reindex(strengths, columns=steps)
        shown = axis.imshow(means.to_numpy(), cmap=SEQUENTIAL, vmin=0, vmax=top, aspect="auto", origin="lower")
        there = points.groupby(["strength", "step"])["over_mean"].mean()
        diamonds(
            axis,
            [steps.index(step) + 0.34 for _, step in there.index],
            [strengths.index(strength) for strength, _ in there.index],
            shown.to_rgba(there.to_numpy()),
        )
        for (row, column), value in np.ndenumerate(means.to_numpy()):
            if not np.isfinite(value):
                continue
            axis.text(
                column,
                row,
                f"{value:.0f}".replace("-0", "0"),
                ha="center",
                va="center",
                fontsize=9,
                color=ink(shown.to_rgba(value)),
            )
        line = boundary[boundary["intervention"] == name]
        logs = np.log10(means.columns.to_numpy(dtype=float))
        columns = np.interp(np.log10(line["steps"]), logs, np.arange(len(logs)), left=np.nan, right=np.nan)
        rows = np.interp(line["strength"], means.index, np.arange(len(means)))
        axis.plot(columns, rows, "-", color=COLOURS["vermillion"], lw=2.4)
        axis.set_xticks(range(len(means.columns)), [f"{step:g}" for step in means.columns])
        axis.set_yticks(range(len(means)), [f"{value:g}" for value in means.index])
        optimiser = {"sgd": "SGD", "adam": "Adam"}.get(name.removeprefix("map "), name)
        axis.set(title=optimiser, xlabel="optimiser steps")
        axis.grid(False)
        reached.append(f"{int((means > adaptive).to_numpy().sum())} of {means.count().sum()} with {optimiser}")
        without |= bool((means[means.index == 0] > adaptive).to_numpy().any())
    axes[0, 0].set_ylabel("strength of the conflict")
    drawn.colorbar(shown, ax=list(axes[0]), label="worth of the gate (points)")
    told = "Gating is effective where there is a conflict and enough steps for it"
    if without:
        told = "With steps enough a gate depends on its picture even where there is nothing to gain by it (strength 0)"
    caption(
        drawn,
        f"{told}: {', '.join(reached)}. Numbers: points over the gate's own mean; line: where a logistic fit puts "
        "even odds of an adaptive gate.",
        ON_MAP,
    )
    return drawn


MOMENTS = {
    "before": Look(COLOURS["sky"], "o", "before the first step"),
    "early": Look(COLOURS["orange"], "s", "after an eighth of the steps"),
    "late": Look(COLOURS["blue"], "^", "after the last step"),
}


def roc_areas(
    areas: pd.DataFrame, labels: dict[str, str], tells: float, *, rerun: pd.DataFrame | None = None
) -> Figure:
    """Area under the ROC curve of every measurement before, early and late, with intervals: for gain and, in a second
    panel, for dependence.
    """
    again = this_run(rerun, areas)
    names, moments = order("measurement", areas, again), looks(order("when", areas, again, known=MOMENTS), MOMENTS)
    drawn, axes = figure(8.6, 1.8 + 0.4 * len(names), columns=2, sharey=True)
    for axis, (column, about) in zip(axes, {"area": "gain", "dependence": "dependence"}.items(), strict=True):
        for shift, (when, look) in zip(np.linspace(-0.22, 0.22, len(moments)), moments.items(), strict=True):
            part, there = (
                table[table["when"] == when].set_index("measurement").reindex(names) for table in (areas, again)
            )
            places = np.arange(len(names)) + shift
            axis.hlines(places, part[f"{column}_low"], part[f"{column}_high"], color=look.colour, lw=2, alpha=0.6)
            axis.plot(part[column], places, look.mark, color=look.colour, ms=5, label=look.label)
            diamonds(axis, there[column], places)
        axis.axvline(0.5, color=COLOURS["black"], lw=0.8, ls=":")
        axis.axvline(tells, color=COLOURS["vermillion"], lw=1, ls="--")
        axis.set(title=f"truth: {about}", xlabel="area under the ROC curve", xlim=(0, 1.02))
    axes[0].set_yticks(range(len(names)), [labels.get(name, name) for name in names], fontsize=8)
    axes[0].invert_yaxis()
    legend_above(drawn, axes[0])
    table = areas.set_index(["measurement", "when"])["area"]
    early, told = table.xs("early", level="when").dropna(), "No recipe has both outcomes: there is nothing to compare."
    if len(early):
        told = (
            f"An eighth of the way, the best sign of gain is: {labels.get(early.idxmax(), early.idxmax())} "
            f"({early.max():.2f}); the gap alone is worth {table['gap', 'before']:.2f} before, "
            f"{table['gap', 'early']:.2f} early, {table['gap', 'late']:.2f} late (small counts as good)."
        )
    caption(
        drawn,
        f"{told} Pairs of one recipe only; the last two rows are about tasks that they have not seen. Dotted: a coin; "
        f"dashed: {tells:g}. Lines: 95 % over trainings drawn again.",
    )
    return drawn
