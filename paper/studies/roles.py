"""Which pictures a backbone is asked about: names of tasks are roles, and its pictures play them.

MiniCLIP reads the drawn world (:mod:`lib.prompts.tasks`), PhotoCLIP photographs (:mod:`lib.prompts.photographs`). A
task of one name asks the same of both, so that studies, criteria and figures know its name alone; some tasks are of one
of them only. Real data sets (:mod:`lib.prompts.data`) are for every backbone that knows the words of their classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from lib.checks import ParameterError
from lib.prompts import backbone as backbones
from lib.prompts import data, photoclip, photographs, tasks

WORLDS: dict[str, str] = {photoclip.NAME: "photographs"}
"""Backbones that do not read the drawn world, and what of ``tasks.ELSEWHERE`` they read in its place."""
GRADED: dict[str, str] = {**tasks.GRADED, **photographs.GRADED}
"""Tasks of any pictures that are graded by a strength, and their cues: here a gate has something to gain."""
NAMES: tuple[str, ...] = tuple(dict.fromkeys((*tasks.TASKS, *photographs.TASKS, *data.NAMES)))
"""Every name that a task can have."""

Found = tuple[Any, Any]


def pictures(backbone: str) -> Any:
    """``TASKS`` and ``GRADED`` of the pictures that a backbone reads."""
    return tasks.ELSEWHERE[WORLDS[backbone]] if backbone in WORLDS else tasks


def known(backbone: str) -> tuple[str, ...]:
    """The names of the tasks that there are for a backbone."""
    return (*pictures(backbone).TASKS, *data.NAMES)


def graded(backbone: str) -> tuple[str, ...]:
    """Those of them that are graded."""
    return tuple(pictures(backbone).GRADED)


def find(backbone: str, name: str, strength: float, root: str, protocol: str) -> Found:
    """The task of that name in the pictures of a backbone of :data:`WORLDS`, and under base_to_new the task of its new
    classes.
    """
    own = pictures(backbone)
    return own.get(name, strength, root, protocol) if name in own.TASKS else in_words(_real(name, root, protocol))


def data_of(backbone: str, name: str, root: str, protocol: str) -> dict[str, Any]:
    """What tells its pictures from others; of photographs it is recorded, and none of them is opened for it."""
    own = pictures(backbone)
    if name in own.TASKS:
        world, identities = WORLDS[backbone], [own.identity(name)]
    else:
        world, identities = Spoken.name, _identities(find(backbone, name, 1.0, root, protocol))
    return {"name": name, "world": world, "protocol": protocol, "identities": identities}


def uses(backbone: str) -> tuple[Any, ...]:
    """The code of a backbone of :data:`WORLDS` and of its pictures, for what counts it; of the others it is known."""
    if backbone not in WORLDS:
        return ()
    return backbones.ELSEWHERE[backbone].load, pictures(backbone).task_of, Spoken.task_of


# -------------------------------------------------------------------------------------------- real data sets
def in_words(found: Found) -> Found:
    """Tasks of a real data set with class names in PhotoCLIP's words; those that it has no words for are refused."""
    own, new = found
    return _in_words(own), None if new is None else _in_words(new)


@lru_cache(maxsize=16)
def _in_words(task: data.RealTask) -> data.RealTask:
    said = replace(task, names=photographs.spoken([name.lower() for name in task.names]))
    tokenizer = photoclip.PhotoTokenizer()
    for name, prompt in zip(task.names, said.prompts, strict=True):
        try:
            tokenizer(prompt)
        except ParameterError:
            raise ParameterError(
                f"task must have classes and sentences in PhotoCLIP's {len(tokenizer.ids)} words, but {task.source!r}"
                f" with {name!r} ({prompt!r}) was given."
            ) from None
    return said


def _real(name: str, root: str, protocol: str) -> Found:
    # Where real data sets are kept in memory, which knows of this module.
    from paper.studies import gating

    return gating.task_named(name, 1.0, root, protocol)


def _identities(found: Found) -> list[str]:
    from paper.studies import gating

    return [gating.identity(part) for part in found if part is not None]


class Spoken:
    """What ``tasks.ELSEWHERE`` holds for real data sets in PhotoCLIP's words."""

    name = "spoken"

    @staticmethod
    def task_of(config: Mapping[str, Any], site: Mapping[str, Any]) -> Found:
        """The task of a cell with "task" and "data", as :func:`paper.studies.gating.task_of` gives it."""
        known = config["data"]
        found = in_words(_real(config["task"], site["root"], known["protocol"]))
        if known["identities"] != _identities(found):
            raise ParameterError(
                f"root must hold the pictures that the study was made with, but {site['root']!r} with others was given."
            )
        return found


tasks.ELSEWHERE[Spoken.name] = Spoken
