"""Where photographs lie, and that they are those of the record.

``pictures.json`` records for every set its archive (a name below ``root``, and its SHA-256), how many pictures of a
class few-shot tasks may use, and a hash of these pictures, class by class: an unpacked folder is as good as an archive,
and other pictures are refused wherever they lie.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tarfile
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib import pictures
from lib.checks import ParameterError, reason

HERE = Path(__file__).parent
RECORD = HERE / "pictures.json"

Members = dict[str, bytes]
"""Files by their names in an archive: "train/CLASS/0.jpg"."""


@cache
def record() -> dict[str, dict[str, Any]]:
    """Every set by name: "title", "archive", "sha256", "test" (the folder of test pictures), "counts" (training and
    test pictures of a class that tasks may use), "classes" (the hash of these by class).
    """
    return json.loads(RECORD.read_text(encoding="utf-8"))


def place(source: str, root: Path) -> Path:
    """The archive of a set or the folder that holds it, below ``root``; one sentence if there is neither."""
    known = record()[source]
    archive = root / known["archive"]
    folder = root / known["archive"].removesuffix(".tar.xz")
    for one in (archive, folder, root):
        if one.is_file() or (one / "train").is_dir() and (one / known["test"]).is_dir():
            return one
    how = f", or run `make photographs ARCHIVE=.../{archive.name}`" if root != HERE else " again"
    raise pictures.missing(known["title"], root, archive, how)


def wanted(source: str, name: str) -> bool:
    """Is this file of a set one that tasks may use? Of training pictures the first ones are, by their numbers."""
    known, (part, _, file) = record()[source], name.split("/")
    return part == known["test"] or (part == "train" and int(file.removesuffix(".jpg")) < known["counts"][0])


def fingerprint(members: Members) -> str:
    """A hash over the names and contents of files: 16 hexadecimal digits."""
    found = hashlib.sha256()
    for name in sorted(members):
        found.update(f"{name} {len(members[name])} ".encode() + members[name])
    return found.hexdigest()[:16]


@lru_cache(maxsize=2)
def unpacked(source: str, archive: Path) -> dict[str, Members]:
    """The files of an archive that tasks may use, by class; it is read once from its beginning to its end."""
    found: dict[str, Members] = {}
    try:
        with tarfile.open(archive, "r|xz") as tar:
            for member in tar:
                if member.isfile() and member.name.count("/") == 2 and wanted(source, member.name):
                    content = tar.extractfile(member)
                    found.setdefault(member.name.split("/")[1], {})[member.name] = content.read() if content else b""
    except (OSError, EOFError, ValueError, lzma.LZMAError, tarfile.TarError) as problem:
        raise ParameterError(
            f"{archive.name} must be an intact archive of {record()[source]['title']}, but a damaged one was given"
            f" ({reason(problem)})."
        ) from None
    return found


def _listed(source: str, folder: Path, kind: str) -> Members:
    """The files of a class in a folder that tasks may use."""
    paths = [path for part in ("train", record()[source]["test"]) for path in (folder / part / kind).glob("*.jpg")]
    names = {f"{path.parts[-3]}/{kind}/{path.name}": path for path in paths if path.stem.isdecimal()}
    return {name: path.read_bytes() for name, path in names.items() if wanted(source, name)}


@lru_cache(maxsize=256)
def opened(source: str, root: Path, kind: str) -> tuple[Tensor, Tensor]:
    """Training and test pictures [N, 3, 32, 32] in bytes of the class ``kind``, in the order of their numbers.

    Raises :class:`ParameterError` with one sentence where they are missing, damaged or not those of the record.
    """
    where = place(source, root)
    members = unpacked(source, where).get(kind, {}) if where.is_file() else _listed(source, where, kind)
    if fingerprint(members) != record()[source]["classes"][kind]:
        raise ParameterError(
            f"{where.name} must hold the pictures of {record()[source]['title']} that are recorded, but other or"
            f" missing ones of class {kind!r} were given."
        )
    parts: dict[str, list[Tensor]] = {"train": [], record()[source]["test"]: []}
    for name in sorted(members, key=lambda name: int(name.split("/")[2].removesuffix(".jpg"))):
        with Image.open(io.BytesIO(members[name])) as picture:
            pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        parts[name.split("/")[0]].append(pixels)
    train, test = (torch.stack(part) for part in parts.values())
    return train, test
