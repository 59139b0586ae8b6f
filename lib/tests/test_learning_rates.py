"""The rule that picks learning rates: on planted results, and on what a run of it may see."""

import dataclasses

import pytest

from bcebook.chapters import catalog, learning_rates as room, recipes
from bcebook.claims import judge
from bcebook.training import datasets


class Planted:
    """A run with these figures; what the room reads of one."""

    def __init__(self, config, accuracy, uniform):
        self.config, self.final = config, {"test_accuracy": accuracy, "test_uniform_accuracy": uniform}
        self.scores = {"test": {"positive": {"count": 1200}}}


def planted(accuracies: dict, uniform: float = 0.5) -> list:
    """(optimizer, factor of the profile's rate) -> (CE's accuracy, BCE's)."""
    own, runs = recipes.PROFILES["quick"].training.rates, []
    for config in catalog.configs("learning_rates", "quick"):
        found = accuracies.get((config.optimizer, round(config.learning_rate / own[config.optimizer], 6)))
        if found:
            runs.append(Planted(config, found[config.loss == "bce"], uniform + 0.1 * (config.loss == "bce")))
    return runs


def verdicts(runs) -> dict:
    return {j.name.partition(".")[2]: j.finding.verdict for j in judge(room.ROOM.claims, runs)}


@pytest.mark.parametrize("profile", catalog.PROFILES)
def test_no_rate_is_chosen_on_the_test_set(profile):
    """Every run of the rule holds out training images, and both losses are tried at the same rates."""
    every = catalog.configs("learning_rates", profile)
    configs = [c for c in every if c.held_out]
    assert configs and all(c.optimizer == "sgd" and c.train_size is None for c in every if not c.held_out)
    tried = {loss: {(c.optimizer, c.learning_rate) for c in configs if c.loss == loss} for loss in recipes.LOSSES}
    assert tried["ce"] == tried["bce"]
    whole = {(c.model, c.dataset, c.optimizer): c for c in catalog.configs("accuracy", profile)}
    for config in configs:
        trained = whole[config.model, config.dataset, config.optimizer]
        assert (trained.optimizer, trained.learning_rate) in tried["ce"]
        assert 2.5 < trained.epochs / config.epochs < 3.5
        # beside what the rule varies, the same run
        assert dataclasses.replace(config, learning_rate=trained.learning_rate, epochs=trained.epochs, train_size=None,
                                   held_out=False, loss=trained.loss, seed=trained.seed,
                                   augmentation=trained.augmentation) == trained


def test_the_held_out_images_are_no_images_of_the_test_set():
    config = catalog.configs("learning_rates", "quick")[0]
    digits = datasets.load("digits")
    part = digits.subset(config.train_size, config.imbalance_factor, config.held_out)
    images = lambda x: {bytes(image) for image in x}  # noqa: E731
    assert images(part.x_test) <= images(digits.x_train) and len(part.x_test) == 300
    assert not images(part.x_test) & images(digits.x_test) and not images(part.x_test) & images(part.x_train)


def test_the_rule_takes_the_mean_of_both_losses_and_of_equal_rates_the_lowest():
    runs = planted({("sgd", 0.5): (0.9, 0.9), ("sgd", 1): (0.99, 0.7), ("sgd", 2): (0.8, 1.0), ("adamw", 1): (0.6, 0.8),
                    ("adamw", 2): (0.5, 0.8)})
    table = room.tried(runs)
    own = recipes.PROFILES["quick"].training.rates
    assert room.picks(table) == {"sgd": 0.5 * own["sgd"], "adamw": own["adamw"]}
    assert list(table["picked"]) == [True, False, False, True, False]
    assert room.picks(table, "ce_accuracy") == {"sgd": own["sgd"], "adamw": own["adamw"]}
    assert room.picks(table, "bce_accuracy") == {"sgd": 2 * own["sgd"], "adamw": own["adamw"]}
    assert verdicts(runs) == {"trained_with": "contradicted", "same_rate": "contradicted",
                              "accuracy_at_every": "contradicted", "uniform_at_every": "supported"}


def test_every_verdict_can_be_the_other():
    better = {("sgd", 0.5): (0.7, 0.8), ("sgd", 1): (0.8, 0.9), ("adamw", 1): (0.6, 0.8), ("adamw", 2): (0.5, 0.7)}
    assert verdicts(planted(better)) == {"trained_with": "supported", "same_rate": "supported",
                                         "accuracy_at_every": "supported", "uniform_at_every": "supported"}
    assert verdicts(planted(better, uniform=float("nan")))["uniform_at_every"] == "not run"
    found = judge(room.ROOM.claims, planted(better))[0].finding
    assert "an end of those tried: SGD and AdamW" in found.detail  # so the grid says too little


def test_a_few_images_decide_nothing():
    """A difference must exceed what another choice of the held-out images would change: 1.96 binomial errors."""
    close = {("sgd", 0.5): (0.9, 0.95), ("sgd", 1): (0.8, 0.799), ("adamw", 1): (0.6, 0.8)}
    found = room.accuracy_at_every(planted(close))
    assert found.verdict == "undecided" and [part.adjusted for part in found.parts].count("supported") == 2
    part = next(part for part in found.parts if part.value < 0)
    error = ((0.8 * 0.2 + 0.799 * 0.201) / 1200) ** 0.5
    assert (part.verdict, part.n) == ("undecided", 1) and part.high == pytest.approx(-0.001 + 1.96 * error)
    assert "at 2 of 3 rates" in found.detail and "binomial standard errors" in found.rule
    assert room.accuracy_at_every(planted(close | {("sgd", 1): (0.8, 0.74)})).verdict == "contradicted"


def test_runs_to_the_end_choose_nothing_and_have_a_table_of_their_own():
    runs = planted({("sgd", 0.5): (0.9, 0.95), ("sgd", 1): (0.8, 0.7), ("sgd", 2): (0.6, 0.7)})
    whole = [run for run in runs if not run.config.held_out]
    assert {run.config.learning_rate for run in whole} == {0.05, 0.1, 0.2}
    assert room.tried(whole).empty and verdicts(whole) == verdicts([])
    table = room.to_the_end(runs).frame.set_index("rate")
    assert list(table["gap_accuracy"].round(6)) == [0.05, -0.1, 0.1] and len(table) == 3
    assert "nothing to show" in room.to_the_end([run for run in runs if run.config.held_out]).markdown()


def test_a_single_rate_is_no_choice():
    one = planted({("sgd", 0.5): (0.7, 0.8), ("sgd", 1): (0.8, 0.9), ("adamw", 2): (0.6, 0.8)})
    found = judge(room.ROOM.claims, one)[0].finding
    assert found.verdict == "supported" and found.n == 1  # AdamW's only rate, which is not its own, is not counted
    assert verdicts(planted({("adamw", 1): (0.6, 0.8)})) == {
        "trained_with": "not run", "same_rate": "not run", "accuracy_at_every": "supported",
        "uniform_at_every": "supported"}


def test_a_run_that_failed_takes_its_rate_out():
    runs = planted({("sgd", 0.5): (0.7, 0.7), ("sgd", 1): (0.9, 0.9)})
    left = [run for run in runs if not (run.config.learning_rate == 0.1 and run.config.loss == "bce")]
    assert room.picks(room.tried(left)) == {"sgd": 0.05}
    room.by_rate(left)
    assert "| SGD | 0.1 |" in room.rates(left).markdown()


def test_without_runs_nothing_is_claimed():
    assert set(verdicts([]).values()) == {"not run"}
    assert room.rates([]).markdown().startswith("There is nothing to show here yet.")
    room.by_rate([])
