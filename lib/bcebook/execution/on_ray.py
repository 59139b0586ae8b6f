"""Many runs on a Ray cluster: each run is one Ray task, which Ray schedules, retries when its machine is lost, and runs
in a copy of this library. A run comes back as an archive and passes the checks of `bcebook import`."""

import contextlib
import importlib.util
import logging
import math
import os
import secrets
import socket
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from bcebook.cores import cores
from bcebook.execution import node
from bcebook.execution.base import bar_interval
from bcebook.paths import PACKAGE
from bcebook.runs import archive, files, provenance, rehearsal
from bcebook.runs.config import RunConfig
from bcebook.runs.locks import LockPermissionError, RunLocked
from bcebook.runs.specs import STREAMED
from bcebook.runs.store import Run, RunStore, open_store

RETRIES = 2  # after the first attempt, where a machine or process dies
AHEAD = 8  # tasks handed out beyond those that there is room for, so that no machine waits
WAIT, GRACE = 1.0, 60.0  # seconds between two looks; after the deadline, for the last checkpoints
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}


@dataclass(frozen=True)
class OnRay:
    """The `base.Executor` of a Ray cluster, into the store of `data` on this machine.

    address: "HOST:PORT" of the cluster's head, "auto" for the one on this machine, "" for one that is started here,
    obeys this process alone and ends with it. device: "cpu", "cuda", or "auto": the GPUs where the cluster has some.
    jobs: runs at once on each GPU, or in all on CPUs; None: one on a GPU, one a processor. checkpoints: a folder that
    all machines share, from which a run that was lost goes on; None: it begins again. every: seconds between two
    checkpoints.
    """

    data: Path
    device: str = "auto"
    jobs: int | None = None
    address: str = ""
    checkpoints: str | None = None
    every: float = 30.0

    def run(self, configs: list[RunConfig], deadline: float = math.inf) -> list[str]:
        """See `base.Executor.run`. Raises ValueError where no cluster answers, or it lacks the GPU that is asked
        for."""
        with _joined(self.address), tqdm(total=len(configs), desc="runs on Ray", mininterval=bar_interval()) as bar:
            return _Sweep(self, deadline, bar).run(configs)


class _Sweep:
    """One call of `OnRay.run`. out: Ray's reference to a task -> (its run, what releases its lock)."""

    def __init__(self, how: OnRay, deadline: float, bar: tqdm):
        import ray

        self.ray, self.how, self.deadline, self.bar, self.store = ray, how, deadline, bar, open_store(how.data)
        self.out, self.images, self.refused, self.problems, self.damaged = {}, {}, {}, [], set()
        there = ray.cluster_resources()
        if how.device.startswith("cuda") and not there.get("GPU"):
            raise ValueError("the cluster has no GPU; start Ray where there is one, or give --device cpu.")
        self.device = "cuda" if there.get("GPU") and how.device != "cpu" else "cpu"
        if self.device == "cuda":
            self.threads, self.needs = 1, {"num_cpus": 1, "num_gpus": 1 / (how.jobs or 1)}
        else:
            self.threads = max(1, int(there.get("CPU", 1)) // how.jobs) if how.jobs else 1
            self.needs = {"num_cpus": self.threads}
        self.task, self.wanted = ray.remote(max_retries=RETRIES)(node.train), node.expected()

    def run(self, configs: list[RunConfig]) -> list[str]:
        if streamed := [config for config in configs if config.dataset in STREAMED]:
            self._problem(
                f"{len(streamed)} left out: the images of {STREAMED[streamed[0].dataset].display} lie in "
                "folders, which do not travel; train them where they are.",
                len(streamed),
            )
        waiting = deque(config for config in configs if config not in streamed)
        try:
            while (waiting or self.out) and time.monotonic() < self.deadline + GRACE:
                while waiting and len(self.out) < self._room() + AHEAD and time.monotonic() < self.deadline:
                    if not self._hand_out(config := waiting.popleft()):
                        waiting.append(config)  # another process here trains it: last
                        break
                if time.monotonic() >= self.deadline and not self.out:
                    break
                done, _ = self.ray.wait(list(self.out), timeout=WAIT) if self.out else ([], time.sleep(WAIT))
                for reference in done:
                    config, release = self.out.pop(reference)
                    with release:
                        if self._take(config, reference):
                            waiting.appendleft(config)
                if self.refused and self._room() < 1:
                    self.problems.append("no machine of the cluster is left that may train; the runs stay missing.")
                    break
        finally:
            for reference, (_, release) in self.out.items():
                self.ray.cancel(reference, force=True)
                release.close()
        return self.problems

    def _room(self) -> int:
        """Tasks that the machines which were not refused can hold at once."""
        machines = [
            each["Resources"] for each in self.ray.nodes() if each["Alive"] and each["NodeID"] not in self.refused
        ]
        kind, need = ("GPU", self.needs["num_gpus"]) if self.device == "cuda" else ("CPU", self.threads)
        return sum(int(each.get(kind, 0) / need) for each in machines)

    def _hand_out(self, config: RunConfig) -> bool:
        """Start the task of a run under its lock; False where another process holds it."""
        with contextlib.ExitStack() as hold:
            try:
                hold.enter_context(self.store.lock(config, wait=False))
                if self.store.has(config):
                    self.bar.update()
                    return True
                images = self._images(config.dataset)
            except RunLocked:
                return False
            except (
                LockPermissionError,
                self.ray.exceptions.ObjectStoreFullError,
                self.ray.exceptions.OutOfDiskError,
            ) as error:
                room = "" if isinstance(error, LockPermissionError) else "Ray's object store cannot hold its images: "
                self._problem(f"{config.describe()}: {room}{files.in_a_line(error)}")
                return True
            until = time.time() + self.deadline - time.monotonic()
            order = node.Order(config.to_dict(), self.device, self.threads, until, self.how.checkpoints, self.how.every)
            selector = {"label_selector": {"ray.io/node-id": f"!in({','.join(self.refused)})"}} if self.refused else {}
            reference = self.task.options(**self.needs, **selector).remote(order, self.wanted, images)
            self.out[reference] = config, hold.pop_all()
        return True

    def _images(self, name: str):
        """Ray's reference to a data set, whose arrays go to each machine once; None in a rehearsal, which has none."""
        from bcebook.training import datasets

        if not rehearsal.active() and name not in self.images:
            self.images[name] = self.ray.put(datasets.load(name, self.how.data / "datasets"))
        return self.images.get(name)

    def _take(self, config: RunConfig, reference) -> bool:
        """Take in what came back for a run; whether it has to be handed out again."""
        try:
            answer: node.Answer = self.ray.get(reference)
            if answer.refused:
                if answer.node not in self.refused:
                    self.refused[answer.node] = answer.refused
                    self.problems.append(f"a machine was refused: {answer.refused}; nothing is trained there.")
                return True
            if answer.archive:
                receive(self.store, config, answer.archive)
                self.bar.update()
            elif answer.failure:
                files.check_failure(answer.failure, config)
                self.store.save_failure(config, answer.failure["cause"], answer.failure["environment"])
                self._problem(f"{config.describe()}: {answer.failure['cause']}")
            elif answer.problem:
                self._problem(answer.problem)
        except self.ray.exceptions.RayError as error:
            self._problem(
                f"{config.describe()}: its machine or process was lost {RETRIES + 1} times, or it failed there "
                f"({files.in_a_line(error)})."
            )
        except ValueError as error:  # on the way, perhaps: once more
            if config not in self.damaged:
                self.damaged.add(config)
                return True
            self._problem(f"{config.describe()}: what came back was refused twice ({error}).")
        return False

    def _problem(self, sentence: str, runs: int = 1) -> None:
        self.problems.append(sentence)
        self.bar.update(runs)
        self.bar.write(sentence, file=sys.stderr)


def receive(store: RunStore, config: RunConfig, content: bytes) -> None:
    """Take in the archive of a run that another machine has trained. Call it under the run's lock. Raises ArchiveError,
    with the store as it was, if it is not whole, is another run than `config`'s, or was trained by other code."""

    def refuse(runs: list[Run]) -> str:
        if [run.config.key for run in runs] != [config.key]:
            return "it is another run than the one that was asked for"
        environment = runs[0].environment
        same = environment["code"].startswith(provenance.library_digest()[:10])
        same = same and environment.get("engine") == provenance.engine_version()
        return "" if same else "it was trained by other code than this"

    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=store.root, prefix=".answer-", suffix=".zip") as file:
        file.write(content)
        file.flush()
        try:
            archive.add(Path(file.name), store.root, refuse)
        except archive.ArchiveError as error:
            raise archive.ArchiveError(str(error).replace(file.name, "its archive")) from error
    store.forget_failure(config)


@contextlib.contextmanager
def _joined(address: str):
    """Within the block this process drives the cluster; see `OnRay`."""
    if not importlib.util.find_spec("ray"):
        raise ValueError('Ray is not installed here; `pip install -e "./lib[ray]"` in the repository brings it.')
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if not address:  # Ray listens on every network that the machine has: a token that nobody else knows
        os.environ.update(
            RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
        )
    _reach(address)
    import ray

    variables = {provenance.COMMIT: provenance.commit_here(), **QUIET}
    if rehearsal.active():
        variables[rehearsal.VARIABLE] = "1"
    code = {"working_dir": str(PACKAGE.parent), "excludes": ["/tests", "*.egg-info", "/build", ".pytest_cache"]}
    own = {} if address else {"num_cpus": cores(), "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=code | {"env_vars": variables},
            **own,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"no Ray cluster answers at {address}" if address else "Ray could not be started on this machine"
        raise ValueError(f"{where} ({files.in_a_line(error)}).") from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises ValueError, at once, where nothing can listen at the address: Ray itself would try for a minute."""
    try:
        if not address:
            with socket.create_server(("127.0.0.1", 0)) as server:
                socket.create_connection(server.getsockname(), timeout=5).close()
        elif address != "auto":
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        sentence = (
            f"no Ray cluster answers at {address} ({files.in_a_line(error)}); write HOST:PORT of its head, as "
            "`ray start --head` has said it."
            if address
            else f"Ray needs the loopback network (127.0.0.1), which does not work here ({files.in_a_line(error)})."
        )
        raise ValueError(sentence) from error
