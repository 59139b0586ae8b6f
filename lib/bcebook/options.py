"""The options that several commands of the command line have, and what they accept."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from bcebook.chapters.recipes import DEVICES, PROFILES, check_profile
from bcebook.paths import REPOSITORY, checkout, data_dir

# Read off the folder: the registry reads every chapter, which takes longer than all else that `--help` needs.
CHAPTERS = sorted(path.stem for path in (REPOSITORY / "book").glob("*.py") if path.stem != "conf")


def device_name(name: str) -> str:
    if not re.fullmatch(DEVICES, name):
        raise typer.BadParameter(f"{name!r} is none of cpu, cuda and auto.")
    return name


def folder(path: Path | None) -> Path | None:
    """A folder that is there, or can be made."""
    whole = path and path.expanduser().absolute()
    there = whole and next(each for each in (whole, *whole.parents) if os.path.lexists(each))
    if there and not there.is_dir():
        what = "a file" if there.exists() else "a broken link"
        raise typer.BadParameter(f"{path} cannot be a folder: {there} is {what}.")
    if there and there != whole and not os.access(there, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be made: {there} cannot be written to.")
    return path


def data_folder(path: Path | None) -> Path:
    """The data folder that is named, or the repository's, where that is there."""
    if not (path or os.environ.get("BCEBOOK_DATA")):
        checkout()
    return data_dir(path)


def written(path: Path | None) -> Path | None:
    """A folder for what is made."""
    if folder(path) and path.exists() and not os.access(path, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written to.")
    return path


Profile = Annotated[str, typer.Option(help=f"Which settings: {', '.join(PROFILES)}.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one.", callback=device_name)]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Runs at once. [default: one a core; on a GPU one]", show_default=False)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder of datasets/, runs/ and recorded/. [default: data/ of the repository]",
        show_default=False,
        callback=folder,
    ),
]
ChapterName = Annotated[str | None, typer.Option(help=f"One chapter only: {', '.join(CHAPTERS)}.", show_default=False)]
Match = Annotated[
    str,
    typer.Option(help="Only runs whose description contains this, e.g. 'resnet18/cifar10 BCE'.", show_default=False),
]
On = Annotated[
    str,
    typer.Option(
        help="Where to train: nothing for this machine; ray, ray:auto or ray:HOST:PORT for a "
        "cluster (the book's page 'More machines').",
        show_default=False,
    ),
]
Checkpoints = Annotated[
    str | None,
    typer.Option(
        help="With --on: a folder that all machines share, from which a lost run goes on.",
        show_default=False,
    ),
]


def parse_seconds(text: str) -> float:
    """ "90s", "9m", "1.5h" or "90" in seconds. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise ValueError(f"budget is {text!r}; write a time such as 90s, 9m or 2h.")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def chosen_runs(profile: str, chapter: str | None, match: str) -> list:
    check_profile(profile)
    from bcebook.chapters import catalog  # which imports every chapter

    if chapter in catalog.WITHOUT_RUNS:
        raise ValueError(f"the chapter {chapter} is theory: it needs no runs. `bcebook build` executes it.")
    configs = catalog.configs(chapter, profile) if chapter else catalog.all_configs(profile)
    if not configs:
        others = [name for name in catalog.PROFILES if catalog.configs(chapter, name)]
        raise ValueError(
            f"the chapter {chapter} trains nothing in the profile {profile}, only in "
            f"{' and '.join(others)}; choose one with --profile."
        )
    chosen = [config for config in configs if match.lower() in config.describe().lower()]
    if not chosen:
        raise ValueError(
            f"no run of the profile {profile} matches {match!r}; `bcebook runs --profile {profile}` lists them."
        )
    return chosen
