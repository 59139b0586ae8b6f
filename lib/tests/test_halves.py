"""Whether the build says that the two halves of a chapter differ."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from bcebook.book import halves
from bcebook.chapters.registry import rooms
from bcebook.paths import REPOSITORY

BOOK = REPOSITORY / "book"
NAME = "score_histograms"


@pytest.fixture
def book(tmp_path):
    """A copy of one chapter, both halves as they are in the repository, an hour old."""
    folder = tmp_path / "book"
    folder.mkdir()
    for name in (f"{NAME}.py", f"{NAME}.ipynb", "jupytext.toml"):
        shutil.copy(BOOK / name, folder)
        os.utime(folder / name, (time.time() - 3600,) * 2)
    assert halves.differences(folder, [NAME]) == []
    return folder


def _edit(book) -> None:
    """What another editor than JupyterLab does: a sentence more in the .ipynb alone."""
    path = book / f"{NAME}.ipynb"
    content = json.loads(path.read_text())
    content["cells"][0]["source"].append("\n\nA sentence that only this half has.")
    path.write_text(json.dumps(content))


def test_the_halves_of_every_chapter_agree_and_the_light_reader_suffices(monkeypatch):
    """Jupytext cannot be imported here, so that no chapter needs it when nothing has changed."""
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert halves.differences(BOOK, rooms()) == []


def test_comparing_the_whole_book_costs_next_to_nothing():
    """Of this process's time: others may have the machine."""
    spent = []
    for _ in range(5):
        began = time.process_time()
        halves.differences(BOOK, rooms())
        spent.append(time.process_time() - began)
    assert min(spent) < 0.1, spent


def test_an_edited_notebook_is_named_with_the_way_back_which_works(book):
    _edit(book)
    line, = halves.differences(book, [NAME, "not_there"])
    assert f"book/{NAME}.py and .ipynb differ" in line and "the newer, which is the .ipynb" in line
    assert f"`jupytext --sync book/{NAME}.py`" in line and "\n" not in line
    subprocess.run([sys.executable, "-m", "jupytext", "--sync", f"book/{NAME}.py"], cwd=book.parent, check=True,
                   capture_output=True)
    assert halves.differences(book, [NAME]) == []
    assert "A sentence that only this half has." in (book / f"{NAME}.py").read_text()


def test_an_edited_source_is_newer(book):
    with open(book / f"{NAME}.py", "a") as file:
        file.write("\n# %%\n1 + 1\n")
    assert "the newer, which is the .py, over into the .ipynb" in halves.differences(book, [NAME])[0]


@pytest.mark.parametrize("change", ["outputs", "spaces"])
def test_what_is_no_difference_in_the_cells_is_none(book, change):
    path = book / f"{NAME}.ipynb"
    content = json.loads(path.read_text())
    code = next(cell for cell in content["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["x"]}]
    if change == "spaces":
        code["source"] = "".join(code["source"]) + "\n"
    path.write_text(json.dumps(content))
    assert halves.differences(book, [NAME]) == []


def test_what_only_jupytext_knows_of_the_format_is_no_difference(book):
    """A magic stands behind a comment sign in the text half: the light reader takes it for another source."""
    _edit(book)
    content = json.loads((book / f"{NAME}.ipynb").read_text())
    content["cells"].append({"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
                             "source": ["%time 1"]})
    (book / f"{NAME}.ipynb").write_text(json.dumps(content))
    subprocess.run([sys.executable, "-m", "jupytext", "--sync", f"book/{NAME}.py"], cwd=book.parent, check=True,
                   capture_output=True)
    assert "# %time 1" in (book / f"{NAME}.py").read_text()
    assert halves.differences(book, [NAME]) == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"cells": 3}', '{"cells": [{}]}', "[" * 100_000, "\0"])
def test_a_damaged_notebook_is_named(book, content):
    (book / f"{NAME}.ipynb").write_text(content)
    line, = halves.differences(book, [NAME])
    assert f"book/{NAME}.ipynb cannot be read" in line and "\n" not in line


def test_the_build_says_it(book, tmp_path, monkeypatch):
    from bcebook.book import digests, execute

    _edit(book)
    monkeypatch.setattr(digests, "BOOK", book)
    monkeypatch.setattr(execute, "_up_to_date", lambda *arguments: True)
    said = []
    assert execute.execute("quick", "cpu", tmp_path / "data", tmp_path / "out", 1, said.append, NAME) == {}
    assert len([line for line in said if "differ" in line and f"{NAME}.ipynb" not in line]) == 1, said
