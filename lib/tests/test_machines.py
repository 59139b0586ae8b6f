"""Other people's machines: other line endings, a copy elsewhere, cores in use, files called random.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bcebook.paths import PACKAGE, REPOSITORY
from bcebook.runs.specs import NETWORKS
from bcebook.runs import files
from bcebook.runs.store import RunStore
from bcebook.training import loop, sessions
from tiny_book import SHADOWS


def test_a_file_in_the_working_directory_is_not_taken_for_pythons_own(tmp_path):
    """By the command; for workers and kernels, test_hostile asks."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("import os; os._exit(77)\n")
    program = Path(sys.executable).with_name("bcebook")
    done = subprocess.run([program, "runs", "--data", tmp_path / "none"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith(" missing\n"), done.stdout + done.stderr


# --- checkouts and copies --------------------------------------------------------------------------------------------

def _git(folder: Path, *arguments) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_a_clone_with_other_line_endings_is_the_same(tmp_path):
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True).returncode:
        pytest.skip("NOT TESTED: line endings; this is no git checkout")
    clone = tmp_path / "clone"
    _git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", REPOSITORY, clone)
    for name in ("ci/setup", "ci/build", "ci/test", "lib/bcebook/cli.py", "README.md"):
        assert b"\r" not in (clone / name).read_bytes(), name
    runs = list((clone / "data" / "recorded").glob("*.json"))
    assert len(runs) > 50 and all(files.whole(run.read_bytes(), run.stem) for run in runs)
    assert _git(clone, "status", "--porcelain") == ""


REACHING = ["PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_EXE", "PIP_USER",
            "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV", "UV_PYTHON",
            "UV_SYSTEM_PYTHON"]
STUB_PYTHON = """#!/bin/sh
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip config list") printf '%s\\n' "$PIP_SETTINGS" ;;
    "-m pip install"*) env > seen-by-pip; echo "pip $*" >> installs; exit $PIP_FAILS ;;
esac
"""
STUB_UV = """#!/bin/sh
env > seen-by-uv; echo "uv $*" >> installs; exit $UV_FAILS
"""


def test_setup_installs_with_uv_as_pip_is_set_up_and_with_pip_where_uv_fails(tmp_path, monkeypatch):
    for name in ("ci/setup", "requirements.txt", "lib/pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name, text in (("python3", STUB_PYTHON), ("uv", STUB_UV)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def setup(settings="", uv=0, pip=0, fresh=True) -> tuple[int, list[str]]:
        (tmp_path / "installs").write_text("")
        if fresh:
            shutil.rmtree(tmp_path / ".venv", ignore_errors=True)
        chosen = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHON": str(tmp_path / "bin" / "python3"),
                  "PIP_SETTINGS": settings, "UV_FAILS": str(uv), "PIP_FAILS": str(pip)}
        done = subprocess.run(["bash", tmp_path / "ci" / "setup"], env=os.environ | chosen, capture_output=True)
        return done.returncode, (tmp_path / "installs").read_text().splitlines()

    code, installs = setup()
    assert code == 0 and len(installs) == 1 and installs[0].startswith("uv pip install ")
    assert installs[0].endswith(" -r requirements.txt") and "index-url" not in installs[0]
    assert setup(fresh=False) == (0, [])  # what is installed is not installed again
    with open(tmp_path / "requirements.txt", "a") as file:
        file.write("another\n")
    assert setup(fresh=False)[1] == installs
    code, installs = setup("global.index-url='https://c/s'\n:env:.extra-index-url='https://a/s\\n https://b/s'\n"
                           "global.extra-index-url='https://d/s'")
    assert code == 0 and [word for word in installs[0].split() if "http" in word] == [
        "--index-url=https://c/s", "--extra-index-url=https://a/s", "--extra-index-url=https://b/s"]
    assert [line.split()[0] for line in setup(uv=2)[1]] == ["uv", "pip"]
    assert [line.split()[0] for line in setup("global.no-index='true'")[1]] == ["pip"]
    code, installs = setup(uv=2, pip=1)
    assert code == 1 and len(installs) == 2
    assert setup(fresh=False)[0] == 0  # and what failed is tried again
    # What a shell says of other environments reaches none of the two; where packages come from, and how, does.
    kept = dict.fromkeys(["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_CACHE_DIR", "HTTPS_PROXY"], "kept")
    for name, value in (kept | dict.fromkeys(REACHING, "theirs")).items():
        monkeypatch.setenv(name, value)
    assert [line.split()[0] for line in setup(uv=2)[1]] == ["uv", "pip"]
    for name in ("seen-by-uv", "seen-by-pip"):
        seen = (tmp_path / name).read_text().splitlines()
        assert not [line for line in seen if line.endswith("=theirs")]
        assert {f"{name}=kept" for name in kept} <= set(seen)


def test_the_commit_is_that_of_our_own_checkout_and_says_where_it_is_modified(tmp_path):
    inner = tmp_path / "inner"
    shutil.copytree(PACKAGE, inner / "lib" / "bcebook", ignore=shutil.ignore_patterns("__pycache__"))
    (inner / ".gitignore").write_text("__pycache__/\n")
    (tmp_path / "theirs").write_text("another project")

    def said(**environment) -> str:
        code = "from bcebook.runs import provenance; print(provenance.PACKAGE, provenance.code_version(), sep='\\n')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                              env=os.environ | {"PYTHONPATH": str(inner / "lib")} | environment)
        package, version = done.stdout.splitlines()
        assert Path(package) == inner.resolve() / "lib" / "bcebook"
        return version.partition(" ")[2]

    assert said() == ""
    for folder in (tmp_path, inner):
        _git(folder, "init", "-q")
        _git(folder, "add", "theirs" if folder == tmp_path else ".")
        _git(folder, "commit", "-q", "-m", "First")
        assert said() == ("" if folder == tmp_path else f"(commit {_git(inner, 'rev-parse', '--short', 'HEAD')})")
    ours = said()
    assert said(GIT_DIR=str(tmp_path / ".git")) == ours  # as in a hook of another repository
    (inner / "notes").write_text("not what makes a result")
    assert said() == ours
    (inner / "lib" / "bcebook" / "more.py").write_text("x = 1\n")
    assert said() == ours.replace(")", ", modified)")
    _git(inner, "add", ".")
    _git(inner, "commit", "-q", "-m", "Second")
    with open(inner / "lib" / "bcebook" / "names.py", "a") as file:
        file.write("# edited\n")
    assert said() == f"(commit {_git(inner, 'rev-parse', '--short', 'HEAD')}, modified)"


# --- cores that others use -------------------------------------------------------------------------------------------

def test_a_small_network_computes_with_one_thread_and_gives_the_others_back(small, tmp_path, monkeypatch):
    seen, step, before = set(), loop.Training.step, torch.get_num_threads()
    monkeypatch.setattr(loop.Training, "step", lambda self: (seen.add(torch.get_num_threads()), step(self)))
    torch.set_num_threads(2)
    try:
        run = sessions.train(small(epochs=1), RunStore(tmp_path), progress=False)
        assert seen == {1} and torch.get_num_threads() == 2 and run.environment["device"].endswith(", 1 thread")
        for name, spec in NETWORKS.items():
            if spec.side > 32:
                continue  # trained from folders, with other settings
            config = small(model=name, dataset={8: "digits", 32: "cifar10"}[spec.side])
            with sessions._threads(config):
                assert torch.get_num_threads() == (1 if spec.side <= 16 else 2), name
    finally:
        torch.set_num_threads(before)


WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize("imports", [
    "from bcebook import train", "import bcebook.book.notebook, bcebook.training.loop",
    "import bcebook.execution.choose, bcebook.training.loop"])
def test_threads_that_wait_sleep_because_torch_is_told_before_it_is_loaded(imports):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    settings = [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]  # what a person sets stays
    for extra, expected in settings[:2 if imports == "from bcebook import train" else 1]:
        done = subprocess.run([sys.executable, "-c", WATCH + imports], capture_output=True, text=True,
                              env=environment | extra)
        assert done.stdout.split() == [expected], done.stdout + done.stderr
