"""When a page is executed again: what it can import, what its digest covers; and that no user's setting reaches it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bcebook.book import digests, execute
from bcebook.chapters import catalog
from bcebook.chapters.registry import rooms
from bcebook.chapters.script import Script
from bcebook.paths import PACKAGE

FORMS = {  # form of an import in the notebook -> what of the package it reaches
    "import house.a.one": ["", "a", "a.one"],
    "import house.a.one as one": ["", "a", "a.one"],
    "from house.a import one": ["", "a", "a.one"],
    "from house.a.one import thing": ["", "a", "a.one"],
    "from house.a.one import *": ["", "a", "a.one"],
    "from house.a import *": ["", "a", "a.one", "a.two", "b"],
    "def later():\n    if True:\n        from house.a import one": ["", "a", "a.one"],
    "x = lazy('house.a.one')": ["", "a", "a.one"],
    "x = importlib.import_module('house.a.one')": ["", "a", "a.one"],
    "from house import short": ["", "b"],
    "from house import short as s": ["", "b"],
    "import house\nhouse.short.f()": ["", "b"],
    "import house as h\nh.short.f()": ["", "b"],
    "import house\nhouse.a.one.f()": ["", "a", "a.one"],
    "from house import a\na.one.f()": ["", "a", "a.one"],
    "from house.a.two import thing": ["", "a", "a.two", "b"],
    "from house import relative": ["", "relative", "a", "a.one", "b", "a.two", "up", "up.here", "up.there"],
    "from house import registry": ["", "registry"],
    "from house import circle": ["", "circle", "round"],
    "import household\nfrom house_of import cards\n'see house.a.one for more'": [],
    "this is not Python": [],
}


@pytest.fixture
def house(tmp_path) -> Path:
    """A package with every form of import between its modules."""
    for name, text in {
        "__init__": "_HOMES = {'short': 'b'}\ndef __getattr__(name):\n    ...",
        "a/__init__": "", "a/one": "import json, numpy.linalg", "a/two": "def f():\n    import house.b",
        "b": "", "relative": "from . import a\nfrom .a import one\nfrom .up.here import x\nfrom .a.two import y",
        "up/__init__": "from .there import z", "up/there": "",
        "up/here": "from .. import b\nfrom ..a import one\nfrom . import there",
        "registry": "import importlib, pkgutil\n"
                    "for m in pkgutil.iter_modules():\n    importlib.import_module(f'house.{m.name}')",
        "circle": "from house import round", "round": "from house import circle", "alone": "",
    }.items():
        path = tmp_path / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "house"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_import_is_followed(house, form):
    (house.parent / "notebook.py").write_text(form)
    found = digests.closure(house.parent / "notebook.py", house)
    parts = [file.relative_to(house).with_suffix("").parts for file in found]
    assert sorted(".".join(part for part in each if part != "__init__") for each in parts) == sorted(FORMS[form])


def test_a_module_belongs_to_its_own_closure(house):
    assert digests.closure(house / "alone.py", house) == {house / "alone.py"}


def test_whatever_a_chapter_has_imported_is_in_its_closure():
    """The whole script is executed, lazy imports included (the laptop's runs are recorded: nothing is trained)."""
    name = "learning_rates"
    code = """
import pathlib, sys
text = pathlib.Path(sys.argv[1]).read_text().replace('profile = "quick"', 'profile = "laptop"')
exec(compile(text, "chapter", "exec"))
import sys
ours = [module for name, module in sys.modules.items() if name.split(".")[0] == "bcebook"]
print(*("IMPORTED " + module.__file__ for module in ours), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code, digests.BOOK / f"{name}.py"], capture_output=True,
                          text=True, env=execute.without_startup() | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    imported = {Path(line.split(" ", 1)[1]) for line in done.stdout.splitlines() if line.startswith("IMPORTED ")}
    rooms = {PACKAGE / "chapters" / f"{other}.py" for other in catalog.CHAPTERS if other != name}
    found = digests.closure(digests.BOOK / f"{name}.py")
    assert len(imported) > 10 and imported - rooms <= found
    assert PACKAGE / "cli.py" not in found and PACKAGE / "book" / "build.py" not in found  # it is not everything


def test_the_chapters_can_import_what_all_share_and_few_of_each_others_rooms():
    found = {name: digests.closure(digests.BOOK / f"{name}.py") for name in catalog.CHAPTERS}
    reaching = lambda module: {name for name, files in found.items() if PACKAGE / module in files}  # noqa: E731
    assert reaching("cli.py") == set() and reaching("book/notebook.py") == set(catalog.CHAPTERS)
    for name in catalog.CHAPTERS:
        if isinstance(rooms()[name], Script):  # it has no module of its own
            assert name in reaching("book/chapter.py") and name in reaching("chapters/experiments.py")
            continue
        reached = reaching(f"chapters/{name}.py")
        assert name in reached and len(reached) <= len(found) / 2, f"{name} reaches {reached}"


def test_a_change_reaches_the_chapters_that_can_import_it_and_no_other(tmp_path, monkeypatch):
    copy, book = tmp_path / "bcebook", tmp_path / "book"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(digests.BOOK, book, ignore=shutil.ignore_patterns("_build", "*.ipynb"))
    monkeypatch.setattr(digests, "PACKAGE", copy)
    monkeypatch.setattr(digests, "BOOK", book)
    monkeypatch.setattr(digests, "tools", lambda: "")
    chapters = ("initial_bias", "score_histograms", "two_geometries")
    closures = {name: digests.closure(book / f"{name}.py", copy) | {book / f"{name}.py"} for name in chapters}

    def state() -> dict[str, str]:
        return {name: digests.chapter_digest(name, "quick", tmp_path / "data") for name in chapters}

    before = state()
    assert state() == before
    for path in (copy / "cli.py", copy / "report" / "frames.py", copy / "chapters" / "score_histograms.py",
                 book / "two_geometries.py"):
        path.write_text(path.read_text() + "\n# touched\n")
        after = state()
        reached = {name for name in chapters if path in closures[name]}
        assert {name for name in chapters if after[name] != before[name]} == reached, path
        before = after


# --- execution -------------------------------------------------------------------------------------------------------

TINY = """# ---
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
import os, sys
import matplotlib
import matplotlib.pyplot as plt
from IPython.display import display
import warnings
warnings.warn("only said")
assert "PYTHONSTARTUP" not in os.environ and "PYTHONWARNINGS" not in os.environ
assert [name for name, value in os.environ.items() if "of-another" in value] in ([], ["PIP_INDEX_URL"])
assert not [folder for folder in sys.path if "of-another" in folder]
import bcebook
from bcebook.runs.provenance import now
display({"text/plain": str(now())}, raw=True)
assert matplotlib.rcParams["lines.linewidth"] == 1.5
found = {"profile": "quick", "python": sys.executable, "library": bcebook.__file__}
display({"text/plain": "found", "application/vnd.bcebook.findings+json": found}, raw=True)

# %% mystnb={"figure": {"name": "fig-tiny"}}
plt.plot([1, 2]);
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A book of small chapters: tiny(name=source, ...) executes it; None: there is no notebook."""
    monkeypatch.setattr(digests, "BOOK", tmp_path / "book")
    monkeypatch.setattr(catalog, "configs", lambda name, profile: [])
    (tmp_path / "book").mkdir()

    def run(**sources: str | None) -> tuple[dict, list[str]]:
        monkeypatch.setattr(catalog, "CHAPTERS", dict.fromkeys(sources, "A title"))
        for name, text in sources.items():
            if text is not None:
                (tmp_path / "book" / f"{name}.py").write_text(text)
        said = []
        return execute.execute("quick", "cpu", tmp_path / "data", tmp_path / "out", 2, said.append), said

    return run


# What a shell says of other environments. (With a PYTHONHOME of another Python this one would not start.)
OTHERS = dict.fromkeys(["PYTHONPATH", "PYTHONUSERBASE", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PIP_USER",
                        "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"], "of-another")
BARE = TINY.split("import os, sys")[0]  # nothing is drawn, nothing found


def test_what_is_kept_of_notebooks_whatever_a_user_has_set(tiny, tmp_path, monkeypatch):
    """A user's settings reach no page: another python3 kernel, a backend without pictures, start-up files, warnings as
    errors would each break the first build. A figure without a picture has failed. Findings go with their notebook."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    for folder in (kernel, startup):
        folder.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "mine", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    (startup / "own.py").write_text("import os; os._exit(1)")
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\n")
    out, drawn = tmp_path / "out", "\n# %% mystnb={\"figure\": {\"name\": \"fig-tiny\"}}\n1 + 1\n"
    findings, notebooks = out / "findings" / "quick", out / "notebooks" / "quick"
    findings.mkdir(parents=True)
    (findings / "other.json").write_text("{}")  # of a chapter that is no more
    with monkeypatch.context() as patch:
        for name, value in {"JUPYTER_PATH": tmp_path / "jupyter", "IPYTHONDIR": tmp_path / "ipython",
                            "MPLBACKEND": "agg", "MATPLOTLIBRC": tmp_path, "PYTHONWARNINGS": "error::UserWarning",
                            "PYTHONSTARTUP": "/nothing.py", "SOURCE_DATE_EPOCH": "86400", "PIP_INDEX_URL": "of-another", **OTHERS}.items():
            patch.setenv(name, str(value))
        failures, _ = tiny(tiny=TINY, planned=None)
    # A chapter without a notebook stops no other.
    assert list(failures) == ["planned"] and "planned.py" in failures["planned"]
    assert [path.name for path in findings.iterdir()] == ["tiny.json"]
    found = json.loads((findings / "tiny.json").read_text())
    assert os.path.normpath(found["python"]) == os.path.normpath(sys.executable)
    assert Path(found["library"]).parent == PACKAGE  # the kernel has the library that executes it
    good = (notebooks / "tiny.ipynb").read_bytes()
    assert b"1970-01-02" in good and not re.search(rb"20\d\d-\d\d-\d\d", good)  # SOURCE_DATE_EPOCH decides every date
    failures, _ = tiny(tiny=BARE + drawn)
    assert list(failures) == ["tiny"]
    assert failures["tiny"].startswith("in cell 2 (1 + 1): no picture was produced")
    assert (notebooks / "tiny.ipynb").read_bytes() == good and execute.failed_before("quick", out) == failures
    assert [path.name for path in findings.iterdir()] == ["tiny.json"]
    assert tiny(tiny=TINY) == ({}, ["    tiny: up to date"]) and execute.failed_before("quick", out) == {}
    (findings / "tiny.json").unlink()  # what is not there is made
    failures, said = tiny(tiny=TINY)
    assert failures == {} and "up to date" not in said[0] and (findings / "tiny.json").exists()
    failures, _ = tiny(tiny=BARE)
    assert failures == {} and not list(findings.iterdir())  # nothing is found any more, nothing is left behind
