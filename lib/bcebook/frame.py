"""Runs as tidy DataFrames: one row a run, one row an epoch, or one row a comparison of BCE with CE."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence

import pandas as pd

from bcebook import names
from bcebook.runs.config import RunConfig
from bcebook.runs.store import Run
from bcebook.science import stats
from bcebook.science.summaries import ScoreSummary

SETTING = ["dataset", "model", "augmentation", "optimizer"]  # what the book's comparisons hold fixed, beside the seed
LEVEL = 0.1  # a run has levelled off where its training loss changes by less than this share over the last tenth
FIRST = ["network", "loss", *SETTING[2:], "seed", "test_accuracy", "test_uniform_accuracy"]  # what a reader looks for
SPLITS, KINDS = ("train", "test"), ("positive", "negative", "bias")
MEDIANS = [f"{split}_{kind}" for split in SPLITS for kind in KINDS]


def of(runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run, its key as the index.

    Columns: every setting of the RunConfig; network ("ResNet9 on CIFAR10"); every final figure (test_accuracy,
    train_nc1, ...; accuracies are fractions) and the best ones (best_test_accuracy, ...); the median of each kind of
    score and of the biases (train_positive, train_negative, train_bias, test_...); bias_start and bias_end, the mean of
    the biases before and after training; settled, whether the run has levelled off (`levelled_off`); seconds; run, the
    Run itself.
    """
    runs = list(runs)
    table = settings(run.config for run in runs).assign(**_columns([_row(run) for run in runs]), run=runs)
    if not runs:
        return table.reindex(columns=[*table.columns, *MEDIANS, "bias_start", "bias_end", "settled"])
    return table[[*(name for name in FIRST if name in table), *(name for name in table if name not in FIRST)]]


def settings(configs: Iterable[RunConfig]) -> pd.DataFrame:
    """One row a configuration, its key as the index: every setting, and network."""
    configs = list(configs)
    fields = [field.name for field in dataclasses.fields(RunConfig)]
    frame = pd.DataFrame(
        [[getattr(config, name) for name in fields] for config in configs],
        columns=fields,
        index=pd.Index([config.key for config in configs], name="key"),
    )
    return frame.assign(network=[names.network(config.model, config.dataset) for config in configs])


def _row(run: Run) -> dict:
    medians = {
        f"{split}_{kind}": ScoreSummary.from_dict(run.scores[split][kind]).median for split in SPLITS for kind in KINDS
    }
    return (
        run.final
        | {f"best_{name}": value for name, value in run.best.items()}
        | medians
        | {
            "bias_start": run.history["bias_mean"][0],
            "bias_end": run.history["bias_mean"][-1],
            "settled": levelled_off(run),
            "seconds": run.environment.get("seconds", math.nan),
        }
    )


def _columns(rows: list[dict]) -> dict[str, list]:
    """Rows of different names as columns, nan for what a row lacks."""
    return {name: [row.get(name, math.nan) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)}


def levelled_off(run: Run) -> bool:
    """Whether the training loss changed by less than a tenth over the last tenth of the epochs. Rule: ours."""
    loss = run.history["train_loss"]  # its first row is before training
    epochs = len(loss) - 1
    before = loss[max(1, math.floor(0.9 * epochs))] if epochs > 1 else math.nan
    return abs(loss[-1] - before) < LEVEL * abs(before)


def compare(
    runs: pd.DataFrame,
    measures: Sequence[str] | str,
    by: Sequence[str] = SETTING,
    on: str = "loss",
    groups: tuple[str, str] = ("bce", "ce"),
) -> pd.DataFrame:
    """The one paired comparison of the book: the runs of groups[0] minus those of groups[1], seed by seed.

    by: what a setting is; on, groups: the column that tells the two sides apart, and their values. A row for each
    setting and measure that has a pair: the columns of `by`, measure, each (the seeds' differences, in the order of the
    seeds), mean, low, high (Student's 95 % interval of the mean), p (Student's, two-sided), n, estimate (the same as a
    `stats.Estimate`) and keys (of the compared runs). One seed has no interval: nan. Raises KeyError, with the nearest
    names, for a measure that no run has.
    """
    measures = [measures] if isinstance(measures, str) else list(measures)
    for measure in measures if len(runs) else ():
        if measure not in runs:
            near = difflib.get_close_matches(measure, runs.columns)
            raise KeyError(f"the runs have no column {measure!r}" + (f"; did you mean {', '.join(near)}?" * bool(near)))
    rows = []
    for setting, group in runs.groupby(list(by), sort=False, dropna=False):
        ours, theirs = (group[group[on] == name].reset_index().set_index("seed") for name in groups)
        for measure in measures:
            each = (ours[measure] - theirs[measure]).dropna().sort_index()
            if each.empty:
                continue
            estimate = stats.student_interval(each.to_numpy())
            rows.append(
                dict(zip(by, setting, strict=True))
                | {"measure": measure, "each": each.to_numpy(), "mean": estimate.mean, "low": estimate.low}
                | {"high": estimate.high, "p": stats.student_p(each.to_numpy()), "n": estimate.n, "estimate": estimate}
                | {"keys": tuple(key for side in (ours, theirs) for key in side.loc[each.index, "key"])}
            )
    columns = [*by, "measure", "each", "mean", "low", "high", "p", "n", "estimate", "keys"]
    return pd.DataFrame(rows, columns=columns)


def summarise(runs: pd.DataFrame, measures: Sequence[str], by: Sequence[str] = (*SETTING, "loss")) -> pd.DataFrame:
    """Over the seeds: a row for each setting, and for each measure a `stats.Estimate` (mean, standard deviation,
    Student's interval); one of n = 0 where no run has it."""
    nothing = stats.Estimate(math.nan, math.nan, 0, math.nan, math.nan)
    rows = []
    for setting, group in runs.groupby(list(by), sort=False, dropna=False):
        known = {name: group[name].dropna().to_numpy() if name in group else [] for name in measures}
        rows.append(
            dict(zip(by, setting, strict=True))
            | {name: stats.student_interval(values) if len(values) else nothing for name, values in known.items()}
        )
    return pd.DataFrame(rows, columns=[*by, *measures])


def label(row, several: bool) -> str:
    """A setting (a row with the columns of SETTING) in a few words: "SGD, DA1", with the network where there are
    several."""
    network = f"{names.network(row['model'], row['dataset'])}: " if several else ""
    return f"{network}{names.of(row['optimizer'])}, {names.of(row['augmentation'])}"
