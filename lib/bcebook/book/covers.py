"""What a chapter's page has on top beside the notebook's own cells: what was found, in short, and its files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from bcebook.book.findings import Page
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.room import Room
from bcebook.chapters.script import Script
from bcebook.paths import REPOSITORY
from bcebook import claims
from bcebook.report import drawn
from bcebook.science import verdicts

DOWNLOADS = "downloads"  # folder of the pages' source that Sphinx does not read


def put(source: Path, executed: Path, room: Room, pages: dict[tuple[str, str], Page]) -> None:
    """Put the cover under the first heading of a chapter's page in `source`, and its files beside the page. executed:
    its executed notebook; nothing is done where that is missing."""
    page = source / f"{room.name}.ipynb"
    if not page.exists() or not executed.exists():
        return
    folder = source / DOWNLOADS
    folder.mkdir(exist_ok=True)
    (folder / executed.name).write_text(for_reading(executed), encoding="utf-8")
    shutil.copyfile(REPOSITORY / "book" / f"{room.name}.py", folder / f"{room.name}.py")
    notebook = json.loads(page.read_text(encoding="utf-8"))
    first = notebook["cells"][0]
    heading, _, rest = "".join(first["source"]).partition("\n")
    cells = [{"cell_type": "markdown", "id": name, "metadata": {}, "source": text}
             for name, text in (("heading", heading), ("cover", cover(room, pages)), ("beginning", rest.strip()))]
    notebook["cells"][:1] = cells
    page.write_text(json.dumps(notebook), encoding="utf-8")


def for_reading(executed: Path) -> str:
    """An executed notebook without the data in its outputs that only the build reads: findings, figures' numbers."""
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            for kind in (claims.MIME, drawn.MIME):
                output.get("data", {}).pop(kind, None)
    return json.dumps(notebook, indent=1)


def cover(room: Room, pages: dict[tuple[str, str], Page]) -> str:
    """Markdown: what was found, by verdict, on the strongest evidence that is there; and the chapter's files. A script
    says itself what was found."""
    lines = [] if isinstance(room, Script) else found(room, pages)
    # A link that Sphinx does not check: the page's script reads what it asks for.
    runs = f"<a href=\"runs.html?filter={quote(room.short)}\">its runs</a> · " if room.runs else ""
    box = [":::{admonition} In short", ":class: in-short", "", *lines, ":::", ""] if lines else []
    return "\n".join([*box, ":::{container} chapter-files", "", (
        f"{{download}}`executed notebook <{DOWNLOADS}/{room.name}.ipynb>` · "
        f"{{download}}`script <{DOWNLOADS}/{room.name}.py>` · "
        f"{runs}build this page alone: `bcebook build --only {room.name}`"), ":::"])


def found(room: Room, pages: dict[tuple[str, str], Page]) -> list[str]:
    """A line for each verdict, with the claims that have it: those of theory, and those of runs in the strongest
    profile in which one of them was judged."""
    theory = {claim.name for claim in room.claims if claim.theory}
    there = [pages[profile, room.name] for profile in reversed(PROFILES) if (profile, room.name) in pages]
    judged = lambda page: [each for each in page.claims if each.name not in theory  # noqa: E731
                           and each.finding.verdict != verdicts.NOT_RUN]
    # The page of the strongest profile may carry none of theory, which stands on the page itself.
    proven = next(filter(None, ([each for each in page.claims if each.name in theory] for page in there)), [])
    best = next((page for page in there if judged(page)), None)
    lines = []
    if best:
        lines += _by_verdict(judged(best), best.evidence)
    return lines + _by_verdict(proven, lambda claims: "computed, without runs")


def _by_verdict(claims: list, evidence: Callable[[list], str]) -> list[str]:
    """A line for each verdict: the claims that have it, and on what they were judged."""
    lines = []
    for verdict in verdicts.VERDICTS:
        group = [each for each in claims if each.finding.verdict == verdict]
        if group:
            texts = "; ".join(each.text for each in group)
            lines.append(f"- **{verdict.capitalize()}** ({evidence(group)}): {texts}.")
    return lines
