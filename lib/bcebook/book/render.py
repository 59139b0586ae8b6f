"""Pages rendered by Sphinx; a chapter that failed keeps its last good page, under a warning."""

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from bcebook.book import digests
from bcebook.book.execute import without_startup
from bcebook.chapters import catalog

# A disk that takes no more: full, over the user's quota, or over the largest file that it may hold.
FULL = tuple(code for name in ("ENOSPC", "EDQUOT", "EFBIG") if (code := getattr(errno, name, None)))
MATHJAX = "tex-chtml.js"
REDIRECTS = {"bias_decay": "initial_bias"}  # a page of an earlier book -> the page that has its content now
DRAWN = "figures"  # folder of the figures' numbers among the pages' static files


def render(profile: str, out: Path, failures: dict[str, str], say=print) -> bool:
    """Render pages and executed notebooks to out/html, replaced whole and only on success; False if Sphinx failed, or
    the disk was full, with nothing half-made left.

    A chapter in `failures` keeps the page of its last good execution, with a warning on top that says what failed; one
    that was never executed has a page that says so.
    """
    try:
        return _render(profile, out, failures, say)
    except OSError as error:  # shutil.copytree's has a list of others and no number
        if error.errno not in FULL and not _says_full(str(error)):
            raise
        for made in ("source", "html.new", "doctrees"):  # what half of it says next time, nobody knows
            shutil.rmtree(out / made, ignore_errors=True)
        say(f"    The disk of {out} is full, so the HTML could not be written: make room there, and the same command "
            "goes on. The HTML of the last good build, and every run and notebook, are kept.")
        return False


def _render(profile: str, out: Path, failures: dict[str, str], say) -> bool:
    source, html, fresh = out / "source", out / "html", out / "html.new"
    whole = _assemble(profile, out, source, failures)
    digest = digests.digest(sorted(path for path in source.rglob("*") if path.is_file()), [digests.tools()])
    if digests.read_stamp(out / "html.json").get("digest") == digest and (html / "index.html").exists():
        say("    up to date")
        return True
    shutil.rmtree(fresh, ignore_errors=True)
    # A reference to a page that is not there cannot be resolved: only a whole book has to be without warnings.
    strict = ["-W", "--keep-going"] if whole else []
    # -P: no module is taken from the folder in which the build happens to be called
    command = [sys.executable, "-P", "-m", "sphinx", "-q", *strict, "-b", "html", "-d", out / "doctrees"]
    done = subprocess.run([*command, source, fresh], env=without_startup(), stderr=subprocess.PIPE,
                          encoding="utf-8", errors="replace")
    if _says_full(done.stderr):  # also where it was no more to Sphinx than a warning
        for log in re.findall(r"\S*sphinx-err-\w+\.log", done.stderr):  # a report to Sphinx's developers
            Path(log).unlink(missing_ok=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sys.stderr.write(done.stderr)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        say("    Sphinx failed, see above; the HTML of the last good build is untouched.")
        return False
    _slim(fresh)
    _redirect(fresh)
    old = out / "html.old"
    shutil.rmtree(old, ignore_errors=True)
    if html.exists():
        html.rename(old)
    fresh.rename(html)
    shutil.rmtree(old, ignore_errors=True)
    (out / "html.json").write_text(json.dumps({"digest": digest}), encoding="utf-8")
    return True


def _redirect(html: Path) -> None:
    """Write a page for each of REDIRECTS that leads on to the page of today."""
    for old, new in REDIRECTS.items():
        if not (html / f"{new}.html").exists():  # a book of some chapters
            continue
        (html / f"{old}.html").write_text(
            f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>This page has moved</title>
<meta http-equiv="refresh" content="0; url={new}.html"><link rel="canonical" href="{new}.html"></head>
<body><main><h1>This page has moved</h1><p>It is now part of <a href="{new}.html">{new}.html</a>.</p></main></body>
</html>
""", encoding="utf-8")


def _slim(html: Path) -> None:
    """Remove what no page asks for: of MathJax all but the component that Sphinx names and what that loads in English;
    the theme's translations and source maps."""
    static, mathjax = html / "_static", html / "_static" / "mathjax"
    spoken = (path for path in mathjax.glob("sre/mathmaps/*.json") if path.stem not in ("base", "en", "nemeth"))
    bundles = (path for path in mathjax.glob("*.js") if path.name != MATHJAX)
    for path in (*bundles, *spoken, *static.rglob("*.map"), *mathjax.glob("output/svg.js")):
        path.unlink()
    for folder in (mathjax / "output" / "svg", static / "locales"):
        shutil.rmtree(folder, ignore_errors=True)


def _says_full(text: str) -> bool:
    return any(os.strerror(code) in text for code in FULL)


def _assemble(profile: str, out: Path, source: Path, failures: dict[str, str]) -> bool:
    """Put what Sphinx reads into `source`; True if every chapter is there and none has failed."""
    from bcebook.book import pages

    _writable(source)  # as a killed build may have left it
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(digests.BOOK, source, ignore=lambda folder, names: [n for n in names if _stays(n)])
    _writable(source)
    whole = True
    for name, title in catalog.CHAPTERS.items():
        executed, page = out / "notebooks" / profile / f"{name}.ipynb", source / f"{name}.ipynb"
        if executed.exists():
            page.write_text(_for_sphinx(executed, source / "_static"), encoding="utf-8")
        if name in failures or not executed.exists():
            whole = False
            _warn(page, title, failures.get(name))
    pages.write(source, out, profile)
    return whole


def _writable(folder: Path) -> None:
    """Let its owner write in a copy: that of a checkout that can only be read has the checkout's modes."""
    for path in [folder, *folder.rglob("*")] if folder.exists() else ():
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def _for_sphinx(notebook: Path, static: Path) -> str:
    """A notebook as a page wants it: the code of a cell folded, without the findings that its outputs carry as data
    (Sphinx warns of a type that it cannot show), and with the numbers of each figure in a file in `static`, to which an
    unseen link after the figure leads, for the page's script to show."""
    from bcebook import claims
    from bcebook.report import drawn

    content, cells, figures = json.loads(notebook.read_text(encoding="utf-8")), [], 0
    for cell in _joined(content["cells"]):
        cells.append(cell)
        if cell["cell_type"] != "code":
            continue
        cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
        shown = []
        for output in cell["outputs"]:
            output.get("data", {}).pop(claims.MIME, None)
            numbers = output.get("data", {}).pop(drawn.MIME, None)
            shown.append(output)
            if not numbers:
                continue
            figures += 1
            path = static / DRAWN / f"{notebook.stem}-{figures}.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(numbers), encoding="utf-8")
            link = f'<div hidden><a class="drawn" href="_static/{DRAWN}/{path.name}" download>CSV</a></div>'
            if "figure" in cell["metadata"].get("mystnb", {}):  # each output of it becomes the figure of its name
                cells.append(_text(f"drawn-{figures}", link))
            else:
                shown.append({"output_type": "display_data", "metadata": {}, "data": {"text/html": link}})
        cell["outputs"] = shown
    content["cells"] = cells
    return json.dumps(content)


def _joined(cells: list[dict]) -> list[dict]:
    """The cells, a code cell that shows nothing joined with the code cell after it: one fold on the page, not two."""
    joined: list[dict] = []
    for cell in cells:
        before = joined[-1] if joined else None
        if before and before["cell_type"] == cell["cell_type"] == "code" and not before["outputs"]:
            sources = ["".join(each["source"]).strip("\n") for each in (before, cell)]
            joined[-1] = cell | {"source": "\n\n".join(sources)}
        else:
            joined.append(cell)
    return joined


def _stays(name: str) -> bool:
    """What of book/ is not for Sphinx: outputs, hidden files, the notebooks' sources."""
    return (name.startswith((".", "_build", "__")) or Path(name).suffix in (".ipynb", ".toml")
            or (Path(name).suffix == ".py" and name != "conf.py"))


def _warn(path: Path, title: str, problem: str | None) -> None:
    """Say on top of a chapter's page that it failed, and why, or that it has not been executed."""
    there = path.exists()
    empty = {"cells": [_text("title", f"# {title}")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook = json.loads(path.read_text(encoding="utf-8")) if there else empty
    shown = "below is its last good execution" if there else "it has never been executed with success"
    text = (f"This page failed in its last build; {shown}.\n\n```\n{problem}\n```" if problem
            else "This page has not been executed yet; `bcebook build` makes it.")
    notebook["cells"].insert(1, _text("warning", f":::{{warning}}\n{text}\n:::"))
    path.write_text(json.dumps(notebook), encoding="utf-8")


def _text(name: str, text: str) -> dict:
    """A cell of Markdown, the same each time: nbformat's have an id by chance, and take a second to import."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}
