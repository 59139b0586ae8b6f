"""Every difference between the paper's experiments and this book's, as data; settings of ours are read from the
recipes."""

from collections.abc import Callable
from dataclasses import dataclass

from bcebook import names
from bcebook.chapters import recipes
from bcebook.chapters.registry import rooms
from bcebook.chapters.recipes import PROFILES
from bcebook.report import markdown
from bcebook.runs import specs
from bcebook.runs.config import RunConfig, batch_count


@dataclass(frozen=True)
class Departure:
    """One difference. what: the setting or measure; paper: how it is there, as far as known; ours: how it is here, by
    profile or under other headings; matters: what it does to the results, or why it is so."""

    what: str
    paper: str
    ours: Callable[[], dict[str, str]]
    matters: str


def by_profile(tell: Callable[[recipes.Profile], str]) -> Callable[[], dict[str, str]]:
    """A description of each profile, equal ones joined."""

    def ours() -> dict[str, str]:
        told: dict[str, list[str]] = {}
        for name, profile in PROFILES.items():
            told.setdefault(tell(profile), []).append(name)
        return {
            f"profile {' and '.join(profiles)}" if len(profiles) == 1 else f"profiles {' and '.join(profiles)}": text
            for text, profiles in told.items()
        }

    return ours


def here(text: str) -> Callable[[], dict[str, str]]:
    """One description for every profile."""
    return lambda: {"here": text}


def _trainings(profile: recipes.Profile) -> dict[str, recipes.Training]:
    """How its networks are trained, by their names; equal ones joined."""
    told: list[tuple[recipes.Training, list[str]]] = []
    for model in dict.fromkeys(model for model, _ in profile.every):
        training = profile.training_of(model)
        same = next((models for one, models in told if one == training), None)
        if same is None:
            told.append((training, [model]))
        else:
            same.append(model)
    return {markdown.listed(map(names.model, models)): training for training, models in told}


def _each(profile: recipes.Profile, tell: Callable[[recipes.Training], str]) -> str:
    """A description of each of a profile's trainings; with the networks it is of, where there are several."""
    told = {models: tell(training) for models, training in _trainings(profile).items()}
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{models}: {text}" for models, text in told.items())


def _steps(profile: recipes.Profile) -> str:
    told = []
    for model, dataset in profile.every:
        training = profile.training_of(model)
        epochs = training.fewer_epochs.get(dataset, training.epochs)
        steps = epochs * batch_count(specs.DATASETS[dataset].train_count, recipes.BATCH_SIZE)
        of = f"{names.model(model)} on " if profile.own else ""
        told.append(f"{of}{names.dataset(dataset)}: {epochs} epochs, {steps:,} steps")
        if "accuracy" in training.fewer_epochs:
            told.append(f"for the accuracy table {training.fewer_epochs['accuracy']} epochs")
    return "; ".join(dict.fromkeys(told))


def _by_optimizer(name: str, form: str) -> Callable[[recipes.Profile], str]:
    """"rates" or "schedules" of a profile, in words."""
    def of_training(training: recipes.Training) -> str:
        return ", ".join(f"{names.of(optimizer)} {form.format(value)}"
                         for optimizer, value in getattr(training, name).items())

    return lambda profile: _each(profile, of_training)


def _lag() -> str:
    """How much smaller the summed rates of a paper run are under our schedules than under the authors'."""

    def total(config: RunConfig, schedule: str) -> float:
        config = RunConfig(**(config.to_dict() | {"schedule": schedule}))
        return sum(config.rate(epoch) for epoch in range(1, config.epochs + 1))

    told = []
    for ours, optimizer in (("step", "sgd"), ("cosine", "adamw")):
        config = recipes.run("paper", recipes.PAPER_NETWORKS[0], "bce", optimizer, 0, **recipes.DECOUPLED, lambda_b=0.0)
        told.append(
            f"{100 * (1 - total(config, ours) / total(config, f'authors-{ours}')):.1f} % ({names.of(optimizer)})"
        )
    return " and ".join(told)


def _recipe(profile: str) -> str:
    """BCE's start, and each optimizer's weight decay times its summed learning rates, in a profile's accuracy runs."""
    network, told = PROFILES[profile].accuracy[0], []
    for optimizer in recipes.OPTIMIZERS:
        config = recipes.accuracy_run(profile, network, "bce", optimizer, 0, "da1")
        told.append(f"{names.of(optimizer)} weight decay {config.weight_decay:g} (times the summed rates: "
                    f"{config.weight_decay * recipes.summed_rates(config):.2f})")
    return f"BCE's biases start around {recipes.AUTHORS_START:g}; " + ", ".join(told)


def _networks(profile: recipes.Profile) -> str:
    return ", ".join(dict.fromkeys(names.model(model) for model, _ in profile.every))


def _fine_tuning(profile: str) -> str:
    """What the chapter on fine-tuning, where it is there, trains in a profile."""
    room = rooms().get("fine_tuning")
    runs = dict.fromkeys((run.model, run.dataset, run.train_size, run.epochs, run.optimizer, run.augmentation)
                         for run in (room.configs(profile, (0,)) if room else ()))
    told = [f"{names.network(model, dataset)}, {f'{size:,}' if size else 'all'} training images, {epochs} epochs, "
            f"{names.of(optimizer)}, {names.of(augmentation)}"
            for model, dataset, size, epochs, optimizer, augmentation in runs]
    return "; ".join(told) or "nothing is trained; the published table alone"


def _named(features: str) -> str:
    """The networks whose features are "signed" or "nonnegative"."""
    networks = [names.model(spec.name) for spec in specs.NETWORKS.values() if spec.features == features]
    return ", ".join(dict.fromkeys(networks))


DEPARTURES = {
    "data": Departure(
        "Images",
        "MNIST, CIFAR10, CIFAR100, CIFAR100-LT; ImageNet-1k for fine-tuning",
        by_profile(lambda p: ", ".join(dict.fromkeys(names.dataset(dataset) for _, dataset in p.every))),
        "The digits are scikit-learn's 8x8 images; a fifth of each class, drawn once, is their test set of some "
        "hundred images, so that a single image is a visible share of it. MNIST is resized once, bilinearly and "
        "rounded to whole grey levels.",
    ),
    "networks": Departure(
        "Networks",
        "ResNet18, ResNet50, a slim DenseNet121; ViT and Swin in two figures; pretrained ResNets and DenseNet161",
        by_profile(_networks),
        "MLP, convnet, ResNet8, ResNet9, ViT-tiny and ViT-mini are ours and small; ResNet9 is the one with pooled ReLU "
        "features. Closed form and published medians are compared all the same, because the minimum does not depend on "
        "the architecture, but on what follows next.",
    ),
    "fine_tuning": Departure(
        "Fine-tuning of pretrained networks",
        "ResNet50, ResNet101 and DenseNet161 on ImageNet-1k; optimizer, rates, epochs, augmentation and where the "
        "weights come from are unknown",
        lambda: {f"profile {profile}": _fine_tuning(profile) for profile in PROFILES},
        "EfficientNet-Lite0 comes from ImageNet-1k, where it was pretrained, to other images and other classes; the "
        "paper's networks stay with theirs. So only the direction of a difference can be compared. On ImageNet-1k, DA1 "
        "is the crop of any part of the image, and the flip, that its networks are usually trained with; a run on it "
        "in several processes has batch statistics of each process's images. The biases start around $\\log(K - 1)$, "
        "not around 0: {doc}`fine_tuning` says why.",
    ),
    "long_tail": Departure(
        "Networks and images of the long-tailed table",
        "network, optimizer and augmentation are unknown, and so is which images of CIFAR100 were kept",
        lambda: {
            "profile quick": "the MLP on digits, SGD, DA1",
            "profile laptop": "ResNet9 on CIFAR100, SGD, DA1",
            "profile paper": "ResNet18 on CIFAR100, SGD, DA1",
        },
        "The same images are kept for every seed and both losses, so that a difference between the losses is theirs.",
    ),
    "batch_sizes": Departure(
        "Batch sizes",
        "128; a table compares others, which ones is unknown",
        here("128, and others in the chapter on batch size, the learning rate in proportion"),
        "The feature decay is summed over the batch, so that every batch size has a minimum of its own.",
    ),
    "features": Departure(
        "Sign of the features",
        "the authors' ResNets and DenseNet end in ReLU and average pooling: no feature is negative",
        lambda: {
            _named("signed"): "no ReLU at the end: features of either sign",
            _named("nonnegative"): "as the authors': nonnegative",
        },
        "The two have different minima: nonnegative features cannot form a simplex ETF around zero. Which one a "
        "network heads for decides its class means, its scores and its bias; {doc}`published_predicted` sets both "
        "minima beside the published figures.",
    ),
    "steps": Departure(
        "Length of a run",
        "a hundred epochs",
        by_profile(_steps),
        "With no decay of the bias, only what is left of the loss moves it: the fewer the steps, the more of its "
        "start a bias keeps.",
    ),
    "rates": Departure(
        "Learning rates",
        "SGD 0.01, AdamW 0.001; the authors' command line for AdamW has 0.01",
        by_profile(_by_optimizer("rates", "{:g}")),
        "The short runs of the small profiles get larger rates, so that they reach the end of training; both losses "
        "have the same. {doc}`learning_rates` shows by which rule those of the accuracy chapter are picked.",
    ),
    "schedules": Departure(
        "Schedules of the learning rate",
        "step and cosine, which lag by one epoch, because the authors' loop calls `scheduler.step(epoch=epoch_id)`; "
        "their argument parser's default is cosine, their command line for SGD names none, so which one made a figure "
        "is unknown",
        by_profile(_by_optimizer("schedules", "`{}`")),
        "`step` and `cosine` change the rate one epoch earlier than `authors-step` and `authors-cosine`, which "
        f"follow that loop epoch by epoch; over a paper run their summed rates are smaller by {_lag()}.",
    ),
    "precision": Departure(
        "Precision",
        "unknown; PyTorch's default is float32",
        by_profile(
            lambda p: (
                "float32"
                if p.precision == "float32"
                else "the backbone in bfloat16 where the processor or GPU has it; classifier, loss and optimizer in "
                "float32"
            )
        ),
        "Where its numbers came from, each page says which it was.",
    ),
    "augmentation": Departure(
        "Augmentation of the accuracy runs",
        "DA1 (random crop and flip, on CIFAR100 also a rotation), and DA1 with DA2 (Mixup or CutMix)",
        lambda: {
            "profile quick": "DA1 on digits is a crop without a flip (a mirrored digit is another sign)",
            "profile laptop": "DA1",
            "profile paper": "as the paper",
        },
        "A digit's neighbours in the paper's table are of another task, so that only the direction can be compared; "
        "the profile laptop has half of its rows.",
    ),
    "recipe": Departure(
        "Recipe of the accuracy runs",
        "BCE's biases start around 6, CE's around 0; SGD with rate 0.01, weight decay 5e-4 and the step schedule; "
        "AdamW with rate 0.001, weight decay 0.05 and the cosine; label smoothing 0.1 with Mixup and CutMix; weight "
        "decay on every parameter, by the optimizer. The source is the branch `if args.SOTA` in an early public "
        "version of the authors' `train.py` (commit d164f6c); the next commit removed it. Crop, flip and rotation are "
        "applied only under the same flag, so the tables' DA1 rows were made with this branch: that is an inference",
        lambda: {f"profile {profile}": _recipe(profile) for profile in PROFILES},
        "AdamW's weight decay multiplies each weight by $\\exp(-\\lambda \\sum \\eta)$ over a training, apart from "
        "the gradients. A training of another length or rate therefore gets the decay with the same product $\\lambda "
        "\\sum \\eta$ as the authors', to one digit. SGD's weight decay is a term of the objective, whose minimum does "
        "not depend on the learning rate, so it keeps the authors' value. Before the recipe was known, this book used "
        "weight decay 5e-4 for both optimizers and biases around 0; {doc}`accuracy` compares the two.",
    ),
    "mixup": Departure(
        "Mixup's and CutMix's partner",
        "unknown; a widely used implementation mixes a batch with itself in reverse order",
        here("each image's partner is drawn at random from the batch; one share or box a batch"),
        "The distribution of the pairs is the same where batches are drawn at random. CutMix's boxes are those of "
        "the original and of torchvision; recent versions of timm make boxes of odd size one pixel wider.",
    ),
    "last_batch": Departure(
        "The last batch of an epoch",
        "kept, whatever its size",
        here("kept, unless it has a single image"),
        "Batch statistics need two images, and few are as bad: no data set of the book has a last batch of one at the "
        "paper's batch size, but a long tail of digits would have one of three. It is trained in smaller batches.",
    ),
    "best": Departure(
        '"Best" accuracy',
        "the best over all epochs, chosen on the test set; whether the tables report it or the last is unknown",
        here(
            "final and best side by side; best over all epochs in runs of today's engine, over the epochs that were "
            "measured in runs recorded by an earlier one: the accuracy page says how many"
        ),
        "Chosen on the test set, best is too high for that reason, and it is too low where epochs were not looked at.",
    ),
    "global_mean": Departure(
        "Global mean of unequal classes",
        "unknown",
        here("the mean of the class means"),
        "It is the sample mean where classes are equal in size, and the authors' formulas are then the same; on long "
        "tails they need not be.",
    ),
    "compactness": Departure(
        "Compactness and distinctiveness",
        "$E_\\text{com}$ and $E_\\text{dis}$; their exact formulas are not at hand",
        here(
            "cosine similarities around the global mean, within classes and between class means; formulas in "
            "{doc}`compactness`"
        ),
        "Values can be compared between our runs, not with the paper's table.",
    ),
    "nc2": Departure(
        "NC2",
        "the paper's poster defines it on the centred class means, the code it descends from on the classifier's rows",
        here("both: NC2 is the classifier's, *NC2 of the means* the poster's"),
        "They differ where the rows of the classifier have a common part, as BCE's may.",
    ),
    "uniform": Departure(
        "Uniform accuracy",
        "the best over thresholds; how they are searched is unknown",
        here("the exact maximum over all thresholds"),
        "A search on a grid can only find less.",
    ),
    "seeds": Departure(
        "Seeds",
        "one number a setting, without an interval",
        by_profile(
            lambda p: f"{len(p.seeds)}, where a chapter has no number of its own (its page says how many)"
        ),
        "Verdicts on differences come from intervals over seeds. An interval speaks for seeds, not for other test "
        "sets or settings.",
    ),
    "readings": Departure(
        "Published values",
        "violin plots and curves without numbers",
        here("medians read off the pictures; the poster's curves by eye"),
        "Good to about the reading error that each page's hollow markers are judged with; ResNet18's data set is not "
        "stated on its figure.",
    ),
}
