"""A book of two chapters, one of experiments and one of theory, on a machine where everything is odd at once, and with
its build killed again and again: the same pages and the same pictures as of an undisturbed build."""

import difflib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from bcebook.paths import REPOSITORY
from test_machines import STRANGER

CHAPTERS = ("score_histograms", "two_geometries")
PROGRAM = [sys.executable, "-P", "-c", "from bcebook.cli import main; main()"]
ODD = """an output of "5 %" & 'ä ö' #1"""  # also a format of %d and a part of an address
# What a build says when training, the notebooks and rendering begin, how often it is killed there, and within how many
# seconds of the beginning: workers and kernels take some to start.
# Six times: the phase to kill in, and within how many seconds after its work has begun.
AIMS = [("1/3", 1)] + [("2/3", 4)] * 2 + [("3/3", 3)] * 3

MATPLOTLIBRC = """text.usetex: True
figure.autolayout: True
axes.formatter.limits: -1, 1
axes.formatter.use_locale: True
font.size: 23
font.family: cursive
lines.linewidth: 9
savefig.bbox: tight
svg.fonttype: none
axes.prop_cycle: cycler('color', ['yellow'])
"""
STARTUP = """import matplotlib
matplotlib.use("svg")
print("a start-up file was here")
"""


@pytest.fixture(scope="module")
def folder():
    """Pytest's own folders are closed to other users."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    for path in [made, *made.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(made)


def close(folder: Path) -> None:
    """Let nobody write there (who is root still may)."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture(scope="module")
def checkout(folder):
    """A copy of the repository that can only be read, with the CHAPTERS alone and two runs of three epochs. What a
    chapter says of one that is not there is no fault here."""
    copy = folder / "checkout"
    ignored = shutil.ignore_patterns(".*", "_build", "__pycache__", "datasets", "recorded", "*.egg-info", "tests")
    for name in ("book", "lib", "ci", "data/paper", "data/theory"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=ignored)
    shutil.copy(REPOSITORY / "requirements.txt", copy)
    for path in (copy / "book").glob("*.py"):
        if path.stem not in ("conf", *CHAPTERS):
            for other in (path, path.with_suffix(".ipynb"), copy / "lib" / "bcebook" / "chapters" / path.name):
                other.unlink()
    with open(copy / "book" / "conf.py", "a") as file:
        file.write('suppress_warnings += ["ref.doc", "myst.xref_missing"]\n')
    recipes = copy / "lib" / "bcebook" / "chapters" / "recipes.py"
    text = recipes.read_text()
    for old, new in (('"accuracy": 40', '"accuracy": 3'), ('("sgd", "adamw")', '("sgd",)')):
        assert text.count(old) == 1
        text = text.replace(old, new)
    recipes.write_text(text)
    close(copy)
    return copy


def started(checkout: Path, data: Path, out: Path, prefix=(), env=os.environ, cwd=None) -> subprocess.Popen:
    """A build of the book, in a process group of its own."""
    environment = dict(env) | {"PYTHONPATH": str(checkout / "lib"), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    command = [*prefix, *PROGRAM, "build", "--device", "cpu", "--jobs", "2", "--data", data, "--out", out]
    return subprocess.Popen(command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, encoding="utf-8", errors="replace", start_new_session=True)


def killed(build: subprocess.Popen) -> None:
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    build.stdout.close()


def pages(out: Path) -> dict[str, str]:
    """The pages without what may differ: dates, and the time of the training."""
    varies = re.compile(r"\d{4}-\d\d-\d\d|[\d.]+(?= min(?:</p>|utes of training))")
    return {path.name: varies.sub("_", path.read_text(encoding="utf-8")) for path in (out / "html").glob("*.html")}


def pictures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "html" / "_images").iterdir()}


def the_same(one: Path, other: Path) -> None:
    ours, theirs = pages(one), pages(other)
    assert ours.keys() == theirs.keys() and {f"{name}.html" for name in CHAPTERS} <= ours.keys()
    for name, text in ours.items():
        differ = "\n".join(difflib.unified_diff(text.splitlines(), theirs[name].splitlines(), lineterm=""))
        assert not differ, f"{name}: {differ}"
    assert len(pictures(one)) == 5 and pictures(one) == pictures(other)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def hostile(folder: Path) -> tuple[list[str], dict[str, str], Path]:
    """The prefix of a command, its environment and its working directory, with everything odd that we have heard of."""
    home, working, kernel = folder / "home", folder / "working", folder / "jupyter" / "kernels" / "python3"
    startup, config = home / ".ipython" / "profile_default" / "startup", home / ".config" / "matplotlib"
    for made in (working, kernel, startup, config):
        made.mkdir(parents=True)
    (config / "matplotlibrc").write_text(MATPLOTLIBRC)
    (startup / "00-mine.py").write_text(STARTUP)
    (kernel / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "mine", "language": "python"}')
    for name in ("random", "inspect"):
        (working / f"{name}.py").write_text("import os; os._exit(77)\n")
    close(home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "XDG_"))}
    environment |= {
        "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "MPLCONFIGDIR": str(config),
        "IPYTHONDIR": str(home / ".ipython"), "JUPYTER_PATH": str(folder / "jupyter"), "MPLBACKEND": "Agg",
        "PYTHONWARNINGS": "error", "LC_ALL": "C", "TZ": "<-0345>+03:45:59", "CUDA_VISIBLE_DEVICES": "",
    } | dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"), "http://127.0.0.1:9")
    root = hasattr(os, "getuid") and os.getuid() == 0  # who writes everywhere: so as another user, if that can be
    return STRANGER if root and shutil.which("setpriv") else [], environment, working


class Book:
    """A build that goes on while other things are tested."""

    def __init__(self, checkout: Path, data: Path, out: Path, *settings):
        self.data, self.out, self.build, said = data, out, started(checkout, data, out, *settings), []
        self.said, self.reader = said, threading.Thread(target=lambda: said.append(self.build.communicate()[0]))
        self.reader.start()

    def done(self) -> "Book":
        self.reader.join()
        assert self.build.returncode == 0, self.said[0]
        return self


@pytest.fixture(scope="module")
def books(checkout, folder):
    """An undisturbed build and that of a hostile machine, both in progress: most of a build is waiting."""
    (folder / "theirs").mkdir()
    (folder / "theirs").chmod(0o777)
    both = (Book(checkout, folder / "data", folder / "out"),
            Book(checkout, folder / "theirs" / "data", folder / "theirs" / ODD, *hostile(folder)))
    yield both
    for book in both:
        if book.build.poll() is None:
            os.killpg(book.build.pid, signal.SIGKILL)
        book.reader.join()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_build_that_is_killed_six_times_ends_with_the_same_pages(books, checkout, tmp_path):
    """At random moments of the three phases, the whole process group at once: after a worker holds a run's lock, after
    a kernel has started, after rendering has begun."""
    data, out, draw, kills = tmp_path / "data", tmp_path / "out", random.Random(10), 0
    for _ in range(2 * len(AIMS)):
        if kills == len(AIMS):
            break
        build = started(checkout, data, out)
        aim, within = AIMS[kills]
        next(line for line in build.stdout if line.startswith(aim))
        while build.poll() is None and not begun(aim, data):
            time.sleep(0.05)
        time.sleep(draw.uniform(0, within))
        if build.poll() is None:
            killed(build)
            kills += 1
        else:  # it was faster: there is nothing left to kill, so notebooks and pages are due once more
            assert build.returncode == 0, build.communicate()[0]
            build.stdout.close()
            for stamp in (out / "html.json", *(out / "notebooks").rglob("*.json")):
                stamp.unlink()
    assert kills == len(AIMS)
    last, (plain, _) = Book(checkout, data, out).done(), books
    assert "Traceback" not in last.said[0]
    the_same(plain.done().out, out)
    for part in ("html", "notebooks", "findings"):
        assert names(out / part) == names(plain.out / part)
    assert names(data / "runs") == names(plain.data / "runs")
    for path in (data / "runs").glob("*/result.json"):
        assert path.read_bytes() == (plain.data / path.relative_to(data)).read_bytes()
    until = time.monotonic() + 15
    while (left := of_environment(str(data))) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []


def begun(aim: str, data: Path) -> bool:
    """Whether the work of a phase is in progress. Once its runs are there, the first phase has none left."""
    if aim == "2/3":
        return any(b"ipykernel_launcher" in read(f"/proc/{pid}/cmdline") for pid in of_environment(str(data)))
    locks, runs = str(data / "runs" / ".locks"), list((data / "runs").glob("*/result.json"))
    held = (target(handle).startswith(locks) for folder in Path("/proc").glob("[0-9]*") for handle in handles(folder))
    return aim == "3/3" or len(runs) == 2 or any(held)


def handles(process: Path) -> list[Path]:
    try:
        return list((process / "fd").iterdir())
    except OSError:  # it has just ended, or is another user's
        return []


def target(handle: Path) -> str:
    try:
        return os.readlink(handle)
    except OSError:  # closed since, or another user's
        return ""


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # the process has just ended
        return b""


def of_environment(text: str) -> list[str]:
    """The processes whose environment contains this: of a build its workers and kernels."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass
    return found


def test_a_hostile_machine_makes_the_same_pages_and_pictures(books):
    plain, odd = (book.done() for book in books)
    the_same(plain.out, odd.out)
    assert names(odd.out / "notebooks") == names(plain.out / "notebooks")
    said = odd.said[0]
    assert "Traceback" not in said and "a start-up" not in said
    assert f"The book: {odd.out / 'html' / 'index.html'}" in said


def test_pages_are_read_from_the_disk_wherever_they_lie(books):
    """Every link of a page is relative and its file is there, so that file:// works."""
    html = books[1].done().out / "html"
    for path in html.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        links = {link for link in re.findall(r'(?:href|src)="([^"]+)"', text)
                 if not re.match(r"https?:|mailto:|#", link)}
        assert len(links) > 10
        for link in links:
            there = html / unquote(re.split("[?#]", link)[0])
            assert not link.startswith("/") and there.is_file(), f"{path.name}: {link}"


# --- what the program speaks to ---------------------------------------------------------------------------------------

def said(*arguments: str, **options) -> subprocess.CompletedProcess:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([*PROGRAM, *arguments], text=True, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["record", "--help"]])
def test_a_narrow_terminal_has_its_help(arguments):
    done = said(*arguments, env=os.environ | {"COLUMNS": "12"})
    assert done.returncode == 0 and done.stderr == "" and "--help" in re.sub(r"\s", "", done.stdout)


def test_nobody_listens_and_there_is_no_traceback(tmp_path):
    """As in `bcebook runs | head -0`, and with standard output closed."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        for arguments in (["runs", "--profile", "paper", "--data", str(tmp_path)], ["--help"]):
            assert said(*arguments, stdout=theirs).stderr == ""
    finally:
        os.close(theirs)
    shell = '"$@" >&-'
    done = subprocess.run(["sh", "-c", shell, "sh", *PROGRAM, "runs", "--data", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
