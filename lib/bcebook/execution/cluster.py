"""Tasks on the machines of a Ray cluster: handed out in their order, few more than it has room for, each tried a
bounded number of times, and none on a machine that was refused. What a task is, `on_ray` knows."""

import contextlib
import functools
import importlib.util
import logging
import math
import os
import secrets
import socket
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bcebook.execution import node
from bcebook.execution.base import cores
from bcebook.paths import PACKAGE
from bcebook.runs import provenance, rehearsal
from bcebook.runs.files import in_a_line

ATTEMPTS = 3  # at a task whose machine or process dies under it
LOOK = 2.0  # seconds between two looks at the machines that there are
AHEAD = 32  # tasks out beyond those that there is room for: rented machines come where somebody waits
PATIENCE = 600.0  # seconds to wait for a machine where there is none with room for a task
# What Ray is told: nothing is reported to its makers; a task without a GPU leaves CUDA's variables alone; and where a
# machine dies, our sentence says so, without pages of its log.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}


@contextlib.contextmanager
def joined(address: str) -> Iterator[None]:
    """Within the block this process drives the Ray cluster at `address` ("HOST:PORT", or "auto": the one that runs on
    this machine), or, where that is "", one that is started on this machine, has no dashboard, obeys none but this
    process (a token that nobody else knows) and ends with the block.

    The tasks run this library as it stands here: it travels with them. Raises ValueError, one sentence, where Ray is
    not installed or no cluster answers.
    """
    if not importlib.util.find_spec("ray"):
        raise ValueError('Ray is not installed here; `pip install -e "./lib[ray]"` in the repository brings it.')
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if not address:  # Ray listens on every network that the machine has
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=_token())
    elif address != "auto":
        _reach(address)  # Ray itself would try for minutes
    import ray

    own = {} if address else {"num_cpus": cores(), "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=_environment(),
            **own,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"no Ray cluster answers at {address}" if address else "Ray could not be started on this machine"
        raise ValueError(f"{where} ({in_a_line(error)}).") from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises ValueError where nothing listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Ray cluster answers at {address} ({in_a_line(error)}); write HOST:PORT of its head, as "
            "`ray start --head` has said it."
        ) from error


@functools.cache  # Ray reads it once
def _token() -> str:
    return secrets.token_hex(32)


def _environment() -> dict:
    """The library as the tasks' working directory: nothing of the folder in which this process was called comes with
    it, and it stands before what a machine has installed."""
    variables = {provenance.COMMIT: provenance.commit_here(), **QUIET}
    if rehearsal.active():
        variables[rehearsal.VARIABLE] = "1"
    return {
        "working_dir": str(PACKAGE.parent),
        "excludes": ["/tests", "*.egg-info", "/build", ".pytest_cache"],
        "env_vars": variables,
    }


@dataclass
class Task:
    """Something to be done once. name: in words; arguments: of the function that does it, Ray's references among them;
    needs: gives Ray's resources, e.g. {"num_cpus": 1}, when it is handed out; end: called when it is over; what: for
    whoever takes the answer; tried: how often it was handed out; had: the resources it had then; why: of each attempt
    that was lost."""

    name: str
    arguments: tuple
    needs: Callable[[], dict]
    end: Callable[[], None] = lambda: None
    what: object = None
    tried: int = 0
    had: dict = field(default_factory=dict)
    why: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Refused:
    """What a task answers on a machine that is not to be used."""

    node: str
    sentence: str


def _on_a_node(wanted: dict[str, str], function: Callable, *arguments):
    """In a task: the function's answer, or the refusal of this machine."""
    import ray

    os.chdir(tempfile.gettempdir())  # Ray's own folder may be taken away under a task: by a node that ends beside it
    if sentence := node.differs(wanted):
        return Refused(ray.get_runtime_context().get_node_id(), sentence)
    return function(*arguments)


class Cluster:
    """The machines of the cluster that this process has joined, and the tasks that are out there. function: what a task
    does; wanted: what a machine must have in common with this one (`node.expected`); say: takes a sentence on what was
    lost or refused meanwhile. refused: id of a machine -> why; nodes: how many others there are; problems:
    sentences."""

    def __init__(self, function: Callable, wanted: dict[str, str], say: Callable[[str], None] = print):
        import ray

        self.ray, self.wanted, self.function, self.say = ray, wanted, function, say
        self.remote = ray.remote(max_retries=0)(_on_a_node)  # tried again here, where attempts are counted
        self.refused: dict[str, str] = {}
        self.problems: list[str] = []
        self.out: dict = {}  # reference -> its task
        self.resources, self.largest, self.nodes, self.looked = Counter(), 0, 0, -LOOK

    def look(self) -> None:
        """See which machines there are, if it is time to."""
        if time.monotonic() - self.looked < LOOK:
            return
        self.looked = time.monotonic()
        there = [each for each in self.ray.nodes() if each["Alive"] and each["NodeID"] not in self.refused]
        self.nodes = len(there)
        self.resources = Counter()
        for each in there:
            self.resources.update({name: each["Resources"].get(name, 0) for name in ("CPU", "GPU")})
        self.largest = max((each["Resources"].get("CPU", 0) for each in there), default=0)  # processors of one

    def room(self, needs: dict) -> int:
        """Tasks with these needs that the machines have room for at once, those that are out included."""
        self.look()
        return min(
            int(self.resources[name] / needs[key])
            for key, name in (("num_cpus", "CPU"), ("num_gpus", "GPU"))
            if needs.get(key)
        )

    def running(self) -> int:
        """Of the tasks that are out, those that the machines have room for."""
        return min(len(self.out), self.room(next(iter(self.out.values())).had)) if self.out else 0

    def wants(self, needs: dict) -> bool:
        """Whether another task with these needs is to be handed out."""
        room = self.room(needs)
        # Of a whole GPU no more than there are: how many runs share one is known when the first is back.
        return len(self.out) < room + (0 if room and needs.get("num_gpus") == 1 else AHEAD)

    def hand_out(self, task: Task) -> None:
        task.tried += 1
        task.had = task.needs()
        others = {"ray.io/node-id": f"!in({','.join(self.refused)})"}
        options = task.had | ({"label_selector": others} if self.refused else {})
        self.out[self.remote.options(**options).remote(self.wanted, self.function, *task.arguments)] = task

    def answers(self, seconds: float) -> Iterator[tuple[Task, object]]:
        """(task, answer) of those that are over, after waiting so long for the first; (task, None) where its machine or
        its process was lost, or refused: it can be handed out again, and `task.why` says what happened."""
        if not self.out:
            return
        self.ray.wait(list(self.out), timeout=seconds)
        over, _ = self.ray.wait(list(self.out), num_returns=len(self.out), timeout=0)
        for reference in over:
            task = self.out.pop(reference)
            try:
                answer = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                task.why.append(_lost(self.ray, error))
                answer = None
            if isinstance(answer, Refused):
                self.refuse(answer)
                task.tried -= 1  # not the task's fault
                answer = None
            yield task, answer

    def refuse(self, refusal: Refused) -> None:
        if refusal.node not in self.refused:
            self.problems.append(f"a machine was refused: {refusal.sentence}; nothing is trained there.")
            self.say(self.problems[-1])
        self.refused[refusal.node] = refusal.sentence
        self.looked = -LOOK

    def call_back(self) -> None:
        """End what is still out."""
        for reference, task in self.out.items():
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(reference, force=True)
            task.end()
        self.out.clear()


def _lost(ray, error: Exception) -> str:
    """Why a task came to nothing, in a few words."""
    kinds = ray.exceptions
    if isinstance(error, kinds.RayTaskError):
        return f"it raised {in_a_line(error.cause)}" if isinstance(error.cause, Exception) else in_a_line(error)
    words = {
        kinds.OutOfMemoryError: "its machine ran out of memory",
        kinds.NodeDiedError: "its machine was lost",
        kinds.LocalRayletDiedError: "its machine was lost",
        kinds.OutOfDiskError: "its machine's disk is full",
        kinds.ObjectStoreFullError: "its machine's object store is full",
        kinds.RuntimeEnvSetupError: "the library could not be brought to its machine",
        kinds.WorkerCrashedError: "its process was ended from outside",
    }
    return next(
        (text for kind, text in words.items() if isinstance(error, kind)), f"{type(error).__name__}: {in_a_line(error)}"
    )


def run(
    cluster: Cluster,
    tasks: Callable[[], Task | None],
    took: Callable[[Task, object], str | None],
    tell: Callable[[], None] = lambda: None,
    deadline: float = math.inf,
    patience: float = PATIENCE,
) -> bool:
    """Do every task that `tasks` gives, one a call, until it gives None. took: takes an answer; a sentence where it is
    no good, and the task has to be done again. tell: called now and then. False where no machine was left to do them
    on. The cluster's problems have a sentence for each task that was lost ATTEMPTS times, and for each machine that was
    refused."""
    again, upcoming, none_since = deque(), None, math.inf
    try:
        while time.monotonic() < deadline:
            while upcoming := upcoming or (again.popleft() if again else tasks()):
                if not cluster.wants(upcoming.needs()):
                    break
                cluster.hand_out(upcoming)
                upcoming = None
            if not cluster.out:
                break
            none_since = min(none_since, time.monotonic()) if not cluster.running() else math.inf
            if cluster.refused and not cluster.nodes:
                cluster.problems.append("no machine of the cluster is left that may train; the runs stay missing.")
                return False
            if time.monotonic() - none_since > patience:
                needs = next(iter(cluster.out.values())).had
                cluster.problems.append(
                    f"no machine of the cluster had room for {needs} in {patience:.0f} s; the runs stay missing."
                )
                return False
            for task, answer in cluster.answers(LOOK):
                sentence = None if answer is None else took(task, answer)
                if answer is not None and sentence is None:
                    task.end()
                    continue
                task.why += [sentence] if sentence else []
                if task.tried < ATTEMPTS:
                    if task.why:
                        cluster.say(f"{task.name}: {task.why[-1]}; it is tried again.")
                    again.append(task)
                else:
                    cluster.problems.append(
                        f"{task.name}: tried {task.tried} times, and each time "
                        f"{'; then '.join(dict.fromkeys(task.why))}."
                    )
                    task.end()
            tell()
        return True
    finally:
        for task in [*again, *([upcoming] if upcoming else [])]:
            task.end()
        cluster.call_back()
