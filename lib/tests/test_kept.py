"""Features that a run keeps: the network's own, whole or refused, wherever the run is carried."""

import base64
import dataclasses
import json

import numpy as np
import pytest
import torch

from bcebook.runs import archive, files
from bcebook.runs.store import RunStore
from bcebook.training import checkpoint, datasets, kept, loop
from bcebook.training.sessions import train


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store with one run that keeps features."""
    from bcebook.runs.config import RunConfig

    config = RunConfig(dataset="digits", model="convnet", loss="ce", optimizer="sgd", learning_rate=0.1, epochs=12,
                       train_size=300, lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0, keep_features=40)
    store = RunStore(tmp_path_factory.mktemp("kept"))
    return store, train(config, store, progress=False)


def test_the_epochs_are_ten_from_the_first_to_the_last():
    assert kept.kept_epochs(100) == [0, 1, 2, 3, 6, 10, 18, 32, 56, 100]
    for epochs in range(1, 60):
        chosen = kept.kept_epochs(epochs)
        assert chosen[0] == 0 and chosen[-1] == epochs and chosen == sorted(set(chosen)) and len(chosen) <= 10


def test_kept_features_are_the_networks_own(stored):
    store, run = stored
    training = loop.Training(run.config, datasets.load("digits"), torch.device("cpu"))
    part = datasets.load("digits").subset(300)
    found = kept.decode(run.features)
    assert run.features["epochs"] == kept.kept_epochs(12) and found.shape == (len(kept.kept_epochs(12)), 40, 32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    while True:
        if training.batch == 0 and training.epoch in run.features["epochs"]:
            training.model.eval()
            with torch.inference_mode():
                every = training.model(training.images.normalise(training.images.x_train))[1]
            at = found[run.features["epochs"].index(training.epoch)]
            # each kept row is one of the network's, and of an image with the label that stands beside it
            near = torch.cdist(at, every).min(dim=1)
            assert float(near.values.max()) < 0.02 and len(set(near.indices.tolist())) == 40
            assert [int(part.y_train[i]) for i in near.indices] == run.features["labels"]
        if training.done:
            break
        training.step()
    torch.set_num_threads(threads)


def test_the_images_are_the_same_for_every_seed_and_loss(small):
    digits = datasets.load("digits")
    kept_of = lambda **changes: loop.Training(small(**changes), digits, torch.device("cpu")).kept  # noqa: E731
    other = kept_of(keep_features=30, seed=3, loss="ce", optimizer="adamw", learning_rate=0.01)
    assert torch.equal(kept_of(keep_features=30).chosen, other.chosen) and len(set(other.chosen.tolist())) == 30
    with pytest.raises(ValueError, match="there are 300 training images"):
        kept_of(keep_features=301)


def test_they_survive_a_kill_and_a_journey(stored, tmp_path):
    store, run = stored
    training = loop.Training(run.config, datasets.load("digits"), torch.device("cpu"))
    while training.steps < 20:
        training.step()
    other = RunStore(tmp_path / "other")
    checkpoint.save(other.checkpoints(run.config), training.steps, training.state())
    again = train(run.config, other, progress=False)
    assert again.environment["resumed"] == 1
    assert again.features["epochs"] == run.features["epochs"] and again.features["labels"] == run.features["labels"]
    assert kept.decode(again.features).numpy() == pytest.approx(kept.decode(run.features).numpy(), abs=0.02)
    archive.write(store, [run.config.key], tmp_path / "runs.zip")
    added, _ = archive.add(tmp_path / "runs.zip", tmp_path / "recorded")
    assert added[0].features == run.features == RunStore(tmp_path, tmp_path / "recorded").find(run.config).features


def refusal(run, features) -> str:
    """What is found wrong with a run in whose file these features stand."""
    with pytest.raises(ValueError) as error:
        files.whole(files.text(dataclasses.replace(run, features=features)).encode(), run.config.key)
    return str(error.value)


@pytest.mark.parametrize("change,says", [
    (lambda v: v.update(values=v["values"][:-4]), "more or fewer values"),
    (lambda v: v.update(values="?" * 40), "not base64"), (lambda v: v.update(values=7), "features.values: Input should be"),
    (lambda v: v["labels"].pop(), "more or fewer values"), (lambda v: v.pop("width"), "features.width: Field required"),
    (lambda v: v["labels"].__setitem__(0, 99), "not those that its configuration"),
    (lambda v: v["labels"].__setitem__(0, -1), "features.labels.0: Input"),
    (lambda v: v["epochs"].reverse(), "in order"), (lambda v: v.update(width=True), "features.width: Input"),
    (lambda v: v["epochs"].__setitem__(-1, 11), "not those that its configuration"),
    (lambda v: v.update(labels=[]), "features.labels: List"),
])
def test_features_that_cannot_be_the_runs_are_refused(stored, change, says):
    _, run = stored
    files.whole(files.text(run).encode(), run.config.key)
    features = json.loads(json.dumps(run.features))
    change(features)
    assert says in refusal(run, features)


def test_a_run_has_features_exactly_if_its_settings_ask_for_them(stored, small, tmp_path):
    _, run = stored
    plain = train(small(), RunStore(tmp_path), progress=False)
    assert plain.features is None
    assert "not those that its configuration" in refusal(plain, run.features)
    assert "not those that its configuration" in refusal(run, None)


def test_half_precision_holds_the_features_that_a_network_has():
    values = np.array([[1e-3, 12.5, -300.0]], "<f2")
    stored = {"labels": [0], "epochs": [0], "width": 3, "values": base64.b64encode(values.tobytes()).decode()}
    assert kept.decode(stored).numpy()[0, 0] == pytest.approx([1e-3, 12.5, -300], rel=1e-3)
