"""A run's checkpoints in a second place, so that another machine goes on where this one died."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import fsspec  # torch brings it

from bcebook.runs import meanwhile
from bcebook.runs.files import in_a_line
from bcebook.training import checkpoint

EVERY = 1.0  # seconds between two looks for a new checkpoint


@contextlib.contextmanager
def following(folder: Path, place: str, key: str) -> Iterator[None]:
    """Within the block, `folder`, in which a run keeps its checkpoints, has a copy in `place`/`key`. place: a folder
    or an address that fsspec knows, e.g. "s3://bucket/checkpoints".

    The copy's checkpoints are fetched first; new ones go there as they come, the last one at the end, and where the run
    is done, and has none any more, the copy is removed. A place that cannot be used is a warning: the run goes on
    without. A damaged copy does no harm: `checkpoint.latest` verifies what it reads.
    """
    there = _There(folder, place, key)
    there.attempt(there.fetch)
    try:
        with meanwhile.repeated(lambda: there.attempt(there.push), EVERY):
            yield
    finally:
        there.attempt(there.push)


class _There:
    """The copy of a folder of checkpoints."""

    def __init__(self, folder: Path, place: str, key: str):
        self.folder, self.place, self.key = folder, place, key
        self.told = self.had = False  # whether the folder has held a checkpoint

    def attempt(self, what) -> None:
        """Do it, or say once that it cannot be done: what a file system raises is open-ended."""
        try:
            files, root = fsspec.url_to_fs(self.place)
            what(files, f"{root}/{self.key}")
        except Exception as error:
            if not self.told:
                warnings.warn(
                    f"the checkpoints of {self.key} cannot be kept in {self.place} ({in_a_line(error)}); the "
                    "run goes on without.",
                    stacklevel=2,
                )
            self.told = True

    def fetch(self, files, root: str) -> None:
        if not files.exists(root):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self._names(files, root):
            files.get_file(f"{root}/{name}", str(self.folder / name))
            self.had = True

    def push(self, files, root: str) -> None:
        here = {path.name for path in self.folder.glob(f"*{checkpoint.SUFFIX}")}
        there = set(self._names(files, root)) if files.exists(root) else set()
        self.had = self.had or bool(here)
        if not here:
            if self.had and there:  # the run is done, and its checkpoints are gone
                files.rm(root, recursive=True)
            return
        files.makedirs(root, exist_ok=True)
        for name in sorted(here - there):
            # First under another name: on a file system of folders a copy that is cut short is no checkpoint.
            files.put_file(str(self.folder / name), f"{root}/{name}.part")
            files.mv(f"{root}/{name}.part", f"{root}/{name}")
        for name in there - here:
            files.rm(f"{root}/{name}")

    @staticmethod
    def _names(files, root: str) -> list[str]:
        files.invalidate_cache(root)
        names = [entry.rsplit("/", 1)[-1] for entry in files.ls(root, detail=False)]
        return [name for name in names if name.endswith(checkpoint.SUFFIX)]
