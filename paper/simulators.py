"""The same networks through other simulators: what they are given, what they gave, and the same computed here.

The networks lie in ``results/peers/networks.npz``, so that every simulator has the same numbers. What another
simulator came to was measured once, in an environment of its own, and is kept beside them with its provenance::

    python -m paper.simulators train                     the networks, once
    python -m paper.simulators export EXCHANGE.npz       networks and pictures for a simulator
    python benchmarks/peer_networks.py EXCHANGE.npz FOLDER
    python -m paper.simulators keep FOLDER               what it wrote
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import checks, results, runtime
from lib.hardware.crossbars import Crossbars
from lib.hardware.devices import DAC, Composite, PhaseChange, ProgrammingNoise
from lib.hardware.networks import digits, network
from lib.hardware.perturbations import ADC, IRDrop, Perturbation
from lib.hardware.training import RATE, Trainer, tiled
from lib.replicas import Optimiser, Tree, stack
from lib.results import Cell, Tables
from lib.verdicts import Claim
from paper import ROOT
from paper.criteria.hardware import SIMULATORS_ALIKE, TRAINED_ALIKE, WIRES_ALIKE

#: Where what others measured is kept.
KEPT = ROOT / "results" / "peers"
#: Networks that never saw hardware, and networks trained with noise on their weights.
KINDS = {"unaware": "never trained for hardware", "aware": "trained with noise on its weights"}
SEEDS = tuple(range(10))
#: The noise of training, in units of a layer's largest weight; images of a step; steps before the fork and after it.
NOISE = 0.1
BATCH, WARM_UP, STEPS = 128, 60, 300
#: Seconds since programming, bits at the input and at the output, and ohm per segment of word and bit lines.
SECONDS = (20.0, 3620.0, 86420.0, 315000020.0)
#: The times at which claims are made: a day; and ten years, which were added when a day turned out to cost about a
#: point, so that simulators within a point of each other need not have much in common.
AGES = {"day": (SECONDS[2], "a day"), "decade": (SECONDS[3], "ten years")}
BITS = (8.0, 6.0)
OHMS = (5.0, 100.0, 1000.0)
#: Test pictures for which the outputs of layers behind wires are compared.
PICTURES = 64
#: The simulators whose results are kept, and what was run of each.
SIMULATORS = {"aihwkit": "aihwkit", "aihwkit devices": "aihwkit's devices", "CrossSim": "CrossSim"}
#: The chips on which networks are judged that two libraries trained with the same noise.
JUDGED = {"noise": "the noise that they were trained with", "day": "phase change, a day old, with one factor per layer"}

_COLUMNS = ["simulator", "kind", "seed", "case", "chips", "accuracy", "spread"]


@dataclass(frozen=True)
class WeightNoise(Perturbation):
    """The noise that hardware-aware training usually injects: W~ = W + s max|W| xi, one number for each weight.

    There is no window that would cut it off: the field's surrogate for what chips do, and no model of one (Joshi et
    al. 2020).
    """

    name, title = "weight_noise", "Noise on weights"
    measures, unit = "standard deviation of a weight, in units of the layer's largest one", "max|W|"
    low, high, grid = 0.0, 1.0, (0.05, 0.1, 0.2)
    chip = "normal"

    def conductance(self, g, severity, drawn):
        change = severity * (self.window.high - self.window.low) * drawn["chip"][:1]
        return g + torch.cat([change, torch.zeros_like(change)])


# ------------------------------------------------------------------------------------------------ what is kept


def _archive(path: Path, missing: str) -> dict[str, np.ndarray]:
    """The arrays of a file without pickled objects."""
    if not path.is_file():
        raise checks.ParameterError(
            f"{path.parent} must hold {path.name}, but a folder without it was given: {missing}."
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise checks.ParameterError(
            f"{path.name} must be an archive of plain arrays, but {path} was given ({error})."
        ) from None


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    results.write(path, buffer.getvalue())


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """What tells these arrays from others, whatever file they came from, in twelve digits."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()[:12]


@cache
def kept(name: str) -> dict[str, np.ndarray]:
    """The arrays of ``results/peers/NAME.npz``."""
    return _archive(KEPT / f"{name}.npz", "see paper/simulators.py for how it is made")


def params(arrays: Mapping[str, np.ndarray], prefix: str, seeds: Sequence[int]) -> Tree:
    """Parameters [seeds, ...] of our network from arrays ``PREFIX/SEED/LAYER/PART``, checked for shape."""
    shapes = {name: value.shape for name, value in network("mlp").initial(torch.Generator()).items()}
    found = []
    for seed in seeds:
        own: Tree = {}
        for name, shape in shapes.items():
            key = "/".join(filter(None, [prefix, str(seed), *name.split(".")]))
            if key not in arrays or arrays[key].shape != shape or not np.isfinite(arrays[key]).all():
                raise checks.ParameterError(
                    f"networks must have finite numbers of shape {tuple(shape)} in {key}, but "
                    f"{arrays[key].shape if key in arrays else 'none'} was given."
                )
            own[name] = torch.from_numpy(arrays[key].astype(np.float32))
        found.append(own)
    return stack(found)


def arrays(trees: Tree, prefix: str, seeds: Sequence[int], kind: type = np.float32) -> dict[str, np.ndarray]:
    """The other way round: arrays ``PREFIX/SEED/LAYER/PART`` of parameters [seeds, ...]."""
    return {
        "/".join(filter(None, [prefix, str(seed), *name.split(".")])): value[place].cpu().numpy().astype(kind)
        for place, seed in enumerate(seeds)
        for name, value in trees.items()
    }


def _trainer() -> Trainer:
    return Trainer.named("mlp", batch=BATCH)


def _optimiser() -> Optimiser:
    return Optimiser("adam", RATE, STEPS)


def train(device: torch.device | None = None) -> dict[str, np.ndarray]:
    """Both kinds of networks of all seeds, from the same start, in half precision: these numbers are the networks."""
    trainer, optimiser = _trainer(), _optimiser()
    start = trainer.fork(SEEDS, WARM_UP, device or torch.device("cpu"))
    clean = trainer.train_clean(start, SEEDS, optimiser, WARM_UP)
    aware = trainer.train_aware(start, WeightNoise(), "noise_injection", [NOISE], SEEDS, optimiser, WARM_UP).params
    return arrays(clean, "unaware", SEEDS, np.float16) | arrays(aware, "aware", SEEDS, np.float16)


def export(path: Path) -> None:
    """Everything that a simulator is given: networks, pictures, and the start, batches and rates of training."""
    trainer, optimiser, images = _trainer(), _optimiser(), digits()
    own = kept("networks")
    start = trainer.fork(SEEDS, WARM_UP, torch.device("cpu"))
    clean = trainer.train_clean(start, SEEDS, optimiser, WARM_UP)
    given: dict[str, np.ndarray] = {name: value.astype(np.float32) for name, value in own.items()}
    given |= arrays(start, "start", SEEDS) | arrays(clean, "clean", SEEDS)
    for seed in SEEDS:
        # The same draws as Trainer.images.
        steps = (runtime.stream(seed, "images", WARM_UP + step) for step in range(STEPS))
        picked = [torch.randint(len(images.y), (BATCH,), generator=source) for source in steps]
        given[f"batches/{seed}"] = torch.stack(picked).numpy().astype(np.int16)
    given |= {
        "train_x": images.x.flatten(1).numpy(),
        "train_y": images.y.numpy().astype(np.int16),
        "test_x": images.test_x.flatten(1).numpy(),
        "test_y": images.test_y.numpy(),
        "rates": np.array([optimiser.rate_at(step) for step in range(STEPS)]),
        "noise": np.array(NOISE),
        "networks": np.array(digest(own)),
    }
    _write(path, given)


def keep(folder: Path) -> None:
    """Keep what a simulator wrote into ``folder``: means over chips as a table, arrays in half or single precision."""
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise checks.ParameterError(
            f"folder must hold the record.json of a simulator, but {folder} was given."
        ) from None
    if record.get("networks") != digest(kept("networks")):
        raise checks.ParameterError(
            f"folder must hold results of the networks in {KEPT.name}/networks.npz, but those of "
            f"{record.get('networks')!r} were given."
        )
    rows = pd.DataFrame(record["rows"])
    checks.columns("record.json", rows, ["simulator", "kind", "seed", "case", "chip", "right"])
    checks.choices("simulator", sorted(set(rows.simulator)), SIMULATORS)
    share = 100 * rows.right / len(digits().test_y)
    groups = rows.assign(share=share).groupby(["simulator", "kind", "seed", "case"], sort=False)["share"]
    table = groups.agg(chips="size", accuracy="mean", spread=lambda own: own.std(ddof=0)).reset_index()[_COLUMNS]
    name = "crosssim" if "CrossSim" in set(rows.simulator) else "aihwkit"
    origin = {key: record[key] for key in ("versions", "command", "networks") if key in record}
    origin |= {key: record[key] for key in ("refused", "without_noise", "note") if key in record}
    text = json.dumps({"provenance": origin, "types": results.tidied(table)[1]}, indent=1, sort_keys=True)
    results.write(KEPT / f"{name}_networks.csv", results.to_csv(table.round(6)).encode())
    results.write(KEPT / f"{name}_networks.json", f"{text}\n".encode())
    _write(KEPT / f"{name}_outputs.npz", _archive(folder / "outputs.npz", "a simulator writes it"))
    if (folder / "trained.npz").is_file():
        own = _archive(folder / "trained.npz", "")
        params(own, "", SEEDS)
        _write(KEPT / f"{name}_trained.npz", {key: value.astype(np.float16) for key, value in own.items()})


@cache
def others() -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """What every other simulator measured (columns as in our table ``simulated``), and where each comes from."""
    tables, origins = [], {}
    own = digest(kept("networks"))
    for name in ("aihwkit", "crosssim"):
        path = KEPT / f"{name}_networks.csv"
        if not path.is_file():
            raise checks.ParameterError(
                f"results/peers must hold {path.name}, but a checkout without it was given: see paper/simulators.py."
            )
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if record["provenance"]["networks"] != own:
            raise checks.ParameterError(
                f"{path.name} must be about the networks in networks.npz ({own}), but results about "
                f"{record['provenance']['networks']} were given."
            )
        table = results.from_csv(path.read_text(encoding="utf-8"), record["types"])
        checks.columns(path.name, table, _COLUMNS)
        tables.append(table)
        origins[name] = record["provenance"]
    return pd.concat(tables, ignore_index=True), origins


# ------------------------------------------------------------------------------------------------ computed here


def cells(seeds: int, chips: int) -> list[Cell]:
    """Our side: phase-change chips, wires with converters, outputs behind wires, and training with the same noise."""
    own = list(SEEDS[:seeds])
    about = {"networks": digest(kept("networks")), "seeds": own}
    found = []
    for kind in KINDS:
        for compensation in ("none", "global"):
            config = {**about, "kind": kind, "compensation": compensation, "seconds": list(SECONDS), "chips": chips}
            found.append(Cell("simulators_chips", config, on_chips, uses=(PhaseChange(compensation),)))
        config = {**about, "kind": kind, "ohms": [0.0, *OHMS], "chips": chips}
        found.append(Cell("simulators_wires", config, behind_wires, uses=(Composite((DAC(), IRDrop(), ADC())),)))
    kept_outputs = {name: digest(kept(f"{name}_outputs")) for name in ("aihwkit", "crosssim")}
    found.append(Cell("simulators_outputs", {**about, "outputs": kept_outputs}, outputs, uses=(IRDrop(),)))
    for by in ("here", "aihwkit"):
        config = {**about, "by": by, "trained": digest(kept("aihwkit_trained")), "chips": chips}
        found.append(Cell("simulators_trained", config, trained, uses=(PhaseChange("global"), WeightNoise())))
    return found


def _rows(seen: Tensor, seeds: Sequence[int], cases: Sequence[str], **more: object) -> list[dict[str, object]]:
    """A row for every case and seed from accuracies [cases x seeds, chips]."""
    percent = 100 * seen.double().reshape(len(cases), len(seeds), -1)
    return [
        {
            **more,
            "seed": seed,
            "case": case,
            "chips": percent.shape[-1],
            "accuracy": float(percent[i, j].mean()),
            "spread": float(percent[i, j].std(correction=0)),
        }
        for i, case in enumerate(cases)
        for j, seed in enumerate(seeds)
    ]


def _judged(
    one: Tree, hardware: Perturbation, severities: Sequence[object], seeds: Sequence[int], chips: int
) -> Tensor:
    """Accuracy [severities x seeds, chips] of networks [seeds, ...]."""
    return _trainer().accuracy_on_chips(tiled(one, len(severities)), hardware, severities, seeds, chips)


def on_chips(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``simulated``: phase-change chips so many seconds after programming, and without compensation programming
    noise alone.
    """
    kind, seeds, chips = (config[name] for name in ("kind", "seeds", "chips"))
    device = torch.device(site["device"])
    own = {name: value.to(device) for name, value in params(kept("networks"), kind, seeds).items()}
    compensation, times = config["compensation"], config["seconds"]
    key: dict[str, object] = {"simulator": "ours", "kind": kind}
    cases = [f"pcm {compensation} {seconds:g}" for seconds in times]
    rows = _rows(_judged(own, PhaseChange(compensation), times, seeds, chips), seeds, cases, **key)
    if compensation == "none":
        noise = _judged(own, ProgrammingNoise(law="pcm"), [1.0], seeds, chips)
        rows += _rows(noise, seeds, ["programmed"], **key)
    return {"simulated": pd.DataFrame(rows)[_COLUMNS]}


def behind_wires(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``simulated``: without hardware, and with converters at both ends of arrays with wires."""
    kind, seeds = config["kind"], config["seeds"]
    device = torch.device(site["device"])
    own = {name: value.to(device) for name, value in params(kept("networks"), kind, seeds).items()}
    key: dict[str, object] = {"simulator": "ours", "kind": kind}
    rows = _rows(_trainer().accuracy(own)[:, None], seeds, ["ideal"], **key)
    chip = Composite((DAC(), IRDrop(), ADC()))
    severities = [(BITS[0], ohm, BITS[1]) for ohm in config["ohms"]]
    cases = [f"wires {ohm:g}" for ohm in config["ohms"]]
    rows += _rows(_judged(own, chip, severities, seeds, 1), seeds, cases, **key)
    return {"simulated": pd.DataFrame(rows)[_COLUMNS]}


def outputs(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``taken``: for the first unaware network, by simulator, layer and ohm, the share of a layer's output that
    wires ``lost`` in our circuit and in theirs (least squares), and how far ``apart`` what they take away is, norm over
    norm; with ``_bit`` our circuit has bit lines alone, without resistance in its word lines.
    """
    plain = network("mlp")
    own = {name: value[0] for name, value in params(kept("networks"), "unaware", [0]).items()}
    x = digits().test_x[:PICTURES].flatten(1)
    rows = []
    for place, layer in enumerate(plain.layers):
        weight, bias = own[f"{layer}.weight"], own[f"{layer}.bias"]
        ideal = (x @ weight.mT).double()
        for ohm in OHMS:
            away, bit = (
                Crossbars(IRDrop(ratio=ratio), torch.tensor(ohm), "autograd", {})(layer, x, weight).double() - ideal
                for ratio in (1.0, 0.0)
            )
            for name in config["outputs"]:
                other = torch.from_numpy(kept(f"{name}_outputs")[f"{ohm:g}/{layer}"]).double() - ideal
                rows.append(
                    {
                        "simulator": {"crosssim": "CrossSim"}.get(name, name),
                        "layer": place,
                        "ohm": ohm,
                        "lost": float(-(away * ideal).sum() / ideal.square().sum()),
                        "lost_theirs": float(-(other * ideal).sum() / ideal.square().sum()),
                        "apart": float((other - away).norm() / away.norm()),
                        "lost_bit": float(-(bit * ideal).sum() / ideal.square().sum()),
                        "apart_bit": float((other - bit).norm() / bit.norm()),
                    }
                )
        x = (x @ weight.mT + bias).relu()
    return {"taken": pd.DataFrame(rows)}


def trained(config: Mapping[str, Any], site: Mapping[str, Any]) -> Tables:
    """Table ``trained``: networks that one library trained with noise on weights, on the chips of :data:`JUDGED`."""
    by, seeds, chips = (config[name] for name in ("by", "seeds", "chips"))
    source, prefix = ("networks", "aware") if by == "here" else ("aihwkit_trained", "")
    device = torch.device(site["device"])
    own = {name: value.to(device) for name, value in params(kept(source), prefix, seeds).items()}
    rows = _rows(_trainer().accuracy(own)[:, None], seeds, ["clean"], by=by)
    rows += _rows(_judged(own, WeightNoise(), [NOISE], seeds, chips), seeds, ["noise"], by=by)
    rows += _rows(_judged(own, PhaseChange("global"), [AGES["day"][0]], seeds, chips), seeds, ["day"], by=by)
    return {"trained": pd.DataFrame(rows)}


# ---------------------------------------------------------------------------------------------------- findings


def differences(simulated: pd.DataFrame) -> pd.DataFrame:
    """What others' accuracy is above ours in points, by ``simulator``, ``case``, ``kind`` and ``seed``."""
    theirs, _ = others()
    key = ["kind", "seed", "case"]
    ours = simulated[[*key, "accuracy", "spread"]].rename(columns={"accuracy": "ours", "spread": "ours_spread"})
    table = theirs.merge(ours, on=key)
    return table.assign(difference=table.accuracy - table.ours)


def by_seed(table: pd.DataFrame) -> pd.Series:
    """The mean difference of every seed, over both of its networks."""
    return table.groupby("seed")["difference"].mean()


def claims(tables: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """The claims about whole networks: seeds are the samples, both networks of one count once."""
    apart, taken, seen = (tables[name] for name in ("differences", "taken", "trained"))
    found: list[Claim] = []

    def alike(own: str, text: str, simulator: str, case: str) -> None:
        here = by_seed(apart[(apart.simulator == simulator) & (apart.case == case)])
        found.append(
            Claim(
                f"simulators.{own}",
                text,
                here.to_numpy(),
                "within",
                SIMULATORS_ALIKE,
                "simulators",
                unit="points",
                name="mean difference",
            )
        )

    words = {"none": "without compensation", "global": "with one factor per layer"}
    for age, (seconds, about) in AGES.items():
        for own, simulator in (("aihwkit", "aihwkit"), ("devices", "aihwkit devices")):
            for compensation, how in words.items():
                text = (
                    f"A phase-change chip after {about}, {how}: {SIMULATORS[simulator]} and we find the same accuracy"
                )
                alike(f"{age}.{compensation}.{own}", text, simulator, f"pcm {compensation} {seconds:g}")
    for own, simulator in (("devices", "aihwkit devices"), ("crosssim", "CrossSim")):
        text = f"Programming noise alone: {SIMULATORS[simulator]} and we find the same accuracy"
        alike(f"programmed.{own}", text, simulator, "programmed")
    for own, simulator in (("aihwkit", "aihwkit"), ("crosssim", "CrossSim")):
        for ohm in (0.0, *OHMS):
            behind = f"behind wires of {ohm:g} Ω" if ohm else "without wires"
            text = f"{BITS[1]:g}-bit converters {behind}: {SIMULATORS[simulator]} and we find the same accuracy"
            alike(f"wires.{ohm:g}.{own}", text, simulator, f"wires {ohm:g}")
    for own, simulator in (("aihwkit", "aihwkit"), ("crosssim", "CrossSim")):
        here = taken[taken.simulator == simulator].apart
        worst = float(np.max(here.to_numpy())) if len(here) else float("nan")
        found.append(
            Claim(
                f"simulators.taken.{own}",
                f"{SIMULATORS[simulator]}'s wires take from every layer's outputs what ours take",
                [],
                "<",
                WIRES_ALIKE,
                "simulators",
                name="largest relative difference",
                measured=(worst, (worst, worst)),
            )
        )
    for chip, about in JUDGED.items():
        sides = seen[seen.case == chip].pivot(index="seed", columns="by", values="accuracy")
        found.append(
            Claim(
                f"simulators.trained.{chip}",
                f"On chips with {about}, networks that aihwkit trained with noise do as well as those trained here",
                (sides["aihwkit"] - sides["here"]).to_numpy(),
                "within",
                TRAINED_ALIKE,
                "simulators",
                unit="points",
                name="mean difference",
            )
        )
    return found


def main(given: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The networks that go through other simulators, and what they gave.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", help="train the networks and keep them")
    commands.add_parser("export", help="write what a simulator is given").add_argument("file", type=Path)
    commands.add_parser("keep", help="keep what a simulator wrote").add_argument("folder", type=Path)
    options = parser.parse_args(given)
    if options.command == "train":
        _write(KEPT / "networks.npz", train())
    elif options.command == "export":
        export(options.file)
    else:
        keep(options.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
