"""What the data do not carry is not said: nothing lost, nothing measured, diverged trainings, any part of a page."""

from __future__ import annotations

import ast
import json
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.hardware.perturbations import PERTURBATIONS
from lib.prompts.gates import GATES
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings, Outcome
from paper import ROOT
from paper.evidence import Evidence
from paper.studies import base, beyond_training, perturbation, recovery
from paper.studies.base import Page, Study, left_out, pivoted
from paper.studies.gate_degradation import GateDegradation
from paper.studies.perturbation import PerturbationStudy
from paper.tools import profiles
from paper.words import perturbation as words

#: Sizes that change no number of a seed.
SIZES = ("chips", "gradients")
#: Lists of a configuration that choose rows, with the column that tells them.
ROWS = {"severities": "severity", "seeds": "seed", "gates": "gate"}


def covers(theirs: Any, mine: Any, name: str = "") -> bool:
    """Is one configuration a part of another?"""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        same = mine.keys() <= theirs.keys() if name == "learners" else mine.keys() == theirs.keys()
        return same and all(covers(theirs[key], mine[key], key) for key in mine)
    if isinstance(mine, list) and isinstance(theirs, list) and name != "parts":
        return all(one in theirs for one in mine)
    return name in SIZES or mine == theirs


@cache
def kept() -> dict[str, list[tuple[dict, Any]]]:
    """The configurations of the evidence by kind, each with where its tables are."""
    found: dict[str, list] = {}
    for file in Evidence(base.EVIDENCE).files.values():
        for key, entry in file.record["cells"].items():
            found.setdefault(entry["kind"], []).append((entry["config"], (file, key)))
    return found


class _Key:
    """As much of a cell as the evidence asks for."""

    def __init__(self, key: str) -> None:
        self.key, self.code = key, ""


def tables_of(cell: Cell) -> Tables:
    """The evidence of a cell, or of a part of one."""
    mine = json.loads(cell.text)
    if cell.kind == "designs":
        # What a learner is depends neither on the others nor on the task.
        alike = [place for theirs, place in kept()["designs"] if covers(theirs, mine | {"task": theirs["task"]})]
        ((file, key),) = alike
        tensors = file.get(_Key(key)).tables["tensors"]
        return {"tensors": tensors[tensors.learner.isin(mine["learners"])]}
    file, key = next((place for theirs, place in kept()[cell.kind] if covers(theirs, mine)), (None, ""))
    if file is None:
        pytest.skip("the evidence has no such cell")
    start = mine.get("start")
    lists = {**(start if isinstance(start, dict) else {}), **mine}
    chosen = {column: lists[name] for name, column in ROWS.items() if isinstance(lists.get(name), list)}
    if cell.kind == "gap":
        chosen["task"] = [one["task"] for one in mine["tasks"]]
    parted = {}
    for name, table in file.get(_Key(key)).tables.items():
        for column, values in chosen.items():
            table = table[table[column].isin(values)] if column in table else table
        parted[name] = table.reset_index(drop=True)
    return parted


def found_for(study: Study) -> dict[Cell, Tables]:
    return {cell: tables_of(cell) for cell in study.cells()}


@pytest.fixture(autouse=True)
def _the_readers_gate_goes_again(monkeypatch):
    """A page adds a gate to the registry while its cells run."""
    monkeypatch.setitem(GATES, "whole", None)
    monkeypatch.delitem(GATES, "whole")


def study_of(page: str, **changes: Any) -> Study:
    one = profiles.evidence()[page]
    return base.named(one.notebook)(**{**one.parameters, **changes})


#: What trains, draws every setting or needs the weights: no part of what a page says of its tables.
SKIPPED = ("whatif.", "glimpse(", "study.load()", "trial", "attempt(", "look(", "ends.groupby")


def told(study: Study, found: dict[Cell, Tables]) -> tuple[Page, list[str]]:
    """A page whose run has these tables, with all its figures drawn, and its sentences."""
    page = Page(study, study.judged(found), None, None, {})
    namespace: dict[str, Any] = {"__name__": "__main__", "study": study, "page": page, **study.parameters()}
    said = []
    for cell in json.loads((ROOT / "notebooks" / f"{study.notebook()}.ipynb").read_text())["cells"]:
        source = "".join(cell["source"])
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or {"parameters", "remove-output"} & {*tags}:
            continue
        if any(word in source for word in SKIPPED):
            continue
        lines = [line for line in source.splitlines() if ".from_notebook(" not in line and ".page()" not in line]
        tree = ast.parse("\n".join(lines))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, study.notebook(), "exec"), namespace)  # noqa: S102
        shown = eval(compile(ast.Expression(last.value), study.notebook(), "eval"), namespace) if last else None  # noqa: S307
        if hasattr(shown, "draw_without_rendering"):
            shown.draw_without_rendering()
        elif hasattr(shown, "to_html"):
            shown.to_html()
        elif type(shown).__name__ == "Markdown":
            said.append(shown.data)
    return page, said


# ------------------------------------------------------------------------------------------ any part of a page


def parts(page: str) -> list[tuple[str, Any]]:
    """Every list of a page's study, cut down to one entry: by turns to its first and to its last."""
    study = study_of(page)
    lists = {name: value for name, value in study.parameters().items() if isinstance(value, tuple)}
    lists = {name: value for name, value in lists.items() if name in study.PARTS and len(value) > 1}
    return [(name, value[-(place % 2)]) for place, (name, value) in enumerate(lists.items())]


#: Parts that are refused in a sentence: there would be nothing to compare.
REFUSED = {("composed", "pairs"), ("predictors", "task"), ("gate_value", "control_gates"), ("escape", "looks")}
PAGES = ["learners", "gradient_imbalance", "gate_degradation", "gate_value", "gap_origin", "escape", "predictors"]
PAGES += ["perturbation_adc", "separation", "beyond_training", "composed"]
PARTS = [(page, name, one) for page in PAGES for name, one in parts(page)]


@pytest.mark.parametrize(("page", "name", "one"), PARTS)
def test_any_single_entry_of_a_list_is_a_page(page, name, one):
    try:
        # Variants were measured at two severities only.
        less = {"closer": "known"} if name == "severities" and page.startswith("perturbation") else {}
        study = study_of(page, **{name: one if isinstance(one, str) else [one]}, **less)
    except base.checks.ParameterError as refused:
        assert (page, name) in REFUSED or "gate" in str(refused) or "learner" in str(refused)
        return
    shown, said = told(study, found_for(study))
    assert not any("nan" in sentence.lower().split() for sentence in said)
    assert all(isinstance(one.outcome, Outcome) for one in shown.findings)


# ------------------------------------------------------------------------------------------------- divergence


def diverged(found: dict[Cell, Tables], who: str) -> dict[Cell, Tables]:
    """The tables as if all trainings, or those of the first seed, had diverged at the third step."""
    marked = {}
    for cell, tables in found.items():
        marked[cell] = tables
        if "unaware" not in (cell.config.get("rule"), cell.config.get("arm")) and "accuracy" in tables:
            runs = tables["accuracy"]
            there = True if who == "all" else runs.seed == 0
            marked[cell] = {**tables, "accuracy": runs.assign(diverged_at=np.where(there, 2, -1))}
    return marked


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("gap_origin", "composed")])
def test_what_has_diverged_is_left_out_and_said(page):
    study = study_of(page)
    found = found_for(study)
    whole = study.judged(found)
    # That nothing moved is a result of a converter under autograd.
    assert not any("diverged" in one for one in [*whole.remarks, *(finding.note for finding in whole.findings)])
    shown, said = told(study, diverged(found, "all"))
    assert "diverged** at step 2" in shown.notice and not any("nan" in one.lower().split() for one in said)
    lost = [one for one in shown.findings if one.note]
    assert lost and all(one.outcome is Outcome.INCONCLUSIVE for one in lost)
    assert any("trainings diverged at step 2" in str(one) for one in lost)
    rest = study.judged(diverged(found, "first"))
    assert "diverged" in rest.remarks[0] and not any("not finite" in one.note for one in rest.findings)
    changed = [one for one in rest.findings if (same := whole.findings.get(one.id)) and one.value != same.value]
    assert changed and [one.id for one in rest.findings] == [one.id for one in whole.findings]


def test_a_huge_rate_is_said_on_the_page_and_leaves_claims_open(tmp_path):
    given = {"task": "coarse", "learner": "coop", "gate": "length", "test_size": 8, "seeds": 2, "long_steps": 1}
    result = GateDegradation(**given, steps=12, rate=1e6, device="cpu", results=str(tmp_path)).run()
    assert result.remarks[0].startswith("**2 of 12 trainings diverged** at step")
    assert "(CoOp, length, coarse, 16: 2)" in result.remarks[0]
    short = [one for one in result.findings if ".long." not in one.id]
    assert {one.outcome for one in short} == {Outcome.INCONCLUSIVE}
    assert all("2 of 12 trainings diverged" in one.note for one in short)
    # Too few steps for a warm-up, whose rate is another one.
    still = GateDegradation(**given, steps=4, rate=1e-12, device="cpu", results=str(tmp_path)).run()
    assert [one.split("**")[1] for one in still.remarks] == ["In 12 of 12 trainings nothing moved"]


def test_a_dead_gradient_is_reported_and_stays_a_result(tmp_path):
    given = {"perturbation": "adc", "severities": [3], "steps": 2, "seeds": 2, "chips": 2, "gradients": 2}
    result = PerturbationStudy(**given, device="cpu", results=str(tmp_path)).run()
    (said, *_) = result.remarks
    assert said.startswith("**In 2 of 4 trainings nothing moved** (ADC discretization, vanilla training: 2)")
    assert result.tables["accuracy"].accuracy.notna().all()


def test_only_the_replica_that_diverged_goes():
    cell = Cell("hardware_accuracy", {"rule": "autograd"}, None)
    runs = pd.DataFrame({"severity": [1.0, 1.0, 2.0, 2.0], "seed": [0, 1, 0, 1], "accuracy": [0.1, 0.2, 0.3, 0.4]})
    runs = runs.assign(clean=0.9, diverged_at=[5, -1, 3, 4])
    kept, (said,) = left_out({cell: {"accuracy": runs, "diagnostics": runs}})
    table = kept[cell]["accuracy"]
    # One seed of the first severity is left; of the second none, whose rows stay without their numbers.
    assert table[["severity", "seed"]].to_numpy().tolist() == [[1, 1], [2, 0], [2, 1]]
    assert table.accuracy.tolist()[0] == 0.2 and table.accuracy.isna().tolist() == [False, True, True]
    assert (table.clean == 0.9).all() and kept[cell]["diagnostics"].equals(runs)
    assert said.startswith("**3 of 4 trainings diverged** at steps 3 to 5")
    healthy = {cell: {"accuracy": runs.assign(diverged_at=-1)}}
    assert left_out(healthy) == (healthy, [])


# ------------------------------------------------------------------------------------- nothing lost, nothing measured


def runs(unaware: list[float], trained: list[float], severity: float = 0.1) -> pd.DataFrame:
    """An accuracy table of one severity: clean networks are right on 95 %."""
    shared = {"network": "mlp", "perturbation": "read_noise", "severity": severity, "clean": 0.95, "steps": 9}
    rows = [
        {**shared, "rule": rule, "seed": seed, "accuracy": value, "low": value, "first": value, "crest": 3.0}
        for rule, values in (("unaware", unaware), ("autograd", trained))
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("trained", [[0.95] * 4, [0.948, 0.947, 0.949, 0.948], [0.95, 0.96, 0.94, 0.95]])
def test_where_nothing_is_lost_nothing_is_won_back(trained):
    physics, table = PERTURBATIONS["read_noise"], runs([0.95] * 4, trained)
    signal = table.assign(cosine=1.0, signal=1.0, live=1.0)
    found = Findings.of(perturbation.claims(physics, {"accuracy": table, "diagnostics": signal}))
    (won,) = [one for one in found if "won_back" in one.id and one.id.endswith("harshest")]
    assert won.outcome is Outcome.INCONCLUSIVE and won.note == recovery.NO_DAMAGE and won.note in str(won)
    assert "no damage" in words.follows(found, physics)


def test_a_measure_against_nothing_is_not_ahead():
    def judged(unaware: float, factor: float) -> Any:
        shared = {"perturbation": "drift", "network": "mlp", "severity": 1.0, "clean": 0.95, "unaware": unaware}
        values = {"vanilla training": unaware, "one factor per layer": factor}
        rows = [
            {**shared, "measure": measure, "seed": seed, "accuracy": value}
            for measure, value in values.items()
            for seed in range(3)
        ]
        return Findings.of(beyond_training.claims(pd.DataFrame(rows))).get("beyond_training.drift.factor")

    assert judged(0.95, 0.95).outcome is Outcome.INCONCLUSIVE and judged(0.95, 0.95).note == recovery.NO_DAMAGE
    assert judged(0.6, 0.9).outcome is Outcome.HOLDS and judged(0.9, 0.6).outcome is Outcome.DOES_NOT_HOLD


def test_a_flat_curve_is_without_effect():
    flat = pd.concat([runs([0.8, 0.81], [0.9, 0.9], severity) for severity in (1.0, 10.0)])
    assert "flat" in perturbation.without_effect(flat)[0]
    assert "as right as without hardware" in perturbation.without_effect(runs([0.95, 0.95], [0.9, 0.9]))[0]
    steep = pd.concat([runs([0.8, 0.81], [0.9, 0.9], 1.0), runs([0.8, 0.7], [0.9, 0.9], 10.0)])
    assert perturbation.without_effect(steep) == []


def test_a_missing_number_is_not_averaged_away():
    table = pd.DataFrame({"seed": [0, 0, 1, 1], "rule": ["a", "b"] * 2, "value": [1.0, np.nan, 3.0, 4.0]})
    assert pivoted(table, ["seed"], "rule", "value").isna().sum().sum() == 1
    # A seed without a row is no pair; one with a row that holds no number is not forgotten.
    assert pivoted(table.iloc[1:], ["seed"], "rule", "value").index.tolist() == [1]


@pytest.mark.parametrize(
    ("page", "table", "column"),
    [
        ("learners", "accuracy", "accuracy"),
        ("gradient_imbalance", "trajectory", "slope"),
        ("gate_degradation", "trajectory", "information"),
        ("operator", "loss", "error"),
        ("operator", "layers", "change"),
        ("peers", "sampled", "error"),
        ("gap_origin", "shifts", "before"),
        ("separation", "diagnostics", "live"),
    ],
)
def test_no_claim_holds_by_a_number_that_is_none(page, table, column):
    study = study_of(page)
    if page in ("operator", "peers"):
        evidence = Evidence(base.EVIDENCE)
        found = {cell: evidence.get(cell).tables for cell in study.cells()}
    else:
        found = found_for(study)
    before = study.judged(found).findings

    def poisoned(tables: Tables) -> Tables:
        if column not in tables.get(table, ()):
            return tables
        own = tables[table].copy()
        own.loc[own.seed == 0 if "seed" in own else own.index[:1], column] = np.nan
        return {**tables, table: own}

    after = study.judged({cell: poisoned(tables) for cell, tables in found.items()}).findings
    touched = [one for one in after if (same := before.get(one.id)) and one.value != same.value]
    assert touched and {one.outcome for one in touched} == {Outcome.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("samples", "note"),
    [([], "nothing was measured"), ([5.0], "one seed has no interval"), ([5.0, np.nan], "1 of 2 values are not finite")]
    + [([5.0, 5.0], ""), ([np.inf, np.inf, 1.0], "2 of 3 values are not finite")],
)
def test_what_is_open_for_want_of_numbers_says_so(samples, note):
    (found,) = Findings.of([Claim("a", "it is large", samples, ">", 1, "page")])
    assert found.note == note and (found.outcome is Outcome.HOLDS) == (not note)
    assert Findings([found]).table().note.tolist() == [note]
    (void,) = Findings.of([Claim("a", "it is large", samples, ">", 1, "page", void="nothing to decide")])
    assert void.outcome is Outcome.INCONCLUSIVE and str(void).endswith("| nothing to decide")
