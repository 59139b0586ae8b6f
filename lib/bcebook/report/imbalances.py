"""Runs at several imbalances: what both losses reach at each, and by how much they differ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from bcebook.names import LOSS
from bcebook.report import frames, seeds

if TYPE_CHECKING:
    from bcebook.runs.store import Run


def plain(runs: list[Run]) -> list[Run]:
    """Those whose biases start around zero: what is compared here."""
    return frames.select(runs, bias_init_mean=0.0)


def started(runs: list[Run]) -> list[Run]:
    """Those, of BCE, whose biases start elsewhere."""
    return [run for run in runs if run.config.bias_init_mean]


def start_gaps(runs: list[Run], figure: str) -> list[float]:
    """BCE whose biases start elsewhere less BCE whose biases start around zero, at the same imbalance, in a figure; for
    each seed that has both."""
    later = {run.config.seed: run for run in started(runs)}
    at = {run.config.imbalance_factor for run in later.values()}
    earlier = {run.config.seed: run for run in plain(runs)
               if run.config.loss == "bce" and run.config.imbalance_factor in at}
    return seeds.gaps(later, earlier, lambda run: run.final[figure])


def factors(runs: list[Run]) -> list[float]:
    """The imbalances that have plain runs, the smallest first."""
    return sorted({run.config.imbalance_factor for run in plain(runs)})


def by_factor(runs: list[Run], table, figures) -> pd.DataFrame:
    """`frames.differences` or `frames.by_setting` of each imbalance by itself, with its `factor`."""
    found = [table(frames.select(plain(runs), imbalance_factor=factor), list(figures)).assign(factor=factor)
             for factor in factors(runs)]
    found = [each for each in found if len(each)]
    return pd.concat(found, ignore_index=True) if found else table([], list(figures)).assign(factor=math.nan)


def gaps(runs: list[Run], figures) -> pd.DataFrame:
    """BCE minus CE, paired by seed, a row for each imbalance and figure that has a pair: factor, and the columns of
    `frames.differences`."""
    return by_factor(runs, frames.differences, figures)


def seeds_gaps(runs: list[Run], factor: float, figure: str) -> dict[int, float]:
    """Seed -> BCE minus CE in a figure at one imbalance, for the seeds that have both."""
    table = frames.finals(frames.select(plain(runs), imbalance_factor=factor))
    if figure not in table:
        return {}
    ce, bce = (table[table["loss"] == loss].set_index("seed")[figure] for loss in LOSS)
    return (bce - ce).dropna().to_dict()


def both_losses(runs: list[Run], figures) -> pd.DataFrame:
    """A row for each imbalance and figure: factor, figure, ce and bce (`stats.Estimate`s over the seeds), difference
    (that of the pairs; `frames.NOTHING` where there is none), seeds (pairs)."""
    of_losses = by_factor(runs, frames.by_setting, figures).set_index(["factor", "loss"])
    paired = gaps(runs, figures).set_index(["factor", "figure"])["estimate"]
    rows = []
    for factor in factors(runs):
        for figure in figures:
            row = {loss: of_losses[figure].get((factor, loss), frames.NOTHING) for loss in LOSS}
            gap = paired.get((factor, figure), frames.NOTHING)
            rows.append({"factor": factor, "figure": figure} | row | {"difference": gap, "seeds": gap.n})
    return pd.DataFrame(rows, columns=["factor", "figure", *LOSS, "difference", "seeds"])
