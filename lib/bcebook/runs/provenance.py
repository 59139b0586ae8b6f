"""What a result came from: versions, device, code, date; and what its process needs before torch is loaded."""

import datetime
import functools
import getpass
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from bcebook.paths import PACKAGE, REPOSITORY

# What decides what a training does, and what is measured.
ENGINE = (
    "runs/specs.py",
    "runs/config.py",
    "science/losses.py",
    "science/metrics.py",
    "science/uniform.py",
    "science/summaries.py",
    "training/datasets.py",
    "training/images.py",
    "training/heads.py",
    "training/models.py",
    "training/efficientnet.py",
    "training/pretrained.py",
    "training/streamed.py",
    "training/measure.py",
    "training/kept.py",
    "training/gpu.py",
    "training/optimizers.py",
    "training/devices.py",
    "training/loop.py",
)
COMMIT = "BCEBOOK_COMMIT"  # in the environment of a process that runs a copy: what it was copied from
# In a checkout: what makes runs and pages.
SOURCES = ("lib/bcebook", "book", "data/paper", "data/theory", "data/gpus", "requirements.txt")


def prepare() -> None:
    """Set in this process's environment, and so in its children's, what torch reads when it is loaded; what a person
    has set stays.

    OMP_WAIT_POLICY: threads that wait for work sleep. torch's OpenMP (libgomp) otherwise lets them spin, and where
    other processes want the same cores an epoch of a small network then takes seconds instead of a fifth of one.
    LOGNAME: torchvision asks for the user's name (for the folder of torch's compiler) and ends with a KeyError where
    the uid has no account (`docker --user`).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # before Python 3.13; since then; a system without accounts
        os.environ["LOGNAME"] = f"uid{os.getuid()}" if hasattr(os, "getuid") else "nobody"


prepare()  # at import: whoever trains imports this module, and before torch


def library() -> list[Path]:
    """Every source file of the library, sub-packages too, in a fixed order."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


@functools.cache
def library_digest() -> str:
    """A SHA-256 of the library's source, file by file."""
    sha = hashlib.sha256()
    for path in library():
        sha.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    return sha.hexdigest()


@functools.cache
def code_version() -> str:
    """The beginning of the library's digest, and the commit it stands on in a git checkout of its own: "3f2a9c (commit
    12ab34c)", or "3f2a9c (commit 12ab34c, modified)" where what makes runs and pages is not as in that commit."""
    commit = os.environ.get(COMMIT) or commit_here()
    return library_digest()[:10] + (f" (commit {commit})" if commit else "")


def commit_here() -> str:
    """ "12ab34c", "12ab34c, modified", or "" where this is no checkout of our own: a copy may lie in another's."""
    # Without a hook's GIT_DIR, which names another repository; and no lock on the index, which a commit may want.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=10,
            check=True,
        ).stdout

    try:
        top, commit = git("rev-parse", "--show-toplevel", "--short", "HEAD").splitlines()
        if not os.path.samefile(top, REPOSITORY):
            return ""
        return commit + (", modified" if git("status", "--porcelain", "--", *SOURCES).strip() else "")
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


@functools.cache
def engine_version() -> str:
    """A digest of the modules that decide what a training does: a checkpoint is good for these alone."""
    return hashlib.sha256(b"".join((PACKAGE / name).read_bytes() for name in ENGINE)).hexdigest()[:16]


@functools.cache
def processor() -> str:
    """The processor's name as its maker writes it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Python and the libraries that a number can depend on."""
    found = {"python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", "scipy", "scikit-learn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def now() -> datetime.datetime:
    """The time, in UTC; SOURCE_DATE_EPOCH's where that is set, as reproducible builds want it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.datetime.fromtimestamp(float(epoch), datetime.UTC) if epoch else datetime.datetime.now(datetime.UTC)


def environment(device) -> dict:
    """Versions, the device in words, the code, the engine and the time (UTC) of a run on `device` (a torch.device)."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{processor()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    date = now().isoformat(timespec="seconds")
    return {
        "device": name,
        "device_type": device.type,
        "versions": versions(),
        "code": code_version(),
        "engine": engine_version(),
        "date": date,
    }
