"""The sentences and tables of the fair trial of the separation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.results import Tables
from lib.verdicts import Findings, Outcome
from paper import trial
from paper.families import FAMILIES
from paper.studies.base import Page
from paper.studies.hardware_trial import (
    CONDITIONS,
    LEVELS,
    NAMES,
    POOLED,
    READINGS,
    SELECTED,
    TRIVIAL,
    VERDICTS,
    named,
    rates,
    tried,
)
from paper.words import format
from paper.words.numbers import interval, listed, share
from paper.words.outcomes import decided


def _title(family: str) -> str:
    return FAMILIES[family].title


def start(tables: Tables) -> pd.DataFrame:
    """Where everything starts: clean accuracy and the slope of the loss, network by network."""
    table = tables["start"].groupby("network", sort=False)
    shown = 100 * table[["clean", "later"]].mean()
    return shown.round(1).assign(slope=table.slope.max().map(lambda value: f"{100 * value:.2f} %")).reset_index()


def grid(tables: Tables) -> pd.DataFrame:
    """The severities that were found: a row for each family of the first network, a column for each level."""
    free = tables["free"]
    own = free[free.network == free.network.iloc[0]].drop_duplicates(["family", "level"])
    wide = own.pivot(index="family", columns="level", values="severity")
    wide = wide.reindex([name for name in FAMILIES if name in wide.index])
    wide = wide[[name for name in (*LEVELS, trial.PUBLISHED) if name in wide]]
    wide = wide.map(lambda value: "–" if value != value else format.number(value))
    units = [FAMILIES[name].physics().unit for name in wide.index]
    kinds = [FAMILIES[name].kind for name in wide.index]
    return wide.assign(unit=units, kind=kinds).rename(index=_title).reset_index()


def short_answer(page: Page) -> str:
    """What training wins beyond what is free, under the two usual backward rules, in two plain sentences."""
    cases = page.tables["cases"]
    clear = cases[cases.verdict != "slight"]
    wins = {rule: own for rule, own in clear.groupby("arm") if rule in _PLAIN}
    said = [
        (f"{_PLAIN[rule]} makes up for", f"{(wins[rule].verdict == 'compensated').sum()} of {len(wins[rule])}")
        for rule in trial.RULES
        if rule in wins
    ]
    free = decided(
        page.findings,
        {
            "hardware_trial.clipping": (
                "Without any training, cutting off the largest weights already wins back {value:.0%} of what noise and "
                "faults cost.",
                "Without any training, cutting off the largest weights wins back only {value:.0%} of what noise and "
                "faults cost.",
            )
        },
    )
    # What is counted is named once, behind the first number.
    counted = [f"{rule} {count}{'' if place else ' clear cases of damage'}" for place, (rule, count) in enumerate(said)]
    first = f"Beyond what comes back without training, {', and '.join(counted)}." if said else ""
    return " ".join(filter(None, [first, free]))


#: Backward rules as somebody says them who has not heard of them.
_PLAIN = {
    "autograd": "training whose gradient goes through the hardware",
    "noise_injection": "training whose gradient is that of the plain network at noisy weights",
}


def answer(tables: Tables, findings: Findings) -> str:
    """The page in a few sentences, with its measured numbers (Markdown)."""
    cases, sides = tables["cases"], tables["sides"]
    lines = [_of_rule(cases, rule) for rule in trial.RULES if rule in set(cases.arm)]
    said = [line for line in lines if line]
    families = cases[cases.verdict != "slight"].family.nunique()
    text = (
        f"{cases.family.nunique()} families in {cases.network.nunique()} "
        f"network{'s' if cases.network.nunique() > 1 else ''}, {families} of which do clear damage somewhere. "
        "*Compensated* is what training wins beyond the best measure that needs no gradient. " + " ".join(said)
    )
    vanilla = sides[sides.arm == "autograd"]
    if len(vanilla):
        whole = [_title(name) for name in vanilla[vanilla.side == "all"].family]
        none = [_title(name) for name in vanilla[vanilla.side == "none"].family]
        text += (
            f" At equal damage vanilla training compensates {len(whole)} of {len(vanilla)} families at every level, "
            f"{len(none)} at none{f' ({listed(none)})' if none else ''}."
        )
    return text + " " + " ".join(filter(None, (_best(tables["areas"], rule) for rule in trial.RULES[:1])))


def _of_rule(cases: pd.DataFrame, rule: str) -> str:
    own = cases[(cases.arm == rule) & ~cases.verdict.isin(VERDICTS[:2])]
    if not len(own):
        return ""
    counts = own.verdict.value_counts()
    parts = [_COUNTED[name][int(counts[name] > 1)].format(counts[name]) for name in VERDICTS[2:] if counts.get(name)]
    return f"{NAMES[rule].capitalize()}: of {len(own)} cases {', '.join(parts)}."


#: So many cases of a verdict, one and several.
_COUNTED = {
    "compensated": ("{} is compensated", "{} are compensated"),
    "gradient fails": ("in {} the gradient fails", "in {} the gradient fails"),
    "needs the chip": ("{} needs the chip", "{} need the chip"),
    "nothing to win": ("in {} there is nothing to win", "in {} there is nothing to win"),
    "no gradient": ("in {} there is no gradient", "in {} there is no gradient"),
    "not converged": ("{} has not converged", "{} have not converged"),
    "inconclusive": ("{} is inconclusive", "{} are inconclusive"),
}


def _best(areas: pd.DataFrame, rule: str) -> str:
    own = areas[(areas.rule == rule) & (areas.scope == "all")]
    single = own[own.predictor.isin(READINGS) & (own.place == "start") & own.area.notna()]
    if not len(single):
        return ""
    best = single.loc[single.area.idxmax()]
    if best.low != best.low:
        return f"Under {NAMES[rule]} too few cases are on one of the sides for readings to be told apart."
    plain = own[own.predictor.isin(TRIVIAL) & own.area.notna()]
    rival = plain.loc[plain.area.idxmax()] if len(plain) else None
    text = (
        f"Under {NAMES[rule]} the reading that tells best at the start is the {named(best.predictor)}, with an area of "
        f"{share(best.area)} {interval(best.low, best.high)} over families"
    )
    if rival is not None:
        text += (
            f"; without any gradient, {named(rival.predictor)} has {share(rival.area)} "
            f"{interval(rival.low, rival.high)}"
        )
    return f"{text}."


def verdicts(tables: Tables) -> pd.DataFrame:
    """How many cases have which verdict: a row for each verdict, a column for each network, in it the backward "
    "rules."""
    cases = tables["cases"]
    own = cases[cases.arm.isin(trial.RULES)]
    rules = [rule for rule in trial.RULES if rule in set(own.arm)]
    wide = own.groupby(["verdict", "network", "arm"]).size().unstack(fill_value=0).reindex(columns=rules, fill_value=0)
    shown = wide.astype(str).agg(" / ".join, axis=1).unstack(fill_value=" / ".join("0" * len(rules)))
    networks = list(dict.fromkeys(own.network))
    shown = shown.reindex([name for name in VERDICTS if name in shown.index])[networks]
    return shown.rename_axis(columns=None).reset_index()


def verdicts_of(tables: Tables) -> str:
    """The heading of that table, which says what stands in a cell."""
    present = set(tables["cases"].arm)
    return f"Cases by verdict: {' / '.join(NAMES[rule] for rule in trial.RULES if rule in present)}"


def sides(tables: Tables) -> pd.DataFrame:
    """How many counted cases of each family are compensated at equal damage, by backward rule."""
    table = tables["sides"]
    shown = table.compensated.astype(str) + " of " + table.cases.astype(str)
    wide = table.assign(shown=shown).pivot(index="family", columns="arm", values="shown")
    names = [name for name in FAMILIES if name in wide.index]
    rules = [rule for rule in trial.RULES if rule in wide]
    return wide.loc[names, rules].fillna("–").rename(index=_title, columns=NAMES).reset_index()


def shares(tables: Tables) -> pd.DataFrame:
    """Shares of the variance of recovery, with intervals, in words."""
    table = tables["shares"].dropna(subset=["share"])
    shown = [f"{share(one.share)} {interval(one.low, one.high)}".strip() for one in table.itertuples()]
    wide = table.assign(shown=shown).pivot(index="rule", columns="what", values="shown")
    rules = [rule for rule in trial.RULES if rule in wide.index]
    return wide.loc[rules].fillna("–").rename(index=NAMES).reset_index()


def told(tables: Tables, scope: str = "all") -> pd.DataFrame:
    """Areas under the ROC curve with intervals over families: a row for each predictor and place."""
    areas = tables["areas"]
    own = areas[areas.scope == scope]
    shown = [
        "–" if one.area != one.area else f"{share(one.area)} {interval(one.low, one.high)}".strip()
        for one in own.itertuples()
    ]
    wide = own.assign(shown=shown).pivot_table(
        index=["predictor", "place"], columns="rule", values="shown", aggfunc="first", sort=False
    )
    rules = [rule for rule in (*trial.RULES, POOLED) if rule in wide]
    return wide[rules].fillna("–").rename(index=named, level=0).rename(columns=NAMES).reset_index()


def held(tables: Tables) -> pd.DataFrame:
    """Balanced accuracy of the three conditions and of damage on what was held out."""
    table = tables["properties"]
    shown = [f"{share(one.balanced)} {interval(one.low, one.high)}".strip() for one in table.itertuples()]
    table = table.assign(shown=shown, column=table.what + ", " + table.held + " held out")
    wide = table.pivot(index="rule", columns="column", values="shown")
    rules = [rule for rule in (*trial.RULES, POOLED) if rule in wide.index]
    return wide.loc[rules].fillna("–").rename(index=NAMES).reset_index()


def inside(tables: Tables) -> pd.DataFrame:
    """At published severities: what each family costs, in points, and the verdict under every backward rule."""
    table = tables["published"]
    own = table[table.network == table.network.iloc[0]] if len(table) else table
    wide = own.pivot(index="family", columns="arm", values="verdict")
    names = [name for name in FAMILIES if name in wide.index]
    rules = [rule for rule in trial.RULES if rule in wide]
    cost = own.drop_duplicates("family").set_index("family")
    shown = wide.loc[names, rules].fillna("–")
    shown.insert(0, "damage", [f"{100 * cost.damage[name]:.1f}".replace("-", "−") for name in names])
    shown.insert(0, "severity", [f"{cost.severity[name]:.3g} {FAMILIES[name].physics().unit}" for name in names])
    return shown.rename(index=_title, columns=NAMES).reset_index()


# By claim: the sentence where it holds, where it does not, and where it is open.
_LINES = {
    "clipping": (
        "A good part of the compensation needs no gradient: clipping a finished network brings it.",
        "Clipping a finished network brings little: what comes back is the work of a gradient.",
        "How much of the compensation clipping alone brings differs too much between families to say.",
    ),
    "scale": (
        "Vanilla training owes much to one number a layer: it differentiates the scale, which draws the largest"
        " weights in.",
        "That the scale is differentiated is worth less than five points in the mean over families.",
        "What the differentiated scale is worth stays open.",
    ),
    "clip_scale": (
        "Clipping in training does what the differentiated scale does.",
        "Clipping in training is not what the differentiated scale is: the two are more than five points apart.",
        "Whether clipping in training does what the differentiated scale does stays open.",
    ),
    "injection": (
        "The noisy weights in the backward pass make noise injection better than straight-through training.",
        "Noise injection is no better than straight-through training.",
        "Noise injection and straight-through training are not told apart over families.",
    ),
    "longer": (
        "Five times the steps leave nearly every family on its side.",
        "Five times the steps move families to another side: at the recipe's length the question is not settled.",
        "Whether five times the steps move families is open.",
    ),
    "rates": (
        "The side seldom depends on the learning rate.",
        "The side depends on the learning rate: a verdict without a tuned rate says something of the rate.",
        "How often the side depends on the learning rate stays open.",
    ),
}


def recipe(findings: Findings) -> str:
    """What the arms of the recipe come to, a line for each claim (Markdown)."""
    return _said(findings, _LINES)


def _said(findings: Findings, lines: dict[str, tuple[str, str, str]]) -> str:
    places = {Outcome.HOLDS: 0, Outcome.DOES_NOT_HOLD: 1, Outcome.INCONCLUSIVE: 2}
    found = []
    for name, sentences in lines.items():
        one = findings.get(f"hardware_trial.{name}")
        if one is not None and one.value == one.value:
            ends = f" {interval(*one.interval)}" if one.unit != "points" else ""
            unit = " points" if one.unit == "points" else ""
            value = f"{one.value:.1f}".replace("-", "−") if unit else share(one.value)
            found.append(f"- {sentences[places[one.outcome]].removesuffix('.')} ({value}{unit}{ends}).")
    return "\n".join(found)


def line(tables: Tables, findings: Findings) -> str:
    """Where the line runs, in a few sentences (Markdown)."""
    rule, parts = "autograd", []
    both = findings.get(f"hardware_trial.class.sides.{rule}")
    if both is not None:
        parts.append(
            {
                Outcome.HOLDS: "Under vanilla training some families are whole on either side: a line between families "
                "exists for them.",
                Outcome.DOES_NOT_HOLD: "Under vanilla training one of the sides has no family that is whole on it: at "
                "these levels no line between families is seen.",
                Outcome.INCONCLUSIVE: "Whether there is a family whole on either side under vanilla training depends "
                "on the seeds.",
            }[both.outcome]
        )
    found = tables["shares"]
    own = found[(found.rule == rule) & found.share.notna()]
    if len(own):
        pieces = [
            f"{share(one.share)} {interval(one.low, one.high)} between {_PLURAL[one.what]}" for one in own.itertuples()
        ]
        parts.append(f"Of the variance of its recovery, {'; '.join(pieces)}.")
    inside_ = tables["published"]
    clear = inside_[(inside_.arm == rule) & inside_.counted]
    if len(inside_):
        failing = clear[~clear.verdict.isin(("compensated", "inconclusive"))]
        parts.append(
            f"Within published severities {clear.family.nunique()} of {inside_.family.nunique()} families do clear "
            f"damage that clipping does not undo, and vanilla training fails to compensate "
            f"{failing.family.nunique()} of them{_in_brackets(failing)}."
        )
    return " ".join(parts)


_PLURAL = {"family": "families", "level": "levels of damage", "network": "networks"}


def _in_brackets(table: pd.DataFrame) -> str:
    names = [_title(name) for name in dict.fromkeys(table.family)]
    if len(names) > 6:
        return f" ({', '.join(names[:6])} and {len(names) - 6} more)"
    return f" ({listed(names)})" if names else ""


def telling(tables: Tables, findings: Findings) -> str:
    """Which conditions tell, under each backward rule (Markdown)."""
    lines = []
    for rule in trial.RULES:
        parts = []
        for name in (*CONDITIONS, SELECTED):
            one = findings.get(f"hardware_trial.tells.{name}.{rule}")
            if one is None or one.value != one.value:
                continue
            words = {
                Outcome.HOLDS: "tells",
                Outcome.DOES_NOT_HOLD: "does not tell",
                Outcome.INCONCLUSIVE: "is undecided",
            }[one.outcome]
            ends = f"{share(one.value)} {interval(*one.interval)}".strip()
            parts.append(f"{named(name)} {words} ({ends})")
        if parts:
            lines.append(f"- {NAMES[rule].capitalize()}: {'; '.join(parts)}.")
    return "\n".join(lines)


def conditional(findings: Findings) -> str:
    """What came of the conditional rule (Markdown)."""
    names = {"cosine": "cosine", "signal": "share of signal", "truth": "truth", "live": "live weights"}
    where = {"cosine": "within stochastic families", "signal": "within stochastic families"}
    words = {
        Outcome.HOLDS: "tells as expected",
        Outcome.DOES_NOT_HOLD: "does not tell",
        Outcome.INCONCLUSIVE: "undecided",
    }
    lines = []
    for name, about in names.items():
        one = findings.get(f"hardware_trial.conditional.{name}")
        if one is not None and one.value == one.value:
            at = where.get(name, "over all backward rules")
            ends = f"{share(one.value)} {interval(*one.interval)}".strip()
            lines.append(f"- {about}, {at}: {words[one.outcome]} ({ends})")
    return "\n".join(lines)


def counted(tables: Tables) -> str:
    """How many readings were tried, and what was chosen most often (Markdown)."""
    chosen = tables["chosen"]
    text = (
        f"{len(READINGS)} readings were tried at {tried() // len(READINGS)} places each, {tried()} in all, so the best "
        "of "
        "them flatters itself. What is honest is the reading chosen on other families and judged on the one left out."
    )
    for rule, part in chosen.groupby("rule", sort=False) if len(chosen) else ():
        often = part.reading.value_counts()
        name, place = str(often.index[0]).split("@")
        text += (
            f" Under {NAMES[rule]} that was most often the {named(name)} ({_PLACES[place]}), for {often.iloc[0]} of "
            f"{len(part)} families."
        )
    return text


_PLACES = {"initial": "before any training", "fork": "after a short clean training", "start": "at the converged start"}


def rate_table(tables: Tables) -> pd.DataFrame:
    """Recovery at the best and the worst learning rate, and the chosen one: medians over families."""
    table = rates(tables["rates"])
    if not len(table):
        return table
    grouped = table.groupby("arm", sort=False)
    shown = grouped[["worst", "best"]].median().round(2)
    chosen = grouped.chosen.agg(lambda values: ", ".join(f"{value:g}" for value in sorted(set(values))))
    return shown.assign(chosen=chosen, same=grouped.same.mean().round(2)).rename(index=NAMES).reset_index()


def longest(tables: Tables) -> str:
    """What five times the steps are worth (Markdown)."""
    cases = tables["cases"]
    keys = ["network", "family", "level"]
    vanilla = cases[cases.arm == "autograd"]
    text = []
    for arm, words in (("long", "Five times the steps"), ("scratch", "Training from scratch")):
        both = vanilla.merge(cases[cases.arm == arm], on=keys, suffixes=("", "_other"))
        both = both[both.verdict != "slight"]
        if len(both):
            more = 100 * (both.accuracy_other - both.accuracy)
            text.append(
                f"{words} change{'' if arm == 'long' else 's'} vanilla's accuracy by {np.median(more):.1f} points in "
                f"the median of {len(both)} cases, by {more.max():.1f} at most."
            )
    return " ".join(text).replace("-", "−")
