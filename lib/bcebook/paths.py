"""Where things are: the repository, its data folder, and what stands in it."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent  # the library's source
REPOSITORY = PACKAGE.parents[1]  # the package is installed in place (`-e ./lib`)


def data_dir(explicit: str | os.PathLike | None = None) -> Path:
    """The folder that holds datasets/, runs/, recorded/ and paper/: the argument, else $BCEBOOK_DATA, else the
    repository's."""
    return Path(explicit or os.environ.get("BCEBOOK_DATA") or REPOSITORY / "data").expanduser().resolve()


def published() -> Path:
    """The paper's published numbers; they belong to the code, wherever the data folder is."""
    return REPOSITORY / "data" / "paper"


def theory_tables() -> Path:
    """The results of searches that a page does not repeat (`report.theory_tables`); they belong to the code too."""
    return REPOSITORY / "data" / "theory"


def gpu_reports() -> list[Path]:
    """What `bcebook doctor --gpu` wrote on the GPUs that this project has met, in the order of their names."""
    return sorted((REPOSITORY / "data" / "gpus").glob("*.json"))
