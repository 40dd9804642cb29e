"""References: a run agrees with itself, disagrees with a changed one, and every page of a profile has a study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib import results
from lib.checks import ParameterError
from paper.studies.base import Study
from paper.studies.world import World
from paper.tools import pages, reference

TINY = dict(task="texture,counting", pictures=24, pretrained="random", device="cpu")


@pytest.fixture
def empty_repository(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(results, "repository", lambda: tmp_path)
    return tmp_path


def test_a_run_agrees_with_itself_and_not_with_another(empty_repository):
    study = World(**TINY, results=str(empty_repository / "store"))
    result = study.run()
    assert study.agreement(result) == "there is no reference for this study yet"
    study.write_reference(result)
    assert str(study.agreement(result)) == "2 of 2 cells within tolerance"
    side = json.loads((empty_repository / "results/reference/world.json").read_text())
    assert side["provenance"]["parameters"]["pictures"] == 24 and "device" not in side["provenance"]["parameters"]
    table = result.table.assign(accuracy=result.table["accuracy"] + [0.0, 2 * study.TOLERANCES["accuracy"]])
    changed = type(result)({"zero_shot": table}, result.findings, result.provenance)
    found = study.agreement(changed)
    assert (found.within, found.compared) == (1, 2) and found.worst.loc[0, "task"] == "counting"


def test_a_reference_without_its_columns_is_refused(empty_repository):
    study = World(**TINY, results=str(empty_repository / "store"))
    result = study.run()
    results.write_reference("world", study.summary(result).drop(columns="accuracy"), result.provenance)
    with pytest.raises(ParameterError, match="accuracy"):
        study.agreement(result)


def test_every_page_has_a_study_and_a_reference_name_of_its_own():
    profile = pages.profile(pages.ROOT / "profiles" / "quick.yaml")
    names = set()
    for page in profile.values():
        study = reference.study_of(page.notebook)(**page.parameters)
        assert isinstance(study, Study) and study.KEYS and study.TOLERANCES
        names.add(study.reference_name())
    assert len(names) == len(profile)


def test_unknown_page_and_profile_are_refused(capsys):
    for arguments in (["nowhere"], ["--profile", "huge"]):
        assert reference.main(arguments) == 2
        assert "must be one of" in capsys.readouterr().err


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_committed_references_are_complete(profile):
    """Every committed table has its columns and says where it comes from."""
    for page in pages.profile(pages.ROOT / "profiles" / f"{profile}.yaml").values():
        study = reference.study_of(page.notebook)(**page.parameters)
        table, source = results.reference(study.reference_name(), [*study.KEYS, *study.TOLERANCES])
        assert len(table) and {"torch", "device_name", "seeds", "commit", "parameters"} <= set(source)
