"""What every page says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from paper.studies.base import Page, Study


def shown(page: Page) -> str:
    """What the figures show: the evidence with this run over it (Markdown); empty where this run is all there is."""
    if page.evidence is None:
        return ""
    return (
        f"Figures, tables and sentences show the evidence{_seeds(page.subject)}; what this run has measured again"
        f"{_seeds(page.study)} is drawn over it."
    )


def _seeds(study: Study) -> str:
    count = getattr(study, "seeds", None)
    return "" if count is None else f" ({count} seed{'s' if count > 1 else ''})"


@dataclass(frozen=True, repr=False)
class Whole:
    """A table whose cells are shown in full, however long they are."""

    table: pd.DataFrame

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return self.table.to_html(border=0)

    def __repr__(self) -> str:
        return self.table.to_string()
