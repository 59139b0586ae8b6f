"""A data set that is too large for a device: image files in folders, read and cropped by worker processes as they are
needed.

It stands in for images.Images where the loop needs one. What a batch holds depends on the run's seed, the epoch and the
image alone: each image's crop has a seed of its own. So it is the same for any number of workers, and after a kill.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bcebook.cores import cores
from bcebook.runs.files import in_a_line
from bcebook.runs.specs import STREAMED, NetworkSpec, StreamedSpec
from bcebook.training.datasets import DataError, folders, without_folders
from bcebook.training.images import normalised

MOST_WORKERS = 8  # beyond, reading is seldom what a GPU waits for


@dataclass(frozen=True)
class Folders:
    """The image files of a data set: for each class a folder, in train and in val."""

    spec: StreamedSpec
    train: ImageFolder
    test: ImageFolder

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.train.classes)


class DamagedImage(ValueError):
    """A file of a data set is no image; the message names it."""


class _Classes(ImageFolder):
    """An ImageFolder whose hidden folders are no classes."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        found = sorted(each.name for each in os.scandir(directory) if each.is_dir() and not each.name.startswith("."))
        if not found:
            raise FileNotFoundError(f"{directory} holds no folders; it needs a folder for each class, with its images.")
        return found, {name: number for number, name in enumerate(found)}


def load(name: str, root: str | os.PathLike | None = None) -> Folders:
    """Find the files of a streamed data set. Raises DataError where they are missing, or are those of another one."""
    if sentence := without_folders(name, root):
        raise DataError(sentence)
    try:
        spec, (train, test) = STREAMED[name], map(_Classes, folders(name, root))
    except FileNotFoundError as error:  # of a class without an image, too
        raise DataError(in_a_line(error)) from error
    if not len(train.classes) == len(test.classes) == spec.num_classes or train.classes != test.classes:
        raise DataError(
            f"{folders(name, root)[0].parent} is not {spec.display}: train has {len(train.classes)} "
            f"classes and val {len(test.classes)}, expected the same {spec.num_classes}."
        )
    return Folders(spec, train, test)


class _Seeded(Dataset):
    """(epoch, index) -> image uint8 (C, side, side) and label, cropped with that pair's own random numbers."""

    def __init__(self, folder: ImageFolder, transform: v2.Transform, seed: int):
        self.folder, self.transform, self.seed = folder, transform, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        try:
            image, label = self.folder[key[1]]
        except (OSError, SyntaxError, ValueError) as error:  # as Pillow has it
            path = self.folder.samples[key[1]][0]
            raise DamagedImage(f"{path} is no whole image ({in_a_line(error)}); replace it.") from error
        own = np.random.SeedSequence([self.seed, *key]).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(own))
            return self.transform(image), label


class Streamed:
    """Images of `Folders` for a training: see images.Images, whose methods these are. augmentation: "none" is the
    evaluation's crop, "da1" the usual training crop of ImageNet: any part of 8 to 100 % of the area, and a flip.

    The last batch of an epoch is left out where it is not whole. Training figures are measured on about as many images
    as the test set has.
    """

    def __init__(self, source: Folders, augmentation: str, device: torch.device, seed: int, network: NetworkSpec):
        self.spec, self.device, self.seed = source.spec, device, seed
        self.num_classes, self.in_channels = len(source.classes), self.spec.channels
        mean, std = network.mean or self.spec.mean, network.std or self.spec.std
        self.mean, self.std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (mean, std))
        side, to_tensor = self.spec.side, v2.PILToTensor()
        plain = v2.Compose([v2.Resize(self.spec.resized), v2.CenterCrop(side), to_tensor])
        cropped = v2.Compose([v2.RandomResizedCrop(side), v2.RandomHorizontalFlip(), to_tensor])
        self.train = _Seeded(source.train, plain if augmentation == "none" else cropped, seed)
        every = -(-len(source.train) // len(source.test))  # files are sorted by class: every class has its share
        self.splits = {
            "train": (_Seeded(source.train, plain, seed), range(0, len(source.train), every)),
            "test": (_Seeded(source.test, plain, seed), range(len(source.test))),
        }
        self.train_count, self.epoch, self.order = len(source.train), 0, np.zeros(0, int)
        self.following, self.batches = 0, None  # the number of the next batch that is on its way, and the way

    def normalise(self, x: Tensor) -> Tensor:
        return normalised(x, self.mean, self.std, self.in_channels)

    def batch_count(self, batch_size: int) -> int:
        return self.train_count // batch_size

    def shuffle(self, batch_size: int) -> None:
        self.epoch, self.batches = self.epoch + 1, None
        self._draw()

    def _draw(self) -> None:
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(self.train_count)

    def chosen(self, index: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """The images of the epoch's batch `index`, uint8, and their labels."""
        if self.batches is None or index != self.following:
            starts = range(index * batch_size, self.batch_count(batch_size) * batch_size, batch_size)
            batches = [[(self.epoch, int(i)) for i in self.order[start : start + batch_size]] for start in starts]
            self.batches = self._read(self.train, batches)
        self.following = index + 1
        images, labels = next(self.batches)
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def batch(self, chosen: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.normalise(chosen), labels

    def evaluation(self, split: str, batch_size: int = 250):
        """(images, labels) of "train" or "test" in order, without augmentation."""
        files, indices = self.splits[split]
        batches = [
            [(0, i) for i in indices[start : start + batch_size]] for start in range(0, len(indices), batch_size)
        ]
        for images, labels in self._read(files, batches):
            yield self.normalise(images.to(self.device)), labels.to(self.device)

    def state(self) -> dict:
        return {"epoch": self.epoch}

    def restore(self, state: dict) -> None:
        self.epoch, self.batches = state["epoch"], None
        self._draw()

    def _read(self, files: _Seeded, batches: list[list[tuple[int, int]]]) -> Iterator[list[Tensor]]:
        try:
            yield from self._loader(files, batches)
        except DamagedImage as error:  # a worker's message has its traceback before it
            raise DamagedImage(str(error).strip().splitlines()[-1].rpartition("DamagedImage: ")[2]) from error

    def _loader(self, files: _Seeded, batches: list[list[tuple[int, int]]]) -> DataLoader:
        workers = min(MOST_WORKERS, cores(), len(batches))
        bytes_a_batch = max(map(len, batches)) * self.in_channels * self.spec.side**2
        if _shared_memory() < 3 * workers * bytes_a_batch:  # each worker has two batches ready and makes a third
            workers = 0
        return DataLoader(files, batch_sampler=batches, num_workers=workers, pin_memory=self.device.type == "cuda")


def _shared_memory() -> float:
    """Bytes that are free for what workers hand over; infinite where no system says so."""
    try:
        state = os.statvfs("/dev/shm")
        return state.f_bavail * state.f_frsize
    except (AttributeError, OSError):
        return math.inf
