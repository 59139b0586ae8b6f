"""Kills, damaged checkpoints, full disks: a run ends as if nothing had happened, bit for bit."""

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from bcebook.training import checkpoint, datasets as data
from bcebook.runs.config import RunConfig
from bcebook.runs.store import RunStore
from bcebook.training.loop import Training
from bcebook.training.sessions import _threads, train

SETTINGS = dict(dataset="digits", model="mlp", loss="bce", optimizer="adamw", schedule="one-cycle", learning_rate=0.01,
                epochs=8, batch_size=32, train_size=400, augmentation="da1+da2", lambda_w=5e-4, lambda_h=5e-4,
                lambda_b=0.0)
CONFIG = RunConfig(**SETTINGS)


def _content(run) -> str:
    """Everything but how and when; repr makes nan equal to nan."""
    return repr((run.config, run.history, run.final, run.best, run.scores))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run without an interruption."""
    return train(CONFIG, RunStore(tmp_path_factory.mktemp("whole")), progress=False)


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path):
    """SIGKILL at any moment: while it trains, measures, writes a checkpoint or stores the run. The children are forked
    from one process that has torch loaded, so that each lives for milliseconds and dies in the middle of something
    else."""
    program = """
        import json, os, random, signal, sys, time
        from pathlib import Path
        import torch
        torch.set_num_threads(1)
        from bcebook.training import datasets as data
        from bcebook.runs.config import RunConfig
        from bcebook.runs.store import RunStore
        from bcebook.training.sessions import train
        settings, folder, chance = json.loads(sys.argv[1]), Path(sys.argv[2]), random.Random(0)
        data.load("digits")  # imports scikit-learn

        def child(config, store):
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    train(config, store, progress=False, checkpoint_every=0)
                    code = 0
                finally:
                    os._exit(code)
            return pid

        def content(store, config):
            run = store.find(config)
            return repr((run.history, run.final, run.best, run.scores))

        kills, resumed, seed = 0, 0, 0
        while kills < 8:
            config = RunConfig(**settings, seed=seed)
            seed += 1
            began = time.monotonic()
            reference = RunStore(folder / "reference")
            assert os.waitpid(child(config, reference), 0)[1] == 0
            whole = time.monotonic() - began
            store = RunStore(folder / "killed")
            while store.find(config) is None:
                pid = child(config, store)
                time.sleep(chance.uniform(0, whole / 2))
                os.kill(pid, signal.SIGKILL)
                status = os.waitpid(pid, 0)[1]
                assert status in (0, signal.SIGKILL), status
                kills += status == signal.SIGKILL
            assert content(store, config) == content(reference, config), "the killed run differs"
            resumed += store.find(config).environment["resumed"]
            assert not store.checkpoints(config).exists() or store.find(config)
        left = [str(p) for p in (folder / "killed").glob(".tmp*")]
        print(json.dumps({"kills": kills, "resumed": resumed, "runs": seed, "left": left}))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), json.dumps(SETTINGS), tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr[-2000:]
    report = json.loads(result.stdout)
    assert report["kills"] >= 8 and report["resumed"] > 0


def _halfway(store: RunStore, steps=(30, 40, 50)) -> list:
    """A run that died after three checkpoints; the files that are left, oldest first."""
    training = Training(CONFIG, data.load("digits"), torch.device("cpu"))
    with _threads(CONFIG):  # as `train` has it: another number sums in another order
        while training.steps < steps[-1]:
            training.step()
            if training.steps in steps:
                checkpoint.save(store.checkpoints(CONFIG), training.steps, training.state())
    return sorted(store.checkpoints(CONFIG).iterdir())


def test_the_last_two_checkpoints_are_kept_until_the_run_is_whole(tmp_path, whole):
    store = RunStore(tmp_path)
    files = _halfway(store)
    assert [int(path.stem) for path in files] == [40, 50]
    run = train(CONFIG, store, progress=False)
    assert run.environment["resumed"] == 1 and _content(run) == _content(whole)
    assert not store.checkpoints(CONFIG).exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "both"])
def test_a_damaged_checkpoint_is_named_and_an_earlier_state_taken(tmp_path, whole, damage):
    store = RunStore(tmp_path)
    *older, newest = _halfway(store)
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    newest.write_bytes(content[: {"truncated": -1000, "empty": 0}.get(damage, len(content))])
    if damage == "both":
        for path in (*older, newest):
            path.write_bytes(b"no checkpoint at all")
    with pytest.warns(UserWarning, match="is damaged") as warned:
        run = train(CONFIG, store, progress=False)
    assert newest.name in str(warned[0].message) and len(warned) == (2 if damage == "both" else 1)
    assert _content(run) == _content(whole) and run.environment["resumed"] == (0 if damage == "both" else 1)


class _Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_hostile_checkpoint_is_not_executed(tmp_path, whole, monkeypatch):
    import hashlib

    monkeypatch.chdir(tmp_path)
    store = RunStore(tmp_path / "store")
    folder = store.checkpoints(CONFIG)
    folder.mkdir(parents=True)
    payload = pickle.dumps(_Hostile(), protocol=2)
    (folder / f"{7:012d}.ckpt").write_bytes(hashlib.sha256(payload).digest() + payload)
    with pytest.warns(UserWarning, match="damaged"):
        run = train(CONFIG, store, progress=False)
    assert not (tmp_path / "executed").exists() and _content(run) == _content(whole)


def test_another_engines_checkpoint_is_not_continued(tmp_path, whole, monkeypatch):
    store = RunStore(tmp_path)
    _halfway(store)
    monkeypatch.setattr("bcebook.training.loop.engine_version", lambda: "another")
    with pytest.warns(UserWarning, match="another version of the engine"):
        run = train(CONFIG, store, progress=False)
    assert run.environment["resumed"] == 0 and _content(run) == _content(whole)


def _lacks_room():
    """Warnings of checkpoints and of weights, and no others: what is left over would fail the test."""
    return pytest.warns(UserWarning, match="no checkpoint could be written|the weights could not be kept")


def test_a_full_disk_costs_the_checkpoint_or_the_last_minutes_and_nothing_else(tmp_path, whole, monkeypatch):
    """Files may not grow past a limit: first one that stops the checkpoints alone, then, after the third, one that stops
    the run's own files too."""
    save, written = checkpoint.save, []
    before = _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limited(*arguments):
        save(*arguments)
        written.append(arguments)
        if len(written) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        store = RunStore(tmp_path / "checkpoints")
        with _lacks_room():
            train(CONFIG, store, progress=False, checkpoint_every=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert _content(store.find(CONFIG)) == _content(whole)

        store = RunStore(tmp_path / "everything")
        monkeypatch.setattr(checkpoint, "save", limited)
        with pytest.raises(OSError), _lacks_room():
            train(CONFIG, store, progress=False, checkpoint_every=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    monkeypatch.undo()
    assert len(written) == 3 and store.find(CONFIG) is None and store.state(CONFIG) == "missing"
    assert not [path for path in store.root.rglob("*") if "tmp" in path.name]  # nothing half-written
    run = train(CONFIG, store, progress=False)  # the disk has room again
    assert run.environment["resumed"] == 1 and _content(run) == _content(whole)
