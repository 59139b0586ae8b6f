"""From numbers to sentences: every verdict on a page is computed here."""

import math
from collections import Counter

import numpy as np
import pandas as pd

from bcebook import frames, plots, theory, theory_pages
from bcebook.catalog import LOSSES, OPTIMIZERS
from bcebook.stats import Estimate
from bcebook.store import Run

SYMBOL = {"accuracy": "$A$", "uniform_accuracy": r"$A_\text{Uni}$"}


def verdict(difference: Estimate, claimed: float) -> str:
    """ "supported", "contradicted" or "undecided": does the interval of a difference lie on the claimed side of zero?

    difference: an estimate with its interval. claimed: the paper's difference, or just its sign. Source: ours.
    """
    if claimed == 0 or math.isnan(difference.low):
        return "undecided"
    if difference.low > 0:
        return "supported" if claimed > 0 else "contradicted"
    if difference.high < 0:
        return "supported" if claimed < 0 else "contradicted"
    return "undecided"


def percent(value: float, digits: int = 1, sign: bool = False) -> str:
    """A fraction as percent, without the sign "%"; a dash for what is not known."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def with_interval(estimate: Estimate, digits: int = 1) -> str:
    """A difference in percentage points with its interval: "+1.2 [+0.4, +2.0]"."""
    text = percent(estimate.mean, digits, True)
    return text if math.isnan(estimate.low) else f"{text} [{percent(estimate.low, digits, True)}, {percent(estimate.high, digits, True)}]"


def mean_and_std(estimate: Estimate, digits: int = 1) -> str:
    """Percent, mean ± standard deviation over seeds."""
    return percent(estimate.mean, digits) + ("" if math.isnan(estimate.std) else f" ± {percent(estimate.std, digits)}")


def initial_bias(runs: list[Run]) -> str:
    """Markdown: what the bias sweep shows, beside the paper's medians."""
    table = frames.medians(runs)
    moved = [abs(run.history["bias_mean"][-1] - run.history["bias_mean"][0]) for run in runs if run.config.loss == "ce"]
    lines = []
    if moved:
        lines.append(f"- **CE's biases stay where they start: {'supported' if max(moved) < 0.1 else 'contradicted'}.** Over {len(moved)} "
                     f"runs, the mean of the biases moves by at most {max(moved):.3f} during training.")
    lines += _between(table)
    lines += [
        "- **How much of its start a bias keeps.** The slope of the final median bias against the initial mean is 1 if training "
        "never moves it and 0 if it forgets where it began:",
        "", "| | ours | " + " | ".join(f"paper, {m}" for m in plots.MARKER) + " |", "|---" * (2 + len(plots.MARKER)) + "|",
    ]
    published = frames.published_medians(runs, "bias_init_mean")
    published = published[published["quantity"] == "bias"]
    networks = frames.networks(runs)
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


def bias_decay(runs: list[Run]) -> str:
    """Markdown: where the biases end as lambda_b grows, beside the closed form and the paper's medians."""
    table = frames.medians(runs)
    wide = table.pivot_table(index=["network", "loss", "optimizer", "lambda_b"], columns="quantity", values="median")
    ce = wide[wide.index.get_level_values("loss") == "ce"]
    lines = []
    if len(ce):
        least = (ce["positive"] - ce["negative"]).groupby(level=["network", "optimizer"]).agg(np.ptp).max()
        lines.append(f"- **CE does not use its bias.** Between the smallest and the largest $\\lambda_b$ its median bias goes from "
                     f"{_number(ce['bias'].max())} to {_number(ce['bias'].min())}; the gap between its median positive and negative scores changes "
                     f"by at most {_number(least)}.")
    lines += _between(table)
    reach = {frames.rates_sum(run) for run in runs if run.config.optimizer == "adamw"}
    if reach:
        lines.append(f"- **AdamW's reach.** A step of AdamW moves a parameter by about the learning rate, however strong the pull. Its "
                     f"learning rates add up to {' or '.join(f'{value:.1f}' for value in sorted(reach))} in a run here: about as far as a bias can come.")
    networks, closed = frames.networks(runs), frames.by_decay(runs)
    published = frames.published_medians(runs, "lambda_b")
    published = published[published["quantity"] == "bias"].set_index(["model", "loss", "optimizer", "value"])["median"]
    lines += ["- **The median bias after training**, below it the paper's networks in brackets (" + ", ".join(plots.MARKER)
              + "). *Predicted*: {eq}`eq-decay` for our runs with CE and SGD, from their own start; the closed-form minimum for BCE.", "",
              "| $\\lambda_b$ | CE, SGD, predicted | " + " | ".join(f"CE, {plots.NAME[o]}" for o in OPTIMIZERS) + " | BCE, predicted | "
              + " | ".join(f"BCE, {plots.NAME[o]}" for o in OPTIMIZERS) + " |", "|---" * 7 + "|"]
    sgd = {(frames.network(run), run.config.lambda_b): run for run in runs if (run.config.loss, run.config.optimizer) == ("ce", "sgd")}
    for network in networks:
        for value in sorted({run.config.lambda_b for run in runs}, reverse=True):
            ce, bce = sgd.get((network, value)), closed.get((network, "bce", value))
            predicted = {"ce": frames.ce_bias_under_decay(ce) if ce else math.nan, "bce": frames.closed_form(bce)["bias"] if bce else math.nan}
            cells = []
            for loss in LOSSES:
                cells.append(_number(predicted[loss]))
                for optimizer in OPTIMIZERS:
                    theirs = ", ".join(_number(published.get((model, loss, optimizer, value), math.nan)) for model in plots.MARKER)
                    cells.append(f"{_number(wide['bias'].get((network, loss, optimizer, value), math.nan))}<br>({theirs})")
            lines.append(f"| {_of(network, networks)}{value:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _between(table: pd.DataFrame) -> list[str]:
    """Does BCE's median bias lie between the medians of negative and positive scores?"""
    wide = table[table["loss"] == "bce"].pivot_table(index=["network", "optimizer", "bias_init_mean", "lambda_b", "seed"], columns="quantity", values="median")
    if wide.empty:
        return []
    between = (wide["negative"] < wide["bias"]) & (wide["bias"] < wide["positive"])
    return [f"- **BCE's bias settles between negative and positive scores: {'supported' if between.all() else 'contradicted'}.** "
            f"The median bias lies between the medians of the negative and the positive scores in {between.sum()} of {len(between)} runs."]


def neural_collapse(runs: list[Run]) -> str:
    """Markdown: the collapse at the last epoch, CE beside BCE."""
    networks, names = frames.networks(runs), ("nc1", "nc2", "nc2_means", "nc3")
    table = frames.finals(runs)
    lines = ["| | loss | training accuracy, % | NC1 | NC2 | NC2 of the means | NC3 |", "|" + "---|" * 7]
    lower = Counter()
    pairs = 0
    for (model, dataset, optimizer, _), rows in table.groupby(["model", "dataset", "optimizer", "seed"], sort=False):
        both = {row.loss: row for row in rows.itertuples()}
        for loss in LOSSES:
            if row := both.get(loss):
                cells = " | ".join(f"{getattr(row, f'train_{name}'):.3g}" for name in names)
                lines.append(f"| {_of((model, dataset), networks)}{plots.NAME[optimizer]} | {plots.NAME[loss]} | {percent(row.train_accuracy, 2)} | {cells} |")
        if set(both) == set(LOSSES):
            pairs += 1
            lower.update(name for name in names if getattr(both["bce"], f"train_{name}") < getattr(both["ce"], f"train_{name}"))
    told = ", ".join(f"{label} in {lower[name]}" for name, label in zip(names, ("NC1", "NC2", "NC2 of the means", "NC3"), strict=True))
    return "\n".join([*lines, "", f"**BCE ends closer to collapse than CE**, of {pairs} pairs with the same optimizer and seed: {told}."])


def score_histograms(runs: list[Run]) -> str:
    """Markdown: how many test samples each network gets right, and how many with one threshold for all."""
    lines = ["| | $A$, % | $A_\\text{Uni}$, % | lost, points | mean bias | threshold + mean bias |",
             "|---|---|---|---|---|---|"]
    lost, networks = {}, frames.networks(runs)
    for run in runs:
        final, bias, network = run.final, frames.summary(run, "train", "bias").mean, frames.network(run)
        lost[network, run.config.optimizer, run.config.seed, run.config.loss] = final["test_accuracy"] - final["test_uniform_accuracy"]
        lines.append(f"| {_of(network, networks)}{plots.NAME[run.config.loss]}, {plots.NAME[run.config.optimizer]}, seed {run.config.seed} | "
                     f"{percent(final['test_accuracy'])} | {percent(final['test_uniform_accuracy'])} | "
                     f"{percent(final['test_accuracy'] - final['test_uniform_accuracy'])} | {_number(bias)} | {_number(final['train_uniform_threshold'] + bias)} |")
    pairs = [(value, lost[*key, "ce"]) for (*key, loss), value in lost.items() if loss == "bce" and (*key, "ce") in lost]
    fewer = sum(bce < ce for bce, ce in pairs)
    lines += ["", "*Lost*: accuracy minus uniform accuracy, on the test set. The threshold is the best one of the training set.", "",
              f"BCE loses fewer test samples than CE to the single threshold in {fewer} of {len(pairs)} pairs of networks. The accuracy "
              "chapter puts intervals around these figures."]
    return "\n".join(lines)


def accuracy(runs: list[Run]) -> str:
    """Markdown: a verdict for each setting and both measures, from Student's interval of the paired differences."""
    table = frames.differences(runs, ["test_accuracy", "test_uniform_accuracy"])
    if table.empty:
        return "No setting has runs of both losses with a common seed, so there is nothing to compare."
    table = frames.with_published(table)
    lines = ["| setting | of | BCE − CE, points [95 % bootstrap] | [95 % Student] | paper | verdict |",
             "|---|---|---|---|---|---|"]
    count, several = Counter(), len(frames.networks(runs)) > 1
    for row in table.itertuples():
        name = row.figure.removeprefix("test_")
        claimed = getattr(row, f"paper_{name}")
        result = verdict(row.student, claimed)
        count[name, result] += 1
        lines.append(f"| {frames.label(row.optimizer, row.augmentation, row.model, row.dataset, several)} | {SYMBOL[name]} | "
                     f"{with_interval(row.difference)} | [{percent(row.student.low, sign=True)}, {percent(row.student.high, sign=True)}] | "
                     f"{percent(claimed, sign=True)} | {result} |")
    settings = len(table) // 2
    for name in ("accuracy", "uniform_accuracy"):
        told = ", ".join(f"{result} in {count[name, result]}" for result in ("supported", "contradicted", "undecided") if count[name, result])
        lines += ["", f"**{name.replace('_', ' ').capitalize()}**, BCE against CE, over {settings} settings: "
                  f"the sign of the paper's difference is {told}."]
    return "\n".join(lines)


def accuracy_table(runs: list[Run]) -> str:
    """Markdown: mean ± standard deviation over seeds of the final (and of the best) epoch, beside the paper's table."""
    figures = ["test_accuracy", "best_test_accuracy", "test_uniform_accuracy", "best_test_uniform_accuracy"]
    ours = frames.by_setting(runs, figures)
    several = len(frames.networks(runs)) > 1
    lines = ["| setting | loss | $A$ final | best | paper | $A_\\text{Uni}$ final | best | paper |",
             "|---|---|---|---|---|---|---|---|"]
    for setting, row in ours.iterrows():
        dataset, model, augmentation, optimizer, loss = setting
        theirs = frames.published_accuracy(*setting)
        cells = [mean_and_std(row[name]) for name in figures]
        lines.append(f"| {frames.label(optimizer, augmentation, model, dataset, several)} | {plots.NAME[loss]} | {cells[0]} | {cells[1]} | "
                     f"{percent(theirs['accuracy'])} | {cells[2]} | {cells[3]} | {percent(theirs['uniform_accuracy'])} |")
    return "\n".join(lines)


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


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _of(network: tuple[str, str], networks: list) -> str:
    """The network and data set in front of a row, only where a table has several."""
    return f"{frames.name(*network)}, " if len(networks) > 1 else ""


def _slope(x, y) -> str:
    return f"{np.polyfit(x, y, 1)[0]:.2f}" if len(set(x)) > 1 else "–"
