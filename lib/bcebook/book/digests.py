"""What a page is made from, as a digest: a chapter is executed again only when what it depends on has changed."""

import ast
import functools
import hashlib
import json
import re
from pathlib import Path

from bcebook.chapters import catalog
from bcebook.chapters.recipes import RECORDED
from bcebook.paths import PACKAGE, REPOSITORY, published, theory_tables
from bcebook.runs.provenance import versions
from bcebook.runs.store import open_store

BOOK = REPOSITORY / "book"


def chapter_digest(name: str, profile: str, data: Path) -> str:
    """Of the notebook, what of the library it can import, its runs in every profile, the tables of data/paper and
    data/theory, its parameters and the tools.

    "" for a chapter whose notebook is not there yet: nothing is up to date with that, and executing it says so.
    """
    notebook, room = BOOK / f"{name}.py", PACKAGE / "chapters" / f"{name}.py"
    if not notebook.exists():
        return ""
    store = open_store(data, profile == RECORDED)
    runs = [store.fingerprint(config) for which in catalog.PROFILES for config in catalog.configs(name, which)]
    library = closure(notebook, PACKAGE) | (closure(room, PACKAGE) if room.exists() else set())
    tables = [path for folder in (published(), theory_tables()) for path in sorted(folder.glob("*.csv"))]
    sources = [notebook, *sorted(library), *tables]
    return digest(sources, [profile, str(data), tools(), *runs])


def tools() -> str:
    """The versions that decide how a page comes out."""
    return json.dumps(versions()) + hashlib.sha256((REPOSITORY / "requirements.txt").read_bytes()).hexdigest()


def digest(paths: list[Path], extra: list[str]) -> str:
    """Of the names and contents of files, and of more text."""
    sha = hashlib.sha256(json.dumps(extra).encode())
    for path in paths:
        sha.update(f"{path.parent.name}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()


def read_stamp(path: Path) -> dict:
    """What was written beside a finished product; {} if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def closure(path: Path, package: Path = PACKAGE) -> set[Path]:
    """The files of the package that the script or module `path` can import, itself or through others, and its own.

    Read off the sources, never executed: imports in any form and at any depth, modules named by a string as in
    `lazy("bcebook.report.plots")`, the packages on the way, the short names of the package's _HOMES. What is found
    by looking into a folder is not followed: the registry imports every chapter, and none depends on another for that.
    """
    files = {_dotted(file, package): file for file in package.rglob("*.py")}
    homes = _homes(files[package.name].read_text(encoding="utf-8")) if package.name in files else {}
    names = {file: name for name, file in files.items()}
    found, due = set(), [path]
    while due:
        file = due.pop()
        if file in names:
            found.add(file)
        text = file.read_text(encoding="utf-8")
        for name in _named(text, names.get(file, ""), file.name == "__init__.py", package.name):
            due += [file for file in _files(name, files, homes) if file not in found and file not in due]
    return found


def _dotted(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _files(name: str, files: dict[str, Path], homes: dict[str, str]) -> list[Path]:
    """The files behind a dotted name: packages on the way, the module; the rest is a name in it, or * for all."""
    parts = name.split(".")
    if len(parts) > 1 and parts[1] in homes and ".".join(parts[:2]) not in files:
        parts[1:2] = homes[parts[1]].split(".")
    found = [files[prefix] for n in range(len(parts)) if (prefix := ".".join(parts[:n + 1])) in files]
    return found + [file for other, file in files.items() if parts[-1] == "*" and other.startswith(name[:-1])]


@functools.cache
def _homes(text: str) -> dict[str, str]:
    """The short names that a package's __init__ resolves on first use: the dictionary _HOMES, read off its source."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOMES":
            return ast.literal_eval(node.value)
    return {}


@functools.cache  # by content: a file that a dozen chapters share is parsed once
def _named(text: str, module: str, is_package: bool, root: str) -> frozenset[str]:
    """The dotted names below `root` that a source imports or names: "root.a.b.name"."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:  # executing it says what is wrong, and must not stop the other chapters
        return frozenset()
    bound, found = {}, set()  # bound: a local name -> the dotted name that it stands for
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
                first = alias.name.split(".")[0]
                bound |= {alias.asname: alias.name} if alias.asname else {first: first}
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module, is_package)
            bound |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(rf"{root}(\.\w+)+", str(node.value)):
            found.add(node.value)
    for node in nodes:
        if isinstance(node, ast.Attribute) and (chain := _chain(node))[0] in bound:
            found.add(".".join([bound[chain[0]], *chain[1:]]))
    return frozenset(name for name in found if name.split(".")[0] == root)


def _base(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The package or module that a `from ... import` takes from, relative or not."""
    if not node.level:
        return node.module
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, node.module] if node.module else parts)


def _chain(node: ast.expr) -> list[str]:
    """["a", "b", "c"] for the expression a.b.c; [""] where it starts otherwise."""
    if isinstance(node, ast.Attribute):
        return [*_chain(node.value), node.attr]
    return [node.id] if isinstance(node, ast.Name) else [""]
