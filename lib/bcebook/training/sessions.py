"""From a RunConfig to a stored Run: locks, checkpoints, deadlines, and several runs in turns within one process."""

import contextlib
import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator

from tqdm import tqdm

from bcebook.runs.config import RunConfig
from bcebook.runs.provenance import environment  # before torch: it sets what torch reads when it is loaded
from bcebook.runs.specs import NETWORKS
from bcebook.runs.store import Barred, Held, Run, RunStore
from bcebook.training import checkpoint, loop, measure
from bcebook.training import datasets as data
from bcebook.training.loop import RunFailed, resolve

import torch  # noqa: E402 - after provenance

CHECKPOINT_SECONDS = 30.0  # at least so long between two checkpoints, and 50 times as long as one takes to write
ASK_AGAIN = 0.25  # seconds between two looks at a run that another process holds
# A network for images of at most so many pixels a side computes with one thread: its operations are over before others
# have begun. (convnet on digits, two cores that other processes want too: 0.18 s an epoch with one thread, 0.15 to 7.6
# with two that spin, 0.24 with two that sleep.)
ONE_THREAD_SIDE = 16


def train(config: RunConfig, store: RunStore, device: str = "cpu", progress: bool = True, data_root=None,
          checkpoint_every: float = CHECKPOINT_SECONDS) -> Run:
    """The run of `config`: from the store if it is there, else trained on `device` ("cpu", "cuda", "auto") and stored.

    Two processes that want the same run train it once: the second waits and reads what the first one stored. A run
    that was killed goes on from its last checkpoint (one every `checkpoint_every` seconds; 0: after each step). On the
    CPU with the same number of threads, two trainings agree bit for bit, interrupted or not. Raises RunFailed if the
    run diverges, now or in an earlier attempt with the same engine; the cause is recorded in the store.
    """
    patience = _Patience()
    while True:
        steps = _steps(config, store, device, progress, data_root, checkpoint_every)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            return end.value
        except Held as held:
            patience.wait(str(held))


def train_together(configs: list[RunConfig], store: RunStore, device: str = "cuda", at_once: int = 1,
                   deadline: float = math.inf, progress: bool = True, data_root=None,
                   wait: bool = True) -> list[str]:
    """Train the runs in this process, `at_once` of them in turns, a step each: on a GPU their kernels overlap.

    deadline: of time.monotonic; then every run in progress leaves a checkpoint and the call returns. A run that
    another process holds comes last, when it is free or done; wait=False raises Held for it instead. Returns a
    sentence for each run that failed.
    """
    waiting, active, problems, held, patience = deque(configs), {}, [], {}, _Patience()  # held: run -> by whom
    bar = tqdm(total=len(configs), desc=f"runs, {at_once} at once", unit="run", disable=not progress)
    try:
        while (waiting or active or held) and time.monotonic() < deadline:
            if not waiting and not active:
                patience.wait("; ".join(held.values()), deadline)
            if not waiting and len(active) < at_once and patience.due():
                waiting.extend(held)
                held.clear()
            while waiting and len(active) < at_once:
                config = waiting.popleft()
                shown = progress and at_once == 1
                active[config] = _steps(config, store, device, shown, data_root, CHECKPOINT_SECONDS, at_once)
            for config, steps in list(active.items()):
                try:
                    next(steps)
                    continue
                except Held as error:
                    del active[config]
                    held[config] = str(error)
                    if not wait:
                        raise
                    continue
                except StopIteration:
                    bar.set_postfix_str(config.describe(), refresh=False)
                except (RunFailed, Barred) as error:
                    problems.append(f"{config.describe()}: {error}")
                del active[config]
                bar.update()
    finally:
        bar.close()
        for steps in active.values():
            steps.close()
    return problems


class _Patience:
    """Waits for what others hold, a moment at a time, and after a second says what for, once."""

    def __init__(self):
        self.waited, self.told, self.asked = 0.0, False, time.monotonic()

    def wait(self, sentence: str, deadline: float = math.inf) -> None:
        """Sleep until it is time to ask again, or until the deadline (of time.monotonic)."""
        if self.waited >= 1 and not self.told:
            tqdm.write(sentence, file=sys.stderr)
            self.told = True
        moment = min(ASK_AGAIN, max(0.0, deadline - time.monotonic()))
        time.sleep(moment)
        self.waited += moment

    def due(self) -> bool:
        """Whether to ask again what was held: every ASK_AGAIN seconds."""
        if due := time.monotonic() - self.asked >= ASK_AGAIN:
            self.asked = time.monotonic()
        return due


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


def _steps(config: RunConfig, store: RunStore, device: str, progress: bool, data_root, every: float,
           turns: int = 1) -> Generator[None, None, Run]:
    """The way from a configuration to its stored run, which it returns, with a pause after each mini-batch. Closed at
    such a pause, it leaves a checkpoint. turns: how many runs share the process; a run's seconds are its share of the
    time. Raises Held at once where another process holds the run."""
    if run := store.find(config):
        return run
    with store.lock(config, wait=False):
        if run := store.find(config):  # another process trained it while we waited
            return run
        place, folder = resolve(device), store.checkpoints(config)
        with _threads(config):
            surroundings = environment(place)
        failure = store.failure(config)
        if failure and failure["environment"].get("engine") == surroundings["engine"]:
            raise RunFailed(f"{config.describe()} failed before, with this same code of the engine: "
                            f"{failure['cause']}")
        saved = time.monotonic()
        cost = 0.0
        bar = tqdm(total=config.epochs, desc=config.describe(), unit="epoch", disable=not progress, leave=False)
        try:
            with _threads(config):
                training = loop.Training(config, data.load(config.dataset, data_root), place)
            training.resume(folder)
            began, before = saved, training.seconds
            while True:
                with _threads(config):
                    training.step()
                bar.update(training.epoch - bar.n)
                now = time.monotonic()
                training.seconds = before + (now - began) / turns
                if training.done:
                    break
                if now - saved >= (max(every, 50 * cost) if every else 0):
                    _save(folder, training)
                    saved = time.monotonic()
                    cost = saved - now
                yield
        except RunFailed as error:
            store.save_failure(config, str(error), surroundings)
            checkpoint.remove(folder)
            raise
        except GeneratorExit:
            _save(folder, training)
            raise
        finally:
            bar.close()
        best = measure.best(training.history)
        run = Run(config, dict(training.history), training.final, best, training.scores, surroundings)
        run.environment.update(seconds=round(training.seconds, 2), resumed=training.resumed,
                               precision="bfloat16" if training.autocast else "float32")
        store.save(run)
        checkpoint.remove(folder)
        return run


def _save(folder, training: loop.Training) -> None:
    try:
        checkpoint.save(folder, training.steps, training.state())
    except OSError as error:  # a full disk must not end a training that may still finish
        warnings.warn(f"no checkpoint could be written to {folder} ({error}); the training goes on without.",
                      stacklevel=2)
