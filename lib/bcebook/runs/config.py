"""What one training run is: a frozen, validated description with a stable key."""

import dataclasses
import hashlib
import json
import math
import typing
from dataclasses import dataclass

CHOICES = {
    "dataset": ("digits", "mnist", "cifar10", "cifar100"),
    "model": ("convnet", "resnet8", "resnet18", "resnet50", "densenet121"),
    "loss": ("ce", "bce"),
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine", "constant", "authors-step", "authors-cosine"),
    "augmentation": ("none", "da1", "da1+da2"),
    "decay": ("global", "decoupled"),
    "precision": ("float32", "bfloat16", "auto"),
}
DECOUPLED = ("lambda_w", "lambda_h", "lambda_b")


def batch_count(images: int, batch_size: int) -> int:
    """Batches in an epoch. The last, smaller one is kept, as the authors' loader does, unless it has one image (batch statistics
    need two)."""
    return images // batch_size + (images % batch_size > 1)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, final values only (a learning rate that follows from the batch size stands here already scaled).

    decay "global": the optimizer decays every parameter by `weight_decay`; the lambdas stay None.
    decay "decoupled": the loss gains lambda_w/2 |W|^2 + lambda_h/2 sum over the batch of |h|^2 + lambda_b/2 |b|^2, and the
    optimizer decays nothing; `weight_decay` stays None. Source: the paper's settings, data/paper and README.

    schedule "step": x 0.2 after 30, 60 and 80 % of the epochs; "cosine": from the rate to 1 % of it; "constant".
    "authors-step", "authors-cosine": the same one epoch late, as the authors' loop has them, which calls
    `scheduler.step(epoch=epoch_id)` after each epoch: the first two epochs have the full rate.

    Raises ValueError, one sentence, for an unknown choice, a value out of range or a combination that cannot be run.
    Hashable; `key` is the same in every process, on every machine and for every order of the arguments.
    """

    dataset: str
    model: str
    loss: str
    optimizer: str
    learning_rate: float  # after scaling with the batch size
    epochs: int
    schedule: str = "step"
    batch_size: int = 128
    augmentation: str = "none"
    decay: str = "decoupled"
    weight_decay: float | None = None
    lambda_w: float | None = None
    lambda_h: float | None = None
    lambda_b: float | None = None
    label_smoothing: float = 0.0
    bias_init_mean: float = 0.0
    seed: int = 0
    precision: str = "float32"  # of the backbone; "auto": bfloat16 where the device has it, float32 elsewhere
    train_size: int | None = None  # the first so many training images of a class-balanced draw; None: all
    imbalance_factor: float | None = None  # largest / smallest class of a long-tailed draw; None: as the data set is

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            types = typing.get_args(field.type) or (field.type,)  # of "int | None": (int, NoneType)
            if field.name in CHOICES:
                if value not in CHOICES[field.name]:
                    raise ValueError(f"{field.name} is {value!r}; choose one of {', '.join(CHOICES[field.name])}.")
            elif value is None and type(None) in types:
                continue
            elif int in types:
                self._number(field.name, value, int)
            else:
                self._number(field.name, value, float)
                # 1 and 1.0, 0.0 and -0.0 are the same setting, so they must have the same key
                object.__setattr__(self, field.name, float(value) + 0.0)
        for name, low in (("epochs", 1), ("batch_size", 2), ("seed", 0), ("train_size", 1)):
            if getattr(self, name) is not None and getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {low}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must be at least 0 and less than 1.")
        if self.imbalance_factor is not None and self.imbalance_factor < 1:
            raise ValueError(f"imbalance_factor is {self.imbalance_factor}; it must be at least 1 (largest / smallest class).")
        if self.imbalance_factor is not None and self.train_size is not None:
            raise ValueError("train_size and imbalance_factor both choose the training images; set only one of them.")
        used, unused = (("weight_decay",), DECOUPLED) if self.decay == "global" else (DECOUPLED, ("weight_decay",))
        for name in used:
            if getattr(self, name) is None or getattr(self, name) < 0:
                raise ValueError(f'decay "{self.decay}" needs {name} to be a number of at least 0, not {getattr(self, name)}.')
        for name in unused:
            if getattr(self, name) is not None:
                raise ValueError(f'decay "{self.decay}" does not use {name}; leave it out (it is {getattr(self, name)}).')
        if (self.model == "convnet") != (self.dataset == "digits"):
            raise ValueError(f"{self.model} does not take {self.dataset}: the convnet is made for the 8x8 digits, "
                             "the other models for 32x32 images.")

    @staticmethod
    def _number(name: str, value, kind: type) -> None:
        allowed = (int,) if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}; it must be a finite {'whole number' if kind is int else 'number'}.")

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "RunConfig":
        """The inverse of `to_dict`. Raises ValueError for a field that does not exist or one that is missing."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := set(values) - set(known):
            raise ValueError(f"unknown setting {', '.join(sorted(unknown))}; a run has: {', '.join(known)}.")
        required = {name for name, field in known.items() if field.default is dataclasses.MISSING}
        if missing := required - set(values):
            raise ValueError(f"the settings lack {', '.join(sorted(missing))}.")
        return cls(**values)

    @property
    def key(self) -> str:
        """16 hexadecimal digits: SHA-256 of the settings as canonical JSON (sorted names, no spaces, shortest floats).

        A setting that stands at its default is left out, so that a setting added later (with a default that means
        "as before") leaves the keys of all earlier runs as they are.
        """
        defaults = {f.name: f.default for f in dataclasses.fields(self) if f.default is not dataclasses.MISSING}
        chosen = {k: v for k, v in self.to_dict().items() if k not in defaults or v != defaults[k]}
        text = json.dumps(chosen, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        if self.schedule.startswith("authors-"):  # one epoch late: see the class
            epoch = max(1, epoch - 1)
        done = (epoch - 1) / self.epochs
        if self.schedule.endswith("step"):  # of 100 epochs, 31, 61 and 81 are the first with a lower rate
            return self.learning_rate * 0.2 ** sum(done >= share for share in (0.3, 0.6, 0.8))
        if self.schedule.endswith("cosine"):  # to 1 % of the start: AdamW's 1e-3 to the paper's 1e-5
            return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        return self.learning_rate

    def describe(self) -> str:
        """One line for a person: what is trained on what, and how it differs from the plainest run."""
        parts = [f"{self.model}/{self.dataset}", self.loss.upper(), {"sgd": "SGD", "adamw": "AdamW"}[self.optimizer]]
        if self.augmentation != "none":
            parts.append(self.augmentation.upper())
        if self.bias_init_mean:
            parts.append(f"bias mean {self.bias_init_mean:g}")
        if self.lambda_b:
            parts.append(f"lambda_b {self.lambda_b:g}")
        if self.imbalance_factor:
            parts.append(f"imbalance {self.imbalance_factor:g}")
        return " ".join(parts) + f" seed {self.seed}"
