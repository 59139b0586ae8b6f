import dataclasses
import math

import numpy as np
import pytest
import torch

from bcebook.chapters import catalog
from bcebook.runs.store import RunStore
from bcebook.training import datasets as data, devices, gpu, heads, loop as training, measure, models, optimizers
from bcebook.training.measure import measured_epochs
from bcebook.training.loop import RunFailed, penalty
from bcebook.training.sessions import train


def _same(a, b) -> bool:
    """Bit for bit, nan equal to nan."""
    return repr((a.history, a.final, a.best, a.scores)) == repr((b.history, b.final, b.best, b.scores))


@pytest.mark.parametrize("change", [
    {"optimizer": "sgd"}, {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "cosine", "loss": "ce"},
    {"augmentation": "da1+da2", "decay": "global", "label_smoothing": 0.1}, {"precision": "bfloat16"},
    {"model": "vit-mini"}, {"imbalance_factor": 5, "train_size": None}], ids=str)
def test_two_trainings_agree_bit_for_bit_and_a_stored_run_is_not_trained_again(small, tmp_path, monkeypatch, change):
    config, store = small(**change), RunStore(tmp_path / "1")
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one = train(config, store, "cpu", progress=False)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random state is left alone
    torch.rand(17)  # and does not enter
    assert _same(one, train(config, RunStore(tmp_path / "2"), "cpu", progress=False))
    other = train(dataclasses.replace(config, seed=1), RunStore(tmp_path / "3"), "cpu", progress=False)
    assert not _same(one, other)
    monkeypatch.setattr(training, "Training", lambda *args: pytest.fail("trained again"))
    again = train(config, store, "cpu", progress=False)
    assert _same(one, again) and again.environment == one.environment and again.config == config
    assert one.environment["versions"]["torch"] == torch.__version__.split("+")[0] and one.environment["seconds"] > 0


def test_history_and_best_follow_from_the_epochs(small, tmp_path):
    run = train(small(epochs=25), RunStore(tmp_path), "cpu", progress=False)
    h = run.history
    assert h["epoch"] == [float(e) for e in range(26)]
    assert run.best["test_accuracy"] == max(v for v in h["test_accuracy"][1:] if not math.isnan(v))
    assert h["test_accuracy"][int(run.best["test_accuracy_epoch"])] == run.best["test_accuracy"]
    assert run.final["test_accuracy"] == h["test_accuracy"][-1] and run.final["train_nc1"] == h["nc1"][-1]
    assert not any(u > a for u, a in zip(h["test_uniform_accuracy"], h["test_accuracy"], strict=True))
    for name in measure.MEASURED:
        if name != "test_uniform_threshold":  # nan where no threshold serves any image
            assert {int(e) for e, v in zip(h["epoch"], h[name], strict=True) if not math.isnan(v)} == measured_epochs(25)
    assert not any(math.isnan(v) for v in h["bias_mean"] + h["train_loss"][1:])
    assert h["train_loss"][-1] < 0.7 < 2 < h["train_loss"][1] and run.final["train_accuracy"] > 0.98
    assert run.final["train_nc1"] < h["nc1"][0] / 5


def test_the_measuring_schedule_is_dense_first_and_ends_with_the_last_epoch():
    for epochs in (1, 2, 5, 20, 21, 40, 100, 500):
        chosen = measured_epochs(epochs)
        assert {*range(min(20, epochs // 5) + 1), 1, epochs} <= chosen <= set(range(epochs + 1))
        late = [epoch for epoch in chosen | measured_epochs(epochs, augmented=True) if epoch >= round(2 / 3 * epochs)]
        assert len(late) >= min(5, epochs / 3)  # enough for a slope
    assert len(measured_epochs(100)) == 32 and sorted(measured_epochs(16, augmented=True)) == [4, 8, 11, 12, 13, 15, 16]


def test_learning_rates_are_the_papers():
    config = next(c for c in catalog.configs("initial_bias", "paper") if c.optimizer == "sgd")
    got = [config.rate(epoch) for epoch in (1, 31, 32, 61, 62, 81, 82, 100)]  # the authors' loop lags by an epoch
    assert np.allclose(got, [0.01, 0.01, 0.002, 0.002, 4e-4, 4e-4, 8e-5, 8e-5])
    config = next(c for c in catalog.configs("initial_bias", "paper") if c.optimizer == "adamw")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], 1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=1e-5)
    assert config.rate(1) == 1e-3
    for epoch in range(2, 101):  # against torch's own scheduler, one epoch late
        assert math.isclose(config.rate(epoch), optimizer.param_groups[0]["lr"], rel_tol=1e-9)
        optimizer.step()
        scheduler.step()


def test_decoupled_decay_is_the_sum_over_the_batch(small):
    config = small(lambda_w=0.3, lambda_h=0.2, lambda_b=0.7)
    torch.manual_seed(0)
    head = heads.Linear(5, 3, bias_init_mean=1.0)
    h = torch.randn(7, 5, requires_grad=True)
    penalty(config, head, h).backward()
    assert torch.allclose(h.grad, 0.2 * h) and torch.allclose(head.weight.grad, 0.3 * head.weight)  # per sample, not / 7
    assert torch.allclose(head.bias.grad, 0.7 * head.bias)
    assert penalty(small(decay="global"), head, h) == 0.0


def test_weight_decay_reaches_every_parameter_only_when_global(small):
    model = models.build("convnet", 10, 1)
    for decay, expected in (("global", 5e-4), ("decoupled", 0.0)):
        for optimizer in ("sgd", "adamw"):
            groups = optimizers.build(small(decay=decay, optimizer=optimizer), model, torch.device("cpu")).param_groups
            assert [g["weight_decay"] for g in groups] == [expected]
            assert sum(p.numel() for p in groups[0]["params"]) == sum(p.numel() for p in model.parameters())


def test_a_diverging_run_is_recorded_as_failed_and_never_as_a_result(small, tmp_path):
    store, config = RunStore(tmp_path), small(learning_rate=1e6)
    with pytest.raises(RunFailed, match=r"smaller learning_rate than 1e\+06"):
        train(config, store, "cpu", progress=False)
    assert store.find(config) is None and store.state(config) == "failed"
    assert "learning_rate" in store.failure(config)["cause"]
    with pytest.raises(RunFailed, match="failed before, with this same code"):
        train(config, store, "cpu", progress=False)


def test_cuda_is_refused_where_there_is_none(small, tmp_path):
    if torch.cuda.is_available():
        assert devices.resolve("auto").type == "cuda"
    else:
        with pytest.raises(ValueError, match="no CUDA GPU"):
            train(small(), RunStore(tmp_path), "cuda")
        assert devices.resolve("auto").type == "cpu"


def test_a_network_of_the_paper_learns_real_images(real, tmp_path, monkeypatch, name="cifar10"):
    """A few hundred images of the real set: the loss falls below that of guessing, and both splits are measured."""
    full = real(name)
    part = dataclasses.replace(full, x_test=full.x_test[::200], y_test=full.y_test[::200])
    monkeypatch.setattr(data, "load", lambda *args: part)
    config = next(c for c in catalog.configs("initial_bias", "paper") if (c.loss, c.optimizer) == ("bce", "adamw"))
    config = dataclasses.replace(config, dataset=name, model="densenet121", train_size=100, batch_size=10, epochs=3,
                                 schedule="constant")
    run = train(config, RunStore(tmp_path), "cpu", progress=False)
    guessing = math.log(10) + 9 * math.log(10 / 9)  # BCE of always answering 1/10
    assert run.history["train_loss"][-1] < min(0.9 * guessing, 0.7 * run.history["train_loss"][1])
    assert run.final["train_accuracy"] > 0.3
    assert run.scores["train"]["positive"]["count"] == 100 and run.scores["test"]["negative"]["count"] == 450


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def finished(configs) -> list[training.Training]:
    """Runs on the GPU, a step of each in turn."""
    runs = [training.Training(config, data.load("digits"), torch.device("cuda")) for config in configs]
    while not runs[0].done:
        for run in runs:
            run.step()
    return runs


@on_a_gpu
def test_on_a_gpu_a_run_among_eight_is_the_run_alone(small):
    configs = [small(epochs=6, seed=seed, precision="bfloat16") for seed in range(8)]
    among, alone = finished(configs)[0], finished(configs[:1])[0]
    assert among.graph is not None and alone.graph is not None
    assert np.allclose(among.history["train_loss"][1:], alone.history["train_loss"][1:], rtol=0.05)


@on_a_gpu
@pytest.mark.parametrize("change", [{}, {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "cosine"},
                                    {"augmentation": "da1+da2"}], ids=str)
def test_on_a_gpu_a_captured_step_does_what_the_step_does(small, monkeypatch, change):
    captured, = finished([small(epochs=6, **change)])
    monkeypatch.setattr(gpu, "EAGER_STEPS", 10**9)
    eager, = finished([small(epochs=6, **change)])
    assert captured.graph is not None and eager.graph is None
    for name, rtol, atol in (("train_loss", 0.02, 0), ("bias_mean", 0, 0.02), ("test_accuracy", 0, 0.03)):
        first = -1 if name == "test_accuracy" else 1
        values = [run.history[name][first:] for run in (captured, eager)]
        assert np.allclose(*values, rtol=rtol, atol=atol), name
