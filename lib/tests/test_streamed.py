"""Images from folders: the same whatever reads them, and a kill changes nothing."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bcebook.chapters import catalog
from bcebook.execution import choose
from bcebook.book.notebook import Chapter
from bcebook.chapters.registry import rooms
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import NETWORKS, STREAMED, StreamedSpec
from bcebook.runs.store import open_store
from bcebook.training import checkpoint, datasets, loop, measure, models, pretrained, streamed
from bcebook.training.sessions import train, train_each

CPU = torch.device("cpu")
SPEC = StreamedSpec(name="imagenet", display="ImageNet-1k", num_classes=3, side=32, resized=36, mean=(0.5,) * 3, std=(0.25,) * 3)
SETTINGS = dict(dataset="imagenet", model="resnet8", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2, batch_size=8,
                schedule="one-cycle", augmentation="da1", decay="global", weight_decay=5e-4)

@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A data folder with a small ImageNet-1k: 50 and 17 pictures of three kinds, of uneven sizes."""
    monkeypatch.setitem(STREAMED, "imagenet", SPEC)
    draw = np.random.default_rng(0)
    for split, count in (("train", 50), ("val", 17)):
        for i in range(count):
            size = draw.integers(36, 60, 2)
            pixels = draw.integers(0, 120, (*size, 3)).astype(np.uint8)
            pixels[..., i % 3] += 100  # red, green or blue
            path = tmp_path / "datasets" / "imagenet" / split / f"n0{i % 3}" / f"{i}.{'jpeg' if i % 2 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path


def images(folder, seed: int = 0, augmentation: str = "da1") -> streamed.Streamed:
    source = streamed.load("imagenet", folder / "datasets")
    return streamed.Streamed(source, augmentation, CPU, seed, NETWORKS["resnet8"])


def epoch(source, size: int = 8) -> list:
    source.shuffle(size)
    return [source.chosen(i, size) for i in range(source.batch_count(size))]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def test_an_epoch_is_the_same_for_any_number_of_workers_and_from_any_batch_on(folder, monkeypatch):
    one = images(folder)
    first, second = epoch(one), epoch(one)
    assert not same(first, second) and len(first) == 6  # 50 pictures, eight at a time: two are left out
    assert len({image.numpy().tobytes() for x, _ in first for image in x}) == 48
    monkeypatch.setattr(streamed, "MOST_WORKERS", 0)
    again = images(folder)
    assert same(epoch(again), first)
    again.shuffle(8)
    assert same([again.chosen(i, 8) for i in range(3, 6)], second[3:])
    later = images(folder)
    later.restore(again.state())
    assert same([later.chosen(i, 8) for i in range(2, 6)], second[2:])
    assert not same(epoch(images(folder, seed=1)), first)


def test_an_evaluation_sees_every_picture_once_in_order_from_its_middle(folder):
    source = images(folder)
    x, y = (torch.cat(parts) for parts in zip(*source.evaluation("test", 4), strict=True))
    files = streamed.load("imagenet", folder / "datasets").test.samples
    assert y.tolist() == [label for _, label in files] and len(files) == 17
    with Image.open(files[5][0]) as picture:
        scale = 36 / min(picture.size)
        small = picture.resize([int(size * scale) for size in picture.size], Image.BILINEAR)
    left, top = (round((size - 32) / 2) for size in small.size)
    by_hand = (np.asarray(small, float)[top:top + 32, left:left + 32] / 255 - 0.5) / 0.25
    assert np.abs(x[5].permute(1, 2, 0).numpy() - by_hand).max() <= 4.01 / 255  # a grey level of rounding
    x, y = (torch.cat(parts) for parts in zip(*source.evaluation("train"), strict=True))
    assert len(y) == 17 and np.bincount(y).min() >= 5  # as many as the test set has, of every class its share


def test_a_killed_run_goes_on_with_the_same_bits(folder, tmp_path):
    config, source = RunConfig(**SETTINGS), streamed.load("imagenet", folder / "datasets")
    whole = loop.Training(config, source, CPU)
    while not whole.done:
        whole.step()
    for after in (6, 8):  # between two epochs, and in the middle of one
        first = loop.Training(config, source, CPU)
        while first.steps < after:
            first.step()
        checkpoint.save(tmp_path / str(after), first.steps, first.state())
        second = loop.Training(config, source, CPU)
        second.resume(tmp_path / str(after))
        while not second.done:
            second.step()
        pairs = zip(whole.model.state_dict().values(), second.model.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) and repr(whole.history) == repr(second.history)


def test_hidden_folders_are_no_class(folder):
    for split in ("train", "val"):
        (folder / "datasets" / "imagenet" / split / ".thumbnails").mkdir()
        (folder / "datasets" / "imagenet" / split / ".thumbnails" / "1.png").write_bytes(b"")
    source = streamed.load("imagenet", folder / "datasets")
    assert source.classes == ("n00", "n01", "n02") and len(source.train) == 50


def test_a_flat_folder_of_validation_images_is_refused_in_one_sentence(folder):
    val = folder / "datasets" / "imagenet" / "val"
    for path in list(val.glob("*/*")):
        path.rename(val / path.name)
    for kind in list(val.iterdir()):
        if kind.is_dir():
            kind.rmdir()
    with pytest.raises(datasets.DataError, match="val .* a folder for each class") as error:
        streamed.load("imagenet", folder / "datasets")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named_and_stops_no_other_run(folder, monkeypatch, workers):
    monkeypatch.setattr(streamed, "MOST_WORKERS", workers)
    victim = next((folder / "datasets" / "imagenet" / "train").rglob("*.jpeg"))
    victim.write_bytes(victim.read_bytes()[:200])
    digits = RunConfig(dataset="digits", model="mlp", loss="ce", optimizer="sgd", learning_rate=0.1, epochs=1,
                       lambda_w=0, lambda_h=0, lambda_b=0)
    store = open_store(folder)
    problems = train_each([RunConfig(**SETTINGS), digits], store, progress=False, data_root=folder / "datasets")
    assert len(problems) == 1 and str(victim) in problems[0] and "\n" not in problems[0]
    assert store.has(digits) and store.state(RunConfig(**SETTINGS)) == "missing"  # not failed: the file can be replaced


def test_where_shared_memory_is_too_small_no_workers_share_it(folder, monkeypatch):
    monkeypatch.setattr(streamed, "cores", lambda: 1)
    for free, expected in ((10**9, 1), (1000, 0)):
        monkeypatch.setattr(streamed, "_shared_memory", lambda free=free: free)
        assert images(folder)._loader(None, [[(0, 0)] * 8] * 9).num_workers == expected


def test_without_the_images_one_sentence_says_what_to_put_where_and_the_page_goes_on(tmp_path, monkeypatch, capsys):
    configs = catalog.configs("fine_tuning", "paper")
    assert choose.train_missing(configs, tmp_path, "cpu") == []
    problem, = choose.left_out(configs, tmp_path)
    where = tmp_path / "datasets" / "imagenet"
    assert problem.startswith(f"{len(configs)} of the runs: ImageNet-1k is not here; ") and str(tmp_path) not in problem
    assert all(f"datasets/imagenet/{split}" in problem for split in ("train", "val"))
    chapter = Chapter(rooms()["fine_tuning"], "paper", "cpu", str(tmp_path))
    assert chapter.runs() == [] and problem in capsys.readouterr().out
    assert {each["finding"]["verdict"] for each in chapter.findings([]).payload["claims"]} == {"not run", "supported"}
    with pytest.raises(datasets.DataError, match="is not here"):
        streamed.load("imagenet", tmp_path / "datasets")
    (where / "train" / "one").mkdir(parents=True)
    (where / "val" / "one").mkdir(parents=True)
    for split in ("train", "val"):
        Image.new("RGB", (40, 40)).save(where / split / "one" / "a.png")
    with pytest.raises(datasets.DataError, match="train has 1 classes and val 1, expected the same 1000"):
        streamed.load("imagenet", tmp_path / "datasets")


def test_what_a_streamed_data_set_cannot_be_asked_for_is_one_sentence():
    good = dict(SETTINGS, model="resnet50-224")
    assert RunConfig(**good).key
    for change, says in (({"train_size": 100}, "leave out train_size"), ({"keep_features": 5}, "leave out keep_features"),
                         ({"augmentation": "da1+da2"}, 'augmentation "none" or "da1"'), ({"model": "resnet8"}, "does not take")):
        with pytest.raises(ValueError, match=says):
            RunConfig(**good | change)


@pytest.mark.parametrize(("name", "dim", "count"), [("resnet50-224", 2048, 25_557_032),
                                                    ("densenet161-224", 2208, 28_681_000)])
def test_the_papers_networks_take_torchvisions_weights(name, dim, count, monkeypatch):
    """Their published sizes; and files whose layers have the older names ("norm.1") are understood."""
    import torchvision

    torch.manual_seed(0)
    whole = torchvision.models.get_model(name.removesuffix("-224"), weights=None)
    assert sum(p.numel() for p in whole.parameters()) == count
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    older = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
             for key, value in state.items()}
    monkeypatch.setattr(pretrained, "weights", lambda network: older)
    model, x = models.build(name, 5, 3).eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        features = model(x)[1]
        last = whole.fc if hasattr(whole, "fc") else whole.classifier
        assert features.shape == (1, dim)
        assert torch.allclose(F.linear(features, last.weight, last.bias), whole.eval()(x), atol=1e-4)


def test_a_download_is_verified_and_a_missing_network_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(pretrained.NoWeights, match=r"ResNet50 could not be downloaded \(no network\); .*resnet50-0676ba61.pth"):
        pretrained.weights("resnet50-224")
    path = tmp_path / "checkpoints" / "resnet50-0676ba61.pth"
    path.write_bytes(b"other bytes")
    with pytest.raises(pretrained.NoWeights, match="fails the SHA-256 check"):
        pretrained.weights("resnet50-224")
