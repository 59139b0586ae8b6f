"""From a RunConfig to a stored Run: locks, checkpoints, deadlines, and several runs in turns within one process."""

import math
import time
import warnings
from collections import deque
from collections.abc import Generator

from tqdm import tqdm

from bcebook.runs.config import RunConfig
from bcebook.runs.provenance import environment
from bcebook.runs.store import Run, RunStore
from bcebook.training import checkpoint, loop, measure
from bcebook.training import datasets as data
from bcebook.training.loop import RunFailed, resolve

CHECKPOINT_SECONDS = 30.0  # at least so long between two checkpoints, and 50 times as long as one takes to write


def train(config: RunConfig, store: RunStore, device: str = "cpu", progress: bool = True, data_root=None,
          checkpoint_every: float = CHECKPOINT_SECONDS) -> Run:
    """The run of `config`: from the store if it is there, else trained on `device` ("cpu", "cuda", "auto") and stored.

    Two processes that want the same run train it once: the second waits and reads what the first one stored. A run
    that was killed goes on from its last checkpoint (one every `checkpoint_every` seconds; 0: after each step). On the
    CPU with the same number of threads, two trainings agree bit for bit, interrupted or not. Raises RunFailed if the
    run diverges, now or in an earlier attempt with the same code; the cause is recorded in the store.
    """
    steps = _steps(config, store, device, progress, data_root, checkpoint_every)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def train_together(configs: list[RunConfig], store: RunStore, device: str = "cuda", at_once: int = 1,
                   deadline: float = math.inf, progress: bool = True, data_root=None) -> list[str]:
    """Train the runs in this process, `at_once` of them in turns, a step each: on a GPU their kernels overlap.

    deadline: of time.monotonic; then every run in progress leaves a checkpoint and the call returns. Returns a
    sentence for each run that failed.
    """
    waiting, active, problems = deque(configs), [], []
    bar = tqdm(total=len(configs), desc=f"runs, {at_once} at once", unit="run", disable=not progress)
    try:
        while (waiting or active) and time.monotonic() < deadline:
            while waiting and len(active) < at_once:
                config = waiting.popleft()
                shown = progress and at_once == 1
                steps = _steps(config, store, device, shown, data_root, CHECKPOINT_SECONDS, at_once)
                active.append((config, steps))
            for config, steps in list(active):
                try:
                    next(steps)
                    continue
                except StopIteration:
                    bar.set_postfix_str(config.describe(), refresh=False)
                except RunFailed as error:
                    problems.append(f"{config.describe()}: {error}")
                active.remove((config, steps))
                bar.update()
    finally:
        bar.close()
        for _, steps in active:
            steps.close()
    return problems


def _steps(config: RunConfig, store: RunStore, device: str, progress: bool, data_root, every: float,
           turns: int = 1) -> Generator[None, None, Run]:
    """The way from a configuration to its stored run, which it returns, with a pause after each mini-batch. Closed at
    such a pause, it leaves a checkpoint. turns: how many runs share the process; a run's seconds are its share of the
    time."""
    if run := store.find(config):
        return run
    with store.lock(config):
        if run := store.find(config):  # another process trained it while we waited
            return run
        place, folder = resolve(device), store.checkpoints(config)
        surroundings = environment(place)
        failure = store.failure(config)
        if failure and failure["environment"]["code"] == surroundings["code"]:
            raise RunFailed(f"{config.describe()} failed before, with this same code: {failure['cause']}")
        saved = time.monotonic()
        cost = 0.0
        bar = tqdm(total=config.epochs, desc=config.describe(), unit="epoch", disable=not progress, leave=False)
        try:
            training = loop.Training(config, data.load(config.dataset, data_root), place)
            training.resume(folder)
            began, before = saved, training.seconds
            while True:
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
