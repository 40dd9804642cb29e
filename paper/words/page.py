"""What every page says of itself."""

from __future__ import annotations

from paper.agreement import Agreement
from paper.studies.base import Page, Study
from paper.words import format
from paper.words.names import words
from paper.words.numbers import listed
from paper.words.tables import Several, Table


def shown(page: Page) -> str:
    """What the figures show: the evidence with this run over it (Markdown); empty where this run is all there is."""
    if page.evidence is None:
        return ""
    text = (
        f"Figures, tables and sentences show the evidence{_seeds(page.subject)}; what this run has measured again"
        f"{_seeds(page.study)} is drawn over it."
    )
    return " ".join(filter(None, [text, photographed(page)]))


def photographed(page: Page) -> str:
    """What there is of the same on photographs; empty where a page has no such part."""
    other, whole = page.counterpart, page.whole
    if other is None or whole is None:
        return ""
    if page.photographs is None:
        return "On photographs the same is still to be measured: there is no evidence of it, or not all of it."
    left = [_left(whole, name, lost) for name in whole.PARTS if (lost := _lost(whole, other, name))]
    fewer = f" Not measured on photographs: {'; '.join(left)}." if left else ""
    return (
        f"Beside it stands what the same measurements on photographs give{_seeds(other)}: in the main figures, which"
        f" then stand twice, and in the findings, which are judged on each and on both.{fewer}"
    )


def _lost(whole: Study, other: Study, name: str) -> list[object]:
    """What of a list of the drawn world's page was left out on photographs."""
    mine, theirs = (getattr(study, name) for study in (whole, other))
    return [one for one in mine if one not in theirs] if isinstance(mine, tuple) and isinstance(theirs, tuple) else []


#: What the lists of a page are lists of.
_PARTS = {
    "task": "tasks",
    "learner": "learners",
    "gate": "gates",
    "control_task": "tasks by the control's recipe",
    "control_learner": "learners by the control's recipe",
    "control_gate": "gates by the control's recipe",
    "many_task": "tasks with many seeds",
    "tuned_learner": "tuned learners",
    "tuned_gate": "tuned gates",
    "long_tasks": "tasks of the long trainings",
    "few_shots": "numbers of pictures per class",
    "few_tasks": "tasks with few pictures",
    "surveyed": "learners of the survey",
    "rates": "multiples of the rate",
    "graded_rates": "multiples of the rate in the what-if",
    "interventions": "ways to train the gate",
    "strengths": "strengths of the conflict",
    "biases": "biases of the gate in the what-if",
}
#: So many are named, more are counted.
_NAMED = 4


def _left(whole: Study, name: str, lost: list[object]) -> str:
    """What is lost of one list of a page: named or, where that is much, counted."""
    what = _PARTS.get(name, name.replace("_", " "))
    if name in ("task", "gate") and hasattr(whole, "control_task"):
        what = f"{what} by the short and the tuned recipe"
    elif name in ("task", "learner", "gate") and hasattr(whole, f"control_{name}"):
        what = f"{what} by the short recipe"
    count = len(getattr(whole, name))
    if len(lost) == count:
        return f"all {what}"
    return f"{len(lost)} of {count} {what}" if len(lost) > _NAMED else f"of the {what} {_listed(lost)}"


def _listed(values: list[object]) -> str:
    return listed(format.number(one) if isinstance(one, int | float) else words(str(one)) for one in values)


def _seeds(study: Study) -> str:
    count = getattr(study, "seeds", None)
    return "" if count is None else f" ({format.several(count, 'seed')})"


def noticed(found: Agreement) -> Several:
    """Which deviation a test of agreement would have noticed, and every cell and quantity that disagrees."""
    least = found.noticed()
    scale = least.pop("scale")
    least["in one cell"] = [
        f"{format.number(value)} decades" if one == "log" else format.number(value)
        for value, one in zip(least["in one cell"], scale, strict=True)
    ]
    tables = {
        "Smallest deviation that would have been noticed": least,
        "Cells that disagree": found.disagreeing,
        "Quantities that are shifted as a whole, in deviations over seeds": found.shifted,
    }
    wrong = tables["Cells that disagree"]
    for side, where in (("here", "undefined here"), ("evidence", "undefined in the evidence")):
        gone = wrong[side].isna()
        wrong = wrong.assign(**{side: wrong[side].astype(object).where(~gone, "undefined")})
        wrong = wrong.assign(difference=wrong.difference.astype(object).where(~gone, where))
    tables["Cells that disagree"] = wrong
    # Numbers are compared as they are measured: an accuracy is a share.
    named = {
        title: table.assign(table=[*map(words, table["table"])], quantity=[*map(words, table["quantity"])])
        for title, table in tables.items()
    }
    return Several([Table(table, title, keys=2) for title, table in named.items() if len(table)])
