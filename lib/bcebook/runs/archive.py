"""Runs in one file, to carry them from the machine that trained them: `write` there, `add` here, all verified."""

import contextlib
import io
import json
import lzma
import re
import shutil
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bcebook.runs import atomic, files, former, meanwhile
from bcebook.runs.files import Run, in_a_line
from bcebook.runs.locks import hold
from bcebook.runs.store import DAMAGE, RunStore

LIMIT = 16 * 2**20 - 2**16  # bytes of an archive, a little under 16 MiB
EVERY = 60.0  # seconds between two looks at what is new, see `following`
FILE_LIMIT = 8 * 2**20  # bytes of one file inside: a run takes some 60 kB, one that keeps features some 3 MB
ARCHIVE_LIMIT, CONTENT_LIMIT = 4 * LIMIT, 32 * LIMIT  # bytes of an archive that is taken in, packed and unpacked
# What zipfile and the decompressors behind it raise where the bytes are not an archive's.
UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
MEMBER = re.compile(r"([0-9a-f]{16})(?:\.json|/([a-z]+\.(?:json|csv)))")  # a run's file, or one of a former folder


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
            content, packed = (store.root / f"{key}.json").read_bytes(), io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as single:
                _put(single, key, content)  # to know what a run adds before it is added
            if size + packed.tell() > LIMIT:
                left.append(key)
                continue
            size += packed.tell()
            _put(target, key, content)
    atomic.write(path, whole.getbuffer())
    return left


def write_parts(store: RunStore, keys: list[str], path: Path) -> list[Path]:
    """As `write`, in as many archives as the runs take: runs.zip, runs-2.zip and so on; the parts, in their order. A
    part of an earlier call that is not one of them any more is removed."""
    parts, left = [], keys
    while left or not parts:
        parts.append(path.with_stem(f"{path.stem}-{len(parts) + 1}") if parts else path)
        keys, left = left, write(store, left, parts[-1])
        if left and left == keys:
            raise ValueError(f"the run {left[0]} alone is larger than an archive may be; it stays where it is.")
    number = len(parts) + 1
    while (stale := path.with_stem(f"{path.stem}-{number}")).exists():
        stale.unlink()
        number += 1
    return parts


@contextlib.contextmanager
def following(store: RunStore, done: Callable[[], list[str]], path: Path, every: float = EVERY) -> Iterator[None]:
    """While it is open, the archive at `path` (see `write_parts`) is written anew wherever `done` gives other keys than
    before, asked every so many seconds: whatever ends the process, or takes its machine away, costs the runs of the
    last moments alone. Where it cannot be written, a warning says so, and the work goes on."""
    before: list[str] = []

    def write_anew() -> None:
        nonlocal before
        try:
            if (keys := done()) != before:
                write_parts(store, keys, path)
                before = keys
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} could not be brought up to date ({error}); it is tried again.", stacklevel=2)

    with meanwhile.repeated(write_anew, every):
        yield


def _put(target: zipfile.ZipFile, key: str, content: bytes) -> None:
    """Under a fixed date (1980), so that equal runs make equal archives."""
    target.writestr(zipfile.ZipInfo(f"{key}.json"), content, zipfile.ZIP_DEFLATED)


def add(
    path: Path, recorded: Path, refuse: Callable[[list[Run]], str] = lambda runs: ""
) -> tuple[list[Run], list[Run]]:
    """Verify every run in the archive `path` and move the new ones into the folder `recorded`; (added, already there).
    A run that is already there gets the archive's measures where it has none, or those of an earlier version.

    The archive is one of today, a file a run, or a former one, a folder a run. All or nothing: raises ArchiveError,
    with `recorded` unchanged, if a member is not a file of a run, a checksum fails, a run is not whole (see
    `files.whole`), or `refuse` says why the runs are not wanted. Only plain text is read; nothing is executed.
    """
    contents = _read(path)
    with hold(recorded.parent / f".{recorded.name}.lock", f"another import into {recorded}"):
        return _add(path, contents, recorded, refuse)


def _add(
    path: Path, contents: dict[str, dict[str, bytes]], recorded: Path, refuse: Callable[[list[Run]], str]
) -> tuple[list[Run], list[Run]]:
    """See `add`; under the lock of `recorded`."""
    recorded.mkdir(parents=True, exist_ok=True)
    for stale in recorded.glob(".import-*"):  # of an import that was killed
        shutil.rmtree(stale, ignore_errors=True)
    runs = {}
    for key, content in contents.items():
        try:
            runs[key] = former.read(content, key) if "" not in content else files.read(files.whole(content[""], key))
        except DAMAGE as error:
            raise ArchiveError(f"{path}: run {key} is damaged ({in_a_line(error)}); nothing was added.") from error
    if why := refuse(list(runs.values())):
        raise ArchiveError(f"{path}: {why}; nothing was added.")
    store, added = RunStore(recorded), []
    with tempfile.TemporaryDirectory(prefix=".import-", dir=recorded, ignore_cleanup_errors=True) as folder:
        for run in runs.values():
            before, measures = store.find(run.config), run.measures
            if not before:
                added.append(run)
            elif measures and (not before.measures or before.measures["version"] < measures["version"]):
                run = replace(before, measures=measures)
            else:
                continue
            atomic.write(Path(folder) / f"{run.config.key}.json", files.text(run))
        for each in Path(folder).iterdir():
            each.replace(recorded / each.name)
    return added, [run for run in runs.values() if run not in added]


def _read(path: Path) -> dict[str, dict[str, bytes]]:
    """Key -> name (see `_members`) -> content of an archive's runs, in its order. What it says of its sizes is looked
    at before anything is read, so that a small file cannot fill the memory."""
    if not path.is_file():
        what = "is no file" if path.exists() else "is not there"
        raise ArchiveError(f"{path} {what}; give the runs.zip that `bcebook record` wrote. Nothing was added.")
    if path.stat().st_size > ARCHIVE_LIMIT:
        raise ArchiveError(f"{path} is larger than any archive of runs; nothing was added.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive.infolist())
            return {
                key: {name: _member(path, archive, info) for name, info in found.items()}
                for key, found in members.items()
            }
    except ArchiveError:
        raise
    except UNREADABLE as error:
        raise ArchiveError(f"{path} is not a whole archive of runs ({in_a_line(error)}); nothing was added.") from error


def _members(path: Path, infos: list[zipfile.ZipInfo]) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Key -> name in a former folder, or "" for a run's one file -> entry of the archive's directory, each run whole.
    Raises ArchiveError for any other entry."""
    members = {}
    for info in infos:
        match, named = MEMBER.fullmatch(info.filename), json.dumps(info.filename[:100])
        if failed := re.fullmatch(r"([0-9a-f]{16})[/.]failed\.json", info.filename):
            raise ArchiveError(f"{path}: {failed[1]} is a failed run; nothing was added.")
        name = match and (match[2] or "")
        if name not in ("", *former.MEMBERS, *former.SOME) or (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise ArchiveError(f"{path}: {named} is not a file of a run; nothing was added.")
        if info.file_size > FILE_LIMIT:
            raise ArchiveError(f"{path}: {info.filename} is larger than any file of a run; nothing was added.")
        if name in members.setdefault(match[1], {}):
            raise ArchiveError(f"{path}: {info.filename} stands in it twice; nothing was added.")
        members[match[1]][name] = info
    for key, found in members.items():
        if set(found) != {""} and set(found) - set(former.SOME) != set(former.MEMBERS):
            names = ", ".join(former.MEMBERS)
            raise ArchiveError(f"{path}: run {key} does not have each of {names} once; nothing was added.")
    if not members:
        raise ArchiveError(f"{path} has no run in it; nothing was added.")
    if sum(info.file_size for info in infos) > CONTENT_LIMIT:
        raise ArchiveError(f"{path} says that it unpacks to more than any archive of runs; nothing was added.")
    return members


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as source:
        content = source.read(info.file_size + 1)  # the size in the directory may lie
    if len(content) != info.file_size:
        raise ArchiveError(f"{path}: {info.filename} has not the size it claims; nothing was added.")
    return content
