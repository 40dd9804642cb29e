"""PhotoCLIP: a small ``open_clip.CLIP`` that this project has trained on photographs (Tiny ImageNet at 32 x 32).

It has MiniCLIP's towers. In place of the patch projection stands a small residual network, and its words are those of
:mod:`lib.prompts.photographs.words`. :func:`lib.prompts.backbone.load` knows it by name.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lib.checks import ParameterError
from lib.prompts import backbone as backbones
from lib.prompts.photographs import words

NAME = "photoclip"
WEIGHTS = backbones.WEIGHTS.with_name("photoclip.safetensors")
RECORD = WEIGHTS.with_suffix(".json")

CONFIGURATION: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": dict(image_size=32, patch_size=8, width=128, layers=3, head_width=32, mlp_ratio=4.0),
    "text_cfg": dict(context_length=26, vocab_size=len(words.vocabulary()), width=128, heads=4, layers=3),
}
"""open_clip's configuration; the patch embedding is replaced by a small residual network."""
STAGES = ((48, 2), (128, 2))
"""Channels and strides of that network; a last convolution of stride 2 makes tokens of what is left."""
MEAN, STD = (0.48, 0.45, 0.4), (0.27, 0.26, 0.28)
"""What is taken off photographs and what they are divided by, for red, green and blue."""


class PhotoTokenizer(backbones.WordTokenizer):
    """Words to ids, one word one token: ``tokenizer(["a photo of a tabby"])`` -> LongTensor [1, context]."""

    def __init__(self) -> None:
        super().__init__(CONFIGURATION["text_cfg"]["context_length"])
        self.ids = {word: index for index, word in enumerate(words.vocabulary())}

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        for text in [texts] if isinstance(texts, str) else texts:
            if unknown := [word for word in text.removesuffix(".").split() if word not in self.ids]:
                raise ParameterError(
                    f"text must use PhotoCLIP's {len(self.ids)} words, but {unknown[0]!r} in {text!r} was given."
                )
        return super().__call__(texts)


class Residual(nn.Module):
    """Two 3 x 3 convolutions whose result is added to their input [N, C, H, W]."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, 1, norm)
        self.second = _convolution(channels, channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W], not negative."""
        return F.relu(x + self.second(F.relu(self.first(x))))


def _convolution(channels: int, out: int, stride: int, norm: bool) -> nn.Module:
    """A 3 x 3 convolution, in training with batch normalisation behind it."""
    if not norm:
        return nn.Conv2d(channels, out, 3, stride, 1)
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out))


def _stem(width: int, norm: bool) -> nn.Sequential:
    """A residual network of stride 8 in place of one 8 x 8 patch projection."""
    layers: list[nn.Module] = []
    channels = 3
    for out, stride in STAGES:
        layers += [_convolution(channels, out, stride, norm), nn.ReLU(), Residual(out, norm)]
        channels = out
    return nn.Sequential(*layers, nn.Conv2d(channels, width, 3, 2, 1))


def build(training: bool = False) -> open_clip.CLIP:
    """An ``open_clip.CLIP`` of PhotoCLIP's size with fresh weights (from torch's global generator).

    For ``training`` batch normalisation stands behind the stem's convolutions; :func:`folded` takes it away again.
    """
    model = open_clip.CLIP(
        CONFIGURATION["embed_dim"],
        CLIPVisionCfg(**CONFIGURATION["vision_cfg"]),
        CLIPTextCfg(**CONFIGURATION["text_cfg"]),
    )
    model.visual.conv1 = _stem(CONFIGURATION["vision_cfg"]["width"], training)
    return model


def folded(stem: nn.Module) -> nn.Module:
    """A copy of a trained stem with every batch normalisation folded into the convolution in front of it."""
    match list(stem.children()):
        case [nn.Conv2d() as convolution, nn.BatchNorm2d() as norm]:
            return fuse_conv_bn_eval(convolution, norm)
    own = copy.deepcopy(stem)
    for name, part in stem.named_children():
        setattr(own, name, folded(part))
    return own


# ----------------------------------------------------------------------------------------------- loading
class PhotoClip:
    """What :mod:`lib.prompts.backbone` asks for by the name ``photoclip``."""

    configuration = CONFIGURATION

    @staticmethod
    def tokenizer() -> PhotoTokenizer:
        """Its words."""
        return PhotoTokenizer()

    @staticmethod
    def check(pretrained: str | Path) -> str | Path:
        """ "random" or the file of the weights; refuses what is neither, without loading it."""
        if pretrained in ("default", "random"):
            return WEIGHTS if pretrained == "default" else "random"
        if isinstance(pretrained, str | Path) and Path(pretrained).expanduser().is_file():
            return Path(pretrained).expanduser()
        raise ParameterError(
            f"pretrained must be default, random or an existing file, but {pretrained!r:.200} was given."
        )

    @classmethod
    def load(cls, pretrained: str | Path, device: torch.device | str, seed: int) -> backbones.Backbone:
        """As :func:`lib.prompts.backbone.load`."""
        source = cls.check(pretrained)
        if pretrained == "default":
            if not WEIGHTS.is_file() or not RECORD.is_file():
                raise ParameterError(
                    "pretrained must be 'random' or a checkpoint file, because PhotoCLIP's own weights are not"
                    " installed (run `make pretrain BACKBONE=photo`), but 'default' was given."
                )
            if backbones.checksum(WEIGHTS) != record()["sha256"]:
                raise ParameterError(
                    f"PhotoCLIP's weights must have their record's SHA-256, but {WEIGHTS.name} has another."
                )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build()
        if isinstance(source, Path):
            backbones.load_state(model, backbones.read_state(source), source.name)
        return backbones.Backbone(NAME, model, PhotoTokenizer(), torch.device(device), MEAN, STD)

    @classmethod
    def identity(cls, pretrained: str | Path) -> str:
        """As :func:`lib.prompts.backbone.identity`."""
        source = cls.check(pretrained)
        if source == WEIGHTS:
            # What is planned may be planned before they are there; loading them says so.
            return record()["sha256"] if RECORD.is_file() else "not installed"
        return backbones.checksum(source) if isinstance(source, Path) else source


@cache
def record() -> dict:
    """How the shipped weights were made: recipe, curve, seconds, machine, zero-shot table, checksum."""
    return json.loads(RECORD.read_text())


backbones.ELSEWHERE[NAME] = PhotoClip
