"""What every way to train many runs has in common."""

import sys
from typing import Protocol

from bcebook.runs.config import RunConfig


class Executor(Protocol):
    """Trains runs into a store. Each finished run is there at once; a stopped one goes on from its checkpoint."""

    def run(self, configs: list[RunConfig], deadline: float) -> list[str]:
        """Train `configs`; returns a sentence for each that failed. deadline: of time.monotonic; what is not done by
        then is left, with a checkpoint where it was in progress, and is no failure."""


def bar_interval() -> float:
    """Seconds between two states of a progress bar: a log file needs few."""
    return 0.1 if sys.stderr.isatty() else 30


def duration(seconds: float) -> str:
    """ "45 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
