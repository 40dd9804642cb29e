"""Real pictures as tasks: data sets that torchvision reads, CoOp-style folders, and folders of one's own.

:func:`get` finds a data set by its name below ``root`` and returns a :class:`RealTask`, which yields the same
:class:`~lib.prompts.tasks.FewShot` as a task of the procedural world. Nothing is downloaded unless asked for. ::

    eurosat, dtd, flowers102, caltech101    the CoOp-style folder if its split file is there, else torchvision's layout
    cifar10                                 torchvision's layout
    oxford_pets, stanford_cars, food101, sun397, ucf101    the CoOp-style folder
    folder                                  root itself: one split_zhou_*.json whose pictures lie beside it or in one
                                            sub-folder, or the folders train/<class>/ and test/<class>/

Folders, split files, class names and hand-written templates are those of CoOp (Zhou et al. 2022), and so are the
two protocols: ``few_shot`` trains and tests on all classes; ``base_to_new`` sorts the labels, trains on the first
ceil(n/2) classes and tests these and the others separately, each half numbered from 0.

Where this differs from CoOp: a class with fewer pictures than ``shots`` is refused (CoOp repeats pictures). Without
a split file EuroSAT and Caltech101 have no published split, so a fixed permutation of every class gives 30 per cent
(rounded up) to the test; DTD (its first partition) and Flowers102 keep their test split, and train and validation
together are trained on, because nothing here validates. A split file's validation pictures are not used.

Files are checked before they are used. CIFAR-10 comes as pickles, which torchvision opens only after their MD5
equals the published one: no pickle of unknown content is loaded. As a folder of pictures it needs none.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from lib import checks
from lib.checks import ParameterError
from lib.prompts import tasks
from lib.runtime import stream

Protocol = Literal["few_shot", "base_to_new"]
"""Which classes are trained on and tested on; a data set means nothing without it."""

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
"""Names of the protocols."""

Picture = Path | np.ndarray
"""The file of a picture, or its pixels [H, W, 3] in bytes."""

_Items = list[tuple[Picture, int]]

_PHOTO = "a photo of a {}."


@dataclass
class _Found:
    """What a data set holds: class names by label, pictures with labels to train on and to test on."""

    names: dict[int, str]
    train: _Items
    test: _Items


# ------------------------------------------------------------------------------------------ split files
def _fault(entry: Any) -> str | None:
    """What an entry of a split file should have been, if it is not."""
    # type, not isinstance: True is an int too.
    if not isinstance(entry, list) or [type(value) for value in entry] != [str, int, str] or not entry[2]:
        return "[path, integer label, class name]"
    # Windows' rules know both separators and drives, wherever this runs.
    path = PureWindowsPath(entry[0])
    return "a path inside its folder" if path.anchor or ".." in path.parts else None


def _read_split(path: Path, images: Sequence[Path]) -> _Found:
    """A split file of lists [path, label, class name], and its pictures in one of the folders ``images``.

    The first folder that has the first picture must have them all. Refuses any other shape, paths that leave the
    folder, pictures that are missing or listed twice, and labels with two names.
    """
    try:
        split: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise ParameterError(f"{path.name} must be a JSON file, but a damaged one was given ({problem}).") from None
    if not isinstance(split, dict) or set(split) != {"train", "val", "test"}:
        given = f"one with {', '.join(split) or 'nothing'}" if isinstance(split, dict) else reprlib.repr(split)
        raise ParameterError(f"{path.name} must be an object with train, val and test, but {given} was given.")
    names: dict[int, str] = {}
    found: dict[str, _Items] = {"train": [], "val": [], "test": []}
    seen: set[Path] = set()
    base = None
    for part, items in found.items():
        if not isinstance(split[part], list) or (not split[part] and part != "val"):
            raise ParameterError(
                f"{part} of {path.name} must be a list with entries, but {reprlib.repr(split[part])} was given."
            )
        for place, entry in enumerate(split[part]):
            fault = _fault(entry)
            if not fault:
                picture, label, name = entry
                base = base or next((folder for folder in images if (folder / picture).is_file()), images[0])
                file = base / picture
                if not file.is_file():
                    fault = f"an existing picture (put the missing {file.name} into {str(file.parent)!r})"
                elif file in seen:
                    fault = "a picture not listed before"
                elif names.setdefault(label, name) != name:
                    fault = f"of class {names[label]!r}, as label {label} was before"
            if fault:
                raise ParameterError(
                    f"entry {place} of {part} in {path.name} must be {fault}, but {entry!r} was given."
                )
            seen.add(file)
            items.append((file, label))
    return _Found(names, found["train"], found["test"])


# ----------------------------------------------------------------------------------- torchvision's layouts
def _by_class(items: _Items, labels: Sequence[int]) -> tuple[tuple[Picture, ...], ...]:
    """The pictures of each of the ``labels``, in the order of the items."""
    groups: dict[int, list[Picture]] = {label: [] for label in labels}
    for picture, label in items:
        if label in groups:
            groups[label].append(picture)
    return tuple(tuple(group) for group in groups.values())


def _permuted(name: str, classes: Sequence[str], items: _Items) -> _Found:
    """A data set without a split of its own: 30 per cent of every class, rounded up, are kept for the test."""
    generator = stream(0, "task", name, "split")
    found = _Found(dict(enumerate(classes)), [], [])
    for label, pictures in enumerate(_by_class(items, range(len(classes)))):
        tested = -(-3 * len(pictures) // 10)
        for turn, place in enumerate(torch.randperm(len(pictures), generator=generator).tolist()):
            (found.test if turn < tested else found.train).append((pictures[place], label))
    return found


def _joined(*parts: Any) -> _Found:
    """Splits that torchvision reads, the last one for the test; with ``loader=Path`` they give files, not pictures."""
    classes = [set(part.classes) for part in parts]
    if odd := set.union(*classes) - set.intersection(*classes):
        raise ValueError(f"not every split has the class {min(odd)!r}")
    *train, test = ([part[i] for i in range(len(part))] for part in parts)
    return _Found(dict(enumerate(parts[0].classes)), sum(train, []), test)


def _eurosat(root: Path, download: bool) -> _Found:
    data = datasets.EuroSAT(root, loader=Path, download=download)
    return _permuted("eurosat", data.classes, [data[i] for i in range(len(data))])


def _caltech101(root: Path, download: bool) -> _Found:
    data = datasets.Caltech101(root, download=download)
    # Faces_easy shows the faces once more, cropped: CoOp leaves them out too.
    label = {y: k for k, y in enumerate(y for y, word in enumerate(data.categories) if word != "Faces_easy")}
    folders = [Path(data.root, "101_ObjectCategories", word) for word in data.categories]
    files = zip(data.index, data.y, strict=True)
    items = [(folders[y] / f"image_{number:04d}.jpg", label[y]) for number, y in files if y in label]
    return _permuted("caltech101", [data.categories[y] for y in label], items)


def _published(kind: Callable[..., Any]) -> Callable[[Path, bool], _Found]:
    """The reader of a data set that has splits of its own."""
    splits = ("train", "val", "test")
    return lambda root, download: _joined(*(kind(root, part, loader=Path, download=download) for part in splits))


def _cifar10(root: Path, download: bool) -> _Found:
    parts = [datasets.CIFAR10(root, train, download=download) for train in (True, False)]
    train, test = (list(zip(part.data, part.targets, strict=True)) for part in parts)
    return _Found(dict(enumerate(parts[0].classes)), train, test)


def _plain(root: Path, _: bool) -> _Found:
    return _joined(*(datasets.ImageFolder(str(root / part), loader=Path) for part in ("train", "test")))


# ------------------------------------------------------------------------------------------- data sets
@dataclass(frozen=True)
class _DataSet:
    """Where a data set lies below its root, and how it is spoken of.

    ``coop`` is the folder of CoOp, the one of its pictures therein, and the end of its split file's name; ``needs``
    is what torchvision's layout must hold for ``read(root, download)``; ``words`` replaces class names.
    """

    about: str
    template: str
    coop: tuple[str, str, str] | None = None
    read: Callable[[Path, bool], _Found] | None = None
    needs: tuple[str, ...] = ()
    words: dict[str, str] = field(default_factory=dict)


_LAND = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}
_OBJECTS = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
_DTD = tuple(f"dtd/dtd/{need}" for need in ("images", "labels/train1.txt", "labels/val1.txt", "labels/test1.txt"))
_FLOWERS = tuple(f"flowers-102/{need}" for need in ("jpg", "imagelabels.mat", "setid.mat"))
# torchvision wants the folder of backgrounds, which is no class, to be there.
_CALTECH = ("caltech101/101_ObjectCategories", "caltech101/101_ObjectCategories/BACKGROUND_Google")
_CIFAR = tuple(f"cifar-10-batches-py/{need}" for need, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list)

_SETS: dict[str, _DataSet] = {
    "eurosat": _DataSet(
        "land use seen by a satellite",
        "a centered satellite photo of {}.",
        ("eurosat", "2750", "EuroSAT"),
        _eurosat,
        ("eurosat/2750",),
        _LAND,
    ),
    "dtd": _DataSet(
        "textures", "{} texture.", ("dtd", "images", "DescribableTextures"), _published(datasets.DTD), _DTD
    ),
    "flowers102": _DataSet(
        "flowers",
        "a photo of a {}, a type of flower.",
        ("oxford_flowers", "jpg", "OxfordFlowers"),
        _published(datasets.Flowers102),
        _FLOWERS,
        {"pink-yellow dahlia?": "pink-yellow dahlia"},
    ),
    "caltech101": _DataSet(
        "objects", _PHOTO, ("caltech-101", "101_ObjectCategories", "Caltech101"), _caltech101, _CALTECH, _OBJECTS
    ),
    "cifar10": _DataSet("animals and vehicles", _PHOTO, None, _cifar10, _CIFAR),
    "oxford_pets": _DataSet("pets", "a photo of a {}, a type of pet.", ("oxford_pets", "images", "OxfordPets")),
    "stanford_cars": _DataSet("models of cars", _PHOTO, ("stanford_cars", "", "StanfordCars")),
    "food101": _DataSet("dishes", "a photo of {}, a type of food.", ("food-101", "images", "Food101")),
    "sun397": _DataSet("scenes", _PHOTO, ("sun397", "SUN397", "SUN397")),
    "ucf101": _DataSet("actions", "a photo of a person doing {}.", ("ucf101", "UCF-101-midframes", "UCF101")),
    "folder": _DataSet("pictures in a folder", _PHOTO),
}
NAMES = tuple(_SETS)
"""Names that :func:`get` knows."""


def _missing(name: str, root: Path, file: Path, download: bool = False) -> ParameterError:
    ask = ", or ask for download=True" if download else ""
    return ParameterError(
        f"root must be a folder that holds {name} (put the missing {file.name} into {str(file.parent)!r}{ask}),"
        f" but {str(root)!r} was given."
    )


def _reason(problem: Exception) -> str:
    """The first line of what an error says."""
    return (str(problem).splitlines() or [type(problem).__name__])[0]


def _library(name: str, root: Path, read: Callable[[Path, bool], _Found], download: bool) -> _Found:
    """What torchvision reads: its complaints become one sentence, and every file is there."""
    try:
        found = read(root, download)
    except (OSError, RuntimeError, ValueError, KeyError) as problem:
        raise ParameterError(
            f"root must be a folder with an intact copy of {name}, but {str(root)!r} was given ({_reason(problem)})."
        ) from None
    for picture, _ in (*found.train, *found.test):
        if isinstance(picture, Path) and not picture.is_file():
            raise _missing(name, root, picture)
    return found


def _own_folder(root: Path) -> tuple[str, _Found]:
    """What a folder holds, and its name: a known split file makes it that data set."""
    files = sorted(root.glob("split_zhou_*.json"))
    if len(files) == 1:
        title = files[0].stem.removeprefix("split_zhou_")
        name = next((key for key, known in _SETS.items() if known.coop and known.coop[2] == title), title)
        return name, _read_split(files[0], [root, *sorted(folder for folder in root.iterdir() if folder.is_dir())])
    if files:
        given = f"{str(root)!r} with {' and '.join(file.name for file in files)}"
        raise ParameterError(f"root must be a folder with one split file, but {given} was given.")
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise _missing("a split_zhou_*.json or pictures in train/<class> and test/<class>", root, root / part)
    return "folder", _library("train/<class> and test/<class>", root, _plain, False)


def _find(name: str, root: Path, download: bool) -> tuple[str, _Found]:
    """The name of a data set and what it holds; CoOp's split file goes before torchvision's layout."""
    known = _SETS[name]
    if name == "folder":
        return _own_folder(root)
    if known.coop:
        folder, images, title = known.coop
        file = root / folder / f"split_zhou_{title}.json"
        if file.is_file():
            return name, _read_split(file, [root / folder / images])
        if known.read is None:
            raise _missing(name, root, file)
    for need in known.needs:
        if not download and not (root / need).exists():
            raise _missing(name, root, root / need, True)
    return name, _library(name, root, known.read, download)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------- tasks
def _pixels(picture: Picture, size: int) -> Tensor:
    """Pixels [3, size, size] in [0, 1]: RGB, short side resized (bicubic, antialiased), centre cropped."""
    try:
        if isinstance(picture, np.ndarray):
            image = Image.fromarray(picture)
        else:
            with Image.open(picture) as file:
                image = file.convert("RGB")
    # Pillow's decoders raise errors of many kinds on damaged files.
    except Exception as problem:
        raise ParameterError(
            f"root must hold pictures that can be opened, but {str(picture)!r} was given ({_reason(problem)})."
        ) from None
    image = transforms.center_crop(transforms.resize(image, size, InterpolationMode.BICUBIC), [size, size])
    return transforms.pil_to_tensor(image).float() / 255


def _load(pictures: Sequence[Picture], size: int) -> Tensor:
    """Pixels [N, 3, size, size]."""
    images = torch.empty(len(pictures), 3, size, size)
    for row, picture in zip(images, pictures, strict=True):
        row.copy_(_pixels(picture, size))
    return images


@dataclass(frozen=True, eq=False)
class RealTask:
    """A K-way task of real pictures, opened only when they are drawn.

    ``names`` are the class names, ``template`` puts one into a sentence for zero-shot use, ``about`` says what the
    task asks; ``train`` and ``test`` hold the pictures of every class, ``source`` names the data set (few_shot and
    base_to_new draw the same training pictures of a class). The task of the new classes has no ``train``.
    """

    name: str
    names: tuple[str, ...]
    template: str
    about: str
    source: str
    train: tuple[tuple[Picture, ...], ...] = field(repr=False)
    test: tuple[tuple[Picture, ...], ...] = field(repr=False)

    @property
    def prompts(self) -> list[str]:
        """One zero-shot sentence per class."""
        return [self.template.format(name) for name in self.names]

    @cached_property
    def identity(self) -> str:
        """What tells one copy of a task from another: a hash over class names and over label, path and content of
        every picture (paths as they lie below the folder that holds them all).
        """
        parts = [(part, label, picture) for part in ("train", "test") for label, picture in self._labelled(part)]
        files = [picture for _, _, picture in parts if isinstance(picture, Path)]
        base = os.path.commonpath([file.parent for file in files]) if files else ""
        digest = hashlib.sha256(repr((self.names, self.template, self.source)).encode())
        for part, label, picture in parts:
            if isinstance(picture, Path):
                known, content = picture.relative_to(base).as_posix(), picture.read_bytes()
            else:
                known, content = repr(picture.shape), picture.tobytes()
            digest.update(repr((part, label, known, hashlib.sha256(content).hexdigest())).encode())
        return digest.hexdigest()[:16]

    def _labelled(self, part: str) -> Iterator[tuple[int, Picture]]:
        return ((label, picture) for label, own in enumerate(getattr(self, part)) for picture in own)

    def enough(self, shots: int) -> None:
        """Refuses more training pictures per class than there are, and any for the task of the new classes."""
        checks.integer("shots", shots, 1)
        if not self.train:
            raise ParameterError(
                f"shots must be drawn from the base classes ({self.name!r} is only tested on), but {shots} was given."
            )
        for name, pictures in zip(self.names, self.train, strict=True):
            if len(pictures) < shots:
                raise ParameterError(
                    f"shots must be at most {len(pictures)} (the training pictures of class {name!r} in"
                    f" {self.source!r}), but {shots} was given."
                )

    def draw(self, shots: int, seed: int, image_size: int) -> tuple[Tensor, Tensor]:
        """``shots`` different training pictures of every class: [N, 3, S, S] in [0, 1], labels [N] in order.

        Raises :class:`ParameterError` for a class with fewer pictures and for the task of the new classes.
        """
        checks.integer("image_size", image_size, 1)
        self.enough(shots)
        generator = stream(seed, "task", self.source, "train")
        drawn = [
            pictures[place]
            for pictures in self.train
            for place in torch.randperm(len(pictures), generator=generator)[:shots].tolist()
        ]
        return _load(drawn, image_size), torch.arange(len(self.names)).repeat_interleave(shots)

    def tested(self, test_size: int, image_size: int) -> tuple[Tensor, Tensor]:
        """At most ``test_size`` test pictures [N, 3, S, S] in [0, 1] and labels [N], the same for every seed.

        Every class gives one picture before any gives a second, so classes are balanced as far as they reach;
        a larger ``test_size`` adds pictures and takes none away.
        """
        checks.integer("test_size", test_size, 1)
        checks.integer("image_size", image_size, 1)
        generator = stream(0, "task", self.name, "test")
        turns = torch.randperm(len(self.test), generator=generator).tolist()
        dealt = []
        for label, pictures in enumerate(self.test):
            order = torch.randperm(len(pictures), generator=generator).tolist()
            dealt += [(round_, turns[label], label, place) for round_, place in enumerate(order)]
        chosen = sorted((label, place) for _, _, label, place in sorted(dealt)[:test_size])
        images = _load([self.test[label][place] for label, place in chosen], image_size)
        return images, torch.tensor([label for label, _ in chosen])

    def few_shot(self, shots: int, seed: int, test_size: int = 240, image_size: int = 224) -> tasks.FewShot:
        """What :func:`lib.prompts.tasks.few_shot` gives for the procedural world; there is no cue."""
        images, labels = self.draw(shots, seed, image_size)
        test_images, test_labels = self.tested(test_size, image_size)
        return tasks.FewShot(images, labels, None, test_images, test_labels, None)


def halves(labels: Iterable[int]) -> tuple[list[int], list[int]]:
    """Base labels and new labels: the first ceil(n/2) of the n different labels in order, and the others."""
    ordered = sorted(set(labels))
    base = math.ceil(len(ordered) / 2)
    return ordered[:base], ordered[base:]


def get(
    name: str, root: str | Path, protocol: Protocol = "few_shot", download: bool = False
) -> tuple[RealTask, RealTask | None]:
    """The task to train on, and for ``base_to_new`` the task of the new classes, which is only tested on.

    ``download`` lets torchvision fetch what is not below ``root`` (never where a split file is used). Raises
    :class:`ParameterError` with one sentence for files that are missing, damaged or not of the expected shape.
    """
    checks.choice("name", name, NAMES)
    checks.choice("protocol", protocol, PROTOCOLS)
    if not isinstance(root, str | Path) or not str(root).strip() or "\0" in str(root):
        raise ParameterError(f"root must be the path of a folder, but {root!r} was given.")
    if checks.flag("download", download) and _SETS[name].read is None:
        raise ParameterError(f"download must be False for {name!r}, which is read from a folder, but True was given.")
    source, found = _find(name, Path(root).expanduser(), download)
    known = _SETS.get(source, _SETS["folder"])
    everything = sorted(found.names)
    words = {label: known.words.get(word, word).replace("_", " ") for label, word in found.names.items()}

    def part(half: str, labels: Sequence[int]) -> RealTask:
        test = _by_class(found.test, labels)
        if not any(test):
            raise ParameterError(
                f"root must hold test pictures of {source}{half} ({len(labels)} classes), but {str(root)!r} was given."
            )
        about = known.about + (f", {len(labels)} of {len(everything)} classes" if half else "")
        train = () if half == " new" else _by_class(found.train, labels)
        names = tuple(words[label] for label in labels)
        return RealTask(source + half, names, known.template, about, source, train, test)

    if protocol == "few_shot":
        return part("", everything), None
    base, new = halves(everything)
    return part(" base", base), part(" new", new)
