"""The two halves of a chapter, NAME.py and NAME.ipynb: whether they say the same. The build reads the .py alone."""

import json
from collections.abc import Iterable
from pathlib import Path

Cells = list[tuple[str, str]]  # type and source of each


def differences(folder: Path, names: Iterable[str]) -> list[str]:
    """A line for each chapter whose halves in `folder` differ: which is newer, and how to bring them together.

    Types and sources of cells count; outputs and metadata do not. A chapter of which one half is missing has none to
    differ from. Jupytext is imported only to confirm a difference: that takes a second, and comparing some
    milliseconds.
    """
    return [line for name in names if (line := _difference(folder / f"{name}.py", folder / f"{name}.ipynb"))]


def _difference(text: Path, notebook: Path) -> str:
    if not text.exists() or not notebook.exists():
        return ""
    where, sync = f"{text.parent.name}/{text.stem}", f"`jupytext --sync {text.parent.name}/{text.name}`"
    try:
        theirs = of_notebook(notebook.read_text(encoding="utf-8"))
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        kind = type(error).__name__
        return f"{where}.ipynb cannot be read ({kind}); delete it, and {sync} makes it anew from the .py"
    try:
        if of_text(content := text.read_text(encoding="utf-8")) == theirs or _confirmed(content) == theirs:
            return ""
    except (OSError, ValueError):
        return ""  # executing the chapter says what is wrong with its source
    newer, older = (".ipynb", ".py") if notebook.stat().st_mtime > text.stat().st_mtime else (".py", ".ipynb")
    return (f"{where}.py and .ipynb differ, and the build reads the .py; {sync} takes the newer, which is the {newer}, "
            f"over into the {older}")


def of_notebook(content: str) -> Cells:
    """The cells of an .ipynb file."""
    return [(cell["cell_type"], "".join(cell["source"]).strip("\n")) for cell in json.loads(content)["cells"]]


def of_text(content: str) -> Cells:
    """The cells of a .py file in the percent format, read lightly: right for all that our chapters use of it."""
    cells, lines = [], None
    for line in content.split("\n"):
        if line.startswith("# %%"):
            kind = next((kind for kind in ("markdown", "raw") if f"[{kind}]" in line), "code")
            lines = []
            cells.append((kind, lines))
        elif lines is not None:
            lines.append(line if cells[-1][0] == "code" else line.removeprefix("#").removeprefix(" "))
    return [(kind, "\n".join(lines).strip("\n")) for kind, lines in cells]


def _confirmed(content: str) -> Cells:
    """The cells as Jupytext, which knows all of the format, reads them."""
    import jupytext

    return [(cell.cell_type, cell.source.strip("\n")) for cell in jupytext.reads(content, "py:percent").cells]
