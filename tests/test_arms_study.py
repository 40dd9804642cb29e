"""The arms of a class on its page: which are run, recovery beyond clipping, claims that can come out either way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from lib.hardware.perturbations import PERTURBATIONS
from lib.verdicts import Findings
from paper.studies import arms
from paper.studies.hardware import Schedule, fork
from paper.studies.perturbation import PerturbationStudy
from paper.studies.recovery import paired, recovery
from paper.sweep import Sweep
from paper.words import perturbation as words


def accuracy(values: dict[str, tuple[float, ...]], severities=(0.1, 0.2), seeds: int = 4) -> pd.DataFrame:
    """Rows of a rule at every severity, with a small spread over seeds."""
    rows = []
    for rule, at in values.items():
        for severity, value in zip(severities, at, strict=True):
            for seed in range(seeds):
                row = {"network": "mlp", "perturbation": "read_noise", "rule": rule, "severity": severity, "seed": seed}
                rows.append({**row, "clean": 0.95, "accuracy": value + 0.001 * seed, "low": value, "crest": 3.0})
                rows[-1] |= {"steps": 9, "chips": 3, "first": value}
    return pd.DataFrame(rows)


def looks(rows: dict[str, tuple[float, ...]], severities=(0.1, 0.2, 0.4)) -> pd.DataFrame:
    made = [
        {"arm": arm, "severity": severity, "seed": seed, "variance": value * (1 + 0.01 * seed), "top": 0.5}
        for arm, values in rows.items()
        for severity, value in zip(severities, values, strict=True)
        for seed in range(4)
    ]
    return pd.DataFrame(made)


def of_arms(main: pd.DataFrame, **values: tuple[float, ...]) -> pd.DataFrame:
    """The table of arms: those of the page, and others by the name of their constant."""
    base = main[main.rule == "unaware"][["severity", "seed", "accuracy"]].rename(columns={"accuracy": "unaware"})
    parts = []
    for name, at in values.items():
        runs = accuracy({"autograd": at})
        parts.append(runs.merge(base, on=["severity", "seed"]).assign(arm=getattr(arms, name)))
    return pd.concat(parts, ignore_index=True)


def test_every_arm_is_run_once_and_those_of_the_page_are_its_own():
    pages = {
        name: PerturbationStudy(perturbation=name, severities="all", closer="all").parts() for name in PERTURBATIONS
    }
    assert {*arms.ARMS} - {*pages["variability"].arms} == {arms.DIFFERENTIATED, arms.STRAIGHT}
    # To a converter no scale of arrays is a matter.
    assert not {arms.DETACHED, arms.COLUMN} & {*pages["adc"].arms} and arms.RECIPE in pages["adc"].arms
    for name, parts in pages.items():
        cells = [cell for runs in parts.arms.values() for cell in runs if cell is not None]
        assert len(cells) == len(set(cells)) and set(cells) <= set(parts.all())
        for label, runs in parts.arms.items():
            assert runs.trained.config["clip"] == arms.ARMS[label].clip
            assert (runs.unaware is not None) == (label == arms.COLUMN)
            few = name == "ir_drop" and label != arms.FINISHED
            assert len(runs.trained.config["severities"]) == (2 if few else len(PERTURBATIONS[name].grid))
    assert not PerturbationStudy(perturbation="stuck_at", options={"on": 1.0}, closer="all").parts().arms
    assert {*PerturbationStudy(closer="clipped").parts().arms} == {arms.CLIPPED, arms.FINISHED}


def test_a_clipped_network_that_is_finished_is_the_unaware_one_cut_off():
    study = PerturbationStudy(perturbation="stuck_at", severities=[0.05], seeds=2, steps=20, chips=3)
    start = study.start()
    begin = fork(start, {"root": "", "device": "cpu"})
    sweep = Sweep(begin, study.physics, [0.05], 3)
    params, _ = sweep.trained("unaware", clip=2.0)
    for name, value in begin.trainer.weights(begin.clean).items():
        bound = 2 * value.flatten(1).std(1).view(-1, *(1,) * (value.dim() - 1))
        assert torch.allclose(params[name], value.maximum(-bound).minimum(bound))
    assert isinstance(start["batch"], int) and Schedule(*[1] * 3)


def test_recovery_beyond_clipping_is_that_of_what_the_better_untrained_network_leaves():
    main = accuracy({"unaware": (0.55, 0.45), "autograd": (0.85, 0.75)})
    # Clipping helps at one severity and hurts at the other.
    table = of_arms(main, FINISHED=(0.75, 0.15))
    summary = pd.DataFrame({"severity": [0.1, 0.2], "rule": "autograd"})
    found = arms.beyond_clipping(summary, main, table)
    assert found.clipped.tolist() == pytest.approx([0.5, -0.6], abs=0.01)
    assert found.beyond.tolist() == pytest.approx([0.1 / 0.2, 0.3 / 0.5], abs=0.01)
    plain = paired(main[main.severity == 0.2])
    assert found.beyond[1] == recovery(plain.damage, plain.gain)[0]
    assert found.beyond_verdict[1] == "compensated"
    # Nothing left: clipping alone does it, and what was trained is worse than that.
    whole = arms.beyond_clipping(summary, main, of_arms(main, FINISHED=(0.947, 0.15)))
    assert whole.beyond_verdict[0] == "harmed" and np.isnan(whole.beyond[0])
    same = accuracy({"unaware": (0.55, 0.45), "autograd": (0.947, 0.75)})
    assert arms.beyond_clipping(summary, same, of_arms(same, FINISHED=(0.947, 0.15))).beyond_verdict[0] == "no damage"
    none = arms.beyond_clipping(summary, main, None)
    assert none.beyond.isna().all() and (none.beyond_verdict == "").all()


GOOD = {
    "DIFFERENTIATED": (0.87, 0.75),
    "DETACHED": (0.75, 0.65),
    "STRAIGHT": (0.6, 0.5),
    "INJECTION": (0.7, 0.6),
    "RECIPE": (0.9, 0.8),
    "FINISHED": (0.751, 0.6),
}
BAD = {
    "DIFFERENTIATED": (0.7, 0.5),
    "DETACHED": (0.75, 0.65),
    "STRAIGHT": (0.8, 0.7),
    "INJECTION": (0.7, 0.6),
    "RECIPE": (0.6, 0.45),
    "FINISHED": (0.74, 0.58),
}


@pytest.mark.parametrize(("values", "outcome"), [(GOOD, "holds"), (BAD, "does not hold")])
def test_claims_about_arms_go_both_ways(values, outcome):
    trained = values["DIFFERENTIATED"]
    main = accuracy({"unaware": (0.55, 0.45), "autograd": trained})
    table = of_arms(main, **values)
    column = of_arms(main, COLUMN=trained)
    better = 0.1 if outcome == "holds" else -0.1
    table = pd.concat([table, column.assign(unaware=column.unaware + better)], ignore_index=True)
    rising, falling = (1.0, 2.0, 9.0), (9.0, 2.0, 1.0)
    seen = looks(dict.fromkeys((arms.DIFFERENTIATED, arms.DETACHED), rising if outcome == "holds" else falling))
    tables = {"accuracy": main, "arms": table, "arms_diagnostics": seen}
    found = Findings.of(arms.claims("p", PERTURBATIONS["read_noise"], tables, 0.1, [0.1, 0.2]))
    said = {one.id: str(one.outcome) for one in found}
    # What clipping leaves and what it wins back are two sides of the same numbers.
    assert said.pop("p.clipped.half") == ("holds" if values["FINISHED"][0] > 0.75 else "does not hold")
    left = 0.95 - max(values["FINISHED"][0], 0.55)
    enough = values["DIFFERENTIATED"][0] - values["FINISHED"][0] >= left / 2
    assert said.pop("p.arms.trained") == ("holds" if enough else "does not hold")
    assert set(said.values()) == {outcome}, said
    assert len(said) == 8


def test_where_nothing_is_lost_nothing_is_claimed():
    main = accuracy({"unaware": (0.95, 0.95), "autograd": (0.95, 0.95)})
    table = of_arms(main, **{**GOOD, "COLUMN": (0.9, 0.9)})
    found = Findings.of(arms.claims("p", PERTURBATIONS["ir_drop"], {"accuracy": main, "arms": table}, None, []))
    assert {str(one.outcome) for one in found} == {"inconclusive"} and all(one.note for one in found)
    assert not arms.claims("p", PERTURBATIONS["ir_drop"], {"accuracy": main}, None, [])


def test_ranks_of_variance_by_seed():
    table = looks({arms.DETACHED: (1.0, 2.0, np.inf)})
    assert np.allclose(arms.rises(table), 1)
    table.loc[0, "variance"] = np.nan
    assert np.isnan(arms.rises(table)[0]) and np.allclose(arms.rises(table)[1:], 1)
    assert np.isnan(arms.rises(table[table.severity == 0.1])).all()


def test_a_page_with_arms_from_the_runs_to_the_sentences(tmp_path):
    given = {"seeds": 2, "steps": 12, "chips": 2, "gradients": 3, "severities": [0.05, 0.2, 0.8]}
    study = PerturbationStudy(perturbation="variability", closer="clipped,arms", results=str(tmp_path), **given)
    result = study.run()
    table = result.tables["arms"]
    assert set(table.arm) == {*arms.ARMS}
    rows = table.groupby("arm").size()
    assert (rows == 6).all()
    # The same hardware computes the same, whatever its gradient knows.
    first = table[table.arm.isin([arms.DIFFERENTIATED, arms.DETACHED])].groupby(["severity", "seed"]).unaware.nunique()
    assert (first == 1).all()
    assert {arms.DETACHED, arms.COLUMN, arms.INJECTION, arms.DIFFERENTIATED, arms.STRAIGHT} == {
        *result.tables["arms_diagnostics"].arm
    }
    assert "Variance over signal" in words.of_arms(result.tables, study.physics)
    shown = words.verdicts(result.tables)
    assert {"clipped", "beyond clipping", "by training"} <= {*shown}
    ids = {finding.id for finding in result.findings}
    assert {f"perturbation_variability.arms.{name}" for name in ("beyond", "trained", "detached", "recipe")} <= ids
