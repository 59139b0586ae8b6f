"""The list of many runs: as the store says, without reading what was read before; a cache that can be lost or damaged."""

import dataclasses
import json
import os
import warnings

import pytest

from bcebook.runs import files, index
from bcebook.runs.store import RunStore, open_store
from test_store import make_run


@pytest.fixture
def stored(small, tmp_path):
    """(store, three configurations: trained, recorded, missing)."""
    store = open_store(tmp_path)
    run = make_run(small())
    RunStore(tmp_path / "runs").save(run)
    other = dataclasses.replace(run, config=small(seed=1))
    RunStore(tmp_path / "recorded").save(other)
    return store, [small(), small(seed=1), small(seed=2)]


def lines(store, configs) -> list[tuple]:
    return [(each.config, each.state, each.accuracy, each.there) for each in store.listing(configs)]


def test_a_listing_says_what_the_store_says_and_reads_nothing_twice(stored, monkeypatch):
    store, configs = stored
    first = lines(store, configs)
    accuracy = store.find(configs[0]).final["test_accuracy"]
    assert first == [(configs[0], "trained", accuracy, True), (configs[1], "recorded", accuracy, True), (configs[2], "missing", None, False)]
    assert [state for _, state, *_ in first] == [store.state(config) for config in configs]
    monkeypatch.setattr(files, "content", lambda path: pytest.fail(f"{path} was read"))
    assert lines(store, configs[:2]) == first[:2]


@pytest.mark.parametrize("file", ["result.json", "history.csv", "checksums.json"])
def test_a_file_that_was_altered_or_removed_since_is_noticed(stored, file):
    """Also where its size is the same; and what was repaired is there again."""
    store, configs = stored
    lines(store, configs)
    path = store.root / configs[0].key / file
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b"x\n")
    with pytest.warns(UserWarning, match="is damaged"):
        assert lines(store, configs)[0][1] == "missing"
    path.write_bytes(content)
    assert lines(store, configs)[0][1] == "trained"
    path.unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        assert lines(store, configs)[0][1] == "missing"


@pytest.mark.parametrize("spoil", [
    lambda text: text[: len(text) // 2], lambda text: "[]", lambda text: "", lambda text: text.replace('"rules"', '"rule"'),
    lambda text: json.dumps({"rules": index.rules(), "runs": {"x": 1}}), lambda text: json.dumps({"rules": index.rules(), "runs": []}),
    lambda text: text.replace("0.", "7.")])
def test_an_index_that_is_damaged_or_of_other_rules_is_made_anew(stored, spoil):
    store, configs = stored
    expected, path = lines(store, configs), store.root / index.NAME
    path.write_text(spoil(path.read_text()))
    assert lines(store, configs) == expected and lines(store, configs) == expected


def test_a_store_that_cannot_be_written_to_is_listed_all_the_same(stored, monkeypatch):
    store, configs = stored

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(index.atomic, "write", full)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [line[1] for line in lines(store, configs)] == ["trained", "recorded", "missing"]
    assert not (store.root / index.NAME).exists()
