"""The plan for scale: its arithmetic is what torch counts, and its parts add up."""

from __future__ import annotations

import re

import open_clip
import pandas as pd
import pytest
import torch
from docutils import nodes
from torch.utils.flop_counter import FlopCounterMode

from lib.checks import ParameterError
from lib.prompts import backbone, recipes
from lib.prompts.learners import Learner
from lib.runtime import stream
from paper import scale
from paper.tools import computed

GIVEN = scale.Assumptions()


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return scale.plan(GIVEN)


def counted(work) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_the_towers_of_a_vit_compute_what_torch_counts():
    """All tokens of all blocks, on tensors without numbers; the rest (patches, projections) is small."""
    with torch.device("meta"):
        model = open_clip.CLIP(**scale.sizes())
        pictures, words = torch.empty(1, 3, 224, 224), torch.zeros(1, 77, dtype=torch.long)
    own = scale.sizes()
    found = counted(lambda: model.visual(pictures))
    whole = scale.tower(own["vision_cfg"]["layers"], own["vision_cfg"]["width"], scale.patches())
    assert whole == pytest.approx(found, rel=0.02)
    # 17.6 billion multiplications and additions, as everyone says of a ViT-B/16.
    assert whole / 2 == pytest.approx(17.6e9, rel=0.02)
    blocks = counted(lambda: model.transformer(model.token_embedding(words)))
    assert scale.tower(own["text_cfg"]["layers"], own["text_cfg"]["width"], 77) == pytest.approx(blocks, rel=0.02)


def test_the_towers_as_this_library_runs_them_compute_what_torch_counts():
    small, (layers, width) = backbone.load("miniclip", "random"), (3, 128)
    x = torch.randn(2, small.patch_tokens, width, generator=stream(0, "x"))
    with torch.no_grad():
        found = counted(lambda: small.vision_tower(x))
    assert 2 * scale.tower(layers, width, small.patch_tokens, 1) == pytest.approx(found, rel=0.03)
    assert scale.tower(layers, width, 40, 40) == pytest.approx(scale.tower(layers, width, 40))


@pytest.mark.parametrize(("name", "gate"), [("vpt", "none"), ("coop", "length")])
def test_a_backward_pass_through_frozen_towers_costs_a_forward_pass(name, gate):
    small = backbone.load("miniclip", "random")
    learner = Learner(name, small, ["circle", "square", "ring"], gate=gate)
    params = {key: value.requires_grad_() for key, value in learner.initial(stream(0, "initial")).items()}
    features = torch.randn(2, small.embed_dim, generator=stream(0, "features"))
    patches = torch.randn(2, small.patch_tokens, small.vision_width, generator=stream(0, "patches"))
    forward = counted(lambda: learner.logits(params, features, patches).logsumexp(1).sum())
    both = counted(lambda: learner.logits(params, features, patches).logsumexp(1).sum().backward())
    assert both / forward == pytest.approx(2, rel=0.12)


def test_the_plan_has_every_training_once(cells):
    assert len(scale.DATA) == 11 and len(scale.RECIPES) == 8 and len(scale.GATES) == 6
    assert not cells.duplicated(["data", "learner", "gate"]).any()
    assert len(cells) == 11 * len(scale.kinds())
    assert set(scale.RECIPES.values()) <= set(recipes.RECIPES)
    assert {(name, "none") for name in scale.RECIPES} <= set(scale.kinds())
    # Gates that choose need a pool, and only they have one.
    assert {gate for name, gate in scale.kinds() if name == "pool"} >= {"soft", "top_k", "gumbel"}


def test_parts_add_up_and_hours_follow(cells):
    assert (cells[list(scale.PARTS)] >= 0).all(axis=None)
    assert cells[list(scale.PARTS)].sum(axis=1).to_numpy() == pytest.approx(cells.whole.to_numpy())
    assert cells.hours.sum() == pytest.approx(cells.whole.sum() / (67e12 * 0.35 * 3600))
    half = scale.plan(scale.Assumptions(busy=GIVEN.busy / 2, seeds=5))
    training = ["text", "vision", "tests"]
    assert half[training].sum(axis=None) == pytest.approx(cells[training].sum(axis=None) / 2)
    # One training by hand: CoOp without a gate on EuroSAT runs its text tower forward and backward in every step.
    own = scale.work("coop", "none", scale.DATA["EuroSAT"], GIVEN)
    assert own.text == 2 * recipes.steps("coop", 10, 16) * scale.text(10, GIVEN.words) and own.vision == 0
    gated = scale.work("coop", "length", scale.DATA["EuroSAT"], GIVEN)
    assert gated.text == 32 * own.text
    assert 1e13 < own.whole < 1e17, "between a second and an hour of a GPU"


def test_the_page_says_the_plan(cells):
    text = scale.summary()
    hours = float(re.match(r"\*\*([\d,]+) GPU hours", text)[1].replace(",", ""))
    assert hours == pytest.approx(cells.hours.sum(), rel=0.05)
    for part in (scale.by_data(), scale.by_learner(), scale.assumed()):
        rows = [line.count("|") for line in part.splitlines()]
        assert len(set(rows)) == 1 and len(rows) > 8
    shares = [float(one) for one in re.findall(r"([\d.]+) % \|", scale.by_data())]
    assert sum(shares) == pytest.approx(100, abs=1)
    said = scale.asked() + scale.bottleneck() + scale.split()
    assert "nan" not in said and "_" not in said


def test_assumptions_are_options(capsys):
    assert scale.main(["--price", "5", "--gpus", "4"]) == 0
    shown = capsys.readouterr().out
    assert "On 4 GPUs" in shown and "| `--price` | 5 |" in shown
    with pytest.raises(ParameterError, match="busy must be .* at most 1, but 2 was given"):
        scale.Assumptions(busy=2)
    with pytest.raises(SystemExit) as refused:
        scale.main(["--seeds", "0"])
    assert refused.value.code == 2


def test_a_page_computes_what_its_function_says():
    class State:
        def nested_parse(self, lines, offset, node):
            node += nodes.paragraph("", "\n".join(lines))

    class Env:
        noted: list[str] = []

        def note_dependency(self, path):
            self.noted.append(path)

    made = computed.Computed.__new__(computed.Computed)
    made.arguments, made.state = ["paper.scale:asked"], State()
    computed.Computed.env = Env()  # type: ignore[assignment]
    try:
        (paragraph,) = made.run()
    finally:
        del computed.Computed.env
    assert paragraph.astext() == scale.asked()
    assert Env.noted == [scale.__file__]
