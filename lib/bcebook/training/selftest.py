"""A minute on a GPU: is a captured step the step, how fast is it, and how much memory does it take?

For a machine that others have and this project has not: what is found goes into one file to send home. Every check
reports for itself, so that one that fails, or ends in an error, hides none of the others.
"""

import contextlib
import dataclasses
import gc
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch  # noqa: E402 - after provenance

from bcebook.runs.config import RunConfig
from bcebook.runs.files import in_a_line
from bcebook.runs.provenance import environment  # before torch: it sets what torch reads when it is loaded
from bcebook.runs.store import RunStore
from bcebook.training import checkpoint, gpu, loop, sessions
from bcebook.training import datasets as data

SECONDS = 120.0  # no check begins later
# Two ways to the same result may differ by so much of what other random numbers change in the weights. (resnet8 on the
# CPU, 58 steps of such noise: rounding moves the weights by 0.016 of their way, other random numbers by 0.25. ResNet18
# on an H200, 68 steps: the order of its sums 0.18 in float32, other random numbers 0.46.)
TOLERANCE = 0.8
# And their losses by so much of the loss: a weak witness of other random numbers (6e-4), a strong one of a logit that
# is none.
LOSS_TOLERANCE = 0.01
# A first step from the same weights on the same images, here and on the CPU, may differ by so much of what other images
# change. (ResNet18 on noise, on the CPU: other images 0.34 of the way, bfloat16 instead of float32 0.09; a GPU's
# convolutions round float32 to TF32, four times as fine as that.)
STEP_TOLERANCE = 0.2
WARM_UP = gpu.EAGER_STEPS + 5


@dataclass(frozen=True)
class Bench:
    """What the checks work on. steps: so many make a measurement; fewer than an epoch has, whose end waits. square:
    the rows of the matrices that are multiplied."""

    device: torch.device
    config: RunConfig
    dataset: data.Dataset
    steps: int
    square: int

    def training(self, **changes) -> loop.Training:
        """A run at its beginning, which does not measure the training set."""
        training = loop.Training(dataclasses.replace(self.config, **changes), self.dataset, self.device)
        training.full = set()
        return training

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


SETTINGS = {"loss": "bce", "learning_rate": 0.01, "lambda_w": 5e-4, "lambda_h": 5e-4, "lambda_b": 0.0}
# Of a bench: data set, network, training images, batch size, steps of a measurement, rows of a matrix.
SIZES = {
    "large": ("cifar10", "resnet18", 12_800, 128, 60, 8192),
    "tiny": ("digits", "convnet", 640, 32, 3, 64),
}


def bench(device: torch.device, size: str = "large") -> Bench:
    """A network on noise in the shape of a data set, so that nothing has to be fetched. "large": ResNet18 on CIFAR10;
    "tiny": a convnet on the digits, for a test of these checks on a CPU."""
    name, model, count, batch, steps, square = SIZES[size]
    dataset = data.noise(name, count // 10, count // 100)  # ten classes
    how = {"optimizer": "sgd", "epochs": 100, "batch_size": batch, "precision": "auto"}
    config = RunConfig(dataset=name, model=model, **how, **SETTINGS)
    return Bench(device, config, dataset, steps, square)


def _weights(training: loop.Training) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in training.model.parameters()])


def _seconds_a_step(bench: Bench, training: loop.Training) -> float:
    """Of one step; the median of three stretches."""
    for _ in range(WARM_UP):
        training.step()
    times = []
    for _ in range(3):
        bench.wait()
        began = time.perf_counter()
        for _ in range(max(1, bench.steps // 3)):
            training.step()
        bench.wait()
        times.append((time.perf_counter() - began) / max(1, bench.steps // 3))
    return statistics.median(times)


def step_is_the_cpus(bench: Bench) -> tuple[bool, dict]:
    """A first step in float32 changes the weights as it does on the CPU, from the same start on the same images."""
    on_cpu, count = dataclasses.replace(bench, device=torch.device("cpu")), bench.config.batch_size
    found = []
    for place, first in ((bench, 0), (on_cpu, 0), (on_cpu, count)):
        training = place.training(precision="float32")
        start = _weights(training)
        training._begin_epoch()
        images = torch.arange(first, first + count, device=place.device)
        gpu.update(training, images, training.images.mixtures)
        found.append((float(training.loss_sum) / count, (_weights(training) - start).cpu()))
    (loss, ours), (expected, theirs), (_, others) = found
    figures = {
        "loss": loss,
        "expected_loss": expected,
        "apart": float((ours - theirs).norm() / theirs.norm()),
        "other_images": float((others - theirs).norm() / theirs.norm()),
    }
    return figures["apart"] <= STEP_TOLERANCE * figures["other_images"], figures


def graph_is_eager(bench: Bench) -> tuple[bool, dict]:
    """A step that is replayed as a CUDA graph trains as the step does, with DA1 and DA2, in float32."""
    captured, eager, chance = (bench.training(augmentation="da1+da2", precision="float32") for _ in range(3))
    eager.graphs = chance.graphs = False
    chance.images.generator.manual_seed(bench.config.seed + 1)  # how far apart other random numbers lead
    start, found = _weights(eager), []
    for training in (captured, eager, chance):
        for _ in range(WARM_UP + bench.steps):
            training.step()
        bench.wait()
        found.append((float(training.loss_sum) / training.batch / bench.config.batch_size, _weights(training)))
    (loss, ours), (expected, theirs), (_, others) = found
    way = (theirs - start).norm()
    figures = {
        "loss": loss,
        "expected_loss": expected,
        "apart": float((ours - theirs).norm() / way),
        "other_random_numbers": float((others - theirs).norm() / way),
        "captured": captured.graph is not None,
    }
    near = abs(loss - expected) <= LOSS_TOLERANCE * expected
    near = near and figures["apart"] <= TOLERANCE * figures["other_random_numbers"]
    return near and figures["captured"] == gpu.on_gpu(bench.device), figures


def step_time(bench: Bench) -> tuple[bool, dict]:
    """A captured step is not slower than the same step at once, by more than a twentieth."""
    captured, eager = bench.training(), bench.training()
    eager.graphs = False
    fast, slow = (1000 * _seconds_a_step(bench, each) for each in (captured, eager))
    figures = {"graph_ms": fast, "eager_ms": slow, "ratio": slow / fast}
    return not gpu.on_gpu(bench.device) or slow / fast > 0.95, figures


def operations(training: loop.Training) -> int:
    """Floating-point operations of one step, forwards and backwards, as torch counts them on the CPU: those of
    convolutions and matrix products. The training is of no other use afterwards."""
    from torch.utils.flop_counter import FlopCounterMode

    training._begin_epoch()
    with FlopCounterMode(display=False) as counter:
        training._mini_batch(*training.images.chosen(0, training.config.batch_size))
    return counter.get_total_flops()


def step_flops(bench: Bench) -> tuple[bool, dict]:
    """What a step achieves, in floating-point operations a second, counted on the CPU."""
    flops = operations(dataclasses.replace(bench, device=torch.device("cpu")).training())
    seconds = _seconds_a_step(bench, bench.training())
    return flops > 0, {"gflop_a_step": flops / 1e9, "tflops": flops / seconds / 1e12}


def matrix_flops(bench: Bench) -> tuple[bool, dict]:
    """What a bfloat16 matrix product achieves, in floating-point operations a second."""
    square, count = torch.randn(bench.square, bench.square, device=bench.device, dtype=torch.bfloat16), 20
    for _ in range(3):
        product = square @ square
    bench.wait()
    began = time.perf_counter()
    for _ in range(count):
        product = square @ square
    bench.wait()
    seconds = (time.perf_counter() - began) / count
    return bool(product.isfinite().all()), {"tflops": 2 * bench.square**3 / seconds / 1e12}


def memory(bench: Bench) -> tuple[bool, dict]:
    """Free memory, and the peak of one run, with its measurement and its graph."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(bench.device)
    free, total = torch.cuda.mem_get_info(bench.device)
    before = torch.cuda.memory_reserved(bench.device)
    training = bench.training()
    training.full = {0}
    for _ in range(WARM_UP):
        training.step()
    bench.wait()
    peak = torch.cuda.max_memory_reserved(bench.device) - before
    return 0 < peak < free, {"free_gib": free / 2**30, "total_gib": total / 2**30, "peak_gib": peak / 2**30}


def whole_run(bench: Bench) -> tuple[bool, dict]:
    """A run of the digits from its first step to the store, and the same run interrupted and resumed: the loss falls,
    and ends within a twentieth of the same."""
    config = RunConfig(dataset="digits", model="convnet", optimizer="adamw", epochs=3, **SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        whole, halves = RunStore(f"{folder}/whole"), RunStore(f"{folder}/halves")
        first = sessions.train(config, whole, str(bench.device), progress=False)
        training = loop.Training(config, sessions.dataset(config, None), bench.device)
        for _ in range(15):
            training.step()
        checkpoint.save(halves.checkpoints(config), training.steps, training.state())
        second = sessions.train(config, halves, str(bench.device), progress=False)
    losses = first.history["train_loss"][1:]
    figures = {
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "resumed_last_loss": second.history["train_loss"][-1],
        "test_accuracy": first.final["test_accuracy"],
        "resumed": second.environment["resumed"],
    }
    near = abs(figures["resumed_last_loss"] - losses[-1]) <= 0.05 * losses[-1]
    return near and losses[-1] < losses[0] and figures["resumed"] == 1, figures


CHECKS = memory, step_is_the_cpus, graph_is_eager, step_time, step_flops, matrix_flops, whole_run
ON_A_GPU = {memory}


def run(bench: Bench, keep: Callable[[dict], None] = lambda report: None, seconds: float = SECONDS) -> dict:
    """Every check that the device has a meaning for, as plain data for JSON; `keep` gets it before the first and after
    each, so that what ends the process leaves what was found before.

    checks: name -> status ("pass", "fail"; "error": why says which), asks (what is checked), seconds, figures (none is
    NaN or infinite: null then), warnings.
    """
    report = {
        "format": 1,
        **environment(bench.device),
        "gpu": _gpu(bench.device),
        "run": bench.config.describe(),
        "checks": {},
    }
    began = time.monotonic()
    keep(report)
    for check in CHECKS:
        if check not in ON_A_GPU or bench.device.type == "cuda":
            report["checks"][check.__name__] = _reported(check, bench, time.monotonic() - began > seconds)
            keep(report)
    return report


def _reported(check: Callable[[Bench], tuple[bool, dict]], bench: Bench, late: bool) -> dict:
    status, why, figures, began = "error", "", {}, time.monotonic()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if late:
                raise TimeoutError("the time was over before it began")
            passed, figures = check(bench)
            status = "pass" if passed else "fail"
        except Exception as error:  # a check may fail in any way, and must not hide the others
            why = in_a_line(error)
        gc.collect()
        if bench.device.type == "cuda":
            with contextlib.suppress(Exception):  # after an error that leaves the GPU unusable
                torch.cuda.empty_cache()
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
    return {
        "status": status,
        "why": why,
        "asks": " ".join(check.__doc__.split()),
        "figures": finite,
        "seconds": round(time.monotonic() - began, 2),
        "warnings": [str(each.message) for each in said],
    }


def _gpu(device: torch.device) -> dict:
    """What the GPU is; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": properties.total_memory / 2**30,
        "processors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
