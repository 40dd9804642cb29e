"""Our models beside the published ones, and beside what another simulator samples from them.

``python benchmarks/peer_aihwkit.py --noise | python -m paper.studies.peers`` keeps a run of aihwkit's noise model in
``results/peers``, with its versions. What whole networks come to in other simulators: :mod:`paper.simulators`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

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
from lib.results import Cell, Tables
from lib.verdicts import Claim, Findings
from paper import ROOT, simulators
from paper.agreement import Quantity
from paper.criteria.hardware import CHANCE, CHANCE_SPREAD, CHIPS_ALIKE, CIRCUIT_EXACT, CIRCUIT_FAST
from paper.nodal import node_voltages
from paper.studies.base import Compared, Study, double_precision, joined
from paper.studies.hardware import PICTURE
from paper.studies.parameters import DRAWS, Numbers, Whole

#: What aihwkit sampled, and with which versions.
KEPT = ROOT / "results" / "peers" / "aihwkit_pcm.csv"
#: Conductances in microsiemens, and seconds since programming: 20 s, an hour and a day on aihwkit's clock, which
#: starts 20 s after programming.
CONDUCTANCES = (0.1, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 25.0)
SECONDS = (20.0, 3620.0, 86420.0)
#: At these conductances next to nothing of a whole chip's distribution is cut off at zero.
UNCUT = 2.5

LAWS = {
    "programming": "PCM, programming noise",
    "drift": "PCM, drift exponent",
    "read": "PCM, read noise",
    "resistive": "RRAM, programming noise",
}
#: What a law or a whole chip is sampled from.
PHYSICS: dict[str, Perturbation] = {
    "programming": ProgrammingNoise(law="pcm"),
    "drift": Drift(),
    "read": FlickerNoise(),
    "resistive": ProgrammingNoise(law="rram"),
    "chip": PhaseChange(),
}
#: Which conductance the drift exponent and the fluctuation may belong to; aihwkit's documentation has the first.
READINGS = tuple((a, b) for a in ("target", "programmed") for b in ("target", "programmed", "drifted"))
#: Ohm per segment of word and of bit lines.
WIRES = ((0.3, 0.3), (1.0, 1.0), (5.0, 1.0), (1.0, 5.0), (10.0, 0.0), (0.0, 10.0), (100.0, 100.0))
_POINT = ["law", "g", "seconds", "statistic"]


class Peers(Study):
    """Where our device and circuit models meet those of others::

        samples    devices sampled for each conductance, time and seed
        seeds      of these samples
        sides      of the arrays whose circuit is solved in two ways, in lines

    Tables: ``statistics`` (mean and standard deviation, sampled and published), ``peers`` (sampled here and sampled by
    aihwkit), ``readings`` (whole chips against every reading of the published formulas), ``wires`` (effective
    conductance against a nodal analysis of every node) and ``sampled`` (the moments seed by seed).
    """

    samples: Annotated[int, Whole(1000, 50_000_000)] = 50_000
    seeds: Annotated[int, Whole(1, 1000)] = 2
    sides: Annotated[tuple[int, ...], Numbers(2, 256, whole=True, ordered=True)] = (8, 16, 32)
    networks: Annotated[int, Whole(1, len(simulators.SEEDS))] = 2
    chips: Annotated[int, DRAWS] = 20

    SIZES: ClassVar[tuple[str, ...]] = ("seeds", "networks", "chips")
    PARTS: ClassVar[tuple[str, ...]] = ("sides",)
    COMPARED: ClassVar[Mapping[str, Compared]] = {
        "sampled": Compared(tuple(_POINT), {"sampled": Quantity(scale="log")}),
        "simulated": Compared(("kind", "case"), {"accuracy": 100 * PICTURE}),
        "trained": Compared(("by", "case"), {"accuracy": 100 * PICTURE}),
    }

    def check(self) -> None:
        double_precision(self.device)

    def cells(self) -> list[Cell]:
        """The moments of every law, those of every reading of the formulas, and the circuits of every side."""
        drawn = {"samples": self.samples, "seeds": list(range(self.seeds))}
        found = [Cell("peers_sampled", {**drawn, "law": law, "points": list(points(law))}, sampled) for law in PHYSICS]
        found += [
            Cell("peers_reading", {**drawn, "exponent": one, "noise": other, "points": list(points("chip"))}, reading)
            for one, other in READINGS
        ]
        found += [Cell("peers_wires", {"side": side, "wires": list(WIRES)}, wires) for side in self.sides]
        return found + simulators.cells(self.networks, self.chips)

    def judge(self, found: Mapping[Cell, Tables]) -> tuple[Tables, Findings]:
        whole = joined(found)
        moments = pooled(whole["sampled"], _POINT)
        theirs, _ = aihwkit()
        peers = _against_peer(moments, theirs)
        read = pooled(whole["reading"], ["exponent", "noise", *_POINT])
        tables = {
            "statistics": _against_published(moments),
            "peers": peers,
            "readings": _closest(read, peers, theirs),
            "wires": whole["wires"],
            "sampled": whole["sampled"],
            **{name: whole[name] for name in ("simulated", "taken", "trained")},
            "differences": simulators.differences(whole["simulated"]),
        }
        return tables, Findings.of([*claims(tables), *simulators.claims(tables)])


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
    physics = PHYSICS[checks.choice("law", law, PHYSICS)]
    if law == "read":
        return _read(physics, target, target, at, source)
    drawn = _one(physics.draw_chip((count, 1), source))
    if law == "drift":
        day = torch.tensor(86400.0, dtype=torch.float64)
        left = physics.conductance(target, day, drawn) / target
        return -left.log().flatten() / (day / T_ZERO).log()
    if law == "chip":
        return _read(physics, target, physics.conductance(target, at, drawn), at, source)
    return physics.conductance(target, torch.ones_like(at), drawn).flatten()


def points(law: str) -> Iterator[tuple[float, float]]:
    """Conductance and time of everything that is sampled of a law; what does not depend on time has none."""
    for g in CONDUCTANCES if law != "chip" else [g for g in CONDUCTANCES if g >= UNCUT]:
        for seconds in SECONDS if law in ("read", "chip") else (0.0,):
            yield g, seconds


def sampled(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``sampled``: mean and standard deviation of every point and seed, each with its standard error."""
    law, rows = config["law"], []
    for (g, seconds), seed in ((point, seed) for point in config["points"] for seed in config["seeds"]):
        source = runtime.stream(seed, "devices", law, str(g), str(seconds))
        values = devices(law, g, seconds, config["samples"], source).to(site["device"])
        rows += _moments(values, {"law": law, "g": g, "seconds": seconds, "seed": seed})
    return {"sampled": pd.DataFrame(rows)}


def _moments(values: Tensor, key: dict[str, object]) -> list[dict[str, object]]:
    """A row for the mean and one for the standard deviation of ``values`` [n]; no shape of distribution is assumed."""
    count, mean, std = len(values), float(values.mean()), float(values.std())
    fourth = float((values - mean).pow(4).mean())
    errors = (std / math.sqrt(count), math.sqrt((fourth - std**4) / count) / (2 * std))
    return [
        {**key, "statistic": statistic, "sampled": value, "error": error, "samples": count}
        for statistic, value, error in zip(("mean", "std"), (mean, std), errors, strict=True)
    ]


def pooled(moments: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The moments of all seeds together: their mean over seeds, its standard error, and the samples in all."""
    table = moments.assign(square=moments.error**2).groupby(list(keys), sort=False)
    error = np.sqrt(table["square"].sum(skipna=False)) / table.size()
    sampled = table["sampled"].mean(skipna=False)
    return pd.DataFrame({"sampled": sampled, "error": error, "samples": table["samples"].sum()}).reset_index()


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


def curve(law: str, seconds: float = 0.0) -> pd.DataFrame:
    """The published mean and standard deviation over conductance, closely spaced."""
    g = np.geomspace(CONDUCTANCES[0], CONDUCTANCES[-1], 120)
    mean, std = published(law, g, seconds)
    return pd.DataFrame({"g": g, "mean": mean, "std": std})


def _against_published(moments: pd.DataFrame) -> pd.DataFrame:
    table = moments[moments.law != "chip"].reset_index(drop=True)
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
    table = pd.DataFrame(rows)
    origin = {name: record[name] for name in ("versions", "samples", "model")}
    text = json.dumps({"provenance": origin, "types": results.tidied(table)[1]}, indent=1, sort_keys=True)
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    results.write(KEPT, results.to_csv(table).encode("utf-8"))
    results.write(KEPT.with_suffix(".json"), f"{text}\n".encode())


def aihwkit() -> tuple[pd.DataFrame, dict[str, Any]]:
    """What aihwkit sampled (``law``, ``g``, ``seconds``, ``statistic``, ``value``), and with which versions."""
    if not KEPT.is_file():
        raise checks.ParameterError(
            "results/peers must hold aihwkit_pcm.csv, but a checkout without it was given: run "
            "benchmarks/peer_aihwkit.py --noise | python -m paper.studies.peers."
        )
    record = json.loads(KEPT.with_suffix(".json").read_text(encoding="utf-8"))
    theirs, origin = results.from_csv(KEPT.read_text(encoding="utf-8"), record["types"]), record["provenance"]
    checks.columns(KEPT.name, theirs, [*_POINT, "value"])
    # aihwkit cuts a read off at zero and we do not: compare what it draws before it cuts.
    theirs = theirs[~((theirs.law == "read") & (theirs.statistic != "uncut"))]
    theirs = theirs[~((theirs.law != "read") & (theirs.statistic == "uncut"))]
    return theirs.replace({"statistic": {"uncut": "std"}}).assign(count=origin["samples"]), origin


def _against_peer(moments: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Every moment that both sampled; the standard error is that of the difference."""
    table = moments.merge(theirs.rename(columns={"value": "peer"}), on=_POINT)
    error = table.error * np.sqrt(1 + table.samples / table["count"])
    return table.assign(error=error, z=(table.sampled - table.peer) / error, deviation=table.sampled / table.peer - 1)[
        [*_POINT, "sampled", "peer", "error", "z", "deviation"]
    ]


# ---------------------------------------------------------------------------------------------------------- readings


def reading(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``reading``: moments of whole chips by the published formulas, for one reading of them."""
    exponent, noise, count, rows = config["exponent"], config["noise"], config["samples"], []
    for (g, seconds), seed in ((point, seed) for point in config["points"] for seed in config["seeds"]):
        source = runtime.stream(seed, "reading", exponent, noise, str(g), str(seconds))
        normal = torch.randn(3, count, generator=source, dtype=torch.float64).numpy()
        target = np.full(count, g)
        programmed = np.maximum(target + _programmed(target) * normal[0], 1e-9)
        middle, spread = _exponent(target if exponent == "target" else programmed)
        drifted = programmed * (seconds / 20) ** -np.abs(middle + spread * normal[1])
        level = {"target": target, "programmed": programmed, "drifted": drifted}[noise]
        read = drifted * (1 + _fluctuation(level, seconds) * normal[2])
        key = {"exponent": exponent, "noise": noise, "law": "chip", "g": g, "seconds": seconds, "seed": seed}
        rows += _moments(torch.from_numpy(read), key)
    return {"reading": pd.DataFrame(rows)}


def _closest(read: pd.DataFrame, peers: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """The largest difference, in standard errors, between each reading and our chips (``here``) and aihwkit's."""
    chips = peers[peers.law == "chip"].merge(theirs[[*_POINT, "count"]], on=_POINT)
    joined = read.merge(chips, on=_POINT, suffixes=("", "_here"))
    joined["here"] = (joined.sampled - joined.sampled_here).abs() / (joined.error * math.sqrt(2))
    joined["aihwkit"] = (joined.sampled - joined.peer).abs() / (
        joined.error * np.sqrt(1 + joined.samples / joined["count"])
    )
    return joined.groupby(["exponent", "noise"], sort=False)[["here", "aihwkit"]].max().reset_index()


# ------------------------------------------------------------------------------------------------------------- wires


def wires(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``wires``: the effective conductance of one array, solved fast and exactly, against a nodal analysis."""
    side, device, rows = config["side"], site["device"], []
    drawn = torch.rand(side, side + 3, generator=runtime.stream(0, "wires", side), dtype=torch.float64)
    g = (WINDOW.low + (WINDOW.high - WINDOW.low) * drawn).to(device)
    for word, bit in config["wires"]:
        nodal = node_voltages(g, word, bit, torch.eye(side, dtype=torch.float64, device=device)).output
        row = {"side": side, "r_word": word, "r_bit": bit, "lost": float(1 - nodal.sum() / g.sum())}
        for name, exact in (("fast", False), ("exact", True)):
            found = circuit.effective_conductance(g, word, bit, exact=exact)
            row[name] = float((found - nodal).abs().max() / nodal.max())
        rows.append(row)
    return {"wires": pd.DataFrame(rows)}


# ---------------------------------------------------------------------------------------------------------- findings


def largest(values: pd.Series) -> float:
    """The largest size among values; nan where there are none, or where one is nan."""
    return float(np.max(np.abs(values.to_numpy()))) if len(values) else math.nan


def claims(tables: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """The claims of the page. A value has no interval of its own: the standard error is part of it."""
    statistics, peers, circuits = (tables[name] for name in ("statistics", "peers", "wires"))
    found: list[Claim] = []

    def claimed(own: str, text: str, value: float, threshold: float, **more: Any) -> None:
        measured = (value, (value, value))
        found.append(Claim(f"peers.{own}", text, [], "<", threshold, "peers", measured=measured, **more))

    chance = {"name": "largest difference", "unit": "standard errors"}
    for law, words in LAWS.items():
        here = statistics[statistics.law == law].z
        text = f"{words}: what we sample has the published mean and spread"
        claimed(f"published.{law}", text, largest(here), CHANCE, **chance)
    for law in ("programming", "drift", "read"):
        here = peers[peers.law == law].z
        text = f"{LAWS[law]}: we and aihwkit sample the same mean and spread"
        claimed(f"aihwkit.{law}", text, largest(here), CHANCE, **chance)
    single = pd.concat([statistics.z, peers[peers.law != "chip"].z])
    away = abs(math.sqrt(float(np.mean(single.to_numpy() ** 2))) - 1)
    text = "Differences to the formulas and to aihwkit, law by law, spread as sampling alone makes them"
    claimed("spread", text, away, CHANCE_SPREAD, name="|root mean square − 1|", unit="standard errors")
    chip = peers[peers.law == "chip"]
    text = "A whole phase-change chip (programmed, drifted and read) has the same mean and spread as aihwkit's"
    claimed("aihwkit.chip", text, largest(chip.z), CHANCE, **chance)
    text, percent = f"Whole chips differ from aihwkit's by less than {CHIPS_ALIKE:g} %", 100 * largest(chip.deviation)
    claimed("aihwkit.chip_alike", text, percent, CHIPS_ALIKE, name="largest difference", unit="%")
    documented = tables["readings"].iloc[0]
    for column, whose in (("here", "Our"), ("aihwkit", "aihwkit's")):
        text = f"{whose} whole chips are what aihwkit's documentation says"
        claimed(f"documented.{column}", text, float(documented[column]), CHANCE, **chance)
        text = f"{whose} whole chips are one of the readings of the published formulas"
        claimed(f"reading.{column}", text, float(np.min(tables["readings"][column].to_numpy())), CHANCE, **chance)
    words = "The effective conductance is that of a nodal analysis of every node"
    error = {"name": "largest relative error"}
    claimed("circuit.fast", f"{words}, solved fast", largest(circuits.fast), CIRCUIT_FAST, **error)
    claimed("circuit.exact", f"{words}, solved in double precision", largest(circuits.exact), CIRCUIT_EXACT, **error)
    return found


if __name__ == "__main__":
    keep(json.load(sys.stdin))
