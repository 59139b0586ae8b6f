"""Which runs each chapter needs in each profile: read off the rooms."""

from bcebook.chapters import recipes, registry
from bcebook.chapters.recipes import LAMBDA_B, LOSSES, OPTIMIZERS, check_profile  # noqa: F401 - looked for here
from bcebook.runs.config import RunConfig

PROFILES = {name: profile.text for name, profile in recipes.PROFILES.items()}
# In reading order; each is book/<name>.py and .ipynb.
CHAPTERS = {name: room.title for name, room in registry.rooms().items()}
WITHOUT_RUNS = tuple(name for name, room in registry.rooms().items() if room.runs is None)  # chapters of theory


def check_chapter(chapter: str) -> None:
    """Raises ValueError, with the names there are, for an unknown chapter."""
    if chapter not in CHAPTERS:
        raise ValueError(f"there is no chapter {chapter!r}; choose one of {', '.join(CHAPTERS)}.")


def configs(chapter: str, profile: str, seeds: tuple[int, ...] | None = None) -> list[RunConfig]:
    """The runs that a chapter shows, without duplicates, in the order in which they are worth having; none for theory.

    seeds: None takes the profile's own. Raises ValueError for an unknown chapter or profile, or for no seeds.
    """
    check_chapter(chapter)
    return registry.rooms()[chapter].configs(profile, seeds)


def all_configs(profile: str) -> list[RunConfig]:
    """Every run that a profile's book needs, each once, those of most value first: the first seed before the others,
    in it the networks in the order of the profile, each with all its chapters before the next."""
    every = dict.fromkeys(config for chapter in CHAPTERS for config in configs(chapter, profile))
    # The profile's first; a chapter may have others.
    asked = [(config.model, config.dataset) for config in every]
    networks = list(dict.fromkeys([*recipes.PROFILES[profile].every, *asked]))
    return sorted(every, key=lambda config: (config.seed, networks.index((config.model, config.dataset))))
