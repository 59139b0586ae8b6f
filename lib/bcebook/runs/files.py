"""The file of a run: a checksum, and everything else, so that every number comes back bit for bit."""

import hashlib
import json
import math
import reprlib
from dataclasses import dataclass
from pathlib import Path

from bcebook.runs.config import RunConfig

FILE_LIMIT = 16 * 2**20  # bytes of one file: a run takes some 60 kB, one that keeps features some 3 MB
PARTS = ("environment", "history", "final", "best", "scores", "features", "measures")
_CHECKED: set[tuple[str, str]] = set()  # (key, checksum) of runs found whole before


@dataclass(frozen=True)
class Run:
    """A finished run.

    history: column -> one value per epoch, the epoch-0 row being the network before training; nan where an epoch was
    not measured. final, best: name -> value (accuracies are fractions). scores: split ("train", "test") -> kind
    ("positive", "negative", "bias") -> the dictionary of a `summaries.ScoreSummary`. environment: what it ran on, how
    long, which code, when. features: None, or those of config.keep_features training images: "labels" (n), "epochs"
    (E), "width" (d) and "values", (E, n, d) float16 in C order, little-endian, as base64. measures: None, or what
    `training.finished.measures` found.
    """

    config: RunConfig
    history: dict[str, list[float]]
    final: dict[str, float]
    best: dict[str, float]
    scores: dict[str, dict[str, dict]]
    environment: dict
    features: dict | None = None
    measures: dict | None = None

    def __str__(self) -> str:
        return self.config.describe()

    def _repr_pretty_(self, printer, cycle: bool) -> None:
        """What Jupyter shows: a run has thousands of numbers."""
        printer.text(f"<run {self.config.key}: {self}>")


def text(run: Run) -> str:
    """The content of a run's file: a line for the SHA-256 of all the lines that follow, and one for each part."""
    parts = {"config": run.config.to_dict()} | {name: part for name in PARTS if (part := getattr(run, name))}
    lines = [f'"{name}":{_compact(part)}' for name, part in parts.items()]
    rest = ",\n".join(lines) + "\n}\n"
    return f'{{"checksum":"{hashlib.sha256(rest.encode()).hexdigest()}",\n{rest}'


def whole(content: bytes, key: str) -> bytes:
    """The content of a run's file again. Raises ValueError, one sentence, where it is not that of a finished run of
    this key: the one place that checks a run, so that nobody behind it meets a missing name, a text for a number or an
    infinite one."""
    head, _, rest = content.partition(b"\n")
    checksum = hashlib.sha256(rest).hexdigest()
    if head != f'{{"checksum":"{checksum}",'.encode():
        raise ValueError("it fails its checksum.")
    if (key, checksum) not in _CHECKED:
        checked(_parts(content), key)
        _CHECKED.add((key, checksum))
    return content


def read(content: bytes) -> Run:
    """The run of a content that is `whole`."""
    return _built(_parts(content))


def checked(values: dict, key: str) -> Run:
    """The run of these parts of a file. Raises ValueError, one sentence, where they are not a finished run's of this
    key."""
    from bcebook.runs import schema

    schema.validate(schema.Stored, values, key)
    return _built(values)


def _parts(content: bytes) -> dict:
    values = parse_json(content)
    del values["checksum"]
    return values


def _built(values: dict) -> Run:
    """The same with nan for null."""
    plain = {name: _numbers(values[name]) for name in ("history", "final", "best")}
    if measures := values.get("measures"):
        plain["measures"] = measures | {name: _numbers(measures[name]) for name in ("numbers", "per_class")}
    return Run(**values | plain | {"config": RunConfig.from_dict(values["config"])})


def _numbers(values: dict) -> dict:
    if any(isinstance(found, list) for found in values.values()):
        return {name: [math.nan if x is None else x for x in found] for name, found in values.items()}
    return {name: math.nan if x is None else x for name, x in values.items()}


def parse_json(content: bytes) -> dict:
    """The object that a file of JSON holds. Raises ValueError, one sentence, for anything else: also for what Python
    alone takes (NaN, Infinity), a name that stands twice, half a character, and nesting without end."""
    try:
        value = json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
        if rb"\ud" in content.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply.") from None
    except UnicodeError as error:
        raise ValueError(f"it is not text in UTF-8 ({error.reason}).") from None
    if not isinstance(value, dict):
        raise ValueError("it does not hold names with values.")
    return value


def in_a_line(error: Exception) -> str:
    """What an error says, in one line that is not too long to read; with its kind where that says more."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else f"{text[:300]} ..."
    plain = type(error) in (ValueError, RuntimeError) or isinstance(error, json.JSONDecodeError)
    return text if plain and text else f"{type(error).__name__}: {text}".rstrip(": ")


def content(path: Path) -> bytes:
    """A file whose size is known before it is read. Raises ValueError where it is too large, and OSError."""
    if path.stat().st_size > FILE_LIMIT:
        raise ValueError(f"{path.name} is larger than any file of a run.")
    return path.read_bytes()


def check_failure(values: dict, config: RunConfig) -> dict:
    """The values: {"config", "cause", "environment"} of this run. Raises ValueError, one sentence, for any others."""
    from bcebook.runs import schema

    schema.validate(schema.Failure, values, config.key)
    return values


def _once(pairs: list[tuple]) -> dict:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands in it twice.")
    return values


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _no_number(reprlib.repr(text))


def _no_number(name: str):
    raise ValueError(f"{name} is no number of JSON.")


def as_json(value) -> str:
    return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def _compact(value) -> str:
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def _plain(value):
    """JSON has no nan; None stands for it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
