"""The chapters of the book, in reading order: every script of book/ whose header says what it is, and every module
beside this one that declares a ROOM. No list is kept by hand."""

import functools
import importlib
import pkgutil
from pathlib import Path

from bcebook.chapters.room import PARTS, Room
from bcebook.chapters.script import Script, is_script
from bcebook.paths import REPOSITORY


@functools.cache
def rooms() -> dict[str, Room | Script]:
    """Name -> room, ordered by part and number. Loads neither NumPy nor torch, pandas or matplotlib.

    Raises ValueError where a room's name is not its module's, or two rooms claim one place.
    """
    found = {path.stem: Script(path) for path in sorted((REPOSITORY / "book").glob("*.py")) if is_script(path)}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        room = getattr(importlib.import_module(f"bcebook.chapters.{module.name}"), "ROOM", None)
        if room is None:
            continue
        if room.name != module.name:
            raise ValueError(
                f"the room in chapters/{module.name}.py calls itself {room.name!r}; its name must be that "
                f"of its module."
            )
        found[room.name] = room
    place = {name: (list(PARTS).index(room.part), room.number) for name, room in found.items()}
    if twice := [name for name, at in place.items() if list(place.values()).count(at) > 1]:
        raise ValueError(f"the chapters {', '.join(twice)} have the same part and number; give each its own.")
    return {name: found[name] for name in sorted(found, key=place.__getitem__)}
