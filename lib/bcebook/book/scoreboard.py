"""The scoreboard: every claim with its verdict in each profile, three screens long; estimates are folded."""

from collections.abc import Iterable

from bcebook import paper
from bcebook.book.findings import Page, of_profile
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.chapters.room import Room
from bcebook.claims import Claim, Judged
from bcebook.report import markdown
from bcebook.science import verdicts

Found = dict[tuple[str, str], Page]  # (profile, chapter) -> what it found


def headlines(found: Found) -> str:
    """Markdown: how many of the paper's claims have which verdict: of experiments in each profile that has findings,
    and once of what needs no runs."""
    theory = {claim.name for room in rooms().values() for claim in room.claims if claim.theory}
    lines, computed = [], {}
    for profile in PROFILES:
        papers = [each for page in of_profile(found, profile) for each in page.claims if each.of_the_paper]
        computed |= {each.name: each.finding.verdict for each in papers if each.name in theory}
        run = [each.finding.verdict for each in papers if each.name not in theory]
        if set(run) - {verdicts.NOT_RUN}:
            lines.append(f"- experiments, profile {profile}: {verdicts.summary(run)}")
    if computed:
        lines.append(f"- theory and the paper's own numbers: {verdicts.summary(computed.values())}")
    if not lines:
        return "No chapter has been executed yet."
    return "\n".join(["**The paper's claims**, each judged by a rule that was fixed beforehand:", "", *lines])


def page(found: Found) -> str:
    """Markdown: the verdicts of each chapter in a line, which unfolds to its claims; then the paper's figures and
    tables."""
    lines = ["# Scoreboard", "",
             "Each line counts the verdicts of a chapter, in the strongest profile that has runs. Click a line for the "
             "claims, the estimates with their 95 % intervals, and the verdicts in each profile. The rules are on the "
             "chapters' pages; [how to read](how_to_read) defines the verdicts.", "", headlines(found), ""]
    for name, room in rooms().items():
        lines += _chapter(found, name, room)
    return "\n".join([*lines, "## The paper's figures and tables", "", items(found), ""])


def _chapter(found: Found, name: str, room: Room) -> list[str]:
    """One chapter, folded: a table with a row for each claim and a column for each profile that has judged one."""
    judged = {claim.name: {profile: each for profile in PROFILES if (each := _find(found, profile, name, claim.name))}
              for claim in room.claims}
    shown = [profile for profile in PROFILES if any(profile in judged[claim.name] for claim in room.claims
                                                    if not claim.theory)]
    strongest = [_strongest(judged[claim.name]) for claim in room.claims]
    heads = ["claim", "claimed by", *([_head(profile, found[profile, name]) for profile in shown] or ["verdict"])]
    rows = [[f"{claim.text}<br>*{claim.statistic}*", "paper" if claim.of_the_paper else "ours",
             *_cells(claim, judged[claim.name], shown)] for claim in room.claims]
    return ["<details><summary>", f"<b>{room.title}</b>: {verdicts.summary(strongest)}", "</summary>", "",
            f"[To the chapter]({name})", "", markdown.table(heads, rows), "", "</details>", ""]


def _strongest(judged: dict[str, Judged]) -> str:
    """The verdict on the strongest runs that give one."""
    given = [judged[profile].finding.verdict for profile in reversed(PROFILES) if profile in judged]
    return next((verdict for verdict in given if verdict != verdicts.NOT_RUN), verdicts.NOT_RUN)


def _head(profile: str, page: Page) -> str:
    return f"{profile}, {markdown.counted(len(page.seeds), 'seed')}" if page.runs else profile


def _cells(claim: Claim, judged: dict[str, Judged], shown: list[str]) -> list[str]:
    """A cell for each profile; a claim of theory has one verdict for all."""
    if not claim.theory:
        return [_cell(judged.get(profile)) for profile in shown]
    return [_cell(next(iter(judged.values()), None)), *("the same" for _ in shown[1:])]


def _find(found: Found, profile: str, chapter: str, claim: str) -> Judged | None:
    page = found.get((profile, chapter))
    return next((each for each in page.claims if each.name == claim), None) if page else None


def _cell(each: Judged | None) -> str:
    """The verdict and the estimate; of a family of tests the estimates of its parts."""
    if each is None or each.finding.verdict == verdicts.NOT_RUN:
        return markdown.verdict(each.finding) if each else verdicts.NOT_RUN
    return "<br>".join([f"**{each.finding.verdict}**", *markdown.effects(each.finding)])


def items(found: Found) -> str:
    """Markdown: each figure and table of the paper: reproduced (the paper profile's runs are all there), in part, or
    not attempted and why, with the chapters that rebuild it."""
    rows = []
    for key, item in paper.ITEMS.items():
        treating = {name: room for name, room in rooms().items() if key in room.items}
        status = state(treating.values(), found) if treating else "not attempted"
        links = [f"[{room.title}]({name})" for name, room in treating.items()]
        rows.append([item.title, status, markdown.listed(links) if links else markdown.DASH,
                     item.missing or _runs_of(treating, found)])
    return markdown.table(["in the paper", "in this book", "chapter", "runs, or why none"], rows)


def state(treating: Iterable[Room], found: Found) -> str:
    """ "reproduced", "in part" or "computed" (a chapter that needs no runs)."""
    treating = list(treating)
    if all(room.runs is None for room in treating):
        return "computed"
    pages = [found.get(("paper", room.name)) for room in treating if room.runs]
    return "reproduced" if all(page and page.runs == page.of > 0 for page in pages) else "in part"


def _runs_of(treating: dict[str, Room], found: Found) -> str:
    """How many of the planned runs are there, in each profile."""
    pages = [found.get((profile, name)) for name, room in treating.items() if room.runs for profile in PROFILES]
    there = [f"{page.profile}: {page.runs} of {page.of}, {markdown.counted(len(page.seeds), 'seed')}"
             for page in pages if page and page.of]
    none = "no runs needed" if all(room.runs is None for room in treating.values()) else "no runs yet"
    return "; ".join(there) or none
