"""The paper's settings as recipes for runs: one entry a profile, one function a kind of experiment."""

import math
from dataclasses import dataclass, field, replace

from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS

LOSSES, OPTIMIZERS = ("ce", "bce"), ("sgd", "adamw")
PAPER_DECAY = 5e-4  # lambda_W, lambda_H and the optimizers' weight decay: the defaults of the authors' code
DECOUPLED = {"decay": "decoupled", "lambda_w": PAPER_DECAY, "lambda_h": PAPER_DECAY}
GLOBAL = {"decay": "global", "weight_decay": PAPER_DECAY}
# The recipe of the authors' accuracy experiments, as an early public version of their train.py spells it out (the page
# on departures quotes it): where BCE's biases start (CE's start at 0), AdamW's decay, and the smoothing that goes with
# Mixup and CutMix.
AUTHORS_START, AUTHORS_ADAMW_DECAY, AUTHORS_SMOOTHING = 6.0, 0.05, 0.1
AUTHORS, FORMER = "authors", "former"  # FORMER: this book's own before it knew the authors'
BATCH_SIZE = 128
PAPER_MEANS = (0, 1, 2, 3, 4, 5, 6, 8, 10)  # initial bias means of the paper's figures
LAMBDA_B = (0.5, 0.05, 5e-3, 5e-4, 5e-5, 5e-6)  # swept at the initial mean LAMBDA_B_START, as in the figures
LAMBDA_B_START = 10
THREE_SEEDS = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained. rates, schedules: by optimizer; epochs of a run, and fewer of them by kind
    ("accuracy") or data set."""

    rates: dict[str, float]
    epochs: int
    fewer_epochs: dict[str, int] = field(default_factory=dict)
    schedules: dict[str, str] = field(default_factory=lambda: {"sgd": "step", "adamw": "cosine"})


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One way to train the book. text: in words; networks: pairs of network and data set, those of most value first;
    also: those of the collapse experiment alone; accuracy: those of the accuracy experiment, and their augmentations;
    training: of all networks but those that have their `own`; means: of the initial biases; lambdas: of lambda_b."""

    text: str
    networks: tuple[tuple[str, str], ...]
    also: tuple[tuple[str, str], ...] = ()
    accuracy: tuple[tuple[str, str], ...]
    augmentations: tuple[str, ...] = ("da1", "da1+da2")
    training: Training
    own: dict[str, Training] = field(default_factory=dict)
    means: tuple[float, ...] = PAPER_MEANS
    lambdas: tuple[float, ...] = LAMBDA_B
    seeds: tuple[int, ...] = (0,)
    precision: str = "auto"

    @property
    def collapse(self) -> tuple[tuple[str, str], ...]:
        """Those of the collapse experiment."""
        return (*self.also, *self.networks)

    @property
    def every(self) -> tuple[tuple[str, str], ...]:
        """All its networks, each once, those of most value first."""
        first = [network for network in self.accuracy if network not in self.networks]
        return tuple(dict.fromkeys([*first, *self.collapse]))

    def training_of(self, model: str) -> Training:
        return self.own.get(model, self.training)


PAPER_NETWORKS = tuple(
    (m, d) for m in ("resnet18", "resnet50", "densenet121") for d in ("cifar10", "mnist", "cifar100")
)
# Ours; the rates are those that the chapter on learning rates picks on images that are held out.
RESNET9 = Training(rates={"sgd": 0.2, "adamw": 0.032}, epochs=16,
                   schedules={"sgd": "one-cycle", "adamw": "one-cycle"})
# Ours too: how the paper fine-tuned is not known.
IMAGENET = Training(rates={"sgd": 0.01}, epochs=2, schedules={"sgd": "one-cycle"})
# Ours. The rate is the one of 0.02, 0.05 and 0.1 with the highest accuracy, a mean of both losses, on 2,000 training
# images that were held out, after one epoch on 10,000 others: 33.9, 44.6 and 42.7 %; and for the classifier alone 44.2,
# 46.7 and 45.8 %, with 0.2 43.9 and with 0.5 41.1 %.
EFFICIENTNET = Training(rates={"sgd": 0.05}, epochs=4, schedules={"sgd": "one-cycle"})
VIT_ON_DIGITS = {"rates": {"sgd": 0.1, "adamw": 0.003}}
PROFILES = {
    # Departs from the paper in the profiles quick and laptop: higher learning rates, because their runs have far fewer
    # steps.
    "quick": Profile(
        text="the 8x8 digits and a small MLP: minutes on a laptop's CPU",
        networks=(("mlp", "digits"),),
        accuracy=(("mlp", "digits"),),
        training=Training(
            rates={"sgd": 0.1, "adamw": 0.01},
            epochs=60,
            fewer_epochs={"accuracy": 40},  # stopped improving by then
        ),
        own={"vit-mini": Training(epochs=12, **VIT_ON_DIGITS)},
        means=(0, 2, 5, 10),
        lambdas=(0.5, 5e-3, 5e-5),
        precision="float32",
    ),
    "laptop": Profile(
        text="MNIST and CIFAR10 in full and small residual networks: minutes a run on a laptop's CPU",
        networks=(("resnet8", "mnist"), ("resnet8", "cifar10")),
        also=(("resnet9", "cifar10"), ("resnet9-signed", "cifar10")),
        accuracy=(("resnet9", "cifar10"),),
        augmentations=("da1",),
        training=Training(rates={"sgd": 0.1, "adamw": 0.003}, epochs=24, fewer_epochs={"mnist": 10}),
        own={"resnet9": RESNET9, "resnet9-signed": RESNET9, "efficientnet-lite0": EFFICIENTNET,
             "vit-tiny": Training(epochs=15, **VIT_ON_DIGITS)},
        means=(0, 2, 5, 10),
    ),
    "paper": Profile(
        text="the paper's data sets, networks and settings: a GPU",
        networks=PAPER_NETWORKS,
        accuracy=tuple(network for network in PAPER_NETWORKS if network[1] != "mnist"),  # the table is of CIFAR
        training=Training(rates={"sgd": 0.01, "adamw": 0.001}, epochs=100,
                          schedules={"sgd": "authors-step", "adamw": "authors-cosine"}),
        own={"resnet50-224": IMAGENET, "resnet101-224": IMAGENET, "densenet161-224": IMAGENET},
        seeds=THREE_SEEDS,
    ),
}


def even_start(num_classes: int) -> float:
    """log(K - 1), to a tenth: the initial bias from which each sigmoid of a zero score is 1/K, the share of its class
    (Lin et al., "Focal Loss for Dense Object Detection", 2017)."""
    return round(math.log(num_classes - 1), 1)


# What a page or a book can be made of beside a profile: of each chapter the strongest profile that has recorded runs.
RECORDED = "recorded"
DEVICES = r"cpu|auto|cuda(:\d+)?"  # a regular expression


def check_profile(profile: str) -> None:
    """Raises ValueError, with the names there are, for an unknown profile."""
    if profile not in PROFILES:
        raise ValueError(f"there is no profile {profile!r}; choose one of {', '.join(PROFILES)}.")


def run(profile: str, network: tuple[str, str], loss: str, optimizer: str, seed: int, **settings) -> RunConfig:
    """One run of a profile: its rates, schedules, epochs and precision, and what `settings` adds."""
    model, dataset = network
    spec = PROFILES[profile]
    training = spec.training_of(model)
    kind = "accuracy" if settings["decay"] == "global" else dataset
    return RunConfig(
        model=model,
        dataset=dataset,
        loss=loss,
        optimizer=optimizer,
        learning_rate=training.rates[optimizer],
        schedule=training.schedules[optimizer],
        epochs=training.fewer_epochs.get(kind, training.epochs),
        batch_size=BATCH_SIZE,
        seed=seed,
        precision=spec.precision,
        **settings,
    )


def decoupled(profile: str, network: tuple[str, str], seed: int, means=(0,), lambdas=(0.0,)) -> list[RunConfig]:
    """Decoupled decay, no augmentation: the paper's NC and bias experiments. BCE first, whose bias is the one that
    moves."""
    return [
        run(profile, network, loss, optimizer, seed, bias_init_mean=mean, lambda_b=lambda_b, **DECOUPLED)
        for loss in reversed(LOSSES)
        for optimizer in OPTIMIZERS
        for mean in means
        for lambda_b in lambdas
    ]


def collapse(profile: str, seed: int) -> list[RunConfig]:
    """The neural-collapse experiment: biases that start around zero."""
    return [config for network in PROFILES[profile].collapse for config in decoupled(profile, network, seed)]


def summed_rates(config: RunConfig) -> float:
    """Of a run on a balanced data set: see `RunConfig.summed_rates`."""
    return config.summed_rates(config.train_size or DATASETS[config.dataset].train_count)


def accuracy_run(profile: str, network: tuple[str, str], loss: str, optimizer: str, seed: int, augmentation: str,
                 start: float | None = None) -> RunConfig:
    """One run of the accuracy experiment by the authors' recipe. start: of BCE's biases; None: the authors' 6.

    A run of another length or rate than theirs decays as much as theirs with AdamW: its decay times its `summed_rates`
    is that of their run on CIFAR10, to one digit. SGD keeps their decay, which is a term of what it minimises.
    """
    settings = {
        "augmentation": augmentation,
        "label_smoothing": AUTHORS_SMOOTHING if "+" in augmentation else 0.0,  # with Mixup and CutMix
        "bias_init_mean": (AUTHORS_START if start is None else start) if loss == "bce" else 0.0,
    }
    ours = run(profile, network, loss, optimizer, seed, **GLOBAL, **settings)
    if optimizer == "sgd":
        return ours
    theirs = run("paper", PAPER_NETWORKS[0], loss, optimizer, seed, **GLOBAL)
    matched = AUTHORS_ADAMW_DECAY * summed_rates(theirs) / summed_rates(ours)
    return replace(ours, weight_decay=AUTHORS_ADAMW_DECAY if profile == "paper" else float(f"{matched:.1g}"))


def classification(profile: str, seed: int) -> list[RunConfig]:
    """The accuracy experiment by the authors' recipe: decay of every parameter, augmented images, BCE's biases start
    at 6."""
    spec = PROFILES[profile]
    return [
        accuracy_run(profile, network, loss, optimizer, seed, augmentation)
        for network in spec.accuracy
        for augmentation in spec.augmentations
        for optimizer in OPTIMIZERS
        for loss in LOSSES
    ]


def former(profile: str, seed: int) -> list[RunConfig]:
    """The accuracy experiment as this book made it before it knew the authors' recipe: the same decay for both
    optimizers, both losses' biases start around 0. With DA1 alone."""
    return [
        run(profile, network, loss, optimizer, seed, augmentation="da1", **GLOBAL)
        for network in PROFILES[profile].accuracy
        for optimizer in OPTIMIZERS
        for loss in LOSSES
    ]


def studied(profile: str, seed: int) -> list[RunConfig]:
    """The accuracy runs whose scores and features other chapters look at: by the authors' recipe; in the profile laptop
    by the former one, until as many seeds of the authors' are recorded."""
    return former(profile, seed) if profile == "laptop" else classification(profile, seed)


def recipes_of(config: RunConfig) -> tuple[str, ...]:
    """By which recipes of the accuracy experiment a run is made: AUTHORS, FORMER, both (CE with SGD and DA1) or
    neither."""
    if config.decay != "global":
        return ()
    smoothing = AUTHORS_SMOOTHING if "+" in config.augmentation else 0.0
    of_authors = (config.bias_init_mean == (AUTHORS_START if config.loss == "bce" else 0.0)
                  and config.label_smoothing == smoothing
                  and (config.optimizer == "sgd") == (config.weight_decay == PAPER_DECAY))
    of_former = not config.bias_init_mean and not config.label_smoothing and config.weight_decay == PAPER_DECAY
    return (AUTHORS,) * of_authors + (FORMER,) * of_former
