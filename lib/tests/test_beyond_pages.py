"""The chapters beyond the paper: fewer dimensions than classes, and minority collapse."""

import dataclasses

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from bcebook.chapters import catalog, dimension_pages, imbalance_pages
from bcebook.science import metrics, theory
from bcebook.training import datasets as data, measure
from bcebook.training.measure import Outputs
from bcebook.runs.store import Run
from bcebook.training.loop import Training


# ---- fewer dimensions -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("k, d, angle", [(8, 2, 45), (12, 3, 63.4349), (6, 3, 90), (16, 5, 78.4630), (27, 6, 75.5225), (10, 4, 80.4059)])
def test_bce_with_free_biases_finds_the_best_spherical_code(k, d, angle):
    """Angles from the literature, not from the module; one bias, equal scores, and the uniform gap 1 - cos of a code."""
    found = dimension_pages.properties(dimension_pages.minimiser("bce", k, d, restarts=4))
    assert found["angle"] == pytest.approx(angle, abs=1e-3) == dimension_pages.code_angle(k, d)
    assert found["biases"] < 1e-6 and found["scores"] < 1e-6 and found["uniform"] == 1 and found["aligned"] > 1 - 1e-9
    assert [found["gap"], found["margin"]] == pytest.approx([1 - np.cos(np.radians(angle))] * 2, abs=1e-5)


def test_the_decay_of_the_bias_exchanges_the_roles_of_the_losses():
    ce, bce = (dimension_pages.properties(dimension_pages.minimiser(loss, 12, 3)) for loss in theory.LOSSES)
    assert ce["biases"] > 4 and ce["gap"] < 0 < bce["gap"] and ce["uniform"] == pytest.approx(11 / 12) and ce["accuracy"] == 1
    ce, bce = (dimension_pages.properties(dimension_pages.minimiser(loss, 12, 3, 0.05)) for loss in theory.LOSSES)
    assert ce["angle"] == pytest.approx(63.4349, abs=1e-3) and ce["biases"] < 1e-6 and ce["uniform"] == 1
    assert bce["angle"] < 30 and bce["gap"] < ce["gap"] / 5 and bce["scores"] > 1


def test_ce_puts_a_class_in_the_middle():
    found = dimension_pages.minimiser("ce", 8, 2)
    middle = np.argmin(np.linalg.norm(found.W, axis=1))
    assert np.linalg.norm(found.W[middle]) < 1e-6 and np.linalg.norm(found.H[:, middle]) < 1e-6
    assert found.b[middle] < np.delete(found.b, middle).min() - 5  # its threshold is the lowest by far


def test_within_the_limit_each_loss_has_its_own_margin():
    at = {loss: dimension_pages.properties(theory.solve(loss, 8, 3, 16, 5e-8, 5e-8)) for loss in theory.LOSSES}
    assert at["ce"]["margin"] > at["bce"]["margin"] + 0.003 and at["bce"]["gap"] > at["ce"]["gap"] + 0.2
    # a random search over unit vectors does not beat the uniform gap that BCE found by more than the limit still lacks
    rng, best = np.random.default_rng(0), -np.inf
    for _ in range(3000):
        U = rng.normal(size=(8, 3))
        U /= np.linalg.norm(U, axis=1)[:, None]
        best = max(best, 1 - (U @ U.T)[~np.eye(8, dtype=bool)].max())
    assert best < at["bce"]["gap"] < 1 - dimension_pages.CODES[8, 3] + 1e-9


def test_the_plane_needs_a_bias():
    """The lemma by brute force: without bias no random arrangement of four classes in the plane separates uniformly; of three, some do."""
    rng = np.random.default_rng(0)
    for k, possible in ((3, True), (4, False)):
        W, H = rng.normal(size=(20000, k, 2)), rng.normal(size=(20000, 2, k))
        signs = np.where(np.eye(k, dtype=bool), W @ H, -(W @ H))
        assert (signs > 0).all(axis=(1, 2)).any() == possible


def test_the_survey_counts_what_its_rows_say():
    table = dimension_pages.survey(((5, 2), (7, 3), (10, 5)), restarts=4)
    text = dimension_pages.survey_table(table)
    assert list(dimension_pages.alike(table, "bce")) == [True, False, True] and list(dimension_pages.alike(table, "ce")) == [False, False, True]
    assert "BCE in 2 of 3 settings, CE in 1" in text and "CE (5, 2), (7, 3)" in text and "nan" not in text
    assert "BCE's is larger in 2 settings, equal in 1, smaller in 0" in text
    assert f"{table['bce_biases'].max():.1f} (BCE) and {table['ce_biases'].max():.1f} (CE)" in text
    sentence = dimension_pages.decay_sentence(pd.concat([table.assign(lambda_b=0.0), table.assign(lambda_b=0.1)]))
    assert "CE treats the classes alike in 1 of 3 settings and BCE in 2 of 3" in sentence


# ---- imbalance --------------------------------------------------------------------------------------------------------

def test_bisection_finds_the_threshold_of_the_theorem_for_both_losses():
    table = imbalance_pages.thresholds(steps=9)
    assert len(table) == 8 and set(table["lambda_b"]) == {0, 0.01}
    np.testing.assert_allclose(table[["ce", "bce"]], 1, atol=0.01)
    assert table["apart"].min() < 0.95 and table["apart"].max() > 1.8  # neither loss opens the tail more in general


@pytest.mark.parametrize("loss", theory.LOSSES)
def test_the_two_sides_in_the_full_problem(loss):
    """With counts, N and unequal decays as the theorem states it, an own feature distance, and its formula for the rows."""
    counts, lambda_h = np.array([40.0, 25.0, 4.0, 4.0, 4.0]), 2e-3
    total = counts.sum()
    for factor, merged in ((0.99, True), (1.2, False)):
        lambda_w = 4 / factor / total**2 / lambda_h
        found = theory.solve(loss, 5, 5, None, lambda_w, lambda_h, 1e-3, counts=counts, restarts=2)
        rows, features = found.W[2:], found.H[:, 2:].T
        apart = [np.linalg.norm(x[[0, 0, 1]] - x[[1, 2, 2]], axis=1) for x in (rows, features)]
        alpha = (found.W @ found.H * np.sqrt(counts))[2:, 2:] @ np.array([1, -1, 0]) @ np.array([1, -1, 0]) / 2
        if merged:
            assert max(map(np.max, apart)) < 1e-6 and np.ptp(found.b[2:]) < 1e-8
        else:
            np.testing.assert_allclose(apart[0], np.sqrt(2 * alpha) * (lambda_h / lambda_w) ** 0.25, rtol=1e-6)
            assert min(map(np.min, apart)) > 0.1


def test_only_shares_and_one_product_count():
    sizes = np.array([140, 30, 12, 7, 7])
    total, batch, decays = sizes.sum(), 64, (0.3, 7e-4)
    full = theory.solve("bce", 5, 5, None, decays[0], decays[1] * batch / total, 0.0, counts=sizes)
    short = imbalance_pages.at_share("bce", sizes, batch * decays[0] * decays[1])
    np.testing.assert_allclose(full.W @ full.H, short.W @ short.H, atol=1e-6)
    assert short.objective == pytest.approx(full.objective, abs=1e-12)


def test_tail_geometry_by_hand():
    # tail: three unit vectors in the plane at 120 degrees, head: the same three times as long; their mean is zero
    ring = np.array([[np.cos(a), np.sin(a)] for a in np.radians([90, 210, 330])])
    weight, counts = np.concatenate([3 * ring, ring]), np.array([50, 40, 30, 3, 2, 2])
    tail = metrics.tail_geometry(weight, counts)
    assert tail.distance == pytest.approx(1 / 3) and tail.cosine == pytest.approx(-0.5)
    shifted = metrics.tail_geometry(weight + np.array([5.0, -2.0]), counts)
    assert vars(shifted) == pytest.approx(vars(tail))
    merged = np.concatenate([3 * ring, np.ones((3, 2))])
    assert vars(metrics.tail_geometry(merged, counts)) == pytest.approx({"distance": 0, "cosine": 1}, abs=1e-12)
    assert np.isnan(metrics.tail_geometry(weight, np.array([9, 8, 7, 6, 5, 5])).distance)  # 9 is not twice 5
    assert np.isnan(metrics.tail_geometry(weight[:3], counts[[0, 1, 5]]).cosine)  # no three, not even two, on either side


def test_a_finished_run_says_how_its_tail_lies():
    labels = torch.tensor([0] * 8 + [1] * 6 + [2] * 2 + [3] * 2)
    generator = torch.Generator().manual_seed(0)
    classifier = torch.nn.Linear(3, 4)
    features = torch.randn(18, 3, generator=generator)
    out = Outputs(features @ classifier.weight.detach().T, features, labels)
    figures = measure.final(classifier, out, out)[0]
    W = classifier.weight.detach().numpy()
    assert figures["tail_distance"] == pytest.approx(np.linalg.norm(W[2] - W[3]) / np.linalg.norm(W[0] - W[1]), rel=1e-6)
    assert -1 <= figures["tail_cosine"] <= 1


def test_the_papers_long_tails_are_far_from_collapse():
    table = imbalance_pages.cifar100_long_tailed().set_index("factor")
    assert dict(table["total"]) == {10: 19573, 50: 12608, 100: 10847} and dict(table["smallest"]) == {10: 50, 50: 10, 100: 5}
    assert table.loc[100, "size"] == pytest.approx(10847 * 128 * 25e-8) and table.loc[100, "bce"] == 52.88
    merge = 5e-4 * np.sqrt(5 / table.loc[100, "size"])
    assert theory.minority_collapse_size(10847, merge, merge, 128) == pytest.approx(5)
    assert f"{merge:.4f}" in imbalance_pages.long_tailed_table()


@pytest.fixture(scope="module")
def runs():
    """Both losses on both sides of the threshold, in fewer epochs than the catalog's."""
    finished = []
    for config in catalog.configs("imbalance", "quick"):
        if config.lambda_w in (0.02, 0.8):
            short = type(config).from_dict(config.to_dict() | {"epochs": 120})
            training = Training(short, data.load("digits"), torch.device("cpu"))
            while not training.done:
                training.step()
            finished.append(Run(short, dict(training.history), training.final, measure.best(training.history), training.scores, {}))
    return finished


def test_trained_networks_lie_on_their_side_of_the_threshold(runs):
    table = imbalance_pages.trained_tails(runs)
    sizes = imbalance_pages.class_sizes(runs[0])
    assert sizes.tolist() == [140, 100, 71, 51, 36, 26, 19, 13, 9, 7]
    below, above = table[table["lambda_w"] == 0.02], table[table["lambda_w"] == 0.8]
    assert (below["size"] < sizes[-1] / 10).all() and (above["size"] > sizes[-3]).all()
    assert len(below) == len(above) == 2 and (above["distance"] < 0.05).all() and (below["distance"] > 0.4).all()
    assert (above["predicted_distance"] < 0.02).all() and (below["predicted_distance"] > 0.5).all()
    assert below["accuracy"].min() > above["accuracy"].max() + 0.2
    # old runs were measured without the tail: the table shows that it does not know
    final = {name: value for name, value in runs[0].final.items() if "tail" not in name}
    old = dataclasses.replace(runs[0], final=final)
    assert np.isnan(imbalance_pages.trained_tails([old])["distance"]).all() and "nan" not in imbalance_pages.trained_table([old])


def test_the_figure_draws_the_trained_tails(runs):
    figure, table = imbalance_pages.trained(runs), imbalance_pages.trained_tails(runs)
    drawn = np.concatenate([c.get_offsets().data for c in figure.axes[0].collections if len(c.get_offsets())])
    assert sorted(drawn[:, 1]) == pytest.approx(sorted(table["distance"]))
    matplotlib.pyplot.close(figure)
    longer = dataclasses.replace(runs[0], config=dataclasses.replace(runs[0].config, epochs=500))
    for part in (runs, runs[:1], runs[::2], [*runs, longer]):  # runs come in pieces
        text = imbalance_pages.trained_table(part)
        assert "nan" not in text and text.count("| 120 |") + text.count("| 500 |") == len(part)
        assert ("After 500 epochs" in text) == (longer in part)
        matplotlib.pyplot.close(imbalance_pages.trained(part))


def test_the_chapter_has_the_same_runs_in_every_profile():
    quick = catalog.configs("imbalance", "quick")
    assert len(quick) == 12 and {c.loss for c in quick} == {"ce", "bce"}
    for profile in catalog.PROFILES:
        assert catalog.configs("imbalance", profile) == quick and set(quick) <= set(catalog.all_configs(profile))
