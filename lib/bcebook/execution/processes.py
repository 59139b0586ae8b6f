"""Many runs in parallel processes, one run at a time in each: on the cores of a CPU, or on one GPU.

Python's own executor, not joblib's loky: loky ends any worker that has grown by 300 MB since its first task, as if it
leaked, and warns; ours grow by as much when they turn from digits to CIFAR10.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path

from tqdm import tqdm

from bcebook.cores import cores
from bcebook.execution.base import bar_interval
from bcebook.runs import provenance
from bcebook.runs.config import RunConfig
from bcebook.runs.locks import RunLocked
from bcebook.runs.store import open_store
from bcebook.variables import variable

# Time left by epochs, as runs differ in length.
DEATH = "was ended from outside, most likely because memory ran out"
BAR = "    {desc} trained, {elapsed} so far, about {remaining} left{postfix}"


@contextlib.contextmanager
def workers(
    jobs: int, setup: Callable, arguments: tuple = (), tasks: int | None = None
) -> Iterator[ProcessPoolExecutor]:
    """`jobs` spawned processes, each of which first calls `setup(*arguments)`. tasks: so many each, then a fresh
    process takes its place; None: any number.

    They leave Ctrl-C to this process. When the block is left by an exception (Ctrl-C, say), or when this process dies,
    they end at once: each watches a pipe whose other end only this process holds. They import nothing from the folder
    in which this process happens to be called.
    """
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    provenance.prepare()
    pool = ProcessPoolExecutor(jobs, context, _begin, (theirs, setup, arguments), max_tasks_per_child=tasks)
    # `-c`, with which they are spawned, has the working directory on the path: a random.py there would be Python's own.
    with variable("PYTHONSAFEPATH", "1"), theirs, ours, pool:
        try:
            yield pool
        except BaseException:
            ours.close()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(lifeline: Connection, setup: Callable, arguments: tuple) -> None:
    """In a worker, before its first task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ends = [lifeline, multiprocessing.parent_process().sentinel]
    threading.Thread(target=lambda: (wait_for_any(ends), os._exit(1)), daemon=True).start()
    setup(*arguments)


@dataclass(frozen=True)
class Processes:
    """The `base.Executor` of `jobs` processes that share the cores or a GPU, into the store of `data`. On a GPU each
    run has a fresh process, so that nothing that one leaves there can reach another."""

    data: Path
    device: str
    jobs: int

    def run(self, configs: list[RunConfig], deadline: float = math.inf) -> list[str]:
        """See `base.Executor.run`. If a worker dies, the others end too, and one sentence says which runs were in
        progress.

        The longest runs come first, so that no core waits at the end; those that another process holds come last, and
        are waited for.
        """
        waiting = deque(sorted(configs, key=lambda config: -config.epochs))
        problems, training, held, done = [], {}, set(), 0  # training: task -> its run
        tasks, children = (1 if self.device.startswith("cuda") else None), set()
        with (
            workers(self.jobs, _use_threads, (max(1, cores() // self.jobs),), tasks) as pool,
            tqdm(
                total=sum(config.epochs for config in configs),
                desc=f"0 of {len(configs)} runs",
                bar_format=BAR,
                mininterval=bar_interval(),
            ) as bar,
        ):
            while waiting or training:
                if time.monotonic() >= deadline:
                    waiting.clear()
                try:
                    while waiting and len(training) < self.jobs:  # no more, so that these are the ones in progress
                        config = waiting.popleft()
                        task = pool.submit(_train, config, self.data, self.device, deadline, config in held)
                        training[task] = config
                    children |= set(multiprocessing.active_children())
                    for task in wait(training, return_when=FIRST_COMPLETED).done:
                        try:
                            found = task.result()
                        except RunLocked:
                            held.add(config := training.pop(task))
                            waiting.append(config)
                            continue
                        config = training.pop(task)
                        problems += found
                        for problem in found:
                            bar.write(problem)
                        done += 1
                        bar.set_description_str(f"{done} of {len(configs)} runs", refresh=False)
                        bar.set_postfix_str(f"last {config.describe()}", refresh=False)
                        bar.update(config.epochs)
                except BrokenProcessPool:
                    return [*problems, self._death(configs, list(training.values()), children)]
        return problems

    def _death(self, configs: list[RunConfig], training: list[RunConfig], children: set) -> str:
        store = open_store(self.data)
        kept = sum(store.state(config) == "trained" for config in configs)
        lost = [config.describe() for config in training if store.state(config) == "missing"]
        return (
            f"a worker process {cause_of_death(children)}, with these in progress: {'; '.join(lost)}; "
            f"{kept} finished runs are kept, and the same command goes on from there (if it happens again, with "
            "fewer --jobs)."
        )


def cause_of_death(children: set) -> str:
    """Why the first of some processes ended, in words: the pool then ends the others by SIGTERM."""
    for child in children:
        child.join(5)
    codes = [child.exitcode for child in children if child.exitcode not in (None, 0, -signal.SIGTERM)]
    if -signal.SIGKILL in codes or not codes:
        return DEATH
    if codes[0] < 0:
        name = signal.Signals(-codes[0]).name
        return f"was ended by {name}: an error in a library below Python, or a signal from outside"
    return f"ended by itself with exit code {codes[0]}"


def _use_threads(threads: int) -> None:
    """In a training worker: compute with so many threads (a small network takes one: see `sessions`)."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported
    import torch

    torch.set_num_threads(threads)


def _train(config: RunConfig, data: Path, device: str, deadline: float, patient: bool) -> list[str]:
    """Train one run into the store; no sentence, or the one that says why there is none. Raises RunLocked where another
    process holds the run, unless patient."""
    from bcebook.training.sessions import train_each

    return train_each([config], open_store(data), device, deadline, False, data / "datasets", wait=patient)
