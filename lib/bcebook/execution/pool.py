"""Many runs at once: processes in parallel on the CPU, turns within one process on a GPU."""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from bcebook.runs.config import RunConfig
from bcebook.runs.store import open_store

PACKED = 4  # runs at once on a GPU: one small network alone leaves most of it idle. A guess: `ci/bench_engine.py cuda` measures it


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def watch_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and die with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def worker_setup(threads: int) -> None:
    """In a training worker: also use this many threads."""
    watch_parent()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported
    import torch

    torch.set_num_threads(threads)


@contextlib.contextmanager
def workers(jobs: int, setup, arguments: tuple):
    """A pool of spawned processes; when the block is left by an exception (Ctrl-C, say), they are ended at once."""
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), setup, arguments)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):  # there is no public way to end a running task before 3.14
            process.kill()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def train_missing(configs: list[RunConfig], data: Path, device: str = "auto", jobs: int | None = None,
                  deadline: float = math.inf) -> list[str]:
    """Train what the store of `data` lacks; returns a sentence for each run that failed.

    jobs: how many at once; by default a process a core on the CPU, and PACKED in one process on a GPU. deadline: of
    time.monotonic; what is not done by then is left with a checkpoint, on the CPU with jobs = 1 and on a GPU. Every finished
    run is in the store at once, and a killed one goes on from its checkpoint when the call is repeated.
    """
    store = open_store(data)
    missing = [config for config in dict.fromkeys(configs) if store.find(config) is None]
    if not missing:
        return []
    # Only now: importing torch takes seconds, which a build with nothing to do must not cost.
    from bcebook.training.loop import resolve
    from bcebook.training.sessions import train_together

    kind = resolve(device).type
    jobs = min(jobs or (PACKED if kind == "cuda" else cores()), len(missing))
    if jobs == 1 or kind == "cuda" or deadline < math.inf:
        return train_together(missing, store, kind, jobs, deadline, data_root=data / "datasets")
    problems = []
    missing.sort(key=lambda config: -config.epochs)  # the long ones first, so that no core waits at the end
    threads = max(1, cores() // jobs)
    every = 0.1 if sys.stderr.isatty() else 30  # seconds between two states of the bar: a log file needs few
    with (workers(jobs, worker_setup, (threads,)) as pool,
          tqdm(total=len(missing), desc=f"runs, {jobs} at once", unit="run", mininterval=every) as bar):
        tasks = {pool.submit(_train, config, data, kind): config for config in missing}
        for task in as_completed(tasks):
            if problem := task.result():
                problems.append(problem)
                bar.write(problem)
            bar.set_postfix_str(tasks[task].describe(), refresh=False)
            bar.update()
    return problems


def _train(config: RunConfig, data: Path, device: str) -> str:
    """Train one run into the store; "" or the sentence that says why there is none."""
    from bcebook.training.loop import RunFailed
    from bcebook.training.sessions import train

    try:
        train(config, open_store(data), device, False, data / "datasets")
    except RunFailed as error:
        return f"{config.describe()}: {error}"
    return ""
