"""What JupyterLab writes of a chapter: its words and its code. Outputs belong to the build, and stay in the window."""

import json
import sys
from pathlib import Path

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
KEPT = {"tags", "mystnb"}  # of a cell's metadata


def plain(model: dict, path: str = "", contents_manager=None, **_) -> None:
    """Before Jupyter's server saves a notebook (its `pre_save_hook`): leave out outputs, counts and whatever depends on
    who opened it, so that opening, running and saving a chapter changes neither of its halves."""
    content = model.get("content")
    if model.get("type") != "notebook" or not isinstance(content, dict) or content.get("nbformat") != 4:
        return
    for cell in content["cells"]:
        cell["metadata"] = {name: value for name, value in cell["metadata"].items() if name in KEPT}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    content["metadata"]["kernelspec"] = dict(KERNEL)
    content["metadata"].pop("language_info", None)


def options(folder: Path) -> list[str]:
    """What `bcebook lab` starts JupyterLab with: `plain` before each save, and no question about news, which is a
    setting of the program that has to lie in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    (folder / "overrides.json").write_text(json.dumps(quiet), encoding="utf-8")
    return ["--ContentsManager.pre_save_hook=bcebook.book.saving.plain", f"--LabApp.app_settings_dir={folder}"]


def kernel(folder: Path) -> Path:
    """Make a `python3` in a folder for JUPYTER_PATH, which comes before every other place of kernels, this
    environment's too: a `python3` there would be another interpreter. This one is ours, and has the name that the
    chapters carry. Returns the folder."""
    there = folder / "kernels" / KERNEL["name"]
    there.mkdir(parents=True, exist_ok=True)
    # -P and ignore_cwd: a random.py in a folder in which something happens to run is not Python's own.
    start = [sys.executable, "-P", "-m", "ipykernel_launcher", "--InteractiveShellApp.ignore_cwd=True",
             "-f", "{connection_file}"]
    named = {name: KERNEL[name] for name in ("display_name", "language")}
    (there / "kernel.json").write_text(json.dumps({"argv": start, **named}), encoding="utf-8")
    return folder
