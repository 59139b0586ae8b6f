"""Data sets as uint8 arrays: found, verified, or downloaded once."""

import hashlib
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcebook.paths import data_dir
from bcebook.runs.specs import DATASETS, DatasetSpec

NAMES = tuple(DATASETS)
# Of the sets that are files of their own: training and test images.
COUNTS = {name: (spec.train_count, spec.test_count) for name, spec in DATASETS.items() if spec.torchvision}
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class DataError(OSError):
    """A data set cannot be had; the message names the file and says what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (N, H, W, C), labels uint8 (N,), and the class names in label order."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]

    def subset(self, train_size: int | None = None, imbalance_factor: float | None = None) -> "Dataset":
        """Fewer training images, drawn with one fixed seed so that every run with the setting sees the same ones.

        train_size: so many images, the classes as equal as can be. imbalance_factor: class k keeps n
        factor^(-k/(K-1)) images, n the size of the smallest full class (the exponential profile of long-tailed
        CIFAR). The test set stays. Raises ValueError where the data set is too small for it.
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
                raise ValueError(f"train_size is {train_size}; {self.name} has {len(self.y_train)} training images in "
                                 f"{num_classes} classes, so choose from {num_classes} to {len(self.y_train)}.")
            # Every class's first image, then every second, and so on.
            keep = np.sort(np.lexsort((self.y_train, rank))[:train_size])
        else:
            smallest = np.bincount(self.y_train, minlength=num_classes).min()
            wanted = long_tailed_sizes(smallest, num_classes, imbalance_factor)
            if wanted.min() < 1:
                raise ValueError(f"imbalance_factor {imbalance_factor:g} leaves the last class of {self.name} without "
                                 f"an image; it can be at most {smallest}.")
            keep = np.flatnonzero(rank < wanted[self.y_train])
        return Dataset(self.name, self.x_train[keep], self.y_train[keep], self.x_test, self.y_test, self.classes)


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
    if _digest(dataset) != spec.sha256:
        raise DataError(f"{source} does not hold the published {name}: its content fails the SHA-256 check. "
                        "Delete the file and load again to download it afresh.")
    return dataset


def archive(name: str, root: str | os.PathLike | None = None) -> Path:
    """The file that holds a data set, there or not."""
    return Path(root or data_dir() / "datasets") / f"{name}.npz"


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
    set."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in ARRAYS}
            classes = [str(c) for c in stored["classes"]] if "classes" in stored else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as {spec.name} ({type(error).__name__}: {error}). It may be "
                        "truncated; delete it and load again to download it afresh.") from error
    for key in ARRAYS:
        count = spec.train_count if key.endswith("train") else spec.test_count
        expected = (count, *spec.image_shape) if key[0] == "x" else (count,)
        if key[0] == "y":
            arrays[key] = arrays[key].reshape(-1)  # Keras stores CIFAR labels as (N, 1)
        if arrays[key].shape != expected or not np.issubdtype(arrays[key].dtype, np.integer):
            raise DataError(f"{path}: {key} is {arrays[key].dtype} {arrays[key].shape}, expected integers {expected}. "
                            "Delete the file and load again to download it afresh.")
        arrays[key] = arrays[key].astype(np.uint8, copy=False)
        if arrays[key].ndim == 3:
            arrays[key] = arrays[key][..., None]  # grey images get their channel axis
    classes = classes or [str(k) for k in range(spec.num_classes)]
    return Dataset(spec.name, **arrays, classes=tuple(classes))


def _download(spec: DatasetSpec, path: Path) -> None:
    """Fetch through torchvision into a folder of its own and write the npz under its final name only when it is
    whole."""
    from torchvision import datasets

    name, source = spec.name, getattr(datasets, spec.torchvision)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=path.parent))
    try:
        train, test = (source(folder, train=split, download=True) for split in (True, False))
        arrays = {"x_train": train.data, "y_train": train.targets, "x_test": test.data, "y_test": test.targets}
        np.savez(folder / "whole.npz", **{key: np.asarray(value, np.uint8) for key, value in arrays.items()},
                 classes=np.array([c.split(" - ")[0] for c in train.classes]))  # MNIST's are named "0 - zero"
        (folder / "whole.npz").replace(path)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} is missing and {name} could not be downloaded ({error}). Connect to the internet "
                        "and try again, or put the file there yourself (`bcebook data --help` says how).") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
