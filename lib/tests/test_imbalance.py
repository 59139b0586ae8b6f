"""The chapter on imbalance: the threshold of minority collapse, and trained tails on both sides of it."""

import dataclasses

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bcebook import claims, frame, paper
from bcebook.book.chapter import OpenChapter
from bcebook.chapters.recipes import PROFILES
from bcebook.chapters.registry import rooms
from bcebook.paths import REPOSITORY
from bcebook.report import markdown, tails
from bcebook.runs.store import Run
from bcebook.science import minority, theory
from bcebook.science.summaries import score_summary
from bcebook.training import datasets as data, measure
from bcebook.training.loop import Training

matplotlib.use("Agg")
chapter = rooms()["imbalance"]
TRAINED = ("side", "losses_alike", "time_helps", "costs")


def name(function):
    return chapter.definitions[function]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Few of the page's many class sizes: below the threshold, just above it, and far."""
    monkeypatch.setitem(chapter.definitions, "MULTIPLES", (0.98, 1.05, 100))


def judged(runs) -> dict:
    """Claim about networks -> its finding on these runs."""
    tested = [claim for claim in chapter.claims if not claim.theory]
    found = claims.judge(tested, frame.of(runs))
    return {each.name.partition(".")[2]: each.finding for each in found}


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
    assert found["opens_further"].n == 4 * 2 * 2 and found["far_from_collapse"].value < 0.1
    assert found["sides"].n == 36 and found["sides"].control.verdict == "refuted"  # a tail may lose its features first
    sides = tails.SIDES.frame
    for changed in (sides.assign(below=0.1), sides.assign(above=0.0, norm=1.0)):
        monkeypatch.setitem(vars(tails.SIDES), "frame", changed)
        assert tails.sides().verdict == "refuted"
    table = tails.THRESHOLDS.frame.copy()
    table.loc[3, "bce"] = 1.001  # BCE's tail would survive a thousandth more imbalance
    monkeypatch.setitem(vars(tails.THRESHOLDS), "frame", table)
    assert tails.threshold().verdict == tails.same_threshold().verdict == "refuted"
    wider = tails.opening(name("CASES"), name("MULTIPLES")).assign(ratio=1.5)
    monkeypatch.setattr(tails, "opening", lambda cases, multiples: wider)
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


def test_the_runs_are_the_evidence_whatever_the_profile_is_called(tmp_path, monkeypatch):
    """The experiment has one size in all profiles but quick: its runs are shown once, under the name that was asked for."""
    (tmp_path / "recorded").symlink_to(REPOSITORY / "data" / "recorded")
    for profile, name in (("laptop", "laptop"), ("paper", "paper"), ("recorded", "laptop")):
        shown = []
        monkeypatch.setattr("bcebook.book.chapter.display", shown.append)
        opened = OpenChapter("imbalance", profile, "cpu", str(tmp_path))
        assert (opened.profile, len(opened.runs), len(opened.own)) == (name, 12, 12)
        opened.rebuilt(chapter.figures)
        assert len(shown) == 1 and "Only the profile above" in shown[0].data
