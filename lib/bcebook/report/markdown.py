"""The only writer of Markdown: numbers, tables and findings as a page shows them."""

import math
from collections.abc import Callable, Iterable

from bcebook import names
from bcebook.claims import Judged
from bcebook.science.verdicts import CONSISTENT, ENOUGH_RUNS, NOT_RUN, STILL_MOVING, Finding

MINUS, DASH = "−", "–"


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """A number with a true minus sign, none in front of a zero, and a dash for what is not known."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{round(float(value), digits) + 0.0:{'+' if sign else ''},.{digits}f}"
    return text.replace("-", MINUS)


def percent(value: float, digits: int = 1, sign: bool = False) -> str:
    """A fraction as percent, without the sign "%"; a dash for what is not known."""
    return DASH if value is None or math.isnan(value) else number(100 * value, digits, sign)


def power(value: float) -> str:
    """A small number as LaTeX, which does not break across lines: "$3 \\cdot 10^{-9}$"."""
    if value is None or not math.isfinite(value):
        return number(value)
    digit, exponent = f"{value:.0e}".split("e")
    return f"${digit} \\cdot 10^{{{int(exponent)}}}$" if value else "0"


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits; a dash for what is not known."""
    return (
        DASH
        if value is None or math.isnan(value)
        else f"{value:.{digits}g}".replace("-", MINUS).replace(f"e{MINUS}", "e-")
    )


def interval(value: float, low: float, high: float, write: Callable[..., str] = number, **how) -> str:
    """A value with its interval, "+1.2 [+0.4, +2.0]", or alone where there is none."""
    text = write(value, **how)
    return text if math.isnan(low) else f"{text} [{write(low, **how)}, {write(high, **how)}]"


def listed(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c", or "none"."""
    *first, last = list(words) or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def counted(n: int, what: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def evidence(networks: Iterable[tuple[str, str]], seeds: int) -> str:
    """Networks with their data sets, and how many seeds: "ResNet9 on CIFAR10, 3 seeds"."""
    return f"{listed(names.network(*pair) for pair in networks)}, {counted(seeds, 'seed')}"


def table(head: list[str], rows: Iterable[list]) -> str:
    """The lines of a Markdown table, joined; cells are texts or plain values."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in [head, rule, *rows])


# How a finding's value is written, by its unit.
UNITS: dict[str, Callable[[float], str]] = {
    "": lambda x: significant(x, 3),
    "points": lambda x: percent(x, 1, sign=True),  # a difference of fractions, in percentage points
    "percent": lambda x: percent(x, 1),
    "share": lambda x: f"{percent(x, 0)} %",
    "difference": lambda x: number(x, 3, sign=True),
    "residual": power,
}


def value(finding: Finding) -> str:
    """A finding's number in its unit with its interval, and what it is over: "+8.6 [+7.8, +9.4] points (5 seeds)"."""
    if math.isnan(finding.value):
        return DASH
    write = UNITS.get(finding.unit, lambda x: significant(x, 3))
    text = interval(finding.value, finding.low, finding.high, write)
    return text + (" points" if finding.unit == "points" else "")


def over(finding: Finding) -> str:
    """What a finding is over: "5 seeds"."""
    return f"{finding.n} {finding.of if finding.n != 1 else finding.of.removesuffix('s')}" if finding.n else ""


def estimate(finding: Finding) -> str:
    """A finding's number and what it is over: "+8.6 [+7.8, +9.4] points (5 seeds)", or "16 of 16 runs"."""
    if math.isnan(finding.value):
        return DASH
    if finding.unit == "share":
        return f"{round(finding.value * finding.n)} of {finding.n} {finding.of}"
    return f"{value(finding)} ({over(finding)})"


def verdict(finding: Finding) -> str:
    """A finding's verdict, of one that has too few runs with how many exist: "not run (2 of 22)"."""
    counted_runs = f" ({len(finding.runs)} of {finding.planned})" if finding.planned else ""
    return f"{finding.verdict}{counted_runs if finding.verdict == NOT_RUN else ''}"


def told(each: Judged) -> str:
    """A judged claim as an item of a list: the claim and its verdict, the numbers, the control, the rule; a family as
    a table."""
    finding = each.finding
    lines = [f"- **{each.text}: {verdict(finding)}.**"]
    if finding.verdict != NOT_RUN:
        chance = "" if math.isnan(finding.p) else f", p = {finding.p:.2g}"
        lines.append(f"  {sentence(each.statistic).rstrip('.')}: {estimate(finding)}{chance}.{_more(finding)}")
    if finding.control and finding.control.verdict != NOT_RUN:
        control = finding.control
        lines.append(f"  *Control* ({control.label}): {estimate(control)}, {control.verdict}.{_more(control)}")
    lines.append(f"  *Rule*: {finding.rule}.{_reach(finding)}")
    lines = ["\\\n".join(lines)]  # a backslash ends a line within a paragraph
    if finding.parts:
        heads, rows = ["", "estimate [95 % interval]", "before adjustment", "after adjustment"], []
        for part in finding.parts:
            rows.append([part.label, estimate(part), part.verdict, part.adjusted or part.verdict])
        if not any(part.adjusted for part in finding.parts):  # no tests against chance: nothing was adjusted
            heads, rows = [*heads[:2], "verdict"], [row[:3] for row in rows]
        body = table(heads, rows)
        lines += ["", *(f"  {line}" for line in body.splitlines()), ""]
    return "\n".join(lines)


def _more(finding: Finding) -> str:
    """The detail of a finding as a sentence after its number, unless it says no more than the number."""
    return f" {sentence(finding.detail)}" if finding.detail and finding.detail != estimate(finding) else ""


def _reach(finding: Finding) -> str:
    """How far the evidence reaches: how many of the planned runs exist, and what that does to the verdict."""
    if not finding.planned:
        return ""
    seeds = f", {counted(finding.seeds, 'seed')}" if finding.seeds else ""
    text = f" *Evidence*: {len(finding.runs)} of {counted(finding.planned, 'planned run')}{seeds}."
    few = len(finding.runs) < ENOUGH_RUNS * finding.planned
    reason = {
        CONSISTENT: "*Consistent*: the rule is met, on fewer than three seeds.",
        STILL_MOVING: "*Still moving*: fewer than half of the runs have levelled off.",
        NOT_RUN: "*Not run*: fewer than half of the planned runs exist."
        if few
        else "*Not run*: the existing runs allow no comparison.",
    }.get(finding.verdict, "")
    return f"{text} {reason}".rstrip()


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".:!?" else ".")


def findings(judged: list[Judged]) -> str:
    """All judged claims of a chapter: a table of verdicts, and folded below it the rule and the numbers of each."""
    if not judged:
        return "This page tests no claim."
    rows = [
        [each.text, f"**{each.finding.verdict}**", "<br>".join(effects(each.finding)), _short_reach(each.finding)]
        for each in judged
    ]
    details = "\n".join(told(each) for each in judged)
    fold = ["<details><summary>", "Rules, tests and controls", "</summary>", "", details, "", "</details>"]
    return "\n".join([table(["claim", "verdict", "estimate [95 % interval]", "runs"], rows), "", *fold])


def effects(finding: Finding) -> list[str]:
    """The numbers behind a verdict: of a family of tests those of its parts, at most four, each with its label."""
    known = [part for part in finding.parts if not math.isnan(part.value)]
    if known and len(known) <= 4 and all(part.unit != "share" for part in known):
        return [f"{value(part)} ({part.label})" if part.label else value(part) for part in known]
    lines = [] if math.isnan(finding.value) else [estimate(finding)]
    if len(known) > 4 and all(part.unit != "share" for part in known):
        ordered = sorted(known, key=lambda part: part.value)
        lines.append(f"from {value(ordered[0])} to {value(ordered[-1])}")
    return lines


def _short_reach(finding: Finding) -> str:
    """How many of the planned runs a verdict stands on, and their seeds: "12 of 18, 3 seeds"."""
    if not finding.planned:
        return str(len(finding.runs)) if finding.runs else "none" if finding.verdict == NOT_RUN else "none needed"
    return f"{len(finding.runs)} of {finding.planned}, {counted(finding.seeds, 'seed')}"
