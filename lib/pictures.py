"""Pictures in files, for both wings: folders of classes, CIFAR-10 as torchvision keeps it, a file of any kind as RGB.

Hidden files and folders (``.ipynb_checkpoints``, ``._cat.jpg``) and what is no picture by its name (``Thumbs.db``) are
passed over. What is no task is refused: one class, pictures in several classes, test pictures that are trained on.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lib.checks import ParameterError, reason

#: The file of a picture, or its pixels [H, W, 3] in bytes; and pictures with their labels.
Picture = Path | np.ndarray
Items = list[tuple[Picture, int]]


@dataclass
class Found:
    """What a data set holds: class names by label, pictures with labels to train on and to test on."""

    names: dict[int, str]
    train: Items
    test: Items

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            given = f"{len(self.names)} ({', '.join(self.names.values()) or 'none with pictures'})"
            raise ParameterError(f"root must hold at least 2 classes (chance is right in one), but {given} was given.")

    def distinct(self) -> Found:
        """Refuses training pictures that stand in several classes, and test pictures that are trained on: more than one
        in a hundred, since published data sets hold a few.
        """
        classes: dict[str, set[int]] = defaultdict(set)
        for picture, label in self.train:
            classes[digest(picture)].add(label)
        for part, wrong, allowed, given in (
            (self.train, lambda one: len(classes[one]) > 1, "pictures of one class each", "that stand in several"),
            (self.test, classes.__contains__, "test pictures that are not trained on", "that stand in training too"),
        ):
            count = sum(wrong(digest(picture)) for picture, _ in part)
            if 100 * count > len(part):
                raise ParameterError(f"root must hold {allowed}, but {count} of {len(part)} {given} were given.")
        return self


def folder(root: object) -> Path:
    """``root`` as a folder's path, ``~`` expanded; anything else is refused."""
    if not isinstance(root, str | Path) or not str(root).strip() or "\0" in str(root):
        raise ParameterError(f"root must be the path of a folder, but {root!r} was given.")
    return Path(os.path.expanduser(root))


def whole(name: str, root: Path, read: Callable[[], Found]) -> Found:
    """What ``read`` finds below ``root``: what it complains of becomes one sentence, and every file is there."""
    try:
        found = read()
    except ParameterError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError) as problem:
        raise ParameterError(
            f"root must be a folder with an intact copy of {name}, but {str(root)!r} was given ({reason(problem)})."
        ) from None
    for picture, _ in (*found.train, *found.test):
        if isinstance(picture, Path) and not picture.is_file():
            raise missing(name, root, picture)
    return found


def missing(name: str, root: Path, file: Path, more: str = "") -> ParameterError:
    """The refusal of a ``root`` below which ``file`` is not; ``more`` says what else would do."""
    return ParameterError(
        f"root must be a folder that holds {name} (put the missing {file.name} into {str(file.parent)!r}{more}),"
        f" but {str(root)!r} was given."
    )


def by_class(root: Path, other: str) -> Found:
    """``train/<class>/`` and ``test/<class>/`` in the order of torchvision's ImageFolder; with GIF, and nothing hidden.

    Either may be in capitals. A folder that is empty in both is no class; one that is empty or missing in one is
    refused. ``other`` would do too.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, ImageFolder

    def shown(path: str) -> bool:
        inner = path[len(str(root)) :]
        hidden = any(os.sep + name in inner for name in (".", "__MACOSX", "@eaDir"))
        return inner.lower().endswith((*IMG_EXTENSIONS, ".gif")) and not hidden

    parts = {entry.name.lower(): entry for entry in sorted(root.glob("[Tt]*")) if entry.is_dir()}
    for part in ("train", "test"):
        if part not in parts:
            raise missing(f"train/<class> and test/<class> with pictures, or {other}", root, root / part)
    both = [ImageFolder(parts[part], is_valid_file=shown, allow_empty=True) for part in ("train", "test")]
    full = [{part.classes[label] for label in part.targets} for part in both]
    if odd := full[0] ^ full[1]:
        given = f"{min(odd)!r} without any in {'test' if min(odd) in full[0] else 'train'}"
        raise ParameterError(f"root must hold pictures of every class in train and in test, but {given} was given.")
    names = sorted(full[0])
    items: list[Items] = [[(Path(path), names.index(part.classes[y])) for path, y in part.samples] for part in both]
    return Found(dict(enumerate(names)), *items)


def batches(root: Path, download: bool = False) -> Found:
    """CIFAR-10 as torchvision keeps it: pickles, which it opens only after their MD5 equals the published one."""
    from torchvision.datasets import CIFAR10

    both = [CIFAR10(root, train, download=download) for train in (True, False)]
    return Found(dict(enumerate(both[0].classes)), *(list(zip(one.data, one.targets, strict=True)) for one in both))


def digest(picture: Picture) -> str:
    """A hash of a file's or an array's content."""
    return hashlib.sha256(picture.tobytes() if isinstance(picture, np.ndarray) else picture.read_bytes()).hexdigest()


def rgb(picture: Picture) -> Image.Image:
    """A picture in RGB: upright as its EXIF says, the first of several frames, on white where it is transparent.

    Integers of 16 bits and numbers from 0 to 1 become bytes. Refused are other values, files that cannot be opened, and
    what might not fit into memory: more than 2^26 pixels, or a side a hundred times as long as the other.
    """
    try:
        if isinstance(picture, np.ndarray):
            return Image.fromarray(picture)
        with Image.open(picture) as file:
            if file.width * file.height > 2**26 or max(file.size) > 100 * min(file.size):
                raise ValueError(f"{file.width} x {file.height} pixels are too many or too thin")
            image: Image.Image = ImageOps.exif_transpose(file)
        if image.mode[0] in "IF":
            values, top = np.asarray(image), 1 if image.mode == "F" else 65535
            # Integers up to 255 were meant to be bytes, and would be black as 16 bits.
            if not 0 <= values.min() <= values.max() <= top or (top > 1 and 0 < values.max() < 256):
                raise ValueError(f"values of mode {image.mode} from {values.min():g} to {values.max():g}, not {top}")
            image = Image.fromarray((values * np.float32(255 / top)).round().astype(np.uint8))
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        return image.convert("RGB")
    # Pillow's decoders raise errors of many kinds on damaged files.
    except Exception as problem:
        raise ParameterError(
            f"root must hold pictures that can be opened, but {str(picture)!r} was given ({reason(problem)})."
        ) from None
