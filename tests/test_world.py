"""The procedural world: what captions and labels say is what the pictures show."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.checks import ParameterError
from lib.prompts import tasks, world
from lib.prompts.backbone import CONTEXT, WordTokenizer
from lib.runtime import stream
from paper.captions import ATTRIBUTES, captions
from paper.tools.pretrain import GROUP, Batches, Recipe, grouped


def one(**attributes: str) -> world.Scenes:
    """A plain scene of one large centred object; attributes by their names."""
    options = {
        "shape": world.SHAPES,
        "colour": world.COLOUR_NAMES,
        "texture": world.TEXTURES,
        "size": world.SIZES,
        "position": world.POSITIONS,
        "ground_colour": world.COLOUR_NAMES,
        "style": world.STYLES,
        "count": world.COUNTS,
        "kind": world.KINDS,
    }
    chosen = (
        dict(
            shape="square",
            colour="red",
            texture="solid",
            size="large",
            position="centre",
            kind="single",
            ground_colour="blue",
            style="clean",
            count="one",
        )
        | attributes
    )
    index = {name: torch.tensor([options[name].index(value)]) for name, value in chosen.items()}
    rest = {name: torch.zeros(1, dtype=torch.long) for name in ("ground", "shape2", "colour2", "clutter")}
    return world.Scenes(**index, **rest)


def object_mask(image: torch.Tensor, colour: str) -> torch.Tensor:
    """Pixels whose nearest of the twelve colours is the given one."""
    palette = torch.tensor(list(world.COLOURS.values()))
    nearest = (image[:, None] - palette.T[:, :, None, None]).square().sum(0).argmin(0)
    return nearest == world.COLOUR_NAMES.index(colour)


def test_same_generator_state_gives_the_same_picture_and_another_a_different_one():
    scenes = world.sample(20, stream(3, "scenes"))
    first, second = (world.render(scenes, stream(0, "picture")) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, world.render(scenes, stream(1, "picture")))
    assert first.min() >= 0 and first.max() <= 1 and first.shape == (20, 3, 32, 32)


@pytest.mark.parametrize("shape", world.SHAPES)
def test_every_shape_shows_its_colour_on_its_background(shape):
    image = world.render(one(shape=shape, colour="red", ground_colour="blue"), stream(0, shape))[0]
    red, blue = object_mask(image, "red"), object_mask(image, "blue")
    assert red.sum() > 60 and blue.sum() > 150
    assert blue[0].float().mean() > 0.9, "the frame of the picture is background"


def test_area_follows_geometry():
    """A square of half-side 0.82 r covers (1.64 r)^2 pixels, a ring pi((0.94 r)^2 - (0.42 r)^2)."""
    radius = world.RADII[2]
    square = [object_mask(world.render(one(), stream(k, "area"))[0], "red").sum().item() for k in range(24)]
    ring = [object_mask(world.render(one(shape="ring"), stream(k, "area"))[0], "red").sum().item() for k in range(24)]
    assert sum(square) / 24 == pytest.approx((1.64 * radius) ** 2, rel=0.08)
    assert sum(ring) / 24 == pytest.approx(torch.pi * radius**2 * (0.94**2 - 0.42**2), rel=0.08)


@pytest.mark.parametrize("count", world.COUNTS)
def test_count_is_the_number_of_connected_objects(count):
    from scipy.ndimage import label

    for seed in range(6):
        image = world.render(one(kind="count", count=count, shape="circle"), stream(seed, "count"))[0]
        assert label(object_mask(image, "red").numpy())[1] == world.COUNTS.index(count) + 1


@pytest.mark.parametrize("place", world.POSITIONS)
def test_position_moves_the_object(place):
    image = world.render(one(size="small", position=place), stream(0, "place"))[0]
    rows, columns = object_mask(image, "red").nonzero().float().mean(0) - 15.5
    along = {"left": -columns, "right": columns, "top": -rows, "bottom": rows}
    if place == "centre":
        assert rows.abs() < 2 and columns.abs() < 2
    else:
        assert along[place] > 5 and max(v for k, v in along.items() if k != place) < 3


def test_textures_differ_and_solid_is_solid():
    pictures = {t: world.render(one(texture=t, style="clean"), stream(0, "texture"))[0] for t in world.TEXTURES}
    inside = (slice(None), slice(12, 20), slice(12, 20))
    assert pictures["solid"][inside].std(dim=(1, 2)).max() < 0.05
    for name, picture in pictures.items():
        if name != "solid":
            assert picture[inside].std(dim=(1, 2)).max() > 0.07, name
    striped = pictures["striped"][inside].mean(0)
    assert striped.mean(1).std() > 3 * striped.mean(0).std(), "stripes run across, not down"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_no_scene_is_held_out_or_invisible(seed, difficulty):
    generator = stream(seed, "property")
    for scenes in (world.sample(64, generator, difficulty=difficulty), grouped(8, difficulty, generator)[0]):
        assert not world.held_out_mask(scenes.shape, scenes.colour).any()
        assert not world.held_out_mask(scenes.shape2, scenes.colour2).any()
        assert (scenes.colour != scenes.ground_colour).all()
        assert (scenes.style != world.STYLES.index("inverted")).all()


def test_held_out_pairs_are_24_and_touch_every_colour_twice():
    assert len(set(world.HELD_OUT)) == 24
    assert all(sum(colour == c for _, c in world.HELD_OUT) == 2 for colour in world.COLOUR_NAMES)


def test_captions_say_what_is_there():
    generator = stream(0, "captions")
    scenes = world.sample(600, generator)
    everything = {name: torch.ones(600, dtype=torch.bool) for name in ATTRIBUTES}
    for i, text in enumerate(captions(scenes, generator, everything)):
        words = text.split()
        shape = world.SHAPES[scenes.shape[i]]
        nouns = {shape, world.SYNONYMS.get(shape, shape)}
        nouns |= {world.plural(noun) for noun in nouns}
        assert nouns & set(words), text
        assert world.COLOUR_NAMES[scenes.colour[i]] in words
        assert world.COLOUR_NAMES[scenes.ground_colour[i]] == words[-2]
        if scenes.kind[i] == 0:
            assert world.TEXTURES[scenes.texture[i]] in words
            assert world.POSITIONS[scenes.position[i]] in words
        if scenes.kind[i] == 1:
            assert world.COUNTS[scenes.count[i]] in words


def test_every_caption_and_prompt_fits_the_vocabulary_and_context():
    tokenizer = WordTokenizer()
    generator = stream(1, "captions")
    scenes = world.sample(2000, generator)
    tokens = tokenizer(captions(scenes, generator))
    assert tokens.shape == (2000, CONTEXT)
    end = tokenizer.ids[world.END]
    assert end == len(world.WORDS) - 1, "the end word has the largest id, which argmax pooling needs"
    assert ((tokens == end).sum(1) == 1).all()
    for task in tasks.TASKS.values():
        tokenizer(task.prompts)
    with pytest.raises(ParameterError, match="'zebra'"):
        tokenizer("a photo of a zebra")
    with pytest.raises(ParameterError, match="at most 20 words"):
        tokenizer("a " * 21)


def test_groups_differ_in_one_attribute_which_is_named():
    scenes, named = grouped(40, 1.0, stream(0, "groups"))
    texts = captions(scenes, stream(0, "texts"), named)
    for g in range(40):
        rows = slice(g * GROUP, (g + 1) * GROUP)
        varied = [name for name in named if named[name][rows].all()]
        assert len(varied) == 1
        attribute = varied[0]
        assert len(getattr(scenes, attribute)[rows].unique()) >= 5
        if attribute == "count":
            assert len(set(texts[rows])) == GROUP
        # A new shape or background can force a new colour; everything else stays.
        for other in ("size", "style", "ground", "kind", "texture", "position"):
            if other != attribute:
                assert len(getattr(scenes, other)[rows].unique()) == 1, (attribute, other)


def test_batches_have_the_asked_size_and_reuse_pictures_with_new_captions():
    recipe = Recipe(steps=10, batch=20, groups=2, pool=2, fresh=0.0)
    batches = Batches(recipe)
    first, words = batches(0)
    again, other_words = batches(1)
    assert len(first) == len(words) == 20
    assert torch.equal(first, again) and words != other_words


# ------------------------------------------------------------------------------------------------- tasks
@pytest.mark.parametrize("name", tasks.TASKS)
def test_few_shot_sets_have_their_size_and_seeds_differ(name):
    task = tasks.get(name)
    a, b, again = (tasks.few_shot(task, 2, seed, test_size=30) for seed in (0, 1, 0))
    assert a.images.shape[0] == 2 * len(task.names) == len(a.labels)
    assert torch.equal(a.images, again.images) and not torch.equal(a.images, b.images)
    assert torch.equal(a.test_images, again.test_images) and not torch.equal(a.test_images, b.test_images)
    pictures, labels = task.validation(len(task.names) + 1, 2, 0)
    assert labels.tolist() == [*range(len(task.names)), 0]
    assert not any(torch.equal(one, other) for one in pictures for other in (*a.images, *a.test_images))
    assert (torch.bincount(a.labels) == 2).all()


def test_labels_are_true():
    labels = torch.arange(24)
    _, scenes = tasks.get("held_out").draw(labels, stream(0, "t"))
    pairs = [(world.SHAPES[s], world.COLOUR_NAMES[c]) for s, c in zip(scenes.shape, scenes.colour, strict=True)]
    assert pairs == list(world.HELD_OUT)
    _, scenes = tasks.get("synonyms").draw(torch.arange(12), stream(0, "t"))
    assert [world.SYNONYMS[world.SHAPES[s]] for s in scenes.shape] == list(tasks.get("synonyms").names)
    _, scenes = tasks.get("mis_specified").draw(torch.arange(6), stream(0, "t"))
    assert [world.COLOUR_NAMES[c] for c in scenes.colour] == list(tasks.SIX_COLOURS)
    assert (scenes.colour != scenes.ground_colour).all()
    _, scenes = tasks.get("shift").draw(torch.arange(8), stream(0, "t"))
    assert (scenes.style == world.STYLES.index("inverted")).all()


@pytest.mark.parametrize("cue", ["place", "size"])
@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_conflict_strength_is_the_best_that_a_fixed_rule_can_do(strength, cue):
    task = tasks.conflict(strength, cue)
    labels = torch.arange(6000) % 6
    scenes = task.assign(world.sample(6000, stream(0, "s")), labels, stream(0, "a"))
    colours = [world.COLOUR_NAMES.index(c) for c in tasks.SIX_COLOURS]
    wanted = torch.tensor(colours)[labels]
    assert (scenes.colour == wanted).float().mean() == pytest.approx(1 - strength / 2, abs=0.02)
    assert (scenes.ground_colour == wanted).float().mean() == pytest.approx(strength / 2, abs=0.02)
    cue = task.cue(scenes)
    assert torch.equal(cue, scenes.ground_colour == wanted), "the cue tells which rule holds, always"


def test_task_errors():
    with pytest.raises(ParameterError, match="task must be one of .*conflict.*'zoo'"):
        tasks.get("zoo")
    with pytest.raises(ParameterError, match="from 1 to 64 .*'shape'.* 65 was given"):
        tasks.few_shot(tasks.get("shape"), 65, 0)
    with pytest.raises(ParameterError, match="strength"):
        tasks.conflict(1.2)
