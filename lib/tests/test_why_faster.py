"""The chapter on the speed of collapse: what it computes, its statements against other ways to compute them, its claims."""

import matplotlib
import numpy as np
import pytest
from bcebook import claims
from bcebook.chapters.registry import rooms
from bcebook.report.predictions import paper_c
from bcebook.science import theory, verdicts

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def page():
    return rooms()["why_faster"].definitions


@pytest.fixture(scope="module")
def judged():
    return {each.name.removeprefix("why_faster."): each.finding for each in claims.judge(rooms()["why_faster"].claims)}


def test_all_statements_are_proved_and_checked_in_many_cases(judged):
    assert {name: found.verdict for name, found in judged.items()} == dict.fromkeys(
        ("formula", "always", "slopes", "equal_scores", "options"), verdicts.PROVED)
    assert judged["formula"].n == 12 and judged["always"].n == 1800 and judged["slopes"].n == 12
    assert judged["slopes"].value < 1e-3


@pytest.mark.parametrize("name, broken", [("formula", "relaxation_rates"), ("always", "relaxation_rates"),
                                          ("slopes", "relaxation_rates"), ("equal_scores", "equivalent_decay"),
                                          ("options", "minimum")])
def test_each_claim_can_fail(name, broken, page, monkeypatch):
    real = getattr(theory, broken)

    def wrong(loss, *arguments, **options):
        found = real(loss, *arguments, **options)
        if broken == "relaxation_rates":
            return theory.RelaxationRates(found.across * (1.01 if loss == "bce" else 2.0), found.own, found.common)
        return real(loss, arguments[0], arguments[1] * 1.01) if broken == "minimum" else 1.01 * found

    monkeypatch.setattr(theory, broken, wrong)
    claim, = [each for each in page["CLAIMS"] if each.name == f"why_faster.{name}"]
    assert claim.judge().verdict == verdicts.REFUTED


def test_the_result_names_the_numbers_of_lead_8(page):
    text = page["result"]().data
    for number in ("1.25 times", "r = 2.04", "$1.63$", "7.41", "7.4 times", "3.85"):
        assert number in text
    assert "nan" not in text


def test_the_inequalities_of_the_proof():
    for m in (2, 3, 9, 99, 9999):
        x = np.geomspace(1e-6, 1e9, 200)
        c, k = 1 / (m + 1 + x), m + 1
        L, M = np.log1p(x), np.log1p(x / m)
        np.testing.assert_allclose(theory.minimum("ce", k, c).positive, m / k * L, rtol=1e-7, atol=1e-11)
        np.testing.assert_allclose(theory.minimum("bce", k, c).positive, m / k * (L + M), rtol=1e-7, atol=1e-11)
        assert np.all((m + x) * M >= x) and np.all(x >= L) and np.all(M < L)


def test_the_own_row_has_exceptions_and_they_are_small():
    share = np.linspace(0.01, 0.999, 1000)
    for k, first in ((3, 0.15), (10, 0.84), (100, 0.99)):
        ratio = np.divide(*(theory.relaxation_rates(loss, k, share / k).own for loss in ("bce", "ce")))
        assert share[ratio < 1].min() == pytest.approx(first, abs=0.01) and 0.98 < ratio.min() < 1


def test_equal_scores_are_equal_and_not_equally_fast(page):
    table = page["equal_scores"]()
    for rows in (table.iloc[:2], table.iloc[2:]):
        assert np.ptp(rows["positive"]) < 1e-9 and np.ptp(rows["negative"]) < 1e-9
        bce, ce = (rows.set_index("loss")["absolute"][loss] for loss in ("bce", "ce"))
        assert bce > 7 * ce
    weaker, stronger = table["factor"].iloc[3], table["factor"].iloc[1]
    assert (1 / weaker, stronger) == pytest.approx((61, 7.41), abs=0.05)


def test_the_table_of_options(page):
    table = page["options"]().set_index("option")
    assert table.loc["BCE, mean", "trivial"] == 32 and table.loc["BCE, mean", "merge"] == pytest.approx(100)
    assert table.loc["CE, smoothing 0.1", "merge"] == pytest.approx(1 / 0.81)
    mean = theory.minimum("bce", 10, 10 * paper_c(10))
    assert table.loc["BCE, mean", "positive"] == pytest.approx(mean.positive)
    assert table["rate"].min() > 1


def test_figures_are_drawn(page):
    rates, flow = page["rates"](), page["flow"]()
    assert len(rates.axes) == 3 and len(rates.axes[2].lines) == 3
    low, high = np.sort([line.get_ydata()[-1] for line in flow.axes[0].lines if len(line.get_ydata()) > 100])[[0, -1]]
    assert low < high / 50  # BCE's NC1 is far below CE's at last
    matplotlib.pyplot.close("all")
