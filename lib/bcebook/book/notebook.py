"""What a notebook asks for: its runs, those of other profiles, and where the numbers came from."""

import datetime
from collections import Counter

import matplotlib.pyplot as plt
from IPython.display import Markdown, display

from bcebook.chapters import catalog
from bcebook.execution import pool
from bcebook.report import plots
from bcebook.runs.provenance import code_version, versions
from bcebook.paths import data_dir as find_data
from bcebook.runs.store import Run, open_store


class Chapter:
    """A chapter of the book in one profile.

    name: a key of `catalog.CHAPTERS`. profile, device ("auto", "cpu", "cuda"), data_dir (None: the repository's data) and
    seeds (None: the profile's own) are the notebook's parameters. Sets the look of the figures.
    """

    def __init__(self, name: str, profile: str = "quick", device: str = "auto", data_dir: str | None = None, seeds=None):
        self.name, self.profile, self.device = name, profile, device
        self.data = find_data(data_dir)
        self.configs = catalog.configs(name, profile, seeds)
        plots.style()

    def runs(self) -> list[Run]:
        """The chapter's runs; the missing ones are trained now, with a progress bar. Failed runs are named and left out.

        Raises RuntimeError if every run failed.
        """
        problems = pool.train_missing(self.configs, self.data, self.device)
        for problem in problems:
            print(f"Left out: {problem}")
        runs = self._stored(self.configs)
        if not runs:
            raise RuntimeError(f"none of the {len(self.configs)} runs of this chapter succeeded; see the sentences above.")
        return runs

    def show_others(self, *views) -> None:
        """The same views of every other profile whose runs are stored or recorded here; nothing is trained.

        views: functions of a list of runs that give a figure or Markdown text. Where there are no such runs, one sentence
        says so and how to get them.
        """
        for profile, text in catalog.PROFILES.items():
            if profile == self.profile:
                continue
            configs = catalog.configs(self.name, profile)
            runs = self._stored(configs)
            if not runs:
                display(Markdown(f"**Profile {profile}** ({text}): none of its {len(configs)} runs are recorded here yet. "
                                 f"`bcebook train --profile {profile} --chapter {self.name}` trains them."))
                continue
            display(Markdown(f"**Profile {profile}** ({text}): {len(runs)} of {len(configs)} runs."))
            for view in views:
                shown = view(runs)
                display(Markdown(shown) if isinstance(shown, str) else shown)
                if not isinstance(shown, str):
                    plt.close(shown)  # or the cell would show it once more at its end
            display(self.provenance(runs, profile, len(configs)))

    def _stored(self, configs) -> list[Run]:
        """Those in the store, in the order of tables: network, augmentation, optimizer, CE before BCE."""
        store = open_store(self.data)
        runs = [run for config in configs if (run := store.find(config))]
        networks = list(dict.fromkeys((config.model, config.dataset) for config in configs))
        return sorted(runs, key=lambda run: (networks.index((run.config.model, run.config.dataset)), run.config.augmentation,
                                             catalog.OPTIMIZERS.index(run.config.optimizer), catalog.LOSSES.index(run.config.loss)))

    def provenance(self, runs: list[Run] = (), profile: str | None = None, of: int | None = None) -> Markdown:
        """Where the numbers came from: profile, networks, seeds, device, code, library versions, minutes, dates.

        Without runs (a chapter of theory): the profile, the code and versions of this page, and today's date.
        """
        if not runs:
            return _table({
                "profile": f"{self.profile}; this page is the same in every profile",
                "runs": "none: computed from formulas and from data/paper",
                "versions": ", ".join(f"{k} {v}" for k, v in versions().items() if k in ("python", "numpy", "scipy")),
                "code of this page": code_version(),
                "computed": datetime.datetime.now(datetime.UTC).date().isoformat(),
            })
        configs = [run.config for run in runs]
        each = lambda values: ", ".join(f"{v} ({n})" if n < len(runs) else str(v) for v, n in Counter(values).items())  # noqa: E731
        envs = [run.environment for run in runs]
        dates = sorted(env["date"][:10] for env in envs)
        lines = {
            "profile": f"{profile or self.profile}: {catalog.PROFILES[profile or self.profile]}",
            "runs": f"{len(runs)} of {of or len(self.configs)}, seeds {', '.join(str(s) for s in sorted({c.seed for c in configs}))}",
            "network and data": each(f"{c.model} on {c.dataset}" for c in configs),
            "training": f"{each(f'{c.epochs} epochs' for c in configs)}, batch size {each(c.batch_size for c in configs)}, "
                        f"learning rate {each(f'{c.optimizer} {c.learning_rate:g}' for c in configs)}",
            "decay": each(_decay(c) for c in configs),
            "precision": each(run.environment.get("precision", run.config.precision) for run in runs),
            "device": each(env["device"] for env in envs),
            "time": f"{sum(env['seconds'] for env in envs) / 60:.1f} minutes of training in all",
            "trained": dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}",
            "trained with": each(", ".join(f"{k} {v}" for k, v in env["versions"].items()) for env in envs),
            "code of the runs": each(env["code"] for env in envs),
            "code of this page": f"{code_version()}, torch {versions()['torch']}",
        }
        return _table(lines)


def _table(lines: dict[str, str]) -> Markdown:
    return Markdown("\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in lines.items())]))


def _decay(config) -> str:
    if config.decay == "global":
        return f"{config.weight_decay:g} on every parameter"
    return f"decoupled, λ_W = {config.lambda_w:g}, λ_H = {config.lambda_h:g}, λ_b = {config.lambda_b:g}"
