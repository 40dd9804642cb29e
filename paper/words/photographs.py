"""What the page on photographs says: how many claims come out alike, what each section found, and what is missing."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from lib.prompts import tasks
from lib.verdicts import Findings, Outcome
from paper.comparison import Comparison, written
from paper.studies.base import Page
from paper.studies.photographs import COLUMNS, OTHER, by_chance, is_planted
from paper.studies.predictors import LABELS
from paper.words import format
from paper.words.numbers import Shown, listed
from paper.words.spelling import spelt
from paper.words.titles import called

WORLDS = {"drawn": "in the drawn world", "photographs": "on photographs"}
#: The cue of every planted conflict: what tells which rule a picture follows.
CUES: dict[tuple[str, str], str] = {
    **{("drawn", name): f"drawn: {cue}" for name, cue in tasks.GRADED.items()},
    ("photographs", "conflict"): "photo: animal or vehicle",
    ("photographs", "conflict_blur"): "photo: sharp or blurred",
}
_BELIEVE = (
    "Where both agree the reader may begin to believe. Where they differ is the more interesting: there it matters what"
    " the backbone has seen, how strong it is, or what its tasks ask."
)
_LIMITS = (
    "Claims of one page share their trainings, so they are not so many independent trials. And two small CLIPs are"
    " two: what they share, from architecture to recipes, their agreement cannot test, and nothing is claimed of"
    " ViT-B/16 here."
)


def _spelt(name: str) -> str:
    return name.replace("_", " ")


def missing(page: Page) -> str:
    """Which evidence is not there, in one sentence for each world; that all of it is, where it is."""
    table, said = page.tables["sources"], []
    if not (table["cells"] > table["missing"]).any():
        return "**Nothing has been measured in either world yet**: there is nothing to show."
    for side, words in WORLDS.items():
        own = table[table["backbone"] == side]
        gone = own[(own["missing"] > 0) | (own["cells"] == 0)]
        if len(gone) == len(own):
            said.append(f"**Nothing has been measured {words} yet**: what follows is about the other world alone.")
        elif len(gone):
            names = [
                f"*{called(row['page'])}* ({row['missing']} of {row['cells']} parts)"
                if row["cells"]
                else f"*{called(row['page'])}*"
                for row in gone.to_dict("records")
            ]
            said.append(f"Evidence is missing {words} for {listed(names)}; the rest is judged.")
    return " ".join(said) or "The evidence of every page is there in both worlds."


def _shared(page: Page) -> pd.DataFrame:
    """The claims that were judged in both worlds."""
    claims = page.tables["claims"]
    return claims[claims["together"] != "one alone"]


def answer(page: Page) -> str:
    """How many of the claims judged in both worlds come out alike (Markdown)."""
    both = _shared(page)
    if not len(both):
        return (
            "**No claim has been judged in both worlds yet.** What is compared, and by which criteria, was written down"
            " before the first number on photographs."
        )
    counts = both["together"].value_counts()
    alike, differ = int(counts.get("alike", 0)), int(counts.get("differ", 0))
    held = int(((both["together"] == "alike") & (both["drawn"] == str(Outcome.HOLDS))).sum())
    one, two = int(counts.get("open on one", 0)), int(counts.get("open on both", 0))
    return (
        f"Of Part I's claims {len(both)} were judged in both worlds. **{alike} come out alike** ({held} hold in both,"
        f" {alike - held} in neither), **{differ} differ**, {one} are open in one of them and {two} in both."
    )


def headline(page: Page) -> str:
    """What :func:`answer` is to be held against, where the worlds differ, and what follows (Markdown)."""
    both = _shared(page)
    if not len(both):
        return "This page judges what there is, and fills as evidence comes."
    decided, said = both[both["together"].isin(["alike", "differ"])], []
    if len(decided):
        said.append(
            f"If outcomes were dealt at random, each world keeping its share of claims that hold, {by_chance(both):.0f}"
            f" of the {len(decided)} that both decide would be alike."
        )
    differ = decided[decided["together"] == "differ"]
    if len(differ):
        pages = differ["page"].value_counts()
        said.append(f"They differ on {listed(f'*{called(str(name))}* ({count})' for name, count in pages.items())}.")
    if alone := len(page.tables["claims"]) - len(both):
        said.append(f"{alone} more claims were put in one world alone, about tasks or gates that the other has not.")
    return " ".join([*said, _BELIEVE, _LIMITS])


def by_page(page: Page) -> pd.DataFrame:
    """How the claims of every page come out together: counts, and a row for all."""
    claims = page.tables["claims"]
    kinds = ["alike", "differ", "open on one", "open on both", "one alone"]
    counts = pd.crosstab(claims["page"], claims["together"]) if len(claims) else pd.DataFrame()
    order = list(dict.fromkeys(claims["page"]))
    table = counts.reindex(index=order, columns=kinds, fill_value=0)
    table.loc["all"] = table.sum()
    table.index = [called(str(name)) for name in table.index]
    return table.astype(int).rename_axis(None, axis=1).rename_axis("page").reset_index()


def rows(page: Page, together: str) -> pd.DataFrame:
    """The claims that come out so together: page, claim, and outcome with value and interval in each world."""
    own = page.tables["claims"]
    own = own[own["together"] == together]
    table = pd.DataFrame(
        {"page": own["page"].map(called), "claim": own["claim"], "criterion": own["criterion"].map(written)}
    )
    for side in WORLDS:
        table[side] = [f"{row[side]}: {_measured(row, side)}" if row[side] else "" for row in own.to_dict("records")]
    return table.reset_index(drop=True)


def _measured(row: dict[str, object], side: str) -> str:
    value, low, high = (float(row[f"{side}{end}"]) for end in ("_value", "_low", "_high"))  # type: ignore[arg-type]
    return f"{format.interval(value, low, high)} {row[f'{side}_unit']}".strip()


def beside(page: Page, section: str) -> Comparison:
    """The findings of a section side by side: a column for each world, or each way, and one for both."""
    names = ("to_photographs", "to_drawn", "both") if section == "transfer" else ("drawn", "photographs", "both")
    return Comparison({COLUMNS[name]: of(page, name, section) for name in names})


def alike(page: Page) -> Comparison:
    """The findings on whether numbers are the same in both worlds."""
    return Comparison({COLUMNS["same"]: of(page, "same", "same")})


def of(page: Page, column: str, section: str) -> Findings:
    """The findings of one column of a section, as the pages that they come from know them."""
    start = f"photographs.{column}.{section}."
    return Findings(
        replace(one, id=one.id.removeprefix(start), claim=one.claim.removeprefix(f"{COLUMNS[column]}: "))
        for one in page.findings
        if one.id.startswith(start)
    )


def told(page: Page, section: str) -> str:
    """What a section found, claim by claim: what holds in both worlds, what in neither, what differs, what is open."""
    first, second = ("to_photographs", "to_drawn") if section == "transfer" else ("drawn", "photographs")
    one, two = ({found.id: found for found in of(page, name, section)} for name in (first, second))
    shared = [name for name in one if name in two]
    if not shared:
        there = [name for name, own in ((first, one), (second, two)) if own]
        if not there:
            return "Nothing of this has been measured yet."
        return f"Measured {_where(there[0])} alone so far: nothing can be said of both."
    parts: dict[str, list[str]] = {}
    for name in shared:
        pair = (one[name].outcome, two[name].outcome)
        parts.setdefault(_kind(pair, first, second), []).append(one[name].claim)
    said = [f"**{kind}**: {'; '.join(own)}." for kind, own in sorted(parts.items(), key=lambda part: _order(part[0]))]
    return " ".join(said)


def _where(column: str) -> str:
    ways = {f"to_{side}": f"from {OTHER[side]} to {side}" for side in WORLDS}
    return (WORLDS | ways)[column]


def _kind(pair: tuple[Outcome, Outcome], first: str, second: str) -> str:
    """What two outcomes of a claim come to, in words."""
    if Outcome.INCONCLUSIVE in pair:
        opened = [name for name, one in zip((first, second), pair, strict=True) if one is Outcome.INCONCLUSIVE]
        return "Open in both" if len(opened) > 1 else f"Open {_where(opened[0])}"
    if pair[0] is pair[1]:
        return "Holds in both" if pair[0] is Outcome.HOLDS else "Does not hold in either"
    return f"Differs, holds {_where(first if pair[0] is Outcome.HOLDS else second)} alone"


def _order(kind: str) -> int:
    """Where a kind stands among the sentences."""
    return next(i for i, start in enumerate(("Differs", "Holds", "Does", "Open")) if kind.startswith(start))


def equal(page: Page) -> str:
    """Which numbers are the same in both worlds, which are not, and which are open."""
    own = of(page, "same", "same")
    if not own:
        return "Whether numbers are the same can be asked when both worlds have been measured."
    leads = {
        Outcome.HOLDS: "The same in both worlds",
        Outcome.DOES_NOT_HOLD: "Not the same",
        Outcome.INCONCLUSIVE: "Open",
    }
    said = []
    for outcome, lead in leads.items():
        names = [f"{_about(one.claim)} ({Shown(one.value):+.2f})" for one in own if one.outcome is outcome]
        if names:
            said.append(f"{lead}, photographs less drawn in decades: {'; '.join(names)}.")
    return " ".join(said)


def _about(claim: str) -> str:
    return claim.partition(" is the same")[0].partition(" saves as many")[0]


def verdicts(page: Page) -> pd.DataFrame:
    """How many gates are what: a row per verdict, a column per world and kind of task."""
    table = page.tables["verdicts"]
    if not len(table):
        return pd.DataFrame(columns=["verdict"])
    kinds = ["planted" if is_planted(task) else "ordinary tasks" for task in table["task"]]
    counts = pd.crosstab(table["verdict"], [table["backbone"], kinds])
    names = [(side, kind) for side in WORLDS for kind in ("ordinary tasks", "planted") if (side, kind) in counts]
    order = [name for name in ("useful", "co-adapted", "idle", "harmful", "inconclusive") if name in counts.index]
    shown = counts.reindex(index=order, columns=pd.MultiIndex.from_tuples(names))
    shown.columns = [f"{side}, {kind}" for side, kind in names]
    return shown.rename_axis("verdict").reset_index()


def health(page: Page) -> str:
    """On which planted conflicts the diagnosis says "healthy", and on which it does not (Markdown)."""
    said = []
    for side, words in WORLDS.items():
        own = {one.id.removesuffix(".healthy"): one for one in of(page, side, "planted") if one.id.endswith(".healthy")}
        parts = []
        for outcome, lead in (
            (Outcome.HOLDS, "“healthy” is said of"),
            (Outcome.DOES_NOT_HOLD, "it is not said of"),
            (Outcome.INCONCLUSIVE, "it is open for"),
        ):
            names = [_cue(side, task) for task, one in own.items() if one.outcome is outcome]
            if names:
                parts.append(f"{lead} {listed(names)}")
        said.append(f"{words[:1].upper()}{words[1:]} {', '.join(parts) or 'no planted conflict was measured'}.")
    return " ".join(said)


def _cue(side: str, task: str) -> str:
    return f"*{CUES.get((side, task), _spelt(task)).partition(': ')[2] or _spelt(task)}*"


def carried(page: Page) -> str:
    """Which predictors tell in the other world too, and what was selected there."""
    table = page.tables["transfer"]
    if not len(table):
        return "Predictors pass from one world to the other only where both have been measured."
    said = []
    for side in ("photographs", "drawn"):
        own = table[(table["tested"] == side) & (table["when"] == "early")].set_index("measurement")
        known = own["area"].dropna()
        if not len(known):
            said.append(f"Nothing can be tried {WORLDS[side]}: no recipe has gates that gain beside gates that do not.")
            continue
        picked, less = own.loc["selected"], own.loc["loss_start"]
        turned = int((own["sign"] < 0).sum())
        said.append(
            f"Chosen {WORLDS[OTHER[side]]} and tried {WORLDS[side]}, after an eighth of the steps:"
            f" {LABELS.get(str(picked['chosen']), 'nothing')} is selected and has an area of {picked['area']:.2f}"
            f" [{picked['area_low']:.2f}, {picked['area_high']:.2f}], all together {own.loc['together', 'area']:.2f},"
            f" the gap {own.loc['gap', 'area']:.2f}, the initial loss {less['area']:.2f};"
            f" the other world turns the sign of {turned} of {len(own) - 2} measurements."
        )
    return " ".join(said)


def strong(page: Page) -> str:
    """How accurate the backbones are without training and with tuned prompts, in the mean over their tasks."""
    table, said = page.tables["strength"], []
    for side, words in WORLDS.items():
        own = table[(table["backbone"] == side) & ~table["task"].map(is_planted).astype(bool)]
        if not len(own):
            continue
        plain, tuned = (own[own["learner"] == name] for name in ("zero_shot", "coop"))
        # Two means are compared of the same tasks alone.
        if both := [name for name in plain["task"].unique() if name in set(tuned["task"])]:
            plain, tuned = (part[part["task"].isin(both)] for part in (plain, tuned))
        more = f", tuned CoOp on {tuned['value'].mean():.0f} %" if both else ""
        where = listed(f"*{spelt(str(name))}*" for name in plain["task"].unique())
        said.append(
            f"{words[:1].upper()}{words[1:]} the hand-written sentence is right on {plain['value'].mean():.0f} % of the"
            f" pictures of {where}{more}."
        )
    return " ".join(said) or "How strong the backbones are has not been measured yet."
