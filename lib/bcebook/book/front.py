"""What a reader meets first: one picture on real images and a few findings, from the runs that come with the
repository, so that they are the same on every machine."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bcebook.book import findings
from bcebook.book.findings import Page
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.chapters.room import Room
from bcebook.paths import REPOSITORY
from bcebook.report import claims, markdown
from bcebook.report.claims import Judged
from bcebook.runs.store import RunStore
from bcebook.science import verdicts

if TYPE_CHECKING:
    from bcebook.runs.store import Run

PICTURE = REPOSITORY / "book" / "_static" / "front.svg"
PARTS = ("figures", "tables")  # the paper's own


def recorded(room: Room, profile: str) -> "list[Run]":
    """The runs of a chapter that come with the repository."""
    store = RunStore(REPOSITORY / "data" / "recorded")
    return [run for config in room.configs(profile) if (run := store.find(config))]


def strongest() -> list[str]:
    """The profiles of real images, the strongest first."""
    return [profile for profile in reversed(PROFILES) if profile != "quick"]


def pages() -> dict[tuple[str, str], Page]:
    """(profile, chapter) -> what the recorded runs say of the paper's claims, for the chapters of its figures and
    tables."""
    found = {}
    for name, room in rooms().items():
        if room.part not in PARTS or not room.runs:
            continue
        for profile in strongest():
            if runs := recorded(room, profile):
                papers = tuple(claim for claim in room.claims if claim.of_the_paper and not claim.theory)
                judged = claims.judge(papers, runs)
                payload = claims.payload(name, profile, judged, runs, len(room.configs(profile)))
                found[profile, name] = findings.of_payload(payload)
    return found


def first_claims(found: dict[tuple[str, str], Page]) -> Iterable[tuple[Room, Page, Judged]]:
    """Of each chapter of the paper's figures and tables the first claim of the paper that has a verdict, by the
    strongest profile of real images that judges it."""
    for name, room in rooms().items():
        if room.part not in PARTS:
            continue
        there = [found[profile, name] for profile in strongest() if (profile, name) in found]
        there = [page for page in there if any(dataset != "digits" for _, dataset in page.networks)]
        judged = [(page, each) for page in there for each in page.claims
                  if each.of_the_paper and each.finding.verdict != verdicts.NOT_RUN]
        if judged:
            yield room, *judged[0]


def table(found: dict[tuple[str, str], Page], linked: bool) -> str:
    """Markdown: the paper's first claim of each chapter on real images, what was found, and on what. linked: the
    chapters as links within the book."""
    rows = []
    for room, page, each in first_claims(found):
        chapter = f"[{room.short}]({room.name})" if linked else room.short
        measured = f"{each.statistic}: {markdown.estimate(each.finding)}"
        rows.append([each.text, f"**{each.finding.verdict}**", measured, chapter, page.evidence([each])])
    return markdown.table(["the paper's claim", "verdict", "what we found [95 %]", "chapter", "on"], rows)


def draw(path: Path = PICTURE) -> None:
    """Draw the picture: score distributions of the chapter on histograms, CE beside BCE, of its recorded runs on real
    images."""
    from matplotlib import pyplot

    from bcebook.chapters import score_histograms
    from bcebook.report import plots

    plots.style()
    runs = next(runs for profile in strongest() if (runs := recorded(score_histograms.ROOM, profile)))
    first = [run for run in runs if run.config.optimizer == runs[0].config.optimizer]
    figure = score_histograms.histograms(first)
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    pyplot.close(figure)
