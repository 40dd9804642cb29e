"""``python -m lib diagnose MODULE:FUNCTION``: a diagnosis of one's own from the command line.

The function takes nothing. With ``--perturbation`` it gives ``model, loss, batches``, as
:func:`lib.diagnose_perturbation` takes them; with ``--gate`` a mapping with the arguments of
:func:`lib.diagnose_gate`. The exit status is 0 where a verdict was possible, 1 where none was, 2 where something was
refused.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lib.checks import ParameterError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib", description="Diagnose a model before training it.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "diagnose", help="a model of one's own on hardware, or a gate of one's own", description=__doc__
    )
    command.add_argument("target", metavar="MODULE:FUNCTION", help="gives the model, as said above")
    kind = command.add_mutually_exclusive_group(required=True)
    kind.add_argument("--perturbation", help="its name, or MODULE:NAME of an instance of one's own")
    kind.add_argument("--gate", action="store_true", help="diagnose a gate")
    command.add_argument("--severity", type=json.loads, help="a number or a list (default: the perturbation's grid)")
    command.add_argument("--options", type=json.loads, default={}, help="further arguments of the function, as JSON")
    command.add_argument("--json", metavar="FILE", help="write the report as data")
    command.add_argument("--html", metavar="FILE", help="write the report as a page")
    return parser


def _named(name: str, where: str) -> Any:
    module, colon, attribute = where.partition(":")
    if not colon:
        raise ParameterError(f"{name} must be MODULE:NAME, but {where!r} was given.")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise ParameterError(
            f"{name} must be something that can be imported, but {where!r} was given ({problem})."
        ) from None


def _diagnosed(given: argparse.Namespace) -> Any:
    from lib.diagnose import diagnose_gate, diagnose_perturbation

    for file in (given.json, given.html):
        if file is not None and not os.path.isdir(os.path.dirname(os.path.abspath(file))):
            raise ParameterError(f"FILE must be in a folder that exists, but {file!r} was given.")
    made = _named("target", given.target)()
    if given.gate:
        if not isinstance(made, Mapping):
            raise ParameterError(f"{given.target} must give a mapping, but {type(made).__name__} was given.")
        return diagnose_gate(**{**made, **given.options})
    if not isinstance(made, tuple) or len(made) != 3:
        raise ParameterError(f"{given.target} must give (model, loss, batches), but {type(made).__name__} was given.")
    name = given.perturbation
    hardware = _named("perturbation", name) if ":" in name else name
    return diagnose_perturbation(*made, hardware, given.severity, **given.options)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    given = _parser().parse_args(words)
    # As with `python -m`, what lies in the folder can be imported.
    sys.path.insert(0, os.getcwd())
    try:
        report = _diagnosed(given)
    except ParameterError as refused:
        print(refused, file=sys.stderr)
        return 2
    for file in filter(None, (given.json, given.html)):
        report.save(file)
    print(report)
    return 0 if report.decided else 1


if __name__ == "__main__":
    raise SystemExit(main())
