"""A book of three chapters, of experiments, of theory, and one that says nothing: what it is built from, and how."""

import datetime
import os
import subprocess
import sys
from pathlib import Path

DATE = datetime.datetime(2026, 1, 1, 1, tzinfo=datetime.UTC)  # west of Greenwich it is still the old year
KINDS = ("score_histograms", "two_geometries")  # the chapters of the book, one of experiments, one of theory
# Files that are called as Python's own, or as a library.
SHADOWS = ("random", "inspect", "statistics", "tokenize", "torchvision")
PROGRAM = [sys.executable, "-P", "-c", "from bcebook.cli import main; main()"]
ROOM = '''"""A chapter that a test adds."""

from bcebook.chapters.room import Room
from bcebook.claims import Claim
from bcebook.science import verdicts

ROOM = Room(name=__name__, part="beyond", number=99, title="A chapter that a test adds", of_the_paper="nothing",
            asks="is it found?",
            claims=(Claim("throwaway.found", "A new chapter is found", "ours", "the size of nothing",
                          lambda: verdicts.check(0.0, 1e-9, "a test", n=1), theory=True),))
'''
NOTEBOOK = '''# %% [markdown]
# # A chapter that a test adds

# %% tags=["parameters"]
profile = "quick"
device = "auto"
data_dir = None
seeds = None

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import throwaway as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)

# %% [markdown]
# ## What we see

# %%
chapter.findings()

# %%
chapter.provenance()
'''


def started(checkout: Path, data: Path, out: Path, prefix=(), env=os.environ, cwd=None, jobs: int = 2):
    """A build of the book at DATE, in a process group of its own."""
    environment = dict(env) | {"PYTHONPATH": str(checkout / "lib"), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1",
                               "SOURCE_DATE_EPOCH": f"{DATE.timestamp():.0f}"}
    command = [*prefix, *PROGRAM, "build", "--device", "cpu", "--jobs", str(jobs), "--data", data, "--out", out]
    return subprocess.Popen(command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, encoding="utf-8", errors="replace", start_new_session=True)
