"""Composed chips: refusals, predictions by hand, findings both ways, batches that equal single chips, resuming."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from lib.checks import ParameterError
from lib.hardware.devices import ORDER
from lib.replicas import flat
from lib.results import computed, groups
from lib.verdicts import Findings
from paper.figures import composed as figures
from paper.studies import composed, mixture
from paper.studies.composed import SEVERITIES, Composed, attempt, chip, order_of, sweep_of
from paper.studies.hardware import fork as fork_of
from paper.studies.mixture import (
    KEYS,
    WORST,
    by_ruler,
    called,
    chips,
    errors,
    gradient_signal,
    in_logits,
    label,
    noise,
    removed,
    split,
    summarise,
    summed,
    weighted,
    worst,
)
from paper.studies.recovery import OPEN, paired
from paper.sweep import Sweep
from paper.words import composed as words

TINY = {"seeds": 2, "chips": 2, "steps": 2, "gradients": 2, "device": "cpu", "times": [20, 1e6]}


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"classes": "noise, drift"}, "classes must be one or more different names out of read_noise, variability"),
        ({"classes": ["adc"]}, "classes must be at least two names, but ['adc']"),
        ({"classes": ["adc", "adc"]}, "classes must be one or more different names"),
        ({"severities": 3}, "severities must be auto or a mapping of names to values, but 3"),
        ({"severities": {"noise": 1}}, "severities must be one of read_noise, variability"),
        ({"classes": "drift, adc", "severities": {"read_noise": 0.1}}, "severities must be one of drift, adc"),
        ({"severities": {"read_noise": 2.0}}, "severities of read_noise must be a number from 0 to 1, but 2.0"),
        ({"severities": {"adc": 2.5}}, "severities of adc must be a whole number of bits"),
        ({"severities": {"read_noise": 0.0}}, "severities of read_noise must be other than its off, but 0.0"),
        ({"pairs": "some"}, "pairs must be one or more different names"),
        ({"pairs": ["drift"]}, "pairs must be at least two names, but ['drift']"),
        ({"classes": "drift, adc", "pairs": "drift, stuck_at"}, "pairs must be one or more different names out of"),
        ({"times": [1.0]}, "times must be a number from 20 to"),
        ({"times": [20, 20.0]}, "times must be different numbers"),
        ({"without": "noise"}, "without must be one or more different names"),
        ({"classes": "drift, adc", "without": "stuck_at"}, "without must be one or more different names out of drift"),
        ({"times": "soon"}, "times must be one or more numbers"),
        ({"seeds": 0}, "seeds must be"),
        ({"chips": 0}, "chips must be"),
        ({"steps": 0}, "steps must be"),
        ({"network": "transformer"}, "network must be one of mlp"),
        ({"device": "abacus"}, "device must be"),
    ],
)
def test_bad_parameters_are_refused_before_anything_happens(given, sentence, tmp_path):
    with pytest.raises(ParameterError) as refused:
        Composed(results=str(tmp_path / "store"), **given)
    assert str(refused.value).startswith(sentence) and str(refused.value).endswith(" was given.")
    assert not list(tmp_path.iterdir())


def test_parameters_are_brought_into_one_form():
    study = Composed(pairs="auto", without="all", rules="autograd,straight_through")
    assert study.classes == tuple(SEVERITIES) and study.severities == SEVERITIES
    # Six alone, ten pairs without wires, six with one removed, and all.
    kinds = [study.kind(parts) for parts in study.vectors()]
    assert [kinds.count(kind) for kind in ("alone", "pair", "all but one", "all")] == [6, 10, 6, 1]
    assert len(Composed(pairs="all", without="all").vectors()) == 28
    assert len(Composed(pairs="none", without="none").vectors()) == 7
    assert study.arms() == ["unaware", "autograd", "straight_through", "staircase"]
    some = Composed(classes="adc, drift", severities={"adc": 4}, pairs="all", rules="straight_through", times="1e6, 20")
    assert some.classes == ("drift", "adc") and some.severities == {"drift": SEVERITIES["drift"], "adc": 4.0}
    assert some.vectors() == [("drift",), ("adc",), ("drift", "adc")] and some.times == (20.0, 1e6)
    assert some.kind(("drift", "adc")) == "all" and some.arms() == ["unaware", "straight_through"]
    for given, steps in (({}, composed.STEPS), ({"steps": 7}, 7)):
        assert {cell.config["start"]["steps"] for cell in Composed(**given).cells()} == {steps}
    # No chip is in a batch with one that has wires, unless it has them itself.
    batches = groups([study.cell(parts, "unaware") for parts in study.vectors()], "cuda")
    assert sorted(map(len, batches)) == [7, 16]
    assert {len({"ir_drop" in cell.config["parts"] for cell in batch}) for batch in batches} == {1}
    # The rerun is a part of what the book shows.
    assert Composed()._covered(study.changed(times=[20, 8.64e4, 3.15e9]))


def test_the_order_of_the_physics_is_shown():
    lines = words.order().splitlines()
    assert len(lines) == len(ORDER) and all(kind.title in line for kind, line in zip(ORDER, lines, strict=True))
    assert "voltages" in lines[0] and "currents" in lines[-1]
    assert [part.name for part in chip(["adc", "read_noise", "stuck_at", "drift"]).parts] == [
        "drift",
        "stuck_at",
        "read_noise",
        "adc",
    ]
    assert chip(["adc", "ir_drop"], "learned", "approximate").parts[1].calibration == "learned"


# ----------------------------------------------------------------------------------------- predictions by hand


def test_predictions_by_hand():
    assert summed(np.array([0.1, 0.25]), 0.97, 0.1) == pytest.approx(0.35)
    assert summed(np.array([0.5, 0.6]), 0.97, 0.1) == pytest.approx(0.87)
    # One part: the prediction is what it costs. Two equal ones: the same step twice.
    assert in_logits(np.array([0.2]), 0.97, 0.1) == pytest.approx(0.2)
    scaled = [(accuracy - 0.1) / 0.9 for accuracy in (0.97, 0.77)]
    odds = [one / (1 - one) for one in scaled]
    after = odds[1] ** 2 / odds[0]
    expected = 0.97 - (0.1 + 0.9 * after / (1 + after))
    assert in_logits(np.array([0.2, 0.2]), 0.97, 0.1) == pytest.approx(expected)
    assert in_logits(np.array([0.8, 0.8, 0.8]), 0.97, 0.1) < 0.8701
    # Of 30 points lost, 12 came back.
    assert weighted(np.array([0.1, 0.2]), np.array([0.1, 0.02])) == pytest.approx(0.4)
    assert math.isnan(weighted(np.array([0.001, 0.002]), np.array([0.1, 0.1])))
    assert (
        worst(["no damage", "compensated"]) == "compensated"
        and worst(["not recovered", "not compensated"]) == "not recovered"
    )
    # An open verdict is worse than a good one, and does not excuse a bad one.
    assert worst(["compensated", "inconclusive"]) == "inconclusive"
    assert worst(["inconclusive", "not compensated"]) == "not compensated"
    seen = [called(0.005, 0.0), called(0.1, 0.6), called(0.1, 0.3), called(0.1, 0.1), called(0.1, -0.3)]
    assert seen == [name for name in WORST if name not in OPEN]
    # Of a small loss little may come back, and nothing is said to be lost for good.
    assert called(0.04, 0.1) == "not compensated" and called(0.05, 0.1) == "not recovered"
    # Harm counts in points, also where next to nothing was lost.
    assert called(0.001, -10.0) == "harmed" and called(0.1, -0.05) == "not recovered"
    assert split(label(["drift", "adc"])) == ("drift", "adc")


def table(values: dict[tuple[str, str], tuple[float, float]], seeds: int = 4, clean: float = 0.95) -> pd.DataFrame:
    """An accuracy table: (rule, parts) -> unaware, trained, with a small spread over seeds."""
    most = max(len(split(parts)) for _, parts in values)
    rows = []
    for (rule, parts), (unaware, trained) in values.items():
        size = len(split(parts))
        kind = "alone" if size == 1 else "all" if size == most else "pair" if size == 2 else "all but one"
        for seed in range(seeds):
            wobble = 0.001 * (seed - (seeds - 1) / 2)
            shared = {"perturbation": "composite", "network": "mlp", "severity": hash(parts) % 1000, "seed": seed}
            shared |= {"parts": parts, "kind": kind, "clean": clean, "low": 0.5, "steps": 9}
            for name, value in (("unaware", unaware), (rule, trained)):
                rows.append({**shared, "rule": name, "accuracy": value + wobble})
    return pd.DataFrame(rows).drop_duplicates(["rule", "parts", "seed"], ignore_index=True)


ADDS = {
    ("autograd", "read_noise"): (0.85, 0.91),
    ("autograd", "drift"): (0.90, 0.93),
    ("autograd", "stuck_at"): (0.75, 0.87),
    ("autograd", "read_noise + drift"): (0.80, 0.89),
    ("autograd", "read_noise + stuck_at"): (0.65, 0.83),
    ("autograd", "drift + stuck_at"): (0.70, 0.85),
    ("autograd", "read_noise + drift + stuck_at"): (0.60, 0.81),
}
# Everything beyond the parts alone is far worse than they are, and not recovered, unless the mildest part is removed.
FAILS = {key: value if "+" not in key[1] else (0.2, 0.2) for key, value in ADDS.items()}
FAILS["autograd", "read_noise + stuck_at"] = (0.4, 0.4)


def signals(accuracy: pd.DataFrame, law: bool = True) -> pd.DataFrame:
    """Noise over signal that predicts every loss, or none."""
    runs = accuracy[accuracy.rule == "unaware"]
    size = (runs.clean - runs.accuracy).to_numpy()
    wrong = size if law else size[::-1]
    return pd.DataFrame(
        {
            **{name: runs[name].to_numpy() for name in ("parts", "kind", "seed")},
            "measured": size if law else wrong,
            "ordered": size if law else 3 * wrong,
            "unordered": 2 * size,
            "by_noise": size if law else size + 0.2,
            "signal": 1.0,
        }
    )


def gradients(add: bool = True) -> pd.DataFrame:
    rows = [
        {"kind": kind, "seed": seed, "variance": variance, "signal": signal, "cosine": 0.5}
        for seed in range(4)
        for kind, variance, signal in (
            ("alone", 1.0, 0.5),
            ("alone", 2.0, 1 / 3),
            ("all", 3.0, (0.25 if add else 0.9) + 0.001 * seed),
        )
    ]
    return pd.DataFrame(rows)


def changes(helps: bool = True) -> pd.DataFrame:
    """The phase-change chip: with compensation alone, training alone, and both."""
    values = {("none", "unaware"): 0.8, ("none", "autograd"): 0.85 if helps else 0.78}
    values |= {("global", "unaware"): 0.9 if helps else 0.7, ("global", "autograd"): 0.93 if helps else 0.69}
    return pd.DataFrame(
        [
            {"time": time, "compensation": one, "rule": rule, "seed": seed, "clean": 0.95, "low": 0.5, "chips": 3}
            | {"accuracy": (value if time > 20 else 0.94) + 0.001 * seed}
            for time in (20.0, 1e6)
            for (one, rule), value in values.items()
            for seed in range(4)
        ]
    )


def tables(values, good: bool) -> dict[str, pd.DataFrame]:
    accuracy = table(values)
    return {
        "accuracy": accuracy,
        "removed": removed(accuracy),
        "signal": signals(accuracy, good),
        "diagnostics": gradients(good),
        "phase_change": changes(good),
    }


def outcomes(given: dict[str, pd.DataFrame]) -> dict[str, str]:
    return {finding.id: str(finding.outcome) for finding in Findings.of(mixture.claims(given, 0.1))}


def test_a_chip_that_adds_up_and_one_that_does_not():
    good, bad = (outcomes(tables(values, ok)) for values, ok in ((ADDS, True), (FAILS, False)))
    assert list(good) == list(bad)
    for name in (
        "losses.add",
        "recovery.autograd",
        "verdict.worst.autograd",
        "verdict.of_weighted.autograd",
        "removal.dearest",
        "noise.ordered",
        "noise.follows",
        "noise.ruler",
        "gradients.add",
        "pcm.training",
        "pcm.factor",
        "pcm.both",
    ):
        seen = (good[f"composed.{name}"], bad[f"composed.{name}"])
        assert seen in {("holds", "does not hold"), ("holds", "inconclusive")}, name
    assert bad["composed.losses.beyond"] == "holds" and good["composed.losses.beyond"] != "holds"


def test_sentences_say_what_came_out():
    good, bad = (Findings.of(mixture.claims(tables(values, ok), 0.1)) for values, ok in ((ADDS, True), (FAILS, False)))
    assert words.said(good, "factor", "noise").count("signal") >= 3
    assert words.said(bad, "factor", "noise") == ""
    assert "do not add up" in words.said(bad, "beyond") and words.said(good, "beyond") == ""
    summary = summarise(table(FAILS), signals(table(FAILS)), 0.1)
    assert words.on_curve(bad, {}) == ""
    # Each chip where the ruler has it, but one, which is seven points off.
    line = pd.DataFrame({"severity": [1, 2], "measured": [0.0, 4.0], "damage": [0.0, 0.4]})
    chips = pd.DataFrame({"parts": ["a", "b"], "measured": [1.0, 2.0], "rule": "autograd", "damage": [0.1, 0.13]})
    told = words.on_curve(good, {"ruler": line, "signal": chips, "summary": chips})
    assert "at most 7 points off" in told
    # Pairs are off that have no drift in common: the page does not say that they have.
    assert words.on_pairs({"summary": summary}).endswith("points.")
    assert words.on_pairs({"summary": summary[summary.kind != "pair"]}) == ""


def test_a_run_without_pairs_and_removals_claims_what_it_can():
    values = {key: value for key, value in ADDS.items() if len(split(key[1])) in (1, 3)}
    one_seed = {name: own[own.seed == 0] for name, own in tables(values, True).items() if name != "removed"}
    found = outcomes({**one_seed, "removed": removed(one_seed["accuracy"])})
    assert "composed.losses.add" in found and not [name for name in found if "removal" in name]
    assert set(found.values()) <= {"inconclusive"}
    said = words.on_removal({"removed": removed(one_seed["accuracy"])})
    assert said == ""


def test_the_summary_holds_the_predictions():
    accuracy = table(ADDS)
    rows = summarise(accuracy, signals(accuracy), 0.1).set_index("parts")
    pair = rows.loc["read_noise + stuck_at"]
    assert pair.damage == pytest.approx(0.3) and pair.summed == pytest.approx(0.3)
    assert pair.by_noise == pytest.approx(0.3) and pair.weighted == pytest.approx(0.18 / 0.3)
    assert pair.recovery == pytest.approx(0.6, abs=0.01) and pair.verdict == pair.worst == "compensated"
    off = errors(chips(paired(accuracy, KEYS), "autograd"), 0.1)
    assert len(off["summed"]) == 4 and np.allclose(off["summed"], 0, atol=1e-9)
    assert np.abs(errors(chips(paired(table(FAILS), KEYS), "autograd"), 0.1)["summed"]).mean() > 0.4


def test_without_a_converter_the_staircase_is_vanilla_training():
    accuracy = table(
        {
            ("autograd", "drift"): (0.90, 0.93),
            ("autograd", "adc"): (0.85, 0.94),
            ("staircase", "adc"): (0.85, 0.85),
            ("autograd", "drift + adc"): (0.8, 0.9),
            ("staircase", "drift + adc"): (0.8, 0.8),
        }
    )
    found = chips(paired(accuracy, KEYS), "staircase")
    assert sorted(found.parts) == [("adc",), ("drift",), ("drift", "adc")]
    gains = dict(zip(found.parts, found.gain.mean(1), strict=True))
    assert gains["drift",] == pytest.approx(0.03) and gains["adc",] == pytest.approx(0)
    summary = summarise(accuracy, signals(accuracy), 0.1)
    assert len(summary[summary.rule == "staircase"]) == 2
    (whole,) = summary[(summary.rule == "staircase") & (summary.kind == "all")].itertuples()
    assert whole.worst == whole.verdict == "not recovered"
    own = {"accuracy": accuracy, "removed": removed(accuracy), "signal": signals(accuracy)}
    (claim,) = (one for one in mixture.claims({**tables(ADDS, True), **own}, 0.1) if one.id == "composed.staircase")
    assert "less than a fifth" in claim.text


def test_what_a_removed_part_gives_back():
    found = removed(table(ADDS)).query("rule == 'unaware'").groupby("part").mean(numeric_only=True)
    assert found.back.to_dict() == pytest.approx({"read_noise": 0.1, "drift": 0.05, "stuck_at": 0.2})
    assert found.alone.to_dict() == pytest.approx({"read_noise": 0.1, "drift": 0.05, "stuck_at": 0.2})


def test_noise_over_signal_in_the_order_of_the_physics():
    alone = {"variability": (0.8, 0.4), "drift": (0.5, 0.1), "stuck_at": (1.0, 0.3), "read_noise": (1.0, 0.2)}
    everything = "read_noise + variability + drift + stuck_at"
    rows = [
        {"parts": parts, "kind": "alone" if parts in alone else "all", "seed": 0, "layer": layer}
        | {"signal": values[0], "error": values[1]}
        for parts, values in {**alone, everything: (0.4, 0.5)}.items()
        for layer in ("1", "2")
    ]
    found = noise(pd.DataFrame(rows), order_of).set_index("parts").loc[everything]
    assert found.unordered == pytest.approx(math.sqrt(2 * (0.5**2 + 0.2**2 + 0.3**2 + 0.2**2)))
    # What is stuck and what fluctuates is weighed against the signal that variability and drift have left, 0.4.
    expected = 0.5**2 + 0.2**2 + (0.3**2 + 0.2**2) / 0.4**2
    assert found.ordered == pytest.approx(math.sqrt(2 * expected))
    assert found.measured == pytest.approx(math.sqrt(2 * 1.25**2)) and found.kind == "all"
    scale = pd.DataFrame({"seed": 0, "severity": [1, 2], "measured": [1.0, 3.0], "damage": [0.1, 0.5]})
    signal = pd.DataFrame({"seed": 0, "ordered": [0.5, 1.0, 2.0, 9.0]})
    assert by_ruler(signal, scale).by_noise.tolist() == pytest.approx([0.05, 0.1, 0.3, 0.5])


def test_the_signal_of_gradients_by_hand():
    assert np.allclose(gradient_signal(gradients()).added, 0.25)


# ------------------------------------------------------------------------------------------------- small runs


@pytest.fixture(scope="module")
def study() -> Composed:
    return Composed(**TINY, classes="drift, stuck_at, read_noise, ir_drop, adc", results="auto")


def swept(study: Composed, group: list[tuple[str, ...]], arm: str = "unaware") -> Sweep:
    configs = [study.cell(parts, arm).config for parts in group]
    return sweep_of(fork_of(configs[0]["start"], {**study.site(), "device": "cpu"}), configs)


@pytest.mark.parametrize("arm", ["autograd", "straight_through", "staircase"])
def test_chips_in_a_batch_equal_chips_alone(study, arm):
    group = [("drift", "stuck_at"), ("read_noise",), ("drift", "stuck_at", "adc")]
    batch, _ = swept(study, group, arm).trained(composed.ARMS[arm][0])
    for place, parts in enumerate(group):
        alone, _ = swept(study, [parts], arm).trained(composed.ARMS[arm][0])
        whole = flat(batch)
        for path, value in flat(alone).items():
            torch.testing.assert_close(whole[path][2 * place : 2 * place + 2], value, rtol=1e-4, atol=1e-5)
    # The cells of a batch are its chips.
    cells = [study.cell(parts, arm) for parts in (group[0], group[2])]
    both = zip(computed(cells, "cpu"), (computed([cell], "cpu")[0] for cell in cells), strict=True)
    for together, alone in both:
        assert together.keys() == alone.keys()
        assert np.allclose(together["accuracy"].accuracy, alone["accuracy"].accuracy, atol=2e-3)


def test_wires_that_are_off_are_no_wires(study):
    """A chip without wires has the same random numbers, and the same accuracy, in either batch."""
    dry = swept(study, [("drift", "read_noise")]).accuracy("unaware")
    wet = swept(study, [("ir_drop",), ("drift", "read_noise")]).accuracy("unaware")
    wet = wet[wet.chip_index == 1].reset_index(drop=True)
    assert np.array_equal(dry.accuracy, wet.accuracy) and np.array_equal(dry.low, wet.low)


def test_wires_are_judged_as_a_circuit(study):
    sweep = swept(study, [("ir_drop",)])
    (trained,), (judged,) = (
        [part.solver for part in hardware.parts if part.name == "ir_drop"] for hardware in (sweep.physics, sweep.judge)
    )
    assert (trained, judged) == ("approximate", "circuit")


def test_a_cell_is_known_by_its_text_and_fewer_seeds_give_the_same_rows(study):
    fewer = Composed(**{**TINY, "seeds": 1}, classes="drift, stuck_at, read_noise, ir_drop, adc")
    for arm, parts in (("unaware", ("drift", "stuck_at")), ("autograd", ("adc",))):
        cell, more = fewer.cell(parts, arm), study.cell(parts, arm)
        own, whole = computed([cell], "cpu")[0], computed([more], "cpu")[0]
        (again,) = cell.compute([json.loads(cell.text)], {**cell.site, "device": "cpu"})
        for name, one in own.items():
            pd.testing.assert_frame_equal(one, again[name])
            first = whole[name][whole[name].seed == 0].reset_index(drop=True)
            pd.testing.assert_frame_equal(one, first, rtol=1e-3, atol=2e-3)


def test_a_run_is_complete_and_resumes(tmp_path, monkeypatch):
    given = {**TINY, "classes": "adc, ir_drop, read_noise", "pairs": "all", "without": "all", "results": str(tmp_path)}
    given["rules"] = "autograd, straight_through"
    study = Composed(**given)
    result = study.run()
    assert list(result.tables) == ["accuracy", "summary", "removed", "signal", "ruler", "diagnostics", "phase_change"]
    accuracy = result.tables["accuracy"]
    # Seven chips, two seeds, three rules, and two chips on the staircase.
    assert len(accuracy) == 7 * 2 * 3 + 2 * 2 and not accuracy.duplicated(["rule", "parts", "seed"]).any()
    assert (accuracy.chips == 2).all() and accuracy.steps.nunique() == 1
    assert len(result.tables["phase_change"]) == 2 * 2 * 2 * 2
    assert set(result.tables["diagnostics"].kind) == {"alone", "all"}
    for name, compared in Composed.COMPARED.items():
        assert not result.tables[name].duplicated([*compared.keys, "seed"]).any()
        assert set(compared.quantities) <= set(result.tables[name].columns)

    def stop(*_, **__):
        raise AssertionError("what is stored is not computed again")

    monkeypatch.setattr("lib.results.computed", stop)
    again = Composed(**given).run()
    for name, one in result.tables.items():
        pd.testing.assert_frame_equal(one, again.tables[name])
    assert str(again.findings) == str(result.findings)
    for text in (words.story(result.tables), words.on_removal(result.tables), words.on_gradients(result.tables)):
        assert text and "nan" not in text
    assert "worst" in words.verdicts(result.tables) and len(words.twos(result.tables)) == 3
    summary = result.tables["summary"]
    assert set(summary.verdict) <= set(WORST) and set(summary.worst) <= set(WORST)
    for drawn in (
        figures.predicted_loss(summary, rerun=summary),
        figures.pairs(summary, study.classes),
        figures.signal(result.tables["signal"], summary, result.tables["ruler"]),
        figures.recoveries(summary),
        figures.removal(result.tables["removed"]),
        figures.phase_change(result.tables["phase_change"]),
        figures.together(summary, words.twos(result.tables)[0]),
    ):
        assert drawn.axes


def test_a_killed_run_loses_no_finished_rule(tmp_path, monkeypatch):
    study = Composed(**{**TINY, "classes": "drift, adc", "rules": "straight_through", "results": str(tmp_path)})
    real = Sweep.accuracy

    def dies(self, rule, *more):
        if rule == "straight_through":
            raise KeyboardInterrupt
        return real(self, rule, *more)

    monkeypatch.setattr(Sweep, "accuracy", dies)
    with pytest.raises(KeyboardInterrupt):
        study.run()
    seen = []
    monkeypatch.setattr(Sweep, "accuracy", lambda self, rule, *more: seen.append(rule) or real(self, rule, *more))
    result = study.run()
    # The composed chips unaware of it were stored; the phase-change chip and the ruler had not been reached.
    assert seen[0] == "straight_through" and words.twos(result.tables) == ["drift + adc"]


def test_the_live_experiment(study):
    seen = attempt(study, ["adc", "drift"], "staircase", steps=2, chips=2)
    assert seen.network.tolist() == ["clean, no hardware", "unaware", "vanilla, on the staircase"]
    assert ((0 <= seen.accuracy) & (seen.accuracy <= 1)).all()
    for given in (([], "autograd"), (["drift"], "magic"), (["variability"], "autograd")):
        with pytest.raises(ParameterError):
            attempt(study, *given)
