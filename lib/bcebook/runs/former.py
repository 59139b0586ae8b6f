"""Runs as earlier versions stored them, a folder of small files each: read, never written."""

import hashlib
import json
import re
import warnings
from pathlib import Path

from bcebook.runs.files import Run, checked, content, parse_json

SUMMED = ("config.json", "history.csv", "result.json", "environment.json")
SUMS, FEATURES, MEASURES = "checksums.json", "features.json", "measures.json"
MEMBERS = (*SUMMED, SUMS)  # of every run
SOME = (FEATURES, MEASURES)  # of some


def read_folder(folder: Path) -> Run:
    """The run in a folder that its key names; without its measures, and with a warning, where they alone are damaged.
    Raises ValueError, one sentence, where it holds none, and OSError where it cannot be read."""
    contents = {path.name: content(path) for path in folder.iterdir() if path.name in (*MEMBERS, *SOME)}
    try:
        return read(contents, folder.name)
    except ValueError as error:
        if contents.pop(MEASURES, None) is None:
            raise
        run = read(contents, folder.name)
        warnings.warn(
            f"{folder / MEASURES} is damaged ({error}); the run is taken without its measures. `bcebook measure` makes "
            "them anew.",
            stacklevel=6,
        )
        return run


def read(contents: dict[str, bytes], key: str) -> Run:
    """The run of the key whose files (name -> content) these are. Raises ValueError, one sentence, where they are not
    those of a whole run."""
    sums = parse_json(contents.get(SUMS, b"{}"))
    if set(sums) != set(contents) - {SUMS, MEASURES} or not set(SUMMED) <= set(sums):
        raise ValueError(f"{SUMS} does not list the files of a run.")
    for name, digest in sums.items():
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise ValueError(f"{name} fails its checksum.")
    values = parse_json(contents["result.json"])
    if set(values) != {"final", "best", "scores"}:
        raise ValueError("result.json does not have final, best and scores.")
    values |= {name: parse_json(contents[f"{name}.json"]) for name in ("config", "environment")}
    values["history"] = _columns(contents["history.csv"].decode())
    if FEATURES in contents:
        values["features"] = parse_json(contents[FEATURES])
    if MEASURES in contents:
        values["measures"] = _measures(parse_json(contents[MEASURES]))
    return checked(values, key)


def _columns(text: str) -> dict[str, list[float | None]]:
    """A table of numbers; nothing stands for nan. Only a number's characters may stand in it: Python also takes 1_0."""
    head, _, body = text.partition("\n")
    columns, rows = head.split(","), [row.split(",") for row in body.removesuffix("\n").split("\n")]
    if len(set(columns)) != len(columns) or set(map(len, rows)) != {len(columns)}:
        raise ValueError("history.csv has rows of different lengths, or a column twice.")
    if not re.fullmatch(r"[-+.,e\d\n]*", body, re.ASCII):
        raise ValueError("history.csv holds something that is no number.")
    cells = zip(*rows, strict=True)
    return {name: [float(x) if x else None for x in column] for name, column in zip(columns, cells, strict=True)}


def _measures(values: dict) -> dict:
    """They had a checksum of their own, of their text, for a run could be measured anew."""
    inner = json.dumps(values.get("measures")) + "\n"
    if set(values) != {"sha256", "measures"} or hashlib.sha256(inner.encode()).hexdigest() != values["sha256"]:
        raise ValueError(f"{MEASURES} fails its checksum.")
    return values["measures"]
