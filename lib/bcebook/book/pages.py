"""Pages that are made, not written: lists of chapters, the scoreboard, the differences from the paper. They read rooms
and findings files, and recompute nothing."""

import math
from collections.abc import Iterable
from pathlib import Path

from bcebook import paper
from bcebook.book import costs, covers, findings, front, reference, run_list
from bcebook.book.departures import DEPARTURES
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.chapters.room import PARTS, Room
from bcebook.paths import REPOSITORY
from bcebook.report import markdown
from bcebook.report.claims import Claim, Judged
from bcebook.runs import rehearsal
from bcebook.runs.provenance import code_version
from bcebook.science import verdicts

# In index.md: where a list goes; in README.md: where one begins, up to the mark that starts with "end of".
MARK = "<!-- {} -->"


def write(source: Path, out: Path, profile: str) -> None:
    """Fill the Sphinx folder `source` with what is made: lists in index.md and more_machines.md, scoreboard.md,
    departures.md, runs.md, api.md, the covers of the chapters. Raises ValueError,
    naming the file, where one of them is damaged."""
    found = findings.read_all(findings.folder(out, profile))
    for page, blocks in {
        "index.md": {"chapters": chapters(), "contents": contents(), "findings": headlines(found),
                     "found": front.table(found, linked=True)},
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
    (source / "scoreboard.md").write_text(scoreboard(found), encoding="utf-8")
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
        lines += [f"### {title}", "", markdown.table(["chapter", "what of the paper", "what it asks"], rows), ""]
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
    return markdown.table(["chapter", "part", "of the paper", "quick profile"], rows)


def replace_block(text: str, name: str, block: str) -> str:
    """text with what stands between the two marks of `name` replaced. Raises ValueError where a mark is missing."""
    begin, end = MARK.format(name), MARK.format(f"end of {name}")
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"the text has no place for {name!r}: put {begin} and {end} on lines of their own.")
    return f"{before}{begin}\n{block}\n{end}{after}"


# ---- the scoreboard
# -----------------------------------------------------------------------------------------------------


def headlines(found: dict) -> str:
    """Markdown: how many of the paper's claims have which verdict: of experiments in each profile that has findings,
    and once of what needs no runs."""
    theory = {claim.name for room in rooms().values() for claim in room.claims if claim.theory}
    lines, computed = [], {}
    for profile in PROFILES:
        said = [each for page in findings.of_profile(found, profile) for each in page.claims if each.of_the_paper]
        computed |= {each.name: each.finding.verdict for each in said if each.name in theory}
        run = [
            each.finding.verdict
            for each in said
            if each.name not in theory and each.finding.verdict != verdicts.NOT_RUN
        ]
        if run:
            lines.append(f"- experiments, profile {profile}: {verdicts.summary(run)}")
    if computed:
        lines.append(f"- theory and the paper's own numbers: {verdicts.summary(computed.values())}")
    if not lines:
        return "No chapter has been executed yet."
    first = "**The paper's claims so far**, each judged by a rule that could have come out otherwise:"
    return "\n".join([first, "", *lines, "", "The [scoreboard](scoreboard) has them one by one."])


def scoreboard(found: dict) -> str:
    """Markdown: every claim with its estimate and verdict in each profile, and every figure and table of the paper."""
    return "\n".join(
        [
            "# Scoreboard",
            "",
            "Every claim with the statistic that decides it, in each profile that has runs: the estimate with its 95 "
            "% interval and what it is over, and the verdict. The rules stand on the chapters' pages; a claim without "
            "runs has no verdict. Theory is the same in every profile.",
            "",
            "## The paper's claims",
            "",
            _claims(found, of_the_paper=True),
            "",
            "## Claims of our own",
            "",
            _claims(found, of_the_paper=False),
            "",
            "## The paper's figures and tables",
            "",
            items(found),
            "",
        ]
    )


def _claims(found: dict, of_the_paper: bool) -> str:
    """A table for each chapter that has such claims; the claims of theory have one verdict for all profiles."""
    lines, shown = [], [profile for profile in PROFILES if findings.of_profile(found, profile)]
    for name, room in rooms().items():
        claims = [claim for claim in room.claims if claim.of_the_paper == of_the_paper]
        columns = shown if any(not claim.theory for claim in claims) else []
        heads = [_head(profile, found.get((profile, name))) for profile in columns] or ["verdict"]
        rows = [[claim.text, *_cells(found, name, claim, columns), claim.statistic] for claim in claims]
        if rows:
            lines += [f"### [{room.title}]({name})", "", markdown.table(["claim", *heads, "statistic"], rows), ""]
    return "\n".join(lines) or "None."


def _head(profile: str, page: findings.Page | None) -> str:
    """A profile and how many seeds its runs of a chapter have."""
    return f"{profile}, {markdown.counted(len(page.seeds), 'seed')}" if page and page.runs else profile


def _cells(found: dict, chapter: str, claim: Claim, columns: list[str]) -> list[str]:
    judged = {profile: _find(found, profile, chapter, claim.name) for profile in PROFILES}
    if not claim.theory:
        return [_cell(judged[profile]) for profile in columns]
    known = next((each for each in judged.values() if each), None)
    return [_cell(known), *("the same" for _ in columns[1:])]


def _find(found: dict, profile: str, chapter: str, claim: str) -> Judged | None:
    page = found.get((profile, chapter))
    return next((each for each in page.claims if each.name == claim), None) if page else None


def _cell(each: Judged | None) -> str:
    """The verdict and the estimate; of a family of tests also the smallest and the largest estimate with their
    intervals."""
    if each is None or each.finding.verdict == verdicts.NOT_RUN:
        return verdicts.NOT_RUN
    lines = [f"**{each.finding.verdict}**"]
    if not math.isnan(each.finding.value):
        lines.append(markdown.estimate(each.finding))
    parts = sorted((part for part in each.finding.parts if not math.isnan(part.value)), key=lambda part: part.value)
    ends = {0: parts[0], len(parts) - 1: parts[-1]} if parts else {}
    lines += [
        f"{'from' if index == 0 and len(ends) > 1 else 'to' if index else ''} {markdown.value(part)}".strip()
        for index, part in ends.items()
        if part.unit != "share"
    ]
    return "<br>".join(lines)


def items(found: dict) -> str:
    """Markdown: each figure and table of the paper: reproduced (the paper profile's runs are all there), in part, or
    not attempted and why, with the chapters that rebuild it."""
    rows = []
    for key, item in paper.ITEMS.items():
        treating = {name: room for name, room in rooms().items() if key in room.items}
        status = state(treating.values(), found) if treating else "not attempted"
        why = item.missing if item.missing else _runs_of(treating, found)
        rows.append(
            [
                item.title,
                status,
                markdown.listed(f"[{room.title}]({name})" for name, room in treating.items())
                if treating
                else markdown.DASH,
                why,
            ]
        )
    return markdown.table(["of the paper", "here", "chapter", "runs, or why not"], rows)


def state(treating: Iterable[Room], found: dict) -> str:
    """ "reproduced", "in part" or "computed" (a chapter that needs no runs)."""
    treating = list(treating)
    if all(room.runs is None for room in treating):
        return "computed"
    pages = [found.get(("paper", room.name)) for room in treating if room.runs]
    return "reproduced" if all(page and page.runs == page.of > 0 for page in pages) else "in part"


def _runs_of(treating: dict[str, Room], found: dict) -> str:
    told = []
    for name, room in treating.items():
        for profile in PROFILES if room.runs else ():
            page = found.get((profile, name))
            if page and page.of:
                told.append(
                    f"{profile}: {page.runs} of {page.of}, {markdown.counted(len(page.seeds), 'seed')}"
                )
    return "; ".join(told) or (
        "no runs needed" if all(room.runs is None for room in treating.values()) else "no runs yet"
    )


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
    return {"chapters": readme(), "found": front.table(front.pages(), linked=False)}


def update_readme() -> None:
    """Write README's generated blocks and the picture anew. Tests compare them."""
    path = REPOSITORY / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, block in readme_blocks().items():
        text = replace_block(text, name, block)
    path.write_text(text, encoding="utf-8")
    front.draw()
