"""One holder at a time: lock files, and sentences on who holds them or bars the way."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


class RunLocked(RuntimeError):
    """Another process holds a lock; the message says which."""


class LockPermissionError(PermissionError):
    """The system does not let this user open what is there; the message says what, whose it is and what to do."""


@contextlib.contextmanager
def hold(path: Path, other: str, wait: bool = True, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path` against other processes; the system lets go of it when the holder dies, however it
    dies.

    other: who else may hold it, in words. wait: until it is free, and after a second say so in a line (on stderr);
    else raises RunLocked at once. Raises LockPermissionError where this user may not open the file.
    """
    from filelock import FileLock, Timeout

    # For every user: where several share a folder, whoever comes first makes the file. (Others' rights to the folder
    # decide; a lock file holds nothing.)
    lock = FileLock(path, mode=0o666)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1 if wait else 0)
        except Timeout:
            sentence = f"waiting for {other} (it holds {path}) ..."
            if not wait:
                raise RunLocked(sentence) from None
            say(sentence) if say else print(sentence, file=sys.stderr, flush=True)
            lock.acquire()
    except PermissionError as error:
        raise LockPermissionError(
            f"the lock {path} cannot be opened for writing ({error.strerror}{owner(path)}); take a folder "
            "of your own, or let its owner give you the right to write there."
        ) from error
    try:
        yield
    finally:
        lock.release()


def owner(path: Path) -> str:
    """Whose the file or the nearest folder above it is, as the end of a sentence; "" where nobody can say."""
    for place in (path, *path.parents):
        try:
            uid = place.stat().st_uid
        except OSError:
            continue
        try:
            return f": {place} belongs to {place.owner()}"
        except (KeyError, NotImplementedError):  # a uid without an account; Windows
            return f": {place} belongs to the user {uid}"
    return ""
