"""The book from its sources: train what is missing, execute the notebooks, render the HTML; nothing twice."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import as_completed
from pathlib import Path

from filelock import FileLock

from bcebook.chapters import catalog
from bcebook.execution import pool
from bcebook.runs.provenance import library, versions
from bcebook.paths import REPOSITORY, published
from bcebook.runs.store import open_store

BOOK = REPOSITORY / "book"


def build(profile: str, device: str, data: Path, jobs: int | None = None, out: Path | None = None, say=print) -> int:
    """Make the whole book of a profile; the exit code: 0, or 1 if a run, a notebook or the rendering failed.

    out: the folder for everything made here (default book/_build), with html/index.html at the end.
    """
    out = out or BOOK / "_build"
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):  # a second build of the same folder waits, and then finds everything done
        return _build(profile, device, data, jobs, out, say)


def _build(profile: str, device: str, data: Path, jobs: int | None, out: Path, say) -> int:
    say(f"1/3 runs      {_count(profile, data)}")
    problems = pool.train_missing(catalog.all_configs(profile), data, device, jobs)
    for problem in problems:
        say(f"    failed: {problem}")
    say("2/3 notebooks")
    failures = execute(profile, device, data, out, jobs or pool.cores(), say)
    say("3/3 HTML")
    rendered = render(profile, out, failures, say)
    if rendered:
        say(f"The book: {out / 'html' / 'index.html'}")
    return 1 if problems or failures or not rendered else 0


def _count(profile: str, data: Path) -> str:
    store = open_store(data)
    configs = catalog.all_configs(profile)
    missing = sum(store.find(config) is None for config in configs)
    return f"{len(configs)} of the profile {profile}, {f'{missing} to train' if missing else 'all there'}"


def execute(profile: str, device: str, data: Path, out: Path, jobs: int, say=print) -> dict[str, str]:
    """Execute the chapters that changed, in parallel; returns chapter -> cell and error of those that failed.

    A chapter is up to date while its source, the library, its runs and its parameters are the same. An executed notebook
    takes its place only when it has succeeded, so that a failure leaves the last good one.
    """
    folder = out / "notebooks" / profile
    folder.mkdir(parents=True, exist_ok=True)
    digests = {name: _chapter_digest(name, profile, data) for name in catalog.CHAPTERS}
    due = [name for name, digest in digests.items() if _read_stamp(folder / f"{name}.json").get("digest") != digest]
    for name in catalog.CHAPTERS:
        if name not in due:
            say(f"    {name}: up to date")
    if not due:
        return {}
    failures = {}
    parameters = {"profile": profile, "device": device}
    with pool.workers(min(jobs, len(due)), _notebook_worker_setup, (str(data),)) as executor:
        tasks = {executor.submit(_execute_one, BOOK / f"{name}.py", folder / f"{name}.ipynb", parameters): name for name in due}
        for task in as_completed(tasks):
            name, (problem, seconds) = tasks[task], task.result()
            if problem:
                failures[name] = problem
                say(f"    {name}: FAILED {problem}")
            else:
                (folder / f"{name}.json").write_text(json.dumps({"digest": digests[name], "seconds": seconds}))
                say(f"    {name}: {seconds:.0f} s")
    return failures


def _notebook_worker_setup(data: str) -> None:
    pool.watch_parent()
    # The data folder goes through the environment: as a parameter its path would stand on the page. JUPYTER_PREFER_ENV_PATH
    # chooses the kernel of this environment over one of the same name in the user's home.
    os.environ.update(BCEBOOK_DATA=data, JUPYTER_PREFER_ENV_PATH="1", PYDEVD_DISABLE_FILE_VALIDATION="1", OMP_NUM_THREADS="1")


def _execute_one(source: Path, target: Path, parameters: dict) -> tuple[str, float]:
    """Execute the text half of a chapter; ("", seconds) or (cell and error, seconds)."""
    import jupytext
    import papermill
    from papermill.exceptions import PapermillExecutionError

    began = time.perf_counter()
    fresh, partial = target.with_suffix(".in.ipynb"), target.with_suffix(".part.ipynb")
    with open(target.with_suffix(".log"), "w") as log:
        os.dup2(log.fileno(), 2)  # the kernel inherits it: what it says beside the notebook is kept, not printed
    try:
        jupytext.write(jupytext.read(source), fresh)
        defaults = {name: entry["default"] for name, entry in papermill.inspect_notebook(fresh).items()}
        parameters = {name: value for name, value in parameters.items() if defaults.get(name) != json.dumps(value)}
        papermill.execute_notebook(fresh, partial, parameters, kernel_name="python3", progress_bar=False, cwd=source.parent, log_output=False)
        partial.replace(target)
        return "", time.perf_counter() - began
    except PapermillExecutionError as error:
        first = str(error.source).strip().splitlines()[0]
        return f"in cell {error.exec_count} ({first}): {error.ename}: {error.evalue}", time.perf_counter() - began
    except Exception as error:  # a notebook that cannot be read or a kernel that dies must not stop the others
        return f"before or outside its cells: {type(error).__name__}: {error}", time.perf_counter() - began
    finally:
        fresh.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def render(profile: str, out: Path, failures: dict[str, str], say=print) -> bool:
    """Render pages and executed notebooks to out/html, replaced as a whole and only on success; False if Sphinx failed.

    A chapter that failed keeps the page of its last good execution, with a warning on top that says what failed; without
    one, its page is the warning.
    """
    source, html, fresh = out / "source", out / "html", out / "html.new"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(BOOK, source, ignore=lambda folder, names: [n for n in names if n.startswith((".", "_build", "__"))
                                                                or Path(n).suffix in (".ipynb", ".toml")
                                                                or (Path(n).suffix == ".py" and n != "conf.py")])
    for name, title in catalog.CHAPTERS.items():
        executed = out / "notebooks" / profile / f"{name}.ipynb"
        if executed.exists():
            shutil.copy(executed, source / executed.name)
        if name in failures or not executed.exists():
            _warn(source / executed.name, title, failures.get(name, "it has not been executed"))
    digest = _digest(sorted(path for path in source.rglob("*") if path.is_file()), [_tools()])
    if _read_stamp(out / "html.json").get("digest") == digest and (html / "index.html").exists():
        say("    up to date")
        return True
    shutil.rmtree(fresh, ignore_errors=True)
    # A reference to a page that failed cannot be resolved: only a book whose every chapter is there has to be without warnings.
    strict = [] if failures else ["-W", "--keep-going"]
    command = [sys.executable, "-m", "sphinx", "-q", *strict, "-b", "html", "-d", str(out / "doctrees"), str(source), str(fresh)]
    if subprocess.run(command).returncode:
        say("    Sphinx failed, see above; the HTML of the last good build is untouched.")
        return False
    old = out / "html.old"
    shutil.rmtree(old, ignore_errors=True)
    if html.exists():
        html.rename(old)
    fresh.rename(html)
    shutil.rmtree(old, ignore_errors=True)
    (out / "html.json").write_text(json.dumps({"digest": digest}))
    return True


def _warn(path: Path, title: str, problem: str) -> None:
    import nbformat

    notebook = nbformat.read(path, 4) if path.exists() else nbformat.v4.new_notebook()
    shown = "below is its last good execution" if path.exists() else "it has never been executed with success"
    if not path.exists():
        notebook.cells.append(nbformat.v4.new_markdown_cell(f"# {title}"))
    text = f":::{{warning}}\nThis page failed in the last build; {shown}.\n\n```\n{problem}\n```\n:::"
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(text))
    nbformat.write(notebook, path)


def _chapter_digest(name: str, profile: str, data: Path) -> str:
    store = open_store(data)
    runs = [store.fingerprint(config) for which in catalog.PROFILES for config in catalog.configs(name, which)]
    sources = [BOOK / f"{name}.py", *library(), *sorted(published().glob("*.csv"))]
    return _digest(sources, [profile, str(data), _tools(), *runs])


def _tools() -> str:
    return json.dumps(versions()) + hashlib.sha256((REPOSITORY / "requirements.txt").read_bytes()).hexdigest()


def _digest(paths: list[Path], extra: list[str]) -> str:
    sha = hashlib.sha256(json.dumps(extra).encode())
    for path in paths:
        sha.update(f"{path.parent.name}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()


def _read_stamp(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
