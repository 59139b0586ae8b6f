"""The library installed without the repository, as from a wheel; its licence, and how to cite it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml

from bcebook.paths import PACKAGE, REPOSITORY, checkout

LIB = REPOSITORY / "lib"
PROJECT = tomllib.loads((LIB / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder where the wheel lies unpacked. Where there is no setuptools that can make it: its modules alone."""
    folder = tmp_path_factory.mktemp("installed")
    try:
        import setuptools
    except ImportError:
        setuptools = None
    wanted = int(re.search(r"\d+", PROJECT["build-system"]["requires"][0]).group())
    if not setuptools or int(setuptools.__version__.split(".")[0]) < wanted:
        shutil.copytree(PACKAGE, folder / "bcebook", ignore=shutil.ignore_patterns("__pycache__"))
        return folder
    source = tmp_path_factory.mktemp("source") / "lib"  # what setuptools leaves there is not for a checkout
    shutil.copytree(LIB, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "tests"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", source, "-w", source]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    (wheel,) = source.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder


def python(installed, where, code: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "BCEBOOK_DATA"}
    return subprocess.run([sys.executable, "-P", "-c", code, *arguments], cwd=where, capture_output=True, text=True,
                          encoding="utf-8", env=environment | {"PYTHONPATH": str(installed)})


def test_the_science_and_a_data_folder_of_ones_own_work_without_the_repository(installed, tmp_path):
    code = "import bcebook.science.metrics as m; print(m.__file__)"
    done = python(installed, tmp_path, code)
    assert done.stdout.strip() == str(installed / "bcebook" / "science" / "metrics.py"), done.stderr
    runs = python(installed, tmp_path, "from bcebook.cli import main; main()", "runs", "--data", "here")
    assert runs.returncode == 0 and runs.stdout.endswith(" missing\n"), runs.stderr


@pytest.mark.parametrize("arguments", [["build"], ["build", "--data", "here"], ["build", "--recorded"], ["lab"], ["serve"],
                                       ["runs"], ["train"], ["doctor"], ["data"]], ids=" ".join)
def test_what_needs_the_repository_says_so_in_one_sentence(installed, tmp_path, arguments):
    done = python(installed, tmp_path, "from bcebook.cli import main; main()", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"bcebook: bcebook is installed in {installed} without its repository: build, lab and serve need a checkout of "
        "the repository, and the other commands that or a data folder (--data or BCEBOOK_DATA).\n")
    assert not list(tmp_path.iterdir()) and not (installed.parent / "data").exists()


def test_a_checkout_is_one():
    assert checkout() == REPOSITORY


def test_the_wheel_has_the_licence(installed):
    text = (LIB / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 the authors of bcebook\n") and PROJECT["project"]["license"] == "MIT"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    there = list(installed.glob("*.dist-info"))
    if not there:
        pytest.skip("LEFT OUT, what a wheel ships: this environment has no setuptools that can make one")
    assert (there[0] / "licenses" / "LICENSE").read_text(encoding="utf-8") == text
    metadata = (there[0] / "METADATA").read_text(encoding="utf-8")
    assert "\nLicense-Expression: MIT\n" in metadata and "\nLicense-File: LICENSE\n" in metadata


def test_both_entries_to_cite_are_those_of_the_bibliography_and_of_the_package():
    book = yaml.safe_load((LIB / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = book["references"]
    assert {"cff-version", "message", "title", "authors"} <= book.keys()
    assert (book["version"], book["license"]) == (PROJECT["project"]["version"], PROJECT["project"]["license"])
    entries = (REPOSITORY / "book" / "references.bib").read_text(encoding="utf-8")
    entry = re.search(r"@inproceedings\{li2025bce,.*?\n\}", entries, re.S).group().replace("{BCE}", "BCE").replace("{CE}", "CE")
    field = lambda name: re.search(rf"\b{name} = \{{(.*?)\}}", entry).group(1)  # noqa: E731
    assert paper["title"] == field("title") and str(paper["year"]) == field("year")
    assert " and ".join(f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]) == field("author")
    assert f"{paper['start']}--{paper['end']}" == field("pages") and str(paper["volume"]) == field("volume")
    assert paper["collection-title"] == field("booktitle") and paper["identifiers"][0]["value"] == field("note")
    readme = " ".join((REPOSITORY / "README.md").read_text(encoding="utf-8").split())
    assert "`lib/LICENSE`" in readme and "`lib/CITATION.cff`" in readme and book["title"] in readme
