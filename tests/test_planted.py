"""A rerun that is wrong is noticed: a dead gate, accuracies that are off, a noise that is too large."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.hardware.perturbations import ReadNoise
from lib.prompts.gates import Length
from paper.studies.base import Page, Result
from paper.studies.gate_value import GateValue
from paper.studies.perturbation import PerturbationStudy

pytestmark = pytest.mark.slow

GATES = {"learner": "coop", "gate": "length", "task": "mis_specified", "few_tasks": "coarse", "few_shots": [1]}
NOISE = {"perturbation": "read_noise", "severities": [0.1, 0.2, 0.4], "closer": "none"}


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Page:
    """A rerun of read noise by the code as it is."""
    study = PerturbationStudy(**NOISE, seeds=2, chips=10, gradients=16, results=str(tmp_path_factory.mktemp("store")))
    return study.page()


def test_the_code_as_it_is_agrees(honest):
    assert honest.evidence is not None, "the evidence covers this rerun"
    assert honest.agreement, str(honest.agreement)


def test_a_noise_scaled_by_one_point_three_is_noticed(tmp_path, monkeypatch):
    honest_current = ReadNoise.current

    def louder(self, y, x, arrays, severity, drawn):
        return honest_current(self, y, x, arrays, 1.3 * severity, drawn)

    monkeypatch.setattr(ReadNoise, "current", louder)
    study = PerturbationStudy(**NOISE, seeds=2, chips=10, gradients=16, results=str(tmp_path))
    found = study.page().agreement
    assert not found and "disagree with the evidence" in str(found)


def test_an_accuracy_off_by_eight_points_is_noticed_and_named(honest):
    rows = honest.rerun.tables["accuracy"].copy()
    wrong = (rows["rule"] == "autograd") & (rows["severity"] == 0.2)
    rows.loc[wrong, "accuracy"] += 0.08
    planted = replace(honest, rerun=Result({**honest.rerun.tables, "accuracy": rows}, honest.rerun.findings))
    named = planted.agreement.disagreeing
    assert not planted.agreement and named["quantity"].tolist() == ["accuracy"]
    assert "vanilla training" in named["cell"].iloc[0] and "0.2" in named["cell"].iloc[0]


def test_a_dead_gate_is_noticed(tmp_path, monkeypatch):
    def dead(self, z: torch.Tensor) -> torch.Tensor:
        return torch.full_like(z, 0.5)

    monkeypatch.setattr(Length, "activate", dead)
    found = GateValue(**GATES, seeds=2, results=str(tmp_path)).page().agreement
    assert not found and "control" in str(found)
