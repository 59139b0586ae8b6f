"""The engine against the reference loop, and what its speed does to the science: python ci/bench_engine.py [PART ...].

Parts: resnet18, resnet9, mnist, sweep, batched, measure, science, and on a GPU cuda. Ratios are of times taken in
turns in this one process tree; the machine should be doing nothing else. With no part named, all that this machine
can do.
"""

import dataclasses
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from reference import Reference
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bcebook.chapters import catalog
from bcebook.execution import base, choose
from bcebook.science import theory
from bcebook.training import datasets as data
from bcebook.training import measure, selftest
from bcebook.runs.config import RunConfig
from bcebook.runs.provenance import processor
from bcebook.science.uniform import accuracy
from bcebook.runs.store import RunStore, open_store
from bcebook.training.loop import Training
from bcebook.training.sessions import train

CPU = torch.device("cpu")


def fast_epoch(training: Training) -> float:
    """Seconds of one epoch of ours, without the measurement at its end."""
    record, training._record = training._record, lambda rate, loss: None  # the reference's does not measure either
    epoch, began = training.epoch, time.perf_counter()
    while training.epoch == epoch:
        training.step()
    training._record = record
    return time.perf_counter() - began


def ours_accuracy(training: Training) -> float:
    out = measure.outputs(training.model, training.images, "test", training.autocast)
    return accuracy(out.logits, out.labels)


def spread(values) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def arithmetic(config: RunConfig, dataset: data.Dataset) -> int:
    """Floating-point operations of a step, forward and backward: the convolutions' and matrix products'."""
    training = Training(config, dataset, CPU)
    training._begin_epoch()
    with FlopCounterMode(display=False) as counter:
        training._update(*training.images.chosen(0, config.batch_size))
    return counter.get_total_flops()


def product(device: torch.device = CPU, side: int = 2048, times: int = 20) -> float:
    """FLOP/s that a bfloat16 matrix product reaches on as many threads as we have here: the floor of a step's time."""
    square = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    square @ square
    wait()
    began = time.perf_counter()
    for _ in range(times):
        square @ square
    wait()
    return times * 2 * side**3 / (time.perf_counter() - began)


def against_product(flops: int, seconds: float, peak: float) -> str:
    """How near a step comes to what the processor's fastest arithmetic would allow."""
    return (f"{flops / 1e9:.1f} GFLOP a step, {flops / seconds / 1e9:.0f} GFLOP/s where a bfloat16 matrix product "
            f"reaches {peak / 1e9:.0f}: {flops / seconds / peak:.0%} of it, and {1000 * flops / peak:.1f} ms a step at "
            "the least")


def step_alone(config: RunConfig) -> tuple[float, float]:
    """Seconds of a step in a process with one thread, as our processes have when they share the cores; and the FLOP/s
    of a matrix product just before and after."""
    torch.set_num_threads(1)
    training = Training(config, data.load(config.dataset), CPU)
    fast_epoch(training)
    before, seconds, after = product(), fast_epoch(training) / training.batches, product()
    return seconds, (before + after) / 2


def packed(name: str, config: RunConfig) -> None:
    """A run a core: milliseconds a step of all of them together."""
    with ProcessPoolExecutor(base.cores(), multiprocessing.get_context("spawn")) as executor:
        each = list(executor.map(step_alone, [dataclasses.replace(config, seed=seed) for seed in range(base.cores())]))
    seconds, peak = (statistics.mean(column) for column in zip(*each, strict=True))
    flops = arithmetic(config, data.load(config.dataset))
    print(f"{name}, {len(each)} runs at once: ours {1000 * seconds / len(each):.1f} ms a step, {1000 * seconds:.1f} in "
          f"each; each {against_product(flops, seconds, peak)}", flush=True)


def in_turns(name: str, config: RunConfig, epochs: int, device: str = "cpu") -> None:
    """The same configuration with both loops, an epoch each in turns; the first epoch of both only warms up."""
    dataset = data.load(config.dataset)
    part = dataset.subset(config.train_size)
    part = dataclasses.replace(part, x_test=part.x_test[::5], y_test=part.y_test[::5])
    slow = Reference(config, part, device)
    fast = Training(dataclasses.replace(config, train_size=None, precision="auto"), part, torch.device(device))
    slow.epoch(), fast_epoch(fast)
    side = 8192 if device == "cuda" else 2048  # a matrix that fills the processor
    theirs, ours, peaks = zip(*[(slow.epoch(), fast_epoch(fast), product(fast.device, side)) for _ in range(epochs)],
                              strict=True)
    steps = fast.batches
    each = statistics.median(ours) / steps
    told = against_product(arithmetic(fast.config, part), each, statistics.median(peaks))
    print(f"{name}: ratio {spread([a / b for a, b in zip(theirs, ours, strict=True)])}; "
          f"ms a step: reference {1000 * statistics.median(theirs) / steps:.1f}, "
          f"ours {1000 * each:.1f}; {told}; "
          f"test accuracy after {epochs + 1} epochs: {slow.accuracy():.1%}, {ours_accuracy(fast):.1%}", flush=True)


def settings(model: str, dataset: str, **changes) -> RunConfig:
    base = dict(model=model, dataset=dataset, loss="bce", optimizer="sgd", learning_rate=0.05, epochs=100,
                lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0)
    return RunConfig(**(base | changes))


def resnet18() -> None:
    config = settings("resnet18", "cifar10", train_size=2560, learning_rate=0.01)
    in_turns("ResNet18 / CIFAR10, batch 128, 2,560 images an epoch", config, 3)


def resnet9() -> None:
    """The laptop profile's network on CIFAR10 with the paper's first augmentation."""
    config = settings("resnet9", "cifar10", train_size=5120, augmentation="da1", learning_rate=0.1)
    in_turns("resnet9 / CIFAR10, DA1, batch 128, 5,120 images an epoch", config, 3)
    packed("resnet9 / CIFAR10, DA1", dataclasses.replace(config, precision="auto"))


def mnist() -> None:
    in_turns("resnet8 / MNIST with the paper's transforms, batch 128, 12,800 images an epoch",
             settings("resnet8", "mnist", train_size=12_800), 3)
    packed("resnet8 / MNIST", settings("resnet8", "mnist", train_size=12_800, precision="auto"))
    part = data.load("mnist").subset(12_800)
    config = settings("resnet8", "mnist")
    slow, images = Reference(config, part), Training(config, part, CPU).images
    theirs, ours = [], []
    for _ in range(4):  # the first one starts the workers
        began = time.perf_counter()
        for _ in slow.train:
            pass
        theirs.append(time.perf_counter() - began)
        began = time.perf_counter()
        images.shuffle(config.batch_size)
        for index in range(images.batch_count(config.batch_size)):
            images.batch(*images.chosen(index, config.batch_size))
        ours.append(time.perf_counter() - began)
    theirs, ours = theirs[1:], ours[1:]
    print(f"MNIST's images and transforms alone: ratio {spread([a / b for a, b in zip(theirs, ours, strict=True)])}; "
          f"ms a batch: reference {10 * statistics.median(theirs):.2f}, ours {10 * statistics.median(ours):.2f}",
          flush=True)


def sweep() -> None:
    """The 36 small runs of the initial-bias chapter: the reference one after the other, ours as `bcebook build` trains
    them."""
    configs = catalog.configs("initial_bias", "quick")
    sample = [c for c in configs if c.bias_init_mean == 5]  # one of each loss and optimizer, 4 of the 36
    digits = data.load("digits")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        choose.train_missing(configs, Path(folder), "cpu")
        ours = time.perf_counter() - began
        store = open_store(Path(folder))
        found = {c: store.find(c) for c in configs}
    theirs, accuracies = [], []
    for config in sample:
        slow, began = Reference(config, digits), time.perf_counter()
        for _ in range(config.epochs):
            slow.epoch()
            slow.accuracy()  # after every epoch, as one does
        theirs.append(time.perf_counter() - began)
        accuracies.append(slow.accuracy())
    percents = lambda values: ", ".join(f"{value:.1%}" for value in values)  # noqa: E731
    total = sum(theirs) * len(configs) / len(sample)
    print(f"sweep of {len(configs)} runs: ratio {total / ours:.1f}; ours {ours:.0f} s, reference {total:.0f} s "
          f"({len(sample)} runs of {min(theirs):.0f} to {max(theirs):.0f} s, times {len(configs) // len(sample)}); "
          "test accuracy of those: "
          f"{percents(accuracies)} and ours {percents(found[c].final['test_accuracy'] for c in sample)}", flush=True)


def measuring() -> None:
    """What the measurements cost, as a share of the run's own time, on one thread, as our processes have."""
    torch.set_num_threads(1)
    cases = [("convnet / digits", settings("convnet", "digits", learning_rate=0.1)),
             ("resnet8 / CIFAR10, 5,000 images", settings("resnet8", "cifar10", train_size=5000, precision="auto"))]
    for name, config in cases:
        dataset = data.load(config.dataset)
        share = 1 if config.train_size is None else config.train_size / len(dataset.x_train)
        kept = int(share * len(dataset.x_test))
        dataset = dataclasses.replace(dataset, x_test=dataset.x_test[:kept], y_test=dataset.y_test[:kept])
        training = Training(config, dataset, CPU)
        fast_epoch(training)
        epoch = statistics.median(fast_epoch(training) for _ in range(3))
        test, both = (statistics.median(_recording(training, full) for _ in range(5))
                      for full in (set(), {training.epoch}))
        print(f"measuring {name}: the test set after every epoch costs {test / epoch:.1%} of an epoch of "
              f"{epoch:.2f} s, both sets {both / epoch:.1%}", flush=True)
        for epochs in (24, 100):
            count = len(measure.measured_epochs(epochs))
            spent = count * both + (epochs + 1 - count) * test
            print(f"  {epochs} epochs, {count} of them with both sets: {spent / (epochs * epoch):.1%} of the run, "
                  f"of which the test set after the others {(epochs + 1 - count) * test / (epochs * epoch):.1%}",
                  flush=True)


def _recording(training: Training, full: set[int]) -> float:
    """Seconds of what is measured after an epoch: the test set, and the training set after the epochs of `full`."""
    began, training.full = time.perf_counter(), full
    training._record(0.0, 0.0)
    return time.perf_counter() - began


def science() -> None:
    """bfloat16 against float32, three seeds each: accuracy within the spread of the seeds, medians within 0.05 of each
    other and, where training has converged, of the closed form."""
    # Near the minimum's bias: from 0 the bias takes many times as long to converge.
    near = dict(learning_rate=0.1, bias_init_mean=5)
    cases = [("convnet / digits, 200 epochs", settings("convnet", "digits", epochs=200, **near)),
             ("resnet8 / MNIST, 6,000 images, 16 epochs",
              settings("resnet8", "mnist", train_size=6000, epochs=16, **near))]
    torch.set_num_threads(1)
    for name, config in cases:
        c = theory.effective_c(config.lambda_w, config.lambda_h, config.batch_size, 10)
        closed = theory.minimum("bce", 10, c, 0.0)
        print(f"science {name}: closed form positive {closed.positive:.3f}, bias {closed.bias:.3f}, "
              f"negative {closed.negative:.3f}")
        medians = {}
        for precision in ("float32", "bfloat16"):
            with tempfile.TemporaryDirectory() as folder:
                chosen = [dataclasses.replace(config, seed=seed, precision=precision) for seed in range(3)]
                runs = [train(each, RunStore(folder), progress=False) for each in chosen]
            accuracies = [run.final["test_accuracy"] for run in runs]
            rows = np.array([[run.scores["train"][kind]["quantiles"][5] for kind in ("positive", "bias", "negative")]
                             for run in runs])
            medians[precision] = rows
            print(f"  {precision:8} test accuracy {', '.join(f'{a:.2%}' for a in accuracies)}; "
                  "medians (positive, bias, negative) "
                  f"{'; '.join(', '.join(f'{v:.3f}' for v in row) for row in rows)}; "
                  f"NC1 {', '.join(format(run.final['train_nc1'], '.1e') for run in runs)}; "
                  f"{sum(run.environment['seconds'] for run in runs):.0f} s", flush=True)
        gap = np.abs(medians["float32"].mean(0) - medians["bfloat16"].mean(0))
        off = np.abs(medians["bfloat16"].mean(0) - [closed.positive, closed.bias, closed.negative])
        print(f"  largest difference of the mean medians {gap.max():.3f} (seeds of one precision: "
              f"{max(np.ptp(rows, 0).max() for rows in medians.values()):.3f}); from the closed form {off.max():.3f}",
              flush=True)


def batched() -> None:
    """Many small models as one batched model (one grouped convolution for all) against one model alone: what was tried
    for the quick sweep, and dropped because a process a core does as well without it."""
    torch.set_num_threads(1)  # as each of our processes has
    batch, classes = 128, 10
    images, labels = torch.randn(batch, 1, 8, 8), torch.arange(batch) % classes

    def milliseconds(count: int) -> float:
        layers, width = [], 1
        for out, stride in ((16, 1), (32, 2), (32, 2)):
            layers += [nn.Conv2d(width * count, out * count, 3, stride, 1, bias=False, groups=count),
                       nn.BatchNorm2d(out * count), nn.ReLU(inplace=True)]
            width = out
        net = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        embed, head = (nn.Parameter(0.1 * torch.randn(count, *shape)) for shape in ((128, 32), (32, classes)))
        optimizer = torch.optim.SGD([*net.parameters(), embed, head], 0.1, momentum=0.9, fused=True)
        x = images.repeat(1, count, 1, 1).contiguous(memory_format=torch.channels_last)
        times = []
        for _ in range(15):
            began = time.perf_counter()
            features = net(x).contiguous().view(batch, count, 128).transpose(0, 1)
            logits = (features @ embed @ head).reshape(count * batch, classes)
            loss = nn.functional.cross_entropy(logits, labels.repeat(count)) * count
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            times.append(1000 * (time.perf_counter() - began) / count)
        return statistics.median(times)

    each = {count: milliseconds(count) for count in (1, 4, 12, 36)}
    print("batched convnets, ms a model and step on one thread: "
          + ", ".join(f"{count} at once {value:.2f}" for count, value in each.items()))


def cuda() -> None:
    """On a GPU: one run against the reference loop, and several at once. (Whether a captured step is the step, and a
    packed run the run: `bcebook doctor --gpu`.)"""
    for name, rate in (("resnet18", 0.01), ("resnet9", 0.1)):
        config = settings(name, "cifar10", train_size=12_800, learning_rate=rate)
        in_turns(f"{name} / CIFAR10, batch 128, 12,800 images an epoch, {torch.cuda.get_device_name()}", config, 3,
                 "cuda")
        config = dataclasses.replace(config, precision="auto")
        dataset = data.load("cifar10").subset(config.train_size)
        config = dataclasses.replace(config, train_size=None)
        _, figures = selftest.at_once(selftest.Bench(torch.device("cuda"), config, dataset, steps=60, square=0))
        print(f"{name}: " + ", ".join(f"{key} {value:.0f}" for key, value in figures.items()), flush=True)


PARTS = {"resnet18": resnet18, "resnet9": resnet9, "mnist": mnist, "sweep": sweep, "batched": batched,
         "measure": measuring, "science": science}
if torch.cuda.is_available():
    PARTS["cuda"] = cuda

if __name__ == "__main__":
    print(f"{processor()}, {base.cores()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
