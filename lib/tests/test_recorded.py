"""The book of recorded runs: every chapter has some, nothing is trained, and each page says what it was made from."""

import json
import re

import pytest

from bcebook.book import build
from bcebook.book.notebook import Chapter, recorded_profile
from bcebook.chapters.registry import rooms
from bcebook.cli import main
from bcebook.paths import REPOSITORY
from bcebook.runs.store import open_store


@pytest.fixture
def data(tmp_path):
    """A data folder that has the repository's recorded runs, and none that were trained."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "recorded").symlink_to(REPOSITORY / "data" / "recorded")
    return tmp_path / "data"


@pytest.mark.parametrize("name", [name for name, room in rooms().items() if room.runs])
def test_every_chapter_with_runs_has_recorded_ones_of_its_strongest_profile(name, data):
    room, store = rooms()[name], open_store(data, recorded=True)
    profile = recorded_profile(room, data)
    assert any(store.has(config) for config in room.configs(profile))
    stronger = {"quick": ("laptop", "paper"), "laptop": ("paper",), "paper": ()}[profile]
    others = [config for other in stronger for config in room.configs(other) if config not in room.configs(profile)]
    assert not any(map(store.has, others))


def test_a_chapter_of_recorded_runs_trains_none_and_takes_none_that_was_trained_here(data, capsys):
    chapter = Chapter(rooms()["accuracy"], "recorded", data_dir=data)
    recorded = {run.config.key for run in chapter.runs()}
    assert len(recorded) >= 14 and not (data / "runs").exists()
    moved = next(path for path in (REPOSITORY / "data" / "recorded").iterdir() if path.stem in recorded)
    (data / "recorded").unlink()
    (data / "recorded").mkdir()
    (data / "runs").mkdir()
    (data / "runs" / moved.name).symlink_to(moved)  # as if it had been trained here
    with pytest.raises(ValueError, match="recorded holds no run of this chapter"):
        Chapter(rooms()["accuracy"], "recorded", data_dir=data).runs()


def test_a_page_of_recorded_runs_says_so_and_a_build_where_it_is(data, tmp_path):
    said = []
    assert build.build("recorded", "cpu", data, 1, tmp_path / "out", "accuracy", say=said.append) == 0
    assert not (data / "runs").exists(), "nothing was trained"
    page = (tmp_path / "out" / "html" / "accuracy.html").read_text()
    assert re.search(r"Made from recorded runs: ResNet9 on CIFAR10, \d seeds \(profile laptop", page) and "Nothing was trained" in page
    assert "1 of 1 notebooks" in "".join(said) and f"open {tmp_path / 'out' / 'html' / 'index.html'}" in said[-1]
    findings = json.loads((tmp_path / "out" / "findings-recorded" / "laptop" / "accuracy.json").read_text())
    assert findings["runs"] >= 14 and not (tmp_path / "out" / "findings").exists()
    assert not list((tmp_path / "out" / "html").rglob("*.map")) and (tmp_path / "out/html/_static/mathjax/tex-chtml.js").exists()


@pytest.mark.parametrize("arguments", [["--profile", "laptop"], ["--rehearse"], ["--on", "ray"]])
def test_recorded_goes_with_nothing_that_trains(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bcebook", "build", "--recorded", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and "--recorded trains nothing" in capsys.readouterr().err
