"""ImageNet: image files in folders, read and cropped by the worker processes of a DataLoader. One GPU a run.

`Streamed` stands in for images.Images where the loop needs one. Each image's crop has random numbers of its own, from
the run's seed, the epoch and the image: a batch is the same for any number of workers, and after a kill.
"""

import copy
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bcebook.cores import cores
from bcebook.runs.files import in_a_line
from bcebook.runs.specs import STREAMED, NetworkSpec, StreamedSpec
from bcebook.training.datasets import DataError, folders, without_folders
from bcebook.training.images import normalised

MOST_WORKERS = 8  # beyond, reading is seldom what a GPU waits for


class DamagedImage(ValueError):
    """A file of a data set is no image; the message names it."""


class Pictures(ImageFolder):
    """An ImageFolder without hidden folders, whose items are asked for as (epoch, index): an image uint8
    (C, side, side), cropped with random numbers of that pair and the seed alone, and its label. Raises DamagedImage."""

    seed = 0

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        names = [name for name in super().find_classes(directory)[0] if not name.startswith(".")]
        return names, {name: number for number, name in enumerate(names)}

    def transformed(self, seed: int, *steps) -> "Pictures":
        other = copy.copy(self)
        other.seed, other.transform = seed, v2.Compose([*steps, v2.PILToTensor()])
        return other

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        path, label = self.samples[key[1]]
        try:
            image = self.loader(path)
        except (OSError, SyntaxError, ValueError) as error:  # as Pillow has it
            raise DamagedImage(f"{path} is no whole image ({in_a_line(error)}); replace it.") from error
        own = np.random.SeedSequence([self.seed, *key]).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(own))
            return self.transform(image), label


@dataclass(frozen=True)
class Folders:
    """The image files of a data set: a folder for each class, in train and in val."""

    spec: StreamedSpec
    train: Pictures
    test: Pictures


def load(name: str, root: str | os.PathLike | None = None) -> Folders:
    """Find the files of a streamed data set. Raises DataError where they are missing, or are those of another one."""
    if sentence := without_folders(name, root):
        raise DataError(sentence)
    spec, paths = STREAMED[name], folders(name, root)
    try:
        train, test = map(Pictures, paths)
    except (FileNotFoundError, ValueError) as error:  # no class at all, a class without an image
        raise DataError(
            f"{paths[0].parent}: train and val need a folder for each class ({in_a_line(error)})."
        ) from error
    if not len(train.classes) == spec.num_classes or train.classes != test.classes:
        raise DataError(
            f"{paths[0].parent} is not {spec.display}: train has {len(train.classes)} "
            f"classes and val {len(test.classes)}, expected the same {spec.num_classes}."
        )
    return Folders(spec, train, test)


class Streamed:
    """Images of `Folders` for a training: see images.Images, whose methods these are. augmentation: "none" is the
    evaluation's crop, "da1" the usual training crop of ImageNet: any part of 8 to 100 % of the area, and a flip.

    The last batch of an epoch is left out where it is not whole. Training figures are measured on about as many images
    as the test set has.
    """

    def __init__(self, source: Folders, augmentation: str, device: torch.device, seed: int, network: NetworkSpec):
        self.spec, self.device, self.seed = source.spec, device, seed
        self.num_classes, self.in_channels = len(source.train.classes), self.spec.channels
        mean, std = network.mean or self.spec.mean, network.std or self.spec.std
        self.mean, self.std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (mean, std))
        plain = v2.Resize(self.spec.resized), v2.CenterCrop(self.spec.side)
        cropped = v2.RandomResizedCrop(self.spec.side), v2.RandomHorizontalFlip()
        self.train = source.train.transformed(seed, *(plain if augmentation == "none" else cropped))
        every = -(-len(source.train) // len(source.test))  # files are sorted by class: every class has its share
        self.splits = {
            "train": (source.train.transformed(seed, *plain), range(0, len(source.train), every)),
            "test": (source.test.transformed(seed, *plain), range(len(source.test))),
        }
        self.train_count, self.epoch = len(source.train), 0
        self.batches = None  # the rest of the epoch, on its way

    def normalise(self, x: Tensor) -> Tensor:
        return normalised(x, self.mean, self.std, self.in_channels)

    def batch_count(self, batch_size: int) -> int:
        return self.train_count // batch_size

    def shuffle(self, batch_size: int) -> None:
        self.epoch, self.batches = self.epoch + 1, None

    def chosen(self, index: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """The images of the epoch's batch `index`, uint8, and their labels; call it for one batch after the other."""
        if self.batches is None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.train_count)
            order = order[index * batch_size : self.batch_count(batch_size) * batch_size]
            self.batches = self._read(self.train, order.tolist(), batch_size, self.epoch)
        return next(self.batches)

    def batch(self, chosen: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.normalise(chosen), labels

    def evaluation(self, split: str, batch_size: int = 250):
        """(images, labels) of "train" or "test" in order, without augmentation."""
        for images, labels in self._read(*self.splits[split], batch_size):
            yield self.normalise(images), labels

    def state(self) -> dict:
        return {"epoch": self.epoch}

    def restore(self, state: dict) -> None:
        self.epoch, self.batches = state["epoch"], None

    def _read(self, files: Pictures, indices, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of these files on the device: images uint8 (B, C, side, side) and labels (B,)."""
        try:
            for images, labels in self._loader(files, [(epoch, index) for index in indices], batch_size):
                yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        except DamagedImage as error:  # a worker's message has its traceback before it
            raise DamagedImage(str(error).rpartition("DamagedImage: ")[2].strip()) from error

    def _loader(self, files: Pictures, keys: list[tuple[int, int]], batch_size: int) -> DataLoader:
        workers = min(MOST_WORKERS, cores(), -(-len(keys) // batch_size))
        # Each worker has two batches ready in shared memory, and makes a third.
        if _shared_memory() < 3 * workers * batch_size * self.in_channels * self.spec.side**2:
            workers = 0
        pinned = self.device.type == "cuda"
        return DataLoader(files, batch_size, sampler=keys, num_workers=workers, pin_memory=pinned)


def _shared_memory() -> float:
    """Bytes that are free for what workers hand over; infinite where the system has no such folder."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return math.inf
