"""The earlier home of what is in base, choose and processes; to be deleted when nothing imports it."""

from bcebook.execution.base import cores
from bcebook.execution.choose import train_missing
from bcebook.execution.processes import workers


def watch_parent() -> None:
    """`workers` itself sees to it now."""


__all__ = ["cores", "train_missing", "watch_parent", "workers"]
