"""What one training run is: a frozen, validated description with a stable key."""

import dataclasses
import hashlib
import json
import math
import reprlib
import typing
from dataclasses import dataclass

from bcebook.runs.specs import DATASETS, NETWORKS, STREAMED

CHOICES = {
    "dataset": (*DATASETS, *STREAMED),
    "model": tuple(NETWORKS),
    "loss": ("ce", "bce"),
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine", "constant", "one-cycle", "authors-step", "authors-cosine"),
    "augmentation": ("none", "da1", "da1+da2", "da1+mixup", "da1+cutmix"),
    "head": ("linear", "etf", "cosine"),
    "bias": ("trained", "none"),
    "decay": ("global", "decoupled"),
    "precision": ("float32", "bfloat16", "auto"),
}
DECOUPLED = ("lambda_w", "lambda_h", "lambda_b")
STEPS = (0.3, 0.6, 0.8)  # shares of the epochs after which "step" multiplies the rate by 0.2
RISE = 0.2  # share of the epochs in which "one-cycle" goes up
LOWEST = 1e-5  # rate at which the authors' cosine ends
LARGEST = 2**53  # of any number: up to here every whole number is a float too, as which the epochs are stored
# What `describe` does not mention: the paper's batch size, epochs and decay, and for each optimizer its rate and
# schedule.
PLAIN = {"epochs": 100, "batch_size": 128, "lambda_w": 5e-4, "lambda_h": 5e-4, "weight_decay": 5e-4}
PLAIN_RATE, PLAIN_SCHEDULE = {"sgd": 0.01, "adamw": 0.001}, {"sgd": "step", "adamw": "cosine"}


def batch_count(images: int, batch_size: int) -> int:
    """Batches in an epoch. The last, smaller one is kept, as the authors' loader does, unless it has one image (batch
    statistics need two)."""
    return images // batch_size + (images % batch_size > 1)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, final values only (a learning rate that follows from the batch size stands here already
    scaled).

    decay "global": the optimizer decays every parameter by `weight_decay`; the lambdas stay None. decay "decoupled":
    the loss gains lambda_w/2 |W|^2 + lambda_h/2 sum over the batch of |h|^2 + lambda_b/2 |b|^2, and the optimizer
    decays nothing; `weight_decay` stays None. Source: the paper's settings, data/paper and README.

    schedule "step": x 0.2 after 30, 60 and 80 % of the epochs; "cosine": from the rate to 1 % of it; "constant";
    "one-cycle": straight from 0 up to the rate in the first fifth, straight down to 0 in the rest, with every
    mini-batch (Smith and Topin, 2017).
    "authors-step", "authors-cosine": the same one epoch late, as the authors' loop has them, which calls
    `scheduler.step(epoch=epoch_id)` after each epoch: the first two epochs have the full rate; their cosine ends at
    1e-5, whatever it starts from.

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
    head: str = "linear"  # "etf": rows fixed to a simplex ETF; "cosine": features and rows normalised in training
    scale: float | None = None  # the length of the fixed rows, or the factor of a cosine
    bias: str = "trained"  # "none": zero for ever
    weight_start: float = 1.0  # the classifier's initial weight, as a multiple of the usual one
    keep_features: int = 0  # of so many training images the run keeps the features; see training/kept
    random_labels: bool = False  # the training labels are dealt out at random
    frozen: bool = False  # only the classifier is trained; the backbone stays as it starts, its batch statistics too
    seed: int = 0
    precision: str = "float32"  # of the backbone; "auto": bfloat16 where the device has it, float32 elsewhere
    train_size: int | None = None  # the first so many training images of a class-balanced draw; None: all
    held_out: bool = False  # measured on the training images that train_size leaves out, not on the test set
    imbalance_factor: float | None = None  # largest / smallest class of a long-tailed draw; None: as the data set is

    def __post_init__(self):
        for field in dataclasses.fields(self):
            self._check_kind(field)
        self._check_ranges()
        self._check_decay()
        self._check_streamed()
        network, data = NETWORKS[self.model], DATASETS.get(self.dataset) or STREAMED[self.dataset]
        if network.images != data.images:
            raise ValueError(
                f"{self.model} does not take {self.dataset}: it is made for {network.images} images, "
                f"and those of {self.dataset} are {data.images}."
            )

    def _check_kind(self, field: dataclasses.Field) -> None:
        """One of the choices, a whole number, or a number; a number is then of the field's own type."""
        name, value = field.name, getattr(self, field.name)
        types = typing.get_args(field.type) or (field.type,)  # of "int | None": (int, NoneType)
        if name in CHOICES:
            if value not in CHOICES[name]:
                raise ValueError(f"{name} is {reprlib.repr(value)}; choose one of {', '.join(CHOICES[name])}.")
            return
        if value is None and type(None) in types:
            return
        if types == (bool,):
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {reprlib.repr(value)}; it must be true or false.")
            return
        whole = int in types
        kinds = int if whole else (int, float)
        # Compared, not math.isfinite: that cannot take a whole number that is too long for a float.
        if isinstance(value, bool) or not isinstance(value, kinds) or not abs(value) <= LARGEST:
            raise ValueError(
                f"{name} is {reprlib.repr(value)}; it must be a finite {'whole number' if whole else 'number'}."
            )
        if not whole:
            # 1 and 1.0, 0.0 and -0.0 are the same setting, so they must have the same key
            object.__setattr__(self, name, float(value) + 0.0)

    def _check_ranges(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 2), ("seed", 0), ("train_size", 1), ("keep_features", 0)):
            if getattr(self, name) is not None and getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {low}.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must be at least 0 and less than 1.")
        if (self.head == "linear") != (self.scale is None):
            raise ValueError(
                f'head "{self.head}" {"has no" if self.head == "linear" else "needs a"} scale; '
                f"{'leave it out' if self.head == 'linear' else 'set it to a positive number'}."
            )
        for name in ("scale", "weight_start"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive.")
        if self.bias == "none" and (self.bias_init_mean or self.lambda_b):
            raise ValueError('bias "none" is zero for ever; leave out bias_init_mean and lambda_b.')
        if self.frozen and self.head == "etf" and self.bias == "none":
            raise ValueError('frozen, with head "etf" and bias "none", leaves nothing to train; change one of them.')
        if self.imbalance_factor is not None and self.imbalance_factor < 1:
            raise ValueError(
                f"imbalance_factor is {self.imbalance_factor}; it must be at least 1 (largest / smallest class)."
            )
        if self.imbalance_factor is not None and self.train_size is not None:
            raise ValueError("train_size and imbalance_factor both choose the training images; set only one of them.")

        if self.held_out and self.train_size is None:
            raise ValueError(
                "held_out measures on the training images that are left out; say with train_size how many to train on."
            )

    def _check_streamed(self) -> None:
        """What is read from folders as it is needed is taken as it is."""
        parts = ("train_size", "imbalance_factor", "held_out", "random_labels", "keep_features")
        if self.dataset in STREAMED and (asked := [name for name in parts if getattr(self, name)]):
            raise ValueError(f"{self.dataset} is read from its folders as it is; leave out {', '.join(asked)}.")
        if self.dataset in STREAMED and (self.augmentation not in ("none", "da1") or self.decay != "global"):
            raise ValueError(f'{self.dataset} is trained with augmentation "none" or "da1" and with decay "global".')

    def _check_decay(self) -> None:
        used, unused = (("weight_decay",), DECOUPLED) if self.decay == "global" else (DECOUPLED, ("weight_decay",))
        for name in used:
            value = getattr(self, name)
            if value is None or value < 0:
                raise ValueError(f'decay "{self.decay}" needs {name} to be a number of at least 0, not {value}.')
        for name in unused:
            value = getattr(self, name)
            if value is not None:
                raise ValueError(f'decay "{self.decay}" does not use {name}; leave it out (it is {value}).')

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "RunConfig":
        """The inverse of `to_dict`. Raises ValueError for a field that does not exist or one that is missing."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        if not isinstance(values, dict):
            raise ValueError(f"the settings are {reprlib.repr(values)}; they must be names with values.")
        if unknown := sorted(str(name) for name in set(values) - set(known)):
            raise ValueError(f"unknown setting {', '.join(map(_name, unknown[:5]))}; a run has: {', '.join(known)}.")
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

    @property
    def by_batch(self) -> bool:
        """Whether the learning rate changes with every mini-batch, not only with every epoch."""
        return self.schedule == "one-cycle"

    def rate(self, epoch: int, part: float = 0.5) -> float:
        """The learning rate of an epoch, counted from 1. part: how much of the epoch is over, which matters only where
        the rate is `by_batch`."""
        authors = self.schedule.startswith("authors-")
        if authors:  # one epoch late: see the class
            epoch = max(1, epoch - 1)
        done = (epoch - 1) / self.epochs
        if self.schedule.endswith("step"):  # of 100 epochs, 31, 61 and 81 are the first with a lower rate
            return self.learning_rate * 0.2 ** sum(done >= share for share in STEPS)
        if self.schedule.endswith("cosine"):  # for AdamW's 1e-3 both ends are the paper's 1e-5
            low = min(1.0, LOWEST / self.learning_rate) if authors else 0.01  # as a share of the start
            return self.learning_rate * (low + (1 - low) * (1 + math.cos(math.pi * done)) / 2)
        if self.by_batch:
            done = (epoch - 1 + part) / self.epochs
            return self.learning_rate * min(done / RISE, (1 - done) / (1 - RISE))
        return self.learning_rate

    def summed_rates(self, images: int) -> float:
        """The learning rates of all steps on so many training images, added up. Times AdamW's weight decay, this is by
        how many factors of e the decay alone shrinks a weight over the run."""
        return batch_count(images, self.batch_size) * sum(self.rate(epoch) for epoch in range(1, self.epochs + 1))

    def describe(self) -> str:
        """One line for a person: what is trained on what, and every setting in which it differs from the plainest run.

        "resnet18/cifar10 BCE SGD bias mean 5 seed 0, 24 epochs, rate 0.1". Two runs that differ have different lines.
        """
        parts = [f"{self.model}/{self.dataset}", self.loss.upper(), {"sgd": "SGD", "adamw": "AdamW"}[self.optimizer]]
        if self.augmentation != "none":
            parts.append(self.augmentation.upper())
        if self.bias_init_mean:
            parts.append(f"bias mean {_number(self.bias_init_mean)}")
        if self.lambda_b:
            parts.append(f"lambda_b {_number(self.lambda_b)}")
        if self.imbalance_factor:
            parts.append(f"imbalance {_number(self.imbalance_factor)}")
        return ", ".join([" ".join([*parts, f"seed {self.seed}"]), *self._particulars()])

    def _particulars(self) -> list[str]:
        """The settings that the beginning of `describe` does not have, where they are not the plain ones."""
        differs = lambda name: getattr(self, name) not in (None, PLAIN[name])  # noqa: E731
        told = [f"{name} {_number(getattr(self, name))}" for name in ("lambda_w", "lambda_h") if differs(name)]
        if self.decay == "global":
            told.append("global decay" + (f" {_number(self.weight_decay)}" if differs("weight_decay") else ""))
        if differs("epochs"):
            told.append(f"{self.epochs} epochs")
        if self.learning_rate != PLAIN_RATE[self.optimizer]:
            told.append(f"rate {_number(self.learning_rate)}")
        if self.schedule != PLAIN_SCHEDULE[self.optimizer]:
            told.append(f"schedule {self.schedule}")
        if differs("batch_size"):
            told.append(f"batches of {self.batch_size}")
        if self.head != "linear":
            told.append(f"{self.head} head of scale {_number(self.scale)}")
        if self.bias == "none":
            told.append("no bias")
        if self.weight_start != 1:
            told.append(f"weights start {_number(self.weight_start)} times as large")
        if self.keep_features:
            told.append(f"keeps the features of {self.keep_features} images")
        if self.random_labels:
            told.append("random labels")
        if self.frozen:
            told.append("frozen backbone")
        if self.label_smoothing:
            told.append(f"smoothing {_number(self.label_smoothing)}")
        if self.train_size is not None:
            told.append(f"{self.train_size} images" + (", measured on the others" if self.held_out else ""))
        if self.precision != "float32":
            told.append(f"precision {self.precision}")
        return told


def _number(value: float) -> str:
    """Short where that is exact ("5", "5e-06"), else every digit."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _name(text: str) -> str:
    """A name as it is; what is none, in quotes and not too long."""
    return text if text.isidentifier() and len(text) < 40 else reprlib.repr(text)
