"""A data set that is too large for a device: image files in folders, read and cropped by worker processes as they are
needed, and under torchrun dealt out to its processes.

It stands in for images.Images where the loop needs one. What a batch holds depends on the run's seed, the epoch and the
image alone: each image's crop has a seed of its own. So it is the same for any number of workers and processes, and
after a kill.
"""

import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bcebook.runs.specs import STREAMED, NetworkSpec, StreamedSpec
from bcebook.training import ranks
from bcebook.training.datasets import DataError, folders, without_folders
from bcebook.training.images import normalised

MOST_WORKERS = 8  # of a process: beyond, reading is seldom what a GPU waits for


@dataclass(frozen=True)
class Folders:
    """The image files of a data set: for each class a folder, in train and in val."""

    spec: StreamedSpec
    train: ImageFolder
    test: ImageFolder

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.train.classes)


def load(name: str, root: str | os.PathLike | None = None) -> Folders:
    """Find the files of a streamed data set. Raises DataError where they are missing, or are those of another one."""
    if sentence := without_folders(name, root):
        raise DataError(sentence)
    spec, (train, test) = STREAMED[name], map(ImageFolder, folders(name, root))
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
        image, label = self.folder[key[1]]
        own = np.random.SeedSequence([self.seed, *key]).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(own))
            return self.transform(image), label


class Streamed:
    """Images of `Folders` for a training: see images.Images, whose methods these are. augmentation: "none" is the
    evaluation's crop, "da1" the usual training crop of ImageNet: any part of 8 to 100 % of the area, and a flip.

    Every process has the images `rank`, `rank` + `world`, ... of each batch. The last batch of an epoch is left out
    where it is not whole. Training figures are measured on about as many images as the test set has.
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
        """This process's images of the epoch's batch `index`, uint8, and their labels."""
        if self.batches is None or index != self.following:
            starts = range(index * batch_size, self.batch_count(batch_size) * batch_size, batch_size)
            shares = [self.order[start : start + batch_size][ranks.rank() :: ranks.world()] for start in starts]
            self.batches = iter(self._loader(self.train, [[(self.epoch, int(i)) for i in share] for share in shares]))
        self.following = index + 1
        images, labels = next(self.batches)
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def batch(self, chosen: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.normalise(chosen), labels

    def evaluation(self, split: str, batch_size: int = 250):
        """This process's share of a split; `whole` puts the shares together."""
        files, indices = self.splits[split]
        own = list(indices)[ranks.rank() :: ranks.world()]
        batches = [[(0, i) for i in own[start : start + batch_size]] for start in range(0, len(own), batch_size)]
        for images, labels in self._loader(files, batches):
            yield self.normalise(images.to(self.device)), labels.to(self.device)

    def whole(self, own: Tensor) -> Tensor:
        return ranks.interleaved(own)

    def state(self) -> dict:
        return {"epoch": self.epoch}

    def restore(self, state: dict) -> None:
        self.epoch, self.batches = state["epoch"], None
        self._draw()

    def _loader(self, files: _Seeded, batches: list[list[tuple[int, int]]]) -> DataLoader:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(MOST_WORKERS, cores // ranks.world(), len(batches))
        return DataLoader(files, batch_sampler=batches, num_workers=workers, pin_memory=self.device.type == "cuda")
