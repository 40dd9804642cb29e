"""The same networks through other simulators: what they are given, what is kept of them, and what is refused."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks import peer_ngspice
from lib import runtime
from lib.checks import ParameterError
from lib.hardware import circuit
from lib.hardware.crossbars import Crossbars
from lib.hardware.networks import digits, network
from lib.verdicts import Findings
from paper import simulators
from paper.simulators import KINDS, OHMS, SEEDS, WeightNoise
from paper.words import peers as words


@pytest.fixture
def own():
    """One network as arrays."""
    params = {name: value[None] for name, value in network("mlp").initial(runtime.stream(0, "initial")).items()}
    return simulators.arrays(params, "unaware", [0])


def test_noise_on_weights_is_one_number_for_each_weight():
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normal = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = {"0": {"weight_noise": {"chip": normal}}}
    crossbars = Crossbars(WeightNoise(), torch.tensor(0.3, dtype=torch.float64), "autograd", drawn)
    seen = crossbars("0", torch.eye(5, dtype=torch.float64), weight).mT
    assert torch.allclose(seen, weight + 0.3 * weight.abs().max() * normal[0])


def test_the_rule_gives_the_weights_the_gradient_of_their_noisy_copies():
    plain = network("mlp")
    params = plain.initial(runtime.stream(0, "initial"))
    drawn = {
        layer: {"weight_noise": {"chip": torch.randn(2, *shape.weight, generator=runtime.stream(1, layer))}}
        for layer, shape in plain.shapes.items()
    }
    x, y = digits().x[:50], digits().y[:50]
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    crossbars = Crossbars(WeightNoise(), torch.tensor(0.1), "noise_injection", drawn)
    cross_entropy(plain(leaves, x, crossbars), y).backward()
    noisy = {}
    for name, value in params.items():
        layer, _, part = name.rpartition(".")
        noise = 0.1 * value.abs().max() * drawn[layer]["weight_noise"]["chip"][0] if part == "weight" else 0
        noisy[name] = (value + noise).requires_grad_()
    cross_entropy(plain(noisy, x), y).backward()
    for name in params:
        assert torch.allclose(leaves[name].grad, noisy[name].grad, atol=1e-6), name


def test_networks_come_back_as_they_were_written(own, tmp_path):
    simulators._write(tmp_path / "own.npz", own)
    back = simulators.params(simulators._archive(tmp_path / "own.npz", ""), "unaware", [0])
    expected = network("mlp").initial(runtime.stream(0, "initial"))
    assert all(torch.equal(back[name][0], value) for name, value in expected.items())
    assert simulators.digest(own) == simulators.digest(dict(reversed(own.items())))


@pytest.mark.parametrize("harm", ["shape", "missing", "nan"])
def test_a_wrong_network_is_refused(own, harm):
    key = "unaware/0/3/weight"
    if harm == "missing":
        del own[key]
    else:
        own[key] = own[key].T if harm == "shape" else np.full_like(own[key], np.nan)
    with pytest.raises(ParameterError, match=f"in {key}, but"):
        simulators.params(own, "unaware", [0])


def test_a_file_that_is_no_archive_of_plain_arrays_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="must hold other.npz"):
        simulators._archive(tmp_path / "other.npz", "it is made")
    np.savez(tmp_path / "pickled.npz", one=np.array([{}], dtype=object))
    (tmp_path / "words.npz").write_text("no archive")
    for name in ("pickled", "words"):
        with pytest.raises(ParameterError, match="must be an archive of plain arrays"):
            simulators._archive(tmp_path / f"{name}.npz", "")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a simulator wrote, and an empty place to keep it in beside the networks."""
    networks = simulators.kept("networks")
    monkeypatch.setattr(simulators, "KEPT", tmp_path / "peers")
    simulators.others.cache_clear()
    simulators._write(tmp_path / "peers" / "networks.npz", networks)
    written = tmp_path / "written"
    written.mkdir()
    count = len(digits().test_y)
    rows = [
        {"simulator": "CrossSim", "kind": "aware", "seed": 3, "case": "programmed", "chip": chip, "right": right}
        for chip, right in enumerate((count, count - 60))
    ]
    record = {"rows": rows, "networks": simulators.digest(networks), "versions": {"cross-sim": "0"}, "command": "run"}
    (written / "record.json").write_text(json.dumps(record))
    simulators._write(written / "outputs.npz", {"5/1": np.zeros((2, 3))})
    yield written
    simulators.others.cache_clear()


def test_what_a_simulator_wrote_is_kept_as_means_over_chips(folder):
    simulators.keep(folder)
    table = pd.read_csv(simulators.KEPT / "crosssim_networks.csv")
    lost = 100 * 60 / 599
    assert table.accuracy.item() == pytest.approx(100 - lost / 2, abs=1e-5)
    assert table.spread.item() == pytest.approx(lost / 2, abs=1e-5) and table.chips.item() == 2
    assert (simulators.KEPT / "crosssim_outputs.npz").is_file()
    with pytest.raises(ParameterError, match="must hold aihwkit_networks.csv"):
        simulators.others()


@pytest.mark.parametrize("harm", ["networks", "simulator", "none"])
def test_results_about_something_else_are_not_kept(folder, harm):
    record = json.loads((folder / "record.json").read_text())
    if harm == "networks":
        record["networks"] = "another"
    elif harm == "simulator":
        record["rows"][0]["simulator"] = "abacus"
    (folder / "record.json").write_text("" if harm == "none" else json.dumps(record))
    with pytest.raises(ParameterError, match={"none": "must hold the record.json"}.get(harm, harm)):
        simulators.keep(folder)
    assert not list(simulators.KEPT.glob("*.csv"))


def test_kept_results_of_other_networks_are_refused(folder, own):
    simulators.keep(folder)
    for part in ("csv", "json"):
        (simulators.KEPT / f"crosssim_networks.{part}").rename(simulators.KEPT / f"aihwkit_networks.{part}")
    simulators._write(simulators.KEPT / "networks.npz", own)
    simulators.kept.cache_clear()
    with pytest.raises(ParameterError, match="must be about the networks in networks.npz"):
        simulators.others()
    simulators.kept.cache_clear()


def test_the_kept_results_are_whole_and_name_their_versions():
    table, origins = simulators.others()
    assert set(table.simulator) == set(simulators.SIMULATORS) and set(table.seed) == set(SEEDS)
    assert set(origins["aihwkit"]["versions"]) == {"aihwkit", "python", "torch"}
    assert origins["aihwkit"]["without_noise"] < 1e-5 and "cross-sim" in origins["crosssim"]["versions"]
    # Without hardware all simulators count the same pictures.
    for kind in KINDS:
        params = simulators.params(simulators.kept("networks"), kind, SEEDS)
        plain = 100 * simulators._trainer().accuracy(params)
        for _, here in table[(table.case == "ideal") & (table.kind == kind)].groupby("simulator"):
            assert np.allclose(here.sort_values("seed").accuracy, plain, atol=1e-4)


def test_a_simulator_is_given_the_batches_of_our_training(tmp_path, monkeypatch):
    monkeypatch.setattr(simulators, "SEEDS", (4,))
    monkeypatch.setattr(simulators, "STEPS", 3)
    monkeypatch.setattr(simulators, "WARM_UP", 1)
    simulators.export(tmp_path / "given.npz")
    given = simulators._archive(tmp_path / "given.npz", "")
    assert given["batches/4"].shape == (3, simulators.BATCH)
    drawn = simulators._trainer().images(4, 1 + 2)
    assert np.array_equal(given["train_x"][given["batches/4"][2]], drawn["x"].flatten(1).numpy())
    assert np.array_equal(given["train_y"][given["batches/4"][2]], drawn["y"].numpy())
    # From the start, plain gradient steps by Adam lead to what a simulator's training without noise is held against.
    rate = torch.tensor(given["rates"])
    params = {
        f"{layer}.{part}": torch.tensor(given[f"start/4/{layer}/{part}"], requires_grad=True)
        for layer in "135"
        for part in ("weight", "bias")
    }
    optimiser = torch.optim.Adam(params.values())
    for step in range(3):
        optimiser.param_groups[0]["lr"] = float(rate[step])
        picked = given["batches/4"][step]
        x, y = torch.tensor(given["train_x"][picked]).view(-1, 1, 8, 8), torch.tensor(given["train_y"][picked]).long()
        optimiser.zero_grad()
        cross_entropy(network("mlp")(params, x), y).backward()
        optimiser.step()
    assert np.allclose(given["clean/4/3/weight"], params["3.weight"].detach().numpy(), atol=1e-6)


# ------------------------------------------------------------------------------------------------ CrossSim's driver


class _Array:
    """CrossSim's interface over our circuit."""

    def __init__(self, params) -> None:
        lines = params.xbar.array.parasitics
        # Shares of the largest conductance stand for microsiemens, and so megohms for its resistance.
        self.wires = 1e6 * lines.Rp_row_norm, 1e6 * lines.Rp_col_norm

    def iterative_solve(self, matrix, inputs):
        return circuit.effective_conductance(torch.tensor(matrix.T), *self.wires, exact=True).numpy().T @ inputs


class _Converter:
    """CrossSim's interface over a plain rounding."""

    def __init__(self, adc, dac, core, simulation, bitslice) -> None:
        self.levels, (_, self.bound) = 2 ** (adc.bits - 1) - 1, adc.calibrated_range

    def set_limits(self, matrix) -> None:
        assert matrix is None

    def convert(self, vector):
        step = self.bound / self.levels
        return np.clip(np.round(vector / step), -self.levels, self.levels) * step


class _Device:
    """CrossSim's interface, without an error."""

    def __init__(self, params, error) -> None:
        assert 1e6 / params.Rmin <= 25 and params.Gmin_norm == pytest.approx(0.1 / 25)

    def programming_error(self, matrix):
        return matrix


@pytest.fixture
def driver(monkeypatch):
    """``benchmarks/peer_crosssim.py`` on a package of CrossSim's interface whose physics is ours."""
    made = {
        "simulator.circuits.adc.quantizer_adc": {"SignMagnitudeADC": _Converter},
        "simulator.circuits.array.NonInterleaved_InputSource": {"NonInterleaved_InputSource_Array": _Array},
        "simulator.devices.custom.PCM_Joshi": {"PCMJoshi": _Device},
        "simulator.parameters.core_parameters": {"CoreStyle": SimpleNamespace(BALANCED=2)},
        "simulator.parameters.xbar_parameters": {"ADCRangeLimits": SimpleNamespace(CALIBRATED=1)},
    }
    for name, contents in made.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            module = ModuleType(".".join(parts[:end]))
            module.__path__ = []
            if end == len(parts):
                vars(module).update(contents)
            if ".".join(parts[:end]) not in sys.modules:
                monkeypatch.setitem(sys.modules, ".".join(parts[:end]), module)
    monkeypatch.delitem(sys.modules, "benchmarks.peer_crosssim", raising=False)
    yield importlib.import_module("benchmarks.peer_crosssim")
    sys.modules.pop("benchmarks.peer_crosssim", None)


def test_with_our_physics_crosssim_s_driver_comes_to_our_accuracy(driver):
    networks, images = simulators.kept("networks"), digits()
    file = {name: value.astype(np.float32) for name, value in networks.items() if name.startswith("aware/1/")}
    ((kind, seed, layers),) = driver.networks(file, ("aware",))
    x, train = (part.flatten(1).numpy() for part in (images.test_x, images.x))
    config = {"kind": kind, "seeds": [seed], "ohms": [0.0, OHMS[1]]}
    ours = simulators.behind_wires(config, {"device": "cpu"})["simulated"].set_index("case").accuracy
    for ohm in config["ohms"]:
        logits = driver.through(layers, driver.wired(layers, ohm, train), x)
        right = 100 * np.mean(logits.argmax(-1) == images.test_y.numpy())
        # A value on the edge between two levels may fall to either side.
        assert right == pytest.approx(ours[f"wires {ohm:g}"], abs=100 * 2.5 / len(x))
    weight = layers["3"][0]
    assert np.allclose(driver.programmed(weight), weight, atol=1e-6)
    # Our circuit through their interface takes what ours takes.
    ideal = Crossbars(simulators.IRDrop(), torch.tensor(100.0), "autograd", {})
    inputs = torch.rand(5, weight.shape[1], generator=torch.Generator().manual_seed(0))
    expected = ideal("3", inputs, torch.from_numpy(weight)).numpy()
    assert np.allclose(driver.product(weight, 100.0, inputs.numpy()), expected, atol=2e-5)


# ---------------------------------------------------------------------------------------------------- findings


def tables(shift: float = 0.0, apart: float = 0.0) -> dict[str, pd.DataFrame]:
    """Tables in which every other simulator is ``shift`` points above ours."""
    theirs, _ = simulators.others()
    ours = theirs.drop_duplicates(["kind", "seed", "case"]).assign(simulator="ours")
    both = theirs.merge(ours, on=["kind", "seed", "case"], suffixes=("", "_ours"))
    noise = np.random.default_rng(0).normal(0, 0.05, len(both))
    differences = both.assign(difference=shift + noise, ours=both.accuracy_ours, ours_spread=both.spread_ours)
    rows = [
        {
            "by": by,
            "seed": seed,
            "case": case,
            "accuracy": 96.0 + (shift if by == "aihwkit" else 0.0) + 0.1 * (seed % 2),
        }
        for by in ("here", "aihwkit")
        for seed in SEEDS
        for case in ("clean", *simulators.JUDGED)
    ]
    taken = pd.DataFrame({"simulator": ["aihwkit", "CrossSim"], "apart": apart})
    return {"simulated": ours, "differences": differences, "trained": pd.DataFrame(rows), "taken": taken}


@pytest.mark.parametrize(("shift", "apart", "outcome"), [(0.0, 1e-3, "holds"), (2.0, 0.5, "does not hold")])
def test_findings_go_both_ways(shift, apart, outcome):
    found = Findings.of(simulators.claims(tables(shift, apart)))
    assert {str(one.outcome) for one in found} == {outcome} and len({one.id for one in found}) == len(found) == 22


def test_a_simulator_that_lacks_a_case_leaves_its_claim_open():
    given = tables()
    lost = given["differences"]
    given["differences"] = lost[~((lost.simulator == "CrossSim") & (lost.case == "wires 1000"))]
    (open_,) = [one for one in Findings.of(simulators.claims(given)) if one.id == "simulators.wires.1000.crosssim"]
    assert str(open_.outcome) == "inconclusive" and open_.note == "nothing was measured"


def test_both_networks_of_a_seed_count_once():
    table = pd.DataFrame({"seed": [0, 0, 1, 1], "difference": [1.0, 3.0, -1.0, 0.0]})
    assert simulators.by_seed(table).tolist() == [2.0, -0.5]


def test_what_is_said_follows_the_tables():
    near, far = tables(), tables(2.0, 0.5)
    for own in (near, far):
        own["taken"] = own["taken"].assign(layer=0, ohm=5.0, lost=0.4, lost_theirs=0.1, lost_bit=0.2, apart_bit=0.5)
    assert ": all within the 1 point" in words.aged(near) and ": not all within the 1 point" in words.aged(far)
    assert "0.25 to 0.25 times what the circuit takes, and 0.50 to 0.50 times" in words.wired(near)
    assert "their means by 2.00" in words.trained(far) and words.trained_table(near).shape == (2, 3)
    assert words.taken_table(near).shape == (2, 5) and "aihwkit 1." in words.ran()
    good, bad = (words.follows(Findings.of(simulators.claims(own))) for own in (near, far))
    assert "come out alike on phase-change chips" in good and "they are as good" in good
    assert "come out alike" not in bad and "as good" not in bad


def test_a_netlist_has_every_wire_and_device_once():
    text = peer_ngspice.netlist(torch.tensor([[25.0, 5.0]]), torch.tensor([0.5]), 2.0).splitlines()
    assert {"V0 s0 0 0.5", "Rw0_0 s0 w0_0 2.0", "Rw0_1 w0_0 w0_1 2.0", "Rg0_1 w0_1 b0_1 200000.0"} <= set(text)
    assert {"Rb0_1 b0_1 o1 2.0", "Vs0 o0 0 0", "Vs1 o1 0 0"} <= set(text)
    assert sum(line.startswith("R") for line in text) == 6


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is a package of the system")
def test_ngspice_finds_the_currents_of_our_circuit():
    g = 0.1 + 24.9 * torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    volts = torch.rand(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theirs = peer_ngspice.currents("ngspice", g, volts, 100.0)
    ours = circuit.effective_conductance(g, 100.0, 100.0, exact=True).mT @ volts
    assert torch.allclose(ours, theirs, rtol=1e-10)
    with pytest.raises(RuntimeError, match="must print 7 currents, but it printed 0"):
        peer_ngspice.currents("true", g, volts, 100.0)
