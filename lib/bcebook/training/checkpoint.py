"""Half a run on disk: the state of a training, whole or absent, so that a killed run goes on where it was."""

import hashlib
import io
import shutil
import warnings
from pathlib import Path

import torch

from bcebook.runs import atomic

SUFFIX, KEPT = ".ckpt", 2


def save(folder: Path, number: int, state: dict) -> None:
    """Write `state` (tensors and plain data) as checkpoint `number` of `folder`, which grows with each; the last two
    are kept.

    A file is 32 bytes of SHA-256 and what torch.save wrote, under its final name only when it is whole. Raises OSError
    (a full disk, say) with the earlier checkpoints as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(state, content)
    payload = content.getbuffer()
    atomic.write(folder / f"{number:012d}{SUFFIX}", hashlib.sha256(payload).digest(), payload)
    for path in _newest_first(folder)[KEPT:]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
        path.unlink(missing_ok=True)


def latest(folder: Path) -> dict | None:
    """The newest checkpoint of `folder` that is whole, on the CPU; None if there is none. A damaged one is named in a
    warning.

    Nothing in the file is executed: torch.load with weights_only takes tensors and plain data only.
    """
    for path in _newest_first(folder):
        try:
            content = path.read_bytes()
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                raise ValueError("it fails its checksum")
            return torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
        # What a hostile or cut pickle raises is open-ended, and none of it may stop the run.
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"{path} is damaged ({reason}) and is ignored; the run goes on from an earlier state.",
                          stacklevel=2)
    return None


def remove(folder: Path) -> None:
    """Delete the checkpoints of a run that is whole, or that failed."""
    shutil.rmtree(folder, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"), reverse=True)
