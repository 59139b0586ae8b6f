import json
import os
import subprocess
import sys

import pytest

from bcebook.chapters import catalog
from bcebook.runs.config import RunConfig

BASE = dict(dataset="cifar10", model="resnet18", loss="bce", optimizer="sgd", learning_rate=0.01, epochs=100,
            lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0)


def test_key_is_the_same_in_another_process_and_for_another_order():
    """A recorded run is found by its key on every machine, so hash randomisation and argument order must not enter
    it."""
    code = ("from bcebook.runs.config import RunConfig; import json, sys; "
            "print(RunConfig(**json.loads(sys.argv[1])).key)")
    turned = dict(reversed(BASE.items()))
    for seed in ("0", "1"):
        out = subprocess.run([sys.executable, "-c", code, json.dumps(turned)], capture_output=True, text=True,
                             check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        assert out.stdout.strip() == RunConfig(**BASE).key


def test_key_tells_settings_apart_and_not_spellings():
    config = RunConfig(**BASE)
    assert {RunConfig(**BASE | {"bias_init_mean": zero}).key for zero in (0, 0.0, -0.0)} == {config.key}
    changes = [{"seed": 1}, {"bias_init_mean": 1e-9}, {"loss": "ce"}, {"lambda_b": 5e-6}, {"train_size": 1000},
               {"precision": "bfloat16"}]
    keys = {RunConfig(**BASE | change).key for change in changes} | {config.key}
    assert len(keys) == len(changes) + 1


def test_round_trip_through_json():
    for config in catalog.all_configs("quick") + catalog.all_configs("paper"):
        again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config and hash(again) == hash(config) and again.key == config.key


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": "mse"}, "loss is 'mse'; choose one of ce, bce"),
        ({"dataset": "svhn"}, "choose one of digits, mnist"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"epochs": 1.5}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"learning_rate": -1.0}, "must be positive"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"weight_decay": 5e-4}, "does not use weight_decay"),
        ({"lambda_w": None}, "needs lambda_w"),
        ({"decay": "global", "weight_decay": 5e-4}, "does not use lambda_w"),
        ({"model": "convnet"}, "8x8 grey"),
        ({"dataset": "digits"}, "32x32 colour"),
        ({"imbalance_factor": 0.5}, "at least 1"),
        ({"imbalance_factor": 10, "train_size": 100}, "only one of them"),
        ({"head": "etf"}, "needs a scale"), ({"scale": 2}, "has no scale"),
        ({"head": "cosine", "scale": 0}, "positive"),
        ({"weight_start": -1}, "positive"), ({"bias": "none", "bias_init_mean": 3}, "zero for ever"),
        ({"held_out": True}, "say with train_size"), ({"held_out": 1, "train_size": 100}, "true or false"),
    ],
)
def test_an_impossible_run_is_refused_with_a_sentence(change, says):
    with pytest.raises(ValueError, match=says) as error:
        RunConfig(**BASE | change)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_unknown_and_missing_settings_are_named():
    with pytest.raises(ValueError, match="unknown setting momentum"):
        RunConfig.from_dict(BASE | {"momentum": 0.9})
    with pytest.raises(ValueError, match="lack epochs"):
        RunConfig.from_dict({k: v for k, v in BASE.items() if k != "epochs"})


def test_catalog_has_the_paper_sweep_and_no_run_twice():
    for profile in catalog.PROFILES:
        means = (0, 1, 2, 3, 4, 5, 6, 8, 10) if profile == "paper" else (0, 2, 5, 10)
        lambdas = (0.5, 5e-3, 5e-5) if profile == "quick" else (0.5, 0.05, 5e-3, 5e-4, 5e-5, 5e-6)
        both = catalog.configs("initial_bias", profile)
        assert {(c.loss, c.optimizer, c.bias_init_mean) for c in both if not c.lambda_b} == {
            (loss, opt, float(mean)) for loss in ("ce", "bce") for opt in ("sgd", "adamw") for mean in means}
        assert {(c.loss, c.optimizer, c.lambda_b, c.bias_init_mean) for c in both if c.lambda_b} == {
            (loss, opt, lambda_b, 10.0) for loss in ("ce", "bce") for opt in ("sgd", "adamw")
            for lambda_b in lambdas}
        everything = catalog.all_configs(profile)
        assert len({c.key for c in everything}) == len(everything)
        assert all(set(catalog.configs(chapter, profile)) <= set(everything) for chapter in catalog.CHAPTERS)
        accuracy = catalog.configs("accuracy", profile)
        assert profile == "laptop" or len({c.seed for c in accuracy}) >= 3
        assert set(catalog.configs("score_histograms", profile)) <= set(accuracy)
    with pytest.raises(ValueError, match="no chapter 'x'"):
        catalog.configs("x", "quick")
    with pytest.raises(ValueError, match="no profile 'x'"):
        catalog.configs("accuracy", "x")


def test_the_paper_profile_is_in_its_order_of_value():
    """Before a session on a GPU ends it must have what the main chapters need: the first network, then other data,
    other networks, and only then more seeds."""
    order = catalog.all_configs("paper")
    first = len([c for c in order if c.seed == 0 and (c.model, c.dataset) == ("resnet18", "cifar10")])
    assert {(c.model, c.dataset, c.seed) for c in order[:first]} == {("resnet18", "cifar10", 0)}
    assert [c.bias_init_mean for c in order[:9]] == [0, 1, 2, 3, 4, 5, 6, 8, 10] and order[0].loss == "bce"
    assert [c.seed for c in order] == sorted(c.seed for c in order)
    steps = list(dict.fromkeys((c.model, c.dataset) for c in order))
    assert steps[:4] == [("resnet18", "cifar10"), ("resnet18", "mnist"), ("resnet18", "cifar100"),
                         ("resnet50", "cifar10")]


@pytest.mark.parametrize("profile", catalog.PROFILES)
def test_no_two_runs_of_a_profile_have_the_same_description(profile):
    configs = catalog.all_configs(profile)
    assert len({config.describe() for config in configs}) == len(configs)


def test_a_description_tells_every_setting_and_begins_as_a_person_looks_for_it():
    config = RunConfig(**BASE)
    assert config.describe() == "resnet18/cifar10 BCE SGD seed 0"  # the plainest: the paper's
    both = {"learning_rate": 0.05, "lambda_b": 0.5, "bias_init_mean": 1e-9, "epochs": 24, "precision": "auto",
            "seed": 1}
    assert RunConfig(**BASE | both).describe() == (
        "resnet18/cifar10 BCE SGD bias mean 1e-09 lambda_b 0.5 seed 1, 24 epochs, rate 0.05, precision auto")
    changes = [
        {"dataset": "cifar100"}, {"model": "resnet50"}, {"loss": "ce"}, {"optimizer": "adamw"},
        {"learning_rate": 0.0100001}, {"epochs": 99}, {"schedule": "authors-step"}, {"batch_size": 64},
        {"augmentation": "da1"},
        {"lambda_w": 0},
        {"lambda_h": 0}, {"lambda_b": 1e-9}, {"label_smoothing": 0.1}, {"bias_init_mean": 5.00000001}, {"seed": 3},
        {"precision": "auto"}, {"train_size": 100}, {"train_size": 100, "held_out": True},
        {"imbalance_factor": 10}, {"head": "etf", "scale": 2}, {"head": "etf", "scale": 3},
        {"head": "cosine", "scale": 2}, {"bias": "none"}, {"weight_start": 4}, {"random_labels": True},
        {"keep_features": 50}, {"frozen": True},
        {"decay": "global", "weight_decay": 5e-4, "lambda_w": None, "lambda_h": None, "lambda_b": None},
        {"decay": "global", "weight_decay": 0, "lambda_w": None, "lambda_h": None, "lambda_b": None},
    ]
    assert {name for change in changes for name in change} == set(config.to_dict())
    lines = {RunConfig(**BASE | change).describe() for change in changes} | {config.describe()}
    assert len(lines) == len(changes) + 1
