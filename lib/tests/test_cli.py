"""The command line, as a person uses it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bcebook.chapters import catalog
from bcebook.execution.choose import train_missing
from bcebook.runs.store import open_store

PROGRAM = [sys.executable, "-c", "from bcebook.cli import main; main()"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_ctrl_c_keeps_what_is_finished_and_ends_the_workers(tmp_path):
    """SIGINT in the middle of training: exit code 130, a sentence, whole runs only, no process left, and it goes on
    from there."""
    command = [*PROGRAM, "train", "--data", tmp_path, "--jobs", "2", "--match", "adamw da1 "]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    done = lambda: [p for p in (tmp_path / "runs").glob("*") if len(p.name) == 16]  # noqa: E731
    deadline = time.time() + 120
    while not done() and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "goes on from there" in errors and "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        while time.time() < deadline:
            os.killpg(process.pid, 0)  # until the group is empty
            time.sleep(0.1)
    finished, store = len(done()), open_store(tmp_path)
    configs = [c for c in catalog.all_configs("quick") if "adamw da1 " in c.describe().lower()]
    assert 1 <= finished < len(configs) == 20
    assert sum(store.state(c) == "trained" for c in configs) == finished  # a damaged folder would warn, and so fail
    stamps = {p.name: p.stat().st_mtime_ns for p in done()}
    left = next(c for c in configs if store.state(c) == "missing")
    assert train_missing(configs[: configs.index(left) + 1], tmp_path, "cpu", jobs=2) == []
    assert store.state(left) == "trained"
    assert all((tmp_path / "runs" / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())


@pytest.mark.parametrize(("arguments", "says"), [
    (["runs", "--profile", "slow"], "there is no profile 'slow'; choose one of quick, laptop, paper"),
    (["train", "--match", "vgg"], "no run of the profile quick matches 'vgg'"),
    (["runs", "--chapter", "x"], "no chapter 'x'"),
    (["train", "--chapter", "bias_saturates"], "it needs no runs"),
    (["train", "--chapter", "fine_tuning"], "fine_tuning trains nothing in the profile quick, only in laptop and paper"),
    (["data", "svhn"], "no data set 'svhn'"),
])
def test_a_wrong_argument_is_one_sentence(arguments, says):
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_every_command_has_a_help_that_reads(tmp_path):
    for command in ("build", "train", "runs", "data", "lab", "serve", "doctor"):
        done = subprocess.run([*PROGRAM, command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "Usage:" in done.stdout and "--help" in done.stdout
    done = subprocess.run([*PROGRAM, "doctor", "--data", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0 and "free disk" in done.stdout and "mnist         not here" in done.stdout
    done = subprocess.run([*PROGRAM, "runs", "--data", tmp_path], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"{len(catalog.all_configs('quick'))} missing"


def test_runs_go_from_one_machine_to_another(tmp_path):
    """record, import, and the run is there; the time is kept."""
    call = lambda *arguments: subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True)  # noqa: E731
    match = ["--profile", "quick", "--chapter", "accuracy", "--match", "CE SGD DA1 seed 1"]
    done = call("record", *match, "--budget", "5m", "--out", tmp_path / "out", "--data", tmp_path / "a", "--device", "cpu")
    assert done.returncode == 0 and done.stdout.startswith("2 runs in") and "0 still missing" in done.stdout, done.stdout + done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["runs.zip"]
    done = call("import", tmp_path / "out" / "runs.zip", "--data", tmp_path / "b")
    assert done.returncode == 0 and done.stdout.endswith("2 runs added, 0 were there already.\n"), done.stdout + done.stderr
    done = call("runs", *match, "--data", tmp_path / "b")
    assert done.stdout.splitlines()[-1] == "2 recorded"
    done = call("record", "--budget", "a while", "--out", tmp_path / "out")
    assert done.returncode == 2 and "write a time such as 90s, 9m or 2h" in done.stderr
    done = call("import", PROGRAM[0], "--data", tmp_path / "b")
    assert done.returncode == 2 and "not a whole archive of runs" in done.stderr and len(done.stderr.splitlines()) == 1
