"""The chapter on the saturating bias: what it computes, against second ways, and what its claims can say."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from bcebook.book.notebook import Chapter
from bcebook.chapters import bias_saturates as room
from bcebook.chapters.recipes import LAMBDA_B
from bcebook.report.predictions import paper_c
from bcebook import claims
from bcebook.report import markdown
from bcebook.science import theory
from bcebook.science.verdicts import OPEN, PROVED, REFUTED

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def judged():
    return {each.name.removeprefix("bias_saturates."): each for each in claims.judge(room.ROOM.claims)}


def test_the_closed_form_is_what_minimising_finds_at_every_swept_value():
    points = room.solved((*LAMBDA_B, 3.8e-4, 3.9e-4, 0.0))  # and on both sides of the critical value
    assert points["apart"].max() < 1e-6
    beyond = points["lambda_b"] > theory.critical_lambda_b("bce", 10, paper_c(10))
    assert beyond.sum() == 5 and (points["offset"] < 0).equals(beyond)
    assert (points["share"] > 0).equals(beyond)
    gap = points["paper"] - points["bias"]
    assert gap[~beyond].abs().max() < 1e-12 and gap[points["lambda_b"] > 4e-4].min() > 0.4
    assert points["etf"].max() < 1e-6 and (points["hits"] == room.RESTARTS).all()


def test_the_table_of_swept_values_says_how_far_the_papers_equation_is_off():
    table, points = room.swept(), room.solved(room.SWEPT)
    held = points["offset"] < 0
    gap = (points["paper"] - points["bias"])[held].abs().max()
    assert f"up to {gap:.2f} in the {held.sum()} rows with one" in table.notes[0] and "nan" not in table.markdown()
    # lead 1's numbers, from a minimisation made before this page was
    row = points.set_index("lambda_b").loc[5e-4]
    found = [row[f"{name}_solved"] for name in ("positive", "negative", "bias", "offset")]
    assert found == pytest.approx([7.8100, -2.0517, 3.5777, -1.0656], abs=1e-4)


def test_the_table_of_transitions_counts_the_swept_values():
    table = room.transition()
    assert table.frame["beyond"].tolist() == ["0.5, 0.05, 0.005, 0.0005"] * 2
    assert table.frame["count"].tolist() == [4, 4]
    assert "0.0000846" in table.markdown() and "of the 6 values" in table.markdown()
    for k, c, critical in table.frame[["K", "c", "critical"]].itertuples(index=False):  # t* as the page prints it
        logit = lambda p: np.log(p / (1 - p))  # noqa: E731
        t = (logit((k - 2) * c) - (k - 1) * logit(2 * c)) / k
        assert c == pytest.approx(5e-4 * np.sqrt(128 / k)) and critical == pytest.approx(c / t)


def test_the_table_of_lead_2_in_k_minus_1_dimensions():
    table = room.lower_points().set_index("multiple")
    etf, open_case, broken = (table.loc[multiple] for multiple in (1, 2, 6))
    assert [etf["form"], etf["found"]] == pytest.approx([etf["bound"]] * 2, abs=1e-9)
    assert open_case["form"] == pytest.approx(open_case["found"], abs=1e-9)
    assert open_case["found"] > open_case["bound"] + 0.01
    assert broken["bound"] < broken["found"] < broken["form"] - 0.03 and broken["spread"] > 0.2
    # the theorem's form on a grid, from the definition of BCE: nothing between the grid's best and the table's
    c, s, b = np.sqrt(20) * 2e-3, *np.meshgrid(np.linspace(0, 8, 801), np.linspace(-1, 3, 401))
    f = np.log1p(np.exp(b - s)) + 4 * np.log1p(np.exp(-s / 4 - b)) + 5 * c * s + 2.5 * broken["lambda_b"] * b**2
    assert f.min() - 1e-4 < broken["form"] <= f.min()


def test_the_form_of_each_row_is_said():
    frame = room.one_less_dimension().frame
    said = dict(zip(frame["multiple"], frame["form_is"], strict=True))
    assert said[1] == "reaches the bound: the minimum" and said[2] == "open" and said[6] == "a lower point was found"


def test_off_etf_is_zero_for_an_etf_with_any_mean_and_not_for_other_vectors():
    rows, rng = theory.simplex_etf(4, 5), np.random.default_rng(0)
    shift = rng.normal(size=(1, 5))
    assert room.off_etf(2 * rows + shift, 7 * rows.T + 3 * shift.T) < 1e-12
    assert room.off_etf(rows, rows[[1, 0, 2, 3]].T) > 0.5  # both ETFs, but not aligned
    assert room.off_etf(rows + 0.01 * rng.normal(size=rows.shape), rows.T) > 1e-3


def test_what_is_proved_and_what_is_refuted(judged):
    refuted = {"as_stated", "one_less_as_stated"}
    verdicts = {name: each.finding.verdict for name, each in judged.items()}
    assert verdicts == {name: REFUTED if name in refuted else PROVED for name in judged}
    assert judged["ce"].finding.control.verdict == REFUTED
    assert "nan" not in markdown.findings(list(judged.values()))
    of_the_paper = {name for name, each in judged.items() if each.of_the_paper}
    assert of_the_paper == refuted | {"up_to_critical", "one_less_up_to_critical"}


def test_the_theorem_as_stated_can_come_out_either_way(monkeypatch):
    """A model in which the bias followed the paper's equation everywhere, or at all but one value."""
    free, held = room.halves()
    right = held.assign(bias_solved=held["paper"], share_solved=0.0)
    for rows, verdict, share in ((right, OPEN, 1), (pd.concat([right[1:], held[:1]]), REFUTED, 1 - 1 / len(held)),
                                 (held[:0], OPEN, None)):
        monkeypatch.setattr(room, "halves", lambda rows=rows: (free, rows))
        finding = room.as_stated()
        assert finding.verdict == verdict and "nan" not in finding.detail
        assert share is None or finding.value == pytest.approx(share)


def test_the_theorem_in_k_minus_1_dimensions_can_come_out_either_way(monkeypatch):
    table = room.lower_points()
    for found, verdict in ((table["form"], OPEN), (table["form"] - 1e-7, OPEN), (table["form"] - 1e-5, REFUTED)):
        monkeypatch.setattr(room, "lower_points", lambda found=found: table.assign(found=found))
        finding = room.one_less_as_stated()
        assert finding.verdict == verdict and finding.n == len(table)
    assert finding.value == 0 and "13.9" in finding.detail


@pytest.mark.parametrize("column, test", [
    ("bias_solved", "up_to_critical"), ("share_solved", "up_to_critical"), ("etf", "up_to_critical"),
    ("apart", "closed_form"), ("bias_solved", "saturates"), ("etf", "still_etf"), ("hits", "local_minima")])
def test_a_wrong_number_is_found_out(monkeypatch, column, test):
    halves = room.halves()
    spoilt = tuple(rows.assign(**{column: rows[column] + (-1 if column == "hits" else 1e-3)}) for rows in halves)
    monkeypatch.setattr(room, "halves", lambda: spoilt)
    assert getattr(room, test)().verdict == REFUTED


def test_the_scores_beyond_the_critical_value_must_follow_the_bias(monkeypatch):
    free, held = room.halves()
    wavering = held.assign(positive_solved=held["positive_solved"] + 1e-3 * np.arange(len(held)))
    monkeypatch.setattr(room, "halves", lambda: (free, wavering))
    assert room.saturates().verdict == REFUTED


def test_the_figures_draw_what_they_are_given():
    figures, points = [room.saturation(), room.phases()], room.curve()
    for ax, kinds in zip(figures[0].axes, (("bias", "offset"), ("positive", "negative")), strict=True):
        drawn = np.concatenate([c.get_offsets().data for c in ax.collections])
        assert set(np.round(drawn[:, 1], 9)) == set(np.round(np.r_[tuple(points[f"{x}_solved"] for x in kinds)], 9))
    for ax, k in zip(figures[1].axes[:2], (10, 100), strict=True):  # above the black line the offset has a share
        line = ax.lines[0]
        for c, critical in list(zip(*line.get_data(), strict=True))[20:200:30]:
            m = theory.minimum("bce", k, c, np.array([critical * 0.99, critical * 1.01]))
            assert m.offset[0] == 0 > m.offset[1]
        assert ax.collections[-1].get_offsets()[:, 1].tolist() == list(LAMBDA_B)
    for figure in figures:
        matplotlib.pyplot.close(figure)


def test_the_page_needs_no_runs_and_says_where_its_numbers_come_from(tmp_path):
    assert all(room.ROOM.configs(profile) == [] for profile in ("quick", "laptop", "paper"))
    text = Chapter(room.ROOM, data_dir=str(tmp_path)).provenance().data
    assert "none: computed from formulas" in text and "numpy" in text and str(tmp_path) not in text
