"""A table of a page: a DataFrame with raw numbers, and how each column is written. The same frame is the CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bcebook import names
from bcebook.report import markdown

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

    from bcebook.science.stats import Estimate


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


# ---- tables of the chapters that are scripts: pandas' Styler


def styled(data: pd.DataFrame, columns: dict[str, tuple[str, str | Callable]], note: str = "") -> HTML:
    """A DataFrame for the page. columns: head -> (column of data, how it is written: a format such as "{:.2f}" or a
    function), in order. note: sentences below the table, with `code` as in Markdown."""
    import pandas
    from IPython.display import HTML

    if data.empty:
        return HTML("<p>There is nothing to show here yet.</p>")
    shown = pandas.DataFrame({head: data[name] for head, (name, _) in columns.items()})
    note = re.sub("`(.+?)`", r"<code>\1</code>", note)
    body = shown.style.format({head: write for head, (_, write) in columns.items()}, na_rep=markdown.DASH)
    text = body.hide(axis="index").set_uuid("").set_table_attributes('class="table"').to_html()
    box = f'<div class="pst-scrollable-table-container">{text}</div>'  # what the page's script scrolls and saves
    return HTML(box + (f"<p>{note}</p>" if note else ""))


def difference(measure: str, estimate: Estimate, digits: int = 2) -> str:
    """A difference in a measure with its interval: of accuracies in percentage points with so many digits,
    "+12.13 [+11.65, +12.60] points"; of others in their own unit."""
    fraction = names.is_fraction(measure)

    def write(value: float) -> str:
        return markdown.percent(value, digits, sign=True) if fraction else f"{value:+.3g}".replace("-", markdown.MINUS)

    return markdown.interval(estimate.mean, estimate.low, estimate.high, write) + (" points" if fraction else "")


def points(estimate: Estimate) -> str:
    """A difference of accuracies: "+12.1 [+11.7, +12.6] points"."""
    return difference("accuracy", estimate, 1)


def mean_std(measure: str) -> Callable[[Estimate], str]:
    """How a measure over the seeds is written: accuracies in percent, "92.1 ± 0.2", others as they are."""
    write = markdown.percent if names.is_fraction(measure) else markdown.significant
    return lambda e: write(e.mean) + (f" ± {write(e.std)}" if e.n > 1 else "")


def percent_std(estimate: Estimate) -> str:
    """A fraction over the seeds in percent: "92.1 ± 0.2"."""
    return mean_std("accuracy")(estimate)


def percent(fraction: float) -> str:
    """A fraction as percent: "92.1"."""
    return markdown.percent(fraction)


def signed_percent(fraction: float) -> str:
    """A difference of fractions in percentage points: "+0.4"."""
    return markdown.percent(fraction, sign=True)
