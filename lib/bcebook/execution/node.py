"""One run on a machine that knows nothing of ours but this library: what a task does there. Nothing of Ray is in it."""

import math
import os
import platform
import tempfile
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bcebook.runs import provenance
from bcebook.runs.config import RunConfig

if TYPE_CHECKING:
    from bcebook.training.datasets import Dataset

SAME = ("torch", "numpy")  # libraries of which another version makes other numbers


@dataclass(frozen=True)
class Answer:
    """What a task gives back: the archive of its run; or why the run failed, as `RunStore.failure` has it; or a
    sentence on what this machine cannot do; or nothing of these, where its time was over. memory: bytes of a GPU,
    (free before the run, at most held by it)."""

    archive: bytes = b""
    failure: dict | None = None
    problem: str = ""
    memory: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Order:
    """A run that is asked for. device: "cpu" or "cuda"; threads: to compute with on the CPU; until: of time.time, when
    to stop (infinite: when it is done); checkpoints: where copies of them are kept, None: nowhere; every: seconds from
    one to the next, None: as `sessions` has it."""

    config: dict
    device: str
    threads: int = 1
    until: float = math.inf
    checkpoints: str | None = None
    every: float | None = None


def expected() -> dict[str, str]:
    """What a machine has to have in common with this one, in words -> the value here."""
    versions = provenance.versions()
    return {"this library, by its digest,": provenance.library_digest()} | {name: versions[name] for name in SAME}


def differs(wanted: dict[str, str]) -> str:
    """The sentence that refuses this machine, or "" where it has all that is wanted."""
    here = expected()
    unlike = [
        f"{name} {_short(here.get(name, 'missing'))} where {_short(value)} is wanted"
        for name, value in wanted.items()
        if here.get(name) != value
    ]
    return f"{platform.node()} (process {os.getpid()}) has {' and '.join(unlike)}" if unlike else ""


def _short(value: str) -> str:
    return value[:12]


def train(order: Order, dataset: "Dataset | None") -> Answer:
    """Train the run that is asked for in a folder of its own, which is gone afterwards. dataset: its images, verified
    here; None: the library brings them."""
    import torch  # after provenance

    from bcebook.runs import archive
    from bcebook.runs.store import RunStore
    from bcebook.training import datasets, mirror
    from bcebook.training.sessions import train_together

    warnings.filterwarnings("ignore", message=".*not writable.*")  # images in shared memory are read, never written
    if dataset is not None and not datasets.is_published(dataset):
        return Answer(problem=f"{platform.node()} was given other images than the published {dataset.name}")
    deadline = time.monotonic() + order.until - time.time()
    config = RunConfig.from_dict(order.config)
    torch.set_num_threads(order.threads)
    free = _free(order.device)
    with tempfile.TemporaryDirectory(prefix="bcebook-") as folder:
        store = RunStore(Path(folder) / "runs")
        kept = (
            mirror.following(store.checkpoints(config), order.checkpoints, config.key)
            if order.checkpoints
            else nullcontext()
        )
        with kept:
            problems = train_together(
                [config], store, order.device, 1, deadline, progress=False, given=dataset, checkpoint_every=order.every
            )
        if failure := store.failure(config):
            return Answer(failure=failure)
        if problems or not store.has(config):
            return Answer(problem="; ".join(problems))
        path = Path(folder) / "run.zip"
        archive.write(store, [config.key], path)
        return Answer(path.read_bytes(), memory=(free, _peak(order.device)))


def _free(device: str) -> int:
    import torch

    return torch.cuda.mem_get_info()[0] if device.startswith("cuda") else 0


def _peak(device: str) -> int:
    import torch

    return torch.cuda.max_memory_reserved() if device.startswith("cuda") else 0
