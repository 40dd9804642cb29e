"""What the page that asks who could have known says."""

from __future__ import annotations

import pandas as pd

from lib.verdicts import Outcome
from paper.studies.base import Page
from paper.studies.foresight import GATES, HARDWARE, KNOWN, MEASURED, TIMES, named
from paper.words.numbers import listed

_PARTS = {GATES: "Of gates", HARDWARE: "Of hardware"}


def answer(page: Page) -> str:
    """Could you have known? A sentence or two for each part (Markdown)."""
    areas, left = page.tables["areas"], page.tables["left_out"]
    said = []
    for part, lead in _PARTS.items():
        first = areas[(areas["part"] == part) & (areas["when"] == "before")]
        if not len(first):
            continue
        measured, trivial = (first[first["trivial"] == one].nlargest(1, "area").iloc[0] for one in (False, True))
        worlds = page.tables["cells"].loc[lambda cells, part=part: cells["part"] == part, "backbone"].unique()
        over = " (over the trainings of the drawn world and photographs together)" if len(worlds) > 1 else ""
        said.append(
            f"**{lead}**{over}, before the first step, the best of {(~first['trivial']).sum()} measurements is the "
            f"{named(part, measured['predictor'])} ({_area(measured)}); the best that needs no gradient is the "
            f"{named(part, trivial['predictor']).removeprefix('the ')} ({_area(trivial)})."
        )
        own = left[(left["part"] == part) & (left["predictor"] == MEASURED)]
        for when, rows in own.groupby("when", sort=False):
            held = listed(f"a {name}" for name in rows["held"])
            words = [f"{value:.2f}" for value in rows["area"]]
            other = left[(left["part"] == part) & (left["when"] == when) & (left["predictor"] == KNOWN)]
            known = [f"{value:.2f}" for value in other["area"]]
            time = "Before the first step" if when == "before" else "After an eighth of the steps"
            said.append(
                f"{time}, with {held} left out in turn, a regression on all of them has an area of {listed(words)}; "
                f"one on what is known without a gradient has {listed(known)}."
            )
    return " ".join(said) or "There is no evidence of either part yet."


#: The answer to "could you have known?" by what became of the claims that all measurements together tell.
_KNOWN = {Outcome.HOLDS: "Yes, mostly", Outcome.DOES_NOT_HOLD: "No", Outcome.INCONCLUSIVE: "Not reliably"}
#: What wins in either part, and what loses.
_PAIRS = {
    GATES: "of two gates, one that will gain and one that will not",
    HARDWARE: "of two trainings, one that will make up for the hardware and one that will not",
}


def known_before(page: Page, part: str) -> str:
    """Could you have known, of one part? Two plain sentences (Markdown)."""
    areas = page.tables["areas"]
    first = areas[(areas["part"] == part) & (areas["when"] == "before")]
    if not len(first):
        return "Nobody has measured it yet."
    tells = [one.outcome for one in page.findings if _tells(one.id, part)]
    outcome = tells[0] if len(set(tells)) == 1 else Outcome.INCONCLUSIVE
    measured, trivial = (first[first["trivial"] == one].nlargest(1, "area").iloc[0] for one in (False, True))
    free = named(part, trivial["predictor"]).removeprefix("the ")
    return (
        f"**{_KNOWN[outcome]}.** {_PAIRS[part].capitalize()}, the best of "
        f"{int((~first['trivial']).sum())} measurements "
        f"of the gradient before the first step puts the right one first in {100 * measured['area']:.0f} of 100 cases, "
        f"where a coin is right in 50 and what needs no gradient ({free}) in {100 * trivial['area']:.0f}."
    )


def _tells(name: str, part: str) -> bool:
    return name.startswith(f"foresight.{part}.before.") and name.endswith(".tells")


def of_gates(page: Page) -> str:
    """Could you have known, of gates?"""
    return known_before(page, GATES)


def of_hardware(page: Page) -> str:
    """Could you have known, of hardware?"""
    return known_before(page, HARDWARE)


def short_answer(page: Page) -> str:
    """Could you have known, of both parts (Markdown)."""
    parts = [part for part in _PARTS if (page.tables["areas"]["part"] == part).any()]
    return "\n\n".join(f"*{_PARTS[part]}:* {known_before(page, part)}" for part in parts) or known_before(page, GATES)


def rely(page: Page) -> str:
    """What a practitioner may rely on, and on what not: by the findings (Markdown)."""
    found = {one.id: one for one in page.findings}
    tells = [one for name, one in found.items() if name.endswith(".tells")]
    beyond = [one for name, one in found.items() if name.endswith(".beyond")]
    held = [one for one in tells if one.outcome is Outcome.HOLDS]
    lost = sum(one.outcome is Outcome.DOES_NOT_HOLD for one in tells)
    said = [
        f"There are {len(tells)} ways to leave something out. All measurements together tell which trainings win in "
        f"{len(held) or 'none'} of them; in {lost or 'none'} they do not, and the others are open."
    ]
    more = [one for one in beyond if one.outcome is Outcome.HOLDS]
    if more:
        said.append(f"Beyond what needs no gradient this holds: {'; '.join(f'*{one.claim}*' for one in more)}.")
    else:
        said.append("In none of them do they tell more than what needs no gradient, beyond doubt.")
    if not held:
        said.append(
            "**So nobody should call a training off by these numbers alone.** What they are good for is the other half "
            "of a diagnosis: whether there is a loss that matters, whether a gradient is there at all, and which layer "
            "or part it is about. That is what the [report on your own model](own.ipynb) gives."
        )
    return " ".join(said)


def costs(page: Page) -> pd.DataFrame:
    """What the measurements cost beside the training that they may save."""
    table = page.tables["costs"]
    return table.assign(when=table["when"].map(TIMES)).rename(
        columns={"gradients": "gradients, or steps", "steps": "steps of the training"}
    )


def _area(row: pd.Series) -> str:
    return f"area {row['area']:.2f} [{row['area_low']:.2f}, {row['area_high']:.2f}]"
