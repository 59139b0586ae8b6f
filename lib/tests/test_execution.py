"""Many runs at once: how many processes suit which machine, and a worker's end is one sentence."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from bcebook import cores
from bcebook.execution import choose, processes
from bcebook.execution.processes import Processes, workers
from bcebook.runs.store import open_store


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")


def _children(pid: int) -> list[int]:
    """The worker processes of a process."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()  # a thread of its own may have started them
        found = [child for task in tasks for child in (task / "children").read_text().split()]
        return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except FileNotFoundError:
        return []


def _gone(pids: list[int], seconds: float = 60) -> bool:
    def alive(pid: int) -> bool:
        status = Path(f"/proc/{pid}/status")
        return status.exists() and b"State:\tZ" not in status.read_bytes()

    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.parametrize(("place", "jobs", "expected"), [
    ("cpu", 1, "here"), ("cpu", 2, ("cpu", 2)), ("cpu", None, ("cpu", 3)), ("cuda", None, ("cuda", 1)),
    ("cuda", 2, ("cuda", 2))])
def test_runs_are_trained_here_only_where_one_core_does_it(small, tmp_path, monkeypatch, place, jobs, expected):
    """On a GPU even a single run has a process of its own."""
    found = []
    monkeypatch.setattr(choose, "cores", lambda: 3)
    monkeypatch.setattr("bcebook.training.devices.resolve", lambda device: torch.device(device))
    monkeypatch.setattr("bcebook.training.sessions.train_each", lambda *args, **settings: found.append("here") or [])
    monkeypatch.setattr(Processes, "run", lambda self, configs, deadline: found.append((self.device, self.jobs)) or [])
    assert choose.train_missing([small(seed=seed) for seed in range(9)], tmp_path, place, jobs) == []
    assert found == [expected]


def test_a_worker_that_dies_says_of_what(tmp_path):
    start = lambda target, *args: multiprocessing.get_context("spawn").Process(target=target, args=args)  # noqa: E731
    for how, says in (("kill(os.getpid(), 9)", "memory ran out"), ("kill(os.getpid(), 11)", "SIGSEGV"),
                      ("_exit(3)", "exit code 3")):
        (tmp_path / "ends.py").write_text(f"import os\nos.{how}\n")
        children = child, other = start(runpy.run_path, str(tmp_path / "ends.py")), start(time.sleep, 60)
        child.start(), other.start()
        child.join()
        other.terminate()  # as the pool does with the others
        assert says in processes.cause_of_death(set(children))


def test_limits_from_outside_count_as_cores(tmp_path):
    """Control groups of both versions, in a container (path of outside) and in a group within a group."""
    own, root = cores.cores(Path("/nowhere"), tmp_path), tmp_path / "cgroup"
    cases = {
        "0::/": {"cpu.max": "100000 100000"},
        "0::/a/b": {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"},
        "0::/outside/only": {"cpu.max": "50000 100000"},
        "4:cpu,cpuacct:/docker/x\n0::/": {f"cpu,cpuacct/cpu.cfs_{name}_us": "100000" for name in ("quota", "period")},
        "4:cpu:/y": {"cpu/y/cpu.cfs_quota_us": "90000", "cpu/y/cpu.cfs_period_us": "100000"},
    }
    for number, (line, files) in enumerate(cases.items()):
        for name, content in files.items():
            (root / str(number) / name).parent.mkdir(parents=True, exist_ok=True)
            (root / str(number) / name).write_text(content + "\n")
        (tmp_path / "self").write_text(line + "\n")
        assert cores.cores(tmp_path / "self", root / str(number)) == 1, line
    for content in ("max 100000", "-1 100000", "damaged", f"{100 * own}00000 100000"):
        (root / "0" / "cpu.max").write_text(content)
        assert cores.cores(tmp_path / "self", root / "0") == own, content


@needs_proc
def test_a_killed_worker_is_one_sentence_and_costs_no_finished_run(small, tmp_path):
    """With what is told: the same sentence on the command line is `bcebook train`'s line "failed: ..."."""
    configs, store, problems = [small(epochs=50, seed=seed) for seed in range(200)], open_store(tmp_path), []
    thread = threading.Thread(target=lambda: problems.extend(Processes(tmp_path, "cpu", 2).run(configs)))
    before, deadline = _children(os.getpid()), time.monotonic() + 300
    thread.start()
    while not any(map(store.has, configs[:4])) and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [pid for pid in _children(os.getpid()) if pid not in before]
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGKILL)  # as the system does when memory runs out
    thread.join(300)
    says, = problems
    assert "a worker process was ended from outside" in says and "memory" in says and "\n" not in says
    kept = [config for config in configs if store.state(config) == "trained"]  # a damaged one would warn, and so fail
    assert f"{len(kept)} finished runs are kept" in says and len(kept) >= 1
    named = [config for config in configs if config.describe() in says]
    assert 1 <= len(named) <= 2 and not set(named) & set(kept)
    assert _gone(pids)


HOLDER = """
import os, sys, time
from bcebook.execution.processes import workers
if __name__ == "__main__":
    with workers(2, os.write, (1, b"set up\\n")) as pool:
        for task in [pool.submit(time.sleep, 300) for _ in range(2)]:
            task.result()
"""


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_at_once(tmp_path, how):
    (tmp_path / "holder.py").write_text(HOLDER)
    command = [sys.executable, tmp_path / "holder.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert [process.stdout.readline() for _ in range(2)] == [b"set up\n"] * 2
        pids = _children(process.pid)
        os.kill(process.pid, how)
    assert len(pids) == 2 and _gone(pids)


def test_an_error_in_the_block_ends_a_task_in_progress():
    began = time.monotonic()
    with pytest.raises(KeyError), workers(1, int) as pool:
        pool.submit(time.sleep, 600)
        pool.submit(int).cancel()
        raise KeyError
    assert time.monotonic() - began < 300
