"""Our models beside the published ones and beside aihwkit's samples: refusals, moments by hand, findings both ways."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from lib.checks import ParameterError
from lib.hardware.perturbations import PERTURBATIONS
from lib.verdicts import Findings
from paper.criteria.hardware import CHANCE, CIRCUIT_EXACT, CIRCUIT_FAST
from paper.figures import peers as figures
from paper.figures import style
from paper.studies import peers
from paper.studies.base import Result
from paper.studies.peers import LAWS, READINGS, SECONDS, Peers, aihwkit, devices, published
from paper.words import peers as words

TINY = {"samples": 10_000, "seeds": 2, "sides": [4, 6], "networks": 1, "chips": 2, "device": "cpu"}


def judged(tables):
    return Findings.of(peers.claims(tables))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return Peers(**TINY, results=str(tmp_path_factory.mktemp("store"))).run()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"samples": 10}, "samples must be an integer from 1000"),
        ({"samples": 1e5}, "samples must be an integer"),
        ({"seeds": 0}, "seeds must be an integer from 1"),
        ({"sides": []}, "sides must be one or more integers from 2 to 256"),
        ({"sides": [1]}, "sides must be an integer from 2 to 256, but 1"),
        ({"device": "abacus"}, "device must be"),
    ],
)
def test_bad_parameters_are_refused_before_anything_happens(given, sentence, tmp_path):
    with pytest.raises(ParameterError) as refused:
        Peers(results=str(tmp_path / "store"), **given)
    assert str(refused.value).startswith(sentence)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("g", [0.1, 1.0, 5.0, 25.0])
@pytest.mark.parametrize("law", ["programming", "resistive", "drift"])
def test_published_moments_are_integrals_over_the_normal_number(law, g):
    share = g / 25
    if law == "drift":
        middle = min(max(-0.0155 * math.log(share) + 0.0244, 0.049), 0.1)
        spread = min(max(-0.0125 * math.log(share) - 0.0059, 0.008), 0.045)

        def outcome(normal):
            return abs(middle + spread * normal)
    else:
        spread = (
            0.26348 + 1.965 * share - 1.1731 * share**2
            if law == "programming"
            else 1.536e-4 * g**3 - 0.01167 * g**2 + 0.2374 * g + 1.053
        )
        middle = g

        def outcome(normal):
            return max(middle + spread * normal, 0.0)

    bend = [-middle / spread] if middle / spread < 9 else None
    first, second = (
        integrate.quad(lambda n, k=power: outcome(n) ** k * stats.norm.pdf(n), -9, 9, points=bend)[0]
        for power in (1, 2)
    )
    mean, std = published(law, np.array(g))
    assert mean == pytest.approx(first, rel=1e-6) and std == pytest.approx(math.sqrt(second - first**2), rel=1e-5)


def test_published_read_noise_has_the_values_of_the_literature():
    # sigma/G 20 s after programming at a full, a half and a tenth of the largest conductance.
    mean, std = published("read", np.array([25.0, 12.5, 2.5]), 20.0)
    assert np.allclose(std / mean, [0.0368, 0.0577, 0.1644], atol=2e-4)


def test_devices_are_drawn_and_not_computed():
    one, other = (devices("chip", 10.0, 86400.0, 2000, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert one.shape == (2000,) and not torch.equal(one, other)
    assert torch.equal(one, devices("chip", 10.0, 86400.0, 2000, torch.Generator().manual_seed(0)))
    # A day takes its share, and the three laws together spread more than each of them.
    assert 0.6 < one.mean() / 10 < 0.7
    assert one.std() > 0.6 * devices("programming", 10.0, 0.0, 2000, torch.Generator().manual_seed(0)).std()


def test_moments_need_no_shape_of_the_distribution():
    drawn = np.random.default_rng(0).exponential(size=(400, 1000))
    rows = pd.DataFrame([row for one in drawn for row in peers._moments(torch.from_numpy(one), {})])
    for statistic in ("mean", "std"):
        here = rows[rows.statistic == statistic]
        assert here.error.median() == pytest.approx(here.sampled.std(), rel=0.15)


def test_we_sample_what_was_published(result):
    table = result.tables["statistics"]
    assert set(table.law) == set(LAWS) and set(table.g) == set(peers.CONDUCTANCES)
    assert set(table[table.law == "read"].seconds) == set(SECONDS)
    assert table.z.abs().max() < CHANCE


def test_we_sample_what_aihwkit_samples(result):
    table = result.tables["peers"]
    single = table[table.law != "chip"]
    assert len(single) == 8 * 2 + 8 * 2 + 8 * 3 and single.z.abs().max() < CHANCE
    # Nothing is lost in joining: every mean of a whole chip has its counterpart.
    assert len(table[table.law == "chip"]) == 6 * 3 * 2


def test_aihwkit_is_a_reading_of_the_formulas(result):
    table = result.tables["readings"]
    assert [(row.exponent, row.noise) for row in table.itertuples()] == list(READINGS)
    assert table.aihwkit.min() < CHANCE and table.aihwkit.max() > 2 * CHANCE
    assert "aihwkit's have the exponent of the target and" in words.readings(result.tables)
    none = result.tables["readings"].assign(here=9.0)
    assert "Our chips are none" in words.readings({"readings": none})
    assert words.readings_table(result.tables).shape == (6, 2)


def test_a_mistyped_law_would_be_found(result):
    wrong = result.tables["statistics"].copy()
    # One per cent on one standard deviation of 20,000 samples is two standard errors, on 200,000 six.
    at = (wrong.law == "programming") & (wrong.statistic == "std") & (wrong.g == 10)
    wrong.loc[at, "z"] = 0.03 * wrong.loc[at, "published"] / wrong.loc[at, "error"]
    found = judged({**result.tables, "statistics": wrong})
    assert str(found[0].outcome) == "does not hold" and str(found[1].outcome) == "holds"


def test_findings_go_both_ways(result):
    outcomes = {one.claim: str(one.outcome) for one in result.findings}
    assert [outcomes[claim] for claim in outcomes if "nodal analysis" in claim] == ["holds", "holds"]
    broken = {name: table.copy() for name, table in result.tables.items()}
    broken["statistics"]["z"] = 9.0
    broken["peers"][["z", "deviation"]] = 9.0
    broken["readings"][["here", "aihwkit"]] = 9.0
    broken["wires"][["fast", "exact"]] = 0.1
    assert {str(one.outcome) for one in judged(broken)} == {"does not hold"}


def test_wires_agree_with_a_nodal_analysis(result):
    table = result.tables["wires"]
    assert len(table) == 2 * 7 and (table.r_word != table.r_bit).any()
    assert table.fast.max() < CIRCUIT_FAST and table.exact.max() < CIRCUIT_EXACT
    assert (table.lost > 0).all() and words.wires_table(result.tables).shape == (7, 3)


def test_what_the_other_simulator_printed_is_kept(tmp_path, monkeypatch):
    moments = {"mean": 1.0, "std": 0.1}
    row = {
        "g": 5.0,
        "programming": {**moments, "uncut": 0.2},
        "nu": moments,
        "read": {"3600": {**moments, "uncut": 0.3}},
        "everything": {"3600": moments},
    }
    record = {"rows": [row], "model": {"t_0": 20.0}, "samples": 7, "versions": {"aihwkit": "0", "torch": "1"}}
    monkeypatch.setattr(peers, "KEPT", tmp_path / "results" / "peers" / "aihwkit_pcm.csv")
    with pytest.raises(ParameterError, match="results/peers must hold"):
        aihwkit()
    peers.keep(json.loads(json.dumps(record)))
    table, origin = aihwkit()
    # A read is compared before it is cut off, on the clock that starts with programming.
    kept = table.set_index(["law", "seconds", "statistic"]).value.to_dict()
    assert kept[("read", 3620.0, "std")] == 0.3 and kept[("programming", 0.0, "std")] == 0.1
    assert len(kept) == 2 + 2 + 1 + 2 and origin["samples"] == 7 and set(table["count"]) == {7}


def test_the_kept_samples_name_their_versions():
    table, origin = aihwkit()
    assert set(origin["versions"]) == {"aihwkit", "python", "torch"} and origin["samples"] >= 100_000
    assert set(table.law) == {"programming", "drift", "read", "chip"}
    assert origin["model"]["g_max"] == PERTURBATIONS["drift"].window.high


def test_figures_and_prose(result, tmp_path):
    for one in (
        figures.moments(result.tables["statistics"], result.tables["peers"]),
        figures.chips(result.tables["peers"]),
    ):
        assert style.png(one).startswith(b"\x89PNG")
    assert "standard errors" in words.compared(result.tables) and "nan" not in words.compared(result.tables)


def test_our_own_numbers_are_those_of_the_evidence(monkeypatch):
    assert "nan" not in words.beside()
    chips = pd.DataFrame(
        {"chip": "phase-change", "seconds": [20.0, 3600.0, 1e7], "clean": 97.0, "accuracy": [96.0, 95.0, 60.0]}
    )
    rows = [("unaware", 0.1, 0.2), ("autograd", 0.1, 0.5), ("unaware", 0.01, 0.9)]
    faults = pd.DataFrame(rows, columns=["rule", "severity", "accuracy"]).assign(clean=0.97)
    pages = {"operator": {"chips": chips}, "perturbation_stuck_at": {"accuracy": faults}}
    monkeypatch.setattr(words, "shown_on", lambda page: Result(pages[page]))
    assert "96.0 % after mapping, 95.0 % after a day" in words.beside()
    assert "With 10 % of all devices stuck" in words.beside()
    assert "vanilla training 50 %; no training 20 %" in words.beside()
    monkeypatch.setattr(words, "shown_on", lambda page: None)
    assert words.beside() == ""


def test_what_follows_says_only_what_holds(result):
    good = words.follows(result.findings)
    assert "Each law is as published, and" in good and "Kirchhoff" in good
    broken = {name: table.copy() for name, table in result.tables.items()}
    broken["readings"].loc[0, "here"] = 9.0
    broken["wires"]["exact"] = 0.1
    said = words.follows(judged(broken))
    assert "Each law is as published, within" in said and "Kirchhoff" not in said


def test_seeds_are_pooled_as_one_sample():
    source = torch.Generator().manual_seed(0)
    values = torch.randn(4, 1000, generator=source, dtype=torch.float64)
    rows = [row for seed, own in enumerate(values) for row in peers._moments(own, {"g": 1.0, "seed": seed})]
    seen = peers.pooled(pd.DataFrame(rows), ["g", "statistic"]).set_index("statistic")
    whole = pd.DataFrame(peers._moments(values.flatten(), {})).set_index("statistic")
    assert np.allclose(seen.sampled, whole.sampled, atol=2e-3) and np.allclose(seen.error, whole.error, rtol=0.02)
    assert set(seen.samples) == {4000}


def test_a_rerun_with_fewer_seeds_has_the_same_rows(result, tmp_path):
    fewer = Peers(**{**TINY, "seeds": 1, "sides": [4]}, results=str(tmp_path))
    assert fewer._covered(Peers(**TINY))
    both = (
        fewer.run().tables["sampled"].merge(result.tables["sampled"], on=["law", "g", "seconds", "statistic", "seed"])
    )
    assert len(both) == len(result.tables["sampled"]) / 2
    assert np.allclose(both.sampled_x, both.sampled_y, rtol=1e-6)
    for cell in fewer.cells()[::4]:
        again = cell.compute(json.loads(cell.text), {"device": "cpu"})
        for name, table in cell.compute(cell.config, {"device": "cpu"}).items():
            pd.testing.assert_frame_equal(table, again[name])
