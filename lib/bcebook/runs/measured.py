"""The measures of a finished network (training/finished.py), beside the files of its run.

They are not among the sums of checksums.json, and have one of their own: a run can be measured anew, and is the same
run.
"""

import hashlib
import math
import warnings
from pathlib import Path

from bcebook.runs import atomic, files

NAME = "measures.json"
KINDS = {
    "version": int,
    "code": str,
    "date": str,
    "seconds": (int, float),
    "images": dict,
    "numbers": dict,
    "per_class": dict,
    "histograms": dict,
    "reliability": dict,
}


def text(measures: dict) -> str:
    """The content of the file: the measures, and the SHA-256 of their own text. nan becomes null."""
    inner = files.as_json(measures, indent=None)
    plain = files.parse_json(inner.encode())
    return files.as_json({"sha256": hashlib.sha256(inner.encode()).hexdigest(), "measures": plain}, indent=None)


def read(content: bytes) -> dict:
    """What `text` wrote; nan for null among numbers and classes. Raises ValueError, one sentence, for anything else."""
    whole = files.parse_json(content)
    values = whole.get("measures")
    if set(whole) != {"sha256", "measures"} or not isinstance(values, dict):
        raise ValueError(f"{NAME} does not have the measures of a run.")
    if hashlib.sha256(files.as_json(values, indent=None).encode()).hexdigest() != whole["sha256"]:
        raise ValueError(f"{NAME} fails its checksum.")
    for name, kinds in KINDS.items():
        if not isinstance(values.get(name), kinds) or isinstance(values[name], bool):
            raise ValueError(f"{NAME} does not say {name} as it should.")
    if not all(isinstance(each, dict) and files.is_summary(each) for each in values["histograms"].values()):
        raise ValueError(f"{NAME} has a histogram that is no summary of a sample.")
    if not all(isinstance(each, list) for name in ("per_class", "reliability") for each in values[name].values()):
        raise ValueError(f"{NAME} has values that are no lists.")
    per_class = {name: [math.nan if x is None else x for x in each] for name, each in values["per_class"].items()}
    return values | {"numbers": files.figures("measured", values["numbers"], ()), "per_class": per_class}


def beside(folder: Path) -> dict | None:
    """The measures in a run's folder; None where there are none, or, with a warning, where they are damaged."""
    try:
        return read(files.content(folder / NAME))
    except FileNotFoundError:
        return None
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
        warnings.warn(
            f"{folder / NAME} cannot be read ({files.in_a_line(error)}); the run is taken without its "
            "measures. `bcebook measure` makes them anew.",
            stacklevel=4,
        )
        return None


def write(folder: Path, measures: dict) -> None:
    """Put measures beside a run, in the place of earlier ones. Raises OSError (a full disk, say) with the earlier ones
    as they were."""
    atomic.write(folder / NAME, text(measures))
