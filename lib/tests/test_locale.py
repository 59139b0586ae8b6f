"""A locale without UTF-8 changes nothing: every file is UTF-8, and so is what the program prints."""

import ast
import os
import re
import subprocess
import sys

import pytest

from bcebook.paths import PACKAGE, REPOSITORY
from tiny_book import PROGRAM

POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF8 = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
# These name theirs in changes of their own; what is found in them is no fault here.
SOURCES = [*PACKAGE.rglob("*.py"), *(REPOSITORY / "ci").glob("*.py"), REPOSITORY / "book" / "conf.py"]


def of_the_locale(source: str) -> list[str]:
    """The calls in a source that take the locale's encoding for text."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        method = isinstance(call.func, ast.Attribute)
        mode = given.get("mode", ast.unparse(call.args[not method]) if len(call.args) > (not method) else "'r'")
        text = (
            name in ("read_text", "write_text")
            or (name in ("open", "fdopen") and not method and "b" not in mode)
            or (name in ("TextIOWrapper", "NamedTemporaryFile", "TemporaryFile") and "'w" in mode and "b" not in mode)
            or given.get("text", given.get("universal_newlines")) == "True"
        )
        if text and given.get("encoding") not in ("'utf-8'", "encoding"):
            found.append(f"line {call.lineno}: {ast.unparse(call)}")
    return found


@pytest.mark.parametrize("call, fault", [
    ("open(path)", True), ("open(path, 'w')", True), ("open(path, 'rb')", False), ("open(path, mode='rb')", False),
    ("open(path, encoding='utf-8')", False), ("path.read_text()", True), ("path.write_text(x, encoding='utf-8')", False),
    ("path.write_text(x, encoding='ascii')", True), ("run(command, text=True)", True), ("archive.open(name)", False),
    ("run(command, text=True, encoding='utf-8')", False), ("run(command)", False)])
def test_the_search_finds_what_it_is_for(call, fault):
    assert bool(of_the_locale(call)) == fault


def test_every_file_and_every_child_has_its_encoding_named():
    assert len(SOURCES) > 100
    faults = {str(path): found for path in SOURCES if (found := of_the_locale(path.read_text(encoding="utf-8")))}
    assert not faults


def test_no_date_is_written_in_the_language_of_the_locale():
    """Sphinx sets the locale that a user has, and then %B is "März"."""
    pages = (REPOSITORY / "book").glob("*.py")
    assert not [str(path) for path in (*SOURCES, *pages) if re.search(r"%[aAbBpcxX]\b", path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("arguments", [["doctor", "--data", "\u03bb_b \u00e4"], ["runs", "--profile", "\u03bb"], ["--help"]],
                         ids=["doctor", "refused", "help"])
def test_the_program_says_the_same_bytes(tmp_path, arguments):
    """Given the bytes of a terminal: the name of a folder on standard output, a sentence on standard error."""
    command = [os.fsencode(word) for word in (*PROGRAM, *arguments)]
    said = [subprocess.run(command, cwd=tmp_path, env=os.environ | how, capture_output=True) for how in (POSIX, UTF8)]
    ours, theirs = ((done.returncode, done.stdout, done.stderr) for done in said)
    assert ours == theirs and b"Traceback" not in ours[2]
    assert arguments == ["--help"] or "\u03bb".encode() in ours[1] + ours[2]


def test_the_library_reads_the_book_without_the_command(tmp_path):
    """As a script of one's own does: nothing has switched Python to UTF-8."""
    code = """
import sys
from pathlib import Path
from bcebook.book import digests, halves, pages
from bcebook.report import theory_tables
print(sys.getfilesystemencoding())
made = {name: digests.chapter_digest(name, "quick", Path(sys.argv[1])) for name in ("minima", "initial_bias")}
assert all(made.values()) and not halves.differences(digests.BOOK, made)
print(ascii([made, pages.cite()]))
"""
    said = [subprocess.run([sys.executable, "-c", code, tmp_path], env=os.environ | how, capture_output=True)
            for how in (POSIX, UTF8)]
    assert said[0].returncode == 0, said[0].stderr.decode()
    (ours, made), (theirs, same) = (done.stdout.splitlines() for done in said)
    assert ours != theirs == b"utf-8" and made == same
