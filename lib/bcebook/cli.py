"""The command line: `bcebook COMMAND`. No logic of its own, and nothing slow imported before it is needed."""

import contextlib
import locale
import math
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from bcebook.chapters.recipes import RECORDED, check_profile
from bcebook.options import (
    ChapterName,
    Checkpoints,
    DataDir,
    Device,
    Jobs,
    Match,
    On,
    Profile,
    chosen_runs,
    data_folder,
    parse_seconds,
    written,
)
from bcebook.paths import checkout

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="The reproduction book of 'BCE vs. CE in Deep Feature Learning': train its runs, execute its chapters, read "
    "it.",
)


@app.command()
def build(
    profile: Profile = "quick",
    device: Device = "auto",
    jobs: Jobs = None,
    data: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to build. [default: book/_build]", show_default=False, callback=written)
    ] = None,
    only: ChapterName = None,
    recorded: Annotated[
        bool,
        typer.Option(
            "--recorded", help="Train nothing: make every page from the recorded runs and the theory, in a few minutes."
        ),
    ] = False,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Try it out on the CPU: each run two steps on noise, pages apart and marked."),
    ] = False,
    on: On = "",
    checkpoints: Checkpoints = None,
):
    """Make the book: train what is missing, execute the chapters that changed, render the HTML."""
    check_profile(profile)
    checkout()
    from bcebook.book import build as books
    from bcebook.execution.choose import elsewhere

    cluster = elsewhere(on, checkpoints)
    if recorded and (rehearse or on or profile != "quick"):
        raise ValueError("--recorded trains nothing; it goes with none of --profile, --rehearse and --on.")
    profile = RECORDED if recorded else profile

    with _interruptible():
        if rehearse:
            raise typer.Exit(books.rehearse(profile, jobs, out and out.resolve(), only))
        raise typer.Exit(books.build(profile, device, data_folder(data), jobs, out and out.resolve(), only, cluster))


@app.command()
def train(
    profile: Profile = "quick",
    device: Device = "auto",
    jobs: Jobs = None,
    data: DataDir = None,
    chapter: ChapterName = None,
    match: Match = "",
    on: On = "",
    checkpoints: Checkpoints = None,
):
    """Train the missing runs of a profile; stop it any time and call it again."""
    chosen = chosen_runs(profile, chapter, match)
    from bcebook.runs.store import open_store

    problems = _train(chosen, data_folder(data), device, jobs, math.inf, on, checkpoints)
    store = open_store(
        data_folder(data)
    )  # not counted from the problems: a killed worker is one, and costs several runs
    there = sum(each.there for each in store.listing(chosen))
    typer.echo(f"{there} of {len(chosen)} runs are in the store.")
    raise typer.Exit(1 if problems or not there else 0)


@app.command()
def record(
    budget: Annotated[str, typer.Option(help="How long this may take in all, e.g. 90s, 9m, 2h.")],
    out: Annotated[
        Path, typer.Option(help="The folder for runs.zip, the archive of the finished runs.", callback=written)
    ],
    profile: Profile = "paper",
    device: Device = "auto",
    jobs: Jobs = None,
    data: DataDir = None,
    chapter: ChapterName = None,
    match: Match = "",
    on: On = "",
    checkpoints: Checkpoints = None,
):
    """Train as many missing runs as a time allows, those of most value first, and put what is finished into one
    archive.

    What is in progress when the time is over leaves a checkpoint, from which the next call goes on. The archive is
    brought up to date every minute. Carry it to another machine and take it in there with `bcebook import`.
    """
    began = time.monotonic()
    seconds = parse_seconds(budget)
    chosen = chosen_runs(profile, chapter, match)
    from bcebook.runs.archive import following, write_parts
    from bcebook.runs.store import open_store

    store = open_store(data_folder(data))

    def done() -> list[str]:
        return [each.config.key for each in store.listing(chosen) if each.state == "trained"]

    # Kept back for the checkpoints and the archive; a step and a measurement are over in less.
    deadline = began + seconds - min(20, seconds / 10)
    with following(store, done, out / "runs.zip"):
        problems = _train(chosen, data_folder(data), device, jobs, deadline, on, checkpoints)
    states = Counter(each.state for each in store.listing(chosen))
    parts = write_parts(store, done(), out / "runs.zip")
    size = sum(part.stat().st_size for part in parts) / 2**20
    typer.echo(
        f"{states['trained']} runs in {' and '.join(map(str, parts))}, {size:.2f} MiB, "
        f"{states['missing']} still missing, {time.monotonic() - began:.0f} s."
    )
    raise typer.Exit(1 if problems else 0)


@app.command()
def measure(
    profile: Profile = "quick",
    device: Device = "cpu",
    data: DataDir = None,
    chapter: ChapterName = None,
    match: Match = "",
    again: Annotated[bool, typer.Option("--again", help="Also the runs that have today's measures.")] = False,
):
    """Measure finished runs from their weights: rejection of unknown images, calibration, retrieval, transfer.

    Each run is measured so when it is trained; this brings the measures up to date, without training, where they have
    changed since or a data set has come to hand. Only for runs that were trained here: weights do not travel.
    """
    chosen = chosen_runs(profile, chapter, match)
    from bcebook.runs.store import open_store
    from bcebook.training import remeasure

    failed = remeasure.all_of(
        chosen, open_store(data_folder(data)), device, data_folder(data) / "datasets", again, typer.echo
    )
    raise typer.Exit(1 if failed else 0)


@app.command("import")
def import_(
    archives: Annotated[
        list[Path], typer.Argument(help="The runs.zip of `bcebook record`, and runs-2.zip and so on where there are.")
    ],
    data: DataDir = None,
):
    """Verify every run in an archive and add the new ones to data/recorded; of each archive all or nothing."""
    from bcebook.runs.archive import add

    for archive in archives:
        added, there = add(archive, data_folder(data) / "recorded")
        for run in added:
            typer.echo(
                f"{run.config.key}  added  {run.config.describe()}  test accuracy {run.final['test_accuracy']:.1%}"
            )
        typer.echo(f"{len(added)} runs added, {len(there)} were there already.")


@app.command()
def runs(profile: Profile = "quick", data: DataDir = None, chapter: ChapterName = None, match: Match = ""):
    """List the runs of a profile with their state: trained, recorded, failed or missing."""
    from bcebook.runs.store import open_store

    store = open_store(data_folder(data))
    count = Counter()
    for each in store.listing(chosen_runs(profile, chapter, match)):
        count[each.state] += 1
        failure = store.failure(each.config) if each.state == "failed" else None
        note = f"test accuracy {each.accuracy:.1%}" if each.there else failure["cause"] if failure else ""
        typer.echo(f"{each.config.key}  {each.state:8}  {each.config.describe()}  {note}".rstrip())
    typer.echo(", ".join(f"{number} {state}" for state, number in sorted(count.items())))


@app.command()
def data(
    names: Annotated[
        list[str] | None, typer.Argument(help="mnist, cifar10, cifar100; none: those of the profile.")
    ] = None,
    profile: Profile = "quick",
    data: DataDir = None,
):
    """Fetch data sets and verify them.

    A data set that is not there is downloaded through torchvision. Where there is no network, put NAME.npz into
    data/datasets yourself: arrays x_train, y_train, x_test, y_test as uint8, images (N, H, W) or (N, H, W, 3), in the
    order of the original files (the Keras convention).
    """
    check_profile(profile)
    from bcebook.chapters import catalog
    from bcebook.runs.specs import STREAMED
    from bcebook.training.datasets import load, without_folders

    for name in names or dict.fromkeys(config.dataset for config in catalog.all_configs(profile)):
        if name in STREAMED:
            typer.echo(f"{name}: {without_folders(name, data_folder(data) / 'datasets') or 'its folders are there'}")
            continue
        found = load(name, data_folder(data) / "datasets")
        typer.echo(
            f"{name}: {len(found.x_train):,} training and {len(found.x_test):,} test images "
            f"{found.x_train.shape[1:]}, {len(found.classes)} classes, verified"
        )


@app.command()
def lab(arguments: Annotated[list[str] | None, typer.Argument(help="Passed on to JupyterLab, after --.")] = None):
    """Open the book in JupyterLab."""
    checkout()
    from bcebook.book.lab import open_lab

    raise typer.Exit(open_lab(arguments or []))


@app.command()
def serve(port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000):
    """Serve the built HTML on this machine only."""
    checkout()
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from bcebook.book.build import BOOK

    html = BOOK / "_build" / "html"
    if not (html / "index.html").exists():
        raise ValueError("there is no built book yet; make it with `bcebook build`.")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=html))
    except OSError as error:
        raise ValueError(
            f"port {port} cannot be used ({error.strerror}); choose another with --port, or 0 for a free one."
        ) from error
    with server:
        typer.echo(f"http://127.0.0.1:{server.server_address[1]}/ (Ctrl-C ends it)")
        server.serve_forever()


@app.command()
def doctor(
    data: DataDir = None,
    gpu: Annotated[
        bool,
        typer.Option(
            "--gpu",
            help="Test a CUDA GPU instead, for two minutes, and write what was found into one file, to send home.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="The file that --gpu writes.")] = Path("gpu-selftest.json"),
):
    """Say what this machine has: versions, devices, data sets, runs, free disk."""
    from bcebook.book import machine

    if gpu:
        raise typer.Exit(machine.test_gpu(out, typer.echo))
    machine.tell(data_folder(data), typer.echo)


def _train(
    chosen: list, data: Path, device: str, jobs: int | None, deadline: float, on: str, checkpoints: str | None
) -> list[str]:
    """Train the missing ones of the chosen runs; say what some want that is not here, and, in sentences that are
    returned, which failed."""
    from bcebook.execution.choose import elsewhere, left_out, train_missing

    cluster = elsewhere(on, checkpoints)
    for sentence in left_out(chosen, data):
        typer.echo(f"left out: {sentence}")
    with _interruptible():
        problems = train_missing(chosen, data, device, jobs, deadline, cluster)
    for problem in problems:
        typer.echo(f"failed: {problem}")
    return problems


@contextlib.contextmanager
def _interruptible():
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nStopped. What was finished is kept; the same command goes on from there.", err=True)
        raise typer.Exit(130) from None


def _in_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale has another encoding (LC_ALL=C, Latin-1): paths, output,
    children and libraries then use the same bytes everywhere."""
    if locale.getencoding().lower().replace("-", "") == "utf8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"  # so at most once
    if os.name == "posix":  # elsewhere exec does not wait; the children have the mode
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> None:
    """Run the command line; what a person can mend is one sentence and exit code 2, Ctrl-C is exit code 130."""
    _in_utf8()
    from bcebook.runs.provenance import prepare

    prepare()
    try:
        sys.exit(app(standalone_mode=False))
    except typer.TyperException as error:  # a command, an option or a value that is not there
        said, context = error.format_message(), getattr(error, "ctx", None)
        if "\n" in said:  # the help, where nothing was asked for
            print(said)
            sys.exit(2)
        command = f"{context.info_name} " if context and context.parent else ""
        said = f"{said.removesuffix('.')}; see `bcebook {command}--help`."
    except OSError as error:
        said = f"{error.filename}: {error.strerror}." if error.filename and error.strerror else str(error)
    except ValueError as error:
        said = str(error)
    except typer.Abort:
        said = "stopped."
    print(f"bcebook: {said}", file=sys.stderr)
    sys.exit(2)
