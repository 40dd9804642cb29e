"""What comes out of the exercises: compute what is missing, and say what is stale.

::

    python -m paper.tools.exercises run [PAGE ...]      # into results/exercises.json
    python -m paper.tools.exercises check [PAGE ...]    # is all of it there, and what today's code says?

An exercise is judged from the committed evidence as far as its cells are in it. The others are measured, a minute or
two each on one core, and kept as evidence of their own in ``results/exercises``.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib import checks, results
from lib.results import Cell, Stored, Tables, provenance
from lib.verdicts import Findings, Outcome
from paper.comparison import measured
from paper.evidence import Evidence
from paper.studies import base
from paper.studies.base import Digest, Study
from paper.tools import profiles
from paper.words import exercises as words
from paper.words.exercises import EXERCISES, Exercise
from paper.words.opening import headlines

#: Where the cells are that no page's evidence has.
MEASURED = base.ROOT / "results" / "exercises"
#: How many findings an exercise shows at most.
SHOWN = 4
_DEVICE = "cpu"


def study_of(page: str, exercise: Exercise) -> Study:
    """The study of an exercise with its parameters, checked as its notebook checks them."""
    notebook = exercise.notebook_of(page)
    checked = profiles.parameters(base.ROOT / "notebooks" / f"{notebook}.ipynb")
    for name in exercise.given:
        checks.choice("parameter", name, checked)
    # Where the reader's own data are decides no number.
    told = {name: value for name, value in exercise.given.items() if value != words.FOLDER}
    written = {name: profiles.value(profiles.text(value)) for name, value in told.items()}
    # The defaults are the notebook's: a study may have others.
    defaults = {name: profiles.value(text) for name, text in checked.items()}
    kind = base.named(notebook)
    return kind(**{**defaults, **written, "device": _DEVICE})


class Shelf:
    """The tables of cells: from the evidence, or from what was measured for exercises."""

    def __init__(self, evidence: Path = base.EVIDENCE, own: Path = MEASURED) -> None:
        self._folders = (Evidence(evidence), Evidence(own))

    def get(self, cell: Cell) -> Stored | None:
        """What there is of a cell, of today's code."""
        for folder in self._folders:
            if folder.state(cell) == "current":
                return folder.get(cell)
        return None

    def measure(self, cells: Sequence[Cell], study: str) -> None:
        """Compute cells and keep them. Their time is that of the processor, so that a busy machine does not count."""
        began = time.process_time()
        for cell, tables, origin in results.measured(cells, _DEVICE):
            spent, began = time.process_time() - began, time.process_time()
            home = Evidence(self._folders[1].folder).home(cell, study)
            home.put([(cell, tables, {**origin, "seconds": round(spent, 3)})])
        self._folders = (self._folders[0], Evidence(self._folders[1].folder))


def missing(study: Study, shelf: Shelf) -> list[Cell]:
    """The cells of a study of which there are no tables by today's code."""
    return [cell for cell in study.cells() if shelf.get(cell) is None]


def outcome(page: str, exercise: Exercise, shelf: Shelf) -> dict[str, Any]:
    """What came out of an exercise, all of whose cells are there."""
    study = study_of(page, exercise)
    stored = {cell: shelf.get(cell) for cell in study.cells()}
    seconds = sum(one.provenance["seconds"] for one in stored.values() if one is not None)
    said = ""
    if exercise.tells:
        module, _, function = exercise.tells.partition(":")
        began = time.process_time()
        said = getattr(importlib.import_module(module), function)(study)
        seconds, findings = time.process_time() - began, Findings()
    elif isinstance(study, Digest):
        findings = _picked(study, study.from_evidence()[0].findings)
    else:
        tables: dict[Cell, Tables] = {cell: one.tables for cell, one in stored.items() if one is not None}
        findings = study.judged(tables).findings
    shown = chosen(study, exercise, findings)
    if len(findings) > len(shown):
        said = counted(findings)
    here = None if isinstance(study, Digest) else _shown_on(page)
    return {
        "given": dict(exercise.given),
        "seconds": round(seconds, 1),
        "said": said,
        "findings": [_row(one, None if here is None else here.findings.get(one.id)) for one in shown],
        "from": _origin(study, exercise, [one for one in stored.values() if one is not None]),
    }


@functools.cache
def _shown_on(page: str) -> base.Result | None:
    """The evidence of a page, which several exercises stand beside."""
    return base.shown_on(page)


def _picked(study: Study, findings: Findings) -> Findings:
    """Of a page that lists claims of one outcome those alone."""
    wanted = getattr(study, "outcome", "all")
    return findings if wanted == "all" else Findings(one for one in findings if one.outcome == wanted)


def chosen(study: Study, exercise: Exercise, findings: Findings) -> list[Any]:
    """The findings that an exercise shows."""
    asked = [one for part in exercise.shows for one in findings if part in one.id]
    first = [one for name in headlines(study) if (one := findings.get(name)) is not None]
    return list(dict.fromkeys(asked or [*first, *findings][: max(SHOWN - 1, len(first))]))[:SHOWN]


def counted(findings: Findings) -> str:
    """How many claims there are, and what became of them."""
    outcomes = [one.outcome for one in findings]
    words_of = {Outcome.HOLDS: "hold", Outcome.DOES_NOT_HOLD: "do not hold", Outcome.INCONCLUSIVE: "are inconclusive"}
    counts = ", ".join(f"{count} {said}" for one, said in words_of.items() if (count := outcomes.count(one)))
    return f"Of {len(outcomes)} claims {counts}. Among them:"


def _row(found: Any, here: Any) -> dict[str, str]:
    return {
        "id": found.id,
        "claim": words.plain(found.claim),
        "value": measured(found),
        "outcome": str(found.outcome),
        "here": "–" if here is None else f"{measured(here)}: {here.outcome}",
    }


def _origin(study: Study, exercise: Exercise, stored: Sequence[Stored]) -> str:
    """Where it comes from, in a sentence."""
    if isinstance(study, Digest) and not exercise.tells:
        return "Computed from the committed evidence."
    made = [one.provenance for one in stored] or [provenance(_DEVICE, 0.0)]
    found = sorted({f"{one['device_name']}, {one['date']}, PyTorch {one['torch']}" for one in made})
    return f"Measured on {'; '.join(found)}."


def _asked(pages: Sequence[str]) -> Iterator[tuple[str, Exercise]]:
    for page in pages:
        checks.choice("PAGE", page, EXERCISES)
    for page, own in EXERCISES.items():
        if not pages or page in pages:
            yield from ((page, exercise) for exercise in own)


def run(pages: Sequence[str] = ()) -> None:
    """Compute what is missing, one exercise after the other, and keep what came out as soon as it is there."""
    shelf = Shelf()
    for page, exercise in _asked(pages):
        study = study_of(page, exercise)
        try:
            lost = missing(study, shelf)
        except checks.ParameterError:
            if exercise.needs:
                continue  # not even its cells are known without what it needs
            raise
        if lost and exercise.needs:
            continue  # whoever has what it needs may know
        if lost:
            print(f"{page}: measuring {len(lost)} cells for: {exercise.asked}", flush=True)
            shelf.measure(lost, study.notebook())
        found = outcome(page, exercise, shelf)
        _keep(page, found)
        print(f"{page}: {exercise.asked} {len(found['findings'])} findings, {found['seconds']} s", flush=True)


def _keep(page: str, found: dict[str, Any]) -> None:
    """Write one exercise's result; what no exercise asks for any more goes."""
    kept = json.loads(words.RESULTS.read_text(encoding="utf-8"))["pages"] if words.RESULTS.is_file() else {}
    rows = {json.dumps(one["given"]): one for one in [*kept.get(page, []), found]}
    kept[page] = list(rows.values())
    wanted = {name: [json.dumps(one.given) for one in own] for name, own in EXERCISES.items()}
    pages = {
        name: [one for given in own for one in kept.get(name, []) if json.dumps(one["given"]) == given]
        for name, own in wanted.items()
    }
    text = json.dumps({"pages": {name: own for name, own in pages.items() if own}}, indent=1, ensure_ascii=False)
    results.write(words.RESULTS, f"{text}\n".encode())
    words.results.cache_clear()


def check(pages: Sequence[str] = (), judge: bool = True) -> list[str]:
    """What is missing or stale, one sentence each; with ``judge`` every result is judged again and compared."""
    found, shelf = [], Shelf()
    for page, exercise in _asked(pages):
        name = f"exercise of {page} ({exercise.asked})"
        kept = words.result(page, EXERCISES[page].index(exercise))
        if kept is None and exercise.needs:
            continue
        if kept is None:
            found.append(f"{name}: what comes out is missing")
            continue
        if not judge:
            continue
        if lost := missing(study_of(page, exercise), shelf):
            found.append(f"{name}: {len(lost)} cells are missing or stale")
        elif not exercise.tells and _compared(outcome(page, exercise, shelf)) != _compared(kept):
            found.append(f"{name}: what comes out has changed")
    return found


def _compared(found: Mapping[str, Any]) -> str:
    """What of a result must be today's."""
    return json.dumps({name: value for name, value in found.items() if name not in ("seconds", "from")}, sort_keys=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 done, 1 out of date, 2 refused."""
    parser = argparse.ArgumentParser(prog="python -m paper.tools.exercises", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "check"))
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="pages of the book (default: all)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            run(options.pages)
            return 0
        found = check(options.pages)
    except checks.ParameterError as refused:
        print(refused, file=sys.stderr)
        return 2
    print("\n".join(found) or "exercises: what comes out of all of them is there and current")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
