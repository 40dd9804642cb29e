"""What the library's diagnosis knows of recovery: a table drawn from the evidence, written into the library.

``python -m paper.tools.known`` writes it anew; a test compares it with the evidence.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import pandas as pd

from lib.checks import ParameterError
from paper.criteria.hardware import DAMAGE
from paper.studies import base
from paper.tools import profiles

PAGE = "hardware_trial"
"""The page whose evidence it is: families at equal damage, from networks that have converged."""
PLACE = base.ROOT / "lib" / "diagnose" / "known.csv"


def known(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The cases that clearly lose accuracy under the backward rules: rule, family, network, rise of the loss at the
    start (nats), and the share of the lost accuracy that training won back (the mean over seeds).
    """
    readings = tables["readings"]
    keys = ["network", "family", "level"]
    at_start = readings[readings["place"] == "start"].groupby([*keys, "rule"], as_index=False)["rise"].mean()
    cases = tables["cases"].rename(columns={"arm": "rule"})
    found = cases[cases["damage"] >= DAMAGE].merge(at_start, on=[*keys, "rule"])
    return found[["rule", "family", "network", "rise", "recovery"]].round(4)


def main(words: Sequence[str] | None = None) -> None:
    """Write the table of the committed evidence into its file."""
    argparse.ArgumentParser(prog="python -m paper.tools.known", description=__doc__).parse_args(words)
    own = profiles.evidence()[PAGE]
    result, _ = base.named(own.notebook)(**own.parameters).from_evidence()
    if result is None:
        raise ParameterError(f"the evidence of {PAGE} must be whole, but some of it is missing.")
    PLACE.write_text(known(result.tables).to_csv(index=False), encoding="utf-8")


if __name__ == "__main__":
    main()
