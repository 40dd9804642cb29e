"""All of Tiny ImageNet at 32 x 32, as PhotoCLIP is trained on it: from an archive or from an unpacked folder.

``train/WNID/N.jpg`` and ``val/WNID/N.jpg``, one folder for each class of :mod:`lib.prompts.photographs.words`. Any set
of this form can be trained on; few-shot tasks take only the recorded one (:mod:`lib.prompts.photographs.files`).
"""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib import checks, pictures
from lib.checks import ParameterError
from lib.prompts.backbone import checksum
from lib.prompts.photographs import SIZE, TINY, files, words

ARCHIVE: str = files.record()[TINY]["archive"]
#: Of each class so many training pictures, the first by their numbers, are kept for few-shot tasks.
KEPT: int = files.record()[TINY]["counts"][0]

#: Pictures of a class by their numbers, as they are stored.
Stored = dict[int, bytes]


@dataclass(frozen=True)
class Pictures:
    """What is in an archive: ``train`` and ``val`` give the stored pictures of each class by its WordNet number, and
    ``sha256`` is the archive's, empty for a folder.
    """

    train: dict[str, Stored]
    val: dict[str, Stored]
    sha256: str

    @property
    def each(self) -> int:
        """Pictures of each seen class to train on: all but the :data:`KEPT` that few-shot tasks have, of every class as
        many as the smallest has.
        """
        return min(len(self.train[one.wnid]) for one in words.classes() if one.seen) - KEPT

    def for_training(self) -> Tensor:
        """Pictures in bytes [seen classes, each, 3, 32, 32]."""
        return _decoded(self.train, "train", [one.wnid for one in words.classes() if one.seen], KEPT, self.each)

    def held_out(self) -> Tensor:
        """Validation pictures in bytes [200, N, 3, 32, 32], as many of every class as the smallest has."""
        wnids = [one.wnid for one in words.classes()]
        return _decoded(self.val, "val", wnids, 0, min(len(self.val[wnid]) for wnid in wnids))


def read(place: str | Path) -> Pictures:
    """Reads an archive, or the folder that it unpacks to, in one pass (half a minute on a core).

    Raises :class:`ParameterError` with one sentence for one that is missing, damaged, or not of the classes that
    PhotoCLIP knows.
    """
    path = pictures.folder(place)
    if not path.exists():
        raise ParameterError(
            f"archive must be Tiny ImageNet at 32 x 32 ({ARCHIVE}, or the folder that it unpacks to), but"
            f" {str(place)!r} does not exist."
        )
    found: dict[str, dict[str, Stored]] = {"train": {}, "val": {}}
    try:
        for name, content in _folder(path) if path.is_dir() else _archive(path):
            if match := re.fullmatch(r"(?:.*/)?(train|val)/(n\d+)/(\d+)\.jpe?g", name):
                part, wnid, number = match.groups()
                found[part].setdefault(wnid, {})[int(number)] = content
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as problem:
        raise ParameterError(
            f"archive must be an intact copy of {ARCHIVE}, but {str(place)!r} cannot be read"
            f" ({checks.reason(problem)})."
        ) from None
    for part, own in found.items():
        _fits(part, own)
    return Pictures(found["train"], found["val"], "" if path.is_dir() else checksum(path))


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of an archive's files, as they come."""
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)) is not None:
                yield member.name, file.read()


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the pictures below a folder."""
    for part in ("train", "val"):
        for file in sorted((path / part).glob("*/*")):
            yield file.relative_to(path).as_posix(), file.read_bytes()


def _fits(part: str, found: dict[str, Stored]) -> None:
    """Refuse a part in which a class is missing, or has too few pictures."""
    least = {"train": KEPT + 1, "val": 1}[part]
    for one in words.classes():
        # Nothing is trained on the other classes.
        if part == "train" and not one.seen:
            continue
        if (count := len(found.get(one.wnid, ()))) < least:
            raise ParameterError(
                f"archive must hold at least {least} pictures of every class in {part}, but {count} of {one.wnid}"
                f" ({one.names[0]}) were given."
            )


def _decoded(found: dict[str, Stored], part: str, wnids: list[str], first: int, each: int) -> Tensor:
    """Pictures [len(wnids), each, 3, 32, 32] in bytes, from the ``first`` on in the order of their numbers."""
    out = np.empty((len(wnids), each, SIZE, SIZE, 3), np.uint8)
    for place, wnid in enumerate(wnids):
        for index, number in enumerate(sorted(found[wnid])[first : first + each]):
            name = f"{part}/{wnid}/{number}.jpg"
            try:
                picture = np.asarray(Image.open(io.BytesIO(found[wnid][number])).convert("RGB"))
            except Exception as problem:  # damaged bytes make a reader raise anything
                raise ParameterError(
                    f"archive must hold intact pictures, but {name} cannot be read ({checks.reason(problem)})."
                ) from None
            if picture.shape != (SIZE, SIZE, 3):
                size = " x ".join(map(str, picture.shape[1::-1]))
                raise ParameterError(
                    f"archive must hold pictures of {SIZE} x {SIZE} pixels, but {name} of {size} was given."
                )
            out[place, index] = picture
    return torch.from_numpy(out.transpose(0, 1, 4, 2, 3).copy())
