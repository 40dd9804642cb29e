"""The sentences and tables of the page on the forward operator."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.hardware.perturbations import PERTURBATIONS
from lib.results import Tables
from paper.studies.operator import REALISTIC, View, exponents
from paper.words.format import duration, number, quantity


def layer_table(tables: Tables) -> pd.DataFrame:
    """Relative change of the output in per cent: a row for each class, a column for each kind of layer."""
    table = tables["layers"]
    named = table.assign(
        severity=[quantity(row.severity, row.unit) for row in table.itertuples()],
        perturbation=[PERTURBATIONS[name].title for name in table.perturbation],
        change=100 * table.change,
    )
    return named.pivot_table(index=["perturbation", "severity"], columns="layer", values="change", sort=False)


def estimate_table(tables: Tables) -> pd.DataFrame:
    """Largest error of the fast estimate in per cent of the largest current, mean over arrays."""
    table = tables["loss"].pivot_table(index=["kind", "side"], columns="ohm", values="error", sort=False)
    named = table.rename(columns=lambda ohm: f"{number(ohm)} Ω").rename_axis(columns=None, index=["kind", "lines"])
    return named.map(lambda value: number(value, digits=1))


def where_lost(seen: View) -> str:
    """Where the signal of a view goes, in a sentence with the measured numbers (Markdown)."""
    lost = seen.cell_loss
    dark = seen.volts == 0
    back = -seen.current[dark].sum()
    m, n = lost.shape
    driven = np.flatnonzero(~dark)
    near, far = lost[driven[-1], 0], lost[driven[0], n - 1]
    return (
        f"With {seen.r_word:g} Ω per segment the array delivers {100 * (1 - seen.total_loss):.1f} % of the current "
        f"that it owes. The cell nearest to its source and its sense node loses {100 * near:.1f} %, the one "
        f"furthest from both {100 * far:.1f} %. {int(dark.sum())} of {m} word lines carry no input; through their "
        f"cells {back:.2g} µA run backwards, from the bit lines, which are no longer at 0 V, into word lines that are."
    )


def _two(value: float) -> str:
    """Two digits that count, the last one even where it is a zero: beside 0.89 stands 0.90."""
    return f"{value:#.2g}".removesuffix(".")


def of_wires(tables: Tables) -> str:
    """What wires cost over side and resistance (Markdown)."""
    loss, tiles = tables["loss"], tables["tiles"]
    ohm = REALISTIC if REALISTIC in set(loss.ohm) else loss.ohm.min()
    means = loss[(loss.ohm == ohm) & (loss.kind == "uniform")].groupby("side").loss.mean()
    steps = ", ".join(f"{_two(value)} % at {side} lines" for side, value in means.items())
    powers = "; ".join(
        f"{exponents(loss, one).mean():.2f} at {one:g} Ω" for one in sorted(set(loss.ohm)) if len(means) > 1
    )
    by_tile = tiles.groupby("tile").loss.mean()
    cut = ", ".join(f"{_two(value)} % in tiles of {tile}" for tile, value in by_tile.items())
    return (
        f"At {ohm:g} Ω per segment an array of uniform random conductances loses {steps}. The power of the side "
        f"by which the loss grows: {powers}. Cut into smaller arrays, {int(tiles.side.iloc[0])} lines "
        f"lose {cut} (at {REALISTIC:g} Ω)."
    )


def over_time(tables: Tables) -> str:
    """What calibrated chips cost an unaware network (Markdown)."""
    table = tables["chips"]
    means = table.groupby(["chip", "seconds"], sort=False)[["accuracy", "low"]].mean()
    clean = table.groupby("seed").clean.first().mean()
    first, last = table.seconds[table.seconds > 0].min(), table.seconds.max()
    raw, repaired = means.loc["phase-change"].accuracy, means.loc["phase-change, compensated"].accuracy
    resistive = means.loc["resistive"].iloc[0]
    return (
        f"The plain network is right on {clean:.1f} % of the test images. On phase-change chips it is right on "
        f"{raw[first]:.1f} % after {duration(first)} and on {raw[last]:.1f} % after {duration(last)}; with one factor "
        f"per layer behind the array, on {repaired[last]:.1f} %. On resistive chips it is right on "
        f"{resistive.accuracy:.1f} % (5th percentile of chips {resistive.low:.1f} %)."
    )
