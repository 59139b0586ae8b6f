"""A table of a page: a DataFrame with raw numbers, and how each column is written. The same frame is the CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bcebook.report import markdown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """How one column of a frame is shown. head: its title, Markdown; write: a cell's value -> text."""

    head: str
    write: Callable[[object], str] = str


@dataclass(frozen=True)
class Table:
    """frame: raw numbers. columns: those that are shown, in order, by their name in the frame. notes: computed
    sentences that stand below it. In a notebook a table shows itself."""

    frame: pd.DataFrame
    columns: dict[str, Column]
    notes: tuple[str, ...] = field(default=())

    def markdown(self) -> str:
        rows = ([column.write(row[name]) for name, column in self.columns.items()] for _, row in self.frame.iterrows())
        text = markdown.table([column.head for column in self.columns.values()], rows)
        return (
            "\n\n".join([text, *self.notes])
            if len(self.frame)
            else "\n\n".join(["There is nothing to show here yet.", *self.notes])
        )

    def csv(self) -> str:
        """The raw numbers of the shown columns."""
        return self.frame[list(self.columns)].to_csv(index=False)

    def _repr_markdown_(self) -> str:
        return self.markdown()


def fixed(head: str, digits: int = 2, sign: bool = False) -> Column:
    """A column of plain numbers."""
    return Column(head, lambda x: markdown.number(x, digits, sign))


def percents(head: str, digits: int = 1, sign: bool = False) -> Column:
    """A column of fractions, written as percent."""
    return Column(head, lambda x: markdown.percent(x, digits, sign))


def significant(head: str, digits: int = 3) -> Column:
    """A column of numbers to so many significant digits."""
    return Column(head, lambda x: markdown.significant(x, digits))


def powers(head: str) -> Column:
    """A column of small numbers, as powers of ten."""
    return Column(head, markdown.power)


def estimates(head: str, digits: int = 1, sign: bool = True) -> Column:
    """A column of `stats.Estimate`s of fractions: percentage points with their interval."""
    return Column(head, lambda e: markdown.interval(e.mean, e.low, e.high, markdown.percent, digits=digits, sign=sign))


def means(head: str, digits: int = 1) -> Column:
    """A column of `stats.Estimate`s of fractions: percent, mean ± standard deviation over seeds."""
    return Column(
        head, lambda e: markdown.percent(e.mean, digits) + (f" ± {markdown.percent(e.std, digits)}" if e.n > 1 else "")
    )
