"""What very many runs cost, without training one: python ci/bench_scale.py [TASKS] [RUNS].

TASKS (10,000) empty tasks through the executor on a Ray cluster of this machine: tasks a second, the driver's memory.
A store of RUNS (20,000) copies of a recorded run: a first list of them, a second one, and reading each.
"""

import dataclasses
import resource
import sys
import tempfile
import time
from pathlib import Path

from bcebook.execution import cluster, node
from bcebook.paths import REPOSITORY
from bcebook.runs import atomic, files
from bcebook.runs.store import RunStore


def memory() -> float:
    """Of this process so far, at most, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tasks(count: int) -> None:
    """Empty ones."""
    with cluster.joined(""):
        machines = cluster.Cluster(len, node.expected())
        for number in (10, count):  # the first ones start the workers
            waiting, done = iter(range(number)), []
            began, before = time.perf_counter(), memory()
            empty = (cluster.Task(str(n), ("",), lambda: {"num_cpus": 1}) for n in waiting)
            cluster.run(machines, lambda: next(empty, None), lambda task, answer: done.append(task.name))
            seconds = time.perf_counter() - began
            assert len(set(done)) == number
        print(f"{number:,} empty tasks: {number / seconds:,.0f} a second; the driver at most {memory():,.0f} MiB, "
              f"{before:,.0f} before")


def store(count: int, folder: Path) -> None:
    """Of copies that differ in their seed."""
    recorded = REPOSITORY / "data" / "recorded"
    run = files.read_folder(next(path for path in sorted(recorded.iterdir()) if (path / "config.json").exists()))
    configs = [dataclasses.replace(run.config, seed=seed) for seed in range(count)]
    runs = RunStore(folder)
    sync, atomic.os.fsync = atomic.os.fsync, lambda descriptor: None
    for config in configs:
        runs.save(dataclasses.replace(run, config=config))
    atomic.os.fsync = sync
    for what, ask in {"listed for the first time": runs.listing, "listed again": runs.listing,
                      "read and verified": lambda each: map(runs.find, each)}.items():
        files._CHECKED.clear()  # as a new process begins
        began = time.perf_counter()
        assert sum(found is not None for found in ask(configs)) == count
        print(f"{count:,} runs {what}: {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    tasks(numbers[0] if numbers else 10_000)
    with tempfile.TemporaryDirectory() as folder:
        store(numbers[1] if len(numbers) > 1 else 20_000, Path(folder))
