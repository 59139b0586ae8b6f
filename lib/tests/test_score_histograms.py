"""The chapter on the histograms of scores: its verdicts on planted runs and on the recorded ones."""

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bcebook.chapters import catalog, recipes
from bcebook.chapters import score_histograms as room
from bcebook import claims
from bcebook.report import markdown
from bcebook.runs.store import Run
from bcebook.science.summaries import score_summary


def planted(config, lost: float, threshold: float, wide: float = 0.5, bias: float = 4.0, images: int = 400) -> Run:
    """A run whose scores lie around 8 and -2, `wide` to either side, with this best threshold (in logits) and this
    share of the test set lost to it."""
    values = {"positive": torch.linspace(8 - wide, 8 + wide, images), "bias": torch.full((10,), bias),
              "negative": torch.linspace(-2 - wide, -2 + wide, 9 * images)}
    scores = {kind: score_summary(each.double()).to_dict() for kind, each in values.items()}
    final = {"test_accuracy": 0.95, "test_uniform_accuracy": 0.95 - lost, "train_uniform_threshold": threshold}
    return Run(config, {"epoch": [0.0]}, final, {}, {"train": scores, "test": scores}, {})


def runs_of(bce: dict, ce: dict) -> list[Run]:
    configs = [c for c in catalog.configs("neural_collapse", "laptop", (0,)) if c.model == "resnet8"]
    return [planted(config, **(bce if config.loss == "bce" else ce)) for config in configs]


def judged(runs) -> dict:
    return {each.name.rpartition(".")[2]: each.finding for each in claims.judge(room.ROOM.claims, runs)}


def verdicts(runs) -> list[str]:
    return [finding.verdict for finding in judged(runs).values()]


GOOD, BAD = dict(lost=0.02, threshold=-0.5, wide=0.5), dict(lost=0.2, threshold=4.0, wide=1.5)


def test_each_verdict_follows_from_its_cause():
    as_claimed = runs_of(GOOD, BAD)
    assert verdicts(as_claimed) == ["supported"] * 3
    assert judged(as_claimed)["bias_is_threshold"].control.verdict == "contradicted"
    assert verdicts(runs_of(BAD, GOOD)) == ["contradicted"] * 3
    alike = runs_of(GOOD, GOOD | dict(lost=0.025))  # two images of 400 apart
    assert verdicts(alike) == ["undecided", "contradicted", "supported"]  # equal spreads: not less
    assert judged(alike)["bias_is_threshold"].control.verdict == "supported"  # the test does not tell the losses apart
    one = [*as_claimed]
    one[0] = planted(one[0].config, **(BAD | dict(lost=0.4)))  # one network of BCE that loses more
    assert verdicts(one) == ["contradicted"] * 3
    assert verdicts([run for run in as_claimed if run.config.loss == "ce"]) == ["not run"] * 3
    assert verdicts([run for run in as_claimed if run.config.loss == "bce"]) == ["not run", "not run", "supported"]
    assert verdicts([]) == ["not run"] * 3
    lost = dataclasses.replace(as_claimed[0], final=as_claimed[0].final | {"train_uniform_threshold": math.nan})
    assert verdicts([lost]) == ["not run"] * 3  # a missing threshold decides nothing


def test_the_interval_over_images_covers_what_it_says():
    """Two networks that lose images independently, drawn again and again: 95 % of the intervals hold the difference."""
    random, config = np.random.default_rng(0), room.ROOM.configs("quick")[0]
    n, bce, ce, inside, least = 1000, 0.05, 0.09, 0, 0
    for _ in range(400):
        a, b = (planted(config, random.binomial(n, p) / n, 0.0, images=n) for p in (bce, ce))
        part = room.fewer_in(a, b, "x")
        inside += part.low <= bce - ce <= part.high
        least += (part.verdict == "supported") == (part.p < 0.05 and part.value < 0)
    assert 0.92 < inside / 400 < 0.98 and least == 400
    same = room.fewer_in(planted(config, 0.0, 0.0), planted(config, 0.0, 0.0), "x")
    assert same.verdict == "undecided" and same.p == 1


def test_distance_and_spread_by_hand():
    run = planted(room.ROOM.configs("quick")[0], lost=0.02, threshold=-0.5, wide=0.5)
    assert room.gap(run) == pytest.approx(10) and room.distance(run) == pytest.approx(0.05)
    assert room.spread(run) == pytest.approx(2 / math.sqrt(12) / 10, rel=0.01)  # two uniform stretches of length 1
    assert room.lost(run) == pytest.approx(0.02)
    row, = room.thresholds([run]).frame.to_dict("records")
    assert (row["images"], row["of"], row["threshold"], row["bias"]) == (8, 400, pytest.approx(3.5), pytest.approx(4))


def test_its_runs_are_the_accuracy_chapters_own():
    for profile in recipes.PROFILES:
        ours = room.ROOM.configs(profile)
        assert set(ours) <= set(catalog.configs("accuracy", profile))
        assert len({config.augmentation for config in ours}) == 1
    assert len(room.ROOM.configs("quick")) == 4 and len(room.ROOM.configs("laptop")) == 4
    assert {(c.model, c.dataset) for c in room.ROOM.configs("paper")} == {("resnet18", "cifar10")}
    assert {c.augmentation for c in room.ROOM.configs("quick")} == {"da1"}


def test_figure_and_table_stand_parts_of_their_runs(eight):
    for part in (eight, eight[:1], eight[1:2], eight[::3], [r for r in eight if r.config.loss == "ce"]):
        plt.close(room.histograms(part))
        assert "nan" not in room.thresholds(part).markdown() + markdown.findings(claims.judge(room.ROOM.claims, part))
    # Over several seeds a pair is a network, an optimizer and a seed.
    again = [dataclasses.replace(run, config=dataclasses.replace(run.config, seed=1)) for run in eight]
    assert len(room.pairs(eight + again)) == 8 and "seed 1" in room.thresholds(eight + again).markdown()


def test_the_recorded_runs_say_what_their_files_say(eight):
    """Recomputed from the stored figures alone."""
    apart = {"ce": [], "bce": []}
    for run in eight:
        middle = {kind: run.scores["train"][kind]["quantiles"][5] for kind in ("positive", "negative")}
        threshold = abs(run.final["train_uniform_threshold"])
        apart[run.config.loss].append(threshold / (middle["positive"] - middle["negative"]))
    finding = judged(eight)["bias_is_threshold"]
    assert finding.value == pytest.approx(max(apart["bce"]))
    assert finding.control.value == pytest.approx(max(apart["ce"]))
    assert max(apart["bce"]) < min(apart["ce"]) and finding.verdict == "supported"
    assert [part.verdict for part in judged(eight)["fewer_lost"].parts].count("supported") == 3
