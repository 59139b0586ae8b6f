"""What a chapter declares: everything that index, contents, scoreboard, command line and tests need to know of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bcebook.chapters.recipes import PROFILES, check_profile
from bcebook.claims import Claim
from bcebook.runs import rehearsal
from bcebook.runs.config import RunConfig

PARTS = {"figures": "Figures", "tables": "Tables", "theory": "Theory", "beyond": "Beyond the paper"}  # in reading order


@dataclass(frozen=True, kw_only=True)
class Room:
    """One chapter.

    name: that of its module and of its notebook. title: the notebook's first heading; short: the same where a reader
    scans a list (none: the title itself). part: a key of PARTS; number:
    its place in the part. of_the_paper: what of the paper it is. asks: its question. items: the figures and tables of
    the paper (keys of `paper.ITEMS`) that it rebuilds. runs: (profile, seed) -> configurations, in the order in which
    they are worth having; None: nothing is trained. seeds: profile -> seeds, where they are not the profile's own.
    figures: functions of the list of runs that give a matplotlib figure; tables: those that give a `tables.Table`.
    Both are shown for every profile whose runs are there. claims: what is judged. Raises ValueError for a part that
    there is not.
    """

    name: str
    title: str
    part: str
    number: int
    of_the_paper: str
    asks: str
    items: tuple[str, ...] = ()
    runs: Callable[[str, int], list[RunConfig]] | None = None
    seeds: dict[str, tuple[int, ...]] = field(default_factory=dict)
    figures: tuple[Callable, ...] = ()
    tables: tuple[Callable, ...] = ()
    claims: tuple[Claim, ...] = ()
    short: str = ""

    def __post_init__(self):
        object.__setattr__(self, "name", self.name.rpartition(".")[2])  # a module gives its __name__
        object.__setattr__(self, "short", self.short or self.title)
        if self.part not in PARTS:
            raise ValueError(f"the chapter {self.name} is in no part {self.part!r}; choose one of {', '.join(PARTS)}.")

    def configs(self, profile: str, seeds: tuple[int, ...] | None = None) -> list[RunConfig]:
        """The runs that the chapter shows in a profile, each once; none for theory. seeds: None takes the chapter's
        own. In a rehearsal: those that stand for them. Raises ValueError for an unknown profile or for no seeds."""
        check_profile(profile)
        if self.runs is None:
            return []
        seeds = self.seeds.get(profile, PROFILES[profile].seeds) if seeds is None else tuple(seeds)
        if not seeds:
            raise ValueError("seeds is empty; give at least one, or None for the profile's own.")
        found = dict.fromkeys(config for seed in seeds for config in self.runs(profile, seed))
        if not rehearsal.active():
            return list(found)
        return list(dict.fromkeys(rehearsal.shorten(config) for config in found if rehearsal.can(config)))

    @staticmethod
    def view(runs: list) -> list:
        """Runs as the room's functions take them."""
        return runs
