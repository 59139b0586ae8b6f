"""Searches that prove a point once: their results stand in data/theory, and a few rows are computed again where they
are shown. `ci/theory_tables.py` makes the files."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bcebook.lazy import lazy
from bcebook.paths import theory_tables

if TYPE_CHECKING:
    from pathlib import Path

    import pandas

pd = lazy("pandas")

AGAIN = "`python ci/theory_tables.py` makes it again"


@dataclass(frozen=True)
class TheoryTable:
    """A table of data/theory.

    name: of its file; made: how a row is found, with seed and restarts; settings: a dictionary a row; compute: a row's
    settings -> its results, numbers; live: the settings that are computed again, cheap ones; close: how far a result
    may differ on another processor, absolute and relative.
    """

    name: str
    made: str
    settings: tuple[dict, ...]
    compute: Callable[..., dict]
    live: tuple[dict, ...]
    close: float = 1e-6

    @property
    def path(self) -> Path:
        return theory_tables() / f"{self.name}.csv"

    @functools.cached_property
    def frame(self) -> pandas.DataFrame:
        """All rows, those of `live` as computed here; read-only. Raises ValueError, one sentence, for a file that is
        not as it was written, has other rows, or disagrees with what is computed here."""
        rows = self._read()
        for settings in self.live:
            at, here = self.settings.index(settings), self.compute(**settings)
            self.compare(rows[at], settings | here)
            rows[at] = settings | here
        return pd.DataFrame(rows)

    @property
    def note(self) -> str:
        """For a page: how many of the searches run on it."""
        live = len(self.live)
        return (f"{live} of the {len(self.settings)} searches run{'s' * (live == 1)} on this page; the results of the "
                f"others are read from `data/theory/{self.path.name}`, which `ci/theory_tables.py` makes.")

    def compare(self, kept: dict, here: dict) -> None:
        """Raises ValueError, one sentence, where a row of the file and the same row as computed here differ."""
        if kept.keys() != here.keys():
            raise ValueError(f"{self.path} has the columns {', '.join(kept)}, and {', '.join(here)} are computed here; "
                             f"{AGAIN}.")
        for name, value in here.items():
            same = kept[name] == value if isinstance(value, str) else (
                math.isclose(kept[name], value, rel_tol=self.close, abs_tol=self.close)
                or math.isnan(kept[name]) and math.isnan(value))
            if not same:
                raise ValueError(f"{self.path} says {name} = {kept[name]}, and {value} is computed here, in the row "
                                 f"{here}; {AGAIN}.")

    def write(self) -> None:
        """Compute every row and write the file."""
        rows = [settings | self.compute(**settings) for settings in self.settings]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
        self.path.parent.mkdir(exist_ok=True)
        head = f"# {self.made} Made by ci/theory_tables.py.\n# SHA-256 of the lines below: {_digest(text.getvalue())}\n"
        self.path.write_text(head + text.getvalue(), encoding="utf-8")

    def _read(self) -> list[dict]:
        try:
            _, digest, *lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} cannot be read ({error}); {AGAIN}.") from None
        body = "".join(lines)
        if digest.split()[-1:] != [_digest(body)]:
            raise ValueError(f"{self.path} is not as it was written: its lines do not have the digest that it names; "
                             f"{AGAIN}.")
        rows = [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(io.StringIO(body))]
        found = [{name: row.get(name) for name in settings}
                 for row, settings in zip(rows, self.settings, strict=False)]
        if len(rows) != len(self.settings) or found != list(self.settings):
            raise ValueError(f"{self.path} holds other settings than the {len(self.settings)} of this version; "
                             f"{AGAIN}.")
        return rows


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(value) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def _value(text: str):
    """What a cell holds: a whole number, another one, or a word."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
