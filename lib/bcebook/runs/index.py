"""What is known of the runs on disk without reading them again: of each folder that was found whole, how its files
looked and what a list of runs says of it. A cache: whoever shows a run's numbers reads and verifies the run."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from bcebook.runs import atomic, config, files

NAME = ".index.json"
LIMIT = 64 * 2**20  # bytes: a hundred for each run


class Index:
    """The index of the folder `root`. Keys are folders' paths as text, values (look, test accuracy); a damaged or an
    outdated file counts as empty. `save` writes what was added."""

    def __init__(self, root: Path):
        self.path, self.changed = root / NAME, False
        self.known: dict[str, list] = {}
        with contextlib.suppress(OSError, ArithmeticError, TypeError, ValueError):
            if self.path.stat().st_size <= LIMIT:
                stored = files.parse_json(self.path.read_bytes())
                if stored.get("rules") == rules() and isinstance(stored.get("runs"), dict):
                    self.known = {name: entry for name, entry in stored["runs"].items() if _fits(entry)}

    def accuracy(self, folder: Path) -> float | None:
        """The test accuracy of the run in this folder, None where it has not been found whole as it looks now."""
        look, accuracy = self.known.get(str(folder), (None, None))
        return accuracy if look and look == _look(folder) else None

    def add(self, folder: Path, accuracy: float) -> None:
        """The run in this folder is whole."""
        self.known[str(folder)] = [_look(folder), accuracy]
        self.changed = True

    def save(self) -> None:
        """Nothing is lost where the folder cannot be written to: it is read again the next time."""
        if self.changed:
            with contextlib.suppress(OSError):
                atomic.write(self.path, json.dumps({"rules": rules(), "runs": self.known}) + "\n")
        self.changed = False


def rules() -> str:
    """A digest of the code that says what a whole run is."""
    sources = b"".join(Path(module.__file__).read_bytes() for module in (files, config))
    return hashlib.sha256(sources).hexdigest()[:16]


def _look(folder: Path) -> str:
    """Name, size and time of each file, "" where they cannot be seen: as git's index, it takes an altered file for the
    same only where all three are."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)
    except OSError:
        return ""
    return hashlib.blake2b(repr(seen).encode(), digest_size=12).hexdigest()


def _fits(entry) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], float)
        and 0 <= entry[1] <= 1
    )
