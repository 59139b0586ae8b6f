"""The words of the pages: no number in a sentence that could have been computed, nothing that a test of findings cannot reach."""

import re

import jupytext
import pytest

from bcebook.chapters.registry import rooms
from bcebook.paths import REPOSITORY

BOOK = REPOSITORY / "book"
NOT_WORDS = [  # what is no sentence: equations, code, roles with their targets, links' targets, labels, directives
    r"\$\$.*?\$\$", r"(?<!\$)\$[^$]+?\$", r"`[^`]*`", r"\{[\w:]+\}", r"\]\([^)]*\)", r"^\(.*?\)=$", r"^:::.*$", r"https?://\S+",
]
ALLOWED = {  # a number that may stand in a sentence, and why
    r"ResNet\d+": "the name of a network",
    r"DenseNet\d+": "the name of a network",
    r"EfficientNet-Lite0": "the name of a network",
    r"CIFAR100-LT|CIFAR100|CIFAR10": "the name of a data set",
    r"ImageNet-1k": "the name of a data set",
    r"8x8": "the size of the digits' images, part of their name",
    r"NC[123]": "the name of a measure",
    r"DA[12]": "the name of an augmentation",
    r"arXiv \d{4}\.\d{5}": "the identifier of a paper",
    r"95 %": "the level of every interval in the book, a convention and no result",
}


def sentences(text: str) -> str:
    """A Markdown text without what is no sentence, and without the names that carry numbers."""
    for pattern in NOT_WORDS:
        text = re.sub(pattern, " ", text, flags=re.S if "$" in pattern else re.M)
    for name in ALLOWED:
        text = re.sub(name, " ", text)
    return text


def typed_numbers(text: str) -> list[str]:
    """Each digit that is left, with what stands around it."""
    left = sentences(text)
    return [left[max(0, m.start() - 30):m.end() + 20].replace("\n", " ") for m in re.finditer(r"\d[\d.,]*", left)]


@pytest.mark.parametrize("name", rooms())
def test_no_number_is_typed_in_a_chapter(name):
    for cell in jupytext.read(BOOK / f"{name}.py").cells:
        texts = [cell.source] if cell.cell_type == "markdown" else []
        texts += [text for part in cell.metadata.get("mystnb", {}).values() for text in part.values() if isinstance(text, str)
                  and not text.startswith("fig-")]
        for text in texts:
            assert typed_numbers(text) == [], name


def test_the_rule_finds_what_it_is_there_for():
    for wrong in ("in 1,200 steps", "ten times, or 10", "at 5 %", "the paper has 93.2", "| 3 | 4 |", "2 of 4 runs"):
        assert typed_numbers(wrong), wrong
    for right in ("NC2 of ResNet18 on CIFAR10 is $3.5$", "see {eq}`eq-3`", "$$\nx = 2\n$$ (eq-two)", "[page](a1.md)", "`lr=0.1`"):
        assert typed_numbers(right) == [], right


def test_every_reason_for_an_exception_is_used():
    """An exception that no page needs any more is deleted."""
    every = "\n".join(path.read_text() for path in BOOK.glob("*.py")) + (BOOK / "how_to_read.md").read_text()
    assert [name for name in ALLOWED if not re.search(name, every)] == []


VERDICT = re.compile(r"\b(is|are|was|were) (supported|contradicted|refuted|confirmed)\b|: (supported|contradicted|refuted)\b", re.I)


@pytest.mark.parametrize("name", rooms())
def test_no_verdict_is_typed_in_a_chapter(name):
    for cell in jupytext.read(BOOK / f"{name}.py").cells:
        if cell.cell_type == "markdown":
            assert not VERDICT.search(cell.source), VERDICT.search(cell.source)[0]
