"""Rules that turn numbers into verdicts. Each says what would contradict it, and none gives a verdict from a number
that is missing.

An experiment's verdict is one of

    supported, contradicted   the rule of the claim decides, on at least three seeds
    equivalent                the difference is smaller than a margin that the claim fixed beforehand
    consistent                the rule is met, on fewer than three seeds
    undecided                 the interval holds zero, or there is no interval
    still moving              the claim is about the end of training, and too few runs have levelled off
    not run                   fewer than half of the planned runs exist

A theorem's, where a proof stands on its page and a numerical check beside it, is "proved", "refuted" or "open". All
rules are ours.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

SUPPORTED, CONTRADICTED, EQUIVALENT, CONSISTENT = "supported", "contradicted", "equivalent", "consistent"
UNDECIDED, STILL_MOVING, NOT_RUN = "undecided", "still moving", "not run"
PROVED, REFUTED, OPEN = "proved", "refuted", "open"
VERDICTS = (
    SUPPORTED, CONTRADICTED, EQUIVALENT, CONSISTENT, UNDECIDED, STILL_MOVING, NOT_RUN, PROVED, REFUTED, OPEN,
)  # fmt: skip
ENOUGH_SEEDS = 3  # below, a claim is at most consistent with the runs
ENOUGH_RUNS = 0.5  # of those that a claim plans: below, it is not judged
LEVEL = 0.05  # of error: of 95 % intervals, and of a family of tests after Holm's adjustment


@dataclass(frozen=True)
class Finding:
    """What was found about one claim: numbers, the rule that judged them, and the verdict.

    value: the statistic, with its interval [low, high] where it has one (nan: none), in `unit`; n: how many of `of` it
    is over ("runs", "pairs", "seeds", "settings"). rule: in words, with each limit and its reason, and so what would
    contradict it. label: which part of a family this is. p: of the test behind the verdict, or nan; adjusted: the
    verdict after Holm's adjustment over the family, or "". detail: one sentence with the numbers. control: what the
    other loss scores on the same test. parts: the family, for a finding that sums one up. runs: keys of the runs that
    were used; seeds: how many they have; planned: how many runs the claim plans (0: not known).
    """

    verdict: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    of: str = "runs"
    unit: str = ""
    rule: str = ""
    label: str = ""
    p: float = math.nan
    adjusted: str = ""
    detail: str = ""
    control: "Finding | None" = None
    parts: tuple["Finding", ...] = ()
    runs: tuple[str, ...] = ()
    seeds: int = 0
    planned: int = 0

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"there is no verdict {self.verdict!r}; choose one of {', '.join(VERDICTS)}.")
        if math.isnan(self.value) and self.verdict in (
            SUPPORTED,
            CONTRADICTED,
            EQUIVALENT,
            CONSISTENT,
            PROVED,
            REFUTED,
        ):
            raise ValueError(f"a missing number cannot give the verdict {self.verdict!r}.")

    def but(self, **changes) -> "Finding":
        """The same finding with some fields changed: a label, a control, a detail."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict:
        """Plain data for JSON, nan as None; `from_dict` undoes it."""
        plain = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                value = None if math.isnan(value) else ("inf" if value > 0 else "-inf")
            elif field.name == "control":
                value = value.to_dict() if value else None
            elif field.name == "parts":
                value = [part.to_dict() for part in value]
            plain[field.name] = list(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls, values: dict) -> "Finding":
        """The inverse of `to_dict`. Raises ValueError for fields that do not belong, TypeError for values that
        cannot."""
        names = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(values) - names:
            raise ValueError(f"a finding has no {', '.join(sorted(unknown))}.")
        read = dict(values)
        for name in ("value", "low", "high", "p"):
            if name in read:
                read[name] = math.nan if read[name] is None else float(read[name])
        read["control"] = cls.from_dict(read["control"]) if read.get("control") else None
        read["parts"] = tuple(cls.from_dict(part) for part in read.get("parts", ()))
        read["runs"] = tuple(read.get("runs", ()))
        return cls(**read)


def not_run(of: str = "runs", rule: str = "") -> Finding:
    """There is nothing to judge: no runs, or none that measured what is asked for."""
    return Finding(NOT_RUN, of=of, rule=rule)


def sign(
    estimate,
    direction: int = 1,
    *,
    unit: str = "",
    of: str = "seeds",
    p: float = math.nan,
    label: str = "",
    margin: float = 0.0,
    equivalence: float = math.nan,
) -> Finding:
    """Does the interval of a difference lie on the claimed side of zero?

    estimate: a `stats.Estimate` or None; direction: 1 if the claim is "above zero", -1 if "below". Contradicted: the
    whole interval lies on the other side. Equivalent: neither, and two one-sided tests place the difference within
    +-margin (equivalence: their p, `stats.equivalence_p`). Undecided: none of these, or one seed, which has no
    interval.
    """
    side, other = ("above", "below") if direction > 0 else ("below", "above")
    rule = f"supported if the 95 % interval lies {side} zero, contradicted if it lies {other} zero"
    if margin:
        rule += f", equivalent if two one-sided tests bound the difference by ±{margin:g} (p < {LEVEL:g})"
    if estimate is None or math.isnan(estimate.mean):
        return not_run(of, rule).but(label=label)
    low, high = sorted((direction * estimate.low, direction * estimate.high))
    verdict = SUPPORTED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED
    if verdict == UNDECIDED and margin and equivalence < LEVEL:
        verdict = EQUIVALENT
    return Finding(verdict, estimate.mean, estimate.low, estimate.high, estimate.n, of, unit, rule, label, p)


def at_most(
    value: float, limit: float, because: str, *, n: int, of: str = "runs", unit: str = "", label: str = ""
) -> Finding:
    """Is a number at most `limit`? because: the reason for the limit, which becomes part of the rule. Contradicted: it
    is larger."""
    rule = f"supported if at most {limit:g}, contradicted if larger ({because})"
    return _decided(value <= limit, value, n, of, unit, rule, label)


def at_least(
    value: float, limit: float, because: str, *, n: int, of: str = "runs", unit: str = "", label: str = ""
) -> Finding:
    """Is a number at least `limit`? As `at_most`, the other way round."""
    rule = f"supported if at least {limit:g}, contradicted if smaller ({because})"
    return _decided(value >= limit, value, n, of, unit, rule, label)


def _decided(holds: bool, value: float, n: int, of: str, unit: str, rule: str, label: str) -> Finding:
    if n == 0 or math.isnan(value):
        return not_run(of, rule).but(label=label)
    verdict = SUPPORTED if holds else CONTRADICTED
    return Finding(verdict, float(value), n=n, of=of, unit=unit, rule=rule, label=label)


def every(holds: int, n: int, what: str, *, of: str = "runs", label: str = "") -> Finding:
    """A claim about every case, true in `holds` of n: one case that fails contradicts it. what: the case, "the bias
    lies between"."""
    rule = f"supported if {what} in all {of}, contradicted by one counterexample"
    if n == 0:
        return not_run(of, rule).but(label=label)
    return Finding(
        SUPPORTED if holds == n else CONTRADICTED,
        holds / n,
        n=n,
        of=of,
        unit="share",
        rule=rule,
        label=label,
        detail=f"{holds} of {n} {of}",
    )


def most(wins: int, losses: int, p: float, what: str, *, of: str = "pairs", label: str = "") -> Finding:
    """A claim about most cases, by the exact sign test: wins against losses (ties left out), its two-sided p.
    Contradicted: more losses than wins, and not by chance."""
    rule = (
        f"supported if {what} in most of the {of}, contradicted if in a minority; both require a significant "
        f"sign test (p < {LEVEL:g})"
    )
    if wins + losses == 0 or math.isnan(p):
        return not_run(of, rule).but(label=label)
    verdict = UNDECIDED if p >= LEVEL or wins == losses else SUPPORTED if wins > losses else CONTRADICTED
    return Finding(
        verdict,
        wins / (wins + losses),
        n=wins + losses,
        of=of,
        unit="share",
        rule=rule,
        label=label,
        p=p,
        detail=f"{wins} of {wins + losses} {of}",
    )


def family(
    parts: Sequence[Finding],
    holm: Callable[[Sequence[float]], Sequence[float]] | None,
    *,
    of: str = "settings",
    share: float = 1.0,
) -> Finding:
    """One finding for a claim about a family of tests, each part with its verdict after Holm's adjustment beside it.

    parts with a p-value are adjusted together by `holm` (`stats.holm`); the others keep their verdict. None: no part
    is a test against chance, and nothing is adjusted. Supported: no part is contradicted, and at least `share` of them
    is supported, after adjustment. Contradicted: some part is. Equivalent: all parts are. Otherwise undecided; not run
    if no part was.
    """
    if holm:
        adjusted = holm([part.p for part in parts])
        judged = tuple(_after(part, p) for part, p in zip(parts, adjusted, strict=True))
    else:
        judged = tuple(parts)
    over, then = (" after Holm's adjustment", " after adjustment") if holm else ("", "")
    rule = f"supported if all {of} are supported{over}, contradicted if any is contradicted{then}"
    if share < 1:
        rule = (
            f"supported if at least {share:.0%} of the {of} are supported{over} and none is contradicted, contradicted "
            f"if any is contradicted{then}"
        )
    count = [part for part in judged if part.verdict != NOT_RUN]
    if not count:
        return not_run(of, rule).but(parts=judged)
    verdicts = [part.adjusted or part.verdict for part in count]
    for_it, against = verdicts.count(SUPPORTED), verdicts.count(CONTRADICTED)
    verdict = (
        CONTRADICTED
        if against
        else SUPPORTED
        if for_it >= share * len(count) and for_it
        else EQUIVALENT
        if set(verdicts) == {EQUIVALENT}
        else UNDECIDED
    )
    same = verdicts.count(EQUIVALENT)
    return Finding(
        verdict,
        for_it / len(count),
        n=len(count),
        of=of,
        unit="share",
        rule=rule,
        parts=judged,
        detail=f"{against} of the {of} {'is' if against == 1 else 'are'} contradicted{then}"
        + (f", {same} show equivalence" if same else ""),
    )


def _after(part: Finding, p: float) -> Finding:
    if math.isnan(part.p) or part.verdict in (NOT_RUN, UNDECIDED, EQUIVALENT):
        return part.but(adjusted=part.verdict)
    return part.but(adjusted=part.verdict if p < LEVEL else UNDECIDED)


def limited(finding: Finding, seeds: int, seen: int, planned: int, settled: int | None = None) -> Finding:
    """The finding with its verdict limited by the evidence: the verdict that the rule of a claim gives, lowered where
    few runs exist.

    seeds, seen, planned: how many seeds and runs were compared, and how many runs the claim plans; settled: how many of
    those runs have levelled off, for a claim about the end of training. Not run: fewer than half of the planned runs.
    Still moving: fewer than half of the runs have levelled off. Below three seeds supported becomes consistent, and so
    does equivalent; contradicted becomes undecided unless three cases or more, of three runs or more, were compared:
    then a counterexample does not hang on one run. Its parts and its control are lowered in the same way.
    """
    finding = finding.but(seeds=seeds, planned=planned)
    if finding.verdict == NOT_RUN or seen < ENOUGH_RUNS * planned:
        return finding.but(verdict=NOT_RUN, value=math.nan, low=math.nan, high=math.nan, control=None, parts=())

    def lowered(verdict: str, n: int) -> str:
        if verdict in ("", NOT_RUN):
            return verdict
        if settled is not None and settled < ENOUGH_RUNS * seen:
            return STILL_MOVING
        if seeds < ENOUGH_SEEDS and verdict in (SUPPORTED, EQUIVALENT):
            return CONSISTENT
        if seeds < ENOUGH_SEEDS and verdict == CONTRADICTED and min(n, seen) < ENOUGH_SEEDS:
            return UNDECIDED
        return verdict

    def whole(part: Finding) -> Finding:
        return part.but(
            verdict=lowered(part.verdict, part.n),
            adjusted=lowered(part.adjusted, part.n),
            parts=tuple(map(whole, part.parts)),
            control=part.control and whole(part.control),
        )

    return whole(finding)


def check(
    residual: float, tolerance: float, because: str, *, n: int, of: str = "settings", unit: str = "residual"
) -> Finding:
    """A theorem whose proof stands on its page, and its numerical check: refuted if the residual exceeds the
    tolerance."""
    rule = f"proved in this book; refuted if the estimate exceeds {tolerance:g} ({because})"
    if n == 0 or math.isnan(residual):
        return Finding(OPEN, of=of, rule=rule)
    return Finding(PROVED if residual <= tolerance else REFUTED, float(residual), n=n, of=of, unit=unit, rule=rule)


def shown(holds: int, n: int, what: str, *, of: str = "settings") -> Finding:
    """A statement without a proof, looked for in n cases: refuted by a single counterexample, open as long as there is
    none."""
    rule = f"no proof; refuted unless {what} in all {of}"
    if n == 0:
        return Finding(OPEN, of=of, rule=rule)
    return Finding(
        OPEN if holds == n else REFUTED, holds / n, n=n, of=of, unit="share", rule=rule, detail=f"{holds} of {n} {of}"
    )


def summary(verdicts: Iterable[str]) -> str:
    """How many of each verdict: "3 supported, 1 undecided", in the order of VERDICTS."""
    verdicts = list(verdicts)
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts) or "none"
