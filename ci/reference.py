"""The yardstick of every speed in ci/bench: the training loop that a careful student writes after reading the paper.

A DataLoader with worker processes, torchvision's transforms on one PIL image at a time, float32 with PyTorch's
defaults, a scheduler of torch's, the accuracy read back at every step. Same network, loss, decay and schedule as
ours. """

import os
import time

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from bcebook.runs.specs import DATASETS
from bcebook.training import models


class Pictures(torch.utils.data.Dataset):
    """Images (N, H, W, C) uint8 one at a time, as torchvision's own data sets give them."""

    def __init__(self, x, y, transform):
        self.x, self.y, self.transform = x, y, transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        x = self.x[index]
        return self.transform(Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)), int(self.y[index])


class Reference:
    """A training of `config` on `dataset`; `epoch` trains one more and returns its seconds, `accuracy` is that of the
    test set."""

    def __init__(self, config, dataset, device="cpu"):
        self.config, self.device = config, device
        training, plain = self._transforms(dataset)
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        options = dict(batch_size=config.batch_size, num_workers=min(workers, 8), persistent_workers=True,
                       pin_memory=device == "cuda")
        self.train = DataLoader(Pictures(dataset.x_train, dataset.y_train, training), shuffle=True, **options)
        self.test = DataLoader(Pictures(dataset.x_test, dataset.y_test, plain), **options)
        self.classes = len(dataset.classes)
        torch.manual_seed(config.seed)
        channels = DATASETS[dataset.name].channels
        self.model = models.build(config.model, self.classes, channels, config.bias_init_mean).to(device)
        decay = config.weight_decay or 0.0
        if config.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(self.model.parameters(), config.learning_rate, momentum=0.9,
                                             weight_decay=decay)
        else:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), config.learning_rate, weight_decay=decay)
        if config.schedule == "step":
            milestones = [round(config.epochs * share) for share in (0.3, 0.6, 0.8)]
            self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, milestones, 0.2)
        else:
            self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, config.epochs,
                                                                        config.learning_rate / 100)

    def _transforms(self, dataset):
        tensor = [transforms.ToTensor()]
        if dataset.name == "digits":
            x = dataset.x_train / 255
            end = [*tensor, transforms.Normalize((x.mean(),), (x.std(),))]
        else:
            mean, std = DATASETS[dataset.name].mean, DATASETS[dataset.name].std
            end = [*tensor, transforms.Normalize(mean * (3 // len(mean)), std * (3 // len(std)))]
        if dataset.name == "mnist":
            end = [transforms.Grayscale(3), transforms.Resize((32, 32)), *end]
        crop, flip = transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip()
        augment = [crop, flip] if self.config.augmentation == "da1" else []
        return transforms.Compose([*augment, *end]), transforms.Compose(end)

    def epoch(self) -> float:
        config, began = self.config, time.perf_counter()
        self.model.train()
        correct = total = 0
        for x, y in self.train:
            x, y = x.to(self.device), y.to(self.device)
            logits, features = self.model(x)
            if config.loss == "ce":
                loss = F.cross_entropy(logits, y)
            else:
                target = F.one_hot(y, self.classes).float()
                loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(y)
            if config.decay == "decoupled":
                head = self.model.classifier
                squares = [(v**2).sum() for v in (head.weight, features, head.bias)]
                loss = loss + config.lambda_w / 2 * squares[0] + config.lambda_h / 2 * squares[1] \
                    + config.lambda_b / 2 * squares[2]
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            correct += (logits.argmax(1) == y).sum().item()
            total += len(y)
        self.scheduler.step()
        return time.perf_counter() - began

    def accuracy(self) -> float:
        self.model.eval()
        with torch.no_grad():
            right = sum((self.model(x.to(self.device))[0].argmax(1).cpu() == y).sum().item() for x, y in self.test)
        return right / len(self.test.dataset)
