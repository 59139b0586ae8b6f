"""A rehearsal: a profile's runs cut to two steps on noise, so that its pages can be tried out before a GPU is there.

A run that is cut has settings of its own, and so a key of its own: it can never be taken for the run it stands for.
"""

import contextlib
import dataclasses
import math
import os

from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS
from bcebook.variables import variable

VARIABLE = "BCEBOOK_REHEARSAL"  # of the environment, so that workers and kernels rehearse too
STEPS = 2
NOTE = (
    "**A rehearsal.** Every run of this book is two steps on random noise: the page shows that it can be made, and "
    "nothing on it that comes from a run means anything."
)


def active() -> bool:
    """Whether this process rehearses."""
    return bool(os.environ.get(VARIABLE))


def on() -> contextlib.AbstractContextManager:
    """Rehearse in this process and in those that it starts."""
    return variable(VARIABLE, "1")


def shorten(config: RunConfig) -> RunConfig:
    """The run that stands for `config`: one epoch of `images` (about two steps), each batch as large as there are
    classes."""
    classes = DATASETS[config.dataset].num_classes
    size = STEPS * classes if config.held_out else None
    kept = min(config.keep_features, STEPS * classes)
    return dataclasses.replace(config, epochs=1, batch_size=classes, train_size=size, keep_features=kept)


def can(config: RunConfig) -> bool:
    """Whether a run has a stand-in: one on images from folders has none, as noise of their size is no small thing."""
    return config.dataset in DATASETS


def images(config: RunConfig) -> int:
    """Training images a class that a run which stands for another is given: of the largest class, where a long tail
    leaves one image to the smallest; two more where some are held out, so that each class has a pair there."""
    return max(STEPS + 2 * config.held_out, math.ceil(config.imbalance_factor or 1))
