"""The chapter on compactness and distinctiveness: its formulas a second way, its verdicts on planted runs."""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from bcebook.chapters import compactness as room
from bcebook.chapters import recipes
from bcebook import claims
from bcebook.report import markdown
from bcebook.runs.store import Run
from bcebook.science import metrics
from bcebook.science.summaries import score_summary

FIGURES = ("test_compactness", "train_compactness", "test_distinctiveness", "train_distinctiveness")
NAMES = ("test_compact", "train_compact", "test_distinct", "train_distinct", "closest_apart")


def planted(config, figures: dict[str, float]) -> Run:
    scores = {kind: score_summary(torch.full((10,), 1.0)).to_dict() for kind in ("positive", "negative", "bias")}
    return Run(config, {"epoch": [0.0]}, figures, {}, {"train": scores, "test": scores}, {})


def quick(gain, cosine=None) -> list[Run]:
    """The quick profile with five seeds, in which BCE's figures are above CE's by gain(figure, setting, seed); cosine(setting, seed) is
    the gain in the largest cosine, None: not measured."""
    settings, runs = [], []
    for config in room.ROOM.configs("quick", range(5)):
        key = (config.augmentation, config.optimizer)
        settings += [key] if key not in settings else []
        at, bce = settings.index(key), config.loss == "bce"
        base = 0.8 + 0.01 * math.sin(config.seed)
        figures = {name: base + (gain(name, at, config.seed) if bce else 0) for name in FIGURES}
        if cosine:
            figures[f"test_{room.CLOSEST}"] = 0.3 + (cosine(at, config.seed) if bce else 0)
        runs.append(planted(config, figures))
    return runs


def verdicts(runs) -> list[str]:
    found = {each.name.rpartition(".")[2]: each.finding.verdict for each in claims.judge(room.ROOM.claims, runs)}
    return [found[name] for name in NAMES]


def wobble(seed: int) -> float:
    return 0.002 * math.cos(2.5 * seed)


def test_each_verdict_follows_from_its_cause():
    higher = quick(lambda name, at, seed: 0.02 + wobble(seed), lambda at, seed: -0.05 + wobble(seed))
    assert verdicts(higher) == ["supported"] * 5  # a lower cosine is farther apart
    lower = quick(lambda name, at, seed: -0.02 + wobble(seed), lambda at, seed: 0.05 + wobble(seed))
    assert verdicts(lower) == ["contradicted"] * 5
    mixed = quick(lambda name, at, seed: (0.02 if "compactness" in name or at else -0.02) + wobble(seed))
    assert verdicts(mixed) == ["supported", "supported", "contradicted", "contradicted", "not run"]
    noise = quick(lambda name, at, seed: 0.0005 + wobble(seed), lambda at, seed: wobble(seed))
    assert verdicts(noise) == ["undecided"] * 5
    assert verdicts([run for run in higher if run.config.seed == 3]) == ["undecided"] * 5
    for nothing in ([], higher[:1], [run for run in higher if run.config.loss == "bce"]):
        assert verdicts(nothing) == ["not run"] * 5


def test_both_experiments_are_there_in_the_accuracy_chapters_seeds():
    configs = room.ROOM.configs("quick")
    assert len(configs) == 3 * (8 + 4) and {c.seed for c in configs} == set(recipes.THREE_SEEDS)
    assert {(c.augmentation, c.decay) for c in configs} == {("none", "decoupled"), ("da1", "global"),
                                                            ("da1+da2", "global")}
    assert len(room.ROOM.configs("laptop")) == 3 * (4 + 4 * 4)  # four networks without augmentation, one of them with
    text = room.measured(quick(lambda name, at, seed: 0.0)).markdown()
    assert "weight decay on every parameter" in text and "decay of classifier and features alone" in text
    assert "1.11111" in text and "None" not in text and "nan" not in text


def slow_cosine(a, b) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def test_the_pages_equations_are_what_is_measured():
    """The two formulas pair by pair, and the third (the shortfall by the sum of unit means), on random features."""
    random, labels = np.random.default_rng(1), np.repeat(np.arange(4), 6)
    features = random.normal(size=(24, 5)) + 2 * random.normal(size=(4, 5))[labels]
    means = np.stack([features[labels == k].mean(axis=0) for k in range(4)])
    centred, middle = means - means.mean(axis=0), means.mean(axis=0)
    pairs = [itertools.permutations(features[labels == k] - middle, 2) for k in range(4)]
    within = [np.mean([slow_cosine(a, b) for a, b in of_one_class]) for of_one_class in pairs]
    between = [slow_cosine(a, b) for a, b in itertools.permutations(centred, 2)]
    given = torch.tensor(features), torch.tensor(labels)
    assert metrics.compactness(*given) == pytest.approx(np.mean(within))
    assert metrics.distinctiveness(*given) == pytest.approx(1 - np.mean(between))
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert metrics.distinctiveness(*given) == pytest.approx(4 / 3 - np.sum(units.sum(axis=0) ** 2) / 12)


def test_distinctiveness_is_blind_to_angles_where_lengths_agree():
    a = torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64)
    pairs, labels = torch.stack([a, a, -a, -a]), torch.arange(4)
    assert metrics.distinctiveness(pairs, labels) == pytest.approx(4 / 3)  # its top, with classes that coincide
    assert metrics.mean_cosines(pairs, labels, centred=True).largest == pytest.approx(1)
    unequal = torch.stack([a, a, -2 * a])  # unit means that add up to one of them: 3/2 - 1 / (3 * 2)
    assert metrics.distinctiveness(unequal, labels[:3]) == pytest.approx(4 / 3)
    for draw in range(12):
        means = room.of_one_length(draw)
        assert 4 <= len(means) <= 12 and means.sum(dim=0).abs().max() < 1e-12
        assert means.norm(dim=1).numpy() == pytest.approx(1)
        assert draw % 3 or len(torch.unique(means, dim=0)) < len(means)
    finding = room.blind()
    assert finding.verdict == "proved" and finding.n == 60 and finding.value < 1e-12


def test_a_wrong_formula_would_be_refuted(monkeypatch):
    """The check can fail: with means left around zero, of which one is moved, it does."""
    whole = room.of_one_length
    monkeypatch.setattr(room, "of_one_length", lambda draw: torch.cat([whole(draw)[:1] * 3, whole(draw)[1:]]))
    assert room.blind(4).verdict == "refuted"


def test_the_views_stand_parts_of_recorded_runs_and_show_their_numbers(eight):
    for part in (eight, eight[:1], eight[1:2], eight[::3], [r for r in eight if r.config.loss == "ce"]):
        plt.close(room.differences(part))
        text = room.measured(part).markdown() + markdown.findings(claims.judge(room.ROOM.claims, part))
        assert "nan" not in text and "None" not in text
    finding = room.compact_on_test(eight)
    ends = {(r.config.dataset, r.config.optimizer, r.config.loss): r.final["test_compactness"] for r in eight}
    by_hand = sorted(ends[d, o, "bce"] - ends[d, o, "ce"] for d, o, loss in ends if loss == "ce")
    assert sorted(part.value for part in finding.parts) == pytest.approx(by_hand)
    assert finding.verdict == "undecided" and min(by_hand) > 0  # one seed decides nothing
