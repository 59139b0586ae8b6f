"""What reviewers asked: the runs that are compared, the scales of the heads, and every verdict from its cause."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bcebook.chapters import catalog
from bcebook.chapters import variations as room
from bcebook import claims
from bcebook.report import markdown
from bcebook.runs.store import Run
from bcebook.science import theory
from bcebook.science.summaries import score_summary

KINDS = ("positive", "negative", "bias")
SCORES = {kind: score_summary(torch.linspace(-1, 1, 50).double()).to_dict() for kind in KINDS}


def planted(change) -> list[Run]:
    """The quick runs of three seeds; change(variation, loss, seed) -> what differs from the plain final figures."""
    runs = []
    for config in catalog.configs("variations", "quick", range(3)):
        wobble = 0.001 * math.cos(2.5 * config.seed + (config.loss == "bce"))
        final = {"test_accuracy": 0.9 + wobble, "test_uniform_accuracy": 0.8 + wobble, "train_accuracy": 1.0,
                 "train_nc1": 0.01, "test_compactness": 0.8 + wobble}
        for name, value in change(room.told(config), config.loss, config.seed).items():
            final[name] = value + (wobble if name != "train_nc1" else 0)
        runs.append(Run(config, {"epoch": [0.0]}, final, {}, {"train": SCORES, "test": SCORES}, {}))
    return runs


def verdicts(runs) -> dict:
    return {j.name.partition(".")[2]: j.finding.verdict for j in claims.judge(room.ROOM.claims, runs)}


def as_claimed(variation, loss, seed) -> dict:
    found = {"test_uniform_accuracy": 0.85 if loss == "bce" else 0.8}
    if variation == "fixed simplex ETF":
        found["test_accuracy"] = 0.88
    if variation == "no bias":
        found["test_uniform_accuracy"] -= 0.02
    if variation == "cosine scores" and loss == "ce":
        found["test_uniform_accuracy"] = 0.83
    if "+" in variation:
        found["test_compactness"] = 0.7
    return found


def test_each_verdict_follows_from_its_cause():
    assert set(verdicts(planted(as_claimed)).values()) == {"supported"}

    def turned(variation, loss, seed):
        found = {name: 2 * plain - as_claimed(variation, loss, seed).get(name, plain) for name, plain in (
            ("test_accuracy", 0.9), ("test_uniform_accuracy", 0.8), ("test_compactness", 0.8))}
        return found | {"train_nc1": 0.5}

    assert set(verdicts(planted(turned)).values()) == {"contradicted"}
    alike = verdicts(planted(lambda *_: {}))
    assert set(alike.values()) == {"undecided", "supported"}  # NC1 of the random labels alone is small
    assert alike["random_collapse"] == "supported"
    assert set(verdicts([]).values()) == {"not run"}


def test_normalised_asks_of_ce_and_has_bce_beside_it():
    finding = room.normalised(planted(as_claimed))
    assert finding.value == pytest.approx(-0.03, abs=0.003) and finding.control.value == pytest.approx(0, abs=0.003)
    assert finding.control.label == "the same test on BCE" and not finding.label


@pytest.mark.parametrize("profile", catalog.PROFILES)
def test_one_thing_is_changed_at_a_time(profile):
    configs = catalog.configs("variations", profile)
    found = room.groups([Run(c, {}, {}, {}, {}, {}) for c in configs])
    assert len(found) == 11 and all(set(losses["bce"]) == set(losses["ce"]) for losses in found.values())
    plain = {c.loss: c.to_dict() for c in configs if room.told(c) == room.PLAIN and c.seed == 0}
    changed = {}
    for config in configs:
        if config.decay == "decoupled" and config.seed == 0:
            differs = {name for name, value in config.to_dict().items() if value != plain[config.loss][name]}
            changed[room.told(config)] = differs
    assert changed == {
        "as it is": set(), "fixed simplex ETF": {"head", "scale"}, "no bias": {"bias"},
        "fixed simplex ETF, no bias": {"head", "scale", "bias"}, "random labels": {"random_labels"},
        "classifier's decay times 10": {"lambda_w"}, "classifier starts 4 times as large": {"weight_start"},
        "cosine scores": {"head", "scale", "lambda_w", "lambda_h"}}


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_a_fixed_classifier_has_the_length_of_the_minimum(loss):
    """Against a plain minimisation over W, H and b with the engine's effective decay."""
    config = next(c for c in catalog.configs("variations", "quick") if c.loss == loss and c.head == "etf")
    per_class = 6
    lambda_h = config.lambda_h * config.batch_size / (10 * per_class)  # of f, where a batch is all there is
    found = theory.solve(loss, 10, 12, per_class=per_class, lambda_w=config.lambda_w, lambda_h=lambda_h, restarts=2)
    lengths = np.linalg.norm(found.W, axis=1)
    assert lengths == pytest.approx(config.scale, rel=1e-3)


def test_the_views_stand_parts_of_their_runs():
    every = planted(as_claimed)
    for part in (every, every[:1], [r for r in every if r.config.seed == 0],
                 [r for r in every if r.config.loss == "ce"]):
        text = room.measured(part).markdown() + markdown.findings(claims.judge(room.ROOM.claims, part))
        assert "nan" not in text and "None" not in text
        plt.close(room.differences(part))
    assert set(verdicts([r for r in every if r.config.loss == "ce"]).values()) <= {"not run", "supported"}
