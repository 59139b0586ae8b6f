"""The shape of the project: which module may import which, and what a bare machine needs."""

import ast
import subprocess
import sys
from pathlib import Path

from bcebook.paths import REPOSITORY

PACKAGE = REPOSITORY / "lib" / "bcebook"
ALLOWED = [  # each level may import the levels above it
    {"__init__", "paths", "theory", "losses", "metrics", "stats"},
    {"paper", "plots", "config"},
    {"data", "catalog", "models", "environment"},
    {"augment", "store", "checkpoint"},
    {"measure"},
    {"train", "archive", "frames", "theory_pages"},
    {"pool", "geometry_pages", "claims", "theory_claims", "figures", "dimension_pages", "imbalance_pages"},
    {"chapter", "build"},
    {"cli"},
]
PURE = {"theory", "losses", "metrics", "stats", "plots"}  # know nothing of ours at all


def _ours(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "bcebook":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("bcebook.")}
    return found


def test_dependencies_point_one_way():
    level = {name: i for i, names in enumerate(ALLOWED) for name in names}
    modules = {path.stem: path for path in PACKAGE.glob("*.py")}
    assert set(modules) <= set(level), "a new module needs its place in the order"
    for name, path in modules.items():
        imports = _ours(path)
        assert name not in PURE or not imports, f"{name} imports {imports}"
        for other in imports:
            assert level[other] < level[name], f"{name} imports {other}"


def test_training_needs_neither_jupyter_nor_sphinx():
    """On a machine with torch alone, importing and training must work: block everything else."""
    code = """
import sys
for name in ("IPython", "ipykernel", "jupyter", "jupytext", "papermill", "nbformat", "matplotlib", "seaborn", "pandas", "typer"):
    sys.modules[name] = None  # importing it now fails
import tempfile
from bcebook.config import RunConfig
from bcebook.store import RunStore
from bcebook.train import train
config = RunConfig(dataset="digits", model="convnet", loss="ce", optimizer="sgd", learning_rate=0.1, epochs=1, train_size=128,
                   lambda_w=0, lambda_h=0, lambda_b=0)
with tempfile.TemporaryDirectory() as folder:
    print(train(config, RunStore(folder), "cpu", progress=False).final["test_accuracy"])
assert "sphinx" not in sys.modules  # (blocked like the others, it would confuse SciPy)
"""
    out = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert 0 < float(out.stdout) < 1


def test_the_command_line_starts_without_torch():
    code = "import sys; from bcebook import cli; cli.app(['runs', '--profile', 'paper'], standalone_mode=False); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "False"


def test_the_top_level_holds_only_what_it_may():
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if tracked.returncode == 0:
        top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
        assert {name for name in top if not name.startswith(".")} <= {"README.md", "requirements.txt", "book", "lib", "data", "ci"}
