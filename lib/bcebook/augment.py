"""Images on the device: uint8 batches in, augmented and normalised float batches out, never one image at a time."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bcebook.data import Dataset

# Mean and standard deviation per channel, in units of the full scale, as in the authors' code. (Over all training pixels
# CIFAR's standard deviation is 0.247; 0.202 is the mean over the images of each image's own.)
NORMALISE = {
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
MIXUP_ALPHA, CUTMIX_ALPHA = 0.8, 1.0  # the paper's DA2


class Images:
    """A data set on the device, and the way from its uint8 images to the network's input.

    generator (torch, on the device) draws crops, flips and angles; host (numpy) draws what the host must know: which of
    Mixup and CutMix a batch gets, and how strongly. So no draw makes the host wait for the device.
    """

    def __init__(self, dataset: Dataset, augmentation: str, device: torch.device, seed: int):
        self.name, self.augmentation, self.num_classes = dataset.name, augmentation, len(dataset.classes)
        self.x_train, self.x_test = (self._place(x, device) for x in (dataset.x_train, dataset.x_test))
        self.y_train, self.y_test = (torch.from_numpy(y.astype(np.int64)).to(device) for y in (dataset.y_train, dataset.y_test))
        self.in_channels = 1 if self.name == "digits" else 3
        if self.name in NORMALISE:
            mean, std = NORMALISE[self.name]
        else:  # the digits: of all training pixels
            mean, std = (dataset.x_train.mean() / 255,), (dataset.x_train.std() / 255,)
        self.mean, self.std = (torch.tensor(v, dtype=torch.float32, device=device).view(1, -1, 1, 1) for v in (mean, std))
        self.generator = torch.Generator(device).manual_seed(seed)
        self.host = np.random.default_rng(seed)

    def _place(self, x: np.ndarray, device: torch.device) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2)
        if self.name == "mnist":  # to 32x32, once and in uint8, as a transform of each image would do it
            images = F.interpolate(images.float(), size=(32, 32), mode="bilinear").round().to(torch.uint8)
        return images.contiguous().to(device)

    def normalise(self, x: Tensor) -> Tensor:
        """uint8 or float 0..255 (B, C, H, W) -> float32, channels-last; a grey image is copied to the network's channels."""
        x = (x.float() / 255 - self.mean) / self.std
        return x.expand(-1, self.in_channels, -1, -1).contiguous(memory_format=torch.channels_last)

    def batches(self, batch_size: int):
        """One epoch in a fresh order: (images, target) pairs, target int64 (B,) or, when mixed, float (B, K).

        The last, smaller batch is kept, as the authors' loader does, unless it has one image (batch statistics need two).
        """
        order = torch.randperm(len(self.x_train), generator=self.generator, device=self.x_train.device)
        for chosen in order.split(batch_size):
            if len(chosen) < 2:
                continue
            x, target = self.x_train[chosen], self.y_train[chosen]
            if self.augmentation != "none":
                x = self._da1(x)
            x = self.normalise(x)
            if self.augmentation == "da1+da2":
                x, target = self._da2(x, target)
            yield x, target

    def evaluation(self, split: str, batch_size: int = 500):
        """(images, labels) of "train" or "test" in order, without augmentation."""
        x, y = (self.x_train, self.y_train) if split == "train" else (self.x_test, self.y_test)
        for start in range(0, len(x), batch_size):
            yield self.normalise(x[start : start + batch_size]), y[start : start + batch_size]

    def _da1(self, x: Tensor) -> Tensor:
        """Random crop with zero padding (4 of 32 pixels), horizontal flip, on CIFAR100 also a rotation by up to 15 degrees.

        Departs from the paper on digits alone, which it does not augment: they are cropped and not flipped.
        """
        batch, _, height, width = x.shape
        pad = height // 8
        draw = lambda high: torch.randint(high, (batch, 1), generator=self.generator, device=x.device)  # noqa: E731
        rows = draw(2 * pad + 1) + torch.arange(height, device=x.device)  # (B, H)
        columns = torch.arange(width, device=x.device).expand(batch, -1)
        if self.name in ("cifar10", "cifar100"):
            columns = torch.where(draw(2).bool(), columns.flip(1), columns)
        columns = draw(2 * pad + 1) + columns  # (B, W)
        index = torch.arange(batch, device=x.device).view(-1, 1, 1)
        x = F.pad(x, (pad,) * 4).permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        if self.name == "cifar100":
            angle = (torch.rand(batch, generator=self.generator, device=x.device) * 2 - 1) * (torch.pi / 12)
            cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
            theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)  # (B, 2, 3)
            grid = F.affine_grid(theta, list(x.shape), align_corners=False)
            x = F.grid_sample(x.float(), grid, mode="nearest", align_corners=False)  # as torchvision's default does
        return x

    def _da2(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mixup or CutMix of the batch with a permutation of itself, each with probability one half; soft targets (B, K)."""
        partner = torch.randperm(len(x), generator=self.generator, device=x.device)
        if self.host.random() < 0.5:
            share = float(self.host.beta(MIXUP_ALPHA, MIXUP_ALPHA))
            x = share * x + (1 - share) * x[partner]
        else:
            height, width = x.shape[2:]
            side = (1 - self.host.beta(CUTMIX_ALPHA, CUTMIX_ALPHA)) ** 0.5
            row, column = int(self.host.integers(height)), int(self.host.integers(width))
            half_h, half_w = int(height * side) // 2, int(width * side) // 2
            top, bottom = max(row - half_h, 0), min(row + half_h, height)
            left, right = max(column - half_w, 0), min(column + half_w, width)
            x = x.clone(memory_format=torch.preserve_format)
            x[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (height * width)  # of what is left after clipping
        onehot = F.one_hot(labels, self.num_classes).float()
        return x, share * onehot + (1 - share) * onehot[partner]
