"""What `bcebook record` packs and `bcebook import` lets in."""

import dataclasses
import json
import math
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from bcebook.chapters import catalog
from bcebook.runs import archive
from bcebook.runs.archive import ArchiveError
from bcebook.execution.choose import train_missing
from bcebook.runs.config import RunConfig
from bcebook.runs.store import RunStore, open_store
from bcebook.training.sessions import train
from test_fuzz import signed
from test_store import FORMER, is_what_stood_in


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A store with two runs, and their archive."""
    store = RunStore(tmp_path_factory.mktemp("there"))
    settings = dict(dataset="digits", model="mlp", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2,
                    train_size=100, lambda_w=0.0, lambda_h=0.0, lambda_b=0.0)
    runs = [train(RunConfig(**settings, seed=seed), store, progress=False) for seed in (0, 1)]
    path = store.root.parent / "runs.zip"
    assert archive.write(store, [run.config.key for run in runs], path) == []
    return store, runs, path


@pytest.fixture
def trained(packed, tmp_path):
    """The same with an archive of one's own."""
    store, runs, path = packed
    (tmp_path / "out").mkdir()
    return store, runs, Path(shutil.copy(path, tmp_path / "out"))


def _members(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as source:
        return {name: source.read(name) for name in source.namelist()}


def _rewrite(path, members: dict) -> None:
    with zipfile.ZipFile(path, "w") as target:
        for name, content in members.items():
            target.writestr(name, content)


def test_runs_arrive_as_they_left_once_and_in_order(trained, tmp_path):
    store, runs, path = trained
    recorded = tmp_path / "here" / "recorded"
    added, there = archive.add(path, recorded)
    assert [run.config for run in added] == [run.config for run in runs] and there == []
    arrived = RunStore(tmp_path / "here" / "runs", recorded)
    for run in runs:
        again = arrived.find(run.config)
        assert repr(again) == repr(run) and arrived.state(run.config) == "recorded"
    assert archive.add(path, recorded)[0] == [] and len(archive.add(path, recorded)[1]) == 2
    assert sorted(p.name for p in recorded.iterdir()) == sorted(f"{run.config.key}.json" for run in runs)  # nothing temporary is left
    before = path.read_bytes()
    archive.write(store, [run.config.key for run in runs], path)
    assert path.read_bytes() == before


def test_runs_that_are_too_many_for_one_archive_are_split_and_arrive_whole(trained, monkeypatch, tmp_path):
    store, runs, path = trained
    keys = [run.config.key for run in runs]
    assert archive.write_parts(store, keys, path) == [path]
    monkeypatch.setattr(archive, "LIMIT", int(path.stat().st_size * 0.7))
    assert archive.write(store, keys, path) == keys[1:]  # what is not in it
    assert set(_members(path)) == {f"{keys[0]}.json"} and path.stat().st_size < archive.LIMIT
    parts = archive.write_parts(store, keys, path)
    assert [part.name for part in parts] == ["runs.zip", "runs-2.zip"]
    recorded = tmp_path / "here" / "recorded"
    assert [run.config.key for part in parts for run in archive.add(part, recorded)[0]] == keys
    assert archive.write_parts(store, keys[:1], path) == [path] and not parts[1].exists()  # of an earlier call
    assert archive.write_parts(store, [], path) == [path]
    monkeypatch.setattr(archive, "LIMIT", 1000)
    with pytest.raises(ValueError, match=f"the run {keys[0]} alone is larger than an archive may be"):
        archive.write_parts(store, keys, path)


FOLLOWED = """
import json, sys
from pathlib import Path
from bcebook.runs import archive
from bcebook.runs.config import RunConfig
from bcebook.runs.store import RunStore
from bcebook.training.sessions import train
root, path, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
store = RunStore(root)
with archive.following(store, lambda: sorted(each.stem for each in root.glob("[!.]*.json")), path, 0.05):
    for seed in range(1000):
        train(RunConfig(**settings | {"seed": seed}), store, progress=False)
"""


def test_a_process_that_is_killed_leaves_an_archive_of_all_but_the_last_moments(small, tmp_path):
    root, path = tmp_path / "there", tmp_path / "out" / "runs.zip"
    settings = json.dumps(small(epochs=1, train_size=64).to_dict())
    process = subprocess.Popen([sys.executable, "-c", FOLLOWED, str(root), str(path), settings])
    until = time.monotonic() + 300
    stored = lambda: {each.stem for each in root.glob("[!.]*.json")}  # noqa: E731
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    before = stored()  # and it is brought up to date
    while not before <= {name.removesuffix(".json") for name in _members(path)} and time.monotonic() < until:
        time.sleep(0.02)
    assert process.poll() is None
    process.kill()
    process.wait()
    added, _ = archive.add(path, tmp_path / "here")
    assert before <= {run.config.key for run in added} <= stored()


def test_an_archive_that_cannot_be_written_is_tried_again(trained, tmp_path):
    store, runs, path = trained
    keys, folder = [run.config.key for run in runs], tmp_path / "later"
    folder.write_text("a file in the way")
    with pytest.warns(UserWarning, match="could not be brought up to date") as said:
        with archive.following(store, lambda: keys, folder / "runs.zip", 0.01):
            until = time.monotonic() + 120
            while not len(said) and time.monotonic() < until:
                time.sleep(0.02)
            folder.unlink()
            while not (folder / "runs.zip").exists() and time.monotonic() < until:
                time.sleep(0.02)
    assert len(archive.add(folder / "runs.zip", tmp_path / "here")[0]) == 2


FORGED = {  # what a careful forger changes, who sets the checksum right -> what is said
    "final figures": lambda v: v["final"].update(test_accuracy=0.999),
    "not the key of its config": lambda v: v["config"].update(loss="ce"),
    "epochs 0 to 2": lambda v: [column.pop() for column in v["history"].values()],
    "longer or shorter": lambda v: v["history"]["nc2"].pop(),
    "learning rates": lambda v: v["history"]["learning_rate"].__setitem__(-1, 0.3),
    "failed run": lambda v: v["history"]["train_loss"].__setitem__(-1, None),
    "best figures": lambda v: v["best"].update(test_accuracy_epoch=3.0),
    "scores are not those of 10 classes": lambda v: v["scores"]["train"]["positive"].update(
        count=v["scores"]["train"]["positive"]["count"] + 1, counts=[*v["scores"]["train"]["positive"]["counts"], 1]),
    "no summary of a sample": lambda v: v["scores"]["train"]["positive"].update(count=1),
    "Field required": lambda v: v.pop("final"),
    "it lacks test_nc1": lambda v: v["final"].pop("test_nc1"),
    "Extra inputs": lambda v: v.update(more=1),
}
STRANGE = ["../outside.json", "/outside.json", "0123456789abcdef/../../outside.json", "0123456789abcdef/hook.py",
           "0123456789abcdef\\outside.json", "0123456789abcde.json"]


def _altered(how: str, members: dict, name: str) -> dict:
    content = members[name]
    if how in FORGED:
        values = json.loads(content)
        FORGED[how](values)
        content = signed(b'{\n' + json.dumps({k: v for k, v in values.items() if k != "checksum"}).encode()[1:])
    elif how == "fails its checksum":
        content = content.replace(b"1", b"2", 1)
    elif how == "larger than any file":
        content = b" " * (archive.FILE_LIMIT + 1)
    else:
        return members | {how: b"x"}
    return members | {name: content}


@pytest.mark.parametrize("how, says", [
    *((each, each) for each in (*FORGED, "fails its checksum", "larger than any file")),
    *((each, "not a file of a run") for each in STRANGE), ("0123456789abcdef.failed.json", "a failed run"),
])
def test_nothing_of_an_altered_archive_is_taken_in(trained, tmp_path, how, says):
    _, runs, path = trained
    _rewrite(path, _altered(how, _members(path), f"{runs[1].config.key}.json"))
    is_refused(path, tmp_path, says)


def is_refused(path, tmp_path, says) -> None:
    recorded = tmp_path / "here" / "recorded"
    with pytest.raises(ArchiveError, match="othing was added") as error:
        archive.add(path, recorded)
    assert says in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value), str(error.value)
    assert not list(recorded.glob("*"))
    assert not list(tmp_path.rglob("outside.json"))


def test_an_archive_of_an_earlier_version_arrives_with_the_same_numbers(tmp_path):
    members, recorded = _members(FORMER), tmp_path / "recorded"
    added, there = archive.add(FORMER, recorded)
    assert there == [] and [run.config.key for run in added] == list(dict.fromkeys(name[:16] for name in members))
    for run in added:
        is_what_stood_in(run, lambda name, key=run.config.key: members[f"{key}/{name}"])
        assert repr(RunStore(recorded).find(run.config)) == repr(run)
    assert [len(each) for each in archive.add(FORMER, recorded)] == [0, 2]


@pytest.mark.parametrize("change, says", [
    ({"history.csv": b"epoch\n0\n"}, "history.csv fails its checksum"), ({"environment.json": None}, "does not have each of"),
    ({"measures.json": b'{"sha256": "", "measures": {}}'}, "measures.json fails its checksum"), ({"features.json": None}, "does not list"),
    ({"failed.json": b"{}"}, "a failed run"), ({"checksums.json": b"{}"}, "does not list the files of a run"),
    ({"../outside.json": b"{}"}, "not a file of a run"), ({"config.json": b"{}"}, "config.json fails its checksum"),
])
def test_nothing_of_an_altered_archive_of_an_earlier_version_is_taken_in(tmp_path, change, says):
    members = _members(FORMER)
    key = next(name[:16] for name in members if name.endswith("features.json"))
    members |= {f"{key}/{name}": content for name, content in change.items()}
    _rewrite(tmp_path / "runs.zip", {name: content for name, content in members.items() if content is not None})
    is_refused(tmp_path / "runs.zip", tmp_path, says)


@pytest.mark.parametrize("what, says", [
    ("link", "not a file of a run"), ("cut", "not a whole archive"), ("text", "not a whole archive"), ("damaged", ""),
    ("empty", "has no run in it"), ("folder", "is no file"), ("missing", "is not there"),
])
def test_what_is_no_whole_archive_is_refused_in_one_sentence(trained, tmp_path, what, says):
    _, runs, path = trained
    content = path.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 3] ^= 0xFF
    other = tmp_path / f"{what}.zip"
    if what == "link":
        link = zipfile.ZipInfo(f"{runs[0].config.key}.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(other, "w") as target:
            target.writestr(link, "/etc/passwd")
    elif what == "folder":
        other.mkdir()
    elif what != "missing":
        other.write_bytes({"cut": content[:-500], "text": b"no archive", "damaged": changed, "empty": b"PK\5\6" + bytes(18)}[what])
    is_refused(other, tmp_path, says)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """A thousand times its size, inside what one file may have: the sum in the directory says so; and a lying one."""
    monkeypatch.setattr(archive, "CONTENT_LIMIT", 8 * archive.FILE_LIMIT)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for number in range(9):
            target.writestr(f"{number:016x}.json", bytes(archive.FILE_LIMIT))
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", lambda *arguments: pytest.fail("a member was opened"))
        with pytest.raises(ArchiveError, match="unpacks to more than any archive"):
            archive.add(tmp_path / "bomb.zip", tmp_path / "recorded")
    content = (tmp_path / "bomb.zip").read_bytes()
    size = archive.FILE_LIMIT.to_bytes(4, "little")
    (tmp_path / "liar.zip").write_bytes(content.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(ArchiveError, match="nothing was added"):
        archive.add(tmp_path / "liar.zip", tmp_path / "recorded")


def test_a_deadline_leaves_checkpoints_from_which_the_next_call_goes_on(small, tmp_path):
    configs = [small(epochs=100, seed=seed) for seed in (0, 1, 2)]
    store, calls = open_store(tmp_path), 0
    while missing := [config for config in configs if store.find(config) is None]:
        assert train_missing(missing, tmp_path, "cpu", jobs=1, deadline=time.monotonic() + 0.3) == []
        calls += 1
        assert calls < 1000
    assert calls > 1 and not list((tmp_path / "runs" / ".checkpoints").glob("*/*"))
    assert max(store.find(config).environment["resumed"] for config in configs) > 0
    alone = train(configs[2], RunStore(tmp_path / "alone"), progress=False)  # interruptions leave no trace
    assert repr((alone.history, alone.final)) == repr((store.find(configs[2]).history, store.find(configs[2]).final))


def test_a_paper_run_takes_at_most_150_kB(small, tmp_path):
    """A ResNet18 run is as long as any here (100 epochs) and its scores fill at most the summary's 2,048 bins: build
    the largest that can be, from a real run's numbers, and let the store write it."""
    config = next(c for c in catalog.configs("initial_bias", "paper"))
    run = train(small(), RunStore(tmp_path / "real"), progress=False)
    rows = config.epochs + 1
    history = {name: [math.pi * 1e-3 * (epoch + 1) for epoch in range(rows)] for name in run.history}  # 16 digits in every cell
    full = json.loads(json.dumps(run.scores))
    for split in full.values():
        for summary in split.values():
            summary["counts"] = [45_000] * 2048
    store = RunStore(tmp_path / "full")
    store.save(dataclasses.replace(run, config=config, history=history, scores=full))
    size = (store.root / f"{config.key}.json").stat().st_size
    assert size <= 150_000, size
