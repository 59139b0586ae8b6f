"""The chapter on the decay of the bias: its verdicts on planted runs and on the recorded ones."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bcebook.chapters import bias_decay as room
from bcebook.paths import REPOSITORY
from bcebook import claims
from bcebook.report import frames, markdown
from bcebook.runs.store import Run, open_store
from bcebook.science.summaries import score_summary

IMAGES = 1280  # ten batches an epoch


def planted(config, end: float, positive: float, negative: float, start: float = 10.0) -> Run:
    """A run whose biases go from start to end, with these medians of scores."""
    kinds = {"positive": positive, "negative": negative, "bias": end}
    scores = {kind: score_summary(torch.full((10 if kind == "bias" else IMAGES,), float(value))).to_dict()
              for kind, value in kinds.items()}
    return Run(config, {"epoch": [0.0, 1.0], "bias_mean": [start, end]}, {}, {}, {"train": scores, "test": scores}, {})


def as_claimed(config) -> Run:
    """What the paper claims: CE's bias follows the decay alone, BCE's stays between scores that follow it."""
    still = planted(config, 10.0, 6.0, -1.0)
    if config.optimizer == "adamw":
        bias = 10 - frames.rates_sum(still) * config.lambda_b / (config.lambda_b + 1e-3)
    else:
        bias = room.step_by_step(still) if config.loss == "ce" else 5 / (1 + 100 * config.lambda_b)
    return planted(config, bias, 6.0, -1.0) if config.loss == "ce" else planted(config, bias, bias + 4, bias - 6)


@pytest.fixture(scope="module")
def configs():
    return [dataclasses.replace(config, epochs=60) for config in room.ROOM.configs("laptop")]


def judged(runs) -> dict[str, str]:
    return {each.name.rpartition(".")[2]: each.finding.verdict for each in claims.judge(room.ROOM.claims, runs)}


def test_each_verdict_follows_from_its_cause(configs):
    good = [as_claimed(config) for config in configs]
    claimed = ("ce_goes_down", "ce_scores_stay", "bce_between", "ce_predicted", "adamw_reach")
    everything = dict.fromkeys(claimed, "supported")
    assert judged(good) == everything
    assert judged([]) == dict.fromkeys(everything, "not run")

    def but(change):
        return judged([change(run) for run in good])

    def where(loss, change):
        return lambda run: change(run) if run.config.loss == loss else run

    stuck = but(where("ce", lambda r: planted(r.config, 10.0, 6.0, -1.0)))  # CE's biases do not move
    assert stuck == everything | {"ce_goes_down": "contradicted", "ce_predicted": "contradicted"}
    backwards = but(where("ce", lambda r: planted(r.config, 10 - 1e-7 / r.config.lambda_b, 6.0, -1.0)))
    assert backwards["ce_goes_down"] == "contradicted"
    touched = but(where("ce", lambda r: planted(r.config, r.history["bias_mean"][-1], 6 + r.config.lambda_b, -1.0)))
    assert touched == everything | {"ce_scores_stay": "contradicted"}
    outside = but(where("bce", lambda r: planted(r.config, 9.9, 10.5, 9.95 if r.config.lambda_b > 0.1 else 0.0)))
    assert outside == everything | {"bce_between": "contradicted"}
    leapt = but(lambda r: planted(r.config, 10 - 1.2 * frames.rates_sum(r), 20.0, -1.0))
    assert leapt["adamw_reach"] == "contradicted"


def test_the_controls_stand_beside_their_claims(configs):
    good = [as_claimed(config) for config in configs]
    assert room.ce_goes_down(good).control.verdict == "supported"  # BCE's go down too: what differs is the scores
    assert room.ce_scores_stay(good).control.verdict == "contradicted" == room.bce_between(good).control.verdict
    assert room.ce_predicted(good).control.verdict == "contradicted"  # AdamW does not follow the exponential
    only_ce = [run for run in good if run.config.loss == "ce"]
    assert room.bce_between(only_ce).verdict == room.ce_scores_stay(only_ce).control.verdict == "not run"
    one_decay = [run for run in good if run.config.lambda_b == 0.05]
    assert judged(one_decay)["ce_goes_down"] == judged(one_decay)["ce_scores_stay"] == "not run"  # nothing to compare


def test_step_by_step_is_the_optimizer_itself(configs):
    """PyTorch's SGD on lambda_b/2 b^2 alone, with a run's own rates; the exponential is near it for small steps."""
    config = next(c for c in configs if (c.loss, c.optimizer, c.lambda_b) == ("ce", "sgd", 5e-3))
    run = planted(dataclasses.replace(config, epochs=20), 0.0, 6.0, -1.0)
    bias = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([bias], lr=1.0, momentum=0.9)
    for epoch in range(1, 21):
        optimizer.param_groups[0]["lr"] = run.config.rate(epoch)
        for _ in range(IMAGES // 128):
            optimizer.zero_grad()
            (run.config.lambda_b / 2 * bias**2).backward()
            optimizer.step()
    assert room.step_by_step(run) == pytest.approx(bias.item(), rel=1e-12)
    weak = planted(dataclasses.replace(config, lambda_b=5e-6, epochs=60), 0.0, 6.0, -1.0)
    assert room.step_by_step(weak) == pytest.approx(frames.ce_bias_under_decay(weak), abs=1e-3)
    assert abs(room.step_by_step(weak) - 10) > 1e-3  # it is not that nothing happens


def test_table_and_figure_stand_a_part_of_the_runs(configs):
    good = [as_claimed(config) for config in configs]
    other = [dataclasses.replace(r, config=dataclasses.replace(r.config, dataset="cifar10")) for r in good[:7]]
    for part in (good, good + other, good[:1], good[1:2], good[::3], [r for r in good if r.config.loss == "ce"]):
        text = room.medians(part).markdown() + markdown.findings(claims.judge(room.ROOM.claims, part))
        assert "nan" not in text and ("ResNet8 on CIFAR10" in text) == (len(part) > len(good))
        plt.close(room.decay_sweep(part))


def test_the_table_shows_the_planted_numbers_beside_the_papers(configs):
    second = [dataclasses.replace(config, seed=1) for config in configs]
    runs = [as_claimed(config) for config in configs]
    higher = [planted(r.config, r.history["bias_mean"][-1] + 0.5, 6.0, -1.0) for r in map(as_claimed, second)]
    frame = room.medians(runs + higher).frame.set_index(["setting", "lambda_b"])
    assert len(frame) == len(runs)  # seeds are averaged
    assert list(frame.loc["BCE, SGD"].index) == sorted(room.recipes.LAMBDA_B, reverse=True)
    assert frame.loc[("BCE, SGD", 0.05), "bias"] == pytest.approx(5 / 6 + 0.25)
    assert frame.loc[("BCE, SGD", 5e-4), "predicted"] == pytest.approx(3.5777, abs=1e-3)
    assert frame.loc[("CE, SGD", 0.5), "predicted"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(frame.loc[("CE, AdamW", 0.5), "predicted"])
    assert frame.loc[("CE, SGD", 5e-4), "ResNet18"] == 4.1  # read off the paper's figure


def test_the_recorded_sweep_says_what_its_files_say():
    """Decay takes CE's bias down as predicted, and BCE's no further than the scores: from the files alone."""
    store = open_store(REPOSITORY / "data")
    runs = [run for config in room.ROOM.configs("laptop") if (run := store.find(config))]
    assert len(runs) == 24
    for run in runs:
        config, bias, end = run.config, frames.summary(run, "train", "bias"), run.history["bias_mean"][-1]
        if (config.loss, config.optimizer) == ("ce", "sgd"):
            assert abs(end - frames.ce_bias_under_decay(run)) < 0.01 + 0.05 * end, config.describe()
            assert abs(end - room.step_by_step(run)) < 1e-4  # nothing else moves the mean, but rounding
        elif config.loss == "bce":
            positive, negative = (frames.summary(run, "train", kind).median for kind in ("positive", "negative"))
            assert negative < bias.median < positive, config.describe()
        if config.optimizer == "adamw":
            assert abs(end - run.history["bias_mean"][0]) < 1.1 * frames.rates_sum(run)
    assert set(judged(runs).values()) == {"supported"}
    assert room.ce_predicted(runs).control.value > 1 > 0.02 > room.ce_scores_stay(runs).value
