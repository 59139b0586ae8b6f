"""The chapter on the batch size: its predictions a second way, its verdicts on planted runs."""

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bcebook.chapters import batch_size as room
from bcebook.chapters import catalog, recipes
from bcebook.report import batches, frames, markdown
from bcebook.claims import judge
from bcebook.runs.store import Run
from bcebook.science import theory
from bcebook.science.summaries import score_summary
from bcebook.training import loop

BEYOND = 400  # a batch size whose runs the planted lists may break


def planted(config, positive, negative, bias, fitted=1.0, accuracy=0.9, uniform=0.8) -> Run:
    """A run with these medians, accuracies and share of fitted training images."""
    values = {"positive": positive, "negative": negative, "bias": bias}
    scores = {kind: score_summary(torch.full((10,), float(value))).to_dict() for kind, value in values.items()}
    final = {"train_accuracy": fitted, "test_accuracy": accuracy, "test_uniform_accuracy": uniform}
    history = {"epoch": [0.0, 1.0], "bias_mean": [config.bias_init_mean, bias]}
    return Run(config, history, final, {}, {"train": scores, "test": scores}, {})


def at_minimum(config, **changes) -> Run:
    """A run whose scores and bias are those of the minimum for its batch size."""
    c = theory.effective_c(config.lambda_w, config.lambda_h, config.batch_size, 10)
    positive, negative, bias = batches.minimum(frames.features(config.model), config.loss, 10, c)
    return planted(config, positive, negative, 0.0 if config.loss == "ce" else bias, **changes)


def verdicts(runs) -> dict:
    return {j.name.partition(".")[2]: j.finding.verdict for j in judge(room.ROOM.claims, runs) if not j.name.endswith(
        ("effective", "gap_formula"))}


def shown(runs) -> str:
    """Everything that the chapter writes about these runs; its figures are drawn, too."""
    for draw in room.ROOM.figures:
        plt.close(draw(runs))
    return "\n".join([*(table(runs).markdown() for table in room.ROOM.tables),
                      markdown.findings(judge(room.ROOM.claims, runs))])


# ---- predictions

@pytest.mark.parametrize("lambda_b", [0.0, 5e-5, 3e-4, 5e-3])
@pytest.mark.parametrize("features", ["free", "nonnegative"])
def test_scores_at_a_bias_are_those_of_the_minimum_whose_decay_of_the_bias_leads_there(features, lambda_b):
    """A minimum over W, H and b is one over W and H at its own b, whatever the decay of b is that led there."""
    c = 5e-4 * 12.8**0.5
    best = theory.minimum("bce", 10, c, lambda_b, features)
    found = theory.resting_scores(10, c, best.bias, features)
    assert found == pytest.approx((best.positive, best.negative), abs=2e-3)


@pytest.mark.parametrize("bias", [-3.0, 1.0, 9.0, 14.0])
def test_scores_at_a_bias_beyond_every_minimum_are_the_lowest_of_a_grid(bias):
    c, k = 0.004, 5
    p, q = np.meshgrid(np.linspace(-5, 20, 501), np.linspace(-10, 15, 501))
    f = np.logaddexp(0, bias - p) + (k - 1) * np.logaddexp(0, q - bias)
    f += k * c * ((k - 1) / k * np.abs(p - q) + np.abs(p + (k - 1) * q) / k)  # K c (s + |o|)
    at = np.unravel_index(f.argmin(), f.shape)
    assert theory.resting_scores(k, c, bias) == pytest.approx((p[at], q[at]), abs=0.06)


def test_the_gap_is_that_of_a_plain_minimisation_and_falls_by_half_a_log_or_a_log_per_doubling():
    for loss in recipes.LOSSES:
        found = theory.solve(loss, 4, 4, per_class=1, lambda_w=0.02, lambda_h=0.02, restarts=3)
        Z = found.W @ found.H
        assert Z[0, 0] - Z[0, 1] == pytest.approx(batches.gap_formula(loss, 4, 0.02), abs=1e-5)
        gap = [batches.gap_formula(loss, 10, c) for c in (1e-5, 1e-5 * math.sqrt(2))]
        assert gap[0] - gap[1] == pytest.approx(math.log(2) / (2 if loss == "ce" else 1), abs=1e-3)


def test_mini_batches_minimise_the_model_only_if_the_feature_decay_is_a_sum(monkeypatch):
    assert room.effective().verdict == room.gap_formula().verdict == "proved"
    summed = loop.penalty
    monkeypatch.setattr(loop, "penalty", lambda config, head, h: summed(config, head, h / math.sqrt(len(h))))  # a mean
    assert room.effective().verdict == "refuted"
    # and a mean stands for lambda_h / N, which has no batch size in it
    assert batches.gradient_error("bce", 2) > 1e-2


# ---- runs

@pytest.mark.parametrize("profile", catalog.PROFILES)
def test_beside_batch_rate_and_start_all_runs_are_one(profile):
    configs = room.configs(profile, 0)
    assert len(configs) == len(set(configs)) == 2 * len(room.BATCHES[profile]) >= 6
    assert len({c.learning_rate / c.batch_size for c in configs}) == 1
    same = {dataclasses.replace(c, batch_size=128, learning_rate=1, loss="ce", bias_init_mean=0) for c in configs}
    assert len(same) == 1 and {c.lambda_b for c in configs} == {0} and {c.augmentation for c in configs} == {"none"}


def test_the_runs_with_the_papers_batch_size_are_other_chapters_too():
    of = {p: {c for c in room.configs(p, 0) if c.batch_size == recipes.BATCH_SIZE} for p in catalog.PROFILES}
    for profile in ("quick", "paper"):
        assert of[profile] <= set(catalog.configs("initial_bias", profile))
    assert {c.loss for c in of["laptop"] & set(catalog.configs("neural_collapse", "laptop"))} == {"ce"}


# ---- verdicts

@pytest.mark.parametrize("profile", catalog.PROFILES)
def test_networks_at_the_minimum_support_every_claim_on_scores(profile):
    runs = [at_minimum(config) for config in room.configs(profile, 0)]
    found = verdicts(runs)
    assert found.pop("accuracy") == found.pop("uniform") == "undecided"  # equal, and one seed
    assert set(found.values()) == {"supported"} and len(found) == 10
    assert "nan" not in shown(runs)
    kind = {"paper": "of zero or above"}.get(profile, "of either sign")
    assert f"with features {kind};" in room.measured(runs).markdown()


def change(runs, bias=0.0, scale=1.0, which=recipes.LOSSES):
    """The scores of some runs scaled, BCE's bias moved."""
    found = []
    for run in runs:
        values = [batches.frames.summary(run, "train", kind).median for kind in ("positive", "negative", "bias")]
        if run.config.loss in which:
            values = [scale * values[0], scale * values[1], values[2] + bias * (run.config.loss == "bce")]
        found.append(planted(run.config, *values))
    return found


def test_each_verdict_can_be_the_other():
    runs = [at_minimum(config) for config in room.configs("quick", 0)]
    lower = verdicts(change(runs, scale=0.9))
    assert lower["ce_gap"] == lower["bce_gap"] == lower["bce_gap_at_bias"] == "contradicted"
    assert {lower[name] for name in ("scores_fall", "gap_follows", "twice", "bias_there")} == {"supported"}
    assert verdicts(change(runs, bias=-0.5))["bias_there"] == "contradicted"
    flat = [planted(run.config, 5.0, -1.0, 5.0) for run in runs]  # as if the decay were a mean over the batch
    found = verdicts(flat)
    assert {found[n] for n in ("scores_fall", "gap_follows", "bias_falls", "ce_gap")} == {"contradicted"}
    assert found["twice"] == "not run"  # no change, no ratio
    alike = [planted(r.config, -math.log(r.config.batch_size), 0.0, 5.0) for r in runs]  # one slope for both
    assert verdicts(alike)["twice"] == "contradicted" and verdicts(alike)["same_order"] == "supported"
    turned = [planted(r.config, (1 if r.config.loss == "ce" else -1) * r.config.batch_size, 0.0, 5.0) for r in runs]
    assert verdicts(turned)["same_order"] == "contradicted"


def test_the_minimum_at_the_networks_own_bias_explains_a_slow_bias():
    """BCE's networks whose bias came from above and stayed behind, with W and H at the minimum there: the gap tells the
    batch at that bias, and does not at the free one, from which it is a batch size away."""
    runs = []
    for config in room.configs("quick", 0):
        c = theory.effective_c(config.lambda_w, config.lambda_h, config.batch_size, 10)
        bias = batches.minimum("free", "bce", 10, c)[2] + 0.9
        runs += [planted(config, *theory.resting_scores(10, c, bias), bias)] * (config.loss == "bce")
    found = verdicts(runs)
    assert (found["bce_gap"], found["bce_gap_at_bias"]) == ("contradicted", "supported")
    claim = next(c for c in room.ROOM.claims if c.name == "batch_size.bce_gap_at_bias")
    assert claim.judge(runs).control.verdict == "contradicted"
    assert found["ce_gap"] == found["twice"] == found["same_order"] == found["accuracy"] == "not run"


def test_networks_that_do_not_fit_are_named_and_left_out():
    runs = [at_minimum(c) if c.batch_size < BEYOND else planted(c, 0.3, 0.0, 2.0, fitted=0.4)
            for c in room.configs("quick", 0)]
    found = verdicts(runs)
    assert found.pop("fits") == "contradicted" and found.pop("accuracy") == found.pop("uniform") == "undecided"
    assert set(found.values()) == {"supported"}
    text = shown(runs)
    assert "Not by CE at 512 and BCE at 512." in text and "left out where networks" in text and "nan" not in text
    assert 512 in set(room.accuracies(runs).frame["batch"]) and 512 not in set(room.gaps(runs).frame["batch"])
    nothing = [planted(run.config, 0.3, 0.0, 2.0, fitted=0.4) for run in runs]
    assert set(verdicts(nothing).values()) == {"contradicted", "undecided", "not run"} and "nan" not in shown(nothing)


def test_accuracies_are_judged_over_seeds():
    def seeds(lead: float):
        return [at_minimum(c, accuracy=0.9 + 0.001 * s + (lead + 0.001 * (s % 2)) * (c.loss == "bce"), uniform=0.8)
                for s in range(5) for c in room.configs("laptop", s)]
    assert verdicts(seeds(0.05))["accuracy"] == "supported" and verdicts(seeds(-0.05))["accuracy"] == "contradicted"
    assert verdicts(seeds(0.0))["uniform"] == "undecided"
    assert "5 seeds" in room.accuracies(seeds(0.05)).markdown()


def test_parts_of_the_runs_and_none_are_shown_without_a_verdict_from_nothing():
    runs = [at_minimum(config) for config in room.configs("quick", 0)]
    for part in (runs[:1], runs[1:2], runs[:2], runs[2:5], [r for r in runs if r.config.loss == "ce"]):
        assert "nan" not in shown(part)
    one, several = verdicts(runs[:2]), ("scores_fall", "gap_follows", "twice", "bce_gap", "same_order", "bias_falls")
    assert {one[name] for name in several} == {"not run"}
    assert set(verdicts([]).values()) == {"not run"}
    assert shown([]).count("There is nothing to show here yet.") == 4


def test_the_bias_cannot_go_further_near_the_minimum_than_the_table_says():
    """The gradient on the bias at the minimum over W and H, (u - (K - 1) v) / K, is at most c in size."""
    for features in ("free", "nonnegative"):
        for bias in (-2.0, 0.0, 3.0, 5.0, 8.0, 12.0):
            positive, negative = theory.resting_scores(10, 0.002, bias, features)
            u, v = 1 / (1 + math.exp(positive - bias)), 1 / (1 + math.exp(bias - negative))
            assert abs(u - 9 * v) / 10 <= 0.002 * 1.001
    runs = [at_minimum(config) for config in room.configs("laptop", 0)]
    frame = room.biases(runs).frame.set_index("batch")
    assert (frame["reach"] / frame["rates"]).to_dict() == pytest.approx(
        {b: 5e-4 * math.sqrt(b / 10) for b in (32, 128, 512)})
