"""A seventh perturbation is one class and one entry: its page, its figures and the comparisons follow."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from torch import nn

from lib.checks import ParameterError
from lib.hardware.crossbars import on_chip
from lib.hardware.devices import HARDWARE, Composite
from lib.hardware.perturbations import ADC, Perturbation
from lib.registry import Registry
from paper.figures import composed as composed_figures
from paper.figures import hardware as figures
from paper.studies.composed import Composed
from paper.studies.perturbation import Perturbation as Study
from paper.studies.perturbation import about, attempt, look, story, verdicts
from paper.studies.separation import Separation, boundaries, cells, scores, tell
from paper.words.hardware import QUESTIONS, words

TINY = {"seeds": 2, "chips": 2, "steps": 3, "gradients": 2}


@dataclass(frozen=True)
class GainError(Perturbation):
    """Every device conducts a factor of its own too much or too little: G~ = G max(0, 1 + sigma xi)."""

    name, title = "gain_error", "Gain error"
    measures, unit = "standard deviation of a device's factor", "of its conductance"
    low, high, grid = 0.0, 4.0, (0.5, 1.0, 2.0, 4.0)
    chip = "normal"

    def conductance(self, g, severity, drawn):
        return g + g * (severity * drawn["chip"]).clamp_min(-1)


@pytest.fixture(scope="module", autouse=True)
def entry():
    HARDWARE.register("gain_error", GainError())
    yield
    del HARDWARE["gain_error"]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(perturbation="gain_error", results=str(tmp_path_factory.mktemp("seventh")), **TINY)


@pytest.fixture(scope="module")
def result(study):
    return study.run()


def test_its_page_is_computed_and_every_figure_drawn(study, result):
    tables, physics = result.tables, study.physics
    assert set(tables["accuracy"].severity) == set(physics.grid) and set(tables["accuracy"].perturbation) == {
        "gain_error"
    }
    # It costs something, and has chips to know in training.
    unaware = tables["accuracy"][tables["accuracy"].rule == "unaware"]
    assert (unaware.clean - unaware.accuracy).max() > 0.05 and len(tables["known"]) == len(physics.grid) * 2
    assert not len(tables["variants"]) and len(result.findings)
    seen = look(study, 1.0, "autograd", points=40)
    for drawn in (
        figures.accuracy(tables["accuracy"], physics, study.reference()),
        figures.recovery(tables["summary"], physics),
        figures.variants(tables["variants"], physics),
        figures.diagnostics(tables["diagnostics"], physics),
        figures.through_the_chip(seen, tables["accuracy"], 1.0, "autograd"),
        figures.attempt(attempt(study, 1.0, "autograd", steps=2, chips=2)),
        figures.strips(tables["summary"]),
    ):
        assert drawn.axes
    assert "**Severity** is the standard deviation of a device's factor" in about(physics) and "$$" not in about(
        physics
    )
    assert "unaware network" in story(result, physics) and len(verdicts(result))
    assert words("gain_error") == words("no such class") and QUESTIONS.get("gain_error", "") == ""


def test_the_comparison_of_classes_takes_it(study, result):
    taken = Separation(perturbations="gain_error, adc", networks="mlp", results=study.results, **TINY)
    assert [one.perturbation for one in taken.studies()] == ["adc", "gain_error"]
    tables = result.tables
    single = cells(tables["accuracy"], tables["diagnostics"])
    assert len(single) and set(single.perturbation) == {"gain_error"}
    at = boundaries(tables["accuracy"])
    assert set(at.perturbation) == {"gain_error"}
    other = single.assign(perturbation="adc", compensated=~single.compensated)
    both = pd.concat([single, other], ignore_index=True)
    told = tell(scores(both))
    for drawn in (
        figures.against_recovery(both),
        figures.phases(tables["summary"], at),
        figures.roc(both, told),
    ):
        assert drawn.axes


def test_it_runs_on_any_module_and_beside_other_parts():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 4)).requires_grad_(False)
    x = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    plain = model(x)
    with on_chip(model, HARDWARE["gain_error"], 0.5):
        assert not torch.allclose(model(x), plain, atol=1e-3)
    with on_chip(model, HARDWARE["gain_error"], 0.0):
        assert torch.equal(model(x), plain)
    both = Composite([ADC(), GainError()])
    with on_chip(model, both, {"gain_error": 0.5, "adc": 4}):
        assert not torch.allclose(model(x), plain, atol=1e-3)
    # A composed chip has no severity of its own for it, and asks for one.
    with pytest.raises(ParameterError, match="^severities of gain_error must be a number from 0 to 4"):
        Composed(classes="adc, gain_error")
    chosen = Composed(classes="adc, gain_error", severities={"gain_error": 0.5})
    assert chosen.classes == ("adc", "gain_error")
    assert composed_figures.name(chosen.classes) == "ADC + gain error"


def test_a_registry_says_what_is_known():
    known: Registry[int] = Registry("number", {"one": 1})
    assert known.register("two", 2) == 2 == known["two"] and list(known) == ["one", "two"]
    with pytest.raises(ParameterError, match="^number must be one of one, two, but 'three' was given.$"):
        known["three"]
    with pytest.raises(ParameterError, match="^number must be a name that is free, but 'one' was given.$"):
        known.register("one", 3)
    assert known.get("three") is None
