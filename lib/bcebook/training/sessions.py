"""From a RunConfig to a stored Run: locks, checkpoints, deadlines, and several runs in turns within one process."""

import contextlib
import gc
import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator

import torch  # noqa: E402 - after provenance
from tqdm import tqdm

from bcebook.runs import rehearsal
from bcebook.runs.config import RunConfig
from bcebook.runs.files import in_a_line
from bcebook.runs.locks import Barred, Held
from bcebook.runs.provenance import environment  # before torch: it sets what torch reads when it is loaded
from bcebook.runs.specs import NETWORKS, STREAMED
from bcebook.runs.store import Run, RunStore
from bcebook.training import checkpoint, finished, gpu, loop, measure, memory, pretrained, ranks, streamed
from bcebook.training import datasets as data
from bcebook.training.loop import RunFailed, resolve

CHECKPOINT_SECONDS = 30.0  # at least so long between two checkpoints, and 50 times as long as one takes to write
ASK_AGAIN = 0.25  # seconds between two looks at a run that another process holds
# A network for images of at most so many pixels a side computes with one thread: its operations are over before others
# have begun. (convnet on digits, two cores that other processes want too: 0.18 s an epoch with one thread, 0.15 to 7.6
# with two that spin, 0.24 with two that sleep.)
ONE_THREAD_SIDE = 16
SHARE = 0.8  # of a GPU's free memory that is planned with: the last measurement of a run takes more than its first
MEASURED_STEPS = loop.EAGER_STEPS + 3  # after so many a step has been captured and replayed, and all memory is there


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


def train_together(
    configs: list[RunConfig],
    store: RunStore,
    device: str = "cuda",
    at_once: int = 1,
    deadline: float = math.inf,
    progress: bool = True,
    data_root=None,
    wait: bool = True,
    measured: bool = False,
    given: data.Dataset | None = None,
    checkpoint_every: float | None = None,
) -> list[str]:
    """Train the runs in this process, `at_once` of them in turns, a step each: on a GPU their kernels overlap.

    measured: no more than fit in the GPU's memory, by what the first steps of each kind of run took. Where memory runs
    out all the same, half as many go on, each from its checkpoint. deadline: of time.monotonic; then every run in
    progress leaves a checkpoint and the call returns. A run that another process holds comes last, when it is free or
    done; wait=False raises Held for it instead. given: the images of all the runs, where they are not to be found
    under data_root. checkpoint_every: seconds; None: CHECKPOINT_SECONDS. Returns a sentence for each run that failed.
    """
    shown = progress and at_once == 1
    every = CHECKPOINT_SECONDS if checkpoint_every is None else checkpoint_every
    many = f"up to {at_once}" if measured else str(at_once)
    with tqdm(total=len(configs), desc=f"runs, {many} at once", unit="run", disable=not progress) as bar:

        def steps(config: RunConfig) -> Generator[None, None, Run]:
            return _steps(config, store, device, shown, data_root, every, lambda: len(together.active), given)

        packing = _Packing(resolve(device) if measured else None, at_once)
        together = _Together(configs, steps, packing, bar, wait)
        together.run(deadline)
    return together.problems


class _Together:
    """Runs in turns. active: run -> its steps; held: run -> by whom; problems: a sentence for each that failed."""

    def __init__(
        self,
        configs: list[RunConfig],
        steps: Callable[[RunConfig], Generator[None, None, Run]],
        packing: "_Packing",
        bar: tqdm,
        wait: bool,
    ):
        self.steps, self.packing, self.bar, self.wait = steps, packing, bar, wait
        self.waiting, self.active, self.held, self.problems = deque(configs), {}, {}, []

    def run(self, deadline: float) -> None:
        """Until all are done or failed, or the deadline; see `train_together`."""
        patience = _Patience()
        try:
            while (self.waiting or self.active or self.held) and time.monotonic() < deadline:
                if not self.waiting and not self.active:
                    patience.wait("; ".join(self.held.values()), deadline)
                if not self.waiting and len(self.active) < self.packing.limit and patience.due():
                    self.waiting.extend(self.held)
                    self.held.clear()
                while self.waiting and len(self.active) < self.packing.limit:
                    self._admit(self.waiting.popleft())
                for config in list(self.active):
                    if config in self.active:  # one that ran out of memory makes others stop
                        self._advance(config)
        finally:
            for steps in self.active.values():
                steps.close()

    def _admit(self, config: RunConfig) -> None:
        self.active[config] = self.steps(config)
        if self.packing.knows(config):
            return
        self.packing.begin()
        if all(self._advance(config) for _ in range(MEASURED_STEPS)):  # while the others pause
            self.packing.end(config)

    def _advance(self, config: RunConfig) -> bool:
        """One step of one run; False where it was its last."""
        try:
            next(self.active[config])
            return True
        except Held as error:
            del self.active[config]
            self.held[config] = str(error)
            if not self.wait:
                raise
            return False
        except torch.OutOfMemoryError as error:
            reason = in_a_line(error)
        except StopIteration:
            reason = ""
            self.bar.set_postfix_str(config.describe(), refresh=False)
        except (RunFailed, Barred, pretrained.NoWeights) as error:
            reason = ""
            self.problems.append(f"{config.describe()}: {error}")
        if reason:  # only now: the error holds on to the memory of the step
            self._make_room(config, reason)
        else:
            del self.active[config]
            self.bar.update()
        return False

    def _make_room(self, config: RunConfig, reason: str) -> None:
        """After `config` ran out of memory in the middle of a step: it goes on from its last checkpoint, when there is
        room, and so many others stop at theirs that half as many are left."""
        together = len(self.active)
        del self.active[config]
        if together == 1:
            self.problems.append(
                f"{config.describe()}: it does not fit into the memory that is free, even alone "
                f"({reason}); try again when nothing else uses the device, or on a larger one."
            )
            self.bar.update()
        else:
            self.packing.halve(together, reason)
            for other in list(self.active)[self.packing.limit :]:
                self.active.pop(other).close()
                self.waiting.appendleft(other)
            self.waiting.appendleft(config)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def how_many(free: int, peak: int, most: int) -> int:
    """Runs at once, at least 1: as many of `peak` bytes as fit in SHARE of `free` bytes, and no more than `most`."""
    return max(1, min(most, int(SHARE * free) // max(1, peak)))


def kind(config: RunConfig) -> tuple:
    """What the memory that a run takes depends on."""
    return config.model, config.dataset, config.batch_size, config.precision, config.augmentation, config.optimizer


class _Packing:
    """How many runs share the process now (limit): `most`, or on a GPU whose memory is to be measured as many as it
    has memory for, by the largest peak so far of a run's first steps."""

    def __init__(self, measured: torch.device | None, most: int):
        self.device, self.most = measured, most
        self.limit = 1 if measured else most
        self.kinds, self.peak, self.before = set(), 0, (0, 0)

    def knows(self, config: RunConfig) -> bool:
        """Whether a run like this one has been measured, or none is to be."""
        return not self.device or kind(config) in self.kinds

    def begin(self) -> None:
        """Before the first step of a run of a kind that is not known."""
        try:
            torch.cuda.empty_cache()  # what others have left in reserve is not to be reused unseen
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device), torch.cuda.memory_reserved(self.device)
        except Exception as error:  # which kind, no document says
            self._give_up(error)

    def end(self, config: RunConfig) -> None:
        """After its first steps, while it is there."""
        if not self.device:
            return
        try:
            torch.cuda.synchronize(self.device)
            after = torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
            free = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device)
        except Exception as error:
            return self._give_up(error)
        # A graph keeps in reserve what its steps need and do not hold all the time.
        self.peak = max(self.peak, *(then - now for then, now in zip(after, self.before, strict=True)))
        self.kinds.add(kind(config))
        self.limit = how_many(free, self.peak, self.most)

    def _give_up(self, error: Exception) -> None:
        gpu.without("the packing of runs by the memory they take", error, "one run at a time, or --jobs at once")
        self.device, self.limit = None, 1

    def halve(self, together: int, reason: str) -> None:
        """After `together` runs were too many."""
        self.most = self.limit = max(1, min(self.limit, together // 2))
        warnings.warn(f"memory ran out with {together} runs at once ({reason}); on with {self.most}.", stacklevel=2)


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


def _steps(
    config: RunConfig,
    store: RunStore,
    device: str,
    progress: bool,
    data_root,
    every: float,
    turns: Callable[[], int] = lambda: 1,
    given: data.Dataset | None = None,
) -> Generator[None, None, Run]:
    """The way from a configuration to its stored run, which it returns, with a pause after each mini-batch. Closed at
    such a pause, it leaves a checkpoint. turns: how many runs share the process now; a run's seconds are its share of
    the time. Raises Held at once where another process holds the run."""
    if run := store.find(config):
        return run
    with store.lock(config, wait=False) if ranks.first() else contextlib.nullcontext():
        if run := store.find(config):  # another process trained it while we waited
            return run
        place, folder = resolve(device), store.checkpoints(config)
        with _threads(config):
            surroundings = environment(place)
        failure = store.failure(config)
        if failure and failure["environment"].get("engine") == surroundings["engine"]:
            raise RunFailed(f"{config.describe()} failed before, with this same code of the engine: {failure['cause']}")
        saved = time.monotonic()
        cost = 0.0
        bar = tqdm(total=config.epochs, desc=config.describe(), unit="epoch", disable=not progress, leave=False)
        try:
            if place.type == "cpu":
                memory.keep()
            with _threads(config):
                training = loop.Training(config, given or dataset(config, data_root), place)
            training.resume(folder)
            last = saved
            while True:
                with _threads(config):
                    training.step()
                bar.update(training.epoch - bar.n)
                now = time.monotonic()
                training.seconds += (now - last) / max(1, turns())
                last = now
                if training.done:
                    break
                if now - saved >= (max(every, 50 * cost) if every else 0):
                    _save(folder, training)
                    saved = time.monotonic()
                    cost = saved - now
                yield
        except RunFailed as error:
            if ranks.first():
                store.save_failure(config, str(error), surroundings)
                checkpoint.remove(folder)
            raise
        except GeneratorExit:
            _save(folder, training)
            raise
        finally:
            bar.close()
        best = measure.best(training.history)
        kept = training.kept.to_dict() if training.kept else None
        measures = None
        if finished.applies(config):
            measures = finished.measures(
                config, training.model, training.images, *training.outputs, training.autocast, data_root
            )
        run = Run(config, dict(training.history), training.final, best, training.scores, surroundings, kept, measures)
        run.environment.update(
            seconds=round(training.seconds, 2),
            resumed=training.resumed,
            precision="bfloat16" if training.autocast else "float32",
        )
        if ranks.first():
            _keep_weights(store.weights(config), training)
            store.save(run)
            checkpoint.remove(folder)
        return run


def dataset(config: RunConfig, data_root) -> data.Dataset | streamed.Folders:
    """The images of a run, all of its data set; noise in a rehearsal."""
    if config.dataset in STREAMED:
        return streamed.load(config.dataset, data_root)
    if rehearsal.active():
        return data.noise(config.dataset, rehearsal.images(config), rehearsal.STEPS)
    return data.load(config.dataset, data_root)


def _keep_weights(path, training: loop.Training) -> None:
    """Before the run is stored, so that whoever finds the run finds its weights."""
    try:
        checkpoint.write(path, training.weights())
    except OSError as error:  # a full disk must not cost a run that is whole
        warnings.warn(f"the weights could not be kept in {path} ({error}); the run is stored without.", stacklevel=2)


def _save(folder, training: loop.Training) -> None:
    if not ranks.first():
        return
    try:
        checkpoint.save(folder, training.steps, training.state())
    except OSError as error:  # a full disk must not end a training that may still finish
        warnings.warn(
            f"no checkpoint could be written to {folder} ({error}); the training goes on without.", stacklevel=2
        )
