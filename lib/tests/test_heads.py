"""Classifier heads: what is fixed stays, what is trained moves, and each gives the logits that it says."""

import dataclasses

import numpy as np
import pytest
import torch

from bcebook.runs.store import RunStore
from bcebook.training import datasets, heads, loop
from bcebook.training.sessions import train

CHANGES = {
    "linear": {}, "etf": {"head": "etf", "scale": 1.7}, "etf, no bias": {"head": "etf", "scale": 1.7, "bias": "none"},
    "no bias": {"bias": "none"}, "cosine": {"head": "cosine", "scale": 4.0, "lambda_w": 0.0, "lambda_h": 0.0},
    "larger start": {"weight_start": 3.0},
}


@pytest.mark.parametrize("name", CHANGES)
def test_logits_are_as_the_head_says(small, name):
    config, features = small(**CHANGES[name]), torch.randn(6, 32)
    torch.manual_seed(3)
    head = heads.build(config, 32, 10)
    with torch.no_grad():
        weight, bias = head.weight.double(), head.bias.double()
        for row, z in zip(features.double(), head(features), strict=True):
            for k in range(10):
                score = float(row @ weight[k])
                if config.head == "cosine":
                    score *= config.scale / float(row.norm() * weight[k].norm())
                assert float(z[k]) == pytest.approx(score - float(bias[k]), abs=1e-5)


def test_equal_seeds_draw_the_same_start_whatever_the_head(small):
    def drawn(**changes):
        torch.manual_seed(7)
        return heads.build(small(**changes), 32, 10), torch.rand(1)

    plain, after = drawn()
    for name, changes in CHANGES.items():
        head, then = drawn(**changes)
        assert torch.equal(then, after), f"{name} draws another number of times"
        if head.bias.abs().sum():
            assert torch.equal(head.bias, plain.bias)
        if not changes.get("head") == "etf":
            assert torch.allclose(head.weight, changes.get("weight_start", 1.0) * plain.weight)


@pytest.mark.parametrize("name", ["etf", "etf, no bias"])
def test_a_fixed_classifier_is_an_etf_before_and_after(small, tmp_path, name):
    config, cpu = small(**CHANGES[name]), torch.device("cpu")
    training = loop.Training(config, datasets.load("digits"), cpu)
    before = training.model.classifier.weight.clone()
    gram = (before @ before.T).numpy()
    assert gram == pytest.approx(1.7**2 * (np.eye(10) - (1 - np.eye(10)) / 9), abs=1e-5)
    bias = training.model.classifier.bias.detach().clone()
    while not training.done:
        training.step()
    assert torch.equal(training.model.classifier.weight, before)
    moved = float((training.model.classifier.bias.detach() - bias).abs().max())
    assert (moved == 0) == (config.bias == "none")
    assert training.final["train_nc2"] == pytest.approx(0, abs=1e-5)  # of the classifier's rows


def test_without_a_bias_it_is_zero_for_ever_and_the_run_can_be_read_back(small, tmp_path):
    config, store = small(bias="none"), RunStore(tmp_path)
    run = train(config, store, progress=False)
    assert set(run.history["bias_mean"]) == {0.0} == set(run.history["bias_max"])
    again = store.find(config)
    assert again.final == run.final and again.config == config


def test_a_cosine_head_does_not_see_lengths(small):
    head = heads.build(small(**CHANGES["cosine"]), 32, 10)
    features = torch.randn(5, 32)
    assert torch.allclose(head(features), head(features * torch.tensor([[0.1], [1], [5], [20], [300]])), atol=1e-5)
    assert float((head(features) + head.bias).detach().abs().max()) <= 4.0 + 1e-5


def test_random_labels_are_the_same_for_every_seed_and_keep_the_sizes_of_the_classes(small):
    digits = datasets.load("digits")
    dealt = digits.with_random_labels()
    assert (np.bincount(dealt.y_train) == np.bincount(digits.y_train)).all()
    assert (dealt.y_test == digits.y_test).all() and (dealt.x_train == digits.x_train).all()
    assert 0.05 < (dealt.y_train == digits.y_train).mean() < 0.15  # one in ten stays by chance
    cpu, config = torch.device("cpu"), small(random_labels=True)
    one, two = (loop.Training(dataclasses.replace(config, seed=seed), digits, cpu) for seed in (0, 1))
    assert torch.equal(one.images.y_train, two.images.y_train)
    assert not torch.equal(one.images.y_train, loop.Training(small(), digits, cpu).images.y_train)


@pytest.mark.parametrize("augmentation,mixup,cutmix", [("da1+mixup", True, False), ("da1+cutmix", False, True)])
def test_mixup_and_cutmix_apart(small, augmentation, mixup, cutmix):
    config = small(augmentation=augmentation, decay="global", train_size=None)
    images = loop.Training(config, datasets.load("digits"), torch.device("cpu")).images
    for _ in range(20):
        images.shuffle(128)
        share, *box = images.mixtures.T
        assert bool((share < 1).all()) == mixup and bool((share == 1).all()) == cutmix
        assert bool((torch.stack(box) == 0).all()) == mixup
