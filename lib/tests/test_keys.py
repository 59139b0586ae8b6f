"""The keys of runs are frozen: a run that was recorded once is found by every later version.

keys.json holds [settings that differ from their defaults, key] of every run of the profiles quick and laptop when they were
frozen, and the files of data/recorded. Of the quick profile nothing is recorded: its keys stay, its runs may change.
"""

import json
from pathlib import Path

import pytest

from bcebook.chapters import catalog
from bcebook.paths import REPOSITORY
from bcebook.runs.config import RunConfig
from bcebook.runs.store import open_store

FROZEN = json.loads((Path(__file__).parent / "keys.json").read_text())


@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_every_frozen_run_keeps_its_key_and_of_the_laptop_profile_its_place_in_the_catalogue(profile):
    there = {config.key: config for config in catalog.all_configs("laptop")}
    assert len(FROZEN[profile]) == {"quick": 128, "laptop": 84}[profile]
    for settings, key in FROZEN[profile]:
        config = RunConfig(**settings)
        assert config.key == key, f"the key of {settings} has changed"
        assert RunConfig.from_dict(config.to_dict()).key == key
        assert profile == "quick" or there.get(key) == config, f"{config.describe()} ({key}) is no longer in the catalogue"


def test_every_recorded_run_is_found_and_whole():
    """A damaged one would warn, and so fail."""
    store, configs = open_store(REPOSITORY / "data"), {key: RunConfig(**s) for s, key in FROZEN["quick"] + FROZEN["laptop"]}
    assert len(FROZEN["recorded"]) == 56
    for key in FROZEN["recorded"]:
        run = store.find(configs[key])
        assert run is not None and run.config == configs[key]
        assert (REPOSITORY / "data" / "recorded" / f"{key}.json").is_file()
