"""Folders of pictures and files of every kind: what both wings read, what they pass over and what they refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from lib import pictures
from lib.checks import ParameterError
from lib.hardware import networks
from lib.prompts import data


def noise(path: Path, *seed: int) -> Path:
    """A picture of 32 x 32 pixels that is like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return path


def album(root: Path, classes: tuple[str, ...] = ("cat", "dog"), suffix: str = "png", parts=("train", "test")) -> Path:
    """Two training and two test pictures of every class."""
    for place, part in enumerate(parts):
        for label, name in enumerate(classes):
            for number in range(2):
                noise(root / part / name / f"{number}.{suffix}", place, label, number)
    return root


def first(root: Path) -> list[list[str]]:
    """The training pictures of every class, as Part I lists them."""
    task, _ = data.get("folder", root)
    return [[path.name for path in own] for own in task.train]


def second(root: Path) -> tuple[list[int], list[int]]:
    """The labels that Part II reads."""
    networks.cifar10.cache_clear()
    read = networks.cifar10(str(root))
    return read.y.tolist(), read.test_y.tolist()


BOTH = pytest.mark.parametrize("wing", [first, second])


# ------------------------------------------------------------------------------------------------ folders
@pytest.mark.parametrize(
    "extra",
    [
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/._0.png",
        "test/.cow/0.png",
        "train/__MACOSX/cat/._0.png",
        "test/dog/@eaDir/0.png",
        "train/cat/Thumbs.db",
        "train/desktop.ini",
        "train/cow/",
        "train/readme.png",
    ],
)
@BOTH
def test_what_is_no_picture_of_a_class_is_passed_over(wing, extra, tmp_path):
    before = wing(album(tmp_path))
    added = tmp_path / extra
    (added if extra.endswith("/") else added.parent).mkdir(parents=True, exist_ok=True)
    if not extra.endswith("/"):
        added.write_bytes(b"no picture")
    assert wing(tmp_path) == before


@pytest.mark.parametrize("suffix", ["gif", "webp", "TIF", "Jpeg"])
@pytest.mark.parametrize("parts", [("Train", "Test"), ("TRAIN", "test")])
@BOTH
def test_usual_formats_and_spellings_are_read(wing, suffix, parts, tmp_path):
    found = wing(album(tmp_path / "Téa's .pictures", suffix=suffix, parts=parts))
    assert found in ([[f"{number}.{suffix}" for number in range(2)]] * 2, ([0, 0, 1, 1],) * 2)


def test_the_order_is_that_of_torchvision(tmp_path):
    album(tmp_path, names := ("b", "B", "a-b", "a"))
    for number, inner in enumerate(("a/z/1", "a/z-1/0", "a/10", "a/9")):
        noise(tmp_path / "train" / f"{inner}.png", 7, number)
    found, known = pictures.by_class(tmp_path, "nothing"), ImageFolder(str(tmp_path / "train"))
    assert list(found.names.values()) == known.classes == sorted(names)
    assert [(str(path), label) for path, label in found.train] == known.samples


@BOTH
def test_no_class_may_be_empty_in_one_part(wing, tmp_path):
    noise(album(tmp_path) / "train/cow/0.png", 9)
    for _ in range(2):
        with pytest.raises(ParameterError, match="in train and in test, but 'cow' without any in test was given.$"):
            wing(tmp_path)
        (tmp_path / "test/cow").mkdir(exist_ok=True)


def _copies(root: Path) -> str:
    shutil.rmtree(root / "test")
    shutil.copytree(root / "train", root / "test")
    return "test pictures that are not trained on, but 4 of 4 that stand in training too were given.$"


def _one_copy(root: Path) -> str:
    shutil.copy(root / "train/dog/0.png", root / "test/dog/9.png")
    return "test pictures that are not trained on, but 1 of 5 that stand in training too were given.$"


def _linked(root: Path) -> str:
    shutil.rmtree(root / "test")
    (root / "test").symlink_to("train")
    return "test pictures that are not trained on, but 4 of 4 "


def _loop(root: Path) -> str:
    (root / "train/cat/loop").symlink_to(root / "train")
    return "pictures of one class each, but .* that stand in several were given.$"


def _two_classes(root: Path) -> str:
    shutil.copy(root / "train/dog/0.png", root / "train/cat/9.png")
    return "pictures of one class each, but 2 of 5 that stand in several were given.$"


def _equal(root: Path) -> str:
    for path in root.rglob("*.png"):
        Image.new("RGB", (32, 32)).save(path)
    return "pictures of one class each, but 4 of 4 that stand in several were given.$"


def _one_class(root: Path) -> str:
    for part in ("train", "test"):
        shutil.rmtree(root / part / "dog")
    return r"at least 2 classes \(chance is right in one\), but 1 \(cat\) was given.$"


def _no_pictures(root: Path) -> str:
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".heic"))
    return r"at least 2 classes \(chance is right in one\), but 0 \(none with pictures\) was given.$"


@pytest.mark.parametrize("change", [_copies, _one_copy, _linked, _loop, _two_classes, _equal, _one_class, _no_pictures])
@BOTH
def test_what_is_no_task_is_refused_in_one_sentence(wing, change, tmp_path):
    allowed = change(album(tmp_path))
    with pytest.raises(ParameterError, match=f"^root must hold {allowed}"):
        wing(tmp_path)


def test_published_data_may_hold_a_few_pictures_twice():
    rows = [np.full((1, 1, 3), level, np.uint8) for level in range(200)]
    names = {0: "dark", 1: "bright"}
    train, test = ([(row, int(level >= 50)) for level, row in enumerate(part)] for part in (rows[:100], rows[100:]))
    pictures.Found(names, train, [*test[:99], train[0]]).distinct()
    pictures.Found(names, train, test).distinct()
    with pytest.raises(ParameterError, match="2 of 100 that stand in training"):
        pictures.Found(names, train, [*test[:98], *train[:2]]).distinct()


def test_a_picture_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    album(tmp_path)

    def locked(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", locked)
    with pytest.raises(ParameterError, match=r"^root must be .* was given \(.*Permission denied: '.*0.png'\)\.$"):
        first(tmp_path)


@pytest.mark.parametrize("root", [None, 5, True, b"data", "", "  ", "a\0b"])
def test_a_root_that_is_no_path_is_refused(root):
    for read in (
        lambda: data.get("folder", root),
        lambda: networks.dataset("cifar10", root),
        lambda: networks.dataset("digits", root) if root != "" else pictures.folder(root),
    ):
        with pytest.raises(ParameterError, match="^root must be the path of a folder, but .* was given.$"):
            read()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    album(tmp_path / "mine")
    assert first(Path("~/mine")) == first(tmp_path / "mine") and second(Path("~/mine")) == second(tmp_path / "mine")


def test_a_digest_follows_the_content(tmp_path):
    file = noise(tmp_path / "a.png", 1)
    before = pictures.digest(file)
    assert before == pictures.digest(noise(tmp_path / "b.png", 1)) != pictures.digest(noise(tmp_path / "c.png", 2))
    noise(file, 2)
    assert pictures.digest(file) != before
    assert pictures.digest(np.zeros((2, 2, 3), np.uint8)) != pictures.digest(np.ones((2, 2, 3), np.uint8))


# ------------------------------------------------------------------------------------------------- files
#: Eight levels from black to white.
RAMP = np.linspace(0, 1, 8)


def saved(folder: Path, image: Image.Image, suffix: str = "png", **options: object) -> Path:
    image.save(folder / f"picture.{suffix}", **options)
    return folder / f"picture.{suffix}"


def ramp(mode: str) -> Image.Image:
    """The ramp in one row of any mode."""
    grey = Image.fromarray(np.round(RAMP * 255).astype(np.uint8)[None])
    if mode == "F":
        return Image.fromarray(RAMP.astype(np.float32)[None])
    if mode == "I":
        return Image.fromarray(np.round(RAMP * 65535).astype(np.int32)[None])
    if mode.startswith("I;16"):
        kind = ">u2" if mode.endswith("B") else "<u2"
        return Image.frombytes(mode, (8, 1), np.round(RAMP * 65535).astype(kind).tobytes())
    way = {"LA": "L", "PA": "P"}.get(mode, "RGB")
    return grey.convert(way).convert(mode, dither=Image.Dither.NONE)


@pytest.mark.parametrize("mode", "L LA P PA RGB RGBA RGBX CMYK YCbCr LAB HSV I I;16 I;16B F".split())
def test_every_mode_shows_the_same_picture(mode, monkeypatch):
    image = ramp(mode)
    assert image.mode == mode
    monkeypatch.setattr(Image, "open", lambda path: image)
    shown = np.asarray(pictures.rgb(Path("picture"))).astype(int)
    # The palette of the web has six levels; a colour space costs a level.
    expected = np.round(RAMP * 255)[None, :, None]
    assert shown.shape == (1, 8, 3) and abs(shown - expected).max() <= (26 if mode == "P" else 1)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("F", "tif"), ("I;16", "png"), ("I;16", "tif"), ("I;16B", "tif"), ("I", "tif"), ("I", "pgm"), ("CMYK", "jpg")]
    + [("LA", "png"), ("LAB", "tif"), ("YCbCr", "tif"), ("L", "webp"), ("L", "gif"), ("1", "png"), ("P", "gif")],
)
def test_files_of_every_mode_are_read_in_both_wings(mode, suffix, tmp_path):
    file = saved(tmp_path, ramp(mode).resize((8, 8), Image.Resampling.NEAREST), suffix)
    shown = np.asarray(pictures.rgb(file)).astype(int)
    assert abs(shown - np.round(RAMP * 255)[None, :, None]).max() <= (130 if mode == "1" else 26)
    task = data.RealTask("one", ("it",), "{}", "one", (), ((file,),))
    assert np.array_equal((task.tested(1, 8)[0][0] * 255).permute(1, 2, 0).round().int().numpy(), shown)


@pytest.mark.parametrize(
    ("image", "suffix", "options"),
    [
        (Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "png", {}),
        (Image.new("LA", (8, 8), (9, 0)), "png", {}),
        (Image.new("P", (8, 8), 0), "png", {"transparency": 0}),
        (Image.new("P", (8, 8), 0), "gif", {"transparency": 0}),
        (Image.new("RGB", (8, 8), (1, 2, 3)), "png", {"transparency": (1, 2, 3)}),
        (Image.new("L", (8, 8), 7), "png", {"transparency": 7}),
    ],
)
def test_what_is_transparent_is_white(image, suffix, options, tmp_path):
    assert (np.asarray(pictures.rgb(saved(tmp_path, image, suffix, **options))) == 255).all()


def test_half_transparent_is_half_white(tmp_path):
    shown = np.asarray(pictures.rgb(saved(tmp_path, Image.new("RGBA", (8, 8), (200, 0, 100, 128)))))
    assert abs(shown.astype(float) - [227.4, 127, 177.2]).max() < 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_camera_held_askew_is_turned_back(suffix, tmp_path):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255
    # The tag says how the stored picture must be turned: 6 is a quarter clockwise, 3 a half.
    for tag, stored in ((6, np.rot90(upright)), (3, np.rot90(upright, 2)), (8, np.rot90(upright, 3)), (1, upright)):
        image = Image.fromarray(np.ascontiguousarray(stored))
        exif = image.getexif()
        exif[0x112] = tag
        shown = np.asarray(pictures.rgb(saved(tmp_path, image, suffix, exif=exif))).astype(int)
        assert shown.shape == upright.shape and abs(shown - upright).mean() < 3


def test_of_several_frames_the_first_is_shown(tmp_path):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    for suffix in ("gif", "tif", "png"):
        file = saved(tmp_path, red, suffix, save_all=True, append_images=[blue])
        assert (np.asarray(pictures.rgb(file)) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.new("L", (30_000, 1)), "30000 x 1 pixels are too many or too thin"),
        (Image.new("L", (1, 101)), "1 x 101 pixels are too many or too thin"),
        (Image.new("1", (8_192, 8_193)), "8192 x 8193 pixels are too many or too thin"),
        (Image.fromarray(np.float32([[0, 255]])), "values of mode F from 0 to 255, not 1"),
        (Image.fromarray(np.float32([[-0.1, 1]])), "values of mode F from -0.1 to 1, not 1"),
        (Image.fromarray(np.float32([[0, np.nan]])), "values of mode F from nan to nan, not 1"),
        (Image.fromarray(np.int32([[0, 65_536]])), "values of mode I from 0 to 65536, not 65535"),
        (Image.fromarray(np.int32([[-1, 1_000]])), "values of mode I from -1 to 1000, not 65535"),
        (Image.fromarray(np.uint16([[0, 255]])), "values of mode I;16 from 0 to 255, not 65535"),
    ],
)
def test_what_cannot_be_shown_is_named(image, words, tmp_path):
    file = saved(tmp_path, image, "tif")
    with pytest.raises(ParameterError) as refusal:
        pictures.rgb(file)
    assert str(refusal.value) == f"root must hold pictures that can be opened, but {str(file)!r} was given ({words})."


def test_a_hundred_to_one_is_the_limit(tmp_path):
    assert pictures.rgb(saved(tmp_path, Image.new("L", (100, 1)))).size == (100, 1)
