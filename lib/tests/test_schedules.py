"""Learning rates: against a table written out, and against torch's own schedulers driven as the authors' loop drives
them."""

import dataclasses
import math

import pytest
import torch

from bcebook.runs.config import RunConfig
from bcebook.training import datasets, loop

BASE = RunConfig(dataset="cifar10", model="resnet18", loss="bce", optimizer="sgd", learning_rate=0.01, epochs=100,
                 lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0)
# schedule -> epoch of 100, counted from 1 -> rate
TABLE = {
    "step": {1: 0.01, 30: 0.01, 31: 0.002, 60: 0.002, 61: 4e-4, 80: 4e-4, 81: 8e-5, 100: 8e-5},
    "authors-step": {1: 0.01, 31: 0.01, 32: 0.002, 61: 0.002, 62: 4e-4, 81: 4e-4, 82: 8e-5, 100: 8e-5},
    "cosine": {1: 1e-3, 2: 0.000999755742, 51: 0.000505, 99: 1.0976769e-5, 100: 1.0244253e-5},
    "authors-cosine": {1: 1e-3, 2: 1e-3, 3: 0.000999755742, 52: 0.000505, 100: 1.0976769e-5},
    "constant": {1: 0.01, 50: 0.01, 100: 0.01},
}


def _config(schedule: str, epochs: int = 100) -> RunConfig:
    rate = 1e-3 if "cosine" in schedule else 0.01
    return dataclasses.replace(BASE, schedule=schedule, epochs=epochs, learning_rate=rate)


def _torch(config: RunConfig, authors: bool) -> list[float]:
    """The rate of every epoch under torch's scheduler, stepped once after each; the authors' loop names the epoch as
    it does."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], config.learning_rate)
    if config.schedule.endswith("step"):
        milestones = [math.ceil(share * config.epochs - 1e-9) for share in (0.3, 0.6, 0.8)]
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.2)
    else:
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs, config.learning_rate / 100)
    rates = []
    for epoch_id in range(config.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if authors:
            with pytest.warns(UserWarning):  # torch would rather count by itself
                scheduler.step(epoch=epoch_id)
        else:
            scheduler.step()
    return rates


@pytest.mark.parametrize("schedule", TABLE)
def test_rates_are_those_of_the_table(schedule):
    config = _config(schedule)
    for epoch, rate in TABLE[schedule].items():
        assert math.isclose(config.rate(epoch), rate, rel_tol=1e-6), (schedule, epoch, config.rate(epoch))


@pytest.mark.parametrize("schedule", ["step", "cosine", "authors-step", "authors-cosine"])
@pytest.mark.parametrize("epochs", [1, 2, 10, 24, 40, 100, 300])
def test_rates_are_those_of_torchs_schedulers(schedule, epochs):
    config = _config(schedule, epochs)
    ours = [config.rate(epoch) for epoch in range(1, epochs + 1)]
    theirs = _torch(config, schedule.startswith("authors-"))
    assert all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(ours, theirs, strict=True))


def test_the_authors_rates_sum_to_a_little_more():
    """The lag is one epoch at the full rate: over 100 epochs 2.6 % of the sum for the steps, 1.9 % for the cosine."""
    total = {name: sum(_config(name).rate(epoch) for epoch in range(1, 101)) for name in TABLE}
    assert math.isclose(1 - total["step"] / total["authors-step"], 0.0261, abs_tol=5e-5)
    assert math.isclose(1 - total["cosine"] / total["authors-cosine"], 0.0190, abs_tol=5e-5)


def test_the_authors_cosine_ends_at_one_rate_wherever_it_starts():
    """SGD's 0.01 too: its effective time over a paper run, 391 steps an epoch and momentum 0.9, is then 2,016."""
    sgd = dataclasses.replace(BASE, schedule="authors-cosine")
    assert math.isclose(10 * 391 * sum(sgd.rate(epoch) for epoch in range(1, 101)), 2016, abs_tol=0.5)
    assert sgd.rate(100) < 2e-5 < dataclasses.replace(BASE, schedule="cosine").rate(100)
    assert dataclasses.replace(sgd, learning_rate=1e-6).rate(50) == 1e-6


def test_the_four_schedules_are_four_runs():
    assert len({_config(schedule).key for schedule in TABLE}) == len(TABLE)
    assert _config("step").key == BASE.key  # the default stays out of the key


@pytest.mark.parametrize("epochs", [5, 16, 24])
def test_one_cycle_follows_torchs_with_every_mini_batch(epochs):
    """Torch's goes from a start above 0 to an end above 0; so close to 0 its straight lines are ours."""
    config, batches = _config("one-cycle", epochs), 50
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], config.learning_rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=epochs * batches + 1, pct_start=0.2 + 0.8 / (epochs * batches + 1),
        anneal_strategy="linear", div_factor=1e9, final_div_factor=1e3)
    for step in range(epochs * batches):  # torch's rate is that of a step's beginning
        ours = config.rate(step // batches + 1, step % batches / batches)
        assert math.isclose(ours, optimizer.param_groups[0]["lr"], rel_tol=1e-6, abs_tol=1e-9)
        optimizer.step()
        scheduler.step()


def test_one_cycle_is_half_its_largest_rate_on_average_and_never_zero_within_a_step(small, monkeypatch):
    """What an epoch's row of the history says is the mean over its mini-batches, where the rate does not turn."""
    config = small(schedule="one-cycle", epochs=5)
    training, rates = loop.Training(config, datasets.load("digits"), torch.device("cpu")), []
    update = training._mini_batch

    def watched(*inputs):
        rates.append(training.optimizer.param_groups[0]["lr"])
        return update(*inputs)

    monkeypatch.setattr(training, "_mini_batch", watched)
    while not training.done:
        training.step()
    assert len(rates) == 5 * training.batches and min(rates) > 0
    assert math.isclose(sum(rates) / len(rates), config.learning_rate / 2, rel_tol=1e-9)
    for epoch, told in enumerate(training.history["learning_rate"][1:]):
        within = rates[epoch * training.batches:][:training.batches]
        assert math.isclose(sum(within) / training.batches, told, rel_tol=1e-9)
