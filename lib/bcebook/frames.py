"""Runs as tables: one row a run, or one row a quantity."""

import pandas as pd

from bcebook import paper, plots, stats
from bcebook.metrics import ScoreSummary
from bcebook.store import Run

GROUP = ["dataset", "model", "augmentation", "optimizer"]


def summary(run: Run, split: str, kind: str) -> ScoreSummary:
    """The summary of a run's "positive", "negative" or "bias" values on "train" or "test"."""
    return ScoreSummary.from_dict(run.scores[split][kind])


def medians(runs: list[Run], split: str = "train") -> pd.DataFrame:
    """One row for each run and quantity: loss, optimizer, bias_init_mean, lambda_b, seed, start (the biases' mean before
    training), quantity, median."""
    rows = []
    for run in runs:
        config = run.config
        base = {name: getattr(config, name) for name in ("loss", "optimizer", "bias_init_mean", "lambda_b", "seed")}
        base["start"] = run.history["bias_mean"][0]
        rows += [base | {"quantity": kind, "median": summary(run, split, kind).median} for kind in ("positive", "bias", "negative")]
    return pd.DataFrame(rows)


def finals(runs: list[Run]) -> pd.DataFrame:
    """One row a run: the settings that the chapters vary, every final figure, and the best ones as best_<name>."""
    names = GROUP + ["loss", "seed"]
    return pd.DataFrame([{name: getattr(run.config, name) for name in names} | run.final
                         | {f"best_{name}": value for name, value in run.best.items()} for run in runs])


def by_setting(runs: list[Run], figures: list[str]) -> pd.DataFrame:
    """Seeds -> estimates: for each setting, loss and figure a `stats.Estimate`. Index GROUP + loss; columns `figures`."""
    table = finals(runs)
    return table.groupby(GROUP + ["loss"], sort=False)[figures].agg(lambda values: stats.summarise(values.to_numpy()))


def differences(runs: list[Run], figures: list[str]) -> pd.DataFrame:
    """BCE minus CE, paired by seed: for each setting and figure a `stats.Estimate`, and the seeds' own differences."""
    rows = []
    for setting, group in finals(runs).groupby(GROUP, sort=False):
        bce, ce = (group[group["loss"] == loss].set_index("seed") for loss in ("bce", "ce"))
        common = bce.index.intersection(ce.index)
        if common.empty:
            continue
        for figure in figures:
            each = (bce[figure] - ce[figure])[common]
            rows.append(dict(zip(GROUP, setting, strict=True)) | {
                "figure": figure,
                "difference": stats.paired_difference(bce[figure].to_dict(), ce[figure].to_dict()),
                "student": stats.student_interval(each.to_numpy()),
                "each": each.to_numpy(),
            })
    return pd.DataFrame(rows)


def with_published(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the GROUP columns, and the paper's differences BCE - CE beside it: paper_accuracy, paper_uniform_accuracy."""
    ce, bce = (pd.DataFrame([published_accuracy(*row, loss) for row in table[GROUP].itertuples(index=False)], table.index)
               for loss in ("ce", "bce"))
    return pd.concat([table, (bce - ce).add_prefix("paper_")], axis=1)


def published_accuracy(dataset: str, model: str, augmentation: str, optimizer: str, loss: str) -> pd.Series:
    """The paper's accuracy and uniform_accuracy of a setting; a network that the paper does not have (the quick profile's) is
    set beside ResNet18 on CIFAR10."""
    table = paper.accuracy().set_index(GROUP + ["loss"])
    key = (dataset, model, augmentation, optimizer, loss)
    return table.loc[key if key in table.index else ("cifar10", "resnet18", augmentation, optimizer, loss)]


def published_medians(runs: list[Run]) -> pd.DataFrame:
    """The paper's medians against the initial bias mean that belong beside these runs: those with as many classes, since they
    have the same closed form, whatever the images are."""
    return paper.medians("initial_bias_mean", "cifar100" if runs[0].config.dataset == "cifar100" else "cifar10")


def networks(runs: list[Run]) -> int:
    """How many different pairs of network and data set there are among the runs."""
    return len({(run.config.model, run.config.dataset) for run in runs})


def label(optimizer: str, augmentation: str, model: str, dataset: str, several: bool) -> str:
    """A setting in a few words, the network and data set only where there are several."""
    return (f"{model}/{dataset} " if several else "") + f"{plots.NAME[optimizer]}, {augmentation.upper()}"
