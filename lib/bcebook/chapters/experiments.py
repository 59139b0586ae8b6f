"""The experiments of the chapters that are scripts: which runs each plans, by profile and seed."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bcebook.chapters import recipes
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS

# Of the imbalance experiment: the network, and (lambda_W, epochs). With the paper's lambda_H, the values of lambda_W
# lie on both sides of the threshold of minority collapse. Only the product counts; a larger lambda_H would make
# training stiff, because the decay is summed over the batch. The long tail has few images, hence the epochs. One value
# is also trained longer, because near the threshold the tail opens slowly.
TAILS = "convnet", [(0.02, 300), (0.1, 300), (0.2, 300), (0.4, 300), (0.8, 300), (0.1, 1200)]
QUICK_TAILS = "mlp", [(0.02, 150), (0.1, 150), (0.8, 150), (0.1, 450)]
IMBALANCE = 20  # images of the largest class over those of the smallest

# Of the accuracy experiment in the profile laptop. The former recipe's were recorded before the authors' was known:
# they are exploratory. The margin of equivalence was fixed after them and before the authors'.
FORMER_SEEDS, AUTHORS_SEEDS = recipes.THREE_SEEDS, (3, 4, 5)

# Of the long-tailed experiment: the imbalances of the paper's table, largest class over smallest. Of the 387 digits at
# imbalance 50, batches of 128 would leave a last one of three images, whose batch statistics spoil the training.
FACTORS = 10, 50, 100
LONG_TAILED = {"quick": ("mlp", "digits", 100), "laptop": ("resnet9", "cifar100", recipes.BATCH_SIZE),
               "paper": ("resnet18", "cifar100", recipes.BATCH_SIZE)}  # network, data set, batch size
STARTED = {"laptop": max(FACTORS)}  # profile -> the imbalance at which BCE's biases start elsewhere, too


@dataclass(frozen=True)
class Experiment:
    """runs: (profile, seed) -> configurations, in the order in which they are worth having. seeds: profile -> seeds,
    where they are not the profile's own."""

    runs: Callable[[str, int], list[RunConfig]]
    seeds: dict[str, tuple[int, ...]] = field(default_factory=dict)


def accuracy(profile: str, seed: int) -> list[RunConfig]:
    """The authors' recipe; then what varies it: the former recipe, and in the profile laptop other starts of BCE's
    biases."""
    if profile != "laptop":
        return [*recipes.classification(profile, seed), *recipes.former(profile, seed)]
    if seed in FORMER_SEEDS:
        return recipes.former(profile, seed)
    network = recipes.PROFILES[profile].accuracy[0]
    even = recipes.even_start(DATASETS[network[1]].num_classes)
    return recipes.classification(profile, seed) + [
        recipes.accuracy_run(profile, network, "bce", optimizer, seed, "da1", start)
        for optimizer in recipes.OPTIMIZERS
        for start in (even, 0.0)
    ]


def initial_bias(profile: str, seed: int) -> list[RunConfig]:
    """Decoupled decay from several initial means of the biases, without decay of the biases: on the first network, in
    the profile laptop, where a run takes minutes, on all. Then several lambda_b from the largest mean, on the first."""
    spec = recipes.PROFILES[profile]
    networks = spec.networks if profile == "laptop" else spec.networks[:1]
    starts = [config for network in networks for config in recipes.decoupled(profile, network, seed, spec.means)]
    return starts + recipes.decoupled(profile, networks[0], seed, (recipes.LAMBDA_B_START,), spec.lambdas)


def imbalance(profile: str, seed: int) -> list[RunConfig]:
    """Long-tailed digits in every profile: the question is whether a network follows the theory, at settings of our
    own."""
    model, settings = QUICK_TAILS if profile == "quick" else TAILS
    return [
        RunConfig(
            model=model,
            dataset="digits",
            loss=loss,
            optimizer="sgd",
            learning_rate=0.1,
            schedule="cosine",
            epochs=epochs,
            batch_size=recipes.BATCH_SIZE,
            seed=seed,
            imbalance_factor=IMBALANCE,
            decay="decoupled",
            lambda_w=lambda_w,
            lambda_h=recipes.PAPER_DECAY,
            lambda_b=0,
        )
        for lambda_w, epochs in settings
        for loss in recipes.LOSSES
    ]


def long_tailed(profile: str, seed: int) -> list[RunConfig]:
    """Both losses at every imbalance with biases that start around 0: SGD, DA1, one weight decay for all parameters,
    and as many epochs as the profile's longest runs of the network, because a long tail has few images. Then BCE at one
    imbalance (STARTED) with biases that start at `recipes.even_start`.

    A pair of runs takes seconds on digits, and 13 to 20 minutes of ResNet9 on CIFAR100 on a laptop's core.
    """
    model, dataset, batch_size = LONG_TAILED[profile]
    epochs = recipes.PROFILES[profile].training_of(model).epochs
    pairs = [replace(recipes.run(profile, (model, dataset), loss, "sgd", seed, augmentation="da1",
                                 imbalance_factor=factor, **recipes.GLOBAL), epochs=epochs, batch_size=batch_size)
             for factor in FACTORS for loss in recipes.LOSSES]
    start = recipes.even_start(DATASETS[dataset].num_classes)
    return pairs + [replace(config, bias_init_mean=start) for config in pairs
                    if config.loss == "bce" and config.imbalance_factor == STARTED.get(profile)]


EXPERIMENTS = {
    "accuracy": Experiment(
        accuracy,
        {
            "quick": recipes.THREE_SEEDS,
            "laptop": AUTHORS_SEEDS + FORMER_SEEDS,
            "paper": recipes.THREE_SEEDS,
        },
    ),
    "initial_bias": Experiment(initial_bias, {"paper": (0,)}),
    "imbalance": Experiment(imbalance, {"paper": (0,)}),
    "long_tailed": Experiment(long_tailed, {profile: recipes.THREE_SEEDS for profile in recipes.PROFILES}),
}
