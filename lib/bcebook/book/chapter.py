"""A chapter that is open in a notebook: its runs as a DataFrame, its verdicts, and at the end what this build made."""

from collections.abc import Callable, Iterable

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from bcebook import claims, frame
from bcebook.book.findings import Shown
from bcebook.book.notebook import Chapter, networks_of
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.claims import Claim
from bcebook.report import markdown
from bcebook.runs.store import Run


class OpenChapter:
    """A chapter of the book in a notebook.

    name: of the chapter; profile, device, data_dir, seeds: the notebook's parameters, see `notebook.Chapter`. Missing
    runs of the profile are trained now. Raises what that raises.

    runs: a `frame.of` with the strongest evidence: the runs of the strongest profile that has some, recorded ones
    included. profile: that profile. own: the same for the profile in which the notebook is executed.
    """

    def __init__(self, name: str, profile: str = "quick", device: str = "auto", data_dir=None, seeds=None):
        self.script = rooms()[name]
        self._build = Chapter(self.script, profile, device, data_dir, seeds)
        own = self._build.runs() if self._build.configs else []
        found: dict[str, tuple[list[Run], list]] = {}
        for each in PROFILES:
            mine = each == self._build.profile
            configs = self._build.configs if mine else self.script.configs(each)
            runs = own if mine else self._build.stored(configs)
            same = next((name for name, (_, planned) in found.items() if planned == configs), None)
            if runs and (mine or not same):  # an experiment of one size is the same in several profiles
                found.pop(same, None)
                found[each] = runs, configs
        self._found = dict(reversed(found.items()))  # the strongest profile first
        self._frames = {each: frame.of(runs) for each, (runs, _) in found.items()}
        weaker = list(PROFILES)[: list(PROFILES).index(self._build.profile)]
        self.profile = next((each for each in self._found if each not in weaker), self._build.profile)
        self.runs = self._frame(self.profile)
        self.own = self._frame(self._build.profile)
        if self.profile != self._build.profile:
            runs, configs = self._found[self.profile]
            display(Markdown(f"*The evidence on this page: {networks_of(runs)} (profile {self.profile}, {len(runs)} of "
                             f"{len(configs)} runs). Details at the end: the runs of the profile "
                             f"{self._build.profile}, rebuilt by this notebook.*"))

    def _frame(self, profile: str) -> pd.DataFrame:
        return self._frames[profile] if profile in self._frames else frame.of(())

    def judge(self, which: Iterable[Claim], runs: pd.DataFrame | None = None) -> Shown | Markdown:
        """What the evidence says of these claims; stored in the executed notebook for scoreboard, landing page and
        README. runs: a selection of `self.runs` judges that by the claims' rules alone, and is not stored."""
        if runs is None or runs.index.equals(self.runs.index):
            return self._judged(self.profile, tuple(which))
        judged = claims.judge(which, runs)
        return Markdown(f"*Judged on a selection of {len(runs)} runs.*\n\n{markdown.findings(judged)}")

    def _judged(self, profile: str, which: tuple[Claim, ...]) -> Shown:
        runs, configs = self._found.get(profile, ([], self.script.configs(profile)))
        judged = claims.judge(which, self._frame(profile) if runs else None, planned=configs)
        return Shown(claims.payload(self.script.name, profile, judged, runs, len(configs)), judged)

    def rebuilt(self, views: Iterable[Callable], which: Iterable[Claim] = ()) -> None:
        """The same figures, tables and verdicts from the runs of the notebook's own profile, where the evidence above
        comes from a stronger one; and then from the profiles between them."""
        others = [each for each in (self._build.profile, *PROFILES) if each != self.profile and each in self._found]
        for profile in dict.fromkeys(others):
            if self._build.recorded and profile == "quick":
                continue
            runs, configs = self._found[profile]
            where = "rebuilt by this notebook" if profile == self._build.profile else "recorded"
            display(Markdown(f"### {networks_of(runs)}\n\nProfile {profile}, {where}: {len(runs)} of {len(configs)} "
                             f"runs. {markdown.sentence(PROFILES[profile].text)}"))
            for view in views:
                show(view(self._frame(profile)))
            if tested := tuple(claim for claim in which if not claim.theory):
                display(self._judged(profile, tested))
        if not others:
            display(Markdown("Only the profile above has runs of this chapter."))

    def provenance(self) -> None:
        """Settings, seeds, device, versions, dates and training time, for each profile that has runs."""
        if not self._found:
            display(self._build.provenance())
        for profile, (runs, configs) in self._found.items():
            if profile in (self.profile, self._build.profile):
                display(self._build.provenance(runs, profile, len(configs)))


def show(shown) -> None:
    """Display a figure, a table or Markdown; a figure once."""
    display(shown)
    if isinstance(shown, Figure):
        plt.close(shown)

