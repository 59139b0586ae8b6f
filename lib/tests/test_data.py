import functools
import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from torchvision import datasets

from bcebook.training import datasets as data
from bcebook.paths import REPOSITORY

PACKED = REPOSITORY.parent / "shared" / "datasets" / "mnist"  # the original gzip files, on machines that have them


def test_digits_are_the_real_ones_split_once():
    from sklearn.datasets import load_digits

    digits, bunch = data.load("digits"), load_digits()
    together = np.concatenate([digits.x_train, digits.x_test])[..., 0]
    assert together.dtype == np.uint8 and together.shape == (1797, 8, 8)
    # Every image is one of scikit-learn's, each used once: compare as multisets, in the original 17 grey levels.
    ours = sorted(map(bytes, np.rint(together * (16 / 255)).astype(np.uint8)))
    assert ours == sorted(map(bytes, bunch.images.astype(np.uint8)))
    share = np.bincount(digits.y_test) / np.bincount(bunch.target)
    assert (abs(share - 0.2) < 0.01).all()


@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))])
def test_real_data_sets_are_verified(real, name, shape):
    dataset = real(name)
    assert dataset.x_train.shape[1:] == shape and len(dataset.x_test) == 10_000 and len(dataset.classes) == 10
    assert np.bincount(dataset.y_test).min() > 800


def test_subset_is_balanced_and_the_same_for_everyone():
    digits = data.load("digits")
    part = digits.subset(train_size=57)
    counts = np.bincount(part.y_train)
    assert counts.sum() == 57 and counts.max() - counts.min() <= 1
    assert (part.x_train == digits.subset(train_size=57).x_train).all() and part.x_test is digits.x_test
    larger = digits.subset(train_size=200)  # more images keep those of the smaller draw
    assert set(map(bytes, part.x_train)) <= set(map(bytes, larger.x_train))
    assert len(digits.subset(train_size=len(digits.y_train)).y_train) == len(digits.y_train)


def test_long_tail_has_the_asked_imbalance():
    counts = np.bincount(data.load("digits").subset(imbalance_factor=20).y_train)
    assert counts[0] // counts[-1] in (19, 20) and (np.diff(counts) < 0).all()
    ratios = counts[1:] / counts[:-1]
    assert abs(np.log(ratios) - np.log(20) / -9).max() < 0.12  # exponential, up to whole images
    with pytest.raises(ValueError, match="without an image"):
        data.load("digits").subset(imbalance_factor=1000)
    with pytest.raises(ValueError, match="train_size is 5;"):
        data.load("digits").subset(train_size=5)


def _offline(monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # the discard port: refused at once


def test_without_network_the_file_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    _offline(monkeypatch)
    with pytest.raises(data.DataError, match=r"mnist\.npz is missing and mnist could not be downloaded") as error:
        data.load("mnist", tmp_path)
    assert "internet" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_unknown_name():
    with pytest.raises(ValueError, match="no data set 'svhn'; choose one of digits"):
        data.load("svhn")


def test_a_damaged_file_is_never_used(real, tmp_path):
    real("mnist")
    whole = data.archive("mnist").read_bytes()
    path = tmp_path / "mnist.npz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(data.DataError, match=r"mnist\.npz cannot be read.*truncated"):
        data.load("mnist", tmp_path)
    with np.load(data.archive("mnist")) as stored:
        arrays = dict(stored)
    arrays["x_train"][12_345, 14, 14] ^= 1  # one bit of one pixel
    np.savez(path, **arrays)
    with pytest.raises(data.DataError, match="fails the SHA-256 check"):
        data.load("mnist", tmp_path)
    np.savez(path, **arrays | {"x_train": arrays["x_train"][:100]})
    with pytest.raises(data.DataError, match=r"x_train is uint8 \(100, 28, 28\), expected"):
        data.load("mnist", tmp_path)
    np.savez(path, x_train=arrays["x_train"])
    with pytest.raises(data.DataError, match="y_train"):
        data.load("mnist", tmp_path)


def test_torchvision_downloads_and_the_npz_is_written_once(tmp_path, monkeypatch):
    """The real download code over a real connection, from a server on this machine that has the original files."""
    if not PACKED.exists():
        pytest.skip("the original MNIST files are not beside the repository")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=PACKED))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_address[1]}/"])
    # The same images, compressed again: torchvision checks the compressed files, so it must expect these.
    files = [(name, hashlib.md5((PACKED / name).read_bytes()).hexdigest()) for name, _ in datasets.MNIST.resources]
    monkeypatch.setattr(datasets.MNIST, "resources", files)
    root = tmp_path / "datasets"
    dataset = data.load("mnist", root)  # passes the SHA-256 check
    server.shutdown()
    assert dataset.x_train.shape == (60_000, 28, 28, 1) and dataset.classes == tuple("0123456789")
    assert [path.name for path in root.iterdir()] == ["mnist.npz"]
    _offline(monkeypatch)
    assert (data.load("mnist", root).x_test == dataset.x_test).all()  # from the npz, without a network
