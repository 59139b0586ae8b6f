"""The paper's published numbers, from data/paper; accuracies become fractions."""

import pandas as pd

from bcebook.paths import published

READING_ERROR = {"ViT": 0.05, "Swin": 0.05, "ResNet18": 0.1}  # of the medians, read off the published pictures


def medians(varied: str, dataset: str | None = None) -> pd.DataFrame:
    """Medians of biases and scores against `varied` ("initial_bias_mean" or "lambda_b").

    Columns model, dataset, loss ("ce", "bce"), optimizer ("sgd", "adamw"), value, quantity ("positive", "negative", "bias"),
    median, reading_error. dataset: e.g. "cifar10"; ResNet18's data set is not stated on its figure, and its rows
    always come along. A median that could not be read is left out.
    """
    table = pd.read_csv(published() / "bias_and_score_medians.csv")
    table = _lower(table[table["varied"] == varied].dropna(subset="median"))
    if dataset:
        table = table[table["dataset"].isin([dataset, "unstated"])]
    return table.assign(reading_error=table["model"].map(READING_ERROR)).drop(columns="varied").reset_index(drop=True)


def accuracy() -> pd.DataFrame:
    """Table of CIFAR accuracies: dataset, model, loss, optimizer, augmentation, accuracy, uniform_accuracy (fractions)."""
    table = _lower(pd.read_csv(published() / "cifar_accuracy.csv"))
    table["model"] = table["model"].str.lower()
    table[["accuracy", "uniform_accuracy"]] /= 100
    return table


def _lower(table: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in ("dataset", "loss", "optimizer", "augmentation") if name in table]
    return table.assign(**{name: table[name].str.lower() for name in names})
