"""Runs on disk: one folder each, whole or absent."""

import contextlib
import hashlib
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bcebook.runs import atomic, files, measured
from bcebook.runs.config import RunConfig
from bcebook.runs.files import FILES, Run, check_folder, in_a_line, read_folder
from bcebook.runs.locks import LockPermissionError, hold, owner


@dataclass(frozen=True)
class Listed:
    """A line of a list of runs. state: see `RunStore.state`; accuracy: on the test set, None where there is no run."""

    config: RunConfig
    state: str
    accuracy: float | None = None

    @property
    def there(self) -> bool:
        return self.accuracy is not None


class RunStore:
    """The runs under `root`, and behind them the read-only ones under `recorded`. checkpoints: the folder of those of
    unfinished runs, where it is not in `root`.

    A run is written under a temporary name and renamed when it is whole; every file stands in checksums.json. A folder
    that fails its checksums, or cannot be read, is reported (a warning that names it) and counts as absent.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        recorded: str | os.PathLike | None = None,
        checkpoints: str | os.PathLike | None = None,
    ):
        self.root = Path(root)
        self.checkpoint_root = Path(checkpoints) if checkpoints else self.root / ".checkpoints"
        self.recorded = Path(recorded) if recorded else None

    def find(self, config: RunConfig) -> Run | None:
        """The run of this configuration, or None. Never a damaged or a failed one."""
        folder = self._whole(config.key)
        return replace(read_folder(folder), measures=measured.beside(folder)) if folder else None

    def has(self, config: RunConfig) -> bool:
        """Whether `find` would give a run: its files are checked, but not read into one."""
        return self._whole(config.key) is not None

    def state(self, config: RunConfig) -> str:
        """ "trained" here, "recorded" elsewhere, "failed" or "missing"."""
        if folder := self._whole(config.key):
            return "trained" if folder.parent == self.root else "recorded"
        return "failed" if self.failure(config) else "missing"

    def listing(self, configs: Iterable[RunConfig]) -> Iterator["Listed"]:
        """What a list says of each of these runs, in their order."""
        for config in configs:
            if folder := self._whole(config.key):
                state = "trained" if folder.parent == self.root else "recorded"
                yield Listed(config, state, read_folder(folder).final["test_accuracy"])
            else:
                yield Listed(config, "failed" if self.failure(config) else "missing")

    def fingerprint(self, config: RunConfig) -> str:
        """A digest of the stored content ("" if there is none), to see whether what was made of it is up to date."""
        folder = self._whole(config.key)
        parts = [folder / "checksums.json", folder / measured.NAME] if folder else []
        content = b"".join(part.read_bytes() for part in parts if part.exists())
        return hashlib.sha256(content).hexdigest()[:16] if folder else ""

    def failure(self, config: RunConfig) -> dict | None:
        """Why this run failed: {"config", "cause", "environment"}, or None if it did not."""
        path = self._failure_path(config)
        try:
            return files.read_failure(path, config)
        except FileNotFoundError:
            return None
        except OSError as error:
            warnings.warn(f"{path} cannot be read ({error.strerror}) and is ignored.", stacklevel=2)
            return None
        except (ArithmeticError, TypeError, ValueError) as error:
            warnings.warn(f"{path} is damaged ({in_a_line(error)}) and is ignored.", stacklevel=2)
            return None

    @contextlib.contextmanager
    def lock(self, config: RunConfig, wait: bool = True) -> Iterator[None]:
        """Hold this run against other processes: `hold`. Raises LockPermissionError too where this user cannot read the
        run that is there: training it again would be for nothing, since what cannot be read is not replaced."""
        other = f"another process, which trains {config.describe()}"
        with hold(self.root / ".locks" / f"{config.key}.lock", other, wait):
            if sentence := _unreadable(self.root / config.key):
                raise LockPermissionError(f"{sentence}, and is not replaced; make it readable, or move it away.")
            yield

    def checkpoints(self, config: RunConfig) -> Path:
        """The folder for the checkpoints of a run that is not whole yet."""
        return self.checkpoint_root / config.key

    def weights(self, config: RunConfig) -> Path:
        """The file for the weights of a run that was trained here, to measure it anew; they do not travel."""
        return self.root / ".weights" / f"{config.key}.pt"

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
                "config.json": files.as_json(run.config.to_dict()),
                "history.csv": files.as_csv(run.history),
                "result.json": files.as_json(result, indent=None),  # thousands of histogram counts: one line
                "environment.json": files.as_json(run.environment),
            }
            if run.features:
                contents[files.FEATURES] = files.as_json(run.features, indent=None)
            sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in contents.items()}
            if run.measures:
                contents[measured.NAME] = measured.text(run.measures)
            for name, text in (contents | {"checksums.json": files.as_json(sums)}).items():
                atomic.write(partial / name, text)
            target = self.root / key
            if target.exists():
                if self._whole(key) == target:
                    return
                shutil.rmtree(target)  # damaged: `_whole` has just said so
            os.rename(partial, target)
            self.forget_failure(run.config)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def save_failure(self, config: RunConfig, cause: str, environment: dict) -> None:
        """Record that a run ended without a result, and why."""
        self.root.mkdir(parents=True, exist_ok=True)
        failure = {"config": config.to_dict(), "cause": cause, "environment": environment}
        atomic.write(self._failure_path(config), files.as_json(failure))

    def forget_failure(self, config: RunConfig) -> None:
        """Of a run that has succeeded since."""
        self._failure_path(config).unlink(missing_ok=True)

    def _failure_path(self, config: RunConfig) -> Path:
        return self.root / f"{config.key}.failed.json"

    def _whole(self, key: str) -> Path | None:
        """The folder of this key that passes its checksums, own runs first."""
        for root in filter(None, (self.root, self.recorded)):
            folder = root / key
            if not folder.is_dir():
                continue
            if sentence := _unreadable(folder):
                warnings.warn(f"{sentence}; it counts as absent for this user, and is left as it is.", stacklevel=3)
            elif problem := check_folder(folder):
                warnings.warn(
                    f"{folder} is damaged ({problem}); it counts as absent and will be trained again.", stacklevel=3
                )
            else:
                return folder
        return None


def open_store(data: Path, recorded: bool = False) -> RunStore:
    """The store of a data folder: runs/ in front of recorded/, or recorded/ alone."""
    return RunStore(data / "recorded") if recorded else RunStore(data / "runs", data / "recorded")


def _unreadable(folder: Path) -> str:
    """The beginning of a sentence if the system does not let this user read a run's folder, or fails to; else ""."""
    for path in (folder, *(folder / name for name in (*FILES, files.FEATURES, measured.NAME, "checksums.json"))):
        try:
            os.scandir(path).close() if path is folder else open(path, "rb").close()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue  # not there, or not a run's: damage, if anything
        except OSError as error:
            return f"{path} cannot be read ({error.strerror}{owner(path)})"
    return ""
