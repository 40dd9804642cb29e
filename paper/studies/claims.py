"""Every claim of the book in one table: what was measured, in which family and by which criterion it was judged."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

import pandas as pd

from lib import results
from lib.results import Cell
from lib.verdicts import Findings, Outcome
from paper import ROOT
from paper.studies import base
from paper.studies.base import Digest, Study
from paper.studies.parameters import OneOf
from paper.tools import profiles


class Claims(Digest):
    """The claims of all pages that have evidence, as their studies judge them; ``outcome`` picks those that are shown.

    Tables: ``claims`` (a row per claim: page, and the columns of :meth:`Findings.table`), ``pages`` (page, how many of
    its cells there are and how many are missing, claims, and what became of them).
    """

    outcome: Annotated[str, OneOf(("all", *map(str, Outcome)))] = "all"

    @cached_property
    def _studies(self) -> dict[str, Study]:
        """The studies that measure something, by page, in the order of the book."""
        known = profiles.evidence()
        order = [name for name in profiles.profile(ROOT / "profiles" / "quick.yaml") if name in known]
        # What is shown beside a page comes behind it.
        order = [one for name in order for one in (name, *(own.name for own in known.values() if own.beside == name))]
        found = {name: base.named(known[name].notebook) for name in dict.fromkeys([*order, *known])}
        made = {name: kind(**known[name].parameters) for name, kind in found.items() if kind is not Claims}
        return {name: study for name, study in made.items() if study.cells()}

    def studies(self) -> Mapping[str, Study]:
        """As above: there are many, and they do not change."""
        return self._studies

    def judge(self, found: Mapping[Cell, results.Tables]) -> tuple[results.Tables, Findings]:
        """The claims of every page whose cells are all there."""
        tables, rows, every = [], [], Findings()
        beside = {name for name, page in profiles.evidence().items() if page.beside}
        for name, study in self.studies().items():
            own = study.cells()
            missing = sum(cell not in found for cell in own)
            if name in beside and missing == len(own):
                continue  # nothing of it was begun, and its page says so
            mine = Findings() if missing else study.judged({cell: found[cell] for cell in own}).findings
            outcomes = [finding.outcome for finding in mine]
            counts = {str(outcome): outcomes.count(outcome) for outcome in Outcome}
            rows.append({"page": name, "cells": len(own), "missing": missing, "claims": len(mine)} | counts)
            tables.append(mine.table().assign(page=name))
            every.extend(mine)
        claims = pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)
        claims.insert(0, "page", claims.pop("page"))
        return {"claims": claims, "pages": pd.DataFrame(rows)}, every
