"""A chapter in a real JupyterLab, in a browser: opened, run, saved; and git sees nothing."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from bcebook.book import saving
from bcebook.paths import REPOSITORY

NAME = "bias_saturates"  # theory: nothing is trained


@pytest.fixture
def lab(tmp_path):
    """(folder, address): JupyterLab as `bcebook lab` starts it, on a copy of the book in a git repository of its own."""
    folder = tmp_path / "book"
    shutil.copytree(REPOSITORY / "book", folder, ignore=shutil.ignore_patterns("_build", ".ipynb_checkpoints"))
    (folder / ".gitignore").write_text(".ipynb_checkpoints/\n")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = saving.options(tmp_path / "lab")
    settings = tmp_path / "lab" / "overrides.json"  # cells out of sight are there too, so that they can be counted
    whole = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | whole))
    options = [*options, "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=", "--ServerApp.password="]
    environment = os.environ | {"JUPYTER_PATH": str(saving.kernel(tmp_path / "lab" / "jupyter")), "OMP_NUM_THREADS": "1",
                                "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
                                "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen([sys.executable, "-P", "-m", "jupyterlab", *options], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        address, deadline = f"http://127.0.0.1:{port}/lab", time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.2)
        yield folder, address
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.long  # what saving changes, test_saving asks of the contents manager alone
def test_a_chapter_that_is_opened_run_and_saved_is_as_it_was(lab, browser):
    folder, address = lab
    view = browser.new_page(viewport={"width": 1280, "height": 1000})
    view.goto(f"{address}/tree/{NAME}.ipynb?reset", wait_until="load")
    view.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    view.locator("#jp-main-statusbar", has_text="Python 3 | Idle").wait_for(timeout=60_000)
    view.get_by_role("menuitem", name="Run", exact=True).click()
    view.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(each => each.innerText.trim())"
    view.wait_for_function(f"{prompts}.length && {prompts}.every(text => /^\\[\\d+\\]:?$/.test(text))", timeout=120_000)
    assert view.locator(".jp-OutputArea-output img, .jp-OutputArea-output svg").count() > 0  # its figures are in the window
    assert view.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert view.locator(".jp-Dialog").count() == 0  # no question, about news or anything
    before = (folder / f"{NAME}.ipynb").stat().st_mtime_ns
    view.keyboard.press("Control+s")
    deadline = time.monotonic() + 30
    while (folder / f"{NAME}.ipynb").stat().st_mtime_ns == before:
        assert time.monotonic() < deadline, "it was not saved"
        view.wait_for_timeout(100)
    view.wait_for_timeout(1000)  # the other half
    assert view.locator(".jp-Dialog").count() == 0
    view.close()
    status = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert status == ""
