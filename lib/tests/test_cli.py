"""The command line, as a person uses it."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from bcebook import cli
from bcebook.chapters import catalog
from bcebook.execution.choose import train_missing
from bcebook.runs.store import open_store

PROGRAM = [sys.executable, "-c", "from bcebook.cli import main; main()"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_ctrl_c_keeps_what_is_finished_and_ends_the_workers(tmp_path):
    """SIGINT in the middle of training: exit code 130, a sentence, whole runs only, no process left, and it goes on
    from there."""
    command = [*PROGRAM, "train", "--data", tmp_path, "--jobs", "2", "--match", "adamw"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    done = lambda: list((tmp_path / "runs").glob("[!.]*.json"))  # noqa: E731
    deadline = time.time() + 300
    while not done() and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on from there" in errors and "Traceback" not in errors
    deadline = time.time() + 60
    with pytest.raises(ProcessLookupError):
        while time.time() < deadline:
            os.killpg(process.pid, 0)  # until the group is empty
            time.sleep(0.1)
    finished, store = len(done()), open_store(tmp_path)
    configs = [c for c in catalog.all_configs("quick") if "adamw" in c.describe().lower()]
    assert 1 <= finished < len(configs)
    assert sum(store.state(c) == "trained" for c in configs) == finished  # a damaged one would warn, and so fail
    stamps = {p.name: p.stat().st_mtime_ns for p in done()}
    there = next(c for c in configs if store.state(c) == "trained")
    left = next(c for c in configs if store.state(c) == "missing")
    assert train_missing([there, left], tmp_path, "cpu", jobs=1) == []
    assert store.state(left) == "trained"
    assert all((tmp_path / "runs" / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())


def said(monkeypatch, capsys, *arguments) -> str:
    monkeypatch.setattr("sys.argv", ["bcebook", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("command", ["", "build", "train", "record", "import", "runs", "data", "lab", "serve", "doctor"])
def test_every_command_has_a_help_that_reads_in_a_narrow_terminal_too(monkeypatch, capsys, command):
    for columns in (100, 12):
        monkeypatch.setenv("COLUMNS", str(columns))
        told = re.sub(r"\s", "", said(monkeypatch, capsys, *command.split(), "--help"))
        assert "Usage:" in told and "--help" in told


def test_doctor_and_runs_say_what_is_here(tmp_path, monkeypatch, capsys):
    told = said(monkeypatch, capsys, "doctor", "--data", tmp_path)
    assert "free disk" in told and "mnist         not here" in told
    told = said(monkeypatch, capsys, "runs", "--data", tmp_path)
    assert told.splitlines()[-1] == f"{len(catalog.all_configs('quick'))} missing"


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
