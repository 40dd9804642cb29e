"""Backbones: the block loop is open_clip's, and nothing but a fitting file of tensors is ever loaded."""

from __future__ import annotations

import json
import pickle

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

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
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_local_checkpoint_is_loaded(mini, tmp_path, suffix):
    path = tmp_path / f"own.{suffix}"
    state = {name: value.clone() for name, value in mini.model.state_dict().items()}
    if suffix == "pt":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, path)
    else:
        save_file(state, path)
    again = load("miniclip", str(path))
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in state.items())


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


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_truncated_checkpoint(mini, tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    if suffix == "pt":
        torch.save(mini.model.state_dict(), path)
    else:
        pretrain.save_weights(mini.model, path)
    path.write_bytes(path.read_bytes()[:200_000])
    assert "cut." in refused(path)


def test_empty_checkpoint(tmp_path):
    (tmp_path / "empty.pt").write_bytes(b"")
    refused(tmp_path / "empty.pt")


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
    assert "text_projection has shape (64, 64) instead of (128, 128)" in refused(wrong)
    state.pop("visual.proj")
    save_file(state, wrong)
    assert "lacks visual.proj" in refused(wrong)
    torch.save([1, 2, 3], tmp_path / "list.pt")
    refused(tmp_path / "list.pt")
    torch.save({"a": "text"}, tmp_path / "text.pt")
    refused(tmp_path / "text.pt")
    with pytest.raises(ParameterError):
        read_state(tmp_path)


def test_names_that_open_clip_does_not_have():
    with pytest.raises(ParameterError, match="backbone must be 'miniclip' or .*'ViT-Z'"):
        load("ViT-Z")
    with pytest.raises(ParameterError, match="pretrained must be one of default, random.*'no_such_tag'"):
        load("ViT-B-16", "no_such_tag")
    with pytest.raises(ParameterError, match="ViT-B-16-quickgelu.*QuickGELU"):
        load("ViT-B-16", "openai")
    with pytest.raises(ParameterError, match="class-token ViT"):
        load("RN50", "random")


def test_a_download_that_fails_names_the_file_and_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(ParameterError, match="'openai'.*no route to host.*give its path as pretrained"):
        load("ViT-B-16-quickgelu", "openai")


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
            pretrain.Recipe(steps=14, batch=24, groups=2, warmup=2, rate=3e-3),
            torch.device("cpu"),
            lambda row: None,
            every=7,
        )[1]
        for _ in range(2)
    ]
    assert curves[0][0]["loss"] == curves[1][0]["loss"], "the same seed gives the same training"
    assert curves[0][1]["loss"] < curves[0][0]["loss"]


def test_pretraining_refuses_bad_options(tmp_path, capsys):
    assert pretrain.main(["--steps", "0", "--out", str(tmp_path / "x")]) == 2
    assert "steps must be an integer of at least 1" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
