"""A rerun of correct code agrees, and planted errors are noticed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lib.agreement import Agreement, Quantity, agreement
from lib.checks import ParameterError


def page(
    source: np.random.Generator,
    cells: int = 60,
    seeds: int = 8,
    sd: float | np.ndarray = 2.0,
    first: int = 0,
    together: float = 0.0,
) -> pd.DataFrame:
    """Accuracies around 70 points; ``together`` is the correlation between the cells of one seed."""
    common = source.normal(size=seeds)
    noise = math.sqrt(together) * common + math.sqrt(1 - together) * source.normal(size=(cells, seeds))
    return pd.DataFrame(
        {
            "cell": np.repeat(np.arange(cells), seeds),
            "seed": np.tile(np.arange(seeds) + first, cells),
            "accuracy": (70 + np.broadcast_to(sd, cells)[:, None] * noise).ravel(),
        }
    )


def compared(rerun: pd.DataFrame, evidence: pd.DataFrame, resolution: float = 0.3) -> Agreement:
    return agreement(rerun, evidence, ["cell"], {"accuracy": resolution})


def planted(rerun: pd.DataFrame, cell: int, value: float) -> pd.DataFrame:
    return rerun.assign(accuracy=rerun["accuracy"].where(rerun["cell"] != cell, value))


@pytest.mark.parametrize(
    "kind", [{}, {"together": 0.6}, {"sd": np.geomspace(0.1, 20, 60)}], ids=["alike", "correlated", "uneven"]
)
def test_pages_of_correct_code_with_other_seeds_rarely_fail(kind):
    source = np.random.default_rng(0)
    failed = sum(not compared(page(source, seeds=3, first=100, **kind), page(source, **kind), 0.0) for _ in range(150))
    assert failed <= 0.03 * 150


def test_pages_whose_seeds_do_not_repeat_rarely_fail():
    """The same seeds on another machine, where trainings lose track of each other."""
    source = np.random.default_rng(1)
    failed = sum(not compared(page(source, seeds=3), page(source)) for _ in range(150))
    assert failed <= 0.03 * 150


def test_all_or_nothing_seeds_rarely_fail():
    source = np.random.default_rng(2)

    def gate(**kind: int) -> pd.DataFrame:
        table = page(source, cells=20, **kind)
        return table.assign(accuracy=np.where(source.random(len(table)) < 0.8, 50.0, 0.0))

    failed = sum(not compared(gate(seeds=3, first=100), gate()) for _ in range(150))
    assert failed <= 0.05 * 150


def test_the_same_code_on_the_same_machine_agrees_to_the_word():
    evidence = page(np.random.default_rng(3), cells=74)
    found = compared(evidence[evidence["seed"] < 2], evidence)
    assert found and found.compared == 74 and str(found) == "all 74 cells agree"
    assert found.disagreeing.empty and found.joint["difference"].tolist() == [0.0]


def test_an_accuracy_off_by_8_points_is_noticed():
    source = np.random.default_rng(4)
    for _ in range(20):
        evidence = page(source, cells=40, seeds=5)
        rerun = evidence[evidence["seed"] < 2].reset_index(drop=True)
        rerun.loc[rerun["cell"] == 7, "accuracy"] -= 8
        found = compared(rerun, evidence)
        assert not found and found.disagreeing["cell"].tolist() == [7]
        assert found.smallest["single"][0] < 8
        assert str(found) == "1 of 40 cells disagrees: cell 7 (accuracy)"
    # With other seeds too it is larger than what a cell may differ by.
    assert (
        compared(page(source, cells=40, seeds=2, first=100), page(source, cells=40, seeds=5)).smallest["single"][0] < 8
    )


def test_a_dead_gate_is_noticed():
    source = np.random.default_rng(5)
    evidence = page(source, cells=20)
    evidence["accuracy"] = np.where(source.random(len(evidence)) < 0.8, 50.0, 0.0) + source.normal(size=len(evidence))
    alive = np.tile([50.0, 50.0, 0.0, 50.0, 50.0, 50.0, 50.0, 30.0], 1)
    evidence.loc[evidence["cell"] == 3, "accuracy"] = alive
    assert alive.mean() == pytest.approx(41, abs=2) and alive.std() == pytest.approx(17, abs=2)
    for seeds in (range(2), range(3, 6)):
        rerun = evidence[evidence["seed"].isin(seeds)]
        assert compared(rerun, evidence)
        found = compared(planted(rerun, 3, 0.0), evidence)
        assert not found and found.disagreeing["cell"].tolist() == [3]
    # Dead in every cell, no single one need be out: then they are so together.
    rerun = evidence[evidence["seed"] < 3]
    found = compared(rerun.assign(accuracy=0.0), evidence)
    assert not found and not found.joint["agrees"][0]


def test_a_shift_of_0_7_standard_deviations_everywhere_is_noticed():
    source = np.random.default_rng(6)
    for _ in range(15):
        evidence = page(source, cells=20)
        rerun = evidence[evidence["seed"] < 3]
        found = compared(rerun.assign(accuracy=rerun["accuracy"] - 1.4), evidence, 0.05)
        assert not found and found.disagreeing.empty
        assert "\nover all cells together, shifted: accuracy" in str(found)


def test_noise_scaled_by_1_3_is_noticed_on_a_log_scale():
    source = np.random.default_rng(7)
    evidence = page(source, cells=20)
    evidence["ratio"] = 10 ** source.normal(np.repeat(np.arange(20) / 4, 8), 0.2)
    rerun = evidence[evidence["seed"] < 3]
    wanted = {"ratio": Quantity(scale="log")}
    assert agreement(rerun, evidence, ["cell"], wanted)
    found = agreement(rerun.assign(ratio=rerun["ratio"] * 1.3**2), evidence, ["cell"], wanted)
    assert not found and found.joint["quantity"].tolist() == ["ratio"]
    assert 0.02 < found.smallest["uniform"][0] < math.log10(1.3**2)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_the_smallest_deviation_is_the_one_that_is_noticed(factor, together):
    evidence = page(np.random.default_rng(8), cells=20, seeds=20)
    if together:
        evidence["accuracy"] = evidence.groupby("seed")["accuracy"].transform("first")
    else:
        turned = [np.roll(evidence["accuracy"][:20], cell) for cell in range(20)]
        evidence["accuracy"] = np.concatenate(turned) + np.tile(np.linspace(0, 1, 20), 20)
    rerun = evidence[evidence["seed"] < 3].reset_index(drop=True)
    smallest = compared(rerun, evidence).smallest
    one = compared(
        rerun.assign(accuracy=rerun["accuracy"] + factor * smallest["single"][0] * (rerun["cell"] == 4)), evidence
    )
    assert len(one.disagreeing) == (factor > 1)
    every = compared(rerun.assign(accuracy=rerun["accuracy"] + factor * smallest["uniform"][0]), evidence)
    if together:
        # Averaging over cells that move together gains nothing, and a large shift of them is no longer taken in pairs.
        assert smallest["uniform"][0] > smallest["single"][0]
    else:
        assert every.joint["agrees"][0] == (factor < 1)


def rows(*values: float, cell: object = 0.1, first: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"cell": [cell] * len(values), "seed": range(first, first + len(values)), "accuracy": values})


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("here", "there", "agrees"),
    [
        ((NAN, 1.0), (NAN, 1.0, 1.1), True),
        ((NAN, 1.0), (1.0, 1.0, 1.1), False),
        ((1.0, 1.0), (NAN, 1.0, 1.1), False),
        ((INF, INF), (INF, INF, INF), True),
        ((INF,), (-INF, 1.0), False),
        ((INF, 1.0), (1.1, 1.0, 1.1), False),
        ((2.0, 1.0), (INF, INF, 1.1), False),
        ((NAN, NAN), (NAN, NAN), True),
    ],
)
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_missing_and_infinite_values(here, there, agrees, scale):
    if scale == "log":
        here, there = ([0.0 if value == -INF else value for value in values] for values in (here, there))
    found = agreement(rows(*here), rows(*there), ["cell"], {"accuracy": Quantity(0.5, scale)})
    assert bool(found) == agrees and found.compared == 1
    if not agrees:
        assert found.disagreeing["difference"].tolist() == [INF]


def test_missing_and_infinite_values_of_other_seeds():
    def asked(here: tuple[float, ...], there: tuple[float, ...]) -> bool:
        return bool(agreement(rows(*here, first=50), rows(*there), ["cell"], {"accuracy": 0.5}))

    assert asked((1.0, 1.05), (NAN, 1.0, 1.1, 1.0)) and asked((NAN, 1.0), (NAN, 1.0, 1.1, 1.0))
    assert not asked((NAN, 1.0), (1.0, 1.0, 1.1)) and not asked((1.0, 1.0), (INF, INF, INF))
    assert asked((INF,), (INF, INF)) and not asked((INF, 1.0), (INF, INF))


def test_one_seed_is_judged_by_the_resolution_alone():
    here, there = rows(1.0), rows(1.0000001)
    assert compared(here, there, 0.0)
    assert compared(rows(1.25), there, 0.3) and not compared(rows(1.35), there, 0.3)
    assert not compared(rows(1.001), there, 0.0)


def test_keys_are_equal_to_9_digits_and_words_to_the_letter():
    there = pd.concat([rows(1.0, 2.0, cell=cell) for cell in (0.3, 1, 7.5)])
    here = pd.concat([rows(1.0, 2.0, cell=cell) for cell in (0.1 + 0.2, 1.0, 8.0)])
    assert compared(here, there).compared == 2
    here, there = rows(1.0, 2.0, cell="a"), rows(1.0, 2.0, cell="A")
    assert compared(here, there).compared == 0


def test_cells_are_named_by_all_keys():
    there = pd.concat([rows(1.0, 1.1, cell=cell).assign(rule=rule) for cell in (0.1, 0.2) for rule in ("a", "b")])
    here = there.assign(accuracy=there["accuracy"] + 50 * ((there["cell"] == 0.2) & (there["rule"] == "b")))
    here = here.sample(frac=1, random_state=0).reset_index(drop=True)
    found = agreement(here, there, ["rule", "cell"], {"accuracy": 0.1})
    assert str(found).startswith("1 of 4 cells disagrees: rule b, cell 0.2 (accuracy)")
    row = found.disagreeing.iloc[0]
    assert (row["rule"], row["cell"], row["quantity"]) == ("b", 0.2, "accuracy")
    assert row["here"] == pytest.approx(51.05) and row["difference"] == pytest.approx(50) and row["allowed"] < 50


def test_nothing_to_compare_is_no_agreement():
    for found in (compared(rows(1.0), rows(1.0, cell=3)), agreement(rows(1.0), rows(1.0), ["cell"], {})):
        assert not found and found.compared == 0
        assert str(found).startswith("nothing to compare") and found.disagreeing.empty
        assert repr(found.numbers()) == "nothing was compared"
    whole = agreement(rows(1.0, 2.0), rows(1.0, 2.0), [], {"accuracy": 0.1})
    assert whole and str(whole) == "the 1 cell agrees"


def test_bad_tables_are_refused_in_one_sentence():
    good = rows(1.0, 2.0)
    with pytest.raises(
        ParameterError, match=r"^rerun must be a table with one row .* cell 0.1, seed 0 was given twice\.$"
    ):
        compared(pd.concat([good, good.assign(cell=0.1 + 1e-12)]), good)
    with pytest.raises(ParameterError, match="evidence must be a table with the columns"):
        compared(good, good.drop(columns="seed"))
    with pytest.raises(ParameterError, match="accuracy must be made of positive numbers on a log scale, but -1"):
        agreement(rows(-1.0), good, ["cell"], {"accuracy": Quantity(scale="log")})
    with pytest.raises(ParameterError, match="resolution must be"):
        Quantity(-1)
    with pytest.raises(ParameterError, match="scale must be one of"):
        Quantity(0.1, "cubic")  # type: ignore[arg-type]


def test_the_numbers_are_shown_apart():
    evidence = page(np.random.default_rng(9), cells=20)
    rerun = planted(evidence[evidence["seed"] < 3], 3, 12.345)
    found = compared(rerun, evidence)
    numbers = found.numbers()
    assert "12.3" in repr(numbers) and "12.3" in numbers._repr_html_() and "<table" in numbers._repr_html_()
    assert "12.3" not in str(found) and "uniform" in repr(numbers)
