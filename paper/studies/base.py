"""What every study shares: parameters that are checked before any compute, and a result with findings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import pandas as pd

from lib import checks
from lib.results import Agreement, Store, agreement, reference, write_reference
from lib.verdicts import Findings

# What IPython itself puts among a notebook's names.
_IPYTHON = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})
_PLAIN = (int, float, str, bool, type(None), list, tuple, dict)


def double_precision(device: str, purpose: str = "") -> None:
    """Refuse a device that cannot compute in double precision; ``purpose`` says what needs it."""
    from lib import runtime

    if runtime.resolve_device(device).type == "mps":
        raise checks.ParameterError(
            f"device must be one with double precision{purpose} (cpu, cuda), but {device!r} was given."
        )


def duration(seconds: float) -> str:
    """A time as the reader says it, for example "1 h"."""
    units = (("yr", 3.15e7), ("mo", 2.6e6), ("d", 86400.0), ("h", 3600.0), ("min", 60.0))
    return next((f"{seconds / unit:.3g} {name}" for name, unit in units if seconds >= 0.99 * unit), f"{seconds:g} s")


@dataclass(frozen=True)
class Result:
    """Tables by name, findings, and where the numbers come from."""

    tables: dict[str, pd.DataFrame]
    findings: Findings = field(default_factory=Findings)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """The first table."""
        return next(iter(self.tables.values()))

    def __repr__(self) -> str:
        tables = ", ".join(f"{name} ({len(table)} rows)" for name, table in self.tables.items())
        return f"Result: {tables}; {len(self.findings)} findings"


def _imported(name: str, value: object) -> bool:
    """Is this a constant that the notebook imported from ``lib`` (the same object under the same name)?"""
    return any(
        vars(module).get(name, _imported) is value
        for path, module in list(sys.modules.items())
        if module is not None and path.partition(".")[0] in ("lib", "paper")
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    """An experiment: a frozen dataclass whose fields are exactly the parameters of its notebook, with the
    defaults of the quick run. A subclass checks its own fields in :meth:`check` and computes in
    :meth:`run`.
    """

    device: str = "auto"
    results: str = "auto"

    #: Columns that identify a row of :meth:`summary`, and how far its quantities may lie from the reference.
    KEYS: ClassVar[tuple[str, ...]] = ()
    TOLERANCES: ClassVar[Mapping[str, float]] = {}
    #: Words of the claims whose outcome does not turn on rounding; empty: all of them.
    SETTLED: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        from lib import runtime

        runtime.resolve_device(self.device)
        if not isinstance(self.results, str) or not self.results.strip():
            raise checks.ParameterError(
                f"results must be auto or the path of a folder, but {self.results!r} was given."
            )
        self.check()

    def check(self) -> None:
        """Validate the fields, and normalise them with ``object.__setattr__`` where needed."""

    def run(self) -> Result:
        """Compute, or fetch what is stored, and judge."""
        raise TypeError(f"{type(self).__name__} defines no experiment.")

    def store(self) -> Store:
        """The store in ``results``; call it first in :meth:`run`: a folder that cannot be written fails
        here.
        """
        return Store(self.results)

    def config(self) -> dict[str, Any]:
        """The parameters that decide the numbers: every field except ``device`` and ``results``."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("device", "results")}

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, object]) -> Self:
        """The study with the parameters of a notebook, given its ``globals()``.

        Every plain value (number, word, truth value, None, list, tuple, dict) counts as a parameter, except
        names that begin with an underscore, IPython's own and constants imported from ``lib``. A name that
        is no field is refused, which is how a misspelt ``-p NAME VALUE`` is found before any compute.
        """
        known = [f.name for f in fields(cls)]
        given: dict[str, Any] = {}
        for name, value in namespace.items():
            if name.startswith("_") or name in _IPYTHON or not isinstance(value, _PLAIN):
                continue
            if name not in known and _imported(name, value):
                continue
            given[name] = value
        for name in given:
            if name not in known:
                raise checks.ParameterError(
                    f"{name} is not a parameter of this notebook; the parameters are {', '.join(known)}."
                )
        return cls(**given)

    def settled(self, result: Result) -> Findings:
        """The findings that come out alike on every machine (:attr:`SETTLED`).

        Where training is chaotic, rounding decides which seeds succeed, and a claim near its threshold may come out
        either way.
        """
        chosen = [f for f in result.findings if not self.SETTLED or any(words in f.claim for words in self.SETTLED)]
        return Findings(chosen)

    # The reference ---------------------------------------------------------------------------------
    def reference_name(self) -> str:
        """Name of this study's table in ``results/reference``: the module's own name."""
        return type(self).__module__.rpartition(".")[2]

    def summary(self, result: Result) -> pd.DataFrame:
        """The small table that is kept as reference: one row per :attr:`KEYS`, the mean of each quantity."""
        quantities = list(self.TOLERANCES)
        return result.table.groupby(list(self.KEYS))[quantities].mean().reset_index()

    def reference(self) -> pd.DataFrame | None:
        """The committed reference of this study, or None where there is none yet."""
        found = reference(self.reference_name(), [*self.KEYS, *self.TOLERANCES])
        return None if found is None else found[0]

    def agreement(self, result: Result) -> Agreement | str:
        """How this run compares with the committed reference, wherever both measured the same cells."""
        table = self.reference()
        if table is None:
            return "there is no reference for this study yet"
        return agreement(self.summary(result), table, self.KEYS, self.TOLERANCES)

    def write_reference(self, result: Result) -> None:
        """Keep this run as the reference, with its provenance and its parameters."""
        write_reference(self.reference_name(), self.summary(result), {**result.provenance, "parameters": self.config()})
