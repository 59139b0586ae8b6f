"""JupyterLab on the book."""

import importlib.util
import subprocess
import sys

from bcebook.book import saving
from bcebook.book.digests import BOOK
from bcebook.book.execute import without_startup


def open_lab(arguments: list[str]) -> int:
    """Run JupyterLab on the book until it is closed; its exit status. Raises ValueError where it is not installed."""
    if not importlib.util.find_spec("jupyterlab"):
        raise ValueError("JupyterLab is not installed here; install requirements.txt, for example with "
                         "`bash ci/build`.")
    # -P, as everywhere: no module is taken from the folder.
    command = [sys.executable, "-P", "-m", "jupyterlab", *saving.options(BOOK / "_build" / "lab"), *arguments]
    # One thread a kernel, as in the build: small matrices are slower on more.
    environment = {"OMP_NUM_THREADS": "1"} | without_startup()
    environment["JUPYTER_PATH"] = str(saving.kernel(BOOK / "_build" / "lab" / "jupyter"))
    return subprocess.run(command, cwd=BOOK, env=environment).returncode
