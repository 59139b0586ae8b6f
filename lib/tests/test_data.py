import dataclasses
import functools
import gzip
import hashlib
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torchvision import datasets

from bcebook.runs.specs import DATASETS
from bcebook.training import datasets as data
from bcebook.training.images import Images


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


def test_a_subset_is_balanced_the_same_for_everyone_and_what_is_held_out_is_the_rest():
    digits = data.load("digits")
    rows = lambda x: sorted(map(bytes, x.reshape(len(x), -1)))  # noqa: E731
    part, larger = digits.subset(train_size=57), digits.subset(train_size=1200)
    assert len(part.y_train) == 57 and np.ptp(np.bincount(part.y_train)) <= 1
    assert (part.x_train == digits.subset(train_size=57).x_train).all() and part.x_test is digits.x_test
    assert set(rows(part.x_train)) <= set(rows(larger.x_train))  # more images keep those of the smaller draw
    assert len(digits.subset(train_size=len(digits.y_train)).y_train) == len(digits.y_train)
    split = digits.subset(train_size=1200, held_out=True)
    assert (split.x_train == larger.x_train).all() and len(split.y_test) == len(digits.y_train) - 1200
    assert rows(np.concatenate([split.x_train, split.x_test])) == rows(digits.x_train)
    labels = np.concatenate([split.y_train, split.y_test])
    assert (np.bincount(labels) == np.bincount(digits.y_train)).all()
    assert np.ptp(np.bincount(split.y_test)) <= np.ptp(np.bincount(digits.y_train)) + 1  # as balanced as it can be
    with pytest.raises(ValueError, match="leave some"):
        digits.subset(train_size=len(digits.y_train), held_out=True)


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
    with pytest.raises(data.DataError, match=r"(?s)mnist\.npz is missing and mnist could not be downloaded.*internet"):
        data.load("mnist", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".mnist.lock"]
    with pytest.raises(ValueError, match="no data set 'svhn'; choose one of digits"):
        data.load("svhn")


def test_a_damaged_file_is_never_used(real, tmp_path):
    real("mnist")
    whole, path = data.archive("mnist").read_bytes(), tmp_path / "mnist.npz"
    with np.load(data.archive("mnist")) as stored:
        arrays = dict(stored)
    arrays["x_train"][12_345, 14, 14] ^= 1  # one bit of one pixel
    for write, says in ((lambda: path.write_bytes(whole[: len(whole) // 2]), r"mnist\.npz cannot be read.*truncated"),
                        (lambda: np.savez(path, **arrays), "fails the SHA-256 check"),
                        (lambda: np.savez(path, **arrays | {"x_train": arrays["x_train"][:100]}),
                         r"x_train is uint8 \(100, 28, 28\), expected"),
                        (lambda: np.savez(path, x_train=arrays["x_train"]), "y_train")):
        write()
        with pytest.raises(data.DataError, match=says):
            data.load("mnist", tmp_path)


def test_torchvision_downloads_and_the_npz_is_written_once(real, tmp_path, monkeypatch):
    """The real download code over a real connection, from a server on this machine that has files as the original."""
    mnist, packed = real("mnist"), tmp_path / "packed"
    packed.mkdir()
    arrays = mnist.x_train[..., 0], mnist.y_train, mnist.x_test[..., 0], mnist.y_test
    for (name, _), array in zip(datasets.MNIST.resources, arrays, strict=True):
        header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
        (packed / name).write_bytes(gzip.compress(header + array.tobytes(), 0))
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=packed))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_address[1]}/"])
    # torchvision checks the compressed files, so it must expect these.
    files = [(name, hashlib.md5((packed / name).read_bytes()).hexdigest()) for name, _ in datasets.MNIST.resources]
    monkeypatch.setattr(datasets.MNIST, "resources", files)
    root = tmp_path / "datasets"
    dataset = data.load("mnist", root)  # passes the SHA-256 check
    server.shutdown()
    assert (dataset.x_train == mnist.x_train).all() and dataset.classes == tuple("0123456789")
    assert sorted(path.name for path in root.iterdir()) == [".mnist.lock", "mnist.npz"]
    _offline(monkeypatch)
    assert (data.load("mnist", root).x_test == dataset.x_test).all()  # from the npz, without a network


# A download of the data set "tiny" in a process of its own, which goes on when a line comes in.
SLOW = """
import dataclasses, pathlib, sys
import numpy as np
from torchvision import datasets
from bcebook.runs.specs import DATASETS
from bcebook.training import datasets as data

class Slow:
    classes = ["a", "b"]

    def __init__(self, folder, train, download):
        (pathlib.Path(folder) / "part").touch()
        if train:
            print("in progress", flush=True)
            assert sys.stdin.readline() == "go on\\n"
        self.data, self.targets = np.zeros((4, 2, 2), np.uint8), [0, 1, 0, 1]

datasets.MNIST = Slow
data._download(dataclasses.replace(DATASETS["mnist"], name="tiny"), pathlib.Path(sys.argv[1]))
"""


def _slow(path):
    return subprocess.Popen([sys.executable, "-c", SLOW, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, encoding="utf-8")


def test_what_a_killed_download_has_left_is_swept_and_what_another_process_downloads_is_not(tmp_path):
    path, folders = tmp_path / "tiny.npz", lambda: [each for each in tmp_path.glob(".tiny-*") if each.is_dir()]
    other = tmp_path / ".tiny2-of-another-set"
    other.mkdir()
    killed = _slow(path)
    assert killed.stdout.readline() == "in progress\n"
    killed.kill()
    killed.communicate()
    (left,) = folders()
    first = _slow(path)
    assert first.stdout.readline() == "in progress\n"
    (under_way,) = folders()
    assert under_way != left and (under_way / "part").exists()
    second = _slow(path)
    assert second.stderr.readline().startswith("waiting for another download of tiny")
    assert folders() == [under_way] and (under_way / "part").exists()
    assert first.communicate("go on\n", timeout=60)[1] == "" and first.returncode == 0
    said, _ = second.communicate(timeout=60)
    assert (said, second.returncode) == ("", 0)  # it has taken the other's, and downloaded nothing
    assert folders() == [] and path.exists() and other.exists()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A data set of ten images, and the folder that holds it: as good as a large one for what can be wrong with a
    file."""
    draw = np.random.default_rng(0)
    arrays = {"x_train": draw.integers(0, 256, (6, 4, 4, 3), np.uint8), "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
              "x_test": draw.integers(0, 256, (4, 4, 4, 3), np.uint8), "y_test": np.array([0, 1, 2, 0], np.uint8)}
    sha = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    spec = dataclasses.replace(DATASETS["cifar10"], name="tiny", num_classes=3, train_count=6, test_count=4,
                               image_shape=(4, 4, 3), sha256=sha)
    monkeypatch.setitem(DATASETS, "tiny", spec)
    np.savez_compressed(tmp_path / "tiny.npz", **arrays, classes=np.array(["cat", "dog", "owl"]))
    return arrays, tmp_path


def _refused(folder, says: str) -> None:
    with pytest.raises(data.DataError, match=says) as error:
        data.load("tiny", folder)
    assert str(folder / "tiny.npz") in str(error.value) and "\n" not in str(error.value)


def test_other_writers_of_the_same_images_are_understood(tiny):
    arrays, folder = tiny
    same = lambda: all((getattr(data.load("tiny", folder), key) == arrays[key]).all() for key in arrays)  # noqa: E731
    assert same() and data.load("tiny", folder).classes == ("cat", "dog", "owl")
    np.savez(folder / "tiny.npz", **{key: np.asfortranarray(array, np.int64) for key, array in arrays.items()})
    assert same() and data.load("tiny", folder).classes == ("0", "1", "2")
    np.savez(folder / "tiny.npz", **arrays | {"y_train": arrays["y_train"][:, None]}, classes=np.array([b"a", b"b", b"c"]))
    assert same() and data.load("tiny", folder).classes == ("a", "b", "c")
    assert data.load("tiny", folder).x_train.flags.writeable  # torch warns of arrays that are not


def test_every_damage_to_a_data_set_is_one_sentence_that_names_the_file(tiny):
    arrays, folder = tiny
    path = folder / "tiny.npz"
    whole = path.read_bytes()
    at = whole.index(b"x_train.npy") + 60
    for damaged in (whole[:at] + b"overwritten bytes" + whole[at + 17:], whole[:-30], b"", b"no zip at all", whole[1:]):
        path.write_bytes(damaged)
        _refused(folder, "cannot be read as tiny")
    with open(path, "wb") as file:
        np.save(file, arrays["x_train"])  # an .npy under the name of an .npz
    _refused(folder, "cannot be read as tiny")
    for key in ("x_train", "y_test", "classes"):
        np.savez(path, **{name: array for name, array in arrays.items() if name != key})
        with zipfile.ZipFile(path, "a") as target:
            target.writestr(f"{key}.npy", "text, where an array should be")
        _refused(folder, "cannot be read as tiny")
    np.savez(path, **arrays | {"y_train": arrays["y_train"].astype(np.int64) + 256})  # 256 more is the same in eight bits
    _refused(folder, "y_train has values outside 0 to 255")
    np.savez(path, **arrays, classes=np.array(["cat", "dog"]))
    _refused(folder, "expected 3 names")
    path.unlink()
    path.mkdir()
    _refused(folder, "cannot be read as tiny")


@pytest.mark.parametrize(("classes", "kind"), [(256, np.uint8), (257, np.uint16), (1000, np.uint16)])
def test_labels_beyond_a_byte_do_not_wrap(classes, kind, monkeypatch, tmp_path):
    """From a file with other integers, in a rehearsal's noise, in a subset, and on the device."""
    images, labels = np.zeros((classes, 4, 4, 3), np.uint8), np.arange(classes)[::-1]
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    stored = {key: array.astype(np.uint8 if key[0] == "x" else kind) for key, array in arrays.items()}
    sha = hashlib.sha256(b"".join(array.tobytes() for array in stored.values())).hexdigest()
    spec = dataclasses.replace(DATASETS["cifar10"], name="many", num_classes=classes, train_count=classes, test_count=classes,
                               image_shape=(4, 4, 3), side=4, sha256=sha)
    monkeypatch.setitem(DATASETS, "many", spec)
    np.savez(tmp_path / "many.npz", **arrays)
    found, noise = data.load("many", tmp_path), data.noise("many", 2, 1)
    assert found.y_train.dtype == kind and (found.y_train == labels).all() and (found.y_test == labels).all()
    assert (found.subset(classes).y_train == labels).all()
    assert (np.bincount(noise.y_train) == 2).all() and noise.y_train.max() == classes - 1
    assert Images(found, "none", torch.device("cpu"), 0).y_train.tolist() == labels.tolist()
    np.savez(tmp_path / "many.npz", **arrays | {"y_train": labels + 2 ** (8 * np.dtype(kind).itemsize)})
    with pytest.raises(data.DataError, match="y_train has values outside 0 to"):
        data.load("many", tmp_path)


def test_what_a_file_claims_is_looked_at_before_memory_is_taken(tiny):
    """A header of a terabyte, and a member that unpacks to a thousand times its size: refused within 4 MB."""
    arrays, folder = tiny
    shape = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    header = b"\x93NUMPY\1\0" + (118).to_bytes(2, "little") + shape.ljust(117) + b"\n"
    bomb = header[:8] + b"\xff\xff" + bytes(20 * 2**20)
    for content, says in ((header + b"x" * 100, r"x_train is uint8 \(1000000, 1000000\)"),
                          (bomb, "x_train has 20971530 bytes")):
        np.savez(folder / "tiny.npz", **{name: array for name, array in arrays.items() if name != "x_train"})
        with zipfile.ZipFile(folder / "tiny.npz", "a", zipfile.ZIP_DEFLATED) as target:
            target.writestr("x_train.npy", content)
        tracemalloc.start()
        _refused(folder, says)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
        tracemalloc.stop()


def test_a_data_folder_that_is_a_file_is_one_sentence(tiny):
    _, folder = tiny
    with pytest.raises(data.DataError, match=r"tiny\.npz/datasets cannot hold data sets .*--data"):
        data.load("mnist", folder / "tiny.npz" / "datasets")
