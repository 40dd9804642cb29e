"""Our models beside the published ones, and beside what another simulator samples from them.

``python benchmarks/peer_aihwkit.py --noise | python -m paper.studies.peers`` keeps a run of aihwkit's noise model in
``results/peers``, with its versions.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.special import erf
from torch import Tensor

from lib import checks, results, runtime
from lib.hardware import circuit
from lib.hardware.devices import FlickerNoise, PhaseChange, ProgrammingNoise
from lib.hardware.numbers import Own
from lib.hardware.perturbations import T_ZERO, WINDOW, Arrays, Drift, Pair, Perturbation
from lib.replicas import mapped
from lib.verdicts import Findings, judge_value
from paper.studies.base import Result, Study, double_precision
from paper.studies.operator import Operator

#: Conductances in microsiemens, and seconds since programming: 20 s, an hour and a day on aihwkit's clock, which
#: starts 20 s after programming.
CONDUCTANCES = (0.1, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 25.0)
SECONDS = (20.0, 3620.0, 86420.0)
#: At these conductances next to nothing of a whole chip's distribution is cut off at zero.
UNCUT = 2.5
#: Differences of this many standard errors are chance; a spread of them this close to one is that of sampling.
CHANCE, SPREAD = 3.5, 0.25
#: How far whole chips may differ in mean and spread, in per cent.
CHIP = 2.0
#: Errors of the effective conductance relative to its largest entry.
FAST, EXACT = 1e-6, 1e-10

LAWS = {
    "programming": "PCM, programming noise",
    "drift": "PCM, drift exponent",
    "read": "PCM, read noise",
    "resistive": "RRAM, programming noise",
}
_WIRES = ((0.3, 0.3), (1.0, 1.0), (5.0, 1.0), (1.0, 5.0), (10.0, 0.0), (0.0, 10.0), (100.0, 100.0))
_KEYS = ["law", "g", "seconds", "statistic"]
_MODULES = ("checks", "hardware", "runtime", "studies.peers")


@dataclass(frozen=True, kw_only=True)
class Peers(Study):
    """Where our device and circuit models meet those of others::

        samples    devices sampled for each conductance and time
        seed       of these samples
        sides      of the arrays whose circuit is solved in two ways, in lines

    Tables: ``statistics`` (mean and standard deviation, sampled and published), ``peers`` (sampled here and sampled by
    aihwkit), ``readings`` (whole chips against every reading of the published formulas) and ``wires`` (effective
    conductance against a nodal analysis of every node).
    """

    samples: int = 200_000
    seed: int = 0
    sides: object = (8, 16, 32, 64)

    KEYS = tuple(_KEYS)
    # Relative to the published value.
    TOLERANCES = {"deviation": 0.03}

    def check(self) -> None:
        checks.integer("samples", self.samples, low=1000, high=50_000_000)
        checks.integer("seed", self.seed, low=0)
        if not isinstance(self.sides, list | tuple) or not self.sides:
            raise checks.ParameterError(
                f"sides must be one or more integers from 2 to 256, but {self.sides!r} was given."
            )
        sides = tuple(sorted({checks.integer("sides", side, 2, 256) for side in self.sides}))
        object.__setattr__(self, "sides", sides)
        double_precision(self.device)

    def run(self) -> Result:
        store = self.store()
        device = runtime.resolve_device(self.device)
        code = results.code_version(*_MODULES)
        given = {"samples": self.samples, "seed": self.seed, "code": code}
        sampled = store.get_or_run(
            "peers_statistics", given, partial(_sampled, self, device), device=device, seeds=[self.seed]
        )
        read = store.get_or_run("peers_readings", given, partial(_readings, self), device="cpu", seeds=[self.seed])
        given = {"sides": self.sides, "code": code}
        wires = store.get_or_run("peers_wires", given, partial(_wires, self, device), device=device, seeds=[0])
        statistics = _against_published(sampled)
        theirs, _ = aihwkit()
        tables = {"statistics": statistics, "peers": _against_peer(sampled, theirs)}
        tables |= {"readings": _closest(read, tables["peers"], theirs), "wires": wires}
        return Result(tables, findings(tables), results.provenance(device, [self.seed], store.seconds))


# ------------------------------------------------------------------------------------------------------ sampled here


def _one(drawn: Own) -> Own:
    """The numbers of one of the two devices of every pair."""
    return mapped(lambda value: value[:1].double(), drawn)


def _read(physics: Perturbation, target: Tensor, g: Tensor, seconds: Tensor, source: torch.Generator) -> Tensor:
    """One read of devices that conduct ``g`` [1, n, 1] and were aimed at ``target``, each on its own at 1 V: currents
    [n] in microampere.
    """
    one = torch.ones(1, 1, dtype=g.dtype)
    arrays = Arrays(Pair(target[0], target, one.squeeze()), g)
    drawn = mapped(lambda value: value.double(), physics.draw_read((1, g.shape[1]), source))
    return physics.current(g[0].mT, one, arrays, seconds, drawn).flatten()


def devices(law: str, g: float, seconds: float, count: int, source: torch.Generator) -> Tensor:
    """What ``count`` devices programmed to ``g`` microsiemens come out as [count], by the library's own classes.

    Drift exponents are read off what a day leaves of a conductance; the rest is in microsiemens.
    """
    target = torch.full((1, count, 1), g, dtype=torch.float64)
    at = torch.tensor(seconds, dtype=torch.float64)
    if law in ("programming", "resistive"):
        physics = ProgrammingNoise(law="pcm" if law == "programming" else "rram")
        return physics.conductance(target, torch.ones_like(at), _one(physics.draw_chip((count, 1), source))).flatten()
    if law == "drift":
        day = torch.tensor(86400.0, dtype=torch.float64)
        left = Drift().conductance(target, day, _one(Drift().draw_chip((count, 1), source))) / target
        return -left.log().flatten() / (day / T_ZERO).log()
    if law == "read":
        return _read(FlickerNoise(), target, target, at, source)
    chip = PhaseChange()
    aged = chip.conductance(target, at, _one(chip.draw_chip((count, 1), source)))
    return _read(chip, target, aged, at, source)


def points() -> Iterator[tuple[str, float, float]]:
    """Law, conductance and time of everything that is sampled; what does not depend on time has none."""
    for law in (*LAWS, "chip"):
        for g in CONDUCTANCES if law != "chip" else [g for g in CONDUCTANCES if g >= UNCUT]:
            for seconds in SECONDS if law in ("read", "chip") else (0.0,):
                yield law, g, seconds


def _sampled(study: Peers, device: torch.device) -> pd.DataFrame:
    """Mean and standard deviation of every point, each with its standard error."""
    rows = []
    for law, g, seconds in points():
        source = runtime.stream(study.seed, "devices", law, str(g), str(seconds))
        values = devices(law, g, seconds, study.samples, source).to(device)
        rows += _moments(values, {"law": law, "g": g, "seconds": seconds})
    return pd.DataFrame(rows)


def _moments(values: Tensor, key: dict[str, object]) -> list[dict[str, object]]:
    """A row for the mean and one for the standard deviation of ``values`` [n]; no shape of distribution is assumed."""
    count, mean, std = len(values), float(values.mean()), float(values.std())
    fourth = float((values - mean).pow(4).mean())
    errors = (std / math.sqrt(count), math.sqrt((fourth - std**4) / count) / (2 * std))
    return [
        {**key, "statistic": statistic, "sampled": value, "error": error, "samples": count}
        for statistic, value, error in zip(("mean", "std"), (mean, std), errors, strict=True)
    ]


# --------------------------------------------------------------------------------------------------------- published


def _programmed(g: np.ndarray) -> np.ndarray:
    share = g / WINDOW.high
    return np.maximum(-1.1731 * share**2 + 1.9650 * share + 0.26348, 0)


def _exponent(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    level = np.log(g / WINDOW.high)
    return np.clip(-0.0155 * level + 0.0244, 0.049, 0.1), np.clip(-0.0125 * level - 0.0059, 0.008, 0.045)


def _fluctuation(g: np.ndarray, seconds: float) -> np.ndarray:
    quality = np.minimum(0.0088 / (g / WINDOW.high) ** 0.65, 0.2)
    return quality * math.sqrt(math.log((seconds + 250e-9) / 500e-9))


def published(law: str, g: np.ndarray, seconds: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by the published formulas, as aihwkit documents them, written out again here.

    Programmed conductances are cut off at zero, drift exponents are absolute values: both have a closed form.
    """
    g = np.asarray(g, dtype=float)
    if law == "drift":
        middle, spread = _exponent(g)
        mean = spread * math.sqrt(2 / math.pi) * np.exp(-((middle / spread) ** 2) / 2)
        mean += middle * erf(middle / spread / math.sqrt(2))
        return mean, np.sqrt(middle**2 + spread**2 - mean**2)
    if law == "read":
        return g, g * _fluctuation(g, seconds)
    spread = _programmed(g) if law == "programming" else 0.0001536 * g**3 - 0.01167 * g**2 + 0.2374 * g + 1.053
    inside = (1 + erf(g / spread / math.sqrt(2))) / 2
    density = np.exp(-((g / spread) ** 2) / 2) / math.sqrt(2 * math.pi)
    mean = g * inside + spread * density
    return mean, np.sqrt((g**2 + spread**2) * inside + g * spread * density - mean**2)


def _against_published(sampled: pd.DataFrame) -> pd.DataFrame:
    table = sampled[sampled.law != "chip"].reset_index(drop=True)
    values = [
        float(published(row.law, np.array(row.g), row.seconds)[("mean", "std").index(row.statistic)])
        for row in table.itertuples()
    ]
    table = table.assign(published=values)
    return table.assign(
        z=(table.sampled - table.published) / table.error, deviation=table.sampled / table.published - 1
    )


# ----------------------------------------------------------------------------------------------------------- aihwkit


def keep(record: dict) -> None:
    """Keep what ``benchmarks/peer_aihwkit.py --noise`` printed as ``results/peers/aihwkit_pcm.csv``."""
    start = record["model"]["t_0"]
    rows = []

    def add(law: str, g: float, seconds: float, found: dict[str, float]) -> None:
        for statistic in ("mean", "std", "uncut"):
            if statistic in found:
                key = {"law": law, "g": g, "seconds": seconds, "statistic": statistic}
                rows.append({**key, "value": found[statistic]})

    for row in record["rows"]:
        add("programming", row["g"], 0.0, row["programming"])
        add("drift", row["g"], 0.0, row["nu"])
        for law, kind in (("read", "read"), ("chip", "everything")):
            for seconds, found in row[kind].items():
                add(law, row["g"], float(seconds) + start, found)
    origin = {name: record[name] for name in ("versions", "samples", "model")}
    table = pd.DataFrame(rows)
    results.write_reference("aihwkit_pcm", table, origin, results.repository() / "results" / "peers")


def aihwkit() -> tuple[pd.DataFrame, dict]:
    """What aihwkit sampled (``law``, ``g``, ``seconds``, ``statistic``, ``value``), and with which versions."""
    found = results.reference("aihwkit_pcm", [*_KEYS, "value"], results.repository() / "results" / "peers")
    if found is None:
        raise checks.ParameterError(
            "results/peers must hold aihwkit_pcm.csv, but a checkout without it was given: run "
            "benchmarks/peer_aihwkit.py --noise | python -m paper.studies.peers."
        )
    theirs, origin = found
    # aihwkit cuts a read off at zero and we do not: compare what it draws before it cuts.
    theirs = theirs[~((theirs.law == "read") & (theirs.statistic != "uncut"))]
    theirs = theirs[~((theirs.law != "read") & (theirs.statistic == "uncut"))]
    return theirs.replace({"statistic": {"uncut": "std"}}).assign(count=origin["samples"]), origin


def _against_peer(sampled: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Every moment that both sampled; the standard error is that of the difference."""
    table = sampled.merge(theirs.rename(columns={"value": "peer"}), on=_KEYS)
    error = table.error * np.sqrt(1 + table.samples / table["count"])
    return table.assign(error=error, z=(table.sampled - table.peer) / error, deviation=table.sampled / table.peer - 1)[
        [*_KEYS, "sampled", "peer", "error", "z", "deviation"]
    ]


# ---------------------------------------------------------------------------------------------------------- readings

#: Which conductance the drift exponent and the fluctuation may belong to; aihwkit's documentation has the first.
READINGS = tuple((a, b) for a in ("target", "programmed") for b in ("target", "programmed", "drifted"))


def _readings(study: Peers) -> pd.DataFrame:
    """Moments of whole chips by the published formulas, for every reading of them."""
    rows = []
    for (exponent, noise), (law, g, seconds) in ((way, point) for way in READINGS for point in points()):
        if law != "chip":
            continue
        source = runtime.stream(study.seed, "reading", exponent, noise, str(g), str(seconds))
        normal = torch.randn(3, study.samples, generator=source, dtype=torch.float64).numpy()
        target = np.full(study.samples, g)
        programmed = np.maximum(target + _programmed(target) * normal[0], 1e-9)
        middle, spread = _exponent(target if exponent == "target" else programmed)
        drifted = programmed * (seconds / 20) ** -np.abs(middle + spread * normal[1])
        level = {"target": target, "programmed": programmed, "drifted": drifted}[noise]
        read = drifted * (1 + _fluctuation(level, seconds) * normal[2])
        key = {"exponent": exponent, "noise": noise, "law": law, "g": g, "seconds": seconds}
        rows += _moments(torch.from_numpy(read), key)
    return pd.DataFrame(rows)


def _closest(read: pd.DataFrame, peers: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """The largest difference, in standard errors, between each reading and our chips (``here``) and aihwkit's."""
    chips = peers[peers.law == "chip"].merge(theirs[[*_KEYS, "count"]], on=_KEYS)
    joined = read.merge(chips, on=_KEYS, suffixes=("", "_here"))
    joined["here"] = (joined.sampled - joined.sampled_here).abs() / (joined.error * math.sqrt(2))
    joined["aihwkit"] = (joined.sampled - joined.peer).abs() / (
        joined.error * np.sqrt(1 + joined.samples / joined["count"])
    )
    return joined.groupby(["exponent", "noise"], sort=False)[["here", "aihwkit"]].max().reset_index()


# ------------------------------------------------------------------------------------------------------------- wires


def _wires(study: Peers, device: torch.device) -> pd.DataFrame:
    rows = []
    for side in study.sides:
        drawn = torch.rand(side, side + 3, generator=runtime.stream(0, "wires", side), dtype=torch.float64)
        g = (WINDOW.low + (WINDOW.high - WINDOW.low) * drawn).to(device)
        for word, bit in _WIRES:
            nodal = circuit.node_voltages(g, word, bit, torch.eye(side, dtype=torch.float64, device=device)).output
            row = {"side": side, "r_word": word, "r_bit": bit, "lost": float(1 - nodal.sum() / g.sum())}
            for name, exact in (("fast", False), ("exact", True)):
                found = circuit.effective_conductance(g, word, bit, exact=exact)
                row[name] = float((found - nodal).abs().max() / nodal.max())
            rows.append(row)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------------------------------------- findings


def _largest(values: pd.Series) -> float:
    return float(values.abs().max()) if len(values) else math.nan


def findings(tables: dict[str, pd.DataFrame]) -> Findings:
    """The claims of the page. Criteria are fixed here, before any number is known."""
    statistics, peers, wires = (tables[name] for name in ("statistics", "peers", "wires"))
    found = Findings()

    def judged(claim: str, value: float, threshold: float, **more: str) -> None:
        found.append(judge_value(claim, value, (value, value), "<", threshold, **more))

    chance = {"name": "largest difference", "unit": "standard errors"}
    for law, words in LAWS.items():
        here = statistics[statistics.law == law].z
        judged(f"{words}: what we sample has the published mean and spread", _largest(here), CHANCE, **chance)
    for law in ("programming", "drift", "read"):
        here = peers[peers.law == law].z
        judged(f"{LAWS[law]}: we and aihwkit sample the same mean and spread", _largest(here), CHANCE, **chance)
    single = pd.concat([statistics.z, peers[peers.law != "chip"].z])
    away = abs(math.sqrt(float((single**2).mean())) - 1)
    claim = "These differences spread as sampling alone makes them"
    judged(claim, away, SPREAD, name="|root mean square − 1|", unit="standard errors")
    chip = peers[peers.law == "chip"]
    claim = "A whole phase-change chip (programmed, drifted and read) has the same mean and spread as aihwkit's"
    judged(claim, _largest(chip.z), CHANCE, **chance)
    judged(
        f"Whole chips differ by less than {CHIP:g} %",
        100 * _largest(chip.deviation),
        CHIP,
        name="largest difference",
        unit="%",
    )
    documented = tables["readings"].iloc[0]
    for column, whose in (("here", "Our"), ("aihwkit", "aihwkit's")):
        claim = f"{whose} whole chips are what aihwkit's documentation says"
        judged(claim, float(documented[column]), CHANCE, **chance)
        claim = f"{whose} whole chips are one of the readings of the published formulas"
        judged(claim, float(tables["readings"][column].min()), CHANCE, **chance)
    words = "The effective conductance is that of a nodal analysis of every node"
    judged(f"{words}, solved fast", _largest(wires.fast), FAST, name="largest relative error")
    judged(f"{words}, solved in double precision", _largest(wires.exact), EXACT, name="largest relative error")
    return found


# ------------------------------------------------------------------------------------------------ tables and prose


def curve(law: str, seconds: float = 0.0) -> pd.DataFrame:
    """The published mean and standard deviation over conductance, closely spaced."""
    g = np.geomspace(CONDUCTANCES[0], CONDUCTANCES[-1], 120)
    mean, std = published(law, g, seconds)
    return pd.DataFrame({"g": g, "mean": mean, "std": std})


def readings_table(result: Result) -> pd.DataFrame:
    """Which reading of the formulas is whose: largest difference in standard errors."""
    table = result.tables["readings"].rename(columns={"here": "ours", "exponent": "exponent of", "noise": "noise of"})
    return table.set_index(["exponent of", "noise of"]).round(1)


def readings(result: Result) -> str:
    """Which reading of the formulas is whose (Markdown)."""
    table = result.tables["readings"]
    said = []
    for column, whose in (("here", "Our chips"), ("aihwkit", "aihwkit's")):
        fits = table[table[column] < CHANCE]
        ways = " or ".join(
            f"the exponent of the {one.exponent} and the noise of the {one.noise}" for one in fits.itertuples()
        )
        said.append(f"{whose} have {ways} conductance." if ways else f"{whose} are none of the readings.")
    return " ".join(said)


def wires_table(result: Result) -> pd.DataFrame:
    """Relative errors of both ways to solve the circuit, by side and wires."""
    table = result.tables["wires"]
    wires = [f"{row.r_word:g} / {row.r_bit:g}" for row in table.itertuples()]
    shown = table.assign(
        wires=wires,
        array=[f"{side} × {side + 3}" for side in table.side],
        **{"lost (%)": (100 * table.lost).map("{:.2g}".format)},
        fast=table.fast.map("{:.0e}".format),
        exact=table.exact.map("{:.0e}".format),
    )
    return shown[shown.side == table.side.max()].set_index(["array", "wires"])[["lost (%)", "fast", "exact"]]


def compared(result: Result) -> str:
    """How many comparisons there were, and how they came out (Markdown)."""
    statistics, peers = result.tables["statistics"], result.tables["peers"]
    single, chip = peers[peers.law != "chip"], peers[peers.law == "chip"]
    _, origin = aihwkit()
    versions = origin["versions"]
    return (
        f"{int(statistics.samples.iloc[0]):,} devices for each point here, {origin['samples']:,} in aihwkit "
        f"{versions['aihwkit']} (torch {versions['torch'].partition('+')[0]}). Of {len(statistics)} moments the one "
        f"furthest from its formula lies {_largest(statistics.z):.1f} standard errors away; of {len(single)} that "
        f"aihwkit sampled too, {_largest(single.z):.1f}. Of the {len(chip)} moments of whole chips the largest "
        f"difference is {100 * _largest(chip.deviation):.1f} %, and {_largest(chip.z):.0f} standard errors."
    )


def beside(study: Peers) -> str:
    """Our own numbers for what the cited works report, as far as this book has them (Markdown)."""
    chips = Operator(device=study.device, results=study.results).run().tables["chips"]
    means = chips[chips.chip == "phase-change"].groupby("seconds").accuracy.mean()
    day = means[means.index <= 86400.0].iloc[-1]
    lines = [
        f"- **Phase-change memory.** A perceptron that never heard of hardware, right on {chips.clean.mean():.1f} % of "
        f"the digits without it: {means.iloc[0]:.1f} % after mapping, {day:.1f} % after a day."
    ]
    found = results.reference("perturbation_stuck_at", ["rule", "severity", "clean", "accuracy"])
    if found is not None:
        table = found[0]
        worst = table[table.severity == table.severity.max()].groupby("rule")[["clean", "accuracy"]].mean()
        ways = "; ".join(f"{rule.replace('_', '-')} {100 * row.accuracy:.0f} %" for rule, row in worst.iterrows())
        lines.append(
            f"- **Faults.** With {100 * table.severity.max():g} % of all devices stuck, on chips that training has not "
            f"seen (clean: {100 * worst.clean.mean():.0f} %): {ways}."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    keep(json.load(sys.stdin))
