"""The chapter on the decay of the bias: how far does it take the biases down, and do the scores follow?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bcebook import names, paper
from bcebook.chapters import recipes
from bcebook.chapters.initial_bias import TOLD_APART, lies_between
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.runs.config import batch_count
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcebook.runs.store import Run

np, pd = lazy("numpy"), lazy("pandas")
frames, sweeps = lazy("bcebook.report.frames"), lazy("bcebook.report.sweeps")

MOMENTUM = 0.9  # of the training loop's SGD, as in the authors' code
CLOSE = 0.01 * recipes.LAMBDA_B_START  # a hundredth of where the biases start
REACH = 1.1  # of the summed learning rates: see `adamw_reach`


def configs(profile: str, seed: int) -> list:
    """The sweep of lambda_b on the profile's first network, its biases starting at the largest initial mean."""
    network = recipes.PROFILES[profile].networks[0]
    return recipes.decoupled(profile, network, seed, means=(recipes.LAMBDA_B_START,),
                             lambdas=recipes.PROFILES[profile].lambdas)


def decay_sweep(runs: list[Run]) -> Figure:
    """Scores and biases against lambda_b, with the paper's medians and the closed-form minimum, which for CE includes
    the bias: zero, because lambda_b/2 |b|^2 is all that is left to decide it."""
    return sweeps.figure(runs, "lambda_b")


def step_by_step(run: Run) -> float:
    """What decay alone makes of the mean bias with SGD, through every step: v <- 0.9 v + lambda_b b, b <- b - eta v.

    Without the two simplifications of eq-decay (`frames.ce_bias_under_decay`): that momentum acts at once, and that a
    step is infinitely small. Source: PyTorch's SGD.
    """
    config, bias, velocity = run.config, run.history["bias_mean"][0], 0.0
    steps = batch_count(run.scores["train"]["positive"]["count"], config.batch_size)
    for epoch in range(1, config.epochs + 1):
        rate = config.rate(epoch)
        for _ in range(steps):
            velocity = MOMENTUM * velocity + config.lambda_b * bias
            bias -= rate * velocity
    return bias


def predicted(run: Run) -> float:
    """The bias that we predict for a run; nan for CE with AdamW, for which we have no equation."""
    if run.config.loss == "bce":
        return frames.closed_form(run)["bias"]
    return frames.ce_bias_under_decay(run) if run.config.optimizer == "sgd" else float("nan")


def medians(runs: list[Run]) -> tables.Table:
    """Medians after training, a row for each network, loss, optimizer and lambda_b (over several seeds their mean):
    the bias, what is predicted for it, the scores on either side of it, and the paper's median biases."""
    networks, groups, rows = frames.networks(runs), {}, []
    for run in runs:
        config = run.config
        place = (networks.index(frames.network(run)), list(names.LOSS).index(config.loss),
                 list(names.OPTIMIZER).index(config.optimizer), -config.lambda_b)
        groups.setdefault(place, []).append(run)
    published = frames.published_medians(runs, "lambda_b")
    published = published[published["quantity"] == "bias"].set_index(["model", "loss", "optimizer", "value"])["median"]
    for place in sorted(groups):
        group, config = groups[place], groups[place][0].config
        setting = frames.of(networks[place[0]], networks) + f"{names.of(config.loss)}, {names.of(config.optimizer)}"
        row = {"setting": setting, "lambda_b": config.lambda_b,
               "predicted": float(np.mean([predicted(run) for run in group]))}
        for kind in frames.KINDS:
            row[kind] = float(np.mean([frames.summary(run, "train", kind).median for run in group]))
        for model in paper.READING_ERROR:
            row[model] = published.get((model, config.loss, config.optimizer, config.lambda_b), float("nan"))
        rows.append(row)
    columns = {"setting": tables.Column(""), "lambda_b": tables.powers(r"$\lambda_b$"),
               "predicted": tables.fixed("bias, predicted"), "bias": tables.fixed("bias"),
               "positive": tables.fixed("positive scores"), "negative": tables.fixed("negative scores")}
    columns |= {model: tables.fixed(f"bias, paper's {model}") for model in paper.READING_ERROR}
    return tables.Table(pd.DataFrame(rows), columns, (
        "*Predicted*: for CE with SGD {eq}`eq-decay` from each run's own start, for BCE the closed-form minimum. "
        "A dash: there is no prediction, or nothing published.",))


def swept(runs: list[Run], loss: str) -> list[list[Run]]:
    """The sweeps of one loss, one for each network, optimizer and seed, each from weak decay to strong; those of a
    single lambda_b are left out."""
    found: dict[tuple, list[Run]] = {}
    for run in frames.select(runs, loss=loss):
        found.setdefault((frames.network(run), run.config.optimizer, run.config.seed), []).append(run)
    ordered = [sorted(sweep, key=lambda run: run.config.lambda_b) for sweep in found.values()]
    return [sweep for sweep in ordered if sweep[0].config.lambda_b < sweep[-1].config.lambda_b]


def goes_down(runs: list[Run], loss: str) -> Finding:
    """In how many sweeps of one loss does the mean bias end the lower, the stronger the decay?"""
    ends = [[run.history["bias_mean"][-1] for run in sweep] for sweep in swept(runs, loss)]
    falls = [end[0] - end[-1] for end in ends]
    down = [fall > TOLD_APART and max(np.diff(end)) <= CLOSE for fall, end in zip(falls, ends, strict=True)]
    what = (f"the final mean bias never rises by more than {CLOSE:g} from one decay to the next stronger one "
            f"(a hundredth of the start) and falls by more than {TOLD_APART:g} over all of them "
            "(two medians closer than that cannot be told apart in the paper's figures)")
    finding = verdicts.every(sum(down), len(down), what, of="sweeps", label=f"the same test on {names.of(loss)}")
    if not falls:
        return finding
    least = markdown.number(min(falls))
    return finding.but(detail=f"the smallest fall from the weakest decay to the strongest is {least}")


def ce_goes_down(runs: list[Run]) -> Finding:
    return goes_down(runs, "ce").but(control=goes_down(runs, "bce"))


def scores_move(runs: list[Run], loss: str) -> Finding:
    """The largest change over lambda_b of the median positive or negative score, over the sweeps of one loss."""
    sweeps_of_loss, changes = swept(runs, loss), []
    for sweep in sweeps_of_loss:
        for kind in ("positive", "negative"):
            values = [frames.summary(run, "train", kind).median for run in sweep]
            changes.append(max(values) - min(values))
    because = "two medians closer than that cannot be told apart in the paper's figures"
    return verdicts.at_most(max(changes, default=float("nan")), TOLD_APART, because, n=len(sweeps_of_loss),
                            of="sweeps", label=f"the same test on {names.of(loss)}")


def ce_scores_stay(runs: list[Run]) -> Finding:
    return scores_move(runs, "ce").but(control=scores_move(runs, "bce"))


def bce_between(runs: list[Run]) -> Finding:
    return lies_between(runs, "bce").but(control=lies_between(runs, "ce"))


def largest_error(runs: list[Run], optimizer: str, equation: Callable[[Run], float]) -> tuple[float, int]:
    """The largest distance of CE's final mean bias from an equation's, and over how many of an optimizer's runs."""
    chosen = frames.select(runs, loss="ce", optimizer=optimizer)
    errors = [abs(run.history["bias_mean"][-1] - equation(run)) for run in chosen]
    return max(errors, default=float("nan")), len(errors)


def ce_predicted(runs: list[Run]) -> Finding:
    """eq-decay on CE with SGD; beside it the same equation on CE with AdamW, whose steps do not follow it."""
    because = ("a hundredth of the start: room for what the exponential leaves out, the first steps before momentum "
               "has built up and steps of a finite size")
    found = {}
    for optimizer in names.OPTIMIZER:
        error, n = largest_error(runs, optimizer, frames.ce_bias_under_decay)
        label = f"the same exponential for CE with {names.of(optimizer)}"
        found[optimizer] = verdicts.at_most(error, CLOSE, because, n=n, label=label)
    exact, n = largest_error(runs, "sgd", step_by_step)
    told = f"with momentum followed through every step, the largest distance is {markdown.significant(exact, 1)}"
    return found["sgd"].but(control=found["adamw"], detail=told if n else "")


def adamw_reach(runs: list[Run]) -> Finding:
    """How far AdamW takes the mean bias, as a multiple of its summed learning rates: the largest over both losses."""
    chosen = frames.select(runs, optimizer="adamw")
    moved = [abs(r.history["bias_mean"][-1] - r.history["bias_mean"][0]) / frames.rates_sum(r) for r in chosen]
    because = ("a step of AdamW is its rate times the ratio of two running means of the gradient, which is one where "
               "the gradient is steady; a tenth more where it grows")
    sums = sorted({markdown.number(frames.rates_sum(run), 1) for run in chosen})
    told = f"the learning rates of a run add up to {' or '.join(sums)}" if sums else ""
    return verdicts.at_most(max(moved, default=float("nan")), REACH, because, n=len(moved)).but(detail=told)


FIGURES = "the paper's figures of biases against their decay"
ROOM = Room(
    name=__name__, part="figures", number=2, items=("bias_decay",),
    short="Decay of the bias", title="Classifier bias and decision scores against the decay of the bias",
    of_the_paper=r"violin figures of biases and scores against $\lambda_b$",
    asks="does decay move the bias, and do the scores follow?",
    runs=configs, seeds={"paper": (0,)}, figures=(decay_sweep,), tables=(medians,),
    claims=(
        Claim("bias_decay.ce_goes_down", "Decay takes the biases of CE down, the further the stronger it is", FIGURES,
              "the share of sweeps in which it does", ce_goes_down),
        Claim("bias_decay.ce_scores_stay", "Decay of the biases does not touch the scores of CE", FIGURES,
              r"the largest change over $\lambda_b$ of the median positive or negative score", ce_scores_stay),
        Claim("bias_decay.bce_between",
              r"Under BCE the bias lies between the negative and the positive scores at every $\lambda_b$", FIGURES,
              "the share of runs in which it does", bce_between),
        Claim("bias_decay.ce_predicted",
              "With SGD, the mean bias of CE falls exponentially with the summed learning rates", "ours",
              "the largest distance of the final mean bias from that exponential", ce_predicted),
        Claim("bias_decay.adamw_reach", "AdamW takes a bias no further than its learning rates add up to", "ours",
              "the largest move of a mean bias, as a multiple of that sum", adamw_reach),
    ),
)
