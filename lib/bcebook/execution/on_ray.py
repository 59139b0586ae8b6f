"""Many runs on a Ray cluster: each run is one Ray task, which Ray schedules, retries when its machine is lost, and runs
in a copy of this library. A run comes back as an archive and passes the checks of `bcebook import`."""

import contextlib
import functools
import importlib.util
import logging
import math
import os
import secrets
import socket
import sys
import tempfile
import time
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
from bcebook.training import datasets

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
    all machines share, where a lost run goes on; None: it begins again. every: seconds between two checkpoints.
    """

    data: Path
    device: str = "auto"
    jobs: int | None = None
    address: str = ""
    checkpoints: str | None = None
    every: float = 30.0

    def run(self, configs: list[RunConfig], deadline: float = math.inf) -> list[str]:
        """See `base.Executor.run`. Raises ValueError where no cluster answers, or it lacks the GPU asked for."""
        with _joined(self.address), tqdm(total=len(configs), desc="runs on Ray", mininterval=bar_interval()) as bar:
            return _Sweep(self, deadline, bar).run(configs)


class _Sweep:
    """One call of `OnRay.run`. out: Ray's reference to a task -> (its run, what releases its lock)."""

    def __init__(self, how: OnRay, deadline: float, bar: tqdm):
        import ray

        self.ray, self.bar, self.store, self.checkpoints = ray, bar, open_store(how.data), (how.checkpoints, how.every)
        self.out, self.refused, self.problems = {}, set(), []
        self.until = time.time() + deadline - time.monotonic()  # of a clock that all machines have
        # Ray's reference to a data set, whose arrays go to each machine once.
        self.images = functools.cache(lambda name: ray.put(datasets.load(name, how.data / "datasets")))
        there = ray.cluster_resources()
        self.device = "cuda" if there.get("GPU") and how.device != "cpu" else "cpu"
        if how.device.startswith("cuda") and self.device == "cpu":
            raise ValueError("the cluster has no GPU; start Ray where there is one, or give --device cpu.")
        on_cpu = self.device == "cpu"
        self.threads = max(1, int(there.get("CPU", 1)) // how.jobs) if on_cpu and how.jobs else 1
        self.kind, self.need = ("CPU", self.threads) if on_cpu else ("GPU", 1 / (how.jobs or 1))  # of one run
        resources = {"num_cpus": self.threads, "num_gpus": 0 if on_cpu else self.need}
        self.task = ray.remote(max_retries=RETRIES, **resources)(node.train)

    def run(self, configs: list[RunConfig]) -> list[str]:
        waiting = [config for config in configs if config.dataset not in STREAMED]
        if count := len(configs) - len(waiting):
            self._problem(f"{count} left out: images in folders do not travel; train them where they are.")
        try:
            while (waiting or self.out) and (left := self.until - time.time()) > (-GRACE if self.out else 0):
                room = self._room()
                if self.refused and not room:
                    self._problem("no machine of the cluster is left that may train; the runs stay missing.")
                    break
                for _ in range(min(len(waiting), room + AHEAD - len(self.out)) if left > 0 else 0):
                    if not self._hand_out(config := waiting.pop(0)):
                        waiting.append(config)  # another process here trains it: last
                done, _ = self.ray.wait(list(self.out), timeout=WAIT) if self.out else ([], time.sleep(WAIT))
                for reference in done:
                    config, release = self.out.pop(reference)
                    with release:
                        if self._take(config, reference):
                            waiting.insert(0, config)
                self.bar.update(len(configs) - len(waiting) - len(self.out) - self.bar.n)
        finally:
            for reference, (_, release) in self.out.items():
                self.ray.cancel(reference, force=True)
                release.close()
        return self.problems

    def _room(self) -> int:
        """Tasks that the machines which were not refused can hold at once."""
        nodes = [each for each in self.ray.nodes() if each["Alive"] and each["NodeID"] not in self.refused]
        return sum(int(each["Resources"].get(self.kind, 0) / self.need) for each in nodes)

    def _hand_out(self, config: RunConfig) -> bool:
        """Start the task of a run under its lock; False where another process holds it."""
        with contextlib.ExitStack() as hold:
            try:
                hold.enter_context(self.store.lock(config, wait=False))
                if self.store.has(config):
                    return True
                images = None if rehearsal.active() else self.images(config.dataset)
            except RunLocked:
                return False
            except (LockPermissionError, self.ray.exceptions.RayError) as error:  # Ray's object store may be full
                self._problem(f"{config.describe()}: it could not be handed out ({files.in_a_line(error)}).")
                return True
            order = node.Order(config.to_dict(), self.device, self.threads, self.until, *self.checkpoints)
            others = {"ray.io/node-id": f"!in({','.join(self.refused)})"} if self.refused else None
            reference = self.task.options(label_selector=others).remote(order, node.expected(), images)
            self.out[reference] = config, hold.pop_all()
        return True

    def _take(self, config: RunConfig, reference) -> bool:
        """Take in what came back for a run; whether it has to be handed out again."""
        try:
            answer: node.Answer = self.ray.get(reference)
            if answer.archive:
                receive(self.store, config, answer.archive)
            if failure := answer.failure:
                files.check_failure(failure, config)
                self.store.save_failure(config, failure["cause"], failure["environment"])
        except self.ray.exceptions.RayError as error:
            what = f"its machine or process was lost {RETRIES + 1} times, or it failed there"
            answer = node.Answer(problem=f"{config.describe()}: {what} ({files.in_a_line(error)}).")
        except ValueError as error:
            answer = node.Answer(problem=f"{config.describe()}: what came back was refused ({error}); train it again.")
        if answer.problem and answer.refused not in self.refused:
            self._problem(answer.problem)
        self.refused |= {answer.refused} - {""}
        return bool(answer.refused)

    def _problem(self, sentence: str) -> None:
        self.problems.append(sentence)
        self.bar.write(sentence, file=sys.stderr)


def receive(store: RunStore, config: RunConfig, content: bytes) -> None:
    """Take in the archive of a run from another machine, under its lock. Raises ArchiveError, with the store as it was,
    if it is not whole, is another run than `config`'s, or was trained by other code."""

    def refuse(runs: list[Run]) -> str:
        if [run.config.key for run in runs] != [config.key]:
            return "it is another run than the one that was asked for"
        theirs = runs[0].environment["code"][:10], runs[0].environment.get("engine")
        ours = provenance.library_digest()[:10], provenance.engine_version()
        return "" if theirs == ours else "it was trained by other code than this"

    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=store.root, prefix=".answer-", suffix=".zip") as file:
        file.write(content)
        file.flush()
        archive.add(Path(file.name), store.root, refuse)
    store.forget_failure(config)


@contextlib.contextmanager
def _joined(address: str):
    """Within the block this process drives the cluster; see `OnRay`."""
    if not importlib.util.find_spec("ray"):
        raise ValueError('Ray is not installed here; `pip install -e "./lib[ray]"` in the repository brings it.')
    os.environ.update(QUIET | os.environ)
    variables = QUIET | {provenance.COMMIT: provenance.commit_here()}
    variables[rehearsal.VARIABLE] = os.environ.get(rehearsal.VARIABLE, "")
    code = {"working_dir": str(PACKAGE.parent), "excludes": ["/tests", "*.egg-info", "/build", ".pytest_cache"]}
    settings = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if not address:  # Ray listens on every network that the machine has: a token that nobody else knows
        token = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
        settings |= {"address": "local", "num_cpus": cores(), "include_dashboard": False}
    try:
        if not address:  # without a loopback network, or where nothing listens, Ray itself would try for a minute
            socket.create_server(("127.0.0.1", 0)).close()
        elif address != "auto":
            socket.create_connection(address.rsplit(":", 1), timeout=5).close()
        import ray

        cluster = ray.init(runtime_env=code | {"env_vars": variables}, **settings)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"no Ray cluster answers at {address}" if address else "Ray, which needs 127.0.0.1, did not start here"
        what = "; write HOST:PORT of its head, as `ray start --head` has said it" if address else ""
        raise ValueError(f"{where} ({files.in_a_line(error)}){what}.") from error
    with cluster:
        yield
