"""Every rule can come out in each way that it claims, and none gives a verdict from a number that is missing."""

import json
import math

import pytest
from scipy import stats as scipy_stats

from bcebook import claims
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.chapters.room import Room
from bcebook.report import markdown
from bcebook.claims import Claim, Judged
from bcebook.science import stats, verdicts
from bcebook.science.verdicts import Finding

NAN = math.nan


def estimate(*values):
    return stats.student_interval(values)


@pytest.mark.parametrize(("finding", "verdict"), [
    (verdicts.sign(estimate(1.0, 1.1, 0.9)), "supported"),
    (verdicts.sign(estimate(-1.0, -1.1, -0.9)), "contradicted"),
    (verdicts.sign(estimate(1.0, 1.1, 0.9), -1), "contradicted"),
    (verdicts.sign(estimate(-1.0, -1.1, -0.9), -1), "supported"),
    (verdicts.sign(estimate(-1.0, 1.1, 0.2)), "undecided"),
    (verdicts.sign(estimate(3.0)), "undecided"),  # one seed has no interval
    (verdicts.sign(None), "not run"),
    (verdicts.sign(stats.Estimate(NAN, NAN, 3, NAN, NAN)), "not run"),
    (verdicts.at_most(0.1, 0.1, "why", n=3), "supported"),
    (verdicts.at_most(0.11, 0.1, "why", n=3), "contradicted"),
    (verdicts.at_most(NAN, 0.1, "why", n=3), "not run"),
    (verdicts.at_most(0.0, 0.1, "why", n=0), "not run"),
    (verdicts.at_least(0.1, 0.1, "why", n=1), "supported"),
    (verdicts.at_least(0.09, 0.1, "why", n=1), "contradicted"),
    (verdicts.at_least(NAN, 0.1, "why", n=1), "not run"),
    (verdicts.every(4, 4, "it holds"), "supported"),
    (verdicts.every(3, 4, "it holds"), "contradicted"),
    (verdicts.every(0, 0, "it holds"), "not run"),
    (verdicts.most(20, 4, 0.001, "it holds"), "supported"),
    (verdicts.most(4, 20, 0.001, "it holds"), "contradicted"),
    (verdicts.most(13, 11, 0.8, "it holds"), "undecided"),
    (verdicts.most(0, 0, NAN, "it holds"), "not run"),
    (verdicts.check(1e-9, 1e-6, "why", n=5), "proved"),
    (verdicts.check(1e-3, 1e-6, "why", n=5), "refuted"),
    (verdicts.check(NAN, 1e-6, "why", n=5), "open"),
    (verdicts.check(0.0, 1e-6, "why", n=0), "open"),
    (verdicts.shown(5, 5, "it holds"), "open"),
    (verdicts.shown(4, 5, "it holds"), "refuted"),
    (verdicts.shown(0, 0, "it holds"), "open"),
])
def test_each_rule_can_come_out_each_way(finding, verdict):
    assert finding.verdict == verdict and finding.rule
    assert Finding.from_dict(json.loads(json.dumps(finding.to_dict(), allow_nan=False))).to_dict() == finding.to_dict()


def test_a_missing_number_cannot_be_given_a_verdict():
    for verdict in ("supported", "contradicted", "proved", "refuted"):
        with pytest.raises(ValueError, match="a missing number cannot give the verdict"):
            Finding(verdict)
    with pytest.raises(ValueError, match="there is no verdict 'true'"):
        Finding("true", 1.0)
    with pytest.raises(ValueError, match="a finding has no colour"):
        Finding.from_dict({"verdict": "open", "colour": 1})


def part(*values) -> Finding:
    return verdicts.sign(estimate(*values), p=stats.student_p(values))


def test_a_family_is_judged_after_holms_adjustment():
    clear, faint, none = part(1.0, 1.01, 0.99), part(1.0, 1.3, 0.7), part(-1.0, 2.0, 0.3)
    assert clear.verdict == faint.verdict == "supported" and none.verdict == "undecided" and 0.025 < faint.p < 0.05
    both = verdicts.family([clear, faint], stats.holm)  # two tests: the second p-value is not doubled, so it still decides
    assert both.verdict == "supported" and [p.adjusted for p in both.parts] == ["supported"] * 2 and both.value == 1
    many = verdicts.family([faint, faint, faint], stats.holm)
    assert many.verdict == "undecided" and {p.verdict for p in many.parts} == {"supported"} and {p.adjusted for p in many.parts} == {"undecided"}
    against = verdicts.family([clear, part(-1.0, -1.01, -0.99), none], stats.holm)
    assert against.verdict == "contradicted" and against.parts[1].adjusted == "contradicted" and against.parts[2].adjusted == "undecided"
    missing = verdicts.sign(None)
    assert verdicts.family([missing, missing], stats.holm).verdict == "not run"
    assert verdicts.family([clear, missing], stats.holm).n == 1
    assert verdicts.family([], stats.holm).verdict == "not run"


def test_findings_are_written_for_a_reader_and_read_back():
    control = verdicts.at_most(5.0, 0.1, "why", n=4, label="the same test on BCE")
    finding = verdicts.at_most(0.002, 0.1, "a hundredth of the range", n=16).but(control=control)
    claim = Claim("a.b", "CE's biases stay", "the paper's figures", "the largest move", lambda runs: finding)
    judged, = claims.judge((claim,), [])
    text = markdown.findings([judged])
    assert "**CE's biases stay: supported.**" in text and "0.002 (16 runs)" in text and "5 (4 runs), contradicted" in text
    assert "a hundredth of the range" in text and "nan" not in text
    assert Judged.from_dict(json.loads(json.dumps(judged.to_dict()))).to_dict() == judged.to_dict()
    nothing, = claims.judge((Claim("a.c", "X", "ours", "s", lambda runs: verdicts.sign(None)),), [])
    assert "**X: not run.**" in markdown.findings([nothing]) and "–" not in markdown.findings([nothing])
    assert claims.judge((claim,), None) == []  # without runs only theory is judged
    theory, = claims.judge((Claim("a.d", "T", "ours", "s", lambda: verdicts.check(1e-9, 1e-6, "w", n=3), theory=True),), None)
    assert "T: proved" in markdown.findings([theory]) and "$1 \\cdot 10^{-9}$" in markdown.findings([theory])
    family = verdicts.family([part(1.0, 1.01, 0.99).but(label="one", unit="points"), verdicts.sign(None, label="two")], stats.holm)
    shown = markdown.told(Judged("a.e", "F", "ours", "s", family))
    assert "| one | +100.0 [+97.5, +102.5] points (3 seeds) | supported | supported |" in shown and "| two | – | not run |" in shown


def test_numbers_are_written_with_a_true_minus_and_no_negative_zero():
    assert [markdown.number(x) for x in (-1.234, -0.001, NAN, math.inf, 12345.6)] == ["−1.23", "0.00", "–", "∞", "12,345.60"]
    assert markdown.percent(0.0123, 1, True) == "+1.2" and markdown.percent(None) == "–"
    assert markdown.power(3.2e-9) == "$3 \\cdot 10^{-9}$" and markdown.power(0) == "0"
    assert markdown.interval(0.5, 0.4, 0.6, markdown.percent, digits=0) == "50 [40, 60]" and markdown.interval(0.5, NAN, NAN) == "0.50"
    assert markdown.listed(["a"]) == "a" and markdown.listed("abc") == "a, b and c" and markdown.listed([]) == "none"


# ---- equivalence, and how far the evidence reaches -------------------------------------------------------------------

def test_equivalence_is_two_one_sided_tests():
    for values, margin in (((0.1, -0.1, 0.05), 0.5), ((0.004, 0.001, 0.003, -0.001), 0.005), ((0.6, 0.7, 0.5), 0.5)):
        above = scipy_stats.ttest_1samp(values, -margin, alternative="greater").pvalue
        below = scipy_stats.ttest_1samp(values, margin, alternative="less").pvalue
        assert stats.equivalence_p(values, margin) == pytest.approx(max(above, below))
    assert math.isnan(stats.equivalence_p([0.1], 0.5)) and stats.equivalence_p([0.1, 0.1], 0.5) == 0.0
    with pytest.raises(ValueError, match="margin is 0"):
        stats.equivalence_p([0.1, 0.2], 0)


def within(margin, *values) -> Finding:
    p = stats.equivalence_p(values, margin)
    return verdicts.sign(estimate(*values), p=stats.student_p(values), margin=margin, equivalence=p)


def test_a_difference_is_equivalent_only_within_a_margin_that_the_claim_sets():
    assert within(0.5, 0.1, -0.1, 0.05).verdict == "equivalent" and "by ±0.5" in within(0.5, 0.1, -0.1).rule
    assert within(0.05, 0.1, -0.1, 0.05).verdict == "undecided"  # the same values, a narrower margin
    assert within(0.5, 0.1, 0.11, 0.09).verdict == "supported"  # a small difference that is known is one
    assert within(0.5, 0.1).verdict == "undecided" and part(0.1, -0.1, 0.05).verdict == "undecided"
    alike, ahead = within(0.5, 0.1, -0.1, 0.05), within(0.5, 1.0, 1.01, 0.99)
    assert verdicts.family([alike, alike], stats.holm).verdict == "equivalent"
    assert verdicts.family([alike, ahead], stats.holm).verdict == "undecided"


def test_a_family_may_ask_for_a_share():
    ahead, behind, open_ = part(1.0, 1.01, 0.99), part(-1.0, -1.01, -0.99), part(-1.0, 2.0, 0.3)
    for parts, share, verdict in (([ahead, open_], 1.0, "undecided"), ([ahead, open_], 0.5, "supported"),
                                  ([ahead, ahead, behind], 0.5, "contradicted"), ([open_, open_], 0.5, "undecided"),
                                  ([ahead, open_, open_], 0.5, "undecided")):
        finding = verdicts.family(parts, stats.holm, share=share)
        assert finding.verdict == verdict and ("at least 50%" in finding.rule) == (share < 1)


@pytest.mark.parametrize(("given", "n", "seeds", "seen", "planned", "settled", "verdict"), [
    ("supported", 3, 3, 6, 6, None, "supported"),
    ("supported", 3, 3, 6, 12, None, "supported"),  # half of the planned runs
    ("supported", 3, 3, 5, 12, None, "not run"),
    ("contradicted", 3, 3, 5, 12, 5, "not run"),
    ("contradicted", 3, 3, 6, 6, 2, "still moving"),
    ("undecided", 3, 3, 6, 6, 0, "still moving"),
    ("contradicted", 3, 3, 6, 6, 3, "contradicted"),
    ("supported", 8, 2, 6, 6, None, "consistent"),
    ("equivalent", 8, 2, 6, 6, None, "consistent"),
    ("contradicted", 2, 2, 6, 6, None, "undecided"),
    ("contradicted", 3, 1, 6, 6, None, "contradicted"),  # three cases
    ("contradicted", 8, 1, 2, 2, None, "undecided"),  # eight epochs of two runs hang on these two
    ("undecided", 1, 1, 2, 2, None, "undecided"),
    ("not run", 0, 3, 6, 6, 6, "not run"),
])  # fmt: skip
def test_a_verdict_goes_as_far_as_its_evidence(given, n, seeds, seen, planned, settled, verdict):
    finding = Finding(given, math.nan if given == "not run" else 1.0, n=n)
    finding = finding.but(parts=(finding,), control=finding)
    found = verdicts.limited(finding, seeds, seen, planned, settled)
    assert found.verdict == verdict and (found.seeds, found.planned) == (seeds, planned)
    below = (found.control, *found.parts) if verdict != "not run" else ()
    assert {each.verdict for each in below} <= {verdict} and bool(below) == (verdict != "not run")
    assert math.isnan(found.value) == (verdict == "not run")


def planted(config, settled=True):
    from bcebook.runs.store import Run

    loss = [1.0] * config.epochs + [1.0 if settled else 0.5]
    return Run(config, {"epoch": list(range(config.epochs + 1)), "train_loss": loss}, {}, {}, {}, {})


def all_of(runs) -> Finding:
    return verdicts.every(len(runs), len(runs), "it holds")


def test_a_claim_that_compares_a_part_is_covered_by_that_part(small):
    planned = [small(loss=loss, seed=seed) for loss in ("ce", "bce") for seed in range(4)]
    runs = [planted(config) for config in planned if config.loss == "bce"][:3]
    whole, part_ = Claim("a.b", "W", "ours", "s", all_of), Claim(
        "a.c", "P", "ours", "s", all_of, compares=lambda config: config.loss == "bce")
    found = [each.finding for each in claims.judge([whole, part_], runs, planned)]
    assert [(each.verdict, len(each.runs), each.planned) for each in found] == [("not run", 3, 8), ("supported", 3, 4)]
    texts = [markdown.told(each) for each in claims.judge([whole, part_], runs, planned)]
    assert "W: not run (3 of 8)." in texts[0] and "fewer than half of the planned runs exist" in texts[0]
    assert "P: supported." in texts[1] and "3 of 4 planned runs, 3 seeds" in texts[1]
    nothing, = claims.judge([Claim("a.d", "N", "ours", "s", lambda runs: verdicts.not_run())], runs, planned[4:])
    assert "N: not run (3 of 4)." in markdown.told(nothing) and "allow no comparison" in markdown.told(nothing)


def test_a_claim_about_the_end_counts_runs_that_have_levelled_off(small):
    planned = [small(epochs=10, seed=seed) for seed in range(4)]
    for moving, verdict, used in ((0, "supported", 4), (1, "supported", 3), (3, "still moving", 1), (4, "still moving", 4)):
        runs = [planted(config, settled=config.seed >= moving) for config in planned]
        of = {end: claims.judge([Claim("a.b", "E", "ours", "s", all_of, end=end)], runs, planned)[0] for end in (True, False)}
        assert (of[True].finding.verdict, of[True].finding.n) == (verdict, used) and of[False].finding.verdict == "supported"
    assert "levelled off" in markdown.told(of[True])
    without, = claims.judge([Claim("a.b", "E", "ours", "s", all_of, end=True)], runs)  # the rule alone
    assert without.finding.verdict == "supported"


def test_what_a_claim_of_a_room_compares_is_planned_somewhere():
    for room in (room for room in rooms().values() if isinstance(room, Room) and room.runs):
        planned = [config for profile in PROFILES for config in room.configs(profile)]
        for claim in room.claims:
            if claim.compares:
                chosen = sum(bool(claim.compares(config)) for config in planned)
                assert 0 < chosen < len(planned), claim.name


def test_the_landing_page_has_a_place_for_each_claim_that_asks_for_one():
    shown = [claim for room in rooms().values() for claim in room.claims if claim.front]
    places = [claim.front for claim in shown]
    assert len(set(places)) == len(places) and set(places) <= set(range(1, 9)) and all(c.effect for c in shown)
