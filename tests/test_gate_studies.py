"""The studies of Part I on tiny settings: what they measure, store, and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib.checks import ParameterError
from lib.prompts import data, gates, learners, tasks
from lib.prompts.diagnosis import FACTORS
from lib.runtime import stream
from paper.figures import prompts as figures
from paper.studies.gate_degradation import GateDegradation
from paper.studies.gate_value import GateValue
from paper.studies.gating import Bench
from paper.studies.gradient_imbalance import GradientImbalance, gap_before_training
from paper.studies.learners import Learners
from paper.studies.world import World

TINY = dict(task="texture", learner="coop", gate="length", seeds=2, shots=1, steps=3, test_size=12, device="cpu")


def test_pages_share_their_trainings(tmp_path, monkeypatch):
    results = str(tmp_path / "store")
    result = GradientImbalance(**TINY, results=results).run()
    assert set(result.tables["gaps"]["seed"]) == {0, 1} and set(result.tables["gaps"]["step"]) == {0, 1, 2}
    monkeypatch.setattr(Bench, "backbone", property(lambda self: pytest.fail("a stored training ran again")))
    gates = GateDegradation(**TINY, results=results).run()
    again = GradientImbalance(**TINY, results=results).run()
    pd.testing.assert_frame_equal(result.tables["gaps"], again.tables["gaps"])
    assert list(gates.tables["gates"]["spread"]) == list(result.tables["gaps"]["spread"])


def test_factors_add_up_and_null_uses_random_weights(tmp_path):
    result = GradientImbalance(**TINY, results=str(tmp_path)).run()
    gaps = result.tables["gaps"]
    np.testing.assert_allclose(gaps[list(FACTORS)].sum(axis=1), gaps["gap"], atol=1e-4)
    start = gaps[gaps["step"] == 0]["gap"].to_numpy()
    assert not np.allclose(start, result.tables["null"]["gap"], atol=1e-3)
    assert len(result.findings) == 8
    assert len(result.tables["survey"].groupby(["learner", "gate"])) == 7 * 3 + 3


def test_gate_value_tells_an_adaptive_gate_from_an_idle_one():
    """Verdicts on made-up accuracies: one gate that carries the solution, one that does nothing, one unclear."""
    rows = []
    cells = {"adaptive": (95, 50, 45), "not adaptive": (80, 80, 80), "inconclusive": (80, 77, 76)}
    for task, (gated, mean, shuffled) in cells.items():
        for seed in range(6):
            wobble = (seed % 3 - 1) * (4 if task == "inconclusive" else 0.2)
            for variant, value in (("gated", gated + wobble), ("mean", mean), ("shuffled", shuffled)):
                rows.append(
                    dict(
                        learner="coop",
                        gate="length",
                        task=task,
                        recipe="published",
                        seed=seed,
                        variant=variant,
                        accuracy=value,
                    )
                )
            rows.append(
                dict(
                    learner="coop",
                    gate="none",
                    task=task,
                    recipe="published",
                    seed=seed,
                    variant="fixed",
                    accuracy=60.0,
                )
            )
    verdicts = GateValue.verdicts(pd.DataFrame(rows)).set_index("task")
    assert all(verdicts.loc[task, "verdict"] == task for task in cells)
    assert verdicts.loc["adaptive", "over_fixed"] == pytest.approx(35)


def test_gate_value_runs_control_and_published_recipe(tmp_path):
    study = GateValue(**TINY, results=str(tmp_path), control_steps=2, control_batch=2)
    accuracy = study.run().table
    assert set(accuracy[accuracy["task"] == "conflict"]["recipe"]) == {"published", "control"}
    assert set(accuracy[accuracy["task"] == "texture"]["variant"]) == {"fixed", "blind", "gated", "mean", "shuffled"}
    assert accuracy.groupby("recipe")["steps"].first().to_dict() == {"published": 3, "control": 2}


def test_every_learner_is_trained_and_counted(tmp_path):
    tiny = {name: value for name, value in TINY.items() if name not in ("gate", "learner")}
    study = Learners(**tiny, results=str(tmp_path))
    result = study.run()
    assert set(result.table["learner"]) == set(learners.LEARNERS) and len(result.table) == 2 * len(learners.LEARNERS)
    counts = result.tables["designs"].set_index("learner")["parameters"]
    assert counts["zero_shot"] == 0 and counts["coop"] == 4 * 128 == study.table("coop")["parameters"].sum()
    # The hand-written sentence does not depend on the few pictures.
    assert result.table[result.table["learner"] == "zero_shot"]["accuracy"].nunique() == 1
    assert len(result.findings) == 3
    assert len(figures.learner_points(result.table).axes) == 1


def test_a_gate_of_ones_own_goes_where_the_others_go_and_is_never_stored(tmp_path, monkeypatch):
    class Whole(gates.Gate):
        units = 1

        def spread(self, values):
            return values[..., None, None]

    with pytest.raises(ParameterError, match="^gate must be"):
        GateDegradation(**{**TINY, "gate": "whole"})
    monkeypatch.setitem(gates.GATES, "whole", Whole)
    study = GateDegradation(**{**TINY, "gate": "length,whole"}, results=str(tmp_path))
    table = study.run().table
    assert set(table["gate"]) == {"length", "whole"}
    assert len(list(tmp_path.glob("gating/*.csv.gz"))) == 1, "its source is not part of a key"
    gaps = GradientImbalance(**{**TINY, "gate": "whole"}, results=str(tmp_path)).run().table
    np.testing.assert_allclose(gaps[list(FACTORS)].sum(axis=1), gaps["gap"], atol=1e-4)


@pytest.fixture
def album(tmp_path) -> str:
    """Pictures of the world on disk as CoOp keeps them, with class names that MiniCLIP knows."""
    names = ("circle", "cup", "star", "ring", "heart")
    split = {"train": [], "val": [], "test": []}
    task = tasks.get("shape")
    for label, name in enumerate(names):
        for part, count in (("train", 3), ("test", 4)):
            place = torch.full((count,), task.names.index(name))
            images, _ = task.draw(place, stream(0, part, name))
            for number, image in enumerate(images):
                path = tmp_path / "album" / "images" / f"{part}_{name}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()).save(path)
                split[part].append([path.name, label, name])
    (tmp_path / "album" / "split_zhou_Album.json").write_text(json.dumps(split), encoding="utf-8")
    return str(tmp_path / "album")


@pytest.mark.parametrize("learner", ["coop", "maple"])
def test_real_pictures_go_where_the_world_goes(tmp_path, album, learner):
    tiny = {**TINY, "task": "folder", "learner": learner, "root": album, "results": str(tmp_path / "store")}
    everything = GateValue(**tiny, control_steps=2, control_batch=2).run().table
    assert set(everything[everything["task"] == "folder"]["variant"]) == {"fixed", "blind", "gated", "mean", "shuffled"}
    result = GateValue(**tiny, protocol="base_to_new", control_steps=2, control_batch=2).run()
    halved, verdicts = result.table, result.tables["verdicts"].set_index("task")
    real = halved[halved["task"] == "folder"]
    # Three base classes of four pictures, two new ones: accuracies are twelfths and eighths.
    for column, pictures in (("accuracy", 12), ("new", 8)):
        right = real[column] * pictures / 100
        np.testing.assert_allclose(right, right.round(), atol=1e-6)
    harmonic = 2 * real["accuracy"] * real["new"] / (real["accuracy"] + real["new"])
    np.testing.assert_allclose(real["harmonic"], harmonic)
    gated = real[real["variant"] == "gated"]
    assert verdicts.loc["folder", "harmonic"] == pytest.approx(gated["harmonic"].mean())
    assert real["new"].mean() > 60, "two shapes in MiniCLIP's own words are told apart without any training"
    gaps = GradientImbalance(**tiny).run()
    assert {"folder"} == set(gaps.table["task"]) == set(gaps.tables["null"]["task"])


def test_real_pictures_that_cannot_be_used_are_refused_before_anything_is_loaded(tmp_path, album):
    for change, words in (
        ({"root": str(tmp_path / "gone")}, "^root must be a folder"),
        ({"shots": 4}, "^shots must be at most 3 "),
        ({"protocol": "zero"}, "^protocol must be one of few_shot, base_to_new"),
    ):
        with pytest.raises(ParameterError, match=words):
            GateValue(**{**TINY, "task": "folder", "root": album, "results": str(tmp_path / "store"), **change})
    assert not (tmp_path / "store").exists()


def test_a_change_of_the_pictures_is_a_change_of_the_key(tmp_path, album):
    study = GateValue(**{**TINY, "task": "folder", "root": album, "results": str(tmp_path / "store")})
    before = study.find("folder")[0].identity()
    picture = next(Path(album, "images").glob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"more")
    assert data.get("folder", album)[0].identity() != before


def test_learners_and_gates_without_a_partner_are_refused():
    for change in ({"learner": "pool"}, {"gate": "soft"}, {"learner": "coop,pool"}, {"learner": "coop,zero_shot"}):
        with pytest.raises(ParameterError, match="must have a partner"):
            GateDegradation(**{**TINY, **change})
    both = GateDegradation(**{**TINY, "learner": "coop,pool", "gate": "length,soft"})
    assert [(cell.learner, cell.gate) for cell in both.cells()] == [("coop", "length"), ("pool", "soft")]


def test_longer_prompts_close_the_gap_and_opening_the_gate_widens_it():
    from lib.prompts.backbone import load

    backbone = load("miniclip", "random")
    gap = {
        key: gap_before_training(backbone, seeds=2, batch=6, **dict([key]))["gap"].mean()
        for key in (("prompt_std", 0.002), ("prompt_std", 0.02), ("prompt_std", 0.5), ("bias", 5.0))
    }
    assert gap["prompt_std", 0.002] > gap["prompt_std", 0.02] + 0.7
    assert gap["prompt_std", 0.02] > gap["prompt_std", 0.5] + 0.3
    assert gap["bias", 5.0] > gap["prompt_std", 0.02] + 1.5


def test_world_study_reports_chance_for_a_random_backbone(tmp_path):
    study = World(task="texture,counting", pictures=120, pretrained="random", results=str(tmp_path), device="cpu")
    table = study.run().table.set_index("task")
    for task in ("texture", "counting"):
        assert table.loc[task, "low"] < table.loc[task, "chance"] + 8
        assert table.loc[task, "low"] < table.loc[task, "accuracy"] < table.loc[task, "high"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "zoo"}, "^task must be .*'zoo'"),
        ({"learner": "clip"}, "^learner must be"),
        ({"gate": "wide"}, "^gate must be"),
        ({"seeds": 0}, "^seeds must be"),
        ({"seeds": -1}, "^seeds must be"),
        ({"shots": 0}, "^shots must be"),
        ({"shots": 65}, "^shots must be an integer from 1 to 64"),
        ({"steps": 0}, "^steps must be"),
        ({"batch": 0}, "^batch must be"),
        ({"device": "tpu"}, "^device must be"),
        ({"optimiser": "lion"}, "^optimiser must be"),
        ({"strength": 1.5}, "^strength must be"),
        ({"backbone": "ViT-Z"}, "^backbone must be"),
        ({"pretrained": "gone.pt"}, "^pretrained must be"),
        ({"control_steps": 0}, "^control_steps must be"),
        ({"rate": 0}, "^rate must be"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(tmp_path, change, words):
    results = tmp_path / "store"
    with pytest.raises(ParameterError, match=words) as error:
        GateValue(**{**TINY, "results": str(results), **change})
    assert "\n" not in str(error.value) and not results.exists()
