"""Photographs for the tasks of PhotoCLIP: the sample that travels with the book, and whole sets from elsewhere.

::

    python -m paper.tools.photographs sample ROOT            the sample of CIFAR-10, from ROOT/train and ROOT/test
    python -m paper.tools.photographs record ARCHIVE         records the pictures of an archive of Tiny ImageNet
    python -m paper.tools.photographs place ARCHIVE          checks such an archive and puts it where tasks look for it

The same pictures give the same sample to the byte (with the same version of liblzma), and the same record.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from lib import pictures, runtime
from lib.checks import ParameterError
from lib.prompts.photographs import files

#: Training and test pictures of a class in the sample of CIFAR-10; training pictures of Tiny ImageNet that are kept
#: from pre-training, and validation pictures to test on.
COUNTS = {"cifar10": (160, 240), "tiny_imagenet": (64, 50)}


def packed(members: files.Members) -> bytes:
    """An archive of files in the order of their names, without anything of when, where and by whom it was made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", format=tarfile.USTAR_FORMAT, preset=9) as tar:
        for name in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            tar.addfile(info, io.BytesIO(members[name]))
    return out.getvalue()


def chosen(root: Path) -> files.Members:
    """The first pictures of every class below ``root``, of train and of test, as they are."""
    found: files.Members = {}
    for part, count in zip(("train", "test"), COUNTS["cifar10"], strict=True):
        if not (root / part).is_dir():
            raise pictures.missing("CIFAR-10 as train/CLASS and test/CLASS", root, root / part)
        # Other data sets may lie beside it.
        for kind in files.record()["cifar10"]["classes"]:
            paths = sorted((root / part / kind).glob("*.jpg"))[:count]
            if len(paths) < count:
                raise ParameterError(
                    f"root must hold {count} pictures of class {kind!r} in {part}, but {len(paths)} were given."
                )
            found |= {f"{part}/{kind}/{path.name}": path.read_bytes() for path in paths}
    return found


def written(source: str, archive: Path, classes: dict[str, files.Members]) -> None:
    """Writes what is recorded of a set."""
    record = files.record()
    record[source] |= {
        "sha256": digest(archive),
        "counts": COUNTS[source],
        "classes": {kind: files.fingerprint(classes[kind]) for kind in sorted(classes)},
    }
    files.RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    files.record.cache_clear()


def digest(archive: Path) -> str:
    """The SHA-256 of a file."""
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def place(archive: Path, root: Path) -> Path:
    """Puts Tiny ImageNet's archive below ``root``; another file is refused before anything is written."""
    known = files.record()["tiny_imagenet"]
    if not archive.is_file():
        raise ParameterError(f"archive must be a file with {known['archive']}, but {str(archive)!r} was given.")
    if (found := digest(archive)) != known["sha256"]:
        raise ParameterError(
            f"archive must be {known['archive']} with SHA-256 {known['sha256'][:12]}..., but {archive.name!r} with"
            f" {found[:12]}... was given."
        )
    target = root / known["archive"]
    if target.is_file() and digest(target) == found:
        return target
    root.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with archive.open("rb") as old, part.open("wb") as new, runtime.progress(archive.stat().st_size, "copying") as tick:
        while block := old.read(2**20):
            new.write(block)
            tick(len(block))
    shutil.move(part, target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paper.tools.photographs", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("sample", help="make the sample of CIFAR-10 from a folder with train/ and test/")
    one.add_argument("source", type=Path, metavar="ROOT")
    one = commands.add_parser("record", help="record the pictures of an archive of Tiny ImageNet")
    one.add_argument("source", type=Path, metavar="ARCHIVE")
    one = commands.add_parser("place", help="check an archive of Tiny ImageNet and put it below a folder")
    one.add_argument("source", type=Path, metavar="ARCHIVE")
    one.add_argument("--root", default="data", help="where tasks look for it (default: data)")
    given = parser.parse_args(arguments)
    source = given.source.expanduser()
    try:
        if given.command == "sample":
            members, archive = chosen(source), files.HERE / files.record()["cifar10"]["archive"]
            archive.write_bytes(packed(members))
            files.unpacked.cache_clear()
            written("cifar10", archive, files.unpacked("cifar10", archive))
            print(f"{archive.name}: {len(members)} pictures, {archive.stat().st_size / 1e6:.2f} MB")
        elif given.command == "record":
            written("tiny_imagenet", source, files.unpacked("tiny_imagenet", source))
            print(f"recorded {source.name}")
        else:
            print(f"{place(source, pictures.folder(given.root))} is there, and it is the recorded archive.")
    except ParameterError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
