"""The experiments of the chapters that are scripts: which runs each plans, by profile and seed."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bcebook.chapters import recipes
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS

# Of the accuracy experiment in the profile laptop. The former recipe's were recorded before the authors' was known:
# they are exploratory. The margin of equivalence was fixed after them and before the authors'.
FORMER_SEEDS, AUTHORS_SEEDS = recipes.THREE_SEEDS, (3, 4, 5)


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


EXPERIMENTS = {
    "accuracy": Experiment(
        accuracy,
        {
            "quick": recipes.THREE_SEEDS,
            "laptop": AUTHORS_SEEDS + FORMER_SEEDS,
            "paper": recipes.THREE_SEEDS,
        },
    ),
}
