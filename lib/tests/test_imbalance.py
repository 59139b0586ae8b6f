"""The chapter on imbalance: the threshold of minority collapse, and trained tails on both sides of it."""

import dataclasses

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bcebook import claims, frame, paper
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.report import markdown, tails
from bcebook.runs.store import Run
from bcebook.science import metrics, minority, theory
from bcebook.science.summaries import score_summary
from bcebook.training import datasets as data, measure
from bcebook.training.loop import Training
from bcebook.training.measure import Outputs

matplotlib.use("Agg")
chapter = rooms()["imbalance"]
TRAINED = ("side", "losses_alike", "time_helps", "costs")


def name(function):
    return chapter.definitions[function]


def judged(runs) -> dict:
    """Claim about networks -> its finding on these runs."""
    tested = [claim for claim in chapter.claims if not claim.theory]
    found = claims.judge(tested, frame.of(runs))
    return {each.name.partition(".")[2]: each.finding for each in found}


def test_bisection_finds_the_threshold_of_the_theorem_for_both_losses():
    table = tails.THRESHOLDS.frame
    assert len(table) == 10 and set(table["lambda_b"]) == {0, 0.01}
    np.testing.assert_allclose(table[["ce", "bce"]], 1, atol=0.001)


def test_neither_loss_opens_the_tail_further_in_general():
    """In relative distance. With free biases BCE does just above the threshold, but not for 60, 60, 30, 8, 8."""
    table = tails.opening((0.98, 1.05, 100.0)).set_index(["case", "lambda_b", "multiple"])
    assert (table.xs(0.98, level="multiple")[["ce", "bce"]] == 0).all(axis=None)  # merged
    assert table["ratio"].min() < 0.8 and table["ratio"].max() > 1.4
    near = table.xs((0.0, 1.05), level=("lambda_b", "multiple"))["ratio"]
    assert list(near.index[near < 1]) == ["2 × 60, 30, 2 × 8"]
    assert (table.xs((0.01, 1.05), level=("lambda_b", "multiple"))["ratio"] < 0.95).all()
    W = theory.solve("ce", 5, 5, None, *[np.sqrt(8 / 166 / 1.05)] * 2, 0.0, counts=np.array([60, 60, 30, 8, 8]) / 166).W
    assert table.loc[("2 × 60, 30, 2 × 8", 0.0, 1.05), "ce"] == pytest.approx(
        np.linalg.norm(W[3] - W[4]) / np.linalg.norm(W[0] - W[1]), rel=1e-5)


@pytest.mark.parametrize("loss", theory.LOSSES)
def test_the_two_sides_in_the_full_problem(loss):
    """With counts, N and unequal decays as the theorem states it, an own feature distance, and its formula for the
    rows."""
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


@pytest.mark.parametrize("features", theory.FEATURES)
def test_a_small_tail_merges_in_any_number_of_dimensions(features):
    """Random settings with fewer dimensions than classes: at 3 % fewer samples than the theorem's size rows, features
    and biases of the tail agree; at ten times that size, in two dimensions or more, some tails are open."""
    random, opened = np.random.default_rng(3), 0
    for trial in range(8):
        k = int(random.integers(4, 8))
        small, dim = int(random.integers(2, k)), int(random.integers(1, k))
        m, loss = float(random.integers(1, 8)), ("ce", "bce")[trial % 2]
        counts = np.array([*random.integers(8, 60, k - small), *[m] * small], float)
        lambda_h, lambda_b = 10 ** random.uniform(-4, -2), float(random.choice([0, 1e-3, 1e-2]))
        for factor in (0.97, 10.0):
            lambda_w = m / factor / counts.sum() ** 2 / lambda_h
            found = theory.solve(loss, k, dim, None, lambda_w, lambda_h, lambda_b, counts=counts, features=features)
            tail = slice(k - small, None)
            apart = max(np.ptp(found.W[tail], axis=0).max(), np.ptp(found.H[:, tail], axis=1).max())
            if factor < 1:
                assert apart < 1e-6 and np.ptp(found.b[tail]) < 1e-6
            elif dim > 1:
                opened += apart > 0.1
    assert opened >= 3


@pytest.mark.parametrize("loss", theory.LOSSES)
def test_the_inequality_behind_the_theorem_holds_away_from_any_minimum(loss):
    """f minus f with the tail averaged, against the sum that the proof bounds it by, at drawn W, H >= 0 and b with
    several samples a class; close to zero changes it is an equality to second order in the product."""
    random = np.random.default_rng(0)
    sizes, tail = np.array([5, 3, 2, 2, 2]), slice(2, None)
    labels = np.repeat(np.arange(5), sizes)
    of_tail, m, n = labels >= 2, 2, sizes.sum()

    def value(W, H, b, lambda_w, lambda_h):  # H (n, d): a row a sample
        Z = torch.tensor(H @ W.T - b)
        target = torch.tensor(labels)
        sigmoid = torch.nn.functional.binary_cross_entropy_with_logits
        each = (torch.nn.functional.cross_entropy(Z, target) if loss == "ce" else
                sigmoid(Z, torch.nn.functional.one_hot(target, 5).double(), reduction="sum") / n)
        return float(each) + lambda_w / 2 * (W**2).sum() + lambda_h / 2 * (H**2).sum()

    tight = []
    for trial in range(200):
        size = 10 ** random.uniform(-3, 0.5)
        W, H, b = (random.normal(size=shape) for shape in ((5, 3), (n, 3), 5))
        H = np.abs(H)
        for x, part in ((W, tail), (H, of_tail), (b, tail)):
            mean = x[part].mean(axis=0)
            x[part] = mean + size * (x[part] - mean)
        lambda_w, lambda_h = 10 ** random.uniform(-4, 0, 2)
        mean = [x.copy() for x in (W, H, b)]
        for x, part in zip(mean, (tail, of_tail, tail), strict=True):
            x[part] = x[part].mean(axis=0)
        assert mean[1].min() >= 0
        dW, dH = (W - mean[0])[labels[of_tail]], (H - mean[1])[of_tail]
        bound = (lambda_w / 2 / m * dW**2 + lambda_h / 2 * dH**2 - dW * dH / n).sum()
        gain = value(W, H, b, lambda_w, lambda_h) - value(*mean, lambda_w, lambda_h)
        assert gain >= bound - 1e-12
        tight.append((gain - bound) / (size * (1 + size)))
    assert min(tight) < 1e-2  # it is no loose bound


def test_only_shares_and_one_product_count():
    sizes = np.array([140, 30, 12, 7, 7])
    total, batch, decays = sizes.sum(), 64, (0.3, 7e-4)
    full = theory.solve("bce", 5, 5, None, decays[0], decays[1] * batch / total, 0.0, counts=sizes)
    short = minority.at_share("bce", sizes, batch * decays[0] * decays[1])
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
    # no three, not even two, on either side
    assert np.isnan(metrics.tail_geometry(weight[:3], counts[[0, 1, 5]]).cosine)


def test_a_finished_run_says_how_its_tail_lies():
    labels = torch.tensor([0] * 8 + [1] * 6 + [2] * 2 + [3] * 2)
    generator = torch.Generator().manual_seed(0)
    classifier = torch.nn.Linear(3, 4)
    features = torch.randn(18, 3, generator=generator)
    out = Outputs(features @ classifier.weight.detach().T, features, labels)
    figures = measure.final(classifier, out, out)[0]
    W = classifier.weight.detach().numpy()
    assert figures["tail_distance"] == pytest.approx(np.linalg.norm(W[2] - W[3]) / np.linalg.norm(W[0] - W[1]),
                                                     rel=1e-6)
    assert -1 <= figures["tail_cosine"] <= 1


def test_the_papers_long_tails_are_far_from_collapse():
    table = tails.cifar100_long_tailed().set_index("factor")
    assert dict(table["total"]) == {10: 19573, 50: 12608, 100: 10847}
    assert dict(table["smallest"]) == {10: 50, 50: 10, 100: 5}
    assert table.loc[100, "size"] == pytest.approx(10847 * 128 * 25e-8)
    published = paper.long_tailed().set_index(["imbalance_factor", "loss"])["accuracy"]
    assert table.loc[100, "bce"] == published[100, "bce"] == pytest.approx(0.5288)
    merge = 5e-4 * np.sqrt(5 / table.loc[100, "size"])
    assert theory.minority_collapse_size(10847, merge, merge, 128) == pytest.approx(5)
    text = name("long_tailed")().data
    assert f"{merge:.4f}" in text and "10,847" in text and "+1.4" in text and "5-image" in text


# ---- findings of theory ----------------------------------------------------------------------------------------------

def test_the_findings_of_theory_and_what_would_refute_them(monkeypatch):
    found = {each.name.partition(".")[2]: each.finding for each in claims.judge(chapter.claims)}
    assert {name: each.verdict for name, each in found.items()} == {
        "threshold": "proved", "same_threshold": "proved", "sides": "proved", "opens_further": "refuted",
        "far_from_collapse": "proved"}
    assert found["threshold"].n == 20 and found["threshold"].value <= minority.LAST_STEP < 4e-4
    assert found["opens_further"].n == 88 and found["far_from_collapse"].value < 0.1
    assert found["sides"].n == 36 and found["sides"].control.verdict == "refuted"  # a tail may lose its features first
    sides = tails.SIDES.frame
    for changed in (sides.assign(below=0.1), sides.assign(above=0.0, norm=1.0)):
        monkeypatch.setitem(vars(tails.SIDES), "frame", changed)
        assert tails.sides().verdict == "refuted"
    table = tails.THRESHOLDS.frame.copy()
    table.loc[3, "bce"] = 1.001  # BCE's tail would survive a thousandth more imbalance
    monkeypatch.setitem(vars(tails.THRESHOLDS), "frame", table)
    assert tails.threshold().verdict == tails.same_threshold().verdict == "refuted"
    wider = tails.opening(name("MULTIPLES")).assign(ratio=1.5)
    monkeypatch.setattr(tails, "opening", lambda multiples: wider)
    assert name("opens_further")().verdict == "open"  # nothing speaks against it, and there is no proof


# ---- trained networks ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def runs():
    """Both losses on both sides of the threshold, in fewer epochs than the chapter's."""
    finished = []
    for config in chapter.configs("quick"):
        if config.lambda_w in (0.02, 0.8):
            short = type(config).from_dict(config.to_dict() | {"epochs": 120})
            training = Training(short, data.load("digits"), torch.device("cpu"))
            while not training.done:
                training.step()
            finished.append(Run(short, dict(training.history), training.final, measure.best(training.history),
                                training.scores, {}))
    return finished


def test_trained_networks_lie_on_their_side_of_the_threshold(runs):
    table = tails.trained_tails(frame.of(runs))
    sizes = tails.class_sizes(runs[0])
    assert sizes.tolist() == [140, 100, 71, 51, 36, 26, 19, 13, 9, 7]
    open_, closed = (table[table["lambda_w"] == value] for value in (0.02, 0.8))
    assert len(open_) == len(closed) == 2 and (closed["size"] > 13).all() and (open_["size"] < 1).all()
    assert open_["distance"].min() > 0.3 and closed["distance"].max() < 0.1
    assert open_["test_accuracy"].min() > closed["test_accuracy"].max() + 0.2
    found = judged(runs)
    assert [found[each].verdict for each in TRAINED] == ["supported", "supported", "not run", "supported"]
    assert found["side"].n == 4 and set(found["side"].runs) == {run.config.key for run in runs}


def planted(distance: dict, accuracy: dict | None = None) -> list[Run]:
    """The chapter's runs with tails distance[loss, lambda_w, epochs] and accuracies by lambda_w."""
    made = []
    scores = {kind: score_summary(torch.ones(10)).to_dict() for kind in ("positive", "negative", "bias")}
    for config in chapter.configs("quick"):
        tail = distance[config.loss, config.lambda_w, config.epochs]
        final = {"test_accuracy": (accuracy or {}).get(config.lambda_w, 0.9), "test_uniform_accuracy": 0.8}
        final |= {} if tail is None else {"tail_distance": tail, "tail_cosine": 0.0}
        history = dict.fromkeys(("bias_mean", "train_loss"), [1.0] * (config.epochs + 1))
        made.append(Run(config, history, final, {}, {"train": scores, "test": scores}, {}))
    return made


@pytest.fixture(scope="module")
def model():
    """(loss, lambda_w, epochs) -> the relative distance at the minimum."""
    configs = chapter.configs("quick")
    blank = frame.of(planted({(c.loss, c.lambda_w, c.epochs): None for c in configs}))
    return {(r.loss, r.lambda_w, r.epochs): r.predicted_distance for r in tails.trained_tails(blank).itertuples()}


def verdicts(runs) -> list[str]:
    found = judged(runs)
    return [found[each].verdict for each in TRAINED]


def test_each_verdict_on_trained_networks_follows_from_its_cause(model):
    falling = {0.02: 0.9, 0.1: 0.85, 0.2: 0.8, 0.4: 0.7, 0.8: 0.5}
    near = {key: value * (0.99 if key[2] == 450 else 0.95) for key, value in model.items()}
    assert verdicts(planted(near, falling)) == ["supported"] * 4
    # the same accuracy everywhere
    assert verdicts(planted(near)) == ["supported", "supported", "supported", "contradicted"]
    slower = {key: value * (0.9 if key[2] == 450 else 0.95) for key, value in model.items()}
    assert verdicts(planted(slower, falling))[2] == "contradicted"
    bce_stays_open = near | {key: 0.5 for key in near if key[0] == "bce"}
    assert verdicts(planted(bce_stays_open, falling))[:2] == ["contradicted", "contradicted"]
    assert verdicts([]) == ["not run"] * 4
    one_side = [run for run in planted(near) if run.config.lambda_w == 0.02]
    assert verdicts(one_side) == ["not run", "supported", "not run", "not run"]
    alone = [run for run in planted(near) if run.config.loss == "ce"]
    assert verdicts(alone)[1] == "not run"
    unmeasured = planted(dict.fromkeys(model))  # runs of an engine that did not measure the tail
    assert verdicts(unmeasured)[:3] == ["not run"] * 3
    assert "nan" not in name("trained_table")(frame.of(unmeasured)).data


def test_seeds_and_lengths_limit_the_verdicts(model):
    """One seed is consistent at most, and half the planned runs are needed."""
    runs, planned = planted(model, {0.02: 0.9, 0.8: 0.5}), chapter.configs("quick")
    found = claims.judge(chapter.claims, frame.of(runs), planned)
    found = {each.name.partition(".")[2]: each.finding for each in found}
    assert {found[each].verdict for each in ("side", "losses_alike", "costs")} == {"consistent"}
    assert (found["time_helps"].planned, found["costs"].planned, found["side"].planned) == (4, 6, 8)


def test_figure_and_table_take_runs_in_pieces(runs):
    figure, table = name("trained")(frame.of(runs)), tails.trained_tails(frame.of(runs))
    drawn = np.concatenate([c.get_offsets().data for c in figure.axes[0].collections if len(c.get_offsets())])
    dots = drawn[np.isin(drawn[:, 1], table["distance"])]
    assert sorted(dots[:, 1]) == pytest.approx(sorted(table["distance"]))
    assert figure.axes[0].get_title() == "Classes of 7, 9 and 13 images"
    plt.close(figure)
    for part in (runs, runs[:1], runs[::2]):
        part = frame.of(part)
        text = name("trained_table")(part).data + name("result")(part).data
        text += markdown.findings(claims.judge(chapter.claims, part))
        assert "nan" not in text and text.count(">120<") == len(part)
        plt.close(name("trained")(part))
    nothing = frame.of([])
    assert "nothing to show" in name("trained_table")(nothing).data and "networks" not in name("result")(nothing).data
    plt.close(name("trained")(nothing))


def test_the_other_views_have_no_gaps():
    for view, rows in (("thresholds", 10), ("both_sides", 12), ("ratios", 8), ("long_tailed", 3)):
        text = name(view)().data
        assert "nan" not in text and text.count("<tr>") == rows + 1
    figure = name("opening")()
    assert [len(ax.lines) for ax in figure.axes] == [5] * 4  # two decays a loss, and the threshold
    plt.close(figure)


def test_the_chapter_has_the_same_runs_in_every_profile_but_quick_which_has_some_of_their_settings():
    every = {profile: chapter.configs(profile) for profile in PROFILES}
    assert every["laptop"] == every["paper"] and [len(every[p]) for p in ("quick", "laptop")] == [8, 12]
    alike = [{dataclasses.replace(c, model="mlp", epochs=1) for c in configs} for configs in every.values()]
    assert alike[0] < alike[1] and {c.loss for c in alike[0]} == {"ce", "bce"}
