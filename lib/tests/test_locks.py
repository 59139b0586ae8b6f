"""What another process or another user holds: the rest is done first, the time is kept, and it is said who waits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from bcebook.execution.processes import Processes
from bcebook.runs.locks import LockPermissionError, RunLocked
from bcebook.runs.store import RunStore, open_store
from bcebook.training.loop import RunFailed
from bcebook.training.sessions import train, train_each
from test_store import make_run

HOLDER = """
import contextlib, json, sys, time
from bcebook.runs.config import RunConfig
from bcebook.runs.store import RunStore
with contextlib.ExitStack() as stack:
    for settings in json.loads(sys.argv[2]):
        stack.enter_context(RunStore(sys.argv[1]).lock(RunConfig(**settings)))
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold():
    """hold(store, configs): another process holds these; it can be killed, and is at the end."""
    holders = []

    def start(store: RunStore, configs: list) -> subprocess.Popen:
        settings = json.dumps([config.to_dict() for config in configs])
        holders.append(subprocess.Popen([sys.executable, "-c", HOLDER, store.root, settings], stdout=subprocess.PIPE))
        assert holders[-1].stdout.readline() == b"held\n"
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_what_is_free_is_trained_first_and_the_budget_is_kept(small, tmp_path, hold, capsys):
    store, configs = open_store(tmp_path), [small(epochs=1, seed=seed) for seed in range(4)]
    train(small(epochs=1, seed=9), store, progress=False)  # what torch does once is not what is measured
    hold(store, configs[:1])
    began = time.monotonic()
    assert train_each(configs, store, "cpu", began + 5, progress=False) == []
    assert 4.9 < time.monotonic() - began < 50  # the three runs take a tenth of a second, but this machine may be busy
    assert [store.state(config) for config in configs] == ["missing"] + ["trained"] * 3
    said = capsys.readouterr().err
    assert said.count("waiting for another process, which trains") == 1 and configs[0].describe() in said


def test_a_worker_does_not_wait_while_there_is_something_to_do_and_trains_as_one_process_does(small, tmp_path, hold):
    """Two workers, and the first two runs are held until the other two are there. With a run that fails, all is as in
    one process that trains them one by one."""
    store, configs = open_store(tmp_path), [small(epochs=epochs) for epochs in (4, 3, 2, 1)]
    fails = small(learning_rate=1e6, epochs=1)
    holder, problems = hold(store, configs[:2]), []
    thread = threading.Thread(target=lambda: problems.extend(Processes(tmp_path, "cpu", 2).run([*configs, fails])))
    thread.start()
    deadline, free = time.monotonic() + 300, [store.root / f"{config.key}.json" for config in configs[2:]]
    while not all(path.exists() for path in free) and time.monotonic() < deadline:
        time.sleep(0.1)
    there = [path.exists() for path in free]
    holder.kill()
    thread.join()
    assert there == [True, True]
    alone = open_store(tmp_path / "alone")
    found = [problems, train_each([*configs, fails], alone, progress=False)]
    for told, each in zip(found, (store, alone), strict=True):
        assert len(told) == 1 and "rate 1e+06" in told[0] and "smaller learning_rate" in told[0]
        assert [each.state(config) for config in [*configs, fails]] == ["trained"] * 4 + ["failed"]
    numbers = [repr([(run.config, run.history, run.final, run.best, run.scores) for run in map(each.find, configs)])
               for each in (store, alone)]
    assert numbers[0] == numbers[1]


def test_one_run_waits_for_its_holder_and_says_so(small, tmp_path, hold, capsys):
    store = open_store(tmp_path)
    holder = hold(store, [small(epochs=1)])
    with pytest.raises(RunLocked, match="waiting for another process"), store.lock(small(epochs=1), wait=False):
        pass
    found, said = [], ""
    thread = threading.Thread(target=lambda: found.append(train(small(epochs=1), store, progress=False).config))
    thread.start()
    until = time.monotonic() + 120
    while "waiting for another process" not in said and time.monotonic() < until:
        time.sleep(0.05)
        said += capsys.readouterr().err
    assert found == []
    holder.kill()
    thread.join()
    assert found == [small(epochs=1)] and (said + capsys.readouterr().err).count("waiting for another process") == 1


def test_a_build_says_that_it_waits_for_another(tmp_path):
    code = ("import sys, time; from pathlib import Path; from bcebook.runs.locks import hold\n"
            "with hold(Path(sys.argv[1]), 'nobody'): print('held', flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path / ".lock"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    command = [sys.executable, "-c", "from bcebook.cli import main; main()", "build", "--out", tmp_path, "--only",
               "two_geometries", "--data", tmp_path / "data"]
    build = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = []
    reader = threading.Thread(target=lambda: said.append(build.stderr.readline()))
    reader.start()
    reader.join(120)
    build.send_signal(signal.SIGINT)
    out, _ = build.communicate(timeout=120)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert said and said[0].startswith("waiting for another build of the same folder (it holds") and out == ""
    assert build.returncode == 130


# --- other users -----------------------------------------------------------------------------------------------------

@pytest.fixture
def stranger():
    """(folder, become): a folder that is root's but open to all, and a switch to a user who is not root."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        pytest.skip("NOT TESTED: what belongs to another user; that needs root, as in a container")
    import filelock  # noqa: F401 - what is imported later may lie where only root reads

    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are closed to others
    folder.chmod(0o777)
    try:
        yield folder, lambda: os.seteuid(3001)
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


def test_a_lock_of_another_user_is_one_sentence_that_says_whose_it_is(small, stranger):
    folder, become = stranger
    store, configs = open_store(folder), [small(epochs=1, seed=seed) for seed in range(2)]
    with store.lock(configs[0]), store.lock(configs[1]):
        pass
    path = store.root / ".locks" / f"{configs[0].key}.lock"
    for each in (store.root, store.root / ".locks"):
        each.chmod(0o777)
    path.chmod(0o644)  # as earlier versions made it
    become()
    with pytest.raises(LockPermissionError, match=r"cannot be opened for writing \(Permission denied: .*\.lock belongs to root"):
        with store.lock(configs[0]):
            pass
    with store.lock(configs[1]):  # as it is made now: whoever may write in the folder may hold it
        pass


def test_a_run_that_cannot_be_read_is_called_so_and_is_not_replaced(small, stranger):
    folder, become = stranger
    store, run = open_store(folder), make_run(small())
    store.save(run)
    for each in (store.root, store.root / ".locks"):
        each.mkdir(exist_ok=True)
        each.chmod(0o777)
    (store.root / f"{run.config.key}.json").chmod(0o600)
    become()
    with pytest.warns(UserWarning, match=r"cannot be read \(Permission denied: .* belongs to root\)") as warned:
        assert store.find(run.config) is None
    assert "damaged" not in str(warned[0].message)
    with pytest.raises(LockPermissionError, match="cannot be read .* and is not replaced"), store.lock(run.config):
        pass
    with pytest.warns(UserWarning, match="cannot be read"):
        problems = train_each([run.config], store, progress=False)
    assert len(problems) == 1 and "make it readable" in problems[0]
    os.seteuid(0)
    assert repr(store.find(run.config)) == repr(run)


# --- failures of another engine --------------------------------------------------------------------------------------

def test_a_failure_stops_the_same_engine_and_no_other(small, tmp_path):
    """Whatever the rest of the library is: a page that was reworded does not make a loss finite."""
    store, config = open_store(tmp_path), small(learning_rate=1e6)
    with pytest.raises(RunFailed, match="smaller learning_rate"):
        train(config, store, progress=False)
    environment = store.failure(config)["environment"]
    store.save_failure(config, "it diverged", environment | {"code": "another page"})
    with pytest.raises(RunFailed, match="failed before, .*: it diverged"):
        train(config, store, progress=False)
    plain = small(epochs=1)
    for earlier in (environment | {"engine": "another"}, {k: v for k, v in environment.items() if k != "engine"}):
        store.save_failure(plain, "it diverged", earlier)
        assert store.state(plain) == "failed"
        assert train(plain, store, progress=False).config == plain and store.failure(plain) is None
        (store.root / f"{plain.key}.json").unlink()
