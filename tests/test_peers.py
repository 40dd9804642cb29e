"""Our models beside the published ones and beside aihwkit's samples: refusals, moments by hand, findings both ways."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from lib import results
from lib.checks import ParameterError
from lib.hardware.perturbations import PERTURBATIONS
from paper.figures import peers as figures
from paper.studies import peers
from paper.studies.base import Result
from paper.studies.peers import CHANCE, LAWS, READINGS, SECONDS, Peers, aihwkit, devices, findings, published

TINY = {"samples": 20_000, "sides": [4, 6], "device": "cpu"}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return Peers(**TINY, results=str(tmp_path_factory.mktemp("store"))).run()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"samples": 10}, "samples must be an integer from 1000"),
        ({"samples": 1e5}, "samples must be an integer"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
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
    assert "aihwkit's have the exponent of the target and" in peers.readings(result)
    none = result.tables["readings"].assign(here=9.0)
    assert "Our chips are none" in peers.readings(Result({"readings": none}))
    assert peers.readings_table(result).shape == (6, 2)


def test_a_mistyped_law_would_be_found(result):
    wrong = result.tables["statistics"].copy()
    # One per cent on one standard deviation of 20,000 samples is two standard errors, on 200,000 six.
    at = (wrong.law == "programming") & (wrong.statistic == "std") & (wrong.g == 10)
    wrong.loc[at, "z"] = 0.03 * wrong.loc[at, "published"] / wrong.loc[at, "error"]
    found = findings({**result.tables, "statistics": wrong})
    assert str(found[0].outcome) == "does not hold" and str(found[1].outcome) == "holds"


def test_findings_go_both_ways(result):
    outcomes = {one.claim: str(one.outcome) for one in result.findings}
    assert [outcomes[claim] for claim in outcomes if "nodal analysis" in claim] == ["holds", "holds"]
    broken = {name: table.copy() for name, table in result.tables.items()}
    broken["statistics"]["z"] = 9.0
    broken["peers"][["z", "deviation"]] = 9.0
    broken["readings"][["here", "aihwkit"]] = 9.0
    broken["wires"][["fast", "exact"]] = 0.1
    assert {str(one.outcome) for one in findings(broken)} == {"does not hold"}


def test_wires_agree_with_a_nodal_analysis(result):
    table = result.tables["wires"]
    assert len(table) == 2 * 7 and (table.r_word != table.r_bit).any()
    assert table.fast.max() < peers.FAST and table.exact.max() < peers.EXACT
    assert (table.lost > 0).all() and peers.wires_table(result).shape == (7, 3)


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
    monkeypatch.setattr(results, "repository", lambda: tmp_path)
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
        assert one._repr_png_().startswith(b"\x89PNG")
    assert "standard errors" in peers.compared(result) and "nan" not in peers.compared(result)
    # Our own numbers are those of the page on the operator.
    monkey = pytest.MonkeyPatch()
    tiny = peers.Operator
    monkey.setattr(peers, "Operator", lambda **given: tiny(**given, sides=[4], arrays=1, seeds=1, steps=2, chips=1))
    try:
        assert "Phase-change memory" in peers.beside(Peers(**TINY, results=str(tmp_path)))
    finally:
        monkey.undo()
