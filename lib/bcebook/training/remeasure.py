"""Finished runs measured anew from the weights that they left, without training."""

from collections.abc import Callable
from dataclasses import replace

from bcebook.runs.config import RunConfig
from bcebook.runs.files import in_a_line
from bcebook.runs.store import RunStore
from bcebook.training import checkpoint, devices, finished, loop, measure, sessions


def all_of(
    configs: list[RunConfig], store: RunStore, device: str, data_root, again: bool, say: Callable[[str], None]
) -> int:
    """Measure those of the runs that were trained here and lack today's measures, or all (again); a sentence for each.
    How many could not be."""
    done = failed = 0
    for config in configs:
        if store.state(config) != "trained" or not finished.applies(config):
            continue
        before = store.find(config).measures
        if before and before["version"] == finished.VERSION and not again:
            continue
        try:
            found = measure_anew(config, store, device, data_root)
            say(f"{config.key}  measured in {found['seconds']:.0f} s  {config.describe()}")
            done += 1
        except ValueError as error:
            say(f"{config.key}  {error}")
            failed += 1
    say(f"{done} runs measured" + (f", {failed} could not be." if failed else "."))
    return failed


def measure_anew(config: RunConfig, store: RunStore, device: str = "cpu", data_root=None) -> dict:
    """Measure a finished run (`training.finished`) and store that with it, in the place of earlier measures. Raises
    ValueError, one sentence, where its weights are not here or cannot be read."""
    path = store.weights(config)
    try:
        kept = checkpoint.read(path)
        if kept["config"] != config.to_dict():
            raise ValueError("they are of another run")
        training = loop.Training(config, sessions.dataset(config, data_root), devices.resolve(device))
        training.model.load_state_dict(kept["model"])
    except FileNotFoundError:
        raise ValueError(
            f"the weights of {config.describe()} are not here ({path}); weights do not travel with a run, "
            "so measure it where it was trained, or train it anew."
        ) from None
    except Exception as error:  # what a damaged or foreign file raises is open-ended
        raise ValueError(
            f"{path} does not hold the weights of {config.describe()} ({in_a_line(error)}); delete it, and "
            "train the run anew to measure it."
        ) from error
    outputs = [measure.outputs(training.model, training.images, split, kept["autocast"]) for split in ("train", "test")]
    found = finished.measures(config, training.model, training.images, *outputs, kept["autocast"], data_root)
    with store.lock(config):
        store.save(replace(store.find(config), measures=found), anew=True)
    return found
