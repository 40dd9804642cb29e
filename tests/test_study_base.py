"""Studies take exactly their own parameters out of a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass

import pandas as pd
import pytest

from lib import checks, runtime
from lib.checks import ParameterError
from lib.verdicts import Finding, Findings, Outcome
from paper.studies.base import Result, Study


@dataclass(frozen=True, kw_only=True)
class Example(Study):
    task: str = "texture"
    shots: int = 16
    severities: tuple[float, ...] = (0.0, 0.5)

    def check(self) -> None:
        checks.choice("task", self.task, ("texture", "shape"))
        checks.integer("shots", self.shots, 1, 16)
        object.__setattr__(self, "severities", checks.numbers("severities", self.severities, 0, 1))

    def run(self) -> Result:
        self.store()
        return Result({"rows": pd.DataFrame({"shots": [self.shots]})})


def notebook(**parameters: object) -> dict[str, object]:
    """What a kernel's globals hold after the import cell."""
    namespace: dict[str, object] = {
        "__name__": "__main__",
        "__doc__": "text",
        "_": 3,
        "_i1": "task = 1",
        "_dh": [],
    }
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
        "shost is not a parameter of this notebook; the parameters are device, results, task, shots, severities."
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


def test_a_results_folder_that_cannot_be_written_fails_before_any_compute(tmp_path):
    (tmp_path / "file").write_text("")
    study = Example(results=str(tmp_path / "file" / "store"))
    with pytest.raises(ParameterError, match="^results must be a folder"):
        study.run()


def test_making_a_study_writes_nothing(tmp_path):
    Example(results=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert Example(results=str(tmp_path / "new")).run().table["shots"].tolist() == [16]
    assert (tmp_path / "new").is_dir()


def test_the_configuration_is_what_decides_the_numbers(tmp_path):
    assert Example(device="cpu", results=str(tmp_path), shots=2).config() == {
        "task": "texture",
        "shots": 2,
        "severities": (0.0, 0.5),
    }


def test_studies_and_results_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Example().shots = 3
    with pytest.raises(FrozenInstanceError):
        Result({}).tables = {}


def test_a_result_gives_its_first_table_and_a_short_text():
    first, second = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1]})
    finding = Finding("c", "mean > 0", 1.0, (0.5, 1.5), Outcome.HOLDS)
    result = Result({"runs": first, "chips": second}, Findings([finding]), {"seconds": 1})
    assert result.table is first
    assert repr(result) == "Result: runs (2 rows), chips (1 rows); 1 findings"


def test_a_study_without_an_experiment_says_so():
    with pytest.raises(TypeError, match="Study defines no experiment"):
        Study().run()
