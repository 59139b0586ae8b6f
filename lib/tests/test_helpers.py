"""Killed helpers and full disks while the book is made: one sentence, and nothing half-made is left behind."""

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from bcebook.book import digests, execute, pages, render
from bcebook.chapters import catalog

NOTEBOOK = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
profile = "quick"
device = "cpu"

# %%
"""
KILL = """import os, pathlib, signal, time
here = pathlib.Path(os.environ["BCEBOOK_DATA"]).parent
until = time.monotonic() + 300
while not (here / "out/notebooks/quick/good.json").exists() and time.monotonic() < until:
    time.sleep(0.1)
(here / "pid").write_text(str(os.getpid()))
os.kill(os.getPIDpid(), signal.SIGKILL)  # as the system does when memory runs out
time.sleep(300)
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """book(name=source of a cell, ...) executes a book of these chapters; what failed, and what was said."""
    (tmp_path / "book").mkdir()
    monkeypatch.setattr(digests, "BOOK", tmp_path / "book")
    monkeypatch.setattr(catalog, "configs", lambda name, profile: [])

    def run(**cells: str) -> tuple[dict, list[str]]:
        monkeypatch.setattr(catalog, "CHAPTERS", dict.fromkeys(cells, "A title"))
        for name, cell in cells.items():
            (tmp_path / "book" / f"{name}.py").write_text(NOTEBOOK + cell)
        said = []
        return execute.execute("quick", "cpu", tmp_path / "data", tmp_path / "out", 2, said.append), said

    return run


def _ended(pid: int, seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if b"\nState:\tZ" in Path(f"/proc/{pid}/status").read_bytes():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("who", "names"), [("p", "its kernel"), ("pp", "a worker process of the notebooks")])
def test_a_killed_helper_is_one_sentence_and_leaves_nothing(book, tmp_path, who, names):
    failures, said = book(good="x = 1", bad=KILL.replace("getPIDpid", f"get{who}id"))
    assert list(failures) == ["bad"] and len(said) == 2 and "FAILED" in said[1]
    for part in (names, "most likely because memory ran out", "kept", "the same command goes on", "fewer --jobs"):
        assert part in failures["bad"], failures["bad"]
    assert "\n" not in failures["bad"] and execute.failed_before("quick", tmp_path / "out") == failures
    left = {path.name for path in (tmp_path / "out" / "notebooks" / "quick").iterdir() if path.suffix != ".log"}
    assert left == {"good.ipynb", "good.json", "bad.failed"}
    assert _ended(int((tmp_path / "pid").read_text()))
    if who == "p":
        return
    failures, said = book(good="x = 1", bad="y = 2")
    assert failures == {} and said[0] == "    good: up to date" and said[1].startswith("    bad: ") and len(said) == 2


@pytest.fixture
def pages_of(tmp_path, monkeypatch):
    """pages_of(text, limit) renders a book of one page, with no file beyond `limit` bytes, as on a full disk; whether
    it succeeded, and what was said."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "conf.py").write_text("html_theme = 'basic'\n")
    monkeypatch.setattr(digests, "BOOK", tmp_path / "book")
    monkeypatch.setattr(catalog, "CHAPTERS", {})
    monkeypatch.setattr(pages, "write", lambda *_: None)

    def run(text: str, limit: int | None = None) -> tuple[bool, list[str]]:
        (tmp_path / "book" / "index.rst").write_text(f"A page\n======\n\n{text}\n")
        said = []
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit or soft, hard))
        try:
            return render.render("quick", tmp_path / "out", {}, said.append), said
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)

    return run


@pytest.mark.parametrize("limit", [4_000, 12_000])
def test_a_full_disk_while_rendering_is_one_sentence_and_leaves_nothing(pages_of, tmp_path, monkeypatch, capfd, limit):
    """While the sources are copied, and at one of Sphinx's files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert pages_of("First.") == (True, [])
    good = (tmp_path / "out" / "html" / "index.html").read_bytes()
    rendered, said = pages_of("Second. " * 1_000, limit)
    assert not rendered and len(said) == 1 and "is full" in said[0] and "make room" in said[0], said
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["html", "html.json"]
    assert os.listdir(tmp_path / "temporary") == []
    assert (tmp_path / "out" / "html" / "index.html").read_bytes() == good
    assert pages_of("Second.") == (True, []) and "Second." in (tmp_path / "out" / "html" / "index.html").read_text()


def test_a_page_that_sphinx_refuses_leaves_no_half_book(pages_of, tmp_path, capfd):
    assert pages_of("A reference to :doc:`nothing`.")[0] is False
    assert "unknown document" in capfd.readouterr().err and not (tmp_path / "out" / "html.new").exists()
