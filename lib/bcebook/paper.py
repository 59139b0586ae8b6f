"""Everything that is published of the paper, from data/paper: one reader, one unit. Accuracies become fractions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bcebook.lazy import lazy
from bcebook.paths import published

if TYPE_CHECKING:
    import pandas as pd

_pd = lazy("pandas")
READING_ERROR = {"ViT": 0.05, "Swin": 0.05, "ResNet18": 0.1}  # of the medians, read off the published pictures


@dataclass(frozen=True)
class Item:
    """A figure or table of the paper. title: what it shows. missing: why no chapter rebuilds it, for those that none
    does."""

    title: str
    missing: str = ""


# Every figure and table of the paper that we know of, in its order. Which chapters rebuild an item, the chapters say
# themselves.
ITEMS = {
    "regions": Item("Figure: feature regions of CE and BCE in the space of distances"),
    "collapse": Item("Figure: NC1, NC2 and NC3 over the epochs"),
    "bias_start": Item("Figures: biases and scores against the initial bias mean"),
    "bias_decay": Item("Figures: biases and scores against the decay of the bias"),
    "histograms": Item("Figure: distributions of positive and negative scores"),
    "accuracy": Item("Table: accuracy and uniform accuracy on CIFAR10 and CIFAR100"),
    "compactness": Item("Table: compactness and distinctiveness of the features"),
    "long_tail": Item("Table: accuracy on CIFAR100-LT"),
    "imagenet": Item("Table: fine-tuning on ImageNet-1k"),
    "batch_size": Item("Table: the effect of the batch size"),
    "tsne": Item("Figure: t-SNE of the features by epoch"),
    "transformers": Item("Figures: biases and scores of ViT and Swin"),
}


def medians(varied: str, dataset: str | None = None) -> pd.DataFrame:
    """Medians of biases and scores against `varied` ("initial_bias_mean" or "lambda_b").

    Columns model, dataset, loss ("ce", "bce"), optimizer ("sgd", "adamw"), value, quantity ("positive", "negative",
    "bias"), median, reading_error. dataset: e.g. "cifar10"; ResNet18's data set is not stated on its figure, and its
    rows always come along. A median that could not be read is left out.
    """
    table = _read("bias_and_score_medians")
    table = table[table["varied"] == varied].dropna(subset="median")
    if dataset:
        table = table[table["dataset"].isin([dataset, "unstated"])]
    return table.assign(reading_error=table["model"].map(READING_ERROR)).drop(columns="varied").reset_index(drop=True)


def accuracy() -> pd.DataFrame:
    """Table of CIFAR accuracies: dataset, model, loss, optimizer, augmentation, accuracy, uniform_accuracy
    (fractions)."""
    table = _read("cifar_accuracy")
    table["model"] = table["model"].str.lower()
    table[["accuracy", "uniform_accuracy"]] /= 100
    return table


def imagenet() -> pd.DataFrame:
    """Fine-tuning on ImageNet-1k: dataset, model, loss, accuracy, uniform_accuracy (fractions)."""
    table = _read("imagenet_accuracy")
    table[["accuracy", "uniform_accuracy"]] /= 100
    return table


def long_tailed() -> pd.DataFrame:
    """CIFAR100-LT: dataset, imbalance_factor (largest / smallest class), loss, accuracy (fraction)."""
    table = _read("cifar100_long_tailed_accuracy")
    table["accuracy"] /= 100
    return table


def poster() -> pd.DataFrame:
    """Where the NC curves of the paper's poster end (ResNet18 on CIFAR10), read off by eye: measure ("nc2_means",
    "nc3"), loss, optimizer, value, reading ("about" or "at most")."""
    return _read("poster_neural_collapse")


def _read(name: str) -> pd.DataFrame:
    table = _pd.read_csv(published() / f"{name}.csv")
    lower = [column for column in ("dataset", "loss", "optimizer", "augmentation") if column in table]
    return table.assign(**{column: table[column].str.lower() for column in lower})
