"""One run on a machine that has nothing of ours but this library: what a task of Ray does there."""

import math
import os
import platform
import tempfile
import time
import warnings
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
    """What a task gives back: the archive of its run, or a sentence on why there is none; with it the failure, as
    `RunStore.failure` has it, or the id of the machine where that is refused. Nothing, where the time was over."""

    archive: bytes = b""
    problem: str = ""
    failure: dict | None = None
    refused: str = ""


@dataclass(frozen=True)
class Order:
    """A run that is asked for. device: "cpu" or "cuda"; threads: to compute with on the CPU; until: of time.time, when
    to stop (infinite: when it is done); checkpoints: a folder that all machines share, None: they are lost with the
    machine; every: seconds from one to the next."""

    config: dict
    device: str
    threads: int = 1
    until: float = math.inf
    checkpoints: str | None = None
    every: float = 30.0


def expected() -> dict[str, str]:
    """What a machine has to have in common with this one, in words -> the value here."""
    versions = provenance.versions()
    return {"this library, by its digest,": provenance.library_digest()} | {name: versions[name] for name in SAME}


def differs(wanted: dict[str, str]) -> str:
    """The sentence that refuses this machine, or "" where it has all that is wanted."""
    here = expected()
    unlike = [
        f"{name} {here.get(name, 'missing')[:12]} where {value[:12]} is wanted"
        for name, value in wanted.items()
        if here.get(name) != value
    ]
    return f"{platform.node()} (process {os.getpid()}) has {' and '.join(unlike)}" if unlike else ""


def train(order: Order, wanted: dict[str, str], dataset: "Dataset | None") -> Answer:
    """Train the run that is asked for in a folder of its own, which is gone afterwards, on a machine that has what is
    wanted (`expected`). dataset: its images, verified here; None: the library brings them."""
    os.chdir(tempfile.gettempdir())  # Ray's own folder may be taken away under a task: by a node that ends beside it
    if sentence := differs(wanted):
        import ray

        sentence = f"a machine was refused: {sentence}; nothing is trained there."
        return Answer(problem=sentence, refused=ray.get_runtime_context().get_node_id())
    import torch  # after provenance

    from bcebook.runs import archive
    from bcebook.runs.store import RunStore
    from bcebook.training import datasets
    from bcebook.training.sessions import train_each

    warnings.filterwarnings("ignore", message=".*not writable.*")  # images in shared memory are read, never written
    if dataset is not None and not datasets.is_published(dataset):
        return Answer(problem=f"{platform.node()} was given other images than the published {dataset.name}")
    deadline = time.monotonic() + order.until - time.time()
    config = RunConfig.from_dict(order.config)
    torch.set_num_threads(order.threads)
    with tempfile.TemporaryDirectory(prefix="bcebook-") as folder:
        store = RunStore(Path(folder) / "runs", checkpoints=order.checkpoints)
        problems = train_each(
            [config], store, order.device, deadline, progress=False, given=dataset, checkpoint_every=order.every
        )
        if not store.has(config):
            return Answer(problem="; ".join(problems), failure=store.failure(config))
        path = Path(folder) / "run.zip"
        archive.write(store, [config.key], path)
        return Answer(path.read_bytes())
