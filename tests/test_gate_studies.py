"""The studies of Part I on tiny settings: what they measure, store, and refuse."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib.checks import ParameterError
from lib.prompts import data, gates, learners, recipes, tasks
from lib.prompts.diagnosis import FACTORS
from lib.results import Cell
from lib.runtime import stream
from lib.verdicts import Findings, Outcome
from paper.figures import prompts as figures
from paper.studies import gate_degradation, gating, gradient_imbalance
from paper.studies import learners as learners_study
from paper.studies.base import named
from paper.studies.gap_origin import GapOrigin
from paper.studies.gate_degradation import GateDegradation
from paper.studies.gate_value import GateValue
from paper.studies.gating import identity
from paper.studies.gradient_imbalance import GradientImbalance, gap_before_training
from paper.studies.learners import Learners
from paper.studies.world import World
from paper.tools import profiles, sources
from paper.words import gates as told

TINY = dict(task="texture", learner="coop", gate="length", seeds=2, shots=1, steps=3, test_size=12, device="cpu")
BRIEF = {**TINY, "long_steps": 2}


def test_pages_share_their_trainings(tmp_path, monkeypatch):
    results = str(tmp_path / "store")
    result = GradientImbalance(**TINY, results=results).run()
    assert set(result.tables["gaps"]["seed"]) == {0, 1} and set(result.tables["gaps"]["step"]) == {0, 1, 2}
    study = GateDegradation(**BRIEF, results=results)
    study.store().fetch([cell for _, cell in study.long()], "cpu")
    for module in (gating, gradient_imbalance):
        monkeypatch.setattr(module, "loaded", lambda *_: pytest.fail("a stored training ran again"))
    gates = study.run()
    again = GradientImbalance(**TINY, results=results).run()
    pd.testing.assert_frame_equal(result.tables["gaps"], again.tables["gaps"])
    assert list(gates.tables["gates"]["spread"]) == list(result.tables["gaps"]["spread"])


def test_factors_add_up_and_null_uses_random_weights(tmp_path):
    result = GradientImbalance(**TINY, surveyed=gradient_imbalance.SURVEYED_LEARNERS, results=str(tmp_path)).run()
    gaps = result.tables["gaps"]
    np.testing.assert_allclose(gaps[list(FACTORS)].sum(axis=1), gaps["gap"], atol=1e-4)
    start = gaps[gaps["step"] == 0]["gap"].to_numpy()
    assert not np.allclose(start, result.tables["null"]["gap"], atol=1e-3)
    survey = result.tables["survey"]
    assert len(survey.groupby(["learner", "gate"])) == 7 * 4 + 4
    # What starts at zero scales its prompts by nothing; a choice without a slope teaches its keys nothing.
    assert np.isneginf(survey[survey["gate"] == "tanh"]["gap"]).all()
    assert np.isposinf(survey[survey["gate"] == "l2p"]["gap"]).all()
    rest = survey[~survey["gate"].isin(["tanh", "l2p"])]
    assert np.isfinite(rest["gap"]).all()
    total = result.findings.get("gradient_imbalance.survey.total")
    assert total.value == pytest.approx(
        rest.groupby(["seed", "learner", "gate"])["gap"].mean().groupby("seed").min().mean()
    )
    every = result.findings.get("gradient_imbalance.survey.every")
    assert every.value < 1 and every.outcome is Outcome.DOES_NOT_HOLD


def test_contexts_from_words_take_off_the_gap_what_their_length_says(tmp_path):
    study = GradientImbalance(
        **{**TINY, "task": "texture,coarse", "seeds": 4}, surveyed="coop,pool", results=str(tmp_path)
    )
    cells = [cell for start in ("words", "noise") for cell in study._started(start)]
    assert {cell.config["learner"] for cell in cells} == {"coop"}
    tables = [tables["gap"] for tables in study.store().fetch(cells, "cpu").values()]
    found = gradient_imbalance.from_words(pd.concat(tables))
    mini = study.load()
    ids, end = mini.tokens(["a photo of a"])
    words = mini.embed(ids)[0, 1 : int(end[0])].square().sum(1).mean().sqrt()
    # Noise of standard deviation 0.02 in 128 numbers.
    assert found["predicted"].mean() == pytest.approx(math.log10(float(words) / (0.02 * math.sqrt(128))), abs=0.03)
    assert found["taken"].mean() == pytest.approx(found["predicted"].mean(), abs=0.35)


@pytest.mark.parametrize("learner", ["maple", "bimaple"])
def test_the_reported_number_is_compared_with_that_of_its_learner(learner):
    gaps = pd.DataFrame([dict(learner=learner, step=0, seed=seed, gap=2.6 + 0.01 * seed) for seed in range(8)])
    claims = gradient_imbalance._reported(gaps) + gradient_imbalance._reported(gaps.assign(gap=gaps["gap"] - 1))[:1]
    assert [claim.judged().outcome for claim in claims] == (
        [] if learner == "maple" else [Outcome.HOLDS, Outcome.HOLDS, Outcome.DOES_NOT_HOLD]
    )


def test_gate_value_runs_control_and_short_recipe(tmp_path):
    study = GateValue(**TINY, results=str(tmp_path), control_steps=2, control_batch=2)
    accuracy = study.run().table
    assert set(accuracy[accuracy["task"] == "conflict"]["recipe"]) == {"short", "control"}
    assert set(accuracy[accuracy["task"] == "texture"]["variant"]) == {"fixed", "blind", "gated", "mean", "shuffled"}
    assert accuracy.groupby("recipe")["steps"].first().to_dict() == {"short": 3, "control": 2}


def tiny_learners(tmp_path, **given) -> Learners:
    tiny = {name: value for name, value in TINY.items() if name not in ("gate", "learner")}
    return Learners(**{**tiny, "results": str(tmp_path), **given})


def test_every_learner_is_trained_and_counted(tmp_path):
    result = tiny_learners(tmp_path, learner=tuple(learners.LEARNERS), recipes="short").run()
    assert set(result.table["learner"]) == set(learners.LEARNERS) and len(result.table) == 2 * len(learners.LEARNERS)
    counts, tensors = result.tables["designs"].set_index("learner")["parameters"], result.tables["tensors"]
    own = tensors[tensors["learner"] == "coop"]["parameters"]
    assert counts["zero_shot"] == 0 and counts["coop"] == 4 * 128 == own.sum()
    assert {one.id for one in result.findings} == {f"learners.{name}.short" for name in ("every", "size", "vision")}
    assert len(figures.learner_points(result.table).axes) == 1


def test_learners_are_trained_as_published_and_tuned_on_validation_pictures(tmp_path):
    given = {"shots": 1, "rates": (0.01,), "lengths": (2, 3), "recipes": "all", "tuned_learner": "vpt"}
    tables = tiny_learners(tmp_path, learner="zero_shot,vpt,ivlp", **given).run().tables
    steps = tables["accuracy"].groupby(["recipe", "learner"])["steps"].first().to_dict()
    published = {("vpt", "vpt"): 5, ("ivlp", "ivlp"): 5}  # six pictures in whole batches of four, five times
    assert steps.items() >= ({("short", "vpt"): 3, ("short", "ivlp"): 3} | published).items()
    assert steps["tuned", "vpt"] in (2, 3) and set(tables["chosen"]["learner"]) == {"vpt"}
    assert set(tables["accuracy"]["by"]) == {"zero_shot", "short", "published", "tuned"}
    # A crop of a texture takes something from what the backbone knows of it, but not all.
    assert (tables["views"]["pictures"] >= tables["views"]["views"]).all() and (tables["views"]["views"] > 0).all()
    assert "of their views on *texture*" in told.cropped(tables) and "VPT" in told.reached(tables)
    assert told.settled(tables).startswith("Most often chosen: Adam 0.01, ")


def learned(**ahead: float) -> pd.DataFrame:
    """What the page's claims are made of: points over the hand-written sentence, by learner, alike for eight seeds."""
    rows = [
        {"by": by, "recipe": by, "learner": name, "task": task, "seed": seed, "ahead": value + 0.1 * seed}
        for by, task in (("short", "fine"), ("tuned", "fine"), ("tuned", "shift"))
        for name, value in ahead.items()
        for seed in range(8)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("worst", "outcome"), [(3.0, Outcome.HOLDS), (-3.0, Outcome.DOES_NOT_HOLD)])
def test_every_learner_must_beat_the_sentence_by_each_recipe_for_itself(worst, outcome):
    table = learned(coop=5.0, vpt=8.0, maple=9.0)
    table.loc[(table["by"] == "tuned") & (table["task"] == "shift") & (table["learner"] == "coop"), "ahead"] += (
        worst - 5
    )
    designs = pd.DataFrame({"learner": ["coop", "vpt", "maple"], "parameters": [1, 2, 3]})
    found = Findings.of(learners_study._claims(table, designs), holm=True)
    assert found.get("learners.every.short").outcome is Outcome.HOLDS
    assert found.get("learners.every.tuned").outcome is outcome and found.get("learners.every.published") is None


def test_what_ends_below_the_hand_written_sentence_is_hollow_counted_and_named():
    ends = {("zero_shot", "zero_shot"): 50.0, ("coop", "short"): 40.0, ("coop", "tuned"): 60.0, ("vpt", "short"): 55.0}
    rows = [
        {"learner": name, "by": by, "recipe": by, "task": "fine", "seed": seed, "accuracy": value + seed}
        for (name, by), value in ends.items()
        for seed in range(3)
    ]
    accuracy = pd.DataFrame(rows)
    drawn = figures.learner_points(accuracy)
    points = [line for line in drawn.axes[0].lines if line.get_marker() in ("o", "s", "^")]
    assert [line.get_xdata()[0] for line in points if line.get_markerfacecolor() == "white"] == [41.0]
    assert "(1 of 3)" in " ".join(drawn.get_label().split())
    said = told.reached({"accuracy": accuracy, "ahead": learners_study._ahead(accuracy)})
    assert "*short recipe*, 1 of 2 end below that sentence (CoOp on fine)." in said
    assert "*tuned*, 0 of 1 end below that sentence." in said


@pytest.mark.parametrize(("change", "sentence"), [({"learner": "maple"}, "of coop.*maple"), ({"published": "x"}, "x")])
def test_a_published_recipe_is_refused_for_another_learner(change, sentence):
    with pytest.raises(ParameterError, match=f"^published must .*{sentence}"):
        GateDegradation(**{**TINY, "published": "coop", **change})


def test_a_published_recipe_takes_the_place_of_the_studys_own():
    study = GateValue(**{**TINY, "task": "texture,conflict", "published": "coop", "shots": 16})
    for task, classes in (("texture", 6), ("conflict", 6)):
        trained = study.cell("coop", "length", task).config["recipe"]
        assert trained["steps"] == 200 * (16 * classes // 32) and trained["augment"] == recipes.VIEWS
    assert study.cell("coop", "length", "texture", shots=2).config["recipe"]["steps"] == 100
    assert study.cell("zero_shot", "none", "texture").config["recipe"]["steps"] == study.steps


def test_a_training_is_decided_by_its_configuration(tmp_path):
    """Read back from JSON, and with fewer seeds in another batch, it gives the same rows."""
    study = GateValue(**TINY, few_shots=(1, 2), control_steps=2)
    cell = study.cell("coop", "length", "conflict", recipe=study.recipe(looks=(0, 3), watch=True))
    site = {**cell.site, "device": "cpu"}
    whole, again = (gating.train([config], site)[0] for config in (cell.config, json.loads(cell.text)))
    assert set(whole) == {"trajectory", "accuracy", "looks", "watched"}
    alone = gating.train([cell.config | {"seeds": [1]}, cell.config | {"seeds": [0], "strength": 0.5}], site)[0]
    for name, table in whole.items():
        pd.testing.assert_frame_equal(again[name], table)
        mine = table[table["seed"] == 1].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone[name], mine, rtol=1e-3, atol=1e-4)


def test_cells_of_one_learner_gate_and_recipe_share_a_batch_whatever_their_task_and_setting():
    study = GateValue(**{**TINY, "task": "texture,conflict"})
    batch = study.cell("coop", "length", "texture").batch
    same = [
        study.cell("coop", "length", "conflict", strength=0.5),
        study.cell("coop", "length", "texture", setting=study.setting(bias=2.0)),
        study.cell("coop", "length", "texture", shots=2),
    ]
    others = [
        study.cell("coop", "depth", "texture"),
        study.cell("vpt", "length", "texture"),
        study.cell("coop", "length", "texture", recipe=study.recipe(optimiser="adam")),
        study.changed(tokens=2).cell("coop", "length", "texture"),
    ]
    assert all(cell.batch == batch for cell in same) and all(cell.batch != batch for cell in others)
    assert len({study.cell("coop", "length", "texture"), *same, *others}) == 8
    # The strength of a conflict is nothing to other tasks, and a gate's rate nothing to learners without one.
    changed = study.changed(strength=0.5, gate_rate=10.0)
    assert changed.cell("coop", "none", "texture") == study.cell("coop", "none", "texture")
    assert changed.cell("coop", "none", "conflict") != study.cell("coop", "none", "conflict")


def test_a_gate_of_ones_own_goes_where_the_others_go_and_is_known_by_its_source(tmp_path, monkeypatch):
    class Whole(gates.Gate):
        units = 1

        def spread(self, values):
            return values[..., None, None]

    with pytest.raises(ParameterError, match="^gate must be"):
        GateDegradation(**{**TINY, "gate": "whole"})
    monkeypatch.setitem(gates.GATES, "whole", Whole)
    study = GateDegradation(**{**BRIEF, "gate": "length,whole"}, results=str(tmp_path))
    table = study.run().table
    assert set(table["gate"]) == {"length", "whole"}
    gaps = GradientImbalance(**{**TINY, "gate": "whole"}, results=str(tmp_path)).run().table
    np.testing.assert_allclose(gaps[list(FACTORS)].sum(axis=1), gaps["gap"], atol=1e-4)
    _, before = study.gated()

    class Doubled(gates.Gate):
        units = 1

        def spread(self, values):
            return 2 * values[..., None, None]

    monkeypatch.setitem(gates.GATES, "whole", Doubled)
    builtin, after = study.gated()
    assert after == before and after.code != before.code
    assert builtin.code == GateDegradation(**TINY).cells()[0].code


def test_a_gate_with_a_loss_of_its_own_needs_one_class_and_one_entry(tmp_path, monkeypatch):
    class Shy(gates.Length):
        """A length gate that is rewarded for shutting."""

        def loss(self, z, batch):
            return 20 * self.activate(z).mean()

    monkeypatch.setitem(gates.GATES, "shy", Shy)
    tiny = {**BRIEF, "gate": "length,shy", "optimiser": "adam", "rate": 0.01, "steps": 30}
    ends = GateDegradation(**tiny, results=str(tmp_path)).run().tables["ends"].groupby("gate").mean(numeric_only=True)
    assert ends.loc["shy", "mean_first"] == ends.loc["length", "mean_first"]
    assert ends.loc["shy", "mean_last"] < ends.loc["length", "mean_last"] - 0.05


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
    before = identity(study.find("folder")[0])
    assert identity(data.get("folder", album)[0]) == before
    assert study.cell("coop", "none", "folder").config["data"]["identities"] == [before]
    # Neither names nor sizes change: two pictures trade places, then one its label.
    one, other = (Path(album, "images", f"train_{name}_0.png") for name in ("circle", "cup"))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1]), other.write_bytes(contents[0])
    traded = identity(data.get("folder", album)[0])
    one.write_bytes(contents[0]), other.write_bytes(contents[1])
    assert identity(data.get("folder", album)[0]) == before != traded
    file = Path(album, "split_zhou_Album.json")
    split = json.loads(file.read_text(encoding="utf-8"))
    split["train"][0][1:], split["train"][3][1:] = split["train"][3][1:], split["train"][0][1:]
    file.write_text(json.dumps(split), encoding="utf-8")
    assert identity(data.get("folder", album)[0]) not in (before, traded)


@pytest.mark.parametrize("kind", [GapOrigin, GradientImbalance, GateDegradation, GateValue, Learners])
def test_no_page_is_served_what_other_pictures_gave_in_the_same_session(kind, tmp_path, album):
    given = {name: value for name, value in TINY.items() if name in kind.model_fields}
    given |= {"task": "folder", "root": album, "results": str(tmp_path / "store")}

    def cells() -> dict[str, Cell]:
        return {cell.key: cell for cell in kind(**given).cells() if "folder" in cell.text}

    before = cells()
    assert before and cells().keys() == before.keys()
    # Recoloured under the same name and in the same size.
    path = Path(album, "images", "train_circle_0.png")
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    after = cells()
    assert len(after) == len(before) and not after.keys() & before.keys()
    # What the first study asked for is not computed from pictures that it did not know.
    old = next(cell for cell in before.values() if "data" in cell.config)
    with pytest.raises(ParameterError, match="^root must hold the pictures that the study was made with"):
        gating.task_of({"strength": 1.0, **old.config}, {**old.site, "device": "cpu"})


def test_learners_and_gates_without_a_partner_are_refused():
    for change in ({"learner": "pool"}, {"gate": "soft"}, {"learner": "coop,pool"}, {"learner": "coop,zero_shot"}):
        with pytest.raises(ParameterError, match="must have a partner"):
            GateDegradation(**{**TINY, **change})
    both = GateDegradation(**{**TINY, "learner": "coop,pool", "gate": "length,soft"})
    assert [(cell.config["learner"], cell.config["gate"]) for cell in both.gated()] == [
        ("coop", "length"),
        ("pool", "soft"),
    ]


def test_a_shorter_training_at_a_constant_rate_is_the_beginning_of_a_longer_one(tmp_path):
    """So a rerun of fewer steps may be compared with the evidence, in each of the long trainings."""
    brief, longer = (GateDegradation(**{**BRIEF, "long_steps": steps, "results": str(tmp_path)}) for steps in (3, 6))
    short, long = (study.run().tables["long"].set_index(["training", "seed", "step"]) for study in (brief, longer))
    assert len(short.index.unique("training")) == 5 and brief._covered(longer)
    columns = ["loss", "spread", "mean"]
    np.testing.assert_allclose(short[columns], long.loc[short.index, columns], rtol=1e-4)
    end = long.xs(5, level="step")["mean"].unstack("training")
    assert end.round(9).nunique(axis=1).eq(5).all(), "five different trainings"


def test_a_late_fall_is_measured_from_the_best_look_of_all_seeds():
    """Seeds that scatter about nothing have not fallen from their own best."""
    generator = np.random.default_rng(0)
    rows = []
    for seed in range(8):
        courses = {"fallen": (20, 30, 5), "risen": (0, 10, 20), "idle": 3 * generator.normal(size=3)}
        rows += [
            dict(training=name, task="conflict", seed=seed, step=step, over_mean=worth)
            for name, course in courses.items()
            for step, worth in zip((100, 400, 1000), course, strict=True)
        ]
    found = gate_degradation.falls(pd.DataFrame(rows)).set_index("training")
    assert (found.loc["fallen", "fall"] == 25).all() and (found.loc["fallen", "best"] == 400).all()
    assert (found.loc["risen", "fall"] == 0).all()
    assert (found.loc["idle", "fall"] > 2).mean() < 0.7
    names = ["information_first", "information_last", "saturation_last"]
    ends = found.reset_index().assign(**dict.fromkeys(names, 0.5))
    findings = Findings.of(gate_degradation._long(ends, 1000), holm=True)
    late = {name: findings.get(f"gate_degradation.long.conflict.{name}.late").outcome for name in set(found.index)}
    assert late == {"fallen": Outcome.HOLDS, "risen": Outcome.DOES_NOT_HOLD, "idle": Outcome.INCONCLUSIVE}


def test_selectors_are_compared_with_themselves_held_still_and_with_entries_at_random():
    rows = []
    for seed in range(8):
        for kind, gated, mean, shuffled in (("l2p", 60, 50, 59), ("random", 55, 54, 55), ("top_k", 40, 40, 40)):
            values = {"gated": gated, "mean": mean, "shuffled": shuffled}
            rows += [dict(gate=kind, task="coarse", seed=seed, variant=v, accuracy=a) for v, a in values.items()]
    worth = gate_degradation._selectors(pd.DataFrame(rows))
    ends = worth[["gate", "task", "seed"]].assign(information_last=0.4, used_first=6.0, used_last=2.0)
    findings = Findings.of(gate_degradation._selecting(ends, worth), holm=True)
    outcomes = {one.id.removeprefix("gate_degradation.pool."): one.outcome for one in findings}
    assert worth.groupby("gate")["over_random"].mean().to_dict() == {"l2p": 5, "random": 0, "top_k": -15}
    assert outcomes["mean.l2p"] is outcomes["random"] is outcomes["picture.random"] is Outcome.HOLDS
    assert outcomes["shuffled.l2p"] is outcomes["mean.random"] is outcomes["mean.top_k"] is Outcome.DOES_NOT_HOLD
    assert outcomes["last.l2p"] is Outcome.HOLDS and outcomes["first.l2p"] is Outcome.DOES_NOT_HOLD
    # Without the lottery nothing is said of it, nor of an advantage over it.
    alone = gate_degradation._selectors(pd.DataFrame(rows).query("gate == 'l2p'"))
    assert not any("random" in one.id for one in gate_degradation._selecting(ends[ends["gate"] == "l2p"], alone))


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
    given = dict(task="texture,counting", pictures=60, seeds=2, pretrained="random", device="cpu")
    result = World(**given, results=str(tmp_path)).run()
    table = result.table.set_index("task")
    for task in ("texture", "counting"):
        assert table.loc[task, "low"] < table.loc[task, "chance"] + 8
        assert table.loc[task, "low"] < table.loc[task, "accuracy"] < table.loc[task, "high"]
    draws = result.tables["draws"]
    assert draws["pictures"].sum() == 2 * 2 * 60 and draws.groupby("task")["seed"].nunique().eq(2).all()
    assert [finding.id for finding in result.findings] == ["world.texture", "world.counting"]
    first = World(**given | {"seeds": 1}, results=str(tmp_path)).run().tables["draws"]
    pd.testing.assert_frame_equal(first, draws[draws["seed"] == 0].reset_index(drop=True))


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
        ({"control_gates": "none"}, "^control_gates must include length"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(tmp_path, change, words):
    results = tmp_path / "store"
    with pytest.raises(ParameterError, match=words) as error:
        GateValue(**{**TINY, "results": str(results), **change})
    assert "\n" not in str(error.value) and not results.exists()


@pytest.mark.parametrize("name", ["world", "learners", "gradient_imbalance", "gate_degradation", "gate_value"])
def test_the_evidence_covers_the_rerun_of_a_page(name):
    """With the notebook's own parameters, which are the study's defaults, a page has evidence to show."""
    given = {
        key: ast.literal_eval(text) for key, text in profiles.parameters(sources.NOTEBOOKS / f"{name}.ipynb").items()
    }
    study = named(name)(**given | {"device": "cpu"})
    whole = study.covering()
    assert whole is not None and whole.seeds > study.seeds == 2
    assert type(study)(device="cpu") == study
    assert len(study.cells()) <= len(whole.cells())
