"""Images on the device: uint8 batches in, augmented and normalised float batches out, never one image at a time."""

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bcebook.runs.config import batch_count
from bcebook.runs.specs import DATASETS, DatasetSpec, NetworkSpec
from bcebook.training.datasets import Dataset

MIXUP_ALPHA, CUTMIX_ALPHA = 0.8, 1.0  # the paper's DA2
MIXUP_SHARE = {"da1+da2": 0.5, "da1+mixup": 1.0, "da1+cutmix": 0.0}  # of the batches; CutMix has the others


def normalised(x: Tensor, mean: Tensor, std: Tensor, channels: int) -> Tensor:
    """uint8 or float 0..255 (B, C, H, W) -> float32, channels-last; a grey image is copied to the network's
    channels."""
    x = (x.float() / 255 - mean) / std
    return x.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)


def placed(x: np.ndarray, spec: DatasetSpec, device: torch.device) -> Tensor:
    """A data set's uint8 images (N, H, W, C) as its networks get them, (N, C, side, side), on the device."""
    images = torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2)
    if spec.image_shape[:2] != (spec.side, spec.side):  # once and in uint8, as a transform of each image would do it
        images = F.interpolate(images.float(), size=(spec.side, spec.side), mode="bilinear").round().to(torch.uint8)
    return images.contiguous().to(device)


class Images:
    """A data set on the device, and the way from its uint8 images to the network's input.

    generator (torch, on the device) draws the order, crops, flips and angles; host (numpy) draws an epoch's mixtures
    in advance. So no draw makes the host wait for the device, and `batch` has no branch that depends on a value: a
    CUDA graph can hold it. `state` and `restore` carry everything that decides the batches to come. network: whose
    normalisation counts, where it has one of its own.
    """

    def __init__(
        self, dataset: Dataset, augmentation: str, device: torch.device, seed: int, network: NetworkSpec | None = None
    ):
        self.spec, self.augmentation, self.num_classes = DATASETS[dataset.name], augmentation, len(dataset.classes)
        self.x_train, self.x_test = (placed(x, self.spec, device) for x in (dataset.x_train, dataset.x_test))
        labels = (dataset.y_train, dataset.y_test)
        self.y_train, self.y_test = (torch.from_numpy(y.astype(np.int64)).to(device) for y in labels)
        self.in_channels, self.train_count = self.spec.channels, len(self.x_train)
        mean = (network and network.mean) or self.spec.mean or (dataset.x_train.mean() / 255,)
        std = (network and network.std) or self.spec.std or (dataset.x_train.std() / 255,)
        self.mean, self.std = (
            torch.tensor(v, dtype=torch.float32, device=device).view(1, -1, 1, 1) for v in (mean, std)
        )
        self.generator = torch.Generator(device).manual_seed(seed)
        self.host = np.random.default_rng(seed)
        self.order = torch.arange(len(self.x_train), device=device)  # of this epoch
        self.mixtures = torch.zeros(0, 5, device=device)  # of this epoch: a row for each batch, see _mixture

    def normalise(self, x: Tensor) -> Tensor:
        return normalised(x, self.mean, self.std, self.in_channels)

    def shuffle(self, batch_size: int) -> None:
        """Draw an epoch: a fresh order of the images and, under DA2, what each batch is mixed by."""
        self.order = torch.randperm(len(self.x_train), generator=self.generator, device=self.x_train.device)
        if self.augmentation in MIXUP_SHARE:
            rows = np.stack([self._mixture() for _ in range(self.batch_count(batch_size))])
            self.mixtures = torch.from_numpy(rows).to(self.x_train.device)

    def batch_count(self, batch_size: int) -> int:
        """Batches in an epoch of these images."""
        return batch_count(len(self.x_train), batch_size)

    def chosen(self, index: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """What `batch` needs for this epoch's batch number `index`, from 0: its images' numbers (B,) and its mixture
        (1, 5), or (0, 5) without DA2."""
        return self.order[index * batch_size : (index + 1) * batch_size], self.mixtures[index : index + 1]

    def batch(self, chosen: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented and normalised images (B, C, H, W), and the target: int64 (B,) or, when mixed, float (B, K)."""
        x, target = self.x_train[chosen], self.y_train[chosen]
        if self.augmentation != "none":
            x = self._da1(x)
        x = self.normalise(x)
        return self._da2(x, target, mixture) if self.augmentation in MIXUP_SHARE else (x, target)

    def state(self) -> dict:
        """Tensors and plain data."""
        return {
            "order": self.order,
            "mixtures": self.mixtures,
            "generator": self.generator.get_state(),
            "host": json.dumps(self.host.bit_generator.state),
        }

    def restore(self, state: dict) -> None:
        """Go on as if the batches that led to `state` had just been made."""
        self.order, self.mixtures = (state[name].to(self.x_train.device) for name in ("order", "mixtures"))
        self.generator.set_state(state["generator"].cpu())
        self.host.bit_generator.state = json.loads(state["host"])

    def evaluation(self, split: str, batch_size: int = 500):
        """(images, labels) of "train" or "test" in order, without augmentation."""
        x, y = (self.x_train, self.y_train) if split == "train" else (self.x_test, self.y_test)
        for start in range(0, len(x), batch_size):
            yield self.normalise(x[start : start + batch_size]), y[start : start + batch_size]

    def _da1(self, x: Tensor) -> Tensor:
        """Random crop with zero padding (4 of 32 pixels) and, where the data set's entry says so, a horizontal flip
        and a rotation: CIFAR is flipped, CIFAR100 also turned by up to 15 degrees."""
        batch, _, height, width = x.shape
        pad = height // 8
        draw = lambda high: torch.randint(high, (batch, 1), generator=self.generator, device=x.device)  # noqa: E731
        rows = draw(2 * pad + 1) + torch.arange(height, device=x.device)  # (B, H)
        columns = torch.arange(width, device=x.device).expand(batch, -1)
        if self.spec.flipped:
            columns = torch.where(draw(2).bool(), columns.flip(1), columns)
        columns = draw(2 * pad + 1) + columns  # (B, W)
        index = torch.arange(batch, device=x.device).view(-1, 1, 1)
        x = F.pad(x, (pad,) * 4).permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        return self._rotated(x) if self.spec.rotation else x

    def _rotated(self, x: Tensor) -> Tensor:
        """Each image (B, C, H, W) turned by its own angle, to the nearest pixel, as torchvision's default does."""
        largest = torch.pi / (180 / self.spec.rotation)
        angle = (torch.rand(len(x), generator=self.generator, device=x.device) * 2 - 1) * largest
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)  # (B, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x.float(), grid, mode="nearest", align_corners=False)

    def _mixture(self) -> np.ndarray:
        """Mixup or CutMix, under DA2 each with probability one half: (share of the image itself, top, bottom, left,
        right of the box that its partner fills). Mixup has an empty box, CutMix a share of 1 outside the box."""
        if self.host.random() < MIXUP_SHARE[self.augmentation]:
            return np.array([self.host.beta(MIXUP_ALPHA, MIXUP_ALPHA), 0, 0, 0, 0], np.float32)
        height, width = self.x_train.shape[2:]
        side = (1 - self.host.beta(CUTMIX_ALPHA, CUTMIX_ALPHA)) ** 0.5
        row, column = int(self.host.integers(height)), int(self.host.integers(width))
        half_h, half_w = int(height * side) // 2, int(width * side) // 2
        box = max(row - half_h, 0), min(row + half_h, height), max(column - half_w, 0), min(column + half_w, width)
        return np.array([1, *box], np.float32)

    def _da2(self, x: Tensor, labels: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """The batch mixed with a permutation of itself; soft targets (B, K)."""
        # Unlike randperm, argsort is safe in a CUDA graph.
        partner = torch.rand(len(x), generator=self.generator, device=x.device).argsort()
        share, top, bottom, left, right = mixture[0]
        rows, columns = (torch.arange(size, device=x.device) for size in x.shape[2:])
        inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))  # (H, W)
        own = torch.where(inside, 0.0, share)  # each pixel's weight of the image itself
        # one_hot would look at the values; the mean of `own` is, for CutMix, the share that is left after clipping.
        onehot = (labels[:, None] == torch.arange(self.num_classes, device=x.device)).float()
        return torch.lerp(x[partner], x, own), torch.lerp(onehot[partner], onehot, own.mean())
