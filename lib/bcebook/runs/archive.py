"""Runs in one file, to carry them from the machine that trained them: `write` there, `add` here, all verified."""

import io
import json
import math
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

from bcebook.runs import atomic
from bcebook.runs.store import FILES, Run, RunStore, check_folder, read_folder

LIMIT = 16 * 2**20 - 2**16  # bytes of an archive, a little under 16 MiB
FILE_LIMIT = 4 * 2**20  # bytes of one file inside: a run takes some 100 kB
MEMBER = re.compile(r"([0-9a-f]{16})/([a-z]+\.(?:json|csv))")
MEMBERS = (*FILES, "checksums.json")


class ArchiveError(ValueError):
    """An archive cannot be taken in; the message names the member and says why. Nothing of it was added."""


def write(store: RunStore, keys: list[str], path: Path) -> list[str]:
    """Put the whole runs of these keys into one zip at `path`, in this order and as many as fit; returns the keys left
    out.

    Replaces `path` only when the archive is complete. Raises OSError with the earlier file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    left, size, whole = [], 0, io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for key in keys:
            contents = {f"{key}/{name}": (store.root / key / name).read_bytes() for name in MEMBERS}
            packed = io.BytesIO()  # to know what a run adds before it is added
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as single:
                _put(single, contents)
            if size + packed.tell() > LIMIT:
                left.append(key)
                continue
            size += packed.tell()
            _put(target, contents)
    atomic.write(path, whole.getbuffer())
    return left


def _put(target: zipfile.ZipFile, contents: dict[str, bytes]) -> None:
    """Under a fixed date (1980), so that equal runs make equal archives."""
    for name, content in contents.items():
        target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def add(path: Path, recorded: Path) -> tuple[list[Run], list[Run]]:
    """Verify every run in the archive `path` and move the new ones into the folder `recorded`; (added, already there).

    All or nothing: raises ArchiveError, with `recorded` unchanged, if a member is not a file of a run, a checksum
    fails, a key is not that of its configuration, or a run is not whole (see `problem`). Only plain text is read;
    nothing is executed.
    """
    recorded.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".import-", dir=recorded))
    try:
        keys = _unpack(path, folder)
        runs = {}
        for key in keys:
            if damage := check_folder(folder / key):
                raise ArchiveError(f"{path}: run {key} is damaged ({damage}); nothing was added.")
            try:
                runs[key] = read_folder(folder / key)
                trouble = problem(runs[key])
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                trouble = f"its files do not hold a run ({type(error).__name__}: {error})"
            if trouble:
                raise ArchiveError(f"{path}: run {key} cannot be taken in: {trouble}; nothing was added.")
        store = RunStore(recorded)
        fresh = [key for key in keys if not store.find(runs[key].config)]
        for key in fresh:
            shutil.rmtree(recorded / key, ignore_errors=True)  # a damaged one: `find` has just said so
            (folder / key).rename(recorded / key)
        return [runs[key] for key in fresh], [runs[key] for key in keys if key not in fresh]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def problem(run: Run) -> str:
    """Why this is not the finished run of its own configuration, or ""."""
    config, history = run.config, run.history
    if history["epoch"] != [float(epoch) for epoch in range(config.epochs + 1)]:
        return f"its history does not have the epochs 0 to {config.epochs}"
    rates = [config.rate(epoch) for epoch in range(1, config.epochs + 1)]
    if not all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(history["learning_rate"][1:], rates, strict=True)):
        return "its learning rates are not those of its configuration"
    if not all(map(math.isfinite, history["train_loss"][1:])):
        return "its loss stopped being a number, so it is a failed run"
    if run.final["test_accuracy"] != history["test_accuracy"][-1] or run.final["train_nc1"] != history["nc1"][-1]:
        return "its final figures are not those of its last epoch"
    classes = run.scores["train"]["bias"]["count"]
    for split in ("train", "test"):
        positive, negative = (run.scores[split][kind]["count"] for kind in ("positive", "negative"))
        if negative != (classes - 1) * positive:
            return f"its {split} scores are not those of {classes} classes"
    if missing := {"device", "versions", "code", "date", "seconds"} - set(run.environment):
        return f"its environment.json does not say {', '.join(sorted(missing))}"
    return ""


def _unpack(path: Path, folder: Path) -> list[str]:
    """Write the files of an archive under `folder`; the keys in order. Only `<key>/<file of a run>` is written."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {}
            for info in archive.infolist():
                match = MEMBER.fullmatch(info.filename)
                if match and match[2] == "failed.json":
                    raise ArchiveError(f"{path}: {match[1]} is a failed run; nothing was added.")
                if not match or match[2] not in MEMBERS or (info.external_attr >> 16) & 0o170000 == 0o120000:
                    name = json.dumps(info.filename)
                    raise ArchiveError(f"{path}: {name} is not a file of a run; nothing was added.")
                if info.file_size > FILE_LIMIT:
                    raise ArchiveError(f"{path}: {info.filename} is larger than any file of a run; nothing was added.")
                members.setdefault(match[1], []).append(info)
            for key, infos in members.items():
                if sorted(info.filename for info in infos) != sorted(f"{key}/{name}" for name in MEMBERS):
                    raise ArchiveError(f"{path}: run {key} does not have each of {', '.join(MEMBERS)} once; "
                                       "nothing was added.")
                (folder / key).mkdir()
                for info in infos:
                    with archive.open(info) as source:
                        content = source.read(FILE_LIMIT + 1)  # the size in the header may lie
                    if len(content) != info.file_size:
                        raise ArchiveError(f"{path}: {info.filename} has not the size it claims; nothing was added.")
                    (folder / key / info.filename.split("/")[1]).write_bytes(content)
            return list(members)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zipfile.zlib.error) as error:
        raise ArchiveError(f"{path} is not a whole archive of runs ({error}); nothing was added.") from error
