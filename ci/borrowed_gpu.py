"""The runs of ci/borrowed-gpu: one process each, as many at once as pay, those of most value first."""

import argparse
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from bcebook.chapters import recipes
from bcebook.runs.archive import following, write_parts
from bcebook.runs.config import RunConfig
from bcebook.runs.store import RunStore, open_store

AT_ONCE = (1, 2, 4)  # tried first, each for START seconds to get ready and TRIAL seconds of steps
START, TRIAL, RESERVE, POLL = 18.0, 8.0, 25.0, 0.5  # seconds; RESERVE: kept back for checkpoints and the archive
PART, PARTS = 15 * 2**20, 6  # bytes and number of the files in which an unfinished run is taken home


def wanted(profile: str) -> list[RunConfig]:
    """The first network of the accuracy experiment with DA1: SGD's pairs seed by seed, then AdamW's; then decoupled
    decay without augmentation, in the same order."""
    network = recipes.PROFILES[profile].accuracy[0]
    accuracy = [
        each
        for seed in recipes.THREE_SEEDS
        for each in recipes.classification(profile, seed)
        if (each.model, each.dataset, each.augmentation) == (*network, "da1")
    ]
    collapse = [each for seed in recipes.THREE_SEEDS for each in recipes.decoupled(profile, network, seed)]
    place = lambda config: recipes.OPTIMIZERS.index(config.optimizer)  # noqa: E731
    return sorted(accuracy, key=place) + sorted(collapse, key=place)


def asked(options: argparse.Namespace) -> RunConfig:
    """The run that this process is about."""
    return next(each for each in wanted(options.profile) if each.key == options.key)


def steps(store: RunStore, config: RunConfig) -> int:
    """Mini-batches that the newest checkpoint of a run has behind it (its file is named so)."""
    return max((int(path.stem) for path in store.checkpoints(config).glob("*.ckpt")), default=0)


def child(options: argparse.Namespace, command: str, config: RunConfig, *more: str, **settings) -> subprocess.Popen:
    """This script on one run, in a process of its own."""
    return subprocess.Popen(
        [
            sys.executable,
            __file__,
            command,
            "--profile",
            options.profile,
            "--data",
            options.data,
            "--device",
            options.device,
            "--out",
            options.out,
            "--key",
            config.key,
            *more,
        ],
        **settings,
    )


def paces(options: argparse.Namespace, config: RunConfig) -> dict[int, float]:
    """Runs at once -> mini-batches a second of all together, on this device."""
    found = {}
    for count in AT_ONCE:
        begin = time.time() + START
        children = [
            child(options, "pace", config, "--begin", str(begin), stdout=subprocess.PIPE, encoding="utf-8")
            for _ in range(count)
        ]
        found[count] = sum(float(each.communicate()[0] or 0) for each in children)
    return found


def pace(options: argparse.Namespace) -> int:
    """Print how many mini-batches a second this process computes, from options.begin (of time.time) on, when the
    others that are measured with it are ready too."""
    from bcebook.training import devices, loop, sessions

    config = asked(options)
    images = sessions.dataset(config, Path(options.data) / "datasets")
    training = loop.Training(config, images, devices.resolve(options.device))
    training.full = set()  # nothing is measured
    while time.time() < options.begin:
        training.step()
    began, before = time.monotonic(), training.steps
    while time.monotonic() < began + TRIAL:
        training.step()
    if training.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    print((training.steps - before) / (time.monotonic() - began))
    return 0


class Pool:
    """Runs in processes of their own, `limit` at once."""

    def __init__(self, options: argparse.Namespace, store: RunStore, configs: list[RunConfig], limit: int, ends: float):
        self.options, self.store, self.ends, self.limit, self.failed = options, store, ends, limit, 0
        self.waiting, self.running = configs, {}

    def run(self) -> None:
        """Until the time is over, or nothing is left."""
        while self.running or (self.waiting and time.monotonic() < self.ends):
            while self.waiting and len(self.running) < self.limit and time.monotonic() < self.ends:
                config = self.waiting.pop(0)
                print(f"start  {config.describe()}", flush=True)
                self.running[config] = child(
                    self.options, "one", config, "--minutes", str((self.ends - time.monotonic()) / 60)
                )
            time.sleep(POLL)
            for config, process in list(self.running.items()):
                if process.poll() is not None:  # done, or with a checkpoint at the end of the time
                    del self.running[config]
                    self.failed += process.returncode != 0
                    print(f"end    {config.describe()}: {self.store.state(config)}", flush=True)


def train(options: argparse.Namespace) -> int:
    ends = time.monotonic() + 60 * options.minutes - RESERVE
    store, chosen, out = open_store(Path(options.data)), wanted(options.profile), Path(options.out)
    left = [config for config in chosen if not store.has(config)]
    found = paces(options, left[0]) if left else {}
    limit = max(found, key=found.__getitem__, default=1)
    print(f"steps a second by runs at once: {found}; on with {limit}", flush=True)
    pool = Pool(options, store, left, limit, ends)

    def done() -> list[str]:
        return [config.key for config in chosen if store.state(config) == "trained"]

    with following(store, done, out / "runs.zip"):
        pool.run()
    archive(store, done(), out)
    unfinished(store, chosen, out)
    return 1 if pool.failed else 0


def one(options: argparse.Namespace) -> int:
    """Train a single run, in this process."""
    from bcebook.training.sessions import train_each

    config = asked(options)
    data, deadline = Path(options.data), time.monotonic() + 60 * options.minutes
    problems = train_each(
        [config],
        open_store(data),
        options.device,
        deadline=deadline,
        progress=False,
        data_root=data / "datasets",
        checkpoint_every=10,
    )
    print("\n".join(problems), end="")
    return 1 if problems else 0


def measure(options: argparse.Namespace) -> int:
    """Measure the finished runs whose measures lack a data set that is here now."""
    from bcebook.training import finished, remeasure

    store, chosen = open_store(Path(options.data)), wanted(options.profile)
    there = [config for config in chosen if store.state(config) == "trained"]
    lacking = [
        config
        for config in there
        if set(finished.UNKNOWN.get(config.dataset, ()))
        - set((store.find(config).measures or {"images": {}})["images"])
    ]
    failed = remeasure.all_of(lacking, store, options.device, Path(options.data) / "datasets", True, print)
    archive(store, [config.key for config in there], Path(options.out))
    return 1 if failed else 0


def archive(store: RunStore, keys: list[str], out: Path) -> None:
    if keys:
        print(f"{len(keys)} runs in {', '.join(path.name for path in write_parts(store, keys, out / 'runs.zip'))}")


def unfinished(store: RunStore, chosen: list[RunConfig], out: Path) -> None:
    """The checkpoint of the unfinished run that is furthest, in parts, where PARTS of them hold it."""
    for stale in out.glob("unfinished.*"):
        stale.unlink()
    furthest = max(chosen, key=lambda each: steps(store, each))
    if not steps(store, furthest):
        return
    whole = out / "unfinished.tar"
    newest = max(store.checkpoints(furthest).glob("*.ckpt"))
    with tarfile.open(whole, "w") as file:
        file.add(newest, newest.relative_to(store.root))
    if whole.stat().st_size <= PART * PARTS:
        with open(whole, "rb") as source:
            for number in range(PARTS):
                if part := source.read(PART):
                    (out / f"unfinished.part-{number}").write_bytes(part)
        print(f"{furthest.describe()} goes on from {newest.name}")
    whole.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("train", "measure", "one", "pace"))
    for name in ("data", "out", "device", "profile", "key"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--begin", type=float)
    options = parser.parse_args()
    return {"train": train, "measure": measure, "one": one, "pace": pace}[options.command](options)


if __name__ == "__main__":
    raise SystemExit(main())
