"""The page on CIFAR-10: convolutions without patches, finished networks, the sample, and what is judged."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from lib import runtime
from lib.checks import ParameterError
from lib.hardware.devices import Composite, make
from lib.hardware.networks import BatchNorm, Images, Network, build
from lib.hardware.perturbations import ADC, IRDrop
from lib.hardware.training import Trainer
from lib.replicas import Optimiser, stack
from lib.verdicts import Findings, Outcome
from paper import finished
from paper.convolved import Convolved
from paper.figures import cifar as figures
from paper.figures import style
from paper.studies import cifar
from paper.studies.cifar import Cifar
from paper.tools import pretrain_hardware as pretrain
from paper.words import cifar as words


@pytest.fixture(scope="module")
def images() -> Images:
    source = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 3, 12, 12, generator=source), torch.arange(40) % 10
    return Images(x[:30], y[:30], x[30:], y[30:])


# ------------------------------------------------------------------------------------------------ convolutions


@pytest.mark.parametrize("rule", ["autograd", "noise_injection", "straight_through"])
@pytest.mark.parametrize(
    ("name", "options", "severity"),
    [
        ("read_noise", {}, 0.05),
        ("variability", {}, 0.05),
        ("variability", {"scale": "column"}, 0.05),
        ("stuck_at", {}, 0.05),
        ("drift", {}, 1e5),
        ("pcm", {"compensation": "global"}, 86400.0),
        ("ir_drop", {"tile": (16, 16)}, 20.0),
    ],
)
def test_convolutions_compute_what_patches_do(images, rule, name, options, severity):
    """The same loss, the same trained weights and the same accuracy, under every class and backward rule."""
    physics, found = make(name, **options), []
    for kind in (Network, Convolved):
        trainer = Trainer(kind("cnn_norm", 3, 12), images, 8)
        start = stack([trainer.network.initial(runtime.stream(seed, "initial")) for seed in range(2)])
        trained = trainer.train_aware(start, physics, rule, [severity], range(2), Optimiser("sgd", 0.01, 2))
        seen = trainer.accuracy_on_chips(trained.params, physics, [severity], range(2), 1, statistics="each chip")
        found.append((trained.losses, trained.params, seen))
    (loss, params, seen), (other_loss, other_params, other_seen) = found
    torch.testing.assert_close(loss, other_loss, rtol=1e-4, atol=1e-5)
    for key, value in params.items():
        torch.testing.assert_close(value, other_params[key], rtol=1e-3, atol=2e-4)
    assert torch.equal(seen, other_seen)


@pytest.mark.parametrize("name", ["cnn", "cnn_norm", "resnet_narrow"])
def test_convolutions_compute_the_plain_network(images, name):
    """In the computer it is the network itself, biases and narrowing blocks included, and a converter sees the same."""
    one, other = Network(name, 3, 12), Convolved(name, 3, 12)
    params = one.initial(runtime.stream(0, "initial"))
    params = {key: value + 0.1 * torch.randn_like(value) for key, value in params.items()}
    torch.testing.assert_close(one(params, images.x), other(params, images.x), rtol=1e-4, atol=1e-4)
    logits = []
    for net in (one, other):
        trainer = Trainer(net, images, 8)
        crossbars = trainer.crossbars(make("adc"), torch.tensor(8.0), "autograd", {})
        logits.append((net(params, images.x, crossbars), crossbars.calibrated))
    # A current on the edge of a step may round to either side.
    near = (logits[0][0] - logits[1][0]).abs() < 0.1 * logits[0][0].std()
    assert near.float().mean() > 0.9
    for layer, parts in logits[0][1].items():
        if "adc" in parts:
            torch.testing.assert_close(parts["adc"]["range"], logits[1][1][layer]["adc"]["range"], rtol=0.02, atol=0)


def test_converters_at_the_input_are_refused_by_name(images):
    trainer = Trainer(Convolved("cnn_norm", 3, 12), images, 8)
    params = trainer.network.initial(runtime.stream(0, "initial"))
    crossbars = trainer.crossbars(make("dac"), torch.tensor(8.0), "autograd", {})
    with pytest.raises(ParameterError, match="perturbation must be one that leaves the inputs"):
        trainer.network(params, images.x, crossbars)


def test_resnet_narrow_is_half_as_wide():
    net = Network("resnet_narrow", 3, 32)
    assert len(net.layers) == 20
    assert [net.shapes[layer].weight[0] for layer in net.layers][:1] == [8]
    wide = Network("resnet", 3, 32)
    assert all(2 * net.shapes[layer].weight[0] == wide.shapes[layer].weight[0] for layer in net.layers[:-1])


# -------------------------------------------------------------------------------------------- finished networks


def test_moved_pictures_are_shifted_or_mirrored_copies():
    x = torch.rand(64, 3, 8, 8)
    seen = finished.moved(x, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (4,) * 4)
    for picture, own in zip(padded, seen, strict=True):
        windows = (picture[:, i : i + 8, j : j + 8] for i in range(9) for j in range(9))
        assert any(torch.equal(own, one) or torch.equal(own, one.flip(-1)) for one in windows)
    assert not torch.equal(seen, x)


def test_finished_networks_have_the_accuracy_of_their_record():
    """On the sample of 200 test pictures, within what so few of them can say."""
    for name in finished.FINISHED:
        record = finished.record(name)
        trainer = finished.trainer(name, "", 32, 200)
        seen = trainer.accuracy(finished.start(name, [0], torch.device("cpu"))).item()
        error = np.sqrt(record["accuracy"] * (1 - record["accuracy"]) / 200)
        assert abs(seen - record["accuracy"]) < 3.5 * error
        assert record["curve"][-1]["step"] == record["steps"] and record["accuracy"] > 0.6


@pytest.mark.parametrize("harm", ["missing", "changed", "shape", "record"])
def test_weights_that_do_not_fit_are_refused(tmp_path, harm):
    for suffix in (".json", ".safetensors"):
        shutil.copy(finished.WEIGHTS / f"cnn_norm{suffix}", tmp_path)
    path = tmp_path / "cnn_norm.safetensors"
    if harm == "missing":
        path.unlink()
    elif harm == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif harm == "record":
        (tmp_path / "cnn_norm.json").write_text("{")
    else:
        from safetensors.torch import save

        net = build("cnn", 3, 32)
        content = save({key: value.detach().contiguous() for key, value in net.named_parameters()})
        path.write_bytes(content)
        import hashlib

        record = json.loads((tmp_path / "cnn_norm.json").read_text())
        (tmp_path / "cnn_norm.json").write_text(json.dumps(record | {"sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(ParameterError, match="must (be|have|hold)"):
        finished.weights("cnn_norm", tmp_path)


def test_pretraining_goes_on_from_its_checkpoint_and_writes_what_it_judges(tmp_path, images):
    """Two epochs at once, and one after the other, give the same; torch's normalisation is ours."""
    recipe = pretrain.Recipe(epochs=2, batch=10)
    whole, curve = pretrain.train("cnn_norm", images, recipe, lambda row: None)

    class Killed(Exception):
        pass

    def killed(row: dict) -> None:
        if row["step"] == 6:
            raise Killed

    checkpoint = tmp_path / "checkpoint"
    first = pretrain.train("cnn_norm", images, recipe, lambda row: None, checkpoint)
    assert checkpoint.is_file()
    again, same = pretrain.train("cnn_norm", images, recipe, killed, checkpoint)
    for key, value in whole.items():
        assert torch.equal(value, again[key]) and torch.equal(value, first[0][key])
    assert [row["loss"] for row in curve] == [row["loss"] for row in same]
    record = pretrain.finish("cnn_norm", whole, curve, recipe, images, tmp_path)
    assert record["steps"] == 6 and (tmp_path / "cnn_norm.safetensors").is_file()


def test_torch_normalises_as_ours_does():
    x = torch.randn(6, 5, 4, 4)
    ours, net = BatchNorm(5), torch.nn.Sequential(BatchNorm(5))
    torch.testing.assert_close(pretrain.plain(net)(x), ours(x))


# ------------------------------------------------------------------------------------------------------ the study


def test_the_sample_is_balanced_and_of_the_published_size():
    sample = finished.pictures("")
    for labels in (sample.y, sample.test_y):
        assert torch.bincount(labels).tolist() == [20] * 10
    assert sample.x.shape == sample.test_x.shape == (200, 3, 32, 32)


def test_pictures_of_the_whole_are_asked_for_before_anything_is_computed(tmp_path):
    with pytest.raises(ParameterError, match="root must be the folder of CIFAR-10"):
        Cifar(pictures="all").run()
    with pytest.raises(ParameterError, match="root must be left out with pictures 'few'"):
        Cifar(root=str(tmp_path))
    with pytest.raises(ParameterError, match="root must"):
        Cifar(pictures="all", root=str(tmp_path))


def test_other_pictures_than_those_of_the_evidence_are_refused():
    cell = next(one for one in Cifar(pictures="all").cells() if one.config["pictures"] == cifar.WHOLE)
    with pytest.raises(ParameterError, match="root must hold the pictures that the study is about"):
        cell.compute(cell.config, {"root": "", "device": "cpu"})


def test_a_rerun_is_part_of_the_evidence():
    study = Cifar()
    assert {one.config["pictures"] for one in study.cells()} == {finished.identity("")}
    assert study._covered(Cifar(pictures="all", repeats=6))


def runs(**changes: float) -> pd.DataFrame:
    """Accuracy of all arms at two severities of two classes and two seeds, the same unless it is changed."""
    base = {"unaware": 0.4, "statistics": 0.5, "clipped": 0.45, "autograd": 0.6, "noise_injection": 0.65}
    rows = []
    for name in ("read_noise", "ir_drop"):
        for severity in cifar.GRID[name][:2]:
            for seed in range(2):
                for arm, value in (base | changes).items():
                    row = {"network": "cnn_norm", "perturbation": name, "severity": severity, "seed": seed, "arm": arm}
                    rows.append(row | {"clean": 0.7, "accuracy": value + 0.001 * seed})
    return pd.DataFrame(rows)


def test_the_best_measure_without_a_gradient_is_found_and_subtracted():
    table = cifar.summary(runs())
    assert set(table.measure) == {"statistics"}
    np.testing.assert_allclose(table.free, 1 / 3, atol=0.01)
    vanilla, injected = (table[table.arm == arm] for arm in cifar.RULES)
    np.testing.assert_allclose(vanilla.recovery, 2 / 3, atol=0.01)
    np.testing.assert_allclose(injected.beyond, 15.0)
    assert set(cifar.summary(runs(unaware=0.55, autograd=0.5)).measure) == {"unaware"}


def test_claims_about_the_small_network_follow_their_numbers():
    def outcomes(**changes: float) -> dict[str, Outcome]:
        return {claim.id: claim.judged().outcome for claim in cifar._small(runs(**changes))}

    good = outcomes()
    assert good["cifar.inside"] is Outcome.HOLDS and good["cifar.read_noise"] is Outcome.HOLDS
    assert good["cifar.ir_drop"] is Outcome.DOES_NOT_HOLD and good["cifar.no_gradient"] is Outcome.DOES_NOT_HOLD
    assert good["cifar.beyond"] is Outcome.HOLDS and good["cifar.injection"] is Outcome.HOLDS
    bad = outcomes(statistics=0.69, autograd=0.41, noise_injection=0.40)
    assert bad["cifar.ir_drop"] is Outcome.HOLDS and bad["cifar.read_noise"] is Outcome.DOES_NOT_HOLD
    assert bad["cifar.beyond"] is Outcome.DOES_NOT_HOLD and bad["cifar.injection"] is Outcome.DOES_NOT_HOLD
    assert bad["cifar.no_gradient"] is Outcome.HOLDS


def test_classes_drawn_again_give_the_interval_of_an_area():
    cells = pd.DataFrame({"perturbation": np.repeat(list("abcdef"), 4)})
    label = np.tile([True, True, False, False], 6)
    score = np.where(label, 1.0, 0.0)
    value, (low, high) = cifar._over_classes(cells, lambda own: cifar.area(score[own], label[own]))
    assert value == low == high == 1.0
    # One class of six is turned around: how often it is drawn decides.
    score[:4] = 1 - score[:4]
    value, (low, high) = cifar._over_classes(cells, lambda own: cifar.area(score[own], label[own]))
    assert low < value < high


def test_wires_and_converters_are_judged_in_the_order_given():
    physics = Composite((IRDrop(tile=cifar.TILE), ADC()))
    assert physics.check({"ir_drop": 5.0, "adc": 6.0}) == (5.0, 6.0)


def test_sentences_of_the_answer_are_there_without_the_whole():
    assert "sample alone" in words.answer({"sample": pd.DataFrame()})


# ------------------------------------------------------------------------------------------------------ the page


def whole(seeds: int = 2) -> dict[str, pd.DataFrame]:
    """Tables as the whole data set gives them, small and made up."""
    rng = np.random.default_rng(0)
    rows, looks, curve = [], [], []
    for name, grid in cifar.GRID.items():
        for place, severity in enumerate(grid):
            for seed in range(seeds):
                key = {"network": "cnn_norm", "perturbation": name, "severity": severity, "seed": seed}
                for arm in (*cifar.UNTRAINED, *cifar.RULES):
                    seen = 0.65 - 0.15 * place * rng.uniform(0.2, 1) - (0.1 if arm == "unaware" else 0)
                    rows.append(key | {"arm": arm, "clean": 0.66, "accuracy": seen})
                for arm in cifar.RULES:
                    numbers = {
                        one: rng.uniform(0.1, 1) for one in ("cosine", "truth", "signal", "live", "gain", "rank")
                    }
                    looks.append(key | {"arm": arm, "cosine_low": 0.05, "cosine_high": 1.0} | numbers)
                    curve += [key | {"arm": arm, "part": part, "loss": 2 - part / 8} for part in range(8)]
    accuracy = pd.DataFrame(rows)
    cells = cifar.damaging(accuracy, pd.DataFrame(looks))
    chips = [
        {"arm": arm, "compensation": given[0], "statistics": given[1], "seconds": at, "seed": seed}
        | {"clean": 0.78, "accuracy": rng.uniform(0.3, 0.7)}
        for arm in cifar.ARMS
        for given in cifar.MEASURES
        for at in cifar.TIMES
        for seed in range(seeds)
    ]
    converted = [
        {"arm": arm, "ohm": ohm, "seed": seed, "clean": 0.78, "accuracy": rng.uniform(0.3, 0.7)}
        for arm in (*cifar.UNTRAINED, "noise_injection")
        for ohm in cifar.OHMS
        for seed in range(1 if arm in cifar.UNTRAINED else seeds)
    ]
    return {
        "sample": accuracy[accuracy.arm.isin(cifar.UNTRAINED)],
        "accuracy": accuracy,
        "curve": pd.DataFrame(curve),
        "cells": cells,
        "summary": cifar.summary(accuracy),
        "areas": cifar.areas(cells),
        "chips": pd.DataFrame(chips),
        "converters": pd.DataFrame(converted),
    }


def test_everything_is_drawn_told_and_claimed():
    """All figures, with the whole and without; all claims are decided or say why not; all sentences are there."""
    tables = whole()
    names = ("accuracies", "phases", "curves", "areas", "chips", "converters")
    of = {"accuracies": "accuracy", "phases": "summary", "curves": "curve"}
    for name in names:
        for table in (tables[of.get(name, name)], None):
            drawn = getattr(figures, name)(table)
            assert style.png(drawn)[:4] == b"\x89PNG"
    drawn = figures.sample(tables["sample"], rerun=tables["sample"][tables["sample"].seed == 0])
    assert "Diamonds: this run" in drawn.get_label()
    found = Findings.of(cifar.claims(tables), holm=True)
    assert len(found) == 6 + 2 * 4 + 4 and all(one.value == one.value or one.note for one in found)
    assert "the best measure without a gradient" in words.answer(tables)
    assert len(words.shown(tables)) == 18 and words.telling(tables).count("\n") == 1
    assert words.outstanding(found, tables) and "Without hardware" in words.afterwards(tables)
    assert words.added(tables).count(", ") >= 5 and words.added({}) == words.afterwards({}) == ""
    assert set(words.networks()["parameters"]) == {14002, 68050}


def test_the_deep_claims_follow_their_numbers():
    tables = whole()
    chips, converted = tables["chips"].assign(accuracy=0.7), tables["converters"].assign(accuracy=0.5)

    def outcomes() -> dict[str, Outcome]:
        return {claim.id: claim.judged().outcome for claim in cifar._deep(chips, converted)}

    level = outcomes()
    assert level["resnet.hat"] is Outcome.DOES_NOT_HOLD and level["resnet.day"] is Outcome.HOLDS
    assert level["resnet.norm"] is Outcome.DOES_NOT_HOLD and level["resnet.converter"] is Outcome.DOES_NOT_HOLD
    trained = chips.arm == cifar.ARMS[-1]
    chips.loc[trained & (chips.seconds == cifar.TIMES[0]), "accuracy"] = 0.76
    chips.loc[trained & (chips.seconds == cifar.DAY), "accuracy"] = 0.74
    chips.loc[(chips.arm == "unaware") & (chips.compensation == "none"), "accuracy"] = 0.2
    converted.loc[converted.arm == "noise_injection", "accuracy"] = 0.6
    other = outcomes()
    assert other["resnet.hat"] is Outcome.HOLDS and other["resnet.day"] is Outcome.DOES_NOT_HOLD
    assert other["resnet.norm"] is Outcome.HOLDS and other["resnet.converter"] is Outcome.HOLDS
    tables |= {"chips": chips, "converters": converted}
    told = words.deep(Findings.of(cifar._deep(chips, converted)), tables)
    assert "noise *and clipping* is ahead" in told and "by 4.0 points" in told and "6 bits" in told
    # Of the day without either measure the rest is told measure by measure.
    assert "costs the network as it is 58 points" in told and "alone it loses 8.0" in told and "besides 8.0" in told
    assert "clipping alone, without any training, is not ahead of it (0.0)" in told
    chips.loc[(chips.arm == "clipped") & (chips.compensation == "global"), "accuracy"] = 0.75
    told = words.deep(Findings.of(cifar._deep(chips, converted)), tables)
    assert "is ahead of it by 5.0, so that training adds nothing to it" in told


def test_what_read_noise_and_wires_give_back_is_told_as_a_share():
    tables = whole()
    tables["summary"] = cifar.summary(runs())
    told = words.outstanding(Findings.of(cifar._small(runs())), tables)
    assert told.count("vanilla training wins back 0.67 of what it costs") == 2
