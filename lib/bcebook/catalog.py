"""Which runs each chapter needs in each profile, as data."""

from bcebook.config import RunConfig

PROFILES = {
    "quick": "the 8x8 digits and a small convnet: minutes on a laptop's CPU",
    "paper": "the paper's data sets, networks and settings: a GPU",
}
CHAPTERS = {  # in reading order; each is book/<name>.py and .ipynb
    "initial_bias": "Classifier bias and decision scores against the initial bias mean",
    "score_histograms": "Histograms of positive and negative scores",
    "accuracy": "Accuracy and uniform accuracy",
    "bias_saturates": "The bias saturates",
    "published_predicted": "The closed form predicts the published figures",
}
WITHOUT_RUNS = ("bias_saturates", "published_predicted")  # chapters of theory: nothing is trained for them
BIAS_MEANS = (0, 1, 2, 3, 4, 5, 6, 8, 10)  # as in the published figures
LOSSES, OPTIMIZERS, AUGMENTATIONS = ("ce", "bce"), ("sgd", "adamw"), ("da1", "da1+da2")
SEEDS = {
    "quick": {"initial_bias": (0,), "score_histograms": (0,), "accuracy": (0, 1, 2, 3, 4)},
    "paper": {"initial_bias": (0,), "score_histograms": (0,), "accuracy": (0, 1, 2)},
}
# Departs from the paper: the quick profile's learning rates are ten times the paper's (SGD 0.01, AdamW 0.001), because its
# runs have 1,200 steps where the paper's have 39,100.
RATES = {"quick": {"sgd": 0.1, "adamw": 0.01}, "paper": {"sgd": 0.01, "adamw": 0.001}}
SCHEDULES = {"sgd": "step", "adamw": "cosine"}
NETWORKS = {  # (model, data set), those of most value first
    "quick": (("convnet", "digits"),),
    "paper": tuple((m, d) for d in ("cifar10", "cifar100") for m in ("resnet18", "resnet50", "densenet121")),
}
DECOUPLED = {"decay": "decoupled", "lambda_w": 5e-4, "lambda_h": 5e-4, "lambda_b": 0.0}
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
    seeds = SEEDS[profile][chapter] if seeds is None else tuple(seeds)
    if not seeds:
        raise ValueError("seeds is empty; give at least one, or None for the profile's own.")
    make = {"initial_bias": _initial_bias, "score_histograms": _score_histograms, "accuracy": _accuracy}[chapter]
    return [config for seed in seeds for config in make(profile, seed)]


def check_profile(profile: str) -> None:
    """Raises ValueError, with the names there are, for an unknown profile."""
    if profile not in PROFILES:
        raise ValueError(f"there is no profile {profile!r}; choose one of {', '.join(PROFILES)}.")


def all_configs(profile: str) -> list[RunConfig]:
    """Every run that a profile's book needs, each once."""
    return list(dict.fromkeys(config for chapter in CHAPTERS for config in configs(chapter, profile)))


def _run(profile: str, model: str, dataset: str, loss: str, optimizer: str, seed: int, **settings) -> RunConfig:
    # The quick accuracy runs are shorter: they are many, and have stopped improving by then.
    epochs = 40 if profile == "quick" and settings["decay"] == "global" else 100
    return RunConfig(model=model, dataset=dataset, loss=loss, optimizer=optimizer, learning_rate=RATES[profile][optimizer],
                     schedule=SCHEDULES[optimizer], epochs=epochs, batch_size=128, seed=seed, **settings)


def _initial_bias(profile: str, seed: int) -> list[RunConfig]:
    """Decoupled decay, no augmentation, lambda_b = 0: the paper's NC and bias experiments, on its first network."""
    model, dataset = NETWORKS[profile][0]
    return [_run(profile, model, dataset, loss, optimizer, seed, bias_init_mean=mean, **DECOUPLED)
            for optimizer in OPTIMIZERS for mean in BIAS_MEANS for loss in LOSSES]


def _score_histograms(profile: str, seed: int) -> list[RunConfig]:
    """The accuracy chapter's own networks (DA1): the histograms explain its table."""
    model, dataset = NETWORKS[profile][0]
    return [_run(profile, model, dataset, loss, optimizer, seed, augmentation="da1", **GLOBAL)
            for optimizer in OPTIMIZERS for loss in LOSSES]


def _accuracy(profile: str, seed: int) -> list[RunConfig]:
    return [_run(profile, model, dataset, loss, optimizer, seed, augmentation=augmentation, **GLOBAL)
            for model, dataset in NETWORKS[profile] for augmentation in AUGMENTATIONS for optimizer in OPTIMIZERS for loss in LOSSES]
