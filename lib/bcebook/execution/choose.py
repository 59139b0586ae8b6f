"""Train what is missing, in the way that suits the machine."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bcebook.cores import cores
from bcebook.execution.processes import Processes
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import STREAMED
from bcebook.runs.store import open_store
from bcebook.training import pretrained


@dataclass(frozen=True)
class Elsewhere:
    """A Ray cluster to train on: see `on_ray.OnRay`, whose address and checkpoints these are."""

    address: str
    checkpoints: str | None = None


def elsewhere(on: str, checkpoints: str | None = None) -> Elsewhere | None:
    """What `--on` and `--checkpoints` say: None for "", a cluster for "ray" or "ray:ADDRESS". Raises ValueError for
    anything else."""
    kind, colon, address = on.partition(":")
    if on and (kind != "ray" or (colon and not address)):
        raise ValueError(
            f"runs cannot be trained on {on!r}; write ray (this machine), ray:auto (the cluster that this "
            "machine is in) or ray:HOST:PORT."
        )
    if checkpoints and not on:
        raise ValueError("--checkpoints is for runs on a cluster, see --on; here they lie in the data folder.")
    return Elsewhere(address, checkpoints) if on else None


def train_missing(
    configs: list[RunConfig],
    data: Path,
    device: str = "auto",
    jobs: int | None = None,
    deadline: float = math.inf,
    on: Elsewhere | None = None,
) -> list[str]:
    """Train what the store of `data` lacks, but for what is `left_out`; returns a sentence for each run that failed.

    jobs: how many at once, each in a process of its own; by default one a core on the CPU, and one on a GPU. deadline:
    of time.monotonic; what is not done by then is left with a checkpoint. Every finished run is in the store at once,
    and a killed one goes on from its checkpoint when the call is repeated. on: the cluster to train on; None: this
    process and its children.
    """
    store = open_store(data)
    missing = [config for config in dict.fromkeys(configs) if not store.has(config)]
    missing = [config for config in missing if not lacks(config, data)]
    if not missing:
        return []
    if on:
        from bcebook.execution.on_ray import OnRay

        return OnRay(data, device, jobs, on.address, on.checkpoints).run(missing, deadline)
    # Only now: importing torch takes seconds, which a build with nothing to do must not cost.
    from bcebook.training.devices import resolve
    from bcebook.training.sessions import train_each

    place = str(resolve(device))
    at_once = min(jobs or (cores() if place == "cpu" else 1), len(missing))
    if at_once == 1 and place == "cpu":
        return train_each(missing, store, place, deadline, data_root=data / "datasets")
    return Processes(data, place, at_once).run(missing, deadline)


def left_out(configs: list[RunConfig], data: Path) -> list[str]:
    """A sentence for each thing that some of the missing runs want and that is not here: no failure, and nothing that
    another try would change."""
    store = open_store(data)
    # In this order: `has` reads every file of a run, and nearly all want nothing.
    wanted = Counter(
        sentence for config in dict.fromkeys(configs) if (sentence := lacks(config, data)) and not store.has(config)
    )
    return [f"{number} of the runs: {sentence}" for sentence, number in wanted.items()]


def lacks(config: RunConfig, data: Path) -> str:
    """The sentence that says what a run wants which nothing here can fetch, and what to do; or ""."""
    if sentence := pretrained.missing(config.model):
        return sentence
    if config.dataset not in STREAMED:
        return ""
    from bcebook.training.datasets import without_folders

    return without_folders(config.dataset, data / "datasets")
