"""What a finished network is good for, beside its accuracy: measured at the end of a run, and by `bcebook measure`.

Nothing of the training set is held out, so a fixed half of the test set (as many images of each class as of the other
half) sets thresholds and temperatures, "calibration", and the other half, "evaluation", is what is measured.
"""

import math
import time

import numpy as np
import torch
from torch import Tensor, nn

from bcebook.runs import rehearsal
from bcebook.runs.config import RunConfig
from bcebook.runs.provenance import code_version, now
from bcebook.runs.specs import DATASETS
from bcebook.science import calibration, metrics, rejection, retrieval, summaries, uniform
from bcebook.training import datasets as data
from bcebook.training.images import Images, placed
from bcebook.training.measure import Outputs, forward

# Raise it where a measure changes: `bcebook measure` then knows what to do again.
VERSION = 1
# Data sets whose classes a network has never seen, by what it was trained on. The first is also searched and
# transferred to.
UNKNOWN = {"cifar10": ("cifar100", "mnist"), "cifar100": ("cifar10", "mnist")}
TRANSFER_IMAGES = 5000
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of the logistic regression (scikit-learn's C), picked on a fifth of its images
BINS = 64  # of a histogram, at most


def applies(config: RunConfig) -> bool:
    """Whether a run is measured so: not one that only picks a setting, of streamed images, or of a rehearsal."""
    return config.dataset in DATASETS and not config.held_out and not rehearsal.active()


def measures(
    config: RunConfig, model: nn.Module, images: Images, train: Outputs, test: Outputs, autocast: bool, data_root=None
) -> dict:
    """Everything in plain data: "version", "code", "date", "seconds"; "images", how many were used; "numbers", flat
    names -> values (nan: cannot be had); "per_class" -> (K,); "histograms" -> `summaries.ScoreSummary`;
    "reliability" -> rows of `calibration.reliability`. A data set that is not at hand leaves its names out.
    """
    began = time.monotonic()
    others = _others(config, data_root)
    unknown = {name: _outputs(model, images, name, each.x_test, autocast) for name, each in others.items()}
    chosen, judged = (torch.from_numpy(half).to(test.labels.device) for half in halves(test.labels.cpu().numpy()))
    result = {
        "images": {
            "calibration": len(chosen),
            "evaluation": len(judged),
            **{name: len(logits) for name, (logits, _) in unknown.items()},
        },
        "numbers": {},
        "per_class": {},
        "histograms": {},
        "reliability": {},
    }
    rejected(
        result,
        _numpy(test.logits),
        _numpy(test.labels),
        _numpy(chosen),
        _numpy(judged),
        {name: _numpy(logits) for name, (logits, _) in unknown.items()},
    )
    calibrated(result, *(_numpy(part[half]) for half in (chosen, judged) for part in (test.logits, test.labels)))
    searched(result, "own", test.features[judged], test.labels[judged])
    geometry(result, model.classifier, {"train": train, "test": test})
    other = UNKNOWN.get(config.dataset, ("",))[0]
    if other in unknown:
        labels = torch.from_numpy(others[other].y_test.astype(np.int64))
        half = torch.from_numpy(halves(labels.numpy())[1])
        searched(result, other, unknown[other][1][half.to(test.labels.device)], labels[half])
        result["numbers"] |= transferred(model, images, others[other], unknown[other][1], autocast)
    result["numbers"] = {name: float(value) for name, value in result["numbers"].items()}
    return {
        "version": VERSION,
        "code": code_version(),
        "date": now().isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began, 2),
        **result,
    }


def halves(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which images of a test set are for calibration and which for evaluation, as sorted numbers: every second one of
    each class in an order that is drawn once, the same for every run."""
    second = _of_each_class(labels, np.random.default_rng(0).permutation(len(labels)), slice(1, None, 2))
    return np.flatnonzero(~second), np.flatnonzero(second)


def rejected(
    result: dict,
    logits: np.ndarray,
    labels: np.ndarray,
    chosen: np.ndarray,
    judged: np.ndarray,
    unknown: dict[str, np.ndarray],
) -> None:
    """Rejection of unknown images by each of `rejection.scores`, and one threshold, or one a predicted class, that
    accepts 95 % of the calibration half: what share of the others passes it."""
    numbers, predicted, classes = result["numbers"], logits.argmax(axis=1), logits.shape[1]
    known = rejection.scores(logits)
    foreign = {name: (rejection.scores(each), each.argmax(axis=1)) for name, each in unknown.items()}
    for name, score in known.items():
        limits = {
            "": np.full(classes, rejection.threshold(score[chosen])),
            "_by_class": rejection.class_thresholds(score[chosen], predicted[chosen], classes),
        }
        for kind, limit in limits.items():
            numbers[f"{name}_accepted{kind}"] = np.mean(score[judged] >= limit[predicted[judged]])
        for other, (scores, foreseen) in foreign.items():
            found = rejection.separation(score[judged], scores[name])
            found["oscr"] = rejection.oscr(score[judged], (predicted == labels)[judged], scores[name])
            found |= {f"accepted{kind}": np.mean(scores[name] >= limit[foreseen]) for kind, limit in limits.items()}
            numbers |= {f"{other}_{name}_{figure}": value for figure, value in found.items()}
    for other, scores in {
        "known": {name: score[judged] for name, score in known.items()},
        **{name: each for name, (each, _) in foreign.items()},
    }.items():
        for name in ("max_logit", "max_softmax"):
            summary = summaries.score_summary(scores[name], max_bins=BINS)
            result["histograms"][f"{other}_{name}"] = summary.to_dict()


def calibrated(result: dict, logits: np.ndarray, labels: np.ndarray, judged: np.ndarray, truth: np.ndarray) -> None:
    """NLL, Brier score and ECE of the evaluation half, (judged, truth), raw and after the one temperature that suits
    the calibration half, (logits, labels), best, for each kind of probability."""
    for kind in calibration.KINDS:
        best = calibration.temperature(logits, labels, kind)
        result["numbers"][f"{kind}_temperature"] = best
        for name, scaled in (("", judged), ("_tempered", judged / best)):
            for figure in (calibration.nll, calibration.brier, calibration.ece):
                result["numbers"][f"{kind}_{figure.__name__}{name}"] = figure(scaled, truth, kind)
        result["reliability"][kind] = calibration.reliability(judged, truth, kind).tolist()


def searched(result: dict, name: str, features: Tensor, labels: Tensor) -> None:
    """Retrieval and verification among these images, where there are pairs of one class and of two."""
    if not 1 < len(labels.unique()) < len(labels):
        return
    for metric in retrieval.METRICS:
        found = retrieval.retrieval(features, labels, metric)
        result["numbers"] |= {f"{name}_{metric}_{figure}": value for figure, value in found.items()}


def geometry(result: dict, classifier: nn.Module, splits: dict[str, Outputs]) -> None:
    """NC0, NC4, the spread of the classes' best thresholds, E_dis over pairs of samples, effective rank; each class's
    bias and best thresholds."""
    numbers, means = result["numbers"], metrics.class_means(splits["train"].features, splits["train"].labels)
    numbers["nc0"] = metrics.nc0(classifier.weight)
    result["per_class"]["bias"] = classifier.bias.detach().double().tolist()
    for split, out in splits.items():
        numbers[f"{split}_nc4"] = metrics.nc4(out.features, out.logits, means)
        numbers[f"{split}_pair_distinctiveness"] = metrics.pair_distinctiveness(out.features, out.labels)
        numbers[f"{split}_effective_rank"] = metrics.effective_rank(out.features)
        found = uniform.class_thresholds(out.logits, out.labels)
        known = np.array([each for each in found if not math.isnan(each)])
        numbers[f"{split}_threshold_spread"] = known.std() if len(known) else math.nan
        result["per_class"][f"{split}_threshold"] = found


def transferred(model: nn.Module, images: Images, other: data.Dataset, features: Tensor, autocast: bool) -> dict:
    """Accuracy on the test set of another data set, features (M, d), of a logistic regression on the features of 5,000
    of its training images: each feature divided by its standard deviation, the penalty picked on a fifth of them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    few = other.subset(train_size=TRANSFER_IMAGES)
    x = _outputs(model, images, other.name, few.x_train, autocast)[1]
    scale = StandardScaler().fit(_numpy(x))
    x, y = scale.transform(_numpy(x)), few.y_train.astype(np.int64)
    held = every_fifth(y)

    def fitted(penalty: float, chosen: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=penalty, max_iter=1000, tol=1e-3).fit(x[chosen], y[chosen])

    best = max(PENALTIES, key=lambda penalty: fitted(penalty, ~held).score(x[held], y[held]))
    score = fitted(best, np.full(len(y), True)).score(scale.transform(_numpy(features)), other.y_test)
    return {f"transfer_{other.name}_accuracy": score, f"transfer_{other.name}_penalty": best}


def every_fifth(labels: np.ndarray) -> np.ndarray:
    """Which images are held out to pick the penalty: every fifth of each class, as bool (N,)."""
    return _of_each_class(labels, np.arange(len(labels)), slice(None, None, 5))


def _of_each_class(labels: np.ndarray, order: np.ndarray, part: slice) -> np.ndarray:
    """A part of the images of each class, in an order of all: bool (N,)."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        chosen[order[labels[order] == label][part]] = True
    return chosen


def _others(config: RunConfig, data_root) -> dict[str, data.Dataset]:
    """The data sets of UNKNOWN that are at hand; none is downloaded."""
    return {
        name: data.load(name, data_root)
        for name in UNKNOWN.get(config.dataset, ())
        if data.archive(name, data_root).exists()
    }


def _outputs(model: nn.Module, images: Images, name: str, x: np.ndarray, autocast: bool) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and features (N, d), float32, of a data set's images (N, H, W, C), normalised as the network's
    own."""
    there = placed(x, DATASETS[name], images.mean.device)
    return forward(model, (images.normalise(some) for some in there.split(500)), autocast)


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
