"""From the theory's tables to sentences: what the chapters of theory say in numbers."""

from collections import Counter

import numpy as np
import pandas as pd

from bcebook.chapters.legacy import theory_pages
from bcebook.report import plots
from bcebook.science import theory


def saturation(points: pd.DataFrame) -> str:
    """Markdown: closed form and plain minimisation at each lambda_b, and their largest disagreement."""
    lines = ["| $\\lambda_b$ | positive | negative | bias $b$ | offset $o$ | mean row | found $b$ | found $o$ | paper's $b$ |", "|" + "---|" * 9]
    for r in points.itertuples():
        row = (f"| {r.lambda_b:g} | {r.positive:.4f} | {r.negative:.4f} | {r.bias:.4f} | {r.offset:.4f} | {100 * r.share:.1f} % | "
               f"{r.bias_solved:.4f} | {r.offset_solved:.4f} | {r.paper:.4f} |")
        lines.append(row.replace("-0.0 ", "0.0 ").replace("-0.0000", "0.0000").replace("-", "−").replace("e−", "e-"))
    free, held = points[points["offset"] == 0], points[points["offset"] < 0]
    gaps = [(rows["paper"] - rows["bias"]).abs().max() for rows in (free, held)]
    return "\n".join([
        *lines, "", f"**The largest disagreement between closed form and minimisation is {points['apart'].max():.0e}**, over all "
        f"classes, all pairs of classes and all rows. The paper's equation differs from the bias of the minimum by at most "
        f"{gaps[0]:.0e} in the {len(free)} rows without an offset, and by up to {gaps[1]:.2f} in the {len(held)} rows with one."])


def transition(c: dict[int, float], swept) -> str:
    """Markdown: for each number of classes and its c, the critical lambda_b of BCE and the swept values beyond it."""
    told = []
    for k, value in c.items():
        critical = theory.critical_lambda_b("bce", k, value)
        beyond = [f"{each:g}" for each in swept if each > critical]
        written = np.format_float_positional(critical, 3, fractional=False)  # 8.46e-05 would break across lines
        told.append(f"For {k} classes $c$ is {value:.3g} and the critical $\\lambda_b$ is {written}: {len(beyond)} of the {len(swept)} "
                    f"values that the paper swept ({', '.join(beyond)}) lie beyond it.")
    return " ".join(told)


def one_less_dimension(table: pd.DataFrame) -> str:
    """Markdown: lead 2's numbers, and for which lambda_b they refute the theorem's form at d = K - 1."""
    lines = ["| $\\lambda_b$ / critical | $\\lambda_b$ | theorem's form | lowest found | bound | spread of $b$ | restarts there |",
             "|" + "---|" * 7]
    lines += [f"| {r.multiple:g} | {r.lambda_b:.4g} | {r.form:.6f} | {r.found:.6f} | {r.bound:.6f} | {r.spread:.3f} | "
              f"{r.hits} of {r.restarts} |" for r in table.itertuples()]
    broken, above = table["form"] - table["found"] > 1e-6, table["form"] - table["bound"] > 1e-6
    least, most, late = (", ".join(f"{x:g}" for x in table[rows]["multiple"]) or "no" for rows in (~above, above & ~broken, broken))
    return "\n".join([
        *lines, "", f"At {least} times the critical $\\lambda_b$ the theorem's form reaches the bound: it is the minimum. At {most} "
        f"times it lies above the bound and nothing lower was found: open. **At {late} times a point with unequal biases is lower, "
        "which refutes the form there**; that this point is itself the global minimum is not proved."])


def _reading(row) -> str:
    """What a panel's residuals look like (`theory_pages.panel_residuals`)."""
    if row.within == row.medians:
        return "agrees"
    if row.varied == "initial_bias_mean":  # the minimum is the same for every start
        return "start still shows" if row.moves > row.room else "off from every start"
    if row.loss == "ce":
        return "bias still decays" if row.scores else "scores off"
    return "logits agree" if row.logits <= row.room else "logits off"


def published(table: pd.DataFrame, panels: pd.DataFrame) -> str:
    """Markdown: how many published medians the closed form predicts, and the residuals of every panel."""
    sweep, named = {"initial_bias_mean": "start", "lambda_b": "$\\lambda_b$"}, plots.NAME
    lines = ["| network, data | loss, optimizer | sweep | agree | residual, median | largest | reading |", "|" + "---|" * 7]
    lines += [f"| {r.model}, {r.dataset.replace('cifar', 'CIFAR')} | {named[r.loss]}, {named[r.optimizer]} | {sweep[r.varied]} | {r.within} of {r.medians} | "
              f"{r.middle:+.2f} | {r.largest:.2f} | {_reading(r)} |".replace("-", "−") for r in panels.itertuples()]
    count = lambda rows: f"{rows['within'].sum()} of {len(rows)}"  # noqa: E731
    by = ", ".join(f"{count(rows)} for {named[loss]} with {named[optimizer]}"
                   for (loss, optimizer), rows in table.groupby(["loss", "optimizer"], sort=False))
    swin = table[(table["model"] == "Swin") & (table["optimizer"] == "adamw") & ((table["loss"] == "bce") | (table["quantity"] != "bias"))]
    resnet = table[(table["model"] == "ResNet18") & (table["loss"] == "ce") & (table["quantity"] == "positive")]["median"].median()
    ten, hundred = (theory.minimum("ce", k, theory_pages.paper_c(k)).positive for k in (10, 100))
    told = ", ".join(f"*{reading}* {number}" for reading, number in Counter(_reading(row) for row in panels.itertuples()).most_common())
    return "\n".join([
        f"- **{count(table)} medians agree**: {by}.",
        f"- **Swin with AdamW**, all scores of both losses and the biases of BCE: {count(swin)} agree, on both data sets; the "
        f"largest residual there is {swin['residual'].abs().max():.2f}.",
        f"- **ResNet18's data set is not stated.** Its positive score under CE is {resnet:.2f}; the closed form gives {ten:.2f} for "
        f"10 classes and {hundred:.2f} for 100. We take 10.",
        f"- **The {len(panels)} panels**, in the words explained below the table: {told}.", "", *lines])


def ce_drift(times: pd.DataFrame, default: float, constant: float) -> str:
    """Markdown: does one exponential fit CE's bias in each panel, and is it that of the default schedule? default, constant:
    the effective times of that schedule and of its first learning rate kept throughout."""
    lines = ["| network, data | optimizer | medians | effective time that fits | the default's? |", "|" + "---|" * 5]
    sgd, fits = times["optimizer"] == "sgd", times["low"] <= times["high"]
    same, longer = fits & sgd & (times["low"] <= default) & (default <= times["high"]), fits & sgd & (times["low"] > constant)
    lines += [f"| {r.model}, {r.dataset.replace('cifar', 'CIFAR')} | {plots.NAME[r.optimizer]} | {r.count} | {f'{r.low:,.0f} to {r.high:,.0f}' if fit else 'none'} | "
              f"{'–' if r.optimizer == 'adamw' else 'yes' if equal else 'no'} |" for r, fit, equal in zip(times.itertuples(), fits, same, strict=True)]
    return "\n".join([
        *lines, "", f"**With SGD one exponential fits {(fits & sgd).sum()} of {sgd.sum()} panels.** The default schedule's effective "
        f"time, {default:,.0f}, is among the fitted ones in {same.sum()} of {sgd.sum()}; {longer.sum()} exceed even {constant:,.0f}, what "
        f"its first rate gives if it is never lowered. With AdamW one exponential fits {(fits & ~sgd).sum()} of {(~sgd).sum()}."])
