"""Half a run on disk: the state of a training, whole or absent, so that a killed run goes on where it was."""

import hashlib
import io
import math
import shutil
import warnings
import zipfile
from pathlib import Path

import torch

from bcebook.runs import atomic
from bcebook.runs.files import in_a_line
from bcebook.runs.provenance import engine_version

SUFFIX, KEPT = ".ckpt", 2
STATE = {
    "engine": str,
    "autocast": bool,
    "epoch": int,
    "batch": int,
    "seconds": (int, float),
    "resumed": int,
    "history": dict,
    "loss_sum": torch.Tensor,
    "images": dict,
    "model": dict,
    "optimizer": dict,
}


def save(folder: Path, number: int, state: dict) -> None:
    """Write `state` (tensors and plain data) as checkpoint `number` of `folder`, which grows with each; the last two
    are kept.

    A file is 32 bytes of SHA-256 and what torch.save wrote, under its final name only when it is whole. Raises OSError
    (a full disk, say) with the earlier checkpoints as they were.
    """
    write(folder / f"{number:012d}{SUFFIX}", state)
    for path in _newest_first(folder)[KEPT:]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
        path.unlink(missing_ok=True)


def write(path: Path, state: dict) -> None:
    """One such file, whole or not at all. Raises OSError (a full disk, say) with an earlier one as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(state, content)
    payload = content.getbuffer()
    atomic.write(path, hashlib.sha256(payload).digest(), payload)


def read(path: Path) -> dict:
    """What `write` wrote, on the CPU. Raises ValueError where it is damaged, and whatever a hostile file makes torch
    raise; nothing in it is executed: torch.load with weights_only takes tensors and plain data only."""
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError("it fails its checksum")
    return _load(content[32:])


def latest(folder: Path) -> dict | None:
    """The newest checkpoint of `folder` that is whole, on the CPU; None if there is none. A damaged one is named in a
    warning."""
    for path in _newest_first(folder):
        try:
            state = read(path)
            # What another engine wrote may have another structure: who reads it asks for the engine first.
            if (trouble := problem(state)) and state.get("engine") == engine_version():
                raise ValueError(trouble)
            return state
        # What a hostile or cut pickle raises is open-ended, and none of it may stop the run.
        except Exception as error:
            reason = in_a_line(error)
            warnings.warn(
                f"{path} is damaged ({reason}) and is ignored; the run goes on from an earlier state.", stacklevel=2
            )
    return None


def problem(state: dict) -> str:
    """Why this is not the state of a training (`loop.Training.state`), or ""."""
    for name, kinds in STATE.items():
        value = state.get(name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            return f"it does not have the {name} of a training"
    epoch, batch = state["epoch"], state["batch"]
    if min(epoch, batch, state["resumed"]) < 0 or not 0 <= state["seconds"] < math.inf:
        return "it counts below zero or for ever"
    rows = epoch + 1 if epoch or batch else 0  # the network before training, and after each epoch
    for name, values in state["history"].items():
        if not isinstance(values, list) or len(values) != rows or not all(isinstance(each, float) for each in values):
            return f"its history of {name} is not that of {epoch} epochs"
    if state["loss_sum"].shape or not all(isinstance(each, torch.Tensor) for each in state["model"].values()):
        return "its model or its loss is none"
    return ""


def _load(content: bytes) -> dict:
    """What torch.save wrote: members that are stored as they are, so that none unpacks to more than the file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(info.compress_type for info in archive.infolist()):
            raise ValueError("it is packed, which torch.save does not do")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it holds no state")
    return state


def remove(folder: Path) -> None:
    """Delete the checkpoints of a run that is whole, or that failed."""
    shutil.rmtree(folder, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"), reverse=True)
