"""The chapter on the two geometries: what it computes, against second ways, and what its claims can say."""

import matplotlib
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, softmax

from bcebook.book.notebook import Chapter
from bcebook.chapters import two_geometries as room
from bcebook.report.predictions import paper_c
from bcebook import claims
from bcebook.report import markdown, model_plots, plots
from bcebook.report.model_plots import loss_and_gradient, margin
from bcebook.science import theory
from bcebook.science.losses import LOSSES
from bcebook.science.verdicts import PROVED, REFUTED

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def judged():
    return {each.name.removeprefix("two_geometries."): each for each in claims.judge(room.ROOM.claims)}


# ---- losses and gradients -----------------------------------------------------------------------------------------

def test_the_gradients_of_both_losses_are_the_formulas_of_the_page():
    z = np.random.default_rng(0).normal(scale=4, size=(300, 7))
    own = np.eye(7)[:1]
    np.testing.assert_allclose(loss_and_gradient("ce", z)[1], softmax(z, axis=1) - own, atol=1e-14)
    np.testing.assert_allclose(loss_and_gradient("bce", z)[1], expit(z) - own, atol=1e-14)
    value = {loss: loss_and_gradient(loss, z)[0] for loss in LOSSES}
    np.testing.assert_allclose(value["ce"], np.log(np.exp(z - z[:, :1]).sum(1)), rtol=1e-12)
    bce = np.log1p(np.exp(-z[:, 0])) + np.log1p(np.exp(z[:, 1:])).sum(1)
    np.testing.assert_allclose(value["bce"], bce, rtol=1e-12)


def test_ce_does_not_see_a_shift_of_a_sample_and_bce_has_its_minimum_where_the_errors_balance():
    z = np.random.default_rng(1).normal(scale=3, size=(40, 5))
    for shift in (-30.0, -1.0, 2.5, 30.0):
        moved, still = (loss_and_gradient("ce", x) for x in (z + shift, z))
        np.testing.assert_allclose(moved[0], still[0], atol=1e-12)
        np.testing.assert_allclose(moved[1], still[1], atol=1e-12)
        change = np.subtract(*(loss_and_gradient("bce", x)[0] for x in (z + shift, z)))
        assert (np.abs(change) > 1e-3).mean() > 0.9
    for row in z:  # the shift at which sigma(-z_y) is the sum of the sigma(z_j) is the lowest of a fine grid
        best = brentq(lambda a, row=row: expit(row[1:] + a).sum() - expit(-row[0] - a), -60, 60)
        grid = best + np.linspace(-1, 1, 201)
        assert loss_and_gradient("bce", row + grid[:, None])[0].argmin() == 100


def test_the_table_of_gradients_is_that_of_the_formulas():
    frame = room.gradients().frame
    for _, row in frame.iterrows():
        p, n = row["positive"], row["negative"]
        wrong = 1 / (9 + np.exp(p - n))
        expected = [np.log1p(9 * np.exp(n - p)), -9 * wrong, wrong,
                    np.log1p(np.exp(-p)) + 9 * np.log1p(np.exp(n)), -expit(-p), expit(n)]
        np.testing.assert_allclose(row.to_numpy()[2:], expected, rtol=1e-10, atol=1e-15)
    assert (frame["positive"] - frame["negative"]).tolist() == [1] * 4 + [10] * 3  # the groups of the page


# ---- regions ------------------------------------------------------------------------------------------------------

def test_scores_are_distances_and_the_proposition_bounds_them():
    rng, k, d = np.random.default_rng(2), 6, 8
    rows, bias = 2.1 * theory.simplex_etf(k, d), 0.7
    h = rng.normal(size=(4000, d)) * rng.uniform(0.1, 3, size=(4000, 1)) + rng.uniform(0, 4, size=(4000, 1)) * rows[0]
    z, distance = h @ rows.T - bias, np.linalg.norm(h[:, None] - rows, axis=2)
    radius2 = 2.1**2 + (h**2).sum(1) - 2 * bias
    np.testing.assert_allclose(z, (radius2[:, None] - distance**2) / 2, atol=1e-10)
    ce, bce = (loss_and_gradient(loss, z)[0] for loss in LOSSES)
    room_left = 2 * np.log(np.expm1(bce))
    assert (distance[:, 0] ** 2 <= radius2 + room_left + 1e-9).all()
    assert (distance[:, 1:].min(1) ** 2 >= radius2 - room_left - 1e-9).all()
    assert (distance[:, 1:].min(1) ** 2 >= distance[:, 0] ** 2 - 2 * np.log(np.expm1(ce)) - 1e-9).all()
    inside = bce < np.log(2)
    assert 100 < inside.sum() < 3900 and (margin("bce", z)[inside] > 0).all()
    # the loss's condition is the decision: CE that of argmax, BCE that of K thresholds
    assert ((margin("ce", z) > 0) == (z.argmax(1) == 0)).all()
    assert ((margin("bce", z) > 0) == ((z > 0) == np.eye(k, dtype=bool)[0]).all(1)).all()


@pytest.mark.parametrize("level", [0.05, np.log(2), 3.0])
@pytest.mark.parametrize("etf", [True, False])
def test_at_one_length_a_level_of_bce_bounds_the_own_distance_and_one_of_ce_does_not(level, etf):
    """With features in space, not with free distances: far along the own row, with the bias that keeps R."""
    rng, radius, k, d = np.random.default_rng(3), 2.87, 10, 12
    rows = theory.simplex_etf(k, d) if etf else rng.normal(size=(k, d))  # any rows of one length will do
    rows = 3.1 * rows / np.linalg.norm(rows, axis=1, keepdims=True)
    h = (1 + np.array([20.0, 100.0, 1000.0]))[:, None] * rows[0]
    distance = np.linalg.norm(h[:, None] - rows, axis=2)
    np.testing.assert_allclose(distance[:, 0], np.array([20.0, 100.0, 1000.0]) * 3.1)
    # what the triangle inequality leaves: distances differ by no more than those of rows, their squares without bound
    assert (distance[:, 1:] <= distance[:, :1] + np.linalg.norm(rows[1:] - rows[0], axis=1) + 1e-9).all()
    assert (np.diff(distance[:, 1:] ** 2 - distance[:, :1] ** 2, axis=0) > 0).all()
    bias = (3.1**2 + (h**2).sum(1, keepdims=True) - radius**2) / 2
    np.testing.assert_allclose(h @ rows.T - bias, (radius**2 - distance**2) / 2, rtol=1e-9, atol=1e-5)
    ce, bce = (loss_and_gradient(loss, h @ rows.T - bias)[0] for loss in LOSSES)
    assert ce.max() < level < bce.min()


def test_the_bound_on_the_own_distance_is_sharp():
    """Just inside the proposition's ball BCE reaches the level, just outside it does not: features along the own row
    of rows so long that the other terms of BCE vanish."""
    k, radius, rows = 10, 2.87, 1e3 * theory.simplex_etf(10, 10)
    for level in (0.05, np.log(2), 3.0):
        edge = np.sqrt(radius**2 + 2 * np.log(np.expm1(level)))
        for own, reached in ((edge - 1e-3, True), (edge + 1e-3, False)):
            h = (1 + own / 1e3) * rows[:1]
            distance = np.linalg.norm(h[:, None] - rows, axis=2)
            assert distance[0, 0] == pytest.approx(own) and distance.shape == (1, k)
            value = loss_and_gradient("bce", (radius**2 - distance**2) / 2)[0][0]
            assert (value < level) == reached


def test_at_a_given_bias_bce_is_unbounded_along_the_own_row_only_where_the_rows_ask_for_it():
    """The page's condition w_j.w_y < 0: with it BCE tends to 0, without it BCE grows with the other scores."""
    tau = np.array([[10.0], [100.0], [1000.0]])
    for angle, to_zero in ((100, True), (80, False)):
        rows = np.array([[1, 0], [np.cos(np.radians(angle)), np.sin(np.radians(angle))]])
        value = loss_and_gradient("bce", tau * rows[0] @ rows.T - 0.5)[0]
        assert (value[-1] < 1e-9) == to_zero and (np.diff(value) < 0).all() == to_zero


@pytest.mark.parametrize("k", [2, 3, 10])
def test_the_widest_angle_that_each_loss_permits(k):
    """Features of one length in d = K dimensions: none that meets the condition is further from its row, and some are
    as far."""
    rng, rows = np.random.default_rng(k), theory.simplex_etf(k, k)
    for loss in LOSSES:
        at = room.geometry(loss, k, paper_c(k))
        h = rng.normal(size=(20_000, k)) + rng.uniform(0, 3, size=(20_000, 1)) * rows[0]
        tilt = np.radians(at["own"]) + np.array([-1e-3, 1e-3])  # towards the last axis, orthogonal to all rows
        tilted = np.outer(np.cos(tilt), rows[0]) + np.outer(np.sin(tilt), np.eye(k)[-1])
        h = np.vstack([h / np.linalg.norm(h, axis=1, keepdims=True), tilted])
        right = margin(loss, at["s"] * h @ rows.T - at["bias"]) > 0
        angle = np.degrees(np.arccos(np.minimum(h @ rows[0], 1)))
        assert right.sum() > 500 and angle[right].max() <= at["own"] + 1e-9 and right[-2] and not right[-1]
        if loss == "bce":  # the same as a distance
            assert (np.linalg.norm(at["length"] * (h - rows[0]), axis=1)[right] < at["radius"]).all()
        assert at["apart"] == pytest.approx(at["length"] * np.linalg.norm(rows[0] - rows[1]))
        assert room.widest(loss, k) == pytest.approx(at["own"], abs=1e-9)


def test_the_table_of_balls_names_the_overlaps():
    """Two caps overlap if and only if a feature half-way between two rows is inside both."""
    table = room.balls((2, 3, 10, 100))
    for _, row in table.frame.iterrows():
        k = row["classes"]
        half = theory.simplex_etf(k, k)[:2].sum(axis=0)
        at = room.geometry("bce", k, paper_c(k))
        middle = at["length"] * (half / np.linalg.norm(half) if np.linalg.norm(half) > 1e-12 else np.eye(k)[-1])
        inside = np.linalg.norm(middle - at["length"] * theory.simplex_etf(k, k)[0]) < at["radius"] - 1e-9
        assert row["caps"] == ("overlap" if inside else "disjoint")
    assert set(table.frame["caps"]) == {"overlap", "disjoint"}
    named = markdown.listed(str(k) for k in table.frame[table.frame["caps"] == "overlap"]["classes"])
    assert f"overlap under BCE: {named}." in table.notes[0] and "nan" not in table.markdown()


def test_shifts_cost_ce_nothing_and_uniform_accuracy_much():
    table = room.shifts(samples=500).set_index(["loss", "spread"])
    assert (table["accuracy"] == 1).all() and (table["uniform"].xs(0, level="spread") == 1).all()
    assert table.loc["ce", "change"].max() < 1e-12 < 1 < table.loc["bce", "change"].max()
    assert np.ptp(table.loc["ce", "value"]) < 1e-12 and (np.diff(table.loc["bce", "value"]) > 0).all()
    assert (np.diff(table["uniform"].loc["ce"]) < 0).all() and table["uniform"].loc["ce", 8] < 0.5
    text = room.shifts_table(samples=500).markdown()
    assert "nan" not in text and text.count("\n|") == 6 and "500 samples" in text


# ---- claims -------------------------------------------------------------------------------------------------------

def test_every_statement_is_proved_and_its_control_fails_the_same_test(judged):
    assert {name: each.finding.verdict for name, each in judged.items()} == dict.fromkeys(judged, PROVED)
    controls = {name: each.finding.control.verdict for name, each in judged.items() if each.finding.control}
    assert controls == dict.fromkeys(set(judged) - {"angle"}, REFUTED)
    assert "nan" not in markdown.findings(list(judged.values()))
    of_the_paper = {name for name, each in judged.items() if each.of_the_paper}
    assert of_the_paper == {"relative", "absolute", "ball", "unbounded"}


def test_a_loss_with_a_fault_is_found_out(monkeypatch):
    """A CE that sees the mean of the logits, and a BCE with one softmax in it: their statements are refuted."""
    true = model_plots.loss_and_gradient

    def spoilt(loss, logits):
        logits = np.asarray(logits, float)
        value, gradient = true(loss, logits)
        if loss == "ce":
            return value + 1e-6 * logits.mean(axis=1), gradient + 1e-6 / logits.shape[1]
        return value, gradient + 1e-6 * softmax(logits, axis=1)

    monkeypatch.setattr(model_plots, "loss_and_gradient", spoilt)
    found = [room.shift_changes("ce"), room.others_change("bce"), room.moves_the_mean("ce")]
    assert [finding.verdict for finding in found] == [REFUTED] * 3


def test_a_wrong_radius_and_a_wrong_angle_are_found_out(monkeypatch):
    logits, distances, radius2 = room.drawn()
    for off in (-1e-6, 1e-6):
        monkeypatch.setattr(room, "drawn", lambda off=off: (logits, distances, radius2 + off))
        assert room.leaves_the_balls("bce").verdict == REFUTED
    true = room.geometry
    monkeypatch.setattr(room, "geometry", lambda *of: true(*of) | {"own": true(*of)["own"] + 0.01})
    assert room.angle().verdict == REFUTED


# ---- figures ------------------------------------------------------------------------------------------------------

def edges(ax):
    """Colour -> the contour lines of that colour."""
    drawn = [c for c in ax.collections if len(c.get_edgecolor())]
    return {matplotlib.colors.to_hex(c.get_edgecolor()[0]).upper(): c for c in drawn}


def test_the_plane_of_distances_draws_the_computed_edges():
    figure, at = room.distance_plane(), room.geometry("bce", 10, paper_c(10))
    lines = {loss: edges(ax) for loss, ax in zip(LOSSES, figure.axes, strict=True)}
    ce, bce = (np.vstack([p.vertices for p in lines[loss][plots.COLOUR[loss]].get_paths()]) for loss in LOSSES)
    assert np.ptp(ce, axis=0).min() > 6.9 and np.abs(ce[:, 0] - ce[:, 1]).max() < 0.05  # the diagonal
    assert bce[:, 0].max() == pytest.approx(at["radius"], abs=0.03) == bce[:, 1].min()
    for loss in LOSSES:  # on a level set the loss has its level
        grey = lines[loss][plots.GREY]
        for level, path in zip(grey.levels, grey.get_paths(), strict=True):
            own, other = path.vertices[len(path.vertices) // 2]
            radius = at["radius"] if loss == "bce" else 0
            logits = (radius**2 - np.array([[own] + [other] * 9]) ** 2) / 2
            assert loss_and_gradient(loss, logits)[0][0] == pytest.approx(level, rel=0.03)
    matplotlib.pyplot.close(figure)


def test_the_black_lines_are_the_distances_of_features():
    """Solid: features of one length; dashed: the multiples of the own row, between which all others lie."""
    figure, k = room.distance_plane(), 10
    for loss, ax in zip(LOSSES, figure.axes, strict=True):
        at = room.geometry(loss, k, paper_c(k))
        rows = at["length"] * theory.simplex_etf(k, k)
        rng = np.random.default_rng(0)
        along, aside = rng.uniform(-3, 3, size=(2, 500, 1))
        h = along * rows[0] + at["length"] * aside * np.eye(k)[-1]  # alike to all other classes
        own, other = (np.linalg.norm(h - row, axis=1) for row in rows[:2])
        solid, upper, lower = (line.get_data() for line in ax.lines[:3])
        seen = own < 7
        assert (other[seen] <= np.interp(own[seen], *upper) + 1e-2).all()
        assert (other[seen] >= np.interp(own[seen], *lower) - 1e-2).all()
        same = h * at["length"] / np.linalg.norm(h, axis=1, keepdims=True)
        own, other = (np.linalg.norm(same - row, axis=1) for row in rows[:2])
        np.testing.assert_allclose(other, np.interp(own, *solid), atol=1e-2)
    matplotlib.pyplot.close(figure)


def test_the_figures_of_features_and_of_pulls_draw_what_they_say():
    figures = [room.feature_plane(), room.pulls()]
    at, angle = room.geometry("bce", 3, 0.2), np.radians([90, 210, 330])
    rows = at["length"] * np.column_stack([np.cos(angle), np.sin(angle)])
    edge = np.vstack([p.vertices for p in edges(figures[0].axes[1])[plots.COLOUR["bce"]].get_paths()])
    np.testing.assert_allclose(margin("bce", edge @ rows.T - at["bias"]), 0, atol=0.02)
    same = [line.get_ydata() for line in figures[1].axes[0].lines if line.get_color() == plots.COLOUR["bce"]]
    assert len(same) == 3 and np.array_equal(same[0], same[1]) and np.array_equal(same[1], same[2])
    for panel, held_at in ((0, "negative"), (1, "positive")):  # CE's three curves, from the softmax written out
        blue = [line.get_data() for line in figures[1].axes[panel].lines if line.get_color() == plots.COLOUR["ce"]]
        for (x, y), held in zip(blue, (-4, 0, 4), strict=True):
            wrong = 1 / (9 + np.exp(x - held)) if held_at == "negative" else 1 / (9 + np.exp(held - x))
            np.testing.assert_allclose(y, 9 * wrong if held_at == "negative" else wrong, atol=1e-12)
    for figure in figures:
        matplotlib.pyplot.close(figure)


def test_the_page_needs_no_runs_and_says_where_its_numbers_come_from(tmp_path):
    assert all(room.ROOM.configs(profile) == [] for profile in ("quick", "laptop", "paper"))
    text = Chapter(room.ROOM, data_dir=str(tmp_path)).provenance().data
    assert "none: computed from formulas" in text and "numpy" in text and str(tmp_path) not in text
