"""Many runs on several GPUs or machines: a task of Ray each. No disk is shared: a run comes back as an archive, and is
taken in through the checks of `bcebook import`."""

import contextlib
import functools
import math
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from bcebook.execution import cluster, node
from bcebook.execution.base import MOST, bar_interval
from bcebook.runs import archive, files, provenance, rehearsal
from bcebook.runs.config import RunConfig
from bcebook.runs.locks import Barred, Held
from bcebook.runs.specs import STREAMED
from bcebook.runs.store import Run, RunStore, open_store

ASK_AGAIN = 0.25  # seconds between two looks at runs that another process here trains
GRACE = 60.0  # seconds after the deadline in which the machines write their last checkpoints
CONTEXT = 600 * 2**20  # bytes of a GPU that a process takes beside what torch counts


class NoRoom(RuntimeError):
    """The cluster cannot hold what a run needs; the message says what to do."""


@dataclass(frozen=True)
class OnRay:
    """The `base.Executor` of a Ray cluster, into the store of `data` on this machine.

    address: see `cluster.joined`. device: "cpu", "cuda", or "auto": the GPUs where the cluster has some. jobs: runs at
    once, in all on CPUs, on each GPU otherwise; None: one a processor, and on a GPU as many as its memory has room for
    by what the first run of each kind took. checkpoints: a folder that all machines share, or an address of fsspec,
    where a run that was lost is found again; None: it begins again. every: seconds between two checkpoints;
    None: as `sessions` has it.
    """

    data: Path
    device: str = "auto"
    jobs: int | None = None
    address: str = ""
    checkpoints: str | None = None
    every: float | None = None

    def run(self, configs: list[RunConfig], deadline: float = math.inf) -> list[str]:
        """See `base.Executor.run`; the runs are handed out in the order of `configs`. A run that fails by itself is not
        tried again; one whose machine is lost is, `cluster.ATTEMPTS` times. Raises ValueError where there is no
        cluster, or no GPU in it and one is asked for."""
        with (
            cluster.joined(self.address),
            tqdm(total=len(configs), desc="runs on Ray", unit="run", mininterval=bar_interval()) as bar,
        ):
            return _Sweep(self, configs, deadline, bar).run()


class _Sweep:
    """One call of `OnRay.run`."""

    def __init__(self, how: OnRay, configs: list[RunConfig], deadline: float, bar: tqdm):
        self.how, self.deadline, self.bar = how, deadline, bar
        self.store, self.failed = open_store(how.data), 0
        self.cluster = cluster.Cluster(node.train, node.expected(), say=lambda text: bar.write(text, file=sys.stderr))
        streamed = [config for config in configs if config.dataset in STREAMED]
        self.waiting, self.held = deque(config for config in configs if config.dataset not in STREAMED), deque()
        self.images: dict[str, object] = {}  # data set -> Ray's reference to it
        self.share: dict[tuple, float] = {}  # kind of run -> the part of a GPU that it needs
        self.alone: set[RunConfig] = set()  # runs that failed beside others on a GPU
        if streamed:
            self._problem(
                f"{len(streamed)} left out: the images of {STREAMED[streamed[0].dataset].display} lie in "
                "folders, which do not travel; train them where they are, with torchrun.",
                len(streamed),
            )
        self.cluster.look()
        gpus = self.cluster.resources["GPU"]
        if how.device.startswith("cuda") and not gpus:
            raise ValueError("the cluster has no GPU; start Ray where there is one, or give --device cpu.")
        self.device = "cuda" if gpus and how.device != "cpu" else "cpu"
        processors = int(min(self.cluster.largest, self.cluster.resources["CPU"] // (how.jobs or math.inf)))
        self.threads = 1 if self.device == "cuda" else max(1, processors)

    def run(self) -> list[str]:
        """Until all are done, or the deadline."""
        while self.waiting and time.monotonic() < self.deadline:
            if not cluster.run(self.cluster, self._next, self._take, self._tell, self.deadline + GRACE):
                break
            self.waiting, self.held = self.held, deque()
            if self.waiting:
                time.sleep(ASK_AGAIN)
        return self.cluster.problems

    def _next(self) -> cluster.Task | None:
        """The next run as a task, held against other processes here until it is over; None where there is none."""
        while self.waiting and time.monotonic() < self.deadline:
            config = self.waiting.popleft()
            with contextlib.ExitStack() as hold:
                try:
                    hold.enter_context(self.store.lock(config, wait=False))
                    if self.store.has(config):  # another process has trained it meanwhile
                        self.bar.update()
                        continue
                    images = self._images(config.dataset)
                except Held:
                    self.held.append(config)
                    continue
                except (Barred, NoRoom) as error:
                    self._problem(f"{config.describe()}: {error}")
                    continue
                return cluster.Task(
                    config.describe(),
                    (self._order(config), images),
                    functools.partial(self._needs, config),
                    hold.pop_all().close,
                    config,
                )
        return None

    def _order(self, config: RunConfig) -> node.Order:
        until = time.time() + self.deadline - time.monotonic()
        return node.Order(config.to_dict(), self.device, self.threads, until, self.how.checkpoints, self.how.every)

    def _needs(self, config: RunConfig) -> dict:
        from bcebook.training.sessions import kind

        if self.device == "cpu":
            return {"num_cpus": self.threads}
        share = 1 / self.how.jobs if self.how.jobs else self.share.get(kind(config), 1)
        return {"num_cpus": 1, "num_gpus": 1 if config in self.alone else share}

    def _images(self, name: str):
        """Ray's reference to a data set, whose arrays go to each machine once; None in a rehearsal, which has none.
        Raises NoRoom where the cluster's memory for objects cannot hold them."""
        import ray

        from bcebook.training import datasets

        if rehearsal.active():
            return None
        if name not in self.images:
            try:
                self.images[name] = ray.put(datasets.load(name, self.how.data / "datasets"))
            except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError) as error:
                raise NoRoom(
                    "its images do not fit into the memory that Ray has for objects "
                    f"({files.in_a_line(error)}); give it more (`ray start --object-store-memory`), or its "
                    "disk."
                ) from error
        return self.images[name]

    def _take(self, task: cluster.Task, answer: node.Answer) -> str | None:
        """Take in what came back for a run; a sentence where it is not what was asked for."""
        config: RunConfig = task.what
        if answer.problem and task.had.get("num_gpus", 1) < 1:  # alone there may be more room
            self.alone.add(config)
            return answer.problem
        try:
            if answer.archive:
                receive(self.store, config, answer.archive)
            elif answer.failure:
                files.check_failure(answer.failure, config)
                self.store.save_failure(config, answer.failure["cause"], answer.failure["environment"])
                self._problem(f"{config.describe()}: {answer.failure['cause']}")
            elif answer.problem:
                self._problem(answer.problem)
            else:
                return None  # its time was over
        except ValueError as error:
            return f"what came back was refused ({error})"
        if answer.archive:
            self._learn(config, *answer.memory)
            self.bar.update()
        return None

    def _learn(self, config: RunConfig, free: int, peak: int) -> None:
        """What a run has taken of its GPU says how many like it fit there."""
        from bcebook.training.sessions import how_many, kind

        if free:
            self.share.setdefault(kind(config), 1 / how_many(free, peak + CONTEXT, MOST))

    def _problem(self, sentence: str, runs: int = 1) -> None:
        self.cluster.problems.append(sentence)
        self.failed += runs
        self.bar.update(runs)

    def _tell(self) -> None:
        running = f"{self.cluster.running()} running on {self.cluster.nodes} machine{'s' * (self.cluster.nodes != 1)}"
        self.bar.set_postfix_str(f"{self.failed} failed, {running}")


def receive(store: RunStore, config: RunConfig, content: bytes) -> None:
    """Take in the archive of a run that another machine has trained. Call it under the run's lock. Raises ArchiveError,
    with the store as it was, if it is not whole, is another run than `config`'s, or was trained by other code."""

    def refuse(runs: list[Run]) -> str:
        if [run.config.key for run in runs] != [config.key]:
            return "it is another run than the one that was asked for"
        environment = runs[0].environment
        code = environment["code"].startswith(provenance.library_digest()[:10])
        if environment.get("engine") != provenance.engine_version() or not code:
            return "it was trained by other code than this"
        return ""

    store.root.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=store.root, prefix=".answer-", suffix=".zip") as file:
        file.write(content)
        file.flush()
        try:
            archive.add(Path(file.name), store.root, refuse)
        except archive.ArchiveError as error:
            raise archive.ArchiveError(str(error).replace(file.name, "its archive")) from error
    store.forget_failure(config)
