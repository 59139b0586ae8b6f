"""Runs on disk: one folder each, whole or absent."""

import contextlib
import csv
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bcebook.runs import atomic
from bcebook.runs.config import RunConfig

FILES = ("config.json", "history.csv", "result.json", "environment.json")


@dataclass(frozen=True)
class Run:
    """A finished run.

    history: column -> one value per epoch, the epoch-0 row being the network before training; nan where an epoch was
    not measured. final, best: name -> value (accuracies are fractions). scores: split ("train", "test") -> kind
    ("positive", "negative", "bias") -> the dictionary of a `summaries.ScoreSummary`. environment: what it ran on, how
    long, which code, when.
    """

    config: RunConfig
    history: dict[str, list[float]]
    final: dict[str, float]
    best: dict[str, float]
    scores: dict[str, dict[str, dict]]
    environment: dict


class RunStore:
    """The runs under `root`, and behind them the read-only ones under `recorded`.

    A run is written under a temporary name and renamed when it is whole; every file stands in checksums.json. A folder
    that fails its checksums is reported (a warning that names it) and counts as absent.
    """

    def __init__(self, root: str | os.PathLike, recorded: str | os.PathLike | None = None):
        self.root = Path(root)
        self.recorded = Path(recorded) if recorded else None

    def find(self, config: RunConfig) -> Run | None:
        """The run of this configuration, or None. Never a damaged or a failed one."""
        folder = self._whole(config.key)
        return read_folder(folder) if folder else None

    def state(self, config: RunConfig) -> str:
        """ "trained" here, "recorded" elsewhere, "failed" or "missing"."""
        if folder := self._whole(config.key):
            return "trained" if folder.parent == self.root else "recorded"
        return "failed" if self.failure(config) else "missing"

    def fingerprint(self, config: RunConfig) -> str:
        """A digest of the stored content ("" if there is none), to see whether what was made of it is up to date."""
        folder = self._whole(config.key)
        return hashlib.sha256((folder / "checksums.json").read_bytes()).hexdigest()[:16] if folder else ""

    def failure(self, config: RunConfig) -> dict | None:
        """Why this run failed: {"config", "cause", "environment"}, or None if it did not."""
        path = self._failure_path(config)
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            warnings.warn(f"{path} is damaged and is ignored.", stacklevel=2)
            return None

    @contextlib.contextmanager
    def lock(self, config: RunConfig) -> Iterator[None]:
        """Hold this run against other processes; the system lets go of it when the holder dies, however it dies."""
        from filelock import FileLock

        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{config.key}.lock"):
            yield

    def checkpoints(self, config: RunConfig) -> Path:
        """The folder for the checkpoints of a run that is not whole yet."""
        return self.root / ".checkpoints" / config.key

    def save(self, run: Run) -> None:
        """Write a run, all of it or nothing. Call it under `lock`. Raises OSError (a full disk, say) with nothing
        half-written."""
        key = run.config.key
        self.root.mkdir(parents=True, exist_ok=True)
        for stale in self.root.glob(f".tmp-{key}-*"):  # of a process that was killed while it held the lock
            shutil.rmtree(stale)
        partial = self.root / f".tmp-{key}-{os.getpid()}"
        partial.mkdir()
        try:
            result = {"final": run.final, "best": run.best, "scores": run.scores}
            contents = {
                "config.json": _json(run.config.to_dict()),
                "history.csv": _csv(run.history),
                "result.json": _json(result, indent=None),  # thousands of histogram counts: one line
                "environment.json": _json(run.environment),
            }
            sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in contents.items()}
            for name, text in (contents | {"checksums.json": _json(sums)}).items():
                atomic.write(partial / name, text)
            target = self.root / key
            if target.exists():
                if self._whole(key) == target:
                    return
                shutil.rmtree(target)  # damaged: `_whole` has just said so
            os.rename(partial, target)
            self._failure_path(run.config).unlink(missing_ok=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def save_failure(self, config: RunConfig, cause: str, environment: dict) -> None:
        """Record that a run ended without a result, and why."""
        self.root.mkdir(parents=True, exist_ok=True)
        failure = {"config": config.to_dict(), "cause": cause, "environment": environment}
        atomic.write(self._failure_path(config), _json(failure))

    def _failure_path(self, config: RunConfig) -> Path:
        return self.root / f"{config.key}.failed.json"

    def _whole(self, key: str) -> Path | None:
        """The folder of this key that passes its checksums, own runs first."""
        for root in filter(None, (self.root, self.recorded)):
            folder = root / key
            if not folder.is_dir():
                continue
            problem = check_folder(folder)
            if not problem:
                return folder
            warnings.warn(f"{folder} is damaged ({problem}); it counts as absent and will be trained again.",
                          stacklevel=3)
        return None


def open_store(data: Path) -> RunStore:
    """The store of a data folder: runs/ in front of recorded/."""
    return RunStore(data / "runs", data / "recorded")


def check_folder(folder: Path) -> str:
    """What is wrong with a run's folder, or ""."""
    try:
        expected = json.loads((folder / "checksums.json").read_bytes())
        if sorted(expected) != sorted(FILES):
            return "checksums.json does not list the files of a run"
        for name, digest in expected.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                return f"{name} fails its checksum"
        if RunConfig.from_dict(json.loads((folder / "config.json").read_bytes())).key != folder.name:
            return "its name is not the key of its config.json"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def read_folder(folder: Path) -> Run:
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    history = {name: [float(row[name]) if row[name] else math.nan for row in rows] for name in rows[0]}
    result = json.loads((folder / "result.json").read_text())
    numbers = lambda values: {k: math.nan if v is None else v for k, v in values.items()}  # noqa: E731
    return Run(
        RunConfig.from_dict(json.loads((folder / "config.json").read_text())),
        history,
        numbers(result["final"]),
        numbers(result["best"]),
        result["scores"],
        json.loads((folder / "environment.json").read_text()),
    )


def _json(value, indent: int | None = 1) -> str:
    return json.dumps(_plain(value), indent=indent, allow_nan=False) + "\n"


def _plain(value):
    """JSON has no nan; None stands for it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv(history: dict[str, list[float]]) -> str:
    rows = zip(*history.values(), strict=True)
    cell = lambda v: "" if math.isnan(v) else repr(v)  # noqa: E731 - repr: a float comes back bit for bit
    return "\n".join([",".join(history), *(",".join(map(cell, row)) for row in rows)]) + "\n"

