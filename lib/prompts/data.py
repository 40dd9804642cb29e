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
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from lib import checks
from lib import pictures as files
from lib.checks import ParameterError
from lib.pictures import Found, Items, Picture
from lib.prompts import tasks
from lib.runtime import stream

Protocol = Literal["few_shot", "base_to_new"]
"""Which classes are trained on and tested on; a data set means nothing without it."""

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
_PHOTO = "a photo of a {}."


# ------------------------------------------------------------------------------------------ split files
def _fault(entry: Any) -> str | None:
    """What an entry of a split file should have been, if it is not."""
    # type, not isinstance: True is an int too.
    if not isinstance(entry, list) or [type(value) for value in entry] != [str, int, str] or not entry[2]:
        return "[path, integer label, class name]"
    # Windows' rules know both separators and drives, wherever this runs.
    path = PureWindowsPath(entry[0])
    return "a path inside its folder" if path.anchor or ".." in path.parts else None


def _read_split(path: Path, images: Sequence[Path]) -> Found:
    """A split file of lists [path, label, class name], and its pictures in one of the folders ``images``.

    The first folder that has the first picture must have them all. Refuses any other shape, paths that leave the
    folder, pictures that are missing or listed twice, and labels with two names.
    """
    try:
        split: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise ParameterError(f"{path.name} must be a JSON file, but a damaged one was given ({problem}).") from None
    if not isinstance(split, dict) or not {"train", "test"} <= set(split):
        given = f"one with {', '.join(split) or 'nothing'}" if isinstance(split, dict) else reprlib.repr(split)
        raise ParameterError(f"{path.name} must be an object with train and test, but {given} was given.")
    names: dict[int, str] = {}
    found: dict[str, Items] = {"train": [], "val": [], "test": []}
    seen: set[Path] = set()
    base = None
    for part, items in found.items():
        entries: Any = split.get(part, [])
        if not isinstance(entries, list) or (not entries and part != "val"):
            raise ParameterError(
                f"{part} of {path.name} must be a list with entries, but {reprlib.repr(entries)} was given."
            )
        for place, entry in enumerate(entries):
            fault = _fault(entry)
            if not fault:
                picture, label, name = entry
                inner = PureWindowsPath(picture).as_posix()
                # os.path says no to a name that no file can have, where Path raises.
                base = base or next((folder for folder in images if os.path.isfile(folder / inner)), images[0])
                file = base / inner
                if not os.path.isfile(file):
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
    return Found(names, found["train"], found["test"])


# ----------------------------------------------------------------------------------- torchvision's layouts
def _by_class(items: Items, labels: Sequence[int]) -> tuple[tuple[Picture, ...], ...]:
    """The pictures of each of the ``labels``, in the order of the items."""
    groups: dict[int, list[Picture]] = {label: [] for label in labels}
    for picture, label in items:
        if label in groups:
            groups[label].append(picture)
    return tuple(tuple(group) for group in groups.values())


def _permuted(name: str, classes: Sequence[str], items: Items) -> Found:
    """A data set without a split of its own: 30 per cent of every class, rounded up, are kept for the test."""
    generator = stream(0, "task", name, "split")
    found = Found(dict(enumerate(classes)), [], [])
    for label, pictures in enumerate(_by_class(items, range(len(classes)))):
        tested = -(-3 * len(pictures) // 10)
        for turn, place in enumerate(torch.randperm(len(pictures), generator=generator).tolist()):
            (found.test if turn < tested else found.train).append((pictures[place], label))
    return found


def _eurosat(root: Path, download: bool) -> Found:
    data = datasets.EuroSAT(root, loader=Path, download=download)
    return _permuted("eurosat", data.classes, [data[i] for i in range(len(data))])


def _caltech101(root: Path, download: bool) -> Found:
    data = datasets.Caltech101(root, download=download)
    # Faces_easy shows the faces once more, cropped: CoOp leaves them out too.
    label = {y: k for k, y in enumerate(y for y, word in enumerate(data.categories) if word != "Faces_easy")}
    folders = [Path(data.root, "101_ObjectCategories", word) for word in data.categories]
    files = zip(data.index, data.y, strict=True)
    items = [(folders[y] / f"image_{number:04d}.jpg", label[y]) for number, y in files if y in label]
    return _permuted("caltech101", [data.categories[y] for y in label], items)


def _published(kind: Callable[..., Any]) -> Callable[[Path, bool], Found]:
    """The reader of a data set that has splits of its own, the last one for the test; it finds files, not pictures."""

    def read(root: Path, download: bool) -> Found:
        parts = [kind(root, part, loader=Path, download=download) for part in ("train", "val", "test")]
        if any(part.classes != parts[0].classes for part in parts):
            raise ValueError("its splits have different classes")
        *train, test = ([part[i] for i in range(len(part))] for part in parts)
        return Found(dict(enumerate(parts[0].classes)), sum(train, []), test)

    return read


# ------------------------------------------------------------------------------------------- data sets
@dataclass(frozen=True)
class _DataSet:
    """Where a data set lies below its root, and what its classes are called in a sentence.

    ``coop`` is the folder of CoOp, the one of its pictures therein, and the end of its split file's name; ``needs``
    is what torchvision's layout must hold for ``read(root, download)``; ``words`` replaces class names.
    """

    template: str
    coop: tuple[str, str, str] | None = None
    read: Callable[[Path, bool], Found] | None = None
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
        "a centered satellite photo of {}.", ("eurosat", "2750", "EuroSAT"), _eurosat, ("eurosat/2750",), _LAND
    ),
    "dtd": _DataSet("{} texture.", ("dtd", "images", "DescribableTextures"), _published(datasets.DTD), _DTD),
    "flowers102": _DataSet(
        "a photo of a {}, a type of flower.",
        ("oxford_flowers", "jpg", "OxfordFlowers"),
        _published(datasets.Flowers102),
        _FLOWERS,
        {"pink-yellow dahlia?": "pink-yellow dahlia"},
    ),
    "caltech101": _DataSet(
        _PHOTO, ("caltech-101", "101_ObjectCategories", "Caltech101"), _caltech101, _CALTECH, _OBJECTS
    ),
    "cifar10": _DataSet(_PHOTO, None, files.batches, _CIFAR),
    "oxford_pets": _DataSet("a photo of a {}, a type of pet.", ("oxford_pets", "images", "OxfordPets")),
    "stanford_cars": _DataSet(_PHOTO, ("stanford_cars", "", "StanfordCars")),
    "food101": _DataSet("a photo of {}, a type of food.", ("food-101", "images", "Food101")),
    "sun397": _DataSet(_PHOTO, ("sun397", "SUN397", "SUN397")),
    "ucf101": _DataSet("a photo of a person doing {}.", ("ucf101", "UCF-101-midframes", "UCF101")),
    "folder": _DataSet(_PHOTO),
}
NAMES = tuple(_SETS)
"""Names that :func:`get` knows."""


def _own_folder(root: Path) -> tuple[str, Found]:
    """What a folder holds, and its name: a known split file makes it that data set."""
    splits = sorted(root.glob("split_zhou_*.json"))
    if len(splits) == 1:
        title = splits[0].stem.removeprefix("split_zhou_")
        name = next((key for key, known in _SETS.items() if known.coop and known.coop[2] == title), title)
        return name, _read_split(splits[0], [root, *sorted(folder for folder in root.iterdir() if folder.is_dir())])
    if splits:
        given = f"{str(root)!r} with {' and '.join(file.name for file in splits)}"
        raise ParameterError(f"root must be a folder with one split file, but {given} was given.")
    return "folder", files.whole("pictures by class", root, lambda: files.by_class(root, "a split_zhou_*.json"))


def _find(name: str, root: Path, download: bool) -> tuple[str, Found]:
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
            raise files.missing(name, root, file)
    for need in known.needs:
        if not download and not (root / need).exists():
            raise files.missing(name, root, root / need, ", or ask for download=True")
    return name, files.whole(name, root, lambda: known.read(root, download))  # type: ignore[misc]


# ----------------------------------------------------------------------------------------------- tasks
def _load(chosen: Sequence[Picture], size: int) -> Tensor:
    """Pixels [N, 3, size, size] in [0, 1]: RGB, short side resized (bicubic, antialiased), centre cropped."""
    images = torch.empty(len(chosen), 3, size, size)
    for row, picture in zip(images, chosen, strict=True):
        image = transforms.resize(files.rgb(picture), size, InterpolationMode.BICUBIC)
        row.copy_(transforms.pil_to_tensor(transforms.center_crop(image, [size, size])).float() / 255)
    return images


def _crop(side: int, generator: torch.Generator) -> list[int]:
    """Top, left, height and width of a random part of a square picture: as ``RandomResizedCrop.get_params`` draws."""

    def uniform(low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high, generator=generator).item()

    for _ in range(10):
        area, ratio = side * side * uniform(0.08, 1.0), math.exp(uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= side and 0 < height <= side:
            room = (side - height, side - width)
            return [*(int(torch.randint(free + 1, (1,), generator=generator)) for free in room), height, width]
    return [0, 0, side, side]


def augmented(images: Tensor, flips: bool, generator: torch.Generator) -> Tensor:
    """A random view of every square picture [N, 3, S, S] in [0, 1], as CoOp and its successors train on: a crop of 8 to
    100 per cent of the area with sides from 3:4 to 4:3, resized to S (bicubic); every second one turned left to right,
    where ``flips`` says that it may be.
    """
    side = images.shape[-1]
    views = torch.empty_like(images)
    for view, image in zip(views, images, strict=True):
        place = _crop(side, generator)
        cropped = transforms.resized_crop(image, *place, [side, side], InterpolationMode.BICUBIC, antialias=True)
        turned = torch.rand((), generator=generator) < 0.5 and flips
        view.copy_((cropped.flip(-1) if turned else cropped).clamp(0, 1))
    return views


@dataclass(frozen=True, eq=False)
class RealTask:
    """A K-way task of real pictures, opened only when they are drawn.

    ``names`` are the class names, ``template`` puts one into a sentence for zero-shot use; ``train`` and ``test`` hold
    the pictures of every class, ``source`` names the data set (few_shot and base_to_new draw the same training
    pictures of a class). The task of the new classes has no ``train``.
    """

    name: str
    names: tuple[str, ...]
    template: str
    source: str
    train: tuple[tuple[Picture, ...], ...] = field(repr=False)
    test: tuple[tuple[Picture, ...], ...] = field(repr=False)

    #: May pictures be turned left to right? Those who published on these data sets do so.
    flips: ClassVar[bool] = True

    @property
    def prompts(self) -> list[str]:
        """One zero-shot sentence per class."""
        return [self.template.format(name) for name in self.names]

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

        Raises :class:`ParameterError` for a class with fewer, for the task of the new classes, and for equal pictures.
        """
        checks.integer("image_size", image_size, 1)
        self.enough(shots)
        drawn = [picture for own in self._dealt(seed) for picture in own[:shots]]
        images = _load(drawn, image_size)
        if len(images) > 1 and images.eq(images[0]).all():
            raise ParameterError(f"root must hold pictures that differ, but {self.name!r} with equal ones was given.")
        return images, torch.arange(len(self.names)).repeat_interleave(shots)

    def _dealt(self, seed: int) -> list[list[Picture]]:
        """The training pictures of every class in the order of a seed: those to train on come first."""
        generator = stream(seed, "task", self.source, "train")
        return [[own[at] for at in torch.randperm(len(own), generator=generator).tolist()] for own in self.train]

    def validation(self, count: int, shots: int, seed: int, image_size: int) -> tuple[Tensor, Tensor]:
        """Training pictures [N, 3, S, S] that ``shots`` leave over, and labels [N]: of every class as many as make
        about ``count`` together, or what there is; none where nothing is left.
        """
        each = -(-count // len(self.names))
        left = [own[shots : shots + each] for own in self._dealt(seed)]
        images = _load([picture for own in left for picture in own], image_size)
        return images, torch.arange(len(left)).repeat_interleave(torch.tensor([len(own) for own in left]))

    def test_seed(self, test_size: int, seed: int) -> int:
        """The seed on which the test set depends: none where all test pictures are taken."""
        return seed if test_size < sum(map(len, self.test)) else 0

    def tested(self, test_size: int, image_size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """At most ``test_size`` test pictures [N, 3, S, S] in [0, 1] and labels [N] for one seed.

        Every class gives one picture before any gives a second, so classes are balanced as far as they reach;
        a larger ``test_size`` adds pictures and takes none away.
        """
        checks.integer("test_size", test_size, 1)
        checks.integer("image_size", image_size, 1)
        generator = stream(seed, "task", self.name, "test")
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
        test_images, test_labels = self.tested(test_size, image_size, seed)
        return tasks.FewShot(images, labels, None, test_images, test_labels, None)


def halves(labels: Iterable[int]) -> tuple[list[int], list[int]]:
    """Base labels and new labels: the first ceil(n/2) of the n different labels in order, and the others."""
    ordered = sorted(set(labels))
    base = -(-len(ordered) // 2)
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
    if checks.flag("download", download) and _SETS[name].read is None:
        raise ParameterError(f"download must be False for {name!r}, which is read from a folder, but True was given.")
    source, found = _find(name, files.folder(root), download)
    if name == "folder":
        # What others published is taken as it is.
        files.whole(source, files.folder(root), found.distinct)
    known = _SETS.get(source, _SETS["folder"])
    everything = sorted(found.names)
    if protocol == "base_to_new" and len(everything) < 4:
        raise ParameterError(
            f"root must hold at least 4 classes for base_to_new (two a half), but {len(everything)} were given."
        )
    words = {label: known.words.get(word, word).replace("_", " ") for label, word in found.names.items()}
    spoken: dict[str, int] = {}
    for label, word in words.items():
        # To a tokeniser upper case and further spaces are nothing.
        plain = " ".join(word.lower().split())
        if spoken.setdefault(plain, label) != label or not plain or not plain.isprintable():
            given = f"{found.names[spoken[plain]]!r} beside {found.names[label]!r}"
            raise ParameterError(
                f"root must hold classes whose names differ in more than case, spaces and _, but {given} was given."
            )

    def part(half: str, labels: Sequence[int]) -> RealTask:
        test = _by_class(found.test, labels)
        if bare := [found.names[label] for label, own in zip(labels, test, strict=True) if not own]:
            raise ParameterError(
                f"root must hold test pictures of every class of {source}{half}, but none of {bare[0]!r} was given."
            )
        train = () if half == " new" else _by_class(found.train, labels)
        return RealTask(source + half, tuple(words[label] for label in labels), known.template, source, train, test)

    if protocol == "few_shot":
        return part("", everything), None
    base, new = halves(everything)
    return part(" base", base), part(" new", new)
