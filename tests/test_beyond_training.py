"""Measures beyond training: redundancy, remapping, pre-distortion, and the study that compares them."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from lib import runtime
from lib.checks import ParameterError
from lib.hardware.crossbars import Crossbars, Shape, draw_chip
from lib.hardware.devices import make
from lib.hardware.mitigation import Redundant, _assigned, remapped
from lib.hardware.perturbations import ADC, Drift, IRDrop, Variability, Window, seen_weight, to_pair
from lib.hardware.training import Trainer
from lib.replicas import flat, mapped, stack
from lib.results import computed
from lib.verdicts import Findings
from paper.studies.beyond_training import (
    KINDS,
    MEASURES,
    SPECIFICATIONS,
    BeyondTraining,
    Measure,
    advice,
    claims,
    costs,
    measures,
    summarise,
    worth,
    yields,
)
from paper.studies.hardware import fork
from paper.studies.perturbation import few
from paper.words import beyond_training as words
from paper.words.tables import Table

WEIGHT = torch.randn(6, 9, generator=runtime.stream(0, "weight"))
INPUT = torch.rand(5, 9, generator=runtime.stream(0, "input"))
TINY = {"seeds": 2, "chips": 2, "yield_chips": 2, "steps": 2, "gradients": 2, "device": "cpu"}


# ----------------------------------------------------------------------------------------------- redundancy


@pytest.mark.parametrize("name", ["variability", "stuck_at", "drift"])
def test_copies_average_what_their_devices_conduct(name):
    part, severity = make(name), torch.tensor(make(name).grid[3])
    three = Redundant(part, copies=3)
    shapes = {layer: Shape((6, 9), ()) for layer in ("first", "second")}
    chips = draw_chip(three, shapes, runtime.stream(1, "chips"))
    drawn = chips["second"][name]
    g = to_pair(WEIGHT).g
    by_hand = torch.stack([part.conductance(g, severity, drawn[str(i)]) for i in range(3)]).mean(0)
    assert torch.allclose(three.conductance(g, severity, drawn), by_hand, atol=1e-5)
    assert torch.equal(three.conductance(g, torch.tensor(part.off), drawn), g)
    assert not torch.equal(drawn["0"]["chip"], drawn["1"]["chip"])
    # In every layer the first copy is the chip that would be there without the others.
    single = draw_chip(part, shapes, runtime.stream(1, "chips"))
    assert torch.equal(drawn["0"]["chip"], single["second"][name]["chip"])


def test_copies_of_noisy_reads_are_quieter_by_the_root_of_their_number():
    part = make("read_noise")
    spreads = []
    for one in (part, Redundant(part, copies=4)):
        seen = []
        for read in range(600):
            drawn = {"0": one.parts_of(one.draw_read((5, 6), runtime.stream(read, "r")))}
            seen.append(Crossbars(one, torch.tensor(0.1), "autograd", drawn)("0", INPUT, WEIGHT))
        spreads.append(torch.stack(seen).std(0).mean().item())
    assert spreads[0] / spreads[1] == pytest.approx(2, rel=0.05)


def test_only_errors_of_single_devices_can_be_averaged():
    for part in (ADC(), Drift(compensation="global"), Variability(scale="fixed"), make("pcm")):
        with pytest.raises(ParameterError, match="^part must be a perturbation of single devices"):
            Redundant(part)
    with pytest.raises(ParameterError, match="^copies must be an integer of at least 1"):
        Redundant(Variability(), copies=0)
    with pytest.raises(ParameterError, match="^window must be that of part, but Window.* was given.$"):
        Redundant(Variability(), window=Window(1.0, 40.0))
    assert Redundant(Variability(window=Window(1.0, 40.0))).window == Window(1.0, 40.0)
    assert Redundant(Variability()).check(0.5) == 0.5
    with pytest.raises(ParameterError, match="severity must be a number from 0 to 1"):
        Redundant(Variability()).check(2.0)


# ----------------------------------------------------------------------------------------------- remapping


def errors(weight: torch.Tensor, chip: torch.Tensor, severity: float) -> float:
    """The sum of absolute errors of the weights on a chip."""
    pair = to_pair(weight)
    changed = make("stuck_at").conductance(pair.g, torch.tensor(severity), {"chip": chip})
    return (seen_weight(pair, changed) - weight).abs().sum().item()


def test_lines_go_where_their_faults_hurt_least():
    weight, severity, faults = WEIGHT[:4], 0.3, make("stuck_at")
    chip = faults.draw_chip((4, 9), runtime.stream(3, "chip"))["chip"]
    moved = _assigned(faults, weight, torch.tensor(severity), chip, -2)
    # All 24 ways to place four rows, one by one.
    every = [errors(weight, chip[:, list(order)], severity) for order in itertools.permutations(range(4))]
    assert errors(weight, moved, severity) == pytest.approx(min(every), rel=1e-6)
    assert min(every) < errors(weight, chip, severity)
    # The lines are those of the chip, in another order.
    assert sorted(moved[0].sum(-1).tolist()) == pytest.approx(sorted(chip[0].sum(-1).tolist()))
    across = _assigned(faults, weight, torch.tensor(severity), chip, -1)
    assert errors(weight, across, severity) < errors(weight, chip, severity)


def test_every_replica_is_remapped_for_its_own_chip():
    trainer, faults = Trainer.named("mlp"), make("stuck_at")
    params = trainer.fork([0, 1], 5, torch.device("cpu"))
    chips = [trainer.chip(faults, seed, "unseen chip", 0) for seed in (0, 1)]
    numbers = stack(chips)
    severity = torch.tensor([0.05, 0.2])
    moved = remapped(faults, severity)(numbers, params)
    assert moved.keys() == numbers.keys()
    for layer in trainer.network.layers:
        for replica in (0, 1):
            weight = params[f"{layer}.weight"][replica]
            share = severity[replica].item()
            before, after = (errors(weight, one[layer]["stuck_at"]["chip"][replica], share) for one in (numbers, moved))
            assert after <= before * (1 + 1e-6)
    last = (mapped(lambda value: value[1:], tree) for tree in (numbers, params))
    alone = flat(remapped(faults, severity[1:])(*last))
    assert all(torch.equal(alone[path][0], value[1]) for path, value in flat(moved).items())


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_replica_that_has_diverged_does_not_keep_the_others_from_being_remapped(wrong):
    faults, severity = make("stuck_at"), torch.tensor([0.2, 0.2])
    chips = {"0": {"stuck_at": {"chip": torch.rand(2, 2, 6, 9, generator=runtime.stream(0, "chip"))}}}
    weights = torch.stack([WEIGHT, WEIGHT])
    expected = remapped(faults, severity)(chips, {"0.weight": weights})["0"]["stuck_at"]["chip"][1]
    weights[0, 2, 3] = wrong
    assert torch.equal(remapped(faults, severity)(chips, {"0.weight": weights})["0"]["stuck_at"]["chip"][1], expected)


def test_a_convolution_is_remapped_too_and_what_cannot_be_is_refused():
    trainer, faults = Trainer.named("cnn"), make("stuck_at")
    params = trainer.fork([0], 2, torch.device("cpu"))
    numbers = stack([trainer.chip(faults, 0, "unseen chip", 0)])
    moved = remapped(faults, torch.tensor([0.1]))(numbers, params)
    for layer in trainer.network.layers:
        weight = params[f"{layer}.weight"][0].flatten(1)
        before, after = (errors(weight, one[layer]["stuck_at"]["chip"][0], 0.1) for one in (numbers, moved))
        assert after < before
    with pytest.raises(ParameterError, match="^perturbation must be one whose devices err one by one, but ir_drop"):
        remapped(IRDrop(), torch.tensor([1.0]))
    grouped = {"0": {"stuck_at": {"chip": torch.zeros(1, 2, 2, 3, 4)}}}
    with pytest.raises(ParameterError, match="^layers must be one array each, but the groups of 0 were given.$"):
        remapped(faults, torch.tensor([0.1]))(grouped, {"0.weight": torch.zeros(1, 6, 4, 1, 1)})


# ------------------------------------------------------------------------------------------- pre-distortion


def test_predistorted_conductances_bring_the_weights_back():
    weight, r = torch.randn(24, 24, generator=runtime.stream(5, "weight")), torch.tensor(300.0)
    pair = to_pair(weight)

    def wrong(**options):
        seen = seen_weight(pair, IRDrop(**options).conductance(pair.g, r, {}).float())
        return ((seen - weight).norm() / weight.norm()).item()

    plain, once, often = wrong(), wrong(predistort=1), wrong(predistort=8)
    assert often < once < plain and often < 0.1 * plain
    # The gradient takes the corrections for numbers: there is one for every weight.
    straight = weight.clone().requires_grad_()
    own = to_pair(straight)
    seen_weight(own, IRDrop(predistort=3).conductance(own.g, r, {}).float()).square().sum().backward()
    assert (straight.grad != 0).all() and torch.cosine_similarity(straight.grad, weight, dim=-1).mean() > 0.9
    programmed = IRDrop(predistort=8).programmed(pair.g, r)
    assert programmed.max().item() == pytest.approx(25.0, rel=1e-6) and programmed.min() > 0


# ------------------------------------------------------------------------------------------------- the study


def test_measures_are_of_known_kinds_and_can_be_made():
    for name, tried in MEASURES.items():
        for measure in tried.values():
            assert measure.kind in KINDS and measure.physics(name).name == name


def table(values: dict[tuple[str, str], float], name="drift", unaware=0.5) -> pd.DataFrame:
    """Accuracy by (measure, kind) at one severity, four seeds."""
    rows = []
    for (measure, kind), value in values.items():
        for seed in range(4):
            rows.append({"perturbation": name, "measure": measure, "kind": kind, "network": "mlp", "severity": 1.0})
            rows[-1] |= {"seed": seed, "clean": 0.9, "unaware": unaware, "accuracy": value + 0.001 * seed, "low": value}
    return pd.DataFrame(rows)


def priced(runs: pd.DataFrame, **prices: dict[str, float]) -> pd.DataFrame:
    """The summary of runs with what each measure costs: nothing but two devices, unless given by the measure's kind."""
    free = {"devices": 2, "energy": 1.0, "measurements": 0, "steps": 0, "steps_per_chip": 0}
    summary = summarise(runs)
    found = [{**free, **prices.get(kind.replace(" ", "_"), {})} for kind in summary.kind]
    trained = summary.kind.str.startswith("training")
    return worth(pd.concat([summary.assign(trained=trained), pd.DataFrame(found)], axis=1))


@pytest.mark.parametrize(
    ("training", "clipped", "copies", "unaware", "expected"),
    [
        (0.85, 0.7, 0.8, 0.5, "training"),
        (0.7, 0.8, 0.6, 0.5, "no training"),
        # The loss comes back, and yet no merit of training: more devices do as much.
        (0.8, 0.6, 0.85, 0.5, "no training"),
        (0.7, 0.7, 0.6, 0.5, "no training"),
        (0.4, 0.45, 0.3, 0.5, "nothing helps"),
        (0.9, 0.9, 0.9, 0.895, "no damage"),
    ],
)
def test_compensated_by_training_is_beyond_the_best_measure_that_needs_none(
    training, clipped, copies, unaware, expected
):
    values = {("vanilla training", "training"): training, ("weights clipped", "no training"): clipped}
    values |= {("every device three times", "architecture"): copies}
    values |= {("vanilla training on the chip itself", "training per chip"): 0.89 if unaware > 0.5 else 0.3}
    runs = table(values, "variability", unaware)
    (row,) = advice(priced(runs, architecture={"devices": 6}), runs).to_dict("records")
    assert row["answer"] == expected
    assert row["trained"] == "vanilla training"
    assert row["without"] == ("weights clipped" if clipped >= copies else "every device three times")
    assert row["beyond"] == pytest.approx(100 * (training - max(clipped, copies)), abs=0.01)


def test_seeds_that_disagree_leave_it_open():
    runs = table({("vanilla training", "training"): 0.7, ("weights clipped", "no training"): 0.7}, "variability")
    runs.loc[runs.kind == "training", "accuracy"] += np.array([0.1, -0.1, 0.05, -0.04])
    (row,) = advice(priced(runs), runs).to_dict("records")
    assert row["answer"] == "inconclusive"


def test_a_measure_is_worth_considering_if_none_gives_as_much_at_no_higher_cost_of_any_kind():
    values = {
        ("a", "no training"): 0.7,
        ("b", "training"): 0.8,
        ("c", "architecture"): 0.75,
        ("d", "circuit"): 0.8,
        ("e", "calibration"): 0.4,
        ("f", "training per chip"): 0.85,
    }
    prices = {"training": {"steps": 300}, "architecture": {"devices": 6}, "circuit": {"steps": 300, "energy": 2.0}}
    prices |= {"training_per_chip": {"steps_per_chip": 300}, "calibration": {"measurements": 1}}
    found = priced(table(values, "variability"), **prices).set_index("measure").worth
    # By hand: c gives more than a for devices, b for steps: none beats another. d costs more than b for the same;
    # e gives back less than nothing.
    assert found.to_dict() == {"a": True, "b": True, "c": True, "d": False, "e": False, "f": True}


def test_costs_are_counted_from_the_layers():
    shapes = {"one": Shape((10, 64), (10,)), "two": Shape((4, 20), (7, 4))}

    def paid(measure):
        return costs(measure, shapes, 360)

    nothing = {"devices": 2, "energy": 1.0, "measurements": 0, "steps": 0, "steps_per_chip": 0}
    assert paid(Measure("no training", clip=2.0)) == nothing
    assert paid(Measure("circuit", bits=1)) == {**nothing, "energy": 2.0}
    # 10 outputs in 4 tiles and 28 in 2.
    assert paid(Measure("circuit", {"tile": (16, 16)})) == {**nothing, "energy": (10 * 4 + 28 * 2) / 38}
    assert paid(Measure("training", rule="autograd")) == {**nothing, "steps": 360}
    assert paid(Measure("training per chip", rule="autograd", known=True)) == {**nothing, "steps_per_chip": 360}
    assert paid(Measure("architecture", remap=True)) == {**nothing, "measurements": 2 * (640 + 80)}
    assert paid(Measure("calibration", {"compensation": "global"})) == {**nothing, "measurements": 2}
    assert paid(Measure("architecture", copies=3)) == {**nothing, "devices": 6}


def chips(hits: dict[str, list[int]], count: int = 100) -> pd.DataFrame:
    """Chips within five points by arm and seed, at one severity."""
    rows = [
        {"perturbation": "variability", "severity": 0.2, "arm": arm, "seed": seed, "chips": count}
        | {f"within_{points:g}": hit for points in SPECIFICATIONS}
        for arm, listed in hits.items()
        for seed, hit in enumerate(listed)
    ]
    return pd.DataFrame(rows)


def test_a_yield_has_the_spread_of_seeds_and_never_less_than_that_of_its_chips():
    found = yields(chips({"unaware": [0, 0, 0], "clipped": [0, 50, 100], "autograd": [50, 50, 50]}))
    found = found[found.specification == 5].set_index("arm")
    assert found.share.tolist() == pytest.approx([0, 0.5, 0.5])
    # None of 300: Clopper and Pearson's upper end in closed form.
    assert found.high["unaware"] == pytest.approx(1 - 0.025 ** (1 / 300)) and found.low["unaware"] == 0
    width = found.high - found.low
    assert width["clipped"] > 0.6 and 0.1 < width["autograd"] < 0.13


@pytest.mark.parametrize(("trained", "outcome"), [([90, 95, 99], "holds"), ([55, 50, 52], "does not hold")])
def test_the_claim_on_yields_goes_both_ways(trained, outcome):
    runs = table({("vanilla training", "training"): 0.7}, "variability")
    counted = chips({"unaware": [0, 0, 0], "clipped": [50, 50, 50], "autograd": trained})
    found = Findings.of(claims(runs, counted))
    assert str(found.get("beyond_training.yield.variability").outcome) == outcome


def test_good_chips_are_counted_against_the_clean_network():
    study = BeyondTraining(**{**TINY, "yield_chips": 4, "steps": 5}, perturbations="stuck_at")
    cells = study.yields()
    assert list(cells) == [("stuck_at", arm) for arm in ("unaware", "clipped", "autograd")]
    cell = cells["stuck_at", "unaware"]
    (found,) = (tables["chips"] for tables in computed([cell], "cpu"))
    begin = fork(cell.config["start"], {**cell.site, "device": "cpu"})
    params = begin.clean
    clean = begin.trainer.accuracy(params)
    severities = cell.config["severities"]
    for row in found.itertuples():
        one = {name: value[[row.seed]] for name, value in params.items()}
        own = begin.trainer.accuracy_on_chips(one, make("stuck_at"), [row.severity], [row.seed], 4)[0]
        for points in SPECIFICATIONS:
            good = sum(100 * (float(clean[row.seed]) - float(value)) <= points + 1e-6 for value in own)
            assert getattr(row, f"within_{points:g}") == good
    assert len(found) == 2 * len(severities) and (found.within_1 <= found.within_5).all()


def test_findings_go_both_ways():
    for factor, outcome in ((0.85, "holds"), (0.55, "does not hold")):
        runs = table({("vanilla training", "training"): 0.7, ("one factor per layer", "calibration"): factor})
        found = Findings.of(claims(runs))
        assert str(found.get("beyond_training.drift.factor").outcome) == outcome
        # The other sentence on the same class needs a measure that was not tried.
        assert str(found.get("beyond_training.drift.statistics").outcome) == "inconclusive"


def test_what_follows_says_only_what_holds():
    def said(measure, name, value):
        other = "straight-through training" if name == "adc" else "vanilla training"
        runs = table({(other, "training"): 0.6, (measure, "calibration"): value}, name=name)
        return words.follows(Findings.of(claims(runs)))

    assert "better measured than trained around" in said("range that rounds best", "adc", 0.8)
    assert "better measured than trained around" not in said("range that rounds best", "adc", 0.5)
    assert "where it is known" in said("vanilla training on the chip itself", "variability", 0.9)
    assert "where it is known" not in said("vanilla training on the chip itself", "variability", 0.7)


def test_a_run_takes_plain_training_from_the_pages_of_the_classes(tmp_path, monkeypatch):
    given = {**TINY, "results": str(tmp_path), "perturbations": "stuck_at,drift"}
    study = BeyondTraining(**given)
    trained = {name: study.trainings(name) for name in ("stuck_at", "drift")}
    own = [cell for cell in study.cells() if cell.kind == "measure"]
    # Three ways of training each, and no training: none of them is run for this page.
    assert len(study.cells()) == len(own) + 2 * 4 + len(study.yields())
    assert all(cell in study.cells() for one in trained.values() for cell in [*one.accuracy, *one.known])
    result = study.run()
    runs = result.tables["accuracy"]
    for name in ("stuck_at", "drift"):
        own = runs[runs.perturbation == name]
        assert set(own.measure) == set(MEASURES[name])
        assert set(own.severity) == set(few(make(name).grid))
    assert runs[runs.measure == "batch statistics of each chip"].network.unique().tolist() == ["cnn_norm"]
    # Nothing done is nothing done: one unaware accuracy for each network, seed and severity, on the same chips.
    others = runs[runs.kind != "training per chip"]
    assert (others.groupby(["perturbation", "network", "severity", "seed"]).unaware.nunique() == 1).all()
    assert runs.unaware.notna().all()
    assert not runs.duplicated(["perturbation", "measure", "severity", "seed"]).any()
    shown = words.shown(result.tables)
    assert list(shown.columns) == ["loss (points)", "worth considering", "by training"]
    assert "Conductance drift, normalised CNN" in shown.index.get_level_values("class")
    words.answer(result.tables), words.ahead(result.tables), words.of_yield(result.tables)
    assert {"devices", "energy", "worth"} <= set(result.tables["summary"])

    def never(*given):
        raise AssertionError("nothing is computed twice")

    monkeypatch.setattr("lib.results.computed", never)
    again = BeyondTraining(**given).run()
    for name, one in result.tables.items():
        pd.testing.assert_frame_equal(one, again.tables[name])


def test_a_class_without_measures_is_trained_through(tmp_path, monkeypatch):
    monkeypatch.delitem(MEASURES, "variability")
    assert {measure.kind for measure in measures("variability").values()} == {
        "no training",
        "training",
        "training per chip",
    }
    assert {measure.kind for measure in measures("dac").values()} == {"no training", "training"}
    study = BeyondTraining(**TINY, results=str(tmp_path), perturbations="variability")
    assert [cell.config["measure"]["clip"] for cell in study.cells() if cell.kind == "measure"] == [2.0]
    result = study.run()
    assert set(result.tables["accuracy"].measure) == set(measures("variability"))
    shown = words.shown(result.tables)
    assert len(shown) == 3
    page = Table(shown)
    for text in shown["worth considering"]:
        assert text in page._repr_html_() and text in repr(page)


def test_a_cell_is_known_by_its_text_and_fewer_seeds_give_the_same_rows():
    whole = BeyondTraining(**TINY, perturbations="stuck_at,ir_drop")
    part = whole.changed(seeds=1, perturbations="stuck_at")
    assert part._covered(whole)
    (cell,) = (one for one in part.cells() if one.kind == "measure" and one.config["measure"]["remap"])
    (more,) = (one for one in whole.cells() if one.kind == "measure" and one.config["measure"]["remap"])
    (few_seeds,), (many,) = computed([cell], "cpu"), computed([more], "cpu")
    again = cell.compute(json.loads(cell.text), {**cell.site, "device": "cpu"})
    pd.testing.assert_frame_equal(few_seeds["accuracy"], again["accuracy"])
    same = few_seeds["accuracy"].merge(many["accuracy"], on=["severity", "seed"])
    assert len(same) == 3 and np.allclose(same.accuracy_x, same.accuracy_y, atol=2e-3)
    # A measure that is an option of the class round-trips as well.
    tiles = whole.cell("ir_drop", MEASURES["ir_drop"]["arrays of 16 x 16"])
    assert computed([tiles], "cpu")[0]["accuracy"].accuracy.tolist() == pytest.approx(
        tiles.compute(json.loads(tiles.text), {**tiles.site, "device": "cpu"})["accuracy"].accuracy.tolist()
    )


def test_refusals():
    with pytest.raises(ParameterError, match="perturbations must be one or more different names"):
        BeyondTraining(perturbations="noise")
    with pytest.raises(ParameterError, match="chips must be"):
        BeyondTraining(chips=0)
    with pytest.raises(ParameterError, match="rules must be left out"):
        BeyondTraining(rules="autograd")


def test_batch_statistics_help_where_the_scale_has_gone(monkeypatch):
    trainer = Trainer.named("cnn_norm", batch=64)
    params = trainer.fork([0], 40, torch.device("cpu"))
    drift = make("drift")
    seen = {
        statistics: trainer.accuracy_on_chips(params, drift, [3.15e7], [0], 2, statistics=statistics).mean().item()
        for statistics in ("off chip", "each chip")
    }
    assert seen["each chip"] > seen["off chip"] + 0.2
    assert np.isfinite(list(seen.values())).all()
