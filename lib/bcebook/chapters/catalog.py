"""Which runs each chapter needs in each profile, as data."""

from bcebook.runs.config import RunConfig

PROFILES = {
    "quick": "the 8x8 digits and a small convnet: minutes on a laptop's CPU",
    "laptop": "MNIST and CIFAR10 in full and a small residual network: minutes a run on a laptop's CPU",
    "paper": "the paper's data sets, networks and settings: a GPU",
}
CHAPTERS = {  # in reading order; each is book/<name>.py and .ipynb
    "initial_bias": "Classifier bias and decision scores against the initial bias mean",
    "bias_decay": "Classifier bias and decision scores against the decay of the bias",
    "neural_collapse": "Neural collapse over the epochs",
    "score_histograms": "Histograms of positive and negative scores",
    "accuracy": "Accuracy and uniform accuracy",
    "two_geometries": "Two losses, two geometries",
    "minima": "Minima",
    "bias_saturates": "The bias saturates",
    "published_predicted": "The closed form predicts the published figures",
    "fewer_dimensions": "Fewer dimensions than classes",
    "imbalance": "Imbalance and minority collapse",
}
# chapters of theory: nothing is trained for them
WITHOUT_RUNS = ("two_geometries", "minima", "bias_saturates", "published_predicted", "fewer_dimensions")
LOSSES, OPTIMIZERS, AUGMENTATIONS = ("ce", "bce"), ("sgd", "adamw"), ("da1", "da1+da2")
BIAS_MEANS = {"quick": (0, 1, 2, 3, 4, 5, 6, 8, 10), "laptop": (0, 2, 5, 10), "paper": (0, 1, 2, 3, 4, 5, 6, 8, 10)}
LAMBDA_B = (0.5, 0.05, 5e-3, 5e-4, 5e-5, 5e-6)  # swept at the initial bias mean 10, as in the published figures
NETWORKS = {  # (model, data set), those of most value first
    "quick": (("convnet", "digits"),),
    "laptop": (("resnet8", "mnist"), ("resnet8", "cifar10")),
    "paper": tuple((m, d) for m in ("resnet18", "resnet50", "densenet121") for d in ("cifar10", "mnist", "cifar100")),
}
SEEDS = {"quick": (0,), "laptop": (0,), "paper": (0, 1, 2)}
MORE_SEEDS = {("accuracy", "quick"): (0, 1, 2, 3, 4), ("neural_collapse", "quick"): (0, 1, 2, 3, 4),
              ("neural_collapse", "laptop"): (0, 1, 2), ("accuracy", "laptop"): (0, 1, 2), ("initial_bias", "paper"): (0,), ("bias_decay", "paper"): (0,),
              ("imbalance", "paper"): (0,)}
# Departs from the paper in the profiles quick and laptop: higher learning rates (the paper's are SGD 0.01, AdamW 0.001),
# because their runs have 1,200 and 4,700 to 9,400 steps where the paper's have 39,100.
RATES = {"quick": {"sgd": 0.1, "adamw": 0.01}, "laptop": {"sgd": 0.1, "adamw": 0.003}, "paper": {"sgd": 0.01, "adamw": 0.001}}
SCHEDULES = {"sgd": "step", "adamw": "cosine"}
EPOCHS = {"quick": 100, "laptop": 24, "paper": 100}
FEWER_EPOCHS = {("accuracy", "quick"): 40, ("mnist", "laptop"): 10}  # these have stopped improving by then
# The chapter on imbalance: five values of lambda_w, with the paper's lambda_h, on both sides of the threshold of minority collapse.
# lambda_h, whose sum over the batch makes training stiff, stays; only the product counts. 300 epochs: 472 images make 4 steps each. One
# value is also trained four times as long, because near the threshold the tail opens slowly.
IMBALANCE, TAIL_LAMBDA_W, TAIL_EPOCHS, LONGER = 20, (0.02, 0.1, 0.2, 0.4, 0.8), 300, (0.1, 1200)
DECOUPLED = {"decay": "decoupled", "lambda_w": 5e-4, "lambda_h": 5e-4}
GLOBAL = {"decay": "global", "weight_decay": 5e-4}


def configs(chapter: str, profile: str, seeds: tuple[int, ...] | None = None) -> list[RunConfig]:
    """The runs that a chapter shows, without duplicates, in the order in which they are worth having; none for theory.

    seeds: None takes the profile's own. Raises ValueError for an unknown chapter or profile, or for no seeds.
    """
    if chapter not in CHAPTERS:
        raise ValueError(f"there is no chapter {chapter!r}; choose one of {', '.join(CHAPTERS)}.")
    check_profile(profile)
    if chapter in WITHOUT_RUNS:
        return []
    seeds = MORE_SEEDS.get((chapter, profile), SEEDS[profile]) if seeds is None else tuple(seeds)
    if not seeds:
        raise ValueError("seeds is empty; give at least one, or None for the profile's own.")
    make = {"initial_bias": _initial_bias, "bias_decay": _bias_decay, "neural_collapse": _neural_collapse,
            "score_histograms": _score_histograms, "accuracy": _accuracy, "imbalance": _imbalance}[chapter]
    return [config for seed in seeds for config in make(profile, seed)]


def check_profile(profile: str) -> None:
    """Raises ValueError, with the names there are, for an unknown profile."""
    if profile not in PROFILES:
        raise ValueError(f"there is no profile {profile!r}; choose one of {', '.join(PROFILES)}.")


def all_configs(profile: str) -> list[RunConfig]:
    """Every run that a profile's book needs, each once, those of most value first: the first seed before the others, in it the
    first network with all its chapters before the next."""
    every = dict.fromkeys(config for chapter in CHAPTERS for config in configs(chapter, profile))
    networks = [*NETWORKS[profile], *NETWORKS["quick"]]  # the chapter on imbalance has the digits in every profile
    return sorted(every, key=lambda config: (config.seed, networks.index((config.model, config.dataset))))


def _run(profile: str, network: tuple[str, str], loss: str, optimizer: str, seed: int, **settings) -> RunConfig:
    model, dataset = network
    kind = "accuracy" if settings["decay"] == "global" else dataset
    return RunConfig(model=model, dataset=dataset, loss=loss, optimizer=optimizer, learning_rate=RATES[profile][optimizer],
                     schedule=SCHEDULES[optimizer], epochs=FEWER_EPOCHS.get((kind, profile), EPOCHS[profile]), batch_size=128,
                     seed=seed, precision="float32" if profile == "quick" else "auto", **settings)


def _decoupled(profile: str, network: tuple[str, str], seed: int, means=(0,), lambdas=(0.0,)) -> list[RunConfig]:
    """Decoupled decay, no augmentation: the paper's NC and bias experiments. BCE first, whose bias is the one that moves."""
    return [_run(profile, network, loss, optimizer, seed, bias_init_mean=mean, lambda_b=lambda_b, **DECOUPLED)
            for loss in reversed(LOSSES) for optimizer in OPTIMIZERS for mean in means for lambda_b in lambdas]


def _initial_bias(profile: str, seed: int) -> list[RunConfig]:
    networks = NETWORKS[profile] if profile == "laptop" else NETWORKS[profile][:1]
    return [config for network in networks for config in _decoupled(profile, network, seed, BIAS_MEANS[profile])]


def _bias_decay(profile: str, seed: int) -> list[RunConfig]:
    return _decoupled(profile, NETWORKS[profile][0], seed, means=(10,), lambdas=LAMBDA_B)


def _neural_collapse(profile: str, seed: int) -> list[RunConfig]:
    return [config for network in NETWORKS[profile] for config in _decoupled(profile, network, seed)]


def _score_histograms(profile: str, seed: int) -> list[RunConfig]:
    """The accuracy chapter's own networks, as far as they have the first augmentation: the histograms explain its table."""
    configs = _accuracy(profile, seed)
    return [config for config in configs if config.augmentation == configs[0].augmentation
            and (profile == "laptop" or (config.model, config.dataset) == NETWORKS[profile][0])]


def _accuracy(profile: str, seed: int) -> list[RunConfig]:
    """The paper's table is of CIFAR. The profile laptop has no runs for it alone: its networks without augmentation serve."""
    if profile == "laptop":
        return _neural_collapse(profile, seed)
    return [_run(profile, network, loss, optimizer, seed, augmentation=augmentation, **GLOBAL)
            for network in NETWORKS[profile] if network[1] != "mnist"
            for augmentation in AUGMENTATIONS for optimizer in OPTIMIZERS for loss in LOSSES]


def _imbalance(profile: str, seed: int) -> list[RunConfig]:
    """Long-tailed digits in every profile: the question is whether a network follows the theory, at settings of our own."""
    return [RunConfig(model="convnet", dataset="digits", loss=loss, optimizer="sgd", learning_rate=RATES["quick"]["sgd"], schedule="cosine",
                      epochs=epochs, batch_size=128, seed=seed, imbalance_factor=IMBALANCE, decay="decoupled", lambda_w=lambda_w,
                      lambda_h=DECOUPLED["lambda_h"], lambda_b=0)
            for lambda_w, epochs in [*((value, TAIL_EPOCHS) for value in TAIL_LAMBDA_W), LONGER] for loss in LOSSES]
