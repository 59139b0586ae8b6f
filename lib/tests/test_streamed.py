"""Images from folders: the same whatever reads them, a kill changes nothing, and two processes train as one that
accumulates their half-batches."""

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
from bcebook.science.losses import LOSSES
from bcebook.training import checkpoint, datasets, loop, measure, models, pretrained, streamed
from bcebook.training.sessions import train

CPU = torch.device("cpu")
SPEC = StreamedSpec(name="imagenet", display="ImageNet-1k", num_classes=3, side=32, resized=36, mean=(0.5,) * 3, std=(0.25,) * 3)
SETTINGS = dict(dataset="imagenet", model="resnet8", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2, batch_size=8,
                schedule="one-cycle", augmentation="da1", decay="global", weight_decay=5e-4)
# What each of two processes does: the same entry, the same run, and the first keeps the network that came out.
WORKER = """
import json, sys, torch
import bcebook.runs.specs as specs
specs.STREAMED["imagenet"] = specs.StreamedSpec(**json.loads(sys.argv[1]))
from pathlib import Path
from bcebook.execution.choose import train_missing
from bcebook.runs.config import RunConfig
from bcebook.training import loop, ranks

real = loop.Training._record
def record(self, *arguments):
    real(self, *arguments)
    if self.done and ranks.first():
        torch.save(self.model.state_dict(), sys.argv[4])
loop.Training._record = record
digits = dict(dataset="digits", model="mlp", loss="ce", optimizer="sgd", learning_rate=0.1, epochs=1, lambda_w=0,
              lambda_h=0, lambda_b=0)
said = train_missing([RunConfig(**json.loads(sys.argv[2])), RunConfig(**digits)], Path(sys.argv[3]), "cpu")
print(json.dumps(said) + "\\n", end="", flush=True)  # in one piece: two processes write here
"""


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


def accumulated(config, source) -> loop.Training:
    """One process that makes each step of two half-batches, every other image of the batch, with the batch statistics of
    each half; the running ones are those of the first."""
    training = loop.Training(config, source, CPU)
    model, optimizer = training.model, training.optimizer
    training._record(float("nan"), float("nan"))
    for number in range(config.epochs):
        training.images.shuffle(config.batch_size)
        training.model.train()
        losses = 0.0
        for index in range(training.batches):
            training.epoch, training.batch = number, index
            training._set_rate()
            x, y = training.images.chosen(index, config.batch_size)
            optimizer.zero_grad()
            for half in (0, 1):
                before = {name: value.clone() for name, value in model.named_buffers()}
                logits, _ = model(training.images.normalise(x[half::2]))
                loss = LOSSES[config.loss](logits, y[half::2], 0.0)
                (loss / 2).backward()
                losses += float(loss.detach()) * len(y[half::2])
                if half:
                    for name, value in model.named_buffers():
                        value.copy_(before[name])
            optimizer.step()
        training.epoch, training.batch = number + 1, 0
        training._record(config.rate(number + 1), losses / (training.batches * config.batch_size))
    return training


def test_two_processes_train_as_one_that_accumulates_their_halves(folder):
    config = RunConfig(**SETTINGS)
    script, weights = folder / "worker.py", folder / "weights.pt"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script,
               json.dumps(dataclasses.asdict(SPEC)), json.dumps(config.to_dict()), folder, weights]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    problems = sorted(map(json.loads, done.stdout.split("\n")[:2]), key=len)
    assert problems[0] == [] and problems[1][0].startswith("1 left out: torchrun's processes share only runs on ImageNet-1k")
    run = open_store(folder).find(config)
    assert run is not None and len(list((folder / "runs").glob("*/*.json"))) >= 1

    ours = accumulated(config, streamed.load("imagenet", folder / "datasets"))
    theirs = torch.load(weights, weights_only=True)
    for name, value in ours.model.state_dict().items():
        assert torch.allclose(theirs[name], value, atol=1e-5), name
    for name in ("train_loss", "test_accuracy", "test_uniform_accuracy", "train_accuracy", "learning_rate"):
        assert run.history[name] == pytest.approx(ours.history[name], abs=1e-5, nan_ok=True), name
    # and the figures over both processes are those of the whole test set, 17 pictures, in one process
    ours.model.load_state_dict(theirs)
    whole = measure.every_row(measure.outputs(ours.model, ours.images, "test", False))
    assert {name: run.final[name] for name in whole} == pytest.approx(whole, abs=1e-6)
    assert run.scores["test"]["positive"]["count"] == 17
    assert run.final["test_accuracy"] * 17 == pytest.approx(round(run.final["test_accuracy"] * 17))


def test_one_process_alone_gives_an_ordinary_run(folder):
    store, config = open_store(folder), RunConfig(**SETTINGS)
    run = train(config, store, "cpu", progress=False, data_root=folder / "datasets")
    assert store.find(config).final == run.final and 0 < run.final["test_uniform_accuracy"] <= run.final["test_accuracy"] <= 1


# --- the paper profile

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
