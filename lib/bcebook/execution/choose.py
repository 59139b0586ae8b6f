"""Train what is missing, in the way that suits the machine."""

import math
from pathlib import Path

from bcebook.execution.base import Executor, cores
from bcebook.execution.processes import Processes
from bcebook.execution.turns import Turns
from bcebook.runs.config import RunConfig
from bcebook.runs.store import open_store

# Runs at once on a GPU: one small network alone leaves most of it idle. A guess; `ci/bench_engine.py cuda` measures.
PACKED = 4


def train_missing(configs: list[RunConfig], data: Path, device: str = "auto", jobs: int | None = None,
                  deadline: float = math.inf) -> list[str]:
    """Train what the store of `data` lacks; returns a sentence for each run that failed.

    jobs: how many at once; by default a process a core on the CPU, and PACKED in one process on a GPU. deadline: of
    time.monotonic; what is not done by then is left with a checkpoint. Every finished run is in the store at once, and
    a killed one goes on from its checkpoint when the call is repeated.
    """
    store = open_store(data)
    missing = [config for config in dict.fromkeys(configs) if store.find(config) is None]
    if not missing:
        return []
    # Only now: importing torch takes seconds, which a build with nothing to do must not cost.
    from bcebook.training.loop import resolve

    kind = resolve(device).type
    jobs = min(jobs or (PACKED if kind == "cuda" else cores()), len(missing))
    return executor(data, kind, jobs, deadline).run(missing, deadline)


def executor(data: Path, device: str, jobs: int, deadline: float) -> Executor:
    """Turns on a GPU, for a single run at a time, and under a deadline, where workers would first spend seconds to
    start; else processes."""
    if jobs == 1 or device == "cuda" or deadline < math.inf:
        return Turns(data, device, jobs)
    return Processes(data, device, jobs)
