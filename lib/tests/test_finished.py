"""The measures of finished runs: made at the end, kept beside the run, carried, made anew from its weights."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bcebook import cli
from bcebook.chapters import recipes
from bcebook.runs import archive
from bcebook.runs.store import RunStore
from bcebook.training import datasets, finished, remeasure
from bcebook.training.images import Images
from bcebook.training.measure import Outputs
from bcebook.training.sessions import train

CONFIG = dataclasses.replace(recipes.classification("quick", 0)[1], epochs=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("finished") / "runs")
    return store, train(CONFIG, store, progress=False)


@pytest.fixture
def copied(trained, tmp_path):
    """A store of its own, to damage."""
    shutil.copytree(trained[0].root, tmp_path / "runs")
    return RunStore(tmp_path / "runs")


def put(store, measures) -> None:
    """In the place of the measures that a store's run has."""
    store.save(dataclasses.replace(store.find(CONFIG), measures=measures), anew=True)


def test_a_run_brings_its_measures_and_the_weights_give_the_same_again(trained):
    store, run = trained
    found = store.find(CONFIG).measures
    assert found["version"] == finished.VERSION and found["numbers"] == pytest.approx(run.measures["numbers"], nan_ok=True)
    assert found["images"] == {"calibration": 179, "evaluation": 176}
    assert len(found["per_class"]["bias"]) == 10 and len(found["reliability"]["sigmoid"]) == 15
    before = store.fingerprint(CONFIG)
    again = remeasure.measure_anew(CONFIG, store)
    assert again["numbers"] == found["numbers"] and again["per_class"] == found["per_class"]
    put(store, again | {"version": 0})
    assert store.fingerprint(CONFIG) != before  # a page that shows measures is made anew
    put(store, again)
    assert dataclasses.replace(store.find(CONFIG), measures=None) == dataclasses.replace(run, measures=None)


def test_the_halves_are_fixed_disjoint_and_balanced():
    labels = np.random.default_rng(1).integers(7, size=501)
    first, second = finished.halves(labels)
    assert sorted([*first, *second]) == list(range(501))
    counts = [np.bincount(labels[half], minlength=7) for half in (first, second)]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert [half.tolist() for half in finished.halves(labels)] == [first.tolist(), second.tolist()]
    held = finished.every_fifth(np.repeat(np.arange(3), 10))
    assert np.bincount(np.repeat(np.arange(3), 10)[held]).tolist() == [2, 2, 2]


@pytest.fixture
def far():
    """A linear "network" on tiny CIFAR10-shaped images of three colours, outputs of its own, and its test half."""
    data = datasets.noise("cifar10", 4, 20)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.classifier = torch.nn.Linear(27, 10)

        def forward(self, x):
            h = torch.nn.functional.adaptive_avg_pool2d(x, 3).flatten(1)
            return self.classifier(h), h

    images, net = Images(data, "none", torch.device("cpu"), 0), Net()
    images.x_test[:, 0] = images.x_test[:, 0] // 4 + 18 * images.y_test[:, None, None].to(torch.uint8)

    def outputs(x, y):
        logits, h = net(images.normalise(x))
        return Outputs(logits.detach(), h.detach(), y)

    return net, images, outputs(images.x_train, images.y_train), outputs(images.x_test, images.y_test)


def test_with_other_data_sets_at_hand_their_images_are_rejected_searched_and_transferred_to(far, monkeypatch):
    """Real code on small sets: every figure that involves them is checked by hand from the network's own outputs."""
    net, images, train_out, test_out = far
    there = {"mnist": datasets.noise("mnist", 2, 6), "cifar100": datasets.noise("cifar100", 10, 4)}
    monkeypatch.setattr(finished, "_others", lambda config, root: there)
    monkeypatch.setattr(finished, "TRANSFER_IMAGES", 1000)
    config = dataclasses.replace(recipes.classification("laptop", 3)[1], epochs=1)
    found = finished.measures(config, net, images, train_out, test_out, False)
    numbers, second = found["numbers"], finished.halves(test_out.labels.numpy())[1]
    assert found["images"] == {"calibration": 100, "evaluation": 100, "mnist": 60, "cifar100": 400}
    with torch.no_grad():
        x = torch.from_numpy(there["cifar100"].x_test).permute(0, 3, 1, 2)
        logits, features = net(images.normalise(x))
    known, unknown = test_out.logits[second].max(dim=1).values, logits.max(dim=1).values
    wins = (known[:, None] > unknown).double().mean().item()
    assert numbers["cifar100_max_logit_auroc"] == pytest.approx(wins, abs=1e-6) == numbers["cifar100_max_sigmoid_auroc"]
    first = finished.halves(test_out.labels.numpy())[0]
    limit = test_out.logits[first].max(dim=1).values.sort().values[5]
    assert numbers["max_logit_accepted"] == pytest.approx((known >= limit).double().mean().item())
    assert numbers["cifar100_max_logit_accepted"] == pytest.approx((unknown >= limit).double().mean().item())
    assert 0 <= numbers["cifar100_max_logit_oscr"] <= (test_out.logits.argmax(dim=1) == test_out.labels)[second].double().mean()
    assert 0 <= numbers["transfer_cifar100_accuracy"] < 0.1 and numbers["transfer_cifar100_penalty"] in finished.PENALTIES
    assert {name.split("_")[0] for name in numbers if name.endswith("_map")} == {"own", "cifar100"}
    assert found["histograms"]["mnist_max_logit"]["count"] == 60 and found["histograms"]["known_max_softmax"]["count"] == 100
    monkeypatch.setattr(finished, "_others", lambda config, root: {})
    alone = finished.measures(config, net, images, train_out, test_out, False)["numbers"]
    assert alone == {name: value for name, value in numbers.items() if "cifar100" not in name and "mnist" not in name}


def test_transfer_finds_what_the_features_hold(far):
    """Labels that a feature decides are learnt; labels at random are not."""
    net, images, *_ = far
    other = datasets.noise("cifar100", 50, 10)
    level = np.arange(100, dtype=np.uint8)
    for x, y in ((other.x_train, other.y_train), (other.x_test, other.y_test)):
        x[:] = (2 * level[y])[:, None, None, None]
        x[..., 1] = 255 - x[..., 0]
        x[:, :11, :, 2] = (25 * (y % 10))[:, None, None].astype(np.uint8)
    held = torch.from_numpy(other.x_test).permute(0, 3, 1, 2)
    found = finished.transferred(net, images, other, net(images.normalise(held))[1], False)
    assert found["transfer_cifar100_accuracy"] > 0.5


def test_what_is_not_at_hand_is_not_downloaded(tmp_path):
    config = recipes.classification("laptop", 3)[0]
    assert finished._others(config, tmp_path) == {}


def test_runs_that_only_pick_a_setting_are_not_measured(tmp_path):
    picking = dataclasses.replace(CONFIG, epochs=1, train_size=300, held_out=True)
    run = train(picking, RunStore(tmp_path), progress=False)
    assert not finished.applies(picking) and run.measures is None


def test_without_whole_weights_of_its_own_a_run_is_not_measured(copied):
    path = copied.weights(CONFIG)
    content, said = path.read_bytes(), []
    for damaged, sentence in ((content[:-1], "does not hold the weights"), (None, "weights do not travel")):
        path.write_bytes(damaged) if damaged else path.unlink()
        with pytest.raises(ValueError, match=sentence):
            remeasure.measure_anew(CONFIG, copied)
    other = dataclasses.replace(CONFIG, seed=1)
    train(other, copied, progress=False)
    shutil.copy(copied.weights(other), path)
    assert remeasure.all_of([CONFIG, other], copied, "cpu", None, True, said.append) == 1
    assert "they are of another run" in said[0] and said[-1] == "1 runs measured, 1 could not be."


def test_an_archive_carries_measures_and_brings_later_ones_to_runs_that_are_there(copied, tmp_path):
    whole, home = tmp_path / "runs.zip", tmp_path / "recorded"
    measures = copied.find(CONFIG).measures
    put(copied, None)
    archive.write(copied, [CONFIG.key], tmp_path / "without.zip")
    assert len(archive.add(tmp_path / "without.zip", home)[0]) == 1 and RunStore(home).find(CONFIG).measures is None
    put(copied, measures)
    archive.write(copied, [CONFIG.key], whole)
    assert len(archive.add(whole, home)[1]) == 1  # there already
    assert RunStore(home).find(CONFIG).measures == measures
    put(RunStore(home), measures | {"version": 99})
    archive.add(whole, home)
    assert RunStore(home).find(CONFIG).measures["version"] == 99  # an earlier version replaces nothing


@pytest.mark.parametrize("change", [
    lambda m: m.pop("numbers"), lambda m: m.update(version=True), lambda m: m.update(more=1), lambda m: m["numbers"].update(nc0="1"),
    lambda m: m["numbers"].update(softmax_accuracy=2.0), lambda m: m.update(reliability={"softmax": 1}),
    lambda m: m["histograms"]["known_max_softmax"].update(count=1), lambda m: m["per_class"].update(bias=[[]]),
])
def test_measures_that_cannot_be_are_refused(copied, tmp_path, change):
    measures = copied.find(CONFIG).measures
    change(measures)
    put(copied, measures)
    archive.write(copied, [CONFIG.key], tmp_path / "runs.zip")
    with pytest.warns(UserWarning, match="is damaged .*measures"):
        assert copied.find(CONFIG) is None
    with pytest.raises(archive.ArchiveError, match="measures.*nothing was added"):
        archive.add(tmp_path / "runs.zip", tmp_path / "elsewhere")


def test_the_command_measures_what_lacks_todays_measures(copied, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "chosen_runs", lambda *arguments: [CONFIG, dataclasses.replace(CONFIG, seed=5)])
    command = ["measure", "--data", str(tmp_path)]
    assert "0 runs measured." in CliRunner().invoke(cli.app, command).output
    for lacking in (None, copied.find(CONFIG).measures | {"version": 0}):
        put(copied, lacking)
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == 0 and "1 runs measured." in result.output and copied.find(CONFIG).measures["version"] == 1
    assert "1 runs measured." in CliRunner().invoke(cli.app, [*command, "--again"]).output
    assert math.isfinite(copied.find(CONFIG).measures["numbers"]["softmax_ece"])
