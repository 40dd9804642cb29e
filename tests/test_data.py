"""Real pictures as tasks: every layout is written here in miniature and read back."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.io import savemat
from torchvision import datasets

from lib.checks import ParameterError
from lib.prompts import backbone, data, tasks

STEP = 9
"""Grey levels between two class or picture numbers, far above what JPEG changes."""


def picture(path: Path, label: int, number: int, size: tuple[int, int] = (12, 8)) -> None:
    """A plain picture whose red tells the class and whose green tells the number within the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (STEP * label, STEP * number, 128)).save(path, quality=95)


def text(words: str) -> PngInfo:
    """Words in a PNG file, which make it another file with the same picture."""
    info = PngInfo()
    info.add_text("words", words)
    return info


def shown(images: torch.Tensor) -> list[tuple[int, int]]:
    """Class and number of each picture, read off its colour."""
    colours = (images[:, :2].mean((2, 3)) * 255 / STEP).round().int()
    return [tuple(row) for row in colours.tolist()]


def coop(
    root: Path,
    classes: int = 5,
    train: int = 4,
    test: int = 3,
    folder: str = "oxford_pets",
    images: str = "images",
    title: str = "OxfordPets",
) -> Path:
    """A CoOp-style folder below ``root``; returns its split file. Pictures of a class are numbered through."""
    split: dict[str, list] = {"train": [], "val": [], "test": []}
    for label in range(classes):
        for number in range(train + 1 + test):
            part = "train" if number < train else "val" if number == train else "test"
            name = f"{label}_{number}.jpg"
            picture(root / folder / images / name, label, number)
            split[part].append([name, label, f"old_cat_{label}"])
    file = root / folder / f"split_zhou_{title}.json"
    file.write_text(json.dumps(split))
    return file


def change(file: Path, part: str, place: int, entry: object) -> None:
    split = json.loads(file.read_text())
    split[part][place] = entry
    file.write_text(json.dumps(split))


# ---------------------------------------------------------------------------------------------- layouts
def eurosat(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int, int]:
    words = {
        "AnnualCrop": "Annual Crop Land",
        "Forest": "Forest",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "River": "River",
        "SeaLake": "Sea or Lake",
    }
    for label, word in enumerate(words):
        for number in range(11):
            picture(root / "eurosat" / "2750" / word / f"{word}_{number + 1}.jpg", label, number)
    return list(words.values()), 7, 4  # 30 per cent of 11, rounded up, are tested on


def dtd(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int, int]:
    words = ["banded", "polka-dotted", "zigzagged"]
    for part, numbers in {"train": (0, 1), "val": (2, 3), "test": (4, 5, 6)}.items():
        lines = [f"{word}/{word}_{number:04d}.jpg" for word in words for number in numbers]
        (root / "dtd" / "dtd" / "labels").mkdir(parents=True, exist_ok=True)
        (root / "dtd" / "dtd" / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
        for label, word in enumerate(words):
            for number in numbers:
                picture(root / "dtd" / "dtd" / "images" / word / f"{word}_{number:04d}.jpg", label, number)
    return words, 4, 3


def flowers102(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int, int]:
    folder = root / "flowers-102"
    # 102 classes do not fit into one byte of red, which starts anew after 25.
    labels = np.repeat(np.arange(1, 103), 3)
    for place, label in enumerate(labels):
        picture(folder / "jpg" / f"image_{place + 1:05d}.jpg", (label - 1) % 25, place % 3)
    ids = np.arange(1, 307)
    savemat(folder / "imagelabels.mat", {"labels": labels})
    savemat(folder / "setid.mat", {"trnid": ids[0::3], "valid": ids[1::3], "tstid": ids[2::3]})
    known = {"image": ("102flowers.tgz", "")}
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        known[key] = (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", known)
    names = list(datasets.Flowers102.classes)
    names[names.index("pink-yellow dahlia?")] = "pink-yellow dahlia"
    return names, 2, 1


def caltech101(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int, int]:
    folder = root / "caltech101" / "101_ObjectCategories"
    for label, word in enumerate(["Faces", "airplanes", "water_lilly"]):
        for number in range(10):
            picture(folder / word / f"image_{number + 1:04d}.jpg", label, number)
    for word in ("BACKGROUND_Google", "Faces_easy"):
        picture(folder / word / "image_0001.jpg", 20, 20)
    return ["face", "airplane", "water lilly"], 7, 3


def cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int, int]:
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: dict) -> str:
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name: str, number: int) -> list[str]:
        planes = [[STEP * label] * 1024 + [STEP * number] * 1024 + [128] * 1024 for label in range(10)]
        return [name, write(name, {"data": np.array(planes, np.uint8), "labels": list(range(10))})]

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [batch(f"data_batch_{i + 1}", i) for i in range(5)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [batch("test_batch", 5)])
    md5 = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": md5})
    return names, 5, 1


LAYOUTS = {"eurosat": eurosat, "dtd": dtd, "flowers102": flowers102, "caltech101": caltech101, "cifar10": cifar10}
TEMPLATES = {
    "eurosat": "a centered satellite photo of Forest.",
    "dtd": "banded texture.",
    "flowers102": "a photo of a snapdragon, a type of flower.",
    "caltech101": "a photo of a face.",
    "cifar10": "a photo of a bird.",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_torchvision_layouts_have_their_names_labels_and_splits(name, tmp_path, monkeypatch):
    names, train, test = LAYOUTS[name](tmp_path, monkeypatch)
    task, new = data.get(name, tmp_path)
    assert new is None and list(task.names) == names and TEMPLATES[name] in task.prompts
    assert task.name == name
    few = task.few_shot(train, seed=0, test_size=10_000, image_size=8)
    assert isinstance(few, tasks.FewShot) and few.cue is None and few.test_cue is None
    assert few.images.shape == (train * len(names), 3, 8, 8) and few.images.dtype == torch.float32
    assert Counter(few.labels.tolist()) == dict.fromkeys(range(len(names)), train)
    assert Counter(few.test_labels.tolist()) == dict.fromkeys(range(len(names)), test)
    for images, labels in ((few.images, few.labels), (few.test_images, few.test_labels)):
        assert [label for label, _ in shown(images)] == [label % 25 for label in labels.tolist()]
    if name != "flowers102":
        trained, tested = shown(few.images), shown(few.test_images)
        assert len(set(trained)) == len(trained) and not set(trained) & set(tested)
    if name in ("dtd", "flowers102", "cifar10"):
        last = {number for _, number in shown(few.test_images)}
        assert last == set(range(train, train + test)), "the published test split is the test split"
    with pytest.raises(ParameterError, match=f"shots must be at most {train} .*class '{names[0]}'"):
        task.draw(train + 1, 0, 8)


@pytest.mark.parametrize(
    ("name", "folder", "images", "title"),
    [
        ("caltech101", "caltech-101", "101_ObjectCategories", "Caltech101"),
        ("eurosat", "eurosat", "2750", "EuroSAT"),
        ("dtd", "dtd", "images", "DescribableTextures"),
        ("flowers102", "oxford_flowers", "jpg", "OxfordFlowers"),
        ("oxford_pets", "oxford_pets", "images", "OxfordPets"),
        ("stanford_cars", "stanford_cars", "", "StanfordCars"),
        ("food101", "food-101", "images", "Food101"),
        ("sun397", "sun397", "SUN397", "SUN397"),
        ("ucf101", "ucf101", "UCF-101-midframes", "UCF101"),
    ],
)
def test_coop_folders_are_read_by_name_and_as_a_folder(name, folder, images, title, tmp_path):
    coop(tmp_path, 2, 2, 2, folder, images, title)
    task, _ = data.get(name, tmp_path)
    assert task.names == ("old cat 0", "old cat 1")
    few = task.few_shot(2, 0, image_size=4)
    assert sorted(shown(few.images)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert shown(few.test_images) == [(0, 3), (0, 4), (1, 3), (1, 4)]
    same, _ = data.get("folder", tmp_path / folder)
    assert same.name == name and same.prompts == task.prompts, "a known split file is that data set"
    assert torch.equal(same.few_shot(2, 0, image_size=4).images, few.images)


def test_own_folders_have_any_split_file_or_train_and_test(tmp_path):
    coop(tmp_path, 2, 2, 2, "mine", "pictures", "Moths")
    task, _ = data.get("folder", str(tmp_path / "mine"))
    assert task.name == "Moths" and task.prompts[0] == "a photo of a old cat 0."
    for part, numbers in (("train", (0, 1)), ("test", (2,))):
        for label, word in enumerate(("green_moth", "moth")):
            for number in numbers:
                picture(tmp_path / "plain" / part / word / f"{number}.jpg", label, number)
    plain, _ = data.get("folder", tmp_path / "plain")
    assert plain.names == ("green moth", "moth") and plain.name == "folder"
    few = plain.few_shot(2, 0, image_size=4)
    assert sorted(shown(few.images)) == [(0, 0), (0, 1), (1, 0), (1, 1)] and shown(few.test_images) == [(0, 2), (1, 2)]


# ------------------------------------------------------------------------------------------------ draws
def test_seeds_draw_their_own_pictures(tmp_path):
    coop(tmp_path, 4, 12, 6)
    task, _ = data.get("oxford_pets", tmp_path)
    a, b, again = (task.few_shot(3, seed, test_size=8, image_size=4) for seed in (1, 2, 1))
    assert torch.equal(a.images, again.images) and shown(a.images) != shown(b.images)
    assert torch.equal(a.test_images, again.test_images) and shown(a.test_images) != shown(b.test_images)
    assert (task.test_seed(8, 1), task.test_seed(24, 1)) == (1, 0), "where all are taken there is one test set"
    left, labels = task.validation(8, 3, 1, 4)
    assert len(set(shown(left)) - set(shown(a.images))) == len(left) == 8 and labels.tolist() == sorted(
        [0, 1, 2, 3] * 2
    )
    assert len(task.validation(8, 12, 1, 4)[0]) == 0, "nothing is left to choose by"
    assert all(number < 12 for _, number in shown(a.images)), "no validation or test picture is trained on"
    assert all(number > 12 for _, number in shown(a.test_images))
    assert len(set(shown(a.images))) == 12


def numbered(counts: list[int]) -> data.RealTask:
    """A task whose class k has ``counts[k]`` test pictures of one pixel."""
    pixels = tuple(
        tuple(np.array([[[label, number, 0]]], np.uint8) for number in range(count))
        for label, count in enumerate(counts)
    )
    names = tuple(f"class {label}" for label in range(len(counts)))
    return data.RealTask("numbered", names, "{}", "numbered", (), pixels)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.integers(1, 60))
def test_the_choice_of_test_pictures_is_balanced_and_grows(counts, size):
    images, labels = numbered(counts).tested(size, 1)
    chosen = [tuple(row) for row in (images[:, :2, 0, 0] * 255).round().int().tolist()]
    assert len(set(chosen)) == len(chosen) == min(size, sum(counts))
    assert [label for label, _ in chosen] == labels.tolist()
    taken = Counter(labels.tolist())
    most = max(taken.values())
    assert all(taken[label] >= min(most - 1, count) for label, count in enumerate(counts)), "no class is short-changed"
    more, _ = numbered(counts).tested(size + 1, 1)
    assert set(chosen) <= {tuple(row) for row in (more[:, :2, 0, 0] * 255).round().int().tolist()}


# -------------------------------------------------------------------------------------------- protocols
@given(st.lists(st.integers(-50, 500), min_size=1))
def test_halves_are_the_sorted_labels_cut_after_the_first_half_rounded_up(labels):
    base, new = data.halves(labels)
    assert base + new == sorted(set(labels))
    assert len(base) == math.ceil(len(set(labels)) / 2)
    assert data.halves(reversed(labels)) == (base, new)


@pytest.mark.parametrize("classes", [4, 5])
def test_base_to_new_trains_on_the_first_half_and_scores_each_half_alone(classes, tmp_path):
    coop(tmp_path, classes, 5, 2)
    everything, _ = data.get("oxford_pets", tmp_path)
    base, new = data.get("oxford_pets", tmp_path, "base_to_new")
    cut = (classes + 1) // 2
    assert base.names + new.names == everything.names and len(base.names) == cut
    assert {base.name, new.name} == {"oxford_pets base", "oxford_pets new"}
    few = base.few_shot(2, 7, image_size=4)
    assert [label for label, _ in shown(few.images)] == few.labels.tolist() == [k for k in range(cut) for _ in range(2)]
    assert shown(few.images) == shown(everything.draw(2, 7, 4)[0])[: 2 * cut], "the same pictures in both protocols"
    images, labels = new.tested(100, 4)
    assert [label - cut for label, _ in shown(images)] == labels.tolist()
    assert set(labels.tolist()) == set(range(classes - cut))
    with pytest.raises(ParameterError, match="^shots must be drawn from the base classes .*'oxford_pets new'.* 2 was"):
        new.few_shot(2, 0, image_size=4)


def test_labels_of_a_split_file_may_have_gaps_and_any_order(tmp_path):
    file = coop(tmp_path, 4)
    split = json.loads(file.read_text())
    moved = {0: 30, 1: -2, 2: 7, 3: 90}
    split = {
        part: [[path, moved[k], name] for path, k, name in reversed(split[part])] for part in ("test", "val", "train")
    }
    file.write_text(json.dumps(split))
    assert data.get("oxford_pets", tmp_path)[0].names == ("old cat 1", "old cat 2", "old cat 0", "old cat 3")
    base, new = data.get("oxford_pets", tmp_path, "base_to_new")
    assert base.names == ("old cat 1", "old cat 2") and new.names == ("old cat 0", "old cat 3")
    few = base.few_shot(1, 0, image_size=4)
    assert [label for label, _ in shown(few.images)] == [1, 2] and few.labels.tolist() == [0, 1]


# ---------------------------------------------------------------------------------------------- pictures
def one(path: Path, size: int = 6) -> torch.Tensor:
    """The pixels of one picture, as a task gives them."""
    return data.RealTask("one", ("it",), "{}", "one", (), ((path,),)).tested(1, size)[0][0]


@pytest.mark.parametrize("shape", [(31, 17), (9, 40), (5, 5)])
def test_pixels_are_those_of_clip_s_own_preprocessing(shape, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    theirs = open_clip.image_transform(8, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(one(tmp_path / "noise.png", 8), theirs(Image.fromarray(noise)))


@pytest.mark.parametrize("content", ["truncated", "text", "nothing"])
def test_a_damaged_picture_is_named(content, tmp_path):
    file = tmp_path / "broken.jpg"
    picture(file, 1, 1, (64, 64))
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no picture", "nothing": b""}[content])
    with pytest.raises(ParameterError, match=r"pictures that can be opened, but '.*broken\.jpg' was given"):
        one(file)


def test_a_backbone_reads_what_a_task_gives(tmp_path):
    coop(tmp_path, 2)
    clip = backbone.load()
    few = data.get("oxford_pets", tmp_path)[0].few_shot(1, 0, image_size=clip.image_size)
    assert clip.image_features(few.images).shape == (2, clip.embed_dim)


# --------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("name", "missing", "folder"),
    [
        ("eurosat", "2750", "eurosat"),
        ("dtd", "images", "dtd/dtd"),
        ("flowers102", "jpg", "flowers-102"),
        ("caltech101", "101_ObjectCategories", "caltech101"),
        ("cifar10", "data_batch_1", "cifar-10-batches-py"),
        ("food101", "split_zhou_Food101.json", "food-101"),
        ("folder", "train", ""),
    ],
)
def test_missing_files_are_named_with_their_place_and_nothing_is_made(name, missing, folder, tmp_path):
    with pytest.raises(ParameterError, match=f"^root must .*missing {missing} into '{tmp_path / folder}'") as refusal:
        data.get(name, tmp_path)
    assert ("download=True" in str(refusal.value)) == (name not in ("food101", "folder"))
    assert not list(tmp_path.iterdir())


def test_a_picture_that_torchvision_lists_must_be_there(tmp_path, monkeypatch):
    dtd(tmp_path, monkeypatch)
    (tmp_path / "dtd/dtd/images/banded/banded_0004.jpg").unlink()
    with pytest.raises(ParameterError, match="missing banded_0004.jpg into '.*images/banded'"):
        data.get("dtd", tmp_path)


@pytest.mark.parametrize("name", ["flowers102", "cifar10"])
def test_a_file_with_another_checksum_is_refused_before_it_is_opened(name, tmp_path, monkeypatch):
    LAYOUTS[name](tmp_path, monkeypatch)
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    with next(tmp_path.rglob("setid.mat" if name == "flowers102" else "test_batch")).open("ab") as file:
        file.write(b"more")
    with pytest.raises(ParameterError, match=f"^root must be a folder with an intact copy of {name}"):
        data.get(name, tmp_path)


def test_download_is_asked_of_torchvision_only_on_request(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets.EuroSAT, "download", lambda self: asked.append(self.root))
    with pytest.raises(ParameterError, match="missing 2750"):
        data.get("eurosat", tmp_path)
    assert not asked
    with pytest.raises(ParameterError, match="intact copy of eurosat"):
        data.get("eurosat", tmp_path, download=True)
    assert asked == [str(tmp_path)]
    with pytest.raises(ParameterError, match="^download must be False for 'sun397'"):
        data.get("sun397", tmp_path, download=True)


@pytest.mark.parametrize(
    ("part", "entry", "message"),
    [
        ("train", ["0_1.jpg", "0", "cat"], "[path, integer label, class name]"),
        ("train", ["0_1.jpg", True, "cat"], "[path, integer label, class name]"),
        ("test", ["0_6.jpg", 0.0, "cat"], "[path, integer label, class name]"),
        ("val", ["0_6.jpg", 0], "[path, integer label, class name]"),
        ("val", "0_6.jpg", "[path, integer label, class name]"),
        ("train", ["0_1.jpg", 0, ""], "[path, integer label, class name]"),
        ("train", ["../images/0_1.jpg", 0, "old_cat_0"], "a path inside its folder"),
        ("test", ["/etc/passwd", 0, "old_cat_0"], "a path inside its folder"),
        ("test", ["..\\0_6.jpg", 0, "old_cat_0"], "a path inside its folder"),
        ("test", ["C:\\0_6.jpg", 0, "old_cat_0"], "a path inside its folder"),
        ("train", ["0_99.jpg", 0, "old_cat_0"], "an existing picture (put the missing 0_99.jpg into"),
        ("train", ["0_0.jpg", 0, "old_cat_0"], "a picture not listed before"),
        ("test", ["./0_0.jpg", 0, "old_cat_0"], "a picture not listed before"),
        ("train", ["0_1.jpg", 0, "dog"], "of class 'old_cat_0', as label 0 was before"),
    ],
)
def test_a_split_file_is_checked_entry_by_entry(part, entry, message, tmp_path):
    file = coop(tmp_path)
    place = 1 if part == "train" else 0
    change(file, part, place, entry)
    with pytest.raises(ParameterError) as refusal:
        data.get("oxford_pets", tmp_path)
    sentence = str(refusal.value)
    assert sentence.startswith(f"entry {place} of {part} in {file.name} must be {message}")
    assert sentence.endswith(f", but {entry!r} was given.") and "\n" not in sentence


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be a JSON file"),
        ("[" * 100_000, "must be a JSON file"),
        ("[1, 2]", r"an object with train and test, but \[1, 2\] was given"),
        ('{"train": [], "val": []}', "an object with train and test, but one with train, val was given"),
        ('{"train": [], "val": [], "test": []}', r"^train of split_zhou_.*with entries, but \[\] was given"),
        ('{"train": 5, "val": [], "test": []}', "^train of split_zhou_.*with entries, but 5 was given"),
    ],
)
def test_a_split_file_is_checked_as_a_whole(content, message, tmp_path):
    coop(tmp_path).write_text(content)
    with pytest.raises(ParameterError, match=message):
        data.get("oxford_pets", tmp_path)


def test_folders_that_cannot_be_told_apart_or_do_not_agree_are_refused(tmp_path):
    coop(tmp_path, title="Birds")
    (tmp_path / "oxford_pets" / "split_zhou_Cats.json").write_text("{}")
    with pytest.raises(ParameterError, match="one split file, .* with split_zhou_Birds.json and split_zhou_Cats.json"):
        data.get("folder", tmp_path / "oxford_pets")
    plain = tmp_path / "plain"
    for place in ("train/moth", "train/wasp", "test/moth"):
        picture(plain / place / "0.jpg", 0, 0)
    picture(plain / "test/moth/0.jpg", 0, 1)
    for _ in range(2):
        with pytest.raises(ParameterError, match="every class in train and in test, but 'wasp' without any in test"):
            data.get("folder", plain)
        # Empty is no better than not there.
        (plain / "test" / "wasp").mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("change", "protocol", "message"),
    [
        ({"classes": 1}, "few_shot", r"^root must hold at least 2 classes .*, but 1 \(old_cat_0\) was given\.$"),
        ({"classes": 3}, "base_to_new", "^root must hold at least 4 classes for base_to_new .*, but 3 were given.$"),
        ({"names": ("a_b", "a b")}, "few_shot", "^root must hold classes whose names differ .*'a_b' beside 'a b'"),
        ({"names": ("cat", "cat")}, "few_shot", "^root must hold classes whose names differ .*'cat' beside 'cat'"),
        ({"names": ("cat", "Cat ")}, "few_shot", "^root must hold classes whose names differ .*'cat' beside 'Cat '"),
        ({"names": ("cat", "_")}, "few_shot", "^root must hold classes whose names differ .*'_' was given.$"),
        ({"names": ("cat", "\ud800")}, "few_shot", "^root must hold classes whose names differ .*ud800' was given.$"),
        ({"test": 0}, "few_shot", "^test of split_zhou_OxfordPets.json must be a list with entries"),
    ],
)
def test_what_is_no_task_is_refused(change, protocol, message, tmp_path):
    names = change.pop("names", None)
    file = coop(tmp_path, **{"classes": 2, **change})
    if names:
        split = json.loads(file.read_text())
        named = {part: [[path, k, names[k]] for path, k, _ in entries] for part, entries in split.items()}
        file.write_text(json.dumps(named))
    with pytest.raises(ParameterError, match=message):
        data.get("oxford_pets", tmp_path, protocol)


def test_a_class_without_test_pictures_is_named(tmp_path):
    file = coop(tmp_path, 3)
    split = json.loads(file.read_text())
    file.write_text(json.dumps(split | {"test": [entry for entry in split["test"] if entry[1] != 1]}))
    with pytest.raises(ParameterError, match="test pictures of every class of oxford_pets, but none of 'old_cat_1'"):
        data.get("oxford_pets", tmp_path)


@pytest.mark.parametrize("kind", ["copy", "link"])
def test_test_pictures_that_are_trained_on_are_refused_in_a_folder_of_ones_own(kind, tmp_path):
    file = coop(tmp_path, 2, title="Mine")
    trained, tested = (file.parent / "images" / name for name in ("0_0.jpg", "0_5.jpg"))
    data.get("folder", file.parent)
    tested.unlink()
    tested.symlink_to(trained) if kind == "link" else tested.write_bytes(trained.read_bytes())
    with pytest.raises(
        ParameterError, match="that are not trained on, but 1 of 6 that stand in training too were given"
    ):
        data.get("folder", file.parent)


def test_equal_pictures_are_refused_whatever_their_files(tmp_path):
    file = coop(tmp_path, 2)
    for level, path in enumerate(sorted((file.parent / "images").iterdir())):
        Image.new("RGB", (8, 8), "white").save(path, "PNG", compress_level=level % 10, pnginfo=text(str(level)))
    task, _ = data.get("oxford_pets", tmp_path)
    with pytest.raises(ParameterError, match="^root must hold pictures that differ, but 'oxford_pets' with equal ones"):
        task.few_shot(2, 0, image_size=4)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_split_files_are_read_as_other_programs_write_them(encoding, tmp_path):
    file = coop(tmp_path, 2, images="", title="Mine")
    before, _ = data.get("folder", file.parent)
    split = json.loads(file.read_text())
    del split["val"]
    for part in ("train", "test"):
        for entry in split[part]:
            sub = Path("sub", entry[0])
            (file.parent / "sub").mkdir(exist_ok=True)
            (file.parent / entry[0]).rename(file.parent / sub)
            entry[0] = f"sub\\{sub.name}"
    file.write_text(json.dumps(split | {"info": {"made by": "hand"}}), encoding=encoding)
    after, _ = data.get("folder", file.parent)
    assert [path.name for path in after.train[0] + after.test[1]] == [p.name for p in before.train[0] + before.test[1]]


def test_arguments_are_checked(tmp_path):
    coop(tmp_path, 2)
    task, _ = data.get("oxford_pets", tmp_path)
    for refused, message in (
        (lambda: data.get("mnist", tmp_path), "^name must be one of eurosat, .*'mnist'"),
        (lambda: data.get("dtd", tmp_path, "all"), "^protocol must be one of few_shot, base_to_new"),
        (lambda: data.get("dtd", tmp_path, download="yes"), "^download must be True or False"),
        (lambda: data.get("dtd", 5), "^root must be the path of a folder, but 5"),
        (lambda: task.few_shot(0, 0), "^shots must be an integer of at least 1"),
        (lambda: task.few_shot(5, 0), "^shots must be at most 4 .*'old cat 0' in 'oxford_pets'.* 5 was given"),
        (lambda: task.tested(0, 8), "^test_size must be"),
        (lambda: task.draw(1, 0, 0), "^image_size must be"),
    ):
        with pytest.raises(ParameterError, match=message):
            refused()
