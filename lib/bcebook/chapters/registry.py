"""The chapters of the book: every module beside this one that declares a ROOM, in reading order. No list is kept by
hand."""

import functools
import importlib
import pkgutil
from pathlib import Path

from bcebook.chapters.room import PARTS, Room


@functools.cache
def rooms() -> dict[str, Room]:
    """Name -> room, ordered by part and number. Loads neither NumPy nor torch, pandas or matplotlib.

    Raises ValueError where a room's name is not its module's, or two rooms claim one place.
    """
    found = {}
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
