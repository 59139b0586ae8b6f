"""Where things are: the repository, its data folder, and what stands in it."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent  # the library's source
REPOSITORY = PACKAGE.parents[1]  # the package is installed in place (`-e ./lib`); else see `checkout`


def data_dir(explicit: str | os.PathLike | None = None) -> Path:
    """The folder that holds datasets/, runs/, recorded/ and paper/: the argument, else $BCEBOOK_DATA, else the
    repository's."""
    return Path(explicit or os.environ.get("BCEBOOK_DATA") or REPOSITORY / "data").expanduser().resolve()


def checkout() -> Path:
    """The repository. Raises ValueError where the library is installed without it, as from a wheel."""
    if not (REPOSITORY / "book" / "conf.py").is_file():
        raise ValueError(
            f"bcebook is installed in {PACKAGE.parent} without its repository: build, lab and serve need a checkout of "
            "the repository, and the other commands that or a data folder (--data or BCEBOOK_DATA)."
        )
    return REPOSITORY


def published() -> Path:
    """The paper's published numbers; they belong to the code, wherever the data folder is."""
    return REPOSITORY / "data" / "paper"


def theory_tables() -> Path:
    """The results of searches that a page does not repeat (`report.theory_tables`); they belong to the code too."""
    return REPOSITORY / "data" / "theory"


def gpu_reports() -> list[Path]:
    """What `bcebook doctor --gpu` wrote on the GPUs that this project has met, in the order of their names."""
    return sorted((REPOSITORY / "data" / "gpus").glob("*.json"))
