"""Prompt learners on a frozen CLIP, each with or without a gate.

What is learned differs in where prompts enter and what ties them together (:data:`LEARNERS`). Text prompts stand in
front of the class name, or on both sides of it; vision prompts stand behind the patches; *deep* ones are replaced
before every block. A gate scales or selects learned prompts, ``p' = g(x) p``, before anything else happens to them.

A learner is stateless: its parameters are a tree, written for one replica and batched by :mod:`lib.replicas`.
open_clip's classes stay untouched. Symbols: B pictures, K classes, L layers with prompts, M tokens, d width (d_v in the
vision tower), E pool entries, U gate units, F width of the image feature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from lib import checks
from lib.checks import ParameterError
from lib.prompts import gates
from lib.prompts.backbone import Backbone
from lib.prompts.gates import linear_init
from lib.registry import Registry
from lib.replicas import Tree


@dataclass(frozen=True)
class Design:
    """Where a learner's prompts enter, and what ties them together.

    ``text`` and ``vision`` are "" (the tower is left as it is), "shallow" (before the first block) or "deep" (before
    every block). ``coupling`` maps prompts of one tower to the other's: "vision from text" or "both". ``conditional``
    adds a vector made from the picture to every text token; ``pool`` learns several prompts to choose from. With
    ``worded`` the original's text prompts start from the words :data:`WORDS`.
    """

    about: str
    text: str = ""
    vision: str = ""
    coupling: str = ""
    conditional: bool = False
    pool: bool = False
    worded: bool = False

    @property
    def sees(self) -> bool:
        """Does the vision tower take prompts, so that pictures must be encoded in every step?"""
        return bool(self.vision or self.coupling)

    @property
    def deep(self) -> bool:
        """Are prompts replaced before every block?"""
        return "deep" in (self.text, self.vision)


#: Learners by name.
LEARNERS: Registry[Design] = Registry(
    "learner",
    {
        "zero_shot": Design("the hand-written sentence, nothing learned"),
        "coop": Design("context tokens in front of the class name (Zhou et al. 2022)", text="shallow"),
        "cocoop": Design(
            "context tokens plus a vector that a small network makes from the picture (Zhou et al. 2022)",
            text="shallow",
            conditional=True,
            worded=True,
        ),
        "vpt_shallow": Design("tokens behind the patches, before the first block (Jia et al. 2022)", vision="shallow"),
        "vpt": Design("tokens behind the patches, before every block (Jia et al. 2022)", vision="deep"),
        "ivlp": Design(
            "deep prompts in both towers, independent of each other", text="deep", vision="deep", worded=True
        ),
        "maple": Design(
            "deep text prompts, mapped layer by layer to vision prompts (Khattak et al. 2023)",
            text="deep",
            coupling="vision from text",
            worded=True,
        ),
        "bimaple": Design(
            "deep prompts in both towers, each with a linear map of the other's added",
            text="deep",
            vision="deep",
            coupling="both",
            worded=True,
        ),
        "pool": Design(
            "a pool of contexts, of which a selector makes one (after Wang et al. 2022)", text="shallow", pool=True
        ),
    },
)
WORDS = "a photo of a"
"""The words from which contexts start where the original does so; further tokens, and deeper layers, are noise."""
STARTS = ("", "words", "noise")
"""How text prompts start: as the learner's original does, from :data:`WORDS`, or from noise alone."""
META = 16
"""CoCoOp's network from picture to context is this much narrower than the feature inside."""
POOL = 8
"""Contexts in a pool."""
SEQUENCE = 64
"""Class names are put behind one context up to about this many tokens; beyond, attention would cost more than it saves.
"""
KEPT = 160
"""Bytes that a step of training keeps for each block, token and channel of a tower (40 float32 numbers), as measured
on ViT-B/16."""


def grouped(count: int, length: int) -> int:
    """How many of ``count`` class names of so many tokens stand behind one context."""
    return max(1, min(count, SEQUENCE // length))


def laid_out(count: int, length: int, tokens: int) -> int:
    """Tokens in all sequences that ``count`` class names of ``length`` tokens make behind contexts of ``tokens``."""
    group = grouped(count, length)
    return math.ceil(count / group) * (1 + tokens + group * length)


def kept(design: Design, pictures: int, own: bool, text: Sequence[int], vision: Sequence[int]) -> int:
    """Bytes that a step of one replica keeps to differentiate the towers that its prompts enter.

    ``text`` and ``vision`` are blocks, tokens and channels of the towers: those of all class names together, and of a
    picture. With ``own`` every picture has prompts of its own, so that the text tower runs for each.
    """
    texts = (pictures if own or design.conditional else 1) * bool(design.text)
    return KEPT * (texts * math.prod(text) + pictures * design.sees * math.prod(vision))


def pairs(learners: Sequence[str], kinds: Sequence[str]) -> list[tuple[str, str]]:
    """The combinations of learners and gates that make sense: selectors choose from a pool, other gates scale.

    :class:`ParameterError` where a learner or gate would be left without a partner.
    """
    found = [
        (learner, kind)
        for learner in learners
        for kind in kinds
        if kind == "none" or (LEARNERS[learner].pool == gates.GATES[kind].selects and learner != "zero_shot")
    ]
    selectors = ", ".join(kind for kind, gate in gates.GATES.items() if gate.selects)
    for name, given, used in (
        ("learner", learners, {learner for learner, _ in found}),
        ("gate", kinds, {kind for _, kind in found}),
    ):
        for value in given:
            if value not in used:
                raise ParameterError(
                    f"{name} must have a partner ({selectors} with the learner pool, other gates with a learner other"
                    f" than pool and zero_shot), but {value!r} was given without one."
                )
    return found


@dataclass(frozen=True)
class Nudge:
    """Zero tensors at which the chain of gradients is taken apart.

    ``prompts`` are added to the prompts p'(x) that the gate returns (one entry per prompt tensor, [B, L, M, d]) and
    ``gate`` [B, U] to the pre-activations, so that their gradients are dL/dp'(x) and dL/dz(x), picture by picture.
    """

    prompts: Tree = field(default_factory=dict)
    gate: Tensor | None = None


class Learner:
    """One prompt learner for one task on one backbone.

    ``depth`` is the number of layers with prompts (0: what the learner and gate ask for), ``std`` the
    standard deviation of the initial tokens, ``pool`` the number of contexts to choose from. CoOp takes two
    further options: ``own`` learns a context per class, ``position`` "middle" puts half of it behind the
    class name. ``gate`` is a name from :data:`lib.prompts.gates.GATES` or "none".

    What is neither trained nor the same for all replicas of a batch is handed over as ``constants`` (a tree; without
    it the learner's own): the words of the task, as :meth:`words` gives them, and what changes a gate without
    changing its parameters: "bias" is added to its pre-activations after "temperature" has divided them, "shift" [F]
    and "map" [F, F] turn the feature x that it sees into (x - shift) map.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        classes: Sequence[str],
        *,
        template: str = "a photo of a {}",
        gate: str = "none",
        tokens: int = 4,
        depth: int = 0,
        std: float = 0.02,
        pool: int = POOL,
        own: bool = False,
        position: str = "end",
    ) -> None:
        self.name, self.design = name, LEARNERS[name]
        self.backbone = backbone
        self.tokens = checks.integer("tokens", tokens, 1)
        self.std = checks.number("prompt_std", std, above=0)
        self.own, self.position = own, checks.choice("position", position, ("end", "middle"))
        if gate != "none":
            pairs([name], [gate])
        self.layers = self._layers(checks.integer("depth", depth), gate)
        if (own or position == "middle") and (name != "coop" or self.layers > 1):
            raise ParameterError(
                f"own and position must be left alone unless the learner is coop with one layer, but {name} with"
                f" {self.layers} was given."
            )
        self.pool = checks.integer("pool", pool, 2) if self.design.pool else 1
        self.gate = (
            None if gate == "none" else gates.build(gate, self.layers, tokens, backbone.embed_dim, pool=self.pool)
        )
        self.classes = len(classes)
        self.constants = self.words(classes, template)

    def _layers(self, depth: int, gate: str) -> int:
        design, backbone = self.design, self.backbone
        towers = [
            count
            for used, count in ((design.text, backbone.text_layers), (design.sees, backbone.vision_layers))
            if used
        ]
        deepest = min(towers, default=1) if not design.pool else 1
        if not 0 <= depth <= deepest:
            raise ParameterError(
                f"depth must be an integer from 0 to {deepest} with this backbone, but {depth} was given."
            )
        return depth or (deepest if design.deep or (gate != "none" and gates.GATES[gate].deep) else 1)

    def words(self, classes: Sequence[str], template: str, room: tuple[int, int] = (0, 0)) -> Tree:
        """The words of a task with K classes, ready for the text tower.

        With text prompts: "start" [1, d], "names" [N, G T, d] and "end" [N, G], N sequences of G class names of T
        tokens (what follows the name included); otherwise "text" [K, F], the features of the sentences. ``room`` is a
        number of classes and of tokens to leave room for, so that tasks fit into one batch: classes that a
        task does not have are False in "present" [K] and get a logit of minus infinity. Own contexts belong to their
        classes: other tasks must have as many.
        """
        backbone = self.backbone
        if not classes or isinstance(classes, str):
            raise ParameterError(f"classes must be a list of names, but {classes!r} was given.")
        if len({template.format(name) for name in classes}) < len(set(classes)):
            raise ParameterError(f"template must have a place {{}} for the class name, but {template!r} was given.")
        count = max(len(classes), room[0])
        words = {"present": torch.arange(count, device=backbone.device) < len(classes)}
        if not self.design.text:
            text = backbone.text_features([template.format(name) for name in classes])
            return words | {"text": torch.cat([text, text[:1].expand(count - len(classes), -1)])}
        named = [*classes, *[classes[0]] * (count - len(classes))]
        ids, end = backbone.tokens([f"{name}{backbone.full_stop}" for name in named])
        names = backbone.embed(ids[:, 1:])
        names = torch.nn.functional.pad(names, (0, 0, 0, max(room[1] - names.shape[1], 0)))
        length = names.shape[1]
        if length + 1 + self.tokens > backbone.context_length:
            longest = int(end.argmax())
            raise ParameterError(
                f"tokens and each class name must fit together into a context of {backbone.context_length}, but"
                f" {self.tokens} tokens with {named[longest]!r}, which takes {int(end[longest])} more, were given."
            )
        words["start"] = backbone.embed(ids[:1, :1])[0]
        if self._alone:
            words |= {"names": names, "end": (end + self.tokens)[:, None]}
        else:
            # A sequence of about SEQUENCE tokens holds several names behind one context.
            group = grouped(count, length)
            fill = -count % group
            names = torch.cat([names, names[:fill]]).reshape(-1, group * length, names.shape[2])
            place = torch.cat([end, end[:fill]]).reshape(-1, group) + self.tokens
            words |= {"names": names, "end": place + length * torch.arange(group, device=backbone.device)}
        if self.position == "middle":
            # Row k: start, first half, the name's tokens, second half, the rest.
            front, whole = self.tokens // 2, length + 1 + self.tokens
            order = []
            for own in (backbone.tokens(named)[1] - 1).tolist():
                name = range(1 + self.tokens, 1 + self.tokens + own)
                rest = range(1 + self.tokens + own, whole)
                order.append([0, *range(1, 1 + front), *name, *range(1 + front, 1 + self.tokens), *rest])
            words["order"] = torch.tensor(order, device=backbone.device)
        return words

    @property
    def _alone(self) -> bool:
        """Does every class name need a sequence of its own?"""
        return self.own or self.position == "middle"

    # Parameters ------------------------------------------------------------------------------------
    def initial(self, generator: torch.Generator, std: float | None = None, start: str = "") -> Tree:
        """Fresh parameters of one replica; ``std`` replaces the learner's own, ``start`` is one of :data:`STARTS`.

        "prompt.tokens" [L, M, d] (own contexts: [L, M, K d]; a pool: [E, M, d], or fewer tokens where
        its gate puts entries together) and "prompt.vision" [L, M, d_v] are
        drawn from N(0, std²), linear maps as ``torch.nn.Linear`` draws them. Where text prompts start from words, these
        take the place of the noise in the first layer (of every entry of a pool, of every class's own context).
        """
        design, width, wide = self.design, self.backbone.text_width, self.backbone.vision_width
        std = self.std if std is None else std
        params: Tree = {}
        if design.text:
            rows, columns = self.pool if design.pool else self.layers, width * (self.classes if self.own else 1)
            count = self.tokens if self.gate is None else self.gate.entry
            tokens = torch.randn(rows, count, columns, generator=generator) * std
            if checks.choice("start", start, STARTS) == "words" or (not start and design.worded):
                ids, end = self.backbone.tokens([WORDS])
                words = self.backbone.embed(ids)[0, 1 : int(end[0])][:count].detach().cpu()
                first = rows if design.pool else 1
                tokens[:first, : len(words)] = words.repeat(1, columns // width)
            params["prompt.tokens"] = tokens
        if design.vision:
            params["prompt.vision"] = torch.randn(self.layers, self.tokens, wide, generator=generator) * std

        def maps(rows: int, columns: int, name: str) -> None:
            drawn = [linear_init(rows, columns, generator) for _ in range(self.layers)]
            params[f"coupling.{name}weight"] = torch.stack([weight for weight, _ in drawn])
            params[f"coupling.{name}bias"] = torch.stack([bias for _, bias in drawn])

        if design.coupling:
            maps(wide, width, "")
        if design.coupling == "both":
            maps(width, wide, "back.")
        if design.conditional:
            embed = self.backbone.embed_dim
            for name, (rows, columns) in {"in": (embed // META, embed), "out": (width, embed // META)}.items():
                params[f"meta.{name}.weight"], params[f"meta.{name}.bias"] = linear_init(rows, columns, generator)
        if self.gate is not None:
            params |= self.gate.initial(generator)
        return {name: value.to(self.backbone.device) for name, value in params.items()}

    def groups(self) -> dict[str, list[str]]:
        """Names of the parameters in each group: prompt, coupling, meta, gate."""
        found: dict[str, list[str]] = {}
        for name in self.initial(torch.Generator().manual_seed(0)):
            found.setdefault(name.partition(".")[0], []).append(name)
        return found

    def counts(self) -> dict[str, int]:
        """Number of trainable parameters in each group."""
        table = self.table()
        return table.groupby("group", sort=False)["parameters"].sum().to_dict()

    def table(self) -> pd.DataFrame:
        """Every trainable tensor: columns group, tensor, shape, parameters."""
        tree = self.initial(torch.Generator().manual_seed(0))
        rows = [(name.partition(".")[0], name, " x ".join(map(str, t.shape)), t.numel()) for name, t in tree.items()]
        return pd.DataFrame(rows, columns=["group", "tensor", "shape", "parameters"])

    def kept(self, pictures: int, own: bool) -> int:
        """:func:`kept` for this learner and its own classes."""
        backbone, names = self.backbone, self.constants.get("names", torch.empty(0, 0, 0))
        tokens = names.shape[0] * (1 + self.tokens + names.shape[1])
        text = (backbone.text_layers, tokens, backbone.text_width)
        vision = (backbone.vision_layers, backbone.patch_tokens + self.tokens, backbone.vision_width)
        return kept(self.design, pictures, own, text, vision)

    @staticmethod
    def prompts(params: Tree) -> Tree:
        """The learned prompts of a tree of parameters: what a gate acts on."""
        return {name: value for name, value in params.items() if name.startswith("prompt.")}

    # Forward pass ----------------------------------------------------------------------------------
    def logits(
        self,
        params: Tree,
        features: Tensor,
        patches: Tensor | None,
        *,
        gate: Tensor | None = None,
        nudge: Nudge | None = None,
        noise: Tensor | None = None,
        constants: Tree | None = None,
    ) -> Tensor:
        """Class logits [B, K].

        ``features`` [B, F] are the frozen unit image features, ``patches`` [B, 1 + P, d_v] the frozen tokens
        before the first vision block (learners with vision prompts only). ``gate`` [B, U] or [U] replaces the
        gate's own output: one row for all pictures is enough where the gate is held fixed. ``noise`` [B, U] is
        added to the pre-activations.
        """
        nudge, constants = nudge or Nudge(), constants or self.constants
        prompts = self.prompts(params)
        if self.gate is not None:
            if gate is None:
                z = self.preactivation(params, features, constants)
                for added in (nudge.gate, noise):
                    z = z if added is None else z + added
                gate = self.gate.activate(z)
            prompts = {name: self.gate.apply(gate, value) for name, value in prompts.items()}
        elif self.design.pool:
            prompts = {name: value.mean(0, keepdim=True) for name, value in prompts.items()}
        for name, added in nudge.prompts.items():
            prompts[name] = prompts[name] + added
        context, visual = prompts.get("prompt.tokens"), prompts.get("prompt.vision")
        if self.design.coupling:
            forth = _mapped(context, params["coupling.weight"], params["coupling.bias"])  # type: ignore[arg-type]
            if self.design.coupling == "both":
                back = _mapped(visual, params["coupling.back.weight"], params["coupling.back.bias"])  # type: ignore[arg-type]
                context, visual = context + back, visual + forth  # type: ignore[operator]
            else:
                visual = forth
        if self.design.conditional:
            hidden = torch.relu(features @ params["meta.in.weight"].T + params["meta.in.bias"])
            shift = hidden @ params["meta.out.weight"].T + params["meta.out.bias"]
            context = context + shift[..., None, None, :]  # type: ignore[operator]
        text = constants["text"] if context is None else self._text(context, constants)
        if visual is not None:
            features = self._image(visual, patches)  # type: ignore[arg-type]
        similarity = features @ text.T if text.ndim == 2 else (text @ features[..., None]).squeeze(-1)
        return self.backbone.scale * similarity.masked_fill(~constants["present"], -torch.inf)

    def shown(self, features: Tensor, constants: Tree | None = None) -> Tensor:
        """What the gate sees for pictures [B, F]: their features after "shift" and "map", or their neighbours'."""
        constants = self.constants if constants is None else constants
        if "map" in constants:
            features = (features - constants["shift"]) @ constants["map"]
        return features.roll(1, -2) if self.gate.shuffled else features

    def judged(self, params: Tree, shown: Tensor, constants: Tree | None = None) -> Tensor:
        """The gate's pre-activations [..., U] for what it is shown [..., F]."""
        constants = self.constants if constants is None else constants
        z = self.gate.preactivation(params, shown)
        return z / constants["temperature"] + constants["bias"] if "bias" in constants else z

    def preactivation(self, params: Tree, features: Tensor, constants: Tree | None = None) -> Tensor:
        """The gate's pre-activations [B, U] for pictures [B, F]."""
        return self.judged(params, self.shown(features, constants), constants)

    def gate_values(self, params: Tree, features: Tensor, constants: Tree | None = None) -> Tensor:
        """The gate's values [B, U] for pictures [B, F], without noise."""
        return self.gate.activate(self.preactivation(params, features, constants))

    def _text(self, prompts: Tensor, words: Tree) -> Tensor:
        """Prompts [L, M, d] or [B, L, M, d] -> text features [K, embed] or [B, K, embed]."""
        names, end = words["names"], words["end"]
        count, width = names.shape[0], names.shape[2]
        lead = prompts.shape[:-3]

        def rows(x: Tensor) -> Tensor:
            if self.own:
                return x.unflatten(-1, (count, width)).movedim(-2, -3)
            return x[..., None, :, :].expand(*lead, count, *x.shape[-2:])

        start = words["start"].expand(*lead, count, 1, width)
        x = torch.cat([start, rows(prompts[..., 0, :, :]), names.expand(*lead, *names.shape)], dim=-2)
        if "order" in words:
            x = x.gather(-2, words["order"][..., None].expand(*x.shape))

        def insert(layer: int, x: Tensor) -> Tensor:
            if layer >= self.layers:
                return x
            return torch.cat([x[..., :1, :], rows(prompts[..., layer, :, :]), x[..., 1 + self.tokens :, :]], dim=-2)

        shared = None if self._alone else (1 + self.tokens, names.shape[1] // end.shape[1])
        return self.backbone.text_tower(x, end, insert, shared).flatten(-3, -2)[..., : len(words["present"]), :]

    def _image(self, prompts: Tensor, patches: Tensor) -> Tensor:
        """Image features [B, embed] with prompts [L, M, d_v] or [B, L, M, d_v] behind the patches."""
        prompts = prompts.expand(*patches.shape[:-2], *prompts.shape[-3:])
        x = torch.cat([patches, self.backbone.pre_norm(prompts[..., 0, :, :])], dim=-2)

        def insert(layer: int, x: Tensor) -> Tensor:
            if layer >= self.layers:
                return x
            return torch.cat([x[..., : -self.tokens, :], prompts[..., layer, :, :]], dim=-2)

        return self.backbone.vision_tower(x, insert)


def _mapped(prompts: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Prompts [..., L, M, d] through each layer's own linear map [L, d', d] -> [..., L, M, d']."""
    return torch.einsum("...lmd,lvd->...lmv", prompts, weight) + bias[:, None]
