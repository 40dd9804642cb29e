"""Photographs: the sample and the record, tasks whose labels can be read off their pixels, refusals in one sentence."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from lib.checks import ParameterError
from lib.prompts import photoclip, photographs, tasks
from lib.prompts.photographs import files, looks, words
from paper.tools import photographs as tool

PALETTE = torch.tensor(list(words.COLOURS.values()))
CIFAR_TASKS = ("objects", "coarse", "shift", "mis_specified", "conflict", "conflict_blur")
TINY_TASKS = ("unseen", "fine", "insects", "vehicles")
SEEDS = st.integers(0, 10**6)
#: Training and test pictures of a class in the miniature of Tiny ImageNet.
FEW = (4, 3)


def sentence(problem: pytest.ExceptionInfo[ParameterError]) -> str:
    """The message, which is one sentence that says what was given."""
    text = str(problem.value)
    assert re.search(r"given( \(.*\))?\.$", text) and "\n" not in text
    return text


def contents(images: Tensor) -> list[bytes]:
    """Something to compare pictures by."""
    return [(one * 255).round().to(torch.uint8).numpy().tobytes() for one in images]


def frames(images: Tensor) -> Tensor:
    """The colours of frames [N] as places in the palette; every pixel of a frame must have that colour."""
    edge = torch.cat([images[..., :2, :].flatten(2), images[..., -2:, :].flatten(2), images[..., :2].flatten(2)], 2)
    found = torch.cdist(edge[:, :, 0], PALETTE).argmin(1)
    assert torch.allclose(edge, PALETTE[found][:, :, None].expand_as(edge), atol=1e-6)
    return found


def tints(images: Tensor) -> Tensor:
    """The colours of tints [N]: of all palette colours the one whose hue the mean inside is nearest to."""
    inside = images[..., 3:-3, 3:-3].mean((2, 3))
    hue, hues = (one - one.mean(1, keepdim=True) for one in (inside, PALETTE))
    return (torch.nn.functional.normalize(hue) @ torch.nn.functional.normalize(hues).T).argmax(1)


@pytest.fixture
def plain(monkeypatch):
    """Grey photographs whose brightness tells an animal from a vehicle, with a code of its own in each."""
    kinds = sorted((*photographs.ANIMALS, *photographs.VEHICLES))

    def opened(source, root, kind):
        parts = []
        for part, count in enumerate(files.record()[source]["counts"]):
            number = 4096 * part + 256 * kinds.index(kind) + torch.arange(count)
            bits = (number[:, None] >> torch.arange(13)) & 1
            grid = torch.zeros(count, 36, dtype=torch.long)
            grid[:, :13], grid[:, 13], grid[:, 14] = bits, 1, 0
            level = 180 if kind in photographs.ANIMALS else 60
            grid = level + 60 * grid.reshape(count, 1, 6, 6)
            inner = grid.repeat_interleave(4, 2).repeat_interleave(4, 3)
            pixels = torch.nn.functional.pad(inner, (4, 4, 4, 4), value=level)
            parts.append(pixels.expand(-1, 3, -1, -1).to(torch.uint8))
        return tuple(parts)

    monkeypatch.setattr(files, "opened", opened)


def codes(images: Tensor) -> list[int]:
    """The codes of plain photographs under their tints."""
    blocks = images[..., 4:-4, 4:-4].mean(1)[:, 1::4, 1::4].flatten(1)
    bits = (blocks[:, :13] > (blocks[:, 13:14] + blocks[:, 14:15]) / 2).long()
    return (bits << torch.arange(13)).sum(1).tolist()


def animal(code: int) -> bool:
    """Is the plain photograph with this code of an animal?"""
    return sorted((*photographs.ANIMALS, *photographs.VEHICLES))[code % 4096 // 256] in photographs.ANIMALS


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """A folder with a miniature of Tiny ImageNet's archive, which the record is made to fit."""
    numbers = sorted({kind for name in TINY_TASKS for part in both(name, tmp_path) for (kind,) in part.kinds})
    members = {}
    for place, number in enumerate(numbers):
        for part, count in (("train", FEW[0] + 2), ("val", FEW[1])):
            for one in range(count):
                out = io.BytesIO()
                colour = (4 * place, 30 * one, 200 if part == "val" else 20)
                Image.new("RGB", (32, 32), colour).save(out, "JPEG", quality=95)
                members[f"{part}/{number}/{one}.jpg"] = out.getvalue()
    root = tmp_path / "data"
    root.mkdir()
    archive = root / "tiny-imagenet-32.tar.xz"
    archive.write_bytes(tool.packed(members | {"classes.csv": b"wnid,names\n"}))
    record = json.loads(files.RECORD.read_text())
    record["tiny_imagenet"] |= {"counts": list(FEW), "sha256": tool.digest(archive)}
    monkeypatch.setattr(files, "record", lambda: record)
    found = files.unpacked("tiny_imagenet", archive)
    record["tiny_imagenet"]["classes"] = {kind: files.fingerprint(own) for kind, own in found.items()}
    return root


def both(name: str, root: Path) -> list[photographs.PhotoTask]:
    """All tasks of a name: few_shot's, and those of base_to_new where there are others."""
    every = (*photographs.get(name, root=root), *photographs.get(name, root=root, protocol="base_to_new"))
    return list(dict.fromkeys(part for part in every if part is not None))


# ------------------------------------------------------------------------------------------- sample and record
def test_the_sample_is_the_recorded_one_and_small():
    known = files.record()["cifar10"]
    archive = files.HERE / known["archive"]
    assert tool.digest(archive) == known["sha256"]
    assert archive.stat().st_size < 2.5e6
    assert len(known["classes"]) == 10 and tuple(known["counts"]) == tool.COUNTS["cifar10"]
    for kind in known["classes"]:
        train, test = files.opened("cifar10", files.HERE, kind)
        assert train.shape == (160, 3, 32, 32) and test.shape == (240, 3, 32, 32) and train.dtype == torch.uint8


def test_the_record_keeps_what_pre_training_leaves_alone():
    known = files.record()["tiny_imagenet"]
    assert sorted(known["classes"]) == sorted(one.wnid for one in words.classes())
    assert tuple(known["counts"]) == (64, 50) == tool.COUNTS["tiny_imagenet"]
    assert tasks.POOL == 64
    # Of training pictures the first 64 and no more: pre-training takes all from the 65th on.
    assert files.wanted("tiny_imagenet", "train/n01443537/63.jpg")
    assert not files.wanted("tiny_imagenet", "train/n01443537/64.jpg")
    assert files.wanted("tiny_imagenet", "val/n01443537/9949.jpg")


def test_a_damaged_or_missing_sample_is_one_sentence(tmp_path):
    name = files.record()["cifar10"]["archive"]
    with pytest.raises(ParameterError) as problem:
        files.opened("cifar10", tmp_path, "dog")
    assert name in sentence(problem)
    whole = (files.HERE / name).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive", whole[:-1000] + bytes(1000)):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ParameterError) as problem:
            files.opened("cifar10", tmp_path, "truck")
        assert "CIFAR-10" in sentence(problem)


def test_other_pictures_in_a_whole_archive_are_refused(tmp_path):
    archive = files.HERE / files.record()["cifar10"]["archive"]
    members = {name: data for own in files.unpacked("cifar10", archive).values() for name, data in own.items()}
    members["test/dog/0000.jpg"], members["test/dog/0001.jpg"] = (
        members["test/dog/0001.jpg"],
        members["test/dog/0000.jpg"],
    )
    (tmp_path / archive.name).write_bytes(tool.packed(members))
    with pytest.raises(ParameterError) as problem:
        files.opened("cifar10", tmp_path, "dog")
    assert "'dog'" in sentence(problem)
    assert files.opened("cifar10", tmp_path, "cat")[0].equal(files.opened("cifar10", files.HERE, "cat")[0])


# ------------------------------------------------------------------------------------------------------- words
@pytest.mark.parametrize("name", [*CIFAR_TASKS, *TINY_TASKS])
def test_every_word_is_photoclips(name, tmp_path):
    for task in both(name, tmp_path):
        assert len(set(task.names)) == len(task.names) == len(task.kinds) or name not in TINY_TASKS
        # The tokenizer refuses words that it does not know.
        photoclip.PhotoTokenizer()([*task.names, *task.prompts])
        assert task.about == photographs.TASKS[name]


def test_cifar10_is_spoken_in_words_that_are_known():
    names = sorted((*photographs.ANIMALS, *photographs.VEHICLES))
    assert len(set(photographs.spoken(names))) == 10
    photoclip.PhotoTokenizer()(photographs.spoken(names))
    assert photographs.spoken(["airplane", "dog", "zebra"]) == ("craft", "dog", "zebra")


def test_words_for_unseen_and_seen_classes_are_true_and_of_one_class_each():
    place = {one.wnid: number for number, one in enumerate(words.classes())}
    seen = {one.wnid for one in words.classes() if one.seen}
    for known, shown in ((photographs.UNSEEN, False), (photographs.SEEN, True)):
        assert len(known) == len(set(known.values())) == 16
        own = {place[number] for number in known.values()}
        for word, number in known.items():
            assert words.true_of(word) & own == {place[number]}
            assert (number in seen) is shown
            # Pre-training taught the word, by classes that it did show.
            assert any(words.classes()[one].seen for one in words.true_of(word))
    assert not set(photographs.UNSEEN) & set(photographs.SEEN)


def test_own_names_say_how_many_were_never_taught():
    assert [int(number) for number in re.findall(r"\d+", photographs.TASKS["fine"])] == [6, 2]
    for name in ("fine", "insects", "vehicles"):
        task, _ = photographs.get(name)
        assert f"{len(task.names)} ways" in task.about


# ------------------------------------------------------------------------------------------------------- draws
@pytest.mark.parametrize("name", CIFAR_TASKS)
def test_shapes_values_and_balance(name):
    task, new = photographs.get(name)
    count = len(task.names)
    assert new is None
    split = task.few_shot(2, 0, 3 * count + 1)
    assert split.images.shape == (2 * count, 3, 32, 32) and split.images.dtype == torch.float32
    assert split.labels.equal(torch.arange(count).repeat_interleave(2))
    assert split.test_images.shape == (3 * count + 1, 3, 32, 32)
    assert split.test_labels.bincount().tolist() == [4] + [3] * (count - 1)
    assert 0 <= split.images.min() and split.images.max() <= 1
    for cue, labels in ((split.cue, split.labels), (split.test_cue, split.test_labels)):
        assert (cue is not None) is (name in photographs.GRADED)
        assert cue is None or (cue.shape == labels.shape and cue.dtype == torch.bool)
    assert task.few_shot(1, 0, 2, 48).images.shape == (count, 3, 48, 48)


@pytest.mark.parametrize("name", ["objects", "shift", "conflict"])
def test_a_seed_gives_the_same_pictures_whatever_else_is_drawn(name):
    task, _ = photographs.get(name)
    count = len(task.names)
    small, large = task.few_shot(1, 3, 5), task.few_shot(4, 3, 35)
    # Pictures come class by class.
    assert small.images.equal(large.images[::4])
    assert small.test_images.equal(large.test_images[:5]) and small.test_labels.equal(large.test_labels[:5])
    images, labels = task.tested(35, seed=3)
    assert images.equal(large.test_images) and labels.equal(large.test_labels)
    left, labels = task.validation(2 * count, 1, 3)
    assert left[labels == 0].equal(large.images[1:3])


@pytest.mark.parametrize("name", ["objects", "coarse", "mis_specified", "conflict"])
def test_seeds_differ(name):
    task, _ = photographs.get(name)
    one, other = (task.few_shot(2, seed, 12) for seed in (0, 1))
    assert task.test_seed(12, 5) == 5
    assert not set(contents(one.images)) & set(contents(other.images))
    assert not one.test_images.equal(other.test_images)


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, shots=st.integers(1, tasks.POOL))
def test_training_validation_and_test_share_no_picture_of_objects(seed, shots):
    task, _ = photographs.get("objects")
    split = task.few_shot(shots, seed, 2400)
    left, labels = task.validation(120, shots, seed)
    assert len(split.test_labels) == 2400 and labels.bincount().tolist() == [12] * 10
    train, validation, test = map(contents, (split.images, left, split.test_images))
    assert len({*train, *validation, *test}) == len(train) + len(validation) + len(test)
    own = {label: set() for label in range(10)}
    for label, kind in enumerate(sorted((*photographs.ANIMALS, *photographs.VEHICLES))):
        own[label] = {one.numpy().tobytes() for one in files.opened("cifar10", files.HERE, kind)[0]}
    assert all(one in own[label] for one, label in zip(train, split.labels.tolist(), strict=True))
    assert all(one in own[label] for one, label in zip(validation, labels.tolist(), strict=True))


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, strength=st.sampled_from([0.0, 0.5, 1.0]))
def test_conflict_in_real_pictures_is_labelled_by_its_rule(seed, strength):
    for name in photographs.GRADED:
        task, _ = photographs.get(name, strength)
        split = task.few_shot(8, seed, 120)
        for images, labels, cue in (
            (split.images, split.labels, split.cue),
            (split.test_images, split.test_labels, split.test_cue),
        ):
            frame, tint = frames(images), tints(images)
            assert frame[cue].equal(labels[cue]) and not frame[~cue].eq(labels[~cue]).any()
            # Of a picture of one colour the mean hue need not be the tint's.
            assert tint[~cue].eq(labels[~cue]).float().mean() > 0.9 if len(tint[~cue]) else strength > 0
            assert not len(tint[cue]) or tint[cue].eq(labels[cue]).float().mean() < 0.1


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", list(photographs.GRADED))
def test_half_the_strength_of_the_pictures_are_cued(name, strength):
    task, _ = photographs.get(name, strength)
    cue = torch.cat([task.few_shot(32, seed, 480).test_cue for seed in range(2)])
    spread = (strength / 2 * (1 - strength / 2) / len(cue)) ** 0.5
    assert abs(cue.float().mean() - strength / 2) <= 4 * spread


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_content_tells_the_rule_and_no_photograph_comes_twice(plain, strength):
    task, _ = photographs.get("conflict", strength)
    split = task.few_shot(tasks.POOL, 1, 960)
    left, labels = task.validation(120, tasks.POOL, 1)
    assert labels.bincount().tolist() == [20] * 6 and len(split.test_labels) == 960
    train, validation, test = map(codes, (split.images, left, split.test_images))
    assert len({*train, *validation, *test}) == 384 + 120 + 960
    assert [animal(code) for code in train] == split.cue.tolist()
    assert [animal(code) for code in test] == split.test_cue.tolist()
    assert all(code < 4096 for code in train + validation) and all(code >= 4096 for code in test)
    # Of grey photographs the tint is known exactly, and so is the rule.
    for images, labels, cue in (
        (split.images, split.labels, split.cue),
        (split.test_images, split.test_labels, split.test_cue),
    ):
        frame, tint = frames(images), tints(images)
        assert torch.where(cue, frame, tint).equal(labels) and not torch.where(cue, tint, frame).eq(labels).any()


def test_every_kind_of_photograph_is_shown(plain):
    for name in ("mis_specified", "conflict", "conflict_blur"):
        task, _ = photographs.get(name, 1.0)
        shown = {code % 4096 // 256 for code in codes(task.few_shot(2, 0, 240).test_images)}
        # Codes of blurred pictures cannot be read.
        assert name == "conflict_blur" or shown == set(range(10))


def test_blur_tells_the_rule():
    task, _ = photographs.get("conflict_blur")
    split = task.few_shot(2, 0, 480)
    inside = split.test_images[..., 3:-3, 3:-3].mean(1)
    rough = (inside[:, 1:-1, 1:-1] - torch.nn.functional.avg_pool2d(inside, 3, 1)).std((1, 2))
    sharp, blurred = rough[split.test_cue], rough[~split.test_cue]
    assert sharp.quantile(0.1) > blurred.quantile(0.9)


def test_the_mis_specified_label_is_the_tint(plain):
    task, _ = photographs.get("mis_specified", 1.0)
    split = task.few_shot(8, 0, 240)
    assert split.cue is None and split.test_cue is None
    assert tints(split.images).equal(split.labels) and tints(split.test_images).equal(split.test_labels)
    assert not frames(split.test_images).eq(split.test_labels).any()
    assert all("frame" in prompt for prompt in task.prompts)


def test_the_coarse_camera_sees_eight_by_eight():
    images, _ = photographs.get("coarse")[0].tested(20)
    blocks = images.unfold(2, 4, 4).unfold(3, 4, 4)
    assert torch.equal(blocks, blocks[..., :1, :1].expand_as(blocks))
    plain, _ = photographs.get("objects")[0].tested(20)
    assert not images.equal(plain)


def test_shift_has_three_looks_that_pre_training_never_showed(plain):
    images, _ = photographs.get("shift")[0].tested(300)
    contrast = images.std((1, 2, 3))
    step = (images[..., 1:] - images[..., :-1]).abs().mean((1, 2, 3))
    noisy, flat = step > 0.1, contrast < 0.03
    blurred = ~noisy & ~flat
    assert all(0.2 < share.float().mean() < 0.47 for share in (noisy, flat, blurred))
    grey = photographs.shifted(
        torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    )
    assert grey.std(1).flatten(1).amax(1).eq(0).any()


# ------------------------------------------------------------------------------------------------ Tiny ImageNet
@pytest.mark.parametrize("name", TINY_TASKS)
def test_tasks_of_tiny_imagenet_from_the_archive_and_from_a_folder(name, tiny, tmp_path):
    folder = tmp_path / "open"
    shutil.unpack_archive(tiny / "tiny-imagenet-32.tar.xz", folder / "tiny-imagenet-32", "xztar", filter="data")
    roots = (tiny, folder, folder / "tiny-imagenet-32")
    for task, same, bare in zip(*(both(name, root) for root in roots), strict=True):
        images, labels = task.tested(10**4)
        assert labels.bincount().tolist() == [FEW[1]] * len(task.names)
        assert images.equal(same.tested(10**4)[0]) and images.equal(bare.tested(10**4)[0])
        # The pictures say by their blue that they are for testing, by their red of which class they are.
        assert images[:, 2].mean() > 0.7
        if task.trained:
            split = task.few_shot(2, 0, 1)
            assert split.images[:, 2].mean() < 0.15
            left, _ = task.validation(10**4, 2, 0)
            assert len(left) == (FEW[0] - 2) * len(task.names)
            assert len(task.validation(10, FEW[0], 0)[1]) == 0
            # Nothing beyond the pictures that are kept: their green would be higher.
            assert max(split.images[:, 1].max(), left[:, 1].max()) < 30 * (FEW[0] - 0.5) / 255


def test_base_to_new_trains_on_seen_classes_and_tests_on_unseen(tiny):
    base, new = photographs.get("unseen", root=tiny, protocol="base_to_new")
    assert base.names == tuple(photographs.SEEN) and new.names == tuple(photographs.UNSEEN)
    assert base.source == new.source and base.few_shot(1, 0, 4).images.shape[0] == 16
    with pytest.raises(ParameterError) as problem:
        new.few_shot(1, 0, 4)
    assert "only tested on" in sentence(problem)
    assert photographs.get("fine", root=tiny, protocol="base_to_new")[1] is None


def test_a_missing_archive_names_file_folder_and_command(tmp_path):
    task, _ = photographs.get("fine", root=tmp_path)
    for call in (task.open, lambda: task.few_shot(1, 0, 4), lambda: photographs.task_of(cell("fine"), site(tmp_path))):
        with pytest.raises(ParameterError) as problem:
            call()
        said = sentence(problem)
        assert "tiny-imagenet-32.tar.xz" in said and str(tmp_path) in said and "make photographs" in said


def test_a_damaged_archive_and_other_pictures_are_refused(tiny):
    archive = tiny / "tiny-imagenet-32.tar.xz"
    half = tiny / "half"
    half.mkdir()
    # What a damaged archive still gives is checked class by class: only half of it has no class whole.
    (half / archive.name).write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ParameterError) as problem:
        photographs.task_of(cell("fine"), site(half))
    assert re.search("damaged|missing", sentence(problem))
    shutil.unpack_archive(archive, tiny / "other", "xztar", filter="data")
    dog = photographs.get("fine")[0].kinds[0][0]
    Image.new("RGB", (32, 32)).save(tiny / "other" / "train" / dog / "0.jpg")
    with pytest.raises(ParameterError) as problem:
        photographs.task_of(cell("fine"), site(tiny / "other"))
    assert dog in sentence(problem)
    # Classes that are whole serve tasks of their own.
    photographs.task_of(cell("insects"), site(tiny / "other"))


# ----------------------------------------------------------------------------------------------- names, identities
def cell(task: str, strength: float = 1.0, data: dict | None = None) -> dict:
    """What a study's cell says of its task."""
    return {"task": task, "strength": strength, "data": data}


def site(root: Path | str = "data") -> dict[str, str]:
    """Where a study looks."""
    return {"root": str(root)}


def test_it_is_registered_with_its_tasks():
    known = tasks.ELSEWHERE["photographs"]
    assert known.TASKS is photographs.TASKS and known.GRADED is photographs.GRADED
    assert known.get("objects") == photographs.get("objects")
    assert {"coarse", "shift", "mis_specified", "fine", "conflict"} <= set(known.TASKS) & set(tasks.TASKS)
    assert set(photographs.TASKS) == {*CIFAR_TASKS, *TINY_TASKS}


def test_equal_arguments_give_one_task():
    assert photographs.get("objects", 0.3, "data")[0] is photographs.get("objects", 1.0)[0]
    assert photographs.get("conflict", 0.3)[0] is not photographs.get("conflict", 0.4)[0]


def test_identities_are_recorded_and_all_different(tmp_path, monkeypatch):
    found = {name: photographs.identity(name) for name in photographs.TASKS}
    assert all(re.fullmatch(r"[0-9a-f]{16}", one) for one in found.values())
    assert len(set(found.values())) == len(found)
    record = json.loads(files.RECORD.read_text())
    record["cifar10"]["classes"]["dog"] = "0" * 16
    monkeypatch.setattr(files, "record", lambda: record)
    changed = {name for name in found if photographs.identity(name) != found[name]}
    assert changed == set(CIFAR_TASKS)


def test_task_of_takes_what_a_cell_says(tiny):
    own, new = photographs.task_of(cell("conflict", 0.5), site())
    assert own.strength == 0.5 and new is None
    known = {"name": "unseen", "protocol": "base_to_new", "identities": [photographs.identity("unseen")]}
    base, new = photographs.task_of(cell("unseen", data=known), site(tiny))
    assert base.names == tuple(photographs.SEEN) and new.names == tuple(photographs.UNSEEN)
    with pytest.raises(ParameterError) as problem:
        photographs.task_of(cell("unseen", data=known | {"identities": ["0" * 16]}), site(tiny))
    assert "'unseen'" in sentence(problem)


@pytest.mark.parametrize(
    "call",
    [
        lambda: photographs.get("texture"),
        lambda: photographs.get("conflict", 1.5),
        lambda: photographs.get("conflict", protocol="many"),
        lambda: photographs.get("fine", root=""),
        lambda: photographs.get("objects")[0].few_shot(tasks.POOL + 1, 0, 4),
        lambda: photographs.get("objects")[0].few_shot(0, 0, 4),
        lambda: photographs.get("conflict")[0].few_shot(1, 0, 0),
        lambda: photographs.get("objects")[0].few_shot(1, 0, 4, 0),
        lambda: photographs.get("objects")[0].validation(0, 1, 0),
    ],
)
def test_what_cannot_be_drawn_is_refused(call):
    with pytest.raises(ParameterError) as problem:
        call()
    sentence(problem)


# ---------------------------------------------------------------------------------------------------------- looks
def test_pre_training_draws_its_looks_from_here():
    from paper.tools import pretrain_photo

    assert pretrain_photo.looks is looks
    has = looks.looks(4000, torch.Generator().manual_seed(0))
    shares = dict(zip(looks.PROPERTIES, has.float().mean(0).tolist(), strict=True))
    assert abs(shares["blurry"] - looks.LOOKS["blurry"]) < 0.02
    assert not (has[:, looks.PROPERTIES.index("dark")] & has[:, looks.PROPERTIES.index("bright")]).any()


# ------------------------------------------------------------------------------------------------------ the tool
@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """A folder with CIFAR-10 in miniature, and a record of its own that the tool writes to."""
    monkeypatch.setattr(tool, "COUNTS", {"cifar10": (2, 1), "tiny_imagenet": FEW})
    monkeypatch.setattr(files, "HERE", tmp_path)
    monkeypatch.setattr(files, "RECORD", tmp_path / "pictures.json")
    record = json.loads((Path(files.__file__).parent / "pictures.json").read_text())
    record["cifar10"]["counts"] = [2, 1]
    files.RECORD.write_text(json.dumps(record))
    files.record.cache_clear()
    for part, count in (("train", 3), ("test", 2)):
        for label, kind in enumerate(record["cifar10"]["classes"]):
            (tmp_path / "in" / part / kind).mkdir(parents=True)
            for number in range(count):
                picture = Image.new("RGB", (32, 32), (20 * label, 80 * number, 9))
                picture.save(tmp_path / "in" / part / kind / f"{number:04d}.jpg")
    yield tmp_path
    files.record.cache_clear()


def test_the_sample_is_made_to_the_byte_and_recorded(small, capsys):
    assert tool.main(["sample", str(small / "in")]) == 0
    assert "30 pictures" in capsys.readouterr().out
    archive = small / "cifar10.tar.xz"
    first = archive.read_bytes()
    # The date of a file counts for nothing.
    next((small / "in" / "train" / "dog").iterdir()).touch()
    assert tool.main(["sample", str(small / "in")]) == 0
    assert archive.read_bytes() == first and files.record()["cifar10"]["sha256"] == tool.digest(archive)
    train, test = files.opened("cifar10", small, "dog")
    assert len(train) == 2 and len(test) == 1
    assert (
        files.unpacked("cifar10", archive)["dog"]["train/dog/0001.jpg"]
        == (small / "in" / "train" / "dog" / "0001.jpg").read_bytes()
    )


def test_a_sample_of_too_few_pictures_is_refused(small, capsys):
    (small / "in" / "test" / "frog" / "0000.jpg").unlink()
    (small / "in" / "test" / "frog" / "0001.jpg").unlink()
    assert tool.main(["sample", str(small / "in")]) == 1
    assert "'frog'" in capsys.readouterr().err
    assert tool.main(["sample", str(small / "nowhere")]) == 1
    assert not (small / "cifar10.tar.xz").exists()


def test_only_the_recorded_archive_is_placed(tiny, tmp_path, capsys):
    archive, target = tiny / "tiny-imagenet-32.tar.xz", tmp_path / "new" / "data"
    for _ in range(2):
        assert tool.main(["place", str(archive), "--root", str(target)]) == 0
        assert (target / archive.name).read_bytes() == archive.read_bytes()
    other = tmp_path / "other.tar.xz"
    other.write_bytes(archive.read_bytes() + b"\0")
    capsys.readouterr()
    for wrong in (other, tmp_path / "nothing", tmp_path):
        assert tool.main(["place", str(wrong), "--root", str(tmp_path / "elsewhere")]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "tiny-imagenet-32.tar.xz" in said
    assert not (tmp_path / "elsewhere").exists()
    # An archive that was placed serves the tasks.
    photographs.get("fine", root=target)[0].open()
