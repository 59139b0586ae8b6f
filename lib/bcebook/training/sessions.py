"""From a RunConfig to a stored Run: the lock, the checkpoints, the deadline, and what is kept of a run that fails."""

import contextlib
import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator

from tqdm import tqdm

from bcebook.runs import rehearsal
from bcebook.runs.config import RunConfig
from bcebook.runs.files import in_a_line
from bcebook.runs.locks import LockPermissionError, RunLocked
from bcebook.runs.provenance import environment  # before torch: it sets what torch reads when it is loaded
from bcebook.runs.specs import NETWORKS, STREAMED
from bcebook.runs.store import Run, RunStore
from bcebook.training import checkpoint, finished, loop, measure, memory, pretrained, streamed
from bcebook.training import datasets as data
from bcebook.training.devices import resolve
from bcebook.training.loop import RunFailed

import torch  # noqa: E402 # isort: skip - after provenance

CHECKPOINT_SECONDS = 30.0  # at least so long between two checkpoints, and 50 times as long as one takes to write
ASK_AGAIN = 0.25  # seconds between two looks at a run that another process holds
# A network for images of at most so many pixels a side computes with one thread: its operations are over before others
# have begun. (convnet on digits, two cores that other processes want too: 0.18 s an epoch with one thread, 0.15 to 7.6
# with two that spin, 0.24 with two that sleep.)
ONE_THREAD_SIDE = 16


def train(
    config: RunConfig,
    store: RunStore,
    device: str = "cpu",
    progress: bool = True,
    data_root=None,
    checkpoint_every: float = CHECKPOINT_SECONDS,
) -> Run:
    """The run of `config`: from the store if it is there, else trained on `device` ("cpu", "cuda", "auto") and stored.

    Two processes that want the same run train it once: the second waits and reads what the first one stored. A run
    that was killed goes on from its last checkpoint (one every `checkpoint_every` seconds; 0: after each step). On the
    CPU with the same number of threads, two trainings agree bit for bit, interrupted or not. Raises RunFailed if the
    run diverges, now or in an earlier attempt with the same engine; the cause is recorded in the store.
    """
    poller = _LockPoller()
    while True:
        try:
            return _train(config, store, device, progress, data_root, checkpoint_every)
        except RunLocked as held:
            poller.wait(str(held))


def train_each(
    configs: list[RunConfig],
    store: RunStore,
    device: str = "cpu",
    deadline: float = math.inf,
    progress: bool = True,
    data_root=None,
    wait: bool = True,
    given: data.Dataset | None = None,
    checkpoint_every: float = CHECKPOINT_SECONDS,
) -> list[str]:
    """Train the runs one after the other; returns a sentence for each that failed.

    deadline: of time.monotonic; then the run in progress leaves a checkpoint and the call returns. A run that another
    process holds comes last, when it is free or done; wait=False raises RunLocked for it instead. given: the images of
    all the runs, where they are not to be found under data_root.
    """
    waiting, held, problems, poller = deque(configs), {}, [], _LockPoller()  # held: run -> by whom
    with tqdm(total=len(configs), desc="runs", unit="run", disable=not progress or len(configs) < 2) as bar:
        while (waiting or held) and time.monotonic() < deadline:
            if not waiting:
                poller.wait("; ".join(held.values()), deadline)
                waiting, held = deque(held), {}
            config = waiting.popleft()
            try:
                if not _train(config, store, device, progress, data_root, checkpoint_every, deadline, given):
                    break
            except RunLocked as error:
                if not wait:
                    raise
                held[config] = str(error)
                continue
            except (RunFailed, LockPermissionError, pretrained.NoWeights, streamed.DamagedImage) as error:
                problems.append(f"{config.describe()}: {error}")
            except torch.OutOfMemoryError as error:
                problems.append(
                    f"{config.describe()}: it does not fit into the memory that is free ({in_a_line(error)}); try "
                    "again when nothing else uses the device, or on a larger one."
                )
            bar.update()
    return problems


def dataset(config: RunConfig, data_root) -> data.Dataset | streamed.Folders:
    """The images of a run, all of its data set; noise in a rehearsal."""
    if config.dataset in STREAMED:
        return streamed.load(config.dataset, data_root)
    if rehearsal.active():
        return data.noise(config.dataset, rehearsal.images(config), rehearsal.STEPS)
    return data.load(config.dataset, data_root)


def _train(
    config: RunConfig,
    store: RunStore,
    device: str,
    progress: bool,
    data_root,
    every: float,
    deadline: float = math.inf,
    given: data.Dataset | None = None,
) -> Run | None:
    """The run, from the store or trained; None where the deadline came first. Raises RunLocked at once where another
    process holds it."""
    if run := store.find(config):
        return run
    with store.lock(config, wait=False), _threads(config):
        if run := store.find(config):  # another process trained it while we waited
            return run
        place, folder = resolve(device), store.checkpoints(config)
        surroundings = environment(place)
        failure = store.failure(config)
        if failure and failure["environment"].get("engine") == surroundings["engine"]:
            raise RunFailed(f"{config.describe()} failed before, with this same code of the engine: {failure['cause']}")
        if place.type == "cpu":
            memory.keep()
        began = time.monotonic()
        try:
            training = loop.Training(config, given or dataset(config, data_root), place)
            training.resume(folder)
            if not _to_the_end(training, folder, every, began, deadline, progress):
                return None
        except RunFailed as error:
            store.save_failure(config, str(error), surroundings)
            checkpoint.remove(folder)
            raise
        run = _finished(training, surroundings, data_root)
        _keep_weights(store.weights(config), training)
        store.save(run)
        checkpoint.remove(folder)
        return run


def _to_the_end(training: loop.Training, folder, every: float, began: float, deadline: float, progress: bool) -> bool:
    """Step until the run is done, with a checkpoint every so many seconds; False, and a checkpoint, where the deadline
    came first."""
    config, saved, cost, last = training.config, began, 0.0, began
    with tqdm(total=config.epochs, desc=config.describe(), unit="epoch", disable=not progress, leave=False) as bar:
        while True:
            training.step()
            bar.update(training.epoch - bar.n)
            now = time.monotonic()
            training.seconds += now - last
            last = now
            if training.done:
                return True
            if now >= deadline or now - saved >= (max(every, 50 * cost) if every else 0):
                _checkpoint(folder, training)
                saved = time.monotonic()
                cost = saved - now
            if now >= deadline:
                return False


def _finished(training: loop.Training, surroundings: dict, data_root) -> Run:
    config, measures = training.config, None
    if finished.applies(config):
        measures = finished.measures(
            config, training.model, training.images, *training.outputs, training.autocast, data_root
        )
    surroundings = surroundings | {
        "seconds": round(training.seconds, 2),
        "resumed": training.resumed,
        "precision": "bfloat16" if training.autocast else "float32",
    }
    kept = training.kept.to_dict() if training.kept else None
    return Run(
        config,
        dict(training.history),
        training.final,
        measure.best(training.history),
        training.scores,
        surroundings,
        kept,
        measures,
    )


def _checkpoint(folder, training: loop.Training) -> None:
    try:
        checkpoint.save(folder, training.steps, training.state())
    except OSError as error:  # a full disk must not end a training that may still finish
        warnings.warn(
            f"no checkpoint could be written to {folder} ({error}); the training goes on without.", stacklevel=2
        )


def _keep_weights(path, training: loop.Training) -> None:
    """Before the run is stored, so that whoever finds the run finds its weights."""
    try:
        checkpoint.write(path, training.weights())
    except OSError as error:  # a full disk must not cost a run that is whole
        warnings.warn(f"the weights could not be kept in {path} ({error}); the run is stored without.", stacklevel=2)


@contextlib.contextmanager
def _threads(config: RunConfig) -> Iterator[None]:
    """Compute with as many threads as the network has work for; the caller's number is back afterwards."""
    threads = torch.get_num_threads()
    if NETWORKS[config.model].side > ONE_THREAD_SIDE or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _LockPoller:
    """Waits for what others hold, a moment at a time, and after a second says what for, once."""

    def __init__(self):
        self.waited, self.told = 0.0, False

    def wait(self, sentence: str, deadline: float = math.inf) -> None:
        """Sleep until it is time to ask again, or until the deadline (of time.monotonic)."""
        if self.waited >= 1 and not self.told:
            tqdm.write(sentence, file=sys.stderr)
            self.told = True
        moment = min(ASK_AGAIN, max(0.0, deadline - time.monotonic()))
        time.sleep(moment)
        self.waited += moment
