"""Many runs at once: which executor suits which machine, and a worker's end is one sentence."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bcebook.execution import choose
from bcebook.execution.processes import Processes, workers
from bcebook.execution.turns import Turns
from bcebook.runs.store import open_store


def _children(pid: int) -> list[int]:
    """The worker processes of a process."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()  # a thread of its own may have started them
        found = [child for task in tasks for child in (task / "children").read_text().split()]
        return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except FileNotFoundError:
        return []


def _gone(pids: list[int], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() and b"\nState:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()
                   for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("device", "jobs", "deadline", "kind"), [
    ("cpu", 2, math.inf, Processes), ("cpu", 1, math.inf, Turns), ("cuda", 4, math.inf, Turns), ("cpu", 2, 1, Turns)])
def test_the_executor_suits_the_machine(tmp_path, device, jobs, deadline, kind):
    assert type(choose.executor(tmp_path, device, jobs, deadline)) is kind


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_killed_worker_is_one_sentence_and_costs_no_finished_run(small, tmp_path):
    """With what is told: the same sentence on the command line is `bcebook train`'s line "failed: ..."."""
    configs, problems = [small(epochs=50, seed=seed) for seed in range(200)], []
    thread = threading.Thread(target=lambda: problems.extend(Processes(tmp_path, "cpu", 2).run(configs)))
    before = _children(os.getpid())
    thread.start()
    done = lambda: sorted(path.name for path in (tmp_path / "runs").glob("*") if len(path.name) == 16)  # noqa: E731
    deadline = time.monotonic() + 300
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [pid for pid in _children(os.getpid()) if pid not in before]
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGKILL)  # as the system does when memory runs out
    thread.join(300)
    says, = problems
    assert "a worker process was ended from outside" in says and "memory" in says and "\n" not in says
    kept = [config for config in configs if config.key in done()]
    assert f"{len(kept)} finished runs are kept" in says and len(kept) >= 1
    named = [config for config in configs if config.describe() in says]
    assert 1 <= len(named) <= 2 and not set(named) & set(kept)
    assert _gone(pids)
    store = open_store(tmp_path)
    assert all(store.state(config) == "trained" for config in kept)  # a damaged one would warn, and so fail


HOLDER = """
import os, sys, time
from bcebook.execution.processes import workers
if __name__ == "__main__":
    with workers(2, os.write, (1, b"set up\\n")) as pool:
        for task in [pool.submit(time.sleep, 300) for _ in range(2)]:
            task.result()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_at_once(tmp_path, how):
    (tmp_path / "holder.py").write_text(HOLDER)
    command = [sys.executable, tmp_path / "holder.py"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert [process.stdout.readline() for _ in range(2)] == [b"set up\n"] * 2
    pids = _children(process.pid)
    assert len(pids) == 2
    os.kill(process.pid, how)
    process.wait(60)
    assert _gone(pids)
    process.stdout.close()


def test_an_error_in_the_block_ends_a_task_in_progress():
    began = time.monotonic()
    with pytest.raises(KeyError), workers(1, int) as pool:
        pool.submit(time.sleep, 600)
        pool.submit(int).cancel()
        raise KeyError
    assert time.monotonic() - began < 300
