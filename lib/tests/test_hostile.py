"""The tiny book for a user without an account and a home, on a machine where everything is odd at once, its build killed
while it renders: the same pages and the same pictures as of an undisturbed build."""

import difflib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from tiny_book import KINDS, PROGRAM, SHADOWS, started

ODD = """an output of "5 %" & 'ä ö' #1"""  # also a format of %d and a part of an address
# Another user, who reads what root reads (the interpreter may lie in root's home) and writes what others may.
CAPABILITY = "-all,+dac_read_search"
STRANGER = ["setpriv", "--reuid", "3001", "--regid", "3001", "--clear-groups", "--bounding-set", CAPABILITY,
            "--inh-caps", CAPABILITY, "--ambient-caps", CAPABILITY]
# What a uid without an account lacks, and more.
LEFT_OUT = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "TORCHINDUCTOR_CACHE_DIR", "LC_", "LANG", "XDG_")

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


def close(folder: Path) -> None:
    """Let nobody write there (who is root still may)."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def killed(build: subprocess.Popen) -> None:
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    build.stdout.close()


def pages(out: Path) -> dict[str, str]:
    """The pages without what may differ: the time of the training."""
    varies = re.compile(r"[\d.]+(?= min(?:</p>|utes of training))")
    return {path.name: varies.sub("_", path.read_text(encoding="utf-8")) for path in (out / "html").glob("*.html")}


def pictures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "html" / "_images").iterdir()}


def the_same(one: Path, other: Path) -> None:
    ours, theirs = pages(one), pages(other)
    assert ours.keys() == theirs.keys() and {f"{name}.html" for name in KINDS} <= ours.keys()
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
    for name in SHADOWS:
        (working / f"{name}.py").write_text("import os; os._exit(77)\n")
    close(home)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
    environment |= {
        "XDG_CONFIG_HOME": str(home / ".config"), "MPLCONFIGDIR": str(config),
        "IPYTHONDIR": str(home / ".ipython"), "JUPYTER_PATH": str(folder / "jupyter"), "MPLBACKEND": "Agg",
        "PYTHONWARNINGS": "error", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PIP_USER": "1",
        "VIRTUAL_ENV": "/nothing", "CONDA_PREFIX": "/nothing", "PYTHONUSERBASE": "/nothing",
        "TZ": "<-0345>+03:45:59", "CUDA_VISIBLE_DEVICES": "",
    } | dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"), "http://127.0.0.1:9")
    root = hasattr(os, "getuid") and os.getuid() == 0  # who writes everywhere: so as another user, if that can be
    return STRANGER if root and shutil.which("setpriv") else [], environment, working


@pytest.fixture(scope="module")
def hostile_book(checkout):
    """(data folder, output folder, what the last build said) of a hostile machine, where the build was killed while it
    rendered, the whole process group at once. (test_nothing_lost kills training, test_helpers kills what executes
    notebooks.)"""
    folder = checkout.parent / "theirs"
    folder.mkdir()
    folder.chmod(0o777)
    data, out, settings = folder / "data", folder / ODD, hostile(folder)
    build = started(checkout, data, out, *settings, jobs=1)
    said = "".join(iter(lambda: "" if (line := build.stdout.readline()).startswith("3/3") else line, ""))
    until = time.monotonic() + 120
    while not list(out.glob("html.new/*")) and build.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert build.poll() is None, said
    killed(build)
    assert list(out.glob("html.new/*"))
    last = started(checkout, data, out, *settings)
    said, _ = last.communicate()
    assert last.returncode == 0, said
    return data, out, said


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


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


@needs_proc
def test_a_hostile_machine_where_the_build_is_killed_makes_the_same_pages_and_pictures(built, hostile_book):
    data, out, said = hostile_book
    the_same(built[1], out)
    assert "rendered 2026-01-01" in pages(out)["index.html"]
    for part in ("html", "notebooks", "findings"):
        assert names(out / part) == names(built[1] / part)
    assert names(data / "runs") == names(built[0] / "runs")
    for path in (data / "runs").glob("[!.]*.json"):
        one, two = (json.loads(each.read_text()) for each in (path, built[0] / "runs" / path.name))
        assert all(one[part] == two[part] for part in ("config", "history", "final", "best", "scores"))
    assert "Traceback" not in said and "a start-up" not in said
    assert str(out / "html" / "index.html") in said
    until = time.monotonic() + 60
    while (left := of_environment(str(data))) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []


@needs_proc
def test_pages_are_read_from_the_disk_wherever_they_lie(built, hostile_book):
    """Every link of a page is relative and its file is there, so that file:// works."""
    html = hostile_book[1] / "html"
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
