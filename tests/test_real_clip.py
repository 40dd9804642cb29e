"""A real CLIP from end to end: random weights of ViT-B/16, a data set of a few pictures, from the disk to the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from lib import runtime
from lib.checks import ParameterError
from lib.prompts import backbone as backbones
from lib.prompts import learners, recipes, tasks, training
from paper.evidence import Evidence
from paper.figures import real as figures
from paper.studies import base, cost
from paper.studies.real_clip import NEW, RealClip
from paper.tools import evidence as tool
from paper.tools import profiles
from paper.words import real as words

CLASSES = ("Forest", "Highway", "River", "SeaLake")
TINY = {
    **{"task": "eurosat", "learner": "coop", "gate": "length", "seeds": 2, "protocols": "few_shot", "few_shots": [1]},
    **{"shots": 1, "recipes": "own", "steps": 1, "batch": 2, "pretrained": "random"},
}


def data_set(root: Path, title: str = "EuroSAT", folder: str = "eurosat/2750", each: int = 2, classes=CLASSES) -> None:
    """A CoOp-style folder: of every class as many small pictures, of which the last is tested on."""
    split: dict[str, list] = {"train": [], "val": [], "test": []}
    draw = np.random.default_rng(0)
    for label, name in enumerate(classes):
        colour = draw.integers(0, 130, 3)
        for number in range(each):
            path = root / folder / f"{name}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((colour + draw.integers(0, 120, (64, 64, 3))).astype("uint8")).save(path)
            split["test" if number == each - 1 else "train"].append([path.name, label, name])
    (root / folder).parent.joinpath(f"split_zhou_{title}.json").write_text(json.dumps(split))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data sets")
    data_set(folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder of evidence and a profile of one tiny page."""
    page = profiles.Page("real_clip", "real_clip", parameters=TINY)
    monkeypatch.setattr(base, "EVIDENCE", tmp_path / "evidence")
    monkeypatch.setattr(profiles, "real", lambda: {"real_clip": page})
    return tmp_path


def command(root: Path, *words: str) -> list[str]:
    return ["run", "--profile", "real", "--device", "cpu", "-p", "root", str(root), *words]


# ------------------------------------------------------------------------------------------------- the empty page
def test_an_empty_page_says_so_and_how_to_fill_it(here):
    page = RealClip().page()
    assert page.evidence is None and not len(page.tables["points"])
    said = words.stands(page)
    assert "Nobody has run this yet" in said and "make evidence PROFILE=real ROOT=FOLDER" in said
    assert {one.outcome for one in page.findings} == {"inconclusive"} and len(page.findings) == 10
    assert {one.note for one in page.findings} == {"nothing was measured"}
    drawn = figures.forest(page.tables["points"], page.subject.task)
    assert [axis.get_title() for axis in drawn.axes] == ["EuroSAT", "DTD", "Flowers102", "UCF101"]
    assert all("not measured yet" in [text.get_text() for text in axis.texts] for axis in drawn.axes)
    assert "open on: EuroSAT, DTD, Flowers102, UCF101, new classes" in words.follows(page.findings)


def test_the_profile_is_the_page_and_the_whole_design():
    (page,) = profiles.profile(profiles.sources.ROOT / "profiles" / "real.yaml").values()
    study = RealClip(**page.parameters)
    assert study == RealClip() and study.seeds == 10
    assert study.conditions() == [("few_shot", 1), ("few_shot", 4), ("few_shot", 16), ("base_to_new", 16)]
    gates = ("length", "shuffled", "none", "depth", "blind_depth")
    scaled = {(learner, gate) for learner in ("coop", "cocoop", "maple", "bimaple") for gate in gates}
    assert set(study.kinds()) == scaled | {("pool", gate) for gate in ("soft", "blind_soft", "none")}


# ------------------------------------------------------------------------------------------------- from end to end
@pytest.fixture
def shallow(monkeypatch) -> None:
    """ViT-B/16 with two of its twelve blocks a tower: what every block does alike takes a sixth of the time."""
    sizes = open_clip.get_model_config(RealClip().backbone)
    for tower in ("vision_cfg", "text_cfg"):
        sizes[tower] |= {"layers": 2}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, RealClip().backbone, sizes)


@pytest.mark.slow
def test_two_machines_fill_the_page(root, here, shallow, monkeypatch, capsys):
    assert tool.main(command(root)) == 0
    assert "4 of 4 cells to compute" in capsys.readouterr().out
    one = RealClip(**TINY).page()  # knows no pictures
    assert one.states == {"current": 4, "stale": 0, "missing": 0}
    (row,) = one.tables["gains"].to_dict("records")
    assert (row["learner"], row["gate"], row["task"], row["recipe"], row["seeds"]) == (
        *("coop", "length", "eurosat", "1 shot"),
        2,
    )
    # Four test pictures: accuracies are quarters, and so are their differences.
    for name in ("gated", "blind", "fixed", "zero_shot", "over_blind", "over_fixed", "over_mean", "over_shuffled"):
        assert (row[name] / 12.5).is_integer(), name
    assert row["over_blind"] == row["gated"] - row["blind"] and row["over_fixed"] == row["gated"] - row["fixed"]

    # Another machine learns on half of the classes; its folder is of another name.
    monkeypatch.setattr(base, "EVIDENCE", here / "elsewhere")
    moved = here / "moved"
    root.rename(moved)
    try:
        assert tool.main(command(moved, "-p", "protocols", "base_to_new")) == 0
    finally:
        moved.rename(root)
    monkeypatch.setattr(base, "EVIDENCE", here / "evidence")
    assert tool.main(["merge", str(here / "elsewhere")]) == 0
    assert "4 cells taken over" in capsys.readouterr().out

    both = RealClip(**{**TINY, "protocols": "all"})
    page = both.page()
    assert page.states == {"current": 8, "stale": 0, "missing": 0}
    assert "8 trainings" in words.stands(page)
    gains = page.tables["gains"].set_index("recipe")
    assert list(gains.index) == ["1 shot", NEW]
    assert gains[["new", "harmonic", "harmonic_over_blind"]].isna().all(axis=1).tolist() == [True, False]
    drawn = figures.forest(page.tables["points"], page.subject.task)
    axis = drawn.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["CoOp, length"]
    marks = {line.get_gid(): line.get_xdata()[0] for line in axis.lines if line.get_gid() in gains.index}
    assert marks == pytest.approx(gains["over_blind"].to_dict())
    # Neither the folder nor the device decides what a training is; evidence of whoever has pictures is never dropped.
    text = (here / "evidence" / "real_clip.json").read_text()
    assert str(root) not in text and str(moved) not in text
    monkeypatch.setattr(profiles, "evidence", dict)
    assert tool.main(["prune"]) == 0 and both.page().states["current"] == 8
    assert {cell.key for cell in both.changed(root=str(root)).cells()} == set(
        Evidence(base.EVIDENCE).files["real_clip"].record["cells"]
    )


def test_copies_of_the_data_are_never_paired(here):
    study = RealClip(**TINY, results=str(here))

    def cell(gate: str, copy: str, value: float):
        config = {
            **{"learner": "coop", "gate": gate, "task": "eurosat", "shots": 1, "seeds": [0], "test_size": 9},
            **{"weights": "random", "data": {"protocol": "few_shot", "identities": [copy]}},
        }
        variants = ["fixed"] if gate == "none" else ["gated", "mean", "shuffled"]
        table = {"seed": 0, "variant": variants, "accuracy": value}
        return base.Cell("real_clip", config, print), {"accuracy": base.pd.DataFrame(table)}

    found = dict([cell("length", "a", 60.0), cell("none", "a", 50.0), cell("none", "b", 10.0)])
    gains = study.judge(found)[0]["gains"]
    assert gains["over_fixed"].tolist() == [10.0]


# --------------------------------------------------------------------------------------------- what it will take
def test_a_dry_run_says_memory_and_time_and_computes_nothing(root, here, capsys):
    assert tool.main(command(root, "--dry-run")) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert "4 of 4 cells to compute" in first and len(lines) == 4
    for line, what in zip(lines, ("zero_shot none", "coop length", "coop shuffled", "coop none"), strict=True):
        assert f"{what} eurosat few_shot" in line and "GiB, about" in line
    assert not (here / "evidence").exists()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "for an unknown time"),
        (89, "about 89 s"),
        (90, "about 2 min"),
        (5400, "about 2 h"),
        (864000, "about 10 days"),
    ],
)
def test_times_are_said_as_a_reader_says_them(seconds, said):
    assert tool.time_left(seconds) == said


def test_what_does_not_fit_is_refused_with_what_to_lower(root, here, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "memory", lambda device: 2.0**29)
    assert tool.main(command(root)) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(
        "test_size and seeds must be small enough for the 0 GiB of memory of cpu, but zero_shot none"
    )
    study = RealClip(**TINY, root=str(root), device="cpu", results=str(here))
    with pytest.raises(ParameterError, match="must be small enough for"):
        study.run()
    costs = study.costs()
    monkeypatch.setattr(runtime, "memory", lambda device: 1.5 * costs.memory(study.cells()[0]))
    with pytest.raises(ParameterError, match="^JOBS must be small enough"):
        costs.refuse(study.cells(), jobs=2)
    assert not (here / "evidence").exists()


def test_memory_and_time_grow_with_classes_pictures_and_steps(root, here, monkeypatch):
    monkeypatch.setattr(cost, "_timed", lambda work, device: (2, 1.0))

    def costs(**changes):
        study = RealClip(**{**TINY, **changes}, root=str(root), device="cpu")
        (cell,) = [cell for cell in study.cells() if cell.config["gate"] == "length"]
        known = study.costs()
        return known.parts(cell)[1], known.seconds(cell)

    (memory, time), (wider, longer) = costs(batch=64), costs(batch=128)
    assert wider == 2 * memory and time < longer < 2 * time
    same, hundred = costs(batch=64, steps=100)
    one_more = costs(batch=64, steps=101)[1] - hundred
    assert same == memory and hundred == pytest.approx(time + 99 * one_more)


def test_the_estimate_lays_out_class_names_as_the_learner_does():
    study = RealClip(**{**TINY, "task": "eurosat", "backbone": "ViT-B-16-quickgelu"})
    backbone = backbones.load("ViT-B-16-quickgelu", "random")
    for names in (CLASSES, [f"a class of long words, number {number}" for number in range(30)]):
        for name, gate in (("coop", "none"), ("cocoop", "none"), ("maple", "length")):
            own = gate != "none"
            model = learners.Learner(name, backbone, names, gate=gate, tokens=4)
            assert study.step_bytes(name, own, names, 7) == model.kept(7, own) > 0


@pytest.mark.parametrize("learner", ["coop", "maple"])
def test_few_at_once_give_the_same_numbers(learner, monkeypatch):
    backbone, task = backbones.load(), tasks.get("shift")
    model = learners.Learner(learner, backbone, task.names, gate="length")
    runs = [training.Replica(task, seed, shots=2) for seed in range(3)]
    recipe = training.Recipe(steps=3, rate=0.05, warmup=0)

    def trained() -> tuple[torch.Tensor, list[float]]:
        done = training.train(model, training.prepare(model, runs, 24), recipe)
        return done.losses, done.scores["test_loss"].tolist()

    losses, scores = trained()
    assert training.together(model, 4) > 3
    monkeypatch.setattr(runtime, "memory", lambda device: 2 * model.kept(4, True))
    monkeypatch.setattr(training, "TESTED", 1)
    monkeypatch.setattr(training, "ENCODED", 5)
    assert training.together(model, 4) == 1
    fewer = trained()
    torch.testing.assert_close(fewer[0], losses, rtol=1e-4, atol=1e-5)
    assert fewer[1] == pytest.approx(scores, rel=1e-4)


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"root": "none"}, "^root must be the folder of the data sets eurosat, but 'none' was given.$"),
        ({"task": "ucf101"}, "split_zhou_UCF101.json"),
        ({"few_shots": [1, 2]}, "^shots must be at most 1 "),
        ({"task": "shift"}, "^task must be data sets of real pictures"),
        ({"learner": "vpt"}, "^learner must be among coop"),
    ],
)
def test_what_is_missing_is_one_sentence_before_anything_is_loaded(root, monkeypatch, given, wanted):
    monkeypatch.setattr(backbones, "load", None)
    with pytest.raises(ParameterError, match=wanted) as refused:
        RealClip(**{**TINY, "root": str(root), **given}).cells()
    assert "\n" not in str(refused.value)


def test_a_data_set_that_is_not_there_is_a_sentence_of_the_tool(here, capsys):
    assert tool.main(command(here)) == 2
    assert "eurosat" in (said := capsys.readouterr().err.strip()) and "\n" not in said
    assert tool.main(["run", "--profile", "quick"]) == 2
    assert capsys.readouterr().err.strip() == "PROFILE must be one of evidence, real, but 'quick' was given."


def test_learners_are_trained_by_their_own_recipes(tmp_path):
    data_set(tmp_path, each=17)
    study = RealClip(task="eurosat", root=str(tmp_path), pretrained="random", device="cpu")
    found = {}
    for cell in study.cells():
        recipe = cell.config["recipe"]
        key = (cell.config["learner"], cell.config["data"]["protocol"], cell.config["shots"])
        assert found.setdefault(key, (recipe["steps"], recipe["batch"], recipe["rate"])) == found[key], "one for all"
    assert found["coop", "few_shot", 16] == (recipes.steps("coop", 4, 16), 32, 0.002)
    assert found["maple", "few_shot", 1] == found["bimaple", "few_shot", 1] == (50, 4, 0.0035)
    assert found["maple", "base_to_new", 16] == (recipes.steps("maple_5", 2, 16), 4, 0.0035)
    # A blind gate needs another picture to look at.
    assert found["cocoop", "few_shot", 4] == (recipes.steps("cocoop", 4, 4), 2, 0.002)
