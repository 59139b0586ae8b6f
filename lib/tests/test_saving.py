"""JupyterLab saves a chapter: with the contents manager that it uses, Jupytext's, on a copy of the book."""

import asyncio
import json
import shutil
import sys

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from jupytext import build_async_jupytext_contents_manager_class

from bcebook.book import saving
from bcebook.chapters.registry import rooms
from bcebook.paths import REPOSITORY

NAME = "score_histograms"


@pytest.fixture
def opened(tmp_path):
    return as_opened(tmp_path, NAME)


def as_opened(tmp_path, name: str):
    """(folder, manager, model): a chapter as JupyterLab has it in its window after "Run All Cells"."""
    for file in (f"{name}.py", f"{name}.ipynb", "jupytext.toml"):
        shutil.copyfile(REPOSITORY / "book" / file, tmp_path / file)
    manager = build_async_jupytext_contents_manager_class(AsyncLargeFileManager)(
        root_dir=str(tmp_path), pre_save_hook="bcebook.book.saving.plain")
    model = asyncio.run(manager.get(f"{name}.ipynb", content=True))
    for count, cell in enumerate(cell for cell in model["content"]["cells"] if cell["cell_type"] == "code"):
        cell["execution_count"], cell["metadata"]["execution"] = count + 1, {"iopub.status.busy": "2026-01-01"}
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "much\n" * 1000}]
        cell["metadata"]["trusted"] = True
    model["content"]["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    return tmp_path, manager, model


def files(folder, name: str = NAME) -> dict:
    return {half: (folder / half).read_text() for half in (f"{name}.py", f"{name}.ipynb")}


@pytest.mark.parametrize("name", rooms())
def test_open_run_and_save_changes_neither_half(tmp_path, name):
    folder, manager, model = as_opened(tmp_path, name)
    before = files(folder, name)
    asyncio.run(manager.save({"type": "notebook", "format": "json", "content": model["content"]}, f"{name}.ipynb"))
    assert files(folder, name) == before


def test_an_edit_shows_in_both_halves_and_nothing_else_does(opened):
    folder, manager, model = opened
    before = files(folder)
    cell = next(cell for cell in model["content"]["cells"] if cell["cell_type"] == "code" and "histograms" in cell["source"])
    cell["source"] += "  # looked at"
    asyncio.run(manager.save({"type": "notebook", "format": "json", "content": model["content"]}, f"{NAME}.ipynb"))
    for name, after in files(folder).items():
        old, new = before[name].splitlines(), after.splitlines()
        assert len(old) == len(new)
        changed = [b for a, b in zip(old, new, strict=True) if a != b]
        assert len(changed) == 1 and "# looked at" in changed[0], name


def test_what_is_no_notebook_is_left_alone():
    for model in ({"type": "file", "content": "text"}, {"type": "notebook", "content": None},
                  {"type": "notebook", "content": {"nbformat": 3, "worksheets": []}}):
        kept = json.dumps(model)
        saving.plain(model)
        assert json.dumps(model) == kept


def test_the_kernel_is_this_interpreter_under_the_name_that_chapters_carry(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(saving.kernel(tmp_path)))
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert spec.argv[0] == sys.executable and spec.display_name == "Python 3"


def test_jupyterlab_is_started_without_its_question_about_news(tmp_path):
    options = saving.options(tmp_path)
    quiet = json.loads((tmp_path / "overrides.json").read_text())
    assert quiet["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    assert f"--LabApp.app_settings_dir={tmp_path}" in options
