"""Findings on their way: a notebook's cell shows them and carries them, the build writes them down, other pages read
them."""

import json
from dataclasses import dataclass
from pathlib import Path

from bcebook.report import markdown
from bcebook.report.claims import MIME, Judged


class Shown:
    """What a cell displays: Markdown for the reader and, under a type of its own, the findings as data."""

    def __init__(self, payload: dict, judged: list[Judged]):
        self.payload, self.judged = payload, judged

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        text = markdown.findings(self.judged)
        return {"text/markdown": text, "text/plain": text, MIME: self.payload}


@dataclass(frozen=True)
class Page:
    """What one chapter found in one profile: its findings file, read."""

    chapter: str
    profile: str
    runs: int
    of: int
    seeds: tuple[int, ...]
    networks: tuple[tuple[str, str], ...]
    claims: tuple[Judged, ...]


def extract(notebook: Path) -> dict[str, dict]:
    """Profile -> findings that the cells of an executed notebook carry. Raises ValueError if the file is no
    notebook."""
    found = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        for output in cell.get("outputs", ()):
            payload = output.get("data", {}).get(MIME)
            if payload:
                found[payload["profile"]] = payload
    return found


def read(path: Path) -> Page:
    """A findings file. Raises ValueError, naming the file, if it is damaged."""
    try:
        values = json.loads(path.read_text())
        claims = tuple(Judged.from_dict(each) for each in values["claims"])
        return Page(values["chapter"], values["profile"], int(values["runs"]), int(values["of"]), tuple(values["seeds"]),
                    tuple(tuple(pair) for pair in values["networks"]), claims)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold findings ({type(error).__name__}: {error}); build its chapter again.") from error


def read_all(folder: Path) -> dict[tuple[str, str], Page]:
    """(profile, chapter) -> its findings, for every file under `folder`."""
    pages = [read(path) for path in sorted(folder.glob("*/*.json"))]
    return {(page.profile, page.chapter): page for page in pages}
