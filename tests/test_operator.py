"""The page on the forward operator: refusals, the square law by hand, views against the circuit, findings both ways."""

from __future__ import annotations

import ast
import json

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from lib import results as lib_results
from lib.checks import ParameterError
from lib.hardware import circuit
from lib.hardware.crossbars import on_chip
from lib.hardware.perturbations import PERTURBATIONS, ReadNoise, to_pair
from paper.figures import crossbar as figures
from paper.figures import style
from paper.studies import base, operator
from paper.studies.operator import Operator, exponents, findings, first_layer, look, network_of, own, same_when_off
from paper.tools import pages
from paper.words import operator as words

TINY = {
    "sides": [4, 8],
    "resistances": [1.0, 10.0],
    "arrays": 2,
    "seeds": 2,
    "steps": 3,
    "chips": 2,
    "times": [20, 1e5],
    "device": "cpu",
}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sides": []}, "sides must be one or more integers from 2 to 512, but []"),
        ({"sides": "wide"}, "sides must be one or more integers"),
        ({"sides": [64, 1]}, "sides must be an integer from 2 to 512, but 1"),
        ({"sides": [64, 64]}, "sides must be different integers"),
        ({"resistances": [0.0]}, "resistances must be one or more numbers from 1e-06 to 1000"),
        ({"resistances": "much"}, "resistances must be one or more numbers"),
        ({"arrays": 0}, "arrays must be an integer from 1 to 1000"),
        ({"seeds": 0}, "seeds must be"),
        ({"steps": 1.5}, "steps must be"),
        ({"chips": 0}, "chips must be"),
        ({"times": [1.0]}, "times must be a number from 20 to"),
        ({"ohm": 0}, "ohm must be a number from 1e-06 to 1000"),
        ({"device": "abacus"}, "device must be"),
    ],
)
def test_bad_parameters_are_refused_before_anything_happens(given, sentence, tmp_path):
    with pytest.raises(ParameterError) as refused:
        Operator(results=str(tmp_path / "store"), **given)
    assert str(refused.value).startswith(sentence)
    assert not list(tmp_path.iterdir())


def test_a_run_is_complete_and_is_stored(tmp_path, monkeypatch):
    study = Operator(**TINY, results=str(tmp_path))
    result = study.run()
    tables = result.tables
    assert list(tables) == ["loss", "tiles", "layers", "chips"]
    assert len(tables["loss"]) == 2 * 2 * 2 * 2
    assert not tables["loss"].duplicated(["kind", "side", "ohm", "seed"]).any()
    assert len(tables["layers"]) == 6 * 3 and tables["layers"].same_when_off.all()
    assert len(tables["chips"]) == (2 + 2 + 1 + 1) * 2
    ideal = tables["chips"][tables["chips"].chip == "ideal"]
    assert (ideal.accuracy == ideal.clean).all() and (ideal.low == ideal.clean).all()
    calls = []
    monkeypatch.setattr(lib_results, "computed", lambda group, device: calls.append(group) or stop())
    again = study.run()
    assert not calls
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name])
    with pytest.raises(KeyboardInterrupt):
        study.changed(arrays=3).run()
    for text in (words.of_wires(tables), words.over_time(tables)):
        assert "nan" not in text
    assert words.layer_table(tables).shape == (6, 3)
    assert words.estimate_table(tables).shape == (4, 2)


def stop():
    raise KeyboardInterrupt


def test_what_a_rerun_measures_is_a_part_of_the_evidence(tmp_path):
    whole = Operator(**TINY, results=str(tmp_path))
    part = whole.changed(sides=[8], arrays=1, seeds=1, times=[1e5])
    assert part._covered(whole) and not whole._covered(part)
    tables = [study.run().tables for study in (part, whole)]
    for name, compared in Operator.COMPARED.items():
        here, there = (one[name] for one in tables)
        both = here.merge(there, on=[*compared.keys, "seed"])
        assert len(both) == len(here)
        for quantity in compared.quantities:
            assert np.allclose(both[f"{quantity}_x"], both[f"{quantity}_y"], rtol=1e-5)
    for cell in part.cells():
        again = cell.compute(json.loads(cell.text), {"device": "cpu"})
        for name, table in cell.compute(cell.config, {"device": "cpu"}).items():
            pd.testing.assert_frame_equal(table, again[name])


@pytest.mark.parametrize("notebook", ["operator", "peers", "beyond_training", "composed"])
def test_what_a_page_measures_again_is_covered_by_its_evidence(notebook):
    study = base.named(notebook)
    cells = nbformat.read(pages.NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    (given,) = (cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    found: dict = {}
    exec(given, found)
    rerun = study.from_notebook(found)
    assert rerun == study() and rerun.covering() is not None


def test_the_loss_is_what_a_network_of_two_resistors_says():
    # One cell: the source sees r_word, 1/G and r_bit in a row.
    g = torch.tensor([[25.0]], dtype=torch.float64)
    ohm = 100.0
    expected = 100 * (1 - 1 / (1 + 2 * ohm * 25e-6))
    assert operator._lost(g, circuit.effective_conductance(g, ohm, ohm)) == pytest.approx(expected, rel=1e-6)


def test_exponents_are_slopes_of_logarithms():
    rows = [
        {"kind": kind, "side": side, "ohm": 1.0, "seed": array, "loss": factor * side**power}
        for kind, power, factor in (("uniform", 1.7, 2.0), ("sparse", 3.0, 1.0))
        for side in (16, 32, 128)
        for array in range(3)
    ]
    assert np.allclose(exponents(pd.DataFrame(rows), 1.0), 1.7)
    assert len(exponents(pd.DataFrame(rows), 2.0)) == 0


def tables(power: float, error: float, left: float, same: bool, change: float, losses: tuple[float, ...]) -> dict:
    """Tables of a run by hand; ``losses`` are points at 20 s, late, and late with compensation."""
    arrays = range(3)
    loss = [
        {"kind": "uniform", "side": side, "ohm": ohm, "seed": array, "loss": side**power * 1e-3, "error": error}
        for side in (32, 64, 128)
        for ohm in (0.1, 1.0)
        for array in arrays
    ]
    tiles = [
        {"side": 128, "tile": tile, "seed": array, "loss": 10 * share}
        for tile, share in ((32, left), (128, 1.0))
        for array in arrays
    ]
    layers = [{"perturbation": "adc", "layer": "linear", "change": change, "same_when_off": same}]
    chips = [
        {"chip": chip, "seconds": seconds, "seed": seed, "clean": 97.0, "accuracy": 97.0 - points, "low": 90.0}
        for chip, seconds, points in (
            ("phase-change", 20.0, losses[0]),
            ("phase-change", 1e7, losses[1]),
            ("phase-change, compensated", 1e7, losses[2]),
        )
        for seed in arrays
    ]
    parts = {"loss": loss, "tiles": tiles, "layers": layers, "chips": chips}
    return {name: pd.DataFrame(rows) for name, rows in parts.items()}


def test_findings_go_both_ways():
    good = findings(tables(2.0, 0.01, 0.05, True, 0.1, (0.2, 8.0, 1.0)))
    assert {str(one.outcome) for one in good} == {"holds"} and len(good) == 9
    bad = findings(tables(1.5, 3.0, 0.5, False, 0.0, (2.0, 1.0, 2.0)))
    assert {str(one.outcome) for one in bad} == {"does not hold"}
    # An array or a tile that was not asked for leaves its claim open.
    small = tables(2.0, 0.01, 0.05, True, 0.1, (0.2, 8.0, 1.0))
    small["loss"] = small["loss"][small["loss"].side == 32]
    small["tiles"] = small["tiles"][small["tiles"].tile == 128]
    assert [str(one.outcome) for one in findings(small)][:4] == ["inconclusive"] * 4


def test_a_view_shows_the_circuit_of_the_layer():
    study = Operator(**TINY)
    seen = look(study, 5.0, 2.0)
    weight, g = first_layer(study)
    assert seen.meant.shape == seen.g.shape == weight.shape == (64, 64) and np.array_equal(seen.g, g[0])
    # What arrives is what the effective conductance makes of the voltages.
    effective = circuit.effective_conductance(torch.from_numpy(g[0]), 5.0, 2.0, exact=True).numpy()
    assert np.allclose(seen.volts @ effective, seen.output, rtol=1e-9)
    assert np.allclose(seen.volts @ g[0].astype(float), seen.ideal)
    # The weight that the network sees is the difference of both arrays, over the scale.
    other = circuit.effective_conductance(torch.from_numpy(g[1]), 5.0, 2.0, exact=True).numpy()
    scale = float(to_pair(torch.from_numpy(weight)).scale)
    assert np.allclose(seen.seen, (effective - other) / scale, atol=1e-5)
    assert 0 < seen.total_loss < 1 and np.isnan(seen.cell_loss[seen.volts == 0]).all()
    assert "run backwards" in words.where_lost(seen)


def test_an_array_of_ones_own_is_checked():
    for pattern in operator.PATTERNS:
        seen = own(2.0, 3.0, 8, pattern)
        assert 0 < seen.total_loss < 1 and seen.unit == "µS"
    assert own(0.0, 0.0, 8).total_loss == pytest.approx(0, abs=1e-12)
    # A strong row is the mirror image of a strong column.
    row, column = own(2.0, 3.0, 9, "one strong row"), own(3.0, 2.0, 9, "one strong column")
    assert row.total_loss == pytest.approx(column.total_loss, rel=1e-9)
    for given, word in (((2.0, 3.0, 1), "side"), ((-1.0, 3.0), "r_word"), ((1.0, 3.0, 8, "stripes"), "pattern")):
        with pytest.raises(ParameterError, match=f"{word} must be"):
            own(*given)


def test_the_plain_module_is_the_trained_network():
    study = Operator(**TINY)
    module, images, labels = network_of(study)
    trainer, params = operator._network(study.steps)
    assert torch.allclose(module(images), trainer.network(params, images), atol=1e-5)
    assert len(labels) == len(images)
    before = module(images)
    with on_chip(module, ReadNoise(), 0.3, generator=torch.Generator().manual_seed(0)):
        assert not torch.equal(module(images), before)
    assert torch.equal(module(images), before)


def test_a_class_that_is_never_quite_off_is_found_out():
    class Leaky(ReadNoise):
        def current(self, y, x, arrays, severity, drawn):
            return y + 1e-3

    for module, x in operator._kinds().values():
        assert same_when_off(module, x, PERTURBATIONS["adc"])
        assert not same_when_off(module, x, Leaky())


def test_figures_draw_every_table(tmp_path):
    study = Operator(**TINY, results=str(tmp_path))
    result = study.run()
    drawn = [
        figures.pair(*first_layer(study)),
        figures.circuit(own(100.0, 100.0, 4)),
        figures.crossbar(look(study, 1.0, 1.0), np.zeros((8, 8))),
        figures.crossbar(own(1.0, 0.0, 8, "sparse")),
        figures.setting(look(study, 1.0, 0.0)),
        figures.wires(result.tables["loss"], result.tables["tiles"]),
        figures.over_time(result.tables["chips"]),
    ]
    for one in drawn:
        assert style.png(one).startswith(b"\x89PNG")


def test_the_notebook_writes_a_class_in_one_short_cell():
    cells = nbformat.read(pages.NOTEBOOKS / "operator.ipynb", as_version=4).cells
    (cell,) = [cell for cell in cells if cell.cell_type == "code" and "(Perturbation):" in cell.source]
    assert len(cell.source.splitlines()) <= 12
    (defined,) = ast.parse(cell.source).body
    assert isinstance(defined, ast.ClassDef)
