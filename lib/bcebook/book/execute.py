"""Notebooks executed: each chapter that changed, by papermill, in an environment of this project's own."""

import json
import os
import shutil
import sys
import time
import warnings
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from bcebook.book import digests, halves, saving
from bcebook.book.findings import folder as findings_folder
from bcebook.chapters import catalog
from bcebook.execution.base import duration
from bcebook.execution.processes import DEATH, workers
from bcebook.paths import PACKAGE

STARTUP = ("PYTHONWARNINGS", "PYTHONSTARTUP")  # of a user's shell: they would change what a page shows
# Of a user's shell too: what another Python's modules are, and where pip installs; and all of CONDA_. ci/setup
# unsets them.
REACHING = ("PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET",
            "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV")
# The one folder that is searched before the interpreter's own: that of the library which runs here.
MODULES = str(PACKAGE.parent)
# Where matplotlib and Jupyter keep things if a person has said so, and else in folders of HOME.
KEPT = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
AGAIN = "the same command goes on from there (if it happens again, with fewer --jobs)"


@dataclass(frozen=True)
class Outcome:
    """What became of one chapter: "" or cell and error; seconds; the profiles that it has findings of."""

    problem: str
    seconds: float
    profiles: tuple[str, ...] = ()


def execute(profile: str, device: str, data: Path, out: Path, jobs: int, say=print,
            only: str | None = None) -> dict[str, str]:
    """Execute the chapters that changed, in parallel; returns chapter -> cell and error of those that failed.

    A chapter is up to date while what it is made from is the same: `digests.chapter_digest`. An executed notebook
    and its findings take their places only when it has succeeded, so that a failure leaves the last good ones. only:
    no other chapter.
    """
    folder, findings = out / "notebooks" / profile, findings_folder(out, profile)
    folder.mkdir(parents=True, exist_ok=True)
    for path in findings.glob("*/*.json"):
        if path.stem not in catalog.CHAPTERS:
            path.unlink()
    made = {name: digests.chapter_digest(name, profile, data) for name in catalog.CHAPTERS if only in (None, name)}
    due = [name for name, digest in made.items() if not _up_to_date(name, digest, folder, findings)]
    for line in halves.differences(digests.BOOK, made):
        say(f"    {line}")
    for name in made.keys() - due:
        _failure(folder, name).unlink(missing_ok=True)
    for name in made:
        if name not in due:
            say(f"    {name}: up to date")
    if not due:
        return {}
    failures, left, began = {}, list(due), time.monotonic()
    parameters = {"profile": profile, "device": device}
    try:
        with workers(min(jobs, len(due)), _worker_setup, (_environment(out, data),)) as executor:
            tasks = {executor.submit(_execute_one, digests.BOOK / f"{name}.py", folder, findings, parameters): name
                     for name in due}
            for task in as_completed(tasks):
                name, done = tasks[task], task.result()
                left.remove(name)
                if done.problem:
                    failures[name] = done.problem
                    _failure(folder, name).write_text(done.problem, encoding="utf-8")
                    say(f"    {name}: FAILED {done.problem}")
                    continue
                _keep(name, made[name], done, folder, findings)
                finished = len(due) - len(left)
                to_go = duration((time.monotonic() - began) / finished * len(left))
                say(f"    {name}: {done.seconds:.0f} s ({finished} of {len(due)} notebooks"
                    + (f", about {to_go} left)" if left else ")"))
    except BrokenProcessPool:
        failures |= _death(left, len(due), folder, say)
    return failures


def _keep(name: str, digest: str, done: Outcome, folder: Path, findings: Path) -> None:
    """A chapter has succeeded: stamp it, and remove what it no longer makes."""
    _failure(folder, name).unlink(missing_ok=True)
    stamp = folder / f"{name}.json"
    for gone in set(digests.read_stamp(stamp).get("findings", ())) - set(done.profiles):
        (findings / gone / f"{name}.json").unlink(missing_ok=True)
    made = {"digest": digest, "seconds": done.seconds, "findings": done.profiles}
    stamp.write_text(json.dumps(made), encoding="utf-8")


def _death(left: list[str], of: int, folder: Path, say) -> dict[str, str]:
    """A worker has been killed, and the others have ended with it: say so once, and leave nothing of theirs behind."""
    sentence = (f"a worker process of the notebooks {DEATH}, before these were finished: {', '.join(left)}; "
                f"{of - len(left)} others and every earlier page are kept, and {AGAIN}.")
    for name in left:
        for path in _unfinished(folder / f"{name}.ipynb"):
            path.unlink(missing_ok=True)
        _failure(folder, name).write_text(sentence, encoding="utf-8")
    say(f"    FAILED: {sentence}")
    return dict.fromkeys(left, sentence)


def _unfinished(target: Path) -> tuple[Path, Path]:
    """What lies beside a notebook while it is executed: what papermill reads, and what it writes."""
    return target.with_suffix(".in.ipynb"), target.with_suffix(".part.ipynb")


def failed_before(profile: str, out: Path) -> dict[str, str]:
    """Chapter -> cell and error of those whose last execution failed."""
    paths = {name: _failure(out / "notebooks" / profile, name) for name in catalog.CHAPTERS}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.exists()}


def without_startup() -> dict[str, str]:
    """This process's environment without what would make another Python start up in another way, or take other
    modules than this one."""
    kept = {name: value for name, value in os.environ.items() if not _reaches(name)}
    return kept | {"PYTHONPATH": MODULES}


def _reaches(name: str) -> bool:
    return name in STARTUP or name in REACHING or name.startswith("CONDA_")


def _up_to_date(name: str, digest: str, folder: Path, findings: Path) -> bool:
    stamp = digests.read_stamp(folder / f"{name}.json")
    products = [folder / f"{name}.ipynb", *(findings / which / f"{name}.json" for which in stamp.get("findings", ()))]
    return stamp.get("digest") == digest and all(path.exists() for path in products)


def _failure(folder: Path, name: str) -> Path:
    return folder / f"{name}.failed"


def _environment(out: Path, data: Path) -> dict[str, str]:
    """What workers and kernels see: nothing of the user's own settings of Python, IPython, Jupyter or matplotlib.

    The data folder goes through the environment: as a parameter its path would stand on the page.
    """
    folder = out / "environment"
    shutil.rmtree(folder, ignore_errors=True)
    saving.kernel(folder / "jupyter")
    (folder / "matplotlibrc").touch()
    there = {name: value for name, value in without_startup().items() if name not in KEPT or _open(value)}
    return there | _home(folder) | {
        "BCEBOOK_DATA": str(data), "JUPYTER_PATH": str(folder / "jupyter"), "IPYTHONDIR": str(folder / "ipython"),
        "MATPLOTLIBRC": str(folder / "matplotlibrc"), "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1",
    }


def _home(folder: Path) -> dict[str, str]:
    """A home of the build's own for who has none (a uid without an account) or may not write there."""
    home = os.path.expanduser("~")
    if home != "~" and _open(home):
        return {}
    (folder / "home").mkdir()
    return {"HOME": str(folder / "home")}


def _open(folder: str) -> bool:
    """Whether there is a folder that can be written to: matplotlib says on the page that there is none."""
    return os.access(folder, os.W_OK | os.X_OK)


def _worker_setup(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if sys.warnoptions:  # the parent's PYTHONWARNINGS, handed on as options
        sys.warnoptions.clear()
        warnings.resetwarnings()


def _execute_one(source: Path, folder: Path, findings: Path, parameters: dict) -> Outcome:
    """Execute the text half of a chapter; on success its notebook and its findings are in place."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    began = time.perf_counter()
    target = folder / f"{source.stem}.ipynb"
    fresh, partial = _unfinished(target)
    # Kernels that start at the same moment share no folder.
    os.environ["IPYTHONDIR"] = str(Path(os.environ["IPYTHONDIR"]).with_name(f"ipython-{source.stem}"))
    with open(target.with_suffix(".log"), "w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 2)  # the kernel inherits it: what it says beside the notebook is kept, not printed
    profiles = ()
    try:
        _papermill(source, fresh, partial, parameters)
        problem = without_picture(partial)
        profiles = () if problem else _put(partial, target, findings)
    except PapermillExecutionError as error:
        problem = f"in cell {error.exec_count} ({_first_line(error.source)}): {error.ename}: {error.evalue}"
    except DeadKernelError:
        problem = f"its kernel (the process that computes its cells) {DEATH}; every other page is kept, and {AGAIN}."
    except Exception as error:  # a notebook that cannot be read must not stop the others
        problem = f"before or outside its cells: {type(error).__name__}: {error}"
    finally:
        fresh.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return Outcome(problem, time.perf_counter() - began, profiles)


def _papermill(source: Path, fresh: Path, executed: Path, parameters: dict) -> None:
    import jupytext
    import papermill

    jupytext.write(jupytext.read(source), fresh)
    defaults = {name: entry["default"] for name, entry in papermill.inspect_notebook(fresh).items()}
    parameters = {name: value for name, value in parameters.items() if defaults.get(name) != json.dumps(value)}
    papermill.execute_notebook(fresh, executed, parameters, kernel_name="python3", cwd=source.parent,
                               progress_bar=False, log_output=False)


def without_picture(notebook: Path) -> str:
    """The sentence that names a cell which is a figure of the page and has made no picture; "" if there is none."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        outputs = cell.get("outputs", ())
        if "figure" not in cell["metadata"].get("mystnb", {}) or cell["cell_type"] != "code":
            continue
        if not any(kind.startswith("image/") for output in outputs for kind in output.get("data", ())):
            where = f"in cell {cell['execution_count']} ({_first_line(''.join(cell['source']))})"
            return (f"{where}: no picture was produced, and this cell is a figure of the page. A matplotlib backend "
                    "set elsewhere (in the notebook or a module) may be the cause, or a figure that was closed.")
    return ""


def _put(executed: Path, target: Path, findings: Path) -> tuple[str, ...]:
    """Move an executed notebook and its findings to their places; the profiles that it has findings of."""
    from bcebook.book.findings import extract

    payloads = extract(executed)
    for profile, payload in payloads.items():
        path = findings / profile / f"{target.stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
    _undated(executed)
    os.replace(executed, target)
    return tuple(payloads)


def _undated(notebook: Path) -> None:
    """Leave out when, how long and in which folder papermill and the kernel have worked: the pages say their date
    themselves, which SOURCE_DATE_EPOCH decides."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for part in (content, *content["cells"]):
        for name in ("papermill", "execution"):
            part["metadata"].pop(name, None)
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _first_line(source: str) -> str:
    return source.strip().splitlines()[0] if source.strip() else "empty"
