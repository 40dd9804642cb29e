"""How every page begins: its question, and its answer in one or two plain sentences.

The answer is worded by the page's headline findings: each has a sentence for every outcome, so that it changes with
the finding. The same findings stand in front of the others at the end of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lib.verdicts import Finding, Findings, Outcome
from paper.words.numbers import UNJUDGED, Shown
from paper.words.outcomes import ahead
from paper.words.spelling import in_sentence

if TYPE_CHECKING:
    from paper.studies.base import Page, Study


class Said(NamedTuple):
    """A sentence for each outcome of a finding; ``{value}``, ``{low}`` and ``{high}`` are its numbers, ``{size}`` the
    value without its sign, ``{ahead}`` the words of :func:`ahead`.
    """

    holds: str
    fails: str
    open: str

    def of(self, finding: Finding) -> str:
        """The sentence of this finding."""
        words = {Outcome.HOLDS: self.holds, Outcome.DOES_NOT_HOLD: self.fails, Outcome.INCONCLUSIVE: self.open}
        low, high = finding.interval
        return words[finding.outcome].format(
            value=Shown(finding.value),
            size=Shown(abs(finding.value)),
            ahead=ahead(finding.value),
            low=Shown(low),
            high=Shown(high),
        )


@dataclass(frozen=True)
class Opening:
    """What a page asks, and the ``headlines`` that answer it: findings by their id behind the page's name, with their
    sentences; none (None) for one that is shown in front of the others and needs no sentence.

    ``told`` makes the answer from the page where no finding of its own does, by ``module:function``.
    """

    question: str
    headlines: Mapping[str, Said | None] = field(default_factory=dict)
    told: str = ""


def name_of(study: Study) -> str:
    """The name of the page that a study is on: its notebook's, and for one that serves several with what it is on."""
    subject = getattr(study, "perturbation", None)
    return f"{study.notebook()}_{subject}" if study.notebook() == "perturbation" else study.notebook()


def of(study: Study) -> Opening:
    """The opening of the page that this study is on."""
    return OPENINGS[study.notebook()]


def headlines(study: Study) -> list[str]:
    """The ids of the findings that answer the page's question, in order; none for a page without an opening."""
    found = OPENINGS.get(study.notebook())
    return [] if found is None else [_id(name_of(study), one) for one in found.headlines]


def _id(page: str, name: str) -> str:
    """A headline's whole id. What begins with a dot belongs to the page, anything else is whole already."""
    return f"{page}{name}" if name.startswith(".") else name


def answer(page: Page) -> str:
    """The page's answer (Markdown), on photographs too where it comes out otherwise there."""
    opening = of(page.subject)
    if opening.told:
        module, _, function = opening.told.partition(":")
        return _called(module, function)(page)
    name = name_of(page.subject)
    said = {_id(name, one): words for one, words in opening.headlines.items() if words is not None}
    told = [words.of(found) for one, words in said.items() if (found := page.findings.get(one)) is not None]
    other = page.photographs.findings if page.evidence is not None and page.photographs is not None else None
    there = "" if other is None else _elsewhere(said, page.findings, other)
    return " ".join(filter(None, [*told, there])) or UNJUDGED


def _called(module: str, function: str) -> Callable[[Page], str]:
    import importlib

    return getattr(importlib.import_module(f"paper.words.{module}"), function)


def _elsewhere(said: Mapping[str, Said], here: Findings, there: Findings) -> str:
    """Whether photographs give the same answer; what they say otherwise."""
    asked = [name for name in said if here.get(name) is not None and there.get(name) is not None]
    differ = [name for name in asked if here.get(name).outcome is not there.get(name).outcome]  # type: ignore[union-attr]
    if not asked:
        return ""
    if not differ:
        whole = all(there.get(name) is not None for name in said if here.get(name) is not None)
        return f"{'On photographs it' if whole else 'What was asked of photographs'} comes out the same."
    told = " ".join(said[name].of(there.get(name)) for name in differ)  # type: ignore[arg-type]
    if len(differ) == len(asked):
        return f"*On photographs* it comes out otherwise. {told}"
    # The sentences are whole ones, and begin as such.
    return f"*On photographs not all of it comes out so.* {told}"


def opening(page: Page) -> str:
    """Question and answer of a page (Markdown)."""
    return boxed(of(page.subject).question.format(**_named(page.subject)), answer(page))


def boxed(question: str, told: str) -> str:
    """A question and its answer, as every page begins (Markdown)."""
    return f"**Question.** {question}\n\n**Answer.** {told}"


def _named(study: Study) -> dict[str, str]:
    physics = getattr(study, "physics", None)
    title = getattr(physics, "title", "")
    # In a sentence: a name of capitals keeps them.
    return {"title": in_sentence(title)}


_GATE = "A gate is a small network that scales a learned prompt for each picture."

#: Every page that has a question, by its notebook.
OPENINGS: dict[str, Opening] = {
    "world": Opening(
        "Can a CLIP that is small enough for two CPU cores read the pictures that gates are tested on?",
        {
            ".shape": Said(
                "Yes: it names the shape in {value:.0f} % of fresh pictures, far above guessing.",
                "No: it names the shape in {value:.0f} % of fresh pictures, no better than guessing.",
                "Perhaps: it names the shape in {value:.0f} % of fresh pictures.",
            ),
            ".held_out": Said(
                "It also names pairs of colour and shape that it was never shown ({value:.0f} %).",
                "Pairs of colour and shape that it was never shown it does not name ({value:.0f} %).",
                "Whether it names pairs of colour and shape that it was never shown is open ({value:.0f} %).",
            ),
        },
    ),
    "photo_world": Opening(
        "Is there a second CLIP of about the same size that knows photographs, and how much does it know?",
        {
            ".twenty_of_seen": Said(
                "Yes: among twenty classes that it was trained on it names the right one in {value:.0f} % of new "
                "photographs.",
                "A modest one: among twenty classes that it was trained on it names the right one in {value:.0f} % of "
                "new photographs, which is less than was asked of it, where guessing gives 5 %.",
                "A modest one: among twenty classes that it was trained on it names the right one in {value:.0f} % of "
                "new photographs, where guessing gives 5 %.",
            ),
            ".looks": Said(
                "How a photograph looks (grey, blurred, tinted) it tells nearly always ({value:.0f} %).",
                "How a photograph looks (grey, blurred, tinted) it does not tell reliably ({value:.0f} %).",
                "How a photograph looks (grey, blurred, tinted) it tells in {value:.0f} %.",
            ),
            ".objects": None,
        },
    ),
    "learners": Opening(
        "How far do prompt learners get without any gate, with a few pictures per class?",
        {
            ".every.tuned": Said(
                "Tuned on validation pictures, every one of them beats a hand-written sentence on every task.",
                "Not always as far as a hand-written sentence: even tuned on validation pictures, the worst of them "
                "is {ahead} it on one task.",
                "Tuned on validation pictures, whether every one of them beats a hand-written sentence is open "
                "(the worst: {value:+.1f} points).",
            ),
            ".every.short": Said(
                "Trained for few steps they all beat it, too.",
                "Trained for few steps, the worst is {ahead} it: the recipe decides as much as the learner.",
                "Whether they all do after few steps is open.",
            ),
            ".size.tuned": None,
        },
    ),
    "gradient_imbalance": Opening(
        "Is the gradient of a gate really hundreds of times smaller than that of its prompts, and does that say that "
        "the gate will fail?",
        {
            ".reported.from": Said(
                "Yes: before training the prompts' gradient is larger by {value:.1f} powers of ten in the mean.",
                "Not so much: before training the prompts' gradient is larger by {value:.1f} "
                "powers of ten in the mean.",
                "A hundred times or nearly: before training the prompts' gradient is larger by {value:.1f} powers of "
                "ten in the mean.",
            ),
            ".through_training": Said(
                "In the mean over a short training it is {value:.1f}.",
                "In the mean over a short training it is {value:.1f} only.",
                "In the mean over a short training it is {value:.1f}, give or take too much to call it ten times.",
            ),
            ".null": Said(
                "It says nothing about failing: in a network with random weights, where a gate has nothing to do, "
                "there is such a gap before training too ({value:.1f} powers of ten).",
                "In a network with random weights, where a gate has nothing to do, there is no such gap before "
                "training ({value:.1f} powers of ten).",
                "Whether a network with random weights has such a gap before training is open ({value:.1f} powers of "
                "ten).",
            ),
            ".meeting": None,
        },
    ),
    "gap_origin": Opening(
        "Why is a gate's gradient so much smaller than that of its prompts, and what closes the gap?",
        {
            ".longer": Said(
                "Because prompts start short: ten times as long, they close the gap by {value:.1f} powers of ten.",
                "Not because prompts start short: ten times as long, they close the gap by {value:.1f} powers of ten "
                "only.",
                "Perhaps because prompts start short: ten times as long, they close the gap by {value:.1f} powers of "
                "ten.",
            ),
            ".turned": Said(
                "Turning prompts towards their gradient closes it, too.",
                "Turning prompts towards their gradient does not close it: the gradient turns away.",
                "Whether turning prompts towards their gradient closes it is open.",
            ),
            ".gap.temperature": Said(
                "On the gate's side a steeper sigmoid closes it by as much as was predicted.",
                "On the gate's side a steeper sigmoid does not close it by as much as was predicted.",
                "Whether a steeper sigmoid closes it by as much as was predicted is open.",
            ),
        },
    ),
    "gate_degradation": Opening(
        "Do gates turn into constants, which give every picture the same?",
        {
            ".constant.after": Said(
                "After a short training, yes: what a gate knows of its picture is {value:.3%} of what it could.",
                "After a short training, no: a gate varies with its picture ({value:.3%} of what it could).",
                "After a short training it is open whether they do ({value:.3%} of what they could).",
            ),
            ".constant.before": Said(
                "But they were constant before the first step, so nothing was lost.",
                "Before the first step they varied.",
                "",
            ),
            ".long.conflict.adam.constant": Said(
                "Trained for long by Adam they stay so, even where the right prompt depends on the picture.",
                "Trained for long by Adam, where the right prompt depends on the picture, they come to life, to "
                "{value:.0%} of that.",
                "Whether they come to life when they are trained for long by Adam, where the right prompt depends on "
                "the picture, is open ({value:.0%}).",
            ),
            ".long.coarse.adam.constant": Said(
                "On an ordinary task they stay so after as many steps ({value:.2%}).",
                "So they do on an ordinary task, to {value:.0%}.",
                "Whether they do on an ordinary task is open ({value:.0%}).",
            ),
        },
    ),
    "gate_value": Opening(
        "Does a gate decide anything, or could it stand still?",
        {
            ".ordinary.over_mean": Said(
                "After a short training on ordinary tasks it could stand still: holding it at its mean changes the "
                "accuracy by {value:.1f} points.",
                "After a short training on ordinary tasks it decides something: held at its mean it loses {value:.1f} "
                "points.",
                "After a short training on ordinary tasks it is open whether it decides anything ({value:.1f} points).",
            ),
            ".control.over_mean": Said(
                "The same gate can decide much: on a task that was built to need it, and trained for long, it loses "
                "{value:.0f} points when it is held still.",
                "Nor does it decide much on a task that was built to need it ({value:.0f} points).",
                "On a task that was built to need it, it loses {value:.0f} points when it is held still, which "
                "is open.",
            ),
            ".ordinary.gain_fixed": None,
        },
    ),
    "fair_trial": Opening(
        f"{_GATE} Is a learner with a gate better than the same learner without one, when both are trained until they "
        "have nothing left to learn?",
        {
            ".many.over_fixed": Said(
                "On ordinary tasks it is not: CoOp with and without a gate end within a point of each other.",
                "On ordinary tasks CoOp with a gate is {ahead} CoOp without one.",
                "On ordinary tasks no gain is seen: CoOp with a gate is {ahead} CoOp without one "
                "(the difference is between {low:+.1f} and {high:+.1f}).",
            ),
            ".many.depends": Said(
                "Yet the learner breaks when its gate is held still ({value:.1f} points): the prompts have grown used "
                "to it.",
                "Nor does the learner mind when its gate is held still ({value:.1f} points).",
                "Whether the learner minds when its gate is held still is open ({value:.1f} points).",
            ),
            ".planted.tuned.over_fixed": Said(
                "Where the right prompt depends on the picture by construction, the gate is worth {value:.0f} points "
                "to CoOp, whose prompts are in the text alone.",
                "Even where the right prompt depends on the picture by construction, CoOp with a gate is {ahead} CoOp "
                "without one.",
                "Where the right prompt depends on the picture by construction, it is open how much a gate is worth to "
                "CoOp, whose prompts are in the text alone ({value:+.0f} points).",
            ),
            ".planted.tuned.maple.over_fixed": Said(
                "To MaPLe, whose vision prompts see the picture themselves, it is worth {value:.0f}.",
                "Not so to MaPLe, whose vision prompts see the picture themselves: with a gate it is {ahead} itself "
                "without one.",
                "Whether it is worth anything to MaPLe, whose vision prompts see the picture themselves, is open "
                "({value:+.0f}).",
            ),
        },
    ),
    "escape": Opening(
        "When a gate does nothing: was there nothing to gain, or was the training too slow to find it?",
        {
            ".gain": Said(
                "On a task that was built to need a gate there is much to gain: {value:.0f} points over no gate, for a "
                "gate that is told what to look at and has prompts that start from words.",
                "Even on a task that was built to need a gate there is little to gain ({value:.0f} points).",
                "Whether there is anything to gain is open ({value:.0f} points).",
            ),
            ".short": Said(
                "Plain SGD is too slow to find it: after 1200 steps most gates still do nothing.",
                "Plain SGD finds it: after 1200 steps most gates are at work.",
                "Whether plain SGD is too slow to find it these seeds leave open.",
            ),
            ".adaptive.adam_for_the_gate": Said(
                "Adam on the gate alone is enough to wake it within those steps.",
                "Adam on the gate alone does not wake it.",
                "Whether Adam on the gate alone wakes it is open.",
            ),
        },
    ),
    "predictors": Opening(
        "Is there a number, measured before or early in training, that tells which gates will gain anything?",
        {
            ".before.gap": Said(
                "The gap between the gradients tells it before the first step: of a gate that will gain and one that "
                "will not, it ranks the right one first with a chance of {value:.2f}.",
                "Not the gap between the gradients: before the first step it ranks a gate that will gain before one "
                "that will not with a chance of {value:.2f}, where a coin has 0.5.",
                "Perhaps the gap between the gradients: before the first step it ranks a gate that will gain "
                "before one "
                "that will not with a chance of {value:.2f}, where a coin has 0.5.",
            ),
            ".early.selected.over_loss": Said(
                "After an eighth of the steps there is something: the sign that does best on other tasks beats a look "
                "at the loss.",
                "After an eighth of the steps the sign that does best on other tasks is no better than a look at the "
                "loss.",
                "Whether the sign that does best on other tasks beats a look at the loss after an eighth of the steps "
                "is open.",
            ),
        },
    ),
    "photographs": Opening(
        "Do gates behave on photographs as they do in a world that was drawn for the purpose?",
        told="photographs:answer",
    ),
    "guide": Opening(
        "I have a gate, or want one. What should I measure, and what should I change?",
        {
            "predictors.before.gap": Said(
                "Measure how small its gradient is before training: that tells whether it will gain.",
                "Do not judge it by its small gradient: before training that does not tell whether it will gain.",
                "",
            ),
            "fair_trial.many.over_blind": Said(
                "Train a twin whose gate sees another picture: on ordinary tasks the two end within a point.",
                "Train a twin whose gate sees another picture: on ordinary tasks the two end {value:+.1f} "
                "points apart.",
                "",
            ),
            "escape.adaptive.adam_for_the_gate": Said(
                "Where there is something to gain, train the gate by Adam: that alone wakes it.",
                "Where there is something to gain, Adam on the gate alone is not enough.",
                "",
            ),
        },
    ),
    "real_clip": Opening("Do gates gain anything on a CLIP of full size?", told="real:short"),
    "operator": Opening(
        "What does an analog chip do to a layer, and how much does it matter?",
        {
            ".estimate": None,
            ".chip.last": Said(
                "It puts a chain of voltages, conductances, wires and converters in the place of a matrix, and that "
                "costs a small network {value:.1f} points by the last time looked at.",
                "It puts a chain of voltages, conductances, wires and converters in the place of a matrix; a small "
                "network on phase-change chips has lost no more than {value:.1f} points by the last time looked at.",
                "It puts a chain of voltages, conductances, wires and converters in the place of a matrix; "
                "whether that "
                "costs a small network five points or more is open ({value:.1f}).",
            ),
            ".square.small": Said(
                "What wires lose grows with the square of the array's side, so small arrays are the plainest remedy.",
                "What wires lose does not grow with the square of the array's side.",
                "How what wires lose grows with the array's side is open.",
            ),
        },
    ),
    "perturbation": Opening(
        "How much does a network lose to {title}, and can training win that back?",
        {".costs": None, ".won_back.autograd.mildest": None, ".won_back.autograd.harshest": None, ".arms.beyond": None},
        told="perturbation:short_answer",
    ),
    "separation": Opening(
        "Do hardware distortions fall into two camps, those that training makes up for and those that it cannot?",
        {".classes": None, ".ir_drop.severe": None, ".read_noise.severe": None},
        told="separation:short_answer",
    ),
    "hardware_trial": Opening(
        "Which hardware distortions can training make up for, beyond what comes back without any training, and could "
        "the gradient have told?",
        {".clipping": None, ".rates": None, ".class.sides.autograd": None},
        told="hardware_trial:short_answer",
    ),
    "mechanisms": Opening(
        "Why does training make up for some distortions and not for others?",
        {
            ".read_noise.ratio.mlp": Said(
                "Against noise it raises each layer's signal over its errors: take that away, and less than "
                "half of the "
                "loss comes back.",
                "Against noise it does not need to raise each layer's signal over its errors: without that, "
                "half of the "
                "loss still comes back.",
                "Whether it works against noise by raising each layer's signal over its errors is open.",
            ),
            ".adc.both.mlp": Said(
                "A coarse converter needs two things at once: a gradient that passes its rounding, and a digital last "
                "layer.",
                "Against a coarse converter even a gradient that passes its rounding and a digital last layer together "
                "are too little.",
                "Whether a gradient that passes the rounding and a digital last layer are enough against a coarse "
                "converter is open.",
            ),
            ".layers.margin.others": Said(
                "One backward pass finds the layer that is best mended first, {value:.0f} points ahead of the others.",
                "One backward pass does not find the layer that is best mended first ({value:.0f} points).",
                "Whether one backward pass finds the layer that is best mended first is open ({value:.0f} points).",
            ),
        },
    ),
    "cifar": Opening(
        "On a task where published devices really hurt, is training through the hardware worth it?",
        {
            ".inside": Said(
                "They do hurt: {value:.0f} of six kinds of distortion cost at least five points at severities that "
                "devices have.",
                "They hardly hurt: {value:.0f} of six kinds of distortion cost at least five points at severities that "
                "devices have.",
                "Whether they hurt is open ({value:.0f} of six kinds).",
            ),
            ".beyond": Said(
                "Training with noise wins back {value:.1f} points more than the best that needs no training.",
                "Training with noise wins back no more than the best that needs no training ({value:.1f} points).",
                "Whether training with noise wins back more than the best that needs no training stays open "
                "({value:+.1f} points in the mean).",
            ),
            "resnet.norm": None,
        },
    ),
    "beyond_training": Opening(
        "What does training win that no cheaper measure does?",
        {
            ".read_noise.training": Said(
                "Against noise in reading it wins more than anything cheaper ({value:.1f} points).",
                "Against noise in reading, nothing: a cheaper measure does as much.",
                "Against noise in reading it is open whether it wins anything.",
            ),
            ".drift.factor": Said(
                "Against drift a single number per layer does more than training.",
                "Against drift training does as much as a single number per layer.",
                "Against drift it is open whether a single number per layer does more.",
            ),
            ".ir_drop.predistorted": Said(
                "Against lossy wires, programming the devices higher from the start does more.",
                "Against lossy wires, training does as much as programming the devices higher from the start.",
                "Against lossy wires it is open whether programming the devices higher from the start does more.",
            ),
        },
    ),
    "composed": Opening(
        "A real chip has every imperfection at once. Does what each does alone say what they do together?",
        {
            ".losses.beyond": Said(
                "No: together they cost {value:.0f} points more than the sum of what each costs alone.",
                "Together they cost no more than the sum of what each costs alone ({value:+.0f} points).",
                "Whether together they cost more than the sum of what each costs alone is open.",
            ),
            ".noise.ordered": Said(
                "What does add up is noise over signal: it foretells the loss.",
                "Noise over signal does not add up to the loss either.",
                "Whether noise over signal foretells the loss is open.",
            ),
            ".staircase": None,
        },
    ),
    "peers": Opening(
        "A study of hardware without hardware stands on its models. Are they those of the field?",
        {
            ".reading.here": Said(
                "Yes: our simulated chips follow the published formulas.",
                "No: our simulated chips do not follow the published formulas.",
                "Whether our simulated chips follow the published formulas is open.",
            ),
            "simulators.day.none.aihwkit": Said(
                "After a day of drift another simulator gives the same networks the same accuracy, to a point.",
                "After a day of drift another simulator gives the same networks another accuracy ({value:+.1f} "
                "points).",
                "Whether another simulator gives the same networks the same accuracy is open.",
            ),
            "simulators.wires.1000.aihwkit": Said(
                "So it does on very bad wires.",
                "On very bad wires they part by {size:.0f} points, and the page says why.",
                "On very bad wires this is open.",
            ),
        },
    ),
    "foresight": Opening(
        "Before you pay for a training: could a few gradients have told you how it ends?", told="foresight:short_answer"
    ),
    "claims": Opening("Which claims of this book hold, and was each criterion fixed beforehand?", told="claims:short"),
}
