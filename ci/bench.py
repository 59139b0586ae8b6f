"""What the book costs on this machine, called by `bash ci/bench [PART ...]`; with no PART all of them.

book: CPU seconds of training the quick profile, of the notebooks and of the HTML, from nothing. tests: `bash ci/test`.
resnet18, resnet9, resnet8: the training step against the loop of a careful student, in turns, on noise in the data
set's shape; with -cuda on a GPU. uniform_accuracy, neural_collapse: time and memory at the book's largest sizes.
Every part is a process of its own with a time limit: one that passes it is ended and named, and the others go on.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from bcebook.cores import cores
from bcebook.paths import REPOSITORY
from bcebook.runs.config import RunConfig
from bcebook.runs.provenance import processor
from bcebook.runs.specs import DATASETS
from bcebook.science import metrics, uniform
from bcebook.training import datasets as data
from bcebook.training import models
from bcebook.training.loop import Training
from bcebook.training.selftest import operations

# --- processes with a limit ------------------------------------------------------------------------------------------


def timed(name: str, command: list, limit: float, log: Path | None = None, **variables) -> tuple[float, float] | None:
    """CPU seconds of a command with its children, and seconds; None if it failed or was ended at its limit, which is
    then said. log: takes its output."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with open(log or os.devnull, "w", encoding="utf-8") as file:
        output = dict(stdout=file, stderr=subprocess.STDOUT) if log else {}
        process = subprocess.Popen(command, start_new_session=True, env=os.environ | variables, **output)
        try:
            code = process.wait(limit) and f"FAILED, with exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            code = f"not done after {limit} s, and ended"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:] if log else []
        print(f"{name}: {code}", *said, sep="\n    ", flush=True)
        return None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def row(name: str, spent: tuple[float, ...] | None) -> None:
    if spent:
        print(f"{name:42}" + "".join(f"{seconds:9.1f}" for seconds in spent), flush=True)


# --- the book --------------------------------------------------------------------------------------------------------

# A kernel's own CPU seconds, and how many of them its imports took: the outermost ones, each with all that it imports.
IN_KERNELS = """
import sys
if "ipykernel_launcher" in sys.orig_argv:
    import atexit, builtins, importlib, json, os, time
    depth, spent = 0, 0.0

    def counted(load):
        def counting(*arguments, **options):
            global depth, spent
            began, depth = time.process_time(), depth + 1
            try:
                return load(*arguments, **options)
            finally:
                depth -= 1
                if not depth:
                    spent += time.process_time() - began
        return counting

    def write():
        with open(os.path.join(os.path.dirname(__file__), f"{os.getpid()}.json"), "w", encoding="utf-8") as file:
            json.dump([spent, time.process_time()], file)

    builtins.__import__, importlib.import_module = counted(builtins.__import__), counted(importlib.import_module)
    atexit.register(write)
"""
# The command, with the folder of that file before its kernels' modules: a PYTHONPATH of the shell does not reach them.
COUNTED = """
import os, sys
from bcebook.book import execute
from bcebook.cli import main
execute.MODULES = sys.argv.pop(1) + os.pathsep + execute.MODULES
main()
"""


def book(folder: Path) -> None:
    """Where each build does what the one before it has left to do."""
    (folder / "data").mkdir()
    (folder / "data" / "recorded").symlink_to(REPOSITORY / "data" / "recorded")  # the pages show these runs too
    (folder / "kernels").mkdir()
    (folder / "kernels" / "sitecustomize.py").write_text(IN_KERNELS, encoding="utf-8")
    program, log = Path(sys.executable).with_name("bcebook"), folder / "log"
    row("the command line alone: bcebook --help", timed("bcebook --help", [program, "--help"], 60, log))
    training = timed("training", [program, "train", "--data", folder / "data"], 1800, log)
    row("training, quick profile", training)
    build = [program, "build", "--data", folder / "data", "--out", folder / "out"]
    counting = [sys.executable, "-P", "-c", COUNTED, folder / "kernels", *build[1:]]
    both = training and timed("notebooks and HTML", counting, 1800, log)
    if not both:
        return
    kernels = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "kernels").glob("*.json")]
    for made in ("html", "doctrees", "source"):
        shutil.rmtree(folder / "out" / made)
    html = timed("HTML", build, 900, log)
    if html is not None:
        notebooks = [a - b for a, b in zip(both, html, strict=True)]
        imports, own = map(sum, zip(*kernels, strict=True))
        row("notebooks", notebooks)
        row(f"    imports in their {len(kernels)} kernels", (imports,))
        row("    the kernels beyond imports", (own - imports,))
        row("    papermill and the rest", (notebooks[0] - own,))
        row("HTML", html)
        row("a second build, nothing changed", timed("a second build", build, 300, log))


# --- the training step -----------------------------------------------------------------------------------------------

# Network: data set, images of each of its ten classes (on a GPU more), augmentation, learning rate.
STEPS = {
    "resnet18": ("cifar10", 128, "none", 0.01),
    "resnet9": ("cifar10", 512, "da1", 0.1),
    "resnet8": ("mnist", 1280, "none", 0.05),
}


class Pictures(torch.utils.data.Dataset):
    """Images (N, H, W, C) uint8 one at a time, as torchvision's own data sets give them."""

    def __init__(self, x, y, transform):
        self.x, self.y, self.transform = x, y, transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        x = self.x[index]
        return self.transform(Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)), int(self.y[index])


class Reference:
    """The yardstick: the loop that a careful student writes after reading the paper. A DataLoader with workers,
    torchvision's transforms on one PIL image at a time, float32 with PyTorch's defaults, the accuracy read back at
    every step. Same network, loss, decay and optimizer as ours."""

    def __init__(self, config: RunConfig, dataset: data.Dataset, device: str):
        self.config, self.device, spec = config, device, DATASETS[dataset.name]
        before = []
        if config.augmentation == "da1":
            before = [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip()]
        if dataset.name == "mnist":
            before = [transforms.Grayscale(3), transforms.Resize((32, 32))]
        normalize = transforms.Normalize(spec.mean * (3 // len(spec.mean)), spec.std * (3 // len(spec.std)))
        pictures = Pictures(
            dataset.x_train, dataset.y_train, transforms.Compose([*before, transforms.ToTensor(), normalize])
        )
        self.batches = DataLoader(
            pictures,
            config.batch_size,
            shuffle=True,
            num_workers=min(cores(), 8),
            persistent_workers=True,
            pin_memory=device == "cuda",
        )
        self.model = models.build(config.model, spec.num_classes, spec.channels, config.bias_init_mean).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), config.learning_rate, momentum=0.9)

    def epoch(self) -> float:
        config, correct, began = self.config, 0, time.perf_counter()
        for x, y in self.batches:
            x, y = x.to(self.device), y.to(self.device)
            logits, features = self.model(x)
            target, head = F.one_hot(y, logits.shape[1]).float(), self.model.classifier
            loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(y)
            loss = loss + config.lambda_w / 2 * (head.weight**2).sum() + config.lambda_h / 2 * (features**2).sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            correct += (logits.argmax(1) == y).sum().item()
        return time.perf_counter() - began


def epoch(training: Training) -> float:
    """Seconds of one epoch of ours, without the measurement at its end, which the reference does not have."""
    training._record = lambda rate, loss: None
    number, began = training.epoch, time.perf_counter()
    while training.epoch == number:
        training.step()
    return time.perf_counter() - began


def product(device: torch.device, dtype: torch.dtype, times: int = 5) -> float:
    """FLOP/s of a matrix product in the precision of the run: what a step could reach at most."""
    side = 8192 if device.type == "cuda" else 2048  # a matrix that fills the processor
    square = torch.randn(side, side, device=device, dtype=dtype)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    square @ square
    wait()
    began = time.perf_counter()
    for _ in range(times):
        square @ square
    wait()
    return times * 2 * side**3 / (time.perf_counter() - began)


def step(network: str, device: str, epochs: int = 3) -> None:
    """Both loops, an epoch each in turns; the first epoch of both only warms up."""
    name, count, augmentation, rate = STEPS[network]
    dataset = data.noise(name, 1280 if device == "cuda" else count, 10)
    config = RunConfig(
        model=network,
        dataset=name,
        loss="bce",
        optimizer="sgd",
        learning_rate=rate,
        epochs=100,
        augmentation=augmentation,
        lambda_w=5e-4,
        lambda_h=5e-4,
        lambda_b=0.0,
        precision="auto",
    )
    slow, fast = Reference(config, dataset, device), Training(config, dataset, torch.device(device))
    dtype = torch.bfloat16 if fast.autocast else torch.float32
    flops = operations(Training(config, dataset, torch.device("cpu")))
    slow.epoch(), epoch(fast)
    turns = [(slow.epoch(), epoch(fast), product(fast.device, dtype)) for _ in range(epochs)]
    ratios = [theirs / ours for theirs, ours, _ in turns]
    theirs, ours, peak = map(statistics.median, zip(*turns, strict=True))
    seconds = ours / fast.batches
    print(
        f"{network} / {name} on {device}, batch {config.batch_size}, augmentation {augmentation}: ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); ms a step: reference "
        f"{1000 * theirs / fast.batches:.1f}, ours {1000 * seconds:.1f} in {str(dtype).removeprefix('torch.')}; "
        f"{flops / 1e9:.1f} GFLOP a step, {flops / seconds / 1e9:.0f} GFLOP/s, {flops / seconds / peak:.0%} of a "
        f"matrix product's {peak / 1e9:.0f} in that precision",
        flush=True,
    )


# --- the heavy metrics -----------------------------------------------------------------------------------------------


def peak_mib() -> float:
    """Largest resident memory of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def metric(name: str) -> None:
    """Its inputs are made in place, so that making them leaves no higher peak behind."""
    g = torch.Generator().manual_seed(0)
    N, K, d = 50_000, 1_000, 2_048
    labels = torch.arange(N) % K  # (N,)
    if name == "uniform_accuracy":
        logits = torch.empty(N, K).normal_(generator=g)  # (N, K) float32
        logits[torch.arange(N), labels] += 4
        measure, arguments = uniform.uniform_accuracy, (logits, labels)
    else:
        features = torch.empty(N, d).normal_(generator=g)  # (N, d) float32
        weight = torch.empty(K, d).normal_(generator=g)  # (K, d)
        measure, arguments = metrics.neural_collapse, (features, labels, weight)
    before, began = peak_mib(), time.perf_counter()
    result = measure(*arguments)
    print(
        f"{name}, {N:,} samples, {K:,} classes, {d:,} features: {time.perf_counter() - began:.2f} s, "
        f"{peak_mib() - before:.0f} MiB beyond the inputs: {result}",
        flush=True,
    )


PARTS = {"book": None, "tests": None}
for device in ("cpu", *["cuda"] * torch.cuda.is_available()):
    PARTS |= {network + "-cuda" * (device == "cuda"): (step, network, device) for network in STEPS}
PARTS |= {name: (metric, name) for name in ("uniform_accuracy", "neural_collapse")}


def main(names: list[str]) -> None:
    if unknown := set(names) - set(PARTS):
        sys.exit(f"There is no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the part that runs ends too
    chosen = [name for name in PARTS if name in names or not names]
    print(f"{processor()}, {cores()} cores, torch {torch.__version__}")
    if {"book", "tests"} & set(chosen):
        print(f"{'':42}{'CPU s':>9}{'wall s':>9}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in chosen:
            if name == "book":
                book(folder)
            elif name == "tests":
                row("tests", timed("tests", ["bash", REPOSITORY / "ci" / "test"], 5400, folder / "log"))
            else:
                timed(name, [sys.executable, __file__, "--alone", name], 900)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        function, *arguments = PARTS[sys.argv[2]]
        function(*arguments)
    else:
        main(sys.argv[1:])
