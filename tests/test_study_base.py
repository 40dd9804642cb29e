"""Studies take exactly their own parameters out of a notebook, and show evidence and rerun by the same functions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
import pytest
import yaml
from papermill import cli
from pydantic import ValidationError

from lib import runtime
from lib.checks import ParameterError
from lib.results import Cell, measured
from lib.verdicts import Claim, Finding, Findings, Outcome
from paper.evidence import Evidence
from paper.studies import base
from paper.studies.base import Compared, Result, Study
from paper.studies.parameters import Checked, Number, Numbers, OneOf, Options, Place, Some, Text, Whole
from paper.tools import profiles

OFFSET = {"points": 0.0}


def measure(config, site):
    """Accuracies of seeds, with a spread of about two points."""
    drawn = [np.random.default_rng([seed, round(100 * config["severity"])]).normal(0, 2) for seed in config["seeds"]]
    values = 80 - 30 * config["severity"] + np.array(drawn) + OFFSET["points"]
    return {"rows": pd.DataFrame({"seed": config["seeds"], "severity": config["severity"], "accuracy": values})}


class Example(Study):
    task: Annotated[str, OneOf(("texture", "shape"))] = "texture"
    shots: Annotated[int, Whole(1, 16)] = 16
    severities: Annotated[tuple[float, ...], Numbers(0, 1)] = (0.0, 0.5)
    seeds: Annotated[int, Whole(1)] = 2

    PARTS: ClassVar = ("severities",)
    COMPARED: ClassVar = {"rows": Compared(("severity",), {"accuracy": 0.5})}

    def cells(self):
        seeds, shared = list(range(self.seeds)), {"task": self.task, "shots": self.shots}
        return [Cell("example", {**shared, "severity": value, "seeds": seeds}, measure) for value in self.severities]

    def judge(self, found):
        rows = pd.concat([found[cell]["rows"] for cell in self.cells()], ignore_index=True)
        claim = Claim("example.high", "the accuracy is high", rows["accuracy"], ">", 50, "example", unit="%")
        return {"rows": rows}, Findings.of([claim])


def notebook(**parameters: object) -> dict[str, object]:
    """What a kernel's globals hold after the import cell."""
    namespace: dict[str, object] = {"__name__": "__main__", "__doc__": "text", "_": 3, "_i1": "task = 1", "_dh": []}
    namespace.update(
        {"In": ["", "a"], "Out": {1: 2}, "exit": "exit", "quit": "quit", "get_ipython": None, "open": open}
    )
    namespace.update(math=math, Mapping=Mapping, Study=Study, pd=pd, function=notebook, frame=pd.DataFrame())
    return namespace | parameters


def test_a_notebook_without_changes_gives_the_defaults():
    assert Example.from_notebook(notebook()) == Example()


def test_parameters_are_taken_by_name():
    study = Example.from_notebook(notebook(task="shape", shots=4, severities="0.1, 0.2", device="cpu"))
    assert (study.task, study.shots, study.severities, study.device) == ("shape", 4, (0.1, 0.2), "cpu")


@pytest.mark.parametrize("value", [1, 0.5, "x", True, None, [1], (1,), {"a": 1}])
def test_an_unknown_parameter_is_one_sentence(value):
    with pytest.raises(ParameterError) as caught:
        Example.from_notebook(notebook(shost=value, shots=0))
    assert str(caught.value) == (
        "shost is not a parameter of this notebook; the parameters are device, results, task, shots, severities, seeds."
    )


def test_a_constant_imported_from_the_library_is_no_parameter(monkeypatch):
    colours = {"blue": "#0072B2"}
    monkeypatch.setattr(runtime, "COLOURS", colours, raising=False)
    assert Example.from_notebook(notebook(COLOURS=colours)) == Example()
    with pytest.raises(ParameterError, match="COLOURS is not a parameter"):
        Example.from_notebook(notebook(COLOURS={"blue": "#0072B2", "red": "#f00"}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "colour"}, "task must be one of texture, shape, but 'colour' was given."),
        ({"shots": 0}, "shots must be an integer from 1 to 16, but 0 was given."),
        ({"severities": [2]}, "severities must be one or more numbers from 0 to 1, but 2 was given."),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, cuda:N, mps, but 'tpu' was given."),
        ({"results": ""}, "results must be auto or the path of a folder, but '' was given."),
        ({"results": 3}, "results must be auto or the path of a folder, but 3 was given."),
    ],
)
def test_every_value_is_checked_before_any_compute(change, words):
    for make in (lambda: Example(**change), lambda: Example.from_notebook(notebook(**change))):
        with pytest.raises(ParameterError) as caught:
            make()
        assert str(caught.value) == words


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        (Whole(0, 5, also=("auto",)), "auto", "auto"),
        (Whole(0, 5), 3, 3),
        (Number(above=0), 2, 2.0),
        (Numbers(0, 9), "1, 2.5", (1.0, 2.5)),
        (Numbers(0, 9, whole=True), [4, 2], (4, 2)),
        (Numbers(0, 9, also=("auto",)), "auto", "auto"),
        (Some(("a", "b", "c")), "c, a", ("c", "a")),
        (Some(("a", "b", "c"), ordered=True), ["c", "a"], ("a", "c")),
        (Some(lambda: ("a", "b"), everything="all"), "all", ("a", "b")),
        (Place("a path", also=("", "auto")), "", ""),
        (Place("a path", names=True), "openai", "openai"),
        (Place("a path", names=True), "a/b.pt", os.path.abspath("a/b.pt")),
        (Place("a path"), "~/data", os.path.join(os.path.expanduser("~"), "data")),
        (Place("a path"), Path("data"), os.path.abspath("data")),
        (Whole(0), np.int64(3), 3),
        (Numbers(0, 9), [np.float32(0.5)], (0.5,)),
        (Options(also=("auto",)), {"a": 1}, {"a": 1}),
        (Options(), '{"a": 1e-1, "b": "word"}', {"a": 0.1, "b": "word"}),
        (Options(), {"a": "1e3"}, {"a": 1000.0}),
        (Options(also=("auto",)), "auto", "auto"),
    ],
)
def test_types_of_parameters_keep_what_they_take(kind, given, kept):
    assert kind.check("x", given) == kept and type(kind.check("x", given)) is type(kept)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (Whole(0, 5, also=("auto",)), "all", "x must be an integer from 0 to 5, but 'all' was given."),
        (Whole(0), True, "x must be an integer of at least 0, but True was given."),
        (Number(above=0), "1e-3x", "x must be a number above 0, but '1e-3x' was given."),
        (Number(above=0), "True", "x must be a number above 0, but 'True' was given."),
        (Number(above=0), np.bool_(True), f"x must be a number above 0, but {np.bool_(True)!r} was given."),
        (Whole(0), "1e3", "x must be an integer of at least 0, but 1000.0 was given."),
        (Numbers(0, 9), "[1, 1.0]", "x must be different numbers, but [1, 1.0] was given."),
        (Place("a path"), "~nobody-at-all/x", "x must be a path, but '~nobody-at-all/x' was given."),
        (Place("a path"), "a\0b", "x must be a path, but 'a\\x00b' was given."),
        (Place("a path"), None, "x must be a path, but None was given."),
        (Numbers(0, 9), [1, 1], "x must be different numbers, but [1, 1] was given."),
        (Numbers(0, 9, whole=True), 1.5, "x must be an integer from 0 to 9, but 1.5 was given."),
        (Some(("a", "b")), "a,z", "x must be one or more different names out of a, b, but 'z' was given."),
        (Text("a path"), " ", "x must be a path, but ' ' was given."),
        (Options(also=("auto",)), 3, "x must be auto or a mapping of names to values, but 3 was given."),
        (Options(), {1: 2}, "x must be a mapping of names to values, but {1: 2} was given."),
    ],
)
def test_types_of_parameters_refuse_in_one_sentence(kind, given, words):
    with pytest.raises(ParameterError) as caught:
        kind.check("x", given)
    assert str(caught.value) == words


ROUTES = {
    "pages -p": profiles.value,
    "papermill -p": cli._resolve_type,
    "papermill -r": str,
    "papermill -y and -f": yaml.safe_load,
    "profile": lambda text: yaml.load(text, Loader=profiles._Loader),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "text, number",
    [("1e-3", 1e-3), ("35e-4", 35e-4), ("1e3", 1e3), ("8.64e4", 8.64e4), ("+1e3", 1e3), (".5", 0.5), ("7", 7)],
)
def test_a_number_is_one_whatever_brings_it(route, text, number):
    assert Number().check("x", ROUTES[route](text)) == number
    assert Numbers().check("x", ROUTES[route](f"[{text}, 1e4]")) == (number, 1e4)


@pytest.mark.parametrize("value", [np.ones(2), {1}, b"5", 1j])
def test_under_the_name_of_a_field_nothing_is_passed_over(value):
    with pytest.raises(ParameterError, match="^shots must be an integer"):
        Example.from_notebook(notebook(shots=value))
    assert Example.from_notebook(notebook(shots=np.int64(3), task=math)).shots == 3


@pytest.mark.parametrize("name", ["_seeds", "math", "Study"])
def test_a_name_that_papermill_sets_is_refused_even_if_an_import_takes_it(name):
    cells = ["", "shots = 4", f"# Parameters\nshots = 3\n{name} = 3\n", "import math"]
    with pytest.raises(ParameterError, match=f"^{name} is not a parameter of this notebook"):
        Example.from_notebook(notebook(shots=3) | {"In": cells})


def test_a_registry_that_grows_is_asked_when_needed():
    names = ["a"]
    kind = OneOf(lambda: names)
    names.append("b")
    assert kind.check("x", "b") == "b"


def test_making_a_study_writes_nothing_and_running_it_does(tmp_path):
    study = Example(results=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert study.run().table["seed"].tolist() == [0, 1, 0, 1]
    assert (tmp_path / "new").is_dir()


def test_changed_studies_are_checked_again():
    assert Example().changed(shots=3).shots == 3
    with pytest.raises(ParameterError, match="shots must be"):
        Example().changed(shots=0)


def test_studies_and_results_are_frozen():
    with pytest.raises(ValidationError):
        Example().shots = 3
    with pytest.raises(AttributeError):
        Result({}).tables = {}


def test_a_result_gives_its_first_table_and_a_short_text():
    first, second = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1]})
    finding = Finding("c", "mean > 0", 1.0, (0.5, 1.5), Outcome.HOLDS)
    result = Result({"runs": first, "chips": second}, Findings([finding]))
    assert result.table is first
    assert repr(result) == "Result: runs (2 rows), chips (1 rows); 1 findings"


# ------------------------------------------------------------------------------------------- evidence and rerun


@pytest.fixture
def covered(tmp_path, monkeypatch):
    """Committed evidence of the example: five seeds at four severities; a function that makes a page."""
    whole = {"severities": [0.0, 0.25, 0.5, 0.75], "seeds": 5}
    monkeypatch.setattr(base, "EVIDENCE", tmp_path / "evidence")
    monkeypatch.setattr(
        profiles, "evidence", lambda: {"page": profiles.Page("page", Example.notebook(), parameters=whole)}
    )
    OFFSET["points"] = 0.0
    file = Evidence(tmp_path / "evidence").home(Example().cells()[0], "example")
    file.put(measured(Example(**whole).cells(), "cpu"))

    def page(**given):
        return Example(**given, results=str(tmp_path / "store")).page()

    yield page
    OFFSET["points"] = 0.0


def test_the_page_shows_the_evidence_with_this_run_over_it(covered):
    page = covered()
    assert len(page.tables["rows"]) == 4 * 5 and len(page.over["rows"]) == 2 * 2
    assert page.subject.seeds == 5 and page.over["something"] is None
    assert page.notice == "" and page.findings[0].outcome is Outcome.HOLDS
    assert "evidence" in repr(page.compared) and "this run" in repr(page.compared)
    assert bool(page.agreement) and "4" not in str(page.notice)


@pytest.mark.parametrize("given", [{"severities": [0.0, 0.3]}, {"shots": 4}, {"task": "shape"}])
def test_what_the_evidence_does_not_cover_is_shown_alone_and_said(covered, given):
    page = covered(**given)
    assert page.evidence is None and page.over["rows"] is None
    assert "does not cover these parameters" in page.notice
    assert page.shown is page.rerun and page.subject.seeds == 2
    assert isinstance(page.agreement, str) and "evidence" not in repr(page.compared)


def test_missing_evidence_is_said_and_stale_evidence_is_boxed(covered, monkeypatch):
    monkeypatch.setattr("lib.results.code.version", lambda *roots: "0123456789ab")
    page = covered()
    assert "Stale" in page.notice and "4 of 4" in page.notice and len(page.tables["rows"]) == 20
    (base.EVIDENCE / "example.json").unlink()
    page = covered()
    assert page.evidence is None and "4 of 4 parts of the evidence are still missing" in page.notice


def test_a_wrong_result_is_noticed(covered):
    OFFSET["points"] = 8.0
    assert not covered(severities=[0.25, 0.75]).agreement


def test_a_study_without_an_experiment_says_so():
    with pytest.raises(TypeError, match="Study measures nothing"):
        Study().run()


# ------------------------------------------------------------------------------------------- every field of every page

BAD = [
    math.nan,
    math.inf,
    -math.inf,
    -1,
    1e30,
    10**12,
    "  ",
    None,
    [],
    (),
    True,
    [1, 1],
    b"x",
    {1},
    np.ones(2),
    "~no-one/x",
]
BAD += ["", {}, {"a": math.nan}, {1: 2}, 2.5, 0, "bad word", "1e400", object()]
#: What of these a type takes, and keeps as it says.
LEGAL = {"results": ["bad word", "1e400"], "root": ["", "bad word", "1e400"]}


def legal(kind: Study, name: str, value: object) -> bool:
    """Is this within the bounds that the field states, or among what it says that it takes?"""
    (own,) = [one for one in type(kind).model_fields[name].metadata if isinstance(one, Checked)]
    kept = getattr(kind, name)
    if isinstance(own, Place):
        return value in LEGAL[name] and (kept == "" or os.path.isabs(kept))
    if isinstance(own, Options):
        return value == {}
    if isinstance(own, Some):
        return bool(own.nothing) and value in ([], ()) and kept == ()
    if isinstance(own, Numbers) and value in ([], ()):
        return own.empty and kept == ()
    if isinstance(own, Numbers | Number | Whole) and isinstance(value, int | float):
        low, high = (own.low, own.high) if own.high is not None else (0, 1e12)
        return low <= value <= high and kept in (value, (value,))
    return False


@pytest.mark.parametrize("name", sorted(path.stem for path in profiles.sources.NOTEBOOKS.glob("*.ipynb")))
def test_every_bad_value_of_every_field_is_one_sentence(name):
    kind = base.named(name)
    for field in kind.model_fields:
        for value in BAD:
            try:
                study = kind(**{field: value})
            except ParameterError as refused:
                assert "\n" not in str(refused) and len(str(refused)) < 700 and str(refused).endswith(".")
            else:
                assert legal(study, field, value), (field, value, getattr(study, field))


def test_what_needs_more_memory_than_there_is_is_refused_with_its_size():
    wanted = r"^batch must be small enough for the \d+ GiB of memory of cpu, but batch 100000"
    with pytest.raises(ParameterError, match=rf"{wanted} was given, which needs about [\d,]+ GiB\.$"):
        base.named("gate_value")(batch=100_000, device="cpu")
    with pytest.raises(ParameterError, match="^tokens must leave room for class names in a context of 22"):
        base.named("gate_value")(tokens=1000)
