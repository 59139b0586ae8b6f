"""The library behind the reproduction book of "BCE vs. CE in Deep Feature Learning" (ICML 2025).

From the bottom up; imports only go down:

    paths, lazy, names, paper    folders; imports on first use; display names; the paper's published numbers
    science/                     losses, metrics, statistics, verdicts, the model's minima; knows nothing of runs
    runs/                        what a run is, how it is stored, checked, packed
    training/                    data sets, networks, the training loop, what is measured
    execution/                   many runs at once
    claims, frame                claims and their verdicts; runs as tidy DataFrames
    report/                      tables, figures: from runs to what a page shows
    chapters/                    the registry that finds the chapters; those that are not yet a script are a module here
    book/                        notebooks opened and executed, pages rendered
    cli                          the command line

Importing this package imports nothing else, so that the command line starts at once; the names below are imported on
first use.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "losses": "science.losses",
    "metrics": "science.metrics",
    "theory": "science.theory",
    "config": "runs.config",
    "store": "runs.store",
    "train": "training.sessions",
    "data": "training.datasets",
    "models": "training.models",
    "catalog": "chapters.catalog",
}


def __getattr__(name: str):
    """The modules that a person imports most, under their short names: `from bcebook import losses, train`."""
    if name in _HOMES:
        importlib.import_module("bcebook.runs.provenance")  # prepares the process for torch: threads, accounts
        return importlib.import_module(f"bcebook.{_HOMES[name]}")
    raise AttributeError(f"module 'bcebook' has no attribute {name!r}")
