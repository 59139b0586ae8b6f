"""Seeds: runs that differ in nothing but the seed, or the loss and the seed, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from bcebook.names import LOSS
from bcebook.science import stats, verdicts

if TYPE_CHECKING:
    from bcebook.runs.store import Run
    from bcebook.science.verdicts import Finding


def by_loss(runs: list[Run], setting: Callable[[Run], Hashable]) -> dict:
    """setting(run) -> loss -> seed -> run, settings in the order of their first run; every setting has both losses, if
    only empty."""
    found: dict = {}
    for run in runs:
        losses = found.setdefault(setting(run), {loss: {} for loss in LOSS})
        losses[run.config.loss][run.config.seed] = run
    return found


def gaps(ours: dict[int, Run], theirs: dict[int, Run], number: Callable[[Run], float]) -> list[float]:
    """A number of our runs minus that of the others, for each seed in common, in the order of the seeds."""
    return [number(ours[seed]) - number(theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]


def tested(each: Sequence[float], direction: int = 1, unit: str = "", label: str = "") -> Finding:
    """Is the mean of a number over the seeds above zero (direction -1: below), by Student's interval? Not run without a
    seed."""
    estimate = stats.student_interval(each) if len(each) else None
    p = stats.student_p(each) if len(each) else float("nan")
    return verdicts.sign(estimate, direction, unit=unit, p=p, label=label)
