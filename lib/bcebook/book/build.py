"""The book from its sources: train what is missing, execute the notebooks, render the HTML; nothing twice."""

import tempfile
import time
from pathlib import Path

from bcebook.book.digests import BOOK
from bcebook.book.execute import execute, failed_before
from bcebook.book.render import render
from bcebook.chapters import catalog
from bcebook.chapters.recipes import RECORDED
from bcebook.cores import cores
from bcebook.execution.base import duration
from bcebook.execution.choose import Elsewhere, left_out, train_missing
from bcebook.runs import rehearsal
from bcebook.runs.locks import hold
from bcebook.runs.store import open_store


def build(profile: str, device: str, data: Path, jobs: int | None = None, out: Path | None = None,
          only: str | None = None, on: Elsewhere | None = None, say=print) -> int:
    """Make the book of a profile; the exit code: 0, or 1 if a run, a notebook or the rendering failed.

    profile: one of catalog.PROFILES, or "recorded": nothing is trained, and each chapter shows what is recorded of the
    strongest profile that has recorded runs of it. out: the folder for everything made here (default book/_build),
    with html/index.html at the end. only: train for this chapter and execute it alone; the others' pages are as they
    were last executed. on: the cluster to train on. Raises ValueError for a chapter that there is not.
    """
    if only:
        catalog.check_chapter(only)
    began, serve = time.monotonic(), "" if out else ", or run .venv/bin/bcebook serve"
    configs = []
    if profile != RECORDED:
        configs = catalog.configs(only, profile) if only else catalog.all_configs(profile)
    out = out or BOOK / "_build"
    out.mkdir(parents=True, exist_ok=True)
    # A second build of the same folder waits, and then finds everything done.
    with hold(out / ".lock", "another build of the same folder"):
        say("1/3 runs      nothing to train: the book is made from recorded runs" if profile == RECORDED
            else f"1/3 runs      {_count(configs, profile, data)}")
        for sentence in left_out(configs, data):
            say(f"    left out: {sentence}")
        problems = train_missing(configs, data, device, jobs, on=on)
        for problem in problems:
            say(f"    failed: {problem}")
        say("2/3 notebooks")
        failures = execute(profile, device, data, out, jobs or cores(), say, only)
        say("3/3 HTML")
        rendered = render(profile, out, failed_before(profile, out), say)
        if failures:
            say(f"{len(failures)} of {len(catalog.CHAPTERS)} chapters failed, see above; their pages say so.")
        if rendered:
            say(f"The book, made in {duration(time.monotonic() - began)}: open {out / 'html' / 'index.html'} in a "
                f"browser{serve}")
    return 1 if problems or failures or not rendered else 0


def rehearse(profile: str, jobs: int | None = None, out: Path | None = None, only: str | None = None,
             say=print) -> int:
    """`build` on the CPU with runs that are cut to two steps on noise: whether every recipe of a profile can be trained
    and every page made of it. Its runs are gone afterwards; its pages, in the folder rehearsal/<profile> of `out`, say
    that they are a rehearsal."""
    with rehearsal.on(), tempfile.TemporaryDirectory() as data:
        return build(profile, "cpu", Path(data), jobs, (out or BOOK / "_build") / "rehearsal" / profile, only, say=say)


def _count(configs: list, profile: str, data: Path) -> str:
    if not configs:
        return "none needed"
    store = open_store(data)
    missing = sum(not store.has(config) for config in configs)
    return f"{len(configs)} of the profile {profile}, {f'{missing} to train' if missing else 'all there'}"
