"""Data sets as uint8 arrays: found, verified, or downloaded once."""

import contextlib
import hashlib
import math
import os
import shutil
import tempfile
import tokenize
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcebook.paths import data_dir
from bcebook.runs import archive as archives
from bcebook.runs.locks import hold
from bcebook.runs.specs import DATASETS, STREAMED, DatasetSpec

NAMES = tuple(DATASETS)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}  # of an npy
HEADER, NAME = 2**14, 400  # bytes that a header and the name of a class may have
# What zipfile, the decompressors behind it and NumPy's header raise where the bytes are not a data set's.
UNREADABLE = (*archives.UNREADABLE, SyntaxError, tokenize.TokenError)


class DataError(OSError):
    """A data set cannot be had; the message names the file and says what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (N, H, W, C), labels (N,) of `label_type`, and the class names in label order."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]

    def subset(
        self, train_size: int | None = None, imbalance_factor: float | None = None, held_out: bool = False
    ) -> "Dataset":
        """Fewer training images, drawn with one fixed seed so that every run with the setting sees the same ones.

        train_size: so many images, the classes as equal as can be. imbalance_factor: class k keeps n
        factor^(-k/(K-1)) images, n the size of the smallest full class (the exponential profile of long-tailed
        CIFAR). The test set stays, unless held_out puts the training images that are left out in its place. Raises
        ValueError where the data set is too small for it.
        """
        if train_size is None and imbalance_factor is None:
            return self
        num_classes = len(self.classes)
        order = np.random.default_rng(0).permutation(len(self.y_train))
        rank = np.empty(len(order), int)  # of each image within its class, in the drawn order
        for label in range(num_classes):
            members = order[self.y_train[order] == label]
            rank[members] = np.arange(len(members))
        if train_size is not None:
            if not num_classes <= train_size <= len(self.y_train):
                raise ValueError(
                    f"train_size is {train_size}; {self.name} has {len(self.y_train)} training images in "
                    f"{num_classes} classes, so choose from {num_classes} to {len(self.y_train)}."
                )
            # Every class's first image, then every second, and so on.
            keep = np.sort(np.lexsort((self.y_train, rank))[:train_size])
        else:
            smallest = np.bincount(self.y_train, minlength=num_classes).min()
            wanted = long_tailed_sizes(smallest, num_classes, imbalance_factor)
            if wanted.min() < 1:
                raise ValueError(
                    f"imbalance_factor {imbalance_factor:g} leaves the last class of {self.name} without "
                    f"an image; it can be at most {smallest}."
                )
            keep = np.flatnonzero(rank < wanted[self.y_train])
        x_test, y_test = self.x_test, self.y_test
        if held_out:
            rest = np.setdiff1d(order, keep)
            if not len(rest):
                raise ValueError(
                    f"train_size is {train_size}, all of {self.name}; to measure on images that are held "
                    "out, leave some."
                )
            x_test, y_test = self.x_train[rest], self.y_train[rest]
        return Dataset(self.name, self.x_train[keep], self.y_train[keep], x_test, y_test, self.classes)

    def with_random_labels(self) -> "Dataset":
        """The same images with their labels dealt out anew, once and for all: every class as large as before, and
        nothing to learn that holds for the test set, which stays."""
        labels = np.random.default_rng(0).permutation(self.y_train)
        return Dataset(self.name, self.x_train, labels, self.x_test, self.y_test, self.classes)


def label_type(num_classes: int) -> np.dtype:
    """The unsigned integers that hold the labels of so many classes: of one byte up to 256 classes, then of two."""
    return np.min_scalar_type(num_classes - 1)


def long_tailed_sizes(largest: int, num_classes: int, factor: float) -> np.ndarray:
    """Images a class, (K,): largest factor^(-k/(K-1)), rounded down, the exponential profile of long-tailed CIFAR."""
    # The tiny term keeps a product such as 500 * 0.01, an inexact 4.999..., at its whole number.
    return np.floor(largest * float(factor) ** (-np.arange(num_classes) / (num_classes - 1)) + 1e-9).astype(int)


def load(name: str, root: str | os.PathLike | None = None) -> Dataset:
    """Load a data set of runs/specs.py: "digits" (bundled with scikit-learn), "mnist", "cifar10" or "cifar100".

    Looks for `<root>/<name>.npz` (arrays x_train, y_train, x_test, y_test and, if there, classes: the Keras
    convention); if it is missing, downloads through torchvision and writes that file once. root defaults to
    data/datasets. Raises ValueError for an unknown name, DataError for a damaged file or where there is no network.
    """
    if name not in DATASETS:
        raise ValueError(f"there is no data set {name!r}; choose one of {', '.join(DATASETS)}.")
    spec = DATASETS[name]
    if name in BUNDLED:
        dataset, source = BUNDLED[name](), f"the library that brings {name}"
    else:
        path = archive(name, root)
        if not path.exists():
            _download(spec, path)
        dataset, source = _read(spec, path), str(path)
    if not is_published(dataset):
        raise DataError(
            f"{source} does not hold the published {name}: its content fails the SHA-256 check. "
            "Delete the file and load again to download it afresh."
        )
    return dataset


def is_published(dataset: Dataset) -> bool:
    """Whether a data set holds what its name stands for: the SHA-256 of its arrays is that of runs/specs.py."""
    return _digest(dataset) == DATASETS[dataset.name].sha256


def noise(name: str, train_each: int, test_each: int) -> Dataset:
    """So many images a class of random pixels, the same each time, in the shape of a data set: for a rehearsal."""
    spec, rng = DATASETS[name], np.random.default_rng(0)
    height, width, *colours = spec.image_shape
    arrays = []
    for each in (train_each, test_each):
        labels = np.tile(np.arange(spec.num_classes, dtype=label_type(spec.num_classes)), each)
        shape = (len(labels), height, width, *(colours or [1]))
        arrays += [rng.integers(256, size=shape, dtype=np.uint8), labels]
    return Dataset(name, *arrays, tuple(str(label) for label in range(spec.num_classes)))


def archive(name: str, root: str | os.PathLike | None = None) -> Path:
    """The file that holds a data set, there or not."""
    return Path(root or data_dir() / "datasets") / f"{name}.npz"


def folders(name: str, root: str | os.PathLike | None = None) -> tuple[Path, Path]:
    """The folders of a streamed data set's training and validation images, there or not."""
    whole = Path(root or data_dir() / "datasets") / name
    return whole / "train", whole / "val"


def without_folders(name: str, root: str | os.PathLike | None = None) -> str:
    """The sentence that says what to put where, or "" where the folders of a streamed data set are there."""
    if all(folder.is_dir() for folder in folders(name, root)):
        return ""
    # No path of this machine: the sentence stands on a page.
    return (
        f"{STREAMED[name].display} is not here; in the data folder, put its training images into "
        f"datasets/{name}/train and its validation images into datasets/{name}/val, a folder for each class."
    )


def _digest(dataset: Dataset) -> str:
    sha = hashlib.sha256()
    for name in ARRAYS:
        sha.update(np.ascontiguousarray(getattr(dataset, name)))
    return sha.hexdigest()


def _digits() -> Dataset:
    """The 1,797 real 8x8 digits; a fifth of each class, drawn once with a fixed seed, is the test set."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]  # 17 grey levels -> 0..255
    labels = bunch.target.astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    test = np.zeros(len(labels), bool)
    for label in range(10):
        members = order[labels[order] == label]
        test[members[: len(members) // 5]] = True
    return Dataset("digits", images[~test], labels[~test], images[test], labels[test], tuple("0123456789"))


BUNDLED = {"digits": _digits}  # the sets that come with a library


def _read(spec: DatasetSpec, path: Path) -> Dataset:
    """The npz of a set, its arrays brought to `Dataset`'s shapes. Raises DataError where they are not those of the
    set. What the file says of its sizes is looked at before an array is read, so that it cannot fill the memory."""
    try:
        with zipfile.ZipFile(path) as stored:
            names = stored.namelist()
            if twice := sorted(name for name in set(names) if names.count(name) > 1):
                raise ValueError(f"{twice[0]} stands in it twice")
            types = {"x": np.dtype(np.uint8), "y": label_type(spec.num_classes)}
            arrays = {key: _array(stored, key, _expected(spec, key), types[key[0]]) for key in ARRAYS}
            classes = _classes(stored, spec) if "classes.npy" in names else map(str, range(spec.num_classes))
            return Dataset(spec.name, **arrays, classes=tuple(classes))
    except UNREADABLE as error:
        told = " ".join(str(error).split())[:300]
        raise DataError(
            f"{path} cannot be read as {spec.name} ({type(error).__name__}: {told}). It may be "
            "truncated; delete it and load again to download it afresh."
        ) from error


def _expected(spec: DatasetSpec, key: str) -> tuple[tuple[int, ...], ...]:
    """The shapes that an array of the set may have in the file; the first is that of `Dataset`, but for the channel
    axis of grey images."""
    count = spec.train_count if key.endswith("train") else spec.test_count
    return ((count, *spec.image_shape),) if key[0] == "x" else ((count,), (count, 1))  # Keras: CIFAR's labels (N, 1)


def _array(stored: zipfile.ZipFile, key: str, shapes: tuple[tuple[int, ...], ...], dtype: np.dtype) -> np.ndarray:
    """An array of images or labels, as `dtype`, an unsigned one."""
    fits = lambda shape, dtype: shape in shapes and dtype.kind in "iu"  # noqa: E731
    array = _member(stored, key, fits, f"integers {shapes[0]}", 8 * math.prod(shapes[0]))
    largest = np.iinfo(dtype).max
    if array.dtype != dtype and (array.min() < 0 or array.max() > largest):
        raise ValueError(f"{key} has values outside 0 to {largest}")
    array = np.ascontiguousarray(array, dtype).reshape(shapes[0])
    return array[..., None] if array.ndim == 3 else array  # grey images get their channel axis


def _classes(stored: zipfile.ZipFile, spec: DatasetSpec) -> list[str]:
    count = spec.num_classes
    fits = lambda shape, dtype: shape == (count,) and dtype.kind in "SU" and 0 < dtype.itemsize <= NAME  # noqa: E731
    found = _member(stored, "classes", fits, f"{count} names", NAME * count).tolist()
    names = [each.decode() if isinstance(each, bytes) else each for each in found]
    if not all(name.isprintable() for name in names):
        raise ValueError("classes has a name that cannot be printed")
    return names


def _member(stored: zipfile.ZipFile, key: str, fits, expected: str, most: int) -> np.ndarray:
    """One array of the file, of at most so many bytes, read only where its header's shape and dtype fit and the
    directory says the same size."""
    info = stored.getinfo(f"{key}.npy")
    if info.file_size > most + HEADER:
        raise ValueError(f"{key} has {info.file_size} bytes, expected {expected}")
    with stored.open(info) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's advice on headers that Python 2 wrote
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"{key} has a header of version {version}")
        shape, fortran, dtype = HEADERS[version](file)
        if not fits(shape, dtype):
            raise ValueError(f"{key} is {dtype} {shape}, expected {expected}")
        array = np.empty(math.prod(shape), dtype)
        if info.file_size != file.tell() + array.nbytes:
            raise ValueError(f"{key} has {info.file_size} bytes, expected {file.tell() + array.nbytes}")
        view, at = array.view(np.uint8), 0
        while count := file.readinto(view[at : at + 2**20]):
            at += count
        if at != array.nbytes or file.read(1):  # reading to the end also checks the member's checksum
            raise ValueError(f"{key} has not the size it claims")
    return array.reshape(shape, order="F" if fortran else "C")


def _download(spec: DatasetSpec, path: Path) -> None:
    """Have the npz at `path`: one process fetches it, and others wait for it. What a killed download has left is
    removed."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(hold(path.with_name(f".{spec.name}.lock"), f"another download of {spec.name}"))
            if path.exists():  # the other process has fetched it
                return
            for left in path.parent.glob(f".{spec.name}-*"):  # whoever holds the lock is alone: their owners are dead
                shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{spec.name}-", dir=path.parent))
        except OSError as error:
            raise DataError(
                f"{path.parent} cannot hold data sets ({error.strerror or error}); choose another data folder with "
                "--data."
            ) from error
        _fetch(spec, path, folder)


def _fetch(spec: DatasetSpec, path: Path, folder: Path) -> None:
    """Fetch through torchvision into a folder of its own, which is gone afterwards, and write the npz under its final
    name only when it is whole."""
    from torchvision import datasets

    name, source = spec.name, getattr(datasets, spec.torchvision)
    try:
        train, test = (source(folder, train=split, download=True) for split in (True, False))
        arrays = {"x_train": train.data, "y_train": train.targets, "x_test": test.data, "y_test": test.targets}
        types = {"x": np.uint8, "y": label_type(spec.num_classes)}
        np.savez(
            folder / "whole.npz",
            **{key: np.asarray(value, types[key[0]]) for key, value in arrays.items()},
            classes=np.array([c.split(" - ")[0] for c in train.classes]),
        )  # MNIST's are named "0 - zero"
        (folder / "whole.npz").replace(path)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path} is missing and {name} could not be downloaded ({error}). Connect to the internet "
            "and try again, or put the file there yourself (`bcebook data --help` says how)."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
