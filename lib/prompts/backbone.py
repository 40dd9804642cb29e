"""The frozen CLIP that prompts are learned on: MiniCLIP, any open_clip ViT, or a local checkpoint.

:func:`load` returns a :class:`Backbone`, which owns the block loop of both towers. The learners need that loop because
they insert prompts between blocks; open_clip's classes stay untouched, only their weights and sub-modules are used. All
functions here accept any number of leading dimensions and work under ``torch.func.vmap``.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lib.checks import ParameterError
from lib.prompts import world

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
    """Tensors of a checkpoint file: ``.safetensors``, or a torch file opened with ``weights_only=True``.

    Raises :class:`ParameterError` for a file that is missing, truncated, holds anything but tensors, or
    would run code on loading.
    """
    if not path.is_file():
        raise ParameterError(f"pretrained must be an existing checkpoint file, but {str(path)!r} was given.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ParameterError(
            f"pretrained must be a file of plain tensors, but {path.name!r} is a pickle with other"
            " objects or code in it (or is damaged), which is never loaded."
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as problem:
        reason = next(iter(str(problem).splitlines()), "it is empty")
        raise ParameterError(
            f"pretrained must be a complete checkpoint, but {path.name!r} cannot be read ({reason})."
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ParameterError(f"pretrained must hold a dictionary of tensors, but {path.name!r} holds something else.")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_state(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Puts tensors into a model after comparing names and shapes; :class:`ParameterError` names the first misfit."""
    wanted = model.state_dict()
    # Buffers such as attention masks are rebuilt by open_clip and may be present or absent in a file.
    needed = dict(model.named_parameters())
    for name, value in state.items():
        if name in wanted and wanted[name].shape != value.shape:
            raise ParameterError(
                f"pretrained must fit the backbone, but in {source!r} {name} has shape"
                f" {tuple(value.shape)} instead of {tuple(wanted[name].shape)}."
            )
    missing = [name for name in needed if name not in state]
    extra = [name for name in state if name not in wanted]
    if missing or (extra and not set(extra) <= {"input_resolution", "context_length", "vocab_size"}):
        what = f"lacks {missing[0]}" if missing else f"has the unknown tensor {extra[0]}"
        raise ParameterError(f"pretrained must fit the backbone, but {source!r} {what}.")
    model.load_state_dict({name: state[name] for name in needed}, strict=False)


# ---------------------------------------------------------------------------------------------- backbone
class Backbone:
    """A frozen CLIP with its tokenizer, and its two towers as functions that take prompts.

    Attributes: ``name``, ``model`` (an ``open_clip.CLIP`` in float32, evaluation mode, no gradients), ``tokenizer``,
    ``device``, ``text_width``, ``vision_width``, ``text_layers``, ``vision_layers``, ``embed_dim``, ``image_size``,
    ``scale`` (the logit scale, exp of the learned parameter), ``full_stop`` (what its training sentences end with).
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
        visual = getattr(model, "visual", None)
        supported = (
            isinstance(model, open_clip.CLIP)
            and hasattr(visual, "class_embedding")
            and getattr(visual, "pool_type", None) == "tok"
            and getattr(visual, "attn_pool", None) is None
            and model.text_pool_type == "argmax"
            and model.attn_mask is not None
        )
        if not supported:
            raise ParameterError(
                "backbone must be an open_clip CLIP with a class-token ViT and a causal text tower,"
                f" but {name!r} was given."
            )
        self.name, self.tokenizer, self.device = name, tokenizer, device
        self.full_stop = "" if isinstance(tokenizer, WordTokenizer) else "."
        self.model = model.to(device).float().eval().requires_grad_(False)
        self._mean = torch.tensor(mean, device=device)[:, None, None]
        self._std = torch.tensor(std, device=device)[:, None, None]
        self.text_width = model.token_embedding.weight.shape[1]
        self.vision_width = visual.class_embedding.shape[0]  # type: ignore[union-attr]
        self.text_layers = len(model.transformer.resblocks)
        self.vision_layers = len(visual.transformer.resblocks)  # type: ignore[union-attr]
        self.embed_dim = model.text_projection.shape[1]
        self.context_length = model.context_length
        self.image_size = visual.image_size[0]  # type: ignore[union-attr]
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
                    part,
                    size=(self.image_size, self.image_size),
                    mode="bicubic",
                    align_corners=False,
                    antialias=True,
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
def check(backbone: str, pretrained: str) -> None:
    """Refuses a backbone or checkpoint that cannot be loaded, without loading it (cheap)."""
    if backbone != NAME and backbone not in open_clip.list_models():
        raise ParameterError(
            f"backbone must be '{NAME}' or a name from open_clip.list_models(), but {backbone!r} was given."
        )
    if pretrained in ("random", "default"):
        return
    tags = open_clip.list_pretrained_tags_by_model(backbone) if backbone != NAME else []
    if pretrained in tags:
        quick = f"{backbone}-quickgelu"
        if pretrained == "openai" and quick in open_clip.list_models():
            raise ParameterError(
                f"backbone must be '{quick}' with pretrained 'openai' (those weights were trained with"
                f" QuickGELU), but {backbone!r} was given."
            )
        return
    if not Path(pretrained).is_file():
        allowed = ["default", "random", *tags]
        raise ParameterError(
            f"pretrained must be one of {', '.join(allowed)} or an existing checkpoint file, but"
            f" {pretrained!r} was given."
        )


def load(
    backbone: str = NAME, pretrained: str = "default", device: torch.device | str = "cpu", seed: int = 0
) -> Backbone:
    """Loads a frozen backbone::

        backbone    "miniclip" or any open_clip model with a class-token ViT, e.g. "ViT-B-16-quickgelu"
        pretrained  "default" (MiniCLIP's shipped weights; for an open_clip name its first published tag), "random"
                    (fresh weights from ``seed``: the null), an open_clip tag such as "openai" (downloaded by
                    open_clip), or the path of a local checkpoint (.safetensors, or a torch file of plain tensors)

    Raises :class:`ParameterError` with one sentence for anything that does not fit.
    """
    check(backbone, pretrained)
    device = torch.device(device)
    if backbone == NAME:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_miniclip()
        if pretrained != "random":
            path = WEIGHTS if pretrained == "default" else Path(pretrained)
            if pretrained == "default":
                _verify_shipped()
            load_state(model, read_state(path), path.name)
        return Backbone(backbone, model, WordTokenizer(), device, (0.5,) * 3, (0.25,) * 3)
    tags = open_clip.list_pretrained_tags_by_model(backbone)
    if pretrained == "default" and not tags:
        raise ParameterError(
            f"pretrained must be 'random' or a checkpoint file, because open_clip publishes no weights"
            f" for {backbone!r}, but 'default' was given."
        )
    tag = tags[0] if pretrained == "default" else pretrained
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = open_clip.create_model(backbone, pretrained=tag if tag in tags else None)
        except (OSError, RuntimeError, ValueError) as problem:
            raise ParameterError(_download_help(backbone, tag, problem)) from None
    if tag not in tags and tag != "random":
        load_state(model, read_state(Path(tag)), Path(tag).name)
    return Backbone(
        backbone,
        model,
        open_clip.get_tokenizer(backbone),
        device,
        model.visual.image_mean or open_clip.OPENAI_DATASET_MEAN,
        model.visual.image_std or open_clip.OPENAI_DATASET_STD,
    )


def _download_help(backbone: str, tag: str, problem: Exception) -> str:
    source = open_clip.get_pretrained_cfg(backbone, tag)
    where = source.get("url") or source.get("hf_hub") or "its publisher"
    reason = (str(problem).splitlines() or [type(problem).__name__])[0]
    return (
        f"pretrained must be reachable or a local file, but {tag!r} for {backbone!r} could not be downloaded"
        f" ({reason[:120]}); fetch it from {where} on another machine and give its path as pretrained."
    )


def _verify_shipped() -> None:
    if not WEIGHTS.is_file() or not RECORD.is_file():
        raise ParameterError(
            "pretrained must be 'random' or a checkpoint file, because MiniCLIP's own weights are not"
            " installed (run `make pretrain`), but 'default' was given."
        )
    expected = record()["sha256"]
    if checksum(WEIGHTS) != expected:
        raise ParameterError(
            f"MiniCLIP's weights must have the SHA-256 {expected[:12]}…, but {WEIGHTS.name} has"
            f" {checksum(WEIGHTS)[:12]}…."
        )


def identity(backbone: str, pretrained: str) -> str:
    """What tells one set of weights from another: a checksum for a file, the tag or name otherwise."""
    if backbone == NAME and pretrained == "default":
        return record()["sha256"]
    path = Path(pretrained)
    return checksum(path) if path.is_file() else pretrained


def record() -> dict:
    """How the shipped weights were made: recipe, curve, seconds, machine, zero-shot table, checksum."""
    return json.loads(RECORD.read_text())
