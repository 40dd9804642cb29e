"""Pre-training on photographs: captions are true, the loss leaves out what is true, only what may be shown is."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lib.checks import ParameterError
from lib.prompts import backbone as backbones
from lib.prompts import photoclip
from lib.prompts.photographs import looks, words
from lib.runtime import stream
from paper import photo_questions, tiny_imagenet
from paper.photo_captions import Captions, true
from paper.studies.photo_world import PhotoWorld
from paper.tools import pretrain_photo as pretrain

ROOT = Path(__file__).resolve().parents[1]
SEEN = [place for place, one in enumerate(words.classes()) if one.seen]


# ------------------------------------------------------------------------------------------------ captions
def said() -> dict[str, set[str]]:
    """The phrases that are true of each class, read from the file by hand."""
    with (ROOT / "lib" / "prompts" / "photographs" / "classes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for row in rows:
        own = {row["name"], *row["synonyms"].split(";"), *row["general"].split(";"), "thing"} - {""}
        found[row["wnid"]] = own | ({"automobile"} if "car" in own else set())
    return found


def parsed(text: str) -> tuple[set[str], set[str]]:
    """The properties and the phrases that a caption names."""
    named = {" ".join(found) for found in re.findall(r"in a (tint|frame) of (\w+)", text)}
    text = re.sub(r" in a (tint|frame) of \w+", "", text)
    before, medium, after = text.partition(next((m for m in ("photo", "picture", "image") if f" {m}" in text), "\n"))
    if not medium:
        noun = text.removeprefix("a ")
    else:
        noun = after.removeprefix(" of a ")
        for colour in re.findall(r"(\w+) framed", before):
            named.add(f"frame {colour}")
        for word in re.sub(r"\w+ framed", "", before).split()[1:]:
            named.add(f"tint {word}" if word in words.COLOURS else word)
    both = re.fullmatch(r"(.+?) a(?: type of| kind of)? (.+)", noun)
    return named, set(both.groups() if both else [noun] if noun else [])


def test_a_caption_is_true_of_just_the_pictures_that_it_fits():
    labels, known = torch.tensor(SEEN), said()
    has = looks.looks(len(SEEN), stream(0, "looks"))
    texts, owner, kinds, named = Captions(3)(labels, has)
    truth = true(labels, has, kinds, named)
    shown = [{looks.PROPERTIES[place] for place in own.nonzero()[:, 0].tolist()} for own in has]
    for j, text in enumerate(texts):
        properties, phrases = parsed(text)
        fits = [
            properties <= shown[i] and phrases <= known[words.classes()[place].wnid] for i, place in enumerate(SEEN)
        ]
        assert fits == truth[:, j].tolist(), text
        assert truth[owner[j], j], "a caption is true of the picture that it was made for"
    assert len(texts) == len(SEEN) + round(0.35 * len(SEEN))
    assert (truth.sum(0) > 1).any() and named.any() and len(set(texts)) > 150
    assert photoclip.PhotoTokenizer()(texts).shape[0] == len(texts), "every word is known"


# ---------------------------------------------------------------------------------------------------- loss
def test_where_nothing_is_shared_the_loss_is_that_of_clip():
    logits = torch.randn(7, 7, generator=stream(0, "logits"))
    place = torch.arange(7)
    found = pretrain.contrastive(logits, torch.eye(7, dtype=torch.bool), place, 0.0)
    expected = (F.cross_entropy(logits, place) + F.cross_entropy(logits.T, place)) / 2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_what_is_true_by_chance_does_not_count(smoothing):
    generator = stream(1, "logits")
    logits = torch.randn(5, 8, generator=generator)
    owner = torch.tensor([0, 1, 2, 3, 4, 1, 3, 3])
    truth = F.one_hot(owner, 5).T.bool() | (torch.rand(5, 8, generator=generator) < 0.3)
    masked = truth & ~F.one_hot(owner, 5).T.bool()
    assert masked.any()
    changed = torch.where(masked, logits + 10 * torch.rand(logits.shape, generator=generator), logits)
    first, second = (pretrain.contrastive(one, truth, owner, smoothing) for one in (logits, changed))
    torch.testing.assert_close(first, second)
    # By loops: a caption's own picture against those that it is false of, and the other way round. A picture's captions
    # are not each other's rivals.
    terms = []
    for j, i in enumerate(owner.tolist()):
        rivals = [k for k in range(8) if k == j or not truth[i, k]]
        others = [k for k in range(5) if k == i or not truth[k, j]]
        for own, scores in ((rivals.index(j), logits[i, rivals]), (others.index(i), logits[others, j])):
            terms.append(F.cross_entropy(scores[None], torch.tensor([own]), label_smoothing=smoothing))
    torch.testing.assert_close(first, torch.stack(terms).mean())


def test_short_captions_first_changes_nothing():
    model = photoclip.build().eval()
    tokens = photoclip.PhotoTokenizer()(["a photo of a cat in a frame of red", "a cat", "a dark photo of a dog"])
    plain = pretrain.text_features(model, tokens)
    torch.testing.assert_close(pretrain.by_length(model, tokens), plain, atol=1e-5, rtol=1e-4)


def test_folding_is_exact():
    model = photoclip.build(training=True)
    generator = stream(0, "statistics")
    for one in model.visual.conv1.modules():
        if isinstance(one, torch.nn.BatchNorm2d):
            for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                values = torch.rand(one.num_features, generator=generator) + low
                getattr(one, name).data.copy_(values)
    stem, x = model.visual.conv1.eval(), torch.randn(4, 3, 32, 32, generator=generator)
    plain = photoclip.folded(stem)
    assert not any(isinstance(one, torch.nn.BatchNorm2d) for one in plain.modules())
    assert {name: own.shape for name, own in plain.state_dict().items()} == {
        name: own.shape for name, own in photoclip.build().visual.conv1.state_dict().items()
    }
    with torch.no_grad():
        torch.testing.assert_close(plain(x), stem(x), atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------ pictures
def encoded(value: int, side: int = 32, format: str = "PNG") -> bytes:
    """A picture whose every pixel holds a number below 2^24."""
    colour = (value >> 16, value >> 8 & 255, value & 255)
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, format)
    return out.getvalue()


def archive(path: Path, train: int = 3, val: int = 4, **change: bytes | None) -> Path:
    """A small Tiny ImageNet; those in ``change`` ("train/0/2": of the first class the third) are others or missing."""
    with tarfile.open(path, "w") as tar:
        for part, count in (("train", train), ("val", val)):
            for place, one in enumerate(words.classes()):
                for number in range(count):
                    content = change.get(f"{part}/{place}/{number}", encoded(place * 256 + number))
                    if content is not None:
                        # Out of order, as archives may be.
                        info = tarfile.TarInfo(f"{part}/{one.wnid}/{(7 * number) % 11}.jpg")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(tiny_imagenet, "KEPT", 1)


def test_only_what_may_be_shown_is_shown(tmp_path, few):
    found = tiny_imagenet.read(archive(tmp_path / "tiny.tar", train=5))
    shown = found.for_training()
    assert shown.shape == (160, 4, 3, 32, 32) and found.each == 4
    value = (shown.long() * torch.tensor([65536, 256, 1])[:, None, None]).sum(2)[:, :, 0, 0]
    # The number of a picture in its file's name is (7 n) mod 11: of 0, 7, 3, 10, 6 all but the first in that order.
    assert (value >> 8).tolist() == [[place] * 4 for place in SEEN]
    assert (value & 255).tolist() == [[2, 4, 1, 3]] * 160
    batches = pretrain.Batches(shown, SEEN, 0)
    drawn = []
    for _ in range(8):
        before = batches.order
        images, texts, truth, owner = batches()
        assert images.shape == (160, 3, 32, 32) and truth.shape == (160, len(texts)) and len(owner) == len(texts)
        assert owner[:160].tolist() == list(range(160)), "every class has its caption"
        drawn.append(before[:, 0] if before.shape[1] else None)
    # After four steps all pictures have been shown; the order of the first of each round is made within the step.
    assert drawn[0] is None and drawn[4] is None and batches.order.shape == (160, 0)
    rounds = torch.stack(drawn[1:4])
    assert all(len(set(one.tolist())) == 3 for one in rounds.T)
    # An unpacked folder is the same.
    with tarfile.open(tmp_path / "tiny.tar") as tar:
        tar.extractall(tmp_path / "folder", filter="data")
    again = tiny_imagenet.read(tmp_path / "folder")
    assert torch.equal(again.for_training(), shown) and torch.equal(again.held_out(), found.held_out())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train/0/1": None, "train/0/2": None}, "at least 2 pictures of every class in train, but 1 of n01443537"),
        ({f"val/7/{number}": None for number in range(4)}, "at least 1 pictures of every class in val, but 0 of"),
        ({"train/5/2": encoded(1, 64)}, "pictures of 32 x 32 pixels, but train/n.*jpg of 64 x 64 was given"),
        ({"val/5/2": encoded(1)[:40]}, r"intact pictures, but val/n\d+/3.jpg cannot be read"),
    ],
)
def test_an_archive_that_does_not_fit_is_refused(tmp_path, few, capsys, change, sentence):
    path = archive(tmp_path / "tiny.tar", **change)
    assert pretrain.main(["--archive", str(path), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert re.search(f"^archive must hold .*{sentence}", error) and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()


def test_a_missing_and_a_damaged_archive_are_refused(tmp_path, few, capsys):
    whole = archive(tmp_path / "tiny.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2 + 700])
    (tmp_path / "noise.tar.xz").write_bytes(b"\xfd7zXZ\0" + np.random.default_rng(0).bytes(4000))
    for name in ("none.tar", "cut.tar", "noise.tar.xz"):
        assert pretrain.main(["--archive", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("archive must be") and error.count("\n") == 1 and name in error, error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--steps", "0"], ["--aided", "2"], ["--smoothing", "1"], ["--pictures", "0"]])
def test_bad_options_are_refused_before_the_archive_is_read(tmp_path, capsys, options):
    assert pretrain.main([*options, "--archive", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"{options[0][2:]} must be")


# ------------------------------------------------------------------------------------------------ training
def test_a_training_writes_weights_that_load(tmp_path, few, capsys):
    path, out = archive(tmp_path / "tiny.tar"), tmp_path / "out"
    options = ["--archive", path, "--out", out, "--device", "cpu", "--steps", 2, "--warmup", 1, "--pictures", 4]
    assert pretrain.main([*map(str, options), "--resume"]) == 2
    assert capsys.readouterr().err.startswith("resume must be given with a folder that holds a training")
    assert pretrain.main([*map(str, options)]) == 0
    told = capsys.readouterr().out
    assert "seen_by_name" in told and "(goal 30)" in told and "accuracy" in told
    assert sorted(one.name for one in out.iterdir()) == ["photoclip.json", "photoclip.safetensors"]
    assert (out / "photoclip.safetensors").stat().st_size < 5e6
    record = json.loads((out / "photoclip.json").read_text())
    assert record["sha256"] == backbones.checksum(out / "photoclip.safetensors")
    assert record["data"]["sha256"] == backbones.checksum(path) and record["data"]["pictures_per_class"] == 2
    assert [row["task"] for row in record["zero_shot"]] == list(photo_questions.QUESTIONS)
    assert record["recipe"]["steps"] == record["curve"][-1]["step"] == 2
    loaded = photoclip.PhotoClip.load(str(out / "photoclip.safetensors"), "cpu", 0)
    assert sum(p.numel() for p in loaded.model.parameters()) == record["parameters"]
    assert loaded.zero_shot(torch.rand(2, 3, 32, 32), ["a photo of a cat", "a photo of a dog"]).shape == (2,)


def test_a_training_goes_on_from_its_checkpoint(tmp_path):
    pictures = torch.randint(0, 256, (6, 3, 3, 32, 32), generator=stream(0, "pictures"), dtype=torch.uint8)
    recipe, device = pretrain.Recipe(steps=6, warmup=2), torch.device("cpu")
    watch = pretrain.watched(pictures[:, :1], SEEN[:6], device)

    def run(*options: object) -> tuple[torch.nn.Module, list[dict]]:
        return pretrain.train(recipe, pictures, SEEN[:6], device, watch, rows.append, 2, *options)

    rows: list[dict] = []
    whole, curve = run()
    assert rows == curve and [row["step"] for row in curve] == [2, 4, 6]
    assert set(curve[0]) == {"step", "loss", "seconds", "accuracy", "scale"}
    assert not whole.training and "visual.conv1.0.weight" in whole.state_dict(), "normalisation is folded"
    kept, calls = tmp_path / "kept", []

    def killed(model: torch.nn.Module) -> dict:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return watch(model)

    with pytest.raises(KeyboardInterrupt):
        pretrain.train(recipe, pictures, SEEN[:6], device, killed, rows.append, 2, kept)
    again, same = run(kept, True)
    assert [row["loss"] for row in same] == [row["loss"] for row in curve]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    with pytest.raises(ParameterError, match="^resume must be given with the recipe and the pictures"):
        run(kept, True, "other pictures")
    kept.write_bytes(b"nothing")
    with pytest.raises(ParameterError, match="^resume must be given with a folder that holds"):
        run(kept, True)


# ----------------------------------------------------------------------------------------------- questions
class Oracle:
    """Answers by what is planted: a picture's features are the scores of all sentences."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores = scores

    def text_features(self, sentences: tuple[str, ...]) -> torch.Tensor:
        return torch.eye(len(sentences))

    def image_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.scores[(255 * images[:, 0, 0, 0]).round().long()]


def test_questions_count_what_is_right():
    held = torch.arange(200, dtype=torch.uint8)[:, None, None, None, None].expand(200, 8, 3, 32, 32)
    right = torch.zeros(200, 160)
    right[SEEN, range(160)] = 1.0
    (row,) = photo_questions.answers(Oracle(right), "seen_by_name", held, [1])
    assert (row["part"], row["pictures"], row["accuracy"], row["classes"]) == (1, 320, 100, 160)
    assert row["chance"] == pytest.approx(100 / 160)
    # Half of the classes are taken for the first one: they and it are told apart by nobody.
    right[SEEN[80:]] = F.one_hot(torch.tensor(0), 160).float()
    rows = photo_questions.answers(Oracle(right), "seen_by_name", held, range(4))
    assert [row["accuracy"] for row in rows] == [50.0] * 4 and sum(row["pictures"] for row in rows) == 1280
    # Among twenty of them the first is in one of eight choices only.
    (row,) = photo_questions.answers(Oracle(right), "twenty_of_seen", held, [0])
    assert row["classes"] == 20 and row["chance"] == 5 and 45 < row["accuracy"] < 62
    general = list(dict.fromkeys(one.general[0] for one in words.classes() if not one.seen))
    nearest = torch.zeros(200, len(general))
    for place, one in enumerate(words.classes()):
        if not one.seen:
            nearest[place, general.index(one.general[0])] = 1
    for name in ("unseen_by_kind", "unseen_by_true_kind"):
        (row,) = photo_questions.answers(Oracle(nearest), name, held, [3], 60)
        assert row["accuracy"] == 100 and row["pictures"] == 60 and row["classes"] == len(general)
    # Of two words that are true only one is the nearest.
    assert row["chance"] > 100 / len(general)


def test_looks_are_planted_as_the_sentences_say():
    asked = photo_questions.QUESTIONS["frame_colours"].ask()
    corner = asked.images[:, :, 0, 0]
    palette = torch.tensor(list(words.COLOURS.values()))
    assert torch.equal(torch.cdist(corner, palette).argmin(1), asked.labels)
    assert [sentence.split()[-1] for sentence in asked.sentences] == list(words.COLOURS)
    asked = photo_questions.QUESTIONS["looks"].ask()
    grey = (asked.images - asked.images.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5
    assert grey[asked.labels == 0].all() and grey[asked.labels != 0].float().mean() < 0.1


def test_the_study_asks_a_backbone_that_knows_nothing(tmp_path):
    given = dict(pretrained="random", device="cpu", pictures=30, results=str(tmp_path / "store"))
    result = PhotoWorld(task="objects,frame_colours", seeds=2, **given).run()
    table = result.tables["zero_shot"].set_index("task")
    assert table["pictures"].tolist() == [60, 60] and table["classes"].tolist() == [10, 6]
    assert (table["low"] < table["chance"] + 8).all() and (table["low"] < table["accuracy"]).all()
    assert [finding.id for finding in result.findings] == ["photo_world.objects", "photo_world.frame_colours"]
    one = PhotoWorld(task="objects", seeds=1, **given).run().tables["draws"]
    draws = result.tables["draws"]
    assert one["accuracy"].tolist() == draws[(draws["task"] == "objects") & (draws["seed"] == 0)]["accuracy"].tolist()
    with pytest.raises(ParameterError, match="^root must be a folder that holds Tiny ImageNet") as error:
        PhotoWorld(task="all", root=str(tmp_path), **given).run()
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not photoclip.WEIGHTS.is_file(), reason="PhotoCLIP's weights are not there: make pretrain")
def test_shipped_weights_reach_their_floors():
    record = photoclip.record()
    recorded = {row["task"]: row["accuracy"] for row in record["zero_shot"]}
    assert set(pretrain.GOALS) <= set(pretrain.FLOORS) <= set(recorded) == set(photo_questions.QUESTIONS)
    for task, floor in pretrain.FLOORS.items():
        assert recorded[task] >= floor, task
    assert photoclip.WEIGHTS.stat().st_size <= 5e6
    # On the pictures that are shipped, the weights do what their record says.
    table = pretrain.zero_shot(backbones.load(photoclip.NAME), pictures=150)
    assert [row["task"] for row in table] == list(photo_questions.SHIPPED)
    for row in table:
        assert row["accuracy"] == pytest.approx(recorded[row["task"]], abs=7), row["task"]
