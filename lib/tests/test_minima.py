"""The chapter on the minima: what it computes, against second ways of computing it, and what its claims can say."""

import matplotlib
import numpy as np
import pytest

from bcebook.book.notebook import Chapter
from bcebook.chapters import minima as room
from bcebook.report.predictions import paper_c
from bcebook import claims
from bcebook.report import markdown
from bcebook.science import theory
from bcebook.science.verdicts import OPEN, PROVED, REFUTED

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def judged():
    return {each.name.removeprefix("minima."): each for each in claims.judge(room.ROOM.claims)}


def test_closed_form_and_minimisation_agree_in_every_row_on_both_sides_of_the_transition():
    points = room.agreement()
    assert points[["scores", "biases", "objectives"]].max().max() < 1e-6 and points["gradient"].max() < 1e-9
    bce = points[points["loss"] == "bce"]
    beyond = bce["lambda_b"] > bce["critical"]
    assert beyond.sum() >= 5 and (~beyond).sum() >= 5 and (bce["offset"] < 0).equals(beyond)
    assert set(np.sign(points["d"] - points["K"])) == {-1, 0, 1}  # d = K - 1, K and more
    zero = points["c"] >= 1 / points["K"]
    assert zero.sum() == 4 and (points["positive"] - points["negative"] > 1e-9).equals(~zero)
    text = room.agreement_table().markdown()
    assert "nan" not in text and text.count("\n|") == len(points) + 1
    assert f"{beyond.sum()} of these {len(points)} minima" in text and "and 4 where" in text


def test_each_minimum_is_judged_once():
    points, of = room.agreement(), [("ce", True), ("bce", True), (None, False)]
    assert sum(room.disagreement(*rows).n for rows in of) == len(points)
    covered = points[points["covered"]]
    assert (covered["c"] < 1 / covered["K"]).all() and (covered["offset"] == 0).all()


def test_the_closed_forms_of_the_page():
    """The equations as printed, term by term, not through the library's variables u and v."""
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    for k, c in ((2, 0.1), (3, 0.02), (10, 1e-3), (100, 5e-4)):
        ce, bce = (theory.minimum(loss, k, c) for loss in ("ce", "bce"))
        assert ce.positive == pytest.approx((k - 1) / k * np.log(1 / c - (k - 1)))
        assert bce.positive == pytest.approx(-(k - 1) / k * (logit((k - 1) * c) + logit(c)))
        assert bce.bias == pytest.approx((logit((k - 1) * c) - (k - 1) * logit(c)) / k, abs=1e-12)
        assert bce.positive - ce.positive == pytest.approx((k - 1) / k * np.log((1 - c) / ((k - 1) * c)))


def test_both_losses_leave_the_same_errors():
    frame = room.errors_left()
    for k in (2, 10, 100):
        ce, free, decayed = (row for _, row in frame[frame["K"] == k].iterrows())
        assert [ce["loss"], free["loss"], free["lambda_b"], decayed["lambda_b"]] == ["ce", "bce", 0, 0.5]
        for row in (ce, free):
            assert [row["own"], row["other"]] == pytest.approx([k - 1, 1])
        assert [decayed["own"], decayed["other"]] == pytest.approx([1, 1] if k == 2 else [k - 2, 2])
        z = ce["positive"], ce["negative"]  # the softmax of a wrong class, written out
        assert np.exp(z[1]) / (np.exp(z[0]) + (k - 1) * np.exp(z[1])) == pytest.approx(ce["other"] * paper_c(k))
    assert "nan" not in room.errors().markdown()


def test_free_features_collapse_to_the_closed_form():
    found = room.one_feature_a_sample()
    assert found["apart"].max() < 1e-6 and found["nc1"].max() < 1e-12
    assert (found["offset"] < 0).tolist() == [False, True]  # BCE's setting lies beyond the critical lambda_b
    assert room.free_features().markdown().count("\n|") == 3


def test_nc2_of_the_classifier_sees_the_offset_and_nothing_else_does():
    table = room.collapse()
    assert (table[["nc1", "nc2_means", "nc3"]] < 1e-7).all(axis=None)
    np.testing.assert_allclose(table["nc2"], table["formula"], atol=1e-7)
    held = table["offset"] < 0
    assert held.sum() == 3 and (table["nc2"] > 0.1).equals(held) and (table["cosine"] < 0.999).equals(held)
    assert "nan" not in room.collapse_table().markdown()


def test_the_papers_condition_on_separation_is_right_and_both_answers_occur(judged):
    finding = judged["separation"].finding
    told = finding.detail.split("separates in ")[1]
    yes, no = (int(part.replace(",", "")) for part in told.split(", not in "))
    assert finding.value == 0 and finding.n == yes + no == 6000 and 1000 < yes < 5000


def test_every_statement_is_proved_and_its_control_fails_the_same_test(judged):
    assert {name: each.finding.verdict for name, each in judged.items()} == dict.fromkeys(judged, PROVED)
    controls = {name: each.finding.control.verdict for name, each in judged.items() if each.finding.control}
    assert controls == {"collapse": REFUTED, "errors": REFUTED}
    assert "nan" not in markdown.findings(list(judged.values()))
    assert {name for name, each in judged.items() if each.of_the_paper} == {"ce", "bce", "separation"}


@pytest.mark.parametrize("column, test", [("biases", lambda: room.disagreement("bce", covered=True)),
                                          ("objectives", lambda: room.disagreement("ce", covered=True)),
                                          ("gradient", room.stationary), ("gap", room.scale)])
def test_a_wrong_number_is_found_out(monkeypatch, column, test):
    points = room.agreement()
    spoilt = points.assign(**{column: points[column] + np.where(points["loss"] == "bce", 1e-3, 2e-3)})
    monkeypatch.setattr(room, "agreement", lambda: spoilt)
    assert test().verdict == REFUTED
    monkeypatch.setattr(room, "agreement", lambda: points[:0])
    assert test().verdict == OPEN  # no minimum, no verdict


def test_a_condition_that_is_wrong_somewhere_is_found_out(monkeypatch):
    class Spoilt:
        minimum, critical_lambda_b = theory.minimum, theory.critical_lambda_b
        separates = staticmethod(lambda k, s, lambda_b: theory.separates(k, s * 1.05, lambda_b))

    monkeypatch.setattr(room, "theory", Spoilt)
    assert room.separation().verdict == REFUTED


def test_the_figure_has_every_circle_on_its_line():
    figure = room.against_c()
    for ax in figure.axes:
        for line, circles in zip([x for x in ax.lines if len(x.get_xdata()) > 2], ax.collections, strict=True):
            x, y = circles.get_offsets().data.T
            np.testing.assert_allclose(np.interp(np.log(x), np.log(line.get_xdata()), line.get_ydata()), y, atol=0.05)
    matplotlib.pyplot.close(figure)


def test_the_page_needs_no_runs_and_says_where_its_numbers_come_from(tmp_path):
    assert all(room.ROOM.configs(profile) == [] for profile in ("quick", "laptop", "paper"))
    text = Chapter(room.ROOM, data_dir=str(tmp_path)).provenance().data
    assert "none: computed from formulas" in text and "numpy" in text and str(tmp_path) not in text
