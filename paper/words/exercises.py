"""The exercises of every page: a question, the whole command that answers it, what it takes, and what comes out.

What comes out is computed and kept in ``results/exercises.json`` by :mod:`paper.tools.exercises`: from the committed
evidence where every cell of an exercise is in it, else measured and committed beside it.
"""

from __future__ import annotations

import functools
import html
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper import ROOT
from paper.studies.base import Study
from paper.tools import profiles
from paper.tools.ways import about
from paper.words.opening import name_of

#: What the tool has found.
RESULTS = ROOT / "results" / "exercises.json"
#: Stands for a folder that only the reader has.
FOLDER = "FOLDER"


@dataclass(frozen=True)
class Exercise:
    """A question about a page, and the parameters of the run that answers it.

    ``shows`` picks findings by a part of their id, in this order; nothing: those that answer the page's question.
    ``notebook`` is another page's where the answer is there. ``needs`` says what a reader must have that does not come
    with the book; where the evidence has no answer either, none is expected. ``tells`` is ``module:function`` of what
    makes a sentence of the study where there are no findings.
    """

    asked: str
    given: Mapping[str, Any]
    shows: Sequence[str] = ()
    notebook: str = ""
    needs: str = ""
    tells: str = field(default="", repr=False)

    def command(self, page: str) -> str:
        """The whole command for a page."""
        given = "".join(f" -p {name} {shlex.quote(profiles.text(value))}" for name, value in self.given.items())
        return f"python -m paper.tools.pages run notebooks/{self.notebook_of(page)}.ipynb out.ipynb{given}"

    def notebook_of(self, page: str) -> str:
        """The notebook that the command runs."""
        return self.notebook or _book()[page].notebook


@functools.cache
def _book() -> Mapping[str, profiles.Page]:
    """The pages of the book."""
    return profiles.profile(ROOT / "profiles" / "quick.yaml")


#: Classes with a page of their own, by name: pages of gates, which have exercises too, know nothing of hardware.
_CLASSES = ("read_noise", "variability", "drift", "stuck_at", "ir_drop", "adc")
#: As much as the evidence of a class, of gates, and of the trial has.
_CLASS: dict[str, Any] = {"severities": "all", "seeds": 5, "chips": 25, "gradients": 32}
_MECHANISMS: dict[str, Any] = {"sweep": "all", "bits": [4, 3, 2], "seeds": 5, "chips": 25}
_GATES: dict[str, Any] = {"seeds": 8, "test_size": 240}


def _of_class(name: str) -> tuple[Exercise, ...]:
    own = {"perturbation": name}
    there = {"perturbations": name, "networks": "mlp,cnn", "rules": "autograd,noise_injection", **_CLASS}
    return (
        Exercise("Does your machine agree with the evidence, cell by cell?", {**own, **_CLASS, "closer": "all"}),
        Exercise("Does a convolutional network bear it as well?", there, notebook="separation"),
    )


EXERCISES: dict[str, tuple[Exercise, ...]] = {
    "world": (
        Exercise("What is left of it if the weights are drawn at random?", {"pretrained": "random"}),
        Exercise("Does your machine agree with all of the evidence?", {"seeds": 4}),
    ),
    "photo_world": (
        Exercise("How a photograph looks, alone: do fewer pictures tell as much?", {"task": "looks", "pictures": 60}),
    ),
    "learners": (
        Exercise(
            "Which learners beat zero-shot where the pictures look different, once they are tuned?",
            {"task": "shift", "recipes": "tuned", "tuned_learner": "coop,cocoop,vpt,maple", **_GATES},
        ),
    ),
    "gradient_imbalance": (
        Exercise(
            "MaPLe on all four tasks, and all eight learners surveyed: is the gap as wide?",
            {"learner": "maple", "task": "coarse,fine,shift,mis_specified", **_GATES}
            | {"surveyed": "coop,cocoop,vpt_shallow,vpt,ivlp,maple,bimaple,pool"},
        ),
    ),
    "gap_origin": (
        Exercise("Do vision prompts with a gate over layers answer alike?", {"learner": "vpt", "gate": "depth"}),
        Exercise("What if everything starts from prompts ten times as long?", {"prompt_std": 0.2}),
    ),
    "gate_degradation": (
        Exercise(
            "One learner, one gate, twenty times the steps on the conflict task: does the gate move?",
            {"learner": "coop", "gate": "length", "long_steps": 2000, "long_tasks": "conflict", **_GATES},
        ),
    ),
    "gate_value": (
        Exercise(
            "Where pictures look different, from one shot to sixteen: does the gate gain anything?",
            {"task": "shift", "few_shots": [1, 2, 4, 8, 16], **_GATES},
        ),
    ),
    "fair_trial": (
        Exercise(
            "The conflict task, one learner, tuned: does its gate depend, and does it gain?",
            {"task": "conflict", "recipes": "tuned", "tuned_learner": "coop", **_GATES},
        ),
    ),
    "escape": (
        Exercise(
            "The rate's part of the law, with time for slow gates: which become adaptive?",
            {"rates": [1, 10, 100], "steps": 1200, "looks": [100, 400, 1200], "seeds": 8},
        ),
    ),
    "predictors": (
        Exercise(
            "Two strengths of the conflict by three rates, one learner: does anything tell beforehand?",
            {"strengths": [0.5, 1], "rates": [0.5, 1, 3], **_GATES},
        ),
    ),
    "photographs": (
        Exercise("One page alone: which of its claims differ, and would you have expected those?", {"pages": "escape"}),
    ),
    "guide": (Exercise("What follows from one page alone, and would you have believed it?", {"pages": "escape"}),),
    "real_clip": (
        Exercise(
            "One data set, one picture a class, two seeds: which way do the gates point?",
            {"task": "dtd", "seeds": 2, "few_shots": [1], "protocols": "few_shot", "root": FOLDER},
            needs=f"the data set in {FOLDER}, the weights of ViT-B/16 and a GPU",
        ),
    ),
    "operator": (
        Exercise("An array with ten times the resistance: does the loss change, or only its scale?", {"ohm": 100.0}),
        Exercise("Does a longer training make the network more sensitive to a phase-change chip?", {"steps": 1000}),
    ),
    **{f"perturbation_{name}": _of_class(name) for name in _CLASSES},
    "separation": (
        Exercise(
            "All classes by vanilla training alone: which findings stay?",
            {"perturbations": "all", "networks": "mlp", "rules": "autograd", **_CLASS},
        ),
    ),
    "hardware_trial": (
        Exercise(
            "What does a scale for each column leave to train?",
            {"families": "variability,variability_columns", "arms": "autograd,noise_injection", "seeds": 4}
            | {"gradients": 32, "more_seeds": 3},
        ),
    ),
    "mechanisms": (
        Exercise("How much of the map of faults is enough?", {"classes": "stuck_at", **_MECHANISMS}),
        Exercise("Which of a transformer's products breaks first?", {"layered": "vit", **_MECHANISMS}),
    ),
    "cifar": (
        Exercise(
            "On all pictures, with six repeats of everything: does your machine agree with the evidence?",
            {"pictures": "all", "repeats": 6, "root": FOLDER},
            needs=f"CIFAR-10 in {FOLDER}",
        ),
    ),
    "beyond_training": (
        Exercise(
            "Faults alone, on all severities and as many chips as the evidence: which measure comes first?",
            {"perturbations": "stuck_at", "yield_chips": 100, **_CLASS},
        ),
    ),
    "composed": (
        Exercise(
            "Every part taken out in turn, at four ages: which one costs most in company?",
            {"pairs": "auto", "without": "all", "times": [20.0, 86400.0, 31500000.0, 3150000000.0]}
            | {"seeds": 5, "chips": 25},
        ),
    ),
    "peers": (
        Exercise(
            "As many arrays and chips as the evidence: do the readings still differ?",
            {"seeds": 8, "sides": [8, 16, 32, 64], "networks": 10, "chips": 100},
        ),
    ),
    "foresight": (
        Exercise("Hardware alone: which predictor would you have named first?", {"pages": "hardware_trial"}),
    ),
    "own": (
        Exercise(
            "A converter in place of the noise: what becomes of the gradient?",
            {"perturbation": "adc", "severities": [6, 3]},
            tells="paper.studies.own:reported",
        ),
    ),
    "claims": (
        Exercise("What is open? For which of these would you pay for more seeds?", {"outcome": "inconclusive"}),
    ),
}


@functools.cache
def results(path: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """What was found, by page; nothing where nothing was."""
    return json.loads(path.read_text(encoding="utf-8"))["pages"] if path.is_file() else {}


def result(page: str, number: int, path: Path = RESULTS) -> dict[str, Any] | None:
    """What came out of one exercise; None where it was not run with these parameters."""
    kept = results(path).get(page, [])
    given = json.loads(json.dumps(EXERCISES[page][number].given))
    return next((one for one in kept if one["given"] == given), None)


def _expected(found: Mapping[str, Any]) -> str:
    """The folded result, as Markdown with HTML around it."""
    columns = {"claim": "Finding", "value": "Value", "outcome": "Outcome", "here": "On this page"}
    if all(one["here"] == "–" for one in found["findings"]):
        del columns["here"]
    rows = [[one[name].replace("\n", " ") for name in columns] for one in found["findings"]]
    lines = [list(columns.values()), ["---"] * len(columns), *rows] if rows else []
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    parts = [found["said"], table, f"*{found['from']}*"]
    body = "\n\n".join(filter(None, parts))
    return f'<details class="expected"><summary>What comes out</summary>\n\n{body}\n\n</details>'


def told(study: Study, path: Path = RESULTS) -> str:
    """The exercises of the page that a study is on (Markdown); empty for one that has none."""
    page = name_of(study)
    if page not in EXERCISES:
        return ""
    parts: list[str] = []
    for number, exercise in enumerate(EXERCISES[page]):
        found = result(page, number, path)
        takes = f"It needs {exercise.needs}." if exercise.needs else ""
        if found is None:
            end = "What comes out was not measured here." if exercise.needs else "What comes out is not computed yet."
        else:
            takes, end = " ".join(filter(None, [takes, f"{_takes(found['seconds'])}."])), _expected(found)
        title = f"Exercise {number + 1}" if len(EXERCISES[page]) > 1 else "Exercise"
        command = f"```sh\n{exercise.command(page)}\n```"
        parts += filter(None, [f"**{title}.** {exercise.asked}", command, takes, end])
    return "\n\n".join(parts)


def _takes(seconds: float) -> str:
    """What a run costs beyond the page itself."""
    if seconds < 1:
        return "It computes nothing anew and takes as long as the page itself"
    return f"It computes for {about(seconds)} on one core, besides what the page itself takes"


def plain(text: str) -> str:
    """A text that stands in a table of Markdown."""
    return html.escape(text, quote=False).replace("|", "\\|")
