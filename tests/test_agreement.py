"""Agreement is a test that can fail: planted errors are noticed, chance is not."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lib.checks import ParameterError
from paper.agreement import Agreement, Part, Quantity, agreement
from paper.words.page import noticed


def table(values: np.ndarray, seeds: range) -> pd.DataFrame:
    """Rows of ``values`` [cells, seeds]."""
    rows = [
        {"severity": 0.1 * cell, "seed": seed, "accuracy": values[cell, place]}
        for cell in range(len(values))
        for place, seed in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


def drawn(cells: int, seeds: int, deviation: float = 2.0, number: int = 0) -> np.ndarray:
    source = np.random.default_rng(number)
    # Half of a seed's deviation is shared by its cells, as with real seeds.
    shared, own = source.normal(size=(1, seeds)), source.normal(size=(cells, seeds))
    return 80 - 3 * np.arange(cells)[:, None] + deviation * (shared + own) / math.sqrt(2)


def compare(here, there, quantity: Quantity | float = 0.5, seeds=(range(2), range(5))) -> Agreement:
    sides = (table(here, seeds[0]), table(there, seeds[1]))
    return agreement([Part("runs", *sides, ("severity",), {"accuracy": quantity})])


def test_the_same_numbers_agree_and_are_counted():
    there = drawn(6, 5)
    found = compare(there[:, :2], there)
    assert found and found.compared == 6 and not len(found.disagreeing)
    assert str(found) == repr(found) == "all 6 compared values agree with the evidence"


def test_nothing_in_common_is_no_agreement():
    found = agreement(
        [
            Part(
                "runs",
                table(drawn(1, 2), range(2)).assign(severity=9.0),
                table(drawn(1, 5), range(5)),
                ("severity",),
                {},
            )
        ]
    )
    assert not found and found.compared == 0 and str(found).startswith("nothing to compare")


def test_only_common_cells_are_compared_and_floats_to_nine_digits():
    there = drawn(4, 5)
    here = table(there[:, :2], range(2))
    here["severity"] = [0.1 + 0.2 if abs(value - 0.3) < 1e-9 else value + (value < 0.05) for value in here["severity"]]
    found = agreement([Part("runs", here, table(there, range(5)), ("severity",), {"accuracy": 0.5})])
    assert found.compared == 3 and found


def test_eight_points_in_one_cell_are_noticed_and_named():
    there = drawn(12, 5)
    here = there[:, :2].copy()
    here[3] += 8
    found = compare(here, there)
    assert not found and found.disagreeing["cell"].tolist() == ["0.3"]
    assert str(found).startswith("1 of 12 compared values disagree with the evidence: accuracy of 0.3")
    assert found.disagreeing["difference"].iloc[0] == pytest.approx(8)
    assert found.noticed()["in one cell"].iloc[0] < 8


def test_a_dead_gate_is_noticed():
    source = np.random.default_rng(1)
    worth = np.where(source.random((6, 8)) < 0.8, 40.0, 0.0)
    worth[0] = 40 + source.normal(0, 2, 8)
    found = agreement(
        [Part("runs", table(0 * worth[:, :3], range(3)), table(worth, range(8)), ("severity",), {"accuracy": 1.0})]
    )
    assert not found and "accuracy as a whole" in str(found)


def test_a_small_shift_everywhere_is_noticed_as_a_whole():
    source = np.random.default_rng(2)
    there = source.normal(0, 2, (20, 5))
    found = compare(there[:, :2] + 2, there, 0.0)
    assert not found and not len(found.disagreeing) and found.shifted["quantity"].tolist() == ["accuracy"]
    assert found.noticed().iloc[0, -1] < 1 < found.noticed().iloc[0, -2]


@pytest.mark.parametrize(("here", "there"), [(3, 8), (2, 5)])
def test_other_seeds_rarely_raise_a_false_alarm(here, there):
    alarms = sum(
        not compare(
            drawn(60, here, number=2 * trial + 1),
            drawn(60, there, number=2 * trial),
            seeds=(range(100, 100 + here), range(there)),
        )
        for trial in range(150)
    )
    assert alarms <= 0.04 * 150


def test_rounding_and_a_single_picture_are_no_deviation():
    there = np.full((4, 5), 80.0)
    assert compare(there[:, :2] + 0.4, there)
    assert not compare(there[:, :2] + 1.2, there)
    assert compare(there[:, :2] * (1 + 1e-7), there, 0.0)


def test_scales_infinities_and_what_is_missing():
    there = 10.0 ** np.random.default_rng(3).normal(2, 0.1, (4, 5))
    here = there[:, :2].copy()
    assert compare(here, there, Quantity(scale="log"))
    here[1] *= 30
    assert compare(here, there, Quantity(scale="log")).disagreeing["cell"].tolist() == ["0.1"]
    there[2], here[1] = math.inf, there[1, :2]
    here[2] = math.inf
    assert compare(here, there, Quantity(scale="log"))
    here[2] = 3.0
    assert not compare(here, there, Quantity(scale="log"))
    there[2], here[2] = -math.inf, -math.inf
    assert compare(here, there)
    here[2] = math.inf
    assert not compare(here, there)
    there[2], here[2] = math.nan, math.nan
    assert compare(here, there)
    here[2] = 3.0
    assert not compare(here, there)


def test_what_may_be_undefined_is_no_disagreement_where_the_evidence_lacks_it_too():
    there = drawn(4, 5)
    here = there[:, :2].copy()
    there[1, 3], here[1] = math.nan, math.nan
    # An accuracy has a value, or something went wrong.
    lost = compare(here, there)
    assert not lost and lost.disagreeing["cell"].tolist() == ["0.1"]
    assert "undefined here" in repr(noticed(lost)) and "∞" not in repr(noticed(lost))
    found = compare(here, there, Quantity(0.5, may_lack=True))
    assert (
        found
        and found.compared == 3
        and str(found).endswith("1 without a value here, as in some seeds of the evidence")
    )
    # Where every seed of the evidence has a direction, to have none is one.
    there[1, 3] = there[1, 2]
    assert not compare(here, there, Quantity(0.5, may_lack=True))


def test_nothing_and_next_to_nothing_are_alike_on_a_log_scale_with_a_floor():
    there = np.exp(drawn(3, 5))
    here = there[:, :2].copy()
    there[1], here[1, 0], here[1, 1] = 1e-9, 0.0, 1e-8
    assert compare(here, there, Quantity(scale="log", floor=1e-3))
    assert compare(here, there, Quantity(scale="log")).disagreeing["cell"].tolist() == ["0.1"]
    here[1] = 0.5
    assert compare(here, there, Quantity(scale="log", floor=1e-3)).disagreeing["cell"].tolist() == ["0.1"]


def test_a_single_seed_of_evidence_is_judged_by_its_neighbours():
    there = drawn(6, 5)
    one = table(there, range(5))
    one = one[(one["severity"] > 0.05) | (one["seed"] == 0)]
    found = agreement([Part("runs", table(there[:, :2], range(2)), one, ("severity",), {"accuracy": 0.5})])
    assert found.compared == 6 and np.isfinite(found.cells["allowed"]).all()


def test_wrong_tables_are_one_sentence():
    there = table(drawn(2, 5), range(5))
    with pytest.raises(ParameterError, match="rerun runs must have one row for each severity and seed"):
        agreement([Part("runs", pd.concat([there, there]), there, ("severity",), {"accuracy": 1.0})])
    with pytest.raises(ParameterError, match="evidence runs must be a table with the columns"):
        agreement([Part("runs", there, there.drop(columns="seed"), ("severity",), {"accuracy": 1.0})])


def test_the_numbers_say_what_would_have_been_noticed():
    there = drawn(6, 5)
    here = there[:, :2].copy()
    here[2] += 20
    shown = noticed(compare(here, there))
    for text in (repr(shown), shown._repr_html_()):
        assert "would have been noticed" in text and "Cells that disagree" in text
    assert "Cells that disagree" not in repr(noticed(compare(there[:, :2], there)))
