"""Backbones: the block loop is open_clip's, and nothing but a fitting file of tensors is ever loaded."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save, save_file

from lib.checks import ParameterError
from lib.prompts import backbone as backbones
from lib.prompts import world
from lib.prompts.backbone import Backbone, build_miniclip, load, read_state
from lib.runtime import stream
from paper.tools import pretrain


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load("miniclip", "random", seed=3)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return world.render(world.sample(6, stream(0, "backbone")), stream(0, "pictures"))


def test_towers_equal_open_clip(mini, pictures):
    texts = ["a photo of a red ring", "three things", "a small thing on the left"]
    with torch.no_grad():
        image = F.normalize(mini.model.visual((pictures - 0.5) / 0.25), dim=-1)
        text = mini.model.encode_text(mini.tokenizer(texts), normalize=True)
    torch.testing.assert_close(mini.image_features(pictures), image, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(mini.text_features(texts), text, atol=1e-6, rtol=1e-5)


def test_a_large_open_clip_vit_with_random_weights(pictures):
    """ViT-B-16-quickgelu: its own tokenizer, picture size and QuickGELU, all through the same block loop."""
    big = load("ViT-B-16-quickgelu", "random")
    assert (big.text_width, big.vision_width, big.text_layers, big.vision_layers) == (512, 768, 12, 12)
    texts = ["a photo of a cat", "a photo of a very large dog on a sofa"]
    with torch.no_grad():
        upright = F.interpolate(
            pictures[:1], size=(224, 224), mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
        mean, std = (
            torch.tensor(v)[:, None, None] for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        )
        image = big.model.encode_image((upright - mean) / std, normalize=True)
        text = big.model.encode_text(open_clip.get_tokenizer("ViT-B-16-quickgelu")(texts), normalize=True)
    torch.testing.assert_close(big.image_features(pictures[:1]), image, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(big.text_features(texts), text, atol=2e-5, rtol=1e-4)


def test_truncation_after_the_last_end_token_is_exact(mini):
    ids, end = mini.tokens(["a red ring", "a photo of a red ring"])
    assert ids.shape[1] == 8
    full = mini.tokenizer(["a red ring", "a photo of a red ring"])
    with torch.no_grad():
        long = mini.text_tower(mini.embed(full), full.argmax(1)[:, None])
        short = mini.text_tower(mini.embed(ids), end[:, None])
    torch.testing.assert_close(short, long, atol=1e-6, rtol=1e-5)


def test_random_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = load("miniclip", "random"), load("miniclip", "random"), load("miniclip", "random", seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(a.model.visual.proj, b.model.visual.proj)
    assert not torch.equal(a.model.visual.proj, c.model.visual.proj)


# -------------------------------------------------------------------------------------------- checkpoints
@pytest.mark.parametrize("suffix", ["safetensors", "pt", "bin"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "model."])
def test_a_local_checkpoint_is_loaded(mini, tmp_path, suffix, prefix):
    path = tmp_path / f"own.{suffix}"
    own = {name: value.clone() for name, value in mini.model.state_dict().items()}
    state = {prefix + name: value for name, value in own.items()} | {f"{prefix}attn_mask": torch.zeros(22, 22)}
    save_file(state, path) if suffix != "pt" else torch.save({"model": {"state_dict": state}, "epoch": 3}, path)
    again = load("miniclip", str(path))
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in own.items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_any_kind_of_floating_point_and_a_scale_in_brackets(mini, tmp_path, kind):
    state = {name: value.to(kind) for name, value in mini.model.state_dict().items()}
    torch.save(state | {"logit_scale": state["logit_scale"].reshape(1)}, tmp_path / "own.pt")
    again = load("miniclip", tmp_path / "own.pt")
    torch.testing.assert_close(again.model.visual.proj, mini.model.visual.proj, atol=2e-3, rtol=1e-2)
    assert again.model.logit_scale.shape == () and again.model.visual.proj.dtype == torch.float32


def test_saved_weights_come_back_to_half_precision(mini, tmp_path):
    path = tmp_path / "w.safetensors"
    assert pretrain.save_weights(mini.model, path) == backbones.checksum(path)
    again = load("miniclip", str(path)).model.state_dict()
    for name, value in mini.model.state_dict().items():
        torch.testing.assert_close(again[name], value, atol=1e-4, rtol=1e-3)
    assert not list(tmp_path.glob("*.tmp"))


def refused(path, backbone: str = "miniclip") -> str:
    with pytest.raises(ParameterError) as error:
        load(backbone, str(path))
    message = str(error.value)
    assert message.count("\n") == 0 and message.endswith(".") and message.startswith("pretrained must")
    return message


def test_missing_checkpoint(tmp_path):
    assert "none.pt" in refused(tmp_path / "none.pt")


def _texts():
    yield from (b"", b"hello", b"<!DOCTYPE html><html>404</html>", b"PK\x03\x04", b"N.", b".", b"\x80\x02}")
    yield b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    for names in (["a.txt"], ["x/data.pkl"], ["x/constants.pkl"], ["x/constants.pkl", "x/data.pkl"]):
        with zipfile.ZipFile(archive := io.BytesIO(), "w") as parts:
            for name in names:
                parts.writestr(name, b"hello")
        yield archive.getvalue()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_what_is_no_checkpoint(tmp_path, suffix):
    for text in _texts():
        (tmp_path / f"odd.{suffix}").write_bytes(text)
        assert "odd." in refused(tmp_path / f"odd.{suffix}"), text


def _saved(state, kind: str) -> bytes:
    if kind == "safetensors":
        return save(state)
    torch.save(state, file := io.BytesIO(), _use_new_zipfile_serialization=kind == "zip")
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path, kind):
    """Cut or with wrong bytes: the one sentence and nothing else, or where no checksum tells, what was read."""
    state = {"a.weight": torch.ones(3, 4), "b": torch.zeros(5)}
    whole, dice, refusals = _saved(state, kind), random.Random(kind), 0
    for damage in ("cut", "head", "tail", "magic") * 40:
        data = bytearray(whole)
        if damage == "cut":
            del data[dice.randrange(len(data)) :]
        elif damage == "magic":
            data[: dice.randint(1, 9)] = dice.randbytes(3)
        else:
            for _ in range(dice.choice([1, 4, 20])):
                place = dice.randrange(min(300, len(data)))
                data[place if damage == "head" else -1 - place] ^= 1 << dice.randrange(8)
        (tmp_path / "damaged").write_bytes(data)
        try:
            found = read_state(tmp_path / "damaged")
        except ParameterError as error:
            message = str(error)
            assert message.startswith("pretrained must") and message.endswith(".") and message.isprintable(), message
            refusals += 1
        else:
            assert kind != "zip" or all(torch.equal(value, found[name]) for name, value in state.items())
    assert refusals > 100


def test_a_zip_whose_tensors_changed_is_refused_by_its_checksums(tmp_path):
    data = bytearray(_saved({"a": torch.arange(1000.0)}, "zip"))
    data[data.index(torch.arange(1000.0).numpy().tobytes()) + 1234] ^= 1
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(ParameterError, match="is damaged"):
        read_state(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    "tensor, message",
    [
        (torch.full((128, 128), torch.nan), "NaN, infinite or too large numbers in text_projection"),
        (torch.eye(128).index_put((torch.tensor(3), torch.tensor(4)), torch.tensor(-torch.inf)), "NaN, infinite"),
        (torch.full((128, 128), 1e300, dtype=torch.float64), "too large numbers in text_projection"),
        (torch.zeros(128, 128), "nothing but zeros in text_projection"),
        (
            torch.ones(128, 128, dtype=torch.long),
            "something other than plain floating-point numbers in text_projection",
        ),
        (torch.ones(128, 128, dtype=torch.complex64), "something other than plain floating-point"),
        (torch.eye(128).to_sparse(), "something other than plain floating-point"),
        (torch.empty(128, 128, device="meta"), "something other than plain floating-point"),
    ],
)
def test_weights_that_cannot_have_been_trained(mini, tmp_path, tensor, message):
    torch.save(dict(mini.model.state_dict()) | {"text_projection": tensor}, tmp_path / "x.pt")
    assert message in refused(tmp_path / "x.pt")


def test_a_scale_that_overflows(mini, tmp_path):
    torch.save(dict(mini.model.state_dict()) | {"logit_scale": torch.tensor(1000.0)}, tmp_path / "x.pt")
    assert "too large numbers in logit_scale" in refused(tmp_path / "x.pt")


class _Code:
    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickle_with_code_is_never_executed(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save({"weight": _Code()}, tmp_path / "evil.pt")
    refused(tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


def test_checkpoint_of_another_architecture(mini, tmp_path):
    state = dict(mini.model.state_dict())
    wrong = tmp_path / "wrong.safetensors"
    save_file({**state, "text_projection": torch.zeros(64, 64)}, wrong)
    assert "has text_projection of shape (64, 64) instead of (128, 128)" in refused(wrong)
    save_file({**state, "positional_embedding": torch.ones(77, 128)}, wrong)
    assert "texts of 77 tokens instead of 22" in refused(wrong)
    save_file({**state, "visual.positional_embedding": torch.ones(50, 128)}, wrong)
    assert "pictures of 56 x 56 instead of 32 x 32" in refused(wrong)
    save_file({**state, "visual.positional_embedding": torch.ones(0, 128)}, wrong)
    refused(wrong)
    save_file({"text_model.encoder.layers.0.mlp.fc1.bias": torch.ones(8), "logit_scale": torch.ones(())}, wrong)
    assert "must have open_clip's names of tensors, but 'wrong.safetensors' has Hugging Face's (text_m" in refused(
        wrong
    )
    state.pop("visual.proj")
    save_file(state, wrong)
    assert "lacks visual.proj" in refused(wrong)
    twice = {**state, **{f"module.{name}": value + 1 for name, value in state.items()}}
    for other in ([1, 2, 3], {"a": "text"}, {}, {1: torch.ones(1)}, None, {"state_dict": "x"}, torch.ones(2), twice):
        torch.save(other, tmp_path / "other.pt")
        refused(tmp_path / "other.pt")
    with pytest.raises(ParameterError):
        read_state(tmp_path)


# ------------------------------------------------------------------------------------ QuickGELU and GELU
@pytest.fixture
def small(monkeypatch) -> Iterator[dict]:
    """Two models of one size, "small" and "small-quickgelu", as open_clip has many."""
    sizes = {
        "embed_dim": 16,
        "vision_cfg": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 16},
        "text_cfg": {"layers": 2, "width": 32, "heads": 2, "context_length": 12, "vocab_size": 49408},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", sizes)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-quickgelu", {**sizes, "quick_gelu": True})
    backbones.models.cache_clear()
    yield sizes
    backbones.models.cache_clear()


def _archive(name: str, path: Path) -> dict[str, torch.Tensor]:
    """A TorchScript archive in half precision with the buffers that OpenAI's have; gives its parameters."""
    model = load(name, "random", seed=5).model
    for buffer in ("input_resolution", "context_length", "vocab_size"):
        vars(model).pop(buffer, None)
        model.register_buffer(buffer, torch.tensor(7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pictures, ids = torch.ones(1, 3, 16, 16), torch.ones(1, 12, dtype=torch.long)
        torch.jit.trace(model, (pictures, ids), check_trace=False).half().save(str(path))
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("name, other", [("small", "small-quickgelu"), ("small-quickgelu", "small")])
def test_a_torchscript_archive_is_read_without_running_it_and_tells_its_activation(
    small, tmp_path, monkeypatch, name, other
):
    path = tmp_path / "ViT-B-16.pt"
    tensors = _archive(name, path)
    monkeypatch.setattr(torch.jit, "load", None)
    again = dict(load(name, path).model.named_parameters())
    assert again.keys() == tensors.keys()
    assert all(torch.equal(value.half().float(), again[key]) for key, value in tensors.items())
    with pytest.raises(ParameterError, match=f"backbone must be '{name}' with .*ViT-B-16.pt.*'{other}' was given"):
        backbones.check(other, path)


def test_a_name_in_a_torchscript_archive_that_is_no_tensors_is_never_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/constants.pkl", pickle.dumps(()))
        archive.writestr("evil/data.pkl", pickle.dumps(_Code()))
    assert "cannot be read" in refused(tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_reloaded_by_its_path_keeps_its_activation(small, tmp_path):
    """QuickGELU and GELU have the same tensors, so that the plain name would load either and only do worse."""
    tuned = load("small-quickgelu", "random")
    path = tmp_path / "tuned.pt"
    torch.save(tuned.model.state_dict(), path)
    with pytest.raises(ParameterError, match="must tell GELU from QuickGELU.*'small-quickgelu'.*'tuned-gelu.pt'"):
        load("small", path)
    texts = ["a cat", "a dog"]
    assert torch.equal(load("small-quickgelu", path).text_features(texts), tuned.text_features(texts))
    path.rename(tmp_path / "tuned-gelu.pt")
    assert not torch.equal(load("small", tmp_path / "tuned-gelu.pt").text_features(texts), tuned.text_features(texts))


@pytest.mark.parametrize(
    "file, quick",
    [
        ("vit_b_32-quickgelu-x.pt", True),
        ("a/mine_Quick-GELU.safetensors", True),
        ("quickgelu/mine-gelu.pt", False),
        ("vit_b_16-laion400m_e31-00efa78f.pt", False),  # as open_clip publishes them
        ("models--timm--vit_base_patch16_clip_224.openai/snapshots/1/open_clip_model.safetensors", True),
        ("CLIP-ViT-B-16-laion2B-s34B-b88K/open_clip_pytorch_model.bin", False),
        ("with_config/model.bin", True),
    ],
)
def test_what_a_files_surroundings_tell_of_its_activation(small, tmp_path, file, quick):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"unread")
    if "config" in file:
        path.with_name("open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 16, "quick_gelu": true}}')
    right, wrong = ("small-quickgelu", "small") if quick else ("small", "small-quickgelu")
    assert backbones.check(right, str(path)) == path
    with pytest.raises(ParameterError, match=f"backbone must be '{right}'"):
        backbones.check(wrong, str(path))


def test_every_published_checkpoint_goes_with_one_activation_and_the_default_with_its_own():
    for name, tag in open_clip.list_pretrained():
        if name in backbones.models():
            fits = open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False) == name.endswith("quickgelu")
            if fits:
                assert backbones.check(name, tag) == tag
                default = open_clip.get_pretrained_cfg(name, backbones.identity(name, "default"))
                assert default.get("quick_gelu", False) == name.endswith("quickgelu")
            else:
                with pytest.raises(ParameterError, match=f"backbone must be '{name}-quickgelu'"):
                    backbones.check(name, tag)


# ------------------------------------------------------------------------------------- names and messages
def test_each_model_of_open_clip_is_supported_or_refused_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__init__", None)
    for name in open_clip.list_models():
        if name in backbones.models():
            assert backbones.check(name, "random") == "random"
        else:
            with pytest.raises(ParameterError, match=f"class-token ViT.*ViT-B-16-quickgelu.*but '{name}' was given.$"):
                backbones.check(name, "random")
    refusable = {"RN50", "ViT-B-16-SigLIP", "roberta-ViT-B-32", "coca_ViT-B-32", "EVA02-B-16", "ViT-L-14-CLIPA"}
    assert len(backbones.models()) >= 30 and not refusable & {*backbones.models()}


@pytest.mark.parametrize("backbone", [None, 5, "", " ", "ViT-Z", "ViT-B/16", "hf-hub:a/b", ["miniclip"], {}])
def test_odd_backbones(backbone):
    with pytest.raises(ParameterError, match="^backbone must be 'miniclip' or .*[.]$"):
        load(backbone, "random")


@pytest.mark.parametrize(
    "pretrained", [None, 5, 1.5, True, b"x", "", " ", "/", ".", "a\0b", "x" * 5000, "~nobody/x", ["a"], {}, "OpenAI"]
)
@pytest.mark.parametrize("backbone", ["miniclip", "ViT-B-16"])
def test_odd_weights(backbone, pretrained):
    with pytest.raises(ParameterError, match="^pretrained must be default, random.* or an existing file, but .*[.]$"):
        backbones.check(backbone, pretrained)


def test_names_that_open_clip_does_not_have():
    with pytest.raises(ParameterError, match="pretrained must be default, random, laion400m_e31.*'no_such_tag'"):
        load("ViT-B-16", "no_such_tag")
    with pytest.raises(ParameterError, match="pretrained must be random or an existing file, but 'default'"):
        load("ViT-B-16-plus")


def test_a_download_that_fails_names_the_file_and_what_to_do(monkeypatch, caplog):
    def offline(*_, **__):
        raise OSError("no route to host\nat all")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(ParameterError, match="'openai'.*no route to host.;.*ViT-B-16.pt.*give its path as pretrained"):
        load("ViT-B-16-quickgelu", "openai")
    assert not caplog.records


def test_a_local_checkpoint_needs_no_home_and_says_nothing(small, tmp_path):
    (tmp_path / "own.json").write_text(json.dumps(small))
    code = """
import open_clip, torch; from lib.prompts.backbone import load
open_clip.add_model_config("own.json")
load()
torch.save(load("own", "random").model.state_dict(), "own.pt")
load("own", "own.pt").text_features(["a cat"])
"""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(backbones.__file__).parents[2]),
        "HOME": "/proc/none",
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---------------------------------------------------------------------------------------- shipped weights
def test_shipped_weights_are_what_the_record_says_and_small():
    record = backbones.record()
    assert backbones.checksum(backbones.WEIGHTS) == record["sha256"]
    assert backbones.WEIGHTS.stat().st_size < 5e6
    assert record["parameters"] == sum(p.numel() for p in build_miniclip().parameters())
    assert record["curve"][-1]["step"] == record["recipe"]["steps"]
    assert {"torch", "device_name", "seconds", "seeds"} <= set(record["provenance"])


def test_damaged_shipped_weights_are_refused(tmp_path, monkeypatch):
    bad = tmp_path / "miniclip.safetensors"
    data = bytearray(backbones.WEIGHTS.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    monkeypatch.setattr(backbones, "WEIGHTS", bad)
    with pytest.raises(ParameterError, match="SHA-256"):
        load()


def test_shipped_weights_reach_their_goals():
    table = {row["task"]: row["accuracy"] for row in pretrain.zero_shot(load(), pictures=600)}
    recorded = {row["task"]: row["accuracy"] for row in backbones.record()["zero_shot"]}
    for task, goal in pretrain.GOALS.items():
        assert recorded[task] >= goal, task
    for task, accuracy in table.items():
        assert accuracy == pytest.approx(recorded[task], abs=6), task


def test_pretraining_learns_and_writes_a_record(tmp_path, capsys):
    folder = tmp_path / "weights"
    arguments = [
        "--device",
        "cpu",
        "--out",
        str(folder),
        "--steps",
        "12",
        "--batch",
        "24",
        "--groups",
        "2",
        "--warmup",
        "2",
    ]
    assert pretrain.main(arguments) == 0
    record = json.loads((folder / "miniclip.json").read_text())
    assert record["sha256"] == backbones.checksum(folder / "miniclip.safetensors")
    assert record["recipe"]["steps"] == 12
    assert "counting" in capsys.readouterr().out
    curves = [
        pretrain.train(
            pretrain.Recipe(steps=8, batch=24, groups=2, warmup=2, rate=3e-3),
            torch.device("cpu"),
            lambda row: None,
            every=4,
        )[1]
        for _ in range(2)
    ]
    assert curves[0][0]["loss"] == curves[1][0]["loss"], "the same seed gives the same training"
    assert curves[0][1]["loss"] < curves[0][0]["loss"]


def test_pretraining_refuses_bad_options(tmp_path, capsys):
    assert pretrain.main(["--steps", "0", "--out", str(tmp_path / "x")]) == 2
    assert "steps must be an integer of at least 1" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
