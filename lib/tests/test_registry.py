"""The rooms, and everything that is derived from them: one place for each fact, and a chapter is a few files."""

import re
import subprocess
import sys

import jupytext
import pytest

from bcebook import paper
from bcebook.book import findings, pages, run_list
from bcebook.chapters import catalog
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.chapters.room import PARTS, Room
from bcebook.chapters.script import Script
from bcebook.paths import REPOSITORY
from bcebook import claims

BOOK = REPOSITORY / "book"
HEAVY = ("numpy", "scipy", "torch", "pandas", "matplotlib", "seaborn", "IPython", "sklearn")


def test_importing_the_registry_loads_nothing_heavy():
    code = f"import sys; from bcebook.chapters import catalog; print([name for name in {HEAVY} if name in sys.modules], len(catalog.CHAPTERS))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[]", str(len(rooms()))]


def test_rooms_are_in_reading_order_and_complete():
    order = [(list(PARTS).index(room.part), room.number) for room in rooms().values()]
    assert order == sorted(order) and len(set(order)) == len(order) >= 12
    for name, room in rooms().items():
        assert room.name == name and room.asks.endswith("?") and room.claims, name
        assert set(room.items) <= set(paper.ITEMS)
        assert all(claim.name.startswith(f"{name}.") and not claim.text.endswith(".") for claim in room.claims)
        assert all(claim.theory for claim in room.claims) or room.runs, "a claim about runs needs runs"
        assert bool(room.figures) == bool(room.runs), "what other profiles show are figures of runs"
    claims = [claim.name for room in rooms().values() for claim in room.claims]
    assert len(set(claims)) == len(claims)


def test_every_chapter_is_a_room_a_script_and_a_notebook():
    assert {p.stem for p in BOOK.glob("*.ipynb")} == set(rooms()) == {p.stem for p in BOOK.glob("*.py")} - {"conf"}
    for name, room in rooms().items():
        source = (BOOK / f"{name}.py").read_text()
        opened = f'book.open("{name}", ' if isinstance(room, Script) else f"from bcebook.chapters import {name} as room\n"
        assert f"# # {room.title}\n" in source and opened in source
        assert (REPOSITORY / "lib" / "tests" / f"test_{name}.py").exists()


def test_a_notebook_shows_every_figure_and_table_of_its_room_and_holds_no_machinery():
    for name, room in rooms().items():
        if isinstance(room, Script):
            continue
        code = "\n".join(cell.source for cell in jupytext.read(BOOK / f"{name}.py").cells if cell.cell_type == "code")
        for view in (*room.figures, *room.tables):
            assert f"room.{view.__name__}(" in code, f"{name} does not show {view.__name__}"
        assert "chapter.findings(" in code and "chapter.provenance(" in code
        assert not re.search(r"^\s*(for|def|while|class|with) |lambda|import (numpy|pandas|torch|matplotlib)", code, re.M), name


@pytest.mark.parametrize("script", [room for room in rooms().values() if isinstance(room, Script)], ids=lambda room: room.name)
def test_a_script_is_short_and_complete(script):
    """At most 200 lines of code, no cell over 40; every view is shown, and what the page needs is called."""
    cells = [cell.source for cell in jupytext.read(script.path).cells if cell.cell_type == "code"]
    lines = [[line for line in cell.splitlines() if line.strip()] for cell in cells]
    assert max(map(len, lines)) <= 40 and sum(map(len, lines)) <= 200, [len(cell) for cell in lines]
    code = "\n".join(cells)
    assert all(f"{view.__name__}(runs)" in code for view in script.figures)
    assert all(part in code for part in ("result(", "chapter.judge(CLAIMS", "chapter.provenance()"))
    assert "chapter.rebuilt(VIEWS, CLAIMS)" in code or not script.runs


def test_a_header_that_says_too_little_is_refused(tmp_path):
    text = (BOOK / "accuracy.py").read_text()
    for old, new, sentence in (("    part: tables", "    part: nowhere", "in no part 'nowhere'"),
                               ("    number: 1", "    number: one", "does not say number"),
                               ("    short: ", "    shorter: ", "does not say short"),
                               ("    experiment: accuracy", "    experiment: none-such", "there is no experiment"),
                               ("    items:", "    colour: red\n#     items:", "unknown or wrong colour")):
        assert old in text
        (tmp_path / "x.py").write_text(text.replace(f"# {old}" if old[0] == "#" else old, new, 1))
        with pytest.raises(ValueError, match=sentence):
            Script(tmp_path / "x.py")


def test_the_index_lists_every_chapter_in_its_part():
    text, index = pages.chapters() + pages.contents(), (BOOK / "index.md").read_text()
    assert all(mark in index for mark in ("<!-- chapters -->", "<!-- contents -->", "<!-- findings -->"))
    for name, room in rooms().items():
        assert f"[{room.title}]({name})" in text and re.search(rf":caption: {PARTS[room.part]}\n(?:\n|\d+ .+\n)*\d+ {room.short} <{name}>\n", text), name
        assert not re.search(rf"\({name}\)|<{name}>|`{name}`|{name}\.html", index), "the index names no chapter by hand"


def test_readmes_table_is_the_rooms():
    text = (REPOSITORY / "README.md").read_text()
    assert text == pages.replace_block(text, "chapters", pages.readme()), 'run: python -c "from bcebook.book import pages; pages.update_readme()"'
    with pytest.raises(ValueError, match="no place for 'nothing'"):
        pages.replace_block(text, "nothing", "")


def test_the_command_line_knows_the_rooms():
    out = subprocess.run([sys.executable, "-c", "from bcebook.cli import main; main()", "train", "--help"], capture_output=True, text=True)
    assert all(name in out.stdout.replace("\n", "").replace(" ", "") for name in rooms())
    assert list(catalog.CHAPTERS) == list(rooms()) and list(catalog.PROFILES) == list(PROFILES)


def test_every_figure_and_table_of_the_paper_has_a_chapter_or_a_reason():
    for key, item in paper.ITEMS.items():
        assert [room for room in rooms().values() if key in room.items] or item.missing, key


def test_a_room_in_no_part_and_two_rooms_in_one_place_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="in no part 'nowhere'; choose one of figures"):
        Room(name="x", title="X", part="nowhere", number=1, of_the_paper="", asks="?")
    with pytest.raises(ValueError, match="there is no profile 'slow'"):
        next(iter(rooms().values())).configs("slow")
    with pytest.raises(ValueError, match="seeds is empty"):
        next(iter(rooms().values())).configs("quick", ())


def test_a_new_chapter_is_a_room_and_a_pair(built):
    """Three files have been added to the checkout of the tiny book, and it has a page, a place in the index, in the
    contents and on the scoreboard."""
    html = {name: (built[1] / "html" / f"{name}.html").read_text() for name in ("throwaway", "index", "scoreboard")}
    assert "A new chapter is found: proved." in html["throwaway"]
    assert html["index"].count("A chapter that a test adds") >= 2 and "is it found?" in html["index"]
    assert "A new chapter is found" in html["scoreboard"] and "proved" in html["scoreboard"]


def test_the_page_of_runs_tells_what_each_chapter_stands_on():
    page = findings.Page("accuracy", "laptop", 7, 12, (0, 1), (("resnet9", "cifar10"),), (), seconds=5430)
    theory = findings.Page("minima", "laptop", 0, 0, (), (), ())
    text = run_list.page({("laptop", "accuracy"): page, ("laptop", "minima"): theory})
    line, = [line for line in text.splitlines() if "(accuracy)" in line]
    assert [cell.strip() for cell in line.strip("|").split("|")][1:] == [
        "7 of 12", "ResNet9 on CIFAR10", "0, 1", "90.5 minutes of training"]
    assert "minima" not in text and "## Profile laptop" in text and "Profile quick" not in text


def test_every_run_is_listed_once_with_all_chapters_that_show_it(eight):
    listed = tuple(claims.in_short(run) for run in eight)
    pages_of = {("laptop", name): findings.Page(name, "laptop", 8, 8, (0,), (), (), listed=chosen)
                for name, chosen in (("initial_bias", listed), ("neural_collapse", listed[:3]))}
    text = run_list.every_run(pages_of)
    lines = [line for line in text.splitlines() if line.startswith("| ResNet8")]
    assert len(lines) == 8 and "nan" not in text
    assert sum("Classifier bias, Neural collapse" in line for line in lines) == 3
    for run, line in zip(eight, lines, strict=True):
        assert run.config.key in line and f"{100 * run.final['test_accuracy']:.1f}" in line
        assert f"{run.environment['seconds'] / 60:.1f}" in line
    assert "No run" in run_list.every_run({})
