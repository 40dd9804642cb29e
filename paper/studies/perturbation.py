"""One perturbation: its cost, what training through it wins back, and what a few gradients say beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from lib.hardware.devices import HARDWARE, make
from lib.hardware.perturbations import Perturbation
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings
from paper.agreement import Quantity
from paper.criteria.hardware import BETTER, CLEAR_DAMAGE, COMPENSATED, COSINE, LIVE, NOTHING, SIGNAL, points
from paper.studies import arms, variants
from paper.studies.base import Compared, double_precision, fits, pivoted
from paper.studies.hardware import HELD, NAMES, PICTURE, HardwareStudy, trained
from paper.studies.parameters import Numbers, OneOf, Options, Some
from paper.studies.recovery import beyond, on_known_chips, paired, summarise, void

#: What a page can look at closer.
_CLOSER = ("known", "variants", "clipped", "arms")


class Cells(NamedTuple):
    """The cells of a perturbation by what they measure."""

    accuracy: list[Cell]
    diagnostics: list[Cell]
    known: list[Cell]
    variants: dict[str, variants.Runs]
    arms: dict[str, arms.Runs]

    def all(self) -> list[Cell]:
        """All of them, those that the others are compared with first."""
        several = (*self.variants.values(), *self.arms.values())
        pairs = [cell for runs in several for cell in runs if cell is not None]
        return list(dict.fromkeys([*self.accuracy, *self.diagnostics, *self.known, *pairs]))


class PerturbationStudy(HardwareStudy):
    """The sweep of one perturbation over severity, seed and backward rule.

    ``perturbation`` is one of the six classes or another name of :data:`~lib.hardware.devices.HARDWARE`, ``options``
    are its fields; ``severities`` is a list in its unit, "all" for its own grid or "few" for every other one of it.
    ``closer`` adds chips "known" in training, the "variants" of the class (:mod:`paper.studies.variants`), networks
    with "clipped" weights and the "arms" of scale and backward rule (:mod:`paper.studies.arms`); "all" is all of it,
    "none" nothing. The rest is as in :class:`~paper.studies.hardware.HardwareStudy`.
    """

    perturbation: Annotated[str, OneOf(lambda: HARDWARE)] = "read_noise"
    options: Annotated[dict[str, Any], Options()] = {}
    severities: Annotated[Any, Numbers(also=("all", "few"))] = "few"
    closer: Annotated[tuple[str, ...], Some(_CLOSER, everything="all", nothing="none")] = ()

    PARTS: ClassVar[tuple[str, ...]] = ("rules", "severities", "closer")
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "accuracy": Compared(
            ("network", "perturbation", "rule", "severity"), {"clean": PICTURE, "accuracy": PICTURE, "first": PICTURE}
        ),
        "diagnostics": Compared(
            ("network", "perturbation", "rule", "severity"),
            {"cosine": Quantity(0.01, may_lack=True), "signal": 0.01, "live": 0.01},
        ),
    }

    def check(self) -> None:
        """Brings severities into order, from mild to harsh, which for an ADC is from many bits to few."""
        super().check()
        physics = self.physics
        if isinstance(self.severities, str):
            severities: Sequence[float] = physics.grid if self.severities == "all" else few(physics.grid)
        else:
            severities = [physics.check(value, "severities") for value in self.severities]
        ordered = sorted(severities, reverse=physics.off > physics.high)
        object.__setattr__(self, "severities", tuple(ordered))
        fits(self.device, HELD * trained(self.network) * self.seeds * len(ordered), seeds=self.seeds)
        if self.perturbation == "ir_drop":
            double_precision(self.device, " for ir_drop")

    @property
    def physics(self) -> Perturbation:
        """The perturbation itself."""
        return make(self.perturbation, **self.options)

    def parts(self) -> Cells:
        """The cells by what they measure."""
        start = self.start()
        given = (start, self.perturbation, self.severities)
        own = self.options
        looked = [rule for rule in self.rules if rule != "unaware" or self.closer or len(self.rules) == 1]
        # What nothing is drawn for has no chip of its own; a class with options has been changed already.
        known = "known" in self.closer and self.physics.lasting
        more = "variants" in self.closer and not own
        return Cells(
            [self.accuracy_cell(*given, rule, options=own) for rule in self.rules],
            [self.diagnostics_cell(*given, rule, options=own) for rule in looked],
            [self.accuracy_cell(*given, "autograd", known=True, options=own)] if known else [],
            variants.runs(self, *given) if more else {},
            {} if own else arms.runs(self, *given, self.closer),
        )

    def cells(self) -> list[Cell]:
        """A cell for every rule and look, and those of the variants."""
        return self.parts().all()

    def remarks(self, tables: Tables) -> list[str]:
        """Says where the perturbation does nothing."""
        return without_effect(tables["accuracy"])

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        """Tables ``accuracy`` and ``diagnostics`` (one row for each rule, severity, seed), ``known`` (trained on the
        chip that it is judged on), ``variants`` (the class closer up), ``arms`` and ``arms_diagnostics`` (scale,
        backward rule, clipping) and ``summary`` (seeds joined).
        """
        tables = measured(self.parts(), found)
        summary = summarise(tables["accuracy"], tables["diagnostics"], tables.get("known"))
        tables["summary"] = arms.beyond_clipping(summary, tables["accuracy"], tables.get("arms"))
        return tables, Findings.of(claims(self.physics, tables))


def without_effect(accuracy: pd.DataFrame) -> list[str]:
    """A sentence where severity changes nothing for untrained networks, on no chip and for no seed: a flat curve."""
    unaware = accuracy[accuracy.rule == "unaware"]
    if ((unaware.clean == unaware.accuracy) & (unaware.clean == unaware.low)).all():
        return ["**Without effect.** Untrained networks are as right as without hardware, at every severity shown."]
    flat = unaware.severity.nunique() > 1 and (unaware.groupby("seed")[["accuracy", "low"]].nunique() == 1).all(
        axis=None
    )
    return ["**Without effect.** Severity changes nothing: the curve of untrained networks is flat."] if flat else []


def few(grid: Sequence[float]) -> tuple[float, ...]:
    """Every other severity of a grid, the harshest among them."""
    return tuple(grid[1::2])


def measured(parts: Cells, found: Mapping[Cell, Tables]) -> Tables:
    """The tables of the cells, joined: ``accuracy``, ``diagnostics``, and what was asked for of the rest."""

    def joined(cells: Iterable[Cell], name: str) -> pd.DataFrame:
        return pd.concat([found[cell][name] for cell in cells], ignore_index=True)

    tables = {"accuracy": joined(parts.accuracy, "accuracy"), "diagnostics": joined(parts.diagnostics, "diagnostics")}
    if parts.known:
        tables["known"] = joined(parts.known, "accuracy")
    if parts.variants:
        name = parts.accuracy[0].config["perturbation"]
        tables["variants"] = variants.table(parts.variants, name, found, tables["accuracy"])
    if parts.arms:
        tables |= arms.tables(parts.arms, found, tables)
    return tables


# --------------------------------------------------------------------------------------------------- claims


def _at(table: pd.DataFrame, severity: float | None, rule: str, column: str) -> np.ndarray:
    """The seeds' values at one severity; none where the severity does not exist."""
    return table[(table.severity == severity) & (table.rule == rule)][column].to_numpy()


def claims(physics: Perturbation, tables: Tables) -> list[Claim]:
    """The claims of a perturbation page."""
    page = f"perturbation_{physics.name}"
    runs = paired(tables["accuracy"])
    runs = runs.assign(beyond=beyond(runs.damage, runs.gain), points=100 * runs.gain)
    damage = tables["accuracy"][tables["accuracy"].rule == "unaware"]
    damage = damage.assign(lost=damage.clean - damage.accuracy, points=100 * (damage.clean - damage.accuracy))
    mean = damage.groupby("severity", sort=False).points.mean()
    clear = mean[mean >= points(CLEAR_DAMAGE)]
    mildest, harshest = clear.index[0] if len(clear) else None, mean.index[-1]
    lost = f"an unaware network loses at least {points(CLEAR_DAMAGE):g} points at the harshest severity"
    cheap = f"no severity costs {points(CLEAR_DAMAGE):g} points"
    found = [
        Claim(
            f"{page}.costs",
            f"{physics.title}: {lost}",
            _at(damage, harshest, "unaware", "points"),
            ">=",
            points(CLEAR_DAMAGE),
            page,
            unit="points",
            name="mean loss",
        )
    ]
    rules = [rule for rule in NAMES if rule in set(runs.rule) - {"unaware"}]
    half: dict[str, Any] = {"unit": "points", "name": f"won back minus {COMPENSATED:g} of the loss"}
    where = {"mildest": (f"the mildest severity that costs {points(CLEAR_DAMAGE):g} points", mildest)}
    where["harshest"] = ("the harshest severity", harshest)
    if mildest == harshest:
        # One claim for one severity: that of the harshest, which a rerun of a few severities has in common.
        del where["mildest"]
    for rule in rules:
        for key, (words, severity) in where.items():
            text = f"{NAMES[rule].capitalize()} wins back at least half of the loss at {words}"
            samples, nothing = _at(runs, severity, rule, "beyond"), void(_at(damage, severity, "unaware", "lost"))
            nothing = nothing if severity is not None else cheap
            own = f"{page}.won_back.{rule}.{key}"
            found.append(Claim(own, text, samples, ">=", NOTHING, page, **half, void=nothing))
    if rules == ["autograd", "straight_through"]:
        table = pivoted(runs[runs.severity.isin(clear.index)], ["seed"], "rule", "points")
        found.append(
            Claim(
                f"{page}.rules",
                "Straight-through wins back more than vanilla training, over all severities that cost as much",
                (table[rules[1]] - table[rules[0]]).to_numpy() if len(table) else [],
                ">",
                BETTER,
                page,
                unit="points",
                name="mean difference",
                void="" if len(clear) else cheap,
            )
        )
    if "autograd" in rules:
        found += _properties(page, tables["diagnostics"], harshest)
    if "known" in tables:
        chips = on_known_chips(tables["accuracy"], tables["known"])
        chips = chips[chips.severity == harshest]
        text = "A chip that is known in training: vanilla training wins back at least half of the loss at the harshest"
        samples = beyond(chips.damage, chips.gain)
        half["void"] = void(chips.damage)
        found.append(Claim(f"{page}.known", f"{text} severity", samples, ">=", NOTHING, page, **half))
    if "variants" in tables:
        found += variants.claims(page, physics.name, tables["variants"])
    found += arms.claims(page, physics, tables, mildest, list(clear.index))
    return found


def _properties(page: str, diagnostics: pd.DataFrame, severity: float) -> list[Claim]:
    """The three properties that a usable gradient should have, of the vanilla gradient at one severity."""
    texts = {
        "cosine": (f"Consistent: the vanilla gradient keeps a cosine of {COSINE:g} with the clean one", COSINE),
        "signal": (f"Bounded: at least {SIGNAL:g} of the vanilla gradient's second moment is signal", SIGNAL),
        "live": (f"Sensitive: at least {LIVE:g} of the clean network's live weights get a vanilla gradient", LIVE),
    }
    return [
        Claim(
            f"{page}.gradient.{column}",
            f"{text}, at the harshest severity",
            _at(diagnostics, severity, "autograd", column),
            ">=",
            threshold,
            f"{page} gradient",
        )
        for column, (text, threshold) in texts.items()
    ]
