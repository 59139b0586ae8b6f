"""Runs on disk: one file each, whole or absent."""

import contextlib
import hashlib
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bcebook.runs import atomic, files, former
from bcebook.runs.config import RunConfig
from bcebook.runs.files import Run, in_a_line
from bcebook.runs.locks import LockPermissionError, hold, owner

# What reading something that is damaged raises.
DAMAGE = (ArithmeticError, LookupError, TypeError, ValueError)
ABSENT = (FileNotFoundError, NotADirectoryError)


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

    A run is the file <key>.json, written under a temporary name and renamed when it is whole. One that is damaged, or
    cannot be read, is reported (a warning that names it) and counts as absent. A folder <key>, in which an earlier
    version kept a run, counts as its file; under `root` it becomes the file.
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
        found = self._whole(config.key)
        return files.read(found[1]) if found else None

    def has(self, config: RunConfig) -> bool:
        """Whether `find` would give a run: its file is checked, but not read into one."""
        return self._whole(config.key) is not None

    def state(self, config: RunConfig) -> str:
        """ "trained" here, "recorded" elsewhere, "failed" or "missing"."""
        if found := self._whole(config.key):
            return "trained" if found[0] == self.root else "recorded"
        return "failed" if self.failure(config) else "missing"

    def listing(self, configs: Iterable[RunConfig]) -> Iterator["Listed"]:
        """What a list says of each of these runs, in their order."""
        for config in configs:
            if found := self._whole(config.key):
                state = "trained" if found[0] == self.root else "recorded"
                yield Listed(config, state, files.read(found[1]).final["test_accuracy"])
            else:
                yield Listed(config, "failed" if self.failure(config) else "missing")

    def fingerprint(self, config: RunConfig) -> str:
        """A digest of the stored content ("" if there is none), to see whether what was made of it is up to date."""
        found = self._whole(config.key)
        return hashlib.sha256(found[1]).hexdigest()[:16] if found else ""

    def failure(self, config: RunConfig) -> dict | None:
        """Why this run failed: {"config", "cause", "environment"}, or None if it did not."""
        path = self._failure_path(config)
        try:
            return files.check_failure(files.parse_json(files.content(path)), config)
        except FileNotFoundError:
            return None
        except OSError as error:
            warnings.warn(f"{path} cannot be read ({error.strerror}) and is ignored.", stacklevel=2)
            return None
        except DAMAGE as error:
            warnings.warn(f"{path} is damaged ({in_a_line(error)}) and is ignored.", stacklevel=2)
            return None

    @contextlib.contextmanager
    def lock(self, config: RunConfig, wait: bool = True) -> Iterator[None]:
        """Hold this run against other processes: `hold`. Raises LockPermissionError too where this user cannot read the
        run that is there: training it again would be for nothing, since what cannot be read is not replaced."""
        other = f"another process, which trains {config.describe()}"
        with hold(self.root / ".locks" / f"{config.key}.lock", other, wait):
            try:
                self._content(self.root, config.key)
            except (*ABSENT, *DAMAGE):
                pass
            except OSError as error:
                sentence = f"{_unreadable(error)}, and is not replaced; make it readable, or move it away."
                raise LockPermissionError(sentence) from error
            yield

    def checkpoints(self, config: RunConfig) -> Path:
        """The folder for the checkpoints of a run that is not whole yet."""
        return self.checkpoint_root / config.key

    def weights(self, config: RunConfig) -> Path:
        """The file for the weights of a run that was trained here, to measure it anew; they do not travel."""
        return self.root / ".weights" / f"{config.key}.pt"

    def save(self, run: Run, anew: bool = False) -> None:
        """Write a run, all of it or nothing; where a whole one is there, only if `anew`. Call it under `lock`. Raises
        OSError (a full disk, say) with what was there as it was."""
        path, folder = self._path(self.root, run.config.key), self.root / run.config.key
        self.root.mkdir(parents=True, exist_ok=True)
        for stale in self.root.glob(f".{path.name}.*.tmp"):  # of a process that was killed while it held the lock
            stale.unlink()
        if not anew and (path.exists() or folder.exists()):
            found = self._whole(run.config.key)
            if found and found[0] == self.root:
                return
        atomic.write(path, files.text(run))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one: `_whole` has just said so
        self.forget_failure(run.config)

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

    def _whole(self, key: str) -> tuple[Path, bytes] | None:
        """Where the file of this key is that holds a whole run, own runs first, and its content."""
        for root in filter(None, (self.root, self.recorded)):
            try:
                return root, files.whole(self._content(root, key), key)
            except ABSENT:
                continue
            except (*DAMAGE, IsADirectoryError) as error:
                warnings.warn(
                    f"{self._path(root, key)} is damaged ({in_a_line(error)}); it counts as absent and will be "
                    "trained again.",
                    stacklevel=3,
                )
            except OSError as error:
                sentence = f"{_unreadable(error)}; it counts as absent for this user, and is left as it is."
                warnings.warn(sentence, stacklevel=3)
        return None

    def _content(self, root: Path, key: str) -> bytes:
        """The content of a run's file, which a former folder becomes where this store may write."""
        path, folder = self._path(root, key), root / key
        if path.exists() or not folder.is_dir():
            return files.content(path)
        try:
            text = files.text(former.read_folder(folder))
        except (*ABSENT, *DAMAGE):
            if path.exists():  # another process has just done the same
                return files.content(path)
            raise
        if root == self.root:
            with contextlib.suppress(OSError):  # a disk that is full, or can only be read: the folder stays
                atomic.write(path, text)
                shutil.rmtree(folder)
        return text.encode()

    @staticmethod
    def _path(root: Path, key: str) -> Path:
        return root / f"{key}.json"


def open_store(data: Path, recorded: bool = False) -> RunStore:
    """The store of a data folder: runs/ in front of recorded/, or recorded/ alone."""
    return RunStore(data / "recorded") if recorded else RunStore(data / "runs", data / "recorded")


def _unreadable(error: OSError) -> str:
    """The beginning of a sentence if the system does not let this user read a run, or fails to."""
    return f"{error.filename} cannot be read ({error.strerror}{owner(Path(error.filename))})"
