"""What several tests share: real data sets where they are there, one small configuration, a built book, a browser."""

import compileall
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import pytest

from bcebook.chapters import catalog
from bcebook.runs.config import RunConfig
from bcebook.runs.store import open_store
from bcebook.paths import REPOSITORY, data_dir
from tiny_book import KINDS, NOTEBOOK, ROOM, SHADOWS, started

# What a shell starts in the background ignores Ctrl-C, and so do the processes that tests start and press it in.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also the long tests: the whole quick book, JupyterLab")


# Files whose tests wait for minutes, one after the other: first, so that no worker is left alone with them at the end.
LONGEST = ("test_on_ray", "test_book", "test_hostile", "test_registry", "test_execution", "test_cli", "test_rehearsal")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--all"):
            item.add_marker(pytest.mark.skip(reason="only with `bash ci/test --all`"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With --dist loadfile a worker takes the tests of a file together, for they share fixtures; here one also takes all
    files that look at the built book. (pytest-xdist 3.8 does not see its own xdist_group with pytest 9.2.)"""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByBook(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "book" if Path(file).stem in ("test_book", "test_hostile", "test_registry") else file

    return ByBook(config, log)


@pytest.fixture
def small():
    """A configuration that trains in a blink: small(loss="ce", ...) changes what it names."""

    def make(**changes) -> RunConfig:
        settings = dict(dataset="digits", model="mlp", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2,
                        train_size=300, lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0)
        if changes.get("decay") == "global":
            settings |= dict(weight_decay=5e-4, lambda_w=None, lambda_h=None, lambda_b=None)
        return RunConfig(**(settings | changes))

    return make


@pytest.fixture
def real():
    """real("mnist") loads a full data set that cannot be bundled, or skips where this machine does not have it."""

    from bcebook.training import datasets as data  # here: pytest's first process runs no test, and loads no torch

    def load(name: str):
        if not data.archive(name).exists():
            pytest.skip(f"{name} is not in {data_dir() / 'datasets'}; `bcebook data {name}` fetches it")
        return data.load(name)

    return load


@pytest.fixture(scope="session")
def eight():
    """Eight recorded runs: ResNet8 on MNIST and CIFAR10 without augmentation, both losses and optimizers, one seed."""
    store = open_store(REPOSITORY / "data")
    configs = [c for c in catalog.configs("neural_collapse", "laptop", (0,)) if c.model == "resnet8"]
    runs = [run for config in configs if (run := store.find(config))]
    assert len(runs) == 8
    return runs


@pytest.fixture(scope="session")
def checkout():
    """A copy of the repository that can only be read, with the chapters KINDS alone and one that a test has written, in
    a folder that other users can read (pytest's own are closed). What a chapter says of one that is not there is no
    fault here."""
    import jupytext
    import nbformat

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    copy = folder / "checkout"
    ignored = shutil.ignore_patterns(".*", "_build", "__pycache__", "datasets", "recorded", "*.egg-info", "tests")
    for name in ("book", "lib", "ci", "data/paper", "data/theory"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=ignored)
    shutil.copy(REPOSITORY / "requirements.txt", copy)
    for path in (copy / "book").glob("*.py"):
        if path.stem not in ("conf", *KINDS):
            for other in (path, path.with_suffix(".ipynb"), copy / "lib" / "bcebook" / "chapters" / path.name):
                other.unlink(missing_ok=True)  # a script has no module
    with open(copy / "book" / "conf.py", "a") as file:
        file.write('suppress_warnings += ["ref.doc", "ref.eq", "myst.xref_missing"]\n')
    (copy / "lib" / "bcebook" / "chapters" / "throwaway.py").write_text(ROOM)
    # A chapter begins with its kernel and jupytext's settings.
    header = (REPOSITORY / "book" / f"{KINDS[0]}.py").read_text().partition("# %% [markdown]")[0]
    (copy / "book" / "throwaway.py").write_text(header + NOTEBOOK)
    nbformat.write(jupytext.read(copy / "book" / "throwaway.py"), copy / "book" / "throwaway.ipynb")
    for name in SHADOWS:  # beside the notebooks, in the folder where their kernels work
        (copy / "book" / f"{name}.py").write_text("import os; os._exit(77)\n")
    compileall.compile_dir(copy / "lib", quiet=1)  # once, for all processes that cannot write here
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield copy
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def built(checkout, tmp_path_factory):
    """(data folder, output folder) of a cold quick build of the checkout by the command itself, for all who only look at
    it."""
    folder = tmp_path_factory.mktemp("book")
    build = started(checkout, folder / "data", folder / "out", jobs=1)
    said, _ = build.communicate()
    assert build.returncode == 0, said
    assert str(folder / "out" / "html" / "index.html") in said and "Traceback" not in said
    return folder / "data", folder / "out"


@pytest.fixture(autouse=True)
def no_stray_warnings():
    """A warning that a test does not expect is an error: warnings are how the store reports damage."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")  # no longer: while it is open, an event loop runs in this thread
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="LEFT OUT, how pages look in a browser: playwright is not installed "
                                                             '(`pip install -e "./lib[browser]"`)')
    if not chromium():
        pytest.skip("LEFT OUT, how pages look in a browser: no Chromium was found (Debian and Ubuntu: apt-get install chromium)")
    with sync.sync_playwright() as program:
        started = program.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield started
        started.close()
