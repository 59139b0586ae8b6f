"""Pages that are made, not written: lists of chapters, the scoreboard, the differences from the paper. They read rooms
and findings files, and recompute nothing."""

from pathlib import Path

from bcebook.book import costs, covers, findings, front, reference, run_list, scoreboard
from bcebook.book.departures import DEPARTURES
from bcebook.chapters.registry import rooms
from bcebook.chapters.room import PARTS, Room
from bcebook.paths import REPOSITORY
from bcebook.report import markdown
from bcebook.runs import rehearsal
from bcebook.runs.provenance import code_version

# In index.md: where a list goes; in README.md: where one begins, up to the mark that starts with "end of".
MARK = "<!-- {} -->"


def write(source: Path, out: Path, profile: str) -> None:
    """Fill the Sphinx folder `source` with what is made: lists in index.md and more_machines.md, scoreboard.md,
    departures.md, runs.md, api.md, the covers of the chapters. Raises ValueError,
    naming the file, where one of them is damaged."""
    found = findings.read_all(findings.folder(out, profile))
    for page, blocks in {
        "index.md": {"chapters": chapters(), "contents": contents(), "findings": scoreboard.headlines(found),
                     "found": front.table(found, linked=True), "meaning": front.meaning(found)},
        "bibliography.md": {"cite": cite()},
        "more_machines.md": {"costs": costs.table(), "reached": costs.reached(),
                             "sbatch": listing("ray.sbatch", "bash")},
    }.items():
        text = (source / page).read_text(encoding="utf-8")
        for name, block in blocks.items():
            text = text.replace(MARK.format(name), block)
        (source / page).write_text(text, encoding="utf-8")
    for name, room in rooms().items():
        covers.put(source, out / "notebooks" / profile / f"{name}.ipynb", room, found)
    (source / "scoreboard.md").write_text(scoreboard.page(found), encoding="utf-8")
    (source / "departures.md").write_text(departures(), encoding="utf-8")
    (source / "runs.md").write_text(run_list.page(found), encoding="utf-8")
    (source / "api.md").write_text(reference.page(), encoding="utf-8")
    if rehearsal.active():
        for page in source.glob("*.md"):
            title, _, text = page.read_text(encoding="utf-8").partition("\n")
            page.write_text(f"{title}\n\n:::{{warning}}\n{rehearsal.NOTE}\n:::\n{text}", encoding="utf-8")


def listing(name: str, language: str) -> str:
    """Markdown: a file of ci/, as it is."""
    text = (REPOSITORY / "ci" / name).read_text(encoding="utf-8")
    return f"```{language}\n{text}```"


def chapters() -> str:
    """Markdown: the chapters by part, with what of the paper each is and what it asks."""
    lines = []
    for part, title in PARTS.items():
        rows = [[f"[{room.title}]({name})", room.of_the_paper, room.asks] for name, room in _of_part(part)]
        lines += [f"### {title}", "", markdown.table(["chapter", "in the paper", "question"], rows), ""]
    return "\n".join(lines)


def contents() -> str:
    """Markdown: the table of contents, a caption for each part, chapters numbered through."""
    lines, number = [], {name: n for n, name in enumerate(rooms(), 1)}
    for part, title in PARTS.items():
        lines += [
            "```{toctree}",
            ":hidden:",
            f":caption: {title}",
            "",
            *(f"{number[name]} {room.short} <{name}>" for name, room in _of_part(part)),
            "```",
            "",
        ]
    return "\n".join(lines)


def _of_part(part: str) -> list[tuple[str, Room]]:
    return [(name, room) for name, room in rooms().items() if room.part == part]


def readme() -> str:
    """Markdown: README's table of chapters, with what the quick profile trains for each."""
    seen, rows = set(), []
    for room in rooms().values():
        configs = set(room.configs("quick"))
        shared = len(configs & seen)
        seen |= configs
        some = f" ({'all' if shared == len(configs) else shared} shared)" if shared else ""
        rows.append(
            [
                room.title,
                PARTS[room.part],
                room.of_the_paper,
                f"{len(configs)} runs{some}" if configs else "no runs" if room.runs else "computed; no runs",
            ]
        )
    return markdown.table(["chapter", "part", "in the paper", "quick profile"], rows)


def replace_block(text: str, name: str, block: str) -> str:
    """text with what stands between the two marks of `name` replaced. Raises ValueError where a mark is missing."""
    begin, end = MARK.format(name), MARK.format(f"end of {name}")
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"the text has no place for {name!r}: put {begin} and {end} on lines of their own.")
    return f"{before}{begin}\n{block}\n{end}{after}"


# ---- where this book departs from the paper
# -----------------------------------------------------------------------------


def departures() -> str:
    """Markdown: every difference between the paper and this book, once."""
    lines = [
        "# Where this book departs from the paper",
        "",
        "Every difference that we know of, once; the chapters link here. *Unknown* says that neither the paper's "
        "public texts nor its code told us. Values of ours are read from the settings that the runs are made of.",
        "",
    ]
    for key, departure in DEPARTURES.items():
        rows = [["the paper", departure.paper], *departure.ours().items()]
        lines += [
            f"(departure-{key})=",
            f"## {departure.what}",
            "",
            markdown.table(["", ""], rows),
            "",
            departure.matters,
            "",
        ]
    return "\n".join(lines)


def cite() -> str:
    """Markdown: the entries to cite, the paper's from the bibliography and the book's own."""
    entries = (REPOSITORY / "book" / "references.bib").read_text(encoding="utf-8")
    start = entries.index("@inproceedings{li2025bce")
    paper_entry = entries[start:entries.index("\n}", start) + 2]
    own = "\n".join(["@misc{bcebook,", "  title = {{BCE} vs. {CE} in deep feature learning, reproduced},",
                     f"  note = {{Version {code_version()}}},", "}"])
    return f"```bibtex\n{paper_entry}\n\n{own}\n```"


# ---- README
# -------------------------------------------------------------------------------------------------------------


def readme_blocks() -> dict[str, str]:
    """README's generated blocks; what was found is that of the recorded runs alone, the same on every machine."""
    found = front.pages()
    return {"chapters": readme(), "found": front.table(found, linked=False), "meaning": front.meaning(found)}


def update_readme() -> None:
    """Write README's generated blocks and the picture anew. Tests compare them."""
    path = REPOSITORY / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, block in readme_blocks().items():
        text = replace_block(text, name, block)
    path.write_text(text, encoding="utf-8")
    front.draw()
