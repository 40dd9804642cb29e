"""What every study shares: typed parameters, cells that are measured, claims that are judged, and the page of both."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from lib import checks
from lib.results import Cell, Store, Tables, provenance
from lib.verdicts import Findings
from paper import ROOT
from paper.agreement import Agreement, Part, Quantity, agreement
from paper.comparison import Comparison
from paper.evidence import Evidence
from paper.notes import note
from paper.studies.parameters import Checked, Place
from paper.words.names import words

# What IPython itself puts among a notebook's names.
_IPYTHON = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})
_PLAIN = (int, float, str, bool, type(None), list, tuple, dict)

#: Where the committed evidence lies, on whatever machine.
#:
#: :meta hide-value:
EVIDENCE = ROOT / "results" / "evidence"


@dataclass(frozen=True)
class _Device(Checked):
    def check(self, name: str, given: Any) -> str:
        from lib import runtime

        runtime.resolve_device(given)
        return given


def double_precision(device: str, purpose: str = "") -> None:
    """Refuse a device that cannot compute in double precision; ``purpose`` says what needs it."""
    from lib import runtime

    if runtime.resolve_device(device).type == "mps":
        raise checks.ParameterError(
            f"device must be one with double precision{purpose} (cpu, cuda), but {device!r} was given."
        )


#: Headings of the evidence where there is that of photographs, too, and what it is of.
DRAWN, PHOTOGRAPHS = "evidence, drawn world", "evidence, photographs"
OF = {DRAWN: "the drawn world", PHOTOGRAPHS: "photographs"}

_SEEN: dict[Path, int] = {}


def changed(folder: Path) -> bool:
    """Has a file below the folder changed since this was last asked in this session?"""
    walks = os.walk(folder, followlinks=True)
    names = (os.path.join(base, name) for base, _, own in walks for name in own)
    states = ((name, os.stat(name)) for name in names if os.path.exists(name))
    now = hash(tuple((name, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for name, at in states))
    before, _SEEN[folder] = _SEEN.get(folder, now), now
    return now != before


def fits(device: str, need: float, **given: int) -> None:
    """Refuse sizes that take ``need`` bytes together where the device has less memory."""
    from lib import runtime

    place = runtime.resolve_device(device)
    have = runtime.memory(place)
    if need > have:
        shown = " and ".join(f"{name} {value}" for name, value in given.items())
        raise checks.ParameterError(
            f"{' and '.join(given)} must be small enough for the {have / 2**30:.0f} GiB of memory of {place},"
            f" but {shown} was given, which needs about {need / 2**30:,.0f} GiB."
        )


@dataclass(frozen=True)
class Result:
    """Tables by name, findings, and what computing them took in seconds."""

    tables: dict[str, pd.DataFrame]
    findings: Findings = field(default_factory=Findings)
    seconds: float = 0.0
    #: What a reader must know before the numbers: trainings that diverged, and those in which nothing moved.
    remarks: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The first table."""
        return next(iter(self.tables.values()))

    def __repr__(self) -> str:
        tables = ", ".join(f"{name} ({len(table)} rows)" for name, table in self.tables.items())
        return f"Result: {tables}; {len(self.findings)} findings"


@dataclass(frozen=True)
class Compared:
    """What of a table is compared between a rerun and the evidence: its ``keys`` and quantities.

    A quantity's number is what rounding or a single test picture is worth.
    """

    keys: tuple[str, ...]
    quantities: Mapping[str, float | Quantity]


def _imported(name: str, value: object) -> bool:
    """Is this a constant that the notebook imported from our packages (the same object under the same name)?"""
    return any(
        vars(module).get(name, _imported) is value
        for path, module in list(sys.modules.items())
        if module is not None and path.partition(".")[0] in ("lib", "paper")
    )


def _set_by_papermill(cells: object) -> list[str]:
    """The names that its cell assigns, among the sources of the cells that have run."""
    injected = [cell for cell in cells if cell.startswith("# Parameters\n")] if isinstance(cells, list) else []
    nodes = [node for cell in injected for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
    return [target.id for node in nodes for target in node.targets if isinstance(target, ast.Name)]


class Study(BaseModel):
    """An experiment: a frozen model whose fields are exactly the parameters of its notebook, with the defaults of the
    rerun. A subclass names its :meth:`cells` and judges their tables in :meth:`judge`; what they share is here.

    Fields are typed by :mod:`paper.studies.parameters`; what concerns several of them stands in :meth:`check`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ignored_types=(cached_property,))

    device: Annotated[str, _Device()] = "auto"
    results: Annotated[str, Place("auto or the path of a folder", also=("auto",))] = "auto"

    #: Fields that say how much is measured of the same thing: they may differ between a rerun and the evidence.
    SIZES: ClassVar[tuple[str, ...]] = ("seeds",)
    #: Fields that list what is measured: a rerun may do with some of it.
    PARTS: ClassVar[tuple[str, ...]] = ()
    #: What is compared, by table.
    COMPARED: ClassVar[Mapping[str, Compared]] = {}

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as refused:
            raise _sentence(refused, type(self), given) from None

    def model_post_init(self, context: Any, /) -> None:
        """Checks that concern several fields."""
        self.check()

    def check(self) -> None:
        """Refuse what does not fit together."""

    def changed(self, **changes: Any) -> Self:
        """The same study with other parameters, checked again."""
        return type(self)(**{**self.parameters(), **changes})

    def parameters(self) -> dict[str, Any]:
        """Every field with its value."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, object]) -> Self:
        """The study with the parameters of a notebook, given its ``globals()``.

        Every plain value (number, word, truth value, None, list, tuple, dict) counts as a parameter, except
        names that begin with an underscore, IPython's own and constants imported from our packages. A name that
        is no field is refused, which is how a misspelt ``-p NAME VALUE`` is found before any compute. Under the name
        of a field everything counts but what a notebook imports: a path or an array is taken, or refused, too. So does
        every name that papermill has set, whatever an import has made of it since.
        """
        given: dict[str, Any] = {}
        for name, value in namespace.items():
            if name in cls.model_fields:
                if not isinstance(value, ModuleType) and not callable(value):
                    given[name] = value
            elif not (
                name.startswith("_") or name in _IPYTHON or not isinstance(value, _PLAIN) or _imported(name, value)
            ):
                given[name] = value
        for name in _set_by_papermill(namespace.get("In")):
            given.setdefault(name, namespace.get(name))
        return cls(**given)

    # What is measured -----------------------------------------------------------------------------------
    def cells(self) -> Sequence[Cell]:
        """The training batches of this study, in the order in which they should be computed."""
        raise TypeError(f"{type(self).__name__} measures nothing.")

    def costs(self) -> Any:
        """What cells will take (:class:`paper.studies.cost.Costs`); None where they are like those of the evidence."""
        return None

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """Tables and findings from the tables of all :meth:`cells`; nothing is computed that takes long."""
        raise TypeError(f"{type(self).__name__} judges nothing.")

    def place(self) -> str:
        """The device to compute on, by its name."""
        from lib import runtime

        return str(runtime.resolve_device(self.device))

    def store(self) -> Store:
        """Where this run keeps what it has finished."""
        return Store(ROOT / "results" / "store" if self.results == "auto" else self.results)

    def run(self) -> Result:
        """Compute, or fetch what is stored, and judge."""
        store, cells = self.store(), self.cells()
        if not all(map(store.has, cells)):
            self.ready()
        return replace(self.judged(store.fetch(cells, self.place())), seconds=store.seconds)

    def ready(self) -> None:
        """Refuse what stands in the way of computing and not of reading evidence: pictures that are not there."""

    def judged(self, found: Mapping[Cell, Tables]) -> Result:
        """What :meth:`judge` says of the trainings that did not diverge, with remarks on those that did."""
        kept, remarks = left_out(found)
        tables, findings = self.judge(kept)
        if kept is not found:
            # What is open for want of numbers is so because of these.
            lost = remarks[0].replace("**", "")
            findings = Findings(
                replace(one, note=lost) if one.note and math.isnan(one.value) else one for one in findings
            )
        return Result(tables, findings, remarks=(*remarks, *self.remarks(tables)))

    def remarks(self, tables: Tables) -> list[str]:
        """What else a reader must know before the numbers; nothing here."""
        return []

    # The evidence ---------------------------------------------------------------------------------------
    @classmethod
    def notebook(cls) -> str:
        """The name of the notebook and of the evidence: the module's own."""
        return cls.__module__.rpartition(".")[2]

    def shelf(self) -> str:
        """The name of the file that its evidence belongs to; studies that share one share its limit."""
        return self.notebook()

    def beside(self) -> Self | None:
        """The same study as its evidence is shown beside this one's (:attr:`paper.tools.profiles.Page.beside`): on
        photographs. None where there is none, or where this is that study.
        """
        from paper.tools import profiles

        for page in profiles.evidence().values():
            if page.beside and page.notebook == self.notebook():
                other = type(self)(**{**page.parameters, "device": self.device, "results": self.results})
                return None if other.shelf() == self.shelf() else other
        return None

    def covering(self) -> Self | None:
        """The study whose evidence covers this one: it measured the same, perhaps more of it; None if there is none."""
        from paper.tools import profiles

        for page in profiles.evidence().values():
            if page.notebook != self.notebook():
                continue
            whole = type(self)(**{**page.parameters, "device": self.device, "results": self.results})
            if self._covered(whole):
                return whole
        return None

    def _covered(self, whole: Self) -> bool:
        """Does every parameter agree, but for how much was measured and for what is a part of it?"""
        free = {*self.SIZES, "device", "results"}
        return all(
            name in free or mine == (theirs := getattr(whole, name)) or (name in self.PARTS and _part(mine, theirs))
            for name, mine in self.parameters().items()
        )

    def from_evidence(self) -> tuple[Result | None, dict[str, int]]:
        """Tables and findings from the committed evidence, None unless all of it is there; and how many of the cells
        are "current", "stale" and "missing".
        """
        evidence = Evidence(EVIDENCE)
        found = {cell: evidence.get(cell) for cell in self.cells()}
        states = {"current": 0, "stale": 0, "missing": 0}
        for cell in found:
            states[evidence.state(cell)] += 1
        if states["missing"] or not found:
            return None, states
        stored = {cell: one for cell, one in found.items() if one is not None}
        result = self.judged({cell: one.tables for cell, one in stored.items()})
        return replace(result, seconds=sum(one.provenance["seconds"] for one in stored.values())), states

    def page(self) -> Page:
        """What a page shows: the evidence, this run over it, and whether they agree."""
        whole = self.covering()
        result, states = whole.from_evidence() if whole is not None else (None, {})
        began = time.perf_counter()
        rerun = self.run()
        # What was found in the store took its time when it was put there.
        note(saved=round(max(0.0, rerun.seconds - (time.perf_counter() - began)), 1), machine=self._machine())
        note(cells=dict(states))
        return Page(self, rerun, whole, result, states)

    def _machine(self) -> dict[str, Any]:
        """Where this run is made: provenance without a time."""
        return {name: value for name, value in provenance(self.place(), 0.0).items() if name != "seconds"}


class Digest(Study):
    """A study that measures nothing: it reads the committed evidence of other :meth:`studies` and has no rerun, so it
    says the same until evidence changes.
    """

    SIZES: ClassVar[tuple[str, ...]] = ()

    def studies(self) -> Mapping[str, Study]:
        """The studies that the evidence is of, by page."""
        raise TypeError(f"{type(self).__name__} reads nothing.")

    def whole(self, found: Mapping[Cell, Tables]) -> dict[str, Result]:
        """What each of them judges, by page; those whose evidence is not complete are left out."""
        judged = {}
        for name, study in self.studies().items():
            if (own := study.cells()) and all(cell in found for cell in own):
                judged[name] = study.judged({cell: found[cell] for cell in own})
        return judged

    def judged(self, found: Mapping[Cell, Tables]) -> Result:
        """As the other studies judge: each leaves out what diverged, and its page says so."""
        return Result(*self.judge(found))

    def cells(self) -> list[Cell]:
        """None of its own."""
        return []

    def from_evidence(self) -> tuple[Result, dict[str, int]]:
        """What there is of the other pages' evidence."""
        evidence = Evidence(EVIDENCE)
        cells = list(dict.fromkeys(cell for study in self.studies().values() for cell in study.cells()))
        states = {"current": 0, "stale": 0, "missing": 0}
        for cell in cells:
            states[evidence.state(cell)] += 1
        stored = {cell: one.tables for cell in cells if (one := evidence.get(cell)) is not None}
        return self.judged(stored), states

    def page(self) -> Page:
        """The evidence alone."""
        result, states = self.from_evidence()
        return Page(self, Result({}), self, result, states)


def _part(mine: object, theirs: object) -> bool:
    """Is one list, or mapping, of what is measured a part of the other?"""
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        return set(mine) <= set(theirs)
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return mine.items() <= theirs.items()
    return (mine, theirs) == ("few", "all")


def named(notebook: str) -> type[Study]:
    """The study that a notebook is about: the class that the module of its name defines."""
    module = importlib.import_module(f"paper.studies.{notebook}")
    found = (kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Study))
    return next(kind for kind in found if kind.__module__ == module.__name__ and "judge" in vars(kind))


def joined(found: Mapping[Cell, Tables]) -> Tables:
    """The tables of all cells, those of one name below each other."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for tables in found.values():
        for name, table in tables.items():
            parts.setdefault(name, []).append(table)
    return {name: pd.concat(own, ignore_index=True) for name, own in parts.items()}


def pivoted(table: pd.DataFrame, index: Sequence[str], column: str, value: str) -> pd.DataFrame:
    """Means of ``value``: rows by ``index``, columns by ``column``. A pivot table in which no missing number is lost.

    Of seeds those are left out that have no row for a column, where others have one for each.
    """
    groups = table.groupby([*index, column], sort=False)[value]
    means = groups.mean(skipna=False).unstack(column).sort_index()
    whole = groups.size().unstack(column).sort_index().notna().all(axis=1)
    return means[whole] if list(index) == ["seed"] and whole.any() else means


#: Tables of what training led to.
_TRAINED = ("accuracy", "trajectory", "looks", "watched")
#: What tells the replicas of a cell apart, and numbers that are not theirs: these stay where others are taken out.
_REPLICA = ["severity", "seed"]
_SHARED = ["severity", "clean", "unaware"]
#: A smaller relative change of what is trained is none: single precision ends there.
STILL = 1e-6


def left_out(found: Mapping[Cell, Tables]) -> tuple[Mapping[Cell, Tables], list[str]]:
    """The tables without replicas that have diverged (``diverged_at`` a step), and sentences about these (the first)
    and about those in which nothing ``moved``.

    A replica's rows go; where no seed of a training is left they stay, without their numbers, so that what was asked
    for is open and not forgotten.
    """
    kept, lost, still, steps, count = dict(found), [], [], [], 0
    for cell, tables in found.items():
        runs = tables.get("accuracy", pd.DataFrame())
        if "diverged_at" not in runs or "unaware" in (cell.config.get("rule"), cell.config.get("arm")):
            continue
        keys = [name for name in _REPLICA if name in runs]
        replicas = runs.drop_duplicates(keys)
        count += len(replicas)
        gone = replicas[replicas.diverged_at >= 0]
        still += [cell] * int((replicas["moved"] < STILL).sum()) if "moved" in replicas else []
        if len(gone):
            steps += gone.diverged_at.tolist()
            lost += [cell] * len(gone)
            cut = {name: _without(tables[name], gone, keys) for name in _TRAINED if name in tables}
            kept[cell] = {**tables, **cut}
    remarks = []
    if lost:
        span = f"step {min(steps)}" if min(steps) == max(steps) else f"steps {min(steps)} to {max(steps)}"
        remarks.append(
            f"**{len(lost):,} of {count:,} trainings diverged** at {span} ({_kinds(lost)}); they are left "
            "out, and claims about them alone stay open."
        )
    if still:
        remarks.append(
            f"**In {len(still):,} of {count:,} trainings nothing moved** ({_kinds(still)}): what is trained is "
            "where it began, because its gradient is zero or its learning rate too small."
        )
    return kept if lost else found, remarks


def _without(table: pd.DataFrame, gone: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A table without the rows of some replicas; without their numbers alone where all seeds are among them."""
    own = [name for name in keys if name in table]
    bad = pd.MultiIndex.from_frame(table[own]).isin(pd.MultiIndex.from_frame(gone[own]))
    rest = [name for name in own if name != "seed"]
    whole = pd.Series(bad, table.index).groupby([table[name] for name in rest]).transform("all") if rest else bad.all()
    numbers = [name for name in table.select_dtypes("float") if name not in _SHARED]
    return table.assign(**{name: table[name].mask(bad) for name in numbers})[~bad | whole].reset_index(drop=True)


def _kinds(cells: Sequence[Cell]) -> str:
    """The trainings of some cells in words, each with how many replicas of it there are."""
    names = ("learner", "gate", "task", "shots", "perturbation", "rule", "arm", "parts")
    shown = (", ".join(_spelt(cell.config[name]) for name in names if name in cell.config) for cell in cells)
    counts = Counter(shown).most_common()
    more = f"; and {len(counts) - 4} more" if len(counts) > 4 else ""
    return "; ".join(f"{name}: {count:,}" for name, count in counts[:4]) + more


def _spelt(value: object) -> str:
    return " + ".join(map(words, value)) if isinstance(value, list) else words(str(value))


def shown_on(page: str) -> Result | None:
    """The evidence that the book shows on the page of that name; None where there is none, or not all of it."""
    from paper.tools import profiles

    one = profiles.evidence().get(page)
    return None if one is None else named(one.notebook)(**one.parameters).from_evidence()[0]


def _sentence(refused: ValidationError, study: type[Study], given: Mapping[str, Any]) -> checks.ParameterError:
    """The first complaint, as one sentence."""
    # A misspelt name first: what else is wrong may be its doing.
    first = min(refused.errors(), key=lambda error: error["type"] != "extra_forbidden")
    error = first.get("ctx", {}).get("error")
    if isinstance(error, checks.ParameterError):
        return error
    name = str(first["loc"][0]) if first["loc"] else "parameter"
    if first["type"] == "extra_forbidden":
        known = ", ".join(study.model_fields)
        return checks.ParameterError(f"{name} is not a parameter of this notebook; the parameters are {known}.")
    return checks.ParameterError(
        f"{name} must be as its type says ({first['msg']}), but {given.get(name)!r} was given."
    )


@dataclass(frozen=True)
class Page:
    """A study's evidence and this run. ``whole`` is the study that the evidence covers, ``evidence`` its result."""

    study: Study
    rerun: Result
    whole: Study | None
    evidence: Result | None
    states: Mapping[str, int]

    @property
    def shown(self) -> Result:
        """What figures and sentences are about: the evidence, or this run where there is none."""
        return self.rerun if self.evidence is None else self.evidence

    @property
    def subject(self) -> Study:
        """The study whose numbers are shown."""
        return self.study if self.evidence is None or self.whole is None else self.whole

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that are shown."""
        return self.shown.tables

    @property
    def over(self) -> Mapping[str, pd.DataFrame | None]:
        """This run's tables, to be drawn over the evidence; None for each where this run is all there is."""
        return defaultdict(lambda: None, {} if self.evidence is None else self.rerun.tables)

    @property
    def findings(self) -> Findings:
        """The findings of what is shown."""
        return self.shown.findings

    @property
    def compared(self) -> Comparison:
        """The findings with their numbers, evidence and this run side by side; those that answer the page's question
        stand in front.
        """
        from paper.words import opening  # which words a page begins with is no matter of a study's

        first = opening.headlines(self.subject)
        rerun = {"this run": self.rerun.findings} if self.rerun.findings or self.evidence is None else {}
        if self.evidence is None:
            return Comparison(rerun, first=first)
        if self.photographs is None:
            return Comparison({"evidence": self.evidence.findings, **rerun}, first=first)
        sides = {DRAWN: self.evidence.findings, PHOTOGRAPHS: self.photographs.findings}
        return Comparison({**sides, **rerun}, both=OF, first=first)

    @cached_property
    def counterpart(self) -> Study | None:
        """The study on photographs whose evidence belongs beside that of this page; None where there is none."""
        return None if self.evidence is None or self.whole is None else self.whole.beside()

    @cached_property
    def photographs(self) -> Result | None:
        """What the evidence on photographs says; None where there is none, or not all of it."""
        return None if self.counterpart is None else self.counterpart.from_evidence()[0]

    @cached_property
    def agreement(self) -> Agreement | str:
        """Whether this run agrees with the evidence, wherever both measured the same."""
        if self.evidence is None:
            return "there is no evidence for these parameters to agree with"
        parts = [
            Part(name, self.rerun.tables[name], self.evidence.tables[name], compared.keys, compared.quantities)
            for name, compared in self.study.COMPARED.items()
            if name in self.rerun.tables and name in self.evidence.tables
        ]
        found = agreement(parts)
        note(compared=found.compared, disagree=len(found.disagreeing) + len(found.shifted), agreement=str(found))
        return found

    @property
    def noticed(self) -> object:
        """For display: which deviation the test of agreement would have noticed, and what disagrees."""
        from paper.words.page import noticed  # as above

        return None if isinstance(self.agreement, str) else noticed(self.agreement)

    @property
    def notice(self) -> str:
        """Boxes that say what the page shows where that is not current evidence, and what became of trainings that
        diverged or did not move, as Markdown; empty where there is nothing to say.
        """
        sides = {"": self.shown.remarks} if self.evidence is None else {"Evidence: ": self.evidence.remarks}
        if self.evidence is not None:
            sides["This run: "] = self.rerun.remarks
        said = [f"{side}{remark}" for side, remarks in sides.items() for remark in remarks]
        return self._about + (":::{{warning}}\n{}\n:::\n".format("\n\n".join(said)) if said else "")

    @property
    def _about(self) -> str:
        """What the page shows, where that is not current evidence."""
        if self.evidence is not None and not self.states["stale"]:
            return ""
        if self.evidence is not None:
            count = f"{self.states['stale']} of {sum(self.states.values())}"
            text = (
                f"The code has changed since {count} parts of this evidence were computed; `make evidence` renews them."
            )
            return f":::{{warning}}\n**Stale evidence.** {text}\n:::\n"
        if self.whole is not None:
            count = f"{self.states['missing']} of {sum(self.states.values())}"
            text = f"{count} parts of the evidence are still missing, so the page shows this run alone."
        else:
            text = "The evidence does not cover these parameters, so the page shows this run alone."
        return f":::{{note}}\n{text}\n:::\n"
