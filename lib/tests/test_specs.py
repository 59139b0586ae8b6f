"""The entries of data sets and networks say what the data and the networks are, and every other place follows them."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision

from bcebook import names
from bcebook.runs.config import CHOICES, RunConfig
from bcebook.runs.specs import DATASETS, NETWORKS, STREAMED
from bcebook.training import datasets, models, pretrained
from bcebook.training.images import Images


def test_the_entries_need_neither_torch_nor_numpy():
    code = "import sys, bcebook.runs.specs, bcebook.runs.config; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_what_can_be_chosen_is_what_has_an_entry():
    assert datasets.NAMES == tuple(DATASETS) and CHOICES["model"] == tuple(NETWORKS)
    assert CHOICES["dataset"] == (*DATASETS, *STREAMED) and not set(DATASETS) & set(STREAMED)
    assert set(models.BACKBONES) == set(NETWORKS)
    assert set(datasets.BUNDLED) == {name for name, spec in DATASETS.items() if not spec.torchvision}
    assert all(name == spec.name for table in (DATASETS, STREAMED, NETWORKS) for name, spec in table.items())


def test_display_names_are_those_of_the_pages():
    known = DATASETS | STREAMED
    assert {name: names.dataset(name) for name in known} == {name: spec.display for name, spec in known.items()}
    assert {name: names.model(name) for name in NETWORKS} == {name: spec.display for name, spec in NETWORKS.items()}


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_is_as_its_entry_says(real, name):
    dataset, spec = datasets.load(name) if name in datasets.BUNDLED else real(name), DATASETS[name]
    assert (len(dataset.x_train), len(dataset.x_test)) == (spec.train_count, spec.test_count)
    assert dataset.x_train.shape[1:] == (spec.image_shape if len(spec.image_shape) == 3 else (*spec.image_shape, 1))
    assert len(dataset.classes) == spec.num_classes == len(np.unique(dataset.y_train))
    few = dataclasses.replace(dataset, x_train=dataset.x_train[:8], y_train=dataset.y_train[:8])
    images = Images(few, "none", torch.device("cpu"), 0)
    assert images.normalise(images.x_train).shape == (8, spec.channels, spec.side, spec.side)


def test_a_networks_own_normalisation_goes_before_the_data_sets():
    """That of a pretrained network, whatever it is fine-tuned on; without one the data set's, as it always was."""
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (4, 32, 32, 3), np.uint8), np.zeros(4, np.uint8)
    few = datasets.Dataset("cifar100", x, y, x, y, tuple(map(str, range(100))))
    network = NETWORKS["efficientnet-lite0"]
    for spec, mean, std in ((network, (127,) * 3, (128,) * 3), (None, *DATA), (NETWORKS["resnet9"], *DATA)):
        images = Images(few, "none", torch.device("cpu"), 0, spec)
        by_hand = (x - np.array(mean)) / np.array(std)
        assert np.allclose(images.normalise(images.x_train).permute(0, 2, 3, 1), by_hand, atol=1e-5)


DATA = [tuple(255 * value for value in values) for values in (DATASETS["cifar100"].mean, DATASETS["cifar100"].std)]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_the_images_of_its_entry_and_its_features_have_the_sign_it_says(name, monkeypatch):
    spec = NETWORKS[name]
    if name in pretrained.TORCHVISIONS:  # whose files are downloads
        whole = torchvision.models.get_model(name.removesuffix("-224"), weights=None)
        monkeypatch.setattr(pretrained, "weights", lambda network: whole.state_dict())
    torch.manual_seed(0)
    network = models.build(name, 10, spec.channels).eval()
    with torch.inference_mode():
        features = network(torch.randn(1 if spec.side > 32 else 4, spec.channels, spec.side, spec.side))[1]
    assert bool((features >= 0).all()) == (spec.features == "nonnegative")
    assert spec.features in ("signed", "nonnegative") and spec.origin in ("paper", "ours")


def test_a_network_runs_on_a_data_set_exactly_if_their_images_are_the_same():
    settings = dict(loss="ce", optimizer="sgd", learning_rate=0.1, epochs=1, decay="global", weight_decay=0)
    for model, network in NETWORKS.items():
        for dataset, data in (DATASETS | STREAMED).items():
            if network.images == data.images:
                assert RunConfig(model=model, dataset=dataset, **settings).key
            else:
                with pytest.raises(ValueError, match=f"{model} does not take {dataset}: .* for {network.images}"):
                    RunConfig(model=model, dataset=dataset, **settings)
