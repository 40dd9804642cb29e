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
    Look,
    band,
    caption,
    diamonds,
    fewer,
    figure,
    interval,
    legend_above,
    looks,
    order,
    this_run,
)


def gap_survey(survey: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """The gap before training, a row per learner and a column per gate, mean over tasks and seeds."""
    again = this_run(rerun, survey)
    names, gates = (order(column, survey, again) for column in ("learner", "gate"))
    means = survey.pivot_table(index="learner", columns="gate", values="gap").reindex(names, columns=gates)
    drawn, axis = figure(7.0, max(2.6, 1.3 + 0.34 * len(means)))
    shown = axis.imshow(means.to_numpy(), cmap="cividis", aspect="auto", vmin=0)
    there = again.groupby(["learner", "gate"])["gap"].mean()
    diamonds(
        axis,
        [gates.index(gate) + 0.36 for _, gate in there.index],
        [names.index(name) for name, _ in there.index],
        shown.to_rgba(there.to_numpy()),
    )
    for (row, column), value in np.ndenumerate(means.to_numpy()):
        if np.isfinite(value):
            colour = "white" if value < 0.6 * np.nanmax(means.to_numpy()) else "black"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=9, color=colour)
    axis.set_xticks(range(len(means.columns)), [spelt(name) for name in means.columns])
    axis.set_yticks(range(len(means)), [spelt(name) for name in means.index])
    axis.set(xlabel="gate", ylabel="learner")
    axis.grid(False)
    drawn.colorbar(shown, label="gap before training (decades)")
    low, high = means.stack().idxmin(), means.stack().idxmax()
    caption(
        drawn,
        f"From {means.stack().min():.1f} decades ({spelt(low[0])}, {spelt(low[1])}) to {means.stack().max():.1f} "
        f"({spelt(high[0])}, {spelt(high[1])}): the gap belongs to gating as such, not to one learner. Mean over tasks "
        "and seeds; selectors choose from the pool, other gates scale.",
        fewer(again, survey, "task") + ON_MAP,
    )
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
            missed[name] = (part["gap"] - part["predicted"]).abs().mean()
    axes[0, 0].set_ylabel("gap before training (decades)")
    legend_above(drawn, axes[0, 0])
    caption(
        drawn,
        "Dashed: what the chain of factors predicts if only the factors that are meant answer. Mean errors from left "
        f"to right: {', '.join(f'{value:.2f}' for value in missed.values())} decades. What concerns the gate alone is "
        "predicted; a change of the prompts also changes the gradient that they receive. Bands: 95 % over seeds.",
        fewer(again, own, *(name for name in ("learner", "gate", "task") if name in own)),
    )
    return drawn


def angles(table: pd.DataFrame, width: int, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Absolute cosine of the upstream gradient to the prompt and to the token, over the prompts' initial deviation."""
    own, again = (part[part["weights"] == "trained"] for part in (table, this_run(rerun, table)))
    drawn, axis = figure(6.4, 3.3)
    for column, colour, label in (
        ("to_prompt", "blue", "gradient and prompt"),
        ("to_token", "vermillion", "gradient and token (prompt and position)"),
    ):
        rows = own.pivot_table(index="value", columns="seed", values=column)
        band(axis, rows, COLOURS[colour], label)
        axis.plot(rows.index, rows.mean(axis=1), "o", color=COLOURS[colour], ms=4)
        there = again.groupby("value")[column].mean()
        diamonds(axis, there.index, there)
    chance = float(np.sqrt(2 / (np.pi * width)))
    axis.axhline(chance, color=COLOURS["black"], lw=0.9, ls=":", label="random directions")
    axis.set(xscale="log", xlabel="initial deviation of the prompts", ylabel="mean |cosine|", ylim=(0, None))
    legend_above(drawn, axis)
    caption(
        drawn,
        f"To the token as the tower sees it the gradient has a cosine of {own['to_token'].mean():.3f} where chance "
        f"would give {chance:.3f}: perpendicular. Short prompts lie at a random angle; the longer they are, the more "
        "of the token they are. Bands: 95 % over seeds.",
        fewer(again, own, *(name for name in ("learner", "gate", "task") if name in own)),
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
            if column in ("information", "spread"):
                axis.set_yscale("log")
            if not place:
                axis.set_ylabel(label, fontsize=9)
        axes[0, place].set_title(spelt(task))
        axes[-1, place].set_xlabel("optimiser step")
        axes[-1, place].axhline(0, color=COLOURS["black"], lw=0.8)
    legend_above(drawn, axes[0, 0], 3)
    ends = (
        long.loc[long.groupby(["training", "task", "seed"])["step"].idxmax()].groupby("training")["information"].mean()
    )
    caption(
        drawn,
        f"After {long['step'].max() + 1:,} steps at a constant rate the input information runs from {ends.min():.1g} "
        f"({ends.idxmin()}) to {ends.max():.1g} ({ends.idxmax()}). The worth is "
        "measured at a few steps only. Bands: 95 % over seeds.",
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
    largest = few.groupby(["task", "shots"])["over_mean"].mean().abs().max()
    caption(
        drawn,
        f"With few pictures as with many: the gate is never worth more than {largest:.1f} points over its own mean. "
        "Bands: 95 % over seeds.",
    )
    return drawn


def intervention_bars(looks: pd.DataFrame, adaptive: float, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Worth of the gate at the last step under each intervention, sorted; small marks: at the first look."""
    own, again = (table[~table["intervention"].str.startswith("map ")] for table in (looks, this_run(rerun, looks)))
    first, last = own["step"].min(), own["step"].max()
    end, points = (table[table["step"] == last] for table in (own, again))
    means = end.groupby("intervention")["over_mean"].mean().sort_values()
    names = order("intervention", end, points, known=means.index)
    drawn, axis = figure(7.4, 1.4 + 0.24 * len(names))
    for place, name in enumerate(names):
        values = end[end["intervention"] == name].groupby("seed")["over_mean"].mean()
        mean, low, high = interval(values)
        axis.barh(place, mean, color=COLOURS["blue" if low > adaptive else "grey"], height=0.62)
        axis.plot([low, high], [place, place], color=COLOURS["black"], lw=1)
        early = own[(own["intervention"] == name) & (own["step"] == first)]["over_mean"].mean()
        axis.plot(early, place, "|", color=COLOURS["orange"], ms=10, mew=2)
    there = points.groupby("intervention")["over_mean"].mean()
    diamonds(axis, there, [names.index(name) for name in there.index])
    axis.axvline(adaptive, color=COLOURS["vermillion"], ls="--", lw=1)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel=f"worth of the gate after {last:g} steps: points over its own mean", ylim=(-0.7, len(names) - 0.3))
    caption(
        drawn,
        f"{int((means > adaptive).sum())} of {len(means)} ways to train the same gate on the same task make it worth "
        f"more than {adaptive:g} points (dashed); grey: the interval over seeds does not clear that. Orange: after "
        f"{first:g} steps.",
    )
    return drawn


def _escaped(escapes: pd.DataFrame) -> pd.DataFrame:
    """For each intervention on the full conflict: how far behind, when it left, and how many of how many seeds did."""
    own = escapes[(escapes["strength"] == 1) & ~escapes["intervention"].str.startswith("map ")]
    return own.groupby("intervention", sort=False).agg(
        behind=("behind", "mean"), escape=("escape", "mean"), left=("escape", "count"), seeds=("seed", "count")
    )


def escape_law(escapes: pd.DataFrame, law: pd.DataFrame, *, rerun: pd.DataFrame | None = None) -> Figure:
    """Step at which each gate left, against how far its gradient was behind; the fit, and what it was not fitted to.

    ``rerun`` are this run's ``escapes``; the law is that of the evidence.
    """
    means, again = _escaped(escapes), _escaped(this_run(rerun, escapes))
    drawn, axis = figure(7.2, 4.0)
    diamonds(axis, again["behind"], again["escape"])
    rates = [name.startswith(("gate rate", "as published")) for name in means.index]
    for chosen, colour, label in ((rates, "blue", "gate's rate"), (~np.array(rates), "orange", "other interventions")):
        part = means[np.array(chosen) & (means["left"] > 0)]
        whole = part[part["left"] == part["seeds"]]
        axis.plot(part["behind"], part["escape"], "o", color=COLOURS[colour], ms=6, mfc="none")
        axis.plot(whole["behind"], whole["escape"], "o", color=COLOURS[colour], ms=6, label=label)
    drawn_points = means[means["left"] > 0].sort_values("behind")
    for place, (name, row) in enumerate(drawn_points.iterrows()):
        # Neighbours are labelled on alternating sides, or they would cover each other.
        axis.annotate(
            name.removeprefix("gate rate "),
            (row["behind"], row["escape"]),
            fontsize=7,
            va="center",
            xytext=(6, 0) if place % 2 else (-6, 0),
            ha="left" if place % 2 else "right",
            textcoords="offset points",
        )
    fitted = law.iloc[0]
    if np.isfinite(fitted["slope"]) and len(drawn_points):
        x = np.linspace(drawn_points["behind"].min() - 0.3, drawn_points["behind"].max() + 0.3, 30)
        axis.plot(x, 10 ** (fitted["slope"] * x + fitted["intercept"]), "--", color=COLOURS["blue"], lw=1.4)
    axis.set_yscale("log")
    axis.set(
        xlabel="decades that the gate's gradient is behind (gap less log10 of its rate)",
        ylabel="step at which the gate leaves",
    )
    legend_above(drawn, axis)
    never = [name for name in means.index if means.loc[name, "left"] == 0]
    told = "Too few gates have left for a law to be fitted."
    if np.isfinite(fitted["slope"]):
        told = (
            f"Over the multiples of the gate's rate, a decade of gap costs {fitted['slope']:.2f} decades of steps "
            f"[{fitted['low']:.2f}, {fitted['high']:.2f}], with {fitted['scatter']:.2f} decades of scatter."
        )
    caption(
        drawn,
        f"{told} Points: mean over the seeds that left (hollow: not all did). Never left: "
        f"{', '.join(never) or 'none'}.",
    )
    return drawn


def forecast(law: pd.DataFrame, gap: float, rate: float, steps: int = 100) -> Figure:
    """The chance that a gate has left, over optimiser steps, by the fitted law; ``steps`` are marked."""
    fitted = law.iloc[0]
    if not np.isfinite(fitted["slope"]):
        drawn, axis = figure(6.4, 3.2)
        axis.set(xlabel="optimiser steps", ylabel="gates that have left (%)")
        caption(drawn, "Too few gates have left for a law to be fitted.")
        return drawn
    behind = gap - np.log10(rate)
    grid = np.logspace(0.5, 5, 200)

    def chance(at: float | np.ndarray) -> np.ndarray:
        return ndtr((np.log10(at) - fitted["slope"] * behind - fitted["intercept"]) / fitted["scatter"])

    drawn, axis = figure(6.4, 3.2)
    axis.plot(grid, 100 * chance(grid), color=COLOURS["blue"], lw=1.8)
    axis.axvline(steps, color=COLOURS["vermillion"], ls="--", lw=1.2)
    axis.set(
        xscale="log",
        xlabel="optimiser steps",
        ylabel="gates that have left (%)",
        ylim=(-2, 102),
        title=f"gap {gap:g} decades, gate rate x {rate:g}",
    )
    half = 10 ** (fitted["slope"] * behind + fitted["intercept"])
    caption(
        drawn,
        f"By the fitted law {100 * float(chance(steps)):.0f} % of such gates have left after {steps} steps (dashed), "
        f"and half of them after {half:,.0f}. Where no gate was watched for so long, that is an extrapolation.",
    )
    return drawn


def escape_map(
    looks: pd.DataFrame, boundary: pd.DataFrame, adaptive: float, *, rerun: pd.DataFrame | None = None
) -> Figure:
    """Conflict strength x steps, coloured by the gate's worth, with the line where half the trainings are adaptive.

    ``rerun`` are this run's ``looks``; the line is that of the evidence.
    """
    again = this_run(rerun, looks)
    names = [name for name in order("intervention", looks, again) if name.startswith("map ")]
    drawn, axes = figure(7.4, 3.6, columns=len(names), sharey=True, squeeze=False)
    top = max(looks["over_mean"].groupby([looks["intervention"], looks["strength"], looks["step"]]).mean().max(), 1)
    reached = []
    for axis, name in zip(axes[0], names, strict=True):
        part, points = (table[table["intervention"] == name] for table in (looks, again))
        strengths, steps = (sorted(order(column, part, points)) for column in ("strength", "step"))
        means = part.pivot_table(index="strength", columns="step", values="over_mean").reindex(strengths, columns=steps)
        shown = axis.imshow(means.to_numpy(), cmap="cividis", vmin=0, vmax=top, aspect="auto", origin="lower")
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
                color="white" if value < 0.55 * top else "black",
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
    axes[0, 0].set_ylabel("strength of the conflict")
    drawn.colorbar(shown, ax=list(axes[0]), label="worth of the gate (points)")
    caption(
        drawn,
        f"Gating is effective where there is a conflict and enough steps for it: {', '.join(reached)}. Numbers: points "
        "over the gate's own mean; red: where a logistic fit puts even odds of an adaptive gate.",
        ON_MAP,
    )
    return drawn


MOMENTS = {
    "before": Look(COLOURS["sky"], "o", "before the first step"),
    "early": Look(COLOURS["orange"], "o", "after an eighth of the steps"),
    "late": Look(COLOURS["blue"], "o", "after the last step"),
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
