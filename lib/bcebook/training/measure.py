"""What is measured on a network while it trains and when it is done, and at which epochs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bcebook.runs.specs import DENSE_EPOCHS
from bcebook.science import metrics, summaries, uniform
from bcebook.training.images import Images

MANY, FEW = 100, 20  # training images: a class with more is many-shot, one with fewer few-shot; see `shots`
MARGIN_LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)  # of the margins that a finished run keeps, as quantiles
LATE = 5  # measurements at equal steps in the last third of a run
# After every epoch: the test set is small.
EVERY = ("test_accuracy", "test_uniform_accuracy", "test_uniform_threshold")
MEASURED = (
    "train_accuracy",
    "train_uniform_accuracy",
    "train_uniform_threshold",
    "nc1",
    "nc2",
    "nc2_means",
    "nc3",
    "positive_median",
    "negative_median",
    "raw_cosine",
    "centred_cosine",
    "length_spread",
    "compactness",
    "distinctiveness",
)


@dataclass(frozen=True)
class Outputs:
    """What a network makes of a whole split, in evaluation mode: logits (N, K) float32, features (N, d) float32,
    labels (N,)."""

    logits: Tensor
    features: Tensor
    labels: Tensor

    def finite(self) -> bool:
        return bool(self.logits.isfinite().all())


def measured_epochs(epochs: int, augmented: bool = False) -> set[int]:
    """The epochs after which the whole training and test sets are measured: dense first, then ever more rarely, and
    LATE times in the last third, for the late slope of log NC1.

    A measurement is a forward pass over both sets, about a third of an epoch's work, so about 32 in 100 epochs cost a
    tenth of the run: 0 to 20 (the paper's claim on speed is about those), and seven more (never fewer than three) in
    geometric steps. augmented: after each quarter of the epochs and in the last third. Such runs are there for what
    the finished network does; in a short one the dense measurements would cost a third of it.
    """
    late = {round(epochs * (1 - i / (3 * (LATE - 1)))) for i in range(LATE)}
    if augmented:
        return {round(epochs * quarter / 4) for quarter in range(1, 5)} | late
    dense = min(DENSE_EPOCHS, epochs)
    more = max(3, epochs // 14)
    return set(range(dense + 1)) | {round(dense * (epochs / dense) ** (i / more)) for i in range(1, more + 1)} | late


@torch.inference_mode()
def outputs(model: nn.Module, images: Images, split: str, autocast: bool) -> Outputs:
    """The network's outputs on "train" or "test"; autocast: in bfloat16, as it is trained."""
    labels = []

    def batches():
        for x, own in images.evaluation(split):
            labels.append(own)
            yield x

    return Outputs(*forward(model, batches(), autocast), torch.cat(labels))


@torch.inference_mode()
def forward(model: nn.Module, batches: Iterable[Tensor], autocast: bool) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and features (N, d), float32, of normalised images, in evaluation mode."""
    model.eval()
    parts = []
    for x in batches:
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=autocast):
            parts.append(model(x))
    logits, features = (torch.cat(column) for column in zip(*parts, strict=True))
    return logits, features.float()


def biases(bias: Tensor) -> dict[str, float]:
    """The part of a history's row that every epoch has: the classifier biases (K,) in four numbers."""
    bias = bias.detach().double()
    # One wait for the device, not four.
    values = torch.stack([bias.mean(), bias.std(), bias.min(), bias.max()]).tolist()
    return dict(zip(("bias_mean", "bias_std", "bias_min", "bias_max"), values, strict=True))


def bias_pace(optimizer: torch.optim.Optimizer, bias: Tensor) -> float:
    """How far the optimizer moves a bias in a step, for a unit of its steady gradient and of the learning rate; the
    mean over the biases (K,). SGD: 1 / (1 - momentum). AdamW: 1 / (sqrt(v) + eps), v the running mean of the squared
    gradient, corrected for its start. nan before the first step, and where the bias is not trained."""
    state = optimizer.state.get(bias)
    if not state:
        return math.nan
    group = optimizer.param_groups[0]
    if "exp_avg_sq" not in state:
        return 1 / (1 - group["momentum"])
    seen = 1 - group["betas"][1] ** float(state["step"])  # of the weights of a running mean that began at zero
    return float((1 / ((state["exp_avg_sq"].double() / seen).sqrt() + group["eps"])).mean())


def every_row(test: Outputs) -> dict[str, float]:
    """The part of a history's row that every epoch has beside `biases`: EVERY. With it "best" is over all epochs, as
    in the authors' script."""
    return _accuracies("test", test)


def row(classifier: nn.Module, train: Outputs) -> dict[str, float]:
    """The part of a history's row that the measured epochs have: MEASURED, of the training set."""
    values = _accuracies("train", train)
    values |= vars(metrics.neural_collapse(train.features, train.labels, classifier.weight))
    scores = train.logits + classifier.bias.detach()
    own = nn.functional.one_hot(train.labels, scores.shape[1]).bool()
    values |= {"positive_median": float(scores[own].median()), "negative_median": float(scores[~own].median())}
    for name, centred in (("raw_cosine", False), ("centred_cosine", True)):
        values[name] = metrics.mean_cosines(train.features, train.labels, centred).mean
    values["length_spread"] = metrics.feature_lengths(train.features, train.labels).spread
    values["compactness"] = metrics.compactness(train.features, train.labels)
    values["distinctiveness"] = metrics.distinctiveness(train.features, train.labels)
    return values


def final(classifier: nn.Module, train: Outputs, test: Outputs) -> tuple[dict[str, float], dict[str, dict[str, dict]]]:
    """The figures of the finished network, and its decision scores on both splits as summaries."""
    weight, bias = classifier.weight.detach(), classifier.bias.detach()
    tail = metrics.tail_geometry(weight, torch.bincount(train.labels, minlength=len(weight)))
    figures, scores = {f"tail_{name}": value for name, value in vars(tail).items()}, {}
    for split, out in (("train", train), ("test", test)):
        figures |= _accuracies(split, out)
        nc = metrics.neural_collapse(out.features, out.labels, weight)
        figures |= {f"{split}_{name}": value for name, value in vars(nc).items()}
        figures[f"{split}_compactness"] = metrics.compactness(out.features, out.labels)
        figures[f"{split}_distinctiveness"] = metrics.distinctiveness(out.features, out.labels)
        scales = uniform.uniform_accuracy_scales(out.features, out.labels, weight, bias)
        figures |= {f"{split}_uniform_accuracy_{scale}": value for scale, value in scales.items()}
        gap = uniform.uniform_gap(out.features, out.labels, weight, bias)
        figures |= {f"{split}_gap_{part}": value for part, value in gap.items()}
        for name, centred in (("raw_cosine", False), ("centred_cosine", True)):
            cosines = metrics.mean_cosines(out.features, out.labels, centred)
            figures |= {f"{split}_{name}_{part}": value for part, value in vars(cosines).items()}
        lengths = metrics.feature_lengths(out.features, out.labels)
        figures |= {f"{split}_length_{part}": value for part, value in vars(lengths).items()}
        found = summaries.decision_scores_summary(out.logits + bias, out.labels, bias)
        levels = torch.tensor(MARGIN_LEVELS, dtype=torch.float64, device=bias.device)
        margins = uniform.margins(out.logits, out.labels).double().quantile(levels).tolist()
        figures |= {f"{split}_margin_{level:g}": value for level, value in zip(MARGIN_LEVELS, margins, strict=True)}
        scores[split] = {kind: summary.to_dict() for kind, summary in found.items()}
    threshold = figures["train_uniform_threshold"]
    figures["test_served_by_train_threshold"] = uniform.served_share(test.logits, test.labels, threshold)
    return figures, scores


def shots(counts) -> dict[str, Tensor]:
    """Which classes are "many", "medium" and "few"-shot, as masks (K,), by their training images, counts (K,): more
    than MANY, FEW to MANY, fewer than FEW. Tensors or NumPy arrays. Source: Liu et al., "Large-Scale Long-Tailed
    Recognition in an Open World", CVPR 2019."""
    return {"many": counts > MANY, "medium": (counts >= FEW) & (counts <= MANY), "few": counts < FEW}


def by_shots(train: Outputs, test: Outputs) -> dict[str, float]:
    """What the final figures of a long-tailed run have beside the others: test_accuracy_many, _medium and _few, the
    share of the test images of the classes in each of `shots` that are classified correctly (among all K classes); nan
    where a group has no class."""
    counts = torch.bincount(train.labels, minlength=train.logits.shape[1])
    figures = {}
    for name, classes in shots(counts).items():
        of_these = classes[test.labels]  # (N,)
        known = bool(of_these.any())
        figures[f"test_accuracy_{name}"] = (
            uniform.accuracy(test.logits[of_these], test.labels[of_these]) if known else math.nan
        )
    return figures


def best(history: dict[str, list[float]]) -> dict[str, float]:
    """The best test figures over the measured epochs from 1 on (every epoch; the runs of an earlier engine: some of
    them), and where they stood. Chosen on the test set, as in the authors' script: a number to compare with theirs,
    not an estimate of how well the network generalises."""
    accuracy, uniform = history["test_accuracy"], history["test_uniform_accuracy"]
    measured = [epoch for epoch, value in enumerate(accuracy) if epoch and not math.isnan(value)]
    at = max(measured, key=accuracy.__getitem__)
    best_uniform = max(measured, key=uniform.__getitem__)
    return {
        "test_accuracy": accuracy[at],
        "test_accuracy_epoch": float(at),
        "test_uniform_accuracy_there": uniform[at],
        "test_uniform_accuracy": uniform[best_uniform],
        "test_uniform_accuracy_epoch": float(best_uniform),
    }


def _accuracies(split: str, out: Outputs) -> dict[str, float]:
    share, threshold = uniform.uniform_accuracy(out.logits, out.labels)
    return {
        f"{split}_accuracy": uniform.accuracy(out.logits, out.labels),
        f"{split}_uniform_accuracy": share,
        f"{split}_uniform_threshold": threshold,
    }
