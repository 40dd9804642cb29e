"""Part I on photographs: task names as roles, evidence beside a page, and each study's compute function on a sample."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from lib import code
from lib.checks import ParameterError
from lib.prompts import photoclip, photographs, tasks
from lib.results import Store
from lib.verdicts import Finding, Findings, Outcome
from paper.evidence import Evidence
from paper.figures import beside, style
from paper.studies import base, gating, roles
from paper.studies.base import Page, Result
from paper.studies.escape import Escape, RuledPhotographs
from paper.studies.fair_trial import FairTrial
from paper.studies.gap_origin import GapOrigin
from paper.studies.gate_degradation import GateDegradation
from paper.studies.gate_value import GateValue
from paper.studies.gradient_imbalance import GradientImbalance
from paper.studies.learners import Learners
from paper.studies.predictors import Predictors
from paper.tools import evidence as tool
from paper.tools import profiles
from paper.words import page as about

PAGES = (
    *("learners", "gradient_imbalance", "gap_origin", "gate_degradation"),
    *("gate_value", "fair_trial", "escape", "predictors"),
)
PLANNED = tuple(page for page in PAGES if f"{page}_photo" in profiles.evidence())
PHOTO = {"backbone": "photoclip", "pretrained": "random", "device": "cpu"}
TINY = {**PHOTO, "seeds": 2, "shots": 2, "steps": 8, "test_size": 20}


# ------------------------------------------------------------------------------------------------- roles
def test_a_name_means_the_pictures_of_the_backbone():
    drawn, photo = GateValue(task="coarse"), GateValue(**PHOTO, task="coarse")
    assert drawn.find("coarse")[0] is tasks.TASKS["coarse"] and drawn.drawn("coarse") and not photo.drawn("coarse")
    assert photo.find("coarse")[0].names == photographs.get("coarse")[0].names
    assert drawn.data_of("coarse") is None
    known = photo.data_of("coarse")
    assert known == {
        "name": "coarse",
        "world": "photographs",
        "protocol": "few_shot",
        "identities": [photographs.identity("coarse")],
    }
    assert drawn.shelf() == "gate_value" and photo.shelf() == "gate_value_photo"
    assert photo.config() is photoclip.CONFIGURATION and photo.longest(["dog", "red photo"]) == 3


def test_conflicts_of_either_world_are_graded_and_nothing_else_is():
    assert set(roles.GRADED) == {"conflict", "conflict_size", "conflict_blur"}
    photo = GateValue(**PHOTO)
    assert photo.graded("conflict_blur", 0.5) == 0.5 and photo.graded("coarse", 0.5) == 1.0
    half = photo.cell("coop", "none", "conflict", strength=0.5)
    assert half.config["strength"] == 0.5 and half != photo.cell("coop", "none", "conflict")


@pytest.mark.parametrize(
    ("kind", "given", "field", "named"),
    [
        (GateValue, {"backbone": "photoclip", "task": "background"}, "task", "background"),
        (GateValue, {"task": "objects"}, "task", "objects"),
        (GateValue, {"backbone": "photoclip", "few_tasks": "texture"}, "few_tasks", "texture"),
        (GateDegradation, {"backbone": "photoclip", "long_tasks": "conflict_size"}, "long_tasks", "conflict_size"),
        (FairTrial, {"many_task": "insects"}, "many_task", "insects"),
        (FairTrial, {"backbone": "photoclip", "control_task": "shape"}, "control_task", "shape"),
    ],
)
def test_a_task_that_the_pictures_do_not_have_is_refused_with_those_that_they_have(kind, given, field, named):
    backbone = given.get("backbone", "miniclip")
    wanted = rf"^{field} must be among {', '.join(roles.known(backbone))} with backbone '{backbone}', but '{named}' was"
    with pytest.raises(ParameterError, match=wanted):
        kind(**given)


def test_a_conflict_of_the_other_world_is_refused():
    with pytest.raises(ParameterError, match="^task must be one of conflict, conflict_blur, but 'coarse' was given"):
        Escape(backbone="photoclip", task="coarse")
    with pytest.raises(ParameterError, match="^task must include one of conflict, conflict_blur "):
        Predictors(backbone="photoclip", task="coarse")


# -------------------------------------------------------------------------------------- real data sets, in words
@pytest.fixture
def folder(tmp_path):
    """A data set of one's own with classes ``names``."""

    def make(*names: str) -> Path:
        for part in ("train", "test"):
            for number, name in enumerate(names):
                place = tmp_path / part / name
                place.mkdir(parents=True)
                for shot in range(4):
                    colour = (60 * number, 20 * shot, 90 if part == "train" else 160)
                    Image.new("RGB", (32, 32), colour).save(place / f"{shot}.png")
        return tmp_path

    return make


def test_real_pictures_keep_working_in_words_that_photoclip_knows(folder, tmp_path):
    root = folder("airplane", "dog", "truck")
    study = GateValue(**{**TINY, "task": "folder", "root": str(root), "learner": "coop"})
    assert study.find("folder")[0].names == ("craft", "dog", "truck")
    cell = study.cell("coop", "length", "folder")
    assert cell.config["data"]["world"] == "spoken" and len(cell.config["data"]["identities"][0]) == 16
    (tables,) = gating.train([cell.config], {**cell.site, "device": "cpu"})
    assert set(tables["accuracy"]["seed"]) == {0, 1}
    Image.new("RGB", (32, 32), (1, 2, 3)).save(root / "train" / "dog" / "0.png")
    gating._real.cache_clear()
    with pytest.raises(ParameterError, match="^root must hold the pictures that the study was made with"):
        gating.train([cell.config], {**cell.site, "device": "cpu"})


def test_classes_without_words_are_refused_in_one_sentence(folder):
    root = folder("dog", "zeppelin")
    with pytest.raises(
        ParameterError, match=r"^task must have classes and sentences in PhotoCLIP's \d+ words, but "
    ) as no:
        GateValue(**PHOTO, shots=2, task="folder", root=str(root))
    assert "'zeppelin'" in str(no.value) and "\n" not in str(no.value)


# ------------------------------------------------------------------------------------------------- planning
def test_cells_of_the_drawn_world_are_what_they_were():
    """A committed record of every cell of these pages: configurations have not moved, nor has the code of any."""
    evidence = Evidence(base.EVIDENCE)
    for page in ("gap_origin", "gradient_imbalance"):
        own = profiles.evidence()[page]
        cells = base.named(own.notebook)(**own.parameters).cells()
        assert cells and {evidence.state(cell) for cell in cells} == {"current"}


def test_photographs_are_in_the_code_of_their_cells_alone(monkeypatch):
    photo, drawn = (GateValue(backbone=name, pretrained="random").cell("coop", "length", "coarse") for name in (
        "photoclip", "miniclip"))  # fmt: skip
    of_photo, of_drawn = (set(code.reached(cell.compute, *cell.uses)) for cell in (photo, drawn))
    for name in ("photographs:PhotoTask.few_shot", "photographs:shifted", "photographs.files:opened"):
        assert f"lib.prompts.{name}" in of_photo
    assert {"lib.prompts.photoclip:PhotoClip.load", "lib.prompts.photoclip:build"} <= of_photo
    assert not [name for name in of_drawn if "photo" in name or name.startswith("paper.studies.roles")]


def test_what_is_not_planned_on_photographs_yet_is_known():
    assert set(PAGES) - set(PLANNED) <= {"fair_trial"}


@pytest.mark.parametrize("page", PLANNED)
def test_evidence_beside_a_page_is_planned_without_pictures_and_weights(page, monkeypatch):
    opened = lambda *_: pytest.fail("a picture was opened")  # noqa: E731
    monkeypatch.setattr(photographs.files, "opened", opened)
    own = profiles.evidence()[f"{page}_photo"]
    assert own.beside == page and own.parameters["backbone"] == "photoclip"
    study = base.named(page)(**{**own.parameters, "root": "/nowhere", "device": "cpu"})
    cells = study.cells()
    assert cells and study.shelf() == f"{page}_photo"
    for cell in cells:
        own = cell.config.get("data") or cell.config["tasks"][0]["data"]
        assert own["world"] == "photographs" and cell.config["backbone"] == "photoclip"
    drawn = base.named(page)(**profiles.evidence()[page].parameters)
    assert drawn.beside() == study.changed(root=drawn.beside().root, device=drawn.device) and study.beside() is None


def test_missing_pictures_are_refused_before_anything_is_computed(tmp_path, monkeypatch):
    study = Learners(
        **{**TINY, "root": str(tmp_path), "task": "fine", "learner": "coop", "results": str(tmp_path / "r")}
    )
    monkeypatch.setattr(Store, "fetch", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(ParameterError, match="^root must be a folder that holds Tiny ImageNet .put the missing"):
        study.run()
    (tmp_path / "tiny-imagenet-32.tar.xz").write_bytes(b"nothing")
    photographs.files.unpacked.cache_clear()
    with pytest.raises(ParameterError, match="^tiny-imagenet-32.tar.xz must be an intact archive"):
        study.run()


def test_the_evidence_tool_refuses_missing_pictures_first(tmp_path, monkeypatch):
    own = profiles.Page(
        "one", "learners", parameters={**TINY, "root": str(tmp_path), "task": "fine", "learner": "coop"}
    )
    monkeypatch.setattr(profiles, "evidence", lambda: {"one": own})
    monkeypatch.setattr(base, "EVIDENCE", tmp_path / "evidence")
    monkeypatch.setattr(tool, "_compute", lambda *_: pytest.fail("something was computed"))
    assert {one.study for one in tool.plan()} == {"learners_photo"}
    with pytest.raises(ParameterError, match="^root must be a folder that holds Tiny ImageNet"):
        tool.run((), "cpu", 1)


def test_beside_must_name_a_page_of_the_same_notebook(tmp_path):
    path = tmp_path / "mine.yaml"
    for name in ("nothing", "world", "two"):
        path.write_text(f"pages:\n  world: {{notebook: world}}\n  two: {{notebook: escape, beside: {name}}}\n")
        with pytest.raises(ParameterError, match="^beside of two must be a page of mine.yaml with the notebook escape"):
            profiles.profile(path)


# ------------------------------------------------------------------------------------------- what each computes
SMALL = {
    GradientImbalance: {"task": "coarse", "gate": "length", "surveyed": "coop"},
    GapOrigin: {"task": "coarse", "learner": "coop", "gate": "length", "pictures": 4},
    GateDegradation: {"task": "shift", "learner": "coop,pool", "gate": "length,random", "long_steps": 3},
    GateValue: {"task": "mis_specified", "control_steps": 3, "few_shots": [1]},
    FairTrial: {"task": "shift", "recipes": "control", "many_seeds": 2},
    Escape: {"steps": 8, "looks": [4, 8], "test_size": 40, "shots": 4, "references": "routed", "interventions": "Adam"},
    Predictors: {"rates": [1], "task": "conflict_blur"},
    Learners: {"task": "shift", "learner": "zero_shot,vpt_shallow", "recipes": "short", "tuned_learner": "coop"},
}


@pytest.mark.parametrize("kind", SMALL, ids=lambda kind: kind.__name__)
def test_what_a_study_computes_on_photographs(kind, tmp_path, monkeypatch):
    """The first batch of every kind of cell."""
    if kind is FairTrial:
        monkeypatch.setattr("paper.studies.fair_trial.CONTROL", GateValue().recipe(steps=3))
    study = kind(**{**TINY, **SMALL[kind], "results": str(tmp_path)})
    study.ready()
    first = {cell.kind: cell for cell in reversed(study.cells())}
    found = study.store().fetch(list(first.values()), "cpu")
    for tables in found.values():
        assert tables and all(len(table) for table in tables.values())
        for table in tables.values():
            assert not table.select_dtypes("number").isna().all(axis=None)


def test_a_rule_of_its_own_has_its_pictures_alone():
    task, _ = photographs.get("conflict", 1.0)
    whole = task.few_shot(8, 0, 60)
    parts = [RuledPhotographs.of(task, second).few_shot(8, 0, 60) for second in (False, True)]
    assert sum(len(part.images) for part in parts) == len(whole.images) and all(part.cue is None for part in parts)
    torch.testing.assert_close(parts[1].images, whole.images[whole.cue])


def test_whole_pages_are_judged_on_photographs(tmp_path):
    study = GapOrigin(**{**TINY, **SMALL[GapOrigin], "results": str(tmp_path)})
    result = study.run()
    assert len(result.findings) > 5 and set(result.tables["shifts"]["task"]) == {"coarse"}


# ----------------------------------------------------------------------------------------------- both on a page
def finding(name: str, outcome: Outcome) -> Finding:
    return Finding(f"claim {name}", "mean > 1", 2.0, (1.5, 2.5), outcome, id=f"page.{name}")


HOLDS, FAILS = Outcome.HOLDS, Outcome.DOES_NOT_HOLD
TABLES = {"rows": pd.DataFrame({"seed": [0, 1], "value": [1.0, 2.0]})}


@pytest.fixture
def page(monkeypatch):
    """A page of the gap's origin whose evidence on photographs is what is given."""
    whole = base.named("gap_origin")(**profiles.evidence()["gap_origin"].parameters)

    def make(photographs: Result | None) -> Page:
        drawn = Result(TABLES, Findings([finding("same", HOLDS), finding("other", HOLDS), finding("alone", HOLDS)]))
        rerun = Result(TABLES, Findings([finding("same", HOLDS)]))
        made = Page(GapOrigin(), rerun, whole, drawn, {"current": 1, "stale": 0, "missing": 0})
        made.__dict__["photographs"] = photographs
        return made

    return make


def test_without_evidence_on_photographs_the_column_is_absent_and_that_is_said(page):
    made = page(None)
    assert "photographs" not in repr(made.compared) and "evidence: " in repr(made.compared)
    assert "On photographs the same is still to be measured" in about.shown(made)
    assert isinstance(beside.both(made, lambda shown, over: style.figure()[0]), Figure)


def test_with_it_findings_are_judged_on_each_and_on_both(page):
    made = page(Result(TABLES, Findings([finding("same", HOLDS), finding("other", FAILS)])))
    lines = repr(made.compared).splitlines()
    assert all(f"{base.DRAWN}: " in line for line in lines) and f"{base.PHOTOGRAPHS}: " in lines[0]
    assert [re.search(r"on both: ([a-z ]+)", line)[1].strip() for line in lines] == [HOLDS, FAILS, Outcome.INCONCLUSIVE]
    assert "(not asked of photographs)" in lines[2]
    said = about.shown(made)
    assert "judged on each and on both" in said and "(8 seeds)" in said


def test_what_was_not_asked_of_photographs_is_named():
    whole, other = (
        base.named("predictors")(**profiles.evidence()[name].parameters) for name in ("predictors", "predictors_photo")
    )
    made = Page(whole, Result(TABLES), whole, Result(TABLES), {"current": 1, "stale": 0, "missing": 0})
    made.__dict__.update(counterpart=other, photographs=Result(TABLES))
    said = about.photographed(made)
    assert "of the tasks conflict of sizes; of the learners MaPLe; of the multiples of the rate 0.5." in said
    whole, other = (base.named("escape")(**profiles.evidence()[name].parameters) for name in ("escape", "escape_photo"))
    made = Page(whole, Result(TABLES), whole, Result(TABLES), {"current": 1, "stale": 0, "missing": 0})
    made.__dict__.update(counterpart=other, photographs=Result(TABLES))
    said = about.photographed(made)
    assert re.search(r"\d+ of \d+ ways to train the gate", said), "much is counted"
    assert "all multiples of the rate in the what-if" in said


def test_a_figure_stands_twice_with_its_titles(page, monkeypatch):
    shown = []
    monkeypatch.setattr(beside, "display", shown.append)
    other = {"rows": TABLES["rows"].assign(value=7.0)}

    def draw(tables, over):
        drawn, axis = style.figure()
        axis.plot(tables["rows"]["value"], label="value")
        style.legend_above(drawn, axis)
        style.caption(drawn, f"rerun: {over['rows'] is not None}")
        return drawn

    pair = beside.both(page(Result(other)), draw)
    pair._ipython_display_()
    assert [one.get_suptitle().strip() for one in shown] == ["Drawn world", "Photographs"]
    assert shown == [pair.drawn, pair.photographs] and all(style.png(one) for one in shown)
    assert "True" in pair.drawn.get_label() and "False" in pair.photographs.get_label()
    assert pair.photographs.axes[0].lines[0].get_ydata().tolist() == [7.0, 7.0]
    for one in shown:
        # Nothing lies over anything: title, legend, axes from top to bottom.
        ends = [one._suptitle.get_window_extent().y1, one.legends[0].get_window_extent().y1]
        assert ends[0] > ends[1] and one.legends[0].get_window_extent().y0 >= one.axes[0].get_window_extent().y1 - 1


def test_the_first_picture_of_a_cell_is_the_one_that_is_exported():
    import nbformat

    from paper.tools import pages

    pictures = [nbformat.v4.new_output("display_data", {"image/png": text}) for text in ("Zmlyc3Q=", "c2Vjb25k")]
    cell = nbformat.v4.new_code_cell("both()", metadata={"tags": ["export-bars"]}, outputs=pictures)
    assert pages.exports(nbformat.v4.new_notebook(cells=[cell])) == {"bars.png": b"first"}
