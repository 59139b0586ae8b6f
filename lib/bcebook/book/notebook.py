"""What a notebook asks for: its runs, its findings, the same views of other profiles, and where the numbers came
from."""

import ast
import contextlib
import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import Markdown, display

from bcebook import names
from bcebook.book.findings import Shown
from bcebook.chapters.recipes import DEVICES, LOSSES, OPTIMIZERS, PROFILES, RECORDED
from bcebook.chapters.room import Room
from bcebook.execution.choose import lacks, left_out, train_missing
from bcebook.paths import data_dir as find_data
from bcebook import claims
from bcebook.report import markdown, plots
from bcebook.runs import rehearsal
from bcebook.runs.provenance import code_version, now, versions
from bcebook.runs.store import Run, open_store


class Chapter:
    """A chapter of the book in one profile.

    room: what the chapter declares. profile, device ("auto", "cpu", "cuda"), data_dir (None: the repository's data) and
    seeds (None: the chapter's own; see `seeds_of`) are the notebook's parameters. Raises ValueError, in a sentence, for
    a profile or a device that there is not, and for seeds that are none. The profile "recorded" trains nothing: it
    shows what is recorded of the strongest profile that has recorded runs of this chapter. Sets the look of the
    figures.
    """

    def __init__(
        self, room: Room, profile: str = "quick", device: str = "auto", data_dir: str | None = None, seeds=None
    ):
        if profile not in (*PROFILES, RECORDED):
            raise ValueError(f"there is no profile {profile!r}; choose one of {', '.join(PROFILES)}, or {RECORDED}.")
        if not re.fullmatch(DEVICES, str(device)):
            raise ValueError(f"there is no device {device!r}; choose one of auto, cpu, cuda.")
        # papermill makes a number of a folder that is called 2026.
        self.room, self.device, self.data = room, device, find_data(None if data_dir is None else str(data_dir))
        self.recorded = profile == RECORDED
        self.profile = recorded_profile(room, self.data) if self.recorded else profile
        self.configs = room.configs(self.profile, seeds_of(seeds))
        self.rebuilt: list[Run] = []  # what `runs` has given
        self.led = None  # the profile that `strongest` has shown
        plots.style()
        if rehearsal.active():
            display(Markdown(f"> {rehearsal.NOTE}"))

    def runs(self) -> list[Run]:
        """The chapter's runs; the missing ones are trained now, with a progress bar. Failed runs are named and left
        out. None for a profile in which the chapter trains nothing. With recorded runs: those, and a sentence that
        says so.

        Raises RuntimeError if every run failed that could be tried, and ValueError where none is recorded.
        """
        if self.recorded:
            runs = self.stored(self.configs)
            if not runs:
                raise ValueError(f"{self.data / 'recorded'} holds no run of this chapter; the profile quick trains "
                                 "some.")
            display(Markdown(f"*Made from recorded runs: {networks_of(runs)} (profile {self.profile}, {len(runs)} of "
                             f"{len(self.configs)} runs). Nothing was trained for this page.*"))
            return runs
        for problem in left_out(self.configs, self.data) + train_missing(self.configs, self.data, self.device):
            print(f"Left out: {problem}")
        self.rebuilt = runs = self.stored(self.configs)
        if not runs and any(not lacks(config, self.data) for config in self.configs):
            raise RuntimeError(
                f"none of the {len(self.configs)} runs of this chapter succeeded; see the sentences above."
            )
        return runs

    def findings(self, runs: list[Run] | None = None) -> Shown:
        """What these runs say of the chapter's claims; without runs: the claims of theory."""
        return self._shown(self.profile, self.room.claims, runs, self.configs)

    def strongest(self) -> None:
        """The chapter's figures, tables and findings in the strongest profile above this one whose runs are stored or
        recorded here, and a heading for what this machine made; nothing where there is none."""
        stronger = list(PROFILES)[list(PROFILES).index(self.profile) + 1:]
        for profile in reversed(stronger):
            configs = self.room.configs(profile)
            if runs := self.stored(configs):
                self._show(profile, runs, configs)
                self.led = profile
                if self.rebuilt:
                    display(Markdown(f"### Just rebuilt: {networks_of(self.rebuilt)}"))
                return

    def other_profiles(self) -> None:
        """As `strongest`, in every profile that is not shown yet; nothing is trained. Where there are no runs, one
        sentence says so and how to get them."""
        for profile, spec in PROFILES.items():
            if profile in (self.profile, self.led) or (self.recorded and profile == "quick"):
                continue
            configs = self.room.configs(profile)
            if not configs:
                display(Markdown(f"**Profile {profile}** ({spec.text}): this chapter trains nothing in it."))
                continue
            if runs := self.stored(configs):
                self._show(profile, runs, configs)
                continue
            display(
                Markdown(
                    f"**Profile {profile}** ({spec.text}): none of its {len(configs)} runs are recorded here yet. "
                    f"`bcebook train --profile {profile} --chapter {self.room.name}` trains them."
                )
            )

    def _show(self, profile: str, runs: list[Run], configs: list) -> None:
        """What these runs of another profile draw, tabulate and say."""
        display(Markdown(f"### {networks_of(runs)}\n\nProfile {profile}: {len(runs)} of {len(configs)} runs. "
                         f"{markdown.sentence(PROFILES[profile].text)}"))
        for draw in self.room.figures:
            figure = draw(runs)
            display(figure)
            plt.close(figure)  # or the cell would show it once more at its end
        for table in self.room.tables:
            display(table(runs))
        if tested := tuple(claim for claim in self.room.claims if not claim.theory):  # theory has its place on the page
            display(self._shown(profile, tested, runs, configs))
        display(self.provenance(runs, profile, len(configs)))

    def _shown(self, profile: str, which: tuple[claims.Claim, ...], runs: list[Run] | None, configs: list) -> Shown:
        judged = claims.judge(which, runs, planned=configs)
        return Shown(claims.payload(self.room.name, profile, judged, runs or [], len(configs)), judged)

    def stored(self, configs) -> list[Run]:
        """Those in the store, in the order of tables: network, augmentation, optimizer, CE before BCE."""
        store = open_store(self.data, self.recorded)
        runs = [run for config in configs if (run := store.find(config))]
        networks = list(dict.fromkeys((config.model, config.dataset) for config in configs))

        def place(run: Run) -> tuple:
            config = run.config
            return (
                networks.index((config.model, config.dataset)),
                config.augmentation,
                OPTIMIZERS.index(config.optimizer),
                LOSSES.index(config.loss),
            )

        return sorted(runs, key=place)

    def provenance(self, runs: list[Run] = (), profile: str | None = None, of: int | None = None) -> Markdown:
        """Where the numbers came from: profile, networks, seeds, device, code, library versions, minutes, dates.

        Without runs (a chapter of theory, or a profile in which a chapter trains nothing): the profile, the code and
        versions of this page, and today's date.
        """
        lines = (
            _of_runs(runs, profile or self.profile, of or len(self.configs))
            if runs
            else {
                "profile": f"{self.profile}: {PROFILES[self.profile].text}"
                if self.room.runs
                else f"{self.profile}; this page is the same in every profile",
                "runs": "none in this profile: computed from data/paper"
                if self.room.runs
                else "none: computed from formulas, data/paper and data/theory",
                "versions": ", ".join(f"{k} {v}" for k, v in versions().items() if k in ("python", "numpy", "scipy")),
                "code of this page": code_version(),
                "computed": now().date().isoformat(),
            }
        )
        return Markdown(markdown.table(["", ""], lines.items()))


def seeds_of(value) -> tuple[int, ...] | None:
    """The notebook's parameter `seeds`: None, a seed, several, or text that says one of these, which is what papermill
    makes of `-p seeds "[0, 1]"`. Raises ValueError for anything else."""
    given = value
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            given = ast.literal_eval(value.strip())
    if given is None:
        return None
    seeds = tuple(given) if isinstance(given, (list, tuple, set, range)) else (given,)
    if not all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds is {value!r}; write a whole number from 0 such as 0, or a list of them such as [0, 1] "
                         "(for papermill: -p seeds 0, or -p seeds '[0, 1]').")
    return seeds


def recorded_profile(room: Room, data: Path) -> str:
    """The strongest profile that has recorded runs of a chapter; the first of those that plan the same. Without one:
    the strongest that needs no GPU."""
    store = open_store(data, recorded=True)
    found = (profile for profile in reversed(PROFILES) if any(map(store.has, room.configs(profile))))
    best = next(found, "laptop")
    return next(profile for profile in PROFILES if room.configs(profile) == room.configs(best))


def networks_of(runs: list[Run]) -> str:
    """The networks, data sets and seeds of some runs: "ResNet9 on CIFAR10, 3 seeds"."""
    pairs = dict.fromkeys((run.config.model, run.config.dataset) for run in runs)
    return markdown.evidence(pairs, len({run.config.seed for run in runs}))


def _of_runs(runs: list[Run], profile: str, of: int) -> dict[str, str]:
    def each(values) -> str:
        return ", ".join(f"{v} ({n})" if n < len(runs) else str(v) for v, n in Counter(values).items())

    configs, envs = [run.config for run in runs], [run.environment for run in runs]
    dates = sorted(env["date"][:10] for env in envs)
    return {
        "profile": f"{profile}: {PROFILES[profile].text}",
        "runs": f"{len(runs)} of {of}, seeds {', '.join(str(s) for s in sorted({c.seed for c in configs}))}",
        "network and data": each(names.network(c.model, c.dataset) for c in configs),
        "training": f"{each(f'{c.epochs} epochs' for c in configs)}, batch size {each(c.batch_size for c in configs)}, "
        f"learning rate {each(f'{c.optimizer} {c.learning_rate:g}' for c in configs)}, schedule "
        f"{each(c.schedule for c in configs)}",
        "decay": each(_decay(c) for c in configs),
        "precision": each(run.environment.get("precision", run.config.precision) for run in runs),
        "device": each(env["device"] for env in envs),
        "time": f"{sum(env['seconds'] for env in envs) / 60:.1f} minutes of training in all",
        "trained": dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}",
        "trained with": each(", ".join(f"{k} {v}" for k, v in env["versions"].items()) for env in envs),
        "code of the runs": each(env["code"] for env in envs),
        "code of this page": f"{code_version()}, torch {versions()['torch']}",
    }


def _decay(config) -> str:
    if config.decay == "global":
        return f"{config.weight_decay:g} on every parameter"
    return f"decoupled, λ_W = {config.lambda_w:g}, λ_H = {config.lambda_h:g}, λ_b = {config.lambda_b:g}"
