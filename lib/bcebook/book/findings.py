"""Findings on their way: a notebook's cell shows them and carries them, the build writes them down, other pages read
them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bcebook.chapters.recipes import RECORDED
from bcebook.chapters.registry import rooms
from bcebook.report import markdown
from bcebook.claims import MIME, Judged
from bcebook.runs.files import in_a_line, parse_json

LIMIT = 16 * 2**20  # bytes of a findings file: they have some 100 kB at most


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
    seconds: int = 0  # of training, of all its runs
    listed: tuple[dict, ...] = ()  # each run in short, see `claims.in_short`

    def evidence(self, claims: "list[Judged]") -> str:
        """On what these claims were judged, in words: the networks, and the seeds of the claim that has most."""
        used = [[run for run in self.listed if run["key"] in each.finding.runs] for each in claims]
        networks = dict.fromkeys((run["model"], run["dataset"]) for runs in used for run in runs)
        seeds = max((len({run["seed"] for run in runs}) for runs in used), default=0)
        return markdown.evidence(tuple(networks) or self.networks, seeds or len(self.seeds))


def extract(notebook: Path) -> dict[str, dict]:
    """Profile -> findings that the cells of an executed notebook carry. Raises ValueError if the file is no
    notebook."""
    found = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            payload = output.get("data", {}).get(MIME)
            if payload:
                found[payload["profile"]] = payload
    return found


def read(path: Path) -> Page:
    """A findings file, <profile>/<chapter>.json. Raises ValueError, naming the file, if it is damaged."""
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError("it is larger than any findings.")
        values = parse_json(path.read_bytes())
        for name, fits in PAGE.items():
            if not fits(values.get(name)):
                raise ValueError(f"its {name} cannot be.")
        if (values["profile"], values["chapter"]) != (path.parent.name, path.stem):
            raise ValueError("it is of another chapter or profile.")
        return of_payload(values | {"claims": [_checked(each) for each in values["claims"]]})
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold findings ({in_a_line(error)}) and has to be deleted; build its chapter "
                         "again.") from error


def of_payload(values: dict) -> Page:
    """The page of a `claims.payload`."""
    return Page(values["chapter"], values["profile"], values["runs"], values["of"], tuple(values["seeds"]),
                tuple(tuple(pair) for pair in values["networks"]), tuple(map(Judged.from_dict, values["claims"])),
                values.get("seconds") or 0, tuple(values.get("list") or ()))


def _checked(claim: dict) -> dict:
    """A claim of the file. Raises ValueError where one of its fields is not of the kind that `Judged` has."""
    if not all(_text(claim.get(name)) for name in ("name", "text", "source", "statistic")):
        raise ValueError("a claim is without its text.")
    due = [claim["finding"]]
    while due:
        finding = due.pop()
        for name, value in finding.items():
            if not FINDING.get(name, lambda value: False)(value):
                raise ValueError(f"the {name} of a finding cannot be.")
        due += [*filter(None, [finding.get("control")]), *finding.get("parts", ())]
    return claim


def _text(value) -> bool:
    return isinstance(value, str)


def _count(value) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _number(value) -> bool:
    """As `Finding.to_dict` writes one: nan as null, infinity as a word."""
    return value is None or value in ("inf", "-inf") or (type(value) in (int, float) and abs(value) <= 1e300)


def _list(fits: Callable) -> Callable:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _in_short(run) -> bool:
    return isinstance(run, dict) and _text(run.get("key")) and all(_text(v) or _number(v) for v in run.values())


PAGE = {"chapter": _text, "profile": _text, "runs": _count, "of": _count, "seeds": _list(_count),
        "seconds": lambda value: value is None or _count(value),  # a page of an earlier version does not say it
        "list": lambda value: value is None or _list(_in_short)(value),
        "networks": _list(lambda pair: _list(_text)(pair) and len(pair) == 2),
        "claims": _list(lambda claim: isinstance(claim, dict) and isinstance(claim.get("finding"), dict))}
FINDING = {"verdict": _text, "value": _number, "low": _number, "high": _number, "n": _count, "of": _text, "unit": _text,
           "rule": _text, "label": _text, "p": _number, "adjusted": _text, "detail": _text, "runs": _list(_text),
           "seeds": _count, "planned": _count,
           "control": lambda value: value is None or isinstance(value, dict),
           "parts": _list(lambda value: isinstance(value, dict))}


def folder(out: Path, profile: str) -> Path:
    """Where a build into `out` keeps its findings: those of a book of recorded runs by themselves, as the same chapter
    and profile may have other runs in a book that trains."""
    return out / ("findings-recorded" if profile == RECORDED else "findings")


def read_all(folder: Path) -> dict[tuple[str, str], Page]:
    """(profile, chapter) -> its findings, for every file under `folder`."""
    pages = [read(path) for path in sorted(folder.glob("*/*.json"))]
    return {(page.profile, page.chapter): page for page in pages}


def of_profile(found: dict[tuple[str, str], Page], profile: str) -> list[Page]:
    """The pages of one profile in reading order."""
    return [found[profile, name] for name in rooms() if (profile, name) in found]
