"""A seventh perturbation runs on any module, and beside other parts of a chip. (Its page: test_hardware_studies.)"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from lib.checks import ParameterError
from lib.hardware.crossbars import on_chip
from lib.hardware.devices import HARDWARE, Composite
from lib.hardware.perturbations import ADC, Perturbation
from lib.prompts.gates import GATES, Length
from lib.prompts.learners import LEARNERS
from lib.registry import Registry
from paper.figures import composed as composed_figures
from paper.studies.composed import Composed
from paper.studies.gate_value import GateValue
from paper.studies.perturbation import PerturbationStudy


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
    assert composed_figures.name(chosen.classes) == "ADC + Gain error"


def test_a_registry_says_what_is_known():
    known: Registry[int] = Registry("number", {"one": 1})
    known.register("two", 2)
    assert known["two"] == 2 and list(known) == ["one", "two"]
    with pytest.raises(ParameterError, match="^number must be one of one, two, but 'three' was given.$"):
        known["three"]
    assert known.get("three") is None


@pytest.mark.parametrize(
    ("registry", "wrong", "words"),
    [
        (GATES, nn.Linear, "a subclass of lib.prompts.gates.Gate"),
        (GATES, Length("length", 1, 4, 8), "a subclass of lib.prompts.gates.Gate"),
        (LEARNERS, {"text": "shallow"}, "an instance of lib.prompts.learners.Design"),
        (HARDWARE, GainError, "an instance of lib.hardware.perturbations.Perturbation"),
    ],
)
def test_what_is_of_another_kind_is_refused_and_breaks_no_later_study(registry, wrong, words):
    before = dict(registry)
    with pytest.raises(ParameterError, match=f"^{registry.kind} must be {words}, but "):
        registry.register("mine", wrong)
    assert dict(registry) == before
    assert GateValue().cells() and PerturbationStudy().cells()
