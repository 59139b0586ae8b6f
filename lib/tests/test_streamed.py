"""Images from folders: the same whatever reads them, and a kill changes nothing."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bcebook.book.notebook import Chapter
from bcebook.chapters import catalog
from bcebook.chapters.registry import rooms
from bcebook.execution import choose
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import NETWORKS, STREAMED, StreamedSpec
from bcebook.runs.store import open_store
from bcebook.training import checkpoint, datasets, loop, models, pretrained, streamed
from bcebook.training.sessions import train_each

CPU = torch.device("cpu")
SPEC = StreamedSpec(name="imagenet", display="ImageNet-1k", num_classes=3, side=32, resized=36, mean=(0.5,) * 3,
                    std=(0.25,) * 3)
SETTINGS = dict(dataset="imagenet", model="resnet8", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2,
                batch_size=8, schedule="one-cycle", augmentation="da1", decay="global", weight_decay=5e-4)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """datasets/imagenet with 50 and 17 pictures of three kinds, of uneven sizes, and a hidden folder in each split."""
    monkeypatch.setitem(STREAMED, "imagenet", SPEC)
    draw, root = np.random.default_rng(0), tmp_path / "datasets"
    for split, count in (("train", 50), ("val", 17)):
        for name in ("n00", "n01", "n02", ".thumbnails"):
            (root / "imagenet" / split / name).mkdir(parents=True)
        (root / "imagenet" / split / ".thumbnails" / "1.png").write_bytes(b"")
        for i in range(count):
            pixels = draw.integers(0, 120, (*draw.integers(36, 60, 2), 3)).astype(np.uint8)
            pixels[..., i % 3] += 100  # red, green or blue
            Image.fromarray(pixels).save(root / "imagenet" / split / f"n0{i % 3}" / f"{i}.{'jpeg' if i % 2 else 'png'}")
    return root


def images(folder, seed: int = 0) -> streamed.Streamed:
    return streamed.Streamed(streamed.load("imagenet", folder), "da1", CPU, seed, NETWORKS["resnet8"])


def rest(source, first: int = 0) -> torch.Tensor:
    """The batches of the epoch from one on, images and labels in one row for each image."""
    batches = [source.chosen(i, 8) for i in range(first, source.batch_count(8))]
    return torch.cat([torch.cat([x.flatten(1), y[:, None]], 1) for x, y in batches])


def epoch(source) -> torch.Tensor:
    source.shuffle(8)
    return rest(source)


def test_an_epoch_is_the_same_for_any_number_of_workers_and_from_any_batch_on(folder, monkeypatch):
    monkeypatch.setattr(streamed, "cores", lambda: 2)
    one = images(folder)
    first, second = epoch(one), epoch(one)
    assert not torch.equal(first, second) and len(first) == 48  # of 50 pictures, eight at a time: two are left out
    assert len({row.numpy().tobytes() for row in first}) == 48
    monkeypatch.setattr(streamed, "MOST_WORKERS", 0)
    again, later = images(folder), images(folder)
    assert torch.equal(epoch(again), first) and not torch.equal(epoch(images(folder, seed=1)), first)
    again.shuffle(8)
    later.restore(again.state())
    assert torch.equal(rest(later, 3), second[24:])


def test_an_evaluation_sees_every_picture_once_in_order_from_its_middle_and_hidden_folders_are_no_class(folder):
    source = images(folder)
    assert source.num_classes == 3 and source.train_count == 50
    x, y = (torch.cat(parts) for parts in zip(*source.evaluation("test", 4), strict=True))
    files = source.splits["test"][0].samples
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
    source, config = streamed.load("imagenet", folder), RunConfig(**SETTINGS)
    whole, stop_after = loop.Training(config, source, CPU), (6, 8)  # between two epochs, and in the middle of one
    while not whole.done:
        whole.step()
        if whole.steps in stop_after:
            checkpoint.save(tmp_path / str(whole.steps), whole.steps, whole.state())
    for after in stop_after:
        second = loop.Training(config, source, CPU)
        second.resume(tmp_path / str(after))
        assert second.steps == after
        while not second.done:
            second.step()
        pairs = zip(whole.model.state_dict().values(), second.model.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) and repr(whole.history) == repr(second.history)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_named_and_stops_no_other_run(folder, tmp_path, monkeypatch, small, workers):
    monkeypatch.setattr(streamed, "cores", lambda: workers)
    victim = next((folder / "imagenet" / "train").rglob("*.jpeg"))
    victim.write_bytes(victim.read_bytes()[:200])
    store, config, other = open_store(tmp_path), RunConfig(**SETTINGS), small(epochs=1)
    problem, = train_each([config, other], store, progress=False, data_root=folder)
    assert str(victim) in problem and "\n" not in problem and "Traceback" not in problem
    assert store.has(other) and store.state(config) == "missing"  # not failed: the file can be replaced


def test_where_shared_memory_is_too_small_no_workers_share_it(folder, monkeypatch):
    monkeypatch.setattr(streamed, "cores", lambda: 1)
    for free, expected in ((10**9, 1), (1000, 0)):
        monkeypatch.setattr(streamed, "_shared_memory", lambda free=free: free)
        assert images(folder)._loader(None, [(0, 0)] * 72, 8).num_workers == expected


def test_folders_that_are_not_the_data_set_are_refused_in_one_sentence(folder, monkeypatch):
    monkeypatch.setitem(STREAMED, "imagenet", dataclasses.replace(SPEC, num_classes=1000))
    with pytest.raises(datasets.DataError, match="train has 3 classes and val 3, expected the same 1000"):
        streamed.load("imagenet", folder)
    val = folder / "imagenet" / "val"
    for path in list(val.glob("n*/*")):  # a flat folder, as the validation images are distributed
        path.rename(val / path.name)
    for says in ("n00", "val .* a folder for each class"):  # classes without an image, and none at all
        with pytest.raises(datasets.DataError, match=says) as error:
            streamed.load("imagenet", folder)
        assert "\n" not in str(error.value)
        for kind in val.glob("n??"):
            kind.rmdir()


def test_without_the_images_one_sentence_says_what_to_put_where_and_the_page_goes_on(tmp_path, capsys):
    configs = catalog.configs("fine_tuning", "paper")
    assert choose.train_missing(configs, tmp_path, "cpu") == []
    problem, = choose.left_out(configs, tmp_path)
    assert problem.startswith(f"{len(configs)} of the runs: ImageNet-1k is not here; ") and str(tmp_path) not in problem
    assert all(f"datasets/imagenet/{split}" in problem for split in ("train", "val"))
    chapter = Chapter(rooms()["fine_tuning"], "paper", "cpu", str(tmp_path))
    assert chapter.runs() == [] and problem in capsys.readouterr().out
    verdicts = {each["finding"]["verdict"] for each in chapter.findings([]).payload["claims"]}
    assert verdicts == {"not run", "supported"}
    with pytest.raises(datasets.DataError, match="is not here"):
        streamed.load("imagenet", tmp_path / "datasets")


@pytest.mark.parametrize(("change", "says"), [
    ({"train_size": 100}, "leave out train_size"), ({"keep_features": 5}, "leave out keep_features"),
    ({"augmentation": "da1+da2"}, 'augmentation "none" or "da1"'), ({"model": "resnet8"}, "does not take")])
def test_what_a_streamed_data_set_cannot_be_asked_for_is_one_sentence(change, says):
    with pytest.raises(ValueError, match=says):
        RunConfig(**SETTINGS | {"model": "resnet50-224"} | change)


@pytest.mark.parametrize(("name", "dim", "count"), [("resnet50-224", 2048, 25_557_032),
                                                    ("densenet161-224", 2208, 28_681_000)])
def test_the_papers_networks_take_torchvisions_weights(name, dim, count, monkeypatch):
    """Their published sizes; and files whose layers have the older names ("norm.1") are understood."""
    import torchvision

    whole = torchvision.models.get_model(name.removesuffix("-224"), weights=None).eval()
    assert sum(p.numel() for p in whole.parameters()) == count
    older = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
             for key, value in whole.state_dict().items()}
    monkeypatch.setattr(pretrained, "weights", lambda network: older)
    model, x = models.build(name, 5, 3).eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        features, last = model(x)[1], whole.fc if hasattr(whole, "fc") else whole.classifier
        assert features.shape == (1, dim)
        assert torch.allclose(F.linear(features, last.weight, last.bias), whole(x), atol=1e-4)


def test_a_download_is_verified_and_a_missing_network_is_one_sentence(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    says = r"ResNet50 could not be downloaded \(no network\); .*resnet50-0676ba61.pth"
    with pytest.raises(pretrained.NoWeights, match=says):
        pretrained.weights("resnet50-224")
    (tmp_path / "checkpoints" / "resnet50-0676ba61.pth").write_bytes(b"other bytes")
    with pytest.raises(pretrained.NoWeights, match="fails the SHA-256 check"):
        pretrained.weights("resnet50-224")
