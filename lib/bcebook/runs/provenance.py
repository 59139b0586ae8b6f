"""What a result came from: versions, device, code, date."""

import datetime
import functools
import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from bcebook.paths import PACKAGE, REPOSITORY

# What decides what a training does, and what is measured.
ENGINE = ("runs/specs.py", "runs/config.py", "science/losses.py", "science/metrics.py", "science/summaries.py",
          "training/datasets.py", "training/images.py", "training/models.py", "training/measure.py",
          "training/loop.py")


def library() -> list[Path]:
    """Every source file of the library, sub-packages too, in a fixed order."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


@functools.cache
def code_version() -> str:
    """A digest of the library's source, and the commit it stands on in a git checkout: "3f2a9c (commit 12ab34c)"."""
    sha = hashlib.sha256()
    for path in library():
        sha.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    try:
        git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True,
                             timeout=10)
        commit = git.stdout.strip() if git.returncode == 0 else ""
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    return sha.hexdigest()[:10] + (f" (commit {commit})" if commit else "")


@functools.cache
def engine_version() -> str:
    """A digest of the modules that decide what a training does: a checkpoint is good for these alone."""
    return hashlib.sha256(b"".join((PACKAGE / name).read_bytes() for name in ENGINE)).hexdigest()[:16]


@functools.cache
def processor() -> str:
    """The processor's name as its maker writes it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
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


def environment(device) -> dict:
    """Versions, the device in words, the code and the time (UTC) of a run on `device` (a torch.device)."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{processor()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"device": name, "device_type": device.type, "versions": versions(), "code": code_version(), "date": date}
