import contextlib
import csv
import io
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from bcebook.runs import files
from bcebook.runs.config import RunConfig
from bcebook.runs.schema import BEST, FINAL, HISTORY, LEVELS
from bcebook.runs.store import Run, RunStore

ENVIRONMENT = {"device": "a CPU", "versions": {"torch": "2"}, "code": "x", "date": "2026-11-24T03:03:17+00:00", "seconds": 1.5}


def make_run(config) -> Run:
    """A whole run of this configuration, as far as a store can tell; its numbers are made up."""
    rows = config.epochs + 1
    history = {name: [math.nan, *(1 / (epoch + 3) for epoch in range(1, rows))] for name in HISTORY}
    history |= {"epoch": [float(epoch) for epoch in range(rows)],
                "learning_rate": [math.nan, *(config.rate(epoch) for epoch in range(1, rows))]}
    final = dict.fromkeys(FINAL, 0.1 + 0.2) | {"test_accuracy": 1 / (rows + 2), "train_nc1": 1 / (rows + 2), "test_nc2": math.nan}
    best = dict.fromkeys(BEST, 1 / 4) | {"test_accuracy_epoch": 1.0, "test_uniform_accuracy_epoch": 1.0}
    summary = lambda count: dict(count=count, mean=0.1, std=0.0, quantiles=[0.1] * LEVELS, bin_width=0.05, first_bin=2,  # noqa: E731
                                 counts=[count - 1, 1])
    scores = {split: {"positive": summary(300), "negative": summary(2700), "bias": summary(10)} for split in ("train", "test")}
    return Run(config, history, final, best, scores, ENVIRONMENT)


def test_a_run_comes_back_bit_for_bit(small, tmp_path):
    run = make_run(small())
    store = RunStore(tmp_path)
    assert store.find(run.config) is None and store.state(run.config) == "missing" and store.fingerprint(run.config) == ""
    store.save(run)
    again = store.find(run.config)
    assert repr(again) == repr(run) and store.state(run.config) == "trained" and len(store.fingerprint(run.config)) == 16
    assert [path.name for path in tmp_path.iterdir()] == [f"{run.config.key}.json"]


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "another run's", "a folder"])
def test_a_damaged_file_is_reported_and_counts_as_absent(small, tmp_path, damage):
    store, run = RunStore(tmp_path), make_run(small())
    store.save(run)
    path = tmp_path / f"{run.config.key}.json"
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "flipped":
        at = len(content) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    else:
        other = files.text(make_run(small(seed=9))).encode()
        path.write_bytes({"truncated": content[:-9], "empty": b"", "another run's": other}[damage])
    says = "not the key of its config" if damage == "another run's" else "counts as absent"
    with pytest.warns(UserWarning, match=f"{path} is damaged .*{says}"):
        assert store.find(run.config) is None
    if damage == "a folder":
        path.rmdir()
    with contextlib.nullcontext() if damage == "a folder" else pytest.warns(UserWarning, match="is damaged"):
        store.save(run)
    assert repr(store.find(run.config)) == repr(run)


def test_recorded_runs_stand_behind_own_ones_and_are_never_written(small, tmp_path):
    run = make_run(small())
    RunStore(tmp_path / "recorded").save(run)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "recorded").rglob("*")}
    store = RunStore(tmp_path / "runs", tmp_path / "recorded")
    assert store.state(run.config) == "recorded" and repr(store.find(run.config)) == repr(run)
    own = Run(run.config, run.history, run.final, run.best, run.scores, ENVIRONMENT | {"code": "own"})
    store.save(own)
    assert store.state(run.config) == "trained" and store.find(run.config).environment["code"] == "own"
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "recorded").rglob("*")} == before


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_store import make_run
from bcebook.runs.config import RunConfig
from bcebook.runs.store import RunStore
store = RunStore(sys.argv[1])
print("ready", flush=True)
for seed in range(10_000):
    config = RunConfig(dataset="digits", model="mlp", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2999,
                       seed=seed, lambda_w=0.0, lambda_h=0.0, lambda_b=0.0)
    with store.lock(config):
        store.save(make_run(config))
"""


def test_a_process_killed_in_the_middle_of_a_save_leaves_no_readable_half_run(tmp_path):
    """SIGKILL while runs are saved one after the other, at random moments and as soon as a file is begun, until one
    falls into a save: every file that bears a key is whole."""
    draw, caught = random.Random(0), 0
    for kills in range(40):
        if kills >= 4 and caught:
            break
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, os.path.dirname(__file__)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        deadline = time.monotonic() + draw.uniform(0.01, 0.12)
        while time.monotonic() < deadline or (kills % 2 and time.monotonic() < deadline + 5):
            if kills % 2 and any(tmp_path.glob(".*.tmp")):
                break
        writer.kill()
        writer.wait()
        caught += any(tmp_path.glob(".*.tmp"))
        store = RunStore(tmp_path)
        for path in tmp_path.glob("[!.]*.json"):
            config = RunConfig.from_dict(json.loads(path.read_text())["config"])
            assert len(store.find(config).history["epoch"]) == 3000  # a damaged one would warn, and so fail
    assert caught > 0, "no kill fell into a save; the test shows nothing"
    # The next save of the same runs clears what was left behind, although a killed process held their locks.
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, os.path.dirname(__file__)], stdout=subprocess.PIPE)
    writer.stdout.readline()
    left = lambda: len(list(tmp_path.glob(".*.tmp")))  # noqa: E731
    until = time.monotonic() + 120
    while left() > 1 and time.monotonic() < until:
        time.sleep(0.05)
    writer.kill()
    writer.wait()
    assert left() <= 1  # that of the save in progress


def test_a_full_disk_leaves_nothing_half_written(small, tmp_path):
    """The system refuses files beyond a size, as a full disk would in the middle of a write."""
    store, run = RunStore(tmp_path), make_run(small(epochs=2999))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError):
            store.save(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == [] and store.find(run.config) is None
    store.save(run)
    assert repr(store.find(run.config)) == repr(run)


def test_two_that_want_the_same_run_train_it_once(small, tmp_path):
    """Two threads: a lock knows no difference between them and two processes."""
    from bcebook.training.sessions import train

    barrier, found = threading.Barrier(2), []

    def train_once():
        barrier.wait()
        found.append(train(small(epochs=15), RunStore(tmp_path), "cpu", progress=False).environment)

    both = [threading.Thread(target=train_once) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    one, two = found
    assert one == two  # the same training: its seconds, to the hundredth, and its date


def test_a_lock_is_free_again_when_its_holder_is_killed(small, tmp_path):
    code = ("import sys, time; from bcebook.runs.config import RunConfig; from bcebook.runs.store import RunStore; import json\n"
            "with RunStore(sys.argv[1]).lock(RunConfig(**json.loads(sys.argv[2]))): print('held', flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path, json.dumps(small().to_dict())], stdout=subprocess.PIPE)
    holder.stdout.readline()
    holder.kill()
    holder.wait()
    with RunStore(tmp_path).lock(small()):
        pass  # a lock that survived its holder would block for ever


def test_a_failure_is_remembered_until_the_run_succeeds(small, tmp_path):
    store, config = RunStore(tmp_path), small()
    store.save_failure(config, "it diverged", {"code": "x"})
    assert store.failure(config)["cause"] == "it diverged" and store.state(config) == "failed" and store.find(config) is None
    store.save(make_run(config))
    assert store.failure(config) is None and store.state(config) == "trained"


# --- folders of an earlier version -----------------------------------------------------------------------------------

FORMER = Path(__file__).with_name("former_runs.zip")  # written by the last version that stored folders


@pytest.fixture
def former(tmp_path):
    """A store of two former folders, one with features, and their settings."""
    with zipfile.ZipFile(FORMER) as archive:
        archive.extractall(tmp_path / "runs")
    folders = sorted((tmp_path / "runs").iterdir())
    configs = [RunConfig.from_dict(json.loads((folder / "config.json").read_text())) for folder in folders]
    return RunStore(tmp_path / "runs"), configs


def is_what_stood_in(run, part) -> None:
    """part: name -> content of a former file. Read here by other means than the store's."""
    result, rows = json.loads(part("result.json")), list(csv.DictReader(io.StringIO(part("history.csv").decode())))
    columns = {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
    plain = lambda values: {name: math.nan if x is None else x for name, x in values.items()}  # noqa: E731
    measures = json.loads(part("measures.json"))["measures"]
    measures |= {"numbers": plain(measures["numbers"]),
                 "per_class": {name: list(plain(dict(enumerate(each))).values()) for name, each in measures["per_class"].items()}}
    assert repr((run.history, run.final, run.best, run.scores, run.environment, run.measures)) == repr(
        (columns, plain(result["final"]), plain(result["best"]), result["scores"], json.loads(part("environment.json")),
         measures))
    assert run.config.to_dict() == json.loads(part("config.json"))
    assert (run.features is None) == (run.config.keep_features == 0)
    assert run.features is None or run.features == json.loads(part("features.json"))


def test_a_former_folder_becomes_a_file_of_the_same_numbers(former):
    store, configs = former
    for config in configs:
        folder = store.root / config.key
        contents = {path.name: path.read_bytes() for path in folder.iterdir()}
        elsewhere = RunStore(store.root.parent / "empty", store.root).find(config)
        assert folder.is_dir(), "what is only read stays as it is"
        assert store.state(config) == "trained" and not folder.exists()
        assert repr(store.find(config)) == repr(elsewhere)
        is_what_stood_in(elsewhere, contents.__getitem__)
    assert sorted(path.name for path in store.root.iterdir()) == sorted(f"{config.key}.json" for config in configs)


@pytest.mark.parametrize("damage", ["", "{}", "cut", "nc9", "[" * 10_000])
def test_former_measures_that_are_damaged_cost_no_run(former, damage):
    store, configs = former
    path = store.root / configs[0].key / "measures.json"
    text = path.read_text()
    path.write_text({"cut": text[:-20], "nc9": text.replace("nc0", "nc9")}.get(damage, damage))
    with pytest.warns(UserWarning, match="the run is taken without its measures. `bcebook measure` makes them anew"):
        run = store.find(configs[0])
    assert run.measures is None and run.final and store.has(configs[0])


@pytest.mark.parametrize("name", ["config.json", "history.csv", "result.json", "environment.json", "checksums.json"])
def test_a_former_folder_that_is_damaged_counts_as_absent_until_its_run_is_saved(former, name):
    store, configs = former
    run, path = RunStore(store.root.parent / "empty", store.root).find(configs[0]), store.root / configs[0].key / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    for _ in range(2):
        with pytest.warns(UserWarning, match="is damaged"):
            assert store.find(configs[0]) is None
        path.unlink(missing_ok=True)
    with pytest.warns(UserWarning, match="is damaged"):
        store.save(run)
    assert repr(store.find(configs[0])) == repr(run) and not path.parent.exists()
