"""From a RunConfig to a Run: one loop, read top to bottom, for the CPU and for CUDA."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bcebook import data, metrics, models
from bcebook.augment import Images
from bcebook.config import RunConfig
from bcebook.environment import environment
from bcebook.losses import LOSSES
from bcebook.store import Run, RunStore

DENSE_EPOCHS, THINNING = 20, 1.15  # the training set is measured in each of the first 20 epochs, then ever more rarely


class RunFailed(RuntimeError):
    """A run ended without a result (its loss stopped being a number); the message says when and what to try."""


def train(config: RunConfig, store: RunStore, device: str = "cpu", progress: bool = True, data_root=None) -> Run:
    """The run of `config`: from the store if it is there, else trained on `device` ("cpu", "cuda", "auto") and stored.

    Two processes that want the same run train it once: the second waits and reads what the first one stored. On the CPU
    with the same number of threads, two trainings agree bit for bit. Raises RunFailed if the run diverges, now or in an
    earlier attempt with the same code; the cause is recorded in the store.
    """
    if run := store.find(config):
        return run
    with store.lock(config):
        if run := store.find(config):  # another process trained it while we waited
            return run
        place = resolve(device)
        surroundings = environment(place)
        failure = store.failure(config)
        if failure and failure["environment"]["code"] == surroundings["code"]:
            raise RunFailed(f"{config.describe()} failed before, with this same code: {failure['cause']}")
        began = time.perf_counter()
        try:
            run = _fit(config, place, progress, data_root)
        except RunFailed as error:
            store.save_failure(config, str(error), surroundings)
            raise
        surroundings["seconds"] = round(time.perf_counter() - began, 2)
        run.environment.update(surroundings)
        store.save(run)
        return run


def resolve(device: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU. Raises ValueError if CUDA is asked for and missing."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but PyTorch finds no CUDA GPU here; use --device cpu, or see `bcebook doctor`.")
    return torch.device(device)


def learning_rate(config: RunConfig, epoch: int) -> float:
    """The learning rate of an epoch, counted from 1."""
    done = (epoch - 1) / config.epochs
    if config.schedule == "step":  # x 0.2 at epochs 30, 60 and 80 of 100
        return config.learning_rate * 0.2 ** sum(done >= milestone for milestone in (0.3, 0.6, 0.8))
    if config.schedule == "cosine":  # to 1 % of the start: AdamW's 1e-3 to the paper's 1e-5
        return config.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
    return config.learning_rate


def measured_epochs(epochs: int) -> set[int]:
    """The epochs after which the whole training set is measured: 0 to 20, then each 1.15 times the one before, and the last."""
    chosen, nxt = set(range(min(DENSE_EPOCHS, epochs) + 1)) | {epochs}, DENSE_EPOCHS * THINNING
    while nxt < epochs:
        chosen.add(round(nxt))
        nxt *= THINNING
    return chosen


def penalty(config: RunConfig, classifier: nn.Module, features: Tensor) -> Tensor | float:
    """The decoupled decay of a mini-batch: lambda_w/2 |W|^2 + lambda_h/2 sum over the batch of |h|^2 + lambda_b/2 |b|^2.

    The feature term is a sum, not a mean, as in the authors' code: a batch of B minimises the theory's objective with
    lambda_h B / N in the place of lambda_h.
    """
    if config.decay == "global":
        return 0.0
    term = config.lambda_w / 2 * classifier.weight.square().sum() + config.lambda_h / 2 * features.float().square().sum()
    return term + config.lambda_b / 2 * classifier.bias.square().sum() if config.lambda_b else term


def _optimizer(config: RunConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    decay = config.weight_decay or 0.0
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.learning_rate, momentum=0.9, weight_decay=decay, fused=True)
    return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=decay, fused=True)


def _fit(config: RunConfig, device: torch.device, progress: bool, data_root) -> Run:
    dataset = data.load(config.dataset, data_root).subset(config.train_size, config.imbalance_factor)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # leave the caller's random state alone
        torch.manual_seed(config.seed)
        images = Images(dataset, config.augmentation, device, config.seed)
        model = models.build(config.model, images.num_classes, images.in_channels, config.bias_init_mean)
        model = model.to(device, memory_format=torch.channels_last)
        optimizer = _optimizer(config, model.parameters())
        history = defaultdict(list)
        _append(history, {"epoch": 0.0, "learning_rate": math.nan, "train_loss": math.nan} | _measure(config, model, images, True))
        full = measured_epochs(config.epochs)
        bar = tqdm(range(1, config.epochs + 1), config.describe(), unit="epoch", disable=not progress, leave=False)
        for epoch in bar:
            rate = learning_rate(config, epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = _epoch(config, model, images, optimizer)
            if not math.isfinite(loss):
                raise RunFailed(f"the loss became {loss} in epoch {epoch} of {config.epochs}; a smaller learning_rate than "
                                f"{config.learning_rate:g} may help.")
            row = {"epoch": float(epoch), "learning_rate": rate, "train_loss": loss}
            _append(history, row | _measure(config, model, images, epoch in full))
            bar.set_postfix(loss=f"{loss:.3f}", test=f"{history['test_accuracy'][-1]:.1%}")
        final, scores = _final(config, model, images)
    return Run(config, dict(history), final, _best(history), scores, environment={})


def _epoch(config: RunConfig, model: nn.Module, images: Images, optimizer: torch.optim.Optimizer) -> float:
    """One pass over the training set; the mean loss in nats, without the decay. The host waits for the device only at its end."""
    model.train()
    loss_of, total, count = LOSSES[config.loss], torch.zeros((), device=images.x_train.device), 0
    for x, target in images.batches(config.batch_size):
        with _autocast(config, x):
            logits, features = model(x)
        loss = loss_of(logits, target, config.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        (loss + penalty(config, model.classifier, features)).backward()
        optimizer.step()
        total += loss.detach() * len(x)
        count += len(x)
    return float(total / count)


def _autocast(config: RunConfig, x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


@torch.inference_mode()
def _outputs(config: RunConfig, model: nn.Module, images: Images, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K), features (N, d) and labels (N,) of a whole split, the network in evaluation mode."""
    model.eval()
    parts = []
    for x, labels in images.evaluation(split):
        with _autocast(config, x):
            parts.append((*model(x), labels))
    logits, features, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    if not bool(logits.isfinite().all()):
        raise RunFailed(f"the {split} logits are no longer finite; a smaller learning_rate than {config.learning_rate:g} may help.")
    return logits, features.float(), labels


def _accuracies(split: str, logits: Tensor, labels: Tensor) -> dict[str, float]:
    uniform, threshold = metrics.uniform_accuracy(logits, labels)
    return {
        f"{split}_accuracy": metrics.accuracy(logits, labels),
        f"{split}_uniform_accuracy": uniform,
        f"{split}_uniform_threshold": threshold,
    }


def _measure(config: RunConfig, model: nn.Module, images: Images, full: bool) -> dict[str, float]:
    """One row of the history: the test set and the biases every time, the training set (NC and scores) when `full`."""
    bias = model.classifier.bias.detach().double()
    row = {"bias_mean": float(bias.mean()), "bias_std": float(bias.std()), "bias_min": float(bias.min()), "bias_max": float(bias.max())}
    logits, _, labels = _outputs(config, model, images, "test")
    row |= _accuracies("test", logits, labels)
    blank = ("train_accuracy", "train_uniform_accuracy", "train_uniform_threshold", "nc1", "nc2", "nc2_means", "nc3",
             "positive_median", "negative_median")
    if not full:
        return row | dict.fromkeys(blank, math.nan)
    logits, features, labels = _outputs(config, model, images, "train")
    row |= _accuracies("train", logits, labels)
    row |= vars(metrics.neural_collapse(features, labels, model.classifier.weight.detach()))
    scores = logits + model.classifier.bias.detach()
    own = nn.functional.one_hot(labels, scores.shape[1]).bool()
    return row | {"positive_median": float(scores[own].median()), "negative_median": float(scores[~own].median())}


def _final(config: RunConfig, model: nn.Module, images: Images) -> tuple[dict[str, float], dict[str, dict[str, dict]]]:
    """The figures of the finished network, and its scores on both splits as summaries."""
    weight, bias = model.classifier.weight.detach(), model.classifier.bias.detach()
    final, scores = {}, {}
    for split in ("train", "test"):
        logits, features, labels = _outputs(config, model, images, split)
        final |= _accuracies(split, logits, labels)
        nc = metrics.neural_collapse(features, labels, weight)
        final |= {f"{split}_{name}": value for name, value in vars(nc).items()}
        final[f"{split}_compactness"] = metrics.compactness(features, labels)
        final[f"{split}_distinctiveness"] = metrics.distinctiveness(features, labels)
        summaries = metrics.decision_scores_summary(logits + bias, labels, bias)
        scores[split] = {kind: summary.to_dict() for kind, summary in summaries.items()}
    return final, scores


def _best(history: dict[str, list[float]]) -> dict[str, float]:
    """The best test figures over all epochs and where they stood. Chosen on the test set, as in the authors' script:
    a number to compare with theirs, not an estimate of how well the network generalises."""
    accuracy, uniform = history["test_accuracy"][1:], history["test_uniform_accuracy"][1:]
    at = max(range(len(accuracy)), key=accuracy.__getitem__)
    best_uniform = max(range(len(uniform)), key=uniform.__getitem__)
    return {
        "test_accuracy": accuracy[at],
        "test_accuracy_epoch": float(at + 1),
        "test_uniform_accuracy_there": uniform[at],
        "test_uniform_accuracy": uniform[best_uniform],
        "test_uniform_accuracy_epoch": float(best_uniform + 1),
    }


def _append(history: dict[str, list[float]], row: dict[str, float]) -> None:
    for name, value in row.items():
        history[name].append(value)
