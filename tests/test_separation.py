"""What tells beforehand: each rule by itself, guesses without a gradient, intervals over classes; planted tables."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.hardware.devices import HARDWARE
from lib.hardware.perturbations import PERTURBATIONS
from lib.verdicts import Claim, Findings, Outcome, tail
from paper.figures import hardware as figures
from paper.prediction import clustered, duels
from paper.studies import separation
from paper.studies.beyond_training import BeyondTraining
from paper.studies.recovery import verdict
from paper.studies.separation import CLASS, JOINT, POOLED, RULE, Separation, areas, harshness
from paper.words import separation as words
from paper.words.numbers import share

CLASSES = tuple(PERTURBATIONS)
KEYS = ["rule", "network", "perturbation", "severity", "seed"]


def planted(rules=("autograd",), networks=("mlp", "cnn"), classes=CLASSES, steps=4, seeds=2) -> pd.DataFrame:
    """Cells of every rule, network and class at some steps of its grid, the milder half of them compensated; every
    measurement says nothing.
    """
    rows = [
        (rule, network, name, HARDWARE[name].grid[place], seed, place)
        for rule, network, name, place, seed in itertools.product(rules, networks, classes, range(steps), range(seeds))
    ]
    table = pd.DataFrame(rows, columns=[*KEYS, "place"])
    table["compensated"] = table.place < steps / 2
    table["damage"] = 0.4
    for name in ("cosine", "truth", "signal", "live", "sensitivity", "rank"):
        table[name] = 0.5
    return table.assign(cosine_low=0.4, cosine_high=0.6, beyond=np.nan)


def outcome(findings: Findings, claim: str) -> str:
    return str(findings.get(claim).outcome)


def judged(table: pd.DataFrame) -> tuple[pd.DataFrame, Findings]:
    nothing = pd.DataFrame(columns=["network", "perturbation", "rule", "severity", "seed", "clean", "accuracy"])
    found = areas(table)
    return found.set_index(["rule", "predictor"]), Findings.of(separation.claims(nothing, found), holm=True)


# --------------------------------------------------------------------------------------- readings of one table


def test_perfect_within_classes_may_be_useless_across():
    """A number that only falls along every class's grid, from another height in each, is no rule for a new class."""
    table = planted()
    height = table.perturbation.map({name: 10 * place for place, name in enumerate(CLASSES)})
    table["signal"] = height - table.place
    found, findings = judged(table)
    row = found.loc[("autograd", "signal")]
    assert row.within == 1 and row.within_low == 1
    # 6 classes: of 36 pairs 6 are of one class and won, the others are a coin.
    assert row.area == pytest.approx((6 + 15) / 36)
    assert row.held_class == pytest.approx(0.5, abs=0.1)
    assert outcome(findings, "separation.tells.autograd.signal") != "holds"
    assert outcome(findings, "separation.transfers.autograd.signal.class") != "holds"
    # The place on the grid is perfect, and takes no gradient.
    assert found.area["autograd", "severity"] == 1 and row.best == "severity" and row.over_trivial < 0


def test_rules_thrown_together_hide_what_each_of_them_says():
    """Simpson's paradox: perfect under either rule, and worse than a coin for both at once."""
    table = planted(rules=("autograd", "straight_through"))
    straight = table.rule == "straight_through"
    # Straight-through has the higher cosine whatever comes of it, and compensates less.
    table["compensated"] = table.place < np.where(straight, 1, 3)
    table["cosine"] = 0.05 * (4 - table.place) + 0.5 * straight
    found, findings = judged(table)
    assert found.area["autograd", "cosine"] == found.area["straight_through", "cosine"] == 1
    assert found.area[POOLED, "cosine"] < 0.5 < found.area[POOLED, RULE]
    text = words.telling({"areas": found.reset_index(), "cells": table}, findings)
    assert f"{share(found.area[POOLED, 'cosine'])} where rules are thrown together" in text


def test_a_truth_that_is_the_name_of_the_rule_adds_nothing():
    table = planted(rules=("autograd", "straight_through"))
    by_name = (table.rule == "autograd") & (table.perturbation != "adc")
    table["truth"] = np.where(by_name, 1.0, 0.2)
    table["compensated"] = by_name ^ (table.place == 3)
    found, findings = judged(table)
    assert found.area[POOLED, "truth"] == found.area[POOLED, RULE] and found.over_rule[POOLED, "truth"] == 0
    assert outcome(findings, "separation.truth") == "does not hold"
    table["truth"] = np.where(table.compensated, 1.0, 0.2)
    assert outcome(judged(table)[1], "separation.truth") == "holds"


def test_a_diagnostic_is_worth_what_it_tells_beyond_a_guess():
    table = planted()
    source = np.random.default_rng(0)
    # Compensated where little is lost, with exceptions that one diagnostic knows and another does not.
    table["damage"] = 0.1 * (1 + table.place) + 0.02 * source.random(len(table))
    odd = (table.place == 0) & (table.seed == 0)
    table["compensated"] = (table.place < 2) & ~odd
    table["cosine"] = -table.damage
    table["live"] = table.compensated.astype(float)
    found, findings = judged(table)
    assert found.over_trivial["autograd", "cosine"] <= 0 < found.over_trivial["autograd", "live"]
    assert outcome(findings, "separation.beyond.autograd.live") == "holds"
    assert outcome(findings, "separation.beyond.autograd.cosine") == "does not hold"
    assert set(found.best.dropna()) <= {"damage", "severity", "kind"}


def test_a_mean_gradient_without_direction_does_not_enter_and_is_counted():
    table = planted()
    table["cosine"] = np.where(table.compensated, 0.9, 0.1)
    # Noise says the opposite where the interval is everything, or none is known.
    lost = table.perturbation == "drift"
    table.loc[lost, ["cosine", "cosine_low", "cosine_high"]] = [0.5, -1.0, 1.0]
    table.loc[lost & (table.seed == 0), ["cosine_low", "cosine_high"]] = np.nan
    found, findings = judged(table)
    row = found.loc[("autograd", "cosine")]
    assert row.area == 1 and row.entered == len(table) - lost.sum() and row.classes == len(CLASSES) - 1
    assert f"In {lost.sum()} of {len(table)} cells" in words.telling(
        {"areas": found.reset_index(), "cells": table}, findings
    )
    # A zero gradient is a measurement.
    table.loc[lost, ["cosine", "cosine_low", "cosine_high"]] = 0.0
    assert areas(table).set_index("predictor").entered["cosine"] == len(table)


@pytest.mark.parametrize("name", ["cosine", "live"])
def test_a_number_that_is_missing_leaves_nothing(name):
    """To go on without it would be a selection."""
    table = planted()
    table["cosine"] = table["live"] = np.where(table.compensated, 0.9, 0.1)
    table.loc[0, name] = np.nan
    found, findings = judged(table)
    assert np.isnan(found.area["autograd", name]) and np.isnan(found.area["autograd", JOINT])
    assert outcome(findings, f"separation.tells.autograd.{name}") == "inconclusive"


def test_where_one_class_holds_one_side_there_is_no_interval_over_classes():
    table = planted()
    table["compensated"] &= table.perturbation == "ir_drop"
    table["signal"] = table.compensated.astype(float)
    found, findings = judged(table)
    row = found.loc[("autograd", "signal")]
    assert row.area == 1 and row.seeds_low == 1 and np.isnan(row.area_low)
    assert outcome(findings, "separation.tells.autograd.signal") == "inconclusive"
    text = words.telling({"areas": found.reset_index(), "cells": table}, findings)
    assert f"8 of {len(table)} cells are compensated, 8 of them IR-drop" in text and "nan" not in text


def test_a_seed_with_one_outcome_does_not_count_as_one_that_is_told_wrong():
    table = planted(seeds=3, networks=("mlp",))
    table["compensated"] &= table.seed < 2
    table["live"] = table.compensated.astype(float)
    row = areas(table).set_index("predictor").loc["live"]
    assert row.area == row.seeds_low == row.seeds_high == 1
    table["compensated"] &= table.seed < 1
    assert np.isnan(areas(table).set_index("predictor").seeds_low["live"])


def test_what_a_class_did_elsewhere_is_another_network_s():
    table = planted(networks=("mlp",))
    assert areas(table).set_index("predictor").entered[CLASS] == 0
    table = planted()
    good = table.perturbation.isin(CLASSES[:3])
    table["compensated"] = good
    assert areas(table).set_index("predictor").area[CLASS] == 1


def test_one_answer_for_all_has_no_interval():
    """It is right about half of the cells whatever is drawn: that decides nothing."""
    found, findings = judged(planted())
    assert found.held_class["autograd", "live"] == 0.5 and np.isnan(found.held_class_low["autograd", "live"])
    assert outcome(findings, "separation.transfers.autograd.live.class") == "inconclusive"


def test_the_place_on_a_grid_runs_from_mild_to_harsh():
    for name in CLASSES:
        grid = HARDWARE[name].grid
        places = [harshness(name, severity) for severity in grid]
        assert places[0] == 0 and places[-1] == 1 and places == sorted(places)
    assert np.isnan(harshness("unheard_of", 1.0))


# ------------------------------------------------------------------------------------------ intervals over classes


def shifted(source: np.random.Generator, classes: int, networks: int = 3) -> tuple[np.ndarray, ...]:
    """A score that follows the outcome along severity, and is shifted by class in its own way, as the outcome is."""
    grid = np.array(list(itertools.product(range(classes), range(networks), (-1, 0, 1))))
    own, other, network = source.normal(size=classes), source.normal(size=classes), 0.3 * source.normal(size=networks)
    common = grid[:, 2] + network[grid[:, 1]]
    score = common + own[grid[:, 0]] + 0.5 * source.normal(size=len(grid))
    label = common + other[grid[:, 0]] + 0.5 * source.normal(size=len(grid)) > 0
    return score, label, grid[:, 0], grid[:, 1]


def drawn(source: np.random.Generator, classes: int, resamples: int = 400):
    score, label, name, network = shifted(source, classes)
    units = np.arange(classes * 3)
    own = clustered(duels(score, label, unit=3 * name + network), [units // 3, units % 3], resamples=resamples)
    # As if the cells were independent.
    single = np.arange(len(score))
    each = clustered(duels(score, label, unit=single), [single], resamples=100)
    return own, each


def test_an_interval_over_classes_covers_and_one_over_cells_does_not():
    source = np.random.default_rng(1)
    score, label, *_ = shifted(source, 400, 2)
    won, met = duels(score, label)
    truth = won.sum() / met.sum()
    found = [drawn(source, 6) for _ in range(80)]
    by_class, by_cell = (np.mean([low <= truth <= high for _, (low, high) in own]) for own in zip(*found, strict=True))
    assert by_class >= 0.88 > by_cell + 0.05


def test_the_interval_is_that_of_a_plain_loop():
    source = np.random.default_rng(5)
    score, label, name, network = shifted(source, 7, 2)
    unit = 2 * name + network
    value, (low, high) = clustered(duels(score, label, unit=unit), [np.arange(14) // 2, np.arange(14) % 2])
    found = []
    for _ in range(600):
        names, networks = source.integers(7, size=7), source.integers(2, size=2)
        copies = [
            (a, b, row)
            for (a, one), (b, other) in itertools.product(enumerate(names), enumerate(networks))
            for row in np.flatnonzero((name == one) & (network == other))
        ]
        won = met = 0.0
        for good, bad in itertools.product([c for c in copies if label[c[2]]], [c for c in copies if not label[c[2]]]):
            # Two copies of one class, or of one network, are the same thing and do not meet.
            apart = names[good[0]] == names[bad[0]] and good[0] != bad[0]
            apart |= networks[good[1]] == networks[bad[1]] and good[1] != bad[1]
            if not apart:
                won += (np.sign(score[good[2]] - score[bad[2]]) + 1) / 2
                met += 1
        found.append(won / met if met else np.nan)
    assert value == pytest.approx(duels(score, label)[0].sum() / duels(score, label)[1].sum())
    ends = np.nanquantile(found, [tail(7, 0.95), 1 - tail(7, 0.95)])
    assert (low, high) == pytest.approx(ends, abs=0.06)


# ------------------------------------------------------------------------------------------------ beyond clipping


def test_what_clipping_wins_back_is_no_merit_of_training():
    table = accuracies(mlp=0.12, cnn=0.19)
    unaware = table[table.rule == "unaware"]
    # Clipping gives back 12 of 20 points, all that training does in the perceptron.
    clipped = unaware.assign(accuracy=unaware.accuracy + 0.12)
    found = separation.beyond_clipping(table, clipped).set_index("network")
    assert found.clipped.round(6).eq(0.6).all() and set(found.clipped_verdict) == {"compensated"}
    assert found.left.round(6).eq(0.08).all() and found.verdict.to_dict() == {
        "mlp": "not recovered",
        "cnn": "compensated",
    }
    signs = planted(classes=("read_noise",), steps=1, seeds=4).drop(
        columns=["compensated", "damage", "place", "beyond"]
    )
    signs = signs.assign(severity=0.2, gain=1.0).drop(columns="sensitivity")
    single = separation.cells(table, signs, clipped)
    assert single.compensated.all() and single.groupby("network").beyond.mean().to_dict() == {"mlp": 0, "cnn": 1}
    # Where clipping does harm the unaware network is the best that needs nothing; where it leaves little, none is.
    worse = separation.cells(table, signs, unaware.assign(accuracy=0.5))
    assert (worse.beyond == 1).all()
    assert separation.cells(table, signs, unaware.assign(accuracy=0.94)).beyond.isna().all()
    assert separation.cells(table, signs).beyond.isna().all()


# --------------------------------------------------------------------------------------------- lines and networks


def accuracies(**won: float) -> pd.DataFrame:
    """Vanilla training in two networks at one severity: unaware networks lose 20 points, ``won`` come back."""
    rows = []
    for network, gain in won.items():
        for seed in range(4):
            shared = {"network": network, "perturbation": "read_noise", "severity": 0.2, "seed": seed, "clean": 0.95}
            rows.append({**shared, "rule": "unaware", "accuracy": 0.75})
            rows.append({**shared, "rule": "autograd", "accuracy": 0.75 + gain + 0.001 * seed})
    return pd.DataFrame(rows)


def test_a_diverged_seed_is_left_out_of_a_line_as_of_a_verdict():
    table = accuracies(mlp=0.19, cnn=0.01)
    # The seeds in which the CNN lives are all but one, and its side is the same without that one.
    table = table[~((table.network == "cnn") & (table.rule == "autograd") & (table.seed == 0))]
    runs = separation.damaging(table)
    assert {verdict(group.damage, group.gain).name for _, group in runs.groupby("network")} == {
        "compensated",
        "not recovered",
    }
    (claim,) = [one for one in separation.claims(table, areas(planted())) if one.id == "separation.networks"]
    assert claim.measured == (1, (1, 1)) and claim.judged().outcome == Outcome.DOES_NOT_HOLD
    # The other seeds of a network that lives through all of them still count.
    alone = accuracies(mlp=0.19, cnn=0.19)
    alone.loc[(alone.network == "mlp") & (alone.rule == "autograd") & (alone.seed < 2), "accuracy"] = 0.75
    alone = alone[~((alone.network == "cnn") & (alone.rule == "autograd") & (alone.seed < 3))]
    (claim,) = [one for one in separation.claims(alone, areas(planted())) if one.id == "separation.networks"]
    assert claim.measured[0] == 1


@pytest.mark.parametrize(("lost", "expected"), [(0.33, "holds"), (0.06, "does not hold")])
def test_drift_in_a_normalised_network(lost, expected):
    rows = [
        {
            "network": network,
            "perturbation": "drift",
            "rule": "unaware",
            "severity": 86400.0,
            "seed": seed,
            "clean": 0.95,
        }
        | {"accuracy": 0.95 - (lost if network == "cnn_norm" else 0.05) - 0.001 * seed}
        for network in ("mlp", "cnn_norm")
        for seed in range(4)
    ]
    again = pd.DataFrame({"severity": 86400.0, "seed": range(4), "damage": 0.3})
    again["gain"] = again.damage * (0.9 if lost > 0.1 else 0.1) + 0.001 * again.seed
    found = Findings.of(separation.claims(pd.DataFrame(rows), areas(planted()), again))
    assert outcome(found, "separation.normalised") == outcome(found, "separation.recalibrated") == expected
    text = words.outstanding(found)
    assert ("Drift depends on the network" in text) == ("give at least half of it back" in text) == (lost > 0.1)


def test_the_recalibrated_network_is_that_of_the_measures_beyond_training():
    study = Separation(perturbations="drift,adc", networks="mlp,cnn_norm")
    (cell,) = study.recalibrated()
    assert cell in BeyondTraining(perturbations="drift").cells() and cell in study.cells()
    assert not Separation(perturbations="adc", networks="mlp,cnn_norm").recalibrated()
    assert not Separation(perturbations="drift", networks="mlp").recalibrated()


# ------------------------------------------------------------------------------------------------------- sentences


def test_all_sentences_quote_the_table_of_areas():
    table = planted(rules=("autograd", "straight_through"))
    source = np.random.default_rng(2)
    for name in ("cosine", "signal", "live", "truth"):
        table[name] = table.compensated * 0.2 + source.random(len(table))
    found, findings = judged(table)
    tables = {"areas": found.reset_index(), "cells": table}
    summary = pd.DataFrame(columns=["rule", "damage", "verdict", "known", "known_verdict"])
    regimes = pd.DataFrame(columns=["regime", "rule", "perturbation", "recovery"])
    first = words.answer({**tables, "summary": summary, "regimes": regimes}, findings)
    second, third = words.telling(tables, findings), words.ranking(tables["areas"])
    own = found.loc["autograd"]
    best = own[~own.trivial & (own.index != JOINT)].area.idxmax()
    number = share(own.area[best])
    assert number in first and number in second and third.area[separation.LABELS[best]].startswith(number)
    assert share(own.area["severity"]) in first and "of 16 claims" in first.lower()
    assert len(words.ranking(tables["areas"], "straight_through")) == len(third)


def test_where_nothing_was_trained_nothing_is_told():
    table = accuracies(mlp=0.1)
    table = table[table.rule == "unaware"]
    signs = planted(classes=("read_noise",), steps=1, seeds=4, networks=("mlp",)).drop(
        columns=["compensated", "damage"]
    )
    signs = signs.assign(severity=0.2, rule="unaware", gain=1.0).drop(columns=["sensitivity", "beyond"])
    single = separation.cells(table, signs, table)
    found = areas(single)
    assert single.empty and found.empty and not words.telling({"areas": found, "cells": single}, Findings())
    assert words.ranking(found).empty and figures.roc(single, found).axes
    assert [one.id for one in separation.claims(table, found)] == []
    assert set(separation.beyond_clipping(table, table).verdict) == {"not trained"}


def test_the_answer_counts_pairs_among_those_that_reach_both_levels_of_damage():
    rows = [(net, "read_noise", regime) for net in ("mlp", "cnn") for regime in ("moderate", "severe")]
    rows += [("mlp", "drift", "moderate"), ("mlp", "drift", "slight")]
    regimes = pd.DataFrame(rows, columns=["network", "perturbation", "regime"]).assign(rule="autograd")
    found = Findings.of([Claim("separation.classes", "", [1.0, 1.0], "<=", 0, "x")])
    told = words.short_answer(SimpleNamespace(tables={"regimes": regimes}, findings=found))
    assert told.startswith("No: in 1 of 2 pairs of a kind of distortion and a network that reach moderate and severe")
