"""Every file that the program reads, damaged in a thousand ways by a seeded draw.

Each damage must end as it should: a refusal of one sentence that names the file, or the same content as before. Where
the checksums are made to fit the damage, what is taken in must at least have the structure of a run, so that no chapter
stumbles over it.
"""

import copy
import dataclasses
import hashlib
import io
import json
import math
import os
import random
import warnings
import zipfile

import numpy as np
import pytest
import torch

from bcebook import cli
from bcebook.book import findings, scoreboard
from bcebook.chapters.registry import rooms
from bcebook import claims
from bcebook.runs import archive, files, schema
from bcebook.runs.archive import ArchiveError
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS
from bcebook.runs.store import RunStore
from bcebook.science.summaries import QUANTILES, ScoreSummary
from bcebook.training import checkpoint, loop, sessions
from bcebook.training import datasets as data

RAW = {  # what json.dumps does not write
    "@nan": "NaN", "@inf": "Infinity", "@-inf": "-Infinity", "@huge": "1e999", "@long": "1" + "0" * 400,
    "@endless": "9" * 5000, "@deep": "[" * 3000 + "]" * 3000, "@nested": '{"a":' * 400 + "1" + "}" * 400,
    "@half": '"\\ud800"', "@twice": '{"a": 1, "a": 2}', "@negative": "-0.0", "@small": "1e-320", "@cut": '"',
    "@unicode": '"\u0663\u2028\\u0000"',
}
VALUES = [None, True, False, 0, 1, -1, 2, 0.5, 1.5, -0.25, 1e300, 2**53 + 1, 2**63, "", "x", "1.0", "inf", "a\nb",
          "x" * 20_000, [], [1], [None], {}, {"a": 1}, [[[]]], *RAW]


def bytes_damaged(content: bytes, draw: random.Random) -> bytes:
    """Flipped, cut, overwritten, lengthened, or with a part twice."""
    at, to = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    how = draw.randrange(7)
    if how <= 1 and at < len(content):
        return content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1:]
    to = min(to, at + 40)
    before, part, after = content[:at], content[at:to], content[to:]
    return [before, part + after, before + draw.randbytes(to - at) + after, before + after,
            before + bytes(to - at) + after, before + part + part + after,
            before + draw.randbytes(9) + part + after][how]


def places(value, path=()):
    """The paths of all that is in a JSON value, but of no more than a few elements of a list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*path, name)
        yield from places(inner, (*path, name))


def json_damaged(value, draw: random.Random) -> bytes:
    """A field missing, twice, renamed, exchanged with another, or of another kind."""
    value = copy.deepcopy(value)
    every = list(places(value))
    for _ in range(draw.choice((1, 1, 1, 2))):
        path = draw.choice(every)
        try:
            holder = value
            for name in path[:-1]:
                holder = holder[name]
            last, how = path[-1], draw.randrange(8)
            if how == 0:
                del holder[last]
            elif how == 1 and isinstance(holder, dict):
                holder[draw.choice((f"{last}x", "", "\u00e9", "__class__", "a\nb"))] = holder.pop(last)
            elif how == 2:
                other = draw.choice(list(holder if isinstance(holder, dict) else range(len(holder))))
                holder[last], holder[other] = holder[other], holder[last]
            elif how == 3 and isinstance(holder, list):
                holder.insert(last, holder[last])
            elif how == 4 and isinstance(holder[last], (int, float)):
                holder[last] = draw.choice((-holder[last], holder[last] * 1e30, str(holder[last]), [holder[last]]))
            else:
                holder[last] = draw.choice(VALUES)
        except (LookupError, TypeError):
            continue  # the first change took away the place of the second
    text = json.dumps(value)
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    if draw.random() < 0.05 and text.startswith("{") and isinstance(value, dict) and value:
        name = draw.choice(list(value))
        text = "{" + json.dumps(name) + ": 1, " + text[1:]
    return text.encode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A trained run, the content of its file, and the state of a training in the middle of its second epoch."""
    config = RunConfig(dataset="digits", model="mlp", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2,
                       train_size=100, lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0)
    kept = RunStore(tmp_path_factory.mktemp("whole"))
    run = sessions.train(config, kept, progress=False)
    training = loop.Training(config, data.load("digits"), torch.device("cpu"))
    while training.epoch < 1:
        training.step()
    run = dataclasses.replace(run, measures=None)  # whose own damage is test_finished's
    return run, files.text(run).encode(), training.state()


def signed(content: bytes) -> bytes:
    """The content of a file with a checksum that fits the rest."""
    rest = content.partition(b"\n")[2]
    return b'{"checksum":"%s",\n%s' % (hashlib.sha256(rest).hexdigest().encode(), rest)


def part_damaged(content: bytes, name: str, draw: random.Random) -> bytes:
    """The content, signed, with something wrong in one part."""
    parts = {each: part for each, part in json.loads(content).items() if each not in ("checksum", name)}
    damaged = json_damaged({name: json.loads(content)[name]}, draw)
    return signed(b"{\n" + json.dumps(parts).encode()[1:-1] + b"," + damaged[1:])


def sentence(text: str, *named) -> None:
    assert "\n" not in text and len(text) < 2000, text
    assert all(str(each) in text for each in named), text


def usable(run, of) -> None:
    """What stands behind the store can work with a run: figures and summaries are numbers, chapters judge it, where it
    is not the run that it comes from but for its settings and surroundings."""
    files.whole(files.text(run).encode(), run.config.key)
    for values in (*run.history.values(), run.final.values(), run.best.values()):
        assert not any(math.isinf(value) for value in values)
    for kinds in run.scores.values():
        for each in kinds.values():
            summary = ScoreSummary.from_dict(each)
            assert len(summary.edges) == len(summary.density) + 1 and math.isfinite(summary.median)
    json.dumps(run.environment, allow_nan=False)
    assert all(isinstance(run.environment.get(name, ""), str) for name in ("precision", "device", "code", "date"))
    same = repr((run.history, run.final, run.best, run.scores)) == repr((of.history, of.final, of.best, of.scores))
    for name in () if same else ("score_histograms", "accuracy", "compactness"):
        claims.judge(rooms()[name].claims, rooms()[name].view([run]))


def find(kept: RunStore, run, content: bytes):
    """What the store says of a file with this content: the run, or None and one sentence."""
    path = kept.root / f"{run.config.key}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = kept.find(run.config)
    assert len(said) == (found is None), [str(each.message) for each in said]
    if found is None:
        sentence(str(said[0].message), path, "counts as absent")
    return found


def test_a_file_that_fails_its_checksum_is_never_used(whole, tmp_path):
    run, content, _ = whole
    kept, draw = RunStore(tmp_path), random.Random(0)
    assert repr(find(kept, run, content)) == repr(run)
    for number in range(200):
        first = number % 2 * (content.index(b"\n") + 1)  # the line of the checksum, or the rest
        part = content[first:] if first else content[: content.index(b"\n")]
        damaged = content.replace(part, bytes_damaged(part, draw))
        assert (find(kept, run, damaged) is None) == (damaged != content)


@pytest.mark.parametrize("name", ["config", "environment", "history", "final", "best", "scores"])
def test_a_file_whose_checksum_fits_but_which_holds_no_run_is_refused(whole, tmp_path, name):
    run, content, _ = whole
    kept, draw, refused = RunStore(tmp_path), random.Random(name), 0
    for number in range(100):
        damaged = part_damaged(content, name, draw) if number % 5 else signed(bytes_damaged(content, draw))
        found = find(kept, run, damaged)
        refused += found is None
        if found:
            usable(found, run)
            assert found.config == run.config
    assert refused > 40


def test_a_file_without_end_is_refused_before_it_is_read(whole, tmp_path):
    run, content, _ = whole
    kept = RunStore(tmp_path)
    find(kept, run, content)
    os.truncate(tmp_path / f"{run.config.key}.json", 2**40)  # holes: a terabyte that takes no room
    with pytest.warns(UserWarning, match="json is larger than any file of a run"):
        assert kept.find(run.config) is None


def test_settings_are_refused_or_make_another_run_with_another_key(whole):
    run, content, _ = whole
    draw, settings = random.Random(2), json.loads(content)["config"]
    for _ in range(200):
        try:
            config = RunConfig.from_dict(files.parse_json(json_damaged(settings, draw)))
        except ValueError as error:
            sentence(str(error))
            continue
        assert (config.key == run.config.key) == (config == run.config)
        assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        assert config.describe() and math.isfinite(config.rate(1)) and math.isfinite(config.rate(config.epochs))


def test_the_record_of_a_failure_is_believed_only_whole(whole, tmp_path):
    run, _, _ = whole
    kept, draw = RunStore(tmp_path), random.Random(3)
    kept.save_failure(run.config, "the loss became nan", run.environment)
    path = tmp_path / f"{run.config.key}.failed.json"
    content, told = path.read_bytes(), kept.failure(run.config)
    for number in range(200):
        path.write_bytes(json_damaged(told, draw) if number % 4 else bytes_damaged(content, draw))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = kept.failure(run.config)
        assert len(said) == (found is None)
        if found is None:
            sentence(str(said[0].message), path)
        else:
            assert isinstance(found["cause"], str) and isinstance(found["environment"]["code"], str)


def test_an_archive_is_taken_in_whole_or_not_at_all(whole, tmp_path):
    run, content, _ = whole
    draw, path, recorded = random.Random(4), tmp_path / "runs.zip", tmp_path / "recorded"
    key, kept = run.config.key, RunStore(tmp_path / "kept")
    find(kept, run, content)
    archive.write(kept, [key], path)
    packed, taken = path.read_bytes(), 0
    directory = packed.index(b"PK\1\2")
    for number in range(160):
        forged = number % 4 == 0
        if forged:
            damaged = part_damaged(content, draw.choice(("config", "environment", "history", "final", "scores")), draw)
            packing = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
            with zipfile.ZipFile(path, "w", packing) as target:
                target.writestr(f"{key}.json", damaged)
        elif number % 4 == 1:  # the directory, which says what there is
            path.write_bytes(packed[:directory] + bytes_damaged(packed[directory:], draw))
        else:
            path.write_bytes(bytes_damaged(packed, draw))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile, of names that stand twice
            try:
                added, there = archive.add(path, recorded)
            except ArchiveError as error:
                sentence(str(error), path, "othing was added")
                assert not recorded.exists() or not list(recorded.iterdir())
                continue
        assert there == [] and [each.config for each in added] == [run.config]
        if forged:
            usable(added[0], run)
        else:
            assert repr(added[0]) == repr(run)
        taken += 1
        (recorded / f"{key}.json").unlink()
    assert 0 < taken < 80


def test_a_data_set_is_the_published_one_or_refused(monkeypatch, tmp_path):
    draw = random.Random(5)
    arrays = {"x_train": np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), "y_train": np.array([0, 1], np.uint8),
              "x_test": np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3), "y_test": np.array([1], np.uint8)}
    sha = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    spec = dataclasses.replace(DATASETS["cifar10"], name="tiny", num_classes=2, train_count=2, test_count=1,
                               image_shape=(4, 4, 3), sha256=sha)
    monkeypatch.setitem(DATASETS, "tiny", spec)
    path = tmp_path / "tiny.npz"
    packed = []
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays, classes=np.array(["cat", "dog"]))
        packed.append(path.read_bytes())
    stored = zipfile.ZipFile(io.BytesIO(packed[0]))
    members = {name: stored.read(name) for name in stored.namelist()}
    same = 0
    for number in range(250):
        if number % 2:
            path.write_bytes(bytes_damaged(draw.choice(packed), draw))
        else:  # a member's header or content, with a checksum that fits
            name = draw.choice(list(members))
            head = draw.choice((10, 128, len(members[name])))
            damaged = bytes_damaged(members[name][:head], draw) + members[name][head:]
            with zipfile.ZipFile(path, "w") as target:
                for each, content in (members | {name: damaged}).items():
                    target.writestr(each, content)
        try:
            found = data.load("tiny", tmp_path)
        except data.DataError as error:
            sentence(str(error), path)
            continue
        same += 1
        assert len(found.classes) == 2
        assert all(np.array_equal(getattr(found, key), array) for key, array in arrays.items())
    assert 0 < same < 200


def test_a_checkpoint_is_whole_or_ignored(whole, tmp_path):
    _, _, state = whole
    draw, folder = random.Random(6), tmp_path / "a"
    checkpoint.save(folder, 1, state)
    path, = folder.iterdir()
    content = path.read_bytes()
    sign = lambda payload: hashlib.sha256(payload).digest() + payload  # noqa: E731
    for number in range(150):
        if number % 3 == 0:
            path.write_bytes(bytes_damaged(content, draw))
        elif number % 3 == 1:
            path.write_bytes(sign(bytes_damaged(content[32:], draw)))
        else:
            damaged = dict(state)
            name = draw.choice(list(damaged))
            change = draw.choice([*VALUES[:-len(RAW)], torch.zeros(3), math.nan, {"a": [1.0]}])
            damaged |= {name: change} if draw.random() < 0.8 else {}
            if damaged[name] is state[name]:
                del damaged[name]
            stream = io.BytesIO()
            torch.save(damaged, stream)
            path.write_bytes(sign(stream.getvalue()))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = checkpoint.latest(folder)
        said = [each for each in said if str(path) in str(each.message)]
        assert len(said) == (found is None)
        if found is None:
            sentence(str(said[0].message), path, "is ignored")
        else:
            assert found.get("engine") != state["engine"] or checkpoint.problem(found) == ""


def test_findings_are_shown_or_named(tmp_path):
    """Those of a chapter of theory, and of one whose runs are not there."""
    draw, refused = random.Random(7), 0
    for chapter, runs in (("two_geometries", None), ("score_histograms", [])):
        path = tmp_path / "quick" / f"{chapter}.json"
        path.parent.mkdir(exist_ok=True)
        payload = claims.payload(chapter, "quick", claims.judge(rooms()[chapter].claims, runs), [], 4)
        path.write_text(content := json.dumps(payload))
        assert findings.read(path).claims
        for number in range(60):
            path.write_bytes(json_damaged(payload, draw) if number % 4 else bytes_damaged(content.encode(), draw))
            try:
                page = findings.read(path)
            except ValueError as error:
                sentence(str(error), path, "build its chapter again")
                refused += 1
                continue
            assert (page.profile, page.chapter) == ("quick", chapter)
            found = {("quick", chapter): page}
            assert scoreboard.headlines(found) and scoreboard.page(found)
    assert refused > 40


def test_the_store_knows_how_many_quantiles_a_summary_has():
    assert schema.LEVELS == len(QUANTILES)


@pytest.mark.parametrize(("arguments", "says"), [
    (["serve", "--port", "99999"], "--port"), (["serve", "--port", "-1"], "--port"),
    (["serve", "--port", "x"], "--port"), (["import", "missing.zip"], "missing.zip is not there"),
    (["import", "."], ". is no file"), (["import"], "archive"), (["train", "--jobs", "0"], "--jobs"),
    (["train", "--jobs", "many"], "--jobs"), (["train", "--device", "tpu"], "'tpu'"),
    (["record", "--budget", "nan", "--out", "x"], "budget is 'nan'"),
    (["record", "--budget", "-1s", "--out", "x"], "budget"), (["record", "--budget", "9s"], "--out"),
    (["record", "--budget", "9s", "--out", "{file}"], "is a file"), (["build", "--out", "{file}/x"], "is a file"),
    (["build", "--only", "x"], "no chapter 'x'"), (["build", "--data", "{file}"], "is a file"),
    (["runs", "--data", "{file}"], "is a file"), (["doctor", "--data", "{file}/a/b"], "is a file"),
    (["data", "mnist", "--data", "{file}"], "is a file"), (["data", "svhn"], "no data set 'svhn'"),
    (["train", "--match", "vgg"], "no run of the profile quick matches 'vgg'"),
    (["train", "--chapter", "bias_saturates"], "it needs no runs"),
    (["train", "--chapter", "fine_tuning"], "fine_tuning trains nothing in the profile quick, only in"),
    (["record", "--budget", "a while", "--out", "x"], "write a time such as 90s, 9m or 2h"),
    (["data", "--profile", "x"], "no profile 'x'"), (["runs", "--chapter", "x"], "no chapter 'x'"),
    (["runs", "--match"], "--match"), (["runs", "--no-such-option"], "--no-such-option"), (["unknown"], "unknown"),
])
def test_wrong_use_is_one_sentence(arguments, says, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bcebook", *(each.format(file=tmp_path / "file") for each in arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert end.value.code == 2 and says in said.err and said.err.count("\n") == 1 and said.out == "", said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing was begun
