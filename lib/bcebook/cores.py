"""How many processors this process may use, limits from outside included."""

import math
import os
from pathlib import Path


def cores(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """The processors that this process may use, at least 1: those that it may run on, or fewer where a control group
    (a container's `--cpus`, a job of a cluster) limits its time. groups, root: where Linux says so."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(own, math.ceil(min(_quotas(groups, root), default=own))))


def _quotas(groups: Path, root: Path) -> list[float]:
    """The limits of this process's control groups and those around them, in processors: cgroup v2 and v1."""
    found = []
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux, or not for us to read
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path is often that outside of it, so that the limit stands at the root.
        places = [root, *(root / name for name in (controllers, "cpu") if controllers)]
        inner = Path(path.lstrip("/"))
        for place in (base / part for base in places for part in (inner, *inner.parents)):
            found += [*_numbers(place / "cpu.max"), *_numbers(place / "cpu.cfs_quota_us", place / "cpu.cfs_period_us")]
    return found


def _numbers(*files: Path) -> list[float]:
    """Quota over period, of one file with both or of two; nothing where there is no limit."""
    try:
        quota, period = " ".join(file.read_text(encoding="utf-8") for file in files).split()
        return [int(quota) / int(period)] if int(quota) > 0 and int(period) > 0 else []
    except (OSError, ValueError):  # not there, or "max"
        return []
