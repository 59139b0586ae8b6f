"""What a reader meets first: the picture and the table of the recorded runs, and the covers of the chapters."""

import dataclasses
import json
import re

import numpy as np
import pytest

from bcebook.book import covers, front, pages
from bcebook.book.findings import Page
from bcebook.chapters.registry import rooms
from bcebook.paths import REPOSITORY
from bcebook.report import drawn
from bcebook.claims import Judged
from bcebook.science.verdicts import Finding

UPDATE = 'run: python -c "from bcebook.book import pages; pages.update_readme()"'


def test_readmes_generated_blocks_are_what_rooms_and_recorded_runs_say():
    text = (REPOSITORY / "README.md").read_text()
    for name, block in pages.readme_blocks().items():
        assert text == pages.replace_block(text, name, block), f"{name}; {UPDATE}"


def test_the_picture_is_drawn_from_the_recorded_runs(tmp_path):
    """Number by number: another processor may round the last digit of a point in another way."""
    front.draw(tmp_path / "again.svg")
    kept, again = (re.findall(r"-?\d+\.\d+", path.read_text()) for path in (front.PICTURE, tmp_path / "again.svg"))
    assert len(kept) == len(again) > 1000, UPDATE
    np.testing.assert_allclose(np.array(kept, float), np.array(again, float), atol=0.02, err_msg=UPDATE)


def judged(name, text, verdict, source="the paper's table"):
    return Judged(name, text, source, "the difference", Finding(verdict, 0.1, 0.05, 0.15, 3, "seeds"))


def page(chapter, profile, *claims):
    return Page(chapter, profile, 6, 6, (0, 1, 2), (("resnet9", "cifar10"),), claims)


def test_the_landing_page_has_eight_findings_and_each_speaks_by_its_strongest_runs():
    placed = {claim.front: claim for room in rooms().values() for claim in room.claims if claim.front}
    assert all(claim.effect and claim.front in range(1, 9) for claim in placed.values())
    one, two = placed[1], placed[2]
    found = {("quick", "accuracy"): page("accuracy", "quick", judged(one.name, "on digits", "supported")),
             ("laptop", "accuracy"): page("accuracy", "laptop", judged(one.name, "on a laptop", "contradicted"),
                                          judged(two.name, "never run", "not run"))}
    (room, claim, shown, each), = front.first(found)
    assert (room.name, claim, shown.profile, each.text) == ("accuracy", one, "laptop", "on a laptop")
    text = front.table(found, linked=True)
    assert "on a laptop: **contradicted**" in text and "[Accuracy](accuracy)" in text
    assert "ResNet9 on CIFAR10, 3 seeds" in text and "0.1 [0.05, 0.15] (3 seeds)" in text and "digits" not in text


def test_what_the_findings_mean_depends_on_their_verdicts():
    parts = tuple(Finding("supported", value, value, value, 3, "seeds", "points") for value in (0.12, 0.15))

    def said(uniform: str, accuracy: str) -> str:
        claims = (dataclasses.replace(judged("accuracy.former_uniform", "u", uniform),
                                      finding=Finding(uniform, 1.0, n=2, parts=parts)),
                  judged("accuracy.former_accuracy", "a", accuracy))
        return front.meaning({("laptop", "accuracy"): page("accuracy", "laptop", *claims)})

    assert "12 percentage points or more" in said("supported", "undecided") and "no difference" in said("supported", "undecided")
    assert said("contradicted", "supported") == ""


def test_a_cover_tells_each_claim_once_by_its_verdict():
    room = rooms()["relu_features"]
    theory = next(claim for claim in room.claims if claim.theory)
    runs = next(claim for claim in room.claims if not claim.theory)
    found = {("quick", room.name): page(room.name, "quick", judged(theory.name, "a theorem", "proved"),
                                        judged(runs.name, "on digits", "supported")),
             ("laptop", room.name): page(room.name, "laptop", judged(runs.name, "on images", "contradicted"))}
    lines = covers.found(room, found)
    assert lines == ["- **Contradicted** (ResNet9 on CIFAR10, 3 seeds): on images.", "- **Proved** (computed, without runs): a theorem."]
    assert covers.found(room, {}) == [] and "In short" not in covers.cover(room, {})


def test_a_cover_goes_under_the_heading_and_takes_the_files_along(tmp_path):
    room, cell = rooms()["compactness"], {"cell_type": "markdown", "id": "x", "metadata": {}, "source": "# Title\n\nWords."}
    figure = {"cell_type": "code", "source": "draw()", "outputs": [{"data": {"image/png": "iVBOR", drawn.MIME: "1,2"}}]}
    executed, source = tmp_path / "compactness.ipynb", tmp_path / "source"
    source.mkdir()
    for path in (executed, source / "compactness.ipynb"):
        path.write_text(json.dumps({"cells": [cell, figure], "metadata": {}}))
    covers.put(source, executed, room, {})
    cells = json.loads((source / "compactness.ipynb").read_text())["cells"]
    assert [c["source"].split("\n")[0] for c in cells][:3:2] == ["# Title", "Words."]
    figure["outputs"][0]["data"].pop(drawn.MIME)  # the figure's numbers have a file of their own
    assert json.loads((source / "downloads" / "compactness.ipynb").read_text())["cells"] == [cell, figure]
    assert (source / "downloads" / "compactness.py").read_text() == (REPOSITORY / "book" / "compactness.py").read_text()
    covers.put(source, tmp_path / "missing.ipynb", rooms()["minima"], {})  # no page yet: nothing happens


@pytest.mark.parametrize("room", rooms().values(), ids=rooms())
def test_a_short_title_fits_the_sidebar(room):
    assert 3 <= len(room.short) <= 24


def test_the_contents_number_the_chapters_through():
    numbers = [int(n) for n in re.findall(r"^(\d+) .+ <\w+>$", pages.contents(), re.M)]
    assert numbers == list(range(1, len(rooms()) + 1))
    assert pages.cite().count("@") >= 2 and "li2025bce" in pages.cite()
