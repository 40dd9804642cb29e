"""The sentences and tables of the page on CIFAR-10."""

from __future__ import annotations

from typing import cast

import pandas as pd

from lib.hardware.devices import HARDWARE
from lib.results import Tables
from lib.verdicts import Findings
from paper import finished
from paper.criteria.hardware import CLEAR_DAMAGE, points
from paper.published import INSIDE
from paper.studies.base import Page
from paper.studies.cifar import ARMS, BATCH, DAY, DEEP, MEASURES, SMALL, TIMES, Cifar, of_chips
from paper.words import format
from paper.words.format import quantity, several
from paper.words.numbers import Shown, share
from paper.words.outcomes import decided

_NAMES = {SMALL: "CNN with batch normalisation", DEEP: "ResNet-20, 8 to 32 channels"}


def seen(page: Page) -> str:
    """What is the evidence and what this run's, and on which pictures each was judged (Markdown)."""
    if page.evidence is None:
        return ""
    whole, own = cast(Cifar, page.subject), cast(Cifar, page.study)
    return (
        f"Figures, tables and sentences show the evidence. Its networks were trained on the whole data set and judged "
        f"on {whole.tested} test pictures (the ResNet on {whole.tested // 2}) by {several(whole.seeds, 'seed')}; the "
        f"finished networks were judged, by {several(whole.repeats, 'seed')}, on the sample of pictures that comes "
        f"with the book. What this run has measured again, by {several(own.repeats, 'seed')} on that sample, is drawn "
        "over it."
    )


def scaled(study: Cifar) -> str:
    """What is smaller here than elsewhere, and how well an accuracy is known (Markdown)."""
    small, deep = (finished.record(name) for name in (SMALL, DEEP))
    epochs, spread = [], []
    for own, steps, tested in ((small, study.steps, study.tested), (deep, study.steps // 2, study.tested // 2)):
        recipe = own["recipe"]
        epochs.append(steps * BATCH / (own["steps"] / recipe["epochs"] * recipe["batch"]))
        # Half is where the pictures' own share is largest.
        spread.append(100 * 0.5 / tested**0.5)
    return (
        f"**What was scaled.** A CNN of {format.number(small['parameters'], 2)} and a ResNet-20 of "
        f"{format.number(deep['parameters'], 2)} weights; {epochs[0]:.2f} epochs of training through hardware (the "
        f"ResNet: {epochs[1]:.2f}); {study.tested} test pictures ({study.tested // 2}) and {study.chips} chips for "
        f"each of {several(study.seeds, 'seed')}. An accuracy carries a standard error of up to {spread[0]:.1f} points "
        f"({spread[1]:.1f}) from the pictures alone; differences between arms are on the same pictures and chips, and "
        "are known better."
    )


def networks() -> pd.DataFrame:
    """What the finished networks are: size, steps, test accuracy, and how flat their training had become."""
    rows = []
    for name, title in _NAMES.items():
        own = finished.record(name)
        rows.append(
            {
                "network": title,
                "parameters": own["parameters"],
                "steps": own["steps"],
                "test accuracy (%)": 100 * own["accuracy"],
                "last loss": own["curve"][-1]["loss"],
                "slope per 1,000 steps": own["slope"],
            }
        )
    return pd.DataFrame(rows).set_index("network")


def answer(tables: Tables) -> str:
    """The page in a few sentences, with its measured numbers (Markdown)."""
    if "summary" not in tables:
        return "This run judges the finished networks on the sample alone."
    summary, chips = tables["summary"], tables["chips"]
    first = summary.drop_duplicates(["perturbation", "severity"])
    hurt = first[(first.side == INSIDE) & (first.damage >= CLEAR_DAMAGE)]
    names = [HARDWARE[name].title for name in dict.fromkeys(hurt.perturbation)]
    worst = first[first.damage >= CLEAR_DAMAGE]
    rules = {"autograd": "vanilla training", "noise_injection": "noise injection"}
    means = [
        f"{text} {share((own.recovery * own.damage).sum() / own.damage.sum())}"
        for arm, text in rules.items()
        if len(own := summary[(summary.arm == arm) & (summary.damage >= CLEAR_DAMAGE)])
    ]
    free = (worst.free * worst.damage).sum() / worst.damage.sum() if len(worst) else float("nan")
    bare, both = MEASURES[0], MEASURES[-1]
    clean = chips[chips.arm == "unaware"].clean.mean()
    day = {arm: 100 * of_chips(chips, arm, both, DAY).mean() for arm in ARMS}
    alone = 100 * of_chips(chips, "unaware", bare, DAY).mean()
    year = 100 * of_chips(chips, ARMS[-1], both, TIMES[-1]).mean()
    return (
        f"At severities that published devices have, {len(names)} classes cost a finished CNN at least "
        f"{points(CLEAR_DAMAGE):g} points ({', '.join(names) or 'none'}). Over all {len(worst)} cells that cost as "
        f"much, the share of the loss that comes back is {share(free)} by the best measure without a gradient, "
        f"{', '.join(means)}. On a phase-change chip the narrow ResNet-20 falls from {100 * clean:.0f} % to "
        f"{alone:.0f} % in a day; with one factor per layer and normalisation measured on the chip it has "
        f"{day['unaware']:.0f} %, clipped {day['clipped']:.0f} %, trained with noise {day['noise_injection']:.0f} %, "
        f"trained with noise and clipped {day[ARMS[-1]]:.0f} %, and {year:.0f} % after a year."
    )


def added(tables: Tables) -> str:
    """What training adds to the best measure without a gradient, class by class, the better rule of each (Markdown)."""
    if "summary" not in tables:
        return ""
    hurt = tables["summary"].query("damage >= @CLEAR_DAMAGE")
    means = hurt.groupby(["perturbation", "arm"]).beyond.mean().groupby("perturbation").max()
    listed = [f"{HARDWARE[name].title} {_signed(value)}" for name, value in means.sort_values(ascending=False).items()]
    return (
        f"Where a class costs at least {points(CLEAR_DAMAGE):g} points, its better rule is ahead of the best measure "
        f"without a gradient by, in points: {', '.join(listed)}."
    )


def _signed(value: float) -> str:
    return f"{Shown(value):+.1f}".replace("+−", "−") if value >= 0 else f"{Shown(value):.1f}"


def shown(tables: Tables) -> pd.DataFrame:
    """The phase diagram as a table: points lost and shares won back."""
    rows = []
    for (name, severity), group in tables["summary"].groupby(["perturbation", "severity"], sort=False):
        own, physics = group.iloc[0], HARDWARE[name]
        won = dict(zip(group.arm, group.recovery, strict=True))
        rows.append(
            {
                "class": physics.title,
                "severity": quantity(severity, physics.unit),
                "published": "yes" if own.side == INSIDE else "beyond",
                "loss (points)": 100 * own.damage,
                "no gradient": own.free,
                "by": own.measure,
                "vanilla": won.get("autograd"),
                "noise injection": won.get("noise_injection"),
            }
        )
    return pd.DataFrame(rows).set_index(["class", "severity"])


_SENTENCES = {
    "cifar.inside": (
        "A larger task is a harder one for hardware: what is next to nothing on digits is clear damage here, at "
        "severities that devices have.",
        "On pictures, too, no more than one class does clear damage at severities that devices have.",
    ),
    "cifar.read_noise": (
        "Read noise is said to be one that training makes up for: vanilla training wins back {read_noise} of what "
        "it costs.",
        "Read noise is said to be one that training makes up for; here vanilla training wins back {read_noise} "
        "of what it costs, less than half.",
    ),
    "cifar.ir_drop": (
        "IR-drop is said to be one that training cannot mend: vanilla training wins back {ir_drop} of what it costs.",
        "IR-drop is said to be one that training cannot mend; here, as on the pages before, vanilla training wins back "
        "{ir_drop} of what it costs.",
    ),
    "cifar.no_gradient": (
        "At least half of the loss comes back without a single gradient.",
        "Measures without a gradient do not win half of the loss back in the mean over classes.",
    ),
    "cifar.beyond": (
        "Training adds to what the best of these measures wins back.",
        "Within these steps training adds nothing to what the best of these measures wins back.",
    ),
    "cifar.injection": (
        "The field's rule wins back more than the vanilla gradient.",
        "The field's rule is not ahead of the vanilla gradient.",
    ),
}
_NORM = (
    "Without either measure a day costs the network as it is {value:.0f} points. With the factor per layer alone it "
    "loses {factor:.1f}, with statistics of normalisation measured on the chip besides {both:.1f}; statistics without "
    "the factor were not tried."
)
_DEEP = {
    "resnet.hat": (
        "After a day on a phase-change chip, compensated and recalibrated, training with noise *and clipping* is ahead "
        "of the network as it is, by {value:.1f} points; {clipping}.",
        "After a day on a phase-change chip, compensated and recalibrated, training with noise *and clipping* is not "
        "ahead of the network as it is ({value:.1f} points); {clipping}.",
    ),
    "resnet.day": (
        "Between 20 s and a day the network so trained loses {value:.1f} points.",
        "Between 20 s and a day the network so trained still loses {value:.1f} points.",
    ),
    "resnet.norm": (_NORM, _NORM),
    "resnet.converter": (
        "Behind 6 bits and wires training is ahead of the best measure without a gradient, by {value:.1f} points.",
        "Behind 6 bits and wires training is not ahead of the best measure without a gradient ({value:.1f} points).",
    ),
}


def outstanding(findings: Findings, tables: Tables) -> str:
    """What the claims about the small network come to, where they are decided (Markdown)."""
    won = {}
    for name in ("read_noise", "ir_drop") if "summary" in tables else ():
        hurt = tables["summary"].query("arm == 'autograd' and damage >= @CLEAR_DAMAGE")
        own = hurt[hurt.perturbation == name]
        won[name] = share((own.recovery * own.damage).sum() / own.damage.sum()) if len(own) else "–"
    return decided(findings, _SENTENCES, won)


def deep(findings: Findings, tables: Tables) -> str:
    """What the claims about the ResNet come to, where they are decided (Markdown)."""
    if "chips" not in tables:
        return ""
    chips, (_, factor, both) = tables["chips"], MEASURES
    day = {arm: 100 * of_chips(chips, arm, both, DAY).mean() for arm in ARMS}
    clean = 100 * chips[chips.arm == ARMS[0]].clean.mean()
    alone = day["clipped"] - day[ARMS[0]]
    apart = day[ARMS[-1]] - day["clipped"]
    clipping = (
        f"clipping alone, without any training, is ahead of it by {Shown(alone):.1f}, "
        + ("so that training adds" if apart > 0 else "so that training adds nothing to it")
        + (f" {Shown(apart):.1f}" if apart > 0 else "")
    )
    if alone <= 0:
        clipping = f"clipping alone, without any training, is not ahead of it ({Shown(alone):.1f})"
    left = {"factor": clean - 100 * of_chips(chips, ARMS[0], factor, DAY).mean(), "both": clean - day[ARMS[0]]}
    given = {"clipping": clipping, **{name: Shown(value) for name, value in left.items()}}
    return decided(findings, _DEEP, given)


def _area(value: float) -> str:
    return share(value) if value == value else "none"


def telling(tables: Tables) -> str:
    """Which predictor has the largest area under each rule (Markdown)."""
    lines = []
    for arm, group in tables["areas"].groupby("arm", sort=False):
        known = group[group.area.notna()].sort_values("area", ascending=False)
        rule = {"autograd": "Under vanilla training", "noise_injection": "Under noise injection"}[str(arm)]
        counts = (
            f"{int(group.compensated.max())} of {int(group.cells.max())} damaging cells compensated, "
            f"{int(group.ahead.max())} a point above the best measure without a gradient"
        )
        if not len(known):
            lines.append(f"- {rule} all damaging cells are on one side ({counts}), so there is nothing to tell apart.")
            continue
        best, cosine = known.iloc[0], group[group.predictor == "cosine"].iloc[0]
        lines.append(
            f"- {rule} ({counts}) *{best.predictor}* has the largest area, {share(best.area)}"
            + ("." if best.predictor == "cosine" else f"; the cosine has {_area(cosine.area)}.")
        )
        further = group[group.further.notna()].sort_values("further", ascending=False)
        if len(further):
            lines[-1] += (
                f" For what training adds to the best measure without a gradient it is *{further.iloc[0].predictor}*, "
                f"{share(further.iloc[0].further)}"
                + ("." if further.iloc[0].predictor == "cosine" else f", and the cosine has {_area(cosine.further)}.")
            )
    return "\n".join(lines)


def afterwards(tables: Tables) -> str:
    """What training through noise does to the accuracy without hardware (Markdown)."""
    if "chips" not in tables:
        return ""
    clean = 100 * tables["chips"].groupby("arm").clean.mean()
    day = {arm: 100 * of_chips(tables["chips"], arm, MEASURES[-1], DAY).mean() for arm in ARMS}
    first, second = ARMS[2:]
    return (
        f"Without hardware the finished network gets {clean['unaware']:.1f} % of these test pictures right, the one "
        f"trained with noise {clean[first]:.1f} %, the one trained with noise and clipped {clean[second]:.1f} %: what "
        "is lost here is lost before any chip is programmed, and a longer training may win it back. After a day, "
        f"compensated and recalibrated, clipping the finished network without any training gives "
        f"{day['clipped']:.1f} %, training with noise and clipping {day[second]:.1f} %, neither {day['unaware']:.1f} %."
    )
