"""Hardware-aware training: fresh chips in every step, evaluation on chips never seen.

All replicas of one backward rule (seeds x severities) are one batch. A replica's random numbers come from
its seed alone: its images, its initial weights, its chips and its reads are the same at every severity and
under every rule, so that what differs between two replicas is what is being compared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lib import checks, replicas, runtime
from lib.hardware import networks
from lib.hardware.crossbars import Crossbars, draw_chip, draw_read
from lib.hardware.networks import LEARNED, Images, Network
from lib.hardware.numbers import Numbers, merged, of_kinds, selected
from lib.hardware.perturbations import Perturbation
from lib.replicas import Nested, Optimiser, Tree, flat, mapped

#: Learning rate of Adam everywhere.
RATE = 5e-3
#: Test images that are judged at once, and numbers that may be in memory at once, roughly (3 GB).
_PART = 2000
_NUMBERS = 8e8
#: Training images on which converters and statistics are calibrated.
CALIBRATION = 1200

#: Where the statistics of batch normalisation come from when a network is judged on a chip.
STATISTICS = ("off chip", "another chip", "each chip")

#: Which numbers of a chip a measure changes: (chip, parameters of the replica) -> chip.
Arrange = Callable[[Numbers, Nested], Numbers]


def tiled(tree: Nested, count: int) -> Nested:
    """One entry per seed [seeds, ...], repeated for ``count`` severities: [severities x seeds, ...].

    Severity by severity, so that neighbours in a batch cost the same to compute.
    """
    return mapped(lambda value: value.repeat(count, *(1,) * (value.dim() - 1)), tree)


def spread(per_seed: Sequence[Nested], count: int, device: torch.device) -> Nested:
    """One tree per seed as a batch [severities x seeds, ...] on ``device`` (an empty tree stays empty)."""
    return tiled(mapped(lambda value: value.to(device), replicas.stack(per_seed)), count)


def severity_of_replicas(severities: Sequence[object], seeds: Sequence[int], device: torch.device) -> Tensor:
    """[severities x seeds] (a composed chip has a vector for each): the severity of every replica."""
    return torch.tensor(severities, dtype=torch.float32, device=device).repeat_interleave(len(seeds), 0)


@dataclass(frozen=True)
class Trainer:
    """A network, its data and its batch size: everything that the trainings of one study share.

    Layers named ``digital`` stay in the computer: in training, calibration, diagnosis and judgement. The chips of the
    others are the same as without.
    """

    network: Network
    data: Images
    batch: int = 128
    digital: tuple[str, ...] = ()

    @classmethod
    def named(
        cls, network: str, data: str = "digits", root: str = "", batch: int = 128, digital: Sequence[str] = ()
    ) -> Trainer:
        """The trainer of a network and a data set by their names."""
        kept: tuple[str, ...] = digital  # type: ignore[assignment]
        return cls(networks.network(network, data, root), networks.dataset(data, root), batch, kept)

    def __post_init__(self) -> None:
        checks.integer("batch", self.batch, low=8)
        if self.digital:
            kept = checks.choices("digital", self.digital, self.network.layers)
            if len(kept) == len(self.network.layers):
                raise checks.ParameterError(f"digital must leave a layer on the chip, but {', '.join(kept)} was given.")
            object.__setattr__(self, "digital", kept)

    def crossbars(self, perturbation: Perturbation | None, severity: Tensor, rule: str, drawn: Numbers) -> Crossbars:
        """The product of all layers on one chip (see :class:`~lib.hardware.crossbars.Crossbars`)."""
        return Crossbars(perturbation, severity, rule, drawn, digital=self.digital)

    def weights(self, params: Nested) -> Tree:
        """The parameters that live in arrays."""
        names = (f"{layer}.weight" for layer in self.network.layers if layer not in self.digital)
        return {name: params[name] for name in names}

    def clipped(self, params: Nested, deviations: float) -> Nested:
        """Networks [replicas, ...] whose weights in arrays are cut off at so many standard deviations of their layer.

        A few large weights set the scale of a layer; without them all others are larger shares of full scale. What
        training "clips" after every step (Joshi et al. 2020), done once to a network that is finished.
        """
        checks.number("deviations", deviations, above=0)
        cut = {}
        for name, value in self.weights(params).items():
            bound = deviations * value.flatten(1).std(1).reshape(-1, *(1,) * (value.dim() - 1))
            cut[name] = value.maximum(-bound).minimum(bound)
        return {**params, **cut}

    def _fit(self, images: int, replicas: int) -> tuple[int, int | None]:
        """How many images fit into memory with all replicas, and how many replicas with all images (None: all)."""
        # Inputs of arrays are patches, about ten numbers for each current.
        each = 10 * sum(math.prod(shape.current) for shape in self.network.shapes.values())
        chunk = max(1, int(_NUMBERS / (each * images)))
        return max(1, min(images, int(_NUMBERS / (each * replicas)))), chunk if chunk < replicas else None

    # ------------------------------------------------------------------------------------------- random numbers
    def images(self, seed: int, step: int | str) -> Tree:
        """The training images and labels of one step."""
        picked = torch.randint(len(self.data.y), (self.batch,), generator=runtime.stream(seed, "images", step))
        return {"x": self.data.x[picked], "y": self.data.y[picked]}

    def chip(self, perturbation: Perturbation, seed: int, *names: str | int) -> Numbers:
        """The random numbers of the chip that these names stand for."""
        return draw_chip(perturbation, self.network.shapes, runtime.stream(seed, perturbation.name, *names))

    def read(self, perturbation: Perturbation, batch: int, seed: int, *names: str | int) -> Numbers:
        """The random numbers of one read of ``batch`` images."""
        source = runtime.stream(seed, perturbation.name, "read", *names)
        return draw_read(perturbation, self.network.shapes, batch, source)

    # ------------------------------------------------------------------------------------------------ training
    def objective(self, params: Nested, inputs: Nested, perturbation: Perturbation | None, rule: str) -> Tensor:
        """Cross-entropy of one replica on the images ``x``, ``y`` of ``inputs``, with its ``severity`` and the numbers
        of its ``chip`` and ``read``. What is learned of a chip lies in the branch :data:`LEARNED` of ``params``.
        """
        drawn = merged(inputs.get("chip", {}), inputs.get("read", {}), params.get(LEARNED, {}))
        crossbars = self.crossbars(perturbation, inputs.get("severity"), rule, drawn)  # type: ignore[arg-type]
        return cross_entropy(self.network(params, inputs["x"], crossbars), inputs["y"])

    def fork(self, seeds: Sequence[int], steps: int, device: torch.device) -> Tree:
        """The common starting point [seeds, ...] of all runs: each seed's network after a short clean training."""
        params = replicas.stack([self.network.initial(runtime.stream(seed, "initial")) for seed in seeds])
        params = {name: value.to(device) for name, value in params.items()}
        return self.train_clean(params, seeds, Optimiser("adam", RATE, steps, cosine=False))

    def train_clean(self, params: Tree, seeds: Sequence[int], optimiser: Optimiser, first: int = 0) -> Tree:
        """Ordinary training of one network per seed, from ``params`` [seeds, ...]; steps count from ``first``."""
        _, device = _extent(params)

        def inputs(step: int) -> Tree:
            return spread([self.images(seed, first + step) for seed in seeds], 1, device)

        def loss(one: Tree, drawn: Tree) -> Tensor:
            return self.objective(one, drawn, None, "unaware")

        return replicas.train(loss, params, inputs, optimiser, label="clean training").params

    def train_aware(
        self,
        start: Tree,
        perturbation: Perturbation,
        rule: str,
        severities: Sequence[object],
        seeds: Sequence[int],
        optimiser: Optimiser,
        first: int = 0,
        *,
        known: bool = False,
        clip: float | None = None,
        chips: int = 1,
    ) -> replicas.Training:
        """Hardware-aware training from ``start`` [seeds, ...]: replicas [severities x seeds].

        Every step has a fresh chip and a fresh read. ``known``: every step has the seed's first unseen chip instead,
        the one it will be judged on (chip in the loop). What a perturbation holds is measured at ``start``. ``clip``
        cuts the weights off at so many standard deviations of their layer, at the start and after every step (Joshi et
        al. 2020). With more ``chips`` a step descends the mean loss of so many chips and reads on the same images; the
        first of them is the one that it would have alone.
        """
        checks.integer("chips", chips, low=1)
        if clip is not None:
            checks.number("clip", clip, above=0)
        chips = chips if perturbation.random else 1
        _, device = _extent(start)
        repeat = len(severities)
        params = tiled(start, repeat)
        severity = severity_of_replicas(severities, seeds, device)
        kept = self.held(params, perturbation, severity)
        if perturbation.learned:
            quiet = self._no_chip(perturbation, severity)
            found = self.calibrate(params, perturbation, severity, merged(quiet, kept))
            params[LEARNED] = of_kinds(found, perturbation.learned)

        def inputs(step: int) -> Tree:
            at = first + step
            per_seed = []
            for seed in seeds:
                several = []
                for place in range(chips):
                    step_names = (at, place) if place else (at,)
                    names = ("unseen chip", 0) if known else ("training chip", *step_names)
                    chip = self.chip(perturbation, seed, *names)
                    read = self.read(perturbation, self.batch, seed, "training", *step_names)
                    several.append({"chip": chip, "read": read})
                per_seed.append({**self.images(seed, at), **(several[0] if chips == 1 else replicas.stack(several))})
            return given(spread(per_seed, repeat, device), kept, severity)

        if chips > 1:
            kept = mapped(lambda value: value.unsqueeze(1).expand(-1, chips, *value.shape[1:]), kept)

        def loss(one: Tree, drawn: Tree) -> Tensor:
            if clip is not None:
                one = self._projected(one, clip)
            if chips == 1:
                return self.objective(one, drawn, perturbation, rule)

            def on(hardware: Nested) -> Tensor:
                return self.objective(one, {**drawn, **hardware}, perturbation, rule)

            return torch.func.vmap(on)({name: drawn[name] for name in ("chip", "read")}).mean()

        def project(step: replicas.Step) -> None:
            # The gradient was taken at the weights cut off, and the update starts from there: projection after a step.
            for name, value in self.weights(self.clipped(step.params, clip)).items():  # type: ignore[arg-type]
                step.params[name].copy_(value)

        label = f"{self.network.name}, {perturbation.name}, {rule}"
        _, chunk = self._fit(self.batch * chips, len(severity))
        cut: dict[str, Any] = {} if clip is None else {"record": project, "record_at": range(optimiser.steps)}
        trained = replicas.train(loss, params, inputs, optimiser, chunk=chunk, label=label, **cut)
        return trained if clip is None else dataclasses.replace(trained, params=self.clipped(trained.params, clip))

    def _projected(self, one: Nested, clip: float) -> Nested:
        """The network of one replica, cut off; to a gradient it is as it was."""
        weights = self.weights(one)
        cut = self.clipped({name: value.detach()[None] for name, value in weights.items()}, clip)
        return {**one, **{name: cut[name][0] + (value - value.detach()) for name, value in weights.items()}}

    # ---------------------------------------------------------------------------------------------- calibration
    def calibrate(self, params: Nested, perturbation: Perturbation | None, severity: Tensor, chip: Numbers) -> Numbers:
        """What is calibrated on training images [replicas, ...]: ranges of converters, statistics of batches.

        ``chip`` are the numbers of the chip on which it is done; reads are left out. ``perturbation`` None: off chip.
        """
        # Every so many: pictures from a folder come class by class.
        x = self.data.x[:: max(1, len(self.data.x) // CALIBRATION)][:CALIBRATION].to(severity.device)
        # Reads without fluctuations: calibration averages them away.
        reads = {} if perturbation is None else self.read(perturbation, 1, 0)
        quiet = mapped(lambda value: torch.zeros((), device=severity.device), reads)

        def one(own: Nested, severity: Tensor, drawn: Numbers) -> Numbers:
            crossbars = self.crossbars(perturbation, severity, "autograd", merged(quiet, drawn))
            self.network(own, x, crossbars)
            return crossbars.calibrated

        known = merged(chip, params.get(LEARNED, {}))
        _, chunk = self._fit(len(x), len(severity))
        return torch.func.vmap(one, in_dims=(0, 0, 0 if known else None), chunk_size=chunk)(params, severity, known)

    def held(self, params: Nested, perturbation: Perturbation, severity: Tensor) -> Numbers:
        """What ``perturbation`` holds as it was at ``params`` [replicas, ...] (see ``Perturbation.held``)."""
        if not perturbation.held:
            return {}
        found = self.calibrate(params, perturbation, severity, self._no_chip(perturbation, severity))
        return of_kinds(found, perturbation.held)

    def _no_chip(self, perturbation: Perturbation, severity: Tensor) -> Numbers:
        """The numbers of chips [replicas, ...] on which nothing is left to chance."""
        chip = self.chip(perturbation, 0, "no chip")
        quiet = {
            layer: perturbation.parts_of(perturbation.without_chance(perturbation.own(parts)))
            for layer, parts in chip.items()
        }
        return mapped(lambda value: value.expand(len(severity), *value.shape).to(severity), quiet)

    # ----------------------------------------------------------------------------------------------- evaluation
    @torch.no_grad()
    def accuracy(self, params: Nested) -> Tensor:
        """Test accuracy [replicas] of plain networks [replicas, ...]."""
        count, device = _extent(params)
        severity = torch.zeros(count, device=device)
        return self._judged(params, None, severity, self._statistics(params, severity), None)

    def _statistics(self, params: Nested, severity: Tensor) -> Numbers:
        """The statistics of batch normalisation off chip; none where the network has none."""
        return self.calibrate(params, None, severity, {}) if self.network.normalised else {}

    def _judged(
        self,
        params: Nested,
        perturbation: Perturbation | None,
        severity: Tensor,
        drawn: Numbers,
        reads: Callable[[int, int], Numbers] | None,
    ) -> Tensor:
        """Share of test images that every replica gets right; ``reads`` draws for images from one number to another."""
        device = severity.device

        def logits(own: Nested, severity: Tensor, x: Tensor, drawn: Numbers) -> Tensor:
            known = merged(drawn, own.get(LEARNED, {}))
            return self.network(own, x, self.crossbars(perturbation, severity, "autograd", known))

        right = torch.zeros(len(severity), dtype=torch.float64, device=device)
        step, _ = self._fit(_PART, len(severity))
        for start in range(0, len(self.data.test_y), step):
            x, y = (part[start : start + step].to(device) for part in (self.data.test_x, self.data.test_y))
            own = merged(drawn, reads(start, len(y)) if reads else {})
            seen = torch.func.vmap(logits, in_dims=(0, 0, None, 0 if own else None))(params, severity, x, own)
            right += (seen.argmax(-1) == y).double().sum(-1)
        return (right / len(self.data.test_y)).cpu()

    @torch.no_grad()
    def accuracy_on_chips(
        self,
        params: Nested,
        perturbation: Perturbation,
        severities: Sequence[object],
        seeds: Sequence[int],
        chips: int,
        *,
        start: Tree | None = None,
        arrange: Arrange | None = None,
        statistics: str = "off chip",
    ) -> Tensor:
        """Test accuracy [severities x seeds, chips] of networks [severities x seeds, ...] on chips never seen.

        Where nothing is random all chips are the same one, and there is one column. Converters are calibrated on
        training images, on another chip. The ``statistics`` of batch normalisation are those of the network "off chip",
        on "another chip" (what training through chips leaves behind) or measured on "each chip" (recalibrated).
        ``start`` [seeds, ...]: where training began, for what the perturbation holds. ``arrange`` changes the numbers
        of every chip beforehand (a measure that knows the chip).
        """
        checks.choice("statistics", statistics, STATISTICS)
        _, device = _extent(params)
        repeat = len(severities)
        severity = severity_of_replicas(severities, seeds, device)
        kept = self.held(tiled(start, repeat), perturbation, severity) if start is not None else {}
        common = self._statistics(params, severity) if statistics == "off chip" else {}
        if perturbation.ranged or (self.network.normalised and statistics == "another chip"):
            own = spread([self.chip(perturbation, seed, "calibration chip") for seed in seeds], repeat, device)
            # What is there already is not calibrated again.
            found = self.calibrate(params, perturbation, severity, merged(own, kept, common))
            # The range of a converter is set once; statistics may be those of each chip.
            wanted = selected(found, lambda part, kind: kind == "range") if statistics == "each chip" else found
            common = merged(common, wanted)
        columns = []
        for chip in range(chips if perturbation.random else 1):
            numbers = spread([self.chip(perturbation, seed, "unseen chip", chip) for seed in seeds], repeat, device)
            if arrange is not None:
                numbers = arrange(numbers, params)
            drawn = merged(numbers, kept, common)
            if statistics == "each chip" and self.network.normalised:
                drawn = merged(drawn, self.calibrate(params, perturbation, severity, drawn))

            def reads(first: int, count: int, chip: int = chip) -> Numbers:
                names = ("unseen chip", chip, first)
                return spread([self.read(perturbation, count, seed, *names) for seed in seeds], repeat, device)

            columns.append(self._judged(params, perturbation, severity, drawn, reads))
        return torch.stack(columns, -1)


def given(drawn: Nested, kept: Numbers, severity: Tensor) -> Nested:
    """The inputs of a step: what was drawn, with what is ``kept`` among the numbers of the chip, and severities."""
    return {**drawn, "chip": merged(drawn["chip"], kept), "severity": severity}


def _extent(params: Nested) -> tuple[int, torch.device]:
    """How many replicas there are, and where."""
    first = next(iter(flat(params).values()))
    return len(first), first.device
