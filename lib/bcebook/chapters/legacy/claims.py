"""From runs to sentences: every verdict on a chapter of experiments is computed here."""

import math

import numpy as np
import pandas as pd

from bcebook.report import frames, plots
from bcebook.chapters.catalog import LOSSES, OPTIMIZERS
from bcebook.runs.store import Run

def initial_bias(runs: list[Run]) -> str:
    """Markdown: what the bias sweep shows, beside the paper's medians."""
    table = frames.medians(runs)
    moved = [abs(run.history["bias_mean"][-1] - run.history["bias_mean"][0]) for run in runs if run.config.loss == "ce"]
    lines = []
    if moved:
        lines.append(f"- **CE's biases stay where they start: {'supported' if max(moved) < 0.1 else 'contradicted'}.** Over {len(moved)} "
                     f"runs, the mean of the biases moves by at most {max(moved):.3f} during training.")
    lines += _between(table)
    networks = frames.networks(runs)
    closed = {(frames.network(run), run.config.loss): frames.closed_form(run) for run in runs}
    kinds = ("positive", "bias", "negative")
    lines += ["- **Where scores and biases end**: the smallest and the largest median over the initial means; in brackets the closed form.",
              "", "| | positive scores | biases | negative scores |", "|---|---|---|---|"]
    medians = table.groupby(["network", "loss", "optimizer", "quantity"])["median"].agg(["min", "max"])
    for network in networks:
        for loss in LOSSES:
            for optimizer in OPTIMIZERS:
                if (network, loss, optimizer, "bias") in medians.index:
                    ends = medians.loc[network, loss, optimizer]
                    cells = [f"{_number(ends['min'][kind])} to {_number(ends['max'][kind])} ({_number(closed[network, loss].get(kind, math.nan))})" for kind in kinds]
                    lines.append(f"| {_of(network, networks)}{plots.NAME[loss]}, {plots.NAME[optimizer]} | " + " | ".join(cells) + " |")
    lines += [
        "", "- **How much of its start a bias keeps.** The slope of the final median bias against the initial mean is 1 if training "
        "never moves it and 0 if it forgets where it began:",
        "", "| | ours | " + " | ".join(f"paper, {m}" for m in plots.MARKER) + " |", "|---" * (2 + len(plots.MARKER)) + "|",
    ]
    published = frames.published_medians(runs, "bias_init_mean")
    published = published[published["quantity"] == "bias"]
    for network in networks:
        for loss in LOSSES:
            for optimizer in OPTIMIZERS:
                ours = table[(table["network"] == network) & (table["loss"] == loss) & (table["optimizer"] == optimizer) & (table["quantity"] == "bias")]
                cells = [_slope(ours["bias_init_mean"], ours["median"])]
                for model in plots.MARKER:
                    rows = published[(published["model"] == model) & (published["loss"] == loss) & (published["optimizer"] == optimizer)]
                    cells.append(_slope(rows["value"], rows["median"]))
                lines.append(f"| {_of(network, networks)}{plots.NAME[loss]}, {plots.NAME[optimizer]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _between(table: pd.DataFrame) -> list[str]:
    """Does BCE's median bias lie between the medians of negative and positive scores?"""
    wide = table[table["loss"] == "bce"].pivot_table(index=["network", "optimizer", "bias_init_mean", "lambda_b", "seed"], columns="quantity", values="median")
    if wide.empty:
        return []
    between = (wide["negative"] < wide["bias"]) & (wide["bias"] < wide["positive"])
    return [f"- **BCE's bias settles between negative and positive scores: {'supported' if between.all() else 'contradicted'}.** "
            f"The median bias lies between the medians of the negative and the positive scores in {between.sum()} of {len(between)} runs."]


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _of(network: tuple[str, str], networks: list) -> str:
    """The network and data set in front of a row, only where a table has several."""
    return f"{frames.name(*network)}, " if len(networks) > 1 else ""


def _slope(x, y) -> str:
    return f"{np.polyfit(x, y, 1)[0]:.2f}" if len(set(x)) > 1 else "–"
