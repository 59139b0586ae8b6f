"""A rehearsal makes the paper profile's pages on a CPU, says so on each, and leaves nothing behind that could be taken for a run."""

import dataclasses
import json
import os

import numpy as np
import pytest

from bcebook.book import build as books
from bcebook.chapters import catalog
from bcebook.runs import rehearsal
from bcebook.runs.specs import STREAMED
from bcebook.training import datasets

SAME = ("model", "dataset", "loss", "optimizer", "augmentation", "decay", "schedule", "learning_rate", "seed", "lambda_b", "bias_init_mean")


@pytest.mark.parametrize("profile", catalog.PROFILES)
def test_each_run_has_a_stand_in_and_no_stand_in_is_a_run(profile):
    whole = [config for config in catalog.all_configs(profile) if rehearsal.can(config)]
    assert {config.dataset for config in catalog.all_configs(profile)} - {config.dataset for config in whole} <= set(STREAMED)
    with rehearsal.on():
        cut = catalog.all_configs(profile)
    settings = lambda config: tuple(getattr(config, name) for name in SAME)  # noqa: E731
    assert {settings(c) for c in whole} == {settings(c) for c in cut}
    real = {config.key for name in catalog.PROFILES for config in catalog.all_configs(name)}
    assert not real & {config.key for config in cut}
    assert all(config.epochs == 1 for config in cut)


def test_rehearsing_ends_where_it_began():
    with pytest.raises(KeyError), rehearsal.on():
        assert rehearsal.active() and os.environ[rehearsal.VARIABLE]
        raise KeyError
    assert not rehearsal.active() and rehearsal.VARIABLE not in os.environ


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_noise_has_the_shape_of_its_data_set(name):
    spec, found = datasets.DATASETS[name], datasets.noise(name, 3, 2)
    assert found.x_train.shape[:3] == (3 * spec.num_classes, *spec.image_shape[:2])
    assert found.x_train.shape[3] == (spec.image_shape[2] if len(spec.image_shape) == 3 else 1)
    assert set(np.bincount(found.y_train)) == {3} and set(np.bincount(found.y_test)) == {2}
    assert found.x_train.dtype == np.uint8 and 120 < found.x_train.mean() < 135


def test_a_long_tail_leaves_each_class_an_image():
    config = next(c for c in catalog.configs("imbalance", "quick") if c.imbalance_factor)
    for factor in (config.imbalance_factor, 50.0, 100.0):
        cut = rehearsal.shorten(dataclasses.replace(config, imbalance_factor=factor))
        part = datasets.noise("digits", rehearsal.images(cut), 2).subset(cut.train_size, cut.imbalance_factor, cut.held_out)
        assert np.bincount(part.y_train, minlength=10).min() >= 1


def test_the_paper_profile_is_rehearsed_on_a_cpu(tmp_path):
    said = []
    chapter = "features_by_epoch"  # the one of fewest runs
    assert books.rehearse("paper", 1, out=tmp_path, only=chapter, say=said.append) == 0, said
    out = tmp_path / "rehearsal" / "paper"
    notebook = json.loads((out / "notebooks" / "paper" / f"{chapter}.ipynb").read_text())
    shown = json.dumps(notebook)
    assert "A rehearsal." in shown and "image/" in shown
    for page in ("index", "scoreboard", "departures", "how_to_read", chapter):
        assert "A rehearsal." in (out / "html" / f"{page}.html").read_text(), page
    assert not list(tmp_path.rglob("runs/*.json")), "a rehearsal keeps no run"
    assert json.loads((out / "findings" / "paper" / f"{chapter}.json").read_text())["of"] == len(catalog.configs(chapter, "paper"))
    assert f"{len(catalog.configs(chapter, 'paper'))} to train" in said[0]
