"""A chapter that is a script: its header says what it is, its cells tagged `definitions` hold its analysis."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bcebook.chapters.experiments import EXPERIMENTS
from bcebook.chapters.room import PARTS, Room

if TYPE_CHECKING:
    from collections.abc import Callable

    from bcebook.claims import Claim
    from bcebook.runs.store import Run

FIELDS = {"part": str, "number": int, "short": str, "of_the_paper": str, "question": str}
OPTIONAL = {"items": list, "experiment": str}


class Script:
    """A chapter of the book, read from book/NAME.py; nothing is executed until its analysis is asked for.

    The YAML header (jupytext keeps it as notebook metadata) has a part `bcebook`: part, number, short (title where a
    reader scans a list), of_the_paper, question, and where they apply items (keys of `paper.ITEMS` that the chapter
    rebuilds) and experiment (a key of EXPERIMENTS). The title is the first heading. Raises ValueError, one sentence,
    where the header is not of this form.
    """

    def __init__(self, path: Path):
        text = path.read_text(encoding="utf-8")
        header = _header(text)
        kinds = FIELDS | OPTIONAL
        if wrong := [name for name in FIELDS if not isinstance(header.get(name), FIELDS[name])]:
            raise ValueError(f"the header of {path.name} does not say {', '.join(wrong)} of the chapter.")
        if unknown := [name for name, value in header.items() if not isinstance(value, kinds.get(name, ()))]:
            raise ValueError(f"the header of {path.name} has an unknown or wrong {', '.join(unknown)}.")
        self.path, self.name, self.title = path, path.stem, re.search(r"^# # (.+)$", text, re.MULTILINE)[1]
        self.part, self.number, self.short = header["part"], header["number"], header["short"]
        self.of_the_paper, self.asks = header["of_the_paper"], header["question"]
        self.items = tuple(header.get("items", ()))
        if self.part not in PARTS:
            raise ValueError(f"the chapter {self.name} is in no part {self.part!r}; choose one of {', '.join(PARTS)}.")
        if header.get("experiment", next(iter(EXPERIMENTS))) not in EXPERIMENTS:
            known = ", ".join(EXPERIMENTS)
            raise ValueError(f"there is no experiment {header['experiment']!r}; choose one of {known}.")
        experiment = EXPERIMENTS.get(header.get("experiment"))
        self.runs = experiment.runs if experiment else None
        self.seeds = experiment.seeds if experiment else {}

    configs = Room.configs

    @functools.cached_property
    def definitions(self) -> dict:
        """The names that the cells tagged `definitions` define, in their order; other cells are not executed."""
        names = {"__name__": f"book.{self.name}"}
        for number, source in enumerate(_tagged(self.path.read_text(encoding="utf-8"), "definitions"), 1):
            exec(compile(source, f"{self.path.name}, definitions {number}", "exec"), names)  # the book's own code
        return names

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The CLAIMS of the script."""
        return self.definitions.get("CLAIMS", ())

    @property
    def figures(self) -> tuple[Callable, ...]:
        """The VIEWS of the script: functions of a `frame.of` that give a figure, a table or Markdown."""
        return self.definitions.get("VIEWS", ())

    tables = ()

    @staticmethod
    def view(runs: list[Run]):
        """Runs as the script's functions take them: a `frame.of`."""
        from bcebook import frame

        return frame.of(runs)


def _header(text: str) -> dict:
    """The part `bcebook` of a script's YAML header, {} where it has none."""
    lines = text.split("\n")
    if lines[0] != "# ---" or "# ---" not in lines[1:]:
        return {}
    block = [line.removeprefix("#").removeprefix(" ") for line in lines[1 : lines.index("# ---", 1)]]
    if "  bcebook:" not in block:  # most scripts of a registry that is asked often: without a parser
        return {}
    import yaml

    return yaml.safe_load("\n".join(block))["jupyter"]["bcebook"]


def is_script(path: Path) -> bool:
    """Whether a file of book/ is a chapter of this form."""
    return bool(_header(path.read_text(encoding="utf-8")))


def _tagged(text: str, tag: str) -> list[str]:
    """The sources of the code cells that have a tag."""
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    return [cell.partition("\n")[2] for cell in cells if f'"{tag}"' in cell.partition("\n")[0]]
