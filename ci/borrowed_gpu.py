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

AT_ONCE = (2, 4)  # tried for TRIAL seconds each, from the second TRIAL on: the first has the start-up in it
TRIAL, RESERVE, POLL = 25.0, 25.0, 0.5  # seconds; RESERVE: kept back for checkpoints and the archive
PART, PARTS = 15 * 2**20, 6  # bytes and number of the files in which an unfinished run is taken home


def wanted(profile: str) -> list[RunConfig]:
    """The first network of the accuracy experiment with DA1: SGD's pairs seed by seed, then AdamW's; then decoupled
    decay without augmentation, in the same order."""
    network = recipes.PROFILES[profile].accuracy[0]
    accuracy = [[each for each in recipes.classification(profile, seed)
                 if (each.model, each.dataset) == network and each.augmentation == "da1"] for seed in recipes.THREE_SEEDS]
    collapse = [recipes.decoupled(profile, network, seed) for seed in recipes.THREE_SEEDS]
    return [each for runs in (accuracy, collapse) for optimizer in recipes.OPTIMIZERS for seed in runs for each in seed
            if each.optimizer == optimizer]


def steps(store: RunStore, configs: list[RunConfig]) -> int:
    """Mini-batches that the newest checkpoints of the runs have behind them (their files are named so)."""
    return sum(max((int(path.stem) for path in store.checkpoints(each).glob("*.ckpt")), default=0) for each in configs)


class Pool:
    """Runs in processes of their own, `limit` at once."""

    def __init__(self, options: argparse.Namespace, store: RunStore, configs: list[RunConfig], ends: float):
        self.options, self.store, self.ends, self.limit, self.failed = options, store, ends, AT_ONCE[0], 0
        self.waiting, self.running = configs, {}

    def advance(self, until: float) -> None:
        """Until a time of time.monotonic, or until nothing is left."""
        while (self.waiting or self.running) and time.monotonic() < until:
            while self.waiting and len(self.running) < self.limit:
                config = self.waiting.pop(0)
                print(f"start  {config.describe()}", flush=True)
                self.running[config] = subprocess.Popen([
                    sys.executable, __file__, "one", "--profile", self.options.profile, "--data", self.options.data,
                    "--device", self.options.device, "--out", self.options.out, "--key", config.key,
                    "--minutes", str((self.ends - time.monotonic()) / 60)])
            time.sleep(POLL)
            for config, process in list(self.running.items()):
                if process.poll() is not None:
                    del self.running[config]
                    self.failed += process.returncode != 0
                    print(f"end    {config.describe()}: {self.store.state(config)}", flush=True)

    def pace(self, limit: int) -> float:
        """Mini-batches a second with so many runs at once, over TRIAL seconds after as many to get going."""
        self.limit, everything = limit, [*self.running, *self.waiting]
        self.advance(time.monotonic() + TRIAL)
        began, before = time.monotonic(), steps(self.store, everything)
        self.advance(began + TRIAL)
        return (steps(self.store, everything) - before) / (time.monotonic() - began)


def train(options: argparse.Namespace) -> int:
    ends = time.monotonic() + 60 * options.minutes - RESERVE
    store, chosen, out = open_store(Path(options.data)), wanted(options.profile), Path(options.out)
    left = [config for config in chosen if not store.has(config)]
    pool = Pool(options, store, list(left), ends)

    def done() -> list[str]:
        return [config.key for config in chosen if store.state(config) == "trained"]

    with following(store, done, out / "runs.zip"):
        if time.monotonic() + 4 * TRIAL < ends and len(left) >= max(AT_ONCE):
            paces = {limit: pool.pace(limit) for limit in AT_ONCE}
            pool.limit = max(paces, key=paces.__getitem__)
            print(f"steps a second by runs at once: {paces}; on with {pool.limit}", flush=True)
        pool.advance(ends)
        for process in pool.running.values():  # they end by themselves, each with a checkpoint
            process.wait()
    archive(store, done(), out)
    unfinished(store, chosen, out)
    return 1 if pool.failed else 0


def one(options: argparse.Namespace) -> int:
    """Train a single run, in this process."""
    from bcebook.training.sessions import train_together

    config = next(each for each in wanted(options.profile) if each.key == options.key)
    data = Path(options.data)
    problems = train_together([config], open_store(data), options.device, deadline=time.monotonic() + 60 * options.minutes,
                              progress=False, data_root=data / "datasets", checkpoint_every=10)
    print("\n".join(problems), end="")
    return 1 if problems else 0


def measure(options: argparse.Namespace) -> int:
    """Measure the finished runs whose measures lack a data set that is here now."""
    from bcebook.training import finished, remeasure

    store, chosen = open_store(Path(options.data)), wanted(options.profile)
    there = [config for config in chosen if store.state(config) == "trained"]
    lacking = [config for config in there if set(finished.UNKNOWN.get(config.dataset, ())) - set(
        (store.find(config).measures or {"images": {}})["images"])]
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
    furthest = max((each for each in chosen if steps(store, [each])), key=lambda each: steps(store, [each]), default=None)
    if furthest is None:
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
    parser.add_argument("command", choices=("train", "measure", "one"))
    for name in ("data", "out", "device", "profile", "key"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--minutes", type=float, default=9)
    options = parser.parse_args()
    return {"train": train, "measure": measure, "one": one}[options.command](options)


if __name__ == "__main__":
    raise SystemExit(main())
