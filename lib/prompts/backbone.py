"""The frozen CLIP that prompts are learned on: MiniCLIP, any open_clip ViT, or a local checkpoint.

:func:`load` returns a :class:`Backbone`, which owns the block loop of both towers. The learners need that loop because
they insert prompts between blocks; open_clip's classes stay untouched, only their weights and sub-modules are used. All
functions here accept any number of leading dimensions and work under ``torch.func.vmap``.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import load_file
from torch import Tensor, nn

from lib import checks
from lib.checks import ParameterError
from lib.prompts import world
from lib.registry import Registry

NAME = "miniclip"
WEIGHTS = Path(__file__).parent / "weights" / "miniclip.safetensors"
RECORD = WEIGHTS.with_suffix(".json")

CONTEXT = 22
MINICLIP = {
    "embed_dim": 128,
    "vision_cfg": dict(image_size=world.SIZE, patch_size=8, width=128, layers=3, head_width=32, mlp_ratio=4.0),
    "text_cfg": dict(context_length=CONTEXT, vocab_size=len(world.WORDS), width=128, heads=4, layers=3),
}
"""open_clip configuration of MiniCLIP; the patch embedding is replaced by a small convolutional stem."""

ELSEWHERE: Registry[Any] = Registry("backbone", {})
"""Backbones that other modules of this package bring: classes with ``check``, ``load``, ``identity``, ``tokenizer`` and
``configuration``."""

Insert = Callable[[int, Tensor], Tensor]
"""What a learner does before block ``layer``: takes and returns the token sequence [..., T, width]."""


class WordTokenizer:
    """Words to ids, one word one token: ``tokenizer(["a red ring"])`` -> LongTensor [1, context]."""

    def __init__(self, context_length: int = CONTEXT) -> None:
        self.context_length = context_length
        self.ids = {word: index for index, word in enumerate(world.WORDS)}

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = torch.full((len(texts), self.context_length), self.ids[world.PAD], dtype=torch.long)
        for row, text in zip(tokens, texts, strict=True):
            # Its own captions end without a full stop; templates for other backbones may have one.
            words = [world.START, *text.removesuffix(".").split(), world.END]
            unknown = [word for word in words if word not in self.ids]
            if unknown:
                raise ParameterError(
                    f"text must use MiniCLIP's {len(self.ids)} words, but {unknown[0]!r} in {text!r} was given."
                )
            if len(words) > self.context_length:
                raise ParameterError(f"text must have at most {self.context_length - 2} words, but {text!r} was given.")
            row[: len(words)] = torch.tensor([self.ids[word] for word in words])
        return tokens


def _stem(width: int) -> nn.Sequential:
    """Stride-8 convolutions in place of one 8 x 8 patch projection, which does not learn shapes at this size."""
    layers: list[nn.Module] = []
    channels = 3
    for out, stride in ((32, 2), (64, 2), (96, 1)):
        layers += [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.GroupNorm(8, out), nn.GELU()]
        channels = out
    return nn.Sequential(*layers, nn.Conv2d(channels, width, 3, 2, 1, bias=False))


def build_miniclip() -> open_clip.CLIP:
    """An ``open_clip.CLIP`` of MiniCLIP's size with fresh weights (from torch's global generator)."""
    model = open_clip.CLIP(
        MINICLIP["embed_dim"],
        CLIPVisionCfg(**MINICLIP["vision_cfg"]),  # type: ignore[arg-type]
        CLIPTextCfg(**MINICLIP["text_cfg"]),  # type: ignore[arg-type]
    )
    model.visual.conv1 = _stem(MINICLIP["vision_cfg"]["width"])  # type: ignore[index]
    return model


# ----------------------------------------------------------------------------------------------- weights
def checksum(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint, whatever its suffix: safetensors, a torch file opened with ``weights_only=True``, or a
    TorchScript archive such as OpenAI's, whose code is never run.

    Raises :class:`ParameterError` for a file that is missing or damaged, or holds anything but tensors.
    """
    try:
        state = _read(path)
    except Exception as problem:  # damaged bytes make a reader raise anything
        pickled = "a pickle with other objects or code in it, which are never loaded, or damaged"
        reason = pickled if isinstance(problem, pickle.UnpicklingError) else checks.reason(problem)
        raise ParameterError(
            f"pretrained must be a complete file of plain tensors, but {path.name!r} cannot be read ({reason})."
        ) from None
    for key in ("model", "state_dict"):
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    given = state if isinstance(state, dict) else {}
    # DataParallel, torch.compile and Lightning put a prefix before every name.
    found = {re.sub(r"^((module|_orig_mod|model)\.)+", "", str(name)): value for name, value in given.items()}
    if not found or len(found) < len(given) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ParameterError(f"pretrained must hold a dictionary of tensors, but {path.name!r} holds something else.")
    return found


def _read(path: Path) -> object:
    """What a file holds; its first bytes tell the format."""
    with path.open("rb") as file:
        head = file.read(9)
        if head[8:] == b"{":
            return load_file(path)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():  # torch looks at no checksums
                    raise ValueError(f"{damaged} in it is damaged")
                if root := next((name[:-14] for name in archive.namelist() if name.endswith("/constants.pkl")), None):
                    return _Script(archive, root).tensors()
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


class _Script(pickle.Unpickler):
    """Reads a TorchScript archive: its own classes become inert, and of others only what a tensor needs is known."""

    KNOWN = {
        "torch._utils._rebuild_tensor_v2": lambda data, start, size, steps, *_: data.as_strided(size, steps, start),
        "collections.OrderedDict": dict,
        "torch.jit._pickle.build_intlist": list,
        **{
            f"torch.{kind}Storage": getattr(torch, kind.lower())
            for kind in "Half BFloat16 Float Double Int Long".split()
        },
    }

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self.archive, self.root, self.inert = archive, root, type("Inert", (), {})

    def find_class(self, module: str, name: str) -> object:
        return self.inert if module.startswith("__torch__") else self.KNOWN[f"{module}.{name}"]

    def persistent_load(self, key: tuple) -> Tensor:
        data = bytearray(self.archive.read(f"{self.root}/data/{key[2]}"))
        return torch.frombuffer(data, dtype=torch.uint8).view(key[1])

    def tensors(self, module: object = None, prefix: str = "") -> dict[str, Tensor]:
        """All tensors of the archive, or of a module in it, by their names."""
        found: dict[str, Tensor] = {}
        for name, value in vars(module or self.load()).items():
            if isinstance(value, self.inert):
                found |= self.tensors(value, f"{prefix}{name}.")
            elif isinstance(value, Tensor):
                found[prefix + name] = value
        return found


def load_state(model: open_clip.CLIP, state: dict[str, Tensor], source: str) -> None:
    """Puts tensors into a model if names, shapes and values fit; :class:`ParameterError` names the first misfit."""

    def misfit(what: str, must: str = "fit the backbone") -> ParameterError:
        return ParameterError(f"pretrained must {must}, but {source!r} {what}.")

    wanted, needed, patch = model.state_dict(), dict(model.named_parameters()), model.visual.patch_size[0]
    for name in sorted(state):
        if name.startswith(("text_model.", "vision_model.")):
            raise misfit(f"has Hugging Face's ({name})", "have open_clip's names of tensors")
        given, own = state[name].shape, wanted.get(name, state[name]).shape
        if given != own and not given.numel() == own.numel() == 1:
            sizes = ""
            if name == "positional_embedding":
                sizes = f" (texts of {given[:1].numel()} tokens instead of {own[0]})"
            elif name == "visual.positional_embedding":
                side = [int(abs(shape[:1].numel() - 1) ** 0.5) * patch for shape in (given, own)]
                sizes = f" (pictures of {side[0]} x {side[0]} instead of {side[1]} x {side[1]})"
            raise misfit(f"has {name} of shape {tuple(given)} instead of {tuple(own)}{sizes}")
    # Masks and sizes are rebuilt by open_clip and may be present or absent in a file.
    rebuilt = ("attn_mask", "input_resolution", "context_length", "vocab_size")
    missing = [name for name in needed if name not in state]
    extra = [name for name in state if name not in wanted and not name.endswith(rebuilt)]
    if missing or extra:
        raise misfit(f"lacks {missing[0]}" if missing else f"has the unknown tensor {extra[0]}")
    for name in needed:
        value, fault = state[name], ""
        if value.layout != torch.strided or value.is_meta or not value.is_floating_point():
            fault = "something other than plain floating-point numbers"
        elif not (value.float().exp() if name == "logit_scale" else value.float()).isfinite().all():
            fault = "NaN, infinite or too large numbers"
        elif value.dim() > 1 and not value.any():
            fault = "nothing but zeros"
        if fault:
            raise misfit(f"has {fault} in {name}", "hold trained weights")
    model.load_state_dict({name: state[name].reshape(own.shape) for name, own in needed.items()}, strict=False)


# ---------------------------------------------------------------------------------------------- backbone
class Backbone:
    """A frozen CLIP with its tokenizer, and its two towers as functions that take prompts.

    Attributes: ``name``, ``model`` (an ``open_clip.CLIP`` in float32, evaluation mode, no gradients), ``tokenizer``,
    ``device``, ``text_width``, ``vision_width``, ``text_layers``, ``vision_layers``, ``embed_dim``, ``image_size``,
    ``patch_tokens`` (of a picture, its class token included), ``scale`` (the logit scale, exp of the learned
    parameter), ``full_stop`` (what its training sentences end with).
    """

    def __init__(
        self,
        name: str,
        model: open_clip.CLIP,
        tokenizer: Callable[[Sequence[str]], Tensor],
        device: torch.device,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.name, self.tokenizer, self.device = name, tokenizer, device
        self.full_stop = "" if isinstance(tokenizer, WordTokenizer) else "."
        self.model = model.to(device).float().eval().requires_grad_(False)
        self._mean = torch.tensor(mean, device=device)[:, None, None]
        self._std = torch.tensor(std, device=device)[:, None, None]
        self.text_width = model.token_embedding.weight.shape[1]
        self.vision_width = model.visual.class_embedding.shape[0]
        self.text_layers = len(model.transformer.resblocks)
        self.vision_layers = len(model.visual.transformer.resblocks)
        self.embed_dim = model.text_projection.shape[1]
        self.context_length = model.context_length
        self.image_size = model.visual.image_size[0]
        self.patch_tokens = len(model.visual.positional_embedding)
        self.scale = float(model.logit_scale.exp())

    # Text ------------------------------------------------------------------------------------------
    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids [K, T], cut after the last end-of-text token, and its place in each row [K].

        The cut is exact: under the causal mask nothing before the end-of-text token sees what follows it.
        """
        ids = self.tokenizer(list(texts)).to(self.device)
        end = ids.argmax(1)
        # A tokenizer that cuts fills the whole context; MiniCLIP's refuses by itself.
        full = end == self.context_length - 1
        if full.any() and not isinstance(self.tokenizer, WordTokenizer):
            raise ParameterError(
                f"caption must take fewer than {self.context_length} tokens,"
                f" but {texts[int(full.int().argmax())]!r} was given."
            )
        return ids[:, : int(end.max()) + 1], end

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings without positions, [K, T] -> [K, T, text width]."""
        return self.model.token_embedding(ids)

    def text_tower(
        self, x: Tensor, end: Tensor, insert: Insert | None = None, shared: tuple[int, int] | None = None
    ) -> Tensor:
        """Embeddings without positions [..., N, T, width] -> unit text features [..., N, G, embed].

        ``end`` [N, G] are the places of the end-of-text tokens in each of the N sequences. A sequence holds one text
        (G = 1), or with ``shared`` = (front, length) G texts of ``length`` tokens that begin alike: their first
        ``front`` tokens stand there once, and a mask keeps the rest of the texts apart. That is exact, because under
        the causal mask a beginning does not see what follows it.
        """
        front, length = shared or (x.shape[-2], 0)
        if front + length > self.context_length:
            raise ParameterError(
                f"tokens must leave room in a context of {self.context_length}, but prompt and class"
                f" name take {front + length}."
            )
        place, mask = _side_by_side(front, length, end.shape[-1] if shared else 0, self.device)
        x = x + self.model.positional_embedding[place]
        mask = mask.to(x.dtype)
        index = end[..., None].expand(*x.shape[:-2], end.shape[-1], x.shape[-1])
        x = _tower(
            self.model.transformer.resblocks, x, mask, mask[end].unsqueeze(-3), insert, lambda t: t.gather(-2, index)
        )
        return F.normalize(self.model.ln_final(x) @ self.model.text_projection, dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Unit text features [K, embed] of whole sentences."""
        ids, end = self.tokens(texts)
        return self.text_tower(self.embed(ids), end[:, None]).squeeze(-2)

    # Vision ----------------------------------------------------------------------------------------
    @torch.no_grad()
    def patches(self, images: Tensor, batch: int = 256) -> Tensor:
        """Pictures [N, 3, S, S] in [0, 1] -> frozen class and patch tokens after ``ln_pre`` [N, 1 + P, width]."""
        visual, out = self.model.visual, []
        for part in images.split(batch):
            part = part.to(self.device)
            if part.shape[-1] != self.image_size:
                part = F.interpolate(
                    part, size=(self.image_size, self.image_size), mode="bicubic", align_corners=False, antialias=True
                ).clamp(0, 1)
            x = visual.conv1((part - self._mean) / self._std).flatten(2).transpose(1, 2)
            x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
            out.append(visual.ln_pre(x + visual.positional_embedding))
        return torch.cat(out)

    def pre_norm(self, prompts: Tensor) -> Tensor:
        """``ln_pre`` on prompt tokens [..., width], as they pass it together with the patches."""
        return self.model.visual.ln_pre(prompts)

    def vision_tower(self, x: Tensor, insert: Insert | None = None) -> Tensor:
        """Tokens after ``ln_pre`` [..., T, width], class token first -> unit image features [..., embed]."""
        visual = self.model.visual
        x = _tower(visual.transformer.resblocks, x, None, None, insert, lambda t: t[..., :1, :]).squeeze(-2)
        return F.normalize(visual.ln_post(x) @ visual.proj, dim=-1)

    @torch.no_grad()
    def image_features(self, images: Tensor, batch: int = 256) -> Tensor:
        """Unit image features [N, embed] of pictures [N, 3, S, S] in [0, 1]."""
        return torch.cat([self.vision_tower(self.patches(part)) for part in images.split(batch)])

    @torch.no_grad()
    def zero_shot(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Index [N] of the prompt that fits each picture best."""
        return (self.image_features(images) @ self.text_features(prompts).T).argmax(1)


@cache
def _side_by_side(front: int, length: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions [S] and mask [S, S] (0 or -inf) of ``front`` shared tokens and ``count`` texts that go on from there,
    ``length`` tokens each.
    """
    place = torch.cat([torch.arange(front), front + torch.arange(length).repeat(count)])
    text = torch.cat([torch.full((front,), -1), torch.arange(count).repeat_interleave(length)])
    seen = (place <= place[:, None]) & ((text == -1) | (text == text[:, None]))
    return place.to(device), torch.where(seen, 0.0, -torch.inf).to(device)


def _tower(
    blocks: nn.ModuleList,
    x: Tensor,
    mask: Tensor | None,
    last_mask: Tensor | None,
    insert: Insert | None,
    read: Callable[[Tensor], Tensor],
) -> Tensor:
    """All blocks on [..., T, width], and of the result the tokens [..., G, width] that ``read`` picks.

    The last block computes nothing but those tokens: the others matter there only as keys and values.
    """
    *early, last = blocks
    for layer, block in enumerate(early):
        x = _block(block, insert(layer, x) if insert and layer else x, mask)
    return _block(last, insert(len(early), x) if insert and early else x, last_mask, read)


def _block(
    block: open_clip.transformer.ResidualAttentionBlock,
    x: Tensor,
    mask: Tensor | None,
    read: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """One of open_clip's residual attention blocks on [..., T, width].

    Written out because ``nn.MultiheadAttention`` accepts neither extra leading dimensions nor, in all torch
    versions, ``vmap``; a test holds it equal to the block's own forward pass. With ``read`` only the tokens that it
    picks are computed, and ``mask`` holds their rows.
    """
    attention, width = block.attn, x.shape[-1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    normed = block.ln_1(x)
    asking, x = (normed, x) if read is None else (read(normed), read(x))
    query, key, value = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(-2, -3)
        for part in (
            F.linear(asking, weight[:width], bias[:width]),
            *F.linear(normed, weight[width:], bias[width:]).chunk(2, -1),
        )
    )
    weights = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        weights = weights + mask
    mixed = (weights.softmax(-1) @ value).transpose(-2, -3).flatten(-2)
    x = x + block.ls_1(attention.out_proj(mixed))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


# ---------------------------------------------------------------------------------------------- loading
@cache
def models() -> tuple[str, ...]:
    """open_clip's models that can be a backbone: OpenAI's architecture with a ViT and either GELU, in any size."""
    towers = "image_size patch_size head_width context_length vocab_size width heads layers mlp_ratio ls_init_value"
    known = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", *towers.split()}
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return tuple(
        name
        for name, own in configs.items()
        if {*own, *own["vision_cfg"], *own["text_cfg"]} <= known and isinstance(own["vision_cfg"]["layers"], int)
    )


def check(backbone: str, pretrained: str | Path) -> str | Path:
    """Refuses what cannot be loaded, without loading it (cheap); gives "random", a tag of open_clip, or a file.

    QuickGELU and GELU have the same tensors: weights of one load as the other and do worse. So what is known of their
    training must agree with the backbone's name, and where nothing is known the name of the file has to say it.
    """
    if str(backbone) in ELSEWHERE:
        return ELSEWHERE[backbone].check(pretrained)
    if not isinstance(backbone, str) or backbone not in (NAME, *models()):
        raise ParameterError(
            f"backbone must be '{NAME}' or one of open_clip's models with a class-token ViT, a causal text tower and"
            f" CLIP's own tokenizer ({', '.join(models())}), but {backbone!r:.200} was given."
        )
    quick = bool((open_clip.get_model_config(backbone) or {}).get("quick_gelu"))
    tags = open_clip.list_pretrained_tags_by_model(backbone)
    fitting = [tag for tag in tags if bool(open_clip.get_pretrained_cfg(backbone, tag).get("quick_gelu")) == quick]
    first = [WEIGHTS] if backbone == NAME else fitting[:1]
    if pretrained == "random" or pretrained in fitting or (pretrained == "default" and first):
        return first[0] if pretrained == "default" else str(pretrained)
    path = Path(os.path.expanduser(pretrained)) if isinstance(pretrained, str | Path) else Path()
    other = backbone.removesuffix("-quickgelu") if quick else f"{backbone}-quickgelu"
    if pretrained in tags:
        known: bool | None = not quick
    elif os.path.isfile(path):
        known = _activation(path) if other in models() else quick
    else:
        allowed = ", ".join([*["default"][: len(first)], "random", *fitting])
        raise ParameterError(f"pretrained must be {allowed} or an existing file, but {pretrained!r:.200} was given.")
    if known is None and not quick:
        raise ParameterError(
            f"pretrained must tell GELU from QuickGELU, which tensors do not, but {path.name!r} does not: name the"
            f" backbone {other!r} (OpenAI's weights and their descendants) or the file '{path.stem}-gelu{path.suffix}'."
        )
    if known not in (quick, None):
        raise ParameterError(
            f"backbone must be {other!r} with pretrained {str(pretrained)!r} (those weights were trained with"
            f" {'QuickGELU' if known else 'GELU'}), but {backbone!r} was given."
        )
    return path


def _activation(path: Path) -> bool | None:
    """Whether weights were trained with QuickGELU, or None: by the code in a TorchScript archive (read as text), the
    word in the file's name, a name under which open_clip publishes it, or a configuration beside it.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if code := [archive.read(name) for name in archive.namelist() if name.endswith(".py")]:
                return not any(b"torch.gelu(" in text for text in code)
    if word := re.search(r"(quick[-_]?)?gelu", path.name.lower()):
        return bool(word[1])
    names = {part.split("--")[-1] for part in path.absolute().parts}
    for published in (open_clip.get_pretrained_cfg(*pair) for pair in open_clip.list_pretrained()):
        if names & {published["url"].split("/")[-1], *published["hf_hub"].split("/")[1:2]}:
            return bool(published.get("quick_gelu"))
    config = path.with_name("open_clip_config.json")
    return re.search(r'"quick_gelu": *true', config.read_text("latin1")) is not None if config.is_file() else None


def load(
    backbone: str = NAME, pretrained: str | Path = "default", device: torch.device | str = "cpu", seed: int = 0
) -> Backbone:
    """Loads a frozen backbone::

        backbone    "miniclip", "photoclip" or one of models(), e.g. "ViT-B-16-quickgelu"
        pretrained  "default" (MiniCLIP's shipped weights; for an open_clip name the first published tag of its
                    activation), "random" (fresh weights from ``seed``: the null), an open_clip tag such as "openai"
                    (downloaded by open_clip), or the path of a local checkpoint (see read_state)

    Raises :class:`ParameterError` with one sentence for anything that does not fit.

    >>> load("miniclip", "random").image_size
    32
    """
    if str(backbone) in ELSEWHERE:
        return ELSEWHERE[backbone].load(pretrained, device, seed)
    device, source = torch.device(device), check(backbone, pretrained)
    if source == WEIGHTS:
        if not WEIGHTS.is_file() or not RECORD.is_file():
            raise ParameterError(
                "pretrained must be 'random' or a checkpoint file, because MiniCLIP's own weights are not"
                " installed (run `make pretrain`), but 'default' was given."
            )
        if checksum(WEIGHTS) != record()["sha256"]:
            raise ParameterError(
                f"MiniCLIP's weights must have their record's SHA-256, but {WEIGHTS.name} has another."
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if backbone == NAME:
            model = build_miniclip()
        elif isinstance(source, Path) or source == "random":
            # open_clip's own way of building it would log that nothing was loaded.
            model = open_clip.CLIP(**open_clip.get_model_config(backbone))
        else:
            published = open_clip.get_pretrained_cfg(backbone, source)
            try:
                open_clip.download_pretrained(published)  # first, as create_model logs a failure
                model = open_clip.create_model(backbone, pretrained=source)
            except Exception as problem:
                raise ParameterError(
                    f"pretrained must be reachable or a local file, but {source!r} for {backbone!r} could not be"
                    f" downloaded ({checks.reason(problem)}); fetch it from {published['url'] or published['hf_hub']}"
                    " on another machine and give its path as pretrained."
                ) from None
    if isinstance(source, Path):
        load_state(model, read_state(source), source.name)
    if backbone == NAME:
        return Backbone(backbone, model, WordTokenizer(), device, (0.5,) * 3, (0.25,) * 3)
    mean = getattr(model.visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
    std = getattr(model.visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
    return Backbone(backbone, model, open_clip.get_tokenizer(backbone), device, mean, std)


def identity(backbone: str, pretrained: str | Path) -> str:
    """What tells one set of weights from another: a checksum for a file, the tag or name otherwise."""
    if str(backbone) in ELSEWHERE:
        return ELSEWHERE[backbone].identity(pretrained)
    source = check(backbone, pretrained)
    return record()["sha256"] if source == WEIGHTS else checksum(source) if isinstance(source, Path) else source


def record() -> dict:
    """How the shipped weights were made: recipe, curve, seconds, machine, zero-shot table, checksum."""
    return json.loads(RECORD.read_text())
