"""The sentences and tables of the page on the separation."""

from __future__ import annotations

import math

import pandas as pd

from lib.hardware.devices import HARDWARE
from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper.criteria.hardware import CLEAR_DAMAGE, DAMAGE, SEVERE, points
from paper.studies.base import Page
from paper.studies.hardware import NAMES
from paper.studies.separation import CLASS, JOINT, LABELS, POOLED, REGIMES, RULE, directed
from paper.words.numbers import UNJUDGED, interval, share


def answer(tables: Tables, findings: Findings) -> str:
    """The page in a few sentences, with its measured numbers (Markdown)."""
    summary, regimes = tables["summary"], tables["regimes"]
    parts = []
    for rule in dict.fromkeys(summary.rule):
        hurt = summary[(summary.rule == rule) & (summary.damage >= DAMAGE)]
        won, lost = int((hurt.verdict == "compensated").sum()), int(hurt.verdict.isin(_SHORT).sum())
        parts.append(f"{_named(rule)} wins back at least half of the loss in {won} of {len(hurt)} and less in {lost}")
    known = summary[(summary.damage >= DAMAGE) & summary.known.notna()]
    moderate = regimes[(regimes.regime == "moderate") & (regimes.rule == "autograd")]
    means = moderate.groupby("perturbation").recovery.mean().sort_values(ascending=False)
    shares = [f"{title(name)} {share(value)}" for name, value in means.dropna().items()]
    return (
        f"Among all classes, severities and networks where damage is done, {'; '.join(parts)} cases; the others are "
        "undecided. "
        + (
            "When the chip is known in training, at least half comes back in "
            f"{int((known.known_verdict == 'compensated').sum())} of {len(known)}. "
            if len(known)
            else ""
        )
        + _clipping(tables.get("beyond"))
        + (
            f"Where a distortion costs {points(CLEAR_DAMAGE):g} to {points(SEVERE):g} points, the share that vanilla "
            f"training wins back is: {', '.join(shares)}. "
            if shares
            else ""
        )
        + _beforehand(tables["areas"], findings)
    )


def short_answer(page: Page) -> str:
    """Whether the line runs between classes, and where wires stand (Markdown)."""
    regimes = page.tables["regimes"]
    own = regimes[(regimes.rule == "autograd") & (regimes.regime != "slight")]
    both = int((own.groupby(["network", "perturbation"]).regime.nunique() > 1).sum())
    pairs = f"of {both} pairs of a kind of distortion and a network that reach moderate and severe damage"
    line, wires = (page.findings.get(f"separation.{name}") for name in ("classes", "ir_drop.severe"))
    told = []
    if line is not None:
        told.append(
            {
                Outcome.HOLDS: "Yes: every kind of distortion is on one side of the line, however much it costs.",
                Outcome.DOES_NOT_HOLD: f"No: in {line.value:.0f} {pairs}, training makes up for the one and not for "
                "the other.",
                Outcome.INCONCLUSIVE: "Whether the line runs between kinds or through them is open"
                + (
                    f": in {line.value:.0f} {pairs}, training makes up for the one and not for the other."
                    if math.isfinite(line.value)
                    else "."
                ),
            }[line.outcome]
        )
    if wires is not None:
        said = "The drop of voltage along wires, said to be one that training cannot mend, is"
        told.append(
            {
                Outcome.HOLDS: f"{said} that.",
                Outcome.DOES_NOT_HOLD: f"{said} among those that it mends.",
                Outcome.INCONCLUSIVE: "Whether training cannot mend the drop of voltage along wires, as is said, is "
                "open.",
            }[wires.outcome]
        )
    return " ".join(told) or UNJUDGED


def _clipping(beyond: pd.DataFrame | None) -> str:
    """What clipping a finished network wins back, and what vanilla training does beyond."""
    vanilla = pd.DataFrame() if beyond is None else beyond[beyond.rule == "autograd"]
    if vanilla.empty or vanilla.clipped.isna().all():
        return ""
    alone = int((vanilla.clipped_verdict == "compensated").sum())
    left = vanilla[vanilla.left >= DAMAGE]
    more = int((left.verdict == "compensated").sum())
    return (
        f"Clipping the finished network, without any training, gives at least half back in {alone} of {len(vanilla)}; "
        f"of what the better of the two leaves, vanilla training wins back half in {more} of {len(left)}. "
    )


def _beforehand(areas: pd.DataFrame, findings: Findings) -> str:
    """What the gradients of the first rule say beforehand, against what takes none, and what that decides."""
    rule = next((rule for rule in dict.fromkeys(areas.rule) if rule != POOLED), "")
    best, free = (_best(areas, rule, trivial) for trivial in (False, True))
    if best is None or free is None:
        return ""
    cosine = areas[(areas.rule == rule) & (areas.predictor == "cosine")].iloc[0]
    beside = "" if best.predictor == "cosine" else f", the cosine with the clean gradient {_area(cosine)}"
    told = [one for one in findings if one.family.startswith(_FAMILIES) and one.family.endswith(f" {rule}")]
    counts = [sum(one.outcome == outcome for one in told) for outcome in Outcome]
    return (
        f"Of what the gradients of {_named(rule)} say beforehand, *{LABELS[best.predictor]}* tells best which cases "
        f"will be compensated, with an area under the ROC curve of {_area(best)}{beside}. "
        f"*{LABELS[free.predictor].capitalize()}*, which takes no gradient, has {_area(free)}, and 0.5 is a coin. "
        f"Of {len(told)} claims that one of the three properties or all together separate the cases, carry over, or "
        f"tell more than such a guess, {counts[0] or 'none'} hold, {counts[1] or 'none'} do not, and {counts[2]} stay "
        f"open: there are {best.classes} classes."
    )


#: Families of claims about predictors, without the rule.
_FAMILIES = tuple(f"separation {what} " for what in ("tells", "transfers", "beyond"))


def _named(rule: str) -> str:
    return NAMES.get(rule, rule.replace("_", " "))


def title(name: str) -> str:
    """The title of a class; of one that is not known, its name."""
    return HARDWARE[name].title if name in HARDWARE else name


def _best(areas: pd.DataFrame, rule: str, trivial: bool) -> pd.Series | None:
    """The row of the largest area under a rule, of diagnostics or of what takes no gradient; None where there is none.

    A regression and what has been trained in other networks are left out: they are no single measurement.
    """
    rows = areas[(areas.rule == rule) & (areas.trivial == trivial) & ~areas.predictor.isin((JOINT, CLASS))]
    rows = rows[rows.area.notna()]
    return rows.loc[rows.area.idxmax()] if len(rows) else None


def _area(row: pd.Series) -> str:
    """An area with both its intervals."""
    seeds, classes = interval(row.seeds_low, row.seeds_high), interval(row.area_low, row.area_high)
    both = ", ".join(f"{one} over {of}" for one, of in ((seeds, "seeds"), (classes, "classes and networks")) if one)
    return f"{share(row.area)} ({both})" if both else share(row.area)


def ranking(areas: pd.DataFrame, rule: str = "") -> pd.DataFrame:
    """The areas under a rule (none: the first) in words: a row for each predictor, those without a gradient last.

    Intervals are over classes and networks, but for the one called so.
    """
    areas = areas[areas.rule == (rule or next(iter(areas.rule), ""))]
    shown = pd.DataFrame({"predictor": areas.predictor.map(lambda name: LABELS.get(name, name))})
    columns = {
        "area": "area",
        "within a class": "within",
        "beyond clipping": "beyond",
        "class unseen": "held_class",
        "network unseen": "held_network",
        "over the best guess": "over_trivial",
    }
    for label, name in columns.items():
        ends = areas[[name, f"{name}_low", f"{name}_high"]]
        if ends[name].notna().any():
            shown[label] = [_cell(*row) for row in ends.itertuples(index=False)]
        if name == "area":
            shown["over seeds"] = [interval(*row) for row in areas[["seeds_low", "seeds_high"]].itertuples(index=False)]
    return shown.set_index("predictor")


def _cell(value: float, low: float, high: float) -> str:
    return "–" if value != value else f"{share(value)} {interval(low, high)}".strip()


# Verdicts that say that less than half of the loss comes back.
_SHORT = ("not compensated", "not recovered", "harmed")


def sides(tables: Tables) -> pd.DataFrame:
    """The verdicts of all classes, with recovery: a column for every network and regime (moderate, severe)."""
    table = tables["regimes"]
    table = table[table.regime != "slight"]
    shown = [
        "–" if value != value else f"{verdict} ({share(value)})"
        for value, verdict in zip(table.recovery, table.verdict, strict=True)
    ]
    table = table.assign(shown=shown, column=table.network + ", " + table.regime)
    wide = table.pivot(index=["perturbation", "rule"], columns="column", values="shown")
    order = [f"{network}, {regime}" for network in dict.fromkeys(table.network) for regime in REGIMES]
    names = [(name, rule) for name in dict.fromkeys(table.perturbation) for rule in dict.fromkeys(table.rule)]
    rows = [pair for pair in names if pair in wide.index]
    return wide.loc[rows, [name for name in order if name in wide]].fillna("not reached").reset_index()


# By claim: the sentence where it holds, and where it does not. Where it is undecided nothing is said.
_LINES = {
    "separation.classes": (
        "The line runs between classes: none is compensated where it costs little and lost where it costs much.",
        "The line does not run between classes but through them: one that is compensated where it costs little is not "
        "where it costs much.",
    ),
    "separation.networks": (
        "At equal damage the networks are on the same side everywhere.",
        "Where the line runs depends on the network.",
    ),
    "separation.adc_rule": (
        "The backward rule moves the line: an ADC under vanilla training is another case than under straight-through.",
        "For an ADC straight-through is not far ahead of vanilla training.",
    ),
    "separation.read_noise.moderate": (
        "Read noise is compensated where it costs little.",
        "Read noise is not compensated, even where it costs little.",
    ),
    "separation.read_noise.severe": (
        "Read noise is compensated even where it costs most of the accuracy.",
        "Where read noise costs most of the accuracy, training does not get half of it back.",
    ),
    "separation.ir_drop.moderate": (
        "IR-drop breaks training even where it costs little.",
        "IR-drop, whose currents follow from the weights by Kirchhoff's laws, is not on the breaking side where it "
        "costs little, once the forward pass contains the circuit; what it takes to break it is the subject of "
        "[its own page](perturbation_ir_drop.ipynb).",
    ),
    "separation.ir_drop.severe": (
        "Where IR-drop costs most of the accuracy, training does not get it back.",
        "Even where IR-drop costs most of the accuracy, training wins more than a fifth of it back.",
    ),
    "separation.normalised": (
        "Drift depends on the network: one with batch normalisation loses much more than any other in the same time.",
        "Batch normalisation makes no great difference to what drift costs.",
    ),
    "separation.recalibrated": (
        "What drift costs the normalised network is mostly its stale statistics: measured again on the chip, without "
        "any training, they give at least half of it back.",
        "Batch statistics that are measured again on the chip do not give half of what drift costs back.",
    ),
}


def outstanding(findings: Findings) -> str:
    """What stands out, one sentence for every decided claim about the line (Markdown)."""
    return _decided(findings, _LINES)


def _decided(findings: Findings, sentences: dict[str, tuple[str, str]]) -> str:
    lines = []
    for claim, (holds, fails) in sentences.items():
        found = findings.get(claim)
        if found is not None and found.outcome != Outcome.INCONCLUSIVE:
            lines.append(f"- {holds if found.outcome == Outcome.HOLDS else fails}")
    return "\n".join(lines)


def telling(tables: Tables, findings: Findings) -> str:
    """Which predictors tell under which rule, what does not enter, and what the claims come to (Markdown)."""
    areas, cells = tables["areas"], tables["cells"]
    rules = [rule for rule in dict.fromkeys(areas.rule) if rule != POOLED]
    lines = []
    for rule in rules:
        best, free = (_best(areas, rule, trivial) for trivial in (False, True))
        if best is None or free is None:
            continue
        under = f"Under {_named(rule)} the largest area of a diagnostic is that of *{LABELS[best.predictor]}*"
        lines.append(f"- {under}: {_area(best)}. Without a gradient, *{LABELS[free.predictor]}* has {_area(free)}.")
        won = cells[(cells.rule == rule) & cells.compensated].perturbation.value_counts()
        if len(won) and best.area_low != best.area_low:
            lines.append(
                f"  There is no interval over classes: {won.sum()} of {best.rows} cells are compensated, {won.iloc[0]} "
                f"of them {title(won.index[0])}."
            )
        cosine = areas[(areas.rule == rule) & (areas.predictor == "cosine")].iloc[0]
        if cosine.entered < cosine.rows:
            lines.append(
                f"  In {cosine.rows - cosine.entered} of {cosine.rows} cells the mean gradient cannot be told from "
                "zero: it has no cosine, and they do not enter that of the cosine."
            )
    lines += _pooled(areas, cells, rules)
    told = [one for one in findings if one.family.startswith(_FAMILIES)]
    decided = [one for one in told if one.outcome != Outcome.INCONCLUSIVE]
    lines += [f"- {one.claim}: {one.outcome}." for one in decided]
    if told:
        lines.append(
            f"- {len(told) - len(decided)} of {len(told)} claims about diagnostics stay open, after Holm's correction "
            "in each family and with classes and networks drawn again."
        )
    return "\n".join(lines)


def _pooled(areas: pd.DataFrame, cells: pd.DataFrame, rules: list[str]) -> list[str]:
    """What rules thrown together hide, and what truth adds to the name of the rule."""
    pooled = areas[areas.rule == POOLED].set_index("predictor")
    if pooled.empty:
        return []
    lines = []
    own = areas[areas.predictor == "cosine"].set_index("rule").area
    means = cells.cosine.where(directed(cells)).groupby(cells.rule).mean()
    apart = [
        f"{share(own[rule])} under {_named(rule)} (its mean is {share(means[rule])})"
        for rule in rules
        if own[rule] == own[rule]
    ]
    if apart and pooled.area["cosine"] == pooled.area["cosine"]:
        lines.append(
            f"- The cosine has an area of {', '.join(apart)}, and {share(pooled.area['cosine'])} where rules are "
            "thrown together."
        )
    truth = pooled.loc["truth"]
    if truth.over_rule == truth.over_rule:
        lines.append(
            f"- Over all rules truth has {_area(truth)}. The name of the rule and whether there is a converter, known "
            f"without any gradient, have {_area(pooled.loc[RULE])}; truth adds {share(truth.over_rule)} "
            f"{interval(truth.over_rule_low, truth.over_rule_high)}."
        )
    return lines
