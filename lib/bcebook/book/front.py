"""What a reader meets first: one picture on real images, the findings with the largest claim on attention, and what
they mean; from the runs that come with the repository, so that they are the same on every machine."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bcebook.book import findings
from bcebook.book.findings import Page
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.chapters.room import Room
from bcebook.paths import REPOSITORY
from bcebook import claims
from bcebook.report import markdown
from bcebook.claims import Claim, Judged
from bcebook.runs.store import RunStore
from bcebook.science import verdicts

if TYPE_CHECKING:
    from bcebook.runs.store import Run

PICTURE = REPOSITORY / "book" / "_static" / "front.svg"


def recorded(room: Room, profile: str) -> "list[Run]":
    """The runs of a chapter that come with the repository."""
    store = RunStore(REPOSITORY / "data" / "recorded")
    return [run for config in room.configs(profile) if (run := store.find(config))]


def strongest() -> list[str]:
    """The profiles of real images, the strongest first."""
    return [profile for profile in reversed(PROFILES) if profile != "quick"]


def pages() -> dict[tuple[str, str], Page]:
    """(profile, chapter) -> what the recorded runs say of the claims that have a place on the landing page."""
    found = {}
    for name, room in rooms().items():
        chosen = [claim for claim in room.claims if claim.front]
        for profile in strongest() if chosen else ():
            runs, planned = recorded(room, profile), room.configs(profile)
            if not runs and not all(claim.theory for claim in chosen):
                continue
            judged = claims.judge(chosen, room.view(runs) if runs else None, planned)
            found[profile, name] = findings.of_payload(claims.payload(name, profile, judged, runs, len(planned)))
    return found


def first(found: dict[tuple[str, str], Page]) -> Iterable[tuple[Room, Claim, Page, Judged]]:
    """The claims of the landing page in their order, each by the strongest profile of real images that judges it; a
    claim without a verdict is left out."""
    placed = [(claim.front, room, claim) for room in rooms().values() for claim in room.claims if claim.front]
    for _, room, claim in sorted(placed, key=lambda each: each[0]):
        for profile in strongest():
            page = found.get((profile, room.name))
            judged = [each for each in page.claims if each.name == claim.name] if page else []
            if judged and judged[0].finding.verdict != verdicts.NOT_RUN:
                yield room, claim, page, judged[0]
                break


def table(found: dict[tuple[str, str], Page], linked: bool) -> str:
    """Markdown: what was found, effect first, and on what runs; the verdict on the claim; the chapter. linked: the
    chapters as links within the book."""
    rows = []
    for room, claim, page, each in first(found):
        chapter = f"[{room.short}]({room.name})" if linked else room.short
        effect = f"{claim.effect[0].upper()}{claim.effect[1:]}: **{'; '.join(markdown.effects(each.finding))}**"
        on = "" if claim.theory else f" *On {page.evidence([each])}.*"
        rows.append([f"{effect}.{on}", f"{each.text}: **{each.finding.verdict}**", chapter])
    return markdown.table(["what we found [95 % interval]", "claim and verdict", "chapter"], rows)


def meaning(found: dict[tuple[str, str], Page]) -> str:
    """Markdown: what the findings mean for somebody who trains classifiers, in three sentences; each depends on the
    verdict of its claim."""
    said = {claim.name: each.finding for _, claim, _, each in first(found)}

    def holds(name: str) -> bool:
        return name in said and said[name].verdict in (verdicts.SUPPORTED, verdicts.PROVED)

    uniform = said.get("accuracy.former_uniform")
    lines = []
    if uniform and holds("accuracy.former_uniform"):
        least = min(part.value for part in uniform.parts)
        lines.append(f"If one threshold has to serve all classes (rejection, multi-label use, verification), train "
                     "with BCE: in our runs it raises the share of test images that one threshold classifies correctly "
                     f"by about {markdown.percent(least, 0)} percentage points or more.")
    if "accuracy.former_accuracy" in said and not holds("accuracy.former_accuracy"):
        lines.append("If only the top-1 prediction counts, use either loss: our runs detect no difference in "
                     "accuracy.")
    forgets = said.get("initial_bias.bce_forgets")
    if forgets and forgets.verdict == verdicts.CONTRADICTED:
        lines.append("With BCE, choose the initial bias with care: after training of the usual length the final bias "
                     "still depends on it.")
    return " ".join(lines)


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
