"""The shape of the project: which module may import which, and what a bare machine needs."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

from bcebook.paths import REPOSITORY

PACKAGE = REPOSITORY / "lib" / "bcebook"
# From the bottom up; a module may import its own level and those before it. In `chapters` the registry finds the rooms.
LEVELS = ["paths", "cores", "lazy", "variables", "names", "paper", "science", "runs", "training", "execution", "frame", "claims", "report", "chapters", "options", "book", "cli"]
INNER = {  # within a level, from the bottom up, where there is an order; what is not named here imports nothing of its own level
    "science": ["checks", "losses", "stats", "verdicts", "metrics", "uniform", "rejection", "calibration", "retrieval", "summaries", "numerics", "closed_form", "nonnegative", "minimise", "shared_bias", "flow", "classifier_flow", "relaxation", "equivalents", "theory", "minority", "early_flow"],
    "runs": ["specs", "config", "rehearsal", "atomic", "meanwhile", "provenance", "locks", "schema", "files", "former", "store", "archive"],
    "training": ["datasets", "images", "streamed", "heads", "pretrained", "efficientnet", "models", "checkpoint", "measure", "memory", "kept", "gpu", "optimizers", "devices", "finished", "loop", "sessions", "remeasure", "selftest"],
}
PURE = {"science"}  # knows nothing of ours but itself


def modules() -> dict[str, Path]:
    """Dotted name below bcebook -> file, sub-packages too."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


KNOWN = modules()


@functools.cache
def imports(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere in it, lazily or at once."""
    known, found = KNOWN, set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bcebook":
            base = node.module.removeprefix("bcebook").lstrip(".")
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {name if name in known else base for name in names} if base or names else set()
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("bcebook.") for alias in node.names if alias.name.startswith("bcebook.")}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lazy" and node.args[0].value.startswith("bcebook."):
            found.add(node.args[0].value.removeprefix("bcebook."))
    return found - {""}


def test_dependencies_point_one_way():
    for name, path in modules().items():
        level = name.split(".")[0]
        if not name:
            assert not imports(path)
            continue
        assert level in LEVELS, f"{name} needs its place in the order"
        for other in imports(path):
            theirs = other.split(".")[0]
            assert LEVELS.index(theirs) <= LEVELS.index(level), f"{name} imports {other}"
            assert level not in PURE or theirs == level, f"{name} imports {other}"
            if theirs == level and level in INNER:
                order = INNER[level]
                assert order.index(other.split(".")[1]) < order.index(name.split(".")[1]), f"{name} imports {other}"


def test_no_two_modules_import_each_other():
    """Also within a level, where the order is free."""
    graph = {name: imports(path) - {name} for name, path in modules().items()}
    seen, path = set(), []

    def visit(name: str) -> None:
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name):], name])}"
        if name not in seen:
            path.append(name)
            for other in graph.get(name, ()):
                visit(other)
            path.pop()
            seen.add(name)

    for name in graph:
        visit(name)


def test_every_package_is_installed_and_enters_the_digest_of_the_code():
    """The digests of code and the packaging look into sub-packages, however deep."""
    from setuptools import find_packages

    from bcebook.runs import provenance

    assert {path.relative_to(PACKAGE) for path in provenance.library()} == {path.relative_to(PACKAGE) for path in modules().values()}
    assert len(provenance.library()) > 30 and all((PACKAGE / name).exists() for name in provenance.ENGINE)
    packages = {str(path.parent.relative_to(PACKAGE.parent)).replace("/", ".") for path in modules().values()}
    assert packages <= set(find_packages(PACKAGE.parent, include=["bcebook*"]))
    assert all((path.parent / "__init__.py").exists() for path in modules().values())


def test_training_needs_neither_jupyter_nor_sphinx_and_the_short_names_come_lazily():
    """On a machine with torch alone, importing and training must work: block everything else."""
    names = ("losses", "metrics", "theory", "config", "store", "train", "data", "models", "catalog")
    code = f"""
import sys
for name in ("IPython", "ipykernel", "jupyter", "jupytext", "papermill", "nbformat", "matplotlib", "seaborn", "typer"):
    sys.modules[name] = None  # importing it now fails (pandas cannot be blocked so: scikit-learn uses it where it is)
import bcebook
assert [name for name in sys.modules if name.startswith("bcebook")] == ["bcebook"] and "torch" not in sys.modules
{"; ".join(f"from bcebook import {name}" for name in names)}
assert all(module.__name__.startswith("bcebook.") for module in ({", ".join(names)}))
try:
    from bcebook import nothing_of_that_name
except ImportError:
    print("refused")
import tempfile
from bcebook.runs.config import RunConfig
from bcebook.runs.store import RunStore
from bcebook.training.sessions import train
config = RunConfig(dataset="digits", model="mlp", loss="ce", optimizer="sgd", learning_rate=0.1, epochs=1,
                   train_size=128, lambda_w=0, lambda_h=0, lambda_b=0)
with tempfile.TemporaryDirectory() as folder:
    print(train(config, RunStore(folder), "cpu", progress=False).final["test_accuracy"])
assert "sphinx" not in sys.modules  # (blocked like the others, it would confuse SciPy)
"""
    out = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    refused, accuracy = out.stdout.split()
    assert refused == "refused" and 0 < float(accuracy) < 1


@pytest.mark.parametrize("arguments, module", [(["runs", "--profile", "paper"], "torch"), (["--help"], "pydantic")])
def test_the_command_line_starts_without(arguments, module):
    code = f"import sys; from bcebook import cli; cli.app({arguments}, standalone_mode=False); print({module!r} in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "False"


def test_pages_of_theory_and_of_stored_runs_need_no_torch():
    """It costs a second a page. (minima, two_geometries, relu_features and imbalance compute with it.)"""
    names = ("bias_paths", "codes", "flows", "frames", "orthogonal", "plots", "predictions", "seeds")
    code = f"""
import sys
import bcebook.book.notebook
from bcebook.report import {", ".join(names)}
from bcebook.chapters import bias_saturates, published_predicted
codes.properties(codes.minimiser("bce", 5, 2))
assert "torch" not in sys.modules
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr


def test_the_top_level_holds_only_what_it_may():
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if tracked.returncode == 0:
        top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
        assert {name for name in top if not name.startswith(".")} <= {"README.md", "requirements.txt", "book", "lib", "data", "ci"}
