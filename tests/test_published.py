"""Where published devices lie: values from their laws, ranges on axes, and verdicts on both sides."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.hardware.circuit import effective_conductance
from lib.hardware.devices import HARDWARE, make
from paper import published
from paper.figures import hardware as figures
from paper.figures import style
from paper.studies.beyond_training import advice
from paper.studies.recovery import OPEN, VERDICTS, by_side, summarise
from paper.words import perturbation as words

ROOT = Path(published.__file__).parents[1]


#: Hardware of which no severity was found in print that is one number.
UNPUBLISHED = ("input_noise", "output_noise", "tile_adc")


def runs(name: str, levels: dict[float, tuple[float, float]], rules=("autograd",), seeds: int = 4) -> pd.DataFrame:
    """Severity -> accuracy unaware and trained; 0.95 clean."""
    rows = []
    for seed in range(seeds):
        for severity, (unaware, trained) in levels.items():
            for rule, value in [("unaware", unaware), *((rule, trained) for rule in rules)]:
                row = {"network": "mlp", "perturbation": name, "rule": rule, "severity": severity, "seed": seed}
                row |= {"clean": 0.95, "accuracy": value + 1e-4 * seed, "low": value, "crest": 3.0, "steps": 9}
                rows.append(row | {"first": value, "chips": 25})
    return pd.DataFrame(rows)


def test_every_class_has_a_published_severity_with_its_source():
    keys = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE))
    table = published.table()
    assert set(table.perturbation) == set(HARDWARE) - {"ideal", *UNPUBLISHED}
    assert set(table.key) - {""} <= keys and table.what.all() and table.note.all()
    for one in published.devices():
        assert HARDWARE[one.perturbation].check(one.severity) == one.severity


def test_values_follow_from_the_published_laws():
    # By hand: the parabola 0.26348 + 1.965 g - 1.1731 g^2 has its top at g = 1.965 / 2.3462, in a window of 25 µS.
    top = 1.965 / 2.3462
    pcm = [one.severity for one in published.devices() if one.perturbation == "variability" and "phase" in one.what]
    assert max(pcm) == pytest.approx((0.26348 + 1.965 * top - 1.1731 * top**2) / 25, rel=1e-4)
    assert min(pcm) == pytest.approx(0.26348 / 25)
    # At Gmax, 20 s after programming: .0088 sqrt(ln(20 / 500 ns)).
    assert published.span("read_noise")[1] == pytest.approx(0.0088 * math.sqrt(math.log(20 / 500e-9)), rel=1e-3)
    assert published.span("stuck_at")[1] == pytest.approx(0.1079)
    # 3 kΩ on 64 lines are 47 Ω on 512.
    assert published.equivalent(3000, 64, 512) == pytest.approx(46.9, abs=0.1)
    assert published.span("adc") == (9, 8) and published.span("dac") == (8, 7) and published.span("ideal") is None


@pytest.mark.parametrize("lines", [12, 24])
def test_resistance_weighs_with_the_square_of_the_lines(lines):
    """The circuit itself: half as many lines lose as much at four times the resistance."""

    def loss(size: int, ohm: float) -> float:
        g = 12.5 * torch.ones(size, size, dtype=torch.float64)
        seen = effective_conductance(g, torch.tensor(ohm).double(), torch.tensor(ohm).double())
        return float(1 - seen.sum() / g.sum())

    own = loss(lines, published.equivalent(1.0, 2 * lines, lines))
    # Of n lines the first cell has one segment and the last n: n (n + 1), the nearer to n^2 the more there are.
    assert own == pytest.approx(loss(2 * lines, 1.0), rel=1 / lines) and 0 < own < 0.05


@pytest.mark.parametrize("name", [name for name in HARDWARE if name not in ("ideal", *UNPUBLISHED)])
def test_sides_change_once_from_mild_to_harsh(name):
    physics = HARDWARE[name]
    grid = sorted(physics.grid, reverse=physics.off > physics.high)
    sides = [published.side(name, one) for one in grid]
    assert sides == sorted(sides, reverse=True)
    ends = published.span(name)
    assert published.side(name, ends[1]) == published.side(name, ends[0]) == "inside"
    low, high = published.place(name, grid)
    assert -0.5 <= low <= high <= len(grid) - 0.5
    # The band ends where the sides change.
    inside = sides.count("inside")
    assert high >= inside - 1 and (inside == len(grid) or high < inside)


def test_what_is_inside_and_what_is_beyond_is_judged_separately():
    levels = {0.02: (0.949, 0.92), 0.05: (0.8, 0.9), 0.4: (0.5, 0.5), 0.8: (0.4, 0.4)}
    table = by_side(runs("variability", levels)).set_index("published")
    inside, beyond = table.loc["inside"], table.loc["beyond"]
    assert (inside.severities, beyond.severities) == (2, 2)
    assert inside.damage == pytest.approx((0.001 + 0.15) / 2, abs=1e-3) and inside.most == pytest.approx(0.15, abs=1e-3)
    assert inside.recovery == pytest.approx(0.071 / 0.151, abs=0.01) and beyond.recovery == pytest.approx(0, abs=0.01)
    assert beyond.verdict == "not recovered" and inside.recovery_low <= inside.recovery <= inside.recovery_high
    # No damage inside does not hide harm.
    assert by_side(runs("adc", {8.0: (0.9497, 0.92), 2.0: (0.3, 0.8)})).verdict.tolist() == ["harmed", "compensated"]
    # A seed of which a training has diverged does not count with what is left of it.
    lost = runs("variability", levels)
    lost = lost[~((lost.rule == "autograd") & (lost.seed == 0) & (lost.severity == 0.05))]
    assert by_side(lost).set_index("published").recovery["inside"] == pytest.approx(inside.recovery, abs=0.01)
    assert by_side(runs("ideal", {0.0: (0.9, 0.9)})).empty


def test_tables_sentences_and_figures_know_the_published_range():
    levels = {8.0: (0.9497, 0.92), 6.0: (0.9, 0.93), 2.0: (0.3, 0.8)}
    table, physics = runs("adc", levels, ("autograd", "straight_through")), make("adc")
    looked = table[["network", "perturbation", "rule", "severity", "seed"]].copy()
    for column in ("cosine", "bias", "truth", "variance", "signal", "live", "gain", "rank"):
        looked[column] = 1.0
    tables = {"accuracy": table, "diagnostics": looked, "summary": summarise(table, looked)}
    assert tables["summary"].groupby("severity").published.first().to_dict() == {8: "inside", 6: "beyond", 2: "beyond"}
    assert words.verdicts(tables).published.tolist() == tables["summary"].published.tolist()
    said = words.inside_and_beyond(tables, physics)
    assert "8 to 9 bits" in said and "**Up to the harshest of them** (1 severity)" in said and "*harmed*" in said
    assert "**Beyond** that (2 severities)" in said and "*compensated*" in said and "nan" not in said
    assert "none of the severities" in words.inside_and_beyond({"accuracy": table[table.severity < 8]}, physics)
    # What is milder than all that is published counts with what is not harsher, and that is said.
    faults = runs("stuck_at", {0.005: (0.94, 0.95), 0.02: (0.9, 0.93), 0.2: (0.3, 0.8)})
    told = words.inside_and_beyond({"accuracy": faults}, make("stuck_at"))
    assert "2 severities, 1 of them milder than any published" in told and "1 to 10.8 % of devices" in told
    drawn = figures.recovery(tables["summary"], physics)
    (axis,) = drawn.axes
    assert "harmed" in {text.get_text() for text in axis.texts}
    # The band ends at eight bits, the first of three.
    edges = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]
    assert edges == [0.0]
    strips = figures.strips(tables["summary"])
    assert "published devices" in {text.get_text() for text in strips.legends[0].texts}
    assert np.isfinite(drawn.get_size_inches()).all()


def test_what_was_not_fixed_beforehand_is_said_where_it_matters():
    assert "ba2efeb" in words.fixed(make("ir_drop")) and "d0efa5f" in words.fixed(make("ir_drop"))
    assert words.fixed(make("adc")) == "Each other criterion was fixed before the run."


def test_consumers_of_verdicts_know_harm_and_what_was_not_measured():
    shared = {"perturbation": "adc", "severity": 8.0, "network": "mlp", "damage": 0.001, "recovery": math.nan}
    two = (
        {"measure": "vanilla training", "kind": "training"},
        {"measure": "range that rounds best", "kind": "calibration"},
    )

    def advised(damage: float, trained: float, calibrated: float) -> str:
        """The answer where a network loses so much, and the two measures leave it at these accuracies."""
        rows, runs = [], []
        for one, value in zip(two, (trained, calibrated), strict=True):
            own = shared | one | {"damage": damage, "accuracy": value, "recovery": (value - 0.9) / damage}
            rows.append(own | {"trained": one["kind"] == "training", "worth": True})
            runs += [own | {"seed": seed, "accuracy": value + 1e-4 * seed} for seed in range(4)]
        (row,) = advice(pd.DataFrame(rows), pd.DataFrame(runs)).to_dict("records")
        assert row["published"] == "inside"
        return row["answer"]

    assert advised(0.001, 0.8, 0.9) == "no damage" and advised(0.1, 0.8, 0.85) == "nothing helps"
    assert advised(0.1, 0.8, 0.95) == "no training" and advised(0.1, 0.95, 0.92) == "training"
    assert set(style.VERDICTS) >= {*VERDICTS, *OPEN}
    assert style.verdict_mark("harmed") == style.verdict_mark("not recovered")
    assert style.verdict_mark("not measured") == style.NEUTRAL
    # An interval without bound draws a bar of finite length, out of every frame.
    ends = style.whiskers(0.5, -math.inf, math.inf)
    assert np.isfinite(ends).all() and (ends > 10).all()
