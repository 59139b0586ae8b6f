"""The one safe write: a file is there whole under its name, or it is not there."""

import os
from pathlib import Path


def write(path: Path, *parts: str | bytes | memoryview) -> None:
    """Make `path` a file of these parts, text as UTF-8. Whoever reads it sees the earlier file or all of the new one.

    Written beside it under a temporary name, brought to the disk (fsync), and renamed. Raises OSError (a full disk,
    say) with the earlier file as it was and nothing left behind.
    """
    partial = temporary(path)
    try:
        with open(partial, "wb") as file:
            for part in parts:
                file.write(part.encode() if isinstance(part, str) else part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    """The name beside `path` that this process writes under; it begins with a dot and ends with .tmp."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
