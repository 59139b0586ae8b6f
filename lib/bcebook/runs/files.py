"""The files of a run: read and validated in one place, and written so that every number comes back bit for bit."""

import base64
import datetime
import hashlib
import json
import math
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path

from bcebook.runs.config import RunConfig

FILES = ("config.json", "history.csv", "result.json", "environment.json")
FEATURES = "features.json"  # beside them where a run's settings ask for it
FILE_LIMIT = 16 * 2**20  # bytes of one file: a run takes some 100 kB
# What every engine so far has measured; later ones add to it.
HISTORY = (
    "epoch",
    "learning_rate",
    "train_loss",
    "bias_mean",
    "bias_std",
    "bias_min",
    "bias_max",
    "test_accuracy",
    "test_uniform_accuracy",
    "test_uniform_threshold",
    "train_accuracy",
    "train_uniform_accuracy",
    "train_uniform_threshold",
    "nc1",
    "nc2",
    "nc2_means",
    "nc3",
    "positive_median",
    "negative_median",
)
FINAL = tuple(
    f"{split}_{name}"
    for split in ("train", "test")
    for name in (
        "accuracy",
        "uniform_accuracy",
        "uniform_threshold",
        "nc1",
        "nc2",
        "nc2_means",
        "nc3",
        "compactness",
        "distinctiveness",
    )
)
BEST = (
    "test_accuracy",
    "test_accuracy_epoch",
    "test_uniform_accuracy_there",
    "test_uniform_accuracy",
    "test_uniform_accuracy_epoch",
)
KINDS = ("positive", "negative", "bias")  # of scores
LEVELS = 11  # quantiles of a summary; summaries.QUANTILES has them, but imports NumPy
_CHECKED: set[tuple[str, bytes]] = set()  # runs found whole before: a checksums.json stands for all that it sums


@dataclass(frozen=True)
class Run:
    """A finished run.

    history: column -> one value per epoch, the epoch-0 row being the network before training; nan where an epoch was
    not measured. final, best: name -> value (accuracies are fractions). scores: split ("train", "test") -> kind
    ("positive", "negative", "bias") -> the dictionary of a `summaries.ScoreSummary`. environment: what it ran on, how
    long, which code, when. features: None, or those of config.keep_features training images: "labels" (n), "epochs"
    (E), "width" (d) and "values", (E, n, d) float16 in C order, little-endian, as base64. measures: None, or what
    `training.finished.measures` found, which lie in a file of their own (runs/measured.py).
    """

    config: RunConfig
    history: dict[str, list[float]]
    final: dict[str, float]
    best: dict[str, float]
    scores: dict[str, dict[str, dict]]
    environment: dict
    features: dict | None = None
    measures: dict | None = None


def check_folder(folder: Path) -> str:
    """What is wrong with a run's folder, or "": its checksums fail, or its files, sums or no sums, are not those of a
    finished run of the configuration that its name is the key of."""
    try:
        listed = content(folder / "checksums.json")
        expected = parse_json(listed)
        if sorted(expected) != sorted([*FILES, FEATURES] if (folder / FEATURES).exists() else FILES):
            return "checksums.json does not list the files of a run"
        for name, digest in expected.items():
            if hashlib.sha256(content(folder / name)).hexdigest() != digest:
                return f"{name} fails its checksum"
        seen = folder.name, hashlib.sha256(listed).digest()
        if seen in _CHECKED:
            return ""
        run = read_folder(folder)
        trouble = "its name is not the key of its config.json" if run.config.key != folder.name else problem(run)
        if not trouble:
            _CHECKED.add(seen)
        return trouble
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return f"its files do not hold a run: {in_a_line(error)}"


def read_folder(folder: Path) -> Run:
    """The run that the files of a folder hold. Raises ValueError, one sentence, where they hold none: the one place
    that reads a run, so that nobody behind it meets a missing name, a text for a number or an infinite one."""
    result = parse_json(content(folder / "result.json"))
    if set(result) != {"final", "best", "scores"}:
        raise ValueError("result.json does not have final, best and scores.")
    environment = parse_json(content(folder / "environment.json"))
    if lacking := [
        name
        for name, fits in ENVIRONMENT.items()
        if not (fits(environment.get(name)) or (name in LATER and name not in environment))
    ]:
        raise ValueError(f"environment.json does not say {', '.join(lacking)} as a run does.")
    return Run(
        RunConfig.from_dict(parse_json(content(folder / "config.json"))),
        _history(content(folder / "history.csv").decode()),
        figures("final", result["final"], FINAL),
        figures("best", result["best"], BEST),
        _scores(result["scores"]),
        environment,
        _features(parse_json(content(folder / FEATURES))) if (folder / FEATURES).exists() else None,
    )


def problem(run: Run) -> str:
    """Why this is not the finished run of its own configuration, or ""."""
    config, history, final, best = run.config, run.history, run.final, run.best
    epochs = history["epoch"]
    if len(epochs) != config.epochs + 1 or epochs != [float(epoch) for epoch in range(config.epochs + 1)]:
        return f"its history does not have the epochs 0 to {config.epochs}"
    rates = [config.rate(epoch) for epoch in range(1, config.epochs + 1)]
    if not all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(history["learning_rate"][1:], rates, strict=True)):
        return "its learning rates are not those of its configuration"
    if not all(map(math.isfinite, history["train_loss"][1:])):
        return "its loss stopped being a number, so it is a failed run"
    for name, column in (("test_accuracy", "test_accuracy"), ("train_nc1", "nc1")):
        if not _same(final[name], history[column][-1]):
            return "its final figures are not those of its last epoch"
    for name in ("test_accuracy", "test_uniform_accuracy"):
        at = best[f"{name}_epoch"]
        if at not in range(1, config.epochs + 1) or best[name] != history[name][int(at)]:
            return "its best figures are not those of the epochs that they name"
    classes = run.scores["train"]["bias"]["count"]
    for split in ("train", "test"):
        positive, negative, bias = (run.scores[split][kind]["count"] for kind in KINDS)
        if bias != classes or negative != (classes - 1) * positive:
            return f"its {split} scores are not those of {classes} classes"
    kept = run.features
    if bool(config.keep_features) != bool(kept) or (
        kept
        and (
            len(kept["labels"]) != config.keep_features
            or kept["epochs"][-1] != config.epochs
            or max(kept["labels"]) >= classes
        )
    ):
        return "its features are not those that its configuration asks for"
    return ""


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
    """A file whose size is known before it is read."""
    if path.stat().st_size > FILE_LIMIT:
        raise ValueError(f"{path.name} is larger than any file of a run.")
    return path.read_bytes()


def _once(pairs: list[tuple]) -> dict:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands in it twice.")
    return values


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _no_number(reprlib.repr(text))


def _no_number(name: str):
    raise ValueError(f"{name} is no number of JSON.")


def _history(text: str) -> dict[str, list[float]]:
    """history.csv, as `_csv` wrote it. Only the characters of a number may stand in it: Python also takes 1_0."""
    head, _, body = text.partition("\n")
    columns, rows = head.split(","), [row.split(",") for row in body.removesuffix("\n").split("\n")]
    if len(set(columns)) != len(columns) or not set(HISTORY) <= set(columns):
        raise ValueError("history.csv does not have the columns of a run, each once.")
    if set(map(len, rows)) != {len(columns)}:
        raise ValueError("history.csv has a row that is longer or shorter than the others.")
    if not re.fullmatch(r"[-+.,e\d\n]*", body, re.ASCII):
        raise ValueError("history.csv holds something that is no number.")
    found = {
        name: [float(cell) if cell else math.nan for cell in cells]
        for name, cells in zip(columns, zip(*rows, strict=True), strict=True)
    }
    for name, values in found.items():
        if any(map(math.isinf, values)) or (name.endswith("accuracy") and any(x < 0 or x > 1 for x in values)):
            raise ValueError(f"history.csv has a {name} that cannot be.")
    return found


def figures(part: str, values: dict, needed: tuple[str, ...]) -> dict[str, float]:
    """Named numbers; nan for null. Accuracies are fractions."""
    if not isinstance(values, dict) or not set(needed) <= set(values):
        raise ValueError(f"result.json does not have the {part} figures of a run.")
    for name, value in values.items():
        if value is not None and (not _number(value) or (name.endswith("accuracy") and not 0 <= value <= 1)):
            raise ValueError(f"result.json has a {part} {name} that cannot be.")
    return {name: math.nan if value is None else value for name, value in values.items()}


def _scores(splits: dict) -> dict[str, dict[str, dict]]:
    """The summaries of the scores, each with the fields and the sum of a `summaries.ScoreSummary`."""
    if not isinstance(splits, dict) or set(splits) != {"train", "test"}:
        raise ValueError("result.json does not have the scores of train and test.")
    for split, kinds in splits.items():
        if not isinstance(kinds, dict) or set(kinds) != set(KINDS):
            raise ValueError(f"result.json does not have the {', '.join(KINDS)} scores of {split}.")
        for kind, summary in kinds.items():
            if not isinstance(summary, dict) or not is_summary(summary):
                raise ValueError(f"result.json has {kind} scores of {split} that are no summary of a sample.")
    return splits


def _features(values: dict) -> dict:
    """Features of some images at some epochs, of the size that they say."""
    if set(values) != {"labels", "epochs", "width", "values"}:
        raise ValueError("features.json does not have labels, epochs, width and values.")
    labels, epochs, width = values["labels"], values["epochs"], values["width"]
    lists = isinstance(labels, list) and isinstance(epochs, list) and labels and epochs
    if not lists or not all(type(each) is int and each >= 0 for each in [*labels, *epochs, width]):
        raise ValueError("features.json has labels, epochs or a width that are no whole numbers.")
    if epochs != sorted(set(epochs)):
        raise ValueError("features.json does not have its epochs in order.")
    try:
        size = len(base64.b64decode(values["values"], validate=True))
    except (TypeError, ValueError):
        raise ValueError("features.json has values that are not base64.") from None
    if size != 2 * len(epochs) * len(labels) * width:
        raise ValueError("features.json has more or fewer values than it says.")
    return values


def is_summary(values: dict) -> bool:
    """Whether a `summaries.ScoreSummary` can have these fields: of the right kinds, and about one sample."""
    if set(values) != {"count", "mean", "std", "quantiles", "bin_width", "first_bin", "counts"}:
        return False
    levels, counts, first = values["quantiles"], values["counts"], values["first_bin"]
    if not isinstance(levels, list) or not isinstance(counts, list) or len(levels) != LEVELS:
        return False
    mean, std, width = reals = values["mean"], values["std"], values["bin_width"]
    if not all(type(each) is float and _number(each) for each in (*reals, *levels)):
        return False
    if not all(type(each) is int for each in (values["count"], first, *counts)) or not 0 < abs(first) + 1 <= 2**53:
        return False
    low, high = levels[0], levels[-1]
    rounding = 1e-9 * max(abs(low), abs(high))
    return (
        levels == sorted(levels)
        and low - rounding <= mean <= high + rounding
        and std >= 0 < width
        and min(counts, default=-1) >= 0 < sum(counts) == values["count"]
        and (first - 1) * width <= low
        and high <= (first + len(counts) + 1) * width
    )


def read_failure(path: Path, config: RunConfig) -> dict:
    """Why this run failed. Raises ValueError where the file does not say it of this run."""
    values = parse_json(content(path))
    check_failure(values, config)
    return values


def check_failure(values: dict, config: RunConfig) -> None:
    """Raises ValueError where this is not {"config", "cause", "environment"} of this run."""
    cause, settings, environment = (values.get(name) for name in ("cause", "config", "environment"))
    if not _text(cause) or not isinstance(environment, dict) or not _text(environment.get("code")):
        raise ValueError("it does not say a cause and an environment.")
    if not isinstance(settings, dict) or RunConfig.from_dict(settings).key != config.key:
        raise ValueError("it is of another run.")


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300


def _text(value) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 10_000


def _date(value) -> bool:
    try:
        return _text(value) and datetime.datetime.fromisoformat(value) is not None
    except ValueError:
        return False


# What a run's environment.json says, and of which kind that is.
ENVIRONMENT = {
    "device": _text,
    "code": _text,
    "date": _date,
    "versions": lambda value: isinstance(value, dict) and all(map(_text, value.values())),
    "seconds": lambda value: _number(value) and value >= 0,
    "device_type": _text,
    "precision": _text,
    "resumed": lambda value: type(value) is int and value >= 0,
}
LATER = ("device_type", "precision", "resumed")  # an earlier engine did not say them


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def as_json(value, indent: int | None = 1) -> str:
    return json.dumps(_plain(value), indent=indent, allow_nan=False) + "\n"


def _plain(value):
    """JSON has no nan; None stands for it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_csv(history: dict[str, list[float]]) -> str:
    rows = zip(*history.values(), strict=True)
    cell = lambda v: "" if math.isnan(v) else repr(v)  # noqa: E731 - repr: a float comes back bit for bit
    return "\n".join([",".join(history), *(",".join(map(cell, row)) for row in rows)]) + "\n"
