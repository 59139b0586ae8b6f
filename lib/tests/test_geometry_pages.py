"""The chapters on the two geometries and on the minima: what they compute, against second ways of computing it."""

import re

import matplotlib
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, softmax

from bcebook.chapters import geometry_pages
from bcebook.report import plots
from bcebook.science import theory
from bcebook.science.losses import LOSSES

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def points():
    return geometry_pages.agreement()


# ---- two losses, two geometries -----------------------------------------------------------------------------------------

def test_the_gradients_of_both_losses_are_the_formulas_of_the_page():
    z = np.random.default_rng(0).normal(scale=4, size=(300, 7))
    own = np.eye(7)[:1]
    np.testing.assert_allclose(geometry_pages.loss_and_gradient("ce", z)[1], softmax(z, axis=1) - own, atol=1e-14)
    np.testing.assert_allclose(geometry_pages.loss_and_gradient("bce", z)[1], expit(z) - own, atol=1e-14)
    value = {loss: geometry_pages.loss_and_gradient(loss, z)[0] for loss in LOSSES}
    np.testing.assert_allclose(value["ce"], np.log(np.exp(z - z[:, :1]).sum(1)), rtol=1e-12)
    np.testing.assert_allclose(value["bce"], np.log1p(np.exp(-z[:, 0])) + np.log1p(np.exp(z[:, 1:])).sum(1), rtol=1e-12)


def test_ce_does_not_see_a_shift_of_a_sample_and_bce_has_its_minimum_where_the_errors_balance():
    z = np.random.default_rng(1).normal(scale=3, size=(40, 5))
    for shift in (-30.0, -1.0, 2.5, 30.0):
        moved, still = (geometry_pages.loss_and_gradient("ce", x) for x in (z + shift, z))
        np.testing.assert_allclose(moved[0], still[0], atol=1e-12)
        np.testing.assert_allclose(moved[1], still[1], atol=1e-12)
        assert (np.abs(np.subtract(*(geometry_pages.loss_and_gradient("bce", x)[0] for x in (z + shift, z)))) > 1e-3).mean() > 0.9
    for row in z:  # the shift at which sigma(-z_y) is the sum of the sigma(z_j) is the lowest of a fine grid
        best = brentq(lambda a, row=row: expit(row[1:] + a).sum() - expit(-row[0] - a), -60, 60)
        grid = best + np.linspace(-1, 1, 201)
        assert geometry_pages.loss_and_gradient("bce", row + grid[:, None])[0].argmin() == 100


def test_scores_are_distances_and_the_proposition_bounds_them():
    rng, k, d = np.random.default_rng(2), 6, 8
    rows, bias = 2.1 * theory.simplex_etf(k, d), 0.7
    h = rng.normal(size=(4000, d)) * rng.uniform(0.1, 3, size=(4000, 1)) + rng.uniform(0, 4, size=(4000, 1)) * rows[0]
    z, distance = h @ rows.T - bias, np.linalg.norm(h[:, None] - rows, axis=2)
    radius2 = 2.1**2 + (h**2).sum(1) - 2 * bias
    np.testing.assert_allclose(z, (radius2[:, None] - distance**2) / 2, atol=1e-10)
    ce, bce = (geometry_pages.loss_and_gradient(loss, z)[0] for loss in LOSSES)
    room = 2 * np.log(np.expm1(bce))
    assert (distance[:, 0] ** 2 <= radius2 + room + 1e-9).all() and (distance[:, 1:].min(1) ** 2 >= radius2 - room - 1e-9).all()
    assert (distance[:, 1:].min(1) ** 2 >= distance[:, 0] ** 2 - 2 * np.log(np.expm1(ce)) - 1e-9).all()
    inside = bce < np.log(2)
    assert 100 < inside.sum() < 3900 and (geometry_pages.margin("bce", z)[inside] > 0).all()
    # the loss's condition is the decision: CE that of argmax, BCE that of K thresholds
    assert ((geometry_pages.margin("ce", z) > 0) == (z.argmax(1) == 0)).all()
    assert ((geometry_pages.margin("bce", z) > 0) == ((z > 0) == np.eye(k, dtype=bool)[0]).all(1)).all()


@pytest.mark.parametrize("level", [0.05, np.log(2), 3.0])
def test_at_one_length_a_level_of_bce_bounds_the_own_distance_and_one_of_ce_does_not(level):
    radius, k, far = 2.87, 10, np.array([1e2, 1e3, 1e4])
    for own in (10.0, 100.0, 1000.0):  # at any own distance CE falls below the level if the others are far enough; BCE never does
        distance = np.column_stack([np.full(3, own)] + [own + far] * (k - 1))
        ce, bce = (geometry_pages.loss_and_gradient(loss, (radius**2 - distance**2) / 2)[0] for loss in LOSSES)
        assert ce.min() < level < bce.min()
    edge = np.sqrt(radius**2 + 2 * np.log(np.expm1(level)))  # the bound is sharp: just inside, BCE reaches the level
    for own, reached in ((edge - 1e-3, True), (edge + 1e-3, False)):
        distance = np.array([[own] + [1e3] * (k - 1)])
        assert (geometry_pages.loss_and_gradient("bce", (radius**2 - distance**2) / 2)[0][0] < level) == reached


@pytest.mark.parametrize("k", [2, 3, 10])
def test_the_widest_angle_that_each_loss_permits(k):
    """Features of one length in d = K dimensions: none that meets the condition is further from its row, and some are as far."""
    c = geometry_pages.paper_c(k)
    rng, rows = np.random.default_rng(k), theory.simplex_etf(k, k)
    for loss in LOSSES:
        at = geometry_pages.geometry(loss, k, c)
        h = rng.normal(size=(20_000, k)) + rng.uniform(0, 3, size=(20_000, 1)) * rows[0]
        tilt = np.radians(at["own"]) + np.array([-1e-3, 1e-3])  # towards a direction orthogonal to all rows: the last axis
        tilted = np.outer(np.cos(tilt), rows[0]) + np.outer(np.sin(tilt), np.eye(k)[-1])
        h = np.vstack([h / np.linalg.norm(h, axis=1, keepdims=True), tilted])
        right = geometry_pages.margin(loss, at["s"] * h @ rows.T - at["bias"]) > 0
        angle = np.degrees(np.arccos(h @ rows[0]))
        assert right.sum() > 500 and angle[right].max() <= at["own"] + 1e-9 and right[-2] and not right[-1]
        if loss == "bce":  # the same as a distance
            assert (np.linalg.norm(at["length"] * (h - rows[0]), axis=1)[right] < at["radius"]).all()
        assert at["apart"] == pytest.approx(at["length"] * np.linalg.norm(rows[0] - rows[1]))


def test_shifts_cost_ce_nothing_and_uniform_accuracy_much():
    table = geometry_pages.shifts(samples=500).set_index(["loss", "spread"])
    assert (table["accuracy"] == 1).all() and (table["uniform"].xs(0, level="spread") == 1).all()
    assert table.loc["ce", "change"].max() < 1e-12 < 1 < table.loc["bce", "change"].max()
    assert np.ptp(table.loc["ce", "value"]) < 1e-12 and (np.diff(table.loc["bce", "value"]) > 0).all()
    assert (np.diff(table["uniform"].loc["ce"]) < 0).all() and table["uniform"].loc["ce", 8] < 0.5


# ---- minima -------------------------------------------------------------------------------------------------------------

def test_closed_form_and_minimisation_agree_in_every_row_on_both_sides_of_the_transition(points):
    assert points[["scores", "biases", "objectives"]].max().max() < 1e-6 and points["gradient"].max() < 1e-9
    bce = points[points["loss"] == "bce"]
    beyond = bce["lambda_b"] > bce["critical"]
    assert beyond.sum() >= 5 and (~beyond).sum() >= 5 and (bce["offset"] < 0).equals(beyond)
    assert set(np.sign(points["d"] - points["K"])) == {-1, 0, 1}  # d = K - 1, K and more
    zero = points["c"] >= 1 / points["K"]
    assert zero.sum() == 4 and (points["positive"] - points["negative"] > 1e-9).equals(~zero)
    text = geometry_pages.agreement_table(points)
    assert "nan" not in text and text.count("\n|") == len(points) + 1
    digit, exponent = re.search(r"largest disagreement is \$(\d) \\cdot 10\^{(-\d+)}\$ in a score", text).groups()
    assert float(f"{digit}e{exponent}") == pytest.approx(points["scores"].max(), rel=0.5)


def test_the_closed_forms_of_the_page():
    """The equations as printed, term by term, not through the library's variables u and v."""
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    for k, c in ((2, 0.1), (3, 0.02), (10, 1e-3), (100, 5e-4)):
        ce, bce = (theory.minimum(loss, k, c) for loss in LOSSES)
        assert ce.positive == pytest.approx((k - 1) / k * np.log(1 / c - (k - 1)))
        assert bce.positive == pytest.approx(-(k - 1) / k * (logit((k - 1) * c) + logit(c)))
        assert bce.bias == pytest.approx((logit((k - 1) * c) - (k - 1) * logit(c)) / k, abs=1e-12)
        assert bce.positive - ce.positive == pytest.approx((k - 1) / k * np.log((1 - c) / ((k - 1) * c)))


def test_both_losses_leave_the_same_errors():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in geometry_pages.errors().splitlines()[2:]]
    for k, ce, free, decayed in zip((2, 10, 100), rows[0::3], rows[1::3], rows[2::3], strict=True):
        assert [ce[0], ce[1], free[1], free[2], decayed[2]] == [str(k), "CE", "BCE", "0", "0.5"]
        assert [float(x) for x in ce[3:5]] == [float(x) for x in free[3:5]] == [k - 1, 1]
        assert [float(x) for x in decayed[3:5]] == ([1, 1] if k == 2 else [k - 2, 2])


def test_free_features_collapse_to_the_closed_form():
    found = geometry_pages.one_feature_a_sample()
    assert found["apart"].max() < 1e-6 and found["nc1"].max() < 1e-12
    assert (found["offset"] < 0).tolist() == [False, True]  # BCE's setting lies beyond the critical lambda_b
    assert "BCE (which has an offset here)" in geometry_pages.free_features(found)


def test_nc2_of_the_classifier_sees_the_offset_and_nothing_else_does():
    table = geometry_pages.collapse()
    assert (table[["nc1", "nc2_means", "nc3"]] < 1e-7).all(axis=None)
    np.testing.assert_allclose(table["nc2"], table["formula"], atol=1e-7)
    held = table["offset"] < 0
    assert held.sum() == 3 and (table["nc2"] > 0.1).equals(held) and (table["cosine"] < 0.999).equals(held)
    assert "nan" not in geometry_pages.collapse_table(table)


def test_the_papers_condition_on_separation_is_said_as_it_is():
    told = re.search(r"In ([\d,]+) of ([\d,]+) .* in ([\d,]+) of them", geometry_pages.separation())
    agree, of, separate = (int(x.replace(",", "")) for x in told.groups())
    assert agree == of == 6000 and 1000 < separate < 5000


# ---- figures ------------------------------------------------------------------------------------------------------------

def test_the_figures_draw_the_computed_edges():
    figures = [geometry_pages.distance_plane(), geometry_pages.feature_plane(), geometry_pages.pulls(), geometry_pages.against_c()]
    at = geometry_pages.geometry("bce", 10, geometry_pages.paper_c(10))
    coloured, grey = {}, {}  # the edge of each loss's region, and its level sets
    for loss, ax in zip(LOSSES, figures[0].axes, strict=True):
        lines = {matplotlib.colors.to_hex(c.get_edgecolor()[0]).upper(): c for c in ax.collections if len(c.get_edgecolor())}
        coloured[loss], grey[loss] = lines[plots.COLOUR[loss]], lines[plots.GREY]
    ce, bce = (np.vstack([path.vertices for path in coloured[loss].get_paths()]) for loss in LOSSES)
    assert np.ptp(ce, axis=0).min() > 6.9 and np.abs(ce[:, 0] - ce[:, 1]).max() < 0.05  # the diagonal, from corner to corner
    assert bce[:, 0].max() == pytest.approx(at["radius"], abs=0.03) and bce[:, 1].min() == pytest.approx(at["radius"], abs=0.03)
    same = [line.get_ydata() for line in figures[2].axes[0].lines if line.get_color() == plots.COLOUR["bce"]]
    assert len(same) == 3 and np.array_equal(same[0], same[1]) and np.array_equal(same[1], same[2])
    for loss, lines in grey.items():  # on a level set the loss has its level
        for level, path in zip(lines.levels, lines.get_paths(), strict=True):
            own, other = path.vertices[len(path.vertices) // 2]
            radius = at["radius"] if loss == "bce" else 0
            logits = (radius**2 - np.array([[own] + [other] * 9]) ** 2) / 2
            assert geometry_pages.loss_and_gradient(loss, logits)[0][0] == pytest.approx(level, rel=0.03)
    for panel, held_at in ((0, "negative"), (1, "positive")):  # CE's three curves, from the softmax written out
        blue = [line.get_data() for line in figures[2].axes[panel].lines if line.get_color() == plots.COLOUR["ce"]]
        for (x, y), held in zip(blue, (-4, 0, 4), strict=True):
            wrong = 1 / (9 + np.exp(x - held)) if held_at == "negative" else 1 / (9 + np.exp(held - x))
            np.testing.assert_allclose(y, 9 * wrong if held_at == "negative" else wrong, atol=1e-12)
    for ax in figures[3].axes:  # every circle on its line
        for line, circles in zip([x for x in ax.lines if len(x.get_xdata()) > 2], ax.collections, strict=True):
            x, y = circles.get_offsets().data.T
            np.testing.assert_allclose(np.interp(np.log(x), np.log(line.get_xdata()), line.get_ydata()), y, atol=0.05)
    for figure in figures:
        matplotlib.pyplot.close(figure)
