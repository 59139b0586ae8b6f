"""Runs as tables: one row a run, or one row a quantity."""

import math

import pandas as pd

from bcebook import names, paper
from bcebook.science import stats, theory
from bcebook.report.predictions import MOMENTUM
from bcebook.runs.config import batch_count
from bcebook.runs.specs import NETWORKS
from bcebook.science.summaries import ScoreSummary
from bcebook.runs.store import Run

KINDS = ("positive", "bias", "negative")
GROUP = ["dataset", "model", "augmentation", "optimizer"]
STAND_IN = ("resnet18", "cifar10")  # the paper's network and data set beside which one that it does not have is set
NOTHING = stats.Estimate(math.nan, math.nan, 0, math.nan, math.nan)  # no run has the figure


def summary(run: Run, split: str, kind: str) -> ScoreSummary:
    """The summary of a run's "positive", "negative" or "bias" values on "train" or "test"."""
    return ScoreSummary.from_dict(run.scores[split][kind])


def features(model_name: str) -> str:
    """What a network's features are to the theory: "free" in sign, or "nonnegative"."""
    return "free" if NETWORKS[model_name].features == "signed" else "nonnegative"


def model(run: Run, batch_size: float | None = None) -> tuple[str, int, float]:
    """(features, number of classes, c) of the model that a run with decoupled decay minimises, or would with another
    batch size."""
    config, classes = run.config, run.scores["train"]["bias"]["count"]
    c = theory.effective_c(config.lambda_w, config.lambda_h, batch_size or config.batch_size, classes)
    return features(config.model), classes, c


def closed_form(run: Run) -> dict[str, float]:
    """The minimum that a run with decoupled decay heads for, features of either sign: positive and negative score and,
    where the objective determines it, the bias."""
    config, (_, classes, c) = run.config, model(run)
    best = theory.minimum(config.loss, classes, c, config.lambda_b)
    found = {"positive": float(best.positive), "negative": float(best.negative)}
    return found | ({"bias": float(best.bias)} if config.loss == "bce" or config.lambda_b else {})


def rates_sum(run: Run) -> float:
    """The learning rates of all steps of a run, added up."""
    return run.config.summed_rates(run.scores["train"]["positive"]["count"])


def ce_bias_under_decay(run: Run) -> float:
    """What decay alone makes of the mean of CE's biases with SGD, whose momentum of 0.9 multiplies a lasting pull by
    ten: the start times exp(-10 lambda_b sum of the learning rates). Source: ours."""
    return run.history["bias_mean"][0] * math.exp(-10 * run.config.lambda_b * rates_sum(run))


def ce_bias_by_steps(run: Run) -> float:
    """The same through every step, v <- 0.9 v + lambda_b b, b <- b - eta v: exact where the equation lets momentum act
    at once and steps be infinitely small. Source: PyTorch's SGD."""
    config, bias, velocity = run.config, run.history["bias_mean"][0], 0.0
    steps = batch_count(run.scores["train"]["positive"]["count"], config.batch_size)
    for epoch in range(1, config.epochs + 1):
        rate = config.rate(epoch)
        for _ in range(steps):
            velocity = MOMENTUM * velocity + config.lambda_b * bias
            bias -= rate * velocity
    return bias


def finals(runs: list[Run]) -> pd.DataFrame:
    """One row a run: the settings that the chapters vary (GROUP, loss, seed), every final figure, and the best ones as
    best_<name>. A figure that a run of an earlier engine lacks is nan."""
    settings = [*GROUP, "loss", "seed"]
    rows = [
        {name: getattr(run.config, name) for name in settings}
        | run.final
        | {f"best_{name}": value for name, value in run.best.items()}
        for run in runs
    ]
    return pd.DataFrame(rows, columns=None if rows else settings)


def by_setting(runs: list[Run], figures: list[str]) -> pd.DataFrame:
    """Seeds -> estimates: for each setting and loss a row of GROUP, loss and for each figure a `stats.Estimate`; one of
    n = 0 where no run has the figure."""
    rows = []
    for setting, group in finals(runs).groupby([*GROUP, "loss"], sort=False):
        known = {figure: group[figure].dropna().to_numpy() if figure in group else [] for figure in figures}
        rows.append(
            dict(zip([*GROUP, "loss"], setting, strict=True))
            | {figure: stats.student_interval(values) if len(values) else NOTHING for figure, values in known.items()}
        )
    return pd.DataFrame(rows, columns=[*GROUP, "loss", *figures])


def differences(runs: list[Run], figures: list[str]) -> pd.DataFrame:
    """BCE minus CE, paired by seed: a row for each setting and figure that has a pair.

    Columns GROUP, figure, each (the seeds' own differences, in the order of the seeds), estimate (their mean with
    Student's interval: the one that decides, and the one that is drawn) and p (Student's, two-sided; nan for one seed).
    """
    rows, table = [], finals(runs)
    for setting, group in table.groupby(GROUP, sort=False):
        bce, ce = (group[group["loss"] == loss].set_index("seed") for loss in ("bce", "ce"))
        for figure in figures:
            each = (bce[figure] - ce[figure]).dropna().sort_index() if figure in group else pd.Series(dtype=float)
            if len(each):
                rows.append(
                    dict(zip(GROUP, setting, strict=True))
                    | {
                        "figure": figure,
                        "each": each.to_numpy(),
                        "estimate": stats.student_interval(each.to_numpy()),
                        "p": stats.student_p(each.to_numpy()),
                    }
                )
    return pd.DataFrame(rows, columns=[*GROUP, "figure", "each", "estimate", "p"])


def with_published(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the GROUP columns, and the paper's differences BCE - CE beside it: paper_accuracy,
    paper_uniform_accuracy; nan where the paper has no such setting."""
    measures = ["accuracy", "uniform_accuracy"]
    ce, bce = (
        pd.DataFrame(
            [published_accuracy(*row, loss)[measures] for row in table[GROUP].itertuples(index=False)],
            index=table.index,
            columns=measures,
            dtype=float,
        )
        for loss in ("ce", "bce")
    )
    return pd.concat([table, (bce - ce).add_prefix("paper_")], axis=1)


def published_accuracy(dataset: str, model: str, augmentation: str, optimizer: str, loss: str) -> pd.Series:
    """The paper's accuracy and uniform_accuracy of a setting (nan: it has none), and `of`, the (model, data set) that
    they are of (None: none). A network that the paper does not have is set beside STAND_IN, with the same optimizer and
    augmentation."""
    table = paper.accuracy().set_index([*GROUP, "loss"])
    for network in ((model, dataset), STAND_IN):
        key = (network[1], network[0], augmentation, optimizer, loss)
        if key in table.index:
            return pd.Series(dict(table.loc[key]) | {"of": network}, dtype=object)
    return pd.Series({"accuracy": math.nan, "uniform_accuracy": math.nan, "of": None}, dtype=object)


def published_of(table: pd.DataFrame) -> str:
    """Of which networks the paper's numbers beside a table with the GROUP columns are, in words."""
    found = {published_accuracy(*row, "bce")["of"] for row in table[GROUP].itertuples(index=False)} - {None}
    return "none of these settings" if not found else ", ".join(sorted(names.network(*each) for each in found))


def published_medians(dataset: str, varied: str) -> pd.DataFrame:
    """The paper's medians against `varied` ("bias_init_mean" or "lambda_b") that belong beside runs on a data set:
    those with as many classes, since they have the same closed form, whatever the images are."""
    named = {"bias_init_mean": "initial_bias_mean"}.get(varied, varied)
    return paper.medians(named, "cifar100" if dataset == "cifar100" else "cifar10")


def network(run: Run) -> tuple[str, str]:
    """(model, data set) of a run."""
    return run.config.model, run.config.dataset


def networks(runs: list[Run]) -> list[tuple[str, str]]:
    """The pairs of model and data set among the runs, in the order of their first run."""
    return list(dict.fromkeys(map(network, runs)))


def of(network: tuple[str, str], among: list, after: str = ", ") -> str:
    """The network and data set in front of a row or a title, only where there are several."""
    return f"{names.network(*network)}{after}" if len(among) > 1 else ""


def select(runs: list[Run], network=None, **settings) -> list[Run]:
    """The runs of a network (model, data set), or of any, with these settings of their configuration."""
    return [
        run
        for run in runs
        if network in (None, (run.config.model, run.config.dataset))
        and all(getattr(run.config, name) == value for name, value in settings.items())
    ]


def panels(runs: list[Run]) -> list[tuple]:
    """The pairs of network and optimizer that have runs, one row of panels each."""
    there = {(network(run), run.config.optimizer) for run in runs}
    return [(each, optimizer) for each in networks(runs) for optimizer in names.OPTIMIZER if (each, optimizer) in there]


def label(optimizer: str, augmentation: str, model: str, dataset: str, several: bool) -> str:
    """A setting in a few words, the network and data set only where there are several."""
    return (
        f"{names.network(model, dataset)}: " if several else ""
    ) + f"{names.of(optimizer)}, {names.of(augmentation)}"
