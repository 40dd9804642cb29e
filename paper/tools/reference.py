"""Runs studies with the parameters of a profile and keeps their summaries as the reference.

``python -m paper.tools.reference [--profile full] [PAGE ...]``: every page of the profile, or those named.
What is already stored is not computed again; each reference is written as soon as its study is done.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from pathlib import Path

from lib.checks import ParameterError
from paper.studies.base import Study
from paper.tools import pages


def study_of(module: str) -> type[Study]:
    """The one study that a module of :mod:`paper.studies` exists for: the class it defines that can run."""
    loaded = importlib.import_module(f"paper.studies.{module}")
    return next(
        kind
        for _, kind in inspect.getmembers(loaded, inspect.isclass)
        if issubclass(kind, Study) and kind.__module__ == loaded.__name__ and "run" in vars(kind)
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the reference tables of a profile.")
    parser.add_argument("page", nargs="*", help="pages of the profile (default: all)")
    parser.add_argument("--profile", default="full", help="quick or full (default: full)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    given = parser.parse_args(arguments)
    try:
        profile = pages.profile(pages.ROOT / Path("profiles") / f"{given.profile}.yaml")
        for name in given.page:
            if name not in profile:
                raise ParameterError(f"page must be one of {', '.join(profile)}, but {name!r} was given.")
        studies = {
            name: study_of(page.notebook)(**{**page.parameters, "device": given.device})
            for name, page in profile.items()
            if name in (given.page or profile)
        }
    except ParameterError as refused:
        print(refused, file=sys.stderr)
        return 2
    for name, study in studies.items():
        result = study.run()
        study.write_reference(result)
        print(f"{name}: {len(study.summary(result))} rows, {result.provenance['seconds']:.0f} s", flush=True)
        print(result.findings, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
