"""Many runs at once: the executors can replace each other, and a worker's end is one sentence."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bcebook.chapters import catalog
from bcebook.execution import choose
from bcebook.execution.processes import Processes, workers
from bcebook.execution.turns import Turns
from bcebook.runs.store import open_store

PROGRAM = [sys.executable, "-c", "from bcebook.cli import main; main()"]


def _children(pid: int) -> list[int]:
    """The worker processes of a process."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except FileNotFoundError:
        return []


def _gone(pids: list[int], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() and b"\nState:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()
                   for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_every_executor_trains_the_same_runs_bit_for_bit_and_says_what_failed(small, tmp_path):
    configs = [small(seed=seed) for seed in range(3)] + [small(learning_rate=1e6)]
    found = []
    for executor in (Turns(tmp_path / "1", "cpu", 2), Processes(tmp_path / "2", "cpu", 2)):
        problems = executor.run(configs, math.inf)
        assert len(problems) == 1 and "rate 1e+06" in problems[0] and "smaller learning_rate" in problems[0]
        store = open_store(executor.data)
        assert [store.state(config) for config in configs] == ["trained"] * 3 + ["failed"]
        runs = [store.find(config) for config in configs[:3]]
        found.append(repr([(run.config, run.history, run.final, run.best, run.scores) for run in runs]))
    assert found[0] == found[1]


def test_after_the_deadline_nothing_is_started_and_nothing_has_failed(small, tmp_path):
    assert Processes(tmp_path, "cpu", 2).run([small(seed=seed) for seed in range(4)], time.monotonic() - 1) == []
    assert not list((tmp_path / "runs").glob("[0-9a-f]*"))


@pytest.mark.parametrize(("device", "jobs", "deadline", "kind"), [
    ("cpu", 2, math.inf, Processes), ("cpu", 1, math.inf, Turns), ("cuda", 4, math.inf, Turns), ("cpu", 2, 1, Turns)])
def test_the_executor_suits_the_machine(tmp_path, device, jobs, deadline, kind):
    assert type(choose.executor(tmp_path, device, jobs, deadline)) is kind


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_killed_worker_is_one_sentence_and_costs_no_finished_run(tmp_path):
    command = [*PROGRAM, "train", "--data", tmp_path, "--jobs", "2", "--device", "cpu", "--match", "adamw da1 "]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    done = lambda: sorted(path.name for path in (tmp_path / "runs").glob("*") if len(path.name) == 16)  # noqa: E731
    deadline = time.monotonic() + 120
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = _children(process.pid)
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGKILL)  # as the system does when memory runs out
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in errors, errors
    says = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert len(says) == 1 and "a worker process was ended from outside" in says[0] and "memory" in says[0]
    configs = [config for config in catalog.all_configs("quick") if "adamw da1 " in config.describe().lower()]
    kept = [config for config in configs if config.key in done()]
    assert f"{len(kept)} finished runs are kept" in says[0] and len(kept) >= 1
    named = [config for config in configs if config.describe() in says[0]]
    assert 1 <= len(named) <= 2 and not set(named) & set(kept)
    assert _gone(pids)
    store = open_store(tmp_path)
    assert all(store.state(config) == "trained" for config in kept)  # a damaged one would warn, and so fail


HOLDER = """
import os, sys, time
from bcebook.execution.processes import workers
if __name__ == "__main__":
    with workers(2, os.write, (1, b"set up\\n")) as pool:
        for task in [pool.submit(time.sleep, 60) for _ in range(2)]:
            task.result()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_at_once(tmp_path, how):
    (tmp_path / "holder.py").write_text(HOLDER)
    command = [sys.executable, tmp_path / "holder.py"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert [process.stdout.readline() for _ in range(2)] == [b"set up\n"] * 2
    pids = _children(process.pid)
    assert len(pids) == 2
    os.kill(process.pid, how)
    process.wait(20)
    assert _gone(pids)
    process.stdout.close()


def test_an_error_in_the_block_ends_a_task_in_progress():
    began = time.monotonic()
    with pytest.raises(KeyError), workers(1, int) as pool:
        pool.submit(time.sleep, 60)
        pool.submit(int).cancel()
        raise KeyError
    assert time.monotonic() - began < 30
