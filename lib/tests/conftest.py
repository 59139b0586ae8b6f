"""What several tests share: real data sets where they are there, one small configuration, a browser."""

import shutil
import signal
import warnings

import pytest

from bcebook.chapters import catalog
from bcebook.training import datasets as data
from bcebook.runs.config import RunConfig
from bcebook.runs.store import open_store
from bcebook.paths import REPOSITORY, data_dir


# What a shell starts in the background ignores Ctrl-C, and so do the processes that tests start and press it in.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also build the whole quick book, cold")


@pytest.fixture
def small():
    """A configuration that trains in a second: small(loss="ce", ...) changes what it names."""

    def make(**changes) -> RunConfig:
        settings = dict(dataset="digits", model="convnet", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2, train_size=300,
                        lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0)
        if changes.get("decay") == "global":
            settings |= dict(weight_decay=5e-4, lambda_w=None, lambda_h=None, lambda_b=None)
        return RunConfig(**(settings | changes))

    return make


@pytest.fixture
def real():
    """real("mnist") loads a full data set that cannot be bundled, or skips where this machine does not have it."""

    def load(name: str) -> data.Dataset:
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
